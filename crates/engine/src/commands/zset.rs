//! The sorted-set family. Here its table and how members are written; the functions are in the modules below.

mod add;
mod combine;
mod pop;
mod range;
mod read;

pub(super) use add::{Options, add};

use super::list::asks_for_few;
use super::write_str;
use crate::command::{Command, Flags, Group, Keys, Reply, Run};
use kelda_resp::Protocol;
use kelda_store::txn::{EventClasses, Key, Txn};
use kelda_store::value::Value;
use kelda_store::zset::{Pair, ZSet};

const BASE: Command = Command { group: Group::SortedSet, ..Command::BASE };
const GROWS: Flags = Flags::DENYOOM;
const GROWS_FAST: Flags = Flags::DENYOOM.and(Flags::FAST);

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "ZADD",
        arity: -4,
        keys: &[Keys::at(1).update()],
        flags: GROWS_FAST,
        since: "1.2.0",
        syntax: "key condition:[NX | XX] comparison:[GT | LT] [change:CH] [increment:INCR] score member [score member ...]",
        summary: "Gives members their scores, and adds those that are new.",
        complexity: "O(log(N)) for each member",
        run: Run::Write(add::zadd),
        ..BASE
    },
    Command {
        name: "ZINCRBY",
        arity: 4,
        keys: &[Keys::at(1).update_read()],
        flags: GROWS_FAST,
        since: "1.2.0",
        syntax: "key increment member",
        summary: "Adds to a member's score; a new member starts from 0.",
        complexity: "O(log(N))",
        run: Run::Write(add::zincrby),
        ..BASE
    },
    Command {
        name: "ZREM",
        arity: -3,
        keys: &[Keys::at(1).delete()],
        flags: Flags::FAST,
        since: "1.2.0",
        syntax: "key member [member ...]",
        summary: "Removes members.",
        complexity: "O(M*log(N)): M the members removed",
        run: Run::Write(add::zrem),
        ..BASE
    },
    Command {
        name: "ZCARD",
        arity: 2,
        keys: &[Keys::at(1).look()],
        flags: Flags::FAST,
        since: "1.2.0",
        syntax: "key",
        summary: "Tells the number of members.",
        run: Run::Read(read::zcard),
        ..BASE
    },
    Command {
        name: "ZSCORE",
        arity: 3,
        keys: &[Keys::at(1).read()],
        flags: Flags::FAST,
        since: "1.2.0",
        syntax: "key member",
        summary: "Returns a member's score.",
        run: Run::Read(read::zscore),
        ..BASE
    },
    Command {
        name: "ZMSCORE",
        arity: -3,
        keys: &[Keys::at(1).read()],
        flags: Flags::FAST,
        since: "6.2.0",
        syntax: "key member [member ...]",
        summary: "Returns the scores of several members.",
        complexity: "O(N) in the number of members asked for",
        run: Run::Read(read::zmscore),
        ..BASE
    },
    Command {
        name: "ZRANK",
        arity: -3,
        keys: &[Keys::at(1).read()],
        flags: Flags::FAST,
        since: "2.0.0",
        syntax: "key member [WITHSCORE]",
        summary: "Tells the place of a member, the lowest score being at 0.",
        complexity: "O(log(N))",
        run: Run::Read(read::zrank),
        ..BASE
    },
    Command {
        name: "ZREVRANK",
        arity: -3,
        keys: &[Keys::at(1).read()],
        flags: Flags::FAST,
        since: "2.0.0",
        syntax: "key member [WITHSCORE]",
        summary: "Tells the place of a member, the highest score being at 0.",
        complexity: "O(log(N))",
        run: Run::Read(read::zrevrank),
        ..BASE
    },
    Command {
        name: "ZCOUNT",
        arity: 4,
        keys: &[Keys::at(1).read()],
        flags: Flags::FAST,
        since: "2.0.0",
        syntax: "key min max",
        summary: "Counts the members whose scores are within a range.",
        complexity: "O(log(N))",
        run: Run::Read(read::zcount),
        ..BASE
    },
    Command {
        name: "ZLEXCOUNT",
        arity: 4,
        keys: &[Keys::at(1).read()],
        flags: Flags::FAST,
        since: "2.8.9",
        syntax: "key min/string max/string",
        summary: "Counts the members within a range of texts, where all scores are equal.",
        complexity: "O(log(N))",
        run: Run::Read(read::zlexcount),
        ..BASE
    },
    Command {
        name: "ZRANDMEMBER",
        arity: -2,
        keys: &[Keys::at(1).read()],
        since: "6.2.0",
        syntax: "key options:[count [WITHSCORES]]",
        summary: "Returns random members, with repetition if the count is negative.",
        complexity: "O(M*log(N)): M the members returned",
        tips: &["nondeterministic_output"],
        run: Run::Read(read::zrandmember),
        ..BASE
    },
    Command {
        name: "ZSCAN",
        arity: -3,
        keys: &[Keys::at(1).read()],
        since: "2.8.0",
        syntax: "key cursor [MATCH pattern] [COUNT count] [NOSCORES]",
        summary: "Goes through the members step by step.",
        complexity: "O(1) a step, O(N) for all",
        tips: &["nondeterministic_output"],
        run: Run::Read(read::zscan),
        ..BASE
    },
    Command {
        name: "ZRANGE",
        arity: -4,
        keys: &[Keys::at(1).read()],
        since: "1.2.0",
        syntax: "key start/string stop/string sortby:[BYSCORE | BYLEX] [REV] limit:[LIMIT offset count] [WITHSCORES]",
        summary: "Returns the members of a range of ranks, scores or texts.",
        complexity: "O(log(N)+M): N the members, M those returned",
        is_small: Some(asks_for_few),
        run: Run::Read(range::zrange),
        ..BASE
    },
    Command {
        name: "ZRANGESTORE",
        arity: -5,
        keys: &[Keys::at(1).overwrite(), Keys::at(2).read()],
        flags: GROWS,
        since: "6.2.0",
        syntax: "dst/key src/key min/string max/string sortby:[BYSCORE | BYLEX] [REV] limit:[LIMIT offset count]",
        summary: "Stores the members of a range of ranks, scores or texts at another key.",
        complexity: "O(log(N)+M): N the members, M those stored",
        run: Run::Write(range::zrangestore),
        ..BASE
    },
    Command {
        name: "ZREVRANGE",
        arity: -4,
        keys: &[Keys::at(1).read()],
        since: "1.2.0",
        syntax: "key start stop [WITHSCORES]",
        summary: "Returns the members of a range of ranks from the highest score down.",
        complexity: "O(log(N)+M): N the members, M those returned",
        is_small: Some(asks_for_few),
        run: Run::Read(range::zrevrange),
        ..BASE
    },
    Command {
        name: "ZRANGEBYSCORE",
        arity: -4,
        keys: &[Keys::at(1).read()],
        since: "1.0.5",
        syntax: "key min max [WITHSCORES] limit:[LIMIT offset count]",
        summary: "Returns the members of a range of scores.",
        complexity: "O(log(N)+M): N the members, M those returned",
        run: Run::Read(range::zrangebyscore),
        ..BASE
    },
    Command {
        name: "ZREVRANGEBYSCORE",
        arity: -4,
        keys: &[Keys::at(1).read()],
        since: "2.2.0",
        syntax: "key max min [WITHSCORES] limit:[LIMIT offset count]",
        summary: "Returns the members of a range of scores from the highest down.",
        complexity: "O(log(N)+M): N the members, M those returned",
        run: Run::Read(range::zrevrangebyscore),
        ..BASE
    },
    Command {
        name: "ZRANGEBYLEX",
        arity: -4,
        keys: &[Keys::at(1).read()],
        since: "2.8.9",
        syntax: "key min/string max/string limit:[LIMIT offset count]",
        summary: "Returns the members within a range of texts, where all scores are equal.",
        complexity: "O(log(N)+M): N the members, M those returned",
        run: Run::Read(range::zrangebylex),
        ..BASE
    },
    Command {
        name: "ZREVRANGEBYLEX",
        arity: -4,
        keys: &[Keys::at(1).read()],
        since: "2.8.9",
        syntax: "key max/string min/string limit:[LIMIT offset count]",
        summary: "Returns the members within a range of texts from the last to the first, where all scores are equal.",
        complexity: "O(log(N)+M): N the members, M those returned",
        run: Run::Read(range::zrevrangebylex),
        ..BASE
    },
    Command {
        name: "ZREMRANGEBYRANK",
        arity: 4,
        keys: &[Keys::at(1).delete()],
        since: "2.0.0",
        syntax: "key start stop",
        summary: "Removes the members of a range of ranks.",
        complexity: "O(log(N)+M): N the members, M those removed",
        run: Run::Write(range::zremrangebyrank),
        ..BASE
    },
    Command {
        name: "ZREMRANGEBYSCORE",
        arity: 4,
        keys: &[Keys::at(1).delete()],
        since: "1.2.0",
        syntax: "key min max",
        summary: "Removes the members of a range of scores.",
        complexity: "O(log(N)+M): N the members, M those removed",
        run: Run::Write(range::zremrangebyscore),
        ..BASE
    },
    Command {
        name: "ZREMRANGEBYLEX",
        arity: 4,
        keys: &[Keys::at(1).delete()],
        since: "2.8.9",
        syntax: "key min/string max/string",
        summary: "Removes the members within a range of texts, where all scores are equal.",
        complexity: "O(log(N)+M): N the members, M those removed",
        run: Run::Write(range::zremrangebylex),
        ..BASE
    },
    Command {
        name: "ZPOPMIN",
        arity: -2,
        keys: &[Keys::at(1).take()],
        flags: Flags::FAST,
        since: "5.0.0",
        syntax: "key [count]",
        summary: "Takes the members with the lowest scores.",
        complexity: "O(M*log(N)): M the members taken",
        run: Run::Write(pop::zpopmin),
        ..BASE
    },
    Command {
        name: "ZPOPMAX",
        arity: -2,
        keys: &[Keys::at(1).take()],
        flags: Flags::FAST,
        since: "5.0.0",
        syntax: "key [count]",
        summary: "Takes the members with the highest scores.",
        complexity: "O(M*log(N)): M the members taken",
        run: Run::Write(pop::zpopmax),
        ..BASE
    },
    Command {
        name: "ZMPOP",
        arity: -4,
        keys: &[Keys::numkeys(1).take()],
        since: "7.0.0",
        syntax: "numkeys key [key ...] where:<MIN | MAX> [COUNT count]",
        summary: "Takes members from the first of several sorted sets that has any.",
        complexity: "O(K)+O(M*log(N)): K the keys named, M the members taken",
        run: Run::Write(pop::zmpop),
        ..BASE
    },
    Command {
        name: "BZPOPMIN",
        arity: -3,
        keys: &[Keys::range(1, -2, 1).take()],
        flags: Flags::FAST,
        since: "5.0.0",
        syntax: "key [key ...] timeout",
        summary: "Takes the member with the lowest score from the first of several sorted sets that has one, and waits if none has.",
        complexity: "O(log(N))",
        run: Run::Wait(pop::bzpopmin),
        ..BASE
    },
    Command {
        name: "BZPOPMAX",
        arity: -3,
        keys: &[Keys::range(1, -2, 1).take()],
        flags: Flags::FAST,
        since: "5.0.0",
        syntax: "key [key ...] timeout",
        summary: "Takes the member with the highest score from the first of several sorted sets that has one, and waits if none has.",
        complexity: "O(log(N))",
        run: Run::Wait(pop::bzpopmax),
        ..BASE
    },
    Command {
        name: "BZMPOP",
        arity: -5,
        keys: &[Keys::numkeys(2).take()],
        since: "7.0.0",
        syntax: "timeout numkeys key [key ...] where:<MIN | MAX> [COUNT count]",
        summary: "Takes members from the first of several sorted sets that has any, and waits if none has.",
        complexity: "O(K)+O(M*log(N)): K the keys named, M the members taken",
        run: Run::Wait(pop::bzmpop),
        ..BASE
    },
    Command {
        name: "ZUNION",
        arity: -3,
        keys: &[Keys::numkeys(1).read()],
        since: "6.2.0",
        syntax: "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE aggregate:<SUM | MIN | MAX | COUNT>] [WITHSCORES]",
        summary: "Returns the members of any of several sets, their scores put together.",
        complexity: "O(N)+O(M*log(M)): N the members of all inputs, M of the result",
        run: Run::Read(combine::zunion),
        ..BASE
    },
    Command {
        name: "ZINTER",
        arity: -3,
        keys: &[Keys::numkeys(1).read()],
        since: "6.2.0",
        syntax: "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE aggregate:<SUM | MIN | MAX | COUNT>] [WITHSCORES]",
        summary: "Returns the members of all of several sets, their scores put together.",
        complexity: "O(N*K)+O(M*log(M)): N the members of the smallest input, K the inputs, M the members of the result",
        run: Run::Read(combine::zinter),
        ..BASE
    },
    Command {
        name: "ZDIFF",
        arity: -3,
        keys: &[Keys::numkeys(1).read()],
        since: "6.2.0",
        syntax: "numkeys key [key ...] [WITHSCORES]",
        summary: "Returns the members of the first of several sets that no other has.",
        complexity: "O(L+M*log(M)): L the members of all inputs, M of the result",
        run: Run::Read(combine::zdiff),
        ..BASE
    },
    Command {
        name: "ZINTERCARD",
        arity: -3,
        keys: &[Keys::numkeys(1).read()],
        since: "7.0.0",
        syntax: "numkeys key [key ...] [LIMIT limit/integer]",
        summary: "Counts the members of all of several sets.",
        complexity: "O(N*K): N the members of the smallest input, K the inputs",
        run: Run::Read(combine::zintercard),
        ..BASE
    },
    Command {
        name: "ZUNIONSTORE",
        arity: -4,
        keys: &[Keys::at(1).overwrite(), Keys::numkeys(2).read()],
        flags: GROWS,
        since: "2.0.0",
        syntax: "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE aggregate:<SUM | MIN | MAX | COUNT>]",
        summary: "Stores what ZUNION returns.",
        complexity: "O(N)+O(M*log(M)): N the members of all inputs, M of the result",
        run: Run::Write(combine::zunionstore),
        ..BASE
    },
    Command {
        name: "ZINTERSTORE",
        arity: -4,
        keys: &[Keys::at(1).overwrite(), Keys::numkeys(2).read()],
        flags: GROWS,
        since: "2.0.0",
        syntax: "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE aggregate:<SUM | MIN | MAX | COUNT>]",
        summary: "Stores what ZINTER returns.",
        complexity: "O(N*K)+O(M*log(M)): N the members of the smallest input, K the inputs, M the members of the result",
        run: Run::Write(combine::zinterstore),
        ..BASE
    },
    Command {
        name: "ZDIFFSTORE",
        arity: -4,
        keys: &[Keys::at(1).overwrite(), Keys::numkeys(2).read()],
        flags: GROWS,
        since: "6.2.0",
        syntax: "destination numkeys key [key ...]",
        summary: "Stores what ZDIFF returns.",
        complexity: "O(L+M*log(M)): L the members of all inputs, M of the result",
        run: Run::Write(combine::zdiffstore),
        ..BASE
    },
];

