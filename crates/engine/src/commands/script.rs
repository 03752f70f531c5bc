//! EVAL, EVALSHA, their read-only forms, and SCRIPT.

use crate::args::Args;
use crate::command::{Command, Flags, Group, Keys, Reply, Run};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::running::{self, Code, Job, Kind, Outcome};
use crate::scripting::shebang;
use crate::scripts::{self, LastScript, ScriptCache, Sha};
use kelda_store::txn::Txn;
use std::rc::Rc;

const BASE: Command = Command { group: Group::Scripting, since: "2.6.0", ..Command::BASE };
const EVAL: Flags = Flags::NOSCRIPT.and(Flags::STALE).and(Flags::SKIP_MONITOR).and(Flags::NO_MANDATORY_KEYS);

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "EVAL",
        arity: -3,
        keys: &[Keys::numkeys(2).update_read()],
        flags: EVAL.and(Flags::MAY_REPLICATE),
        syntax: "script numkeys [key [key ...]] [arg [arg ...]]",
        summary: "Runs a Lua script.",
        complexity: "That of the script",
        run: Run::Script(|ctx, txn, args, reply| eval(ctx, txn, args, reply, false)),
        ..BASE
    },
    Command {
        name: "EVAL_RO",
        arity: -3,
        keys: &[Keys::numkeys(2).read()],
        flags: EVAL.and(Flags::READONLY),
        since: "7.0.0",
        syntax: "script numkeys [key [key ...]] [arg [arg ...]]",
        summary: "Runs a Lua script that may not write.",
        complexity: "That of the script",
        run: Run::Script(|ctx, txn, args, reply| eval(ctx, txn, args, reply, true)),
        ..BASE
    },
    Command {
        name: "EVALSHA",
        arity: -3,
        keys: &[Keys::numkeys(2).update_read()],
        flags: EVAL.and(Flags::MAY_REPLICATE),
        syntax: "sha1 numkeys [key [key ...]] [arg [arg ...]]",
        summary: "Runs a cached Lua script by its SHA-1.",
        complexity: "That of the script",
        run: Run::Script(|ctx, txn, args, reply| evalsha(ctx, txn, args, reply, false)),
        ..BASE
    },
    Command {
        name: "EVALSHA_RO",
        arity: -3,
        keys: &[Keys::numkeys(2).read()],
        flags: EVAL.and(Flags::READONLY),
        since: "7.0.0",
        syntax: "sha1 numkeys [key [key ...]] [arg [arg ...]]",
        summary: "Runs a cached Lua script, which may not write, by its SHA-1.",
        complexity: "That of the script",
        run: Run::Script(|ctx, txn, args, reply| evalsha(ctx, txn, args, reply, true)),
        ..BASE
    },
    Command {
        name: "SCRIPT",
        arity: -2,
        summary: "Container of commands about scripts.",
        complexity: "That of the subcommand",
        run: Run::Group(&[
            Command {
                name: "LOAD",
                arity: 3,
                flags: Flags::NOSCRIPT.and(Flags::STALE),
                syntax: "script",
                summary: "Puts a script into the cache.",
                complexity: "O(N) in the script's length",
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                run: Run::Session(load),
                ..BASE
            },
            Command {
                name: "EXISTS",
                arity: -3,
                flags: Flags::NOSCRIPT,
                syntax: "sha1 [sha1 ...]",
                summary: "Tells which scripts are in the cache.",
                complexity: "O(N) in the number of scripts asked for",
                tips: &["request_policy:all_shards", "response_policy:agg_logical_and"],
                run: Run::Session(exists),
                ..BASE
            },
            Command {
                name: "FLUSH",
                arity: -2,
                flags: Flags::NOSCRIPT,
                syntax: "flush-type:[ASYNC | SYNC]",
                summary: "Empties the cache of scripts.",
                complexity: "O(N) in the number of scripts",
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                run: Run::Session(flush),
                ..BASE
            },
            Command {
                name: "KILL",
                arity: 2,
                flags: Flags::NOSCRIPT.and(Flags::ALLOW_BUSY),
                summary: "Ends the running script, if it has not written yet.",
                tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
                run: Run::Session(|ctx, _, reply| kill(ctx, Kind::Script, reply)),
                ..BASE
            },
            Command {
                name: "SHOW",
                arity: 3,
                flags: Flags::NOSCRIPT.and(Flags::STALE),
                since: "8.0.0",
                syntax: "sha1",
                summary: "Shows a cached script.",
                run: Run::Session(show),
                ..BASE
            },
            Command {
                name: "DEBUG",
                arity: 3,
                flags: Flags::NOSCRIPT,
                since: "3.2.0",
                syntax: "mode:<YES | SYNC | NO>",
                summary: "Chooses the debugging mode of scripts; there is no debugger here, so only NO is possible.",
                run: Run::Session(debug),
                ..BASE
            },
            Command {
                name: "HELP",
                arity: 2,
                flags: Flags::LOADING.and(Flags::STALE),
                since: "5.0.0",
                summary: "Explains the subcommands.",
                run: Run::Session(|_, _, reply| {
                    super::help(
                        reply,
                        "SCRIPT",
                        &[
                            ("DEBUG (YES|SYNC|NO)", "Chooses the debugging mode of the scripts that follow."),
                            ("EXISTS <sha1> [<sha1> ...]", "Tells which scripts are in the cache."),
                            ("FLUSH [ASYNC|SYNC]", "Empties the cache of scripts."),
                            ("KILL", "Ends the running script, if it has not written yet."),
                            ("LOAD <script>", "Puts a script into the cache without running it."),
                            ("SHOW <sha1>", "Shows a script of the cache."),
                        ],
                    );
                    Ok(())
                }),
                ..BASE
            },
        ]),
        ..BASE
    },
];

