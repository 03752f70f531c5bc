//! Members of big sets and fields of big hashes: one allocation each, in a table.
//!
//! | bytes | holds |
//! |---|---|
//! | 1 | bits 0..2: width of the key's length, bits 2..5: width of the value's length, bits 5..8: 0, kept for options such as an expiry time |
//! | 1, 2, 4 or 8 | the key's length, little-endian |
//! | 0, 1, 2, 4 or 8 | the value's length, little-endian; no bytes for none |
//! | | the key |
//! | | the value |
//!
//! A set's member is a key without a value.

use crate::hasher::hash;
use crate::table::{Item, Table};
use std::ptr::{self, NonNull};
use std::slice;

/// A key and, in a hash, its value.
struct Member {
    bytes: Box<[u8]>,
}

/// A borrowed member: the key, and the value (empty in a set).
pub(crate) type MemberRef<'a> = (&'a [u8], &'a [u8]);

/// The width code of a length, from 0: 1, 2, 4 or 8 bytes.
fn width_code(len: usize) -> u8 {
    match len {
        0..=0xff => 0,
        0x100..=0xffff => 1,
        0x1_0000..=0xffff_ffff => 2,
        _ => 3,
    }
}

/// Widths of the two lengths that follow the first byte.
fn widths(first: u8) -> (usize, usize) {
    let value_code = first >> 2 & 7;
    (1 << (first & 3), if value_code == 0 { 0 } else { 1 << (value_code - 1) })
}

impl Member {
    fn new(key: &[u8], value: &[u8]) -> Member {
        let value_code = if value.is_empty() { 0 } else { 1 + width_code(value.len()) };
        let first = width_code(key.len()) | value_code << 2;
        let (key_width, value_width) = widths(first);
        let mut bytes = Vec::with_capacity(1 + key_width + value_width + key.len() + value.len());
        bytes.push(first);
        bytes.extend_from_slice(&key.len().to_le_bytes()[..key_width]);
        bytes.extend_from_slice(&value.len().to_le_bytes()[..value_width]);
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        Member { bytes: bytes.into_boxed_slice() }
    }

    fn value(&self) -> &[u8] {
        let (head, key, _) = sizes(|from, width| read_len(&self.bytes[from..from + width]));
        &self.bytes[head + key..]
    }

    /// Heap in use, with the allocator's rounding.
    fn memory_bytes(&self) -> usize {
        self.bytes.len().next_multiple_of(8)
    }
}

/// A length of 0 to 8 bytes, little-endian.
fn read_len(bytes: &[u8]) -> usize {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(wide) as usize
}

/// Sizes of head, key and value, from a function that reads the number of some width at some offset.
fn sizes(read: impl Fn(usize, usize) -> usize) -> (usize, usize, usize) {
    let (key_width, value_width) = widths(read(0, 1) as u8);
    let key = read(1, key_width);
    let value = read(1 + key_width, value_width);
    (1 + key_width + value_width, key, value)
}

/// Sizes of head, key and value of the member at `p`.
///
/// # Safety
///
/// `p` is the address of a live member that is not changed meanwhile.
unsafe fn sizes_at(p: NonNull<u8>) -> (usize, usize, usize) {
    sizes(|from, width| {
        // SAFETY: `sizes` reads only parts of the head, which every member has.
        read_len(unsafe { slice::from_raw_parts(p.as_ptr().add(from), width) })
    })
}

// SAFETY: the address is that of a boxed slice whose length can be computed from its bytes, so `from_raw` makes the same
// box again. A member is never changed in place.
unsafe impl Item for Member {
    type Ref<'a> = MemberRef<'a>;

    fn into_raw(self) -> NonNull<u8> {
        // SAFETY: a box is never null.
        unsafe { NonNull::new_unchecked(Box::into_raw(self.bytes).cast()) }
    }

    unsafe fn from_raw(p: NonNull<u8>) -> Member {
        // SAFETY: `p` is from `into_raw`, and head, key and value are all that the box holds.
        unsafe {
            let (head, key, value) = sizes_at(p);
            let bytes = ptr::slice_from_raw_parts_mut(p.as_ptr(), head + key + value);
            Member { bytes: Box::from_raw(bytes) }
        }
    }

