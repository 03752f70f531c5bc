//! The short way of the commands that servers mostly run: fast, of one key, from a session about which nothing is special.
//!
//! [`exec::execute`](crate::exec) does the same and more for every command. The short way leaves out the questions whose
//! answers only a command that goes the long way could change, or that were asked a moment ago: a [`FastPath`] holds for one
//! run over a session's input, and only until a command goes the long way.

use crate::args::Args;
use crate::command::{Flags, Reply, Run};
use crate::registry::{self, Registered};
use crate::session::{ReplyMode, Session};
use crate::slowlog;
use crate::stats;
use crate::worker::{Fate, Worker};
use kelda_store::shard::shard_of;
use std::sync::atomic::Ordering::Relaxed;

/// Whether a session's commands may go the short way, and what those that did have left to be noted.
pub(crate) struct FastPath {
    open: bool,
    /// Whether commands that need memory may, too.
    room: bool,
    /// Replies from this size on belong into the log of large replies.
    reply_bytes_max: usize,
    ran: u64,
    last: Option<&'static Registered>,
}

impl FastPath {
    /// For a session whose unparsed input has so many bytes.
    pub fn new(worker: &Worker, session: &Session, input_bytes: usize) -> FastPath {
        let settings = &worker.settings;
        let limit = |threshold: i64| usize::try_from(threshold).unwrap_or(usize::MAX);
        let open = !session.restricted
            && session.multi.is_none()
            && session.reply_mode == ReplyMode::On
            && session.fate == Fate::Open
            && !session.in_pubsub_mode()
            && !session.info.no_touch.load(Relaxed)
            && !settings.import_mode
            && !worker.loading
            && worker.engine.observers.load(Relaxed) == 0
            && settings.min_replicas_to_write == 0
            && worker.engine.saves.check(settings).is_ok()
            && slowlog::sampling(settings)
            && input_bytes < limit(settings.commandlog_request_larger_than)
            && !worker.engine.pause.holds(worker.now_ms(), || true);
        FastPath {
            open,
            room: settings.maxmemory == 0,
            reply_bytes_max: limit(settings.commandlog_reply_larger_than),
            ran: 0,
            last: None,
        }
    }

    /// Runs a command, if it can go the short way; else nothing has happened.
    #[inline]
    pub fn run(&mut self, worker: &mut Worker, session: &Session, args: &Args, reply: &mut Reply) -> bool {
        if !self.open {
            return false;
        }
        let words = args.words();
        let names = &worker.engine.names;
        let command = if names.are_plain() { registry::find_short(words[0]) } else { names.find(words[0]) };
        let Some(command) = command else { return false };
        let Some(at) = command.short_way else { return false };
        let no_room = !self.room && command.flags.has(Flags::DENYOOM);
        let no_log = command.writes && worker.engine.log.check().is_err();
        if no_room || no_log || !command.command.takes(words.len()) {
            return false;
        }
        // The calls that are timed go the long way.
        let calls = worker.stats().by_command[command.id].calls.get();
        if slowlog::is_sample(calls) {
            return false;
        }
        let hash = args.hash(at);
        let engine = worker.engine.clone();
        let Some(guard) = engine.keyspace.lock_one(shard_of(hash) as u16) else { return false };
        if guard.has_waiters() {
            return false;
        }
        let mut txn = worker.transaction(guard, session.db);
        let args = Args::with_hash(words, at, hash);
        let mark = reply.len();
        let result = match command.command.run {
            Run::Read(run) => run(&txn, &args, reply),
            Run::Write(run) => run(&mut txn, &args, reply),
            // `short_way` is set for these two alone.
            Run::Wait(_) | Run::Session(_) | Run::Script(_) | Run::Group(_) => return false,
        };
        worker.commit(txn);
        worker.stats().by_command[command.id].calls.add(1);
        self.ran += 1;
        self.last = Some(command);
        if let Err(error) = result {
            reply.truncate(mark);
            reply.error(&error.to_string());
        }
        if reply.buf.get(mark) == Some(&b'-') {
            worker.stats().by_command[command.id].failed.add(1);
            stats::count_error(worker, &reply.buf[mark..], false);
        }
        if reply.len() - mark >= self.reply_bytes_max {
            slowlog::note_large_reply(worker, &session.info, command, words, reply.len() - mark);
        }
        true
    }

    /// Notes in the figures what went the short way so far.
    pub fn note(&mut self, worker: &Worker, session: &mut Session) {
        let Some(last) = self.last.take() else { return };
        session.last_command = Some(last);
        session.info.command.store(last.id + 1, Relaxed);
        let commands = &session.info.totals[2];
        commands.store(commands.load(Relaxed) + self.ran, Relaxed);
        worker.stats().commands.add(self.ran);
        self.ran = 0;
    }
}
