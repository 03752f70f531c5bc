//! Defragmentation: what lies on sparsely used pages of the allocator moves to other pages, so that those become free.
//!
//! After most of many keys were deleted, what is left lies scattered over all the pages that there were, and no page can go
//! back to the system. The allocator tells which pages are sparse ([`Mover`]); the walk ([`step`]) goes through a shard's
//! tables bucket by bucket, as SCAN does, and moves each such allocation by making another one and freeing the first.
//!
//! Moved are entries, chunks of tables, strings of up to [`LONG_MAX`] bytes, packed collections, the blocks of lists, and
//! the fields and members of big hashes and sets.
//!
//! Invariants: a move changes an address and nothing else: no value, colour, registration or room to grow; it happens while
//! the shard is held. What somebody else refers to (a reply, a snapshot) stays where it is. A step is bounded: the
//! elements of a big collection are walked in steps of their own.

use crate::shard::Guard;
use crate::value::ValueMut;
use std::ptr::NonNull;

/// Longest string that moves: the allocator keeps longer ones apart, on few pages of their own.
pub const LONG_MAX: usize = 32 * 1024;

/// Blocks of a list that are looked at like one bucket.
const BLOCKS: usize = 4;

/// Bytes moved after which a step ends: copied in some dozen µs.
const STEP_BYTES: usize = 128 * 1024;

/// Decides what moves, and counts it.
pub struct Mover<'a> {
    is_sparse: &'a dyn Fn(NonNull<u8>) -> bool,
    /// Allocations that were looked at.
    pub looked: u64,
    /// Those of them that were moved.
    pub moved: u64,
    /// How many bytes they have.
    bytes: usize,
    /// Keys that were looked at.
    pub keys: u64,
    /// Those of them of which anything was moved.
    pub keys_moved: u64,
}

impl<'a> Mover<'a> {
    /// `is_sparse` tells whether an allocation had better lie elsewhere.
    pub fn new(is_sparse: &'a dyn Fn(NonNull<u8>) -> bool) -> Mover<'a> {
        Mover { is_sparse, looked: 0, moved: 0, bytes: 0, keys: 0, keys_moved: 0 }
    }

    /// Whether the caller is to move this allocation, of about so many bytes, now.
    pub(crate) fn wants(&mut self, place: NonNull<u8>, bytes: usize) -> bool {
        self.looked += 1;
        let wanted = (self.is_sparse)(place);
        if wanted {
            self.moved += 1;
            self.bytes += bytes;
        }
        wanted
    }

    /// Moves the bytes of a vector, with its room to grow.
    pub(crate) fn vec(&mut self, bytes: &mut Vec<u8>) {
        if bytes.capacity() != 0
            && bytes.capacity() <= LONG_MAX
            && self.wants(NonNull::from(&mut **bytes).cast(), bytes.len())
        {
            let mut moved = Vec::with_capacity(bytes.capacity());
            moved.extend_from_slice(bytes);
            *bytes = moved;
        }
    }

    /// Moves a boxed slice.
    pub(crate) fn boxed(&mut self, bytes: &mut Box<[u8]>) {
        if !bytes.is_empty() && bytes.len() <= LONG_MAX && self.wants(NonNull::from(&mut **bytes).cast(), bytes.len()) {
            *bytes = Box::from(&**bytes);
        }
    }
}

/// Where a walk through a shard goes on. The default is the beginning.
#[derive(Default)]
pub struct Place {
    db: u32,
    cursor: u64,
    /// Whether all keys of the database have been seen; its last big collections perhaps not.
    ended: bool,
    /// Keys of big collections that the last buckets had, and where the walk through the last of them goes on.
    big: Vec<Box<[u8]>>,
    big_cursor: u64,
}

/// Walks on through a held shard: up to `buckets` buckets, of the keys or of a big collection. Whether the end is reached; `place` is then
/// the beginning. Other keys may come and go between two steps.
///
/// # Panics
/// When the shard is not held.
pub fn step(guard: &mut Guard<'_>, shard: usize, place: &mut Place, mover: &mut Mover<'_>, buckets: usize) -> bool {
    let bytes = mover.bytes;
    for _ in 0..buckets {
        if mover.bytes - bytes > STEP_BYTES {
            break;
        }
        let Some(part) = guard.db_mut(shard, place.db) else {
            // It never held a key, but one with a higher number may.
            match guard.shard(shard).dbs().map(|(db, _)| db).find(|db| *db > place.db) {
                Some(db) => (place.db, place.cursor) = (db, 0),
                None => {
                    *place = Place::default();
                    return true;
                }
            }
            continue;
        };
        if let Some(key) = place.big.last() {
            let next = match part.table.get_mut(crate::hasher::hash(key), key) {
                Some(mut slot) => match slot.value_mut() {
                    ValueMut::Hash(hash) => hash.relocate_some(place.big_cursor, mover),
                    ValueMut::Set(set) => set.relocate_some(place.big_cursor, mover),
                    ValueMut::List(list) => list.relocate_some(place.big_cursor, BLOCKS, mover),
                    _ => 0,
                },
                None => 0,
            };
            place.big_cursor = next;
            if next == 0 {
                place.big.pop();
            }
            continue;
        }
        if place.ended {
            // The next round finds no part with this number, or the next one.
            (place.db, place.ended) = (place.db + 1, false);
            continue;
        }
        let big = &mut place.big;
        place.cursor = part.table.relocate(place.cursor, mover, &mut |slot, mover| {
            let before = mover.moved;
            slot.relocate(mover);
            mover.keys += 1;
            mover.keys_moved += u64::from(mover.moved != before);
            let is_big = match slot.value_mut() {
                ValueMut::Hash(hash) => hash.relocate_small(mover),
                ValueMut::Set(set) => set.relocate_small(mover),
                ValueMut::ZSet(zset) => {
                    zset.relocate_small(mover);
                    false
                }
                ValueMut::List(list) => list.relocate_small(mover),
                ValueMut::String | ValueMut::Stream(_) => false,
            };
            if is_big {
                big.push(slot.get().key().into());
            }
        });
        place.ended = place.cursor == 0;
    }
    false
}