    unsafe fn borrow<'a>(p: NonNull<u8>) -> MemberRef<'a> {
        // SAFETY: the caller promises a live, unchanged member for 'a; the sizes stay inside its allocation.
        unsafe {
            let (head, key, value) = sizes_at(p);
            let start = p.as_ptr().add(head);
            (slice::from_raw_parts(start, key), slice::from_raw_parts(start.add(key), value))
        }
    }

    unsafe fn key<'a>(p: NonNull<u8>) -> &'a [u8] {
        // SAFETY: the caller's promise is the one that `borrow` asks for.
        unsafe { Member::borrow(p) }.0
    }
}

/// The members of a big set or the fields of a big hash.
pub(crate) struct Members {
    table: Table<Member>,
    /// Memory of all members, in bytes.
    member_bytes: usize,
}

impl Members {
    pub fn new() -> Members {
        Members { table: Table::new(), member_bytes: 0 }
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn get(&self, key: &[u8]) -> Option<MemberRef<'_>> {
        self.table.get(hash(key), key)
    }

    /// Sets a key's value; returns the old value.
    pub fn set(&mut self, key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        let hash = hash(key);
        let new = Member::new(key, value);
        self.member_bytes += new.memory_bytes();
        match self.table.get_mut(hash, key) {
            Some(mut slot) => {
                let old = slot.replace(new);
                self.member_bytes -= old.memory_bytes();
                Some(old.value().to_vec())
            }
            None => {
                self.table.insert(hash, new);
                None
            }
        }
    }

    /// Adds a key without a value; `false` if it is there already.
    pub fn insert(&mut self, key: &[u8]) -> bool {
        let hash = hash(key);
        if self.table.get(hash, key).is_some() {
            return false;
        }
        let new = Member::new(key, &[]);
        self.member_bytes += new.memory_bytes();
        self.table.insert(hash, new);
        true
    }

    /// Removes a key; returns its value.
    pub fn remove(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let old = self.table.remove(hash(key), key)?;
        self.member_bytes -= old.memory_bytes();
        Some(old.value().to_vec())
    }

    pub fn iter(&self) -> impl Iterator<Item = MemberRef<'_>> {
        self.table.iter()
    }

    pub fn random(&self, random: u64) -> Option<MemberRef<'_>> {
        self.table.random(random)
    }

    /// Visits buckets from `cursor` on until about `count` members were seen; returns the next cursor, 0 at the end.
    /// Visits at most ten buckets for each member asked for, so that a sparse table does not take long.
    pub fn scan(&self, mut cursor: u64, count: usize, mut f: impl FnMut(MemberRef<'_>)) -> u64 {
        let mut seen = 0;
        for _ in 0..count.saturating_mul(10).max(1) {
            cursor = self.table.scan(cursor, &mut |member| {
                seen += 1;
                f(member);
            });
            if cursor == 0 || seen >= count {
                break;
            }
        }
        cursor
    }

    /// Frees up to `count` members; `true` once none is left.
    pub fn free_some(&mut self, count: usize) -> bool {
        for _ in 0..count {
            match self.table.pop_any() {
                Some(old) => self.member_bytes -= old.memory_bytes(),
                None => break,
            }
        }
        self.table.is_empty()
    }

    /// Heap in use, in bytes. O(1).
    pub fn memory_bytes(&self) -> usize {
        size_of::<Members>() + self.table.memory_bytes() + self.member_bytes
    }
}

impl Clone for Members {
    fn clone(&self) -> Members {
        let mut copy = Members::new();
        for (key, value) in self.iter() {
            copy.table.insert(hash(key), Member::new(key, value));
        }
        copy.member_bytes = self.member_bytes;
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::{Item, Member};

    #[test]
    fn every_length_survives() {
        let lens = [0, 1, 63, 64, 255, 256, 257, 65_535, 65_536, 70_000];
        for key_len in lens {
            for value_len in lens {
                let key = vec![b'k'; key_len];
                let value = vec![b'v'; value_len];
                let raw = Member::new(&key, &value).into_raw();
                // SAFETY: `raw` is a live member until `from_raw`.
                unsafe {
                    assert_eq!(Member::borrow(raw), (&key[..], &value[..]));
                    assert_eq!(Member::key(raw), &key[..]);
                    assert_eq!(Member::from_raw(raw).value(), &value[..]);
                }
            }
        }
    }

    #[test]
    fn short_members_have_short_heads() {
        assert_eq!(Member::new(b"abc", b"").bytes.len(), 2 + 3);
        assert_eq!(Member::new(b"abc", b"de").bytes.len(), 3 + 5);
    }
}
