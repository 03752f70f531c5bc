//! The master's side of replication: who follows this server, and what it is sent.
//!
//! A replica first gets a snapshot (`saving/replicas.rs`) and then the feed, beginning with the first change after the
//! snapshot's instant; one that comes back gets what it has missed, if the feed still has it. The feed is one for all replicas.
//! Commits append to it; each worker moves what its replicas may be sent into their sessions' output, a bounded piece at a time,
//! and goes on as that is written. So a slow replica costs the memory of the feed from its place on, which
//! `client-output-buffer-limit` bounds, and nothing else.
//!
//! Invariants: the changes of a transaction are appended while its shards are held, so the feed has the changes of each key in
//! order; the feed is turned on, and a replica's place in it taken, by the thread that holds every shard for the snapshot's
//! instant. Everything here is under one mutex that is held for a copy of some KB at most.

mod feed;
mod link;

use crate::clients::ClientInfo;
use crate::config::Settings;
use crate::engine::Engine;
use crate::mailbox::{Mailbox, Message, SessionRef};
use crate::rdb::{self, Fact};
use crate::session::Session;
use feed::Feed;
use kelda_store::txn::Changes;
pub(crate) use link::{Announced, Parts};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Output that a replica's session is filled up to, in bytes.
const OUTPUT_BYTES: usize = 128 << 10;
/// Bytes of a snapshot that may wait for the slowest of its replicas.
const SNAPSHOT_BYTES: usize = 1 << 20;

/// What a replica is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It waits for a snapshot to begin.
    Waiting,
    /// It gets this snapshot.
    Snapshot(u64),
    /// It has the snapshot and has yet to say so: a reader of the form with an end mark must see nothing behind the mark before.
    Loading,
    /// It gets the feed.
    Online,
    /// It wanted a snapshot and nothing else.
    Done,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Waiting => "wait_bgsave",
            State::Snapshot(_) => "send_bulk",
            State::Loading | State::Online | State::Done => "online",
        }
    }
}

/// A replica.
struct Replica {
    at: SessionRef,
    info: Arc<ClientInfo>,
    state: State,
    /// Whether it asked with PSYNC: so it sends REPLCONF ACK.
    acknowledges: bool,
    announced: Announced,
    /// Its place in the feed: what it was not sent yet begins there.
    place: u64,
    /// What it is sent before.
    queue: VecDeque<Arc<[u8]>>,
    /// Bytes in `queue`.
    queued: usize,
    /// Whether its snapshot is one with a mark at its end; has begun; has ended.
    marked: bool,
    begun: bool,
    ended: bool,
    /// Since when it waits; when it last took something or said something. Unix ms.
    since_ms: i64,
    active_ms: i64,
    /// What it has, and what it has on disk, as it said.
    acked: u64,
    acked_on_disk: u64,
}

impl Replica {
    fn address(&self) -> (String, u16) {
        (self.announced.ip.clone(), self.announced.port)
    }

    fn push(&mut self, bytes: Arc<[u8]>) {
        self.queued += bytes.len();
        self.queue.push_back(bytes);
    }

    /// Whether it counts for `min-replicas-to-write`.
    fn is_good(&self, settings: &Settings, now_ms: i64) -> bool {
        self.state == State::Online && self.lag_s(now_ms) <= settings.min_replicas_max_lag as i64
    }

    /// Seconds since it last said something.
    fn lag_s(&self, now_ms: i64) -> i64 {
        (now_ms - self.active_ms).max(0) / 1000
    }
}

struct Inner {
    /// Names the history,
    id: String,
    /// and the one that it goes on from, which replicas may have up to this place.
    before: Option<(String, u64)>,
    feed: Feed,
    /// Whether the history is that of the server which this one follows: what is changed here is no part of it.
    passing: bool,
    /// The database that the server that is followed was in.
    stream_db: u32,
    replicas: Vec<Replica>,
    /// Makes ids.
    random: u64,
    snapshots: u64,
    /// When the last replica left, Unix ms.
    empty_since_ms: i64,
    second_ms: i64,
    ping_ms: i64,
}

