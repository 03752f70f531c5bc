//! Making a link: connecting, introducing this server, and getting a snapshot where what is here cannot be gone on with.
//!
//! All this is done by a thread of its own, which may wait. The snapshot comes into a file without a name while the old data is
//! served; only when it has come whole does the old data go, and clients are told `-LOADING` until it is in its place.

use super::{Following, Handover, Inner, LinkState, Transfer};
use crate::engine::{Engine, ScratchFile};
use crate::functions::Libraries;
use crate::links::Stream;
use crate::rdb;
use crate::worker::Worker;
use kelda_resp::encode_command;
use kelda_store::shard::ShardSet;
use std::fmt;
use std::io::{self, ErrorKind, Read, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// For so long a read waits before it is looked whether the attempt is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Bytes of a line, at most.
const LINE_BYTES: usize = 64 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;
/// Bytes of the mark with which a snapshot of unknown length ends.
const MARK_BYTES: usize = 40;
/// The version that is told to a master of Valkey, which sends the newest form of snapshots to those that are as new as this.
const VERSION: &str = "9.1.0";

/// Why there is no link.
enum Failure {
    /// It is not wanted any more.
    Void,
    /// This went wrong.
    Error(String),
}

impl Following {
    /// Does something that only the attempt of this moment may do.
    fn if_current<R>(&self, generation: u64, work: impl FnOnce(&mut Inner) -> R) -> Result<R> {
        let mut inner = self.lock();
        if self.is_current(generation) { Ok(work(&mut inner)) } else { Err(Failure::Void) }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Error(error.to_string())
    }
}

type Result<T> = std::result::Result<T, Failure>;

fn failure<T>(what: impl fmt::Display) -> Result<T> {
    Err(Failure::Error(what.to_string()))
}

/// What the master answers to PSYNC.
enum Answer {
    /// It goes on where this server stopped, under this name if it says one.
    Continue(Option<String>),
    /// It sends a snapshot, of this place of this history.
    Full(String, u64),
    /// It does not know PSYNC.
    Unknown,
}

/// One attempt to make a link.
pub(super) struct Attempt<'a> {
    engine: &'a Arc<Engine>,
    generation: u64,
    stream: Box<dyn Stream>,
    /// What was read and is not used up.
    input: Vec<u8>,
    /// When something last came, in monotonic µs.
    heard_us: u64,
}

impl<'a> Attempt<'a> {
    /// Makes a link, or says in the log why there is none.
    pub fn run(engine: &'a Arc<Engine>, generation: u64, host: String, port: u16) {
        let log = |level, text: &str| engine.following.note(engine, level, text);
        let made = (|| {
            // From here on nobody writes but the master.
            if !engine.following.await_workers(engine) || !engine.following.is_current(generation) {
                return Err(Failure::Void);
            }
            log(2, &format!("Connecting to MASTER {host}:{port}"));
            let patience = Duration::from_secs(engine.config.settings().repl_timeout);
            let mut stream = engine
                .platform
                .connect(&host, port, patience)
                .map_err(|error| Failure::Error(format!("Error condition on socket for SYNC: {error}")))?;
            stream.set_read_timeout(LOOK_EVERY)?;
            log(2, "MASTER <-> REPLICA sync started");
            let heard_us = engine.clock.monotonic_us();
            Attempt { engine, generation, stream, input: Vec::new(), heard_us }.link()
        })();
        if let Err(why) = made {
            if let Failure::Error(why) = why {
                log(3, &why);
            }
            engine.following.failed(engine, generation);
        }
    }

    fn log(&self, text: &str) {
        self.engine.following.note(self.engine, 2, text);
    }

