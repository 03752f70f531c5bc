//! MEMORY, and the figures that INFO has too: where the memory goes.

use super::object::about;
use crate::args::Args;
use crate::clients::ClientInfo;
use crate::command::{Command, Flags, Group, Keys, Reply, Run};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::info::add_up;
use kelda_store::txn::View;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The family.
pub static COMMANDS: &[Command] = &[Command {
    name: "MEMORY",
    arity: -2,
    group: Group::Server,
    since: "4.0.0",
    summary: "Commands that tell where memory goes.",
    complexity: "Depends on the subcommand",
    run: Run::Group(MEMORY),
    ..Command::BASE
}];

const MEMORY_BASE: Command = Command { arity: 2, group: Group::Server, since: "4.0.0", ..Command::BASE };
const FIGURES: &[&str] = &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];

static MEMORY: &[Command] = &[
    Command {
        name: "USAGE",
        arity: -3,
        keys: &[Keys::at(2).look()],
        syntax: "key [SAMPLES count]",
        summary: "Returns the memory that a key and its value take, in bytes.",
        complexity: "O(1) for a string; O(N) in the number of blocks of a collection",
        run: Run::Read(usage),
        ..MEMORY_BASE
    },
    Command {
        name: "DOCTOR",
        whole_keyspace: true,
        summary: "Tells about problems with memory.",
        tips: FIGURES,
        run: Run::Session(doctor),
        ..MEMORY_BASE
    },
    Command {
        name: "STATS",
        whole_keyspace: true,
        summary: "Returns figures about the memory in use.",
        complexity: "O(1) in the number of keys",
        tips: FIGURES,
        run: Run::Session(stats),
        ..MEMORY_BASE
    },
    Command {
        name: "MALLOC-STATS",
        flags: Flags::LOADING,
        summary: "Returns the allocator's figures.",
        tips: FIGURES,
        run: Run::Session(malloc_stats),
        ..MEMORY_BASE
    },
    Command {
        name: "PURGE",
        flags: Flags::LOADING,
        summary: "Gives unused memory back to the system at once, and looks for sparsely used pages.",
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        run: Run::Session(|ctx, _, reply| {
            ctx.worker.purge();
            reply.ok();
            Ok(())
        }),
        ..MEMORY_BASE
    },
    Command {
        name: "HELP",
        flags: Flags::LOADING.and(Flags::STALE),
        summary: "Lists the subcommands.",
        run: Run::Session(|_, _, reply| {
            super::help(reply, "MEMORY", MEMORY_HELP);
            Ok(())
        }),
        ..MEMORY_BASE
    },
];

const MEMORY_HELP: &[(&str, &str)] = &[
    ("DOCTOR", "Problems with memory."),
    ("MALLOC-STATS", "The allocator's figures."),
    ("PURGE", "Gives unused memory back."),
    ("STATS", "Figures about the memory in use."),
    ("USAGE <key> [SAMPLES <count>]", "Bytes that the key and its value take; SAMPLES makes no difference."),
];

/// Where the memory goes, in bytes.
pub(crate) struct Figures {
    /// What the allocator has handed out, now,
    pub used: usize,
    /// at most,
    pub peak: usize,
    /// and when the server had started.
    pub start: usize,
    /// What the process holds; what is in use where the system does not tell.
    pub resident: usize,
    /// What was fed to replicas and is kept for those that come back,
    pub backlog: usize,
    /// and for those that are slow.
    pub replicas: usize,
    pub clients: usize,
    /// What the log has not written yet.
    pub log: usize,
    /// Texts of scripts, and of functions.
    pub scripts: usize,
    pub functions: usize,
    /// Keys of each database, and what their hash table takes.
    pub databases: Vec<(usize, usize)>,
    /// When keys are due.
    pub expiry_index: usize,
}

