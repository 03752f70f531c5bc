//! `maxmemory`: which keys go, and what is refused. Memory is simulated: so many bytes for each key.

use kelda_engine::testing::Console;

/// Bytes of a key. The rest of the server has none.
const KEY_BYTES: usize = 1000;

/// A server with room for so many keys.
fn room_for(keys: usize, policy: &str) -> Console {
    let max = (keys * KEY_BYTES).to_string();
    Console::with_key_bytes(&[("maxmemory", &max), ("maxmemory-policy", policy)], KEY_BYTES)
}

fn number(console: &mut Console, line: &str) -> usize {
    let reply = console.ask("a", line);
    reply.trim_start_matches(':').parse().unwrap_or_else(|_| panic!("{line}: {reply}"))
}

fn stat(console: &mut Console, name: &str) -> String {
    let info = console.ask("a", "INFO everything");
    let field = info.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix(':'));
    field.unwrap_or_else(|| panic!("no {name}")).to_string()
}

#[test]
fn keys_stay_as_many_as_there_is_room_for() {
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-lrm", "allkeys-random"] {
        let mut console = room_for(50, policy);
        for key in 0..500 {
            assert_eq!(console.ask("a", &format!("SET k:{key} v")), "+OK", "{policy}");
        }
        let keys = number(&mut console, "DBSIZE");
        assert!((45..=51).contains(&keys), "{policy}: {keys}");
        assert_eq!(stat(&mut console, "evicted_keys"), (500 - keys).to_string(), "{policy}");
    }
}

#[test]
fn only_keys_with_an_expiry_go_where_the_policy_says_so() {
    for policy in ["volatile-lru", "volatile-lfu", "volatile-lrm", "volatile-random", "volatile-ttl"] {
        let mut console = room_for(60, policy);
        for key in 0..30 {
            console.ask("a", &format!("SET stays:{key} v"));
        }
        for key in 0..300 {
            assert_eq!(console.ask("a", &format!("SET goes:{key} v EX 1000")), "+OK", "{policy}");
        }
        for key in 0..30 {
            assert_eq!(console.ask("a", &format!("EXISTS stays:{key}")), ":1", "{policy}");
        }
        let keys = number(&mut console, "DBSIZE");
        assert!((55..=61).contains(&keys), "{policy}: {keys}");
        // Once nothing is left that may go, what needs memory is refused, and nothing else.
        for key in 30..90 {
            console.ask("a", &format!("SET stays:{key} v"));
        }
        let refusal = "-OOM command not allowed when used memory > 'maxmemory'.";
        assert_eq!(console.ask("a", "SET one-more v"), refusal, "{policy}");
        assert_eq!(console.ask("a", "GET stays:1"), "$1 v", "{policy}");
        assert_eq!(console.ask("a", "DEL stays:1 stays:2 stays:3"), ":3", "{policy}");
        assert_eq!(console.ask("a", "SET one-more v"), "+OK", "{policy}");
    }
}

#[test]
fn without_eviction_commands_that_need_memory_are_refused() {
    let mut console = room_for(3, "noeviction");
    console.check(
        "MSET a 1 b 1 c 1 d 1 => +OK
         SET e 1 => -OOM command not allowed when used memory > 'maxmemory'.
         GET a => $1 1
         MULTI => +OK
         SET e 1 => -OOM command not allowed when used memory > 'maxmemory'.
         EXEC => -EXECABORT Transaction discarded because of previous errors.
         CONFIG SET maxmemory 0 => +OK
         SET e 1 => +OK",
    );
    console.check("CONFIG SET maxmemory 1 => +OK");
    assert!(
        console.ask("a", "EVAL \"return redis.call('set', KEYS[1], 1)\" 1 e").starts_with("-OOM command not allowed")
    );
    assert!(console.ask("a", "EVAL \"#!lua\nreturn 1\" 0").starts_with("-OOM allow-oom flag is not set on the script"));
    console.check("EVAL \"return redis.call('get', KEYS[1])\" 1 a => $1 1");
}

#[test]
fn what_is_used_stays_and_what_is_not_goes() {
    // (policy, how a key is used): the keys used after the others were made outlive them.
    for (policy, verb) in [("allkeys-lru", "GET"), ("allkeys-lfu", "GET"), ("allkeys-lrm", "INCR")] {
        let mut console = room_for(200, policy);
        for key in 0..200 {
            console.ask("a", &format!("SET k:{key} 1"));
        }
        for _ in 0..20 {
            console.clock.advance_ms(1000);
            for key in 0..40 {
                console.ask("a", &format!("{verb} k:{key}"));
            }
        }
        for key in 0..100 {
            console.ask("a", &format!("SET new:{key} 1"));
        }
        let left = (0..40).filter(|key| console.ask("a", &format!("EXISTS k:{key}")) == ":1").count();
        assert!(left >= 38, "{policy}: {left} of 40");
    }
    // By modification, reads do not count.
    let mut console = room_for(200, "allkeys-lrm");
    console.check("SET read 1 => +OK");
    console.clock.advance_ms(5000);
    console.check("GET read => $1 1\nOBJECT IDLETIME read => :5\nAPPEND read x => :2\nOBJECT IDLETIME read => :0");
}

