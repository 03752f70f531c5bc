//! The filters of CLIENT LIST and CLIENT KILL: which clients are meant.

use super::{capabilities, flags};
use crate::acl::Acl;
use crate::clients::ClientInfo;
use crate::error::{Error, Result};
use kelda_resp::number;
use std::mem::discriminant;
use std::sync::atomic::Ordering::Relaxed;

/// The options of CLIENT LIST.
pub const LIST_SYNTAX: &str = "[TYPE client-type:<NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]] \
    [USER username] [ADDR addr:ip:port] [LADDR laddr:ip:port] [SKIPME skipme:<YES | NO>] [MAXAGE maxage] [NAME name] \
    [IDLE idle/integer] [FLAGS flags] [LIB-NAME lib-name] [LIB-VER lib-ver] [DB db] [CAPA capa] [IP ip] \
    [NOT-TYPE not-client-type:<NORMAL | MASTER | REPLICA | PUBSUB>] [NOT-ID not-client-id/integer [not-client-id/integer ...]] \
    [NOT-USER not-username] [NOT-ADDR not-addr:ip:port] [NOT-LADDR not-laddr:ip:port] [NOT-NAME not-name] \
    [NOT-FLAGS not-flags] [NOT-LIB-NAME not-lib-name] [NOT-LIB-VER not-lib-ver] \
    [NOT-DB not-db/integer] [NOT-CAPA not-capa] [NOT-IP not-ip]";

/// The options of CLIENT KILL.
pub const KILL_SYNTAX: &str = "filter:<old-format:ip:port | new-format:(<[ID client-id [client-id ...]] | \
    [TYPE client-type:<NORMAL | MASTER | PRIMARY | SLAVE | REPLICA | PUBSUB>] | [USER username] | [ADDR addr:ip:port] | \
    [LADDR laddr:ip:port] | [SKIPME skipme:<YES | NO>] | [MAXAGE maxage] | [NAME name] | [IDLE idle/integer] | \
    [FLAGS flags] | [LIB-NAME lib-name] | [LIB-VER lib-ver] | [DB db] | [CAPA capa] | [IP ip] | \
    [NOT-TYPE not-client-type:<NORMAL | MASTER | PRIMARY | SLAVE | REPLICA | PUBSUB>] | \
    [NOT-ID not-client-id/integer [not-client-id/integer ...]] | [NOT-USER not-username] | [NOT-ADDR not-addr:ip:port] | \
    [NOT-LADDR not-laddr:ip:port] | [NOT-NAME not-name] | [NOT-FLAGS not-flags] | \
    [NOT-LIB-NAME not-lib-name] | [NOT-LIB-VER not-lib-ver] | [NOT-DB not-db/integer] | \
    [NOT-CAPA not-capa] | [NOT-IP not-ip]> ...)>";

/// Every letter that CLIENT LIST's `flags` may have in Redis or Valkey.
const FLAG_LETTERS: &str = "AbBcdeEiIMNOPrRStTuUx";
/// The letters of capabilities: `r` for `redirect`.
const CAPABILITY_LETTERS: &str = "r";

