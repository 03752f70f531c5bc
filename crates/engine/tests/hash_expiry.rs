//! Fields of hashes that expire. Expectations are replies of Valkey 9.1; errors, limits, rounding and events, where they
//! differ, those of Redis 8. The clock starts at 1767225600000 ms.

use kelda_engine::testing::Console;
use kelda_resp::{Value, encode_command};
use std::collections::BTreeMap;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
const NO_FIELDS: &str = "-ERR Mandatory argument FIELDS is missing or not at the right position";
const MISMATCH: &str = "-ERR The `numfields` parameter must match the number of arguments";
const COUNT: &str = "-ERR Number of fields must be a positive integer";
const NEGATIVE: &str = "-ERR invalid expire time, must be >= 0";
const NOT_INTEGER: &str = "-ERR value is not an integer or out of range";

#[test]
fn hexpire_checks_its_arguments() {
    let mut console = Console::default();
    console.check("HSET h a 1 => :1\nSET s 1 => +OK");
    for (command, error) in [
        ("HEXPIRE h 10 FIELDS 1", "-ERR wrong number of arguments for 'hexpire' command"),
        ("HEXPIRE h x FIELDS 1 a", NOT_INTEGER),
        ("HEXPIRE h -1 FIELDS 1 a", NEGATIVE),
        ("HPEXPIREAT h -5 FIELDS 1 a", NEGATIVE),
        ("HEXPIRE h 9223372036854775807 FIELDS 1 a", "-ERR invalid expire time in 'hexpire' command"),
        ("HPEXPIRE h 9223372036854775807 FIELDS 1 a", "-ERR invalid expire time in 'hpexpire' command"),
        ("HPEXPIREAT h 70368744177664 FIELDS 1 a", "-ERR invalid expire time in 'hpexpireat' command"),
        ("HEXPIREAT h 70368744178 FIELDS 1 a", "-ERR invalid expire time in 'hexpireat' command"),
        ("HEXPIRE h 10 FIELD 1 a", NO_FIELDS),
        ("HEXPIRE h 10 NX FIELD 1 a", NO_FIELDS),
        ("HEXPIRE h 10 OR FIELDS 1 a", NO_FIELDS),
        ("HEXPIRE h 10 FIELDS 0 a", "-ERR Parameter `numFields` should be greater than 0"),
        ("HEXPIRE h 10 FIELDS x a", "-ERR Parameter `numFields` should be greater than 0"),
        ("HEXPIRE h 10 FIELDS 2 a", MISMATCH),
        ("HEXPIRE h 10 FIELDS 1 a b", MISMATCH),
        ("HEXPIRE h 10 NX FIELDS 1", MISMATCH),
        ("HEXPIRE h 10 FIELDS 1 a NX", MISMATCH),
        ("HEXPIRE h 10 NX XX FIELDS 1 a", "-ERR NX and XX, GT or LT options at the same time are not compatible"),
        ("HEXPIRE h 10 GT LT FIELDS 1 a", "-ERR GT and LT options at the same time are not compatible"),
        ("HEXPIRE s 10 FIELDS 1 a", WRONG_TYPE),
        ("HEXPIRE s x FIELDS 1 a", WRONG_TYPE),
        ("HPEXPIRE no 10 FIELDS 2 a", MISMATCH),
    ] {
        assert_eq!(console.ask("a", command), error, "{command}");
    }
    console.check("HTTL h FIELDS 1 a => *1 :-1");
}

