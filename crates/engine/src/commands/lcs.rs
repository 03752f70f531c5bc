//! LCS: the longest common subsequence of two strings, found by dynamic programming.

use crate::args::Args;
use crate::command::Reply;
use crate::error::{Error, Result};
use kelda_store::txn::{Key, View};
use kelda_store::value::ValueRef;
use std::ops::RangeInclusive;

/// A run of common bytes: where it is in either string.
struct Match {
    in_a: RangeInclusive<usize>,
    in_b: RangeInclusive<usize>,
}

impl Match {
    fn len(&self) -> usize {
        self.in_a.end() - self.in_a.start() + 1
    }
}

/// The command.
pub(super) fn lcs(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let (a, b) = (text_at(view, args.key(1))?, text_at(view, args.key(2))?);
    let (mut len_only, mut indexes, mut with_lengths, mut length_min) = (false, false, false, 0);
    let mut at = 3;
    while at < args.len() {
        if args.is(at, "IDX") {
            indexes = true;
        } else if args.is(at, "LEN") {
            len_only = true;
        } else if args.is(at, "WITHMATCHLEN") {
            with_lengths = true;
        } else if args.is(at, "MINMATCHLEN") && args.len() > at + 1 {
            length_min = usize::try_from(args.int(at + 1)?).unwrap_or(0);
            at += 1;
        } else {
            return Err(Error::Syntax);
        }
        at += 1;
    }
    if len_only && indexes {
        return Err(Error::text("ERR If you want both the length and indexes, please just use IDX."));
    }
    let lengths = Lengths::of_prefixes(&a, &b, view.cx.env.string_bytes_max)?;
    let total = lengths.get(a.len(), b.len());
    if len_only {
        reply.int(i64::from(total));
        return Ok(());
    }
    let matches = lengths.matches(&a, &b);
    if !indexes {
        let common: Vec<u8> = matches.iter().rev().flat_map(|found| &a[found.in_a.clone()]).copied().collect();
        reply.bulk(&common);
        return Ok(());
    }
    let wanted: Vec<&Match> = matches.iter().filter(|found| found.len() >= length_min).collect();
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(wanted.len());
    for found in wanted {
        reply.array(2 + usize::from(with_lengths));
        for range in [&found.in_a, &found.in_b] {
            reply.array(2);
            reply.int(*range.start() as i64);
            reply.int(*range.end() as i64);
        }
        if with_lengths {
            reply.int(found.len() as i64);
        }
    }
    reply.bulk(b"len");
    reply.int(i64::from(total));
    Ok(())
}

fn text_at(view: &View, key: Key) -> Result<Vec<u8>> {
    match view.get(key).map(|entry| entry.value()) {
        None => Ok(Vec::new()),
        Some(ValueRef::String(text)) => Ok(text.to_vec()),
        Some(_) => Err(Error::text("ERR The specified keys must contain string values")),
    }
}

/// The length of the longest common subsequence of each pair of prefixes.
struct Lengths {
    table: Vec<u32>,
    width: usize,
}

impl Lengths {
    /// Invariant: `table[i * width + j]` belongs to the first `i` bytes of `a` and the first `j` of `b`. The table takes no more
    /// than `bytes_max`.
    fn of_prefixes(a: &[u8], b: &[u8], bytes_max: usize) -> Result<Lengths> {
        const TOO_LONG: Error = Error::text("ERR String too long for LCS");
        const TOO_LARGE: Error =
            Error::text("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
        const NO_MEMORY: Error = Error::text("ERR Insufficient memory, failed allocating transient memory for LCS");
        if a.len() >= u32::MAX as usize || b.len() >= u32::MAX as usize {
            return Err(TOO_LONG);
        }
        let width = b.len() + 1;
        let cells = width.checked_mul(a.len() + 1).ok_or(TOO_LONG)?;
        if cells.checked_mul(size_of::<u32>()).is_none_or(|bytes| bytes > bytes_max) {
            return Err(TOO_LARGE);
        }
        let mut table = Vec::new();
        table.try_reserve_exact(cells).map_err(|_| NO_MEMORY)?;
        table.resize(cells, 0u32);
        let mut lengths = Lengths { table, width };
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                let length = if a[i - 1] == b[j - 1] {
                    lengths.get(i - 1, j - 1) + 1
                } else {
                    lengths.get(i - 1, j).max(lengths.get(i, j - 1))
                };
                lengths.table[i * width + j] = length;
            }
        }
        Ok(lengths)
    }

    fn get(&self, i: usize, j: usize) -> u32 {
        self.table[i * self.width + j]
    }

    /// The runs of one longest common subsequence, the last first. Where several are as long, it is the one that Redis
    /// finds: walking back from the ends, bytes of `b` are given up first.
    fn matches(&self, a: &[u8], b: &[u8]) -> Vec<Match> {
        let (mut i, mut j) = (a.len(), b.len());
        let mut found: Vec<Match> = Vec::new();
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                i -= 1;
                j -= 1;
                match found.last_mut() {
                    Some(run) if *run.in_a.start() == i + 1 && *run.in_b.start() == j + 1 => {
                        *run = Match { in_a: i..=*run.in_a.end(), in_b: j..=*run.in_b.end() };
                    }
                    _ => found.push(Match { in_a: i..=i, in_b: j..=j }),
                }
            } else if self.get(i - 1, j) > self.get(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        found
    }
}
