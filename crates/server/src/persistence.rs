//! The data on disk: loaded when the server starts, logged while it runs, in order when it ends.
//!
//! Threads: `saver` writes snapshots, and new bases of the log (`kelda_engine::saving`); `log-writer` writes what commits append,
//! every few milliseconds, or with `appendfsync always` at once and syncs it, so that one sync serves all that gathered
//! meanwhile; `log-syncer` syncs in the other modes, so that a slow disk delays no write. The event loops
//! never wait for either. While data is loaded the loops already answer, with `-LOADING`.

use crate::disk::RealDisk;
use crate::log;
use kelda_engine::backup::BackupFiles;
use kelda_engine::config::{AppendFsync, ConfigReader, Settings};
use kelda_engine::durability::{ChangeSink, Figures, Health, Lsn};
use kelda_engine::engine::Engine;
use kelda_engine::functions::Libraries;
use kelda_engine::rdb;
use kelda_engine::replay::{Dealer, replay};
use kelda_log::aof::{self, DirLock, Entry, FileReader, Log, Options, Reader, State, SyncMode};
use kelda_log::disk::Disk;
use kelda_store::shard::{Guard, ShardSet};
use kelda_store::txn::{Changes, Context, Env, Txn};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime};

/// Bytes that may wait to be written before writes are refused.
const BUFFER_MAX: usize = 1 << 30;
/// How long changes gather before they are written, where no reply waits for them: nobody needs to wake the thread that
/// writes meanwhile. What gathers is lost if the process is killed,
const GATHER: Duration = Duration::from_millis(1);
/// and so it gathers longer only where this time brings pieces that are large enough to be written around the system's cache, which
/// costs a third for each byte,
const GATHER_LARGE: Duration = Duration::from_millis(4);
/// which they are from here on.
const LARGE: u64 = crate::disk::DIRECT_MIN as u64;
/// Larger pieces cost hardly less, and what is written soon is still in the processor's cache.
const GATHER_BYTES: u64 = 384 << 10;
/// How much there must be in the log before room is made in its files for more (`appendfsync always`): one that is hardly written to
/// does without, and ends with a record for whoever looks at it.
const ROOM_FROM: u64 = 64 << 10;
/// Between two tries to get hold of all shards.
const AGAIN: Duration = Duration::from_micros(100);
/// How long to wait before a write that failed is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// How long the threads sleep when there is nothing to do. What there is to do wakes them.
const IDLE: Duration = Duration::from_millis(500);
/// Between two lines that say how far loading is.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Whether the server is to end before it has begun.
type Stopping<'a> = &'a (dyn Fn() -> bool + Sync);

/// The log and its threads.
pub struct Persistence {
    log: OnceLock<Arc<Log>>,
    engine: OnceLock<Arc<Engine>>,
    writer: OnceLock<Thread>,
    /// The last transaction that was there when the log was last found to have got on, before anybody was told.
    seen_lsn: AtomicU64,
    syncer: OnceLock<Thread>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// What the log was last seen to be.
    state: Mutex<State>,
    /// Whether the log waits for a rewrite with which it begins: nothing is to wait for it.
    suspended: AtomicBool,
    /// Held while the log is turned on or off. Who needs shards, too, has them before.
    switching: Mutex<()>,
    /// Whether it was turned on, not off, the last time.
    wanted: AtomicBool,
    base_bytes: AtomicU64,
    ending: AtomicBool,
}

/// Milliseconds since the Unix epoch.
fn unix_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn sync_mode(settings: &Settings) -> SyncMode {
    match settings.appendfsync {
        AppendFsync::Always => SyncMode::Always,
        AppendFsync::EverySec => SyncMode::EverySec,
        AppendFsync::No => SyncMode::No,
    }
}

/// What the system calls an error.
fn reason(errno: i32) -> String {
    crate::listen::reason(&std::io::Error::from_raw_os_error(errno))
}

impl ChangeSink for Persistence {
    #[inline]
    fn commit(&self, changes: &Changes) -> Lsn {
        let Some(log) = self.log.get() else { return 0 };
        let lsn = log.append(changes.body(), changes.first_db(), changes.last_db(), changes.len());
        if !log.accepts_writes() {
            self.note_state(log);
        }
        lsn
    }

    fn durable_lsn(&self) -> Lsn {
        match self.log.get() {
            Some(log) if !self.suspended.load(Relaxed) => log.durable(),
            _ => Lsn::MAX,
        }
    }

    fn last_lsn(&self) -> Lsn {
        self.log.get().map_or(0, |log| log.appended())
    }