#[test]
fn fields_get_expiry_times_under_conditions() {
    Console::default().check(
        "HEXPIRE no 10 FIELDS 2 a b => *2 :-2 :-2
         HSET h a 1 b 2 c 3 => :3
         OBJECT ENCODING h => $8 listpack
         HEXPIRE h 100 GT FIELDS 1 a => *1 :0
         HEXPIRE h 100 XX FIELDS 1 a => *1 :0
         OBJECT ENCODING h => $8 listpack
         HEXPIRE h 100 LT FIELDS 1 a => *1 :1
         OBJECT ENCODING h => $10 listpackex
         HEXPIRE h 100 LT FIELDS 1 a => *1 :0
         HEXPIRE h 200 gt FIELDS 1 a => *1 :1
         HEXPIRE h 50 XX GT FIELDS 1 a => *1 :0
         HEXPIRE h 300 NX FIELDS 1 a => *1 :0
         HEXPIRE h 300 XX FIELDS 3 a b z => *3 :1 :0 :-2
         HTTL h FIELDS 3 a b z => *3 :300 :-1 :-2
         HEXPIRE h 10 FIELDS 3 b b b => *3 :1 :1 :1
         HPTTL h FIELDS 2 a b => *2 :300000 :10000
         HPEXPIRE h 1500 FIELDS 1 a => *1 :1
         HTTL h FIELDS 1 a => *1 :2
         HPEXPIREAT h 1767225600001 FIELDS 1 a => *1 :1
         HEXPIRETIME h FIELDS 1 a => *1 :1767225601
         HPEXPIRETIME h FIELDS 3 a z c => *3 :1767225600001 :-2 :-1
         HEXPIREAT h 1767225601 FIELDS 1 a => *1 :1
         HPEXPIRETIME h FIELDS 1 a => *1 :1767225601000
         HPEXPIREAT h 70368744177663 FIELDS 1 a => *1 :1
         HPEXPIRETIME h FIELDS 1 a => *1 :70368744177663
         HPERSIST h FIELDS 3 a c z => *3 :1 :-1 :-2
         HPERSIST h FIELDS 1 a => *1 :-1
         HPERSIST no FIELDS 2 a b => *2 :-2 :-2
         HTTL no FIELDS 2 a b => *2 :-2 :-2
         HTTL h FIELDS 1 a => *1 :-1
         OBJECT ENCODING h => $10 listpackex",
    );
}

#[test]
fn a_time_that_is_past_removes_the_field() {
    Console::default().check(
        "HSET h a 1 b 2 c 3 d 4 => :4
         HEXPIRE h 100 FIELDS 1 a => *1 :1
         HEXPIRE h 0 GT FIELDS 1 a => *1 :0
         HEXPIRE h 0 LT FIELDS 2 a z => *2 :2 :-2
         HPEXPIREAT h 1767225600000 FIELDS 2 b b => *2 :2 :-2
         HGETALL h => *4 $1 c $1 3 $1 d $1 4
         HEXPIREAT h 1 NX FIELDS 2 c d => *2 :2 :2
         EXISTS h => :0",
    );
}

#[test]
fn readers_check_their_arguments() {
    let mut console = Console::default();
    console.check("HSET h a 1 => :1\nSET s 1 => +OK");
    for command in ["HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME", "HPERSIST", "HGETEX", "HGETDEL"] {
        for (rest, error) in [
            ("s FIELDS 1 a", WRONG_TYPE),
            ("s FIELDS 0 a", WRONG_TYPE),
            ("h FIELD 1 a", NO_FIELDS),
            ("h NX FIELDS 1 a", NO_FIELDS),
            ("h FIELDS 0 a", COUNT),
            ("h FIELDS -1 a", COUNT),
            ("h FIELDS x a", COUNT),
            ("h FIELDS 9223372036854775808 a", COUNT),
            ("h FIELDS 2 a", MISMATCH),
            ("no FIELDS 1 a b", MISMATCH),
        ] {
            assert_eq!(console.ask("a", &format!("{command} {rest}")), error, "{command} {rest}");
        }
        let arity = format!("-ERR wrong number of arguments for '{}' command", command.to_lowercase());
        assert_eq!(console.ask("a", &format!("{command} h FIELDS 1")), arity);
    }
}

