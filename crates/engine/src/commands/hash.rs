//! The hash family. What expires is in [`expiry`].

pub mod expiry;

use super::sample::{drawn, parse_count, sample};
use super::scan::{ScanOf, parse_cursor, parse_scan_options};
use super::write_str;
use crate::args::Args;
use crate::command::{Command, Flags, Group, Keys, Reply, Run};
use crate::error::{Error, Result};
use kelda_resp::{LongDouble, Protocol, parse_i64};
use kelda_store::Str;
use kelda_store::hash::{Hash, Live};
use kelda_store::txn::{Txn, View};
use smallvec::SmallVec;

const BASE: Command = Command { group: Group::Hash, since: "2.0.0", ..Command::BASE };
const FAST: Flags = Flags::FAST;
const GROWING: Flags = Flags::FAST.and(Flags::DENYOOM);

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "HSET",
        arity: -4,
        keys: &[Keys::at(1).update()],
        flags: GROWING,
        syntax: "key field value [field value ...]",
        summary: "Sets fields of a hash and tells how many are new.",
        complexity: "O(N) in the number of fields set",
        run: Run::Write(hset),
        ..BASE
    },
    Command {
        name: "HSETNX",
        arity: 4,
        keys: &[Keys::at(1).insert()],
        flags: GROWING,
        syntax: "key field value",
        summary: "Sets a field of a hash unless it is there.",
        run: Run::Write(hsetnx),
        ..BASE
    },
    Command {
        name: "HMSET",
        arity: -4,
        keys: &[Keys::at(1).update()],
        flags: GROWING,
        syntax: "key field value [field value ...]",
        summary: "Sets fields of a hash.",
        complexity: "O(N) in the number of fields set",
        run: Run::Write(hmset),
        ..BASE
    },
    Command {
        name: "HGET",
        arity: 3,
        keys: &[Keys::at(1).read()],
        flags: FAST,
        syntax: "key field",
        summary: "Returns the value of a field.",
        run: Run::Read(hget),
        ..BASE
    },
    Command {
        name: "HMGET",
        arity: -3,
        keys: &[Keys::at(1).read()],
        flags: FAST,
        syntax: "key field [field ...]",
        summary: "Returns the values of several fields.",
        complexity: "O(N) in the number of fields asked for",
        run: Run::Read(hmget),
        ..BASE
    },
    Command {
        name: "HGETALL",
        arity: 2,
        keys: &[Keys::at(1).read()],
        syntax: "key",
        summary: "Returns all fields of a hash with their values.",
        complexity: "O(N) in the size of the hash",
        tips: &["nondeterministic_output_order"],
        run: Run::Read(hgetall),
        ..BASE
    },
    Command {
        name: "HKEYS",
        arity: 2,
        keys: &[Keys::at(1).read()],
        syntax: "key",
        summary: "Returns the names of all fields of a hash.",
        complexity: "O(N) in the size of the hash",
        tips: &["nondeterministic_output_order"],
        run: Run::Read(hkeys),
        ..BASE
    },
    Command {
        name: "HVALS",
        arity: 2,
        keys: &[Keys::at(1).read()],
        syntax: "key",
        summary: "Returns the values of all fields of a hash.",
        complexity: "O(N) in the size of the hash",
        tips: &["nondeterministic_output_order"],
        run: Run::Read(hvals),
        ..BASE
    },
    Command {
        name: "HLEN",
        arity: 2,
        keys: &[Keys::at(1).look()],
        flags: FAST,
        syntax: "key",
        summary: "Counts the fields of a hash.",
        run: Run::Read(hlen),
        ..BASE
    },
    Command {
        name: "HEXISTS",
        arity: 3,
        keys: &[Keys::at(1).look()],
        flags: FAST,
        syntax: "key field",
        summary: "Tells whether a hash has a field.",
        run: Run::Read(hexists),
        ..BASE
    },
    Command {
        name: "HSTRLEN",
        arity: 3,
        keys: &[Keys::at(1).look()],
        flags: FAST,
        since: "3.2.0",
        syntax: "key field",
        summary: "Returns the length of a field's value.",
        run: Run::Read(hstrlen),
        ..BASE
    },
    Command {
        name: "HDEL",
        arity: -3,
        keys: &[Keys::at(1).delete()],
        flags: FAST,
        syntax: "key field [field ...]",
        summary: "Removes fields; a hash without fields is gone.",
        complexity: "O(N) in the number of fields named",
        run: Run::Write(hdel),
        ..BASE
    },
    Command {
        name: "HINCRBY",
        arity: 4,
        keys: &[Keys::at(1).update_read()],
        flags: GROWING,
        syntax: "key field increment",
        summary: "Adds to the integer in a field; one that is not there counts as 0.",
        run: Run::Write(hincrby),
        ..BASE
    },
    Command {
        name: "HINCRBYFLOAT",
        arity: 4,
        keys: &[Keys::at(1).update_read()],
        flags: GROWING,
        since: "2.6.0",
        syntax: "key field increment/double",
        summary: "Adds to the number in a field; one that is not there counts as 0.",
        run: Run::Write(hincrbyfloat),
        ..BASE
    },
    Command {
        name: "HRANDFIELD",
        arity: -2,
        keys: &[Keys::at(1).read()],
        since: "6.2.0",
        syntax: "key options:[count [WITHVALUES]]",
        summary: "Returns random fields of a hash: `count` different ones, or -`count` draws.",
        complexity: "O(N) in the number of fields returned",
        tips: &["nondeterministic_output"],
        run: Run::Read(hrandfield),
        ..BASE
    },
    Command {
        name: "HSCAN",
        arity: -3,
        keys: &[Keys::at(1).read()],
        since: "2.8.0",
        syntax: "key cursor [MATCH pattern] [COUNT count] [NOVALUES]",
        summary: "Goes through the fields of a hash in steps.",
        complexity: "O(1) for every call, O(N) for a whole iteration",
        tips: &["nondeterministic_output"],
        run: Run::Read(hscan),
        ..BASE
    },
];

