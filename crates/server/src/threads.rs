//! The threads that drive the loops: all of them under load, few while there is little to do.
//!
//! There are as many loops as threads, and a connection stays with its loop. While `n` threads are active, thread `t < n`
//! drives the loops `t`, `t + n`, `t + 2n` …, and the others are parked. A thread that finds several sockets ready in one
//! look pays for one wake-up instead of several: with one thread awake instead of two, a request costs a quarter less
//! when each connection sends one at a time. [`crate::steering`] chooses `n`.
//!
//! Invariant: a loop's turn runs under its seat's lock. When `n` changes, two threads may believe for a moment that a loop is
//! theirs: one of them waits for the other's turn to end, and nothing is lost or done twice.

use crate::driver::Driver;
use crate::event_loop::Shared;
use crate::roster::Plan;
use crate::seat::{Portable, Seat};
use std::time::{Duration, Instant};

/// Drives loops until the server ends; then ends the loop of the thread's own number.
pub fn drive<S: Portable>(shared: &Shared, seats: &[Seat<S>], mut driver: Driver) {
    let me = driver.me;
    while !shared.is_stopping() {
        let plan = shared.roster.plan();
        if me < plan.active() {
            drive_some(shared, seats, &mut driver, plan);
        } else {
            shared.roster.park(me, || shared.is_stopping());
        }
    }
    let mut driven = seats[me].take(me); // as many as threads
    let driven = &mut *driven;
    driven.event_loop.end(&mut driven.sessions);
}

/// Drives this thread's loops for as long as `plan` holds.
fn drive_some<S: Portable>(shared: &Shared, seats: &[Seat<S>], driver: &mut Driver, plan: Plan) {
    let is_over = || shared.roster.plan() != plan || shared.is_stopping();
    let mine: Vec<usize> = (driver.me..seats.len()).step_by(plan.active()).collect();
    let gauge = &driver.reach().clone().gauge;
    for &at in &mine {
        let mut driven = seats[at].take(driver.me);
        // Asked with the seat taken: once the driver by a later plan has had it, this thread must not take the sockets back.
        if is_over() {
            return;
        }
        driven.event_loop.move_to(driver.me);
    }
    // By position in `mine`: when the loop has to have a turn, if not for events before. Each begins with one: whoever woke it
    // while it moved may have woken the thread that it came from.
    let mut due = vec![Some(Instant::now()); mine.len()];
    while !is_over() {
        let earliest = due.iter().flatten().min();
        driver.poll(earliest.map(|at| at.saturating_duration_since(Instant::now())));
        let now = earliest.map(|_| Instant::now());
        for (&at, due) in mine.iter().zip(&mut due) {
            let is_due = due.is_some_and(|due| now.is_some_and(|now| due <= now));
            if !is_due && !driver.has_reported(at) && !shared.mailboxes[at].is_woken() {
                continue;
            }
            let mut driven = seats[at].take(driver.me);
            let driven = &mut *driven;
            let mut run = || driven.event_loop.turn(driver, &mut driven.sessions);
            if mine.len() == 1 {
                run()
            } else {
                gauge.in_turn(run)
            }
            *due = driven.event_loop.patience(&driven.sessions).map(|patience| match (patience, now) {
                (Duration::ZERO, Some(now)) => now,
                (later, _) => Instant::now() + later,
            });
        }
        shared.roster.note_traffic();
    }
}
