//! Snapshots: the exact state of the keyspace at one instant, written in small pieces while writers go on.
//!
//! **Colour.** Every entry has a one-bit colour, and so has every shard. While no snapshot is being taken the two agree. The
//! instant ([`Snapshot::begin`], with every shard held) gives all shards the other colour: from then on an entry of the other
//! colour than its shard is *owed* to the snapshot, in the state in which it is. Who writes it gives it the shard's colour; a
//! key born later has it from birth. So one bit tells whether a key is written, and a snapshot keeps no list of keys.
//!
//! **Who writes.** The snapshot walks shard after shard, database after database, in the order of the table's scan cursor,
//! and holds a shard for one piece at a time. A transaction that is about to change, remove or move a key that is owed writes
//! it first ([`ShardData::save_before`]): its *early image* goes to the shard's buffer, and when that has some size to the
//! snapshot's queue, which the snapshot empties before it walks on. A flushed database that owes anything is handed to the
//! snapshot whole.
//!
//! Invariants: outside of a snapshot all entries of a shard have its colour; an entry enters a shard's table only through
//! [`ShardData::insert`], which colours it; whatever changes an entry that may be owed calls `save_before` first. Hence each
//! key that was there at the instant is written once, as it was then, and no other.
//!
//! The format is the [`Encoder`]'s: this module knows only that what is written for a database begins with its number.

use crate::entry::EntryRef;
use crate::shard::{Db, Guard, Keyspace, SHARDS, ShardData, ShardSet};
use crate::sync::{AtomicBool, AtomicUsize, Mutex, Ordering};
use crate::txn::Key;
use std::sync::{Arc, PoisonError};

