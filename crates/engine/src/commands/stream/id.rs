//! Reading ids: `ms`, `ms-seq`, and in ranges `-`, `+` and an exclusive `(`.

use crate::error::{Error, Result};
use kelda_store::stream::StreamId;

const INVALID: Error = Error::text("ERR Invalid stream ID specified as stream command argument");

/// An id; `seq` stands where only the time is given.
pub(super) fn parse(word: &[u8], seq: u64) -> Result<StreamId> {
    let mut parts = word.splitn(2, |byte| *byte == b'-');
    let ms = parts.next().and_then(number).ok_or(INVALID)?;
    match parts.next() {
        None => Ok(StreamId::new(ms, seq)),
        Some(text) => Ok(StreamId::new(ms, number(text).ok_or(INVALID)?)),
    }
}

/// An id, or `-` or `+` for the lowest and the highest.
pub(super) fn parse_or_end(word: &[u8], seq: u64) -> Result<StreamId> {
    match word {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        _ => parse(word, seq),
    }
}

/// The lowest id of a range.
pub(super) fn parse_start(word: &[u8]) -> Result<StreamId> {
    match word.strip_prefix(b"(") {
        Some(rest) if !rest.is_empty() => {
            parse(rest, 0)?.next().ok_or(Error::text("ERR invalid start ID for the interval"))
        }
        _ => parse_or_end(word, 0),
    }
}

/// The highest id of a range.
pub(super) fn parse_end(word: &[u8]) -> Result<StreamId> {
    match word.strip_prefix(b"(") {
        Some(rest) if !rest.is_empty() => {
            parse(rest, u64::MAX)?.previous().ok_or(Error::text("ERR invalid end ID for the interval"))
        }
        _ => parse_or_end(word, u64::MAX),
    }
}

/// The id that a new entry is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewId {
    /// `*`: the time, or the id after the last.
    Auto,
    /// `ms-*`: the next within that millisecond.
    AutoSeq(u64),
    /// This one.
    Given(StreamId),
}

impl NewId {
    /// Reads one.
    pub(super) fn parse(word: &[u8]) -> Result<NewId> {
        if word == b"*" {
            return Ok(NewId::Auto);
        }
        match word.strip_suffix(b"-*") {
            Some(ms) => Ok(NewId::AutoSeq(number(ms).ok_or(INVALID)?)),
            None => parse(word, 0).map(NewId::Given),
        }
    }

    /// The id that follows `last` at a Unix time in ms; `None` if there is none above it.
    pub(super) fn after(self, last: StreamId, now: i64) -> Option<StreamId> {
        let now = u64::try_from(now).unwrap_or(0);
        let id = match self {
            NewId::Auto if now > last.ms => StreamId::new(now, 0),
            NewId::Auto => return last.next(),
            NewId::AutoSeq(ms) if ms == last.ms => StreamId::new(ms, last.seq.checked_add(1)?),
            NewId::AutoSeq(ms) => StreamId::new(ms, 0),
            NewId::Given(id) => id,
        };
        (id > last).then_some(id)
    }
}

/// Digits only; leading zeros are allowed, as Redis allows them.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}
