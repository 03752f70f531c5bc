//! Editing one collection: typed operations that emit changes, record their inverse and tidy up after themselves.
//!
//! The one `unsafe` idea of this module: an [`Edit`] keeps a pointer to the collection inside its entry, so that a command
//! over many elements looks its key up once. The pointer stays valid because the edit holds the transaction exclusively
//! and never touches the table between its creation and its end.

use super::context::score_text;
use super::undo::UndoOp;
use super::{EventClasses, Key, Txn, WrongType};
use crate::Str;
use crate::entry::Entry;
use crate::hash::Hash;
use crate::list::{End, List};
use crate::set::Set;
use crate::snapshot::Element;
use crate::stream::{Mark, References, Stream, StreamId, Trim};
use crate::value::{Value, ValueMut, ValueRef};
use crate::zset::ZSet;
use smallvec::SmallVec;
use std::ops::Deref;
use std::ptr::NonNull;

/// A value type that is edited in place.
pub trait Collection: Sized {
    /// Whether an empty one stays in the keyspace.
    const KEEP_EMPTY: bool = false;
    /// The collection in a value of its type.
    fn of_ref(value: ValueRef<'_>) -> Option<&Self>;
    /// The collection in a value of its type.
    fn of_mut(value: ValueMut<'_>) -> Option<&mut Self>;
    /// An empty one.
    fn empty() -> Value;
    /// Whether nothing is left in it.
    fn is_empty(&self) -> bool;
    /// When something in it expires (Unix ms).
    fn soonest(&self) -> Option<i64> {
        None
    }
}

macro_rules! collection {
    ($type:ident, $empty:expr, $keep:expr $(, $soonest:ident)?) => {
        impl Collection for $type {
            const KEEP_EMPTY: bool = $keep;

            fn of_ref(value: ValueRef<'_>) -> Option<&Self> {
                if let ValueRef::$type(collection) = value { Some(collection) } else { None }
            }

            fn of_mut(value: ValueMut<'_>) -> Option<&mut Self> {
                if let ValueMut::$type(collection) = value { Some(collection) } else { None }
            }

            fn empty() -> Value {
                $empty
            }

            fn is_empty(&self) -> bool {
                self.len() == 0
            }

            $(fn $soonest(&self) -> Option<i64> {
                <$type>::$soonest(self)
            })?
        }
    };
}

collection!(List, Value::List(List::new()), false);
collection!(Hash, Value::Hash(Hash::new()), false, soonest);
collection!(Set, Value::Set(Set::new()), false, soonest);
collection!(ZSet, Value::ZSet(ZSet::new()), false, soonest);
collection!(Stream, Value::Stream(Box::new(Stream::new())), true);

/// Exclusive access to one collection within a transaction. Dropping it removes a collection left empty.
pub struct Edit<'t, 'k, T: Collection> {
    txn: &'t mut Txn<'k>,
    key: Key<'t>,
    value: NonNull<T>,
    changed: bool,
    /// Whether it is a big value that a snapshot is writing: what changes in it is written first.
    saving: bool,
    /// What [`Collection::soonest`] was at the beginning.
    soonest: Option<i64>,
}

impl<T: Collection> Deref for Edit<'_, '_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: see the module's head: the entry neither moves nor goes while `self` lives.
        unsafe { self.value.as_ref() }
    }
}

impl<'k> Txn<'k> {
    /// Edits the collection at a key, if there is one.
    pub fn edit<'t, T: Collection>(&'t mut self, key: Key<'t>) -> Result<Option<Edit<'t, 'k, T>>, WrongType> {
        Ok(self.find(key)?.map(|found| found.edit(self, key)))
    }

    /// Looks up the collection at a key that is to be edited. That counts as a use of the key.
    fn find<T: Collection>(&mut self, key: Key) -> Result<Option<Found<T>>, WrongType> {
        let clock = self.view.cx.access_clock(self.view.now_ms);
        let random = if clock.lfu { self.view.random() } else { 0 };
        let Some(mut slot) = self.slot(key) else { return Ok(None) };
        let entry = slot.get();
        entry.set_access(clock.used(entry.access(), random));
        let value = T::of_mut(slot.value_mut()).ok_or(WrongType)?;
        let (soonest, value) = (value.soonest(), NonNull::from(value));
        let saving = self.big(key).is_some();
        Ok(Some(Found { value, saving, soonest }))
    }

    /// Edits the collection at a key, which is made if it is not there. One that stays empty is gone at the end.
    pub fn edit_or_new<'t, T: Collection>(&'t mut self, key: Key<'t>) -> Result<Edit<'t, 'k, T>, WrongType> {
        if let Some(found) = self.find(key)? {
            return Ok(found.edit(self, key));
        }
        self.insert(key, Entry::new(key.bytes, T::empty(), None));
        self.event(EventClasses::NEW, "new", key.bytes);
        match self.find(key)? {
            Some(found) => Ok(found.edit(self, key)),
            None => unreachable!("the key was just made"),
        }
    }
}

