//! What is measured of a thread, for [`crate::steering`] to read: plain counters on a cache line of their own.

use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// What the gauges' times count from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn now_ns() -> u64 {
    START.elapsed().as_nanos() as u64
}

/// Counters that only go up, written by the thread alone.
#[derive(Default)]
#[repr(align(128))]
pub struct Gauge {
    slept_ns: AtomicU64,
    /// When the thread began to wait; zero while it does not.
    asleep_since_ns: AtomicU64,
    turns: AtomicU64,
}

/// A gauge at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Nanoseconds that the thread has waited for events.
    pub slept_ns: u64,
    /// Odd while the thread is in the turn of a loop.
    pub turns: u64,
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

impl Gauge {
    /// Waits for events, which `wait` does.
    pub fn asleep<R>(&self, wait: impl FnOnce() -> R) -> R {
        let began = now_ns();
        self.asleep_since_ns.store(began, Relaxed);
        let result = wait();
        self.asleep_since_ns.store(0, Relaxed);
        add(&self.slept_ns, now_ns().saturating_sub(began));
        result
    }

    /// Runs the turn of a loop.
    pub fn in_turn<R>(&self, turn: impl FnOnce() -> R) -> R {
        add(&self.turns, 1);
        let result = turn();
        add(&self.turns, 1);
        result
    }

    /// The counters as they are.
    pub fn read(&self) -> Reading {
        // A thread that wakes up between the two looks counts a little twice, or not at all: it evens out.
        let asleep_ns = match self.asleep_since_ns.load(Relaxed) {
            0 => 0,
            since => now_ns().saturating_sub(since),
        };
        Reading { slept_ns: self.slept_ns.load(Relaxed) + asleep_ns, turns: self.turns.load(Relaxed) }
    }
}
