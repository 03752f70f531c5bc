//! Running the commands of a log again: a [`Dealer`] reads them in order and deals them out by shard, [`Runner`]s, each on a
//! thread of the server's, run them.
//!
//! Invariants: commands of one key run in the order of the log, for a shard belongs to one runner. A command that is of no key,
//! or of keys of several runners, waits until all before it have run, and runs before all after it. While commands are
//! replayed nothing is due, so that the log's own deletions decide; nothing is logged, no event is sent, nobody is blocked.

use crate::args::Args;
use crate::clients::ClientInfo;
use crate::command::{Reply, Run};
use crate::ctx::{Ctx, Origin};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::exec;
use crate::mailbox::SessionRef;
use crate::registry::{Names, Registered};
use crate::session::Session;
use crate::worker::{NoHost, Peer, Worker};
use kelda_resp::{Protocol, Writer};
use kelda_store::hasher;
use kelda_store::shard::{ShardSet, shard_of};
use kelda_store::txn::{Context, Env, Txn};
use smallvec::SmallVec;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a batch from which on it is handed over.
const BATCH_BYTES: usize = 128 << 10;
/// Batches that may wait for a runner.
const QUEUED: usize = 8;
/// Commands whose keys are fetched from memory together.
const AHEAD: usize = 32;

/// Where a command stands in the log, its LSN, for the error that ends the replay; 0 in the logs of other servers, in which
/// errors mean nothing: they log what failed, too.
pub type Place = u64;

/// A command of a batch; its words lie one after the other in the batch's bytes.
struct Item {
    command: &'static Registered,
    db: u32,
    /// How many words.
    words: u32,
    /// The word that is the key, and its hash.
    key: (u32, u64),
    place: Place,
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Lengths of all words.
    lens: Vec<u32>,
    items: Vec<Item>,
}

enum Job {
    Run(Batch),
    /// Says when all before it is done.
    Tell(SyncSender<()>),
}

/// What went wrong first, in any thread.
#[derive(Default)]
struct Failure {
    happened: AtomicBool,
    what: Mutex<Option<(Place, String)>>,
}

impl Failure {
    fn note(&self, place: Place, what: String) {
        let mut first = self.what.lock().unwrap_or_else(PoisonError::into_inner);
        if first.as_ref().is_none_or(|(before, _)| *before > place) {
            *first = Some((place, what));
        }
        self.happened.store(true, Relaxed);
    }

