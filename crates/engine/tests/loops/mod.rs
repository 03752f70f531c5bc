//! An engine whose workers run on real threads, each driven by a small loop in place of the server's event loop: bytes
//! come in over a queue and go out over a channel, and the mailbox wakes the loop through a condition variable.

use kelda_engine::config::{Config, ConfigHandle, NoEffects};
use kelda_engine::engine::{Engine, EngineOptions, ProcessInfo};
use kelda_engine::testing::NoPlatform;
use kelda_engine::worker::{Clock, Fate, Host, Peer, Slot, Worker};
use kelda_resp::{Value, decode, encode_command};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A test that hangs is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

struct SystemTime(Instant);

impl Clock for SystemTime {
    fn unix_us(&self) -> i64 {
        /// Any time will do.
        const START_US: i64 = 1_767_225_600_000_000;
        START_US + self.monotonic_us() as i64
    }

    fn monotonic_us(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

enum Job {
    Connect(Sender<Vec<u8>>, Sender<Slot>),
    Input(Slot, Vec<u8>),
    Close(Slot),
    Stop,
}

/// How a loop is reached. As in the server, a wake-up is remembered until the loop looks.
#[derive(Default)]
struct Inbox {
    state: Mutex<(Vec<Job>, bool)>,
    changed: Condvar,
}

impl Inbox {
    fn wake(&self) {
        self.state.lock().expect("no panic").1 = true;
        self.changed.notify_one();
    }

    fn post(&self, job: Job) {
        self.state.lock().expect("no panic").0.push(job);
        self.wake();
    }

    /// What has been posted, after waiting for so long, or for ever, that something is.
    fn take(&self, wait_us: Option<u64>) -> Vec<Job> {
        let mut state = self.state.lock().expect("no panic");
        if !state.1 && wait_us != Some(0) {
            state = match wait_us {
                None => self.changed.wait(state).expect("no panic"),
                Some(us) => self.changed.wait_timeout(state, Duration::from_micros(us)).expect("no panic").0,
            };
        }
        state.1 = false;
        std::mem::take(&mut state.0)
    }
}

struct Loop {
    inbox: Arc<Inbox>,
    outputs: Vec<Option<Sender<Vec<u8>>>>,
    executing: Vec<Slot>,
    /// Input for a session that is executing.
    later: Vec<Job>,
    stop: bool,
}

impl Loop {
    fn turn(&mut self, worker: &mut Worker, wait_us: Option<u64>) {
        let nested = !self.executing.is_empty();
        let mut jobs = self.inbox.take(wait_us);
        if !nested {
            jobs.splice(0..0, self.later.drain(..));
        }
        for job in jobs {
            match job {
                Job::Connect(output, answer) => {
                    let slot = worker.connect(Peer::default()).expect("room for a client");
                    if self.outputs.len() <= slot {
                        self.outputs.resize(slot + 1, None);
                    }
                    self.outputs[slot] = Some(output);
                    let _ = answer.send(slot);
                }
                Job::Input(slot, _) | Job::Close(slot) if self.executing.contains(&slot) => self.later.push(job),
                Job::Input(slot, bytes) => {
                    if self.outputs[slot].is_some() {
                        worker.input(slot).extend_from_slice(&bytes);
                        self.process(worker, slot);
                    }
                }
                Job::Close(slot) => {
                    if self.outputs[slot].take().is_some() {
                        worker.disconnect(slot);
                    }
                }
                Job::Stop => self.stop = true,
            }
        }
        worker.wake();
        let mut slots = Vec::new();
        worker.runnable(&mut slots);
        for slot in slots.drain(..) {
            self.process(worker, slot);
        }
        worker.touched(&mut slots);
        slots.into_iter().for_each(|slot| self.flush(worker, slot));
    }

    fn process(&mut self, worker: &mut Worker, slot: Slot) {
        if self.executing.contains(&slot) || !matches!(self.outputs.get(slot), Some(Some(_))) {
            return;
        }
        self.executing.push(slot);
        worker.process(slot, self);
        self.executing.pop();
        self.flush(worker, slot);
    }

    fn flush(&mut self, worker: &mut Worker, slot: Slot) {
        if self.executing.contains(&slot) {
            return;
        }
        let Some(Some(output)) = self.outputs.get(slot) else { return };
        let pending = worker.pending(slot).collect::<Vec<_>>().concat();
        if !pending.is_empty() && worker.fate(slot) != Fate::Close {
            worker.written(slot, pending.len());
            let _ = output.send(pending);
        }
        if worker.fate(slot) != Fate::Open {
            worker.disconnect(slot);
            self.outputs[slot] = None;
        }
    }
}

impl Host for Loop {
    fn serve_others(&mut self, worker: &mut Worker) {
        self.turn(worker, Some(0));
    }
}

/// The engine and its threads. Dropping it ends them; a panic in one fails the test.
pub struct Threads {
    /// The engine.
    pub engine: Arc<Engine>,
    inboxes: Vec<Arc<Inbox>>,
    running: Vec<std::thread::JoinHandle<()>>,
}

impl Threads {
    /// So many workers under these settings.
    pub fn new(workers: usize, settings: &[(&str, &str)]) -> Threads {
        let mut config = Config::default();
        for (name, value) in settings {
            let accepted = config.parse_file_text(&format!("{name} {value}\n"), "test", &|_| Ok(Vec::new()));
            assert!(accepted.is_ok(), "{name} {value}");
        }
        let engine = Engine::new(EngineOptions {
            config: Arc::new(ConfigHandle::new(config, Box::new(NoEffects))),
            clock: Arc::new(SystemTime(Instant::now())),
            platform: Arc::<NoPlatform>::default(),
            process: ProcessInfo { run_id: "0".repeat(40), threads: workers, ..ProcessInfo::default() },
            workers,
            seed: 1,
            sink: None,
        });
        let inboxes: Vec<Arc<Inbox>> = (0..workers).map(|_| Arc::default()).collect();
        let running = inboxes.iter().enumerate().map(|(index, inbox)| {
            let (engine, inbox) = (engine.clone(), inbox.clone());
            /// Lua recurses deeply, in frames that are large without optimisation.
            const STACK_BYTES: usize = 64 << 20;
            let thread = std::thread::Builder::new().name(format!("worker {index}")).stack_size(STACK_BYTES);
            let run = move || {
                let waker = inbox.clone();
                let mut worker = engine.worker(index, Box::new(move || waker.wake()));
                let (outputs, executing, later) = (Vec::new(), Vec::new(), Vec::new());
                let mut the_loop = Loop { inbox, outputs, executing, later, stop: false };
                while !the_loop.stop {
                    let wait = if the_loop.later.is_empty() { worker.next_timer_us() } else { Some(0) };
                    the_loop.turn(&mut worker, wait);
                }
            };
            thread.spawn(run).expect("a thread")
        });
        let running = running.collect();
        Threads { engine, inboxes, running }
    }

    /// A client of a worker.
    pub fn client(&self, worker: usize) -> Client {
        let (output, received) = channel();
        let (answer, slot) = channel();
        let inbox = self.inboxes[worker].clone();
        inbox.post(Job::Connect(output, answer));
        let slot = slot.recv_timeout(PATIENCE).expect("the worker answers");
        Client { inbox, slot, received, buffer: Vec::new() }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.inboxes.iter().for_each(|inbox| inbox.post(Job::Stop));
        for thread in self.running.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a worker panicked");
        }
    }
}

/// One connection.
pub struct Client {
    inbox: Arc<Inbox>,
    slot: Slot,
    received: Receiver<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Client {
    /// Sends a command without waiting for its reply.
    pub fn send(&self, words: &[&str]) {
        let mut request = Vec::new();
        encode_command(&mut request, words);
        self.inbox.post(Job::Input(self.slot, request));
    }

    /// The next reply or message; `None` when the connection was closed.
    pub fn receive(&mut self) -> Option<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some((value, used)) = decode(&self.buffer).expect("RESP") {
                self.buffer.drain(..used);
                return Some(value);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.received.recv_timeout(left) {
                Ok(bytes) => self.buffer.extend_from_slice(&bytes),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("no answer"),
            }
        }
    }

    /// Sends a command and gives its reply.
    pub fn ask(&mut self, words: &[&str]) -> Value {
        self.send(words);
        self.receive().expect("the connection is open")
    }

    /// Sends a command of words between blanks and gives its reply.
    pub fn say(&mut self, line: &str) -> Value {
        self.ask(&line.split(' ').collect::<Vec<_>>())
    }

    /// The integer at a key, 0 if there is none.
    pub fn number(&mut self, key: &str) -> i64 {
        int(&self.ask(&["GET", key]))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.inbox.post(Job::Close(self.slot));
    }
}

/// The text of a status, error or string.
pub fn text(value: &Value) -> String {
    match value {
        Value::Status(text) | Value::Error(text) | Value::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("no text: {other:?}"),
    }
}

/// The number in a reply; 0 for null.
pub fn int(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        Value::Null => 0,
        Value::Bulk(text) => String::from_utf8_lossy(text).parse().expect("a number"),
        other => panic!("no number: {other:?}"),
    }
}

/// The elements of an array.
pub fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) | Value::Push(items) => items,
        other => panic!("no array: {other:?}"),
    }
}

/// Random numbers that follow from a seed.
pub struct Rng(u64);

impl Rng {
    /// Starts at a seed.
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}