#[test]
fn hgetex_reads_and_sets_times() {
    let mut console = Console::default();
    console.check("HSET h a 1 b 2 c 3 => :3");
    for (command, error) in [
        ("HGETEX h EX FIELDS 1 a", NOT_INTEGER),
        ("HGETEX h EX x FIELDS 1 a", NOT_INTEGER),
        ("HGETEX h PX -1 FIELDS 1 a", NEGATIVE),
        ("HGETEX h EX 9223372036854775807 FIELDS 1 a", "-ERR invalid expire time in 'hgetex' command"),
        ("HGETEX h PXAT 70368744177664 FIELDS 1 a", "-ERR invalid expire time in 'hgetex' command"),
        ("HGETEX h EX 10 FIELD 1 a", NO_FIELDS),
        ("HGETEX h EX 10 PX 10 FIELDS 1 a", NO_FIELDS),
        ("HGETEX h EX 10 PERSIST FIELDS 1 a", NO_FIELDS),
        ("HGETEX h KEEPTTL FIELDS 1 a", NO_FIELDS),
        ("HGETEX h PERSIST 1 FIELDS 1 a", NO_FIELDS),
        ("HGETEX h FIELDS 1 a EX 10", MISMATCH),
    ] {
        assert_eq!(console.ask("a", command), error, "{command}");
    }
    console.check(
        "HGETEX h FIELDS 3 a z b => *3 $1 1 $-1 $1 2
         HGETEX no FIELDS 2 a z => *2 $-1 $-1
         HGETEX no EX 10 FIELDS 1 a => *1 $-1
         EXISTS no => :0
         HGETEX h EX 100 FIELDS 2 a z => *2 $1 1 $-1
         HGETEX h PX 1500 FIELDS 1 b => *1 $1 2
         HPTTL h FIELDS 3 a b c => *3 :100000 :1500 :-1
         HGETEX h EXAT 1767225700 FIELDS 1 a => *1 $1 1
         HGETEX h PXAT 1767225600777 FIELDS 1 b => *1 $1 2
         HPEXPIRETIME h FIELDS 2 a b => *2 :1767225700000 :1767225600777
         HGETEX h FIELDS 1 a => *1 $1 1
         HGETEX h PERSIST FIELDS 2 a c => *2 $1 1 $1 3
         HTTL h FIELDS 3 a b c => *3 :-1 :1 :-1
         HGETEX h EX 0 FIELDS 2 a a => *2 $1 1 $-1
         HGETALL h => *4 $1 b $1 2 $1 c $1 3
         HGETEX h PXAT 1 FIELDS 2 b c => *2 $1 2 $1 3
         EXISTS h => :0",
    );
}

#[test]
fn hsetex_checks_its_arguments() {
    let mut console = Console::default();
    let arity = "-ERR wrong number of arguments for 'hsetex' command";
    let one_condition = "-ERR Only one of FXX or FNX arguments can be specified";
    let one_time = "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified";
    let bad_count = "-ERR invalid number of fields";
    console.check("SET s 1 => +OK");
    for (command, error) in [
        ("HSETEX h FIELDS 1 a", arity),
        ("HSETEX h FIELDS 2 a 1", arity),
        ("HSETEX h FIELDS 1 a 1 b", arity),
        ("HSETEX h FIELDS 1 a 1 b 2", arity),
        ("HSETEX h FIELDS 1 a 1 EX 10", arity),
        ("HSETEX h FIELDS 0 a 1", bad_count),
        ("HSETEX h FIELDS -1 a 1", bad_count),
        ("HSETEX h FIELDS x a 1", bad_count),
        ("HSETEX h FIELD 1 a 1", "-ERR unknown argument: FIELD"),
        ("HSETEX h PERSIST FIELDS 1 a 1", "-ERR unknown argument: PERSIST"),
        ("HSETEX h FNX EX 10 KEEPTTL", one_time),
        ("HSETEX h FNX NX EX 10", NO_FIELDS),
        ("HSETEX h FNX FXX FIELDS 1 a 1", one_condition),
        ("HSETEX h FNX FNX FIELDS 1 a 1", one_condition),
        ("HSETEX h NX XX FIELDS 1 a 1", "-ERR syntax error"),
        ("HSETEX h EX 10 PX 10 FIELDS 1 a 1", one_time),
        ("HSETEX h EX 10 EX 10 FIELDS 1 a 1", one_time),
        ("HSETEX h KEEPTTL KEEPTTL FIELDS 1 a 1", one_time),
        ("HSETEX h EX FIELDS 1 a 1", NOT_INTEGER),
        ("HSETEX h EX x FIELDS 1 a 1", NOT_INTEGER),
        ("HSETEX h EX -1 FIELDS 1 a 1", NEGATIVE),
        ("HSETEX h PXAT 281474976710656 1 a b", "-ERR invalid expire time in 'hsetex' command"),
        ("HSETEX s FIELDS 1 a 1", WRONG_TYPE),
        ("HSETEX s FXX FIELDS 1 a 1", WRONG_TYPE),
    ] {
        assert_eq!(console.ask("a", command), error, "{command}");
    }
    console.check("EXISTS h => :0");
}

