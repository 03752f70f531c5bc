//! The one way to the keys: [`View`] reads them, [`Txn`] changes them, and both hold the shards that they need.
//!
//! Invariants: a `View` cannot change anything a client can see; every change goes through a typed operation of `Txn`
//! or of an [`Edit`], which emits its [`Change`], touches watches and waiters, and, in a transaction that can be undone,
//! records how to undo it. An expired key is never seen, but by those who asked for it
//! (`Env::see_due`).

pub mod changes;
mod context;
mod edit;
mod evict;
mod expiry;
mod keyspace_ops;
mod undo;

pub use changes::{Change, Changes, Unit};
pub use context::{Context, Env, Event, EventClasses, Garbage, Removal, Unlinks};
pub use edit::{Collection, Edit, EditExpiry, Emit, Expiring, emit_ids};
pub use evict::{Order, Rule};

use crate::Str;
use crate::entry::{Entry, EntryRef};
use crate::hash::{Hash, Live};
use crate::hasher;
use crate::list::List;
use crate::set::Set;
use crate::shard::{Db, Guard, ShardData, ShardSet, shard_of};
use crate::snapshot::{Big, Element, is_big};
use crate::stream::Stream;
use crate::table::SlotMut;
use crate::tracking::{Reader, ReaderList};
use crate::value::{Kind, Value, ValueRef};
use crate::zset::ZSet;
use std::ops::Deref;
use undo::{Removed, Undo, UndoOp};

/// Due fields or members of a collection that a look at it removes, at most.
const ITEMS_AT_ONCE: usize = 64;
/// Fields or members that one change tells to be gone, at most.
const ITEMS_A_CHANGE: usize = 128;

/// Whether every field or member of a collection is due.
fn is_over(value: ValueRef<'_>, horizon: i64) -> bool {
    match value {
        ValueRef::Hash(hash) => hash.is_over(horizon),
        ValueRef::Set(set) => set.is_over(horizon),
        ValueRef::ZSet(zset) => zset.is_over(horizon),
        _ => false,
    }
}

/// A key and its hash.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The key's bytes.
    pub bytes: &'a [u8],
    /// `hasher::hash(bytes)`.
    pub hash: u64,
}

impl<'a> Key<'a> {
    /// Hashes the key.
    pub fn new(bytes: &'a [u8]) -> Key<'a> {
        Key { bytes, hash: hasher::hash(bytes) }
    }

    /// The shard that holds the key.
    pub fn shard(&self) -> usize {
        shard_of(self.hash)
    }
}

/// The key holds a value of another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongType;

/// What a write does to a key's expiry time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// The key lives for ever.
    Clear,
    /// The key keeps what it has.
    Keep,
    /// The key dies at this Unix time in ms.
    At(i64),
}

/// A reader's hold on some shards at one moment.
pub struct View<'k> {
    guard: Guard<'k>,
    db: u32,
    now_ms: i64,
    /// Limits, random numbers and the effects that a commit hands on.
    pub cx: Box<Context>,
}

impl<'k> View<'k> {
    /// Unix time in ms at which the transaction runs; the same throughout a session's commands.
    pub fn now(&self) -> i64 {
        self.now_ms
    }

    /// Whether somebody is blocked on a key of the shards.
    #[inline]
    pub fn has_waiters(&self) -> bool {
        self.guard.has_waiters()
    }

    /// The database in use.
    pub fn db(&self) -> u32 {
        self.db
    }

    /// Number of databases.
    pub fn databases(&self) -> u32 {
        self.guard.keyspace().databases()
    }

    /// Uses another database; returns the one before.
    pub fn select(&mut self, db: u32) -> u32 {
        std::mem::replace(&mut self.db, db)
    }

    /// A random number from the worker's seeded generator.
    pub fn random(&self) -> u64 {
        self.cx.random()
    }

    /// See [`Keyspace::members_expire`](crate::shard::Keyspace::members_expire).
    #[inline(always)]
    pub fn members_expire(&self) -> bool {
        self.guard.keyspace().members_expire()
    }