impl Inner {
    fn find(&mut self, at: SessionRef) -> Option<&mut Replica> {
        self.replicas.iter_mut().find(|replica| replica.at == at)
    }

    /// 40 hexadecimal digits (SplitMix64).
    fn digits(&mut self) -> String {
        let mut digits = String::new();
        while digits.len() < 40 {
            self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            digits.push_str(&format!("{:016x}", mixed ^ (mixed >> 31)));
        }
        digits.truncate(40);
        digits
    }

    /// Whether a replica that has this history up to a place has the same as this server had there.
    fn is_same(&self, id: &[u8], place: u64) -> bool {
        let before = self.before.as_ref().is_some_and(|(before, end)| id == before.as_bytes() && place <= *end);
        id == self.id.as_bytes() || before
    }

    /// Gives the history another name from here on.
    fn rename(&mut self, id: String) {
        self.before = Some((std::mem::replace(&mut self.id, id), self.feed.end()));
    }

    /// Forgets what of the feed neither a replica nor the backlog needs.
    fn trim(&mut self, backlog: u64) {
        let needed = self.needed_from(backlog);
        self.feed.forget_before(needed);
    }

    /// From where on the history is needed: by the backlog, or by a replica that is slower.
    fn needed_from(&self, backlog: u64) -> u64 {
        let needed = self.replicas.iter().filter(|replica| replica.takes_feed()).map(|replica| replica.place).min();
        let kept = self.feed.end().saturating_sub(backlog);
        needed.unwrap_or(kept).min(kept)
    }
}

impl Inner {
    fn pass(&mut self, bytes: &[u8], db: u32) {
        self.feed.pass(bytes);
        self.stream_db = db;
    }
}

impl Replica {
    fn takes_feed(&self) -> bool {
        matches!(self.state, State::Snapshot(_) | State::Loading | State::Online) && !self.announced.rdb_only
    }
}

/// What a session that asks to be a replica gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// This line, and then the feed.
    Continue(String),
    /// A snapshot, in time.
    Full,
}

/// Replicas that one snapshot suits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// Whether it is sent as it is made, with a mark at its end, rather than with its length in front.
    pub marked: bool,
    /// The version of RDB.
    pub rdb_version: u16,
    /// What it holds.
    pub parts: Parts,
}

/// A snapshot on its way to replicas.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    number: u64,
    /// 40 digits that end it.
    pub mark: String,
    /// The database in which the feed goes on, if the replicas are not told it there.
    pub stream_db: Option<u32>,
}

/// One line of INFO and ROLE.
#[derive(Clone, Debug)]
pub struct Follower {
    /// Its address, and the port on which it serves.
    pub ip: String,
    /// See `ip`.
    pub port: u16,
    /// `wait_bgsave`, `send_bulk` or `online`.
    pub state: &'static str,
    /// What it has.
    pub acked: u64,
    /// Seconds since it last said so.
    pub lag_s: i64,
}

/// What INFO tells.
#[derive(Clone, Debug)]
pub struct Report {
    /// Names the history.
    pub id: String,
    /// The history that it goes on from, and up to where it is the same.
    pub before: Option<(String, u64)>,
    /// Its length in bytes.
    pub offset: u64,
    /// Whether the end of it is kept,
    pub backlog: bool,
    /// from where on,
    pub backlog_start: u64,
    /// in so much memory.
    pub memory_bytes: usize,
    /// Who follows.
    pub followers: Vec<Follower>,
}

/// How many replicas a worker has, and whether it knows that there is something for them.
#[derive(Default)]
struct Home {
    replicas: AtomicUsize,
    told: AtomicBool,
}

