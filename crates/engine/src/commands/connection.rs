//! The connection family.

use crate::command::{Command, Flags, Group, Run};

const BASE: Command = Command { group: Group::Connection, ..Command::BASE };

/// The family.
pub static COMMANDS: &[Command] = &[Command {
    name: "PING",
    arity: -1,
    flags: Flags::FAST.and(Flags::IN_PUBSUB),
    syntax: "[message]",
    summary: "Answers.",
    run: Run::Session(|_, args, reply| {
        match args.get(1) {
            Some(text) => reply.bulk(text),
            None => reply.status("PONG"),
        }
        Ok(())
    }),
    ..BASE
}];
