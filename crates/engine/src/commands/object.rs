//! OBJECT and MEMORY: how a value is held.

use crate::command::Command;

/// The family.
pub static COMMANDS: &[Command] = &[];