    fn get_on(&self, durable: bool) {
        let Some(log) = self.log.get() else { return };
        if durable {
            log.want_durable(log.appended());
        }
        // If it is not asleep it writes soon; who waits for a sync does not wait for that.
        if log.claim_wake(durable)
            && let Some(writer) = self.writer.get()
        {
            writer.unpark();
        }
    }

    fn gathered(&self) {
        if self.log.get().is_some_and(|log| log.has_gathered(1))
            && let Some(writer) = self.writer.get()
        {
            writer.unpark();
        }
    }

    fn backups(&self) -> Option<&dyn BackupFiles> {
        Some(self)
    }

    fn sync_now(&self) {
        if let Some(log) = self.log.get() {
            log.write(unix_ms());
            log.sync(unix_ms());
        }
    }

    fn reload(&self) -> Result<(), String> {
        let engine = self.engine.get().ok_or("the server has not started")?;
        if self.begins() {
            return Err("the log has no base yet".into());
        }
        let settings = engine.config.settings();
        let (disk, dir) = log_dir(&settings)?;
        {
            let guard = hold_all(engine, PATIENCE).ok_or(BUSY)?;
            if engine.log.is_on() {
                self.sync_now();
            }
            let reader = Reader::open(disk.clone(), &dir, &settings.appendfilename, true);
            let reader = reader.map_err(|error| error.to_string())?.ok_or("there is no log")?;
            engine.loading.begin(unix_ms() as i64 / 1000, reader.increment_bytes());
            let mut txn = Txn::new(guard, 0, unix_ms() as i64, Context::new(Env::default(), 1));
            (0..txn.databases()).for_each(|db| _ = txn.flush(db));
            txn.finish();
        }
        let cleared = engine.functions.change(|libraries| {
            *libraries = Libraries::default();
            Ok(())
        });
        let loaded = cleared.map_err(|error| error.to_string()).and_then(|()| {
            let reader = Reader::open(disk, &dir, &settings.appendfilename, true).map_err(|error| error.to_string())?;
            self.load(engine, &mut reader.ok_or("there is no log")?, &|| engine.platform.is_ending())
        });
        engine.loading.end();
        loaded
    }

    fn begin_anew(&self) {
        let Some(engine) = self.engine.get() else { return };
        {
            let _turn = self.switching.lock().unwrap_or_else(PoisonError::into_inner);
            if !engine.config.settings().appendonly {
                // It was turned off meanwhile.
                return;
            }
            if let Some(log) = self.log.get() {
                log.suspend();
                self.note_state(log);
            }
        }
        if let Err(error) = engine.saves.rewrite_once_more(engine) {
            log::warning(&format!("The log cannot begin anew: {error}"));
        }
    }

    fn figures(&self) -> Figures {
        let Some(log) = self.log.get() else { return Figures::default() };
        Figures {
            base_bytes: self.base_bytes.load(Relaxed),
            increment_bytes: log.increment_bytes(),
            buffered_bytes: log.buffered_bytes() as u64,
            last_lsn: log.appended(),
            written_lsn: log.written(),
            durable_lsn: log.durable(),
            begins: self.begins(),
        }
    }
}

impl BackupFiles for Persistence {
    fn begin(&self, into: &Path) -> Result<(), String> {
        self.live_log()?.begin_backup(into).map_err(|error| error.to_string())
    }

    fn files(&self) -> Vec<PathBuf> {
        self.log.get().map_or_else(Vec::new, |log| log.backup_files())
    }

    fn seal(&self) -> Result<Vec<PathBuf>, String> {
        let log = self.live_log()?;
        let engine = self.engine.get().ok_or("the server has not started")?;
        let next = log.prepare_rotation(unix_ms()).map_err(|error| error.to_string())?;
        let guard = hold_all(engine, PATIENCE).ok_or(BUSY)?;
        let rotation = log.rotate(next, unix_ms());
        drop(guard);
        log.seal_backup(rotation, unix_ms()).map(|(_, files)| files).map_err(|error| error.to_string())
    }

    fn abort(&self) -> Result<(), String> {
        self.live_log()?.abort_backup().map_err(|error| error.to_string())
    }

    fn remove(&self, files: &[PathBuf]) -> Result<(), String> {
        aof::backup::remove_files(&RealDisk, files).map_err(|error| error.to_string())
    }
}

/// How long a script may hold shards before others give way to it.
const PATIENCE: Duration = Duration::from_secs(2);
const BUSY: &str = "the server is busy with a script: try again";

