//! FUNCTION, and FCALL with its read-only form.

use super::script::split_after_numkeys;
use crate::args::Args;
use crate::command::{Command, Flags, Group, Keys, Reply, Run};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::functions::{Libraries, Library, library_name, payload};
use crate::running::{self, Code, Job, Kind};
use kelda_resp::glob_match;
use kelda_store::shard::ShardSet;
use kelda_store::txn::Txn;
use std::sync::Arc;

const BASE: Command = Command { group: Group::Scripting, since: "7.0.0", ..Command::BASE };
const FCALL: Flags = Flags::NOSCRIPT.and(Flags::STALE).and(Flags::SKIP_MONITOR).and(Flags::NO_MANDATORY_KEYS);
const CHANGES: Flags = Flags::NOSCRIPT.and(Flags::WRITE);
const EVERYWHERE: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "FCALL",
        arity: -3,
        keys: &[Keys::numkeys(2).update_read()],
        flags: FCALL,
        syntax: "function numkeys [key [key ...]] [arg [arg ...]]",
        summary: "Calls a function of a library.",
        complexity: "That of the function",
        run: Run::Script(|ctx, txn, args, reply| fcall(ctx, txn, args, reply, false)),
        ..BASE
    },
    Command {
        name: "FCALL_RO",
        arity: -3,
        keys: &[Keys::numkeys(2).read()],
        flags: FCALL.and(Flags::READONLY),
        syntax: "function numkeys [key [key ...]] [arg [arg ...]]",
        summary: "Calls a function of a library that does not write.",
        complexity: "That of the function",
        run: Run::Script(|ctx, txn, args, reply| fcall(ctx, txn, args, reply, true)),
        ..BASE
    },
    Command {
        name: "FUNCTION",
        arity: -2,
        summary: "Container of commands about libraries of functions.",
        complexity: "That of the subcommand",
        run: Run::Group(&[
            Command {
                name: "LOAD",
                arity: -3,
                flags: CHANGES.and(Flags::DENYOOM),
                syntax: "[REPLACE] function-code",
                summary: "Adds a library.",
                complexity: "O(1), besides the library's own code",
                tips: EVERYWHERE,
                run: Run::Session(load),
                ..BASE
            },
            Command {
                name: "DELETE",
                arity: 3,
                flags: CHANGES,
                syntax: "library-name",
                summary: "Removes a library and its functions.",
                complexity: "O(N) in the number of functions",
                tips: EVERYWHERE,
                run: Run::Session(delete),
                ..BASE
            },
            Command {
                name: "FLUSH",
                arity: -2,
                flags: CHANGES,
                syntax: "flush-type:[ASYNC | SYNC]",
                summary: "Removes all libraries.",
                complexity: "O(N) in the number of functions",
                tips: EVERYWHERE,
                run: Run::Session(flush),
                ..BASE
            },
            Command {
                name: "LIST",
                arity: -2,
                flags: Flags::NOSCRIPT,
                syntax: "[LIBRARYNAME library-name-pattern] [WITHCODE]",
                summary: "Lists the libraries and their functions.",
                complexity: "O(N) in the number of functions",
                tips: &["nondeterministic_output_order"],
                run: Run::Session(list),
                ..BASE
            },
            Command {
                name: "STATS",
                arity: 2,
                flags: Flags::NOSCRIPT.and(Flags::ALLOW_BUSY),
                summary: "Tells which function is running, and how many there are.",
                tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
                run: Run::Session(stats),
                ..BASE
            },
            Command {
                name: "KILL",
                arity: 2,
                flags: Flags::NOSCRIPT.and(Flags::ALLOW_BUSY),
                summary: "Ends the running function, if it has not written yet.",
                tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
                run: Run::Session(|ctx, _, reply| super::script::kill(ctx, Kind::Function, reply)),
                ..BASE
            },
            Command {
                name: "DUMP",
                arity: 2,
                flags: Flags::NOSCRIPT,
                summary: "Returns all libraries in one string.",
                complexity: "O(N) in the number of functions",
                run: Run::Session(dump),
                ..BASE
            },
            Command {
                name: "RESTORE",
                arity: -3,
                flags: CHANGES.and(Flags::DENYOOM),
                syntax: "serialized-value policy:[FLUSH | APPEND | REPLACE]",
                summary: "Adds the libraries that FUNCTION DUMP returned.",
                complexity: "O(N) in the number of functions",
                tips: EVERYWHERE,
                run: Run::Session(restore),
                ..BASE
            },
            Command {
                name: "HELP",
                arity: 2,
                flags: Flags::LOADING.and(Flags::STALE),
                summary: "Explains the subcommands.",
                run: Run::Session(|_, _, reply| {
                    super::help(
                        reply,
                        "FUNCTION",
                        &[
                            ("LOAD [REPLACE] <FUNCTION CODE>", "Adds a library."),
                            ("DELETE <LIBRARY NAME>", "Removes a library."),
                            ("LIST [LIBRARYNAME PATTERN] [WITHCODE]", "Lists the libraries and their functions."),
                            ("STATS", "Tells which function is running, and how many there are."),
                            ("KILL", "Ends the running function, if it has not written yet."),
                            ("FLUSH [ASYNC|SYNC]", "Removes all libraries."),
                            ("DUMP", "Returns all libraries in one string."),
                            ("RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]", "Adds the libraries that DUMP returned."),
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

fn fcall(ctx: &mut Ctx, txn: &mut Txn, args: &Args, reply: &mut Reply, read_only: bool) -> Result {
    let not_found = Error::text("ERR Function not found");
    let (library, at) = ctx.worker.engine.functions.current().function(&args[1]).ok_or(not_found.clone())?;
    let (keys, argv) = split_after_numkeys(args, "ERR Bad number of keys provided")?;
    let info = library.functions.get(at).ok_or(not_found)?;
    running::prepare_library(ctx, library.id, &library.code)?;
    let code = Code::Function { library: library.id, name: &info.name };
    running::run(ctx, txn, Job { code, flags: info.flags, keys, argv, read_only, words: args.words() }, reply)
}

/// Compiles a library and finds out what it registers.
fn compile(ctx: &mut Ctx, name: String, code: &[u8]) -> Result<Arc<Library>> {
    let id = ctx.worker.engine.functions.new_id();
    let functions = running::load_library(ctx, id, code)?;
    Ok(Arc::new(Library { id, name, code: code.into(), functions }))
}

fn load(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let (options, code) = (&args.words()[2..args.len() - 1], &args[args.len() - 1]);
    let mut replace = false;
    for option in options {
        if replace || !option.eq_ignore_ascii_case(b"REPLACE") {
            return Err(Error::owned(format!("ERR Unknown option given: {}", String::from_utf8_lossy(option))));
        }
        replace = true;
    }
    let name = library_name(code)?;
    let engine = ctx.engine();
    if !replace && engine.functions.current().get(&name).is_some() {
        return Err(Error::owned(format!("ERR Library '{name}' already exists")));
    }
    let library = compile(ctx, name, code)?;
    // As it was asked for: a replica that others write to keeps a library of its own that this one does not replace.
    let words: &[&[u8]] =
        if replace { &[b"FUNCTION", b"LOAD", b"REPLACE", code] } else { &[b"FUNCTION", b"LOAD", code] };
    change(ctx, words, |libraries| libraries.add(library.clone(), replace))?;
    reply.bulk(library.name.as_bytes());
    Ok(())
}

/// Changes the libraries with the whole keyspace held, so that the change, as the command `argv`, is logged in its place.
fn change(ctx: &mut Ctx, argv: &[&[u8]], change: impl FnOnce(&mut Libraries) -> Result) -> Result {
    let engine = ctx.engine();
    ctx.with_shards(ShardSet::All, |txn| {
        engine.functions.change(change)?;
        txn.emit_keyless(argv);
        Ok(())
    })?
}

fn delete(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let name = String::from_utf8_lossy(&args[2]);
    change(ctx, &[b"FUNCTION", b"DELETE", &args[2]], |libraries| match libraries.remove(&name) {
        true => Ok(()),
        false => Err(Error::text("ERR Library not found")),
    })?;
    reply.ok();
    Ok(())
}

/// The error of too many words.
fn too_many(args: &Args) -> Error {
    let name = String::from_utf8_lossy(&args[1]);
    Error::owned(format!("ERR unknown subcommand or wrong number of arguments for '{name}'. Try FUNCTION HELP."))
}

fn flush(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    if args.len() > 3 {
        return Err(too_many(args));
    }
    if args.len() == 3 && !args.is(2, "SYNC") && !args.is(2, "ASYNC") {
        return Err(Error::text("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
    }
    change(ctx, &[b"FUNCTION", b"FLUSH"], |libraries| {
        *libraries = Libraries::default();
        Ok(())
    })?;
    reply.ok();
    Ok(())
}

fn list(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let (mut pattern, mut with_code) = (None, false);
    let mut words = args.from(2).iter();
    while let Some(word) = words.next() {
        if !with_code && word.eq_ignore_ascii_case(b"WITHCODE") {
            with_code = true;
        } else if pattern.is_none() && word.eq_ignore_ascii_case(b"LIBRARYNAME") {
            pattern = Some(*words.next().ok_or(Error::text("ERR library name argument was not given"))?);
        } else {
            return Err(Error::owned(format!("ERR Unknown argument {}", String::from_utf8_lossy(word))));
        }
    }
    let libraries = ctx.worker.engine.functions.current();
    let shown = || {
        libraries
            .iter()
            .filter(|library| pattern.is_none_or(|pattern| glob_match(pattern, library.name.as_bytes(), false)))
    };
    reply.array(shown().count());
    for library in shown() {
        reply.map(3 + usize::from(with_code));
        reply.bulk(b"library_name");
        reply.bulk(library.name.as_bytes());
        reply.bulk(b"engine");
        reply.bulk(b"LUA");
        reply.bulk(b"functions");
        reply.array(library.functions.len());
        for function in &library.functions {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(function.name.as_bytes());
            reply.bulk(b"description");
            match &function.description {
                Some(text) => reply.bulk(text),
                None => reply.null(),
            }
            reply.bulk(b"flags");
            let flags = function.flags.names();
            reply.set(flags.len());
            flags.iter().for_each(|flag| reply.status(flag));
        }
        if with_code {
            reply.bulk(b"library_code");
            reply.bulk(&library.code);
        }
    }
    Ok(())
}

fn stats(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    let engine = &ctx.worker.engine;
    reply.map(2);
    reply.bulk(b"running_script");
    match engine.running.function() {
        Some(function) => {
            let duration_us = engine.clock.monotonic_us().saturating_sub(function.started_us);
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(function.name.as_bytes());
            reply.bulk(b"command");
            reply.array(function.words.len());
            function.words.iter().for_each(|word| reply.bulk(word));
            reply.bulk(b"duration_ms");
            reply.int((duration_us / 1000) as i64);
        }
        None => reply.null(),
    }
    let (libraries, functions) = engine.functions.current().count();
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.int(libraries as i64);
    reply.bulk(b"functions_count");
    reply.int(functions as i64);
    Ok(())
}

fn dump(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    let libraries = ctx.worker.engine.functions.current();
    let format = crate::rdb::format(&ctx.worker.settings);
    reply.bulk(&payload::encode(libraries.iter().map(|library| &*library.code), &format));
    Ok(())
}

fn restore(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    if args.len() > 4 {
        return Err(too_many(args));
    }
    let (flush, replace) = (args.is(3, "FLUSH"), args.is(3, "REPLACE"));
    if args.len() == 4 && !flush && !replace && !args.is(3, "APPEND") {
        return Err(Error::text("ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE."));
    }
    let Some(texts) = payload::decode(&args[2]) else {
        return Err(Error::text("ERR DUMP payload version or checksum are wrong"));
    };
    let mut restored = Vec::new();
    for text in &texts {
        let name = library_name(text)?;
        restored.push(compile(ctx, name, text)?);
    }
    // What APPEND let through is none that REPLACE would have put in another's place.
    let policy: &[u8] = if flush { b"FLUSH" } else { b"REPLACE" };
    change(ctx, &[b"FUNCTION", b"RESTORE", &args[2], policy], |libraries| {
        if flush {
            *libraries = Libraries::default();
        }
        let names: Vec<&str> = restored.iter().map(|library| &*library.name).collect();
        if replace {
            // All that goes, goes first: a function may move from one library to another.
            names.iter().for_each(|name| _ = libraries.remove(name));
        } else if let Some(name) = names.iter().find(|name| libraries.get(name).is_some()) {
            return Err(Error::owned(format!("ERR Library {name} already exists")));
        }
        restored.iter().try_for_each(|library| libraries.add(library.clone(), false))
    })?;
    reply.ok();
    Ok(())
}