fn hset(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let new = set_fields(txn, args, "hset")?;
    reply.int(new as i64);
    Ok(())
}

fn hmset(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    set_fields(txn, args, "hmset")?;
    reply.ok();
    Ok(())
}

/// Sets the pairs from the third word on. How many fields are new.
fn set_fields(txn: &mut Txn, args: &Args, name: &str) -> Result<usize> {
    let (pairs, []) = args.from(2).as_chunks::<2>() else { return Err(Error::Arity(name.into())) };
    let mut hash = txn.edit_or_new::<Hash>(args.key(1))?;
    hash.reserve(pairs.len());
    let mut new = 0;
    for [field, value] in pairs {
        new += usize::from(hash.set(field, value));
    }
    hash.field_event("hset", pairs.iter().map(|[field, _]| field));
    Ok(new)
}

fn hsetnx(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let mut hash = txn.edit_or_new::<Hash>(args.key(1))?;
    let absent = !hash.contains(&args[2]);
    if absent {
        hash.set(&args[2], &args[3]);
        hash.field_event("hset", [&args[2]]);
    }
    reply.int(i64::from(absent));
    Ok(())
}

/// Writes a value that may be missing.
fn write_value(reply: &mut Reply, value: Option<Str>) {
    match value {
        Some(value) => write_str(reply, value),
        None => reply.null(),
    }
}

fn hget(view: &View, args: &Args, reply: &mut Reply) -> Result {
    write_value(reply, view.hash(args.key(1))?.and_then(|hash| hash.get(&args[2])));
    Ok(())
}

fn hmget(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let hash = view.hash(args.key(1))?;
    let fields = args.from(2);
    reply.array(fields.len());
    for field in fields {
        write_value(reply, hash.and_then(|hash| hash.get(field)));
    }
    Ok(())
}

fn hgetall(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let Some(hash) = view.hash(args.key(1))? else {
        reply.map(0);
        return Ok(());
    };
    reply.map(hash.len());
    hash.iter().for_each(|(field, value)| {
        write_str(reply, field);
        write_str(reply, value);
    });
    Ok(())
}

fn hkeys(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let hash = view.hash(args.key(1))?;
    reply.array(hash.map_or(0, Live::len));
    hash.into_iter().flat_map(Live::iter).for_each(|(field, _)| write_str(reply, field));
    Ok(())
}

fn hvals(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let hash = view.hash(args.key(1))?;
    reply.array(hash.map_or(0, Live::len));
    hash.into_iter().flat_map(Live::iter).for_each(|(_, value)| write_str(reply, value));
    Ok(())
}

fn hlen(view: &View, args: &Args, reply: &mut Reply) -> Result {
    reply.int(view.hash(args.key(1))?.map_or(0, Live::len) as i64);
    Ok(())
}

fn hexists(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let hash = view.hash(args.key(1))?;
    reply.int(i64::from(hash.is_some_and(|hash| hash.contains(&args[2]))));
    Ok(())
}

