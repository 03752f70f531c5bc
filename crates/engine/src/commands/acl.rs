//! ACL: users and what they may do. What that means is in [`crate::acl`].

use super::client;
use crate::acl::log::Entry;
use crate::acl::rules::join_selectors;
use crate::acl::user::{Reason, Selector, hex};
use crate::acl::{self, Change, file};
use crate::args::Args;
use crate::command::{Command, Flags, Group, Reply, Run};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::exec;
use crate::registry::{self, CATEGORIES};
use kelda_resp::number;

const BASE: Command = Command { group: Group::Server, since: "6.0.0", ..Command::BASE };
const ANYTIME: Flags = Flags::LOADING.and(Flags::STALE);
const COMMON: Flags = ANYTIME.and(Flags::NOSCRIPT);
const ADMIN: Flags = COMMON.and(Flags::ADMIN);
const ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

/// The family.
pub static COMMANDS: &[Command] = &[Command {
    name: "ACL",
    arity: -2,
    summary: "Container of commands about users and what they may do.",
    complexity: "That of the subcommand",
    run: Run::Group(&[
        BASE.session("WHOAMI", 2, COMMON, "6.0.0", "", "Tells the connection's user.", |ctx, _, reply| {
            reply.bulk(&ctx.session.user.name);
            Ok(())
        }),
        BASE.session(
            "CAT",
            -2,
            COMMON,
            "6.0.0",
            "[category]",
            "Lists the categories of commands, or the commands of one.",
            categories,
        ),
        BASE.session("USERS", 2, ADMIN, "6.0.0", "", "Lists the names of the users.", |ctx, _, reply| {
            let users = ctx.worker.engine.acl.all();
            reply.array(users.len());
            users.keys().for_each(|name| reply.bulk(name));
            Ok(())
        }),
        BASE.session("LIST", 2, ADMIN, "6.0.0", "", "Lists the users with their rules.", |ctx, _, reply| {
            let users = ctx.worker.engine.acl.all();
            reply.array(users.len());
            users.values().for_each(|user| reply.bulk(&file::line(user)));
            Ok(())
        }),
        BASE.session("GETUSER", 3, ADMIN, "6.0.0", "username", "Describes a user.", get_user),
        Command {
            tips: ALL_NODES,
            complexity: "O(N) in the number of rules",
            ..BASE.session(
                "SETUSER",
                -3,
                ADMIN,
                "6.0.0",
                "username [rule [rule ...]]",
                "Makes or changes a user.",
                set_user,
            )
        },
        Command {
            tips: ALL_NODES,
            ..BASE.session("DELUSER", -3, ADMIN, "6.0.0", "username [username ...]", "Removes users.", remove_users)
        },
        Command {
            since: "7.0.0",
            ..BASE.session(
                "DRYRUN",
                -4,
                ADMIN,
                "6.0.0",
                "username command [arg [arg ...]]",
                "Tells whether a user may run a command.",
                dry_run,
            )
        },
        BASE.session("GENPASS", -2, COMMON, "6.0.0", "[bits]", "Makes up a password.", generate_password),
        BASE.session("LOG", -2, ADMIN, "6.0.0", "operation:[count | RESET]", "Shows what was refused to users.", log),
        BASE.session("LOAD", 2, ADMIN, "6.0.0", "", "Reads the users from their file.", load),
        Command {
            tips: ALL_NODES,
            ..BASE.session("SAVE", 2, ADMIN, "6.0.0", "", "Writes the users to their file.", save)
        },
        BASE.session("HELP", 2, ANYTIME, "6.0.0", "", "Explains the subcommands.", |_, _, reply| {
            super::help(
                reply,
                "ACL",
                &[
                    ("CAT [<category>]", "Lists the categories of commands, or the commands of one."),
                    ("DELUSER <username> [<username> ...]", "Removes users."),
                    ("DRYRUN <username> <command> [<arg> ...]", "Tells whether a user may run a command."),
                    ("GETUSER <username>", "Describes a user."),
                    ("GENPASS [<bits>]", "Makes up a password, of 256 bits by default."),
                    ("LIST", "Lists the users with their rules."),
                    ("LOAD", "Reads the users from their file."),
                    ("LOG [<count> | RESET]", "Shows what was refused to users."),
                    ("SAVE", "Writes the users to their file."),
                    ("SETUSER <username> <rule> [<rule> ...]", "Makes or changes a user."),
                    ("USERS", "Lists the names of the users."),
                    ("WHOAMI", "Tells the connection's user."),
                ],
            );
            Ok(())
        }),
    ]),
    ..BASE
}];

