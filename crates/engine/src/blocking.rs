//! Blocking on keys: BLPOP and its relatives.
//!
//! Invariants: a blocked session is served in the critical section of whoever made it ready, first come first served,
//! so nobody can take the element in between; it is served once or gives up once, decided under the locks of its keys.

use crate::acl;
use crate::acl::log::Context;
use crate::acl::user::User;
use crate::args::Args;
use crate::clients::ClientInfo;
use crate::command::{Group, Reply, Run, Wait};
use crate::durability::Lsn;
use crate::error::{Error, Result};
use crate::exec;
use crate::mailbox::{Message, SessionRef};
use crate::registry::Registered;
use crate::session::{Blocked, LogWait, Session, Words};
use crate::settle::settle;
use crate::slowlog;
use crate::stats;
use crate::tracking;
use crate::worker::{Fate, Worker};
use kelda_resp::{Protocol, Writer};
use kelda_store::shard::{Guard, Keyspace, ShardSet};
use kelda_store::txn::{Key, Txn};
use kelda_store::value::Kind;
use kelda_store::waiting::{DbKey, Waiter};
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// When a blocked session's time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    /// Monotonic µs.
    pub at_us: u64,
    worker: usize,
    slot: usize,
    id: u64,
}

impl Timer {
    fn of(session: SessionRef, at_us: u64) -> Timer {
        let SessionRef { worker, slot, id } = session;
        Timer { at_us, worker, slot, id }
    }

    fn session(&self) -> SessionRef {
        SessionRef { worker: self.worker, slot: self.slot, id: self.id }
    }
}

/// A blocked session that was served.
pub(crate) struct Served {
    /// Which.
    pub session: SessionRef,
    /// Its reply, in its protocol.
    pub reply: Vec<u8>,
    /// Whether its command ran; or else its user may no longer run it.
    pub ran: bool,
}

/// What it takes to run a blocked session's command on another thread.
struct BlockedCommand {
    session: SessionRef,
    info: Arc<ClientInfo>,
    db: u32,
    protocol: Protocol,
    command: &'static Registered,
    words: Words,
    errors_end_it: bool,
    /// Whether what it reads is remembered (CLIENT TRACKING).
    remembers: bool,
    /// Who waits, and the version of the users then.
    user: Arc<User>,
    acl_version: u64,
}

impl BlockedCommand {
    /// Checks again what may have changed since the session was blocked: what its user may do.
    #[inline]
    fn check_user(&self, worker: &Worker, words: &[&[u8]]) -> Result {
        if worker.engine.acl.version() == self.acl_version { Ok(()) } else { self.check_changed_user(worker, words) }
    }

    #[cold]
    fn check_changed_user(&self, worker: &Worker, words: &[&[u8]]) -> Result {
        let engine = &worker.engine;
        let user = engine.acl.get(&self.user.name).unwrap_or_else(|| Arc::new(User::new(&self.user.name, false)));
        let Err(denied) = user.check(self.command, words, self.db, worker.engine.keyspace.databases()) else {
            return Ok(());
        };
        if let Some(info) = engine.clients.get(self.session.id) {
            acl::note(worker, &user, &info, self.command, words, denied, Context::TopLevel);
        }
        Err(Error::owned(format!("NOPERM {}", acl::text(&user, self.command, denied.reason))))
    }
}

/// Whether the waiter's command ends with an error when its key goes (XREADGROUP).
pub fn errors_end(waiter: &Waiter) -> bool {
    waiter.payload.downcast_ref::<BlockedCommand>().is_some_and(|blocked| blocked.errors_end_it)
}

/// Locks the shards, and with them those of every key that sessions waiting in them reach.
#[inline]
pub fn lock_with_waiters(keyspace: &Keyspace, set: ShardSet) -> Option<Guard<'_>> {
    let guard = keyspace.lock(set)?;
    if guard.has_waiters() { lock_closure(keyspace, guard) } else { Some(guard) }
}

#[cold]
fn lock_closure<'k>(keyspace: &'k Keyspace, mut guard: Guard<'k>) -> Option<Guard<'k>> {
    loop {
        let mut wanted = guard.held().clone();
        for shard in guard.held().iter() {
            guard.shard(shard).waiters.for_each_reaching_out(|waiter| {
                waiter.reaches.iter().for_each(|hash| wanted.add(*hash));
            });
        }
        if wanted == *guard.held() {
            return Some(guard);
        }
        drop(guard);
        guard = keyspace.lock(wanted)?;
    }
}

