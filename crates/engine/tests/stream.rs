//! Streams.

use kelda_engine::engine::ChangeSink;
use kelda_engine::testing::Console;
use kelda_engine::worker::Clock;
use kelda_resp::encode_command;
use kelda_store::shard::ShardSet;
use kelda_store::txn::{Change, Context, Env, Key, Txn};
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

/// What a stream holds, but for the times at which consumers were seen, and the shape of its nodes.
fn contents(console: &mut Console, key: &str) -> String {
    let full = console.ask("contents", &format!("XINFO STREAM {key} FULL COUNT 0"));
    let mut words: Vec<&str> = full.split(' ').collect();
    for at in 1..words.len() {
        if matches!(words[at - 1], "seen-time" | "active-time" | "radix-tree-keys" | "radix-tree-nodes") {
            words[at] = "?";
        }
    }
    words.join(" ")
}

/// Keeps all changes.
#[derive(Default)]
struct Kept(Mutex<Vec<Change>>);

impl ChangeSink for Kept {
    fn commit(&self, changes: &[Change]) {
        self.0.lock().unwrap().extend_from_slice(changes);
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
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn changes_rebuild_the_stream(commands in prop::collection::vec((a_command(), 0..20u64), 1..60)) {
        let settings = [("stream-node-max-entries", "3")];
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
            let answer = run(&mut replayed, &change.argv);
            prop_assert!(!answer.starts_with('-'), "{:?}: {}", change, answer);
        }
        prop_assert_eq!(&contents(&mut replayed, "s"), &want);

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
        prop_assert_eq!(&contents(&mut rebuilt, "s"), &want);
    }
}
