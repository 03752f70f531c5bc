//! `cargo xtask bench collections`: what commands on collections and long values cost a server, next to Valkey.

use super::process::start;
use super::workload::{LARGE, Rounds, SMALL, Sizes, Test, VALUES, compare, refill};
use crate::Outcome;
use kelda_sim::server::Kind;
use std::io;
use std::time::Duration;

const HELP: &str = "\
cargo xtask bench collections [options]     (build the server first: cargo build --release)
  --tests hset,sort-1000,…  which (all)
  --rounds N                rounds of each server (7)
  --seconds F               length of a round (1)
  --keys N                  keys, for the commands on small values (1000000)
  --elements N              members of the big set of SINTER (1000000)
  --value N                 bytes of a value, where the test does not say (64)
  --connections N           connections (50)
  --threads N               Kelda's threads (its default)";

/// Tests with the same bar.
struct Group {
    tests: &'static [Test],
    pipelines: &'static [usize],
    /// What share of Valkey's processor time Kelda is to need at the last of the pipelines.
    target: f64,
}

const GROUPS: &[Group] = &[
    Group { tests: SMALL, pipelines: &[1, 16], target: 0.5 },
    Group { tests: LARGE, pipelines: &[1], target: 0.6 },
    Group { tests: VALUES, pipelines: &[1], target: 1.0 },
];

/// `cargo xtask bench collections`
pub fn collections(args: &[String]) -> Outcome {
    let mut rounds = Rounds { count: 7, length: Duration::from_secs(1), connections: 50 };
    let mut sizes = Sizes { keys: 1_000_000, elements: 1_000_000 };
    let (mut tests, mut value_size, mut threads) = (Vec::new(), 64, Vec::new());
    for pair in args.chunks(2) {
        let [name, value] = pair else { return Err(HELP.into()) };
        match name.as_str() {
            "--tests" => tests = value.split(',').collect(),
            "--rounds" => rounds.count = value.parse().map_err(|_| HELP)?,
            "--seconds" => rounds.length = Duration::from_secs_f64(value.parse().map_err(|_| HELP)?),
            "--keys" => sizes.keys = value.parse().map_err(|_| HELP)?,
            "--elements" => sizes.elements = value.parse().map_err(|_| HELP)?,
            "--value" => value_size = value.parse().map_err(|_| HELP)?,
            "--connections" => rounds.connections = value.parse().map_err(|_| HELP)?,
            "--threads" => threads = vec!["--threads", value],
            _ => return Err(HELP.into()),
        }
    }
    let in_io = |error: io::Error| format!("benchmark: {error}");
    let servers = start(&[Kind::Kelda, Kind::Valkey], &threads, &[])?;
    let names: Vec<&str> = servers.iter().map(|server| server.kind.name()).collect();
    println!(
        "{} keys, {} connections, {} rounds of {:?}; CPU is the server's, in µs per operation; shares are Kelda's of Valkey's\n",
        sizes.keys, rounds.connections, rounds.count, rounds.length
    );
    println!("| test | P | CPU share | bar | op/s share | {} CPU | {} op/s |", names.join(" CPU | "), names[0]);
    println!("|---|--:|--:|--:|--:|{}--:|", "--:|".repeat(names.len()));
    for group in GROUPS {
        let mut tests = group.tests.iter().filter(|test| tests.is_empty() || tests.contains(&test.name)).peekable();
        if tests.peek().is_some() {
            refill(&servers, sizes, &"x".repeat(value_size)).map_err(in_io)?;
        }
        for test in tests {
            for pipeline in group.pipelines {
                let figures = compare(&servers, test, *pipeline, rounds, sizes, value_size).map_err(in_io)?;
                let (first, last) = (&figures[0], &figures[figures.len() - 1]);
                let bar = if Some(pipeline) == group.pipelines.last() {
                    format!("{:.2}", group.target)
                } else {
                    String::new()
                };
                let cpu: Vec<String> = figures.iter().map(|figures| format!("{:.2}", figures.cpu())).collect();
                println!(
                    "| {} | {pipeline} | {:.2} | {bar} | {:.2} | {} | {:.0} |",
                    test.name,
                    first.cpu() / last.cpu(),
                    first.rate() / last.rate(),
                    cpu.join(" | "),
                    first.rate()
                );
            }
        }
    }
    Ok(())
}
