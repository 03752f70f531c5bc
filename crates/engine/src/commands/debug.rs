//! DEBUG: what tests need to see or force.

use crate::args::Args;
use crate::command::{Command, Flags, Group, Reply, Run};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::functions::Libraries;
use crate::mailbox::Message;
use crate::rdb;
use kelda_resp::{Protocol, number};
use kelda_store::entry::EntryRef;
use kelda_store::shard::ShardSet;
use kelda_store::txn::{Key, Ttl, Txn, View};
use kelda_store::value::ValueRef;
use std::sync::atomic::Ordering::Relaxed;

/// The family. The subcommands are none of their own in COMMAND, as in Redis.
pub static COMMANDS: &[Command] = &[Command {
    name: "DEBUG",
    arity: -2,
    // DIGEST looks at every key.
    whole_keyspace: true,
    flags: Flags::ADMIN
        .and(Flags::NOSCRIPT)
        .and(Flags::LOADING)
        .and(Flags::STALE)
        .and(Flags::INTERNAL)
        .and(Flags::PROTECTED),
    group: Group::Server,
    syntax: "subcommand [arg [arg ...]]",
    summary: "Shows or forces what tests need.",
    complexity: "That of the subcommand",
    run: Run::Session(debug),
    ..Command::BASE
}];

type RunFn = fn(&mut Ctx, &Args, &mut Reply) -> Result;

/// A subcommand: its name, how many words it takes at least and at most, and what runs.
const SUBCOMMANDS: &[(&str, usize, usize, RunFn)] = &[
    ("SLEEP", 3, 3, sleep),
    ("OBJECT", 3, 4, object),
    ("DIGEST", 2, 2, digest_all),
    ("DIGEST-VALUE", 2, usize::MAX, digest_values),
    ("PROTOCOL", 3, 3, protocol),
    ("POPULATE", 3, 5, populate),
    ("HTSTATS", 3, 4, table_stats),
    ("LISTPACK", 3, 3, listpack),
    ("CONFIG-REWRITE-FORCE-ALL", 2, 2, |ctx, _, reply| super::server::rewrite_config(ctx, true, reply)),
    ("CHANGE-REPL-ID", 2, 2, |ctx, _, reply| {
        ctx.worker.engine.replication.change_id();
        reply.ok();
        Ok(())
    }),
    ("REPLICATE", 3, usize::MAX, |ctx, args, reply| {
        let engine = ctx.engine();
        if engine.replication.is_on() {
            engine.replication.tell(&engine, None, args.from(2));
        }
        reply.ok();
        Ok(())
    }),
    ("RELOAD", 2, 5, reload),
    ("LOADAOF", 2, 2, load_log),
    ("SET-ACTIVE-EXPIRE", 3, 3, set_active_expire),
    ("SET-DISABLE-DENY-SCRIPTS", 3, 3, set_disable_deny_scripts),
    ("SET-SKIP-CHECKSUM-VALIDATION", 3, 3, |_, args, reply| {
        super::dump::TRUSTED.store(args.int(2).unwrap_or(0) != 0, Relaxed);
        reply.ok();
        Ok(())
    }),
    ("LOG", 3, 3, |ctx, args, reply| {
        ctx.worker.engine.platform.log(3, &format!("DEBUG LOG: {}", String::from_utf8_lossy(&args[2])));
        reply.ok();
        Ok(())
    }),
    ("SEGFAULT", 2, 2, |ctx, _, reply| {
        ctx.worker.engine.platform.crash();
        reply.ok();
        Ok(())
    }),
    ("ERROR", 3, 3, |_, args, reply| {
        reply.error_bytes(&args[2]);
        Ok(())
    }),
    ("QUICKLIST-PACKED-THRESHOLD", 3, 3, |_, args, reply| {
        let size = crate::config::memory(&String::from_utf8_lossy(&args[2]));
        size.ok_or(Error::text("ERR argument must be a memory value bigger than 1 and smaller than 4gb"))?;
        reply.ok();
        Ok(())
    }),
    // Switches of mechanisms that this server does not have: accepted, and nothing is left to do.
    ("JMAP", 2, 2, accept),
    ("REPLYBUFFER", 4, 4, accept),
    ("PAUSE-CRON", 3, 3, accept),
    ("PAUSE-AFTER-FORK", 3, 3, accept),
    ("DICT-RESIZING", 3, 3, accept),
    ("HASHTABLE-CAN-ABORT-SHRINK", 3, 3, accept),
    ("CLIENT-ENFORCE-REPLY-LIST", 3, 3, accept),
    ("AOF-FLUSH-SLEEP", 3, 3, accept),
    ("DELAY-RDB-CLIENT-FREE-SECOND", 3, 3, accept),
    ("HELP", 2, 2, help),
];

