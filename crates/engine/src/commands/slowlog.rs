//! SLOWLOG and LATENCY.

use crate::command::Command;

/// The family.
pub static COMMANDS: &[Command] = &[];
