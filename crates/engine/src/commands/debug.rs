//! DEBUG, for tests.

use crate::command::Command;

/// The family.
pub static COMMANDS: &[Command] = &[];
