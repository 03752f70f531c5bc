//! The list type: one packed block while small, then a deque of them.
//!
//! How elements are spread over chunks, and when a list changes its form, follows Redis 7.2 and later: a command that
//! would exceed [`Limits::list_chunk`] makes it a deque, whose chunks fill up to the same bound; a deque that has shrunk
//! to one chunk of at most half the bound becomes a single block again. An element larger than the bound has a chunk of
//! its own.

mod chunks;

use crate::defrag::Mover;
use crate::packed::{self, Packed};
use crate::{Limits, Str};
use chunks::{Chunk, Chunks};
use std::collections::vec_deque;
use std::iter::{FusedIterator, Rev};

/// One of a list's two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The head, index 0.
    Front,
    /// The tail.
    Back,
}

/// A list.
#[derive(Clone)]
pub struct List {
    form: Form,
}

#[derive(Clone)]
enum Form {
    Packed(Packed),
    Chunks(Box<Chunks>),
}

/// The bound of a chunk, from [`Limits::list_chunk`].
#[derive(Clone, Copy)]
struct Bound {
    bytes: usize,
    count: usize,
}

/// Bytes at most in a chunk that is bounded by a number of elements.
const COUNTED_CHUNK_BYTES: usize = 8192;

impl Bound {
    fn new(limits: &Limits) -> Bound {
        match limits.list_chunk {
            size @ 0.. => {
                Bound { bytes: COUNTED_CHUNK_BYTES, count: usize::try_from(size).unwrap_or(usize::MAX).max(1) }
            }
            size => Bound { bytes: 4096 << (-1 - size.max(-5)), count: usize::MAX },
        }
    }

    fn allows(self, bytes: usize, count: usize) -> bool {
        bytes <= self.bytes && count <= self.count
    }

    /// Whether a deque's last chunk is small enough to be the whole list. Half the bound, so that a list whose length
    /// swings around it does not change its form all the time.
    fn allows_shrinking_to(self, chunk: &Packed) -> bool {
        if self.count == usize::MAX {
            chunk.bytes() <= self.bytes / 2
        } else {
            // An element with a chunk of its own for its size keeps it.
            let oversized = chunk.len() == 1 && chunk.get(0).is_some_and(|only| only.len() > self.bytes);
            chunk.len() <= self.count / 2 && !oversized
        }
    }
}

impl List {
    /// An empty list; allocates nothing.
    pub const fn new() -> List {
        List { form: Form::Packed(Packed::new()) }
    }

    /// Moves a packed list as `mover` wants. Whether there are more blocks than one.
    pub(crate) fn relocate_small(&mut self, mover: &mut Mover<'_>) -> bool {
        match &mut self.form {
            Form::Packed(packed) => packed.relocate(mover),
            Form::Chunks(_) => return true,
        }
        false
    }

    /// Moves up to `count` blocks from the one with this index on as `mover` wants; returns the next one's index, 0 at the end.
    pub(crate) fn relocate_some(&mut self, index: u64, count: usize, mover: &mut Mover<'_>) -> u64 {
        match &mut self.form {
            Form::Packed(_) => 0,
            Form::Chunks(chunks) => chunks.relocate_some(index as usize, count, mover) as u64,
        }
    }

