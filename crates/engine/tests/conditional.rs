//! Conditional writes and their like, of Redis 8.4 to 8.10: expectations follow its documentation.

use kelda_engine::testing::Console;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
const BAD_DIGEST: &str = "-ERR must be exactly 16 hexadecimal characters";

#[test]
fn digest_is_xxh3() {
    let mut console = Console::default();
    // The first from Redis's documentation; the longest takes XXH3's path for long inputs.
    console.check(
        "SET k 'Hello world' => +OK
         DIGEST k => $16 b6acb9d84a38ff74
         SET k v8lf0c11xh8ymlqztfd3eeq16kfn4sspw7fqmnuuq3k3t75em5wdizgcdw7uc26nnf961u2jkfzkjytls2kwlj7626sd => +OK
         DIGEST k => $16 00006c38adf31777
         SET k '' => +OK
         DIGEST k => $16 2d06800538d394c2
         DIGEST no => $-1
         RPUSH l a => :1
         DIGEST k x => -ERR wrong number of arguments for 'digest' command",
    );
    assert_eq!(console.ask("a", "DIGEST l"), WRONG_TYPE);
    // An integer is hashed as its text.
    console.check("SET n 12345 => +OK\nAPPEND t 12 => :2\nAPPEND t 345 => :5");
    assert_eq!(console.ask("a", "DIGEST n"), console.ask("a", "DIGEST t"));
}

#[test]
fn set_compares() {
    let mut console = Console::default();
    console.check(
        "SET k new IFEQ old => $-1
         SET k new IFDEQ b6acb9d84a38ff74 => $-1
         EXISTS k => :0
         SET k 'Hello world' IFNE old => +OK
         DEL k => :1
         SET k 'Hello world' IFDNE 0000000000000000 => +OK
         SET k x IFEQ other => $-1
         SET k x IFNE 'Hello world' => $-1
         SET k x IFDEQ b6acb9d84a38ff75 => $-1
         SET k x IFDNE b6acb9d84a38ff74 => $-1
         GET k => $11 Hello world
         SET k x IFDEQ B6ACB9D84A38FF74 GET EX 10 => $11 Hello world
         TTL k => :10
         SET k y IFEQ x KEEPTTL => +OK
         TTL k => :10
         SET k z IFEQ x GET => $1 y
         GET k => $1 y
         SET k z IFNE x GET => $1 y
         GET k => $1 z
         TTL k => :-1
         SET n 5 => +OK
         SET n 6 IFEQ 5 => +OK
         SET k z ifne => -ERR syntax error
         SET k z IFEQ => -ERR syntax error
         SET k z IFEQ a IFNE b => -ERR syntax error
         SET k z IFEQ a NX => -ERR syntax error
         SET k z XX IFDNE b6acb9d84a38ff74 => -ERR syntax error
         RPUSH l a => :1",
    );
    for command in ["SET k z IFDEQ 1", "SET k z IFDNE b6acb9d84a38ff7g", "SET k z IFDEQ +6acb9d84a38ff74"] {
        assert_eq!(console.ask("a", command), BAD_DIGEST, "{command}");
    }
    for option in ["IFEQ a", "IFNE a", "IFDEQ b6acb9d84a38ff74", "IFDNE b6acb9d84a38ff74"] {
        assert_eq!(console.ask("a", &format!("SET l z {option}")), WRONG_TYPE);
    }
    console.check("LLEN l => :1\nGET k => $1 z");
}

