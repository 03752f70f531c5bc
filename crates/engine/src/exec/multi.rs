//! MULTI, EXEC and WATCH.

use super::{LOADING, check_memory, check_user_again, note_bad_data, run_inside};
use crate::args::Args;
use crate::command::{Flags, Reply, Run};
use crate::ctx::{Ctx, Origin};
use crate::error::{Error, Result};
use crate::hotkeys;
use crate::pause;
use crate::queue::Queue;
use crate::registry::Registered;
use crate::saving;
use crate::session::{Session, Watching};
use crate::settle::settle_some;
use crate::stats::count_error;
use crate::worker::Worker;
use kelda_store::hasher;
use kelda_store::shard::ShardSet;
use kelda_store::txn::{Key, Txn};

/// Checks again, at EXEC, what may have changed since the commands were queued.
fn check_queued(worker: &Worker, session: &Session, queue: &Queue) -> Result {
    if session.master.is_some() {
        return Ok(());
    }
    let any = |property: fn(&Registered) -> bool| queue.commands().any(property);
    if worker.loading && any(|command| !command.flags.has(Flags::LOADING)) {
        return Err(LOADING);
    }
    if any(|command| command.flags.has(Flags::DENYOOM)) {
        check_memory(worker)?;
    }
    if any(|command| command.writes) {
        worker.check_writes()?;
    }
    if worker.is_read_only() && queue.any(|command, words| pause::is_declared_writer(worker, command, words)) {
        worker.check_writes()?;
    }
    if worker.follows && any(|command| !command.flags.has(Flags::STALE)) {
        worker.check_link()?;
    }
    Ok(())
}

/// EXEC: runs what MULTI queued on all shards that it needs, unless a watched key changed.
pub(crate) fn exec(ctx: &mut Ctx, reply: &mut Reply) -> Result {
    let Some(queue) = ctx.session.multi.take() else { return Err(Error::text("ERR EXEC without MULTI")) };
    if queue.broken {
        end_multi(ctx.worker, ctx.session);
        return Err(Error::text("EXECABORT Transaction discarded because of previous errors."));
    }
    if let Err(error) = check_queued(ctx.worker, ctx.session, &queue) {
        end_multi(ctx.worker, ctx.session);
        return Err(Error::owned(format!("EXECABORT Transaction discarded because of: {error}")));
    }
    let result = run_queue(ctx, &queue, reply);
    if result == Err(Error::Again) {
        ctx.session.multi = Some(queue);
    } else {
        ctx.worker.spare_queue = queue.emptied();
    }
    result
}

/// The rest of EXEC. After [`Error::Again`] nothing has happened.
fn run_queue(ctx: &mut Ctx, queue: &Queue, reply: &mut Reply) -> Result {
    let words = queue.words();
    let mut set = ShardSet::None;
    for (command, args) in queue.iter(&words) {
        // A script may reach for any key, and EXEC cannot be begun anew once commands have run.
        let is_script = matches!(command.command.run, Run::Script(_));
        if is_script && ctx.worker.in_script {
            // This thread's interpreter is taken; see `running::prepare`.
            return Err(Error::Again);
        }
        let changes_session = command.flags.has(Flags::WRITE) && matches!(command.command.run, Run::Session(_));
        if is_script || changes_session || command.command.needs_all_shards(args.words()) {
            set = ShardSet::All;
        }
        command.for_each_key(args.words(), |at| set.add(args.hash(at)));
    }
    for (_, key) in &ctx.session.watching.keys {
        set.add(hasher::hash(key));
    }
    let engine = ctx.worker.engine.clone();
    let Some(mut txn) = ctx.worker.begin(&engine.keyspace, set, ctx.session.db) else {
        return Err(Error::Again);
    };
    let adds = || queue.iter(&words).any(|(command, args)| saving::adds_to_backlog(&txn, command, args.words()));
    if engine.saves.hold_up(&engine, ctx.session, adds) {
        ctx.worker.commit(txn);
        return Err(Error::Again);
    }
    if !settle_queued(&mut txn, queue, &words) {
        ctx.worker.commit(txn);
        return Err(Error::Again);
    }
    if !watch_holds(ctx.session, &mut txn) {
        drop_watches(ctx.session, &mut txn);
        ctx.worker.commit(txn);
        end_multi(ctx.worker, ctx.session);
        reply.null_array();
        return Ok(());
    }
    drop_watches(ctx.session, &mut txn);
    ctx.session.show_queued(-1);
    reply.array(queue.len());
    for (command, args) in queue.iter(&words) {
        run_queued(ctx, &mut txn, command, &args, reply);
    }
    ctx.worker.outbox.append(&mut ctx.session.outbox);
    ctx.worker.commit(txn);
    Ok(())
}

