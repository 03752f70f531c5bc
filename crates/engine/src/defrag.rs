//! Active defragmentation: when much more memory is resident than in use, workers move what lies on sparse pages of the
//! allocator ([`kelda_store::defrag`]), so that those pages go back to the system.
//!
//! Each worker walks the shards that it also expires keys of, in steps of `active-defrag-cycle-us` at most, a shard being held
//! for a few dozen µs at a time, and rests between them so that it spends between `active-defrag-cycle-min` and `-max`
//! percent of its time: the more, the more memory lies idle between `active-defrag-threshold-lower` and `-upper`. A walk that
//! finds little to move ends early: then the idle memory is of another kind, and there is a rest before the next look.

use crate::worker::Worker;
use kelda_store::defrag::{self, Mover, Place};
use kelda_store::shard::{SHARDS, ShardSet};
use std::ptr::NonNull;

/// How often a worker looks whether there is something to do, in µs.
const LOOK_US: u64 = 500_000;
/// The rest after a walk that was not worth it, in µs; doubles with every further one. It ends early once so many percent of the
/// memory that was in use have been freed.
const REST_US: (u64, u64) = (2_000_000, 32_000_000);
const FREED_PERCENT: u64 = 5;
/// Buckets for which a shard is held at once.
const BUCKETS: usize = 8;
/// A walk goes on only while one in so many of the allocations moves; judged after `JUDGED` of them.
const WORTH_ONE_IN: u64 = 32;
const JUDGED: u64 = 10_000;
/// So often, a second apart, memory that walks made free is given back: the allocator itself waits with it, and an idle thread
/// would wait for ever.
const COLLECTIONS: u32 = 12;
const COLLECT_US: u64 = 1_000_000;

/// The settings, named as the directives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DefragSettings {
    pub enabled: bool,
    pub ignore_bytes: u64,
    /// Percent of what is in use.
    pub threshold_lower: u64,
    pub threshold_upper: u64,
    /// Percent of a worker's time.
    pub cycle_min: u64,
    pub cycle_max: u64,
    /// Longest step, in µs.
    pub cycle_us: u64,
}

impl DefragSettings {
    /// Percent of a worker's time to spend where so many bytes are resident and in use; 0: nothing is to be done.
    pub fn percent(&self, resident: u64, used: u64) -> u64 {
        let idle = resident.saturating_sub(used);
        let share = idle.saturating_mul(100) / used.max(1);
        if !self.enabled || idle < self.ignore_bytes || share < self.threshold_lower {
            return 0;
        }
        let range = self.threshold_upper.saturating_sub(self.threshold_lower).max(1);
        let above = (share - self.threshold_lower).min(range);
        (self.cycle_min + self.cycle_max.saturating_sub(self.cycle_min) * above / range).clamp(1, 99)
    }
}

/// A worker's part.
#[derive(Default)]
pub(crate) struct Defrag {
    /// When there is something to do next.
    pub next_us: u64,
    /// Percent of the time that the walk takes; 0: there is none.
    percent: u64,
    shard: Option<usize>,
    place: Place,
    looked: u64,
    moved: u64,
    collections: u32,
    /// Bytes in use when the last walk began, or the most since.
    used: u64,
    rest_us: u64,
    /// Until then there is no need to walk.
    rest_until_us: u64,
}

impl Worker {
    /// Looks whether there is something to do, or does a step of it.
    pub(crate) fn defragment(&mut self, now_us: u64) {
        if self.defrag.percent == 0 && !self.begin_walk(now_us) {
            return;
        }
        let ended = self.walk_some(now_us);
        let engine = self.engine.clone();
        let spent = engine.clock.monotonic_us().saturating_sub(now_us).max(1);
        self.stats().defrag_us.add(spent);
        self.stats().defrag_walk_us.add(spent);
        self.note_latency("active-defrag-cycle", spent);
        let state = &mut self.defrag;
        let is_worth_it = state.moved.saturating_mul(WORTH_ONE_IN) >= state.looked;
        if ended || state.looked >= JUDGED && !is_worth_it {
            state.percent = 0;
            state.next_us = now_us + LOOK_US;
            if is_worth_it && state.moved != 0 {
                state.collections = COLLECTIONS;
                state.rest_us = 0;
                engine.platform.purge_soon(true);
            } else {
                state.rest_us = (2 * state.rest_us).clamp(REST_US.0, REST_US.1);
                state.rest_until_us = now_us + state.rest_us;
            }
            self.stats().defrag_walk_us.reset();
            self.stats().defrag_percent.reset();
        } else {
            state.next_us = now_us + spent * 100 / state.percent;
            if state.looked >= JUDGED {
                engine.platform.purge_soon(true);
            }
        }
    }

