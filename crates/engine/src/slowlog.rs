//! How long commands take: the statistics of each, the logs of those that were slow or big, and latency events.
//!
//! Reading the clock costs more than a fast command does. So fast commands (and SET, and small calls of others) are timed one call in [`SAMPLE`], which then
//! counts for all, unless the threshold of the slow log is so low that any of them could belong there; all others are
//! timed always.

use crate::clients::ClientInfo;
use crate::command::Flags;
use crate::config::Settings;
use crate::redacted::redacted;
use crate::registry::Registered;
use crate::worker::Worker;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Of so many calls of a fast command, one is timed.
const SAMPLE: u64 = 64;
/// A slow log's threshold up to which fast commands are timed always, in µs.
const FAST_US: i64 = 1_000;

/// Whether fast commands are timed only now and then.
#[inline]
pub(crate) fn sampling(settings: &Settings) -> bool {
    !(0..=FAST_US).contains(&settings.slowlog_log_slower_than)
}

/// Whether, of a command that is timed now and then, the call after so many is.
#[inline]
pub(crate) fn is_sample(calls: u64) -> bool {
    calls.is_multiple_of(SAMPLE)
}

/// Notes a reply that belongs into the log of large ones, of a call that was not timed.
#[cold]
pub(crate) fn note_large_reply(
    worker: &Worker,
    client: &ClientInfo,
    command: &Registered,
    words: &[&[u8]],
    reply_bytes: usize,
) {
    let request_bytes = words.iter().map(|word| word.len()).sum();
    Stopwatch { started_us: None, weight: 1 }.note(worker, client, command, words, [request_bytes, reply_bytes]);
}

/// Notes a call that had to wait, and took so many µs when it was served.
pub(crate) fn note_served(
    worker: &Worker,
    client: u64,
    command: &Registered,
    words: &[&[u8]],
    us: u64,
    reply_bytes: usize,
) {
    let request_bytes: usize = words.iter().map(|word| word.len()).sum();
    let bytes = [request_bytes, reply_bytes];
    if is_loggable(&worker.settings, us, bytes)
        && let Some(info) = worker.engine.clients.get(client)
    {
        log_call(worker, &info, command, words, Some(us), bytes);
    }
}

/// Whether a call belongs into any of the logs.
fn is_loggable(settings: &Settings, us: u64, [request_bytes, reply_bytes]: [usize; 2]) -> bool {
    is_over(us as i64, settings.slowlog_log_slower_than) || is_large(settings, [request_bytes, reply_bytes])
}

/// Whether a call belongs into one of the logs of large ones.
fn is_large(settings: &Settings, [request_bytes, reply_bytes]: [usize; 2]) -> bool {
    is_over(request_bytes as i64, settings.commandlog_request_larger_than)
        || is_over(reply_bytes as i64, settings.commandlog_reply_larger_than)
}

/// Whether a figure reaches a threshold; a negative one is none.
fn is_over(figure: i64, threshold: i64) -> bool {
    threshold >= 0 && figure >= threshold
}

/// Puts a call into the logs that it belongs into.
fn log_call(
    worker: &Worker,
    client: &ClientInfo,
    command: &Registered,
    words: &[&[u8]],
    us: Option<u64>,
    [request_bytes, reply_bytes]: [usize; 2],
) {
    let settings = &worker.settings;
    let logged = !command.flags.has(Flags::SKIP_SLOWLOG);
    let log = |kind: LogKind, figure: i64, threshold: i64, len_max: usize| {
        if logged && is_over(figure, threshold) && len_max != 0 {
            let words = redacted(command, words);
            worker.engine.slowlog.add(kind, Entry::new(worker, client, &words, figure), len_max);
        }
    };
    if let Some(us) = us {
        log(LogKind::Slow, us as i64, settings.slowlog_log_slower_than, settings.slowlog_max_len);
    }
    log(
        LogKind::LargeRequest,
        request_bytes as i64,
        settings.commandlog_request_larger_than,
        settings.commandlog_large_request_max_len,
    );
    log(
        LogKind::LargeReply,
        reply_bytes as i64,
        settings.commandlog_reply_larger_than,
        settings.commandlog_large_reply_max_len,
    );
}

/// Times one call of a command.
pub struct Stopwatch {
    started_us: Option<u64>,
    weight: u64,
}

impl Stopwatch {
    /// Starts, if this call is to be timed.
    #[inline]
    pub fn start(worker: &Worker, command: &Registered, words: &[&[u8]]) -> Stopwatch {
        let mut weight = 1;
        if sampling(&worker.settings) && command.samples(words) {
            if !is_sample(worker.stats().by_command[command.id].calls.get()) {
                return Stopwatch { started_us: None, weight };
            }
            weight = SAMPLE;
        }
        Stopwatch { started_us: Some(worker.engine.clock.monotonic_us()), weight }
    }

    /// Stops, and notes what there is to note about a call that replied with so many bytes.
    #[inline]
    pub fn stop(self, worker: &Worker, client: &ClientInfo, command: &Registered, words: &[&[u8]], reply_bytes: usize) {
        let bytes = [words.iter().map(|word| word.len()).sum(), reply_bytes];
        if self.started_us.is_some() || is_large(&worker.settings, bytes) {
            self.note(worker, client, command, words, bytes);
        }
    }

