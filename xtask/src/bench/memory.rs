//! `cargo xtask bench memory`: bytes per element, and what memory comes back after deleting and overwriting, next to Valkey.
//!
//! Every figure is of a server that was started for it. Counted is what it grew by since it was empty.

use super::process::{resident, start, used_memory};
use super::replies::Caller;
use super::workload::{Count, Fill, STRINGS, Sizes};
use crate::Outcome;
use kelda_sim::server::{Kind, Server};
use std::io;
use std::time::{Duration, Instant};

const HELP: &str = "\
cargo xtask bench memory [options]     (build the server first: cargo build --release)
  --elements N         elements of a case in all, and of the biggest collection (1000000)
  --cases hash,storm…  which: names that begin so (all)
  --threads N          Kelda's threads (its default)";

const SERVERS: &[Kind] = &[Kind::Kelda, Kind::Valkey];

/// What a key of 16 bytes has.
const STRING_BYTES: &[usize] = &[8, 64];

/// Collections; their elements' names have 14 bytes, and values 8.
const COLLECTIONS: &[(&str, Fill)] = &[
    ("hash", Fill { command: &["HSET", "hash:@c"], element: &["f:@n", "@v"], ..STRINGS }),
    ("set", Fill { command: &["SADD", "set:@c"], element: &["m:@n"], ..STRINGS }),
    ("int-set", Fill { command: &["SADD", "ints:@c"], element: &["@s"], ..STRINGS }),
    ("zset", Fill { command: &["ZADD", "zset:@c"], element: &["@s", "m:@n"], ..STRINGS }),
    ("list", Fill { command: &["RPUSH", "list:@c"], element: &["e:@n"], ..STRINGS }),
    ("stream", Fill { command: &["XADD", "stream:@c", "*"], element: &["field", "e:@n"], at_once: 1, ..STRINGS }),
];

/// What is done to a server; what is there afterwards could also have been made at once.
struct Change {
    name: &'static str,
    /// Sizes of the values that the keys get, one after the other.
    values: &'static [usize],
    /// Of so many keys one is left; 0: no key is deleted.
    keep_one_in: u64,
}

const CHANGES: &[Change] = &[
    Change { name: "storm: 9 of 10 keys deleted, 64 B", values: &[64], keep_one_in: 10 },
    Change { name: "sizes: 8, 64, 8, 200 B", values: &[8, 64, 8, 200], keep_one_in: 0 },
    Change { name: "sizes: 8, 64, 8, 200 B, then 9 of 10 keys deleted", values: &[8, 64, 8, 200], keep_one_in: 10 },
];

/// `cargo xtask bench memory`
pub fn memory(args: &[String]) -> Outcome {
    let (mut elements, mut cases, mut threads) = (1_000_000, Vec::new(), Vec::new());
    for pair in args.chunks(2) {
        let [name, value] = pair else { return Err(HELP.into()) };
        match name.as_str() {
            "--elements" => elements = value.parse().map_err(|_| HELP)?,
            "--cases" => cases = value.split(',').collect(),
            "--threads" => threads = vec!["--threads", value],
            _ => return Err(HELP.into()),
        }
    }
    let wanted = |name: &str| cases.is_empty() || cases.iter().any(|case| name.starts_with(case));
    println!("{elements} elements in all; bytes per element; shares are Kelda's of Valkey's\n");
    println!(
        "| | elements of a key | RSS share | used_memory share | Kelda RSS | used_memory | Valkey RSS | used_memory |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for size in STRING_BYTES {
        let name = format!("string, 16 + {size} B");
        if wanted(&name) {
            let sizes = Sizes { keys: elements, elements };
            print_row(&name, "", elements, &grown(&threads, |server| STRINGS.run(server, sizes, &"x".repeat(*size)))?);
        }
    }
    for (name, fill) in COLLECTIONS.iter().filter(|(name, _)| wanted(name)) {
        for size in [10, 100, elements] {
            let sizes = Sizes { keys: elements.div_ceil(size), elements: size };
            let fill = Fill { elements: Count::Elements, ..*fill };
            print_row(
                name,
                &size.to_string(),
                elements,
                &grown(&threads, |server| fill.run(server, sizes, "12345678"))?,
            );
        }
    }
    println!(
        "\n| growth against a fresh server's with the same data | server | RSS | used_memory | RSS, MiB | fresh |"
    );
    println!("|---|---|--:|--:|--:|--:|");
    for change in CHANGES.iter().filter(|change| wanted(change.name)) {
        let changed = grown(&threads, |server| change.run(server, elements))?;
        let fresh = grown(&threads, |server| change.make(server, elements))?;
        for ((kind, after), fresh) in SERVERS.iter().zip(&changed).zip(&fresh) {
            println!(
                "| {} | {} | {:.2} | {:.2} | {:.1} | {:.1} |",
                change.name,
                kind.name(),
                after.resident / fresh.resident,
                after.used / fresh.used,
                after.resident / MIB,
                fresh.resident / MIB
            );
        }
    }
    Ok(())
}

