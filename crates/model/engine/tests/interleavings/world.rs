//! An engine whose loops are threads of the model checker. A worker that has nothing to do sleeps until its mailbox wakes it, and
//! for ever if it does not: a lost wake-up shows as a deadlock.

use kelda_engine_model as kelda_engine;

use kelda_engine::config::{Config as Settings, ConfigHandle, NoEffects};
use kelda_engine::durability::ChangeSink;
use kelda_engine::engine::{Engine, EngineOptions, ProcessInfo};
use kelda_engine::testing::NoPlatform;
use kelda_engine::worker::{Clock, NoHost, Peer, Slot, Worker};
use kelda_resp::{Value, decode, encode_command};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::{Condvar, Mutex};
use shuttle::{Config, Runner, thread};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Explores so many schedules of `test`: half of them random, half with few changes of thread at awkward places.
pub fn explore(schedules: usize, test: fn()) {
    let rounds = std::env::var("KELDA_MODEL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let schedules = schedules * rounds;
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    Runner::new(RandomScheduler::new(schedules / 2), config.clone()).run(test);
    Runner::new(PctScheduler::new(3, schedules / 2), config).run(test);
}

/// What wakes a sleeping thread; a ring is remembered until somebody listens.
#[derive(Default)]
pub struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    pub fn ring(&self) {
        *self.rung.lock().expect("no panic") = true;
        self.changed.notify_one();
    }

    pub fn wait(&self) {
        let mut rung = self.rung.lock().expect("no panic");
        while !std::mem::take(&mut *rung) {
            rung = self.changed.wait(rung).expect("no panic");
        }
    }
}

/// When the clock starts.
pub const START_US: u64 = 1_000_000_000;

/// Time passes only when somebody waits for it.
pub struct HandClock(AtomicU64);

impl HandClock {
    pub fn advance_us(&self, us: u64) {
        self.0.fetch_add(us, SeqCst);
    }
}

impl Clock for HandClock {
    fn unix_us(&self) -> i64 {
        self.monotonic_us() as i64
    }

    fn monotonic_us(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

pub struct World {
    pub engine: Arc<Engine>,
    pub clock: Arc<HandClock>,
}

impl World {
    pub fn new(workers: usize) -> Arc<World> {
        World::with("", workers)
    }

    pub fn with(settings: &str, workers: usize) -> Arc<World> {
        World::logged(settings, workers, None)
    }

    /// With a log.
    pub fn logged(settings: &str, workers: usize, sink: Option<Arc<dyn ChangeSink>>) -> Arc<World> {
        let mut config = Settings::default();
        config.parse_file_text(settings, "test", &|_| Ok(Vec::new())).expect("settings");
        let clock = Arc::new(HandClock(AtomicU64::new(START_US)));
        let engine = Engine::new(EngineOptions {
            config: Arc::new(ConfigHandle::new(config, Box::new(NoEffects))),
            clock: clock.clone(),
            platform: Arc::<NoPlatform>::default(),
            process: ProcessInfo::default(),
            workers,
            seed: 1,
            sink,
        });
        Arc::new(World { engine, clock })
    }

    pub fn node(&self, index: usize) -> Node {
        let bell = Arc::new(Bell::default());
        let ringer = bell.clone();
        let worker = self.engine.worker(index, Box::new(move || ringer.ring()));
        Node { worker, bell, clock: self.clock.clone() }
    }
}

/// A worker and its loop.
pub struct Node {
    pub worker: Worker,
    pub bell: Arc<Bell>,
    pub clock: Arc<HandClock>,
}

impl Node {
    pub fn connect(&mut self) -> Slot {
        self.worker.connect(Peer::default()).expect("room")
    }

    pub fn send(&mut self, slot: Slot, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        encode_command(self.worker.input(slot), &words);
        self.worker.process(slot, &mut NoHost);
    }

    /// The next reply or message to a session. The loop turns until it is there.
    pub fn receive(&mut self, slot: Slot) -> Value {
        loop {
            if let Some((value, used)) = decode(&self.worker.pending(slot).collect::<Vec<_>>().concat()).expect("RESP")
            {
                self.worker.written(slot, used);
                return value;
            }
            self.turn();
        }
    }

    pub fn ask(&mut self, slot: Slot, line: &str) -> Value {
        self.send(slot, line);
        self.receive(slot)
    }

    pub fn turn(&mut self) {
        self.worker.wake();
        let mut slots = Vec::new();
        self.worker.runnable(&mut slots);
        let worked = !slots.is_empty();
        for slot in slots.drain(..) {
            self.worker.process(slot, &mut NoHost);
        }
        self.worker.touched(&mut slots);
        if worked || !slots.is_empty() {
            return thread::yield_now();
        }
        /// Longer than any wait but for the next cron, which nothing here depends on.
        const LONG_US: u64 = 50_000;
        match self.worker.next_timer_us() {
            Some(us) if us < LONG_US => {
                self.clock.advance_us(us);
                thread::yield_now();
            }
            _ => self.bell.wait(),
        }
    }
}

pub type Part<T> = Box<dyn FnOnce(Node) -> T + Send>;

/// Runs each part in a thread of its own with the worker of its place, and gives their results.
pub fn together<T: Send + 'static>(world: &Arc<World>, parts: Vec<Part<T>>) -> Vec<T> {
    let threads: Vec<_> = parts
        .into_iter()
        .enumerate()
        .map(|(index, part)| {
            let world = world.clone();
            thread::spawn(move || part(world.node(index)))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
}
