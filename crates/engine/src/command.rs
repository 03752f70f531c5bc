//! What a command is: one declaration from which everything about it follows.
//!
//! COMMAND and its subcommands, arity errors, ACL categories, the gates of MULTI, scripts and pub/sub mode, key routing
//! and `docs/commands.md` are all derived from [`Command`]. Invariants: a `Run::Read` cannot mutate; a transaction
//! reaches only the shards of the keys that `keys` names.

use crate::args::Args;
use crate::ctx::Ctx;
use crate::error::Result;
use kelda_resp::Writer;
use kelda_store::txn::{Txn, View};

/// Where a command writes its reply.
pub type Reply = Writer;

/// Calls back with the position of each key in the words, and what is done to it.
pub type FindKeys = fn(&[&[u8]], &mut dyn FnMut(usize, Access));

/// Tells something of the words of a command.
pub type Reaches = fn(&[&[u8]]) -> bool;

/// One command or subcommand.
pub struct Command {
    /// Upper-case name; of a subcommand its own part only.
    pub name: &'static str,
    /// Number of words with the name (for a subcommand: with both names); negative means at least so many.
    pub arity: i32,
    /// Where its keys are.
    pub keys: &'static [Keys],
    /// Finds the keys where `keys` cannot say it: how many there are (SORT's STORE …), or what these words do to them
    /// (SET without GET reads nothing). Positions in the words, with what is done to each.
    pub find_keys: Option<FindKeys>,
    /// Whether it needs every shard (KEYS, FLUSHALL …).
    pub whole_keyspace: bool,
    /// Whether these words make it reach for keys that only the run will tell (SORT's BY and GET patterns), so that it
    /// needs every shard.
    pub reaches_further: Option<Reaches>,
    /// Of a command that is not [`Flags::FAST`]: whether a call with these words does as little as a fast command, whatever the key
    /// holds.
    pub is_small: Option<fn(&[&[u8]]) -> bool>,
    /// Which of its words are channels, for the permissions of users.
    pub channels: Channels,
    /// Which databases it touches, for the permissions of users.
    pub databases: Databases,
    /// Properties that do not follow from `run`.
    pub flags: Flags,
    /// The documentation group; its ACL category follows from it.
    pub group: Group,
    /// ACL categories in place of the group's, where Redis departs from it.
    pub categories: Option<&'static [&'static str]>,
    /// The Redis version that introduced it.
    pub since: &'static str,
    /// Its arguments, in the notation of the Redis documentation (`key [NX | XX] value …`) with the marks of
    /// [`crate::syntax`], without the name.
    pub syntax: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// Time complexity.
    pub complexity: &'static str,
    /// Hints for clients and proxies (Redis documentation, "Command tips").
    pub tips: &'static [&'static str],
    /// What runs.
    pub run: Run,
    /// What runs when a container is called without a subcommand, where that is allowed (COMMAND).
    pub bare: Option<fn(&mut Ctx, &Args, &mut Reply) -> Result>,
}

/// The words of a command that are channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// None that permissions are about.
    None,
    /// The second: a message is sent there.
    Publish,
    /// All after the first are listened to.
    Subscribe,
    /// All after the first are patterns of channels.
    Patterns,
}

/// The databases that a command touches.
#[derive(Clone, Copy)]
pub enum Databases {
    /// The one in use, if it is about keys at all.
    InUse,
    /// Also those whose numbers stand at these places.
    Named(fn(&[&[u8]]) -> Vec<usize>),
    /// All of them.
    All,
}