/// Removes some of what is due at the keys of the queued commands; whether nothing is left.
fn settle_queued(txn: &mut Txn, queue: &Queue, words: &[&[u8]]) -> bool {
    queue.iter(words).fold(true, |settled, (command, args)| settle_some(txn, command, &args) && settled)
}

fn run_queued(ctx: &mut Ctx, txn: &mut Txn, command: &'static Registered, args: &Args, reply: &mut Reply) {
    let (mark, words) = (reply.len(), args.words());
    if ctx.session.restricted
        && let Err(error) = check_user_again(ctx.worker, ctx.session, command, words)
    {
        reply.error(&ctx.worker.settings.dialect.says(error.to_string()));
        count_error(ctx.worker, &reply.buf[mark..], false);
        return;
    }
    let timed = hotkeys::begin(ctx.worker);
    let mut inner = Ctx { worker: ctx.worker, session: ctx.session, host: ctx.host, txn: None, origin: Origin::Exec };
    if let Err(error) = run_inside(&mut inner, txn, command, args, reply) {
        reply.truncate(mark);
        note_bad_data(ctx.worker, &error);
        reply.error(&ctx.worker.settings.dialect.says(error.to_string()));
    }
    if let Some(since_us) = timed {
        hotkeys::note(ctx.worker, command, words, since_us, reply.bytes_since(mark));
    }
    if reply.buf.get(mark) == Some(&b'-') {
        ctx.worker.stats().by_command[command.id].failed.add(1);
        count_error(ctx.worker, &reply.buf[mark..], matches!(command.command.run, Run::Script(_)));
    }
    if txn.cx().saw_stale() {
        txn.reap_stale();
    }
}

/// Whether no watched key changed or came due; the transaction holds their shards.
fn watch_holds(session: &Session, txn: &mut Txn) -> bool {
    let before = txn.db();
    for (db, key) in &session.watching.keys {
        txn.select(*db);
        // A look at a key that is due has it removed, which touches the watch.
        let _ = txn.exists(Key::new(key));
    }
    txn.select(before);
    txn.reap_stale();
    !session.watching.watch.is_touched()
}

fn drop_watches(session: &mut Session, txn: &mut Txn) {
    let watching = session.take_watching();
    for (db, key) in &watching.keys {
        txn.shard_data(Key::new(key).shard()).watchers.remove(*db, key, &watching.watch);
    }
}

/// UNWATCH.
pub(crate) fn unwatch(worker: &mut Worker, session: &mut Session) {
    let watching = session.take_watching();
    drop_old_watch(worker, watching);
}

/// Takes a watch off its keys, or has that tried again later when their shards are busy.
pub(crate) fn drop_old_watch(worker: &mut Worker, watching: Watching) {
    let mut set = ShardSet::None;
    watching.keys.iter().for_each(|(_, key)| set.add(hasher::hash(key)));
    if set == ShardSet::None {
        return;
    }
    let engine = worker.engine.clone();
    match worker.begin(&engine.keyspace, set, 0) {
        Some(mut txn) => {
            for (db, key) in &watching.keys {
                txn.shard_data(Key::new(key).shard()).watchers.remove(*db, key, &watching.watch);
            }
            worker.commit(txn);
        }
        None => worker.leave_watch(watching),
    }
}

/// Ends MULTI without running it.
pub(crate) fn end_multi(worker: &mut Worker, session: &mut Session) {
    session.multi = None;
    session.show_queued(-1);
    unwatch(worker, session);
}

/// Begins MULTI.
pub(crate) fn begin_multi(worker: &mut Worker, session: &mut Session) {
    session.multi = Some(std::mem::take(&mut worker.spare_queue));
    session.show_queued(0);
}
