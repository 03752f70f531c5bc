//! The payload of DUMP and RESTORE: type, value, RDB version (2 bytes), CRC-64 of all before it (8 bytes); both lowest byte first.
//! Behind a set or sorted set with members that expire stands when ([`times`]).

use super::types::{Dialect, Version, opcode};
use super::{Format, RdbError, Reader, crc64, decode_value, encode_value, times, value_kind};
use kelda_store::Limits;
use kelda_store::value::{Value, ValueRef};

/// Why a payload is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadError {
    /// It is of a version that cannot be, or its checksum is wrong.
    Footer,
    /// Its value cannot be read.
    Value(RdbError),
}

/// The payload of a value.
pub fn dump(value: ValueRef<'_>, format: &Format) -> Vec<u8> {
    let kind = value_kind(value, format);
    let mut out = vec![kind];
    encode_value(value, format, &mut out);
    times::put(value, format, &mut out);
    seal(&mut out, format.version.max(Version::of_kind(kind)));
    out
}

/// The value of a payload. `trusted`: whatever its checksum is.
pub fn restore(payload: &[u8], limits: &Limits, trusted: bool) -> Result<Value, PayloadError> {
    let (version, body) = if trusted { footer(payload) } else { open(payload) }.ok_or(PayloadError::Footer)?;
    let read = || {
        let mut reader = Reader::new(body);
        let mut kind = reader.byte()?;
        if kind == opcode::KEY_META && version.dialect() == Dialect::Redis {
            reader.skip_key_meta()?;
            kind = reader.byte()?;
        }
        let mut value = decode_value(kind, version.dialect(), &mut reader, limits)?;
        if !reader.is_empty() {
            times::apply(&mut value, &times::read(&mut reader)?)?;
        }
        if reader.is_empty() { Ok(value) } else { Err(RdbError::Corrupt("more than one value")) }
    };
    read().map_err(PayloadError::Value)
}

/// Ends a payload: appends version and checksum.
pub fn seal(body: &mut Vec<u8>, version: Version) {
    body.extend(version.0.to_le_bytes());
    let checksum = crc64(0, body);
    body.extend(checksum.to_le_bytes());
}

/// What stands before the end of a payload, and its version; `None` if version or checksum are wrong.
pub fn open(payload: &[u8]) -> Option<(Version, &[u8])> {
    let (checked, checksum) = payload.split_last_chunk::<8>()?;
    if crc64(0, checked) == u64::from_le_bytes(*checksum) { footer(payload) } else { None }
}

/// [`open`] without a look at the checksum.
fn footer(payload: &[u8]) -> Option<(Version, &[u8])> {
    let (checked, _checksum) = payload.split_last_chunk::<8>()?;
    let (body, version) = checked.split_last_chunk::<2>()?;
    let version = Version(u16::from_le_bytes(*version));
    version.is_known().then_some((version, body))
}
