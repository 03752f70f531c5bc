//! Which commands a selector allows: a bit for each, and the rules that set them, as ACL GETUSER shows them.
//!
//! Invariant: replaying `rules` on an empty set gives the same bits, so that a saved user is the user.

use super::rules::RuleError;
use crate::command::{Flags, Run};
use crate::registry::{self, Registered};

/// The commands that are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRules {
    /// Whether nothing was taken away since `+@all`.
    all: bool,
    /// By `Registered::id`.
    bits: Vec<u64>,
    /// Commands allowed only with these first arguments (`+select|0`), by `Registered::id`.
    first_args: Vec<(usize, Box<[u8]>)>,
    /// What was said since `+@all` or `-@all`, which is the first, without what later rules made void.
    rules: Vec<String>,
}

impl CommandRules {
    /// No command.
    pub fn none() -> CommandRules {
        CommandRules {
            all: false,
            bits: vec![0; registry::all().len().div_ceil(64)],
            first_args: Vec::new(),
            rules: vec!["-@all".into()],
        }
    }

    /// `+@all` or `-@all`.
    pub fn set_all(&mut self, allow: bool) {
        self.all = allow;
        self.bits.fill(if allow { u64::MAX } else { 0 });
        self.first_args.clear();
        self.rules = vec![if allow { "+@all" } else { "-@all" }.into()];
    }

    /// Whether every command is allowed.
    pub fn is_all(&self) -> bool {
        self.all
    }

    /// Whether these words of a command may be run.
    pub fn allows(&self, command: &Registered, words: &[&[u8]]) -> bool {
        if self.all || command.flags.has(Flags::NO_AUTH) || self.bits[command.id / 64] >> (command.id % 64) & 1 != 0 {
            return true;
        }
        let Some(word) = words.get(1) else { return false };
        self.first_args.iter().any(|(id, first)| *id == command.id && first.eq_ignore_ascii_case(word))
    }

    /// The rules, as a user could be given them.
    pub fn text(&self) -> String {
        self.rules.join(" ")
    }

    /// Applies `+…` or `-…`: a category, a command, a subcommand, or (only to allow) a first argument.
    pub fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        let text = String::from_utf8_lossy(rule).to_ascii_lowercase();
        let (allow, name) = (text.starts_with('+'), &text[1..]);
        if let Some(category) = name.strip_prefix('@') {
            if category == "all" {
                self.set_all(allow);
                return Ok(());
            }
            if !registry::CATEGORIES.contains(&category) {
                return Err(RuleError::UnknownCommand);
            }
            for command in registry::all().iter().filter(|command| command.categories().contains(&category)) {
                self.set(command, allow);
            }
        } else if let Some(command) = registry::find_full(name) {
            self.set(command, allow);
            command.subcommands().iter().for_each(|sub| self.set(sub, allow));
        } else {
            let (command, first) = name.rsplit_once('|').filter(|_| allow).ok_or(RuleError::UnknownCommand)?;
            let command = registry::find_full(command).ok_or(RuleError::UnknownCommand)?;
            if command.parent.is_some() {
                return Err(RuleError::FirstArgOfSubcommand);
            }
            if matches!(command.command.run, Run::Group(_)) {
                return Err(RuleError::UnknownCommand);
            }
            if first.is_empty() {
                return Err(RuleError::Syntax);
            }
            let first = (command.id, Box::from(first.as_bytes()));
            if !self.first_args.contains(&first) {
                self.first_args.push(first);
            }
        }
        self.all &= allow;
        self.note(text);
        Ok(())
    }

    fn set(&mut self, command: &Registered, allow: bool) {
        let bit = 1 << (command.id % 64);
        let word = &mut self.bits[command.id / 64]; // `bits` has a place for every id
        *word = if allow { *word | bit } else { *word & !bit };
        self.first_args.retain(|(id, _)| *id != command.id);
    }

    /// Writes a rule down, in place of those that it makes void.
    fn note(&mut self, rule: String) {
        let name = &rule[1..];
        let below = format!("{name}|");
        self.rules.retain(|old| old[1..] != *name && !old[1..].starts_with(&below));
        self.rules.push(rule);
    }
}