fn debug(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let found =
        SUBCOMMANDS.iter().find(|(name, least, most, _)| args.is(1, name) && (*least..=*most).contains(&args.len()));
    match found {
        Some((_, _, _, run)) => run(ctx, args, reply),
        None => {
            let shown = String::from_utf8_lossy(&args[1]).chars().take(128).collect::<String>();
            Err(Error::owned(format!(
                "ERR unknown subcommand or wrong number of arguments for '{shown}'. Try DEBUG HELP."
            )))
        }
    }
}

fn accept(_: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    reply.ok();
    Ok(())
}

/// Has the whole server stand still: what it is for is to see what others do then.
fn sleep(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    // As strtod reads it: what is no number is 0.
    let seconds = number::parse_f64(&args[2]).unwrap_or(0.0).clamp(0.0, 1e9);
    let us = (seconds * 1e6) as u64;
    let engine = ctx.engine();
    let this = ctx.worker.index;
    (0..engine.worker_count()).filter(|index| *index != this).for_each(|index| {
        engine.post(this, index, Message::StandStill { us, now: false });
    });
    engine.platform.stand_still(us);
    reply.ok();
    Ok(())
}

fn set_active_expire(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    ctx.worker.engine.active_expire.store(args.int(2).unwrap_or(0) != 0, Relaxed);
    reply.ok();
    Ok(())
}

fn set_disable_deny_scripts(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    ctx.worker.engine.scripts_call_all.store(args.int(2).unwrap_or(0) != 0, Relaxed);
    reply.ok();
    Ok(())
}

/// Saves and loads everything again: keys, functions.
fn reload(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let (mut merge, mut flush, mut save) = (false, true, true);
    for word in args.from(2) {
        match word.to_ascii_uppercase().as_slice() {
            b"MERGE" => merge = true,
            b"NOFLUSH" => flush = false,
            b"NOSAVE" => save = false,
            _ => return Err(Error::text("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")),
        }
    }
    let engine = ctx.engine();
    let failed = |what: &str| {
        engine.platform.log(3, &format!("DEBUG RELOAD: {what}"));
        Error::text("ERR Error trying to load the RDB dump, check server logs.")
    };
    ctx.with_shards(ShardSet::All, |txn| {
        txn.will_take_long();
        if save {
            rdb::save(&engine, txn).map_err(|error| {
                engine.platform.log(3, &format!("Error saving DB on disk: {error}"));
                Error::text("ERR")
            })?;
        }
        // Nothing changes unless the whole file can be read.
        let file = rdb::read_all(&engine).map_err(|error| failed(&error.to_string()))?;
        let here = txn.db();
        let mut taken = |db: u32, name: &[u8]| {
            txn.select(db);
            txn.exists(Key::new(name))
        };
        if !flush
            && !merge
            && let Some((db, entry)) = file.keys.iter().find(|(db, entry)| taken(*db, entry.as_ref().key()))
        {
            txn.select(here);
            let name = entry.as_ref().key().escape_ascii();
            return Err(failed(&format!("key '{name}' of database {db} is there already")));
        }
        if flush {
            (0..txn.databases()).for_each(|db| _ = txn.flush(db));
            engine.functions.change(|libraries| {
                *libraries = Libraries::default();
                Ok(())
            })?;
        }
        for (db, entry) in file.keys {
            txn.select(db);
            let name = entry.as_ref().key().to_vec();
            let (expire_at, access) = (entry.as_ref().expire_at(), entry.as_ref().access());
            let key = Key::new(&name);
            txn.put(key, entry.into_value(), expire_at);
            if let Some(entry) = txn.peek_even_due(key) {
                entry.set_access(access);
            }
        }
        txn.select(here);
        rdb::load_functions(&engine, &file.functions, merge).map_err(|error| failed(&error))
    })??;
    engine.platform.log(3, "DB reloaded by DEBUG RELOAD");
    reply.ok();
    Ok(())
}

fn load_log(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    let engine = ctx.engine();
    if ctx.txn.is_some() {
        return Err(Error::text("ERR DEBUG LOADAOF does not run inside of a transaction"));
    }
    let sink = engine.log.sink().ok_or(Error::text("ERR there is no log"))?;
    sink.reload()
        .map_err(|why| Error::owned(format!("ERR Error trying to load the AOF files, check server logs: {why}")))?;
    engine.platform.log(3, "Append Only File loaded by DEBUG LOADAOF");
    reply.ok();
    Ok(())
}

fn encoding(entry: EntryRef) -> &'static str {
    match entry.value() {
        ValueRef::String(_) => entry.string_encoding(),
        ValueRef::List(list) => list.encoding(),
        ValueRef::Set(set) => set.encoding(),
        ValueRef::ZSet(zset) => zset.encoding(),
        ValueRef::Hash(hash) => hash.encoding(),
        ValueRef::Stream(_) => "stream",
    }
}

