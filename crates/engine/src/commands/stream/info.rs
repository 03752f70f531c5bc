//! Descriptions: XINFO.

use super::{write_entry, write_id};
use crate::args::Args;
use crate::command::Reply;
use crate::error::{Error, Result};
use kelda_store::stream::{Consumer, Group, Producers, Stream, StreamId};
use kelda_store::txn::View;

fn find<'a>(view: &'a View, args: &Args) -> Result<&'a Stream> {
    view.stream(args.key(2))?.ok_or(Error::NoSuchKey)
}

pub(super) fn stream(view: &View, args: &Args, reply: &mut Reply) -> Result {
    /// Entries and pending entries that FULL shows unless told otherwise.
    const COUNT: usize = 10;
    let full = args.is(3, "FULL");
    let count = match args.len() {
        3 => 0,
        4 if full => COUNT,
        6 if full && args.is(4, "COUNT") => match args.int(5)? {
            0 => usize::MAX,
            count => usize::try_from(count).unwrap_or(COUNT),
        },
        _ => {
            let given = String::from_utf8_lossy(&args[1]);
            return Err(Error::owned(format!(
                "ERR unknown subcommand or wrong number of arguments for '{given}'. Try XINFO HELP."
            )));
        }
    };
    let stream = find(view, args)?;
    // Redis's tools and Valkey's do not expect one form of the full description: what is never used is left out of it.
    let with_producers = !full || stream.producers().is_some();
    reply.map(if full { 9 } else { 10 } + if with_producers { 6 } else { 0 });
    write_counters(stream, reply);
    if with_producers {
        write_producers(view, stream, reply);
    }
    if full {
        reply.bulk(b"entries");
        let header = reply.defer();
        let shown = stream.iter().take(count).map(|entry| write_entry(reply, entry)).count();
        reply.end_array(header, shown);
        reply.bulk(b"groups");
        reply.array(stream.groups().len());
        for (name, group) in stream.groups() {
            write_full_group(stream, name, group, count, reply);
        }
        return Ok(());
    }
    reply.bulk(b"groups");
    reply.int(stream.groups().len() as i64);
    for (name, reverse) in [("first-entry", false), ("last-entry", true)] {
        reply.bulk(name.as_bytes());
        match stream.range(StreamId::MIN, StreamId::MAX, reverse).next() {
            Some(entry) => write_entry(reply, entry),
            None => reply.null(),
        }
    }
    Ok(())
}

/// The first seven fields of XINFO STREAM. Redis keeps its nodes in a radix tree; a map of as many keys has one node for each
/// and a root.
fn write_counters(stream: &Stream, reply: &mut Reply) {
    let nodes = stream.node_count() as i64;
    int_field(reply, "length", stream.len() as i64);
    int_field(reply, "radix-tree-keys", nodes);
    int_field(reply, "radix-tree-nodes", nodes + 1);
    id_field(reply, "last-generated-id", stream.last_id());
    id_field(reply, "max-deleted-entry-id", stream.max_deleted_id());
    int_field(reply, "entries-added", stream.entries_added() as i64);
    id_field(reply, "recorded-first-entry-id", stream.first_id());
}

/// What makes producers idempotent.
fn write_producers(view: &View, stream: &Stream, reply: &mut Reply) {
    let limits = view.cx.env.limits;
    let none = Producers::new(limits.stream_mark_seconds, limits.stream_marks_max);
    let producers = stream.producers().unwrap_or(&none);
    let (names, marks) = producers.counts(view.now());
    int_field(reply, "idmp-duration", producers.seconds() as i64);
    int_field(reply, "idmp-maxsize", producers.max() as i64);
    int_field(reply, "pids-tracked", names as i64);
    int_field(reply, "iids-tracked", marks as i64);
    int_field(reply, "iids-added", producers.added() as i64);
    int_field(reply, "iids-duplicates", producers.duplicates() as i64);
}

fn int_field(reply: &mut Reply, name: &str, value: i64) {
    reply.bulk(name.as_bytes());
    reply.int(value);
}

fn id_field(reply: &mut Reply, name: &str, id: StreamId) {
    reply.bulk(name.as_bytes());
    write_id(reply, id);
}

fn name_field(reply: &mut Reply, name: &[u8]) {
    reply.bulk(b"name");
    reply.bulk(name);
}

/// Up to where a group has read, and how much that leaves.
fn write_position(stream: &Stream, group: &Group, reply: &mut Reply) {
    id_field(reply, "last-delivered-id", group.last_delivered());
    let read = group.entries_read().map(|read| read as i64);
    for (name, value) in [("entries-read", read), ("lag", stream.lag(group))] {
        reply.bulk(name.as_bytes());
        match value {
            Some(value) => reply.int(value),
            None => reply.null(),
        }
    }
}

fn write_full_group(stream: &Stream, name: &[u8], group: &Group, count: usize, reply: &mut Reply) {
    reply.map(8);
    name_field(reply, name);
    write_position(stream, group, reply);
    int_field(reply, "pel-count", group.pending_len() as i64);
    reply.bulk(b"pending");
    reply.array(group.pending_len().min(count));
    for (id, pending) in group.pending_range(StreamId::MIN, StreamId::MAX).take(count) {
        reply.array(4);
        write_id(reply, *id);
        reply.bulk(pending.consumer());
        reply.int(pending.delivery_time);
        reply.int(pending.delivery_count as i64);
    }
    reply.bulk(b"consumers");
    reply.array(group.consumers().len());
    for (name, consumer) in group.consumers() {
        write_full_consumer(group, name, consumer, count, reply);
    }
    int_field(reply, "nacked-count", group.given_back().len() as i64);
}

fn write_full_consumer(group: &Group, name: &[u8], consumer: &Consumer, count: usize, reply: &mut Reply) {
    reply.map(5);
    name_field(reply, name);
    int_field(reply, "seen-time", consumer.seen_time);
    int_field(reply, "active-time", consumer.active_time.unwrap_or(-1));
    int_field(reply, "pel-count", consumer.pending().len() as i64);
    reply.bulk(b"pending");
    let header = reply.defer();
    let mut shown = 0;
    for (id, pending) in group.pending_range_of(name, StreamId::MIN, StreamId::MAX).take(count) {
        reply.array(3);
        write_id(reply, id);
        reply.int(pending.delivery_time);
        reply.int(pending.delivery_count as i64);
        shown += 1;
    }
    reply.end_array(header, shown);
}

pub(super) fn groups(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let stream = find(view, args)?;
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(6);
        name_field(reply, name);
        int_field(reply, "consumers", group.consumers().len() as i64);
        int_field(reply, "pending", group.pending_len() as i64);
        write_position(stream, group, reply);
    }
    Ok(())
}

pub(super) fn consumers(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let Some(group) = find(view, args)?.group(&args[3]) else {
        let (key, group) = (String::from_utf8_lossy(&args[2]), String::from_utf8_lossy(&args[3]));
        return Err(Error::owned(format!("NOGROUP No such consumer group '{group}' for key name '{key}'")));
    };
    let since = |time: i64| view.now().saturating_sub(time).max(0);
    reply.array(group.consumers().len());
    for (name, consumer) in group.consumers() {
        reply.map(4);
        name_field(reply, name);
        int_field(reply, "pending", consumer.pending().len() as i64);
        int_field(reply, "idle", since(consumer.seen_time));
        int_field(reply, "inactive", consumer.active_time.map_or(-1, since));
    }
    Ok(())
}
