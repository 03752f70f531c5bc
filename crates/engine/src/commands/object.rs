//! OBJECT and MEMORY: what a key is made of, and where the memory goes. Looking at a key here does not count as using it.

use crate::args::Args;
use crate::command::{Command, Flags, Group, Keys, Reply, Run};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use kelda_store::entry::EntryRef;
use kelda_store::shard::ShardSet;
use kelda_store::txn::View;
use kelda_store::value::ValueRef;
use std::sync::atomic::Ordering::Relaxed;

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "OBJECT",
        arity: -2,
        categories: Some(&[]),
        since: "2.2.3",
        summary: "Commands that look into the value of a key.",
        complexity: "Depends on the subcommand",
        run: Run::Group(OBJECT),
        ..Command::BASE
    },
    Command {
        name: "MEMORY",
        arity: -2,
        group: Group::Server,
        since: "4.0.0",
        summary: "Commands that tell where memory goes.",
        complexity: "Depends on the subcommand",
        run: Run::Group(MEMORY),
        ..Command::BASE
    },
];

const ABOUT_KEY: Command =
    Command { arity: 3, keys: &[Keys::at(2).look()], since: "2.2.3", syntax: "key", ..Command::BASE };

static OBJECT: &[Command] = &[
    Command {
        name: "ENCODING",
        summary: "Tells how the value of a key is kept in memory.",
        tips: &["nondeterministic_output"],
        run: Run::Read(encoding),
        ..ABOUT_KEY
    },
    Command {
        name: "FREQ",
        since: "4.0.0",
        summary: "Returns the logarithmic counter of how often a key was used.",
        tips: &["nondeterministic_output"],
        run: Run::Read(freq),
        ..ABOUT_KEY
    },
    Command {
        name: "IDLETIME",
        summary: "Returns the time since a key was last used, in seconds.",
        tips: &["nondeterministic_output"],
        run: Run::Read(idletime),
        ..ABOUT_KEY
    },
    Command {
        name: "REFCOUNT",
        summary: "Returns the number of references to the value of a key.",
        tips: &["nondeterministic_output"],
        run: Run::Read(refcount),
        ..ABOUT_KEY
    },
    Command {
        name: "HELP",
        arity: 2,
        flags: Flags::LOADING.and(Flags::STALE),
        since: "6.2.0",
        summary: "Lists the subcommands.",
        run: Run::Session(|_, _, reply| {
            super::help(reply, "OBJECT", OBJECT_HELP);
            Ok(())
        }),
        ..Command::BASE
    },
];

const OBJECT_HELP: &[(&str, &str)] = &[
    ("ENCODING <key>", "How the value is kept in memory."),
    ("FREQ <key>", "How often the key was used, on a logarithmic scale (LFU policies only)."),
    ("IDLETIME <key>", "Seconds since the key was last used (not with LFU policies)."),
    ("REFCOUNT <key>", "How many references to the value there are: always 1."),
];

const MEMORY_BASE: Command = Command { arity: 2, group: Group::Server, since: "4.0.0", ..Command::BASE };
const FIGURES: &[&str] = &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];

static MEMORY: &[Command] = &[
    Command {
        name: "USAGE",
        arity: -3,
        keys: &[Keys::at(2).look()],
        syntax: "key [SAMPLES count]",
        summary: "Returns the memory that a key and its value take, in bytes.",
        complexity: "O(1) for a string; O(N) in the number of blocks of a collection",
        run: Run::Read(usage),
        ..MEMORY_BASE
    },
    Command {
        name: "DOCTOR",
        summary: "Tells about problems with memory.",
        tips: FIGURES,
        run: Run::Session(doctor),
        ..MEMORY_BASE
    },
    Command {
        name: "STATS",
        whole_keyspace: true,
        summary: "Returns figures about the memory in use.",
        complexity: "O(1) in the number of keys",
        tips: FIGURES,
        run: Run::Session(stats),
        ..MEMORY_BASE
    },
    Command {
        name: "MALLOC-STATS",
        flags: Flags::LOADING,
        summary: "Returns the allocator's figures.",
        tips: FIGURES,
        run: Run::Session(malloc_stats),
        ..MEMORY_BASE
    },
    Command {
        name: "PURGE",
        flags: Flags::LOADING,
        summary: "Accepted for compatibility: the allocator gives unused memory back by itself.",
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        run: Run::Session(|_, _, reply| {
            reply.ok();
            Ok(())
        }),
        ..MEMORY_BASE
    },
    Command {
        name: "HELP",
        flags: Flags::LOADING.and(Flags::STALE),
        summary: "Lists the subcommands.",
        run: Run::Session(|_, _, reply| {
            super::help(reply, "MEMORY", MEMORY_HELP);
            Ok(())
        }),
        ..MEMORY_BASE
    },
];

