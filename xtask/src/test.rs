//! `cargo xtask test`: everything that must pass, in stages, with a summary at the end.
//!
//! A failed stage does not stop the others. `cargo xtask test unit e2e` runs only these stages (and what they need).

use crate::{Outcome, conversations, root, tidy};
use kelda_sim::server::{Kind, Server};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Power cuts that the log is put through.
const POWER_CUTS: &str = "20000";
/// Commands of the differential fuzzer: on one thread with shared keys, and on several.
const FUZZ_ALONE: &str = "1500000";
const FUZZ_THREADS: &str = "600000";

type Stage = (&'static str, fn() -> Outcome);

/// In order: what is quick first, what needs the release build last.
const STAGES: &[Stage] = &[
    ("tidy", tidy::tidy),
    ("format", || cargo(&["fmt", "--all", "--check"])),
    ("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])),
    ("licences", licences),
    ("unit", unit),
    ("build", || cargo(&["build", "--release", "--quiet", "-p", "kelda-server", "-p", "kelda-sim"])),
    ("python", python),
    ("replay-valkey", || replay("valkey")),
    ("replay-redis", || replay("redis")),
    ("replay-kelda", || replay("kelda")),
    ("fuzz", || fuzz(&["--commands", FUZZ_ALONE, "--connections", "6"])),
    ("fuzz-threads", || fuzz(&["--commands", FUZZ_THREADS, "--threads", "4", "--connections", "3"])),
    ("crash", || run(seeded("kelda-crash").args(["--cuts", POWER_CUTS]))),
    ("e2e", end_to_end),
];

/// `cargo xtask test [STAGE…]`
pub fn test(wanted: &[String]) -> Outcome {
    let known: Vec<&str> = STAGES.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("no stage {unknown}; there are {}", known.join(" ")));
    }
    let mut summary = Vec::new();
    for (name, stage) in STAGES.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| w == name)) {
        println!("== {name}");
        let start = Instant::now();
        let outcome = stage();
        if let Err(message) = &outcome {
            println!("{message}");
        }
        summary.push((name, start.elapsed(), outcome));
    }
    println!("\nstage            time    outcome");
    for (name, time, outcome) in &summary {
        println!("{name:<14} {:>6.1} s   {}", time.as_secs_f64(), if outcome.is_ok() { "passed" } else { "FAILED" });
    }
    let failed = summary.iter().filter(|(_, _, outcome)| outcome.is_err()).count();
    if failed == 0 { Ok(()) } else { Err(format!("{failed} stages failed")) }
}

fn run(command: &mut Command) -> Outcome {
    let shown = format!("{command:?}");
    match command.current_dir(root()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown}: {status}")),
        Err(e) => Err(format!("{shown}: {e}")),
    }
}

pub fn cargo(args: &[&str]) -> Outcome {
    // Set by cargo for what it runs: the same toolchain again.
    run(Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).args(args))
}

/// Whether this machine has a program that cargo finds as a subcommand.
fn has(program: &str) -> bool {
    let asked = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// What our dependencies are and where they come from; their advisories need the network, and are not asked for.
fn licences() -> Outcome {
    if !has("cargo-deny") {
        println!("cargo-deny is not on this machine (cargo install cargo-deny): not checked");
        return Ok(());
    }
    cargo(&["deny", "check", "licenses", "bans", "sources"])
}

/// All Rust tests, the conversations in process among them.
fn unit() -> Outcome {
    match has("cargo-nextest") {
        true => cargo(&["nextest", "run", "--workspace", "--no-tests", "warn"]),
        false => cargo(&["test", "--workspace", "--quiet"]),
    }
}

fn venv() -> PathBuf {
    root().join("target/venv")
}

/// The Python environment of the end-to-end tests; it also brings Valkey.
fn python() -> Outcome {
    let requirements = root().join("tests/e2e/requirements.txt");
    let installed = venv().join("requirements.txt");
    let read = |path: &PathBuf| std::fs::read(path).ok();
    if read(&installed).is_some() && read(&installed) == read(&requirements) {
        return Ok(());
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(venv()))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    run(Command::new(venv().join("bin/python")).args(pip).arg(&requirements))?;
    std::fs::copy(&requirements, &installed).map(|_| ()).map_err(|e| e.to_string())
}

fn replay(server: &str) -> Outcome {
    if server == "redis" && Kind::Redis.program(&root()).is_none() {
        println!("redis-server is not on this machine (Debian: apt install redis-server): not compared with it");
        return Ok(());
    }
    conversations::replay(&[server.into()])
}

fn fuzz(args: &[&str]) -> Outcome {
    let start = |kind: Kind| {
        let program = kind.program(&root()).ok_or_else(|| format!("{} is not on this machine", kind.name()))?;
        // All threads, so that commands do meet.
        let extra: &[&str] = if kind == Kind::Kelda { &["--io-threads-always-active", "yes"] } else { &[] };
        Server::start(kind, &program, extra).map_err(|e| e.to_string())
    };
    let (server, oracle) = (start(Kind::Kelda)?, start(Kind::Valkey)?);
    run(seeded("kelda-fuzz").args(["--server", &server.address(), "--oracle", &oracle.address()]).args(args))
}

/// A program of ours that does something at random: from `KELDA_SEED` where that is set, else from the commit, so that every commit
/// tries something new and its tests can be run again.
fn seeded(program: &str) -> Command {
    let of_commit = || {
        let output = Command::new("git").args(["rev-parse", "--short=15", "HEAD"]).current_dir(root()).output().ok()?;
        let hash = String::from_utf8(output.stdout).ok()?;
        u64::from_str_radix(hash.trim(), 16).ok().map(|seed| seed.to_string())
    };
    let mut command = Command::new(root().join("target/release").join(program));
    if let Some(seed) = std::env::var("KELDA_SEED").ok().or_else(of_commit) {
        command.args(["--seed", &seed]);
    }
    command
}

fn end_to_end() -> Outcome {
    let mut command = Command::new(venv().join("bin/python"));
    run(command.args(["-m", "pytest", "-q", "tests/e2e"]).env("PYTHONDONTWRITEBYTECODE", "1"))
}
