//! Consumer groups: what was delivered to whom and is not acknowledged yet.
//!
//! Invariants: an id is in a group's pending map with consumer `c` exactly if it is in the pending set of `c`, and `c` is one
//! of the group's consumers; it is there without a consumer exactly if it stands in the line of those that were given back.
//! Where there is an index by delivery time, it holds exactly the pending entries that have a consumer.

use super::{Counters, Entry, Stream, StreamId, range};
use crate::shared_map::{self, SharedMap};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A consumer group.
#[derive(Clone)]
pub struct Group {
    last_delivered: StreamId,
    entries_read: Option<u64>,
    pending: SharedMap<StreamId, Pending>,
    consumers: BTreeMap<Arc<[u8]>, Consumer>,
    /// What consumers gave back (XNACK), by its place in the line.
    given_back: SharedMap<u64, StreamId>,
    /// Delivery times, where somebody asked for the longest idle entries once (XREADGROUP with CLAIM).
    by_time: Option<SharedMap<(i64, StreamId), ()>>,
}

/// An entry that was delivered and is not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Who has it.
    pub holder: Holder,
    /// When it was delivered last; 0 if it was given back.
    pub delivery_time: i64,
    /// How often it was delivered.
    pub delivery_count: u64,
}

/// Who has a pending entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The consumer of that name.
    Consumer(Arc<[u8]>),
    /// Nobody: a consumer gave it back. Its place in the line of those.
    Nobody(u64),
}

/// No larger than a consumer's name: there may be millions.
const _: () = assert!(size_of::<Holder>() == size_of::<Arc<[u8]>>());

impl Pending {
    /// The name of the consumer that has it; empty if nobody has.
    pub fn consumer(&self) -> &[u8] {
        match &self.holder {
            Holder::Consumer(name) => name,
            Holder::Nobody(_) => b"",
        }
    }

    /// Whether a consumer gave it back.
    pub fn is_given_back(&self) -> bool {
        matches!(self.holder, Holder::Nobody(_))
    }

    /// For how long (ms) it has been waiting at `now`. What was given back waits for ever.
    pub fn idle(&self, now: i64) -> i64 {
        now.saturating_sub(self.delivery_time).max(0)
    }
}

/// A consumer of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// When it last tried anything.
    pub seen_time: i64,
    /// When it last got an entry to acknowledge; `None` if it never did.
    pub active_time: Option<i64>,
    pending: SharedMap<StreamId, ()>,
}

impl Consumer {
    /// Ids delivered to it and not acknowledged, in order.
    pub fn pending(&self) -> impl ExactSizeIterator<Item = StreamId> {
        self.pending.iter().map(|(id, ())| *id)
    }
}

/// Who reads or claims, and when. The consumer exists: commands call [`Group::touch_consumer`] first.
#[derive(Clone, Copy, Debug)]
pub struct Actor<'a> {
    /// The group's name; nothing happens if there is none.
    pub group: &'a [u8],
    /// The consumer's name.
    pub consumer: &'a [u8],
    /// The time.
    pub now: i64,
}

/// How XCLAIM and XAUTOCLAIM change the owner of a pending entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Milliseconds since the last delivery, at least, or the entry stays where it is.
    pub min_idle: i64,
    /// The delivery time that the entry gets.
    pub delivery_time: i64,
    /// The delivery count that the entry gets; `None` to count one more unless `just_id`.
    pub delivery_count: Option<u64>,
    /// Claims entries that are not pending as well.
    pub force: bool,
    /// Only the id is wanted, so this is no delivery.
    pub just_id: bool,
}

impl Group {
    /// The highest id delivered as a new entry.
    pub fn last_delivered(&self) -> StreamId {
        self.last_delivered
    }

    /// How many of the entries ever added the group has read, if that is known.
    pub fn entries_read(&self) -> Option<u64> {
        self.entries_read
    }

    /// Sets where the group stands (XGROUP SETID).
    pub fn set_position(&mut self, last_delivered: StreamId, entries_read: Option<u64>) {
        self.last_delivered = last_delivered;
        self.entries_read = entries_read;
    }

    /// Number of pending entries.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// The pending entry `id`.
    pub fn pending(&self, id: StreamId) -> Option<&Pending> {
        self.pending.get(&id)
    }

