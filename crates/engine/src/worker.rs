//! One worker: the engine's side of one thread's event loop, with the sessions that live on it.
//!
//! The event loop reads into [`Worker::input`], calls [`Worker::process`], and writes [`Worker::pending`]; once a turn it
//! calls [`Worker::wake`], which drains the mailbox and runs timers, and processes [`Worker::runnable`].

mod mail;

use crate::blocking::{Served, Timer};
use crate::clients::ClientInfo;
use crate::config::Settings;
use crate::defrag::Defrag;
use crate::dialect::Dialect;
use crate::durability::{Health, Lsn, Tellings};
use crate::engine::Engine;
use crate::eviction::Eviction;
use crate::exec;
use crate::following::{self, Applying};
use crate::mailbox::{Mailbox, Message, SessionRef};
use crate::monitor;
use crate::pubsub::{LocalSubscribers, Subscription};
use crate::queue::Queue;
use crate::scripting::Interpreter;
use crate::scripts::LastScript;
use crate::session::{Published, Session, Watching};
use crate::stats::Stats;
pub use crate::surroundings::{Clock, Peer};
use crate::tracking::{self, LocalTracking};
pub use kelda_resp::Pieces;
use kelda_store::shard::{Guard, Keyspace, SHARDS, ShardSet};
use kelda_store::txn::{Context, Env, EventClasses, Garbage, Txn, Unlinks};
use kelda_store::waiting::Waiter;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A session's place in its worker; reused after a disconnect.
pub type Slot = usize;

/// What the event loop is to do with a session's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Go on reading and writing.
    Open,
    /// Stop reading; close once the output is written.
    CloseAfterWrite,
    /// Close at once.
    Close,
}

/// What a command that takes long calls back into: the event loop that it is holding up.
pub trait Host {
    /// Sends what other sessions of the worker have to be sent, before a command runs that may take long.
    fn send_replies(&mut self, _worker: &mut Worker) {}
    /// Serves other sessions for one turn without waiting: reads, processes, writes. May call back into `worker`.
    fn serve_others(&mut self, worker: &mut Worker);
    /// As [`Host::serve_others`], but sleeps until there is something to do; a nudge to the worker's mailbox is something.
    fn await_others(&mut self, worker: &mut Worker) {
        self.serve_others(worker);
    }
}

/// A host with no other sessions to serve.
pub struct NoHost;

impl Host for NoHost {
    fn serve_others(&mut self, worker: &mut Worker) {
        worker.wake();
    }
}

/// Cron runs this often, in µs.
const CRON_US: u64 = 100_000;
/// How soon a session put aside is tried again, in µs.
const RETRY_US: u64 = 200;
/// Due keys removed from a shard in one go: a few dozen µs.
const EXPIRE_BATCH: usize = 64;
/// After so many ms without a command a session gives back the memory that its buffers do not need.
const QUIET_MS: i64 = 2000;
/// The least room offered to a read.
const READ_BYTES: usize = 16 * 1024;

