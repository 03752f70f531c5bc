//! The set family.

use super::sample::{drawn, parse_count, sample};
use super::scan::{ScanOf, parse_cursor, parse_scan_options};
use super::write_str;
use crate::args::Args;
use crate::command::{Command, Flags, Group, Keys, Reply, Run};
use crate::error::{Error, Result};
use hashbrown::HashSet;
use kelda_resp::parse_i64;
use kelda_store::set::Set;
use kelda_store::txn::{EventClasses, Key, Removal, Txn, View};
use kelda_store::value::Value;
use kelda_store::{Limits, Str};
use std::borrow::Cow;
use std::cmp::Reverse;

const BASE: Command = Command { group: Group::Set, ..Command::BASE };
const FAST: Flags = Flags::FAST;
const GROWING: Flags = Flags::FAST.and(Flags::DENYOOM);
const STORE_KEYS: &[Keys] = &[Keys::at(1).overwrite(), Keys::range(2, -1, 1).read()];
const INTERSECTION_COST: &str = "O(N*M), N the size of the smallest set, M the number of sets";
const TOTAL_COST: &str = "O(N) in the size of all sets together";

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "SADD",
        arity: -3,
        keys: &[Keys::at(1).insert()],
        flags: GROWING,
        syntax: "key member [member ...]",
        summary: "Adds members to a set and tells how many are new.",
        complexity: "O(N) in the number of members added",
        run: Run::Write(sadd),
        ..BASE
    },
    Command {
        name: "SREM",
        arity: -3,
        keys: &[Keys::at(1).delete()],
        flags: FAST,
        syntax: "key member [member ...]",
        summary: "Removes members; a set without members is gone.",
        complexity: "O(N) in the number of members named",
        run: Run::Write(srem),
        ..BASE
    },
    Command {
        name: "SMEMBERS",
        arity: 2,
        keys: &[Keys::at(1).read()],
        syntax: "key",
        summary: "Returns all members of a set.",
        complexity: "O(N) in the size of the set",
        tips: &["nondeterministic_output_order"],
        run: Run::Read(smembers),
        ..BASE
    },
    Command {
        name: "SISMEMBER",
        arity: 3,
        keys: &[Keys::at(1).look()],
        flags: FAST,
        syntax: "key member",
        summary: "Tells whether a set has a member.",
        run: Run::Read(sismember),
        ..BASE
    },
    Command {
        name: "SMISMEMBER",
        arity: -3,
        keys: &[Keys::at(1).read()],
        flags: FAST,
        since: "6.2.0",
        syntax: "key member [member ...]",
        summary: "Tells of each of several members whether a set has it.",
        complexity: "O(N) in the number of members named",
        run: Run::Read(smismember),
        ..BASE
    },
    Command {
        name: "SCARD",
        arity: 2,
        keys: &[Keys::at(1).look()],
        flags: FAST,
        syntax: "key",
        summary: "Counts the members of a set.",
        run: Run::Read(scard),
        ..BASE
    },
    Command {
        name: "SPOP",
        arity: -2,
        keys: &[Keys::at(1).take()],
        flags: FAST,
        syntax: "key [count]",
        summary: "Takes random members out of a set and returns them.",
        complexity: "O(N) in the number of members taken",
        tips: &["nondeterministic_output"],
        run: Run::Write(spop),
        ..BASE
    },
    Command {
        name: "SRANDMEMBER",
        arity: -2,
        keys: &[Keys::at(1).read()],
        syntax: "key [count]",
        summary: "Returns random members of a set: `count` different ones, or -`count` draws.",
        complexity: "O(N) in the number of members returned",
        tips: &["nondeterministic_output"],
        run: Run::Read(srandmember),
        ..BASE
    },
    Command {
        name: "SMOVE",
        arity: 4,
        keys: &[Keys::at(1).take(), Keys::at(2).insert()],
        flags: FAST,
        syntax: "source destination member",
        summary: "Moves a member from one set to another.",
        run: Run::Write(smove),
        ..BASE
    },
    Command {
        name: "SINTER",
        arity: -2,
        keys: &[Keys::range(1, -1, 1).read()],
        syntax: "key [key ...]",
        summary: "Returns the members that all of the sets have.",
        complexity: INTERSECTION_COST,
        tips: &["nondeterministic_output_order"],
        run: Run::Read(sinter),
        ..BASE
    },
    Command {
        name: "SINTERCARD",
        arity: -3,
        keys: &[Keys::numkeys(1).read()],
        since: "7.0.0",
        syntax: "numkeys key [key ...] [LIMIT limit/integer]",
        summary: "Counts the members that all of the sets have, up to a limit.",
        complexity: INTERSECTION_COST,
        run: Run::Read(sintercard),
        ..BASE
    },
    Command {
        name: "SUNIONCARD",
        arity: -3,
        keys: &[Keys::numkeys(1).read()],
        since: "8.10.0",
        syntax: "numkeys key [key ...] [APPROX] [LIMIT limit/integer]",
        summary: "Counts the members that any of the sets has, up to a limit.",
        complexity: TOTAL_COST,
        run: Run::Read(sunioncard),
        ..BASE
    },
    Command {
        name: "SDIFFCARD",
        arity: -3,
        keys: &[Keys::numkeys(1).read()],
        since: "8.10.0",
        syntax: "numkeys key [key ...] [LIMIT limit/integer]",
        summary: "Counts the members of the first set that none of the others has, up to a limit.",
        complexity: TOTAL_COST,
        run: Run::Read(sdiffcard),
        ..BASE
    },
    Command {
        name: "SINTERSTORE",
        arity: -3,
        keys: STORE_KEYS,
        flags: Flags::DENYOOM,
        syntax: "destination key [key ...]",
        summary: "Stores the members that all of the sets have in a set.",
        complexity: INTERSECTION_COST,
        run: Run::Write(sinterstore),
        ..BASE
    },
    Command {
        name: "SUNION",
        arity: -2,
        keys: &[Keys::range(1, -1, 1).read()],
        syntax: "key [key ...]",
        summary: "Returns the members that any of the sets has.",
        complexity: TOTAL_COST,
        tips: &["nondeterministic_output_order"],
        run: Run::Read(sunion),
        ..BASE
    },
    Command {
        name: "SUNIONSTORE",
        arity: -3,
        keys: STORE_KEYS,
        flags: Flags::DENYOOM,
        syntax: "destination key [key ...]",
        summary: "Stores the members that any of the sets has in a set.",
        complexity: TOTAL_COST,
        run: Run::Write(sunionstore),
        ..BASE
    },
    Command {
        name: "SDIFF",
        arity: -2,
        keys: &[Keys::range(1, -1, 1).read()],
        syntax: "key [key ...]",
        summary: "Returns the members of the first set that none of the others has.",
        complexity: TOTAL_COST,
        tips: &["nondeterministic_output_order"],
        run: Run::Read(sdiff),
        ..BASE
    },
    Command {
        name: "SDIFFSTORE",
        arity: -3,
        keys: STORE_KEYS,
        flags: Flags::DENYOOM,
        syntax: "destination key [key ...]",
        summary: "Stores the members of the first set that none of the others has in a set.",
        complexity: TOTAL_COST,
        run: Run::Write(sdiffstore),
        ..BASE
    },
    Command {
        name: "SSCAN",
        arity: -3,
        keys: &[Keys::at(1).read()],
        since: "2.8.0",
        syntax: "key cursor [MATCH pattern] [COUNT count]",
        summary: "Goes through the members of a set in steps.",
        complexity: "O(1) for every call, O(N) for a whole iteration",
        tips: &["nondeterministic_output"],
        run: Run::Read(sscan),
        ..BASE
    },
];

