//! Input that comes in pieces, and that is looked through before its turn: neither changes what is replied.

use kelda_engine::testing::Console;
use kelda_resp::encode_command;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What clients send: many short commands, some that change what the next ones may do, some that are none.
const LINES: &[&str] = &[
    "SET k1 v",
    "GET k1",
    "GET k2",
    "INCR n",
    "APPEND k2 abc",
    "MSET k1 a k2 b k3 c k4 d k5 e k6 f k7 g k8 h k9 i",
    "DEL k1 k2",
    "MULTI",
    "EXEC",
    "DISCARD",
    "SELECT 1",
    "SELECT 0",
    "AUTH visitor pass",
    "AUTH visitor wrong",
    "AUTH default secret",
    "RESET",
    "HELLO 3",
    "LPUSH queue job",
    "BLPOP queue 0",
    "PING",
    "GET",
    "NOSUCH command",
    "ACL SETUSER visitor -get",
    "ACL SETUSER visitor +get",
    "ACL DELUSER visitor",
    "ACL SETUSER visitor on >pass ~* +@all",
    "CLIENT KILL USER visitor",
];

/// What is no request, no whole one, or one that asks for nothing.
const RAW: &[&[u8]] = &[b"\r\n", b"*0\r\n", b"*2\r\n$3\r\nGET\r\n", b"*1\r\n$x\r\n", b"$2\r\nk1\r\n", b"GET k1\r\n"];

/// One thing that happens to one of two clients.
#[derive(Clone, Debug)]
enum Step {
    /// It sends a command, in full or as a line.
    Send(usize, bool, &'static str),
    /// It sends bytes that may be no request at all.
    Raw(usize, &'static [u8]),
    /// The engine gets so much of what it has sent, and looks through it.
    Bring(usize, Index),
    /// The engine runs what it has got.
    Run(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..2usize, prop::bool::weighted(0.9), select(LINES)).prop_map(|(who, full, line)| Step::Send(who, full, line)),
        1 => (0..2usize, select(RAW)).prop_map(|(who, bytes)| Step::Raw(who, bytes)),
        6 => (0..2usize, any::<Index>()).prop_map(|(who, part)| Step::Bring(who, part)),
        6 => (0..2usize).prop_map(Step::Run),
    ]
}

/// What both clients are told.
fn replies(steps: &[Step], look_ahead: bool) -> Vec<(Vec<u8>, bool)> {
    const NAMES: [&str; 2] = ["a", "b"];
    let mut console = Console::new(&[("requirepass", "secret")]);
    for line in ["AUTH default secret", "ACL SETUSER visitor on >pass ~* +@all"] {
        assert_eq!(console.ask("c", line), "+OK");
    }
    let mut sent = [Vec::new(), Vec::new()];
    for (who, name) in NAMES.iter().enumerate() {
        encode_command(&mut sent[who], &["AUTH", "default", "secret"]);
        console.bring(name, b"", look_ahead);
    }
    for step in steps {
        match step {
            Step::Send(who, true, line) => encode_command(&mut sent[*who], &line.split(' ').collect::<Vec<_>>()),
            Step::Send(who, false, line) => sent[*who].extend_from_slice(format!("{line}\r\n").as_bytes()),
            Step::Raw(who, bytes) => sent[*who].extend_from_slice(bytes),
            Step::Bring(who, part) => {
                let bytes: Vec<u8> = sent[*who].drain(..part.index(sent[*who].len() + 1)).collect();
                console.bring(NAMES[*who], &bytes, look_ahead);
            }
            Step::Run(who) => console.run(NAMES[*who]),
        }
    }
    for (who, name) in NAMES.iter().enumerate() {
        console.bring(name, &sent[who], look_ahead);
        console.run(name);
    }
    NAMES.map(|name| (console.raw(name), console.is_closed(name))).into()
}

proptest! {
    #[test]
    fn a_look_ahead_changes_no_reply(steps in prop::collection::vec(step(), 0..60)) {
        prop_assert_eq!(replies(&steps, true), replies(&steps, false));
    }
}

#[test]
fn what_comes_after_the_look_ahead_is_not_lost() {
    let mut console = Console::default();
    console.bring("a", b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n", true);
    console.bring("a", b"$1\r\nv\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", false);
    console.run("a");
    assert_eq!(console.raw("a"), b"$-1\r\n+OK\r\n$1\r\nv\r\n");
}
