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
use kelda_store::txn::Txn;
use std::sync::atomic::Ordering::Relaxed;

/// The name of a command as a client wrote it, compared at once with the one before.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Name {
    len: usize,
    /// Its first and its last four bytes; of three bytes just those.
    ends: u64,
}

impl Name {
    #[inline(always)]
    fn of(word: &[u8]) -> Name {
        let ends = match (word, word.first_chunk(), word.last_chunk()) {
            ([a, b, c], ..) => u64::from(u32::from_le_bytes([*a, *b, *c, 0])),
            (_, Some(first), Some(last)) => {
                u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
            }
            _ => 0,
        };
        Name { len: word.len(), ends }
    }

    /// Whether the ends are all of it.
    #[inline(always)]
    fn is_short(self) -> bool {
        (3..=8).contains(&self.len)
    }
}

/// Whether a session's commands may go the short way, and what those that did have left to be noted.
pub(crate) struct FastPath<'e> {
    engine: &'e Engine,
    open: bool,
    /// Whether every command has its own name (`rename-command`).
    plain: bool,
    /// Whether `maxmemory` is set, so that commands that need memory have to ask for it.
    limited: bool,
    /// Whether this is a replica, where what clients write is refused, or looked at.
    follows: bool,
    /// Replies from this size on belong into the log of large replies.
    reply_bytes_max: usize,
    /// The transaction that all commands use in turn, once there was one: it holds nothing between them. No command that goes
    /// the short way changes the settings that it has.
    txn: Option<Txn<'e>>,
    /// The command that ran last,
    last: Option<&'static Registered>,
    /// its name as the client wrote it,
    name: Name,
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
            && (!worker.follows || worker.check_link().is_ok() && !session.info.redirects.load(Relaxed))
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
            limited: worker.maxmemory != 0,
            follows: worker.follows,
            reply_bytes_max: limit(settings.commandlog_reply_larger_than),
            txn: None,
            last: None,
            name: Name::default(),
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
        let name = Name::of(words[0]);
        let command = match self.last {
            Some(last) if name == self.name && name.is_short() => last,
            _ => {
                let found = if self.plain { registry::find_short(words[0]) } else { self.engine.names.find(words[0]) };
                let Some(command) = found else { return false };
                if self.last.is_none_or(|last| last.id != command.id) {
                    self.note_calls(worker);
                    self.last = Some(command);
                    self.calls = worker.stats().by_command[command.id].calls.get();
                }
                self.name = name;
                command
            }
        };
        let Some(at) = command.short_way else { return false };
        let no_room = self.limited && command.flags.has(Flags::DENYOOM) && !worker.is_allowed_memory();
        let refused = command.writes && (self.follows || self.engine.log.check().is_err());
        // The calls that are timed go the long way, too.
        let large = command.is_small.is_some_and(|is_small| !is_small(words));
        if no_room || refused || large || !command.command.takes(words.len()) || slowlog::is_sample(self.calls) {
            return false;
        }
        let hash = args.hash(at);
        let txn = match &mut self.txn {
            Some(txn) => txn,
            None => {
                worker.prepare_context();
                self.txn.insert(worker.idle_transaction(self.engine.keyspace.hold_nothing(), session.db))
            }
        };
        if !txn.hold_one(shard_of(hash) as u16) {
            return false;
        }
        worker.take_up(txn);
        if txn.has_waiters() {
            txn.release();
            return false;
        }
        let args = Args::with_hash(words, at, hash);
        let mark = reply.len();
        if !settle_some(txn, command, &args) {
            worker.take_effects(txn);
            txn.release();
            return false;
        }
        let result = match command.command.run {
            Run::Read(run) => run(txn, &args, reply),
            Run::Write(run) => run(txn, &args, reply),
            Run::Wait(_) | Run::Session(_) | Run::Script(_) | Run::Group(_) => {
                unreachable!("`short_way` is set for the other two alone")
            }
        };
        worker.take_effects(txn);
        txn.release();
        if !txn.cx.garbage.is_empty() {
            worker.take_garbage(txn.cx());
        }
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
    pub fn end(run: &mut Option<FastPath>, worker: &mut Worker, session: &mut Session) {
        let Some(mut run) = run.take() else { return };
        if let Some(txn) = run.txn.take() {
            worker.put_away(txn);
        }
        run.note_calls(worker);
        let Some(last) = run.last.filter(|_| run.total != 0) else { return };
        session.last_command = Some(last);
        session.info.command.store(last.id + 1, Relaxed);
        let commands = &session.info.totals[2];
        commands.store(commands.load(Relaxed) + run.total, Relaxed);
        worker.stats().commands.add(run.total);
    }
}