    /// Gives back what memory of this thread is free, and has the worker look for idle memory soon.
    pub(crate) fn purge(&mut self) {
        self.engine.platform.collect_memory();
        (self.defrag.next_us, self.defrag.rest_until_us) = (0, 0);
    }

    /// Begins a walk if there is idle memory; else gives back what the last one made free.
    fn begin_walk(&mut self, now_us: u64) -> bool {
        let platform = &self.engine.platform;
        self.defrag.next_us = now_us + LOOK_US;
        let collects = self.defrag.collections != 0;
        if collects {
            self.defrag.collections -= 1;
            self.defrag.next_us = now_us + COLLECT_US;
            platform.collect_memory();
            if self.defrag.collections == 0 {
                platform.purge_soon(false);
            }
        }
        let (resident, used) = (platform.resident_memory() as u64, platform.used_memory() as u64);
        let percent = self.settings.defrag.percent(resident, used);
        let is_as_it_was = used.saturating_mul(100) >= self.defrag.used.saturating_mul(100 - FREED_PERCENT);
        if percent == 0 || self.loading || now_us < self.defrag.rest_until_us && is_as_it_was {
            self.defrag.used = self.defrag.used.max(used);
            return false;
        }
        self.defrag.used = used;
        if !collects {
            // Only then are pages known to be sparse whose memory other threads freed.
            platform.collect_memory();
        }
        (self.defrag.percent, self.defrag.looked, self.defrag.moved) = (percent, 0, 0);
        self.stats().defrag_percent.add(percent);
        true
    }

    /// One step. Whether the walk is at its end.
    fn walk_some(&mut self, now_us: u64) -> bool {
        let engine = self.engine.clone();
        let until = now_us + self.settings.defrag.cycle_us;
        let is_sparse = |place: NonNull<u8>| engine.platform.is_sparse(place);
        let mut mover = Mover::new(&is_sparse);
        let mut ended = false;
        while !ended {
            let shard = self.defrag.shard.unwrap_or(self.index % SHARDS);
            // A shard that is busy is tried again in the next step.
            let Some(mut guard) = engine.keyspace.lock(ShardSet::One(shard as u16)) else { break };
            let done = defrag::step(&mut guard, shard, &mut self.defrag.place, &mut mover, BUCKETS);
            drop(guard);
            self.defrag.shard = if done { self.shard_after(shard) } else { Some(shard) };
            ended = self.defrag.shard.is_none();
            if engine.clock.monotonic_us() >= until {
                break;
            }
        }
        self.defrag.looked += mover.looked;
        self.defrag.moved += mover.moved;
        let stats = self.stats();
        stats.defrag_hits.add(mover.moved);
        stats.defrag_misses.add(mover.looked - mover.moved);
        stats.defrag_key_hits.add(mover.keys_moved);
        stats.defrag_key_misses.add(mover.keys - mover.keys_moved);
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_memory_is_idle_the_more_time_is_spent() {
        let settings = crate::config::Settings::default().defrag;
        let settings = DefragSettings { enabled: true, ignore_bytes: 50, ..settings };
        for (resident, used, percent) in [
            (0, 0, 0),
            (149, 100, 0),
            (1000, 950, 0),
            (1100, 1000, 1),
            (1550, 1000, 13),
            (2000, 1000, 25),
            (9000, 0, 25),
        ] {
            assert_eq!(settings.percent(resident, used), percent, "{resident} {used}");
        }
        assert_eq!(DefragSettings { enabled: false, ..settings }.percent(9000, 0), 0);
    }
}
