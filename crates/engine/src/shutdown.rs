//! SHUTDOWN, and the signals that ask for the end: waiting for replicas that have yet to get something.
//!
//! Writes wait meanwhile, as under CLIENT PAUSE WRITE, so that there is an end to what replicas must get. A thread of its own looks
//! whether they have it, for as long as `shutdown-timeout` allows; then who asked goes on with the shutdown.

use crate::clients::Holder;
use crate::engine::Engine;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often it is looked whether the replicas have everything.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What became of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on.
    Waiting,
    /// The replicas have everything, or had their time.
    Ready,
    /// There is no shutdown.
    Aborted,
}

struct Inner {
    outcome: Outcome,
    /// Names the wait that `outcome` is of.
    number: u64,
    until_ms: i64,
}

/// A shutdown that waits for replicas, if there is one.
pub struct Shutdown {
    inner: Mutex<Inner>,
    decided: Condvar,
}

impl Default for Shutdown {
    fn default() -> Shutdown {
        let inner = Inner { outcome: Outcome::Aborted, number: 0, until_ms: 0 };
        Shutdown { inner: Mutex::new(inner), decided: Condvar::new() }
    }
}

impl Shutdown {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when it waits, Unix ms, if it does.
    pub fn until_ms(&self) -> Option<i64> {
        let inner = self.lock();
        (inner.outcome == Outcome::Waiting).then_some(inner.until_ms)
    }

    /// What became of the wait of this number.
    pub(crate) fn outcome(&self, number: u64) -> Outcome {
        let inner = self.lock();
        if inner.number == number { inner.outcome } else { Outcome::Aborted }
    }

    /// Begins to wait, or joins who waits already; the number of the wait. `None` if there is nothing to wait for.
    pub(crate) fn begin(&self, engine: &Arc<Engine>) -> Option<u64> {
        let timeout_ms = engine.config.settings().shutdown_timeout.saturating_mul(1000) as i64;
        let mut inner = self.lock();
        if inner.outcome == Outcome::Waiting {
            return Some(inner.number);
        }
        if timeout_ms == 0 || engine.following.is_on() || engine.replication.lagging(0).0.is_empty() {
            return None;
        }
        engine.platform.log(2, "Waiting for replicas before shutting down.");
        engine.pause.hold(Holder::Shutdown, true);
        let now_ms = engine.clock.unix_us() / 1000;
        *inner =
            Inner { outcome: Outcome::Waiting, number: inner.number + 1, until_ms: now_ms.saturating_add(timeout_ms) };
        let (number, shared) = (inner.number, engine.clone());
        drop(inner);
        engine.platform.in_background("shutdown", Box::new(move || shared.shutdown.run(&shared, number)));
        Some(number)
    }

    fn run(&self, engine: &Arc<Engine>, number: u64) {
        // From here on nobody writes.
        engine.following.await_workers(engine);
        let mut inner = self.lock();
        while inner.number == number && inner.outcome == Outcome::Waiting {
            let now_ms = engine.clock.unix_us() / 1000;
            if engine.replication.lagging(now_ms).0.is_empty() || now_ms >= inner.until_ms {
                inner.outcome = Outcome::Ready;
                self.decided.notify_all();
                return;
            }
            inner = self.decided.wait_timeout(inner, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for replicas, if that must be; for threads that run no commands. Whether the shutdown is to go on.
    pub fn wait(&self, engine: &Arc<Engine>) -> bool {
        let Some(number) = self.begin(engine) else { return true };
        let waiting = |inner: &mut Inner| inner.number == number && inner.outcome == Outcome::Waiting;
        drop(self.decided.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner));
        self.outcome(number) == Outcome::Ready
    }

    /// SHUTDOWN ABORT. `false` if nobody waits.
    pub(crate) fn abort(&self, engine: &Engine) -> bool {
        if self.until_ms().is_none() {
            return false;
        }
        self.give_up(engine);
        engine.platform.log(2, "Shutdown manually aborted.");
        true
    }

    /// There is no shutdown: the writes that waited go on.
    pub fn give_up(&self, engine: &Engine) {
        self.lock().outcome = Outcome::Aborted;
        engine.pause.hold(Holder::Shutdown, false);
        self.decided.notify_all();
    }

    /// Says in the log which replicas lack something at the end.
    pub fn note_replicas(&self, engine: &Engine) {
        let (lagging, all) = engine.replication.lagging(engine.clock.unix_us() / 1000);
        for line in &lagging {
            engine.platform.log(2, line);
        }
        if all != 0 {
            let in_sync = all - lagging.len();
            engine.platform.log(2, &format!("{in_sync} of {all} replicas are in sync when shutting down."));
        }
    }

    /// Whether somebody waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.until_ms().is_some()
    }
}
