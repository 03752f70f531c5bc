//! HOTKEYS: see [`crate::hotkeys`].

use crate::args::Args;
use crate::command::{Command, Flags, Group, Reply};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::hotkeys::{Metric, Wanted};

const BASE: Command = Command { group: Group::Server, ..Command::BASE };
const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT);

/// The family.
pub static COMMANDS: &[Command] = &[BASE.container(
    "HOTKEYS",
    "8.6.0",
    "Container of commands about the keys that cost most.",
    &[
        BASE.session(
            "START",
            -2,
            ADMIN,
            "8.6.0",
            "metrics-block:(METRICS count [CPU] [NET]) [COUNT k/integer] [DURATION seconds/integer] [SAMPLE ratio/integer] \
             slots-block:[SLOTS count slot/integer [slot ...]]",
            "Begins to look for the keys that cost most time or most bytes.",
            start,
        ),
        BASE.session("STOP", 2, ADMIN, "8.6.0", "", "Ends the search; what it found stays.", |ctx, _, reply| {
            let engine = ctx.engine();
            if engine.hotkeys.stop(&engine) { reply.ok() } else { reply.null() }
            Ok(())
        }),
        Command {
            complexity: "O(N) in the number of keys that are remembered",
            ..BASE.session("GET", 2, ADMIN, "8.6.0", "", "Tells which keys cost most, and how much.", get)
        },
        BASE.session("RESET", 2, ADMIN, "8.6.0", "", "Forgets what the search found.", |ctx, _, reply| {
            if !ctx.worker.engine.hotkeys.reset() {
                return Err(Error::text("ERR hotkey tracking session in progress, stop tracking first"));
            }
            reply.ok();
            Ok(())
        }),
        BASE.session("HELP", 2, Flags::NONE, "8.6.0", "", "Explains the subcommands.", |_, _, reply| {
            super::help(
                reply,
                "HOTKEYS",
                &[
                    (
                        "START METRICS <count> [CPU] [NET] [COUNT <k>] [DURATION <seconds>] [SAMPLE <ratio>]",
                        "Begins to look for the <k> keys (10) that cost most, in one command of <ratio>.",
                    ),
                    ("STOP", "Ends the search; what it found stays."),
                    ("GET", "Tells which keys cost most, and how much."),
                    ("RESET", "Forgets what the search found."),
                ],
            );
            Ok(())
        }),
    ],
)];

/// A number within bounds.
fn number(args: &Args, at: usize, low: i64, high: i64, text: &'static str) -> Result<i64> {
    args.int(at).ok().filter(|number| (low..=high).contains(number)).ok_or(Error::text(text))
}

fn start(ctx: &mut Ctx, args: &Args, reply: &mut Reply) -> Result {
    let engine = ctx.engine();
    let in_progress = Error::text("ERR hotkey tracking session already in progress");
    if engine.hotkeys.is_active() {
        return Err(in_progress);
    }
    if args.len() < 4 || !args.is(2, "METRICS") {
        return Err(Error::text("ERR METRICS parameter is required"));
    }
    let count = number(args, 3, 1, 2, "ERR METRICS count must be > 0 and <= 2")? as usize;
    let mut wanted = Wanted { metrics: [false; 2], count: 10, duration_ms: None, sample: 1 };
    // Those that are not known are passed over: they may be of a later version.
    for at in 4..4 + count {
        if at >= args.len() {
            return Err(Error::text("ERR METRICS count does not match number of metric types provided"));
        }
        for (metric, name) in [(Metric::Cpu, "CPU"), (Metric::Net, "NET")] {
            if args.is(at, name) && std::mem::replace(&mut wanted.metrics[metric as usize], true) {
                return Err(Error::owned(format!("ERR METRICS {name} defined more than once!")));
            }
        }
    }
    if wanted.metrics == [false; 2] {
        return Err(Error::text("ERR METRICS no valid metrics passed. Supported: CPU|NET"));
    }
    let mut at = 4 + count;
    while at < args.len() {
        let has_word = at + 1 < args.len();
        if args.is(at, "COUNT") && has_word {
            wanted.count = number(args, at + 1, 1, 64, "ERR COUNT must be between 1 and 64")? as usize;
        } else if args.is(at, "DURATION") && has_word {
            let text = "ERR DURATION must be between 1 and 1000000";
            wanted.duration_ms = Some(1000 * number(args, at + 1, 1, 1_000_000, text)?);
        } else if args.is(at, "SAMPLE") && has_word {
            wanted.sample = number(args, at + 1, 1, i32::MAX.into(), "ERR SAMPLE ratio must be positive")? as u64;
        } else if args.is(at, "SLOTS") && has_word {
            return Err(Error::text("ERR SLOTS parameter cannot be used in non-cluster mode"));
        } else {
            return Err(Error::Syntax);
        }
        at += 2;
    }
    if !engine.hotkeys.start(&engine, wanted) {
        return Err(in_progress);
    }
    reply.ok();
    Ok(())
}

fn get(ctx: &mut Ctx, _: &Args, reply: &mut Reply) -> Result {
    let engine = ctx.engine();
    let Some(report) = engine.hotkeys.report(&engine) else {
        reply.null();
        return Ok(());
    };
    let [cpu, net] = report.wanted.metrics;
    // One map for each node that was asked, of which there is one.
    reply.array(1);
    reply.map(7 + if cpu { 3 } else { 0 } + if net { 2 } else { 0 });
    let int = |reply: &mut Reply, name: &str, figure: i64| {
        reply.bulk(name.as_bytes());
        reply.int(figure);
    };
    int(reply, "tracking-active", report.active.into());
    int(reply, "sample-ratio", report.wanted.sample as i64);
    reply.bulk(b"selected-slots");
    reply.array(1);
    reply.array(2);
    reply.int(0);
    reply.int(16383);
    int(reply, "all-commands-all-slots-us", report.totals[Metric::Cpu as usize] as i64);
    int(reply, "net-bytes-all-commands-all-slots", report.totals[Metric::Net as usize] as i64);
    int(reply, "collection-start-time-unix-ms", report.started_ms);
    int(reply, "collection-duration-ms", report.duration_ms);
    if cpu {
        int(reply, "total-cpu-time-user-ms", report.cpu_ms.0 as i64);
        int(reply, "total-cpu-time-sys-ms", report.cpu_ms.1 as i64);
    }
    if net {
        int(reply, "total-net-bytes", report.sampled[Metric::Net as usize] as i64);
    }
    for (wanted, name, metric) in [(cpu, "by-cpu-time-us", Metric::Cpu), (net, "by-net-bytes", Metric::Net)] {
        if wanted {
            let keys = &report.keys[metric as usize];
            reply.bulk(name.as_bytes());
            reply.array(2 * keys.len());
            for (key, cost) in keys {
                reply.bulk(key);
                reply.int(*cost as i64);
            }
        }
    }
    Ok(())
}