/// What an [`Edit`] is made of, of which the transaction may be borrowed again only by making it.
struct Found<T> {
    value: NonNull<T>,
    saving: bool,
    soonest: Option<i64>,
}

impl<T: Collection> Found<T> {
    fn edit<'t, 'k>(self, txn: &'t mut Txn<'k>, key: Key<'t>) -> Edit<'t, 'k, T> {
        let Found { value, saving, soonest } = self;
        Edit { txn, key, value, changed: false, saving, soonest }
    }
}

impl<'k, T: Collection> Edit<'_, 'k, T> {
    fn value(&mut self) -> &mut T {
        // SAFETY: see the module's head; `&mut self` makes this the only reference.
        unsafe { self.value.as_mut() }
    }

    /// To be called before a member or field changes, comes or goes: `now` tells what it is.
    #[inline]
    fn before(&mut self, name: &[u8], now: impl for<'a> FnOnce(&'a T, &'a [u8]) -> Option<Element<'a>>) {
        if self.saving {
            // SAFETY: see the module's head. The element is written and forgotten before anything changes.
            let value = unsafe { self.value.as_ref() };
            if let Some(big) = self.txn.big(self.key) {
                big.before(name, now(value, name));
            }
        }
    }

    /// The transaction's time.
    pub fn now(&self) -> i64 {
        self.txn.now()
    }

    /// A random number.
    pub fn random_number(&self) -> u64 {
        self.txn.random()
    }

    /// Queues a keyspace event for the key.
    pub fn event(&mut self, class: EventClasses, name: &'static str) {
        self.txn.event(class, name, self.key.bytes);
    }

    fn record(&mut self, op: impl FnOnce() -> UndoOp) {
        self.txn.record(self.key, op);
    }

    fn undoable(&self) -> bool {
        self.txn.undo.is_some()
    }

    fn emit_change(&mut self, name: &[u8], args: &[&[u8]]) {
        let db = self.txn.view.db;
        let cx = &mut self.txn.view.cx;
        if cx.env.log_changes {
            cx.changes.push_on(db, name, self.key.bytes, args);
        }
    }

    /// Emits `name key args…`, and marks the key as touched once. The name may be two words: of a container and of its
    /// subcommand.
    fn emit(&mut self, name: &[u8], args: &[&[u8]]) {
        self.emit_change(name, args);
        self.touched();
    }

    /// Emits `name key elements…`, which may join the change before, and marks the key as touched once.
    fn emit_elements(&mut self, name: &'static [u8], elements: &[&[u8]]) {
        let db = self.txn.view.db;
        self.txn.view.cx.emit_elements(db, name, self.key.bytes, elements);
        self.touched();
    }

    fn touched(&mut self) {
        if self.changed {
            self.txn.view.cx.dirty += 1;
        } else {
            self.changed = true;
            self.txn.touched(self.key);
        }
    }
}

impl<T: Collection> Drop for Edit<'_, '_, T> {
    fn drop(&mut self) {
        if (**self).soonest() != self.soonest {
            self.txn.note_field_due(self.key, self.soonest);
        }
        if T::KEEP_EMPTY || !self.deref().is_empty() {
            return;
        }
        if let Some(entry) = self.txn.remove(self.key) {
            self.txn.discard(self.key, entry);
            if self.changed {
                self.txn.event(EventClasses::GENERIC, "del", self.key.bytes);
            }
        }
    }
}

