//! Bits of strings. The replies are those of Redis and Valkey.

use kelda_engine::testing::Console;

#[test]
fn single_bits() {
    Console::default().check(
        r#"
         SETBIT b 7 1 => :0
         SETBIT b 7 1 => :1
         GETBIT b 7 => :1
         GETBIT b 6 => :0
         GETBIT b 1000 => :0
         GETBIT none 5 => :0
         SETBIT b 7 0 => :1
         STRLEN b => :1
         SETBIT new 100 0 => :0
         STRLEN new => :13
         SET n 1 => +OK
         SETBIT n 6 1 => :0
         GET n => $1 3
         EXPIRE n 100 => :1
         SETBIT n 7 0 => :1
         TTL n => :100
         SETBIT b -1 1 => -ERR bit offset is not an integer or out of range
         SETBIT b x 1 => -ERR bit offset is not an integer or out of range
         SETBIT b 4294967296 1 => -ERR bit offset is not an integer or out of range
         GETBIT b 4294967296 => -ERR bit offset is not an integer or out of range
         GETBIT b -1 => -ERR bit offset is not an integer or out of range
         GETBIT b x => -ERR bit offset is not an integer or out of range
         SETBIT b 1 2 => -ERR bit is not an integer or out of range
         SETBIT b 1 x => -ERR bit is not an integer or out of range
         SETBIT b x x => -ERR bit offset is not an integer or out of range
         RPUSH l x => :1
         SETBIT l 0 1 => -WRONGTYPE Operation against a key holding the wrong kind of value
         GETBIT l 0 => -WRONGTYPE Operation against a key holding the wrong kind of value
        "#,
    );
}

#[test]
fn counting() {
    Console::default().check(
        r#"
         SET s foobar => +OK
         BITCOUNT s => :26
         BITCOUNT s 0 => :26
         BITCOUNT s 0 0 => :4
         BITCOUNT s 1 1 => :6
         BITCOUNT s 1 -2 => :18
         BITCOUNT s -2 -1 => :7
         BITCOUNT s -100 100 => :26
         BITCOUNT s 5 1 => :0
         BITCOUNT s -1 -2 => :0
         BITCOUNT s -100 -50 => :4
         BITCOUNT s 5 30 BIT => :17
         BITCOUNT s 5 30 BYTE => :4
         BITCOUNT s -5 -1 bit => :2
         BITCOUNT s 7 7 BIT => :0
         BITCOUNT s 3 5 BIT => :1
         BITCOUNT s 100 200 BIT => :0
         BITCOUNT s -9223372036854775808 9223372036854775807 BIT => :26
         BITCOUNT s 9223372036854775807 9223372036854775807 => :0
         SET n 123 => +OK
         BITCOUNT n => :10
         SET long 'abcdefghijklmnopqrstuvwxyz0123456789' => +OK
         BITCOUNT long => :147
         BITCOUNT long 3 281 BIT => :141
         BITCOUNT long 1 -2 => :140
         BITCOUNT none => :0
         BITCOUNT none 0 x => -ERR value is not an integer or out of range
         BITCOUNT none 0 1 FOO => -ERR syntax error
         BITCOUNT s 0 x => -ERR value is not an integer or out of range
         BITCOUNT s x => -ERR value is not an integer or out of range
         BITCOUNT s 0 1 FOO => -ERR syntax error
         BITCOUNT s 0 1 BIT x => -ERR syntax error
         RPUSH l x => :1
         BITCOUNT l => -WRONGTYPE Operation against a key holding the wrong kind of value
        "#,
    );
}

#[test]
fn finding() {
    Console::default().check(
        r#"
         SETRANGE z 2 '' => :0
         BITFIELD z SET u8 0 255 SET u8 8 240 SET u8 16 0 => *3 :0 :0 :0
         BITPOS z 0 => :12
         BITPOS z 1 => :0
         BITPOS z 1 1 => :8
         BITPOS z 1 2 => :-1
         BITPOS z 0 1 => :12
         BITPOS z 0 0 0 => :-1
         BITPOS z 0 1 1 => :12
         BITPOS z 1 5 => :-1
         BITPOS z 0 5 => :-1
         BITPOS z 1 -1 => :-1
         BITPOS z 0 8 20 BIT => :12
         BITPOS z 1 8 11 BIT => :8
         BITPOS z 0 8 11 BIT => :-1
         BITPOS z 1 13 15 BIT => :-1
         BITPOS z 1 2 -1 BYTE => :-1
         BITFIELD ff SET u16 0 65535 => *1 :0
         BITPOS ff 0 => :16
         BITPOS ff 0 0 => :16
         BITPOS ff 0 1 => :16
         BITPOS ff 0 0 -1 => :-1
         BITPOS ff 0 0 -1 BIT => :-1
         BITPOS ff 0 2 => :-1
         BITPOS none 0 => :0
         BITPOS none 1 => :-1
         BITPOS none 0 5 => :0
         BITPOS none 1 5 6 => :-1
         SET empty '' => +OK
         BITPOS empty 0 => :-1
         BITPOS empty 1 => :-1
         BITPOS z 2 => -ERR The bit argument must be 1 or 0.
         BITPOS z x => -ERR value is not an integer or out of range
         BITPOS none 2 => -ERR The bit argument must be 1 or 0.
         BITPOS none 0 x => -ERR value is not an integer or out of range
         BITPOS z 0 x => -ERR value is not an integer or out of range
         BITPOS z 0 0 x => -ERR value is not an integer or out of range
         BITPOS z 0 0 -1 FOO => -ERR syntax error
         BITPOS z 0 0 -1 BIT x => -ERR syntax error
         RPUSH l x => :1
         BITPOS l 1 => -WRONGTYPE Operation against a key holding the wrong kind of value
         BITPOS l 2 => -ERR The bit argument must be 1 or 0.
        "#,
    );
}

