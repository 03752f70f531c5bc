//! Geo positions in sorted sets.

use crate::command::Command;

/// The family.
pub static COMMANDS: &[Command] = &[];
