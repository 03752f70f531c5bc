//! The string family. Longest common subsequences are in [`super::lcs`].

use super::digest::Comparison;
use super::expire::{ExpireArg, expire_arg};
use super::lcs;
use super::write_str;
use crate::args::Args;
use crate::command::{Access, Begin, Command, Find, Flags, Group, Keys, Reply, Run};
use crate::error::{Error, Result};
use kelda_resp::{LongDouble, number};
use kelda_store::Str;
use kelda_store::entry::{EntryRef, INLINE_MAX};
use kelda_store::txn::{EventClasses, Key, Ttl, Txn, View};
use kelda_store::value::{Kind, ValueRef};

const BASE: Command = Command { group: Group::String, ..Command::BASE };

/// What commands that change one string share.
const UPDATE: Command = Command { keys: &[Keys::at(1).update_read()], flags: Flags::DENYOOM.and(Flags::FAST), ..BASE };

/// Access flags: the key is made, from nothing.
pub(super) const ADDED: Access = Access::OW.and(Access::INSERT);

/// `numkeys key value [key value ...]` at the first word.
const COUNTED_PAIRS: Keys =
    Keys { begin: Begin::Index(1), find: Find::Numkeys { at: 0, first: 1, step: 2 }, ..Keys::at(1).overwrite() };

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "GET",
        arity: 2,
        keys: &[Keys::at(1).read()],
        flags: Flags::FAST,
        syntax: "key",
        summary: "Returns the string at a key.",
        run: Run::Read(get),
        ..BASE
    },
    Command {
        name: "SET",
        arity: -3,
        keys: &[Keys::at(1).update_read().variable()],
        find_keys: Some(|words, f| {
            let reads = words.iter().skip(3).any(|word| word.eq_ignore_ascii_case(b"GET"));
            f(1, if reads { Keys::at(1).update_read() } else { Keys::at(1).overwrite() }.access);
        }),
        flags: Flags::DENYOOM,
        syntax: "key value condition:[NX | XX | IFEQ ifeq-value | IFNE ifne-value | IFDEQ ifdeq-digest | IFDNE ifdne-digest] [GET] expiration:[EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
        summary: "Sets a key to a string, whatever it held before.",
        run: Run::Write(set),
        ..BASE
    },
    Command {
        name: "SETNX",
        arity: 3,
        keys: &[Keys::at(1).with(ADDED)],
        flags: Flags::DENYOOM.and(Flags::FAST),
        syntax: "key value",
        summary: "Sets a key to a string if there is no such key yet.",
        run: Run::Write(setnx),
        ..BASE
    },
    Command {
        name: "SETEX",
        arity: 4,
        keys: &[Keys::at(1).overwrite()],
        flags: Flags::DENYOOM,
        since: "2.0.0",
        syntax: "key seconds value",
        summary: "Sets a key to a string that lives for some seconds.",
        run: Run::Write(|txn, args, reply| setex(txn, args, reply, true)),
        ..BASE
    },
    Command {
        name: "PSETEX",
        arity: 4,
        keys: &[Keys::at(1).overwrite()],
        flags: Flags::DENYOOM,
        since: "2.6.0",
        syntax: "key milliseconds value",
        summary: "Sets a key to a string that lives for some milliseconds.",
        run: Run::Write(|txn, args, reply| setex(txn, args, reply, false)),
        ..BASE
    },
    Command {
        name: "GETSET",
        arity: 3,
        syntax: "key value",
        summary: "Sets a key to a string and returns the one it held before.",
        run: Run::Write(getset),
        ..UPDATE
    },
    Command {
        name: "MGET",
        arity: -2,
        keys: &[Keys::range(1, -1, 1).read()],
        flags: Flags::FAST,
        syntax: "key [key ...]",
        summary: "Returns the strings at several keys, as of one moment.",
        complexity: "O(N) in the number of keys",
        tips: &["request_policy:multi_shard"],
        run: Run::Read(mget),
        ..BASE
    },
    Command {
        name: "MSET",
        arity: -3,
        keys: &[Keys::range(1, -1, 2).overwrite()],
        flags: Flags::DENYOOM,
        since: "1.0.1",
        syntax: "key value [key value ...]",
        summary: "Sets several keys to strings, all at once.",
        complexity: "O(N) in the number of keys",
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
        run: Run::Write(mset),
        ..BASE
    },
    Command {
        name: "MSETNX",
        arity: -3,
        keys: &[Keys::range(1, -1, 2).with(ADDED)],
        flags: Flags::DENYOOM,
        since: "1.0.1",
        syntax: "key value [key value ...]",
        summary: "Sets several keys to strings, all at once, if none of them is there yet.",
        complexity: "O(N) in the number of keys",
        run: Run::Write(msetnx),
        ..BASE
    },
    Command {
        name: "MSETEX",
        arity: -4,
        keys: &[COUNTED_PAIRS],
        flags: Flags::DENYOOM,
        since: "9.1.0",
        syntax: "numkeys key value [key value ...] condition:[NX | XX] expiration:[EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
        summary: "Sets several keys to strings, all at once, with one expiry time for all of them.",
        complexity: "O(N) in the number of keys",
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
        run: Run::Write(msetex),
        ..BASE
    },
    Command {
        name: "INCR",
        arity: 2,
        syntax: "key",
        summary: "Adds 1 to the integer at a key.",
        run: Run::Write(|txn, args, reply| increment(txn, args, reply, 1)),
        ..UPDATE
    },
    Command {
        name: "DECR",
        arity: 2,
        syntax: "key",
        summary: "Subtracts 1 from the integer at a key.",
        run: Run::Write(|txn, args, reply| increment(txn, args, reply, -1)),
        ..UPDATE
    },
    Command {
        name: "INCRBY",
        arity: 3,
        syntax: "key increment",
        summary: "Adds to the integer at a key.",
        run: Run::Write(|txn, args, reply| increment(txn, args, reply, args.int(2)?)),
        ..UPDATE
    },
    Command {
        name: "DECRBY",
        arity: 3,
        syntax: "key decrement",
        summary: "Subtracts from the integer at a key.",
        run: Run::Write(decrby),
        ..UPDATE
    },
    Command {
        name: "INCRBYFLOAT",
        arity: 3,
        since: "2.6.0",
        syntax: "key increment/double",
        summary: "Adds to the floating-point number at a key.",
        run: Run::Write(incrbyfloat),
        ..UPDATE
    },
    Command {
        name: "APPEND",
        arity: 3,
        keys: &[Keys::at(1).insert()],
        since: "2.0.0",
        syntax: "key value",
        summary: "Adds text at the end of the string at a key.",
        complexity: "O(M) in the length of the added text, amortised",
        run: Run::Write(append),
        ..UPDATE
    },
    Command {
        name: "GETRANGE",
        arity: 4,
        keys: &[Keys::at(1).read()],
        since: "2.4.0",
        syntax: "key start end",
        summary: "Returns part of the string at a key.",
        complexity: "O(N) in the length of the part",
        run: Run::Read(getrange),
        ..BASE
    },
    Command {
        name: "SUBSTR",
        arity: 4,
        keys: &[Keys::at(1).read()],
        syntax: "key start end",
        summary: "Returns part of the string at a key. The old name of GETRANGE.",
        complexity: "O(N) in the length of the part",
        run: Run::Read(getrange),
        ..BASE
    },
    Command {
        name: "SETRANGE",
        arity: 4,
        keys: &[Keys::at(1).update()],
        flags: Flags::DENYOOM,
        since: "2.2.0",
        syntax: "key offset value",
        summary: "Overwrites part of the string at a key, made longer with zero bytes if need be.",
        complexity: "O(M) in the length of the new text",
        run: Run::Write(setrange),
        ..BASE
    },
    Command {
        name: "STRLEN",
        arity: 2,
        keys: &[Keys::at(1).look()],
        flags: Flags::FAST,
        since: "2.2.0",
        syntax: "key",
        summary: "Returns the length of the string at a key, in bytes.",
        run: Run::Read(strlen),
        ..BASE
    },
    Command {
        name: "GETDEL",
        arity: 2,
        keys: &[Keys::at(1).take()],
        flags: Flags::FAST,
        since: "6.2.0",
        syntax: "key",
        summary: "Returns the string at a key and deletes the key.",
        run: Run::Write(getdel),
        ..BASE
    },
    Command {
        name: "GETEX",
        arity: -2,
        keys: &[Keys::at(1).update_read()],
        flags: Flags::FAST,
        since: "6.2.0",
        syntax: "key expiration:[EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
        summary: "Returns the string at a key and sets or removes the key's expiry time.",
        run: Run::Write(getex),
        ..BASE
    },
    Command {
        name: "DELIFEQ",
        arity: 3,
        keys: &[Keys::at(1).remove()],
        flags: Flags::FAST,
        since: "9.0.0",
        syntax: "key value",
        summary: "Deletes a key if it holds this string.",
        run: Run::Write(delifeq),
        ..BASE
    },
    Command {
        name: "LCS",
        arity: -3,
        keys: &[Keys::range(1, 1, 1).read()],
        since: "7.0.0",
        syntax: "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len/integer] [WITHMATCHLEN]",
        summary: "Finds the longest common subsequence of the strings at two keys.",
        complexity: "O(N*M) in the lengths of the two strings",
        run: Run::Read(lcs::lcs),
        ..BASE
    },
];

