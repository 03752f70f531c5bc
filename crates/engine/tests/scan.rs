//! SCAN, KEYS, RANDOMKEY and DBSIZE.

use kelda_engine::testing::Console;
use kelda_resp::Value;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

/// One call of SCAN: the cursor, and the keys.
fn scan(console: &mut Console, command: &str) -> (u64, Vec<String>) {
    let mut request = Vec::new();
    kelda_resp::encode_command(&mut request, &command.split(' ').collect::<Vec<_>>());
    console.send("a", &request);
    let Some(Value::Array(parts)) = console.receive("a") else { panic!("{command}") };
    let text = |value: &Value| match value {
        Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("{other:?}"),
    };
    let Value::Array(keys) = &parts[1] else { panic!("{parts:?}") };
    (text(&parts[0]).parse().expect("a number"), keys.iter().map(text).collect())
}

/// Calls SCAN with these options until the cursor is 0 again; `between` runs after each call. All keys, and the calls.
fn scan_all(console: &mut Console, options: &str, mut between: impl FnMut(&mut Console)) -> (BTreeSet<String>, usize) {
    let (mut cursor, mut calls, mut all) = (0, 0, BTreeSet::new());
    loop {
        let (next, keys) = scan(console, format!("SCAN {cursor} {options}").trim_end());
        all.extend(keys);
        calls += 1;
        if next == 0 {
            return (all, calls);
        }
        assert!(calls < 100_000, "SCAN does not end");
        cursor = next;
        between(console);
    }
}

fn fill(console: &mut Console, count: usize) -> BTreeSet<String> {
    let names: BTreeSet<String> = (0..count).map(|index| format!("key:{index}")).collect();
    for name in &names {
        assert_eq!(console.ask("a", &format!("SET {name} x")), "+OK");
    }
    names
}

#[test]
fn a_scan_returns_every_key() {
    let mut console = Console::default();
    let names = fill(&mut console, 3000);
    for options in ["", "COUNT 1", "COUNT 100", "COUNT 1000000"] {
        let (found, calls) = scan_all(&mut console, options, |_| {});
        assert_eq!(found, names, "{options}");
        match options {
            "COUNT 1000000" => assert_eq!(calls, 1),
            "COUNT 100" => assert!((20..=60).contains(&calls), "{calls} calls"),
            _ => assert!(calls > 100, "{calls} calls"),
        }
    }
}

#[test]
fn a_scan_of_few_keys_ends_at_once() {
    let mut console = Console::default();
    assert_eq!(scan(&mut console, "SCAN 0"), (0, vec![]));
    let names = fill(&mut console, 5);
    let (found, calls) = scan_all(&mut console, "", |_| {});
    assert_eq!((found, calls), (names, 1));
}

#[test]
fn keys_that_stay_are_returned_whatever_comes_and_goes() {
    let mut console = Console::default();
    let names = fill(&mut console, 1000);
    let mut round = 0;
    let (found, _) = scan_all(&mut console, "COUNT 7", |console| {
        for extra in 0..50 {
            console.ask("b", &format!("SET extra:{}:{extra} x", round % 3));
            console.ask("b", &format!("DEL extra:{}:{extra}", (round + 1) % 3));
        }
        round += 1;
    });
    assert!(found.is_superset(&names));
}

#[test]
fn filters_of_scan() {
    let mut console = Console::default();
    fill(&mut console, 100);
    console.check(
        "RPUSH list x => :1
         SADD set x => :1",
    );
    let mut found = |options: &str| scan_all(&mut console, options, |_| {}).0.len();
    assert_eq!(found("MATCH key:1*"), 11);
    assert_eq!(found("MATCH *"), 102);
    assert_eq!(found("MATCH nothing*"), 0);
    assert_eq!(found("TYPE list"), 1);
    assert_eq!(found("TYPE STRING"), 100);
    assert_eq!(found("TYPE string MATCH key:?"), 10);
    assert_eq!(found("TYPE zset"), 0);
    // Newer Redis and Valkey differ on whether this is an error.
}