    /// Whether the key's shard is held.
    pub fn holds(&self, key: Key) -> bool {
        self.guard.held().contains(key.shard())
    }

    /// Whether the whole keyspace is held.
    pub fn holds_all(&self) -> bool {
        *self.guard.held() == ShardSet::All
    }

    /// Whether all these shards are held.
    pub fn holds_shards(&self, set: &ShardSet) -> bool {
        self.holds_all() || *set != ShardSet::All && set.iter().all(|shard| self.guard.held().contains(shard))
    }

    /// Says that the transaction will hold its shards for long: from now on nobody waits for them.
    pub fn will_take_long(&self) {
        self.guard.will_take_long();
    }

    /// The newest transaction in the log that changed a held shard.
    pub fn lsn(&self) -> u64 {
        self.guard.lsn()
    }

    #[inline(always)]
    fn shard(&self, key: Key) -> &ShardData {
        self.guard.shard(key.shard())
    }

    /// The time at which keys and fields must still be alive to be seen.
    #[inline]
    fn horizon(&self) -> i64 {
        if self.cx.env.see_due { i64::MIN } else { self.now_ms }
    }

    /// Whether the time of a key is over: its own, or that of all its fields.
    #[inline]
    fn is_due(&self, entry: EntryRef) -> bool {
        let horizon = self.horizon();
        entry.expire_at().is_some_and(|at| at < horizon)
            || entry.field_due().is_some_and(|at| at < horizon) && is_over(entry.value(), horizon)
    }

    /// Whether the key or some of its fields are due.
    #[inline]
    fn has_due(&self, entry: EntryRef) -> bool {
        entry.next_due().is_some_and(|at| at < self.horizon())
    }

    /// The entry of a live key, without counting the look as a use.
    #[inline(always)]
    pub fn peek(&self, key: Key) -> Option<EntryRef<'_>> {
        let db = self.shard(key).db(self.db)?;
        let entry = db.table.get(key.hash, key.bytes)?;
        if db.any_volatile() && self.has_due(entry) {
            self.cx.note_stale(self.db, key.bytes);
            if self.is_due(entry) {
                return None;
            }
        }
        Some(entry)
    }

    /// The entry of a key, even one that is due and was not noticed yet: for DEBUG.
    pub fn peek_even_due(&self, key: Key) -> Option<EntryRef<'_>> {
        self.shard(key).db(self.db)?.table.get(key.hash, key.bytes)
    }

    /// The entry of a live key; counts a hit or miss, but not a use: for commands that only look (EXISTS, TYPE, OBJECT).
    #[inline]
    pub fn look(&self, key: Key) -> Option<EntryRef<'_>> {
        let entry = self.peek(key);
        self.cx.count_look(entry.is_some());
        entry
    }

    /// The entry of a live key; counts a hit or miss, and the key as used.
    #[inline]
    pub fn get(&self, key: Key) -> Option<EntryRef<'_>> {
        let entry = self.look(key);
        if let Some(entry) = entry {
            self.use_entry(entry);
        }
        entry
    }

    #[inline]
    fn use_entry(&self, entry: EntryRef) {
        if !self.cx.env.no_touch && !self.cx.env.modified_only {
            self.mark_used(entry);
        }
    }

    fn mark_used(&self, entry: EntryRef) {
        let random = if self.cx.env.lfu { self.random() } else { 0 };
        entry.set_access(self.cx.access_clock(self.now_ms).used(entry.access(), random));
    }

    /// Counts the key as used whatever the session's mode; a hit or miss, too. Whether it is there.
    pub fn touch(&self, key: Key) -> bool {
        let entry = self.look(key);
        if let Some(entry) = entry {
            self.mark_used(entry);
        }
        entry.is_some()
    }

    /// The string at a key about to be changed: counted neither as hit or miss nor as a use, which the change itself is.
    #[inline]
    pub fn peek_string(&self, key: Key) -> Result<Option<Str<'_>>, WrongType> {
        match self.peek(key).map(|entry| entry.value()) {
            None => Ok(None),
            Some(ValueRef::String(text)) => Ok(Some(text)),
            Some(_) => Err(WrongType),
        }
    }

    /// Whether the key is there.
    pub fn exists(&self, key: Key) -> bool {
        self.peek(key).is_some()
    }

    /// The string at a key.
    #[inline]
    pub fn string(&self, key: Key) -> Result<Option<Str<'_>>, WrongType> {
        match self.get(key).map(|entry| entry.value()) {
            None => Ok(None),
            Some(ValueRef::String(text)) => Ok(Some(text)),
            Some(_) => Err(WrongType),
        }
    }

    /// The collection at a key.
    pub fn collection<T: Collection>(&self, key: Key) -> Result<Option<&T>, WrongType> {
        match self.get(key) {
            None => Ok(None),
            Some(entry) => T::of_ref(entry.value()).map(Some).ok_or(WrongType),
        }
    }

    /// The list at a key.
    pub fn list(&self, key: Key) -> Result<Option<&List>, WrongType> {
        self.collection(key)
    }

    /// The hash at a key.
    pub fn hash(&self, key: Key) -> Result<Option<Live<'_>>, WrongType> {
        Ok(self.collection(key)?.map(|hash| self.live(hash)))
    }

    /// The fields of a hash that a reader may see.
    pub fn live<'a>(&self, hash: &'a Hash) -> Live<'a> {
        hash.live(self.horizon())
    }

    /// The set at a key.
    pub fn set(&self, key: Key) -> Result<Option<&Set>, WrongType> {
        self.collection(key)
    }

    /// The sorted set at a key.
    pub fn zset(&self, key: Key) -> Result<Option<&ZSet>, WrongType> {
        self.collection(key)
    }

    /// The stream at a key.
    pub fn stream(&self, key: Key) -> Result<Option<&Stream>, WrongType> {
        self.collection(key)
    }
}