const MEMORY_HELP: &[(&str, &str)] = &[
    ("DOCTOR", "Problems with memory."),
    ("MALLOC-STATS", "The allocator's figures."),
    ("PURGE", "Accepted for compatibility."),
    ("STATS", "Figures about the memory in use."),
    ("USAGE <key> [SAMPLES <count>]", "Bytes that the key and its value take; SAMPLES makes no difference."),
];

// ---- OBJECT

/// Replies what `show` says of the key, or null if it is not there.
fn about(view: &View, args: &Args, reply: &mut Reply, show: impl FnOnce(EntryRef, &mut Reply) -> Result) -> Result {
    match view.look(args.key(2)) {
        Some(entry) => show(entry, reply)?,
        None => reply.null(),
    }
    Ok(())
}

fn encoding(view: &View, args: &Args, reply: &mut Reply) -> Result {
    about(view, args, reply, |entry, reply| {
        let name = match entry.value() {
            ValueRef::String(_) => entry.string_encoding(),
            ValueRef::List(list) => list.encoding(),
            ValueRef::Set(set) => set.encoding(),
            ValueRef::ZSet(zset) => zset.encoding(),
            ValueRef::Hash(hash) => hash.encoding(),
            ValueRef::Stream(_) => "stream",
        };
        reply.bulk(name.as_bytes());
        Ok(())
    })
}

