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
    /// The system's number of the thread; zero before it has begun.
    thread: AtomicU64,
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

    /// To be called by the thread before it begins.
    pub fn begin(&self) {
        self.thread.store(rustix::thread::gettid().as_raw_nonzero().get() as u64, Relaxed);
    }

    /// Nanoseconds for which the thread could have run and had no processor, from the kernel's statistics of scheduling;
    /// zero where it keeps none. Reads a file.
    pub fn preempted_ns(&self) -> u64 {
        let path = format!("/proc/self/task/{}/schedstat", self.thread.load(Relaxed));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0)
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
