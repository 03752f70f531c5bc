//! `cargo xtask bench`: Kelda, Valkey and Redis side by side on this machine.
//!
//! Rounds are interleaved (one of each server in turn), so that a disturbance of the machine hits all of them, and the
//! medians are compared. Next to operations per second stands the CPU time that the *server* spent for each of them, from
//! `/proc/PID/task/*/schedstat`: on a machine shared with the load generator it is the steadier figure, and the one that pays the bill.
//! This is a benchmark, not a test: nothing here fails for being slow.

mod collections;
mod durability;
mod figures;
mod floor;
mod hit_rate;
mod latency;
mod load;
mod memory;
mod probe;
mod process;
mod replies;
mod s3_fifo;
mod workload;

use crate::Outcome;
use kelda_sim::server::Kind;
use process::start;
use std::time::Duration;
use workload::{Figures, Rounds, SMALL, Sizes, compare, refill};

const HELP: &str = "\
cargo xtask bench [options]     (build the server first: cargo build --release)
  --quick              100,000 keys, 3 short rounds, P=1 and 16, 64-byte values
  --keys N             keys preloaded (1000000)
  --values 3,64,1024   bytes of a value
  --pipelines 1,16,64  requests sent at once on a connection
  --tests get,set,…    which of: get set incr expire hset hget lpush-lpop sadd zadd zrange xadd eval publish publish-100
                       multi-10 (all)
  --rounds N           rounds of each server (7)
  --seconds F          length of a round (1)
  --connections N      connections (50)
  --threads N          Kelda's threads (its default)
cargo xtask bench collections [--help]  what commands on collections and long values cost
cargo xtask bench floor [--help]        what a server costs that answers without parsing
cargo xtask bench memory [--help]       bytes per element, and memory after deleting and overwriting
cargo xtask bench latency [--help]      how long a reply takes at half of the peak load while something else goes on
cargo xtask bench durability [--help]   what a log costs, in each mode of appendfsync
cargo xtask bench hit-rate [--help]     how often a cache in too little memory has what it is asked for";

/// A benchmark, with the words behind its name.
type Benchmark = fn(&[String]) -> Outcome;

/// What else is measured.
const OTHERS: &[(&str, Benchmark)] = &[
    ("collections", collections::collections),
    ("floor", floor::floor),
    ("memory", memory::memory),
    ("latency", latency::latency),
    ("durability", durability::durability),
    ("hit-rate", hit_rate::hit_rate),
];

struct Options {
    sizes: Sizes,
    values: Vec<usize>,
    pipelines: Vec<usize>,
    tests: Vec<String>,
    rounds: Rounds,
    threads: Option<String>,
}

fn options(args: &[String]) -> Result<Options, String> {
    let mut options = Options {
        sizes: Sizes { keys: 1_000_000, elements: 1_000_000 },
        values: vec![3, 64, 1024],
        pipelines: vec![1, 16, 64],
        tests: SMALL.iter().map(|test| test.name.to_owned()).collect(),
        rounds: Rounds { count: 7, length: Duration::from_secs(1), connections: 50 },
        threads: None,
    };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        if name == "--quick" {
            (options.sizes.keys, options.rounds.count) = (100_000, 3);
            options.rounds.length = Duration::from_millis(300);
            (options.values, options.pipelines) = (vec![64], vec![1, 16]);
            continue;
        }
        let value = args.next().ok_or(HELP)?;
        match name.as_str() {
            "--keys" => options.sizes.keys = value.parse().map_err(|_| HELP)?,
            "--values" => options.values = numbers(value)?,
            "--pipelines" => options.pipelines = numbers(value)?,
            "--tests" => options.tests = value.split(',').map(str::to_owned).collect(),
            "--rounds" => options.rounds.count = value.parse().map_err(|_| HELP)?,
            "--seconds" => options.rounds.length = Duration::from_secs_f64(value.parse().map_err(|_| HELP)?),
            "--connections" => options.rounds.connections = value.parse().map_err(|_| HELP)?,
            "--threads" => options.threads = Some(value.clone()),
            _ => return Err(HELP.into()),
        }
    }
    Ok(options)
}

fn numbers(list: &str) -> Result<Vec<usize>, String> {
    list.split(',').map(|number| number.parse().map_err(|_| HELP.into())).collect()
}

/// `cargo xtask bench`
pub fn bench(args: &[String]) -> Outcome {
    if let Some((first, rest)) = args.split_first()
        && let Some((_, other)) = OTHERS.iter().find(|(name, _)| name == first)
    {
        return other(rest);
    }
    let options = options(args)?;
    let threads = options.threads.as_ref().map_or_else(Vec::new, |threads| vec!["--threads", threads]);
    let servers = start(&[Kind::Kelda, Kind::Valkey, Kind::Redis], &threads, &[])?;
    let reference = servers.iter().position(|server| server.kind == Kind::Valkey).unwrap_or(0);
    let in_io = |e: std::io::Error| format!("benchmark: {e}");
    println!(
        "{} keys, {} connections, {} rounds of {:?}; CPU is the server's, in µs per operation; × is relative to {}\n",
        options.sizes.keys,
        options.rounds.connections,
        options.rounds.count,
        options.rounds.length,
        servers[reference].kind.name()
    );
    let names = servers.iter().map(|server| server.kind.name());
    let columns: Vec<String> = names.map(|name| format!("{name} op/s | × | {name} CPU | ×")).collect();
    println!("| test | value | P | {} |", columns.join(" | "));
    println!("|---|--:|--:|{}", "--:|--:|--:|--:|".repeat(servers.len()));
    for &size in &options.values {
        refill(&servers, options.sizes, &"x".repeat(size)).map_err(in_io)?;
        for test in SMALL.iter().filter(|test| options.tests.iter().any(|name| name == test.name)) {
            for &pipeline in &options.pipelines {
                let figures = compare(&servers, test, pipeline, options.rounds, options.sizes, size).map_err(in_io)?;
                print_row(test.name, size, pipeline, &figures, reference);
            }
        }
    }
    Ok(())
}

fn print_row(name: &str, size: usize, pipeline: usize, figures: &[Figures], reference: usize) {
    let (rate, cpu) = (figures[reference].rate(), figures[reference].cpu());
    let cells = figures.iter().map(|figures| {
        let (own_rate, own_cpu) = (figures.rate(), figures.cpu());
        // Both ratios are "times better than the reference".
        format!("{own_rate:.0} | {:.2} | {own_cpu:.2} | {:.2}", own_rate / rate, cpu / own_cpu)
    });
    println!("| {name} | {size} | {pipeline} | {} |", cells.collect::<Vec<_>>().join(" | "));
}
