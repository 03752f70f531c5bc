//! Shards: the pieces of the keyspace, each behind its own small lock, and the guard that holds some of them.
//!
//! Invariants: a shard's data is reached only through a [`Guard`] that holds the shard's lock; a thread that waits for a
//! shard either holds nothing or asks for its shards in ascending order, and gives up after a bounded time, so that no
//! deadlock can be built and nobody waits long; who knows that it will hold its shards for long says so, and nobody waits
//! for it at all. `shard_of` depends on the key alone, not on the database: a key's copies
//! in all databases live in one shard, which keeps MOVE and SWAPDB local.

use crate::entry::Entry;
use crate::expiry::ExpiryIndex;
use crate::sync::{AtomicI64, AtomicU8, Ordering, spin_loop, yield_now};
use crate::table::Table;
use crate::waiting::{Waiters, Watchers};
use smallvec::SmallVec;
use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;

/// Number of shards; a power of two. A model checker needs few, or it would see nothing but locks being taken.
pub const SHARDS: usize = if cfg!(kelda_model) { 4 } else { 1024 };

/// Which shard holds the key with this hash. The table inside the shard uses other bits.
#[inline]
pub fn shard_of(hash: u64) -> usize {
    (hash >> (64 - SHARDS.trailing_zeros())) as usize
}

/// One database's part of a shard.
#[derive(Default)]
pub struct Db {
    /// The keys.
    pub table: Table<Entry>,
    /// How many of them have an expiry time.
    pub volatile: usize,
}

/// What a shard's lock guards.
pub struct ShardData {
    dbs: Vec<Option<Box<Db>>>,
    /// When keys are due, over all databases.
    pub expiry: ExpiryIndex,
    /// Sessions that watch keys of this shard.
    pub watchers: Watchers,
    /// Sessions blocked on keys of this shard.
    pub waiters: Waiters,
}

impl ShardData {
    /// The database's part, if it ever held a key.
    #[inline]
    pub fn db(&self, db: u32) -> Option<&Db> {
        self.dbs.get(db as usize)?.as_deref()
    }

    /// The database's part, if it ever held a key.
    #[inline]
    pub fn db_mut(&mut self, db: u32) -> Option<&mut Db> {
        self.dbs.get_mut(db as usize)?.as_deref_mut()
    }

    /// The database's part, made if need be.
    #[inline]
    pub fn db_or_new(&mut self, db: u32) -> &mut Db {
        let index = db as usize;
        if index >= self.dbs.len() {
            self.dbs.resize_with(index + 1, || None);
        }
        self.dbs[index].get_or_insert_with(Box::default)
    }

    /// Rebuilds the expiry index when stale registrations outnumber the keys that need one. O(1) amortised.
    pub fn tidy_expiry(&mut self, now_ms: i64) {
        /// Registrations that are never worth a rebuild.
        const SMALL: usize = 256;
        let volatile: usize = self.dbs.iter().flatten().map(|db| db.volatile).sum();
        if self.expiry.len() <= SMALL + 2 * volatile {
            return;
        }
        let dbs = &self.dbs;
        self.expiry.rebuild(now_ms, |db, hash| {
            let db = dbs.get(db as usize)?.as_ref()?;
            let mut at = None;
            db.table.find_by_hash(hash, |entry| {
                at = entry.expire_at();
                at.is_some()
            });
            at
        });
    }

    /// Takes a database's part out, leaving it empty.
    pub fn take_db(&mut self, db: u32) -> Option<Box<Db>> {
        self.dbs.get_mut(db as usize)?.take()
    }

    /// Exchanges two databases' parts.
    pub fn swap_dbs(&mut self, a: u32, b: u32) {
        let last = a.max(b) as usize;
        if last >= self.dbs.len() {
            self.dbs.resize_with(last + 1, || None);
        }
        self.dbs.swap(a as usize, b as usize);
    }
}

/// A shard: its lock and its data, on cache lines of their own.
#[repr(align(128))]
struct Shard {
    /// `FREE`, `HELD` or `HELD_LONG`.
    lock: AtomicU8,
    /// When the shard's next key may be due (Unix ms); readable without the lock as a hint.
    due: AtomicI64,
    data: UnsafeCell<ShardData>,
}

// SAFETY: `data` is reached only by the holder of `lock` (see `Guard`), and what it holds can move between threads.
unsafe impl Sync for Shard {}

const FREE: u8 = 0;
const HELD: u8 = 1;
/// Held by a script that has been running for a while: waiting is pointless, and without end if it is this thread's own.
const HELD_LONG: u8 = 2;

/// How many times a lock is tried before its holder's thread may be assumed to be off its core or in a long command.
const SPINS: u32 = if cfg!(kelda_model) { 1 } else { 200 };
/// How many times the waiting thread then gives its core away before it reports the shard as busy.
const YIELDS: u32 = if cfg!(kelda_model) { 1 } else { 8 };