#[test]
fn hsetex_sets_fields_with_times_under_conditions() {
    Console::default().check(
        "HSETEX h FXX FIELDS 1 a 1 => :0
         HSETEX h XX FIELDS 1 a 1 => :0
         EXISTS h => :0
         HSETEX h FNX EX 100 FIELDS 2 a 1 b 2 => :1
         HTTL h FIELDS 2 a b => *2 :100 :100
         HSETEX h NX FIELDS 1 z 1 => :0
         HSETEX h FNX FIELDS 2 z 1 b 3 => :0
         HSETEX h FXX FIELDS 2 z 1 b 3 => :0
         HSETEX h XX KEEPTTL FXX FIELDS 2 a 5 b 6 => :1
         HGETALL h => *4 $1 a $1 5 $1 b $1 6
         HTTL h FIELDS 2 a b => *2 :100 :100
         HSETEX h KEEPTTL FIELDS 2 a 7 c 8 => :1
         HTTL h FIELDS 3 a b c => *3 :100 :100 :-1
         HSETEX h FIELDS 1 a 9 => :1
         HTTL h FIELDS 1 a => *1 :-1
         HSETEX h PXAT 1767225600500 FIELDS 1 a 1 => :1
         HPTTL h FIELDS 1 a => *1 :500
         HSETEX h EXAT 1 FIELDS 2 a 1 new 2 => :1
         HKEYS h => *2 $1 b $1 c
         HSETEX h EX 0 FIELDS 2 b 1 c 2 => :1
         EXISTS h => :0
         HSETEX h EX 0 FIELDS 1 a 1 => :1
         EXISTS h => :0
         HSETEX d FIELDS 2 a 1 a 2 => :1
         HGETALL d => *2 $1 a $1 2
         HSETEX e NX FNX PX 10 FIELDS 1 a 1 => :1
         HPTTL e FIELDS 1 a => *1 :10",
    );
}

#[test]
fn what_clears_a_time_and_what_keeps_it() {
    Console::default().check(
        "HSETEX h EX 100 FIELDS 5 a 1 b 2 c 3 d 4 e 5 => :1
         HSET h a 9 => :0
         HMSET h b 9 => +OK
         HSETNX h c 9 => :0
         HINCRBY h d 1 => :5
         HINCRBYFLOAT h e 1.5 => $3 6.5
         HTTL h FIELDS 5 a b c d e => *5 :-1 :-1 :100 :100 :100
         HDEL h c => :1
         HSET h c 1 => :1
         HTTL h FIELDS 1 c => *1 :-1
         COPY h copy => :1
         RENAME h moved => +OK
         HTTL copy FIELDS 2 d c => *2 :100 :-1
         HTTL moved FIELDS 2 d c => *2 :100 :-1
         SWAPDB 0 1 => +OK
         HTTL moved FIELDS 1 d => *1 :-2
         SELECT 1 => +OK
         HTTL moved FIELDS 1 d => *1 :100
         MOVE moved 0 => :1
         SELECT 0 => +OK
         HTTL moved FIELDS 1 d => *1 :100",
    );
}

/// Both forms: `hash-max-listpack-entries`.
const FORMS: [&str; 2] = ["512", "0"];

fn console(entries: &str) -> Console {
    Console::new(&[("hash-max-listpack-entries", entries)])
}

