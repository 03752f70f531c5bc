//! DUMP, RESTORE, SAVE and DEBUG RELOAD. The replies are those of Redis and Valkey.

use kelda_engine::testing::Console;
use kelda_engine::worker::Clock;
use kelda_resp::{Value, encode_command};

/// Sends a command whose words may hold any bytes.
fn send(console: &mut Console, words: &[&[u8]]) -> Value {
    let mut bytes = Vec::new();
    encode_command(&mut bytes, words);
    console.send("a", &bytes);
    console.turn();
    console.receive("a").expect("a reply")
}

fn dump(console: &mut Console, key: &str) -> Vec<u8> {
    match send(console, &[b"DUMP", key.as_bytes()]) {
        Value::Bulk(payload) => payload,
        other => panic!("{other:?}"),
    }
}

fn restore(console: &mut Console, key: &str, payload: &[u8], options: &[&str]) -> String {
    let mut words: Vec<&[u8]> = vec![b"RESTORE", key.as_bytes(), b"0", payload];
    words.extend(options.iter().map(|word| word.as_bytes()));
    match send(console, &words) {
        Value::Status(text) | Value::Error(text) => String::from_utf8_lossy(&text).into_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors_come_in_the_order_of_redis() {
    Console::default().check(
        r#"
         SET a 5 => +OK
         DUMP none => $-1
         DUMP => -ERR wrong number of arguments for 'dump' command
         RESTORE k 0 => -ERR wrong number of arguments for 'restore' command
         RESTORE k 0 x => -ERR DUMP payload version or checksum are wrong
         RESTORE k -1 x => -ERR Invalid TTL value, must be >= 0
         RESTORE k foo x => -ERR value is not an integer or out of range
         RESTORE a 0 x => -BUSYKEY Target key name already exists.
         RESTORE a foo x => -BUSYKEY Target key name already exists.
         RESTORE a 0 x FOO => -ERR syntax error
         RESTORE a 0 x IDLETIME -1 => -ERR Invalid IDLETIME value, must be >= 0
         RESTORE k 0 x IDLETIME foo => -ERR value is not an integer or out of range
         RESTORE k 0 x FREQ 256 => -ERR Invalid FREQ value, must be >= 0 and <= 255
         RESTORE k 0 x FREQ foo => -ERR value is not an integer or out of range
         RESTORE k 0 x IDLETIME 1 FREQ 1 => -ERR syntax error
         RESTORE k 0 x FREQ 1 IDLETIME 1 => -ERR syntax error
         RESTORE k 0 x IDLETIME => -ERR syntax error
         RESTORE k 0 x REPLACE ABSTTL REPLACE => -ERR DUMP payload version or checksum are wrong
         RESTORE a 0 x REPLACE => -ERR DUMP payload version or checksum are wrong
         RESTORE-ASKING k 0 x => -ERR DUMP payload version or checksum are wrong
         GET a => $1 5
        "#,
    );
}

/// What Redis 7.0.15 and Valkey 9.1.2 answer to `SET a 5`, `DUMP a`.
#[test]
fn payloads_of_the_peers() {
    const REDIS: &[u8] = b"\x00\xc0\x05\x0a\x00\x63\x2f\x5f\x66\x83\x2f\xb3\x51";
    const VALKEY: &[u8] = b"\x00\xc0\x05\x50\x00\xac\x05\x96\xf7\x1d\x7d\xd4\xa5";
    let mut console = Console::default();
    for payload in [REDIS, VALKEY] {
        assert_eq!(restore(&mut console, "a", payload, &["REPLACE"]), "OK");
        console.check("GET a => $1 5");
        for at in 0..payload.len() {
            let mut damaged = payload.to_vec();
            damaged[at] ^= 1;
            let error = restore(&mut console, "b", &damaged, &[]);
            assert_eq!(error, "ERR DUMP payload version or checksum are wrong", "byte {at}");
        }
    }
    assert_eq!(dump(&mut console, "a"), REDIS);
    console.check("CONFIG SET rdb-version 80 => +OK");
    assert_eq!(dump(&mut console, "a"), VALKEY);
}

#[test]
fn every_type_comes_back() {
    let mut console = Console::default();
    console.check(
        r#"
         SET string 'some text' => +OK
         RPUSH list a b 3 => :3
         SADD ints 1 2 3 => :3
         SADD set a b 1 => :3
         ZADD zset 1 a 2.5 b -inf c => :3
         HSET hash f v g 7 => :2
         XADD stream 5-5 f v => $3 5-5
         XGROUP CREATE stream g 0 => +OK
         XREADGROUP GROUP g c STREAMS stream > => *1 *2 $6 stream *1 *2 $3 5-5 *2 $1 f $1 v
        "#,
    );
    for key in ["string", "list", "ints", "set", "zset", "hash", "stream"] {
        let payload = dump(&mut console, key);
        let copy = format!("{key}-copy");
        assert_eq!(restore(&mut console, &copy, &payload, &[]), "OK");
        assert_eq!(restore(&mut console, &copy, &payload, &[]), "BUSYKEY Target key name already exists.");
        assert_eq!(restore(&mut console, &copy, &payload, &["replace"]), "OK");
        let digests = console.ask("a", &format!("DEBUG DIGEST-VALUE {key} {copy}"));
        let (one, other) = digests.trim_start_matches("*2 +").split_once(" +").expect("two digests");
        assert_eq!(one.trim(), other.trim(), "{key}");
    }
}

#[test]
fn expiry_times_and_uses() {
    let mut console = Console::new(&[("maxmemory-policy", "allkeys-lru")]);
    console.check("SET a x => +OK");
    let payload = dump(&mut console, "a");
    let now_ms = console.clock.unix_us() / 1000;
    for (ttl, options, want) in [
        ("0", &[][..], ":-1"),
        ("5000", &[], ":5000"),
        (&(now_ms + 7000).to_string(), &["ABSTTL"], ":7000"),
        // Its time is over: there is no key, but no error.
        (&(now_ms - 7000).to_string(), &["ABSTTL"], ":-2"),
    ] {
        let mut words: Vec<&[u8]> = vec![b"RESTORE", b"b", ttl.as_bytes(), &payload, b"REPLACE"];
        words.extend(options.iter().map(|word: &&str| word.as_bytes()));
        assert_eq!(send(&mut console, &words), Value::Status(b"OK".to_vec()));
        assert_eq!(console.ask("a", "PTTL b").trim(), want);
    }
    assert_eq!(restore(&mut console, "b", &payload, &["IDLETIME", "1000"]), "OK");
    console.check("OBJECT IDLETIME b => :1000");
    console.check("CONFIG SET maxmemory-policy allkeys-lfu => +OK");
    assert_eq!(restore(&mut console, "b", &payload, &["FREQ", "100", "REPLACE"]), "OK");
    console.check("OBJECT FREQ b => :100");
}

#[test]
fn a_value_that_is_damaged_inside_is_bad_data() {
    let mut console = Console::default();
    for body in [
        // A set with the same member twice, a list without elements, an unknown type, a list that ends too early, two values.
        &b"\x02\x02\x01a\x01a"[..],
        b"\x01\x00",
        b"\x63\x00",
        b"\x01\x05\x01a",
        b"\x00\x01a\x01b",
        b"",
    ] {
        let mut payload = body.to_vec();
        kelda_log::rdb::payload::seal(&mut payload, kelda_log::rdb::Version::REDIS_7_0);
        assert_eq!(restore(&mut console, "k", &payload, &[]), "ERR Bad data format", "{body:?}");
    }
    // Nobody has such a version.
    let mut payload = b"\x00\x01a".to_vec();
    kelda_log::rdb::payload::seal(&mut payload, kelda_log::rdb::Version(500));
    assert_eq!(restore(&mut console, "k", &payload, &[]), "ERR DUMP payload version or checksum are wrong");
    console.check("EXISTS k => :0");
}

#[test]
fn save_and_reload() {
    let mut console = Console::default();
    console.check(
        r#"
         SET a 1 => +OK
         SET b x PX 10000 => +OK
         RPUSH l a b => :2
         SELECT 3 => +OK
         SADD s a => :1
         SAVE => +OK
         SELECT 0 => +OK
         SET c new => +OK
         DEBUG RELOAD NOSAVE NOFLUSH => -ERR Error trying to load the RDB dump, check server logs.
         DEBUG RELOAD FOO => -ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.
         DEL a => :1
         DEBUG RELOAD NOSAVE NOFLUSH MERGE => +OK
         MGET a b c => *3 $1 1 $1 x $3 new
         DEBUG RELOAD NOSAVE => +OK
         MGET a b c => *3 $1 1 $1 x $-1
         SELECT 3 => +OK
         SMEMBERS s => *1 $1 a
         SET d 1 => +OK
         DEBUG RELOAD => +OK
         GET d => $1 1
         SELECT 0 => +OK
         MULTI => +OK
         SAVE => -ERR Command not allowed inside a transaction
         DISCARD => +OK
        "#,
    );
    assert!(console.platform.files().contains_key("dump.rdb"));
    // A file that is damaged changes nothing.
    console.platform.files().entry("dump.rdb".into()).and_modify(|file| file[20] ^= 1);
    console.check(
        r#"
         DEBUG RELOAD NOSAVE => -ERR Error trying to load the RDB dump, check server logs.
         MGET a b => *2 $1 1 $1 x
        "#,
    );
}

#[test]
fn reload_keeps_how_long_keys_were_not_used() {
    let mut console = Console::new(&[("maxmemory-policy", "allkeys-lru")]);
    console.check("SET a x => +OK");
    console.advance_ms(50_000);
    console.check(
        r#"
         OBJECT IDLETIME a => :50
         DEBUG RELOAD => +OK
         OBJECT IDLETIME a => :50
        "#,
    );
}