fn object(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(2);
    // The setting is kept for programs that ask; nothing is compressed.
    let depth = ctx.worker.engine.config.get(&["list-compress-depth"]);
    let compressed = u8::from(depth.first().is_some_and(|(_, depth)| depth != "0"));
    let line = ctx.with_keys(&[key], |txn| {
        let entry = txn.peek_even_due(key)?;
        let mut bytes = 0;
        each_part(entry, &mut |part| bytes += part.len());
        let idle = txn.cx.access_clock(txn.now()).idle_seconds(entry.access());
        let mut line = format!(
            "Value at:{:p} refcount:1 encoding:{} serializedlength:{bytes} lru:{} lru_seconds_idle:{idle}",
            entry.key().as_ptr(),
            encoding(entry),
            entry.access(),
        );
        if let ValueRef::List(list) = entry.value()
            && list.encoding() == "quicklist"
        {
            let nodes = list.chunk_count();
            line += &format!(
                " ql_nodes:{nodes} ql_avg_node:{:.2} ql_listpack_max:{} ql_compressed:{compressed} \
                 ql_uncompressed_size:{bytes}",
                list.len() as f64 / nodes.max(1) as f64,
                txn.cx.env.limits.list_chunk,
            );
        }
        Some(line)
    })?;
    reply.status(&line.ok_or(Error::NoSuchKey)?);
    Ok(())
}

fn listpack(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(2);
    let found = ctx.with_keys(&[key], |txn| txn.peek(key).map(encoding))?;
    match found {
        None => Err(Error::NoSuchKey),
        Some("listpack") => {
            reply.ok();
            Ok(())
        }
        Some(_) => Err(Error::text("ERR Not a listpack encoded object.")),
    }
}

/// Calls `f` with every part of a value, as bytes: elements, members with scores, fields and values.
fn each_part(entry: EntryRef, f: &mut dyn FnMut(&[u8])) {
    match entry.value() {
        ValueRef::String(text) => f(&text.to_vec()),
        ValueRef::List(list) => list.iter().for_each(|item| f(&item.to_vec())),
        ValueRef::Set(set) => set.iter().for_each(|member| f(&member.to_vec())),
        ValueRef::ZSet(zset) => zset.iter().for_each(|(member, score)| {
            let mut part = member.to_vec();
            part.extend_from_slice(&score.to_bits().to_be_bytes());
            f(&part);
        }),
        ValueRef::Hash(hash) => hash.iter_with_expiry().for_each(|(field, value, at)| {
            let field = field.to_vec();
            let mut part = (field.len() as u64).to_be_bytes().to_vec();
            part.extend(field);
            part.extend(value.to_vec());
            part.extend(at.map_or(Vec::new(), |at| at.to_be_bytes().to_vec()));
            f(&part);
        }),
        ValueRef::Stream(stream) => {
            for command in stream.rebuild_commands(b"") {
                f(&command
                    .iter()
                    .flat_map(|word| [&(word.len() as u64).to_be_bytes()[..], word].concat())
                    .collect::<Vec<_>>());
            }
        }
    }
}

type Digest = [u8; 20];

fn mix(into: &mut Digest, other: &Digest) {
    into.iter_mut().zip(other).for_each(|(byte, other)| *byte ^= other);
}

fn sha1(parts: &[&[u8]]) -> Digest {
    let mut sha = sha1_smol::Sha1::new();
    parts.iter().for_each(|part| sha.update(part));
    sha.digest().bytes()
}

/// The digest of a value and its expiry time. Sets, hashes and sorted sets: in whatever order they are kept.
fn digest_value(entry: EntryRef) -> Digest {
    let mut digest = Digest::default();
    let mut place = 0u64;
    let ordered = matches!(entry.value(), ValueRef::String(_) | ValueRef::List(_) | ValueRef::Stream(_));
    each_part(entry, &mut |part| {
        mix(&mut digest, &sha1(&[&place.to_be_bytes(), part]));
        place += u64::from(ordered);
    });
    let expiry = entry.expire_at().map_or(Vec::new(), |at| at.to_be_bytes().to_vec());
    sha1(&[entry.kind().name().as_bytes(), &digest, &expiry])
}

fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One figure for all keys of all databases, the same whatever the order of keys and of what is in them.
fn digest_all(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    let digest = ctx.with_shards(ShardSet::All, |txn| {
        let mut digest = Digest::default();
        each_database(txn, |db, view| {
            view.for_each_key(|entry| {
                mix(&mut digest, &sha1(&[&db.to_be_bytes(), entry.key(), &digest_value(entry)]));
            });
        });
        digest
    })?;
    reply.status(&hex(&digest));
    Ok(())
}

