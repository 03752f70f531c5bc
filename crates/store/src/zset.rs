//! The sorted-set type: members with scores, ordered by score and, among equal scores, by the members' bytes.
//!
//! Small sets are one packed block (`packed`), larger ones a hash table and a counted B+tree (`tree`, `btree`); a set
//! that has grown stays so. One with members that expire has grown. Everything about ranges is arithmetic on ranks: `rank_range` and `lex_rank_range` turn a
//! range into ranks, `iter_from_rank` and `remove_rank_range` take ranks. Ranks are 0-based and ascending.

pub(crate) mod btree;
mod packed;
mod score;
#[cfg(test)]
mod tests;
mod tree;

use crate::defrag::Mover;
use crate::packed::are_distinct;
use crate::timed::TimedTable;
use crate::{Limits, Str};
use packed::Packed;
use std::cmp::Ordering;
use tree::Tree;

/// A member and its score.
pub type Pair<'a> = (Str<'a>, f64);

/// A sorted set.
#[derive(Clone)]
pub struct ZSet(Form);

enum Form {
    Packed(Packed),
    Tree(Box<Tree>),
}

const _: () = {
    const fn send<T: Send + Sync>() {}
    send::<ZSet>();
    assert!(size_of::<ZSet>() <= 16 && align_of::<ZSet>() <= 8);
};

/// One end of a range of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// The score itself belongs to the range.
    Inclusive(f64),
    /// The score itself does not.
    Exclusive(f64),
}

/// A range of scores, as ZRANGEBYSCORE and ZCOUNT name it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreRange {
    /// The lower end.
    pub min: Bound,
    /// The upper end; a range whose ends are in the wrong order is empty.
    pub max: Bound,
}

/// One end of a range of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexBound<'a> {
    /// Before every member (`-`).
    Lowest,
    /// After every member (`+`).
    Highest,
    /// The member itself belongs to the range (`[m`).
    Inclusive(&'a [u8]),
    /// The member itself does not (`(m`).
    Exclusive(&'a [u8]),
}

/// A range of members, as ZRANGEBYLEX names it; meaningful only where all scores are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LexRange<'a> {
    /// The lower end.
    pub min: LexBound<'a>,
    /// The upper end; a range whose ends are in the wrong order is empty.
    pub max: LexBound<'a>,
}

/// Whether something that compares so with a bound stands before the place below the bound, or behind it if `up_to`.
#[inline]
fn is_before(compared: Ordering, up_to: bool) -> bool {
    compared == Ordering::Less || up_to && compared == Ordering::Equal
}

impl Default for ZSet {
    fn default() -> ZSet {
        ZSet::new()
    }
}

impl ZSet {
    /// An empty set.
    pub fn new() -> ZSet {
        ZSet(Form::Packed(Packed::default()))
    }

    /// Moves a packed set as `mover` wants. The members of a grown one stay: their addresses stand in its tree.
    pub(crate) fn relocate_small(&mut self, mover: &mut Mover<'_>) {
        if let Form::Packed(packed) = &mut self.0 {
            packed.relocate(mover);
        }
    }

    /// A set of pairs that come in ascending order, each member once, and few enough for a packed set; `None` for others, which
    /// are to be inserted one by one. O(n log n).
    pub fn from_sorted(pairs: &[Pair<'_>], limits: &Limits) -> Option<ZSet> {
        if !is_small(pairs, limits) {
            return None;
        }
        let ascending = pairs
            .is_sorted_by(|(a, low), (b, high)| low < high || low == high && a.with_bytes(|a| b.with_bytes(|b| a < b)));
        let members = pairs.iter().map(|(member, _)| match *member {
            Str::Int(n) => (Some(n), &b""[..]),
            Str::Bytes(bytes) => crate::str::parse_int(bytes).map_or((None, bytes), |n| (Some(n), &b""[..])),
        });
        (ascending && are_distinct(members)).then(|| ZSet(Form::Packed(Packed::of_sorted(pairs.iter().copied()))))
    }

    /// A set of pairs in whatever order, each member once; no score is NaN. O(n log n), and faster than inserting them one by one.
    pub fn from_distinct(mut pairs: Vec<Pair<'_>>, limits: &Limits) -> ZSet {
        pairs.sort_unstable_by(|(a, low), (b, high)| {
            let by_score = low.partial_cmp(high).unwrap_or(Ordering::Equal);
            by_score.then_with(|| a.with_bytes(|a| b.with_bytes(|b| a.cmp(b))))
        });
        ZSet(if is_small(&pairs, limits) {
            Form::Packed(Packed::of_sorted(pairs.into_iter()))
        } else {
            Form::Tree(Box::new(build_tree(pairs.into_iter())))
        })
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Packed(packed) => packed.len(),
            Form::Tree(tree) => tree.len(),
        }
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The score of `member`. O(1).
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.0 {
            Form::Packed(packed) => packed.score(member),
            Form::Tree(tree) => tree.score(member),
        }
    }

