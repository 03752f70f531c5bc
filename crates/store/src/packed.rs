//! Packed blocks: small collections in one contiguous allocation behind an 8-byte owner.
//!
//! The elements lie one after another in the layout of the listpack elements of Redis 5 and later, so that sizes, and
//! with them the thresholds at which collections change their encoding, are the same:
//!
//! | first byte | holds |
//! |---|---|
//! | `0vvvvvvv` | integer 0..=127 |
//! | `10nnnnnn` | string of up to 63 bytes |
//! | `110vvvvv` +1 | 13-bit integer, big-endian |
//! | `1110nnnn` +1 | string of up to 4095 bytes, length big-endian |
//! | `F0` +4 | longer string, length little-endian |
//! | `F1` +2, `F2` +3, `F3` +4, `F4` +8 | integer, little-endian |
//!
//! Behind it stands the element's own size in 7-bit groups, readable from its last byte backwards, for walking
//! towards the front.
//!
//! Invariant: every element is in its shortest form (an integer whenever its text is one), so that equal elements have
//! equal bytes. A position is the byte offset of an element; positions behind a change are void.

mod block;

use crate::Str;
use crate::defrag::Mover;
use crate::str::parse_int;
pub(crate) use block::Block;
use std::iter::{FusedIterator, Rev};

/// A sequence of elements in one allocation.
///
/// O(1) at the back (amortised), O(bytes behind the position) elsewhere; reaching an index walks from the nearer end.
#[derive(Clone)]
pub struct Packed {
    /// The tag is the number of elements.
    block: Block,
}

const STRING_6: u8 = 0x80;
const INT_13: u8 = 0xc0;
const STRING_12: u8 = 0xe0;
const STRING_32: u8 = 0xf0;
const INT_16: u8 = 0xf1;
const INT_24: u8 = 0xf2;
const INT_32: u8 = 0xf3;
const INT_64: u8 = 0xf4;

/// Header and end marker of a listpack: counted in [`Packed::bytes`] only.
const LISTPACK_FRAME: usize = 7;

/// No block of several elements grows past this, whatever the configured limits allow (Redis: 1 GiB, too).
const SAFE_BYTES: usize = 1 << 30;

impl Packed {
    /// An empty block; allocates nothing.
    pub const fn new() -> Packed {
        Packed { block: Block::new() }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.block.tag() as usize
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size in bytes as a listpack with its frame, which is what the configured limits are compared with.
    pub fn bytes(&self) -> usize {
        self.block.len() + LISTPACK_FRAME
    }

    /// The elements' bytes in listpack form, without the frame.
    pub fn elements(&self) -> &[u8] {
        self.block.bytes()
    }

    /// Heap in use, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.block.memory_bytes()
    }

    /// Moves the block as `mover` wants.
    pub(crate) fn relocate(&mut self, mover: &mut Mover<'_>) {
        self.block.relocate(mover);
    }

    /// Whether an element of `len` bytes can be added without leaving the safe size of a block.
    pub fn is_safe_to_add(&self, len: usize) -> bool {
        len <= SAFE_BYTES && self.bytes() + len <= SAFE_BYTES
    }

    /// Adds an element behind the last. Amortised O(element).
    ///
    /// # Panics
    /// As every method that adds: if the block would exceed 4 GiB.
    pub fn push_back(&mut self, element: Str<'_>) {
        self.insert(self.end(), element);
    }

    /// Adds two elements behind the last. Amortised O(elements).
    pub fn push_pair(&mut self, first: Str<'_>, second: Str<'_>) {
        let [first, second] = [first, second].map(Encoded::new);
        let ((a, a_len), (b, b_len)) = (first.back(), second.back());
        let parts = [first.head(), first.body, &a[..a_len], second.head(), second.body, &b[..b_len]];
        self.block.splice(self.end(), 0, &parts, self.len() as u32 + 2);
    }

    /// Adds an element in front of the first. O(bytes).
    pub fn push_front(&mut self, element: Str<'_>) {
        self.insert(0, element);
    }

