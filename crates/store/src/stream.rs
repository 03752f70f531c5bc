//! The stream type: entries in the order of their ids, and consumer groups that read them.
//!
//! Entries lie in packed nodes (`node`) in a map by the id with which each node began. A node that loses its last entry
//! goes. A clone shares nodes and groups with the original until
//! either changes them, so that it costs little. Counters and their rules (`entries_added`, `max_deleted_id`, a group's lag) are Redis's.
//!
//! Times are milliseconds since the Unix epoch and come in as arguments.

mod group;
mod node;
mod producers;
mod rebuild;
#[cfg(test)]
mod tests;
mod trim;

pub use group::{Actor, Claim, Claimed, Consumer, Group, Holder, Pending};
pub use node::{Entry, Fields};
pub use producers::{Mark, Producers};
pub use trim::{Keep, References, Trim, Trimmed};

use crate::Limits;
use crate::shared_map::{self, SharedMap};
use node::Node;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Room for an id's text: two numbers of at most twenty digits, and a dash.
const TEXT_BYTES: usize = 64;

/// The id of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Unix time in milliseconds, as a rule.
    pub ms: u64,
    /// Distinguishes the entries of one millisecond.
    pub seq: u64,
}

impl StreamId {
    /// 0-0, which no entry has.
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    /// The highest id.
    pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };

    /// The id `ms`-`seq`.
    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// Its text, `ms-seq`: what `Display` says, for where that is too slow.
    pub fn text(self) -> SmallVec<[u8; TEXT_BYTES]> {
        let mut text = SmallVec::new();
        text.extend_from_slice(itoa::Buffer::new().format(self.ms).as_bytes());
        text.push(b'-');
        text.extend_from_slice(itoa::Buffer::new().format(self.seq).as_bytes());
        text
    }

    /// The id that follows this one.
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { ms: self.ms, seq }),
            None => self.ms.checked_add(1).map(|ms| StreamId { ms, seq: 0 }),
        }
    }

    /// The id that this one follows.
    pub fn previous(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { ms: self.ms, seq }),
            None => self.ms.checked_sub(1).map(|ms| StreamId { ms, seq: u64::MAX }),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// Nodes by the id with which each began, which is not above any entry's in it.
type Nodes = SharedMap<StreamId, Arc<Node>>;

/// What the position of a consumer group is judged by.
struct Counters {
    len: u64,
    first_id: StreamId,
    last_id: StreamId,
    max_deleted_id: StreamId,
    entries_added: u64,
}

/// A stream.
#[derive(Clone, Default)]
pub struct Stream {
    nodes: Nodes,
    len: u64,
    last_id: StreamId,
    max_deleted_id: StreamId,
    entries_added: u64,
    groups: BTreeMap<Box<[u8]>, Arc<Group>>,
    producers: Option<Arc<Producers>>,
}

const _: () = {
    const fn send<T: Send + Sync>() {}
    send::<Stream>();
};

impl Stream {
    /// A stream without entries.
    pub fn new() -> Stream {
        Stream::default()
    }

    /// Number of entries.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no entry. Such a stream is still a value: its ids and groups live on.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The id of the first entry; 0-0 if there is none.
    pub fn first_id(&self) -> StreamId {
        self.iter().next().map_or(StreamId::MIN, |entry| entry.id)
    }

    /// The highest id ever given; new ids must be above.
    pub fn last_id(&self) -> StreamId {
        self.last_id
    }

    /// The highest id that was deleted (not trimmed); 0-0 if none was.
    pub fn max_deleted_id(&self) -> StreamId {
        self.max_deleted_id
    }

    /// Number of entries ever added.
    pub fn entries_added(&self) -> u64 {
        self.entries_added
    }

    /// Sets the id that new ones must be above. The caller checks that it is not below the last entry's.
    pub fn set_last_id(&mut self, id: StreamId) {
        self.last_id = id;
    }

    /// Sets the highest deleted id.
    pub fn set_max_deleted_id(&mut self, id: StreamId) {
        self.max_deleted_id = id;
    }

    /// Sets the number of entries ever added.
    pub fn set_entries_added(&mut self, entries_added: u64) {
        self.entries_added = entries_added;
    }

