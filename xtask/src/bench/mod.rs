//! `cargo xtask bench`: Kelda, Valkey and Redis side by side on this machine.
//!
//! Rounds are interleaved (one of each server in turn), so that a disturbance of the machine hits all of them, and the
//! medians are compared. Next to operations per second stands the CPU time that the *server* spent for each of them, from
//! `/proc/PID/stat`: on a machine shared with the load generator it is the steadier figure, and the one that pays the bill.
//! This is a benchmark, not a test: nothing here fails for being slow.

mod durability;
mod hit_rate;
mod load;

use crate::{Outcome, root};
use kelda_sim::client::Client;
use kelda_sim::server::{Kind, Server};
use load::{Load, Template};
use std::time::Duration;

const HELP: &str = "\
cargo xtask bench [options]     (build the server first: cargo build --release)
  --quick              100,000 keys, 3 short rounds, P=1 and 16, 64-byte values
  --keys N             keys preloaded (1000000)
  --values 3,64,1024   bytes of a value
  --pipelines 1,16,64  requests sent at once on a connection
  --tests get,set,…    which of: get set incr hset lpush-lpop zadd zrange publish eval (all)
  --rounds N           rounds of each server (7)
  --seconds F          length of a round (1)
  --connections N      connections (50)
  --threads N          Kelda's threads (its default)
  --no-memory          leave out bytes per key
cargo xtask bench durability [--help]  what a log costs, in each mode of appendfsync
cargo xtask bench hit-rate [--help]   how often a cache in too little memory has what it is asked for";

/// A kind of operation. `@k` stands for 12 digits of a random key, `@h` for those of one of a hundred, `@v` for the value.
struct Test {
    name: &'static str,
    /// Sent once for each of the hundred `@h`, before the first round.
    prepare: &'static [&'static str],
    /// Sent in turn on every connection.
    requests: &'static [&'static [&'static str]],
    /// Whether one more connection listens.
    subscribe: bool,
}

const TESTS: &[Test] = &[
    Test { name: "get", prepare: &[], requests: &[&["GET", "key:@k"]], subscribe: false },
    Test { name: "set", prepare: &[], requests: &[&["SET", "key:@k", "@v"]], subscribe: false },
    Test { name: "incr", prepare: &[], requests: &[&["INCR", "counter:@k"]], subscribe: false },
    Test { name: "hset", prepare: &[], requests: &[&["HSET", "hash:@k", "field", "@v"]], subscribe: false },
    Test {
        name: "lpush-lpop",
        prepare: &[],
        requests: &[&["LPUSH", "list:@k", "@v"], &["LPOP", "list:@k"]],
        subscribe: false,
    },
    Test { name: "zadd", prepare: &[], requests: &[&["ZADD", "zset:@h", "@k", "member:@k"]], subscribe: false },
    Test {
        name: "zrange",
        prepare: &["ZADD", "ranged:@h", "1", "a", "2", "b", "3", "c", "4", "d", "5", "e", "6", "f", "7", "g", "8", "h"],
        requests: &[&["ZRANGE", "ranged:@h", "0", "9"]],
        subscribe: false,
    },
    Test { name: "publish", prepare: &[], requests: &[&["PUBLISH", "channel", "@v"]], subscribe: true },
    Test {
        name: "eval",
        prepare: &[],
        requests: &[&["EVAL", "return redis.call('GET', KEYS[1])", "1", "key:@k"]],
        subscribe: false,
    },
];

struct Options {
    keys: u64,
    values: Vec<usize>,
    pipelines: Vec<usize>,
    tests: Vec<String>,
    rounds: usize,
    round: Duration,
    connections: usize,
    threads: Option<String>,
    memory: bool,
}

