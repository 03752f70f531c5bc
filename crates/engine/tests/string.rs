//! Strings: every option and error. The replies are those of Redis and Valkey.

use kelda_engine::testing::Console;
use kelda_resp::encode_command;

#[test]
fn set_with_conditions() {
    Console::default().check(
        r#"
         SET a 1 => +OK
         SET a 2 NX => $-1
         SET b 2 NX => +OK
         SET a 3 XX => +OK
         SET c 3 XX => $-1
         MGET a b c => *3 $1 3 $1 2 $-1
         SET a 4 NX NX => $-1
         SET a 4 NX XX => -ERR syntax error
         SET a 4 XX NX => -ERR syntax error
         SET a 4 FOO => -ERR syntax error
         SET a => -ERR wrong number of arguments for 'set' command
         SET a 3x IFEQ 4 => $-1
         SET a 30 IFEQ 3 => +OK
         SET a 31 IFEQ 30 NX => -ERR syntax error
         SET a 31 XX IFEQ 30 => -ERR syntax error
         SET a 31 IFEQ => -ERR syntax error
         SET none 1 IFEQ 1 => $-1
         SET n 007 => +OK
         SET n 8 IFEQ 7 => $-1
         GET a => $2 30
         GET n => $3 007
        "#,
    );
}

#[test]
fn set_returns_the_old_value() {
    Console::default().check(
        r#"
         SET a 1 => +OK
         SET a 2 GET => $1 1
         SET new 1 GET => $-1
         SET a 3 NX GET => $1 2
         SET new2 1 NX GET => $-1
         SET new3 1 XX GET => $-1
         SET a 4 IFEQ x GET => $1 2
         SET a 4 IFEQ 2 GET => $1 2
         SET none 4 IFEQ 2 GET => $-1
         MGET a new new2 new3 none => *5 $1 4 $1 1 $1 1 $-1 $-1
         RPUSH list x => :1
         SET list v GET => -WRONGTYPE Operation against a key holding the wrong kind of value
         SET list v NX GET => -WRONGTYPE Operation against a key holding the wrong kind of value
         SET list v IFEQ x => -WRONGTYPE Operation against a key holding the wrong kind of value
         TYPE list => +list
         SET list v => +OK
         GET list => $1 v
        "#,
    );
}

#[test]
fn set_with_an_expiry_time() {
    Console::default().check(
        r#"
         SET a 1 EX 100 => +OK
         TTL a => :100
         SET a 2 KEEPTTL => +OK
         TTL a => :100
         SET a 3 => +OK
         TTL a => :-1
         SET a 1 PX 100500 => +OK
         PTTL a => :100500
         SET a 1 EX 10 EX 20 => +OK
         TTL a => :20
         SET a 1 EXAT 99999999999 => +OK
         EXPIRETIME a => :99999999999
         SET a 1 PXAT 9223372036854775807 => +OK
         PEXPIRETIME a => :9223372036854775807
         SET a 1 EX => -ERR syntax error
         SET a 1 EX 0 => -ERR invalid expire time in 'set' command
         SET a 1 EX -1 => -ERR invalid expire time in 'set' command
         SET a 1 EX x => -ERR value is not an integer or out of range
         SET a 1 EX 9223372036854775807 => -ERR invalid expire time in 'set' command
         SET a 1 EX 9223372036854775 => -ERR invalid expire time in 'set' command
         SET a 1 PX 9223372036854775807 => -ERR invalid expire time in 'set' command
         SET a 1 EXAT 9223372036854775807 => -ERR invalid expire time in 'set' command
         SET a 1 PXAT 0 => -ERR invalid expire time in 'set' command
         SET a 1 EX 10 PX 10 => -ERR syntax error
         SET a 1 KEEPTTL EX 10 => -ERR syntax error
         SET a 1 PX 10 KEEPTTL => -ERR syntax error
         SET a 1 PERSIST => -ERR syntax error
         PEXPIRETIME a => :9223372036854775807
         SET a 2 PXAT 1 => +OK
         GET a => $-1
         SET a 1 NX KEEPTTL => +OK
         TTL a => :-1
        "#,
    );
}

