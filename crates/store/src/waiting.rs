//! Who waits for keys: sessions blocked on them (BLPOP …) and sessions that watch them (WATCH).
//!
//! Both registers are parts of a shard and guarded by its lock. An entry for a key exists in the shard of that key, and
//! only there.

use crate::sync::{AtomicBool, Ordering};
use hashbrown::HashMap;
use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

/// A key of a database, as the registers hold it.
pub type DbKey = (u32, Box<[u8]>);

/// A blocked session's place in the queues of its keys.
pub struct Waiter {
    /// The keys it waits for, each in its database; without repetition.
    pub keys: Vec<DbKey>,
    /// Every key that its command reaches, the awaited ones included: who serves it holds all their shards.
    pub reaches: Vec<u64>,
    /// What the engine needs to run the command again.
    pub payload: Arc<dyn Any + Send + Sync>,
    gone: AtomicBool,
    abandoned: AtomicBool,
}

impl Waiter {
    /// A waiter on `keys` whose command reaches the keys with the hashes `reaches`.
    pub fn new(keys: Vec<DbKey>, reaches: Vec<u64>, payload: Arc<dyn Any + Send + Sync>) -> Arc<Waiter> {
        Arc::new(Waiter { keys, reaches, payload, gone: AtomicBool::new(false), abandoned: AtomicBool::new(false) })
    }

    fn reaches_out(&self) -> bool {
        self.reaches.len() > 1
    }

    /// Marks the waiter as served or given up. Only the holder of all its shards may call this.
    pub fn retire(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Whether it was served or gave up. Exact only for the holder of one of its shards.
    pub fn is_retired(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Notes, without any lock, that nobody is there any more to take what this waiter gets. It stays in its queues until
    /// somebody who holds its shards takes it out.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Whether nobody waits for what this waiter gets.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }
}

/// The blocked sessions of one shard: a queue for each awaited key, first come first served.
#[derive(Default)]
pub struct Waiters {
    queues: HashMap<DbKey, VecDeque<Arc<Waiter>>>,
    len: usize,
    /// Places of waiters whose command reaches further keys.
    reaching_out: usize,
}

/// Looks a `(db, key)` pair up without owning it.
struct Borrowed<'a>(u32, &'a [u8]);

impl std::hash::Hash for Borrowed<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.0, self.1).hash(state);
    }
}

impl hashbrown::Equivalent<DbKey> for Borrowed<'_> {
    fn equivalent(&self, key: &DbKey) -> bool {
        self.0 == key.0 && self.1 == &*key.1
    }
}

impl Waiters {
    /// Places in all queues together.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits here.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether anybody waits for this key.
    pub fn awaits(&self, db: u32, key: &[u8]) -> bool {
        self.len != 0 && self.queues.contains_key(&Borrowed(db, key))
    }

    /// Puts the waiter at the end of the key's queue.
    pub fn add(&mut self, db: u32, key: &[u8], waiter: Arc<Waiter>) {
        self.reaching_out += usize::from(waiter.reaches_out());
        self.queues.entry((db, key.into())).or_default().push_back(waiter);
        self.len += 1;
    }

    /// The queue of each awaited key, in no order.
    pub fn queues(&self) -> impl Iterator<Item = &VecDeque<Arc<Waiter>>> {
        self.queues.values()
    }

    /// Calls `f` with each waiter whose command reaches further keys than this one.
    pub fn for_each_reaching_out(&self, mut f: impl FnMut(&Arc<Waiter>)) {
        if self.reaching_out != 0 {
            self.queues.values().flatten().filter(|waiter| waiter.reaches_out()).for_each(&mut f);
        }
    }

    /// Takes the waiter out of the key's queue.
    pub fn remove(&mut self, db: u32, key: &[u8], waiter: &Arc<Waiter>) {
        let Some(queue) = self.queues.get_mut(&Borrowed(db, key)) else { return };
        if let Some(place) = queue.iter().position(|have| Arc::ptr_eq(have, waiter)) {
            queue.remove(place);
            self.len -= 1;
            self.reaching_out -= usize::from(waiter.reaches_out());
        }
        if queue.is_empty() {
            self.queues.remove(&Borrowed(db, key));
        }
    }

    /// The waiter at a place of the key's queue, the longest-waiting first.
    pub fn get(&self, db: u32, key: &[u8], place: usize) -> Option<Arc<Waiter>> {
        self.queues.get(&Borrowed(db, key))?.get(place).cloned()
    }

    /// Calls `f` with each waiter of the key.
    pub fn for_each(&self, db: u32, key: &[u8], f: impl FnMut(&Arc<Waiter>)) {
        if let Some(queue) = self.queues.get(&Borrowed(db, key)) {
            queue.iter().for_each(f);
        }
    }

    /// The awaited keys of a database.
    pub fn keys_of(&self, db: u32) -> Vec<Box<[u8]>> {
        self.queues.keys().filter(|key| key.0 == db).map(|key| key.1.clone()).collect()
    }
}

/// A session's watch: one flag for all the keys that it watches.
#[derive(Default)]
pub struct Watch {
    touched: AtomicBool,
}

impl Watch {
    /// Notes that a watched key changed.
    pub fn touch(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }

    /// Whether a watched key changed. Exact for the holder of the watched keys' shards.
    pub fn is_touched(&self) -> bool {
        self.touched.load(Ordering::Relaxed)
    }
}

/// The watches on keys of one shard.
#[derive(Default)]
pub struct Watchers {
    watches: HashMap<DbKey, Vec<Arc<Watch>>>,
}

impl Watchers {
    /// Whether no key is watched.
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// How many keys are watched.
    pub fn len(&self) -> usize {
        self.watches.len()
    }

    /// Registers a watch on a key.
    pub fn add(&mut self, db: u32, key: &[u8], watch: &Arc<Watch>) {
        self.watches.entry((db, key.into())).or_default().push(watch.clone());
    }

    /// Takes a watch off a key.
    pub fn remove(&mut self, db: u32, key: &[u8], watch: &Arc<Watch>) {
        let Some(list) = self.watches.get_mut(&Borrowed(db, key)) else { return };
        list.retain(|have| !Arc::ptr_eq(have, watch));
        if list.is_empty() {
            self.watches.remove(&Borrowed(db, key));
        }
    }

    /// Tells the watches on a key that it changed.
    pub fn touch(&self, db: u32, key: &[u8]) {
        if let Some(list) = self.watches.get(&Borrowed(db, key)) {
            list.iter().for_each(|watch| watch.touch());
        }
    }

    /// Tells the watches on those keys of a database for which `changed` holds.
    pub fn touch_where(&self, db: u32, mut changed: impl FnMut(&[u8]) -> bool) {
        for (key, list) in &self.watches {
            if key.0 == db && changed(&key.1) {
                list.iter().for_each(|watch| watch.touch());
            }
        }
    }
}
