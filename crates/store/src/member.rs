//! Members of big sets and fields of big hashes: one allocation each, in a table.
//!
//! | bytes | holds |
//! |---|---|
//! | 1 | bits 0..2: width of the key's length, bits 2..5: width of the value's length, bit 5: there is an expiry time, bits 6..8: 0 |
//! | 1, 2, 4 or 8 | the key's length, little-endian |
//! | 0, 1, 2, 4 or 8 | the value's length, little-endian; no bytes for none |
//! | 0 or 8 | when the member expires, Unix ms, little-endian |
//! | | the key |
//! | | the value |
//!
//! A set's member is a key without a value.

use crate::Str;
use crate::defrag::Mover;
use crate::hasher::hash;
use crate::table::{Item, Table};
use std::ptr::{self, NonNull};
use std::slice;

/// A key and, in a hash, its value.
struct Member {
    bytes: Box<[u8]>,
}

/// A borrowed member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberRef<'a> {
    pub key: &'a [u8],
    /// Empty in a set.
    pub value: &'a [u8],
    /// When it expires, in Unix milliseconds.
    pub expire_at: Option<i64>,
}

/// The bit of the first byte that says that there is an expiry time.
const EXPIRES: u8 = 1 << 5;

/// The width code of a length, from 0: 1, 2, 4 or 8 bytes.
fn width_code(len: usize) -> u8 {
    match len {
        0..=0xff => 0,
        0x100..=0xffff => 1,
        0x1_0000..=0xffff_ffff => 2,
        _ => 3,
    }
}

/// Widths of the two lengths and of the expiry time that follow the first byte.
fn widths(first: u8) -> (usize, usize, usize) {
    let value_code = first >> 2 & 7;
    let value_width = if value_code == 0 { 0 } else { 1 << (value_code - 1) };
    (1 << (first & 3), value_width, if first & EXPIRES != 0 { size_of::<i64>() } else { 0 })
}

impl Member {
    fn new(key: &[u8], value: &[u8], expire_at: Option<i64>) -> Member {
        let value_code = if value.is_empty() { 0 } else { 1 + width_code(value.len()) };
        let first = width_code(key.len()) | value_code << 2 | if expire_at.is_some() { EXPIRES } else { 0 };
        let (key_width, value_width, expiry_width) = widths(first);
        let head = 1 + key_width + value_width + expiry_width;
        let mut bytes = Vec::with_capacity(head + key.len() + value.len());
        bytes.push(first);
        bytes.extend_from_slice(&key.len().to_le_bytes()[..key_width]);
        bytes.extend_from_slice(&value.len().to_le_bytes()[..value_width]);
        if let Some(at) = expire_at {
            bytes.extend_from_slice(&at.to_le_bytes());
        }
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        Member { bytes: bytes.into_boxed_slice() }
    }

    /// The value and the expiry time, of a member that left its table.
    fn into_old(self) -> Old {
        let head = Head::read(|from, width| read_number(&self.bytes[from..from + width]));
        (self.bytes[head.size + head.key_len..].to_vec(), head.expire_at)
    }

    /// Heap in use, with the allocator's rounding.
    fn memory_bytes(&self) -> usize {
        self.bytes.len().next_multiple_of(8)
    }
}

/// A number of 0 to 8 bytes, little-endian.
fn read_number(bytes: &[u8]) -> u64 {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(wide)
}

/// What stands in front of a member's key.
struct Head {
    /// Its own size, in bytes.
    size: usize,
    key_len: usize,
    value_len: usize,
    expire_at: Option<i64>,
}

impl Head {
    /// Reads a head through a function that reads the number of some width at some offset.
    fn read(read: impl Fn(usize, usize) -> u64) -> Head {
        let (key_width, value_width, expiry_width) = widths(read(0, 1) as u8);
        let expiry = 1 + key_width + value_width;
        Head {
            size: expiry + expiry_width,
            key_len: read(1, key_width) as usize,
            value_len: read(1 + key_width, value_width) as usize,
            expire_at: (expiry_width != 0).then(|| read(expiry, expiry_width) as i64),
        }
    }