/// The replicas, and what they are sent.
pub struct Replication {
    on: AtomicBool,
    offset: AtomicU64,
    /// Replicas that count for `min-replicas-to-write`.
    good: AtomicUsize,
    backlog_bytes: AtomicU64,
    inner: Mutex<Inner>,
    /// A snapshot's replicas have taken something.
    room: Condvar,
    homes: Vec<Home>,
    /// Snapshots asked for; comebacks granted; and refused.
    pub counts: [AtomicU64; 3],
}

impl Replication {
    pub(crate) fn new(workers: usize, seed: u64, now_ms: i64) -> Replication {
        let mut inner = Inner {
            id: String::new(),
            before: None,
            feed: Feed::default(),
            passing: false,
            stream_db: 0,
            replicas: Vec::new(),
            random: seed,
            snapshots: 0,
            empty_since_ms: now_ms,
            second_ms: now_ms,
            ping_ms: now_ms,
        };
        inner.id = inner.digits();
        Replication {
            on: AtomicBool::new(false),
            offset: AtomicU64::new(0),
            good: AtomicUsize::new(0),
            backlog_bytes: AtomicU64::new(0),
            inner: Mutex::new(inner),
            room: Condvar::new(),
            homes: (0..workers).map(|_| Home::default()).collect(),
            counts: Default::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether changes go to the feed. Exact for those who hold a shard.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Length of the history in bytes.
    pub fn offset(&self) -> u64 {
        self.offset.load(Relaxed)
    }

    /// Memory beyond the backlog that replicas take: what they have yet to get.
    pub fn owed_bytes(&self) -> u64 {
        if !self.is_on() {
            return 0;
        }
        let inner = self.lock();
        let queued = inner.replicas.iter().map(|replica| replica.queued).max().unwrap_or(0);
        let output: usize = inner.replicas.iter().map(|replica| replica.info.replica_buffer.load(Relaxed)).sum();
        let feed = (inner.feed.memory_bytes() as u64).saturating_sub(self.backlog_bytes.load(Relaxed));
        feed + (queued + output) as u64
    }

    /// How many replicas are online and were heard of lately (`min-replicas-max-lag`).
    pub fn good(&self) -> usize {
        self.good.load(Relaxed)
    }

    /// [`Replication::good`], counted anew.
    pub(crate) fn count_good(&self, settings: &Settings, now_ms: i64) -> usize {
        let good = self.lock().replicas.iter().filter(|replica| replica.is_good(settings, now_ms)).count();
        self.good.store(good, Relaxed);
        good
    }

    // ---- what is fed

    /// Appends what a transaction changed and published, as the server that is followed put it if it came from there; its
    /// shards are still held. Where the feed then ends.
    pub(crate) fn feed(
        &self,
        engine: &Engine,
        changes: &Changes,
        published: &[[&[u8]; 3]],
        db: u32,
        passed: Option<&[u8]>,
    ) -> u64 {
        self.append(engine, |inner| match (inner.passing, passed) {
            (false, _) => inner.feed.transaction(changes, published, db),
            (true, Some(bytes)) => inner.pass(bytes, db),
            (true, None) => {}
        })
    }

    /// Appends a command that changes nothing.
    pub(crate) fn tell(&self, engine: &Engine, db: Option<u32>, words: &[&[u8]]) {
        self.append(engine, |inner| match db {
            _ if inner.passing => {}
            Some(db) => inner.feed.command_in(db, words),
            None => inner.feed.command(words),
        });
    }

    /// Appends what came from the server that is followed, which is then in database `db`, and has changed nothing.
    pub(crate) fn pass(&self, engine: &Engine, bytes: &[u8], db: u32) {
        self.append(engine, |inner| {
            if inner.passing {
                inner.pass(bytes, db);
            }
        });
    }

    fn append(&self, engine: &Engine, add: impl FnOnce(&mut Inner)) -> u64 {
        let mut inner = self.lock();
        add(&mut inner);
        let backlog = self.backlog_bytes.load(Relaxed);
        inner.trim(backlog);
        let end = inner.feed.end();
        self.offset.store(end, Relaxed);
        drop(inner);
        for (worker, home) in self.homes.iter().enumerate() {
            if home.replicas.load(Relaxed) != 0 {
                self.wake(engine, worker);
            }
        }
        end
    }

    /// Has a worker look after its replicas.
    fn wake(&self, engine: &Engine, worker: usize) {
        if !self.homes[worker].told.swap(true, Relaxed) {
            engine.mailbox(worker).iter().for_each(|mailbox| mailbox.nudge());
        }
    }

    /// Whether there is something for the replicas of a worker, which from now on wants to be told anew.
    pub(crate) fn is_told(&self, worker: usize) -> bool {
        self.homes[worker].told.swap(false, Relaxed)
    }

    // ---- replicas come and go

    /// A session asks to follow: from a place of a history on, if it names one.
    pub(crate) fn enter(
        &self,
        info: Arc<ClientInfo>,
        announced: Announced,
        wants: Option<(&[u8], i64)>,
        backlog_bytes: u64,
        now_ms: i64,
    ) -> Answer {
        let mut inner = self.lock();
        // Not only when it is looked at again: it may just have been made smaller.
        self.backlog_bytes.store(backlog_bytes, Relaxed);
        inner.trim(backlog_bytes);
        let at = info.at;
        let mut replica = Replica {
            at,
            info,
            state: State::Waiting,
            acknowledges: wants.is_some(),
            announced,
            place: 0,
            queue: VecDeque::new(),
            queued: 0,
            marked: false,
            begun: false,
            ended: false,
            since_ms: now_ms,
            active_ms: now_ms,
            acked: 0,
            acked_on_disk: 0,
        };
        self.homes[at.worker].replicas.fetch_add(1, Relaxed);
        let back = wants.filter(|(id, _)| *id != b"?");
        if let Some((id, first)) = back {
            // It names the first byte that it has not, counted from one.
            let place = first.checked_sub(1).and_then(|place| u64::try_from(place).ok());
            let kept = inner.feed.start()..=inner.feed.end();
            if let Some(place) = place
                && self.is_on()
                && inner.is_same(id, place)
                && kept.contains(&place)
            {
                (replica.state, replica.place, replica.acked) = (State::Online, place, place);
                let line = if replica.announced.psync2 { format!("CONTINUE {}", inner.id) } else { "CONTINUE".into() };
                inner.replicas.push(replica);
                self.counts[1].fetch_add(1, Relaxed);
                self.homes[at.worker].told.store(true, Relaxed);
                return Answer::Continue(line);
            }
            self.counts[2].fetch_add(1, Relaxed);
        }
        inner.replicas.push(replica);
        self.counts[0].fetch_add(1, Relaxed);
        Answer::Full
    }

    /// A replica's session is gone.
    pub(crate) fn leave(&self, at: SessionRef, now_ms: i64) {
        let mut inner = self.lock();
        let before = inner.replicas.len();
        inner.replicas.retain(|replica| replica.at != at);
        if inner.replicas.len() != before {
            self.homes[at.worker].replicas.fetch_sub(1, Relaxed);
            // Not only when they are counted again.
            let online = inner.replicas.iter().filter(|replica| replica.state == State::Online).count();
            self.good.fetch_min(online, Relaxed);
        }
        if inner.replicas.is_empty() {
            inner.empty_since_ms = now_ms;
        }
        inner.trim(self.backlog_bytes.load(Relaxed));
        self.room.notify_all();
    }

    /// Moves what a replica may be sent into its session's output. Whether there was any.
    pub(crate) fn pull(&self, session: &mut Session, now_ms: i64) -> bool {
        let moved = self.move_feed(session, now_ms);
        session.show_replica_buffer();
        moved
    }

    fn move_feed(&self, session: &mut Session, now_ms: i64) -> bool {
        let mut left = OUTPUT_BYTES.saturating_sub(session.unsent());
        if left < OUTPUT_BYTES / 2 {
            return false;
        }
        let (at, out) = (session.at, &mut session.reply.buf);
        let before = out.len();
        let mut inner = self.lock();
        let Inner { feed, replicas, .. } = &mut *inner;
        let Some(replica) = replicas.iter_mut().find(|replica| replica.at == at) else { return false };
        while left != 0
            && let Some(bytes) = replica.queue.pop_front()
        {
            out.extend_from_slice(&bytes);
            replica.queued -= bytes.len();
            left = left.saturating_sub(bytes.len());
        }
        if replica.queue.is_empty() && replica.ended && matches!(replica.state, State::Snapshot(_)) {
            replica.state = match () {
                () if replica.announced.rdb_only => State::Done,
                () if replica.marked => State::Loading,
                () => State::Online,
            };
        }
        if replica.queue.is_empty() && replica.state == State::Online {
            replica.place += feed.copy(replica.place, left, out) as u64;
        }
        let moved = out.len() != before;
        if moved && replica.state != State::Online {
            replica.active_ms = now_ms;
            self.room.notify_all();
        }
        moved
    }

    /// Bytes that wait for a replica, besides those in its session's output.
    pub(crate) fn owed(&self, at: SessionRef) -> usize {
        let mut inner = self.lock();
        let end = inner.feed.end();
        let Some(replica) = inner.find(at) else { return 0 };
        replica.queued + if replica.takes_feed() { (end - replica.place) as usize } else { 0 }
    }

    /// REPLCONF ACK: a replica has so much of the history, and so much on disk.
    pub(crate) fn acknowledge(&self, at: SessionRef, has: u64, on_disk: Option<u64>, now_ms: i64) {
        let mut inner = self.lock();
        let Some(replica) = inner.find(at) else { return };
        replica.active_ms = now_ms;
        if replica.state == State::Loading {
            replica.state = State::Online;
            self.homes[at.worker].told.store(true, Relaxed);
        }
        replica.acked = replica.acked.max(has);
        replica.acked_on_disk = replica.acked_on_disk.max(on_disk.unwrap_or(0));
    }

    /// How many replicas have the history up to here, in memory or on disk.
    pub(crate) fn acked(&self, offset: u64, on_disk: bool) -> usize {
        let has = |replica: &&Replica| {
            let acked = if on_disk { replica.acked_on_disk } else { replica.acked };
            replica.state == State::Online && acked >= offset
        };
        self.lock().replicas.iter().filter(has).count()
    }

    /// The replica of this address, else any, if it has all of the history.
    pub(crate) fn caught_up(&self, target: Option<&(String, u16)>) -> Option<(String, u16)> {
        let inner = self.lock();
        let end = inner.feed.end();
        let is_ready = |replica: &&Replica| replica.state == State::Online && replica.acked == end;
        let mut ready = inner.replicas.iter().filter(is_ready).map(Replica::address);
        ready.find(|at| target.is_none_or(|(host, port)| host.eq_ignore_ascii_case(&at.0) && *port == at.1))
    }

    /// A line for each replica that has yet to get something; and how many there are.
    pub(crate) fn lagging(&self, now_ms: i64) -> (Vec<String>, usize) {
        let inner = self.lock();
        let end = inner.feed.end();
        let followers = || inner.replicas.iter().filter(|replica| !replica.announced.rdb_only);
        let line = |replica: &Replica| {
            let ((ip, port), behind) = (replica.address(), end.saturating_sub(replica.acked));
            let (lag_s, state) = (replica.lag_s(now_ms), replica.state.word());
            format!("Lagging replica {ip}:{port} reported offset {behind} behind master, lag={lag_s}, state={state}.")
        };
        (followers().filter(|replica| replica.acked != end).map(line).collect(), followers().count())
    }

    /// Whether a replica of this address is online; `None` if there is no replica of this address.
    pub(crate) fn is_online(&self, host: &str, port: u16) -> Option<bool> {
        let inner = self.lock();
        let replica = inner
            .replicas
            .iter()
            .find(|replica| replica.announced.port == port && replica.announced.ip.eq_ignore_ascii_case(host))?;
        Some(replica.state == State::Online)
    }

    /// How it all stands.
    pub fn report(&self, now_ms: i64) -> Report {
        let inner = self.lock();
        let kept = self.backlog_bytes.load(Relaxed);
        let follower = |replica: &Replica| Follower {
            ip: replica.announced.ip.clone(),
            port: replica.announced.port,
            state: match replica.state {
                // As in Redis, which sends a file once it is made, and calls the other way waiting to its end.
                State::Snapshot(_) if replica.marked || !replica.begun => State::Waiting.word(),
                state => state.word(),
            },
            acked: replica.acked,
            lag_s: replica.lag_s(now_ms),
        };
        Report {
            id: inner.id.clone(),
            before: inner.before.clone(),
            offset: inner.feed.end(),
            backlog: self.is_on(),
            backlog_start: inner.feed.start().max(inner.needed_from(kept)),
            memory_bytes: inner.feed.memory_bytes(),
            followers: inner.replicas.iter().map(follower).collect(),
        }
    }

    // ---- snapshots for replicas

    /// Whether a snapshot is to begin: somebody waits for one who need not be kept waiting for others to join.
    pub(crate) fn wants_snapshot(&self, settings: &Settings, now_ms: i64) -> bool {
        let inner = self.lock();
        let waiting = || inner.replicas.iter().filter(|replica| replica.state == State::Waiting);
        let marked = |replica: &Replica| replica.announced.eof && settings.repl_diskless_sync;
        let delay_ms = settings.repl_diskless_sync_delay as i64 * 1000;
        let enough = settings.repl_diskless_sync_max_replicas;
        enough != 0 && waiting().count() >= enough
            || waiting().any(|replica| !marked(replica) || now_ms - replica.since_ms >= delay_ms)
    }

    /// Whom the next snapshot suits.
    pub(crate) fn next_group(&self, settings: &Settings) -> Option<Group> {
        let inner = self.lock();
        let first = inner.replicas.iter().find(|replica| replica.state == State::Waiting)?;
        Some(first.group(settings))
    }

    /// The instant of a snapshot, with every shard held: from here on its replicas follow. `None` if there are none any more.
    pub(crate) fn begin(&self, settings: &Settings, group: Group) -> Option<Transfer> {
        let mut inner = self.lock();
        inner.snapshots += 1;
        let (number, place) = (inner.snapshots, inner.feed.end());
        let mark = inner.digits();
        let line: Arc<[u8]> = format!("+FULLRESYNC {} {place}\r\n", inner.id).into_bytes().into();
        let mut any = false;
        for replica in &mut inner.replicas {
            if replica.state == State::Waiting && replica.group(settings) == group {
                (replica.state, replica.place, any) = (State::Snapshot(number), place, true);
                replica.marked = group.marked;
                if replica.acknowledges {
                    replica.push(line.clone());
                }
            }
        }
        if !any {
            return None;
        }
        inner.feed.begin_reader();
        self.backlog_bytes.store(settings.repl_backlog_size, Relaxed);
        self.on.store(true, Relaxed);
        let stream_db = inner.passing.then_some(inner.stream_db);
        Some(Transfer { number, mark, stream_db })
    }

    /// Sends bytes to the replicas of a snapshot. Whether there is one left.
    pub(crate) fn send(&self, engine: &Engine, transfer: &Transfer, bytes: &[u8]) -> bool {
        let bytes: Arc<[u8]> = bytes.into();
        let mut any = false;
        for replica in &mut self.lock().replicas {
            if replica.state == State::Snapshot(transfer.number) {
                (any, replica.begun) = (true, true);
                replica.push(bytes.clone());
                self.wake(engine, replica.at.worker);
            }
        }
        any
    }

    /// Waits a little if too much waits for the replicas of a snapshot. Whether there is room for more.
    pub(crate) fn await_room(&self, transfer: &Transfer) -> bool {
        const PATIENCE: Duration = Duration::from_millis(2);
        let full = |inner: &mut Inner| {
            let of = |replica: &&Replica| replica.state == State::Snapshot(transfer.number);
            inner.replicas.iter().filter(of).any(|replica| replica.queued >= SNAPSHOT_BYTES)
        };
        let waited = self.room.wait_timeout_while(self.lock(), PATIENCE, full);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// A snapshot is complete, or failed: then its replicas are cut off.
    pub(crate) fn finish(&self, engine: &Engine, transfer: &Transfer, ok: bool) {
        for replica in &mut self.lock().replicas {
            if replica.state == State::Snapshot(transfer.number) {
                replica.ended = true;
                if ok { self.wake(engine, replica.at.worker) } else { cut_off(engine, replica.at) }
            }
        }
    }

    // ---- the history of another server

    /// A name for a history, which no other has.
    pub(crate) fn new_id(&self) -> String {
        self.lock().digits()
    }

    /// Gives the history another name, under which nobody can go on with it: DEBUG CHANGE-REPL-ID.
    pub(crate) fn change_id(&self) {
        let mut inner = self.lock();
        (inner.id, inner.before) = (inner.digits(), None);
    }

    /// From now on the history is that of a server which this one follows. What it is called and how long it is, if this server
    /// knows it: its name, its length, and the database that who wrote it was in.
    pub(crate) fn follow(&self) -> Option<(String, u64, u32)> {
        let mut inner = self.lock();
        if !std::mem::replace(&mut inner.passing, true) {
            inner.stream_db = 0;
        }
        self.is_on().then(|| (inner.id.clone(), inner.feed.end(), inner.stream_db))
    }

    /// The data is now that of another server at this place of its history. Who follows this server has to begin anew.
    pub(crate) fn restart(&self, engine: &Engine, id: &str, place: u64, db: u32) {
        let settings = engine.config.settings();
        let mut inner = self.lock();
        inner.replicas.iter().for_each(|replica| cut_off(engine, replica.at));
        (inner.id, inner.before, inner.passing, inner.stream_db) = (id.into(), None, true, db);
        inner.feed.restart(place);
        self.offset.store(place, Relaxed);
        self.backlog_bytes.store(settings.repl_backlog_size, Relaxed);
        self.on.store(true, Relaxed);
    }

    /// Where a snapshot of this moment stands in the history, if there is one; every shard is held.
    pub(crate) fn facts(&self) -> Vec<Fact> {
        if !self.is_on() {
            return Vec::new();
        }
        let inner = self.lock();
        let db = if inner.passing { inner.stream_db } else { 0 };
        vec![
            (rdb::REPL_ID, inner.id.clone()),
            (rdb::REPL_OFFSET, inner.feed.end().to_string()),
            (rdb::STREAM_DB, db.to_string()),
        ]
    }

    /// The data that was loaded at the start is that of this place of a history. A replica goes on with it; a master begins one of
    /// its own there, which its replicas can go on with.
    pub(crate) fn resume(&self, engine: &Engine, id: &str, place: u64, db: u32) {
        let mut inner = self.lock();
        inner.feed.restart(place);
        (inner.id, inner.stream_db) = (id.into(), db);
        if !engine.following.is_on() {
            let fresh = inner.digits();
            inner.rename(fresh);
        }
        inner.empty_since_ms = engine.clock.unix_us() / 1000;
        self.offset.store(place, Relaxed);
        self.backlog_bytes.store(engine.config.settings().repl_backlog_size, Relaxed);
        self.on.store(true, Relaxed);
    }

    /// The server that is followed goes on where this one stopped, in a history of perhaps another name.
    pub(crate) fn go_on(&self, engine: &Engine, id: Option<&str>) {
        let mut inner = self.lock();
        if let Some(id) = id.filter(|id| *id != inner.id) {
            inner.rename(id.into());
            // They come back, and are told the name.
            inner.replicas.iter().for_each(|replica| cut_off(engine, replica.at));
        }
    }

    /// This server follows nobody any more: its history goes on from the one that it had.
    pub(crate) fn lead(&self, engine: &Engine) {
        let mut inner = self.lock();
        if std::mem::take(&mut inner.passing) {
            let id = inner.digits();
            inner.rename(id);
            inner.feed.begin_reader();
            inner.empty_since_ms = engine.clock.unix_us() / 1000;
            inner.replicas.iter().for_each(|replica| cut_off(engine, replica.at));
        }
    }

    // ---- time

    /// What is due. Called about ten times a second.
    pub(crate) fn cron(&self, engine: &Engine, settings: &Settings) {
        let now_ms = engine.clock.unix_us() / 1000;
        self.backlog_bytes.store(settings.repl_backlog_size, Relaxed);
        let paused = engine.pause.left_ms(now_ms).is_some();
        let mut inner = self.lock();
        let Inner { replicas, second_ms, ping_ms, .. } = &mut *inner;
        let newlines = now_ms - *second_ms >= 1000;
        if newlines {
            *second_ms = now_ms;
        }
        let timeout_ms = settings.repl_timeout as i64 * 1000;
        let (mut good, mut online) = (0, false);
        for replica in replicas.iter_mut() {
            online |= replica.state == State::Online;
            good += usize::from(replica.is_good(settings, now_ms));
            let begins = matches!(replica.state, State::Waiting | State::Snapshot(_)) && !replica.begun;
            if begins && newlines {
                // So that it knows that it is not forgotten.
                replica.push(Arc::new(*b"\n"));
                self.wake(engine, replica.at.worker);
            }
            let silent = match replica.state {
                State::Waiting => false,
                State::Snapshot(_) => !replica.queue.is_empty() && replica.begun,
                State::Loading | State::Done => true,
                State::Online => replica.acknowledges,
            };
            if silent && now_ms - replica.active_ms > timeout_ms {
                let text =
                    format!("Disconnecting timedout replica {}:{}", replica.announced.ip, replica.announced.port);
                engine.platform.log(3, &text);
                cut_off(engine, replica.at);
            }
        }
        self.good.store(good, Relaxed);
        if !online {
            *ping_ms = now_ms;
        }
        let pings = !paused && now_ms - *ping_ms >= settings.repl_ping_replica_period as i64 * 1000;
        if pings {
            *ping_ms = now_ms;
        }
        let (ttl_ms, alone) = (settings.repl_backlog_ttl as i64 * 1000, replicas.is_empty());
        if self.is_on() && !inner.passing && alone && ttl_ms != 0 && now_ms - inner.empty_since_ms > ttl_ms {
            // What comes from here on is in nobody's history.
            self.on.store(false, Relaxed);
            inner.feed.forget();
            (inner.id, inner.before) = (inner.digits(), None);
            engine.platform.log(2, "Replication backlog freed: there was no replica for repl-backlog-ttl seconds");
        }
        drop(inner);
        if pings {
            self.tell(engine, None, &[b"PING"]);
        }
        if self.wants_snapshot(settings, now_ms) {
            engine.saves.sync();
        }
    }
}

impl Replica {
    fn group(&self, settings: &Settings) -> Group {
        Group {
            marked: self.announced.eof && settings.repl_diskless_sync,
            rdb_version: self.announced.rdb_version(settings),
            parts: self.announced.parts,
        }
    }
}

fn cut_off(engine: &Engine, at: SessionRef) {
    let post = |mailbox: &Mailbox| mailbox.post(Message::Kill { session: at });
    engine.mailbox(at.worker).iter().for_each(|mailbox| post(mailbox));
}