    /// Adds an element in front of the one at `pos`, or at the back for `pos == end()`.
    pub fn insert(&mut self, pos: usize, element: Str<'_>) {
        self.put(pos, 0, element, self.len() + 1);
    }

    /// Replaces the element at `pos`; other positions in front of it stay valid.
    pub fn replace(&mut self, pos: usize, element: Str<'_>) {
        self.put(pos, self.extent(pos), element, self.len());
    }

    /// Removes the element at `pos`; `pos` is then the position of its successor, or `end()`.
    pub fn remove(&mut self, pos: usize) {
        self.remove_range(pos, 1);
    }

    /// Removes up to `count` elements from `pos` on; returns how many.
    pub fn remove_range(&mut self, pos: usize, count: usize) -> usize {
        let (mut until, mut removed) = (pos, 0);
        while removed < count && until < self.end() {
            until += self.extent(until);
            removed += 1;
        }
        self.block.splice(pos, until - pos, &[], (self.len() - removed) as u32);
        removed
    }

    /// The position behind the last element.
    pub fn end(&self) -> usize {
        self.block.len()
    }

    /// Position of the first element.
    pub fn first(&self) -> Option<usize> {
        (!self.is_empty()).then_some(0)
    }

    /// Position of the last element.
    pub fn last(&self) -> Option<usize> {
        self.prev(self.end())
    }

    /// Position of the element behind the one at `pos`.
    pub fn next(&self, pos: usize) -> Option<usize> {
        let next = pos + self.extent(pos);
        (next < self.end()).then_some(next)
    }

    /// Position of the element in front of `pos`, which may be `end()`.
    pub fn prev(&self, pos: usize) -> Option<usize> {
        (pos > 0).then(|| start_of_last(&self.elements()[..pos]))
    }

    /// The element at a position.
    pub fn at(&self, pos: usize) -> Str<'_> {
        decode(&self.elements()[pos..]).0
    }

    /// Position of the element with this index, counted from the nearer end.
    pub fn seek(&self, index: usize) -> Option<usize> {
        let len = self.len();
        if index >= len {
            return None;
        }
        let mut pos;
        if index <= len / 2 {
            pos = 0;
            for _ in 0..index {
                pos += self.extent(pos);
            }
        } else {
            pos = self.end();
            for _ in index..len {
                pos = start_of_last(&self.elements()[..pos]);
            }
        }
        Some(pos)
    }

    /// The element with this index.
    pub fn get(&self, index: usize) -> Option<Str<'_>> {
        self.seek(index).map(|pos| self.at(pos))
    }

    /// All elements, front to back.
    pub fn iter(&self) -> Iter<'_> {
        Iter { bytes: self.elements(), left: self.len() }
    }

    /// All elements, back to front.
    pub fn iter_rev(&self) -> Rev<Iter<'_>> {
        self.iter().rev()
    }

    /// The elements from the one with this index on.
    pub fn iter_from(&self, index: usize) -> Iter<'_> {
        match self.seek(index) {
            Some(pos) => Iter { bytes: &self.elements()[pos..], left: self.len() - index },
            None => Iter { bytes: &[], left: 0 },
        }
    }

    /// The elements from the one with this index on, towards the front.
    pub fn iter_rev_from(&self, index: usize) -> Rev<Iter<'_>> {
        match self.seek(index) {
            Some(pos) => Iter { bytes: &self.elements()[..pos + self.extent(pos)], left: index + 1 }.rev(),
            None => Iter { bytes: &[], left: 0 }.rev(),
        }
    }

    /// Position of the first element that equals `needle`, where `skip` elements are passed over after each one
    /// looked at (1 finds a field in field-value pairs).
    pub fn find(&self, needle: &[u8], skip: usize) -> Option<usize> {
        let needle = Encoded::new(Str::Bytes(needle));
        let head = needle.head();
        let elements = self.elements();
        let mut pos = 0;
        while pos < elements.len() {
            let rest = &elements[pos..];
            // Equal elements have equal bytes, and the head's length is in its first byte.
            if rest.starts_with(head) && rest[head.len()..].starts_with(needle.body) {
                return Some(pos);
            }
            pos += extent(rest);
            for _ in 0..skip {
                pos += self.extent(pos);
            }
        }
        None
    }

    /// Whether no two of the elements at every `step`th place, from the first on, are equal. O(n log n).
    pub fn is_distinct(&self, step: usize) -> bool {
        let mut at = 0;
        let every = std::iter::from_fn(|| {
            let element = self.elements().get(at..).filter(|rest| !rest.is_empty())?;
            at += extent(element);
            // Equal elements have equal bytes.
            self.elements().get(at - extent(element)..at)
        });
        are_distinct(every.step_by(step))
    }

    /// Cuts the block in two: the elements from `pos` on are returned. O(elements behind `pos`).
    pub fn split_off(&mut self, pos: usize) -> Packed {
        let mut moved = 0;
        let mut at = pos;
        while at < self.end() {
            at += self.extent(at);
            moved += 1;
        }
        let mut back = Block::new();
        back.splice(0, 0, &[&self.elements()[pos..]], moved);
        self.block.splice(pos, self.end() - pos, &[], self.block.tag() - moved);
        Packed { block: back }
    }

    /// Adds all elements of `other` at the back. O(bytes of `other`).
    pub fn append(&mut self, other: &Packed) {
        self.block.splice(self.end(), 0, &[other.elements()], self.block.tag() + other.block.tag());
    }

    fn put(&mut self, pos: usize, removed: usize, element: Str<'_>, count: usize) {
        let encoded = Encoded::new(element);
        let (back, back_len) = encoded.back();
        self.block.splice(pos, removed, &[encoded.head(), encoded.body, &back[..back_len]], count as u32);
    }

    /// Bytes from the element at `pos` to the next.
    fn extent(&self, pos: usize) -> usize {
        extent(&self.elements()[pos..])
    }
}

