//! Running commands: the gates before a command runs, the shards it needs, its transaction.
//!
//! `batch` has what comes before, from a session's input to single commands; `multi` has MULTI, EXEC and WATCH.

mod batch;
mod multi;

use crate::acl;
use crate::acl::log::Context;
use crate::acl::user::Reason;
use crate::args::Args;
use crate::blocking;
use crate::command::{Flags, Reply, Run, Wait};
use crate::config::BusyReplyScope;
use crate::ctx::{Ctx, Origin};
use crate::error::{Error, Result};
use crate::following;
use crate::hotkeys;
use crate::monitor;
use crate::pause;
use crate::registry::{Names, Registered};
use crate::saving;
use crate::session::{ReplyMode, Session};
use crate::settle::{settle, settle_some};
use crate::slowlog::Stopwatch;
use crate::stats::count_error;
use crate::tracking;
use crate::worker::{Fate, Host, Worker};
use kelda_resp::Protocol;
use kelda_store::shard::ShardSet;
use kelda_store::txn::Txn;
use std::sync::atomic::Ordering::Relaxed;

pub(crate) use batch::{Batch, finish_turn, look_ahead, prefetch, run};
pub(crate) use multi::{begin_multi, drop_old_watch, end_multi, exec, unwatch};

const LOADING: Error = Error::text("LOADING Redis is loading the dataset in memory");

/// What follows after one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// The next command.
    Next,
    /// The same command again, later: a shard is busy.
    Again,
    /// Nothing until the session is unblocked.
    Blocked,
    /// Nothing: the session ends.
    End,
}

/// Finds the command of these words, through its container if it has one.
pub(crate) fn resolve(names: &Names, words: &[&[u8]]) -> Result<&'static Registered> {
    let name = words.first().copied().unwrap_or_default();
    let Some(found) = names.find(name) else { return Err(unknown_command(words)) };
    resolve_subcommand(found, words)
}