#[test]
fn combining() {
    Console::default().check(
        r#"
         MSET a foobar b abc n 12 => +OK
         BITOP AND d a b => :6
         BITCOUNT d => :9
         BITOP OR d a b => :6
         GET d => $6 goobar
         BITOP XOR d a b => :6
         BITCOUNT d => :18
         BITOP NOT d a => :6
         BITCOUNT d => :22
         BITOP NOT d d => :6
         GET d => $6 foobar
         BITOP and d a => :6
         GET d => $6 foobar
         BITOP AND d a a none => :6
         BITCOUNT d => :0
         BITOP OR d none n b => :3
         GET d => $3 qrc
         SET d x EX 100 => +OK
         BITOP OR d a => :6
         TTL d => :-1
         BITOP OR a a b => :6
         GET a => $6 goobar
         BITOP AND d none none2 => :0
         EXISTS d => :0
         BITOP NOT d none => :0
         BITOP NOT d a b => -ERR BITOP NOT must be called with a single source key.
         BITOP FOO d a => -ERR syntax error
         BITOP DIFF d a => -ERR BITOP DIFF must be called with at least two source keys.
         BITOP diff1 d a => -ERR BITOP DIFF1 must be called with at least two source keys.
         BITOP ANDOR d a => -ERR BITOP ANDOR must be called with at least two source keys.
         MSET x "\xf0\xff" y "\xc0" w "\x81\x01\x01" => +OK
         BITOP DIFF d x y w => :3
         BITFIELD d GET u8 0 GET u8 8 GET u8 16 => *3 :48 :254 :0
         BITOP DIFF1 d x y w => :3
         BITFIELD d GET u8 0 GET u8 8 GET u8 16 => *3 :1 :0 :1
         BITOP ANDOR d x y w => :3
         BITFIELD d GET u8 0 GET u8 8 GET u8 16 => *3 :192 :1 :0
         BITOP ONE d x y w => :3
         BITFIELD d GET u8 0 GET u8 8 GET u8 16 => *3 :49 :254 :1
         BITOP ONE d x none => :2
         BITFIELD d GET u8 0 => *1 :240
         BITOP ONE d none => :0
         BITOP DIFF x x x => :2
         BITCOUNT x => :0
         BITOP AND d => -ERR wrong number of arguments for 'bitop' command
         RPUSH l x => :1
         BITOP AND d l a => -WRONGTYPE Operation against a key holding the wrong kind of value
         BITOP AND d a l => -WRONGTYPE Operation against a key holding the wrong kind of value
         BITOP NOT d l => -WRONGTYPE Operation against a key holding the wrong kind of value
         BITOP OR l a => :6
         TYPE l => +string
        "#,
    );
}

#[test]
fn integers_inside_strings() {
    Console::default().check(
        r#"
         BITFIELD f SET u8 0 255 GET u8 0 GET u4 2 GET i8 0 => *4 :0 :255 :15 :-1
         BITFIELD f INCRBY u8 0 1 => *1 :0
         BITFIELD f SET i5 3 -7 GET i5 3 GET u5 3 => *3 :0 :-7 :25
         BITFIELD f SET u8 #2 7 GET u8 16 => *2 :0 :7
         STRLEN f => :3
         BITFIELD f GET u63 0 GET i64 0 GET i64 100 => *3 :900723773764796416 :1801447547529592832 :0
         BITFIELD f INCRBY i33 17 123456789 GET i33 17 GET u40 10 => *3 :593218837 :593218837 :593218837
         BITFIELD f => *0
         BITFIELD none GET u8 0 => *1 :0
         EXISTS none => :0
         BITFIELD_RO f GET u8 0 GET u8 #1 => *2 :25 :0
         BITFIELD_RO none GET u8 0 => *1 :0
         BITFIELD_RO f => *0
         SET n 123 => +OK
         BITFIELD n SET u8 0 57 => *1 :49
         GET n => $3 923
         EXPIRE n 100 => :1
         BITFIELD n SET u8 0 49 => *1 :57
         TTL n => :100
        "#,
    );
}

