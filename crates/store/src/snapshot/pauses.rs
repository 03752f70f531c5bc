//! How long a snapshot keeps others waiting.

use std::sync::atomic::{AtomicU64, Ordering};

/// Tells a time in µs.
pub type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// The longest times so far. Without a clock nothing is measured.
#[derive(Default)]
pub struct Pauses {
    /// A clock that goes on always, and one that goes on only while this thread has a core.
    clocks: Option<(Clock, Clock)>,
    hold_us: AtomicU64,
    hold_cpu_us: AtomicU64,
    early_us: AtomicU64,
}

impl Pauses {
    /// Measures with a clock that goes on always, and with one that goes on only while a thread has a core.
    pub fn new(clock: Clock, cpu_clock: Clock) -> Pauses {
        Pauses { clocks: Some((clock, cpu_clock)), ..Pauses::default() }
    }

    /// µs for which the snapshot held shards, at most, at once.
    pub fn hold_us(&self) -> u64 {
        self.hold_us.load(Ordering::Relaxed)
    }

    /// The same without the time for which the thread was put off its core.
    pub fn hold_cpu_us(&self) -> u64 {
        self.hold_cpu_us.load(Ordering::Relaxed)
    }

    /// µs that a writer spent, at most, on a key that it was about to change.
    pub fn early_us(&self) -> u64 {
        self.early_us.load(Ordering::Relaxed)
    }

    /// The snapshot holds shards until this is dropped.
    pub fn hold(&self) -> Timer<'_> {
        Timer { pauses: self, begun_us: self.now(), cpu_us: Some(self.cpu_now()) }
    }

    /// A writer is kept until this is dropped.
    pub(super) fn early(&self) -> Timer<'_> {
        // To ask for a thread's own time takes long.
        Timer { pauses: self, begun_us: self.now(), cpu_us: None }
    }

    fn now(&self) -> u64 {
        self.clocks.as_ref().map_or(0, |(clock, _)| clock())
    }

    fn cpu_now(&self) -> u64 {
        self.clocks.as_ref().map_or(0, |(_, clock)| clock())
    }
}

/// Measures one hold, or one early image.
pub struct Timer<'a> {
    pauses: &'a Pauses,
    begun_us: u64,
    /// Of a hold.
    cpu_us: Option<u64>,
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        let Pauses { hold_us, hold_cpu_us, early_us, .. } = self.pauses;
        let took_us = self.pauses.now().saturating_sub(self.begun_us);
        match self.cpu_us {
            Some(cpu_us) => {
                hold_us.fetch_max(took_us, Ordering::Relaxed);
                // A system may charge a thread late for what interrupted it before.
                let cpu_us = self.pauses.cpu_now().saturating_sub(cpu_us).min(took_us);
                hold_cpu_us.fetch_max(cpu_us, Ordering::Relaxed);
            }
            None => _ = early_us.fetch_max(took_us, Ordering::Relaxed),
        }
    }
}
