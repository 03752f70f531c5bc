//! Shards: the pieces of the keyspace, each behind its own small lock, and the guard that holds some of them.
//!
//! Invariants: a shard's data is reached only through a [`Guard`] that holds the shard's lock; a thread that waits for a
//! shard either holds nothing or asks for its shards in ascending order, and gives up after a bounded time, so that no
//! deadlock can be built and nobody waits long; who knows that it will hold its shards for long says so, and nobody waits
//! for it at all. `shard_of` depends on the key alone, not on the database: a key's copies
//! in all databases live in one shard, which keeps MOVE and SWAPDB local.

use crate::entry::Entry;
use crate::expiry::ExpiryIndex;
use crate::snapshot::Saving;
use crate::sync::{AtomicI64, AtomicU8, Ordering, spin_loop, yield_now};
use crate::table::{BucketHint, Table, prefetch_to_write};
use crate::tracking::Readers;
use crate::value::Kind;
use crate::waiting::{Waiters, Watchers};
use smallvec::SmallVec;
use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, AtomicU32};

/// Number of shards; a power of two. A model checker needs few, or it would see nothing but locks being taken.
pub const SHARDS: usize = if cfg!(kelda_model) { 4 } else { 1024 };

/// Which shard holds the key with this hash. The table inside the shard uses other bits.
#[inline]
pub fn shard_of(hash: u64) -> usize {
    (hash >> (64 - SHARDS.trailing_zeros())) as usize
}

/// One database's part of a shard.
#[derive(Default)]
#[repr(C)]
pub struct Db {
    /// The keys.
    pub table: Table<Entry>,
    /// How many of them have an expiry time.
    pub volatile: u32,
    /// How many of them are hashes, sets and sorted sets with fields or members that have one.
    pub volatile_items: u32,
}

impl Db {
    /// Whether any key, field or member has an expiry time.
    #[inline]
    pub fn any_volatile(&self) -> bool {
        (self.volatile | self.volatile_items) != 0
    }

    /// How many keys need a registration in the expiry index, at most.
    fn registered_max(&self) -> usize {
        self.volatile as usize + self.volatile_items as usize
    }
}

/// What a shard's lock guards. What every command looks at lies in front, in the cache line of the lock.
#[repr(C)]
pub struct ShardData {
    /// Number in the log of the last transaction that changed a key of the shard, or only held it while it changed others.
    pub lsn: u64,
    /// Database 0, which most servers use alone: no pointer on the way to its table.
    first: Db,
    /// The colour of entries that are not owed; see [`crate::snapshot`].
    pub(crate) colour: bool,
    /// Whether a change of a key concerns anybody: see [`ShardData::has_company`].
    company: bool,
    /// What of the shard is still owed to a snapshot, while one is being taken.
    pub(crate) saving: Option<Box<Saving>>,
    /// Sessions that keep copies of keys of this shard.
    pub readers: Readers,
    /// Sessions that watch keys of this shard.
    pub watchers: Watchers,
    /// Sessions blocked on keys of this shard.
    pub waiters: Waiters,
    /// When keys are due, over all databases.
    pub expiry: ExpiryIndex,
    /// Databases from 1 on.
    others: Vec<Option<Box<Db>>>,
}

impl ShardData {
    fn new() -> ShardData {
        ShardData {
            lsn: 0,
            first: Db::default(),
            colour: false,
            company: false,
            saving: None,
            readers: Readers::default(),
            watchers: Watchers::default(),
            waiters: Waiters::default(),
            expiry: ExpiryIndex::default(),
            others: Vec::new(),
        }
    }

    /// Whether a snapshot, a session that waits or watches, or a copy that somebody keeps may be concerned by a change of a key
    /// of this shard. If not, none is, and who changes the key need not look at the registers, which lie in other cache lines.
    #[inline]
    pub fn has_company(&self) -> bool {
        self.company
    }

    /// Whether a snapshot is being taken to which something of this shard is owed.
    #[inline]
    pub(crate) fn is_saving(&self) -> bool {
        self.company && self.saving.is_some()
    }

    /// Whether any session waits for a key of this shard.
    #[inline]
    pub fn has_waiters(&self) -> bool {
        self.company && !self.waiters.is_empty()
    }

