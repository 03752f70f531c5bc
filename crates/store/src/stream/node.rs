//! A packed node of a stream: some entries in one block, their ids as differences, field names written once.
//!
//! The node has a base id, kept by its owner, and the field names of the entry with which it began.
//!
//! Block: the field names (count, elements), then the entries. An entry: bytes of the rest (LEB128); the difference of
//! its milliseconds from the base (LEB128); its sequence number, less the base's if the milliseconds are the base's
//! (LEB128); the number of its fields plus one (LEB128), or 0 if they are the node's; its values, each behind its field
//! unless the fields are the node's.
//! An element: twice its length (LEB128) and its bytes; or, for the canonical text of an integer, twice the number of
//! its bytes plus one, and the bytes (little endian, the fewest that hold it).
//!
//! Only this module writes blocks, so reading one can rely on its form.

use super::StreamId;
use crate::{Limits, Str, str::parse_int};
use smallvec::SmallVec;
use std::iter::FusedIterator;

/// A packed node; see the module.
#[derive(Clone)]
pub(super) struct Node {
    block: Vec<u8>,
    /// Entries in the block.
    entries: u32,
    /// Entries ever written: as in Redis, deleting does not make room for others.
    written: u32,
    /// Where the entries start.
    start: u32,
}

/// Bytes of a block, at most, whatever the limits: 1 GiB as in Redis. A single entry may be larger.
const BLOCK_MAX: usize = 1 << 30;

/// An entry of a stream.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Its id.
    pub id: StreamId,
    /// Its fields and values.
    pub fields: Fields<'a>,
}

/// The fields of an entry with their values, in the order in which they were given.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    /// The node's field names, if the entry shares them.
    names: Option<Reader<'a>>,
    body: Reader<'a>,
    left: usize,
}

/// A place in a block.
#[derive(Clone, Copy, Debug)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    #[inline]
    fn number(&mut self) -> u64 {
        let (mut n, mut shift) = (0, 0);
        loop {
            let byte = self.take(1)[0];
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return n;
            }
            shift += 7;
        }
    }

    #[inline]
    fn element(&mut self) -> Str<'a> {
        let head = self.number();
        let bytes = self.take((head >> 1) as usize);
        if head & 1 == 0 {
            return Str::Bytes(bytes);
        }
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let unused = 64 - 8 * bytes.len() as u32;
        Str::Int(i64::from_le_bytes(wide) << unused >> unused)
    }
}

fn put_number(block: &mut impl Extend<u8>, mut n: u64) {
    while n >= 0x80 {
        block.extend([n as u8 | 0x80]);
        n >>= 7;
    }
    block.extend([n as u8]);
}

fn put_element(block: &mut Vec<u8>, element: &[u8]) {
    match parse_int(element) {
        Some(n) => {
            let sign_bits = if n < 0 { n.leading_ones() } else { n.leading_zeros() };
            let width = (65 - sign_bits as usize).div_ceil(8);
            put_number(block, width as u64 * 2 + 1);
            block.extend_from_slice(&n.to_le_bytes()[..width]);
        }
        None => {
            put_number(block, element.len() as u64 * 2);
            block.extend_from_slice(element);
        }
    }
}

impl Node {
    /// A node without entries that shares the names of these fields.
    pub(super) fn new(fields: &[(&[u8], &[u8])]) -> Node {
        let mut block = Vec::new();
        put_number(&mut block, fields.len() as u64);
        for (field, _) in fields {
            put_element(&mut block, field);
        }
        match u32::try_from(block.len()) {
            Ok(start) => Node { block, entries: 0, written: 0, start },
            // Names too long to share: no entry has the same.
            Err(_) => Node { block: vec![0], entries: 0, written: 0, start: 1 },
        }
    }

    /// Whether an entry with these fields still belongs into this node.
    pub(super) fn has_room(&self, fields: &[(&[u8], &[u8])], limits: &Limits) -> bool {
        let bytes_max = match limits.stream_node_bytes_max {
            0 => BLOCK_MAX,
            max => max.min(BLOCK_MAX),
        };
        let entries_max = match limits.stream_node_entries_max {
            0 => u32::MAX as usize,
            max => max.min(u32::MAX as usize),
        };
        let bytes: usize = fields.iter().map(|(field, value)| field.len() + value.len()).sum();
        self.block.len() + bytes < bytes_max && (self.written as usize) < entries_max
    }

