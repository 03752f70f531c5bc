//! ACL and AUTH.

use crate::command::Command;

/// The family.
pub static COMMANDS: &[Command] = &[];
