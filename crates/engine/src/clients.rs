//! The register of connected clients, for CLIENT LIST, KILL and `maxclients`. A session's own thread writes its entry;
//! any thread reads it.

use crate::mailbox::SessionRef;
use crate::worker::Peer;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The texts that a client gives itself.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO lib-name.
    pub lib_name: String,
    /// CLIENT SETINFO lib-ver.
    pub lib_version: String,
    /// The authenticated user.
    pub user: String,
}

/// The channels, patterns and shard channels that a session listens to.
pub type Subscribed = [BTreeSet<Box<[u8]>>; 3];

/// What other threads may know of a client.
pub struct ClientInfo {
    /// Where it lives.
    pub at: SessionRef,
    /// Its connection.
    pub peer: Peer,
    /// When it connected, Unix ms.
    pub connected_ms: i64,
    /// When it last sent a command, Unix ms.
    pub active_ms: AtomicI64,
    /// Its database.
    pub db: AtomicU32,
    /// RESP version.
    pub resp: AtomicU32,
    /// `Registered::id` of its last command plus one; 0 before the first.
    pub command: AtomicUsize,
    /// Channels, patterns and shard channels that it is subscribed to.
    pub subscriptions: [AtomicUsize; 3],
    /// Commands queued by MULTI; -1 outside.
    pub queued: AtomicI64,
    /// Keys watched.
    pub watched: AtomicUsize,
    /// Bytes that MULTI has queued.
    pub queued_bytes: AtomicUsize,
    /// Bytes of what it watches and listens to, about.
    pub kept_bytes: AtomicUsize,
    /// Its part of [`Clients::counted`].
    pub counted: AtomicUsize,
    /// Bytes of arguments of a command that is not complete.
    pub argument_bytes: AtomicUsize,
    /// Bytes of input behind those.
    pub input_bytes: AtomicUsize,
    /// Bytes of room for the rest of a command that is not complete.
    pub input_room: AtomicUsize,
    /// Bytes of unsent output.
    pub output_bytes: AtomicUsize,
    /// Bytes that their buffer takes besides.
    pub output_room: AtomicUsize,
    /// Bytes that the output's buffer takes, of a replica.
    pub replica_buffer: AtomicUsize,
    /// Bytes received and sent, and commands run, in all.
    pub totals: [AtomicU64; 3],
    /// Whether CLIENT KILL asked for its end.
    pub killed: AtomicBool,
    /// Whether it is blocked.
    pub blocked: AtomicBool,
    /// Whether CLIENT PAUSE holds it back.
    pub paused: AtomicBool,
    /// MONITOR.
    pub monitor: AtomicBool,
    /// CLIENT TRACKING,
    pub tracking: AtomicBool,
    /// with BCAST,
    pub broadcast: AtomicBool,
    /// with REDIRECT to this client (0: none; -1: no tracking),
    pub redirect: AtomicI64,
    /// which is gone.
    pub redirect_broken: AtomicBool,
    /// Whether it is a replica.
    pub replica: AtomicBool,
    /// Whether its other end is the server that this one follows.
    pub master: AtomicBool,
    /// CLIENT NO-EVICT.
    pub no_evict: AtomicBool,
    /// CLIENT IMPORT-SOURCE.
    pub import_source: AtomicBool,
    /// CLIENT NO-TOUCH.
    pub no_touch: AtomicBool,
    /// CLIENT CAPA redirect.
    pub redirects: AtomicBool,
    labels: Mutex<Labels>,
    subscribed: Mutex<Subscribed>,
}

impl ClientInfo {
    /// The entry of a client just connected.
    pub fn new(at: SessionRef, peer: Peer, now_ms: i64) -> ClientInfo {
        ClientInfo {
            at,
            peer,
            connected_ms: now_ms,
            active_ms: AtomicI64::new(now_ms),
            db: AtomicU32::new(0),
            resp: AtomicU32::new(2),
            command: AtomicUsize::new(0),
            subscriptions: Default::default(),
            queued: AtomicI64::new(-1),
            watched: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            kept_bytes: AtomicUsize::new(0),
            counted: AtomicUsize::new(0),
            argument_bytes: AtomicUsize::new(0),
            input_bytes: AtomicUsize::new(0),
            input_room: AtomicUsize::new(0),
            output_bytes: AtomicUsize::new(0),
            output_room: AtomicUsize::new(0),
            replica_buffer: AtomicUsize::new(0),
            totals: Default::default(),
            killed: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            monitor: AtomicBool::new(false),
            tracking: AtomicBool::new(false),
            broadcast: AtomicBool::new(false),
            redirect: AtomicI64::new(-1),
            redirect_broken: AtomicBool::new(false),
            replica: AtomicBool::new(false),
            master: AtomicBool::new(false),
            no_evict: AtomicBool::new(false),
            import_source: AtomicBool::new(false),
            no_touch: AtomicBool::new(false),
            redirects: AtomicBool::new(false),
            labels: Mutex::new(Labels { user: "default".into(), ..Labels::default() }),
            subscribed: Mutex::default(),
        }
    }

