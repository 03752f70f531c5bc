//! OBJECT: what a key is made of. Looking at a key here does not count as using it.

use crate::args::Args;
use crate::command::{Command, Flags, Keys, Reply, Run};
use crate::error::{Error, Result};
use kelda_store::entry::EntryRef;
use kelda_store::txn::View;
use kelda_store::value::ValueRef;

/// The family.
pub static COMMANDS: &[Command] = &[Command {
    name: "OBJECT",
    arity: -2,
    categories: Some(&[]),
    since: "2.2.3",
    summary: "Commands that look into the value of a key.",
    complexity: "Depends on the subcommand",
    run: Run::Group(OBJECT),
    ..Command::BASE
}];

const ABOUT_KEY: Command =
    Command { arity: 3, keys: &[Keys::at(2).look()], since: "2.2.3", syntax: "key", ..Command::BASE };

static OBJECT: &[Command] = &[
    Command {
        name: "ENCODING",
        summary: "Tells how the value of a key is kept in memory.",
        tips: &["nondeterministic_output"],
        run: Run::Read(encoding),
        ..ABOUT_KEY
    },
    Command {
        name: "FREQ",
        since: "4.0.0",
        summary: "Returns the logarithmic counter of how often a key was used.",
        tips: &["nondeterministic_output"],
        run: Run::Read(freq),
        ..ABOUT_KEY
    },
    Command {
        name: "IDLETIME",
        summary: "Returns the time since a key was last used, in seconds.",
        tips: &["nondeterministic_output"],
        run: Run::Read(idletime),
        ..ABOUT_KEY
    },
    Command {
        name: "REFCOUNT",
        summary: "Returns the number of references to the value of a key.",
        tips: &["nondeterministic_output"],
        run: Run::Read(refcount),
        ..ABOUT_KEY
    },
    Command {
        name: "HELP",
        arity: 2,
        flags: Flags::LOADING.and(Flags::STALE),
        since: "6.2.0",
        summary: "Lists the subcommands.",
        run: Run::Session(|_, _, reply| {
            super::help(reply, "OBJECT", OBJECT_HELP);
            Ok(())
        }),
        ..Command::BASE
    },
];

const OBJECT_HELP: &[(&str, &str)] = &[
    ("ENCODING <key>", "How the value is kept in memory."),
    ("FREQ <key>", "How often the key was used, on a logarithmic scale (LFU policies only)."),
    ("IDLETIME <key>", "Seconds since the key was last used (not with LFU policies)."),
    ("REFCOUNT <key>", "How many references to the value there are: always 1."),
];

/// Replies what `show` says of the key, or null if it is not there.
pub(super) fn about(
    view: &View,
    args: &Args,
    reply: &mut Reply,
    show: impl FnOnce(EntryRef, &mut Reply) -> Result,
) -> Result {
    match view.look(args.key(2)) {
        Some(entry) => show(entry, reply)?,
        None => reply.null(),
    }
    Ok(())
}

fn encoding(view: &View, args: &Args, reply: &mut Reply) -> Result {
    about(view, args, reply, |entry, reply| {
        let name = match entry.value() {
            ValueRef::String(_) => entry.string_encoding(),
            ValueRef::List(list) => list.encoding(),
            ValueRef::Set(set) => set.encoding(),
            ValueRef::ZSet(zset) => zset.encoding(),
            ValueRef::Hash(hash) => hash.encoding(),
            ValueRef::Stream(_) => "stream",
        };
        reply.bulk(name.as_bytes());
        Ok(())
    })
}

fn freq(view: &View, args: &Args, reply: &mut Reply) -> Result {
    about(view, args, reply, |entry, reply| {
        let clock = view.cx.access_clock(view.now());
        if !clock.lfu {
            return Err(Error::text(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        reply.int(i64::from(clock.frequency(entry.access())));
        Ok(())
    })
}

fn idletime(view: &View, args: &Args, reply: &mut Reply) -> Result {
    about(view, args, reply, |entry, reply| {
        let clock = view.cx.access_clock(view.now());
        if clock.lfu {
            return Err(Error::text(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        reply.int(i64::from(clock.idle_seconds(entry.access())));
        Ok(())
    })
}

fn refcount(view: &View, args: &Args, reply: &mut Reply) -> Result {
    about(view, args, reply, |_, reply| {
        // A value belongs to one key and is never shared.
        reply.int(1);
        Ok(())
    })
}
