//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.

use crate::args::Args;
use crate::client_memory::entry_bytes;
use crate::command::{Command, Flags, Group, Keys, Reply, Run};
use crate::ctx::{Ctx, Origin};
use crate::error::{Error, Result};
use crate::exec;
use kelda_store::txn::Key;
use std::sync::atomic::Ordering::Relaxed;

const BASE: Command = Command { group: Group::Transactions, ..Command::BASE };
const COMMON: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::ALLOW_BUSY);

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "MULTI",
        arity: 1,
        flags: COMMON.and(Flags::FAST).and(Flags::UNQUEUED),
        since: "1.2.0",
        summary: "Begins a transaction: the commands that follow are queued.",
        run: Run::Session(multi),
        ..BASE
    },
    Command {
        name: "EXEC",
        arity: 1,
        flags: Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::SKIP_SLOWLOG).and(Flags::UNQUEUED),
        since: "1.2.0",
        summary: "Runs all queued commands as one.",
        complexity: "That of the queued commands",
        run: Run::Session(exec_),
        ..BASE
    },
    Command {
        name: "DISCARD",
        arity: 1,
        flags: COMMON.and(Flags::FAST).and(Flags::UNQUEUED),
        since: "2.0.0",
        summary: "Forgets all queued commands.",
        complexity: "O(N) in the number of queued commands",
        run: Run::Session(discard),
        ..BASE
    },
    Command {
        name: "WATCH",
        arity: -2,
        keys: &[Keys::range(1, -1, 1).look()],
        flags: COMMON.and(Flags::FAST).and(Flags::UNQUEUED),
        since: "2.2.0",
        syntax: "key [key ...]",
        summary: "Makes the next EXEC fail if any of the keys changes before it.",
        complexity: "O(1) for every key",
        run: Run::Session(watch),
        ..BASE
    },
    Command {
        name: "UNWATCH",
        arity: 1,
        flags: COMMON.and(Flags::FAST),
        since: "2.2.0",
        summary: "Forgets all watched keys.",
        run: Run::Session(unwatch),
        ..BASE
    },
];

fn multi(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    if ctx.session.multi.is_some() {
        return Err(Error::text("ERR MULTI calls can not be nested"));
    }
    exec::begin_multi(ctx.worker, ctx.session);
    reply.ok();
    Ok(())
}

fn exec_(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    exec::exec(ctx, reply)
}

fn discard(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    if ctx.session.multi.is_none() {
        return Err(Error::text("ERR DISCARD without MULTI"));
    }
    exec::end_multi(ctx.worker, ctx.session);
    reply.ok();
    Ok(())
}

fn watch(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    if ctx.session.multi.is_some() {
        return Err(Error::text("ERR WATCH inside MULTI is not allowed"));
    }
    let keys: Vec<Key> = (1..args.len()).map(|index| args.key(index)).collect();
    let db = ctx.session.db;
    let flag = ctx.session.watching.watch.clone();
    let watched = &ctx.session.watching.keys;
    let fresh: Vec<Key> = keys
        .iter()
        .filter(|key| !watched.iter().any(|(on, have)| *on == db && **have == *key.bytes))
        .copied()
        .collect();
    ctx.with_keys(&fresh, |txn| {
        for key in &fresh {
            // A key that is due now is gone now, and does not break the watch later.
            let _ = txn.exists(*key);
            txn.reap_stale();
            txn.shard_data(key.shard()).watchers.add(db, key.bytes, &flag);
        }
    })?;
    for key in fresh {
        // The same key may be named twice.
        if !ctx.session.watching.keys.iter().any(|(on, have)| *on == db && **have == *key.bytes) {
            ctx.session.watching.keys.push((db, key.bytes.into()));
            ctx.session.info.kept_bytes.fetch_add(entry_bytes(key.bytes), Relaxed);
        }
    }
    ctx.session.info.watched.store(ctx.session.watching.keys.len(), Relaxed);
    reply.ok();
    Ok(())
}

fn unwatch(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    // Within EXEC the watches are gone already.
    if ctx.origin == Origin::Client {
        exec::unwatch(ctx.worker, ctx.session);
    }
    reply.ok();
    Ok(())
}
