//! Every command of the table is sent by the fuzzer, or it is said here why not.

use kelda_engine::registry::{self, Registered};
use kelda_sim::generate::{commands_of_templates, words_of_templates};
use std::collections::BTreeSet;

/// No oracle has them: `crates/engine/tests/laws.rs` compares them with commands that one has.
const OURS: &[&str] = &[
    "blmovem",
    "delex",
    "digest",
    "increx",
    "lmovem",
    "sdiffcard",
    "sexpire",
    "sexpireat",
    "sexpiretime",
    "spersist",
    "spexpire",
    "spexpireat",
    "spexpiretime",
    "spttl",
    "sttl",
    "sunioncard",
    "xackdel",
    "xdelex",
    "zexpire",
    "zexpireat",
    "zexpiretime",
    "zpersist",
    "zpexpire",
    "zpexpireat",
    "zpexpiretime",
    "zpttl",
    "zttl",
];

/// What is left out, and why.
const LEFT_OUT: &[(&str, &[&str])] = &[
    (
        "no oracle has them, and there is no other command to compare them with: tests of their own",
        &[
            "backup abort",
            "backup cleanup",
            "backup list",
            "backup seal",
            "backup start",
            "backup status",
            "client durability",
            "hotkeys get",
            "hotkeys reset",
            "hotkeys start",
            "hotkeys stop",
            "xcfgset",
            "xidmprecord",
            "xnack",
        ],
    ),
    (
        "their replies are pushes, or come later: not one reply for each command",
        &[
            "client reply",
            "monitor",
            "psubscribe",
            "punsubscribe",
            "ssubscribe",
            "subscribe",
            "sunsubscribe",
            "unsubscribe",
        ],
    ),
    ("they turn the connection into another one, or end it", &["psync", "quit", "replconf", "sync"]),
    ("they stop the server, or hold all clients up", &["client pause", "debug", "shutdown"]),
    ("they write files", &["bgrewriteaof", "bgsave", "save"]),
    ("it takes long, and answers OK", &["pfselftest"]),
    (
        "the oracle answers in its own way: COMPAT.md",
        &[
            "asking",
            "cluster keyslot",
            "lolwut",
            "memory malloc-stats",
            "module list",
            "readonly",
            "readwrite",
            "script debug",
        ],
    ),
    ("in the servers' own words", &["backup help", "hotkeys help"]),
];

fn each_command() -> impl Iterator<Item = &'static Registered> {
    let with_parts = |command: &'static Registered| {
        let parts = command.subcommands();
        if parts.is_empty() { std::slice::from_ref(command) } else { parts }
    };
    registry::all().iter().filter(|command| command.parent.is_none()).flat_map(with_parts)
}

#[test]
fn every_command_is_sent_or_it_is_said_why_not() {
    let sent = commands_of_templates();
    let left_out: BTreeSet<&str> = LEFT_OUT.iter().flat_map(|(_, names)| *names).chain(OURS).copied().collect();
    let mut commands = BTreeSet::new();
    for command in each_command() {
        let name = command.name.replace('|', " ");
        assert!(
            sent.contains(&name) != left_out.contains(name.as_str()),
            "{name}: a template in templates.rs or a reason here, and not both"
        );
        commands.insert(name);
    }
    let unknown: Vec<_> = left_out.iter().filter(|name| !commands.contains(**name)).collect();
    assert!(unknown.is_empty(), "no such commands: {unknown:?}");
}

#[test]
fn laws_name_what_no_oracle_has() {
    let laws = include_str!("../../engine/tests/laws.rs").to_ascii_lowercase();
    let missing: Vec<_> = OURS.iter().filter(|name| !laws.contains(**name)).collect();
    assert!(missing.is_empty(), "no law in laws.rs: {missing:?}");
}

/// Options of a command.
type Options = (&'static str, &'static [&'static str]);

/// Options that no template has, and why.
const OPTIONS_LEFT_OUT: &[(&str, &[Options])] = &[
    (
        "no oracle has them: crates/engine/tests and tests/conversations/newer.txt",
        &[
            ("bitop", &["ANDOR", "DIFF", "DIFF1", "ONE"]),
            ("set", &["IFDEQ", "IFDNE", "IFNE"]),
            ("xadd", &["ACKED", "DELREF", "IDMP", "IDMPAUTO", "KEEPREF"]),
            ("xtrim", &["ACKED", "DELREF", "KEEPREF"]),
            ("xread", &["MAXCOUNT", "MAXSIZE"]),
            ("xreadgroup", &["CLAIM", "MAXCOUNT", "MAXSIZE"]),
            ("zinter", &["COUNT"]),
            ("zinterstore", &["COUNT"]),
            ("zunion", &["COUNT"]),
            ("zunionstore", &["COUNT"]),
        ],
    ),
    ("oracles lengthen a string even if every operation fails, and tell nobody", &[("bitfield", &["FAIL"])]),
    (
        "which time is the later one depends on when each server got the commands: EXPIREAT, PEXPIREAT and HPEXPIREAT have them",
        &[("expire", &["GT", "LT"]), ("pexpire", &["GT", "LT"]), ("hpexpire", &["GT"])],
    ),
];

/// Words of a command's syntax that are sent as they are.
fn options(syntax: &str) -> BTreeSet<String> {
    let is_option = |word: &&str| {
        word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let words = syntax.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    words
        .filter(is_option)
        .filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(str::to_string)
        .collect()
}

#[test]
fn every_option_is_sent_or_it_is_said_why_not() {
    let sent = words_of_templates();
    let nobodys: BTreeSet<&str> = LEFT_OUT.iter().flat_map(|(_, names)| *names).chain(OURS).copied().collect();
    let mut missing = Vec::new();
    for command in each_command() {
        let name = command.name.replace('|', " ");
        if nobodys.contains(name.as_str()) {
            continue;
        }
        for option in options(command.command.syntax) {
            let left_out = OPTIONS_LEFT_OUT.iter().flat_map(|(_, of)| *of);
            let left_out = left_out.into_iter().any(|(of, options)| *of == name && options.contains(&&*option));
            let is_sent = sent.get(&name).is_some_and(|words| words.contains(&option));
            if is_sent == left_out {
                missing.push(format!("{name} {option}"));
            }
        }
    }
    assert!(missing.is_empty(), "a template in templates.rs or a reason here, and not both: {missing:#?}");
}
