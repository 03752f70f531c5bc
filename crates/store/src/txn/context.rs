//! What a transaction carries besides its shards: settings of the moment, random numbers, and the effects that its
//! commit hands on.

use super::changes::{Changes, Words};
use crate::Limits;
use crate::access::AccessClock;
use crate::shard::Db;
use crate::tracking::{Invalid, ReaderList};
use crate::value::Value;
use crate::waiting::DbKey;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Classes of keyspace events, one bit each, in the order of the letters `g$lshzxetdKEmnocSTIV` (`notify-keyspace-events`).
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
    pub const OVERWRITTEN: EventClasses = EventClasses(1 << 14);
    pub const TYPE_CHANGED: EventClasses = EventClasses(1 << 15);
    pub const SUBKEYSPACE: EventClasses = EventClasses(1 << 16);
    pub const SUBKEYEVENT: EventClasses = EventClasses(1 << 17);
    pub const SUBKEYSPACEITEM: EventClasses = EventClasses(1 << 18);
    pub const SUBKEYSPACEEVENT: EventClasses = EventClasses(1 << 19);
    /// Those of which an event tells the parts of its key.
    pub const SUBKEYS: EventClasses = EventClasses(0b1111 << 16);

    /// Whether any of the classes is in this set.
    pub fn has(self, classes: EventClasses) -> bool {
        self.0 & classes.0 != 0
    }
}

/// Why a key goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// A command deletes it.
    Asked,
    /// Its time is over.
    Due,
    /// There is no room for it.
    Evicted,
    /// It follows from a command that does something else.
    Implied,
}

/// Which removals are told as UNLINK rather than DEL (`lazyfree-lazy-…`): here it is all the same, but not to replicas.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlinks {
    /// [`Removal::Due`].
    pub due: bool,
    /// [`Removal::Evicted`].
    pub evicted: bool,
    /// [`Removal::Implied`].
    pub implied: bool,
}

impl Unlinks {
    /// The command that tells of a removal.
    pub fn name(self, why: Removal) -> &'static [u8] {
        let unlinks = match why {
            Removal::Asked => false,
            Removal::Due => self.due,
            Removal::Evicted => self.evicted,
            Removal::Implied => self.implied,
        };
        if unlinks { b"UNLINK" } else { b"DEL" }
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
    /// Whether only changes count as uses, not looks (the policies by least recent modification).
    pub modified_only: bool,
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
    /// Whether a key whose new expiry time is past already expires, as to Valkey. To Redis it is deleted.
    pub past_expires: bool,
    /// Whether a script runs: what it sees must not depend on the order in which a set happens to lie.
    pub scripted: bool,
    /// How removals are told.
    pub unlinks: Unlinks,
    /// Whether a command may not reach for keys that it does not name (SORT's patterns): its user has no right to.
    pub named_keys_only: bool,
}

