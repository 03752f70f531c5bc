//! The one look-up of commands by name, and what is computed once for each of them.

use crate::command::{Access, Begin, Command, Databases, Find, Flags, Run};
use crate::commands::FAMILIES;
use hashbrown::HashMap;
use std::sync::LazyLock;

/// Every category of commands, in the order in which Redis lists them.
pub const CATEGORIES: &[&str] = &[
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// A command or subcommand with what follows from its declaration.
pub struct Registered {
    /// The declaration.
    pub command: &'static Command,
    /// The container, for a subcommand.
    pub parent: Option<&'static Command>,
    /// Place in [`all`]; indexes statistics.
    pub id: usize,
    /// Lower-case name as errors and statistics show it: `get`, `config|get`.
    pub name: String,
    /// All properties.
    pub flags: Flags,
    /// The one word that is a key, where that is so whatever the words are.
    pub single_key: Option<usize>,
    /// Whether it may change keys.
    pub writes: bool,
    /// Whether timing one call of many is enough: it is always quick, or those calls are that [`Command::is_small`] names.
    pub sampled: bool,
    /// Where its one key is, if it can go the short way; see [`crate::fast_path`].
    pub short_way: Option<usize>,
    /// [`Command::is_small`].
    pub is_small: Option<fn(&[&[u8]]) -> bool>,
    /// Whether it is about keys, and so about the database in use.
    pub in_database: bool,
    /// First of its subcommands in [`all`].
    subcommands: usize,
}

struct Registry {
    all: Vec<Registered>,
    by_name: HashMap<&'static [u8], usize>,
    /// Places in `all` of commands with short names, by [`short_place`]; the first of those that share one.
    by_short_name: Box<[u16; SHORT_PLACES]>,
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let mut all = Vec::new();
    let mut by_name = HashMap::new();
    for command in FAMILIES.iter().copied().flatten() {
        by_name.insert(command.name.as_bytes(), all.len());
        all.push(register(command, None, all.len()));
    }
    for index in 0..all.len() {
        all[index].subcommands = all.len();
        let parent = all[index].command;
        for command in parent.subcommands() {
            all.push(register(command, Some(parent), all.len()));
        }
    }
    let mut by_short_name = Box::new([NOWHERE; SHORT_PLACES]);
    for (index, registered) in all.iter().enumerate().rev().filter(|(_, registered)| registered.parent.is_none()) {
        if let Some(place) = short_place(registered.command.name.as_bytes()) {
            by_short_name[place] = index as u16;
        }
    }
    Registry { all, by_name, by_short_name }
});

fn register(command: &'static Command, parent: Option<&'static Command>, id: usize) -> Registered {
    let name = match parent {
        Some(parent) => format!("{}|{}", parent.name, command.name),
        None => command.name.to_string(),
    };
    let single_key = match command.keys {
        [keys] => match (keys.begin, keys.find) {
            (Begin::Index(at), Find::Range { last: 0, .. }) if !keys.not_key => Some(at),
            _ => None,
        },
        _ => None,
    };
    // SET is not among Redis's fast commands, but does as little as they do.
    let fast = command.all_flags().has(Flags::FAST) || (parent.is_none() && command.name == "SET");
    let sampled = fast || command.is_small.is_some();
    let plain = matches!(command.run, Run::Read(_) | Run::Write(_))
        && !command.whole_keyspace
        && command.reaches_further.is_none();
    let mut registered = Registered {
        command,
        parent,
        id,
        name: name.to_lowercase(),
        flags: command.all_flags(),
        single_key,
        writes: command.all_flags().has(Flags::WRITE),
        sampled,
        // Its arity must make sure that the key is there.
        short_way: single_key.filter(|&at| sampled && plain && command.arity.unsigned_abs() as usize > at),
        is_small: command.is_small,
        in_database: command.keys.iter().any(|keys| !keys.not_key),
        subcommands: 0,
    };
    // SWAPDB is about those that it names alone.
    let elsewhere = matches!(command.databases, Databases::Named(_)) && command.keys.is_empty();
    registered.in_database |=
        !elsewhere && registered.categories().iter().any(|category| ["keyspace", "read", "write"].contains(category));
    registered
}

/// Every command, then every subcommand.
pub fn all() -> &'static [Registered] {
    &REGISTRY.all
}

/// Longest name of a command or subcommand, in bytes.
const NAME_MAX: usize = 32;

/// The command of this name, in any case. Containers are found as such.
pub fn find(name: &[u8]) -> Option<&'static Registered> {
    if let Some(found) = find_short(name) {
        return Some(found);
    }
    let mut upper = [0; NAME_MAX];
    let upper = upper.get_mut(..name.len())?;
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    REGISTRY.by_name.get(&*upper).map(|&index| &REGISTRY.all[index])
}

/// The names by which clients call commands: their own, but for what `rename-command` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names {
    /// In upper case: what each of these names calls, as a place in [`all`]; nothing, where a command was renamed.
    changed: HashMap<Vec<u8>, Option<usize>>,
}