/// How entries are written. Called while a shard is held: it must be quick and cannot fail.
pub trait Encoder: Send + Sync {
    /// What follows belongs to this database.
    fn database(&self, out: &mut Vec<u8>, db: u32);
    /// A key, its value and its expiry time.
    fn entry(&self, out: &mut Vec<u8>, entry: EntryRef<'_>);
}

/// Encoded entries. Stands for itself: it begins by naming the database.
#[derive(Default)]
struct Images {
    bytes: Vec<u8>,
    db: Option<u32>,
}

impl Images {
    fn add(&mut self, shared: &Shared, db: u32, entry: EntryRef<'_>) {
        if shared.abandoned.load(Ordering::Relaxed) {
            return;
        }
        if self.db != Some(db) {
            self.db = Some(db);
            shared.encoder.database(&mut self.bytes, db);
        }
        shared.encoder.entry(&mut self.bytes, entry);
        shared.keys.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&mut self) -> Vec<u8> {
        self.db = None;
        std::mem::take(&mut self.bytes)
    }
}

/// What the snapshot and all shards know of each other.
struct Shared {
    encoder: Arc<dyn Encoder>,
    /// Early images that have left their shards, in no order that matters.
    queue: Mutex<Vec<Vec<u8>>>,
    /// Bytes in `queue`.
    queued: AtomicUsize,
    /// Keys written.
    keys: AtomicUsize,
    /// Nobody wants the snapshot any more: nothing is encoded, only coloured.
    abandoned: AtomicBool,
}

impl Shared {
    fn push(&self, bytes: Vec<u8>) {
        self.queued.fetch_add(bytes.len(), Ordering::Relaxed);
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

/// One database of a shard that is being saved.
#[derive(Clone, Copy)]
struct Part {
    /// The number that it had at the instant.
    db: u32,
    /// Where the walk goes on in its table; `None` when nothing of it is owed any more.
    cursor: Option<u64>,
}

/// What a shard keeps while something of it is owed.
pub(crate) struct Saving {
    shared: Arc<Shared>,
    /// By today's number of the database. What lies beyond is as at the instant and not begun.
    parts: Vec<Part>,
    early: Images,
    /// Databases flushed since the instant.
    flushed: Vec<(Part, Box<Db>)>,
}

impl Saving {
    fn new(shared: &Arc<Shared>) -> Saving {
        Saving { shared: shared.clone(), parts: Vec::new(), early: Images::default(), flushed: Vec::new() }
    }

    fn part(&mut self, db: u32) -> &mut Part {
        while self.parts.len() <= db as usize {
            self.parts.push(Part { db: self.parts.len() as u32, cursor: Some(0) });
        }
        &mut self.parts[db as usize]
    }

    /// Writes an entry that is owed, before somebody changes it.
    fn write_early(&mut self, db: u32, entry: EntryRef<'_>) {
        /// A shard's buffer goes to the queue at this size: with 1,024 shards, 4 MiB are on the way at most.
        const EARLY_BYTES: usize = 4096;
        let db = self.part(db).db;
        self.early.add(&self.shared, db, entry);
        if self.early.bytes.len() >= EARLY_BYTES {
            self.shared.push(self.early.take());
        }
    }

    /// Two databases change their numbers.
    pub(crate) fn swap(&mut self, a: u32, b: u32) {
        self.part(a.max(b));
        self.parts.swap(a as usize, b as usize);
    }

    /// Takes over a database that is flushed; gives it back if nothing in it is owed.
    pub(crate) fn keep_flushed(&mut self, db: u32, table: Box<Db>) -> Option<Box<Db>> {
        let part = *self.part(db);
        // What comes under this number now is younger than the instant.
        self.part(db).cursor = None;
        if part.cursor.is_none() {
            return Some(table);
        }
        self.flushed.push((part, table));
        None
    }
}

impl ShardData {
    /// Writes the key, if it is owed to a snapshot, before it is changed. To be called when `saving` is there.
    #[cold]
    pub(crate) fn save_before(&mut self, db: u32, key: Key) {
        let colour = self.colour;
        let (saving, part) = self.saving_and_db(db);
        if let (Some(saving), Some(part)) = (saving, part)
            && let Some(entry) = part.table.get(key.hash, key.bytes)
        {
            save_entry(saving, db, colour, entry);
        }
    }

    /// As [`ShardData::save_before`], for an entry that has left the table already.
    pub(crate) fn save_removed(&mut self, db: u32, entry: EntryRef<'_>) {
        if let Some(saving) = &mut self.saving {
            save_entry(saving, db, self.colour, entry);
        }
    }
}

fn save_entry(saving: &mut Saving, db: u32, colour: bool, entry: EntryRef<'_>) {
    if entry.colour() != colour {
        saving.write_early(db, entry);
        entry.set_colour(colour);
    }
}

/// How large a piece is: what is written or looked at while a shard is held, some tens of microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Bytes written.
    pub bytes: usize,
    /// Entries looked at.
    pub entries: usize,
}

impl Default for Piece {
    fn default() -> Piece {
        Piece { bytes: 64 * 1024, entries: 256 }
    }
}

/// What [`Snapshot::step`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A piece.
    Done,
    /// Nothing: the shard is busy. To be tried again a little later.
    Busy,
    /// Nothing is owed any more: the snapshot is complete, or, if it was abandoned, cleared away.
    Complete,
}

/// A snapshot being taken. It must be stepped until it is complete, even after [`Snapshot::abandon`]: it leaves its mark on
/// every key.
pub struct Snapshot {
    shared: Arc<Shared>,
    colour: bool,
    shard: usize,
    piece: Piece,
    /// Databases handed over whole: what is owed of them is written without holding anything.
    flushed: Vec<(Part, Box<Db>)>,
    /// Keys at the instant by database, and how many of them have an expiry time.
    sizes: Vec<(usize, usize)>,
}

/// All that a snapshot allocates for its beginning, made before the shards are held.
pub struct Preparation {
    shared: Arc<Shared>,
    #[expect(clippy::vec_box, reason = "each box moves into its shard")]
    saving: Vec<Box<Saving>>,
}

impl Preparation {
    /// Prepares a snapshot that `encoder` writes.
    pub fn new(encoder: Arc<dyn Encoder>) -> Preparation {
        let shared = Arc::new(Shared {
            encoder,
            queue: Mutex::default(),
            queued: AtomicUsize::new(0),
            keys: AtomicUsize::new(0),
            abandoned: AtomicBool::new(false),
        });
        let saving = (0..SHARDS).map(|_| Box::new(Saving::new(&shared))).collect();
        Preparation { shared, saving }
    }
}

impl Snapshot {
    /// The instant. `guard` holds every shard; no other snapshot of the keyspace is being taken. O(shards), without any
    /// allocation but one.
    pub fn begin(preparation: Preparation, guard: &mut Guard<'_>, piece: Piece) -> Snapshot {
        let Preparation { shared, saving } = preparation;
        let mut sizes: Vec<(usize, usize)> = Vec::new();
        let mut colour = false;
        for (shard, saving) in saving.into_iter().enumerate() {
            let data = guard.shard_mut(shard);
            debug_assert!(data.saving.is_none(), "one snapshot at a time");
            data.saving = Some(saving);
            data.colour = !data.colour;
            colour = data.colour;
            for (db, part) in data.dbs() {
                if sizes.len() <= db as usize {
                    sizes.resize(db as usize + 1, (0, 0));
                }
                let (keys, volatile) = &mut sizes[db as usize];
                *keys += part.table.len();
                *volatile += part.volatile;
            }
        }
        Snapshot { shared, colour, shard: 0, piece, flushed: Vec::new(), sizes }
    }