    /// What it listens to; only its own thread changes that.
    pub fn subscribed(&self) -> MutexGuard<'_, Subscribed> {
        self.subscribed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its texts, to read or change.
    pub fn labels(&self) -> MutexGuard<'_, Labels> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All clients.
#[derive(Default)]
pub struct Clients {
    by_id: Mutex<BTreeMap<u64, Arc<ClientInfo>>>,
    last_id: AtomicU64,
    count: AtomicUsize,
    /// How many are blocked.
    pub blocked: AtomicUsize,
    /// Bytes that they hold, as of when each was last looked at; kept up while `maxmemory-clients` limits it.
    pub counted: AtomicI64,
    /// What they held after the last eviction of clients.
    pub left_by_eviction: AtomicI64,
    /// Held by whoever evicts clients.
    pub evicting: Mutex<()>,
}

impl Clients {
    /// An id never used before.
    pub fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Relaxed) + 1
    }

    /// How many are connected.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<ClientInfo>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a client, unless there are `max` already.
    pub fn add(&self, info: Arc<ClientInfo>, max: usize) -> bool {
        let mut clients = self.lock();
        if clients.len() >= max {
            return false;
        }
        clients.insert(info.at.id, info);
        self.count.store(clients.len(), Relaxed);
        true
    }

    /// Counts a client for so many bytes from now on; what all count for.
    pub(crate) fn recount(&self, info: &ClientInfo, bytes: usize) -> i64 {
        let change = bytes as i64 - info.counted.swap(bytes, Relaxed) as i64;
        self.counted.fetch_add(change, Relaxed) + change
    }

    /// Takes a client out whose connection is closed.
    pub fn remove(&self, info: &ClientInfo) {
        self.leave(info.at.id);
        info.killed.store(true, Relaxed);
        self.recount(info, 0);
    }

    /// Lets nobody find a client any more that is about to be told that it may go.
    pub fn leave(&self, id: u64) {
        let mut clients = self.lock();
        clients.remove(&id);
        self.count.store(clients.len(), Relaxed);
    }

    /// The client of this id.
    pub fn get(&self, id: u64) -> Option<Arc<ClientInfo>> {
        self.lock().get(&id).cloned()
    }

    /// All clients, by id.
    pub fn all(&self) -> Vec<Arc<ClientInfo>> {
        self.lock().values().cloned().collect()
    }
}

/// What else has writes wait, besides CLIENT PAUSE.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Holder {
    /// FAILOVER.
    Failover = 1,
    /// SHUTDOWN.
    Shutdown = 2,
}

/// CLIENT PAUSE: until when which commands of all clients wait.
#[derive(Default)]
pub struct Pause {
    /// Unix ms; 0 when there is none.
    until_ms: AtomicI64,
    /// Whether reads wait as well.
    all: AtomicBool,
    /// For what else writes wait, without an end: bits of [`Holder`].
    held_for: AtomicU8,
}

impl Pause {
    /// How often who waits without an end looks anew, in ms.
    const LOOK_EVERY_MS: i64 = 10;

    /// Something begins that has writes wait, or is over.
    pub(crate) fn hold(&self, holder: Holder, begins: bool) {
        if begins {
            self.held_for.fetch_or(holder as u8, Relaxed);
        } else {
            self.held_for.fetch_and(!(holder as u8), Relaxed);
        }
    }

    /// INFO's word for why commands wait, if they do.
    pub fn reason(&self, now_ms: i64) -> &'static str {
        let holders = self.held_for.load(Relaxed);
        match () {
            () if holders & Holder::Shutdown as u8 != 0 => "shutdown_in_progress",
            () if holders & Holder::Failover as u8 != 0 => "failover_in_progress",
            () if self.of_clients_ms(now_ms).is_some() => "client_pause",
            () => "none",
        }
    }

    /// Whether CLIENT PAUSE has commands wait, for how many ms.
    pub fn of_clients_ms(&self, now_ms: i64) -> Option<i64> {
        let until = self.until_ms.load(Relaxed);
        (until > now_ms).then(|| until - now_ms)
    }

    /// Has commands wait until a moment, or longer if they already do; once all wait, all go on waiting.
    pub fn begin(&self, now_ms: i64, until_ms: i64, all: bool) {
        let before = self.of_clients_ms(now_ms).is_some();
        self.all.store(all || (before && self.all.load(Relaxed)), Relaxed);
        if !before || until_ms > self.until_ms.load(Relaxed) {
            self.until_ms.store(until_ms, Relaxed);
        }
    }

    /// Ends the pause.
    pub fn end(&self) {
        self.until_ms.store(0, Relaxed);
    }

    /// For how many more ms commands wait, if they do.
    pub fn left_ms(&self, now_ms: i64) -> Option<i64> {
        if self.held_for.load(Relaxed) != 0 {
            return Some(Pause::LOOK_EVERY_MS);
        }
        self.of_clients_ms(now_ms)
    }

    /// Whether reads wait as well.
    pub fn is_of_all(&self) -> bool {
        self.all.load(Relaxed)
    }

    /// Whether a command waits now.
    #[inline]
    pub fn holds(&self, now_ms: i64, writes: impl FnOnce() -> bool) -> bool {
        let paused = self.until_ms.load(Relaxed) > now_ms;
        (paused || self.held_for.load(Relaxed) != 0) && (paused && self.is_of_all() || writes())
    }
}
