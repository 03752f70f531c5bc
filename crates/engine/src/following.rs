//! Following another server: what this server is while it is a replica.
//!
//! REPLICAOF notes whom to follow. A thread of its own then connects, says who it is, and gets a snapshot if it must (`link`);
//! nobody waits for it. Then the connection becomes a session of some worker, which applies what comes (`stream`). When it
//! ends, cron begins anew: from the place that was reached, if the other side still has what follows it.
//!
//! Invariants: the history that the feed ([`crate::replication`]) has while this server follows is that of its master, byte for
//! byte, up to the last command applied: so the end of the feed is the place from which to go on, and replicas of this server
//! share the history. Before a link is made, and before old data goes, every worker has noticed what this server is
//! ([`Following::await_workers`]): nobody writes any more then, and nobody reads what is half there.

mod link;
mod local;
mod stream;

use crate::engine::Engine;
use crate::mailbox::{Message, SessionRef};
use link::Attempt;
use local::LocalKeys;
pub(crate) use local::note as note_local;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
pub(crate) use stream::{Applying, Master, run};

/// How long to wait after an attempt that failed, in ms.
const RETRY_MS: i64 = 1000;

/// How far the link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It is to be made.
    Connect,
    /// It is being made.
    Connecting,
    /// This server says who it is.
    Handshake,
    /// A snapshot comes, or is loaded.
    Sync,
    /// What the master does is applied.
    Connected,
}

impl LinkState {
    /// ROLE's word for it.
    pub fn word(self) -> &'static str {
        match self {
            LinkState::Connect => "connect",
            LinkState::Connecting => "connecting",
            LinkState::Handshake => "handshake",
            LinkState::Sync => "sync",
            LinkState::Connected => "connected",
        }
    }
}

/// A snapshot on its way here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transfer {
    /// Its size in bytes, if that was told.
    pub total: Option<u64>,
    /// Bytes that have come.
    pub read: u64,
}

/// A connection on its way from the thread that made it to the worker that will drive it.
struct Handover {
    generation: u64,
    /// What was read of it and is to be applied.
    input: Vec<u8>,
    /// The database that the master is in.
    db: u32,
    /// Whether the master wants to be told how far this server is: it was asked with PSYNC.
    acknowledges: bool,
}

struct Inner {
    master: Option<(String, u16)>,
    state: LinkState,
    /// The session whose other end is the master.
    session: Option<SessionRef>,
    handover: Option<Handover>,
    transfer: Option<Transfer>,
    /// Whether what is here may differ from what the master had, so that only a snapshot will do.
    strayed: bool,
    /// When to try next, Unix ms.
    next_try_ms: i64,
    /// Since when the link is down, Unix ms; 0 if it has not been up.
    down_since_ms: i64,
}

/// What INFO and ROLE tell.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whom this server follows.
    pub host: String,
    /// See `host`.
    pub port: u16,
    /// How far the link is.
    pub state: LinkState,
    /// When the master last sent something, Unix ms.
    pub last_io_ms: i64,
    /// The snapshot that is coming.
    pub transfer: Option<Transfer>,
    /// Since when the link is down, Unix ms; 0 if it has never been up.
    pub down_since_ms: i64,
    /// Bytes that were received and not applied yet.
    pub read_ahead: u64,
}

/// The server that this one follows, if any.
pub struct Following {
    on: AtomicBool,
    up: AtomicBool,
    /// Moves with each REPLICAOF: what began before it is void.
    generation: AtomicU64,
    last_io_ms: AtomicI64,
    read_ahead: AtomicU64,
    /// Errors that commands of the master met with.
    pub errors: AtomicU64,
    /// Keys that go without the master.
    pub local: LocalKeys,
    inner: Mutex<Inner>,
}

/// Counts who has yet to notice something.
pub struct Notices {
    left: Mutex<usize>,
    none_left: Condvar,
}

impl Notices {
    /// A worker has noticed.
    pub(crate) fn heed(&self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.none_left.notify_all();
        }
    }
}