/// Something that holds of a client or not.
enum Condition {
    /// ID: one of these.
    Ids(Vec<u64>),
    Kind(&'static str),
    User(String),
    Address(String),
    LocalAddress(String),
    Ip(String),
    Name(String),
    LibName(String),
    LibVersion(String),
    /// FLAGS: all these letters.
    Flags(String),
    /// CAPA: all these letters.
    Capabilities(String),
    Database(i64),
    /// MAXAGE: connected for so many seconds or longer.
    Age(i64),
    /// IDLE: silent for so many seconds or longer.
    Idle(i64),
}

impl Condition {
    fn holds(&self, info: &ClientInfo, now_ms: i64) -> bool {
        let seconds = |since_ms: i64| (now_ms - since_ms) / 1000;
        // Who has no name is not called "".
        let is_called = |wanted: &str, have: &str| wanted == have && !have.is_empty();
        let has_all = |have: &str, wanted: &str| wanted.chars().all(|letter| have.contains(letter));
        match self {
            Condition::Ids(ids) => ids.contains(&info.at.id),
            Condition::Kind(kind) => *kind == kind_of(info),
            Condition::User(user) => *user == info.labels().user,
            Condition::Address(address) => *address == info.peer.addr,
            Condition::LocalAddress(address) => *address == info.peer.laddr,
            Condition::Ip(ip) => info.peer.addr.rsplit_once(':').map_or("", |(ip, _)| ip) == ip,
            Condition::Name(name) => is_called(name, &info.labels().name),
            Condition::LibName(name) => is_called(name, &info.labels().lib_name),
            Condition::LibVersion(version) => is_called(version, &info.labels().lib_version),
            Condition::Flags(letters) => has_all(&flags(info), letters),
            Condition::Capabilities(letters) => has_all(capabilities(info), letters),
            Condition::Database(db) => *db == i64::from(info.db.load(Relaxed)),
            Condition::Age(wanted) => seconds(info.connected_ms) >= *wanted,
            Condition::Idle(wanted) => seconds(info.active_ms.load(Relaxed)) >= *wanted,
        }
    }
}

/// Which clients are meant.
#[derive(Default)]
pub struct Filter {
    /// What must hold, or, where the flag says so, must not.
    conditions: Vec<(bool, Condition)>,
    /// Whether the client that asks is left out, if it said so.
    pub skip_me: Option<bool>,
}

/// What a filter is read with.
pub struct Surroundings<'a> {
    /// The users.
    pub users: &'a Acl,
    /// Number of databases.
    pub databases: i64,
    /// Reads a client's number.
    pub id: fn(&[u8]) -> Result<u64>,
}

impl Filter {
    /// Reads options in pairs; ID and NOT-ID take as many numbers as follow, to Valkey even none.
    pub fn parse(around: &Surroundings, mut rest: &[&[u8]]) -> Result<Filter> {
        let mut filter = Filter::default();
        if rest.len() == 1 {
            return Err(Error::Syntax);
        }
        while let [option, after @ ..] = rest {
            let option = option.to_ascii_uppercase();
            if matches!(&option[..], b"ID" | b"NOT-ID") && is_end_of_ids(after) {
                rest = after;
                filter.add(option[0] == b'N', Condition::Ids(Vec::new()));
                continue;
            }
            let [word, after @ ..] = after else { break };
            rest = after;
            if option == b"SKIPME" {
                filter.skip_me = Some(match () {
                    () if word.eq_ignore_ascii_case(b"yes") => true,
                    () if word.eq_ignore_ascii_case(b"no") => false,
                    () => return Err(Error::Syntax),
                });
                continue;
            }
            let (negated, name) = match option.strip_prefix(b"NOT-") {
                Some(name) => (true, name),
                None => (false, &option[..]),
            };
            let condition = if name == b"ID" {
                let id = if negated { positive_id } else { around.id };
                let mut ids = vec![id(word)?];
                while let [word, after @ ..] = rest
                    && word.first().is_some_and(u8::is_ascii_digit)
                {
                    ids.push(id(word)?);
                    rest = after;
                }
                Condition::Ids(ids)
            } else {
                parse_condition(around, negated, name, word)?
            };
            filter.add(negated, condition);
        }
        if rest.is_empty() { Ok(filter) } else { Err(Error::Syntax) }
    }

    /// The last of several conditions of one kind counts; numbers of clients are put together.
    fn add(&mut self, negated: bool, mut condition: Condition) {
        let same = |(was_negated, was): &(bool, Condition)| {
            *was_negated == negated && discriminant(was) == discriminant(&condition)
        };
        if let Some(at) = self.conditions.iter().position(same) {
            let (_, was) = self.conditions.swap_remove(at);
            if let (Condition::Ids(ids), Condition::Ids(more)) = (&mut condition, was) {
                ids.extend(more);
            }
        }
        self.conditions.push((negated, condition));
    }

    /// Whether a client is meant.
    pub fn matches(&self, info: &ClientInfo, now_ms: i64) -> bool {
        self.conditions.iter().all(|(negated, condition)| condition.holds(info, now_ms) != *negated)
    }
}