#[test]
fn old_forms_of_set() {
    Console::default().check(
        r#"
         SETNX a 1 => :1
         SETNX a 2 => :0
         GET a => $1 1
         SETEX a 100 v => +OK
         TTL a => :100
         SETEX a 0 v => -ERR invalid expire time in 'setex' command
         SETEX a -5 v => -ERR invalid expire time in 'setex' command
         SETEX a x v => -ERR value is not an integer or out of range
         SETEX a 9223372036854775807 v => -ERR invalid expire time in 'setex' command
         PSETEX a 100500 w => +OK
         PTTL a => :100500
         PSETEX a 0 v => -ERR invalid expire time in 'psetex' command
         PSETEX a 9223372036854775807 v => -ERR invalid expire time in 'psetex' command
         GETSET a x => $1 w
         TTL a => :-1
         GETSET fresh y => $-1
         GETSET fresh z => $1 y
         RPUSH list x => :1
         GETSET list x => -WRONGTYPE Operation against a key holding the wrong kind of value
         SETNX list x => :0
         SETEX list 10 x => +OK
         GET list => $1 x
        "#,
    );
}

#[test]
fn several_keys_at_once() {
    Console::default().check(
        r#"
         MSET a 1 b 2 a 3 => +OK
         MSET a => -ERR wrong number of arguments for 'mset' command
         MSET a 1 b => -ERR wrong number of arguments for 'mset' command
         MGET a b none => *3 $1 3 $1 2 $-1
         MSETNX c 1 a 2 => :0
         MSETNX c 1 d 2 c 3 => :1
         MSETNX c => -ERR wrong number of arguments for 'msetnx' command
         MSETNX c 1 d => -ERR wrong number of arguments for 'msetnx' command
         MGET c d => *2 $1 3 $1 2
         RPUSH list x => :1
         MGET a list b => *3 $1 3 $-1 $1 2
         MSETNX list 1 zz 2 => :0
         MSET list s => +OK
         GET list => $1 s
         MGET => -ERR wrong number of arguments for 'mget' command
        "#,
    );
}

#[test]
fn several_keys_with_one_expiry_time() {
    Console::default().check(
        r#"
         MSETEX 2 a 1 b 2 EX 100 => :1
         TTL a => :100
         TTL b => :100
         MSETEX 2 a 1 c 2 NX => :0
         MSETEX 2 a 1 c 2 XX => :0
         EXISTS c => :0
         MSETEX 2 a 3 b 4 XX KEEPTTL => :1
         TTL a => :100
         MSETEX 1 a 3 => :1
         TTL a => :-1
         MSETEX 2 a 1 b => -ERR syntax error
         MSETEX 0 a 1 => -ERR invalid numkeys value or out of range
         MSETEX x a 1 => -ERR invalid numkeys value or out of range
         MSETEX 99999999999 a 1 => -ERR invalid numkeys value or out of range
         MSETEX 1 a 1 FOO => -ERR syntax error
         MSETEX 1 a 1 NX XX => -ERR syntax error
         MSETEX 1 a 1 EX 0 => -ERR invalid expire time in 'msetex' command
         MSETEX 1 a 1 EX 10 KEEPTTL => -ERR syntax error
         MSETEX 1 a 1 GET => -ERR syntax error
        "#,
    );
}

#[test]
fn counters() {
    Console::default().check(
        r#"
         INCR n => :1
         INCR n => :2
         DECR n => :1
         INCRBY n 10 => :11
         DECRBY n 4 => :7
         INCRBY n -7 => :0
         GET n => $1 0
         OBJECT ENCODING n => $3 int
         EXPIRE n 100 => :1
         INCR n => :1
         TTL n => :100
         SET a abc => +OK
         INCR a => -ERR value is not an integer or out of range
         INCRBY n x => -ERR value is not an integer or out of range
         INCRBY none x => -ERR value is not an integer or out of range
         SET max 9223372036854775807 => +OK
         INCR max => -ERR increment or decrement would overflow
         DECRBY max -1 => -ERR increment or decrement would overflow
         DECRBY none -9223372036854775808 => -ERR decrement would overflow
         DECRBY none -9223372036854775807 => :9223372036854775807
         SET padded ' 5' => +OK
         INCR padded => -ERR value is not an integer or out of range
         SET padded 05 => +OK
         INCR padded => -ERR value is not an integer or out of range
         SET glued 1 => +OK
         APPEND glued 0 => :2
         INCR glued => :11
         RPUSH list x => :1
         INCR list => -WRONGTYPE Operation against a key holding the wrong kind of value
         DECRBY list 1 => -WRONGTYPE Operation against a key holding the wrong kind of value
         INCRBY list x => -ERR value is not an integer or out of range
        "#,
    );
}