impl Shard {
    #[inline]
    fn try_lock(&self) -> bool {
        self.lock.load(Ordering::Relaxed) == FREE
            && self.lock.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    fn lock_soon(&self) -> bool {
        self.try_lock() || self.lock_contended()
    }

    #[cold]
    fn lock_contended(&self) -> bool {
        for _ in 0..=YIELDS {
            for _ in 0..SPINS {
                if self.try_lock() {
                    return true;
                }
                if self.lock.load(Ordering::Relaxed) == HELD_LONG {
                    return false;
                }
                spin_loop();
            }
            yield_now();
        }
        false
    }

    #[inline]
    fn unlock(&self) {
        self.lock.store(FREE, Ordering::Release);
    }
}

/// The shards that a transaction asks for or holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardSet {
    /// No shard.
    None,
    /// One shard: the ordinary case, without any allocation.
    One(u16),
    /// Several shards, ascending and without repetition.
    Many(SmallVec<[u16; 16]>),
    /// The whole keyspace.
    All,
}

impl ShardSet {
    /// Adds the shard of a hash.
    pub fn add(&mut self, hash: u64) {
        let shard = shard_of(hash) as u16;
        match self {
            ShardSet::None => *self = ShardSet::One(shard),
            ShardSet::One(have) if *have == shard => {}
            ShardSet::One(have) => {
                let (low, high) = if *have < shard { (*have, shard) } else { (shard, *have) };
                *self = ShardSet::Many(SmallVec::from_slice(&[low, high]));
            }
            ShardSet::Many(shards) => {
                if let Err(place) = shards.binary_search(&shard) {
                    shards.insert(place, shard);
                }
            }
            ShardSet::All => {}
        }
    }

    /// Whether the set holds this shard.
    #[inline]
    pub fn contains(&self, shard: usize) -> bool {
        match self {
            ShardSet::None => false,
            ShardSet::One(have) => usize::from(*have) == shard,
            ShardSet::Many(shards) => shards.binary_search(&(shard as u16)).is_ok(),
            ShardSet::All => true,
        }
    }

    /// The shards in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let (slice, all): (&[u16], usize) = match self {
            ShardSet::None => (&[], 0),
            ShardSet::One(shard) => (std::slice::from_ref(shard), 0),
            ShardSet::Many(shards) => (shards, 0),
            ShardSet::All => (&[], SHARDS),
        };
        slice.iter().map(|&shard| usize::from(shard)).chain(0..all)
    }
}

/// All shards.
pub struct Keyspace {
    shards: Box<[Shard]>,
    databases: u32,
}

impl Keyspace {
    /// An empty keyspace of so many databases.
    pub fn new(databases: u32) -> Keyspace {
        let shards = (0..SHARDS)
            .map(|_| Shard {
                lock: AtomicU8::new(FREE),
                due: AtomicI64::new(i64::MAX),
                data: UnsafeCell::new(ShardData {
                    dbs: Vec::new(),
                    expiry: ExpiryIndex::default(),
                    watchers: Watchers::default(),
                    waiters: Waiters::default(),
                }),
            })
            .collect();
        Keyspace { shards, databases }
    }

    /// Number of databases.
    pub fn databases(&self) -> u32 {
        self.databases
    }

    /// Locks the shards, or gives up after some microseconds with `None`: the caller puts its work aside.
    #[inline]
    pub fn lock(&self, want: ShardSet) -> Option<Guard<'_>> {
        if let ShardSet::One(shard) = want {
            return self.shards[usize::from(shard)].lock_soon().then(|| Guard::new(self, want));
        }
        for shard in want.iter() {
            if !self.shards[shard].lock_soon() {
                for taken in want.iter().take_while(|&taken| taken != shard) {
                    self.shards[taken].unlock();
                }
                return None;
            }
        }
        Some(Guard::new(self, want))
    }

    /// Has the processor fetch the bucket where a key would be. Does nothing when the shard is busy.
    #[inline]
    pub fn prefetch_bucket(&self, db: u32, hash: u64) {
        self.peek(hash, |data| {
            if let Some(db) = data.db(db) {
                db.table.prefetch_bucket(hash);
            }
        });
    }

    /// Has the processor fetch the entry where a key would be, once its bucket is in the cache.
    #[inline]
    pub fn prefetch_entry(&self, db: u32, hash: u64) {
        self.peek(hash, |data| {
            if let Some(db) = data.db(db) {
                db.table.prefetch_item(hash);
            }
        });
    }

    #[inline]
    fn peek(&self, hash: u64, look: impl FnOnce(&ShardData)) {
        let shard = &self.shards[shard_of(hash)];
        if shard.try_lock() {
            // SAFETY: the lock is held until the line below.
            look(unsafe { &*shard.data.get() });
            shard.unlock();
        }
    }

    /// When the next key of a shard may be due, as a hint.
    pub fn due(&self, shard: usize) -> i64 {
        self.shards[shard].due.load(Ordering::Relaxed)
    }
}

