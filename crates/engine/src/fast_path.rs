//! The short way of the commands that servers mostly run: fast, of one key, from a session about which nothing is special.
//!
//! [`exec::execute`](crate::exec) does the same and more for every command. The short way leaves out the questions whose
//! answers only a command that goes the long way could change, or that were asked a moment ago: a [`FastPath`] holds for one
//! run over a session's input, and only until a command goes the long way.

use crate::args::Args;
use crate::command::{Flags, Reply, Run};
use crate::engine::Engine;
use crate::registry::{self, Registered};
use crate::session::{ReplyMode, Session};
use crate::settle::settle_some;
use crate::slowlog;
use crate::stats;
use crate::worker::{Fate, Worker};
use kelda_store::shard::shard_of;
use std::sync::atomic::Ordering::Relaxed;

/// Whether a session's commands may go the short way, and what those that did have left to be noted.
pub(crate) struct FastPath<'e> {
    engine: &'e Engine,
    open: bool,
    /// Whether every command has its own name (`rename-command`).
    plain: bool,
    /// Whether `maxmemory` is set, so that commands that need memory have to ask for it.
    limited: bool,
    /// Replies from this size on belong into the log of large replies.
    reply_bytes_max: usize,
    /// Whether the thread's context has its settings: no command that goes the short way changes them.
    prepared: bool,
    /// The command that ran last,
    last: Option<&'static Registered>,
    /// how often it has been called by this thread, ever,
    calls: u64,
    /// how many of these calls its counter does not have yet,
    ran: u64,
    /// and calls of all commands that were not noted yet.
    total: u64,
}

impl<'e> FastPath<'e> {
    /// For a session whose unparsed input has so many bytes.
    pub fn new(engine: &'e Engine, worker: &Worker, session: &Session, input_bytes: usize) -> FastPath<'e> {
        let settings = &worker.settings;
        let limit = |threshold: i64| usize::try_from(threshold).unwrap_or(usize::MAX);
        let open = !session.restricted
            && session.multi.is_none()
            && session.reply_mode == ReplyMode::On
            && session.fate == Fate::Open
            && !session.in_pubsub_mode()
            && !session.replica
            && !session.info.no_touch.load(Relaxed)
            && !settings.import_mode
            && !worker.loading
            && engine.busy_scripts.load(Relaxed) == 0
            && engine.observers.load(Relaxed) == 0
            && settings.min_replicas_to_write == 0
            && engine.saves.check(settings).is_ok()
            && !engine.saves.backlog.is_full()
            && slowlog::sampling(settings)
            && input_bytes < limit(settings.commandlog_request_larger_than)
            && !engine.pause.holds(worker.now_ms(), || true);
        FastPath {
            engine,
            open,
            plain: engine.names.are_plain(),
            limited: settings.maxmemory != 0,
            reply_bytes_max: limit(settings.commandlog_reply_larger_than),
            prepared: false,
            last: None,
            calls: 0,
            ran: 0,
            total: 0,
        }
    }

    /// Runs a command, if it can go the short way; else nothing has happened.
    #[inline]
    pub fn run(&mut self, worker: &mut Worker, session: &Session, args: &Args, reply: &mut Reply) -> bool {
        if !self.open {
            return false;
        }
        let words = args.words();
        let command = match self.last {
            Some(last) if self.plain && last.command.name.as_bytes() == words[0] => last,
            _ => {
                let name = words[0];
                let found = if self.plain { registry::find_short(name) } else { self.engine.names.find(name) };
                let Some(command) = found else { return false };
                if self.last.is_none_or(|last| last.id != command.id) {
                    self.note_calls(worker);
                    self.last = Some(command);
                    self.calls = worker.stats().by_command[command.id].calls.get();
                }
                command
            }
        };
        let Some(at) = command.short_way else { return false };
        let no_room = self.limited && command.flags.has(Flags::DENYOOM) && !worker.is_allowed_memory();
        let no_log = command.writes && self.engine.log.check().is_err();
        // The calls that are timed go the long way, too.
        if no_room || no_log || !command.command.takes(words.len()) || slowlog::is_sample(self.calls) {
            return false;
        }
        let hash = args.hash(at);
        if !self.prepared {
            worker.prepare_context();
            self.prepared = true;
        }
        // The guard goes into the transaction at once: looked at before, it would be written in parts and copied as a whole, for which
        // the processor waits longer than it needs for the lock.
        let Some(guard) = self.engine.keyspace.lock_one(shard_of(hash) as u16) else { return false };
        let mut txn = worker.transaction(guard, session.db);
        if txn.has_waiters() {
            worker.abandon(txn);
            return false;
        }
        let args = Args::with_hash(words, at, hash);
        let mark = reply.len();
        if !settle_some(&mut txn, command, &args) {
            worker.commit(txn);
            return false;
        }
        let result = match command.command.run {
            Run::Read(run) => run(&txn, &args, reply),
            Run::Write(run) => run(&mut txn, &args, reply),
            // `short_way` is set for these two alone.
            Run::Wait(_) | Run::Session(_) | Run::Script(_) | Run::Group(_) => return false,
        };
        worker.commit(txn);
        self.calls += 1;
        self.ran += 1;
        if let Err(error) = result {
            reply.truncate(mark);
            reply.error(&error.to_string());
        }
        if reply.buf.get(mark) == Some(&b'-') {
            worker.stats().by_command[command.id].failed.add(1);
            stats::count_error(worker, &reply.buf[mark..], false);
        }
        if reply.bytes_since(mark) >= self.reply_bytes_max {
            slowlog::note_large_reply(worker, &session.info, command, words, reply.bytes_since(mark));
        }
        true
    }

    /// Notes the calls of the last command.
    fn note_calls(&mut self, worker: &Worker) {
        if let Some(last) = self.last {
            worker.stats().by_command[last.id].calls.add(self.ran);
        }
        self.total += std::mem::take(&mut self.ran);
    }

    /// Ends a run, if there is one: notes in the figures what went the short way.
    pub fn end(run: &mut Option<FastPath>, worker: &Worker, session: &mut Session) {
        let Some(mut run) = run.take() else { return };
        run.note_calls(worker);
        let Some(last) = run.last.filter(|_| run.total != 0) else { return };
        session.last_command = Some(last);
        session.info.command.store(last.id + 1, Relaxed);
        let commands = &session.info.totals[2];
        commands.store(commands.load(Relaxed) + run.total, Relaxed);
        worker.stats().commands.add(run.total);
    }
}
