//! The form of a large sorted set: a hash table of members and a counted B+tree over them.
//!
//! A member is one allocation (score, length, bytes). The table owns it; the tree holds its score, so that most
//! comparisons stay within the node, and its address.
//!
//! Invariants: table and tree hold the same members, each with one score; a member leaves the tree before the table
//! lets go of it. No address outlives a call, except in the tree.

use super::{Pair, order};
use crate::{
    Str,
    hasher::hash,
    table::{Item, Table},
};
use std::{
    alloc::{self, Layout},
    cmp::Ordering,
    marker::PhantomData,
    ptr::NonNull,
};

use super::btree::{self, CountedTree};

/// A large sorted set; see the module.
pub(super) struct Tree {
    members: Table<Member>,
    order: CountedTree<Key>,
    /// Bytes of the members' allocations.
    member_bytes: usize,
}

/// A member in the tree.
#[derive(Clone, Copy)]
struct Key {
    score: f64,
    member: Address,
}

impl Key {
    fn pair<'a>(self, _tree: &'a Tree) -> Pair<'a> {
        // SAFETY: the key comes from the tree, so its member is in the table, where it stays while the set is borrowed.
        (Str::Bytes(unsafe { self.member.bytes() }), self.score)
    }

    /// How this key, which is in a tree, compares with a pair.
    #[inline]
    fn cmp(&self, score: f64, member: &[u8]) -> Ordering {
        // SAFETY: members in the tree are in the table, so they are alive; the slice does not outlive this call.
        order(self.score, Str::Bytes(unsafe { self.member.bytes() }), score, member)
    }
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree {
            members: Table::new(),
            order: CountedTree::new(),
            member_bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Tree>() + self.members.memory_bytes() + self.order.memory_bytes() + self.member_bytes
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.members.get(hash(member), member).map(|found| found.score())
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<usize> {
        let score = self.score(member)?;
        Some(
            self.order
                .partition_point(|key| key.cmp(score, member) == Ordering::Less),
        )
    }

    pub(super) fn partition_point(&self, mut before: impl FnMut(Pair<'_>) -> bool) -> usize {
        self.order.partition_point(|key| before(key.pair(self)))
    }

    pub(super) fn insert(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let hash = hash(member);
        if let Some(found) = self.members.get(hash, member) {
            let (address, old) = (found.address, found.score());
            if old != score {
                self.move_key(address, member, old, score);
            }
            return Some(old);
        }
        let new = Member::new(score, member);
        let address = new.0;
        self.member_bytes += Member::layout(member.len()).size();
        self.members.insert(hash, new);
        self.order.insert(Key { score, member: address }, |key| {
            key.cmp(score, member) == Ordering::Less
        });
        None
    }

    /// Gives the member at `address`, which is in the set, a new score and its new place.
    fn move_key(&mut self, address: Address, member: &[u8], old: f64, score: f64) {
        let key = Key { score, member: address };
        let up_to_old = |key: &Key| key.cmp(old, member) != Ordering::Greater;
        let before = |key: &Key| key.cmp(score, member) == Ordering::Less;
        if !self.order.replace(key, up_to_old, before) {
            self.order.remove_last(up_to_old);
            self.order.insert(key, before);
        }
        // SAFETY: the member is in the table, hence alive, and the set is borrowed mutably, so nobody reads the score.
        unsafe { address.set_score(score) };
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let hash = hash(member);
        let score = self.members.get(hash, member)?.score();
        self.order
            .remove_last(|key| key.cmp(score, member) != Ordering::Greater);
        self.members.remove(hash, member);
        self.member_bytes -= Member::layout(member.len()).size();
        Some(score)
    }

    /// Removes the pairs of ranks `start` to `end` and shows each to `each`.
    pub(super) fn remove_ranks(&mut self, start: usize, end: usize, mut each: impl FnMut(Pair<'_>)) {
        for _ in start..end {
            let Some(key) = self.order.remove_at(start) else {
                return;
            };
            // SAFETY: the table still holds the member, and owns it as `removed` until after the slice's last use.
            let member = unsafe { key.member.bytes() };
            let removed = self.members.remove(hash(member), member);
            self.member_bytes -= Member::layout(member.len()).size();
            each((Str::Bytes(member), key.score));
            drop(removed);
        }
    }

    pub(super) fn iter(&self, rank: usize, reverse: bool) -> Iter<'_> {
        Iter {
            keys: self.order.iter(rank, reverse),
            tree: self,
        }
    }

    /// Shows the members of the next part of the table; see `Table::scan`.
    pub(super) fn scan(&self, cursor: u64, each: &mut dyn FnMut(Pair<'_>)) -> u64 {
        self.members
            .scan(cursor, &mut |found| each((Str::Bytes(found.bytes()), found.score())))
    }

    /// Asserts the invariants of module and tree.
    #[cfg(test)]
    pub(super) fn check(&self) {
        self.order.check(
            |a, b| matches!(b.pair(self), (Str::Bytes(member), score) if a.cmp(score, member) == Ordering::Less),
        );
        assert_eq!(self.members.len(), self.order.len());
        let mut bytes = 0;
        for (member, score) in self.iter(0, false) {
            let member = member.to_vec();
            bytes += Member::layout(member.len()).size();
            assert_eq!(self.score(&member).map(f64::to_bits), Some(score.to_bits()));
        }
        assert_eq!(bytes, self.member_bytes);
    }
}

/// Pairs in order, or in reverse order.
pub(super) struct Iter<'a> {
    keys: btree::Iter<'a, Key>,
    tree: &'a Tree,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Pair<'a>;

    #[inline]
    fn next(&mut self) -> Option<Pair<'a>> {
        self.keys.next().map(|key| key.pair(self.tree))
    }
}

