//! Members of sets and sorted sets that expire: SEXPIRE and ZEXPIRE and their relatives.
//!
//! Our own addition: names and options are those of Garnet's ZEXPIRE, replies and limits those of HEXPIRE.

use super::expire::{Conditions, ExpireArg};
use super::hash::expiry::{is_past, seconds, time};
use crate::args::Args;
use crate::command::{Command, Flags, Group, Keys, Reply, Run};
use crate::error::{Error, Result};
use kelda_resp::parse_i64;
use kelda_store::set::Set;
use kelda_store::txn::{Edit, EditExpiry, EventClasses, Expiring, Txn, View};
use kelda_store::zset::ZSet;

const SINCE: &str = "8.1.0";
const COMPLEXITY: &str = "O(N) in the number of members named, and O(log M) for each, M being how many expire";

const SETTER: Command = Command {
    arity: -6,
    keys: &[Keys::at(1).update()],
    flags: Flags::FAST.and(Flags::DENYOOM),
    since: SINCE,
    complexity: COMPLEXITY,
    ..Command::BASE
};

const GETTER: Command = Command {
    arity: -5,
    keys: &[Keys::at(1).read()],
    flags: Flags::FAST,
    since: SINCE,
    syntax: "key members:(MEMBERS nummembers member [member ...])",
    complexity: COMPLEXITY,
    ..Command::BASE
};

/// The nine commands of a type, whose names begin with a letter and whose events with the same, in lower case.
macro_rules! commands {
    ($type:ident, $group:expr, $what:literal, $letter:literal, $events:expr) => {
        &[
            Command {
                name: concat!($letter, "EXPIRE"),
                group: $group,
                syntax: "key seconds condition:[NX | XX | GT | LT] members:(MEMBERS nummembers member [member ...])",
                summary: concat!("Has members of ", $what, " expire in some seconds."),
                run: Run::Write(|txn, args, reply| expire::<$type>(txn, args, reply, &$events, true, true)),
                ..SETTER
            },
            Command {
                name: concat!($letter, "PEXPIRE"),
                group: $group,
                syntax: "key milliseconds condition:[NX | XX | GT | LT] members:(MEMBERS nummembers member [member ...])",
                summary: concat!("Has members of ", $what, " expire in some milliseconds."),
                run: Run::Write(|txn, args, reply| expire::<$type>(txn, args, reply, &$events, false, true)),
                ..SETTER
            },
            Command {
                name: concat!($letter, "EXPIREAT"),
                group: $group,
                syntax: "key unix-time-seconds condition:[NX | XX | GT | LT] members:(MEMBERS nummembers member [member ...])",
                summary: concat!("Has members of ", $what, " expire at a Unix time in seconds."),
                run: Run::Write(|txn, args, reply| expire::<$type>(txn, args, reply, &$events, true, false)),
                ..SETTER
            },
            Command {
                name: concat!($letter, "PEXPIREAT"),
                group: $group,
                syntax: "key unix-time-milliseconds condition:[NX | XX | GT | LT] members:(MEMBERS nummembers member [member ...])",
                summary: concat!("Has members of ", $what, " expire at a Unix time in milliseconds."),
                run: Run::Write(|txn, args, reply| expire::<$type>(txn, args, reply, &$events, false, false)),
                ..SETTER
            },
            Command {
                name: concat!($letter, "TTL"),
                group: $group,
                summary: concat!("Returns how long members of ", $what, " still live, in seconds."),
                tips: &["nondeterministic_output"],
                run: Run::Read(|view, args, reply| ttl::<$type>(view, args, reply, |at, now| seconds((at - now).max(0)))),
                ..GETTER
            },
            Command {
                name: concat!($letter, "PTTL"),
                group: $group,
                summary: concat!("Returns how long members of ", $what, " still live, in milliseconds."),
                tips: &["nondeterministic_output"],
                run: Run::Read(|view, args, reply| ttl::<$type>(view, args, reply, |at, now| (at - now).max(0))),
                ..GETTER
            },
            Command {
                name: concat!($letter, "EXPIRETIME"),
                group: $group,
                summary: concat!("Returns when members of ", $what, " expire, as Unix times in seconds."),
                run: Run::Read(|view, args, reply| ttl::<$type>(view, args, reply, |at, _| seconds(at))),
                ..GETTER
            },
            Command {
                name: concat!($letter, "PEXPIRETIME"),
                group: $group,
                summary: concat!("Returns when members of ", $what, " expire, as Unix times in milliseconds."),
                run: Run::Read(|view, args, reply| ttl::<$type>(view, args, reply, |at, _| at)),
                ..GETTER
            },
            Command {
                name: concat!($letter, "PERSIST"),
                group: $group,
                keys: &[Keys::at(1).update()],
                summary: concat!("Has members of ", $what, " live for ever."),
                run: Run::Write(|txn, args, reply| persist::<$type>(txn, args, reply, &$events)),
                ..GETTER
            },
        ]
    };
}