/// A field as a snapshot writes it, if the hash has it.
fn field_element<'a>(hash: &'a Hash, field: &'a [u8]) -> Option<Element<'a>> {
    let (value, expire_at) = hash.find(field)?;
    Some(Element::Field(Str::Bytes(field), value, expire_at))
}

/// A writer's hold on some shards: everything it does becomes visible at once when the shards are given back.
pub struct Txn<'k> {
    view: View<'k>,
    undo: Option<Vec<Undo>>,
}

impl<'k> Deref for Txn<'k> {
    type Target = View<'k>;

    fn deref(&self) -> &View<'k> {
        &self.view
    }
}

impl<'k> Txn<'k> {
    /// Begins on the shards that `guard` holds, at a Unix time in ms.
    pub fn new(guard: Guard<'k>, db: u32, now_ms: i64, cx: Box<Context>) -> Txn<'k> {
        Txn { view: View { guard, db, now_ms, cx }, undo: None }
    }

    /// Uses another database; returns the one before.
    pub fn select(&mut self, db: u32) -> u32 {
        self.view.select(db)
    }

    /// From here on, records how to undo every change.
    pub fn keep_undo(&mut self) {
        self.undo.get_or_insert_with(Vec::new);
    }

    /// Goes on at a later time, between the commands of one session and those of another.
    pub fn go_on_at(&mut self, now_ms: i64) {
        self.view.now_ms = self.view.now_ms.max(now_ms);
    }

    /// Undoes every change since [`Txn::keep_undo`], and forgets the effects collected since.
    pub fn roll_back(&mut self) {
        let records = self.undo.take().unwrap_or_default();
        let db = self.view.db;
        for record in records.into_iter().rev() {
            record.apply(self);
        }
        self.view.db = db;
        self.view.cx.drop_effects();
    }

    /// Ends the transaction: gives back the shards, and with them the context that holds its effects.
    #[inline]
    pub fn finish(mut self) -> Box<Context> {
        if self.undo.is_some() {
            self.settle_undo();
        }
        self.view.cx
    }

    /// Lets go of what a roll-back would have needed.
    #[cold]
    fn settle_undo(&mut self) {
        for record in self.undo.take().unwrap_or_default() {
            record.settle(self);
        }
    }

    /// For the next of several transactions that run one after another: locks a single shard, when none is held. Whether it did.
    #[inline(always)]
    pub fn hold_one(&mut self, shard: u16) -> bool {
        self.view.guard.hold_one(shard)
    }

    /// Ends one of several transactions that run one after another: gives back its shards.
    #[inline(always)]
    pub fn release(&mut self) {
        debug_assert!(self.undo.is_none(), "what can be undone ends with `finish`");
        self.view.guard.release();
    }

    /// Notes the transaction's place in the log, which has taken its changes.
    pub fn set_lsn(&mut self, lsn: u64) {
        self.view.guard.set_lsn(lsn);
    }

    /// The context, to take effects out.
    pub fn cx(&mut self) -> &mut Context {
        &mut self.view.cx
    }

    /// A held shard's data. For registering waiters and watches; keys are changed only through typed operations.
    pub fn shard_data(&mut self, shard: usize) -> &mut ShardData {
        self.view.guard.shard_mut(shard)
    }

    fn shard_mut(&mut self, key: Key) -> &mut ShardData {
        self.view.guard.shard_mut(key.shard())
    }

    /// The shard of a key that is about to be changed or removed: what of it is owed to a snapshot is written first.
    #[inline(always)]
    fn db_to_change(&mut self, key: Key) -> Option<&mut Db> {
        let db = self.view.db;
        if self.shard(key).is_saving() {
            self.save_before(key);
        }
        self.view.guard.db_mut(key.shard(), db)
    }

    #[cold]
    fn save_before(&mut self, key: Key) {
        let db = self.view.db;
        self.shard_mut(key).save_before(db, key);
    }

    fn record(&mut self, key: Key, op: impl FnOnce() -> UndoOp) {
        let db = self.view.db;
        if let Some(undo) = &mut self.undo {
            undo.push(Undo { db, key: key.bytes.into(), op: op() });
        }
    }

    /// Tells watches and those who keep copies that the key changed, and counts the change.
    #[inline]
    fn changed(&mut self, key: Key) {
        self.view.cx.dirty += 1;
        if self.shard(key).has_company() || self.view.cx.broadcast {
            self.tell_company(key);
        }
    }

    #[cold]
    fn tell_company(&mut self, key: Key) {
        let db = self.view.db;
        let shard = self.view.guard.shard(key.shard());
        if !shard.watchers.is_empty() {
            shard.watchers.touch(db, key.bytes);
        }
        if !shard.readers.is_empty() || self.view.cx.broadcast {
            self.invalidate(key);
        }
    }

    /// Has everybody told who keeps a copy of the key.
    #[cold]
    fn invalidate(&mut self, key: Key) {
        let readers = self.view.guard.shard_mut(key.shard()).readers.take(key.bytes);
        if readers.is_some() || self.view.cx.broadcast {
            self.view.cx.invalidate(key.bytes, readers.unwrap_or_default());
        }
    }

    /// Registers a session that keeps a copy of what this transaction sees of the key. Whether the key is new to the
    /// register, and whether the reader is.
    pub fn add_reader(&mut self, key: Key, reader: Reader) -> (bool, bool) {
        self.shard_mut(key).readers.add(key.bytes, reader)
    }

    /// Invalidates the copies of any one key of a shard, so that the register has less to remember. Whether there was one.
    pub fn forget_readers(&mut self, shard: usize) -> bool {
        let readers = &mut self.view.guard.shard_mut(shard).readers;
        let Some(key) = readers.any_key().map(Box::<[u8]>::from) else { return false };
        let list: ReaderList = readers.take(&key).unwrap_or_default();
        let actor = std::mem::take(&mut self.view.cx.actor);
        self.view.cx.invalidate(&key, list);
        self.view.cx.actor = actor;
        true
    }

    /// Tells watches and waiters that the key changed, and counts the change.
    #[inline]
    fn touched(&mut self, key: Key) {
        self.view.cx.dirty += 1;
        if self.shard(key).has_company() || self.view.cx.broadcast {
            self.tell_company(key);
            self.wake(key);
        }
    }

    /// Has who waits for the key look again.
    #[inline]
    fn wake(&mut self, key: Key) {
        let db = self.view.db;
        let shard = self.view.shard(key);
        if shard.has_company() && shard.waiters.awaits(db, key.bytes) {
            self.view.cx.ready.push_back((db, key.bytes.into()));
        }
    }

    /// Queues a keyspace event.
    #[inline]
    pub fn event(&mut self, class: EventClasses, name: &'static str, key: &[u8]) {
        let db = self.view.db;
        self.view.cx.event(class, name, db, key);
    }

    fn emit(&mut self, argv: &[&[u8]]) {
        let db = self.view.db;
        self.view.cx.emit(db, argv);
    }

    /// Emits a change that is of no key, such as of the libraries of FUNCTION, and counts it. For those who hold every shard, so
    /// that it is logged in its place among all others.
    pub fn emit_keyless(&mut self, argv: &[&[u8]]) {
        debug_assert!(self.holds_all());
        self.view.cx.dirty += 1;
        self.emit(argv);
    }

    /// The slot of a live key; one that is due is removed first, as are some of a hash's fields that are, and all members of a
    /// set or sorted set: there are none after [`Txn::settle`], which who names its keys has called.
    fn slot(&mut self, key: Key) -> Option<SlotMut<'_, Entry>> {
        if !self.outlives_now(key) {
            return None;
        }
        self.db_to_change(key)?.table.get_mut(key.hash, key.bytes)
    }

