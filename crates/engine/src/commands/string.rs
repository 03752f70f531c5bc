//! The string family.

use crate::args::Args;
use crate::command::{Command, Flags, Group, Keys, Reply, Run};
use crate::error::Result;
use kelda_store::txn::{EventClasses, Ttl, Txn, View};

const BASE: Command = Command { group: Group::String, ..Command::BASE };

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "GET",
        arity: 2,
        keys: &[Keys::at(1).read()],
        flags: Flags::FAST,
        syntax: "key",
        summary: "Returns the string at a key.",
        run: Run::Read(get),
        ..BASE
    },
    Command {
        name: "SET",
        arity: -3,
        keys: &[Keys::at(1).overwrite()],
        flags: Flags::DENYOOM,
        syntax: "key value",
        summary: "Sets a key to a string.",
        run: Run::Write(set),
        ..BASE
    },
];

fn get(view: &View, args: &Args, reply: &mut Reply) -> Result {
    match view.string(args.key(1))? {
        Some(text) => super::write_str(reply, text),
        None => reply.null(),
    }
    Ok(())
}

fn set(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    txn.set_string(key, &args[2], Ttl::Clear);
    txn.event(EventClasses::STRING, "set", key.bytes);
    reply.ok();
    Ok(())
}