fn resolve_subcommand(found: &'static Registered, words: &[&[u8]]) -> Result<&'static Registered> {
    if !matches!(found.command.run, Run::Group(_)) {
        return Ok(found);
    }
    let Some(name) = words.get(1) else {
        return if found.command.bare.is_some() { Ok(found) } else { Err(Error::Arity(found.name.clone())) };
    };
    found.subcommand(name).ok_or_else(|| {
        let shown = String::from_utf8_lossy(&name[..name.len().min(128)]).into_owned();
        let container = String::from_utf8_lossy(words[0]).to_ascii_uppercase();
        Error::owned(format!("ERR unknown subcommand '{shown}'. Try {container} HELP."))
    })
}

fn unknown_command(words: &[&[u8]]) -> Error {
    /// Bytes of the name shown, and of the arguments together, at most.
    const SHOWN: usize = 128;
    // As C prints a string: up to the first zero byte.
    let shorten = |word: &[u8], most: usize| {
        let end = word.iter().take(most).position(|byte| *byte == 0);
        String::from_utf8_lossy(&word[..end.unwrap_or(most.min(word.len()))]).into_owned()
    };
    let mut text = format!(
        "ERR unknown command '{}', with args beginning with: ",
        shorten(words.first().unwrap_or(&&b""[..]), SHOWN)
    );
    let mut shown = 0;
    for word in words.iter().skip(1) {
        if shown >= SHOWN {
            break;
        }
        let before = text.len();
        text.push_str(&format!("'{}' ", shorten(word, SHOWN - shown)));
        shown += text.len() - before;
    }
    Error::owned(text)
}

/// Runs one command of a client, or queues or refuses it.
pub(crate) fn execute(
    worker: &mut Worker,
    session: &mut Session,
    host: &mut dyn Host,
    args: Args,
    reply: &mut Reply,
) -> Flow {
    let (of_replica, mark) = (session.replica, reply.len());
    let flow = execute_any(worker, session, host, args, reply);
    if of_replica && flow != Flow::Again && reply.len() != mark {
        cut_replica_off(worker, session, reply, mark);
    }
    flow
}

/// A replica gets the feed and nothing else: one that made a reply necessary, which begins at `mark`, is cut off.
#[cold]
fn cut_replica_off(worker: &Worker, session: &mut Session, reply: &mut Reply, mark: usize) {
    /// Bytes of the reply that the log shows.
    const SHOWN: usize = 64;
    let text = reply.buf.get(mark..).unwrap_or_default();
    let line = String::from_utf8_lossy(text.split(|byte| *byte == b'\r').next().unwrap_or_default());
    let name = session.last_command.map_or("unknown", |command| command.name.as_str());
    let note = |text: &str| worker.engine.following.note(&worker.engine, 3, text);
    if let Some(error) = line.strip_prefix('-') {
        let what = "== CRITICAL == This master is sending an error to its replica";
        note(&format!("{what}: '{error}' after processing the command '{name}'"));
    }
    let shown: String = line.chars().take(SHOWN).collect();
    note(&format!("Replica generated a reply to command '{name}', disconnecting it: {shown}"));
    reply.truncate(mark);
    session.fate = Fate::Close;
}

fn execute_any(worker: &mut Worker, session: &mut Session, host: &mut dyn Host, args: Args, reply: &mut Reply) -> Flow {
    let words = args.words();
    let repeated = session.last_command.filter(|last| {
        worker.engine.names.are_plain()
            && last.parent.is_none()
            && words.first().is_some_and(|name| last.command.name.as_bytes().eq_ignore_ascii_case(name))
    });
    let found = match repeated {
        Some(found) => resolve_subcommand(found, words),
        None => resolve(&worker.engine.names, words),
    };
    let command = match found {
        Ok(command) => command,
        Err(error) => {
            refuse(worker, session, None, &error, reply);
            return Flow::Next;
        }
    };
    worker.clock_is_old = true;
    if !command.sampled {
        host.send_replies(worker);
    }
    session.last_command = Some(command);
    session.info.command.store(command.id + 1, Relaxed);
    let before = std::mem::replace(&mut worker.current, session.at.id);
    if worker.maxmemory != 0 {
        worker.check_room();
        tracking::tell_own(worker, session, reply);
    }
    worker.observed = worker.engine.observers.load(Relaxed) != 0;
    let flow = if worker.observed {
        admit_observed(worker, session, host, command, args, reply)
    } else {
        admit(worker, session, host, command, args, reply)
    };
    if worker.tracking.has_own() {
        tracking::tell_own(worker, session, reply);
    }
    worker.current = before;
    flow
}

/// [`admit`] while sessions track or monitor.
#[cold]
fn admit_observed(
    worker: &mut Worker,
    session: &mut Session,
    host: &mut dyn Host,
    command: &'static Registered,
    args: Args,
    reply: &mut Reply,
) -> Flow {
    tracking::trim(worker);
    tracking::tell_own(worker, session, reply);
    // A script may be running on this thread, whose lines stay together.
    let outer = std::mem::take(&mut worker.monitored);
    let queues = session.multi.is_some() && !command.flags.has(Flags::UNQUEUED);
    let (timed, mark, words) = (hotkeys::begin(worker).filter(|_| !queues), reply.len(), args.words());
    let flow = admit(worker, session, host, command, args, reply);
    if let Some(since_us) = timed.filter(|_| flow != Flow::Again) {
        hotkeys::note(worker, command, words, since_us, reply.bytes_since(mark));
    }
    tracking::end_caching(session, command);
    if !worker.monitored.is_empty() {
        monitor::post(worker);
    }
    worker.monitored = outer;
    flow
}

/// Runs, queues or refuses a command that was found.
fn admit(
    worker: &mut Worker,
    session: &mut Session,
    host: &mut dyn Host,
    command: &'static Registered,
    args: Args,
    reply: &mut Reply,
) -> Flow {
    let words = args.words();
    // Who leads is not known yet: before it is looked whether this server does.
    if worker.engine.failover.is_on() && session.master.is_none() && pause::may_write(worker, session, command, words) {
        worker.pause(session);
        return Flow::Again;
    }
    if let Err(error) = gate(worker, session, command, words) {
        refuse(worker, session, Some(command), &error, reply);
        return Flow::Next;
    }
    if worker.engine.pause.holds(worker.now_ms(), || pause::may_write(worker, session, command, words)) {
        worker.pause(session);
        return Flow::Again;
    }
    if session.multi.is_some() && !command.flags.has(Flags::UNQUEUED) {
        session.enqueue(command, &args, worker.engine.keyspace.databases());
        let mark = reply.len();
        reply.status("QUEUED");
        suppress(session, reply, mark);
        return Flow::Next;
    }
    let mark = reply.len();
    let watch = Stopwatch::start(worker, command, words);
    let flow = dispatch(worker, session, host, command, args, reply);
    // A call that blocks is counted when its wait is over (`Worker::unblocked`).
    if !matches!(flow, Flow::Again | Flow::Blocked) {
        watch.stop(worker, &session.info, command, words, reply.bytes_since(mark));
        let stats = worker.stats();
        stats.commands.add(1);
        stats.by_command[command.id].calls.add(1);
        let commands = &session.info.totals[2];
        commands.store(commands.load(Relaxed) + 1, Relaxed);
        if reply.buf.get(mark) == Some(&b'-') {
            stats.by_command[command.id].failed.add(1);
            // A script passes on an error that the command that it called has counted.
            if !session.error_counted {
                count_error(worker, &reply.buf[mark..], matches!(command.command.run, Run::Script(_)));
            }
        }
        session.error_counted = false;
        if session.reply_mode != ReplyMode::On {
            let keep = command.flags.has(Flags::PUSHES);
            suppress(session, reply, if keep { reply.len() } else { mark });
        }
    }
    if session.fate != Fate::Open && flow == Flow::Next { Flow::End } else { flow }
}

/// Drops the reply as CLIENT REPLY asks.
pub(crate) fn suppress(session: &mut Session, reply: &mut Reply, mark: usize) {
    match session.reply_mode {
        ReplyMode::On => {}
        ReplyMode::Off => reply.truncate(mark),
        ReplyMode::Skip => {
            reply.truncate(mark);
            session.reply_mode = ReplyMode::On;
        }
        ReplyMode::SkipNext => session.reply_mode = ReplyMode::Skip,
    }
}

/// Says in the log what is wrong with a value that a client handed in.
fn note_bad_data(worker: &Worker, error: &Error) {
    if let Error::BadData(why) = error {
        worker.engine.platform.log(3, &format!("A value was refused: {why}"));
    }
}

/// Replies that a command was refused before it ran; a transaction being queued is spoilt by it.
fn refuse(worker: &mut Worker, session: &mut Session, command: Option<&Registered>, error: &Error, reply: &mut Reply) {
    if let Some(queue) = &mut session.multi {
        queue.broken = true;
    }
    if let Some(command) = command {
        worker.stats().by_command[command.id].rejected.add(1);
    }
    let mark = reply.len();
    let text = worker.settings.dialect.says(error.to_string());
    if command.is_some_and(|command| command.name == "exec") {
        // An EXEC that cannot run leaves no transaction behind.
        end_multi(worker, session);
        match text.strip_prefix("ERR ").unwrap_or(&text) {
            why if why.starts_with("REDIRECT ") => reply.error(why),
            why => reply.error(&format!("EXECABORT Transaction discarded because of: {why}")),
        }
    } else {
        reply.error(&text);
    }
    count_error(worker, &reply.buf[mark..], false);
    suppress(session, reply, mark);
}

/// What must hold before a client's command runs or is queued.
fn gate(worker: &Worker, session: &Session, command: &Registered, words: &[&[u8]]) -> Result {
    if !command.command.takes(words.len()) {
        return Err(Error::Arity(command.name.clone()));
    }
    if session.master.is_some() {
        return Ok(());
    }
    if command.flags.has(Flags::PROTECTED) {
        check_protected(worker, session, command)?;
    }
    if session.restricted {
        check_user(worker, session, command, words)?;
    }
    if worker.follows && session.info.redirects.load(Relaxed) {
        check_place(worker, session, command)?;
    }
    if session.in_pubsub_mode() && !command.flags.has(Flags::IN_PUBSUB) {
        return Err(Error::owned(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
            command.name
        )));
    }
    if worker.follows && !command.flags.has(Flags::STALE) {
        worker.check_link()?;
    }
    if worker.loading && !command.flags.has(Flags::LOADING) && command.name != "ping" {
        return Err(LOADING);
    }
    if worker.settings.busy_reply_scope == BusyReplyScope::Everyone
        && !command.flags.has(Flags::ALLOW_BUSY)
        && worker.engine.busy_scripts.load(Relaxed) != 0
    {
        return Err(Error::text(worker.engine.running.busy()));
    }
    if (session.monitors || session.replica)
        && (command.writes || command.flags.has(Flags::READONLY) || command.flags.has(Flags::MAY_REPLICATE))
    {
        return Err(Error::text("ERR Replica can't interact with the keyspace"));
    }
    let barred = command.flags.has(Flags::NO_MULTI) || worker.settings.dialect.bars_from_multi(&command.name);
    if session.multi.is_some() && barred {
        return Err(Error::text("ERR Command not allowed inside a transaction"));
    }
    if command.flags.has(Flags::DENYOOM) {
        check_memory(worker)?;
    }
    if command.writes {
        worker.check_writes()?;
    } else if command.name == "ping" {
        // So that who asks whether the server is well learns that it is not, as in Redis.
        worker.engine.log.check()?;
        worker.engine.saves.check(&worker.settings)?;
    }
    Ok(())
}

