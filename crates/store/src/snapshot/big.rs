//! Values too big for one piece: written in parts, and changed meanwhile.
//!
//! | type | how its state at the instant is kept |
//! |---|---|
//! | hash, set, sorted set | element by element: one that is about to change or go is written first and noted; one that is new is noted; the walk, in the order of the table's scan cursor, leaves out what is noted |
//! | string | page by page: one that is about to be overwritten is kept aside |
//! | list, stream | frozen: a copy that shares blocks with the value; a shared block is copied when it is changed |
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
use crate::table::is_before;
use crate::value::{Value, ValueRef};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Elements past which a collection is big. Few in tests.
const ELEMENTS: usize = if cfg!(any(test, kelda_model)) { 6 } else { 4096 };
/// Bytes past which any value is big.
const BYTES: usize = if cfg!(any(test, kelda_model)) { 40 } else { 256 * 1024 };
/// Blocks past which a list is big: some hundred KiB.
const BLOCKS: usize = if cfg!(any(test, kelda_model)) { 2 } else { 32 };
/// What is kept aside of a string at once.
const PAGE: usize = if cfg!(any(test, kelda_model)) { 16 } else { 64 * 1024 };

/// Bytes of elements written early that are kept together: a little less than a buffer that need not grow any further.
const BUFFER: usize = 64 * 1024 - 512;

/// Whether the value is written in parts. O(1). A set or sorted set with members that expire is not: its form needs a
/// look at all of them first.
pub(crate) fn is_big(value: ValueRef<'_>) -> bool {
    match value {
        ValueRef::String(text) => text.len() > BYTES,
        ValueRef::List(list) => list.chunk_count() > BLOCKS,
        ValueRef::Stream(stream) => stream.len() > ELEMENTS as u64,
        ValueRef::Hash(hash) => {
            hash.encoding() == "hashtable" && (hash.len() > ELEMENTS || hash.memory_bytes() > BYTES)
        }
        ValueRef::Set(set) => {
            set.encoding() == "hashtable"
                && set.soonest().is_none()
                && (set.len() > ELEMENTS || set.memory_bytes() > BYTES)
        }
        ValueRef::ZSet(zset) => {
            zset.encoding() == "skiplist"
                && zset.soonest().is_none()
                && (zset.len() > ELEMENTS || zset.memory_bytes() > BYTES)
        }
    }
}

