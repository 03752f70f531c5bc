//! The RDB format: values to bytes and back, DUMP payloads, and whole files, as Redis 2.8 to 8 and Valkey 7.2 to 9 have them.
//!
//! What is written is understood by Redis 7.0 (RDB version 10) unless a newer [`Version`] is asked for. What is read is checked
//! in full, whoever wrote it: every length before memory is reserved, every link and count of a packed block, order and
//! uniqueness of members. Input can never cause a panic.

mod crc64;
mod decode;
mod encode;
mod file;
pub mod lzf;
mod packed;
pub mod payload;
mod reader;
mod stream;
mod times;
mod types;
mod writer;

pub use crc64::crc64;
pub use decode::{decode_value, skip_value};
pub use encode::{
    Format, encode_stream_part, encode_value, put_field, put_hash_head, put_list_block, put_number, put_text,
    value_kind,
};
pub use file::{Block, FileError, RawEntry, RdbFile};
pub use reader::{Reader, Text};
pub use times::put_times;
pub use types::{Dialect, Version, kind, opcode};
pub use writer::{Access, RdbWriter, put_entry, put_entry_head};

use std::fmt;

/// Why something is not read, or cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RdbError {
    /// It ends before its end.
    Truncated,
    /// It is damaged, or was made to look so.
    Corrupt(&'static str),
    /// A collection without elements. Redis leaves such keys out where it loads a file.
    Empty,
    /// A value of a type that nobody knows, or that a server newer than those we know has written.
    UnknownType(u8),
    /// A value of a module's own type: the name of the type.
    Module(String),
    /// Something that is known, but has no place here: what it is.
    Unsupported(&'static str),
}

impl fmt::Display for RdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RdbError::Truncated => f.write_str("the data ends too early"),
            RdbError::Corrupt(what) => write!(f, "damaged data: {what}"),
            RdbError::Empty => f.write_str("a collection without elements"),
            RdbError::UnknownType(kind) => write!(f, "unknown type of value: {kind}"),
            RdbError::Module(name) => write!(f, "a value of the module type '{name}'; there are no modules here"),
            RdbError::Unsupported(what) => write!(f, "not supported: {what}"),
        }
    }
}

impl std::error::Error for RdbError {}

#[cfg(test)]
mod tests;
