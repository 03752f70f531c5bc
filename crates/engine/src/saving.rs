//! Saving in the background: snapshots to `dump.rdb`, and new bases of the log.
//!
//! One job at a time. A job begins with the instant (`kelda_store::snapshot`), with every shard held: by the command that asks
//! for it, or by the thread that then writes it, [`Saves::serve`]. That thread is the server's; it is the only one that waits
//! here.
//!
//! Invariant: a snapshot that was begun is stepped to its end, even if nobody wants it any more or the disk fails, before
//! another one begins.

mod encoder;
mod file;
mod replicas;

use crate::command::Run;
use crate::config::Settings;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::rdb::Fact;
use crate::registry::Registered;
use crate::session::Session;
pub use encoder::RdbEncoder;
use file::{SnapshotFile, Target, put_head};
use kelda_log::aof::{Log, Rotation};
use kelda_log::disk::Disk;
use kelda_store::shard::{Guard, ShardSet};
use kelda_store::snapshot::{Backlog, Pauses, Piece, Preparation, Progress, Snapshot, Step};
use kelda_store::txn::{Key, Txn};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The file `dbfilename`: BGSAVE.
    Rdb,
    /// A new base of the log: BGREWRITEAOF.
    Base,
    /// Nothing: it is sent to replicas.
    Replicas,
}

impl Kind {
    /// What it is called in the log.
    fn name(self) -> &'static str {
        match self {
            Kind::Rdb => "Background saving",
            Kind::Base => "Background AOF rewrite",
            Kind::Replicas => "Background RDB transfer",
        }
    }
}

/// How the jobs of one kind have gone so far.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// Whether the last one succeeded. One that was cancelled does not count.
    pub ok: bool,
    /// How long it took, in seconds; -1 before the first.
    pub last_seconds: i64,
    /// How many were begun.
    pub count: u64,
    /// How many have failed since the last success.
    pub failures: u64,
    /// When the last one was begun, in seconds of the monotonic clock.
    tried_s: Option<u64>,
}

impl Default for History {
    fn default() -> History {
        History { ok: true, last_seconds: -1, count: 0, failures: 0, tried_s: None }
    }
}

/// A job that has its instant.
struct Begun {
    /// `None` for one without keys.
    snapshot: Option<Snapshot>,
    /// Changes up to the instant, since the server started.
    dirty: u64,
    /// The libraries of FUNCTION at the instant.
    libraries: Vec<Arc<[u8]>>,
    settings: Arc<Settings>,
    /// Of a new base: where the log goes on.
    rotation: Option<Rotation>,
    /// Where the snapshot stands in the history that replicas follow.
    history: Vec<Fact>,
}

struct Job {
    kind: Kind,
    /// When it was asked for, µs of the monotonic clock.
    since_us: u64,
    /// To be done by the thread: `None` if it has taken it, or has to begin it itself.
    begun: Option<Box<Begun>>,
    taken: bool,
    progress: Option<(Progress, usize)>,
    cancelled: bool,
}

#[derive(Default)]
struct State {
    job: Option<Job>,
    rdb_scheduled: bool,
    base_scheduled: bool,
    replicas_scheduled: bool,
    rdb: History,
    base: History,
    replicas: History,
    ending: bool,
    /// Whether nothing may begin for now.
    held: bool,
    /// Whether a thread serves.
    served: bool,
}

impl State {
    fn history(&mut self, kind: Kind) -> &mut History {
        match kind {
            Kind::Rdb => &mut self.rdb,
            Kind::Base => &mut self.base,
            Kind::Replicas => &mut self.replicas,
        }
    }
}

/// What INFO tells.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// The job under way, and for how many seconds.
    pub running: Option<(Kind, i64)>,
    /// Keys that it has written, and will have in all.
    pub keys: (usize, usize),
    /// Bytes that are held for it in memory.
    pub waiting_bytes: usize,
    /// Whether BGSAVE is scheduled.
    pub rdb_scheduled: bool,
    /// Whether BGREWRITEAOF is scheduled.
    pub base_scheduled: bool,
    /// BGSAVE so far.
    pub rdb: History,
    /// BGREWRITEAOF so far.
    pub base: History,
}

