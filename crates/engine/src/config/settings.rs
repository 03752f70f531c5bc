//! `Settings`: what the engine and the server read of the configuration, in typed form.
//!
//! Plain data, derived from the values of the table's rows (`table.rs` says which row fills which field). It is never
//! changed in place by its readers: they hold an `Arc` of one version and take the next when the version moves.

use crate::defrag::DefragSettings;
use crate::dialect::Dialect;
use kelda_store::Limits;

/// An enumeration whose variants are the words of a directive, in the order in which error texts list them.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// The words, in the order in which error texts list them.
            pub const WORDS: &'static [&'static str] = &[$($word,)*];

            /// The word of this variant.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }

            /// The variant of one of `WORDS`.
            pub fn from_word(word: &str) -> Option<$name> {
                match word { $($word => Some($name::$variant),)* _ => None }
            }
        }
    };
}

words! {
    /// `appendfsync`: when the log is forced to the disk.
    AppendFsync {
        /// Once a second.
        EverySec = "everysec",
        /// Before each reply.
        Always = "always",
        /// When the operating system likes.
        No = "no",
    }
}
words! {
    /// `loglevel`, from the most talkative.
    LogLevel {
        /// For developers.
        Debug = "debug",
        /// Much that is rarely useful.
        Verbose = "verbose",
        /// What an operator wants to know.
        Notice = "notice",
        /// Only what is important.
        Warning = "warning",
        /// Not a line.
        Nothing = "nothing",
    }
}
words! {
    /// `maxmemory-policy`: which keys go when memory is short.
    MaxmemoryPolicy {
        /// Keys with an expiry, least recently used first.
        VolatileLru = "volatile-lru",
        /// Keys with an expiry, least recently modified first.
        VolatileLrm = "volatile-lrm",
        /// Keys with an expiry, least frequently used first.
        VolatileLfu = "volatile-lfu",
        /// Keys with an expiry, at random.
        VolatileRandom = "volatile-random",
        /// Keys with an expiry, the nearest first.
        VolatileTtl = "volatile-ttl",
        /// Any key, least recently used first.
        AllkeysLru = "allkeys-lru",
        /// Any key, least recently modified first.
        AllkeysLrm = "allkeys-lrm",
        /// Any key, least frequently used first.
        AllkeysLfu = "allkeys-lfu",
        /// Any key, at random.
        AllkeysRandom = "allkeys-random",
        /// None: writes are refused.
        NoEviction = "noeviction",
    }
}
words! {
    /// `oom-score-adj`: whether `oom-score-adj-values` are told to the kernel.
    OomScore {
        /// No.
        No = "no",
        /// Added to the score from before.
        Yes = "yes",
        /// Likewise.
        Relative = "relative",
        /// As they are.
        Absolute = "absolute",
    }
}
words! {
    /// `busy-reply-scope`: who is answered BUSY while a script is over its time.
    BusyReplyScope {
        /// Whoever needs what the script holds.
        Touched = "touched",
        /// Everyone, as Redis does, but for the commands that it lets through.
        Everyone = "everyone",
    }
}
words! {
    /// Who may use a guarded feature (`enable-debug-command` and relatives).
    Access {
        /// Nobody.
        No = "no",
        /// Everybody.
        Yes = "yes",
        /// Connections from this machine.
        Local = "local",
    }
}

impl Access {
    /// Whether a connection may, `local` saying that it comes from this machine.
    pub fn allows(self, local: bool) -> bool {
        match self {
            Access::No => false,
            Access::Yes => true,
            Access::Local => local,
        }
    }
}

/// One rule of `save`: a snapshot after `seconds` if at least `changes` keys changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePoint {
    /// Seconds since the last snapshot.
    pub seconds: u64,
    /// Changes since the last snapshot.
    pub changes: u64,
}

/// How much output may wait for one client before it is disconnected; zero means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// Bytes at which the client is cut off at once.
    pub hard_bytes: u64,
    /// Bytes at which the client is cut off after `soft_seconds`.
    pub soft_bytes: u64,
    /// Seconds that `soft_bytes` may last.
    pub soft_seconds: u64,
}

