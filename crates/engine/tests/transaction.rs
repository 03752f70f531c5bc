//! MULTI, EXEC and WATCH: what a transaction is refused for, and what breaks a watch.

use kelda_engine::testing::Console;

#[test]
fn exec_checks_again_what_may_have_changed() {
    let mut console = Console::default();
    console.check("MULTI => +OK\nSET k v => +QUEUED");
    assert_eq!(console.ask("b", "CONFIG SET min-replicas-to-write 1"), "+OK");
    console.check(
        r#"
         EXEC => -EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas to write.
         SET k v => -NOREPLICAS Not enough good replicas to write.
         EVAL "return redis.call('GET', KEYS[1])" 1 k => $-1
         CONFIG SET min-replicas-to-write 0 => +OK
         SET k v => +OK
        "#,
    );
}

#[test]
fn swapping_in_a_key_that_is_due_breaks_no_watch() {
    let mut console = Console::default();
    console.check("DEBUG SET-ACTIVE-EXPIRE 0 => +OK\nSET x foo PX 1 => +OK");
    console.advance_ms(2);
    console
        .check("SELECT 1 => +OK\nWATCH x => +OK\nSWAPDB 0 1 => +OK\nMULTI => +OK\nPING => +QUEUED\nEXEC => *1 +PONG");
    console.check("SELECT 0 => +OK\nSET y foo PX 1 => +OK\nSELECT 1 => +OK\nSET y foo => +OK\nWATCH y => +OK");
    console.advance_ms(2);
    console.check("SWAPDB 0 1 => +OK\nMULTI => +OK\nPING => +QUEUED\nEXEC => *-1");
}

#[test]
fn subscribers_hear_of_it_whatever_client_reply_says() {
    let mut console = Console::default();
    console.send("a", b"CLIENT REPLY OFF\r\nSUBSCRIBE c\r\nPING\r\n");
    assert_eq!(console.raw("a"), b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
}

#[test]
fn a_message_to_oneself_follows_the_reply() {
    let mut console = Console::default();
    console.ask("a", "HELLO 3");
    console.ask("a", "SUBSCRIBE c");
    assert_eq!(console.ask("a", "PUBLISH c hi"), ":1 >3 $7 message $1 c $2 hi");
}
