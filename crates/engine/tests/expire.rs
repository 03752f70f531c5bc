//! Expiry times. The replies are those of Redis and Valkey.

use kelda_engine::testing::Console;

#[test]
fn setting_and_reading() {
    Console::default().check(
        r#"
         SET a x => +OK
         TTL a => :-1
         PTTL a => :-1
         EXPIRETIME a => :-1
         PEXPIRETIME a => :-1
         TTL none => :-2
         PTTL none => :-2
         EXPIRETIME none => :-2
         PEXPIRETIME none => :-2
         EXPIRE a 100 => :1
         TTL a => :100
         PEXPIRE a 200000 => :1
         TTL a => :200
         EXPIREAT a 99999999999 => :1
         EXPIRETIME a => :99999999999
         PEXPIREAT a 1999999999501 => :1
         EXPIRETIME a => :2000000000
         PEXPIRETIME a => :1999999999501
         PEXPIREAT a 1999999999499 => :1
         EXPIRETIME a => :1999999999
         EXPIRE none 100 => :0
         PERSIST a => :1
         TTL a => :-1
         PERSIST a => :0
         PERSIST none => :0
        "#,
    );
}

#[test]
fn conditions() {
    Console::default().check(
        r#"
         SET a x => +OK
         EXPIRE a 100 XX => :0
         EXPIRE a 100 GT => :0
         EXPIRE a 100 NX => :1
         EXPIRE a 200 NX => :0
         EXPIRE a 50 GT => :0
         EXPIRE a 200 GT => :1
         TTL a => :200
         EXPIRE a 300 LT => :0
         EXPIRE a 100 LT => :1
         TTL a => :100
         EXPIRE a 300 XX => :1
         TTL a => :300
         EXPIRE a 200 xx lt => :1
         EXPIRE a 200 XX GT => :0
         EXPIRE a 400 XX GT => :1
         TTL a => :400
         PERSIST a => :1
         EXPIRE a 100 LT => :1
         TTL a => :100
         EXPIRE a 10 NX XX => -ERR NX and XX, GT or LT options at the same time are not compatible
         EXPIRE a 10 NX GT => -ERR NX and XX, GT or LT options at the same time are not compatible
         EXPIRE a 10 NX LT => -ERR NX and XX, GT or LT options at the same time are not compatible
         EXPIRE a 10 GT LT => -ERR GT and LT options at the same time are not compatible
         EXPIRE a 10 FOO => -ERR Unsupported option FOO
         EXPIRE none 10 FOO => -ERR Unsupported option FOO
         EXPIRE a x FOO => -ERR Unsupported option FOO
         EXPIRE a -1 GT => :0
         EXPIRE a -1 NX => :0
         EXPIRE a -1 LT => :1
         EXISTS a => :0
        "#,
    );
}

#[test]
fn a_time_in_the_past_deletes() {
    let mut console = Console::default();
    console.check(
        r#"
         SET a x => +OK
         EXPIRE a 0 => :1
         EXISTS a => :0
         SET a x => +OK
         PEXPIRE a -5 => :1
         EXISTS a => :0
         SET a x => +OK
         EXPIREAT a 1 => :1
         EXISTS a => :0
         SET a x => +OK
         PEXPIREAT a -9223372036854775808 => :1
         EXISTS a => :0
         SET a x => +OK
         GETEX a PXAT 1 => $1 x
         EXISTS a => :0
        "#,
    );
    assert!(console.ask("a", "INFO stats").contains(" expired_keys:5 "));
}

#[test]
fn numbers_out_of_range() {
    Console::default().check(
        r#"
         SET a x => +OK
         EXPIRE a x => -ERR value is not an integer or out of range
         EXPIRE none x => -ERR value is not an integer or out of range
         EXPIRE a 9223372036854775807 => -ERR invalid expire time in 'expire' command
         EXPIRE none 9223372036854775807 => -ERR invalid expire time in 'expire' command
         EXPIRE a 9223372036854775 => -ERR invalid expire time in 'expire' command
         EXPIRE a -9223372036854775808 => -ERR invalid expire time in 'expire' command
         PEXPIRE a 9223372036854775807 => -ERR invalid expire time in 'pexpire' command
         PEXPIREAT a 9223372036854775807 => :1
         PEXPIRETIME a => :9223372036854775807
         EXPIRETIME a => :9223372036854776
         EXPIREAT a 9223372036854775807 => -ERR invalid expire time in 'expireat' command
         EXPIREAT a 9223372036854775 => :1
         PEXPIRETIME a => :9223372036854775000
         EXPIREAT a -9223372036854775808 => -ERR invalid expire time in 'expireat' command
         PEXPIRE a 9223372036854775 => :1
         EXPIRE a => -ERR wrong number of arguments for 'expire' command
         TTL => -ERR wrong number of arguments for 'ttl' command
        "#,
    );
}

#[test]
fn in_import_mode_the_source_decides_when_a_key_goes() {
    let mut console = Console::default();
    console.check(
        "CLIENT IMPORT-SOURCE ON => -ERR Server is not in import mode
         CLIENT IMPORT-SOURCE OFF => +OK
         CONFIG SET import-mode yes => +OK
         CLIENT IMPORT-SOURCE maybe => -ERR syntax error
         SET a 1 PX 50 => +OK
         SET b 1 PX 50 => +OK",
    );
    console.advance_ms(1000);
    console.check(
        "GET a => $-1
         TTL a => :-2
         SCAN 0 => *2 $1 0 *0
         DBSIZE => :2
         CLIENT IMPORT-SOURCE ON => +OK
         GET a => $1 1
         TTL a => :0
         INCR a => :2
         EXPIRE a -1 => :1
         EXISTS a => :1
         MULTI => +OK
         GET a => +QUEUED
         EXEC => *1 $1 2
         DEL b => :1
         KEYS * => *1 $1 a
         RANDOMKEY => $1 a",
    );
    assert!(console.ask("a", "CLIENT INFO").contains(" flags=I "));
    assert_eq!(console.ask("b", "GET a"), "$-1");
    console.check(
        "SET b 1 PX 50 => +OK
         CLIENT IMPORT-SOURCE OFF => +OK
         APPEND a 3 => :1
         TTL a => :-1
         CLIENT IMPORT-SOURCE ON => +OK
         RESET => +RESET",
    );
    console.advance_ms(1000);
    console.check(
        "DBSIZE => :2
         CONFIG SET import-mode no => +OK",
    );
    console.advance_ms(1000);
    console.check("DBSIZE => :1");
}