/// The function behind a command. The variant says what it may do.
#[derive(Clone, Copy)]
pub enum Run {
    /// Reads keys.
    Read(fn(&View, &Args, &mut Reply) -> Result),
    /// Changes keys.
    Write(fn(&mut Txn, &Args, &mut Reply) -> Result),
    /// Changes keys, or asks to be run again when one of its keys changed.
    Wait(fn(&mut Txn, &Args, &mut Reply) -> Result<Wait>),
    /// Works on the session or the server. Reaches keys only through [`Ctx`].
    Session(fn(&mut Ctx, &Args, &mut Reply) -> Result),
    /// Runs other commands on the keys that it declares.
    Script(fn(&mut Ctx, &mut Txn, &Args, &mut Reply) -> Result),
    /// Has subcommands only.
    Group(&'static [Command]),
}

/// What a `Run::Wait` came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The reply is written.
    Done,
    /// Nothing to hand out: run it again when one of its keys changes.
    On {
        /// The words that are the awaited keys: first index, and how many.
        keys: (usize, usize),
        /// For how long, in ms; 0 for ever.
        timeout_ms: u64,
        /// The reply where blocking is not allowed (within MULTI and scripts). Once the time is over it is a null array.
        otherwise: Nothing,
        /// Whether an awaited key that came to hold another type, or went, ends the wait with an error (XREADGROUP), or is
        /// passed over (BLPOP on a key that became a string). Other errors on running it again always end it.
        errors_end_it: bool,
    },
    /// As the wait says, but these words are run again instead of the command's own: what was relative to now (the id `$`
    /// of XREAD) is absolute in them.
    Resolved(Vec<Vec<u8>>, Box<Wait>),
    /// As the wait says, and run again after a time in any case: it waits for time to pass too (XREADGROUP with CLAIM).
    Again {
        /// When, in ms from now.
        after_ms: u64,
        /// The wait.
        wait: Box<Wait>,
    },
}

impl Wait {
    /// The reply where blocking is not allowed; `None` if the reply is written.
    pub fn otherwise(&self) -> Option<Nothing> {
        match self {
            Wait::Done => None,
            Wait::On { otherwise, .. } => Some(*otherwise),
            Wait::Resolved(_, wait) | Wait::Again { wait, .. } => wait.otherwise(),
        }
    }
}

/// The forms of an empty reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// A null.
    Null,
    /// A null array in RESP2.
    NullArray,
}

impl Nothing {
    /// Writes it.
    pub fn write(self, reply: &mut Reply) {
        match self {
            Nothing::Null => reply.null(),
            Nothing::NullArray => reply.null_array(),
        }
    }
}

/// A set of properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags(pub u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal $text:literal;)*) => {
        impl Flags {
            $($(#[$doc])* pub const $name: Flags = Flags(1 << $bit);)*
            /// Every flag with the name that COMMAND INFO shows.
            pub const NAMES: &'static [(Flags, &'static str)] = &[$((Flags::$name, $text)),*];
        }
    };
}

flags! {
    /// May change keys. Follows from `run`.
    WRITE = 0 "write";
    /// Reads keys only. Follows from `run`.
    READONLY = 1 "readonly";
    /// May use more memory: refused above `maxmemory`.
    DENYOOM = 2 "denyoom";
    /// For administrators.
    ADMIN = 3 "admin";
    /// Publish/subscribe.
    PUBSUB = 4 "pubsub";
    /// Not from scripts.
    NOSCRIPT = 5 "noscript";
    /// May wait. Follows from `run`.
    BLOCKING = 6 "blocking";
    /// Allowed while data is loaded.
    LOADING = 7 "loading";
    /// Allowed on a replica that lost its primary.
    STALE = 8 "stale";
    /// Not shown by MONITOR.
    SKIP_MONITOR = 9 "skip_monitor";
    /// Not in the slow log.
    SKIP_SLOWLOG = 10 "skip_slowlog";
    /// Allowed after ASKING.
    ASKING = 11 "asking";
    /// Constant or logarithmic time.
    FAST = 12 "fast";
    /// Allowed before AUTH.
    NO_AUTH = 13 "no_auth";
    /// May be sent to replicas though no write. COMMAND INFO does not show it.
    MAY_REPLICATE = 14 "";
    /// Not inside MULTI.
    NO_MULTI = 15 "no_multi";
    /// Keys cannot be told from positions alone. Follows from `keys`.
    MOVABLE_KEYS = 16 "movablekeys";
    /// Allowed while a script is over its time.
    ALLOW_BUSY = 17 "allow_busy";
    /// Not while a replica loads.
    NO_ASYNC_LOADING = 18 "no_async_loading";
    /// May name no key at all though it takes keys.
    NO_MANDATORY_KEYS = 19 "no_mandatory_keys";
    /// Not counted as a use of its own by MULTI: runs at once instead of being queued.
    UNQUEUED = 24 "";
    /// In the ACL category of dangerous commands though not an administrator's.
    DANGEROUS = 25 "";
    /// Allowed while a RESP2 session is subscribed.
    IN_PUBSUB = 26 "";
    /// In the ACL categories of administrators though it has not their flag (ROLE).
    ADMIN_CATEGORY = 27 "";
    /// Its replies are pushes: CLIENT REPLY OFF does not concern them.
    PUSHES = 28 "";
    /// Of no use to applications: COMMAND DOCS says so.
    INTERNAL = 29 "";
    /// Only where a setting says so: `enable-debug-command`, `enable-module-command`.
    PROTECTED = 30 "";
}