/// The engine's side of one thread.
pub struct Worker {
    /// The shared state, counted by this thread alone: an atomic count would be every thread's busiest cache line.
    pub engine: Rc<Arc<Engine>>,
    /// Which worker this is.
    pub index: usize,
    /// The settings as of the last look.
    pub settings: Arc<Settings>,
    settings_version: u64,
    pub(crate) sessions: Vec<Option<Box<Session>>>,
    free: Vec<Slot>,
    /// Output for sessions that are running a command right now (nested turns and self-publishing).
    held_back: Vec<(SessionRef, Vec<u8>, Lsn)>,
    /// Sessions whose output waits for the log; none is twice in it.
    pub(crate) holding: Vec<SessionRef>,
    /// What the session that runs is told.
    pub(crate) tellings: Tellings,
    /// Sessions that WAITAOF blocks.
    pub(crate) awaiting_log: Vec<SessionRef>,
    /// Whether somebody waits for the log since it was last asked to get on.
    pub(crate) sync_wanted: bool,
    /// Whether the log took anything since it was last asked to get on.
    committed: bool,
    /// Sessions that the transaction in hand served.
    pub(crate) served: Vec<Served>,
    /// Messages that the transaction in hand published.
    pub(crate) outbox: Vec<Published>,
    /// Whether the data is being loaded.
    pub(crate) loading: bool,
    /// Whether this server follows another one.
    pub(crate) follows: bool,
    /// Whether it runs what the log holds: that was taken once, and nothing that refuses writes now is to leave it out.
    pub(crate) replays: bool,
    /// The session of this worker whose other end is the master,
    pub(crate) master: Option<SessionRef>,
    /// and what of it is being applied.
    pub(crate) applying: Applying,
    /// `maxmemory`; 0 also while the master sees to it.
    pub(crate) maxmemory: u64,
    pub(crate) touched: Vec<Slot>,
    pub(crate) retry: Vec<SessionRef>,
    /// Sessions that CLIENT PAUSE holds back.
    pub(crate) paused: Vec<SessionRef>,
    /// Sessions that asked for a shutdown, which waits for replicas.
    pub(crate) leaving: Vec<SessionRef>,
    pub(crate) timers: BinaryHeap<Reverse<Timer>>,
    /// How many timers there may be before those that mean nothing any more are sought out.
    pub(crate) timers_tidied: usize,
    /// Messages that met a busy shard: they are read again at the next turn.
    pub(crate) late: Vec<Message>,
    /// What messages are read into, empty otherwise,
    mail: Vec<Message>,
    /// and whom a published message goes to, with the pattern through which it does: kept for the memory that they hold.
    receivers: Vec<(Slot, Option<Box<[u8]>>)>,
    /// Waits of sessions that are gone, whose shards were busy.
    pub(crate) orphans: Vec<Arc<Waiter>>,
    /// Watches of sessions that gave them up while their shards were busy.
    old_watches: Vec<Watching>,
    pub(crate) subscribers: LocalSubscribers,
    pub(crate) eviction: Eviction,
    pub(crate) tracking: LocalTracking,
    /// Sessions of this worker that are replicas.
    pub(crate) replicas: Vec<SessionRef>,
    /// Sessions of this worker that monitor,
    pub(crate) monitors: Vec<SessionRef>,
    /// and what they are to be shown at the next commit.
    pub(crate) monitored: Vec<u8>,
    /// Whether sessions track or monitor, as of the command that is running.
    pub(crate) observed: bool,
    /// The client whose command is running; 0 for none.
    pub(crate) current: u64,
    /// The Lua interpreter; absent while it runs a script, or before the first.
    pub(crate) interpreter: Option<Box<Interpreter>>,
    pub(crate) interpreter_generation: u64,
    /// The script that it ran last.
    pub(crate) last_script: Option<Rc<LastScript>>,
    /// The generation of libraries that the interpreter was last rid of old ones for.
    pub(crate) libraries_generation: u64,
    /// Whether a script is running on this worker.
    pub(crate) in_script: bool,
    /// Whether a MIGRATE waits on this worker.
    pub(crate) migrating: bool,
    /// The script that is running, for SCRIPT KILL and its like.
    pub(crate) context: Option<Box<Context>>,
    /// Batches that no session uses, kept for the memory that they hold; boxed, for they go to sessions and back.
    #[allow(clippy::vec_box)]
    batches: Vec<Box<exec::Batch>>,
    /// An empty queue for the next MULTI, with the memory of the last.
    pub(crate) spare_queue: Queue,
    env: Env,
    seed: u64,
    now_us: i64,
    /// Whether much time may have passed since the clock was read.
    pub(crate) clock_is_old: bool,
    /// When the present turn of the event loop began, Unix µs, and how many commands had run; 0 before its first session.
    pub(crate) turn_began: (i64, u64),
    next_cron_us: u64,
    next_expiry_us: u64,
    next_shard: usize,
    pub(crate) defrag: Defrag,
    garbage: VecDeque<Garbage>,
}

impl Worker {
    pub(crate) fn new(engine: Arc<Engine>, index: usize, seed: u64) -> Worker {
        let settings = engine.config.settings();
        let mut worker = Worker {
            settings_version: engine.config.version(),
            sessions: Vec::new(),
            free: Vec::new(),
            held_back: Vec::new(),
            holding: Vec::new(),
            tellings: Tellings::default(),
            awaiting_log: Vec::new(),
            sync_wanted: false,
            committed: false,
            served: Vec::new(),
            outbox: Vec::new(),
            loading: engine.loading.is_active(),
            follows: engine.following.is_on(),
            replays: false,
            master: None,
            applying: Applying::default(),
            maxmemory: 0,
            touched: Vec::new(),
            mail: Vec::new(),
            receivers: Vec::new(),
            retry: Vec::new(),
            paused: Vec::new(),
            leaving: Vec::new(),
            timers: BinaryHeap::new(),
            timers_tidied: 0,
            late: Vec::new(),
            orphans: Vec::new(),
            old_watches: Vec::new(),
            subscribers: LocalSubscribers::default(),
            eviction: Eviction::default(),
            tracking: LocalTracking::default(),
            replicas: Vec::new(),
            monitors: Vec::new(),
            monitored: Vec::new(),
            observed: false,
            current: 0,
            interpreter: None,
            interpreter_generation: 0,
            last_script: None,
            libraries_generation: 0,
            in_script: false,
            migrating: false,
            context: None,
            batches: Vec::new(),
            spare_queue: Queue::default(),
            env: Env::default(),
            seed,
            now_us: engine.clock.unix_us(),
            clock_is_old: true,
            turn_began: (0, 0),
            next_cron_us: 0,
            next_expiry_us: 0,
            next_shard: index % SHARDS,
            defrag: Defrag::default(),
            garbage: VecDeque::new(),
            settings,
            index,
            engine: Rc::new(engine),
        };
        worker.read_settings();
        worker
    }

