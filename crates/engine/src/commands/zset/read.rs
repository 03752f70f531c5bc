//! Reads of single members and counts: ZSCORE, ZRANK, ZCOUNT, ZRANDMEMBER, ZSCAN and the like.

use super::range::{parse_lex_range, parse_score_range};
use super::{begin_members, write_member, write_members};
use crate::args::Args;
use crate::command::Reply;
use crate::commands::list::signed_count;
use crate::commands::scan::{ScanOf, parse_cursor, parse_scan_options};
use crate::commands::write_str;
use crate::error::{Error, Result};
use hashbrown::HashSet;
use kelda_resp::number;
use kelda_store::txn::View;
use kelda_store::zset::ZSet;

pub(super) fn zcard(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let count = view.zset(args.key(1))?.map_or(0, ZSet::len);
    reply.int(count as i64);
    Ok(())
}

fn write_score(reply: &mut Reply, score: Option<f64>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

pub(super) fn zscore(view: &View, args: &Args, reply: &mut Reply) -> Result {
    write_score(reply, view.zset(args.key(1))?.and_then(|zset| zset.score(&args[2])));
    Ok(())
}

pub(super) fn zmscore(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let zset = view.zset(args.key(1))?;
    let members = args.from(2);
    reply.array(members.len());
    for member in members {
        write_score(reply, zset.and_then(|zset| zset.score(member)));
    }
    Ok(())
}

pub(super) fn zrank(view: &View, args: &Args, reply: &mut Reply) -> Result {
    rank(view, args, false, reply)
}

pub(super) fn zrevrank(view: &View, args: &Args, reply: &mut Reply) -> Result {
    rank(view, args, true, reply)
}

fn rank(view: &View, args: &Args, reverse: bool, reply: &mut Reply) -> Result {
    let with_score = match args.len() {
        3 => false,
        4 if args.is(3, "WITHSCORE") => true,
        4 => return Err(Error::Syntax),
        _ => return Err(Error::Arity(if reverse { "zrevrank" } else { "zrank" }.into())),
    };
    let member = &args[2];
    let found = view.zset(args.key(1))?.and_then(|zset| {
        let rank = zset.rank(member)?;
        let rank = if reverse { zset.len() - 1 - rank } else { rank };
        Some((rank as i64, zset.score(member)?))
    });
    match (found, with_score) {
        (Some((rank, _)), false) => reply.int(rank),
        (Some((rank, score)), true) => {
            reply.array(2);
            reply.int(rank);
            reply.double(score);
        }
        (None, false) => reply.null(),
        (None, true) => reply.null_array(),
    }
    Ok(())
}

pub(super) fn zcount(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let range = parse_score_range(&args[2], &args[3])?;
    write_count(reply, view.zset(args.key(1))?.map(|zset| zset.rank_range(&range)));
    Ok(())
}

pub(super) fn zlexcount(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let range = parse_lex_range(&args[2], &args[3])?;
    write_count(reply, view.zset(args.key(1))?.map(|zset| zset.lex_rank_range(&range)));
    Ok(())
}

fn write_count(reply: &mut Reply, ranks: Option<(usize, usize)>) {
    reply.int(ranks.map_or(0, |(start, end)| (end - start) as i64));
}

pub(super) fn zrandmember(view: &View, args: &Args, reply: &mut Reply) -> Result {
    if args.len() == 2 {
        match view.zset(args.key(1))?.and_then(|zset| zset.random(view.random())) {
            Some((member, _)) => write_str(reply, member),
            None => reply.null(),
        }
        return Ok(());
    }
    let count = signed_count(args, 2)?;
    let with_scores = args.is(3, "WITHSCORES");
    if args.len() > 4 || args.len() == 4 && !with_scores {
        return Err(Error::Syntax);
    }
    // Each member takes two places of the reply, whose length is an i64 to clients.
    if with_scores && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(Error::text("ERR value is out of range"));
    }
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let Some(zset) = view.zset(args.key(1))? else {
        reply.array(0);
        return Ok(());
    };
    if count < 0 {
        begin_members(reply, wanted, with_scores);
        for _ in 0..wanted {
            if let Some(pair) = zset.random(view.random()) {
                write_member(reply, pair, with_scores);
            }
            if reply.is_overfull() {
                break;
            }
        }
    } else if wanted >= zset.len() {
        write_members(reply, zset.len(), zset.iter(), with_scores);
    } else {
        let ranks = distinct_ranks(view, wanted, zset.len());
        write_members(reply, wanted, ranks.iter().filter_map(|rank| zset.by_rank(*rank)), with_scores);
    }
    Ok(())
}

/// `count` different numbers below `len`, every choice of them equally likely (Floyd's sampling: Bentley and Floyd 1987).
fn distinct_ranks(view: &View, count: usize, len: usize) -> Vec<usize> {
    let mut seen = HashSet::with_capacity(count);
    let mut ranks = Vec::with_capacity(count);
    for last in len - count..len {
        let drawn = ((u128::from(view.random()) * (last as u128 + 1)) >> 64) as usize;
        let rank = if seen.insert(drawn) { drawn } else { last };
        seen.insert(rank);
        ranks.push(rank);
    }
    ranks
}

pub(super) fn zscan(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let cursor = parse_cursor(&args[2])?;
    // The next cursor comes before the members but is known after them.
    let mut members = Reply::new(reply.protocol);
    let (mut next, mut count) = (0, 0);
    if let Some(zset) = view.zset(args.key(1))? {
        let options = parse_scan_options(args, 3, ScanOf::ZSet)?;
        next = zset.scan(cursor, options.count, |(member, score)| {
            if !member.with_bytes(|member| options.matches(member)) {
                return;
            }
            count += 1;
            write_str(&mut members, member);
            if !options.no_scores {
                count += 1;
                // A string in RESP3 too.
                let mut text = Vec::new();
                number::format_f64(score, &mut text);
                members.bulk(&text);
            }
        });
    }
    reply.array(2);
    // Cursors within a collection are below 2^63.
    reply.bulk_int(next as i64);
    reply.array(count);
    reply.raw(&members.buf);
    Ok(())
}
