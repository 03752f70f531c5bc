//! Who is connected and how: PING, ECHO, SELECT, AUTH, HELLO, RESET, QUIT.

use super::{client, pubsub};
use crate::acl;
use crate::acl::log::{Context, Refusal};
use crate::args::Args;
use crate::command::{Command, Databases, Flags, Group, Reply, Run};
use crate::ctx::{Ctx, Origin};
use crate::error::{Error, Result};
use crate::exec;
use crate::monitor;
use crate::session::ReplyMode;
use crate::tracking;
use crate::version::REDIS_VERSION;
use crate::worker::Fate;
use kelda_resp::{Protocol, number};
use std::sync::atomic::Ordering::Relaxed;

const BASE: Command = Command { group: Group::Connection, ..Command::BASE };
const FAST: Flags = Flags::FAST.and(Flags::LOADING).and(Flags::STALE);
/// Of commands that come before any other, or end the connection.
const EARLY: Flags = FAST.and(Flags::NOSCRIPT).and(Flags::NO_AUTH).and(Flags::ALLOW_BUSY);

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "PING",
        arity: -1,
        flags: Flags::FAST.and(Flags::IN_PUBSUB),
        syntax: "[message]",
        summary: "Answers, with the message if there is one.",
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        run: Run::Session(ping),
        ..BASE
    },
    Command {
        name: "ECHO",
        arity: 2,
        flags: FAST,
        syntax: "message",
        summary: "Sends the message back.",
        run: Run::Session(|_, args, reply| {
            reply.bulk(&args[1]);
            Ok(())
        }),
        ..BASE
    },
    Command {
        name: "SELECT",
        arity: 2,
        databases: Databases::Named(|_| vec![1]),
        flags: FAST.and(Flags::ALLOW_BUSY),
        syntax: "index",
        summary: "Uses another database from here on.",
        run: Run::Session(select),
        ..BASE
    },
    Command {
        name: "QUIT",
        arity: -1,
        flags: EARLY.and(Flags::UNQUEUED).and(Flags::IN_PUBSUB),
        summary: "Closes the connection.",
        run: Run::Session(|ctx, _, reply| {
            reply.ok();
            ctx.worker.engine.clients.leave(ctx.session.at.id);
            ctx.session.fate = Fate::CloseAfterWrite;
            Ok(())
        }),
        ..BASE
    },
    Command {
        name: "RESET",
        arity: 1,
        flags: EARLY.and(Flags::UNQUEUED).and(Flags::IN_PUBSUB),
        since: "6.2.0",
        summary: "Makes the connection as good as new.",
        run: Run::Session(reset),
        ..BASE
    },
    Command {
        name: "AUTH",
        arity: -2,
        flags: EARLY,
        syntax: "[username] password",
        summary: "Proves who the client is.",
        complexity: "O(N) in the number of passwords of the user",
        run: Run::Session(auth),
        ..BASE
    },
    Command {
        name: "HELLO",
        arity: -1,
        flags: EARLY,
        since: "6.0.0",
        syntax: "arguments:[protover auth:[AUTH username password] [SETNAME clientname]]",
        summary: "Agrees on the protocol version, and tells about the server.",
        run: Run::Session(hello),
        ..BASE
    },
];

fn ping(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    if args.len() > 2 {
        return Err(Error::Arity("ping".into()));
    }
    if ctx.session.in_pubsub_mode() {
        reply.array(2);
        reply.bulk(b"pong");
        reply.bulk(args.get(1).unwrap_or_default());
        return Ok(());
    }
    match args.get(1) {
        Some(text) => reply.bulk(text),
        None => reply.status("PONG"),
    }
    Ok(())
}

fn select(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let index = i32::try_from(args.int(1)?)
        .map_err(|_| Error::text("ERR value is out of range, value must between -2147483648 and 2147483647"))?;
    match u32::try_from(index) {
        Ok(db) if db < ctx.worker.engine.keyspace.databases() => {
            ctx.session.select(db);
            reply.ok();
            Ok(())
        }
        _ => Err(Error::text("ERR DB index is out of range")),
    }
}

/// Uses a protocol version, for this reply already.
fn speak(ctx: &mut Ctx, reply: &mut Reply, protocol: Protocol) {
    ctx.session.protocol = protocol;
    reply.protocol = protocol;
    ctx.session.info.resp.store(exec::protocol_number(protocol), Relaxed);
}