/// Every shard; nothing if somebody holds one for longer than `patience`. Nobody tells when shards are given back, which they
/// mostly are within microseconds.
fn hold_all(engine: &Engine, patience: Duration) -> Option<Guard<'_>> {
    let begun = Instant::now();
    loop {
        match engine.keyspace.lock(ShardSet::All) {
            Some(guard) => return Some(guard),
            None if begun.elapsed() > patience => return None,
            None => std::thread::sleep(AGAIN),
        }
    }
}

/// Whether the log keeps what a rewrite replaces.
fn archive(settings: &Settings) -> bool {
    settings.log_archive_seconds > 0 || settings.log_archive_bytes > 0
}

/// Removes what the archive need not keep any longer.
fn prune(log: &Log, settings: &Settings) {
    log.set_archive(archive(settings));
    if archive(settings) {
        let bytes_max = if settings.log_archive_bytes > 0 { settings.log_archive_bytes } else { u64::MAX };
        let age_ms = settings.log_archive_seconds.saturating_mul(1000);
        let keep_from_ms = if age_ms > 0 { unix_ms().saturating_sub(age_ms) } else { 0 };
        if let Err(error) = log.prune_archive(bytes_max, keep_from_ms) {
            log::warning(&format!("The archive of the log cannot be pruned: {error}"));
        }
    }
}

/// The disk and the directory of the log.
fn log_dir(settings: &Settings) -> Result<(Arc<dyn Disk>, PathBuf), String> {
    let dir = std::path::absolute(Path::new(&settings.appenddirname)).map_err(|error| error.to_string())?;
    Ok((Arc::new(RealDisk), dir))
}

impl Persistence {
    /// The log, which is not turned off.
    fn live_log(&self) -> Result<&Arc<Log>, String> {
        self.log.get().filter(|_| !self.suspended.load(Relaxed)).ok_or_else(|| "the log is turned off".to_string())
    }

    /// Without a log yet.
    pub fn new() -> Arc<Persistence> {
        Arc::new(Persistence {
            log: OnceLock::new(),
            engine: OnceLock::new(),
            writer: OnceLock::new(),
            seen_lsn: AtomicU64::new(0),
            syncer: OnceLock::new(),
            threads: Mutex::default(),
            state: Mutex::new(State::Healthy),
            suspended: AtomicBool::new(false),
            switching: Mutex::new(()),
            wanted: AtomicBool::new(false),
            base_bytes: AtomicU64::new(0),
            ending: AtomicBool::new(false),
        })
    }

    /// Whether the log was turned on and its first base is not written yet.
    fn begins(&self) -> bool {
        let wanted = self.engine.get().is_some_and(|engine| engine.config.settings().appendonly);
        wanted && self.suspended.load(Relaxed)
    }

    /// Tells the engine and the operator when the log stops or goes on taking writes.
    #[cold]
    fn note_state(&self, log: &Log) {
        let state = log.state();
        {
            let mut seen = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::replace(&mut *seen, state) == state {
                return;
            }
        }
        let suspended = state == State::SyncFailed(0);
        if self.suspended.swap(suspended, Relaxed) || suspended {
            // Turned off, or on again: not the disk's doing.
            if let Some(engine) = self.engine.get() {
                engine.log_progressed();
            }
            if suspended || state == State::Healthy {
                return;
            }
        }
        let (health, why) = match state {
            State::Healthy => (Health::Good, String::new()),
            State::Full => (Health::Stalled, "the disk is too slow".into()),
            State::WriteFailed(errno) => (Health::Stalled, reason(errno)),
            State::SyncFailed(errno) => (Health::Broken, reason(errno)),
        };
        match health {
            Health::Good => log::warning("AOF write error looks solved. The server can write again."),
            Health::Stalled => log::warning(&format!("Error writing to the AOF file: {why}")),
            Health::Broken => log::warning(&format!(
                "Fail to fsync the AOF file: {why}. No more writes are taken until a rewrite succeeds or the server is started \
                 again."
            )),
        }
        if let Some(engine) = self.engine.get() {
            engine.log.set_health(health, &why);
            engine.log_progressed();
        }
    }

    /// Loads the data, then opens the log. Called once, on a thread that may take its time, while the loops already answer.
    ///
    /// # Errors
    /// Why the server must not start.
    pub fn start(self: &Arc<Persistence>, engine: &Arc<Engine>, stopping: Stopping) -> Result<(), String> {
        let settings = engine.config.settings();
        let _ = self.engine.set(engine.clone());
        let loaded = match settings.appendonly {
            true => self.open(engine, &settings, stopping),
            false => load_snapshot(engine).map(drop),
        };
        // Until all is in place commands are refused: one that is taken must be logged.
        loaded?;
        if settings.appendonly {
            engine.log.turn(true);
            self.start_threads(engine)?;
        }
        self.start_saver(engine)?;
        engine.loading.end();
        Ok(())
    }

