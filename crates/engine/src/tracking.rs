//! CLIENT TRACKING: telling sessions that the copies which they keep of values are out of date.
//!
//! Two ways. By default the server remembers which session read which key (`kelda_store::tracking`): the read registers
//! while its shard is held, and whoever changes the key takes the registrations and posts the invalidations before it
//! gives the shard back. So an invalidation follows every value that was read, and it reaches the session's mailbox after
//! the value was written to its output. With BCAST nothing is remembered: each change is posted to every worker on which a
//! broadcasting session lives, and that worker compares the key with their prefixes.
//!
//! Invariant: a session's place in its worker's lists ([`LocalTracking`]) lasts exactly while `Session::tracking` is set.

use crate::client_memory::entry_bytes;
use crate::command::{Flags, Reply};
use crate::engine::Engine;
use crate::mailbox::{Message, SessionRef};
use crate::registry::Registered;
use crate::session::Session;
use crate::worker::{Slot, Worker};
use kelda_resp::{Protocol, Writer};
use kelda_store::shard::{SHARDS, ShardSet};
use kelda_store::sync::{AtomicUsize, Mutex, Ordering::Relaxed};
use kelda_store::tracking::{Invalid, Reader};
use kelda_store::txn::{Key, Txn};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

/// The channel on which RESP2 sessions hear of invalidations that are redirected to them.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// Which reads of a session are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All.
    All,
    /// Those that follow CLIENT CACHING YES.
    OptIn,
    /// All but those that follow CLIENT CACHING NO.
    OptOut,
    /// None: it hears of every change (BCAST).
    Broadcast,
}

/// What a session asked for with CLIENT TRACKING ON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracks {
    /// Which of its reads are remembered.
    pub mode: Mode,
    /// Whether it wants not to hear of its own changes.
    pub noloop: bool,
    /// The client that its invalidations go to; 0 for itself.
    pub redirect: u64,
    /// Whether that client was found gone.
    pub broken: bool,
    /// Whether CLIENT CACHING concerns the next command (or transaction).
    pub caching: bool,
    /// With BCAST: the beginnings of the keys that it wants to hear of.
    pub prefixes: Vec<Box<[u8]>>,
}

/// The engine's part: figures, and who must be told.
pub struct Tracking {
    /// Sessions that track.
    pub clients: AtomicUsize,
    /// Keys remembered.
    pub keys: AtomicUsize,
    /// Readers of keys remembered.
    pub items: AtomicUsize,
    /// Bytes that sessions are to be told, or were told and have yet to take. They do not count for `maxmemory`: each key that goes makes more of
    /// them, so that making room would never end.
    pub told_bytes: AtomicUsize,
    /// Sessions with BCAST on each worker,
    broadcasting_on: Vec<AtomicUsize>,
    /// and on all.
    broadcasting: AtomicUsize,
    /// How many sessions want to hear of each prefix.
    prefixes: Mutex<BTreeMap<Box<[u8]>, usize>>,
}

impl Tracking {
    /// Nobody tracks.
    pub fn new(workers: usize) -> Tracking {
        Tracking {
            clients: AtomicUsize::new(0),
            keys: AtomicUsize::new(0),
            items: AtomicUsize::new(0),
            told_bytes: AtomicUsize::new(0),
            broadcasting_on: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            broadcasting: AtomicUsize::new(0),
            prefixes: Mutex::default(),
        }
    }

    /// Whether anybody wants to hear of every change.
    #[inline]
    pub fn broadcasts(&self) -> bool {
        self.broadcasting.load(Relaxed) != 0
    }