#[test]
fn floating_point_counters() {
    Console::default().check(
        r#"
         INCRBYFLOAT f 3.0e3 => $4 3000
         INCRBYFLOAT f 0.1 => $22 3000.10000000000000009
         INCRBYFLOAT f -0 => $22 3000.10000000000000009
         INCRBYFLOAT f -3000 => $19 0.10000000000000009
         SET g 10.50 => +OK
         INCRBYFLOAT g 0.1 => $4 10.6
         INCRBYFLOAT g 0x10 => $4 26.6
         INCRBYFLOAT h 17179869184.5 => $13 17179869184.5
         INCRBYFLOAT h 1.23456789012345678 => $29 17179869185.73456788994371891
         EXPIRE h 100 => :1
         INCRBYFLOAT h 1 => $29 17179869186.73456788994371891
         TTL h => :100
         INCRBYFLOAT h x => -ERR value is not a valid float
         INCRBYFLOAT h ' 1' => -ERR value is not a valid float
         INCRBYFLOAT h nan => -ERR value is not a valid float
         INCRBYFLOAT h inf => -ERR increment would produce NaN or Infinity
         INCRBYFLOAT none -inf => -ERR increment would produce NaN or Infinity
         EXISTS none => :0
         INCRBYFLOAT h 1e5000 => -ERR value is not a valid float
         SET a abc => +OK
         INCRBYFLOAT a 1 => -ERR value is not a valid float
         RPUSH list x => :1
         INCRBYFLOAT list x => -WRONGTYPE Operation against a key holding the wrong kind of value
        "#,
    );
}

#[test]
fn parts_of_strings() {
    Console::default().check(
        r#"
         SET a 'This is a string' => +OK
         GETRANGE a 0 3 => $4 This
         GETRANGE a -3 -1 => $3 ing
         GETRANGE a 0 -1 => $16 This is a string
         GETRANGE a 10 100 => $6 string
         GETRANGE a -100 3 => $4 This
         GETRANGE a -100 -100 => $1 T
         GETRANGE a 5 2 => $0
         GETRANGE a -1 -5 => $0
         GETRANGE a 100 200 => $0
         GETRANGE a 9223372036854775807 9223372036854775807 => $0
         GETRANGE a -9223372036854775808 9223372036854775807 => $16 This is a string
         GETRANGE a 0 x => -ERR value is not an integer or out of range
         GETRANGE none x 0 => -ERR value is not an integer or out of range
         GETRANGE none 0 -1 => $0
         SUBSTR a 5 6 => $2 is
         SET n 12345 => +OK
         GETRANGE n 1 3 => $3 234
         SET empty '' => +OK
         GETRANGE empty 0 -1 => $0
         STRLEN a => :16
         STRLEN n => :5
         STRLEN none => :0
         RPUSH list x => :1
         STRLEN list => -WRONGTYPE Operation against a key holding the wrong kind of value
         GETRANGE list 0 1 => -WRONGTYPE Operation against a key holding the wrong kind of value
        "#,
    );
}

