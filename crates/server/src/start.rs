//! From the command line to running event loops, and back to the end.

use crate::cli::{self, Request};
use crate::crash;
use crate::driver::Driver;
use crate::event_loop::{EventLoop, Shared, event_loops};
use crate::latch::Latch;
use crate::listen::{listen_tcp, listen_unix, reason};
use crate::log;
use crate::maintenance;
use crate::oom::Oom;
use crate::persistence::describe;
use crate::process::{
    ProcessEffects, TurnLog, change_dir, daemonize, raise_open_files, second_descriptors, write_pid_file,
};
use crate::seat::{Portable, Seat};
use crate::steering::steer;
use crate::threads::drive;
use kelda_engine::config::{Config, ConfigHandle, KeptLine, Settings};
use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// The version, from Cargo.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What wakes a thread's event loop.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// Makes the sessions of each loop; asked once for each.
pub trait MakeSessions: Send + Sync + 'static {
    /// The sessions of one loop.
    type Sessions: Portable + 'static;
    /// The sessions of loop `index`; `wake` makes it run a turn.
    fn make(&self, index: usize, wake: Wake) -> Self::Sessions;
    /// Loads the data, while the loops already run. May take long; `stopping` tells whether to give up.
    ///
    /// # Errors
    /// Why the server must not start.
    fn start(&self, stopping: &(dyn Fn() -> bool + Sync)) -> Result<(), String>;
    /// A signal asks for the end: saves what is to be saved.
    ///
    /// # Errors
    /// Why the server had better go on.
    fn prepare_end(&self) -> Result<(), String>;
    /// Turns the log on or off (`appendonly`), while the server runs, for these settings.
    ///
    /// # Errors
    /// Why it cannot be had.
    fn turn_log(&self, settings: &Settings) -> Result<(), String>;
    /// The loops have ended.
    fn finish(&self);
}

/// Runs the server until it is told to end.
pub fn main<M: MakeSessions>(
    engine: impl FnOnce(&Arc<ConfigHandle>, &Arc<Shared>, Option<&Path>) -> Result<M, String>,
) -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let (file, stdin, options) = match cli::read(&arguments) {
        Request::Serve { file, stdin, options } => (file, stdin, options),
        Request::Version => {
            println!("Kelda server v={VERSION} malloc=mimalloc bits={}", usize::BITS);
            return ExitCode::SUCCESS;
        }
        Request::Help => {
            print!("{}", cli::HELP);
            return ExitCode::SUCCESS;
        }
        Request::Maintain(task) => return maintenance::run(&task),
        Request::Refuse(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let run = || {
        let (config, stdin) = read_config(file.as_deref(), stdin, &options)?;
        serve(config, file.map(PathBuf::from), &stdin, engine)
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config(text)) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
        Err(Failure::Start(text)) => {
            log::warning(&text);
            ExitCode::FAILURE
        }
    }
}

/// Why the server did not start.
enum Failure {
    /// Said on standard error.
    Config(String),
    /// Said in the log.
    Start(String),
}

/// Reads the file, then standard input, then the command line. Returns standard input's text too.
fn read_config(file: Option<&str>, stdin: bool, options: &str) -> Result<(Config, String), Failure> {
    let mut config = Config::default();
    let mut read = |text: &str, name: &str| {
        config.parse_file_text(text, name, &include).map_err(|error| Failure::Config(error.to_string()))
    };
    if let Some(file) = file {
        let text = read_text(Path::new(file)).map_err(|error| {
            Failure::Start(format!("Fatal error, can't open config file '{file}': {}", reason(&error)))
        })?;
        read(&text, file)?;
    }
    let mut input = String::new();
    if stdin {
        let text = std::io::stdin().read_to_string(&mut input);
        text.map_err(|error| Failure::Start(format!("Cannot read standard input: {}", reason(&error))))?;
        read(&input, "standard input")?;
    }
    read(options, "the command line")?;
    Ok((config, input))
}

fn read_text(path: &Path) -> std::io::Result<String> {
    Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
}

/// The files of an `include`. As in Redis, one that cannot be opened is an error, a pattern without a match is not.
fn include(pattern: &str) -> Result<Vec<(String, String)>, String> {
    let path = Path::new(pattern);
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let paths = if name.contains(['*', '?', '[']) {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
            .map(|entries| entries.filter_map(|e| e.ok().map(|e| e.path())).collect())
            .unwrap_or_default();
        found.retain(|p| {
            let candidate = p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            kelda_engine::config::name_matches(name, &candidate) && !candidate.starts_with('.')
        });
        found.sort();
        found
    } else {
        vec![path.to_path_buf()]
    };
    let read = |path: PathBuf| {
        let text = read_text(&path).map_err(|error| format!("can't open '{}': {}", path.display(), reason(&error)))?;
        Ok((path.display().to_string(), text))
    };
    paths.into_iter().map(read).collect()
}

