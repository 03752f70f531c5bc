//! Conversations with an engine in this process, under a clock that is turned by hand. For tests here and in `kelda-sim`.

use crate::config::{Config, ConfigHandle, NoEffects};
use crate::engine::{ChangeSink, Engine, EngineOptions, Platform, ProcessInfo};
use crate::links::Stream;
use crate::worker::{Clock, Fate, NoHost, Peer, Slot, Worker};
use kelda_resp::{Value, decode, encode_command};
use kelda_store::shard::{Guard, SHARDS, ShardSet};
use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// A clock that moves only when told.
pub struct HandClock {
    us: AtomicU64,
    us_a_look: AtomicU64,
}

/// Where hand clocks start: 2026-01-01, in µs.
const START_US: u64 = 1_767_225_600_000_000;

impl HandClock {
    /// Moves on.
    pub fn advance_ms(&self, ms: u64) {
        self.us.fetch_add(ms * 1000, Relaxed);
    }

    /// From now on, moves on whenever somebody asks for the Unix time: as if everything took that long.
    pub fn set_ms_a_look(&self, ms: u64) {
        self.us_a_look.store(ms * 1000, Relaxed);
    }
}

impl Clock for HandClock {
    fn unix_us(&self) -> i64 {
        self.us.fetch_add(self.us_a_look.load(Relaxed), Relaxed) as i64
    }

    fn monotonic_us(&self) -> u64 {
        self.us.load(Relaxed)
    }
}

/// A process with nothing around it but files in memory.
#[derive(Default)]
pub struct NoPlatform {
    /// The files by name.
    pub files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Bytes that each key takes; 0 for a fixed figure.
    key_bytes: usize,
    /// Whose keys.
    engine: OnceLock<Weak<Engine>>,
    clock: OnceLock<Arc<HandClock>>,
    stood_still_us: AtomicU64,
    /// What another server answers to all that it is sent, if there is one.
    peer: Mutex<Option<Vec<u8>>>,
    /// What it was sent.
    heard: Arc<Mutex<Vec<u8>>>,
    wires: Mutex<Wires>,
    ending: AtomicBool,
}

/// A connection to a server that answers always the same.
struct PeerStream {
    answers: io::Cursor<Vec<u8>>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl io::Read for PeerStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        io::Read::read(&mut self.answers, into)
    }
}

impl Stream for PeerStream {
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

impl io::Write for PeerStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection to a master that a test plays.
#[derive(Clone, Default)]
pub struct Wire(Arc<(Mutex<WireState>, Condvar)>);

#[derive(Default)]
struct WireState {
    /// What the master has said and was not read yet.
    said: Vec<u8>,
    /// What the master was told and has not looked at yet.
    told: Vec<u8>,
    /// Whether one of the two has hung up.
    closed: bool,
}

impl Wire {
    fn lock(&self) -> MutexGuard<'_, WireState> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The master says something.
    pub fn say(&self, bytes: &[u8]) {
        self.lock().said.extend_from_slice(bytes);
        self.0.1.notify_all();
    }

    /// The master hangs up.
    pub fn close(&self) {
        self.lock().closed = true;
        self.0.1.notify_all();
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// The next whole command that the master is told.
    pub fn heard(&self) -> Option<Vec<String>> {
        let mut state = self.lock();
        let (value, used) = decode(&state.told).ok()??;
        state.told.drain(..used);
        let Value::Array(words) = value else { panic!("no command: {value:?}") };
        let text = |word: &Value| match word {
            Value::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
            other => panic!("no word: {other:?}"),
        };
        Some(words.iter().map(text).collect())
    }
}

/// The replica's end of a [`Wire`], for the thread that makes the link.
struct WireStream {
    wire: Wire,
    patience: Duration,
}

impl io::Read for WireStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let silent = |state: &mut WireState| state.said.is_empty() && !state.closed;
        let waited = self.wire.0.1.wait_timeout_while(self.wire.lock(), self.patience, silent);
        let (mut state, late) = waited.unwrap_or_else(PoisonError::into_inner);
        if late.timed_out() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let bytes = into.len().min(state.said.len());
        into[..bytes].copy_from_slice(&state.said[..bytes]);
        state.said.drain(..bytes);
        Ok(bytes)
    }
}

