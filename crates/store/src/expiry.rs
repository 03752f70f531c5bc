//! The index of keys by expiry time, from which active expiry works: one for each shard.
//!
//! It holds *registrations*: a database and a key's hash, to be looked at when due. They are hints. The owner finds the
//! key by its hash ([`Table::find_by_hash_mut`](crate::table::Table::find_by_hash_mut)), looks at its true expiry, and
//! deletes it, or registers it again if the expiry is later, or clears its indexed flag if there is none.
//!
//! **Time.** Registrations lie in slots, whose width grows with how far off they are: 8 ms for what expires within 128 ms,
//! and 16 times as wide for each 16 times as far. A wide slot is due when it begins: its keys are then registered again in
//! narrower ones (a key with an hour to live: four times at most). The narrowest are due when they end. So no key is reported
//! more than 8 ms late, and there are at most 16 slots for each of some ten widths and each database.
//!
//! **Memory.** The time and the database belong to the slot; a registration is the 8 bytes of the hash, in chunks of seven.
//!
//! **How many.** An entry's indexed flag says that a registration is due at or before its expiry (at the latest 8 ms after
//! it), so a later expiry needs no new one: a key whose time to live is refreshed over and over has one registration. An
//! earlier expiry needs one and leaves a stale one behind ([`is_covered`]), as does a key that is deleted and made anew.
//! The owner calls [`ExpiryIndex::rebuild`] when [`ExpiryIndex::len`] is more than, say, twice its count of volatile keys, which costs O(1) for each stale registration.

use std::collections::BTreeMap;

/// Width of the narrowest slots in ms, as a power of two.
const NARROWEST_LOG2: u32 = 3;
/// Each next width is this many powers of two wider.
const STEP_LOG2: u32 = 4;
const CHUNK_LEN: usize = 7;

/// Seven registrations of one slot: a cache line.
struct Chunk {
    hashes: [u64; CHUNK_LEN],
    next: Option<Box<Chunk>>,
}

/// The registrations of one slot and database: a stack of chunks, of which all but the top are full.
#[derive(Default)]
struct Slot {
    top: Option<Box<Chunk>>,
    len: usize,
}

impl Slot {
    /// Returns whether it took a new chunk.
    fn push(&mut self, hash: u64) -> bool {
        let place = self.len % CHUNK_LEN;
        self.len += 1;
        match &mut self.top {
            Some(top) if place != 0 => {
                top.hashes[place] = hash;
                false
            }
            top => {
                let mut hashes = [0; CHUNK_LEN];
                hashes[0] = hash;
                *top = Some(Box::new(Chunk { hashes, next: top.take() }));
                true
            }
        }
    }

    /// Returns the hash, and whether a chunk was freed.
    fn pop(&mut self) -> Option<(u64, bool)> {
        let top = self.top.as_mut()?;
        self.len -= 1;
        let place = self.len % CHUNK_LEN;
        let hash = top.hashes[place];
        if place == 0 {
            self.top = top.next.take();
        }
        Some((hash, place == 0))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // One after another: dropping a long stack as a whole would recurse.
        let mut top = self.top.take();
        while let Some(mut chunk) = top {
            top = chunk.next.take();
        }
    }
}

/// Whether an entry's registration serves for its new expiry, so that none need be added.
///
/// `indexed` and `old_ms` are the entry's flag and expiry before the change.
pub fn is_covered(indexed: bool, old_ms: Option<i64>, new_ms: i64) -> bool {
    indexed && old_ms.is_some_and(|old_ms| old_ms <= new_ms)
}

/// See the module's page.
#[derive(Default)]
pub struct ExpiryIndex {
    /// By the time at which the slot is due, and the database.
    slots: BTreeMap<(i64, u32), Slot>,
    len: usize,
    chunks: usize,
}

impl ExpiryIndex {
    /// An index without registrations; allocates nothing.
    pub const fn new() -> ExpiryIndex {
        ExpiryIndex { slots: BTreeMap::new(), len: 0, chunks: 0 }
    }

    /// Registers a key that expires at `at_ms`. O(log of the few slots). `now_ms` only decides how wide the slot may be.
    pub fn add(&mut self, now_ms: i64, hash: u64, db: u32, at_ms: i64) {
        let slot = self.slots.entry((due(now_ms, at_ms), db)).or_default();
        self.chunks += usize::from(slot.push(hash));
        self.len += 1;
    }

    /// Moves registrations that are due to `out`, as database and hash; `max` at most. More may be due if it was reached.
    pub fn take_due(&mut self, now_ms: i64, max: usize, out: &mut Vec<(u32, u64)>) {
        let mut left = max;
        while left > 0
            && let Some(mut slot) = self.slots.first_entry()
            && slot.key().0 <= now_ms
        {
            let db = slot.key().1;
            while left > 0
                && let Some((hash, freed)) = slot.get_mut().pop()
            {
                out.push((db, hash));
                left -= 1;
                self.len -= 1;
                self.chunks -= usize::from(freed);
            }
            if slot.get().len == 0 {
                slot.remove();
            }
        }
    }

