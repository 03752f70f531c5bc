//! HyperLogLog: counting different elements approximately, in a string of at most 12 KiB.

mod sketch;

use crate::args::Args;
use crate::command::{Access, Command, Flags, Group, Keys, Reply, Run};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use kelda_store::Str;
use kelda_store::txn::{EventClasses, Key, Ttl, Txn};
use sketch::{COUNT_AT, Corrupt, REGISTERS, Sketch, SketchBuf, estimate, place, self_test};

const BASE: Command = Command { group: Group::HyperLogLog, since: "2.8.9", ..Command::BASE };

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "PFADD",
        arity: -2,
        keys: &[Keys::at(1).insert()],
        flags: Flags::DENYOOM.and(Flags::FAST),
        syntax: "key [element ...]",
        summary: "Adds elements to a HyperLogLog, which is made if it is not there.",
        complexity: "O(1) for each element",
        run: Run::Write(pfadd),
        ..BASE
    },
    Command {
        name: "PFCOUNT",
        arity: -2,
        keys: &[Keys::range(1, -1, 1).with(Access::RW.and(Access::ACCESS))],
        // It writes down what it counted.
        flags: Flags::READONLY.and(Flags::MAY_REPLICATE),
        syntax: "key [key ...]",
        summary: "Counts, approximately, the different elements added to one HyperLogLog or several together.",
        complexity: "O(1) with one key that did not change since it was last counted, else O(N): N the keys",
        run: Run::Write(pfcount),
        ..BASE
    },
    Command {
        name: "PFMERGE",
        arity: -2,
        keys: &[Keys::at(1).with(Access::RW.and(Access::ACCESS).and(Access::INSERT)), Keys::range(2, -1, 1).read()],
        flags: Flags::DENYOOM,
        syntax: "destkey [sourcekey ...]",
        summary: "Adds the elements of several HyperLogLogs to one.",
        complexity: "O(N): N the sources",
        run: Run::Write(pfmerge),
        ..BASE
    },
    Command {
        name: "PFDEBUG",
        arity: 3,
        keys: &[Keys::at(2).with(Access::RW.and(Access::ACCESS))],
        flags: Flags::DENYOOM.and(Flags::ADMIN).and(Flags::INTERNAL),
        syntax: "subcommand key",
        summary: "Shows the inside of a HyperLogLog.",
        complexity: "O(1)",
        run: Run::Write(pfdebug),
        ..BASE
    },
    Command {
        name: "PFSELFTEST",
        arity: 1,
        flags: Flags::ADMIN.and(Flags::INTERNAL),
        summary: "Checks that HyperLogLogs count well.",
        complexity: "O(1)",
        run: Run::Session(pfselftest),
        ..BASE
    },
];

impl From<Corrupt> for Error {
    fn from(_: Corrupt) -> Error {
        Error::text("INVALIDOBJ Corrupted HLL object detected")
    }
}

