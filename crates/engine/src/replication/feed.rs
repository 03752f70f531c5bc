//! The feed: the bytes that all replicas get, one after the other, numbered from the beginning of the history.
//!
//! The last of them are kept for replicas that come back (the backlog), older ones only while a replica still has to get them.
//! Invariant: what is kept is a gapless piece of the history that ends at its end.

use kelda_store::txn::{Changes, Unit};
use std::collections::VecDeque;

/// Bytes that a block of the history has room for, if no single piece is larger.
const BLOCK_BYTES: usize = 64 << 10;

struct Block {
    /// How much of the history comes before it.
    start: u64,
    bytes: Vec<u8>,
}

impl Block {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// A history of commands, or the end of it.
#[derive(Default)]
pub struct Feed {
    blocks: VecDeque<Block>,
    /// Memory that the blocks take.
    room: usize,
    end: u64,
    /// The database that whoever has read all is in, if that is known.
    db: Option<u32>,
}

impl Feed {
    /// Length of the history in bytes.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// How much of the history is not kept any more.
    pub fn start(&self) -> u64 {
        self.blocks.front().map_or(self.end, |block| block.start)
    }

    /// Memory in use.
    pub fn memory_bytes(&self) -> usize {
        self.room
    }

    /// Somebody begins to read here, in no particular database.
    pub fn begin_reader(&mut self) {
        self.db = None;
    }

    /// Begins anew: what comes next is at this place of another history.
    pub fn restart(&mut self, end: u64) {
        self.forget();
        self.end = end;
    }

    /// Adds bytes of another server's history.
    pub fn pass(&mut self, bytes: &[u8]) {
        self.put(bytes);
        self.db = None;
    }

    /// Forgets what is kept. The history goes on.
    pub fn forget(&mut self) {
        self.blocks.clear();
        self.room = 0;
        self.db = None;
    }

