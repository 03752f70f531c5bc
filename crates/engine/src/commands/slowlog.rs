//! SLOWLOG, COMMANDLOG and LATENCY: what took long, and what was long.

use crate::args::Args;
use crate::command::{Command, Flags, Group, Reply};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::info;
use crate::registry::{self, Registered};
use crate::slowlog::LogKind;

const BASE: Command = Command { group: Group::Server, complexity: "O(N) in the number of entries", ..Command::BASE };
const ANYTIME: Flags = Flags::LOADING.and(Flags::STALE);
const ADMIN: Flags = ANYTIME.and(Flags::ADMIN);
const LATENCY: Flags = ADMIN.and(Flags::NOSCRIPT);

const GET_TIPS: &[&str] = &["request_policy:all_nodes", "nondeterministic_output"];
const LEN_TIPS: &[&str] = &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"];
const RESET_TIPS: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];
const LATENCY_TIPS: &[&str] = &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];

/// The family.
pub static COMMANDS: &[Command] = &[
    BASE.container(
        "SLOWLOG",
        "2.2.12",
        "Container of commands about the log of slow commands.",
        &[
            Command {
                tips: GET_TIPS,
                ..BASE.session(
                    "GET",
                    -2,
                    ADMIN,
                    "2.2.12",
                    "[count]",
                    "Shows the newest entries.",
                    |ctx, args, reply| {
                        if args.len() > 3 {
                            return Err(Error::text(
                                "ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.",
                            ));
                        }
                        let count = if args.len() == 3 { count(args)? } else { 10 };
                        show(ctx, reply, LogKind::Slow, count);
                        Ok(())
                    },
                )
            },
            Command {
                tips: LEN_TIPS,
                ..BASE.session("LEN", 2, ADMIN, "2.2.12", "", "Counts the entries.", |ctx, _, reply| {
                    reply.int(ctx.worker.engine.slowlog.len(LogKind::Slow) as i64);
                    Ok(())
                })
            },
            Command {
                tips: RESET_TIPS,
                ..BASE.session("RESET", 2, ADMIN, "2.2.12", "", "Forgets the entries.", |ctx, _, reply| {
                    ctx.worker.engine.slowlog.clear(LogKind::Slow);
                    reply.ok();
                    Ok(())
                })
            },
            BASE.session("HELP", 2, ANYTIME, "6.2.0", "", "Explains the subcommands.", |_, _, reply| {
                super::help(
                    reply,
                    "SLOWLOG",
                    &[
                        ("GET [<count>]", "Shows the newest entries, 10 by default, all for -1."),
                        ("LEN", "Counts the entries."),
                        ("RESET", "Forgets the entries."),
                    ],
                );
                Ok(())
            }),
        ],
    ),
    BASE.container(
        "COMMANDLOG",
        "8.1.0",
        "Container of commands about the logs of slow and of big commands.",
        &[
            Command {
                tips: GET_TIPS,
                ..BASE.session(
                    "GET",
                    4,
                    ADMIN,
                    "8.1.0",
                    KIND_AFTER_COUNT,
                    "Shows the newest entries of a log.",
                    |ctx, args, reply| {
                        let count = count(args)?;
                        let kind = kind(&args[3])?;
                        show(ctx, reply, kind, count);
                        Ok(())
                    },
                )
            },
            Command {
                tips: LEN_TIPS,
                ..BASE.session("LEN", 3, ADMIN, "8.1.0", KIND, "Counts the entries of a log.", |ctx, args, reply| {
                    reply.int(ctx.worker.engine.slowlog.len(kind(&args[2])?) as i64);
                    Ok(())
                })
            },
            Command {
                tips: RESET_TIPS,
                ..BASE.session("RESET", 3, ADMIN, "8.1.0", KIND, "Forgets the entries of a log.", |ctx, args, reply| {
                    ctx.worker.engine.slowlog.clear(kind(&args[2])?);
                    reply.ok();
                    Ok(())
                })
            },
            BASE.session("HELP", 2, ANYTIME, "8.1.0", "", "Explains the subcommands.", |_, _, reply| {
                super::help(
                    reply,
                    "COMMANDLOG",
                    &[
                        (
                            "GET <count> <type>",
                            "Shows the newest entries of a log: slow, large-request or large-reply.",
                        ),
                        ("LEN <type>", "Counts the entries of a log."),
                        ("RESET <type>", "Forgets the entries of a log."),
                    ],
                );
                Ok(())
            }),
        ],
    ),
    BASE.container(
        "LATENCY",
        "2.8.13",
        "Container of commands about what took longer than latency-monitor-threshold.",
        &[
            Command {
                tips: LATENCY_TIPS,
                ..BASE.session("DOCTOR", 2, LATENCY, "2.8.13", "", "Tells in words what took long.", doctor)
            },
            Command {
                tips: LATENCY_TIPS,
                ..BASE.session("GRAPH", 3, LATENCY, "2.8.13", "event", "Draws the history of an event.", graph)
            },
            Command {
                tips: LATENCY_TIPS,
                ..BASE.session(
                    "HISTOGRAM",
                    -2,
                    LATENCY,
                    "7.0.0",
                    "[command [command ...]]",
                    "Tells how long commands take.",
                    histogram,
                )
            },
            Command {
                tips: LATENCY_TIPS,
                ..BASE.session(
                    "HISTORY",
                    3,
                    LATENCY,
                    "2.8.13",
                    "event",
                    "Lists when an event took how long.",
                    |ctx, args, reply| {
                        let all = ctx.worker.engine.latency.all();
                        let found = all.iter().find(|(name, _)| name.as_bytes() == &args[2]);
                        let samples = found.map(|(_, series)| series.samples.clone()).unwrap_or_default();
                        reply.array(samples.len());
                        for (at, ms) in samples {
                            reply.array(2);
                            reply.int(at);
                            reply.int(ms as i64);
                        }
                        Ok(())
                    },
                )
            },
            Command {
                tips: LATENCY_TIPS,
                ..BASE.session(
                    "LATEST",
                    2,
                    LATENCY,
                    "2.8.13",
                    "",
                    "Tells each event's last and longest time.",
                    |ctx, _, reply| {
                        let all = ctx.worker.engine.latency.all();
                        reply.array(all.len());
                        for (name, series) in all {
                            let (at, ms) = series.samples.back().copied().unwrap_or_default();
                            reply.array(4);
                            reply.bulk(name.as_bytes());
                            reply.int(at);
                            reply.int(ms as i64);
                            reply.int(series.max_ms as i64);
                        }
                        Ok(())
                    },
                )
            },
            Command {
                tips: &["request_policy:all_nodes", "response_policy:agg_sum"],
                ..BASE.session(
                    "RESET",
                    -2,
                    LATENCY,
                    "2.8.13",
                    "[event [event ...]]",
                    "Forgets events.",
                    |ctx, args, reply| {
                        let engine = ctx.engine();
                        let gone = if args.len() == 2 {
                            engine.latency.all().iter().filter(|(name, _)| engine.latency.clear(name)).count()
                        } else {
                            args.from(2)
                                .iter()
                                .filter(|name| engine.latency.clear(&String::from_utf8_lossy(name)))
                                .count()
                        };
                        reply.int(gone as i64);
                        Ok(())
                    },
                )
            },
            BASE.session("HELP", 2, ANYTIME, "2.8.13", "", "Explains the subcommands.", |_, _, reply| {
                super::help(
                    reply,
                    "LATENCY",
                    &[
                        ("DOCTOR", "Tells in words what took long."),
                        ("GRAPH <event>", "Draws the history of an event."),
                        ("HISTOGRAM [<command> ...]", "Tells how long commands take."),
                        ("HISTORY <event>", "Lists when an event took how long."),
                        ("LATEST", "Tells each event's last and longest time."),
                        ("RESET [<event> ...]", "Forgets events."),
                    ],
                );
                Ok(())
            }),
        ],
    ),
];