    /// Removes what is due at a key, as [`Txn::slot`] says; `false` if it is known then that there is no such key.
    #[inline]
    fn outlives_now(&mut self, key: Key) -> bool {
        let db = self.view.db;
        let Some(part) = self.view.shard(key).db(db) else { return false };
        if !part.any_volatile() {
            return true;
        }
        let Some(entry) = part.table.get(key.hash, key.bytes) else { return false };
        let max = if entry.kind() == Kind::Hash { ITEMS_AT_ONCE } else { usize::MAX };
        !self.view.has_due(entry) || self.expire_part(key, max).is_some()
    }

    /// Puts an entry in; the key must be absent.
    fn insert(&mut self, key: Key, entry: Entry) {
        let (db, now) = (self.view.db, self.view.now_ms);
        let access = self.view.cx.access_clock(self.view.now_ms).fresh();
        entry.as_ref().set_access(access);
        let (kind, expires, timed, due) = {
            let entry = entry.as_ref();
            (entry.kind(), entry.expire_at().is_some(), entry.field_due().is_some(), entry.next_due())
        };
        entry.as_ref().set_indexed(due.is_some());
        self.view.guard.insert(key.shard(), db, key.hash, entry);
        if let Some(at) = due {
            let shard = self.shard_mut(key);
            let part = shard.db_or_new(db);
            part.volatile += u32::from(expires);
            part.volatile_items += u32::from(timed);
            shard.expiry.add(now, key.hash, db, at);
            shard.tidy_expiry(now);
            if timed {
                self.view.guard.note_timed(kind);
            }
        }
        self.record(key, || UndoOp::Entry(None));
    }

