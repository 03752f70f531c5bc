//! HyperLogLog. The replies are those of Redis and Valkey; the bytes are Redis's.

use kelda_engine::testing::Console;

const INVALID: &str = "-WRONGTYPE Key is not a valid HyperLogLog string value.";
const CORRUPT: &str = "-INVALIDOBJ Corrupted HLL object detected";
const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

#[test]
fn adding_and_counting() {
    Console::default().check(
        r#"
         PFADD h a b c => :1
         PFADD h a => :0
         PFADD h => :0
         PFCOUNT h => :3
         PFCOUNT h => :3
         PFADD h d => :1
         PFCOUNT h => :4
         PFADD new => :1
         STRLEN new => :18
         OBJECT ENCODING new => $3 raw
         PFCOUNT new => :0
         PFCOUNT none => :0
         PFCOUNT none none2 => :0
         PFCOUNT h none => :4
         EXPIRE h 100 => :1
         PFADD h e f g => :1
         TTL h => :100
         PFCOUNT => -ERR wrong number of arguments for 'pfcount' command
         PFADD => -ERR wrong number of arguments for 'pfadd' command
         PFMERGE => -ERR wrong number of arguments for 'pfmerge' command
        "#,
    );
}

#[test]
fn the_bytes_are_those_of_redis() {
    let mut console = Console::default();
    console.check("PFADD h a b c => :1");
    let get = |console: &mut Console| {
        console.send("a", b"GET h\r\n");
        console.raw("a")
    };
    let header = b"$27\r\nHYLL\x01\0\0\0\0\0\0\0\0\0\0\x80";
    let runs = b"\x60\xf3\x80\x50\xb1\x84\x4b\xfb\x80\x42\x5a\r\n";
    assert_eq!(get(&mut console), [&header[..], runs].concat());
    // The number counted stands in the header from then on.
    console.check("PFCOUNT h => :3");
    let header = b"$27\r\nHYLL\x01\0\0\0\x03\0\0\0\0\0\0\0";
    assert_eq!(get(&mut console), [&header[..], runs].concat());
    console.check("PFDEBUG DECODE h => $44 Z:8436 v:1,1 Z:4274 v:2,1 Z:3068 v:1,1 Z:603");
}

#[test]
fn merging() {
    Console::default().check(
        r#"
         PFADD one a b c => :1
         PFADD two c d e f => :1
         PFMERGE both one two none => +OK
         PFCOUNT both => :6
         PFCOUNT one two => :6
         PFMERGE one two => +OK
         PFCOUNT one => :6
         PFDEBUG ENCODING one => +sparse
         PFDEBUG TODENSE two => :1
         PFMERGE one two => +OK
         PFDEBUG ENCODING one => +dense
         PFCOUNT one => :6
         PFADD one g => :1
         PFCOUNT one => :7
         PFADD one g => :0
         PFCOUNT one two both => :7
         PFMERGE empty => +OK
         STRLEN empty => :18
        "#,
    );
}

#[test]
fn forms() {
    Console::default().check(
        r#"
         PFADD h a b c => :1
         PFDEBUG ENCODING h => +sparse
         PFDEBUG TODENSE h => :1
         PFDEBUG TODENSE h => :0
         PFDEBUG ENCODING h => +dense
         STRLEN h => :12304
         PFCOUNT h => :3
         PFDEBUG DECODE h => -ERR HLL encoding is not sparse
         PFDEBUG ENCODING none => -ERR The specified key does not exist
         PFDEBUG foo none => -ERR The specified key does not exist
         PFDEBUG FOO h => -ERR Unknown PFDEBUG subcommand 'FOO'
         PFDEBUG ENCODING => -ERR wrong number of arguments for 'pfdebug' command
         PFDEBUG SIMD OFF => +disabled
         PFDEBUG SIMD ON => +enabled
         CONFIG SET hll-sparse-max-bytes 30 => +OK
         PFADD few a b c => :1
         PFDEBUG ENCODING few => +sparse
         PFADD few d e f g => :1
         PFDEBUG ENCODING few => +dense
         CONFIG SET hll-sparse-max-bytes 0 => +OK
         PFADD zero a => :1
         PFDEBUG ENCODING zero => +dense
         PFSELFTEST => +OK
        "#,
    );
    let mut console = Console::default();
    console.check("PFADD h a => :1");
    let registers = console.ask("a", "PFDEBUG GETREG h");
    assert!(registers.starts_with("*16384 :0 :0"), "{}", &registers[..40]);
    assert_eq!(registers.split(' ').filter(|rank| *rank != ":0").count(), 2, "the length and one register");
    console.check("PFDEBUG ENCODING h => +dense");
}

