//! MONITOR: what is shown of which commands, and in which order.

use kelda_engine::testing::Console;

/// The lines that the monitor was shown, without their times.
fn shown(console: &mut Console) -> Vec<String> {
    let text = String::from_utf8_lossy(&console.raw("m")).into_owned();
    text.lines().map(|line| line.split_once(' ').map_or(line, |(_, rest)| rest).to_string()).collect()
}

fn monitored(settings: &[(&str, &str)]) -> Console {
    let mut console = Console::new(settings);
    assert_eq!(console.ask("m", "MONITOR"), "+OK");
    console
}

#[test]
fn commands_are_shown_once_they_ran() {
    let mut console = monitored(&[]);
    console.check("SELECT 1 => +OK");
    // 2026-01-01, where the clock of these tests starts.
    assert_eq!(String::from_utf8_lossy(&console.raw("m")), "+1767225600.000000 [1 127.0.0.1:1] \"SELECT\" \"1\"\r\n");
    console.check(
        r#"SET k "a\"b\\y\n\r\t\x07\x08\x00\xff" => +OK
         GET => -ERR wrong number of arguments for 'get' command
         LPUSH k x => -WRONGTYPE Operation against a key holding the wrong kind of value
         CONFIG GET port => *2 $4 port $4 6379"#,
    );
    assert_eq!(console.ask("a", "BLPOP l 0"), "");
    assert_eq!(console.ask("w", "RPUSH l x"), ":1");
    assert_eq!(
        shown(&mut console),
        [
            r#"[1 127.0.0.1:1] "SET" "k" "a\"b\\y\n\r\t\a\b\x00\xff""#,
            r#"[1 127.0.0.1:1] "LPUSH" "k" "x""#,
            r#"[1 127.0.0.1:1] "BLPOP" "l" "0""#,
            r#"[0 127.0.0.1:1] "RPUSH" "l" "x""#,
        ]
    );
}

#[test]
fn transactions_and_scripts_are_shown_with_what_they_run() {
    let mut console = monitored(&[]);
    console.check(
        "MULTI => +OK
         SET k 2 => +QUEUED
         EVAL \"return redis.call('get',KEYS[1])\" 1 k => +QUEUED
         EXEC => *2 +OK $1 2
         EVAL \"redis.call('get','k'); return redis.call('get','other')\" 1 k => $-1",
    );
    let lines = shown(&mut console);
    let words: Vec<&str> = lines.iter().map(|line| line.trim_start_matches("[0 ")).collect();
    assert_eq!(
        words,
        [
            r#"127.0.0.1:1] "MULTI""#,
            r#"127.0.0.1:1] "SET" "k" "2""#,
            r#"127.0.0.1:1] "EVAL" "return redis.call('get',KEYS[1])" "1" "k""#,
            r#"lua] "get" "k""#,
            r#"127.0.0.1:1] "EXEC""#,
            // It ran twice: it reached for a key that it had not declared.
            r#"127.0.0.1:1] "EVAL" "redis.call('get','k'); return redis.call('get','other')" "1" "k""#,
            r#"lua] "get" "k""#,
            r#"lua] "get" "other""#,
        ]
    );
}

#[test]
fn passwords_are_hidden_here_and_in_the_slow_log() {
    let mut console = monitored(&[("slowlog-log-slower-than", "0")]);
    console.ask("a", "AUTH bob secret");
    console.ask("a", "HELLO 2 AUTH default secret SETNAME x");
    console.ask("a", "CONFIG SET masterauth secret maxclients 9");
    assert_eq!(
        shown(&mut console),
        [
            r#"[0 127.0.0.1:1] "AUTH" "(redacted)" "(redacted)""#,
            r#"[0 127.0.0.1:1] "HELLO" "2" "AUTH" "(redacted)" "(redacted)" "SETNAME" "x""#,
        ]
    );
    let log = console.ask("a", "SLOWLOG GET");
    assert!(log.contains("masterauth $10 (redacted) $10 maxclients $1 9") && !log.contains("secret"), "{log}");
}

#[test]
fn a_monitor_reaches_no_key_and_may_leave() {
    let mut console = monitored(&[]);
    assert_eq!(console.ask("m", "MONITOR"), "");
    for line in ["GET k", "SET k 1", "PUBLISH c x"] {
        assert_eq!(console.ask("m", line), "-ERR Replica can't interact with the keyspace");
    }
    assert!(console.ask("a", "CLIENT LIST").contains(" flags=O "));
    assert_eq!(console.ask("m", "PING"), "+PONG +1767225600.000000 [0 127.0.0.1:1] \"PING\"");
    assert_eq!(console.ask("m", "RESET"), "+RESET");
    console.check("PING => +PONG\nMULTI => +OK\nMONITOR => +QUEUED");
    console.check("EXEC => *1 -ERR MONITOR isn't allowed for DENY BLOCKING client");
    assert_eq!(shown(&mut console), [""; 0]);
    assert_eq!(console.ask("m", "GET k"), "$-1");
}

#[test]
fn a_monitor_that_does_not_read_is_cut_off() {
    let mut console = monitored(&[("client-output-buffer-limit", "normal 1000 0 0")]);
    console.send("a", "SET k 12345678901234567890\r\n".repeat(50).as_bytes());
    assert!(console.is_closed("m"));
    console.raw("a");
    console.check("PING => +PONG");
}
