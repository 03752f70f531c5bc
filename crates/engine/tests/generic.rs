//! Commands on keys of any type and on whole databases. The replies are those of Redis and Valkey.

use kelda_engine::testing::Console;

#[test]
fn counting_and_deleting() {
    Console::default().check(
        r#"
         MSET a 1 b 2 => +OK
         EXISTS a => :1
         EXISTS a a b none => :3
         TOUCH a b b none => :3
         TYPE a => +string
         TYPE none => +none
         DEL a a none => :1
         UNLINK b none b => :1
         EXISTS a b => :0
         RPUSH l x => :1
         SADD s x => :1
         ZADD z 1 x => :1
         HSET h f v => :1
         XADD x 1-1 f v => $3 1-1
         TYPE l => +list
         TYPE s => +set
         TYPE z => +zset
         TYPE h => +hash
         TYPE x => +stream
         DEL l s z h x => :5
         DEL => -ERR wrong number of arguments for 'del' command
         EXISTS => -ERR wrong number of arguments for 'exists' command
        "#,
    );
}

#[test]
fn renaming() {
    Console::default().check(
        r#"
         RENAME a b => -ERR no such key
         RENAME none none => -ERR no such key
         RENAMENX none b => -ERR no such key
         SET a 1 EX 100 => +OK
         RENAME a a => +OK
         RENAMENX a a => :0
         RENAME a b => +OK
         TTL b => :100
         EXISTS a => :0
         SET c 3 => +OK
         RENAME c b => +OK
         TTL b => :-1
         GET b => $1 3
         SET d 4 => +OK
         RENAMENX d b => :0
         RENAMENX d e => :1
         MGET b d e => *3 $1 3 $-1 $1 4
         RPUSH l x y => :2
         RENAME l b => +OK
         LRANGE b 0 -1 => *2 $1 x $1 y
        "#,
    );
}

#[test]
fn copying() {
    Console::default().check(
        r#"
         SET a 1 EX 100 => +OK
         COPY a b => :1
         TTL b => :100
         COPY a b => :0
         COPY c b => :0
         COPY c c => -ERR source and destination objects are the same
         COPY a a => -ERR source and destination objects are the same
         SET a 2 => +OK
         COPY a b REPLACE => :1
         GET b => $1 2
         TTL b => :-1
         COPY a b DB 1 => :1
         COPY a b DB 1 => :0
         COPY a b DB 1 REPLACE => :1
         COPY a a DB 0 => -ERR source and destination objects are the same
         COPY a a DB 1 => :1
         COPY a b DB 1 DB 2 => :1
         COPY a b DB => -ERR syntax error
         COPY a b DB x => -ERR value is not an integer or out of range
         COPY a b DB 16 => -ERR DB index is out of range
         COPY a b DB -1 => -ERR DB index is out of range
         COPY a b DB 99999999999 => -ERR value is out of range, value must between -2147483648 and 2147483647
         COPY a b FOO => -ERR syntax error
         HSET h f v => :1
         COPY h h2 => :1
         HSET h f w => :0
         HGET h2 f => $1 v
         SELECT 1 => +OK
         GET b => $1 2
         GET a => $1 2
         SELECT 2 => +OK
         GET b => $1 2
        "#,
    );
}

#[test]
fn moving_between_databases() {
    Console::default().check(
        r#"
         SET a 1 EX 100 => +OK
         MOVE a 0 => -ERR source and destination objects are the same
         MOVE none 1 => :0
         MOVE a 16 => -ERR DB index is out of range
         MOVE a -1 => -ERR DB index is out of range
         MOVE a x => -ERR value is not an integer or out of range
         MOVE a 99999999999 => -ERR value is out of range, value must between -2147483648 and 2147483647
         MOVE a 1 => :1
         EXISTS a => :0
         SET a 2 => +OK
         MOVE a 1 => :0
         GET a => $1 2
         SELECT 1 => +OK
         TTL a => :100
         GET a => $1 1
         DEL a => :1
         SELECT 0 => +OK
         MOVE a 1 => :1
        "#,
    );
}

#[test]
fn whole_databases() {
    Console::default().check(
        r#"
         MSET a 1 b 2 => +OK
         SELECT 1 => +OK
         SET c 3 => +OK
         DBSIZE => :1
         SWAPDB 0 1 => +OK
         DBSIZE => :2
         MGET a b c => *3 $1 1 $1 2 $-1
         SWAPDB 1 1 => +OK
         SWAPDB 0 x => -ERR invalid second DB index
         SWAPDB x 0 => -ERR invalid first DB index
         SWAPDB 0 16 => -ERR DB index is out of range
         SWAPDB 16 0 => -ERR DB index is out of range
         SWAPDB -1 0 => -ERR DB index is out of range
         SWAPDB 99999999999 0 => -ERR invalid first DB index
         FLUSHDB => +OK
         DBSIZE => :0
         SELECT 0 => +OK
         DBSIZE => :1
         FLUSHDB FOO => -ERR syntax error
         FLUSHDB ASYNC SYNC => -ERR syntax error
         FLUSHDB ASYNC x => -ERR syntax error
         DBSIZE => :1
         FLUSHALL sync => +OK
         DBSIZE => :0
         FLUSHALL ASYNC => +OK
         FLUSHDB SYNC => +OK
        "#,
    );
}

