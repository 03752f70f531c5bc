//! Ranges of ranks, scores and texts: ZRANGE and its older forms, ZRANGESTORE, ZREMRANGEBY….
//!
//! Every range comes down to a range of ascending ranks; direction and LIMIT are arithmetic on it.

use super::{begin_members, store, write_member};
use crate::args::Args;
use crate::command::Reply;
use crate::commands::list::places;
use crate::commands::write_str;
use crate::error::{Error, Result};
use kelda_resp::number;
use kelda_store::txn::{EventClasses, Txn, View};
use kelda_store::zset::{Bound, LexBound, LexRange, ScoreRange, ZSet};

/// What the ends of a range are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// A range of members.
enum Range<'a> {
    /// From one rank to another, both included; negative ones count from the end.
    Rank(i64, i64),
    Score(ScoreRange),
    Lex(LexRange<'a>),
}

impl<'a> Range<'a> {
    fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Range<'a>> {
        let int = |text| number::parse_i64(text).ok_or(Error::NotInteger);
        Ok(match by {
            By::Rank => Range::Rank(int(min)?, int(max)?),
            By::Score => Range::Score(parse_score_range(min, max)?),
            By::Lex => Range::Lex(parse_lex_range(min, max)?),
        })
    }

    /// The ascending ranks of its members: the first, and the one behind the last. Ranks given count in the direction
    /// of the range.
    fn ranks(&self, zset: &ZSet, reverse: bool) -> (usize, usize) {
        let len = zset.len();
        match self {
            Range::Rank(start, stop) => {
                let (start, end) = places(*start, *stop, len);
                if reverse { (len - end, len - start) } else { (start, end) }
            }
            Range::Score(range) => zset.rank_range(range),
            Range::Lex(range) => zset.lex_rank_range(range),
        }
    }
}

/// Parses the ends of a range of scores.
pub(super) fn parse_score_range(min: &[u8], max: &[u8]) -> Result<ScoreRange> {
    score_bound(min)
        .zip(score_bound(max))
        .map(|(min, max)| ScoreRange { min, max })
        .ok_or(Error::text("ERR min or max is not a float"))
}

fn score_bound(text: &[u8]) -> Option<Bound> {
    match text {
        [b'(', text @ ..] => bound_number(text).map(Bound::Exclusive),
        _ => bound_number(text).map(Bound::Inclusive),
    }
}

/// The number of a bound, by rules more liberal than those of scores: an empty text is 0, blanks may come first, and what
/// overflows is infinite.
fn bound_number(text: &[u8]) -> Option<f64> {
    if text.is_empty() {
        return Some(0.0);
    }
    let text = text.trim_ascii_start();
    number::parse_f64(text).or_else(|| {
        let rounded: f64 = str::from_utf8(text).ok()?.parse().ok()?;
        (!rounded.is_nan()).then_some(rounded)
    })
}

/// Parses the ends of a range of texts.
pub(super) fn parse_lex_range<'a>(min: &'a [u8], max: &'a [u8]) -> Result<LexRange<'a>> {
    lex_bound(min)
        .zip(lex_bound(max))
        .map(|(min, max)| LexRange { min, max })
        .ok_or(Error::text("ERR min or max not valid string range item"))
}

fn lex_bound(text: &[u8]) -> Option<LexBound<'_>> {
    match text {
        b"-" => Some(LexBound::Lowest),
        b"+" => Some(LexBound::Highest),
        [b'[', member @ ..] => Some(LexBound::Inclusive(member)),
        [b'(', member @ ..] => Some(LexBound::Exclusive(member)),
        _ => None,
    }
}

/// What a command of the ZRANGE kind asks for.
struct Query<'a> {
    range: Range<'a>,
    reverse: bool,
    /// LIMIT: how many to pass over, and how many at most, all of them if negative.
    limit: Option<(i64, i64)>,
    with_scores: bool,
}

/// What the name of a command of the ZRANGE kind says already; `None` where an option says it.
struct Named {
    by: Option<By>,
    reverse: Option<bool>,
    /// Whether WITHSCORES is an option.
    returns: bool,
}