fn serve<M: MakeSessions>(
    mut config: Config,
    file: Option<PathBuf>,
    stdin: &str,
    engine: impl FnOnce(&Arc<ConfigHandle>, &Arc<Shared>, Option<&Path>) -> Result<M, String>,
) -> Result<(), Failure> {
    let start_error = |what: &str, error: std::io::Error| Failure::Start(format!("{what}: {}", reason(&error)));
    let settings = config.settings();
    if settings.daemonize && daemonize(stdin).map_err(|e| start_error("Cannot go to the background", e))? {
        return Ok(());
    }
    // Before the working directory changes.
    let file = file.map(|f| std::path::absolute(&f).unwrap_or(f));
    let dir = change_dir(&settings.dir).map_err(|error| {
        let place = file.as_ref().map_or("the command line".into(), |f| f.display().to_string());
        Failure::Config(format!(
            "\n*** FATAL CONFIG FILE ERROR (Kelda {VERSION}) ***\nReading {place}\n>>> 'dir {}'\n{}\n",
            settings.dir,
            reason(&error)
        ))
    })?;
    force(&mut config, "dir", &dir)?;
    // A relative name means a file in `dir`, as in Redis.
    if !settings.logfile.is_empty() {
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(&settings.logfile);
        let text = |error| format!("Can't open the log file '{}': {}", settings.logfile, reason(&error));
        opened.map_err(|error| Failure::Config(text(error)))?;
    }
    log::set_target(settings.loglevel, &settings.logfile);

    let clients = raise_open_files(settings.maxclients);
    if clients < settings.maxclients {
        log::warning(&format!(
            "You requested maxclients of {}, but the limit on open files allows {clients}: maxclients has been reduced. \
             Raise it with 'ulimit -n'.",
            settings.maxclients
        ));
        force(&mut config, "maxclients", &clients.to_string())?;
    }
    let threads = match settings.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };

    let mut listeners = listen_tcp(&settings).map_err(Failure::Start)?;
    let seconds = second_descriptors(&listeners).map_err(|e| start_error("Cannot listen", e))?;
    listeners.extend(listen_unix(&settings).map_err(Failure::Start)?);
    if listeners.is_empty() {
        return Err(Failure::Start("Configured to not listen anywhere, exiting.".into()));
    }
    let pidfile = match (settings.pidfile.as_str(), settings.daemonize) {
        ("", true) => "/var/run/kelda.pid",
        (path, _) => path,
    };
    let pidfile = std::path::absolute(pidfile).ok().filter(|_| !pidfile.is_empty());
    if let Some(path) = &pidfile {
        write_pid_file(&path.to_string_lossy());
    }

    let loops_cell = Arc::new(OnceLock::new());
    let turn_log: Arc<OnceLock<TurnLog>> = Arc::default();
    let effects = ProcessEffects {
        file: file.clone(),
        listening: Mutex::new(seconds),
        loops: loops_cell.clone(),
        oom: Oom::default(),
        turn_log: turn_log.clone(),
    };
    effects.oom.apply(&settings).map_err(Failure::Start)?;
    let unobeyed = unobeyed(config.kept_lines());
    let handle = Arc::new(ConfigHandle::new(config, Box::new(effects)));
    let (shared, loops, drivers) =
        event_loops(threads, handle.clone(), listeners).map_err(|e| start_error("Cannot make an event loop", e))?;
    let _ = loops_cell.set(shared.clone());
    let sessions = engine(&handle, &shared, file.as_deref()).map_err(Failure::Start)?;
    let sessions = Arc::new(sessions);
    let made = sessions.clone();
    let _ = turn_log.set(Box::new(move |settings| made.turn_log(settings)));
    watch_signals(shared.clone(), sessions.clone()).map_err(|e| start_error("Cannot watch signals", e))?;

    log::notice(&format!("Kelda {VERSION}, {threads} threads, PID: {}", std::process::id()));
    log::notice(&format!("Running mode=standalone, port={}.", settings.port));
    log::notice(&describe(&settings, &dir));
    for line in unobeyed {
        log::warning(&format!("Not supported yet, and without effect: the configuration's '{line}'"));
    }
    log::notice("Server initialized");
    let loaded = Arc::new(Latch::default());
    let running = start_threads(loops, drivers, &shared, &sessions, &loaded)
        .map_err(|e| start_error("Cannot start a thread", e))?;
    let started = load(&*sessions, &|| shared.is_stopping());
    loaded.open();
    let failure = started.err().filter(|_| !shared.is_stopping());
    if let Some(why) = &failure {
        log::warning(&format!("Fatal error loading the DB, check server logs. Exiting. {why}"));
        shared.stop();
    } else {
        announce(&settings);
    }
    for thread in running {
        // A panic of a thread has been reported by its hook; in the release build it ended the process.
        let _ = thread.join();
    }
    sessions.finish();
    if failure.is_some() {
        return Err(Failure::Start("The server did not start.".into()));
    }
    log::warning("User requested shutdown...");
    if let Some(path) = &pidfile {
        log::notice("Removing the pid file.");
        let _ = std::fs::remove_file(path);
    }
    if !settings.unixsocket.is_empty() {
        log::notice("Removing the unix socket file.");
        let _ = std::fs::remove_file(&settings.unixsocket);
    }
    log::warning("Kelda is now ready to exit, bye bye...");
    Ok(())
}