    /// Number of elements. O(1).
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.len(),
            Form::Chunks(chunks) => chunks.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of the form, as `OBJECT ENCODING` shows it.
    pub fn encoding(&self) -> &'static str {
        match &self.form {
            Form::Packed(_) => "listpack",
            Form::Chunks(_) => "quicklist",
        }
    }

    /// Adds an element at an end. O(bytes of a chunk) at most.
    pub fn push(&mut self, end: End, element: &[u8], limits: &Limits) {
        self.reserve(1, element.len(), limits);
        self.push_reserved(end, element, limits);
    }

    /// Adds the elements of one command at an end, one after another. Like Redis, this looks at the sum of their lengths
    /// first: a list that may stay one block stays one, even if their heads make it a little larger than the bound.
    pub fn push_all<'a>(&mut self, end: End, elements: impl Iterator<Item = &'a [u8]> + Clone, limits: &Limits) {
        let (count, bytes) = elements.clone().fold((0, 0), |(n, bytes), element| (n + 1, bytes + element.len()));
        self.reserve(count, bytes, limits);
        elements.for_each(|element| self.push_reserved(end, element, limits));
    }

    /// Makes the list a deque if so many more elements and bytes exceed the bound of a single block.
    fn reserve(&mut self, count: usize, bytes: usize, limits: &Limits) {
        if let Form::Packed(packed) = &mut self.form
            && !Bound::new(limits).allows(packed.bytes().saturating_add(bytes), packed.len() + count)
        {
            self.form = Form::Chunks(Box::new(Chunks::from(std::mem::take(packed))));
        }
    }

    fn push_reserved(&mut self, end: End, element: &[u8], limits: &Limits) {
        match (&mut self.form, end) {
            (Form::Packed(packed), End::Front) => packed.push_front(Str::Bytes(element)),
            (Form::Packed(packed), End::Back) => packed.push_back(Str::Bytes(element)),
            (Form::Chunks(chunks), End::Front) => chunks.push_front(element, Bound::new(limits)),
            (Form::Chunks(chunks), End::Back) => chunks.push_back(element, Bound::new(limits)),
        }
    }

    /// Removes and returns the element at an end.
    pub fn pop(&mut self, end: End, limits: &Limits) -> Option<Vec<u8>> {
        let index = match end {
            End::Front => 0,
            End::Back => self.len().checked_sub(1)?,
        };
        (!self.is_empty()).then(|| self.remove(index, limits))
    }

    /// The element with this index. O(chunks + bytes of a chunk), from the nearer end.
    pub fn get(&self, index: usize) -> Option<Str<'_>> {
        match &self.form {
            Form::Packed(packed) => packed.get(index),
            Form::Chunks(chunks) => {
                let (chunk, offset) = chunks.locate(index)?;
                chunks.chunk(chunk).get(offset)
            }
        }
    }

    /// Replaces the element with this index; returns the old one.
    ///
    /// # Panics
    /// If there is no such element.
    pub fn set(&mut self, index: usize, element: &[u8], limits: &Limits) -> Vec<u8> {
        self.reserve(1, element.len(), limits);
        let old = match &mut self.form {
            Form::Packed(packed) => {
                let pos = packed.seek(index).expect(NO_ELEMENT);
                let old = packed.at(pos).to_vec();
                packed.replace(pos, Str::Bytes(element));
                old
            }
            Form::Chunks(chunks) => chunks.set(index, element, Bound::new(limits)),
        };
        self.try_shrink(limits);
        old
    }

    /// Inserts an element so that it gets this index; `len()` appends.
    ///
    /// # Panics
    /// If `index` is greater than `len()`.
    pub fn insert(&mut self, index: usize, element: &[u8], limits: &Limits) {
        assert!(index <= self.len(), "{NO_ELEMENT}");
        self.reserve(1, element.len(), limits);
        match &mut self.form {
            Form::Packed(packed) => packed.insert(packed.seek(index).unwrap_or(packed.end()), Str::Bytes(element)),
            Form::Chunks(chunks) => chunks.insert(index, element, Bound::new(limits)),
        }
    }

    /// Removes and returns the element with this index.
    ///
    /// # Panics
    /// If there is no such element.
    pub fn remove(&mut self, index: usize, limits: &Limits) -> Vec<u8> {
        let removed = match &mut self.form {
            Form::Packed(packed) => {
                let pos = packed.seek(index).expect(NO_ELEMENT);
                let removed = packed.at(pos).to_vec();
                packed.remove(pos);
                removed
            }
            Form::Chunks(chunks) => chunks.remove(index),
        };
        self.try_shrink(limits);
        removed
    }

    /// Removes up to `count` elements from index `start` on. O(chunks + elements removed).
    pub fn remove_range(&mut self, start: usize, count: usize, limits: &Limits) {
        match &mut self.form {
            Form::Packed(packed) => {
                if let Some(pos) = packed.seek(start) {
                    packed.remove_range(pos, count);
                }
            }
            Form::Chunks(chunks) => chunks.remove_range(start, count),
        }
        self.try_shrink(limits);
    }

    /// All elements, front to back.
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(0)
    }

    /// All elements, back to front.
    pub fn iter_rev(&self) -> IterRev<'_> {
        match self.len() {
            0 => self.iter_rev_from(0),
            len => self.iter_rev_from(len - 1),
        }
    }

    /// The elements from the one with this index on, towards the back; none if there is none with it.
    pub fn iter_from(&self, index: usize) -> Iter<'_> {
        match &self.form {
            Form::Packed(packed) => Iter { current: packed.iter_from(index), rest: Default::default() },
            Form::Chunks(chunks) => match chunks.locate(index) {
                Some((chunk, offset)) => Iter {
                    current: chunks.chunk(chunk).iter_from(offset),
                    rest: chunks.range(chunk + 1..chunks.count()),
                },
                None => Iter { current: Default::default(), rest: Default::default() },
            },
        }
    }

    /// The elements from the one with this index on, towards the front; none if there is none with it.
    pub fn iter_rev_from(&self, index: usize) -> IterRev<'_> {
        match &self.form {
            Form::Packed(packed) => {
                IterRev { current: packed.iter_rev_from(index), rest: vec_deque::Iter::default().rev() }
            }
            Form::Chunks(chunks) => match chunks.locate(index) {
                Some((chunk, offset)) => {
                    IterRev { current: chunks.chunk(chunk).iter_rev_from(offset), rest: chunks.range(0..chunk).rev() }
                }
                None => IterRev { current: packed::Iter::default().rev(), rest: vec_deque::Iter::default().rev() },
            },
        }
    }

    /// Number of chunks of a deque; 1 for a single block. O(1).
    pub fn chunk_count(&self) -> usize {
        match &self.form {
            Form::Packed(_) => 1,
            Form::Chunks(chunks) => chunks.count(),
        }
    }

    /// A copy that stays as it is, for a snapshot. O(chunks), unless the list is a single block: it shares a deque's chunks,
    /// each of which is copied when it is changed.
    pub(crate) fn freeze(&mut self) -> List {
        let form = match &mut self.form {
            Form::Packed(packed) => Form::Packed(packed.clone()),
            Form::Chunks(chunks) => Form::Chunks(Box::new(chunks.freeze())),
        };
        List { form }
    }

    /// The block with this index; see [`List::chunk_count`].
    pub(crate) fn block(&self, index: usize) -> Option<&Packed> {
        match &self.form {
            Form::Packed(packed) => (index == 0).then_some(packed),
            Form::Chunks(chunks) => (index < chunks.count()).then(|| chunks.chunk(index)),
        }
    }

    /// The blocks that the elements lie in, front to back: as many as [`List::chunk_count`] tells.
    pub fn chunks(&self) -> impl Iterator<Item = &Packed> {
        let (packed, chunks) = match &self.form {
            Form::Packed(packed) => (Some(packed), None),
            Form::Chunks(chunks) => (None, Some(chunks)),
        };
        let chunks = chunks.into_iter().flat_map(|chunks| chunks.range(0..chunks.count()));
        packed.into_iter().chain(chunks.map(|chunk| &**chunk))
    }

    /// Heap in use, in bytes. O(chunks).
    pub fn memory_bytes(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.memory_bytes(),
            Form::Chunks(chunks) => size_of::<Chunks>() + chunks.memory_bytes(),
        }
    }

    /// Frees about `count` elements, in whole chunks from the back; `true` once none is left. For giving back a big list
    /// in pieces.
    pub fn free_some(&mut self, count: usize) -> bool {
        match &mut self.form {
            Form::Packed(packed) => {
                *packed = Packed::new();
                true
            }
            Form::Chunks(chunks) => chunks.free_some(count),
        }
    }

    /// Packs a deque of one chunk that a single block has room for. Changes leave such a list alone until it is half as
    /// large; a snapshot's loading does not.
    pub fn pack(&mut self, limits: &Limits) {
        if let Form::Chunks(chunks) = &mut self.form
            && let Some(packed) = chunks.take_only(|chunk| Bound::new(limits).allows(chunk.bytes(), chunk.len()))
        {
            self.form = Form::Packed(packed);
        }
    }

    fn try_shrink(&mut self, limits: &Limits) {
        if let Form::Chunks(chunks) = &mut self.form
            && let Some(packed) = chunks.take_only(|chunk| Bound::new(limits).allows_shrinking_to(chunk))
        {
            self.form = Form::Packed(packed);
        }
    }
}

const NO_ELEMENT: &str = "the list has no element with this index";

impl Default for List {
    fn default() -> List {
        List::new()
    }
}

/// A list's elements, front to back.
#[derive(Clone)]
pub struct Iter<'a> {
    current: packed::Iter<'a>,
    rest: vec_deque::Iter<'a, Chunk>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Str<'a>;

    fn next(&mut self) -> Option<Str<'a>> {
        loop {
            if let Some(element) = self.current.next() {
                return Some(element);
            }
            self.current = self.rest.next()?.iter();
        }
    }
}

/// A list's elements, back to front.
#[derive(Clone)]
pub struct IterRev<'a> {
    current: Rev<packed::Iter<'a>>,
    rest: Rev<vec_deque::Iter<'a, Chunk>>,
}

impl<'a> Iterator for IterRev<'a> {
    type Item = Str<'a>;

    fn next(&mut self) -> Option<Str<'a>> {
        loop {
            if let Some(element) = self.current.next() {
                return Some(element);
            }
            self.current = self.rest.next()?.iter_rev();
        }
    }
}

impl FusedIterator for Iter<'_> {}
impl FusedIterator for IterRev<'_> {}

#[cfg(test)]
mod tests;