const NO_FILE: Error = Error::text(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command \
     and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis \
     configuration.",
);

fn categories(_: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    match args.from(2) {
        [] => {
            reply.array(CATEGORIES.len());
            CATEGORIES.iter().for_each(|name| reply.bulk(name.as_bytes()));
        }
        [word] => {
            let Some(wanted) = CATEGORIES.iter().find(|name| word.eq_ignore_ascii_case(name.as_bytes())) else {
                return Err(Error::owned(format!("ERR Unknown category '{}'", String::from_utf8_lossy(word))));
            };
            let commands: Vec<_> =
                registry::all().iter().filter(|command| command.categories().contains(wanted)).collect();
            reply.array(commands.len());
            commands.iter().for_each(|command| reply.bulk(command.name.as_bytes()));
        }
        _ => return Err(wrong_number(args)),
    }
    Ok(())
}

fn wrong_number(args: &Args) -> Error {
    let name = String::from_utf8_lossy(&args[1]);
    Error::owned(format!("ERR unknown subcommand or wrong number of arguments for '{name}'. Try ACL HELP."))
}

fn get_user(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let Some(user) = ctx.worker.engine.acl.get(&args[2]) else {
        reply.null();
        return Ok(());
    };
    let restricted_databases = user.root.databases.is_some();
    reply.map(6 + usize::from(restricted_databases));
    reply.bulk(b"flags");
    let flags = user.flags();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    reply.array(user.passwords.len());
    user.passwords.iter().for_each(|hash| reply.bulk(hex(hash).as_bytes()));
    describe(&user.root, reply);
    reply.bulk(b"selectors");
    reply.array(user.selectors.len());
    for selector in &user.selectors {
        reply.map(3 + usize::from(selector.databases.is_some()));
        describe(selector, reply);
    }
    Ok(())
}

/// The fields of a selector.
fn describe(selector: &Selector, reply: &mut Reply) {
    let mut field = |name: &str, rules: &[u8]| {
        reply.bulk(name.as_bytes());
        reply.bulk(rules);
    };
    field("commands", selector.commands.text().as_bytes());
    field("keys", &selector.key_rules().join(&b' '));
    field("channels", &selector.channel_rules().join(&b' '));
    if let Some(rule) = selector.database_rule() {
        field("databases", rule.as_bytes());
    }
}

/// Closes the sessions that may no longer be. This one goes on with its user as it is now, or ends after its reply.
fn follow(ctx: &mut Ctx, changes: &[Change]) {
    let engine = ctx.engine();
    for info in changes.iter().flat_map(|change| acl::to_end(&engine, change)) {
        client::end(ctx, &info);
    }
    ctx.worker.follow_users(ctx.session);
}

fn set_user(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    if !file::is_name(&args[2]) {
        return Err(Error::text("ERR Usernames can't contain spaces or null characters"));
    }
    let shown = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
    let rules = join_selectors(args.from(3)).map_err(|word| {
        Error::owned(format!("ERR Unmatched parenthesis in acl selector starting at '{}'.", shown(&word)))
    })?;
    let all_channels = ctx.worker.settings.acl_pubsub_default_allchannels;
    let change = ctx.worker.engine.acl.set(&args[2], &rules, all_channels).map_err(|(rule, error)| {
        Error::owned(format!("ERR Error in ACL SETUSER modifier '{}': {error}", shown(&rule)))
    })?;
    follow(ctx, &[change]);
    reply.ok();
    Ok(())
}

fn remove_users(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    if args.from(2).contains(&acl::DEFAULT) {
        return Err(Error::text("ERR The 'default' user cannot be removed"));
    }
    let engine = ctx.engine();
    let changes: Vec<Change> = args.from(2).iter().filter_map(|name| engine.acl.remove(name)).collect();
    follow(ctx, &changes);
    reply.int(changes.len() as i64);
    Ok(())
}

