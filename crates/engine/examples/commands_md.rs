//! Writes `docs/commands.md` and README's table of command groups from the one table of commands: `cargo xtask docs`.
//!
//! The test below fails when they are stale.

use kelda_engine::command::Group;
use kelda_engine::registry::{self, Registered};
use kelda_engine::syntax;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Every group with its heading, in the order of the page.
const GROUPS: &[(Group, &str)] = &[
    (Group::String, "Strings"),
    (Group::Bitmap, "Bitmaps"),
    (Group::HyperLogLog, "HyperLogLog"),
    (Group::Hash, "Hashes"),
    (Group::List, "Lists"),
    (Group::Set, "Sets"),
    (Group::SortedSet, "Sorted sets"),
    (Group::Geo, "Geo positions"),
    (Group::Stream, "Streams"),
    (Group::Generic, "Keys of any type"),
    (Group::PubSub, "Publish/subscribe"),
    (Group::Transactions, "Transactions"),
    (Group::Scripting, "Scripts"),
    (Group::Connection, "Connection"),
    (Group::Server, "Server"),
    (Group::Cluster, "Cluster"),
];

/// Between these two lines of README stands the table.
const BEGIN: &str = "<!-- Written by `cargo xtask docs`. -->";
const END: &str = "<!-- End of what `cargo xtask docs` writes. -->";

/// The commands of a group, containers and subcommands in their place, by name.
fn of_group(group: Group) -> Vec<&'static Registered> {
    let belongs = |entry: &&Registered| entry.parent.unwrap_or(entry.command).group == group;
    let mut commands: Vec<_> = registry::all().iter().filter(belongs).collect();
    commands.sort_by(|a, b| a.name.cmp(&b.name));
    commands
}

fn is_container(entry: &Registered) -> bool {
    !entry.command.subcommands().is_empty()
}

/// `CONFIG GET parameter [parameter ...]`
fn usage(entry: &Registered) -> String {
    let arguments = syntax::without_marks(entry.command.syntax);
    format!("{} {arguments}", entry.name.to_uppercase().replace('|', " ")).trim_end().to_owned()
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn count(commands: &[&Registered]) -> usize {
    commands.iter().filter(|entry| !is_container(entry) || entry.command.bare.is_some()).count()
}

fn page() -> String {
    let mut page = String::from(
        "# Commands\n\nWritten by `cargo xtask docs` from the declarations in `crates/engine/src/commands`: change those, not \
         this page.\n*since* is the Redis version that introduced the command, or the subcommand.\n",
    );
    for (group, heading) in GROUPS {
        let commands = of_group(*group);
        if commands.is_empty() {
            continue;
        }
        // Writing to a `String` cannot fail.
        let _ = write!(page, "\n## {heading}\n\n| command | since | complexity | what it does |\n|---|---|---|---|\n");
        for entry in commands.iter().filter(|entry| !is_container(entry) || entry.command.bare.is_some()) {
            let command = entry.command;
            let (usage, complexity) = (cell(&usage(entry)), cell(command.complexity));
            let _ = writeln!(page, "| `{usage}` | {} | {complexity} | {} |", command.since, cell(command.summary));
        }
    }
    page
}

/// README's table: how many commands each group has. Subcommands count, their containers do not.
fn summary() -> String {
    let mut table = String::from("| group | commands |\n|---|--:|\n");
    let mut total = 0;
    for (group, heading) in GROUPS {
        let commands = count(&of_group(*group));
        total += commands;
        let anchor = heading.to_lowercase().replace(' ', "-").replace('/', "");
        if commands != 0 {
            let _ = writeln!(table, "| [{heading}](docs/commands.md#{anchor}) | {commands} |");
        }
    }
    let _ = writeln!(table, "| together | {total} |");
    table
}

/// README with the table of today.
fn readme(text: &str) -> Result<String, String> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or(format!("README.md lacks the lines\n{BEGIN}\n{END}"))?;
    Ok(format!("{before}{BEGIN}\n\n{}\n{END}{after}", summary()))
}

fn root() -> PathBuf {
    // crates/engine lies two directories below it.
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Both files: where they are, what they hold, and what they should hold.
fn files() -> Result<Vec<(PathBuf, String, String)>, String> {
    let read = |name: &str| -> Result<(PathBuf, String), String> {
        let path = root().join(name);
        let text = std::fs::read_to_string(&path).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(String::new()),
            _ => Err(format!("{}: {error}", path.display())),
        })?;
        Ok((path, text))
    };
    let (commands_path, commands) = read("docs/commands.md")?;
    let (readme_path, old_readme) = read("README.md")?;
    let new_readme = readme(&old_readme)?;
    Ok(vec![(commands_path, commands, page()), (readme_path, old_readme, new_readme)])
}

fn main() -> Result<(), String> {
    for (path, old, new) in files()? {
        if old != new {
            std::fs::write(&path, new).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

#[test]
fn the_written_pages_are_up_to_date() {
    for (path, old, new) in files().unwrap() {
        assert!(old == new, "{} is stale: run `cargo xtask docs`", path.display());
    }
}

#[test]
fn every_command_is_on_the_page() {
    let page = page();
    for entry in registry::all().iter().filter(|entry| !is_container(entry)) {
        let line = format!("\n| `{}` |", cell(&usage(entry)));
        assert!(page.contains(&line), "{}", entry.name);
        assert!(!entry.command.summary.is_empty(), "{} has no summary", entry.name);
    }
}