    /// Reads the append-only directory, or makes it.
    fn open(&self, engine: &Arc<Engine>, settings: &Settings, stopping: Stopping) -> Result<(), String> {
        let (disk, dir) = log_dir(settings)?;
        let name = &settings.appendfilename;
        let fail = |error: aof::Error| error.to_string();
        let held: DirLock = aof::lock_dir(&*disk, &dir, name).map_err(fail)?;
        let options = Options { buffer_max: BUFFER_MAX, salt: crate::bridge::random(), archive: archive(settings) };
        if let Some(data_dir) = dir.parent()
            && aof::adopt(&*disk, data_dir, &dir, name).map_err(fail)?
        {
            log::notice(&format!("The log of an older server, {name}, is now in {}", dir.display()));
        }
        let reader = Reader::open(disk.clone(), &dir, name, settings.aof_load_truncated).map_err(fail)?;
        let log = match reader {
            Some(mut reader) => {
                let base = reader.base().map_or(0, |base| base.len);
                engine.loading.begin(unix_ms() as i64 / 1000, base + reader.increment_bytes());
                self.load(engine, &mut reader, stopping)?;
                let recovered = reader.finish().map_err(fail)?;
                if let Some(cut) = recovered.cut.as_ref().filter(|cut| !cut.room) {
                    log::warning(&format!(
                        "The log ends in an incomplete record: {} is cut off at offset {}, {} bytes are dropped",
                        cut.path.display(),
                        cut.offset,
                        cut.bytes
                    ));
                }
                Log::open(disk, &dir, name, options, held, unix_ms(), recovered)
            }
            None => {
                let found = load_snapshot(engine)?;
                log::notice(&format!("Creating the append-only directory {}", dir.display()));
                // The log of a server that so far saved snapshots begins with the last one.
                let mut write_base = |path: &Path| std::fs::copy(&settings.dbfilename, path).map(drop);
                Log::create(disk, &dir, name, options, held, unix_ms(), found.then_some(&mut write_base))
            }
        };
        self.install(log.map_err(fail)?);
        Ok(())
    }

    fn install(&self, log: Log) {
        self.base_bytes.store(log.base_bytes(), Relaxed);
        let _ = self.log.set(Arc::new(log));
    }

    /// Opens the log of a server that began without one: what was there before is of no use.
    fn open_unread(&self, settings: &Settings) -> Result<(), String> {
        let (disk, dir) = log_dir(settings)?;
        let name = &settings.appendfilename;
        let fail = |error: aof::Error| error.to_string();
        let held: DirLock = aof::lock_dir(&*disk, &dir, name).map_err(fail)?;
        let options = Options { buffer_max: BUFFER_MAX, salt: crate::bridge::random(), archive: archive(settings) };
        let log = match Reader::open(disk.clone(), &dir, name, true).map_err(fail)? {
            Some(reader) => Log::open(disk, &dir, name, options, held, unix_ms(), reader.finish().map_err(fail)?),
            None => Log::create(disk, &dir, name, options, held, unix_ms(), None),
        };
        self.install(log.map_err(fail)?);
        Ok(())
    }

    /// Turns the log on or off as these settings say: on by a rewrite in the background, with which it begins.
    ///
    /// # Errors
    /// Why there can be no log.
    pub fn turn(self: &Arc<Persistence>, engine: &Arc<Engine>, settings: &Settings) -> Result<(), String> {
        if engine.loading.is_active() {
            return Err("the data is being loaded".into());
        }
        self.wanted.store(settings.appendonly, Relaxed);
        if !settings.appendonly {
            // Not here: whoever asks may hold shards, and a disk may be slow.
            let (this, engine) = (self.clone(), engine.clone());
            let thread = std::thread::Builder::new().name("log-end".into());
            return thread.spawn(move || this.turn_off(&engine)).map(drop).map_err(|error| error.to_string());
        }
        let _turn = self.switching.lock().unwrap_or_else(PoisonError::into_inner);
        if self.log.get().is_none() {
            self.open_unread(settings)?;
            self.start_threads(engine)?;
        }
        if let Some(log) = self.log.get()
            && !engine.log.is_on()
        {
            log.suspend();
            self.note_state(log);
        }
        engine.saves.rewrite_once_more(engine).map_err(|error| error.to_string())
    }

