//! RDB files of the whole keyspace: loading one when the server starts, SAVE, DEBUG RELOAD.

use crate::config::Settings;
use crate::engine::Engine;
use crate::functions::{Library, library_name};
use crate::running;
use crate::version::{KELDA_VERSION, REDIS_VERSION};
use crate::worker::Worker;
use kelda_log::rdb::{Access, Block, FileError, Format, RdbFile, RdbWriter, Version};
use kelda_store::Limits;
use kelda_store::access::AccessClock;
use kelda_store::entry::{Entry, EntryRef};
use kelda_store::hasher;
use kelda_store::shard::{Keyspace, SHARDS, ShardSet, shard_of};
use kelda_store::txn::{Context, Env, Txn};
use kelda_store::value::Value;
use std::fmt;
use std::io::{self, Read};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How RDB is written by these settings.
pub fn format(settings: &Settings) -> Format {
    Format { version: Version(settings.rdb_version), compress: settings.rdbcompression }
}

/// How uses of keys are counted by these settings.
fn access_clock(settings: &Settings, now_ms: i64) -> AccessClock {
    AccessClock {
        lfu: settings.maxmemory_policy.is_lfu(),
        now_ms,
        log_factor: settings.lfu_log_factor,
        decay_minutes: settings.lfu_decay_time,
    }
}

/// The access field of a key for which a file tells this.
fn access_field(clock: &AccessClock, access: Option<Access>) -> u32 {
    match access {
        Some(Access::Idle(seconds)) if !clock.lfu => clock.idle_for(u32::try_from(seconds).unwrap_or(u32::MAX)),
        Some(Access::Frequency(counter)) if clock.lfu => clock.with_frequency(counter),
        _ => clock.fresh(),
    }
}

/// What a file tells of how a key was used: only what `maxmemory-policy` goes by, as in Redis.
pub fn access_of(entry: EntryRef, settings: &Settings, now_ms: i64) -> Option<Access> {
    let (clock, policy) = (access_clock(settings, now_ms), settings.maxmemory_policy);
    if policy.is_lfu() {
        return Some(Access::Frequency(clock.frequency(entry.access()).min(255) as u8));
    }
    policy.is_lru().then(|| Access::Idle(u64::from(clock.idle_seconds(entry.access()))))
}