    /// A worker that runs what the log holds.
    pub(crate) fn for_replay(engine: Arc<Engine>) -> Worker {
        Worker { replays: true, ..Worker::new(engine, 0, 1) }
    }

    /// While keys that are due stay, whether the session whose command comes next sees them.
    #[inline]
    pub(crate) fn see_due(&mut self, session: &Session) {
        if self.env.keep_due {
            self.env.see_due = session.master.is_some() || session.info.import_source.load(Relaxed);
        }
    }

    /// The next of this worker's random numbers.
    pub(crate) fn random(&mut self) -> u64 {
        self.context.get_or_insert_with(|| Context::new(self.env, self.seed)).random()
    }

    fn read_settings(&mut self) {
        self.settings_version = self.engine.config.version();
        self.settings = self.engine.config.settings();
        let settings = &self.settings;
        self.env = Env {
            limits: settings.limits,
            string_bytes_max: settings.proto_max_bulk_len,
            events: EventClasses(settings.notify_keyspace_events.0),
            log_changes: false,
            lfu: settings.maxmemory_policy.is_lfu(),
            modified_only: settings.maxmemory_policy.is_by_modification(),
            lfu_log_factor: settings.lfu_log_factor,
            lfu_decay_minutes: settings.lfu_decay_time,
            rdb_version: settings.rdb_version,
            rdb_compression: settings.rdbcompression,
            no_touch: false,
            keep_due: settings.import_mode || self.follows,
            past_expires: settings.dialect == Dialect::Valkey,
            see_due: false,
            scripted: false,
            named_keys_only: false,
            unlinks: Unlinks {
                due: settings.lazyfree_lazy_expire,
                evicted: settings.lazyfree_lazy_eviction,
                implied: settings.lazyfree_lazy_server_del,
            },
        };
        let ignored = self.follows && settings.replica_ignore_maxmemory;
        self.maxmemory = if ignored { 0 } else { settings.maxmemory };
        self.eviction.restart(self.maxmemory != 0);
    }

    /// Reads the clock and, if they changed, the settings.
    #[inline]
    pub fn refresh(&mut self) {
        self.now_us = self.engine.clock.unix_us();
        self.clock_is_old = false;
        self.loading = self.engine.loading.is_active();
        let follows = self.engine.following.is_on();
        if self.engine.config.version() != self.settings_version || follows != self.follows {
            self.follows = follows;
            self.read_settings();
        }
        // During CLIENT PAUSE nothing changes: what is due is not seen, but stays. A replica waits until its master removes it.
        let paused = self.engine.pause.left_ms(self.now_ms()).is_some();
        self.env.keep_due = self.settings.import_mode || self.follows || paused;
        self.env.see_due = false;
    }

    /// Unix time of this turn, in µs.
    pub fn now_us(&self) -> i64 {
        self.now_us
    }

    /// Unix time of this turn, in ms.
    pub fn now_ms(&self) -> i64 {
        self.now_us / 1000
    }

    /// This worker's counters.
    #[inline]
    pub fn stats(&self) -> &Stats {
        &self.engine.stats[self.index]
    }

    // ---- sessions