fn get(view: &View, args: &Args, reply: &mut Reply) -> Result {
    write_value(reply, view.get(args.key(1)))
}

/// Replies a string value, a long one without copying it.
#[inline]
fn write_value(reply: &mut Reply, entry: Option<EntryRef>) -> Result {
    let Some(entry) = entry else {
        reply.null();
        return Ok(());
    };
    match entry.value() {
        ValueRef::String(Str::Bytes(bytes)) if bytes.len() > INLINE_MAX => match entry.shared() {
            Some(shared) => reply.bulk_shared(shared),
            None => reply.bulk(bytes),
        },
        ValueRef::String(text) => write_str(reply, text),
        _ => return Err(Error::WrongType),
    }
    Ok(())
}

// ---- setting

/// What must hold for SET to do anything.
enum Condition<'a> {
    Always,
    Absent,
    Present,
    If(Comparison<'a>),
}

/// Which options [`SetOptions::parse`] takes besides those about expiry times.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OptionsOf {
    Set,
    Msetex,
    Getex,
}

/// The options of SET, MSETEX and GETEX.
struct SetOptions<'a> {
    condition: Condition<'a>,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    expire: Option<ExpireArg>,
}

impl<'a> SetOptions<'a> {
    /// Parses the words from `first` on. Whether an expiry time makes sense is left for later, as Redis does.
    fn parse(args: &Args<'a>, first: usize, of: OptionsOf) -> Result<SetOptions<'a>> {
        let mut options =
            SetOptions { condition: Condition::Always, get: false, keep_ttl: false, persist: false, expire: None };
        let sets = of != OptionsOf::Getex;
        let mut at = first;
        while at < args.len() {
            let always = matches!(options.condition, Condition::Always);
            let has_ttl = options.keep_ttl || options.persist || options.expire.is_some();
            let argument = args.get(at + 1);
            if sets && args.is(at, "NX") && (always || matches!(options.condition, Condition::Absent)) {
                options.condition = Condition::Absent;
            } else if sets && args.is(at, "XX") && (always || matches!(options.condition, Condition::Present)) {
                options.condition = Condition::Present;
            } else if of == OptionsOf::Set
                && always
                && let Some(comparison) = Comparison::parse(args, at)?
            {
                options.condition = Condition::If(comparison);
                at += 1;
            } else if of == OptionsOf::Set && args.is(at, "GET") {
                options.get = true;
            } else if sets && args.is(at, "KEEPTTL") && (!has_ttl || options.keep_ttl) {
                options.keep_ttl = true;
            } else if !sets && args.is(at, "PERSIST") && (!has_ttl || options.persist) {
                options.persist = true;
            } else if argument.is_some()
                && let Some(expire) = expire_arg(args, at)
                && (!has_ttl || options.expire.is_some_and(|before| before.same_unit(expire)))
            {
                options.expire = Some(expire);
                at += 1;
            } else {
                return Err(Error::Syntax);
            }
            at += 1;
        }
        Ok(options)
    }

    /// What becomes of the key's expiry time.
    fn ttl(&self, args: &Args, now_ms: i64, command: &str) -> Result<Ttl> {
        match self.expire {
            Some(expire) => Ok(Ttl::At(expire.positive(args, now_ms, command)?)),
            None if self.keep_ttl => Ok(Ttl::Keep),
            None => Ok(Ttl::Clear),
        }
    }
}

/// Sets a key, and tells of it.
#[inline]
fn set_with_events(txn: &mut Txn, key: Key, text: &[u8], ttl: Ttl) {
    txn.set_string(key, text, ttl);
    txn.event(EventClasses::STRING, "set", key.bytes);
    if let Ttl::At(_) = ttl {
        txn.event(EventClasses::GENERIC, "expire", key.bytes);
    }
}

fn set(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    if args.len() == 3 {
        set_with_events(txn, key, &args[2], Ttl::Clear);
        reply.ok();
        return Ok(());
    }
    set_with_options(txn, key, args, reply)
}

#[inline(never)]
fn set_with_options(txn: &mut Txn, key: Key, args: &Args, reply: &mut Reply) -> Result {
    let options = SetOptions::parse(args, 3, OptionsOf::Set)?;
    let ttl = options.ttl(args, txn.now(), "set")?;
    let holds = match options.condition {
        Condition::Always => true,
        Condition::Absent => !txn.exists(key),
        Condition::Present => txn.exists(key),
        Condition::If(comparison) => comparison.holds(txn, key)?,
    };
    if options.get {
        write_value(reply, txn.get(key))?;
    } else if holds {
        reply.ok();
    } else {
        reply.null();
    }
    if holds {
        set_with_events(txn, key, &args[2], ttl);
    }
    Ok(())
}

fn setnx(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    let absent = !txn.exists(key);
    if absent {
        set_with_events(txn, key, &args[2], Ttl::Clear);
    }
    reply.int(i64::from(absent));
    Ok(())
}

fn setex(txn: &mut Txn, args: &Args, reply: &mut Reply, seconds: bool) -> Result {
    let expire = ExpireArg { at: 2, seconds, relative: true };
    let at = expire.positive(args, txn.now(), if seconds { "setex" } else { "psetex" })?;
    set_with_events(txn, args.key(1), &args[3], Ttl::At(at));
    reply.ok();
    Ok(())
}

fn getset(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    write_value(reply, txn.get(key))?;
    set_with_events(txn, key, &args[2], Ttl::Clear);
    Ok(())
}

fn mget(view: &View, args: &Args, reply: &mut Reply) -> Result {
    reply.array(args.len() - 1);
    for index in 1..args.len() {
        let string = view.get(args.key(index)).filter(|entry| entry.kind() == Kind::String);
        write_value(reply, string)?;
    }
    Ok(())
}

/// Sets the keys and values that `pairs` holds in turn.
fn set_pairs(txn: &mut Txn, pairs: &[&[u8]], ttl: Ttl) {
    for pair in pairs.chunks_exact(2) {
        set_with_events(txn, Key::new(pair[0]), pair[1], ttl);
    }
}

fn mset(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    if args.len().is_multiple_of(2) {
        return Err(Error::Arity("mset".into()));
    }
    set_pairs(txn, args.from(1), Ttl::Clear);
    reply.ok();
    Ok(())
}

fn msetnx(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    if args.len().is_multiple_of(2) {
        return Err(Error::Arity("msetnx".into()));
    }
    let absent = (1..args.len()).step_by(2).all(|index| !txn.exists(args.key(index)));
    if absent {
        set_pairs(txn, args.from(1), Ttl::Clear);
    }
    reply.int(i64::from(absent));
    Ok(())
}

fn msetex(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let count = args.int(1).ok().and_then(|count| usize::try_from(count).ok());
    let count = count
        .filter(|&count| count != 0 && count <= i32::MAX as usize)
        .ok_or(Error::text("ERR invalid numkeys value or out of range"))?;
    let pairs = args.words().get(2..2 + 2 * count).ok_or(Error::Syntax)?;
    let options = SetOptions::parse(args, 2 + 2 * count, OptionsOf::Msetex)?;
    let ttl = options.ttl(args, txn.now(), "msetex")?;
    let mut keys = pairs.iter().step_by(2).map(|key| Key::new(key));
    let holds = match options.condition {
        Condition::Absent => keys.all(|key| !txn.exists(key)),
        Condition::Present => keys.all(|key| txn.exists(key)),
        Condition::Always | Condition::If(_) => true,
    };
    if holds {
        set_pairs(txn, pairs, ttl);
    }
    reply.int(i64::from(holds));
    Ok(())
}

// ---- numbers

fn increment(txn: &mut Txn, args: &Args, reply: &mut Reply, by: i64) -> Result {
    let key = args.key(1);
    if let Some(sum) = txn.add_to_int(key, by) {
        txn.event(EventClasses::STRING, "incrby", key.bytes);
        reply.int(sum);
        return Ok(());
    }
    let old = match txn.peek_string(key)? {
        None => 0,
        Some(Str::Int(number)) => number,
        // Digits that APPEND or SETRANGE put together.
        Some(Str::Bytes(text)) => number::parse_i64(text).ok_or(Error::NotInteger)?,
    };
    let sum = old.checked_add(by).ok_or(Error::Overflow)?;
    txn.set_int(key, sum, Ttl::Keep);
    txn.event(EventClasses::STRING, "incrby", key.bytes);
    reply.int(sum);
    Ok(())
}

fn decrby(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let by = args.int(2)?.checked_neg().ok_or(Error::text("ERR decrement would overflow"))?;
    increment(txn, args, reply, by)
}

fn incrbyfloat(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    let old = match txn.peek_string(key)? {
        None => LongDouble::parse(b"0"),
        Some(text) => text.with_bytes(LongDouble::parse),
    };
    let by = LongDouble::parse(&args[2]);
    let (Some(old), Some(by)) = (old, by) else { return Err(Error::NotFloat) };
    let sum = old.add(by);
    if sum.is_nan() || sum.is_infinite() {
        return Err(Error::text("ERR increment would produce NaN or Infinity"));
    }
    let text = sum.format();
    txn.set_string(key, text.as_bytes(), Ttl::Keep);
    txn.event(EventClasses::STRING, "incrbyfloat", key.bytes);
    reply.bulk(text.as_bytes());
    Ok(())
}

// ---- parts of strings

/// Fails if a string of `offset + added` bytes would be longer than allowed.
fn check_length(view: &View, offset: usize, added: usize) -> Result {
    let total = offset.checked_add(added).ok_or(Error::StringTooLong)?;
    if total > view.cx.env.string_bytes_max { Err(Error::StringTooLong) } else { Ok(()) }
}

fn append(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let (key, text) = (args.key(1), &args[2]);
    let length = match txn.peek_string(key)? {
        None => {
            txn.set_string(key, text, Ttl::Clear);
            text.len()
        }
        Some(old) => {
            check_length(txn, old.len(), text.len())?;
            txn.append(key, text)?
        }
    };
    txn.event(EventClasses::STRING, "append", key.bytes);
    reply.int(length as i64);
    Ok(())
}

fn setrange(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let (key, text) = (args.key(1), &args[3]);
    let offset = usize::try_from(args.int(2)?).map_err(|_| Error::text("ERR offset is out of range"))?;
    let old_length = txn.peek_string(key)?.map_or(0, |old| old.len());
    let length = if text.is_empty() {
        old_length
    } else {
        check_length(txn, offset, text.len())?;
        let length = txn.set_range(key, offset, text)?;
        txn.event(EventClasses::STRING, "setrange", key.bytes);
        length
    };
    reply.int(length as i64);
    Ok(())
}

fn getrange(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let (start, end) = (args.int(2)?, args.int(3)?);
    match view.string(args.key(1))? {
        Some(text) => text.with_bytes(|bytes| reply.bulk(part(bytes, start, end))),
        None => reply.bulk(b""),
    }
    Ok(())
}

/// The bytes from `start` to `end`, both counted in, negative ones from the end of the text.
fn part(bytes: &[u8], start: i64, end: i64) -> &[u8] {
    let length = bytes.len() as i64;
    if start < 0 && end < 0 && start > end {
        return b"";
    }
    let place = |index: i64| if index < 0 { (length + index).max(0) } else { index };
    let (start, end) = (place(start), place(end).min(length - 1));
    if start > end {
        return b"";
    }
    bytes.get(start as usize..=end as usize).unwrap_or_default()
}

fn strlen(view: &View, args: &Args, reply: &mut Reply) -> Result {
    reply.int(view.string(args.key(1))?.map_or(0, |text| text.len() as i64));
    Ok(())
}

// ---- reading and changing

fn getdel(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    write_value(reply, txn.get(key))?;
    txn.delete_with_event(key);
    Ok(())
}

fn getex(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    let options = SetOptions::parse(args, 2, OptionsOf::Getex)?;
    let Some(entry) = txn.get(key) else {
        reply.null();
        return Ok(());
    };
    if entry.kind() != Kind::String {
        return Err(Error::WrongType);
    }
    let at = match options.expire {
        Some(expire) => Some(expire.positive(args, txn.now(), "getex")?),
        None => None,
    };
    write_value(reply, Some(entry))?;
    match at {
        Some(at) => {
            super::expire::set_or_delete(txn, key, at);
        }
        None if options.persist => {
            super::expire::persist_key(txn, key);
        }
        None => {}
    }
    Ok(())
}

fn delifeq(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    let equal = txn.peek_string(key)?.is_some_and(|text| text.eq_bytes(&args[2]));
    if equal {
        txn.delete_with_event(key);
    }
    reply.int(i64::from(equal));
    Ok(())
}
