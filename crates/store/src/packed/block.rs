//! A growable byte buffer behind one thin pointer.
//!
//! `Vec<u8>` is three words; the owner of a small collection can spare one. Length and a tag of the user's choice
//! (`Packed`: the element count; the integer set: the width) stand in front of the bytes in the same allocation. The
//! capacity is a function of the length and is not stored. An empty block owns no allocation.
//!
//! Invariant: `header` points either to `EMPTY`, and then length and tag are 0, or to an allocation of
//! `allocation(len)` bytes, of which the header and the first `len` bytes behind it are initialised, with `len > 0`.

use crate::defrag::{LONG_MAX, Mover};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::ptr::{self, NonNull};
use std::slice;

/// A byte buffer and a tag behind a thin owner.
pub(crate) struct Block {
    header: NonNull<Header>,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    len: u32,
    tag: u32,
}

const HEADER: usize = size_of::<Header>();

static EMPTY: Header = Header { len: 0, tag: 0 };

/// Bytes to allocate for `len > 0` bytes: steps of 8 up to 64, then four steps for each doubling, which are the size
/// classes of common allocators. Each step adds at least an eighth, so that appending is amortised O(1).
fn allocation(len: usize) -> usize {
    let total = HEADER + len;
    let step = if total <= 64 { 8 } else { total.next_power_of_two() / 8 };
    total.next_multiple_of(step)
}

fn layout(len: usize) -> Layout {
    // `allocation` is a multiple of 8 and at most 5 GiB, far below `isize::MAX`: an error here is impossible.
    Layout::from_size_align(allocation(len), align_of::<Header>()).expect("a block's size fits a layout")
}

impl Block {
    /// Most bytes a block can hold.
    pub const LEN_MAX: usize = u32::MAX as usize;

    pub const fn new() -> Block {
        Block { header: NonNull::from_ref(&EMPTY) }
    }

    fn header(&self) -> Header {
        // SAFETY: `header` points to `EMPTY` or to a live allocation that begins with a header.
        unsafe { *self.header.as_ptr() }
    }

    pub fn len(&self) -> usize {
        self.header().len as usize
    }

    pub fn tag(&self) -> u32 {
        self.header().tag
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes follow the header; they live, unchanged, as long as `self` is borrowed. For
        // `EMPTY` the length is 0 and the pointer is one past the header, which is allowed.
        unsafe { slice::from_raw_parts(self.header.add(1).as_ptr().cast::<u8>(), self.len()) }
    }

    /// Bytes of heap in use.
    pub fn memory_bytes(&self) -> usize {
        if self.len() == 0 { 0 } else { allocation(self.len()) }
    }

    /// Moves the block as `mover` wants.
    pub fn relocate(&mut self, mover: &mut Mover<'_>) {
        if self.len() > 0 && self.memory_bytes() <= LONG_MAX && mover.wants(self.header.cast(), self.len()) {
            let mut moved = Block::new();
            moved.splice(0, 0, &[self.bytes()], self.tag());
            *self = moved;
        }
    }

    /// Replaces `removed` bytes from `at` on by the concatenation of `parts`, and sets the tag. A block that becomes
    /// empty has tag 0. O(bytes behind `at`).
    ///
    /// # Panics
    /// If the range is not inside the block, or the block would grow past [`Block::LEN_MAX`].
    pub fn splice(&mut self, at: usize, removed: usize, parts: &[&[u8]], tag: u32) {
        let old = self.len();
        let inserted: usize = parts.iter().map(|part| part.len()).sum();
        assert!(at <= old && removed <= old - at, "splice outside of the block");
        let new = old - removed + inserted;
        assert!(new <= Block::LEN_MAX, "a block holds less than 4 GiB");
        let tail = old - at - removed;
        self.reallocate(old, old.max(new));
        if old.max(new) > 0 {
            // SAFETY: the allocation has room for max(old, new) bytes behind the header. The tail's source ends at
            // `old`, its target at `new`; the parts fill exactly the `inserted` bytes between. `parts` cannot overlap
            // the allocation, because `self` is borrowed mutably.
            unsafe {
                let bytes = self.header.add(1).as_ptr().cast::<u8>();
                ptr::copy(bytes.add(at + removed), bytes.add(at + inserted), tail);
                let mut target = bytes.add(at);
                for part in parts {
                    ptr::copy_nonoverlapping(part.as_ptr(), target, part.len());
                    target = target.add(part.len());
                }
            }
        }
        self.reallocate(old.max(new), new);
        if new > 0 {
            // SAFETY: with `new > 0` the header is in an allocation of our own, never `EMPTY`.
            unsafe { *self.header.as_ptr() = Header { len: new as u32, tag } };
        }
    }