impl Edit<'_, '_, List> {
    /// Chooses the list's form anew; see [`List::pack`]. No change of the data.
    pub fn pack(&mut self) {
        let limits = self.txn.view.cx.env.limits;
        self.value().pack(&limits);
    }

    /// Adds an element at one end.
    pub fn push(&mut self, end: End, item: &[u8]) {
        let limits = self.txn.view.cx.env.limits;
        self.value().push(end, item, &limits);
        let index = if end == End::Front { 0 } else { self.len() - 1 };
        self.record(|| UndoOp::ListInserted { index, count: 1 });
        self.emit_elements(if end == End::Front { b"LPUSH" } else { b"RPUSH" }, &[item]);
    }

    /// Takes an element off one end.
    pub fn pop(&mut self, end: End) -> Option<Vec<u8>> {
        let limits = self.txn.view.cx.env.limits;
        let item = self.value().pop(end, &limits)?;
        let index = if end == End::Front { 0 } else { self.len() };
        if self.undoable() {
            let items = vec![item.clone()];
            self.record(|| UndoOp::ListRemoved { index, items });
        }
        self.emit(if end == End::Front { b"LPOP" } else { b"RPOP" }, &[]);
        Some(item)
    }

    /// Adds the elements of one command at one end, one after another; there must be at least one.
    pub fn push_all(&mut self, end: End, items: &[&[u8]]) {
        let limits = self.txn.view.cx.env.limits;
        self.value().push_all(end, items.iter().copied(), &limits);
        let index = if end == End::Front { 0 } else { self.len() - items.len() };
        self.record(|| UndoOp::ListInserted { index, count: items.len() });
        self.emit_elements(if end == End::Front { b"LPUSH" } else { b"RPUSH" }, items);
        self.txn.view.cx.dirty += items.len() as u64 - 1;
    }

    /// Takes up to `count` elements off one end, each shown to `taken` as it would go. How many.
    pub fn pop_many(&mut self, end: End, count: usize, mut taken: impl FnMut(Str)) -> usize {
        let limits = self.txn.view.cx.env.limits;
        let count = count.min(self.len());
        if count == 0 {
            return 0;
        }
        let index = if end == End::Front { 0 } else { self.len() - count };
        match end {
            End::Front => self.iter().take(count).for_each(&mut taken),
            End::Back => self.iter_rev().take(count).for_each(&mut taken),
        }
        if self.undoable() {
            let items = self.iter_from(index).take(count).map(|item| item.to_vec()).collect();
            self.record(|| UndoOp::ListRemoved { index, items });
        }
        self.value().remove_range(index, count, &limits);
        let mut buffer = itoa::Buffer::new();
        self.emit(if end == End::Front { b"LPOP" } else { b"RPOP" }, &[buffer.format(count).as_bytes()]);
        self.txn.view.cx.dirty += count as u64 - 1;
        count
    }

    /// Replaces the element at an index; the index must be in range.
    pub fn replace(&mut self, index: usize, item: &[u8]) {
        let limits = self.txn.view.cx.env.limits;
        let old = self.value().set(index, item, &limits);
        self.record(|| UndoOp::ListReplaced { index, item: old });
        self.emit(b"LSET", &[itoa::Buffer::new().format(index).as_bytes(), item]);
    }

    /// Puts an element before (or after) the first that equals `pivot`. The place of the pivot, if there is one.
    pub fn insert_beside(&mut self, pivot: &[u8], after: bool, item: &[u8]) -> Option<usize> {
        let limits = self.txn.view.cx.env.limits;
        let place = self.iter().position(|have| have.eq_bytes(pivot))?;
        let index = place + usize::from(after);
        if index == self.len() {
            self.value().push(End::Back, item, &limits);
        } else {
            self.value().insert(index, item, &limits);
        }
        self.record(|| UndoOp::ListInserted { index, count: 1 });
        self.emit(b"LINSERT", &[if after { b"AFTER" } else { b"BEFORE" }, pivot, item]);
        Some(place)
    }

