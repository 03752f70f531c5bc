//! The one keyed hash: of keys, hash fields and set members.
//!
//! SipHash-1-3, as in the standard library and close to what Redis uses. The two faster candidates (foldhash, rapidhash:
//! 8 ns against 14 ns per 17-byte key) resist flooding only while their seed is secret, and the order of SCAN shows
//! every client parts of the hash.

use siphasher::sip::SipHasher13;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static SEED: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// Sets the process's hash key. Call it before the first table is made: tables made before would lose their keys.
pub fn set_seed(seed: [u64; 2]) {
    SEED[0].store(seed[0], Relaxed);
    SEED[1].store(seed[1], Relaxed);
}

/// The hash of a key, field or member.
#[inline]
pub fn hash(bytes: &[u8]) -> u64 {
    SipHasher13::new_with_keys(SEED[0].load(Relaxed), SEED[1].load(Relaxed)).hash(bytes)
}
