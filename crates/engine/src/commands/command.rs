//! COMMAND: what the table of commands says of itself.

use crate::command::Command;

/// The family.
pub static COMMANDS: &[Command] = &[];
