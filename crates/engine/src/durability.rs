//! What the engine knows of the log: whether changes go there, how far they are on disk, who waits for that, and whether
//! writes are refused because the log cannot take them.
//!
//! Invariants: a change that is made while the log is on is handed to it before its shards are given back; a session whose
//! replies must be durable gets none of them before [`ChangeSink::durable_lsn`] has reached what they tell (`Worker::hold`).
//! The log is turned on and off by whoever holds every shard, so that it sees all changes from one moment on.

use crate::backup::BackupFiles;
use crate::config::AppendFsync;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::worker::{Fate, Worker};
use kelda_store::sync::{AtomicBool, Ordering};
use kelda_store::txn::Changes;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Number of a transaction in the log: 1, 2, 3 …
pub type Lsn = u64;

/// Takes the changes of transactions, in commit order.
pub trait ChangeSink: Send + Sync {
    /// The changes of one transaction, while its shards are still held; there is at least one. Its place in the log.
    fn commit(&self, changes: &Changes) -> Lsn;

    /// All transactions up to this one are on disk. Never goes back.
    fn durable_lsn(&self) -> Lsn {
        Lsn::MAX
    }

    /// The last transaction that [`ChangeSink::commit`] numbered.
    fn last_lsn(&self) -> Lsn {
        0
    }

    /// Called after a batch of transactions, from time to time if there were none: has what was committed so far written,
    /// and, if `durable`, made durable without delay. Returns at once.
    fn get_on(&self, durable: bool) {
        let _ = durable;
    }

    /// Called after the commands of one strict session: has what was committed so far made durable if it is as much as was waited
    /// for. A turn of an event loop may bring much more. Returns at once.
    fn gathered(&self) {}

    /// Figures for INFO.
    fn figures(&self) -> Figures {
        Figures::default()
    }

    /// Who makes backups of it, if it has files.
    fn backups(&self) -> Option<&dyn BackupFiles> {
        None
    }

    /// Makes what was committed so far durable, or finds that it cannot be. May take long.
    fn sync_now(&self) {}

    /// All data was replaced by other data that the log knows nothing of, with the log turned off: has it begin anew, by a rewrite
    /// in the background. What it had before is what a restart finds until that is done.
    fn begin_anew(&self) {}

    /// Forgets all data and reads it anew from the log: DEBUG LOADAOF. The caller holds no shard. May take long.
    ///
    /// # Errors
    /// Why it is not done, or could not be: then there is no telling what is there.
    fn reload(&self) -> std::result::Result<(), String> {
        Err("there is no log".into())
    }
}

/// What INFO tells of the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Size of the state that the log builds on.
    pub base_bytes: u64,
    /// Size of what was appended since.
    pub increment_bytes: u64,
    /// Bytes that wait to be written.
    pub buffered_bytes: u64,
    /// The last transaction.
    pub last_lsn: Lsn,
    /// The last that is with the system: it survives the end of the process, not of the machine.
    pub written_lsn: Lsn,
    /// The last that is on disk.
    pub durable_lsn: Lsn,
    /// Whether it was just turned on and has no state to build on yet: with the process all would be lost.
    pub begins: bool,
}

/// Whether the log takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Good,
    /// It does not, but may again: the disk is full, say. What waits to be durable goes on waiting.
    Stalled,
    /// What was committed and is not durable will never be: who waits for it is cut off.
    Broken,
}

/// What a session is told while its commands run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tellings {
    /// Whether it must not be told what is not durable.
    pub strict: bool,
    /// The newest transaction that it was told of: all that it looked at if it is strict, else what it made.
    pub told_lsn: Lsn,
    /// The last transaction that it made.
    pub made_lsn: Lsn,
    /// Where what replicas are fed ended after that.
    pub fed: u64,
}

impl Tellings {
    /// Begins for another session; what was there.
    pub fn begin(&mut self, strict: bool) -> Tellings {
        std::mem::replace(self, Tellings { strict, ..Tellings::default() })
    }

    #[inline]
    pub fn tell(&mut self, lsn: Lsn) {
        self.told_lsn = self.told_lsn.max(lsn);
    }
}

