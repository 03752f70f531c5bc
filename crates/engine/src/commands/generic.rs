//! Commands on keys of any type and on whole databases.

use crate::args::Args;
use crate::command::{Command, Databases, Flags, Group, Keys, Reply, Run};
use crate::error::{Error, Result};
use kelda_store::txn::{EventClasses, Txn, View};

const BASE: Command = Command::BASE;
const KEYS: &[Keys] = &[Keys::range(1, -1, 1)];

/// What commands on the whole keyspace share.
const WHOLE: Command = Command {
    whole_keyspace: true,
    flags: Flags::DANGEROUS,
    group: Group::Server,
    categories: Some(&["keyspace"]),
    ..BASE
};

const SAME_OBJECT: Error = Error::text("ERR source and destination objects are the same");
const NO_SUCH_DB: Error = Error::text("ERR DB index is out of range");

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "DEL",
        arity: -2,
        keys: &[KEYS[0].remove()],
        syntax: "key [key ...]",
        summary: "Deletes keys.",
        complexity: "O(N) in the number of keys; the memory of big values is given back afterwards, in small steps",
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        run: Run::Write(del),
        ..BASE
    },
    Command {
        name: "UNLINK",
        arity: -2,
        keys: &[KEYS[0].remove()],
        flags: Flags::FAST,
        since: "4.0.0",
        syntax: "key [key ...]",
        summary: "Deletes keys. Does the same as DEL, which here frees big values in small steps too.",
        complexity: "O(N) in the number of keys",
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        run: Run::Write(del),
        ..BASE
    },
    Command {
        name: "EXISTS",
        arity: -2,
        keys: &[KEYS[0].look()],
        flags: Flags::FAST,
        syntax: "key [key ...]",
        summary: "Counts how many of the keys are there.",
        complexity: "O(N) in the number of keys",
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        run: Run::Read(|view, args, reply| count_keys(args, reply, |index| view.look(args.key(index)).is_some())),
        ..BASE
    },
    Command {
        name: "TOUCH",
        arity: -2,
        keys: &[KEYS[0].look()],
        flags: Flags::FAST,
        since: "3.2.1",
        syntax: "key [key ...]",
        summary: "Counts how many of the keys are there, and marks them as just used.",
        complexity: "O(N) in the number of keys",
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        run: Run::Read(|view, args, reply| count_keys(args, reply, |index| view.touch(args.key(index)))),
        ..BASE
    },
    Command {
        name: "TYPE",
        arity: 2,
        keys: &[Keys::at(1).look()],
        flags: Flags::FAST,
        syntax: "key",
        summary: "Tells the type of the value at a key.",
        run: Run::Read(type_),
        ..BASE
    },
    Command {
        name: "RENAME",
        arity: 3,
        keys: &[Keys::at(1).take(), Keys::at(2).overwrite()],
        syntax: "key newkey",
        summary: "Gives a key another name, in place of any key of that name.",
        run: Run::Write(|txn, args, reply| rename(txn, args, reply, true)),
        ..BASE
    },
    Command {
        name: "RENAMENX",
        arity: 3,
        keys: &[Keys::at(1).take(), Keys::at(2).with(super::string::ADDED)],
        flags: Flags::FAST,
        syntax: "key newkey",
        summary: "Gives a key another name if there is no key of that name yet.",
        run: Run::Write(|txn, args, reply| rename(txn, args, reply, false)),
        ..BASE
    },
    Command {
        name: "COPY",
        arity: -3,
        databases: Databases::Named(|words| {
            let named = |at: &usize| words[at - 1].eq_ignore_ascii_case(b"DB");
            (4..words.len()).filter(named).collect()
        }),
        keys: &[Keys::at(1).read(), Keys::at(2).overwrite()],
        flags: Flags::DENYOOM,
        since: "6.2.0",
        syntax: "source destination [DB destination-db] [REPLACE]",
        summary: "Copies a key's value and expiry time to another key.",
        complexity: "O(N) in the number of elements",
        run: Run::Write(copy),
        ..BASE
    },
    Command {
        name: "MOVE",
        arity: 3,
        databases: Databases::Named(|_| vec![2]),
        keys: &[Keys::at(1).update_read()],
        flags: Flags::FAST,
        syntax: "key db",
        summary: "Moves a key to another database, unless it is there already.",
        run: Run::Write(move_),
        ..BASE
    },
    Command {
        name: "FLUSHDB",
        arity: -1,
        syntax: "flush-type:[ASYNC | SYNC]",
        summary: "Deletes all keys of the selected database.",
        complexity: "O(1); the memory is given back afterwards, in small steps",
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        run: Run::Write(|txn, args, reply| {
            check_flush_mode(args)?;
            txn.flush(txn.db());
            reply.ok();
            Ok(())
        }),
        ..WHOLE
    },
    Command {
        name: "FLUSHALL",
        arity: -1,
        databases: Databases::All,
        syntax: "flush-type:[ASYNC | SYNC]",
        summary: "Deletes all keys of all databases.",
        complexity: "O(1); the memory is given back afterwards, in small steps",
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        run: Run::Write(|txn, args, reply| {
            check_flush_mode(args)?;
            txn.flush_all();
            reply.ok();
            Ok(())
        }),
        ..WHOLE
    },
    Command {
        name: "SWAPDB",
        arity: 3,
        databases: Databases::Named(|_| vec![1, 2]),
        flags: Flags::FAST.and(Flags::DANGEROUS),
        since: "4.0.0",
        syntax: "index1 index2",
        summary: "Exchanges the contents of two databases.",
        complexity: "O(N) in the number of clients that watch or wait for keys of them",
        run: Run::Write(swapdb),
        ..WHOLE
    },
];

