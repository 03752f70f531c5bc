//! FAILOVER: handing the lead over to a replica, with nothing lost.
//!
//! Writes wait, as under CLIENT PAUSE WRITE, until the replica has everything; a thread of its own looks whether it has. Then this
//! server follows it, and says in PSYNC that it is to lead from now on; when it agrees, the writes that waited are told who leads.
//!
//! Invariant: between the moment at which every worker holds writes back and the end, nothing is added to the history. So a replica
//! that has its end has all of it.

use crate::clients::Holder;
use crate::engine::Engine;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often it is looked whether the replica has everything.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What FAILOVER asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// The replica that is to lead, by the address that it announced; else any.
    pub target: Option<(String, u16)>,
    /// Unix ms from which on it is not waited for any more.
    pub until_ms: Option<i64>,
    /// Whether it is to lead then, rather than this server.
    pub force: bool,
}

/// How far a failover is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// There is none.
    #[default]
    None,
    /// The replica has yet to get everything.
    Waiting,
    /// This server has asked it to lead.
    Handing,
}

impl Stage {
    /// INFO's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Stage::None => "no-failover",
            Stage::Waiting => "waiting-for-sync",
            Stage::Handing => "failover-in-progress",
        }
    }
}

/// The failover that is under way, if any.
#[derive(Default)]
pub struct Failover {
    on: AtomicBool,
    /// Moves with each failover, so that a thread does not take the next one for its own.
    inner: Mutex<(Stage, u64)>,
    ended: Condvar,
}

impl Failover {
    fn lock(&self) -> MutexGuard<'_, (Stage, u64)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one is under way: then writes wait.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        self.lock().0
    }

    /// Begins one. `false` if one is under way.
    pub(crate) fn begin(&self, engine: &Arc<Engine>, plan: Plan) -> bool {
        let mut inner = self.lock();
        if inner.0 != Stage::None {
            return false;
        }
        *inner = (Stage::Waiting, inner.1 + 1);
        let number = inner.1;
        self.on.store(true, Relaxed);
        engine.pause.hold(Holder::Failover, true);
        drop(inner);
        let shared = engine.clone();
        engine.platform.in_background("failover", Box::new(move || shared.failover.run(&shared, plan, number)));
        true
    }

    /// Waits for the replica, and then follows it.
    fn run(&self, engine: &Arc<Engine>, plan: Plan, number: u64) {
        // From here on nobody writes.
        let held = engine.following.await_workers(engine);
        let mut inner = self.lock();
        while held && *inner == (Stage::Waiting, number) && !engine.platform.is_ending() {
            let late = plan.until_ms.is_some_and(|until_ms| engine.clock.unix_us() / 1000 >= until_ms);
            let ready = engine.replication.caught_up(plan.target.as_ref());
            let target = match ready {
                None if late && plan.force => plan.target.clone(),
                ready => ready,
            };
            if let Some((host, port)) = target {
                let why = if late { "time out exceeded, failing over." } else { "it has everything." };
                engine.platform.log(2, &format!("Failover to {host}:{port}: {why}"));
                inner.0 = Stage::Handing;
                drop(inner);
                engine.following.follow(engine, &host, port);
                return;
            }
            if late {
                drop(inner);
                self.end(engine, "Failover aborted: the replica never had everything in time");
                return;
            }
            inner = self.ended.wait_timeout(inner, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives it up; this server leads. `false` if there is none.
    pub(crate) fn abort(&self, engine: &Arc<Engine>, why: &str) -> bool {
        match self.stage() {
            Stage::None => return false,
            Stage::Waiting => {}
            Stage::Handing => _ = engine.following.lead(engine),
        }
        self.end(engine, why);
        true
    }

    /// It is over: the writes that waited go on, wherever they are to go.
    pub(crate) fn end(&self, engine: &Engine, how: &str) {
        let mut inner = self.lock();
        if inner.0 == Stage::None {
            return;
        }
        inner.0 = Stage::None;
        self.on.store(false, Relaxed);
        engine.pause.hold(Holder::Failover, false);
        self.ended.notify_all();
        engine.platform.log(2, how);
    }
}