    /// Adds an entry, whose id is above all others in the node.
    pub(super) fn push(&mut self, base: StreamId, id: StreamId, fields: &[(&[u8], &[u8])]) {
        let shared = self.shares_names(fields);
        let start = self.block.len();
        let block = &mut self.block;
        // The length of the rest, in the one byte that it mostly takes.
        block.push(0);
        let ms = id.ms - base.ms;
        put_number(block, ms);
        put_number(block, if ms == 0 { id.seq - base.seq } else { id.seq });
        put_number(block, if shared { 0 } else { fields.len() as u64 + 1 });
        for (field, value) in fields {
            if !shared {
                put_element(block, field);
            }
            put_element(block, value);
        }
        let len = block.len() - start - 1;
        if len < 0x80 {
            block[start] = len as u8;
        } else {
            let mut long = SmallVec::<[u8; 10]>::new();
            put_number(&mut long, len as u64);
            block.splice(start..=start, long);
        }
        self.entries += 1;
        self.written += 1;
    }

    fn shares_names(&self, fields: &[(&[u8], &[u8])]) -> bool {
        let mut names = self.names();
        names.number() == fields.len() as u64
            && fields.iter().all(|(field, _)| names.element().with_bytes(|name| name == *field))
    }

    fn names(&self) -> Reader<'_> {
        Reader(&self.block[..self.start as usize])
    }

    /// Number of entries.
    pub(super) fn len(&self) -> u64 {
        u64::from(self.entries)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.block.capacity()
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.block.shrink_to_fit();
    }

    /// The entries in order, or in reverse order.
    pub(super) fn iter(&self, base: StreamId, reverse: bool) -> Iter<'_> {
        let mut at = self.start as usize;
        let mut back = None;
        if reverse {
            let mut places = Vec::with_capacity(self.entries as usize);
            while at < self.block.len() {
                places.push(at);
                at = self.body(at).1;
            }
            back = Some(places);
        }
        Iter { node: self, base, at, back }
    }

    /// The body of the entry at `at`, and where the next entry starts.
    fn body(&self, at: usize) -> (Reader<'_>, usize) {
        let mut reader = Reader(&self.block[at..]);
        let len = reader.number() as usize;
        let body = Reader(reader.take(len));
        (body, self.block.len() - reader.0.len())
    }

    fn entry(&self, base: StreamId, at: usize) -> (Entry<'_>, usize) {
        let (mut body, next) = self.body(at);
        let ms = body.number();
        let seq = body.number();
        let id = StreamId { ms: base.ms + ms, seq: if ms == 0 { base.seq + seq } else { seq } };
        let (names, left) = match body.number() {
            0 => {
                let mut names = self.names();
                let count = names.number();
                (Some(names), count)
            }
            more => (None, more - 1),
        };
        (Entry { id, fields: Fields { names, body, left: left as usize } }, next)
    }

    /// Deletes the entry `id`; whether it was there.
    pub(super) fn delete(&mut self, base: StreamId, id: StreamId) -> bool {
        let mut at = self.start as usize;
        while at < self.block.len() {
            let (entry, next) = self.entry(base, at);
            if entry.id >= id {
                let found = entry.id == id;
                if found {
                    self.cut(at, next);
                    self.entries -= 1;
                }
                return found;
            }
            at = next;
        }
        false
    }

    /// Deletes the entry `id`, the last, as if it had never been written; whether it was there.
    pub(super) fn take_back(&mut self, base: StreamId, id: StreamId) -> bool {
        let was_there = self.delete(base, id);
        self.written -= u32::from(was_there);
        was_there
    }

    /// How many entries have an id below `id`.
    pub(super) fn count_below(&self, base: StreamId, id: StreamId) -> u64 {
        self.iter(base, false).take_while(|entry| entry.id < id).count() as u64
    }

    /// Removes the first `count` entries.
    pub(super) fn remove_first(&mut self, count: u64) {
        let start = self.start as usize;
        let end = (0..count).fold(start, |at, _| self.body(at).1);
        self.cut(start, end);
        self.entries -= count as u32;
    }

    /// Takes the bytes `from..to` out of the block, and gives memory back now and then.
    fn cut(&mut self, from: usize, to: usize) {
        self.block.drain(from..to);
        if self.block.len() < self.block.capacity() / 2 {
            self.block.shrink_to_fit();
        }
    }
}

/// The entries of a node in one direction.
pub(super) struct Iter<'a> {
    node: &'a Node,
    base: StreamId,
    at: usize,
    /// Reverse order only: the places still to visit, the next one last. Blocks can be walked only forward.
    back: Option<Vec<usize>>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let at = match &mut self.back {
            Some(places) => places.pop()?,
            None if self.at < self.node.block.len() => self.at,
            None => return None,
        };
        let (entry, next) = self.node.entry(self.base, at);
        self.at = next;
        Some(entry)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Str<'a>, Str<'a>);

    fn next(&mut self) -> Option<(Str<'a>, Str<'a>)> {
        self.left = self.left.checked_sub(1)?;
        let field = match &mut self.names {
            Some(names) => names.element(),
            None => self.body.element(),
        };
        Some((field, self.body.element()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Fields<'_> {}
impl FusedIterator for Fields<'_> {}