    /// When a member expires (Unix ms), if it is there and ever does.
    pub fn expiry(&self, member: &[u8]) -> Option<i64> {
        self.times_table()?.table().get(member)?.expire_at
    }

    fn times_table(&self) -> Option<&TimedTable> {
        if let Form::Tree(tree) = &self.0 { tree.times() } else { None }
    }

    /// Has a member, which is there, expire at a Unix time in ms, or live for ever; when it would have expired before.
    pub fn set_expiry(&mut self, member: &[u8], expire_at: Option<i64>) -> Option<i64> {
        if expire_at.is_none() && self.times_table().is_none() || self.score(member).is_none() {
            return None;
        }
        if let Form::Packed(packed) = &self.0 {
            self.0 = Form::Tree(Box::new(build_tree(packed.iter(0, false))));
        }
        match &mut self.0 {
            Form::Tree(tree) => tree.set_expiry(member, expire_at),
            Form::Packed(_) => unreachable!("it was just made a tree"),
        }
    }

    /// When the first member expires (Unix ms), if any ever does. O(log n).
    pub fn soonest(&self) -> Option<i64> {
        self.times_table()?.soonest()
    }

    /// Whether every member is due. O(log n).
    pub fn is_over(&self, now_ms: i64) -> bool {
        self.times_table().map_or(self.is_empty(), |times| times.table().len() == self.len() && times.is_over(now_ms))
    }

    /// The members that are due, the longest due first; up to `max`.
    pub fn due_members(&self, now_ms: i64, max: usize) -> Vec<Vec<u8>> {
        self.times_table().map_or(Vec::new(), |times| times.due_keys(now_ms, max))
    }

    /// The members that expire, and when (Unix ms).
    pub fn times(&self) -> impl Iterator<Item = (&[u8], i64)> {
        self.times_table().into_iter().flat_map(TimedTable::times)
    }

    /// Adds `member`, or gives it a new score; its old score. `score` is not NaN. A score equal to the old one changes
    /// nothing, not even from -0.0 to 0.0. O(log n).
    pub fn insert(&mut self, member: &[u8], score: f64, limits: &Limits) -> Option<f64> {
        debug_assert!(!score.is_nan());
        if let Form::Packed(packed) = &self.0 {
            let too_large = packed.len() >= limits.zset_entries_max.min(u32::MAX as usize)
                || member.len() > limits.zset_value_bytes_max;
            if too_large && packed.score(member).is_none() {
                self.0 = Form::Tree(Box::new(build_tree(packed.iter(0, false))));
            }
        }
        match &mut self.0 {
            Form::Packed(packed) => packed.insert(member, score),
            Form::Tree(tree) => tree.insert(member, score),
        }
    }

