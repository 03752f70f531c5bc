//! A big list: a deque of packed chunks.
//!
//! Chunks can be shared with a frozen copy of the list ([`Chunks::freeze`]); a shared one is copied when it is changed.
//!
//! Invariants: no chunk is empty; `len` is the sum of the chunks' lengths.

use super::{Bound, NO_ELEMENT};
use crate::Str;
use crate::defrag::Mover;
use crate::packed::Packed;
use std::collections::{VecDeque, vec_deque};
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

#[derive(Clone)]
pub(super) struct Chunks {
    chunks: VecDeque<Chunk>,
    len: usize,
}

/// A chunk: the list's own, or shared with a frozen copy of it.
#[derive(Clone)]
pub(super) enum Chunk {
    Own(Packed),
    Shared(Arc<Packed>),
}

impl Deref for Chunk {
    type Target = Packed;

    #[inline]
    fn deref(&self) -> &Packed {
        match self {
            Chunk::Own(packed) => packed,
            Chunk::Shared(packed) => packed,
        }
    }
}

impl DerefMut for Chunk {
    #[inline]
    fn deref_mut(&mut self) -> &mut Packed {
        if let Chunk::Shared(packed) = self {
            // The frozen copy may be gone.
            let own = Arc::get_mut(packed).map(std::mem::take);
            *self = Chunk::Own(own.unwrap_or_else(|| (**packed).clone()));
        }
        match self {
            Chunk::Own(packed) => packed,
            Chunk::Shared(_) => unreachable!("it was just made the list's own"),
        }
    }
}

impl Chunk {
    fn into_packed(mut self) -> Packed {
        std::mem::take(&mut *self)
    }
}

/// What an element is taken to add to a chunk beyond its text, at most (Redis's estimate).
const ELEMENT_OVERHEAD: usize = 8;

impl From<Packed> for Chunks {
    fn from(packed: Packed) -> Chunks {
        let len = packed.len();
        Chunks { chunks: if len == 0 { VecDeque::new() } else { VecDeque::from([Chunk::Own(packed)]) }, len }
    }
}

/// Whether the chunk has room for an element. One larger than the bound never finds room, not even in an empty chunk.
fn has_room(chunk: &Packed, element: &[u8], bound: Bound) -> bool {
    bound.allows(chunk.bytes() + element.len() + ELEMENT_OVERHEAD, chunk.len() + 1)
}

fn chunk_of(element: &[u8]) -> Chunk {
    let mut chunk = Packed::new();
    chunk.push_back(Str::Bytes(element));
    Chunk::Own(chunk)
}

impl Chunks {
    /// A copy that stays as it is, in O(chunks): it shares all chunks.
    pub fn freeze(&mut self) -> Chunks {
        for chunk in &mut self.chunks {
            if let Chunk::Own(packed) = chunk {
                *chunk = Chunk::Shared(Arc::new(std::mem::take(packed)));
            }
        }
        self.clone()
    }

    /// Moves up to `count` chunks from the one with this index on as `mover` wants, but for shared ones; returns the next one's
    /// index, 0 at the end.
    pub fn relocate_some(&mut self, index: usize, count: usize, mover: &mut Mover<'_>) -> usize {
        for chunk in self.chunks.iter_mut().skip(index).take(count) {
            if let Chunk::Own(packed) = chunk {
                packed.relocate(mover);
            }
        }
        if index + count < self.chunks.len() { index + count } else { 0 }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Number of chunks.
    pub fn count(&self) -> usize {
        self.chunks.len()
    }

    pub fn chunk(&self, index: usize) -> &Packed {
        &self.chunks[index]
    }

    pub fn range(&self, range: Range<usize>) -> vec_deque::Iter<'_, Chunk> {
        self.chunks.range(range)
    }

    /// The chunk that holds the element with this index, and the element's index in it.
    pub fn locate(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        if index <= self.len / 2 {
            let mut offset = index;
            for (i, chunk) in self.chunks.iter().enumerate() {
                if offset < chunk.len() {
                    return Some((i, offset));
                }
                offset -= chunk.len();
            }
        } else {
            let mut behind = self.len - index;
            for (i, chunk) in self.chunks.iter().enumerate().rev() {
                if behind <= chunk.len() {
                    return Some((i, chunk.len() - behind));
                }
                behind -= chunk.len();
            }
        }
        None
    }

    pub fn push_front(&mut self, element: &[u8], bound: Bound) {
        match self.chunks.front_mut() {
            Some(chunk) if has_room(chunk, element, bound) => chunk.push_front(Str::Bytes(element)),
            _ => self.chunks.push_front(chunk_of(element)),
        }
        self.len += 1;
    }

    pub fn push_back(&mut self, element: &[u8], bound: Bound) {
        match self.chunks.back_mut() {
            Some(chunk) if has_room(chunk, element, bound) => chunk.push_back(Str::Bytes(element)),
            _ => self.chunks.push_back(chunk_of(element)),
        }
        self.len += 1;
    }

