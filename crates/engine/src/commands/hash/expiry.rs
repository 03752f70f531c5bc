//! Fields of hashes that expire: HEXPIRE and its relatives, HTTL and its relatives, and the commands that read, set or
//! remove fields named after FIELDS.
//!
//! Errors, limits and rounding are those of Redis 8; HSETEX takes Valkey's NX and XX as well.

use super::super::expire::{Conditions, ExpireArg, expire_arg, invalid};
use super::{BASE, FAST, GROWING, write_value};
use crate::args::Args;
use crate::command::{Command, Keys, Reply, Run};
use crate::error::{Error, Result};
use kelda_resp::parse_i64;
use kelda_store::Str;
use kelda_store::hash::Hash;
use kelda_store::txn::{Txn, View};
use smallvec::SmallVec;

/// The latest time at which a field may expire, in Unix milliseconds: the year 4199, where Redis draws the line.
const LATEST_MS: i64 = (1 << 46) - 1;

const FIELDS_COMPLEXITY: &str = "O(N) in the number of fields named";

const SETTER: Command = Command {
    arity: -6,
    keys: &[Keys::at(1).update()],
    flags: FAST,
    since: "7.4.0",
    complexity: FIELDS_COMPLEXITY,
    ..BASE
};

const GETTER: Command = Command {
    arity: -5,
    keys: &[Keys::at(1).read()],
    flags: FAST,
    since: "7.4.0",
    syntax: "key fields:(FIELDS numfields field [field ...])",
    complexity: FIELDS_COMPLEXITY,
    ..BASE
};

/// The commands.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "HEXPIRE",
        syntax: "key seconds condition:[NX | XX | GT | LT] fields:(FIELDS numfields field [field ...])",
        summary: "Has fields of a hash expire in some seconds.",
        run: Run::Write(|txn, args, reply| expire(txn, args, reply, "hexpire", true, true)),
        ..SETTER
    },
    Command {
        name: "HPEXPIRE",
        syntax: "key milliseconds condition:[NX | XX | GT | LT] fields:(FIELDS numfields field [field ...])",
        summary: "Has fields of a hash expire in some milliseconds.",
        run: Run::Write(|txn, args, reply| expire(txn, args, reply, "hpexpire", false, true)),
        ..SETTER
    },
    Command {
        name: "HEXPIREAT",
        syntax: "key unix-time-seconds condition:[NX | XX | GT | LT] fields:(FIELDS numfields field [field ...])",
        summary: "Has fields of a hash expire at a Unix time in seconds.",
        run: Run::Write(|txn, args, reply| expire(txn, args, reply, "hexpireat", true, false)),
        ..SETTER
    },
    Command {
        name: "HPEXPIREAT",
        syntax: "key unix-time-milliseconds condition:[NX | XX | GT | LT] fields:(FIELDS numfields field [field ...])",
        summary: "Has fields of a hash expire at a Unix time in milliseconds.",
        run: Run::Write(|txn, args, reply| expire(txn, args, reply, "hpexpireat", false, false)),
        ..SETTER
    },
    Command {
        name: "HTTL",
        summary: "Returns how long fields of a hash still live, in seconds.",
        tips: &["nondeterministic_output"],
        run: Run::Read(|view, args, reply| ttl(view, args, reply, |at, now| seconds((at - now).max(0)))),
        ..GETTER
    },
    Command {
        name: "HPTTL",
        summary: "Returns how long fields of a hash still live, in milliseconds.",
        tips: &["nondeterministic_output"],
        run: Run::Read(|view, args, reply| ttl(view, args, reply, |at, now| (at - now).max(0))),
        ..GETTER
    },
    Command {
        name: "HEXPIRETIME",
        summary: "Returns when fields of a hash expire, as Unix times in seconds.",
        run: Run::Read(|view, args, reply| ttl(view, args, reply, |at, _| seconds(at))),
        ..GETTER
    },
    Command {
        name: "HPEXPIRETIME",
        summary: "Returns when fields of a hash expire, as Unix times in milliseconds.",
        run: Run::Read(|view, args, reply| ttl(view, args, reply, |at, _| at)),
        ..GETTER
    },
    Command {
        name: "HPERSIST",
        keys: &[Keys::at(1).update()],
        summary: "Has fields of a hash live for ever.",
        run: Run::Write(persist),
        ..GETTER
    },
    Command {
        name: "HGETEX",
        keys: &[Keys::at(1).update_read()],
        since: "8.0.0",
        syntax: "key expiration:[EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST] fields:(FIELDS numfields field [field ...])",
        summary: "Returns the values of fields and sets or removes their expiry times.",
        run: Run::Write(getex),
        ..GETTER
    },
    Command {
        name: "HSETEX",
        flags: GROWING,
        since: "8.0.0",
        syntax: "key key-condition:[NX | XX] fields-condition:[FNX | FXX] expiration:[EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL] fields:(FIELDS numfields field value [field value ...])",
        summary: "Sets fields, with one expiry time for all of them, if the key and the fields are there or not.",
        run: Run::Write(setex),
        ..SETTER
    },
    Command {
        name: "HGETDEL",
        keys: &[Keys::at(1).take()],
        since: "8.0.0",
        summary: "Returns the values of fields and removes them.",
        run: Run::Write(getdel),
        ..GETTER
    },
];