    #[cold]
    fn note(self, worker: &Worker, client: &ClientInfo, command: &Registered, words: &[&[u8]], bytes: [usize; 2]) {
        let us = self.started_us.map(|started| worker.engine.clock.monotonic_us().saturating_sub(started));
        if let Some(us) = us {
            worker.stats().by_command[command.id].took(us, self.weight);
            let event = if command.flags.has(Flags::FAST) { "fast-command" } else { "command" };
            worker.note_latency(event, us);
        }
        log_call(worker, client, command, words, us, bytes);
    }
}

impl Worker {
    /// Notes an event that took so many µs, if that is long (`latency-monitor-threshold`).
    pub(crate) fn note_latency(&self, event: &'static str, us: u64) {
        let threshold_ms = self.settings.latency_monitor_threshold;
        if threshold_ms != 0 && us / 1000 >= threshold_ms {
            self.engine.latency.add(event, self.now_us() / 1_000_000, us / 1000);
        }
    }
}

/// The logs of COMMANDLOG; the first is SLOWLOG's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// Commands that took long, in µs.
    Slow,
    /// Commands with long requests, in bytes.
    LargeRequest,
    /// Commands with long replies, in bytes.
    LargeReply,
}

/// One command in a log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Counted from 0 in its log.
    pub id: u64,
    /// Unix s.
    pub at: i64,
    /// What was too much: µs or bytes.
    pub figure: i64,
    /// The words, shortened.
    pub words: Vec<Vec<u8>>,
    /// The client's address.
    pub addr: String,
    /// The client's name.
    pub name: String,
}

impl Entry {
    fn new(worker: &Worker, client: &ClientInfo, words: &[&[u8]], figure: i64) -> Entry {
        /// Words that are kept.
        const WORDS: usize = 32;
        let kept = if words.len() > WORDS { WORDS - 1 } else { words.len() };
        let mut shown: Vec<Vec<u8>> = words.iter().take(kept).map(|word| shorten(word)).collect();
        if kept < words.len() {
            shown.push(format!("... ({} more arguments)", words.len() - kept).into_bytes());
        }
        Entry {
            id: 0,
            at: worker.now_us() / 1_000_000,
            figure,
            words: shown,
            addr: client.peer.addr.clone(),
            name: client.labels().name.clone(),
        }
    }
}

fn shorten(word: &[u8]) -> Vec<u8> {
    /// Bytes of a word that are kept.
    const BYTES: usize = 128;
    match word.get(..BYTES) {
        Some(start) if word.len() > BYTES => {
            [start, format!("... ({} more bytes)", word.len() - BYTES).as_bytes()].concat()
        }
        _ => word.to_vec(),
    }
}

/// The three logs.
#[derive(Default)]
pub struct SlowLogs {
    logs: Mutex<[Log; 3]>,
}

/// One log, the newest first.
#[derive(Default)]
struct Log {
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl SlowLogs {
    fn lock(&self) -> MutexGuard<'_, [Log; 3]> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, kind: LogKind, mut entry: Entry, len_max: usize) {
        let log = &mut self.lock()[kind as usize];
        entry.id = log.next_id;
        log.next_id += 1;
        log.entries.push_front(entry);
        log.entries.truncate(len_max);
    }

    /// The newest entries.
    pub fn newest(&self, kind: LogKind, count: usize) -> Vec<Entry> {
        self.lock()[kind as usize].entries.iter().take(count).cloned().collect()
    }

    /// How many there are.
    pub fn len(&self, kind: LogKind) -> usize {
        self.lock()[kind as usize].entries.len()
    }

    /// Whether a log has none.
    pub fn is_empty(&self, kind: LogKind) -> bool {
        self.len(kind) == 0
    }

    /// Forgets all; numbers go on.
    pub fn clear(&self, kind: LogKind) {
        self.lock()[kind as usize].entries.clear();
    }
}

/// One kind of latency event: when (Unix s) and how long (ms), the newest last, and the longest of all time.
#[derive(Clone, Debug, Default)]
pub struct LatencySeries {
    /// The last events, one a second.
    pub samples: VecDeque<(i64, u64)>,
    /// The longest ever, ms.
    pub max_ms: u64,
}

/// What took longer than `latency-monitor-threshold`, by the event's name.
#[derive(Default)]
pub struct LatencyEvents {
    series: Mutex<BTreeMap<&'static str, LatencySeries>>,
}

impl LatencyEvents {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, LatencySeries>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an event; of several in one second the longest is kept.
    pub fn add(&self, event: &'static str, at: i64, ms: u64) {
        /// Events kept of each kind.
        const SAMPLES: usize = 160;
        let mut all = self.lock();
        let series = all.entry(event).or_default();
        series.max_ms = series.max_ms.max(ms);
        match series.samples.back_mut() {
            Some((last, longest)) if *last == at => *longest = ms.max(*longest),
            _ => series.samples.push_back((at, ms)),
        }
        if series.samples.len() > SAMPLES {
            series.samples.pop_front();
        }
    }

    /// All series, by name.
    pub fn all(&self) -> Vec<(&'static str, LatencySeries)> {
        self.lock().iter().map(|(name, series)| (*name, series.clone())).collect()
    }

    /// Forgets one kind of event. Whether there was one.
    pub fn clear(&self, event: &str) -> bool {
        self.lock().remove(event).is_some()
    }
}