    /// Takes a new connection in. `Err` is what to send before closing it.
    pub fn connect(&mut self, peer: Peer) -> Result<Slot, Vec<u8>> {
        self.refresh();
        let engine = self.engine.clone();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.sessions.push(None);
            self.sessions.len() - 1
        });
        let at = SessionRef { worker: self.index, slot, id: engine.clients.next_id() };
        let info = Arc::new(ClientInfo::new(at, peer, self.now_ms()));
        self.stats().connections.add(1);
        let most = if info.peer.master { usize::MAX } else { self.settings.maxclients };
        if !engine.clients.add(info.clone(), most) {
            self.stats().rejected_connections.add(1);
            self.free.push(slot);
            return Err(b"-ERR max number of clients reached\r\n".to_vec());
        }
        let version = engine.acl.version();
        let mut session = Box::new(Session::new(info, engine.acl.default_user(), version));
        if session.info.peer.master {
            self.begin_following(&mut session);
        }
        self.sessions[slot] = Some(session);
        Ok(slot)
    }

    /// The connection is gone.
    pub fn disconnect(&mut self, slot: Slot) {
        let Some(mut session) = self.sessions.get_mut(slot).and_then(Option::take) else { return };
        self.end_wait(&mut session);
        if !session.holds.is_empty() {
            self.holding.retain(|at| *at != session.at);
        }
        self.set_durability(&mut session, None);
        self.leave_pause(&session);
        exec::unwatch(self, &mut session);
        tracking::stop(self, &mut session);
        session.reply.buf = Vec::new();
        Worker::forget_told(&self.engine, &mut session);
        monitor::stop(self, &mut session);
        self.stop_following(&session);
        self.stop_following_master(&mut session);
        for kind in [Subscription::Channel, Subscription::Pattern, Subscription::Shard] {
            for name in std::mem::take(&mut session.info.subscribed()[kind as usize]) {
                self.engine.pubsub.remove(kind, &name, self.index);
                self.subscribers.remove(kind, &name, slot);
            }
        }
        self.engine.clients.remove(&session.info);
        self.free.push(slot);
    }

    /// Where to append what was read.
    ///
    /// # Panics
    /// When the slot holds no session: the event loop owns the slots it was given until it disconnects them.
    pub fn input(&mut self, slot: Slot) -> &mut Vec<u8> {
        match &mut self.sessions[slot] {
            Some(session) => &mut session.input,
            // Slots come from `connect`, and the host forgets them at `disconnect`.
            None => panic!("no session in slot {slot}"),
        }
    }

    /// How many bytes to make room for before the next read.
    pub fn read_hint(&self, slot: Slot) -> usize {
        self.session(slot).map_or(READ_BYTES, |session| session.needs.clamp(READ_BYTES, 64 << 20))
    }

    /// Output to send, in pieces.
    pub fn pending(&self, slot: Slot) -> Pieces<'_> {
        self.session(slot).map_or_else(Pieces::default, Session::pending)
    }

    /// Whether there is any.
    pub fn has_pending(&self, slot: Slot) -> bool {
        self.session(slot).is_some_and(Session::has_pending)
    }

    /// So many bytes of [`Worker::pending`] were sent.
    pub fn written(&mut self, slot: Slot, bytes: usize) {
        self.stats().output_bytes.add(bytes as u64);
        self.stats().writes.add(1);
        let Some(session) = self.sessions.get_mut(slot).and_then(Option::as_mut) else { return };
        session.reply.advance(&mut session.sent, bytes);
        session.show_output(session.unsent());
        session.info.totals[1].fetch_add(bytes as u64, Relaxed);
        if session.sent.at == session.reply.len() {
            session.sent.at = 0;
            session.over_soft_limit_since_us = None;
            session.empty_output();
            if session.told_bytes != 0 {
                Worker::forget_told(&self.engine, session);
            }
        } else if session.sent.at > 1 << 20 {
            session.holds.iter_mut().for_each(|hold| hold.start -= session.sent.at);
            session.reply.drop_sent(&mut session.sent);
        }
        if session.replica {
            self.engine.stats[self.index].repl_output_bytes.add(bytes as u64);
            self.engine.replication.pull(session, self.now_us / 1000);
        }
    }

    /// Whether output waits for the log.
    pub fn is_held(&self, slot: Slot) -> bool {
        self.session(slot).is_some_and(|session| !session.holds.is_empty())
    }

    /// What to do with the socket.
    pub fn fate(&self, slot: Slot) -> Fate {
        self.session(slot).map_or(Fate::Close, |session| session.fate)
    }

    /// Sessions that gained output or changed fate other than by [`Worker::process`], each perhaps more than once.
    pub fn touched(&mut self, slots: &mut Vec<Slot>) {
        slots.append(&mut self.touched);
    }

    /// A session that is not running a command.
    pub fn session(&self, slot: Slot) -> Option<&Session> {
        self.sessions.get(slot)?.as_deref()
    }

    pub(crate) fn session_of(&mut self, at: SessionRef) -> Option<&mut Box<Session>> {
        self.sessions.get_mut(at.slot)?.as_mut().filter(|session| session.at.id == at.id)
    }

    /// Notes that the event loop has something to do for a session.
    pub(crate) fn touch(&mut self, slot: Slot) {
        self.touched.push(slot);
    }

    // ---- running commands

    /// Parses and runs what is complete of a session's input.
    pub fn process(&mut self, slot: Slot, host: &mut dyn Host) {
        self.clock_is_old = true;
        self.process_next(slot, host);
    }

    /// As [`Worker::process`], right after another session: reads the clock only if that one's commands may have taken long.
    pub fn process_next(&mut self, slot: Slot, host: &mut dyn Host) {
        if self.clock_is_old {
            self.refresh();
        }
        if self.turn_began.0 == 0 {
            self.turn_began = (self.now_us, self.stats().commands.get());
        }
        // What another client's command sent before its reply comes before the reply to what was sent after that.
        self.read_new_mail();
        self.run_session(slot, host);
        self.read_new_mail();
    }

    /// Looks through what a session has received, so that the memory begins to fetch what [`Worker::process`] will need.
    pub fn look_ahead(&mut self, slot: Slot) {
        let Some(mut session) = self.sessions.get_mut(slot).and_then(Option::take) else { return };
        exec::look_ahead(self, &mut session);
        self.sessions[slot] = Some(session);
    }

    /// Goes on with it a little later, when what was to be fetched is there: what lies behind it is fetched.
    pub fn prefetch(&self, slot: Slot) {
        if let Some(session) = self.session(slot) {
            exec::prefetch(self, session);
        }
    }

    /// A batch to parse into.
    pub(crate) fn batch(&mut self) -> Box<exec::Batch> {
        self.batches.pop().unwrap_or_default()
    }

    /// Takes a batch back.
    pub(crate) fn keep_batch(&mut self, batch: Box<exec::Batch>) {
        /// Batches kept at most.
        const KEEP: usize = 16;
        if self.batches.len() < KEEP {
            self.batches.push(batch);
        }
    }

    #[inline]
    fn read_new_mail(&mut self) {
        if !self.in_script && self.engine.mailbox(self.index).is_some_and(|mailbox| mailbox.has_mail()) {
            self.read_mail();
        }
    }

    fn run_session(&mut self, slot: Slot, host: &mut dyn Host) {
        let Some(mut session) = self.sessions.get_mut(slot).and_then(Option::take) else { return };
        session.put_aside = false;
        self.leave_pause(&session);
        if session.master.is_some() {
            following::run(self, &mut session, host);
        } else if self.admits(&session) {
            exec::run(self, &mut session, host);
        }
        self.put_back(session);
    }

    /// Keeps a watch whose shards are busy until it can be taken off.
    pub(crate) fn leave_watch(&mut self, watching: Watching) {
        self.old_watches.push(watching);
    }

    /// Takes a session out of its place, if it is there, until [`Worker::put_back`].
    pub(crate) fn take_session(&mut self, at: SessionRef) -> Option<Box<Session>> {
        self.sessions.get_mut(at.slot)?.take_if(|session| session.at.id == at.id)
    }

    pub(crate) fn put_back(&mut self, mut session: Box<Session>) {
        let at = session.at;
        let mut index = 0;
        while index < self.held_back.len() {
            if self.held_back[index].0 == at {
                let (_, bytes, lsn) = self.held_back.remove(index);
                let start = session.reply.len();
                session.reply.raw(&bytes);
                if self.is_strict(&session) {
                    self.hold(&mut session, lsn, start);
                }
                self.touched.push(at.slot);
            } else {
                index += 1;
            }
        }
        if session.info.killed.load(Relaxed) {
            session.fate = Fate::Close;
            self.touched.push(at.slot);
        }
        self.check_output(&mut session);
        self.count_client(&session.info);
        self.sessions[at.slot] = Some(session);
    }

    /// Has a session run again soon: its command met a busy shard.
    pub(crate) fn put_aside(&mut self, session: &mut Session) {
        if !session.put_aside {
            session.put_aside = true;
            self.stats().put_aside.add(1);
            self.retry.push(session.at);
        }
    }

    /// Begins a transaction; `None` when a shard is busy.
    ///
    /// The shards of every key that a session blocked in these shards could be served from are locked too, so that whoever
    /// makes it ready can serve it in the same critical section.
    #[inline]
    pub(crate) fn begin<'k>(&mut self, keyspace: &'k Keyspace, set: ShardSet, db: u32) -> Option<Txn<'k>> {
        let guard = crate::blocking::lock_with_waiters(keyspace, set)?;
        // Looked at once the shards are held: DEBUG LOADAOF begins with all of them, and the master passes the gate.
        if self.applying.is_under_way() && self.engine.loading.is_active() {
            return None;
        }
        self.prepare_context();
        Some(self.transaction(guard, db))
    }

    /// Gives the context the settings of the next transactions.
    #[inline]
    pub(crate) fn prepare_context(&mut self) {
        if let Some(cx) = &mut self.context {
            cx.env = self.env;
        }
    }

    /// A transaction on shards that are held; the context is prepared.
    #[inline(always)]
    pub(crate) fn transaction<'k>(&mut self, guard: Guard<'k>, db: u32) -> Txn<'k> {
        let mut txn = self.idle_transaction(guard, db);
        self.take_up(&mut txn);
        txn
    }

    /// A transaction for which nothing is held yet; the context is prepared.
    #[inline(always)]
    pub(crate) fn idle_transaction<'k>(&mut self, guard: Guard<'k>, db: u32) -> Txn<'k> {
        let cx = self.context.take().unwrap_or_else(|| self.new_context());
        Txn::new(guard, db, self.now_us / 1000, cx)
    }

    /// Gives a transaction what is known only once its shards are held.
    #[inline(always)]
    pub(crate) fn take_up(&self, txn: &mut Txn) {
        let cx = txn.cx();
        // Looked at now: who turns the log on holds all shards, and a session that heard a value from these has had its wish
        // heard before.
        cx.env.log_changes = self.engine.log.is_on() || self.engine.replication.is_on();
        cx.broadcast = self.engine.tracking.broadcasts();
        cx.actor = self.current;
    }

    #[cold]
    fn new_context(&mut self) -> Box<Context> {
        self.seed = self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        Context::new(self.env, self.seed)
    }

    /// Ends a transaction: serves whom it made ready, publishes its events, hands its changes to the log, and gives back
    /// its shards.
    #[inline]
    pub(crate) fn commit(&mut self, mut txn: Txn) {
        self.take_effects(&mut txn);
        self.put_away(txn);
    }

    /// The part of a commit for which the shards have to be held.
    #[inline(always)]
    pub(crate) fn take_effects(&mut self, txn: &mut Txn) {
        let held_up = !self.served.is_empty() || !self.outbox.is_empty() || !self.monitored.is_empty();
        if txn.cx().has_effects() || held_up {
            self.take_effect(txn);
        }
        if self.tellings.strict {
            self.tellings.tell(txn.lsn());
        }
    }

    /// Ends a transaction whose effects were taken: the rest of a commit.
    #[inline]
    pub(crate) fn put_away(&mut self, txn: Txn) {
        let mut cx = txn.finish();
        let stats = self.stats();
        stats.hits.add(cx.hits.take());
        stats.misses.add(cx.misses.take());
        if !cx.garbage.is_empty() {
            self.take_garbage(&mut cx);
        }
        self.context = Some(cx);
    }

    #[inline(never)]
    fn take_effect(&mut self, txn: &mut Txn) {
        if txn.cx().saw_stale() {
            txn.reap_stale_apart();
        }
        if !txn.cx().ready.is_empty() {
            // As in Redis, a served session hears of what made it ready before its reply.
            tracking::post(self, txn);
            crate::blocking::serve_ready(self, txn);
        }
        if txn.cx.dirty != 0 || !txn.cx.events.is_empty() || !self.served.is_empty() || !self.outbox.is_empty() {
            self.hand_on(txn);
        }
        tracking::post(self, txn);
        if !self.monitored.is_empty() && !self.in_script {
            monitor::post(self);
        }
    }

    #[cold]
    pub(crate) fn take_garbage(&mut self, cx: &mut Context) {
        self.stats().lazyfreed.add(cx.garbage.iter().map(Garbage::lazy_objects).sum());
        self.garbage.extend(cx.garbage.drain(..));
        self.free_garbage();
    }

    fn hand_on(&mut self, txn: &mut Txn) {
        let cx = txn.cx();
        let stats = self.stats();
        stats.dirty.add(std::mem::take(&mut cx.dirty));
        if cx.expired | cx.expired_fields != 0 {
            stats.expired.add(std::mem::take(&mut cx.expired));
            stats.expired_fields.add(std::mem::take(&mut cx.expired_fields));
        }
        if std::mem::take(&mut txn.cx().flushed_all) {
            self.engine.saves.flushed(&self.settings);
        }
        let mut lsn = 0;
        if self.engine.replication.is_on() {
            self.feed_transaction(txn);
        }
        if !txn.cx.changes.is_empty() && self.engine.log.is_on() {
            lsn = self.engine.log.commit(&txn.cx.changes);
            self.tellings.tell(lsn);
            self.tellings.made_lsn = lsn;
            self.committed = true;
            if self.engine.log.health() != Health::Broken {
                // What is removed because it is due, after the log broke, keeps nobody from reading.
                txn.set_lsn(lsn);
            }
        }
        if !txn.cx.changes.is_empty() {
            txn.cx().changes.clear();
        }
        if !self.served.is_empty() || !self.outbox.is_empty() || !txn.cx.events.is_empty() {
            self.tell_others(txn.cx(), lsn);
        }
    }

    /// Sends off what sessions get by a transaction.
    fn tell_others(&mut self, cx: &mut Context, lsn: Lsn) {
        for Served { session, reply, ran } in self.served.drain(..) {
            self.engine.post(self.index, session.worker, Message::Served { session, reply, lsn, ran });
        }
        for Published { audience, channel, payload } in self.outbox.drain(..) {
            self.engine.pubsub.publish(&self.engine, self.index, audience, &channel, &payload, lsn);
        }
        for event in std::mem::take(&mut cx.events) {
            crate::pubsub::publish_event(self, &event, lsn);
        }
    }

    /// Frees a bounded amount of what left the keyspace.
    pub(crate) fn free_garbage(&mut self) -> bool {
        /// Elements freed in one go: some 100 µs.
        const STEP: usize = 1000;
        let mut budget = STEP;
        while let Some(front) = self.garbage.front_mut() {
            if front.free_some(&mut budget) {
                self.garbage.pop_front();
            }
            if budget == 0 {
                break;
            }
        }
        !self.garbage.is_empty()
    }

    /// Bytes that this worker's Lua interpreter holds.
    pub fn lua_bytes(&self) -> usize {
        self.interpreter.as_ref().map_or(0, |interpreter| interpreter.live_memory())
    }

    /// Values waiting to be freed.
    pub fn garbage_len(&self) -> usize {
        self.garbage.len()
    }

    /// Moves out the sessions to call [`Worker::process`] for though nothing was read: their command met a busy shard,
    /// or they were blocked and have more input.
    pub fn runnable(&mut self, slots: &mut Vec<Slot>) {
        for at in std::mem::take(&mut self.retry) {
            if self.session_of(at).is_some() {
                slots.push(at.slot);
            }
        }
    }

    /// Drains the mailbox and runs what is due. Called after every turn of the event loop.
    pub fn wake(&mut self) {
        self.refresh();
        let woken_us = self.now_us;
        for message in std::mem::take(&mut self.late) {
            self.receive(message);
        }
        self.read_mail();
        let now = self.engine.clock.monotonic_us();
        self.run_timers(now);
        self.end_pause();
        if now >= self.next_expiry_us {
            self.expire_keys(now);
        }
        self.free_garbage();
        self.go_on_evicting();
        if now >= self.defrag.next_us {
            self.defragment(now);
        }
        if now >= self.next_cron_us {
            self.next_cron_us = now + CRON_US;
            self.cron();
            self.stats().cron_us.add(self.engine.clock.monotonic_us().saturating_sub(now).max(1));
        }
        self.end_turn(woken_us);
        if !self.holding.is_empty() || !self.awaiting_log.is_empty() {
            self.engine.log.await_progress(self.index);
            self.release_held();
            self.serve_log_waits();
        }
        if !self.replicas.is_empty() {
            self.serve_replicas();
        }
        let (committed, wanted) = (std::mem::take(&mut self.committed), std::mem::take(&mut self.sync_wanted));
        if (committed || wanted)
            && let Some(sink) = self.engine.log.sink()
        {
            sink.get_on(wanted);
        }
    }

    /// How long the event loop may sleep, in µs; `None` for ever.
    pub fn next_timer_us(&self) -> Option<u64> {
        // Its own expiry and timers may have sent this worker mail, which wakes nobody.
        let mail = self.engine.mailbox(self.index).is_some_and(Mailbox::has_mail);
        if mail
            || !self.garbage.is_empty()
            || !self.touched.is_empty()
            || self.committed
            || self.sync_wanted
            || self.may_release()
        {
            return Some(0);
        }
        if !self.retry.is_empty() || !self.late.is_empty() || self.eviction.going_on {
            return Some(RETRY_US);
        }
        let now = self.engine.clock.monotonic_us();
        let mut wait = self.next_cron_us.min(self.next_expiry_us).min(self.defrag.next_us).saturating_sub(now);
        if let Some(Reverse(timer)) = self.timers.peek() {
            wait = wait.min(timer.at_us.saturating_sub(now));
        }
        if !self.leaving.is_empty() {
            /// How often they look whether they may go on, in µs.
            const LOOK_EVERY_US: u64 = 10_000;
            wait = wait.min(LOOK_EVERY_US);
        }
        if !self.paused.is_empty()
            && let Some(left_ms) = self.engine.pause.left_ms(self.engine.clock.unix_us() / 1000)
        {
            wait = wait.min(left_ms as u64 * 1000);
        }
        Some(wait)
    }

    /// Removes due keys of this worker's shards, for a bounded time.
    fn expire_keys(&mut self, now_us: u64) {
        self.expire_some(now_us);
        let took_us = self.engine.clock.monotonic_us().saturating_sub(now_us);
        self.stats().expiry_us.add(took_us);
        self.note_latency("expire-cycle", took_us);
    }

    fn expire_some(&mut self, now_us: u64) {
        /// Between two rounds while nothing is due, in µs.
        const ROUND_US: u64 = 10_000;
        /// Keys removed in one round, at most: some 100 µs.
        const KEYS: usize = 8 * EXPIRE_BATCH;
        self.next_expiry_us = now_us + CRON_US;
        let wanted =
            self.engine.active_expire.load(Relaxed) && !self.settings.import_mode && !self.loading && !self.follows;
        if !wanted || self.engine.pause.left_ms(self.now_ms()).is_some() {
            return;
        }
        let engine = self.engine.clone();
        let now_ms = self.now_ms();
        let (mut removed, mut soonest_ms) = (0, i64::MAX);
        for _ in 0..SHARDS.div_ceil(engine.worker_count()) {
            let shard = self.next_shard;
            let due = engine.keyspace.due(shard);
            if due >= now_ms {
                soonest_ms = soonest_ms.min(due);
            } else if let Some(mut txn) = self.begin(&engine.keyspace, ShardSet::One(shard as u16), 0) {
                let taken = txn.expire_due(shard, EXPIRE_BATCH);
                self.commit(txn);
                removed += taken;
                soonest_ms = soonest_ms.min(engine.keyspace.due(shard));
                if removed >= KEYS {
                    // More may be due: goes on when three times as long has passed as this round took.
                    let spent = engine.clock.monotonic_us().saturating_sub(now_us);
                    self.next_expiry_us = now_us + 4 * spent;
                    return;
                }
                if taken == EXPIRE_BATCH {
                    continue;
                }
            } else {
                // Busy, perhaps for long: its turn comes again after the others'.
                soonest_ms = now_ms;
            }
            self.pass_shard();
        }
        let ahead_us = soonest_ms.saturating_sub(now_ms).saturating_mul(1000).clamp(0, CRON_US as i64) as u64;
        self.next_expiry_us = now_us + ahead_us.max(ROUND_US);
        if ahead_us == CRON_US && self.next_cron_us > now_us {
            // Nothing is due soon: one time to wake is enough.
            self.next_expiry_us = self.next_cron_us;
        }
    }

    /// Goes on to the next shard whose due keys this worker removes.
    fn pass_shard(&mut self) {
        self.next_shard = self.shard_after(self.next_shard).unwrap_or(self.index % SHARDS);
    }

    /// The shard behind this one among those that this worker tends; the first is the one with its index.
    pub(crate) fn shard_after(&self, shard: usize) -> Option<usize> {
        Some(shard + self.engine.worker_count()).filter(|next| *next < SHARDS)
    }

    fn cron(&mut self) {
        self.eviction.look_again();
        self.eviction.going_on |= self.maxmemory != 0;
        self.tend_master();
        self.count_clients();
        if self.index == 0 {
            tracking::trim(self);
            self.engine.note_memory();
            self.engine.note_rates();
            self.engine.hotkeys.cron(&self.engine);
            self.engine.links.tidy(self.engine.clock.monotonic_us());
            self.engine.saves.cron(&self.engine, &self.settings);
            self.engine.backups.cron(&self.engine, &self.settings);
            self.engine.replication.cron(&self.engine, &self.settings);
            self.engine.following.cron(&self.engine);
        }
        let mut orphans = std::mem::take(&mut self.orphans);
        orphans.retain(|waiter| self.withdraw(waiter).is_none());
        self.orphans = orphans;
        for watching in std::mem::take(&mut self.old_watches) {
            exec::drop_old_watch(self, watching);
        }
        let idle_ms = self.settings.timeout as i64 * 1000;
        let now_ms = self.now_ms();
        for slot in 0..self.sessions.len() {
            let Some(mut session) = self.sessions[slot].take() else { continue };
            if idle_ms != 0
                && session.blocked.is_none()
                && session.subscription_count == 0
                && !session.info.monitor.load(Relaxed)
                && !session.replica
                && session.master.is_none()
                && now_ms - session.info.active_ms.load(Relaxed) > idle_ms
            {
                session.fate = Fate::Close;
                self.touched.push(slot);
            }
            if session.over_soft_limit_since_us.is_some() || session.replica {
                self.check_output(&mut session);
            }
            session.end_large_output();
            if now_ms - session.info.active_ms.load(Relaxed) > QUIET_MS {
                session.shrink_buffers();
                Worker::forget_told(&self.engine, &mut session);
            }
            self.sessions[slot] = Some(session);
        }
    }

    /// Whether any key event of these classes is wanted.
    pub fn wants_events(&self, classes: EventClasses) -> bool {
        self.env.events.has(classes)
    }
}
