//! When members of sets and sorted sets expire, beside the value: no type of the format can tell that.
//!
//! It stands in a fact (AUX) of our own name, which other servers pass over: in a file before the key, in a payload of DUMP
//! behind the value, where they do not look. The fact's text: a count, and so many members with their times (Unix ms, eight
//! bytes).

use super::encode::{Format, put_blob, put_number, put_text};
use super::types::opcode;
use super::{RdbError, Reader};
use kelda_store::Str;
use kelda_store::value::{Value, ValueRef};

/// The fact's name.
pub(super) const NAME: &[u8] = b"kelda-member-times";

/// Appends the fact about a value, if any of its members expires.
pub(super) fn put(value: ValueRef<'_>, format: &Format, out: &mut Vec<u8>) {
    match value {
        ValueRef::Set(set) => put_times(set.times(), format, out),
        ValueRef::ZSet(zset) => put_times(zset.times(), format, out),
        _ => {}
    }
}

/// Appends a fact about these members and when they expire (Unix ms), if there are any. There may be several about one value.
pub fn put_times<'a>(times: impl Iterator<Item = (&'a [u8], i64)>, format: &Format, out: &mut Vec<u8>) {
    let (mut text, mut count) = (Vec::new(), 0u64);
    for (member, at) in times {
        put_blob(member, &mut text);
        text.extend(at.to_le_bytes());
        count += 1;
    }
    if count == 0 {
        return;
    }
    let mut fact = Vec::new();
    put_number(count, &mut fact);
    fact.append(&mut text);
    out.push(opcode::AUX);
    put_text(Str::Bytes(NAME), format, out);
    put_text(Str::Bytes(&fact), format, out);
}

/// Reads a fact of that name, with its opcode.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Vec<u8>, RdbError> {
    if reader.byte()? != opcode::AUX || *reader.blob()? != *NAME {
        return Err(RdbError::Corrupt("more than one value"));
    }
    Ok(reader.text()?.into_vec())
}

/// Has the members of a value expire as the fact's text says.
pub(super) fn apply(value: &mut Value, text: &[u8]) -> Result<(), RdbError> {
    const MISSING: RdbError = RdbError::Corrupt("an expiry time of a member that is not there");
    let mut reader = Reader::new(text);
    for _ in 0..reader.count(9)? {
        let member = reader.blob()?;
        let at = Some(reader.i64_le()?);
        match value {
            Value::Set(set) if set.contains(&member) => _ = set.set_expiry(&member, at),
            Value::ZSet(zset) if zset.score(&member).is_some() => _ = zset.set_expiry(&member, at),
            _ => return Err(MISSING),
        }
    }
    if reader.is_empty() { Ok(()) } else { Err(RdbError::Corrupt("more expiry times of members than there are")) }
}
