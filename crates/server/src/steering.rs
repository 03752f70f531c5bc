//! How many threads are active: as few as the load needs.
//!
//! Every few milliseconds, while there is traffic, the gauges of all threads are read, and [`Policy`] decides. All threads become
//! active at once when one of them hardly sleeps any more, and stay active if that brings throughput: where the clients run on the
//! same few cores, a second thread only takes time from them. For the same reason fewer are tried now and then while the threads
//! wait for processors. All become active, too, when a thread is kept by one command: no other loop must
//! wait for that.

use crate::event_loop::Shared;
use crate::gauge::Reading;
use std::time::{Duration, Instant};

/// From one look at the gauges to the next.
const TICK: Duration = Duration::from_millis(5);
/// Ticks without traffic after which nobody looks, until there is some.
const QUIET_TICKS: u32 = 20;
/// For so long at most nobody looks.
const REST: Duration = Duration::from_millis(100);
/// With more connections than this all threads are active: moving them takes about a microsecond each.
const CONNECTIONS_MAX: usize = 1000;
/// A thread that sleeps for less than this part of the time has all that it can do.
const HOT_SLEEP: f64 = 0.1;
/// For so many ticks in a row a thread has to be hot before others come to help.
const HOT_TICKS: u32 = 4;
/// The same where threads wait for processors: more of them may well be no help, and what was moved in the first ticks of a load is
/// too little to compare with.
const HOT_CROWDED_TICKS: u32 = 2 * BASELINE_TICKS;
/// The longest look back at the throughput before.
const BASELINE_TICKS: u32 = 20;
/// How long a trial with all threads goes, after a first tick that does not count.
const TRIAL_TICKS: u32 = 20;
/// Throughput, relative to before, that is worth the further threads,
const WORTH: f64 = 1.2;
/// and what is, if no thread is hot any more: the load is served, and was not before.
const WORTH_IF_SERVED: f64 = 1.05;
/// Ticks from a trial that failed to the next; doubles up to the second.
const RETRY_TICKS: (u32, u32) = (200, 800);
/// The same of trials with fewer threads, which delay whoever needs all of them.
const RETRY_FEWER_TICKS: (u32, u32) = (400, 12_800);
/// After so many ticks a trial with fewer threads ends if it has brought much less.
const GLANCE_TICKS: u32 = 4;
/// Threads that have no processor for this part of the time in which they could run share the cores with others, perhaps with
/// those whom they serve.
const CROWDED: f64 = 0.1;
/// The part of its time that a thread may be busy when the rest is given to fewer threads.
const FULL: f64 = 0.8;
/// For so many ticks fewer threads have to be enough before there are fewer.
const LOW_TICKS: u32 = 40;
/// For so many ticks after a long command all threads stay active.
const HOLD_TICKS: u32 = 1000;

/// What was measured in one tick.
#[derive(Clone, Debug, Default)]
pub struct Tick {
    /// By active thread: the part of the time that it slept.
    pub slept: Vec<f64>,
    /// Cores that the process kept busy, on average.
    pub busy: f64,
    /// Bytes received and sent, by all, in the length of a tick.
    pub moved: f64,
    /// Whether one turn keeps a thread.
    pub stuck: bool,
    /// The part of the time in which active threads could have run and had no processor, of late.
    pub waited: f64,
}

impl Tick {
    /// Whether a thread has all that it can do.
    fn is_hot(&self) -> bool {
        self.slept.iter().any(|&slept| slept < HOT_SLEEP)
    }
}

/// A trial under way, with all threads or with fewer than before.
struct Trial {
    /// Threads before.
    from: usize,
    /// Bytes moved in a tick before.
    baseline: f64,
    ticks: u32,
    moved: f64,
    hot: u32,
}

/// Decides from one tick to the next; knows no clock and no thread.
pub struct Policy {
    threads: usize,
    active: usize,
    trial: Option<Trial>,
    /// Ticks in a row in which a thread was hot, and what was moved in the last of them.
    hot: u32,
    hot_moved: Vec<f64>,
    /// What was moved in the last ticks in a row in which the threads waited for processors.
    crowded_moved: Vec<f64>,
    /// Ticks in a row in which fewer threads were enough, and the most that were needed in them.
    low: u32,
    low_needed: usize,
    /// Ticks until the next trial may begin, and from the next failure to the trial after it.
    until_trial: u32,
    retry: u32,
    /// The same of trials with fewer threads.
    until_fewer: u32,
    retry_fewer: u32,
    /// Ticks that all threads stay active.
    hold: u32,
}