fn sadd(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let members = args.from(2);
    let mut set = txn.edit_or_new::<Set>(args.key(1))?;
    set.reserve(&args[2], members.len());
    let added = members.iter().filter(|member| set.add(member)).count();
    if added > 0 {
        set.event(EventClasses::SET, "sadd");
    }
    reply.int(added as i64);
    Ok(())
}

fn srem(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let mut removed = 0;
    if let Some(mut set) = txn.edit::<Set>(args.key(1))? {
        removed = args.from(2).iter().filter(|member| set.remove(member)).count();
        if removed > 0 {
            set.event(EventClasses::SET, "srem");
        }
    }
    reply.int(removed as i64);
    Ok(())
}

/// Writes all members of a set.
fn write_set(reply: &mut Reply, set: &Set) {
    reply.set(set.len());
    set.iter().for_each(|member| write_str(reply, member));
}

fn smembers(view: &View, args: &Args, reply: &mut Reply) -> Result {
    match view.set(args.key(1))? {
        Some(set) => write_set(reply, set),
        None => reply.set(0),
    }
    Ok(())
}

fn sismember(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let set = view.set(args.key(1))?;
    reply.int(i64::from(set.is_some_and(|set| set.contains(&args[2]))));
    Ok(())
}

fn smismember(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let set = view.set(args.key(1))?;
    let members = args.from(2);
    reply.array(members.len());
    for member in members {
        reply.int(i64::from(set.is_some_and(|set| set.contains(member))));
    }
    Ok(())
}