fn dry_run(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let shown = |at: usize| String::from_utf8_lossy(&args[at]).into_owned();
    let Some(user) = ctx.worker.engine.acl.get(&args[2]) else {
        return Err(Error::owned(format!("ERR User '{}' not found", shown(2))));
    };
    let words = args.from(3);
    let command = match exec::resolve(&ctx.worker.engine.names, words) {
        Ok(command) => command,
        Err(error @ Error::Arity(_)) => return Err(error),
        Err(_) => return Err(Error::owned(format!("ERR Command '{}' not found", shown(3)))),
    };
    if !command.command.takes(words.len()) {
        return Err(Error::Arity(command.name.clone()));
    }
    let Err(denied) = user.check(command, words, ctx.session.db, ctx.worker.engine.keyspace.databases()) else {
        reply.ok();
        return Ok(());
    };
    let (name, object) = (shown(2), shown(3 + denied.at));
    let text = match denied.reason {
        Reason::Command => acl::text(&user, command, denied.reason),
        Reason::Key => format!("User {name} has no permissions to access the '{object}' key"),
        Reason::Channel => format!("User {name} has no permissions to access the '{object}' channel"),
        Reason::Database => format!("User {name} has no permissions to access database {object}"),
    };
    reply.bulk(text.as_bytes());
    Ok(())
}

fn log(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    /// Entries shown where no number is given.
    const SHOWN: usize = 10;
    let engine = ctx.engine();
    let count = match args.from(2) {
        [] => SHOWN,
        [word] if word.eq_ignore_ascii_case(b"reset") => {
            engine.acl.log.reset();
            reply.ok();
            return Ok(());
        }
        [word] => {
            let count = number::parse_i64(word).ok_or(Error::NotInteger)?;
            usize::try_from(count).unwrap_or(0)
        }
        _ => return Err(wrong_number(args)),
    };
    let entries = engine.acl.log.latest(count);
    let now_ms = ctx.worker.now_ms();
    reply.array(entries.len());
    for Entry { event, count, id, created_ms, updated_ms } in &entries {
        reply.map(10);
        reply.bulk(b"count");
        reply.int(*count as i64);
        let texts = [
            ("reason", event.refusal.word().as_bytes()),
            ("context", event.context.word().as_bytes()),
            ("object", &event.object),
            ("username", &event.user),
        ];
        for (name, text) in texts {
            reply.bulk(name.as_bytes());
            reply.bulk(text);
        }
        reply.bulk(b"age-seconds");
        reply.double((now_ms - updated_ms) as f64 / 1000.0);
        reply.bulk(b"client-info");
        reply.bulk(event.client.as_bytes());
        for (name, number) in
            [("entry-id", *id as i64), ("timestamp-created", *created_ms), ("timestamp-last-updated", *updated_ms)]
        {
            reply.bulk(name.as_bytes());
            reply.int(number);
        }
    }
    Ok(())
}

fn load(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    let engine = ctx.engine();
    let settings = ctx.worker.settings.clone();
    if settings.aclfile.is_empty() {
        return Err(NO_FILE);
    }
    let users = engine.acl.read_file(&settings, |path| engine.platform.read_file(path));
    let users = users.map_err(|error| Error::owned(format!("ERR {error}")))?;
    let changes = engine.acl.replace(users);
    follow(ctx, &changes);
    reply.ok();
    Ok(())
}

fn save(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    let engine = ctx.engine();
    let name = &ctx.worker.settings.aclfile;
    if name.is_empty() {
        return Err(NO_FILE);
    }
    let text = file::print(&engine.acl.all());
    engine.platform.replace_file(name, &mut |file| file.write_all(&text)).map_err(|error| {
        engine.platform.log(3, &format!("Writing ACL file {name}: {}", acl::reason(&error)));
        Error::text("ERR There was an error trying to save the ACLs. Please check the server logs for more information")
    })?;
    reply.ok();
    Ok(())
}

fn generate_password(_: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let bits = match args.from(2) {
        [] => 256,
        [_] => args.int(2)?,
        _ => return Err(wrong_number(args)),
    };
    if !(1..=4096).contains(&bits) {
        return Err(Error::text(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
        ));
    }
    let digits = (bits as usize).div_ceil(4);
    let mut bytes = vec![0; digits.div_ceil(2)];
    random(&mut bytes).map_err(|error| Error::owned(format!("ERR no random numbers: {error}")))?;
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    reply.bulk(text.as_bytes());
    Ok(())
}

/// Random bytes fit for secrets, from the operating system.
fn random(bytes: &mut [u8]) -> std::io::Result<()> {
    use std::io::Read;
    std::fs::File::open("/dev/urandom")?.read_exact(bytes)
}
