//! The list family: LPUSH, LPOP, LRANGE and the others, with the forms that wait for an element (BLPOP …).

pub mod movem;

use super::write_str;
use crate::args::Args;
use crate::command::{Command, Flags, Group, Keys, Nothing, Reply, Run, Wait};
use crate::error::{Error, Result};
use kelda_resp::long_double::LongDouble;
use kelda_resp::number;
use kelda_store::list::{End, List};
use kelda_store::txn::{Edit, EventClasses, Key, Txn, View};

const BASE: Command = Command { group: Group::List, ..Command::BASE };
const GROWS: Flags = Flags::DENYOOM;
const GROWS_FAST: Flags = Flags::DENYOOM.and(Flags::FAST);

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "LPUSH",
        arity: -3,
        keys: &[Keys::at(1).insert()],
        flags: GROWS_FAST,
        syntax: "key element [element ...]",
        summary: "Adds elements at the head of a list, which is made if it is not there.",
        complexity: "O(N) in the number of elements added",
        run: Run::Write(lpush),
        ..BASE
    },
    Command {
        name: "RPUSH",
        arity: -3,
        keys: &[Keys::at(1).insert()],
        flags: GROWS_FAST,
        syntax: "key element [element ...]",
        summary: "Adds elements at the tail of a list, which is made if it is not there.",
        complexity: "O(N) in the number of elements added",
        run: Run::Write(rpush),
        ..BASE
    },
    Command {
        name: "LPUSHX",
        arity: -3,
        keys: &[Keys::at(1).insert()],
        flags: GROWS_FAST,
        since: "2.2.0",
        syntax: "key element [element ...]",
        summary: "Adds elements at the head of a list if there is one.",
        complexity: "O(N) in the number of elements added",
        run: Run::Write(lpushx),
        ..BASE
    },
    Command {
        name: "RPUSHX",
        arity: -3,
        keys: &[Keys::at(1).insert()],
        flags: GROWS_FAST,
        since: "2.2.0",
        syntax: "key element [element ...]",
        summary: "Adds elements at the tail of a list if there is one.",
        complexity: "O(N) in the number of elements added",
        run: Run::Write(rpushx),
        ..BASE
    },
    Command {
        name: "LPOP",
        arity: -2,
        keys: &[Keys::at(1).take()],
        flags: Flags::FAST,
        syntax: "key [count]",
        summary: "Takes elements off the head of a list.",
        complexity: "O(N) in the number of elements taken",
        run: Run::Write(lpop),
        ..BASE
    },
    Command {
        name: "RPOP",
        arity: -2,
        keys: &[Keys::at(1).take()],
        flags: Flags::FAST,
        syntax: "key [count]",
        summary: "Takes elements off the tail of a list.",
        complexity: "O(N) in the number of elements taken",
        run: Run::Write(rpop),
        ..BASE
    },
    Command {
        name: "LLEN",
        arity: 2,
        keys: &[Keys::at(1).look()],
        flags: Flags::FAST,
        syntax: "key",
        summary: "Tells the length of a list.",
        run: Run::Read(llen),
        ..BASE
    },
    Command {
        name: "LINDEX",
        arity: 3,
        keys: &[Keys::at(1).read()],
        syntax: "key index",
        summary: "Returns the element at an index; negative indexes count from the tail.",
        complexity: "O(N) in the distance from the nearer end, counted in chunks",
        run: Run::Read(lindex),
        ..BASE
    },
    Command {
        name: "LSET",
        arity: 4,
        keys: &[Keys::at(1).update()],
        flags: GROWS,
        syntax: "key index element",
        summary: "Replaces the element at an index.",
        complexity: "O(N) in the distance from the nearer end, counted in chunks",
        run: Run::Write(lset),
        ..BASE
    },
    Command {
        name: "LINSERT",
        arity: 5,
        keys: &[Keys::at(1).insert()],
        flags: GROWS,
        since: "2.2.0",
        syntax: "key where:<BEFORE | AFTER> pivot element",
        summary: "Puts an element beside the first that equals the pivot.",
        complexity: "O(N) in the distance of the pivot from the head",
        run: Run::Write(linsert),
        ..BASE
    },
    Command {
        name: "LRANGE",
        arity: 4,
        keys: &[Keys::at(1).read()],
        syntax: "key start stop",
        summary: "Returns the elements between two indexes, both included.",
        complexity: "O(S+N): S the distance of the first element from the nearer end in chunks, N the elements returned",
        is_small: Some(asks_for_few),
        run: Run::Read(lrange),
        ..BASE
    },
    Command {
        name: "LREM",
        arity: 4,
        keys: &[Keys::at(1).delete()],
        syntax: "key count element",
        summary: "Removes elements of one value, from the head or, with a negative count, from the tail.",
        complexity: "O(N+M): N the length of the list, M the elements removed",
        run: Run::Write(lrem),
        ..BASE
    },
    Command {
        name: "LTRIM",
        arity: 4,
        keys: &[Keys::at(1).delete()],
        syntax: "key start stop",
        summary: "Removes all elements but those between two indexes.",
        complexity: "O(N) in the number of elements removed",
        run: Run::Write(ltrim),
        ..BASE
    },
    Command {
        name: "LPOS",
        arity: -3,
        keys: &[Keys::at(1).read()],
        since: "6.0.6",
        syntax: "key element [RANK rank] [COUNT num-matches] [MAXLEN len]",
        summary: "Finds the indexes of elements of one value.",
        complexity: "O(N) in the number of elements compared",
        run: Run::Read(lpos),
        ..BASE
    },
    Command {
        name: "LMOVE",
        arity: 5,
        keys: &[Keys::at(1).take(), Keys::at(2).insert()],
        flags: GROWS,
        since: "6.2.0",
        syntax: "source destination wherefrom:<LEFT | RIGHT> whereto:<LEFT | RIGHT>",
        summary: "Moves an element from an end of one list to an end of another, and returns it.",
        run: Run::Write(lmove),
        ..BASE
    },
    Command {
        name: "RPOPLPUSH",
        arity: 3,
        keys: &[Keys::at(1).take(), Keys::at(2).insert()],
        flags: GROWS,
        since: "1.2.0",
        syntax: "source destination",
        summary: "Moves the last element of a list to the head of another, and returns it.",
        run: Run::Write(rpoplpush),
        ..BASE
    },
    Command {
        name: "LMPOP",
        arity: -4,
        keys: &[Keys::numkeys(1).take()],
        since: "7.0.0",
        syntax: "numkeys key [key ...] where:<LEFT | RIGHT> [COUNT count]",
        summary: "Takes elements off an end of the first of several lists that has any.",
        complexity: "O(N+M): N the keys named, M the elements taken",
        run: Run::Write(lmpop),
        ..BASE
    },
    Command {
        name: "BLPOP",
        arity: -3,
        keys: &[Keys::range(1, -2, 1).take()],
        since: "2.0.0",
        syntax: "key [key ...] timeout",
        summary: "Takes the first element of the first of several lists that has one, and waits for one if none has.",
        complexity: "O(N) in the number of keys",
        run: Run::Wait(blpop),
        ..BASE
    },
    Command {
        name: "BRPOP",
        arity: -3,
        keys: &[Keys::range(1, -2, 1).take()],
        since: "2.0.0",
        syntax: "key [key ...] timeout",
        summary: "Takes the last element of the first of several lists that has one, and waits for one if none has.",
        complexity: "O(N) in the number of keys",
        run: Run::Wait(brpop),
        ..BASE
    },
    Command {
        name: "BLMOVE",
        arity: 6,
        keys: &[Keys::at(1).take(), Keys::at(2).insert()],
        flags: GROWS,
        since: "6.2.0",
        syntax: "source destination wherefrom:<LEFT | RIGHT> whereto:<LEFT | RIGHT> timeout",
        summary: "Moves an element from one list to another as LMOVE does, and waits for one if there is none.",
        run: Run::Wait(blmove),
        ..BASE
    },
    Command {
        name: "BRPOPLPUSH",
        arity: 4,
        keys: &[Keys::at(1).take(), Keys::at(2).insert()],
        flags: GROWS,
        since: "2.2.0",
        syntax: "source destination timeout",
        summary: "Moves the last element of a list to the head of another, and waits for one if there is none.",
        run: Run::Wait(brpoplpush),
        ..BASE
    },
    Command {
        name: "BLMPOP",
        arity: -5,
        keys: &[Keys::numkeys(2).take()],
        since: "7.0.0",
        syntax: "timeout numkeys key [key ...] where:<LEFT | RIGHT> [COUNT count]",
        summary: "Takes elements off the first of several lists that has any as LMPOP does, and waits for one if none has.",
        complexity: "O(N+M): N the keys named, M the elements taken",
        run: Run::Wait(blmpop),
        ..BASE
    },
];