const MIB: f64 = 1024.0 * 1024.0;

/// What a server grew by, in bytes.
struct Growth {
    resident: f64,
    used: f64,
}

/// Starts each server, has `work` done to it, and tells what it grew by.
fn grown(threads: &[&str], work: impl Fn(&Server) -> io::Result<()>) -> Result<Vec<Growth>, String> {
    let in_io = |error: io::Error| format!("benchmark: {error}");
    let one = |kind: &Kind| {
        let servers = start(&[*kind], threads, &[])?;
        let server = servers.first().ok_or("no server")?;
        let before = state(server).map_err(in_io)?;
        work(server).map_err(in_io)?;
        let after = settled(server).map_err(in_io)?;
        Ok(Growth { resident: after.resident - before.resident, used: after.used - before.used })
    };
    SERVERS.iter().map(one).collect()
}

fn state(server: &Server) -> io::Result<Growth> {
    Ok(Growth { resident: resident(server.pid())? as f64, used: used_memory(server)? as f64 })
}

/// A server's memory once it has stopped to change: what is freed in the background goes back to the system bit by bit.
fn settled(server: &Server) -> io::Result<Growth> {
    const QUIET: Duration = Duration::from_millis(1500);
    const LONGEST: Duration = Duration::from_secs(20);
    let start = Instant::now();
    let mut last = (resident(server.pid())?, Instant::now());
    while last.1.elapsed() < QUIET && start.elapsed() < LONGEST {
        std::thread::sleep(Duration::from_millis(50));
        let now = resident(server.pid())?;
        if now.abs_diff(last.0) > last.0 / 500 {
            last = (now, Instant::now());
        }
    }
    state(server)
}

fn print_row(name: &str, size: &str, elements: u64, growth: &[Growth]) {
    let [kelda, valkey] = growth else { return };
    let each = |bytes: f64| bytes / elements as f64;
    println!(
        "| {name} | {size} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} |",
        kelda.resident / valkey.resident,
        kelda.used / valkey.used,
        each(kelda.resident),
        each(kelda.used),
        each(valkey.resident),
        each(valkey.used)
    );
}

impl Change {
    fn run(&self, server: &Server, keys: u64) -> io::Result<()> {
        let sizes = Sizes { keys, elements: 0 };
        self.values.iter().try_for_each(|size| STRINGS.run(server, sizes, &"x".repeat(*size)))?;
        let mut caller = Caller::connect(server.port)?;
        for key in (0..keys).filter(|key| self.keep_one_in > 0 && key % self.keep_one_in != 0) {
            caller.queue(&["DEL", &format!("key:{key:012}")]);
            if caller.queued_bytes() > 1 << 16 {
                caller.flush()?;
            }
        }
        caller.flush()
    }

    /// What [`run`](Change::run) leaves, on an empty server.
    fn make(&self, server: &Server, keys: u64) -> io::Result<()> {
        let size = self.values.last().copied().unwrap_or_default();
        let sizes = Sizes { keys: keys / self.keep_one_in.max(1), elements: 0 };
        STRINGS.run(server, sizes, &"x".repeat(size))
    }
}