    /// How many keys each database had at the instant, and how many of them had an expiry time.
    pub fn sizes(&self) -> &[(usize, usize)] {
        &self.sizes
    }

    /// A handle that can give the snapshot up, and tells how it goes.
    pub fn progress(&self) -> Progress {
        Progress { shared: self.shared.clone() }
    }

    /// Whether it was given up.
    pub fn is_abandoned(&self) -> bool {
        self.shared.abandoned.load(Ordering::Relaxed)
    }

    /// Gives the snapshot up: nothing more is written.
    pub fn abandon(&self) {
        self.shared.abandoned.store(true, Ordering::Relaxed);
    }

    /// Takes one step: writes early images to `out`, or else walks one piece further.
    pub fn step(&mut self, keyspace: &Keyspace, out: &mut Vec<u8>) -> Step {
        if self.take_early(out) {
            return Step::Done;
        }
        if let Some((part, table)) = self.flushed.last_mut() {
            let mut images = Images { bytes: std::mem::take(out), db: None };
            walk(part, table, self.colour, &self.shared, &mut images, self.piece);
            let done = part.cursor.is_none();
            *out = images.bytes;
            if done {
                // Freed here, by nobody's event loop.
                self.flushed.pop();
            }
            return Step::Done;
        }
        if self.shard == SHARDS {
            return Step::Complete;
        }
        let Some(mut guard) = keyspace.lock(ShardSet::One(self.shard as u16)) else { return Step::Busy };
        self.walk_shard(guard.shard_mut(self.shard), out);
        Step::Done
    }

    /// Takes the early images that wait; `false` if there were none.
    fn take_early(&mut self, out: &mut Vec<u8>) -> bool {
        if self.shared.queued.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let buffers = std::mem::take(&mut *self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner));
        let bytes = buffers.iter().map(Vec::len).sum();
        self.shared.queued.fetch_sub(bytes, Ordering::Relaxed);
        if !self.is_abandoned() {
            buffers.iter().for_each(|buffer| out.extend_from_slice(buffer));
        }
        !buffers.is_empty()
    }

    fn walk_shard(&mut self, data: &mut ShardData, out: &mut Vec<u8>) {
        let Some(mut saving) = data.saving.take() else {
            self.shard += 1;
            return;
        };
        self.flushed.append(&mut saving.flushed);
        let mut images = Images { bytes: std::mem::take(out), db: None };
        let mut left = self.piece;
        for (db, table) in data.dbs() {
            if left.bytes == 0 || left.entries == 0 {
                break;
            }
            left = walk(saving.part(db), table, self.colour, &self.shared, &mut images, left);
        }
        let complete = data.dbs().all(|(db, _)| saving.part(db).cursor.is_none());
        if complete {
            images.bytes.extend_from_slice(&saving.early.take());
            self.shard += 1;
        } else {
            data.saving = Some(saving);
        }
        *out = images.bytes;
    }
}

/// Writes what is owed of a table from its cursor on, for one piece. What is left of the piece.
fn walk(part: &mut Part, table: &Db, colour: bool, shared: &Shared, images: &mut Images, mut left: Piece) -> Piece {
    let db = part.db;
    while let Some(cursor) = part.cursor
        && left.bytes != 0
        && left.entries != 0
    {
        let before = images.bytes.len();
        let mut seen = 1;
        let next = table.table.scan(cursor, &mut |entry| {
            seen += 1;
            if entry.colour() != colour {
                images.add(shared, db, entry);
                entry.set_colour(colour);
            }
        });
        part.cursor = (next != 0).then_some(next);
        left.entries = left.entries.saturating_sub(seen);
        left.bytes = left.bytes.saturating_sub(images.bytes.len() - before);
    }
    left
}

/// How a snapshot goes, for others than the one that takes it.
#[derive(Clone)]
pub struct Progress {
    shared: Arc<Shared>,
}

impl Progress {
    /// Gives the snapshot up: nothing more is written.
    pub fn abandon(&self) {
        self.shared.abandoned.store(true, Ordering::Relaxed);
    }

    /// Keys written.
    pub fn keys(&self) -> usize {
        self.shared.keys.load(Ordering::Relaxed)
    }

    /// Bytes of early images that wait to be written.
    pub fn waiting_bytes(&self) -> usize {
        self.shared.queued.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