#[test]
fn changing_parts_of_strings() {
    Console::default().check(
        r#"
         APPEND a Hello => :5
         APPEND a ' World' => :11
         GET a => $11 Hello World
         APPEND a '' => :11
         APPEND none '' => :0
         EXISTS none => :1
         APPEND n 10 => :2
         OBJECT ENCODING n => $3 int
         APPEND n 5 => :3
         OBJECT ENCODING n => $3 raw
         INCR n => :106
         OBJECT ENCODING n => $3 int
         SETRANGE a 6 Redis => :11
         GET a => $11 Hello Redis
         SETRANGE a 15 ! => :16
         STRLEN a => :16
         SETRANGE n 1 9 => :3
         GET n => $3 196
         SETRANGE new 2 x => :3
         STRLEN new => :3
         SETRANGE nothing 5 '' => :0
         EXISTS nothing => :0
         SETRANGE a 3 '' => :16
         SETRANGE a -1 x => -ERR offset is out of range
         SETRANGE a x x => -ERR value is not an integer or out of range
         SETRANGE a 536870911 xx => -ERR string exceeds maximum allowed size (proto-max-bulk-len)
         SETRANGE a 9223372036854775807 x => -ERR string exceeds maximum allowed size (proto-max-bulk-len)
         SETRANGE nothing 536870912 '' => :0
         SETRANGE nothing 536870912 x => -ERR string exceeds maximum allowed size (proto-max-bulk-len)
         EXISTS nothing => :0
         EXPIRE a 100 => :1
         APPEND a x => :17
         SETRANGE a 0 J => :17
         TTL a => :100
         RPUSH list x => :1
         APPEND list x => -WRONGTYPE Operation against a key holding the wrong kind of value
         SETRANGE list 0 x => -WRONGTYPE Operation against a key holding the wrong kind of value
         SETRANGE list 0 '' => -WRONGTYPE Operation against a key holding the wrong kind of value
        "#,
    );
}

#[test]
fn reading_and_deleting() {
    Console::default().check(
        r#"
         SET a 1 => +OK
         GETDEL a => $1 1
         GETDEL a => $-1
         SET a 1 => +OK
         DELIFEQ a 2 => :0
         DELIFEQ a 01 => :0
         DELIFEQ a 1 => :1
         DELIFEQ a 1 => :0
         EXISTS a => :0
         RPUSH list x => :1
         GETDEL list => -WRONGTYPE Operation against a key holding the wrong kind of value
         DELIFEQ list x => -WRONGTYPE Operation against a key holding the wrong kind of value
         TYPE list => +list
        "#,
    );
}

#[test]
fn reading_and_setting_the_expiry_time() {
    Console::default().check(
        r#"
         SET a v => +OK
         GETEX a => $1 v
         GETEX a EX 100 => $1 v
         TTL a => :100
         GETEX a => $1 v
         TTL a => :100
         GETEX a PERSIST => $1 v
         TTL a => :-1
         GETEX a PERSIST => $1 v
         GETEX a PX 100500 => $1 v
         PTTL a => :100500
         GETEX a EXAT 99999999999 => $1 v
         EXPIRETIME a => :99999999999
         GETEX a PXAT 99999999999999 => $1 v
         PEXPIRETIME a => :99999999999999
         GETEX a EX 0 => -ERR invalid expire time in 'getex' command
         GETEX a EX x => -ERR value is not an integer or out of range
         GETEX a EX 9223372036854775807 => -ERR invalid expire time in 'getex' command
         GETEX a EX => -ERR syntax error
         GETEX a EX 1 PERSIST => -ERR syntax error
         GETEX a EX 1 PX 1 => -ERR syntax error
         GETEX a FOO => -ERR syntax error
         GETEX a KEEPTTL => -ERR syntax error
         GETEX a NX => -ERR syntax error
         GETEX none EX 100 => $-1
         GETEX none EX 0 => $-1
         GETEX none FOO => -ERR syntax error
         GETEX a PXAT 1 => $1 v
         EXISTS a => :0
         RPUSH list x => :1
         GETEX list => -WRONGTYPE Operation against a key holding the wrong kind of value
        "#,
    );
}