    /// The pending entries with ids from `start` to `end` inclusive, in order.
    pub fn pending_range(&self, start: StreamId, end: StreamId) -> shared_map::Range<'_, StreamId, Pending> {
        if start <= end { self.pending.range(start..=end) } else { shared_map::Range::default() }
    }

    /// The same, of one consumer. A consumer that does not exist has none.
    pub fn pending_range_of(
        &self,
        consumer: &[u8],
        start: StreamId,
        end: StreamId,
    ) -> impl Iterator<Item = (StreamId, &Pending)> {
        let of = self.consumers.get(consumer).filter(|_| start <= end);
        let ids = of.into_iter().flat_map(move |consumer| consumer.pending.range(start..=end));
        ids.filter_map(|(id, ())| Some((*id, self.pending.get(id)?)))
    }

    /// The consumers by name, in order.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = (&[u8], &Consumer)> {
        self.consumers.iter().map(|(name, consumer)| (&**name, consumer))
    }

    /// The consumer `name`.
    pub fn consumer(&self, name: &[u8]) -> Option<&Consumer> {
        self.consumers.get(name)
    }

    /// Creates the consumer `name`, unless there is one; whether it was created.
    pub fn create_consumer(&mut self, name: &[u8], now: i64) -> bool {
        let new = !self.consumers.contains_key(name);
        if new {
            let consumer = Consumer { seen_time: now, active_time: None, pending: SharedMap::default() };
            self.consumers.insert(name.into(), consumer);
        }
        new
    }

    /// Notes that the consumer `name` was seen at `now`, creating it if need be; whether it was created.
    pub fn touch_consumer(&mut self, name: &[u8], now: i64) -> bool {
        let new = self.create_consumer(name, now);
        if let Some(consumer) = self.consumers.get_mut(name) {
            consumer.seen_time = now;
        }
        new
    }

    /// Sets the times of consumer `name`, as loading a snapshot needs; whether there is one.
    pub fn set_consumer_times(&mut self, name: &[u8], seen_time: i64, active_time: Option<i64>) -> bool {
        let Some(consumer) = self.consumers.get_mut(name) else {
            return false;
        };
        (consumer.seen_time, consumer.active_time) = (seen_time, active_time);
        true
    }

    /// Removes the consumer `name` and its pending entries; how many those were.
    pub fn delete_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let consumer = self.consumers.remove(name)?;
        for (id, ()) in consumer.pending.iter() {
            if let (Some(pending), Some(by_time)) = (self.pending.remove(id), &mut self.by_time) {
                by_time.remove(&(pending.delivery_time, *id));
            }
        }
        Some(consumer.pending.len())
    }

    /// Acknowledges `id`; whether it was pending.
    pub fn ack(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(&id) else {
            return false;
        };
        self.unlink(id, &pending);
        true
    }

    /// Forgets where else a pending entry is noted than among the pending ones.
    fn unlink(&mut self, id: StreamId, pending: &Pending) {
        match &pending.holder {
            Holder::Nobody(place) => {
                self.given_back.remove(place);
            }
            Holder::Consumer(name) => {
                if let Some(consumer) = self.consumers.get_mut(name) {
                    consumer.pending.remove(&id);
                }
                if let Some(by_time) = &mut self.by_time {
                    by_time.remove(&(pending.delivery_time, id));
                }
            }
        }
    }

    /// Makes `id` pending for `consumer`, whoever had it before; false, and nothing changes, if there is no such consumer.
    pub fn set_pending(&mut self, id: StreamId, consumer: &[u8], delivery_time: i64, delivery_count: u64) -> bool {
        let Some((name, _)) = self.consumers.get_key_value(consumer) else {
            return false;
        };
        let pending = Pending { holder: Holder::Consumer(name.clone()), delivery_time, delivery_count };
        if let Some(old) = self.pending.insert(id, pending) {
            self.unlink(id, &old);
        }
        if let Some(owner) = self.consumers.get_mut(consumer) {
            owner.pending.insert(id, ());
        }
        if let Some(by_time) = &mut self.by_time {
            by_time.insert((delivery_time, id), ());
        }
        true
    }

    /// Takes the pending entry `id` from its consumer, if it has one, and puts it at the end of the line of those that were
    /// given back, with this count of deliveries. One that is not pending becomes so.
    pub fn give_back(&mut self, id: StreamId, delivery_count: u64) {
        let place = self.given_back.last().map_or(0, |(place, _)| place + 1);
        let pending = Pending { holder: Holder::Nobody(place), delivery_time: 0, delivery_count };
        if let Some(old) = self.pending.insert(id, pending) {
            self.unlink(id, &old);
        }
        self.given_back.insert(place, id);
    }

    /// What was given back, in the order in which it was.
    pub fn given_back(&self) -> impl ExactSizeIterator<Item = StreamId> {
        self.given_back.iter().map(|(_, id)| *id)
    }

    /// The index by delivery time, which is made if it is not there. O(n log n) the first time.
    fn by_time(&mut self) -> &SharedMap<(i64, StreamId), ()> {
        let Group { by_time, pending, .. } = self;
        by_time.get_or_insert_with(|| {
            let owned = pending.iter().filter(|(_, pending)| !pending.is_given_back());
            owned.map(|(id, pending)| ((pending.delivery_time, *id), ())).collect()
        })
    }

    /// Claims `id`, an entry of the stream, for `consumer`, which exists; whether it did.
    fn claim(&mut self, id: StreamId, actor: &Actor<'_>, claim: &Claim) -> bool {
        let deliveries = match self.pending.get(&id) {
            Some(pending) if claim.min_idle > 0 && pending.idle(actor.now) < claim.min_idle => return false,
            Some(pending) => pending.delivery_count,
            None if claim.force => 1,
            None => return false,
        };
        let count = claim.delivery_count.unwrap_or(counted(deliveries, u64::from(!claim.just_id)));
        let claimed = self.set_pending(id, actor.consumer, claim.delivery_time, count);
        if let Some(consumer) = self.consumers.get_mut(actor.consumer) {
            consumer.active_time = Some(actor.now);
        }
        claimed
    }

    /// An estimate of the bytes on the heap: B-tree nodes are two thirds full.
    pub(super) fn memory_bytes(&self) -> usize {
        let pending = size_of::<(StreamId, Pending)>() + size_of::<StreamId>();
        let consumers = self.consumers.keys().map(|name| name.len() + size_of::<(Arc<[u8]>, Consumer)>());
        let by_time = self.by_time.as_ref().map_or(0, SharedMap::len) * size_of::<(i64, StreamId)>();
        let given_back = self.given_back.len() * size_of::<(u64, StreamId)>();
        (self.pending.len() * pending + by_time + given_back) * 3 / 2 + consumers.sum::<usize>()
    }

    /// Frees up to `n` pending entries; how many.
    pub(super) fn free_some(&mut self, n: usize) -> usize {
        for freed in 0..n {
            match self.pending.last() {
                Some((&id, _)) => self.ack(id),
                None => return freed,
            };
        }
        n
    }
}