fn freq(view: &View, args: &Args, reply: &mut Reply) -> Result {
    about(view, args, reply, |entry, reply| {
        let clock = view.cx.access_clock(view.now());
        if !clock.lfu {
            return Err(Error::text(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        reply.int(i64::from(clock.frequency(entry.access())));
        Ok(())
    })
}

fn idletime(view: &View, args: &Args, reply: &mut Reply) -> Result {
    about(view, args, reply, |entry, reply| {
        let clock = view.cx.access_clock(view.now());
        if clock.lfu {
            return Err(Error::text(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        reply.int(i64::from(clock.idle_seconds(entry.access())));
        Ok(())
    })
}

fn refcount(view: &View, args: &Args, reply: &mut Reply) -> Result {
    about(view, args, reply, |_, reply| {
        // A value belongs to one key and is never shared.
        reply.int(1);
        Ok(())
    })
}

// ---- MEMORY

fn usage(view: &View, args: &Args, reply: &mut Reply) -> Result {
    // Collections know their size: there is nothing to sample, but the number is checked.
    for at in (3..args.len()).step_by(2) {
        if !args.is(at, "SAMPLES") || at + 1 == args.len() || args.int(at + 1)? < 0 {
            return Err(Error::Syntax);
        }
    }
    about(view, args, reply, |entry, reply| {
        reply.int((entry.allocated_bytes() + entry.value().collection_bytes()) as i64);
        Ok(())
    })
}

/// Bytes in use, and resident bytes where the platform knows them.
fn totals(ctx: &Ctx) -> (usize, Option<usize>) {
    let platform = &ctx.worker.engine.platform;
    (platform.used_memory(), Some(platform.resident_memory()).filter(|&bytes| bytes != 0))
}

fn doctor(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    /// Below this, memory tells more about the program than about the data.
    const SMALL_BYTES: usize = 5 << 20;
    /// Resident bytes for each byte in use that are worth a remark.
    const FRAGMENTED: f64 = 1.4;
    let (used, resident) = totals(ctx);
    let ratio = resident.map_or(1.0, |resident| resident as f64 / used.max(1) as f64);
    let text = if used < SMALL_BYTES {
        "There is hardly any data here yet, so there is nothing to say about its memory.\n".to_string()
    } else if ratio > FRAGMENTED {
        format!(
            "High fragmentation: the process holds {ratio:.2} times the memory that is in use. That is usual after many keys were deleted; the memory is used again as data grows.\n"
        )
    } else {
        "No problem with memory was found.\n".to_string()
    };
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn malloc_stats(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    let (used, resident) = totals(ctx);
    let mut text = format!("allocated: {used}\n");
    if let Some(resident) = resident {
        text.push_str(&format!("resident: {resident}\n"));
    }
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// What MEMORY STATS tells of one database.
struct DbStats {
    db: u32,
    keys: usize,
    table_bytes: usize,
}

fn stats(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    let (used, resident) = totals(ctx);
    let (dbs, expiry_bytes) = ctx.with_shards(ShardSet::All, |txn| {
        let here = txn.db();
        let mut dbs = Vec::new();
        for db in 0..txn.databases() {
            txn.select(db);
            let keys = txn.key_count();
            if keys != 0 {
                dbs.push(DbStats { db, keys, table_bytes: txn.table_bytes() });
            }
        }
        txn.select(here);
        (dbs, txn.expiry_index_bytes())
    })?;
    let keys: usize = dbs.iter().map(|db| db.keys).sum();
    let engine = ctx.engine();
    let tables = dbs.iter().map(|db| db.table_bytes).sum::<usize>();
    let clients: usize = engine.clients.all().iter().map(|info| info.memory()).sum();
    let (_, scripts) = engine.scripts.size();
    let log = engine.log.sink().map_or(0, |sink| sink.figures().buffered_bytes as usize);
    let start = engine.memory_at_start.load(Relaxed).min(used);
    let overhead = start + expiry_bytes + tables + scripts + log;
    let dataset = used.saturating_sub(overhead);
    let peak = engine.note_memory();
    let map = reply.defer();
    let mut fields = 0;
    let mut int = |reply: &mut Reply, name: &str, value: usize| {
        reply.bulk(name.as_bytes());
        reply.int(value as i64);
        fields += 1;
    };
    int(reply, "peak.allocated", peak);
    int(reply, "total.allocated", used);
    int(reply, "startup.allocated", start);
    int(reply, "replication.backlog", 0);
    int(reply, "clients.slaves", 0);
    int(reply, "clients.normal", clients);
    int(reply, "cluster.links", 0);
    int(reply, "aof.buffer", log);
    int(reply, "lua.caches", scripts);
    int(reply, "functions.caches", engine.functions.current().bytes());
    for db in &dbs {
        reply.bulk(format!("db.{}", db.db).as_bytes());
        reply.map(1);
        reply.bulk(b"overhead.hashtable.main");
        reply.int(db.table_bytes as i64);
    }
    int(reply, "overhead.db.hashtable.lut", tables);
    int(reply, "overhead.db.hashtable.rehashing", 0);
    int(reply, "overhead.expiry.index", expiry_bytes);
    int(reply, "overhead.total", overhead);
    int(reply, "db.dict.rehashing.count", 0);
    int(reply, "keys.count", keys);
    int(reply, "keys.bytes-per-key", dataset.checked_div(keys).unwrap_or(0));
    int(reply, "dataset.bytes", dataset);
    int(reply, "allocator.allocated", used);
    let mut doubles =
        vec![("dataset.percentage", percent(dataset, used - start)), ("peak.percentage", percent(used, peak))];
    if let Some(resident) = resident {
        int(reply, "allocator.resident", resident);
        int(reply, "fragmentation.bytes", resident.saturating_sub(used));
        doubles.push(("fragmentation", percent(resident, used) / 100.0));
    }
    for (name, value) in &doubles {
        reply.bulk(name.as_bytes());
        reply.double(*value);
    }
    reply.end_map(map, fields + dbs.len() + doubles.len());
    Ok(())
}

fn percent(part: usize, whole: usize) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}