/// Sends a client that can be redirected (CLIENT CAPA) to the master with what needs data.
#[cold]
fn check_place(worker: &Worker, session: &Session, command: &Registered) -> Result {
    let moves = |command: &Registered| command.writes || command.flags.has(Flags::READONLY) && !session.reads_here;
    let mut queued = session.multi.iter().flat_map(|queue| queue.commands());
    let moves = moves(command) || command.name == "exec" && queued.any(moves);
    match worker.engine.following.report() {
        Some(master) if moves => Err(Error::owned(format!("REDIRECT {}:{}", master.host, master.port))),
        _ => Ok(()),
    }
}

/// Refuses DEBUG and the changing parts of MODULE, unless they are enabled.
#[cold]
fn check_protected(worker: &Worker, session: &Session, command: &Registered) -> Result {
    let (setting, name) = match command.name == "debug" {
        true => (worker.settings.enable_debug_command, "debug"),
        false => (worker.settings.enable_module_command, "module"),
    };
    if setting.allows(session.info.peer.is_local()) {
        return Ok(());
    }
    Err(Error::owned(format!(
        "ERR {} command not allowed. If the enable-{name}-command option is set to \"local\", you can run it from a local \
         connection, otherwise you need to set this option in the configuration file, and then restart the server.",
        name.to_ascii_uppercase()
    )))
}