fn lpush(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let list = txn.edit_or_new(args.key(1))?;
    push(list, End::Front, args, reply)
}

fn rpush(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let list = txn.edit_or_new(args.key(1))?;
    push(list, End::Back, args, reply)
}

fn lpushx(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    push_to_existing(txn, End::Front, args, reply)
}

fn rpushx(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    push_to_existing(txn, End::Back, args, reply)
}

fn push_to_existing(txn: &mut Txn, end: End, args: &Args, reply: &mut Reply) -> Result {
    match txn.edit(args.key(1))? {
        Some(list) => push(list, end, args, reply),
        None => {
            reply.int(0);
            Ok(())
        }
    }
}

fn push(mut list: Edit<List>, end: End, args: &Args, reply: &mut Reply) -> Result {
    list.push_all(end, args.from(2));
    list.event(EventClasses::LIST, push_event(end));
    reply.int(list.len() as i64);
    Ok(())
}

fn push_event(end: End) -> &'static str {
    match end {
        End::Front => "lpush",
        End::Back => "rpush",
    }
}

fn pop_event(end: End) -> &'static str {
    match end {
        End::Front => "lpop",
        End::Back => "rpop",
    }
}

fn lpop(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    pop(txn, End::Front, args, reply)
}

fn rpop(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    pop(txn, End::Back, args, reply)
}