    fn turn_off(&self, engine: &Engine) {
        // The shards first: within EXEC who turns the log on again holds them all.
        let (guard, _turn) = loop {
            let Some(guard) = hold_all(engine, Duration::MAX) else { return };
            match self.switching.try_lock() {
                Ok(turn) => break (guard, turn),
                Err(TryLockError::Poisoned(turn)) => break (guard, turn.into_inner()),
                Err(TryLockError::WouldBlock) => drop(guard),
            }
            std::thread::sleep(AGAIN);
        };
        if self.wanted.load(Relaxed) {
            // It was turned on again meanwhile.
            return;
        }
        engine.log.turn(false);
        drop(guard);
        // Who waits for it waits for nothing.
        engine.log_progressed();
        engine.saves.cancel_rewrite();
        if let Some(log) = self.log.get() {
            log.write(unix_ms());
            log.sync(unix_ms());
            log.suspend();
        }
    }

    /// The log, which is opened if there is none: BGREWRITEAOF writes a base even if the log is off.
    fn log_to_rewrite(self: &Arc<Persistence>, engine: &Arc<Engine>) -> Option<Arc<Log>> {
        let settings = engine.config.settings();
        let _turn = self.switching.lock().unwrap_or_else(PoisonError::into_inner);
        if self.log.get().is_none() {
            let opened = self.open_unread(&settings).and_then(|()| self.start_threads(engine));
            if let Err(error) = opened {
                log::warning(&format!("Can't open the log to rewrite it: {error}"));
                return None;
            }
            if let Some(log) = self.log.get() {
                log.suspend();
                self.note_state(log);
            }
        }
        self.log.get().cloned()
    }

    fn start_saver(self: &Arc<Persistence>, engine: &Arc<Engine>) -> Result<(), String> {
        engine.saves.open(engine);
        let (this, engine) = (self.clone(), engine.clone());
        let thread = std::thread::Builder::new().name("saver".into());
        let serve = move || engine.saves.serve(&engine, &RealDisk, &|| this.log_to_rewrite(&engine));
        let handle = thread.spawn(serve).map_err(|error| format!("Cannot start a thread: {error}"))?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
        Ok(())
    }

    /// A signal asks for the end.
    ///
    /// # Errors
    /// The snapshot that `save` asks for cannot be written, or the log has nothing yet of what is in memory.
    pub fn prepare_end(&self, engine: &Engine) -> Result<(), String> {
        if self.begins() {
            return Err("Writing initial AOF, can't exit.".into());
        }
        if engine.config.settings().save.is_empty() || engine.loading.is_active() {
            return Ok(());
        }
        rdb::save_and_stay(engine).map_err(|error| error.to_string())
    }

