//! ZUNION, ZINTER, ZDIFF, ZINTERCARD, and the forms that store the result. Sets take part as sorted sets whose scores
//! are all 1.

use super::{store, write_members};
use crate::args::Args;
use crate::command::Reply;
use crate::commands::list::at_least;
use crate::error::{Error, Result};
use hashbrown::HashMap;
use kelda_resp::number;
use kelda_store::set::Set;
use kelda_store::txn::{Txn, View};
use kelda_store::value::ValueRef;
use kelda_store::zset::ZSet;
use kelda_store::{Limits, Str};
use std::borrow::Cow;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

/// What is done with the result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Return,
    Store,
    Count,
}

/// How the scores of one member are put together.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
    /// The sum of the weights, whatever the scores.
    Count,
}

impl Aggregate {
    fn of_word(word: &[u8]) -> Option<Aggregate> {
        if word.eq_ignore_ascii_case(b"SUM") {
            Some(Aggregate::Sum)
        } else if word.eq_ignore_ascii_case(b"MIN") {
            Some(Aggregate::Min)
        } else if word.eq_ignore_ascii_case(b"MAX") {
            Some(Aggregate::Max)
        } else if word.eq_ignore_ascii_case(b"COUNT") {
            Some(Aggregate::Count)
        } else {
            None
        }
    }

    /// What an input adds to the score of a member of its.
    fn weighted(self, score: f64, weight: f64) -> f64 {
        match self {
            Aggregate::Count => weight,
            Aggregate::Sum | Aggregate::Min | Aggregate::Max => score * weight,
        }
    }

    /// One score of two. Opposite infinities make a sum of 0.
    fn of(self, so_far: f64, score: f64) -> f64 {
        match self {
            Aggregate::Sum | Aggregate::Count => number_or_zero(so_far + score),
            Aggregate::Min => {
                if score < so_far {
                    score
                } else {
                    so_far
                }
            }
            Aggregate::Max => {
                if score > so_far {
                    score
                } else {
                    so_far
                }
            }
        }
    }
}

