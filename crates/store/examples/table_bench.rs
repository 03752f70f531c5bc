//! Measures the table with real entries: nanoseconds for each operation, bytes for each key, the longest insert.
//!
//! `cargo run --release -p kelda-store --example table_bench [keys] [tables]`
//!
//! Keys of 16 bytes, values of 8; the keys are spread over the tables as the keyspace spreads them over its shards.

use kelda_store::entry::Entry;
use kelda_store::hasher::hash;
use kelda_store::table::Table;
use kelda_store::value::Value;
use std::hint::black_box;
use std::time::{Duration, Instant};

fn key(n: usize) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut rest = n;
    for digit in key.iter_mut().rev().take(12) {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn report(name: &str, operations: usize, elapsed: Duration) {
    println!("{name:<28} {:>7.1} ns", elapsed.as_nanos() as f64 / operations as f64);
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let keys = arguments.next().unwrap_or(1_000_000);
    let table_count = arguments.next().unwrap_or(1024);
    let mut tables: Vec<Table<Entry>> = (0..table_count).map(|_| Table::new()).collect();
    let table_of = |hash: u64| (hash >> 54) as usize % table_count;

    let start = Instant::now();
    let mut longest = Duration::ZERO;
    let mut samples = Vec::new();
    for n in 0..keys {
        let key = key(n);
        let hash = hash(&key);
        let entry = Entry::new(&key, Value::Int(n as i64), None);
        let before = Instant::now();
        tables[table_of(hash)].insert(hash, entry);
        longest = longest.max(before.elapsed());
        if (n + 1) % (keys / 20).max(1) == 0 {
            let bytes: usize = tables.iter().map(Table::memory_bytes).sum();
            samples.push(bytes as f64 / (n + 1) as f64);
        }
    }
    report("insert (with timing)", keys, start.elapsed());
    println!("longest insert               {longest:>10.1?}");
    println!("table bytes for each key     {samples:.1?}");

    // A full-period step through the keys, so that neighbours are far apart.
    let step = (keys / 2 + 7) | 1;
    let mut order = 0;
    let mut next = || {
        order = (order + step) % keys;
        key(order)
    };
    let start = Instant::now();
    for _ in 0..keys {
        black_box(next());
        black_box(hash(&next()));
    }
    report("key and hash alone", keys, start.elapsed());
    let start = Instant::now();
    for _ in 0..keys {
        let key = next();
        let hash = hash(&key);
        black_box(tables[table_of(hash)].get(hash, &key).map(|entry| entry.access()));
    }
    report("get", keys, start.elapsed());
    let start = Instant::now();
    for _ in 0..keys / 32 {
        let batch: [([u8; 16], u64); 32] = std::array::from_fn(|_| {
            let key = next();
            (key, hash(&key))
        });
        for (_, hash) in &batch {
            tables[table_of(*hash)].prefetch_bucket(*hash);
        }
        for (_, hash) in &batch {
            tables[table_of(*hash)].prefetch_item(*hash, 0);
        }
        for (key, hash) in &batch {
            black_box(tables[table_of(*hash)].get(*hash, key).map(|entry| entry.access()));
        }
    }
    report("get, 32 prefetched", keys, start.elapsed());
    let start = Instant::now();
    for n in 0..keys {
        let key = key(n + keys);
        let hash = hash(&key);
        assert!(tables[table_of(hash)].get(hash, &key).is_none());
    }
    report("get, absent", keys, start.elapsed());
    let start = Instant::now();
    for n in 0..keys {
        black_box(tables[n % table_count].random(n as u64).map(|entry| entry.access()));
    }
    report("random", keys, start.elapsed());
    let start = Instant::now();
    let mut seen = 0;
    for table in &tables {
        let mut cursor = 0;
        loop {
            cursor = table.scan(cursor, &mut |_| seen += 1);
            if cursor == 0 {
                break;
            }
        }
    }
    assert_eq!(seen, keys);
    report("scan", keys, start.elapsed());
    let start = Instant::now();
    for _ in 0..keys {
        let key = next();
        let hash = hash(&key);
        black_box(tables[table_of(hash)].remove(hash, &key));
    }
    report("remove", keys, start.elapsed());
    println!("left: {}", tables.iter().map(Table::len).sum::<usize>());
}