    fn link(mut self) -> Result<()> {
        let (engine, generation) = (self.engine, self.generation);
        engine.following.step(generation, LinkState::Handshake);
        self.introduce()?;
        // Under the lock: who promotes this server meanwhile finds the history as it leaves it.
        let known =
            engine.following.if_current(generation, |inner| engine.replication.follow().filter(|_| !inner.strayed))?;
        match &known {
            Some((id, place, _)) => {
                self.log(&format!("Trying a partial resynchronization (request {id}:{}).", place + 1));
                let next = (place + 1).to_string();
                let mut request: Vec<&[u8]> = vec![b"PSYNC", id.as_bytes(), next.as_bytes()];
                if engine.failover.is_on() {
                    request.push(b"FAILOVER");
                }
                self.send(&request)?;
            }
            None => {
                self.log("Partial resynchronization not possible (no cached master)");
                self.send(&[b"PSYNC", b"?", b"-1"])?;
            }
        }
        let (id, place) = match (self.answer()?, known) {
            (Answer::Continue(id), Some((_, _, db))) => {
                self.log("Successful partial resynchronization with master.");
                engine.following.if_current(generation, |_| engine.replication.go_on(engine, id.as_deref()))?;
                engine.failover.end(engine, "Failover is done: the other server leads");
                return self.hand_over(db, true);
            }
            (Answer::Continue(_), None) => return failure("Master continues what was not begun"),
            (Answer::Full(id, place), _) => {
                self.log(&format!("Full resync from master: {id}:{place}"));
                engine.failover.end(engine, "Failover is done: the other server leads, with other data");
                (Some(id), place)
            }
            (Answer::Unknown, _) if engine.failover.abort(engine, "Failover target rejected psync request") => {
                return Err(Failure::Void);
            }
            (Answer::Unknown, _) => {
                self.log("Retrying with SYNC...");
                self.send(&[b"SYNC"])?;
                (None, 0)
            }
        };
        engine.following.step(generation, LinkState::Sync);
        let (mut file, len) = self.receive()?;
        let db = self.load(&mut *file, len, id.as_deref(), place)?;
        self.log("MASTER <-> REPLICA sync: Finished with success");
        self.hand_over(db, id.is_some())
    }

    /// Says who this server is.
    fn introduce(&mut self) -> Result<()> {
        let settings = self.engine.config.settings();
        let reply = self.ask(&[b"PING"])?;
        let locked = ["-NOAUTH", "-NOPERM", "-ERR operation not permitted"];
        if !reply.starts_with('+') && !locked.iter().any(|refusal| reply.starts_with(refusal)) {
            return failure(format_args!("Error reply to PING from master: '{reply}'"));
        }
        self.log("Master replied to PING, replication can continue...");
        if !settings.masterauth.is_empty() {
            let (user, password) = (settings.masteruser.as_bytes(), settings.masterauth.as_bytes());
            let reply = match user {
                b"" => self.ask(&[b"AUTH", password])?,
                user => self.ask(&[b"AUTH", user, password])?,
            };
            if reply.starts_with('-') {
                return failure(format_args!("Unable to AUTH to MASTER: {reply}"));
            }
        }
        let announced = settings.replica_announce_port;
        let port = if announced != 0 { announced } else { settings.port };
        self.say("listening-port", port.to_string().as_bytes())?;
        if !settings.replica_announce_ip.is_empty() {
            self.say("ip-address", settings.replica_announce_ip.as_bytes())?;
        }
        let reply = self.ask(&[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"])?;
        self.note_refusal("capa", &reply);
        // Only Valkey knows it.
        self.ask(&[b"REPLCONF", b"version", VERSION.as_bytes()]).map(drop)
    }

    fn say(&mut self, what: &str, value: &[u8]) -> Result<()> {
        let reply = self.ask(&[b"REPLCONF", what.as_bytes(), value])?;
        self.note_refusal(what, &reply);
        Ok(())
    }

    fn note_refusal(&self, what: &str, reply: &str) {
        if reply.starts_with('-') {
            self.log(&format!("(Non critical) Master does not understand REPLCONF {what}: {reply}"));
        }
    }

    fn answer(&mut self) -> Result<Answer> {
        let line = self.line_of_text()?;
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("+CONTINUE"), id, _) => {
                Ok(Answer::Continue(id.filter(|id| id.len() == MARK_BYTES).map(str::to_owned)))
            }
            (Some("+FULLRESYNC"), Some(id), Some(place)) if id.len() == MARK_BYTES => match place.parse() {
                Ok(place) => Ok(Answer::Full(id.to_owned(), place)),
                Err(_) => failure(format_args!("Master replied with wrong +FULLRESYNC syntax: {line}")),
            },
            (Some("-NOMASTERLINK" | "-LOADING"), ..) => {
                failure(format_args!("Master is currently unable to PSYNC but should be in the future: {line}"))
            }
            (Some(word), ..) if word.starts_with('-') => {
                self.log(&format!("Master does not support PSYNC or is in error state (reply: {line})"));
                Ok(Answer::Unknown)
            }
            _ => failure(format_args!("Unexpected reply to PSYNC from master: {line}")),
        }
    }