/// The engine's part in saving.
#[derive(Default)]
pub struct Saves {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether the last snapshot failed.
    failed: AtomicBool,
    /// Bytes of the log when it was last rewritten, or when the server started.
    log_bytes: AtomicU64,
    /// Bytes of the log's base.
    base_bytes: AtomicU64,
    /// What a snapshot keeps in memory because it was changed meanwhile.
    pub(crate) backlog: Arc<Backlog>,
    /// How long the last snapshot, or the one under way, kept others waiting.
    pauses: Mutex<Arc<Pauses>>,
}

pub(crate) const IN_PROGRESS: Error = Error::text("ERR Background save already in progress");
const NO_SAVING: Error = Error::text("ERR this server saves nothing: no thread does it");

/// How large a piece of a snapshot is, if tests want delays after each key, and otherwise.
fn piece(settings: &Settings) -> Piece {
    match settings.rdb_key_save_delay {
        0 => Piece::default(),
        _ => Piece { bytes: 1, entries: 1 },
    }
}

impl Saves {
    /// All that a snapshot needs before its instant.
    fn prepare(&self, engine: &Engine, settings: &Arc<Settings>) -> Preparation {
        /// Part of the memory in use that changes made meanwhile may take. What is on its way between shards and the thread that
        /// writes, what the allocator keeps of it, and what clients add in the same time come on top.
        const SHARE: usize = 100;
        /// Bytes that they may take in any case.
        const LEAST: usize = 8 << 20;
        self.backlog.set_max((engine.platform.used_memory() / SHARE).max(LEAST));
        let encoder = RdbEncoder::new(settings.clone(), engine.clock.unix_us() / 1000);
        let (clock, cpu_clock) = (engine.clock.clone(), engine.clock.clone());
        let pauses = Pauses::new(Box::new(move || clock.monotonic_us()), Box::new(move || cpu_clock.thread_us()));
        Preparation::new(Arc::new(encoder), self.backlog.clone(), Arc::new(pauses))
    }

    /// A snapshot is about to begin: from now on INFO tells of its pauses.
    fn note_pauses(&self, preparation: &Preparation) -> Arc<Pauses> {
        *self.pauses.lock().unwrap_or_else(PoisonError::into_inner) = preparation.pauses().clone();
        preparation.pauses().clone()
    }

