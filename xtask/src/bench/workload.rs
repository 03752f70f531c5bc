//! What servers are filled with and asked, as tables, and the rounds in which they are compared.

use super::figures::median;
use super::load::{Load, Template};
use super::process::cpu_seconds;
use super::replies::Caller;
use kelda_sim::server::Server;
use std::io;
use std::time::Duration;

/// How many of something: a number, or what an option says.
#[derive(Clone, Copy)]
pub enum Count {
    Exactly(u64),
    /// As many as there are keys.
    Keys,
    /// As many as a big collection has.
    Elements,
}

/// What the options say of [`Count`].
#[derive(Clone, Copy)]
pub struct Sizes {
    pub keys: u64,
    pub elements: u64,
}

impl Count {
    pub fn of(self, sizes: Sizes) -> u64 {
        match self {
            Count::Exactly(number) => number,
            Count::Keys => sizes.keys,
            Count::Elements => sizes.elements,
        }
    }
}

/// Keys to be made. `@c` stands for 12 digits of the key's number, `@v` for the value.
#[derive(Clone, Copy)]
pub struct Fill {
    /// How many keys.
    pub keys: Count,
    /// The command that makes one, or what of it comes before the elements.
    pub command: &'static [&'static str],
    /// The words of an element: `@n` stands for 12 digits of its number, `@i` for the number, `@s` for another one, scattered.
    pub element: &'static [&'static str],
    /// How many elements a key gets.
    pub elements: Count,
    /// How many elements a command takes.
    pub at_once: u64,
}

/// Strings, which other fills are like but for what they name.
pub const STRINGS: Fill = Fill {
    keys: Count::Keys,
    command: &["SET", "key:@c", "@v"],
    element: &[],
    elements: Count::Exactly(1),
    at_once: 500,
};

/// Bytes that are sent before the replies are awaited.
const BATCH_BYTES: usize = 64 * 1024;

impl Fill {
    /// Makes the keys.
    pub fn run(&self, server: &Server, sizes: Sizes, value: &str) -> io::Result<()> {
        let mut caller = Caller::connect(server.port)?;
        let elements = self.elements.of(sizes);
        for key in 0..self.keys.of(sizes) {
            let digits = format!("{key:012}");
            let command = self.command.iter().map(|word| word.replace("@c", &digits).replace("@v", value));
            let command: Vec<String> = command.collect();
            for first in (0..elements).step_by(self.at_once as usize) {
                let mut words = command.clone();
                for number in first..elements.min(first + self.at_once) {
                    words.extend(self.element.iter().map(|word| element_word(word, number, value)));
                }
                caller.queue(&words);
                if caller.queued_bytes() > BATCH_BYTES {
                    caller.flush()?;
                }
            }
        }
        caller.flush()
    }
}

fn element_word(word: &str, number: u64, value: &str) -> String {
    match word.split_once('@') {
        None => word.to_owned(),
        Some((before, mark)) => match mark {
            "n" => format!("{before}{number:012}"),
            "i" => format!("{before}{number}"),
            // Knuth's multiplicative hash.
            "s" => format!("{before}{}", number.wrapping_mul(2_654_435_761) % (1 << 32)),
            _ => format!("{before}{value}"),
        },
    }
}