    /// To be called after anything but the keys may have changed.
    fn note_company(&mut self) {
        self.company =
            self.saving.is_some() || !self.readers.is_empty() || !self.watchers.is_empty() || !self.waiters.is_empty();
    }

    /// The database's part, if it ever held a key.
    #[inline]
    pub fn db(&self, db: u32) -> Option<&Db> {
        match db {
            0 => Some(&self.first),
            _ => self.others.get(db as usize - 1)?.as_deref(),
        }
    }

    /// The database's part, if it ever held a key.
    #[inline]
    pub fn db_mut(&mut self, db: u32) -> Option<&mut Db> {
        match db {
            0 => Some(&mut self.first),
            _ => self.others.get_mut(db as usize - 1)?.as_deref_mut(),
        }
    }

    /// The database's part, made if need be.
    #[inline]
    pub fn db_or_new(&mut self, db: u32) -> &mut Db {
        match db {
            0 => &mut self.first,
            _ => self.other(db).get_or_insert_with(Box::default),
        }
    }

    /// Puts an entry into a database; its key must be absent. The one way into the table.
    #[inline]
    pub fn insert(&mut self, db: u32, hash: u64, entry: Entry) {
        entry.as_ref().set_colour(self.colour);
        self.db_or_new(db).table.insert(hash, entry);
    }

    /// The databases that ever held a key, with their numbers.
    pub fn dbs(&self) -> impl Iterator<Item = (u32, &Db)> {
        let others = self.others.iter().enumerate();
        let others = others.filter_map(|(index, db)| Some((index as u32 + 1, db.as_deref()?)));
        std::iter::once((0, &self.first)).chain(others)
    }

    /// What is owed to a snapshot, and a database.
    pub(crate) fn saving_and_db(&mut self, db: u32) -> (Option<&mut Saving>, Option<&Db>) {
        let part = match db {
            0 => Some(&self.first),
            _ => self.others.get(db as usize - 1).and_then(Option::as_deref),
        };
        (self.saving.as_deref_mut(), part)
    }

    /// The place of a database from 1 on.
    fn other(&mut self, db: u32) -> &mut Option<Box<Db>> {
        let index = db as usize - 1;
        if index >= self.others.len() {
            self.others.resize_with(index + 1, || None);
        }
        &mut self.others[index]
    }

    /// Rebuilds the expiry index when stale registrations outnumber the keys that need one. O(1) amortised.
    pub fn tidy_expiry(&mut self, now_ms: i64) {
        /// Registrations that are never worth a rebuild.
        const SMALL: usize = 256;
        let others: usize = self.others.iter().flatten().map(|db| db.registered_max()).sum();
        let needed = self.first.registered_max() + others;
        if self.expiry.len() <= SMALL + 2 * needed {
            return;
        }
        let (first, others) = (&self.first, &self.others);
        self.expiry.rebuild(now_ms, |db, hash| {
            let db = match db {
                0 => first,
                _ => others.get(db as usize - 1)?.as_ref()?,
            };
            let mut at = None;
            db.table.find_by_hash(hash, |entry| {
                at = entry.next_due();
                at.is_some()
            });
            at
        });
    }

    /// Gives back the expiry index's memory if no key needs it: what it holds is stale.
    pub fn drop_unused_expiry(&mut self) {
        if !self.dbs().any(|(_, db)| db.any_volatile()) {
            self.expiry = ExpiryIndex::new();
        }
    }

    /// Takes a database's part out, leaving it empty. What of it is owed to a snapshot is the caller's concern.
    pub fn take_db(&mut self, db: u32) -> Option<Box<Db>> {
        match db {
            0 if self.first.table.is_empty() => None,
            0 => Some(Box::new(std::mem::take(&mut self.first))),
            _ => self.others.get_mut(db as usize - 1)?.take(),
        }
    }

    /// Exchanges two databases' parts.
    pub fn swap_dbs(&mut self, a: u32, b: u32) {
        if let Some(saving) = &mut self.saving {
            saving.swap(a, b);
        }
        match (a.min(b), a.max(b)) {
            (0, 0) => {}
            (0, other) => {
                let mut part = self.other(other).take().unwrap_or_default();
                std::mem::swap(&mut self.first, &mut part);
                *self.other(other) = Some(part);
            }
            (low, high) => {
                self.other(high);
                self.others.swap(low as usize - 1, high as usize - 1);
            }
        }
    }
}

