//! Development tasks: `cargo xtask test|tidy|docs|bench|record|replay`.
//!
//! Each task is one module; none of them knows the others, except that `test` runs them as stages.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod bench;
mod conversations;
mod test;
mod tidy;

const USAGE: &str = "\
cargo xtask test [STAGE...]      everything that must pass, as CI runs it
cargo xtask tidy                 the rules of style that a machine can hold
cargo xtask docs                 docs/commands.md and README's table of groups, from the commands' declarations
cargo xtask bench [--quick] ...  Kelda, Valkey and Redis side by side; --help for its options
cargo xtask record FILE...       fill in the replies of conversation files from Valkey, and ask Redis too
cargo xtask replay SERVER [FILE...]  run conversations against kelda, valkey or redis";

/// What a task says when it fails.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = args.split_first().map_or(("", &[][..]), |(task, rest)| (task.as_str(), rest));
    let outcome = match task {
        "test" => test::test(rest),
        "tidy" => tidy::tidy(),
        "docs" => test::cargo(&["run", "--quiet", "-p", "kelda-engine", "--example", "commands_md"]),
        "bench" => bench::bench(rest),
        "record" => conversations::record(rest),
        "replay" => conversations::replay(rest),
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The checkout.
fn root() -> PathBuf {
    // xtask/ lies directly below it.
    Path::new(env!("CARGO_MANIFEST_DIR")).components().as_path().parent().map_or_else(PathBuf::new, Path::to_path_buf)
}
