//! Counters: each worker writes its own, INFO adds them up.

use crate::registry;
use crate::worker::Worker;
use std::collections::VecDeque;
use std::sync::PoisonError;
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

    /// Notes a figure if it is the highest; only the owning worker may.
    #[inline]
    pub fn raise(&self, figure: u64) {
        if figure > self.0.load(Relaxed) {
            self.0.store(figure, Relaxed);
        }
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
    pub repl_input_bytes: Counter,
    pub repl_output_bytes: Counter,
    pub hits: Counter,
    pub misses: Counter,
    pub expired: Counter,
    pub expired_fields: Counter,
    pub lazyfreed: Counter,
    pub evicted: Counter,
    pub evicted_clients: Counter,
    /// Scripts of EVAL that the cache let go.
    pub evicted_scripts: Counter,
    pub dirty: Counter,
    pub errors: Counter,
    pub output_limit_disconnections: Counter,
    pub query_limit_disconnections: Counter,
    pub reads: Counter,
    pub writes: Counter,
    pub put_aside: Counter,
    /// Turns of the event loop, and µs spent in them, not counting the waits.
    pub turns: Counter,
    pub turns_us: Counter,
    /// The longest turn, in µs, and the most commands in one.
    pub longest_turn_us: Counter,
    pub most_commands: Counter,
    /// µs spent on what is done ten times a second.
    pub cron_us: Counter,
    /// Time spent on removing what is due, in µs.
    pub expiry_us: Counter,
    /// Of active defragmentation: allocations and keys moved and left, µs spent in all and in the present walk, percent of the
    /// time that the walk takes.
    pub defrag_hits: Counter,
    pub defrag_misses: Counter,
    pub defrag_key_hits: Counter,
    pub defrag_key_misses: Counter,
    pub defrag_us: Counter,
    pub defrag_walk_us: Counter,
    pub defrag_percent: Counter,
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
            repl_input_bytes: Counter::default(),
            repl_output_bytes: Counter::default(),
            hits: Counter::default(),
            misses: Counter::default(),
            expired: Counter::default(),
            expired_fields: Counter::default(),
            lazyfreed: Counter::default(),
            evicted: Counter::default(),
            evicted_clients: Counter::default(),
            evicted_scripts: Counter::default(),
            dirty: Counter::default(),
            errors: Counter::default(),
            output_limit_disconnections: Counter::default(),
            query_limit_disconnections: Counter::default(),
            reads: Counter::default(),
            writes: Counter::default(),
            put_aside: Counter::default(),
            turns: Counter::default(),
            turns_us: Counter::default(),
            longest_turn_us: Counter::default(),
            most_commands: Counter::default(),
            cron_us: Counter::default(),
            expiry_us: Counter::default(),
            defrag_hits: Counter::default(),
            defrag_misses: Counter::default(),
            defrag_key_hits: Counter::default(),
            defrag_key_misses: Counter::default(),
            defrag_us: Counter::default(),
            defrag_walk_us: Counter::default(),
            defrag_percent: Counter::default(),
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
            &self.repl_input_bytes,
            &self.repl_output_bytes,
            &self.hits,
            &self.misses,
            &self.expired,
            &self.expired_fields,
            &self.lazyfreed,
            &self.evicted,
            &self.evicted_clients,
            &self.evicted_scripts,
            &self.errors,
            &self.output_limit_disconnections,
            &self.query_limit_disconnections,
            &self.reads,
            &self.writes,
            &self.put_aside,
            &self.turns,
            &self.turns_us,
            &self.longest_turn_us,
            &self.most_commands,
            &self.cron_us,
            &self.expiry_us,
            &self.defrag_hits,
            &self.defrag_misses,
            &self.defrag_key_hits,
            &self.defrag_key_misses,
            &self.defrag_us,
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

/// Counts an error reply by its code, for INFO errorstats; `custom`: a script may have made the code up.
pub(crate) fn count_error(worker: &Worker, line: &[u8], custom: bool) {
    /// Codes up to which scripts add their own.
    const CODES: usize = 128;
    /// What counts the others.
    const OTHERS: &str = "ERRORSTATS_OVERFLOW";
    worker.stats().errors.add(1);
    let code = line.get(1..).unwrap_or_default().split(|byte| b" \r\n".contains(byte)).next().unwrap_or_default();
    let code = String::from_utf8_lossy(&code[..code.len().min(64)]).into_owned();
    let mut errors = worker.engine.errors.lock().unwrap_or_else(PoisonError::into_inner);
    let code = if custom && errors.len() >= CODES && !errors.contains_key(&code) { OTHERS.into() } else { code };
    *errors.entry(code).or_default() += 1;
}

/// How many figures [`Rates`] keeps.
pub const RATES: usize = 5;

/// Figures that only grow, looked at from time to time, to tell how fast they do.
#[derive(Default)]
pub struct Rates {
    /// When (µs) the figures were what.
    samples: VecDeque<(u64, [u64; RATES])>,
}

impl Rates {
    /// Notes what the figures are now.
    pub fn add(&mut self, now_us: u64, figures: [u64; RATES]) {
        /// Samples kept: at ten a second, some 1.6 s.
        const SAMPLES: usize = 16;
        self.samples.push_back((now_us, figures));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    /// Growth a second between the first and last sample kept.
    pub fn per_second(&self) -> [u64; RATES] {
        let (Some((from_us, from)), Some((to_us, to))) = (self.samples.front(), self.samples.back()) else {
            return [0; RATES];
        };
        let us = to_us.saturating_sub(*from_us).max(1);
        std::array::from_fn(|index| (to[index].saturating_sub(from[index]) as u128 * 1_000_000 / u128::from(us)) as u64)
    }
}

impl Worker {
    /// Counts a turn of the event loop, which woke then. What is done at the end of a turn counts as one µs: the clock is not read
    /// for it.
    pub(crate) fn end_turn(&mut self, woken_us: i64) {
        let (began_us, commands) = std::mem::take(&mut self.turn_began);
        let stats = self.stats();
        let mut us = 1;
        if began_us != 0 {
            us += (woken_us - began_us).max(0) as u64;
            stats.most_commands.raise(stats.commands.get().saturating_sub(commands));
        }
        stats.turns.add(1);
        stats.turns_us.add(us);
        stats.longest_turn_us.raise(us);
    }
}