/// Whether no two items are equal. O(n log n).
pub(crate) fn are_distinct<T: Ord>(items: impl Iterator<Item = T>) -> bool {
    let mut items: smallvec::SmallVec<[T; 16]> = items.collect();
    items.sort_unstable();
    items.is_sorted_by(|a, b| a < b)
}

impl Default for Packed {
    fn default() -> Packed {
        Packed::new()
    }
}

impl<'a> IntoIterator for &'a Packed {
    type Item = Str<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The elements of a packed block.
#[derive(Clone, Default)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Str<'a>;

    fn next(&mut self) -> Option<Str<'a>> {
        if self.bytes.is_empty() {
            return None;
        }
        let (element, size) = decode(self.bytes);
        self.bytes = &self.bytes[size + back_size_len(size)..];
        self.left -= 1;
        Some(element)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let (front, last) = self.bytes.split_at(start_of_last(self.bytes));
        self.bytes = front;
        self.left -= 1;
        Some(decode(last).0)
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}

/// An element's bytes without its size at the end: a head and, for strings, a body.
struct Encoded<'a> {
    head: [u8; 9],
    head_len: usize,
    body: &'a [u8],
}

impl<'a> Encoded<'a> {
    fn new(element: Str<'a>) -> Encoded<'a> {
        match element {
            Str::Int(n) => Encoded::int(n),
            Str::Bytes(bytes) => match parse_int(bytes) {
                Some(n) => Encoded::int(n),
                None => Encoded::string(bytes),
            },
        }
    }

    fn int(n: i64) -> Encoded<'static> {
        match n {
            0..=127 => Encoded::from_parts(&[n as u8], &[], &[]),
            -4096..=4095 => {
                let bits = n as u16 & 0x1fff;
                Encoded::from_parts(&[INT_13 | (bits >> 8) as u8], &[bits as u8], &[])
            }
            -0x8000..=0x7fff => Encoded::from_parts(&[INT_16], &n.to_le_bytes()[..2], &[]),
            -0x80_0000..=0x7f_ffff => Encoded::from_parts(&[INT_24], &n.to_le_bytes()[..3], &[]),
            -0x8000_0000..=0x7fff_ffff => Encoded::from_parts(&[INT_32], &n.to_le_bytes()[..4], &[]),
            _ => Encoded::from_parts(&[INT_64], &n.to_le_bytes(), &[]),
        }
    }

