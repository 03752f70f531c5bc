//! The packed form of a small sorted set: one block of (score, member) pairs in order.
//!
//! Block: empty, or the number of pairs (u32, little endian) and the pairs. A pair: one byte whose low half tells how
//! the score is held and whose high half how the member is; the score; the member.
//! - Score: as in `score`.
//! - Member: half 0 a length (LEB128) and so many bytes; half 1 to 8 an integer of so many bytes, the fewest that hold
//!   it, whose decimal text is the member.
//!
//! A member has one encoding only. Only this module writes blocks, so reading one can rely on its form.

use super::{
    Pair, is_before,
    score::{self, Compact, int_width, read_int_at},
};
use crate::{Str, defrag::Mover, str::parse_int};
use std::cmp::Ordering;

const HEADER: usize = size_of::<u32>();

/// A small sorted set; see the module.
#[derive(Clone, Default)]
pub(super) struct Packed(Box<[u8]>);

/// A pair and the place behind it.
struct Entry<'a> {
    score: f64,
    member: Str<'a>,
    end: usize,
}

impl Packed {
    pub(super) fn len(&self) -> usize {
        match self.0.first_chunk() {
            Some(count) => u32::from_le_bytes(*count) as usize,
            None => 0,
        }
    }

    /// Moves the block as `mover` wants.
    pub(super) fn relocate(&mut self, mover: &mut Mover<'_>) {
        mover.boxed(&mut self.0);
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.0.len()
    }

    /// The pair at `at`, which is below the block's length.
    #[inline(always)]
    fn read(&self, at: usize) -> Entry<'_> {
        let block = &*self.0;
        let form = block[at];
        let score = score::read_at(form & 15, block, at + 1);
        let mut end = at + 1 + score::width(form & 15);
        let member = match form >> 4 {
            0 => {
                let mut len = usize::from(block[end]);
                end += 1;
                if len >= 0x80 {
                    (len, end) = read_long_len(block, end - 1);
                }
                end += len;
                Str::Bytes(&block[end - len..end])
            }
            width => {
                end += width as usize;
                Str::Int(read_int_at(block, end - width as usize, width as usize))
            }
        };
        Entry { score, member, end }
    }

    /// Every pair with its place.
    fn entries(&self) -> impl Iterator<Item = (usize, Entry<'_>)> {
        let mut at = HEADER;
        std::iter::from_fn(move || {
            (at < self.0.len()).then(|| {
                let entry = self.read(at);
                (std::mem::replace(&mut at, entry.end), entry)
            })
        })
    }

    fn find(&self, member: &[u8]) -> Option<(usize, usize, Entry<'_>)> {
        let wanted = to_str(member);
        let entries = self.entries().enumerate();
        entries.map(|(rank, (at, entry))| (rank, at, entry)).find(|(_, _, entry)| same(entry.member, wanted))
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.find(member).map(|(_, _, entry)| entry.score)
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<usize> {
        self.find(member).map(|(rank, _, _)| rank)
    }

    /// The number of members with a score below `score`, or `up_to` and including it.
    pub(super) fn count_scores(&self, score: f64, up_to: bool) -> usize {
        let compare = |entry: &Entry<'_>| entry.score.partial_cmp(&score).unwrap_or(Ordering::Equal);
        self.entries().take_while(|(_, entry)| is_before(compare(entry), up_to)).count()
    }

    /// The number of members below `member`, or `up_to` and including it, if all have the same score.
    pub(super) fn count_members(&self, member: &[u8], up_to: bool) -> usize {
        let compare = |entry: &Entry<'_>| entry.member.with_bytes(|own| own.cmp(member));
        self.entries().take_while(|(_, entry)| is_before(compare(entry), up_to)).count()
    }

    /// A block of pairs that come in order, each member once. O(bytes).
    pub(super) fn of_sorted<'a>(pairs: impl Iterator<Item = Pair<'a>>) -> Packed {
        let (mut block, mut count) = (vec![0; HEADER], 0u32);
        for (member, score) in pairs {
            let member = match member {
                Str::Int(_) => member,
                Str::Bytes(bytes) => to_str(bytes),
            };
            encode(score, member, |head, tail| {
                block.extend_from_slice(head);
                block.extend_from_slice(tail);
            });
            count += 1;
        }
        if count == 0 {
            return Packed::default();
        }
        block[..HEADER].copy_from_slice(&count.to_le_bytes());
        Packed(block.into_boxed_slice())
    }

    pub(super) fn insert(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let wanted = to_str(member);
        let (mut old, mut place) = (None, None);
        for (at, entry) in self.entries() {
            if same(entry.member, wanted) {
                old = Some((at, entry.end, entry.score));
            } else if place.is_none() && is_behind(&entry, score, member) {
                place = Some(at);
            }
            if old.is_some() && place.is_some() {
                break;
            }
        }
        if let Some((_, _, old_score)) = old
            && old_score == score
        {
            return Some(old_score);
        }
        let mut count = self.len() as u32;
        let mut block = std::mem::take(&mut self.0).into_vec();
        let pair_len = encode(score, wanted, |head, tail| head.len() + tail.len());
        if block.is_empty() {
            block.reserve_exact(HEADER + pair_len);
            block.resize(HEADER, 0);
        }
        let mut place = place.unwrap_or(block.len());
        if let Some((start, end, _)) = old {
            block.drain(start..end);
            if place > start {
                place -= end - start;
            }
        } else {
            count += 1;
        }
        let behind = block.len();
        block.reserve_exact(pair_len);
        block.resize(behind + pair_len, 0);
        block.copy_within(place..behind, place + pair_len);
        encode(score, wanted, |head, tail| {
            let (head_place, tail_place) = block[place..place + pair_len].split_at_mut(head.len());
            head_place.copy_from_slice(head);
            tail_place.copy_from_slice(tail);
        });
        block[..HEADER].copy_from_slice(&count.to_le_bytes());
        self.0 = block.into_boxed_slice();
        old.map(|(_, _, score)| score)
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let (_, at, entry) = self.find(member)?;
        let (score, end) = (entry.score, entry.end);
        self.cut(at, end, 1);
        Some(score)
    }

    /// Removes the pairs of ranks `start` to `end`, which is not beyond the length, after `each` has seen them.
    pub(super) fn remove_ranks(&mut self, start: usize, end: usize, mut each: impl FnMut(Pair<'_>)) {
        let mut bounds: Option<(usize, usize)> = None;
        for (at, entry) in self.entries().skip(start).take(end - start) {
            each((entry.member, entry.score));
            bounds = Some((bounds.map_or(at, |(from, _)| from), entry.end));
        }
        if let Some((from, to)) = bounds {
            self.cut(from, to, end - start);
        }
    }

    /// Takes out the bytes `from..to`, which hold `pairs` pairs.
    fn cut(&mut self, from: usize, to: usize, pairs: usize) {
        let count = self.len() - pairs;
        let mut block = std::mem::take(&mut self.0).into_vec();
        if count > 0 {
            block.drain(from..to);
            block[..HEADER].copy_from_slice(&(count as u32).to_le_bytes());
            self.0 = block.into_boxed_slice();
        }
    }

    /// Shows up to `count` pairs from `rank` on, in order.
    #[inline]
    pub(super) fn for_each_from_rank<'a>(&'a self, rank: usize, count: usize, mut each: impl FnMut(Pair<'a>)) {
        let mut at = self.iter(rank, false).at;
        for _ in 0..count {
            if at >= self.0.len() {
                break;
            }
            let entry = self.read(at);
            at = entry.end;
            each((entry.member, entry.score));
        }
    }

    /// Iterates from `rank` to the end, or to the start if `reverse`.
    pub(super) fn iter(&self, rank: usize, reverse: bool) -> Iter<'_> {
        let len = self.len();
        if rank >= len {
            return Iter { packed: self, at: self.0.len(), back: None };
        }
        if reverse {
            let places = self.entries().map(|(at, _)| at).take(rank + 1).collect();
            Iter { packed: self, at: 0, back: Some(places) }
        } else {
            let at = self.entries().nth(rank).map_or(self.0.len(), |(at, _)| at);
            Iter { packed: self, at, back: None }
        }
    }
}

