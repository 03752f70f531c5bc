//! PING, ECHO, SELECT, AUTH, HELLO, RESET, QUIT: expectations asked from Redis 7.0.15 and Valkey 9.1.2.

use kelda_engine::testing::Console;

#[test]
fn greetings_and_their_errors() {
    let mut console = Console::default();
    console.check(
        "PING => +PONG
         PING hi => $2 hi
         PING a b => -ERR wrong number of arguments for 'ping' command
         ECHO x => $1 x
         SELECT x => -ERR value is not an integer or out of range
         SELECT 99999999999 => -ERR value is out of range, value must between -2147483648 and 2147483647
         SELECT 16 => -ERR DB index is out of range
         SELECT -1 => -ERR DB index is out of range
         SELECT 15 => +OK
         AUTH a => -ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?
         AUTH a b => -WRONGPASS invalid username-password pair or user is disabled.
         AUTH default b => +OK
         AUTH a b c => -ERR syntax error
         HELLO 4 => -NOPROTO unsupported protocol version
         HELLO x => -ERR Protocol version is not an integer or out of range
         HELLO 3 foo => -ERR Syntax error in HELLO option 'foo'
         HELLO 3 AUTH a => -ERR Syntax error in HELLO option 'AUTH'
         HELLO 3 SETNAME 'a b' => -ERR Client names cannot contain spaces, newlines or special characters.
         QUIT => +OK",
    );
    assert!(console.is_closed("a"));
}

#[test]
fn hello_switches_the_protocol_at_once_and_reset_switches_it_back() {
    let mut console = Console::default();
    let hello = console.ask("a", "HELLO 3 SETNAME me");
    assert!(hello.starts_with("%7 $6 server $5 redis $7 version "), "{hello}");
    assert!(hello.ends_with("$4 mode $10 standalone $4 role $6 master $7 modules *0"), "{hello}");
    console.check(
        "CLIENT GETNAME => $2 me
         SELECT 3 => +OK
         MULTI => +OK
         RESET => +RESET
         EXEC => -ERR EXEC without MULTI
         CLIENT GETNAME => $-1",
    );
    assert!(console.ask("a", "HELLO").starts_with("*14 $6 server"));
}

#[test]
fn ping_of_a_subscriber_is_an_array_in_resp2() {
    let mut console = Console::default();
    console.check(
        "SUBSCRIBE c => *3 $9 subscribe $1 c :1
         PING => *2 $4 pong $0
         PING x => *2 $4 pong $1 x
         RESET => +RESET
         PING => +PONG",
    );
}

#[test]
fn a_password_is_asked_for() {
    let mut console = Console::new(&[("requirepass", "secret")]);
    console.check(
        "PING => -NOAUTH Authentication required.
         AUTH wrong => -WRONGPASS invalid username-password pair or user is disabled.
         HELLO 3 => -NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time
         AUTH secret => +OK
         PING => +PONG
         RESET => +RESET
         PING => -NOAUTH Authentication required.
         AUTH default secret => +OK
         PING => +PONG",
    );
    assert!(console.ask("b", "HELLO 3 AUTH default secret").starts_with("%7"));
    assert_eq!(console.ask("c", "QUIT"), "+OK");
}
