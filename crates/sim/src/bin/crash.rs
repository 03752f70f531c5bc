//! `kelda-crash`: the log through simulated power cuts, as many as wanted. Ends with an error and the seed at the first
//! acknowledged transaction that is lost, half a transaction, or one that comes back from the dead.

use kelda_sim::power::{Tally, run};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const USAGE: &str = "\
kelda-crash [--cuts N] [--seed S] [--lives L]
  --cuts: power cuts in all (default 10000); --seed: of the first disk, the following ones count up;
  --lives: processes that one disk goes through (default 16)";

/// Cuts between two signs of life.
const TELL_EVERY: u64 = 50_000;

fn main() -> ExitCode {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_micros() as u64);
    let (mut cuts, mut seed, mut lives) = (10_000, now, 16);
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().and_then(|value| value.parse().ok());
        match (name.as_str(), value) {
            ("--cuts", Some(value)) => cuts = value,
            ("--seed", Some(value)) => seed = value,
            ("--lives", Some(value)) => lives = value,
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("first seed {seed}");
    let start = Instant::now();
    let (mut tally, mut told) = (Tally::default(), 0);
    while tally.cuts < cuts {
        match run(seed, lives) {
            Ok(one) => tally.add(&one),
            Err(what) => {
                eprintln!("{what}\nagain: kelda-crash --cuts 1 --seed {seed} --lives {lives}");
                return ExitCode::FAILURE;
            }
        }
        seed += 1;
        if tally.cuts / TELL_EVERY > told {
            told = tally.cuts / TELL_EVERY;
            println!("{} cuts", tally.cuts);
        }
    }
    println!("{tally:?}");
    println!("{:.0} cuts/s; nothing acknowledged was lost", tally.cuts as f64 / start.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}