impl io::Write for WireStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wire.lock().told.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for WireStream {
    fn set_read_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.patience = timeout;
        Ok(())
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

/// Connections to the host `master`.
#[derive(Default)]
struct Wires {
    /// Those that nobody has answered yet,
    ringing: Vec<Wire>,
    /// and those that a worker is to drive.
    adopted: Vec<Wire>,
}

impl NoPlatform {
    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files by name.
    pub fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NoPlatform {
    /// Puts another server beside this one, at every address but that of `nowhere`: it answers this to all that it is sent.
    pub fn set_peer(&self, answers: &[u8]) {
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answers.to_vec());
    }

    /// What the other server was sent since the last look.
    pub fn heard(&self) -> Vec<u8> {
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// For how long it was asked to stand still, µs: instead, its clock goes on.
    pub fn stood_still_us(&self) -> u64 {
        self.stood_still_us.load(Relaxed)
    }
}

impl Platform for NoPlatform {
    fn connect(&self, host: &str, _: u16, _: Duration) -> io::Result<Box<dyn Stream>> {
        if host == "nowhere" {
            return Err(io::ErrorKind::NotFound.into());
        }
        if host == "master" {
            let wire = Wire::default();
            self.wires().ringing.push(wire.clone());
            return Ok(Box::new(WireStream { wire, patience: Duration::ZERO }));
        }
        let answers = self.peer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answers = io::Cursor::new(answers.ok_or(io::ErrorKind::ConnectionRefused)?);
        Ok(Box::new(PeerStream { answers, heard: self.heard.clone() }))
    }

    fn adopt(&self, stream: Box<dyn Stream>) -> io::Result<()> {
        let stream = stream.into_any().downcast::<WireStream>().map_err(|_| io::ErrorKind::InvalidInput)?;
        self.wires().adopted.push(stream.wire);
        Ok(())
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Relaxed)
    }

    fn in_background(&self, name: &str, work: Box<dyn FnOnce() + Send>) {
        match name {
            // It waits for the worker.
            "replica" | "failover" | "shutdown" => _ = std::thread::spawn(work),
            _ => work(),
        }
    }

    fn stand_still(&self, us: u64) {
        self.stood_still_us.fetch_add(us, Relaxed);
        if let Some(clock) = self.clock.get() {
            clock.advance_ms(us / 1000);
        }
    }

    fn used_memory(&self) -> usize {
        if self.key_bytes == 0 {
            return 1 << 20;
        }
        let Some(engine) = self.engine.get().and_then(Weak::upgrade) else { return 0 };
        let guard = engine.keyspace.lock(ShardSet::All);
        let keys = |guard: &Guard| -> usize {
            (0..SHARDS).filter_map(|shard| guard.shard(shard).db(0)).map(|db| db.table.len()).sum()
        };
        self.key_bytes * guard.as_ref().map_or(0, keys)
    }

    fn allocated_here(&self) -> i64 {
        self.used_memory() as i64
    }

    fn open_file(&self, path: &str) -> io::Result<(Box<dyn io::Read + Send>, u64)> {
        let bytes = self.files().get(path).cloned().ok_or(io::Error::from_raw_os_error(2))?;
        let len = bytes.len() as u64;
        Ok((Box::new(io::Cursor::new(bytes)), len))
    }

    fn replace_file(&self, name: &str, write: &mut dyn FnMut(&mut dyn io::Write) -> io::Result<()>) -> io::Result<()> {
        let mut bytes = Vec::new();
        write(&mut bytes)?;
        self.files().insert(name.into(), bytes);
        Ok(())
    }
}

/// An engine with one worker, and clients by name.
pub struct Console {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Its clock.
    pub clock: Arc<HandClock>,
    /// Its process, with its files.
    pub platform: Arc<NoPlatform>,
    worker: Worker,
    clients: BTreeMap<String, Client>,
    masters: Vec<(Slot, Wire)>,
}

impl Drop for Console {
    fn drop(&mut self) {
        // For threads that make links.
        self.platform.ending.store(true, Relaxed);
    }
}

struct Client {
    slot: Slot,
    output: Vec<u8>,
    closed: bool,
}

impl Default for Console {
    fn default() -> Console {
        Console::new(&[])
    }
}

impl Console {
    /// An engine with these settings besides the defaults.
    pub fn new(settings: &[(&str, &str)]) -> Console {
        Console::with_sink(settings, None)
    }

