//! Operations over whole databases. All but the single-shard steps need every shard.

use super::context::Garbage;
use super::{EventClasses, Key, Removal, Txn, View};
use crate::entry::EntryRef;
use crate::shard::SHARDS;
use crate::snapshot::{Piece, Preparation, Snapshot};

impl View<'_> {
    /// Number of keys in the database, those that are due but not yet removed included. O(shards).
    pub fn key_count(&self) -> usize {
        self.held_shards().filter_map(|shard| self.guard.shard(shard).db(self.db)).map(|db| db.table.len()).sum()
    }

    /// Number of keys with an expiry time. O(shards).
    pub fn volatile_count(&self) -> usize {
        self.held_shards().filter_map(|shard| self.guard.shard(shard).db(self.db)).map(|db| db.volatile as usize).sum()
    }

    /// Number of hashes with fields that have an expiry time. O(shards).
    pub fn volatile_hash_count(&self) -> usize {
        let parts = self.held_shards().filter_map(|shard| self.guard.shard(shard).db(self.db));
        parts.map(|db| db.volatile_items as usize).sum()
    }

    /// Memory of the hash tables of the database, in bytes, without the keys and values. O(shards).
    pub fn table_bytes(&self) -> usize {
        self.held_shards()
            .filter_map(|shard| self.guard.shard(shard).db(self.db))
            .map(|db| db.table.memory_bytes())
            .sum()
    }

    /// Memory of the index of expiry times of all databases, in bytes. O(shards).
    pub fn expiry_index_bytes(&self) -> usize {
        self.held_shards().map(|shard| self.guard.shard(shard).expiry.memory_bytes()).sum()
    }

    fn held_shards(&self) -> impl Iterator<Item = usize> + '_ {
        self.guard.held().iter()
    }

    /// Calls `f` with each live key of the held shards.
    pub fn for_each_key(&self, mut f: impl FnMut(EntryRef<'_>)) {
        for shard in self.held_shards() {
            let Some(db) = self.guard.shard(shard).db(self.db) else { continue };
            for entry in db.table.iter() {
                if !self.is_due(entry) {
                    f(entry);
                }
            }
        }
    }

    /// Calls `f` with each key of the held shards, even those that are due and not yet removed.
    pub fn for_each_key_even_due(&self, f: impl FnMut(EntryRef<'_>)) {
        let dbs = self.held_shards().filter_map(|shard| self.guard.shard(shard).db(self.db));
        dbs.flat_map(|db| db.table.iter()).for_each(f);
    }

    /// One step of a scan over a held shard: calls `f` with each live key of some bucket that `wanted` lets through, and
    /// gives the cursor of the next, 0 at the end of the shard. Of the due keys only those that are wanted get removed.
    pub fn scan_shard(
        &self,
        shard: usize,
        cursor: u64,
        mut wanted: impl FnMut(EntryRef<'_>) -> bool,
        mut f: impl FnMut(EntryRef<'_>),
    ) -> u64 {
        let Some(db) = self.guard.shard(shard).db(self.db) else { return 0 };
        db.table.scan(cursor, &mut |entry| {
            if !wanted(entry) {
                return;
            }
            if !self.is_due(entry) {
                f(entry);
            } else {
                self.cx.note_stale(self.db, entry.key());
            }
        })
    }

    /// A random live key, each about as likely as any other.
    pub fn random_key(&self) -> Option<Vec<u8>> {
        /// Draws that may meet a key that is due before the keyspace is searched in order.
        const DRAWS: usize = 100;
        let total = self.key_count() as u64;
        if total == 0 {
            return None;
        }
        for _ in 0..DRAWS {
            let mut rank = self.random() % total;
            for shard in self.held_shards() {
                let Some(db) = self.guard.shard(shard).db(self.db) else { continue };
                if rank < db.table.len() as u64 {
                    let Some(entry) = db.table.random(self.random()) else { break };
                    if !self.is_due(entry) {
                        return Some(entry.key().to_vec());
                    }
                    self.cx.note_stale(self.db, entry.key());
                    break;
                }
                rank -= db.table.len() as u64;
            }
        }
        let mut any = None;
        self.for_each_key(|entry| {
            any.get_or_insert_with(|| entry.key().to_vec());
        });
        any
    }
}

impl Txn<'_> {
    /// Removes all keys of all databases. Needs every shard.
    pub fn flush_all(&mut self) {
        (0..self.databases()).for_each(|db| _ = self.empty(db));
        self.view.cx.dirty += 1;
        self.view.cx.flushed_all = true;
        self.emit(&[b"FLUSHALL"]);
    }

    /// Removes all keys of a database. Needs every shard. How many were there.
    pub fn flush(&mut self, db: u32) -> usize {
        let count = self.empty(db);
        // Replicas flush even what is empty here, as in Redis.
        self.view.cx.dirty += u64::from(count == 0);
        let before = self.select(db);
        self.emit(&[b"FLUSHDB"]);
        self.select(before);
        count
    }

    fn empty(&mut self, db: u32) -> usize {
        let mut count = 0;
        for shard in 0..SHARDS {
            let data = self.view.guard.shard_mut(shard);
            data.readers.clear();
            let Some(part) = data.take_db(db) else { continue };
            data.watchers.touch_where(db, |key| part.table.get(Key::new(key).hash, key).is_some());
            let awaited = data.waiters.keys_of(db);
            count += part.table.len();
            data.expiry.remove_db(db);
            for key in awaited {
                if part.table.get(Key::new(&key).hash, &key).is_some() {
                    self.view.cx.ready.push_back((db, key));
                }
            }
            self.bury(shard, db, part);
        }
        self.view.cx.all_invalid = true;
        self.view.cx.dirty += count as u64;
        count
    }

    /// Hands a whole database part to the garbage, or to a snapshot that it is owed to, or keeps its entries for a
    /// roll-back.
    fn bury(&mut self, shard: usize, db: u32, part: Box<crate::shard::Db>) {
        let data = self.view.guard.shard_mut(shard);
        let Some(undo) = &mut self.undo else {
            let left = match &mut data.saving {
                Some(saving) => saving.keep_flushed(db, part),
                None => Some(part),
            };
            return self.view.cx.garbage.extend(left.map(Garbage::Db));
        };
        let mut part = part;
        while let Some(entry) = part.table.pop_any() {
            let big = data.save_removed(db, entry.as_ref());
            let key = entry.as_ref().key().into();
            undo.push(super::Undo {
                db,
                key,
                op: super::UndoOp::Entry(Some(super::Removed { entry, big: big.map(Box::new) })),
            });
        }
    }

    /// Begins a snapshot of all databases as they are now. Needs every shard; no other snapshot is being taken.
    pub fn begin_snapshot(&mut self, preparation: Preparation, piece: Piece) -> Snapshot {
        Snapshot::begin(preparation, &mut self.view.guard, piece)
    }

    /// Removes the keys of two databases that are due and watched in either: they neither come nor go with a swap.
    fn reap_watched(&mut self, a: u32, b: u32) {
        let mut watched: Vec<Box<[u8]>> = Vec::new();
        for shard in 0..SHARDS {
            for db in [a, b] {
                self.view.guard.shard_mut(shard).watchers.touch_where(db, |key| {
                    watched.push(key.into());
                    false
                });
            }
        }
        let before = self.db();
        for db in [a, b] {
            self.select(db);
            watched.iter().for_each(|key| _ = self.exists(Key::new(key)));
            self.reap_stale();
        }
        self.select(before);
    }

    /// Exchanges two databases. Needs every shard.
    pub fn swap_databases(&mut self, a: u32, b: u32) {
        debug_assert!(self.undo.is_none(), "SWAPDB is not allowed where a roll-back may follow");
        self.reap_watched(a, b);
        for shard in 0..SHARDS {
            let data = self.view.guard.shard_mut(shard);
            data.readers.clear();
            // A watched key changed if it is there before or after.
            for db in [a, b] {
                data.watchers.touch_where(db, |key| {
                    let hash = Key::new(key).hash;
                    [a, b].iter().any(|&db| data.db(db).is_some_and(|part| part.table.get(hash, key).is_some()))
                });
            }
            data.swap_dbs(a, b);
            data.expiry.swap_dbs(a, b);
            for db in [a, b] {
                for key in data.waiters.keys_of(db) {
                    self.view.cx.ready.push_back((db, key));
                }
            }
        }
        self.view.cx.all_invalid = true;
        self.view.cx.dirty += 1;
        let (mut first, mut second) = (itoa::Buffer::new(), itoa::Buffer::new());
        self.emit(&[b"SWAPDB", first.format(a).as_bytes(), second.format(b).as_bytes()]);
    }

    /// Deletes a key on behalf of a command that names the event `del`. Whether it was there.
    pub fn delete_with_event(&mut self, key: Key) -> bool {
        self.delete_with_event_as(key, Removal::Asked)
    }

    /// The same for another reason.
    pub fn delete_with_event_as(&mut self, key: Key, why: Removal) -> bool {
        let gone = self.delete_as(key, why);
        if gone {
            self.event(EventClasses::GENERIC, "del", key.bytes);
        }
        gone
    }
}