/// A kind of operation. For the marks within its requests see [`Template::new`].
#[derive(Clone, Copy)]
pub struct Test {
    pub name: &'static str,
    /// What it needs besides the strings.
    pub fills: &'static [Fill],
    /// Sent in turn on every connection: each is one operation.
    pub requests: &'static [&'static [&'static str]],
    /// Bytes of the value, where that is not an option.
    pub value: Option<usize>,
    /// How many more connections listen.
    pub listeners: usize,
}

impl Test {
    /// A value of so many bytes, or of as many as the test wants.
    fn text(&self, bytes: usize) -> String {
        "x".repeat(self.value.unwrap_or(bytes))
    }
}

/// What a test has unless it says otherwise.
pub const TEST: Test = Test { name: "", fills: &[], requests: &[], value: None, listeners: 0 };

/// A transaction of ten commands, which is one operation.
#[rustfmt::skip]
const MULTI_10: &[&str] = &[
    "MULTI", ";",
    "SET", "key:@k", "@v", ";", "GET", "key:@k", ";", "INCR", "counter:@k", ";",
    "SET", "key:@k", "@v", ";", "GET", "key:@k", ";", "INCR", "counter:@k", ";",
    "SET", "key:@k", "@v", ";", "GET", "key:@k", ";", "INCR", "counter:@k", ";",
    "GET", "key:@k", ";",
    "EXEC",
];

/// Commands on small values.
pub const SMALL: &[Test] = &[
    Test { name: "get", requests: &[&["GET", "key:@k"]], ..TEST },
    Test { name: "set", requests: &[&["SET", "key:@k", "@v"]], ..TEST },
    Test { name: "incr", requests: &[&["INCR", "counter:@k"]], ..TEST },
    Test { name: "expire", requests: &[&["EXPIRE", "key:@k", "100000"]], ..TEST },
    Test { name: "hset", requests: &[&["HSET", "hash:@k", "field", "@v"]], ..TEST },
    Test {
        name: "hget",
        fills: &[Fill { command: &["HSET", "hash:@c", "field", "@v"], ..STRINGS }],
        requests: &[&["HGET", "hash:@k", "field"]],
        ..TEST
    },
    Test { name: "lpush-lpop", requests: &[&["LPUSH", "list:@k", "@v"], &["LPOP", "list:@k"]], ..TEST },
    Test { name: "sadd", requests: &[&["SADD", "set:@h", "member:@k"]], ..TEST },
    Test { name: "zadd", requests: &[&["ZADD", "zset:@h", "@k", "member:@k"]], ..TEST },
    Test {
        name: "zrange",
        fills: &[Fill {
            keys: Count::Exactly(100),
            command: &["ZADD", "ranged:@c"],
            element: &["@i", "@n"],
            elements: Count::Exactly(8),
            ..STRINGS
        }],
        requests: &[&["ZRANGE", "ranged:@h", "0", "9"]],
        ..TEST
    },
    Test { name: "xadd", requests: &[&["XADD", "stream:@h", "*", "field", "@v"]], ..TEST },
    Test { name: "eval", requests: &[&["EVAL", "return redis.call('GET', KEYS[1])", "1", "key:@k"]], ..TEST },
    Test { name: "publish", requests: &[&["PUBLISH", "channel", "@v"]], listeners: 1, ..TEST },
    Test { name: "publish-100", requests: &[&["PUBLISH", "channel", "@v"]], listeners: 100, ..TEST },
    Test { name: "multi-10", requests: &[MULTI_10], ..TEST },
];

/// A hundred of each kind of collection, of a thousand elements.
const THOUSANDS: Fill = Fill { keys: Count::Exactly(100), elements: Count::Exactly(1000), command: &[], ..STRINGS };
/// Lists to read and to sort.
const LISTS: Fill = Fill { command: &["RPUSH", "list1000:@c"], element: &["@s"], ..THOUSANDS };
const SETS: Fill = Fill { command: &["SADD", "set1000:@c"], element: &["member:@n"], ..THOUSANDS };
const ZSETS: Fill = Fill { command: &["ZADD", "zset1000:@c"], element: &["@s", "member:@n"], ..THOUSANDS };
const HASHES: Fill = Fill { command: &["HSET", "hash1000:@c"], element: &["field:@n", "value:@n"], ..THOUSANDS };
const BITS: Fill = Fill { keys: Count::Exactly(10), command: &["SET", "bits:@c", "@v"], ..STRINGS };
const MEBIBYTE: Option<usize> = Some(1 << 20);

/// Commands whose work grows with a collection.
pub const LARGE: &[Test] = &[
    Test { name: "lrange-600", fills: &[LISTS], requests: &[&["LRANGE", "list1000:@h", "0", "599"]], ..TEST },
    Test { name: "smembers-1000", fills: &[SETS], requests: &[&["SMEMBERS", "set1000:@h"]], ..TEST },
    Test { name: "zrange-1000", fills: &[ZSETS], requests: &[&["ZRANGE", "zset1000:@h", "0", "-1"]], ..TEST },
    Test { name: "hgetall-1000", fills: &[HASHES], requests: &[&["HGETALL", "hash1000:@h"]], ..TEST },
    Test { name: "sort-1000", fills: &[LISTS], requests: &[&["SORT", "list1000:@h"]], ..TEST },
    Test {
        name: "zunionstore-1000",
        fills: &[ZSETS],
        requests: &[&["ZUNIONSTORE", "union:@h", "2", "zset1000:@h", "zset1000:@h"]],
        ..TEST
    },
    Test {
        name: "bitcount-1m",
        fills: &[BITS],
        requests: &[&["BITCOUNT", "bits:000000000001"]],
        value: MEBIBYTE,
        ..TEST
    },
    Test {
        name: "bitop-1m",
        fills: &[BITS],
        requests: &[&["BITOP", "AND", "bits:and", "bits:000000000001", "bits:000000000002"]],
        value: MEBIBYTE,
        ..TEST
    },
    Test {
        name: "sinter-10k-1m",
        fills: &[
            Fill { command: &["SADD", "set10k"], elements: Count::Exactly(10_000), keys: Count::Exactly(1), ..SETS },
            Fill { command: &["SADD", "set1m"], elements: Count::Elements, keys: Count::Exactly(1), ..SETS },
        ],
        requests: &[&["SINTER", "set1m", "set10k"]],
        ..TEST
    },
];

const HUNDRED_VALUES: &[Fill] = &[Fill { keys: Count::Exactly(100), command: &["SET", "value:@c", "@v"], ..STRINGS }];
const GET_VALUE: &[&[&str]] = &[&["GET", "value:@h"]];
const SET_VALUE: &[&[&str]] = &[&["SET", "value:@h", "@v"]];

/// Long values.
pub const VALUES: &[Test] = &[
    Test { name: "get-1k", fills: HUNDRED_VALUES, requests: GET_VALUE, value: Some(1 << 10), ..TEST },
    Test { name: "set-1k", fills: HUNDRED_VALUES, requests: SET_VALUE, value: Some(1 << 10), ..TEST },
    Test { name: "get-64k", fills: HUNDRED_VALUES, requests: GET_VALUE, value: Some(1 << 16), ..TEST },
    Test { name: "set-64k", fills: HUNDRED_VALUES, requests: SET_VALUE, value: Some(1 << 16), ..TEST },
    Test { name: "get-1m", fills: HUNDRED_VALUES, requests: GET_VALUE, value: MEBIBYTE, ..TEST },
    Test { name: "set-1m", fills: HUNDRED_VALUES, requests: SET_VALUE, value: MEBIBYTE, ..TEST },
];

/// How a test is run.
#[derive(Clone, Copy)]
pub struct Rounds {
    pub count: usize,
    pub length: Duration,
    pub connections: usize,
}

/// One server's figures of one test.
#[derive(Default)]
pub struct Figures {
    per_second: Vec<f64>,
    cpu_us: Vec<f64>,
}

impl Figures {
    /// Operations per second.
    pub fn rate(&self) -> f64 {
        median(&self.per_second)
    }