/// The commands about sets.
pub static SET_COMMANDS: &[Command] = commands!(Set, Group::Set, "a set", "S", SET_EVENTS);
/// The commands about sorted sets.
pub static ZSET_COMMANDS: &[Command] = commands!(ZSet, Group::SortedSet, "a sorted set", "Z", ZSET_EVENTS);

/// Keyspace events of a type.
struct Events {
    class: EventClasses,
    expire: &'static str,
    persist: &'static str,
    remove: &'static str,
}

const SET_EVENTS: Events = Events { class: EventClasses::SET, expire: "sexpire", persist: "spersist", remove: "srem" };
const ZSET_EVENTS: Events =
    Events { class: EventClasses::ZSET, expire: "zexpire", persist: "zpersist", remove: "zrem" };

/// The members of `MEMBERS nummembers member …` from a word to the last.
fn members<'a>(args: &Args<'a>, at: usize) -> Result<&'a [&'a [u8]]> {
    if !args.is(at, "MEMBERS") {
        return Err(Error::text("ERR Mandatory argument MEMBERS is missing or not at the right position"));
    }
    let count = args.get(at + 1).and_then(parse_i64).filter(|&count| count > 0);
    let count = count.ok_or(Error::text("ERR Number of members must be a positive integer"))?;
    let members = args.from(at + 2);
    if count != members.len() as i64 {
        return Err(Error::text("ERR The `nummembers` parameter must match the number of arguments"));
    }
    Ok(members)
}

fn expire<T: Expiring>(
    txn: &mut Txn,
    args: &Args,
    reply: &mut Reply,
    events: &Events,
    seconds: bool,
    relative: bool,
) -> Result
where
    for<'t, 'k> Edit<'t, 'k, T>: EditExpiry,
{
    let key = args.key(1);
    // As HEXPIRE: the type of the key first.
    txn.edit::<T>(key)?;
    let command = String::from_utf8_lossy(&args[0]).to_ascii_lowercase();
    let at = time(ExpireArg { at: 2, seconds, relative }, args, txn.now(), &command)?;
    let (conditions, next) = Conditions::parse_from(args, 3)?;
    let members = members(args, next)?;
    let past = is_past(txn, at);
    let mut edit = txn.edit::<T>(key)?;
    let mut changed = false;
    reply.array(members.len());
    for member in members {
        let old = edit.as_ref().and_then(|edit| edit.find(member));
        reply.int(match (&mut edit, old) {
            (Some(_), Some(old)) if !conditions.hold(old, at) => 0,
            (Some(edit), Some(_)) => {
                changed = true;
                if past {
                    edit.remove_member(member);
                    2
                } else {
                    edit.set_expiry(member, Some(at));
                    1
                }
            }
            _ => -2,
        });
    }
    if let Some(mut edit) = edit
        && changed
    {
        edit.event(events.class, if past { events.remove } else { events.expire });
    }
    Ok(())
}

/// Replies what `show` makes of each member's expiry time and of now; -1 without one, -2 without the member.
fn ttl<T: Expiring>(view: &View, args: &Args, reply: &mut Reply, show: fn(i64, i64) -> i64) -> Result {
    let collection = view.collection::<T>(args.key(1))?;
    let members = members(args, 2)?;
    reply.array(members.len());
    for member in members {
        reply.int(match collection.and_then(|collection| collection.find(member)) {
            None => -2,
            Some(None) => -1,
            Some(Some(at)) => show(at, view.now()),
        });
    }
    Ok(())
}

fn persist<T: Expiring>(txn: &mut Txn, args: &Args, reply: &mut Reply, events: &Events) -> Result
where
    for<'t, 'k> Edit<'t, 'k, T>: EditExpiry,
{
    txn.edit::<T>(args.key(1))?;
    let members = members(args, 2)?;
    let mut edit = txn.edit::<T>(args.key(1))?;
    let mut changed = false;
    reply.array(members.len());
    for member in members {
        let at = edit.as_ref().and_then(|edit| edit.find(member));
        reply.int(match (&mut edit, at) {
            (Some(edit), Some(Some(_))) => {
                edit.set_expiry(member, None);
                changed = true;
                1
            }
            (_, Some(None)) => -1,
            _ => -2,
        });
    }
    if let Some(mut edit) = edit
        && changed
    {
        edit.event(events.class, events.persist);
    }
    Ok(())
}