    /// Makes the allocation, which is the one for length `from`, the one for length `to`. Keeps header and bytes as
    /// far as both reach; a new allocation's header is not initialised. The caller sets the header afterwards.
    fn reallocate(&mut self, from: usize, to: usize) {
        if to == 0 {
            if from > 0 {
                // SAFETY: for `from > 0` the block owns an allocation of `layout(from)`, and forgets it here.
                unsafe { dealloc(self.header.as_ptr().cast(), layout(from)) };
            }
            self.header = NonNull::from_ref(&EMPTY);
        } else if from == 0 || allocation(from) != allocation(to) {
            let new = layout(to);
            // SAFETY: `new` has a size above 0; for `from > 0` the block owns an allocation of `layout(from)`.
            let pointer = unsafe {
                if from == 0 { alloc(new) } else { realloc(self.header.as_ptr().cast(), layout(from), new.size()) }
            };
            self.header = NonNull::new(pointer.cast()).unwrap_or_else(|| handle_alloc_error(new));
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.reallocate(self.len(), 0);
    }
}

impl Clone for Block {
    fn clone(&self) -> Block {
        let mut copy = Block::new();
        copy.splice(0, 0, &[self.bytes()], self.tag());
        copy
    }
}

// SAFETY: a block owns its allocation alone; `EMPTY` is never written.
unsafe impl Send for Block {}
// SAFETY: a shared block can only be read.
unsafe impl Sync for Block {}

#[cfg(test)]
mod tests {
    use super::{Block, allocation};
    use proptest::prelude::*;

    #[test]
    fn allocation_grows_by_at_least_an_eighth() {
        for len in 1..100_000 {
            let size = allocation(len);
            assert!(size >= len + 8 && size.is_multiple_of(8));
            assert!(size <= (len + 8) + (len + 8) / 4 + 8, "{len}: {size}");
        }
    }

    #[test]
    fn empty_block_owns_nothing() {
        let mut block = Block::new();
        assert_eq!((block.len(), block.tag(), block.memory_bytes()), (0, 0, 0));
        block.splice(0, 0, &[b"abc"], 7);
        assert_eq!((block.len(), block.tag(), block.memory_bytes()), (3, 7, 16));
        block.splice(0, 3, &[], 7);
        assert_eq!((block.len(), block.tag(), block.memory_bytes()), (0, 0, 0));
        block.splice(0, 0, &[b"", b""], 7);
        assert_eq!(block.tag(), 0);
    }

    proptest! {
        #![proptest_config(crate::testing::cases(200))]

        #[test]
        fn splice_matches_vec(steps in prop::collection::vec((any::<u16>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..90)), 1..60)) {
            let mut block = Block::new();
            let mut model: Vec<u8> = Vec::new();
            for (tag, (at, removed, new)) in steps.into_iter().enumerate() {
                let at = at as usize % (model.len() + 1);
                let removed = removed as usize % (model.len() - at + 1);
                let (a, b) = new.split_at(new.len() / 3);
                block.splice(at, removed, &[a, b], tag as u32);
                model.splice(at..at + removed, new);
                prop_assert_eq!(block.bytes(), &model[..]);
                prop_assert_eq!(block.tag(), if model.is_empty() { 0 } else { tag as u32 });
                let copy = block.clone();
                prop_assert_eq!(copy.bytes(), &model[..]);
            }
        }
    }
}