    /// Replays what the directory holds.
    fn load(&self, engine: &Arc<Engine>, reader: &mut Reader, stopping: Stopping) -> Result<(), String> {
        let begun = Instant::now();
        let base = reader.base().cloned();
        let mut plain_from = None;
        if let Some(base) = &base {
            plain_from = Some(if base.rdb { load_base(engine, &base.path)? } else { 0 }).filter(|end| *end < base.len);
        }
        let (mut dealer, runners) = replay(engine, engine.worker_count());
        let count = std::thread::scope(|scope| {
            for (index, runner) in runners.into_iter().enumerate() {
                let thread = std::thread::Builder::new().name(format!("loader-{index}"));
                thread
                    .spawn_scoped(scope, move || runner.run())
                    .map_err(|error| format!("Cannot start a thread: {error}"))?;
            }
            if let (Some(base), Some(offset)) = (base, plain_from) {
                let mut rest = FileReader::open(&RealDisk, &base.path, offset).map_err(|error| error.to_string())?;
                deal(engine, &mut rest, &mut dealer, stopping)?;
            }
            deal(engine, reader, &mut dealer, stopping)?;
            dealer.finish().map_err(|(lsn, what)| failed(lsn, &what))
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        log::notice(&format!("DB loaded from append only file: {seconds:.3} seconds, {count} commands"));
        Ok(())
    }

    fn start_threads(self: &Arc<Persistence>, engine: &Arc<Engine>) -> Result<(), String> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut start = |name: &str, place: &OnceLock<Thread>, run: fn(&Persistence, &Log, ConfigReader)| {
            let (this, config) = (self.clone(), engine.config.clone());
            let thread = std::thread::Builder::new().name(name.into());
            let spawned = thread.spawn(move || {
                // Not before: CONFIG SET, which may have brought this about, holds the configuration.
                let config = ConfigReader::new(config);
                if let Some(log) = this.log.get() {
                    run(&this, log, config);
                }
            });
            let handle = spawned.map_err(|error| format!("Cannot start a thread: {error}"))?;
            let _ = place.set(handle.thread().clone());
            threads.push(handle);
            Ok::<(), String>(())
        };
        start("log-syncer", &self.syncer, Persistence::sync_loop)?;
        start("log-writer", &self.writer, Persistence::write_loop)?;
        if let Some(log) = self.log.get() {
            let this = Arc::downgrade(self);
            log.set_hook(Box::new(move || {
                let Some(this) = this.upgrade() else { return };
                if let (Some(log), Some(engine)) = (this.log.get(), this.engine.get()) {
                    this.seen_lsn.store(log.appended(), Relaxed);
                    this.note_state(log);
                    engine.log_progressed();
                }
            }));
        }
        Ok(())
    }

    fn write_loop(&self, log: &Log, mut config: ConfigReader) {
        /// Between two looks at what does not change often.
        const LOOK_EVERY: Duration = Duration::from_secs(1);
        let (mut looked, mut gathering) = (Instant::now(), Gathering::default());
        let mut pause = GATHER;
        while !self.ending.load(Relaxed) {
            config.refresh();
            let mode = sync_mode(config.settings());
            log.set_makes_room(mode == SyncMode::Always && log.increment_bytes() >= ROOM_FROM);
            let (before, bytes_before) = (log.written(), log.increment_bytes());
            let mut more = log.write(unix_ms()) != before;
            if log.sync_due(mode, unix_ms()) {
                match mode {
                    SyncMode::Always => {
                        self.sync_batch(log, &mut gathering);
                        more = false;
                    }
                    _ => self.syncer.get().into_iter().for_each(Thread::unpark),
                }
            }
            let state = log.state();
            self.note_state(log);
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                self.base_bytes.store(log.base_bytes(), Relaxed);
                if let Some(engine) = self.engine.get()
                    && self.suspended.load(Relaxed)
                    && config.settings().appendonly
                    && !engine.saves.is_running(None)
                {
                    // The rewrite with which the log was to begin has failed.
                    let _ = engine.saves.rewrite(engine, true);
                }
            }
            if !matches!(state, State::Healthy | State::Full) {
                std::thread::park_timeout(RETRY);
            } else if more || log.appended() != log.written() || !log.may_sleep() {
                // More came meanwhile, or will: who writes now and then need not wake this thread each time.
                if mode != SyncMode::Always {
                    let bytes = log.increment_bytes().saturating_sub(bytes_before);
                    pause = gather_for(pause, bytes);
                    std::thread::park_timeout(pause);
                }
            } else {
                let patience = if log.durable() == log.written() { IDLE } else { RETRY };
                std::thread::park_timeout(patience);
                log.claim_wake(false);
            }
        }
    }

    /// Syncs, then waits a moment for the clients whose replies that let go to come again, so that the next sync serves them
    /// together with those who came during this one.
    fn sync_batch(&self, log: &Log, gathering: &mut Gathering) {
        let (before, begun) = (log.durable(), Instant::now());
        // Nobody needs to wake this thread meanwhile.
        log.gather_until(Lsn::MAX);
        log.sync(unix_ms());
        let (synced, took) = (Instant::now(), begun.elapsed());
        let first = log.appended().saturating_sub(log.written());
        // Some of those who have their replies may have come again by now.
        let all = self.seen_lsn.load(Relaxed).saturating_sub(before);
        if let Some(wanted) = gathering.wanted(first, all) {
            let (until, patience) = (log.written() + wanted, Gathering::patience(took));
            log.gather_until(until);
            while log.appended() < until && !self.ending.load(Relaxed) {
                match patience.checked_sub(synced.elapsed()) {
                    Some(left) => std::thread::park_timeout(left),
                    None => break,
                }
            }
            gathering.ended(log.appended() >= until && synced.elapsed() < took);
        }
        log.gather_until(0);
    }

    fn sync_loop(&self, log: &Log, mut config: ConfigReader) {
        /// Between two looks at the archive.
        const PRUNE_EVERY: Duration = Duration::from_secs(2);
        let mut pruned = Instant::now();
        while !self.ending.load(Relaxed) {
            config.refresh();
            if pruned.elapsed() >= PRUNE_EVERY {
                pruned = Instant::now();
                prune(log, config.settings());
            }
            let mode = sync_mode(config.settings());
            if mode != SyncMode::Always && log.sync_due(mode, unix_ms()) {
                log.sync(unix_ms());
            } else {
                std::thread::park_timeout(IDLE);
            }
        }
    }

