//! `cargo xtask bench latency`: how long a reply takes at half of the peak load while something else goes on, next to Valkey.
//!
//! What is asked meanwhile are GETs and SETs of a thousand keys that nothing else touches, at the same rate from every server:
//! see [`Probe`] for what its latencies are. Every line is of a server that was started for it.

use super::figures::percentile;
use super::load::{Load, Template};
use super::probe::Probe;
use super::process::{info, start, used_memory};
use super::replies::Caller;
use super::workload::{Count, Fill, STRINGS, Sizes};
use crate::Outcome;
use kelda_sim::client::Client;
use kelda_sim::server::{Kind, Server};
use kelda_sim::value::Value;
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const HELP: &str = "\
cargo xtask bench latency [options]     (build the server first: cargo build --release)
  --keys N             keys that are made, expire, are evicted or saved (10000000)
  --elements N         elements of a big collection (10000000)
  --seconds F          how long each line is measured at least (5)
  --rounds N           how often; the latencies are put together (3)
  --rate N             requests a second (half of what the slower server answers at most)
  --connections N      connections (50)
  --scenarios idle,…   which: names that begin so (all)
  --threads N          Kelda's threads (its default)";

const SERVERS: &[Kind] = &[Kind::Kelda, Kind::Valkey];

/// What goes on while it is measured.
struct Scenario {
    name: &'static str,
    /// What is there before.
    fills: &'static [Fill],
    /// The server's options.
    options: &'static [&'static str],
    work: Work,
}

enum Work {
    Nothing,
    /// Keys are made.
    Fill(Fill),
    /// As many keys as there are, made at the same time, expire.
    Expire,
    /// Keys are made, and there is no memory for more than there were.
    Evict(Fill),
    /// BGSAVE.
    Save,
    /// A command.
    Once(&'static [&'static str]),
    /// A command, sent so often at once, again and again.
    Repeat(usize, &'static [&'static str]),
    /// A script that computes for two seconds.
    Script,
}

/// What the probe asks for.
const PROBED: u64 = 1000;
const PROBED_KEYS: Fill = Fill { keys: Count::Exactly(PROBED), command: &["SET", "probe:@c", "@v"], ..STRINGS };
const VALUE_BYTES: usize = 64;

const NEW_STRINGS: Fill = Fill { command: &["SET", "new:@c", "@v"], ..STRINGS };
const EXPIRING: Fill = Fill { command: &["SET", "due:@c", "x", "PXAT", "@v"], ..STRINGS };
const BIG: Fill = Fill { keys: Count::Exactly(1), elements: Count::Elements, ..STRINGS };
const BIG_HASH: &[Fill] = &[Fill { command: &["HSET", "big"], element: &["field:@n", "value:@n"], ..BIG }];
const BIG_SET: &[Fill] = &[Fill { command: &["SADD", "big"], element: &["member:@n"], ..BIG }];
const BIG_ZSET: &[Fill] = &[Fill { command: &["ZADD", "big"], element: &["@s", "member:@n"], ..BIG }];
const BIG_LIST: &[Fill] = &[Fill { command: &["RPUSH", "big"], element: &["element:@n"], ..BIG }];

const QUIET: Scenario = Scenario { name: "idle", fills: &[], options: &[], work: Work::Nothing };

const SCENARIOS: &[Scenario] = &[
    QUIET,
    Scenario { name: "growing from no keys to all", work: Work::Fill(STRINGS), ..QUIET },
    Scenario { name: "expiry of all keys at once", work: Work::Expire, ..QUIET },
    Scenario { name: "DEL of a hash", fills: BIG_HASH, work: Work::Once(&["DEL", "big"]), ..QUIET },
    Scenario { name: "DEL of a set", fills: BIG_SET, work: Work::Once(&["DEL", "big"]), ..QUIET },
    Scenario { name: "DEL of a sorted set", fills: BIG_ZSET, work: Work::Once(&["DEL", "big"]), ..QUIET },
    Scenario { name: "DEL of a list", fills: BIG_LIST, work: Work::Once(&["DEL", "big"]), ..QUIET },
    Scenario { name: "UNLINK of a hash", fills: BIG_HASH, work: Work::Once(&["UNLINK", "big"]), ..QUIET },
    Scenario { name: "UNLINK of a sorted set", fills: BIG_ZSET, work: Work::Once(&["UNLINK", "big"]), ..QUIET },
    Scenario {
        name: "eviction",
        fills: &[STRINGS],
        options: &["--maxmemory-policy", "allkeys-lru"],
        work: Work::Evict(NEW_STRINGS),
    },
    Scenario { name: "BGSAVE", fills: &[STRINGS], work: Work::Save, ..QUIET },
    Scenario { name: "KEYS *", fills: &[STRINGS], work: Work::Once(&["KEYS", "*"]), ..QUIET },
    Scenario { name: "SMEMBERS of a set", fills: BIG_SET, work: Work::Once(&["SMEMBERS", "big"]), ..QUIET },
    Scenario {
        name: "script of 2 s",
        // However long it takes on a busy machine, nobody is to be told BUSY.
        options: &["--busy-reply-threshold", "0"],
        work: Work::Script,
        ..QUIET
    },
    Scenario {
        name: "client with P=10,000",
        fills: &[STRINGS],
        work: Work::Repeat(10_000, &["GET", "key:000000000001"]),
        ..QUIET
    },
    Scenario {
        name: "replies of 100 MB",
        fills: &[Fill { keys: Count::Exactly(1), command: &["SETRANGE", "long", "104857599", "x"], ..STRINGS }],
        work: Work::Repeat(1, &["GET", "long"]),
        ..QUIET
    },
];