    /// Takes the entry of a key out, due or not.
    fn remove(&mut self, key: Key) -> Option<Entry> {
        let part = self.db_to_change(key)?;
        let entry = part.table.remove(key.hash, key.bytes)?;
        part.volatile -= u32::from(entry.as_ref().expire_at().is_some());
        part.volatile_items -= u32::from(entry.as_ref().field_due().is_some());
        Some(entry)
    }

    /// Takes what a snapshot is writing of a big value whose entry leaves the table, if it is one.
    fn take_big(&mut self, key: Key) -> Option<Big> {
        let db = self.view.db;
        if !self.shard(key).is_saving() {
            return None;
        }
        self.shard_mut(key).saving.as_mut()?.take_big(db, key.bytes)
    }

    /// Has a snapshot go on writing a big value that has come to the key.
    fn place_big(&mut self, key: Key, big: Option<Big>) {
        let db = self.view.db;
        if let Some(big) = big {
            self.shard_mut(key).place_big(key.shard(), db, key, big);
        }
    }

    /// An entry that left its table, and will not come back, goes to the snapshot that is writing it, or to the garbage.
    fn let_go(&mut self, key: Key, entry: Entry, big: Option<Big>) {
        match big {
            Some(big) => self.shard_mut(key).bury_big(key.shard(), big, entry.into_value()),
            None => self.view.cx.garbage(entry.into_value()),
        }
    }

