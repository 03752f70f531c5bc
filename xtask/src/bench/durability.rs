//! `cargo xtask bench durability`: what a log costs, and how long a reply takes, next to a server without one and to Valkey.
//!
//! All servers run at once and take turns. Above the table stands how often the disk alone can be synced: with `always` no server
//! can do better than that times the writes that one sync serves. On a machine with other work, the round that cost least
//! processor time says more about a server than the median.

use super::figures::{median, percentile};
use super::load::{Load, Template};
use super::process::cpu_seconds;
use crate::{Outcome, root};
use kelda_sim::server::{Kind, Server};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const HELP: &str = "\
cargo xtask bench durability [options]     (build the server first: cargo build --release)
  --rounds N          rounds of each server (5)
  --seconds F         length of a round (1)
  --keys N            keys written to (100000)
  --servers A,B       only servers whose names contain one of these: always, \"kelda no\" (all)
  --connections N,M   (50,500)
  --pipelines N,M     (1,16)";

/// Server, name, and options.
const SERVERS: &[(Kind, &str, &[&str])] = &[
    (Kind::Kelda, "kelda, no log", &["--appendonly", "no"]),
    (Kind::Kelda, "kelda no", &["--appendonly", "yes", "--appendfsync", "no"]),
    (Kind::Kelda, "kelda everysec", &["--appendonly", "yes", "--appendfsync", "everysec"]),
    (Kind::Kelda, "kelda always", &["--appendonly", "yes", "--appendfsync", "always"]),
    (Kind::Valkey, "valkey, no log", &["--appendonly", "no"]),
    (Kind::Valkey, "valkey everysec", &["--appendonly", "yes", "--appendfsync", "everysec"]),
    (Kind::Valkey, "valkey always", &["--appendonly", "yes", "--appendfsync", "always"]),
];

/// Bytes of a value.
const VALUE: usize = 64;

/// `cargo xtask bench durability`
pub fn durability(args: &[String]) -> Outcome {
    let (mut rounds, mut round, mut keys) = (5, Duration::from_secs(1), 100_000);
    let (mut wanted, mut connections, mut pipelines) = (String::new(), vec![50, 500], vec![1, 16]);
    let numbers = |text: &str| text.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>().map_err(|_| HELP);
    for pair in args.chunks(2) {
        let [name, value] = pair else { return Err(HELP.into()) };
        match name.as_str() {
            "--rounds" => rounds = value.parse().map_err(|_| HELP)?,
            "--seconds" => round = Duration::from_secs_f64(value.parse().map_err(|_| HELP)?),
            "--keys" => keys = value.parse().map_err(|_| HELP)?,
            "--servers" => wanted = value.clone(),
            "--connections" => connections = numbers(value)?,
            "--pipelines" => pipelines = numbers(value)?,
            _ => return Err(HELP.into()),
        }
    }
    let in_io = |error: io::Error| format!("benchmark: {error}");
    let mut servers = Vec::new();
    for (kind, name, options) in SERVERS.iter().filter(|(_, name, _)| wanted.split(',').any(|part| name.contains(part)))
    {
        let Some(program) = kind.program(&root()) else {
            eprintln!("{} is not on this machine: left out", kind.name());
            continue;
        };
        // A rewrite would be measured, too.
        let options = [options, &["--auto-aof-rewrite-percentage", "0"][..]].concat();
        let server = Server::start(*kind, &program, &options).map_err(|e| format!("{}: {e}", program.display()))?;
        servers.push((*name, server));
    }
    println!(
        "The disk syncs {:.0} times a second. SET of {VALUE} bytes; latencies in ms.\n",
        sync_rate().map_err(in_io)?
    );
    println!(
        "| connections | P | server | op/s | CPU µs/op | least | log bytes/op | p50 | p99 | p99.9 | max |\n\
         |--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    );
    let template = [Template::new(&["SET", "key:@k", "@v"], &"x".repeat(VALUE), keys)];
    for &connections in &connections {
        for &pipeline in &pipelines {
            let mut loads = Vec::new();
            for (_, server) in &servers {
                let mut load = Load::connect(server.port, connections, pipeline, &template, 0).map_err(in_io)?;
                load.measure();
                loads.push(load);
            }
            let mut rates = vec![Vec::new(); servers.len()];
            let mut costs = vec![Vec::new(); servers.len()];
            let mut operations = vec![0; servers.len()];
            let logged: Vec<u64> = servers.iter().map(|(_, server)| log_bytes(server)).collect();
            for _ in 0..rounds {
                for (at, ((_, server), load)) in servers.iter().zip(&mut loads).enumerate() {
                    let before = cpu_seconds(server.pid()).map_err(in_io)?;
                    let done = load.run(round).map_err(in_io)?;
                    let cpu = cpu_seconds(server.pid()).map_err(in_io)? - before;
                    operations[at] += done.operations;
                    rates[at].push(done.operations as f64 / done.elapsed.as_secs_f64());
                    costs[at].push(cpu * 1e6 / done.operations as f64);
                }
            }
            // What waits to be written is.
            std::thread::sleep(Duration::from_millis(100));
            for (at, ((name, server), load)) in servers.iter().zip(&mut loads).enumerate() {
                let mut waits = load.take_latencies();
                waits.sort_unstable();
                let part = |share: f64| percentile(&waits, share) / 1000.0;
                let bytes = log_bytes(server) - logged[at];
                println!(
                    "| {connections} | {pipeline} | {name} | {:.0} | {:.2} | {:.2} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
                    median(&rates[at]),
                    median(&costs[at]),
                    costs[at].iter().copied().fold(f64::INFINITY, f64::min),
                    bytes / operations[at].max(1),
                    part(0.5),
                    part(0.99),
                    part(0.999),
                    part(1.0)
                );
            }
        }
    }
    Ok(())
}

/// Length of a server's log.
fn log_bytes(server: &Server) -> u64 {
    let files = std::fs::read_dir(server.directory().join("appendonlydir")).into_iter().flatten().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

/// How often a second a small write to a file can be synced, where the servers' directories are.
fn sync_rate() -> io::Result<f64> {
    let path = std::env::temp_dir().join(format!("kelda-bench-{}", std::process::id()));
    let file = std::fs::File::create(&path)?;
    let (start, mut count) = (Instant::now(), 0u64);
    while start.elapsed() < Duration::from_secs(1) {
        file.write_all_at(&[b'x'; 256], count * 256)?;
        file.sync_data()?;
        count += 1;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}