fn each_database(txn: &mut Txn, mut f: impl FnMut(u32, &View)) {
    let before = txn.db();
    for db in 0..txn.databases() {
        txn.select(db);
        f(db, txn);
    }
    txn.select(before);
}

fn digest_values(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let keys: Vec<Key> = args.from(2).iter().map(|word| Key::new(word)).collect();
    let digests = ctx.with_keys(&keys, |txn| {
        keys.iter().map(|key| txn.peek(*key).map_or(Digest::default(), digest_value)).collect::<Vec<_>>()
    })?;
    reply.array(digests.len());
    digests.iter().for_each(|digest| reply.status(&hex(digest)));
    Ok(())
}

fn table_stats(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let index = args.int(2)?;
    let db = u32::try_from(index).ok().filter(|db| *db < ctx.worker.engine.keyspace.databases());
    let db = db.ok_or(Error::text("ERR Out of range database"))?;
    let (keys, volatile) = ctx.with_shards(ShardSet::All, |txn| {
        let before = txn.select(db);
        let counts = (txn.key_count(), txn.volatile_count());
        txn.select(before);
        counts
    })?;
    let text = format!(
        "[Dictionary HT]\nHash table 0 stats (main hash table):\n number of entries: {keys}\n[Expires HT]\n\
         Hash table 0 stats (main hash table):\n number of entries: {volatile}\n"
    );
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn populate(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let positive = |index: usize| {
        let number = args.int(index).ok().and_then(|number| usize::try_from(number).ok());
        number.ok_or(Error::text("ERR value is out of range, must be positive"))
    };
    let count = positive(2)?;
    let size = if args.len() == 5 { positive(4)? } else { 0 };
    let prefix = args.get(3).unwrap_or(b"key");
    if size > ctx.worker.settings.proto_max_bulk_len {
        return Err(Error::StringTooLong);
    }
    for index in 0..count {
        let name = [prefix, b":", index.to_string().as_bytes()].concat();
        let key = Key::new(&name);
        let mut text = format!("value:{index}").into_bytes();
        if size != 0 {
            text.resize(size, 0);
        }
        // When a shard is busy the command runs again, and passes over what is there already.
        ctx.with_keys(&[key], |txn| {
            if !txn.exists(key) {
                txn.set_string(key, &text, Ttl::Clear);
            }
        })?;
    }
    reply.ok();
    Ok(())
}

#[expect(clippy::approx_constant, reason = "3.141 is what Redis replies")]
fn protocol(_: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let resp3 = reply.protocol == Protocol::Resp3;
    match args[2].to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.int(12345),
        b"double" => reply.double(3.141),
        b"bignum" => reply.big_number("1234567999999999999999999999999999999"),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|number| reply.int(number));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|number| reply.int(number));
        }
        b"map" => {
            reply.map(3);
            for number in 0..3 {
                reply.int(number);
                reply.bool(number == 1);
            }
        }
        b"attrib" => {
            if resp3 {
                reply.attribute(1);
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.int(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" if !resp3 => return Err(Error::text("ERR RESP2 is not supported by this command")),
        b"push" => {
            reply.bulk(b"Some real reply following the push reply");
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.int(42);
        }
        b"verbatim" => reply.verbatim("txt", b"This is a verbatim\nstring"),
        b"true" => reply.bool(true),
        b"false" => reply.bool(false),
        _ => {
            return Err(Error::text(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

fn help(_: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    super::help(
        reply,
        "DEBUG",
        &[
            ("CHANGE-REPL-ID", "Gives the history that replicas follow another name."),
            ("DIGEST", "Tells one figure for the whole keyspace."),
            ("DIGEST-VALUE [<key> ...]", "Tells a figure for the value of each key."),
            ("ERROR <string>", "Replies with this error."),
            ("HTSTATS <dbid>", "Tells how full a database's tables are."),
            ("LISTPACK <key>", "Tells whether a value is packed."),
            ("LOG <message>", "Writes to the log."),
            ("OBJECT <key>", "Tells how a value is kept."),
            ("POPULATE <count> [<prefix>] [<size>]", "Makes so many string keys."),
            ("PROTOCOL <type>", "Replies with a value of this type."),
            ("RELOAD [MERGE] [NOFLUSH] [NOSAVE]", "Saves everything and loads it again."),
            ("REPLICATE <word> [<word> ...]", "Sends replicas a command, whatever it is."),
            ("SET-ACTIVE-EXPIRE (0|1)", "Chooses whether due keys are removed before anybody looks."),
            ("SEGFAULT", "Ends the server as an access to memory that is not there would."),
            ("SLEEP <seconds>", "Has this connection wait."),
        ],
    );
    Ok(())
}
