//! DUMP and RESTORE: single values as bytes that Redis and Valkey exchange.

use crate::args::Args;
use crate::command::{Command, Flags, Group, Keys, Reply, Run};
use crate::error::{Error, Result};
use kelda_log::rdb::payload::{self, PayloadError};
use kelda_log::rdb::{Format, Version, kind};
use kelda_store::txn::{EventClasses, Removal, Txn, View};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const RESTORE: Command = Command {
    name: "RESTORE",
    arity: -4,
    keys: &[Keys::at(1).overwrite()],
    flags: Flags::DENYOOM.and(Flags::DANGEROUS),
    syntax: "key ttl/integer serialized-value/string [REPLACE/3.0.0] [ABSTTL/5.0.0] [IDLETIME seconds/integer/5.0.0] [FREQ frequency/integer/5.0.0]",
    since: "2.6.0",
    summary: "Makes a key from what DUMP returned.",
    complexity: "O(N) in the number of elements; O(N log N) for a large sorted set",
    run: Run::Write(restore),
    ..Command::BASE
};

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "DUMP",
        arity: 2,
        keys: &[Keys::at(1).read()],
        since: "2.6.0",
        syntax: "key",
        summary: "Returns the value at a key in a form that RESTORE reads, here or on Redis or Valkey.",
        complexity: "O(N) in the number of elements",
        tips: &["nondeterministic_output"],
        run: Run::Read(dump),
        ..Command::BASE
    },
    RESTORE,
    Command {
        name: "RESTORE-ASKING",
        flags: RESTORE.flags.and(Flags::ASKING).and(Flags::INTERNAL),
        group: Group::Server,
        since: "3.0.0",
        categories: Some(&["keyspace"]),
        summary: "Does what RESTORE does, for the migration of keys in a cluster.",
        ..RESTORE
    },
];

fn dump(view: &View, args: &Args, reply: &mut Reply) -> Result {
    match view.get(args.key(1)) {
        Some(entry) => {
            let env = &view.cx.env;
            let format = Format { version: Version(env.rdb_version), compress: env.rdb_compression };
            reply.bulk(&payload::dump(entry.value(), &format));
        }
        None => reply.null(),
    }
    Ok(())
}

/// Whether the checksums of payloads are not looked at: DEBUG SET-SKIP-CHECKSUM-VALIDATION, for tests with damaged payloads. A
/// switch of the process rather than of an engine, since a command that writes sees only keys.
pub(super) static TRUSTED: AtomicBool = AtomicBool::new(false);

/// The options of RESTORE.
#[derive(Default)]
struct Options {
    replace: bool,
    absolute: bool,
    idle_seconds: Option<i64>,
    frequency: Option<u8>,
}

fn options(args: &Args) -> Result<Options> {
    let mut options = Options::default();
    let mut at = 4;
    while at < args.len() {
        let has_word = at + 1 < args.len();
        if args.is(at, "REPLACE") {
            options.replace = true;
        } else if args.is(at, "ABSTTL") {
            options.absolute = true;
        } else if args.is(at, "IDLETIME") && has_word && options.frequency.is_none() {
            at += 1;
            let seconds = args.int(at)?;
            if seconds < 0 {
                return Err(Error::text("ERR Invalid IDLETIME value, must be >= 0"));
            }
            options.idle_seconds = Some(seconds);
        } else if args.is(at, "FREQ") && has_word && options.idle_seconds.is_none() {
            at += 1;
            let frequency = u8::try_from(args.int(at)?);
            let frequency = frequency.map_err(|_| Error::text("ERR Invalid FREQ value, must be >= 0 and <= 255"))?;
            options.frequency = Some(frequency);
        } else {
            return Err(Error::Syntax);
        }
        at += 1;
    }
    Ok(options)
}

/// What Redis calls the form in which a payload's value is written.
fn form(payload: &[u8]) -> &'static str {
    match payload.first() {
        Some(&kind::HASH_ZIPMAP) => "Zipmap",
        Some(&kind::LIST_ZIPLIST) => "List ziplist",
        Some(&kind::ZSET_ZIPLIST) => "Zset ziplist",
        Some(&kind::HASH_ZIPLIST) => "Hash ziplist",
        Some(&(kind::LIST_QUICKLIST | kind::LIST_QUICKLIST_2)) => "Quicklist",
        Some(&(kind::STREAM_LISTPACKS | kind::STREAM_LISTPACKS_2 | kind::STREAM_LISTPACKS_3)) => "Stream listpack",
        _ => "Value",
    }
}

fn restore(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    let options = options(args)?;
    if !options.replace && txn.exists(key) {
        return Err(Error::text("BUSYKEY Target key name already exists."));
    }
    let ttl_ms = args.int(2)?;
    if ttl_ms < 0 {
        return Err(Error::text("ERR Invalid TTL value, must be >= 0"));
    }
    let value = payload::restore(&args[3], &txn.cx.env.limits, TRUSTED.load(Relaxed)).map_err(|why| match why {
        PayloadError::Footer => Error::text("ERR DUMP payload version or checksum are wrong"),
        PayloadError::Value(why) => Error::BadData(format!("{} integrity check failed: {why}", form(&args[3]))),
    })?;
    let expire_at = match ttl_ms {
        0 => None,
        at if options.absolute => Some(at),
        ttl => Some(txn.now().saturating_add(ttl)),
    };
    if expire_at.is_some_and(|at| at < txn.now()) && !txn.cx.env.keep_due {
        txn.delete_with_event_as(key, Removal::Implied);
    } else {
        txn.put(key, value, expire_at);
        let clock = txn.cx.access_clock(txn.now());
        let access = match (options.idle_seconds, options.frequency) {
            (Some(seconds), _) if !clock.lfu => Some(clock.idle_for(u32::try_from(seconds).unwrap_or(u32::MAX))),
            (_, Some(frequency)) if clock.lfu => Some(clock.with_frequency(frequency)),
            _ => None,
        };
        if let Some((entry, access)) = txn.peek(key).zip(access) {
            entry.set_access(access);
        }
        txn.event(EventClasses::GENERIC, "restore", key.bytes);
    }
    reply.ok();
    Ok(())
}
