//! Expiry times of what is in a collection: fields of big hashes, members of sets, and members of sorted sets, which keep
//! theirs beside them.
//!
//! Readers of hashes see what is left through [`Live`](crate::hash::Live). What is due of a set or sorted set is gone before
//! a command looks ([`Txn::settle`](crate::txn::Txn::settle)), as their ranks and counts are of all that is there.

use crate::hasher::hash;
use crate::member::{MemberRef, Members, Old};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether a member of a set or sorted set of this process ever had an expiry time: or else nobody need look.
static ANY_MEMBERS: AtomicBool = AtomicBool::new(false);

/// Whether a set or sorted set may have members that expire.
#[inline]
pub fn any_members_expire() -> bool {
    ANY_MEMBERS.load(Relaxed)
}

/// Notes that a set or sorted set has members that expire.
pub(crate) fn members_expire() {
    // Seldom written: its cache line stays where all read it.
    if !any_members_expire() {
        ANY_MEMBERS.store(true, Relaxed);
    }
}

/// Members, and those that expire in the order of their times.
#[derive(Clone)]
pub(crate) struct TimedTable {
    table: Members,
    /// Expiry time and hash of each member that has one. Members that have both in common share a place.
    by_time: BTreeSet<(i64, u64)>,
}

impl TimedTable {
    /// Members without expiry times.
    pub fn new(table: Members) -> TimedTable {
        TimedTable { table, by_time: BTreeSet::new() }
    }

    pub fn table(&self) -> &Members {
        &self.table
    }

    pub fn soonest(&self) -> Option<i64> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The members that are due, the longest due first.
    pub fn due(&self, now_ms: i64) -> impl Iterator<Item = MemberRef<'_>> {
        let due = self.by_time.range(..(now_ms, 0));
        due.filter_map(|&(at, hash)| self.table.find_by_hash(hash, |member| member.expire_at == Some(at)))
    }

    /// Up to `max` of the members that are due, the longest due first.
    pub fn due_keys(&self, now_ms: i64, max: usize) -> Vec<Vec<u8>> {
        self.due(now_ms).take(max).map(|member| member.key.to_vec()).collect()
    }

    /// The members that expire, and when (Unix ms).
    pub fn times(&self) -> impl Iterator<Item = (&[u8], i64)> {
        self.table.iter().filter_map(|member| Some((member.key, member.expire_at?)))
    }

    /// Whether every member is due. Where members share a place, perhaps not until one of them is gone.
    pub fn is_over(&self, now_ms: i64) -> bool {
        self.by_time.len() == self.table.len() && self.by_time.last().is_none_or(|(at, _)| *at < now_ms)
    }

    pub fn set(&mut self, field: &[u8], value: &[u8], expire_at: Option<i64>) -> Option<Old> {
        let old = self.table.set(field, value, expire_at);
        let old_at = old.as_ref().and_then(|(_, at)| *at);
        if old_at != expire_at {
            self.forget(field, old_at);
            self.by_time.extend(expire_at.map(|at| (at, hash(field))));
        }
        old
    }

    pub fn remove(&mut self, field: &[u8]) -> Option<Old> {
        let old = self.table.remove(field)?;
        self.forget(field, old.1);
        Some(old)
    }

    /// Forgets the time of a member that has it no more, unless another shares its place.
    fn forget(&mut self, field: &[u8], at: Option<i64>) {
        let Some(at) = at else { return };
        let hash = hash(field);
        if self.table.find_by_hash(hash, |member| member.expire_at == Some(at)).is_none() {
            self.by_time.remove(&(at, hash));
        }
    }

    /// Frees about `count` members; `true` once none is left.
    pub fn free_some(&mut self, count: usize) -> bool {
        for _ in 0..count {
            if self.by_time.pop_first().is_none() {
                return self.table.free_some(count);
            }
        }
        false
    }

    /// Heap in use, in bytes; of the order by time (nodes of eleven, two thirds full) an estimate.
    pub fn memory_bytes(&self) -> usize {
        const PLACE: usize = size_of::<(i64, u64)>() * 3 / 2 + 2;
        size_of::<TimedTable>() - size_of::<Members>() + self.table.memory_bytes() + self.by_time.len() * PLACE
    }
}
