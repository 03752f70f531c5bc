//! A few hundred power cuts. `kelda-crash --cuts 1000000` does more.

use kelda_log::aof::{Log, Options, Reader, lock_dir};
use kelda_sim::disk::SimDisk;
use kelda_sim::power::{Tally, run};
use std::path::Path;
use std::sync::Arc;

#[test]
fn nothing_acknowledged_is_lost() {
    let mut tally = Tally::default();
    for seed in 0..40 {
        match run(seed, 16) {
            Ok(one) => tally.add(&one),
            Err(what) => panic!("{what}\nkelda-crash --cuts 1 --seed {seed}"),
        }
    }
    // The run is worth something only if all this happened.
    assert!(tally.cuts > 300 && tally.kills > 50 && tally.transactions > 3_000, "{tally:?}");
    assert!(
        tally.lost > 500 && tally.torn > 20 && tally.rewrites > 50 && tally.backups > 10 && tally.failures > 20,
        "{tally:?}"
    );
}

#[test]
fn a_seed_repeats_itself() {
    assert_eq!(run(5, 8), run(5, 8));
}

/// A log that is closed without a transaction has a mark in its file and no record. The mark has no LSN, by which syncs are counted;
/// but what the manifest tells of a closed log must be there after a power cut.
#[test]
fn what_closing_tells_of_is_on_disk() {
    let (dir, name) = (Path::new("/data/log"), "appendonly.aof");
    let options = || Options { buffer_max: 1 << 20, salt: 7, archive: false };
    for seed in 0..40 {
        let disk = SimDisk::new(seed, &["/data", "/data/log"]);
        let held = lock_dir(&disk, dir, name).expect("free");
        let log = Log::create(Arc::new(disk.clone()), dir, name, options(), held, 1_000, None).expect("created");
        assert!(log.close(2_000));
        drop(log);
        disk.power_cycle();
        let mut reader = Reader::open(Arc::new(disk.clone()), dir, name, true).expect("readable").expect("there");
        while reader.next().unwrap_or_else(|error| panic!("seed {seed}: {error}")).is_some() {}
        let recovered = reader.finish().expect("whole");
        assert!(recovered.cut.is_none(), "seed {seed}");
    }
}
