//! The state that all workers share.

use crate::acl::Acl;
use crate::backup::Backups;
use crate::clients::{Clients, Pause};
use crate::config::ConfigHandle;
use crate::durability::Durability;
pub use crate::durability::{ChangeSink, Lsn};
use crate::failover::Failover;
use crate::following::Following;
use crate::functions::Functions;
use crate::hotkeys::HotKeys;
use crate::links::{Links, Stream};
use crate::loading::Loading;
use crate::mailbox::{Mailbox, Message};
use crate::monitor::Monitors;
use crate::pubsub::PubSub;
use crate::registry::Names;
use crate::replication::Replication;
use crate::running::RunningScripts;
use crate::saving::Saves;
use crate::scripts::ScriptCache;
use crate::shutdown::Shutdown;
use crate::slowlog::{LatencyEvents, SlowLogs};
use crate::stats::{RATES, Rates, Stats};
use crate::tracking::Tracking;
#[cfg(doc)]
use crate::worker::Peer;
use crate::worker::{Clock, Worker};
use kelda_store::shard::Keyspace;
use std::io::{Read, Seek, Write};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// What the engine asks of the process around it.
pub trait Platform: Send + Sync {
    /// Bytes that the allocator has handed out.
    fn used_memory(&self) -> usize;
    /// Bytes that this thread has been given by the allocator, less those that it gave back, whoever had them. Cheap: asked
    /// before each command.
    fn allocated_here(&self) -> i64 {
        0
    }
    /// Whether what the allocator handed out at this place had better be elsewhere, because few others lie on its page. The
    /// place is in use, and nobody frees it meanwhile.
    fn is_sparse(&self, _place: std::ptr::NonNull<u8>) -> bool {
        false
    }
    /// Has the allocator look through this thread's memory and give back what has been free for a while.
    fn collect_memory(&self) {}
    /// Has the allocator give free memory back soon, or after its usual delay.
    fn purge_soon(&self, _soon: bool) {}
    /// Resident bytes of the process.
    fn resident_memory(&self) -> usize {
        0
    }
    /// Bytes of memory that the machine has; 0 if that is not known.
    fn system_memory(&self) -> usize {
        0
    }
    /// User and system CPU time of the process, in microseconds.
    fn cpu_us(&self) -> (u64, u64) {
        (0, 0)
    }
    /// Asks the process to end.
    fn shutdown(&self) {}
    /// Whether it was asked to end.
    fn is_ending(&self) -> bool {
        false
    }
    /// Ends the process as a mistake of its own would, at once (DEBUG SEGFAULT).
    fn crash(&self) {}
    /// Writes a line to the log: level 0 (debug) to 3 (warning).
    fn log(&self, _level: u8, _text: &str) {}
    /// Opens a file to be read, and tells how many bytes it has. Paths are relative to `dir`.
    fn open_file(&self, _path: &str) -> std::io::Result<(Box<dyn Read + Send>, u64)> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
    /// Replaces a file by what `write` writes: in one step and durably, or not at all.
    fn replace_file(
        &self,
        _path: &str,
        _write: &mut dyn FnMut(&mut dyn Write) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
    /// All of a file.
    fn read_file(&self, path: &str) -> std::io::Result<Vec<u8>> {
        let (mut file, mut bytes) = (self.open_file(path)?.0, Vec::new());
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
    /// Opens a connection on which no read or write waits longer than `timeout`. `NotFound`: there is no such host.
    fn connect(&self, _host: &str, _port: u16, _timeout: Duration) -> std::io::Result<Box<dyn Stream>> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
    /// Has an event loop drive a connection that [`Platform::connect`] opened: it becomes a session with [`Peer::master`].
    ///
    /// # Errors
    /// The system's.
    fn adopt(&self, _stream: Box<dyn Stream>) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
    /// A file without a name, which is gone when it is closed.
    ///
    /// # Errors
    /// The system's.
    fn scratch_file(&self) -> std::io::Result<Box<dyn ScratchFile>> {
        Ok(Box::new(std::io::Cursor::new(Vec::new())))
    }
    /// Runs `work` on a thread of its own, with room for Lua on its stack, and does not wait for it. Whoever has no threads runs it here.
    fn in_background(&self, _name: &str, work: Box<dyn FnOnce() + Send>) {
        work();
    }
    /// How many of the threads run workers at present; the others wait until there is more to do.
    fn active_threads(&self) -> usize {
        1
    }
    /// Has this thread stand still: DEBUG SLEEP.
    fn stand_still(&self, _us: u64) {}
    /// Runs `work` on so many threads at once, and returns when all are done. Whoever has no threads runs it once.
    fn in_parallel(&self, _threads: usize, work: &(dyn Fn() + Sync)) {
        work();
    }
}

/// A file for a while.
pub trait ScratchFile: Read + Write + Seek + Send {}

impl<T: Read + Write + Seek + Send> ScratchFile for T {}

/// Facts about the process, for INFO.
#[derive(Clone, Debug, Default)]
pub struct ProcessInfo {
    /// Process id.
    pub pid: u32,
    /// Path of the binary.
    pub executable: String,
    /// Path of the configuration file, or empty.
    pub config_file: String,
    /// 40 random hexadecimal digits.
    pub run_id: String,
    /// Operating system, as `uname` tells it.
    pub os: String,
    /// Number of worker threads.
    pub threads: usize,
    /// The port really listened on.
    pub port: u16,
}

/// What it takes to make an engine.
pub struct EngineOptions {
    /// The configuration.
    pub config: Arc<ConfigHandle>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The process.
    pub platform: Arc<dyn Platform>,
    /// Facts for INFO.
    pub process: ProcessInfo,
    /// Number of workers.
    pub workers: usize,
    /// Seeds every worker's random numbers.
    pub seed: u64,
    /// Who reads the changes, if anybody.
    pub sink: Option<Arc<dyn ChangeSink>>,
}

/// The state shared by all workers.
pub struct Engine {
    /// The keys.
    pub keyspace: Keyspace,
    /// The configuration.
    pub config: Arc<ConfigHandle>,
    /// By which names commands are called.
    pub names: Names,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The process.
    pub platform: Arc<dyn Platform>,
    /// Facts for INFO.
    pub process: Mutex<ProcessInfo>,
    /// Publish/subscribe.
    pub pubsub: PubSub,
    /// Users.
    pub acl: Acl,
    /// Connected clients.
    pub clients: Clients,
    /// Scripts by SHA-1.
    pub scripts: ScriptCache,
    /// Libraries of functions.
    pub functions: Functions,
    /// Each worker's counters.
    pub stats: Vec<Stats>,
    /// Errors by code, for INFO errorstats.
    pub errors: Mutex<std::collections::BTreeMap<String, u64>>,
    /// When the engine was made, Unix µs.
    pub started_us: i64,
    /// Changes since the last save, for INFO.
    pub dirty_at_save: AtomicU64,
    /// When data was last saved (or flushed with nothing to save), Unix s.
    pub last_save: AtomicI64,
    /// Saving in the background.
    pub saves: Saves,
    /// BACKUP.
    pub backups: Backups,
    /// Scripts that have been running for a while.
    pub running: RunningScripts,
    /// Scripts that run longer than `busy-reply-threshold`.
    pub busy_scripts: AtomicUsize,
    /// Whether keys are removed before anybody looks (DEBUG SET-ACTIVE-EXPIRE).
    pub active_expire: AtomicBool,
    /// Whether scripts may call commands that they may not (DEBUG SET-DISABLE-DENY-SCRIPTS).
    pub scripts_call_all: AtomicBool,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// CLIENT TRACKING.
    pub tracking: Tracking,
    /// MONITOR.
    pub monitors: Monitors,
    /// Sessions for which every command has to do more: those that track or monitor. While there are none, commands look no further.
    pub observers: AtomicUsize,
    /// HOTKEYS.
    pub hotkeys: HotKeys,
    /// Connections to other servers.
    pub links: Links,
    /// SLOWLOG and COMMANDLOG.
    pub slowlog: SlowLogs,
    /// LATENCY.
    pub latency: LatencyEvents,
    /// The most bytes ever seen in use.
    memory_peak: AtomicUsize,
    /// Bytes in use when the engine had been made.
    pub memory_at_start: AtomicUsize,
    /// How fast some counters grow.
    rates: Mutex<Rates>,
    /// Whether the server is ending.
    pub ending: AtomicBool,
    mailboxes: Vec<OnceLock<Mailbox>>,
    /// The log.
    pub log: Durability,
    /// The replicas that follow this server.
    pub replication: Replication,
    /// The server that this one follows.
    pub following: Following,
    /// Handing the lead over.
    pub failover: Failover,
    /// Waiting for replicas before the end.
    pub shutdown: Shutdown,
    /// Where loading the data at the start is.
    pub loading: Loading,
    seed: u64,
}

impl Engine {
    /// An engine without keys or workers yet.
    pub fn new(options: EngineOptions) -> Arc<Engine> {
        let settings = options.config.settings();
        let started_us = options.clock.unix_us();
        let engine = Arc::new(Engine {
            keyspace: Keyspace::new(settings.databases as u32),
            names: options.config.config().names().clone(),
            config: options.config,
            started_us,
            last_save: AtomicI64::new(started_us / 1_000_000),
            clock: options.clock,
            platform: options.platform,
            process: Mutex::new(options.process),
            pubsub: PubSub::default(),
            acl: Acl::new(&settings.requirepass),
            clients: Clients::default(),
            scripts: ScriptCache::default(),
            functions: Functions::default(),
            stats: (0..options.workers).map(|_| Stats::default()).collect(),
            errors: Mutex::default(),
            dirty_at_save: AtomicU64::new(0),
            saves: Saves::default(),
            backups: Backups::default(),
            running: RunningScripts::default(),
            busy_scripts: AtomicUsize::new(0),
            active_expire: AtomicBool::new(true),
            scripts_call_all: AtomicBool::new(false),
            pause: Pause::default(),
            tracking: Tracking::new(options.workers),
            monitors: Monitors::new(options.workers),
            observers: AtomicUsize::new(0),
            hotkeys: HotKeys::new(options.workers),
            links: Links::default(),
            slowlog: SlowLogs::default(),
            latency: LatencyEvents::default(),
            memory_peak: AtomicUsize::new(0),
            memory_at_start: AtomicUsize::new(0),
            rates: Mutex::default(),
            ending: AtomicBool::new(false),
            mailboxes: (0..options.workers).map(|_| OnceLock::new()).collect(),
            log: Durability::new(options.sink, options.workers),
            replication: Replication::new(options.workers, options.seed ^ started_us as u64, started_us / 1000),
            following: Following::new(&settings.replicaof),
            failover: Failover::default(),
            shutdown: Shutdown::default(),
            loading: Loading::default(),
            seed: options.seed,
        });
        engine.memory_at_start.store(engine.platform.used_memory(), Relaxed);
        engine
    }

    /// The engine's side of thread `index`; `wake` must make that thread's loop call [`Worker::wake`] soon. Once only
    /// for each index.
    pub fn worker(self: &Arc<Engine>, index: usize, wake: Box<dyn Fn() + Send + Sync>) -> Worker {
        let fresh = self.mailboxes[index].set(Mailbox::new(wake)).is_ok();
        assert!(fresh, "worker {index} was made before");
        Worker::new(self.clone(), index, self.seed.wrapping_add(0x1000 * index as u64))
    }

    /// Number of workers.
    pub fn worker_count(&self) -> usize {
        self.mailboxes.len()
    }

    /// Posts a message to a worker.
    pub fn post(&self, from: usize, to: usize, message: Message) {
        let Some(mailbox) = self.mailboxes.get(to).and_then(OnceLock::get) else { return };
        if from == to { mailbox.post_to_self(message) } else { mailbox.post(message) }
    }

    pub(crate) fn mailbox(&self, worker: usize) -> Option<&Mailbox> {
        self.mailboxes[worker].get()
    }

    /// Wakes the workers that wait for the log: it has got on, or never will. Called by the log's thread, after it published
    /// how far it is.
    pub fn log_progressed(&self) {
        for worker in self.log.take_waiting() {
            if let Some(mailbox) = self.mailbox(worker) {
                mailbox.nudge();
            }
        }
    }

    /// Bytes of the memory in use that `maxmemory` does not concern: what replicas and clients with tracking have yet to take.
    pub fn not_counted_for_eviction(&self) -> u64 {
        self.replication.owed_bytes() + self.tracking.told_bytes.load(Relaxed) as u64
    }

    /// Looks how much memory is in use; returns the most ever seen.
    pub fn note_memory(&self) -> usize {
        let used = self.platform.used_memory();
        self.memory_peak.fetch_max(used, Relaxed).max(used)
    }

    /// Measures the rates that [`Engine::rates`] tells. Called about ten times a second.
    pub fn note_rates(&self) {
        let now_us = self.clock.monotonic_us();
        let figures = [
            self.total(|stats| stats.commands.get()),
            self.total(|stats| stats.input_bytes.get()),
            self.total(|stats| stats.output_bytes.get()),
            self.total(|stats| stats.turns.get()),
            self.total(|stats| stats.turns_us.get()),
        ];
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.add(now_us, figures);
    }

    /// Commands, bytes read, bytes written, turns of the event loops and µs spent in them a second, over the last second or so.
    pub fn rates(&self) -> [u64; RATES] {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).per_second()
    }

    /// A counter summed over the workers.
    pub fn total(&self, counter: impl Fn(&Stats) -> u64) -> u64 {
        self.stats.iter().map(counter).sum()
    }

    /// Changes since data was last saved, as `rdb_changes_since_last_save` counts them.
    pub fn dirty_since_save(&self) -> u64 {
        self.total(|stats| stats.dirty.get()).saturating_sub(self.dirty_at_save.load(Relaxed))
    }

    /// Wakes every worker.
    pub fn wake_all(&self) {
        for mailbox in self.mailboxes.iter().filter_map(OnceLock::get) {
            mailbox.post(Message::Shutdown);
        }
    }
}