fn scard(view: &View, args: &Args, reply: &mut Reply) -> Result {
    reply.int(view.set(args.key(1))?.map_or(0, Set::len) as i64);
    Ok(())
}

fn spop(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    if args.len() == 2 {
        let member = match txn.edit::<Set>(key)? {
            Some(mut set) => {
                set.event(EventClasses::SET, "spop");
                set.pop_random()
            }
            None => None,
        };
        match member {
            Some(member) => reply.bulk(&member),
            None => reply.null(),
        }
        return Ok(());
    }
    if args.len() > 3 {
        return Err(Error::Syntax);
    }
    let count = parse_i64(&args[2]).and_then(|count| usize::try_from(count).ok());
    let count = count.ok_or(Error::text("ERR value is out of range, must be positive"))?;
    let len = match txn.edit::<Set>(key)? {
        Some(mut set) if count > 0 => {
            set.event(EventClasses::SET, "spop");
            if count < set.len() {
                reply.set(count);
                // Fewer than there are, so each draw finds one.
                (0..count).filter_map(|_| set.pop_random()).for_each(|member| reply.bulk(&member));
                return Ok(());
            }
            write_set(reply, &set);
            set.len()
        }
        _ => 0,
    };
    if len == 0 {
        reply.set(0);
    } else {
        txn.delete_with_event_as(key, Removal::Implied);
    }
    Ok(())
}

fn srandmember(view: &View, args: &Args, reply: &mut Reply) -> Result {
    if args.len() == 2 {
        match view.set(args.key(1))?.and_then(|set| set.random(view.random())) {
            Some(member) => write_str(reply, member),
            None => reply.null(),
        }
        return Ok(());
    }
    if args.len() > 3 {
        return Err(Error::Syntax);
    }
    let count = parse_count(args, 2)?;
    let Some(set) = view.set(args.key(1))? else {
        reply.array(0);
        return Ok(());
    };
    reply.array(drawn(count, set.len()));
    let write = |member| {
        write_str(reply, member);
        !reply.is_overfull()
    };
    sample(view, count, set.len(), set.iter(), |random| set.random(random), |member| member, write);
    Ok(())
}

fn smove(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let (source, destination, member) = (args.key(1), args.key(2), &args[3]);
    let has = match txn.edit::<Set>(source)? {
        Some(set) => set.contains(member),
        None => {
            reply.int(0);
            return Ok(());
        }
    };
    txn.edit::<Set>(destination)?;
    reply.int(i64::from(has));
    if !has || source.bytes == destination.bytes {
        return Ok(());
    }
    if let Some(mut set) = txn.edit::<Set>(source)? {
        set.remove(member);
        set.event(EventClasses::SET, "srem");
    }
    let mut set = txn.edit_or_new::<Set>(destination)?;
    if set.add(member) {
        set.event(EventClasses::SET, "sadd");
    }
    Ok(())
}

/// The sets at the keys from word `first` on; `None` where there is none.
fn sets<'v>(view: &'v View, args: &Args, first: usize, count: usize) -> Result<Vec<Option<&'v Set>>> {
    let keys = args.from(first).iter().take(count);
    keys.map(|key| Ok(view.set(Key::new(key))?)).collect()
}

