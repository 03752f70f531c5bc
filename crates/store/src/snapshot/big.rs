//! Values too big for one piece: written in parts, and changed meanwhile.
//!
//! | type | how its state at the instant is kept |
//! |---|---|
//! | hash, set, sorted set | element by element: one that is about to change or go is written first and noted; one that is new is noted; the walk, in the order of the table's scan cursor, leaves out what is noted |
//! | string of up to [`FROZEN_MAX`] | frozen: who changes a string that somebody refers to gets a copy |
//! | longer string | page by page: one that is about to be overwritten is kept aside |
//! | list, stream | frozen: a copy that shares blocks with the value; a shared block is copied when it is changed |
//!
//! When members of a set or sorted set expire stands before all of it, so there are two walks ([`Pass`]): for the times, and for the
//! members. What is about to change is written for both.
//!
//! A value that leaves the keyspace before it is written moves to the snapshot; one that changes its place takes what is being
//! written of it along.
//!
//! Invariant: what the encoder needs about the whole (expiry time, number of elements) is written when the value is first
//! touched after the instant, and nothing of it has changed before.

use super::{Element, Piece, Shared};
use crate::Str;
use crate::entry::EntryRef;
use crate::hasher::hash;
use crate::member::Members;
use crate::stream::StreamId;
use crate::table::is_before;
use crate::value::{Value, ValueRef};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Elements past which a collection is big. Few in tests.
const ELEMENTS: usize = if cfg!(any(test, kelda_model)) { 6 } else { 1024 };
/// Bytes past which a collection is big: several of this size are compressed in much less than a millisecond.
const BYTES: usize = if cfg!(any(test, kelda_model)) { 40 } else { 32 * 1024 };
/// Bytes from which on a string is big: it can be frozen then.
const STRING: usize = if cfg!(any(test, kelda_model)) { 41 } else { crate::long::SHARED_MIN };
/// Bytes up to which a string is frozen: to copy so many because it is changed takes some tenths of a millisecond.
const FROZEN_MAX: usize = 1 << 20;
/// Blocks past which a list is big.
const BLOCKS: usize = if cfg!(any(test, kelda_model)) { 2 } else { 4 };
/// What is kept aside of a string at once.
const PAGE: usize = if cfg!(any(test, kelda_model)) { 16 } else { 64 * 1024 };

/// Bytes of elements written early that are kept together: a little less than a buffer that need not grow any further.
const BUFFER: usize = 64 * 1024 - 512;

/// Whether the value is written in parts. O(1).
pub(crate) fn is_big(value: ValueRef<'_>) -> bool {
    match value {
        ValueRef::String(text) => text.len() >= STRING,
        ValueRef::List(list) => list.chunk_count() > BLOCKS || list.memory_bytes() > BYTES,
        ValueRef::Stream(stream) => stream.len() > ELEMENTS as u64,
        ValueRef::Hash(hash) => {
            hash.encoding() == "hashtable" && (hash.len() > ELEMENTS || hash.memory_bytes() > BYTES)
        }
        ValueRef::Set(set) => set.encoding() == "hashtable" && (set.len() > ELEMENTS || set.memory_bytes() > BYTES),
        ValueRef::ZSet(zset) => zset.encoding() == "skiplist" && (zset.len() > ELEMENTS || zset.memory_bytes() > BYTES),
    }
}

/// A way through a collection: the walk's place, and what was written before the walk came to it.
struct Pass {
    /// Where the walk goes on: a scan cursor, or the number of a page or block; `None` at the end.
    cursor: Option<u64>,
    /// Elements that the walk leaves out when it comes to them; in a table that grows without a pause.
    noted: Members,
    /// What is written and not yet taken by the snapshot, behind what is in `full`.
    bytes: Vec<u8>,
    /// Full buffers: one that grew without end would be copied as a whole now and then.
    full: Vec<Vec<u8>>,
    /// Bytes in `full`.
    full_bytes: usize,
}

impl Pass {
    fn new(bytes: Vec<u8>) -> Pass {
        Pass { cursor: Some(0), noted: Members::new(), bytes, full: Vec::new(), full_bytes: 0 }
    }

    /// An element is about to change, go or come: whether it is still to be written. Notes it.
    fn note(&mut self, name: &[u8]) -> bool {
        self.cursor.is_some_and(|cursor| !is_before(hash(name), cursor)) && self.noted.insert(name)
    }

    /// Something was written early.
    fn wrote(&mut self) {
        if self.bytes.len() >= BUFFER {
            self.full_bytes += self.bytes.capacity();
            self.full.push(std::mem::take(&mut self.bytes));
        }
    }

    /// Takes what is written.
    fn take(&mut self, out: &mut Written) {
        out.append(&mut self.full);
        self.full_bytes = 0;
        out.push(std::mem::take(&mut self.bytes));
    }