/// A fact about a file: its name, and what it is.
pub type Fact = (&'static str, String);
/// The history that replicas follow.
pub const REPL_ID: &str = "repl-id";
/// How much of it the file has.
pub const REPL_OFFSET: &str = "repl-offset";
/// The database in which it goes on.
pub const STREAM_DB: &str = "repl-stream-db";

/// The facts with which a file begins.
pub fn facts(engine: &Engine, aof_base: bool) -> [Fact; 6] {
    [
        ("redis-ver", REDIS_VERSION.into()),
        ("kelda-ver", KELDA_VERSION.into()),
        ("redis-bits", usize::BITS.to_string()),
        ("ctime", (engine.clock.unix_us() / 1_000_000).to_string()),
        ("used-mem", engine.platform.used_memory().to_string()),
        ("aof-base", u8::from(aof_base).to_string()),
    ]
}

/// Bytes that gather before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// Writes all that `txn`, which holds the whole keyspace, sees into the snapshot file. How many bytes those were.
pub fn save(engine: &Engine, txn: &mut Txn) -> io::Result<u64> {
    let settings = engine.config.settings();
    let mut len = 0;
    engine.platform.replace_file(&settings.dbfilename, &mut |out| {
        let mut writer = RdbWriter::new(format(&settings), settings.rdbchecksum);
        let facts = facts(engine, false);
        let history = engine.replication.facts();
        writer.header(facts.iter().chain(&history).map(|(name, fact)| (*name, &**fact)));
        engine.functions.current().iter().for_each(|library| writer.function(&library.code));
        let (here, now_ms) = (txn.db(), txn.now());
        for db in 0..txn.databases() {
            txn.select(db);
            let keys = txn.key_count();
            if keys == 0 {
                continue;
            }
            writer.select(db, keys as u64, txn.volatile_count() as u64);
            let mut result = Ok(());
            txn.for_each_key_even_due(|entry| {
                if result.is_err() {
                    return;
                }
                writer.entry(entry.key(), entry.expire_at(), access_of(entry, &settings, now_ms), entry.value());
                if writer.pending() >= WRITE_BYTES {
                    result = writer.drain(|bytes| out.write_all(bytes));
                }
            });
            txn.select(here);
            result?;
        }
        writer.end();
        writer.drain(|bytes| out.write_all(bytes))?;
        len = writer.len();
        Ok(())
    })?;
    engine.dirty_at_save.store(engine.total(|stats| stats.dirty.get()), Relaxed);
    engine.last_save.store(engine.clock.unix_us() / 1_000_000, Relaxed);
    engine.platform.log(2, "DB saved on disk");
    Ok(len)
}

/// Saves before the server ends.
///
/// # Errors
/// What SHUTDOWN replies.
pub fn save_at_end(engine: &Engine, txn: &mut Txn) -> crate::error::Result {
    engine.platform.log(2, "Saving the final RDB snapshot before exiting.");
    save(engine, txn).map(drop).map_err(|error| {
        engine.platform.log(3, &format!("Error saving DB on disk: {error}"));
        engine.platform.log(3, "Error trying to save the DB, can't exit.");
        crate::error::Error::text("ERR Errors trying to SHUTDOWN. Check logs.")
    })
}

/// [`save_at_end`] for those who hold nothing: SIGTERM. The keyspace stays locked.
///
/// # Errors
/// As [`save_at_end`].
pub fn save_and_stay(engine: &Engine) -> crate::error::Result {
    // A script that runs for long gives its shards back.
    engine.ending.store(true, Relaxed);
    engine.running.kill_all();
    let guard = engine.keyspace.lock_patiently(ShardSet::All);
    let context = Context::new(Env::default(), 1);
    let mut txn = Txn::new(guard, 0, engine.clock.unix_us() / 1000, context);
    let saved = save_at_end(engine, &mut txn);
    match &saved {
        Ok(()) => std::mem::forget(txn),
        Err(_) => engine.ending.store(false, Relaxed),
    }
    saved
}

/// What was loaded from a file.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Keys that are now there.
    pub keys: u64,
    /// Keys left out because their time was over.
    pub expired: u64,
    /// Keys left out because they have no elements.
    pub empty: Vec<Vec<u8>>,
    /// Texts of the libraries of functions.
    pub functions: Vec<Vec<u8>>,
    /// Facts about the file by name.
    pub facts: Vec<(Vec<u8>, Vec<u8>)>,
    /// Modules whose data beside the keys was passed over.
    pub modules: Vec<String>,
    /// Bytes of the file, up to the end of what is RDB.
    pub bytes: u64,
}

impl Loaded {
    fn take_notes(&mut self, block: &mut Block) {
        self.functions.append(&mut block.functions);
        self.facts.append(&mut block.facts);
        self.modules.append(&mut block.modules);
    }
}

/// Why a snapshot is not loaded.
#[derive(Debug)]
pub enum LoadError {
    /// What is wrong with the file.
    File(FileError),
    /// What is wrong with a library of functions.
    Function(String),
}

impl From<FileError> for LoadError {
    fn from(error: FileError) -> LoadError {
        LoadError::File(error)
    }
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> LoadError {
        LoadError::File(FileError::Io(error))
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::File(error) => error.fmt(f),
            LoadError::Function(error) => write!(f, "cannot load a library of functions: {error}"),
        }
    }
}

/// How keys are loaded.
#[derive(Clone, Copy)]
struct Rules {
    limits: Limits,
    clock: AccessClock,
    databases: u32,
    /// `key-load-delay`: how long each key waits, for tests.
    delay_us: u64,
    /// Whether keys whose time is over are loaded: a log that follows deletes them.
    keep_expired: bool,
}

impl Rules {
    fn new(engine: &Engine, keep_expired: bool) -> Rules {
        let settings = engine.config.settings();
        Rules {
            limits: settings.limits,
            clock: access_clock(&settings, engine.clock.unix_us() / 1000),
            databases: engine.keyspace.databases(),
            delay_us: settings.key_load_delay_us,
            keep_expired,
        }
    }

