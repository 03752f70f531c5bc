//! HOTKEYS: the keys that commands spend most time or most network bytes on, over a while.
//!
//! While somebody asks for it every command goes the long way (`Engine::observers`) and is timed. Each thread counts by
//! itself, in a table of the keys that it met: when that is full, those that matter least are dropped, so that a key that is
//! hot is never far down. HOTKEYS GET adds the tables up.

use crate::engine::Engine;
use crate::registry::Registered;
use crate::worker::Worker;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What keys are ranked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// µs that their commands took.
    Cpu,
    /// Bytes of their commands and of the replies.
    Net,
}

/// What HOTKEYS START asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// By what: in the order of [`Metric`].
    pub metrics: [bool; 2],
    /// How many keys of each ranking.
    pub count: usize,
    /// For how long, in ms; `None` until HOTKEYS STOP.
    pub duration_ms: Option<i64>,
    /// One command in so many is looked at.
    pub sample: u64,
}

/// What one thread has counted.
#[derive(Default)]
struct Local {
    /// By [`Metric`]: what commands with keys cost.
    totals: [u64; 2],
    /// By [`Metric`]: what those that were looked at cost.
    sampled: [u64; 2],
    /// By [`Metric`]: what each key cost.
    keys: [HashMap<Box<[u8]>, u64>; 2],
}

/// Keys kept for each key that is asked for, and keys met until the others are dropped.
const KEPT: usize = 10;
const MET: usize = 100;

impl Local {
    fn add(&mut self, metric: Metric, key: &[u8], cost: u64, count: usize) {
        let keys = &mut self.keys[metric as usize];
        if let Some(sum) = keys.get_mut(key) {
            *sum += cost;
            return;
        }
        if keys.len() >= count * MET {
            let mut all: Vec<(Box<[u8]>, u64)> = keys.drain().collect();
            all.sort_unstable_by_key(|(_, sum)| Reverse(*sum));
            all.truncate(count * KEPT);
            keys.extend(all);
        }
        keys.insert(key.into(), cost);
    }
}

/// One search for hot keys.
struct Search {
    wanted: Wanted,
    started_ms: i64,
    cpu_us: (u64, u64),
    /// When it ended, and the CPU time then.
    ended: Option<(i64, (u64, u64))>,
}

/// The engine's part.
pub struct HotKeys {
    active: AtomicBool,
    search: Mutex<Option<Search>>,
    /// By worker; none but its own touches one while the search goes on, but for HOTKEYS GET.
    locals: Vec<Mutex<Local>>,
}

