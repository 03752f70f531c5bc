//! What a snapshot costs those who go on working: the latency of PING, GET and SET, the writers' speed, and memory, without
//! and with a BGSAVE under way.
//!
//! ```sh
//! cargo run --release -p kelda-sim --example snapshot_bench -- 127.0.0.1:6379 [keys [zset members [list elements [quiet seconds]]]]
//! ```
//!
//! The server should be fresh and on this machine. There are a hash as large as the list and a string of 100 MiB besides. Two
//! connections write all the time (random keys; members and fields of the big collections, both ends of the list, places in the
//! string), and a third measures one command at a time. Figures of one run only are to be compared. What is written makes the
//! server grow without a snapshot, too: with as many quiet seconds as BGSAVE takes one sees by how much. Kelda tells in INFO for how long the
//! snapshot kept anybody waiting at most.

use kelda_sim::client::Client;
use kelda_sim::rng::Rng;
use kelda_sim::value::Value;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const STRING_BYTES: u64 = 100 << 20;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(address) = arguments.first() else {
        eprintln!("address of the server, keys, members, elements");
        std::process::exit(2);
    };
    let number = |at: usize, default: u64| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (keys, members, elements) = (number(1, 2_000_000), number(2, 5_000_000), number(3, 1_000_000));
    let quiet = Duration::from_secs(number(4, 5));
    let mut client = Client::connect(address)?;
    let pid = field(&mut client, "server", "process_id")?;
    println!("filling: {keys} keys, a sorted set of {members}, a list and a hash of {elements}, a string of 100 MiB");
    fill(&mut client, keys, |n| vec!["SET".into(), key(n), format!("value of key {n:>20}")])?;
    fill(&mut client, members, |n| vec!["ZADD".into(), "big:zset".into(), (n * 7).to_string(), format!("member:{n}")])?;
    fill(&mut client, elements, |n| vec!["RPUSH".into(), "big:list".into(), format!("element:{n}")])?;
    let field_of = |n: u64| vec!["HSET".into(), "big:hash".into(), format!("field:{n}"), format!("value:{n}")];
    fill(&mut client, elements, field_of)?;
    fill(&mut client, 1, |_| vec!["SETRANGE".into(), "big:string".into(), STRING_BYTES.to_string(), "end".into()])?;
    let rss = resident(&pid);
    let (ending, writes) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for kind in 0..2 {
            let (ending, writes) = (&ending, &writes);
            scope.spawn(move || write(address, kind, [keys, members, elements], ending, writes));
        }
        let result = measure(address, &mut client, &pid, rss, keys, quiet, &writes);
        ending.store(true, Relaxed);
        result
    })
}

fn key(n: u64) -> String {
    format!("key:{n:012}")
}

fn fill(client: &mut Client, count: u64, request: impl Fn(u64) -> Vec<String>) -> std::io::Result<()> {
    const BATCH: u64 = 1000;
    for first in (0..count).step_by(BATCH as usize) {
        let batch = first..(first + BATCH).min(count);
        batch.clone().for_each(|n| client.queue(&request(n)));
        client.flush()?;
        for _ in batch {
            client.receive()?;
        }
    }
    Ok(())
}

fn write(address: &str, kind: u64, counts: [u64; 3], ending: &AtomicBool, writes: &AtomicU64) {
    let [keys, members, elements] = counts;
    const PIPELINE: u64 = 16;
    let run = || -> std::io::Result<()> {
        let mut client = Client::connect(address)?;
        let mut rng = Rng::new(kind);
        let mut next = 0;
        while !ending.load(Relaxed) {
            for _ in 0..PIPELINE {
                next += 1;
                match (kind, next % 6) {
                    (0, _) => {
                        let n = rng.below(keys);
                        client.queue(&["SET", &key(n), &format!("changed to {next:>20}")]);
                    }
                    (_, 0) => client.queue(&["RPUSH", "big:list", &format!("element:{next}")]),
                    (_, 1) => client.queue(&["LPOP", "big:list"]),
                    (_, 2) => client.queue(&["HSET", "big:hash", &format!("field:{}", rng.below(elements)), "changed"]),
                    (_, 3) => {
                        client.queue(&["SETRANGE", "big:string", &rng.below(STRING_BYTES).to_string(), "changed"])
                    }
                    (_, 4) => client.queue(&["ZREM", "big:zset", &format!("member:{}", rng.below(members))]),
                    _ => {
                        let (n, score) = (rng.below(members), rng.below(members));
                        client.queue(&["ZADD", "big:zset", &score.to_string(), &format!("member:{n}")]);
                    }
                }
            }
            client.flush()?;
            for _ in 0..PIPELINE {
                client.receive()?;
            }
            writes.fetch_add(PIPELINE, Relaxed);
        }
        Ok(())
    };
    if let Err(error) = run() {
        eprintln!("a writer ended: {error}");
    }
}

