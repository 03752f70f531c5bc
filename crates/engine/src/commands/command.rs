//! COMMAND: what commands there are, all from the one table.

use crate::args::Args;
use crate::command::{Access, Begin, Command, Find, Flags, Group, Keys, Reply, Run};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::exec;
use crate::registry::{self, Names, Registered};
use crate::syntax::{self, Argument, Kind};
use kelda_resp::glob_match;

const BASE: Command = Command {
    group: Group::Server,
    flags: Flags::LOADING.and(Flags::STALE),
    categories: Some(&["connection"]),
    since: "2.8.13",
    complexity: "O(N) in the number of commands asked for",
    ..Command::BASE
};
const ANY_ORDER: &[&str] = &["nondeterministic_output_order"];

/// The family.
pub static COMMANDS: &[Command] = &[Command {
    name: "COMMAND",
    arity: -1,
    summary: "Describes all commands.",
    complexity: "O(N) in the number of commands",
    tips: ANY_ORDER,
    bare: Some(|ctx, _, reply| {
        let all = commands(&ctx.worker.engine.names);
        reply.array(all.len());
        all.iter().for_each(|command| write_info(reply, command));
        Ok(())
    }),
    run: Run::Group(&[
        Command {
            name: "COUNT",
            arity: 2,
            summary: "Counts the commands.",
            complexity: "O(1)",
            run: Run::Session(|ctx, _, reply| {
                reply.int(commands(&ctx.worker.engine.names).len() as i64);
                Ok(())
            }),
            ..BASE
        },
        Command {
            name: "INFO",
            arity: -2,
            syntax: "[command-name [command-name ...]]",
            summary: "Describes some commands, or all.",
            tips: ANY_ORDER,
            run: Run::Session(info),
            ..BASE
        },
        Command {
            name: "DOCS",
            arity: -2,
            since: "7.0.0",
            syntax: "[command-name [command-name ...]]",
            summary: "Documents some commands, or all.",
            tips: ANY_ORDER,
            run: Run::Session(docs),
            ..BASE
        },
        Command {
            name: "LIST",
            arity: -2,
            since: "7.0.0",
            syntax: "[FILTERBY filterby:<MODULE module-name | ACLCAT category | PATTERN pattern>]",
            summary: "Lists the names of commands.",
            tips: ANY_ORDER,
            run: Run::Session(list),
            ..BASE
        },
        Command {
            name: "GETKEYS",
            arity: -3,
            syntax: "command [arg [arg ...]]",
            summary: "Finds the keys in a whole command.",
            complexity: "O(N) in the number of arguments",
            run: Run::Session(|ctx, args, reply| {
                let keys = keys_of(ctx, args)?;
                reply.array(keys.len());
                keys.iter().for_each(|(key, _)| reply.bulk(key));
                Ok(())
            }),
            ..BASE
        },
        Command {
            name: "GETKEYSANDFLAGS",
            arity: -3,
            since: "7.0.0",
            syntax: "command [arg [arg ...]]",
            summary: "Finds the keys in a whole command, and what it does to each.",
            complexity: "O(N) in the number of arguments",
            run: Run::Session(|ctx, args, reply| {
                let keys = keys_of(ctx, args)?;
                reply.array(keys.len());
                for (key, access) in keys {
                    reply.array(2);
                    reply.bulk(key);
                    write_access(reply, access, &[]);
                }
                Ok(())
            }),
            ..BASE
        },
        Command {
            name: "HELP",
            arity: 2,
            since: "5.0.0",
            summary: "Explains the subcommands.",
            complexity: "O(1)",
            run: Run::Session(help),
            ..BASE
        },
    ]),
    ..BASE
}];

/// All commands that are no subcommands and can be called.
fn commands(names: &Names) -> Vec<&'static Registered> {
    registry::all().iter().filter(|command| command.parent.is_none() && names.call(command)).collect()
}

/// The command of a name such as `get` or `config|get`.
fn named(names: &Names, name: &[u8]) -> Option<&'static Registered> {
    match name.iter().position(|byte| *byte == b'|') {
        None => names.find(name),
        Some(at) => names.find(&name[..at])?.subcommand(&name[at + 1..]),
    }
}

fn info(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    if args.len() == 2 {
        let all = commands(&ctx.worker.engine.names);
        reply.array(all.len());
        all.iter().for_each(|command| write_info(reply, command));
        return Ok(());
    }
    reply.array(args.len() - 2);
    for name in args.from(2) {
        match named(&ctx.worker.engine.names, name) {
            Some(command) => write_info(reply, command),
            None => reply.null(),
        }
    }
    Ok(())
}