    /// How long the last snapshot kept others waiting, or does so far.
    pub fn pauses(&self) -> Arc<Pauses> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// BGSAVE; what to reply. `txn` is the caller's, with every shard; `None` inside a transaction, where it is scheduled.
    pub(crate) fn bgsave(&self, engine: &Engine, txn: Option<&mut Txn>, schedule: bool) -> Result<&'static str> {
        let settings = engine.config.settings();
        let preparation = self.prepare(engine, &settings);
        let mut state = self.lock();
        if !state.served {
            return Err(NO_SAVING);
        }
        match (&state.job, txn) {
            (Some(Job { kind: Kind::Rdb, cancelled: true, .. }), _) => {
                // It is still being cleared away.
                state.rdb_scheduled = true;
                Ok("Background saving started")
            }
            (Some(Job { kind: Kind::Rdb, .. }), _) => Err(IN_PROGRESS),
            (None, Some(txn)) => {
                let pauses = self.note_pauses(&preparation);
                let timer = pauses.hold();
                let snapshot = txn.begin_snapshot(preparation, piece(&settings));
                drop(timer);
                let begun = Box::new(begin(engine, Some(snapshot), settings, None));
                self.put(engine, &mut state, Kind::Rdb, Some(begun));
                Ok("Background saving started")
            }
            (job, txn) if schedule || txn.is_none() => {
                let idle = job.is_none();
                state.rdb_scheduled = true;
                if idle {
                    self.changed.notify_all();
                }
                Ok("Background saving scheduled")
            }
            _ => Err(Error::text(
                "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule \
                 a BGSAVE whenever possible.",
            )),
        }
    }

    /// Gives up the job of this kind, if one is under way.
    fn give_up(&self, state: &mut State, kind: Kind) -> bool {
        let Some(job) = state.job.as_mut().filter(|job| job.kind == kind && !job.cancelled) else { return false };
        job.cancelled = true;
        if let Some((progress, _)) = &job.progress {
            progress.abandon();
        }
        self.changed.notify_all();
        true
    }

    /// Gives up what is under way, waits until it is cleared away, and has nothing begin until [`Saves::let_go`].
    pub(crate) fn hold(&self) {
        const LOOK_EVERY: Duration = Duration::from_millis(1);
        let mut state = self.lock();
        state.held = true;
        while state.job.is_some() && !state.ending {
            for kind in [Kind::Rdb, Kind::Base, Kind::Replicas] {
                self.give_up(&mut state, kind);
            }
            state = self.changed.wait_timeout(state, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What is asked for may begin again.
    pub(crate) fn let_go(&self) {
        self.lock().held = false;
        self.changed.notify_all();
    }

    /// The log is turned off: no new base is wanted.
    pub fn cancel_rewrite(&self) {
        let mut state = self.lock();
        state.base_scheduled = false;
        self.give_up(&mut state, Kind::Base);
    }

    /// All databases were flushed: a snapshot that is being written is of no use, and `save` rules want one of what is left.
    pub(crate) fn flushed(&self, settings: &Settings) {
        let mut state = self.lock();
        self.give_up(&mut state, Kind::Rdb);
        if state.served && !settings.save.is_empty() {
            state.rdb_scheduled = true;
            self.changed.notify_all();
        }
    }

    /// BGSAVE CANCEL; what to reply.
    pub(crate) fn cancel(&self) -> Result<&'static str> {
        let mut state = self.lock();
        if self.give_up(&mut state, Kind::Rdb) {
            return Ok("Background saving cancelled");
        }
        if std::mem::take(&mut state.rdb_scheduled) {
            return Ok("Scheduled background saving cancelled");
        }
        Err(Error::text("ERR Background saving is currently not in progress or scheduled"))
    }

    /// BGREWRITEAOF; what to reply. Inside a transaction it is scheduled.
    ///
    /// # Errors
    /// One is under way, or nobody does it.
    pub fn rewrite(&self, engine: &Engine, inside: bool) -> Result<&'static str> {
        let mut state = self.lock();
        if !state.served {
            return Err(NO_SAVING);
        }
        match &state.job {
            Some(Job { kind: Kind::Base, .. }) => {
                Err(Error::text("ERR Background append only file rewriting already in progress"))
            }
            None if !inside => {
                self.put(engine, &mut state, Kind::Base, None);
                Ok("Background append only file rewriting started")
            }
            _ => {
                state.base_scheduled = true;
                self.changed.notify_all();
                Ok("Background append only file rewriting scheduled")
            }
        }
    }

    /// Has the log rewritten once more, after whatever is under way: it was turned on.
    ///
    /// # Errors
    /// Nobody does it.
    pub fn rewrite_once_more(&self, engine: &Engine) -> Result {
        let mut state = self.lock();
        if !state.served {
            return Err(NO_SAVING);
        }
        match state.job {
            None if !state.held => self.put(engine, &mut state, Kind::Base, None),
            // What is under way may have begun before.
            _ => state.base_scheduled = true,
        }
        Ok(())
    }

    fn put(&self, engine: &Engine, state: &mut State, kind: Kind, begun: Option<Box<Begun>>) {
        let since_us = engine.clock.monotonic_us();
        let progress = begun.as_ref().and_then(|begun| begun.snapshot.as_ref()).map(tracked);
        state.job = Some(Job { kind, since_us, begun, taken: false, progress, cancelled: false });
        let history = state.history(kind);
        history.count += 1;
        history.tried_s = Some(since_us / 1_000_000);
        engine.platform.log(2, &format!("{} started", kind.name()));
        self.changed.notify_all();
    }

    /// Whether a job of this kind, or of any, is under way: nothing else may then take a snapshot.
    pub fn is_running(&self, kind: Option<Kind>) -> bool {
        self.lock().job.as_ref().is_some_and(|job| kind.is_none_or(|kind| job.kind == kind))
    }

    /// How it goes, for INFO.
    pub fn report(&self, engine: &Engine) -> Report {
        let state = self.lock();
        let now_us = engine.clock.monotonic_us();
        let job = state.job.as_ref().filter(|job| !job.cancelled);
        // One that was told to have started, though a cancelled one is still being cleared away.
        let next = state.job.as_ref().filter(|job| job.cancelled && job.kind == Kind::Rdb && state.rdb_scheduled);
        let next = next.map(|job| (job.kind, 0));
        let progress = job.and_then(|job| job.progress.as_ref());
        Report {
            running: job.map(|job| (job.kind, (now_us.saturating_sub(job.since_us) / 1_000_000) as i64)).or(next),
            keys: progress.map_or((0, 0), |(progress, total)| (progress.keys(), *total)),
            waiting_bytes: progress.map_or(0, |(progress, _)| progress.waiting_bytes()),
            rdb_scheduled: state.rdb_scheduled,
            base_scheduled: state.base_scheduled,
            rdb: state.rdb,
            base: state.base,
        }
    }

    /// Refuses writes while snapshots fail, if the configuration says so.
    ///
    /// # Errors
    /// Redis's text for it.
    #[inline]
    pub(crate) fn check(&self, settings: &Settings) -> Result {
        if !self.failed.load(Relaxed) || !settings.stop_writes_on_bgsave_error || settings.save.is_empty() {
            return Ok(());
        }
        Err(Error::text(
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that \
             may modify the data set are disabled, because this instance is configured to report errors during writes if RDB \
             snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB \
             error.",
        ))
    }

    /// Whether a command had better wait a moment (and be begun anew), because a snapshot keeps as much in memory as it should
    /// and would have to keep more. None waits for longer than about a millisecond: then memory has to yield.
    #[inline]
    pub(crate) fn hold_up(&self, engine: &Engine, session: &mut Session, adds: impl FnOnce() -> bool) -> bool {
        self.backlog.is_full() && hold_up(engine, session, adds())
    }

    /// Notes how a save in the foreground went.
    pub(crate) fn saved_in_foreground(&self, ok: bool) {
        self.failed.store(!ok, Relaxed);
        let mut state = self.lock();
        state.rdb.count += 1;
        state.rdb.ok = ok;
    }

    fn note_rdb(&self, engine: &Engine, ok: bool, dirty: u64) {
        self.failed.store(!ok, Relaxed);
        if ok {
            engine.dirty_at_save.store(dirty, Relaxed);
            engine.last_save.store(engine.clock.unix_us() / 1_000_000, Relaxed);
        }
    }

    /// Bytes of the log when it was last rewritten, or when the server started: automatic rewrites go by it.
    pub(crate) fn rewritten_bytes(&self) -> u64 {
        self.log_bytes.load(Relaxed)
    }

    /// Bytes of the log, its base included.
    pub(crate) fn log_bytes(&self, engine: &Engine) -> u64 {
        self.base_bytes.load(Relaxed) + engine.log.sink().map_or(0, |sink| sink.figures().increment_bytes)
    }

    /// The log has a base of this size: it has been rewritten, or was found at the start.
    fn note_base(&self, engine: &Engine, bytes: u64) {
        self.base_bytes.store(bytes, Relaxed);
        self.log_bytes.store(self.log_bytes(engine), Relaxed);
    }

    /// Begins what the `save` rules ask for, or the growth of the log. Called about ten times a second.
    pub(crate) fn cron(&self, engine: &Engine, settings: &Settings) {
        /// After a failure the rules rest for so long.
        const RETRY_S: u64 = 5;
        let mut state = self.lock();
        if !state.served || state.job.is_some() || state.ending || state.held {
            return;
        }
        let now_s = engine.clock.unix_us() / 1_000_000;
        let rested = |history: &History| {
            let since = |tried: u64| (engine.clock.monotonic_us() / 1_000_000).saturating_sub(tried);
            history.ok || history.tried_s.is_none_or(|tried| since(tried) > RETRY_S)
        };
        let dirty = engine.dirty_since_save();
        let age_s = (now_s - engine.last_save.load(Relaxed)).max(0) as u64;
        let due = settings.save.iter().find(|rule| dirty >= rule.changes && age_s > rule.seconds);
        if let Some(rule) = due
            && rested(&state.rdb)
        {
            engine.platform.log(2, &format!("{} changes in {} seconds. Saving...", rule.changes, rule.seconds));
            return self.put(engine, &mut state, Kind::Rdb, None);
        }
        let log_bytes = self.log_bytes(engine);
        if engine.log.is_on()
            && settings.auto_aof_rewrite_percentage != 0
            && log_bytes > settings.auto_aof_rewrite_min_size
            && rested(&state.base)
        {
            let growth = (log_bytes * 100 / self.rewritten_bytes().max(1)).saturating_sub(100);
            if growth >= settings.auto_aof_rewrite_percentage {
                engine.platform.log(2, &format!("Starting automatic rewriting of AOF on {growth}% growth"));
                self.put(engine, &mut state, Kind::Base, None);
            }
        }
    }

    /// Gives up what is under way, and has [`Saves::serve`] return.
    pub fn end(&self) {
        let mut state = self.lock();
        state.ending = true;
        if let Some((progress, _)) = state.job.as_ref().and_then(|job| job.progress.as_ref()) {
            progress.abandon();
        }
        self.changed.notify_all();
    }

    /// From now on jobs may be asked for: a thread is about to call [`Saves::serve`]. The data is there.
    pub fn open(&self, engine: &Engine) {
        self.note_base(engine, engine.log.sink().map_or(0, |sink| sink.figures().base_bytes));
        self.lock().served = true;
    }

    /// Does the jobs, until [`Saves::end`]. `log` is asked for the log whenever it is to be rewritten.
    pub fn serve(&self, engine: &Engine, disk: &dyn Disk, log: &dyn Fn() -> Option<Arc<Log>>) {
        while let Some((kind, begun)) = self.next(engine) {
            let log = if kind == Kind::Base { log() } else { None };
            let mut dirty = 0;
            let result = match kind {
                Kind::Replicas => self.send_to_replicas(engine, disk),
                _ => self.run(engine, disk, kind, begun, log.as_deref(), &mut dirty),
            };
            self.finish(engine, kind, result, dirty);
        }
    }

    /// Waits for the next job; `None` at the end.
    fn next(&self, engine: &Engine) -> Option<(Kind, Option<Box<Begun>>)> {
        let mut state = self.lock();
        loop {
            if state.ending {
                return None;
            }
            if state.job.is_none() && !state.held {
                if std::mem::take(&mut state.base_scheduled) {
                    self.put(engine, &mut state, Kind::Base, None);
                } else if std::mem::take(&mut state.rdb_scheduled) {
                    self.put(engine, &mut state, Kind::Rdb, None);
                } else if std::mem::take(&mut state.replicas_scheduled) {
                    self.put(engine, &mut state, Kind::Replicas, None);
                }
            }
            if let Some(job) = &mut state.job
                && !std::mem::replace(&mut job.taken, true)
            {
                return Some((job.kind, job.begun.take()));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self, engine: &Engine, kind: Kind, result: io::Result<()>, dirty: u64) {
        let mut state = self.lock();
        let Some(job) = state.job.take() else { return };
        let what = kind.name();
        let history = state.history(kind);
        history.last_seconds = (engine.clock.monotonic_us().saturating_sub(job.since_us) / 1_000_000) as i64;
        match &result {
            Ok(()) => engine.platform.log(2, &format!("{what} terminated with success")),
            Err(_) if job.cancelled => return engine.platform.log(3, &format!("{what} cancelled")),
            Err(error) => engine.platform.log(3, &format!("{what} error: {error}")),
        }
        history.ok = result.is_ok();
        history.failures = if history.ok { 0 } else { history.failures + 1 };
        drop(state);
        if kind == Kind::Rdb {
            self.note_rdb(engine, result.is_ok(), dirty);
        }
    }

    /// Waits, but not longer than until something changes. Whether the job is still wanted.
    fn pause(&self, us: u64) -> bool {
        let wanted = |state: &State| !state.ending && state.job.as_ref().is_some_and(|job| !job.cancelled);
        let state = self.lock();
        if us == 0 || !wanted(&state) {
            return wanted(&state);
        }
        let (state, _) =
            self.changed.wait_timeout(state, Duration::from_micros(us)).unwrap_or_else(PoisonError::into_inner);
        wanted(&state)
    }

    /// Does one job.
    fn run(
        &self,
        engine: &Engine,
        disk: &dyn Disk,
        kind: Kind,
        begun: Option<Box<Begun>>,
        log: Option<&Log>,
        dirty: &mut u64,
    ) -> io::Result<()> {
        let begun = match begun {
            Some(begun) => begun,
            None => Box::new(self.begin_here(engine, kind, log)?),
        };
        *dirty = begun.dirty;
        let rotation = begun.rotation;
        let target = match (rotation, log) {
            (Some(rotation), Some(log)) => log.base_path(rotation),
            _ => PathBuf::from(&begun.settings.dir).join(&begun.settings.dbfilename),
        };
        let file = SnapshotFile::create(disk, target, &begun.settings).map(|file| Box::new(file) as Box<dyn Target>);
        let result = self.write(engine, *begun, file);
        match (rotation, log) {
            (Some(rotation), Some(log)) => match result {
                Ok(bytes) => {
                    log.finish_rewrite(rotation, now_ms(engine)).map_err(io::Error::other)?;
                    self.note_base(engine, bytes);
                    Ok(())
                }
                Err(error) => {
                    log.abort_rewrite(rotation);
                    Err(error)
                }
            },
            _ => result.map(drop),
        }
    }

    /// Every shard, unless the job is given up first.
    fn lock_all<'k>(&self, engine: &'k Engine) -> io::Result<Guard<'k>> {
        /// Between two attempts.
        const RETRY_US: u64 = 100;
        loop {
            if let Some(guard) = engine.keyspace.lock(ShardSet::All) {
                return Ok(guard);
            }
            if !self.pause(RETRY_US) {
                return Err(cancelled());
            }
        }
    }

    /// Takes a job's instant on this thread.
    fn begin_here(&self, engine: &Engine, kind: Kind, log: Option<&Log>) -> io::Result<Begun> {
        let settings = engine.config.settings();
        let prepared = match (kind, log) {
            (Kind::Rdb | Kind::Replicas, _) => None,
            (Kind::Base, Some(log)) => Some(log.prepare_rotation(now_ms(engine)).map_err(io::Error::other)?),
            (Kind::Base, None) => return Err(io::Error::other("there is no log")),
        };
        let preparation = self.prepare(engine, &settings);
        let pauses = self.note_pauses(&preparation);
        let mut guard = self.lock_all(engine)?;
        let timer = pauses.hold();
        let rotation = match (prepared, log) {
            (Some(prepared), Some(log)) => {
                let rotation = log.rotate(prepared, now_ms(engine));
                // The first rewrite after `CONFIG SET appendonly yes` is where the log begins.
                engine.log.turn(settings.appendonly);
                Some(rotation)
            }
            _ => None,
        };
        let snapshot = Snapshot::begin(preparation, &mut guard, piece(&settings));
        let begun = begin(engine, Some(snapshot), settings, rotation);
        drop(guard);
        drop(timer);
        if let Some(job) = &mut self.lock().job {
            job.progress = begun.snapshot.as_ref().map(tracked);
        }
        Ok(begun)
    }

    /// Writes a snapshot to its end. Its length in bytes.
    fn write(&self, engine: &Engine, begun: Begun, mut file: io::Result<Box<dyn Target + '_>>) -> io::Result<u64> {
        let Begun { snapshot, libraries, rotation, history, .. } = begun;
        let Some(mut snapshot) = snapshot else {
            let mut file = file?;
            put_head(file.writer(), engine, rotation.is_some(), &history, &libraries, &[]);
            return file.finish();
        };
        match &mut file {
            Ok(file) => put_head(file.writer(), engine, rotation.is_some(), &history, &libraries, snapshot.sizes()),
            Err(_) => snapshot.progress().abandon(),
        }
        let mut out = Vec::new();
        let mut pace = Pace::default();
        let mut written = 0;
        let mut failure = None;
        let busy = |us| self.pause(us);
        loop {
            // Where many threads want few cores, this one had better begin a piece with a fresh slice of time than be put off
            // its core in the middle of it, with a shard held.
            std::thread::yield_now();
            let (begun_us, begun_cpu_us) = (engine.clock.monotonic_us(), engine.clock.thread_us());
            let step = snapshot.step(&engine.keyspace, &mut out);
            let took_us = engine.clock.monotonic_us().saturating_sub(begun_us);
            pace.note(took_us, engine.clock.thread_us().saturating_sub(begun_cpu_us));
            if step == Step::Complete {
                break;
            }
            let keys = snapshot.progress().keys();
            let fresh = std::mem::replace(&mut written, keys).abs_diff(keys);
            let wanted = match step {
                // A little patience: who has the shard may need this core.
                Step::Busy => busy(BUSY_US),
                _ if snapshot.is_abandoned() => true,
                _ if pace.rest_us() != 0 && !self.backlog.is_half_full() => {
                    self.pause(pace.rest_us()) && self.delay(engine, fresh)
                }
                _ => self.delay(engine, fresh),
            };
            if !wanted {
                snapshot.progress().abandon();
                failure.get_or_insert_with(cancelled);
            }
            if let Ok(file) = &mut file
                && let Err(error) = file.append(&mut out)
            {
                snapshot.progress().abandon();
                failure.get_or_insert(error);
            }
            out.clear();
            if self.lock().ending {
                // The process ends: nobody will take another snapshot.
                break;
            }
        }
        if snapshot.is_abandoned() {
            failure.get_or_insert_with(cancelled);
        }
        let mut file = file?;
        match failure {
            None => file.append(&mut out).and_then(|()| file.finish()),
            Some(error) => {
                file.remove();
                Err(error)
            }
        }
    }

    /// What tests ask for with `rdb-key-save-delay`. Whether the job is still wanted.
    fn delay(&self, engine: &Engine, keys: usize) -> bool {
        /// Looks at the setting again after so long.
        const LOOK_US: u64 = 20_000;
        let mut waited = 0;
        loop {
            let delay = engine.config.settings().rdb_key_save_delay;
            let wanted_us = match delay {
                0 => return self.pause(0),
                1.. => keys as u64 * delay as u64,
                _ => keys as u64 / delay.unsigned_abs(),
            };
            if waited >= wanted_us {
                return self.pause(0);
            }
            let step = (wanted_us - waited).min(LOOK_US);
            if !self.pause(step) {
                return false;
            }
            waited += step;
        }
    }
}

