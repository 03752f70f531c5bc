//! A few hundred power cuts. `kelda-crash --cuts 1000000` does more.

use kelda_sim::power::{Tally, run};

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