    /// The head of the member at `p`.
    ///
    /// # Safety
    ///
    /// `p` is the address of a live member that is not changed meanwhile.
    unsafe fn at(p: NonNull<u8>) -> Head {
        Head::read(|from, width| {
            // SAFETY: `read` reads only parts of the head, which every member has.
            read_number(unsafe { slice::from_raw_parts(p.as_ptr().add(from), width) })
        })
    }
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
            let head = Head::at(p);
            let bytes = ptr::slice_from_raw_parts_mut(p.as_ptr(), head.size + head.key_len + head.value_len);
            Member { bytes: Box::from_raw(bytes) }
        }
    }

    unsafe fn borrow<'a>(p: NonNull<u8>) -> MemberRef<'a> {
        // SAFETY: the caller promises a live, unchanged member for 'a; the sizes stay inside its allocation.
        unsafe {
            let head = Head::at(p);
            let start = p.as_ptr().add(head.size);
            MemberRef {
                key: slice::from_raw_parts(start, head.key_len),
                value: slice::from_raw_parts(start.add(head.key_len), head.value_len),
                expire_at: head.expire_at,
            }
        }
    }

    unsafe fn key<'a>(p: NonNull<u8>) -> &'a [u8] {
        // SAFETY: the caller's promise is the one that `borrow` asks for.
        unsafe { Member::borrow(p) }.key
    }
}

/// What a field was: its value, and when it would have expired (Unix ms).
pub type Old = (Vec<u8>, Option<i64>);

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

    /// Takes out of `keys` those that are not here. The look-ups go on side by side, so that memory is waited for once for many.
    pub fn retain_common(&self, keys: &mut Vec<Str<'_>>) {
        let hashes: Vec<u64> = keys.iter().map(|key| key.with_bytes(hash)).collect();
        hashes.iter().for_each(|hash| self.table.prefetch_bucket(*hash));
        hashes.iter().for_each(|hash| _ = self.table.prefetch_item(*hash, 0));
        let mut hashes = hashes.into_iter();
        keys.retain(|key| hashes.next().is_some_and(|hash| key.with_bytes(|key| self.table.get(hash, key).is_some())));
    }

    /// The member under this hash that `wanted` picks.
    pub fn find_by_hash(&self, hash: u64, wanted: impl FnMut(MemberRef<'_>) -> bool) -> Option<MemberRef<'_>> {
        self.table.find_by_hash(hash, wanted)
    }

    /// Sets a key's value and expiry time; returns the old ones.
    pub fn set(&mut self, key: &[u8], value: &[u8], expire_at: Option<i64>) -> Option<Old> {
        let hash = hash(key);
        let new = Member::new(key, value, expire_at);
        self.member_bytes += new.memory_bytes();
        match self.table.get_mut(hash, key) {
            Some(mut slot) => {
                let old = slot.replace(new);
                self.member_bytes -= old.memory_bytes();
                Some(old.into_old())
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
        let new = Member::new(key, &[], None);
        self.member_bytes += new.memory_bytes();
        self.table.insert(hash, new);
        true
    }

    /// Removes a key; returns its value and expiry time.
    pub fn remove(&mut self, key: &[u8]) -> Option<Old> {
        let old = self.table.remove(hash(key), key)?;
        self.member_bytes -= old.memory_bytes();
        Some(old.into_old())
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

    /// Moves the members of one bucket as `mover` wants; returns the next cursor, 0 at the end.
    pub fn relocate_some(&mut self, cursor: u64, mover: &mut Mover<'_>) -> u64 {
        self.table.relocate(cursor, mover, &mut |slot, mover| {
            if mover.wants(slot.raw(), 0) {
                // SAFETY: the address is that of a live member. The copy, with the same key, becomes the table's before the
                // old one is freed.
                unsafe {
                    let old = Member::from_raw(slot.raw());
                    slot.set_raw(Member { bytes: old.bytes.clone() }.into_raw());
                }
            }
        })
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
        for MemberRef { key, value, expire_at } in self.iter() {
            copy.table.insert(hash(key), Member::new(key, value, expire_at));
        }
        copy.member_bytes = self.member_bytes;
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::{Item, Member, MemberRef};

    #[test]
    fn every_length_survives() {
        let lens = [0, 1, 63, 64, 255, 256, 257, 65_535, 65_536, 70_000];
        for key_len in lens {
            for value_len in lens {
                for expire_at in [None, Some(0), Some(i64::MIN), Some(1_790_000_000_000)] {
                    let key = vec![b'k'; key_len];
                    let value = vec![b'v'; value_len];
                    let raw = Member::new(&key, &value, expire_at).into_raw();
                    // SAFETY: `raw` is a live member until `from_raw`.
                    unsafe {
                        assert_eq!(Member::borrow(raw), MemberRef { key: &key, value: &value, expire_at });
                        assert_eq!(Member::key(raw), &key[..]);
                        assert_eq!(Member::from_raw(raw).into_old(), (value, expire_at));
                    }
                }
            }
        }
    }

    #[test]
    fn short_members_have_short_heads() {
        assert_eq!(Member::new(b"abc", b"", None).bytes.len(), 2 + 3);
        assert_eq!(Member::new(b"abc", b"de", None).bytes.len(), 3 + 5);
        assert_eq!(Member::new(b"abc", b"de", Some(1)).bytes.len(), 11 + 5);
    }
}
