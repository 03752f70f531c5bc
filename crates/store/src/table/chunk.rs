//! Chunks: the buckets of a table and what is chained to them, and the slots in them.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Slots of a bucket or whole chunk, and of half a chunk.
pub(super) const SLOTS: usize = 7;
pub(super) const HALF_SLOTS: usize = 3;
/// Where a linked chunk keeps its link.
pub(super) const LINK_SLOT: usize = SLOTS - 1;
/// Where an address ends and the stored bits begin. User space ends below this on the supported machines.
pub(super) const ADDRESS_BITS: u32 = 48;
pub(super) const ADDRESS_MASK: usize = (1 << ADDRESS_BITS) - 1;
/// Bits of the hash kept in each slot's pointer.
pub(super) const STORED_BITS: u32 = 16;
const _: () = assert!(size_of::<usize>() == 8, "slots keep hash bits above a 48-bit address");

/// A slot's content: the item's address with hash bits above it.
#[inline]
pub(super) fn pack(item: NonNull<u8>, stored: usize) -> *mut u8 {
    debug_assert!(stored < 1 << STORED_BITS);
    item.as_ptr().map_addr(|address| (address & ADDRESS_MASK) | stored << ADDRESS_BITS)
}

#[inline]
pub(super) fn item_of(slot: *mut u8) -> NonNull<u8> {
    let item = slot.map_addr(|address| address & ADDRESS_MASK);
    debug_assert!(!item.is_null());
    // SAFETY: only addresses of items, which are not null, are packed into slots.
    unsafe { NonNull::new_unchecked(item) }
}

#[inline]
pub(super) fn stored_in(slot: *mut u8) -> usize {
    slot.addr() >> ADDRESS_BITS
}

/// A bucket or a chunk of its chain: word 0 holds the tags (bytes 0 to 6) and the state (byte 7), words 1 to 7 (1 to 3 in
/// half a chunk) are slots.
///
/// Copies of it alias each other: the table's methods see to it that none outlives its chunk. The functions below rely
/// on `self` pointing at a live chunk with as many slots as its state says.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Chunk(pub(super) NonNull<u64>);

/// State byte: how many slots hold items (low bits), and whether the last slot links to half or a whole chunk.
pub(super) const COUNT_MASK: u64 = 7;
pub(super) const LINK_HALF: u64 = 0x40;
pub(super) const LINK_WHOLE: u64 = 0x80;
pub(super) const STATE_SHIFT: u32 = 56;

pub(super) const HALF_LAYOUT: Layout = match Layout::from_size_align(32, 32) {
    Ok(layout) => layout,
    // Decided when compiling.
    Err(_) => panic!("static layout"),
};
pub(super) const WHOLE_LAYOUT: Layout = match Layout::from_size_align(64, 64) {
    Ok(layout) => layout,
    // Decided when compiling.
    Err(_) => panic!("static layout"),
};