/// Something that happened to a key, for subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Event {
    pub class: EventClasses,
    pub name: &'static str,
    pub db: u32,
    pub key: Box<[u8]>,
    /// The fields that it happened to, if anybody wants to know.
    pub subkeys: Box<[Box<[u8]>]>,
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
    /// Fields of hashes removed because they were due.
    pub expired_fields: u64,
    /// Changes made, as `rdb_changes_since_last_save` counts them.
    pub dirty: u64,
    /// Whether all databases were flushed: a snapshot that is being written is of no use any more.
    pub flushed_all: bool,
    /// What to log, in order. Empty unless `env.log_changes`.
    pub changes: Changes,
    /// Keyspace events, in order.
    pub events: Vec<Event>,
    /// Keys that changed while somebody is blocked on them, in order.
    pub ready: VecDeque<DbKey>,
    /// Keys whose copies are out of date, in order. A roll-back leaves them: an invalidation too many does no harm.
    pub invalid: Vec<Invalid>,
    /// Whether whole databases changed, so that all copies are out of date.
    pub all_invalid: bool,
    /// Whether somebody wants to hear of every change, read or not (CLIENT TRACKING BCAST).
    pub broadcast: bool,
    /// The client whose command runs; 0 for none.
    pub actor: u64,
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
            expired_fields: 0,
            dirty: 0,
            flushed_all: false,
            changes: Changes::default(),
            events: Vec::new(),
            ready: VecDeque::new(),
            invalid: Vec::new(),
            all_invalid: false,
            broadcast: false,
            actor: 0,
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

    /// Whether the commit has anything to do but to give back the shards.
    #[inline]
    pub fn has_effects(&mut self) -> bool {
        let nothing = self.dirty == 0
            && self.stale.get_mut().is_empty()
            && self.ready.is_empty()
            && self.events.is_empty()
            && self.invalid.is_empty()
            && !self.all_invalid;
        !nothing
    }

    #[cold]
    pub(super) fn invalidate(&mut self, key: &[u8], readers: ReaderList) {
        self.invalid.push(Invalid { key: key.into(), actor: self.actor, readers });
    }

    #[inline]
    pub(super) fn event(&mut self, class: EventClasses, name: &'static str, db: u32, key: &[u8]) {
        if self.env.events.has(class) {
            self.events.push(Event { class, name, db, key: key.into(), subkeys: Box::default() });
        }
    }

    /// An event of some fields of a hash.
    #[inline]
    pub(super) fn field_event<F: AsRef<[u8]>>(
        &mut self,
        name: &'static str,
        db: u32,
        key: &[u8],
        fields: impl IntoIterator<Item = F>,
    ) {
        self.items_event(EventClasses::HASH, name, db, key, fields);
    }

    /// An event of some fields or members of a collection; only those of hashes are told.
    #[inline]
    pub(super) fn items_event<F: AsRef<[u8]>>(
        &mut self,
        class: EventClasses,
        name: &'static str,
        db: u32,
        key: &[u8],
        fields: impl IntoIterator<Item = F>,
    ) {
        if self.env.events.has(class) {
            let wanted = class == EventClasses::HASH && self.env.events.has(EventClasses::SUBKEYS);
            let fields = wanted.then(|| fields.into_iter().map(|field| field.as_ref().into()).collect());
            let subkeys = fields.unwrap_or_default();
            self.events.push(Event { class, name, db, key: key.into(), subkeys });
        }
    }

    #[inline]
    pub(super) fn emit(&mut self, db: u32, argv: &[&[u8]]) {
        if self.env.log_changes {
            self.changes.push(db, argv);
        }
    }

    /// Emits `name key elements…`, which may join the command before; see [`Changes::push_elements`].
    #[inline]
    pub(super) fn emit_elements(&mut self, db: u32, name: &'static [u8], key: &[u8], elements: &[&[u8]]) {
        if self.env.log_changes {
            self.changes.push_elements(db, name, key, elements);
        }
    }

    /// Emits the commands that build a whole value at an absent key.
    pub(super) fn emit_value(&mut self, db: u32, now_ms: i64, key: &[u8], value: &Value, expire_at: Option<i64>) {
        if !self.env.log_changes {
            return;
        }
        let changes = &mut self.changes;
        match value {
            Value::Int(number) => {
                changes.push(db, &[b"SET", key, itoa::Buffer::new().format(*number).as_bytes()]);
            }
            Value::String { bytes, .. } => changes.push(db, &[b"SET", key, bytes]),
            Value::List(list) => {
                let mut push = |item: &[u8]| changes.push_elements(db, b"RPUSH", key, &[item]);
                list.iter().for_each(|item| item.with_bytes(&mut push));
            }
            Value::Set(set) => {
                let mut push = |member: &[u8]| changes.push_elements(db, b"SADD", key, &[member]);
                set.iter().for_each(|member| member.with_bytes(&mut push));
                for (member, at) in set.times() {
                    let mut buffer = itoa::Buffer::new();
                    let at = buffer.format(at).as_bytes();
                    changes.push(db, &[b"SPEXPIREAT", key, at, b"MEMBERS", b"1", member]);
                }
            }
            Value::ZSet(zset) => {
                for (member, score) in zset.iter() {
                    let score = score_text(score);
                    member.with_bytes(|member| changes.push_elements(db, b"ZADD", key, &[&score, member]));
                }
                for (member, at) in zset.times() {
                    let mut buffer = itoa::Buffer::new();
                    let at = buffer.format(at).as_bytes();
                    changes.push(db, &[b"ZPEXPIREAT", key, at, b"MEMBERS", b"1", member]);
                }
            }
            Value::Hash(hash) => {
                let live = hash.live(now_ms);
                for (field, text) in live.iter() {
                    field.with_bytes(|field| {
                        text.with_bytes(|text| changes.push_elements(db, b"HSET", key, &[field, text]));
                    });
                }
                if hash.soonest().is_some() {
                    for (field, _, at) in live.iter_with_expiry() {
                        let Some(at) = at else { continue };
                        let mut buffer = itoa::Buffer::new();
                        let at = buffer.format(at).as_bytes();
                        field.with_bytes(|field| changes.push(db, &[b"HPEXPIREAT", key, at, b"FIELDS", b"1", field]));
                    }
                }
            }
            Value::Stream(stream) => {
                for argv in stream.rebuild_commands(key) {
                    let argv: Words = argv.iter().map(|word| &word[..]).collect();
                    changes.push(db, &argv);
                }
            }
        }
        if let Some(at) = expire_at {
            self.emit(db, &[b"PEXPIREAT", key, itoa::Buffer::new().format(at).as_bytes()]);
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
        self.hits.set(0);
        self.misses.set(0);
        self.dirty = 0;
        self.flushed_all = false;
        self.expired = 0;
        self.expired_fields = 0;
    }
}

/// The shortest text that reads back as the same score.
pub(super) fn score_text(score: f64) -> SmallVec<[u8; 24]> {
    /// Up to here integers are exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if score.trunc() == score && score.abs() < EXACT && (score != 0.0 || score.is_sign_positive()) {
        return itoa::Buffer::new().format(score as i64).as_bytes().into();
    }
    // Infinities print as `inf` and `-inf`, which is what Redis reads.
    score.to_string().into_bytes().into()
}