/// Refuses what the session's user may not do, or may not do before it has logged in.
#[cold]
fn check_user(worker: &Worker, session: &Session, command: &Registered, words: &[&[u8]]) -> Result {
    if !session.authenticated && !command.flags.has(Flags::NO_AUTH) {
        return Err(Error::text("NOAUTH Authentication required."));
    }
    let in_multi = session.multi.is_some();
    if in_multi && command.flags.has(Flags::NO_MULTI) {
        // The gate says so.
        return Ok(());
    }
    let context = if in_multi { Context::Multi } else { Context::TopLevel };
    acl::check(worker, session, command, words, context).map_err(|(_, error)| error)
}

/// Checks again, at EXEC, what a restricted session may do.
fn check_user_again(worker: &Worker, session: &Session, command: &Registered, words: &[&[u8]]) -> Result {
    let Err((reason, _)) = acl::check(worker, session, command, words, Context::Multi) else { return Ok(()) };
    let why = match reason {
        Reason::Command => "no permission to execute the command or subcommand",
        Reason::Key => "no permission to touch the specified keys",
        Reason::Channel => "no permission to access one of the channels used as arguments",
        Reason::Database => "no permission to access the database",
    };
    Err(Error::owned(format!(
        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is \
         no longer allowed for the following reason: {why}"
    )))
}

/// Whether a command may not reach for keys that only its run will tell: its user may not read all keys.
fn is_kept_to_named_keys(session: &Session, command: &Registered, words: &[&[u8]]) -> bool {
    session.restricted
        && command.command.reaches_further.is_some()
        && !session.user.reads_all_keys(command, words, session.db)
}

/// Refuses commands that need memory when there was none left, and none to be made, as the client's command began.
pub(crate) fn check_memory(worker: &Worker) -> Result {
    if worker.eviction.out_of_memory {
        return Err(Error::text("OOM command not allowed when used memory > 'maxmemory'."));
    }
    Ok(())
}

/// The arguments with the command's one key hashed, if it has one.
#[inline]
pub(crate) fn with_key_hashed<'a>(command: &Registered, args: Args<'a>) -> Args<'a> {
    match command.single_key {
        Some(at) if at < args.len() => Args::with_hash(args.words(), at, args.hash(at)),
        _ => args,
    }
}