const KIND: &str = "type:<SLOW | LARGE-REQUEST | LARGE-REPLY>";
const KIND_AFTER_COUNT: &str = "count type:<SLOW | LARGE-REQUEST | LARGE-REPLY>";

fn count(args: &Args) -> Result<usize> {
    match args.int(2) {
        Ok(-1) => Ok(usize::MAX),
        Ok(count) if count >= 0 => Ok(count as usize),
        _ => Err(Error::text("ERR count should be greater than or equal to -1")),
    }
}

fn kind(word: &[u8]) -> Result<LogKind> {
    match word.to_ascii_lowercase().as_slice() {
        b"slow" => Ok(LogKind::Slow),
        b"large-request" => Ok(LogKind::LargeRequest),
        b"large-reply" => Ok(LogKind::LargeReply),
        _ => Err(Error::text("ERR type should be one of the following: slow, large-request, large-reply")),
    }
}

fn show(ctx: &Ctx, reply: &mut Reply, kind: LogKind, count: usize) {
    let entries = ctx.worker.engine.slowlog.newest(kind, count);
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.int(entry.id as i64);
        reply.int(entry.at);
        reply.int(entry.figure);
        reply.array(entry.words.len());
        entry.words.iter().for_each(|word| reply.bulk(word));
        reply.bulk(entry.addr.as_bytes());
        reply.bulk(entry.name.as_bytes());
    }
}

