//! The keyspace events of the collections, in the order in which Redis sends them.

use kelda_engine::testing::Console;
use kelda_resp::Value;

/// Runs commands in turn and checks the events of each, as `event key`.
#[track_caller]
fn check(steps: &[(&str, &[&str])]) {
    let mut console = Console::new(&[("notify-keyspace-events", "AE")]);
    console.ask("subscriber", "PSUBSCRIBE __keyevent@0__:*");
    for (command, want) in steps {
        let reply = console.ask("a", command);
        assert!(!reply.starts_with('-'), "{command}: {reply}");
        let mut got = Vec::new();
        while let Some(message) = console.receive("subscriber") {
            let (Value::Array(parts) | Value::Push(parts)) = message else { panic!("{message:?}") };
            let [_, _, Value::Bulk(channel), Value::Bulk(key)] = &parts[..] else { panic!("{parts:?}") };
            let channel = String::from_utf8_lossy(channel);
            let event = channel.split(':').nth(1).unwrap_or_default();
            got.push(format!("{event} {}", String::from_utf8_lossy(key)));
        }
        assert_eq!(got, *want, "{command}");
    }
}

#[test]
fn fields_are_named_to_who_asks_for_them() {
    let mut console = Console::new(&[("notify-keyspace-events", "hSTIV")]);
    console.ask("subscriber", "PSUBSCRIBE __*");
    let mut heard = |command: &str| {
        let reply = console.ask("a", command);
        assert!(!reply.starts_with('-'), "{command}: {reply}");
        let mut got = Vec::new();
        while let Some(message) = console.receive("subscriber") {
            let (Value::Array(parts) | Value::Push(parts)) = message else { panic!("{message:?}") };
            let [_, _, Value::Bulk(channel), Value::Bulk(payload)] = &parts[..] else { panic!("{parts:?}") };
            got.push(format!("{} {}", String::from_utf8_lossy(channel), String::from_utf8_lossy(payload)));
        }
        got
    };
    assert_eq!(
        heard("HSET h a 1 bc 2"),
        [
            "__subkeyspace@0__:h hset|1:a,2:bc",
            "__subkeyevent@0__:hset 1:h|1:a,2:bc",
            "__subkeyspaceitem@0__:h\na hset",
            "__subkeyspaceitem@0__:h\nbc hset",
            "__subkeyspaceevent@0__:hset|h 1:a,2:bc",
        ]
    );
    // A key with a newline has no items.
    assert_eq!(heard("HSET \"a\\nb\" f 1").len(), 3);
    let mut first = |command: &str| heard(command).first().cloned().unwrap_or_default();
    assert_eq!(first("HSETNX h d 1"), "__subkeyspace@0__:h hset|1:d");
    assert_eq!(first("HSETNX h d 1"), "");
    assert_eq!(first("HINCRBY h d 1"), "__subkeyspace@0__:h hincrby|1:d");
    assert_eq!(first("HINCRBYFLOAT h d 1"), "__subkeyspace@0__:h hincrbyfloat|1:d");
    // Only those that it happened to.
    assert_eq!(first("HEXPIRE h 100 FIELDS 2 a z"), "__subkeyspace@0__:h hexpire|1:a");
    assert_eq!(first("HPERSIST h FIELDS 2 a bc"), "__subkeyspace@0__:h hpersist|1:a");
    assert_eq!(first("HGETEX h EX 100 FIELDS 2 a z"), "__subkeyspace@0__:h hexpire|1:a");
    assert_eq!(first("HSETEX h EX 100 FIELDS 2 x 1 y 2"), "__subkeyspace@0__:h hset|1:x,1:y");
    assert_eq!(first("HGETDEL h FIELDS 2 x z"), "__subkeyspace@0__:h hdel|1:x");
    assert_eq!(first("HDEL h z y"), "__subkeyspace@0__:h hdel|1:y");
    assert_eq!(first("HPEXPIRE h 0 FIELDS 1 d"), "__subkeyspace@0__:h hdel|1:d");
    assert_eq!(first("DEL h"), "");
}