    fn take(&self) -> Option<(Place, String)> {
        self.what.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How one thread runs commands on keys.
struct Hands {
    engine: Arc<Engine>,
    context: Option<Box<Context>>,
    reply: Reply,
    now_ms: i64,
}

impl Hands {
    fn new(engine: Arc<Engine>, seed: u64) -> Hands {
        let env = Env {
            limits: engine.config.settings().limits,
            // What was allowed once stays.
            string_bytes_max: usize::MAX >> 1,
            // Keys that are due stay, and are seen, until the log says that they go.
            keep_due: true,
            see_due: true,
            ..Env::default()
        };
        let now_ms = engine.clock.unix_us() / 1000;
        Hands { context: Some(Context::new(env, seed)), reply: Writer::new(Protocol::Resp2), now_ms, engine }
    }

    /// Runs work on these shards.
    fn with_shards<R>(&mut self, set: ShardSet, db: u32, work: impl FnOnce(&mut Txn, &mut Reply) -> R) -> R {
        let engine = self.engine.clone();
        // Others hold them for microseconds, INFO at most.
        let guard = engine.keyspace.lock_patiently(set);
        let cx = self.context.take().unwrap_or_else(|| Context::new(Env::default(), 1));
        let mut txn = Txn::new(guard, db, self.now_ms, cx);
        let result = work(&mut txn, &mut self.reply);
        let mut cx = txn.finish();
        (cx.dirty, cx.expired) = (0, 0);
        cx.ready.clear();
        cx.garbage.clear();
        cx.hits.set(0);
        cx.misses.set(0);
        self.reply.truncate(0);
        self.context = Some(cx);
        result
    }

    fn run(&mut self, item: &Item, words: &[&[u8]]) -> Result {
        let (at, hash) = item.key;
        let args = Args::with_hash(words, at as usize, hash);
        let set = exec::shards_of(item.command, &args);
        self.with_shards(set, item.db, |txn, reply| match item.command.command.run {
            Run::Write(run) => run(txn, &args, reply),
            Run::Wait(run) => run(txn, &args, reply).map(drop),
            // The dealer hands over no others.
            _ => Ok(()),
        })
    }
}

/// Runs what it is dealt, until the dealer is gone.
pub struct Runner {
    hands: Hands,
    jobs: Receiver<Job>,
    failure: Arc<Failure>,
}

impl Runner {
    /// Runs to the end. For a thread of its own.
    pub fn run(mut self) {
        while let Ok(job) = self.jobs.recv() {
            match job {
                Job::Run(batch) => self.run_batch(&batch),
                // The dealer waits for it, or is gone.
                Job::Tell(done) => _ = done.send(()),
            }
        }
    }

    fn run_batch(&mut self, batch: &Batch) {
        let (mut bytes, mut lens) = (&batch.bytes[..], &batch.lens[..]);
        let engine = self.hands.engine.clone();
        for items in batch.items.chunks(AHEAD) {
            let hashes: SmallVec<[u64; AHEAD]> = items.iter().map(|item| item.key.1).collect();
            hashes.iter().for_each(|hash| engine.keyspace.prefetch_shard(*hash));
            engine.keyspace.prefetch(items.first().map_or(0, |item| item.db), &hashes);
            for item in items {
                if self.failure.happened.load(Relaxed) {
                    return;
                }
                let mut words: SmallVec<[&[u8]; 8]> = SmallVec::new();
                let (own, rest) = lens.split_at_checked(item.words as usize).unwrap_or((lens, &[]));
                lens = rest;
                for &len in own {
                    let (word, rest) = bytes.split_at_checked(len as usize).unwrap_or((bytes, &[]));
                    words.push(word);
                    bytes = rest;
                }
                if let Err(error) = self.hands.run(item, &words)
                    && item.place != 0
                {
                    self.failure.note(item.place, describe(&words, &error));
                }
            }
        }
    }
}

fn show(word: &[u8]) -> String {
    word[..word.len().min(64)].escape_ascii().to_string()
}

/// The words by which people know this from the logs of Redis.
fn unknown(words: &[&[u8]], error: &Error) -> String {
    let name = words.first().copied().unwrap_or_default();
    format!("Unknown command '{}' reading the append only file: {error}", show(name))
}

fn describe(words: &[&[u8]], error: &Error) -> String {
    let shown: Vec<String> = words.iter().take(3).map(|word| show(word)).collect();
    format!("'{}' fails: {error}", shown.join(" "))
}

/// Deals commands out, and runs those that concern all.
pub struct Dealer {
    engine: Arc<Engine>,
    queues: Vec<SyncSender<Job>>,
    batches: Vec<Batch>,
    failure: Arc<Failure>,
    last: Option<(&'static Registered, bool)>,
    hands: Hands,
    /// For commands of the server rather than of keys: FUNCTION, scripts in the logs of old servers.
    worker: Option<Box<(Worker, Session)>>,
    count: u64,
}

/// Makes a dealer and `runners` runners for an engine that serves no data yet.
pub fn replay(engine: &Arc<Engine>, runners: usize) -> (Dealer, Vec<Runner>) {
    let failure = Arc::new(Failure::default());
    let (mut queues, mut all) = (Vec::new(), Vec::new());
    for index in 0..runners.max(1) {
        let (queue, jobs) = sync_channel(QUEUED);
        queues.push(queue);
        let hands = Hands::new(engine.clone(), index as u64 + 2);
        all.push(Runner { hands, jobs, failure: failure.clone() });
    }
    let batches = queues.iter().map(|_| Batch::default()).collect();
    let (hands, engine) = (Hands::new(engine.clone(), 1), engine.clone());
    (Dealer { engine, queues, batches, failure, last: None, hands, worker: None, count: 0 }, all)
}

impl Dealer {
    /// The next command of the log, which is in database `db`.
    ///
    /// # Errors
    /// The place of a command that fails, perhaps an earlier one, and what is wrong.
    #[inline]
    pub fn command(&mut self, db: u32, words: &[&[u8]], place: Place) -> std::result::Result<(), (Place, String)> {
        self.count += 1;
        let (command, local) = match self.last {
            Some(last) if names(last.0, words) => last,
            _ => {
                // The log has the commands' own names, whatever clients call them.
                let command =
                    exec::resolve(&Names::default(), words).map_err(|error| (place, unknown(words, &error)))?;
                let local = matches!(command.command.run, Run::Write(_) | Run::Wait(_));
                *self.last.insert((command, local))
            }
        };
        if !command.command.takes(words.len()) {
            return Err((place, describe(words, &Error::Arity(command.name.clone()))));
        }
        if local && let Some((runner, key)) = self.runner_of(command, words) {
            return self.deal(runner, Item { command, db, words: words.len() as u32, key, place }, words);
        }
        if matches!(command.command.run, Run::Read(_)) {
            return Ok(());
        }
        self.wait()?;
        match self.run_here(command, db, words) {
            Err(error) if place != 0 => Err((place, describe(words, &error))),
            _ => Ok(()),
        }
    }

    /// The one runner that has all keys of the command, and a key with its hash; `None` if there is none.
    fn runner_of(&self, command: &Registered, words: &[&[u8]]) -> Option<(usize, (u32, u64))> {
        let runner = |hash| shard_of(hash) % self.queues.len();
        if let Some(at) = command.single_key {
            let hash = hasher::hash(words.get(at)?);
            return Some((runner(hash), (at as u32, hash)));
        }
        if command.command.needs_all_shards(words) {
            return None;
        }
        let (mut found, mut same) = (None, true);
        command.find_keys(words, &mut |at, _| {
            let hash = hasher::hash(words.get(at).copied().unwrap_or_default());
            let (first, _) = *found.get_or_insert((runner(hash), (at as u32, hash)));
            same &= runner(hash) == first;
        });
        found.filter(|_| same)
    }

    fn deal(&mut self, runner: usize, item: Item, words: &[&[u8]]) -> std::result::Result<(), (Place, String)> {
        // There is a batch for each queue, and `runner` is one of them.
        let batch = &mut self.batches[runner];
        for word in words {
            batch.bytes.extend_from_slice(word);
            batch.lens.push(word.len() as u32);
        }
        batch.items.push(item);
        if batch.bytes.len() + 16 * batch.lens.len() >= BATCH_BYTES { self.hand_over(runner) } else { Ok(()) }
    }

    fn hand_over(&mut self, runner: usize) -> std::result::Result<(), (Place, String)> {
        let batch = std::mem::take(&mut self.batches[runner]);
        // A runner that is gone has panicked, which its thread tells.
        let gone = !batch.items.is_empty() && self.queues[runner].send(Job::Run(batch)).is_err();
        if gone {
            self.failure.note(0, "a thread that loads data has ended".into());
        }
        if self.failure.happened.load(Relaxed) { self.check() } else { Ok(()) }
    }

    fn check(&self) -> std::result::Result<(), (Place, String)> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Waits until all that was dealt out has run.
    ///
    /// # Errors
    /// As [`Dealer::command`].
    pub fn wait(&mut self) -> std::result::Result<(), (Place, String)> {
        let (done, told) = sync_channel(self.queues.len());
        for runner in 0..self.queues.len() {
            self.hand_over(runner)?;
            // If it is gone, its sender is, too, and the loop below ends.
            let _ = self.queues[runner].send(Job::Tell(done.clone()));
        }
        drop(done);
        while told.recv().is_ok() {}
        self.check()
    }

    /// Runs a command with every shard held and no runner at work.
    fn run_here(&mut self, command: &'static Registered, db: u32, words: &[&[u8]]) -> Result {
        let engine = self.engine.clone();
        let args = Args::new(words);
        let both = self.worker.get_or_insert_with(|| {
            let at = SessionRef { worker: 0, slot: usize::MAX, id: 0 };
            let info = Arc::new(ClientInfo::new(at, Peer::default(), engine.clock.unix_us() / 1000));
            let mut session = Session::new(info, engine.acl.default_user(), engine.acl.version());
            // What is in the log was allowed once.
            (session.authenticated, session.restricted) = (true, false);
            Box::new((Worker::for_replay(engine), session))
        });
        let (worker, session) = &mut **both;
        session.select(db);
        self.hands.with_shards(ShardSet::All, db, |txn, reply| {
            let mut ctx = Ctx { worker, session, host: &mut NoHost, txn: None, origin: Origin::Exec };
            exec::run_in_txn(&mut ctx, txn, command, &args, reply)
        })
    }

    /// Ends the replay: how many commands there were. The runners end.
    ///
    /// # Errors
    /// As [`Dealer::command`].
    pub fn finish(mut self) -> std::result::Result<u64, (Place, String)> {
        self.wait()?;
        Ok(self.count)
    }
}

/// Whether these words are again this command, which has no subcommands.
#[inline]
fn names(command: &Registered, words: &[&[u8]]) -> bool {
    command.parent.is_none() && words.first().is_some_and(|name| command.command.name.as_bytes() == *name)
}