/// A big value that is being written.
pub(crate) struct Big {
    pub(super) id: usize,
    shared: Arc<Shared>,
    /// What the snapshot's backlog knows of `memory`.
    counted: usize,
    /// Bytes in `full`.
    full_bytes: usize,
    /// What is written and not yet taken by the snapshot, behind what is in `full`. Begins with the database and the value's
    /// head.
    bytes: Vec<u8>,
    /// Full buffers: one that grew without end would be copied as a whole now and then.
    full: Vec<Vec<u8>>,
    /// Where the walk goes on: a scan cursor, or the number of a page or block; `None` at the end.
    pub(super) cursor: Option<u64>,
    /// The value, if it is not in the keyspace (any more).
    pub(super) value: Option<Value>,
    /// Elements that the walk leaves out when it comes to them; in a table that grows without a pause.
    noted: Members,
    /// Pages of a string as they were.
    pages: BTreeMap<u64, Box<[u8]>>,
    /// Length of a string at the instant.
    len: usize,
    /// When the first field of a hash was due at the instant.
    soonest: Option<i64>,
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
        let (len, soonest) = match entry.value() {
            ValueRef::String(text) => (text.len(), None),
            ValueRef::Hash(hash) => (0, hash.soonest()),
            _ => (0, None),
        };
        shared.encoder.database(&mut bytes, db);
        shared.encoder.head(&mut bytes, entry);
        shared.count_key();
        Big {
            id: shared.next_id(),
            shared: shared.clone(),
            counted: 0,
            full_bytes: 0,
            bytes,
            full: Vec::new(),
            cursor: Some(0),
            value: None,
            noted: Members::new(),
            pages: BTreeMap::new(),
            len,
            soonest,
            alone: 0,
        }
    }

    /// What the snapshot and the shards know of each other.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
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
        let aside = self.noted.memory_bytes() + self.pages.len() * PAGE;
        let now = self.bytes.capacity() + self.full_bytes + aside + self.alone;
        self.shared.backlog.change(std::mem::replace(&mut self.counted, now), now);
    }

    /// Takes what is written.
    pub(super) fn take_written(&mut self, out: &mut Vec<u8>) {
        self.full.drain(..).for_each(|buffer| out.extend_from_slice(&buffer));
        self.full_bytes = 0;
        out.append(&mut self.bytes);
        self.count();
    }

    /// A member or field is about to change or go (`now` is what it is), or to come. Writes and notes it unless that was
    /// done, or the walk has passed it.
    pub(crate) fn before(&mut self, name: &[u8], now: Option<Element<'_>>) {
        if self.cursor.is_none_or(|cursor| is_before(hash(name), cursor)) || !self.noted.insert(name) {
            return;
        }
        if let Some(element) = now {
            self.shared.encoder.element(&mut self.bytes, element, self.soonest);
            if self.bytes.len() >= BUFFER {
                self.full_bytes += self.bytes.capacity();
                self.full.push(std::mem::take(&mut self.bytes));
            }
        }
        self.count();
    }

    /// The bytes of the string `text` from `from` to `to` are about to be overwritten.
    pub(crate) fn before_overwriting(&mut self, text: &[u8], from: usize, to: usize) {
        let Some(cursor) = self.cursor else { return };
        let text = text.get(..self.len).unwrap_or(text);
        let first = ((from / PAGE) as u64).max(cursor);
        for page in first..to.min(text.len()).div_ceil(PAGE) as u64 {
            self.pages.entry(page).or_insert_with(|| page_of(text, page).into());
        }
        self.count();
    }

    /// Writes the next part of the value.
    pub(super) fn walk(&mut self, value: ValueRef<'_>, piece: Piece) {
        let (mut left, start) = (piece.entries, self.bytes.len());
        while let Some(cursor) = self.cursor
            && left != 0
            && self.bytes.len() - start < piece.bytes
        {
            left -= 1;
            let next = self.walk_on(value, cursor, &mut left);
            self.cursor = (next != 0).then_some(next);
        }
    }

    /// Writes what lies at a place; the next place, 0 at the end.
    fn walk_on(&mut self, value: ValueRef<'_>, cursor: u64, left: &mut usize) -> u64 {
        let Big { shared, bytes, noted, pages, len, soonest, .. } = self;
        let (encoder, soonest) = (&*shared.encoder, *soonest);
        let mut element = |name: Str<'_>, element: Element<'_>| {
            *left = left.saturating_sub(1);
            // A merge of buckets shows elements once more that were seen before the cursor.
            let passed = name.with_bytes(|name| is_before(hash(name), cursor) || noted.remove(name).is_some());
            if !passed {
                encoder.element(bytes, element, soonest);
            }
        };
        match value {
            ValueRef::Hash(hash) => {
                hash.scan(cursor, 1, |(field, text, at)| element(field, Element::Field(field, text, at)))
            }
            ValueRef::Set(set) => set.scan(cursor, 1, |member| element(member, Element::Member(member))),
            ValueRef::ZSet(zset) => {
                zset.scan(cursor, 1, |(member, score)| element(member, Element::Scored(member, score)))
            }
            ValueRef::List(list) => {
                if let Some(block) = list.block(cursor as usize) {
                    encoder.element(bytes, Element::Block(block), None);
                }
                (cursor + 1) % list.chunk_count() as u64
            }
            ValueRef::Stream(stream) => {
                encoder.element(bytes, Element::Stream(stream), None);
                0
            }
            ValueRef::String(text) => {
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
