//! `cargo xtask tidy`: the rules of style that a machine can hold.
//!
//! It reads lines, not syntax: it is fast, and where it is mistaken a comment or a better name settles it. Test code is
//! what follows a `#[cfg(test)]` at the start of a line, and files below a `tests` directory or named as [`TEST_FILES`].

use crate::{Outcome, root};
use std::path::{Path, PathBuf};

/// Lines that a file may have.
const LINES_MAX: usize = 1000;

/// Where `unsafe` may stand, as files or directories; each block says why it is sound.
const UNSAFE_ALLOWED: &[&str] = &[
    // The hash table, its entries, and packed collections and their members: one allocation each, everything inline.
    "crates/store/src/table.rs",
    "crates/store/src/table/",
    "crates/store/src/entry.rs",
    "crates/store/src/packed/block.rs",
    "crates/store/src/member.rs",
    // The sorted set's counted B+tree.
    "crates/store/src/zset/tree.rs",
    // An instruction that not every processor has.
    "crates/log/src/crc32c.rs",
    "crates/engine/src/commands/bitmap/ones.rs",
    // Locked shards, and values borrowed from them for as long as a transaction holds the lock.
    "crates/store/src/shard.rs",
    "crates/store/src/txn/edit.rs",
    // The engine that a running script calls back into.
    "crates/engine/src/scripting/current_host.rs",
    // The allocator that counts.
    "crates/server/src/memory.rs",
    // Sessions that threads hand to each other as a whole.
    "crates/server/src/seat.rs",
    // What a signal's handler does.
    "crates/server/src/crash.rs",
];

/// Crates whose code must not panic on input.
const NO_PANIC: &[&str] = &["crates/resp/", "crates/store/", "crates/engine/", "crates/log/", "crates/server/"];
/// `.expect("why")` and `unreachable!("why")` carry the proof in their text; these need one in a comment.
const PANICS: &[&str] = &[".unwrap()", "panic!(", "unreachable!()", "todo!(", "unimplemented!("];

/// Files that hold nothing but tests and what only tests use.
const TEST_FILES: &[&str] = &["/tests.rs", "/testing.rs", "/src/echo.rs"];

/// Crates that are state machines: time, threads and randomness come from outside.
const DETERMINISTIC: &[&str] = &["crates/store/src/", "crates/engine/src/", "crates/log/src/"];
const OUTSIDE: &[&str] = &[
    "SystemTime::now",
    "Instant::now",
    "thread::spawn",
    "thread_rng",
    "rand::rng()",
    "from_os_rng",
    "OsRng",
    "getrandom",
];

/// Which of our crates a crate may use (DESIGN: dependencies point one way).
const DEPENDENCIES: &[(&str, &[&str])] = &[
    ("kelda-resp", &[]),
    ("kelda-store", &[]),
    ("kelda-log", &["kelda-store", "kelda-resp"]),
    ("kelda-engine", &["kelda-resp", "kelda-store", "kelda-log"]),
    ("kelda-server", &["kelda-engine", "kelda-log", "kelda-resp", "kelda-store"]),
    ("kelda-store-model", &["kelda-store"]),
    ("kelda-log-model", &["kelda-resp", "kelda-store"]),
    ("kelda-engine-model", &["kelda-resp", "kelda-store", "kelda-log"]),
    ("kelda-sim", &["kelda-engine", "kelda-resp", "kelda-log"]),
    ("xtask", &["kelda-sim", "kelda-engine"]),
];

/// `cargo xtask tidy`
pub fn tidy() -> Outcome {
    let root = root();
    let mut problems = Vec::new();
    let mut files = Vec::new();
    for directory in ["crates", "xtask", "tests", "fuzz", ".config", ".ci"] {
        collect(&root.join(directory), &mut files);
    }
    files.sort();
    for path in &files {
        let name = path.strip_prefix(&root).unwrap_or(path).to_string_lossy().into_owned();
        let Ok(text) = std::fs::read_to_string(path) else {
            continue;
        };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => check_rust(&name, &text, &mut problems),
            Some("toml") if name.ends_with("Cargo.toml") => check_manifest(&name, &text, &mut problems),
            Some("py" | "toml") => check_lines(&name, &text, &mut problems),
            _ => {}
        }
    }
    problems.iter().for_each(|problem| println!("{problem}"));
    match problems.len() {
        0 => Ok(()),
        n => Err(format!("{n} things to tidy")),
    }
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let generated = path.file_name().is_some_and(|name| name == "target" || name == "__pycache__");
        match path.is_dir() {
            true if !generated => collect(&path, files),
            true => {}
            false => files.push(path),
        }
    }
}

/// Rules for every text.
fn check_lines(name: &str, text: &str, problems: &mut Vec<String>) {
    if text.lines().count() > LINES_MAX {
        problems.push(format!("{name}: more than {LINES_MAX} lines"));
    }
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        if line.ends_with([' ', '\t']) {
            problems.push(format!("{name}:{number}: space at the end of the line"));
        }
        // Spelt in two parts, so that this line is not one of them.
        if [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")].iter().any(|mark| line.contains(mark)) {
            problems.push(format!("{name}:{number}: unfinished work belongs into an issue, not into a comment"));
        }
    }
}

