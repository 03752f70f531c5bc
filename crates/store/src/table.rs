//! The hash table: linear hashing over 64-byte buckets.
//!
//! It serves the keyspace and, inside values, big hashes, sets and sorted sets. Items are owned thin pointers that know
//! their own key ([`Item`]); the caller hands in the key's hash.
//!
//! **Bucket.** One cache line: a word of seven one-byte tags and one byte of state, then seven slots. A bucket that
//! overflows gives its last slot to a link to a further chunk: half a line (3 slots) first, then a whole one, and so on.
//! Items of a chain are compact: every chunk but the last is full.
//!
//! **Growth.** Bucket `n` is made by splitting bucket `n - 2^floor(log2 n)`; each insert past the load factor splits one bucket, each
//! removal well below it merges one. So no command pauses for a resize, and memory per item stays even. The first 8,192 buckets
//! (53,000 items; a shard of the keyspace has them at 54 million keys) lie in one array, so that a look-up goes straight from the
//! table to the bucket. It grows by a fifth on average and is copied then: at most half a mebibyte, well below 100 µs. The buckets of
//! larger tables lie in several such arrays behind a directory.
//!
//! **Use of the hash's bits.**
//!
//! | bits | use |
//! |---|---|
//! | 0..32 | bucket index, from bit 0 up |
//! | 0..16 or 16..32 | the 16 bits kept in the slot's pointer: 0..16 while the bucket's index has fewer than 16 bits, 16..32 after |
//! | 46..54 | the tag |
//! | 54..64 | not used: the keyspace picks the shard by them |
//!
//! The bits in the pointer filter look-ups and tell a split where each item goes. Only the split that takes a bucket to
//! 16 index bits (65,536 buckets, about 430,000 items) hashes keys again, once in the item's life; going back needs no key,
//! because the index itself holds the lost bits.
//!
//! **Scan.** A bucket with `k` index bits holds exactly the hashes that agree with it in their low `k` bits, that is, one
//! interval of the bit-reversed hash space. A cursor is a place in that space, which no split or merge moves.

mod chunk;
mod relocate;

use self::chunk::{
    ADDRESS_MASK, Chunk, HALF_LAYOUT, HALF_SLOTS, LINK_HALF, LINK_SLOT, LINK_WHOLE, SLOTS, STORED_BITS, WHOLE_LAYOUT,
    allocate, item_of, pack, stored_in,
};
use crate::hasher;
use std::alloc::{Layout, dealloc, handle_alloc_error, realloc};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

/// Items per bucket past which an insert splits a bucket, in 1/8ths.
///
/// Measured (`examples/table_bench.rs`) and computed over a whole doubling: with 6.5 items, 13.3 bytes of table for each
/// item, and a hit reads 1.23 lines of buckets, a miss 1.44; with 5 items 15.0 bytes, 1.12 and 1.22 lines.
const LOAD_MAX_EIGHTHS: usize = 52;
/// Items per bucket under which a removal merges two buckets, in 1/8ths. Far from the maximum, so that a table whose size
/// swings does not split and merge the same bucket all the time.
const LOAD_MIN_EIGHTHS: usize = 20;
/// Index bits at most; beyond, chains grow.
const BUCKETS_MAX: usize = 1 << 31;

/// An owned thin pointer to something that knows its key.
///
/// # Safety
///
/// `into_raw` and `from_raw` are inverse to each other, and the pointer stays valid between them. `key` gives the same
/// bytes as long as the item is in a table. The address is below 2^48.
pub unsafe trait Item: Sized + 'static {
    /// A shared borrow of the item.
    type Ref<'a>: Copy;

    /// Gives up the item for its address.
    fn into_raw(self) -> NonNull<u8>;

    /// Takes the item back.
    ///
    /// # Safety
    ///
    /// `p` came from `into_raw` (or replaced such an address under the item's own rules) and is not used afterwards.
    unsafe fn from_raw(p: NonNull<u8>) -> Self;

    /// Borrows the item.
    ///
    /// # Safety
    ///
    /// `p` is the address of a live item that is not mutated or freed during `'a`.
    unsafe fn borrow<'a>(p: NonNull<u8>) -> Self::Ref<'a>;

    /// The item's key.
    ///
    /// # Safety
    ///
    /// As for [`Item::borrow`].
    unsafe fn key<'a>(p: NonNull<u8>) -> &'a [u8];

    /// The hash under which the item was inserted.
    ///
    /// # Safety
    ///
    /// As for [`Item::borrow`].
    unsafe fn hash(p: NonNull<u8>) -> u64 {
        // SAFETY: the caller's promise is the one that `key` asks for.
        hasher::hash(unsafe { Self::key(p) })
    }
}

/// The tag of a hash.
#[inline]
fn tag_of(hash: u64) -> u8 {
    (hash >> 46) as u8
}