    /// Inserts an element so that it gets this index, at most `len`.
    pub fn insert(&mut self, index: usize, element: &[u8], bound: Bound) {
        let Some((at, offset)) = self.locate(index) else {
            return self.push_back(element, bound);
        };
        self.len += 1;
        let chunk = &mut *self.chunks[at];
        if has_room(chunk, element, bound) {
            // `locate` gave an offset inside the chunk.
            chunk.insert(chunk.seek(offset).expect(NO_ELEMENT), Str::Bytes(element));
        } else if offset == 0 {
            match at.checked_sub(1).map(|before| &mut self.chunks[before]) {
                Some(before) if has_room(before, element, bound) => before.push_back(Str::Bytes(element)),
                _ => self.chunks.insert(at, chunk_of(element)),
            }
        } else {
            // Cut the chunk where the element goes; then each half may fit the chunk on its other side.
            let back = chunk.split_off(chunk.seek(offset).expect(NO_ELEMENT));
            self.chunks.insert(at + 1, Chunk::Own(back));
            self.try_merge(at + 1, bound);
            let front = &mut self.chunks[at];
            if has_room(front, element, bound) {
                front.push_back(Str::Bytes(element));
            } else {
                self.chunks.insert(at + 1, chunk_of(element));
            }
            if at > 0 {
                self.try_merge(at - 1, bound);
            }
        }
    }

    /// Appends chunk `at + 1`, if there is one, to chunk `at`, if there is room.
    fn try_merge(&mut self, at: usize, bound: Bound) {
        let (Some(front), Some(back)) = (self.chunks.get(at), self.chunks.get(at + 1)) else {
            return;
        };
        if bound.allows(front.bytes() + back.elements().len(), front.len() + back.len())
            && let Some(back) = self.chunks.remove(at + 1)
        {
            self.chunks[at].append(&back);
        }
    }

    /// Replaces the element with this index, which must exist; returns the old one.
    pub fn set(&mut self, index: usize, element: &[u8], bound: Bound) -> Vec<u8> {
        let (at, offset) = self.locate(index).expect(NO_ELEMENT);
        let chunk = &mut self.chunks[at];
        let pos = chunk.seek(offset).expect(NO_ELEMENT);
        let old = chunk.at(pos).to_vec();
        let rest = chunk.bytes() - old.len().min(chunk.bytes());
        if chunk.len() == 1 || bound.allows(rest + element.len() + ELEMENT_OVERHEAD, chunk.len()) {
            chunk.replace(pos, Str::Bytes(element));
        } else {
            self.remove(index);
            self.insert(index, element, bound);
        }
        old
    }

    /// Removes and returns the element with this index, which must exist.
    pub fn remove(&mut self, index: usize) -> Vec<u8> {
        let (at, offset) = self.locate(index).expect(NO_ELEMENT);
        let chunk = &mut self.chunks[at];
        let pos = chunk.seek(offset).expect(NO_ELEMENT);
        let removed = chunk.at(pos).to_vec();
        chunk.remove(pos);
        if chunk.is_empty() {
            self.chunks.remove(at);
        }
        self.len -= 1;
        removed
    }

    /// Removes up to `count` elements from index `start` on.
    pub fn remove_range(&mut self, start: usize, count: usize) {
        let count = count.min(self.len.saturating_sub(start));
        let Some((first, offset)) = self.locate(start) else {
            return;
        };
        // Walk over the chunks: cut the first and the last one touched, drop all that become empty at once.
        let (mut at, mut offset, mut left) = (first, offset, count);
        while left > 0 {
            let chunk = &mut self.chunks[at];
            let here = left.min(chunk.len() - offset);
            left -= here;
            if here == chunk.len() {
                *chunk = Chunk::Own(Packed::new());
            } else {
                let from = chunk.seek(offset).expect(NO_ELEMENT);
                chunk.remove_range(from, here);
            }
            at += 1;
            offset = 0;
        }
        self.len -= count;
        // Of the chunks touched only the first and the last can have elements left.
        let from = first + usize::from(!self.chunks[first].is_empty());
        let to = at - usize::from(at > from && !self.chunks[at - 1].is_empty());
        self.chunks.drain(from..to.max(from));
    }

    /// Takes the only chunk out if there is no other and `wanted` wants it; an empty one if there are no elements.
    pub fn take_only(&mut self, wanted: impl FnOnce(&Packed) -> bool) -> Option<Packed> {
        match self.chunks.len() {
            0 => Some(Packed::new()),
            1 if wanted(&self.chunks[0]) => self.chunks.pop_front().map(Chunk::into_packed),
            _ => None,
        }
    }

    /// Frees chunks from the back until `count` elements are gone; `true` once none is left.
    pub fn free_some(&mut self, count: usize) -> bool {
        let mut freed = 0;
        while freed < count
            && let Some(chunk) = self.chunks.pop_back()
        {
            freed += chunk.len();
        }
        self.len -= freed;
        self.chunks.is_empty()
    }

    pub fn memory_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Chunk>()
            + self.chunks.iter().map(|chunk| chunk.memory_bytes()).sum::<usize>()
    }
}