#[test]
fn a_due_field_is_never_seen() {
    for entries in FORMS {
        let mut console = console(entries);
        console.check(
            "DEBUG SET-ACTIVE-EXPIRE 0 => +OK
             HSET h a 1 b 2 => :2
             HPEXPIRE h 10 FIELDS 1 a => *1 :1
             HSETEX over PX 10 FIELDS 2 a 1 b 2 => :1
             HSETEX s1 PX 10 FIELDS 1 w 1 => :1
             HSET s2 w 2 => :1
             RPUSH l 2 1 => :2",
        );
        for command in [
            "HGET h a => $-1",
            "HMGET h a b => *2 $-1 $1 2",
            "HGETALL h => *2 $1 b $1 2",
            "HKEYS h => *1 $1 b",
            "HVALS h => *1 $1 2",
            "HLEN h => :1",
            "HEXISTS h a => :0",
            "HSTRLEN h a => :0",
            "HRANDFIELD h => $1 b",
            "HRANDFIELD h 5 => *1 $1 b",
            "HRANDFIELD h -2 WITHVALUES => *4 $1 b $1 2 $1 b $1 2",
            "HSCAN h 0 => *2 $1 0 *2 $1 b $1 2",
            "HTTL h FIELDS 2 a b => *2 :-2 :-1",
            "HGETEX h FIELDS 2 a b => *2 $-1 $1 2",
            "HGETDEL h FIELDS 1 a => *1 $-1",
            "HDEL h a => :0",
            "HPERSIST h FIELDS 1 a => *1 :-2",
            "HEXPIRE h 100 FIELDS 1 a => *1 :-2",
            "HSETEX h FXX FIELDS 1 a 1 => :0",
            "HSETEX h FNX FIELDS 1 a 1 => :1",
            "HSETNX h a 5 => :1",
            "HSET h a 5 => :1",
            "HINCRBY h a 5 => :5",
            "HINCRBYFLOAT h a 5 => $1 5",
            "SORT l BY s*->w => *2 $1 1 $1 2",
            "SORT l BY nosort GET s*->w => *2 $1 2 $-1",
            "EVAL 'return redis.call(\"HGETALL\",KEYS[1])' 1 h => *2 $1 b $1 2",
            "EVAL 'redis.call(\"HSET\",KEYS[1],\"c\",\"3\");return redis.call(\"HLEN\",KEYS[1])' 1 h => :2",
            "EXISTS over => :0",
            "TYPE over => +none",
            "HLEN over => :0",
            "HSETNX over a 9 => :1",
            "COPY over other => :0",
            "RENAME over other => -ERR no such key",
            "KEYS ove* => *0",
            "SCAN 0 MATCH ove* COUNT 100000 => *2 $1 0 *0",
            "SET over 1 NX => +OK",
            "OBJECT ENCODING over => $-1",
        ] {
            // In a fresh engine each: the first look removes what is due.
            let mut fresh = self::console(entries);
            fresh.check(
                "DEBUG SET-ACTIVE-EXPIRE 0 => +OK
                 HSET h a 1 b 2 => :2
                 HPEXPIRE h 10 FIELDS 1 a => *1 :1
                 HSETEX over PX 10 FIELDS 2 a 1 b 2 => :1
                 HSETEX s1 PX 10 FIELDS 1 w 1 => :1
                 HSET s2 w 2 => :1
                 RPUSH l 2 1 => :2",
            );
            fresh.advance_ms(10);
            fresh.check("HGET h a => $1 1");
            fresh.advance_ms(1);
            fresh.check(command);
        }
        console.advance_ms(20);
        console.check("DBSIZE => :5\nHGETALL over => *0\nDBSIZE => :4");
    }
}

#[test]
fn due_fields_are_removed_by_themselves() {
    for entries in FORMS {
        let mut console = console(entries);
        console.check(
            "CONFIG SET notify-keyspace-events KEA => +OK
             HSETEX h PX 100 FIELDS 2 a 1 b 2 => :1
             HSET h c 3 => :1
             HSETEX h PX 5000 FIELDS 1 d 4 => :1
             HSETEX over PX 200 FIELDS 1 a 1 => :1
             HSETEX early PX 5000 FIELDS 1 a 1 => :1
             HPEXPIRE early 100 FIELDS 1 a => *1 :1
             HSETEX both PX 100 FIELDS 1 a 1 => :1
             HSET both b 1 => :1
             PEXPIRE both 300 => :1
             INFO keyspace => $56 # Keyspace db0:keys=4,expires=1,avg_ttl=0,subexpiry=4",
        );
        console.ask("events", "SUBSCRIBE __keyevent@0__:hexpired __keyevent@0__:del __keyevent@0__:expired");
        for _ in 0..30 {
            console.advance_ms(10);
        }
        let events = console.raw("events");
        let events = String::from_utf8_lossy(&events).replace("\r\n", " ");
        assert_eq!(events.matches("__:hexpired $1 h ").count(), 1, "{events}");
        assert_eq!(events.matches("__:hexpired $4 over ").count(), 1, "{events}");
        assert_eq!(events.matches("__:del $4 over ").count(), 1, "{events}");
        assert_eq!(events.matches("__:hexpired $5 early ").count(), 1, "{events}");
        assert_eq!(events.matches("__:hexpired $4 both ").count(), 1, "{events}");
        console.check(
            "HKEYS both => *1 $1 b
             DBSIZE => :2
             DEBUG SET-ACTIVE-EXPIRE 0 => +OK
             HLEN h => :2
             HPERSIST h FIELDS 1 d => *1 :1
             INFO keyspace => $56 # Keyspace db0:keys=2,expires=1,avg_ttl=0,subexpiry=0",
        );
        let stats = console.ask("a", "INFO stats");
        assert!(stats.contains("expired_subkeys:5 "), "{stats}");
    }
}