/// Registers the session in the queues of the keys that it awaits.
pub fn block(
    worker: &mut Worker,
    session: &mut Session,
    txn: &mut Txn,
    command: &'static Registered,
    args: &Args,
    wait: Wait,
) {
    let (again_us, wait) = match wait {
        Wait::Again { after_ms, wait } => (Some(in_ms(worker, after_ms)), *wait),
        wait => (None, wait),
    };
    let (first, count, timeout_ms, errors_end_it) = match wait {
        Wait::Done | Wait::Again { .. } => return,
        Wait::On { keys: (first, count), timeout_ms, otherwise: _, errors_end_it } => {
            (first, count, timeout_ms, errors_end_it)
        }
        Wait::Resolved(words, wait) => {
            let words: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
            return block(worker, session, txn, command, &Args::new(&words), *wait);
        }
    };
    let db = session.db;
    let mut keys: Vec<DbKey> = Vec::with_capacity(count);
    for word in args.words().iter().skip(first).take(count) {
        if !keys.iter().any(|(_, have)| **have == **word) {
            keys.push((db, (*word).into()));
        }
    }
    let mut reaches = Vec::new();
    command.find_keys(args.words(), &mut |at, _| reaches.push(Key::new(args.words()[at]).hash));
    let payload = BlockedCommand {
        session: session.at,
        info: session.info.clone(),
        db,
        protocol: session.protocol,
        command,
        words: args.words().iter().map(|word| Box::from(*word)).collect(),
        errors_end_it,
        remembers: tracking::remembers(session),
        user: session.user.clone(),
        acl_version: session.acl_version,
    };
    let waiter = Waiter::new(keys, reaches, Arc::new(payload));
    for (db, key) in &waiter.keys {
        txn.shard_data(Key::new(key).shard()).waiters.add(*db, key, waiter.clone());
    }
    let deadline_us = (timeout_ms != 0).then(|| in_ms(worker, timeout_ms));
    settle_down(worker, session, Blocked { waiter, deadline_us, again_us, log: None });
}

/// In so many ms, on the worker's monotonic clock.
fn in_ms(worker: &Worker, ms: u64) -> u64 {
    worker.engine.clock.monotonic_us().saturating_add(ms.saturating_mul(1000))
}

/// Has a session wait for the log or for replicas, for `timeout_ms` at most if that is not 0; then it is replied what WAITAOF replies.
pub fn await_log(worker: &mut Worker, session: &mut Session, wait: LogWait, timeout_ms: u64) {
    let deadline_us = (timeout_ms != 0).then(|| in_ms(worker, timeout_ms));
    let waiter = Waiter::new(Vec::new(), Vec::new(), Arc::new(()));
    settle_down(worker, session, Blocked { waiter, deadline_us, again_us: None, log: Some(wait) });
    worker.awaiting_log.push(session.at);
    worker.engine.log.await_progress(worker.index);
    worker.sync_wanted |= wait.local;
    if wait.replicas != 0 {
        worker.ask_replicas();
    }
}

/// WAITAOF cannot wait for a log that there is not.
pub const NO_LOG: Error = Error::text("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");

/// Makes a session wait.
fn settle_down(worker: &mut Worker, session: &mut Session, blocked: Blocked) {
    if let Some(at_us) = blocked.timer_us() {
        worker.tidy_timers();
        worker.timers.push(Reverse(Timer::of(session.at, at_us)));
    }
    session.blocked = Some(blocked);
    session.info.blocked.store(true, Relaxed);
    worker.engine.clients.blocked.fetch_add(1, Relaxed);
}

fn no_longer_blocked(worker: &Worker, info: &ClientInfo) {
    if info.blocked.swap(false, Relaxed) {
        worker.engine.clients.blocked.fetch_sub(1, Relaxed);
    }
}

/// The reply of WAIT or WAITAOF: how many replicas have what it asked for; before that, of WAITAOF, whether the log has.
pub fn write_log_state(worker: &Worker, reply: &mut Reply, wait: &LogWait) {
    let (_, durable, replicas) = worker.log_state(wait);
    if wait.on_disk {
        reply.array(2);
        reply.int(durable.into());
    }
    reply.int(replicas as i64);
}

/// Takes a waiter out of all its queues; the transaction holds its shards.
fn leave_queues(txn: &mut Txn, waiter: &Arc<Waiter>) {
    for (db, key) in &waiter.keys {
        txn.shard_data(Key::new(key).shard()).waiters.remove(*db, key, waiter);
    }
    waiter.retire();
}

