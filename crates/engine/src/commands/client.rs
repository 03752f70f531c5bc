//! CLIENT and its subcommands.

use crate::command::Command;

/// The family.
pub static COMMANDS: &[Command] = &[];