    /// Whether a change of the key would have a snapshot keep more in memory until it is written.
    pub fn adds_to_backlog(&self, key: Key) -> bool {
        self.view.shard(key).adds_to_backlog(self.view.db, key)
    }

    /// To be called before fields or members of the collection at a key go.
    fn write_items_early(&mut self, key: Key, names: &[Vec<u8>]) {
        let db = self.view.db;
        if let (Some(saving), Some(part)) = self.shard_mut(key).saving_and_db(db)
            && let Some(big) = saving.big(db, key.bytes)
            && let Some(entry) = part.table.get(key.hash, key.bytes)
        {
            for name in names {
                let text = Str::Bytes(name);
                let element = match entry.value() {
                    ValueRef::Hash(hash) => field_element(hash, name),
                    ValueRef::Set(set) => set.contains(name).then(|| Element::Member(text, set.expiry(name))),
                    ValueRef::ZSet(zset) => {
                        zset.score(name).map(|score| Element::Scored(text, score, zset.expiry(name)))
                    }
                    _ => None,
                };
                big.before(name, element);
            }
        }
    }

    /// The big value at a key that a snapshot is writing, if it is one.
    #[inline]
    fn big(&mut self, key: Key) -> Option<&mut Big> {
        let db = self.view.db;
        if !self.shard(key).is_saving() {
            return None;
        }
        self.shard_mut(key).saving.as_mut()?.big(db, key.bytes)
    }

    /// Drops an entry that left the table: keeps it for a roll-back, or else has it freed outside the shards.
    fn discard(&mut self, key: Key, entry: Entry) {
        let big = self.take_big(key);
        if self.undo.is_some() {
            self.record(key, || UndoOp::Entry(Some(Removed { entry, big: big.map(Box::new) })));
        } else {
            self.let_go(key, entry, big);
        }
    }

    /// Removes a key. Whether it was there.
    pub fn delete(&mut self, key: Key) -> bool {
        self.delete_as(key, Removal::Asked)
    }

    /// Removes a key for this reason. Whether it was there.
    pub fn delete_as(&mut self, key: Key, why: Removal) -> bool {
        if self.slot(key).is_none() {
            return false;
        }
        let Some(entry) = self.remove(key) else { return false };
        self.discard(key, entry);
        self.emit_removal(key, why);
        self.touched(key);
        true
    }

    /// Emits that a key goes.
    fn emit_removal(&mut self, key: Key, why: Removal) {
        let name = self.view.cx.env.unlinks.name(why);
        self.emit(&[name, key.bytes]);
    }

    /// Moves a key's value and expiry time to a key of database `db`, whatever that held before. Whether there was anything to
    /// move. The two places differ.
    pub fn relocate(&mut self, from: Key, db: u32, to: Key) -> bool {
        if self.slot(from).is_none() {
            return false;
        }
        let Some(entry) = self.remove(from) else { return false };
        let at = entry.as_ref().expire_at();
        let mut big = self.take_big(from);
        let value = if self.undo.is_some() {
            let copy = entry.as_ref().to_value();
            let big = big.take();
            self.record(from, || UndoOp::Entry(Some(Removed { entry, big: big.map(Box::new) })));
            copy
        } else {
            entry.into_value()
        };
        self.emit(&[b"DEL", from.bytes]);
        self.touched(from);
        let here = self.select(db);
        self.delete(to);
        self.put(to, value, at);
        self.place_big(to, big);
        self.select(here);
        true
    }

