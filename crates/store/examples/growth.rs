//! How long a single insert takes while tables grow, at worst: of one shard's table, and of those of all shards.
//!
//! `cargo run --release -p kelda-store --example growth [keys] [rounds]`
//!
//! Time is the processor's, spent by this thread: what other programs take from it does not count. Reading that clock costs
//! some 0.3 µs, which is in each figure. Every round inserts the same keys in the same order, so that each insert does the
//! same work in each, and the least of them is what it takes: what a virtual machine, an interrupt or the kernel's care for
//! fresh memory adds to one round is left out.

use kelda_store::entry::Entry;
use kelda_store::hasher::hash;
use kelda_store::shard::SHARDS;
use kelda_store::table::Table;
use kelda_store::value::Value;
use rustix::time::{ClockId, clock_gettime};

/// Processor time of this thread, in ns.
fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Inserts `keys` keys into so many tables; the least ns that each took, over the rounds.
fn grow(table_count: usize, keys: usize, rounds: usize) -> Vec<u32> {
    let mut least = vec![u32::MAX; keys];
    for _ in 0..rounds {
        let mut tables: Vec<Table<Entry>> = (0..table_count).map(|_| Table::new()).collect();
        for (n, least) in least.iter_mut().enumerate() {
            let key = format!("key:{n:012}");
            let hash = hash(key.as_bytes());
            let entry = Entry::new(key.as_bytes(), Value::Int(n as i64), None);
            let table = &mut tables[(hash >> 54) as usize % table_count];
            let start = thread_ns();
            table.insert(hash, entry);
            let ns = u32::try_from(thread_ns() - start).unwrap_or(u32::MAX);
            *least = ns.min(*least);
        }
    }
    least
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let keys = arguments.next().unwrap_or(10_000_000);
    let rounds = arguments.next().unwrap_or(3);
    println!("{keys} keys, {rounds} rounds; µs for one insert");
    println!("{:>7} {:>8} {:>8} {:>8} {:>8} {:>8}", "tables", "median", "p99", "p99.9", "p99.99", "max");
    for tables in [1, SHARDS] {
        let mut ns = grow(tables, keys, rounds);
        ns.sort_unstable();
        let at = |share: f64| f64::from(ns[((keys - 1) as f64 * share) as usize]) / 1000.0;
        let [median, p99, p999, p9999, max] = [0.5, 0.99, 0.999, 0.9999, 1.0].map(at);
        println!("{tables:>7} {median:>8.2} {p99:>8.2} {p999:>8.2} {p9999:>8.2} {max:>8.2}");
    }
}