impl Policy {
    /// Of `threads`, all are active.
    pub fn new(threads: usize) -> Policy {
        Policy {
            threads,
            active: threads,
            trial: None,
            hot: 0,
            hot_moved: Vec::new(),
            crowded_moved: Vec::new(),
            low: 0,
            low_needed: 1,
            until_trial: 0,
            retry: RETRY_TICKS.0,
            until_fewer: 0,
            retry_fewer: RETRY_FEWER_TICKS.0,
            hold: 0,
        }
    }

    /// How many threads are to be active from now on.
    pub fn tick(&mut self, tick: &Tick) -> usize {
        self.until_trial = self.until_trial.saturating_sub(1);
        self.until_fewer = self.until_fewer.saturating_sub(1);
        self.hold = self.hold.saturating_sub(1);
        let is_hot = tick.is_hot();
        if tick.stuck {
            self.hold = HOLD_TICKS;
            self.change(self.threads);
        } else if self.trial.is_some() {
            self.go_on_trying(tick, is_hot);
        } else if is_hot && self.active < self.threads {
            self.heat(tick);
        } else {
            self.hot = 0;
            self.hot_moved.clear();
            self.cool(tick);
        }
        self.active
    }

    fn change(&mut self, active: usize) {
        self.active = active;
        self.trial = None;
        (self.hot, self.low, self.low_needed) = (0, 0, 1);
        self.hot_moved.clear();
        self.crowded_moved.clear();
    }

    fn begin_trial(&mut self, active: usize, baseline: f64) {
        let from = self.active;
        self.change(active);
        self.trial = Some(Trial { from, baseline, ticks: 0, moved: 0.0, hot: 0 });
    }

    /// A thread has all that it can do.
    fn heat(&mut self, tick: &Tick) {
        (self.low, self.low_needed) = (0, 1);
        self.hot += 1;
        note(&mut self.hot_moved, tick.moved);
        let enough = if tick.waited < CROWDED { HOT_TICKS } else { HOT_CROWDED_TICKS };
        if self.hot >= enough && self.until_trial == 0 {
            self.begin_trial(self.threads, mean(&self.hot_moved));
        }
    }

    fn go_on_trying(&mut self, tick: &Tick, is_hot: bool) {
        let Some(trial) = &mut self.trial else {
            return;
        };
        trial.ticks += 1;
        if trial.ticks > 1 {
            trial.moved += tick.moved;
            trial.hot += u32::from(is_hot);
        }
        let counted = (trial.ticks - 1).min(TRIAL_TICKS);
        let gain = trial.moved / f64::from(counted.max(1)) / trial.baseline.max(1.0);
        let (from, fewer) = (trial.from, self.active < trial.from);
        if counted < TRIAL_TICKS {
            if fewer && counted >= GLANCE_TICKS && gain * WORTH < 1.0 {
                self.refuse_fewer(from);
            }
            return;
        }
        let served = trial.hot < TRIAL_TICKS / 2;
        if fewer {
            if gain * WORTH < 1.0 {
                return self.refuse_fewer(from);
            }
            self.retry_fewer = RETRY_FEWER_TICKS.0;
            // More have just been shown to bring nothing.
            self.until_trial = self.retry;
            self.change(self.active);
        } else if gain >= WORTH || (served && gain >= WORTH_IF_SERVED) {
            self.retry = RETRY_TICKS.0;
            // Fewer have just been shown not to do.
            self.until_fewer = self.retry_fewer;
            self.change(self.threads);
        } else {
            self.until_trial = self.retry;
            self.retry = (self.retry * 2).min(RETRY_TICKS.1);
            self.change(from);
        }
    }

    /// Ends a trial with fewer threads than the `from` that are needed.
    fn refuse_fewer(&mut self, from: usize) {
        self.until_fewer = self.retry_fewer;
        self.retry_fewer = (self.retry_fewer * 2).min(RETRY_FEWER_TICKS.1);
        self.change(from);
    }

    /// No thread is hot, or all are active.
    fn cool(&mut self, tick: &Tick) {
        let needed = ((tick.busy / FULL).ceil() as usize).max(1);
        if needed >= self.active || self.hold > 0 {
            (self.low, self.low_needed) = (0, 1);
            return self.look_for_crowd(tick);
        }
        self.crowded_moved.clear();
        self.low += 1;
        self.low_needed = self.low_needed.max(needed);
        if self.low >= LOW_TICKS {
            self.change(self.low_needed);
        }
    }