/// Runs the commands of sessions blocked on keys that this transaction changed, until none of them gets anything.
pub fn serve_ready(worker: &mut Worker, txn: &mut Txn) {
    let before = txn.db();
    // What the transaction took its time to do may have outlived the keys.
    txn.go_on_at(worker.engine.clock.unix_us() / 1000);
    while let Some((db, key)) = txn.cx().ready.pop_front() {
        let shard = Key::new(&key).shard();
        let mut place = 0;
        txn.select(db);
        let mut there = txn.exists(Key::new(&key));
        while let Some(waiter) = txn.shard_data(shard).waiters.get(db, &key, place) {
            if serve(worker, txn, Key::new(&key), &waiter, there) == Outcome::Left {
                txn.select(db);
                there = txn.exists(Key::new(&key));
            } else {
                place += 1;
            }
        }
        // Whoever looks at a key that is due removes it, as in Redis; the next transaction may not hold its shard.
        txn.leave_stale();
    }
    txn.select(before);
}

/// What became of a session whose command was run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It left its queues, served or with an error.
    Left,
    /// It waits on, until a key changes or, if that is told, until so many ms are over.
    Waits(Option<u64>),
}

/// Runs a blocked session's command again, as `ready` changed. `there`: whether the key that changed exists.
fn serve(worker: &mut Worker, txn: &mut Txn, ready: Key, waiter: &Arc<Waiter>, there: bool) -> Outcome {
    if waiter.is_abandoned() {
        leave_queues(txn, waiter);
        return Outcome::Left;
    }
    let Some(blocked) = waiter.payload.downcast_ref::<BlockedCommand>() else { return Outcome::Waits(None) };
    // Nothing is to be had from a key that is not there, but for an error: the queue may be long.
    if !there && !blocked.errors_end_it {
        return Outcome::Waits(None);
    }
    let Run::Wait(run) = blocked.command.command.run else { return Outcome::Waits(None) };
    txn.select(blocked.db);
    // A key of another type is none that the command waits for.
    let kind = txn.peek(ready).map(|entry| entry.kind());
    if !blocked.errors_end_it && kind != awaited_kind(blocked.command.command.group) {
        return Outcome::Waits(None);
    }
    let mut reply = Writer::new(blocked.protocol);
    let words: Vec<&[u8]> = blocked.words.iter().map(|word| &**word).collect();
    let allowed = blocked.check_user(worker, &words);
    let counters = &worker.stats().by_command[blocked.command.id];
    let (ran, started_us) = (allowed.is_ok(), worker.engine.clock.monotonic_us());
    let counter = if ran { &counters.failed } else { &counters.rejected };
    let actor = std::mem::replace(&mut txn.cx().actor, blocked.session.id);
    txn.cx().changes.begin_unit();
    settle(txn, blocked.command, &Args::new(&words));
    let result = allowed.and_then(|()| run(txn, &Args::new(&words), &mut reply));
    txn.cx().actor = actor;
    match result {
        Ok(Wait::Done) => {}
        Ok(Wait::On { .. } | Wait::Resolved(..)) => return Outcome::Waits(None),
        Ok(Wait::Again { after_ms, .. }) => return Outcome::Waits(Some(after_ms)),
        Err(error) => {
            reply.truncate(0);
            reply.error(&worker.settings.dialect.says(error.to_string()));
            counter.add(1);
            stats::count_error(worker, &reply.buf, false);
        }
    }
    if ran {
        let us = worker.engine.clock.monotonic_us().saturating_sub(started_us);
        counters.took(us, 1);
        slowlog::note_served(worker, blocked.session.id, blocked.command, &words, us, reply.buf.len());
    }
    if blocked.remembers {
        tracking::remember(&worker.engine, blocked.session, txn, blocked.command, &words);
    }
    leave_queues(txn, waiter);
    // Not only when its thread gets to it: whoever counts those that wait counts it no more.
    no_longer_blocked(worker, &blocked.info);
    // Sent at the commit, which knows its place in the log.
    worker.served.push(Served { session: blocked.session, reply: reply.buf, ran });
    Outcome::Left
}

/// The type of value that the blocking commands of a group wait for.
fn awaited_kind(group: Group) -> Option<Kind> {
    match group {
        Group::List => Some(Kind::List),
        Group::SortedSet => Some(Kind::ZSet),
        Group::Stream => Some(Kind::Stream),
        _ => None,
    }
}

impl Worker {
    /// Forgets the timers of waits that ended before their time, when they are too many.
    fn tidy_timers(&mut self) {
        /// Timers that are never worth the work.
        const FEW: usize = 1024;
        if self.timers.len() < self.timers_tidied.max(FEW) {
            return;
        }
        let mut timers = std::mem::take(&mut self.timers);
        timers.retain(|Reverse(timer)| {
            let blocked = self.session_of(timer.session()).and_then(|session| session.blocked.as_ref());
            // A timer that met a busy shard is later than its deadline.
            blocked.and_then(Blocked::timer_us).is_some_and(|due| due <= timer.at_us)
        });
        self.timers_tidied = 2 * timers.len();
        self.timers = timers;
    }

