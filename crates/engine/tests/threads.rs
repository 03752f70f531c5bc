//! Several workers of one engine on real threads: what must hold however they interleave.
//!
//! `KELDA_ROUNDS=100 cargo test -p kelda-engine --test threads` runs a hundred times as much; `KELDA_SEED` gives
//! other random choices.

mod loops;

use kelda_engine::mailbox::Message;
use kelda_resp::Value;
use loops::{Client, Rng, Threads, int, items, text};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::scope;

const WORKERS: usize = 3;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn rounds(base: u64) -> u64 {
    base * variable("KELDA_ROUNDS").unwrap_or(1)
}

fn rng(thread: u64) -> Rng {
    Rng::new(variable("KELDA_SEED").unwrap_or(1) * 1000 + thread + 1)
}

const ACCOUNTS: u64 = 12;
const OPENING: i64 = 100;

fn account(index: u64) -> String {
    format!("account:{index}")
}

/// Moves money by WATCH, GET, MULTI, SET, EXEC. Whether nobody came in between.
fn transfer_watched(client: &mut Client, from: &str, to: &str, sum: i64) -> bool {
    client.ask(&["WATCH", from, to]);
    let (a, b) = (client.number(from) - sum, client.number(to) + sum);
    client.ask(&["MULTI"]);
    client.ask(&["SET", from, &a.to_string()]);
    client.ask(&["SET", to, &b.to_string()]);
    match client.ask(&["EXEC"]) {
        Value::NullArray => false,
        done => items(done).len() == 2,
    }
}

/// Moves money in a script that declares its keys, only one of them, or none.
fn transfer_scripted(client: &mut Client, from: &str, to: &str, sum: i64, declared: usize) {
    const SCRIPT: &str = "local from, to = ARGV[1], ARGV[2]
        redis.call('set', from, redis.call('get', from) - ARGV[3])
        redis.call('set', to, redis.call('get', to) + ARGV[3])
        return 1";
    let (count, sum) = (declared.to_string(), sum.to_string());
    let mut words = vec!["EVAL", SCRIPT, &count];
    words.extend(&[from, to][..declared]);
    words.extend([from, to, &sum]);
    assert_eq!(client.ask(&words), Value::Int(1));
}

#[test]
fn money_moves_and_none_is_made_or_lost() {
    let threads = Threads::new(WORKERS, &[]);
    let mut client = threads.client(0);
    for index in 0..ACCOUNTS {
        client.ask(&["SET", &account(index), &OPENING.to_string()]);
    }
    let over = AtomicBool::new(false);
    let snapshots = AtomicU64::new(0);
    scope(|all| {
        let movers: Vec<_> = (0..6u64)
            .map(|thread| {
                let mut client = threads.client(thread as usize % WORKERS);
                all.spawn(move || {
                    let mut rng = rng(thread);
                    for _ in 0..rounds(60) {
                        let from = rng.below(ACCOUNTS);
                        let to = (from + 1 + rng.below(ACCOUNTS - 1)) % ACCOUNTS;
                        let (from, to, sum) = (account(from), account(to), rng.below(50) as i64);
                        match rng.below(4) {
                            0 => while !transfer_watched(&mut client, &from, &to, sum) {},
                            kind => transfer_scripted(&mut client, &from, &to, sum, kind as usize - 1),
                        }
                    }
                })
            })
            .collect();
        for reader in 0..2 {
            let mut client = threads.client(reader % WORKERS);
            let (over, snapshots) = (&over, &snapshots);
            all.spawn(move || {
                while !over.load(SeqCst) {
                    client.ask(&["MULTI"]);
                    for index in 0..ACCOUNTS {
                        client.ask(&["GET", &account(index)]);
                    }
                    let sum: i64 = items(client.ask(&["EXEC"])).iter().map(int).sum();
                    assert_eq!(sum, OPENING * ACCOUNTS as i64);
                    snapshots.fetch_add(1, SeqCst);
                }
            });
        }
        let failed = movers.into_iter().any(|mover| mover.join().is_err());
        over.store(true, SeqCst);
        assert!(!failed);
    });
    assert!(snapshots.load(SeqCst) > 0);
}