    /// An engine in a process with these files.
    pub fn with_files(settings: &[(&str, &str)], files: &[(&str, &str)]) -> Console {
        let files = files.iter().map(|(name, text)| (name.to_string(), text.as_bytes().to_vec())).collect();
        Console::build(settings, NoPlatform { files: Mutex::new(files), ..NoPlatform::default() }, None)
    }

    /// An engine whose changes go to `sink`.
    pub fn with_sink(settings: &[(&str, &str)], sink: Option<Arc<dyn ChangeSink>>) -> Console {
        Console::build(settings, NoPlatform::default(), sink)
    }

    /// An engine that is told that each key of its database 0 takes so many bytes, and nothing else takes any.
    pub fn with_key_bytes(settings: &[(&str, &str)], bytes: usize) -> Console {
        let console = Console::build(settings, NoPlatform { key_bytes: bytes, ..NoPlatform::default() }, None);
        // The first and only time.
        let _ = console.platform.engine.set(Arc::downgrade(&console.engine));
        console
    }

    fn build(settings: &[(&str, &str)], platform: NoPlatform, sink: Option<Arc<dyn ChangeSink>>) -> Console {
        let mut config = Config::default();
        for (name, value) in settings.iter().chain(&[("enable-debug-command", "yes")]) {
            let accepted = config.parse_file_text(&format!("{name} {value}\n"), "test", &|_| Ok(Vec::new()));
            assert!(accepted.is_ok(), "{name} {value}");
        }
        let clock = Arc::new(HandClock { us: AtomicU64::new(START_US), us_a_look: AtomicU64::new(0) });
        let platform = Arc::new(platform);
        // The first and only time.
        let _ = platform.clock.set(clock.clone());
        let engine = Engine::new(EngineOptions {
            config: Arc::new(ConfigHandle::new(config, Box::new(NoEffects))),
            clock: clock.clone(),
            platform: platform.clone(),
            process: ProcessInfo { run_id: "0".repeat(40), threads: 1, ..ProcessInfo::default() },
            workers: 1,
            seed: 1,
            sink,
        });
        let users = engine.acl.load_at_start(&engine.config.config(), |path| platform.read_file(path));
        assert_eq!(users, Ok(()));
        let worker = engine.worker(0, Box::new(|| {}));
        Console { engine, clock, platform, worker, clients: BTreeMap::new(), masters: Vec::new() }
    }

    fn client(&mut self, name: &str) -> &mut Client {
        if !self.clients.contains_key(name) {
            let peer =
                Peer { addr: "127.0.0.1:1".into(), laddr: "127.0.0.1:6379".into(), fd: 9, unix: false, master: false };
            let slot = self.worker.connect(peer).unwrap_or_else(|refusal| {
                panic!("refused: {}", String::from_utf8_lossy(&refusal));
            });
            self.clients.insert(name.into(), Client { slot, output: Vec::new(), closed: false });
        }
        match self.clients.get_mut(name) {
            Some(client) => client,
            None => unreachable!("the client was just made"),
        }
    }

    /// Gives a client's bytes to the engine, which looks through them and then runs what is complete.
    pub fn send(&mut self, name: &str, bytes: &[u8]) {
        self.bring(name, bytes, true);
        self.run(name);
    }

    /// Gives a client's bytes to the engine, which runs nothing yet, but may look through what it has of them.
    pub fn bring(&mut self, name: &str, bytes: &[u8], look_ahead: bool) {
        let slot = self.client(name).slot;
        if self.client(name).closed {
            return;
        }
        self.worker.input(slot).extend_from_slice(bytes);
        if look_ahead {
            self.worker.look_ahead(slot);
            self.worker.prefetch(slot);
        }
    }

    /// Runs what is complete of what a client sent.
    pub fn run(&mut self, name: &str) {
        let slot = self.client(name).slot;
        if !self.client(name).closed {
            self.worker.process(slot, &mut NoHost);
            self.turn();
        }
    }

    /// Lets time pass until the engine connects to the host `master`.
    pub fn ring(&mut self) -> Wire {
        loop {
            self.advance_ms(10);
            let ringing = self.platform.wires().ringing.pop();
            match ringing {
                Some(wire) => return wire,
                None => std::thread::yield_now(),
            }
        }
    }