    /// Removes up to `max` elements that equal `item`, from the front or the back. How many.
    pub fn remove_equal(&mut self, item: &[u8], max: usize, end: End) -> usize {
        let limits = self.txn.view.cx.env.limits;
        let mut places: Vec<usize> = match end {
            End::Front => self
                .iter()
                .enumerate()
                .filter(|(_, have)| have.eq_bytes(item))
                .map(|(place, _)| place)
                .take(max)
                .collect(),
            End::Back => {
                let last = self.len() - 1;
                self.iter_rev()
                    .enumerate()
                    .filter(|(_, have)| have.eq_bytes(item))
                    .map(|(place, _)| last - place)
                    .take(max)
                    .collect()
            }
        };
        places.sort_unstable_by(|a, b| b.cmp(a));
        for &index in &places {
            self.value().remove(index, &limits);
            self.record(|| UndoOp::ListRemoved { index, items: vec![item.to_vec()] });
        }
        if !places.is_empty() {
            let count = i64::try_from(places.len()).unwrap_or(i64::MAX);
            let count = if end == End::Front { count } else { -count }.to_string();
            self.emit(b"LREM", &[count.as_bytes(), item]);
        }
        places.len()
    }

    /// Keeps only the elements from `start` to `end` (exclusive).
    pub fn keep_range(&mut self, start: usize, end: usize) {
        let limits = self.txn.view.cx.env.limits;
        let (len, end) = (self.len(), end.max(start));
        for (index, count) in [(end, len.saturating_sub(end)), (0, start.min(len))] {
            if count == 0 {
                continue;
            }
            if self.undoable() {
                let items = self.iter_from(index).take(count).map(|item| item.to_vec()).collect();
                self.record(|| UndoOp::ListRemoved { index, items });
            }
            self.value().remove_range(index, count, &limits);
        }
        if start >= end {
            // LTRIM with an empty range is how an ordinary command removes all.
            self.emit(b"LTRIM", &[b"1", b"0"]);
        } else {
            let (first, last) = (start.to_string(), (end - 1).to_string());
            self.emit(b"LTRIM", &[first.as_bytes(), last.as_bytes()]);
        }
    }
}

impl Edit<'_, '_, Hash> {
    /// Announces that `fields` fields are about to be set; see [`Hash::reserve`].
    pub fn reserve(&mut self, fields: usize) {
        let limits = self.txn.view.cx.env.limits;
        self.value().reserve(fields, &limits);
    }

    /// The value of a live field and when it expires (Unix ms).
    pub fn find(&self, field: &[u8]) -> Option<(Str<'_>, Option<i64>)> {
        self.txn.live(self).find(field)
    }

