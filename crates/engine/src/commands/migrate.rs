//! MIGRATE: keys move to another server.
//!
//! The keys' shards are held from the moment when the values are read until those that arrived are deleted, so that no change
//! is lost and nobody sees a key on neither side. A thread of its own talks to the other server meanwhile
//! ([`crate::links`]); this thread's event loop goes on serving others, of whom only those that need the same shards wait.

use crate::args::Args;
use crate::command::{Access, Command, Flags, Keys, Reply, Run};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::links::{Answer, Delivery, Parcel, Target};
use kelda_log::rdb::payload;
use kelda_log::rdb::{Format, Version};
use kelda_store::shard::ShardSet;
use kelda_store::txn::{Key, Txn};
use std::sync::Arc;
use std::time::Duration;

const LEAVES: Access = Access::RW.and(Access::ACCESS).and(Access::DELETE);

/// The family.
pub static COMMANDS: &[Command] = &[Command {
    name: "MIGRATE",
    arity: -6,
    keys: &[Keys::at(3).with(LEAVES), Keys::keyword("KEYS", -2, 0).with(LEAVES).incomplete()],
    find_keys: Some(|words, f| key_places(words).for_each(|at| f(at, LEAVES))),
    flags: Flags::WRITE.and(Flags::DANGEROUS).and(Flags::MOVABLE_KEYS),
    since: "2.6.0",
    syntax: "host port/integer key-selector:<key | empty-string:\"\"> destination-db/integer timeout/integer [COPY] [REPLACE] \
             authentication:[auth:(AUTH password) | auth2:(AUTH2 username password)] [KEYS keys:key [key ...]]",
    summary: "Moves keys to another server: they are on one of both at any time.",
    complexity: "O(N) in the size of the values, which go over the network",
    tips: &["nondeterministic_output"],
    run: Run::Session(migrate),
    ..Command::BASE
}];

/// The places of the keys: the fourth word, or if that is empty those that follow KEYS.
fn key_places(words: &[&[u8]]) -> std::ops::Range<usize> {
    if words.get(3).is_some_and(|word| !word.is_empty()) {
        return 3..4;
    }
    let mut at = 6;
    while let Some(word) = words.get(at) {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is("KEYS") {
            return at + 1..words.len();
        }
        // Secrets may look like options.
        at += if is("AUTH2") {
            3
        } else if is("AUTH") {
            2
        } else {
            1
        };
    }
    3..4
}

/// What the words ask for, but for the keys.
struct Request {
    target: Target,
    timeout: Duration,
    copy: bool,
    replace: bool,
}

fn parse(args: &Args) -> Result<Request> {
    let text = |at: usize| args[at].to_vec();
    let (mut copy, mut replace, mut credentials) = (false, false, Vec::new());
    let mut at = 6;
    while at < args.len() {
        let left = args.len() - at - 1;
        if args.is(at, "COPY") {
            copy = true;
        } else if args.is(at, "REPLACE") {
            replace = true;
        } else if args.is(at, "AUTH") && left >= 1 {
            credentials = vec![text(at + 1)];
            at += 1;
        } else if args.is(at, "AUTH2") && left >= 2 {
            credentials = vec![text(at + 1), text(at + 2)];
            at += 2;
        } else if args.is(at, "KEYS") {
            if !args[3].is_empty() {
                return Err(Error::text(
                    "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                ));
            }
            break;
        } else {
            return Err(Error::Syntax);
        }
        at += 1;
    }
    let (timeout_ms, db) = (args.int(5)?, args.int(4)?);
    let host = String::from_utf8_lossy(&args[1]).into_owned();
    // What is no port can be connected to as little as one that nobody listens on.
    let port = args.int(2).ok().and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
    Ok(Request {
        target: Target { host, port, credentials, db },
        timeout: Duration::from_millis(if timeout_ms <= 0 { 1000 } else { timeout_ms as u64 }),
        copy,
        replace,
    })
}

fn migrate(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let request = parse(args)?;
    let keys: Vec<Key> = key_places(args.words()).map(|at| args.key(at)).collect();
    if let Some(txn) = ctx.txn.take() {
        // Part of a transaction or script. To serve others here could bring in the next such command, and so on without end.
        let parcels = pack(txn, &keys, request.replace);
        let delivery = Delivery::new(request.target.clone(), request.timeout, parcels);
        let result = match delivery.is_empty() {
            true => Ok("NOKEY"),
            false => {
                let engine = ctx.engine();
                delivery.run(&engine.links, &*engine.platform, engine.clock.as_ref());
                unpack(txn, &keys, &request, &delivery)
            }
        };
        ctx.txn = Some(txn);
        return result.map(|word| reply.status(word));
    }
    if ctx.worker.migrating {
        return Err(Error::Again);
    }
    let mut set = ShardSet::None;
    keys.iter().for_each(|key| set.add(key.hash));
    let engine = ctx.engine();
    let mut txn = ctx.worker.begin(&engine.keyspace, set, ctx.session.db).ok_or(Error::Again)?;
    let parcels = pack(&txn, &keys, request.replace);
    let delivery = Delivery::new(request.target.clone(), request.timeout, parcels);
    if delivery.is_empty() {
        ctx.worker.commit(txn);
        reply.status("NOKEY");
        return Ok(());
    }
    txn.will_take_long();
    let (shared, courier, index) = (Arc::clone(&engine), delivery.clone(), ctx.worker.index);
    ctx.worker.migrating = true;
    engine.platform.in_background(
        "migrate",
        Box::new(move || {
            courier.run(&shared.links, &*shared.platform, shared.clock.as_ref());
            if let Some(mailbox) = shared.mailbox(index) {
                mailbox.nudge();
            }
        }),
    );
    while !delivery.is_done() {
        ctx.host.await_others(ctx.worker);
    }
    ctx.worker.migrating = false;
    txn.go_on_at(engine.clock.unix_us() / 1000);
    let result = unpack(&mut txn, &keys, &request, &delivery);
    ctx.worker.commit(txn);
    reply.status(result?);
    Ok(())
}

/// The values of the keys that are there, as RESTORE takes them.
fn pack(txn: &Txn, keys: &[Key], replace: bool) -> Vec<Parcel> {
    let env = &txn.cx.env;
    let format = Format { version: Version(env.rdb_version), compress: env.rdb_compression };
    let mut parcels = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        if let Some(entry) = txn.peek(*key) {
            // 0 would mean for ever.
            let ttl = entry.expire_at().map_or(0, |at| (at - txn.now()).max(1));
            let payload = payload::dump(entry.value(), &format);
            parcels.push(Parcel { index, key: key.bytes.to_vec(), ttl, payload, replace });
        }
    }
    parcels
}

/// Deletes what arrived, and says how it went.
fn unpack(txn: &mut Txn, keys: &[Key], request: &Request, delivery: &Delivery) -> Result<&'static str> {
    let (arrived, answer) = delivery.outcome();
    if !request.copy {
        for index in arrived {
            if let Some(key) = keys.get(index) {
                txn.delete_with_event(*key);
            }
        }
    }
    match answer {
        Answer::Done => Ok("OK"),
        Answer::Refused(why) => Err(Error::owned(format!("ERR Target instance replied with error: {why}"))),
        Answer::NoConnection => Err(Error::text("IOERR error or timeout connecting to the client")),
        Answer::NotWritten => Err(Error::text("IOERR error or timeout writing to target instance")),
        Answer::NotRead => Err(Error::text("IOERR error or timeout reading from target instance")),
    }
}