#[test]
fn every_element_is_handed_out_once() {
    /// What a consumer does to wait for an element of either list.
    const FORMS: [&[&str]; 4] = [
        &["BLPOP", "left", "right"],
        &["BRPOP", "right", "left"],
        &["BLMOVE", "left", "moved", "LEFT", "RIGHT"],
        &["BLPOP", "right"],
    ];
    let threads = Threads::new(WORKERS, &[]);
    let (producers, count) = (3u64, rounds(150));
    let over = &AtomicBool::new(false);
    let popped = scope(|all| {
        let consumers: Vec<_> = (0..8u64)
            .map(|thread| {
                let mut client = threads.client(thread as usize % WORKERS);
                all.spawn(move || {
                    let (mut rng, mut popped) = (rng(thread), Vec::new());
                    loop {
                        let last = over.load(SeqCst);
                        let form = FORMS[rng.below(4) as usize];
                        // Short enough that waits end while they are being served.
                        let timeout = format!("0.00{}", 1 + rng.below(4));
                        let mut words = form.to_vec();
                        words.push(&timeout);
                        match client.ask(&words) {
                            Value::Array(pair) => popped.push(text(&pair[1])),
                            // BLMOVE's element is found in its list.
                            Value::Bulk(_) => {}
                            Value::Null | Value::NullArray if last => return popped,
                            Value::Null | Value::NullArray => {}
                            other => panic!("{other:?}"),
                        }
                    }
                })
            })
            .collect();
        let pushers: Vec<_> = (0..producers)
            .map(|thread| {
                let mut client = threads.client(thread as usize % WORKERS);
                all.spawn(move || {
                    let mut rng = rng(100 + thread);
                    for number in 0..count {
                        let element = format!("{thread}:{number}");
                        let list = if rng.below(2) == 0 { "left" } else { "right" };
                        match rng.below(3) {
                            0 => drop(client.ask(&["RPUSH", list, &element])),
                            1 => drop(client.ask(&["LPUSH", list, &element])),
                            _ => {
                                let script = "return redis.call('rpush', ARGV[1], ARGV[2])";
                                client.ask(&["EVAL", script, "0", list, &element]);
                            }
                        }
                    }
                })
            })
            .collect();
        let failed = pushers.into_iter().any(|pusher| pusher.join().is_err());
        over.store(true, SeqCst);
        assert!(!failed);
        let popped = consumers.into_iter().map(|consumer| consumer.join().expect("no panic"));
        popped.flatten().collect::<Vec<_>>()
    });
    let mut client = threads.client(0);
    let mut got = popped;
    for list in ["left", "right", "moved"] {
        got.extend(items(client.ask(&["LRANGE", list, "0", "-1"])).iter().map(text));
    }
    let distinct: BTreeSet<&String> = got.iter().collect();
    assert_eq!(distinct.len(), got.len(), "an element was handed out twice");
    assert_eq!(got.len() as u64, producers * count, "an element was lost");
    assert_eq!(threads.engine.clients.blocked.load(SeqCst), 0);
}

#[test]
fn clients_that_vanish_while_they_wait_take_nothing_with_them() {
    let threads = Threads::new(WORKERS, &[]);
    let mut pusher = threads.client(0);
    for round in 0..rounds(100) {
        let mut waiter = threads.client(1 + round as usize % 2);
        waiter.send(&["BLPOP", "gone", "0"]);
        // Its worker has read the command once it answers another client.
        threads.client(1 + round as usize % 2).say("PING");
        drop(waiter);
        threads.client(1 + round as usize % 2).say("PING");
        assert_eq!(pusher.say("RPUSH gone x"), Value::Int(1));
        waiter = threads.client(2);
        assert_eq!(items(waiter.say("BLPOP gone 0")).len(), 2);
    }
    assert_eq!(threads.engine.clients.blocked.load(SeqCst), 0);
}

#[test]
fn subscribers_see_the_messages_of_a_channel_in_one_order() {
    let threads = Threads::new(WORKERS, &[]);
    let count = rounds(200);
    scope(|all| {
        let subscribers: Vec<_> = (0..2 * WORKERS)
            .map(|index| {
                let mut client = threads.client(index % WORKERS);
                let pattern = index >= WORKERS;
                client.say(if pattern { "PSUBSCRIBE n*" } else { "SUBSCRIBE news" });
                all.spawn(move || {
                    let mut next = || text(items(client.receive().expect("open")).last().expect("a payload"));
                    (0..3 * count).map(|_| next()).collect::<Vec<_>>()
                })
            })
            .collect();
        for publisher in 0..3usize {
            let mut client = threads.client(publisher);
            all.spawn(move || {
                for number in 0..count {
                    let payload = format!("{publisher}:{number}");
                    let script = "return redis.call('publish', 'news', ARGV[1])";
                    let got = match number % 3 {
                        0 => client.ask(&["EVAL", script, "0", &payload]),
                        _ => client.ask(&["PUBLISH", "news", &payload]),
                    };
                    assert_eq!(got, Value::Int(2 * WORKERS as i64));
                }
            });
        }
        let seen: Vec<Vec<String>> = subscribers.into_iter().map(|one| one.join().expect("no panic")).collect();
        for other in &seen[1..] {
            assert_eq!(*other, seen[0]);
        }
        for publisher in 0..3 {
            let prefix = format!("{publisher}:");
            let own = seen[0].iter().filter_map(|payload| payload.strip_prefix(&prefix)?.parse::<u64>().ok());
            assert!(own.eq(0..count));
        }
    });
}