    /// The value of a live field.
    pub fn get(&self, field: &[u8]) -> Option<Str<'_>> {
        self.find(field).map(|(value, _)| value)
    }

    /// Whether there is such a live field.
    pub fn contains(&self, field: &[u8]) -> bool {
        self.find(field).is_some()
    }

    /// Sets a field, which then lives for ever. Whether it is new.
    pub fn set(&mut self, field: &[u8], text: &[u8]) -> bool {
        self.put(field, text, None)
    }

    /// Sets a field, which keeps its expiry time. Whether it is new.
    pub fn set_keeping_expiry(&mut self, field: &[u8], text: &[u8]) -> bool {
        let at = self.find(field).and_then(|(_, at)| at);
        self.put(field, text, at)
    }

    /// Sets a field and when it expires (Unix ms; `None`: never). Whether it is new.
    pub fn put(&mut self, field: &[u8], text: &[u8], expire_at: Option<i64>) -> bool {
        self.drop_due(field);
        let limits = self.txn.view.cx.env.limits;
        self.before_field(field);
        let undoable = self.undoable();
        let old = self.value().put(field, text, expire_at, &limits, undoable);
        let new = old.is_none();
        self.record(|| UndoOp::Field { field: field.into(), old });
        self.emit_elements(b"HSET", &[field, text]);
        if let Some(at) = expire_at {
            self.emit_change(b"HPEXPIREAT", &[itoa::Buffer::new().format(at).as_bytes(), b"FIELDS", b"1", field]);
        }
        new
    }

    /// Has a live field expire at a Unix time in ms, or live for ever. Whether it is there.
    pub fn set_expiry(&mut self, field: &[u8], expire_at: Option<i64>) -> bool {
        if !self.contains(field) {
            return false;
        }
        let limits = self.txn.view.cx.env.limits;
        self.before_field(field);
        let old = self.value().set_expiry(field, expire_at, &limits);
        self.record(|| UndoOp::Field { field: field.into(), old });
        match expire_at {
            Some(at) => self.emit(b"HPEXPIREAT", &[at.to_string().as_bytes(), b"FIELDS", b"1", field]),
            None => self.emit(b"HPERSIST", &[b"FIELDS", b"1", field]),
        }
        true
    }

    /// Queues a keyspace event for some fields of the hash.
    pub fn field_event<F: AsRef<[u8]>>(&mut self, name: &'static str, fields: impl IntoIterator<Item = F>) {
        let db = self.txn.view.db;
        self.txn.view.cx.field_event(name, db, self.key.bytes, fields);
    }

    /// Removes a live field; its value.
    pub fn remove(&mut self, field: &[u8]) -> Option<Vec<u8>> {
        self.drop_due(field);
        self.before_field(field);
        let (value, at) = self.value().remove(field)?;
        if self.undoable() {
            let old = Some((value.clone(), at));
            self.record(|| UndoOp::Field { field: field.into(), old });
        }
        self.emit_elements(b"HDEL", &[field]);
        Some(value)
    }

    /// To be called before a field changes, comes or goes.
    #[inline]
    fn before_field(&mut self, field: &[u8]) {
        self.before(field, super::field_element);
    }

    /// Removes a field that is due: a hash with many keeps some of them past the first look.
    fn drop_due(&mut self, field: &[u8]) {
        let live = self.txn.live(self);
        if !live.any_due() || live.contains(field) || !(**self).contains(field) {
            return;
        }
        self.before_field(field);
        let old = self.value().remove(field);
        self.record(|| UndoOp::Field { field: field.into(), old });
        self.emit_elements(b"HDEL", &[field]);
        self.field_event("hexpired", [field]);
        self.txn.view.cx.expired_fields += 1;
    }
}

impl Edit<'_, '_, Set> {
    /// Announces that `count` members are about to be added, `first` being the first; see [`Set::reserve`].
    pub fn reserve(&mut self, first: &[u8], count: usize) {
        let limits = self.txn.view.cx.env.limits;
        self.value().reserve(first, count, &limits);
    }

    /// Adds a member, which then lives for ever; one that is there stays as it is. Whether it is new.
    pub fn add(&mut self, member: &[u8]) -> bool {
        let limits = self.txn.view.cx.env.limits;
        self.before_member(member);
        let new = self.value().insert(member, &limits);
        if new {
            self.record(|| UndoOp::Member { member: member.into(), old: None });
            self.emit_elements(b"SADD", &[member]);
        }
        new
    }

    /// Removes a member. Whether it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        self.before_member(member);
        let at = self.expiry(member);
        let had = self.value().remove(member);
        if had {
            self.record(|| UndoOp::Member { member: member.into(), old: Some(at) });
            self.emit_elements(b"SREM", &[member]);
        }
        had
    }

    /// To be called before a member changes, comes or goes.
    #[inline]
    fn before_member(&mut self, member: &[u8]) {
        self.before(member, |set, member| {
            set.contains(member).then(|| Element::Member(Str::Bytes(member), set.expiry(member)))
        });
    }

    /// Takes a random member out.
    pub fn pop_random(&mut self) -> Option<Vec<u8>> {
        let member = self.random(self.random_number())?.to_vec();
        self.remove(&member).then_some(member)
    }
}

impl Edit<'_, '_, ZSet> {
    /// Gives a member a score, and has it live for ever; its old score. If that was so before, nothing happens.
    pub fn put(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let at = self.expiry(member);
        self.put_with_expiry(member, score, at, None)
    }

    /// Gives a member a score; when it expires stays as it is. Its old score.
    pub fn put_keeping_expiry(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let at = self.expiry(member);
        self.put_with_expiry(member, score, at, at)
    }