    /// Calls `each` with every key of a block that is to be loaded.
    fn decode(&self, block: &Block, loaded: &mut Loaded, mut each: impl FnMut(u32, Entry)) -> Result<(), FileError> {
        let now_ms = self.clock.now_ms;
        for raw in block.entries() {
            let db = u32::try_from(raw.db).ok().filter(|db| *db < self.databases);
            let db = db.ok_or(FileError::Database(raw.db))?;
            if !self.keep_expired && raw.expire_at.is_some_and(|at| at < now_ms) {
                loaded.expired += 1;
                continue;
            }
            let entry = match raw.as_string()? {
                Some((key, text)) => {
                    key.with_bytes(|key| text.with_bytes(|text| Entry::from_bytes(key, text, false, raw.expire_at)))
                }
                None => {
                    let (key, value) = raw.decode(&self.limits)?;
                    match value {
                        None => {
                            loaded.empty.push(key.into_vec());
                            continue;
                        }
                        Some(Value::Hash(hash)) if !self.keep_expired && hash.is_over(now_ms) => {
                            loaded.expired += 1;
                            continue;
                        }
                        Some(value) => key.with_bytes(|key| Entry::new(key, value, raw.expire_at)),
                    }
                }
            };
            entry.as_ref().set_access(access_field(&self.clock, raw.access));
            each(db, entry);
            loaded.keys += 1;
            if self.delay_us != 0 {
                std::thread::sleep(Duration::from_micros(self.delay_us));
            }
        }
        Ok(())
    }
}

/// Loads the keys of a file into a keyspace that nobody else uses, on `threads` threads.
pub fn load_keys(
    engine: &Engine,
    source: &mut (dyn Read + Send),
    threads: usize,
    keep_expired: bool,
) -> Result<Loaded, FileError> {
    let rules = Rules::new(engine, keep_expired);
    let file = open(engine, source)?;
    // The file, which one thread at a time reads on in, and what came of it.
    let shared = Mutex::new((file, Ok(Loaded::default())));
    let work = || {
        let mut sorting = Sorting::default();
        loop {
            let mut held = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let (file, result) = &mut *held;
            let Ok(total) = result else { return };
            let block = match file.next_block() {
                Ok(Some(_)) if engine.platform.is_ending() => {
                    *result = Err(io::Error::other("the server was told to end").into());
                    return;
                }
                Ok(Some(mut block)) => {
                    total.take_notes(&mut block);
                    engine.loading.loaded_bytes.fetch_add(block.len() as u64, Relaxed);
                    block
                }
                Ok(None) => return,
                Err(error) => {
                    *result = Err(error);
                    return;
                }
            };
            drop(held);
            make_room(engine, &block);
            let counts = load_block(&engine.keyspace, &rules, &block, &mut sorting);
            let mut held = shared.lock().unwrap_or_else(PoisonError::into_inner);
            held.0.recycle(block);
            let Ok(total) = &mut held.1 else { return };
            match counts {
                Ok(mut counts) => {
                    total.keys += counts.keys;
                    total.expired += counts.expired;
                    total.empty.append(&mut counts.empty);
                }
                Err(error) => held.1 = Err(error),
            }
        }
    };
    engine.platform.in_parallel(threads, &work);
    let (file, mut result) = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Ok(loaded) = &mut result {
        loaded.bytes = file.offset();
    }
    result
}

/// Reads a file to its end, without looking into the values: whether it is whole and its sum is right, and nothing in it is of a
/// database that this server does not have.
///
/// # Errors
/// What is wrong with it.
pub fn check(engine: &Engine, source: &mut (dyn Read + Send)) -> Result<(), FileError> {
    let mut file = open(engine, source)?;
    let databases = u64::from(engine.keyspace.databases());
    while let Some(block) = file.next_block()? {
        if let Some(entry) = block.entries().find(|entry| entry.db >= databases) {
            return Err(FileError::Database(entry.db));
        }
        file.recycle(block);
    }
    Ok(())
}

fn open<'s>(
    engine: &Engine,
    source: &'s mut (dyn Read + Send),
) -> Result<RdbFile<&'s mut (dyn Read + Send)>, FileError> {
    let mut file = RdbFile::open(source)?;
    if !engine.config.settings().rdbchecksum {
        file.ignore_checksum();
    }
    Ok(file)
}

/// Makes room in the tables for the keys that a file says it has.
fn make_room(engine: &Engine, block: &Block) {
    /// Bytes that a key takes in a file, at least: no claim beyond that is believed.
    const KEY_BYTES: u64 = 4;
    let most = engine.loading.total_bytes.load(Relaxed) / KEY_BYTES;
    for &(db, keys, _) in &block.sizes {
        let Some(db) = u32::try_from(db).ok().filter(|db| *db < engine.keyspace.databases()) else { continue };
        let share = keys.min(most) as usize / SHARDS;
        for shard in 0..if share == 0 { 0 } else { SHARDS } {
            engine.keyspace.lock_patiently(ShardSet::One(shard as u16)).shard_mut(shard).reserve(db, share);
        }
    }
}