#[test]
fn strings_that_are_no_sketches() {
    let mut console = Console::default();
    console.check("RPUSH list x => :1");
    console.check("PFADD good a => :1");
    for text in ["x", "5", "0123456789abcdef", "HYLL56789abcdef", "HYLL\\x02aaaaaaaaaaa"] {
        console.ask("a", &format!("SET s \"{text}\""));
        for command in ["PFADD s a", "PFCOUNT s", "PFCOUNT good s", "PFMERGE d s", "PFMERGE s d", "PFDEBUG ENCODING s"]
        {
            assert_eq!(console.ask("a", command), INVALID, "{command} of {text}");
        }
    }
    for command in ["PFADD list a", "PFCOUNT list", "PFCOUNT good list", "PFMERGE d list", "PFDEBUG ENCODING list"] {
        assert_eq!(console.ask("a", command), WRONG_TYPE, "{command}");
    }
    console.ask("a", "APPEND good hello");
    for command in
        ["PFCOUNT good", "PFCOUNT good none", "PFMERGE d good", "PFDEBUG GETREG good", "PFDEBUG TODENSE good"]
    {
        assert_eq!(console.ask("a", command), CORRUPT, "{command}");
    }
    console.check("EXISTS d => :0");
}

#[test]
fn large_numbers_are_estimated() {
    let mut console = Console::default();
    for first in (0..100_000).step_by(1000) {
        let elements: Vec<String> = (first..first + 1000).map(|number| format!("e{number}")).collect();
        console.ask("a", &format!("PFADD h {}", elements.join(" ")));
    }
    // What Redis counts.
    console.check("PFCOUNT h => :100853");
    console.check("PFMERGE copy h => +OK");
    console.check("PFCOUNT copy => :100853");
    console.check("PFCOUNT copy h => :100853");
}

#[test]
fn counting_is_a_read_that_writes() {
    let mut console = Console::default();
    console.check(
        r#"
         PFADD h a => :1
         EVAL "return redis.call('PFCOUNT', KEYS[1])" 1 h => :1
         COMMAND GETKEYSANDFLAGS PFCOUNT a b => *2 *2 $1 a *2 +RW +access *2 $1 b *2 +RW +access
         COMMAND GETKEYSANDFLAGS PFMERGE a b => *2 *2 $1 a *3 +RW +access +insert *2 $1 b *2 +RO +access
        "#,
    );
    let refused = console.ask("a", r#"EVAL_RO "return redis.call('PFCOUNT', KEYS[1])" 1 h"#);
    assert!(refused.starts_with("-ERR Write commands are not allowed from read-only scripts"), "{refused}");
    console.check(
        r#"
         PFADD h b => :1
         WATCH h => +OK
         PFCOUNT h => :2
         MULTI => +OK
         PFCOUNT h => +QUEUED
         EXEC => *-1
         WATCH h => +OK
         PFCOUNT h => :2
         MULTI => +OK
         EXEC => *0
        "#,
    );
}

#[test]
fn events() {
    let mut console = Console::default();
    console.ask("a", "CONFIG SET notify-keyspace-events KEA");
    console.ask("b", "PSUBSCRIBE __keyevent@0__:*");
    console.raw("b");
    for (command, event) in [
        ("PFADD h a", true),
        ("PFADD h a", false),
        ("PFCOUNT h", false),
        ("PFMERGE d h", true),
        ("PFDEBUG TODENSE h", false),
        ("PFADD h b", true),
    ] {
        console.ask("a", command);
        let told = console.raw("b");
        assert_eq!(String::from_utf8_lossy(&told).contains("pfadd"), event, "{command}");
        assert_eq!(told.is_empty(), !event, "{command}");
    }
}