#[test]
fn overflows_of_integers() {
    Console::default().check(
        r#"
         BITFIELD f INCRBY u8 0 255 INCRBY u8 0 2 INCRBY u8 0 -3 => *3 :255 :1 :254
         BITFIELD f OVERFLOW SAT INCRBY u8 0 100 INCRBY u8 0 -300 => *2 :255 :0
         BITFIELD f OVERFLOW FAIL INCRBY u8 0 100 INCRBY u8 0 200 INCRBY u8 0 -101 => *3 :100 $-1 $-1
         BITFIELD f OVERFLOW SAT INCRBY i8 0 100 INCRBY i8 0 100 INCRBY i8 0 -300 => *3 :127 :127 :-128
         BITFIELD f OVERFLOW WRAP INCRBY i8 0 -1 OVERFLOW FAIL INCRBY i8 0 1 => *2 :127 $-1
         BITFIELD f OVERFLOW WRAP SET u8 0 300 GET u8 0 => *2 :127 :44
         BITFIELD f OVERFLOW SAT SET u8 0 300 GET u8 0 => *2 :44 :255
         BITFIELD f OVERFLOW FAIL SET u8 0 300 GET u8 0 => *2 $-1 :255
         BITFIELD f OVERFLOW SAT SET i8 0 -300 GET i8 0 => *2 :-1 :-128
         BITFIELD f SET i8 0 128 GET i8 0 => *2 :-128 :-128
         BITFIELD i SET i64 0 9223372036854775807 INCRBY i64 0 1 => *2 :0 :-9223372036854775808
         BITFIELD i OVERFLOW SAT INCRBY i64 0 -1 OVERFLOW FAIL INCRBY i64 0 -1 => *2 :-9223372036854775808 $-1
         BITFIELD i SET u63 0 -1 GET u63 0 => *2 :4611686018427387904 :9223372036854775807
         BITFIELD i INCRBY u63 0 1 => *1 :0
         BITFIELD i OVERFLOW SAT SET u63 0 -1 GET u63 0 OVERFLOW FAIL SET u63 0 -1 => *3 :0 :9223372036854775807 $-1
         BITFIELD i OVERFLOW WRAP INCRBY u8 0 9223372036854775807 INCRBY i8 0 -9223372036854775808 => *2 :254 :-2
         BITFIELD none OVERFLOW FAIL INCRBY u2 50 5 => *1 $-1
         EXISTS none => :0
         SET short x => +OK
         WATCH short => +OK
         BITFIELD short OVERFLOW FAIL INCRBY u2 50 5 GET u8 0 => *2 $-1 :120
         MULTI => +OK
         STRLEN short => +QUEUED
         EXEC => *1 :1
         BITFIELD short OVERFLOW FAIL INCRBY u2 50 5 SET u8 8 0 => *2 $-1 :0
         STRLEN short => :7
        "#,
    );
}

#[test]
fn errors_of_bitfield() {
    Console::default().check(
        r#"
         SET f abc => +OK
         BITFIELD f GET u64 0 => -ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.
         BITFIELD f GET i65 0 => -ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.
         BITFIELD f GET u0 0 => -ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.
         BITFIELD f GET x8 0 => -ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.
         BITFIELD f GET u08 0 => -ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.
         BITFIELD f GET U8 0 => -ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.
         BITFIELD f GET '' 0 => -ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.
         BITFIELD f GET u8 -1 => -ERR bit offset is not an integer or out of range
         BITFIELD f GET u8 x => -ERR bit offset is not an integer or out of range
         BITFIELD f GET u8 #x => -ERR bit offset is not an integer or out of range
         BITFIELD f GET u8 00 => -ERR bit offset is not an integer or out of range
         BITFIELD f GET u8 #536870912 => -ERR bit offset is not an integer or out of range
         BITFIELD f GET u8 4294967288 => *1 :0
         BITFIELD f SET u8 0 => -ERR syntax error
         BITFIELD f SET u8 0 x => -ERR value is not an integer or out of range
         BITFIELD f OVERFLOW FOO => -ERR Invalid OVERFLOW type specified
         BITFIELD f OVERFLOW => -ERR syntax error
         BITFIELD f FOO u8 0 => -ERR syntax error
         BITFIELD f SET u8 0 1 GET u99 0 => -ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.
         GET f => $3 abc
         BITFIELD_RO f SET u8 0 1 => -ERR BITFIELD_RO only supports the GET subcommand
         BITFIELD_RO f INCRBY u8 0 1 => -ERR BITFIELD_RO only supports the GET subcommand
         BITFIELD_RO f SET u8 0 x => -ERR value is not an integer or out of range
         BITFIELD_RO f FOO => -ERR syntax error
         RPUSH l x => :1
         BITFIELD l GET u8 0 => -WRONGTYPE Operation against a key holding the wrong kind of value
         BITFIELD l SET u8 0 1 => -WRONGTYPE Operation against a key holding the wrong kind of value
         BITFIELD_RO l GET u8 0 => -WRONGTYPE Operation against a key holding the wrong kind of value
        "#,
    );
}
