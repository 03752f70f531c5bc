//! Which threads are active, and the places where the others wait.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many of the threads drive loops: those with the lowest numbers. No two plans are equal: a thread that missed one notices
/// even if the next has as many threads as the one before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Plan(u64);

impl Plan {
    const ACTIVE_BITS: u32 = 16;

    /// How many threads are active.
    pub fn active(self) -> usize {
        (self.0 & ((1 << Plan::ACTIVE_BITS) - 1)) as usize
    }

    fn next(self, active: usize) -> Plan {
        Plan(((self.0 >> Plan::ACTIVE_BITS) + 1) << Plan::ACTIVE_BITS | active as u64)
    }
}

/// The present plan.
pub struct Roster {
    plan: AtomicU64,
    /// Whether whoever steers waits for traffic.
    resting: AtomicBool,
    /// Guards the changes that the condition variables tell of.
    lock: Mutex<()>,
    /// There is another plan, or the server ends.
    changed: Condvar,
    /// There is traffic again, or the server ends.
    traffic: Condvar,
}

impl Roster {
    /// All of `threads` are active.
    pub fn new(threads: usize) -> Roster {
        Roster {
            plan: AtomicU64::new(threads as u64),
            resting: AtomicBool::new(false),
            lock: Mutex::default(),
            changed: Condvar::new(),
            traffic: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present plan.
    pub fn plan(&self) -> Plan {
        Plan(self.plan.load(Ordering::Acquire))
    }

    /// Changes how many threads are active; part of `Shared::set_active`, which wakes those that wait for events.
    pub fn set_active(&self, threads: usize) {
        let _guard = self.lock();
        self.plan.store(self.plan().next(threads).0, Ordering::Release);
        self.changed.notify_all();
    }

    /// Keeps thread `me` until it is active or `ended`.
    pub fn park(&self, me: usize, ended: impl Fn() -> bool) {
        let guard = self.lock();
        drop(self.changed.wait_while(guard, |()| me >= self.plan().active() && !ended()));
    }

    /// Notes that a turn is about to run.
    #[inline]
    pub fn note_traffic(&self) {
        if self.resting.load(Ordering::Relaxed) {
            self.end_rest();
        }
    }

    #[cold]
    fn end_rest(&self) {
        let _guard = self.lock();
        self.resting.store(false, Ordering::Relaxed);
        self.traffic.notify_all();
    }

    /// Waits for traffic, or until `ended`; for `at_most` so long, since a turn that begins at this very moment is not noticed, and
    /// may be a long one.
    pub fn rest(&self, at_most: Duration, ended: impl Fn() -> bool) {
        let guard = self.lock();
        self.resting.store(true, Ordering::Relaxed);
        let resting = |_: &mut ()| self.resting.load(Ordering::Relaxed) && !ended();
        drop(self.traffic.wait_timeout_while(guard, at_most, resting));
        self.resting.store(false, Ordering::Relaxed);
    }

    /// Waits until so many threads are active.
    #[cfg(test)]
    pub fn wait_for(&self, threads: usize) {
        drop(self.changed.wait_while(self.lock(), |()| self.plan().active() != threads));
    }

    /// Whether whoever steers waits for traffic.
    #[cfg(test)]
    pub fn is_at_rest(&self) -> bool {
        self.resting.load(Ordering::Relaxed)
    }

    /// Waits for `time`, or until `ended`.
    pub fn pause(&self, time: Duration, ended: impl Fn() -> bool) {
        let guard = self.lock();
        drop(self.traffic.wait_timeout_while(guard, time, |()| !ended()));
    }

    /// Has everybody who waits here look whether the server ends.
    pub fn wake_all(&self) {
        let _guard = self.lock();
        self.changed.notify_all();
        self.traffic.notify_all();
    }
}