/// How much the thread that writes a snapshot leaves of the processor to others.
///
/// Where it is put off its core in the middle of its steps, more threads want cores than there are. It then rests after every few steps, for
/// longer and longer while that goes on: the system wakes the threads that serve clients at once if this one has little to
/// its account, and does not interrupt this one while it holds a shard.
#[derive(Default)]
struct Pace {
    steps: u32,
    took_us: u64,
    cpu_us: u64,
    rest_us: u64,
}

impl Pace {
    /// Steps between two decisions.
    const STEPS: u32 = 32;
    /// Steps between two rests: some hundred µs, of which the system's timers need fifty.
    const STEPS_A_REST: u32 = 4;
    /// By how much the rest grows, and how long it is at most: about as long as these steps take.
    const MORE_US: u64 = 25;
    const MOST_US: u64 = 150;

    /// A step has taken so long, and so much of a core.
    fn note(&mut self, took_us: u64, cpu_us: u64) {
        self.steps += 1;
        self.took_us += took_us;
        self.cpu_us += cpu_us;
        if self.steps == Pace::STEPS {
            let wanted = self.took_us > self.cpu_us + self.cpu_us / 8;
            let rest_us =
                if wanted { self.rest_us + Pace::MORE_US } else { self.rest_us.saturating_sub(Pace::MORE_US) };
            *self = Pace { rest_us: rest_us.min(Pace::MOST_US), ..Pace::default() };
        }
    }