struct Options {
    sizes: Sizes,
    least: Duration,
    rounds: usize,
    rate: Option<f64>,
    connections: usize,
    scenarios: Vec<String>,
    threads: Option<String>,
}

fn options(args: &[String]) -> Result<Options, String> {
    let mut options = Options {
        sizes: Sizes { keys: 10_000_000, elements: 10_000_000 },
        least: Duration::from_secs(5),
        rounds: 3,
        rate: None,
        connections: 50,
        scenarios: Vec::new(),
        threads: None,
    };
    for pair in args.chunks(2) {
        let [name, value] = pair else { return Err(HELP.into()) };
        match name.as_str() {
            "--keys" => options.sizes.keys = value.parse().map_err(|_| HELP)?,
            "--elements" => options.sizes.elements = value.parse().map_err(|_| HELP)?,
            "--seconds" => options.least = Duration::from_secs_f64(value.parse().map_err(|_| HELP)?),
            "--rounds" => options.rounds = value.parse().map_err(|_| HELP)?,
            "--rate" => options.rate = Some(value.parse().map_err(|_| HELP)?),
            "--connections" => options.connections = value.parse().map_err(|_| HELP)?,
            "--scenarios" => options.scenarios = value.split(',').map(str::to_owned).collect(),
            "--threads" => options.threads = Some(value.clone()),
            _ => return Err(HELP.into()),
        }
    }
    Ok(options)
}

/// `cargo xtask bench latency`
pub fn latency(args: &[String]) -> Outcome {
    let options = options(args)?;
    let value = "x".repeat(VALUE_BYTES);
    let templates = [
        Template::new(&["GET", "probe:@k"], &value, PROBED),
        Template::new(&["SET", "probe:@k", "@v"], &value, PROBED),
    ];
    let rate = match options.rate {
        Some(rate) => rate,
        None => {
            let peaks = SERVERS.iter().map(|kind| peak(*kind, &templates, &options));
            peaks.collect::<Result<Vec<_>, _>>()?.into_iter().fold(f64::INFINITY, f64::min) / 2.0
        }
    };
    let probe = Probe { templates: &templates, connections: options.connections, rate };
    println!(
        "{rate:.0} requests a second, {} keys, {} elements; latencies in ms, of what had been planned\n",
        options.sizes.keys, options.sizes.elements
    );
    println!("| | server | p50 | p99 | p99.9 | max | p99.9 × own idle | × Valkey's idle | took s |");
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|");
    let mut idle = vec![f64::NAN; SERVERS.len()];
    let wanted =
        |name: &str| options.scenarios.is_empty() || options.scenarios.iter().any(|wanted| name.starts_with(wanted));
    for scenario in SCENARIOS.iter().filter(|scenario| wanted(scenario.name)) {
        let mut latencies = vec![Vec::new(); SERVERS.len()];
        let mut took = vec![0.0; SERVERS.len()];
        for _ in 0..options.rounds {
            for (at, kind) in SERVERS.iter().enumerate() {
                let (measured, work) = scenario.measure(*kind, &probe, &options)?;
                latencies[at].extend(measured);
                took[at] += work.as_secs_f64() / options.rounds as f64;
            }
        }
        for (latencies, idle) in latencies.iter_mut().zip(&mut idle) {
            latencies.sort_unstable();
            if matches!(scenario.work, Work::Nothing) {
                *idle = percentile(latencies, 0.999) / 1000.0;
            }
        }
        for (at, kind) in SERVERS.iter().enumerate() {
            let part = |share| percentile(&latencies[at], share) / 1000.0;
            println!(
                "| {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
                scenario.name,
                kind.name(),
                part(0.5),
                part(0.99),
                part(0.999),
                part(1.0),
                part(0.999) / idle[at],
                part(0.999) / idle[idle.len() - 1],
                took[at]
            );
        }
    }
    Ok(())
}