/// First key, last key and step, as clients knew them before key specifications.
fn key_range(command: &Command) -> [i64; 3] {
    let mut range: Option<[i64; 3]> = None;
    for keys in command.keys {
        let (Begin::Index(first), Find::Range { last, step, limit: 0 | 1 }) = (keys.begin, keys.find) else { continue };
        let first = first as i64;
        let last = if last < 0 { i64::from(last) } else { first + i64::from(last) };
        range = Some(match range {
            None => [first, last, step as i64],
            // Only ranges that follow each other are one.
            Some([begin, end, _]) if end >= 0 && end + 1 == first => [begin, last, 1],
            Some(range) => range,
        });
    }
    range.unwrap_or([0; 3])
}

fn write_info(reply: &mut Reply, registered: &Registered) {
    let command = registered.command;
    reply.array(10);
    reply.bulk(registered.name.as_bytes());
    reply.int(command.arity.into());
    let flags: Vec<&str> = Flags::NAMES
        .iter()
        .filter(|(flag, name)| !name.is_empty() && registered.flags.has(*flag))
        .map(|(_, name)| *name)
        .collect();
    reply.set(flags.len());
    flags.iter().for_each(|name| reply.status(name));
    key_range(command).iter().for_each(|number| reply.int(*number));
    let categories = registered.categories();
    reply.set(categories.len());
    categories.iter().for_each(|name| reply.status(&format!("@{name}")));
    reply.array(command.tips.len());
    command.tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    reply.array(command.keys.len());
    command.keys.iter().for_each(|keys| write_keys(reply, keys));
    let subcommands = registered.subcommands();
    reply.array(subcommands.len());
    subcommands.iter().for_each(|subcommand| write_info(reply, subcommand));
}

fn write_access(reply: &mut Reply, access: Access, more: &[(bool, &str)]) {
    let names = Access::NAMES.iter().map(|(flag, name)| (access.has(*flag), *name));
    let names: Vec<&str> = names.chain(more.iter().copied()).filter(|(is, _)| *is).map(|(_, name)| name).collect();
    reply.set(names.len());
    names.iter().for_each(|name| reply.status(name));
}

/// A key specification as COMMAND INFO tells it.
fn write_keys(reply: &mut Reply, keys: &Keys) {
    fn numbers(reply: &mut Reply, kind: &str, fields: &[(&str, i64)]) {
        reply.map(2);
        reply.bulk(b"type");
        reply.bulk(kind.as_bytes());
        reply.bulk(b"spec");
        reply.map(fields.len());
        for (name, number) in fields {
            reply.bulk(name.as_bytes());
            reply.int(*number);
        }
    }
    reply.map(3);
    reply.bulk(b"flags");
    let more = [(keys.not_key, "not_key"), (keys.incomplete, "incomplete"), (keys.variable, "variable_flags")];
    write_access(reply, keys.access, &more);
    reply.bulk(b"begin_search");
    match keys.begin {
        Begin::Index(index) => numbers(reply, "index", &[("index", index as i64)]),
        Begin::Keyword(word, from) => {
            reply.map(2);
            reply.bulk(b"type");
            reply.bulk(b"keyword");
            reply.bulk(b"spec");
            reply.map(2);
            reply.bulk(b"keyword");
            reply.bulk(word.as_bytes());
            reply.bulk(b"startfrom");
            reply.int(from.into());
        }
        Begin::Unknown => numbers(reply, "unknown", &[]),
    }
    reply.bulk(b"find_keys");
    match keys.find {
        Find::Range { last, step, limit } => {
            numbers(reply, "range", &[("lastkey", last.into()), ("keystep", step as i64), ("limit", limit as i64)]);
        }
        Find::Numkeys { at, first, step } => {
            numbers(reply, "keynum", &[("keynumidx", at as i64), ("firstkey", first as i64), ("keystep", step as i64)]);
        }
        Find::Unknown => numbers(reply, "unknown", &[]),
    }
}

fn docs(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let wanted: Vec<&Registered> = if args.len() == 2 {
        commands(&ctx.worker.engine.names)
    } else {
        args.from(2).iter().filter_map(|name| named(&ctx.worker.engine.names, name)).collect()
    };
    reply.map(wanted.len());
    for command in wanted {
        reply.bulk(command.name.as_bytes());
        write_docs(reply, command);
    }
    Ok(())
}

fn write_docs(reply: &mut Reply, registered: &Registered) {
    let command = registered.command;
    // A test reads every syntax text.
    let arguments = syntax::parse(command.syntax).unwrap_or_default();
    let subcommands = registered.subcommands();
    let internal = command.flags.has(Flags::INTERNAL);
    let more = [internal, !arguments.is_empty(), !subcommands.is_empty()];
    reply.map(4 + more.into_iter().filter(|there| *there).count());
    let facts = [
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.group.name()),
        ("complexity", command.complexity),
    ];
    for (name, text) in facts {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
    if internal {
        reply.bulk(b"doc_flags");
        reply.set(1);
        reply.status("syscmd");
    }
    if !arguments.is_empty() {
        reply.bulk(b"arguments");
        let mut next_key = 0;
        write_arguments(reply, &arguments, command.keys.len(), &mut next_key);
    }
    if !subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(subcommands.len());
        for subcommand in subcommands {
            reply.bulk(subcommand.name.as_bytes());
            write_docs(reply, subcommand);
        }
    }
}

