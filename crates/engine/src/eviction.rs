//! Eviction: keeping the memory in use below `maxmemory`.
//!
//! Before each command a worker looks whether there is room, and if not removes keys: it samples a few keys of a random
//! shard, keeps the most dispensable of all that it has seen in a pool, and removes the best of the pool, one shard at a
//! time. A command does so for a bounded time; what is left to do goes on between the turns of the event loop.
//!
//! **The look is cheap.** The memory in use is the sum of a counter for each thread, whose cache lines are in the caches
//! of other cores. So a worker that found room gets an allowance: until it has itself allocated so much more, it looks at
//! its own counter only. The allowances together are a fraction of the room, and no more than 1 % of `maxmemory`.

use crate::config::MaxmemoryPolicy as Policy;
use crate::worker::Worker;
use kelda_store::hasher;
use kelda_store::shard::{SHARDS, ShardSet};
use kelda_store::txn::{Key, Order, Rule};

/// Candidates that a worker keeps.
const POOL: usize = 16;

/// Keys that a worker removes before it looks again how much memory is in use.
const KEYS_A_ROUND: usize = 8;

/// A key that may go.
struct Candidate {
    /// How gladly it is let go.
    worth: u64,
    db: u32,
    hash: u64,
    key: Box<[u8]>,
}

/// How the search for room came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// There is enough.
    Enough,
    /// Not yet: the time was up, or what was removed is still to be freed.
    Soon,
    /// There is nothing that may be removed.
    None,
}

/// A worker's part.
#[derive(Default)]
pub struct Eviction {
    /// The most dispensable keys seen, the best last.
    pool: Vec<Candidate>,
    /// The most candidates that a shard had of late.
    widest: u64,
    /// Until this thread has allocated so much, there is room.
    allowed_to: i64,
    /// Whether more is to be removed between turns.
    pub going_on: bool,
    /// Whether the command in hand must do without more memory.
    pub out_of_memory: bool,
}

impl Eviction {
    /// The settings changed.
    pub fn restart(&mut self, limited: bool) {
        *self = Eviction { allowed_to: i64::MIN, going_on: limited, ..Eviction::default() };
    }

    /// Time has passed: looks anew.
    pub fn look_again(&mut self) {
        self.allowed_to = i64::MIN;
    }
}

/// The rule of a policy; `None` if nothing may go.
fn rule(policy: Policy, samples: usize) -> Option<Rule> {
    let (order, volatile_only) = match policy {
        Policy::AllkeysLru | Policy::AllkeysLrm => (Order::LeastRecent, false),
        Policy::AllkeysLfu => (Order::LeastFrequent, false),
        Policy::AllkeysRandom => (Order::Random, false),
        Policy::VolatileLru | Policy::VolatileLrm => (Order::LeastRecent, true),
        Policy::VolatileLfu => (Order::LeastFrequent, true),
        Policy::VolatileRandom => (Order::Random, true),
        Policy::VolatileTtl => (Order::Soonest, true),
        Policy::NoEviction => return None,
    };
    let samples = if order == Order::Random { 1 } else { samples };
    Some(Rule { order, volatile_only, samples })
}

/// For how long a command may remove keys (`maxmemory-eviction-tenacity`: half a millisecond at 10, then by 15 % longer for
/// each step), in µs.
fn time_limit_us(tenacity: i64) -> u64 {
    match tenacity {
        ..=10 => 50 * tenacity.max(0) as u64,
        11..100 => (500.0 * 1.15f64.powi(tenacity as i32 - 10)) as u64,
        _ => u64::MAX,
    }
}

impl Worker {
    /// Looks whether there is room for a command, and makes some if not.
    #[inline]
    pub(crate) fn check_room(&mut self) {
        if self.engine.platform.allocated_here() >= self.eviction.allowed_to {
            self.find_room();
        }
    }

    /// Whether a command may take memory without [`Worker::check_room`].
    #[inline]
    pub(crate) fn is_allowed_memory(&self) -> bool {
        !self.eviction.out_of_memory && self.engine.platform.allocated_here() < self.eviction.allowed_to
    }

    /// Another thread runs this worker from now on: the allowance was in terms of what the former had allocated.
    pub fn changed_thread(&mut self) {
        self.eviction.look_again();
    }

    #[cold]
    fn find_room(&mut self) {
        // CLIENT PAUSE: nothing changes, not even to make room.
        let paused = self.engine.pause.left_ms(self.now_ms()).is_some();
        let room = if paused { Room::Enough } else { self.make_room() };
        self.eviction.out_of_memory = room == Room::None;
        self.eviction.going_on = room == Room::Soon;
    }

    /// Goes on with what a command has left to do.
    pub(crate) fn go_on_evicting(&mut self) {
        if self.eviction.going_on {
            self.find_room();
        }
    }

