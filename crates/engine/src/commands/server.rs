//! The server as a whole: INFO, CONFIG, TIME, SHUTDOWN, saving, and the answers of a server without modules or cluster.

use crate::args::Args;
use crate::command::{Command, Flags, Group, Reply};
use crate::ctx::Ctx;
use crate::durability::Health;
use crate::error::{Error, Result};
use crate::info;
use crate::monitor;
use crate::rdb;
use crate::saving::{self, Kind};
use crate::shutdown::Outcome;
use crate::version::REDIS_VERSION;
use crate::worker::Fate;
use kelda_store::shard::ShardSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

const BASE: Command = Command { group: Group::Server, ..Command::BASE };
const ANYTIME: Flags = Flags::LOADING.and(Flags::STALE);
const ADMIN: Flags = ANYTIME.and(Flags::ADMIN).and(Flags::NOSCRIPT);
const OFFLINE: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::NO_ASYNC_LOADING);
const MODULES: Flags = OFFLINE.and(Flags::PROTECTED);

const ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

/// The family.
pub static COMMANDS: &[Command] = &[
    BASE.session(
        "MONITOR",
        1,
        ADMIN,
        "1.0.0",
        "",
        "Shows every command that the server runs, as it runs.",
        |ctx, _, reply| {
            if ctx.txn.is_some() {
                return Err(Error::text("ERR MONITOR isn't allowed for DENY BLOCKING client"));
            }
            // As in Redis, a second one is not even answered.
            if !ctx.session.monitors {
                monitor::start(ctx.worker, ctx.session);
                reply.ok();
            }
            Ok(())
        },
    ),
    Command {
        // It counts the keys.
        whole_keyspace: true,
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        ..BASE.session(
            "INFO",
            -1,
            ANYTIME.and(Flags::DANGEROUS),
            "1.0.0",
            "[section [section ...]]",
            "Tells figures about the server.",
            |ctx, args, reply| {
                let text = info::text(ctx, args.from(1))?;
                reply.verbatim("txt", text.as_bytes());
                Ok(())
            },
        )
    },
    BASE.container(
        "CONFIG",
        "2.0.0",
        "Container of commands about the configuration.",
        &[
            Command {
                complexity: "O(N) in the number of directives",
                ..BASE.session(
                    "GET",
                    -3,
                    ADMIN,
                    "2.0.0",
                    "parameter [parameter ...]",
                    "Tells the values of directives.",
                    config_get,
                )
            },
            Command {
                complexity: "O(N) in the number of directives",
                tips: ALL_NODES,
                ..BASE.session(
                    "SET",
                    -4,
                    ADMIN,
                    "2.0.0",
                    "parameter value [parameter value ...]",
                    "Changes directives: all of them or none.",
                    config_set,
                )
            },
            Command {
                tips: ALL_NODES,
                ..BASE.session(
                    "RESETSTAT",
                    2,
                    ADMIN,
                    "2.0.0",
                    "",
                    "Sets the figures of INFO that count back to zero.",
                    |ctx, _, reply| {
                        let engine = ctx.engine();
                        engine.stats.iter().for_each(|stats| stats.reset());
                        engine.errors.lock().unwrap_or_else(PoisonError::into_inner).clear();
                        engine.replication.counts.iter().for_each(|count| count.store(0, Relaxed));
                        reply.ok();
                        Ok(())
                    },
                )
            },
            Command {
                tips: ALL_NODES,
                ..BASE.session(
                    "REWRITE",
                    2,
                    ADMIN,
                    "2.8.0",
                    "",
                    "Writes the configuration to its file.",
                    |ctx, _, reply| rewrite_config(ctx, false, reply),
                )
            },
            BASE.session("HELP", 2, ANYTIME, "5.0.0", "", "Explains the subcommands.", |_, _, reply| {
                super::help(
                    reply,
                    "CONFIG",
                    &[
                        ("GET <pattern> [<pattern> ...]", "Tells the directives that match, and their values."),
                        (
                            "SET <directive> <value> [<directive> <value> ...]",
                            "Changes directives: all of them or none.",
                        ),
                        ("RESETSTAT", "Sets the figures of INFO that count back to zero."),
                        ("REWRITE", "Writes the configuration to its file."),
                    ],
                );
                Ok(())
            }),
        ],
    ),
    Command {
        tips: &["nondeterministic_output"],
        ..BASE.session("TIME", 1, ANYTIME.and(Flags::FAST), "2.6.0", "", "Tells the time.", |ctx, _, reply| {
            let now_us = match &ctx.txn {
                // Time stands still while a script runs.
                Some(txn) if txn.cx.env.scripted => txn.now() * 1000,
                _ => ctx.worker.engine.clock.unix_us(),
            };
            reply.array(2);
            reply.bulk_int(now_us.div_euclid(1_000_000));
            reply.bulk_int(now_us.rem_euclid(1_000_000));
            Ok(())
        })
    },
    Command {
        complexity: "O(1), as nothing is saved",
        ..BASE.session(
            "SHUTDOWN",
            -1,
            ADMIN.and(Flags::ALLOW_BUSY).and(Flags::NO_MULTI),
            "1.0.0",
            "save-selector:[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
            "Ends the server.",
            shutdown,
        )
    },
    Command {
        tips: &["nondeterministic_output"],
        ..BASE.session(
            "LASTSAVE",
            1,
            ANYTIME.and(Flags::FAST).and(Flags::ADMIN_CATEGORY),
            "1.0.0",
            "",
            "Tells when data was last saved.",
            |ctx, _, reply| {
                reply.int(ctx.worker.engine.last_save.load(Relaxed));
                Ok(())
            },
        )
    },
    BASE.session("SAVE", 1, OFFLINE.and(Flags::NO_MULTI), "1.0.0", "", "Saves a snapshot.", save),
    BASE.session(
        "BGSAVE",
        -1,
        OFFLINE,
        "1.0.0",
        "operation:[SCHEDULE | CANCEL]",
        "Saves a snapshot in the background.",
        bgsave,
    ),
    BASE.session("BGREWRITEAOF", 1, OFFLINE, "1.0.0", "", "Rewrites the log in the background.", |ctx, _, reply| {
        let inside = ctx.txn.is_some();
        reply.status(ctx.worker.engine.saves.rewrite(&ctx.worker.engine, inside)?);
        Ok(())
    }),
    BASE.session(
        "LOLWUT",
        -1,
        Flags::READONLY.and(Flags::FAST),
        "5.0.0",
        "[VERSION version]",
        "Shows the version, for fun.",
        |_, args, reply| {
            if args.is(1, "version") && args.len() > 2 {
                for index in 2..args.len() {
                    args.int(index)?;
                }
            }
            reply.verbatim("txt", format!("Redis ver. {REDIS_VERSION}\n").as_bytes());
            Ok(())
        },
    ),
    BASE.container(
        "MODULE",
        "4.0.0",
        "Container of commands about modules.",
        &[
            Command {
                tips: &["nondeterministic_output_order"],
                ..BASE.session(
                    "LIST",
                    2,
                    Flags::ADMIN.and(Flags::NOSCRIPT),
                    "4.0.0",
                    "",
                    "Lists modules: there are none.",
                    |_, _, reply| {
                        reply.array(0);
                        Ok(())
                    },
                )
            },
            BASE.session("LOAD", -3, MODULES, "4.0.0", "path [arg [arg ...]]", "Loads a module.", no_modules),
            BASE.session(
                "LOADEX",
                -3,
                MODULES,
                "7.0.0",
                "path configs:[CONFIG name value [CONFIG name value ...]] [ARGS args [args ...]]",
                "Loads a module with settings.",
                no_modules,
            ),
            BASE.session("UNLOAD", 3, MODULES, "4.0.0", "name", "Unloads a module.", no_modules),
            BASE.session("HELP", 2, ANYTIME, "5.0.0", "", "Explains the subcommands.", |_, _, reply| {
                super::help(reply, "MODULE", &[("LIST", "Lists modules: there are none, and none can be loaded.")]);
                Ok(())
            }),
        ],
    ),
    Command {
        group: Group::Cluster,
        ..BASE.container(
            "CLUSTER",
            "3.0.0",
            "Container of commands about a cluster.",
            &[
                cluster("COUNTKEYSINSLOT", 3, Flags::STALE, "3.0.0", "slot", "Counts the keys of a hash slot."),
                Command {
                    tips: &["nondeterministic_output"],
                    ..cluster("GETKEYSINSLOT", 4, Flags::STALE, "3.0.0", "slot count", "Lists keys of a hash slot.")
                },
                Command {
                    tips: &["nondeterministic_output"],
                    ..cluster("INFO", 2, ANYTIME, "3.0.0", "", "Tells the state of the cluster.")
                },
                cluster("KEYSLOT", 3, Flags::STALE, "3.0.0", "key/string", "Tells the hash slot of a key."),
                Command {
                    tips: &["nondeterministic_output"],
                    ..cluster("LINKS", 2, Flags::STALE, "7.0.0", "", "Lists the links between nodes.")
                },
                cluster("MEET", -4, OFFLINE_NODE, "3.0.0", "ip port [cluster-bus-port/integer]", "Joins a node."),
                cluster("MYID", 2, ANYTIME, "3.0.0", "", "Tells the node's id."),
                Command {
                    tips: &["nondeterministic_output"],
                    ..cluster("MYSHARDID", 2, ANYTIME, "7.2.0", "", "Tells the shard's id.")
                },
                Command {
                    tips: &["nondeterministic_output"],
                    ..cluster("NODES", 2, ANYTIME, "3.0.0", "", "Lists the nodes.")
                },
                cluster("RESET", -2, ADMIN_NODE, "3.0.0", "reset-type:[HARD | SOFT]", "Leaves the cluster."),
                Command {
                    tips: &["nondeterministic_output"],
                    ..cluster("SHARDS", 2, ANYTIME, "7.0.0", "", "Lists the shards.")
                },
                Command {
                    tips: &["nondeterministic_output"],
                    ..cluster("SLOTS", 2, ANYTIME, "3.0.0", "", "Lists the hash slots and their nodes.")
                },
                cluster("HELP", 2, ANYTIME, "5.0.0", "", "Explains the subcommands."),
            ],
        )
    },
    Command {
        group: Group::Cluster,
        categories: Some(&["connection"]),
        ..BASE.session("ASKING", 1, Flags::FAST, "3.0.0", "", "Allows the next command on a moving slot.", no_cluster)
    },
    Command {
        group: Group::Cluster,
        categories: Some(&["connection"]),
        ..BASE.session("READONLY", 1, CONNECTION, "3.0.0", "", "Allows reads from a replica.", |ctx, args, reply| {
            read_here(ctx, args, reply, true)
        })
    },
    Command {
        group: Group::Cluster,
        categories: Some(&["connection"]),
        ..BASE.session("READWRITE", 1, CONNECTION, "3.0.0", "", "Ends READONLY.", |ctx, args, reply| {
            read_here(ctx, args, reply, false)
        })
    },
];

