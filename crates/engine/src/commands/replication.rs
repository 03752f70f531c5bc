//! Replication: SYNC, PSYNC and REPLCONF of those who follow; REPLICAOF; ROLE, WAIT, WAITAOF, FAILOVER.

use crate::args::Args;
use crate::blocking;
use crate::command::{Command, Flags, Group, Reply};
use crate::commands::describe_client;
use crate::ctx::{Ctx, Origin};
use crate::error::{Error, Result};
use crate::failover::{Plan, Stage};
use crate::following::LinkState;
use crate::replication::Parts;
use crate::session::LogWait;
use kelda_resp::number;

const BASE: Command = Command { group: Group::Server, ..Command::BASE };
/// What WAIT and WAITAOF share.
const WAITING: Command = Command { flags: Flags::BLOCKING, categories: Some(&["connection"]), ..Command::BASE };
const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT);
const OFFLINE: Flags = ADMIN.and(Flags::NO_ASYNC_LOADING);

/// The family.
pub static COMMANDS: &[Command] = &[
    BASE.session(
        "SYNC",
        1,
        OFFLINE.and(Flags::NO_MULTI),
        "1.0.0",
        "",
        "Makes the connection a replica, by the protocol of old: it gets a snapshot and then all writes.",
        |ctx, _, reply| follow(ctx, None, reply),
    ),
    BASE.session(
        "PSYNC",
        -3,
        OFFLINE.and(Flags::NO_MULTI),
        "2.8.0",
        "replicationid offset/integer",
        "Makes the connection a replica, which goes on where it stopped if it can.",
        |ctx, args, reply| {
            let first = args.int(2).inspect_err(|_| {
                let who = &ctx.session.info.peer.addr;
                let text = format!("Replica {who} asks for synchronization but with a wrong offset");
                ctx.worker.engine.platform.log(2, &text);
            })?;
            if args.is(3, "failover") {
                take_over(ctx, &args[1])?;
            }
            follow(ctx, Some((args[1].as_ref(), first)), reply)
        },
    ),
    BASE.session(
        "REPLCONF",
        -1,
        ADMIN.and(Flags::LOADING).and(Flags::STALE).and(Flags::ALLOW_BUSY).and(Flags::INTERNAL),
        "3.0.0",
        "",
        "What replica and master tell each other.",
        replconf,
    ),
    BASE.session(
        "ROLE",
        1,
        Flags::LOADING.and(Flags::STALE).and(Flags::FAST).and(Flags::NOSCRIPT).and(Flags::ADMIN_CATEGORY),
        "2.8.12",
        "",
        "Tells the server's part in replication.",
        role,
    ),
    BASE.session(
        "REPLICAOF",
        3,
        OFFLINE.and(Flags::STALE),
        "5.0.0",
        "args:<host port | NO ONE>",
        "Makes the server a replica, or no longer one.",
        replica_of,
    ),
    BASE.session(
        "SLAVEOF",
        3,
        OFFLINE.and(Flags::STALE),
        "1.0.0",
        "args:<host port | NO ONE>",
        "The old name of REPLICAOF.",
        replica_of,
    ),
    BASE.session(
        "FAILOVER",
        -1,
        ADMIN.and(Flags::STALE),
        "6.2.0",
        "target:[TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]",
        "Hands the lead over to a replica.",
        failover,
    ),
    Command {
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        ..WAITING.session(
            "WAIT",
            3,
            WAITING.flags,
            "3.0.0",
            "numreplicas timeout/integer",
            "Waits until replicas have the writes of this connection; tells how many have them.",
            wait,
        )
    },
    Command {
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        ..WAITING.session(
            "WAITAOF",
            4,
            WAITING.flags,
            "7.2.0",
            "numlocal numreplicas timeout/integer",
            "Waits until the writes of this connection are on disk, here and on replicas.",
            waitaof,
        )
    },
];