/// The bits of the hash that a slot keeps in a bucket with `level` index bits.
#[inline]
fn stored_of(hash: u64, level: u32) -> usize {
    let window = if level < STORED_BITS { 0 } else { STORED_BITS };
    (hash >> window) as usize & ((1 << STORED_BITS) - 1)
}

/// Buckets of a full array; a table with more has a directory of full arrays. One less than a power of two: see [`ROUND_BUCKETS_MAX`].
///
/// Few in tests, so that they come to the directory.
const ARRAY_BUCKETS: usize = if cfg!(test) { 63 } else { 8191 };

/// Arrays of more buckets have one less than is round: allocators align blocks of that size by asking for up to 63 bytes more, and
/// then round up: mimalloc makes 768 KiB of 512 and 63 bytes.
const ROUND_BUCKETS_MAX: usize = if cfg!(test) { 16 } else { 2048 };

/// The layout of the array of a table with `buckets` buckets, 1 to `ARRAY_BUCKETS`. It has room for up to a quarter more:
/// four sizes for each doubling, which are those that allocators make of it anyway.
#[inline]
fn array_layout(buckets: usize) -> Layout {
    debug_assert!((1..=ARRAY_BUCKETS).contains(&buckets));
    let spared = usize::from(buckets > ROUND_BUCKETS_MAX);
    let room = (buckets + spared).next_multiple_of(1 << (((buckets - 1) | 7).ilog2() - 2)) - spared;
    // SAFETY: 64 is a power of two, and `ARRAY_BUCKETS` of 64 bytes are far from overflowing.
    unsafe { Layout::from_size_align_unchecked(room * 64, 64) }
}

/// The layout of the directory of a table with more than `ARRAY_BUCKETS` buckets.
fn directory_layout(buckets: usize) -> Layout {
    let arrays = buckets.div_ceil(ARRAY_BUCKETS).next_power_of_two().max(8);
    // SAFETY: at most BUCKETS_MAX / ARRAY_BUCKETS pointers of 8 bytes.
    unsafe { Layout::from_size_align_unchecked(arrays * 8, 8) }
}

/// Which bucket holds `hash` among `buckets`, of which there is one at least.
#[inline]
fn bucket_of(hash: u64, buckets: usize) -> usize {
    // All bits that the highest index needs.
    let mask = usize::MAX >> buckets.leading_zeros();
    let wide = hash as usize & mask;
    if wide < buckets { wide } else { wide & mask >> 1 }
}

/// Which bucket holds `hash` among `buckets`, and how many bits of the hash its index stands for.
#[inline]
fn locate(hash: u64, buckets: usize) -> (usize, u32) {
    let index = bucket_of(hash, buckets);
    (index, level_of(index, buckets))
}

/// The bits of the hash that a slot keeps in bucket `index` of `buckets`.
#[inline]
fn stored_at(hash: u64, index: usize, buckets: usize) -> usize {
    // Most tables are small: their level need not be known exactly.
    let level = if buckets < 1 << (STORED_BITS - 1) { 0 } else { level_of(index, buckets) };
    stored_of(hash, level)
}

/// How many low bits of the hash all items of a bucket share.
#[inline]
fn level_of(index: usize, buckets: usize) -> u32 {
    let level = buckets.ilog2();
    let split = index >= 1 << level || index < buckets - (1 << level);
    level + u32::from(split)
}

/// Whether what has this hash lies before the place that [`Table::scan`] returned as `cursor`: whether the calls from 0 to
/// there have seen it, if it was there. Of a scan that has not begun (0) nothing lies before.
#[inline]
pub(crate) fn is_before(hash: u64, cursor: u64) -> bool {
    (hash as u32).reverse_bits() < (cursor as u32).reverse_bits()
}

/// Asks the processor to fetch the cache line of `p`. A hint: any address is fine.
#[inline]
pub(crate) fn prefetch(p: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch does not access memory as far as the program can tell.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) p, options(nostack, readonly, preserves_flags));
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _ = p;
}

/// As [`prefetch`], of a line that will be written: so that another core that has it gives it up now, and not at the write.
#[inline]
pub(crate) fn prefetch_to_write(p: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: as above. Processors that do not know the instruction take it for one that does nothing.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) p, options(nostack, readonly, preserves_flags));
    }
    #[cfg(any(miri, not(target_arch = "x86_64")))]
    prefetch(p);
}

/// A hash table of items. See the module's page.
///
/// An empty table has no memory of its own, a table of up to seven items one bucket of 64 bytes.
pub struct Table<T: Item> {
    /// The array of buckets; of a table with more than `ARRAY_BUCKETS`, the directory of arrays.
    root: *mut u8,
    len: usize,
    /// Zero only while the table is empty.
    buckets: u32,
    /// Memory of chained chunks, in units of 32 bytes.
    overflow: u32,
    items: PhantomData<T>,
}