impl<'a> Query<'a> {
    /// Parses `key start stop option…` from the key on.
    fn parse(args: &'a Args<'a>, key: usize, named: &Named) -> Result<Query<'a>> {
        let (mut by, mut reverse) = (named.by, named.reverse);
        let (mut limit, mut with_scores) = (None, false);
        let mut at = key + 3;
        while at < args.len() {
            if named.returns && args.is(at, "WITHSCORES") {
                with_scores = true;
            } else if args.is(at, "LIMIT") && at + 2 < args.len() {
                limit = Some((args.int(at + 1)?, args.int(at + 2)?));
                at += 2;
            } else if reverse.is_none() && args.is(at, "REV") {
                reverse = Some(true);
            } else if by.is_none() && args.is(at, "BYSCORE") {
                by = Some(By::Score);
            } else if by.is_none() && args.is(at, "BYLEX") {
                by = Some(By::Lex);
            } else {
                return Err(Error::Syntax);
            }
            at += 1;
        }
        let (by, reverse) = (by.unwrap_or(By::Rank), reverse.unwrap_or(false));
        // A LIMIT of all is no limit, even where none is allowed.
        if by == By::Rank && limit.is_some_and(|(_, count)| count != -1) {
            return Err(Error::text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if by == By::Lex && with_scores {
            return Err(Error::text("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        let (first, second) = (&args[key + 1], &args[key + 2]);
        let (min, max) = if reverse && by != By::Rank { (second, first) } else { (first, second) };
        let limit = limit.filter(|_| by != By::Rank);
        Ok(Query { range: Range::parse(by, min, max)?, reverse, limit, with_scores })
    }

    /// The rank of the first of the members that it asks for, in its order, and how many they are.
    fn members(&self, zset: &ZSet) -> (usize, usize) {
        let (start, end) = self.range.ranks(zset, self.reverse);
        let found = end - start;
        let (skipped, count) = match self.limit {
            None => (0, found),
            Some((offset, count)) => {
                let skipped = usize::try_from(offset).unwrap_or(found).min(found);
                (skipped, usize::try_from(count).unwrap_or(usize::MAX).min(found - skipped))
            }
        };
        // Where nothing is taken it does not matter from which rank.
        let first = if self.reverse { end.saturating_sub(1 + skipped) } else { start + skipped };
        (first, count)
    }
}

fn answer(view: &View, args: &Args, by: Option<By>, reverse: Option<bool>, reply: &mut Reply) -> Result {
    let query = Query::parse(args, 1, &Named { by, reverse, returns: true })?;
    match view.zset(args.key(1))? {
        Some(zset) => {
            let (first, count) = query.members(zset);
            begin_members(reply, count, query.with_scores);
            if query.with_scores {
                zset.for_each_from_rank(first, query.reverse, count, |pair| write_member(reply, pair, true));
            } else {
                zset.for_each_from_rank(first, query.reverse, count, |(member, _)| write_str(reply, member));
            }
        }
        None => reply.array(0),
    }
    Ok(())
}

pub(super) fn zrange(view: &View, args: &Args, reply: &mut Reply) -> Result {
    answer(view, args, None, None, reply)
}

pub(super) fn zrevrange(view: &View, args: &Args, reply: &mut Reply) -> Result {
    answer(view, args, Some(By::Rank), Some(true), reply)
}

pub(super) fn zrangebyscore(view: &View, args: &Args, reply: &mut Reply) -> Result {
    answer(view, args, Some(By::Score), Some(false), reply)
}

pub(super) fn zrevrangebyscore(view: &View, args: &Args, reply: &mut Reply) -> Result {
    answer(view, args, Some(By::Score), Some(true), reply)
}

pub(super) fn zrangebylex(view: &View, args: &Args, reply: &mut Reply) -> Result {
    answer(view, args, Some(By::Lex), Some(false), reply)
}

pub(super) fn zrevrangebylex(view: &View, args: &Args, reply: &mut Reply) -> Result {
    answer(view, args, Some(By::Lex), Some(true), reply)
}

pub(super) fn zrangestore(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let query = Query::parse(args, 2, &Named { by: None, reverse: None, returns: false })?;
    let limits = txn.cx.env.limits;
    let mut result = ZSet::new();
    if let Some(zset) = txn.zset(args.key(2))? {
        let (first, count) = query.members(zset);
        zset.for_each_from_rank(first, query.reverse, count, |(member, score)| {
            member.with_bytes(|member| result.insert(member, score, &limits));
        });
    }
    store(txn, args.key(1), result, "zrangestore", reply);
    Ok(())
}

pub(super) fn zremrangebyrank(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    remove(txn, args, By::Rank, "zremrangebyrank", reply)
}

pub(super) fn zremrangebyscore(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    remove(txn, args, By::Score, "zremrangebyscore", reply)
}

pub(super) fn zremrangebylex(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    remove(txn, args, By::Lex, "zremrangebylex", reply)
}

fn remove(txn: &mut Txn, args: &Args, by: By, event: &'static str, reply: &mut Reply) -> Result {
    let range = Range::parse(by, &args[2], &args[3])?;
    let mut removed = 0;
    if let Some(mut zset) = txn.edit::<ZSet>(args.key(1))? {
        let (start, end) = range.ranks(&zset, false);
        removed = zset.remove_ranks(start, end);
        if removed != 0 {
            zset.event(EventClasses::ZSET, event);
        }
    }
    reply.int(removed as i64);
    Ok(())
}
