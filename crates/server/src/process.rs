//! What the server asks of the operating system about its own process.

use crate::event_loop::Shared;
use crate::listen::{Listener, listen_tcp, reason};
use crate::log;
use crate::oom::Oom;
use kelda_engine::config::{Config, Effects, Settings};
use rustix::net::Shutdown;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Descriptors for other uses than clients: files, listening sockets, epoll.
const RESERVED_FILES: u64 = 32;
/// Set in the process that goes on in the background.
const IN_BACKGROUND: &str = "KELDA_IN_BACKGROUND";

/// Goes on in the background: in a new process without a terminal, which runs this program with the same arguments and
/// `stdin` as its input. Forking would be the tradition, but needs unsafe code and is of no other use here.
/// Returns `true` in the process that should end.
///
/// # Errors
/// The system's, from starting the process.
pub fn daemonize(stdin: &str) -> io::Result<bool> {
    if std::env::var_os(IN_BACKGROUND).is_some() {
        // Fails only for the leader of a process group, which a child is not.
        let _ = setsid();
        return Ok(false);
    }
    let mut arguments = std::env::args_os();
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).env(IN_BACKGROUND, "1");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(stdin.as_bytes())?;
    }
    Ok(true)
}

/// Writes the process's id into a file; says so in the log if it cannot.
pub fn write_pid_file(path: &str) {
    if let Err(error) = std::fs::write(path, format!("{}\n", std::process::id())) {
        log::warning(&format!("Failed to write PID file {path}: {}", reason(&error)));
    }
}

/// Raises the limit on open files as far as `clients` need and the system allows. Returns how many clients there
/// can be.
pub fn raise_open_files(clients: usize) -> usize {
    let needed = clients as u64 + RESERVED_FILES;
    let limit = getrlimit(Resource::Nofile);
    // `None` means without limit.
    let enough = |current: Option<u64>| current.is_none_or(|current| current >= needed);
    if enough(limit.current) {
        return clients;
    }
    let mut granted = limit.current;
    // The hard limit first as far as it must go (root may), then what there is.
    let wishes = [(Some(needed), limit.maximum.map(|m| m.max(needed))), (limit.maximum, limit.maximum)];
    for (current, maximum) in wishes {
        if setrlimit(Resource::Nofile, Rlimit { current, maximum }).is_ok() {
            granted = current;
            break;
        }
    }
    if enough(granted) { clients } else { granted.unwrap_or(needed).saturating_sub(RESERVED_FILES).max(1) as usize }
}

/// What CONFIG SET and CONFIG REWRITE do to this process.
pub struct ProcessEffects {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// Second descriptors of the TCP sockets that thread 0 listens on.
    pub listening: Mutex<Vec<OwnedFd>>,
    /// The event loops, once they exist.
    pub loops: Arc<OnceLock<Arc<Shared>>>,
    /// What the kernel knows of `oom-score-adj`.
    pub oom: Oom,
    /// Turns the log on or off, once there is one.
    pub turn_log: Arc<OnceLock<TurnLog>>,
}

/// Turns the log on or off, as these settings say.
pub type TurnLog = Box<dyn Fn(&Settings) -> Result<(), String> + Send + Sync>;

impl ProcessEffects {
    /// What [`Effects::apply`] does, but for the score of `oom-score-adj`.
    fn apply_others(&self, old: &Settings, config: &mut Config) -> Result<(), (&'static str, String)> {
        let new = config.settings();
        let possible = raise_open_files(new.maxclients);
        if new.maxclients > old.maxclients && possible < new.maxclients {
            let text = "The operating system is not able to handle the specified number of clients, try with";
            return Err(("maxclients", format!("{text} {possible}")));
        }
        if new.dir != old.dir {
            let dir = change_dir(&new.dir).map_err(|error| ("dir", reason(&error)))?;
            config.force("dir", &dir).map_err(|error| ("dir", error))?;
        }
        if new.appendonly != old.appendonly
            && let Some(turn) = self.turn_log.get()
        {
            turn(&new).map_err(|why| {
                log::warning(&format!("Unable to turn on AOF: {why}"));
                ("appendonly", "Unable to turn on AOF. Check server logs.".to_string())
            })?;
        }
        let refused = match () {
            () if new.port != old.port => Some(("port", "Unable to listen on this port. Check server logs.")),
            () if new.bind != old.bind => Some(("bind", "Failed to bind to specified addresses.")),
            () => None,
        };
        if let Some((name, text)) = refused
            && self.listen_elsewhere(old, &new).is_err()
        {
            // It was the working directory a moment ago; if it is gone, there is no way back.
            let _ = change_dir(&old.dir);
            return Err((name, text.into()));
        }
        log::set_target(new.loglevel, &new.logfile);
        Ok(())
    }