#[test]
fn delex_compares() {
    let mut console = Console::default();
    console.check(
        "SET k 'Hello world' => +OK
         DELEX k IFEQ x => :0
         DELEX k IFNE 'Hello world' => :0
         DELEX k IFDEQ 0000000000000000 => :0
         DELEX k IFDNE b6acb9d84a38ff74 => :0
         EXISTS k => :1
         DELEX k IFEQ 'Hello world' => :1
         EXISTS k => :0
         SET k 'Hello world' => +OK
         DELEX k IFDEQ B6ACB9D84A38FF74 => :1
         SET k 5 => +OK
         DELEX k IFNE 6 => :1
         SET k 5 => +OK
         DELEX k IFDNE b6acb9d84a38ff74 => :1
         DELEX k => :0
         DELEX k IFNE 6 => :0
         DELEX k IFDNE b6acb9d84a38ff74 => :0
         RPUSH l a => :1
         DELEX k IFEQ => -ERR wrong number of arguments for 'delex' command
         DELEX k IFEQ a b => -ERR wrong number of arguments for 'delex' command
         DELEX k IFXX a => -ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE
         COMMAND GETKEYSANDFLAGS DELEX k => *1 *2 $1 k *2 +RM +delete
         COMMAND GETKEYSANDFLAGS DELEX k IFEQ v => *1 *2 $1 k *2 +RW +delete",
    );
    assert_eq!(console.ask("a", "DELEX l IFEQ a"), WRONG_TYPE);
    assert_eq!(console.ask("a", "DELEX k IFDEQ a"), BAD_DIGEST);
    console.check("DELEX l => :1\nEXISTS l => :0");
}

#[test]
fn increx_counts_integers_within_bounds() {
    Console::default().check(
        "INCREX k => *2 :1 :1
         INCREX k BYINT 104 => *2 :105 :104
         INCREX k BYINT -10 => *2 :95 :-10
         INCREX k BYINT 0 => *2 :95 :0
         INCREX k BYINT 10 UBOUND 100 => *2 :95 :0
         INCREX k BYINT 5 UBOUND 100 => *2 :100 :5
         INCREX k BYINT 10 UBOUND 105 SATURATE => *2 :105 :5
         INCREX k LBOUND 0 BYINT -1000 => *2 :105 :0
         INCREX k LBOUND 3 BYINT -1000 SATURATE UBOUND 9 => *2 :3 :-102
         SET k 50 => +OK
         INCREX k BYINT 5 UBOUND 30 => *2 :50 :0
         INCREX k BYINT -25 UBOUND 30 => *2 :25 :-25
         SET k 50 => +OK
         INCREX k BYINT 5 UBOUND 30 SATURATE => *2 :30 :-20
         INCREX new BYINT 5 LBOUND 10 => *2 :0 :0
         EXISTS new => :0
         INCREX new BYINT 5 LBOUND 10 SATURATE => *2 :10 :10
         SET k 9223372036854775800 => +OK
         INCREX k BYINT 9223372036854775800 => *2 :9223372036854775800 :0
         INCREX k BYINT 9223372036854775800 SATURATE => *2 :9223372036854775807 :7
         INCREX k BYINT 1 SATURATE UBOUND -9223372036854775808 => -ERR applied increment would overflow
         SET k -9223372036854775800 => +OK
         INCREX k BYINT -9223372036854775800 SATURATE => *2 :-9223372036854775808 :-8
         OBJECT ENCODING k => $3 int",
    );
}

#[test]
fn increx_counts_floats_within_bounds() {
    let mut console = Console::default();
    console.check(
        "SET k 1.5 => +OK
         INCREX k BYFLOAT 0.25 => *2 $4 1.75 $4 0.25
         INCREX k BYFLOAT 1 => *2 $4 2.75 $1 1
         INCREX k BYFLOAT 100 UBOUND 42.5 => *2 $4 2.75 $1 0
         INCREX k BYFLOAT 100 UBOUND 42.5 SATURATE => *2 $4 42.5 $5 39.75
         INCREX k BYFLOAT -100 LBOUND -5.5 SATURATE => *2 $4 -5.5 $3 -48
         GET k => $4 -5.5
         INCREX no BYFLOAT -0.5 UBOUND -1.5 => *2 $1 0 $1 0
         EXISTS no => :0
         INCREX k BYFLOAT +inf => -ERR BYFLOAT increment cannot be Infinity
         INCREX k BYFLOAT 1 LBOUND -inf UBOUND inf => *2 $4 -4.5 $1 1
         SET k inf => +OK
         INCREX k BYFLOAT 1 => -ERR value cannot be Infinity
         SET k 1e4932 => +OK
         STRLEN k => :6",
    );
}