    /// Ends the waits whose time is over.
    pub(crate) fn run_timers(&mut self, now_us: u64) {
        while let Some(Reverse(timer)) = self.timers.peek().copied() {
            if timer.at_us > now_us {
                return;
            }
            self.timers.pop();
            let at = timer.session();
            let Some(blocked) = self.session_of(at).and_then(|session| session.blocked.as_ref()) else { continue };
            let is_due = |due: Option<u64>| due.is_some_and(|due| due <= now_us);
            let done = if is_due(blocked.deadline_us) {
                self.give_up(at, false)
            } else if is_due(blocked.again_us) {
                self.look_again(at)
            } else {
                true
            };
            if !done {
                // After all that are due, so this loop ends.
                self.timers.push(Reverse(Timer { at_us: now_us + 1000, ..timer }));
            }
        }
    }

    /// Runs a blocked session's command again, as it waits for time to pass too. `false` when its shards are busy.
    fn look_again(&mut self, at: SessionRef) -> bool {
        let Some(session) = self.session_of(at) else { return true };
        let Some(waiter) = session.blocked.as_ref().map(|blocked| blocked.waiter.clone()) else { return true };
        let mut set = ShardSet::None;
        waiter.reaches.iter().for_each(|hash| set.add(*hash));
        let engine = self.engine.clone();
        let Some(mut txn) = self.begin(&engine.keyspace, set, 0) else { return false };
        let mut outcome = Outcome::Left;
        // If it was served before, its reply is in the mail.
        if let Some((db, key)) = waiter.keys.first().filter(|_| !waiter.is_retired()) {
            let key = Key::new(key);
            txn.select(*db);
            let there = txn.exists(key);
            outcome = serve(self, &mut txn, key, &waiter, there);
        }
        self.commit(txn);
        if let Outcome::Waits(after_ms) = outcome {
            let again_us = after_ms.map(|after_ms| in_ms(self, after_ms));
            if let Some(blocked) = self.session_of(at).and_then(|session| session.blocked.as_mut()) {
                blocked.again_us = again_us;
                let due = blocked.timer_us();
                self.timers.extend(due.map(|at_us| Reverse(Timer::of(at, at_us))));
            }
        }
        true
    }

    /// Takes a session out of its queues and replies, if not with an error, what its command replies when its time is over.
    /// `false` when its shards are busy.
    fn give_up(&mut self, at: SessionRef, with_error: bool) -> bool {
        let Some(session) = self.session_of(at) else { return true };
        let Some(waiter) = session.blocked.as_ref().map(|blocked| blocked.waiter.clone()) else { return true };
        if waiter.is_retired() {
            // It was served; its reply is in the mail.
            return true;
        }
        match self.withdraw(&waiter) {
            None => return false,
            // It was served just now; its reply is in the mail.
            Some(false) => return true,
            Some(true) => {}
        }
        let Some(session) = self.session_of(at) else { return true };
        if let Some(blocked) = session.blocked.take() {
            let (mut reply, command) = (Writer::new(session.protocol), session.last_command);
            match blocked.log {
                _ if with_error => {
                    reply.error("UNBLOCKED client unblocked via CLIENT UNBLOCK");
                    stats::count_error(self, &reply.buf, false);
                    // As Redis counts it.
                    if let Some(command) = command {
                        self.stats().by_command[command.id].rejected.add(1);
                    }
                }
                Some(wait) => write_log_state(self, &mut reply, &wait),
                None => reply.null_array(),
            }
            self.unblocked(at, &reply.buf, 0, true);
        }
        true
    }

    /// Takes a waiter out of its queues: `Some(true)`; `Some(false)` when it was served before; `None` when its shards
    /// are busy.
    pub(crate) fn withdraw(&mut self, waiter: &Arc<Waiter>) -> Option<bool> {
        let mut set = ShardSet::None;
        waiter.keys.iter().for_each(|(_, key)| set.add(Key::new(key).hash));
        let engine = self.engine.clone();
        let mut txn = self.begin(&engine.keyspace, set, 0)?;
        let waits = !waiter.is_retired();
        if waits {
            leave_queues(&mut txn, waiter);
        }
        self.commit(txn);
        Some(waits)
    }