fn pop(txn: &mut Txn, end: End, args: &Args, reply: &mut Reply) -> Result {
    let count = match args.len() {
        2 => None,
        3 => Some(count_of(args, 2)?),
        _ => return Err(Error::Arity(pop_event(end).into())),
    };
    let list = txn.edit::<List>(args.key(1))?;
    match (list, count) {
        (None, None) => reply.null(),
        (None, Some(_)) => reply.null_array(),
        (Some(mut list), None) => pop_one(&mut list, end, reply),
        (Some(_), Some(0)) => reply.array(0),
        (Some(mut list), Some(count)) => pop_some(&mut list, end, count, reply),
    }
    Ok(())
}

/// A number of elements to pop: zero or more.
pub(super) fn count_of(args: &Args, index: usize) -> Result<usize> {
    at_least(args, index, 0, "ERR value is out of range, must be positive")
}

/// The word as an integer that is `min` or more, or else an error of this text.
pub(super) fn at_least(args: &Args, index: usize, min: i64, otherwise: &'static str) -> Result<usize> {
    args.get(index)
        .and_then(number::parse_i64)
        .filter(|number| *number >= min)
        .and_then(|number| usize::try_from(number).ok())
        .ok_or(Error::text(otherwise))
}

/// The word as an integer whose negative is one too: a count whose sign is a direction.
pub(super) fn signed_count(args: &Args, index: usize) -> Result<i64> {
    match args.int(index)? {
        i64::MIN => Err(Error::text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        )),
        count => Ok(count),
    }
}

/// Pops one element and writes it; a list in the keyspace has one.
fn pop_one(list: &mut Edit<List>, end: End, reply: &mut Reply) {
    if let Some(item) = list.pop(end) {
        reply.bulk(&item);
        list.event(EventClasses::LIST, pop_event(end));
    }
}

/// Pops up to `count` elements and writes them as an array.
fn pop_some(list: &mut Edit<List>, end: End, count: usize, reply: &mut Reply) {
    reply.array(count.min(list.len()));
    list.pop_many(end, count, |item| write_str(reply, item));
    list.event(EventClasses::LIST, pop_event(end));
}

fn llen(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let len = view.list(args.key(1))?.map_or(0, List::len);
    reply.int(len as i64);
    Ok(())
}

/// The place that an index means, if it is within `len`.
fn place(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add(len as i64)? } else { index };
    usize::try_from(index).ok().filter(|place| *place < len)
}

/// The places between two indexes, both included: the first, and the one behind the last.
pub(super) fn places(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let from_end = |index: i64| if index < 0 { index.saturating_add(len as i64) } else { index };
    let start = usize::try_from(from_end(start).max(0)).unwrap_or(usize::MAX);
    // One behind `stop`; a stop before the first element gives zero.
    let end = usize::try_from(from_end(stop).saturating_add(1).max(0)).unwrap_or(usize::MAX).min(len);
    if start < end { (start, end) } else { (0, 0) }
}