    /// Bytes kept.
    fn kept(&self) -> usize {
        self.bytes.capacity() + self.full_bytes + self.noted.memory_bytes()
    }
}

/// Whether the walk, coming from `cursor`, leaves an element out. (A merge of buckets shows elements once more that were seen
/// before the cursor.)
fn is_written(noted: &mut Members, cursor: u64, name: &[u8]) -> bool {
    is_before(hash(name), cursor) || noted.remove(name).is_some()
}

/// What was written of a value, in order: to be put together where nothing is held.
pub(super) type Written = Vec<Vec<u8>>;

/// A big value that is being written.
pub(crate) struct Big {
    pub(super) id: usize,
    shared: Arc<Shared>,
    /// What the snapshot's backlog knows of `memory`.
    counted: usize,
    /// When members expire, if any did at the instant: written before all else.
    times: Option<Pass>,
    /// The value. Begins with the database, unless `times` does, and the value's head.
    elements: Pass,
    /// The value, if it is not in the keyspace (any more).
    pub(super) value: Option<Value>,
    /// Pages of a string as they were.
    pages: BTreeMap<u64, Box<[u8]>>,
    /// Length of a string at the instant.
    len: usize,
    /// Whether `value` is a copy that stays as it is.
    frozen: bool,
    /// When the first field of a hash was due at the instant.
    soonest: Option<i64>,
    /// Where a stream goes on.
    entry: Option<StreamId>,
    /// Bytes of the value, if it is kept for the snapshot alone.
    alone: usize,
}

impl Drop for Big {
    fn drop(&mut self) {
        self.shared.backlog.change(self.counted, 0);
    }
}

impl Big {
    /// Begins to write an entry that belongs to database `db`.
    pub(super) fn new(shared: &Arc<Shared>, db: u32, entry: EntryRef<'_>) -> Big {
        let mut bytes = Vec::new();
        let (mut len, mut soonest, mut timed) = (0, None, false);
        match entry.value() {
            ValueRef::String(text) => len = text.len(),
            ValueRef::Hash(hash) => soonest = hash.soonest(),
            ValueRef::Set(set) => timed = set.soonest().is_some(),
            ValueRef::ZSet(zset) => timed = zset.soonest().is_some(),
            ValueRef::List(_) | ValueRef::Stream(_) => {}
        }
        shared.encoder.database(&mut bytes, db);
        let times = timed.then(|| Pass::new(std::mem::take(&mut bytes)));
        shared.encoder.head(&mut bytes, entry);
        shared.count_key();
        Big {
            id: shared.next_id(),
            shared: shared.clone(),
            counted: 0,
            times,
            elements: Pass::new(bytes),
            value: None,
            pages: BTreeMap::new(),
            len,
            frozen: false,
            soonest,
            entry: None,
            alone: 0,
        }
    }

    /// What the snapshot and the shards know of each other.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether all is written.
    pub(super) fn is_done(&self) -> bool {
        self.elements.cursor.is_none()
    }

    /// Whether a string may be frozen: it is not too long, and as it was.
    pub(super) fn may_freeze(&self, text: &[u8]) -> bool {
        text.len() <= FROZEN_MAX && text.len() == self.len && self.elements.cursor == Some(0) && self.pages.is_empty()
    }

    /// The value will be written from this copy, which stays as it is.
    pub(super) fn freeze(&mut self, value: Value) {
        // Of a collection's copy little is its own.
        self.alone = if let ValueRef::String(text) = value.as_ref() { text.len() } else { 0 };
        (self.value, self.frozen) = (Some(value), true);
        self.count();
    }

    /// The value has left the keyspace.
    pub(super) fn take_value(&mut self, value: Value) {
        self.alone = match value.as_ref() {
            ValueRef::String(text) => text.len(),
            collection => collection.collection_bytes(),
        };
        self.value = Some(value);
        self.count();
    }

    /// Tells the backlog what is kept by now.
    fn count(&mut self) {
        let aside = self.times.as_ref().map_or(0, Pass::kept) + self.pages.len() * PAGE;
        let now = self.elements.kept() + aside + self.alone;
        self.shared.backlog.change(std::mem::replace(&mut self.counted, now), now);
    }

    /// Takes what is written.
    pub(super) fn take_written(&mut self) -> Written {
        let mut written = Vec::new();
        if let Some(times) = &mut self.times {
            times.take(&mut written);
            self.times.take_if(|times| times.cursor.is_none());
        }
        if self.times.is_none() {
            self.elements.take(&mut written);
        }
        self.count();
        written
    }