#[test]
fn many_due_fields_go_in_steps() {
    let mut console = console("0");
    console.check("DEBUG SET-ACTIVE-EXPIRE 0 => +OK");
    for batch in 0..20 {
        let pairs: String = (0..100).map(|n| format!(" f{batch}_{n} v")).collect();
        let fields: String = (0..100).map(|n| format!(" f{batch}_{n}")).collect();
        console.ask("a", &format!("HSET h{pairs}"));
        console.ask("a", &format!("HPEXPIRE h {} FIELDS 100{fields}", 10 + batch % 3));
    }
    console.check("HSET h stays 1 => :1\nHLEN h => :2001");
    console.advance_ms(11);
    // Some are left after a look, and seen by nobody.
    console.check(
        "HLEN h => :1301
         HLEN h => :1301
         HSET h f0_99 new => :1
         HINCRBY h f3_99 5 => :5
         HDEL h f6_99 => :0
         HSETNX h f9_99 5 => :1
         HTTL h FIELDS 2 f12_99 f0_99 => *2 :-2 :-1
         HLEN h => :1304
         COPY h copy => :1",
    );
    console.advance_ms(10);
    console.check("HLEN h => :4\nHLEN copy => :4\nHEXISTS h stays => :1");
}

#[test]
fn memory_usage_counts_times() {
    let mut console = Console::default();
    let usage = |console: &mut Console| -> usize {
        console.ask("a", "MEMORY USAGE h").trim_start_matches(':').parse().unwrap()
    };
    console.check("HSET h a 1 b 2 => :2");
    let before = usage(&mut console);
    console.check("HEXPIRE h 100 FIELDS 1 a => *1 :1");
    assert!(usage(&mut console) > before);
}

#[test]
fn events_name_what_happened() {
    let mut console = Console::default();
    console.check("CONFIG SET notify-keyspace-events Eh$g => +OK");
    console.ask("events", "PSUBSCRIBE __keyevent@0__:*");
    console.raw("events");
    for (command, events) in [
        ("HSET h a 1 b 2 c 3", "hset"),
        ("HEXPIRE h 100 FIELDS 2 a b", "hexpire"),
        ("HEXPIRE h 100 NX FIELDS 2 a b", ""),
        ("HPERSIST h FIELDS 2 a z", "hpersist"),
        ("HPERSIST h FIELDS 2 a z", ""),
        ("HGETEX h EX 100 FIELDS 2 a z", "hexpire"),
        ("HGETEX h PERSIST FIELDS 2 a z", "hpersist"),
        ("HGETEX h PERSIST FIELDS 2 a z", ""),
        ("HGETEX h FIELDS 2 a z", ""),
        ("HSETEX h FIELDS 2 a 1 d 2", "hset"),
        ("HSETEX h EX 100 FIELDS 2 a 1 d 2", "hset hexpire"),
        ("HSETEX h KEEPTTL FIELDS 2 a 1 d 2", "hset"),
        ("HSETEX h FNX FIELDS 2 a 1 d 2", ""),
        ("HGETDEL h FIELDS 2 d z", "hdel"),
        ("HGETDEL h FIELDS 2 d z", ""),
        ("HEXPIRE h 0 FIELDS 2 a b", "hdel"),
        ("HEXPIREAT h 1 FIELDS 1 c", "hdel del"),
        ("HSETEX h PXAT 1 FIELDS 1 b 1", "hset hdel del"),
        ("HSET h a 1 b 2 c 3", "hset"),
        ("HGETEX h PXAT 1 FIELDS 3 a b c", "hdel del"),
    ] {
        console.ask("a", command);
        let mut got = Vec::new();
        while let Some(push) = console.receive("events") {
            let Value::Array(parts) = push else { panic!("{push:?}") };
            let Value::Bulk(channel) = &parts[2] else { panic!("{parts:?}") };
            got.push(String::from_utf8_lossy(channel).replace("__keyevent@0__:", ""));
        }
        assert_eq!(got.join(" "), events, "{command}");
    }
}