    /// Receives a snapshot; the file, and how long it is.
    fn receive(&mut self) -> Result<(Box<dyn ScratchFile>, u64)> {
        let line = self.line_of_text()?;
        if line.starts_with('-') {
            return failure(format_args!("MASTER aborted replication with an error: {line}"));
        }
        let mut file = self.engine.platform.scratch_file()?;
        let mut transfer = Transfer::default();
        if let Some(mark) = line.strip_prefix("$EOF:").filter(|mark| mark.len() == MARK_BYTES) {
            self.log("MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF to disk");
            loop {
                if self.input.ends_with(mark.as_bytes()) {
                    self.input.truncate(self.input.len() - MARK_BYTES);
                    self.keep(&mut *file, usize::MAX, &mut transfer)?;
                    break;
                }
                // What may be the beginning of the mark is looked at again.
                self.keep(&mut *file, self.input.len().saturating_sub(MARK_BYTES), &mut transfer)?;
                self.read()?;
            }
        } else if let Some(len) = line.strip_prefix('$').and_then(|len| len.parse::<u64>().ok()) {
            self.log(&format!("MASTER <-> REPLICA sync: receiving {len} bytes from master to disk"));
            transfer.total = Some(len);
            loop {
                let left = usize::try_from(len - transfer.read).unwrap_or(usize::MAX);
                self.keep(&mut *file, left, &mut transfer)?;
                if transfer.read == len {
                    break;
                }
                self.read()?;
            }
        } else {
            return failure(format_args!("Bad protocol from MASTER, the first byte is not '$': {line}"));
        }
        file.seek(SeekFrom::Start(0))?;
        if let Err(error) = rdb::check(self.engine, &mut *file) {
            let what = "Failed trying to load the MASTER synchronization DB from disk";
            return failure(format_args!("{what}: {error}. The old data is kept"));
        }
        file.seek(SeekFrom::Start(0))?;
        Ok((file, transfer.read))
    }

    /// Moves up to so many bytes of the input into the file.
    fn keep(&mut self, file: &mut dyn ScratchFile, most: usize, transfer: &mut Transfer) -> Result<()> {
        let bytes = most.min(self.input.len());
        file.write_all(&self.input[..bytes])?;
        self.input.drain(..bytes);
        transfer.read += bytes as u64;
        self.engine.following.note_transfer(self.generation, Some(*transfer));
        Ok(())
    }

    /// Puts what is in the file in the place of all data; the database in which what follows begins.
    fn load(&mut self, file: &mut dyn ScratchFile, len: u64, id: Option<&str>, place: u64) -> Result<u32> {
        let engine = self.engine;
        engine.loading.begin(engine.clock.unix_us() / 1_000_000, len);
        // From here on nobody looks at the data. REPLICAOF is refused, too: what was current stays so.
        let alone = engine.following.await_workers(engine) && engine.following.is_current(self.generation);
        if !alone {
            engine.loading.end();
            return Err(Failure::Void);
        }
        engine.saves.hold();
        let mut worker = Worker::new(engine.clone(), 0, engine.started_us as u64);
        self.log("MASTER <-> REPLICA sync: Flushing old data");
        let logged = engine.log.is_on();
        empty(engine, &mut worker);
        self.log("MASTER <-> REPLICA sync: Loading DB in memory");
        let (mut said_us, stream) = (engine.clock.monotonic_us(), &mut self.stream);
        let mut source = Telling {
            file,
            tell: &mut || {
                let now_us = engine.clock.monotonic_us();
                if now_us.saturating_sub(said_us) >= 1_000_000 {
                    said_us = now_us;
                    // If it cannot be told, the end of loading will find that out.
                    let _ = stream.write_all(b"\n").and_then(|()| stream.flush());
                }
            },
        };
        let loaded = rdb::load_all(engine, &mut source, true);
        let result = match loaded {
            Ok(loaded) => {
                let db = loaded.facts.iter().find(|(name, _)| name == b"repl-stream-db");
                let db = db.and_then(|(_, db)| std::str::from_utf8(db).ok()?.parse().ok());
                let db = db.filter(|db| *db < engine.keyspace.databases()).unwrap_or(0);
                let unnamed = engine.replication.new_id();
                engine.replication.restart(engine, id.unwrap_or(&unnamed), place, db);
                engine.following.lock().strayed = false;
                engine.following.local.clear();
                Ok(db)
            }
            Err(error) => {
                empty(engine, &mut worker);
                // Nothing is here that anything could be added to.
                engine.following.lock().strayed = true;
                failure(format_args!("Failed trying to load the MASTER synchronization DB from disk: {error}"))
            }
        };
        engine.loading.end();
        engine.saves.let_go();
        if let Some(sink) = engine.log.sink()
            && logged
        {
            sink.begin_anew();
        }
        result
    }