    /// Tells that a key's value is about to be replaced as a whole, if anybody wants to know.
    #[inline]
    fn tell_overwritten(&mut self, key: Key, kind: crate::value::Kind) {
        if !self.view.cx.env.events.has(EventClasses(EventClasses::OVERWRITTEN.0 | EventClasses::TYPE_CHANGED.0)) {
            return;
        }
        self.queue_overwritten(key, kind);
    }

    #[cold]
    fn queue_overwritten(&mut self, key: Key, kind: crate::value::Kind) {
        let Some(before) = self.view.peek(key).map(|entry| entry.kind()) else { return };
        self.event(EventClasses::OVERWRITTEN, "overwritten", key.bytes);
        if before != kind {
            self.event(EventClasses::TYPE_CHANGED, "type_changed", key.bytes);
        }
    }

    /// Sets a key to a whole value, whatever it held before.
    pub fn put(&mut self, key: Key, value: Value, expire_at: Option<i64>) {
        self.tell_overwritten(key, value.kind());
        if self.slot(key).is_some()
            && let Some(entry) = self.remove(key)
        {
            self.discard(key, entry);
            self.emit(&[b"DEL", key.bytes]);
        } else {
            self.event(EventClasses::NEW, "new", key.bytes);
        }
        let db = self.view.db;
        let now = self.view.now_ms;
        self.view.cx.emit_value(db, now, key.bytes, &value, expire_at);
        self.insert(key, Entry::new(key.bytes, value, expire_at));
        self.touched(key);
    }

    /// Sets a key to a string.
    pub fn set_string(&mut self, key: Key, text: &[u8], ttl: Ttl) {
        self.tell_overwritten(key, crate::value::Kind::String);
        self.write_string(key, ttl, text, |slot| slot.set_string(text, false), || Value::from_text(text));
    }

    /// Sets a key to an integer.
    pub fn set_int(&mut self, key: Key, number: i64, ttl: Ttl) {
        let mut buffer = itoa::Buffer::new();
        let text = buffer.format(number).as_bytes();
        self.write_string(key, ttl, text, |slot| slot.set_int(number), || Value::Int(number));
    }

