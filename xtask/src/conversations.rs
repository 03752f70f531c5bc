//! `record` and `replay`: conversation files against real servers.

use crate::{Outcome, root};
use kelda_sim::conversation::{Conversation, RealServer};
use kelda_sim::server::{Kind, Server};
use std::path::{Path, PathBuf};

/// All conversation files of the checkout, in order of name.
fn all_files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("tests/conversations"));
    let mut files: Vec<PathBuf> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files
}

fn read(path: &Path) -> Result<Conversation, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Conversation::parse(&text).map_err(|e| format!("{}: {e}", path.display()))
}

fn start(kind: Kind) -> Result<Server, String> {
    let program = kind.program(&root()).ok_or_else(|| format!("{} is not on this machine", kind.name()))?;
    Server::start(kind, &program, &[]).map_err(|e| format!("{}: {e}", program.display()))
}

/// `cargo xtask record FILE…`
pub fn record(args: &[String]) -> Outcome {
    let valkey = start(Kind::Valkey)?;
    for path in args.iter().map(Path::new) {
        let in_file = |e: std::io::Error| format!("{}: {e}", path.display());
        let mut conversation = read(path)?;
        let mut server = RealServer::connect(Kind::Valkey, &valkey.address()).map_err(in_file)?;
        let outcome = conversation.record(&mut server).map_err(in_file)?;
        std::fs::write(path, conversation.text()).map_err(in_file)?;
        println!("{}: {} replies recorded", path.display(), outcome.passed);
    }
    if Kind::Redis.program(&root()).is_none() {
        println!("{} is not on this machine: not compared", Kind::Redis.name());
        return Ok(());
    }
    let files: Vec<PathBuf> = args.iter().map(PathBuf::from).collect();
    play_files(Kind::Redis, &files, true)
}

/// `cargo xtask replay kelda|valkey|redis [FILE…]`
pub fn replay(args: &[String]) -> Outcome {
    let (server, files) = args.split_first().ok_or("which server? kelda, valkey or redis")?;
    let kinds = [Kind::Kelda, Kind::Valkey, Kind::Redis];
    let kind = kinds.into_iter().find(|kind| kind.name() == server).ok_or("kelda, valkey or redis")?;
    let files: Vec<PathBuf> = if files.is_empty() { all_files() } else { files.iter().map(PathBuf::from).collect() };
    play_files(kind, &files, false)
}

/// Runs `files` against a server of `kind`; with `fill_in`, its replies become the expectations where there are none.
fn play_files(kind: Kind, files: &[PathBuf], fill_in: bool) -> Outcome {
    let mut failed = 0;
    let process = start(kind)?;
    for path in files {
        let in_file = |e: std::io::Error| format!("{}: {e}", path.display());
        let mut server = RealServer::connect(kind, &process.address()).map_err(in_file)?;
        let mut conversation = read(path)?;
        let outcome = match fill_in {
            true => conversation.record_missing(&mut server).map_err(in_file)?,
            false => conversation.run(&mut server).map_err(in_file)?,
        };
        if fill_in {
            std::fs::write(path, conversation.text()).map_err(in_file)?;
        }
        for (line, failure) in &outcome.failures {
            println!("{}:{line}: {failure}", path.display());
        }
        let (passed, skipped) = (outcome.passed, outcome.skipped);
        println!(
            "{}: {}: {passed} as expected, {skipped} skipped, {} not",
            kind.name(),
            path.display(),
            outcome.failures.len()
        );
        failed += outcome.failures.len();
    }
    if failed > 0 { Err(format!("{failed} replies of {} differ", kind.name())) } else { Ok(()) }
}
