//! The stream family: what its commands are. The functions lie in the modules below, by subject.
//!
//! Every change is emitted in absolute form: the id that an entry really got, the length that trimming really left, who
//! really holds a pending entry with which time and count. Replaying the changes in order gives an equal stream; only the
//! times at which consumers were last seen are not kept.

mod delete;
mod entries;
mod groups;
mod id;
mod idempotent;
mod info;
mod pending;
mod read;

use super::help;
use crate::command::{Access, Command, Flags, Group, Keys, Reply, Run};
use kelda_store::stream::{Entry, StreamId};

const BASE: Command = Command { group: Group::Stream, since: "5.0.0", ..Command::BASE };
const KEY: Keys = Keys::at(1);
const SUBCOMMAND_KEY: Keys = Keys::at(2);
const HELP_FLAGS: Flags = Flags::LOADING.and(Flags::STALE);

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "XADD",
        arity: -5,
        keys: &[KEY.update()],
        flags: Flags::DENYOOM.and(Flags::FAST),
        syntax: "key [NOMKSTREAM] condition:[KEEPREF | DELREF | ACKED] \
                 idmp:[IDMPAUTO producer-id | idmp:(IDMP producer-id idempotent-id)] \
                 trim:[strategy:<MAXLEN | MINID> operator:[equal:= | approximately:~] threshold/string [LIMIT count]] \
                 id-selector:<auto-id:* | id> field value [field value ...]",
        summary: "Adds an entry to a stream, which is made if it is not there.",
        complexity: "O(1), and O(N) in the number of entries trimmed",
        tips: &["nondeterministic_output"],
        run: Run::Write(entries::xadd),
        ..BASE
    },
    Command {
        name: "XLEN",
        arity: 2,
        keys: &[KEY.look()],
        flags: Flags::FAST,
        syntax: "key",
        summary: "Counts the entries of a stream.",
        run: Run::Read(entries::xlen),
        ..BASE
    },
    Command {
        name: "XRANGE",
        arity: -4,
        keys: &[KEY.read()],
        syntax: "key start/string end/string [COUNT count]",
        summary: "Returns the entries between two ids.",
        complexity: "O(N) in the number of entries returned, after O(log S) in the size of the stream",
        run: Run::Read(|view, args, reply| entries::xrange(view, args, reply, false)),
        ..BASE
    },
    Command {
        name: "XREVRANGE",
        arity: -4,
        keys: &[KEY.read()],
        syntax: "key end/string start/string [COUNT count]",
        summary: "Returns the entries between two ids, the newest first.",
        complexity: "O(N) in the number of entries returned, after O(log S) in the size of the stream",
        run: Run::Read(|view, args, reply| entries::xrange(view, args, reply, true)),
        ..BASE
    },
    Command {
        name: "XDEL",
        arity: -3,
        keys: &[KEY.delete()],
        flags: Flags::FAST,
        syntax: "key id [id ...]",
        summary: "Removes entries from a stream.",
        complexity: "O(1) for every id",
        run: Run::Write(entries::xdel),
        ..BASE
    },
    Command {
        name: "XDELEX",
        arity: -5,
        keys: &[KEY.delete()],
        flags: Flags::FAST,
        since: "8.2.0",
        syntax: "key condition:[KEEPREF | DELREF | ACKED] ids:(IDS numids id [id ...])",
        summary: "Removes entries from a stream, and from what groups have pending, or only those that all groups acknowledged.",
        complexity: "O(1) for every id and group",
        run: Run::Write(delete::xdelex),
        ..BASE
    },
    Command {
        name: "XTRIM",
        arity: -4,
        keys: &[KEY.delete()],
        syntax: "key trim:(strategy:<MAXLEN | MINID> operator:[equal:= | approximately:~] threshold/string [LIMIT count]) condition:[KEEPREF | DELREF | ACKED]",
        summary: "Removes the oldest entries of a stream.",
        complexity: "O(N) in the number of entries removed",
        tips: &["nondeterministic_output"],
        run: Run::Write(entries::xtrim),
        ..BASE
    },
    Command {
        name: "XSETID",
        arity: -3,
        keys: &[KEY.update()],
        flags: Flags::DENYOOM.and(Flags::FAST),
        syntax: "key last-id [ENTRIESADDED entries-added/integer] [MAXDELETEDID max-deleted-id]",
        summary: "Sets the id that the next entry of a stream must exceed, and its counters.",
        run: Run::Write(entries::xsetid),
        ..BASE
    },
    Command {
        name: "XREAD",
        arity: -4,
        keys: &[Keys::keyword("STREAMS", 1, 2).read()],
        find_keys: Some(|words, f| read::find_keys(words, false, f)),
        flags: Flags::READONLY,
        syntax: "[COUNT count] [MAXCOUNT maxcount] [MAXSIZE maxsize] [BLOCK milliseconds] streams:(STREAMS key [key ...] id [id ...])",
        summary: "Returns the entries of streams after given ids, and waits for one if there is none.",
        complexity: "O(N) in the number of entries returned",
        run: Run::Wait(read::xread),
        ..BASE
    },
    Command {
        name: "XREADGROUP",
        arity: -7,
        keys: &[Keys::keyword("STREAMS", 4, 2).read()],
        find_keys: Some(|words, f| read::find_keys(words, true, f)),
        syntax: "group-block:(GROUP group consumer) [COUNT count] [MAXCOUNT maxcount] [MAXSIZE maxsize] [BLOCK milliseconds] \
                 [CLAIM min-idle-time] [NOACK] streams:(STREAMS key [key ...] id [id ...])",
        summary: "Delivers entries to a consumer of a group that nobody in the group got yet, or those it has not acknowledged.",
        complexity: "O(N) in the number of entries returned",
        run: Run::Wait(read::xreadgroup),
        ..BASE
    },
    Command {
        name: "XACK",
        arity: -4,
        keys: &[KEY.update()],
        flags: Flags::FAST,
        syntax: "key group id [id ...]",
        summary: "Acknowledges entries that a group delivered.",
        complexity: "O(1) for every id",
        run: Run::Write(pending::xack),
        ..BASE
    },
    Command {
        name: "XACKDEL",
        arity: -6,
        keys: &[KEY.with(Access::RW.and(Access::DELETE).and(Access::UPDATE))],
        flags: Flags::FAST,
        since: "8.2.0",
        syntax: "key group condition:[KEEPREF | DELREF | ACKED] ids:(IDS numids id [id ...])",
        summary: "Acknowledges entries that a group delivered and removes them from the stream.",
        complexity: "O(1) for every id and group",
        run: Run::Write(delete::xackdel),
        ..BASE
    },
    Command {
        name: "XNACK",
        arity: -7,
        keys: &[KEY.update()],
        flags: Flags::FAST,
        since: "8.8.0",
        syntax: "key group mode:<SILENT | FAIL | FATAL> ids:(IDS numids id [id ...]) [RETRYCOUNT count] [FORCE]",
        summary: "Gives pending entries back to their group, for others to claim at once.",
        complexity: "O(log N) for every id, N being the group's pending entries",
        run: Run::Write(pending::xnack),
        ..BASE
    },
    Command {
        name: "XCFGSET",
        arity: -2,
        keys: &[KEY.update()],
        flags: Flags::FAST,
        since: "8.6.0",
        syntax: "key [IDMP-DURATION idmp-duration] [IDMP-MAXSIZE idmp-maxsize]",
        summary: "Sets for how long a stream remembers which entries its producers sent, and how many of each.",
        run: Run::Write(idempotent::xcfgset),
        ..BASE
    },
    Command {
        name: "XIDMPRECORD",
        arity: 5,
        keys: &[KEY.update()],
        flags: Flags::DENYOOM.and(Flags::FAST),
        since: "8.8.0",
        syntax: "key pid iid stream-id",
        summary: "Notes under which id of its own a producer sent an entry. For the log.",
        run: Run::Write(idempotent::xidmprecord),
        ..BASE
    },
    Command {
        name: "XPENDING",
        arity: -3,
        keys: &[KEY.read()],
        syntax: "key group filters:[[IDLE min-idle-time] start/string end/string count [consumer]]",
        summary: "Tells which entries a group delivered that nobody acknowledged yet.",
        complexity: "O(N) in the number of pending entries looked at; O(C) in the number of consumers without a range",
        tips: &["nondeterministic_output"],
        run: Run::Read(pending::xpending),
        ..BASE
    },
    Command {
        name: "XCLAIM",
        arity: -6,
        keys: &[KEY.update()],
        flags: Flags::FAST,
        syntax: "key group consumer min-idle-time/string id [id ...] [IDLE ms] [TIME unix-time-milliseconds] [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid]",
        summary: "Hands pending entries over to another consumer.",
        complexity: "O(log N) for every id, N being the group's pending entries",
        tips: &["nondeterministic_output"],
        run: Run::Write(pending::xclaim),
        ..BASE
    },
    Command {
        name: "XAUTOCLAIM",
        arity: -6,
        keys: &[KEY.with(Access::RW.and(Access::DELETE))],
        flags: Flags::FAST,
        since: "6.2.0",
        syntax: "key group consumer min-idle-time/string start/string [COUNT count] [JUSTID]",
        summary: "Hands entries that have been pending for long over to a consumer, wherever they are.",
        complexity: "O(1) if COUNT is small",
        tips: &["nondeterministic_output"],
        run: Run::Write(pending::xautoclaim),
        ..BASE
    },
    Command {
        name: "XGROUP",
        arity: -2,
        summary: "Container of commands about the consumer groups of a stream.",
        complexity: "That of the subcommand",
        run: Run::Group(&[
            Command {
                name: "CREATE",
                arity: -5,
                keys: &[SUBCOMMAND_KEY.insert()],
                flags: Flags::DENYOOM,
                syntax: "key group id-selector:<id | new-id:$> [MKSTREAM] [ENTRIESREAD entriesread:entries-read/integer]",
                summary: "Makes a consumer group.",
                run: Run::Write(groups::create),
                ..BASE
            },
            Command {
                name: "SETID",
                arity: -5,
                keys: &[SUBCOMMAND_KEY.update()],
                syntax: "key group id-selector:<id | new-id:$> [ENTRIESREAD entriesread:entries-read/integer]",
                summary: "Sets up to which entry a group has read.",
                run: Run::Write(groups::setid),
                ..BASE
            },
            Command {
                name: "DESTROY",
                arity: 4,
                keys: &[SUBCOMMAND_KEY.delete()],
                syntax: "key group",
                summary: "Removes a consumer group.",
                complexity: "O(N) in the number of its pending entries",
                run: Run::Write(groups::destroy),
                ..BASE
            },
            Command {
                name: "CREATECONSUMER",
                arity: 5,
                keys: &[SUBCOMMAND_KEY.insert()],
                flags: Flags::DENYOOM,
                since: "6.2.0",
                syntax: "key group consumer",
                summary: "Makes a consumer of a group.",
                run: Run::Write(groups::create_consumer),
                ..BASE
            },
            Command {
                name: "DELCONSUMER",
                arity: 5,
                keys: &[SUBCOMMAND_KEY.delete()],
                syntax: "key group consumer",
                summary: "Removes a consumer of a group, and with it what was delivered to it and is pending.",
                complexity: "O(N) in the number of its pending entries",
                run: Run::Write(groups::delete_consumer),
                ..BASE
            },
            Command {
                name: "HELP",
                arity: 2,
                flags: HELP_FLAGS,
                summary: "Explains the subcommands.",
                run: Run::Session(|_, _, reply| {
                    help(
                        reply,
                        "XGROUP",
                        &[
                            (
                                "CREATE <key> <group> <id|$> [MKSTREAM] [ENTRIESREAD <count>]",
                                "Makes a group that has read up to an id; MKSTREAM makes the stream as well.",
                            ),
                            ("CREATECONSUMER <key> <group> <consumer>", "Makes a consumer."),
                            ("DELCONSUMER <key> <group> <consumer>", "Removes a consumer and its pending entries."),
                            ("DESTROY <key> <group>", "Removes a group."),
                            (
                                "SETID <key> <group> <id|$> [ENTRIESREAD <count>]",
                                "Sets up to which id a group has read.",
                            ),
                        ],
                    );
                    Ok(())
                }),
                ..BASE
            },
        ]),
        ..BASE
    },
    Command {
        name: "XINFO",
        arity: -2,
        summary: "Container of commands that describe streams, groups and consumers.",
        complexity: "That of the subcommand",
        run: Run::Group(&[
            Command {
                name: "STREAM",
                arity: -3,
                keys: &[SUBCOMMAND_KEY.read()],
                syntax: "key full-block:[FULL [COUNT count]]",
                summary: "Describes a stream.",
                complexity: "O(1); with FULL O(N) in the number of entries and pending entries shown",
                run: Run::Read(info::stream),
                ..BASE
            },
            Command {
                name: "GROUPS",
                arity: 3,
                keys: &[SUBCOMMAND_KEY.read()],
                syntax: "key",
                summary: "Describes the consumer groups of a stream.",
                complexity: "O(N) in the number of groups",
                run: Run::Read(info::groups),
                ..BASE
            },
            Command {
                name: "CONSUMERS",
                arity: 4,
                keys: &[SUBCOMMAND_KEY.read()],
                syntax: "key group",
                summary: "Describes the consumers of a group.",
                complexity: "O(N) in the number of consumers",
                tips: &["nondeterministic_output"],
                run: Run::Read(info::consumers),
                ..BASE
            },
            Command {
                name: "HELP",
                arity: 2,
                flags: HELP_FLAGS,
                summary: "Explains the subcommands.",
                run: Run::Session(|_, _, reply| {
                    help(
                        reply,
                        "XINFO",
                        &[
                            ("CONSUMERS <key> <group>", "Describes the consumers of a group."),
                            ("GROUPS <key>", "Describes the groups of a stream."),
                            ("STREAM <key> [FULL [COUNT <count>]]", "Describes a stream; FULL with all that it holds."),
                        ],
                    );
                    Ok(())
                }),
                ..BASE
            },
        ]),
        ..BASE
    },
];

/// Writes an id.
fn write_id(reply: &mut Reply, id: StreamId) {
    reply.bulk(&id.text());
}

/// Writes an entry: its id, then its fields and values in one array.
fn write_entry(reply: &mut Reply, entry: Entry) {
    reply.array(2);
    write_entry_parts(reply, entry);
}

/// Writes an entry as two values.
fn write_entry_parts(reply: &mut Reply, entry: Entry) {
    write_id(reply, entry.id);
    reply.array(entry.fields.len() * 2);
    for (field, value) in entry.fields {
        super::write_str(reply, field);
        super::write_str(reply, value);
    }
}