/// Whether what follows ID is no number, but the next option.
fn is_end_of_ids(rest: &[&[u8]]) -> bool {
    match rest {
        [] => true,
        [word] => word.eq_ignore_ascii_case(b"ID") || word.eq_ignore_ascii_case(b"NOT-ID"),
        [word, ..] => word.first().is_some_and(u8::is_ascii_alphabetic),
    }
}

fn parse_condition(around: &Surroundings, negated: bool, name: &[u8], word: &[u8]) -> Result<Condition> {
    let not = if negated { "NOT-" } else { "" };
    let text = String::from_utf8_lossy(word).into_owned();
    Ok(match name {
        b"TYPE" => Condition::Kind(kind_named(word)?),
        b"USER" if around.users.get(word).is_none() => {
            return Err(Error::owned(format!("ERR No such user '{text}'")));
        }
        b"USER" => Condition::User(text),
        b"ADDR" => Condition::Address(text),
        b"LADDR" => Condition::LocalAddress(text),
        b"NAME" => Condition::Name(text),
        b"LIB-NAME" => Condition::LibName(text),
        b"LIB-VER" => Condition::LibVersion(text),
        b"IP" => Condition::Ip(text),
        b"FLAGS" => Condition::Flags(letters(text, FLAG_LETTERS, "flags", negated)?),
        b"CAPA" => Condition::Capabilities(letters(text, CAPABILITY_LETTERS, "capa", negated)?),
        b"DB" => {
            let range = 0..around.databases;
            let db = number::parse_i64(word)
                .ok_or_else(|| Error::owned(format!("ERR {not}DB is not an integer or out of range")))?;
            if !range.contains(&db) {
                let last = around.databases - 1;
                return Err(Error::owned(format!("ERR {not}DB number should be between 0 and {last}")));
            }
            Condition::Database(db)
        }
        b"MAXAGE" if !negated => Condition::Age(positive(word, "maxage")?),
        b"IDLE" if !negated => Condition::Idle(positive(word, "idle")?),
        _ => return Err(Error::Syntax),
    })
}

/// A client's number behind NOT-ID, and to Valkey behind ID.
pub fn positive_id(word: &[u8]) -> Result<u64> {
    match number::parse_i64(word) {
        None => Err(Error::Syntax),
        Some(..=0) => Err(Error::text("ERR client-id should be greater than 0")),
        Some(id) => Ok(id as u64),
    }
}

/// A text of known letters only.
fn letters(text: String, known: &str, what: &str, negated: bool) -> Result<String> {
    if text.chars().all(|letter| known.contains(letter)) {
        return Ok(text);
    }
    let filter = if negated { format!("NOT-{}", what.to_uppercase()) } else { "provided".into() };
    Err(Error::owned(format!("ERR Unknown {what} found in the {filter} filter: {text}")))
}

fn positive(word: &[u8], name: &str) -> Result<i64> {
    match number::parse_i64(word) {
        None => Err(Error::owned(format!("ERR {name} is not an integer or out of range"))),
        Some(..=0) => Err(Error::owned(format!("ERR {name} should be greater than 0"))),
        Some(number) => Ok(number),
    }
}

fn kind_named(word: &[u8]) -> Result<&'static str> {
    const KINDS: [(&str, &str); 6] = [
        ("normal", "normal"),
        ("pubsub", "pubsub"),
        ("master", "master"),
        ("primary", "master"),
        ("replica", "replica"),
        ("slave", "replica"),
    ];
    match KINDS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes())) {
        Some((_, kind)) => Ok(kind),
        None => Err(Error::owned(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(word)))),
    }
}

fn kind_of(info: &ClientInfo) -> &'static str {
    let subscribed = info.subscriptions.iter().any(|count| count.load(Relaxed) != 0);
    match () {
        () if info.master.load(Relaxed) => "master",
        () if info.replica.load(Relaxed) => "replica",
        () if subscribed => "pubsub",
        () => "normal",
    }
}
