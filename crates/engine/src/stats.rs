//! Counters: each worker writes its own, INFO adds them up.

use crate::registry;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter that one thread writes and any thread reads.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning worker may.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Reads.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Back to zero (CONFIG RESETSTAT); an addition at the same moment may be lost.
    pub fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

/// Calls of one command.
#[derive(Default)]
pub struct CommandCounters {
    /// Calls that ran.
    pub calls: Counter,
    /// Time spent in them, in microseconds.
    pub usec: Counter,
    /// Refused before running (arity, auth, memory …).
    pub rejected: Counter,
    /// Ran and replied with an error.
    pub failed: Counter,
    /// Calls that took at most 1, 2, 4 … µs (the last: or more).
    pub latency: [Counter; LATENCY_BUCKETS],
}

impl CommandCounters {
    /// Notes that each of `calls` took so many µs. Where only some calls are timed, those stand for `calls` of them; a
    /// reader brings what they stand for down (or up) to the calls that there were.
    pub fn took(&self, us: u64, calls: u64) {
        self.usec.add(us * calls);
        let bucket = (us.max(1).next_power_of_two().trailing_zeros() as usize).min(LATENCY_BUCKETS - 1);
        self.latency[bucket].add(calls);
    }
}

/// Powers of two of microseconds that latencies are counted by.
pub const LATENCY_BUCKETS: usize = 32;

/// One worker's counters.
#[repr(align(128))]
#[allow(missing_docs)]
pub struct Stats {
    pub connections: Counter,
    pub rejected_connections: Counter,
    pub commands: Counter,
    pub input_bytes: Counter,
    pub output_bytes: Counter,
    pub hits: Counter,
    pub misses: Counter,
    pub expired: Counter,
    pub expired_fields: Counter,
    pub lazyfreed: Counter,
    pub evicted: Counter,
    pub evicted_clients: Counter,
    pub dirty: Counter,
    pub errors: Counter,
    pub output_limit_disconnections: Counter,
    pub query_limit_disconnections: Counter,
    pub reads: Counter,
    pub writes: Counter,
    pub put_aside: Counter,
    /// Indexed by `Registered::id`.
    pub by_command: Vec<CommandCounters>,
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            connections: Counter::default(),
            rejected_connections: Counter::default(),
            commands: Counter::default(),
            input_bytes: Counter::default(),
            output_bytes: Counter::default(),
            hits: Counter::default(),
            misses: Counter::default(),
            expired: Counter::default(),
            expired_fields: Counter::default(),
            lazyfreed: Counter::default(),
            evicted: Counter::default(),
            evicted_clients: Counter::default(),
            dirty: Counter::default(),
            errors: Counter::default(),
            output_limit_disconnections: Counter::default(),
            query_limit_disconnections: Counter::default(),
            reads: Counter::default(),
            writes: Counter::default(),
            put_aside: Counter::default(),
            by_command: registry::all().iter().map(|_| CommandCounters::default()).collect(),
        }
    }
}

impl Stats {
    /// All counters that CONFIG RESETSTAT clears.
    pub fn reset(&self) {
        for counter in [
            &self.connections,
            &self.rejected_connections,
            &self.commands,
            &self.input_bytes,
            &self.output_bytes,
            &self.hits,
            &self.misses,
            &self.expired,
            &self.expired_fields,
            &self.lazyfreed,
            &self.evicted,
            &self.evicted_clients,
            &self.errors,
            &self.output_limit_disconnections,
            &self.query_limit_disconnections,
            &self.reads,
            &self.writes,
            &self.put_aside,
        ] {
            counter.reset();
        }
        for command in &self.by_command {
            for counter in [&command.calls, &command.usec, &command.rejected, &command.failed] {
                counter.reset();
            }
            command.latency.iter().for_each(Counter::reset);
        }
    }
}

/// Figures that only grow, looked at from time to time, to tell how fast they do.
#[derive(Default)]
pub struct Rates {
    /// When (µs) the figures were what.
    samples: VecDeque<(u64, [u64; 3])>,
}

impl Rates {
    /// Notes what the figures are now.
    pub fn add(&mut self, now_us: u64, figures: [u64; 3]) {
        /// Samples kept: at ten a second, some 1.6 s.
        const SAMPLES: usize = 16;
        self.samples.push_back((now_us, figures));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    /// Growth a second between the first and last sample kept.
    pub fn per_second(&self) -> [u64; 3] {
        let (Some((from_us, from)), Some((to_us, to))) = (self.samples.front(), self.samples.back()) else {
            return [0; 3];
        };
        let us = to_us.saturating_sub(*from_us).max(1);
        std::array::from_fn(|index| (to[index].saturating_sub(from[index]) as u128 * 1_000_000 / u128::from(us)) as u64)
    }
}