    /// Drives the sessions whose other end is a master.
    fn turn_masters(&mut self) {
        let adopted = std::mem::take(&mut self.platform.wires().adopted);
        for wire in adopted {
            let peer = Peer { addr: "127.0.0.1:2".into(), master: true, ..Peer::default() };
            if let Ok(slot) = self.worker.connect(peer) {
                self.masters.push((slot, wire));
            }
        }
        let worker = &mut self.worker;
        self.masters.retain(|(slot, wire)| {
            let (said, closed) = {
                let mut state = wire.lock();
                (std::mem::take(&mut state.said), state.closed)
            };
            if !said.is_empty() {
                worker.input(*slot).extend_from_slice(&said);
                worker.process(*slot, &mut NoHost);
            }
            let pending = worker.pending(*slot).collect::<Vec<_>>().concat();
            wire.lock().told.extend_from_slice(&pending);
            worker.written(*slot, pending.len());
            let open = worker.fate(*slot) == Fate::Open && !closed;
            if !open {
                worker.disconnect(*slot);
                wire.close();
            }
            open
        });
    }

    /// Runs the worker until nothing is left to do at this moment, and collects the output of all clients.
    pub fn turn(&mut self) {
        // A session put aside is tried again in the next round; a served one goes on with its input.
        const ROUNDS: usize = 4;
        for _ in 0..ROUNDS {
            self.turn_masters();
            self.worker.wake();
            let mut runnable = Vec::new();
            self.worker.runnable(&mut runnable);
            for slot in runnable {
                self.worker.process(slot, &mut NoHost);
            }
        }
        let mut touched = Vec::new();
        self.worker.touched(&mut touched);
        for client in self.clients.values_mut().filter(|client| !client.closed) {
            let pending = self.worker.pending(client.slot).collect::<Vec<_>>().concat();
            client.output.extend_from_slice(&pending);
            self.worker.written(client.slot, pending.len());
            let fate = self.worker.fate(client.slot);
            if fate == Fate::Close || fate == Fate::CloseAfterWrite && !self.worker.is_held(client.slot) {
                self.worker.disconnect(client.slot);
                client.closed = true;
            }
        }
    }

    /// Moves the clock on; timers that are due run.
    pub fn advance_ms(&mut self, ms: u64) {
        self.clock.advance_ms(ms);
        self.turn();
    }

    /// The next whole reply or push to a client, if there is one.
    pub fn receive(&mut self, name: &str) -> Option<Value> {
        let client = self.client(name);
        match decode(&client.output) {
            Ok(Some((value, used))) => {
                client.output.drain(..used);
                Some(value)
            }
            Ok(None) => None,
            Err(_) => panic!("not RESP: {:?}", String::from_utf8_lossy(&client.output)),
        }
    }

    /// Bytes sent to a client and not yet received.
    pub fn raw(&mut self, name: &str) -> Vec<u8> {
        std::mem::take(&mut self.client(name).output)
    }

    /// Whether the engine closed the client's connection.
    pub fn is_closed(&mut self, name: &str) -> bool {
        self.client(name).closed
    }

    /// Sends a command of words separated by blanks (quotes as in redis-cli) from a client, and gives its reply as RESP text
    /// with `\r\n` shown as a blank: `*2 $1 a :1 `. Empty when there is none yet.
    pub fn ask(&mut self, name: &str, line: &str) -> String {
        let words = kelda_resp::request::split_args(line.as_bytes());
        let Some(words) = words else { panic!("unbalanced quotes: {line}") };
        let mut request = Vec::new();
        encode_command(&mut request, &words);
        self.send(name, &request);
        String::from_utf8_lossy(&self.raw(name)).trim_end().replace("\r\n", " ")
    }

    /// Checks a conversation of client `a`: lines of a command, ` => `, and its reply as [`Console::ask`] shows it.
    #[track_caller]
    pub fn check(&mut self, conversation: &str) {
        for line in conversation.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let Some((command, want)) = line.split_once(" => ") else { panic!("no => in {line}") };
            let got = self.ask("a", command);
            assert_eq!(got, want.trim(), "{command}");
        }
    }
}