/// What is no number, such as infinity × 0, counts as 0.
fn number_or_zero(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// One input.
#[derive(Clone, Copy)]
enum Members<'v> {
    None,
    Set(&'v Set),
    ZSet(&'v ZSet),
}

impl<'v> Members<'v> {
    fn len(self) -> usize {
        match self {
            Members::None => 0,
            Members::Set(set) => set.len(),
            Members::ZSet(zset) => zset.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Members::None => None,
            Members::Set(set) => set.contains(member).then_some(1.0),
            Members::ZSet(zset) => zset.score(member),
        }
    }

    fn iter(self) -> Box<dyn Iterator<Item = (Str<'v>, f64)> + 'v> {
        match self {
            Members::None => Box::new(std::iter::empty()),
            Members::Set(set) => Box::new(set.iter().map(|member| (member, 1.0))),
            Members::ZSet(zset) => Box::new(zset.iter()),
        }
    }
}

struct Input<'v> {
    members: Members<'v>,
    weight: f64,
}

/// A command of the family: its inputs and options.
struct Combination<'v> {
    operation: Operation,
    inputs: Vec<Input<'v>>,
    aggregate: Aggregate,
    with_scores: bool,
    /// LIMIT of ZINTERCARD; 0 for none.
    limit: usize,
}

impl<'v> Combination<'v> {
    /// Parses `numkeys key … option…` from the word at `numkeys` on.
    fn parse(
        view: &'v View,
        args: &Args,
        numkeys: usize,
        operation: Operation,
        purpose: Purpose,
    ) -> Result<Combination<'v>> {
        let keys = args.int(numkeys)?;
        if keys < 1 {
            let name = args[0].to_ascii_lowercase();
            let name = String::from_utf8_lossy(&name);
            return Err(Error::owned(format!("ERR at least 1 input key is needed for '{name}' command")));
        }
        let first = numkeys + 1;
        let options = usize::try_from(keys).ok().and_then(|keys| first.checked_add(keys));
        let options = options.filter(|end| *end <= args.len()).ok_or(Error::Syntax)?;
        let mut inputs = Vec::with_capacity(options - first);
        for index in first..options {
            let members = match view.get(args.key(index)).map(|entry| entry.value()) {
                None => Members::None,
                Some(ValueRef::Set(set)) => Members::Set(set),
                Some(ValueRef::ZSet(zset)) => Members::ZSet(zset),
                Some(_) => return Err(Error::WrongType),
            };
            inputs.push(Input { members, weight: 1.0 });
        }
        let mut combination =
            Combination { operation, inputs, aggregate: Aggregate::Sum, with_scores: false, limit: 0 };
        combination.parse_options(args, options, purpose)?;
        if operation != Operation::Diff {
            // The smallest leads. A stable order, so that sums of floating-point numbers come out as Redis's.
            combination.inputs.sort_by_key(|input| input.members.len());
        }
        Ok(combination)
    }

    fn parse_options(&mut self, args: &Args, mut at: usize, purpose: Purpose) -> Result {
        let aggregates = self.operation != Operation::Diff && purpose != Purpose::Count;
        while at < args.len() {
            let left = args.len() - at - 1;
            if aggregates && left >= self.inputs.len() && args.is(at, "WEIGHTS") {
                for input in &mut self.inputs {
                    at += 1;
                    input.weight =
                        number::parse_f64(&args[at]).ok_or(Error::text("ERR weight value is not a float"))?;
                }
            } else if aggregates && left >= 1 && args.is(at, "AGGREGATE") {
                at += 1;
                self.aggregate = Aggregate::of_word(&args[at]).ok_or(Error::Syntax)?;
            } else if purpose == Purpose::Return && args.is(at, "WITHSCORES") {
                self.with_scores = true;
            } else if purpose == Purpose::Count && left >= 1 && args.is(at, "LIMIT") {
                at += 1;
                self.limit = at_least(args, at, 0, "ERR LIMIT can't be negative")?;
            } else {
                return Err(Error::Syntax);
            }
            at += 1;
        }
        Ok(())
    }

    /// The result as a sorted set.
    fn result(&self, limits: &Limits) -> ZSet {
        let mut pairs = Vec::new();
        match self.operation {
            Operation::Union => {
                let scores = self.union();
                pairs.extend(scores.iter().map(|(member, score)| (Str::Bytes(member), *score)));
                return ZSet::from_distinct(pairs, limits);
            }
            Operation::Inter => self.each_common(|member, score| {
                pairs.push((member, score));
                true
            }),
            Operation::Diff => {
                let Some((first, others)) = self.inputs.split_first() else { return ZSet::new() };
                let is_elsewhere = |member: &[u8]| others.iter().any(|other| other.members.score(member).is_some());
                pairs.extend(first.members.iter().filter(|(member, _)| !member.with_bytes(is_elsewhere)));
            }
        }
        ZSet::from_distinct(pairs, limits)
    }

    /// The members of all inputs with their scores.
    fn union(&self) -> HashMap<Cow<'v, [u8]>, f64> {
        let largest = self.inputs.last().map_or(0, |input| input.members.len());
        let mut scores: HashMap<Cow<[u8]>, f64> = HashMap::with_capacity(largest);
        for input in &self.inputs {
            for (member, score) in input.members.iter() {
                let score = number_or_zero(self.aggregate.weighted(score, input.weight));
                let member = match member {
                    Str::Bytes(member) => Cow::Borrowed(member),
                    Str::Int(_) => Cow::Owned(member.to_vec()),
                };
                let so_far = scores.entry(member);
                so_far.and_modify(|so_far| *so_far = self.aggregate.of(*so_far, score)).or_insert(score);
            }
        }
        scores
    }

    /// Calls `f` with each member that all inputs have and its score, until it says `false`.
    fn each_common(&self, mut f: impl FnMut(Str<'v>, f64) -> bool) {
        let Some((first, others)) = self.inputs.split_first() else { return };
        for (member, score) in first.members.iter() {
            let common = member.with_bytes(|member| {
                others.iter().try_fold(number_or_zero(self.aggregate.weighted(score, first.weight)), |so_far, other| {
                    let score = self.aggregate.weighted(other.members.score(member)?, other.weight);
                    Some(self.aggregate.of(so_far, score))
                })
            });
            if let Some(score) = common
                && !f(member, score)
            {
                return;
            }
        }
    }
}

fn answer(view: &View, args: &Args, operation: Operation, reply: &mut Reply) -> Result {
    let combination = Combination::parse(view, args, 1, operation, Purpose::Return)?;
    let result = combination.result(&view.cx.env.limits);
    write_members(reply, result.len(), result.iter(), combination.with_scores);
    Ok(())
}

pub(super) fn zunion(view: &View, args: &Args, reply: &mut Reply) -> Result {
    answer(view, args, Operation::Union, reply)
}

pub(super) fn zinter(view: &View, args: &Args, reply: &mut Reply) -> Result {
    answer(view, args, Operation::Inter, reply)
}

pub(super) fn zdiff(view: &View, args: &Args, reply: &mut Reply) -> Result {
    answer(view, args, Operation::Diff, reply)
}

pub(super) fn zintercard(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let combination = Combination::parse(view, args, 1, Operation::Inter, Purpose::Count)?;
    let mut count = 0;
    combination.each_common(|_, _| {
        count += 1;
        count != combination.limit
    });
    reply.int(count as i64);
    Ok(())
}

fn store_result(txn: &mut Txn, args: &Args, operation: Operation, event: &'static str, reply: &mut Reply) -> Result {
    let result = Combination::parse(txn, args, 2, operation, Purpose::Store)?.result(&txn.cx.env.limits);
    store(txn, args.key(1), result, event, reply);
    Ok(())
}

pub(super) fn zunionstore(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    store_result(txn, args, Operation::Union, "zunionstore", reply)
}

pub(super) fn zinterstore(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    store_result(txn, args, Operation::Inter, "zinterstore", reply)
}

pub(super) fn zdiffstore(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    store_result(txn, args, Operation::Diff, "zdiffstore", reply)
}