#[test]
fn increx_replies_doubles_in_resp3() {
    let mut console = Console::default();
    console.ask("a", "HELLO 3");
    console.check("INCREX k BYFLOAT 0.5 => *2 ,0.5 ,0.5\nINCREX i => *2 :1 :1");
}

#[test]
fn increx_checks_its_arguments() {
    let mut console = Console::default();
    console.check("SET s hello => +OK\nRPUSH l a => :1\nSET f 1.5 => +OK");
    for command in [
        "INCREX k FOO",
        "INCREX k BYINT 1 FOO",
        "INCREX k BYINT",
        "INCREX k EX",
        "INCREX k BYINT 1 BYFLOAT 1.5",
        "INCREX k BYFLOAT 1.5 BYINT 1",
        "INCREX k BYINT 1 BYINT 2",
        "INCREX k LBOUND 0 LBOUND 1",
        "INCREX k UBOUND 0 UBOUND 1",
        "INCREX k SATURATE SATURATE LBOUND 0",
        "INCREX k EX 10 PX 5000",
        "INCREX k EX 10 EX 10",
        "INCREX k EX 10 PERSIST",
        "INCREX k PERSIST EX 10",
        "INCREX k PERSIST ENX",
        "INCREX k PERSIST PERSIST",
        "INCREX k ENX ENX EX 10",
    ] {
        assert_eq!(console.ask("a", command), "-ERR syntax error", "{command}");
    }
    for (command, error) in [
        ("INCREX", "-ERR wrong number of arguments for 'increx' command"),
        ("INCREX k ENX", "-ERR ENX flag requires an expiration option"),
        ("INCREX k BYINT abc", "-ERR Increment is not an integer or out of range"),
        ("INCREX k BYINT 1.5", "-ERR Increment is not an integer or out of range"),
        ("INCREX k BYFLOAT abc", "-ERR Increment is not a valid float"),
        ("INCREX k LBOUND 1.5", "-ERR LBOUND is not an integer or out of range"),
        ("INCREX k BYFLOAT 1 UBOUND x", "-ERR UBOUND is not a valid float"),
        ("INCREX k LBOUND 10 UBOUND 5", "-ERR LBOUND can't be greater than UBOUND"),
        ("INCREX k BYFLOAT 0.5 LBOUND 10.5 UBOUND 1.5", "-ERR LBOUND can't be greater than UBOUND"),
        ("INCREX k EX 0", "-ERR invalid expire time in 'increx' command"),
        ("INCREX k PX -1", "-ERR invalid expire time in 'increx' command"),
        ("INCREX k EX x", "-ERR value is not an integer or out of range"),
        ("INCREX l", WRONG_TYPE),
        ("INCREX l BYFLOAT 1.5", WRONG_TYPE),
        ("INCREX s", "-ERR value is not an integer or out of range"),
        ("INCREX f", "-ERR value is not an integer or out of range"),
        ("INCREX s BYFLOAT 1", "-ERR value is not a valid float"),
    ] {
        assert_eq!(console.ask("a", command), error, "{command}");
    }
    console.check("EXISTS k => :0");
}

#[test]
fn increx_sets_expiry_times() {
    Console::default().check(
        "INCREX k EX 100 => *2 :1 :1
         TTL k => :100
         INCREX k => *2 :2 :1
         TTL k => :100
         INCREX k EX 50 ENX => *2 :3 :1
         TTL k => :100
         INCREX k PXAT 1767225605000 => *2 :4 :1
         PTTL k => :5000
         INCREX k BYINT 100 UBOUND 15 EX 100 => *2 :4 :0
         PTTL k => :5000
         INCREX k PERSIST => *2 :5 :1
         TTL k => :-1
         INCREX k BYFLOAT 0.5 PX 10 ENX => *2 $3 5.5 $3 0.5
         PTTL k => :10
         INCREX k BYFLOAT 1 EXAT 1 ENX => *2 $3 6.5 $1 1
         EXISTS k => :1
         INCREX k BYFLOAT 1 EXAT 1 => *2 $3 7.5 $1 1
         EXISTS k => :0
         INCREX k EXAT 1 => *2 :1 :1
         EXISTS k => :0",
    );
}

