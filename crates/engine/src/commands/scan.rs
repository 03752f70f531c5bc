//! SCAN, KEYS, RANDOMKEY, DBSIZE and what else goes over the whole keyspace.

use crate::command::Command;

/// The family.
pub static COMMANDS: &[Command] = &[];
