//! CLIENT TRACKING: which sessions hear that their copies are out of date, and when.

use kelda_engine::testing::Console;

/// Sends a command of another client than `a`, whose reply does not matter.
fn other(console: &mut Console, line: &str) {
    let reply = console.ask("w", line);
    assert!(!reply.starts_with('-'), "{line}: {reply}");
}

/// What a client was sent since it was last looked at.
fn heard(console: &mut Console, name: &str) -> String {
    String::from_utf8_lossy(&console.raw(name)).trim_end().replace("\r\n", " ")
}

fn console() -> Console {
    let mut console = Console::default();
    assert!(console.ask("a", "HELLO 3").contains("proto :3"));
    console
}

fn invalid(key: &str) -> String {
    format!(">2 $10 invalidate *1 ${} {key}", key.len())
}

#[test]
fn options_that_do_not_fit() {
    let switched = "different mode.";
    let mut console = Console::default();
    console.check(
        "CLIENT TRACKING x => -ERR syntax error
         CLIENT TRACKING on x => -ERR syntax error
         CLIENT TRACKING off x => -ERR syntax error
         CLIENT TRACKING off BCAST => +OK
         CLIENT TRACKING on REDIRECT => -ERR syntax error
         CLIENT TRACKING on REDIRECT abc => -ERR value is not an integer or out of range
         CLIENT TRACKING on REDIRECT 99999 => -ERR The client ID you want redirect to does not exist
         CLIENT TRACKING on REDIRECT -1 => -ERR The client ID you want redirect to does not exist
         CLIENT TRACKING on REDIRECT 1 REDIRECT 1 => -ERR A client can only redirect to a single other client
         CLIENT TRACKING on PREFIX => -ERR syntax error
         CLIENT TRACKING on PREFIX a => -ERR PREFIX option requires BCAST mode to be enabled
         CLIENT TRACKING on OPTIN OPTOUT => -ERR You can't specify both OPTIN mode and OPTOUT mode
         CLIENT TRACKING on BCAST OPTIN => -ERR OPTIN and OPTOUT are not compatible with BCAST
         CLIENT TRACKING on BCAST PREFIX FOO PREFIX FOOBAR => -ERR Prefix 'FOO' overlaps with another provided prefix 'FOOBAR'. Prefixes for a single client must not overlap.
         CLIENT CACHING yes => -ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled
         CLIENT TRACKING on => +OK
         CLIENT CACHING x => -ERR syntax error
         CLIENT CACHING yes => -ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.
         CLIENT CACHING no => -ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
    );
    assert!(console.ask("a", "CLIENT TRACKING on BCAST").ends_with(switched));
    console.check("CLIENT TRACKING on OPTIN => +OK");
    assert!(console.ask("a", "CLIENT TRACKING on OPTOUT").ends_with(switched));
    console.check(
        "CLIENT CACHING yes => +OK
         CLIENT TRACKINGINFO => *6 $5 flags *3 $2 on $5 optin $11 caching-yes $8 redirect :0 $8 prefixes *0
         GET x => $-1
         CLIENT TRACKINGINFO => *6 $5 flags *2 $2 on $5 optin $8 redirect :0 $8 prefixes *0
         CLIENT TRACKING off => +OK
         CLIENT GETREDIR => :-1
         CLIENT TRACKING on BCAST NOLOOP PREFIX b PREFIX a => +OK
         CLIENT TRACKING on BCAST PREFIX ab => -ERR Prefix 'ab' overlaps with an existing prefix 'a'. Prefixes for a single client must not overlap.
         CLIENT TRACKING on BCAST => +OK
         CLIENT TRACKINGINFO => *6 $5 flags *2 $2 on $5 bcast $8 redirect :0 $8 prefixes *3 $0  $1 a $1 b
         CLIENT GETREDIR => :0",
    );
    assert!(console.ask("a", "CLIENT INFO").contains(" flags=tB "));
    console.check("RESET => +RESET");
    assert!(console.ask("a", "CLIENT INFO").contains(" redir=-1 "));
}

#[test]
fn a_change_is_told_once_to_those_who_read() {
    let mut console = console();
    console.check(
        "CLIENT TRACKING on => +OK
         MGET k l => *2 _ _
         EXISTS m => :0",
    );
    let stats = console.ask("a", "INFO stats");
    assert!(stats.contains("tracking_total_keys:3") && stats.contains("tracking_total_items:3"), "{stats}");
    other(&mut console, "SET k 1");
    assert_eq!(heard(&mut console, "a"), invalid("k"));
    other(&mut console, "SET k 2");
    assert_eq!(heard(&mut console, "a"), "");
    other(&mut console, "RENAME k l");
    assert_eq!(heard(&mut console, "a"), invalid("l"));
    // Another database, the same name: invalidations name none.
    other(&mut console, "SELECT 1");
    other(&mut console, "SET m 1");
    assert_eq!(heard(&mut console, "a"), invalid("m"));
    assert!(console.ask("a", "INFO stats").contains("tracking_total_keys:0"));
    console.check("GET k => _\nCLIENT TRACKING off => +OK");
    other(&mut console, "SELECT 0");
    other(&mut console, "SET k 3");
    assert_eq!(heard(&mut console, "a"), "");
}