impl Following {
    /// As `replicaof` says: `host port`, or empty for nobody.
    pub(crate) fn new(replicaof: &str) -> Following {
        let master = replicaof.rsplit_once(' ').and_then(|(host, port)| Some((host.to_string(), port.parse().ok()?)));
        Following {
            on: AtomicBool::new(master.is_some()),
            up: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            last_io_ms: AtomicI64::new(0),
            read_ahead: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            local: LocalKeys::default(),
            inner: Mutex::new(Inner {
                master,
                state: LinkState::Connect,
                session: None,
                handover: None,
                transfer: None,
                strayed: false,
                next_try_ms: 0,
                down_since_ms: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this server is a replica.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Whether what the master does is applied here.
    #[inline]
    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    fn is_current(&self, generation: u64) -> bool {
        self.generation.load(Relaxed) == generation && self.is_on()
    }

    /// How it stands; `None` if this server follows nobody.
    pub fn report(&self) -> Option<Report> {
        let inner = self.lock();
        let (host, port) = inner.master.clone()?;
        Some(Report {
            host,
            port,
            state: inner.state,
            last_io_ms: self.last_io_ms.load(Relaxed),
            transfer: inner.transfer,
            down_since_ms: inner.down_since_ms,
            read_ahead: self.read_ahead.load(Relaxed),
        })
    }

    /// Writes a line about the master to the log.
    pub(crate) fn note(&self, engine: &Engine, level: u8, text: &str) {
        engine.platform.log(level, &engine.config.settings().dialect.notes(text));
    }

    // ---- REPLICAOF

    /// Follows a server from now on. `false` if this one does already.
    pub(crate) fn follow(&self, engine: &Arc<Engine>, host: &str, port: u16) -> bool {
        let mut inner = self.lock();
        if inner.master.as_ref().is_some_and(|(have, at)| have.eq_ignore_ascii_case(host) && *at == port) {
            return false;
        }
        let was_master = inner.master.is_none();
        inner.master = Some((host.to_string(), port));
        self.part(engine, &mut inner);
        if was_master {
            inner.down_since_ms = 0;
        }
        self.on.store(true, Relaxed);
        drop(inner);
        engine.config.set_master(Some((host, port)));
        for worker in 0..engine.worker_count() {
            engine.mailbox(worker).iter().for_each(|mailbox| mailbox.post(Message::UnblockAll));
        }
        true
    }

    /// Follows nobody from now on. `false` if this server does not.
    pub(crate) fn lead(&self, engine: &Arc<Engine>) -> bool {
        let mut inner = self.lock();
        if inner.master.take().is_none() {
            return false;
        }
        self.part(engine, &mut inner);
        // What was here stays, wherever the history of old went on to.
        inner.strayed = false;
        self.local.clear();
        // In this order: what is written from here on is in the history.
        engine.replication.lead(engine);
        self.on.store(false, Relaxed);
        drop(inner);
        engine.config.set_master(None);
        true
    }

    /// Ends the link to the server that was followed, or the attempt to make one.
    fn part(&self, engine: &Engine, inner: &mut Inner) {
        self.generation.fetch_add(1, Relaxed);
        self.up.store(false, Relaxed);
        (inner.state, inner.next_try_ms, inner.transfer, inner.handover) = (LinkState::Connect, 0, None, None);
        if let Some(at) = inner.session.take() {
            engine.mailbox(at.worker).iter().for_each(|mailbox| mailbox.post(Message::Kill { session: at }));
        }
    }

    // ---- the link

    /// Makes a link if there should be one. Called about ten times a second, and by REPLICAOF.
    pub(crate) fn cron(&self, engine: &Arc<Engine>) {
        if !self.is_on() {
            return;
        }
        let now_ms = engine.clock.unix_us() / 1000;
        let mut inner = self.lock();
        // At the start the data comes first.
        let due = inner.state == LinkState::Connect && now_ms >= inner.next_try_ms && !engine.loading.is_active();
        let Some((host, port)) = inner.master.clone().filter(|_| due) else { return };
        inner.state = LinkState::Connecting;
        let generation = self.generation.load(Relaxed);
        drop(inner);
        let shared = engine.clone();
        engine.platform.in_background("replica", Box::new(move || Attempt::run(&shared, generation, host, port)));
    }

    /// An attempt goes on with its next step, unless it is void.
    fn step(&self, generation: u64, state: LinkState) {
        let mut inner = self.lock();
        if self.is_current(generation) {
            inner.state = state;
        }
    }

    fn note_transfer(&self, generation: u64, transfer: Option<Transfer>) {
        let mut inner = self.lock();
        if self.is_current(generation) {
            inner.transfer = transfer;
        }
    }

    /// An attempt has failed.
    fn failed(&self, engine: &Engine, generation: u64) {
        let mut inner = self.lock();
        if self.is_current(generation) {
            inner.state = LinkState::Connect;
            (inner.transfer, inner.handover) = (None, None);
            inner.next_try_ms = engine.clock.unix_us() / 1000 + RETRY_MS;
        }
    }

    /// Waits until every worker goes by what is known now: what this server is, and whether it is loading. Whether they all do:
    /// not if the process ends.
    pub(crate) fn await_workers(&self, engine: &Engine) -> bool {
        const LOOK_EVERY: Duration = Duration::from_millis(100);
        let notices = Arc::new(Notices { left: Mutex::new(0), none_left: Condvar::new() });
        let mut left = notices.left.lock().unwrap_or_else(PoisonError::into_inner);
        for mailbox in (0..engine.worker_count()).filter_map(|worker| engine.mailbox(worker)) {
            *left += 1;
            mailbox.post(Message::Notice { to: notices.clone() });
        }
        while *left != 0 {
            if engine.platform.is_ending() {
                return false;
            }
            left = notices.none_left.wait_timeout(left, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