/// What HOTKEYS GET tells.
pub struct Report {
    /// Whether it goes on.
    pub active: bool,
    /// What was asked for.
    pub wanted: Wanted,
    /// When it began, Unix ms.
    pub started_ms: i64,
    /// For how long it ran, ms.
    pub duration_ms: i64,
    /// User and system CPU time of the process meanwhile, ms.
    pub cpu_ms: (u64, u64),
    /// By [`Metric`]: what all commands with keys cost.
    pub totals: [u64; 2],
    /// By [`Metric`]: what those that were looked at cost.
    pub sampled: [u64; 2],
    /// By [`Metric`]: the keys that cost most, and how much.
    pub keys: [Vec<(Box<[u8]>, u64)>; 2],
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HotKeys {
    /// Nobody searches.
    pub fn new(workers: usize) -> HotKeys {
        HotKeys {
            active: AtomicBool::new(false),
            search: Mutex::default(),
            locals: (0..workers).map(|_| Mutex::default()).collect(),
        }
    }

    /// Whether a search goes on.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    /// Begins a search. `false` if one goes on.
    pub fn start(&self, engine: &Engine, wanted: Wanted) -> bool {
        let mut search = lock(&self.search);
        if self.is_active() {
            return false;
        }
        self.locals.iter().for_each(|local| *lock(local) = Local::default());
        let started_ms = engine.clock.unix_us() / 1000;
        *search = Some(Search { wanted, started_ms, cpu_us: engine.platform.cpu_us(), ended: None });
        self.active.store(true, Relaxed);
        engine.observers.fetch_add(1, Relaxed);
        true
    }

    /// Ends the search; what it found stays. `false` if none goes on.
    pub fn stop(&self, engine: &Engine) -> bool {
        let mut search = lock(&self.search);
        if !self.active.swap(false, Relaxed) {
            return false;
        }
        engine.observers.fetch_sub(1, Relaxed);
        if let Some(search) = &mut *search {
            search.ended = Some((engine.clock.unix_us() / 1000, engine.platform.cpu_us()));
        }
        true
    }

    /// Ends the search if its time is over. Called ten times a second.
    pub fn cron(&self, engine: &Engine) {
        if self.is_active() {
            let over = lock(&self.search).as_ref().is_some_and(|search| {
                let ran_ms = engine.clock.unix_us() / 1000 - search.started_ms;
                search.wanted.duration_ms.is_some_and(|most| ran_ms >= most)
            });
            if over {
                self.stop(engine);
            }
        }
    }

    /// Forgets what was found. `false` while a search goes on.
    pub fn reset(&self) -> bool {
        let mut search = lock(&self.search);
        if self.is_active() {
            return false;
        }
        *search = None;
        self.locals.iter().for_each(|local| *lock(local) = Local::default());
        true
    }

    /// What was found so far; `None` if nobody searched.
    pub fn report(&self, engine: &Engine) -> Option<Report> {
        let search = lock(&self.search);
        let search = search.as_ref()?;
        let (until_ms, cpu_us) =
            search.ended.unwrap_or_else(|| (engine.clock.unix_us() / 1000, engine.platform.cpu_us()));
        let (mut totals, mut sampled) = ([0; 2], [0; 2]);
        let mut sums: [HashMap<Box<[u8]>, u64>; 2] = Default::default();
        for local in &self.locals {
            let local = lock(local);
            for metric in 0..2 {
                totals[metric] += local.totals[metric];
                sampled[metric] += local.sampled[metric];
                for (key, cost) in &local.keys[metric] {
                    *sums[metric].entry(key.clone()).or_default() += cost;
                }
            }
        }
        let keys = sums.map(|sums| {
            let mut all: Vec<(Box<[u8]>, u64)> = sums.into_iter().filter(|(_, cost)| *cost != 0).collect();
            all.sort_unstable_by(|(key, cost), (other, than)| than.cmp(cost).then_with(|| key.cmp(other)));
            all.truncate(search.wanted.count);
            all
        });
        let since = |now: u64, before: u64| now.saturating_sub(before) / 1000;
        Some(Report {
            active: self.is_active(),
            wanted: search.wanted.clone(),
            started_ms: search.started_ms,
            duration_ms: until_ms - search.started_ms,
            cpu_ms: (since(cpu_us.0, search.cpu_us.0), since(cpu_us.1, search.cpu_us.1)),
            totals,
            sampled,
            keys,
        })
    }
}

/// When a call of a command begins, in monotonic µs, if somebody wants to know.
pub(crate) fn begin(worker: &Worker) -> Option<u64> {
    worker.engine.hotkeys.is_active().then(|| worker.engine.clock.monotonic_us())
}

/// Counts one call of a command, which began then and ends now, and how many bytes it replied with.
#[cold]
pub(crate) fn note(worker: &mut Worker, command: &Registered, words: &[&[u8]], since_us: u64, reply_bytes: usize) {
    let us = worker.engine.clock.monotonic_us().saturating_sub(since_us);
    let mut keys: Vec<&[u8]> = Vec::new();
    command.find_keys(words, &mut |at, _| keys.extend(words.get(at)));
    if keys.is_empty() {
        return;
    }
    let engine = worker.engine.clone();
    let wanted = match &*lock(&engine.hotkeys.search) {
        Some(search) => search.wanted.clone(),
        None => return,
    };
    let looked_at = wanted.sample <= 1 || worker.random().is_multiple_of(wanted.sample);
    let costs = [us, (request_bytes(words) + reply_bytes) as u64];
    let Some(local) = engine.hotkeys.locals.get(worker.index) else { return };
    let mut local = lock(local);
    for metric in [Metric::Cpu, Metric::Net] {
        let cost = costs[metric as usize];
        local.totals[metric as usize] += cost;
        if looked_at {
            local.sampled[metric as usize] += cost;
            if wanted.metrics[metric as usize] {
                keys.iter().for_each(|key| local.add(metric, key, cost / keys.len() as u64, wanted.count));
            }
        }
    }
}

/// Bytes that a command has on the network.
fn request_bytes(words: &[&[u8]]) -> usize {
    let digits = |number: usize| number.checked_ilog10().unwrap_or(0) as usize + 1;
    // Each number has a sign before it and a line's end behind it, each word a line's end.
    3 + digits(words.len()) + words.iter().map(|word| 5 + digits(word.len()) + word.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_long_as_it_is() {
        let words: [&[u8]; 3] = [b"SET", b"k", b"0123456789"];
        let mut bytes = Vec::new();
        kelda_resp::encode_command(&mut bytes, &words);
        assert_eq!(request_bytes(&words), bytes.len());
    }

    #[test]
    fn what_is_hot_stays_however_many_keys_come_by() {
        let mut local = Local::default();
        for round in 0..20_000u32 {
            local.add(Metric::Cpu, b"hot", 1, 2);
            local.add(Metric::Cpu, &round.to_be_bytes(), 1, 2);
        }
        assert_eq!(local.keys[0].get(&b"hot"[..]), Some(&20_000));
        assert!(local.keys[0].len() <= 2 * MET);
    }
}
