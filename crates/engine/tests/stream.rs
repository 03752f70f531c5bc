//! Streams.

use kelda_engine::engine::{ChangeSink, Lsn};
use kelda_engine::testing::Console;
use kelda_engine::worker::Clock;
use kelda_resp::encode_command;
use kelda_store::shard::ShardSet;
use kelda_store::txn::{Changes, Context, Env, Key, Txn};
use proptest::prelude::*;
use std::sync::{Arc, Mutex};

#[test]
fn a_group_delivers_and_takes_acknowledgements() {
    let mut console = Console::default();
    console.check(
        "XGROUP CREATE s g 0 MKSTREAM => +OK
         XGROUP CREATE s g 0 MKSTREAM => -BUSYGROUP Consumer Group name already exists
         XADD s 1-1 f one => $3 1-1
         XADD s 2-1 f two => $3 2-1
         XREADGROUP GROUP g c COUNT 1 STREAMS s > => *1 *2 $1 s *1 *2 $3 1-1 *2 $1 f $3 one
         XPENDING s g => *4 :1 $3 1-1 $3 1-1 *1 *2 $1 c $1 1
         XREADGROUP GROUP g c COUNT 5 STREAMS s > => *1 *2 $1 s *1 *2 $3 2-1 *2 $1 f $3 two
         XREADGROUP GROUP g c STREAMS s > => *-1
         XACK s g 1-1 9-9 => :1
         XACK s g 1-1 => :0
         XPENDING s g - + 10 => *1 *4 $3 2-1 $1 c :0 :1",
    );
    assert_eq!(console.ask("a", "XREADGROUP GROUP g c BLOCK 100 STREAMS s >"), "");
    console.advance_ms(99);
    assert_eq!(console.raw("a"), b"");
    assert_eq!(console.ask("b", "XADD s 3-1 f three"), "$3 3-1");
    let served = String::from_utf8_lossy(&console.raw("a")).replace("\r\n", " ");
    assert_eq!(served, "*1 *2 $1 s *1 *2 $3 3-1 *2 $1 f $5 three ");
    console.check("XPENDING s g - + 10 c => *2 *4 $3 2-1 $1 c :99 :1 *4 $3 3-1 $1 c :0 :1");
    assert_eq!(console.ask("a", "XREADGROUP GROUP g c BLOCK 100 STREAMS s >"), "");
    console.advance_ms(100);
    assert_eq!(console.raw("a"), b"*-1\r\n");
}

/// What a stream holds, but for what is not kept (the times at which consumers were seen, how often a producer repeated
/// itself), and the shape of its nodes.
fn contents(console: &mut Console, key: &str) -> String {
    let full = console.ask("contents", &format!("XINFO STREAM {key} FULL COUNT 0"));
    let mut words: Vec<&str> = full.split(' ').collect();
    for at in 1..words.len() {
        if matches!(
            words[at - 1],
            "seen-time" | "active-time" | "radix-tree-keys" | "radix-tree-nodes" | "iids-duplicates"
        ) {
            words[at] = "?";
        }
    }
    words.join(" ")
}

/// Contents but for how many marks producers ever made: commands that build a stream anew cannot tell of those forgotten.
fn without_count_of_marks(contents: &str) -> String {
    let Some((before, rest)) = contents.split_once("$10 iids-added ") else { return contents.into() };
    format!("{before}{}", rest.split_once(' ').map_or("", |(_, rest)| rest))
}

/// Keeps all changes.
#[derive(Default)]
struct Kept(Mutex<Vec<Vec<Vec<u8>>>>);

impl ChangeSink for Kept {
    fn commit(&self, changes: &Changes) -> Lsn {
        let owned = changes.iter().map(|change| change.argv.iter().map(|word| word.to_vec()).collect());
        self.0.lock().unwrap().extend(owned);
        1
    }
}

/// Runs a command given as words.
fn run(console: &mut Console, words: &[Vec<u8>]) -> String {
    let mut request = Vec::new();
    encode_command(&mut request, words);
    console.send("run", &request);
    String::from_utf8_lossy(&console.raw("run")).into_owned()
}

fn an_id() -> impl Strategy<Value = String> {
    prop_oneof![
        (0..30u64).prop_map(|ms| ms.to_string()),
        (0..30u64, 0..3u64).prop_map(|(ms, seq)| format!("{ms}-{seq}"))
    ]
}

fn a_trim() -> impl Strategy<Value = String> {
    (
        prop_oneof![(0..12u64).prop_map(|len| ("MAXLEN", len.to_string())), an_id().prop_map(|id| ("MINID", id))],
        any::<bool>(),
    )
        .prop_map(|((keep, threshold), about)| format!("{keep} {} {threshold}", if about { "~" } else { "=" }))
}