    /// Processor time of the server for an operation, in µs.
    pub fn cpu(&self) -> f64 {
        median(&self.cpu_us)
    }
}

/// Empties the servers and gives each the strings.
pub fn refill(servers: &[Server], sizes: Sizes, value: &str) -> io::Result<()> {
    servers.iter().try_for_each(|server| {
        Caller::connect(server.port)?.call(&["FLUSHALL"])?;
        STRINGS.run(server, sizes, value)
    })
}

/// What is measured: a server that listens on a port.
pub struct Process {
    pub port: u16,
    pub pid: u32,
}

impl Process {
    pub fn of(server: &Server) -> Process {
        Process { port: server.port, pid: server.pid() }
    }
}

/// What the servers, taking turns, need for a test, with `pipeline` operations sent at once.
pub fn compare(
    servers: &[Server],
    test: &Test,
    pipeline: usize,
    rounds: Rounds,
    sizes: Sizes,
    value: usize,
) -> io::Result<Vec<Figures>> {
    let text = test.text(value);
    for server in servers {
        test.fills.iter().try_for_each(|fill| fill.run(server, sizes, &text))?;
    }
    let processes: Vec<Process> = servers.iter().map(Process::of).collect();
    take_turns(&processes, test, pipeline, rounds, sizes, value)
}

/// [`compare`] of servers that have what the test needs.
pub fn take_turns(
    servers: &[Process],
    test: &Test,
    pipeline: usize,
    rounds: Rounds,
    sizes: Sizes,
    value: usize,
) -> io::Result<Vec<Figures>> {
    let value = test.text(value);
    let templates: Vec<Template> = test.requests.iter().map(|words| Template::new(words, &value, sizes.keys)).collect();
    let connect =
        |server: &Process| Load::connect(server.port, rounds.connections, pipeline, &templates, test.listeners);
    let mut loads: Vec<Load> = servers.iter().map(connect).collect::<io::Result<_>>()?;
    let mut figures: Vec<Figures> = servers.iter().map(|_| Figures::default()).collect();
    for _ in 0..rounds.count {
        for ((server, load), figures) in servers.iter().zip(&mut loads).zip(&mut figures) {
            let before = cpu_seconds(server.pid)?;
            let done = load.run(rounds.length)?;
            let cpu = cpu_seconds(server.pid)? - before;
            figures.per_second.push(done.operations as f64 / done.elapsed.as_secs_f64());
            figures.cpu_us.push(cpu * 1e6 / done.operations as f64);
        }
    }
    Ok(figures)
}