// SAFETY: the table owns its items, and no memory is shared with anything else.
unsafe impl<T: Item + Send> Send for Table<T> {}
// SAFETY: through a shared table one only gets shared borrows of items.
unsafe impl<T: Item + Sync> Sync for Table<T> {}

/// Where a table's buckets lay at some time. May be out of date, or of two different times: it serves prefetching only.
#[derive(Clone, Copy)]
pub struct BucketHint {
    /// Address of the first bucket.
    pub array: *const u8,
    /// How many buckets there are; 0 if the table has none, or too many for one array.
    pub buckets: u32,
}

impl BucketHint {
    /// Prefetches the bucket of a hash.
    #[inline]
    pub fn prefetch(self, hash: u64) {
        if self.buckets != 0 {
            prefetch(self.array.wrapping_add(64 * bucket_of(hash, self.buckets as usize)));
        }
    }
}

impl<T: Item> Default for Table<T> {
    fn default() -> Table<T> {
        Table::new()
    }
}

/// Where an item lies.
#[derive(Clone, Copy)]
struct Place {
    bucket: usize,
    chunk: Chunk,
    slot: usize,
}

impl Place {
    #[inline]
    fn item(&self) -> NonNull<u8> {
        item_of(self.chunk.slot(self.slot))
    }
}

impl<T: Item> Table<T> {
    /// An empty table; allocates nothing.
    pub const fn new() -> Table<T> {
        Table { root: ptr::null_mut(), len: 0, buckets: 0, overflow: 0, items: PhantomData }
    }

    /// How many items there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory that the table itself has allocated, in bytes, without its items.
    pub fn memory_bytes(&self) -> usize {
        let buckets = self.buckets as usize;
        let own = match buckets {
            0 => 0,
            1..=ARRAY_BUCKETS => array_layout(buckets).size(),
            _ => buckets.next_multiple_of(ARRAY_BUCKETS) * 64 + directory_layout(buckets).size(),
        };
        own + self.overflow as usize * 32
    }