/// The tree of arguments. Keys are numbered with the key specifications, which come in the same order.
fn write_arguments(reply: &mut Reply, arguments: &[Argument], specs: usize, next_key: &mut usize) {
    reply.array(arguments.len());
    for argument in arguments {
        let inner = argument.kind.inner();
        let next = || (argument.kind == Kind::Key && specs != 0).then(|| (*next_key).min(specs - 1));
        let key = argument.key_spec.or_else(next);
        let marks: Vec<&str> = [
            (argument.optional, "optional"),
            (argument.multiple, "multiple"),
            (argument.multiple_token, "multiple_token"),
        ]
        .into_iter()
        .filter_map(|(is, name)| is.then_some(name))
        .collect();
        let shows_text = inner.is_empty() && argument.kind != Kind::PureToken;
        let token = argument.token.is_some();
        let optional = [shows_text, key.is_some(), token, !marks.is_empty(), !inner.is_empty()];
        reply.map(2 + optional.into_iter().map(usize::from).sum::<usize>());
        let mut text = |name: &str, value: &str| {
            reply.bulk(name.as_bytes());
            reply.bulk(value.as_bytes());
        };
        text("name", &argument.name);
        text("type", argument.kind.name());
        if shows_text {
            text("display_text", &argument.display);
        }
        if let Some(index) = key {
            reply.bulk(b"key_spec_index");
            reply.int(index as i64);
            *next_key += 1;
        }
        if let Some(token) = &argument.token {
            reply.bulk(b"token");
            reply.bulk(token.as_bytes());
        }
        if !marks.is_empty() {
            reply.bulk(b"flags");
            reply.set(marks.len());
            marks.iter().for_each(|mark| reply.status(mark));
        }
        if !inner.is_empty() {
            reply.bulk(b"arguments");
            write_arguments(reply, inner, specs, next_key);
        }
    }
}

fn list(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let names = &ctx.worker.engine.names;
    let all = registry::all().iter().filter(|command| command.parent.is_some() || names.call(command));
    let found: Vec<&Registered> = match args.from(2) {
        [] => all.collect(),
        [filter, kind, text] if filter.eq_ignore_ascii_case(b"filterby") => {
            if kind.eq_ignore_ascii_case(b"module") {
                Vec::new()
            } else if kind.eq_ignore_ascii_case(b"aclcat") {
                all.filter(|command| command.categories().iter().any(|name| text.eq_ignore_ascii_case(name.as_bytes())))
                    .collect()
            } else if kind.eq_ignore_ascii_case(b"pattern") {
                all.filter(|command| glob_match(text, command.name.as_bytes(), true)).collect()
            } else {
                return Err(Error::Syntax);
            }
        }
        _ => return Err(Error::Syntax),
    };
    reply.array(found.len());
    found.iter().for_each(|command| reply.bulk(command.name.as_bytes()));
    Ok(())
}

/// The keys of the command that follows, with what it does to them.
fn keys_of<'a>(ctx: &Ctx, args: &Args<'a>) -> Result<Vec<(&'a [u8], Access)>> {
    let words = args.from(2);
    let command =
        exec::resolve(&ctx.worker.engine.names, words).map_err(|_| Error::text("ERR Invalid command specified"))?;
    if command.command.keys.is_empty() && command.command.find_keys.is_none() {
        return Err(Error::text("ERR The command has no key arguments"));
    }
    if !command.command.takes(words.len()) {
        return Err(Error::text("ERR Invalid number of arguments specified for command"));
    }
    let counted = |keys: &&Keys| matches!(keys.find, Find::Numkeys { .. });
    let finds_none = |keys: &Keys| {
        let mut any = false;
        keys.find(words, &mut |_, _| any = true);
        !any
    };
    if command.command.find_keys.is_none()
        && !command.flags.has(Flags::NO_MANDATORY_KEYS)
        && command.command.keys.iter().filter(counted).any(finds_none)
    {
        return Err(Error::text("ERR Invalid arguments specified for command"));
    }
    let mut keys = Vec::new();
    command.find_keys(words, &mut |at, access| keys.extend(words.get(at).map(|word| (*word, access))));
    Ok(keys)
}

fn help(_: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    super::help(
        reply,
        "COMMAND",
        &[
            ("(no subcommand)", "Describes all commands."),
            ("COUNT", "Counts the commands."),
            ("LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]", "Lists the names of commands."),
            ("INFO [<command-name> ...]", "Describes some commands, or all."),
            ("DOCS [<command-name> ...]", "Documents some commands, or all."),
            ("GETKEYS <full-command>", "Finds the keys in a whole command."),
            ("GETKEYSANDFLAGS <full-command>", "Finds the keys in a whole command, and what it does to each."),
        ],
    );
    Ok(())
}