fn measure(
    address: &str,
    admin: &mut Client,
    pid: &str,
    rss: u64,
    keys: u64,
    quiet: Duration,
    writes: &AtomicU64,
) -> std::io::Result<()> {
    println!("| | command | p50 µs | p99 µs | p99.9 µs | max µs | writes/s |\n|---|---|--:|--:|--:|--:|--:|");
    let mut probe = Client::connect(address)?;
    let begun = Instant::now();
    probe_while(&mut probe, keys, writes, "quiet", || Ok(begun.elapsed() < quiet))?;
    // What the writers have changed by then is no part of what the snapshot takes.
    let before = resident(pid);
    let begun = Instant::now();
    admin.queue(&["BGSAVE"]);
    admin.flush()?;
    let reply = admin.receive()?;
    let (mut looked, mut most) = (Instant::now(), resident(pid));
    probe_while(&mut probe, keys, writes, "saving", || {
        most = most.max(resident(pid));
        // INFO looks at every shard: seldom.
        if looked.elapsed() < Duration::from_millis(500) {
            return Ok(true);
        }
        looked = Instant::now();
        Ok(field(admin, "persistence", "rdb_bgsave_in_progress")? == "1")
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let seconds_told = field(admin, "persistence", "rdb_last_bgsave_time_sec")?;
    println!("\nBGSAVE: {reply:?}; {seconds:.1} s ({seconds_told} by its own count)");
    for name in ["snapshot_longest_hold_usec", "snapshot_longest_hold_cpu_usec", "snapshot_longest_early_usec"] {
        // Only Kelda tells.
        if let Ok(us) = field(admin, "persistence", name) {
            println!("{name}: {us}");
        }
    }
    println!(
        "resident: {} MiB filled, {} MiB before BGSAVE, {} MiB at most while saving",
        rss >> 20,
        before >> 20,
        most >> 20
    );
    Ok(())
}

/// Sends one command after another while `go_on` says so, and prints a row for each.
fn probe_while(
    client: &mut Client,
    keys: u64,
    writes: &AtomicU64,
    name: &str,
    mut go_on: impl FnMut() -> std::io::Result<bool>,
) -> std::io::Result<()> {
    let mut times: [Vec<u32>; 3] = Default::default();
    let (begun, before, mut rng) = (Instant::now(), writes.load(Relaxed), Rng::new(99));
    let mut round = 0u32;
    while !round.is_multiple_of(64) || go_on()? {
        round += 1;
        let n = key(rng.below(keys));
        let requests: [&[&str]; 3] = [&["PING"], &["GET", &n], &["SET", &n, "probe"]];
        for (request, times) in requests.iter().zip(&mut times) {
            client.queue(request);
            let begun = Instant::now();
            client.flush()?;
            client.receive()?;
            times.push(begun.elapsed().as_micros() as u32);
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    let per_second = (writes.load(Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
    for (command, times) in ["PING", "GET", "SET"].iter().zip(&mut times) {
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        let (p50, p99, p999, max) = (at(0.5), at(0.99), at(0.999), at(1.0));
        println!("| {name} | {command} | {p50} | {p99} | {p999} | {max} | {per_second:.0} |");
    }
    Ok(())
}

fn field(client: &mut Client, section: &str, name: &str) -> std::io::Result<String> {
    client.queue(&["INFO", section]);
    client.flush()?;
    let text = match client.receive()? {
        Value::Bulk(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => format!("{other:?}"),
    };
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned));
    line.ok_or_else(|| std::io::Error::other(format!("INFO does not tell {name}")))
}

/// Resident bytes of a process, from /proc.
fn resident(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}
