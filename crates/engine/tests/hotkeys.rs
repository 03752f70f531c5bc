//! HOTKEYS, as Redis 8.6 documents it.

use kelda_engine::testing::Console;

#[test]
fn arguments() {
    Console::default().check(
        "HOTKEYS START => -ERR METRICS parameter is required
         HOTKEYS START COUNT 1 => -ERR METRICS parameter is required
         HOTKEYS START METRICS 0 => -ERR METRICS count must be > 0 and <= 2
         HOTKEYS START METRICS x CPU => -ERR METRICS count must be > 0 and <= 2
         HOTKEYS START METRICS 3 CPU NET => -ERR METRICS count must be > 0 and <= 2
         HOTKEYS START METRICS 2 CPU => -ERR METRICS count does not match number of metric types provided
         HOTKEYS START METRICS 1 CPU NET => -ERR syntax error
         HOTKEYS START METRICS 1 GPU => -ERR METRICS no valid metrics passed. Supported: CPU|NET
         HOTKEYS START METRICS 2 NET NET => -ERR METRICS NET defined more than once!
         HOTKEYS START METRICS 1 CPU COUNT 0 => -ERR COUNT must be between 1 and 64
         HOTKEYS START METRICS 1 CPU COUNT 65 => -ERR COUNT must be between 1 and 64
         HOTKEYS START METRICS 1 CPU DURATION 0 => -ERR DURATION must be between 1 and 1000000
         HOTKEYS START METRICS 1 CPU SAMPLE 0 => -ERR SAMPLE ratio must be positive
         HOTKEYS START METRICS 1 CPU SLOTS 1 0 => -ERR SLOTS parameter cannot be used in non-cluster mode
         HOTKEYS START METRICS 1 CPU COUNT => -ERR syntax error
         HOTKEYS STOP => $-1
         HOTKEYS GET => $-1
         HOTKEYS RESET => +OK
         HOTKEYS START METRICS 2 GPU CPU => +OK
         HOTKEYS START METRICS 1 NET => -ERR hotkey tracking session already in progress
         HOTKEYS RESET => -ERR hotkey tracking session in progress, stop tracking first
         HOTKEYS STOP => +OK
         HOTKEYS STOP => $-1
         HOTKEYS RESET => +OK
         HOTKEYS GET => $-1",
    );
}

#[test]
fn keys_are_ranked_by_what_their_commands_send() {
    let mut console = Console::default();
    console.check(
        "HOTKEYS START METRICS 1 NET COUNT 2 => +OK
         SET big 0123456789012345678901234567890123456789 => +OK
         SET small 1 => +OK
         MSET a 1 b 1 => +OK
         PING => +PONG
         MULTI => +OK
         SET small 2 => +QUEUED
         EXEC => *1 +OK
         EVAL \"return redis.call('get', KEYS[1])\" 1 small => $1 2",
    );
    console.advance_ms(100);
    // A script's bytes are its own; what it calls is not counted again.
    let want = "*1 *18 $15 tracking-active :1 $12 sample-ratio :1 $14 selected-slots *1 *2 :0 :16383 \
                $25 all-commands-all-slots-us :0 $32 net-bytes-all-commands-all-slots :272 \
                $29 collection-start-time-unix-ms";
    let got = console.ask("a", "HOTKEYS GET");
    assert!(got.starts_with(want), "{got}");
    assert!(
        got.contains("$22 collection-duration-ms :100 $15 total-net-bytes :272 $12 by-net-bytes *4 $5 small :"),
        "{got}"
    );
    assert!(got.contains(" $3 big :"), "{got}");
    console.check("HOTKEYS STOP => +OK\nSET other 1 => +OK");
    assert!(console.ask("a", "HOTKEYS GET").contains("total-net-bytes :272"));
}

#[test]
fn a_search_ends_when_its_time_is_over() {
    let mut console = Console::default();
    console.check("HOTKEYS START METRICS 1 CPU DURATION 2 SAMPLE 5 => +OK");
    assert_eq!(console.engine.observers.load(std::sync::atomic::Ordering::Relaxed), 1);
    console.advance_ms(1900);
    assert!(console.ask("a", "HOTKEYS GET").contains("tracking-active :1 $12 sample-ratio :5"));
    console.advance_ms(200);
    assert!(console.ask("a", "HOTKEYS GET").contains("tracking-active :0"));
    assert_eq!(console.engine.observers.load(std::sync::atomic::Ordering::Relaxed), 0);
}
