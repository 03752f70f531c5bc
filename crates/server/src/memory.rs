//! The allocator: mimalloc, with a count of the bytes in use.
//!
//! Each thread adds to a counter on a cache line of its own with a plain load and store, so that counting costs about a
//! nanosecond and threads do not disturb each other. Invariant: a counter below `OWNED` is written by one thread only,
//! and no thread that ended leaves it to another; the last counter is shared by all further threads and uses atomic
//! additions. A thread may free what another allocated, so that single counters can be negative; their sum is right.

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};

/// Threads with a counter of their own.
const OWNED: usize = 255;

#[repr(align(128))]
struct Counter(AtomicI64);

static COUNTERS: [Counter; OWNED + 1] = [const { Counter(AtomicI64::new(0)) }; OWNED + 1];
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    // Constant and without a destructor: reading it never allocates.
    static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Bytes in use: the sizes asked for, without what the allocator itself needs. Reads all counters: not for hot paths.
pub fn used_bytes() -> u64 {
    let started = NEXT.load(Relaxed).min(OWNED);
    let sum: i64 = COUNTERS[..started].iter().chain(&COUNTERS[OWNED..]).map(|c| c.0.load(Relaxed)).sum();
    // Counters are read one after another: a value that moves meanwhile could make the sum dip below zero.
    sum.max(0) as u64
}

/// Bytes that this thread was given, less those that it gave back, whoever had them.
#[inline]
pub fn allocated_here() -> i64 {
    let mine = MINE.try_with(Cell::get).unwrap_or(OWNED).min(OWNED);
    COUNTERS[mine].0.load(Relaxed)
}

#[inline]
fn count(bytes: i64) {
    let mut mine = MINE.try_with(Cell::get).unwrap_or(OWNED);
    if mine == usize::MAX {
        mine = NEXT.fetch_add(1, Relaxed).min(OWNED);
        // Fails only while the thread ends, when the next call asks again.
        let _ = MINE.try_with(|m| m.set(mine));
    }
    let counter = &COUNTERS[mine].0; // at most OWNED
    if mine < OWNED {
        counter.store(counter.load(Relaxed) + bytes, Relaxed);
    } else {
        counter.fetch_add(bytes, Relaxed);
    }
}

const PURGE_DELAY_MS: core::ffi::c_long = 1000;
/// While memory is found to lie idle, and is not about to be used again.
const SHORT_PURGE_DELAY_MS: core::ffi::c_long = 10;
/// `mi_option_purge_delay`, for which the crate has no name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Has free memory given back to the system soon, or as `set_up` says.
pub fn purge_soon(soon: bool) {
    if !cfg!(feature = "system-allocator") {
        // SAFETY: a store of a number that the allocator reads now and then.
        unsafe {
            libmimalloc_sys::mi_option_set(PURGE_DELAY, if soon { SHORT_PURGE_DELAY_MS } else { PURGE_DELAY_MS })
        };
    }
}

/// Sets the allocator up; to be called before threads start.
///
/// Memory that is free for less than `PURGE_DELAY_MS` is not given back to the system: giving back a part of a huge page splits it,
/// and while tables grow they free small pieces all the time, so that after ten milliseconds, the allocator's own
/// choice, two thirds of a large heap ended up in small pages, each look-up with a miss in the translation buffers.
#[cfg_attr(feature = "system-allocator", expect(dead_code))]
pub fn set_up() {
    // SAFETY: a plain store of a number. What the environment says (`MIMALLOC_PURGE_DELAY`) goes before it.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) };
}

/// Whether less than `DENSE_PERCENT` of the page that `place` lies on is in use, and the page is not the one that its thread is
/// allocating from. `place` is in use and stays so during the call. May be out of date for pages of other threads.
pub fn is_sparse(place: NonNull<u8>) -> bool {
    const DENSE_PERCENT: usize = 80;
    if cfg!(feature = "system-allocator") {
        return false;
    }
    // SAFETY: the place came from mimalloc, because all do, so that its page's description exists as long as the place is in use.
    // The function reads four numbers of the description, without locks, and writes nothing: of a page whose owner
    // allocates at the same moment it may read old ones, which makes the answer wrong, and no more.
    unsafe {
        libmimalloc_sys::mi_unsafe_heap_page_is_under_utilized(
            std::ptr::null_mut(),
            place.as_ptr().cast(),
            DENSE_PERCENT,
        )
    }
}

/// Looks through this thread's pages for what other threads freed, and gives back to the system what has been free for longer
/// than the allocator waits. Some 10 ns for each page of 64 KiB.
pub fn collect() {
    if !cfg!(feature = "system-allocator") {
        // SAFETY: may be called at any time.
        unsafe { libmimalloc_sys::mi_collect(false) };
    }
}

/// mimalloc that counts.
pub struct Counting;

// SAFETY: every method hands its arguments to mimalloc unchanged and returns what mimalloc returned; counting neither
// allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise, passed on.
        unsafe { MiMalloc.alloc(layout) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: as above; `place` came from mimalloc, because all of ours do.
        unsafe { MiMalloc.dealloc(place, layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: as above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { MiMalloc.realloc(place, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_and_go_across_threads() {
        // Other tests of this process allocate at the same time, but far less.
        const BIG: usize = 1 << 30;
        let before = used_bytes();
        let block = std::thread::spawn(|| Vec::<u8>::with_capacity(BIG)).join().expect("thread");
        let during = used_bytes();
        std::thread::spawn(move || drop(block)).join().expect("thread");
        let after = used_bytes();
        let near = |a: u64, b: u64| a.abs_diff(b) < (BIG / 4) as u64;
        assert!(near(during, before + BIG as u64) && near(after, before), "{before} {during} {after}");
    }
}
