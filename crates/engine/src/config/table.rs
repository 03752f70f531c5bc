//! The table of directives: one row each, with everything there is to know about it.
//!
//! A row's default goes through the same reader as a value from a file. A row with `.to(…)` fills a field of
//! `Settings`; one without is accepted, checked, remembered and shown, but means nothing to this server (it concerns
//! fork, jemalloc, replication's tuning, modules and the like).
//!
//! Names, kinds, bounds and defaults are those of Redis 7.0.15, with what Valkey 9.1.2 adds; where they differ,
//! the default is Redis's and the bounds are the wider ones; but defragmentation is on and begins at 16 MB. `threads`, `rdb-version`, `busy-reply-scope` and
//! `log-archive-…` are our own, `backup…` and a few that are accepted without effect those of Redis 8.

use super::settings::{Access, AppendFsync, BusyReplyScope, LogLevel, MaxmemoryPolicy, OomScore, Settings};
use super::value::Kind::{self, *};
use super::value::Value;
use crate::dialect::Dialect;

/// When a directive may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// By CONFIG SET, at any time.
    Mutable,
    /// Only by the file or the command line.
    Immutable,
    /// By CONFIG SET if `enable-protected-configs` allows it.
    Protected,
}

/// One directive.
pub struct Row {
    /// The name, in lower case.
    pub name: &'static str,
    /// Another name for the same thing.
    pub alias: Option<&'static str>,
    /// What its words may be.
    pub kind: Kind,
    /// The default's words.
    pub default: &'static str,
    /// When it may change.
    pub change: Change,
    /// Whether CONFIG GET leaves it out of patterns.
    pub hidden: bool,
    /// Whether the value must not appear in logs.
    pub sensitive: bool,
    /// Puts the value into the settings.
    pub store: Option<fn(&mut Settings, &Value)>,
}

const fn row(name: &'static str, kind: Kind, default: &'static str) -> Row {
    Row { name, alias: None, kind, default, change: Change::Mutable, hidden: false, sensitive: false, store: None }
}

impl Row {
    const fn alias(self, alias: &'static str) -> Row {
        Row { alias: Some(alias), ..self }
    }
    const fn immutable(self) -> Row {
        Row { change: Change::Immutable, ..self }
    }
    const fn protected(self) -> Row {
        Row { change: Change::Protected, ..self }
    }
    const fn hidden(self) -> Row {
        Row { hidden: true, ..self }
    }
    const fn sensitive(self) -> Row {
        Row { sensitive: true, ..self }
    }
    const fn to(self, store: fn(&mut Settings, &Value)) -> Row {
        Row { store: Some(store), ..self }
    }
}

/// What a row's `store` reads: its kind makes exactly one of these, which a test checks for every row.
impl Value {
    fn yes(&self) -> bool {
        matches!(self, Value::YesNo(true))
    }
    fn int(&self) -> i64 {
        if let Value::Int(n) = self { *n } else { 0 }
    }
    fn size(&self) -> u64 {
        if let Value::Size(n) = self { *n } else { 0 }
    }
    fn word(&self) -> &'static str {
        if let Value::Choice(word) = self { word } else { "" }
    }
    fn string(&self) -> String {
        if let Value::Text(text) = self { text.clone() } else { String::new() }
    }
}

const INT_MIN: i64 = i32::MIN as i64;
const INT_MAX: i64 = i32::MAX as i64;
const UINT_MAX: i64 = u32::MAX as i64;
const PORT_MAX: i64 = u16::MAX as i64;
const LONG_MAX: u64 = i64::MAX as u64;
const ANY_SIZE: Kind = Size(0, LONG_MAX);

/// Directives of older versions that are still accepted in a file, and mean nothing.
pub const IGNORED: &[&str] = &["list-max-ziplist-entries", "list-max-ziplist-value"];