    /// Removes `member`; its score. O(log n).
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match &mut self.0 {
            Form::Packed(packed) => packed.remove(member),
            Form::Tree(tree) => tree.remove(member),
        }
    }

    /// The rank of `member`. O(log n).
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        match &self.0 {
            Form::Packed(packed) => packed.rank(member),
            Form::Tree(tree) => tree.rank(member),
        }
    }

    /// The member of rank `rank`. O(log n).
    pub fn by_rank(&self, rank: usize) -> Option<Pair<'_>> {
        self.iter_from_rank(rank, false).next()
    }

    /// All members in ascending order.
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from_rank(0, false)
    }

    /// The members from rank `rank` on, ascending, or descending to the lowest if `reverse`; none if there is no such
    /// rank. O(log n) to start, O(1) a step.
    pub fn iter_from_rank(&self, rank: usize, reverse: bool) -> Iter<'_> {
        Iter(match &self.0 {
            Form::Packed(packed) => IterForm::Packed(packed.iter(rank, reverse)),
            Form::Tree(tree) => IterForm::Tree(tree.iter(rank, reverse)),
        })
    }

    /// Shows `count` members, or as many as there are, from rank `rank` on in one direction; as [`ZSet::iter_from_rank`], but asks once
    /// and not at each step which form the set has.
    #[inline]
    pub fn for_each_from_rank<'a>(&'a self, rank: usize, reverse: bool, count: usize, each: impl FnMut(Pair<'a>)) {
        match &self.0 {
            Form::Packed(packed) if reverse => packed.iter(rank, true).take(count).for_each(each),
            Form::Packed(packed) => packed.for_each_from_rank(rank, count, each),
            Form::Tree(tree) if reverse => tree.iter(rank, true).take(count).for_each(each),
            Form::Tree(tree) => tree.for_each_from_rank(rank, count, each),
        }
    }

    /// The ranks of the members with a score in `range`: the first, and the one behind the last. O(log n).
    pub fn rank_range(&self, range: &ScoreRange) -> (usize, usize) {
        let count = |score, up_to| match &self.0 {
            Form::Packed(packed) => packed.count_scores(score, up_to),
            Form::Tree(tree) => tree.count_scores(score, up_to),
        };
        let start = match range.min {
            Bound::Inclusive(min) => count(min, false),
            Bound::Exclusive(min) => count(min, true),
        };
        let end = match range.max {
            Bound::Inclusive(max) => count(max, true),
            Bound::Exclusive(max) => count(max, false),
        };
        (start, end.max(start))
    }

    /// The ranks of the members in `range`: the first, and the one behind the last. O(log n).
    pub fn lex_rank_range(&self, range: &LexRange<'_>) -> (usize, usize) {
        let count = |member: &[u8], up_to| match &self.0 {
            Form::Packed(packed) => packed.count_members(member, up_to),
            Form::Tree(tree) => tree.count_members(member, up_to),
        };
        let start = match range.min {
            LexBound::Lowest => 0,
            LexBound::Highest => self.len(),
            LexBound::Inclusive(min) => count(min, false),
            LexBound::Exclusive(min) => count(min, true),
        };
        let end = match range.max {
            LexBound::Lowest => 0,
            LexBound::Highest => self.len(),
            LexBound::Inclusive(max) => count(max, true),
            LexBound::Exclusive(max) => count(max, false),
        };
        (start, end.max(start))
    }

    /// Removes the members of ranks `start` to `end` (exclusive; ranks beyond the last are ignored), each shown to
    /// `removed` in ascending order. O(log n) a member.
    pub fn remove_rank_range(&mut self, start: usize, end: usize, removed: impl FnMut(Pair<'_>)) {
        let end = end.min(self.len());
        if start < end {
            match &mut self.0 {
                Form::Packed(packed) => packed.remove_ranks(start, end, removed),
                Form::Tree(tree) => tree.remove_ranks(start, end, removed),
            }
        }
    }

    /// Removes the first member. O(log n).
    pub fn pop_min(&mut self) -> Option<(Vec<u8>, f64)> {
        self.pop(0)
    }

    /// Removes the last member. O(log n).
    pub fn pop_max(&mut self) -> Option<(Vec<u8>, f64)> {
        self.pop(self.len().checked_sub(1)?)
    }

    fn pop(&mut self, rank: usize) -> Option<(Vec<u8>, f64)> {
        let mut popped = None;
        self.remove_rank_range(rank, rank + 1, |(member, score)| popped = Some((member.to_vec(), score)));
        popped
    }

    /// A member chosen by `random`, each as likely as the others if `random` is uniform. O(log n).
    pub fn random(&self, random: u64) -> Option<Pair<'_>> {
        self.by_rank(((u128::from(random) * self.len() as u128) >> 64) as usize)
    }

    /// One step of ZSCAN: shows about `count` members to `each`, from `cursor` (0 at first) on; the next cursor, or 0 at
    /// the end. A member that stays in the set from the first step to the last is shown at least once; so is every member
    /// of a packed set, all in one step.
    pub fn scan(&self, cursor: u64, count: usize, mut each: impl FnMut(Pair<'_>)) -> u64 {
        match &self.0 {
            Form::Packed(packed) => {
                packed.iter(0, false).for_each(each);
                0
            }
            Form::Tree(tree) => {
                let mut shown = 0;
                let mut cursor = cursor;
                // A table may be nearly empty: as in Redis, ten steps a member are enough.
                for _ in 0..count.saturating_mul(10) {
                    cursor = tree.scan(cursor, &mut |pair| {
                        shown += 1;
                        each(pair);
                    });
                    if cursor == 0 || shown >= count {
                        break;
                    }
                }
                cursor
            }
        }
    }

    /// As [`ZSet::scan`], of the members that expire, with when they do (Unix ms).
    pub(crate) fn scan_times(&self, cursor: u64, mut each: impl FnMut(&[u8], Option<i64>)) -> u64 {
        let scan = |times: &TimedTable| times.table().scan(cursor, 1, |member| each(member.key, member.expire_at));
        self.times_table().map_or(0, scan)
    }

    /// The name that OBJECT ENCODING replies.
    pub fn encoding(&self) -> &'static str {
        match &self.0 {
            Form::Packed(_) => "listpack",
            Form::Tree(_) => "skiplist",
        }
    }

    /// Bytes on the heap. O(n / 1000).
    pub fn memory_bytes(&self) -> usize {
        match &self.0 {
            Form::Packed(packed) => packed.memory_bytes(),
            Form::Tree(tree) => tree.memory_bytes(),
        }
    }

    /// Frees up to `n` members of a set that is to be dropped, so that a large one goes in small steps; whether nothing
    /// is left. In between the set is good for nothing else.
    pub fn free_some(&mut self, n: usize) -> bool {
        match &mut self.0 {
            Form::Packed(packed) => {
                *packed = Packed::default();
                true
            }
            Form::Tree(tree) => tree.free_some(n),
        }
    }
}