    /// Listens where the new settings say, instead of where the old ones did.
    fn listen_elsewhere(&self, old: &Settings, new: &Settings) -> Result<(), String> {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        // The new addresses may overlap the old ones. Shutting a listening socket down frees its address
        // although thread 0 still holds a descriptor.
        for fd in listening.iter() {
            let _ = rustix::net::shutdown(fd, Shutdown::Both);
        }
        let opened = listen_tcp(new);
        let failed = opened.as_ref().err().cloned();
        let sockets = match opened {
            Ok(sockets) => sockets,
            Err(_) => listen_tcp(old)?,
        };
        *listening = second_descriptors(&sockets).map_err(|error| error.to_string())?;
        if let Some(loops) = self.loops.get() {
            loops.replace_tcp_listeners(sockets);
        }
        failed.map_or(Ok(()), Err)
    }
}

/// One more descriptor for each socket.
///
/// # Errors
/// Too many open files.
pub fn second_descriptors(listeners: &[Listener]) -> io::Result<Vec<OwnedFd>> {
    listeners.iter().map(|l| l.fd.try_clone()).collect()
}

impl Effects for ProcessEffects {
    fn apply(&self, old: &Settings, config: &mut Config) -> Result<(), (&'static str, String)> {
        let score = |settings: &Settings| {
            (settings.oom_score_adj, settings.oom_score_adj_values, settings.replicaof.is_empty())
        };
        let new = config.settings();
        if score(&new) == score(old) {
            return self.apply_others(old, config);
        }
        self.oom.apply(&new).map_err(|why| ("oom-score-adj", why))?;
        let result = self.apply_others(old, config);
        if result.is_err() {
            // What was possible a moment ago; if it is not any more, the log says so.
            let _ = self.oom.apply(old);
        }
        result
    }

    fn rewrite_file(&self, rewrite: &dyn Fn(&str) -> String) -> Result<(), String> {
        let Some(file) = &self.file else {
            return Err("ERR The server is running without a config file".into());
        };
        let write = || -> io::Result<()> {
            let old = match std::fs::read_to_string(file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
                other => other?,
            };
            // Beside the file, then over it: a reader sees the old or the new one, whole.
            let mut beside = file.clone().into_os_string();
            beside.push(format!(".{}.tmp", std::process::id()));
            let mut out = std::fs::File::create(&beside)?;
            out.write_all(rewrite(&old).as_bytes())?;
            if let Ok(meta) = std::fs::metadata(file) {
                out.set_permissions(meta.permissions())?;
            }
            out.sync_all()?;
            std::fs::rename(&beside, file)
        };
        write().map_err(|error| {
            log::warning(&format!("CONFIG REWRITE failed: {error}"));
            format!("ERR Rewriting config file: {}", reason(&error))
        })
    }
}

/// Changes the working directory; returns its absolute path.
///
/// # Errors
/// The system's.
pub fn change_dir(dir: &str) -> io::Result<String> {
    std::env::set_current_dir(dir)?;
    Ok(std::env::current_dir()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kelda_engine::config::ConfigHandle;
    use std::net::{SocketAddr, TcpListener, TcpStream};

    fn port_of(fd: &OwnedFd) -> u16 {
        let address = rustix::net::getsockname(fd).expect("an address");
        SocketAddr::try_from(address).expect("an IP address").port()
    }

    #[test]
    fn listening_moves_or_stays() {
        // A port that was free a moment ago, on which the server then listens everywhere.
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let mut config = Config::default();
        config.force("port", &port.to_string()).expect("a port");
        let listeners = listen_tcp(&config.settings()).expect("listens");
        let listening = Mutex::new(second_descriptors(&listeners).expect("descriptors"));
        assert_eq!(port_of(&listeners[0].fd), port);
        drop(listeners);
        let effects = Arc::new(ProcessEffects {
            file: None,
            listening,
            loops: Arc::default(),
            oom: Oom::default(),
            turn_log: Arc::default(),
        });
        struct Share(Arc<ProcessEffects>);
        impl Effects for Share {
            fn apply(&self, old: &Settings, new: &mut Config) -> Result<(), (&'static str, String)> {
                self.0.apply(old, new)
            }
            fn rewrite_file(&self, rewrite: &dyn Fn(&str) -> String) -> Result<(), String> {
                self.0.rewrite_file(rewrite)
            }
        }
        let handle = ConfigHandle::new(config, Box::new(Share(effects)));
        let reachable = |address: &str, port: u16| TcpStream::connect((address, port)).is_ok();
        assert!(reachable("127.0.0.1", port) && reachable("127.0.0.2", port));
        // Overlaps what is there.
        handle.set(&[("bind", "127.0.0.1")], true).expect("binds");
        assert!(reachable("127.0.0.1", port) && !reachable("127.0.0.2", port));
        let error =
            "ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to specified addresses.";
        assert_eq!(handle.set(&[("bind", "192.0.2.77 127.0.0.1")], true), Err(error.into()));
        assert!(reachable("127.0.0.1", port));
        let other = taken.local_addr().expect("an address").port().to_string();
        let error = "ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port. \
                     Check server logs.";
        assert_eq!(handle.set(&[("port", &other)], true), Err(error.into()));
        assert!(reachable("127.0.0.1", port));
        assert_eq!(handle.settings().port, port);
        drop(taken);
        handle.set(&[("port", &other)], true).expect("binds");
        assert!(!reachable("127.0.0.1", port));
        handle.set(&[("port", "0")], true).expect("closes");
        assert!(!reachable("127.0.0.1", handle.settings().port));
    }
}
