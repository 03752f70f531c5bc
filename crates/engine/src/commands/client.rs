//! CLIENT: what clients are connected, what they call themselves, and how they are treated.

mod filter;

use super::tracking;
use crate::args::Args;
use crate::clients::ClientInfo;
use crate::command::{Command, Flags, Group, Reply, Run};
use crate::config::AppendFsync;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::mailbox::Message;
use crate::registry;
use crate::session::ReplyMode;
use crate::worker::Fate;
use filter::{Filter, KILL_SYNTAX, LIST_SYNTAX, Surroundings};
use kelda_resp::number;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const BASE: Command = Command { group: Group::Connection, ..Command::BASE };
const COMMON: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
const BUSY: Flags = COMMON.and(Flags::ALLOW_BUSY);
const ADMIN: Flags = COMMON.and(Flags::ADMIN);

/// The family.
pub static COMMANDS: &[Command] = &[Command {
    name: "CLIENT",
    arity: -2,
    since: "2.4.0",
    summary: "Container of commands about clients.",
    complexity: "That of the subcommand",
    run: Run::Group(&[
        BASE.session("ID", 2, BUSY, "5.0.0", "", "Tells the connection's number.", |ctx, _, reply| {
            reply.int(ctx.session.at.id as i64);
            Ok(())
        }),
        BASE.session("GETNAME", 2, BUSY, "2.6.9", "", "Tells the connection's name.", |ctx, _, reply| {
            match ctx.session.info.labels().name.as_str() {
                "" => reply.null(),
                name => reply.bulk(name.as_bytes()),
            }
            Ok(())
        }),
        Command {
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..BASE.session("SETNAME", 3, BUSY, "2.6.9", "connection-name", "Names the connection.", set_name)
        },
        Command {
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..BASE.session(
                "SETINFO",
                4,
                BUSY,
                "7.2.0",
                "attr:<LIB-NAME libname | LIB-VER libver>",
                "Tells the server about the client's library.",
                set_info,
            )
        },
        Command {
            tips: &["nondeterministic_output"],
            ..BASE.session("INFO", 2, COMMON, "6.2.0", "", "Tells about this connection.", |ctx, _, reply| {
                let line = describe(&ctx.session.info.clone(), ctx.worker.now_ms());
                reply.verbatim("txt", format!("{line}\n").as_bytes());
                Ok(())
            })
        },
        Command {
            complexity: "O(N) in the number of connections",
            tips: &["nondeterministic_output"],
            ..BASE.session("LIST", -2, ADMIN, "2.4.0", LIST_SYNTAX, "Lists connections.", list)
        },
        Command {
            complexity: "O(N) in the number of connections",
            ..BASE.session("KILL", -3, ADMIN, "2.4.0", KILL_SYNTAX, "Closes connections.", kill)
        },
        BASE.session(
            "IMPORT-SOURCE",
            3,
            COMMON,
            "8.1.0",
            "enabled:<ON | OFF>",
            "Has the connection see expired keys while the server is in import mode.",
            import_source,
        ),
        BASE.session(
            "DURABILITY",
            3,
            COMMON,
            "8.1.0",
            "when:<ALWAYS | EVERYSEC | NO | DEFAULT>",
            "Chooses for the connection what appendfsync chooses for all: whether its replies wait for the disk.",
            durability,
        ),
        BASE.session(
            "NO-EVICT",
            3,
            BUSY.and(Flags::ADMIN),
            "7.0.0",
            "enabled:<ON | OFF>",
            "Spares the connection when memory is short.",
            |ctx, args, reply| set_switch(args, reply, &ctx.session.info.no_evict),
        ),
        BASE.session(
            "NO-TOUCH",
            3,
            BUSY,
            "7.2.0",
            "enabled:<ON | OFF>",
            "Keeps the connection's reads from counting as uses of keys.",
            |ctx, args, reply| set_switch(args, reply, &ctx.session.info.no_touch),
        ),
        BASE.session(
            "REPLY",
            3,
            BUSY.and(Flags::NO_MULTI),
            "3.2.0",
            "action:<ON | OFF | SKIP>",
            "Chooses whether replies are sent.",
            reply_mode,
        ),
        BASE.session(
            "UNBLOCK",
            -3,
            ADMIN,
            "5.0.0",
            "client-id unblock-type:[TIMEOUT | ERROR]",
            "Ends the wait of a blocked client.",
            unblock,
        ),
        BASE.session(
            "PAUSE",
            -3,
            ADMIN,
            "3.0.0",
            "timeout/integer mode:[WRITE | ALL]",
            "Has commands of all clients wait.",
            pause,
        ),
        Command {
            complexity: "O(N) in the number of waiting clients",
            ..BASE.session("UNPAUSE", 2, ADMIN, "6.2.0", "", "Ends CLIENT PAUSE.", |ctx, _, reply| {
                ctx.worker.engine.pause.end();
                ctx.worker.engine.wake_all();
                reply.ok();
                Ok(())
            })
        },
        BASE.session("GETREDIR", 2, BUSY, "6.0.0", "", "Tells where invalidation messages go.", tracking::get_redirect),
        BASE.session(
            "TRACKING",
            -3,
            COMMON,
            "6.0.0",
            TRACKING_SYNTAX,
            "Turns server-assisted caching on or off.",
            tracking::tracking,
        ),
        BASE.session("TRACKINGINFO", 2, COMMON, "6.2.0", "", "Tells about server-assisted caching.", tracking::info),
        BASE.session(
            "CACHING",
            3,
            BUSY,
            "6.0.0",
            "mode:<YES | NO>",
            "Chooses whether the next command's keys are tracked.",
            tracking::caching,
        ),
        BASE.session(
            "CAPA",
            -3,
            BUSY,
            "8.0.0",
            "capability [capability ...]",
            "Tells the server what the client can do.",
            |ctx, args, reply| {
                // Those that are not known are passed over.
                if args.from(2).iter().any(|word| word.eq_ignore_ascii_case(b"redirect")) {
                    ctx.session.info.redirects.store(true, Relaxed);
                }
                reply.ok();
                Ok(())
            },
        ),
        BASE.session("HELP", 2, Flags::LOADING.and(Flags::STALE), "5.0.0", "", "Explains the subcommands.", help),
    ]),
    ..BASE
}];

