//! The threads that drive the loops: all of them under load, few while there is little to do.
//!
//! There are as many loops as threads, and a connection stays with its loop. While `n` threads are active, thread `t < n`
//! drives the loops `t`, `t + n`, `t + 2n` …, and the others are parked. A thread that finds several sockets ready in one
//! look pays for one wake-up instead of several: with one thread awake instead of two, a request costs a quarter less
//! when each connection sends one at a time. [`crate::steering`] chooses `n`.
//!
//! Invariant: a loop's turn runs under its seat's lock. When `n` changes, two threads may believe for a moment that a loop is
//! theirs: one of them leaves the other's turn alone, and nothing is lost or done twice.
//!
//! A turn may be long: a script, a slow command. `steering` then has all threads active, and the thread whose own loop another is
//! busy with stands in for that one: it drives the loop that the other should be driving. It may have been quick to judge, so
//! that the other drives it as well. Hence, when it has loops of its own again, it gives that loop back, sockets and all.
//!
//! Invariant: the thread that has a loop's sockets knows when the loop needs a turn: it drives the loop, and is woken when another
//! has run a turn of it.

use crate::driver::Driver;
use crate::event_loop::Shared;
use crate::roster::Plan;
use crate::seat::{Portable, Seat};
use std::time::{Duration, Instant};

/// How often a thread tries again to get a loop that is its own and that another has.
const RETRY: Duration = Duration::from_millis(5);

/// Drives loops until the server ends; then ends the loop of the thread's own number.
pub fn drive<S: Portable>(shared: &Shared, seats: &[Seat<S>], mut driver: Driver) {
    let me = driver.me;
    driver.reach().gauge.begin();
    while !shared.is_stopping() {
        let plan = shared.roster.plan();
        if me < plan.active() {
            Watch::new(shared, seats, &mut driver, plan).keep();
        } else {
            shared.roster.park(me, || shared.is_stopping());
        }
    }
    let mut driven = seats[me].take(me); // as many as threads
    let driven = &mut *driven;
    driven.event_loop.end(&mut driven.sessions);
}

/// A loop that a thread drives.
struct Mine {
    at: usize,
    /// When it has to have a turn, if not for events before.
    due: Option<Instant>,
}

/// A thread's work under one plan.
struct Watch<'a, S> {
    shared: &'a Shared,
    seats: &'a [Seat<S>],
    driver: &'a mut Driver,
    plan: Plan,
    mine: Vec<Mine>,
    /// Loops that are this thread's by the plan, and that others had when it looked.
    missing: Vec<usize>,
    /// Which of `mine` is the loop of another thread, which was busy with this one's.
    standing_in: Option<usize>,
}

impl<'a, S: Portable> Watch<'a, S> {
    fn new(shared: &'a Shared, seats: &'a [Seat<S>], driver: &'a mut Driver, plan: Plan) -> Watch<'a, S> {
        let missing = (driver.me..seats.len()).step_by(plan.active()).collect();
        Watch { shared, seats, driver, plan, mine: Vec::new(), missing, standing_in: None }
    }

    fn is_over(&self) -> bool {
        self.shared.roster.plan() != self.plan || self.shared.is_stopping()
    }

    /// Drives loops until the plan is over.
    fn keep(mut self) {
        let gauge = self.driver.reach().clone();
        while !self.is_over() {
            if self.is_incomplete() {
                self.gather();
            }
            let retry = self.is_incomplete().then(|| Instant::now() + RETRY);
            let earliest = self.mine.iter().filter_map(|mine| mine.due).chain(retry).min();
            self.driver.poll(earliest.map(|at| at.saturating_duration_since(Instant::now())));
            self.shared.roster.note_traffic();
            let now = earliest.map(|_| Instant::now());
            for mine in &mut self.mine {
                let is_due = mine.due.is_some_and(|due| now.is_some_and(|now| due <= now));
                let is_woken = || self.shared.mailboxes[mine.at].is_woken();
                if is_due || self.driver.has_reported(mine.at) || is_woken() {
                    gauge.gauge.in_turn(|| mine.turn(self.seats, self.driver, now));
                }
            }
        }
    }

    /// Whether it does not drive just those loops that it should.
    fn is_incomplete(&self) -> bool {
        !self.missing.is_empty() || self.standing_in.is_some()
    }

    /// Takes what loops can be had.
    fn gather(&mut self) {
        let missing = std::mem::take(&mut self.missing);
        let (had, missing): (Vec<usize>, Vec<usize>) = missing.into_iter().partition(|&at| self.adopt(at));
        self.missing = missing;
        self.mine.extend(had.into_iter().map(Mine::new));
        let Some(at) = self.standing_in else {
            if self.mine.is_empty() {
                self.stand_in();
            }
            return;
        };
        if self.mine.len() > 1 && self.give_back(at) {
            self.standing_in = None;
            self.mine.retain(|mine| mine.at != at);
        }
    }

    /// Takes the loop of the thread that is busy with this one's; if that one is taken too, of its taker, and so on.
    fn stand_in(&mut self) {
        let mut at = self.driver.me;
        for _ in 0..self.seats.len() {
            at = self.seats[at].last_taker();
            if at >= self.seats.len() || at == self.driver.me {
                return;
            }
            if self.adopt(at) {
                self.standing_in = Some(at);
                return self.mine.push(Mine::new(at));
            }
        }
    }

    /// Has a loop's sockets reported to this thread; `false` if another has the loop.
    fn adopt(&mut self, at: usize) -> bool {
        let Some(mut driven) = self.seats[at].try_take(self.driver.me) else {
            return false;
        };
        // Asked with the seat taken: once the driver by a later plan has had it, this thread must not take the sockets back.
        if self.is_over() {
            return false;
        }
        driven.event_loop.move_to(self.driver.me);
        true
    }

    /// Has a loop's sockets reported to the thread that should drive it; `false` if the loop is in a turn.
    fn give_back(&mut self, at: usize) -> bool {
        let Some(mut driven) = self.seats[at].try_take(self.driver.me) else {
            return false;
        };
        // By another plan all loops are taken anew.
        if !self.is_over() && driven.event_loop.driver() == self.driver.me {
            driven.event_loop.move_to(at % self.plan.active());
            self.shared.mailboxes[at].wake();
        }
        true
    }
}

impl Mine {
    /// A loop begins with a turn: whoever woke it while it moved may have woken the thread that it came from.
    fn new(at: usize) -> Mine {
        Mine { at, due: Some(Instant::now()) }
    }

    fn turn<S: Portable>(&mut self, seats: &[Seat<S>], driver: &mut Driver, now: Option<Instant>) {
        let Some(mut driven) = seats[self.at].try_take(driver.me) else {
            // By a plan that this thread has not seen yet, or for a moment.
            self.due = Some(Instant::now() + RETRY);
            return;
        };
        let driven = &mut *driven;
        driven.event_loop.turn(driver, &mut driven.sessions);
        driven.event_loop.end_turn(driver.me);
        self.due = driven.event_loop.patience(&driven.sessions).map(|patience| match (patience, now) {
            (Duration::ZERO, Some(now)) => now,
            (later, _) => Instant::now() + later,
        });
    }
}