fn reset(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    if ctx.session.multi.is_some() {
        exec::end_multi(ctx.worker, ctx.session);
    }
    exec::unwatch(ctx.worker, ctx.session);
    pubsub::drop_all(ctx);
    tracking::stop(ctx.worker, ctx.session);
    monitor::stop(ctx.worker, ctx.session);
    ctx.session.select(0);
    ctx.session.reply_mode = ReplyMode::On;
    ctx.session.reads_here = false;
    ctx.worker.set_durability(ctx.session, None);
    let engine = ctx.engine();
    let version = engine.acl.version();
    ctx.session.begin_as_default(engine.acl.default_user(), version);
    let info = &ctx.session.info;
    info.no_evict.store(false, Relaxed);
    info.no_touch.store(false, Relaxed);
    info.import_source.store(false, Relaxed);
    {
        let mut labels = info.labels();
        labels.name.clear();
        labels.user = "default".into();
    }
    speak(ctx, reply, Protocol::Resp2);
    reply.status("RESET");
    Ok(())
}

/// Checks a user's password and lets the session in. `command` is what asks.
fn log_in(ctx: &mut Ctx, command: &[u8], name: &[u8], password: &[u8]) -> Result {
    let engine = ctx.engine();
    // The version first: a change in between only makes the session look again.
    let version = engine.acl.version();
    match engine.acl.get(name).filter(|user| user.accepts(password)) {
        Some(user) => {
            ctx.session.log_in(user, version);
            Ok(())
        }
        None => {
            let context = if ctx.origin == Origin::Exec { Context::Multi } else { Context::TopLevel };
            acl::note_event(ctx.worker, &ctx.session.info, Refusal::Auth, context, command, name);
            Err(Error::text("WRONGPASS invalid username-password pair or user is disabled."))
        }
    }
}

fn auth(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    match args.from(1) {
        [_] if ctx.worker.engine.acl.default_user().any_password => {
            return Err(Error::text(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ));
        }
        [password] => log_in(ctx, &args[0], acl::DEFAULT, password)?,
        [user, password] => log_in(ctx, &args[0], user, password)?,
        _ => return Err(Error::Syntax),
    }
    reply.ok();
    Ok(())
}

fn hello(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let protocol = match args.get(1) {
        None => None,
        Some(word) => match number::parse_i64(word) {
            Some(2) => Some(Protocol::Resp2),
            Some(3) => Some(Protocol::Resp3),
            Some(_) => return Err(Error::text("NOPROTO unsupported protocol version")),
            None => return Err(Error::text("ERR Protocol version is not an integer or out of range")),
        },
    };
    let (mut credentials, mut name) = (None, None);
    let mut rest = args.from(2);
    while let [option, after @ ..] = rest {
        rest = match after {
            [user, password, after @ ..] if option.eq_ignore_ascii_case(b"AUTH") => {
                credentials = Some((*user, *password));
                after
            }
            [text, after @ ..] if option.eq_ignore_ascii_case(b"SETNAME") => {
                name = Some(client::label("Client names", text)?);
                after
            }
            _ => {
                let option = String::from_utf8_lossy(option);
                return Err(Error::owned(format!("ERR Syntax error in HELLO option '{option}'")));
            }
        };
    }
    if let Some((user, password)) = credentials {
        log_in(ctx, &args[0], user, password)?;
    }
    if !ctx.session.authenticated {
        return Err(Error::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
             <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        ctx.session.info.labels().name = name;
    }
    if let Some(protocol) = protocol {
        speak(ctx, reply, protocol);
    }
    let zone = &ctx.worker.settings.availability_zone;
    reply.map(7 + usize::from(!zone.is_empty()));
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.int(exec::protocol_number(ctx.session.protocol).into());
    reply.bulk(b"id");
    reply.int(ctx.session.at.id as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(if ctx.worker.engine.following.is_on() { b"replica" } else { b"master" });
    reply.bulk(b"modules");
    reply.array(0);
    if !zone.is_empty() {
        reply.bulk(b"availability_zone");
        reply.bulk(zone.as_bytes());
    }
    Ok(())
}