fn in_io(error: io::Error) -> String {
    format!("benchmark: {error}")
}

/// How many requests a server answers in a second when each connection sends the next one at once.
fn peak(kind: Kind, templates: &[Template], options: &Options) -> Result<f64, String> {
    let servers = start_one(kind, options, &[])?;
    let mut load = Load::connect(servers.port, options.connections, 1, templates, 0).map_err(in_io)?;
    let done = load.run(Duration::from_secs(2)).map_err(in_io)?;
    Ok(done.operations as f64 / done.elapsed.as_secs_f64())
}

fn start_one(kind: Kind, options: &Options, own: &[&str]) -> Result<Server, String> {
    let threads = options.threads.as_ref().map_or_else(Vec::new, |threads| vec!["--threads", threads]);
    start(&[kind], &threads, own)?.pop().ok_or_else(|| "no server to measure".into())
}

impl Scenario {
    /// The latencies in µs, and how long the work took.
    fn measure(&self, kind: Kind, probe: &Probe, options: &Options) -> Result<(Vec<u32>, Duration), String> {
        let server = start_one(kind, options, self.options)?;
        let value = "x".repeat(VALUE_BYTES);
        PROBED_KEYS.run(&server, options.sizes, &value).map_err(in_io)?;
        self.fills.iter().try_for_each(|fill| fill.run(&server, options.sizes, &value)).map_err(in_io)?;
        self.work.prepare(&server, options).map_err(in_io)?;
        let mut took = Duration::ZERO;
        let work = || {
            let start = Instant::now();
            let result = self.work.run(&server, options, &value);
            took = start.elapsed();
            result
        };
        let latencies = probe.during(server.port, options.least, work).map_err(in_io)?;
        Ok((latencies, took))
    }
}

impl Work {
    /// What has to be done at the last moment before the measurement.
    fn prepare(&self, server: &Server, options: &Options) -> io::Result<()> {
        match self {
            Work::Expire => {
                // As slow as a slow machine makes the keys.
                let ahead = Duration::from_secs(2)
                    + Duration::from_micros(10) * u32::try_from(options.sizes.keys).unwrap_or(u32::MAX);
                let due = SystemTime::now() + ahead;
                let since = due.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
                EXPIRING.run(server, options.sizes, &since.as_millis().to_string())?;
                let left = due.duration_since(SystemTime::now());
                let left = left.map_err(|_| io::Error::other("the keys were due before all were made"))?;
                std::thread::sleep(left.saturating_sub(Duration::from_millis(500)));
                Ok(())
            }
            Work::Evict(_) => {
                let limit = used_memory(server)?.to_string();
                Caller::connect(server.port)?.call(&["CONFIG", "SET", "maxmemory", &limit])
            }
            _ => Ok(()),
        }
    }

    fn run(&self, server: &Server, options: &Options, value: &str) -> io::Result<()> {
        let mut caller = Caller::connect(server.port)?;
        match self {
            Work::Nothing => Ok(()),
            Work::Fill(fill) | Work::Evict(fill) => fill.run(server, options.sizes, value),
            Work::Expire => wait_until(|| {
                let left = Client::connect(&server.address())?.words("DBSIZE")?;
                Ok(matches!(left, Value::Integer(keys) if keys <= PROBED as i64))
            }),
            Work::Save => {
                caller.call(&["BGSAVE"])?;
                wait_until(|| Ok(info(server, "persistence", "rdb_bgsave_in_progress")? == 0))
            }
            Work::Once(command) => caller.call(command),
            Work::Repeat(times, command) => {
                let start = Instant::now();
                while start.elapsed() < options.least {
                    (0..*times).for_each(|_| caller.queue(command));
                    caller.flush()?;
                }
                Ok(())
            }
            Work::Script => {
                const LOOP: &str = "for i = 1, tonumber(ARGV[1]) do end return 1";
                let mut run = |times: f64| {
                    let start = Instant::now();
                    caller.call(&["EVAL", LOOP, "0", &format!("{times:.0}")])?;
                    io::Result::Ok(start.elapsed().as_secs_f64())
                };
                const TRIAL: f64 = 2e6;
                // The least of some: the others had to share the processor.
                let trials = (0..5).map(|_| run(TRIAL)).collect::<io::Result<Vec<f64>>>()?;
                let seconds = trials.into_iter().fold(f64::INFINITY, f64::min);
                run(TRIAL * 2.0 / seconds).map(|_| ())
            }
        }
    }
}

/// Asks again and again, for ten minutes at most.
fn wait_until(mut done: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(600) {
        if done()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(io::Error::other("not done after ten minutes"))
}