/// Writes the snapshot file while nothing else happens.
fn save(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    if ctx.worker.engine.saves.is_running(Some(Kind::Rdb)) {
        return Err(saving::IN_PROGRESS);
    }
    let engine = ctx.engine();
    let (saved, lsn) = ctx.with_shards(ShardSet::All, |txn| {
        txn.will_take_long();
        (rdb::save(&engine, txn), txn.lsn())
    })?;
    engine.saves.saved_in_foreground(saved.is_ok());
    if let Err(error) = saved {
        engine.platform.log(3, &format!("Error saving DB on disk: {error}"));
        return Err(Error::text("ERR"));
    }
    if engine.log.is_on() && engine.log.health() == Health::Good {
        // The next start reads the log, not the snapshot: what is saved is to be there, whichever it is.
        ctx.worker.tellings.strict = true;
        ctx.worker.tellings.tell(lsn);
    }
    reply.ok();
    Ok(())
}

const CONNECTION: Flags = ANYTIME.and(Flags::FAST);
const OFFLINE_NODE: Flags = Flags::ADMIN.and(Flags::NO_ASYNC_LOADING).and(Flags::STALE);
const ADMIN_NODE: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::STALE);

const fn cluster(
    name: &'static str,
    arity: i32,
    flags: Flags,
    since: &'static str,
    syntax: &'static str,
    summary: &'static str,
) -> Command {
    Command { group: Group::Cluster, ..BASE.session(name, arity, flags, since, syntax, summary, no_cluster) }
}