fn del(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    count_keys(args, reply, |index| txn.delete_with_event(args.key(index)))
}

/// Replies for how many of the key words `holds`.
fn count_keys(args: &Args, reply: &mut Reply, mut holds: impl FnMut(usize) -> bool) -> Result {
    reply.int((1..args.len()).filter(|&index| holds(index)).count() as i64);
    Ok(())
}

fn type_(view: &View, args: &Args, reply: &mut Reply) -> Result {
    reply.status(view.look(args.key(1)).map_or("none", |entry| entry.kind().name()));
    Ok(())
}

fn rename(txn: &mut Txn, args: &Args, reply: &mut Reply, replace: bool) -> Result {
    let (from, to) = (args.key(1), args.key(2));
    if !txn.exists(from) {
        return Err(Error::NoSuchKey);
    }
    let renames = from.bytes != to.bytes && (replace || !txn.exists(to));
    if renames && txn.relocate(from, txn.db(), to) {
        txn.event(EventClasses::GENERIC, "rename_from", from.bytes);
        txn.event(EventClasses::GENERIC, "rename_to", to.bytes);
    }
    if replace {
        reply.ok();
    } else {
        reply.int(i64::from(renames));
    }
    Ok(())
}

/// The database that a word names.
fn database(view: &View, args: &Args, index: usize) -> Result<u32> {
    let Ok(number) = i32::try_from(args.int(index)?) else {
        return Err(Error::text("ERR value is out of range, value must between -2147483648 and 2147483647"));
    };
    u32::try_from(number).ok().filter(|&db| db < view.databases()).ok_or(NO_SUCH_DB)
}

fn copy(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let (from, to) = (args.key(1), args.key(2));
    let here = txn.db();
    let (mut there, mut replace) = (here, false);
    let mut at = 3;
    while at < args.len() {
        if args.is(at, "REPLACE") {
            replace = true;
        } else if args.is(at, "DB") && args.len() > at + 1 {
            at += 1;
            there = database(txn, args, at)?;
        } else {
            return Err(Error::Syntax);
        }
        at += 1;
    }
    if here == there && from.bytes == to.bytes {
        return Err(SAME_OBJECT);
    }
    let source = txn.get(from).map(|entry| (entry.to_value(), entry.expire_at()));
    txn.select(there);
    let copies = source.filter(|_| replace || !txn.exists(to));
    reply.int(i64::from(copies.is_some()));
    if let Some((value, expire_at)) = copies {
        txn.delete(to);
        txn.put(to, value, expire_at);
        txn.event(EventClasses::GENERIC, "copy_to", to.bytes);
    }
    txn.select(here);
    Ok(())
}

fn move_(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    let here = txn.db();
    let there = database(txn, args, 2)?;
    if here == there {
        return Err(SAME_OBJECT);
    }
    txn.select(there);
    let taken = txn.exists(key);
    txn.select(here);
    let moved = !taken && txn.relocate(key, there, key);
    reply.int(i64::from(moved));
    if moved {
        txn.event(EventClasses::GENERIC, "move_from", key.bytes);
        txn.select(there);
        txn.event(EventClasses::GENERIC, "move_to", key.bytes);
        txn.select(here);
    }
    Ok(())
}

/// ASYNC and SYNC make no difference: keys are gone at once, and their memory is always given back in small steps.
fn check_flush_mode(args: &Args) -> Result {
    if args.len() == 1 || args.len() == 2 && (args.is(1, "ASYNC") || args.is(1, "SYNC")) {
        return Ok(());
    }
    Err(Error::Syntax)
}

fn swapdb(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let index = |at, error| args.int(at).ok().and_then(|number| i32::try_from(number).ok()).ok_or(error);
    let a = index(1, Error::text("ERR invalid first DB index"))?;
    let b = index(2, Error::text("ERR invalid second DB index"))?;
    let existing = |number| u32::try_from(number).ok().filter(|&db| db < txn.databases()).ok_or(NO_SUCH_DB);
    let (a, b) = (existing(a)?, existing(b)?);
    if a != b {
        txn.swap_databases(a, b);
    }
    reply.ok();
    Ok(())
}