    fn put_with_expiry(&mut self, member: &[u8], score: f64, old_at: Option<i64>, at: Option<i64>) -> Option<f64> {
        let limits = self.txn.view.cx.env.limits;
        self.before_member(member);
        let old = self.value().insert(member, score, &limits);
        if old_at != at {
            self.value().set_expiry(member, at);
        } else if old == Some(score) {
            return old;
        }
        self.record(|| UndoOp::Score { member: member.into(), old: old.map(|old| (old, old_at)) });
        if self.txn.view.cx.env.log_changes {
            self.emit_elements(b"ZADD", &[&score_text(score), member]);
        } else {
            self.touched();
        }
        if let Some(at) = at {
            self.emit_change(b"ZPEXPIREAT", &[itoa::Buffer::new().format(at).as_bytes(), b"MEMBERS", b"1", member]);
        }
        old
    }

    /// Removes a member; its score.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        self.before_member(member);
        let at = self.expiry(member);
        let old = self.value().remove(member)?;
        self.record(|| UndoOp::Score { member: member.into(), old: Some((old, at)) });
        self.emit_elements(b"ZREM", &[member]);
        Some(old)
    }

    /// To be called before a member changes, comes or goes.
    #[inline]
    fn before_member(&mut self, member: &[u8]) {
        self.before(member, |zset, member| {
            Some(Element::Scored(Str::Bytes(member), zset.score(member)?, zset.expiry(member)))
        });
    }

    /// Removes the members with ranks from `start` to `end` (exclusive). How many.
    pub fn remove_ranks(&mut self, start: usize, end: usize) -> usize {
        let gone = self.take_ranks(start, end);
        for batch in gone.chunks(128) {
            let members: Vec<&[u8]> = batch.iter().map(|member| &member[..]).collect();
            self.emit_elements(b"ZREM", &members);
        }
        gone.len()
    }

    /// Removes up to `count` members with the lowest or highest scores. How many.
    pub fn pop(&mut self, highest: bool, count: usize) -> usize {
        let count = count.min(self.len());
        if count != 0 {
            let start = if highest { self.len() - count } else { 0 };
            self.take_ranks(start, start + count);
            let name: &[u8] = if highest { b"ZPOPMAX" } else { b"ZPOPMIN" };
            self.emit(name, &[itoa::Buffer::new().format(count).as_bytes()]);
            self.txn.view.cx.dirty += count as u64 - 1;
        }
        count
    }

    /// Removes the members with ranks from `start` to `end` (exclusive), and tells nobody.
    fn take_ranks(&mut self, start: usize, end: usize) -> Vec<Vec<u8>> {
        if self.saving {
            // SAFETY: see the module's head. Nothing changes before the loop's end.
            let zset = unsafe { self.value.as_ref() };
            for (member, _) in zset.iter_from_rank(start, false).take(end - start) {
                member.with_bytes(|member| self.before_member(member));
            }
        }
        let mut times = Vec::new();
        if self.undoable() && ZSet::soonest(self).is_some() {
            let at = |(member, _): (Str<'_>, f64)| member.with_bytes(|member| self.expiry(member));
            times.extend(self.iter_from_rank(start, false).take(end - start).map(at));
        }
        let mut gone = Vec::new();
        self.value().remove_rank_range(start, end, |(member, score)| gone.push((member.to_vec(), score)));
        for (index, (member, score)) in gone.iter().enumerate() {
            let old = Some((*score, times.get(index).copied().flatten()));
            self.record(|| UndoOp::Score { member: member[..].into(), old });
        }
        gone.into_iter().map(|(member, _)| member).collect()
    }
}

/// A collection whose members may expire.
pub trait Expiring: Collection {
    /// When a member expires (Unix ms), if it is there: `Some(None)` for never.
    fn find(&self, member: &[u8]) -> Option<Option<i64>>;
}

impl Expiring for Set {
    fn find(&self, member: &[u8]) -> Option<Option<i64>> {
        self.contains(member).then(|| self.expiry(member))
    }
}

impl Expiring for ZSet {
    fn find(&self, member: &[u8]) -> Option<Option<i64>> {
        self.score(member).map(|_| self.expiry(member))
    }
}

/// What the commands about expiry times do to a member.
pub trait EditExpiry {
    /// Has a member expire at a Unix time in ms, or live for ever. Whether it is there.
    fn set_expiry(&mut self, member: &[u8], expire_at: Option<i64>) -> bool;
    /// Removes a member. Whether it was there.
    fn remove_member(&mut self, member: &[u8]) -> bool;
}