#[test]
fn watched_counters_lose_no_increment() {
    let threads = Threads::new(WORKERS, &[]);
    let clients = 4;
    scope(|all| {
        for thread in 0..clients {
            let mut client = threads.client(thread as usize % WORKERS);
            all.spawn(move || {
                let (mut rng, mut done) = (rng(thread), 0);
                while done < rounds(80) {
                    let key = format!("counter:{}", rng.below(2));
                    client.ask(&["WATCH", &key]);
                    let next = client.number(&key) + 1;
                    if rng.below(10) == 0 {
                        client.say("UNWATCH");
                        continue;
                    }
                    client.say("MULTI");
                    client.ask(&["SET", &key, &next.to_string()]);
                    done += u64::from(client.say("EXEC") != Value::NullArray);
                }
            });
        }
    });
    let mut client = threads.client(0);
    assert_eq!(client.number("counter:0") + client.number("counter:1"), (clients * rounds(80)) as i64);
}

/// Until the engine knows of a script that has been running for a while.
fn wait_for_long_script(threads: &Threads) {
    while threads.engine.running.count() == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_long_script_holds_up_only_who_needs_its_keys() {
    let threads = Threads::new(2, &[("busy-reply-threshold", "100")]);
    let mut waiter = threads.client(0);
    waiter.send(&["BLPOP", "mine", "0"]);
    threads.client(0).say("PING");
    let mut scripted = threads.client(0);
    scripted.send(&["EVAL", "while true do end", "1", "mine"]);
    wait_for_long_script(&threads);
    for worker in 0..2 {
        let mut client = threads.client(worker);
        assert_eq!(text(&client.say("PING")), "PONG");
        for number in 0..100 {
            let key = format!("other:{number}");
            assert_eq!(text(&client.ask(&["SET", &key, "1"])), "OK");
            assert_eq!(client.number(&key), 1);
        }
        // A wait on the script's shard is ended when it can be; meanwhile its thread goes on.
        let info = threads.engine.clients.all().into_iter().find(|info| info.blocked.load(SeqCst));
        let session = info.expect("a blocked client").at;
        threads.engine.post(1, 0, Message::Unblock { session, with_error: false });
        assert_eq!(text(&client.say("PING")), "PONG");
        // A script without keys does not need the shard, but this thread's interpreter, or it is put aside.
        let mut transaction = threads.client(worker);
        transaction.say("MULTI");
        transaction.say("GET mine");
        let error = text(&transaction.say("EXEC"));
        assert!(error.starts_with("EXECABORT") && error.contains("BUSY"), "{error}");
        assert!(text(&transaction.say("EXEC")).contains("without MULTI"));
    }
    for worker in 0..2 {
        let answer = threads.client(worker).say("GET mine");
        assert!(text(&answer).starts_with("BUSY"), "{answer:?}");
    }
    assert_eq!(text(&threads.client(0).say("SCRIPT KILL")), "OK");
    let error = text(&scripted.receive().expect("open"));
    assert!(error.contains("Script killed by user"), "{error}");
    assert!(matches!(waiter.receive(), Some(Value::Null | Value::NullArray)));
    assert_eq!(threads.client(1).say("GET mine"), Value::Null);
    assert_eq!(text(&threads.client(1).say("SCRIPT KILL")), "NOTBUSY No scripts in execution right now.");
}

/// Asks until the answer is BUSY.
fn ask_until_busy(client: &mut Client, line: &str) {
    while !text(&client.say(line)).starts_with("BUSY Redis is busy") {
        std::thread::yield_now();
    }
}

#[test]
fn everyone_is_told_of_a_long_script_where_that_is_asked_for() {
    let threads = Threads::new(2, &[("busy-reply-threshold", "10"), ("busy-reply-scope", "everyone")]);
    let mut queued = threads.client(1);
    for line in ["WATCH other", "MULTI", "SET other 1"] {
        queued.say(line);
    }
    let mut scripted = threads.client(0);
    scripted.send(&["EVAL", "while true do end", "1", "mine"]);
    wait_for_long_script(&threads);
    for worker in 0..2 {
        let mut client = threads.client(worker);
        ask_until_busy(&mut client, "PING");
        for line in ["GET other", "SET other 2", "CONFIG GET port", "EVAL 'return 1' 0", "INFO", "CLIENT LIST"] {
            assert!(text(&client.say(line)).starts_with("BUSY"), "{line}");
        }
        assert_eq!(text(&client.say("NOSUCH")), "ERR unknown command 'NOSUCH', with args beginning with: ");
        // What Redis lets through.
        for line in ["SELECT 1", "MULTI"] {
            assert_eq!(text(&client.say(line)), "OK", "{line}");
        }
        assert!(text(&client.say("GET other")).starts_with("BUSY"));
        assert!(text(&client.say("EXEC")).starts_with("EXECABORT Transaction discarded because of: BUSY"));
        assert_eq!(text(&client.say("RESET")), "RESET");
    }
    assert!(text(&queued.say("EXEC")).starts_with("EXECABORT Transaction discarded because of: BUSY"));
    assert_eq!(text(&threads.client(1).say("SCRIPT KILL")), "OK");
    assert!(text(&scripted.receive().expect("open")).contains("Script killed by user"));
    assert_eq!(text(&threads.client(0).say("PING")), "PONG");
    assert_eq!(queued.say("GET other"), Value::Null);
}

#[test]
fn a_transaction_with_a_script_waits_whole_for_the_interpreter() {
    let threads = Threads::new(2, &[("busy-reply-threshold", "0")]);
    let scripted = threads.client(0);
    // Without keys it holds no shard: only the thread's interpreter.
    scripted.send(&["EVAL", "while true do end", "0"]);
    wait_for_long_script(&threads);
    let mut transaction = threads.client(0);
    transaction.say("MULTI");
    transaction.say("SET half done");
    transaction.ask(&["EVAL", "return redis.call('get', 'half')", "0"]);
    transaction.send(&["EXEC"]);
    // Its worker has seen it once it answers another client.
    assert_eq!(threads.client(0).say("GET half"), Value::Null);
    assert_eq!(text(&threads.client(1).say("SCRIPT KILL")), "OK");
    let done: Vec<String> = items(transaction.receive().expect("open")).iter().map(text).collect();
    assert_eq!(done, ["OK", "done"]);
}

#[test]
fn a_script_that_has_written_is_not_killed() {
    let threads = Threads::new(2, &[]);
    let mut scripted = threads.client(0);
    let script = "redis.call('set', KEYS[1], 'half')
        for i = 1, 3e7 do end
        redis.call('set', KEYS[1], 'whole') return 1";
    scripted.send(&["EVAL", script, "1", "mine"]);
    wait_for_long_script(&threads);
    let answer = text(&threads.client(1).say("SCRIPT KILL"));
    assert!(answer.starts_with("UNKILLABLE") || answer.starts_with("NOTBUSY"), "{answer}");
    assert_eq!(scripted.receive(), Some(Value::Int(1)));
    assert_eq!(text(&threads.client(1).say("GET mine")), "whole");
}

#[test]
fn nobody_finds_a_client_that_was_told_that_it_may_go() {
    let threads = Threads::new(2, &[]);
    let mut other = threads.client(1);
    for _ in 0..rounds(100) {
        let mut client = threads.client(0);
        let id = int(&client.say("CLIENT ID"));
        assert_eq!(text(&client.say("QUIT")), "OK");
        assert_eq!(text(&other.say(&format!("CLIENT LIST ID {id}"))), "");
        assert_eq!(other.say(&format!("CLIENT KILL ID {id}")), Value::Int(0));
    }
}

#[test]
fn killed_clients_leave_while_blocked_or_executing() {
    let threads = Threads::new(2, &[("busy-reply-threshold", "0")]);
    let kill = |id: u64| {
        let info = threads.engine.clients.get(id).expect("a client");
        info.killed.store(true, SeqCst);
        threads.engine.post(1, 0, Message::Kill { session: info.at });
    };
    let last = || threads.engine.clients.all().last().map_or(0, |info| info.at.id);
    let mut blocked = threads.client(0);
    let blocked_id = last();
    blocked.send(&["BLPOP", "mine", "0"]);
    threads.client(0).say("PING");
    kill(blocked_id);
    assert_eq!(blocked.receive(), None);
    assert_eq!(threads.engine.clients.blocked.load(SeqCst), 0);
    let mut executing = threads.client(0);
    let executing_id = last();
    executing.send(&["EVAL", "while true do end", "0"]);
    wait_for_long_script(&threads);
    kill(executing_id);
    threads.client(0).say("PING");
    assert_eq!(text(&threads.client(1).say("SCRIPT KILL")), "OK");
    assert_eq!(executing.receive(), None);
}
