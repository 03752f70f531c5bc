//! Writes an RDB file: its parts are appended to a buffer, which the caller takes away as it goes.
//!
//! Parts in order: header and facts; functions; for each database its number, sizes and keys; the end with the checksum.

use super::encode::{Format, encode_value, put_blob, put_number, put_text, value_kind};
use super::types::{Dialect, opcode};
use super::{crc64, times};
use kelda_store::Str;
use kelda_store::value::ValueRef;

/// How long ago, or how often, a key was used: what eviction goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Seconds since the last use.
    Idle(u64),
    /// The logarithmic counter of uses.
    Frequency(u8),
}

/// Writes one file.
///
/// Every method only appends to the buffer: it cannot fail, and can be called while shards are held. [`RdbWriter::drain`]
/// takes what has gathered, outside of them.
pub struct RdbWriter {
    format: Format,
    checksum: bool,
    crc: u64,
    written: u64,
    buffer: Vec<u8>,
}

impl RdbWriter {
    /// Begins a file in this format. Without `checksum` (`rdbchecksum no`) readers are told that there is none.
    pub fn new(format: Format, checksum: bool) -> RdbWriter {
        RdbWriter { format, checksum, crc: 0, written: 0, buffer: Vec::new() }
    }

    /// The format.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// The first part: the format's name and version, and facts about the file by name.
    pub fn header<'a>(&mut self, facts: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let version = self.format.version;
        let magic = match version.dialect() {
            Dialect::Redis => format!("REDIS{:04}", version.0),
            Dialect::Valkey => format!("VALKEY{:03}", version.0),
        };
        self.buffer.extend_from_slice(magic.as_bytes());
        for (name, fact) in facts {
            self.buffer.push(opcode::AUX);
            put_text(Str::Bytes(name.as_bytes()), &self.format, &mut self.buffer);
            put_text(Str::Bytes(fact.as_bytes()), &self.format, &mut self.buffer);
        }
    }

    /// A library of functions: its text.
    pub fn function(&mut self, code: &[u8]) {
        self.buffer.push(opcode::FUNCTION2);
        put_text(Str::Bytes(code), &self.format, &mut self.buffer);
    }

    /// The keys that follow are of this database; `keys` and `volatile` tell how many it has, and how many of them with an
    /// expiry time: hints, with which readers make room.
    pub fn select(&mut self, db: u32, keys: u64, volatile: u64) {
        self.buffer.push(opcode::SELECT_DB);
        put_number(u64::from(db), &mut self.buffer);
        self.buffer.push(opcode::RESIZE_DB);
        put_number(keys, &mut self.buffer);
        put_number(volatile, &mut self.buffer);
    }

    /// A key with its value and expiry time (Unix ms).
    pub fn entry(&mut self, key: &[u8], expire_at: Option<i64>, access: Option<Access>, value: ValueRef<'_>) {
        put_entry(key, expire_at, access, value, &self.format, &mut self.buffer);
    }

    /// Bytes that another call made, such as [`put_entry`].
    pub fn append(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The last part.
    pub fn end(&mut self) {
        self.buffer.push(opcode::EOF);
        let checksum = if self.checksum { crc64(self.crc, &self.buffer) } else { 0 };
        self.buffer.extend(checksum.to_le_bytes());
    }

    /// Bytes that wait to be taken.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes of the file so far, those that wait included.
    pub fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands what waits to `sink`. If that fails the file is lost.
    pub fn drain<E>(&mut self, sink: impl FnOnce(&[u8]) -> Result<(), E>) -> Result<(), E> {
        if self.checksum {
            self.crc = crc64(self.crc, &self.buffer);
        }
        self.written += self.buffer.len() as u64;
        let result = sink(&self.buffer);
        self.buffer.clear();
        result
    }
}

/// Appends a key with its value and expiry time (Unix ms) as they stand in a file.
pub fn put_entry(
    key: &[u8],
    expire_at: Option<i64>,
    access: Option<Access>,
    value: ValueRef<'_>,
    format: &Format,
    out: &mut Vec<u8>,
) {
    times::put(value, format, out);
    put_entry_head(key, expire_at, access, value_kind(value, format), format, out);
    encode_value(value, format, out);
}

/// Appends what stands before a value of type `kind`: for values that are written in pieces.
pub fn put_entry_head(
    key: &[u8],
    expire_at: Option<i64>,
    access: Option<Access>,
    kind: u8,
    format: &Format,
    out: &mut Vec<u8>,
) {
    if let Some(at) = expire_at {
        out.push(opcode::EXPIRE_TIME_MS);
        out.extend(at.to_le_bytes());
    }
    match access {
        Some(Access::Idle(seconds)) => {
            out.push(opcode::IDLE);
            put_number(seconds, out);
        }
        Some(Access::Frequency(counter)) => out.extend([opcode::FREQ, counter]),
        None => {}
    }
    out.push(kind);
    match key.len() {
        // Most keys gain nothing from an attempt to compress them.
        21..=64 => put_blob(key, out),
        _ => put_text(Str::Bytes(key), format, out),
    }
}
