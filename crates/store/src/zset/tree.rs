//! The form of a large sorted set: a hash table of members and a counted B+tree over them.
//!
//! A member is one allocation (score, length, bytes), which never changes: a new score is a new member. The table owns
//! it; the tree holds its address and the upper 48 bits of its score, so that most comparisons stay within the node.
//!
//! Invariants: table and tree hold the same members, each with one score; a member leaves the tree before the table
//! lets go of it. No address outlives a call, except in the tree.

use super::{
    Pair,
    btree::{self, CountedTree},
    is_before,
    score::{self, Compact},
};
use crate::{
    Str,
    hasher::hash,
    member::Members,
    table::{Item, Table, prefetch},
    timed::TimedTable,
};
use std::{
    alloc::{self, Layout},
    cmp::Ordering,
    marker::PhantomData,
    ptr::{self, NonNull},
};

/// A large sorted set; see the module.
pub(super) struct Tree {
    members: Table<Member>,
    order: CountedTree<Key>,
    /// Bytes of the members' allocations.
    member_bytes: usize,
    /// The members that expire; none if there never was one.
    times: Option<Box<TimedTable>>,
}

/// A member in the tree: 48 bits of its score, which order as scores do, and the 48 bits of its address.
#[derive(Clone, Copy)]
struct Key([u32; 3]);

/// The upper 48 bits of a score as a number that orders as scores do; the same for -0.0 and 0.0. Tells all integers up
/// to 2^37 apart.
#[inline]
fn prefix(score: f64) -> u64 {
    let bits = (score + 0.0).to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    ordered >> 16
}

impl Key {
    fn new(score: f64, member: &Member) -> Key {
        let prefix = prefix(score);
        let address = member.0.0.expose_provenance().get() as u64;
        debug_assert!(address >> 48 == 0);
        Key([(prefix >> 16) as u32, (prefix << 16) as u32 | (address >> 32) as u32, address as u32])
    }

    #[inline]
    fn prefix(self) -> u64 {
        u64::from(self.0[0]) << 16 | u64::from(self.0[1] >> 16)
    }

    #[inline]
    fn member(self) -> Address {
        let address = u64::from(self.0[1] & 0xffff) << 32 | u64::from(self.0[2]);
        // SAFETY: `Key::new` took the address from a `NonNull`, and like all addresses it is below 2^48.
        Address(unsafe { NonNull::new_unchecked(ptr::with_exposed_provenance_mut(address as usize)) })
    }