fn hstrlen(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let value = view.hash(args.key(1))?.and_then(|hash| hash.get(&args[2]));
    reply.int(value.map_or(0, |value| value.len()) as i64);
    Ok(())
}

fn hdel(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let mut removed: SmallVec<[&[u8]; 8]> = SmallVec::new();
    if let Some(mut hash) = txn.edit::<Hash>(args.key(1))? {
        removed.extend(args.from(2).iter().copied().filter(|field| hash.remove(field).is_some()));
        if !removed.is_empty() {
            hash.field_event("hdel", &removed);
        }
    }
    reply.int(removed.len() as i64);
    Ok(())
}

fn hincrby(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let increment = args.int(3)?;
    let mut hash = txn.edit_or_new::<Hash>(args.key(1))?;
    let old = match hash.get(&args[2]) {
        Some(Str::Int(old)) => old,
        Some(Str::Bytes(text)) => parse_i64(text).ok_or(Error::text("ERR hash value is not an integer"))?,
        None => 0,
    };
    let sum = old.checked_add(increment).ok_or(Error::Overflow)?;
    hash.set_keeping_expiry(&args[2], itoa::Buffer::new().format(sum).as_bytes());
    hash.field_event("hincrby", [&args[2]]);
    reply.int(sum);
    Ok(())
}

fn hincrbyfloat(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let increment = LongDouble::parse(&args[3]).ok_or(Error::NotFloat)?;
    if increment.is_infinite() {
        return Err(Error::text("ERR value is NaN or Infinity"));
    }
    let mut hash = txn.edit_or_new::<Hash>(args.key(1))?;
    let sum = match hash.get(&args[2]) {
        Some(old) => {
            old.with_bytes(LongDouble::parse).ok_or(Error::text("ERR hash value is not a float"))?.add(increment)
        }
        None => increment,
    };
    if sum.is_nan() || sum.is_infinite() {
        return Err(Error::text("ERR increment would produce NaN or Infinity"));
    }
    let text = sum.format();
    hash.set_keeping_expiry(&args[2], text.as_bytes());
    hash.field_event("hincrbyfloat", [&args[2]]);
    reply.bulk(text.as_bytes());
    Ok(())
}

fn hrandfield(view: &View, args: &Args, reply: &mut Reply) -> Result {
    if args.len() == 2 {
        let picked = view.hash(args.key(1))?.and_then(|hash| hash.random(view.random()));
        write_value(reply, picked.map(|(field, _)| field));
        return Ok(());
    }
    let count = parse_count(args, 2)?;
    let with_values = args.len() > 3;
    if args.len() > 4 || with_values && !args.is(3, "WITHVALUES") {
        return Err(Error::Syntax);
    }
    // The reply has two elements for each field, whose number Redis keeps in 64 bits.
    if with_values && count.unsigned_abs() > (i64::MAX / 2) as u64 {
        return Err(Error::text("ERR value is out of range"));
    }
    let Some(hash) = view.hash(args.key(1))? else {
        reply.array(0);
        return Ok(());
    };
    let as_pairs = with_values && reply.protocol == Protocol::Resp3;
    let fields = drawn(count, hash.len());
    reply.array(if with_values && !as_pairs { fields * 2 } else { fields });
    let write = |(field, value)| {
        if as_pairs {
            reply.array(2);
        }
        write_str(reply, field);
        if with_values {
            write_str(reply, value);
        }
        !reply.is_overfull()
    };
    sample(view, count, hash.len(), hash.iter(), |random| hash.random(random), |(field, _)| field, write);
    Ok(())
}

fn hscan(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let cursor = parse_cursor(&args[2])?;
    // The next cursor comes before the elements but is known after them.
    let mut elements = Reply::new(reply.protocol);
    let (mut next, mut count) = (0, 0);
    if let Some(hash) = view.hash(args.key(1))? {
        let options = parse_scan_options(args, 3, ScanOf::Hash)?;
        next = hash.scan(cursor, options.count, |field, value| {
            if field.with_bytes(|field| options.matches(field)) {
                count += 1;
                write_str(&mut elements, field);
                if !options.no_values {
                    count += 1;
                    write_str(&mut elements, value);
                }
            }
        });
    }
    reply.array(2);
    // Cursors within a collection are below 2^32.
    reply.bulk_int(next as i64);
    reply.array(count);
    reply.raw(&elements.buf);
    Ok(())
}