/// Holds the locks of some shards; gives them back when dropped.
pub struct Guard<'k> {
    keyspace: &'k Keyspace,
    held: ShardSet,
    /// Entries note their use through shared references: a guard must not be shared between threads.
    not_sync: PhantomData<Cell<()>>,
}

impl<'k> Guard<'k> {
    /// Who calls this has locked the shards.
    fn new(keyspace: &'k Keyspace, held: ShardSet) -> Guard<'k> {
        Guard { keyspace, held, not_sync: PhantomData }
    }

    /// Says that the shards will stay held for long: from now on nobody waits for them.
    pub fn will_take_long(&self) {
        for index in self.held.iter() {
            self.keyspace.shards[index].lock.store(HELD_LONG, Ordering::Relaxed);
        }
    }

    /// The keyspace that the shards belong to.
    pub fn keyspace(&self) -> &'k Keyspace {
        self.keyspace
    }

    /// What is held.
    pub fn held(&self) -> &ShardSet {
        &self.held
    }

    /// A held shard's data.
    ///
    /// # Panics
    /// When the shard is not held: a command reached for a key that its declaration does not name.
    #[inline]
    pub fn shard(&self, index: usize) -> &ShardData {
        assert!(self.held.contains(index), "shard {index} is not held");
        // SAFETY: the lock is held, and `&self` keeps `shard_mut` out.
        unsafe { &*self.keyspace.shards[index].data.get() }
    }

    /// A held shard's data, to change it.
    ///
    /// # Panics
    /// When the shard is not held.
    #[inline]
    pub fn shard_mut(&mut self, index: usize) -> &mut ShardData {
        assert!(self.held.contains(index), "shard {index} is not held");
        // SAFETY: the lock is held, and `&mut self` makes this the only reference.
        unsafe { &mut *self.keyspace.shards[index].data.get() }
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        for index in self.held.iter() {
            let shard = &self.keyspace.shards[index];
            // SAFETY: the lock is still held and no reference into the shard outlives the guard.
            let data = unsafe { &*shard.data.get() };
            shard.due.store(data.expiry.next_due().unwrap_or(i64::MAX), Ordering::Relaxed);
            shard.unlock();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_shard_is_busy_for_others_and_free_after() {
        let keyspace = Keyspace::new(16);
        let guard = keyspace.lock(ShardSet::One(5)).expect("free");
        assert!(keyspace.lock(ShardSet::One(5)).is_none());
        assert!(keyspace.lock(ShardSet::All).is_none());
        assert!(keyspace.lock(ShardSet::One(6)).is_some());
        drop(guard);
        assert!(keyspace.lock(ShardSet::All).is_some());
        assert!(keyspace.lock(ShardSet::One(5)).is_some());
    }

    #[test]
    fn a_shard_held_for_long_is_free_afterwards() {
        let keyspace = Keyspace::new(1);
        let guard = keyspace.lock(ShardSet::One(5)).expect("free");
        guard.will_take_long();
        assert!(keyspace.lock(ShardSet::One(5)).is_none());
        drop(guard);
        assert!(keyspace.lock(ShardSet::One(5)).is_some());
    }

    #[test]
    fn a_set_of_shards_is_sorted_and_without_repetition() {
        let mut set = ShardSet::None;
        for shard in [9u64, 3, 9, 7, 3, 1023, 0] {
            set.add(shard << 54);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 3, 7, 9, 1023]);
        assert!(set.contains(7) && !set.contains(8));
        assert_eq!(ShardSet::All.iter().count(), SHARDS);
    }

    #[test]
    #[should_panic(expected = "is not held")]
    fn a_shard_that_is_not_held_cannot_be_reached() {
        let keyspace = Keyspace::new(1);
        let guard = keyspace.lock(ShardSet::One(1)).expect("free");
        guard.shard(2);
    }

    #[test]
    fn threads_never_meet_in_a_shard() {
        let keyspace = Keyspace::new(1);
        let rounds = 2_000;
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let keyspace = &keyspace;
                scope.spawn(move || {
                    let mut done = 0;
                    while done < rounds {
                        let mut set = ShardSet::One(1);
                        set.add((thread % 2 + 2) << 54);
                        if let Some(mut guard) = keyspace.lock(set) {
                            // A lost update would show in the sum.
                            guard.shard_mut(1).db_or_new(0).volatile += 1;
                            done += 1;
                        }
                    }
                });
            }
        });
        let guard = keyspace.lock(ShardSet::All).expect("free");
        assert_eq!(guard.shard(1).db(0).map(|db| db.volatile), Some(4 * rounds));
    }
}