/// PSYNC … FAILOVER: who led this server wants it to lead, if it has this history.
fn take_over(ctx: &mut Ctx, id: &[u8]) -> Result {
    let engine = ctx.engine();
    if !engine.following.is_on() {
        return Err(Error::text("ERR PSYNC FAILOVER can't be sent to a master."));
    }
    if id != engine.replication.report(0).id.as_bytes() {
        return Err(Error::text("ERR PSYNC FAILOVER replid must match my replid."));
    }
    let who = describe_client(&ctx.session.info, ctx.worker.now_ms());
    engine.following.lead(&engine);
    engine.following.note(&engine, 2, &format!("MASTER MODE enabled (failover request from '{who}')"));
    ctx.worker.refresh();
    Ok(())
}

/// SYNC and PSYNC: the session becomes a replica.
fn follow(ctx: &mut Ctx, wants: Option<(&[u8], i64)>, reply: &mut Reply) -> Result {
    if ctx.session.replica {
        return Ok(());
    }
    if ctx.worker.engine.failover.stage() == Stage::Handing {
        return Err(Error::text("NOMASTERLINK Can't SYNC while failover is in progress"));
    }
    let following = &ctx.worker.engine.following;
    if following.is_on() && !following.is_up() {
        return Err(Error::text("NOMASTERLINK Can't SYNC while not connected with my master"));
    }
    if reply.len() > ctx.session.sent.at {
        return Err(Error::text("ERR SYNC and PSYNC are invalid with pending output"));
    }
    ctx.worker.follow(ctx.session, wants, reply);
    Ok(())
}

fn replconf(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    if args.len().is_multiple_of(2) {
        return Err(Error::Syntax);
    }
    for at in (1..args.len()).step_by(2) {
        let value = &args[at + 1];
        let engine = ctx.engine();
        if args.is(at, "ack") {
            // Of a replica, which wants no reply.
            let Some(has) = number(value).filter(|_| ctx.session.replica) else { return Ok(()) };
            let on_disk = (args.is(at + 2, "fack")).then(|| args.get(at + 3).and_then(number)).flatten();
            engine.replication.acknowledge(ctx.session.at, has, on_disk, ctx.worker.now_ms());
            engine.log_progressed();
            return Ok(());
        }
        if args.is(at, "getack") {
            // What a master asks a replica: its session answers (`following`).
            return Ok(());
        }
        let announced = ctx.session.announced.get_or_insert_default();
        if args.is(at, "listening-port") {
            announced.port = u16::try_from(args.int(at + 1)?).unwrap_or(0);
        } else if args.is(at, "ip-address") {
            /// Longest name of a host.
            const LONGEST: usize = 255;
            if value.len() > LONGEST {
                return Err(Error::owned(format!(
                    "ERR REPLCONF ip-address provided by replica instance is too long: {} bytes",
                    value.len()
                )));
            }
            announced.ip = String::from_utf8_lossy(value).into_owned();
        } else if args.is(at, "capa") {
            // Those that are not known are passed over.
            announced.eof |= value.eq_ignore_ascii_case(b"eof");
            announced.psync2 |= value.eq_ignore_ascii_case(b"psync2");
        } else if args.is(at, "version") {
            let text = String::from_utf8_lossy(value);
            let mut parts = text.split('.').map(|part| part.parse::<u32>().ok());
            announced.version = parts
                .next()
                .flatten()
                .filter(|_| parts.all(|part| part.is_some()))
                .ok_or_else(|| Error::owned(format!("ERR Unrecognized version format: {text}")))?;
        } else if args.is(at, "rdb-only") {
            announced.rdb_only = match args.int(at + 1)? {
                0 => false,
                1 => true,
                _ => return Err(Error::text("ERR value is out of range, value must between 0 and 1")),
            };
        } else if args.is(at, "rdb-filter-only") {
            announced.parts = Parts::named(value)?;
        } else {
            let option = String::from_utf8_lossy(&args[at]).into_owned();
            return Err(Error::owned(format!("ERR Unrecognized REPLCONF option: {option}")));
        }
    }
    reply.ok();
    Ok(())
}

