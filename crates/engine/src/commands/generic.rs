//! Keys of any type: deletion, naming, type, copying.

use crate::command::Command;

/// The family.
pub static COMMANDS: &[Command] = &[];