    /// How long to rest after the step that was noted last.
    fn rest_us(&self) -> u64 {
        if self.steps.is_multiple_of(Pace::STEPS_A_REST) { self.rest_us } else { 0 }
    }
}

#[cold]
fn hold_up(engine: &Engine, session: &mut Session, adds: bool) -> bool {
    const PATIENCE_US: u64 = 800;
    let now_us = engine.clock.monotonic_us();
    let since_us = *session.held_up_us.get_or_insert(now_us);
    let waits = adds && now_us.saturating_sub(since_us) < PATIENCE_US;
    if !waits {
        session.held_up_us = None;
    }
    waits
}

/// Whether a command would have a snapshot keep more in memory. `txn` holds its keys.
pub(crate) fn adds_to_backlog(txn: &Txn, command: &Registered, words: &[&[u8]]) -> bool {
    let mut adds = false;
    if command.writes || matches!(command.command.run, Run::Script(_)) {
        command.find_keys(words, &mut |at, _| {
            adds |= words.get(at).is_some_and(|key| txn.adds_to_backlog(Key::new(key)));
        });
    }
    adds
}

/// How long the thread rests when it meets a busy shard.
const BUSY_US: u64 = 50;

fn cancelled() -> io::Error {
    io::Error::other("cancelled")
}