fn number(word: &[u8]) -> Option<u64> {
    number::parse_i64(word).and_then(|number| u64::try_from(number).ok())
}

fn role(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    let engine = ctx.engine();
    if let Some(master) = engine.following.report() {
        let connected = master.state == LinkState::Connected;
        reply.array(5);
        reply.bulk(b"slave");
        reply.bulk(master.host.as_bytes());
        reply.int(master.port.into());
        reply.bulk(master.state.word().as_bytes());
        reply.int(if connected { engine.replication.offset() as i64 } else { -1 });
        return Ok(());
    }
    let report = ctx.worker.engine.replication.report(ctx.worker.now_ms());
    let online: Vec<_> = report.followers.iter().filter(|follower| follower.state == "online").collect();
    reply.array(3);
    reply.bulk(b"master");
    reply.int(report.offset as i64);
    reply.array(online.len());
    for follower in online {
        reply.array(3);
        reply.bulk(follower.ip.as_bytes());
        reply.bulk_int(follower.port.into());
        reply.bulk_int(follower.acked as i64);
    }
    Ok(())
}

fn replica_of(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let engine = ctx.engine();
    if engine.failover.is_on() {
        return Err(Error::text("ERR REPLICAOF not allowed while failing over."));
    }
    let who = || format!("(user request from '{}')", describe_client(&ctx.session.info, ctx.worker.now_ms()));
    if args.is(1, "no") && args.is(2, "one") {
        if engine.following.lead(&engine) {
            engine.following.note(&engine, 2, &format!("MASTER MODE enabled {}", who()));
        }
        ctx.worker.refresh();
        reply.ok();
        return Ok(());
    }
    if ctx.session.replica {
        return Err(Error::text("ERR Command is not valid when client is a replica."));
    }
    let port = number::parse_i64(&args[2]).and_then(|port| u16::try_from(port).ok());
    let port = port.ok_or(Error::text("ERR Invalid master port"))?;
    let host = String::from_utf8_lossy(&args[1]).into_owned();
    if !engine.following.follow(&engine, &host, port) {
        let already = "REPLICAOF would result into synchronization with the master we are already connected with.";
        engine.following.note(&engine, 2, &format!("{already} No operation performed."));
        reply.status("OK Already connected to specified master");
        return Ok(());
    }
    engine.platform.log(2, &format!("REPLICAOF {host}:{port} enabled {}", who()));
    ctx.worker.refresh();
    engine.following.cron(&engine);
    reply.ok();
    Ok(())
}

/// A timeout of WAIT in milliseconds.
fn timeout_ms(ctx: &Ctx, args: &Args, index: usize) -> Result<u64> {
    match args.int(index) {
        Ok(ms @ 0..) if ctx.worker.now_ms().checked_add(ms).is_some() => Ok(ms as u64),
        Ok(0..) => Err(Error::text("ERR timeout is out of range")),
        Ok(_) => Err(Error::text("ERR timeout is negative")),
        Err(_) => Err(Error::text("ERR timeout is not an integer or out of range")),
    }
}

fn wait(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    if ctx.worker.follows {
        return Err(Error::text(
            "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured \
             to be writable (which is not the default) writes to replicas are just local and are not propagated.",
        ));
    }
    let replicas = usize::try_from(args.int(1)?.max(0)).unwrap_or(usize::MAX);
    let timeout_ms = timeout_ms(ctx, args, 2)?;
    let wait = LogWait { local: false, replicas, on_disk: false, ..what_was_made(ctx) };
    wait_for(ctx, wait, timeout_ms, reply)
}

