//! Conditions on the string at a key: IFEQ, IFNE, IFDEQ and IFDNE of SET and DELEX; and DIGEST, which two of them compare.

use crate::args::Args;
use crate::command::{Command, Flags, Group, Keys, Reply, Run};
use crate::error::{Error, Result};
use kelda_store::Str;
use kelda_store::txn::{Key, Txn, View};
use xxhash_rust::xxh3::xxh3_64;

const BASE: Command = Command { group: Group::String, flags: Flags::FAST, since: "8.4.0", ..Command::BASE };

/// The commands.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "DIGEST",
        arity: 2,
        keys: &[Keys::at(1).read()],
        syntax: "key",
        summary: "Returns a 64-bit hash (XXH3) of the string at a key, as 16 hexadecimal digits.",
        complexity: "O(N) in the length of the string",
        run: Run::Read(digest),
        ..BASE
    },
    Command {
        name: "DELEX",
        arity: -2,
        keys: &[Keys::at(1).delete().variable()],
        find_keys: Some(|words, f| {
            let keys = Keys::at(1);
            f(1, if words.len() > 2 { keys.delete() } else { keys.remove() }.access);
        }),
        syntax: "key condition:[IFEQ ifeq-value | IFNE ifne-value | IFDEQ ifdeq-digest | IFDNE ifdne-digest]",
        summary: "Deletes a key if the string that it holds, or the digest of it, is the given one, or is not.",
        complexity: "O(1); O(N) in the length of the string where digests are compared",
        run: Run::Write(delex),
        ..BASE
    },
];

/// The number that DIGEST shows.
fn digest_of(text: Str) -> u64 {
    text.with_bytes(xxh3_64)
}

/// What a string is compared with.
#[derive(Clone, Copy)]
enum Against<'a> {
    Text(&'a [u8]),
    Digest(u64),
}

/// A condition on the string at a key.
#[derive(Clone, Copy)]
pub(super) struct Comparison<'a> {
    against: Against<'a>,
    /// Whether they must be equal, or else must not.
    equal: bool,
}

impl<'a> Comparison<'a> {
    /// Recognises a condition at the word `at`; its argument is the word behind it.
    pub fn parse(args: &Args<'a>, at: usize) -> Result<Option<Comparison<'a>>> {
        let named = [("IFEQ", false, true), ("IFNE", false, false), ("IFDEQ", true, true), ("IFDNE", true, false)];
        let named = named.into_iter().find(|(name, ..)| args.is(at, name));
        let (Some((_, digest, equal)), Some(argument)) = (named, args.get(at + 1)) else { return Ok(None) };
        let against = if digest { Against::Digest(parse_digest(argument)?) } else { Against::Text(argument) };
        Ok(Some(Comparison { against, equal }))
    }

    /// Whether it holds for the string at a key. Where there is none, it is equal to nothing.
    pub fn holds(&self, view: &View, key: Key) -> Result<bool> {
        let is_equal = view.peek_string(key)?.is_some_and(|text| match self.against {
            Against::Text(other) => text.eq_bytes(other),
            Against::Digest(other) => digest_of(text) == other,
        });
        Ok(is_equal == self.equal)
    }
}

/// A digest as DIGEST shows it, in either case.
fn parse_digest(text: &[u8]) -> Result<u64> {
    const DIGITS: usize = 16;
    let digits = str::from_utf8(text).ok().filter(|_| text.len() == DIGITS && text.iter().all(u8::is_ascii_hexdigit));
    let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number.ok_or(Error::text("ERR must be exactly 16 hexadecimal characters"))
}

fn digest(view: &View, args: &Args, reply: &mut Reply) -> Result {
    match view.string(args.key(1))? {
        Some(text) => reply.bulk(format!("{:016x}", digest_of(text)).as_bytes()),
        None => reply.null(),
    }
    Ok(())
}

fn delex(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    let condition = match args.len() {
        2 => None,
        4 => Some(
            Comparison::parse(args, 2)?.ok_or(Error::text("ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE"))?,
        ),
        _ => return Err(Error::Arity("delex".into())),
    };
    let holds = match condition {
        Some(condition) => condition.holds(txn, key)?,
        None => true,
    };
    reply.int(i64::from(holds && txn.delete_with_event(key)));
    Ok(())
}
