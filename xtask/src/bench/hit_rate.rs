//! `cargo xtask bench hit-rate`: how often a cache in too little memory has what it is asked for.
//!
//! Each server gets the same requests as a cache-aside client makes them: a GET, and a SET when it finds nothing. So it
//! depends on the server alone which keys it keeps. All have the same memory for them, and the same time: the policies
//! count in seconds, so requests come at an even pace. The yardstick is S3-FIFO, with room for as many keys as there were if keys
//! needed no memory besides their values.

use super::process::used_memory;
use super::s3_fifo::S3Fifo;
use crate::{Outcome, root};
use kelda_sim::client::Client;
use kelda_sim::rng::Rng;
use kelda_sim::server::{Kind, Server};
use kelda_sim::value::Value;
use std::io;
use std::time::{Duration, Instant};

const HELP: &str = "\
cargo xtask bench hit-rate [options]
  --requests N     requests of each trace (800000)
  --keys N         keys that are asked for again and again (200000)
  --room PERCENT   how many of them there is memory for (10)
  --seconds N      for how long a trace lasts (30)
  --policies P,…   (allkeys-lru,allkeys-lfu,allkeys-random)";

struct Options {
    requests: u64,
    keys: u64,
    room: u64,
    seconds: u64,
    policies: Vec<String>,
}

/// Bytes of a value: so many that what a server needs for a key besides hardly matters.
const VALUE_BYTES: usize = 1000;
/// Requests sent at once.
const BATCH: u64 = 50;

/// The numbers of the keys that are asked for, in order.
struct Trace {
    name: &'static str,
    /// One request in so many belongs to a scan over keys that are asked for once; 0 for no scan.
    scan_one_in: u64,
}

const TRACES: &[Trace] =
    &[Trace { name: "Zipf", scan_one_in: 0 }, Trace { name: "Zipf, a third of it a scan", scan_one_in: 3 }];

impl Trace {
    fn keys(&self, options: &Options) -> Vec<u64> {
        // Zipf's law with exponent 1: the n-th most wanted key is wanted 1/n as often as the first.
        let mut sums = Vec::with_capacity(options.keys as usize);
        let mut sum = 0.0;
        for rank in 1..=options.keys {
            sum += 1.0 / rank as f64;
            sums.push(sum);
        }
        let (mut rng, mut scanned) = (Rng::new(1), options.keys);
        (0..options.requests)
            .map(|_| {
                if self.scan_one_in != 0 && rng.one_in(self.scan_one_in) {
                    scanned += 1;
                    return scanned;
                }
                let drawn = rng.next_u64() as f64 / u64::MAX as f64 * sum;
                sums.partition_point(|sum| *sum < drawn) as u64
            })
            .collect()
    }
}

/// `cargo xtask bench hit-rate`
pub fn hit_rate(args: &[String]) -> Outcome {
    let options = options(args)?;
    let kinds: Vec<Kind> =
        [Kind::Kelda, Kind::Valkey, Kind::Redis].into_iter().filter(|kind| kind.program(&root()).is_some()).collect();
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    println!("| trace | policy | {} | S3-FIFO |", names.join(" | "));
    println!("|---|---|{}", "--:|".repeat(kinds.len() + 1));
    for trace in TRACES {
        let keys = trace.keys(&options);
        let yardstick = yardstick(&keys, &options);
        for policy in &options.policies {
            let replay = |kind: &Kind| replay(*kind, policy, &keys, &options).map_err(|error| format!("{error}"));
            let rates: Result<Vec<f64>, String> = std::thread::scope(|scope| {
                let replays: Vec<_> = kinds.iter().map(|kind| scope.spawn(move || replay(kind))).collect();
                replays.into_iter().map(|thread| thread.join().map_err(|_| "a replay panicked")?).collect()
            });
            let rates = rates?.into_iter().chain([yardstick]).map(|rate| format!("{:.2} %", rate * 100.0));
            println!("| {} | {policy} | {} |", trace.name, rates.collect::<Vec<_>>().join(" | "));
        }
    }
    Ok(())
}

fn options(args: &[String]) -> Result<Options, String> {
    let policies = ["allkeys-lru", "allkeys-lfu", "allkeys-random"].map(String::from).to_vec();
    let mut options = Options { requests: 800_000, keys: 200_000, room: 10, seconds: 30, policies };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let value = args.next().ok_or(HELP)?;
        let number = || value.parse::<u64>().map_err(|_| HELP);
        match name.as_str() {
            "--requests" => options.requests = number()?,
            "--keys" => options.keys = number()?,
            "--room" => options.room = number()?,
            "--seconds" => options.seconds = number()?,
            "--policies" => options.policies = value.split(',').map(str::to_owned).collect(),
            _ => return Err(HELP.into()),
        }
    }
    Ok(options)
}

/// The share of the second half of the requests that S3-FIFO would have answered.
fn yardstick(keys: &[u64], options: &Options) -> f64 {
    let mut cache = S3Fifo::new((options.keys * options.room / 100) as usize);
    let (before, counted) = keys.split_at(keys.len() / 2);
    before.iter().for_each(|key| _ = cache.ask(*key));
    counted.iter().filter(|key| cache.ask(**key)).count() as f64 / counted.len().max(1) as f64
}

/// The share of the second half of the requests that a server answered from its memory.
fn replay(kind: Kind, policy: &str, keys: &[u64], options: &Options) -> io::Result<f64> {
    let program = kind.program(&root()).ok_or(io::ErrorKind::NotFound)?;
    let server = Server::start(kind, &program, &["--maxmemory-policy", policy])?;
    let mut client = Client::connect(&server.address())?;
    let value = "x".repeat(VALUE_BYTES);
    let room = options.keys * options.room / 100 * VALUE_BYTES as u64;
    let limit = used_memory(&server)? + room;
    client.words(&format!("CONFIG SET maxmemory {limit}"))?;
    let batches = (keys.len() as u64).div_ceil(BATCH).max(1);
    let started = Instant::now();
    let (mut hits, mut asked) = (0u64, 0u64);
    for (number, batch) in keys.chunks(BATCH as usize).enumerate() {
        let due = Duration::from_secs(options.seconds).mul_f64(number as f64 / batches as f64);
        std::thread::sleep(due.saturating_sub(started.elapsed()));
        let names: Vec<String> = batch.iter().map(|key| format!("key:{key:012}")).collect();
        names.iter().for_each(|name| client.queue(&["GET", name]));
        client.flush()?;
        let mut missing = Vec::new();
        for name in &names {
            if client.receive()? == Value::Nil {
                missing.push(name);
            }
        }
        missing.iter().for_each(|name| client.queue(&["SET", name, &value]));
        client.flush()?;
        for _ in &missing {
            client.receive()?;
        }
        if number as u64 >= batches / 2 {
            asked += names.len() as u64;
            hits += (names.len() - missing.len()) as u64;
        }
    }
    let used = used_memory(&server)?;
    if used.abs_diff(limit) > limit / 50 {
        eprintln!("{}: {used} bytes in use with a limit of {limit}", kind.name());
    }
    Ok(hits as f64 / asked.max(1) as f64)
}