/// A shard: its lock and its data, on cache lines of their own. The first line has all that a look at a key needs, and all that
/// a change does which concerns nobody else.
#[repr(C, align(128))]
struct Shard {
    /// `FREE`, `HELD` or `HELD_LONG`.
    lock: AtomicU8,
    /// Where the buckets of database 0 lie, and how many there are; readable without the lock as a hint.
    buckets: AtomicU32,
    array: AtomicPtr<u8>,
    data: UnsafeCell<ShardData>,
    /// When the shard's next key may be due (Unix ms); readable without the lock as a hint.
    due: AtomicI64,
}

const _: () = assert!(
    cfg!(kelda_model) || std::mem::offset_of!(Shard, data) + std::mem::offset_of!(ShardData, company) < 64,
    "one line for what every command looks at"
);

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

    /// Writes the hint where the buckets are.
    #[inline]
    fn publish_keys(&self, data: &ShardData) {
        let hint = data.first.table.hint();
        self.array.store(hint.array.cast_mut(), Ordering::Relaxed);
        self.buckets.store(hint.buckets, Ordering::Relaxed);
    }

    /// Writes all that follows from the shard's data.
    #[inline(never)]
    fn publish(&self, data: &mut ShardData) {
        self.publish_keys(data);
        self.due.store(data.expiry.next_due().unwrap_or(i64::MAX), Ordering::Relaxed);
        data.note_company();
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
    /// Several shards. Boxed so that a set is moved in registers: it passes through many hands on the way of every command.
    Many(Box<Several>),
    /// The whole keyspace.
    All,
}

/// Several shards, as a list to walk and as bits to ask: every access to a key asks whether its shard is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Several {
    /// Ascending and without repetition.
    list: SmallVec<[u16; 12]>,
    bits: [u64; SHARDS.div_ceil(64)],
}

impl Several {
    fn new() -> Several {
        Several { list: SmallVec::new(), bits: [0; SHARDS.div_ceil(64)] }
    }

    #[inline]
    fn contains(&self, shard: u16) -> bool {
        self.bits.get(usize::from(shard / 64)).is_some_and(|word| word >> (shard % 64) & 1 != 0)
    }

    fn add(&mut self, shard: u16) {
        if !self.contains(shard) {
            self.bits[usize::from(shard / 64)] |= 1 << (shard % 64);
            let place = self.list.partition_point(|have| *have < shard);
            self.list.insert(place, shard);
        }
    }
}

impl ShardSet {
    /// Adds the shard of a hash.
    pub fn add(&mut self, hash: u64) {
        let shard = shard_of(hash) as u16;
        match self {
            ShardSet::None => *self = ShardSet::One(shard),
            ShardSet::One(have) if *have == shard => {}
            ShardSet::One(have) => {
                let mut several = Box::new(Several::new());
                several.add(*have);
                several.add(shard);
                *self = ShardSet::Many(several);
            }
            ShardSet::Many(several) => several.add(shard),
            ShardSet::All => {}
        }
    }

    /// Whether the set holds this shard.
    #[inline(always)]
    pub fn contains(&self, shard: usize) -> bool {
        match self {
            ShardSet::None => false,
            ShardSet::One(have) => usize::from(*have) == shard,
            ShardSet::Many(several) => several.contains(shard as u16),
            ShardSet::All => true,
        }
    }

    /// The shards in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let (slice, all): (&[u16], usize) = match self {
            ShardSet::None => (&[], 0),
            ShardSet::One(shard) => (std::slice::from_ref(shard), 0),
            ShardSet::Many(several) => (&several.list, 0),
            ShardSet::All => (&[], SHARDS),
        };
        slice.iter().map(|&shard| usize::from(shard)).chain(0..all)
    }
}

/// Keys that [`Keyspace::prefetch`] takes at once.
pub const PREFETCH_MAX: usize = 64;
/// Chunks of a bucket's chain that it looks at, at most.
const PREFETCH_LINKS: usize = 2;

/// The positions of the bits that are set.
#[inline]
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
        (at < u64::BITS).then_some(at as usize)
    })
}