fn waitaof(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let local = args.int(1)?;
    if !(0..=1).contains(&local) {
        return Err(Error::text("ERR value is out of range, value must between 0 and 1"));
    }
    let Some(replicas) = args.int(2).ok().and_then(|replicas| usize::try_from(replicas).ok()) else {
        return Err(Error::text("ERR value is out of range, must be positive"));
    };
    let timeout_ms = timeout_ms(ctx, args, 3)?;
    if ctx.worker.follows {
        return Err(Error::text(
            "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and are \
             not propagated.",
        ));
    }
    if local == 1 && !ctx.worker.has_log() {
        return Err(blocking::NO_LOG);
    }
    let wait = LogWait { local: local == 1, replicas, on_disk: true, ..what_was_made(ctx) };
    wait_for(ctx, wait, timeout_ms, reply)
}

/// A wait for what the session made in this pipeline, or in one before.
fn what_was_made(ctx: &Ctx) -> LogWait {
    let (session, tellings) = (&ctx.session, &ctx.worker.tellings);
    let (lsn, offset) = (session.made_lsn.max(tellings.made_lsn), session.fed.max(tellings.fed));
    LogWait { lsn, local: false, offset, replicas: 0, on_disk: false }
}

fn wait_for(ctx: &mut Ctx, wait: LogWait, timeout_ms: u64, reply: &mut Reply) -> Result {
    if ctx.worker.log_state(&wait).0 || ctx.origin != Origin::Client {
        blocking::write_log_state(ctx.worker, reply, &wait);
    } else {
        blocking::await_log(ctx.worker, ctx.session, wait, timeout_ms);
    }
    Ok(())
}

fn failover(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let engine = ctx.engine();
    let (mut plan, mut abort, mut timeout_ms) = (Plan::default(), false, None);
    let mut at = 1;
    while at < args.len() {
        if timeout_ms.is_none() && args.is(at, "TIMEOUT") && at + 1 < args.len() {
            let ms = args.int(at + 1)?;
            if ms <= 0 {
                return Err(Error::text("ERR FAILOVER timeout must be greater than 0"));
            }
            (timeout_ms, at) = (Some(ms), at + 2);
        } else if !abort && args.is(at, "ABORT") {
            (abort, at) = (true, at + 1);
        } else if plan.target.is_none() && args.is(at, "TO") && at + 2 < args.len() {
            let port = args.int(at + 2)?;
            let host = String::from_utf8_lossy(&args[at + 1]).into_owned();
            // No replica has the port 0.
            (plan.target, at) = (Some((host, u16::try_from(port).unwrap_or(0))), at + 3);
        } else if !plan.force && args.is(at, "FORCE") {
            (plan.force, at) = (true, at + 1);
        } else {
            return Err(Error::Syntax);
        }
    }
    if abort {
        if args.len() > 2 {
            return Err(Error::Syntax);
        }
        if !engine.failover.abort(&engine, "Failover manually aborted") {
            return Err(Error::text("ERR No failover in progress."));
        }
        ctx.worker.refresh();
        reply.ok();
        return Ok(());
    }
    if engine.failover.is_on() {
        return Err(Error::text("ERR FAILOVER already in progress."));
    }
    if ctx.worker.follows {
        return Err(Error::text("ERR FAILOVER is not valid when server is a replica."));
    }
    if engine.replication.report(0).followers.is_empty() {
        return Err(Error::text("ERR FAILOVER requires connected replicas."));
    }
    if plan.force && (timeout_ms.is_none() || plan.target.is_none()) {
        return Err(Error::text("ERR FAILOVER with force option requires both a timeout and target HOST and IP."));
    }
    if let Some((host, port)) = &plan.target {
        match engine.replication.is_online(host, *port) {
            None => return Err(Error::text("ERR FAILOVER target HOST and PORT is not a replica.")),
            Some(false) => return Err(Error::text("ERR FAILOVER target replica is not online.")),
            Some(true) => engine.platform.log(2, &format!("FAILOVER requested to {host}:{port}.")),
        }
    } else {
        engine.platform.log(2, "FAILOVER requested to any replica.");
    }
    plan.until_ms = timeout_ms.map(|ms| ctx.worker.now_ms().saturating_add(ms));
    if !engine.failover.begin(&engine, plan) {
        return Err(Error::text("ERR FAILOVER already in progress."));
    }
    reply.ok();
    Ok(())
}