    /// The item with this key. O(1).
    #[inline]
    pub fn get(&self, hash: u64, key: &[u8]) -> Option<T::Ref<'_>> {
        let place = self.find(hash, key)?;
        // SAFETY: the item is live, and `self` stays borrowed as long as the result.
        Some(unsafe { T::borrow(place.item()) })
    }

    /// The item with this key, to be changed or removed. O(1).
    #[inline]
    pub fn get_mut(&mut self, hash: u64, key: &[u8]) -> Option<SlotMut<'_, T>> {
        let place = self.find(hash, key)?;
        Some(SlotMut { table: self, place })
    }

    /// The first item with this hash (the whole of it) of which `f` says yes. O(1).
    pub fn find_by_hash(&self, hash: u64, f: impl FnMut(T::Ref<'_>) -> bool) -> Option<T::Ref<'_>> {
        let place = self.find_hashed(hash, f)?;
        // SAFETY: the item is live, and `self` stays borrowed as long as the result.
        Some(unsafe { T::borrow(place.item()) })
    }

    /// As [`Table::find_by_hash`], to change or remove the item.
    pub fn find_by_hash_mut(&mut self, hash: u64, f: impl FnMut(T::Ref<'_>) -> bool) -> Option<SlotMut<'_, T>> {
        let place = self.find_hashed(hash, f)?;
        Some(SlotMut { table: self, place })
    }

    /// Adds an item whose key must not be in the table yet. O(1): at most one bucket is split. `hash` is what
    /// [`Item::hash`] says.
    pub fn insert(&mut self, hash: u64, item: T) -> SlotMut<'_, T> {
        let item = item.into_raw();
        assert!(item.as_ptr().addr() <= ADDRESS_MASK, "items lie below 2^48");
        // SAFETY: the item is live: its owner just gave it up.
        let key = unsafe { T::key(item) };
        debug_assert!(self.find(hash, key).is_none(), "the key is in the table already");
        if self.buckets == 0 {
            self.root = Chunk::new(array_layout(1)).0.as_ptr().cast();
            self.buckets = 1;
        } else if self.len >= SLOTS && self.len * 8 >= self.buckets as usize * LOAD_MAX_EIGHTHS {
            self.split();
        }
        let bucket = bucket_of(hash, self.buckets as usize);
        let stored = stored_at(hash, bucket, self.buckets as usize);
        let (chunk, slot) = self.push(self.bucket(bucket), tag_of(hash), pack(item, stored));
        self.len += 1;
        SlotMut { table: self, place: Place { bucket, chunk, slot } }
    }

    /// Makes buckets for so many items in a table that never held any, which then need not be split as it fills. No more than
    /// lie in one array. O(items).
    pub fn reserve(&mut self, items: usize) {
        let buckets = (items.saturating_mul(8) / LOAD_MAX_EIGHTHS).min(ARRAY_BUCKETS);
        if self.buckets != 0 || buckets < 2 {
            return;
        }
        self.root = allocate(array_layout(buckets)).as_ptr();
        self.buckets = buckets as u32;
        (0..buckets).for_each(|index| self.bucket(index).set_word(0));
    }

    /// Takes the item with this key out. O(1): at most two buckets are merged.
    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<T> {
        let place = self.find(hash, key)?;
        Some(self.take(place))
    }

    /// Where the table's buckets lie, for [`BucketHint::prefetch`].
    #[inline]
    pub fn hint(&self) -> BucketHint {
        // A large table's buckets are not where a hint could say.
        let buckets = if self.buckets as usize <= ARRAY_BUCKETS { self.buckets } else { 0 };
        BucketHint { array: self.root, buckets }
    }

    /// Prefetches the bucket of a hash.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        if self.buckets != 0 {
            prefetch(self.bucket(bucket_of(hash, self.buckets as usize)).0.as_ptr().cast());
        }
    }

    /// Looks at one chunk of the chain that a look-up of this hash will visit, the one after `links` links, and prefetches the
    /// first two lines of the item that it shows, or else the next chunk: then it returns `true`, and a call with one more link
    /// gets further. To be called once the chunk has arrived.
    #[inline]
    pub fn prefetch_item(&self, hash: u64, links: usize) -> bool {
        if self.buckets == 0 {
            return false;
        }
        let bucket = bucket_of(hash, self.buckets as usize);
        let stored = stored_at(hash, bucket, self.buckets as usize);
        let mut chunk = self.bucket(bucket);
        for _ in 0..links {
            let Some(next) = chunk.next() else { return false };
            chunk = next;
        }
        let mut matches = chunk.matches(tag_of(hash));
        while matches != 0 {
            let slot = chunk.slot(matches.trailing_zeros() as usize / 8);
            if stored_in(slot) == stored {
                let item = item_of(slot).as_ptr();
                prefetch(item);
                prefetch(item.wrapping_add(64));
                return false;
            }
            matches &= matches - 1;
        }
        let next = chunk.next();
        if let Some(next) = next {
            prefetch(next.0.as_ptr().cast());
        }
        next.is_some()
    }

    /// Calls `f` for the items at a place of the table and returns the place to go on from; 0 begins and ends.
    ///
    /// Every item that is in the table from the first call to the last is seen at least once, whatever comes and goes meanwhile; it
    /// may be seen more often. Each call visits one bucket, perhaps an empty one. Cursors are below 2^32; any number is accepted.
    pub fn scan(&self, cursor: u64, f: &mut dyn FnMut(T::Ref<'_>)) -> u64 {
        if self.buckets == 0 {
            return 0;
        }
        let (bucket, next) = self.scan_step(cursor as u32);
        let (coming, after) = self.scan_step(next);
        self.prefetch_items(coming);
        prefetch(self.bucket(self.scan_step(after).0).0.as_ptr().cast());
        for place in self.chain(bucket) {
            // SAFETY: the item is live while `self` is borrowed.
            f(unsafe { T::borrow(place.item()) });
        }
        u64::from(next)
    }

    /// The bucket at a cursor and the next interval of the bit-reversed space: counted up at the index's highest bit, carrying down.
    fn scan_step(&self, cursor: u32) -> (usize, u32) {
        let (bucket, level) = locate(u64::from(cursor), self.buckets as usize);
        let filled = cursor | u32::MAX.checked_shl(level).unwrap_or(0);
        (bucket, filled.reverse_bits().wrapping_add(1).reverse_bits())
    }

    /// All items, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = T::Ref<'_>> {
        /// How many buckets are gone through while an item is fetched.
        const AHEAD: usize = 2;
        let chain = |bucket| {
            self.prefetch_items(bucket + AHEAD);
            self.chain(bucket)
        };
        (0..self.buckets as usize).flat_map(chain).map(|place| {
            // SAFETY: the item is live while `self` is borrowed.
            unsafe { T::borrow(place.item()) }
        })
    }

    /// Prefetches the items of a bucket's first chunk, if there is such a bucket.
    #[inline]
    fn prefetch_items(&self, bucket: usize) {
        if bucket < self.buckets as usize {
            let chunk = self.bucket(bucket);
            (0..chunk.count()).for_each(|slot| prefetch(item_of(chunk.slot(slot)).as_ptr()));
        }
    }

    /// An item picked by a random number. O(1) expected: three to five buckets are looked at.
    ///
    /// A place in the hash space and a position in its bucket's chain are drawn until there is an item at them. Buckets
    /// not yet split in this round cover twice the space and have twice the positions, so that every item has the same
    /// chance; but the items of a chain with more than its positions (with a keyed hash, one bucket in 1,000 at most)
    /// share the chance of so many. Redis, which picks among 15 neighbours of a random place, favours items in sparse
    /// neighbourhoods.
    pub fn random(&self, random: u64) -> Option<T::Ref<'_>> {
        /// Positions of a bucket that is split.
        const POSITIONS: usize = 16;
        if self.len == 0 {
            return None;
        }
        let buckets = self.buckets as usize;
        let mut state = random;
        let mut bucket = 0;
        for _ in 0..64 * POSITIONS {
            let bits = splitmix(&mut state);
            let level;
            (bucket, level) = locate(bits, buckets);
            let count = self.chain_len(bucket);
            let positions = match level {
                0 => count,
                _ if level > buckets.ilog2() => count.max(POSITIONS),
                _ => count.max(2 * POSITIONS),
            };
            // The index takes its bits from below, the position from above.
            let position = ((bits >> 32) * positions as u64) >> 32;
            if let Some(place) = self.chain(bucket).nth(position as usize) {
                // SAFETY: the item is live while `self` is borrowed.
                return Some(unsafe { T::borrow(place.item()) });
            }
        }
        // Only hashes that all fall into few buckets come here.
        let place = (bucket..buckets).chain(0..bucket).find_map(|bucket| self.chain(bucket).next());
        // SAFETY: as above.
        place.map(|place| unsafe { T::borrow(place.item()) })
    }

    /// Shows items to `f` until it says that they are enough, or there are no more: those of neighbouring buckets, from one that a
    /// random number picks on. What is in a bucket with the last one comes, too: so nobody is hidden behind others.
    ///
    /// For a look at several items, where [`Table::random`] would visit three to five buckets for each. An item has the better a
    /// chance the fewer its neighbours are, and neighbours come together; the hash is keyed, so that nobody can choose his.
    pub fn sample(&self, random: u64, mut f: impl FnMut(T::Ref<'_>) -> bool) {
        let buckets = self.buckets as usize;
        let start = random.checked_rem(buckets as u64).unwrap_or(0) as usize;
        let mut enough = false;
        for bucket in (start..buckets).chain(0..start) {
            self.prefetch_items(bucket);
            for place in self.chain(bucket) {
                // SAFETY: the item is live while `self` is borrowed.
                enough |= f(unsafe { T::borrow(place.item()) });
            }
            if enough {
                return;
            }
        }
    }

    /// Removes and drops all items. O(n).
    pub fn clear(&mut self) {
        /// Should the drop of an item panic, the items that are left leak: none is dropped twice.
        struct Cleared<T: Item>(ManuallyDrop<Table<T>>);
        impl<T: Item> Drop for Cleared<T> {
            fn drop(&mut self) {
                self.0.free_buckets();
            }
        }
        let table = Cleared(ManuallyDrop::new(std::mem::take(self)));
        for bucket in 0..table.0.buckets as usize {
            for place in table.0.chain(bucket) {
                // SAFETY: the item is live, and nobody can look at the table it was in any more.
                drop(unsafe { T::from_raw(place.item()) });
            }
        }
    }

    /// Takes some item out: for freeing a big table in pieces. O(1) amortised.
    pub fn pop_any(&mut self) -> Option<T> {
        if self.len == 0 {
            return None;
        }
        loop {
            let bucket = self.buckets as usize - 1;
            if let Some(place) = self.chain(bucket).last() {
                return Some(self.take(place));
            }
            // Not the last bucket: there is an item in some other one.
            self.merge();
        }
    }

    /// The bucket with this index, which must exist.
    #[inline]
    fn bucket(&self, index: usize) -> Chunk {
        debug_assert!(index < self.buckets as usize);
        // SAFETY: `root` is the array of buckets, or else a directory in which the full array of every existing bucket is.
        unsafe {
            if self.buckets as usize <= ARRAY_BUCKETS {
                return Chunk(NonNull::new_unchecked(self.root.cast::<u64>().add(index * 8)));
            }
            let array = self.root.cast::<*mut u64>().add(index / ARRAY_BUCKETS).read();
            Chunk(NonNull::new_unchecked(array.add(index % ARRAY_BUCKETS * 8)))
        }
    }

    /// The places of all items in a bucket.
    #[inline]
    fn chain(&self, bucket: usize) -> Chain {
        let chunk = self.bucket(bucket);
        Chain { bucket, chunk, slot: 0 }
    }

    fn chain_len(&self, bucket: usize) -> usize {
        let mut chunk = self.bucket(bucket);
        let mut len = chunk.count();
        while let Some(next) = chunk.next() {
            chunk = next;
            len += chunk.count();
        }
        len
    }

    /// The places whose tag and stored bits are those of `hash`.
    #[inline]
    fn candidates(&self, hash: u64) -> Candidates {
        if self.buckets == 0 {
            return Candidates { tag: 0, stored: 0, bucket: 0, chunk: None, matches: 0 };
        }
        let bucket = bucket_of(hash, self.buckets as usize);
        let stored = stored_at(hash, bucket, self.buckets as usize);
        let chunk = self.bucket(bucket);
        let tag = tag_of(hash);
        Candidates { tag, stored, bucket, chunk: Some(chunk), matches: chunk.matches(tag) }
    }

    #[inline]
    fn find(&self, hash: u64, key: &[u8]) -> Option<Place> {
        // SAFETY: the candidates are live items of this borrowed table.
        self.candidates(hash).find(|place| same_bytes(unsafe { T::key(place.item()) }, key))
    }

    fn find_hashed(&self, hash: u64, mut f: impl FnMut(T::Ref<'_>) -> bool) -> Option<Place> {
        self.candidates(hash).find(|place| {
            let item = place.item();
            // SAFETY: the candidates are live items of this borrowed table.
            unsafe { T::hash(item) == hash && f(T::borrow(item)) }
        })
    }

    /// Adds a packed slot to a bucket's chain.
    #[inline]
    fn push(&mut self, bucket: Chunk, tag: u8, slot: *mut u8) -> (Chunk, usize) {
        let mut previous = bucket;
        let mut last = bucket;
        let mut link = LINK_WHOLE;
        while let Some(next) = last.next() {
            (previous, link, last) = (last, last.link(), next);
        }
        let room = if link == LINK_HALF { HALF_SLOTS } else { SLOTS };
        if last.count() == room {
            last = self.extend(previous, last, link);
        }
        (last, last.append(tag, slot))
    }

    /// Makes room at the end of a chain, whose last chunk is full: half a chunk becomes a whole one, a whole one gets a
    /// further half.
    #[cold]
    fn extend(&mut self, previous: Chunk, last: Chunk, link: u64) -> Chunk {
        self.overflow += 1;
        if link == LINK_HALF {
            let whole = Chunk::new(WHOLE_LAYOUT);
            // SAFETY: two different live chunks of at least 32 bytes; then the old one is unlinked and freed.
            unsafe {
                ptr::copy_nonoverlapping(last.0.as_ptr(), whole.0.as_ptr(), 1 + HALF_SLOTS);
                previous.set_next(whole, LINK_WHOLE);
                last.free(LINK_HALF);
            }
            whole
        } else {
            let half = Chunk::new(HALF_LAYOUT);
            half.append(last.tag(LINK_SLOT), last.slot(LINK_SLOT));
            last.set_next(half, LINK_HALF);
            half
        }
    }

    /// Takes the item at `place` out of the table.
    fn take(&mut self, place: Place) -> T {
        let item = place.item();
        let mut previous = None;
        let mut last = self.bucket(place.bucket);
        while let Some(next) = last.next() {
            (previous, last) = (Some(last), next);
        }
        // The chain's last item fills the gap.
        let end = last.count() - 1;
        place.chunk.set_slot(place.slot, last.slot(end));
        place.chunk.set_tag(place.slot, last.tag(end));
        last.set_state(end, 0);
        if let Some(previous) = previous
            && end == 0
        {
            let link = previous.link();
            previous.set_state(LINK_SLOT, 0);
            self.overflow -= if link == LINK_HALF { 1 } else { 2 };
            // SAFETY: an empty chained chunk, just unlinked.
            unsafe { last.free(link) };
        }
        self.len -= 1;
        if self.len == 0 {
            self.free_buckets();
        } else if self.buckets > 1 && self.len * 8 < self.buckets as usize * LOAD_MIN_EIGHTHS {
            self.merge();
        }
        // SAFETY: the item was in the table, which no longer has its address.
        unsafe { T::from_raw(item) }
    }

    /// Empties a chain into `f` and frees its chained chunks.
    fn drain(&mut self, bucket: Chunk, mut f: impl FnMut(&mut Self, u8, *mut u8)) {
        let mut chunk = bucket;
        let mut link = 0;
        loop {
            // `f` may push into this very bucket: work on a copy.
            let mut slots = [ptr::null_mut(); SLOTS];
            let word = chunk.word();
            let count = chunk.count();
            for (i, slot) in slots.iter_mut().enumerate().take(count) {
                *slot = chunk.slot(i);
            }
            let next = chunk.next();
            let next_link = chunk.link();
            if link == 0 {
                chunk.set_word(0);
            } else {
                self.overflow -= if link == LINK_HALF { 1 } else { 2 };
                // SAFETY: a chained chunk whose only link was forgotten in the step before.
                unsafe { chunk.free(link) };
            }
            for (i, &slot) in slots.iter().enumerate().take(count) {
                f(self, (word >> (8 * i)) as u8, slot);
            }
            match next {
                Some(next) => (chunk, link) = (next, next_link),
                None => return,
            }
        }
    }

    /// Adds one bucket and moves to it the items of its sibling that belong there.
    fn split(&mut self) {
        let buckets = self.buckets as usize;
        if buckets >= BUCKETS_MAX {
            return;
        }
        let level = buckets.ilog2();
        let (low, high) = (buckets - (1 << level), buckets);
        self.add_room();
        self.buckets += 1;
        let (low, high) = (self.bucket(low), self.bucket(high));
        high.set_word(0);
        // Below the last step to 16 index bits the stored bits hold hash bit `level`; in that step they are renewed.
        let renew = level + 1 == STORED_BITS;
        let bit = level % STORED_BITS;
        self.drain(low, |table, tag, slot| {
            let goes_high = stored_in(slot) >> bit & 1 == 1;
            let slot = if renew {
                let item = item_of(slot);
                // SAFETY: the item is live: it is being moved within its table.
                pack(item, stored_of(unsafe { T::hash(item) }, level + 1))
            } else {
                slot
            };
            table.push(if goes_high { high } else { low }, tag, slot);
        });
    }

    /// Gives the items of the last bucket to the sibling that it was split from, and the bucket back. There are two or
    /// more buckets.
    fn merge(&mut self) {
        let last = self.buckets as usize - 1;
        let level = last.ilog2();
        let sibling = last - (1 << level);
        let (low, high) = (self.bucket(sibling), self.bucket(last));
        // With 16 index bits the slots keep hash bits 16..32, with 15 bits 0..16: those are the old index.
        let renew = level + 1 == STORED_BITS;
        if renew {
            self.drain(low, |table, tag, slot| {
                table.push(low, tag, pack(item_of(slot), sibling));
            });
        }
        self.drain(high, |table, tag, slot| {
            table.push(low, tag, if renew { pack(item_of(slot), last) } else { slot });
        });
        self.drop_last();
    }

    /// Makes the memory of bucket `self.buckets` (which is 1 or more) exist, not initialised.
    fn add_room(&mut self) {
        let buckets = self.buckets as usize;
        if buckets < ARRAY_BUCKETS {
            return self.resize_root(array_layout(buckets), array_layout(buckets + 1));
        }
        if !buckets.is_multiple_of(ARRAY_BUCKETS) {
            return;
        }
        if buckets == ARRAY_BUCKETS {
            let directory = allocate(directory_layout(buckets + 1)).cast::<*mut u8>();
            // SAFETY: the directory has places for eight arrays at least.
            unsafe { directory.write(self.root) };
            self.root = directory.as_ptr().cast();
        } else {
            self.resize_root(directory_layout(buckets), directory_layout(buckets + 1));
        }
        let array = allocate(array_layout(ARRAY_BUCKETS));
        // SAFETY: the directory has a place for the array of bucket `buckets` now.
        unsafe { self.root.cast::<*mut u8>().add(buckets / ARRAY_BUCKETS).write(array.as_ptr()) };
    }

    /// Takes the last bucket, which holds nothing any more, away; it is not the only one.
    fn drop_last(&mut self) {
        let last = self.buckets as usize - 1;
        self.buckets -= 1;
        if last < ARRAY_BUCKETS {
            return self.resize_root(array_layout(last + 1), array_layout(last));
        }
        if !last.is_multiple_of(ARRAY_BUCKETS) {
            return;
        }
        let directory = self.root.cast::<*mut u8>();
        // SAFETY: the mirror image of `add_room`.
        unsafe {
            dealloc(directory.add(last / ARRAY_BUCKETS).read(), array_layout(ARRAY_BUCKETS));
            if last == ARRAY_BUCKETS {
                let only = directory.read();
                dealloc(self.root, directory_layout(last + 1));
                self.root = only;
                return;
            }
        }
        self.resize_root(directory_layout(last + 1), directory_layout(last));
    }

    /// Moves the root, which is of layout `old`, to a place of layout `new`.
    fn resize_root(&mut self, old: Layout, new: Layout) {
        if old.size() != new.size() {
            // SAFETY: the callers compute `old` from the number of buckets, as it was when the root was allocated; the
            // new size is not zero, and the alignment the same.
            let root = unsafe { realloc(self.root, old, new.size()) };
            if root.is_null() {
                handle_alloc_error(new);
            }
            self.root = root;
        }
    }

    /// Frees all memory of the table and makes it empty; the items must have been taken or dropped.
    fn free_buckets(&mut self) {
        let buckets = self.buckets as usize;
        for bucket in 0..buckets {
            if self.overflow == 0 {
                break;
            }
            let bucket = self.bucket(bucket);
            if bucket.link() != 0 {
                self.drain(bucket, |_, _, _| {});
            }
        }
        // SAFETY: each layout is the one of its allocation; the root is forgotten below.
        unsafe {
            match buckets {
                0 => {}
                1..=ARRAY_BUCKETS => dealloc(self.root, array_layout(buckets)),
                _ => {
                    for array in 0..buckets.div_ceil(ARRAY_BUCKETS) {
                        let array = self.root.cast::<*mut u8>().add(array).read();
                        dealloc(array, array_layout(ARRAY_BUCKETS));
                    }
                    dealloc(self.root, directory_layout(buckets));
                }
            }
        }
        (self.root, self.len, self.buckets, self.overflow) = (ptr::null_mut(), 0, 0, 0);
    }
}

impl<T: Item> Drop for Table<T> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Whether two byte strings are equal. Keys are short: no call for up to 32 bytes.
#[inline]
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    #[inline]
    fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
        // Callers ask for `N` bytes within the length.
        bytes[at..at + N].try_into().unwrap_or([0; N])
    }
    let len = a.len();
    if len != b.len() {
        return false;
    }
    // Two words, overlapping as far as need be, cover everything between their sizes.
    match len {
        17..=32 => word::<16>(a, 0) == word(b, 0) && word::<16>(a, len - 16) == word(b, len - 16),
        8..=16 => word::<8>(a, 0) == word(b, 0) && word::<8>(a, len - 8) == word(b, len - 8),
        4..8 => word::<4>(a, 0) == word(b, 0) && word::<4>(a, len - 4) == word(b, len - 4),
        _ => a == b,
    }
}

