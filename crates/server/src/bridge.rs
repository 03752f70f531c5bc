//! Where the engine and the process meet: the engine's workers as the event loop's sessions, and the process as the
//! engine's platform.

use crate::clock::SystemClock;
use crate::event_loop::Shared;
use crate::listen::Accepted;
use crate::log;
use crate::memory::{self, allocated_here, used_bytes};
use crate::persistence::Persistence;
use crate::sessions::{Others, Sessions};
use crate::start::{MakeSessions, STACK_BYTES, Wake};
use kelda_engine::config::{ConfigHandle, LogLevel, Settings};
use kelda_engine::engine::{Engine, EngineOptions, Platform, ProcessInfo, ScratchFile};
use kelda_engine::links::Stream;
use kelda_engine::worker::{Fate, Host, Peer, Pieces, Slot, Worker};
use socket2::{Domain, Socket, Type};
use std::any::Any;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Makes the worker of each thread.
pub struct Threads {
    engine: Arc<Engine>,
    persistence: Arc<Persistence>,
}

/// Numbers that nobody can guess, from the randomness with which the standard library keys its hash maps.
pub fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

impl Threads {
    /// Makes the engine.
    ///
    /// # Errors
    /// What is wrong with the users that the configuration names.
    pub fn new(config: &Arc<ConfigHandle>, shared: &Arc<Shared>, file: Option<&Path>) -> Result<Threads, String> {
        kelda_store::hasher::set_seed([random(), random()]);
        let persistence = Persistence::new();
        let settings = config.settings();
        let threads = shared.threads.len();
        let process = ProcessInfo {
            pid: std::process::id(),
            executable: std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default(),
            config_file: file.map(|file| file.display().to_string()).unwrap_or_default(),
            run_id: (0..3).map(|_| format!("{:016x}", random())).collect::<String>()[..40].to_string(),
            os: operating_system(),
            threads,
            port: settings.port,
        };
        let engine = Engine::new(EngineOptions {
            config: config.clone(),
            clock: Arc::new(SystemClock::new()),
            platform: Arc::new(Process { shared: shared.clone() }),
            process,
            workers: threads,
            seed: random(),
            sink: Some(persistence.clone()),
        });
        // Until the data is there.
        engine.log.turn(false);
        engine.loading.begin(engine.started_us / 1_000_000, 0);
        engine.acl.load_at_start(&config.config(), |path| std::fs::read(path))?;
        Ok(Threads { engine, persistence })
    }
}

fn operating_system() -> String {
    let name = rustix::system::uname();
    let part = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    format!("{} {} {}", part(name.sysname()), part(name.release()), part(name.machine()))
}

impl MakeSessions for Threads {
    type Sessions = Worker;

    fn make(&self, index: usize, wake: Wake) -> Worker {
        self.engine.worker(index, wake)
    }

    fn start(&self, stopping: &(dyn Fn() -> bool + Sync)) -> Result<(), String> {
        self.persistence.start(&self.engine, stopping)
    }

    fn prepare_end(&self) -> Result<(), String> {
        if !self.engine.shutdown.wait(&self.engine) {
            return Err("The shutdown was aborted".into());
        }
        self.engine.shutdown.note_replicas(&self.engine);
        let prepared = self.persistence.prepare_end(&self.engine);
        if prepared.is_err() {
            self.engine.shutdown.give_up(&self.engine);
        }
        prepared
    }

    fn turn_log(&self, settings: &Settings) -> Result<(), String> {
        self.persistence.turn(&self.engine, settings)
    }

    fn finish(&self) {
        self.persistence.finish();
    }
}

/// The event loop as the engine's host.
struct Bridge<'a>(&'a mut dyn Others<Worker>);

impl Host for Bridge<'_> {
    fn send_replies(&mut self, worker: &mut Worker) {
        self.0.send_replies(worker);
    }

    fn serve_others(&mut self, worker: &mut Worker) {
        self.0.serve_others(worker);
        if self.0.is_stopping() {
            worker.engine.ending.store(true, Relaxed);
        }
    }

    fn await_others(&mut self, worker: &mut Worker) {
        self.0.await_others(worker);
    }
}

impl Sessions for Worker {
    fn needs_password(&self) -> bool {
        !self.engine.acl.default_user().is_open()
    }
    fn connect(&mut self, peer: Peer) -> Result<Slot, Vec<u8>> {
        Worker::connect(self, peer)
    }
    fn input(&mut self, slot: Slot) -> &mut Vec<u8> {
        Worker::input(self, slot)
    }
    fn read_hint(&self, slot: Slot) -> usize {
        Worker::read_hint(self, slot)
    }
    fn look_ahead(&mut self, slot: Slot) {
        Worker::look_ahead(self, slot);
    }
    fn prefetch(&self, slot: Slot) {
        Worker::prefetch(self, slot);
    }
    fn process(&mut self, slot: Slot, next: bool, others: &mut dyn Others<Worker>) {
        let host = &mut Bridge(others);
        if next {
            self.process_next(slot, host);
        } else {
            Worker::process(self, slot, host);
        }
    }
    fn pending(&self, slot: Slot) -> Pieces<'_> {
        Worker::pending(self, slot)
    }
    fn has_pending(&self, slot: Slot) -> bool {
        Worker::has_pending(self, slot)
    }
    fn written(&mut self, slot: Slot, bytes: usize) {
        Worker::written(self, slot, bytes);
    }
    fn is_held(&self, slot: Slot) -> bool {
        Worker::is_held(self, slot)
    }
    fn settle(&mut self) {
        Worker::settle(self);
    }
    fn fate(&self, slot: Slot) -> Fate {
        Worker::fate(self, slot)
    }
    fn is_put_aside(&self, slot: Slot) -> bool {
        Worker::session(self, slot).is_some_and(|session| session.put_aside)
    }
    fn disconnect(&mut self, slot: Slot) {
        Worker::disconnect(self, slot);
    }
    fn touched(&mut self, into: &mut Vec<Slot>) {
        Worker::touched(self, into);
    }
    fn runnable(&mut self, into: &mut Vec<Slot>) {
        Worker::runnable(self, into);
    }
    fn wake(&mut self) {
        Worker::wake(self);
    }
    fn changed_thread(&mut self) {
        Worker::changed_thread(self);
    }
    fn next_timer_us(&self) -> Option<u64> {
        Worker::next_timer_us(self)
    }
}