#[test]
fn lmovem_moves_several() {
    Console::default().check(
        "RPUSH l 1 2 3 4 5 6 7 8 => :8
         LMOVEM l m LEFT LEFT COUNT 2 OBO => *2 $1 2 $1 1
         LMOVEM l m LEFT LEFT COUNT 2 BULK => *2 $1 3 $1 4
         LRANGE m 0 -1 => *4 $1 3 $1 4 $1 2 $1 1
         LMOVEM l m RIGHT RIGHT EXACTLY 2 obo => *2 $1 8 $1 7
         LMOVEM l m right left => *1 $1 6
         LRANGE m 0 -1 => *7 $1 6 $1 3 $1 4 $1 2 $1 1 $1 8 $1 7
         LMOVEM l m LEFT RIGHT EXACTLY 2 BULK => *-1
         LMOVEM l m LEFT RIGHT COUNT 100 OBO => *1 $1 5
         EXISTS l => :0
         LMOVEM l m LEFT RIGHT => *-1
         LMOVEM l m LEFT RIGHT COUNT 2 BULK => *-1
         LMOVEM l m LEFT RIGHT EXACTLY 1 BULK => *-1
         DEL m => :1
         RPUSH l a b c d => :4
         LMOVEM l l LEFT LEFT EXACTLY 2 OBO => *2 $1 b $1 a
         LRANGE l 0 -1 => *4 $1 b $1 a $1 c $1 d
         LMOVEM l l LEFT LEFT COUNT 3 BULK => *3 $1 b $1 a $1 c
         LRANGE l 0 -1 => *4 $1 b $1 a $1 c $1 d
         LMOVEM l l LEFT RIGHT COUNT 2 BULK => *2 $1 b $1 a
         LRANGE l 0 -1 => *4 $1 c $1 d $1 b $1 a
         LMOVEM l l RIGHT LEFT COUNT 9 OBO => *4 $1 c $1 d $1 b $1 a
         LRANGE l 0 -1 => *4 $1 c $1 d $1 b $1 a
         LMOVEM l m LEFT => -ERR wrong number of arguments for 'lmovem' command
         LMOVEM l m LEFT UP => -ERR syntax error
         LMOVEM l m LEFT LEFT COUNT 2 => -ERR syntax error
         LMOVEM l m LEFT LEFT COUNT 2 ODD => -ERR syntax error
         LMOVEM l m LEFT LEFT SOME 2 OBO => -ERR syntax error
         LMOVEM l m LEFT LEFT COUNT 2 OBO x => -ERR syntax error
         LMOVEM l m LEFT LEFT COUNT 0 OBO => -ERR count should be greater than 0
         LMOVEM l m LEFT LEFT COUNT x OBO => -ERR count should be greater than 0
         SET s 1 => +OK
         LMOVEM l s LEFT LEFT => -WRONGTYPE Operation against a key holding the wrong kind of value
         LMOVEM s l LEFT LEFT => -WRONGTYPE Operation against a key holding the wrong kind of value
         LLEN l => :4",
    );
}

