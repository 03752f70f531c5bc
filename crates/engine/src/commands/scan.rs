//! SCAN, KEYS, RANDOMKEY, DBSIZE, and the cursor and options that SCAN shares with HSCAN, SSCAN and ZSCAN.
//!
//! A SCAN holds one shard at a time. Its cursor is a place in the keyspace: the shard's number above the 32 bits of a
//! cursor in the shard's table, so that every key that is there throughout is returned whatever happens in between.

use crate::args::Args;
use crate::command::{Command, Flags, Group, Reply, Run};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use kelda_resp::glob_match;
use kelda_store::entry::EntryRef;
use kelda_store::shard::{SHARDS, ShardSet};
use kelda_store::txn::View;
use kelda_store::value::Kind;

/// Buckets that a SCAN looks at, at most, for each key of its COUNT.
const BUCKETS_PER_COUNT: usize = 10;

const BASE: Command = Command { whole_keyspace: true, ..Command::BASE };

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "SCAN",
        arity: -2,
        flags: Flags::READONLY,
        since: "2.8.0",
        syntax: "cursor [MATCH pattern] [COUNT count] [TYPE type]",
        summary: "Goes through the keys of the database, some at each call.",
        complexity: "O(1) for each call; O(N) for all calls until the cursor is 0 again",
        tips: &["nondeterministic_output", "request_policy:special", "response_policy:special"],
        run: Run::Session(scan),
        ..BASE
    },
    Command {
        name: "KEYS",
        arity: 2,
        flags: Flags::READONLY.and(Flags::DANGEROUS),
        syntax: "pattern",
        summary: "Returns all keys that match a pattern.",
        complexity: "O(N) in the number of keys of the database; O(1) for a pattern without special characters",
        tips: &["request_policy:all_shards", "nondeterministic_output_order"],
        run: Run::Session(keys),
        ..BASE
    },
    Command {
        name: "RANDOMKEY",
        arity: 1,
        summary: "Returns a key of the database, picked at random.",
        tips: &["request_policy:all_shards", "response_policy:special", "nondeterministic_output"],
        run: Run::Read(randomkey),
        ..BASE
    },
    Command {
        name: "DBSIZE",
        arity: 1,
        flags: Flags::FAST,
        group: Group::Server,
        categories: Some(&["keyspace"]),
        summary: "Counts the keys of the database.",
        tips: &["request_policy:all_shards", "response_policy:agg_sum"],
        run: Run::Read(dbsize),
        ..BASE
    },
];

/// A place in the keyspace where a SCAN goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    shard: usize,
    cursor: u64,
}

impl Place {
    /// Cursors of a shard's table are below 2^32.
    const TABLE_BITS: u32 = 32;

    fn of_cursor(cursor: u64) -> Place {
        Place { shard: (cursor >> Place::TABLE_BITS) as usize, cursor: cursor & u64::from(u32::MAX) }
    }

    /// 0 at the end, which is also the beginning.
    fn to_cursor(self) -> u64 {
        if self.shard >= SHARDS { 0 } else { (self.shard as u64) << Place::TABLE_BITS | self.cursor }
    }
}

/// The options of SCAN, HSCAN, SSCAN and ZSCAN.
pub(super) struct ScanOptions<'a> {
    /// COUNT: about how many elements to look at.
    pub count: usize,
    /// MATCH, unless it is `*`.
    pub pattern: Option<&'a [u8]>,
    /// TYPE: only keys of this type.
    pub kind: Option<Kind>,
    /// NOVALUES of HSCAN.
    pub no_values: bool,
    /// NOSCORES of ZSCAN.
    pub no_scores: bool,
}

/// Which command of the SCAN family asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ScanOf {
    Keys,
    Hash,
    Set,
    ZSet,
}

impl ScanOptions<'_> {
    /// Whether MATCH lets this key, field or member through.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob_match(pattern, text, false))
    }

    /// Whether SCAN returns this key.
    fn takes(&self, entry: EntryRef) -> bool {
        self.kind.is_none_or(|kind| kind == entry.kind()) && self.matches(entry.key())
    }
}