    /// The server ends: everything goes to the disk. Once all commands have run.
    pub fn finish(&self) {
        self.ending.store(true, Relaxed);
        if let Some(engine) = self.engine.get() {
            engine.saves.end();
        }
        for thread in [&self.writer, &self.syncer].into_iter().filter_map(OnceLock::get) {
            thread.unpark();
        }
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            // A panic has been reported by its hook.
            let _ = thread.join();
        }
        if let Some(log) = self.log.get()
            && !self.suspended.load(Relaxed)
        {
            log::notice("Calling fsync() on the AOF file.");
            if !log.close(unix_ms()) {
                log::warning("The log could not be made durable as a whole");
            }
        }
    }
}

/// How long to gather what will be written next, if `bytes` gathered in `before`.
fn gather_for(before: Duration, bytes: u64) -> Duration {
    let time_for = |wanted: u64| before.mul_f64(wanted as f64 / bytes.max(1 << 10) as f64);
    match time_for(LARGE) <= GATHER_LARGE {
        true => time_for(GATHER_BYTES).clamp(GATHER, GATHER_LARGE),
        false => GATHER,
    }
}

/// For how many transactions to wait before the next sync begins.
///
/// Let a sync take `t`, and all clients need `r` to come again once they have their replies. If `t > r`, the most is synced if all of
/// them are waited for: all in `t + r`, instead of half of them in `t`, each half during the other one's sync, for ever. If `t < r`, it is
/// the clients, or the server, that need the time: while one half is synced the other one comes, and to wait for more would only
/// have them idle, while smaller batches would cost more of the processor for each. `r` is not known, and not everybody comes again. So all are
/// waited for now and then, and from then on as long as they do come within `t`.
#[derive(Default)]
struct Gathering {
    /// Waits in a row for all of them that took too long.
    in_vain: u32,
    /// Syncs until all are waited for again.
    skip: u32,
    /// Whether this wait is for all.
    for_all: bool,
}

impl Gathering {
    /// How many transactions are to wait, of which `first` do already, if there were `all` when the last sync ended. Nothing if
    /// there is no reason to wait.
    fn wanted(&mut self, first: u64, all: u64) -> Option<u64> {
        self.for_all = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        let wanted = if self.for_all { all } else { all / 2 };
        (all > 1 && wanted > first).then_some(wanted)
    }

    /// How long they are waited for if a sync takes `sync`.
    fn patience(sync: Duration) -> Duration {
        /// So much delay is no matter even where a sync takes less.
        const LEAST: Duration = Duration::from_micros(250);
        sync.max(LEAST)
    }

    /// A wait is over; whether all that were wanted had come in less than a sync takes.
    fn ended(&mut self, in_time: bool) {
        /// Syncs, at most, before all are waited for again.
        const SKIP_MAX: u32 = 64;
        if self.for_all {
            self.in_vain = if in_time { 0 } else { (self.in_vain + 1).min(SKIP_MAX.ilog2()) };
            self.skip = (1 << self.in_vain) - 1;
        }
    }
}

fn failed(lsn: Lsn, what: &str) -> String {
    match lsn {
        0 => format!("The append-only file cannot be replayed: {what}"),
        _ => format!("The log cannot be replayed: at LSN {lsn}: {what}"),
    }
}

/// Loads `dump.rdb`, or as it is called; whether it is there.
fn load_snapshot(engine: &Arc<Engine>) -> Result<bool, String> {
    let name = engine.config.settings().dbfilename.clone();
    engine.loading.begin(unix_ms() as i64 / 1000, std::fs::metadata(&name).map_or(0, |meta| meta.len()));
    let loaded = rdb::load_at_start(engine);
    loaded.map(|loaded| loaded.is_some()).map_err(|why| {
        log::warning("Terminating server after rdb file reading failure.");
        format!("{name}: {why}")
    })
}

/// Loads an RDB file that a log builds on; where in it the RDB part ends.
fn load_base(engine: &Arc<Engine>, path: &Path) -> Result<u64, String> {
    let fail = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let file = std::fs::File::open(path).map_err(|error| fail(&error))?;
    let mut source = Counting { file, read: &engine.loading.loaded_bytes };
    // What is due in the base may live longer by the log.
    let loaded = rdb::load_all(engine, &mut source, true).map_err(|why| fail(&why))?;
    Ok(loaded.bytes)
}