/// Memory that a thread needs again for each block.
#[derive(Default)]
struct Sorting {
    /// Hashes and databases of the keys, and their entries until they are in their places.
    keys: Vec<(u64, Option<(u32, Entry)>)>,
    /// Places in `keys` by shard.
    order: Vec<usize>,
}

/// Loads the keys of a block, shard by shard.
fn load_block(
    keyspace: &Keyspace,
    rules: &Rules,
    block: &Block,
    Sorting { keys, order }: &mut Sorting,
) -> Result<Loaded, FileError> {
    let mut loaded = Loaded::default();
    keys.clear();
    rules.decode(block, &mut loaded, |db, entry| {
        let hash = hasher::hash(entry.as_ref().key());
        keys.push((hash, Some((db, entry))));
    })?;
    // Sorted by counting: behind the prefix sums, `ends[shard]` moves from the start of the shard's keys to their end.
    let mut ends = [0usize; SHARDS];
    keys.iter().for_each(|(hash, _)| ends[shard_of(*hash)] += 1);
    let mut sum = 0;
    ends.iter_mut().for_each(|count| sum += std::mem::replace(count, sum));
    order.clear();
    order.resize(keys.len(), 0);
    for (at, (hash, _)) in keys.iter().enumerate() {
        let place = &mut ends[shard_of(*hash)];
        // The places were counted above.
        order[*place] = at;
        *place += 1;
    }
    let mut start = 0;
    for (shard, &end) in ends.iter().enumerate() {
        let range = std::mem::replace(&mut start, end)..end;
        if range.is_empty() {
            continue;
        }
        // Another loading thread may be there, or INFO, for a moment.
        let mut guard = keyspace.lock_patiently(ShardSet::One(shard as u16));
        for next in range {
            if let Some(&at) = order.get(next + 2 * AHEAD) {
                keyspace.prefetch_shard(keys[at].0);
            }
            if let Some((hash, Some((_, entry)))) = order.get(next + AHEAD).map(|&at| &keys[at]) {
                keyspace.prefetch_bucket(*hash);
                entry.prefetch();
            }
            let (hash, key) = &mut keys[order[next]];
            let Some((db, entry)) = key.take() else { continue };
            let result = guard.load(shard, rules.clock.now_ms, db, *hash, entry);
            result.map_err(|entry| FileError::Duplicate(entry.as_ref().key().to_vec()))?;
        }
    }
    Ok(loaded)
}

/// How many keys before its own turn a key has its bucket fetched from memory. Its shard, where the bucket is to be learnt,
/// comes twice as early.
const AHEAD: usize = 16;

/// Where a file stands in the history that replicas follow.
struct History {
    id: String,
    offset: u64,
    db: u32,
}

impl History {
    /// What a file says of it, if it does.
    fn of_file(engine: &Engine, source: &mut (dyn Read + Send)) -> Result<Option<History>, FileError> {
        /// Digits of a history's name.
        const DIGITS: usize = 40;
        let block = open(engine, source)?.next_block()?;
        let facts = block.map_or(Vec::new(), |block| block.facts);
        let fact = |wanted: &str| {
            let found = facts.iter().find(|(name, _)| name == wanted.as_bytes());
            found.and_then(|(_, fact)| std::str::from_utf8(fact).ok())
        };
        let id = fact(REPL_ID).filter(|id| id.len() == DIGITS);
        let offset = fact(REPL_OFFSET).and_then(|offset| offset.parse().ok());
        let db = fact(STREAM_DB).and_then(|db| db.parse().ok()).filter(|db| *db < engine.keyspace.databases());
        Ok(id.zip(offset).map(|(id, offset)| History { id: id.into(), offset, db: db.unwrap_or(0) }))
    }
}

/// Removes the keys, fields and members that are due, before anybody is served, and tells replicas, who will go on from here: they
/// have them still. How many keys it were.
fn remove_due(engine: &Arc<Engine>) -> u64 {
    const AT_ONCE: usize = 1024;
    let mut worker = Worker::new(engine.clone(), 0, engine.started_us as u64);
    worker.refresh();
    let mut removed = 0;
    for shard in 0..SHARDS {
        loop {
            let guard = engine.keyspace.lock_patiently(ShardSet::One(shard as u16));
            worker.prepare_context();
            let mut txn = worker.transaction(guard, 0);
            let taken = txn.expire_due(shard, AT_ONCE);
            removed += std::mem::take(&mut txn.cx().expired);
            worker.commit(txn);
            if taken < AT_ONCE {
                break;
            }
        }
    }
    removed
}