    /// Number of packed nodes, for XINFO STREAM.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Adds an entry, if `id` is above the last id; else nothing changes, and the result is false.
    pub fn append<'f>(
        &mut self,
        id: StreamId,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
        limits: &Limits,
    ) -> bool {
        if id <= self.last_id {
            return false;
        }
        let fields: SmallVec<[(&[u8], &[u8]); 8]> = fields.into_iter().collect();
        match self.nodes.last_mut() {
            Some((base, last)) if last.has_room(&fields, limits) => Arc::make_mut(last).push(base, id, &fields),
            last => {
                if let Some((_, last)) = last {
                    Arc::make_mut(last).shrink_to_fit();
                }
                let mut node = Node::new(&fields);
                node.push(id, id, &fields);
                self.nodes.insert(id, Arc::new(node));
            }
        }
        self.len += 1;
        self.entries_added += 1;
        self.last_id = id;
        true
    }

    /// Takes the last entry back as if it had never been added, when the last id was `last_id`. O(log n).
    pub fn take_back(&mut self, last_id: StreamId) {
        if let Some((base, node)) = self.nodes.last_mut() {
            let node = Arc::make_mut(node);
            if node.take_back(base, self.last_id) {
                self.len -= 1;
                self.entries_added -= 1;
            }
            if node.is_empty() {
                self.nodes.remove(&base);
            }
        }
        self.last_id = last_id;
    }

    /// The entry `id`. O(log n).
    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.range(id, id, false).next()
    }

    /// All entries in order.
    pub fn iter(&self) -> Range<'_> {
        self.range(StreamId::MIN, StreamId::MAX, false)
    }

    /// The entries with ids from `start` to `end` inclusive, in order, or in reverse order. O(log n) to start.
    pub fn range(&self, start: StreamId, end: StreamId, reverse: bool) -> Range<'_> {
        range(&self.nodes, start, end, reverse)
    }

    fn counters(&self) -> Counters {
        let Stream { len, last_id, max_deleted_id, entries_added, .. } = *self;
        Counters { len, first_id: self.first_id(), last_id, max_deleted_id, entries_added }
    }

    /// Deletes the entry `id`; whether it was there. O(log n).
    pub fn delete(&mut self, id: StreamId) -> bool {
        let Some((base, node)) = self.nodes.floor_mut(&id) else {
            return false;
        };
        if !Arc::make_mut(node).delete(base, id) {
            return false;
        }
        if node.is_empty() {
            self.nodes.remove(&base);
        }
        self.len -= 1;
        self.max_deleted_id = self.max_deleted_id.max(id);
        true
    }

    /// Bytes on the heap; of groups an estimate. O(n / 100).
    pub fn memory_bytes(&self) -> usize {
        let node = |node: &Arc<Node>| node.memory_bytes() + size_of::<(StreamId, Node)>() + 3 * size_of::<usize>();
        let group = |(name, group): (&[u8], &Group)| name.len() + size_of::<Group>() + group.memory_bytes();
        size_of::<Stream>()
            + self.nodes.iter().map(|(_, each)| node(each)).sum::<usize>()
            + self.groups().map(group).sum::<usize>()
            + self.producers.as_ref().map_or(0, |producers| producers.memory_bytes())
    }

    /// Frees about `n` entries or pending entries of a stream that is to be dropped, so that a large one goes in small
    /// steps; whether nothing is left.
    pub fn free_some(&mut self, n: usize) -> bool {
        let mut freed = 0;
        while freed < n {
            if let Some((base, node)) = self.nodes.last_mut() {
                self.len -= node.len();
                freed += node.len() as usize;
                self.nodes.remove(&base);
            } else if let Some(mut group) = self.groups.first_entry() {
                // What a clone shares is the clone's to free.
                let some = Arc::get_mut(group.get_mut()).map_or(0, |group| group.free_some(n - freed));
                if some == 0 {
                    group.remove();
                }
                freed += some.max(1);
            } else {
                return true;
            }
        }
        self.nodes.is_empty() && self.groups.is_empty()
    }
}

fn range(nodes: &Nodes, start: StreamId, end: StreamId, reverse: bool) -> Range<'_> {
    let nodes = if start <= end {
        let from = nodes.floor(&start).map_or(start, |(base, _)| *base);
        nodes.range(from..=end)
    } else {
        shared_map::Range::default()
    };
    Range { nodes, node: None, start, end, reverse }
}

/// Entries with ids between two bounds, in one direction.
pub struct Range<'a> {
    nodes: shared_map::Range<'a, StreamId, Arc<Node>>,
    node: Option<node::Iter<'a>>,
    start: StreamId,
    end: StreamId,
    reverse: bool,
}

impl<'a> Iterator for Range<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            for entry in self.node.iter_mut().flatten() {
                let (behind, ahead) = (entry.id < self.start, entry.id > self.end);
                if !behind && !ahead {
                    return Some(entry);
                }
                if if self.reverse { behind } else { ahead } {
                    self.nodes = shared_map::Range::default();
                    break;
                }
            }
            let (&base, node) = if self.reverse { self.nodes.next_back()? } else { self.nodes.next()? };
            self.node = Some(node.iter(base, self.reverse));
        }
    }
}
