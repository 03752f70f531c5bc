//! Bitmaps: SETBIT, BITCOUNT, BITFIELD and relatives.

use crate::command::Command;

/// The family.
pub static COMMANDS: &[Command] = &[];
