//! ZPOPMIN, ZPOPMAX, ZMPOP, and the forms that wait for a member.

use super::begin_members;
use crate::args::Args;
use crate::command::{Reply, Wait};
use crate::commands::list::{PopFromMany, count_of, timeout_ms, wait_for};
use crate::commands::write_str;
use crate::error::{Error, Result};
use kelda_resp::Protocol;
use kelda_store::txn::{Edit, EventClasses, Txn};
use kelda_store::zset::ZSet;

/// Which members go first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Min,
    Max,
}

impl Side {
    fn of_word(word: &[u8]) -> Option<Side> {
        if word.eq_ignore_ascii_case(b"MIN") {
            Some(Side::Min)
        } else if word.eq_ignore_ascii_case(b"MAX") {
            Some(Side::Max)
        } else {
            None
        }
    }
}

/// Pops up to `count` members and writes them, each as an array of member and score if `nested`. The array around them
/// is the caller's.
fn pop(zset: &mut Edit<ZSet>, side: Side, count: usize, nested: bool, reply: &mut Reply) {
    let first = if side == Side::Min { 0 } else { zset.len().saturating_sub(1) };
    for (member, score) in zset.iter_from_rank(first, side == Side::Max).take(count) {
        if nested {
            reply.array(2);
        }
        write_str(reply, member);
        reply.double(score);
    }
    if zset.pop(side == Side::Max, count) != 0 {
        zset.event(EventClasses::ZSET, if side == Side::Min { "zpopmin" } else { "zpopmax" });
    }
}

pub(super) fn zpopmin(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    pop_from_one(txn, Side::Min, args, reply)
}

pub(super) fn zpopmax(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    pop_from_one(txn, Side::Max, args, reply)
}

fn pop_from_one(txn: &mut Txn, side: Side, args: &Args, reply: &mut Reply) -> Result {
    let count = match args.len() {
        2 => None,
        3 => Some(count_of(args, 2)?),
        _ => return Err(Error::Syntax),
    };
    match (txn.edit::<ZSet>(args.key(1))?, count) {
        (None, _) => reply.array(0),
        (Some(mut zset), None) => {
            reply.array(2);
            pop(&mut zset, side, 1, false, reply);
        }
        (Some(mut zset), Some(count)) => {
            begin_members(reply, count.min(zset.len()), true);
            pop(&mut zset, side, count, reply.protocol == Protocol::Resp3, reply);
        }
    }
    Ok(())
}

pub(super) fn zmpop(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let from = PopFromMany::parse(args, 1, Side::of_word)?;
    if !pop_from_first(txn, args, &from, reply)? {
        reply.null_array();
    }
    Ok(())
}

pub(super) fn bzmpop(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result<Wait> {
    let from = PopFromMany::parse(args, 2, Side::of_word)?;
    let timeout_ms = timeout_ms(&args[1])?;
    if pop_from_first(txn, args, &from, reply)? {
        return Ok(Wait::Done);
    }
    Ok(wait_for(from.first, from.keys, timeout_ms))
}

/// Pops from the first sorted set that there is, and writes its key and an array of members with their scores; `false`
/// when there is none.
fn pop_from_first(txn: &mut Txn, args: &Args, from: &PopFromMany<Side>, reply: &mut Reply) -> Result<bool> {
    for index in from.first..from.first + from.keys {
        if let Some(mut zset) = txn.edit::<ZSet>(args.key(index))? {
            reply.array(2);
            reply.bulk(&args[index]);
            reply.array(from.count.min(zset.len()));
            pop(&mut zset, from.side, from.count, true, reply);
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn bzpopmin(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result<Wait> {
    pop_or_wait(txn, Side::Min, args, reply)
}

pub(super) fn bzpopmax(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result<Wait> {
    pop_or_wait(txn, Side::Max, args, reply)
}

fn pop_or_wait(txn: &mut Txn, side: Side, args: &Args, reply: &mut Reply) -> Result<Wait> {
    let last = args.len() - 1;
    let timeout_ms = timeout_ms(&args[last])?;
    for index in 1..last {
        if let Some(mut zset) = txn.edit::<ZSet>(args.key(index))? {
            reply.array(3);
            reply.bulk(&args[index]);
            pop(&mut zset, side, 1, false, reply);
            return Ok(Wait::Done);
        }
    }
    Ok(wait_for(1, last - 1, timeout_ms))
}