fn options(args: &[String]) -> Result<Options, String> {
    let mut options = Options {
        keys: 1_000_000,
        values: vec![3, 64, 1024],
        pipelines: vec![1, 16, 64],
        tests: TESTS.iter().map(|test| test.name.to_owned()).collect(),
        rounds: 7,
        round: Duration::from_secs(1),
        connections: 50,
        threads: None,
        memory: true,
    };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        match name.as_str() {
            "--quick" => {
                (options.keys, options.rounds, options.round) = (100_000, 3, Duration::from_millis(300));
                (options.values, options.pipelines) = (vec![64], vec![1, 16]);
                continue;
            }
            "--no-memory" => {
                options.memory = false;
                continue;
            }
            _ => {}
        }
        let value = args.next().ok_or(HELP)?;
        match name.as_str() {
            "--keys" => options.keys = value.parse().map_err(|_| HELP)?,
            "--values" => options.values = numbers(value)?,
            "--pipelines" => options.pipelines = numbers(value)?,
            "--tests" => options.tests = value.split(',').map(str::to_owned).collect(),
            "--rounds" => options.rounds = value.parse().map_err(|_| HELP)?,
            "--seconds" => options.round = Duration::from_secs_f64(value.parse().map_err(|_| HELP)?),
            "--connections" => options.connections = value.parse().map_err(|_| HELP)?,
            "--threads" => options.threads = Some(value.clone()),
            _ => return Err(HELP.into()),
        }
    }
    Ok(options)
}

fn numbers(list: &str) -> Result<Vec<usize>, String> {
    list.split(',').map(|number| number.parse().map_err(|_| HELP.into())).collect()
}

/// One server's figures of one test.
#[derive(Default)]
struct Figures {
    per_second: Vec<f64>,
    cpu_us: Vec<f64>,
}

/// `cargo xtask bench`
pub fn bench(args: &[String]) -> Outcome {
    if let Some(("hit-rate", rest)) = args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return hit_rate::hit_rate(rest);
    }
    if let Some(("durability", rest)) = args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return durability::durability(rest);
    }
    let options = options(args)?;
    let servers = start(&options)?;
    let reference = servers.iter().position(|server| server.kind == Kind::Valkey).unwrap_or(0);
    let in_io = |e: std::io::Error| format!("benchmark: {e}");
    println!(
        "{} keys, {} connections, {} rounds of {:?}; CPU is the server's, in µs per operation; × is relative to {}\n",
        options.keys,
        options.connections,
        options.rounds,
        options.round,
        servers[reference].kind.name()
    );
    let names = servers.iter().map(|server| server.kind.name());
    let columns: Vec<String> = names.map(|name| format!("{name} op/s | × | {name} CPU | ×")).collect();
    println!("| test | value | P | {} |", columns.join(" | "));
    println!("|---|--:|--:|{}", "--:|--:|--:|--:|".repeat(servers.len()));
    for &size in &options.values {
        for server in &servers {
            preload(server, options.keys, size).map_err(in_io)?;
        }
        for test in TESTS.iter().filter(|test| options.tests.iter().any(|name| name == test.name)) {
            for &pipeline in &options.pipelines {
                let figures = run_test(&servers, test, size, pipeline, &options).map_err(in_io)?;
                print_row(test.name, size, pipeline, &figures, reference);
            }
        }
    }
    drop(servers);
    if options.memory {
        println!("\n| bytes per key (16-byte keys) | value | RSS | used_memory |\n|---|--:|--:|--:|");
        for size in [8, 64] {
            for server in start(&options)? {
                let (rss, used) = memory(&server, options.keys, size).map_err(in_io)?;
                println!("| {} | {size} | {rss:.1} | {used:.1} |", server.kind.name());
            }
        }
    }
    Ok(())
}

fn start(options: &Options) -> Result<Vec<Server>, String> {
    let mut servers = Vec::new();
    for kind in [Kind::Kelda, Kind::Valkey, Kind::Redis] {
        let Some(program) = kind.program(&root()) else {
            eprintln!("{} is not on this machine: left out", kind.name());
            continue;
        };
        let extra = match &options.threads {
            Some(threads) if kind == Kind::Kelda => vec!["--threads", threads],
            _ => vec![],
        };
        servers.push(Server::start(kind, &program, &extra).map_err(|e| format!("{}: {e}", program.display()))?);
    }
    if servers.is_empty() { Err("no server to measure".into()) } else { Ok(servers) }
}