    /// Adds some registrations, as database and hash, to `out`: `max` at most, from a place that the random number picks. They
    /// stay registered. Far down in a long slot it does not look.
    pub fn sample(&self, random: u64, max: usize, out: &mut Vec<(u32, u64)>) {
        /// Chunks of a slot that are passed over, at most.
        const PASSED: usize = 64;
        let Some(mut rank) = random.checked_rem(self.len as u64) else { return };
        for ((_, db), slot) in &self.slots {
            if rank >= slot.len as u64 {
                rank -= slot.len as u64;
                continue;
            }
            // The chunks below the top are full.
            let (mut chunk, mut filled) = (slot.top.as_deref(), (slot.len - 1) % CHUNK_LEN + 1);
            for _ in 0..(rank as usize / CHUNK_LEN).min(PASSED) {
                let below = chunk.and_then(|chunk| chunk.next.as_deref());
                if below.is_none() {
                    break;
                }
                (chunk, filled) = (below, CHUNK_LEN);
            }
            while let Some(at) = chunk
                && out.len() < max
            {
                out.extend(at.hashes[..filled].iter().take(max - out.len()).map(|hash| (*db, *hash)));
                (chunk, filled) = (at.next.as_deref(), CHUNK_LEN);
            }
            return;
        }
    }

    /// When the next registration is due, in Unix milliseconds: the earliest time at which `take_due` has something.
    pub fn next_due(&self) -> Option<i64> {
        self.slots.first_key_value().map(|((due, _), _)| *due)
    }

    /// How many registrations there are, stale ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory that the index has allocated, in bytes; the part of the slots' tree (some 50 bytes each) is an estimate.
    pub fn memory_bytes(&self) -> usize {
        self.chunks * size_of::<Chunk>() + self.slots.len() * (size_of::<(i64, u32)>() + size_of::<Slot>()) * 3 / 2
    }

    /// Registers every key once: `expire_at` tells the true expiry of the key with this database and hash, `None` if there
    /// is none. O(n log n).
    pub fn rebuild(&mut self, now_ms: i64, mut expire_at: impl FnMut(u32, u64) -> Option<i64>) {
        let mut all = Vec::with_capacity(self.len);
        self.take_due(i64::MAX, usize::MAX, &mut all);
        all.sort_unstable();
        all.dedup();
        for (db, hash) in all {
            if let Some(at_ms) = expire_at(db, hash) {
                self.add(now_ms, hash, db, at_ms);
            }
        }
    }

    /// Forgets a database, when it is flushed.
    pub fn remove_db(&mut self, db: u32) {
        let (len, chunks) = (&mut self.len, &mut self.chunks);
        self.slots.retain(|(_, slot_db), slot| {
            let keep = *slot_db != db;
            if !keep {
                *len -= slot.len;
                *chunks -= slot.len.div_ceil(CHUNK_LEN);
            }
            keep
        });
    }

    /// Exchanges two databases, as SWAPDB does.
    pub fn swap_dbs(&mut self, a: u32, b: u32) {
        let swapped = |db| match db {
            _ if db == a => b,
            _ if db == b => a,
            _ => db,
        };
        let slots = std::mem::take(&mut self.slots);
        self.slots = slots.into_iter().map(|((due, db), slot)| ((due, swapped(db)), slot)).collect();
    }
}