#[test]
fn waiting_for_replicas_and_for_the_disk() {
    Console::default().check(
        r#"
         WAIT 0 0 => :0
         WAIT x 1 => -ERR value is not an integer or out of range
         WAIT 1 x => -ERR timeout is not an integer or out of range
         WAIT 1 -1 => -ERR timeout is negative
         WAITAOF 0 0 0 => *2 :0 :0
         WAITAOF 1 0 10 => -ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.
         WAITAOF 2 0 10 => -ERR value is out of range, value must between 0 and 1
         WAITAOF x 0 0 => -ERR value is not an integer or out of range
         WAITAOF 0 x 0 => -ERR value is out of range, must be positive
         WAITAOF 0 -1 0 => -ERR value is out of range, must be positive
         WAITAOF 0 0 x => -ERR timeout is not an integer or out of range
         WAITAOF 0 0 -1 => -ERR timeout is negative
        "#,
    );
}

/// The keyspace events that these commands lead to, as `event key`.
fn events(commands: &[&str]) -> Vec<String> {
    let mut console = Console::new(&[("notify-keyspace-events", "KEAn")]);
    console.ask("events", "PSUBSCRIBE __keyevent@*__:*");
    for command in commands {
        assert!(!console.ask("a", command).starts_with('-'), "{command}");
    }
    let output = console.ask("events", "PING");
    // Messages look like `$17 __keyevent@0__:set $1 a`.
    output
        .split("__keyevent@")
        .skip(1)
        .filter_map(|message| {
            let (event, rest) = message.split_once(' ')?;
            let key = rest.split(' ').nth(1)?;
            event.split_once("__:").map(|(db, event)| format!("{db}:{event} {key}"))
        })
        .filter(|event| !event.ends_with(":* "))
        .collect()
}

#[test]
fn events_of_strings() {
    let of = |command| events(&["SET a 1", command]).split_off(2);
    assert_eq!(events(&["SET a 1"]), ["0:new a", "0:set a"]);
    for (command, want) in [
        ("SET a 2", &["0:set a"][..]),
        ("SET a 2 EX 100", &["0:set a", "0:expire a"]),
        ("SET a 2 NX", &[]),
        ("SETEX a 100 2", &["0:set a", "0:expire a"]),
        ("GETSET a 2", &["0:set a"]),
        ("MSET a 2 b 3", &["0:set a", "0:new b", "0:set b"]),
        ("INCR a", &["0:incrby a"]),
        ("DECRBY b 2", &["0:new b", "0:incrby b"]),
        ("INCRBYFLOAT a 1.5", &["0:incrbyfloat a"]),
        ("APPEND a x", &["0:append a"]),
        ("SETRANGE a 5 x", &["0:setrange a"]),
        ("SETRANGE a 5 ''", &[]),
        ("GETDEL a", &["0:del a"]),
        ("GETEX a EX 100", &["0:expire a"]),
        ("GETEX a PERSIST", &[]),
        ("GETEX a PXAT 1", &["0:del a"]),
        ("SETBIT a 0 1", &["0:setbit a"]),
        ("SETBIT a 0 0", &[]),
        ("BITOP NOT b a", &["0:new b", "0:set b"]),
        ("BITOP AND a none", &["0:del a"]),
        ("BITFIELD a SET u8 0 0", &["0:setbit a"]),
        ("BITFIELD b OVERFLOW FAIL INCRBY u2 0 5", &[]),
    ] {
        assert_eq!(of(command), want, "{command}");
    }
}

#[test]
fn events_of_keys() {
    let of = |command| events(&["MSET a 1 b 2", "EXPIRE b 100", command]).split_off(5);
    for (command, want) in [
        ("DEL a none", &["0:del a"][..]),
        ("UNLINK a", &["0:del a"]),
        ("EXPIRE a 100", &["0:expire a"]),
        ("EXPIRE a -1", &["0:del a"]),
        ("EXPIRE none 100", &[]),
        ("PERSIST b", &["0:persist b"]),
        ("PERSIST a", &[]),
        ("RENAME a c", &["0:new c", "0:rename_from a", "0:rename_to c"]),
        ("RENAME a b", &["0:new b", "0:rename_from a", "0:rename_to b"]),
        ("RENAME a a", &[]),
        ("RENAMENX a b", &[]),
        ("COPY a c", &["0:new c", "0:copy_to c"]),
        ("COPY a b REPLACE", &["0:new b", "0:copy_to b"]),
        ("COPY a a DB 1", &["1:new a", "1:copy_to a"]),
        ("MOVE a 1", &["1:new a", "0:move_from a", "1:move_to a"]),
        ("FLUSHALL", &[]),
        ("SWAPDB 0 1", &[]),
    ] {
        assert_eq!(of(command), want, "{command}");
    }
}