/// The sketch in a string, if there is one.
fn sketch_in(text: Option<Str<'_>>) -> Result<Option<Sketch<'_>>> {
    let sketch = match text {
        None => return Ok(None),
        Some(Str::Bytes(bytes)) => Sketch::parse(bytes),
        Some(Str::Int(_)) => None,
    };
    sketch.map(Some).ok_or(Error::text("WRONGTYPE Key is not a valid HyperLogLog string value."))
}

/// Puts a sketch at a key, by a change of no more bytes than differ where a SETRANGE can make it.
fn write(txn: &mut Txn, key: Key, sketch: &SketchBuf) -> Result {
    let new = sketch.sketch().bytes();
    let old = txn.peek_string(key)?.map_or(Vec::new(), |text| text.to_vec());
    if old.len() > new.len() {
        txn.set_string(key, new, Ttl::Keep);
        return Ok(());
    }
    let same = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let same_end = match old.len() == new.len() {
        true => old[same..].iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count(),
        false => 0,
    };
    // Where nothing differs, watches are told all the same.
    let from = same.min(new.len() - 1);
    let to = (new.len() - same_end).max(from + 1);
    txn.set_range(key, from, &new[from..to])?;
    Ok(())
}

fn pfadd(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let (key, elements) = (args.key(1), args.from(2));
    let found = sketch_in(txn.peek_string(key)?)?;
    let added = match found {
        Some(sketch) if sketch.is_dense() => add_to_dense(txn, key, elements)?,
        _ => {
            let sparse_bytes_max = txn.cx.env.limits.hll_sparse_bytes_max;
            let mut added = found.is_none();
            let mut sketch = found.map_or_else(SketchBuf::new, SketchBuf::of);
            for element in elements {
                let (index, rank) = place(element);
                added |= sketch.raise(index, rank, sparse_bytes_max)?;
            }
            if added {
                sketch.mark_stale();
                write(txn, key, &sketch)?;
            }
            added
        }
    };
    if added {
        txn.event(EventClasses::STRING, "pfadd", key.bytes);
    }
    reply.int(i64::from(added));
    Ok(())
}

/// Adds elements to a dense sketch where it lies. Whether anything changed.
fn add_to_dense(txn: &mut Txn, key: Key, elements: &[&[u8]]) -> Result<bool> {
    let mut added = false;
    for element in elements {
        let (index, rank) = place(element);
        let change = sketch_in(txn.peek_string(key)?)?.and_then(|sketch| sketch.dense_change(index, rank));
        if let Some((at, bytes)) = change {
            txn.set_range(key, at, &bytes)?;
            added = true;
        }
    }
    let mark = sketch_in(txn.peek_string(key)?)?.map(Sketch::stale_mark);
    if let (true, Some((false, at, byte))) = (added, mark) {
        txn.set_range(key, at, &[byte])?;
    }
    Ok(added)
}

fn pfcount(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    if args.len() > 2 {
        let mut registers = [0; REGISTERS];
        for index in 1..args.len() {
            if let Some(sketch) = sketch_in(txn.string(args.key(index))?)? {
                sketch.merge_into(&mut registers)?;
            }
        }
        reply.int(estimate(&registers) as i64);
        return Ok(());
    }
    let (count, counted) = match sketch_in(txn.string(key)?)? {
        None => (0, true),
        Some(sketch) => match sketch.counted() {
            Some(count) => (count, true),
            None => (estimate(&sketch.registers()?), false),
        },
    };
    if !counted {
        txn.set_range(key, COUNT_AT, &count.to_le_bytes())?;
    }
    reply.int(count as i64);
    Ok(())
}

fn pfmerge(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    let mut registers = [0; REGISTERS];
    let mut dense = false;
    for index in 1..args.len() {
        if let Some(sketch) = sketch_in(txn.string(args.key(index))?)? {
            dense |= sketch.is_dense();
            sketch.merge_into(&mut registers)?;
        }
    }
    let mut sketch = sketch_in(txn.peek_string(key)?)?.map_or_else(SketchBuf::new, SketchBuf::of);
    if dense {
        sketch.set_dense(&registers);
    } else {
        let sparse_bytes_max = txn.cx.env.limits.hll_sparse_bytes_max;
        for (index, rank) in registers.iter().enumerate().filter(|(_, rank)| **rank != 0) {
            sketch.raise(index, *rank, sparse_bytes_max)?;
        }
    }
    sketch.mark_stale();
    write(txn, key, &sketch)?;
    txn.event(EventClasses::STRING, "pfadd", key.bytes);
    reply.ok();
    Ok(())
}

fn pfdebug(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    if args.is(1, "SIMD") {
        // Valkey's switch between two ways of computing the same; there is but one here.
        let on = args.is(2, "ON");
        if !on && !args.is(2, "OFF") {
            return Err(Error::text("ERR Argument must be ON or OFF"));
        }
        reply.status(if on { "enabled" } else { "disabled" });
        return Ok(());
    }
    let key = args.key(2);
    let Some(sketch) = sketch_in(txn.peek_string(key)?)? else {
        return Err(Error::text("ERR The specified key does not exist"));
    };
    if args.is(1, "ENCODING") {
        reply.status(if sketch.is_dense() { "dense" } else { "sparse" });
    } else if args.is(1, "DECODE") {
        let text = sketch.runs_text().ok_or(Error::text("ERR HLL encoding is not sparse"))?;
        reply.bulk(text.as_bytes());
    } else if args.is(1, "GETREG") || args.is(1, "TODENSE") {
        let registers = sketch.registers()?;
        let converts = !sketch.is_dense();
        if converts {
            let mut sketch = SketchBuf::of(sketch);
            sketch.make_dense()?;
            write(txn, key, &sketch)?;
        }
        if args.is(1, "TODENSE") {
            reply.int(i64::from(converts));
        } else {
            reply.array(REGISTERS);
            registers.iter().for_each(|rank| reply.int(i64::from(*rank)));
        }
    } else {
        let name = String::from_utf8_lossy(&args[1]);
        return Err(Error::owned(format!("ERR Unknown PFDEBUG subcommand '{name}'")));
    }
    Ok(())
}

fn pfselftest(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    let sparse_bytes_max = ctx.worker.settings.limits.hll_sparse_bytes_max;
    // Another seed each time, as far as the clock tells.
    let seed = ctx.worker.now_us() as u64;
    self_test(seed, sparse_bytes_max).map_err(|what| Error::owned(format!("ERR {what}")))?;
    reply.ok();
    Ok(())
}