/// All shards.
pub struct Keyspace {
    shards: Box<[Shard; SHARDS]>,
    databases: u32,
    /// See [`Keyspace::members_expire`]. Written once, so that its cache line, which every command reads, stays where it is.
    members_expire: std::sync::atomic::AtomicBool,
}

impl Keyspace {
    /// An empty keyspace of so many databases.
    pub fn new(databases: u32) -> Keyspace {
        let shards: Box<[Shard]> = (0..SHARDS)
            .map(|_| Shard {
                lock: AtomicU8::new(FREE),
                due: AtomicI64::new(i64::MAX),
                array: AtomicPtr::new(std::ptr::null_mut()),
                buckets: AtomicU32::new(0),
                data: UnsafeCell::new(ShardData::new()),
            })
            .collect();
        let Ok(shards) = shards.try_into() else { unreachable!("as many as were made") };
        Keyspace { shards, databases, members_expire: false.into() }
    }

    /// Number of databases.
    pub fn databases(&self) -> u32 {
        self.databases
    }

    /// Whether a set or sorted set ever had members that expire. If not, nobody need look for those that are due.
    #[inline(always)]
    pub fn members_expire(&self) -> bool {
        self.members_expire.load(Ordering::Relaxed)
    }

    /// Locks the shards, or gives up after some microseconds with `None`: the caller puts its work aside.
    #[inline]
    pub fn lock(&self, want: ShardSet) -> Option<Guard<'_>> {
        match want {
            ShardSet::One(shard) => self.lock_one(shard),
            _ => self.lock_several(want),
        }
    }

    /// [`Keyspace::lock`] of a single shard.
    #[inline(always)]
    pub fn lock_one(&self, shard: u16) -> Option<Guard<'_>> {
        let mut guard = self.hold_nothing();
        guard.hold_one(shard).then_some(guard)
    }

    /// A guard that holds nothing yet; see [`Guard::hold_one`].
    pub fn hold_nothing(&self) -> Guard<'_> {
        Guard::new(self, ShardSet::None)
    }

    /// Locks the shards, however long others hold them. For those who hold nothing and have nobody else to serve: loading, and
    /// the last snapshot.
    pub fn lock_patiently(&self, want: ShardSet) -> Guard<'_> {
        loop {
            match self.lock(want.clone()) {
                Some(guard) => return guard,
                None => yield_now(),
            }
        }
    }

    fn lock_several(&self, want: ShardSet) -> Option<Guard<'_>> {
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

    /// Has the processor fetch the shard of a key, as [`Keyspace::prefetch`] wants it.
    #[inline]
    pub fn prefetch_shard(&self, hash: u64) {
        prefetch_to_write(std::ptr::from_ref(&self.shards[shard_of(hash)]).cast());
    }

    /// Has the processor fetch the bucket of a key of database 0, whose shard has been prefetched. A hint: it needs no lock.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        let shard = &self.shards[shard_of(hash)];
        let array = shard.array.load(Ordering::Relaxed);
        BucketHint { array, buckets: shard.buckets.load(Ordering::Relaxed) }.prefetch(hash);
    }

    /// Has the processor fetch the buckets and then the entries of up to [`PREFETCH_MAX`] keys, whose shards have been
    /// prefetched.
    #[inline]
    pub fn prefetch(&self, db: u32, hashes: &[u64]) {
        hashes.iter().take(PREFETCH_MAX).for_each(|&hash| self.prefetch_bucket(hash));
        self.prefetch_entries(db, hashes);
    }

    /// Has the processor fetch the entries of up to [`PREFETCH_MAX`] keys, whose buckets have been prefetched; further ones, and
    /// those of shards that are busy, are left out.
    ///
    /// All misses of a step overlap, which makes the batch several times as fast as its keys one by one. An atomic
    /// read-modify-write is a fence that would keep them apart, hence: the buckets are fetched by hints that need no lock,
    /// and the locks that a look into them does need are all taken first (by trying, so that nobody waits) and given back
    /// within a microsecond.
    #[inline]
    pub fn prefetch_entries(&self, db: u32, hashes: &[u64]) {
        let hashes = &hashes[..hashes.len().min(PREFETCH_MAX)];
        let shard = |at: usize| &self.shards[shard_of(hashes[at])];
        // Bit `at` is for `hashes[at]`.
        let (mut locked, mut held) = (0u64, 0u64);
        for (at, &hash) in hashes.iter().enumerate() {
            if shard(at).try_lock() {
                locked |= 1 << at;
                held |= 1 << at;
            } else if ones(locked).any(|other| shard_of(hashes[other]) == shard_of(hash)) {
                held |= 1 << at;
            }
        }
        for links in 0..PREFETCH_LINKS {
            for at in ones(held) {
                // SAFETY: this thread holds the shard until the loop below.
                let data = unsafe { &*shard(at).data.get() };
                if !data.db(db).is_some_and(|db| db.table.prefetch_item(hashes[at], links)) {
                    held &= !(1 << at);
                }
            }
        }
        ones(locked).for_each(|at| shard(at).unlock());
    }

    /// When the next key of a shard may be due, as a hint.
    pub fn due(&self, shard: usize) -> i64 {
        self.shards[shard].due.load(Ordering::Relaxed)
    }
}