    /// All of the active threads are needed, as it seems; but clients on the same cores may be what keeps them waiting.
    fn look_for_crowd(&mut self, tick: &Tick) {
        if tick.waited < CROWDED || self.active == 1 || self.hold > 0 {
            return self.crowded_moved.clear();
        }
        note(&mut self.crowded_moved, tick.moved);
        if self.crowded_moved.len() == BASELINE_TICKS as usize && self.until_fewer == 0 {
            // As many as got a processor.
            let had = (self.active as f64 * (1.0 - tick.waited)) as usize;
            self.begin_trial(had.clamp(1, self.active - 1), mean(&self.crowded_moved));
        }
    }
}

/// Adds to what was moved in the last ticks.
fn note(ticks: &mut Vec<f64>, moved: f64) {
    if ticks.len() == BASELINE_TICKS as usize {
        ticks.remove(0);
    }
    ticks.push(moved);
}

fn mean(ticks: &[f64]) -> f64 {
    ticks.iter().sum::<f64>() / ticks.len().max(1) as f64
}

/// All gauges at one moment.
#[derive(PartialEq)]
struct Look {
    threads: Vec<Reading>,
    moved: u64,
}

impl Look {
    fn at(shared: &Shared) -> Look {
        Look {
            threads: shared.threads.iter().map(|thread| thread.gauge.read()).collect(),
            moved: shared.mailboxes.iter().map(|mailbox| mailbox.moved()).fold(0, u64::wrapping_add),
        }
    }

    /// Whether no turn has been run since.
    fn is_quiet_since(&self, before: &Look) -> bool {
        let same_turns = |(a, b): (&Reading, &Reading)| a.turns == b.turns && a.turns.is_multiple_of(2);
        self.moved == before.moved && self.threads.iter().zip(&before.threads).all(same_turns)
    }
}

/// Steers until the server ends.
pub fn steer(shared: &Shared) {
    let threads = shared.threads.len();
    let ended = || shared.is_stopping();
    let mut policy = Policy::new(threads);
    let mut suspects = vec![None; threads];
    let mut crowd = Crowd::default();
    let (mut before, mut at, mut cpu_before, mut quiet) = (Look::at(shared), Instant::now(), cpu_time(), 0);
    while !ended() {
        shared.roster.pause(TICK, ended);
        let (now, passed, cpu) = (Look::at(shared), at.elapsed(), cpu_time());
        let active = shared.roster.plan().active();
        let spread = shared.config.settings().io_threads_always_active || shared.connections() > CONNECTIONS_MAX;
        let wanted = if spread {
            policy = Policy::new(threads);
            threads
        } else {
            let mut tick = tick(&before, &now, passed, cpu.saturating_sub(cpu_before), active);
            tick.stuck = find_stuck(shared, &before, &now, &mut suspects);
            tick.waited = crowd.waited(shared, &now, at + passed, active, tick.is_hot());
            policy.tick(&tick)
        };
        if wanted != active {
            shared.set_active(wanted);
        }
        quiet = if wanted == active && now.is_quiet_since(&before) { quiet + 1 } else { 0 };
        (before, at, cpu_before) = (now, at + passed, cpu);
        if quiet >= QUIET_TICKS && (wanted == 1 || spread) {
            shared.roster.rest(REST, ended);
            // Still at rest, unless there was traffic.
            quiet = if Look::at(shared).is_quiet_since(&before) { QUIET_TICKS } else { 0 };
            (before, at, cpu_before) = (Look::at(shared), Instant::now(), cpu_time());
        }
    }
}

/// Processor time of the whole process.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A thread that was in one turn from one look to the next: when that was found, and for how long it had waited for a processor.
type Suspect = Option<(Instant, u64)>;

/// Whether a thread has been kept by one turn for two ticks, during which it did not just wait for a processor: where there is none to
/// be had, another thread is no help.
fn find_stuck(shared: &Shared, before: &Look, now: &Look, suspects: &mut [Suspect]) -> bool {
    let mut stuck = false;
    for (at, suspect) in suspects.iter_mut().enumerate() {
        let (before, now) = (before.threads[at].turns, now.threads[at].turns); // by thread, as the suspects
        if before != now || now.is_multiple_of(2) {
            *suspect = None;
            continue;
        }
        let preempted_ns = shared.threads[at].gauge.preempted_ns();
        match suspect {
            None => *suspect = Some((Instant::now(), preempted_ns)),
            Some((since, ns)) => {
                let waited = Duration::from_nanos(preempted_ns.saturating_sub(*ns));
                stuck |= waited < since.elapsed() / 2;
            }
        }
    }
    stuck
}