/// `client-output-buffer-limit`: one limit for each class of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimits {
    /// Ordinary clients.
    pub normal: OutputLimit,
    /// Replicas.
    pub replica: OutputLimit,
    /// Clients subscribed to a channel or pattern.
    pub pubsub: OutputLimit,
}

impl MaxmemoryPolicy {
    /// Whether the policy goes by when keys were last used.
    pub fn is_lru(self) -> bool {
        matches!(self, MaxmemoryPolicy::VolatileLru | MaxmemoryPolicy::AllkeysLru)
    }

    /// Whether the policy counts how often keys are used.
    pub fn is_lfu(self) -> bool {
        matches!(self, MaxmemoryPolicy::VolatileLfu | MaxmemoryPolicy::AllkeysLfu)
    }

    /// Whether only changes of keys count as uses.
    pub fn is_by_modification(self) -> bool {
        matches!(self, MaxmemoryPolicy::VolatileLrm | MaxmemoryPolicy::AllkeysLrm)
    }
}

/// `notify-keyspace-events`: a set of event classes, each named by one letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceEvents(pub u32);

impl KeyspaceEvents {
    /// The letters, in the order in which they are printed; the position is the bit.
    pub const LETTERS: &'static [u8] = b"g$lshzxetdKEmnocSTIV";
    /// `g`: generic commands, such as DEL and EXPIRE.
    pub const GENERIC: u32 = 1;
    /// `$`: strings.
    pub const STRING: u32 = 1 << 1;
    /// `l`: lists.
    pub const LIST: u32 = 1 << 2;
    /// `s`: sets.
    pub const SET: u32 = 1 << 3;
    /// `h`: hashes.
    pub const HASH: u32 = 1 << 4;
    /// `z`: sorted sets.
    pub const ZSET: u32 = 1 << 5;
    /// `x`: a key expired.
    pub const EXPIRED: u32 = 1 << 6;
    /// `e`: a key was evicted.
    pub const EVICTED: u32 = 1 << 7;
    /// `t`: streams.
    pub const STREAM: u32 = 1 << 8;
    /// `d`: module types.
    pub const MODULE: u32 = 1 << 9;
    /// `K`: publish on `__keyspace@<db>__`.
    pub const KEYSPACE: u32 = 1 << 10;
    /// `E`: publish on `__keyevent@<db>__`.
    pub const KEYEVENT: u32 = 1 << 11;
    /// `m`: a read found no key.
    pub const KEY_MISS: u32 = 1 << 12;
    /// `n`: a key was created.
    pub const NEW: u32 = 1 << 13;
    /// `o`: a value was replaced as a whole.
    pub const OVERWRITTEN: u32 = 1 << 14;
    /// `c`: a value was replaced by one of another type.
    pub const TYPE_CHANGED: u32 = 1 << 15;
    /// `S`: publish on `__subkeyspace@<db>__`.
    pub const SUBKEYSPACE: u32 = 1 << 16;
    /// `T`: publish on `__subkeyevent@<db>__`.
    pub const SUBKEYEVENT: u32 = 1 << 17;
    /// `I`: publish on `__subkeyspaceitem@<db>__`.
    pub const SUBKEYSPACEITEM: u32 = 1 << 18;
    /// `V`: publish on `__subkeyspaceevent@<db>__`.
    pub const SUBKEYSPACEEVENT: u32 = 1 << 19;
    /// `A`: every class of event but `m`, `n`, `o` and `c`.
    pub const ALL: u32 = (1 << 10) - 1;

    /// Reads letters; `None` if one of them is unknown.
    pub fn parse(letters: &str) -> Option<KeyspaceEvents> {
        let mut bits = 0;
        for letter in letters.bytes() {
            bits |= match letter {
                b'A' => KeyspaceEvents::ALL,
                _ => 1 << KeyspaceEvents::LETTERS.iter().position(|l| *l == letter)?,
            };
        }
        Some(KeyspaceEvents(bits))
    }