    fn pair<'a>(self, _tree: &'a Tree) -> Pair<'a> {
        let member = self.member();
        // SAFETY: the key comes from the tree, so its member is in the table, where it stays while the set is borrowed.
        unsafe { (Str::Bytes(member.bytes()), member.score()) }
    }

    /// How the score of this key, which is in a tree, compares.
    #[inline]
    fn cmp_score(self, score: f64) -> Ordering {
        self.prefix().cmp(&prefix(score)).then_with(|| {
            // SAFETY: members in the tree are in the table, so they are alive.
            let own = unsafe { self.member().score() };
            own.partial_cmp(&score).unwrap_or(Ordering::Equal)
        })
    }

    /// How the member of this key, which is in a tree, compares.
    #[inline]
    fn cmp_member(self, member: &[u8]) -> Ordering {
        // SAFETY: as above; the slice does not outlive this call.
        unsafe { self.member().bytes() }.cmp(member)
    }

    /// How this key, which is in a tree, compares with a pair.
    #[inline]
    fn cmp(self, score: f64, member: &[u8]) -> Ordering {
        self.cmp_score(score).then_with(|| self.cmp_member(member))
    }
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree { members: Table::new(), order: CountedTree::new(), member_bytes: 0, times: None }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let times = self.times.as_ref().map_or(0, |times| times.memory_bytes());
        size_of::<Tree>() + self.members.memory_bytes() + self.order.memory_bytes() + self.member_bytes + times
    }

    /// The members that expire, with empty values.
    pub(super) fn times(&self) -> Option<&TimedTable> {
        self.times.as_deref()
    }

    /// Has a member, which is there, expire at a Unix time in ms, or live for ever; when it would have expired before.
    pub(super) fn set_expiry(&mut self, member: &[u8], expire_at: Option<i64>) -> Option<i64> {
        if expire_at.is_none() {
            return self.times.as_mut()?.remove(member)?.1;
        }
        let times = self.times.get_or_insert_with(|| Box::new(TimedTable::new(Members::new())));
        times.set(member, b"", expire_at)?.1
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.members.get(hash(member), member).map(|found| found.score())
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<usize> {
        let score = self.score(member)?;
        Some(self.order.partition_point(|key| key.cmp(score, member) == Ordering::Less))
    }

    /// The number of members with a score below `score`, or `up_to` and including it.
    pub(super) fn count_scores(&self, score: f64, up_to: bool) -> usize {
        self.order.partition_point(|key| is_before(key.cmp_score(score), up_to))
    }

    /// The number of members below `member`, or `up_to` and including it, if all have the same score.
    pub(super) fn count_members(&self, member: &[u8], up_to: bool) -> usize {
        self.order.partition_point(|key| is_before(key.cmp_member(member), up_to))
    }

    pub(super) fn insert(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let hash = hash(member);
        let before = |key: &Key| key.cmp(score, member) == Ordering::Less;
        let Some(mut slot) = self.members.get_mut(hash, member) else {
            self.add(hash, member, score, before);
            return None;
        };
        let old_score = slot.get().score();
        if old_score == score {
            return Some(old_score);
        }
        let new = Member::new(score, member);
        let key = Key::new(score, &new);
        self.member_bytes += new.size();
        // Alive until the tree has let go of it.
        let old = slot.replace(new);
        self.member_bytes -= old.size();
        let up_to_old = |key: &Key| key.cmp(old_score, member) != Ordering::Greater;
        if !self.order.replace(key, up_to_old, before) {
            self.order.remove_last(up_to_old);
            self.order.insert(key, before);
        }
        drop(old);
        Some(old_score)
    }

    /// Adds a member that is not there and stands behind all others. O(log n), without a look at other members.
    pub(super) fn push(&mut self, member: &[u8], score: f64) {
        self.add(hash(member), member, score, |_| true);
    }

    /// Adds a member that is not there behind those for which `before` holds.
    fn add(&mut self, hash: u64, member: &[u8], score: f64, before: impl FnMut(&Key) -> bool) {
        let new = Member::new(score, member);
        let key = Key::new(score, &new);
        self.member_bytes += new.size();
        self.members.insert(hash, new);
        self.order.insert(key, before);
    }

    /// Frees up to about `n` members, or their places in the order, of a tree that is to be dropped; whether nothing is left. It
    /// looks up nothing: first goes the order, leaf by leaf, then the table, bucket by bucket.
    pub(super) fn free_some(&mut self, n: usize) -> bool {
        if let Some(times) = &mut self.times {
            if times.free_some(n) {
                self.times = None;
            }
            return false;
        }
        let mut freed = 0;
        while freed < n && self.order.len() > 0 {
            freed += self.order.drop_leaf();
        }
        for _ in freed..n {
            let Some(member) = self.members.pop_any() else { break };
            self.member_bytes -= member.size();
        }
        self.members.is_empty()
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let hash = hash(member);
        let score = self.members.get(hash, member)?.score();
        self.order.remove_last(|key| key.cmp(score, member) != Ordering::Greater);
        if let Some(removed) = self.members.remove(hash, member) {
            self.member_bytes -= removed.size();
        }
        self.forget_time(member);
        Some(score)
    }

    fn forget_time(&mut self, member: &[u8]) {
        if let Some(times) = &mut self.times {
            times.remove(member);
        }
    }

    /// Removes the pairs of ranks `start` to `end` and shows each to `each`.
    pub(super) fn remove_ranks(&mut self, start: usize, end: usize, mut each: impl FnMut(Pair<'_>)) {
        for _ in start..end {
            let Some(key) = self.order.remove_at(start) else {
                return;
            };
            // SAFETY: the table still holds the member, and `removed` owns it until after the slice's last use.
            let (member, score) = unsafe { (key.member().bytes(), key.member().score()) };
            let removed = self.members.remove(hash(member), member);
            self.member_bytes -= removed.as_ref().map_or(0, Member::size);
            self.forget_time(member);
            each((Str::Bytes(member), score));
            drop(removed);
        }
    }

    pub(super) fn iter(&self, rank: usize, reverse: bool) -> Iter<'_> {
        Iter { keys: self.order.iter(rank, reverse), tree: self }
    }

    /// Shows up to `count` pairs from `rank` on, in order. Members are anywhere in memory, so that some are fetched ahead.
    #[inline]
    pub(super) fn for_each_from_rank<'a>(&'a self, rank: usize, count: usize, mut each: impl FnMut(Pair<'a>)) {
        const AHEAD: usize = 8;
        let (mut left, mut keys) = (count, self.order.iter(rank, false));
        while left != 0
            && let Some(run) = keys.next_run()
        {
            let run = &run[..run.len().min(left)];
            left -= run.len();
            run.iter().take(AHEAD).for_each(|key| prefetch(key.member().0.as_ptr()));
            for (at, key) in run.iter().enumerate() {
                if let Some(ahead) = run.get(at + AHEAD) {
                    prefetch(ahead.member().0.as_ptr());
                }
                each(key.pair(self));
            }
        }
    }

    /// Shows the members of the next part of the table; see `Table::scan`.
    pub(super) fn scan(&self, cursor: u64, each: &mut dyn FnMut(Pair<'_>)) -> u64 {
        self.members.scan(cursor, &mut |found| each((Str::Bytes(found.bytes()), found.score())))
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
            bytes += Member::new(score, &member).size();
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

/// An owned member: one byte with the form of the score (low half) and the length if below `LONG` (high half), the
/// score, eight bytes of length if that did not fit, the bytes.
struct Member(Address);

/// Where a member lies.
#[derive(Clone, Copy)]
struct Address(NonNull<u8>);

// SAFETY: an address is a plain number to all but the unsafe functions below, whose callers answer for the member.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

/// The length, in half a byte, that announces eight bytes of length.
const LONG: usize = 15;

impl Member {
    fn new(score: f64, bytes: &[u8]) -> Member {
        let score = Compact::new(score);
        let short_len = bytes.len().min(LONG);
        let long_len = &bytes.len().to_ne_bytes()[..if short_len == LONG { LEN_BYTES } else { 0 }];
        let parts = [&[score.form | (short_len as u8) << 4], score.bytes(), long_len, bytes];
        let layout = Member::layout(parts.iter().map(|part| part.len()).sum());
        // SAFETY: the layout is not empty.
        let Some(place) = NonNull::new(unsafe { alloc::alloc(layout) }) else { alloc::handle_alloc_error(layout) };
        let mut end = place;
        for part in parts {
            // SAFETY: `layout` has room for all parts, and nobody else knows the place.
            unsafe {
                end.copy_from_nonoverlapping(NonNull::from(part).cast(), part.len());
                end = end.add(part.len());
            }
        }
        Member(Address(place))
    }

    /// Bytes of the allocation.
    fn size(&self) -> usize {
        // SAFETY: this owns the member.
        unsafe { self.0.size() }
    }

    fn layout(size: usize) -> Layout {
        // A slice of about as many bytes exists when this is called, so the size is far from a layout's limit.
        Layout::from_size_align(size, 1).expect("a member's size is that of a slice")
    }
}

const LEN_BYTES: usize = size_of::<usize>();

impl Drop for Member {
    fn drop(&mut self) {
        // SAFETY: this owns the member, which `Member::new` allocated with the layout for its size.
        unsafe { alloc::dealloc(self.0.0.as_ptr(), Member::layout(self.size())) }
    }
}

impl Address {
    /// Where the bytes start, and how many they are.
    ///
    /// # Safety
    /// The member must be alive.
    #[inline]
    unsafe fn extent(self) -> (usize, usize) {
        // SAFETY: the member is alive, and `Member::new` wrote it so.
        unsafe {
            let head = self.0.read();
            let behind_score = 1 + score::width(head & 15);
            match (head >> 4) as usize {
                LONG => (behind_score + LEN_BYTES, self.0.add(behind_score).cast::<usize>().read_unaligned()),
                short => (behind_score, short),
            }
        }
    }

    /// # Safety
    /// The member must be alive for `'a`.
    #[inline]
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        // SAFETY: the member is alive, and what `extent` tells is what `Member::new` wrote. Members never change.
        unsafe {
            let (start, len) = self.extent();
            std::slice::from_raw_parts(self.0.add(start).as_ptr(), len)
        }
    }

    /// # Safety
    /// The member must be alive.
    #[inline]
    unsafe fn score(self) -> f64 {
        // SAFETY: the member is alive, and `Member::new` wrote it so.
        unsafe {
            let form = self.0.read() & 15;
            score::read(form, std::slice::from_raw_parts(self.0.add(1).as_ptr(), score::width(form)))
        }
    }

    /// Bytes of the member's allocation.
    ///
    /// # Safety
    /// The member must be alive.
    unsafe fn size(self) -> usize {
        // SAFETY: by the caller's promise.
        let (start, len) = unsafe { self.extent() };
        start + len
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
        MemberRef { address: Address(place), table: PhantomData }
    }

    unsafe fn key<'a>(place: NonNull<u8>) -> &'a [u8] {
        // SAFETY: the caller promises that the member is alive for `'a`.
        unsafe { Address(place).bytes() }
    }
}