#[test]
fn its_own_changes_are_told_after_the_reply() {
    let mut console = console();
    console.check(
        "CLIENT TRACKING on => +OK
         SET k 1 => +OK
         GET k => $1 1
         SET k 2 => +OK >2 $10 invalidate *1 $1 k
         GET k => $1 2
         MULTI => +OK
         SET k 3 => +QUEUED
         GET k => +QUEUED
         EXEC => *2 +OK $1 3 >2 $10 invalidate *1 $1 k
         SET k 4 => +OK >2 $10 invalidate *1 $1 k
         EVAL \"redis.call('set', KEYS[1], 5); return redis.call('get', KEYS[1])\" 1 k => $1 5
         EVAL \"return redis.call('set', KEYS[1], 6)\" 1 k => +OK >2 $10 invalidate *1 $1 k
         GET k => $1 6
         FLUSHDB => +OK >2 $10 invalidate _
         FLUSHALL => +OK >2 $10 invalidate _",
    );
    console.check("HSET h f 1 => :1\nHGET h f => $1 1");
    // Within a pipeline each is told after the command that made it.
    console.send("a", b"HSET h f 2\r\nPING\r\n");
    assert_eq!(heard(&mut console, "a"), format!(":0 {} +PONG", invalid("h")));
    console.send("a", b"CLIENT REPLY OFF\r\nHGET h f\r\n");
    assert_eq!(heard(&mut console, "a"), "");
    console.check(
        "HSET h f 3 => >2 $10 invalidate *1 $1 h
         CLIENT REPLY ON => +OK
         CLIENT TRACKING on NOLOOP => +OK
         HGET h f => $1 3
         HSET h f 4 => :0",
    );
}

#[test]
fn only_reads_are_remembered_and_only_those_asked_for() {
    let mut console = console();
    console.check(
        "CLIENT TRACKING on OPTIN => +OK
         GET k => _
         CLIENT CACHING yes => +OK
         GET l => _
         GET m => _
         CLIENT CACHING yes => +OK
         MULTI => +OK
         GET n => +QUEUED
         GET o => +QUEUED
         EXEC => *2 _ _",
    );
    other(&mut console, "MSET k 1 l 1 m 1 n 1 o 1");
    assert_eq!(heard(&mut console, "a"), [invalid("l"), invalid("n"), invalid("o")].join(" "));
    console.check(
        "CLIENT TRACKING off => +OK
         CLIENT TRACKING on OPTOUT => +OK
         GET k => $1 1
         CLIENT CACHING no => +OK
         GET l => $1 1",
    );
    other(&mut console, "MSET k 2 l 2");
    assert_eq!(heard(&mut console, "a"), invalid("k"));
    console.check(
        "EVAL \"return redis.call('set', KEYS[1], 1)\" 2 k l => +OK
         EVAL \"return redis.call('get', KEYS[2])\" 2 k l => $1 2
         EVAL \"redis.call('get', KEYS[1]); return redis.call('get', 'm')\" 1 n => $1 1",
    );
    other(&mut console, "MSET k 3 l 3 m 3 n 3");
    assert_eq!(heard(&mut console, "a"), [invalid("l"), invalid("m"), invalid("n")].join(" "));
}

#[test]
fn every_way_in_which_a_key_goes() {
    let mut console = console();
    console.check("CLIENT TRACKING on => +OK\nSET k 1 PX 100 => +OK\nGET k => $1 1");
    // Nobody asks for it.
    console.advance_ms(300);
    assert_eq!(heard(&mut console, "a"), invalid("k"));
    console.check("DEBUG SET-ACTIVE-EXPIRE 0 => +OK\nSET k 1 PX 100 => +OK\nSET l 1 => +OK\nGET k => $1 1");
    console.clock.advance_ms(300);
    console.check("MGET l k => *2 $1 1 _ >2 $10 invalidate *1 $1 k");
    console.check("GET k => _");
    other(&mut console, "SWAPDB 0 1");
    assert_eq!(heard(&mut console, "a"), ">2 $10 invalidate _");
    other(&mut console, "FLUSHALL ASYNC");
    assert_eq!(heard(&mut console, "a"), ">2 $10 invalidate _");
    // A session that waited is served by another's push.
    console.check("LRANGE to 0 -1 => *0");
    assert_eq!(console.ask("a", "XREAD BLOCK 0 STREAMS s $"), "");
    other(&mut console, "XADD s 1-1 f v");
    let read = "%1 $1 s *1 *2 $3 1-1 *2 $1 f $1 v";
    assert_eq!(heard(&mut console, "a"), format!("{} {read}", invalid("s")));
    other(&mut console, "XADD s 1-2 f v");
    assert_eq!(heard(&mut console, "a"), invalid("s"));
    assert_eq!(console.ask("a", "BLMOVE from to LEFT LEFT 0"), "");
    other(&mut console, "RPUSH from x");
    assert_eq!(heard(&mut console, "a"), format!("$1 x {}", invalid("to")));
}