/// One step of the SplitMix64 generator: spreads one random number over several draws.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Iterator over the places of a chain. It does not borrow the table: its users do.
struct Chain {
    bucket: usize,
    chunk: Chunk,
    slot: usize,
}

impl Iterator for Chain {
    type Item = Place;

    #[inline]
    fn next(&mut self) -> Option<Place> {
        if self.slot == self.chunk.count() {
            // A linked chunk has an item at least.
            self.chunk = self.chunk.next()?;
            self.slot = 0;
        }
        self.slot += 1;
        Some(Place { bucket: self.bucket, chunk: self.chunk, slot: self.slot - 1 })
    }
}

/// Iterator over the places that may hold a hash.
struct Candidates {
    tag: u8,
    stored: usize,
    bucket: usize,
    chunk: Option<Chunk>,
    /// See [`Chunk::matches`].
    matches: u64,
}

impl Iterator for Candidates {
    type Item = Place;

    #[inline]
    fn next(&mut self) -> Option<Place> {
        let mut chunk = self.chunk?;
        loop {
            while self.matches != 0 {
                let slot = self.matches.trailing_zeros() as usize / 8;
                self.matches &= self.matches - 1;
                if stored_in(chunk.slot(slot)) == self.stored {
                    return Some(Place { bucket: self.bucket, chunk, slot });
                }
            }
            self.chunk = chunk.next();
            chunk = self.chunk?;
            self.matches = chunk.matches(self.tag);
        }
    }
}

