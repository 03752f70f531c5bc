//! INFO, CONFIG, TIME, SHUTDOWN and other commands about the server.

use crate::command::Command;

/// The family.
pub static COMMANDS: &[Command] = &[];
