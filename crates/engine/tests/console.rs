//! The core: batches, transactions, blocking, pub/sub, scripts.

use kelda_engine::testing::Console;

#[test]
fn strings_and_transactions() {
    let mut console = Console::default();
    console.check(
        "PING => +PONG
         SET a 1 => +OK
         GET a => $1 1
         GET none => $-1
         NOSUCH x y => -ERR unknown command 'NOSUCH', with args beginning with: 'x' 'y'
         GET => -ERR wrong number of arguments for 'get' command
         MULTI => +OK
         SET a 2 => +QUEUED
         GET a => +QUEUED
         EXEC => *2 +OK $1 2
         EXEC => -ERR EXEC without MULTI
         MULTI => +OK
         GET => -ERR wrong number of arguments for 'get' command
         EXEC => -EXECABORT Transaction discarded because of previous errors.",
    );
}

#[test]
fn a_watched_key_that_changes_breaks_exec() {
    let mut console = Console::default();
    console.check("WATCH a => +OK");
    assert_eq!(console.ask("b", "SET a 9"), "+OK");
    console.check(
        "MULTI => +OK
         GET a => +QUEUED
         EXEC => *-1
         WATCH a => +OK
         MULTI => +OK
         GET a => +QUEUED
         EXEC => *1 $1 9",
    );
}

#[test]
fn messages_reach_subscribers_of_channels_and_patterns() {
    let mut console = Console::default();
    assert_eq!(console.ask("sub", "SUBSCRIBE ch"), "*3 $9 subscribe $2 ch :1");
    assert_eq!(console.ask("pat", "PSUBSCRIBE c*"), "*3 $10 psubscribe $2 c* :1");
    assert_eq!(console.ask("a", "PUBLISH ch hi"), ":2");
    assert_eq!(String::from_utf8_lossy(&console.raw("sub")), "*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$2\r\nhi\r\n");
    assert_eq!(
        String::from_utf8_lossy(&console.raw("pat")),
        "*4\r\n$8\r\npmessage\r\n$2\r\nc*\r\n$2\r\nch\r\n$2\r\nhi\r\n"
    );
    assert!(console.ask("sub", "GET a").starts_with("-ERR Can't execute 'get'"));
}

#[test]
fn scripts_run_and_roll_back_to_take_undeclared_keys() {
    let mut console = Console::default();
    console.check(
        r#"EVAL 'return {1,2,{3,"x"}}' 0 => *3 :1 :2 *2 :3 $1 x
         EVAL 'redis.call("set", KEYS[1], ARGV[1]) return redis.call("get", KEYS[1])' 1 k v => $1 v
         EVAL 'redis.call("set", KEYS[1], 1) redis.call("set", "other", 2) redis.call("set", "third", 3) return 1' 1 k => :1
         GET other => $1 2
         GET third => $1 3
         GET k => $1 1
         EVALSHA ffffffffffffffffffffffffffffffffffffffff 0 => -NOSCRIPT No matching script. Please use EVAL."#,
    );
}

#[test]
fn a_script_that_is_run_again_publishes_once() {
    let mut console = Console::default();
    console.ask("sub", "SUBSCRIBE ch");
    console.check(
        r#"EVAL 'redis.call("publish", "ch", "hi") redis.call("set", "undeclared", 1) return 1' 0 => :1
         MULTI => +OK
         PUBLISH ch ho => +QUEUED
         EXEC => *1 :1"#,
    );
    assert_eq!(
        String::from_utf8_lossy(&console.raw("sub")),
        "*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$2\r\nhi\r\n*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$2\r\nho\r\n"
    );
}

#[test]
fn a_key_that_is_due_when_a_waiter_is_served_is_gone_at_once() {
    let mut console = Console::default();
    console.check("RPUSH to x => :1\nPEXPIRE to 5 => :1");
    assert_eq!(console.ask("w", "BLMOVE from to LEFT RIGHT 0"), "");
    console.clock.advance_ms(10);
    // Nothing else has looked at `to` since it came due.
    console.check("RPUSH from y => :1\nGET other => $-1\nLRANGE to 0 -1 => *1 $1 y");
    assert_eq!(String::from_utf8_lossy(&console.raw("w")), "$1\r\ny\r\n");
}