const FIELDS_MISSING: Error = Error::text("ERR Mandatory argument FIELDS is missing or not at the right position");
const COUNT_NOT_POSITIVE: Error = Error::text("ERR Number of fields must be a positive integer");

/// The fields of `FIELDS numfields field …` from a word to the last; `bad_count` for a number below 1.
fn fields<'a>(args: &Args<'a>, at: usize, bad_count: Error) -> Result<&'a [&'a [u8]]> {
    if !args.is(at, "FIELDS") {
        return Err(FIELDS_MISSING);
    }
    let count = args.get(at + 1).and_then(parse_i64).filter(|&count| count > 0).ok_or(bad_count)?;
    let fields = args.from(at + 2);
    if count != fields.len() as i64 {
        return Err(Error::text("ERR The `numfields` parameter must match the number of arguments"));
    }
    Ok(fields)
}

/// The time that an argument names, in Unix milliseconds.
pub(in crate::commands) fn time(arg: ExpireArg, args: &Args, now_ms: i64, command: &str) -> Result<i64> {
    if args.int(arg.at)? < 0 {
        return Err(Error::text("ERR invalid expire time, must be >= 0"));
    }
    let at = arg.time(args, now_ms, command)?;
    if at > LATEST_MS { Err(invalid(command)) } else { Ok(at) }
}

/// Whether a field or member that is to expire at this time goes at once. In import mode the source says when it goes.
pub(in crate::commands) fn is_past(txn: &Txn, at: i64) -> bool {
    at <= txn.now() && !txn.cx.env.keep_due
}

fn expire(
    txn: &mut Txn,
    args: &Args,
    reply: &mut Reply,
    command: &'static str,
    seconds: bool,
    relative: bool,
) -> Result {
    let key = args.key(1);
    // Redis looks at the type of the key first, here and below.
    txn.edit::<Hash>(key)?;
    let at = time(ExpireArg { at: 2, seconds, relative }, args, txn.now(), command)?;
    let (conditions, next) = Conditions::parse_from(args, 3)?;
    let fields = fields(args, next, Error::text("ERR Parameter `numFields` should be greater than 0"))?;
    let past = is_past(txn, at);
    let mut hash = txn.edit::<Hash>(key)?;
    let mut changed: SmallVec<[&[u8]; 8]> = SmallVec::new();
    reply.array(fields.len());
    for field in fields {
        let old = hash.as_ref().and_then(|hash| hash.find(field)).map(|(_, old)| old);
        reply.int(match (&mut hash, old) {
            (Some(_), Some(old)) if !conditions.hold(old, at) => 0,
            (Some(hash), Some(_)) => {
                changed.push(field);
                if past {
                    hash.remove(field);
                    2
                } else {
                    hash.set_expiry(field, Some(at));
                    1
                }
            }
            _ => -2,
        });
    }
    if let Some(mut hash) = hash
        && !changed.is_empty()
    {
        hash.field_event(if past { "hdel" } else { "hexpire" }, &changed);
    }
    Ok(())
}

/// Replies what `show` makes of each field's expiry time and of now; -1 without one, -2 without the field.
fn ttl(view: &View, args: &Args, reply: &mut Reply, show: fn(i64, i64) -> i64) -> Result {
    let hash = view.hash(args.key(1))?;
    let fields = fields(args, 2, COUNT_NOT_POSITIVE)?;
    reply.array(fields.len());
    for field in fields {
        reply.int(match hash.and_then(|hash| hash.find(field)) {
            None => -2,
            Some((_, None)) => -1,
            Some((_, Some(at))) => show(at, view.now()),
        });
    }
    Ok(())
}

/// Milliseconds as seconds, rounded up.
pub(in crate::commands) fn seconds(ms: i64) -> i64 {
    ms / 1000 + i64::from(ms % 1000 > 0)
}

fn persist(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    txn.edit::<Hash>(args.key(1))?;
    let fields = fields(args, 2, COUNT_NOT_POSITIVE)?;
    let mut hash = txn.edit::<Hash>(args.key(1))?;
    let mut changed: SmallVec<[&[u8]; 8]> = SmallVec::new();
    reply.array(fields.len());
    for field in fields {
        let at = hash.as_ref().and_then(|hash| hash.find(field)).map(|(_, at)| at);
        reply.int(match (&mut hash, at) {
            (Some(hash), Some(Some(_))) => {
                hash.set_expiry(field, None);
                changed.push(field);
                1
            }
            (_, Some(None)) => -1,
            _ => -2,
        });
    }
    if let Some(mut hash) = hash
        && !changed.is_empty()
    {
        hash.field_event("hpersist", &changed);
    }
    Ok(())
}

