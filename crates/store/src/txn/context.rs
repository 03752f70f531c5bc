//! What a transaction carries besides its shards: settings of the moment, random numbers, and the effects that its
//! commit hands on.

use crate::Limits;
use crate::access::AccessClock;
use crate::shard::Db;
use crate::value::Value;
use crate::waiting::DbKey;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Classes of keyspace events, one bit each, in the order of the letters `g$lshzxetdKEmn` (`notify-keyspace-events`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventClasses(pub u32);

#[allow(missing_docs)]
impl EventClasses {
    pub const GENERIC: EventClasses = EventClasses(1 << 0);
    pub const STRING: EventClasses = EventClasses(1 << 1);
    pub const LIST: EventClasses = EventClasses(1 << 2);
    pub const SET: EventClasses = EventClasses(1 << 3);
    pub const HASH: EventClasses = EventClasses(1 << 4);
    pub const ZSET: EventClasses = EventClasses(1 << 5);
    pub const EXPIRED: EventClasses = EventClasses(1 << 6);
    pub const EVICTED: EventClasses = EventClasses(1 << 7);
    pub const STREAM: EventClasses = EventClasses(1 << 8);
    pub const MODULE: EventClasses = EventClasses(1 << 9);
    pub const KEYSPACE: EventClasses = EventClasses(1 << 10);
    pub const KEYEVENT: EventClasses = EventClasses(1 << 11);
    pub const KEY_MISS: EventClasses = EventClasses(1 << 12);
    pub const NEW: EventClasses = EventClasses(1 << 13);

    /// Whether any of the classes is in this set.
    pub fn has(self, classes: EventClasses) -> bool {
        self.0 & classes.0 != 0
    }
}

/// The settings that hold for one transaction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Env {
    /// Thresholds of the packed encodings.
    pub limits: Limits,
    /// Length that no string may exceed (`proto-max-bulk-len`), in bytes.
    pub string_bytes_max: usize,
    /// Which keyspace events anybody wants.
    pub events: EventClasses,
    /// Whether anybody reads the changes.
    pub log_changes: bool,
    /// Whether the access field counts frequencies.
    pub lfu: bool,
    /// `lfu-log-factor`.
    pub lfu_log_factor: u32,
    /// `lfu-decay-time`, minutes.
    pub lfu_decay_minutes: u32,
    /// `rdb-version`, in which values are dumped.
    pub rdb_version: u16,
    /// `rdbcompression`.
    pub rdb_compression: bool,
    /// Whether looks leave the access field alone (CLIENT NO-TOUCH).
    pub no_touch: bool,
    /// Whether keys that are due stay until a write meets them (`import-mode`).
    pub keep_due: bool,
    /// Whether keys that are due are live (CLIENT IMPORT-SOURCE).
    pub see_due: bool,
    /// Whether a script runs: what it sees must not depend on the order in which a set happens to lie.
    pub scripted: bool,
}

/// One ordinary Redis command that, run by a replica on the same key, makes the same change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The database.
    pub db: u32,
    /// The command and its arguments.
    pub argv: Vec<Vec<u8>>,
}

/// Something that happened to a key, for subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Event {
    pub class: EventClasses,
    pub name: &'static str,
    pub db: u32,
    pub key: Box<[u8]>,
}

/// A value or a database that left the keyspace and is to be freed outside the shards.
pub enum Garbage {
    /// One value.
    Value(Value),
    /// A whole database of one shard.
    Db(Box<Db>),
}

impl Garbage {
    /// How many objects `lazyfreed_objects` counts: the keys of a database; of values only those that take long to free.
    pub fn lazy_objects(&self) -> u64 {
        /// Elements that are freed at once, as in Redis.
        const FEW: usize = 64;
        match self {
            Garbage::Value(value) => u64::from(value.len() > FEW),
            Garbage::Db(db) => db.table.len() as u64,
        }
    }

    /// Frees up to `budget` elements and takes them off it. Whether all is free.
    pub fn free_some(&mut self, budget: &mut usize) -> bool {
        match self {
            Garbage::Value(value) => free_value(value, budget),
            Garbage::Db(db) => {
                while *budget != 0 {
                    let Some(entry) = db.table.pop_any() else { return true };
                    *budget -= 1;
                    let mut value = entry.into_value();
                    // A value too big for what is left is freed whole in later steps.
                    if !free_value(&mut value, budget) {
                        while !free_value(&mut value, &mut { usize::MAX }) {}
                    }
                }
                false
            }
        }
    }
}

fn free_value(value: &mut Value, budget: &mut usize) -> bool {
    let step = *budget;
    *budget = budget.saturating_sub(value.len().max(1));
    match value {
        Value::Int(_) | Value::String { .. } => true,
        Value::List(list) => list.free_some(step),
        Value::Set(set) => set.free_some(step),
        Value::ZSet(zset) => zset.free_some(step),
        Value::Hash(hash) => hash.free_some(step),
        Value::Stream(stream) => stream.free_some(step),
    }
}

/// Settings, random numbers and effects of a transaction. Reused from one to the next.
pub struct Context {
    /// The settings.
    pub env: Env,
    random: Cell<u64>,
    /// Keys found by reads.
    pub hits: Cell<u64>,
    /// Keys looked for in vain.
    pub misses: Cell<u64>,
    stale: RefCell<Vec<DbKey>>,
    /// Keys removed because they were due.
    pub expired: u64,
    /// Changes made, as `rdb_changes_since_last_save` counts them.
    pub dirty: u64,
    /// What to log, in order. Empty unless `env.log_changes`.
    pub changes: Vec<Change>,
    /// Keyspace events, in order.
    pub events: Vec<Event>,
    /// Keys that changed while somebody is blocked on them, in order.
    pub ready: VecDeque<DbKey>,
    /// What to free once the shards are given back.
    pub garbage: Vec<Garbage>,
}

