//! A user: who it is, and what it may do.
//!
//! A `User` never changes once sessions share it: changes are made on a copy that takes its place.

use super::commands::CommandRules;
use crate::command::{Access, Channels, Databases};
use crate::pubsub::Subscription;
use crate::registry::Registered;
use kelda_resp::glob_match;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use subtle::ConstantTimeEq;

/// The SHA-256 of a password.
pub type PasswordHash = [u8; 32];

/// Hashes a password.
pub fn hash_password(password: &[u8]) -> PasswordHash {
    Sha256::digest(password).into()
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: Box<[u8]>,
    /// `on`: whether it may log in.
    pub enabled: bool,
    /// `nopass`: whether any password will do.
    pub any_password: bool,
    /// `sanitize-payload`: whether RESTORE looks closely at what it is given.
    pub sanitize_payload: bool,
    /// Its passwords, in the order in which they were added.
    pub passwords: Vec<PasswordHash>,
    /// What it may do.
    pub root: Selector,
    /// What else it may do: a command must be allowed by one selector as a whole.
    pub selectors: Vec<Selector>,
}

/// What may be done: these commands with these keys and channels in these databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The commands.
    pub commands: CommandRules,
    /// Whether every key.
    pub all_keys: bool,
    /// The keys.
    pub keys: Vec<KeyPattern>,
    /// Whether every channel.
    pub all_channels: bool,
    /// The channels' patterns.
    pub channels: Vec<Box<[u8]>>,
    /// The databases, if not all of them.
    pub databases: Option<BTreeSet<u32>>,
}

/// Keys that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPattern {
    /// A glob pattern.
    pub pattern: Box<[u8]>,
    /// Whether data may be read,
    pub read: bool,
    /// and changed.
    pub write: bool,
}

/// What stands against a command. Of several selectors' reasons the greatest is told: it came closest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The database.
    Database,
    /// The command itself.
    Command,
    /// One of its keys.
    Key,
    /// One of its channels.
    Channel,
}

/// Why a command may not be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Denied {
    /// What stands against it.
    pub reason: Reason,
    /// The word that does: a key, a channel, a database; or else 0.
    pub at: usize,
}

impl User {
    /// A user who may do nothing. `all_channels` is what `acl-pubsub-default` says.
    pub fn new(name: &[u8], all_channels: bool) -> User {
        User {
            name: name.into(),
            enabled: false,
            any_password: false,
            sanitize_payload: true,
            passwords: Vec::new(),
            root: Selector::new(all_channels),
            selectors: Vec::new(),
        }
    }

    /// The user `default` as it is where nothing is said about it: it may do everything, without a password.
    pub fn first() -> User {
        let mut user = User::new(super::DEFAULT, true);
        user.enabled = true;
        user.any_password = true;
        user.root.commands.set_all(true);
        user.root.all_keys = true;
        user
    }

    /// Whether it may do everything: nothing need be looked at for each command.
    pub fn is_unrestricted(&self) -> bool {
        std::iter::once(&self.root).chain(&self.selectors).any(|selector| {
            selector.commands.is_all() && selector.all_keys && selector.all_channels && selector.databases.is_none()
        })
    }

    /// Whether connections need not log in, if this is the user that they begin as.
    pub fn is_open(&self) -> bool {
        self.enabled && self.any_password
    }

    /// Whether this password lets in. Takes as long for a wrong one as for a right one.
    pub fn accepts(&self, password: &[u8]) -> bool {
        let hash = hash_password(password);
        let found = self.passwords.iter().fold(subtle::Choice::from(0), |found, have| found | have.ct_eq(&hash));
        self.enabled && (self.any_password || bool::from(found))
    }

    fn all_selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(&self.selectors)
    }

    /// Whether the command may be run, in this database of so many.
    ///
    /// # Errors
    /// What the selector that came closest has against it.
    pub fn check(&self, command: &Registered, words: &[&[u8]], db: u32, databases: u32) -> Result<(), Denied> {
        let mut closest: Option<Denied> = None;
        for selector in self.all_selectors() {
            match selector.check(command, words, db, databases) {
                Ok(()) => return Ok(()),
                Err(denied) => closest = closest.max(Some(denied)),
            }
        }
        closest.map_or(Ok(()), Err)
    }

    /// Whether any key may be read: what SORT's BY and GET reach for.
    pub fn reads_all_keys(&self, command: &Registered, words: &[&[u8]], db: u32) -> bool {
        self.all_selectors()
            .filter(|selector| selector.all_keys || selector.keys.iter().any(|key| key.read && *key.pattern == *b"*"))
            .any(|selector| selector.check(command, words, db, u32::MAX).is_ok())
    }

    /// Whether it may be subscribed to a channel or pattern.
    pub fn may_listen(&self, kind: Subscription, name: &[u8]) -> bool {
        self.all_selectors().any(|selector| selector.allows_channel(name, kind == Subscription::Pattern))
    }

    /// Whether it may listen to everything that `other` may.
    pub fn listens_as(&self, other: &User) -> bool {
        let mine = || self.all_selectors();
        mine().any(|selector| selector.all_channels)
            || other.all_selectors().all(|selector| {
                let mut channels = selector.channels.iter();
                !selector.all_channels && channels.all(|name| mine().any(|mine| mine.channels.contains(name)))
            })
    }

    /// The rules that make this user, of a new one: each may hold blanks only where a selector's rules are separated.
    pub fn rules(&self) -> Vec<Vec<u8>> {
        let mut rules: Vec<Vec<u8>> = self.flags().iter().map(|flag| flag.as_bytes().to_vec()).collect();
        rules.extend(self.passwords.iter().map(|hash| format!("#{}", hex(hash)).into_bytes()));
        rules.extend(self.root.rules());
        for selector in &self.selectors {
            rules.push([b"(", &selector.rules().join(&b' ')[..], b")"].concat());
        }
        rules
    }

    /// The words of ACL GETUSER's `flags`.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.enabled { "on" } else { "off" }];
        if self.any_password {
            flags.push("nopass");
        }
        flags.push(if self.sanitize_payload { "sanitize-payload" } else { "skip-sanitize-payload" });
        flags
    }
}