impl EditExpiry for Edit<'_, '_, Set> {
    fn set_expiry(&mut self, member: &[u8], expire_at: Option<i64>) -> bool {
        let Some(old) = (**self).find(member) else { return false };
        self.before_member(member);
        self.value().set_expiry(member, expire_at);
        self.record(|| UndoOp::Member { member: member.into(), old: Some(old) });
        self.emit_expiry([b"SPEXPIREAT", b"SPERSIST"], member, expire_at);
        true
    }

    fn remove_member(&mut self, member: &[u8]) -> bool {
        self.remove(member)
    }
}

impl EditExpiry for Edit<'_, '_, ZSet> {
    fn set_expiry(&mut self, member: &[u8], expire_at: Option<i64>) -> bool {
        let (Some(score), old_at) = (self.score(member), self.expiry(member)) else { return false };
        self.before_member(member);
        self.value().set_expiry(member, expire_at);
        self.record(|| UndoOp::Score { member: member.into(), old: Some((score, old_at)) });
        self.emit_expiry([b"ZPEXPIREAT", b"ZPERSIST"], member, expire_at);
        true
    }

    fn remove_member(&mut self, member: &[u8]) -> bool {
        self.remove(member).is_some()
    }
}

impl<T: Expiring> Edit<'_, '_, T> {
    /// Emits that a member expires at a time, or lives for ever.
    fn emit_expiry(&mut self, names: [&[u8]; 2], member: &[u8], expire_at: Option<i64>) {
        match expire_at {
            Some(at) => self.emit(names[0], &[at.to_string().as_bytes(), b"MEMBERS", b"1", member]),
            None => self.emit(names[1], &[b"MEMBERS", b"1", member]),
        }
    }
}

/// Whether WATCH notices a change of a stream: one that makes it or is of its entries, not of its groups and counters.
fn breaks_watches(name: &[u8], args: &[&[u8]]) -> bool {
    let makes_it = name == b"XGROUP CREATE" && args.get(2) == Some(&&b"MKSTREAM"[..]);
    makes_it || [&b"XADD"[..], b"XDEL", b"XTRIM"].contains(&name)
}

/// How an ordinary command trims a stream, or one that has this one's entries and older ones, to what this one holds.
fn trimmed_to(stream: &Stream) -> [String; 3] {
    match stream.iter().next() {
        Some(first) => ["MINID".into(), "=".into(), first.id.to_string()],
        None => ["MAXLEN".into(), "=".into(), "0".into()],
    }
}

/// Takes the commands that a change of a stream stands for: `name, args` of `name key args…`.
pub type Emit<'a> = dyn FnMut(&[u8], &[&[u8]]) + 'a;

/// Emits `name [group] id…`; nothing without ids.
pub fn emit_ids(emit: &mut Emit, name: &[u8], group: Option<&[u8]>, ids: &[StreamId]) {
    if ids.is_empty() {
        return;
    }
    let ids: Vec<String> = ids.iter().map(StreamId::to_string).collect();
    let words: Vec<&[u8]> = group.into_iter().chain(ids.iter().map(|id| id.as_bytes())).collect();
    emit(name, &words);
}

impl Edit<'_, '_, Stream> {
    /// Changes the stream by `operation`, which stands for the command `name key args…`.
    pub fn apply<R>(&mut self, name: &[u8], args: &[&[u8]], operation: impl FnOnce(&mut Stream) -> R) -> R {
        if self.undoable() {
            let image = Box::new((**self).clone());
            self.record(|| UndoOp::Stream(image));
        }
        let result = operation(self.value());
        if breaks_watches(name, args) {
            self.emit(name, args);
        } else {
            self.emit_change(name, args);
            self.txn.view.cx.dirty += 1;
            self.txn.wake(self.key);
        }
        result
    }

