//! How long a snapshot holds anything: the processor time of its instant, of its pieces, and of the writes between them.
//!
//! ```sh
//! cargo run --release -p kelda-server --example snapshot_pieces -- [keys [zset members [list elements]]]
//! ```
//!
//! One thread takes a step of the snapshot and some writes by turns, in process. Processor time does not count what other
//! programs do meanwhile, so the longest times mean something on a busy machine too. (Page faults are in it, and what a virtual
//! machine is robbed of.)
//!
//! Then several snapshots without writes: each holds the same things in the same order, so that the least time of each hold is what it
//! takes, and all above that a disturbance.

use kelda_engine::config::Config;
use kelda_engine::saving::RdbEncoder;
use kelda_store::hash::Hash;
use kelda_store::list::{End, List};
use kelda_store::set::Set;
use kelda_store::shard::{Keyspace, ShardSet};
use kelda_store::snapshot::{Pauses, Piece, Preparation, Snapshot, Step};
use kelda_store::stream::{Stream, StreamId};
use kelda_store::txn::{Context, EditExpiry, Env, Key, Ttl, Txn};
use kelda_store::zset::ZSet;
use std::sync::{Arc, Mutex};

const NOW_MS: i64 = 1_790_000_000_000;

/// Processor time of this thread, in µs.
fn cpu_us() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// Times of one kind, in µs.
struct Times {
    name: &'static str,
    all: Vec<f64>,
}

impl Times {
    fn new(name: &'static str) -> Times {
        Times { name, all: Vec::new() }
    }

    fn take<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let begun = cpu_us();
        let result = work();
        self.all.push(cpu_us() - begun);
        result
    }

    fn print(&mut self) {
        self.all.sort_by(f64::total_cmp);
        let at = |share: f64| self.all[((self.all.len() - 1) as f64 * share) as usize];
        let (count, p50, p99, p999, max) = (self.all.len(), at(0.5), at(0.99), at(0.999), at(1.0));
        println!("| {} | {count} | {p50:.1} | {p99:.1} | {p999:.1} | {max:.0} |", self.name);
    }
}

struct World {
    keyspace: Keyspace,
    random: u64,
}

impl World {
    fn below(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 20) % limit.max(1)
    }

    fn transaction<R>(&self, name: &str, work: impl FnOnce(&mut Txn, Key) -> R) -> R {
        let key = Key::new(name.as_bytes());
        let mut set = ShardSet::None;
        set.add(key.hash);
        // One thread: nothing is ever busy.
        let Some(guard) = self.keyspace.lock(set) else { unreachable!("the shard is free") };
        let env = Env { string_bytes_max: 1 << 29, ..Env::default() };
        let mut txn = Txn::new(guard, 0, NOW_MS, Context::new(env, 1));
        let result = work(&mut txn, key);
        drop(txn.finish());
        result
    }

    fn set(&self, name: &str, text: &str) {
        self.transaction(name, |txn, key| txn.set_string(key, text.as_bytes(), Ttl::Clear));
    }

    fn score(&self, member: u64, score: u64) {
        self.transaction("big:zset", |txn, key| {
            if let Ok(mut zset) = txn.edit_or_new::<ZSet>(key) {
                zset.put(format!("member:{member}").as_bytes(), score as f64);
            }
        });
    }

    /// Other big values: a hash and a set whose members expire, of so many; a stream; strings of all sizes.
    fn fill_others(&self, members: u64) {
        for n in 0..members {
            let name = format!("member:{n}");
            self.transaction("big:hash", |txn, key| {
                if let Ok(mut hash) = txn.edit_or_new::<Hash>(key) {
                    hash.set(name.as_bytes(), b"some value that is not very long");
                }
            });
            self.transaction("big:set", |txn, key| {
                if let Ok(mut set) = txn.edit_or_new::<Set>(key) {
                    set.add(name.as_bytes());
                    set.set_expiry(name.as_bytes(), Some(NOW_MS + 1_000_000 + n as i64));
                }
            });
            self.transaction("big:stream", |txn, key| {
                if let Ok(mut stream) = txn.edit_or_new::<Stream>(key) {
                    stream.append(StreamId::new(n + 1, 0), &[b"field", name.as_bytes()], None, None);
                }
            });
        }
        for size in [10_000, 15_000, 20_000, 100_000, 1_000_000, 100_000_000] {
            for n in 0..20 {
                self.set(&format!("string:{size}:{n}"), &"some text ".repeat(size / 10));
                if size == 100_000_000 {
                    break;
                }
            }
        }
    }

    /// How long each hold of a snapshot takes.
    fn holds(&self, encoder: &Arc<RdbEncoder>) -> Vec<f64> {
        let stamps: Arc<Mutex<Vec<f64>>> = Arc::default();
        let note = stamps.clone();
        let cpu_clock = move || {
            // Nobody panics here with the lock.
            note.lock().iter_mut().for_each(|stamps| stamps.push(cpu_us()));
            0
        };
        let pauses = Arc::new(Pauses::new(Box::new(|| 0), Box::new(cpu_clock)));
        let preparation = Preparation::new(encoder.clone(), Arc::default(), pauses.clone());
        let mut snapshot = {
            let Some(mut guard) = self.keyspace.lock(ShardSet::All) else { unreachable!("nobody else is there") };
            let _timer = pauses.hold();
            Snapshot::begin(preparation, &mut guard, Piece::default())
        };
        let mut out = Vec::new();
        while snapshot.step(&self.keyspace, &mut out) != Step::Complete {
            out.clear();
        }
        drop(snapshot);
        let holds = stamps.lock().map(|stamps| stamps.chunks_exact(2).map(|pair| pair[1] - pair[0]).collect());
        holds.unwrap_or_default()
    }

    fn push_and_pop(&self, n: u64) {
        self.transaction("big:list", |txn, key| {
            if let Ok(mut list) = txn.edit_or_new::<List>(key) {
                list.push(End::Back, format!("element:{n}").as_bytes());
                if n.is_multiple_of(2) {
                    list.pop(End::Front);
                }
            }
        });
    }
}

