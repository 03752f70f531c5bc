//! INFO: the sections, and the figures in them.

use crate::acl::log::Refusal;
use crate::blocking;
use crate::commands::memory::Figures;
use crate::ctx::Ctx;
use crate::durability::Health;
use crate::engine::Engine;
use crate::error::Result;
use crate::following::{self, LinkState};
use crate::pubsub::Subscription;
use crate::registry;
use crate::replication::{self, Follower};
use crate::saving::Kind;
use crate::stats::{CommandCounters, LATENCY_BUCKETS, Stats};
use crate::version::{KELDA_VERSION, REDIS_VERSION};
use kelda_store::shard::{SHARDS, ShardSet};
use kelda_store::txn::Txn;
use std::fmt::Write;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

type Section = fn(&mut Ctx, &mut String) -> Result;

/// Every section: its name, its title, whether INFO without arguments shows it, and what writes it.
const SECTIONS: &[(&str, &str, bool, Section)] = &[
    ("server", "Server", true, server),
    ("clients", "Clients", true, clients),
    ("memory", "Memory", true, memory),
    ("persistence", "Persistence", true, persistence),
    ("stats", "Stats", true, stats),
    ("replication", "Replication", true, replication),
    ("cpu", "CPU", true, cpu),
    ("modules", "Modules", true, |_, _| Ok(())),
    ("commandstats", "Commandstats", false, command_stats),
    ("errorstats", "Errorstats", true, error_stats),
    ("latencystats", "Latencystats", false, latency_stats),
    ("cluster", "Cluster", true, cluster),
    ("keyspace", "Keyspace", true, keyspace),
];

/// What INFO shows only if it is asked for by its name.
const HIDDEN: &[(&str, &str, Section)] = &[("keysizes", "Keysizes", crate::keysizes::write), ("debug", "Debug", debug)];