#[test]
fn blmovem_waits_for_enough() {
    let mut console = Console::default();
    assert_eq!(console.ask("b", "BLMOVEM l m LEFT RIGHT 0 EXACTLY 3 BULK"), "");
    console.check("RPUSH l 1 2 => :2\nLLEN l => :2");
    assert_eq!(console.raw("b"), b"");
    console.check("RPUSH l 3 4 => :4\nLRANGE l 0 -1 => *1 $1 4");
    assert_eq!(console.raw("b"), b"*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n");
    assert_eq!(console.ask("b", "BLMOVEM none m LEFT RIGHT 1 COUNT 3 OBO"), "");
    console.check("RPUSH none x y => :2\nEXISTS none => :0");
    assert_eq!(console.raw("b"), b"*2\r\n$1\r\nx\r\n$1\r\ny\r\n");
    assert_eq!(console.ask("b", "BLMOVEM none m LEFT RIGHT 0.5"), "");
    console.advance_ms(600);
    assert_eq!(console.raw("b"), b"*-1\r\n");
    console.check(
        "MULTI => +OK
         BLMOVEM none m LEFT RIGHT 0 COUNT 1 OBO => +QUEUED
         EXEC => *1 *-1
         BLMOVEM l m LEFT RIGHT 0 => *1 $1 4
         BLMOVEM l m LEFT RIGHT x => -ERR timeout is not a float or out of range
         BLMOVEM l m LEFT RIGHT 0 COUNT 0 OBO => -ERR count should be greater than 0
         BLMOVEM l m LEFT RIGHT => -ERR wrong number of arguments for 'blmovem' command",
    );
}

#[test]
fn unions_and_differences_are_counted() {
    Console::default().check(
        "SADD a 1 2 3 x => :4
         SADD b 3 4 y => :3
         SUNIONCARD 2 a b => :6
         SUNIONCARD 1 a => :4
         SUNIONCARD 3 a b no LIMIT 3 => :3
         SUNIONCARD 2 a b LIMIT 0 => :6
         SUNIONCARD 2 a b APPROX => :6
         SUNIONCARD 2 a b LIMIT 5 APPROX => :5
         SUNIONCARD 1 no => :0
         SDIFFCARD 2 a b => :3
         SDIFFCARD 2 b a => :2
         SDIFFCARD 1 a LIMIT 2 => :2
         SDIFFCARD 2 a b LIMIT 0 => :3
         SDIFFCARD 2 no a => :0
         SDIFFCARD 2 a a => :0
         SDIFFCARD 2 a b APPROX => -ERR syntax error
         SUNIONCARD 0 a => -ERR numkeys should be greater than 0
         SDIFFCARD x a => -ERR numkeys should be greater than 0
         SUNIONCARD 3 a b => -ERR Number of keys can't be greater than number of args
         SUNIONCARD 1 a LIMIT -1 => -ERR LIMIT can't be negative
         SUNIONCARD 1 a LIMIT => -ERR syntax error
         SET s 1 => +OK
         SUNIONCARD 2 a s => -WRONGTYPE Operation against a key holding the wrong kind of value
         SDIFFCARD 2 a s => -WRONGTYPE Operation against a key holding the wrong kind of value
         SUNIONCARD 1 => -ERR wrong number of arguments for 'sunioncard' command",
    );
}

#[test]
fn aggregate_count_sums_weights() {
    Console::default().check(
        "ZADD s1 1 foo 1 bar => :2
         ZADD s2 2 foo 2 bar => :2
         ZADD s3 3 foo => :1
         SADD t foo => :1
         ZUNIONSTORE out 3 s1 s2 s3 AGGREGATE COUNT => :2
         ZRANGE out 0 -1 WITHSCORES => *4 $3 bar $1 2 $3 foo $1 3
         ZUNION 3 s1 s2 s3 WEIGHTS 2 3 0.5 AGGREGATE count WITHSCORES => *4 $3 bar $1 5 $3 foo $3 5.5
         ZINTER 2 s1 s2 AGGREGATE COUNT WITHSCORES => *4 $3 bar $1 2 $3 foo $1 2
         ZINTER 2 s1 t WEIGHTS 5 7 AGGREGATE COUNT WITHSCORES => *2 $3 foo $2 12
         ZINTERSTORE out 2 s1 s3 WEIGHTS 10 20 AGGREGATE COUNT => :1
         ZSCORE out foo => $2 30",
    );
}