/// READONLY and READWRITE: they mean something to clients that can be redirected, and otherwise in a cluster.
fn read_here(ctx: &mut Ctx, args: &Args, reply: &mut Reply, here: bool) -> Result {
    if !ctx.session.info.redirects.load(Relaxed) {
        return no_cluster(ctx, args, reply);
    }
    ctx.session.reads_here = here;
    reply.ok();
    Ok(())
}

fn no_cluster(_: &mut Ctx, _: &Args, _: &mut Reply) -> Result {
    Err(Error::text("ERR This instance has cluster support disabled"))
}

fn no_modules(_: &mut Ctx, _: &Args, _: &mut Reply) -> Result {
    Err(Error::text("ERR this server has no modules"))
}

fn config_get(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let patterns: Vec<String> = args.from(2).iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let found = ctx.worker.engine.config.get(&patterns);
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    Ok(())
}

/// CONFIG REWRITE; `all`: with every directive.
pub(super) fn rewrite_config(ctx: &mut Ctx, all: bool, reply: &mut Reply) -> Result {
    let engine = ctx.engine();
    let in_file = ctx.worker.settings.aclfile.is_empty();
    let users = if in_file { engine.acl.config_lines() } else { Vec::new() };
    engine.config.rewrite(&users, all).map_err(Error::owned)?;
    reply.ok();
    Ok(())
}

/// Directives that cannot be changed while the data is being loaded.
const FIXED_WHILE_LOADING: [&str; 3] = ["appendonly", "dir", "repl-diskless-load"];