impl Stream {
    /// The groups by name, in order.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, group)| (&**name, &**group))
    }

    /// The group `name`.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name).map(|group| &**group)
    }

    /// The group `name`.
    pub fn group_mut(&mut self, name: &[u8]) -> Option<&mut Group> {
        self.groups.get_mut(name).map(Arc::make_mut)
    }

    /// Creates a group that has read up to `last_delivered`; false, and nothing changes, if there is one of that name.
    pub fn create_group(&mut self, name: &[u8], last_delivered: StreamId, entries_read: Option<u64>) -> bool {
        let new = !self.groups.contains_key(name);
        if new {
            let (pending, consumers, given_back) = Default::default();
            let group = Group { last_delivered, entries_read, pending, consumers, given_back, by_time: None };
            self.groups.insert(name.into(), Arc::new(group));
        }
        new
    }

    /// Removes the group `name`; whether there was one.
    pub fn destroy_group(&mut self, name: &[u8]) -> bool {
        self.groups.remove(name).is_some()
    }

    /// How many entries had been added when `id` was the last, if that is known: where a group that stands there began.
    pub fn entries_added_up_to(&self, id: StreamId) -> Option<u64> {
        self.counters().added_up_to(id)
    }

    /// How many entries `group` has not read yet, if that is known. Below zero if its `entries_read` was set too high.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        let counters = self.counters();
        // Newest Redis only: where nothing was deleted from what is left, and all of it is unread, its length is the lag.
        if group.last_delivered < counters.first_id && counters.max_deleted_id < counters.first_id || self.is_empty() {
            return Some(self.len as i64);
        }
        let read = match group.entries_read {
            Some(read) if !counters.deleted_from(group.last_delivered) => read,
            _ => counters.added_up_to(group.last_delivered)?,
        };
        Some(counters.entries_added.wrapping_sub(read) as i64)
    }

    /// Whether a group still needs the entry `id`: has not got it yet, or has it pending. O(groups · log n).
    pub fn is_referenced(&self, id: StreamId) -> bool {
        self.groups.values().any(|group| id > group.last_delivered || group.pending.contains_key(&id))
    }

    /// XREADGROUP with `>`: shows up to `count` entries that the group has not seen to `each`, which may end it by not taking
    /// one, and moves the group on. Unless `no_ack`, they become pending for the actor. How many entries.
    pub fn read_new(
        &mut self,
        actor: &Actor<'_>,
        count: usize,
        no_ack: bool,
        mut each: impl FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> usize {
        let counters = self.counters();
        let Some(group) = self.groups.get_mut(actor.group).map(Arc::make_mut) else {
            return 0;
        };
        let Some(start) = group.last_delivered.next() else {
            return 0;
        };
        let mut read = 0;
        for entry in range(&self.nodes, start, StreamId::MAX, false).take(count) {
            let id = entry.id;
            if each(entry).is_break() {
                break;
            }
            let last = group.last_delivered;
            group.entries_read = match group.entries_read {
                Some(read) if last >= counters.first_id && !counters.deleted_from(last) => Some(read + 1),
                _ => counters.added_up_to(id),
            };
            group.last_delivered = id;
            if !no_ack {
                group.set_pending(id, actor.consumer, actor.now, 1);
            }
            read += 1;
        }
        if let Some(consumer) = group.consumers.get_mut(actor.consumer)
            && read > 0
            && !no_ack
        {
            consumer.active_time = Some(actor.now);
        }
        read
    }

    /// XREADGROUP with an id: shows up to `count` pending entries of the consumer above `after` to `each`, with `None` for
    /// one that is no longer in the stream, and counts one more delivery of the others. `each` may end it by not taking one.
    pub fn read_pending(
        &mut self,
        actor: &Actor<'_>,
        after: StreamId,
        count: usize,
        mut each: impl FnMut(StreamId, Option<Entry<'_>>) -> ControlFlow<()>,
    ) {
        let Some(group) = self.groups.get_mut(actor.group).map(Arc::make_mut) else {
            return;
        };
        let Some(consumer) = group.consumers.get(actor.consumer) else {
            return;
        };
        let ids = consumer.pending.range((Excluded(after), Unbounded)).take(count);
        let ids: Vec<StreamId> = ids.map(|(id, ())| *id).collect();
        for id in ids {
            let entry = range(&self.nodes, id, id, false).next();
            let there = entry.is_some();
            if each(id, entry).is_break() {
                return;
            }
            if let Some(pending) = group.pending.get_mut(&id)
                && there
            {
                if let Some(by_time) = &mut group.by_time {
                    by_time.remove(&(pending.delivery_time, id));
                    by_time.insert((actor.now, id), ());
                }
                pending.delivery_time = actor.now;
                pending.delivery_count = counted(pending.delivery_count, 1);
            }
        }
    }

    /// XREADGROUP with CLAIM: claims for the actor up to `count` pending entries that have been waiting for `min_idle` ms:
    /// what was given back first, then what has been waiting longest. Each is shown to `each`, which may end it by not
    /// taking one, as it was before. Entries that are no longer in the stream stay pending. How many were claimed.
    pub fn claim_idle(
        &mut self,
        actor: &Actor<'_>,
        min_idle: i64,
        count: usize,
        mut each: impl FnMut(Entry<'_>, &Pending) -> ControlFlow<()>,
    ) -> usize {
        let Some(group) = self.groups.get_mut(actor.group).map(Arc::make_mut) else {
            return 0;
        };
        let nodes = &self.nodes;
        let there = |id: &StreamId| range(nodes, *id, *id, false).next().is_some();
        let mut ids: Vec<StreamId> = group.given_back().filter(&there).take(count).collect();
        let latest = (actor.now.saturating_sub(min_idle), StreamId::MAX);
        let idle = group.by_time().range(..=latest).map(|((_, id), ())| *id).filter(&there);
        ids.extend(idle.take(count - ids.len()));
        let claim = Claim { min_idle: 0, delivery_time: actor.now, delivery_count: None, force: false, just_id: false };
        let mut claimed = 0;
        for id in ids {
            let (Some(entry), Some(pending)) = (range(nodes, id, id, false).next(), group.pending.get(&id)) else {
                continue;
            };
            if each(entry, pending).is_break() {
                break;
            }
            group.claim(id, actor, &claim);
            claimed += 1;
        }
        claimed
    }

    /// When (Unix ms) the next pending entry of a group will have been waiting for `min_idle` ms that has not yet at `now`.
    pub fn next_idle(&mut self, group: &[u8], min_idle: i64, now: i64) -> Option<i64> {
        let group = self.groups.get_mut(group).map(Arc::make_mut)?;
        let after = (now.saturating_sub(min_idle), StreamId::MAX);
        let ((time, _), ()) = group.by_time().range((Excluded(after), Unbounded)).next()?;
        Some(time.saturating_add(min_idle))
    }

    /// XCLAIM of one entry for the actor. A pending entry that is no longer in the stream is acknowledged.
    pub fn claim(&mut self, actor: &Actor<'_>, id: StreamId, claim: &Claim) -> Claimed<'_> {
        let Some(group) = self.groups.get_mut(actor.group).map(Arc::make_mut) else {
            return Claimed::No;
        };
        match range(&self.nodes, id, id, false).next() {
            Some(entry) if group.claim(id, actor, claim) => Claimed::Yes(entry),
            None if group.ack(id) => Claimed::Deleted,
            _ => Claimed::No,
        }
    }

    /// XAUTOCLAIM: claims up to `count` pending entries from the id `start` on for the actor, and shows them
    /// to `each`, with `None` for one that is no longer in the stream and is therefore acknowledged. The id to go on from,
    /// 0-0 at the end: as in Redis, no more than ten times `count` entries are looked at.
    pub fn autoclaim(
        &mut self,
        actor: &Actor<'_>,
        start: StreamId,
        count: usize,
        claim: &Claim,
        mut each: impl FnMut(StreamId, Option<Entry<'_>>),
    ) -> StreamId {
        let Some(group) = self.groups.get_mut(actor.group).map(Arc::make_mut) else {
            return StreamId::MIN;
        };
        let mut left = count;
        let mut at = Some(start);
        for looked_at in 0usize.. {
            let next = at.and_then(|at| group.pending.range(at..).next());
            let Some((&id, _)) = next else { return StreamId::MIN };
            if left == 0 || looked_at == count.saturating_mul(10) {
                return id;
            }
            at = id.next();
            let entry = range(&self.nodes, id, id, false).next();
            let shown = match entry {
                Some(_) => group.claim(id, actor, claim),
                None => group.ack(id),
            };
            if shown {
                each(id, entry);
                left -= 1;
            }
        }
        StreamId::MIN
    }
}

/// A count of deliveries and some more, never above the highest that Redis has.
fn counted(deliveries: u64, more: u64) -> u64 {
    deliveries.saturating_add(more).min(i64::MAX as u64)
}

/// What became of an entry that was to be claimed.
#[derive(Clone, Debug)]
pub enum Claimed<'a> {
    /// It is the consumer's now.
    Yes(Entry<'a>),
    /// It is not pending, or not long enough, or there is no such group or consumer.
    No,
    /// It was pending, but is no longer in the stream: it is not pending any more.
    Deleted,
}

impl Counters {
    /// Whether an entry at `id` or above may have been deleted, while others are left.
    fn deleted_from(&self, id: StreamId) -> bool {
        self.len > 0 && self.max_deleted_id != StreamId::MIN && id <= self.max_deleted_id
    }

    /// How many entries had been added when `id` was the last, if that is known.
    fn added_up_to(&self, id: StreamId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if self.len == 0 && id <= self.last_id {
            return Some(self.entries_added);
        }
        if id != StreamId::MIN && id < self.max_deleted_id {
            return None;
        }
        if id >= self.last_id {
            return (id == self.last_id).then_some(self.entries_added);
        }
        let whole = self.max_deleted_id == StreamId::MIN || self.max_deleted_id < self.first_id;
        match id.cmp(&self.first_id) {
            Ordering::Less if whole => Some(self.entries_added.saturating_sub(self.len)),
            Ordering::Equal if whole => Some(self.entries_added.saturating_sub(self.len) + 1),
            _ => None,
        }
    }
}