/// Writes the header of an array of so many members: with their scores it is twice as long in RESP2.
fn begin_members(reply: &mut Reply, count: usize, with_scores: bool) {
    let flat = with_scores && reply.protocol == Protocol::Resp2;
    reply.array(if flat { count * 2 } else { count });
}

/// Writes a member of such an array; with its score an array of the two in RESP3.
fn write_member(reply: &mut Reply, (member, score): Pair, with_scores: bool) {
    if with_scores && reply.protocol == Protocol::Resp3 {
        reply.array(2);
    }
    write_str(reply, member);
    if with_scores {
        reply.double(score);
    }
}

/// Writes members in the order of an iterator over `count` of them.
fn write_members<'a>(reply: &mut Reply, count: usize, members: impl Iterator<Item = Pair<'a>>, with_scores: bool) {
    begin_members(reply, count, with_scores);
    members.for_each(|pair| write_member(reply, pair, with_scores));
}

/// Puts the result of a command at a key, or removes the key if there is none; writes the number of members.
pub(super) fn store(txn: &mut Txn, key: Key, zset: ZSet, event: &'static str, reply: &mut Reply) {
    reply.int(zset.len() as i64);
    if zset.is_empty() {
        txn.delete_with_event(key);
    } else {
        txn.put(key, Value::ZSet(zset), None);
        txn.event(EventClasses::ZSET, event, key.bytes);
    }
}
