//! SCAN, KEYS, RANDOMKEY, DBSIZE, and the cursor and options that SCAN shares with HSCAN, SSCAN and ZSCAN.
//!
//! A SCAN holds one shard at a time. Its cursor is a place in the keyspace: the shard's number above the 32 bits of a
//! cursor in the shard's table, so that every key that is there throughout is returned whatever happens in between.

use crate::args::Args;
use crate::command::Command;
use crate::error::{Error, Result};
use kelda_store::value::Kind;

/// The family.
pub static COMMANDS: &[Command] = &[];

/// The options of SCAN, HSCAN, SSCAN and ZSCAN.
pub(super) struct ScanOptions<'a> {
    /// COUNT: about how many elements to look at.
    pub count: usize,
    /// MATCH, unless it is `*`.
    pub pattern: Option<&'a [u8]>,
    /// TYPE: only keys of this type; `Some(None)` is a type that no key has.
    pub kind: Option<Option<Kind>>,
    /// NOVALUES of HSCAN.
    pub no_values: bool,
    /// NOSCORES of ZSCAN.
    pub no_scores: bool,
}

/// Which command of the SCAN family asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ScanOf {
    Keys,
    Hash,
    Set,
    ZSet,
}

impl ScanOptions<'_> {
    /// Whether MATCH lets this key, field or member through.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| kelda_resp::glob_match(pattern, text, false))
    }
}

/// Parses the options from the word at `first` on. Redis looks at them only once the key was found and has the right type.
pub(super) fn parse_scan_options<'a>(args: &Args<'a>, first: usize, of: ScanOf) -> Result<ScanOptions<'a>> {
    let mut options = ScanOptions { count: 10, pattern: None, kind: None, no_values: false, no_scores: false };
    let mut at = first;
    while at < args.len() {
        let argument = args.get(at + 1);
        if args.is(at, "NOVALUES") {
            if of != ScanOf::Hash {
                return Err(Error::text("ERR NOVALUES option can only be used in HSCAN"));
            }
            options.no_values = true;
            at += 1;
            continue;
        }
        if args.is(at, "NOSCORES") {
            if of != ScanOf::ZSet {
                return Err(Error::text("ERR NOSCORES option can only be used in ZSCAN"));
            }
            options.no_scores = true;
            at += 1;
            continue;
        }
        let Some(argument) = argument else { return Err(Error::Syntax) };
        if args.is(at, "COUNT") {
            let count = args.int(at + 1)?;
            options.count = usize::try_from(count).ok().filter(|&count| count != 0).ok_or(Error::Syntax)?;
        } else if args.is(at, "MATCH") {
            options.pattern = (argument != b"*").then_some(argument);
        } else if args.is(at, "TYPE") && of == ScanOf::Keys {
            options.kind = Some(kind_of_name(argument));
        } else {
            return Err(Error::Syntax);
        }
        at += 2;
    }
    Ok(options)
}

fn kind_of_name(name: &[u8]) -> Option<Kind> {
    [Kind::String, Kind::List, Kind::Set, Kind::ZSet, Kind::Hash, Kind::Stream]
        .into_iter()
        .find(|kind| name.eq_ignore_ascii_case(kind.name().as_bytes()))
}

/// Parses a cursor: any unsigned 64-bit number, leading zeros allowed.
pub(super) fn parse_cursor(text: &[u8]) -> Result<u64> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or(Error::text("ERR invalid cursor"))
}