    /// Forgets what lies wholly before this place.
    pub fn forget_before(&mut self, place: u64) {
        while let Some(block) = self.blocks.pop_front_if(|block| block.end() <= place) {
            self.room -= block.bytes.capacity();
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        let room = |block: &Block| block.bytes.capacity() - block.bytes.len() >= bytes.len();
        if !self.blocks.back().is_some_and(room) {
            let room = bytes.len().max(BLOCK_BYTES);
            let block = Block { start: self.end, bytes: Vec::with_capacity(room) };
            self.room += block.bytes.capacity();
            self.blocks.push_back(block);
        }
        if let Some(block) = self.blocks.back_mut() {
            block.bytes.extend_from_slice(bytes);
            self.end += bytes.len() as u64;
        }
    }

    fn select(&mut self, db: u32) {
        if self.db != Some(db) {
            self.command(&[b"SELECT", itoa::Buffer::new().format(db).as_bytes()]);
            self.db = Some(db);
        }
    }

    /// Adds a command that is of no database.
    pub fn command(&mut self, words: &[&[u8]]) {
        let mut bytes = Vec::with_capacity(words.iter().map(|word| word.len() + 16).sum::<usize>() + 16);
        kelda_resp::encode_command(&mut bytes, words);
        self.put(&bytes);
    }

    /// Adds a command of a database.
    pub fn command_in(&mut self, db: u32, words: &[&[u8]]) {
        self.select(db);
        self.command(words);
    }

    /// Adds what a transaction changed, as Redis does: MULTI and EXEC around more than one command of a unit. `published` are
    /// commands that belong to its first unit and change nothing, in database `db`.
    pub fn transaction(&mut self, changes: &Changes, published: &[[&[u8]; 3]], db: u32) {
        let mut published = published;
        let mut empty = published.is_empty();
        for unit in changes.units() {
            self.unit(Some(unit), std::mem::take(&mut published), db);
            empty = true;
        }
        if !empty {
            self.unit(None, published, db);
        }
    }

    fn unit(&mut self, unit: Option<Unit>, published: &[[&[u8]; 3]], db: u32) {
        let together = unit.map_or(0, |unit| unit.len) + published.len() > 1;
        if together {
            self.put(b"*1\r\n$5\r\nMULTI\r\n");
        }
        if let Some(unit) = unit {
            self.select(unit.first_db);
            self.put(unit.body);
            self.db = Some(unit.last_db);
        }
        published.iter().for_each(|words| self.command_in(db, words));
        if together {
            self.put(b"*1\r\n$4\r\nEXEC\r\n");
        }
    }

    /// Appends to `out` up to `max` bytes that begin at this place; how many.
    pub fn copy(&self, place: u64, max: usize, out: &mut Vec<u8>) -> usize {
        let first = self.blocks.partition_point(|block| block.end() <= place);
        let mut copied = 0;
        for block in self.blocks.iter().skip(first) {
            // The first block begins at or before the place, the others at or before what was copied.
            let from = (place + copied as u64 - block.start) as usize;
            let bytes = block.bytes.get(from..).unwrap_or_default();
            let bytes = &bytes[..bytes.len().min(max - copied)];
            out.extend_from_slice(bytes);
            copied += bytes.len();
            if copied == max {
                break;
            }
        }
        copied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(feed: &Feed, place: u64) -> String {
        let mut out = Vec::new();
        feed.copy(place, usize::MAX, &mut out);
        let text = String::from_utf8_lossy(&out).into_owned();
        let words = text.split("\r\n").filter(|part| !part.starts_with(['*', '$']) || part.is_empty());
        words.collect::<Vec<_>>().join(" ").trim_end().to_string()
    }

    #[test]
    fn transactions_are_told_as_redis_tells_them() {
        let mut feed = Feed::default();
        let mut changes = Changes::default();
        changes.push(2, &[b"SET", b"a", b"1"]);
        feed.transaction(&changes, &[], 0);
        changes.push(2, &[b"SET", b"b", b"1"]);
        changes.begin_unit();
        changes.push(3, &[b"DEL", b"c"]);
        feed.transaction(&changes, &[], 0);
        assert_eq!(text(&feed, 0), "SELECT 2 SET a 1 MULTI SET a 1 SET b 1 EXEC SELECT 3 DEL c");
        let place = feed.end();
        changes.clear();
        feed.transaction(&changes, &[[b"PUBLISH", b"c", b"m"]], 3);
        changes.push(0, &[b"SET", b"a", b"1"]);
        feed.transaction(&changes, &[[b"PUBLISH", b"c", b"m"]], 0);
        assert_eq!(text(&feed, place), "PUBLISH c m MULTI SELECT 0 SET a 1 PUBLISH c m EXEC");
        feed.begin_reader();
        let place = feed.end();
        feed.command(&[b"PING"]);
        feed.transaction(&changes, &[], 0);
        assert_eq!(text(&feed, place), "PING SELECT 0 SET a 1");
    }

    #[test]
    fn what_is_old_is_forgotten_in_blocks() {
        let mut feed = Feed::default();
        for number in 0..40u8 {
            feed.put(&vec![number; 10_000]);
        }
        assert_eq!((feed.start(), feed.end()), (0, 400_000));
        feed.forget_before(123_456);
        assert_eq!(feed.start(), 120_000);
        for place in [120_000, 123_456, 179_999, 180_000, 399_999, 400_000] {
            let mut out = Vec::new();
            assert_eq!(feed.copy(place, usize::MAX, &mut out), 400_000 - place as usize);
            let want: Vec<u8> = (place..400_000).map(|place| (place / 10_000) as u8).collect();
            assert_eq!(out, want);
            out.clear();
            assert_eq!(feed.copy(place, 7, &mut out), want.len().min(7));
        }
        feed.put(&vec![1; 1 << 20]);
        feed.forget();
        assert_eq!((feed.start(), feed.end(), feed.memory_bytes()), (1_448_576, 1_448_576, 0));
    }
}