/// The engine's view of the log.
pub struct Durability {
    sink: Option<Arc<dyn ChangeSink>>,
    on: AtomicBool,
    /// A `Health`.
    health: AtomicU8,
    /// Why it is not good, as the system says it.
    why: Mutex<String>,
    /// Workers with sessions that wait for the log to get on.
    waiting: Vec<AtomicBool>,
    /// How many sessions asked for more durability than the rest.
    pub(crate) demanding: AtomicU64,
}

impl Durability {
    pub(crate) fn new(sink: Option<Arc<dyn ChangeSink>>, workers: usize) -> Durability {
        Durability {
            on: AtomicBool::new(sink.is_some()),
            sink,
            health: AtomicU8::new(Health::Good as u8),
            why: Mutex::default(),
            waiting: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            demanding: AtomicU64::new(0),
        }
    }

    /// Whether changes go to the log. Exact for those who hold a shard.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Turns the log on or off; the caller holds every shard, or no command runs yet.
    pub fn turn(&self, on: bool) {
        self.on.store(on && self.sink.is_some(), Ordering::Relaxed);
    }

    /// Who takes the changes.
    pub fn sink(&self) -> Option<&dyn ChangeSink> {
        self.sink.as_deref()
    }

    #[inline]
    pub(crate) fn commit(&self, changes: &Changes) -> Lsn {
        self.sink.as_ref().map_or(0, |sink| sink.commit(changes))
    }

    /// All transactions up to this one are on disk.
    pub fn durable_lsn(&self) -> Lsn {
        self.sink.as_ref().map_or(Lsn::MAX, |sink| sink.durable_lsn())
    }

    /// Whether the log takes writes.
    #[inline]
    pub fn health(&self) -> Health {
        match self.health.load(Relaxed) {
            0 => Health::Good,
            1 => Health::Stalled,
            _ => Health::Broken,
        }
    }

    /// Notes whether the log takes writes, and why not. The caller then wakes the workers
    /// ([`crate::engine::Engine::log_progressed`]).
    pub fn set_health(&self, health: Health, why: &str) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why.into();
        self.health.store(health as u8, Relaxed);
    }

    /// Refuses writes that the log cannot take.
    ///
    /// # Errors
    /// Redis's text for it.
    #[inline]
    pub(crate) fn check(&self) -> Result {
        if self.health.load(Relaxed) == Health::Good as u8 || !self.is_on() { Ok(()) } else { Err(self.refusal()) }
    }

    #[cold]
    fn refusal(&self) -> Error {
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        Error::owned(format!("MISCONF Errors writing to the AOF file: {why}"))
    }

    /// Says that a worker is to be woken when the log gets on. The caller then looks at [`Durability::durable_lsn`] once more.
    pub(crate) fn await_progress(&self, worker: usize) {
        if let Some(waiting) = self.waiting.get(worker) {
            // Sequentially consistent, as the swap below: either the log's thread sees the flag, or this thread sees how far
            // the log has got.
            waiting.store(true, Ordering::SeqCst);
        }
    }

    /// The workers to wake, since the log has got on.
    pub(crate) fn take_waiting(&self) -> impl Iterator<Item = usize> + '_ {
        let waits = |waiting: &AtomicBool| waiting.swap(false, Ordering::SeqCst);
        self.waiting.iter().enumerate().filter(move |(_, waiting)| waits(waiting)).map(|(worker, _)| worker)
    }
}

impl Worker {
    /// Whether a session must not be told what is not durable.
    #[inline]
    pub(crate) fn is_strict(&self, session: &Session) -> bool {
        session.durability.unwrap_or(self.settings.appendfsync) == AppendFsync::Always
    }

    /// Refuses writes that the log cannot take, those made while snapshots fail, and those that have fewer replicas than
    /// `min-replicas-to-write` asks for.
    ///
    /// # Errors
    /// Redis's texts for them.
    #[inline]
    pub(crate) fn check_writes(&self) -> Result {
        if self.follows || self.replays {
            return self.check_role();
        }
        self.engine.log.check()?;
        self.engine.saves.check(&self.settings)?;
        match self.settings.min_replicas_to_write {
            0 => Ok(()),
            wanted if self.engine.replication.good() >= wanted => Ok(()),
            // The settings may have changed since they were counted.
            wanted if self.engine.replication.count_good(&self.settings, self.now_ms()) >= wanted => Ok(()),
            _ => Err(Error::text("NOREPLICAS Not enough good replicas to write.")),
        }
    }