    /// A member or field is about to change or go (`now` is what it is), or to come. Writes and notes it unless that was
    /// done, or the walk has passed it.
    pub(crate) fn before(&mut self, name: &[u8], now: Option<Element<'_>>) {
        let Big { shared, times, elements, soonest, .. } = self;
        if let Some(times) = times
            && times.note(name)
            && let Some(Element::Member(_, Some(at)) | Element::Scored(_, _, Some(at))) = now
        {
            shared.encoder.times(&mut times.bytes, &[(name.into(), at)]);
            times.wrote();
        }
        if elements.note(name)
            && let Some(element) = now
        {
            shared.encoder.element(&mut elements.bytes, element, *soonest);
            elements.wrote();
        }
        self.count();
    }

    /// The bytes of the string `text` from `from` to `to` are about to be overwritten.
    pub(crate) fn before_overwriting(&mut self, text: &[u8], from: usize, to: usize) {
        let Some(cursor) = self.elements.cursor else { return };
        let text = text.get(..self.len).unwrap_or(text);
        let first = ((from / PAGE) as u64).max(cursor);
        for page in first..to.min(text.len()).div_ceil(PAGE) as u64 {
            self.pages.entry(page).or_insert_with(|| page_of(text, page).into());
        }
        self.count();
    }

    /// Writes the next part of the value.
    pub(super) fn walk(&mut self, value: ValueRef<'_>, piece: Piece) {
        if self.times.is_some() {
            return self.walk_times(value, piece);
        }
        let (mut left, start) = (piece.entries, self.elements.bytes.len());
        while let Some(cursor) = self.elements.cursor
            && left != 0
            && self.elements.bytes.len() - start < piece.bytes
        {
            left -= 1;
            let next = self.walk_on(value, cursor, &mut left);
            self.elements.cursor = (next != 0).then_some(next);
        }
    }

    /// Writes when the next members expire.
    fn walk_times(&mut self, value: ValueRef<'_>, piece: Piece) {
        let Some(Pass { cursor: place, noted, bytes, .. }) = &mut self.times else { return };
        let (mut found, mut left, mut size) = (Vec::new(), piece.entries, 0);
        while let Some(cursor) = *place
            && left != 0
            && size < piece.bytes
        {
            left -= 1;
            let mut time = |name: &[u8], at: Option<i64>| {
                left = left.saturating_sub(1);
                if !is_written(noted, cursor, name)
                    && let Some(at) = at
                {
                    size += name.len() + size_of::<i64>();
                    found.push((name.into(), at));
                }
            };
            let next = match value {
                ValueRef::Set(set) => set.scan_times(cursor, &mut time),
                ValueRef::ZSet(zset) => zset.scan_times(cursor, &mut time),
                // No other has this pass.
                _ => 0,
            };
            *place = (next != 0).then_some(next);
        }
        if !found.is_empty() {
            self.shared.encoder.times(bytes, &found);
        }
    }

    /// Writes what lies at a place; the next place, 0 at the end.
    fn walk_on(&mut self, value: ValueRef<'_>, cursor: u64, left: &mut usize) -> u64 {
        let Big { shared, elements: Pass { bytes, noted, .. }, pages, len, frozen, soonest, entry, .. } = self;
        let (encoder, soonest) = (&*shared.encoder, *soonest);
        let mut element = |name: Str<'_>, element: Element<'_>| {
            *left = left.saturating_sub(1);
            if !name.with_bytes(|name| is_written(noted, cursor, name)) {
                encoder.element(bytes, element, soonest);
            }
        };
        match value {
            ValueRef::Hash(hash) => {
                hash.scan(cursor, 1, |(field, text, at)| element(field, Element::Field(field, text, at)))
            }
            ValueRef::Set(set) => set.scan(cursor, 1, |member| element(member, Element::Member(member, None))),
            ValueRef::ZSet(zset) => {
                zset.scan(cursor, 1, |(member, score)| element(member, Element::Scored(member, score, None)))
            }
            ValueRef::List(list) => {
                if let Some(block) = list.block(cursor as usize) {
                    encoder.element(bytes, Element::Block(block), None);
                }
                (cursor + 1) % list.chunk_count() as u64
            }
            ValueRef::Stream(stream) => {
                *entry = encoder.stream(bytes, stream, *entry);
                u64::from(entry.is_some())
            }
            ValueRef::String(text) if *frozen => {
                encoder.element(bytes, Element::Text(text), None);
                0
            }
            ValueRef::String(text) => {
                if cursor == 0 {
                    encoder.element(bytes, Element::Length(*len), None);
                }
                text.with_bytes(|text| {
                    let kept = pages.remove(&cursor);
                    let page = kept.as_deref().unwrap_or(page_of(text.get(..*len).unwrap_or(text), cursor));
                    encoder.element(bytes, Element::Bytes(page), None);
                });
                (cursor + 1) % len.div_ceil(PAGE) as u64
            }
        }
    }
}

/// A page of a string, as far as there is one.
fn page_of(text: &[u8], page: u64) -> &[u8] {
    let from = (page as usize * PAGE).min(text.len());
    &text[from..(from + PAGE).min(text.len())]
}
