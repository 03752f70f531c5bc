//! MIGRATE, with another server that answers what it is told to. Two real servers: `tests/e2e/test_migrate.py`.

use kelda_engine::testing::Console;

#[test]
fn arguments() {
    let mut console = Console::default();
    console.check(
        "SET k v => +OK
         MIGRATE h 1 none 0 100 => +NOKEY
         MIGRATE h 1 '' 0 100 KEYS none nor-this => +NOKEY
         MIGRATE h 1 k a 100 => -ERR value is not an integer or out of range
         MIGRATE h 1 k 0 100 foo => -ERR syntax error
         MIGRATE h 1 k 0 100 AUTH => -ERR syntax error
         MIGRATE h 1 k 0 100 AUTH2 a => -ERR syntax error
         MIGRATE h 1 k 0 100 KEYS a => -ERR When using MIGRATE KEYS option, the key argument must be set to the empty string
         MIGRATE h 1 k 0 100 => -IOERR error or timeout writing to target instance
         MIGRATE h x k 0 100 => -IOERR error or timeout writing to target instance
         MIGRATE nowhere 1 k 0 100 => -IOERR error or timeout connecting to the client
         COMMAND GETKEYS MIGRATE h 1 k 0 100 => *1 $1 k
         COMMAND GETKEYS MIGRATE h 1 '' 0 100 AUTH keys KEYS a b => *2 $1 a $1 b
         GET k => $1 v",
    );
}

#[test]
fn what_arrived_is_gone() {
    let mut console = Console::default();
    console.check("SET k v => +OK");
    console.platform.set_peer(b"+OK\r\n+OK\r\n");
    console.check("MIGRATE h 1 k 9 100 COPY => +OK\nGET k => $1 v");
    let heard = String::from_utf8_lossy(&console.platform.heard()).into_owned();
    assert!(
        heard.starts_with("*2\r\n$6\r\nSELECT\r\n$1\r\n9\r\n*4\r\n$7\r\nRESTORE\r\n$1\r\nk\r\n$1\r\n0\r\n$"),
        "{heard}"
    );
    // The connection is kept; as it has said all that it will, the next one is used.
    assert!(console.ask("a", "INFO stats").contains("migrate_cached_sockets:1"));
    console.check("PEXPIRE k 5000 => :1\nMIGRATE h 1 k 9 100 REPLACE => +OK\nGET k => $-1");
    let heard = String::from_utf8_lossy(&console.platform.heard()).into_owned();
    assert!(
        heard.contains("$7\r\nRESTORE\r\n$1\r\nk\r\n$4\r\n5000\r\n") && heard.ends_with("$7\r\nREPLACE\r\n"),
        "{heard}"
    );
    console.advance_ms(11_000);
    assert!(console.ask("a", "INFO stats").contains("migrate_cached_sockets:0"));
}

#[test]
fn what_was_refused_stays() {
    let mut console = Console::default();
    console.check("MSET a 1 b 2 c 3 => +OK");
    console.platform.set_peer(b"+OK\r\n+OK\r\n-BUSYKEY there\r\n+OK\r\n");
    console.check(
        "MIGRATE h 1 '' 0 100 KEYS a none b c => -ERR Target instance replied with error: BUSYKEY there
         EXISTS a b c => :1
         GET b => $1 2",
    );
    // What was taken although the password was refused is in somebody else's hands: it stays here.
    console.check("MSET a 1 b 2 => +OK");
    console.platform.set_peer(b"-WRONGPASS no\r\n+OK\r\n+OK\r\n");
    console.check(
        "MIGRATE h 2 a 0 100 AUTH2 user secret => -ERR Target instance replied with error: WRONGPASS no
         GET a => $1 1",
    );
    let heard = String::from_utf8_lossy(&console.platform.heard()).into_owned();
    assert!(heard.contains("$4\r\nAUTH\r\n$4\r\nuser\r\n$6\r\nsecret\r\n"), "{heard}");
    // The connection breaks: the keys that were acknowledged are gone, the others stay.
    console.platform.set_peer(b"+OK\r\n+OK\r\n");
    console.check(
        "MIGRATE h 3 '' 0 100 KEYS a b => -IOERR error or timeout reading from target instance
         EXISTS a => :0
         EXISTS b => :1",
    );
}

#[test]
fn within_transactions_and_scripts() {
    let mut console = Console::default();
    console.platform.set_peer(b"+OK\r\n+OK\r\n");
    console.check(
        "MSET a 1 b 2 => +OK
         MULTI => +OK
         MIGRATE h 1 a 0 100 => +QUEUED
         EXISTS a => +QUEUED
         EXEC => *2 +OK :0
         EVAL \"return redis.call('migrate', 'h', '2', KEYS[1], '0', '100')\" 1 b => +OK
         EXISTS b => :0",
    );
}