/// A length of more than one byte at a place of a block, and the place behind it.
#[cold]
fn read_long_len(block: &[u8], mut at: usize) -> (usize, usize) {
    let (mut len, mut shift) = (0, 0);
    loop {
        let byte = block[at];
        at += 1;
        len |= ((byte & 0x7f) as usize) << shift;
        shift += 7;
        if byte < 0x80 {
            return (len, at);
        }
    }
}

/// Pairs in order, or in reverse order.
pub(super) struct Iter<'a> {
    packed: &'a Packed,
    at: usize,
    /// Reverse order only: the places still to visit, the next one last. Blocks can be walked only forward.
    back: Option<Vec<usize>>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Pair<'a>;

    #[inline]
    fn next(&mut self) -> Option<Pair<'a>> {
        match &mut self.back {
            Some(places) => self.at = places.pop()?,
            None if self.at >= self.packed.0.len() => return None,
            None => {}
        }
        let entry = self.packed.read(self.at);
        self.at = entry.end;
        Some((entry.member, entry.score))
    }
}

/// Whether the pair stands behind `score` and `member`.
fn is_behind(entry: &Entry<'_>, score: f64, member: &[u8]) -> bool {
    entry.score > score || entry.score == score && entry.member.with_bytes(|own| own > member)
}

/// The one form in which a member is held.
fn to_str(member: &[u8]) -> Str<'_> {
    parse_int(member).map_or(Str::Bytes(member), Str::Int)
}

/// Whether two members are equal, given that each is in its one form.
#[inline]
fn same(a: Str<'_>, b: Str<'_>) -> bool {
    match (a, b) {
        (Str::Int(a), Str::Int(b)) => a == b,
        (Str::Bytes(a), Str::Bytes(b)) => a == b,
        _ => false,
    }
}

/// Calls `write` with a pair's encoding in two pieces.
fn encode<R>(score: f64, member: Str<'_>, write: impl FnOnce(&[u8], &[u8]) -> R) -> R {
    // Form, score, and an integer or a length of at most ten bytes.
    let mut head = [0; 1 + 8 + 10];
    // As in Redis, a packed -0.0 becomes 0: both are the integer 0.
    let score = Compact::new(if score == 0.0 { 0.0 } else { score });
    let mut len = 1 + score.bytes().len();
    head[0] = score.form;
    head[1..len].copy_from_slice(score.bytes());
    match member {
        Str::Int(n) => {
            let width = int_width(n);
            head[0] |= (width as u8) << 4;
            head[len..len + width].copy_from_slice(&n.to_le_bytes()[..width]);
            write(&head[..len + width], &[])
        }
        Str::Bytes(bytes) => {
            let mut rest = bytes.len();
            while rest >= 0x80 {
                head[len] = rest as u8 | 0x80;
                len += 1;
                rest >>= 7;
            }
            head[len] = rest as u8;
            write(&head[..len + 1], bytes)
        }
    }
}