#[test]
fn a_script_that_is_rolled_back_leaves_times_as_they_were() {
    for entries in FORMS {
        let mut console = console(entries);
        // The second key is not declared: the script is rolled back and run again with every shard.
        console.check(
            "HSETEX h EX 100 FIELDS 2 a 1 b 2 => :1
             EVAL 'redis.call(\"HSET\",KEYS[1],\"a\",\"x\");redis.call(\"HPERSIST\",KEYS[1],\"FIELDS\",1,\"b\");redis.call(\"HEXPIRE\",KEYS[1],5,\"NX\",\"FIELDS\",1,\"b\");return redis.call(\"HTTL\",\"other\",\"FIELDS\",1,\"f\")' 1 h => *1 :-2
             HTTL h FIELDS 2 a b => *2 :-1 :5
             INFO keyspace => $56 # Keyspace db0:keys=1,expires=0,avg_ttl=0,subexpiry=1",
        );
    }
}

/// What a hash is meant to hold: fields with their values and expiry times.
type Fields = BTreeMap<&'static str, (String, Option<i64>)>;

/// An engine and what its keyspace is meant to be.
struct Model {
    console: Console,
    hashes: BTreeMap<&'static str, Fields>,
    now: i64,
    seed: u64,
}

const KEYS: [&str; 3] = ["x", "y", "z"];
const FIELDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

impl Model {
    fn below(&mut self, bound: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) as usize % bound
    }

    /// A field that expires, or not.
    fn put(&mut self, key: &'static str, field: &'static str, value: &str, at: Option<i64>) {
        self.hashes.entry(key).or_default().insert(field, (value.into(), at));
    }

    /// Lets what is due go.
    fn drop_due(&mut self) {
        let now = self.now;
        self.hashes.values_mut().for_each(|fields| fields.retain(|_, (_, at)| at.is_none_or(|at| at >= now)));
        self.hashes.retain(|_, fields| !fields.is_empty());
    }

    fn step(&mut self) {
        let (key, other) = (KEYS[self.below(3)], KEYS[self.below(3)]);
        let (field, value) = (FIELDS[self.below(6)], self.below(100).to_string());
        let ttl = 1 + self.below(60) as i64;
        let at = self.now + ttl;
        let there = self.hashes.get(key).and_then(|fields| fields.get(field)).cloned();
        let command = match self.below(14) {
            0 | 1 => {
                self.put(key, field, &value, None);
                format!("HSET {key} {field} {value}")
            }
            2 | 3 => {
                self.put(key, field, &value, Some(at));
                format!("HSETEX {key} PX {ttl} FIELDS 1 {field} {value}")
            }
            4 => {
                self.put(key, field, &value, there.and_then(|(_, at)| at));
                format!("HSETEX {key} KEEPTTL FIELDS 1 {field} {value}")
            }
            5 => {
                if let Some((old, _)) = there {
                    self.put(key, field, &old, Some(at));
                }
                format!("HPEXPIRE {key} {ttl} FIELDS 1 {field}")
            }
            6 => {
                if let Some((old, old_at)) = there
                    && old_at.is_none_or(|old| at < old)
                {
                    self.put(key, field, &old, Some(at));
                }
                format!("HPEXPIRE {key} {ttl} LT FIELDS 1 {field}")
            }
            7 => {
                if let Some((old, _)) = there {
                    self.put(key, field, &old, None);
                }
                format!("HPERSIST {key} FIELDS 1 {field}")
            }
            8 => {
                self.hashes.entry(key).or_default().remove(field);
                format!("HDEL {key} {field}")
            }
            9 => {
                self.hashes.entry(key).or_default().remove(field);
                format!("HEXPIRE {key} 0 FIELDS 1 {field}")
            }
            10 => {
                if let Some(fields) = self.hashes.get(key).cloned()
                    && key != other
                {
                    self.hashes.insert(other, fields);
                }
                format!("COPY {key} {other} REPLACE")
            }
            11 => {
                if let Some(fields) = self.hashes.remove(key) {
                    self.hashes.insert(other, fields);
                }
                format!("RENAME {key} {other}")
            }
            12 => {
                // The second key is not declared: the script is rolled back and run again.
                self.put(key, field, &value, Some(at));
                self.hashes.remove(other);
                let script =
                    "redis.call('HSETEX',KEYS[1],'PX',ARGV[1],'FIELDS',1,ARGV[2],ARGV[3]) redis.call('DEL',ARGV[4])";
                format!("EVAL \"{script}\" 1 {key} {ttl} {field} {value} {other}")
            }
            _ => {
                let ms = self.below(40) as u64;
                self.console.advance_ms(ms);
                self.now += ms as i64;
                return self.drop_due();
            }
        };
        self.drop_due();
        self.console.ask("a", &command);
        self.check(&command);
    }

    /// Asks for everything in one go.
    fn check(&mut self, after: &str) {
        let (mut questions, mut answers) = (Vec::new(), Vec::new());
        // The first look at a key removes what is due of it: which it is must not matter.
        let first = self.below(4);
        for key in KEYS {
            let none = Fields::new();
            let fields = self.hashes.get(key).unwrap_or(&none);
            let times = FIELDS.map(|field| match fields.get(field) {
                None => " :-2".to_string(),
                Some((_, at)) => format!(" :{}", at.unwrap_or(-1)),
            });
            let values = FIELDS.map(|field| match fields.get(field) {
                None => " $-1".to_string(),
                Some((value, _)) => format!(" ${} {value}", value.len()),
            });
            let len = fields.len();
            let mut of_key = [
                (format!("HLEN {key}"), format!(":{len}")),
                (format!("HMGET {key} a b c d e f"), format!("*6{}", values.concat())),
                (format!("HPEXPIRETIME {key} FIELDS 6 a b c d e f"), format!("*6{}", times.concat())),
                (format!("EXISTS {key}"), format!(":{}", i32::from(len != 0))),
            ];
            of_key.rotate_left(first);
            for (question, answer) in of_key {
                let words: Vec<&str> = question.split(' ').collect();
                encode_command(&mut questions, &words);
                answers.push(answer);
            }
        }
        encode_command(&mut questions, &["DBSIZE"]);
        answers.push(format!(":{}", self.hashes.len()));
        self.console.send("a", &questions);
        let got = String::from_utf8(self.console.raw("a")).unwrap().replace("\r\n", " ");
        assert_eq!(got.trim_end(), answers.join(" "), "after {after}");
        let timed = self.hashes.values().filter(|fields| fields.values().any(|(_, at)| at.is_some())).count();
        let info = self.console.ask("a", "INFO keyspace");
        assert!(self.hashes.is_empty() || info.ends_with(&format!("subexpiry={timed}")), "{info} after {after}");
    }
}

