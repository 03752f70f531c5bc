//! A loop and its sessions, which one thread after another may drive.

use crate::event_loop::EventLoop;
use crate::sessions::Sessions;
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    /// The thread that drove it last.
    driver: usize,
}

/// The place of one loop.
pub struct Seat<S>(Mutex<Driven<S>>);

// SAFETY: the lock lets one thread at a time at what is within, and `Portable` promises that this is enough.
unsafe impl<S: Portable> Send for Seat<S> {}
// SAFETY: as above.
unsafe impl<S: Portable> Sync for Seat<S> {}

impl<S: Portable> Seat<S> {
    /// A loop that no thread has driven yet.
    pub fn new(event_loop: EventLoop, sessions: S) -> Seat<S> {
        Seat(Mutex::new(Driven { event_loop, sessions, driver: usize::MAX }))
    }

    /// Takes the loop for thread `driver`. Waits until whoever drives it has ended its turn.
    pub fn take(&self, driver: usize) -> MutexGuard<'_, Driven<S>> {
        // A thread that panicked in a turn ended the process, but in tests.
        let mut driven = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if driven.driver != driver {
            driven.driver = driver;
            driven.sessions.changed_thread();
        }
        driven
    }
}