/// When a registration for a key that expires at `at_ms` is due. After `now_ms`, unless the key has expired by then; at
/// most 7 ms after `at_ms`.
fn due(now_ms: i64, at_ms: i64) -> i64 {
    let distance = at_ms.saturating_sub(now_ms).max(1);
    // With a distance of `width` at least, rounding down stays after now; and what is left then is less than `width`.
    let width_log2 = match (distance.ilog2().max(NARROWEST_LOG2) - NARROWEST_LOG2) / STEP_LOG2 {
        0 => {
            return at_ms.saturating_add((1 << NARROWEST_LOG2) - 1) >> NARROWEST_LOG2 << NARROWEST_LOG2;
        }
        step => NARROWEST_LOG2 + step * STEP_LOG2,
    };
    at_ms >> width_log2 << width_log2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const NOW: i64 = 1_790_000_000_000;

    #[test]
    fn an_hour_is_registered_four_more_times_at_most() {
        let mut most = 0;
        for shift in 0..10_000 {
            let (at, mut now, mut times) = (NOW + 3_600_000 + shift * 7, NOW + shift, 0);
            loop {
                let due = due(now, at);
                assert!(due > now);
                now = due;
                if now >= at {
                    break;
                }
                times += 1;
            }
            assert!(now - at < 8);
            most = most.max(times);
        }
        assert_eq!(most, 4);
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let mut index = ExpiryIndex::new();
        for now in [i64::MIN, -1, 0, NOW, i64::MAX] {
            for at in [i64::MIN, -1, 0, 1, NOW, i64::MAX] {
                index.add(now, 1, 0, at);
                let mut out = Vec::new();
                index.take_due(i64::MAX, 10, &mut out);
                assert_eq!(out, [(0, 1)]);
            }
        }
    }

    #[test]
    fn a_registration_takes_about_nine_bytes() {
        let mut index = ExpiryIndex::new();
        for key in 0..10_000u64 {
            index.add(NOW, key, 0, NOW + (key as i64 * 7919) % 3_600_000);
        }
        assert!(index.memory_bytes() < 10_000 * 10, "{}", index.memory_bytes());
        index.take_due(i64::MAX, usize::MAX, &mut Vec::new());
        assert_eq!((index.len(), index.memory_bytes(), index.next_due()), (0, 0, None));
    }

    #[test]
    fn databases_are_flushed_and_swapped() {
        let mut index = ExpiryIndex::new();
        for hash in 0..100 {
            index.add(NOW, hash, (hash % 3) as u32, NOW + hash as i64 * 1000);
        }
        index.swap_dbs(0, 1);
        index.remove_db(0);
        assert_eq!(index.len(), 67);
        let mut out = Vec::new();
        index.take_due(i64::MAX, usize::MAX, &mut out);
        assert!(out.iter().all(|&(db, hash)| db == [1, 0, 2][hash as usize % 3] && db != 0));
        assert_eq!((out.len(), index.len(), index.memory_bytes()), (67, 0, 0));
    }

    #[derive(Clone, Debug)]
    enum Op {
        /// Sets a key's expiry, so many ms from now.
        Expire(u64, i64),
        Persist(u64),
        /// Lets time pass and takes what is due, so many at a time.
        Pass(i64, usize),
        Rebuild,
    }

    fn op() -> impl Strategy<Value = Op> {
        let ttl = prop_oneof![-10..200i64, 0..100_000i64, 0..1_000_000_000_000i64];
        prop_oneof![
            6 => (0..40u64, ttl.clone()).prop_map(|(key, ttl)| Op::Expire(key, ttl)),
            1 => (0..40u64).prop_map(Op::Persist),
            3 => (ttl, 1..20usize).prop_map(|(ms, max)| Op::Pass(ms.abs(), max)),
            1 => Just(Op::Rebuild),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// An owner that follows the protocol expires every key in time and none too early.
        #[test]
        fn keys_expire_in_time(ops in prop::collection::vec(op(), 1..200)) {
            let mut index = ExpiryIndex::new();
            let mut now = NOW;
            // Key to expiry (if volatile) and indexed flag.
            let mut keys: HashMap<u64, (Option<i64>, bool)> = HashMap::new();
            let db_of = |key: u64| (key % 2) as u32;
            for op in ops {
                match op {
                    Op::Expire(key, ttl) => {
                        let at = now + ttl;
                        let (old, indexed) = keys.get(&key).copied().unwrap_or((None, false));
                        if !is_covered(indexed, old, at) {
                            index.add(now, key, db_of(key), at);
                        }
                        keys.insert(key, (Some(at), true));
                    }
                    Op::Persist(key) => if let Some((at, _)) = keys.get_mut(&key) {
                        *at = None;
                    },
                    Op::Pass(ms, max) => {
                        now += ms;
                        loop {
                            let mut out = Vec::new();
                            index.take_due(now, max, &mut out);
                            prop_assert!(out.len() <= max);
                            if out.is_empty() {
                                break;
                            }
                            for (db, key) in out {
                                prop_assert_eq!(db, db_of(key));
                                match keys.get_mut(&key) {
                                    Some((Some(at), _)) if *at > now => index.add(now, key, db, *at),
                                    Some((Some(_), _)) => { keys.remove(&key); }
                                    Some((None, indexed)) => *indexed = false,
                                    None => {}
                                }
                            }
                        }
                        prop_assert!(index.next_due().is_none_or(|due| due > now));
                        let late = keys.values().any(|(at, _)| at.is_some_and(|at| at <= now - 8));
                        prop_assert!(!late);
                    }
                    Op::Rebuild => {
                        let expire_at = |_, key| keys.get(&key).and_then(|(at, _)| *at);
                        index.rebuild(now, expire_at);
                        let volatile = keys.values().filter(|(at, _)| at.is_some()).count();
                        prop_assert_eq!(index.len(), volatile);
                        keys.values_mut().filter(|(at, _)| at.is_none()).for_each(|(_, indexed)| *indexed = false);
                    }
                }
            }
        }
    }
}