/// Whether the words `command key start stop`, perhaps with WITHSCORES, ask for few elements near the beginning.
pub(super) fn asks_for_few(words: &[&[u8]]) -> bool {
    /// Places from the beginning.
    const FEW: u64 = 128;
    let (start, stop) = match words {
        [_, _, start, stop] => (start, stop),
        [_, _, start, stop, option] if option.eq_ignore_ascii_case(b"WITHSCORES") => (start, stop),
        _ => return false,
    };
    [start, stop].into_iter().all(|text| number::parse_u64(text).is_some_and(|place| place < FEW))
}

fn lindex(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let Some(list) = view.list(args.key(1))? else {
        reply.null();
        return Ok(());
    };
    match place(args.int(2)?, list.len()).and_then(|place| list.get(place)) {
        Some(item) => write_str(reply, item),
        None => reply.null(),
    }
    Ok(())
}

fn lset(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let mut list = txn.edit::<List>(args.key(1))?.ok_or(Error::NoSuchKey)?;
    let place = place(args.int(2)?, list.len()).ok_or(Error::text("ERR index out of range"))?;
    list.replace(place, &args[3]);
    list.event(EventClasses::LIST, "lset");
    reply.ok();
    Ok(())
}

fn linsert(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let after = args.is(2, "AFTER");
    if !after && !args.is(2, "BEFORE") {
        return Err(Error::Syntax);
    }
    let Some(mut list) = txn.edit::<List>(args.key(1))? else {
        reply.int(0);
        return Ok(());
    };
    if list.insert_beside(&args[3], after, &args[4]).is_some() {
        list.event(EventClasses::LIST, "linsert");
        reply.int(list.len() as i64);
    } else {
        reply.int(-1);
    }
    Ok(())
}

fn lrange(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let (start, stop) = (args.int(2)?, args.int(3)?);
    let Some(list) = view.list(args.key(1))? else {
        reply.array(0);
        return Ok(());
    };
    let (start, end) = places(start, stop, list.len());
    reply.array(end - start);
    for item in list.iter_from(start).take(end - start) {
        write_str(reply, item);
    }
    Ok(())
}

fn lrem(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let count = signed_count(args, 2)?;
    let Some(mut list) = txn.edit::<List>(args.key(1))? else {
        reply.int(0);
        return Ok(());
    };
    let max = if count == 0 { usize::MAX } else { usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX) };
    let removed = list.remove_equal(&args[3], max, if count < 0 { End::Back } else { End::Front });
    if removed != 0 {
        list.event(EventClasses::LIST, "lrem");
    }
    reply.int(removed as i64);
    Ok(())
}

fn ltrim(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let (start, stop) = (args.int(2)?, args.int(3)?);
    if let Some(mut list) = txn.edit::<List>(args.key(1))? {
        let (start, end) = places(start, stop, list.len());
        if end - start < list.len() {
            list.keep_range(start, end);
        }
        list.event(EventClasses::LIST, "ltrim");
    }
    reply.ok();
    Ok(())
}

/// The options of LPOS.
struct Search {
    /// Which match is the first that counts, 1-based.
    rank: u64,
    /// From where the search goes.
    from: End,
    /// Matches wanted, `None` for one that is not put into an array; 0 for all.
    count: Option<usize>,
    /// Elements compared at most; 0 for all.
    max_compared: usize,
}

impl Search {
    fn parse(args: &Args) -> Result<Search> {
        let mut search = Search { rank: 1, from: End::Front, count: None, max_compared: 0 };
        for option in (3..args.len()).step_by(2) {
            let value = option + 1;
            if value == args.len() {
                return Err(Error::Syntax);
            } else if args.is(option, "RANK") {
                let rank = signed_count(args, value)?;
                search.rank = rank.unsigned_abs();
                search.from = if rank < 0 { End::Back } else { End::Front };
                if rank == 0 {
                    return Err(Error::text(
                        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use \
                         negative to start from the end of the list",
                    ));
                }
            } else if args.is(option, "COUNT") {
                search.count = Some(at_least(args, value, 0, "ERR COUNT can't be negative")?);
            } else if args.is(option, "MAXLEN") {
                search.max_compared = at_least(args, value, 0, "ERR MAXLEN can't be negative")?;
            } else {
                return Err(Error::Syntax);
            }
        }
        Ok(search)
    }
}