/// What may be done about an event.
const ADVICE: &[(&str, &str)] = &[
    (
        "command",
        "Some commands take long by nature, others with big values: SLOWLOG GET tells which they were, LATENCY HISTOGRAM how long \
         each usually takes. A command on a big collection is often replaced by its relative that works in steps (SCAN, a LIMIT, a range).",
    ),
    (
        "fast-command",
        "Commands that should take microseconds did not: the machine is short of processor time, swaps, or lies still for \
         moments, as virtual ones do. Look at its load and at steal time.",
    ),
    (
        "eviction-cycle",
        "Much had to go at once to stay below `maxmemory`. More memory, shorter times to live, or smaller values help.",
    ),
    ("expire-cycle", "Much came due at one time. Times to live that differ by some random seconds spread the work."),
];

fn doctor(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    let all = ctx.worker.engine.latency.all();
    let threshold = ctx.worker.settings.latency_monitor_threshold;
    let mut text = match (threshold, all.is_empty()) {
        (0, _) => {
            "Latency is not being watched: CONFIG SET latency-monitor-threshold <milliseconds> turns that on.\n".into()
        }
        (_, true) => format!("Nothing took {threshold} ms or longer.\n"),
        (_, false) => format!("Events that took {threshold} ms or longer:\n"),
    };
    for (name, series) in &all {
        let count = (series.samples.len() as u64).max(1);
        let average = series.samples.iter().map(|(_, ms)| ms).sum::<u64>() / count;
        let deviation = series.samples.iter().map(|(_, ms)| ms.abs_diff(average)).sum::<u64>() / count;
        let first = series.samples.front().map_or(0, |(at, _)| *at);
        let period = (ctx.worker.now_us() / 1_000_000 - first).max(0) / count as i64;
        text += &format!(
            "{name}: {count} events, {average} ms on average (they differ by {deviation} ms from that), one in {period} s, \
             {} ms at most\n",
            series.max_ms
        );
    }
    for (_, advice) in ADVICE.iter().filter(|(event, _)| all.iter().any(|(name, _)| *name == *event)) {
        text += &format!(" * {advice}\n");
    }
    if threshold != 0 && !all.is_empty() && ctx.worker.settings.slowlog_log_slower_than < 0 {
        text += " * The slow log is off: CONFIG SET slowlog-log-slower-than <microseconds> has it tell which commands were slow.\n";
    }
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn graph(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    /// Characters of the longest bar.
    const WIDTH: u64 = 60;
    let all = ctx.worker.engine.latency.all();
    let Some((name, series)) = all.iter().find(|(name, _)| name.as_bytes() == &args[2]) else {
        let name = String::from_utf8_lossy(&args[2]);
        return Err(Error::owned(format!("ERR No samples available for event '{name}'")));
    };
    let figures = || series.samples.iter().map(|(_, ms)| *ms);
    let (high, low) = (figures().max().unwrap_or(0).max(1), figures().min().unwrap_or(0));
    let now = ctx.worker.now_us() / 1_000_000;
    let mut text = format!("{name} - high {high} ms, low {low} ms (all time high {} ms)\n", series.max_ms);
    for (at, ms) in &series.samples {
        let bar = "#".repeat((ms * WIDTH / high) as usize);
        text += &format!("{:>8}s ago {ms:>8} ms {bar}\n", now - at);
    }
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn histogram(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let engine = ctx.engine();
    let wanted: Vec<&Registered> = if args.len() == 2 {
        registry::all().iter().collect()
    } else {
        args.from(2)
            .iter()
            .filter_map(|name| {
                let mut words = name.splitn(2, |byte| *byte == b'|');
                let command = words.next().and_then(registry::find)?;
                words.next().map_or(Some(command), |name| command.subcommand(name))
            })
            .flat_map(|command| std::iter::once(command).chain(command.subcommands()))
            .collect()
    };
    let map = reply.defer();
    let mut shown = 0;
    for command in wanted {
        let buckets = info::latency(&engine, command.id);
        let calls: u64 = buckets.iter().sum();
        if calls == 0 {
            continue;
        }
        shown += 1;
        reply.bulk(command.name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.int(calls as i64);
        reply.bulk(b"histogram_usec");
        let filled: Vec<usize> = (0..buckets.len()).filter(|bucket| buckets[*bucket] != 0).collect();
        reply.map(filled.len());
        let mut sum = 0;
        for bucket in filled {
            sum += buckets[bucket];
            reply.int(1 << bucket);
            reply.int(sum as i64);
        }
    }
    reply.end_map(map, shown);
    Ok(())
}