    /// Whether all of `bits` are in the set.
    pub fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}

impl std::fmt::Display for KeyspaceEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = self.has(KeyspaceEvents::ALL);
        if all {
            f.write_str("A")?;
        }
        for (bit, letter) in KeyspaceEvents::LETTERS.iter().enumerate() {
            let said_by_a = all && KeyspaceEvents::ALL & (1 << bit) != 0;
            if self.has(1 << bit) && !said_by_a {
                write!(f, "{}", char::from(*letter))?;
            }
        }
        Ok(())
    }
}

/// A limit on memory: bytes, or a part of `maxmemory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// Bytes; zero means no limit.
    Bytes(u64),
    /// Percent of `maxmemory`, 0 to 100.
    Percent(u8),
}

/// The settings that the engine and the server use. The directive of a field has the field's name with hyphens
/// unless its comment says otherwise. Times and sizes are in the unit of the directive.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the fields are the directives, which redis.conf documents
pub struct Settings {
    // Sockets and clients.
    pub port: u16,
    pub bind: Vec<String>,
    pub unixsocket: String,
    /// The permission bits; zero leaves them as the umask makes them.
    pub unixsocketperm: u32,
    /// A group's name or number; empty for that of the process.
    pub unixsocketgroup: String,
    pub tcp_backlog: u32,
    /// Seconds; zero turns keepalive off.
    pub tcp_keepalive: u32,
    /// Seconds without a command after which a client is disconnected; zero for never.
    pub timeout: u64,
    /// Active defragmentation.
    pub defrag: DefragSettings,
    pub maxclients: usize,
    pub maxmemory_clients: MemoryLimit,
    pub oom_score_adj: OomScore,
    /// Of a master, a replica, and a process that saves.
    pub oom_score_adj_values: [i32; 3],
    pub protected_mode: bool,
    pub requirepass: String,
    pub client_output_buffer_limit: OutputLimits,
    pub client_query_buffer_limit: usize,
    pub proto_max_bulk_len: usize,
    pub max_new_connections_per_cycle: usize,
    pub acl_pubsub_default_allchannels: bool,
    pub acllog_max_len: usize,
    pub aclfile: String,
    pub tracking_table_max_keys: usize,
    // The process.
    /// Event loops; zero for one per core.
    pub threads: usize,
    /// Whether threads drive their event loops even while fewer could.
    pub io_threads_always_active: bool,
    pub daemonize: bool,
    pub pidfile: String,
    pub logfile: String,
    pub loglevel: LogLevel,
    pub hide_user_data_from_log: bool,
    pub dir: String,
    pub enable_debug_command: Access,
    pub enable_module_command: Access,
    pub enable_protected_configs: Access,
    pub shutdown_timeout: u64,
    /// Told by INFO, and unless empty by HELLO.
    pub availability_zone: String,
    // Data.
    pub databases: usize,
    /// `*-max-listpack-*`, `set-max-intset-entries`, `stream-node-max-*`, `hll-sparse-max-bytes`.
    pub limits: Limits,
    pub hz: u32,
    pub active_expire_effort: u32,
    pub import_mode: bool,
    pub lazyfree_lazy_eviction: bool,
    pub lazyfree_lazy_expire: bool,
    pub lazyfree_lazy_server_del: bool,
    pub lazyfree_lazy_user_del: bool,
    pub lazyfree_lazy_user_flush: bool,
    pub notify_keyspace_events: KeyspaceEvents,
    pub maxmemory: u64,
    pub maxmemory_policy: MaxmemoryPolicy,
    pub maxmemory_samples: usize,
    pub maxmemory_eviction_tenacity: i64,
    pub lfu_log_factor: u32,
    pub lfu_decay_time: u32,
    // Durability.
    pub appendonly: bool,
    pub appendfsync: AppendFsync,
    pub aof_load_truncated: bool,
    pub appendfilename: String,
    pub appenddirname: String,
    pub backupdirname: String,
    /// Seconds after which a sealed backup is removed; 0 for never.
    pub backup_sealed_ttl: i64,
    /// Age in seconds, and size in bytes, of what the log's archive keeps; both 0 for no archive. Our own directives.
    pub log_archive_seconds: u64,
    pub log_archive_bytes: u64,
    pub dbfilename: String,
    pub save: Vec<SavePoint>,
    /// The version of the RDB format that snapshots and DUMP are written in. Our own directive.
    pub rdb_version: u16,
    pub rdbcompression: bool,
    pub rdbchecksum: bool,
    /// Microseconds that a snapshot waits after each key; negative: keys that it writes in one microsecond. For tests.
    pub rdb_key_save_delay: i64,
    pub stop_writes_on_bgsave_error: bool,
    /// Growth of the log, in percent of its size after the last rewrite, at which it is rewritten; zero for never.
    pub auto_aof_rewrite_percentage: u64,
    /// Bytes below which the log is not rewritten by itself.
    pub auto_aof_rewrite_min_size: u64,
    /// Microseconds that each key waits while a file is loaded: for tests.
    pub key_load_delay_us: u64,
    // Scripts and observation.
    /// Milliseconds that a script may run before others are answered BUSY; zero for ever. Also `lua-time-limit`.
    pub busy_reply_threshold: u64,
    /// Our own directive.
    pub busy_reply_scope: BusyReplyScope,
    /// Whether `repl-diskless-load` is `swapdb`.
    pub diskless_swapdb: bool,
    /// `extended-redis-compatibility`.
    pub dialect: Dialect,
    /// Microseconds; negative turns the log off.
    pub slowlog_log_slower_than: i64,
    pub slowlog_max_len: usize,
    /// Bytes; negative turns the log off.
    pub commandlog_request_larger_than: i64,
    pub commandlog_large_request_max_len: usize,
    /// Bytes; negative turns the log off.
    pub commandlog_reply_larger_than: i64,
    pub commandlog_large_reply_max_len: usize,
    /// Milliseconds; zero turns it off.
    pub latency_monitor_threshold: u64,
    pub latency_tracking: bool,
    pub latency_tracking_info_percentiles: Vec<f64>,
    /// Writes are refused with fewer replicas.
    pub min_replicas_to_write: usize,
    /// Seconds of silence after which a replica does not count.
    pub min_replicas_max_lag: u64,
    /// Bytes of what replicas are fed that are kept for those that come back.
    pub repl_backlog_size: u64,
    /// Seconds without any replica after which nothing is kept; zero for ever.
    pub repl_backlog_ttl: u64,
    pub repl_diskless_sync: bool,
    /// Seconds that a replica waits for others to share a snapshot with it, unless so many are there (zero: no matter how many).
    pub repl_diskless_sync_delay: u64,
    pub repl_diskless_sync_max_replicas: usize,
    /// Seconds.
    pub repl_ping_replica_period: u64,
    pub repl_timeout: u64,
    pub cluster_enabled: bool,
    /// The server that this one follows, as `host port`; empty for none.
    pub replicaof: String,
    /// From which address it connects there; empty for any.
    pub bind_source_addr: String,
    /// How it logs in there; without a user it is the default user's password.
    pub masterauth: String,
    pub masteruser: String,
    /// What it says there of where it is, if that is not what the socket says.
    pub replica_announce_ip: String,
    pub replica_announce_port: u16,
    pub replica_announced: bool,
    /// Whether nothing is evicted while it follows.
    pub replica_ignore_maxmemory: bool,
    pub replica_priority: i64,
    pub replica_read_only: bool,
    /// Whether it answers while the link is down.
    pub replica_serve_stale_data: bool,
}