    fn write_string(
        &mut self,
        key: Key,
        ttl: Ttl,
        text: &[u8],
        overwrite: impl FnOnce(&mut SlotMut<'_, Entry>),
        make: impl FnOnce() -> Value,
    ) {
        let clock = self.view.cx.access_clock(self.view.now_ms);
        let random = if clock.lfu { self.view.random() } else { 0 };
        let (undoable, mut in_place, mut old_at) = (self.undo.is_some(), false, None);
        let saving = self.view.shard(key).is_saving();
        let found = match self.slot(key) {
            Some(mut slot) => {
                let entry = slot.get();
                old_at = entry.expire_at();
                // A big string that a snapshot is writing moves to the snapshot.
                let leaves = saving && is_big(entry.value());
                in_place = !undoable && entry.kind() == crate::value::Kind::String && !leaves;
                if in_place {
                    overwrite(&mut slot);
                    let entry = slot.get();
                    entry.set_access(clock.used(entry.access(), random));
                }
                true
            }
            None => false,
        };
        let at = match ttl {
            Ttl::Clear => None,
            Ttl::Keep => old_at,
            Ttl::At(at) => Some(at),
        };
        if in_place {
            if at != old_at {
                self.write_expiry(key, at);
            }
        } else {
            if found {
                if let Some(entry) = self.remove(key) {
                    self.discard(key, entry);
                }
            } else {
                self.event(EventClasses::NEW, "new", key.bytes);
            }
            self.insert(key, Entry::new(key.bytes, make(), at));
        }
        if self.view.cx.env.log_changes {
            self.emit_string(key, text, at);
        }
        self.touched(key);
    }

    /// Emits what a string now is, and when it expires.
    fn emit_string(&mut self, key: Key, text: &[u8], at: Option<i64>) {
        match at {
            None => {
                let db = self.view.db;
                self.view.cx.changes.push_set(db, key.bytes, text);
            }
            Some(at) => {
                let mut buffer = itoa::Buffer::new();
                self.emit(&[b"SET", key.bytes, text, b"PXAT", buffer.format(at).as_bytes()]);
            }
        }
    }

    /// Adds to the integer at a key, which keeps its expiry time, or makes it; the sum. `None`, and nothing done, where it takes more
    /// than to overwrite the number: there is another value, the sum would overflow, or what was there must be kept.
    pub fn add_to_int(&mut self, key: Key, by: i64) -> Option<i64> {
        if self.undo.is_some() || self.view.shard(key).is_saving() {
            return None;
        }
        let clock = self.view.cx.access_clock(self.view.now_ms);
        let random = if clock.lfu { self.view.random() } else { 0 };
        let Some(mut slot) = self.slot(key) else {
            self.set_int(key, by, Ttl::Keep);
            return Some(by);
        };
        let ValueRef::String(Str::Int(old)) = slot.get().value() else { return None };
        let sum = old.checked_add(by)?;
        slot.set_int(sum);
        let entry = slot.get();
        entry.set_access(clock.used(entry.access(), random));
        let at = entry.expire_at();
        if self.view.cx.env.log_changes {
            self.emit_string(key, itoa::Buffer::new().format(sum).as_bytes(), at);
        }
        self.touched(key);
        Some(sum)
    }

    /// Appends to a string, or makes it. The length after.
    pub fn append(&mut self, key: Key, text: &[u8]) -> Result<usize, WrongType> {
        self.modify_string(key, None, text, |slot| slot.append(text))
    }

    /// Overwrites part of a string from `offset` on, padding with zero bytes, or makes it. The length after.
    pub fn set_range(&mut self, key: Key, offset: usize, text: &[u8]) -> Result<usize, WrongType> {
        self.modify_string(key, Some(offset), text, |slot| slot.set_range(offset, text))
    }

    /// Writes `text` at `offset`, or else at the end.
    fn modify_string(
        &mut self,
        key: Key,
        offset: Option<usize>,
        text: &[u8],
        modify: impl FnOnce(&mut SlotMut<'_, Entry>),
    ) -> Result<usize, WrongType> {
        let mut fresh = false;
        match self.slot(key).map(|slot| slot.get().kind()) {
            None => {
                fresh = true;
                self.insert(key, Entry::new(key.bytes, Value::String { bytes: Vec::new().into(), raw: false }, None));
                self.event(EventClasses::NEW, "new", key.bytes);
            }
            Some(crate::value::Kind::String) => {
                if self.undo.is_some()
                    && let Some(image) = self.slot(key).map(|slot| slot.get().to_owned_entry())
                {
                    self.record(key, || UndoOp::Entry(Some(Removed { entry: image, big: None })));
                }
            }
            Some(_) => return Err(WrongType),
        }
        let db = self.view.db;
        if let Some(from) = offset
            && self.shard(key).is_saving()
            && let (Some(saving), Some(part)) = self.shard_mut(key).saving_and_db(db)
            && let Some(big) = saving.big(db, key.bytes)
            && let Some(ValueRef::String(Str::Bytes(old))) =
                part.table.get(key.hash, key.bytes).map(|entry| entry.value())
        {
            big.before_overwriting(old, from, from + text.len());
        }
        let mut length = 0;
        let clock = self.view.cx.access_clock(self.view.now_ms);
        let random = if clock.lfu { self.view.random() } else { 0 };
        if let Some(mut slot) = self.slot(key) {
            slot.get().set_access(clock.used(slot.get().access(), random));
            modify(&mut slot);
            if let ValueRef::String(text) = slot.get().value() {
                length = text.len();
            }
        }
        let offset = offset.unwrap_or(length - text.len());
        if fresh && offset == 0 {
            // SETRANGE with an empty text makes no key.
            self.emit(&[b"SET", key.bytes, text]);
        } else {
            self.emit(&[b"SETRANGE", key.bytes, itoa::Buffer::new().format(offset).as_bytes(), text]);
        }
        self.touched(key);
        Ok(length)
    }
}
