//! SUBSCRIBE, PUBLISH, PUBSUB and their pattern and shard forms.

use crate::args::Args;
use crate::client_memory::entry_bytes;
use crate::command::{Channels, Command, Flags, Group, Keys, Reply, Run};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::mailbox::Audience;
use crate::pubsub::Subscription;
use crate::session::Published;
use crate::worker::Fate;
use kelda_resp::glob_match;
use std::sync::atomic::Ordering::Relaxed;

const BASE: Command = Command { group: Group::PubSub, since: "2.0.0", ..Command::BASE };
const COMMON: Flags =
    Flags::PUBSUB.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE).and(Flags::IN_PUBSUB).and(Flags::PUSHES);
const PUBLISHING: Flags =
    Flags::PUBSUB.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST).and(Flags::MAY_REPLICATE);
const ASKING: Flags = Flags::PUBSUB.and(Flags::LOADING).and(Flags::STALE);

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "SUBSCRIBE",
        arity: -2,
        channels: Channels::Subscribe,
        flags: COMMON,
        syntax: "channel [channel ...]",
        summary: "Listens to channels.",
        complexity: "O(N) in the number of channels",
        run: Run::Session(|ctx, args, reply| subscribe(ctx, args, reply, Subscription::Channel)),
        ..BASE
    },
    Command {
        name: "UNSUBSCRIBE",
        arity: -1,
        flags: COMMON,
        syntax: "[channel [channel ...]]",
        summary: "Stops listening to channels, or to all.",
        complexity: "O(N) in the number of channels",
        run: Run::Session(|ctx, args, reply| unsubscribe(ctx, args, reply, Subscription::Channel)),
        ..BASE
    },
    Command {
        name: "PSUBSCRIBE",
        arity: -2,
        channels: Channels::Patterns,
        flags: COMMON,
        syntax: "pattern [pattern ...]",
        summary: "Listens to all channels that match patterns.",
        complexity: "O(N) in the number of patterns",
        run: Run::Session(|ctx, args, reply| subscribe(ctx, args, reply, Subscription::Pattern)),
        ..BASE
    },
    Command {
        name: "PUNSUBSCRIBE",
        arity: -1,
        flags: COMMON,
        syntax: "[pattern [pattern ...]]",
        summary: "Stops listening to patterns, or to all.",
        complexity: "O(N) in the number of patterns",
        run: Run::Session(|ctx, args, reply| unsubscribe(ctx, args, reply, Subscription::Pattern)),
        ..BASE
    },
    Command {
        name: "SSUBSCRIBE",
        arity: -2,
        channels: Channels::Subscribe,
        keys: &[Keys::range(1, -1, 1).not_key()],
        flags: COMMON,
        since: "7.0.0",
        syntax: "shardchannel [shardchannel ...]",
        summary: "Listens to shard channels.",
        complexity: "O(N) in the number of shard channels",
        run: Run::Session(|ctx, args, reply| subscribe(ctx, args, reply, Subscription::Shard)),
        ..BASE
    },
    Command {
        name: "SUNSUBSCRIBE",
        arity: -1,
        keys: &[Keys::range(1, -1, 1).not_key()],
        flags: COMMON,
        since: "7.0.0",
        syntax: "[shardchannel [shardchannel ...]]",
        summary: "Stops listening to shard channels, or to all.",
        complexity: "O(N) in the number of shard channels",
        run: Run::Session(|ctx, args, reply| unsubscribe(ctx, args, reply, Subscription::Shard)),
        ..BASE
    },
    Command {
        name: "PUBLISH",
        arity: 3,
        channels: Channels::Publish,
        flags: PUBLISHING,
        syntax: "channel message",
        summary: "Sends a message to all who listen to a channel.",
        complexity: "O(N+M): N subscribers of the channel, M patterns in use",
        run: Run::Session(|ctx, args, reply| publish(ctx, args, reply, Audience::Channel)),
        ..BASE
    },
    Command {
        name: "SPUBLISH",
        arity: 3,
        channels: Channels::Publish,
        keys: &[Keys::at(1).not_key()],
        flags: PUBLISHING,
        since: "7.0.0",
        syntax: "shardchannel message",
        summary: "Sends a message to all who listen to a shard channel.",
        complexity: "O(N) in the number of its subscribers",
        run: Run::Session(|ctx, args, reply| publish(ctx, args, reply, Audience::Shard)),
        ..BASE
    },
    Command {
        name: "PUBSUB",
        arity: -2,
        since: "2.8.0",
        summary: "Container of commands about channels and their subscribers.",
        complexity: "That of the subcommand",
        run: Run::Group(&[
            Command {
                name: "CHANNELS",
                arity: -2,
                flags: ASKING,
                since: "2.8.0",
                syntax: "[pattern]",
                summary: "Lists the channels that have subscribers.",
                complexity: "O(N) in the number of channels",
                run: Run::Session(|ctx, args, reply| channels(ctx, args, reply, Subscription::Channel)),
                ..BASE
            },
            Command {
                name: "SHARDCHANNELS",
                arity: -2,
                flags: ASKING,
                since: "7.0.0",
                syntax: "[pattern]",
                summary: "Lists the shard channels that have subscribers.",
                complexity: "O(N) in the number of shard channels",
                run: Run::Session(|ctx, args, reply| channels(ctx, args, reply, Subscription::Shard)),
                ..BASE
            },
            Command {
                name: "NUMSUB",
                arity: -2,
                flags: ASKING,
                since: "2.8.0",
                syntax: "[channel [channel ...]]",
                summary: "Counts the subscribers of channels.",
                complexity: "O(N) in the number of channels asked for",
                run: Run::Session(|ctx, args, reply| numsub(ctx, args, reply, Subscription::Channel)),
                ..BASE
            },
            Command {
                name: "SHARDNUMSUB",
                arity: -2,
                flags: ASKING,
                since: "7.0.0",
                syntax: "[shardchannel [shardchannel ...]]",
                summary: "Counts the subscribers of shard channels.",
                complexity: "O(N) in the number of shard channels asked for",
                run: Run::Session(|ctx, args, reply| numsub(ctx, args, reply, Subscription::Shard)),
                ..BASE
            },
            Command {
                name: "NUMPAT",
                arity: 2,
                flags: ASKING,
                since: "2.8.0",
                summary: "Counts the patterns that are listened to.",
                run: Run::Session(|ctx, _, reply| {
                    reply.int(ctx.worker.engine.pubsub.pattern_count() as i64);
                    Ok(())
                }),
                ..BASE
            },
            Command {
                name: "HELP",
                arity: 2,
                flags: Flags::LOADING.and(Flags::STALE),
                since: "6.2.0",
                categories: Some(&[]),
                summary: "Explains the subcommands.",
                run: Run::Session(|_, _, reply| {
                    super::help(
                        reply,
                        "PUBSUB",
                        &[
                            ("CHANNELS [<pattern>]", "Lists channels with subscribers that match the pattern."),
                            ("NUMPAT", "Counts the patterns that are listened to."),
                            ("NUMSUB [<channel> ...]", "Counts the subscribers of channels."),
                            ("SHARDCHANNELS [<pattern>]", "Lists shard channels with subscribers."),
                            ("SHARDNUMSUB [<shardchannel> ...]", "Counts the subscribers of shard channels."),
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

/// The count in a confirmation: of channels and patterns together, or of shard channels.
fn count(ctx: &Ctx, kind: Subscription) -> i64 {
    let [channels, patterns, shards] = &*ctx.session.info.subscribed();
    match kind {
        Subscription::Shard => shards.len() as i64,
        _ => (channels.len() + patterns.len()) as i64,
    }
}

fn note_counts(ctx: &mut Ctx) {
    let info = &ctx.session.info;
    let subscribed = info.subscribed();
    for (shown, names) in info.subscriptions.iter().zip(&*subscribed) {
        shown.store(names.len(), Relaxed);
    }
    ctx.session.subscription_count = subscribed.iter().map(|names| names.len()).sum();
}

fn subscribe(ctx: &mut Ctx, args: &Args, reply: &mut Reply, kind: Subscription) -> Result {
    let engine = ctx.engine();
    let (at, index) = (ctx.session.at, ctx.worker.index);
    for name in args.from(1) {
        if ctx.session.info.subscribed()[kind as usize].insert((*name).into()) {
            ctx.session.info.kept_bytes.fetch_add(entry_bytes(name), Relaxed);
            // First the local list: a message that is counted must find its receiver.
            ctx.worker.subscribers.add(kind, name, at.slot);
            engine.pubsub.add(kind, name, index);
        }
        confirm(reply, kind.words().0, Some(name), count(ctx, kind));
    }
    note_counts(ctx);
    // Who changed the user meanwhile may have looked at its sessions before this one listened.
    if engine.acl.version() != ctx.session.acl_version {
        ctx.worker.follow_users(ctx.session);
        if args.from(1).iter().any(|name| !ctx.session.user.may_listen(kind, name)) {
            ctx.session.fate = Fate::CloseAfterWrite;
        }
    }
    Ok(())
}

fn confirm(reply: &mut Reply, word: &str, name: Option<&[u8]>, count: i64) {
    reply.push(3);
    reply.bulk(word.as_bytes());
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.int(count);
}

fn unsubscribe(ctx: &mut Ctx, args: &Args, reply: &mut Reply, kind: Subscription) -> Result {
    let all: Vec<Box<[u8]>>;
    let names: Vec<&[u8]> = if args.len() > 1 {
        args.from(1).to_vec()
    } else {
        all = ctx.session.info.subscribed()[kind as usize].iter().cloned().collect();
        all.iter().map(|name| &**name).collect()
    };
    if names.is_empty() {
        confirm(reply, kind.words().1, None, count(ctx, kind));
    }
    for name in names {
        drop_subscription(ctx, kind, name);
        confirm(reply, kind.words().1, Some(name), count(ctx, kind));
    }
    note_counts(ctx);
    Ok(())
}

fn drop_subscription(ctx: &mut Ctx, kind: Subscription, name: &[u8]) {
    let removed = ctx.session.info.subscribed()[kind as usize].remove(name);
    if removed {
        ctx.session.info.kept_bytes.fetch_sub(entry_bytes(name), Relaxed);
        ctx.worker.engine.pubsub.remove(kind, name, ctx.worker.index);
        ctx.worker.subscribers.remove(kind, name, ctx.session.at.slot);
    }
}

/// Ends all subscriptions without a word (RESET).
pub(super) fn drop_all(ctx: &mut Ctx) {
    for kind in [Subscription::Channel, Subscription::Pattern, Subscription::Shard] {
        let names = std::mem::take(&mut ctx.session.info.subscribed()[kind as usize]);
        for name in names {
            ctx.session.info.kept_bytes.fetch_sub(entry_bytes(&name), Relaxed);
            ctx.worker.engine.pubsub.remove(kind, &name, ctx.worker.index);
            ctx.worker.subscribers.remove(kind, &name, ctx.session.at.slot);
        }
    }
    note_counts(ctx);
}

fn publish(ctx: &mut Ctx, args: &Args, reply: &mut Reply, audience: Audience) -> Result {
    let engine = ctx.engine();
    if ctx.txn.is_some() {
        reply.int(engine.pubsub.receivers(audience, &args[1]) as i64);
        let (channel, payload) = (args[1].into(), args[2].into());
        ctx.session.outbox.push(Published { audience, channel, payload });
        return Ok(());
    }
    let receivers =
        engine.pubsub.publish(&engine, ctx.worker.index, audience, &args[1], &args[2], ctx.worker.tellings.told_lsn);
    ctx.worker.feed_message(ctx.session.db, audience, &args[1], &args[2]);
    reply.int(receivers as i64);
    // Whoever listens to what it publishes gets the message after the reply, as in Redis since 7.2.
    if receivers != 0 && ctx.session.subscription_count != 0 {
        ctx.worker.read_mail();
        let held = ctx.worker.take_held_back(ctx.session.at);
        reply.raw(&held);
    }
    Ok(())
}

fn channels(ctx: &mut Ctx, args: &Args, reply: &mut Reply, kind: Subscription) -> Result {
    if args.len() > 3 {
        return Err(Error::owned(format!(
            "ERR unknown subcommand or wrong number of arguments for '{}'. Try PUBSUB HELP.",
            String::from_utf8_lossy(&args[1])
        )));
    }
    let mut names = ctx.worker.engine.pubsub.channels(kind);
    if let Some(pattern) = args.get(2) {
        names.retain(|name| glob_match(pattern, name, false));
    }
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name));
    Ok(())
}

fn numsub(ctx: &mut Ctx, args: &Args, reply: &mut Reply, kind: Subscription) -> Result {
    let names = args.from(2);
    reply.array(names.len() * 2);
    for name in names {
        reply.bulk(name);
        reply.int(ctx.worker.engine.pubsub.subscribers(kind, name) as i64);
    }
    Ok(())
}