#[test]
fn broadcasts_go_by_prefix() {
    let mut console = console();
    console.check("CLIENT TRACKING on BCAST PREFIX a: PREFIX b: => +OK");
    assert!(console.ask("a", "INFO stats").contains("tracking_total_prefixes:2"));
    other(&mut console, "MSET a:2 1 a:1 1 b:1 1 c:1 1");
    assert_eq!(heard(&mut console, "a"), format!(">2 $10 invalidate *2 $3 a:1 $3 a:2 {}", invalid("b:1")));
    console.check("SET a:1 2 => +OK >2 $10 invalidate *1 $3 a:1");
    other(&mut console, "FLUSHDB");
    assert_eq!(heard(&mut console, "a"), ">2 $10 invalidate _");
    console.check("CLIENT TRACKING on BCAST NOLOOP PREFIX c => +OK\nSET a:1 2 PX 10 => +OK\nSET c 1 => +OK");
    console.advance_ms(300);
    assert_eq!(heard(&mut console, "a"), invalid("a:1"));
    other(&mut console, "INCR c");
    assert_eq!(heard(&mut console, "a"), invalid("c"));
    console.check("CLIENT TRACKING off => +OK");
    other(&mut console, "INCR c");
    assert_eq!(heard(&mut console, "a"), "");
    let info = console.ask("a", "INFO everything");
    assert!(info.contains("tracking_total_prefixes:0") && info.contains("tracking_clients:0"), "{info}");
}

#[test]
fn redirection_reaches_both_protocols_and_notices_that_its_target_is_gone() {
    let mut console = console();
    let id = console.ask("r", "CLIENT ID").replace(':', "");
    assert_eq!(console.ask("a", &format!("CLIENT TRACKING on REDIRECT {id}")), "+OK");
    console.check("GET k => _");
    // A RESP2 session that is not subscribed hears nothing.
    other(&mut console, "SET k 1");
    assert_eq!(heard(&mut console, "r"), "");
    assert!(console.ask("r", "SUBSCRIBE __redis__:invalidate").starts_with("*3"));
    console.check("GET k => $1 1");
    other(&mut console, "SET k 2");
    let message = "*3 $7 message $20 __redis__:invalidate";
    assert_eq!(heard(&mut console, "r"), format!("{message} *1 $1 k"));
    console.check("GET k => $1 2\nSET k 3 => +OK");
    assert_eq!(heard(&mut console, "r"), format!("{message} *1 $1 k"));
    other(&mut console, "FLUSHDB");
    assert_eq!(heard(&mut console, "r"), format!("{message} $-1"));
    assert_eq!(console.ask("r", "RESET"), "+RESET");
    assert!(console.ask("r", "HELLO 3").contains("proto :3"));
    console.check("GET k => _");
    other(&mut console, "SET k 4");
    assert_eq!(heard(&mut console, "r"), invalid("k"));
    assert_eq!(heard(&mut console, "a"), "");
    assert_eq!(console.ask("r", "QUIT"), "+OK");
    console.check("GET k => $1 4");
    other(&mut console, "SET k 5");
    assert_eq!(heard(&mut console, "a"), format!(">2 $21 tracking-redir-broken :{id}"));
    assert!(console.ask("a", "CLIENT TRACKINGINFO").contains("broken_redirect"));
    assert!(console.ask("a", "CLIENT INFO").contains(&format!("redir={id} ")));
}

#[test]
fn the_table_holds_no_more_keys_than_it_may() {
    let mut console = console();
    console.check("CLIENT TRACKING on => +OK\nMGET k1 k2 k3 => *3 _ _ _\nMULTI => +OK");
    other(&mut console, "CONFIG SET tracking-table-max-keys 1");
    // Before the reply of the next command, whosever it is.
    let told = console.ask("a", "PING");
    assert_eq!((told.matches("invalidate").count(), told.ends_with("+QUEUED")), (2, true), "{told}");
    console.check("DISCARD => +OK");
    assert!(console.ask("a", "INFO stats").contains("tracking_total_keys:1"));
}

#[test]
fn a_session_that_leaves_tracks_no_more() {
    let mut console = console();
    console.check("CLIENT TRACKING on BCAST => +OK");
    console.send("t", b"HELLO 3\r\nCLIENT TRACKING on\r\nGET k\r\n");
    assert!(console.ask("a", "INFO clients").contains("tracking_clients:2"));
    console.send("t", b"QUIT\r\n");
    console.send("a", b"QUIT\r\n");
    assert!(console.ask("w", "INFO clients").contains("tracking_clients:0"));
    other(&mut console, "SET k 1");
    assert!(console.ask("w", "INFO stats").contains("tracking_total_keys:0"));
}
