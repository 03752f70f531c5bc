//! Expiry times of what is in a collection: fields of big hashes, members of sets, and members of sorted sets, which keep
//! theirs beside them.
//!
//! Readers of hashes see what is left through [`Live`](crate::hash::Live). What is due of a set or sorted set is gone before
//! a command looks ([`Txn::settle`](crate::txn::Txn::settle)), as their ranks and counts are of all that is there.

use crate::defrag::Mover;
use crate::hasher::hash;
use crate::member::{MemberRef, Members, Old};
use crate::zset::btree::CountedTree;

/// Where a member is in the order by time: its expiry time and its hash.
type Place = (i64, u64);

/// Members, and those that expire in the order of their times.
#[derive(Clone)]
pub(crate) struct TimedTable {
    table: Members,
    /// Expiry time and hash of each member that has one: counted, for a reader asks how many of them are due.
    by_time: CountedTree<Place>,
}

impl TimedTable {
    /// Members without expiry times.
    pub fn new(table: Members) -> TimedTable {
        TimedTable { table, by_time: CountedTree::new() }
    }

    pub fn table(&self) -> &Members {
        &self.table
    }

    /// See [`Members::relocate_some`].
    pub fn relocate_some(&mut self, cursor: u64, mover: &mut Mover<'_>) -> u64 {
        self.table.relocate_some(cursor, mover)
    }

    pub fn soonest(&self) -> Option<i64> {
        self.by_time.iter(0, false).next().map(|(at, _)| at)
    }

    /// The members that are due, the longest due first.
    pub fn due(&self, now_ms: i64) -> impl Iterator<Item = MemberRef<'_>> {
        let due = self.by_time.iter(0, false).take_while(move |(at, _)| *at < now_ms);
        due.filter_map(|(at, hash)| self.table.find_by_hash(hash, |member| member.expire_at == Some(at)))
    }

    /// How many members are due. O(log n).
    pub fn due_count(&self, now_ms: i64) -> usize {
        self.by_time.partition_point(|(at, _)| *at < now_ms)
    }

    /// Up to `max` of the members that are due, the longest due first.
    pub fn due_keys(&self, now_ms: i64, max: usize) -> Vec<Vec<u8>> {
        self.due(now_ms).take(max).map(|member| member.key.to_vec()).collect()
    }

    /// The members that expire, and when (Unix ms).
    pub fn times(&self) -> impl Iterator<Item = (&[u8], i64)> {
        self.table.iter().filter_map(|member| Some((member.key, member.expire_at?)))
    }

    /// Whether every member is due. O(log n).
    pub fn is_over(&self, now_ms: i64) -> bool {
        self.by_time.len() == self.table.len() && self.due_count(now_ms) == self.table.len()
    }

    pub fn set(&mut self, field: &[u8], value: &[u8], expire_at: Option<i64>) -> Option<Old> {
        let old = self.table.set(field, value, expire_at);
        let old_at = old.as_ref().and_then(|(_, at)| *at);
        if old_at != expire_at {
            self.forget(field, old_at);
            if let Some(at) = expire_at {
                let place = (at, hash(field));
                self.by_time.insert(place, |other| *other < place);
            }
        }
        old
    }

    pub fn remove(&mut self, field: &[u8]) -> Option<Old> {
        let old = self.table.remove(field)?;
        self.forget(field, old.1);
        Some(old)
    }

    /// Forgets the time of a member that has it no more.
    fn forget(&mut self, field: &[u8], at: Option<i64>) {
        if let Some(at) = at {
            let place = (at, hash(field));
            self.by_time.remove_last(|other| *other <= place);
        }
    }

    /// Frees about `count` members; `true` once none is left.
    pub fn free_some(&mut self, count: usize) -> bool {
        for _ in 0..count {
            if self.by_time.remove_at(0).is_none() {
                return self.table.free_some(count);
            }
        }
        false
    }

    /// Heap in use, in bytes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<TimedTable>() - size_of::<Members>() + self.table.memory_bytes() + self.by_time.memory_bytes()
    }
}