// Every flag has a bit of its own.
const _: () = {
    let (mut seen, mut index) = (0, 0);
    while index < Flags::NAMES.len() {
        let bit = Flags::NAMES[index].0.0;
        assert!(seen & bit == 0);
        seen |= bit;
        index += 1;
    }
};

impl Flags {
    /// No property.
    pub const NONE: Flags = Flags(0);

    /// Both sets together.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    #[inline]
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The documentation groups of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Group {
    Generic,
    String,
    List,
    Set,
    SortedSet,
    Hash,
    PubSub,
    Transactions,
    Connection,
    Server,
    Scripting,
    HyperLogLog,
    Cluster,
    Geo,
    Stream,
    Bitmap,
}

impl Group {
    /// The name in COMMAND DOCS.
    pub fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Hash => "hash",
            Group::PubSub => "pubsub",
            Group::Transactions => "transactions",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Scripting => "scripting",
            Group::HyperLogLog => "hyperloglog",
            Group::Cluster => "cluster",
            Group::Geo => "geo",
            Group::Stream => "stream",
            Group::Bitmap => "bitmap",
        }
    }

    /// The ACL category of the group, if it has one.
    pub fn category(self) -> Option<&'static str> {
        Some(match self {
            Group::Generic => "keyspace",
            Group::String => "string",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sortedset",
            Group::Hash => "hash",
            Group::PubSub => "pubsub",
            Group::Transactions => "transaction",
            Group::Connection => "connection",
            Group::Scripting => "scripting",
            Group::HyperLogLog => "hyperloglog",
            Group::Geo => "geo",
            Group::Stream => "stream",
            Group::Bitmap => "bitmap",
            Group::Server | Group::Cluster => return None,
        })
    }
}

/// What a command does to a key: the flags of a key specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(pub u8);

impl Access {
    /// Reads the value.
    pub const RO: Access = Access(1);
    /// Reads and writes the value.
    pub const RW: Access = Access(1 << 1);
    /// Overwrites the value without looking.
    pub const OW: Access = Access(1 << 2);
    /// Removes the key.
    pub const RM: Access = Access(1 << 3);
    /// Hands data of the value to the client.
    pub const ACCESS: Access = Access(1 << 4);
    /// Changes data of the value.
    pub const UPDATE: Access = Access(1 << 5);
    /// Adds data to the value.
    pub const INSERT: Access = Access(1 << 6);
    /// Removes data of the value.
    pub const DELETE: Access = Access(1 << 7);

    /// The names in COMMAND GETKEYSANDFLAGS.
    pub const NAMES: &'static [(Access, &'static str)] = &[
        (Access::RO, "RO"),
        (Access::RW, "RW"),
        (Access::OW, "OW"),
        (Access::RM, "RM"),
        (Access::ACCESS, "access"),
        (Access::UPDATE, "update"),
        (Access::INSERT, "insert"),
        (Access::DELETE, "delete"),
    ];

    /// Both together.
    pub const fn and(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }

    /// Whether any of `other` is in this set.
    pub const fn has(self, other: Access) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether the key may change.
    pub const fn writes(self) -> bool {
        !self.has(Access::RO)
    }
}

/// A key specification (Redis documentation, "Command key specifications").
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// Where to begin looking.
    pub begin: Begin,
    /// How the keys go on from there.
    pub find: Find,
    /// What happens to them.
    pub access: Access,
    /// `not_key`: the words only look like keys (channels of SPUBLISH).
    pub not_key: bool,
    /// `incomplete`: there may be more keys than it finds.
    pub incomplete: bool,
    /// `variable_flags`: the access depends on options.
    pub variable: bool,
}

/// Where a key specification begins.
#[derive(Clone, Copy, Debug)]
pub enum Begin {
    /// At this word.
    Index(usize),
    /// After this option, searched from a word on (backwards from the end if negative).
    Keyword(&'static str, i32),
    /// Unknown: a function finds the keys.
    Unknown,
}

/// How the keys of a specification follow each other.
#[derive(Clone, Copy, Debug)]
pub enum Find {
    /// Up to a word relative to the beginning (negative: from the end), every `step` words, of the first
    /// 1/`limit` of the words if `limit` > 1.
    Range {
        /// Last word.
        last: i32,
        /// Distance between keys.
        step: usize,
        /// Share of the words.
        limit: usize,
    },
    /// As many as a word says.
    Numkeys {
        /// Where the number is, relative to the beginning.
        at: usize,
        /// Where the first key is, relative to the beginning.
        first: usize,
        /// Distance between keys.
        step: usize,
    },
    /// Unknown: a function finds the keys.
    Unknown,
}

impl Keys {
    const fn new(begin: Begin, find: Find) -> Keys {
        Keys { begin, find, access: Access::RW, not_key: false, incomplete: false, variable: false }
    }

