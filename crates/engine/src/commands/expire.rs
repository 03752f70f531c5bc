//! Expiry times of keys.

use crate::command::Command;

/// The family.
pub static COMMANDS: &[Command] = &[];
