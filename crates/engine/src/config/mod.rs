//! The configuration: every directive, its type, default and text form.
//!
//! `table.rs` has one row for each directive; a `Config` holds one value for each row and nothing else of substance:
//! the typed `Settings` are derived from those values, and the text of CONFIG GET and CONFIG REWRITE is printed from them.
//! Nothing here touches a file: included files come through a callback, and what a change means for sockets or
//! directories is up to the `Effects` that the server gives.

mod handle;
pub mod lines;
mod rewrite;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub use handle::{ConfigHandle, ConfigReader, Effects, NoEffects};
pub use settings::{
    Access, AppendFsync, BusyReplyScope, KeyspaceEvents, LogLevel, MaxmemoryPolicy, MemoryLimit, OomScore, OutputLimit,
    OutputLimits, SavePoint, Settings,
};
pub use value::{Reason, memory};

use crate::acl::file::check_config_line;
use crate::registry::Names;
use kelda_resp::glob_match;
use std::collections::HashMap;
use std::sync::LazyLock;
use table::{Change, IGNORED, Row, TABLE};
use value::{Kind, Value};

/// Include files within include files, at most: what stops a file that includes itself.
const INCLUDE_DEPTH_MAX: usize = 16;

/// Where each name and alias stands in the table.
static BY_NAME: LazyLock<HashMap<&'static str, usize>> = LazyLock::new(|| {
    let names = TABLE.iter().enumerate().flat_map(|(at, row)| [Some((row.name, at)), row.alias.map(|a| (a, at))]);
    names.flatten().collect()
});

fn find(name: &str) -> Option<usize> {
    BY_NAME.get(name.to_ascii_lowercase().as_str()).copied()
}

/// A line of a configuration file that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file's name, as it was given.
    pub file: String,
    /// Counted from one.
    pub line: usize,
    /// The line itself.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl std::fmt::Display for ConfigError {
    /// Redis's words, with the file's name.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "\n*** FATAL CONFIG FILE ERROR (Kelda {}) ***\nReading the configuration file, at line {} of {}\n>>> '{}'\n{}\n",
            env!("CARGO_PKG_VERSION"),
            self.line,
            self.file,
            self.text,
            self.reason
        )
    }
}

/// A line of a file that is kept for others to act upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptLine {
    /// `user name rules…`.
    User(Vec<String>),
    /// `loadmodule path arguments…`.
    LoadModule(Vec<String>),
}

/// Finds the files that an `include` names (a path, or a glob pattern) and returns their names and texts.
pub type Include<'a> = dyn Fn(&str) -> Result<Vec<(String, String)>, String> + 'a;

/// The values of all directives.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// One for each row of the table, in its order.
    values: Vec<Value>,
    /// Whether a file has set the row: the first `save` line replaces the default, the others add to it.
    given: Vec<bool>,
    kept: Vec<KeptLine>,
    names: Names,
}

impl Default for Config {
    fn default() -> Config {
        Config { values: DEFAULTS.clone(), given: vec![false; TABLE.len()], kept: Vec::new(), names: Names::default() }
    }
}

static DEFAULTS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let read = |row: &Row| {
        let split: Vec<&str> = if row.kind.takes_many() { row.default.split(' ').collect() } else { vec![row.default] };
        // A test reads every default; a row added wrongly fails there.
        row.kind.parse(&split, &Value::Text(String::new())).unwrap_or(Value::Text(row.default.into()))
    };
    TABLE.iter().map(read).collect()
});

impl Default for Settings {
    fn default() -> Settings {
        Config::default().settings()
    }
}

impl Config {
    /// The values in typed form.
    pub fn settings(&self) -> Settings {
        let mut settings = Settings::blank();
        for (row, value) in TABLE.iter().zip(&self.values) {
            if let Some(store) = row.store {
                store(&mut settings, value);
            }
        }
        settings
    }

    /// By which names commands are called: what the `rename-command` lines say.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The `user` and `loadmodule` lines, in order.
    pub fn kept_lines(&self) -> &[KeptLine] {
        &self.kept
    }

    /// Reads a configuration file's text; later lines win over earlier ones and over what was there.
    ///
    /// # Errors
    /// The first line that is refused. Lines before it have taken effect.
    pub fn parse_file_text(&mut self, text: &str, file: &str, include: &Include) -> Result<(), ConfigError> {
        self.parse_nested(text, file, include, 0)
    }

    fn parse_nested(&mut self, text: &str, file: &str, include: &Include, depth: usize) -> Result<(), ConfigError> {
        for (at, line) in text.split('\n').enumerate() {
            let line = line.trim_matches([' ', '\t', '\r', '\n']);
            let error = |reason: Reason| ConfigError {
                file: file.into(),
                line: at + 1,
                text: line.into(),
                reason: reason.into_owned(),
            };
            let Some((name, words)) = directive(line).map_err(error)? else {
                continue;
            };
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match (name.as_str(), words.as_slice()) {
                ("include", [pattern]) => {
                    if depth == INCLUDE_DEPTH_MAX {
                        return Err(error("Too many levels of include".into()));
                    }
                    for (file, text) in include(pattern).map_err(|reason| error(reason.into()))? {
                        self.parse_nested(&text, &file, include, depth + 1)?;
                    }
                }
                _ => self.apply_line(&name, &words).map_err(error)?,
            }
        }
        Ok(())
    }

