//! `extended-redis-compatibility no`: what Valkey answers otherwise than Redis.

use kelda_engine::testing::Console;

/// Lines of a command, what Redis answers and what Valkey does.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    (
        "EVAL \"return redis.call('nosuch')\" 0",
        "-ERR Unknown Redis command called from script script: 206396248e12c6e742fd7296250433c8d7343b74, on @user_script:1.",
        "-ERR Unknown command called from script script: on @user_script:1.",
    ),
    (
        "EVAL \"return redis.pcall('get')\" 0",
        "-ERR Wrong number of args calling Redis command from script",
        "-ERR Wrong number of args calling command from script",
    ),
    (
        "EVAL \"return redis.pcall('multi')\" 0",
        "-ERR This Redis command is not allowed from script",
        "-ERR This Valkey command is not allowed from script",
    ),
    (
        "EVAL \"return redis.pcall('get', {})\" 0",
        "-ERR Lua redis lib command arguments must be strings or integers",
        "-ERR Command arguments must be strings or integers",
    ),
    (
        "EVAL \"local _, e = pcall(redis.acl_check_cmd, 'nosuch') return e\" 0",
        "$51 ERR Invalid command passed to redis.acl_check_cmd()",
        "$52 ERR Invalid command passed to server.acl_check_cmd()",
    ),
    (
        "EVAL \"local _, e = pcall(redis.log, 1) return e\" 0",
        "$47 ERR redis.log() requires two arguments or more.",
        "$48 ERR server.log() requires two arguments or more.",
    ),
    ("EVALSHA x 0", "-NOSCRIPT No matching script. Please use EVAL.", "-NOSCRIPT No matching script."),
    ("CLIENT LIST ID x", "-ERR Invalid client ID", "-ERR syntax error"),
    ("CLIENT LIST ID 0", "$0", "-ERR client-id should be greater than 0"),
    ("CLIENT KILL ID x", "-ERR client-id should be greater than 0", "-ERR syntax error"),
    ("MULTI", "+OK", "+OK"),
    ("MULTI", "-ERR MULTI calls can not be nested", "-ERR Command not allowed inside a transaction"),
    ("EXEC", "*0", "-EXECABORT Transaction discarded because of previous errors."),
    ("MULTI", "+OK", "+OK"),
    ("WATCH k", "-ERR WATCH inside MULTI is not allowed", "-ERR Command not allowed inside a transaction"),
    ("EXEC", "*0", "-EXECABORT Transaction discarded because of previous errors."),
];

#[test]
fn errors_are_in_the_words_that_were_chosen() {
    let mut console = Console::default();
    for (line, redis, _) in DIFFERENCES {
        assert_eq!(console.ask("a", line), *redis, "{line}");
    }
    assert_eq!(console.ask("a", "CONFIG SET extended-redis-compatibility no"), "+OK");
    for (line, _, valkey) in DIFFERENCES {
        assert_eq!(console.ask("a", line), *valkey, "{line}");
    }
}

#[test]
fn a_time_that_is_past_is_an_expiry_to_valkey() {
    let mut console = Console::default();
    console.check("CONFIG SET notify-keyspace-events EA => +OK");
    console.ask("listener", "PSUBSCRIBE __keyevent@0__:*");
    for (choice, event) in [("yes", "del"), ("no", "expired")] {
        console.ask("a", &format!("CONFIG SET extended-redis-compatibility {choice}"));
        for line in ["SET k v", "EXPIRE k -1", "SET k v", "GETEX k PXAT 1"] {
            console.ask("a", line);
        }
        let heard = String::from_utf8_lossy(&console.raw("listener")).into_owned();
        assert_eq!(heard.matches(&format!("__keyevent@0__:{event}\r\n")).count(), 2, "{heard}");
    }
}
