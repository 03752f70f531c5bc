//! A log that is replayed, on several threads, gives the keyspace back.

use kelda_engine::engine::{ChangeSink, Lsn};
use kelda_engine::replay::replay;
use kelda_engine::testing::Console;
use kelda_store::txn::Changes;
use std::sync::{Arc, Mutex};

type Logged = Vec<(u32, Vec<Vec<u8>>)>;

#[derive(Default)]
struct Log(Mutex<Logged>);

impl ChangeSink for Log {
    fn commit(&self, changes: &Changes) -> Lsn {
        let owned =
            changes.iter().map(|change| (change.db, change.argv.iter().map(|word| word.to_vec()).collect::<Vec<_>>()));
        self.0.lock().unwrap().extend(owned);
        1
    }
}

/// Replays into a fresh engine on three threads.
fn replayed(log: &Logged, ours: bool) -> Result<Console, (u64, String)> {
    let console = Console::default();
    console.engine.loading.begin(0, 0);
    let (mut dealer, runners) = replay(&console.engine, 3);
    let result = std::thread::scope(|scope| {
        for runner in runners {
            scope.spawn(move || runner.run());
        }
        for (place, (db, argv)) in log.iter().enumerate() {
            let words: Vec<&[u8]> = argv.iter().map(|word| &word[..]).collect();
            dealer.command(*db, &words, if ours { place as u64 + 1 } else { 0 })?;
        }
        dealer.finish()
    });
    console.engine.loading.end();
    result.map(|count| {
        assert_eq!(count, log.len() as u64);
        console
    })
}

fn owned(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

#[test]
fn a_replayed_log_gives_the_keyspace_back() {
    let log = Arc::new(Log::default());
    let mut console = Console::with_sink(&[], Some(log.clone()));
    let mut ask = |line: &str| {
        let reply = console.ask("a", line);
        assert!(!reply.starts_with('-'), "{line}: {reply}");
    };
    ask("FUNCTION LOAD \"#!lua name=l\\nredis.register_function('f', function() return 7 end)\"");
    for n in 0..2000 {
        ask(&format!("SELECT {}", n % 3));
        ask(&format!("SET s{} {n}", n % 700));
        ask(&format!("APPEND t{} {n}", n % 50));
        ask(&format!("RPUSH l{} {n}", n % 10));
        ask(&format!("HSET h{} f{} {n}", n % 20, n % 7));
        ask(&format!("ZADD z{} {n} m{}", n % 20, n % 9));
        ask(&format!("XADD x{} * f {n}", n % 5));
        if n % 50 == 0 {
            ask(&format!("PEXPIRE s{} 1000000", n % 700));
            ask(&format!("RENAME l{} l1", n % 10));
            ask("LPOP l1");
        }
        match n {
            500 => ask("FLUSHDB"),
            900 => ask("SWAPDB 0 2"),
            _ => {}
        }
    }
    let mut again = replayed(&log.0.lock().unwrap(), true).unwrap();
    let digest = console.ask("a", "DEBUG DIGEST");
    assert_eq!(again.ask("a", "DEBUG DIGEST"), digest);
    assert_eq!(again.ask("a", "FCALL f 0"), ":7");
    let info = |console: &mut Console| console.ask("a", "INFO keyspace");
    assert_eq!(info(&mut again), info(&mut console));
}

#[test]
fn what_was_due_long_ago_stays_until_the_log_says_otherwise() {
    let log =
        ["SET a 1 PXAT 1000", "SET b 1", "PEXPIREAT b 1000", "APPEND a 2", "PERSIST b", "HSET h f v", "PEXPIREAT h 1"];
    let log: Logged = log.iter().map(|line| (0, owned(line))).collect();
    let mut again = replayed(&log, true).unwrap();
    // `a` and `h` are there, and due.
    assert!(again.ask("a", "INFO keyspace").contains("keys=3,expires=2"));
    again.check("GET b => $1 1\n GET a => $-1\n EXISTS h => :0");
}

#[test]
fn a_command_that_fails_ends_the_replay_of_our_own_log() {
    let log: Logged = ["SET a 1", "LPUSH a 2", "SET b 1"].iter().map(|line| (0, owned(line))).collect();
    let Err((place, text)) = replayed(&log, true) else { panic!("no error") };
    assert_eq!(place, 2);
    assert!(text.starts_with("'LPUSH a 2' fails: WRONGTYPE"), "{text}");
    // Other servers log what failed, too.
    let mut again = replayed(&log, false).unwrap();
    again.check("GET a => $1 1\n GET b => $1 1");
    let log: Logged = vec![(0, owned("NOSUCH a"))];
    assert!(replayed(&log, false).is_err());
}

#[test]
fn only_a_few_commands_are_answered_while_loading() {
    let mut console = Console::default();
    console.engine.loading.begin(console.engine.started_us / 1_000_000 - 10, 1000);
    console.engine.loading.loaded_bytes.store(250, std::sync::atomic::Ordering::Relaxed);
    console.check(
        "GET k => -LOADING Redis is loading the dataset in memory
         PING => +PONG",
    );
    let info = console.ask("a", "INFO persistence");
    assert!(info.contains("loading:1 "), "{info}");
    assert!(info.contains("loading_total_bytes:1000 loading_rdb_used_mem:0 loading_loaded_bytes:250 "), "{info}");
    assert!(info.contains("loading_loaded_perc:25.00 loading_eta_seconds:30"), "{info}");
    console.engine.loading.end();
    console.check("GET k => $-1");
}