const TRACKING_SYNTAX: &str =
    "status:<ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]";

/// A text that a client gives itself: printable ASCII without blanks.
pub(super) fn label(what: &str, text: &[u8]) -> Result<String> {
    if !text.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Err(Error::owned(format!("ERR {what} cannot contain spaces, newlines or special characters.")));
    }
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn set_name(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let name = label("Client names", &args[2])?;
    ctx.session.info.labels().name = name;
    reply.ok();
    Ok(())
}

fn set_info(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    if args.is(2, "lib-name") {
        let text = label(&String::from_utf8_lossy(&args[2]), &args[3])?;
        ctx.session.info.labels().lib_name = text;
    } else if args.is(2, "lib-ver") {
        let text = label(&String::from_utf8_lossy(&args[2]), &args[3])?;
        ctx.session.info.labels().lib_version = text;
    } else {
        return Err(Error::owned(format!("ERR Unrecognized option '{}'", String::from_utf8_lossy(&args[2]))));
    }
    reply.ok();
    Ok(())
}

fn set_switch(args: &Args, reply: &mut Reply, switch: &AtomicBool) -> Result {
    match (args.is(2, "on"), args.is(2, "off")) {
        (true, _) => switch.store(true, Relaxed),
        (_, true) => switch.store(false, Relaxed),
        _ => return Err(Error::Syntax),
    }
    reply.ok();
    Ok(())
}

fn import_source(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    if args.is(2, "on") && !ctx.worker.settings.import_mode {
        return Err(Error::text("ERR Server is not in import mode"));
    }
    set_switch(args, reply, &ctx.session.info.import_source)
}

fn durability(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let word = String::from_utf8_lossy(&args[2]).to_ascii_lowercase();
    let wanted = match word.as_str() {
        "default" => None,
        word => Some(AppendFsync::from_word(word).ok_or(Error::Syntax)?),
    };
    ctx.worker.set_durability(ctx.session, wanted);
    reply.ok();
    Ok(())
}

fn reply_mode(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let mode = &mut ctx.session.reply_mode;
    if args.is(2, "on") {
        *mode = ReplyMode::On;
        reply.ok();
    } else if args.is(2, "off") {
        *mode = ReplyMode::Off;
    } else if args.is(2, "skip") {
        if *mode != ReplyMode::Off {
            // This command's own reply, which is empty, uses up the first step.
            *mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(Error::Syntax);
    }
    Ok(())
}

/// The letters of CLIENT LIST's `flags`.
fn flags(info: &ClientInfo) -> String {
    let subscribed = info.subscriptions.iter().any(|count| count.load(Relaxed) != 0);
    let shown: String = [
        (info.monitor.load(Relaxed), 'O'),
        (info.replica.load(Relaxed), 'S'),
        (info.master.load(Relaxed), 'M'),
        (subscribed, 'P'),
        (info.queued.load(Relaxed) >= 0, 'x'),
        (info.blocked.load(Relaxed), 'b'),
        (info.tracking.load(Relaxed), 't'),
        (info.redirect_broken.load(Relaxed), 'R'),
        (info.broadcast.load(Relaxed), 'B'),
        (info.killed.load(Relaxed), 'A'),
        (info.no_evict.load(Relaxed), 'e'),
        (info.no_touch.load(Relaxed), 'T'),
        (info.import_source.load(Relaxed), 'I'),
        (info.peer.unix, 'U'),
    ]
    .into_iter()
    .filter_map(|(is, letter)| is.then_some(letter))
    .collect();
    if shown.is_empty() { "N".into() } else { shown }
}

/// Letters of what a client said that it can do: CLIENT CAPA.
fn capabilities(info: &ClientInfo) -> &'static str {
    if info.redirects.load(Relaxed) { "r" } else { "" }
}