    fn make_room(&mut self) -> Room {
        let engine = self.engine.clone();
        let (max, workers) = (self.maxmemory as i64, engine.worker_count() as i64);
        // What replicas and clients still have to be told grows as keys are removed: it must not have more of them removed.
        let used = || engine.platform.used_memory() as i64 - engine.not_counted_for_eviction() as i64;
        let over = used() - max;
        if over <= 0 {
            let allowance = (-over / (2 * workers)).min(max / (100 * workers));
            self.eviction.allowed_to = engine.platform.allocated_here() + allowance;
            return Room::Enough;
        }
        self.eviction.look_again();
        // In import mode the source says which keys there are.
        let policy = if self.settings.import_mode { Policy::NoEviction } else { self.settings.maxmemory_policy };
        let Some(rule) = rule(policy, self.settings.maxmemory_samples) else { return Room::None };
        let limit_us = time_limit_us(self.settings.maxmemory_eviction_tenacity);
        let started_us = engine.clock.monotonic_us();
        let passed_us = || engine.clock.monotonic_us() - started_us;
        // A little more than must be, so that the very next command finds room without looking far.
        let target = max - max / 1000;
        let mut room = Room::Soon;
        'rounds: while room == Room::Soon {
            let excess = used() - target;
            if excess <= 0 {
                room = Room::Enough;
                break;
            }
            // All workers do this at the same time, each its share.
            let mut share = (excess / workers).max(1);
            // Only a few at a time: what goes has clients told, which makes this thread take memory that does not count.
            for _ in 0..KEYS_A_ROUND {
                if share <= 0 {
                    break;
                }
                let before = engine.platform.allocated_here();
                match self.evict_one(rule) {
                    Some(true) => {}
                    // Busy shards: others are at work.
                    Some(false) => break 'rounds,
                    None => {
                        room = if self.garbage_len() == 0 { Room::None } else { Room::Soon };
                        break 'rounds;
                    }
                }
                while self.free_garbage() {
                    if passed_us() > limit_us {
                        break 'rounds;
                    }
                }
                share -= before - engine.platform.allocated_here();
            }
            if passed_us() > limit_us {
                break;
            }
        }
        self.note_latency("eviction-cycle", passed_us());
        // Nothing more may go; but what has gone may be enough for what is asked.
        if room == Room::None && used() <= max { Room::Enough } else { room }
    }

    /// Removes one key. `Some(false)` if shards were busy; `None` if no key may go.
    fn evict_one(&mut self, rule: Rule) -> Option<bool> {
        /// Rounds of sampling for one key, at most: the best of few would be a poor choice.
        const ROUNDS: usize = 4;
        if rule.order == Order::Random {
            // What is left of the last time may have gone and come back since.
            self.eviction.pool.clear();
        }
        let mut busy = !self.sample(rule)?;
        let rounds = if rule.order == Order::Random { 1 } else { ROUNDS };
        for _ in 1..rounds {
            if busy || self.eviction.pool.len() >= POOL / 2 {
                break;
            }
            busy = !self.sample(rule).unwrap_or(true);
        }
        while let Some(Candidate { worth, db, hash, key }) = self.eviction.pool.pop() {
            let key = Key { bytes: &key, hash };
            let engine = self.engine.clone();
            let Some(mut txn) = self.begin(&engine.keyspace, ShardSet::One(key.shard() as u16), db) else {
                busy = true;
                continue;
            };
            // It may have been used since it was seen.
            let still = rule.order == Order::Random || txn.dispensable(key, rule).is_some_and(|now| now >= worth);
            let gone = still && txn.evict(key);
            self.commit(txn);
            if gone {
                self.stats().evicted.add(1);
                return Some(true);
            }
        }
        // All were used or gone in the meantime: the next round samples others.
        Some(!busy)
    }

    /// Looks at some keys for the pool: those of a random shard, and of further ones while it has too few. `Some(false)` if
    /// shards were busy; `None` if no key may go.
    fn sample(&mut self, rule: Rule) -> Option<bool> {
        /// Shards drawn by chance before all are tried in turn: there are few keys, or few that may go.
        const DRAWN: usize = 64;
        let engine = self.engine.clone();
        let start = self.random() as usize;
        let (mut busy, mut seen) = (false, 0);
        for step in 0..DRAWN + SHARDS {
            let random = self.random();
            let shard = if step < DRAWN { random as usize } else { start.wrapping_add(step) } % SHARDS;
            let Some(mut txn) = self.begin(&engine.keyspace, ShardSet::One(shard as u16), 0) else {
                busy = true;
                continue;
            };
            let Eviction { pool, widest, .. } = &mut self.eviction;
            // Each key is to have the same chance, so a shard has one by the number of its keys.
            let keys = txn.candidates(shard, rule) as u64;
            *widest = keys.max(*widest - *widest / 1024);
            if keys == 0 || (step < DRAWN && (random >> 32) % *widest >= keys) {
                self.commit(txn);
                continue;
            }
            txn.sample(shard, rule, |db, worth, entry| {
                seen += 1;
                if pool.len() == POOL && worth <= pool[0].worth {
                    return;
                }
                let place = pool.partition_point(|have| have.worth <= worth);
                if pool[..place]
                    .iter()
                    .rev()
                    .take_while(|have| have.worth == worth)
                    .any(|have| *have.key == *entry.key())
                {
                    return;
                }
                let candidate = Candidate { worth, db, hash: hasher::hash(entry.key()), key: entry.key().into() };
                pool.insert(place, candidate);
                if pool.len() > POOL {
                    pool.remove(0);
                }
            });
            self.commit(txn);
            if seen >= rule.samples {
                return Some(true);
            }
        }
        match (seen, busy) {
            (0, true) => Some(false),
            (0, false) => None,
            _ => Some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenacity_is_a_time() {
        assert_eq!([0, 1, 10, 11].map(time_limit_us), [0, 50, 500, 575]);
        assert!(time_limit_us(99) > 100_000_000 && time_limit_us(100) == u64::MAX);
    }
}