    /// One key, at this word.
    pub const fn at(index: usize) -> Keys {
        Keys::new(Begin::Index(index), Find::Range { last: 0, step: 1, limit: 0 })
    }

    /// Keys from a word to another (negative: from the end of the words), every `step` words.
    pub const fn range(first: usize, last: i32, step: usize) -> Keys {
        Keys::new(Begin::Index(first), Find::Range { last, step, limit: 0 })
    }

    /// As many keys as the word at `index` says, following it.
    pub const fn numkeys(index: usize) -> Keys {
        Keys::new(Begin::Index(index), Find::Numkeys { at: 0, first: 1, step: 1 })
    }

    /// The keys after an option, the first `1/limit` of the words that follow.
    pub const fn keyword(word: &'static str, from: i32, limit: usize) -> Keys {
        Keys::new(Begin::Keyword(word, from), Find::Range { last: -1, step: 1, limit })
    }

    /// Keys that only a function can find.
    pub const fn unknown() -> Keys {
        Keys::new(Begin::Unknown, Find::Unknown).incomplete()
    }

    /// Access flags: read-only, data is returned.
    pub const fn read(self) -> Keys {
        self.with(Access::RO.and(Access::ACCESS))
    }

    /// Access flags: read-only, only facts about the value are returned.
    pub const fn look(self) -> Keys {
        self.with(Access::RO)
    }

    /// Access flags: data is updated.
    pub const fn update(self) -> Keys {
        self.with(Access::RW.and(Access::UPDATE))
    }

    /// Access flags: data is updated and returned.
    pub const fn update_read(self) -> Keys {
        self.with(Access::RW.and(Access::UPDATE).and(Access::ACCESS))
    }

    /// Access flags: data is added.
    pub const fn insert(self) -> Keys {
        self.with(Access::RW.and(Access::INSERT))
    }

    /// Access flags: data is removed.
    pub const fn delete(self) -> Keys {
        self.with(Access::RW.and(Access::DELETE))
    }

    /// Access flags: data is removed and returned.
    pub const fn take(self) -> Keys {
        self.with(Access::RW.and(Access::ACCESS).and(Access::DELETE))
    }

    /// Access flags: the value is replaced.
    pub const fn overwrite(self) -> Keys {
        self.with(Access::OW.and(Access::UPDATE))
    }

    /// Access flags: the key is removed.
    pub const fn remove(self) -> Keys {
        self.with(Access::RM.and(Access::DELETE))
    }

    /// These access flags.
    pub const fn with(mut self, access: Access) -> Keys {
        self.access = access;
        self
    }

    /// The words are no keys but share their place with them.
    pub const fn not_key(mut self) -> Keys {
        self.not_key = true;
        self.access = Access(0);
        self
    }

    /// There may be more keys than it finds.
    pub const fn incomplete(mut self) -> Keys {
        self.incomplete = true;
        self
    }

    /// The access depends on options.
    pub const fn variable(mut self) -> Keys {
        self.variable = true;
        self
    }