/// The shards of the command's keys.
pub(crate) fn shards_of(command: &Registered, args: &Args) -> ShardSet {
    if command.command.needs_all_shards(args.words()) {
        return ShardSet::All;
    }
    let mut set = ShardSet::None;
    command.for_each_key(args.words(), |at| set.add(args.hash(at)));
    set
}

fn dispatch(
    worker: &mut Worker,
    session: &mut Session,
    host: &mut dyn Host,
    command: &'static Registered,
    mut args: Args,
    reply: &mut Reply,
) -> Flow {
    args = with_key_hashed(command, args);
    worker.see_due(session);
    let mark = reply.len();
    let result = match command.command.run {
        Run::Session(run) => {
            let mut ctx = Ctx { worker, session, host, txn: None, origin: Origin::Client };
            let result = run(&mut ctx, &args, reply);
            if result != Err(Error::Again) {
                monitor::note(worker, session, command, args.words(), false);
            }
            result
        }
        Run::Script(_) => run_script(worker, session, host, command, &args, reply),
        Run::Read(_) | Run::Write(_) | Run::Wait(_) => {
            let engine = worker.engine.clone();
            let Some(mut txn) = worker.begin(&engine.keyspace, shards_of(command, &args), session.db) else {
                return busy(worker, session, reply);
            };
            if engine.saves.hold_up(&engine, session, || saving::adds_to_backlog(&txn, command, args.words())) {
                worker.commit(txn);
                return Flow::Again;
            }
            if session.info.no_touch.load(Relaxed) {
                txn.cx().env.no_touch = true;
            }
            if is_kept_to_named_keys(session, command, args.words()) {
                txn.cx().env.named_keys_only = true;
            }
            if !settle_some(&mut txn, command, &args) {
                worker.commit(txn);
                return Flow::Again;
            }
            let result = match command.command.run {
                Run::Read(run) => run(&txn, &args, reply),
                Run::Write(run) => run(&mut txn, &args, reply),
                Run::Wait(run) => match run(&mut txn, &args, reply) {
                    Ok(Wait::Done) => Ok(()),
                    // The master waits for nothing.
                    Ok(_) if session.master.is_some() => Ok(()),
                    Ok(wait) => {
                        if tracking::remembers(session) {
                            tracking::remember(&engine, session.at, &mut txn, command, args.words());
                        }
                        monitor::note(worker, session, command, args.words(), false);
                        blocking::block(worker, session, &mut txn, command, &args, wait);
                        worker.commit(txn);
                        return Flow::Blocked;
                    }
                    Err(error) => Err(error),
                },
                Run::Session(_) | Run::Script(_) | Run::Group(_) => Ok(()),
            };
            if tracking::remembers(session) {
                tracking::remember(&engine, session.at, &mut txn, command, args.words());
            }
            monitor::note(worker, session, command, args.words(), false);
            following::note_local(worker, session, &txn, command, args.words());
            worker.commit(txn);
            result
        }
        Run::Group(_) => {
            let mut ctx = Ctx { worker, session, host, txn: None, origin: Origin::Client };
            run_container(&mut ctx, command, &args, reply)
        }
    };
    match result {
        Ok(()) if session.blocked.is_some() => Flow::Blocked,
        Ok(()) => Flow::Next,
        Err(Error::Again) => {
            reply.truncate(mark);
            busy(worker, session, reply)
        }
        Err(error) => {
            reply.truncate(mark);
            note_bad_data(worker, &error);
            reply.error(&worker.settings.dialect.says(error.to_string()));
            Flow::Next
        }
    }
}

/// A shard is busy: try again later, unless it is a script over its time that holds it.
fn busy(worker: &mut Worker, session: &mut Session, reply: &mut Reply) -> Flow {
    if worker.engine.busy_scripts.load(Relaxed) == 0 {
        return Flow::Again;
    }
    let text = worker.settings.dialect.says(worker.engine.running.busy());
    // Of the commands that reach for keys only EXEC runs within MULTI.
    if session.multi.is_some() {
        end_multi(worker, session);
        reply.error(&format!("EXECABORT Transaction discarded because of: {text}"));
    } else {
        reply.error(&text);
    }
    Flow::Next
}