    /// Adds an entry, whose id must be above the last, of fields and values by turns, with the mark of a producer if there is
    /// one; then trims. How many entries were trimmed.
    pub fn append(&mut self, id: StreamId, words: &[&[u8]], mark: Option<Mark<'_>>, trim: Option<&Trim>) -> u64 {
        let limits = self.txn.view.cx.env.limits;
        let last_id = self.last_id();
        let image = (self.undoable() && (trim.is_some() || mark.is_some())).then(|| Box::new((**self).clone()));
        self.record(|| match image {
            Some(image) => UndoOp::Stream(image),
            None => UndoOp::StreamAppended { last_id },
        });
        let stream = self.value();
        let added = stream.append(id, words.chunks_exact(2).map(|pair| (pair[0], pair[1])), &limits);
        debug_assert!(added, "the id is above the last");
        let plain = mark.is_none() && trim.is_none_or(|trim| trim.references == References::Keep);
        let trimmed = if plain { trim.map_or(0, |trim| stream.trim(trim).count) } else { 0 };
        if self.txn.view.cx.env.log_changes {
            self.emit_appended(id, words, trimmed != 0);
        }
        self.touched();
        if plain {
            return trimmed;
        }
        // One change says no more than one ordinary command can.
        if let Some(mark) = mark {
            self.mark(id, mark);
        }
        trim.map_or(0, |trim| self.trim(trim))
    }

    /// Emits an XADD, with what the stream was trimmed to, if it was.
    fn emit_appended(&mut self, id: StreamId, words: &[&[u8]], trimmed: bool) {
        let (id_text, kept) = (id.text(), trimmed.then(|| trimmed_to(self)));
        let mut args: SmallVec<[&[u8]; 16]> = SmallVec::with_capacity(words.len() + 4);
        args.extend(kept.iter().flatten().map(|word| word.as_bytes()));
        args.push(&id_text);
        args.extend_from_slice(words);
        self.emit_change(b"XADD", &args);
    }

    /// Notes the mark of a producer on an entry.
    pub fn mark(&mut self, id: StreamId, mark: Mark<'_>) {
        let (limits, now) = (self.txn.view.cx.env.limits, self.now());
        self.apply_quietly(|stream, emit| {
            let first = stream.producers().is_none();
            let producers = stream.producers_mut(&limits);
            producers.insert(mark, id, now);
            if first {
                // The settings may be others where this is read.
                let (seconds, max) = (producers.seconds().to_string(), producers.max().to_string());
                emit(b"XCFGSET", &[b"IDMP-DURATION", seconds.as_bytes(), b"IDMP-MAXSIZE", max.as_bytes()]);
            }
            emit(b"XIDMPRECORD", &[mark.producer, mark.id, id.to_string().as_bytes()]);
        });
    }

    /// Wakes those who wait for the key: there may be something to read though no entry came.
    pub fn wake(&mut self) {
        self.txn.wake(self.key);
    }

    /// Changes the stream by `operation`, which tells itself for which commands that stands (as `name, args` of `name key
    /// args…`; none if nothing changed). Wakes nobody: for changes that bring nothing to read.
    pub fn apply_quietly<R>(&mut self, operation: impl FnOnce(&mut Stream, &mut Emit) -> R) -> R {
        if self.undoable() {
            let image = Box::new((**self).clone());
            self.record(|| UndoOp::Stream(image));
        }
        // SAFETY: see the module's head; emitting and noting a change touch neither entry nor table, so `operation` has the
        // only reference to the stream.
        let stream = unsafe { &mut *self.value.as_ptr() };
        operation(stream, &mut |name, args| {
            self.emit_change(name, args);
            if breaks_watches(name, args) {
                self.txn.changed(self.key);
            } else {
                self.txn.view.cx.dirty += 1;
            }
        })
    }

    /// Removes the oldest entries; how many. Wakes nobody.
    pub fn trim(&mut self, trim: &Trim) -> u64 {
        self.apply_quietly(|stream, emit| {
            let trimmed = stream.trim(trim);
            if !trimmed.deleted.is_empty() {
                emit_ids(emit, b"XDEL", None, &trimmed.deleted);
            } else if trimmed.count != 0 {
                emit(b"XTRIM", &trimmed_to(stream).each_ref().map(|word| word.as_bytes()));
            }
            for (group, ids) in &trimmed.released {
                emit_ids(emit, b"XACK", Some(group), ids);
            }
            trimmed.count
        })
    }

    /// Changes the stream without a change that clients or replicas see (a consumer's seen time).
    pub fn note<R>(&mut self, operation: impl FnOnce(&mut Stream) -> R) -> R {
        operation(self.value())
    }
}