/// Whether these pairs make a packed set.
fn is_small(pairs: &[Pair<'_>], limits: &Limits) -> bool {
    let fits = |(member, _): &Pair<'_>| member.len() <= limits.zset_value_bytes_max;
    pairs.len() <= limits.zset_entries_max.min(u32::MAX as usize) && pairs.iter().all(fits)
}

/// A tree of pairs that come in ascending order, each member once.
fn build_tree<'a>(pairs: impl Iterator<Item = Pair<'a>>) -> Tree {
    let mut tree = Tree::new();
    for (member, score) in pairs {
        member.with_bytes(|member| tree.push(member, score));
    }
    tree
}

impl Clone for Form {
    fn clone(&self) -> Form {
        match self {
            Form::Packed(packed) => Form::Packed(packed.clone()),
            Form::Tree(tree) => {
                let mut copy = build_tree(tree.iter(0, false));
                for member in tree.times().into_iter().flat_map(|times| times.table().iter()) {
                    copy.set_expiry(member.key, member.expire_at);
                }
                Form::Tree(Box::new(copy))
            }
        }
    }
}

/// Members with their scores, in one direction.
pub struct Iter<'a>(IterForm<'a>);

#[allow(clippy::large_enum_variant, reason = "lives on the stack, and briefly")]
enum IterForm<'a> {
    Packed(packed::Iter<'a>),
    Tree(tree::Iter<'a>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Pair<'a>;

    #[inline]
    fn next(&mut self) -> Option<Pair<'a>> {
        match &mut self.0 {
            IterForm::Packed(iter) => iter.next(),
            IterForm::Tree(iter) => iter.next(),
        }
    }
}