    /// Makes the connection a session's.
    fn hand_over(self, db: u32, acknowledges: bool) -> Result<()> {
        let Attempt { engine, generation, stream, input, .. } = self;
        // This server's own replicas may have been cut off, to come back. Who sees that this link is up is to see that theirs are not.
        if !engine.following.await_workers(engine) {
            return Err(Failure::Void);
        }
        let handover = Handover { generation, input, db, acknowledges };
        engine.following.if_current(generation, |inner| inner.handover = Some(handover))?;
        engine.platform.adopt(stream).map_err(Failure::from)
    }

    // ---- reading and writing

    fn send(&mut self, words: &[&[u8]]) -> Result<()> {
        let mut request = Vec::new();
        encode_command(&mut request, words);
        self.stream.write_all(&request).and_then(|()| self.stream.flush())?;
        Ok(())
    }

    fn ask(&mut self, words: &[&[u8]]) -> Result<String> {
        self.send(words)?;
        self.line_of_text()
    }

    /// The next line that is not empty, without its end: empty ones say that the master is at work.
    fn line_of_text(&mut self) -> Result<String> {
        loop {
            while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                let line = line.trim_end_matches(['\r', '\n']);
                if !line.is_empty() {
                    return Ok(line.to_owned());
                }
            }
            if self.input.len() > LINE_BYTES {
                return failure("Bad protocol from MASTER: a line without end");
            }
            self.read()?;
        }
    }

    /// Reads on; waits for as long as `repl-timeout` allows.
    fn read(&mut self) -> Result<()> {
        let following = &self.engine.following;
        loop {
            if !following.is_current(self.generation) || self.engine.platform.is_ending() {
                return Err(Failure::Void);
            }
            let before = self.input.len();
            self.input.resize(before + READ_BYTES, 0);
            let read = self.stream.read(&mut self.input[before..]);
            self.input.truncate(before + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return failure("I/O error reading from master: connection lost"),
                Ok(_) => {
                    self.heard_us = self.engine.clock.monotonic_us();
                    following.last_io_ms.store(self.engine.clock.unix_us() / 1000, Relaxed);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    let silent_us = self.engine.clock.monotonic_us().saturating_sub(self.heard_us);
                    if silent_us > self.engine.config.settings().repl_timeout * 1_000_000 {
                        return failure("Timeout connecting to the MASTER...");
                    }
                }
                Err(error) => return failure(format_args!("I/O error reading from master: {error}")),
            }
        }
    }
}

/// Removes all keys and libraries, of which the log is told nothing: it is turned off.
fn empty(engine: &Arc<Engine>, worker: &mut Worker) {
    worker.refresh();
    let guard = engine.keyspace.lock_patiently(ShardSet::All);
    engine.log.turn(false);
    worker.prepare_context();
    let mut txn = worker.transaction(guard, 0);
    (0..txn.databases()).for_each(|db| _ = txn.flush(db));
    worker.commit(txn);
    let cleared = engine.functions.change(|libraries| {
        *libraries = Libraries::default();
        Ok(())
    });
    // Nothing in it fails.
    drop(cleared);
    // The first worker's mail may have come from this thread in its name, which wakes nobody.
    engine.mailbox(0).iter().for_each(|mailbox| mailbox.nudge());
}

/// A file that is read while somebody is told that it still is.
struct Telling<'a> {
    file: &'a mut dyn ScratchFile,
    tell: &'a mut (dyn FnMut() + Send),
}

impl Read for Telling<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (self.tell)();
        self.file.read(into)
    }
}