#[test]
fn the_soonest_to_expire_go_first() {
    let mut console = room_for(100, "volatile-ttl");
    for key in 0..100 {
        console.ask("a", &format!("SET k:{key} v EX {}", 1000 * (key + 1)));
    }
    for key in 0..50 {
        console.ask("a", &format!("SET more:{key} v EX 1000000"));
    }
    let left = (50..100).filter(|key| console.ask("a", &format!("EXISTS k:{key}")) == ":1").count();
    // As good as with the sampling of Redis.
    assert!(left >= 40, "{left} of 50");
}

#[test]
fn an_evicted_key_is_told_to_those_who_listen() {
    let mut console = room_for(2, "allkeys-lru");
    console.check("CONFIG SET notify-keyspace-events Ee => +OK");
    assert!(console.ask("a", "HELLO 3").contains("proto :3"));
    console.check("CLIENT TRACKING on => +OK");
    console.ask("l", "SUBSCRIBE __keyevent@0__:evicted");
    console.check("SET k 1 => +OK\nGET k => $1 1\nMSET l 1 m 1 n 1 => +OK");
    console.raw("l");
    // Room is made before the next command, and what went is told before its reply.
    let told = console.ask("a", "MGET k l m n");
    assert!(!told.contains("invalidate") || told.starts_with(">2 $10 invalidate"), "{told}");
    let events = String::from_utf8_lossy(&console.raw("l")).matches("evicted\r\n").count();
    assert_eq!(events.to_string(), stat(&mut console, "evicted_keys"));
    assert!(events >= 2);
}

#[test]
fn a_lower_limit_is_reached_without_a_command() {
    let mut console = room_for(100, "allkeys-random");
    for key in 0..100 {
        console.ask("a", &format!("SET k:{key} v"));
    }
    console.check("CONFIG SET maxmemory 10000 => +OK");
    console.turn();
    assert_eq!(console.ask("a", "DBSIZE"), ":9");
}

#[test]
fn in_import_mode_nothing_goes_by_itself() {
    let mut console = room_for(3, "allkeys-lru");
    for line in ["SET a v", "SET b v", "CONFIG SET import-mode yes", "CLIENT IMPORT-SOURCE ON"] {
        assert_eq!(console.ask("a", line), "+OK");
    }
    console.ask("a", "CONFIG SET maxmemory 1");
    assert_eq!(console.ask("a", "SET c v"), "-OOM command not allowed when used memory > 'maxmemory'.");
    assert_eq!(number(&mut console, "DBSIZE"), 2);
    console.ask("a", "CLIENT IMPORT-SOURCE OFF");
    console.ask("a", "CONFIG SET import-mode no");
    assert_eq!(number(&mut console, "DBSIZE"), 0);
}

#[test]
fn what_clients_have_yet_to_be_told_does_not_count() {
    let name = "k".repeat(2000);
    let mut console = room_for(4, "noeviction");
    console.ask("listener", "HELLO 3");
    console.ask("listener", "CLIENT TRACKING ON");
    for key in 0..4 {
        console.ask("a", &format!("SET {name}{key} v"));
        console.ask("listener", &format!("GET {name}{key}"));
    }
    let not_counted =
        |console: &mut Console| stat(console, "mem_not_counted_for_evict").parse::<usize>().expect("a number");
    assert_eq!(not_counted(&mut console), 0);
    console.ask("a", "CONFIG SET maxmemory-policy allkeys-lru");
    console.ask("a", &format!("CONFIG SET maxmemory {}", 2 * KEY_BYTES));
    assert_eq!(stat(&mut console, "evicted_keys"), "3");
    // What the client was told of three keys lies in its output, until it takes it.
    assert!(not_counted(&mut console) >= 3 * name.len());
    assert_eq!(String::from_utf8_lossy(&console.raw("listener")).matches("invalidate").count(), 3);
    assert!(not_counted(&mut console) <= 64 << 10, "only room that the session keeps");
    console.advance_ms(5_000);
    console.ask("a", "PING");
    assert_eq!(not_counted(&mut console), 0);
}