/// The text of the sections asked for, in the fixed order; of the default ones if none is.
///
/// # Errors
/// `Again` when the keyspace is busy.
pub fn text(ctx: &mut Ctx, asked: &[&[u8]]) -> Result<String> {
    let is = |name: &str| asked.iter().any(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    let all = is("all") || is("everything");
    let default = asked.is_empty() || is("default");
    let mut text = String::new();
    let shown = SECTIONS.iter().filter(|(name, _, by_default, _)| all || (default && *by_default) || is(name));
    let hidden = HIDDEN.iter().filter(|(name, ..)| is(name));
    let both = shown.map(|(_, title, _, write)| (title, write)).chain(hidden.map(|(_, title, write)| (title, write)));
    for (title, write) in both {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let _ = write!(text, "# {title}\r\n");
        write(ctx, &mut text)?;
    }
    Ok(text)
}

/// Appends lines of `name:value`. Writing to a `String` cannot fail.
macro_rules! lines {
    ($text:expr, $($name:literal: $value:expr),* $(,)?) => {
        $(let _ = write!($text, "{}:{}\r\n", $name, $value);)*
    };
}

fn server(ctx: &mut Ctx, text: &mut String) -> Result {
    let engine = ctx.engine();
    let process = engine.process.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let settings = &ctx.worker.settings;
    let now_us = engine.clock.unix_us();
    let up = (now_us - engine.started_us).max(0) / 1_000_000;
    let active = engine.platform.active_threads();
    let port = if process.port != 0 { process.port } else { settings.port };
    lines!(text,
        "redis_version": REDIS_VERSION,
        "server_name": "kelda",
        "kelda_version": KELDA_VERSION,
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": "0",
        "redis_mode": "standalone",
        "os": process.os,
        "arch_bits": usize::BITS,
        "monotonic_clock": "POSIX clock_gettime",
        "multiplexing_api": "epoll",
        "process_id": process.pid,
        "process_supervised": "no",
        "run_id": process.run_id,
        "tcp_port": port,
        "server_time_usec": now_us,
        "uptime_in_seconds": up,
        "uptime_in_days": up / 86_400,
        "hz": settings.hz,
        "configured_hz": settings.hz,
        "lru_clock": (now_us / 1_000_000) & 0xff_ffff,
        "executable": process.executable,
        "config_file": process.config_file,
        "io_threads_active": u8::from(active > 1),
        "threads": process.threads,
        "threads_active": active,
        "availability_zone": settings.availability_zone,
    );
    if let Some(until_ms) = engine.shutdown.until_ms() {
        lines!(text, "shutdown_in_milliseconds": (until_ms - now_us / 1000).max(0));
    }
    if !settings.bind.is_empty() && port != 0 {
        let _ = write!(text, "listener0:name=tcp");
        settings.bind.iter().for_each(|address| {
            let _ = write!(text, ",bind={address}");
        });
        let _ = write!(text, ",port={port}\r\n");
    }
    Ok(())
}

fn clients(ctx: &mut Ctx, text: &mut String) -> Result {
    let engine = ctx.engine();
    let all = engine.clients.all();
    let subscribed = all.iter().filter(|info| info.subscriptions.iter().any(|count| count.load(Relaxed) != 0));
    let watching = all.iter().filter(|info| info.watched.load(Relaxed) != 0);
    let watched: usize = all.iter().map(|info| info.watched.load(Relaxed)).sum();
    let largest =
        |bytes: fn(&crate::clients::ClientInfo) -> usize| all.iter().map(|info| bytes(info)).max().unwrap_or(0);
    let (mut blocking, mut ending) = (0, 0);
    if engine.clients.blocked.load(Relaxed) != 0 {
        for shard in 0..SHARDS {
            ctx.with_shards(ShardSet::One(shard as u16), |txn| {
                for waiting in txn.shard_data(shard).waiters.queues() {
                    blocking += 1;
                    ending += usize::from(waiting.iter().any(|waiter| blocking::errors_end(waiter)));
                }
            })?;
        }
    }
    let pause = engine.pause.left_ms(ctx.worker.now_ms());
    let of_clients = engine.pause.of_clients_ms(ctx.worker.now_ms());
    let actions = match pause {
        None => "none",
        Some(_) if of_clients.is_some() && engine.pause.is_of_all() => "all",
        Some(_) => "write",
    };
    lines!(text,
        "connected_clients": all.iter().filter(|info| !info.replica.load(Relaxed)).count(),
        "cluster_connections": 0,
        "maxclients": ctx.worker.settings.maxclients,
        "client_recent_max_input_buffer": largest(|info| info.input_bytes.load(Relaxed)),
        "client_recent_max_output_buffer": largest(|info| info.output_bytes.load(Relaxed)),
        "blocked_clients": engine.clients.blocked.load(Relaxed),
        "tracking_clients": engine.tracking.clients.load(Relaxed),
        "pubsub_clients": subscribed.count(),
        "watching_clients": watching.count(),
        "clients_in_timeout_table": 0,
        "total_watched_keys": watched,
        "total_blocking_keys": blocking,
        "total_blocking_keys_on_nokey": ending,
        "paused_reason": engine.pause.reason(ctx.worker.now_ms()),
        "paused_actions": actions,
        "paused_timeout_milliseconds": of_clients.unwrap_or(0),
    );
    Ok(())
}

/// Bytes as `1.50M`.
fn human(bytes: usize) -> String {
    let units = ["K", "M", "G", "T", "P"];
    let mut figure = bytes as f64;
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut unit = "B";
    for name in units {
        if figure < 1024.0 {
            break;
        }
        figure /= 1024.0;
        unit = name;
    }
    format!("{figure:.2}{unit}")
}

fn memory(ctx: &mut Ctx, text: &mut String) -> Result {
    let figures = Figures::of(ctx)?;
    let engine = ctx.engine();
    let settings = ctx.worker.settings.clone();
    let Figures { used, peak, resident, .. } = figures;
    let policies = ctx.worker.engine.config.get(&["maxmemory-policy"]);
    let policy = policies.first().map_or("", |(_, value)| value.as_str());
    let lua = ctx.worker.lua_bytes();
    let scripts = figures.scripts + figures.functions;
    let (libraries, functions) = engine.functions.current().count();
    let (max, system) = (settings.maxmemory as usize, engine.platform.system_memory());
    let (ratio, unused) = (figures.fragmentation(), resident as i64 - used as i64);
    lines!(text,
        "used_memory": used,
        "used_memory_human": human(used),
        "used_memory_rss": resident,
        "used_memory_rss_human": human(resident),
        "used_memory_peak": peak,
        "used_memory_peak_human": human(peak),
        "used_memory_peak_perc": format_args!("{:.2}%", used as f64 * 100.0 / peak.max(1) as f64),
        "used_memory_overhead": figures.overhead(),
        "used_memory_startup": figures.start,
        "used_memory_dataset": figures.dataset(),
        "used_memory_dataset_perc": format_args!("{:.2}%", figures.dataset_percent()),
        // The allocator does not tell which pages it uses. As in Redis with such a one: those that are resident.
        "allocator_allocated": used,
        "allocator_active": resident,
        "allocator_resident": resident,
        "allocator_muzzy": 0,
        "total_system_memory": system,
        "total_system_memory_human": human(system),
        // One interpreter for each thread runs both scripts and functions; this is that of the thread that answers.
        "used_memory_lua": lua,
        "used_memory_vm_eval": lua,
        "used_memory_lua_human": human(lua),
        "used_memory_scripts_eval": figures.scripts,
        "number_of_cached_scripts": engine.scripts.size().0,
        "number_of_functions": functions,
        "number_of_libraries": libraries,
        "used_memory_vm_functions": 0,
        "used_memory_vm_total": lua,
        "used_memory_vm_total_human": human(lua),
        "used_memory_functions": figures.functions,
        "used_memory_scripts": scripts,
        "used_memory_scripts_human": human(scripts),
        "maxmemory": max,
        "maxmemory_human": human(max),
        "maxmemory_policy": policy,
        "allocator_frag_ratio": format_args!("{ratio:.2}"),
        "allocator_frag_bytes": unused,
        "allocator_rss_ratio": "1.00",
        "allocator_rss_bytes": 0,
        "rss_overhead_ratio": "1.00",
        "rss_overhead_bytes": 0,
        "mem_fragmentation_ratio": format_args!("{ratio:.2}"),
        "mem_fragmentation_bytes": unused,
        "mem_not_counted_for_evict": engine.not_counted_for_eviction(),
        "mem_replication_backlog": figures.backlog,
        "mem_total_replication_buffers": figures.backlog + figures.replicas,
        "mem_replicas_repl_buffer": figures.replicas,
        "mem_overhead_db_hashtable_rehashing": 0,
        "mem_clients_slaves": figures.replicas,
        "mem_clients_normal": figures.clients,
        "mem_cluster_links": 0,
        "mem_aof_buffer": figures.log,
        "mem_allocator": "mimalloc",
        "active_defrag_running": engine.total(|stats| stats.defrag_percent.get()).div_ceil(engine.worker_count().max(1) as u64),
        "lazyfree_pending_objects": ctx.worker.garbage_len(),
        "lazyfreed_objects": engine.total(|stats| stats.lazyfreed.get()),
    );
    Ok(())
}

fn persistence(ctx: &mut Ctx, text: &mut String) -> Result {
    let engine = ctx.engine();
    let report = engine.saves.report(&engine);
    let seconds = |kind| report.running.filter(|(running, _)| *running == kind).map_or(-1, |(_, seconds)| seconds);
    let (saving, rewriting) = (seconds(Kind::Rdb), seconds(Kind::Base));
    // As in Redis, where both are done by one kind of child process.
    let sending = seconds(Kind::Replicas);
    let status = |ok: bool| if ok { "ok" } else { "err" };
    let (log, loading) = (&engine.log, &engine.loading);
    // The old data is served until the new has come whole: `swapdb` or not, but only there Redis has a word for it.
    let receiving = ctx.worker.settings.diskless_swapdb
        && engine.following.report().is_some_and(|master| master.transfer.is_some())
        && !loading.is_active();
    let figures = log.sink().map(|sink| sink.figures()).unwrap_or_default();
    let pauses = engine.saves.pauses();
    lines!(text,
        "loading": u8::from(loading.is_active()),
        "async_loading": u8::from(receiving),
        "current_cow_peak": report.waiting_bytes,
        "current_cow_size": report.waiting_bytes,
        "current_cow_size_age": 0,
        "current_fork_perc": "0.00",
        "current_save_keys_processed": report.keys.0,
        "current_save_keys_total": report.keys.1,
        "rdb_changes_since_last_save": engine.dirty_since_save(),
        "rdb_bgsave_in_progress": i32::from(saving >= 0 || sending >= 0),
        "rdb_last_save_time": engine.last_save.load(Relaxed),
        "rdb_last_bgsave_status": status(report.rdb.ok),
        "rdb_last_bgsave_time_sec": report.rdb.last_seconds,
        "rdb_current_bgsave_time_sec": saving,
        "rdb_saves": report.rdb.count,
        "rdb_last_cow_size": 0,
        "snapshot_longest_hold_usec": pauses.hold_us(),
        "snapshot_longest_hold_cpu_usec": pauses.hold_cpu_us(),
        "snapshot_longest_early_usec": pauses.early_us(),
        "rdb_last_load_keys_expired": loading.rdb_keys_expired.load(Relaxed),
        "rdb_last_load_keys_loaded": loading.rdb_keys_loaded.load(Relaxed),
        "aof_enabled": u8::from(log.is_on()),
        "aof_rewrite_in_progress": i32::from(rewriting >= 0),
        "aof_rewrite_scheduled": i32::from(report.base_scheduled),
        "aof_last_rewrite_time_sec": report.base.last_seconds,
        "aof_current_rewrite_time_sec": rewriting,
        "aof_last_bgrewrite_status": status(report.base.ok),
        "aof_rewrites": report.base.count,
        "aof_rewrites_consecutive_failures": report.base.failures,
        "aof_last_write_status": if log.health() == Health::Good { "ok" } else { "err" },
        "aof_last_cow_size": 0,
        "module_fork_in_progress": 0,
        "module_fork_last_cow_size": 0,
    );
    if log.is_on() {
        lines!(text,
            "aof_current_size": engine.saves.log_bytes(&engine),
            "aof_base_size": engine.saves.rewritten_bytes(),
            "aof_pending_rewrite": 0,
            "aof_buffer_length": figures.buffered_bytes,
            "aof_pending_bio_fsync": u8::from(figures.last_lsn != figures.durable_lsn),
            "aof_delayed_fsync": 0,
            "aof_last_lsn": figures.last_lsn,
            "aof_written_lsn": figures.written_lsn,
            "aof_durable_lsn": figures.durable_lsn,
        );
    }
    if loading.is_active() {
        let (percent, left_s) = loading.progress(ctx.worker.now_ms() / 1000);
        lines!(text,
            "loading_start_time": loading.started_s.load(Relaxed),
            "loading_total_bytes": loading.total_bytes.load(Relaxed),
            "loading_rdb_used_mem": 0,
            "loading_loaded_bytes": loading.loaded_bytes.load(Relaxed),
            "loading_loaded_perc": format_args!("{percent:.2}"),
            "loading_eta_seconds": left_s,
        );
    }
    Ok(())
}

fn stats(ctx: &mut Ctx, text: &mut String) -> Result {
    let engine = ctx.engine();
    let [operations, input, output, turns, turns_us] = engine.rates();
    lines!(text,
        "total_connections_received": engine.total(|stats| stats.connections.get()),
        "total_commands_processed": engine.total(|stats| stats.commands.get()),
        "instantaneous_ops_per_sec": operations,
        "total_net_input_bytes": engine.total(|stats| stats.input_bytes.get()),
        "total_net_output_bytes": engine.total(|stats| stats.output_bytes.get()),
        "total_net_repl_input_bytes": engine.total(|stats| stats.repl_input_bytes.get()),
        "total_net_repl_output_bytes": engine.total(|stats| stats.repl_output_bytes.get()),
        "instantaneous_input_kbps": format_args!("{:.2}", input as f64 / 1024.0),
        "instantaneous_output_kbps": format_args!("{:.2}", output as f64 / 1024.0),
        // What is fed to replicas is in the output of their connections.
        "instantaneous_input_repl_kbps": "0.00",
        "instantaneous_output_repl_kbps": "0.00",
        "rejected_connections": engine.total(|stats| stats.rejected_connections.get()),
        "sync_full": engine.replication.counts[0].load(Relaxed),
        "sync_partial_ok": engine.replication.counts[1].load(Relaxed),
        "sync_partial_err": engine.replication.counts[2].load(Relaxed),
        "expired_keys": engine.total(|stats| stats.expired.get()),
        "expired_subkeys": engine.total(|stats| stats.expired_fields.get()),
        // Nothing is sampled: what is due is known.
        "expired_stale_perc": "0.00",
        "expired_time_cap_reached_count": 0,
        "expire_cycle_cpu_milliseconds": engine.total(|stats| stats.expiry_us.get()) / 1000,
        "evicted_keys": engine.total(|stats| stats.evicted.get()),
        "evicted_clients": engine.total(|stats| stats.evicted_clients.get()),
        "evicted_scripts": engine.total(|stats| stats.evicted_scripts.get()),
        "keyspace_hits": engine.total(|stats| stats.hits.get()),
        "keyspace_misses": engine.total(|stats| stats.misses.get()),
        "pubsub_channels": engine.pubsub.channels(Subscription::Channel).len(),
        "pubsub_patterns": engine.pubsub.pattern_count(),
        "pubsubshard_channels": engine.pubsub.channels(Subscription::Shard).len(),
        "latest_fork_usec": 0,
        "total_forks": 0,
        "migrate_cached_sockets": engine.links.count(),
        "slave_expires_tracked_keys": engine.following.local.count(),
        "active_defrag_hits": engine.total(|stats| stats.defrag_hits.get()),
        "active_defrag_misses": engine.total(|stats| stats.defrag_misses.get()),
        "active_defrag_key_hits": engine.total(|stats| stats.defrag_key_hits.get()),
        "active_defrag_key_misses": engine.total(|stats| stats.defrag_key_misses.get()),
        "total_active_defrag_time": engine.total(|stats| stats.defrag_us.get()) / 1000,
        "current_active_defrag_time": engine.total(|stats| stats.defrag_walk_us.get()) / 1000,
        "tracking_total_keys": engine.tracking.keys.load(Relaxed),
        "tracking_total_items": engine.tracking.items.load(Relaxed),
        "tracking_total_prefixes": engine.tracking.prefix_count(),
        "unexpected_error_replies": engine.following.errors.load(Relaxed),
        "total_error_replies": engine.total(|stats| stats.errors.get()),
        "total_reads_processed": engine.total(|stats| stats.reads.get()),
        "total_writes_processed": engine.total(|stats| stats.writes.get()),
        // There are no threads that only read and write.
        "io_threaded_reads_processed": 0,
        "io_threaded_writes_processed": 0,
        "client_query_buffer_limit_disconnections": engine.total(|stats| stats.query_limit_disconnections.get()),
        "client_output_buffer_limit_disconnections": engine.total(|stats| stats.output_limit_disconnections.get()),
        "acl_access_denied_auth": engine.acl.log.count(Refusal::Auth),
        "acl_access_denied_cmd": engine.acl.log.count(Refusal::Command),
        "acl_access_denied_key": engine.acl.log.count(Refusal::Key),
        "acl_access_denied_channel": engine.acl.log.count(Refusal::Channel),
        "acl_access_denied_db": engine.acl.log.count(Refusal::Database),
        "eventloop_cycles": engine.total(|stats| stats.turns.get()),
        "eventloop_duration_sum": engine.total(|stats| stats.turns_us.get()),
        "eventloop_duration_cmd_sum": registry::all().iter().map(|command| usec(&engine, command.id)).sum::<u64>(),
        "instantaneous_eventloop_cycles_per_sec": turns / engine.worker_count() as u64,
        "instantaneous_eventloop_duration_usec": turns_us.checked_div(turns).unwrap_or(0),
        "commands_put_aside": engine.total(|stats| stats.put_aside.get()),
    );
    Ok(())
}

fn debug(ctx: &mut Ctx, text: &mut String) -> Result {
    let engine = ctx.engine();
    let most = |figure: fn(&Stats) -> u64| engine.stats.iter().map(figure).max().unwrap_or(0);
    lines!(text,
        // The log is written by a thread of its own.
        "eventloop_duration_aof_sum": 0,
        "eventloop_duration_cron_sum": engine.total(|stats| stats.cron_us.get()),
        "eventloop_duration_max": most(|stats| stats.longest_turn_us.get()),
        "eventloop_cmd_per_cycle_max": most(|stats| stats.most_commands.get()),
    );
    Ok(())
}

/// The lines about the server that this one follows.
fn followed(ctx: &Ctx, text: &mut String, master: &following::Report, own: &replication::Report) {
    let (settings, now_ms) = (&ctx.worker.settings, ctx.worker.now_ms());
    let up = master.state == LinkState::Connected;
    let applied = if own.backlog { own.offset } else { 1 };
    let seconds_since = |at_ms: i64| if at_ms == 0 { -1 } else { (now_ms - at_ms).max(0) / 1000 };
    lines!(text,
        "role": "slave",
        "master_host": master.host,
        "master_port": master.port,
        "master_link_status": if up { "up" } else { "down" },
        "master_last_io_seconds_ago": if up { seconds_since(master.last_io_ms) } else { -1 },
        "master_sync_in_progress": u8::from(master.state == LinkState::Sync),
        "slave_read_repl_offset": applied + master.read_ahead,
        "slave_repl_offset": applied,
    );
    if let Some(transfer) = master.transfer.filter(|_| master.state == LinkState::Sync) {
        let left = transfer.total.map_or(-1, |total| (total - transfer.read) as i64);
        let share = transfer.total.filter(|total| *total != 0).map_or(0.0, |total| transfer.read as f64 / total as f64);
        lines!(text,
            "master_sync_total_bytes": transfer.total.unwrap_or(0),
            "master_sync_read_bytes": transfer.read,
            "master_sync_left_bytes": left,
            "master_sync_perc": format_args!("{:.2}", 100.0 * share),
            "master_sync_last_io_seconds_ago": seconds_since(master.last_io_ms),
        );
    }
    if !up {
        lines!(text, "master_link_down_since_seconds": seconds_since(master.down_since_ms));
    }
    lines!(text,
        "slave_priority": settings.replica_priority,
        "slave_read_only": u8::from(settings.replica_read_only),
        "replica_announced": u8::from(settings.replica_announced),
    );
}

fn replication(ctx: &mut Ctx, text: &mut String) -> Result {
    let engine = ctx.engine();
    let report = engine.replication.report(ctx.worker.now_ms());
    match engine.following.report() {
        Some(master) => followed(ctx, text, &master, &report),
        None => {
            lines!(text, "role": "master");
        }
    }
    lines!(text, "connected_slaves": report.followers.len());
    if ctx.worker.settings.min_replicas_to_write != 0 && ctx.worker.settings.min_replicas_max_lag != 0 {
        lines!(text, "min_slaves_good_slaves": engine.replication.good());
    }
    for (index, follower) in report.followers.iter().enumerate() {
        let Follower { ip, port, state, acked, lag_s } = follower;
        let _ = write!(text, "slave{index}:ip={ip},port={port},state={state},offset={acked},lag={lag_s}\r\n");
    }
    // Of replicas that take the snapshot and the feed over two connections, which are not served.
    lines!(text, "replicas_waiting_psync": 0);
    let (first, length) = match report.backlog {
        true => (report.backlog_start + 1, report.offset - report.backlog_start),
        false => (0, 0),
    };
    lines!(text,
        "master_failover_state": engine.failover.stage().word(),
        "master_replid": report.id,
        "master_replid2": report.before.as_ref().map_or("0".repeat(40), |(id, _)| id.clone()),
        "master_repl_offset": report.offset,
        "second_repl_offset": report.before.as_ref().map_or(-1, |(_, end)| *end as i64 + 1),
        "repl_backlog_active": u8::from(report.backlog),
        "repl_backlog_size": ctx.worker.settings.repl_backlog_size,
        "repl_backlog_first_byte_offset": first,
        "repl_backlog_histlen": length,
    );
    Ok(())
}

fn cpu(ctx: &mut Ctx, text: &mut String) -> Result {
    let (user, system) = ctx.worker.engine.platform.cpu_us();
    let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    lines!(text,
        "used_cpu_sys": seconds(system),
        "used_cpu_user": seconds(user),
        "used_cpu_sys_children": "0.000000",
        "used_cpu_user_children": "0.000000",
    );
    Ok(())
}

/// A figure of one command over all workers.
fn sum(engine: &Engine, id: usize, figure: impl Fn(&CommandCounters) -> u64) -> u64 {
    engine.total(|stats| stats.by_command.get(id).map_or(0, &figure))
}

fn command_stats(ctx: &mut Ctx, text: &mut String) -> Result {
    let engine = ctx.engine();
    for command in registry::all() {
        let of = |figure: fn(&CommandCounters) -> u64| sum(&engine, command.id, figure);
        let (calls, usec) = (of(|c| c.calls.get()), usec(&engine, command.id));
        let (rejected, failed) = (of(|c| c.rejected.get()), of(|c| c.failed.get()));
        if calls + rejected + failed != 0 {
            let average = if calls == 0 { 0.0 } else { usec as f64 / calls as f64 };
            let _ = write!(
                text,
                "cmdstat_{}:calls={calls},usec={usec},usec_per_call={average:.2},rejected_calls={rejected},\
                 failed_calls={failed}\r\n",
                command.name
            );
        }
    }
    Ok(())
}

fn error_stats(ctx: &mut Ctx, text: &mut String) -> Result {
    let engine = ctx.engine();
    let errors = engine.errors.lock().unwrap_or_else(PoisonError::into_inner);
    for (code, count) in errors.iter() {
        let _ = write!(text, "errorstat_{code}:count={count}\r\n");
    }
    Ok(())
}

fn raw_latency(engine: &Engine, id: usize) -> [u64; LATENCY_BUCKETS] {
    std::array::from_fn(|bucket| sum(engine, id, |counters| counters.latency[bucket].get()))
}

/// µs spent on a command.
fn usec(engine: &Engine, id: usize) -> u64 {
    let timed = raw_latency(engine, id).iter().sum();
    scaled(sum(engine, id, |counters| counters.usec.get()), sum(engine, id, |counters| counters.calls.get()), timed)
}

/// A sum over calls that stand for `timed`, for the `calls` that there were.
fn scaled(sum: u64, calls: u64, timed: u64) -> u64 {
    if timed == 0 { 0 } else { (u128::from(sum) * u128::from(calls) / u128::from(timed)) as u64 }
}

/// How many calls of a command took at most 1, 2, 4 … µs (each not counting those before), over all workers. Together they are
/// the calls that there were.
pub fn latency(engine: &Engine, id: usize) -> [u64; LATENCY_BUCKETS] {
    let raw = raw_latency(engine, id);
    let (timed, calls) = (raw.iter().sum(), sum(engine, id, |counters| counters.calls.get()));
    let (mut seen, mut shown) = (0, 0);
    raw.map(|count| {
        seen += count;
        let before = std::mem::replace(&mut shown, scaled(seen, calls, timed));
        shown - before
    })
}

fn latency_stats(ctx: &mut Ctx, text: &mut String) -> Result {
    let engine = ctx.engine();
    let settings = ctx.worker.settings.clone();
    if !settings.latency_tracking {
        return Ok(());
    }
    for command in registry::all() {
        let buckets = latency(&engine, command.id);
        let calls: u64 = buckets.iter().sum();
        if calls == 0 {
            continue;
        }
        let percentiles = settings.latency_tracking_info_percentiles.iter().map(|percent| {
            let wanted = (calls as f64 * percent / 100.0).ceil() as u64;
            let mut seen = 0;
            let bucket = buckets.iter().position(|count| {
                seen += count;
                seen >= wanted.max(1)
            });
            format!("p{percent}={}.000", 1u64 << bucket.unwrap_or(LATENCY_BUCKETS - 1))
        });
        let percentiles: Vec<String> = percentiles.collect();
        let _ = write!(text, "latency_percentiles_usec_{}:{}\r\n", command.name, percentiles.join(","));
    }
    Ok(())
}

fn cluster(_: &mut Ctx, text: &mut String) -> Result {
    lines!(text, "cluster_enabled": 0);
    Ok(())
}

/// A sum for each database: what `add` adds for each shard, beginning with `zero`. Shard by shard, so that nobody has to wait for
/// it, unless a transaction has them all.
///
/// # Errors
/// `Again` when a shard is busy.
pub(crate) fn add_up<T: Clone>(ctx: &mut Ctx, zero: T, add: impl Fn(&Txn, &mut T)) -> Result<Vec<T>> {
    let mut sums = vec![zero; ctx.worker.engine.keyspace.databases() as usize];
    let mut add_held = |txn: &mut Txn| {
        let before = txn.db();
        for (db, sum) in sums.iter_mut().enumerate() {
            txn.select(db as u32);
            add(txn, sum);
        }
        txn.select(before);
    };
    if ctx.txn.is_some() {
        ctx.with_shards(ShardSet::All, &mut add_held)?;
    } else {
        (0..SHARDS).try_for_each(|shard| ctx.with_shards(ShardSet::One(shard as u16), &mut add_held))?;
    }
    Ok(sums)
}

fn keyspace(ctx: &mut Ctx, text: &mut String) -> Result {
    let counts = add_up(ctx, (0, 0, 0), |txn, count| {
        count.0 += txn.key_count();
        count.1 += txn.volatile_count();
        count.2 += txn.volatile_hash_count();
    })?;
    for (db, (keys, expires, hashes)) in counts.iter().enumerate().filter(|(_, (keys, ..))| *keys != 0) {
        let _ = write!(text, "db{db}:keys={keys},expires={expires},avg_ttl=0,subexpiry={hashes}\r\n");
    }
    Ok(())
}