/// A client as CLIENT LIST shows it: the fields of Redis 8, and Valkey's `capa`.
pub(crate) fn describe(info: &ClientInfo, now_ms: i64) -> String {
    let labels = info.labels().clone();
    let command = match info.command.load(Relaxed) {
        0 => "NULL",
        place => registry::all().get(place - 1).map_or("NULL", |command| command.name.as_str()),
    };
    let [sub, psub, ssub] = info.subscriptions.each_ref().map(|count| count.load(Relaxed));
    let [net_in, net_out, commands] = info.totals.each_ref().map(|count| count.load(Relaxed));
    let (input, output) = (info.input_bytes.load(Relaxed), info.output_bytes.load(Relaxed));
    let seconds = |since_ms: i64| (now_ms - since_ms).max(0) / 1000;
    /// What Redis keeps of a client's output in a buffer, and in each element of the list behind it.
    const CHUNK_BYTES: usize = 16 * 1024;
    let listed = if output > CHUNK_BYTES { output } else { 0 };
    format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={sub} psub={psub} ssub={ssub} multi={} \
         watch={} qbuf={input} qbuf-free={} argv-mem={} multi-mem={} rbs={output} rbp={output} obl={output} oll={} omem={} tot-mem={} \
         events=r cmd={command} user={} redir={} resp={} lib-name={} lib-ver={} io-thread={} tot-net-in={net_in} \
         tot-net-out={net_out} tot-cmds={commands} capa={}",
        info.at.id,
        info.peer.addr,
        info.peer.laddr,
        info.peer.fd,
        labels.name,
        seconds(info.connected_ms),
        seconds(info.active_ms.load(Relaxed)),
        flags(info),
        info.db.load(Relaxed),
        info.queued.load(Relaxed),
        info.watched.load(Relaxed),
        info.input_room.load(Relaxed),
        info.argument_bytes.load(Relaxed),
        info.queued_bytes.load(Relaxed),
        listed.div_ceil(CHUNK_BYTES),
        listed,
        info.memory(),
        labels.user,
        info.redirect.load(Relaxed),
        info.resp.load(Relaxed),
        labels.lib_name,
        labels.lib_version,
        info.at.worker,
        capabilities(info),
    )
}

/// A client's number for CLIENT KILL.
fn id_to_kill(word: &[u8]) -> Result<u64> {
    let id = number::parse_i64(word).filter(|id| *id > 0);
    id.map(|id| id as u64).ok_or(Error::text("ERR client-id should be greater than 0"))
}

/// A client's number for CLIENT LIST; 0 and less are numbers that no client has.
fn id_to_list(word: &[u8]) -> Result<u64> {
    number::parse_i64(word).map(|id| id.max(0) as u64).ok_or(Error::text("ERR Invalid client ID"))
}

/// Reads a filter; numbers of clients as `id` says.
fn parse_filter(ctx: &Ctx, words: &[&[u8]], id: fn(&[u8]) -> Result<u64>) -> Result<Filter> {
    let databases = ctx.worker.settings.databases as i64;
    let id = ctx.worker.settings.dialect.choose(id, filter::positive_id);
    Filter::parse(&Surroundings { users: &ctx.worker.engine.acl, databases, id }, words)
}