/// Connects to an address, from another one if that is of the same family.
fn connect_from(source: Option<IpAddr>, to: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let Some(source) = source.filter(|source| source.is_ipv4() == to.is_ipv4()) else {
        return TcpStream::connect_timeout(to, timeout);
    };
    let socket = Socket::new(Domain::for_address(*to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect_timeout(&(*to).into(), timeout)?;
    Ok(socket.into())
}

/// A connection to another server.
struct Connection(TcpStream);

impl Read for Connection {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Stream for Connection {
    fn set_read_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(timeout))
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

/// The process around the engine.
struct Process {
    shared: Arc<Shared>,
}

impl Platform for Process {
    fn used_memory(&self) -> usize {
        used_bytes() as usize
    }

    fn allocated_here(&self) -> i64 {
        allocated_here()
    }

    fn is_sparse(&self, place: NonNull<u8>) -> bool {
        memory::is_sparse(place)
    }

    fn collect_memory(&self) {
        memory::collect();
    }

    fn purge_soon(&self, soon: bool) {
        memory::purge_soon(soon);
    }

    fn resident_memory(&self) -> usize {
        let pages = std::fs::read_to_string("/proc/self/statm").ok();
        let pages = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<usize>().ok());
        pages.unwrap_or(0) * rustix::param::page_size()
    }

    fn system_memory(&self) -> usize {
        let system = rustix::system::sysinfo();
        system.totalram as usize * system.mem_unit as usize
    }

    fn cpu_us(&self) -> (u64, u64) {
        // Fields 14 and 15 of proc(5)'s stat, in clock ticks; the command name before them may hold blanks.
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
        let mut next = || fields.next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second().max(1);
        (next() * tick_us, next() * tick_us)
    }

    fn shutdown(&self) {
        self.shared.stop();
    }

    fn log(&self, level: u8, text: &str) {
        let level = match level {
            0 => LogLevel::Debug,
            1 => LogLevel::Verbose,
            2 => LogLevel::Notice,
            _ => LogLevel::Warning,
        };
        log::log(level, text);
    }

    fn is_ending(&self) -> bool {
        self.shared.is_stopping()
    }

    fn crash(&self) {
        // It can be sent: this process is there, and its own.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::SEGV);
    }

    fn open_file(&self, path: &str) -> io::Result<(Box<dyn Read + Send>, u64)> {
        let file = std::fs::File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok((Box::new(file), bytes))
    }

    fn replace_file(&self, path: &str, write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let path = Path::new(path);
        let kind = path.extension().unwrap_or("tmp".as_ref());
        let temporary = path.with_file_name(format!("temp-{}", std::process::id())).with_extension(kind);
        let mut replace = || {
            let mut file = std::fs::File::create(&temporary)?;
            write(&mut file)?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)?;
            // The working directory is `dir`.
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            std::fs::File::open(parent.unwrap_or(".".as_ref()))?.sync_all()
        };
        let result = replace();
        if result.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        result
    }

    fn connect(&self, host: &str, port: u16, timeout: Duration) -> io::Result<Box<dyn Stream>> {
        let unknown = || io::Error::from(io::ErrorKind::NotFound);
        let addresses = (host, port).to_socket_addrs().map_err(|_| unknown())?;
        let source = self.shared.config.settings().bind_source_addr.parse().ok();
        let mut result = Err(unknown());
        for address in addresses {
            result = connect_from(source, &address, timeout);
            if result.is_ok() {
                break;
            }
        }
        let stream = result?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Box::new(Connection(stream)))
    }

    fn adopt(&self, stream: Box<dyn Stream>) -> io::Result<()> {
        let stream = stream.into_any().downcast::<Connection>().map_err(|_| io::ErrorKind::InvalidInput)?;
        self.shared.give(Accepted::to_master(stream.0)?);
        Ok(())
    }

    fn scratch_file(&self) -> io::Result<Box<dyn ScratchFile>> {
        // The working directory is `dir`.
        let path = format!("temp-{}-{:016x}", std::process::id(), random());
        let file = std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Box::new(file))
    }

    fn in_background(&self, name: &str, work: Box<dyn FnOnce() + Send>) {
        // `spawn` takes its work even when it fails: what it could not run is run here.
        let work = Arc::new(Mutex::new(Some(work)));
        let run = |work: &Mutex<Option<Box<dyn FnOnce() + Send>>>| {
            let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(work) = work {
                work();
            }
        };
        let theirs = work.clone();
        let thread = std::thread::Builder::new().name(name.into()).stack_size(STACK_BYTES);
        if thread.spawn(move || run(&theirs)).is_err() {
            run(&work);
        }
    }

    fn active_threads(&self) -> usize {
        self.shared.roster.plan().active()
    }

    fn stand_still(&self, us: u64) {
        std::thread::sleep(Duration::from_micros(us));
    }

    fn in_parallel(&self, threads: usize, work: &(dyn Fn() + Sync)) {
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
    }
}