#[test]
fn longest_common_subsequences() {
    Console::default().check(
        r#"
         MSET a ohmytext b mynewtext => +OK
         LCS a b => $6 mytext
         LCS a b LEN => :6
         LCS a b IDX => *4 $7 matches *2 *2 *2 :4 :7 *2 :5 :8 *2 *2 :2 :3 *2 :0 :1 $3 len :6
         LCS a b IDX MINMATCHLEN 4 => *4 $7 matches *1 *2 *2 :4 :7 *2 :5 :8 $3 len :6
         LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN => *4 $7 matches *1 *3 *2 :4 :7 *2 :5 :8 :4 $3 len :6
         LCS a b WITHMATCHLEN => $6 mytext
         LCS a b MINMATCHLEN 4 => $6 mytext
         LCS a a IDX WITHMATCHLEN => *4 $7 matches *1 *3 *2 :0 :7 *2 :0 :7 :8 $3 len :8
         LCS a b LEN IDX => -ERR If you want both the length and indexes, please just use IDX.
         LCS a b MINMATCHLEN => -ERR syntax error
         LCS a b MINMATCHLEN x => -ERR value is not an integer or out of range
         LCS a b IDX MINMATCHLEN -5 => *4 $7 matches *2 *2 *2 :4 :7 *2 :5 :8 *2 *2 :2 :3 *2 :0 :1 $3 len :6
         LCS a b FOO => -ERR syntax error
         LCS a none => $0
         LCS none none2 IDX => *4 $7 matches *0 $3 len :0
         LCS none none2 LEN => :0
         MSET x1 AGGTABQWERTYACGT x2 GXTXAYBACGTQQWER n1 12345 n2 1325364 => +OK
         LCS x1 x2 IDX WITHMATCHLEN => *4 $7 matches *5 *3 *2 :12 :15 *2 :7 :10 :4 *3 *2 :11 :11 *2 :5 :5 :1 *3 *2 :4 :4 *2 :4 :4 :1 *3 *2 :3 :3 *2 :2 :2 :1 *3 *2 :2 :2 *2 :0 :0 :1 $3 len :8
         LCS x2 x1 IDX => *4 $7 matches *5 *2 *2 :12 :15 *2 :6 :9 *2 *2 :6 :6 *2 :5 :5 *2 *2 :4 :4 *2 :4 :4 *2 *2 :2 :2 *2 :3 :3 *2 *2 :0 :0 *2 :1 :1 $3 len :8
         LCS n1 n2 => $4 1234
         RPUSH list x => :1
         LCS a list => -ERR The specified keys must contain string values
         LCS list none => -ERR The specified keys must contain string values
         LCS list a FOO => -ERR The specified keys must contain string values
        "#,
    );
}

/// A command as clients send it.
fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_command(&mut bytes, words);
    bytes
}

/// Values long enough to be sent from where they are.
#[test]
fn long_values_in_any_pieces() {
    let value = vec![b'v'; 40_000];
    let append = [&value[..], b"x"].concat();
    let requests = [
        request(&[b"SET", b"key", &value]),
        request(&[b"APPEND", b"key", b"x"]),
        request(&[b"GET", b"key"]),
        request(&[b"SET", b"key", &value, b"GET"]),
        request(&[b"GETSET", b"key", b"short"]),
    ];
    let bytes = requests.concat();
    let bulk = |text: &[u8]| [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat();
    let want = [&b"+OK\r\n:40001\r\n"[..], &bulk(&append), &bulk(&append), &bulk(&value)].concat();
    let first = requests[0].len();
    let near = |at: usize| at.saturating_sub(4)..at + 4;
    for cut in near(33).chain(near(first)).chain(near(bytes.len() - 20)).chain([1000, 30_000, first + 30_000]) {
        for second in [cut, cut + 1, cut + 2, cut + 1000] {
            let mut console = Console::new(&[]);
            let second = second.min(bytes.len());
            for piece in [&bytes[..cut], &bytes[cut..second], &bytes[second..]] {
                console.send("a", piece);
            }
            assert!(console.raw("a") == want, "cut at {cut} and {second}");
            console.check("STRLEN key => :5");
        }
    }
}

/// A request that cannot run yet is kept.
#[test]
fn long_values_are_kept_while_their_command_waits() {
    let value = vec![b'v'; 40_000];
    let set = request(&[b"SET", b"key", &value]);
    let mut console = Console::new(&[]);
    console.check("CLIENT PAUSE 1000 WRITE => +OK");
    for piece in [&set[..100], &set[100..40_020], &set[40_020..], &request(&[b"PING"])] {
        console.send("slow", piece);
    }
    assert_eq!(console.raw("slow"), b"");
    console.check("STRLEN key => :0");
    console.advance_ms(500);
    assert_eq!(console.raw("slow"), b"");
    console.advance_ms(1000);
    assert_eq!(console.raw("slow"), b"+OK\r\n+PONG\r\n");
    console.check("STRLEN key => :40000");
}