/// An owned member: score (8 bytes), length (one byte, or `LONG` and eight bytes), bytes.
struct Member(Address);

/// Where a member lies.
#[derive(Clone, Copy)]
struct Address(NonNull<u8>);

// SAFETY: an address is a plain number to all but the unsafe functions below, whose callers answer for the member.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

const LEN_AT: usize = size_of::<f64>();
/// The length byte that announces eight bytes of length.
const LONG: u8 = u8::MAX;

impl Member {
    fn new(score: f64, bytes: &[u8]) -> Member {
        let layout = Member::layout(bytes.len());
        // SAFETY: the layout is not empty.
        let Some(place) = NonNull::new(unsafe { alloc::alloc(layout) }) else {
            alloc::handle_alloc_error(layout)
        };
        let bytes_at = bytes_at(bytes.len());
        // SAFETY: `layout` has room for score, length and bytes, and `place` is aligned for the score; nobody else knows
        // the place.
        unsafe {
            place.cast::<f64>().write(score);
            if bytes.len() < LONG as usize {
                place.add(LEN_AT).write(bytes.len() as u8);
            } else {
                place.add(LEN_AT).write(LONG);
                place.add(LEN_AT + 1).cast::<usize>().write_unaligned(bytes.len());
            }
            place
                .add(bytes_at)
                .copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
        }
        Member(Address(place))
    }

    fn layout(len: usize) -> Layout {
        // A slice of `len` bytes exists when this is called, so the sum is far from the limit of a layout.
        Layout::from_size_align(bytes_at(len) + len, align_of::<f64>()).expect("a member's size is that of a slice")
    }
}

/// Where the bytes of a member of `len` bytes start.
fn bytes_at(len: usize) -> usize {
    if len < LONG as usize {
        LEN_AT + 1
    } else {
        LEN_AT + 1 + size_of::<usize>()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // SAFETY: this owns the member, which `Member::new` allocated with the layout for its length.
        unsafe {
            let layout = Member::layout(self.0.bytes().len());
            alloc::dealloc(self.0.0.as_ptr(), layout);
        }
    }
}

impl Address {
    /// # Safety
    /// The member must be alive for `'a`.
    #[inline]
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        // SAFETY: the member is alive, and `Member::new` wrote it so. The bytes never change.
        unsafe {
            let len = match self.0.add(LEN_AT).read() {
                LONG => self.0.add(LEN_AT + 1).cast::<usize>().read_unaligned(),
                short => short as usize,
            };
            std::slice::from_raw_parts(self.0.add(bytes_at(len)).as_ptr(), len)
        }
    }

    /// # Safety
    /// The member must be alive, and nobody must write its score meanwhile.
    #[inline]
    unsafe fn score(self) -> f64 {
        // SAFETY: by the caller's promise.
        unsafe { self.0.cast::<f64>().read() }
    }

    /// # Safety
    /// The member must be alive, and nobody must access its score meanwhile.
    unsafe fn set_score(self, score: f64) {
        // SAFETY: by the caller's promise.
        unsafe { self.0.cast::<f64>().write(score) }
    }
}

/// A member in the table, borrowed.
#[derive(Clone, Copy)]
struct MemberRef<'a> {
    address: Address,
    table: PhantomData<&'a Member>,
}

impl<'a> MemberRef<'a> {
    fn score(self) -> f64 {
        // SAFETY: the table is borrowed for `'a`, so the member is alive and no `set_score` can run.
        unsafe { self.address.score() }
    }

    fn bytes(self) -> &'a [u8] {
        // SAFETY: as above.
        unsafe { self.address.bytes() }
    }
}

// SAFETY: the pointer is the member's one allocation, aligned to 8, and the key is the member's bytes, which never change.
unsafe impl Item for Member {
    type Ref<'a> = MemberRef<'a>;

    fn into_raw(self) -> NonNull<u8> {
        let place = self.0.0;
        std::mem::forget(self);
        place
    }

    unsafe fn from_raw(place: NonNull<u8>) -> Member {
        Member(Address(place))
    }

    unsafe fn borrow<'a>(place: NonNull<u8>) -> MemberRef<'a> {
        MemberRef {
            address: Address(place),
            table: PhantomData,
        }
    }

    unsafe fn key<'a>(place: NonNull<u8>) -> &'a [u8] {
        // SAFETY: the caller promises that the member is alive for `'a`.
        unsafe { Address(place).bytes() }
    }
}