/// How much the active threads wait for processors: looked at now and then, for it takes a file of each thread.
#[derive(Default)]
struct Crowd {
    active: usize,
    /// The look that the next one is compared with.
    base: Option<CrowdLook>,
    ticks: u32,
    /// What was found last.
    part: f64,
}

struct CrowdLook {
    at: Instant,
    slept_ns: u64,
    waited_ns: u64,
}

impl CrowdLook {
    fn at(shared: &Shared, look: &Look, at: Instant, active: usize) -> CrowdLook {
        CrowdLook {
            at,
            slept_ns: look.threads.iter().take(active).map(|thread| thread.slept_ns).sum(),
            waited_ns: shared.threads.iter().take(active).map(|thread| thread.gauge.preempted_ns()).sum(),
        }
    }

    /// The part of the time in which the threads had no processor, of that in which they could have run.
    fn part_since(&self, base: &CrowdLook, active: usize) -> f64 {
        let passed = self.at.duration_since(base.at).as_nanos() as f64 * active as f64;
        let awake = passed - self.slept_ns.saturating_sub(base.slept_ns) as f64;
        self.waited_ns.saturating_sub(base.waited_ns) as f64 / awake.max(1.0)
    }
}

impl Crowd {
    /// See [`Tick::waited`]. One thread alone is looked at while it is hot, then at every tick: others are about to be called.
    fn waited(&mut self, shared: &Shared, look: &Look, at: Instant, active: usize, is_hot: bool) -> f64 {
        let rests = active == 1 && !is_hot;
        if active != self.active || rests {
            *self = Crowd { active, ..Crowd::default() };
        }
        if rests {
            return 0.0;
        }
        self.ticks += 1;
        let ends = self.ticks > LOW_TICKS;
        if active == 1 || ends || self.base.is_none() {
            let now = CrowdLook::at(shared, look, at, active);
            self.part = self.base.as_ref().map_or(0.0, |base| now.part_since(base, active));
            if ends || self.base.is_none() {
                self.base = Some(now);
                self.ticks = 0;
            }
        }
        self.part
    }
}