    fn string(bytes: &[u8]) -> Encoded<'_> {
        match bytes.len() {
            len @ 0..=63 => Encoded::from_parts(&[STRING_6 | len as u8], &[], bytes),
            len @ 64..=4095 => Encoded::from_parts(&[STRING_12 | (len >> 8) as u8], &[len as u8], bytes),
            len => {
                assert!(len <= Block::LEN_MAX, "a packed element is smaller than 4 GiB");
                Encoded::from_parts(&[STRING_32], &(len as u32).to_le_bytes(), bytes)
            }
        }
    }

    fn from_parts<'b>(kind: &[u8; 1], number: &[u8], body: &'b [u8]) -> Encoded<'b> {
        let mut head = [0; 9];
        head[0] = kind[0];
        head[1..=number.len()].copy_from_slice(number);
        Encoded { head, head_len: 1 + number.len(), body }
    }

    fn head(&self) -> &[u8] {
        &self.head[..self.head_len]
    }

    /// The size at its end, and how many bytes that has.
    fn back(&self) -> ([u8; 5], usize) {
        back_size(self.head_len + self.body.len())
    }
}

/// The element at the start of `bytes` and its size without the size at its end.
fn decode(bytes: &[u8]) -> (Str<'_>, usize) {
    // Sign-extends the `width` little-endian bytes behind the first one.
    let int = |width: usize| {
        let mut wide = [0; 8];
        wide[8 - width..].copy_from_slice(&bytes[1..=width]);
        (Str::Int(i64::from_le_bytes(wide) >> (64 - 8 * width)), 1 + width)
    };
    match bytes[0] {
        first @ 0..STRING_6 => (Str::Int(i64::from(first)), 1),
        first @ INT_13..STRING_12 => {
            let bits = u16::from(first & 0x1f) << 8 | u16::from(bytes[1]);
            (Str::Int(i64::from((bits << 3) as i16 >> 3)), 2)
        }
        INT_16 => int(2),
        INT_24 => int(3),
        INT_32 => int(4),
        INT_64 => int(8),
        _ => {
            let (head, len) = string_size(bytes);
            (Str::Bytes(&bytes[head..head + len]), head + len)
        }
    }
}

/// Sizes of head and body of the string at the start of `bytes`.
fn string_size(bytes: &[u8]) -> (usize, usize) {
    match bytes[0] {
        first @ STRING_6..INT_13 => (1, usize::from(first & 0x3f)),
        first @ STRING_12..STRING_32 => (2, usize::from(first & 0x0f) << 8 | usize::from(bytes[1])),
        _ => (5, u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize),
    }
}

/// Bytes from the element at the start of `bytes` to the next.
fn extent(bytes: &[u8]) -> usize {
    let size = match bytes[0] {
        0..STRING_6 => 1,
        INT_13..STRING_12 => 2,
        INT_16 => 3,
        INT_24 => 4,
        INT_32 => 5,
        INT_64 => 9,
        _ => {
            let (head, len) = string_size(bytes);
            head + len
        }
    };
    size + back_size_len(size)
}

/// Bytes that the size at the end of an element takes. The odd bounds are the listpack's.
fn back_size_len(size: usize) -> usize {
    match size {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

/// An element's size for its end: most significant group first, all bytes but the first with the top bit set.
fn back_size(size: usize) -> ([u8; 5], usize) {
    if size < 128 {
        return ([size as u8, 0, 0, 0, 0], 1);
    }
    let len = back_size_len(size);
    let mut groups = [0; 5];
    for (i, group) in groups[..len].iter_mut().rev().enumerate() {
        *group = (size >> (7 * i)) as u8 & 0x7f | 0x80;
    }
    groups[0] &= 0x7f;
    (groups, len)
}

/// Where the last element of a non-empty sequence starts.
fn start_of_last(bytes: &[u8]) -> usize {
    let mut size = 0;
    let mut at = bytes.len();
    for shift in (0..35).step_by(7) {
        at -= 1;
        size |= usize::from(bytes[at] & 0x7f) << shift;
        if bytes[at] & 0x80 == 0 {
            break;
        }
    }
    at - size
}

#[cfg(test)]
mod tests;