#[test]
fn fields_that_expire_are_named() {
    let mut console = Console::new(&[("notify-keyspace-events", "hS")]);
    console.ask("subscriber", "PSUBSCRIBE __*");
    console.check("HSET h a 1 b 2 c 3 => :3\nHPEXPIRE h 10 FIELDS 2 a b => *2 :1 :1");
    console.raw("subscriber");
    console.advance_ms(1000);
    let heard = String::from_utf8_lossy(&console.raw("subscriber")).into_owned();
    assert!(heard.contains("hexpired|1:a,1:b") || heard.contains("hexpired|1:b,1:a"), "{heard}");
    console.check("HPEXPIRE h 10 FIELDS 1 c => *1 :1");
    console.raw("subscriber");
    console.advance_ms(1000);
    let heard = String::from_utf8_lossy(&console.raw("subscriber")).into_owned();
    assert!(heard.contains("hexpired|1:c"), "{heard}");
}

#[test]
fn what_is_replaced_is_told_to_who_asks() {
    let mut console = Console::new(&[("notify-keyspace-events", "Eoc")]);
    console.ask("subscriber", "PSUBSCRIBE __keyevent@0__:*");
    let mut heard = |command: &str| {
        console.ask("a", command);
        let text = String::from_utf8_lossy(&console.raw("subscriber")).into_owned();
        (text.contains(":overwritten"), text.contains(":type_changed"))
    };
    assert_eq!(heard("SET k 1"), (false, false));
    assert_eq!(heard("SET k 2"), (true, false));
    assert_eq!(heard("RPUSH l a b"), (false, false));
    assert_eq!(heard("SET l 2"), (true, true));
    assert_eq!(heard("SADD s 1"), (false, false));
    assert_eq!(heard("SUNIONSTORE k s"), (true, true));
    assert_eq!(heard("INCR l"), (false, false));
    assert_eq!(heard("APPEND l x"), (false, false));
}

#[test]
fn hashes() {
    check(&[
        ("HSET h a 1 b 2", &["hset h"]),
        ("HMSET h a 1", &["hset h"]),
        ("HSETNX h c 1", &["hset h"]),
        ("HSETNX h c 1", &[]),
        ("HINCRBY h n 1", &["hincrby h"]),
        ("HINCRBYFLOAT h n 1", &["hincrbyfloat h"]),
        ("HDEL h zz", &[]),
        ("HDEL h a b c n", &["hdel h", "del h"]),
        ("HSET h a 1 b 2", &["hset h"]),
        ("HGETDEL h FIELDS 1 z", &[]),
        ("HGETDEL h FIELDS 2 a z", &["hdel h"]),
        ("HGETDEL h FIELDS 2 b z", &["hdel h", "del h"]),
    ]);
}

#[test]
fn sets() {
    check(&[
        ("SADD s a b c", &["sadd s"]),
        ("SADD s a", &[]),
        ("SREM s z", &[]),
        ("SREM s a", &["srem s"]),
        ("SMOVE s d b", &["srem s", "sadd d"]),
        ("SMOVE s d c", &["srem s", "del s", "sadd d"]),
        ("SADD s b", &["sadd s"]),
        ("SMOVE s d b", &["srem s", "del s"]),
        ("SPOP d 1", &["spop d"]),
        ("SPOP d", &["spop d", "del d"]),
        ("SADD s 1 2 3 4", &["sadd s"]),
        ("SPOP s 2", &["spop s"]),
        ("SPOP s 0", &[]),
        ("SPOP s 5", &["spop s", "del s"]),
        ("SADD a 1 2 3", &["sadd a"]),
        ("SADD b 2", &["sadd b"]),
        ("SINTERSTORE r a b", &["sinterstore r"]),
        ("SUNIONSTORE r a b", &["sunionstore r"]),
        ("SDIFFSTORE r a b", &["sdiffstore r"]),
        ("SINTERSTORE r a no", &["del r"]),
        ("SINTERSTORE r a no", &[]),
        ("SDIFFSTORE r b a", &[]),
    ]);
}