/// What happened from one look to the next.
fn tick(before: &Look, now: &Look, passed: Duration, cpu: Duration, active: usize) -> Tick {
    let passed_ns = (passed.as_nanos() as f64).max(1.0);
    let threads = || before.threads.iter().zip(&now.threads).take(active);
    Tick {
        slept: threads().map(|(b, n)| n.slept_ns.saturating_sub(b.slept_ns) as f64 / passed_ns).collect(),
        busy: cpu.as_nanos() as f64 / passed_ns,
        moved: now.moved.wrapping_sub(before.moved) as f64 * TICK.as_nanos() as f64 / passed_ns,
        ..Tick::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ticks` alike ones; returns how many threads were active after each.
    fn run(policy: &mut Policy, ticks: u32, tick: impl Fn(usize) -> Tick) -> Vec<usize> {
        let mut active = policy.active;
        let mut step = || {
            active = policy.tick(&tick(active));
            active
        };
        (0..ticks).map(|_| step()).collect()
    }

    /// A load that `capacity` threads can serve, of clients that need no core of this machine.
    fn remote(load: f64) -> impl Fn(usize) -> Tick {
        move |active| {
            let served = load.min(active as f64);
            let slept = vec![1.0 - served / active as f64; active];
            Tick { slept, busy: served, moved: served * 1e6, stuck: false, waited: 0.0 }
        }
    }

    fn folded(threads: usize) -> Policy {
        let mut policy = Policy::new(threads);
        let active = run(&mut policy, LOW_TICKS, remote(0.1));
        assert_eq!(active.last(), Some(&1));
        policy
    }

    #[test]
    fn little_load_is_served_by_one_thread_after_a_while() {
        let mut policy = Policy::new(16);
        let active = run(&mut policy, LOW_TICKS + 100, remote(0.3));
        assert_eq!((active[LOW_TICKS as usize - 2], active[LOW_TICKS as usize - 1]), (16, 1));
        assert!(active[LOW_TICKS as usize..].iter().all(|&n| n == 1));
    }

    #[test]
    fn a_burst_has_all_threads_at_once_and_keeps_what_it_needs() {
        let mut policy = folded(16);
        let active = run(&mut policy, 400, remote(5.0));
        assert_eq!(active[HOT_TICKS as usize - 1], 16);
        // 5 cores' worth, each thread at most four fifths busy.
        assert_eq!(active.last(), Some(&7));
        assert!(active[HOT_TICKS as usize..].iter().all(|&n| n >= 7));
    }

    #[test]
    fn a_load_just_above_one_thread_gets_a_second() {
        let mut policy = folded(2);
        let active = run(&mut policy, 200, remote(1.1));
        assert_eq!(active.last(), Some(&2));
    }

    #[test]
    fn threads_that_only_take_time_from_the_clients_are_parked_again() {
        let mut policy = folded(2);
        // Clients on the same two cores: two threads move no more than one.
        let local = |active: usize| match active {
            1 => Tick { slept: vec![0.02], busy: 0.98, moved: 1e6, stuck: false, waited: 0.0 },
            _ => Tick { slept: vec![0.3, 0.3], busy: 1.2, moved: 0.95e6, stuck: false, waited: 0.0 },
        };
        let active = run(&mut policy, 10_000, local);
        let with_two = active.iter().filter(|&&n| n == 2).count();
        assert!(with_two > 0 && with_two < 500, "{with_two}");
        let trials = active.windows(2).filter(|w| w[0] < w[1]).count();
        assert!((12..=15).contains(&trials), "{trials}: every four seconds in the end");
    }

    #[test]
    fn clients_that_share_the_cores_are_not_compared_with_their_own_beginning() {
        let mut policy = folded(2);
        let load = |at: u32, active: usize| {
            let moved = 1e6 * (f64::from(at) / 20.0).clamp(0.2, 1.0);
            match active {
                1 => Tick { slept: vec![0.02], busy: 0.6, moved, stuck: false, waited: 0.4 },
                _ => Tick { slept: vec![0.2, 0.2], busy: 1.0, moved: 0.95 * moved, stuck: false, waited: 0.3 },
            }
        };
        let mut active = 1;
        let with_two = (0..600).filter(|&at| {
            active = policy.tick(&load(at, active));
            active == 2
        });
        // Trials, of which none is taken for a success.
        assert!((1..=2 * TRIAL_TICKS as usize + 2).contains(&with_two.count()));
        assert_eq!(active, 1);
    }

    #[test]
    fn threads_that_take_time_from_the_clients_from_the_start_are_parked() {
        let crowded = |with_one: f64| {
            move |active: usize| match active {
                1 => Tick { slept: vec![0.02], busy: 0.98, moved: with_one, stuck: false, waited: 0.0 },
                _ => Tick { slept: vec![0.2, 0.2], busy: 1.2, moved: 1e6, stuck: false, waited: 0.3 },
            }
        };
        let mut policy = Policy::new(2);
        let active = run(&mut policy, 10_000, crowded(1.1e6));
        assert!(active[BASELINE_TICKS as usize..200].iter().all(|&n| n == 1));
        assert!(active.iter().filter(|&&n| n == 2).count() < 500);
        // Where both are needed, a short look now and then finds that out, ever more seldom.
        let mut policy = Policy::new(2);
        let active = run(&mut policy, 40_000, crowded(0.6e6));
        let trials: Vec<usize> = (1..active.len()).filter(|&at| active[at - 1] > active[at]).collect();
        assert!((4..9).contains(&trials.len()), "{trials:?}");
        assert!(active.iter().filter(|&&n| n == 1).count() <= trials.len() * (GLANCE_TICKS as usize + 1));
    }

    #[test]
    fn a_long_command_gives_the_other_loops_their_threads_back() {
        let mut policy = folded(4);
        let stuck = Tick { slept: vec![0.0], busy: 1.0, moved: 0.0, stuck: true, waited: 0.0 };
        assert_eq!(policy.tick(&stuck), 4);
        let active = run(&mut policy, HOLD_TICKS - 1, remote(0.1));
        assert!(active.iter().all(|&n| n == 4));
        assert_eq!(run(&mut policy, LOW_TICKS + 1, remote(0.1)).last(), Some(&1));
    }
}
