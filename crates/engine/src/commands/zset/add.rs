//! ZADD, ZINCRBY, ZREM.

use crate::args::Args;
use crate::command::Reply;
use crate::error::{Error, Result};
use kelda_resp::number;
use kelda_store::txn::{Edit, EventClasses, Key, Txn};
use kelda_store::zset::ZSet;
use smallvec::SmallVec;

/// The options of ZADD.
#[derive(Default)]
pub struct Options {
    /// NX: only new members.
    pub only_new: bool,
    /// XX: only members that are there.
    pub only_old: bool,
    /// GT: no lower score.
    only_greater: bool,
    /// LT: no higher score.
    only_less: bool,
    /// CH: count changed members too.
    pub count_changed: bool,
    /// INCR: add to the score.
    increment: bool,
}

impl Options {
    /// Parses the options, and gives the index of the first score.
    fn parse(args: &Args) -> Result<(Options, usize)> {
        let mut options = Options::default();
        let mut at = 2;
        loop {
            match args.get(at) {
                Some(word) if word.eq_ignore_ascii_case(b"NX") => options.only_new = true,
                Some(word) if word.eq_ignore_ascii_case(b"XX") => options.only_old = true,
                Some(word) if word.eq_ignore_ascii_case(b"GT") => options.only_greater = true,
                Some(word) if word.eq_ignore_ascii_case(b"LT") => options.only_less = true,
                Some(word) if word.eq_ignore_ascii_case(b"CH") => options.count_changed = true,
                Some(word) if word.eq_ignore_ascii_case(b"INCR") => options.increment = true,
                _ => break,
            }
            at += 1;
        }
        let words = args.from(at).len();
        if words == 0 || !words.is_multiple_of(2) {
            return Err(Error::Syntax);
        }
        if options.only_new && options.only_old {
            return Err(Error::text("ERR XX and NX options at the same time are not compatible"));
        }
        let exclusive = [options.only_new, options.only_greater, options.only_less];
        if exclusive.iter().filter(|on| **on).count() > 1 {
            return Err(Error::text("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if options.increment && words > 2 {
            return Err(Error::text("ERR INCR option supports a single increment-element pair"));
        }
        Ok((options, at))
    }

    /// Whether a member is just given its score, whatever it had.
    fn is_plain(&self) -> bool {
        let Options { only_new, only_old, only_greater, only_less, count_changed: _, increment } = self;
        !(*only_new || *only_old || *only_greater || *only_less || *increment)
    }
}

/// What became of one member.
enum Outcome {
    Added(f64),
    Updated(f64),
    /// It has this score already.
    Same(f64),
    /// The options forbid it.
    Refused,
}

/// Gives one member its score as the options say.
fn put(zset: &mut Edit<ZSet>, member: &[u8], score: f64, options: &Options) -> Result<Outcome> {
    if options.is_plain() && zset.soonest().is_none() {
        return Ok(match zset.put(member, score) {
            None => Outcome::Added(score),
            Some(old) if old == score => Outcome::Same(old),
            Some(_) => Outcome::Updated(score),
        });
    }
    let Some(old) = zset.score(member) else {
        if options.only_old {
            return Ok(Outcome::Refused);
        }
        zset.put(member, score);
        return Ok(Outcome::Added(score));
    };
    if options.only_new {
        return Ok(Outcome::Refused);
    }
    let score = if options.increment { old + score } else { score };
    if score.is_nan() {
        return Err(Error::text("ERR resulting score is not a number (NaN)"));
    }
    if options.only_greater && score <= old || options.only_less && score >= old {
        return Ok(Outcome::Refused);
    }
    if options.increment {
        // What is added to stays; only a member that is written anew lives for ever.
        if score != old {
            zset.put_keeping_expiry(member, score);
            return Ok(Outcome::Updated(score));
        }
    } else if score != old || zset.expiry(member).is_some() {
        zset.put(member, score);
        if score != old {
            return Ok(Outcome::Updated(score));
        }
    }
    Ok(Outcome::Same(old))
}

pub(super) fn zadd(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let (options, first) = Options::parse(args)?;
    let mut pairs: SmallVec<[(f64, &[u8]); 4]> = SmallVec::with_capacity(args.from(first).len() / 2);
    for at in (first..args.len()).step_by(2) {
        pairs.push((args.float(at)?, &args[at + 1]));
    }
    add(txn, args.key(1), &options, &pairs, reply)
}

/// Gives members their scores as the options say, and replies as ZADD does.
pub fn add(txn: &mut Txn, key: Key, options: &Options, pairs: &[(f64, &[u8])], reply: &mut Reply) -> Result {
    let zset = if options.only_old { txn.edit(key)? } else { Some(txn.edit_or_new(key)?) };
    let (mut added, mut updated) = (0, 0);
    let mut score = None;
    if let Some(mut zset) = zset {
        for &(wanted, member) in pairs {
            match put(&mut zset, member, wanted, options)? {
                Outcome::Added(now) => {
                    added += 1;
                    score = Some(now);
                }
                Outcome::Updated(now) => {
                    updated += 1;
                    score = Some(now);
                }
                Outcome::Same(now) => score = Some(now),
                Outcome::Refused => {}
            }
        }
        if added + updated != 0 {
            zset.event(EventClasses::ZSET, if options.increment { "zincr" } else { "zadd" });
        }
    }
    match (options.increment, score) {
        (true, Some(score)) => reply.double(score),
        (true, None) => reply.null(),
        (false, _) => reply.int(if options.count_changed { added + updated } else { added }),
    }
    Ok(())
}

pub(super) fn zincrby(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let increment = number::parse_f64(&args[2]).ok_or(Error::NotFloat)?;
    let mut zset = txn.edit_or_new::<ZSet>(args.key(1))?;
    let options = Options { increment: true, ..Options::default() };
    match put(&mut zset, &args[3], increment, &options)? {
        Outcome::Added(score) | Outcome::Updated(score) => {
            zset.event(EventClasses::ZSET, "zincr");
            reply.double(score);
        }
        Outcome::Same(score) => reply.double(score),
        // No option forbids anything here.
        Outcome::Refused => reply.null(),
    }
    Ok(())
}

pub(super) fn zrem(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let mut removed = 0;
    if let Some(mut zset) = txn.edit::<ZSet>(args.key(1))? {
        for member in args.from(2) {
            removed += i64::from(zset.remove(member).is_some());
        }
        if removed != 0 {
            zset.event(EventClasses::ZSET, "zrem");
        }
    }
    reply.int(removed);
    Ok(())
}