fn check_rust(name: &str, text: &str, problems: &mut Vec<String>) {
    check_lines(name, text, problems);
    if !text.starts_with("//!") && !text.starts_with("#![") {
        problems.push(format!("{name}: the module does not say in `//!` what it is for"));
    }
    let is_test_file = name.contains("/tests/")
        || TEST_FILES.iter().any(|file| name.ends_with(file))
        || name.contains("/examples/")
        || name.starts_with("fuzz/");
    let lines: Vec<&str> = text.lines().collect();
    let code = lines.iter().position(|line| line.starts_with("#[cfg(test)]")).unwrap_or(lines.len());
    for (at, line) in lines.iter().enumerate() {
        let number = at + 1;
        let statement = without_comment(line);
        let previous = at.checked_sub(1).map_or("", |at| lines[at]);
        if has_unsafe(statement) && !is_test_file && !name.starts_with("xtask/src/tidy.rs") {
            if !UNSAFE_ALLOWED.iter().any(|allowed| name.starts_with(allowed)) {
                problems.push(format!("{name}:{number}: `unsafe` outside of the modules named in xtask/src/tidy.rs"));
            }
            let is_block = statement.contains("unsafe {") || statement.contains("unsafe impl");
            if is_block && !comment_block_above(&lines, at).any(|comment| comment.contains("SAFETY:")) {
                problems.push(format!("{name}:{number}: `unsafe` without a SAFETY comment"));
            }
        }
        if is_test_file || at >= code {
            continue;
        }
        let in_any = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        if in_any(NO_PANIC) && !is_doc(line) {
            let proved = line.contains("//") || previous.trim_start().starts_with("//");
            if let (Some(panic), false) = (PANICS.iter().find(|panic| statement.contains(**panic)), proved) {
                problems.push(format!("{name}:{number}: `{panic}` without a comment that proves it cannot happen"));
            }
        }
        if in_any(DETERMINISTIC)
            && let Some(outside) = OUTSIDE.iter().find(|outside| statement.contains(**outside))
        {
            problems.push(format!("{name}:{number}: `{outside}`: time, threads and randomness come from outside"));
        }
    }
}

/// The line up to its comment. (A `//` inside of a string ends it too early, which only makes us more lenient.)
fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

fn is_doc(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn has_unsafe(statement: &str) -> bool {
    ["unsafe {", "unsafe fn ", "unsafe impl ", "unsafe trait ", "unsafe extern "]
        .iter()
        .any(|form| statement.contains(form))
}

/// The comment lines directly above line `at`, and the comment on it; a statement's earlier lines may stand between.
fn comment_block_above<'a>(lines: &'a [&'a str], at: usize) -> impl Iterator<Item = &'a str> {
    let above = lines[..at].iter().rev().take(8).copied();
    above.chain([lines[at]])
}

fn check_manifest(name: &str, text: &str, problems: &mut Vec<String>) {
    let package = text.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).unwrap_or_default();
    if package.is_empty() {
        return;
    }
    let Some((_, allowed)) = DEPENDENCIES.iter().find(|(crate_name, _)| *crate_name == package) else {
        if !name.starts_with("fuzz/") {
            problems.push(format!("{name}: {package} is not in the table of dependencies in xtask/src/tidy.rs"));
        }
        return;
    };
    let mut section = "";
    for (number, line) in text.lines().enumerate() {
        if line.starts_with('[') {
            section = line;
        }
        let used = line.split([' ', '=', '.']).next().unwrap_or_default();
        let ours = used.starts_with("kelda-") && section == "[dependencies]";
        if ours && !allowed.contains(&used) {
            problems.push(format!("{name}:{}: {package} must not use {used}", number + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(name: &str, text: &str) -> usize {
        let mut problems = Vec::new();
        match name.ends_with("Cargo.toml") {
            true => check_manifest(name, text, &mut problems),
            false => check_rust(name, text, &mut problems),
        }
        problems.len()
    }

    #[test]
    fn each_rule_finds_what_it_is_for() {
        let file = "crates/store/src/x.rs";
        assert_eq!(problems(file, "//! Fine.\nfn f() {}\n"), 0);
        assert_eq!(problems(file, "fn f() {}\n"), 1, "no module comment");
        assert_eq!(problems(file, "//! x\n\nfn f() { a.unwrap(); }\n"), 1);
        assert_eq!(problems(file, "//! x\n// Never empty: checked above.\nlet x = a.unwrap();\n"), 0);
        assert_eq!(problems(file, "//! x\n#[cfg(test)]\nmod tests { fn f() { a.unwrap(); } }\n"), 0);
        assert_eq!(problems(file, "//! x\nlet t = Instant::now();\n"), 1);
        assert_eq!(problems("crates/server/src/x.rs", "//! x\nlet t = Instant::now();\n"), 0);
        assert_eq!(problems(file, "//! x\n// SAFETY: none needed\nunsafe { f() }\n"), 1, "not in the list");
        assert_eq!(problems("crates/store/src/table.rs", "//! x\nunsafe { f() }\n"), 1, "no reason");
        assert_eq!(problems("crates/store/src/table.rs", "//! x\n// SAFETY: f is\nunsafe { f() }\n"), 0);
        assert_eq!(problems(file, "//! x \n"), 1, "trailing space");
        assert_eq!(problems(file, &format!("//! x\n{}", "\n".repeat(LINES_MAX))), 1);
        assert_eq!(problems(file, concat!("//! x\n// TO", "DO later\n")), 1);
        let upward = "name = \"kelda-store\"\n[dependencies]\nkelda-engine = { workspace = true }\n";
        assert_eq!(problems("crates/store/Cargo.toml", upward), 1);
        assert_eq!(problems("crates/store/Cargo.toml", &upward.replace("[dep", "[dev-dep")), 0);
    }
}
