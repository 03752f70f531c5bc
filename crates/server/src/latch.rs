//! Something that threads wait for, for a while.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Closed at first; once opened, open for ever.
#[derive(Default)]
pub struct Latch {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Latch {
    /// Lets all go on that wait.
    pub fn open(&self) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    /// Closes it again.
    #[cfg(test)]
    pub fn close(&self) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Waits until it is open, or the time is over.
    pub fn wait(&self, at_most: Duration) {
        let is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waits goes on in either case.
        drop(self.opened.wait_timeout_while(is_open, at_most, |is_open| !*is_open));
    }
}