    /// How many prefixes anybody wants to hear of.
    pub fn prefix_count(&self) -> usize {
        self.prefixes.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// What is out of date: these keys, or (`None`) all.
pub type OutOfDate = Option<Vec<Arc<[u8]>>>;

/// A session of this worker that tracks.
struct Local {
    slot: Slot,
    noloop: bool,
    broadcast: bool,
}

/// The sessions with BCAST that share a prefix, and what they are to be told at the end of this turn.
#[derive(Default)]
struct Broadcast {
    sessions: Vec<u64>,
    /// Keys that changed, with the client that did it (0: none or several).
    keys: BTreeMap<Arc<[u8]>, u64>,
}

/// One worker's part: its sessions that track.
#[derive(Default)]
pub struct LocalTracking {
    sessions: BTreeMap<u64, Local>,
    prefixes: BTreeMap<Box<[u8]>, Broadcast>,
    /// What the session whose command is running is to be told after its reply.
    own: Vec<OutOfDate>,
}

impl LocalTracking {
    /// Whether the session whose command ran is to be told something.
    #[inline]
    pub fn has_own(&self) -> bool {
        !self.own.is_empty()
    }
}

/// Writes that keys are out of date. Only RESP3 knows pushes; a RESP2 session gets a message if others redirect to it.
fn write(reply: &mut Reply, redirected: bool, what: &OutOfDate) {
    match (reply.protocol, redirected) {
        (Protocol::Resp3, _) => {
            reply.push(2);
            reply.bulk(b"invalidate");
        }
        (Protocol::Resp2, true) => {
            reply.push(3);
            reply.bulk(b"message");
            reply.bulk(CHANNEL);
        }
        (Protocol::Resp2, false) => return,
    }
    match what {
        None => reply.null(),
        Some(keys) => {
            reply.array(keys.len());
            keys.iter().for_each(|key| reply.bulk(key));
        }
    }
}

/// Turns tracking on for a session, or changes how it tracks; prefixes are added to those it has.
pub fn start(worker: &mut Worker, session: &mut Session, mut tracks: Tracks) {
    let fresh = std::mem::take(&mut tracks.prefixes);
    let before = session.tracking.take();
    let engine = worker.engine.clone();
    if before.is_none() {
        engine.tracking.clients.fetch_add(1, Relaxed);
        engine.observers.fetch_add(1, Relaxed);
        if tracks.mode == Mode::Broadcast {
            engine.tracking.broadcasting_on[worker.index].fetch_add(1, Relaxed);
            engine.tracking.broadcasting.fetch_add(1, Relaxed);
        }
    }
    let (noloop, broadcast) = (tracks.noloop, tracks.mode == Mode::Broadcast);
    worker.tracking.sessions.insert(session.at.id, Local { slot: session.at.slot, noloop, broadcast });
    tracks.prefixes = before.map(|before| before.prefixes).unwrap_or_default();
    for prefix in fresh {
        if tracks.prefixes.contains(&prefix) {
            continue;
        }
        let mut all = engine.tracking.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry(prefix.clone()).or_default() += 1;
        worker.tracking.prefixes.entry(prefix.clone()).or_default().sessions.push(session.at.id);
        session.info.kept_bytes.fetch_add(entry_bytes(&prefix), Relaxed);
        tracks.prefixes.push(prefix);
    }
    session.tracking = Some(Box::new(tracks));
    show(session);
}

/// Turns tracking off.
pub fn stop(worker: &mut Worker, session: &mut Session) {
    let Some(tracks) = session.tracking.take() else { return };
    let engine = worker.engine.clone();
    engine.tracking.clients.fetch_sub(1, Relaxed);
    engine.observers.fetch_sub(1, Relaxed);
    worker.tracking.sessions.remove(&session.at.id);
    if tracks.mode == Mode::Broadcast {
        engine.tracking.broadcasting_on[worker.index].fetch_sub(1, Relaxed);
        engine.tracking.broadcasting.fetch_sub(1, Relaxed);
    }
    let mut all = engine.tracking.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
    for prefix in tracks.prefixes {
        session.info.kept_bytes.fetch_sub(entry_bytes(&prefix), Relaxed);
        if let Some(count) = all.get_mut(&prefix) {
            *count -= 1;
            if *count == 0 {
                all.remove(&prefix);
            }
        }
        if let Some(local) = worker.tracking.prefixes.get_mut(&prefix) {
            local.sessions.retain(|id| *id != session.at.id);
            if local.sessions.is_empty() {
                worker.tracking.prefixes.remove(&prefix);
            }
        }
    }
    drop(all);
    show(session);
}

/// Has CLIENT LIST show how the session tracks.
fn show(session: &Session) {
    let info = &session.info;
    let tracks = session.tracking.as_deref();
    info.tracking.store(tracks.is_some(), Relaxed);
    info.broadcast.store(tracks.is_some_and(|tracks| tracks.mode == Mode::Broadcast), Relaxed);
    info.redirect_broken.store(tracks.is_some_and(|tracks| tracks.broken), Relaxed);
    info.redirect.store(tracks.map_or(-1, |tracks| tracks.redirect as i64), Relaxed);
}

/// Whether what the session reads now is to be remembered.
pub fn remembers(session: &Session) -> bool {
    session.tracking.as_ref().is_some_and(|tracks| match tracks.mode {
        Mode::All => true,
        Mode::OptIn => tracks.caching,
        Mode::OptOut => !tracks.caching,
        Mode::Broadcast => false,
    })
}

/// Registers a session as a reader of a command's keys, whose shards the transaction holds.
pub fn remember(engine: &Engine, at: SessionRef, txn: &mut Txn, command: &Registered, words: &[&[u8]]) {
    if !command.flags.has(Flags::READONLY) {
        return;
    }
    let reader = Reader { worker: at.worker as u32, id: at.id };
    command.find_keys(words, &mut |place, _| {
        let key = Key::new(words[place]);
        if txn.holds(key) {
            let (new_key, new_reader) = txn.add_reader(key, reader);
            engine.tracking.keys.fetch_add(new_key.into(), Relaxed);
            engine.tracking.items.fetch_add(new_reader.into(), Relaxed);
        }
    });
}

/// At the commit of a transaction, its shards still held: posts what it made out of date. What concerns the session whose
/// command runs waits for its reply.
#[inline]
pub fn post(worker: &mut Worker, txn: &mut Txn) {
    if !txn.cx.invalid.is_empty() || txn.cx.all_invalid {
        post_invalid(worker, txn);
    }
}

#[cold]
fn post_invalid(worker: &mut Worker, txn: &mut Txn) {
    let cx = txn.cx();
    let all = std::mem::take(&mut cx.all_invalid);
    let invalid = std::mem::take(&mut cx.invalid);
    let engine = worker.engine.clone();
    let tracking = &engine.tracking;
    if all {
        // Every shard is held: the counts are exact.
        tracking.keys.store(0, Relaxed);
        tracking.items.store(0, Relaxed);
        if tracking.clients.load(Relaxed) != 0 {
            let by = worker.current;
            if worker.tracking.sessions.contains_key(&by) {
                worker.tracking.own.push(None);
            }
            (0..engine.worker_count()).for_each(|to| engine.post(worker.index, to, Message::AllInvalid { by }));
        }
    }
    for Invalid { key, actor, readers } in &invalid {
        if readers.is_empty() {
            continue;
        }
        tracking.keys.fetch_sub(1, Relaxed);
        tracking.items.fetch_sub(readers.len(), Relaxed);
        let key: Arc<[u8]> = (&**key).into();
        // Ascending by worker.
        for group in readers.chunk_by(|a, b| a.worker == b.worker) {
            let mut others: Vec<u64> = group.iter().map(|reader| reader.id).collect();
            let (before, by) = (others.len(), worker.current);
            others.retain(|id| *id != by);
            if others.len() != before
                && let Some(local) = worker.tracking.sessions.get(&by)
                && !local.broadcast
                && !(local.noloop && *actor == by)
            {
                worker.tracking.own.push(Some(vec![key.clone()]));
            }
            if !others.is_empty() {
                tracking.told_bytes.fetch_add(key.len(), Relaxed);
                let message = Message::Invalid { key: key.clone(), actor: *actor, readers: others };
                engine.post(worker.index, group[0].worker as usize, message);
            }
        }
    }
    if tracking.broadcasts() && !invalid.is_empty() {
        let keys: Arc<[(Arc<[u8]>, u64)]> =
            invalid.into_iter().map(|invalid| (invalid.key.into(), invalid.actor)).collect();
        for (to, sessions) in tracking.broadcasting_on.iter().enumerate() {
            if sessions.load(Relaxed) != 0 {
                engine.post(worker.index, to, Message::Changed { keys: keys.clone() });
            }
        }
    }
}

/// After the reply of a session's command: tells it what the command made out of date.
#[cold]
pub fn tell_own(worker: &mut Worker, session: &mut Session, reply: &mut Reply) {
    for what in std::mem::take(&mut worker.tracking.own) {
        tell(worker, session, reply, &what);
    }
}

/// After a command: CLIENT CACHING concerned it alone, or the whole transaction that it ended.
pub fn end_caching(session: &mut Session, command: &Registered) {
    if let Some(tracks) = &mut session.tracking
        && session.multi.is_none()
        && command.parent.is_none_or(|parent| parent.name != "CLIENT")
    {
        tracks.caching = false;
    }
}

/// Tells a session, or whom it redirects to, that keys are out of date.
fn tell(worker: &Worker, session: &mut Session, reply: &mut Reply, what: &OutOfDate) {
    let Some(tracks) = &mut session.tracking else { return };
    if tracks.redirect == 0 {
        return write(reply, false, what);
    }
    let engine = &worker.engine;
    if let Some(to) = engine.clients.get(tracks.redirect) {
        return engine.post(worker.index, to.at.worker, Message::Redirected { to: to.at, what: what.clone() });
    }
    tracks.broken = true;
    if reply.protocol == Protocol::Resp3 {
        reply.push(2);
        reply.bulk(b"tracking-redir-broken");
        reply.int(tracks.redirect as i64);
    }
    show(session);
}

/// Invalidates some copies while more keys are remembered than `tracking-table-max-keys`.
pub fn trim(worker: &mut Worker) {
    /// Keys forgotten in one go.
    const KEYS: usize = 100;
    let max = worker.settings.tracking_table_max_keys;
    let engine = worker.engine.clone();
    let over = || max != 0 && engine.tracking.keys.load(Relaxed) > max;
    let (mut left, start) = (KEYS, worker.random() as usize);
    for step in 0..SHARDS {
        if left == 0 || !over() {
            return;
        }
        let shard = start.wrapping_add(step) % SHARDS;
        let Some(mut txn) = worker.begin(&engine.keyspace, ShardSet::One(shard as u16), 0) else { continue };
        // One from each shard first: which key goes is to be chance.
        if txn.forget_readers(shard) {
            left -= 1;
        }
        worker.commit(txn);
    }
}

impl Worker {
    /// Mail: a key that sessions of this worker read has changed.
    pub(crate) fn receive_invalid(&mut self, key: &Arc<[u8]>, actor: u64, readers: &[u64]) {
        self.engine.tracking.told_bytes.fetch_sub(key.len(), Relaxed);
        for id in readers {
            let wants = |local: &Local| !(local.broadcast || local.noloop && actor == *id);
            if self.tracking.sessions.get(id).is_some_and(wants) {
                self.hear(*id, Some(vec![key.clone()]));
            }
        }
    }

    /// Mail: whole databases changed, by a session that hears of it otherwise.
    pub(crate) fn receive_all_invalid(&mut self, by: u64) {
        let others: Vec<u64> = self.tracking.sessions.keys().copied().filter(|id| *id != by).collect();
        others.into_iter().for_each(|id| self.hear(id, None));
    }

    /// Mail: these keys changed. The sessions with BCAST are told at the end of the turn, once for many changes.
    pub(crate) fn receive_changed(&mut self, keys: &[(Arc<[u8]>, u64)]) {
        for (prefix, broadcast) in &mut self.tracking.prefixes {
            for (key, actor) in keys.iter().filter(|(key, _)| key.starts_with(prefix)) {
                let by = broadcast.keys.entry(key.clone()).or_insert(*actor);
                if *by != *actor {
                    *by = 0;
                }
            }
        }
    }

    /// Tells the sessions with BCAST what has been collected for them.
    pub(crate) fn tell_broadcasts(&mut self) {
        let mut told: Vec<(u64, Vec<Arc<[u8]>>)> = Vec::new();
        for Broadcast { sessions, keys } in self.tracking.prefixes.values_mut() {
            if keys.is_empty() {
                continue;
            }
            for id in sessions.iter() {
                let noloop = self.tracking.sessions.get(id).is_some_and(|local| local.noloop);
                let wanted = keys.iter().filter(|(_, actor)| !(noloop && **actor == *id));
                told.push((*id, wanted.map(|(key, _)| key.clone()).collect()));
            }
            keys.clear();
        }
        for (id, keys) in told.into_iter().filter(|(_, keys)| !keys.is_empty()) {
            self.hear(id, Some(keys));
        }
    }

    /// Tells a session of this worker; one that is running a command, later.
    pub(crate) fn hear(&mut self, id: u64, what: OutOfDate) {
        let Some(Local { slot, .. }) = self.tracking.sessions.get(&id) else { return };
        let at = SessionRef { worker: self.index, slot: *slot, id };
        let Some(mut session) = self.take_session(at) else {
            return self.late.push(Message::OutOfDate { reader: id, what });
        };
        let mut output = std::mem::replace(&mut session.reply, Writer::new(session.protocol));
        let room = output.buf.capacity();
        tell(self, &mut session, &mut output, &what);
        session.reply = output;
        self.note_told(&mut session, room);
        self.touch(at.slot);
        self.put_back(session);
    }

    /// Notes that a session was told something, for which its output, which had so much room, got more.
    fn note_told(&self, session: &mut Session, room: usize) {
        let more = session.reply.buf.capacity().saturating_sub(room);
        session.told_bytes += more;
        self.engine.tracking.told_bytes.fetch_add(more, Relaxed);
    }

    /// Notes that a session's output gave room back, or went with the session.
    #[inline]
    pub(crate) fn forget_told(engine: &Engine, session: &mut Session) {
        let left = session.told_bytes.min(session.reply.buf.capacity());
        engine.tracking.told_bytes.fetch_sub(session.told_bytes - left, Relaxed);
        session.told_bytes = left;
    }

    /// Mail: another session redirects what it is told to this one.
    pub(crate) fn receive_redirected(&mut self, to: SessionRef, what: OutOfDate) {
        let Some(mut session) = self.take_session(to) else {
            if self.engine.clients.get(to.id).is_some() {
                self.late.push(Message::Redirected { to, what });
            }
            return;
        };
        let subscribed = session.subscription_count != 0;
        let room = session.reply.buf.capacity();
        write(&mut session.reply, subscribed, &what);
        self.note_told(&mut session, room);
        self.touch(to.slot);
        self.put_back(session);
    }
}
