//! Every command, family by family. [`crate::registry`] is where they are looked up.

use crate::command::{Command, Reply};
use kelda_store::Str;

mod acl;
mod backup;
mod bitmap;
mod client;
mod command;
mod connection;
mod debug;
mod digest;
mod dump;
mod expire;
mod function;
mod generic;
mod geo;
mod hash;
mod hotkeys;
mod hyperloglog;
mod increx;
mod lcs;
mod list;
mod members;
pub(crate) mod memory;
mod migrate;
mod object;
mod pubsub;
mod replication;
mod sample;
mod scan;
mod script;
mod server;
mod set;
mod slowlog;
mod sort;
mod stream;
mod string;
mod tracking;
mod transaction;
mod zset;

pub(crate) use client::describe as describe_client;

/// All families.
pub static FAMILIES: &[&[Command]] = &[
    acl::COMMANDS,
    backup::COMMANDS,
    bitmap::COMMANDS,
    client::COMMANDS,
    command::COMMANDS,
    connection::COMMANDS,
    debug::COMMANDS,
    digest::COMMANDS,
    dump::COMMANDS,
    expire::COMMANDS,
    function::COMMANDS,
    generic::COMMANDS,
    geo::COMMANDS,
    hash::COMMANDS,
    hash::expiry::COMMANDS,
    hotkeys::COMMANDS,
    hyperloglog::COMMANDS,
    increx::COMMANDS,
    list::COMMANDS,
    members::SET_COMMANDS,
    members::ZSET_COMMANDS,
    list::movem::COMMANDS,
    migrate::COMMANDS,
    object::COMMANDS,
    memory::COMMANDS,
    pubsub::COMMANDS,
    replication::COMMANDS,
    scan::COMMANDS,
    script::COMMANDS,
    server::COMMANDS,
    set::COMMANDS,
    slowlog::COMMANDS,
    sort::COMMANDS,
    stream::COMMANDS,
    string::COMMANDS,
    transaction::COMMANDS,
    zset::COMMANDS,
];

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