fn getex(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    txn.edit::<Hash>(key)?;
    let persists = args.is(2, "PERSIST");
    let arg = expire_arg(args, 2);
    let at = arg.map(|arg| time(arg, args, txn.now(), "hgetex")).transpose()?;
    let first = 2 + usize::from(persists) + if arg.is_some() { 2 } else { 0 };
    let fields = fields(args, first, COUNT_NOT_POSITIVE)?;
    let past = at.is_some_and(|at| is_past(txn, at));
    let mut hash = txn.edit::<Hash>(key)?;
    let mut changed: SmallVec<[&[u8]; 8]> = SmallVec::new();
    reply.array(fields.len());
    for field in fields {
        let found = hash.as_ref().and_then(|hash| hash.find(field));
        let old = found.map(|(_, old)| old);
        write_value(reply, found.map(|(value, _)| value));
        let (Some(hash), Some(old)) = (&mut hash, old) else { continue };
        if past {
            hash.remove(field);
            changed.push(field);
        } else if at.is_some() || persists && old.is_some() {
            hash.set_expiry(field, at);
            changed.push(field);
        }
    }
    if let Some(mut hash) = hash
        && !changed.is_empty()
    {
        let event = match at {
            None => "hpersist",
            Some(_) if past => "hdel",
            Some(_) => "hexpire",
        };
        hash.field_event(event, &changed);
    }
    Ok(())
}

/// The arguments of HSETEX. `Some(true)` in a condition: there must be one.
#[derive(Default)]
struct SetexOptions<'a> {
    key: Option<bool>,
    fields: Option<bool>,
    keep: bool,
    expire_at: Option<i64>,
    pairs: &'a [[&'a [u8]; 2]],
}

impl<'a> SetexOptions<'a> {
    fn parse(args: &Args<'a>, now_ms: i64) -> Result<SetexOptions<'a>> {
        let mut options = SetexOptions::default();
        let mut at = 2;
        while let Some(word) = args.get(at) {
            let wants_there = args.is(at, "XX") || args.is(at, "FXX");
            if args.is(at, "FIELDS") {
                let count = args.get(at + 1).and_then(parse_i64).filter(|&count| count > 0);
                let count = count.ok_or(Error::text("ERR invalid number of fields"))?;
                let (pairs, rest) = args.from(at + 2).as_chunks::<2>();
                if pairs.len() as i64 != count || !rest.is_empty() {
                    return Err(Error::Arity("hsetex".into()));
                }
                options.pairs = pairs;
                return Ok(options);
            } else if args.is(at, "FNX") || args.is(at, "FXX") {
                if options.fields.replace(wants_there).is_some() {
                    return Err(Error::text("ERR Only one of FXX or FNX arguments can be specified"));
                }
            } else if args.is(at, "NX") || args.is(at, "XX") {
                if options.key.replace(wants_there).is_some() {
                    return Err(Error::Syntax);
                }
            } else if args.is(at, "KEEPTTL") || expire_arg(args, at).is_some() {
                if options.keep || options.expire_at.is_some() {
                    let text = "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified";
                    return Err(Error::text(text));
                }
                match expire_arg(args, at) {
                    Some(arg) => {
                        options.expire_at = Some(time(arg, args, now_ms, "hsetex")?);
                        at += 1;
                    }
                    None => options.keep = true,
                }
            } else {
                return Err(Error::owned(format!("ERR unknown argument: {}", String::from_utf8_lossy(word))));
            }
            at += 1;
        }
        Err(FIELDS_MISSING)
    }
}

fn setex(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    let options = SetexOptions::parse(args, txn.now())?;
    let hash = txn.edit::<Hash>(key)?;
    let has = |field: &[u8]| hash.as_ref().is_some_and(|hash| hash.contains(field));
    let applies = options.key.is_none_or(|wanted| hash.is_some() == wanted)
        && options.fields.is_none_or(|wanted| options.pairs.iter().all(|[field, _]| has(field) == wanted));
    drop(hash);
    reply.int(i64::from(applies));
    if !applies {
        return Ok(());
    }
    let past = options.expire_at.is_some_and(|at| is_past(txn, at));
    let mut hash = txn.edit_or_new::<Hash>(key)?;
    hash.reserve(options.pairs.len());
    for [field, value] in options.pairs {
        match options.expire_at {
            None if options.keep => hash.set_keeping_expiry(field, value),
            Some(at) if !past => hash.put(field, value, Some(at)),
            _ => hash.set(field, value),
        };
        if past {
            hash.remove(field);
        }
    }
    let fields = || options.pairs.iter().map(|[field, _]| field);
    hash.field_event("hset", fields());
    if options.expire_at.is_some() {
        hash.field_event(if past { "hdel" } else { "hexpire" }, fields());
    }
    Ok(())
}

fn getdel(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    txn.edit::<Hash>(key)?;
    let fields = fields(args, 2, COUNT_NOT_POSITIVE)?;
    let mut hash = txn.edit::<Hash>(key)?;
    let mut removed: SmallVec<[&[u8]; 8]> = SmallVec::new();
    reply.array(fields.len());
    for field in fields {
        let value = hash.as_mut().and_then(|hash| hash.remove(field));
        removed.extend(value.is_some().then_some(*field));
        write_value(reply, value.as_deref().map(Str::Bytes));
    }
    if let Some(mut hash) = hash
        && !removed.is_empty()
    {
        hash.field_event("hdel", &removed);
    }
    Ok(())
}