#[test]
fn random_commands_match_a_model() {
    const STEPS: usize = 100;
    for seed in 0..6 {
        let console = console(FORMS[seed % 2]);
        let mut model = Model { console, hashes: BTreeMap::new(), now: 1_767_225_600_000, seed: seed as u64 };
        if seed < 3 {
            model.console.check("DEBUG SET-ACTIVE-EXPIRE 0 => +OK");
        }
        for _ in 0..STEPS {
            model.step();
        }
        // In the end everything that can expire has, without a look.
        model.console.check("DEBUG SET-ACTIVE-EXPIRE 1 => +OK");
        for _ in 0..50 {
            model.console.advance_ms(10);
            model.now += 10;
        }
        model.drop_due();
        assert_eq!(model.console.ask("a", "DBSIZE"), format!(":{}", model.hashes.len()));
        model.check("the end");
    }
}

#[test]
fn in_import_mode_the_source_says_when_fields_go() {
    for entries in FORMS {
        let mut console = console(entries);
        console.check(
            "CONFIG SET import-mode yes => +OK
             HSETEX h PX 10 FIELDS 1 a 1 => :1
             HSET h b 2 => :1
             HSETEX over PX 10 FIELDS 1 a 1 => :1",
        );
        console.advance_ms(200);
        console.check(
            "HGETALL h => *2 $1 b $1 2
             HLEN h => :1
             EXISTS over => :0
             DBSIZE => :2",
        );
        assert_eq!(console.ask("source", "CLIENT IMPORT-SOURCE ON"), "+OK");
        assert_eq!(console.ask("source", "HGET h a"), "$1 1");
        assert_eq!(console.ask("source", "HLEN over"), ":1");
        assert_eq!(console.ask("source", "HEXPIRE h 0 FIELDS 1 b"), "*1 :1");
        assert_eq!(console.ask("source", "HINCRBY h a 1"), ":2");
        console.advance_ms(1);
        console.check("EXISTS h => :0");
        assert_eq!(console.ask("source", "HMGET h a b"), "*2 $1 2 $1 2");
        console.check("CONFIG SET import-mode no => +OK");
        for _ in 0..20 {
            console.advance_ms(10);
        }
        console.check("DBSIZE => :0");
    }
}