/// The digits of a password's hash.
pub fn hex(hash: &PasswordHash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Selector {
    /// One that allows nothing but, perhaps, every channel.
    pub fn new(all_channels: bool) -> Selector {
        Selector {
            commands: CommandRules::none(),
            all_keys: false,
            keys: Vec::new(),
            all_channels,
            channels: Vec::new(),
            databases: None,
        }
    }

    fn check(&self, command: &Registered, words: &[&[u8]], db: u32, databases: u32) -> Result<(), Denied> {
        let denied = |reason, at| Err(Denied { reason, at });
        if let Some(allowed) = &self.databases
            && let Some(at) = other_database(allowed, command, words, db, databases)
        {
            return denied(Reason::Database, at);
        }
        if !self.commands.allows(command, words) {
            return denied(Reason::Command, 0);
        }
        if !self.all_keys {
            let mut first = None;
            command.find_keys(words, &mut |at, access| {
                // `find_keys` gives positions of words that are there
                if first.is_none() && !self.allows_key(words[at], access) {
                    first = Some(at);
                }
            });
            if let Some(at) = first {
                return denied(Reason::Key, at);
            }
        }
        if !self.all_channels {
            let (places, literally) = match command.command.channels {
                Channels::None => return Ok(()),
                Channels::Publish => (1..2, false),
                Channels::Subscribe => (1..words.len(), false),
                Channels::Patterns => (1..words.len(), true),
            };
            let refused = |at: &usize| words.get(*at).is_some_and(|name| !self.allows_channel(name, literally));
            if let Some(at) = places.into_iter().find(refused) {
                return denied(Reason::Channel, at);
            }
        }
        Ok(())
    }

    fn allows_key(&self, key: &[u8], access: Access) -> bool {
        let read = access.has(Access::ACCESS);
        let write = access.has(Access::INSERT.and(Access::DELETE).and(Access::UPDATE));
        let suits = |have: &KeyPattern| (have.read || !read) && (have.write || !write);
        self.keys.iter().any(|have| suits(have) && glob_match(&have.pattern, key, false))
    }

    /// Whether it allows a channel; `literally`: a pattern, which must be one of its own.
    fn allows_channel(&self, name: &[u8], literally: bool) -> bool {
        let mut channels = self.channels.iter();
        self.all_channels
            || channels.any(|have| if literally { **have == *name } else { glob_match(have, name, false) })
    }

    /// The keys as rules.
    pub fn key_rules(&self) -> Vec<Vec<u8>> {
        if self.all_keys {
            return vec![b"~*".to_vec()];
        }
        let prefix = |key: &KeyPattern| match (key.read, key.write) {
            (true, false) => &b"%R~"[..],
            (false, true) => b"%W~",
            _ => b"~",
        };
        self.keys.iter().map(|key| [prefix(key), &key.pattern].concat()).collect()
    }

    /// The channels as rules.
    pub fn channel_rules(&self) -> Vec<Vec<u8>> {
        if self.all_channels {
            return vec![b"&*".to_vec()];
        }
        self.channels.iter().map(|channel| [b"&", &channel[..]].concat()).collect()
    }

    /// The databases as a rule, if not all are allowed.
    pub fn database_rule(&self) -> Option<String> {
        let databases = self.databases.as_ref()?;
        let numbers: Vec<String> = databases.iter().map(u32::to_string).collect();
        Some(if numbers.is_empty() { "resetdbs".into() } else { format!("db={}", numbers.join(",")) })
    }

    fn rules(&self) -> Vec<Vec<u8>> {
        let mut rules = self.key_rules();
        if !self.all_channels {
            rules.push(b"resetchannels".to_vec());
        }
        rules.extend(self.channel_rules());
        rules.extend(self.database_rule().map(String::into_bytes));
        rules.push(self.commands.text().into_bytes());
        rules
    }
}

/// The word of a command that stands for another database than these, or 0 if it is the one in use. Words that are the number of
/// no database are for the command to refuse.
fn other_database(
    allowed: &BTreeSet<u32>,
    command: &Registered,
    words: &[&[u8]],
    db: u32,
    databases: u32,
) -> Option<usize> {
    match command.command.databases {
        Databases::InUse => {}
        Databases::All => return Some(0),
        Databases::Named(places) => {
            let number = |at: usize| {
                let number = kelda_resp::parse_i64(words.get(at)?)?;
                u32::try_from(number).ok().filter(|db| *db < databases)
            };
            let named: Option<Vec<_>> = places(words).into_iter().map(|at| Some((at, number(at)?))).collect();
            if let Some((at, _)) = named.iter().flatten().find(|(_, db)| !allowed.contains(db)) {
                return Some(*at);
            }
        }
    }
    (command.in_database && !allowed.contains(&db)).then_some(0)
}
