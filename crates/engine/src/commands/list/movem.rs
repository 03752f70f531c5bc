//! LMOVEM and BLMOVEM: several elements from an end of one list to an end of another.

use super::{BASE, GROWS, at_least, end_of, pop_event, push_event, timeout_ms};
use crate::args::Args;
use crate::command::{Command, Keys, Nothing, Reply, Run, Wait};
use crate::error::{Error, Result};
use kelda_store::list::{End, List};
use kelda_store::txn::{EventClasses, Txn};

const MOVER: Command = Command {
    keys: &[Keys::at(1).take(), Keys::at(2).insert()],
    flags: GROWS,
    since: "8.10.0",
    complexity: "O(N) in the number of elements moved",
    ..BASE
};

/// The commands.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "LMOVEM",
        arity: -5,
        syntax: "source destination wherefrom:<LEFT | RIGHT> whereto:<LEFT | RIGHT> how-many:[selector:<COUNT count/integer | EXACTLY exactly/integer> ordering:<OBO | BULK>]",
        summary: "Moves elements, at most or exactly so many, from an end of one list to an end of another, and returns them.",
        run: Run::Write(lmovem),
        ..MOVER
    },
    Command {
        name: "BLMOVEM",
        arity: -6,
        syntax: "source destination wherefrom:<LEFT | RIGHT> whereto:<LEFT | RIGHT> timeout/double how-many:[selector:<COUNT count/integer | EXACTLY exactly/integer> ordering:<OBO | BULK>]",
        summary: "Moves elements from one list to another as LMOVEM does, and waits until there are enough.",
        run: Run::Wait(blmovem),
        ..MOVER
    },
];

/// What is to be moved.
struct Move {
    from: End,
    to: End,
    count: usize,
    /// Fewer than `count` are not moved.
    exactly: bool,
    /// The elements go one by one: from and to the same end, the last comes to lie outermost.
    one_by_one: bool,
}

impl Move {
    /// Parses the two ends, and how many elements from the word at `how_many` on.
    fn parse(args: &Args, how_many: usize) -> Result<Move> {
        let (from, to) = end_of(&args[3]).zip(end_of(&args[4])).ok_or(Error::Syntax)?;
        let mut of = Move { from, to, count: 1, exactly: false, one_by_one: false };
        if args.len() == how_many {
            return Ok(of);
        }
        of.exactly = args.is(how_many, "EXACTLY");
        of.one_by_one = args.is(how_many + 2, "OBO");
        let selects = of.exactly || args.is(how_many, "COUNT");
        if args.len() != how_many + 3 || !selects || !of.one_by_one && !args.is(how_many + 2, "BULK") {
            return Err(Error::Syntax);
        }
        of.count = at_least(args, how_many + 1, 1, "ERR count should be greater than 0")?;
        Ok(of)
    }

    /// Moves the elements and writes them as they lie in the destination; `false` if there are too few.
    fn run(&self, txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result<bool> {
        let (source, destination) = (args.key(1), args.key(2));
        let Some(list) = txn.edit::<List>(source)? else { return Ok(false) };
        if self.exactly && list.len() < self.count {
            return Ok(false);
        }
        let count = self.count.min(list.len());
        let first = if self.from == End::Front { 0 } else { list.len() - count };
        let mut items: Vec<Vec<u8>> = list.iter_from(first).take(count).map(|item| item.to_vec()).collect();
        drop(list);
        if self.one_by_one && self.from == self.to {
            items.reverse();
        }
        let same = source.bytes == destination.bytes;
        // Added before they are removed, in the order in which Redis tells of the two; of one list, the other way round.
        let mut into = txn.edit_or_new::<List>(destination)?;
        if same {
            into.pop_many(self.from, count, |_| {});
        }
        let mut pushed: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
        if self.to == End::Front {
            pushed.reverse();
        }
        into.push_all(self.to, &pushed);
        into.event(EventClasses::LIST, push_event(self.to));
        if same {
            into.event(EventClasses::LIST, pop_event(self.from));
        }
        drop(into);
        if !same && let Some(mut from) = txn.edit::<List>(source)? {
            from.pop_many(self.from, count, |_| {});
            from.event(EventClasses::LIST, pop_event(self.from));
        }
        // Taking elements off and adding them is one change each in `rdb_changes_since_last_save`.
        txn.cx().dirty -= count as u64;
        reply.array(items.len());
        items.iter().for_each(|item| reply.bulk(item));
        Ok(true)
    }
}

fn lmovem(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let of = Move::parse(args, 5)?;
    if !of.run(txn, args, reply)? {
        reply.null_array();
    }
    Ok(())
}

fn blmovem(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result<Wait> {
    let of = Move::parse(args, 6)?;
    let timeout_ms = timeout_ms(&args[5])?;
    if of.run(txn, args, reply)? {
        return Ok(Wait::Done);
    }
    Ok(Wait::On { keys: (1, 1), timeout_ms, otherwise: Nothing::NullArray, errors_end_it: false })
}