#[test]
fn errors_of_scan() {
    Console::default().check(
        "SCAN => -ERR wrong number of arguments for 'scan' command
         SCAN x => -ERR invalid cursor
         SCAN -1 => -ERR invalid cursor
         SCAN 1x => -ERR invalid cursor
         SCAN 18446744073709551616 => -ERR invalid cursor
         SCAN 18446744073709551615 => *2 $1 0 *0
         SCAN 00 => *2 $1 0 *0
         SCAN 0 COUNT => -ERR syntax error
         SCAN 0 COUNT 0 => -ERR syntax error
         SCAN 0 COUNT -5 => -ERR syntax error
         SCAN 0 COUNT x => -ERR value is not an integer or out of range
         SCAN 0 COUNT 99999999999999999999 => -ERR value is not an integer or out of range
         SCAN 0 COUNT 9223372036854775807 => *2 $1 0 *0
         SCAN 0 MATCH => -ERR syntax error
         SCAN 0 FOO 1 => -ERR syntax error
         SCAN 0 NOVALUES => -ERR NOVALUES option can only be used in HSCAN
         SCAN 0 NOSCORES => -ERR NOSCORES option can only be used in ZSCAN",
    );
}

#[test]
fn keys_by_pattern() {
    let mut console = Console::default();
    console.check(
        r#"MSET a1 1 b1 2 "a[1]" 3 "" 4 => +OK
           KEYS a1 => *1 $2 a1
           KEYS none => *0
           KEYS "" => *1 $0
           KEYS b* => *1 $2 b1
           KEYS a?1? => *1 $4 a[1]
           KEYS "a\\[1]" => *1 $4 a[1]
           KEYS a[12] => *1 $2 a1
           KEYS zz* => *0
           KEYS => -ERR wrong number of arguments for 'keys' command"#,
    );
    assert!(console.ask("a", "KEYS *").starts_with("*4 "));
}

#[test]
fn a_key_that_is_due_is_not_seen() {
    let mut console = Console::default();
    console.check(
        "SET a x PX 50 => +OK
         SET b x => +OK
         DBSIZE => :2",
    );
    console.engine.active_expire.store(false, Relaxed);
    console.advance_ms(51);
    console.check(
        "KEYS a => *0
         KEYS * => *1 $1 b
         RANDOMKEY => $1 b
         SCAN 0 => *2 $1 0 *1 $1 b
         DBSIZE => :1",
    );
}

#[test]
fn of_the_due_keys_a_scan_removes_those_it_asks_for() {
    let mut console = Console::default();
    console.check(
        "SET a x PX 50 => +OK
         HSET b f x => :1
         PEXPIRE b 50 => :1
         SET c x => +OK",
    );
    console.engine.active_expire.store(false, Relaxed);
    console.advance_ms(51);
    assert_eq!(scan_all(&mut console, "TYPE string COUNT 100", |_| {}).0.len(), 1);
    console.check("DBSIZE => :2");
    assert_eq!(scan_all(&mut console, "MATCH d* COUNT 100", |_| {}).0.len(), 0);
    console.check("DBSIZE => :2");
    assert_eq!(scan_all(&mut console, "COUNT 100", |_| {}).0.len(), 1);
    console.check("DBSIZE => :1");
}

#[test]
fn random_keys_and_their_number() {
    let mut console = Console::default();
    console.check(
        "RANDOMKEY => $-1
         DBSIZE => :0",
    );
    let names = fill(&mut console, 20);
    assert_eq!(console.ask("a", "DBSIZE"), ":20");
    let drawn: BTreeSet<String> = (0..1000)
        .map(|_| console.ask("a", "RANDOMKEY").split(' ').next_back().unwrap_or_default().to_string())
        .collect();
    assert_eq!(drawn, names);
}

#[test]
fn in_transactions_and_scripts() {
    let mut console = Console::default();
    console.check(
        "SET a x => +OK
         MULTI => +OK
         SET b x => +QUEUED
         SCAN 0 MATCH b => +QUEUED
         KEYS b => +QUEUED
         KEYS a* => +QUEUED
         DBSIZE => +QUEUED
         DEL a => +QUEUED
         RANDOMKEY => +QUEUED
         EXEC => *7 +OK *2 $1 0 *1 $1 b *1 $1 b *1 $1 a :2 :1 $1 b",
    );
    let mut ask = |script: &str| console.ask("a", &format!("EVAL '{script}' 0"));
    assert_eq!(ask(r#"return redis.call("keys", "b")"#), "*1 $1 b");
    assert_eq!(ask(r#"return redis.call("scan", 0)"#), "*2 $1 0 *1 $1 b");
    assert_eq!(ask(r#"return redis.call("dbsize")"#), ":1");
}