type Words<'a> = &'a [&'a [u8]];

/// The keys and arguments after `numkeys`; `not_a_number` is the error if that is none.
pub(super) fn split_after_numkeys<'a>(args: &Args<'a>, not_a_number: &'static str) -> Result<(Words<'a>, Words<'a>)> {
    let count = args.int(2).map_err(|_| Error::text(not_a_number))?;
    let rest = args.from(3);
    if count > rest.len() as i64 {
        return Err(Error::text("ERR Number of keys can't be greater than number of args"));
    }
    let count = usize::try_from(count).map_err(|_| Error::text("ERR Number of keys can't be negative"))?;
    Ok(rest.split_at(count))
}

fn eval(ctx: &mut Ctx, txn: &mut Txn, args: &Args, reply: &mut Reply, read_only: bool) -> Result {
    let body = &args[1];
    let script = match last(ctx).filter(|last| *last.body == *body) {
        Some(last) => Asked::Last(last),
        None => Asked::Other(ScriptCache::sha(body), body),
    };
    run(ctx, txn, args, reply, script, read_only)
}

fn evalsha(ctx: &mut Ctx, txn: &mut Txn, args: &Args, reply: &mut Reply, read_only: bool) -> Result {
    if let Some(last) = last(ctx).filter(|last| last.sha == args[1]) {
        return run(ctx, txn, args, reply, Asked::Last(last), read_only);
    }
    let Some((sha, body)) = ctx.worker.engine.scripts.get(&args[1]) else {
        // What cannot be a script's name is none; of what can, the keys are counted first.
        if args[1].len() == 40 {
            split_after_numkeys(args, "ERR value is not an integer or out of range")?;
        }
        return Err(Error::text("NOSCRIPT No matching script. Please use EVAL."));
    };
    run(ctx, txn, args, reply, Asked::Other(sha, &body), read_only)
}

/// Which script is to run.
enum Asked<'a> {
    /// The one that this thread ran last.
    Last(Rc<LastScript>),
    /// Another one.
    Other(Sha, &'a [u8]),
}

/// The script that this thread ran last, if it is still in the cache.
fn last(ctx: &Ctx) -> Option<Rc<LastScript>> {
    let losses = ctx.worker.engine.scripts.losses();
    ctx.worker.last_script.clone().filter(|last| last.losses == losses)
}

fn run(ctx: &mut Ctx, txn: &mut Txn, args: &Args, reply: &mut Reply, script: Asked, read_only: bool) -> Result {
    let (keys, argv) = split_after_numkeys(args, "ERR value is not an integer or out of range")?;
    let script = match script {
        Asked::Last(script) => script,
        Asked::Other(sha, body) => {
            let (flags, _) = shebang::parse(body).map_err(Error::owned)?;
            running::prepare(ctx, scripts::text(&sha), body)?;
            let scripts = &ctx.worker.engine.scripts;
            let before = ctx.worker.last_script.as_ref().map(|last| &last.sha);
            let losses = scripts.losses();
            let (body, gone) = scripts.note_use(sha, body, before);
            ctx.worker.stats().evicted_scripts.add(gone);
            let script = Rc::new(LastScript { sha, name: scripts::text(&sha).into(), body, flags, losses });
            ctx.worker.last_script = Some(script.clone());
            script
        }
    };
    // Another one was prepared before it went into the cache: nothing bad gets there.
    running::prepare(ctx, &script.name, &script.body)?;
    let code = Code::Script(&script.name);
    running::run(ctx, txn, Job { code, flags: script.flags, keys, argv, read_only, words: args.words() }, reply)
}

fn load(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let sha = ScriptCache::sha(&args[2]);
    running::prepare(ctx, scripts::text(&sha), &args[2])?;
    ctx.worker.engine.scripts.keep(sha, &args[2]);
    reply.bulk(&sha);
    Ok(())
}

fn exists(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let shas = args.from(2);
    reply.array(shas.len());
    for sha in shas {
        reply.int(i64::from(ctx.worker.engine.scripts.get(sha).is_some()));
    }
    Ok(())
}

fn flush(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    if args.len() > 3 || args.len() == 3 && !args.is(2, "SYNC") && !args.is(2, "ASYNC") {
        return Err(Error::text("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
    }
    ctx.worker.engine.scripts.flush();
    running::follow_flush(ctx);
    reply.ok();
    Ok(())
}

/// SCRIPT KILL and FUNCTION KILL.
pub(super) fn kill(ctx: &mut Ctx, kind: Kind, reply: &mut Reply) -> Result {
    match ctx.worker.engine.running.kill(kind) {
        Outcome::Killed => reply.ok(),
        Outcome::NothingRuns => return Err(Error::text("NOTBUSY No scripts in execution right now.")),
        Outcome::OtherKind => return Err(Error::text(kind.other().busy())),
        Outcome::HasWritten => {
            return Err(Error::text(
                "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the \
                 script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
            ));
        }
    }
    Ok(())
}

fn show(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    match ctx.worker.engine.scripts.get(&args[2]) {
        Some((_, body)) => reply.bulk(&body),
        None => return Err(Error::text("NOSCRIPT No matching script. Please use EVAL.")),
    }
    Ok(())
}

fn debug(_: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    if args.is(2, "NO") {
        reply.ok();
        return Ok(());
    }
    if args.is(2, "YES") || args.is(2, "SYNC") {
        return Err(Error::text("ERR The script debugger is not supported"));
    }
    Err(Error::text("ERR Use SCRIPT DEBUG YES/SYNC/NO"))
}