impl Figures {
    /// Looks, shard by shard.
    ///
    /// # Errors
    /// `Again` when a shard is busy.
    pub fn of(ctx: &mut Ctx) -> Result<Figures> {
        let sums = add_up(ctx, (0, 0, 0), |txn, sum| {
            sum.0 += txn.key_count();
            sum.1 += txn.table_bytes();
            // Of all databases together.
            sum.2 += if txn.db() == 0 { txn.expiry_index_bytes() } else { 0 };
        })?;
        let engine = ctx.engine();
        let used = engine.platform.used_memory();
        let resident = engine.platform.resident_memory();
        let replication = engine.replication.report(0);
        // Blocks of the feed are a bit more than the backlog also if nobody is slow.
        let owed = if replication.followers.is_empty() { 0 } else { engine.replication.owed_bytes() as usize };
        let is_normal = |info: &&Arc<ClientInfo>| !info.replica.load(Relaxed);
        Ok(Figures {
            used,
            peak: engine.note_memory(),
            start: engine.memory_at_start.load(Relaxed).min(used),
            resident: if resident == 0 { used } else { resident },
            backlog: replication.memory_bytes.min(ctx.worker.settings.repl_backlog_size as usize),
            replicas: owed,
            clients: engine.clients.all().iter().filter(is_normal).map(|info| info.memory()).sum(),
            log: engine.log.sink().map_or(0, |sink| sink.figures().buffered_bytes as usize),
            scripts: engine.scripts.size().1,
            functions: engine.functions.current().bytes(),
            databases: sums.iter().map(|(keys, table, _)| (*keys, *table)).collect(),
            expiry_index: sums.iter().map(|(_, _, expiry)| expiry).sum(),
        })
    }

    /// What hash tables of keys take.
    pub fn tables(&self) -> usize {
        self.databases.iter().map(|(_, table)| table).sum()
    }

    pub fn keys(&self) -> usize {
        self.databases.iter().map(|(keys, _)| keys).sum()
    }

    /// What is in use for anything but keys and values.
    pub fn overhead(&self) -> usize {
        let serving = self.backlog + self.replicas + self.clients + self.log + self.scripts + self.functions;
        (self.start + serving + self.tables() + self.expiry_index).min(self.used)
    }

    /// What keys and values take.
    pub fn dataset(&self) -> usize {
        self.used - self.overhead()
    }

    /// The part of [`Figures::dataset`] in what is in use since the start, in percent.
    pub fn dataset_percent(&self) -> f64 {
        percent(self.dataset(), self.used - self.start)
    }

    /// Resident bytes for each byte in use.
    pub fn fragmentation(&self) -> f64 {
        self.resident as f64 / self.used.max(1) as f64
    }
}

fn percent(part: usize, whole: usize) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

fn usage(view: &View, args: &Args, reply: &mut Reply) -> Result {
    // Collections know their size: there is nothing to sample, but the number is checked.
    for at in (3..args.len()).step_by(2) {
        if !args.is(at, "SAMPLES") || at + 1 == args.len() || args.int(at + 1)? < 0 {
            return Err(Error::Syntax);
        }
    }
    about(view, args, reply, |entry, reply| {
        reply.int((entry.allocated_bytes() + entry.value().collection_bytes()) as i64);
        Ok(())
    })
}