fn lpos(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let search = Search::parse(args)?;
    let no_bound = |max: usize| if max == 0 { usize::MAX } else { max };
    let compared = no_bound(search.max_compared);
    let wanted = no_bound(search.count.unwrap_or(1));
    let skipped = usize::try_from(search.rank - 1).unwrap_or(usize::MAX);
    let element = &args[2];
    let found: Vec<usize> = match (view.list(args.key(1))?, search.from) {
        (None, _) => Vec::new(),
        (Some(list), End::Front) => list
            .iter()
            .enumerate()
            .take(compared)
            .filter(|(_, item)| item.eq_bytes(element))
            .map(|(place, _)| place)
            .skip(skipped)
            .take(wanted)
            .collect(),
        (Some(list), End::Back) => list
            .iter_rev()
            .zip((0..list.len()).rev())
            .take(compared)
            .filter(|(item, _)| item.eq_bytes(element))
            .map(|(_, place)| place)
            .skip(skipped)
            .take(wanted)
            .collect(),
    };
    if search.count.is_some() {
        reply.array(found.len());
        found.iter().for_each(|place| reply.int(*place as i64));
    } else {
        match found.first() {
            Some(place) => reply.int(*place as i64),
            None => reply.null(),
        }
    }
    Ok(())
}

/// LEFT or RIGHT.
fn end_of(word: &[u8]) -> Option<End> {
    if word.eq_ignore_ascii_case(b"LEFT") {
        Some(End::Front)
    } else if word.eq_ignore_ascii_case(b"RIGHT") {
        Some(End::Back)
    } else {
        None
    }
}

fn lmove(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let (from, to) = ends(args)?;
    move_or_null(txn, args, from, to, reply)
}

fn rpoplpush(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    move_or_null(txn, args, End::Back, End::Front, reply)
}

/// The two ends that LMOVE and BLMOVE name.
fn ends(args: &Args) -> Result<(End, End)> {
    end_of(&args[3]).zip(end_of(&args[4])).ok_or(Error::Syntax)
}

fn move_or_null(txn: &mut Txn, args: &Args, from: End, to: End, reply: &mut Reply) -> Result {
    if !move_one(txn, args.key(1), args.key(2), from, to, reply)? {
        reply.null();
    }
    Ok(())
}

/// Moves one element and writes it; `false` when there is none.
fn move_one(txn: &mut Txn, source: Key, destination: Key, from: End, to: End, reply: &mut Reply) -> Result<bool> {
    let Some(mut list) = txn.edit::<List>(source)? else { return Ok(false) };
    if source.bytes == destination.bytes {
        if let Some(item) = list.pop(from) {
            list.push(to, &item);
            reply.bulk(&item);
            list.event(EventClasses::LIST, push_event(to));
            list.event(EventClasses::LIST, pop_event(from));
            drop(list);
            count_as_one(txn);
        }
        return Ok(true);
    }
    let last = list.len().saturating_sub(1);
    let Some(item) = list.get(if from == End::Front { 0 } else { last }).map(|item| item.to_vec()) else {
        return Ok(false);
    };
    drop(list);
    // Added before it is removed, in the order in which Redis tells of the two.
    let mut list = txn.edit_or_new::<List>(destination)?;
    list.push(to, &item);
    list.event(EventClasses::LIST, push_event(to));
    drop(list);
    if let Some(mut list) = txn.edit::<List>(source)? {
        list.pop(from);
        list.event(EventClasses::LIST, pop_event(from));
    }
    count_as_one(txn);
    reply.bulk(&item);
    Ok(true)
}

/// Taking an element off and adding it is one change in `rdb_changes_since_last_save`.
fn count_as_one(txn: &mut Txn) {
    txn.cx().dirty -= 1;
}

/// The arguments `numkeys key … side [COUNT count]` of LMPOP, ZMPOP and their blocking forms.
pub(super) struct PopFromMany<S> {
    /// First word that is a key.
    pub first: usize,
    /// Number of keys.
    pub keys: usize,
    /// Which elements.
    pub side: S,
    /// How many at most.
    pub count: usize,
}