/// A command on the stream `s`, which may fail.
fn a_command() -> impl Strategy<Value = String> {
    let group = || prop_oneof![Just("g"), Just("h")];
    let consumer = || prop_oneof![Just("alice"), Just("bob"), Just("carol")];
    let new_id =
        prop_oneof![3 => an_id(), 2 => (0..30u64).prop_map(|ms| format!("{ms}-*")), 1 => Just("*".to_string())];
    let position = || prop_oneof![an_id(), Just("$".to_string())];
    let read = || prop_oneof![Just(String::new()), (-1..40i64).prop_map(|read| format!(" ENTRIESREAD {read}"))];
    let policy = || prop_oneof![Just("KEEPREF"), Just("DELREF"), Just("ACKED")];
    let mode = || prop_oneof![Just("SILENT"), Just("FAIL"), Just("FATAL")];
    let claim = || {
        prop_oneof![
            Just(""),
            Just(" JUSTID"),
            Just(" FORCE"),
            Just(" FORCE RETRYCOUNT 5"),
            Just(" IDLE 30"),
            Just(" TIME 1000"),
            Just(" LASTID 20-0"),
        ]
    };
    prop_oneof![
        6 => (prop_oneof![3 => Just(String::new()), 1 => a_trim()], new_id, 0..99u8)
            .prop_map(|(trim, id, value)| format!("XADD s {trim} {id} f {value} n x")),
        2 => (an_id(), an_id()).prop_map(|(a, b)| format!("XDEL s {a} {b}")),
        1 => a_trim().prop_map(|trim| format!("XTRIM s {trim}")),
        1 => (an_id(), 0..50u64, an_id())
            .prop_map(|(id, added, deleted)| format!("XSETID s {id} ENTRIESADDED {added} MAXDELETEDID {deleted}")),
        1 => an_id().prop_map(|id| format!("XSETID s {id}")),
        2 => (group(), position(), read()).prop_map(|(g, at, read)| format!("XGROUP CREATE s {g} {at} MKSTREAM{read}")),
        1 => (group(), position(), read()).prop_map(|(g, at, read)| format!("XGROUP SETID s {g} {at}{read}")),
        1 => (group(), consumer()).prop_map(|(g, c)| format!("XGROUP CREATECONSUMER s {g} {c}")),
        1 => (group(), consumer()).prop_map(|(g, c)| format!("XGROUP DELCONSUMER s {g} {c}")),
        6 => (group(), consumer(), 0..4u8, any::<bool>()).prop_map(|(g, c, count, no_ack)| {
            format!("XREADGROUP GROUP {g} {c} COUNT {count}{} STREAMS s >", if no_ack { " NOACK" } else { "" })
        }),
        2 => (group(), consumer(), an_id()).prop_map(|(g, c, id)| format!("XREADGROUP GROUP {g} {c} STREAMS s {id}")),
        2 => (group(), an_id(), an_id()).prop_map(|(g, a, b)| format!("XACK s {g} {a} {b}")),
        3 => (group(), consumer(), 0..20u8, an_id(), an_id(), claim())
            .prop_map(|(g, c, idle, a, b, options)| format!("XCLAIM s {g} {c} {idle} {a} {b}{options}")),
        2 => (group(), consumer(), 0..20u8, an_id(), 1..4u8)
            .prop_map(|(g, c, idle, id, count)| format!("XAUTOCLAIM s {g} {c} {idle} {id} COUNT {count}")),
        1 => group().prop_map(|g| format!("XGROUP DESTROY s {g}")),
        2 => (policy(), an_id(), an_id()).prop_map(|(policy, a, b)| format!("XDELEX s {policy} IDS 2 {a} {b}")),
        2 => (group(), policy(), an_id(), an_id())
            .prop_map(|(g, policy, a, b)| format!("XACKDEL s {g} {policy} IDS 2 {a} {b}")),
        1 => (a_trim(), policy()).prop_map(|(trim, policy)| format!("XTRIM s {trim} {policy}")),
        1 => (a_trim(), policy(), 0..99u8).prop_map(|(trim, policy, v)| format!("XADD s {trim} {policy} * f {v}")),
        3 => (group(), mode(), an_id(), an_id(), prop_oneof![Just(""), Just("FORCE"), Just("RETRYCOUNT 7")])
            .prop_map(|(g, mode, a, b, option)| format!("XNACK s {g} {mode} IDS 2 {a} {b} {option}")),
        2 => (group(), consumer(), 1..4u8, 0..20u8)
            .prop_map(|(g, c, count, idle)| format!("XREADGROUP GROUP {g} {c} COUNT {count} CLAIM {idle} STREAMS s >")),
        2 => (0..3u8, 0..4u8).prop_map(|(p, i)| format!("XADD s IDMP p{p} i{i} * f {i}")),
        1 => (a_trim(), 0..3u8).prop_map(|(trim, v)| format!("XADD s IDMPAUTO p {trim} DELREF * f {v}")),
        1 => (1..4u8).prop_map(|max| format!("XCFGSET s IDMP-MAXSIZE {max}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn changes_rebuild_the_stream(commands in prop::collection::vec((a_command(), 0..20u64), 1..60)) {
        // What producers marked counts longer than the test's clocks differ.
        let settings = [("stream-node-max-entries", "3"), ("stream-idmp-duration", "86400")];
        let kept = Arc::new(Kept::default());
        let mut console = Console::with_sink(&settings, Some(kept.clone()));
        for (command, wait) in commands {
            console.ask("a", &command);
            console.advance_ms(wait);
        }
        let want = contents(&mut console, "s");

        let mut replayed = Console::new(&settings);
        replayed.clock.advance_ms(1_000_000);
        for change in kept.0.lock().unwrap().iter() {
            let answer = run(&mut replayed, change);
            prop_assert!(!answer.starts_with('-'), "{:?}: {}", change, answer);
        }
        prop_assert_eq!(&contents(&mut replayed, "s"), &want);

        // Each run twice: the second time changes nothing.
        let mut twice = Console::new(&settings);
        twice.clock.advance_ms(1_000_000);
        for change in kept.0.lock().unwrap().iter().flat_map(|change| [change, change]) {
            run(&mut twice, change);
        }
        prop_assert_eq!(&contents(&mut twice, "s"), &want);

        // The same from the stream as it is in the end.
        let engine = console.engine.clone();
        let guard = engine.keyspace.lock(ShardSet::All).unwrap();
        let txn = Txn::new(guard, 0, console.clock.unix_us() / 1000, Context::new(Env::default(), 1));
        let commands = txn.stream(Key::new(b"s")).unwrap().map(|stream| stream.rebuild_commands(b"s"));
        drop(txn);
        let mut rebuilt = Console::new(&settings);
        rebuilt.clock.advance_ms(1_000_000);
        for command in commands.iter().flatten() {
            let answer = run(&mut rebuilt, command);
            prop_assert!(!answer.starts_with('-'), "{:?}: {}", command, answer);
        }
        prop_assert_eq!(without_count_of_marks(&contents(&mut rebuilt, "s")), without_count_of_marks(&want));
    }

    /// The script is rolled back at its end, where it reaches for a key that it did not declare, and run again.
    #[test]
    fn a_roll_back_leaves_the_stream_as_it_was(
        before in prop::collection::vec(a_command(), 0..30),
        within in prop::collection::vec(a_command(), 1..15),
    ) {
        let mut straight = Console::new(&[("stream-node-max-entries", "3")]);
        for command in before.iter().chain(&within) {
            straight.ask("a", command);
        }
        let mut scripted = Console::new(&[("stream-node-max-entries", "3")]);
        for command in &before {
            scripted.ask("a", command);
        }
        let script = "for _, line in ipairs(ARGV) do
                local words = {}
                for word in line:gmatch('%S+') do words[#words + 1] = word end
                redis.pcall(unpack(words))
            end
            return redis.call('SET', 'other', 1)";
        let mut words: Vec<Vec<u8>> = [b"EVAL", script.as_bytes(), b"1", b"s"].iter().map(|word| word.to_vec()).collect();
        words.extend(within.iter().map(|line| line.clone().into_bytes()));
        prop_assert_eq!(run(&mut scripted, &words), "+OK\r\n");
        prop_assert_eq!(contents(&mut scripted, "s"), contents(&mut straight, "s"));
    }
}

#[test]
fn entries_are_added_with_ids_that_grow() {
    Console::default().check(
        r#"XADD s 0-0 a b => -ERR The ID specified in XADD must be greater than 0-0
         XADD s 0 a b => -ERR The ID specified in XADD must be greater than 0-0
         XADD s bad a b => -ERR Invalid stream ID specified as stream command argument
         XADD s 1-1-1 a b => -ERR Invalid stream ID specified as stream command argument
         XADD s - a b => -ERR Invalid stream ID specified as stream command argument
         XADD s 1-1 a => -ERR wrong number of arguments for 'xadd' command
         XADD s 1-1 => -ERR wrong number of arguments for 'xadd' command
         XADD s NOMKSTREAM 1-1 => -ERR wrong number of arguments for 'xadd' command
         XADD s NOMKSTREAM 1-1 a b => $-1
         XLEN s => :0
         XADD s 0-* a b => $3 0-1
         XADD s 0-* a b => $3 0-2
         XADD s 5 a b => $3 5-0
         XADD s 5-* a b => $3 5-1
         XADD s 05-07 a b => $3 5-7
         XADD s nomkstream 6-1 a b a 12 "" -0 => $3 6-1
         XADD s 6-1 a b => -ERR The ID specified in XADD is equal or smaller than the target stream top item
         XADD s 6-* c d => $3 6-2
         XADD s 3-* c d => -ERR The ID specified in XADD is equal or smaller than the target stream top item
         XADD s 7 a b c => -ERR wrong number of arguments for 'xadd' command
         XRANGE s - + => *7 *2 $3 0-1 *2 $1 a $1 b *2 $3 0-2 *2 $1 a $1 b *2 $3 5-0 *2 $1 a $1 b *2 $3 5-1 *2 $1 a $1 b *2 $3 5-7 *2 $1 a $1 b *2 $3 6-1 *6 $1 a $1 b $1 a $2 12 $0  $2 -0 *2 $3 6-2 *2 $1 c $1 d
         XADD t 18446744073709551615-18446744073709551614 a b => $41 18446744073709551615-18446744073709551614
         XADD t 18446744073709551615-* a b => $41 18446744073709551615-18446744073709551615
         XADD t 18446744073709551615-* a b => -ERR The stream has exhausted the last possible ID, unable to add more items
         XADD t * a b => -ERR The stream has exhausted the last possible ID, unable to add more items
         XADD t 18446744073709551616-0 a b => -ERR Invalid stream ID specified as stream command argument
         XADD u 7-18446744073709551615 a b => $22 7-18446744073709551615
         XADD u 7-* a b => -ERR The ID specified in XADD is equal or smaller than the target stream top item
         SET str x => +OK
         XADD str 1-1 a b => -WRONGTYPE Operation against a key holding the wrong kind of value
         XADD str 0-0 a b => -ERR The ID specified in XADD must be greater than 0-0
         XLEN str => -WRONGTYPE Operation against a key holding the wrong kind of value
         XLEN none => :0"#,
    );
}

#[test]
fn ranges_have_inclusive_and_exclusive_ends() {
    Console::default().check(
        r#"XADD s 1-1 n 1 => $3 1-1
         XADD s 1-2 n 2 => $3 1-2
         XADD s 2-0 n 3 => $3 2-0
         XADD s 3-5 n 4 => $3 3-5
         XRANGE s - + => *4 *2 $3 1-1 *2 $1 n $1 1 *2 $3 1-2 *2 $1 n $1 2 *2 $3 2-0 *2 $1 n $1 3 *2 $3 3-5 *2 $1 n $1 4
         XRANGE s 1 1 => *2 *2 $3 1-1 *2 $1 n $1 1 *2 $3 1-2 *2 $1 n $1 2
         XRANGE s 1-2 2 => *2 *2 $3 1-2 *2 $1 n $1 2 *2 $3 2-0 *2 $1 n $1 3
         XRANGE s (1-1 (3-5 => *2 *2 $3 1-2 *2 $1 n $1 2 *2 $3 2-0 *2 $1 n $1 3
         XRANGE s (1 + => *4 *2 $3 1-1 *2 $1 n $1 1 *2 $3 1-2 *2 $1 n $1 2 *2 $3 2-0 *2 $1 n $1 3 *2 $3 3-5 *2 $1 n $1 4
         XRANGE s 2 1 => *0
         XRANGE s - + COUNT 2 => *2 *2 $3 1-1 *2 $1 n $1 1 *2 $3 1-2 *2 $1 n $1 2
         XRANGE s - + count 1 COUNT 2 => *2 *2 $3 1-1 *2 $1 n $1 1 *2 $3 1-2 *2 $1 n $1 2
         XRANGE s - + COUNT 0 => *-1
         XRANGE s - + COUNT -1 => *-1
         XRANGE s - + COUNT x => -ERR value is not an integer or out of range
         XRANGE s - + COUNT => -ERR syntax error
         XRANGE s - + FOO 1 => -ERR syntax error
         XRANGE s (18446744073709551615-18446744073709551615 + => -ERR invalid start ID for the interval
         XRANGE s - (0-0 => -ERR invalid end ID for the interval
         XRANGE s (- + => -ERR Invalid stream ID specified as stream command argument
         XRANGE s ( + => -ERR Invalid stream ID specified as stream command argument
         XRANGE s x + => -ERR Invalid stream ID specified as stream command argument
         XRANGE none - + COUNT 0 => *0
         XREVRANGE s + - => *4 *2 $3 3-5 *2 $1 n $1 4 *2 $3 2-0 *2 $1 n $1 3 *2 $3 1-2 *2 $1 n $1 2 *2 $3 1-1 *2 $1 n $1 1
         XREVRANGE s + - COUNT 1 => *1 *2 $3 3-5 *2 $1 n $1 4
         XREVRANGE s (3-5 (1-1 => *2 *2 $3 2-0 *2 $1 n $1 3 *2 $3 1-2 *2 $1 n $1 2
         XREVRANGE s 1 3 => *0
         XREVRANGE none + - => *0
         SET str x => +OK
         XRANGE str - + => -WRONGTYPE Operation against a key holding the wrong kind of value"#,
    );
}

#[test]
fn entries_are_deleted_and_trimmed() {
    Console::default().check(
        r#"XDEL s 1-1 => :0
         XDEL s x => :0
         XADD s 1-1 n 1 => $3 1-1
         XADD s 2-1 n 2 => $3 2-1
         XADD s 3-1 n 3 => $3 3-1
         XADD s 4-1 n 4 => $3 4-1
         XDEL s x 2-1 => -ERR Invalid stream ID specified as stream command argument
         XDEL s 2-1 x => -ERR Invalid stream ID specified as stream command argument
         XDEL s 2-1 2-1 9-9 => :1
         XTRIM s FOO 1 => -ERR syntax error
         XTRIM s MAXLEN => -ERR wrong number of arguments for 'xtrim' command
         XTRIM s MAXLEN x => -ERR value is not an integer or out of range
         XTRIM s MAXLEN -1 => -ERR The MAXLEN argument must be >= 0.
         XTRIM s MINID x => -ERR Invalid stream ID specified as stream command argument
         XTRIM s MINID - => -ERR Invalid stream ID specified as stream command argument
         XTRIM s LIMIT 5 => -ERR syntax error, LIMIT cannot be used without specifying a trimming strategy
         XTRIM s MAXLEN 1 LIMIT 5 => -ERR syntax error, LIMIT cannot be used without the special ~ option
         XTRIM s MAXLEN ~ 1 LIMIT -5 => -ERR The LIMIT argument must be >= 0.
         XTRIM s MAXLEN 1 MINID 2 => -ERR syntax error, MAXLEN and MINID options at the same time are not compatible
         XTRIM s MAXLEN ~ 1 => :0
         XTRIM s MAXLEN = 2 => :1
         XTRIM s MINID 4-0 => :1
         XTRIM none MAXLEN 0 => :0
         XRANGE s - + => *1 *2 $3 4-1 *2 $1 n $1 4
         XINFO STREAM s => *32 $6 length :1 $15 radix-tree-keys :1 $16 radix-tree-nodes :2 $17 last-generated-id $3 4-1 $20 max-deleted-entry-id $3 2-1 $13 entries-added :4 $23 recorded-first-entry-id $3 4-1 $13 idmp-duration :100 $12 idmp-maxsize :100 $12 pids-tracked :0 $12 iids-tracked :0 $10 iids-added :0 $15 iids-duplicates :0 $6 groups :0 $11 first-entry *2 $3 4-1 *2 $1 n $1 4 $10 last-entry *2 $3 4-1 *2 $1 n $1 4
         XADD s MAXLEN 1 5-1 n 5 => $3 5-1
         XADD s MAXLEN = 1 6-1 n 6 => $3 6-1
         XADD s MINID 7 6-2 n 7 => $3 6-2
         XADD s MAXLEN ~ 0 LIMIT 0 8-1 n 8 => $3 8-1
         XADD s MAXLEN 5 LIMIT 5 * a b => -ERR syntax error, LIMIT cannot be used without the special ~ option
         XADD s LIMIT 5 * a b => -ERR syntax error, LIMIT cannot be used without specifying a trimming strategy
         XADD s LIMIT 0 9-1 a b => -ERR syntax error, LIMIT cannot be used without the special ~ option
         XADD s MAXLEN 2 MAXLEN 3 * a b => -ERR syntax error, MAXLEN and MINID options at the same time are not compatible
         XADD s MAXLEN x * a b => -ERR value is not an integer or out of range
         XADD s MAXLEN 0 10-1 a b => $4 10-1
         XLEN s => :0
         SET str x => +OK
         XDEL str x => -WRONGTYPE Operation against a key holding the wrong kind of value
         XTRIM str MAXLEN 1 => -WRONGTYPE Operation against a key holding the wrong kind of value"#,
    );
}

#[test]
fn the_last_id_can_be_set() {
    Console::default().check(
        r#"XSETID s 1-1 => -ERR no such key
         XADD s 4-1 a b => $3 4-1
         XADD s 5-1 a b => $3 5-1
         XDEL s 4-1 => :1
         XSETID s x => -ERR Invalid stream ID specified as stream command argument
         XSETID s 5-0 => -ERR The ID specified in XSETID is smaller than the target stream top item
         XSETID s 4-0 => -ERR The ID specified in XSETID is smaller than current max_deleted_entry_id
         XSETID s 6-1 ENTRIESADDED 0 => -ERR The entries_added specified in XSETID is smaller than the target stream length
         XSETID s 6-1 ENTRIESADDED -1 => -ERR entries_added must be positive
         XSETID s 6-1 ENTRIESADDED x => -ERR value is not an integer or out of range
         XSETID s 6-1 MAXDELETEDID 7-1 => -ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id
         XSETID s 6-1 MAXDELETEDID x => -ERR Invalid stream ID specified as stream command argument
         XSETID s 6-1 FOO 1 => -ERR syntax error
         XSETID s 6-1 ENTRIESADDED => -ERR syntax error
         XSETID s 6-1 ENTRIESADDED 9 MAXDELETEDID 4-5 => +OK
         XADD s 6-* a b => $3 6-2
         XINFO STREAM s => *32 $6 length :2 $15 radix-tree-keys :1 $16 radix-tree-nodes :2 $17 last-generated-id $3 6-2 $20 max-deleted-entry-id $3 4-5 $13 entries-added :10 $23 recorded-first-entry-id $3 5-1 $13 idmp-duration :100 $12 idmp-maxsize :100 $12 pids-tracked :0 $12 iids-tracked :0 $10 iids-added :0 $15 iids-duplicates :0 $6 groups :0 $11 first-entry *2 $3 5-1 *2 $1 a $1 b $10 last-entry *2 $3 6-2 *2 $1 a $1 b
         SET str x => +OK
         XSETID str 1-1 => -WRONGTYPE Operation against a key holding the wrong kind of value"#,
    );
}

#[test]
fn streams_are_read_after_ids() {
    Console::default().check(
        r#"XREAD STREAMS s 0 => *-1
         XADD s 1-1 n 1 => $3 1-1
         XADD s 2-1 n 2 => $3 2-1
         XADD t 1-5 n 3 => $3 1-5
         XREAD STREAMS s 0 => *1 *2 $1 s *2 *2 $3 1-1 *2 $1 n $1 1 *2 $3 2-1 *2 $1 n $1 2
         XREAD STREAMS s t 0 0 => *2 *2 $1 s *2 *2 $3 1-1 *2 $1 n $1 1 *2 $3 2-1 *2 $1 n $1 2 *2 $1 t *1 *2 $3 1-5 *2 $1 n $1 3
         XREAD STREAMS s none 1 0 => *1 *2 $1 s *2 *2 $3 1-1 *2 $1 n $1 1 *2 $3 2-1 *2 $1 n $1 2
         XREAD COUNT 1 STREAMS s t 0-0 0-0 => *2 *2 $1 s *1 *2 $3 1-1 *2 $1 n $1 1 *2 $1 t *1 *2 $3 1-5 *2 $1 n $1 3
         XREAD COUNT 0 STREAMS s 1-1 => *1 *2 $1 s *1 *2 $3 2-1 *2 $1 n $1 2
         XREAD COUNT -5 STREAMS s 1-1 => *1 *2 $1 s *1 *2 $3 2-1 *2 $1 n $1 2
         XREAD STREAMS s $ => *-1
         XREAD STREAMS s + => *1 *2 $1 s *1 *2 $3 2-1 *2 $1 n $1 2
         XREAD STREAMS s t + + => *2 *2 $1 s *1 *2 $3 2-1 *2 $1 n $1 2 *2 $1 t *1 *2 $3 1-5 *2 $1 n $1 3
         XREAD STREAMS none + => *-1
         XREAD STREAMS s t $ 1-1 => *1 *2 $1 t *1 *2 $3 1-5 *2 $1 n $1 3
         XREAD STREAMS s 18446744073709551615-18446744073709551615 => *-1
         XREAD STREAMS s > => -ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.
         XREAD STREAMS s t 0 => -ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified.
         XREAD STREAMS s x => -ERR Invalid stream ID specified as stream command argument
         XREAD STREAMS s - => -ERR Invalid stream ID specified as stream command argument
         XREAD FOO 1 STREAMS s 0 => -ERR syntax error
         XREAD COUNT x STREAMS s 0 => -ERR value is not an integer or out of range
         XREAD COUNT 1 s 0 => -ERR syntax error
         XREAD BLOCK -1 STREAMS s 0 => -ERR timeout is negative
         XREAD BLOCK x STREAMS s 0 => -ERR timeout is not an integer or out of range
         XREAD BLOCK 1.5 STREAMS s 0 => -ERR timeout is not an integer or out of range
         XREAD GROUP g c STREAMS s 0 => -ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.
         XREAD NOACK STREAMS s 0 => -ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.
         XREAD COUNT 1 BLOCK STREAMS => -ERR timeout is not an integer or out of range
         SET str x => +OK
         XREAD STREAMS s str 0 0 => -WRONGTYPE Operation against a key holding the wrong kind of value"#,
    );
}

#[test]
fn groups_and_consumers_are_made_and_removed() {
    Console::default().check(
        r#"XGROUP CREATE s g $ => -ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.
         XGROUP CREATE s g x MKSTREAM => -ERR Invalid stream ID specified as stream command argument
         XGROUP CREATE s g - MKSTREAM => -ERR Invalid stream ID specified as stream command argument
         XGROUP CREATE s g $ FOO => -ERR unknown subcommand or wrong number of arguments for 'CREATE'. Try XGROUP HELP.
         XGROUP CREATE s g $ MKSTREAM ENTRIESREAD => -ERR unknown subcommand or wrong number of arguments for 'CREATE'. Try XGROUP HELP.
         XGROUP CREATE s g $ MKSTREAM ENTRIESREAD -2 => -ERR value for ENTRIESREAD must be positive or -1
         XGROUP CREATE s g $ MKSTREAM ENTRIESREAD x => -ERR value is not an integer or out of range
         XLEN s => :0
         XGROUP SETID s g $ => -ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.
         XGROUP DESTROY s g => -ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.
         XGROUP CREATECONSUMER s g c => -ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.
         XGROUP DELCONSUMER s g c => -ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.
         XGROUP CREATE s g $ mkstream => +OK
         XGROUP CREATE s g $ => -BUSYGROUP Consumer Group name already exists
         XGROUP CREATE s g x => -ERR Invalid stream ID specified as stream command argument
         XADD s 5-1 a b => $3 5-1
         XADD s 6-1 a b => $3 6-1
         XGROUP CREATE s h $ ENTRIESREAD 1 => +OK
         XGROUP CREATE s i 5 ENTRIESREAD -1 => +OK
         XGROUP SETID s nope $ => -NOGROUP No such consumer group 'nope' for key name 's'
         XGROUP SETID s g $ MKSTREAM => -ERR unknown subcommand or wrong number of arguments for 'SETID'. Try XGROUP HELP.
         XINFO GROUPS s => *3 *12 $4 name $1 g $9 consumers :0 $7 pending :0 $17 last-delivered-id $3 0-0 $12 entries-read $-1 $3 lag :2 *12 $4 name $1 h $9 consumers :0 $7 pending :0 $17 last-delivered-id $3 6-1 $12 entries-read :1 $3 lag :1 *12 $4 name $1 i $9 consumers :0 $7 pending :0 $17 last-delivered-id $3 5-0 $12 entries-read $-1 $3 lag :2
         XGROUP SETID s g 5-1 ENTRIESREAD 1 => +OK
         XGROUP SETID s h - => +OK
         XGROUP SETID s i $ => +OK
         XINFO GROUPS s => *3 *12 $4 name $1 g $9 consumers :0 $7 pending :0 $17 last-delivered-id $3 5-1 $12 entries-read :1 $3 lag :1 *12 $4 name $1 h $9 consumers :0 $7 pending :0 $17 last-delivered-id $3 0-0 $12 entries-read $-1 $3 lag :2 *12 $4 name $1 i $9 consumers :0 $7 pending :0 $17 last-delivered-id $3 6-1 $12 entries-read $-1 $3 lag :0
         XGROUP CREATECONSUMER s nope c => -NOGROUP No such consumer group 'nope' for key name 's'
         XGROUP CREATECONSUMER s g c => :1
         XGROUP CREATECONSUMER s g c => :0
         XINFO CONSUMERS s g => *1 *8 $4 name $1 c $7 pending :0 $4 idle :0 $8 inactive :-1
         XGROUP DELCONSUMER s nope c => -NOGROUP No such consumer group 'nope' for key name 's'
         XGROUP DELCONSUMER s g d => :0
         XGROUP DELCONSUMER s g c => :0
         XGROUP DESTROY s nope => :0
         XGROUP DESTROY s g => :1
         XGROUP CREATE s g => -ERR wrong number of arguments for 'xgroup|create' command
         XGROUP FOO s g => -ERR unknown subcommand 'FOO'. Try XGROUP HELP.
         XINFO FOO => -ERR unknown subcommand 'FOO'. Try XINFO HELP.
         SET str x => +OK
         XGROUP CREATE str g $ MKSTREAM => -WRONGTYPE Operation against a key holding the wrong kind of value
         XGROUP SETID str g $ => -WRONGTYPE Operation against a key holding the wrong kind of value
         XGROUP DESTROY str g => -WRONGTYPE Operation against a key holding the wrong kind of value
         XGROUP CREATECONSUMER str g c => -WRONGTYPE Operation against a key holding the wrong kind of value
         XGROUP DELCONSUMER str g c => -WRONGTYPE Operation against a key holding the wrong kind of value"#,
    );
}

#[test]
fn a_group_delivers_each_entry_once() {
    Console::default().check(
        r#"XREADGROUP GROUP g c STREAMS s > => -NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option
         XGROUP CREATE s g 0 MKSTREAM => +OK
         XGROUP CREATE t g 0 MKSTREAM => +OK
         XREADGROUP GROUP g c STREAMS s > => *-1
         XINFO CONSUMERS s g => *1 *8 $4 name $1 c $7 pending :0 $4 idle :0 $8 inactive :-1
         XADD s 1-1 n 1 => $3 1-1
         XADD s 2-1 n 2 => $3 2-1
         XADD t 1-1 n 3 => $3 1-1
         XREADGROUP GROUP g c COUNT 1 STREAMS s t > > => *2 *2 $1 s *1 *2 $3 1-1 *2 $1 n $1 1 *2 $1 t *1 *2 $3 1-1 *2 $1 n $1 3
         XREADGROUP GROUP g d STREAMS s t > > => *1 *2 $1 s *1 *2 $3 2-1 *2 $1 n $1 2
         XREADGROUP GROUP g c STREAMS s 0 => *1 *2 $1 s *1 *2 $3 1-1 *2 $1 n $1 1
         XREADGROUP GROUP g c STREAMS s t 0 0-5 => *2 *2 $1 s *1 *2 $3 1-1 *2 $1 n $1 1 *2 $1 t *1 *2 $3 1-1 *2 $1 n $1 3
         XREADGROUP GROUP g d COUNT 1 STREAMS s t 0 > => *1 *2 $1 s *1 *2 $3 2-1 *2 $1 n $1 2
         XREADGROUP GROUP g e STREAMS s 0 => *1 *2 $1 s *0
         XREADGROUP GROUP g c STREAMS s 18446744073709551615-18446744073709551615 => *-1
         XPENDING s g => *4 :2 $3 1-1 $3 2-1 *2 *2 $1 c $1 1 *2 $1 d $1 1
         XPENDING s g - + 10 => *2 *4 $3 1-1 $1 c :0 :3 *4 $3 2-1 $1 d :0 :2
         XDEL s 1-1 => :1
         XREADGROUP GROUP g c STREAMS s 0 => *1 *2 $1 s *1 *2 $3 1-1 *-1
         XADD s 3-1 n 4 => $3 3-1
         XREADGROUP GROUP g c NOACK STREAMS s > => *1 *2 $1 s *1 *2 $3 3-1 *2 $1 n $1 4
         XREADGROUP GROUP g c STREAMS s 1-1 => *1 *2 $1 s *0
         XINFO GROUPS s => *1 *12 $4 name $1 g $9 consumers :3 $7 pending :2 $17 last-delivered-id $3 3-1 $12 entries-read :3 $3 lag :0
         XREADGROUP GROUP g c STREAMS s $ => -ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.
         XREADGROUP GROUP g c STREAMS s + => -ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The + ID would just return an empty result set.
         XREADGROUP GROUP g c STREAMS s x => -ERR Invalid stream ID specified as stream command argument
         XREADGROUP GROUP h c STREAMS s > => -NOGROUP No such key 's' or consumer group 'h' in XREADGROUP with GROUP option
         XREADGROUP GROUP g c STREAMS s t 0 => -ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified.
         XREADGROUP GROUP g c COUNT 1 s 0 => -ERR syntax error
         XREADGROUP COUNT 1 NOACK STREAMS s > => -ERR Missing GROUP option for XREADGROUP
         XREADGROUP GROUP g c BLOCK -1 STREAMS s > => -ERR timeout is negative
         XREADGROUP NOACK GROUP STREAMS STREAMS STREAMS s > => -NOGROUP No such key 's' or consumer group 'STREAMS' in XREADGROUP with GROUP option
         SET str x => +OK
         XREADGROUP GROUP g c STREAMS s str > > => -WRONGTYPE Operation against a key holding the wrong kind of value"#,
    );
}

#[test]
fn pending_entries_are_listed_and_acknowledged() {
    Console::default().check(
        r#"XPENDING s g => -NOGROUP No such key 's' or consumer group 'g'
         XADD s 1-1 n 1 => $3 1-1
         XADD s 2-1 n 2 => $3 2-1
         XADD s 3-1 n 3 => $3 3-1
         XGROUP CREATE s g 0 => +OK
         XPENDING s g => *4 :0 $-1 $-1 *-1
         XPENDING s h => -NOGROUP No such key 's' or consumer group 'h'
         XPENDING s g - + 10 => *0
         XREADGROUP GROUP g c COUNT 2 STREAMS s > => *1 *2 $1 s *2 *2 $3 1-1 *2 $1 n $1 1 *2 $3 2-1 *2 $1 n $1 2
         XREADGROUP GROUP g d STREAMS s > => *1 *2 $1 s *1 *2 $3 3-1 *2 $1 n $1 3
         XPENDING s g => *4 :3 $3 1-1 $3 3-1 *2 *2 $1 c $1 2 *2 $1 d $1 1
         XPENDING s g - + 10 => *3 *4 $3 1-1 $1 c :0 :1 *4 $3 2-1 $1 c :0 :1 *4 $3 3-1 $1 d :0 :1
         XPENDING s g - + 1 => *1 *4 $3 1-1 $1 c :0 :1
         XPENDING s g (1-1 (3-1 10 => *1 *4 $3 2-1 $1 c :0 :1
         XPENDING s g - + 10 d => *1 *4 $3 3-1 $1 d :0 :1
         XPENDING s g - + 10 nobody => *0
         XPENDING s g IDLE 100000 - + 10 => *0
         XPENDING s g IDLE 0 - + 10 c => *2 *4 $3 1-1 $1 c :0 :1 *4 $3 2-1 $1 c :0 :1
         XPENDING s g - + 0 => *0
         XPENDING s g - + -5 => *0
         XPENDING s g - + x => -ERR value is not an integer or out of range
         XPENDING s g x + 10 => -ERR Invalid stream ID specified as stream command argument
         XPENDING s g - x 10 => -ERR Invalid stream ID specified as stream command argument
         XPENDING s g - + => -ERR syntax error
         XPENDING s g (18446744073709551615-18446744073709551615 + 5 => -ERR invalid start ID for the interval
         XPENDING s g - (0-0 5 => -ERR invalid end ID for the interval
         XPENDING s g IDLE x - + 10 => -ERR value is not an integer or out of range
         XPENDING s g IDLE - + 10 => -ERR value is not an integer or out of range
         XPENDING s g IDLE 10 - + => -ERR syntax error
         XPENDING s g - + 5 c d e f => -ERR syntax error
         XACK s g 1-1 x => -ERR Invalid stream ID specified as stream command argument
         XACK s nope x => :0
         XACK none g x => :0
         XACK s g 1-1 1-1 9-9 => :1
         XPENDING s g => *4 :2 $3 2-1 $3 3-1 *2 *2 $1 c $1 1 *2 $1 d $1 1
         XACK s g 2-1 3-1 => :2
         XPENDING s g => *4 :0 $-1 $-1 *-1
         SET str x => +OK
         XACK str g 1 => -WRONGTYPE Operation against a key holding the wrong kind of value
         XPENDING str g => -WRONGTYPE Operation against a key holding the wrong kind of value"#,
    );
}

#[test]
fn pending_entries_change_hands() {
    Console::default().check(
        r#"XCLAIM s g c 0 1-1 => -NOGROUP No such key 's' or consumer group 'g'
         XAUTOCLAIM s g c 0 0 => -NOGROUP No such key 's' or consumer group 'g'
         XADD s 1-1 n 1 => $3 1-1
         XADD s 2-1 n 2 => $3 2-1
         XADD s 3-1 n 3 => $3 3-1
         XGROUP CREATE s g 0 => +OK
         XREADGROUP GROUP g c COUNT 2 STREAMS s > => *1 *2 $1 s *2 *2 $3 1-1 *2 $1 n $1 1 *2 $3 2-1 *2 $1 n $1 2
         XCLAIM s h d 0 1-1 => -NOGROUP No such key 's' or consumer group 'h'
         XCLAIM s g d x 1-1 => -ERR Invalid min-idle-time argument for XCLAIM
         XCLAIM s g d 0 1-1 FOO => -ERR Unrecognized XCLAIM option 'FOO'
         XCLAIM s g d 0 1-1 IDLE x => -ERR Invalid IDLE option argument for XCLAIM
         XCLAIM s g d 0 1-1 TIME x => -ERR Invalid TIME option argument for XCLAIM
         XCLAIM s g d 0 1-1 RETRYCOUNT x => -ERR Invalid RETRYCOUNT option argument for XCLAIM
         XCLAIM s g d 0 1-1 RETRYCOUNT => -ERR Unrecognized XCLAIM option 'RETRYCOUNT'
         XCLAIM s g d 0 1-1 LASTID x => -ERR Invalid stream ID specified as stream command argument
         XCLAIM s g d 0 JUSTID => *0
         XCLAIM s g d 100000 1-1 => *0
         XCLAIM s g d 0 1-1 3-1 => *1 *2 $3 1-1 *2 $1 n $1 1
         XCLAIM s g d 0 1-1 JUSTID => *1 $3 1-1
         XCLAIM s g d 0 2-1 RETRYCOUNT 7 JUSTID => *1 $3 2-1
         XCLAIM s g d 0 2-1 => *1 *2 $3 2-1 *2 $1 n $1 2
         XCLAIM s g e 0 3-1 FORCE JUSTID => *1 $3 3-1
         XCLAIM s g e -5 3-1 IDLE 0 RETRYCOUNT -1 LASTID 2-5 => *1 *2 $3 3-1 *2 $1 n $1 3
         XPENDING s g - + 10 => *3 *4 $3 1-1 $1 d :0 :2 *4 $3 2-1 $1 d :0 :8 *4 $3 3-1 $1 e :0 :2
         XINFO GROUPS s => *1 *12 $4 name $1 g $9 consumers :3 $7 pending :3 $17 last-delivered-id $3 2-5 $12 entries-read :2 $3 lag :1
         XDEL s 1-1 => :1
         XCLAIM s g c 0 1-1 2-1 => *1 *2 $3 2-1 *2 $1 n $1 2
         XCLAIM s g c 0 1-1 FORCE => *0
         XPENDING s g - + 10 => *2 *4 $3 2-1 $1 c :0 :9 *4 $3 3-1 $1 e :0 :2
         XAUTOCLAIM s g f 0 - => *3 $3 0-0 *2 *2 $3 2-1 *2 $1 n $1 2 *2 $3 3-1 *2 $1 n $1 3 *0
         XAUTOCLAIM s g f 0 (2-1 COUNT 1 JUSTID => *3 $3 0-0 *1 $3 3-1 *0
         XAUTOCLAIM s g f 0 0 COUNT 1 => *3 $3 3-1 *1 *2 $3 2-1 *2 $1 n $1 2 *0
         XAUTOCLAIM s g f 100000 0 => *3 $3 0-0 *0 *0
         XDEL s 2-1 => :1
         XAUTOCLAIM s g c 0 0 JUSTID => *3 $3 0-0 *1 $3 3-1 *1 $3 2-1
         XPENDING s g - + 10 => *1 *4 $3 3-1 $1 c :0 :3
         XAUTOCLAIM s g c 0 - COUNT 0 => -ERR COUNT must be > 0
         XAUTOCLAIM s g c 0 - COUNT x => -ERR COUNT must be > 0
         XAUTOCLAIM s g c 0 - COUNT => -ERR syntax error
         XAUTOCLAIM s g c x - => -ERR Invalid min-idle-time argument for XAUTOCLAIM
         XAUTOCLAIM s g c 0 x => -ERR Invalid stream ID specified as stream command argument
         XAUTOCLAIM s g c 0 (18446744073709551615-18446744073709551615 => -ERR invalid start ID for the interval
         XAUTOCLAIM s h c 0 - => -NOGROUP No such key 's' or consumer group 'h'
         XAUTOCLAIM s g c 0 - FOO => -ERR syntax error
         SET str x => +OK
         XCLAIM str g c x 1 => -WRONGTYPE Operation against a key holding the wrong kind of value
         XAUTOCLAIM str g c 0 0 => -WRONGTYPE Operation against a key holding the wrong kind of value"#,
    );
}

#[test]
fn streams_are_described() {
    Console::default().check(
        r#"XINFO STREAM s => -ERR no such key
         XINFO GROUPS s => -ERR no such key
         XINFO CONSUMERS s g => -ERR no such key
         XGROUP CREATE s g 0 MKSTREAM => +OK
         XINFO STREAM s => *32 $6 length :0 $15 radix-tree-keys :0 $16 radix-tree-nodes :1 $17 last-generated-id $3 0-0 $20 max-deleted-entry-id $3 0-0 $13 entries-added :0 $23 recorded-first-entry-id $3 0-0 $13 idmp-duration :100 $12 idmp-maxsize :100 $12 pids-tracked :0 $12 iids-tracked :0 $10 iids-added :0 $15 iids-duplicates :0 $6 groups :1 $11 first-entry $-1 $10 last-entry $-1
         XADD s 1-1 n 1 => $3 1-1
         XADD s 2-1 n 2 => $3 2-1
         XGROUP CREATE s h $ => +OK
         XREADGROUP GROUP g c COUNT 1 STREAMS s > => *1 *2 $1 s *1 *2 $3 1-1 *2 $1 n $1 1
         XGROUP CREATECONSUMER s g d => :1
         XINFO STREAM s => *32 $6 length :2 $15 radix-tree-keys :1 $16 radix-tree-nodes :2 $17 last-generated-id $3 2-1 $20 max-deleted-entry-id $3 0-0 $13 entries-added :2 $23 recorded-first-entry-id $3 1-1 $13 idmp-duration :100 $12 idmp-maxsize :100 $12 pids-tracked :0 $12 iids-tracked :0 $10 iids-added :0 $15 iids-duplicates :0 $6 groups :2 $11 first-entry *2 $3 1-1 *2 $1 n $1 1 $10 last-entry *2 $3 2-1 *2 $1 n $1 2
         XINFO GROUPS s => *2 *12 $4 name $1 g $9 consumers :2 $7 pending :1 $17 last-delivered-id $3 1-1 $12 entries-read :1 $3 lag :1 *12 $4 name $1 h $9 consumers :0 $7 pending :0 $17 last-delivered-id $3 2-1 $12 entries-read $-1 $3 lag :0
         XINFO CONSUMERS s h => *0
         XINFO CONSUMERS s nope => -NOGROUP No such consumer group 'nope' for key name 's'
         XINFO STREAM s FULL FOO => -ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.
         XINFO STREAM s FULL COUNT => -ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.
         XINFO STREAM s FULL COUNT x => -ERR value is not an integer or out of range
         XINFO STREAM s FOO => -ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.
         XINFO STREAM s FULL COUNT 1 1 => -ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.
         SET str x => +OK
         XINFO STREAM str => -WRONGTYPE Operation against a key holding the wrong kind of value
         XINFO GROUPS str => -WRONGTYPE Operation against a key holding the wrong kind of value
         XINFO CONSUMERS str g => -WRONGTYPE Operation against a key holding the wrong kind of value"#,
    );
}

/// What a client got since it was asked last, as [`Console::ask`] shows it.
fn got(console: &mut Console, client: &str) -> String {
    String::from_utf8_lossy(&console.raw(client)).trim_end().replace("\r\n", " ")
}

#[test]
fn dollar_is_what_was_last_when_the_wait_began() {
    let mut console = Console::default();
    console.check("XADD s 1-1 n 1 => $3 1-1");
    for client in ["first", "second"] {
        assert_eq!(console.ask(client, "XREAD BLOCK 1000 STREAMS none s $ $"), "");
    }
    // An entry that is trimmed at once is none, but moves the last id.
    console.check(
        "XADD s MAXLEN 0 2-1 n 2 => $3 2-1
         MULTI => +OK
         XADD s 3-1 n 3 => +QUEUED
         XADD s 4-1 n 4 => +QUEUED
         EXEC => *2 $3 3-1 $3 4-1",
    );
    for client in ["first", "second"] {
        assert_eq!(got(&mut console, client), "*1 *2 $1 s *2 *2 $3 3-1 *2 $1 n $1 3 *2 $3 4-1 *2 $1 n $1 4");
    }
    // A plus waits for the next entry where there is none.
    console.check("XTRIM s MAXLEN 0 => :2");
    assert_eq!(console.ask("first", "XREAD BLOCK 0 STREAMS s +"), "");
    console.check("XADD s 5-1 n 5 => $3 5-1");
    assert_eq!(got(&mut console, "first"), "*1 *2 $1 s *1 *2 $3 5-1 *2 $1 n $1 5");
}

#[test]
fn members_of_a_group_are_served_in_turn() {
    let mut console = Console::default();
    console.check("XGROUP CREATE s g $ MKSTREAM => +OK");
    console.check("XGROUP CREATE t g $ MKSTREAM => +OK");
    for client in ["first", "second", "third"] {
        assert_eq!(console.ask(client, &format!("XREADGROUP GROUP g {client} COUNT 1 BLOCK 0 STREAMS s t > >")), "");
    }
    console.check(
        "XADD t 1-1 n 1 => $3 1-1
         MULTI => +OK
         XADD s 1-1 n 2 => +QUEUED
         XADD s 2-1 n 3 => +QUEUED
         XADD s 3-1 n 4 => +QUEUED
         EXEC => *3 $3 1-1 $3 2-1 $3 3-1",
    );
    assert_eq!(got(&mut console, "first"), "*1 *2 $1 t *1 *2 $3 1-1 *2 $1 n $1 1");
    assert_eq!(got(&mut console, "second"), "*1 *2 $1 s *1 *2 $3 1-1 *2 $1 n $1 2");
    assert_eq!(got(&mut console, "third"), "*1 *2 $1 s *1 *2 $3 2-1 *2 $1 n $1 3");
    console.check(
        "XPENDING s g => *4 :2 $3 1-1 $3 2-1 *2 *2 $6 second $1 1 *2 $5 third $1 1
         XREADGROUP GROUP g fourth BLOCK 0 STREAMS s > => *1 *2 $1 s *1 *2 $3 3-1 *2 $1 n $1 4",
    );
}

#[test]
fn a_wait_for_a_group_ends_with_it() {
    let mut console = Console::default();
    let wait = "XREADGROUP GROUP g c BLOCK 100 STREAMS s >";
    console.check("XGROUP CREATE s g $ MKSTREAM => +OK");
    assert_eq!(console.ask("member", wait), "");
    assert_eq!(console.ask("reader", "XREAD BLOCK 100 STREAMS s 0"), "");
    console.check("XGROUP DESTROY s g => :1");
    let gone = "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option";
    assert_eq!(got(&mut console, "member"), gone);
    console.check("XGROUP CREATE s g $ => +OK");
    assert_eq!(console.ask("member", wait), "");
    console.check("SET s text => +OK");
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(got(&mut console, "member"), wrong);
    // Others wait on: the key may become a stream again.
    assert_eq!(got(&mut console, "reader"), "");
    console.advance_ms(100);
    assert_eq!(got(&mut console, "reader"), "*-1");
}

#[test]
fn nothing_blocks_in_transactions_and_scripts() {
    Console::default().check(
        r#"XGROUP CREATE s g $ MKSTREAM => +OK
         MULTI => +OK
         XREAD BLOCK 0 STREAMS s $ => +QUEUED
         XREADGROUP GROUP g c BLOCK 0 STREAMS s > => +QUEUED
         EXEC => *2 *-1 *-1
         EVAL 'return redis.call("XREAD", "BLOCK", 0, "STREAMS", KEYS[1], "$") or 1' 1 s => :1
         EVAL 'redis.call("XADD", KEYS[1], "1-1", "a", "b") return redis.call("XREADGROUP", "GROUP", "g", "c", "STREAMS", KEYS[1], ">")' 1 s => *1 *2 $1 s *1 *2 $3 1-1 *2 $1 a $1 b
         EVAL 'redis.call("XADD", KEYS[1], "2-1", "a", "b") redis.call("XACK", KEYS[1], "g", "1-1") redis.call("SET", "other", 1) return redis.call("XADD", KEYS[1], "*", "a", "b")' 1 s => $15 1767225600000-0
         XLEN s => :3
         XPENDING s g => *4 :0 $-1 $-1 *-1"#,
    );
}

#[test]
fn changes_are_absolute() {
    let kept = Arc::new(Kept::default());
    let mut console = Console::with_sink(&[], Some(kept.clone()));
    let mut stands_for = |command: &str| {
        console.ask("a", command);
        let changes = std::mem::take(&mut *kept.0.lock().unwrap());
        let texts: Vec<Vec<String>> = changes
            .into_iter()
            .map(|argv| argv.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect())
            .collect();
        texts.iter().map(|words| words.join(" ")).collect::<Vec<_>>().join(" / ")
    };
    for (command, want) in [
        ("XGROUP CREATE s g $ MKSTREAM", "XGROUP CREATE s g 0-0 MKSTREAM ENTRIESREAD -1"),
        ("XADD s * n 1", "XADD s 1767225600000-0 n 1"),
        ("XADD s MAXLEN ~ 5 * n 2", "XADD s 1767225600000-1 n 2"),
        (
            "XREADGROUP GROUP g c STREAMS s >",
            "XGROUP CREATECONSUMER s g c / \
             XCLAIM s g c 0 1767225600000-0 1767225600000-1 TIME 1767225600000 RETRYCOUNT 1 FORCE JUSTID / \
             XGROUP SETID s g 1767225600000-1 ENTRIESREAD 2",
        ),
        (
            "XREADGROUP GROUP g c COUNT 1 STREAMS s 0",
            "XCLAIM s g c 0 1767225600000-0 TIME 1767225600000 RETRYCOUNT 2 FORCE JUSTID",
        ),
        ("XREADGROUP GROUP g c STREAMS s >", ""),
        (
            "XCLAIM s g d 0 1767225600000-1 IDLE 50",
            "XGROUP CREATECONSUMER s g d / \
             XCLAIM s g d 0 1767225600000-1 TIME 1767225599950 RETRYCOUNT 2 FORCE JUSTID",
        ),
        ("XADD s MAXLEN 2 * n 3", "XADD s MINID = 1767225600000-1 1767225600000-2 n 3"),
        ("XACK s g 1-1", ""),
        ("XDEL s 1-1 1767225600000-1", "XDEL s 1767225600000-1"),
        ("XAUTOCLAIM s g d 0 0", "XACK s g 1767225600000-0 1767225600000-1"),
        ("XREADGROUP GROUP g d NOACK STREAMS s >", "XGROUP SETID s g 1767225600000-2 ENTRIESREAD 3"),
        ("XTRIM s MINID 1767225600001", "XTRIM s MAXLEN = 0"),
        ("XTRIM s MAXLEN 0", ""),
        ("XSETID s 1767225600009-0", "XSETID s 1767225600009-0 ENTRIESADDED 3 MAXDELETEDID 1767225600000-1"),
        ("XGROUP SETID s g $", "XGROUP SETID s g 1767225600009-0 ENTRIESREAD -1"),
        ("XGROUP DELCONSUMER s g e", ""),
        ("XGROUP DELCONSUMER s g d", "XGROUP DELCONSUMER s g d"),
        ("XGROUP DESTROY s g", "XGROUP DESTROY s g"),
    ] {
        assert_eq!(stands_for(command), want, "{command}");
    }
}

#[test]
fn events_name_what_happened() {
    let mut console = Console::new(&[("notify-keyspace-events", "Kt")]);
    console.ask("events", "PSUBSCRIBE *");
    let mut after = |command: &str| {
        console.ask("a", command);
        let messages = got(&mut console, "events");
        let names: Vec<&str> =
            messages.split("__keyspace@0__:s ").skip(1).filter_map(|rest| rest.split(' ').nth(1)).collect();
        names.join(" ")
    };
    for (command, want) in [
        ("XGROUP CREATE s g 0 MKSTREAM", "xgroup-create"),
        ("XADD s 1-1 n 1", "xadd"),
        ("XADD s MAXLEN 1 2-1 n 2", "xadd xtrim"),
        ("XADD s MAXLEN 5 3-1 n 3", "xadd"),
        ("XREADGROUP GROUP g c COUNT 1 STREAMS s >", "xgroup-createconsumer"),
        ("XREADGROUP GROUP g c COUNT 1 STREAMS s >", ""),
        ("XCLAIM s g d 0 2-1", "xgroup-createconsumer"),
        ("XAUTOCLAIM s g e 0 0", "xgroup-createconsumer"),
        ("XGROUP CREATECONSUMER s g f", "xgroup-createconsumer"),
        ("XGROUP CREATECONSUMER s g f", ""),
        ("XACK s g 2-1", ""),
        ("XDEL s 2-1 9-9", "xdel"),
        ("XDEL s 2-1", ""),
        ("XTRIM s MAXLEN 0", "xtrim"),
        ("XTRIM s MAXLEN 0", ""),
        ("XSETID s 9-1", "xsetid"),
        ("XGROUP SETID s g 0", "xgroup-setid"),
        ("XGROUP DELCONSUMER s g c", "xgroup-delconsumer"),
        ("XGROUP DELCONSUMER s g c", ""),
        ("XGROUP DESTROY s g", "xgroup-destroy"),
        ("XGROUP DESTROY s g", ""),
    ] {
        assert_eq!(after(command), want, "{command}");
    }
}

#[test]
fn resp3_has_maps_and_nulls() {
    let mut console = Console::default();
    console.ask("a", "HELLO 3");
    console.check(
        r#"XREAD STREAMS s 0 => _
         XGROUP CREATE s g 0 MKSTREAM => +OK
         XREADGROUP GROUP g c STREAMS s > => _
         XPENDING s g => *4 :0 _ _ _
         XADD s 1-1 n 1 => $3 1-1
         XADD t 1-1 n 2 => $3 1-1
         XADD none NOMKSTREAM 1-1 n 2 => _
         XREAD STREAMS s t 0 0 => %2 $1 s *1 *2 $3 1-1 *2 $1 n $1 1 $1 t *1 *2 $3 1-1 *2 $1 n $1 2
         XREADGROUP GROUP g c STREAMS s > => %1 $1 s *1 *2 $3 1-1 *2 $1 n $1 1
         XDEL s 1-1 => :1
         XREADGROUP GROUP g c STREAMS s 0 => %1 $1 s *1 *2 $3 1-1 _
         XRANGE s - + COUNT 0 => _
         XINFO STREAM s => %16 $6 length :0 $15 radix-tree-keys :0 $16 radix-tree-nodes :1 $17 last-generated-id $3 1-1 $20 max-deleted-entry-id $3 1-1 $13 entries-added :1 $23 recorded-first-entry-id $3 0-0 $13 idmp-duration :100 $12 idmp-maxsize :100 $12 pids-tracked :0 $12 iids-tracked :0 $10 iids-added :0 $15 iids-duplicates :0 $6 groups :1 $11 first-entry _ $10 last-entry _
         XGROUP SETID s g 0 => +OK
         XINFO GROUPS s => *1 %6 $4 name $1 g $9 consumers :1 $7 pending :1 $17 last-delivered-id $3 0-0 $12 entries-read _ $3 lag :0
         XINFO CONSUMERS s g => *1 %4 $4 name $1 c $7 pending :1 $4 idle :0 $8 inactive :0"#,
    );
}

#[test]
fn a_wait_ends_when_the_key_goes() {
    let mut console = Console::default();
    console.check("XGROUP CREATE s g $ MKSTREAM => +OK");
    assert_eq!(console.ask("member", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >"), "");
    assert_eq!(console.ask("reader", "XREAD BLOCK 0 STREAMS s $"), "");
    console.check("DEL s => :1");
    let gone = "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option";
    assert_eq!(got(&mut console, "member"), gone);
    assert_eq!(got(&mut console, "reader"), "");
    console.check("XADD s 1-1 n 1 => $3 1-1");
    assert_eq!(got(&mut console, "reader"), "*1 *2 $1 s *1 *2 $3 1-1 *2 $1 n $1 1");
}

#[test]
fn keys_are_found_as_the_command_finds_them() {
    Console::default().check(
        "COMMAND GETKEYS XREAD COUNT 1 BLOCK 5 STREAMS a b 0 0 => *2 $1 a $1 b
         COMMAND GETKEYS XREADGROUP NOACK GROUP STREAMS STREAMS STREAMS a > => *1 $1 a
         COMMAND GETKEYS XGROUP CREATE a g 0 => *1 $1 a",
    );
}