    /// One directive of a file.
    fn apply_line(&mut self, name: &str, words: &[&str]) -> Result<(), Reason> {
        let owned = || words.iter().map(|w| w.to_string()).collect();
        match (name, words) {
            ("user", [_, ..]) => {
                let before = self.kept.iter().filter_map(|line| match line {
                    KeptLine::User(words) => words.first().map(String::as_str),
                    KeptLine::LoadModule(_) => None,
                });
                check_config_line(words, &before.collect::<Vec<_>>())?;
                self.kept.push(KeptLine::User(owned()));
            }
            ("rename-command", [old, new]) => self.names.rename(old, new)?,
            ("loadmodule", [_, ..]) => self.kept.push(KeptLine::LoadModule(owned())),
            (_, [_]) if IGNORED.contains(&name) => {}
            _ => {
                let at = find(name).ok_or("Bad directive or wrong number of arguments")?;
                let value = read_line(at, words, &self.values[at], self.given[at])?;
                self.values[at] = value; // `find` gives positions in the table, which is as long as `values`
                self.given[at] = true;
            }
        }
        Ok(())
    }

    /// Sets directives as CONFIG SET does: all of them or none.
    ///
    /// `local` says whether the client is on this machine, which decides about protected directives.
    ///
    /// # Errors
    /// The text of the error reply.
    pub fn set(&mut self, pairs: &[(&str, &str)], local: bool) -> Result<(), String> {
        let may_protected = self.settings().enable_protected_configs.allows(local);
        let mut chosen: Vec<usize> = Vec::with_capacity(pairs.len());
        for (name, _) in pairs {
            let at = find(name)
                .ok_or_else(|| format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"))?;
            match TABLE[at].change {
                Change::Immutable => return Err(set_failed(name, "can't set immutable config")),
                Change::Protected if !may_protected => {
                    return Err(set_failed(name, "can't set protected config"));
                }
                _ if chosen.contains(&at) => return Err(set_failed(name, "duplicate parameter")),
                _ => chosen.push(at),
            }
        }
        let mut values = self.values.clone();
        for ((name, text), at) in pairs.iter().zip(chosen) {
            let kind = TABLE[at].kind;
            let words: Vec<&str> = if kind.takes_many() { text.split(' ').collect() } else { vec![text] };
            values[at] = kind.parse(&words, &values[at]).map_err(|reason| set_failed(name, &reason))?;
        }
        self.values = values;
        Ok(())
    }

    /// Puts a value in place without asking whether the directive may change; for what the server finds out at start
    /// (the real directory, the number of clients that the system allows).
    ///
    /// # Errors
    /// As `set`.
    pub fn force(&mut self, name: &str, text: &str) -> Result<(), String> {
        let at = find(name).ok_or_else(|| format!("unknown directive '{name}'"))?;
        self.values[at] =
            TABLE[at].kind.parse(&[text], &self.values[at]).map_err(|reason| set_failed(name, &reason))?;
        Ok(())
    }

    /// Says which server this one follows, if any: REPLICAOF was called.
    pub fn set_master(&mut self, master: Option<(&str, u16)>) {
        if let Some(at) = find("replicaof") {
            self.values[at] = Value::Text(master.map_or(String::new(), |(host, port)| format!("{host} {port}")));
        }
    }

    /// The directives whose names match, with their values: what CONFIG GET answers. A name without wildcards also
    /// finds a hidden directive, and is returned as it was written.
    pub fn get(&self, patterns: &[&str]) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        let mut add = |name: &str, at: usize| {
            if !found.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
                found.push((name.to_string(), self.values[at].text()));
            }
        };
        for pattern in patterns {
            if !pattern.contains(['*', '?', '[']) {
                if let Some(at) = find(pattern) {
                    add(pattern, at);
                }
                continue;
            }
            for (at, row) in TABLE.iter().enumerate().filter(|(_, row)| !row.hidden) {
                for name in [Some(row.name), row.alias].into_iter().flatten() {
                    if glob_match(pattern.as_bytes(), name.as_bytes(), true) {
                        add(name, at);
                    }
                }
            }
        }
        found
    }

    /// Whether the directive's value is a secret that must not reach a log.
    pub fn is_sensitive(name: &str) -> bool {
        find(name).is_some_and(|at| TABLE[at].sensitive)
    }
}

/// The error reply of CONFIG SET about one directive.
fn set_failed(name: &str, reason: &str) -> String {
    format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
}

/// A line's directive, in lower case, and its words; `None` for an empty line or a comment.
fn directive(line: &str) -> Result<Option<(String, Vec<String>)>, Reason> {
    if line.starts_with('#') {
        return Ok(None);
    }
    let mut words = lines::split(line).ok_or("Unbalanced quotes in configuration line")?;
    if words.is_empty() {
        return Ok(None);
    }
    let name = words.remove(0).to_ascii_lowercase();
    Ok(Some((name, words)))
}

/// The value of the row `at` after a line of a file with these words.
fn read_line(at: usize, words: &[&str], old: &Value, given: bool) -> Result<Value, Reason> {
    let kind = TABLE[at].kind;
    // A directive that takes many words may have them in one, in quotes.
    let split: Vec<&str> = match words {
        [one] if kind.takes_many() && !one.is_empty() => one.split(' ').filter(|w| !w.is_empty()).collect(),
        _ => words.to_vec(),
    };
    let new = kind.parse(&split, old)?;
    match (kind, old, new) {
        (Kind::SavePoints, Value::SavePoints(old), Value::SavePoints(new)) if given && !new.is_empty() => {
            Ok(Value::SavePoints(old.iter().chain(&new).copied().collect()))
        }
        (_, _, new) => Ok(new),
    }
}

/// Whether a file's or directive's name matches a pattern with `*`, `?` and `[…]`, letters of either case being equal.
pub fn name_matches(pattern: &str, name: &str) -> bool {
    glob_match(pattern.as_bytes(), name.as_bytes(), true)
}