fn list(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let filter = parse_filter(ctx, args.from(2), id_to_list)?;
    let now_ms = ctx.worker.now_ms();
    let mut text = String::new();
    for info in ctx.worker.engine.clients.all() {
        let me = filter.skip_me == Some(true) && info.at.id == ctx.session.at.id;
        // One that was killed is gone, even if its thread has yet to notice.
        if !me && !info.killed.load(Relaxed) && filter.matches(&info, now_ms) {
            text.push_str(&describe(&info, now_ms));
            text.push('\n');
        }
    }
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn kill(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let now_ms = ctx.worker.now_ms();
    let mut all = ctx.worker.engine.clients.all();
    all.retain(|info| !info.killed.load(Relaxed));
    let me = ctx.session.at.id;
    if let [addr] = args.from(2) {
        let found = all.iter().find(|info| info.peer.addr.as_bytes() == *addr);
        let info = found.ok_or(Error::text("ERR No such client"))?;
        end(ctx, info);
        reply.ok();
        return Ok(());
    }
    let filter = parse_filter(ctx, args.from(2), id_to_kill)?;
    let skip_me = filter.skip_me.unwrap_or(true);
    let chosen: Vec<&Arc<ClientInfo>> =
        all.iter().filter(|info| !(skip_me && info.at.id == me) && filter.matches(info, now_ms)).collect();
    chosen.iter().for_each(|info| end(ctx, info));
    reply.int(chosen.len() as i64);
    Ok(())
}

/// Closes a client; this one once its reply is sent.
pub(super) fn end(ctx: &mut Ctx, info: &ClientInfo) {
    if info.at == ctx.session.at {
        ctx.session.fate = Fate::CloseAfterWrite;
        return;
    }
    info.killed.store(true, Relaxed);
    let engine = ctx.engine();
    engine.post(ctx.worker.index, info.at.worker, Message::Kill { session: info.at });
}

fn unblock(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let with_error = match args.from(3) {
        [] => false,
        [word] if word.eq_ignore_ascii_case(b"timeout") => false,
        [word] if word.eq_ignore_ascii_case(b"error") => true,
        [_] => return Err(Error::text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
        // As in Valkey; Redis calls it a wrong number of arguments.
        _ => false,
    };
    let id = args.int(2)?;
    let engine = ctx.engine();
    // A client held back by CLIENT PAUSE shows as blocked too, but waits for no key.
    let found = u64::try_from(id).ok().and_then(|id| engine.clients.get(id));
    let found = found.filter(|info| info.blocked.load(Relaxed) && !info.paused.load(Relaxed));
    if let Some(info) = &found {
        engine.post(ctx.worker.index, info.at.worker, Message::Unblock { session: info.at, with_error });
    }
    reply.int(found.is_some().into());
    Ok(())
}

fn pause(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let all = match args.from(3) {
        [] => true,
        [word] if word.eq_ignore_ascii_case(b"all") => true,
        [word] if word.eq_ignore_ascii_case(b"write") => false,
        [_] => return Err(Error::text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(Error::Syntax),
    };
    let ms = number::parse_i64(&args[2]).ok_or(Error::text("ERR timeout is not an integer or out of range"))?;
    if ms < 0 {
        return Err(Error::text("ERR timeout is negative"));
    }
    let now_ms = ctx.worker.now_ms();
    let until_ms = now_ms.checked_add(ms).ok_or(Error::text("ERR timeout is out of range"))?;
    ctx.worker.engine.pause.begin(now_ms, until_ms, all);
    reply.ok();
    Ok(())
}

fn help(_: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    super::help(
        reply,
        "CLIENT",
        &[
            ("CACHING (YES|NO)", "Chooses whether the next command's keys are tracked."),
            ("CAPA <option> [<option> ...]", "Tells what the client can do."),
            ("DURABILITY (ALWAYS|EVERYSEC|NO|DEFAULT)", "Chooses whether this connection's replies wait for the disk."),
            ("GETREDIR", "Tells where invalidation messages go."),
            ("GETNAME", "Tells the name of this connection."),
            ("ID", "Tells the number of this connection."),
            ("IMPORT-SOURCE (ON|OFF)", "Shows expired keys to this connection while the server is in import mode."),
            ("INFO", "Tells about this connection."),
            ("KILL <ip:port>", "Closes the connection from <ip:port>."),
            ("KILL <option> <value> [<option> <value> [...]]", "Closes the connections that all options fit."),
            ("LIST [<option> <value> ...]", "Lists the connections that all options fit."),
            ("NO-EVICT (ON|OFF)", "Spares this connection when memory is short."),
            ("NO-TOUCH (ON|OFF)", "Keeps this connection's reads from counting as uses of keys."),
            ("PAUSE <timeout> [WRITE|ALL]", "Has commands, or only writes, wait for <timeout> milliseconds."),
            ("REPLY (ON|OFF|SKIP)", "Chooses whether replies are sent to this connection."),
            ("SETINFO <option> <value>", "Tells about the client's library: LIB-NAME or LIB-VER."),
            ("SETNAME <name>", "Names this connection."),
            ("TRACKING (ON|OFF) [<option> ...]", "Turns server-assisted caching on or off."),
            ("TRACKINGINFO", "Tells about server-assisted caching."),
            ("UNBLOCK <clientid> [TIMEOUT|ERROR]", "Ends the wait of a blocked client."),
            ("UNPAUSE", "Ends CLIENT PAUSE."),
        ],
    );
    Ok(())
}