fn config_set(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let words: Vec<String> = args.from(2).iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let (pairs, rest) = words.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Error::Syntax);
    }
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|[name, value]| (name.as_str(), value.as_str())).collect();
    let is_fixed = |name: &str| FIXED_WHILE_LOADING.iter().any(|fixed| fixed.eq_ignore_ascii_case(name));
    if ctx.worker.loading && pairs.iter().any(|(name, _)| is_fixed(name)) {
        return Err(Error::text("LOADING Redis is loading the dataset in memory"));
    }
    ctx.worker.engine.config.set(&pairs, ctx.session.info.peer.is_local()).map_err(Error::owned)?;
    let engine = ctx.engine();
    engine.acl.follow_requirepass(&engine.config.settings().requirepass);
    ctx.worker.follow_users(ctx.session);
    ctx.worker.refresh();
    ctx.worker.evict_clients();
    reply.ok();
    Ok(())
}

fn bgsave(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let engine = ctx.engine();
    let schedule = match args.from(1) {
        [] => false,
        [word] if word.eq_ignore_ascii_case(b"schedule") => true,
        [word] if word.eq_ignore_ascii_case(b"cancel") => {
            reply.status(engine.saves.cancel()?);
            return Ok(());
        }
        _ => return Err(Error::Syntax),
    };
    let text = match ctx.txn {
        Some(_) => engine.saves.bgsave(&engine, None, schedule)?,
        None => ctx.with_shards(ShardSet::All, |txn| engine.saves.bgsave(&engine, Some(txn), schedule))??,
    };
    reply.status(text);
    Ok(())
}

fn shutdown(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let (mut save, mut no_save, mut now, mut force, mut abort) = (false, false, false, false, false);
    for word in args.from(1) {
        match word.to_ascii_uppercase().as_slice() {
            b"NOSAVE" => no_save = true,
            b"SAVE" => save = true,
            b"NOW" => now = true,
            b"FORCE" => force = true,
            b"ABORT" => abort = true,
            _ => return Err(Error::Syntax),
        }
    }
    if (save && no_save) || (abort && (save || no_save || now || force)) {
        return Err(Error::Syntax);
    }
    let engine = ctx.engine();
    if abort {
        if !engine.shutdown.abort(&engine) {
            return Err(Error::text("ERR No shutdown in progress."));
        }
        reply.ok();
        return Ok(());
    }
    const FAILED: Error = Error::text("ERR Errors trying to SHUTDOWN. Check logs.");
    let waited = ctx.session.leaving.take();
    if waited.is_none() {
        engine.platform.log(2, "User requested shutdown...");
    }
    let wait = if now { None } else { waited.or_else(|| engine.shutdown.begin(&engine)) };
    if let Some(number) = wait {
        match engine.shutdown.outcome(number) {
            Outcome::Ready => {}
            Outcome::Aborted => return Err(FAILED),
            Outcome::Waiting => {
                ctx.session.leaving = Some(number);
                ctx.worker.await_shutdown(ctx.session);
                return Err(Error::Again);
            }
        }
    }
    engine.shutdown.note_replicas(&engine);
    let ended = end(ctx, save || !no_save && !ctx.worker.settings.save.is_empty(), force);
    if wait.is_some() && ended.as_ref().is_err_and(|error| *error != Error::Again) {
        engine.platform.log(3, "Errors trying to shut down the server. Check the logs for more information.");
        engine.shutdown.give_up(&engine);
        return Err(FAILED);
    }
    if wait.is_some() && ended.is_err() {
        // A shard is busy.
        ctx.session.leaving = wait;
    }
    ended
}

/// Ends the server, after a snapshot if that is wanted.
fn end(ctx: &mut Ctx, save: bool, force: bool) -> Result {
    let engine = ctx.engine();
    if !force && engine.log.sink().is_some_and(|log| log.figures().begins) {
        engine.platform.log(3, "Writing initial AOF, can't exit.");
        return Err(Error::text("ERR Errors trying to SHUTDOWN. Check logs."));
    }
    if save {
        let mut txn = ctx.worker.begin(&engine.keyspace, ShardSet::All, 0).ok_or(Error::Again)?;
        match rdb::save_at_end(&engine, &mut txn) {
            // The shards stay held: what came after the snapshot would be lost with the process.
            Ok(()) => std::mem::forget(txn),
            Err(_) if force => ctx.worker.commit(txn),
            Err(error) => {
                ctx.worker.commit(txn);
                return Err(error);
            }
        }
    }
    engine.ending.store(true, Relaxed);
    engine.running.kill_all();
    engine.platform.shutdown();
    engine.wake_all();
    ctx.session.fate = Fate::Close;
    Ok(())
}
