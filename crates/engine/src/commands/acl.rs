//! ACL: the categories of commands, and the one user that there is so far.

use crate::args::Args;
use crate::command::{Command, Flags, Group, Reply, Run};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::{exec, registry};

const BASE: Command = Command { group: Group::Server, since: "6.0.0", ..Command::BASE };
const ANYTIME: Flags = Flags::LOADING.and(Flags::STALE);
const COMMON: Flags = ANYTIME.and(Flags::NOSCRIPT);
const ADMIN: Flags = COMMON.and(Flags::ADMIN);
const ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

type RunFn = fn(&mut Ctx, &Args, &mut Reply) -> Result;

const fn sub(
    name: &'static str,
    arity: i32,
    flags: Flags,
    syntax: &'static str,
    summary: &'static str,
    run: RunFn,
) -> Command {
    Command { name, arity, flags, syntax, summary, run: Run::Session(run), ..BASE }
}

/// Every category, in the order in which Redis lists them.
const CATEGORIES: &[&str] = &[
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

const ONE_USER: Error = Error::text("ERR this server has no users besides 'default', whose password is 'requirepass'");

/// The family.
pub static COMMANDS: &[Command] = &[Command {
    name: "ACL",
    arity: -2,
    summary: "Container of commands about users and what they may do.",
    complexity: "That of the subcommand",
    run: Run::Group(&[
        sub("WHOAMI", 2, COMMON, "", "Tells the connection's user.", |ctx, _, reply| {
            reply.bulk(ctx.session.info.labels().user.as_bytes());
            Ok(())
        }),
        sub("CAT", -2, COMMON, "[category]", "Lists the categories of commands, or the commands of one.", categories),
        sub("USERS", 2, ADMIN, "", "Lists the names of the users.", |_, _, reply| {
            reply.array(1);
            reply.bulk(b"default");
            Ok(())
        }),
        sub("LIST", 2, ADMIN, "", "Lists the users with their rules.", |ctx, _, reply| {
            let password = match password_hash(ctx) {
                Some(hash) => format!("#{hash}"),
                None => "nopass".into(),
            };
            reply.array(1);
            reply.bulk(format!("user default on {password} ~* &* +@all").as_bytes());
            Ok(())
        }),
        sub("GETUSER", 3, ADMIN, "username", "Describes a user.", get_user),
        Command {
            tips: ALL_NODES,
            ..sub("SETUSER", -3, ADMIN, "username [rule [rule ...]]", "Makes or changes a user.", |_, _, _| {
                Err(ONE_USER)
            })
        },
        Command {
            tips: ALL_NODES,
            ..sub("DELUSER", -3, ADMIN, "username [username ...]", "Removes users.", |_, args, reply| {
                if args.from(2).contains(&&b"default"[..]) {
                    return Err(Error::text("ERR The 'default' user cannot be removed"));
                }
                reply.int(0);
                Ok(())
            })
        },
        Command {
            since: "7.0.0",
            ..sub(
                "DRYRUN",
                -4,
                ADMIN,
                "username command [arg [arg ...]]",
                "Tells whether a user may run a command.",
                dry_run,
            )
        },
        sub("GENPASS", -2, COMMON, "[bits]", "Makes up a password.", generate_password),
        sub("LOG", -2, ADMIN, "operation:[count | RESET]", "Shows what was refused to users.", |_, args, reply| {
            match args.len() {
                2 => reply.array(0),
                3 if args.is(2, "reset") => reply.ok(),
                3 => {
                    args.int(2)?;
                    reply.array(0);
                }
                _ => return Err(Error::Arity("acl|log".into())),
            }
            Ok(())
        }),
        sub("LOAD", 2, ADMIN, "", "Reads the users from their file.", |_, _, _| Err(NO_FILE)),
        Command {
            tips: ALL_NODES,
            ..sub("SAVE", 2, ADMIN, "", "Writes the users to their file.", |_, _, _| Err(NO_FILE))
        },
        sub("HELP", 2, ANYTIME, "", "Explains the subcommands.", |_, _, reply| {
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

/// SHA-256 of the password, in hexadecimal, if there is one.
fn password_hash(ctx: &Ctx) -> Option<String> {
    let password = &ctx.worker.settings.requirepass;
    (!password.is_empty()).then(|| crate::sha256::hex(password.as_bytes()))
}

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
        _ => return Err(Error::Arity("acl|cat".into())),
    }
    Ok(())
}

fn get_user(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    if &args[2] != b"default" {
        reply.null_array();
        return Ok(());
    }
    let hash = password_hash(ctx);
    reply.map(6);
    reply.bulk(b"flags");
    reply.set(2 - usize::from(hash.is_some()));
    reply.bulk(b"on");
    if hash.is_none() {
        reply.bulk(b"nopass");
    }
    reply.bulk(b"passwords");
    reply.array(usize::from(hash.is_some()));
    hash.iter().for_each(|hash| reply.bulk(hash.as_bytes()));
    for (name, rules) in [("commands", "+@all"), ("keys", "~*"), ("channels", "&*")] {
        reply.bulk(name.as_bytes());
        reply.bulk(rules.as_bytes());
    }
    reply.bulk(b"selectors");
    reply.array(0);
    Ok(())
}

fn dry_run(_: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    if &args[2] != b"default" {
        return Err(Error::owned(format!("ERR User '{}' not found", String::from_utf8_lossy(&args[2]))));
    }
    let words = args.from(3);
    let Ok(command) = exec::resolve(words) else {
        return Err(Error::owned(format!("ERR Command '{}' not found", String::from_utf8_lossy(&args[3]))));
    };
    if !command.command.takes(words.len()) {
        return Err(Error::Arity(command.name.clone()));
    }
    reply.ok();
    Ok(())
}

fn generate_password(_: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let bits = match args.from(2) {
        [] => 256,
        [_] => args.int(2)?,
        _ => return Err(Error::Arity("acl|genpass".into())),
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
