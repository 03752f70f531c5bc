//! INFO keysizes: how many keys of each type are how big.
//!
//! Redis keeps these figures up at every change; here they are counted when somebody asks, one shard after another, which
//! takes as long as a SCAN of all keys: so INFO shows them only if it is asked for them by name.

use crate::ctx::Ctx;
use crate::error::Result;
use crate::info;
use kelda_store::entry::EntryRef;
use kelda_store::value::ValueRef;
use std::fmt::Write;

/// What is counted of each type, in the order in which it is shown.
const KINDS: [&str; 5] = [
    "distrib_strings_sizes",
    "distrib_lists_items",
    "distrib_sets_items",
    "distrib_zsets_items",
    "distrib_hashes_items",
];

/// Sizes of 0, 1, 2 to 3, 4 to 7 …
const BINS: usize = 65;

/// The kind and size of a value, if it is counted.
fn size(entry: EntryRef) -> Option<(usize, usize)> {
    Some(match entry.value() {
        ValueRef::String(text) => (0, text.len()),
        ValueRef::List(list) => (1, list.len()),
        ValueRef::Set(set) => (2, set.len()),
        ValueRef::ZSet(zset) => (3, zset.len()),
        ValueRef::Hash(hash) => (4, hash.len()),
        ValueRef::Stream(_) => return None,
    })
}

/// The least size of a bin, as `1K`.
fn label(bin: usize) -> String {
    let units = ["", "K", "M", "G", "T", "P", "E"];
    match bin.checked_sub(1) {
        None => "0".into(),
        Some(exponent) => format!("{}{}", 1u64 << (exponent % 10), units.get(exponent / 10).unwrap_or(&"")),
    }
}

/// Writes the section.
///
/// # Errors
/// `Again` when a shard is busy.
pub fn write(ctx: &mut Ctx, text: &mut String) -> Result {
    let counts = info::add_up(ctx, [[0u64; BINS]; KINDS.len()], |txn, counts| {
        txn.for_each_key(|entry| {
            if let Some((kind, size)) = size(entry) {
                counts[kind][(u64::BITS - (size as u64).leading_zeros()) as usize] += 1;
            }
        });
    })?;
    for (db, kinds) in counts.iter().enumerate() {
        for (name, bins) in KINDS.iter().zip(kinds).filter(|(_, bins)| bins.iter().any(|count| *count != 0)) {
            let filled = bins.iter().enumerate().filter(|(_, count)| **count != 0);
            let shown: Vec<String> = filled.map(|(bin, count)| format!("{}={count}", label(bin))).collect();
            let _ = write!(text, "db{db}_{name}:{}\r\n", shown.join(","));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn bins_are_named_by_their_least_size() {
        let shown: Vec<String> = [0, 1, 2, 10, 11, 12, 21, 64].into_iter().map(label).collect();
        assert_eq!(shown, ["0", "1", "2", "512", "1K", "2K", "1M", "8E"]);
    }
}
