//! A snapshot under every kind of schedule that the model checker thinks up: whatever writers do between its pieces and beside
//! them, it has each key and each member that was there at its instant, once and as it was, and no other.
//!
//! `KELDA_MODEL_ROUNDS=100 cargo test -p kelda-store-model` explores a hundred times as much.

use kelda_store_model::entry::EntryRef;
use kelda_store_model::set::Set;
use kelda_store_model::shard::{Guard, Keyspace, SHARDS, ShardSet};
use kelda_store_model::snapshot::{Element, Encoder, Piece, Preparation, Snapshot, Step};
use kelda_store_model::stream::{Stream, StreamId};
use kelda_store_model::txn::{Context, Env, Key, Ttl, Txn};
use kelda_store_model::value::ValueRef;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner, thread};
use std::sync::Arc;

/// Writes a line for each string and for each member of a set: small and big ones look alike.
struct Lines;

impl Encoder for Lines {
    fn database(&self, _: &mut Vec<u8>, _: u32) {}

    fn entry(&self, out: &mut Vec<u8>, entry: EntryRef<'_>) {
        out.extend(lines(entry).join("").bytes());
    }

    fn head(&self, _: &mut Vec<u8>, _: EntryRef<'_>) {}

    fn element(&self, out: &mut Vec<u8>, element: Element<'_>, _: Option<i64>) {
        match element {
            Element::Member(member, _) => out.extend(line("set", &member.to_vec()).bytes()),
            Element::Bytes(bytes) => panic!("no string is big: {bytes:?}"),
            _ => panic!("neither a string nor a set"),
        }
    }

    fn times(&self, _: &mut Vec<u8>, _: &[(Box<[u8]>, i64)]) {
        panic!("no member expires");
    }

    fn stream(&self, _: &mut Vec<u8>, _: &Stream, _: Option<StreamId>) -> Option<StreamId> {
        panic!("neither a string nor a set");
    }
}

fn line(key: &str, value: &[u8]) -> String {
    format!("{key} {}\n", String::from_utf8_lossy(value))
}

fn lines(entry: EntryRef<'_>) -> Vec<String> {
    let key = String::from_utf8_lossy(entry.key());
    match entry.value() {
        ValueRef::String(text) => vec![line(&key, &text.to_vec())],
        ValueRef::Set(set) => set.iter().map(|member| line(&key, &member.to_vec())).collect(),
        _ => panic!("neither a string nor a set"),
    }
}

/// All there is, sorted.
fn state(guard: &Guard) -> Vec<String> {
    let dbs = (0..SHARDS).flat_map(|shard| guard.shard(shard).dbs());
    let mut all: Vec<String> =
        dbs.flat_map(|(_, part)| part.table.iter().flat_map(lines).collect::<Vec<_>>()).collect();
    all.sort();
    all
}

/// Locks as the engine does: again and again until it succeeds.
fn lock<'k>(keyspace: &'k Keyspace, shards: &ShardSet) -> Guard<'k> {
    loop {
        if let Some(guard) = keyspace.lock(shards.clone()) {
            return guard;
        }
        thread::yield_now();
    }
}

/// Runs a transaction on some keys.
fn transact(keyspace: &Keyspace, keys: &[&str], change: impl FnOnce(&mut Txn)) {
    let mut shards = ShardSet::None;
    keys.iter().for_each(|key| shards.add(Key::new(key.as_bytes()).hash));
    let mut txn = Txn::new(lock(keyspace, &shards), 0, 1_000, Context::new(Env::default(), 1));
    change(&mut txn);
    drop(txn.finish());
}

/// Explores so many schedules of `test`: half of them random, half with few changes of thread at awkward places.
fn explore(schedules: usize, test: fn()) {
    let rounds = std::env::var("KELDA_MODEL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let schedules = schedules * rounds;
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    Runner::new(RandomScheduler::new(schedules / 2), config.clone()).run(test);
    Runner::new(PctScheduler::new(3, schedules / 2), config).run(test);
}

const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Long enough for a shard's buffer of early images to be handed over after two, and too short for the string to be a big value.
fn text(number: usize) -> Vec<u8> {
    format!("{number:030}").into_bytes()
}

fn put(txn: &mut Txn, key: &str, number: usize) {
    txn.set_string(Key::new(key.as_bytes()), &text(number), Ttl::Clear);
}

/// A writer: each of its transactions changes two keys of different shards, and the big set.
fn write(keyspace: &Keyspace, me: usize) {
    for round in 0..3 {
        let number = 10 * me + round;
        let (one, other) = (KEYS[(me + round) % KEYS.len()], KEYS[(3 * me + 2 * round + 1) % KEYS.len()]);
        let new = format!("new:{one}");
        transact(keyspace, &[one, other, "set", &new], |txn| {
            put(txn, one, number);
            _ = txn.delete(Key::new(other.as_bytes()));
            put(txn, &new, number);
            if let Ok(Some(mut set)) = txn.edit::<Set>(Key::new(b"set")) {
                _ = set.remove(format!("m{number}").as_bytes());
                _ = set.add(format!("n{number}").as_bytes());
            }
        });
    }
}

#[test]
fn a_snapshot_is_the_state_of_its_instant() {
    explore(1_500, || {
        let keyspace = Arc::new(Keyspace::new(1));
        transact(&keyspace, &[&KEYS[..], &["set"]].concat(), |txn| {
            KEYS.iter().enumerate().for_each(|(number, key)| put(txn, key, number));
            if let Ok(mut set) = txn.edit_or_new::<Set>(Key::new(b"set")) {
                (0..25).for_each(|number| _ = set.add(format!("m{number}").as_bytes()));
            }
        });
        let writers: Vec<_> = (0..2)
            .map(|me| {
                let keyspace = keyspace.clone();
                thread::spawn(move || write(&keyspace, me))
            })
            .collect();
        let preparation = Preparation::new(Arc::new(Lines), Arc::default(), Arc::default());
        let (mut snapshot, mut expected) = {
            let mut guard = lock(&keyspace, &ShardSet::All);
            let expected = state(&guard);
            (Snapshot::begin(preparation, &mut guard, Piece { bytes: 40, entries: 2 }), expected)
        };
        let mut out = Vec::new();
        loop {
            match snapshot.step(&keyspace, &mut out) {
                Step::Complete => break,
                Step::Done => {}
                Step::Busy => thread::yield_now(),
            }
        }
        let mut written: Vec<String> = String::from_utf8_lossy(&out).lines().map(|line| format!("{line}\n")).collect();
        written.sort();
        expected.sort();
        assert_eq!(written, expected);
        assert_eq!(snapshot.progress().waiting_bytes(), 0);
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
    });
}