    /// Calls `f` with the position of each key in `words`; words that make no sense end it.
    pub fn find(&self, words: &[&[u8]], f: &mut dyn FnMut(usize, Access)) {
        let start = match self.begin {
            Begin::Index(index) => index,
            Begin::Keyword(option, from) => {
                let found = if from >= 0 {
                    (from as usize..words.len()).find(|&at| words[at].eq_ignore_ascii_case(option.as_bytes()))
                } else {
                    let last = words.len().saturating_sub(from.unsigned_abs() as usize);
                    (1..=last.min(words.len().saturating_sub(1)))
                        .rev()
                        .find(|&at| words[at].eq_ignore_ascii_case(option.as_bytes()))
                };
                match found {
                    Some(at) => at + 1,
                    None => return,
                }
            }
            Begin::Unknown => return,
        };
        match self.find {
            Find::Range { last, step, limit } => {
                let end = if last >= 0 {
                    start + last as usize
                } else if limit > 1 {
                    (start + words.len().saturating_sub(start) / limit).wrapping_sub(1)
                } else {
                    words.len().wrapping_sub(last.unsigned_abs() as usize)
                };
                if end == usize::MAX || end >= words.len() {
                    return;
                }
                for at in (start..=end).step_by(step) {
                    f(at, self.access);
                }
            }
            Find::Numkeys { at, first, step } => {
                let count = words.get(start + at).and_then(|word| kelda_resp::number::parse_i64(word));
                let Some(count) = count.and_then(|count| usize::try_from(count).ok()) else { return };
                // More keys than words: the command will fail, and none of them is a key.
                let start = start + first;
                let distance = count.checked_sub(1).and_then(|others| others.checked_mul(step));
                let last = distance.and_then(|distance| distance.checked_add(start));
                if let Some(last) = last.filter(|&last| last < words.len()) {
                    (start..=last).step_by(step).for_each(|at| f(at, self.access));
                }
            }
            Find::Unknown => {}
        }
    }
}

impl Command {
    /// What most commands share; a declaration names the rest.
    pub const BASE: Command = Command {
        name: "",
        arity: 0,
        keys: &[],
        find_keys: None,
        whole_keyspace: false,
        reaches_further: None,
        is_small: None,
        channels: Channels::None,
        databases: Databases::InUse,
        flags: Flags::NONE,
        group: Group::Generic,
        categories: None,
        since: "1.0.0",
        syntax: "",
        summary: "",
        complexity: "O(1)",
        tips: &[],
        run: Run::Group(&[]),
        bare: None,
    };

    /// A command on the session or the server, with what else its family shares.
    #[allow(clippy::too_many_arguments)]
    pub const fn session(
        self,
        name: &'static str,
        arity: i32,
        flags: Flags,
        since: &'static str,
        syntax: &'static str,
        summary: &'static str,
        run: fn(&mut Ctx, &Args, &mut Reply) -> Result,
    ) -> Command {
        Command { name, arity, flags, since, syntax, summary, run: Run::Session(run), ..self }
    }

    /// A container of subcommands, with what else its family shares.
    pub const fn container(
        self,
        name: &'static str,
        since: &'static str,
        summary: &'static str,
        subcommands: &'static [Command],
    ) -> Command {
        let complexity = "That of the subcommand";
        Command { name, arity: -2, since, summary, complexity, run: Run::Group(subcommands), ..self }
    }

    /// All properties, those that follow from other fields included.
    pub const fn all_flags(&self) -> Flags {
        let mut flags = self.flags;
        match self.run {
            Run::Read(_) => flags = flags.and(Flags::READONLY),
            // One that only reads says so itself (PFCOUNT, XREAD).
            Run::Write(_) if flags.has(Flags::READONLY) => {}
            Run::Write(_) => flags = flags.and(Flags::WRITE),
            Run::Wait(_) if flags.has(Flags::READONLY) => flags = flags.and(Flags::BLOCKING),
            Run::Wait(_) => flags = flags.and(Flags::WRITE).and(Flags::BLOCKING),
            Run::Session(_) | Run::Script(_) | Run::Group(_) => {}
        }
        let mut index = 0;
        while index < self.keys.len() {
            if !matches!(self.keys[index].begin, Begin::Index(_))
                || !matches!(self.keys[index].find, Find::Range { .. })
            {
                flags = flags.and(Flags::MOVABLE_KEYS);
            }
            index += 1;
        }
        flags
    }

    /// Whether so many words suit the arity.
    #[inline]
    pub fn takes(&self, words: usize) -> bool {
        let words = words as i64;
        let arity = i64::from(self.arity);
        if arity >= 0 { words == arity } else { words >= -arity }
    }

    /// Calls `f` with the position of each key in `words`.
    pub fn find_keys(&self, words: &[&[u8]], f: &mut dyn FnMut(usize, Access)) {
        if let Some(find) = self.find_keys {
            return find(words, f);
        }
        for keys in self.keys {
            if !keys.not_key {
                keys.find(words, f);
            }
        }
    }

    /// Whether it needs every shard to run with these words.
    pub fn needs_all_shards(&self, words: &[&[u8]]) -> bool {
        self.whole_keyspace || self.reaches_further.is_some_and(|reaches| reaches(words))
    }

    /// The subcommands, if it has any.
    pub fn subcommands(&self) -> &'static [Command] {
        if let Run::Group(subcommands) = self.run { subcommands } else { &[] }
    }
}
