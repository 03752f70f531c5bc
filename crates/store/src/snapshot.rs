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
//! Big values are written in parts, with a discipline of their own (`big`).
//!
//! The format is the [`Encoder`]'s: this module knows only that what is written for a database begins with its number, and
//! that nothing comes between the parts of a big value.

mod big;
mod pauses;

use crate::Str;
use crate::entry::{Entry, EntryRef};
use crate::packed::Packed;
use crate::shard::{Db, Guard, Keyspace, SHARDS, ShardData, ShardSet};
use crate::stream::{Stream, StreamId};
use crate::sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::table::SlotMut;
use crate::txn::Key;
use crate::value::{Value, ValueMut};
use big::Written;
pub(crate) use big::{Big, is_big};
pub use pauses::{Clock, Pauses, Timer};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

/// How entries are written. Called while a shard is held: it must be quick and cannot fail.
pub trait Encoder: Send + Sync {
    /// What follows belongs to this database.
    fn database(&self, out: &mut Vec<u8>, db: u32);
    /// A key, its value and its expiry time.
    fn entry(&self, out: &mut Vec<u8>, entry: EntryRef<'_>);
    /// A key, its expiry time, and the number of the parts of its value that come next, each by [`Encoder::element`].
    fn head(&self, out: &mut Vec<u8>, entry: EntryRef<'_>);
    /// A part of a value. `soonest` is when the first field of a hash was due, if any ever was, as its head told.
    fn element(&self, out: &mut Vec<u8>, element: Element<'_>, soonest: Option<i64>);
    /// When some members of the set or sorted set expire whose head comes next.
    fn times(&self, out: &mut Vec<u8>, times: &[(Box<[u8]>, i64)]);
    /// Part of a stream, from the beginning or from this entry on; where the next part begins, nothing behind the last.
    fn stream(&self, out: &mut Vec<u8>, stream: &Stream, from: Option<StreamId>) -> Option<StreamId>;
}

/// A part of a big value.
#[derive(Clone, Copy)]
pub enum Element<'a> {
    /// A member of a set and when it expires, if that is not yet written; in no order.
    Member(Str<'a>, Option<i64>),
    /// A field of a hash, its value and when it expires; in no order.
    Field(Str<'a>, Str<'a>, Option<i64>),
    /// A member of a sorted set, its score, and when it expires, if that is not yet written; in no order.
    Scored(Str<'a>, f64, Option<i64>),
    /// A block of a list, in order.
    Block(&'a Packed),
    /// The whole of a string.
    Text(Str<'a>),
    /// The length of a string whose bytes follow.
    Length(usize),
    /// Part of a string, in order.
    Bytes(&'a [u8]),
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
        shared.count_key();
    }

    fn take(&mut self) -> Vec<u8> {
        self.db = None;
        std::mem::take(&mut self.bytes)
    }
}

/// What snapshots keep in memory until it is written, because somebody changed it: early images, elements and pages of big
/// values, values that have left the keyspace. One for all snapshots of a keyspace.
#[derive(Default)]
pub struct Backlog {
    bytes: AtomicUsize,
    max: AtomicUsize,
}

impl Backlog {
    /// Sets from how many bytes on it is full.
    pub fn set_max(&self, bytes: usize) {
        self.max.store(bytes, Ordering::Relaxed);
    }

    /// Bytes kept.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether there should be no more of it: who would add something ([`Txn::adds_to_backlog`](crate::txn::Txn)) had better
    /// wait a moment.
    #[inline]
    pub fn is_full(&self) -> bool {
        let bytes = self.bytes();
        bytes != 0 && bytes >= self.max.load(Ordering::Relaxed)
    }

    /// Whether there is so much that the snapshot had better hurry.
    pub fn is_half_full(&self) -> bool {
        self.bytes() >= self.max.load(Ordering::Relaxed) / 2
    }

    fn change(&self, from: usize, to: usize) {
        match to.checked_sub(from) {
            Some(0) => {}
            Some(more) => _ = self.bytes.fetch_add(more, Ordering::Relaxed),
            None => _ = self.bytes.fetch_sub(from - to, Ordering::Relaxed),
        }
    }
}

/// What the snapshot and all shards know of each other.
struct Shared {
    encoder: Arc<dyn Encoder>,
    backlog: Arc<Backlog>,
    /// Early images that have left their shards, in no order that matters.
    queue: Mutex<Vec<Vec<u8>>>,
    /// Where big values are that have changed their places, by their numbers.
    places: Mutex<HashMap<usize, usize>>,
    /// Shards in which big values wait that somebody has changed: what they keep grows until they are written.
    urgent: Mutex<Vec<usize>>,
    /// Big values so far.
    bigs: AtomicUsize,
    /// Keys written.
    keys: AtomicUsize,
    /// Nobody wants the snapshot any more: nothing is encoded, only coloured.
    abandoned: AtomicBool,
    pauses: Arc<Pauses>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn push(&self, bytes: Vec<u8>) {
        self.backlog.change(0, bytes.capacity());
        locked(&self.queue).push(bytes);
    }

    fn count_key(&self) {
        self.keys.fetch_add(1, Ordering::Relaxed);
    }

    fn next_id(&self) -> usize {
        self.bigs.fetch_add(1, Ordering::Relaxed)
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }
}

/// One database of a shard that is being saved.
struct Part {
    /// The number that it had at the instant.
    db: u32,
    /// Where the walk goes on in its table; `None` when it is through.
    cursor: Option<u64>,
    /// Big values in the table that are being written, by key.
    big: HashMap<Box<[u8]>, Big>,
}

impl Part {
    fn new(db: u32, cursor: Option<u64>) -> Part {
        Part { db, cursor, big: HashMap::new() }
    }

    fn owes(&self) -> bool {
        self.cursor.is_some() || !self.big.is_empty()
    }
}

/// What a shard keeps while something of it is owed.
pub(crate) struct Saving {
    shared: Arc<Shared>,
    shard: usize,
    /// By today's number of the database. What lies beyond is as at the instant and not begun.
    parts: Vec<Part>,
    early: Images,
    /// Databases flushed since the instant.
    flushed: Vec<(Part, Box<Db>)>,
    /// Big values that the snapshot can write without the shard: frozen ones, and those that left the keyspace.
    gone: Vec<Big>,
    /// Whether the walk had left the shard behind before this was made, for big values that came here from other places.
    walked: bool,
}

impl Saving {
    fn new(shared: &Arc<Shared>, shard: usize) -> Saving {
        let (shared, early) = (shared.clone(), Images::default());
        Saving { shared, shard, parts: Vec::new(), early, flushed: Vec::new(), gone: Vec::new(), walked: false }
    }

    /// For a shard that the walk has left behind.
    fn late(shared: &Arc<Shared>, shard: usize) -> Box<Saving> {
        Box::new(Saving { walked: true, ..Saving::new(shared, shard) })
    }

    fn part(&mut self, db: u32) -> &mut Part {
        while self.parts.len() <= db as usize {
            let cursor = if self.walked { None } else { Some(0) };
            self.parts.push(Part::new(self.parts.len() as u32, cursor));
        }
        &mut self.parts[db as usize]
    }

    /// Writes an entry that is owed, before somebody changes it.
    fn write_early(&mut self, db: u32, entry: EntryRef<'_>) {
        /// A shard's buffer goes to the queue at this size, before small entries have it grow past 4 KiB: with 1,024 shards,
        /// 4 MiB are on the way at most.
        const EARLY_BYTES: usize = if cfg!(any(test, kelda_model)) { 64 } else { 3840 };
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
        // What comes under this number from now on is younger than the instant.
        let part = std::mem::replace(self.part(db), Part::new(db, None));
        if !part.owes() {
            return Some(table);
        }
        self.flushed.push((part, table));
        self.hurry();
        None
    }

    /// Asks the snapshot to see to this shard soon.
    fn hurry(&self) {
        locked(&self.shared.urgent).push(self.shard);
    }

    /// The big value at a key that is being written, if it is one.
    #[inline]
    pub(crate) fn big(&mut self, db: u32, key: &[u8]) -> Option<&mut Big> {
        self.parts.get_mut(db as usize)?.big.get_mut(key)
    }

    /// Takes what is being written of a big value whose entry leaves the table, if it is one.
    #[inline]
    pub(crate) fn take_big(&mut self, db: u32, key: &[u8]) -> Option<Big> {
        let big = self.parts.get_mut(db as usize)?.big.remove(key)?;
        if self.walked {
            // For the snapshot to see that nothing is left here.
            self.hurry();
        }
        Some(big)
    }

    /// Begins to write a big value in the table.
    fn begin_big(&mut self, db: u32, slot: &mut SlotMut<'_, Entry>) {
        let number = self.part(db).db;
        let big = Big::new(&self.shared, number, slot.get());
        self.place(db, slot, big);
    }

    /// Goes on to write a big value in the table.
    fn place(&mut self, db: u32, slot: &mut SlotMut<'_, Entry>, mut big: Big) {
        let frozen = match slot.value_mut() {
            ValueMut::List(list) => Some(Value::List(list.freeze())),
            ValueMut::Stream(stream) => Some(Value::Stream(Box::new(stream.clone()))),
            ValueMut::String => {
                let text = slot.get().shared().filter(|text| big.may_freeze(text));
                text.map(|text| Value::String { bytes: text.clone().into(), raw: true })
            }
            _ => None,
        };
        if let Some(value) = frozen {
            big.freeze(value);
            self.gone.push(big);
        } else {
            let key = slot.get().key().into();
            self.part(db).big.insert(key, big);
        }
    }
}

impl ShardData {
    /// Writes the key, if it is owed to a snapshot, before it is changed. To be called when `saving` is there.
    #[cold]
    pub(crate) fn save_before(&mut self, db: u32, key: Key) {
        let Some(mut saving) = self.saving.take() else { return };
        let pauses = saving.shared.pauses.clone();
        let _timer = pauses.early();
        let colour = self.colour;
        if let Some(mut slot) = self.db_mut(db).and_then(|part| part.table.get_mut(key.hash, key.bytes))
            && slot.get().colour() != colour
        {
            slot.get().set_colour(colour);
            if is_big(slot.get().value()) && !saving.shared.is_abandoned() {
                saving.begin_big(db, &mut slot);
                saving.hurry();
            } else {
                saving.write_early(db, slot.get());
            }
        }
        self.saving = Some(saving);
    }

    /// As [`ShardData::save_before`], for an entry that has left the table already and may come back. Of a big value, what is
    /// being written of it: for the caller to keep with the entry.
    pub(crate) fn save_removed(&mut self, db: u32, entry: EntryRef<'_>) -> Option<Big> {
        let saving = self.saving.as_mut()?;
        if entry.colour() == self.colour {
            return saving.take_big(db, entry.key());
        }
        entry.set_colour(self.colour);
        if is_big(entry.value()) && !saving.shared.is_abandoned() {
            let number = saving.part(db).db;
            return Some(Big::new(&saving.shared, number, entry));
        }
        saving.write_early(db, entry);
        None
    }

    /// A big value that is being written has come to this place, perhaps of a shard that the walk has left behind.
    pub(crate) fn place_big(&mut self, shard: usize, db: u32, key: Key, big: Big) {
        let mut saving = self.saving.take().unwrap_or_else(|| Saving::late(big.shared(), shard));
        locked(&saving.shared.places).insert(big.id, shard);
        match self.db_mut(db).and_then(|part| part.table.get_mut(key.hash, key.bytes)) {
            Some(mut slot) => saving.place(db, &mut slot, big),
            None => debug_assert!(false, "the entry has just been put there"),
        }
        saving.hurry();
        self.saving = Some(saving);
    }

    /// A big value that is being written has left the keyspace for good, from this shard.
    pub(crate) fn bury_big(&mut self, shard: usize, mut big: Big, value: Value) {
        let saving = self.saving.get_or_insert_with(|| Saving::late(big.shared(), shard));
        big.take_value(value);
        saving.gone.push(big);
        saving.hurry();
    }

    /// Whether a change of the key would have a snapshot keep something in memory.
    pub(crate) fn adds_to_backlog(&self, db: u32, key: Key) -> bool {
        let Some(saving) = &self.saving else { return false };
        let entry = self.db(db).and_then(|part| part.table.get(key.hash, key.bytes));
        entry.is_some_and(|entry| {
            let part = saving.parts.get(db as usize);
            entry.colour() != self.colour || part.is_some_and(|part| part.big.contains_key(key.bytes))
        })
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
        Piece { bytes: 32 * 1024, entries: 128 }
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
    /// The shard that the walk has come to.
    shard: usize,
    piece: Piece,
    /// The big value that is being written, and the shard in which it was. Nothing else is written meanwhile.
    current: Option<(usize, usize)>,
    /// Big values that are written without holding anything.
    own: Vec<Big>,
    /// Databases handed over whole: what is owed of them is written without holding anything.
    flushed: Vec<(Part, Box<Db>)>,
    /// Big values that are through: freed when nothing is held.
    through: Vec<Big>,
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
    /// Prepares a snapshot that `encoder` writes. `backlog` counts what is kept for it, `pauses` how long others wait.
    pub fn new(encoder: Arc<dyn Encoder>, backlog: Arc<Backlog>, pauses: Arc<Pauses>) -> Preparation {
        let shared = Arc::new(Shared {
            encoder,
            backlog,
            queue: Mutex::default(),
            places: Mutex::default(),
            urgent: Mutex::default(),
            bigs: AtomicUsize::new(0),
            keys: AtomicUsize::new(0),
            abandoned: AtomicBool::new(false),
            pauses,
        });
        let saving = (0..SHARDS).map(|shard| Box::new(Saving::new(&shared, shard))).collect();
        Preparation { shared, saving }
    }

    /// How long others will have waited.
    pub fn pauses(&self) -> &Arc<Pauses> {
        &self.shared.pauses
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
                *volatile += part.volatile as usize;
            }
        }
        let (own, flushed, through) = (Vec::new(), Vec::new(), Vec::new());
        Snapshot { shared, colour, shard: 0, piece, current: None, own, flushed, through, sizes }
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
        self.shared.is_abandoned()
    }

    /// Takes one step: appends to `out` early images, or else the next part of a big value, or else walks one piece further.
    pub fn step(&mut self, keyspace: &Keyspace, out: &mut Vec<u8>) -> Step {
        self.through.clear();
        if self.is_abandoned() {
            (self.current, self.own) = (None, Vec::new());
        }
        if let Some((id, shard)) = self.current {
            return self.go_on(keyspace, id, shard, out);
        }
        if self.take_early(out) {
            return Step::Done;
        }
        if let Some(big) = self.own.last() {
            self.current = Some((big.id, 0));
            return Step::Done;
        }
        if !self.flushed.is_empty() {
            self.walk_flushed(out);
            return Step::Done;
        }
        let urgent = locked(&self.shared.urgent).pop();
        let Some(shard) = urgent.or((self.shard < SHARDS).then_some(self.shard)) else { return Step::Complete };
        let Some(mut guard) = keyspace.lock(ShardSet::One(shard as u16)) else {
            locked(&self.shared.urgent).extend(urgent);
            return Step::Busy;
        };
        let pauses = self.shared.pauses.clone();
        let timer = pauses.hold();
        self.visit(shard, guard.shard_mut(shard), out);
        drop(guard);
        drop(timer);
        Step::Done
    }

    /// Takes some of the early images that wait; `false` if there were none.
    fn take_early(&mut self, out: &mut Vec<u8>) -> bool {
        /// Buffers taken at once: not many more bytes than are written at once.
        const BUFFERS: usize = 64;
        let mut queue = locked(&self.shared.queue);
        let rest = queue.len().saturating_sub(BUFFERS);
        let buffers = queue.split_off(rest);
        drop(queue);
        self.shared.backlog.change(buffers.iter().map(Vec::capacity).sum(), 0);
        if !self.is_abandoned() {
            buffers.iter().for_each(|buffer| out.extend_from_slice(buffer));
        }
        !buffers.is_empty()
    }

    /// Writes the next part of the big value with this number.
    fn go_on(&mut self, keyspace: &Keyspace, id: usize, shard: usize, out: &mut Vec<u8>) -> Step {
        if let Some(index) = self.own.iter().position(|big| big.id == id) {
            let big = &mut self.own[index];
            let value = big.value.take();
            if let Some(value) = &value {
                big.walk(value.as_ref(), self.piece);
            }
            big.value = value;
            append(out, big.take_written());
            if big.is_done() {
                // Freed here, by nobody's event loop.
                self.own.swap_remove(index);
                self.current = None;
            }
            return Step::Done;
        }
        // It may have moved since it was last seen.
        let shard = locked(&self.shared.places).get(&id).copied().unwrap_or(shard);
        let Some(mut guard) = keyspace.lock(ShardSet::One(shard as u16)) else { return Step::Busy };
        let pauses = self.shared.pauses.clone();
        let timer = pauses.hold();
        let written = self.walk_held(id, guard.shard_mut(shard));
        drop(guard);
        drop(timer);
        append(out, written);
        Step::Done
    }

    /// Writes the next part of the big value with this number, which should be in this shard.
    fn walk_held(&mut self, id: usize, data: &mut ShardData) -> Written {
        // The shard keeps its record as long as it has a big value. If it has none, the value has just moved on.
        let Some(mut saving) = data.saving.take() else { return Written::new() };
        self.take_over(&mut saving);
        let mut written = Written::new();
        for (db, table) in data.dbs() {
            let Some(part) = saving.parts.get_mut(db as usize) else { continue };
            let Some((key, big)) = part.big.iter_mut().find(|(_, big)| big.id == id) else { continue };
            match table.table.get(Key::new(key).hash, key) {
                Some(entry) => big.walk(entry.value(), self.piece),
                None => debug_assert!(false, "a big value leaves its table with `take_big`"),
            }
            written = big.take_written();
            if big.is_done() {
                let key = key.clone();
                self.through.extend(part.big.remove(&key));
                self.current = None;
                if saving.walked {
                    saving.hurry();
                }
            }
            break;
        }
        data.saving = Some(saving);
        written
    }

    /// Takes over what can be written without the shard.
    fn take_over(&mut self, saving: &mut Saving) {
        self.own.append(&mut saving.gone);
        for (mut part, mut table) in saving.flushed.drain(..) {
            for (key, mut big) in part.big.drain() {
                if let Some(entry) = table.table.remove(Key::new(&key).hash, &key) {
                    big.take_value(entry.into_value());
                }
                self.own.push(big);
            }
            self.flushed.push((part, table));
        }
    }

    /// Does what is to be done in a shard: begins with a big value that waits there, or walks a piece if it is the walk's turn.
    fn visit(&mut self, shard: usize, data: &mut ShardData, out: &mut Vec<u8>) {
        let Some(mut saving) = data.saving.take() else {
            self.shard += usize::from(shard == self.shard);
            return;
        };
        self.take_over(&mut saving);
        if self.is_abandoned() {
            let bigs = saving.parts.iter_mut().flat_map(|part| part.big.drain());
            self.through.extend(bigs.map(|(_, big)| big));
        }
        if let Some(big) = saving.parts.iter().flat_map(|part| part.big.values()).next() {
            self.current = Some((big.id, shard));
        } else if saving.walked {
            return;
        } else if shard == self.shard {
            self.walk_shard(&mut saving, data, out);
            self.take_over(&mut saving);
            if !data.dbs().any(|(db, _)| saving.part(db).owes()) {
                out.extend_from_slice(&saving.early.take());
                self.shard += 1;
                return;
            }
        }
        data.saving = Some(saving);
    }

    fn walk_shard(&self, saving: &mut Saving, data: &mut ShardData, out: &mut Vec<u8>) {
        let mut images = Images { bytes: std::mem::take(out), db: None };
        let (mut left, mut bigs, mut at) = (self.piece, Vec::new(), 0);
        for (db, table) in data.dbs() {
            at = db;
            walk(saving.part(db), table, self.colour, &self.shared, &mut images, &mut left, &mut bigs);
            if !bigs.is_empty() {
                break;
            }
        }
        *out = images.bytes;
        for key in bigs {
            if let Some(mut slot) = data.db_mut(at).and_then(|part| part.table.get_mut(Key::new(&key).hash, &key)) {
                slot.get().set_colour(self.colour);
                saving.begin_big(at, &mut slot);
            }
        }
    }

    fn walk_flushed(&mut self, out: &mut Vec<u8>) {
        let Some((mut part, mut table)) = self.flushed.pop() else { return };
        let mut images = Images { bytes: std::mem::take(out), db: None };
        let (mut left, mut bigs) = (self.piece, Vec::new());
        walk(&mut part, &table, self.colour, &self.shared, &mut images, &mut left, &mut bigs);
        *out = images.bytes;
        for key in bigs {
            if let Some(entry) = table.table.remove(Key::new(&key).hash, &key) {
                let mut big = Big::new(&self.shared, part.db, entry.as_ref());
                big.take_value(entry.into_value());
                self.own.push(big);
            }
        }
        // A database that owes nothing more is freed here, by nobody's event loop.
        if part.owes() {
            self.flushed.push((part, table));
        }
    }
}

/// Puts together what was written.
fn append(out: &mut Vec<u8>, written: Written) {
    written.iter().for_each(|bytes| out.extend_from_slice(bytes));
}

/// Writes what is owed of a table from its cursor on, until the piece is used up or there are big values, which are not written
/// but named.
fn walk(
    part: &mut Part,
    table: &Db,
    colour: bool,
    shared: &Shared,
    images: &mut Images,
    left: &mut Piece,
    bigs: &mut Vec<Box<[u8]>>,
) {
    let db = part.db;
    let splits = !shared.is_abandoned();
    while let Some(cursor) = part.cursor
        && left.bytes != 0
        && left.entries != 0
        && bigs.is_empty()
    {
        let before = images.bytes.len();
        let mut seen = 1;
        let next = table.table.scan(cursor, &mut |entry| {
            seen += 1;
            if entry.colour() == colour {
                return;
            }
            if splits && is_big(entry.value()) {
                bigs.push(entry.key().into());
            } else {
                images.add(shared, db, entry);
                entry.set_colour(colour);
            }
        });
        part.cursor = (next != 0).then_some(next);
        left.entries = left.entries.saturating_sub(seen);
        left.bytes = left.bytes.saturating_sub(images.bytes.len() - before);
    }
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

    /// Bytes that are kept in memory until they are written.
    pub fn waiting_bytes(&self) -> usize {
        self.shared.backlog.bytes()
    }
}

#[cfg(test)]
mod tests;
