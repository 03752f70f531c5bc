//! Random elements of a collection: what SRANDMEMBER and HRANDFIELD make of their count.

use crate::args::Args;
use crate::error::{Error, Result};
use hashbrown::HashSet;
use kelda_store::Str;
use kelda_store::txn::View;
use std::fmt::Write;

/// Up to this many elements are listed and picked from by index, whatever the count: in a packed collection, reaching one
/// element costs as much as listing them all.
const LISTED_MAX: usize = 512;
/// Once more than one in so many elements is asked for, they are listed and shuffled: drawing until enough different ones
/// came would take long.
const SHARE: usize = 3;

/// The count at a word: how many different elements, or, negative, how many draws.
pub(super) fn parse_count(args: &Args, index: usize) -> Result<i64> {
    let count = args.int(index)?;
    if count == i64::MIN {
        let mut text = String::from("ERR value is out of range, value must between ");
        // Writing to a string cannot fail.
        let _ = write!(text, "{} and {}", -i64::MAX, i64::MAX);
        return Err(Error::owned(text));
    }
    Ok(count)
}

/// How many elements of a collection of `len` answer a count.
pub(super) fn drawn(count: i64, len: usize) -> usize {
    match usize::try_from(count) {
        Ok(count) => count.min(len),
        Err(_) if len == 0 => 0,
        Err(_) => usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX),
    }
}

/// Calls `f` with [`drawn`] elements, each as likely as any other. O(drawn), or O(len) where that is about as much. Of draws,
/// of which there may be any number, no more are made once `f` says that it is enough.
///
/// `all` lists the `len` elements, `pick` gives the one that a random number picks, `name` tells elements apart.
pub(super) fn sample<'a, T: Copy>(
    view: &View,
    count: i64,
    len: usize,
    all: impl Iterator<Item = T>,
    pick: impl Fn(u64) -> Option<T>,
    name: impl Fn(T) -> Str<'a>,
    mut f: impl FnMut(T) -> bool,
) {
    let wanted = drawn(count, len);
    let below = |bound: usize| (view.random() % bound as u64) as usize;
    if count >= 0 && wanted == len {
        all.for_each(|element| _ = f(element));
    } else if count >= 0 && (len <= LISTED_MAX || wanted > len / SHARE) {
        // The first steps of a Fisher-Yates shuffle.
        let mut listed: Vec<T> = all.collect();
        for place in 0..wanted.min(listed.len()) {
            let other = place + below(listed.len() - place);
            listed.swap(place, other);
            f(listed[place]);
        }
    } else if count >= 0 {
        let mut seen = HashSet::with_capacity(wanted);
        while seen.len() < wanted {
            let Some(element) = pick(view.random()) else { return };
            if seen.insert(name(element).to_vec()) {
                f(element);
            }
        }
    } else if len <= LISTED_MAX && wanted > 1 {
        let listed: Vec<T> = all.collect();
        for _ in 0..wanted {
            if !f(listed[below(listed.len())]) {
                return;
            }
        }
    } else {
        for _ in 0..wanted {
            let Some(element) = pick(view.random()) else { return };
            if !f(element) {
                return;
            }
        }
    }
}