    /// Gives a session that was blocked its reply, which tells of transaction `lsn`, and lets it go on. `ran`: whether its
    /// command counts as run.
    pub(crate) fn unblocked(&mut self, at: SessionRef, reply: &[u8], lsn: Lsn, ran: bool) {
        let Some(mut session) = self.take_session(at) else { return };
        if let Some(command) = session.last_command.filter(|_| ran) {
            let stats = self.stats();
            stats.commands.add(1);
            stats.by_command[command.id].calls.add(1);
            session.info.totals[2].fetch_add(1, Relaxed);
        }
        let blocked = session.blocked.take();
        no_longer_blocked(self, &session.info);
        let mut output = std::mem::replace(&mut session.reply, Writer::new(session.protocol));
        let mark = output.len();
        output.raw(reply);
        exec::suppress(&mut session, &mut output, mark);
        session.reply = output;
        session.made_lsn = session.made_lsn.max(lsn);
        if blocked.is_some_and(|blocked| blocked.log.is_none()) {
            // Its command may have been run by another session.
            session.fed = self.engine.replication.offset();
        }
        if self.is_strict(&session) {
            self.hold(&mut session, lsn, mark);
        }
        self.put_back(session);
        self.resume(at);
    }

    /// Whether there is a log, or will be: one that was just turned on is there when its first base is.
    pub(crate) fn has_log(&self) -> bool {
        self.engine.log.sink().is_some() && self.engine.config.settings().appendonly
    }

    /// Lets the sessions go on whose transactions WAITAOF waited for.
    pub(crate) fn serve_log_waits(&mut self) {
        for at in std::mem::take(&mut self.awaiting_log) {
            let Some(session) = self.session_of(at) else { continue };
            let protocol = session.protocol;
            let Some(wait) = session.blocked.as_ref().and_then(|blocked| blocked.log) else { continue };
            if self.log_state(&wait).0 {
                self.give_up(at, false);
            } else if wait.local && !self.has_log() {
                // It was turned off meanwhile.
                let mut reply = Writer::new(protocol);
                reply.error(&NO_LOG.to_string());
                stats::count_error(self, &reply.buf, false);
                self.unblocked(at, &reply.buf, 0, true);
            } else {
                self.awaiting_log.push(at);
            }
        }
    }

    /// CLIENT UNBLOCK.
    pub(crate) fn unblock(&mut self, at: SessionRef, with_error: bool) {
        if !self.give_up(at, with_error) {
            self.late.push(Message::Unblock { session: at, with_error });
        }
    }

    /// This server has become a replica: whoever waits is told so and cut off.
    pub(crate) fn unblock_all(&mut self) {
        const WHY: &str =
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";
        let master = self.engine.following.report();
        let redirection = master.map(|master| format!("REDIRECT {}:{}", master.host, master.port));
        let waiting: Vec<SessionRef> = self
            .sessions
            .iter()
            .flatten()
            .filter(|session| session.blocked.is_some())
            .map(|session| session.at)
            .collect();
        for at in waiting {
            let Some(waiter) =
                self.session_of(at).and_then(|session| session.blocked.as_ref()).map(|b| b.waiter.clone())
            else {
                continue;
            };
            match self.withdraw(&waiter) {
                // Its shards are busy: again later.
                None => {
                    self.late.push(Message::UnblockAll);
                    return;
                }
                // It was served just now; its reply is in the mail.
                Some(false) => {}
                Some(true) => {
                    let Some(session) = self.session_of(at) else { continue };
                    let (mut reply, command) = (Writer::new(session.protocol), session.last_command);
                    let awaits_key = session.blocked.as_ref().is_some_and(|blocked| blocked.log.is_none());
                    match &redirection {
                        Some(to) if awaits_key && session.info.redirects.load(Relaxed) => reply.error(to),
                        _ => {
                            reply.error(WHY);
                            session.fate = Fate::CloseAfterWrite;
                        }
                    }
                    stats::count_error(self, &reply.buf, false);
                    // As Redis counts it.
                    if let Some(command) = command {
                        self.stats().by_command[command.id].rejected.add(1);
                    }
                    self.unblocked(at, &reply.buf, 0, true);
                }
            }
        }
    }

    /// A session is gone: so is its wait.
    pub(crate) fn end_wait(&mut self, session: &mut Session) {
        let Some(blocked) = session.blocked.take() else { return };
        no_longer_blocked(self, &session.info);
        // Whoever makes it ready from now on passes it over, even while its shards are busy.
        blocked.waiter.abandon();
        if !blocked.waiter.is_retired() && self.withdraw(&blocked.waiter).is_none() {
            self.orphans.push(blocked.waiter);
        }
    }
}