impl<S> PopFromMany<S> {
    /// Parses the arguments from the word `numkeys` at `index` on.
    pub fn parse(args: &Args, index: usize, side: fn(&[u8]) -> Option<S>) -> Result<PopFromMany<S>> {
        let keys = at_least(args, index, 1, "ERR numkeys should be greater than 0")?;
        let first = index + 1;
        let place = first.checked_add(keys).filter(|place| *place < args.len()).ok_or(Error::Syntax)?;
        let side = side(&args[place]).ok_or(Error::Syntax)?;
        let count = match args.len() - place {
            1 => 1,
            3.. if args.is(place + 1, "COUNT") => at_least(args, place + 2, 1, "ERR count should be greater than 0")?,
            _ => return Err(Error::Syntax),
        };
        if args.len() - place > 3 {
            return Err(Error::Syntax);
        }
        Ok(PopFromMany { first, keys, side, count })
    }
}

fn lmpop(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let from = PopFromMany::parse(args, 1, end_of)?;
    if !pop_from_first(txn, args, &from, reply)? {
        reply.null_array();
    }
    Ok(())
}

fn blmpop(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result<Wait> {
    let from = PopFromMany::parse(args, 2, end_of)?;
    let timeout_ms = timeout_ms(&args[1])?;
    if pop_from_first(txn, args, &from, reply)? {
        return Ok(Wait::Done);
    }
    Ok(wait_for(from.first, from.keys, timeout_ms))
}

/// Pops from the first list that there is, and writes its key and an array of the elements; `false` when there is none.
fn pop_from_first(txn: &mut Txn, args: &Args, from: &PopFromMany<End>, reply: &mut Reply) -> Result<bool> {
    for index in from.first..from.first + from.keys {
        if let Some(mut list) = txn.edit::<List>(args.key(index))? {
            reply.array(2);
            reply.bulk(&args[index]);
            pop_some(&mut list, from.side, from.count, reply);
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a blocking pop comes to when none of its keys has anything.
pub(super) fn wait_for(first: usize, keys: usize, timeout_ms: u64) -> Wait {
    Wait::On { keys: (first, keys), timeout_ms, otherwise: Nothing::NullArray, errors_end_it: false }
}

fn blpop(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result<Wait> {
    pop_or_wait(txn, End::Front, args, reply)
}

fn brpop(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result<Wait> {
    pop_or_wait(txn, End::Back, args, reply)
}

fn pop_or_wait(txn: &mut Txn, end: End, args: &Args, reply: &mut Reply) -> Result<Wait> {
    let last = args.len() - 1;
    let timeout_ms = timeout_ms(&args[last])?;
    for index in 1..last {
        if let Some(mut list) = txn.edit::<List>(args.key(index))? {
            reply.array(2);
            reply.bulk(&args[index]);
            pop_one(&mut list, end, reply);
            return Ok(Wait::Done);
        }
    }
    Ok(wait_for(1, last - 1, timeout_ms))
}

fn blmove(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result<Wait> {
    let (from, to) = ends(args)?;
    move_or_wait(txn, args, from, to, 5, reply)
}

fn brpoplpush(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result<Wait> {
    move_or_wait(txn, args, End::Back, End::Front, 3, reply)
}

fn move_or_wait(txn: &mut Txn, args: &Args, from: End, to: End, timeout: usize, reply: &mut Reply) -> Result<Wait> {
    let timeout_ms = timeout_ms(&args[timeout])?;
    if move_one(txn, args.key(1), args.key(2), from, to, reply)? {
        return Ok(Wait::Done);
    }
    Ok(Wait::On { keys: (1, 1), timeout_ms, otherwise: Nothing::Null, errors_end_it: false })
}

/// The timeout of a blocking command in ms, from its text in seconds; 0 for ever.
pub(super) fn timeout_ms(text: &[u8]) -> Result<u64> {
    const NOT_A_FLOAT: Error = Error::text("ERR timeout is not a float or out of range");
    const OUT_OF_RANGE: Error = Error::text("ERR timeout is out of range");
    let Some(seconds) = number::parse_f64(text) else {
        // Redis reads a long double: a number too large for a double is a number out of range.
        return Err(if LongDouble::parse(text).is_some() { OUT_OF_RANGE } else { NOT_A_FLOAT });
    };
    let ms = (seconds * 1000.0).ceil();
    if ms >= i64::MAX as f64 {
        Err(OUT_OF_RANGE)
    } else if ms < 0.0 {
        Err(Error::text("ERR timeout is negative"))
    } else {
        Ok(ms as u64)
    }
}