/// Runs a script on the shards of its declared keys, and again on all of them if it reached for another key.
fn run_script(
    worker: &mut Worker,
    session: &mut Session,
    host: &mut dyn Host,
    command: &'static Registered,
    args: &Args,
    reply: &mut Reply,
) -> Result {
    let Run::Script(run) = command.command.run else { return Err(Error::Syntax) };
    let engine = worker.engine.clone();
    let mark = reply.len();
    let mut set = shards_of(command, args);
    loop {
        let whole = set == ShardSet::All;
        let mut txn = worker.begin(&engine.keyspace, set, session.db).ok_or(Error::Again)?;
        if engine.saves.hold_up(&engine, session, || saving::adds_to_backlog(&txn, command, args.words())) {
            worker.commit(txn);
            return Err(Error::Again);
        }
        if !settle_some(&mut txn, command, args) {
            worker.commit(txn);
            return Err(Error::Again);
        }
        if !whole {
            txn.keep_undo();
        }
        let shown = monitor::note_script(worker, session, command, args.words());
        let mut ctx = Ctx { worker, session, host, txn: None, origin: Origin::Script };
        let result = run(&mut ctx, &mut txn, args, reply);
        if result == Err(Error::NeedsAllShards) && !whole {
            txn.roll_back();
            worker.monitored.truncate(shown);
            worker.commit(txn);
            session.outbox.clear();
            reply.truncate(mark);
            set = ShardSet::All;
            continue;
        }
        worker.outbox.append(&mut session.outbox);
        worker.commit(txn);
        return result;
    }
}

/// Runs a command inside a transaction: for EXEC and scripts. Its error is returned, not written.
pub(crate) fn run_inside(
    ctx: &mut Ctx,
    txn: &mut Txn,
    command: &'static Registered,
    args: &Args,
    reply: &mut Reply,
) -> Result {
    let words = args.words();
    let mark = reply.len();
    let watch = Stopwatch::start(ctx.worker, command, words);
    let scripted = txn.cx.env.scripted;
    if matches!(command.command.run, Run::Script(_)) {
        monitor::note_script(ctx.worker, ctx.session, command, words);
    }
    let result = run_in_txn(ctx, txn, command, args, reply);
    monitor::note(ctx.worker, ctx.session, command, words, scripted);
    if tracking::remembers(ctx.session) {
        tracking::remember(&ctx.worker.engine, ctx.session.at, txn, command, words);
    }
    following::note_local(ctx.worker, ctx.session, txn, command, words);
    watch.stop(ctx.worker, &ctx.session.info, command, words, reply.bytes_since(mark));
    let commands = &ctx.session.info.totals[2];
    commands.store(commands.load(Relaxed) + 1, Relaxed);
    let stats = ctx.worker.stats();
    stats.commands.add(1);
    stats.by_command[command.id].calls.add(1);
    result
}

pub(crate) fn run_in_txn(
    ctx: &mut Ctx,
    txn: &mut Txn,
    command: &'static Registered,
    args: &Args,
    reply: &mut Reply,
) -> Result {
    if ctx.session.restricted {
        txn.cx().env.named_keys_only = is_kept_to_named_keys(ctx.session, command, args.words());
    }
    settle(txn, command, args);
    match command.command.run {
        Run::Read(run) => run(txn, args, reply),
        Run::Write(run) => run(txn, args, reply),
        Run::Wait(run) => {
            if let Some(nothing) = run(txn, args, reply)?.otherwise() {
                nothing.write(reply);
            }
            Ok(())
        }
        Run::Session(run) => {
            let before = ctx.session.db;
            let mut inner =
                Ctx { worker: ctx.worker, session: ctx.session, host: ctx.host, txn: Some(txn), origin: ctx.origin };
            let result = run(&mut inner, args, reply);
            if ctx.session.db != before {
                txn.select(ctx.session.db);
            }
            result
        }
        Run::Script(run) => run(ctx, txn, args, reply),
        Run::Group(_) => run_container(ctx, command, args, reply),
    }
}

/// Runs a container called without a subcommand: `resolve` lets that happen only where it means something.
fn run_container(ctx: &mut Ctx, command: &Registered, args: &Args, reply: &mut Reply) -> Result {
    let run = command.command.bare.ok_or_else(|| Error::Arity(command.name.clone()))?;
    run(ctx, args, reply)
}

/// The protocol number that HELLO and CLIENT LIST show.
pub(crate) fn protocol_number(protocol: Protocol) -> u32 {
    match protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    }
}