/// Calls `f` with each member that all of the sets have, until it says no. From the smallest set on, so that as few
/// members as possible are looked up.
fn intersect(sets: &[Option<&Set>], mut f: impl FnMut(Str) -> bool) {
    /// Members that are looked up at once.
    const AT_ONCE: usize = 24;
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<&Set>>>() else { return };
    sets.sort_by_key(|set| set.len());
    let Some((smallest, others)) = sets.split_first() else { return };
    let mut members = smallest.iter();
    let mut common = Vec::with_capacity(AT_ONCE);
    loop {
        common.extend(members.by_ref().take(AT_ONCE));
        if common.is_empty() {
            return;
        }
        others.iter().for_each(|set| set.retain_common(&mut common));
        if !common.drain(..).all(&mut f) {
            return;
        }
    }
}

/// The members that any of the sets has.
fn unite(sets: &[Option<&Set>], limits: &Limits) -> Set {
    let mut union = Set::new();
    for member in sets.iter().flatten().flat_map(|set| set.iter()) {
        member.with_bytes(|member| union.insert(member, limits));
    }
    union
}

/// The members of the first set that none of the others has.
fn subtract(sets: &[Option<&Set>], limits: &Limits) -> Set {
    let mut difference = Set::new();
    let Some((Some(first), others)) = sets.split_first() else { return difference };
    let mut others: Vec<&Set> = others.iter().copied().flatten().collect();
    let total: usize = others.iter().map(|set| set.len()).sum();
    // Either each member of the first set is looked up in the others, or each of theirs in a copy of the first. A look-up
    // is half as dear as copying and removing.
    if first.len() * (1 + others.len()) / 2 <= first.len() + total {
        // The biggest are the likeliest to have a member.
        others.sort_by_key(|set| Reverse(set.len()));
        for member in first.iter() {
            member.with_bytes(|member| {
                if !others.iter().any(|set| set.contains(member)) {
                    difference.insert(member, limits);
                }
            });
        }
    } else {
        difference = unite(&[Some(first)], limits);
        for member in others.iter().flat_map(|set| set.iter()) {
            member.with_bytes(|member| difference.remove(member));
        }
    }
    difference
}

fn sinter(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let sets = sets(view, args, 1, usize::MAX)?;
    let header = reply.defer();
    let mut count = 0;
    intersect(&sets, |member| {
        write_str(reply, member);
        count += 1;
        true
    });
    reply.end_set(header, count);
    Ok(())
}

fn sunion(view: &View, args: &Args, reply: &mut Reply) -> Result {
    write_set(reply, &unite(&sets(view, args, 1, usize::MAX)?, &view.cx.env.limits));
    Ok(())
}

fn sdiff(view: &View, args: &Args, reply: &mut Reply) -> Result {
    write_set(reply, &subtract(&sets(view, args, 1, usize::MAX)?, &view.cx.env.limits));
    Ok(())
}

/// The arguments `numkeys key … [LIMIT limit]` of SINTERCARD and its like: how many keys, and the limit (0 for none). With
/// `approx`, APPROX is taken, too: it allows to count less exactly than is done here.
fn counted(args: &Args, approx: bool) -> Result<(usize, usize)> {
    let count = parse_i64(&args[1]).and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
    let count = count.ok_or(Error::text("ERR numkeys should be greater than 0"))?;
    if count > args.len() - 2 {
        return Err(Error::text("ERR Number of keys can't be greater than number of args"));
    }
    let mut limit = 0;
    let mut at = 2 + count;
    while at < args.len() {
        if approx && args.is(at, "APPROX") {
            at += 1;
            continue;
        }
        let (true, Some(number)) = (args.is(at, "LIMIT"), args.get(at + 1)) else { return Err(Error::Syntax) };
        let number = parse_i64(number).and_then(|number| usize::try_from(number).ok());
        limit = number.ok_or(Error::text("ERR LIMIT can't be negative"))?;
        at += 2;
    }
    Ok((count, limit))
}

fn sintercard(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let (count, limit) = counted(args, false)?;
    let mut found = 0;
    intersect(&sets(view, args, 2, count)?, |_| {
        found += 1;
        found != limit
    });
    reply.int(found as i64);
    Ok(())
}

fn sunioncard(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let (count, limit) = counted(args, true)?;
    let sets = sets(view, args, 2, count)?;
    let mut found: HashSet<Cow<[u8]>> = HashSet::new();
    for member in sets.iter().flatten().flat_map(|set| set.iter()) {
        found.insert(match member {
            Str::Bytes(bytes) => Cow::Borrowed(bytes),
            Str::Int(_) => Cow::Owned(member.to_vec()),
        });
        if found.len() == limit {
            break;
        }
    }
    reply.int(found.len() as i64);
    Ok(())
}