/// An empty server gets `keys` keys of `size` bytes each.
fn preload(server: &Server, keys: u64, size: usize) -> std::io::Result<()> {
    let mut client = Client::connect(&server.address())?;
    client.words("FLUSHALL")?;
    let value = "x".repeat(size);
    for first in (0..keys).step_by(1000) {
        let batch = first..keys.min(first + 1000);
        batch.clone().for_each(|key| client.queue(&["SET", &format!("key:{key:012}"), &value]));
        client.flush()?;
        for _ in batch {
            client.receive()?;
        }
    }
    Ok(())
}

fn run_test(
    servers: &[Server],
    test: &Test,
    size: usize,
    pipeline: usize,
    options: &Options,
) -> std::io::Result<Vec<Figures>> {
    let value = "x".repeat(size);
    let mut loads = Vec::new();
    for server in servers {
        if !test.prepare.is_empty() {
            let mut client = Client::connect(&server.address())?;
            for number in 0..100 {
                let digits = format!("{number:012}");
                client.call(&test.prepare.iter().map(|word| word.replace("@h", &digits)).collect::<Vec<_>>())?;
            }
        }
        let templates: Vec<Template> =
            test.requests.iter().map(|words| Template::new(words, &value, options.keys)).collect();
        let subscribe = test.subscribe.then_some("channel");
        loads.push(Load::connect(server.port, options.connections, pipeline, &templates, subscribe)?);
    }
    let mut figures: Vec<Figures> = servers.iter().map(|_| Figures::default()).collect();
    for _ in 0..options.rounds {
        for ((server, load), figures) in servers.iter().zip(&mut loads).zip(&mut figures) {
            let before = cpu_seconds(server.pid())?;
            let done = load.run(options.round)?;
            let cpu = cpu_seconds(server.pid())? - before;
            figures.per_second.push(done.operations as f64 / done.elapsed.as_secs_f64());
            figures.cpu_us.push(cpu * 1e6 / done.operations as f64);
        }
    }
    Ok(figures)
}

fn print_row(name: &str, size: usize, pipeline: usize, figures: &[Figures], reference: usize) {
    let rate = median(&figures[reference].per_second);
    let cpu = median(&figures[reference].cpu_us);
    let cells = figures.iter().map(|figures| {
        let (own_rate, own_cpu) = (median(&figures.per_second), median(&figures.cpu_us));
        // Both ratios are "times better than the reference".
        format!("{own_rate:.0} | {:.2} | {own_cpu:.2} | {:.2}", own_rate / rate, cpu / own_cpu)
    });
    println!("| {name} | {size} | {pipeline} | {} |", cells.collect::<Vec<_>>().join(" | "));
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// User and system time of a process, all threads.
fn cpu_seconds(pid: u32) -> std::io::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold spaces; utime and stime are the 12th and 13th field after it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    // USER_HZ is 100 on every Linux that runs here.
    Ok((ticks(11) + ticks(12)) / 100.0)
}

/// Bytes per key by resident memory and by the server's own count.
fn memory(server: &Server, keys: u64, size: usize) -> std::io::Result<(f64, f64)> {
    let used = || -> std::io::Result<f64> {
        let reply = Client::connect(&server.address())?.words("INFO memory")?;
        let text = String::from_utf8_lossy(reply.bytes().unwrap_or_default()).into_owned();
        let field = text.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
        Ok(field.unwrap_or(f64::NAN))
    };
    let resident = || -> std::io::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<f64>().ok());
        Ok(kib.unwrap_or(f64::NAN) * 1024.0)
    };
    let (rss_before, used_before) = (resident()?, used()?);
    preload(server, keys, size)?;
    let keys = keys as f64;
    Ok(((resident()? - rss_before) / keys, (used()? - used_before) / keys))
}
