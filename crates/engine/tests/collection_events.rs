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