impl Names {
    /// Has a command be called by another name, or by none if that is empty.
    ///
    /// # Errors
    /// What is wrong, in Redis's words.
    pub fn rename(&mut self, old: &str, new: &str) -> Result<(), &'static str> {
        let command = self.find(old.as_bytes()).ok_or("No such command in rename-command")?;
        let upper = |name: &str| name.to_ascii_uppercase().into_bytes();
        let before = self.changed.insert(upper(old), None);
        if new.is_empty() {
            return Ok(());
        }
        if self.find(new.as_bytes()).is_some() {
            match before {
                Some(before) => self.changed.insert(upper(old), before),
                None => self.changed.remove(&upper(old)),
            };
            return Err("Target command name already exists");
        }
        self.changed.insert(upper(new), Some(command.id));
        Ok(())
    }

    /// Whether every command has its own name.
    #[inline]
    pub fn are_plain(&self) -> bool {
        self.changed.is_empty()
    }

    /// The command that a name calls, in any case. Containers are found as such.
    pub fn find(&self, name: &[u8]) -> Option<&'static Registered> {
        if self.changed.is_empty() {
            return find(name);
        }
        match self.changed.get(&name.to_ascii_uppercase()) {
            Some(place) => place.map(|place| &all()[place]),
            None => find(name),
        }
    }

    /// Whether any name calls a command that is no subcommand.
    pub fn call(&self, command: &Registered) -> bool {
        !self.changed.contains_key(command.command.name.as_bytes())
            || self.changed.values().any(|place| *place == Some(command.id))
    }
}

/// Slots of the look-up by short name: several for each command, so that few share one.
const SHORT_PLACES: usize = 2048;
const NOWHERE: u16 = u16::MAX;

/// Where a name of 3 to 8 bytes, in any case, is looked up: a hash of its first and last four bytes.
#[inline]
fn short_place(name: &[u8]) -> Option<usize> {
    let word = |a, b, c, d| u64::from(u32::from_le_bytes([a, b, c, d]));
    let code = match *name {
        [a, b, c] => word(a, b, c, 0),
        [a, b, c, d] => word(a, b, c, d),
        [a, b, c, d, z] => word(a, b, c, d) | word(b, c, d, z) << 32,
        [a, b, c, d, y, z] => word(a, b, c, d) | word(c, d, y, z) << 32,
        [a, b, c, d, x, y, z] => word(a, b, c, d) | word(d, x, y, z) << 32,
        [a, b, c, d, w, x, y, z] => word(a, b, c, d) | word(w, x, y, z) << 32,
        _ => return None,
    };
    let lower = code | 0x2020_2020_2020_2020;
    /// 2^64 divided by the golden ratio: spreads (Knuth, The Art of Computer Programming, volume 3, 6.4).
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    Some((lower.wrapping_mul(SPREAD) >> (u64::BITS - SHORT_PLACES.trailing_zeros())) as usize)
}

/// The command of this name, in any case, or `None` where only [`find`] can tell.
#[inline]
pub fn find_short(name: &[u8]) -> Option<&'static Registered> {
    let registry = &*REGISTRY;
    let found = registry.all.get(usize::from(registry.by_short_name[short_place(name)?]))?;
    let upper = found.command.name.as_bytes();
    (upper == name || upper.eq_ignore_ascii_case(name)).then_some(found)
}

/// The command or subcommand of this full name, as `get` or `config|get`, in any case.
pub fn find_full(name: &str) -> Option<&'static Registered> {
    match name.split_once('|') {
        None => find(name.as_bytes()),
        Some((container, sub)) => find(container.as_bytes())?.subcommand(sub.as_bytes()),
    }
}

impl Registered {
    /// Whether a call with these words is timed only now and then.
    #[inline]
    pub fn samples(&self, words: &[&[u8]]) -> bool {
        self.sampled && self.is_small.is_none_or(|is_small| is_small(words))
    }

    /// The subcommands.
    pub fn subcommands(&self) -> &'static [Registered] {
        let count = self.command.subcommands().len();
        &REGISTRY.all[self.subcommands..self.subcommands + count]
    }

    /// The subcommand of this name, in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Registered> {
        self.subcommands().iter().find(|sub| sub.command.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The names of the ACL categories that it is in, without `@`.
    pub fn categories(&self) -> Vec<&'static str> {
        let command = self.command;
        let flags = self.flags;
        let mut names = Vec::new();
        match command.categories {
            Some(categories) => names.extend(categories),
            // A container does nothing by itself, unless it can run without a subcommand.
            None if matches!(command.run, Run::Group(_)) && command.bare.is_none() => {}
            None => names.extend(self.parent.map_or(command.group, |parent| parent.group).category()),
        }
        if flags.has(Flags::WRITE) {
            names.push("write");
        }
        if flags.has(Flags::READONLY) && command.group != crate::command::Group::Scripting {
            names.push("read");
        }
        if flags.has(Flags::ADMIN) || flags.has(Flags::ADMIN_CATEGORY) {
            names.extend(["admin", "dangerous"]);
        } else if flags.has(Flags::DANGEROUS) {
            names.push("dangerous");
        }
        if flags.has(Flags::PUBSUB) && !matches!(command.run, Run::Group(_)) && !names.contains(&"pubsub") {
            names.push("pubsub");
        }
        names.push(if flags.has(Flags::FAST) { "fast" } else { "slow" });
        if flags.has(Flags::BLOCKING) {
            names.push("blocking");
        }
        names
    }

    /// Calls `f` with the position of each key in `words`; the same as [`Registered::find_keys`], quicker for the many commands of
    /// one key.
    #[inline]
    pub fn for_each_key(&self, words: &[&[u8]], mut f: impl FnMut(usize)) {
        match self.single_key {
            Some(at) if at < words.len() => f(at),
            Some(_) => {}
            None => self.find_keys(words, &mut |at, _| f(at)),
        }
    }

    /// Calls `f` with the position of each key in `words`.
    #[inline]
    pub fn find_keys(&self, words: &[&[u8]], f: &mut dyn FnMut(usize, Access)) {
        self.command.find_keys(words, f);
    }
}