fn now_ms(engine: &Engine) -> u64 {
    (engine.clock.unix_us() / 1000).max(0) as u64
}

fn tracked(snapshot: &Snapshot) -> (Progress, usize) {
    (snapshot.progress(), snapshot.sizes().iter().map(|(keys, _)| keys).sum())
}

/// What belongs to the instant of a snapshot that was just begun: every shard is still held.
fn begin(engine: &Engine, snapshot: Option<Snapshot>, settings: Arc<Settings>, rotation: Option<Rotation>) -> Begun {
    let libraries = engine.functions.current().iter().map(|library| library.code.clone()).collect();
    let dirty = engine.total(|stats| stats.dirty.get());
    let history = if rotation.is_none() { engine.replication.facts() } else { Vec::new() };
    Begun { snapshot, dirty, libraries, settings, rotation, history }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_while_others_want_the_core() {
        let mut pace = Pace::default();
        let steps = |pace: &mut Pace, took_us| (0..Pace::STEPS).for_each(|_| pace.note(took_us, 80));
        steps(&mut pace, 85);
        assert_eq!(pace.rest_us(), 0, "alone");
        steps(&mut pace, 300);
        assert_eq!(pace.rest_us(), Pace::MORE_US);
        (0..20).for_each(|_| steps(&mut pace, 300));
        assert_eq!(pace.rest_us(), Pace::MOST_US);
        (0..20).for_each(|_| steps(&mut pace, 80));
        assert_eq!(pace.rest_us(), 0);
    }
}