fn sdiffcard(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let (count, limit) = counted(args, false)?;
    let sets = sets(view, args, 2, count)?;
    let mut found = 0;
    if let Some((Some(first), others)) = sets.split_first() {
        for member in first.iter() {
            let elsewhere = member.with_bytes(|member| others.iter().flatten().any(|set| set.contains(member)));
            found += usize::from(!elsewhere);
            if found == limit && limit != 0 {
                break;
            }
        }
    }
    reply.int(found as i64);
    Ok(())
}

fn sinterstore(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let limits = txn.cx.env.limits;
    let mut result = Set::new();
    intersect(&sets(txn, args, 2, usize::MAX)?, |member| {
        member.with_bytes(|member| result.insert(member, &limits));
        true
    });
    store(txn, args.key(1), result, "sinterstore", reply);
    Ok(())
}

fn sunionstore(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let result = unite(&sets(txn, args, 2, usize::MAX)?, &txn.cx.env.limits);
    store(txn, args.key(1), result, "sunionstore", reply);
    Ok(())
}

fn sdiffstore(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let result = subtract(&sets(txn, args, 2, usize::MAX)?, &txn.cx.env.limits);
    store(txn, args.key(1), result, "sdiffstore", reply);
    Ok(())
}

/// Puts the result of a command at a key, or removes the key if there is none.
fn store(txn: &mut Txn, key: Key, set: Set, event: &'static str, reply: &mut Reply) {
    reply.int(set.len() as i64);
    if set.is_empty() {
        txn.delete_with_event(key);
    } else {
        txn.put(key, Value::Set(set), None);
        txn.event(EventClasses::SET, event, key.bytes);
    }
}

fn sscan(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let cursor = parse_cursor(&args[2])?;
    // The next cursor comes before the members but is known after them.
    let mut members = Reply::new(reply.protocol);
    let (mut next, mut count) = (0, 0);
    if let Some(set) = view.set(args.key(1))? {
        let options = parse_scan_options(args, 3, ScanOf::Set)?;
        next = set.scan(cursor, options.count, |member| {
            if member.with_bytes(|member| options.matches(member)) {
                count += 1;
                write_str(&mut members, member);
            }
        });
    }
    reply.array(2);
    // Cursors within a collection are below 2^32.
    reply.bulk_int(next as i64);
    reply.array(count);
    reply.raw(&members.buf);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{subtract, unite};
    use kelda_store::Limits;
    use kelda_store::set::Set;

    fn limits() -> Limits {
        Limits { set_entries_max: 3, ..Limits::default() }
    }

    fn set(members: &str) -> Set {
        let mut set = Set::new();
        members.split(' ').for_each(|member| {
            set.insert(member.as_bytes(), &limits());
        });
        set
    }

    /// Asked from Valkey with `set-max-listpack-entries 3`.
    #[test]
    fn results_have_the_encoding_of_their_members() {
        let mut ints = set("1 a 7");
        ints.remove(b"a");
        assert_eq!(ints.encoding(), "listpack");
        let mut few = set("1 a 3 b c");
        for member in ["a", "b", "c"] {
            few.remove(member.as_bytes());
        }
        assert_eq!(few.encoding(), "hashtable");
        let big = set("a b c d 1 2 3");
        for (result, want) in [
            (unite(&[Some(&ints)], &limits()), "intset"),
            (subtract(&[Some(&ints), None], &limits()), "intset"),
            (unite(&[Some(&few)], &limits()), "intset"),
            (unite(&[Some(&ints), Some(&set("x"))], &limits()), "listpack"),
            (subtract(&[Some(&set("x 2 y")), Some(&ints)], &limits()), "listpack"),
            (subtract(&[Some(&big), Some(&ints)], &limits()), "hashtable"),
            (subtract(&[Some(&big), Some(&set("a b c d"))], &limits()), "intset"),
        ] {
            assert_eq!(
                result.encoding(),
                want,
                "{:?}",
                result.iter().map(|member| member.to_vec()).collect::<Vec<_>>()
            );
        }
    }
}