fn doctor(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    /// Below this, memory tells more about the program than about the data.
    const SMALL_BYTES: usize = 5 << 20;
    /// What was in use once, for each byte in use now, that is worth a remark,
    const PEAK: f64 = 1.5;
    /// and resident bytes,
    const FRAGMENTED: f64 = 1.4;
    /// if they are so many more,
    const FRAGMENTED_BYTES: usize = 10 << 20;
    /// and what a client holds on average,
    const CLIENT_BYTES: usize = 200 << 10;
    /// what replicas owe,
    const REPLICA_BYTES: usize = 10 << 20;
    /// and scripts.
    const SCRIPTS: usize = 1000;
    let figures = Figures::of(ctx)?;
    let engine = ctx.engine();
    let clients = engine.clients.all().len();
    let replicas = engine.replication.report(0).followers.len();
    let scripts = engine.scripts.size().0;
    let mut found: Vec<String> = Vec::new();
    if figures.peak as f64 > figures.used as f64 * PEAK {
        found.push(format!(
            "Peak: {} bytes were in use once, {} are now. What is resident is measured by the peak: the figures on \
             fragmentation tell little until there is as much data again.",
            figures.peak, figures.used
        ));
    }
    if figures.fragmentation() > FRAGMENTED && figures.resident - figures.used > FRAGMENTED_BYTES {
        found.push(format!(
            "High fragmentation: the process holds {:.2} times the memory that is in use. That is usual after many keys were \
             deleted; the memory is used again as data grows, and whole pages that are free go back to the system.",
            figures.fragmentation()
        ));
    }
    if clients != 0 && figures.clients / clients > CLIENT_BYTES {
        found.push(format!(
            "Big buffers of clients: {} bytes for each on average. Somebody asks for more than it reads, or subscribes and is \
             slow: CLIENT LIST tells who (omem, qbuf). `client-output-buffer-limit` and `maxmemory-clients` set bounds.",
            figures.clients / clients
        ));
    }
    if replicas != 0 && figures.replicas / replicas > REPLICA_BYTES {
        found.push(format!(
            "Big buffers of replicas: {} bytes are kept for those that are slow. Look at their network and load; \
             `client-output-buffer-limit replica` sets bounds.",
            figures.replicas
        ));
    }
    if scripts > SCRIPTS {
        found.push(format!(
            "Many scripts: {scripts} are in the cache. A script that is made up anew each time, with values in its text, should \
             take them as arguments; SCRIPT FLUSH empties the cache."
        ));
    }
    let text = if figures.used < SMALL_BYTES {
        "There is hardly any data here yet, so there is nothing to say about its memory.\n".to_string()
    } else if found.is_empty() {
        "No problem with memory was found.\n".to_string()
    } else {
        found.iter().map(|line| format!(" * {line}\n")).collect()
    };
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn malloc_stats(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    let platform = &ctx.worker.engine.platform;
    let mut text = format!("allocated: {}\n", platform.used_memory());
    match platform.resident_memory() {
        0 => {}
        resident => text.push_str(&format!("resident: {resident}\n")),
    }
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn stats(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    /// A line of the reply.
    enum Figure {
        Bytes(usize),
        Ratio(f64),
        Table(usize),
    }
    use Figure::{Bytes, Ratio, Table};
    let figures = Figures::of(ctx)?;
    let Figures { used, peak, start, resident, .. } = figures;
    let (keys, dataset) = (figures.keys(), figures.dataset());
    let mut lines: Vec<(String, Figure)> = Vec::new();
    let mut add = |name: &str, figure: Figure| lines.push((name.to_owned(), figure));
    add("peak.allocated", Bytes(peak));
    add("total.allocated", Bytes(used));
    add("startup.allocated", Bytes(start));
    add("replication.backlog", Bytes(figures.backlog));
    add("replicas.repl.buffer", Bytes(figures.replicas));
    add("clients.slaves", Bytes(figures.replicas));
    add("clients.normal", Bytes(figures.clients));
    add("cluster.links", Bytes(0));
    add("aof.buffer", Bytes(figures.log));
    add("lua.caches", Bytes(figures.scripts));
    add("functions.caches", Bytes(figures.functions));
    for (db, (_, table)) in figures.databases.iter().enumerate().filter(|(_, (keys, _))| *keys != 0) {
        add(&format!("db.{db}"), Table(*table));
    }
    add("overhead.db.hashtable.lut", Bytes(figures.tables()));
    add("overhead.db.hashtable.rehashing", Bytes(0));
    add("overhead.expiry.index", Bytes(figures.expiry_index));
    add("overhead.total", Bytes(figures.overhead()));
    add("db.dict.rehashing.count", Bytes(0));
    add("keys.count", Bytes(keys));
    add("keys.bytes-per-key", Bytes(used.saturating_sub(start).checked_div(keys).unwrap_or(0)));
    add("dataset.bytes", Bytes(dataset));
    add("dataset.percentage", Ratio(figures.dataset_percent()));
    add("peak.percentage", Ratio(percent(used, peak)));
    add("allocator.allocated", Bytes(used));
    // The allocator does not tell which pages it uses. As in Redis with such a one: those that are resident.
    let unused = resident.saturating_sub(used);
    add("allocator.active", Bytes(resident));
    add("allocator.resident", Bytes(resident));
    add("allocator.muzzy", Bytes(0));
    add("allocator-fragmentation.ratio", Ratio(figures.fragmentation()));
    add("allocator-fragmentation.bytes", Bytes(unused));
    add("allocator-rss.ratio", Ratio(1.0));
    add("allocator-rss.bytes", Bytes(0));
    add("rss-overhead.ratio", Ratio(1.0));
    add("rss-overhead.bytes", Bytes(0));
    add("fragmentation", Ratio(figures.fragmentation()));
    add("fragmentation.bytes", Bytes(unused));
    reply.map(lines.len());
    for (name, figure) in &lines {
        reply.bulk(name.as_bytes());
        match figure {
            Bytes(bytes) => reply.int(*bytes as i64),
            Ratio(ratio) => reply.double(*ratio),
            Table(bytes) => {
                reply.map(2);
                reply.bulk(b"overhead.hashtable.main");
                reply.int(*bytes as i64);
                // When a key expires stands with the key, and in one index for all databases.
                reply.bulk(b"overhead.hashtable.expires");
                reply.int(0);
            }
        }
    }
    Ok(())
}