impl Settings {
    /// Every field at its type's zero, for the table's rows to fill.
    pub(super) fn blank() -> Settings {
        Settings {
            port: 0,
            bind: Vec::new(),
            unixsocket: String::new(),
            unixsocketperm: 0,
            unixsocketgroup: String::new(),
            tcp_backlog: 0,
            tcp_keepalive: 0,
            timeout: 0,
            defrag: DefragSettings {
                enabled: true,
                ignore_bytes: 16 << 20,
                threshold_lower: 10,
                threshold_upper: 100,
                cycle_min: 1,
                cycle_max: 25,
                cycle_us: 500,
            },
            maxclients: 0,
            maxmemory_clients: MemoryLimit::Bytes(0),
            oom_score_adj: OomScore::No,
            oom_score_adj_values: [0; 3],
            protected_mode: false,
            requirepass: String::new(),
            client_output_buffer_limit: OutputLimits::default(),
            client_query_buffer_limit: 0,
            proto_max_bulk_len: 0,
            max_new_connections_per_cycle: 0,
            acl_pubsub_default_allchannels: false,
            acllog_max_len: 0,
            aclfile: String::new(),
            tracking_table_max_keys: 0,
            threads: 0,
            io_threads_always_active: false,
            daemonize: false,
            pidfile: String::new(),
            logfile: String::new(),
            loglevel: LogLevel::Notice,
            hide_user_data_from_log: false,
            dir: String::new(),
            enable_debug_command: Access::No,
            enable_module_command: Access::No,
            enable_protected_configs: Access::No,
            shutdown_timeout: 0,
            availability_zone: String::new(),
            databases: 0,
            limits: Limits::default(),
            hz: 0,
            active_expire_effort: 0,
            import_mode: false,
            lazyfree_lazy_eviction: false,
            lazyfree_lazy_expire: false,
            lazyfree_lazy_server_del: false,
            lazyfree_lazy_user_del: false,
            lazyfree_lazy_user_flush: false,
            notify_keyspace_events: KeyspaceEvents::default(),
            maxmemory: 0,
            maxmemory_policy: MaxmemoryPolicy::NoEviction,
            maxmemory_eviction_tenacity: 0,
            maxmemory_samples: 0,
            lfu_log_factor: 0,
            lfu_decay_time: 0,
            appendonly: false,
            appendfsync: AppendFsync::EverySec,
            aof_load_truncated: true,
            appendfilename: String::new(),
            appenddirname: String::new(),
            backupdirname: String::new(),
            backup_sealed_ttl: 0,
            log_archive_seconds: 0,
            log_archive_bytes: 0,
            dbfilename: String::new(),
            save: Vec::new(),
            rdb_version: 0,
            rdbcompression: false,
            rdbchecksum: false,
            rdb_key_save_delay: 0,
            stop_writes_on_bgsave_error: false,
            auto_aof_rewrite_percentage: 0,
            auto_aof_rewrite_min_size: 0,
            key_load_delay_us: 0,
            busy_reply_threshold: 0,
            busy_reply_scope: BusyReplyScope::Touched,
            diskless_swapdb: false,
            dialect: Dialect::Redis,
            slowlog_log_slower_than: 0,
            slowlog_max_len: 0,
            commandlog_request_larger_than: 0,
            commandlog_large_request_max_len: 0,
            commandlog_reply_larger_than: 0,
            commandlog_large_reply_max_len: 0,
            latency_monitor_threshold: 0,
            latency_tracking: false,
            latency_tracking_info_percentiles: Vec::new(),
            min_replicas_to_write: 0,
            min_replicas_max_lag: 0,
            repl_backlog_size: 0,
            repl_backlog_ttl: 0,
            repl_diskless_sync: false,
            repl_diskless_sync_delay: 0,
            repl_diskless_sync_max_replicas: 0,
            repl_ping_replica_period: 0,
            repl_timeout: 0,
            cluster_enabled: false,
            replicaof: String::new(),
            bind_source_addr: String::new(),
            masterauth: String::new(),
            masteruser: String::new(),
            replica_announce_ip: String::new(),
            replica_announce_port: 0,
            replica_announced: false,
            replica_ignore_maxmemory: false,
            replica_priority: 0,
            replica_read_only: false,
            replica_serve_stale_data: false,
        }
    }
}