/// Allocates; ends the process if there is no memory, as `Vec` and `Box` do.
pub(super) fn allocate(layout: Layout) -> NonNull<u8> {
    debug_assert!(layout.size() > 0);
    // SAFETY: no layout here has size zero.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

impl Chunk {
    pub(super) fn new(layout: Layout) -> Chunk {
        let chunk = Chunk(allocate(layout).cast());
        chunk.set_word(0);
        chunk
    }

    #[inline]
    pub(super) fn word(self) -> u64 {
        // SAFETY: a chunk is live and its first word initialised (see the type).
        unsafe { self.0.read() }
    }

    #[inline]
    pub(super) fn set_word(self, word: u64) {
        // SAFETY: a chunk is live and the table's methods have exclusive access when they write.
        unsafe { self.0.write(word) }
    }

    #[inline]
    pub(super) fn slot(self, i: usize) -> *mut u8 {
        debug_assert!(i < SLOTS);
        // SAFETY: callers ask only for slots that hold an item or the link, so that they exist and are initialised.
        unsafe { self.0.add(1 + i).cast::<*mut u8>().read() }
    }

    #[inline]
    pub(super) fn set_slot(self, i: usize, slot: *mut u8) {
        debug_assert!(i < SLOTS);
        // SAFETY: callers write only to slots within the chunk's size.
        unsafe { self.0.add(1 + i).cast::<*mut u8>().write(slot) }
    }

    #[inline]
    pub(super) fn set_tag(self, i: usize, tag: u8) {
        let shift = 8 * i as u32;
        self.set_word(self.word() & !(0xff << shift) | u64::from(tag) << shift);
    }

    #[inline]
    pub(super) fn tag(self, i: usize) -> u8 {
        (self.word() >> (8 * i)) as u8
    }

    #[inline]
    pub(super) fn count(self) -> usize {
        (self.word() >> STATE_SHIFT & COUNT_MASK) as usize
    }

    pub(super) fn set_state(self, count: usize, link: u64) {
        let tags = self.word() & !(0xff << STATE_SHIFT);
        self.set_word(tags | (count as u64 | link) << STATE_SHIFT);
    }

    #[inline]
    pub(super) fn link(self) -> u64 {
        self.word() >> STATE_SHIFT & (LINK_HALF | LINK_WHOLE)
    }

    #[inline]
    pub(super) fn next(self) -> Option<Chunk> {
        if self.link() == 0 {
            return None;
        }
        // A link is never null: `set_next` wrote it.
        NonNull::new(self.slot(LINK_SLOT).cast()).map(Chunk)
    }

    /// Links to `next`; the slots below the link stay as they are.
    pub(super) fn set_next(self, next: Chunk, link: u64) {
        self.set_slot(LINK_SLOT, next.0.as_ptr().cast());
        self.set_state(LINK_SLOT, link);
    }

    /// Adds an item to a chunk that has room.
    #[inline]
    pub(super) fn append(self, tag: u8, slot: *mut u8) -> usize {
        let i = self.count();
        debug_assert!(i < SLOTS && self.link() == 0);
        self.set_slot(i, slot);
        self.set_tag(i, tag);
        self.set_word(self.word() + (1 << STATE_SHIFT));
        i
    }

    /// A mask with the high bit of byte `i` set for each slot `i` with this tag; rarely also for others, whose stored bits
    /// must then tell.
    #[inline]
    pub(super) fn matches(self, tag: u8) -> u64 {
        const LOW: u64 = 0x0101_0101_0101_0101;
        const HIGH: u64 = 0x8080_8080_8080_8080;
        let word = self.word();
        let used = !(!0u64 << (8 * (word >> STATE_SHIFT & COUNT_MASK)));
        let difference = word ^ (LOW * u64::from(tag));
        difference.wrapping_sub(LOW) & !difference & HIGH & used
    }

    /// Moves the chunk to another place.
    ///
    /// # Safety
    ///
    /// As for [`Chunk::free`]: the old place is not used afterwards.
    pub(super) unsafe fn moved(self, link: u64) -> Chunk {
        let layout = if link == LINK_HALF { HALF_LAYOUT } else { WHOLE_LAYOUT };
        let new = Chunk(allocate(layout).cast());
        // SAFETY: two different allocations of the layout's size, whose slots need not all be initialised; then the
        // caller's promise.
        unsafe {
            new.0.cast::<u8>().copy_from_nonoverlapping(self.0.cast(), layout.size());
            self.free(link);
        }
        new
    }

    /// # Safety
    ///
    /// The chunk was allocated on its own, with the layout of `link`, and nothing uses it afterwards.
    pub(super) unsafe fn free(self, link: u64) {
        let layout = if link == LINK_HALF { HALF_LAYOUT } else { WHOLE_LAYOUT };
        // SAFETY: the caller's promise.
        unsafe { dealloc(self.0.as_ptr().cast(), layout) }
    }
}