/// The lines that the configuration keeps but nothing obeys, as far as they may be shown.
fn unobeyed(lines: &[KeptLine]) -> Vec<String> {
    let first = |words: &[String]| words.first().cloned().unwrap_or_default();
    let name = |line: &KeptLine| match line {
        KeptLine::User(_) => None,
        KeptLine::LoadModule(words) => Some(format!("loadmodule {} ...", first(words))),
    };
    lines.iter().filter_map(name).collect()
}

/// Says that commands are taken from now on.
fn announce(settings: &Settings) {
    if settings.port != 0 {
        log::notice("Ready to accept connections tcp");
    }
    if !settings.unixsocket.is_empty() {
        log::notice("Ready to accept connections unix");
    }
}

fn force(config: &mut Config, name: &str, value: &str) -> Result<(), Failure> {
    config.force(name, value).map_err(Failure::Config)
}

/// Stack of a thread that runs Lua: Lua and its libraries recurse up to 1,000 levels, in debug builds with large frames.
pub const STACK_BYTES: usize = 64 << 20;

/// Loads the data: on a stack on which a library's Lua may recurse.
fn load<M: MakeSessions>(made: &M, stopping: &(dyn Fn() -> bool + Sync)) -> Result<(), String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("load".into()).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, || made.start(stopping)).map_err(|error| error.to_string())?;
        thread.join().unwrap_or_else(|_| Err("loading has failed for a reason that the lines above tell".into()))
    })
}

/// For so long the loops wait for the data before they take connections, so that who connects to a server with little of it
/// is not told that it is loading: Redis, too, loads without looking at its sockets for a while.
const LOADING_UNSEEN: Duration = Duration::from_millis(500);

type Running = Vec<std::thread::JoinHandle<()>>;

/// Starts the threads of the loops, and the one that steers them.
fn start_threads<M: MakeSessions>(
    loops: Vec<EventLoop>,
    drivers: Vec<Driver>,
    shared: &Arc<Shared>,
    make: &Arc<M>,
    loaded: &Arc<Latch>,
) -> std::io::Result<Running> {
    let seat = |(index, event_loop): (usize, EventLoop)| {
        let mailbox = shared.mailboxes[index].clone(); // there is one for each loop
        Seat::new(event_loop, make.make(index, Box::new(move || mailbox.wake())))
    };
    let seats: Arc<Vec<Seat<M::Sessions>>> = Arc::new(loops.into_iter().enumerate().map(seat).collect());
    let start = |driver: Driver| {
        let (shared, seats, loaded) = (shared.clone(), seats.clone(), loaded.clone());
        // Scripts nest deeply on a loop's stack.
        let thread = std::thread::Builder::new().name(format!("loop-{}", driver.me)).stack_size(STACK_BYTES);
        thread.spawn(move || {
            loaded.wait(LOADING_UNSEEN);
            drive(&shared, &seats, driver);
        })
    };
    let mut running = drivers.into_iter().map(start).collect::<std::io::Result<Running>>()?;
    if seats.len() > 1 {
        let (shared, loaded) = (shared.clone(), loaded.clone());
        running.push(std::thread::Builder::new().name("steering".into()).spawn(move || {
            loaded.wait(Duration::MAX);
            steer(&shared);
        })?);
    }
    Ok(running)
}

/// Ends the server on SIGTERM and SIGINT, at once on a second SIGINT; on SIGALRM tells what the threads are doing.
fn watch_signals<M: MakeSessions>(shared: Arc<Shared>, sessions: Arc<M>) -> std::io::Result<()> {
    crash::watch();
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGALRM])?;
    let asked = Arc::new(AtomicBool::new(false));
    let watch = move || {
        for signal in signals.forever() {
            let name = match signal {
                SIGTERM => "SIGTERM",
                SIGINT if shared.is_stopping() || asked.load(Relaxed) => {
                    log::warning("You insist... exiting now.");
                    std::process::exit(1);
                }
                SIGINT => "SIGINT",
                SIGALRM => {
                    log::warning("Received SIGALRM. What the threads are doing:");
                    crash::threads().iter().for_each(|line| log::warning(line));
                    continue;
                }
                _ => continue, // the terminal went away: a server stays
            };
            log::warning(&format!("Received {name} scheduling shutdown..."));
            if asked.swap(true, Relaxed) {
                continue;
            }
            // Replicas may have to be waited for, and signals go on coming.
            let (shared, sessions, asked) = (shared.clone(), sessions.clone(), asked.clone());
            let end = move || {
                match sessions.prepare_end() {
                    Ok(()) => shared.stop(),
                    Err(why) => log::warning(&why),
                }
                asked.store(false, Relaxed);
            };
            if let Err(error) = std::thread::Builder::new().name("end".into()).spawn(end) {
                log::warning(&format!("Cannot start a thread: {error}"));
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch).map(drop)
}
