//! A loop and its sessions, which one thread after another may drive.

use crate::event_loop::EventLoop;
use crate::sessions::Sessions;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// Sessions that may go from one thread to another as a whole, between two turns, though single parts of them may not.
///
/// # Safety
/// Whatever is not `Send` in them (`Rc`s, a Lua state) is reached from nowhere else, and nothing in them refers to the
/// thread that made or last drove them; `Sessions::changed_thread` mends what they remember of it.
pub unsafe trait Portable: Sessions {}

// SAFETY: a worker shares its `Rc`s and its Lua state with nobody: all clones lie in the worker itself, in its sessions and
// in its Lua registry. The script in hand is kept in thread-locals, but for the length of one call only, which begins and
// ends within a turn.
unsafe impl Portable for kelda_engine::worker::Worker {}

#[cfg(test)]
// SAFETY: they are `Send`.
unsafe impl Portable for crate::echo::Echo {}

/// A loop with its sessions.
pub struct Driven<S> {
    /// The sockets.
    pub event_loop: EventLoop,
    /// What is behind them.
    pub sessions: S,
}

/// The place of one loop.
pub struct Seat<S> {
    driven: Mutex<Driven<S>>,
    /// The thread that took it last.
    taker: AtomicUsize,
}

// SAFETY: the lock lets one thread at a time at what is within, and `Portable` promises that this is enough.
unsafe impl<S: Portable> Send for Seat<S> {}
// SAFETY: as above.
unsafe impl<S: Portable> Sync for Seat<S> {}

impl<S: Portable> Seat<S> {
    /// A loop that no thread has driven yet.
    pub fn new(event_loop: EventLoop, sessions: S) -> Seat<S> {
        Seat { driven: Mutex::new(Driven { event_loop, sessions }), taker: AtomicUsize::new(usize::MAX) }
    }

    /// Takes the loop for thread `taker`. Waits until whoever drives it has ended its turn, which may be a long one.
    pub fn take(&self, taker: usize) -> MutexGuard<'_, Driven<S>> {
        // A thread that panicked in a turn ended the process, but in tests.
        self.taken(taker, self.driven.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the loop for thread `taker`, if no other has it.
    pub fn try_take(&self, taker: usize) -> Option<MutexGuard<'_, Driven<S>>> {
        match self.driven.try_lock() {
            Ok(driven) => Some(self.taken(taker, driven)),
            Err(TryLockError::Poisoned(poisoned)) => Some(self.taken(taker, poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn taken<'a>(&'a self, taker: usize, mut driven: MutexGuard<'a, Driven<S>>) -> MutexGuard<'a, Driven<S>> {
        if self.taker.swap(taker, Ordering::Relaxed) != taker {
            driven.sessions.changed_thread();
        }
        driven
    }

    /// The thread that took the loop last: it may still have it.
    pub fn last_taker(&self) -> usize {
        self.taker.load(Ordering::Relaxed)
    }
}