/// A file that counts what is read of it.
struct Counting<'a> {
    file: std::fs::File,
    read: &'a AtomicU64,
}

impl std::io::Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let bytes = self.file.read(buffer)?;
        self.read.fetch_add(bytes as u64, Relaxed);
        Ok(bytes)
    }
}

/// A log, or a file of commands.
trait Entries {
    fn next_entry(&mut self) -> aof::Result<Option<Entry<'_>>>;
    fn bytes_read(&self) -> u64;
}

impl Entries for Reader {
    fn next_entry(&mut self) -> aof::Result<Option<Entry<'_>>> {
        self.next()
    }
    fn bytes_read(&self) -> u64 {
        Reader::bytes_read(self)
    }
}

impl Entries for FileReader {
    fn next_entry(&mut self) -> aof::Result<Option<Entry<'_>>> {
        self.next_plain()
    }
    fn bytes_read(&self) -> u64 {
        self.offset()
    }
}

/// Hands all commands of a log to the dealer.
fn deal(engine: &Engine, reader: &mut impl Entries, dealer: &mut Dealer, stopping: Stopping) -> Result<(), String> {
    /// Records between two looks at the clock.
    const LOOK_EVERY: u64 = 4096;
    let (mut told, mut records) = (Instant::now(), 0);
    let before = engine.loading.loaded_bytes.load(Relaxed);
    let mut words: Vec<&'static [u8]> = Vec::new();
    while let Some(entry) = reader.next_entry().map_err(|error| error.to_string())? {
        if let Entry::Record(record) = entry {
            let mut argv: Vec<&[u8]> = std::mem::take(&mut words);
            let mut commands = record.commands();
            loop {
                match commands.next_into(&mut argv) {
                    Ok(Some(db)) => dealer.command(db, &argv, record.lsn).map_err(|(lsn, what)| failed(lsn, &what))?,
                    Ok(None) => break,
                    Err(_) => return Err(failed(record.lsn, "it holds no commands")),
                }
            }
            argv.clear();
            // In place: only the memory is kept.
            words = argv.into_iter().map(|_| Default::default()).collect();
        }
        records += 1;
        if records % LOOK_EVERY == 0 {
            engine.loading.loaded_bytes.store(before + reader.bytes_read(), Relaxed);
            if stopping() {
                return Err("Stopped while loading the data".into());
            }
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                let (percent, left_s) = engine.loading.progress(unix_ms() as i64 / 1000);
                log::notice(&format!("Loading: {percent:.0} %, about {left_s} seconds left"));
            }
        }
    }
    Ok(())
}

/// Where the data of a server with these settings is, for the operator.
pub fn describe(settings: &Settings, dir: &str) -> String {
    let log = PathBuf::from(dir).join(&settings.appenddirname);
    match (settings.appendonly, settings.save.is_empty()) {
        (true, _) => format!("Data is kept in {} (appendfsync {})", log.display(), settings.appendfsync.word()),
        (false, false) => format!("Data is saved to {}/{} from time to time", dir, settings.dbfilename),
        (false, true) => format!("Data is kept in memory only; files would be in {dir}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 1,000 syncs those that wait for all clients, if that takes as long as `in_time` says.
    fn waits_for_all(in_time: bool) -> u32 {
        let mut gathering = Gathering::default();
        let mut count = 0;
        for _ in 0..1_000 {
            let wanted = gathering.wanted(20, 50);
            assert!(wanted == Some(50) || wanted == Some(25));
            count += u32::from(wanted == Some(50));
            gathering.ended(in_time);
        }
        count
    }

    #[test]
    fn gathers_longer_where_that_makes_large_pieces() {
        let ms = Duration::from_millis;
        assert_eq!(gather_for(ms(1), 10_000), ms(1));
        assert_eq!(gather_for(ms(4), 4 * 10_000), ms(1));
        assert_eq!(gather_for(ms(1), 50_000), ms(4));
        assert_eq!(gather_for(ms(4), 4 * 50_000), ms(4));
        assert_eq!(gather_for(ms(1), 196_608), ms(2));
        assert_eq!(gather_for(ms(4), 4_000_000), ms(1));
    }

    #[test]
    fn waits_for_all_where_that_pays() {
        assert_eq!(waits_for_all(true), 1_000);
        assert!((5..30).contains(&waits_for_all(false)));
        let mut gathering = Gathering::default();
        assert_eq!(gathering.wanted(0, 1), None, "nobody else is there");
        gathering.ended(false);
        gathering.skip = 2;
        assert_eq!(gathering.wanted(25, 50), None, "half of them are there");
    }
}