/// An item's place in a table, for changing it.
pub struct SlotMut<'a, T: Item> {
    table: &'a mut Table<T>,
    place: Place,
}

impl<'a, T: Item> SlotMut<'a, T> {
    /// The item.
    #[inline]
    pub fn get(&self) -> T::Ref<'_> {
        // SAFETY: the item is live while the table is borrowed.
        unsafe { T::borrow(self.place.item()) }
    }

    /// The item, for as long as the table is borrowed.
    #[inline]
    pub fn into_ref(self) -> T::Ref<'a> {
        // SAFETY: as in `get`; the table stays borrowed for 'a.
        unsafe { T::borrow(self.place.item()) }
    }

    /// The item's address, to be changed under the item's own rules.
    #[inline]
    pub fn raw(&self) -> NonNull<u8> {
        self.place.item()
    }

    /// Replaces the item's address, for items that move when they grow.
    ///
    /// # Safety
    ///
    /// `item` is the address of a live item with the same key, owned by the table from now on; the item under the old
    /// address is no longer the table's.
    #[inline]
    pub unsafe fn set_raw(&mut self, item: NonNull<u8>) {
        assert!(item.as_ptr().addr() <= ADDRESS_MASK, "items lie below 2^48");
        let stored = stored_in(self.place.chunk.slot(self.place.slot));
        self.place.chunk.set_slot(self.place.slot, pack(item, stored));
    }

    /// Puts another item with the same key in the item's place, and returns the old one.
    pub fn replace(&mut self, item: T) -> T {
        let (old, item) = (self.raw(), item.into_raw());
        // SAFETY: both items are live.
        let same_key = unsafe { T::key(old) == T::key(item) };
        debug_assert!(same_key, "an item is replaced by one with the same key");
        // SAFETY: the new item becomes the table's, and the old one the caller's.
        unsafe {
            self.set_raw(item);
            T::from_raw(old)
        }
    }

    /// Takes the item out of the table.
    pub fn remove(self) -> T {
        self.table.take(self.place)
    }
}

#[cfg(test)]
mod tests;