fn main() {
    let arguments: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let number = |at: usize, default: u64| arguments.get(at).copied().unwrap_or(default);
    let (keys, members, elements) = (number(0, 2_000_000), number(1, 5_000_000), number(2, 1_000_000));
    let mut world = World { keyspace: Keyspace::new(16), random: 7 };
    (0..keys).for_each(|n| world.set(&format!("key:{n:012}"), &format!("value of key {n:>20}")));
    (0..members).for_each(|n| world.score(n, n * 7));
    (0..elements).for_each(|n| world.push_and_pop(n * 2 + 1));
    world.fill_others(elements);

    let encoder = Arc::new(RdbEncoder::new(Config::default().settings().clone().into(), NOW_MS));
    let mut instant = Times::new("the instant");
    let (mut pieces, mut early) =
        (Times::new("a piece of the snapshot"), Times::new("taking early images, nothing held"));
    let (mut sets, mut scores, mut pushes) = (Times::new("SET"), Times::new("ZADD"), Times::new("RPUSH, LPOP"));
    let preparation = Preparation::new(encoder.clone(), Arc::default(), Arc::default());
    let mut snapshot = instant.take(|| {
        let Some(mut guard) = world.keyspace.lock(ShardSet::All) else { unreachable!("nobody else is there") };
        Snapshot::begin(preparation, &mut guard, Piece::default())
    });
    let (mut out, mut bytes, mut most, mut n) = (Vec::new(), 0, 0, 0);
    let begun = cpu_us();
    loop {
        let waiting = snapshot.progress().waiting_bytes();
        let mut times = Times::new("");
        let step = times.take(|| snapshot.step(&world.keyspace, &mut out));
        let taken = waiting != 0 && snapshot.progress().waiting_bytes() == 0;
        if taken { &mut early } else { &mut pieces }.all.append(&mut times.all);
        if step == Step::Complete {
            break;
        }
        bytes += out.len();
        out.clear();
        most = most.max(snapshot.progress().waiting_bytes());
        for _ in 0..16 {
            n += 1;
            let (name, member, score) =
                (format!("key:{:012}", world.below(keys)), world.below(members), world.below(members));
            sets.take(|| world.set(&name, "changed"));
            scores.take(|| world.score(member, score));
            pushes.take(|| world.push_and_pop(n));
        }
    }
    println!("{} MiB in {:.1} s of processor time, writes included", bytes >> 20, (cpu_us() - begun) / 1e6);
    println!("early images waiting: {} KiB at most\n", most >> 10);
    println!("| processor time, µs | how many | p50 | p99 | p99.9 | max |\n|---|--:|--:|--:|--:|--:|");
    [instant, pieces, early, sets, scores, pushes].iter_mut().for_each(Times::print);
    let mut least = world.holds(&encoder);
    let mut one = Times { name: "a hold, one snapshot without writes", all: least.clone() };
    for _ in 0..4 {
        let again = world.holds(&encoder);
        assert_eq!(again.len(), least.len(), "each snapshot holds the same things");
        least.iter_mut().zip(again).for_each(|(least, again)| *least = least.min(again));
    }
    one.print();
    Times { name: "a hold, the least of five", all: least }.print();
}
