//! SORT and SORT_RO.

use crate::command::Command;

/// The family.
pub static COMMANDS: &[Command] = &[];