    /// Whether only the master may write here.
    #[inline]
    pub(crate) fn is_read_only(&self) -> bool {
        self.follows && self.settings.replica_read_only && !self.replays
    }

    #[cold]
    fn check_role(&self) -> Result {
        if self.replays {
            return Ok(());
        }
        if self.is_read_only() {
            return Err(Error::text("READONLY You can't write against a read only replica."));
        }
        self.engine.log.check()?;
        self.engine.saves.check(&self.settings)
    }

    /// Refuses commands that need data of which this replica does not know how old it is (`replica-serve-stale-data`).
    ///
    /// # Errors
    /// Redis's text for it.
    #[cold]
    pub(crate) fn check_link(&self) -> Result {
        if self.settings.replica_serve_stale_data || self.engine.following.is_up() || !self.follows || self.replays {
            return Ok(());
        }
        Err(Error::text("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."))
    }

    /// CLIENT DURABILITY.
    pub(crate) fn set_durability(&mut self, session: &mut Session, wanted: Option<AppendFsync>) {
        let demanding = |durability: Option<AppendFsync>| u64::from(durability == Some(AppendFsync::Always));
        let count = &self.engine.log.demanding;
        count.fetch_add(demanding(wanted), Relaxed);
        count.fetch_sub(demanding(session.durability), Relaxed);
        session.durability = wanted;
    }

    /// Holds back what a session's output has from `start` on, until transaction `lsn` is durable.
    #[inline]
    pub(crate) fn hold(&mut self, session: &mut Session, lsn: Lsn, start: usize) {
        if lsn > self.engine.log.durable_lsn() {
            self.hold_back(session, lsn, start);
        }
    }

    fn hold_back(&mut self, session: &mut Session, lsn: Lsn, start: usize) {
        if let Some(sink) = self.engine.log.sink() {
            sink.gathered();
        }
        let held = !session.holds.is_empty();
        session.hold(lsn, start);
        if !held && !session.holds.is_empty() {
            self.holding.push(session.at);
            self.engine.log.await_progress(self.index);
        }
        self.sync_wanted = true;
        if self.engine.log.health() == Health::Broken {
            // It will never be durable, and nothing that is not may be told.
            session.fate = Fate::Close;
        }
    }

    /// Lets the output go whose transactions have become durable, and cuts those off whose never will.
    pub(crate) fn release_held(&mut self) {
        // In this order: what broke the log came after all that was durable.
        let broken = self.engine.log.health() == Health::Broken;
        let durable = self.engine.log.durable_lsn();
        for at in std::mem::take(&mut self.holding) {
            let Some(place) = self.sessions.get_mut(at.slot) else { continue };
            let Some(session) = place else {
                // It is running a command, further out in this turn.
                self.holding.push(at);
                continue;
            };
            if session.at.id != at.id {
                continue;
            }
            let released = session.release(durable);
            if !session.holds.is_empty() {
                self.holding.push(at);
                if broken {
                    session.fate = Fate::Close;
                }
            }
            if released || broken {
                self.touched.push(at.slot);
            }
        }
    }

    /// The server ends: makes durable what the output tells of, so that it can be sent.
    pub fn settle(&mut self) {
        if let Some(sink) = self.engine.log.sink()
            && !self.holding.is_empty()
        {
            sink.sync_now();
            self.release_held();
        }
    }

    /// Whether output that is held back may be let go now.
    pub(crate) fn may_release(&self) -> bool {
        if self.holding.is_empty() && self.awaiting_log.is_empty() {
            return false;
        }
        let durable = self.engine.log.durable_lsn();
        let may = |session: &Session| {
            let log = session.blocked.as_ref().and_then(|blocked| blocked.log);
            session.holds.front().is_some_and(|hold| hold.lsn <= durable)
                || log.is_some_and(|wait| self.log_state(&wait).0)
        };
        let mut sessions = self.holding.iter().chain(&self.awaiting_log);
        sessions.any(|at| self.session(at.slot).is_some_and(may))
    }
}