/// Loads the snapshot file, if there is one, when the server starts: keys and functions. Says in the log what it did.
pub fn load_at_start(engine: &Arc<Engine>) -> Result<Option<Loaded>, LoadError> {
    let name = engine.config.settings().dbfilename.clone();
    let (mut source, bytes) = match engine.platform.open_file(&name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let history = History::of_file(engine, &mut *source)?;
    (source, _) = engine.platform.open_file(&name)?;
    engine.loading.total_bytes.store(bytes, Relaxed);
    let started_us = engine.clock.monotonic_us();
    // Replicas have yet to be told of keys whose time is over.
    let loaded = load_all(engine, &mut *source, history.is_some())?;
    if let Some(History { id, offset, db }) = history {
        engine.replication.resume(engine, &id, offset, db);
        if !engine.following.is_on() {
            engine.loading.rdb_keys_expired.store(remove_due(engine), Relaxed);
        }
    }
    let seconds = engine.clock.monotonic_us().saturating_sub(started_us) as f64 / 1e6;
    engine.platform.log(2, &format!("DB loaded from disk: {seconds:.3} seconds"));
    Ok(Some(loaded))
}

/// Loads keys and functions of a file into a keyspace that nobody else uses. Says in the log what it did.
pub fn load_all(engine: &Arc<Engine>, source: &mut (dyn Read + Send), keep_expired: bool) -> Result<Loaded, LoadError> {
    let mut loaded = load_keys(engine, source, engine.worker_count(), keep_expired)?;
    load_functions(engine, &std::mem::take(&mut loaded.functions), true).map_err(LoadError::Function)?;
    let fact = |wanted: &str| {
        let found = loaded.facts.iter().find(|(name, _)| name == wanted.as_bytes());
        found.map_or("unknown".into(), |(_, fact)| String::from_utf8_lossy(fact).into_owned())
    };
    let log = |text: &str| engine.platform.log(2, text);
    log(&format!("Loading RDB produced by version {}", fact("redis-ver")));
    for module in &loaded.modules {
        engine.platform.log(3, &format!("Passed over data of the module '{module}'; there are no modules here"));
    }
    for key in &loaded.empty {
        log(&format!("skipping empty key: {}", key.escape_ascii()));
    }
    let (keys, expired, empty) = (loaded.keys, loaded.expired, loaded.empty.len());
    log(&format!("Done loading RDB, keys loaded: {keys}, keys expired: {expired}, empty keys skipped: {empty}."));
    engine.loading.rdb_keys_loaded.store(keys, Relaxed);
    engine.loading.rdb_keys_expired.store(expired, Relaxed);
    Ok(loaded)
}

/// Adds libraries of functions, in place of those with their names.
pub fn load_functions(engine: &Arc<Engine>, texts: &[Vec<u8>], replace: bool) -> Result<(), String> {
    for code in texts {
        let add = || {
            let name = library_name(code)?;
            let id = engine.functions.new_id();
            let functions = running::inspect_library(engine, id, code)?;
            let library = Arc::new(Library { id, name, code: code.as_slice().into(), functions });
            engine.functions.change(|libraries| libraries.add(library.clone(), replace))
        };
        add().map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The keys of a file, read as a whole before anything is done with them, and its functions.
pub struct Reloaded {
    /// The keys with their databases.
    pub keys: Vec<(u32, Entry)>,
    /// Texts of the libraries of functions.
    pub functions: Vec<Vec<u8>>,
}

/// Reads the snapshot file for DEBUG RELOAD.
pub fn read_all(engine: &Engine) -> Result<Reloaded, FileError> {
    let name = engine.config.settings().dbfilename.clone();
    let (mut source, _) = engine.platform.open_file(&name)?;
    let rules = Rules::new(engine, false);
    let mut file = open(engine, &mut *source)?;
    let mut loaded = Loaded::default();
    let mut keys = Vec::new();
    while let Some(mut block) = file.next_block()? {
        rules.decode(&block, &mut loaded, |db, entry| keys.push((db, entry)))?;
        loaded.take_notes(&mut block);
    }
    Ok(Reloaded { keys, functions: loaded.functions })
}