/// What of a guard's shards may have changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Borrowed {
    Nothing,
    /// The keys of database 0.
    Keys,
    Anything,
}

/// Holds the locks of some shards; gives them back when dropped.
pub struct Guard<'k> {
    keyspace: &'k Keyspace,
    held: ShardSet,
    /// What was borrowed to be changed.
    changed: Borrowed,
    /// Entries note their use through shared references: a guard must not be shared between threads.
    not_sync: PhantomData<Cell<()>>,
}

impl<'k> Guard<'k> {
    /// Who calls this has locked the shards.
    fn new(keyspace: &'k Keyspace, held: ShardSet) -> Guard<'k> {
        Guard { keyspace, held, changed: Borrowed::Nothing, not_sync: PhantomData }
    }

    /// Locks a single shard, as [`Keyspace::lock`] does, into a guard that holds nothing. Whether it did.
    #[inline(always)]
    pub fn hold_one(&mut self, shard: u16) -> bool {
        debug_assert_eq!(self.held, ShardSet::None);
        let locked = self.keyspace.shards[usize::from(shard)].lock_soon();
        if locked {
            self.held = ShardSet::One(shard);
        }
        locked
    }

    /// Gives back what is held; from then on the guard holds nothing.
    #[inline(always)]
    pub fn release(&mut self) {
        self.give_back_held();
        self.held = ShardSet::None;
        self.changed = Borrowed::Nothing;
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

    /// Notes that one of the collections in the held shards has something in it that expires.
    pub(crate) fn note_timed(&self, kind: Kind) {
        if kind != Kind::Hash && !self.keyspace.members_expire() {
            self.keyspace.members_expire.store(true, Ordering::Relaxed);
        }
    }

    /// What is held.
    pub fn held(&self) -> &ShardSet {
        &self.held
    }

    /// Whether any session waits for a key of the held shards. For the whole keyspace, which leaves nothing to lock, no
    /// matter.
    #[inline(always)]
    pub fn has_waiters(&self) -> bool {
        match &self.held {
            ShardSet::None | ShardSet::All => false,
            ShardSet::One(shard) => self.shard(usize::from(*shard)).has_waiters(),
            ShardSet::Many(several) => several.list.iter().any(|&shard| self.shard(usize::from(shard)).has_waiters()),
        }
    }

    /// The newest transaction in the log that changed what is held.
    pub fn lsn(&self) -> u64 {
        self.held.iter().map(|shard| self.shard(shard).lsn).max().unwrap_or(0)
    }

    /// Notes the place in the log of the transaction that is about to end.
    pub fn set_lsn(&mut self, lsn: u64) {
        for shard in self.held.iter() {
            // SAFETY: the lock is held, and `&mut self` makes this the only reference.
            unsafe { &mut *self.keyspace.shards[shard].data.get() }.lsn = lsn;
        }
    }

    #[inline(always)]
    fn assert_held(&self, index: usize) {
        assert!(self.held.contains(index), "shard {index} is not held");
    }

    /// A held shard's data.
    ///
    /// # Panics
    /// When the shard is not held: a command reached for a key that its declaration does not name.
    #[inline(always)]
    pub fn shard(&self, index: usize) -> &ShardData {
        self.assert_held(index);
        // SAFETY: the lock is held, and `&self` keeps `shard_mut` out.
        unsafe { &*self.keyspace.shards[index].data.get() }
    }

    /// A held shard's data, to change it.
    ///
    /// # Panics
    /// When the shard is not held.
    #[inline]
    pub fn shard_mut(&mut self, index: usize) -> &mut ShardData {
        self.assert_held(index);
        self.changed = Borrowed::Anything;
        // SAFETY: the lock is held, and `&mut self` makes this the only reference.
        let data = unsafe { &mut *self.keyspace.shards[index].data.get() };
        // Until the guard is given back, which looks again.
        data.company = true;
        data
    }

    /// A database's part of a held shard, to change its keys, if it ever held one.
    ///
    /// # Panics
    /// When the shard is not held.
    #[inline(always)]
    pub fn db_mut(&mut self, index: usize, db: u32) -> Option<&mut Db> {
        self.assert_held(index);
        self.changed = self.changed.max(Borrowed::Keys);
        // SAFETY: the lock is held, and `&mut self` makes this the only reference.
        unsafe { &mut *self.keyspace.shards[index].data.get() }.db_mut(db)
    }

    /// [`ShardData::load`] into a held shard.
    ///
    /// # Errors
    /// Gives the entry back if its key is there already.
    ///
    /// # Panics
    /// When the shard is not held.
    pub fn load(&mut self, index: usize, now_ms: i64, db: u32, hash: u64, entry: Entry) -> Result<(), Entry> {
        if entry.as_ref().field_due().is_some() {
            self.note_timed(entry.as_ref().kind());
        }
        self.shard_mut(index).load(now_ms, db, hash, entry)
    }

    /// Puts an entry into a held shard; its key must be absent.
    ///
    /// # Panics
    /// When the shard is not held.
    #[inline]
    pub fn insert(&mut self, index: usize, db: u32, hash: u64, entry: Entry) {
        self.assert_held(index);
        self.changed = self.changed.max(Borrowed::Keys);
        // SAFETY: the lock is held, and `&mut self` makes this the only reference.
        unsafe { &mut *self.keyspace.shards[index].data.get() }.insert(db, hash, entry);
    }
}

impl Guard<'_> {
    #[inline(always)]
    fn give_back(&self, index: usize) {
        let shard = &self.keyspace.shards[index];
        match self.changed {
            Borrowed::Nothing => {}
            // SAFETY: the lock is still held and no reference into the shard outlives the guard, which is being dropped.
            Borrowed::Keys => shard.publish_keys(unsafe { &*shard.data.get() }),
            // SAFETY: as above.
            Borrowed::Anything => shard.publish(unsafe { &mut *shard.data.get() }),
        }
        shard.unlock();
    }

    #[inline(never)]
    fn give_back_all(&self) {
        self.held.iter().for_each(|index| self.give_back(index));
    }

    #[inline(always)]
    fn give_back_held(&self) {
        match self.held {
            // The ordinary case, without a loop.
            ShardSet::One(shard) => self.give_back(usize::from(shard)),
            _ => self.give_back_all(),
        }
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.give_back_held();
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
    fn any_hash_can_be_prefetched_and_leaves_no_shard_locked() {
        let keyspace = Keyspace::new(2);
        // Some in the same shard, some in a shard that is held, more than are taken at once.
        let hashes: Vec<u64> = (0..100u64).map(|n| (n % 40) << 54 | n << 46 | n).collect();
        let mut guard = keyspace.lock(ShardSet::All).expect("free");
        for (n, &hash) in hashes.iter().enumerate() {
            let key = n.to_string();
            let entry = Entry::new(key.as_bytes(), crate::value::Value::Int(1), None);
            guard.shard_mut(shard_of(hash)).insert(n as u32 % 2, hash, entry);
        }
        drop(guard);
        let guard = keyspace.lock(ShardSet::One(3)).expect("free");
        for db in 0..3 {
            hashes.iter().for_each(|&hash| keyspace.prefetch_shard(hash));
            keyspace.prefetch(db, &hashes);
            keyspace.prefetch(db, &[]);
        }
        assert!(keyspace.lock(ShardSet::One(3)).is_none());
        drop(guard);
        assert!(keyspace.lock(ShardSet::All).is_some());
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