/// Every directive, in alphabetical order.
#[rustfmt::skip] // one row, one line
pub static TABLE: &[Row] = &[
    row("acl-pubsub-default", Choice(&["allchannels", "resetchannels"]), "resetchannels").to(|s, v| s.acl_pubsub_default_allchannels = v.word() == "allchannels"),
    row("aclfile", Text, "").immutable().to(|s, v| s.aclfile = v.string()),
    row("acllog-max-len", Int(0, i64::MAX), "128").to(|s, v| s.acllog_max_len = v.int() as usize),
    row("active-defrag-cycle-max", Int(1, 99), "25").to(|s, v| s.defrag.cycle_max = v.int() as u64),
    row("active-defrag-cycle-min", Int(1, 99), "1").to(|s, v| s.defrag.cycle_min = v.int() as u64),
    row("active-defrag-cycle-us", Int(0, 100000), "500").to(|s, v| s.defrag.cycle_us = v.int() as u64),
    row("active-defrag-ignore-bytes", Size(1, LONG_MAX), "16777216").to(|s, v| s.defrag.ignore_bytes = v.size()),
    row("active-defrag-max-scan-fields", Int(1, i64::MAX), "1000"),
    row("active-defrag-threshold-lower", Int(0, 1000), "10").to(|s, v| s.defrag.threshold_lower = v.int() as u64),
    row("active-defrag-threshold-upper", Int(0, 1000), "100").to(|s, v| s.defrag.threshold_upper = v.int() as u64),
    row("active-expire-effort", Int(1, 10), "1").to(|s, v| s.active_expire_effort = v.int() as u32),
    row("activedefrag", YesNo, "yes").to(|s, v| s.defrag.enabled = v.yes()),
    row("activerehashing", YesNo, "yes"),
    row("always-show-logo", YesNo, "no").immutable(),
    row("aof-disable-auto-gc", YesNo, "no"),
    row("aof-load-truncated", YesNo, "yes").to(|s, v| s.aof_load_truncated = v.yes()),
    row("aof-rewrite-incremental-fsync", YesNo, "yes"),
    row("aof-timestamp-enabled", YesNo, "no"),
    row("aof-use-rdb-preamble", YesNo, "yes"),
    row("aof_rewrite_cpulist", Text, "").alias("aof-rewrite-cpulist").immutable(),
    row("appenddirname", Text, "appendonlydir").immutable().to(|s, v| s.appenddirname = v.string()),
    row("appendfilename", Text, "appendonly.aof").immutable().to(|s, v| s.appendfilename = v.string()),
    row("appendfsync", Choice(AppendFsync::WORDS), "everysec").to(|s, v| s.appendfsync = AppendFsync::from_word(v.word()).unwrap_or(s.appendfsync)),
    row("appendonly", YesNo, "yes").to(|s, v| s.appendonly = v.yes()),
    row("auto-aof-rewrite-min-size", ANY_SIZE, "67108864").to(|s, v| s.auto_aof_rewrite_min_size = v.size()),
    row("auto-aof-rewrite-percentage", Int(0, INT_MAX), "100").to(|s, v| s.auto_aof_rewrite_percentage = v.int() as u64),
    row("availability-zone", Text, "").to(|s, v| s.availability_zone = v.string()),
    row("backup-sealed-ttl", Int(0, i64::MAX), "0").to(|s, v| s.backup_sealed_ttl = v.int()),
    row("backupdirname", Text, "backupdir").to(|s, v| s.backupdirname = v.string()),
    row("bgsave_cpulist", Text, "").alias("bgsave-cpulist").immutable(),
    row("bind", Addresses, "* -::*").to(|s, v| if let Value::Addresses(x) = v { s.bind = x.clone() }),
    row("bind-source-addr", Text, "").to(|s, v| s.bind_source_addr = v.string()),
    row("bio_cpulist", Text, "").alias("bio-cpulist").immutable(),
    row("busy-reply-scope", Choice(BusyReplyScope::WORDS), "touched").to(|s, v| s.busy_reply_scope = BusyReplyScope::from_word(v.word()).unwrap_or(s.busy_reply_scope)),
    row("busy-reply-threshold", Int(0, i64::MAX), "5000").alias("lua-time-limit").to(|s, v| s.busy_reply_threshold = v.int() as u64),
    row("client-default-resp", Int(2, 3), "2").immutable().hidden(),
    row("client-output-buffer-limit", OutputLimits, "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60").to(|s, v| if let Value::OutputLimits(x) = v { s.client_output_buffer_limit = *x }),
    row("client-query-buffer-limit", Size(1048576, LONG_MAX), "1073741824").to(|s, v| s.client_query_buffer_limit = v.size() as usize),
    row("cluster-allow-pubsubshard-when-down", YesNo, "yes"),
    row("cluster-allow-reads-when-down", YesNo, "no"),
    row("cluster-allow-replica-migration", YesNo, "yes"),
    row("cluster-announce-bus-port", Int(0, PORT_MAX), "0"),
    row("cluster-announce-client-ipv4", Text, ""),
    row("cluster-announce-client-ipv6", Text, ""),
    row("cluster-announce-client-port", Int(0, PORT_MAX), "0"),
    row("cluster-announce-client-tls-port", Int(0, PORT_MAX), "0"),
    row("cluster-announce-hostname", Hostname, ""),
    row("cluster-announce-human-nodename", Text, ""),
    row("cluster-announce-ip", Text, ""),
    row("cluster-announce-port", Int(0, PORT_MAX), "0"),
    row("cluster-announce-tls-port", Int(0, PORT_MAX), "0"),
    row("cluster-blacklist-ttl", Int(0, i64::MAX), "60"),
    row("cluster-compatibility-sample-ratio", Int(0, 100), "0"),
    row("cluster-config-file", Text, "nodes.conf").immutable(),
    row("cluster-config-save-behavior", Choice(&["sync", "best-effort"]), "sync"),
    row("cluster-databases", Int(1, INT_MAX), "1").immutable(),
    row("cluster-enabled", YesNo, "no").immutable().to(|s, v| s.cluster_enabled = v.yes()),
    row("cluster-link-sendbuf-limit", ANY_SIZE, "0"),
    row("cluster-manual-failover-timeout", Int(1, INT_MAX), "5000"),
    row("cluster-message-gossip-perc", Int(1, 100), "10").hidden(),
    row("cluster-migration-barrier", Int(0, INT_MAX), "1"),
    row("cluster-node-timeout", Int(0, i64::MAX), "15000"),
    row("cluster-ping-interval", Int(0, i64::MAX), "0").hidden(),
    row("cluster-port", Int(0, PORT_MAX), "0").immutable(),
    row("cluster-preferred-endpoint-type", Choice(&["ip", "hostname", "unknown-endpoint"]), "ip"),
    row("cluster-replica-no-failover", YesNo, "no").alias("cluster-slave-no-failover"),
    row("cluster-replica-validity-factor", Int(0, INT_MAX), "10").alias("cluster-slave-validity-factor"),
    row("cluster-require-full-coverage", YesNo, "yes"),
    row("cluster-slot-migration-handoff-max-lag-bytes", ANY_SIZE, "1048576"),
    row("cluster-slot-migration-log-max-len", Int(0, i64::MAX), "1000"),
    row("cluster-slot-migration-sync-buffer-drain-timeout", Int(0, INT_MAX), "60000"),
    row("cluster-slot-migration-write-pause-timeout", Int(0, INT_MAX), "10000"),
    row("cluster-slot-stats-enabled", YesNo, "no"),
    row("commandlog-large-reply-max-len", Int(0, i64::MAX), "128").to(|s, v| s.commandlog_large_reply_max_len = v.int() as usize),
    row("commandlog-large-request-max-len", Int(0, i64::MAX), "128").to(|s, v| s.commandlog_large_request_max_len = v.int() as usize),
    row("commandlog-reply-larger-than", Int(-1, i64::MAX), "1048576").to(|s, v| s.commandlog_reply_larger_than = v.int()),
    row("commandlog-request-larger-than", Int(-1, i64::MAX), "1048576").to(|s, v| s.commandlog_request_larger_than = v.int()),
    row("crash-log-enabled", YesNo, "yes"),
    row("crash-memcheck-enabled", YesNo, "yes"),
    row("daemonize", YesNo, "no").immutable().to(|s, v| s.daemonize = v.yes()),
    row("databases", Int(1, INT_MAX), "16").immutable().to(|s, v| s.databases = v.int() as usize),
    row("dbfilename", FileName, "dump.rdb").protected().to(|s, v| s.dbfilename = v.string()),
    row("debug-context", Text, "").hidden(),
    row("dir", Text, ".").protected().to(|s, v| s.dir = v.string()),
    row("disable-thp", YesNo, "yes").immutable(),
    row("dual-channel-replication-enabled", YesNo, "no"),
    row("dynamic-hz", YesNo, "yes"),
    row("enable-debug-assert", YesNo, "no").immutable().hidden(),
    row("enable-debug-command", Choice(Access::WORDS), "no").immutable().to(|s, v| s.enable_debug_command = Access::from_word(v.word()).unwrap_or(s.enable_debug_command)),
    row("enable-module-command", Choice(Access::WORDS), "no").immutable().to(|s, v| s.enable_module_command = Access::from_word(v.word()).unwrap_or(s.enable_module_command)),
    row("enable-protected-configs", Choice(Access::WORDS), "no").immutable().to(|s, v| s.enable_protected_configs = Access::from_word(v.word()).unwrap_or(s.enable_protected_configs)),
    row("extended-redis-compatibility", YesNo, "yes").to(|s, v| s.dialect = if v.yes() { Dialect::Redis } else { Dialect::Valkey }),
    row("hash-max-listpack-entries", Int(0, i64::MAX), "512").alias("hash-max-ziplist-entries").to(|s, v| s.limits.hash_entries_max = v.int() as usize),
    row("hash-max-listpack-value", ANY_SIZE, "64").alias("hash-max-ziplist-value").to(|s, v| s.limits.hash_value_bytes_max = v.size() as usize),
    row("hash-seed", Text, "").immutable(),
    row("hide-user-data-from-log", YesNo, "no").to(|s, v| s.hide_user_data_from_log = v.yes()),
    row("hll-sparse-max-bytes", ANY_SIZE, "3000").to(|s, v| s.limits.hll_sparse_bytes_max = v.size() as usize),
    row("hz", Clamped(1, 500), "10").to(|s, v| s.hz = v.int() as u32),
    row("ignore-warnings", Text, ""),
    row("import-mode", YesNo, "no").to(|s, v| s.import_mode = v.yes()),
    row("io-threads", Int(1, 256), "1"),
    row("io-threads-always-active", YesNo, "no").hidden().to(|s, v| s.io_threads_always_active = v.yes()),
    row("io-threads-do-reads", YesNo, "no").immutable(),
    row("jemalloc-bg-thread", YesNo, "yes"),
    row("key-load-delay", Int(INT_MIN, INT_MAX), "0").hidden().to(|s, v| s.key_load_delay_us = v.int().max(0) as u64),
    row("latency-monitor-threshold", Int(0, i64::MAX), "0").to(|s, v| s.latency_monitor_threshold = v.int() as u64),
    row("latency-tracking", YesNo, "yes").to(|s, v| s.latency_tracking = v.yes()),
    row("latency-tracking-info-percentiles", Percentiles, "50 99 99.9").to(|s, v| if let Value::Percentiles(x) = v { s.latency_tracking_info_percentiles = x.clone() }),
    row("lazyfree-lazy-eviction", YesNo, "yes").to(|s, v| s.lazyfree_lazy_eviction = v.yes()),
    row("lazyfree-lazy-expire", YesNo, "yes").to(|s, v| s.lazyfree_lazy_expire = v.yes()),
    row("lazyfree-lazy-server-del", YesNo, "yes").to(|s, v| s.lazyfree_lazy_server_del = v.yes()),
    row("lazyfree-lazy-user-del", YesNo, "yes").to(|s, v| s.lazyfree_lazy_user_del = v.yes()),
    row("lazyfree-lazy-user-flush", YesNo, "yes").to(|s, v| s.lazyfree_lazy_user_flush = v.yes()),
    row("lfu-decay-time", Int(0, INT_MAX), "1").to(|s, v| s.lfu_decay_time = v.int() as u32),
    row("lfu-log-factor", Int(0, INT_MAX), "10").to(|s, v| s.lfu_log_factor = v.int() as u32),
    row("list-compress-depth", Int(0, INT_MAX), "0"),
    row("list-max-listpack-size", Int(INT_MIN, INT_MAX), "-2").alias("list-max-ziplist-size").to(|s, v| s.limits.list_chunk = v.int()),
    row("loading-process-events-interval-bytes", Int(1024, INT_MAX), "2097152").hidden(),
    row("locale-collate", Text, ""),
    row("log-archive-max-age", Int(0, INT_MAX), "0").to(|s, v| s.log_archive_seconds = v.int() as u64),
    row("log-archive-max-bytes", ANY_SIZE, "0").to(|s, v| s.log_archive_bytes = v.int() as u64),
    row("log-format", Choice(&["legacy", "logfmt", "json"]), "legacy"),
    row("log-timestamp-format", Choice(&["legacy", "iso8601", "milliseconds"]), "legacy"),
    row("logfile", Text, "").immutable().to(|s, v| s.logfile = v.string()),
    row("loglevel", Choice(LogLevel::WORDS), "notice").to(|s, v| s.loglevel = LogLevel::from_word(v.word()).unwrap_or(s.loglevel)),
    row("lookahead", Int(1, INT_MAX), "16"),
    row("lua-enable-deprecated-api", YesNo, "no").immutable().hidden(),
    row("masterauth", Text, "").alias("primaryauth").sensitive().to(|s, v| s.masterauth = v.string()),
    row("masteruser", Text, "").alias("primaryuser").sensitive().to(|s, v| s.masteruser = v.string()),
    row("max-new-connections-per-cycle", Int(1, 1000), "10").to(|s, v| s.max_new_connections_per_cycle = v.int() as usize),
    row("max-new-tls-connections-per-cycle", Int(1, 1000), "1"),
    row("maxclients", Int(1, UINT_MAX), "10000").to(|s, v| s.maxclients = v.int() as usize),
    row("maxmemory", Size(0, u64::MAX), "0").to(|s, v| s.maxmemory = v.size()),
    row("maxmemory-clients", SizeOrPercent, "0").to(|s, v| if let Value::Memory(x) = v { s.maxmemory_clients = *x }),
    row("maxmemory-eviction-tenacity", Int(0, 100), "10").to(|s, v| s.maxmemory_eviction_tenacity = v.int()),
    row("maxmemory-policy", Choice(MaxmemoryPolicy::WORDS), "noeviction").to(|s, v| s.maxmemory_policy = MaxmemoryPolicy::from_word(v.word()).unwrap_or(s.maxmemory_policy)),
    row("maxmemory-samples", Int(1, INT_MAX), "5").to(|s, v| s.maxmemory_samples = v.int() as usize),
    row("min-io-threads-avoid-copy-reply", Int(0, INT_MAX), "7").hidden(),
    row("min-replicas-max-lag", Int(0, INT_MAX), "10").alias("min-slaves-max-lag").to(|s, v| s.min_replicas_max_lag = v.int() as u64),
    row("min-replicas-to-write", Int(0, INT_MAX), "0")
        .alias("min-slaves-to-write")
        .to(|s, v| s.min_replicas_to_write = v.int() as usize),
    row("min-string-size-avoid-copy-reply", Int(0, INT_MAX), "16384").hidden(),
    row("mptcp", YesNo, "no").immutable(),
    row("no-appendfsync-on-rewrite", YesNo, "no"),
    row("notify-keyspace-events", KeyspaceEvents, "").to(|s, v| if let Value::KeyspaceEvents(x) = v { s.notify_keyspace_events = *x }),
    row("oom-score-adj", Choice(OomScore::WORDS), "no").to(|s, v| if let Some(x) = OomScore::from_word(v.word()) { s.oom_score_adj = x }),
    row("oom-score-adj-values", OomScores, "0 200 800").to(|s, v| if let Value::OomScores(x) = v { s.oom_score_adj_values = *x }),
    row("pidfile", Text, "").immutable().to(|s, v| s.pidfile = v.string()),
    row("port", Int(0, PORT_MAX), "6379").to(|s, v| s.port = v.int() as u16),
    row("prefetch-batch-max-size", Int(0, 128), "16"),
    row("proc-title-template", Title, "{title} {listen-addr} {server-mode}"),
    row("propagation-error-behavior", Choice(&["ignore", "panic", "panic-on-replicas"]), "ignore"),
    row("protected-mode", YesNo, "yes").to(|s, v| s.protected_mode = v.yes()),
    row("proto-max-bulk-len", Size(1048576, LONG_MAX), "536870912").to(|s, v| s.proto_max_bulk_len = v.size() as usize),
    row("rdb-del-sync-files", YesNo, "no"),
    row("rdb-key-save-delay", Int(INT_MIN, INT_MAX), "0").hidden().to(|s, v| s.rdb_key_save_delay = v.int()),
    row("rdb-save-incremental-fsync", YesNo, "yes"),
    row("rdb-version", Choice(&["10", "11", "12", "80"]), "10").to(|s, v| s.rdb_version = v.word().parse().unwrap_or(10)),
    row("rdb-version-check", Choice(&["strict", "relaxed"]), "strict"),
    row("rdbchecksum", YesNo, "yes").immutable().to(|s, v| s.rdbchecksum = v.yes()),
    row("rdbcompression", YesNo, "yes").to(|s, v| s.rdbcompression = v.yes()),
    row("rdma-bind", Text, ""),
    row("rdma-completion-vector", Int(-1, 1024), "-1").immutable(),
    row("rdma-port", Int(0, PORT_MAX), "0"),
    row("rdma-rx-size", Int(65536, 16777216), "1048576").immutable(),
    row("repl-backlog-size", Size(1, LONG_MAX), "1048576").to(|s, v| s.repl_backlog_size = v.size()),
    row("repl-backlog-ttl", Int(0, i64::MAX), "3600").to(|s, v| s.repl_backlog_ttl = v.int() as u64),
    row("repl-disable-tcp-nodelay", YesNo, "no"),
    row("repl-diskless-load", Choice(&["disabled", "on-empty-db", "swapdb", "flush-before-load"]), "disabled").to(|s, v| s.diskless_swapdb = v.word() == "swapdb"),
    row("repl-diskless-sync", YesNo, "yes").to(|s, v| s.repl_diskless_sync = v.yes()),
    row("repl-diskless-sync-delay", Int(0, INT_MAX), "5").to(|s, v| s.repl_diskless_sync_delay = v.int() as u64),
    row("repl-diskless-sync-max-replicas", Int(0, INT_MAX), "0").to(|s, v| s.repl_diskless_sync_max_replicas = v.int() as usize),
    row("repl-mptcp", YesNo, "no").immutable(),
    row("repl-ping-replica-period", Int(1, INT_MAX), "10").alias("repl-ping-slave-period").to(|s, v| s.repl_ping_replica_period = v.int() as u64),
    row("repl-rdb-channel", YesNo, "no"),
    row("repl-timeout", Int(1, INT_MAX), "60").to(|s, v| s.repl_timeout = v.int() as u64),
    row("replica-announce-ip", Text, "").alias("slave-announce-ip").to(|s, v| s.replica_announce_ip = v.string()),
    row("replica-announce-port", Int(0, PORT_MAX), "0").alias("slave-announce-port").to(|s, v| s.replica_announce_port = v.int() as u16),
    row("replica-announced", YesNo, "yes").to(|s, v| s.replica_announced = v.yes()),
    row("replica-full-sync-buffer-limit", ANY_SIZE, "0"),
    row("replica-ignore-disk-write-errors", YesNo, "no"),
    row("replica-ignore-maxmemory", YesNo, "yes").alias("slave-ignore-maxmemory").to(|s, v| s.replica_ignore_maxmemory = v.yes()),
    row("replica-lazy-flush", YesNo, "no").alias("slave-lazy-flush"),
    row("replica-priority", Int(0, INT_MAX), "100").alias("slave-priority").to(|s, v| s.replica_priority = v.int()),
    row("replica-read-only", YesNo, "yes").alias("slave-read-only").to(|s, v| s.replica_read_only = v.yes()),
    row("replica-serve-stale-data", YesNo, "yes").alias("slave-serve-stale-data").to(|s, v| s.replica_serve_stale_data = v.yes()),
    row("replicaof", HostPort, "").alias("slaveof").immutable().to(|s, v| s.replicaof = v.string()),
    row("requirepass", Text, "").sensitive().to(|s, v| s.requirepass = v.string()),
    row("sanitize-dump-payload", Choice(&["no", "yes", "clients"]), "no"),
    row("save", SavePoints, "").to(|s, v| if let Value::SavePoints(x) = v { s.save = x.clone() }),
    row("server_cpulist", Text, "").alias("server-cpulist").immutable(),
    row("set-max-intset-entries", Int(0, i64::MAX), "512").to(|s, v| s.limits.set_int_entries_max = v.int() as usize),
    row("set-max-listpack-entries", Int(0, i64::MAX), "128").to(|s, v| s.limits.set_entries_max = v.int() as usize),
    row("set-max-listpack-value", ANY_SIZE, "64").to(|s, v| s.limits.set_value_bytes_max = v.size() as usize),
    row("set-proc-title", YesNo, "yes").immutable(),
    row("shutdown-on-sigint", ShutdownOptions, "default"),
    row("shutdown-on-sigterm", ShutdownOptions, "default"),
    row("shutdown-timeout", Int(0, INT_MAX), "10").to(|s, v| s.shutdown_timeout = v.int() as u64),
    row("slot-migration-max-failover-repl-bytes", ANY_SIZE, "0"),
    row("slowlog-log-slower-than", Int(-1, i64::MAX), "10000").alias("commandlog-execution-slower-than").to(|s, v| s.slowlog_log_slower_than = v.int()),
    row("slowlog-max-len", Int(0, i64::MAX), "128").alias("commandlog-slow-execution-max-len").to(|s, v| s.slowlog_max_len = v.int() as usize),
    row("socket-mark-id", Int(0, UINT_MAX), "0").immutable(),
    row("stop-writes-on-bgsave-error", YesNo, "yes").to(|s, v| s.stop_writes_on_bgsave_error = v.yes()),
    row("stream-idmp-duration", Int(1, 86400), "100").to(|s, v| s.limits.stream_mark_seconds = v.int() as u64),
    row("stream-idmp-maxsize", Int(1, 10000), "100").to(|s, v| s.limits.stream_marks_max = v.int() as u64),
    row("stream-node-max-bytes", ANY_SIZE, "4096").to(|s, v| s.limits.stream_node_bytes_max = v.size() as usize),
    row("stream-node-max-entries", Int(0, i64::MAX), "100").to(|s, v| s.limits.stream_node_entries_max = v.int() as usize),
    row("supervised", Choice(&["upstart", "systemd", "auto", "no"]), "no").immutable(),
    row("syslog-enabled", YesNo, "no").immutable(),
    row("syslog-facility", Choice(&["user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"]), "local0").immutable(),
    row("syslog-ident", Text, "redis").immutable(),
    row("tcp-backlog", Int(0, INT_MAX), "511").immutable().to(|s, v| s.tcp_backlog = v.int() as u32),
    row("tcp-keepalive", Int(0, INT_MAX), "300").to(|s, v| s.tcp_keepalive = v.int() as u32),
    row("threads", Int(0, 256), "0").immutable().to(|s, v| s.threads = v.int() as usize),
    row("timeout", Int(0, INT_MAX), "0").to(|s, v| s.timeout = v.int() as u64),
    row("tls-auth-clients", Choice(&["no", "yes", "optional"]), "yes"),
    row("tls-auth-clients-user", Choice(&["CN", "URI", "off"]), "off"),
    row("tls-auto-reload-interval", Int(0, INT_MAX), "0"),
    row("tls-ca-cert-dir", Text, ""),
    row("tls-ca-cert-file", Text, ""),
    row("tls-cert-file", Text, ""),
    row("tls-ciphers", Text, ""),
    row("tls-ciphersuites", Text, ""),
    row("tls-client-cert-file", Text, ""),
    row("tls-client-key-file", Text, ""),
    row("tls-client-key-file-pass", Text, "").sensitive(),
    row("tls-cluster", YesNo, "no"),
    row("tls-dh-params-file", Text, ""),
    row("tls-key-file", Text, ""),
    row("tls-key-file-pass", Text, "").sensitive(),
    row("tls-port", Int(0, PORT_MAX), "0"),
    row("tls-prefer-server-ciphers", YesNo, "no"),
    row("tls-protocols", Text, ""),
    row("tls-replication", YesNo, "no"),
    row("tls-session-cache-size", Int(0, INT_MAX), "20480"),
    row("tls-session-cache-timeout", Int(0, INT_MAX), "300"),
    row("tls-session-caching", YesNo, "yes"),
    row("tracking-table-max-keys", Int(0, i64::MAX), "1000000").to(|s, v| s.tracking_table_max_keys = v.int() as usize),
    row("unixsocket", Text, "").immutable().to(|s, v| s.unixsocket = v.string()),
    row("unixsocketgroup", Text, "").immutable().to(|s, v| s.unixsocketgroup = v.string()),
    row("unixsocketperm", Octal, "0").immutable().to(|s, v| if let Value::Octal(x) = v { s.unixsocketperm = *x }),
    row("use-exit-on-panic", YesNo, "no").hidden(),
    row("watchdog-period", Int(0, INT_MAX), "0").hidden(),
    row("zset-max-listpack-entries", Int(0, i64::MAX), "128").alias("zset-max-ziplist-entries").to(|s, v| s.limits.zset_entries_max = v.int() as usize),
    row("zset-max-listpack-value", ANY_SIZE, "64").alias("zset-max-ziplist-value").to(|s, v| s.limits.zset_value_bytes_max = v.size() as usize),
];
