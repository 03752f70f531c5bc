//! The sorted-set family.

use crate::command::Command;

/// The family.
pub static COMMANDS: &[Command] = &[];
