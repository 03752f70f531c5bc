//! The shard lock under every kind of schedule that the model checker thinks up.
//!
//! `KELDA_MODEL_ROUNDS=100 cargo test -p kelda-store-model` explores a hundred times as many.

use kelda_store_model::shard::{Guard, Keyspace, SHARDS, ShardSet};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread;
use shuttle::{Config, Runner};
use std::sync::Arc;

/// Explores so many schedules of `test`: half of them random, half with few changes of thread at awkward places.
fn explore(schedules: usize, test: fn()) {
    let rounds = std::env::var("KELDA_MODEL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let schedules = schedules * rounds;
    let mut config = Config::new();
    config.stack_size = 256 * 1024;
    Runner::new(RandomScheduler::new(schedules / 2), config.clone()).run(test);
    Runner::new(PctScheduler::new(3, schedules / 2), config).run(test);
}

fn set(shards: &[usize]) -> ShardSet {
    let mut set = ShardSet::None;
    for &shard in shards {
        set.add((shard as u64) << (64 - SHARDS.trailing_zeros()));
    }
    set
}

/// Locks as the engine does: again and again until it succeeds.
fn lock(keyspace: &Keyspace, shards: ShardSet) -> Guard<'_> {
    loop {
        if let Some(guard) = keyspace.lock(shards.clone()) {
            return guard;
        }
        thread::yield_now();
    }
}

/// Adds one to a number in the shard, so that another thread in the same shard would be noticed.
fn count(guard: &mut Guard, shard: usize) {
    let before = guard.shard_mut(shard).db_or_new(0).volatile;
    thread::yield_now();
    guard.shard_mut(shard).db_or_new(0).volatile = before + 1;
}

#[test]
fn sets_of_shards_exclude_each_other_and_never_deadlock() {
    explore(2_000, || {
        let keyspace = Arc::new(Keyspace::new(1));
        let sets: [&[usize]; 4] = [&[1, 2], &[3, 2], &[1, 3], &[2]];
        let threads: Vec<_> = sets
            .into_iter()
            .map(|shards| {
                let keyspace = keyspace.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        let mut guard = lock(&keyspace, set(shards));
                        shards.iter().for_each(|&shard| count(&mut guard, shard));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let guard = lock(&keyspace, ShardSet::All);
        let counts = [1, 2, 3].map(|shard| guard.shard(shard).db(0).map_or(0, |db| db.volatile));
        assert_eq!(counts, [4, 6, 4]);
    });
}

#[test]
fn who_wants_a_part_the_whole_or_nothing_but_a_look_meets_nobody() {
    explore(2_000, || {
        let keyspace = Arc::new(Keyspace::new(1));
        let whole = {
            let keyspace = keyspace.clone();
            thread::spawn(move || {
                let mut guard = lock(&keyspace, ShardSet::All);
                guard.will_take_long();
                (0..SHARDS).for_each(|shard| count(&mut guard, shard));
            })
        };
        let look = {
            let keyspace = keyspace.clone();
            thread::spawn(move || {
                keyspace.prefetch(0, &[0, u64::MAX]);
            })
        };
        for shard in [0, SHARDS - 1] {
            count(&mut lock(&keyspace, set(&[shard])), shard);
        }
        whole.join().expect("no panic");
        look.join().expect("no panic");
        let guard = lock(&keyspace, ShardSet::All);
        let total: usize =
            (0..SHARDS).filter_map(|shard| guard.shard(shard).db(0)).map(|db| db.volatile as usize).sum();
        assert_eq!(total, SHARDS + 2);
    });
}

#[test]
fn the_hint_of_what_is_due_is_right_once_all_guards_are_gone() {
    explore(1_000, || {
        let keyspace = Arc::new(Keyspace::new(1));
        let threads: Vec<_> = [500, 700]
            .into_iter()
            .map(|at| {
                let keyspace = keyspace.clone();
                thread::spawn(move || lock(&keyspace, set(&[1])).shard_mut(1).expiry.add(0, at as u64, 0, at))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let due = lock(&keyspace, set(&[1])).shard(1).expiry.next_due();
        assert_eq!(keyspace.due(1), due.expect("two registrations"));
    });
}