/// Parses the options from the word at `first` on. Redis looks at them only once the key was found and has the right type.
pub(super) fn parse_scan_options<'a>(args: &Args<'a>, first: usize, of: ScanOf) -> Result<ScanOptions<'a>> {
    let mut options = ScanOptions { count: 10, pattern: None, kind: None, no_values: false, no_scores: false };
    let mut at = first;
    while at < args.len() {
        let argument = args.get(at + 1);
        if args.is(at, "NOVALUES") {
            if of != ScanOf::Hash {
                return Err(Error::text("ERR NOVALUES option can only be used in HSCAN"));
            }
            options.no_values = true;
            at += 1;
            continue;
        }
        if args.is(at, "NOSCORES") {
            if of != ScanOf::ZSet {
                return Err(Error::text("ERR NOSCORES option can only be used in ZSCAN"));
            }
            options.no_scores = true;
            at += 1;
            continue;
        }
        let Some(argument) = argument else { return Err(Error::Syntax) };
        if args.is(at, "COUNT") {
            let count = args.int(at + 1)?;
            options.count = usize::try_from(count).ok().filter(|&count| count != 0).ok_or(Error::Syntax)?;
        } else if args.is(at, "MATCH") {
            options.pattern = (argument != b"*").then_some(argument);
        } else if args.is(at, "TYPE") && of == ScanOf::Keys {
            let unknown = || Error::owned(format!("ERR unknown type name '{}'", String::from_utf8_lossy(argument)));
            options.kind = Some(kind_of_name(argument).ok_or_else(unknown)?);
        } else {
            return Err(Error::Syntax);
        }
        at += 2;
    }
    Ok(options)
}

fn kind_of_name(name: &[u8]) -> Option<Kind> {
    [Kind::String, Kind::List, Kind::Set, Kind::ZSet, Kind::Hash, Kind::Stream]
        .into_iter()
        .find(|kind| name.eq_ignore_ascii_case(kind.name().as_bytes()))
}

/// Parses a cursor: any unsigned 64-bit number, leading zeros allowed.
pub(super) fn parse_cursor(text: &[u8]) -> Result<u64> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or(Error::text("ERR invalid cursor"))
}

fn scan(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let start = parse_cursor(&args[1])?;
    let options = parse_scan_options(args, 2, ScanOf::Keys)?;
    let mut place = Place::of_cursor(start);
    let mut found: Vec<Box<[u8]>> = Vec::new();
    // Buckets may be empty: a bound on them as well keeps a call short.
    let mut seen = 0;
    let mut buckets_left = options.count.saturating_mul(BUCKETS_PER_COUNT);
    while place.shard < SHARDS && seen < options.count && buckets_left != 0 {
        let step = ctx.with_shards(ShardSet::One(place.shard as u16), |txn| {
            while seen < options.count && buckets_left != 0 {
                let wanted = |entry: EntryRef| {
                    seen += 1;
                    options.takes(entry)
                };
                place.cursor =
                    txn.scan_shard(place.shard, place.cursor, wanted, |entry| found.push(entry.key().into()));
                if place.cursor == 0 {
                    place.shard += 1;
                    break;
                }
                buckets_left -= 1;
            }
        });
        match step {
            Ok(()) => {}
            // A busy shard ends the step; where nothing is done yet, the whole command is tried again later.
            Err(Error::Again) if place != Place::of_cursor(start) => break,
            Err(error) => return Err(error),
        }
    }
    reply.array(2);
    let cursor = place.to_cursor().to_string();
    reply.bulk(cursor.as_bytes());
    reply.array(found.len());
    found.iter().for_each(|key| reply.bulk(key));
    Ok(())
}

fn keys(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let pattern = &args[1];
    if !pattern.iter().any(|byte| b"*?[\\".contains(byte)) {
        let key = args.key(1);
        let there = ctx.with_keys(&[key], |txn| txn.exists(key))?;
        reply.array(usize::from(there));
        if there {
            reply.bulk(pattern);
        }
        return Ok(());
    }
    ctx.with_shards(ShardSet::All, |txn| {
        let list = reply.defer();
        let mut count = 0;
        let all = pattern == b"*";
        txn.for_each_key(|entry| {
            if all || glob_match(pattern, entry.key(), false) {
                count += 1;
                reply.bulk(entry.key());
            }
        });
        reply.end_array(list, count);
    })
}

fn randomkey(view: &View, _: &Args, reply: &mut Reply) -> Result {
    match view.random_key() {
        Some(key) => reply.bulk(&key),
        None => reply.null(),
    }
    Ok(())
}

fn dbsize(view: &View, _: &Args, reply: &mut Reply) -> Result {
    reply.int(view.key_count() as i64);
    Ok(())
}