impl Context {
    /// A context whose random numbers follow from `seed`.
    pub fn new(env: Env, seed: u64) -> Box<Context> {
        Box::new(Context {
            env,
            random: Cell::new(seed),
            hits: Cell::new(0),
            misses: Cell::new(0),
            stale: RefCell::default(),
            expired: 0,
            dirty: 0,
            changes: Vec::new(),
            events: Vec::new(),
            ready: VecDeque::new(),
            garbage: Vec::new(),
        })
    }

    /// The next random number (SplitMix64: Steele, Lea, Flood 2014).
    pub fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// How accesses are counted at this time.
    pub fn access_clock(&self, now_ms: i64) -> AccessClock {
        AccessClock {
            lfu: self.env.lfu,
            now_ms,
            log_factor: self.env.lfu_log_factor,
            decay_minutes: self.env.lfu_decay_minutes,
        }
    }

    #[inline]
    pub(super) fn count_look(&self, found: bool) {
        let counter = if found { &self.hits } else { &self.misses };
        counter.set(counter.get() + 1);
    }

    #[cold]
    pub(super) fn note_stale(&self, db: u32, key: &[u8]) {
        if !self.env.keep_due {
            self.stale.borrow_mut().push((db, key.into()));
        }
    }

    pub(super) fn take_stale(&mut self) -> Vec<DbKey> {
        std::mem::take(self.stale.get_mut())
    }

    /// Whether a read came across a key that is due.
    #[inline]
    pub fn saw_stale(&mut self) -> bool {
        !self.stale.get_mut().is_empty()
    }

    #[inline]
    pub(super) fn event(&mut self, class: EventClasses, name: &'static str, db: u32, key: &[u8]) {
        if self.env.events.has(class) {
            self.events.push(Event { class, name, db, key: key.into() });
        }
    }

    #[inline]
    pub(super) fn emit(&mut self, db: u32, argv: &[&[u8]]) {
        if self.env.log_changes {
            self.changes.push(Change { db, argv: argv.iter().map(|arg| arg.to_vec()).collect() });
        }
    }

    /// Emits the commands that build a whole value at an absent key.
    pub(super) fn emit_value(&mut self, db: u32, key: &[u8], value: &Value, expire_at: Option<i64>) {
        if !self.env.log_changes {
            return;
        }
        let mut batch: Vec<Vec<u8>> = Vec::new();
        let flush = |changes: &mut Vec<Change>, name: &str, batch: &mut Vec<Vec<u8>>| {
            if !batch.is_empty() {
                let mut argv = vec![name.as_bytes().to_vec(), key.to_vec()];
                argv.append(batch);
                changes.push(Change { db, argv });
            }
        };
        /// Elements of one command, at most.
        const BATCH: usize = 128;
        match value {
            Value::Int(number) => {
                batch.push(number.to_string().into_bytes());
                flush(&mut self.changes, "SET", &mut batch);
            }
            Value::String { bytes, .. } => {
                batch.push(bytes.clone());
                flush(&mut self.changes, "SET", &mut batch);
            }
            Value::List(list) => {
                for item in list.iter() {
                    batch.push(item.to_vec());
                    if batch.len() >= BATCH {
                        flush(&mut self.changes, "RPUSH", &mut batch);
                    }
                }
                flush(&mut self.changes, "RPUSH", &mut batch);
            }
            Value::Set(set) => {
                for member in set.iter() {
                    batch.push(member.to_vec());
                    if batch.len() >= BATCH {
                        flush(&mut self.changes, "SADD", &mut batch);
                    }
                }
                flush(&mut self.changes, "SADD", &mut batch);
            }
            Value::ZSet(zset) => {
                for (member, score) in zset.iter() {
                    batch.push(score_text(score));
                    batch.push(member.to_vec());
                    if batch.len() >= BATCH {
                        flush(&mut self.changes, "ZADD", &mut batch);
                    }
                }
                flush(&mut self.changes, "ZADD", &mut batch);
            }
            Value::Hash(hash) => {
                for (field, text) in hash.iter() {
                    batch.push(field.to_vec());
                    batch.push(text.to_vec());
                    if batch.len() >= BATCH {
                        flush(&mut self.changes, "HSET", &mut batch);
                    }
                }
                flush(&mut self.changes, "HSET", &mut batch);
            }
            Value::Stream(stream) => {
                for argv in stream.rebuild_commands(key) {
                    self.changes.push(Change { db, argv });
                }
            }
        }
        if let Some(at) = expire_at {
            self.emit(db, &[b"PEXPIREAT", key, at.to_string().as_bytes()]);
        }
    }

    pub(super) fn garbage(&mut self, value: Value) {
        if !matches!(value, Value::Int(_)) {
            self.garbage.push(Garbage::Value(value));
        }
    }

    /// Forgets the effects of a transaction that was rolled back.
    pub(super) fn drop_effects(&mut self) {
        self.changes.clear();
        self.events.clear();
        self.ready.clear();
        self.dirty = 0;
        self.expired = 0;
    }
}

/// The shortest text that reads back as the same score.
pub(super) fn score_text(score: f64) -> Vec<u8> {
    // Infinities print as `inf` and `-inf`, which is what Redis reads.
    format!("{score}").into_bytes()
}
