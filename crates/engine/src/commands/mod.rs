//! Every command, family by family. [`crate::registry`] is where they are looked up.

use crate::command::{Command, Reply};
use kelda_store::Str;

mod connection;
mod pubsub;
mod script;
mod string;
mod transaction;

/// All families.
pub static FAMILIES: &[&[Command]] =
    &[connection::COMMANDS, pubsub::COMMANDS, script::COMMANDS, string::COMMANDS, transaction::COMMANDS];

/// Writes a string or element.
#[inline]
fn write_str(reply: &mut Reply, text: Str) {
    match text {
        Str::Bytes(bytes) => reply.bulk(bytes),
        Str::Int(number) => reply.bulk_int(number),
    }
}

/// Writes what `CONTAINER HELP` replies: the subcommands, each with a line about it.
fn help(reply: &mut Reply, container: &str, subcommands: &[(&str, &str)]) {
    reply.array(subcommands.len() * 2 + 3);
    reply.status(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for (usage, meaning) in subcommands {
        reply.status(usage);
        reply.status(&format!("    {meaning}"));
    }
    reply.status("HELP");
    reply.status("    Prints this help.");
}
