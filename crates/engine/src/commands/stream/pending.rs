//! What was delivered and not acknowledged: XACK, XNACK, XPENDING, XCLAIM, XAUTOCLAIM.

use super::entries::parse_ids;
use super::id;
use super::read::{emit_pending, emit_position, see_consumer};
use super::{write_entry, write_id};
use crate::args::Args;
use crate::command::Reply;
use crate::error::{Error, Result};
use kelda_store::stream::{Actor, Claim, Claimed, Group, Pending, Stream, StreamId};
use kelda_store::txn::{Edit, Txn, View, emit_ids};

fn no_group(args: &Args) -> Error {
    let (key, group) = (String::from_utf8_lossy(&args[1]), String::from_utf8_lossy(&args[2]));
    Error::owned(format!("NOGROUP No such key '{key}' or consumer group '{group}'"))
}

pub(super) fn xack(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let name = &args[2];
    let mut edit = match txn.edit::<Stream>(args.key(1))? {
        Some(edit) if edit.group(name).is_some() => edit,
        _ => {
            reply.int(0);
            return Ok(());
        }
    };
    let ids = parse_ids(args.from(3))?;
    let acknowledged = edit.apply_quietly(|stream, emit| {
        let Some(group) = stream.group_mut(name) else { return 0 };
        let done: Vec<StreamId> = ids.into_iter().filter(|id| group.ack(*id)).collect();
        emit_ids(emit, b"XACK", Some(name), &done);
        done.len()
    });
    reply.int(acknowledged as i64);
    Ok(())
}

/// What XNACK makes of the count of deliveries.
#[derive(Clone, Copy)]
enum Count {
    /// One less.
    Undo,
    /// It stays.
    Keep,
    /// The highest: nobody should try again.
    Max,
}

/// The options of XNACK.
struct NackOptions {
    count: Count,
    ids: Vec<StreamId>,
    delivery_count: Option<u64>,
    force: bool,
}

impl NackOptions {
    fn parse(args: &Args) -> Result<NackOptions> {
        const MODES: [(&str, Count); 3] = [("SILENT", Count::Undo), ("FAIL", Count::Keep), ("FATAL", Count::Max)];
        let (_, count) = MODES
            .into_iter()
            .find(|(word, _)| args.is(3, word))
            .ok_or(Error::text("ERR mode must be SILENT, FAIL, or FATAL"))?;
        let (mut ids, mut delivery_count, mut force) = (None, None, false);
        let mut at = 4;
        while at < args.len() {
            let more = at + 1 < args.len();
            if args.is(at, "FORCE") {
                force = true;
                at += 1;
            } else if args.is(at, "RETRYCOUNT") && more {
                let given = u64::try_from(args.int(at + 1)?);
                delivery_count = Some(given.map_err(|_| Error::text("ERR Invalid RETRYCOUNT value, must be >= 0"))?);
                at += 2;
            } else if args.is(at, "IDS") && more && ids.is_none() {
                let len = args.int(at + 1).ok().and_then(|len| usize::try_from(len).ok()).filter(|len| *len != 0);
                let len = len.ok_or(Error::text("ERR numids must be a positive integer"))?;
                let words = args.from(at + 2).get(..len);
                ids = Some(parse_ids(words.ok_or(Error::text("ERR number of IDs doesn't match numids"))?)?);
                at += 2 + len;
            } else {
                let option = String::from_utf8_lossy(&args[at]);
                return Err(Error::owned(format!("ERR Unrecognized XNACK option '{option}'")));
            }
        }
        let ids = ids.ok_or(Error::text("ERR syntax error, expected IDS keyword"))?;
        Ok(NackOptions { count, ids, delivery_count, force })
    }

    /// The count of deliveries that an entry gets which had this one; `None` if it was not pending.
    fn counted(&self, deliveries: Option<u64>) -> u64 {
        self.delivery_count.unwrap_or(match self.count {
            Count::Undo => deliveries.unwrap_or(0).saturating_sub(1),
            Count::Keep => deliveries.unwrap_or(0),
            Count::Max => i64::MAX as u64,
        })
    }
}

pub(super) fn xnack(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let mut edit = edit_group(txn, args)?;
    let options = NackOptions::parse(args)?;
    let name = &args[2];
    let given_back = edit.apply_quietly(|stream, emit| {
        let mut done: Vec<(StreamId, u64)> = Vec::new();
        for id in &options.ids {
            let there = options.force && stream.get(*id).is_some();
            let Some(group) = stream.group_mut(name) else { continue };
            let deliveries = group.pending(*id).map(|pending| pending.delivery_count);
            if deliveries.is_none() && !there {
                continue;
            }
            let count = options.counted(deliveries);
            group.give_back(*id, count);
            done.push((*id, count));
        }
        for batch in done.chunk_by(|(_, a), (_, b)| a == b) {
            let (len, count) = (batch.len().to_string(), batch[0].1.to_string());
            let ids: Vec<String> = batch.iter().map(|(id, _)| id.to_string()).collect();
            let mut words: Vec<&[u8]> = vec![name, b"FAIL", b"IDS", len.as_bytes()];
            words.extend(ids.iter().map(|id| id.as_bytes()));
            words.extend_from_slice(&[b"RETRYCOUNT", count.as_bytes(), b"FORCE"]);
            emit(b"XNACK", &words);
        }
        done.len()
    });
    if given_back != 0 {
        // Those who wait to claim get them at once.
        edit.wake();
    }
    reply.int(given_back as i64);
    Ok(())
}

pub(super) fn xpending(view: &View, args: &Args, reply: &mut Reply) -> Result {
    if args.len() == 3 {
        let group = find_group(view, args)?;
        write_summary(group, reply);
        return Ok(());
    }
    /// Words with a range, a consumer and IDLE.
    const LONGEST: usize = 9;
    if args.len() < 6 || args.len() > LONGEST {
        return Err(Error::Syntax);
    }
    let (mut at, mut min_idle) = (3, 0);
    if args.is(3, "IDLE") {
        min_idle = args.int(4)?;
        if args.len() < 8 {
            return Err(Error::Syntax);
        }
        at = 5;
    }
    let count = usize::try_from(args.int(at + 2)?).unwrap_or(0);
    let (start, end) = (id::parse_start(&args[at])?, id::parse_end(&args[at + 1])?);
    let group = find_group(view, args)?;
    match args.get(at + 3) {
        None => {
            let pending = group.pending_range(start, end).map(|(id, pending)| (*id, pending));
            write_pending(view, pending, min_idle, count, reply);
        }
        Some(consumer) => write_pending(view, group.pending_range_of(consumer, start, end), min_idle, count, reply),
    }
    Ok(())
}

fn find_group<'a>(view: &'a View, args: &Args) -> Result<&'a Group> {
    view.stream(args.key(1))?.and_then(|stream| stream.group(&args[2])).ok_or_else(|| no_group(args))
}

/// How many are pending, the lowest and the highest id, and how many each consumer has.
fn write_summary(group: &Group, reply: &mut Reply) {
    reply.array(4);
    reply.int(group.pending_len() as i64);
    let mut ids = group.pending_range(StreamId::MIN, StreamId::MAX);
    let Some((first, _)) = ids.next() else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    write_id(reply, *first);
    write_id(reply, *ids.next_back().map_or(first, |(last, _)| last));
    let header = reply.defer();
    let mut shown = 0;
    for (name, consumer) in group.consumers() {
        let pending = consumer.pending().len();
        if pending != 0 {
            reply.array(2);
            reply.bulk(name);
            reply.bulk_int(pending as i64);
            shown += 1;
        }
    }
    reply.end_array(header, shown);
}

fn write_pending<'a>(
    view: &View,
    pending: impl Iterator<Item = (StreamId, &'a Pending)>,
    min_idle: i64,
    count: usize,
    reply: &mut Reply,
) {
    let header = reply.defer();
    let mut shown = 0;
    for (id, pending) in pending.filter(|(_, pending)| pending.idle(view.now()) >= min_idle).take(count) {
        reply.array(4);
        write_id(reply, id);
        reply.bulk(pending.consumer());
        reply.int(if pending.is_given_back() { -1 } else { pending.idle(view.now()) });
        reply.int(pending.delivery_count as i64);
        shown += 1;
    }
    reply.end_array(header, shown);
}

/// The stream at word 1 for a change of the group at word 2, which both must be there.
fn edit_group<'t, 'k>(txn: &'t mut Txn<'k>, args: &Args<'t>) -> Result<Edit<'t, 'k, Stream>> {
    match txn.edit::<Stream>(args.key(1))? {
        Some(edit) if edit.group(&args[2]).is_some() => Ok(edit),
        _ => Err(no_group(args)),
    }
}

/// The options of XCLAIM after the ids.
#[derive(Default)]
struct ClaimOptions {
    delivery_time: Option<i64>,
    delivery_count: Option<u64>,
    force: bool,
    just_id: bool,
    last_id: Option<StreamId>,
}

impl ClaimOptions {
    fn parse(args: &Args, first: usize, now: i64) -> Result<ClaimOptions> {
        let mut options = ClaimOptions::default();
        let mut at = first;
        while at < args.len() {
            let more = at + 1 < args.len();
            let number = |error| args.int(at + 1).map_err(|_| Error::text(error));
            let mut words = 2;
            if args.is(at, "FORCE") {
                (options.force, words) = (true, 1);
            } else if args.is(at, "JUSTID") {
                (options.just_id, words) = (true, 1);
            } else if args.is(at, "IDLE") && more {
                let idle = number("ERR Invalid IDLE option argument for XCLAIM")?;
                options.delivery_time = Some(now.saturating_sub(idle));
            } else if args.is(at, "TIME") && more {
                options.delivery_time = Some(number("ERR Invalid TIME option argument for XCLAIM")?);
            } else if args.is(at, "RETRYCOUNT") && more {
                let count = number("ERR Invalid RETRYCOUNT option argument for XCLAIM")?;
                options.delivery_count = u64::try_from(count).ok();
            } else if args.is(at, "LASTID") && more {
                options.last_id = Some(id::parse(&args[at + 1], 0)?);
            } else {
                let option = String::from_utf8_lossy(&args[at]);
                return Err(Error::owned(format!("ERR Unrecognized XCLAIM option '{option}'")));
            }
            at += words;
        }
        Ok(options)
    }
}

pub(super) fn xclaim(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let now = txn.now();
    let mut edit = edit_group(txn, args)?;
    let min_idle = args.int(4).map_err(|_| Error::text("ERR Invalid min-idle-time argument for XCLAIM"))?;
    let ids: Vec<StreamId> = args.from(5).iter().map_while(|word| id::parse(word, 0).ok()).collect();
    let options = ClaimOptions::parse(args, 5 + ids.len(), now)?;
    let claim = Claim {
        min_idle,
        // A time that cannot be is now.
        delivery_time: options.delivery_time.filter(|time| (0..=now).contains(time)).unwrap_or(now),
        delivery_count: options.delivery_count,
        force: options.force,
        just_id: options.just_id,
    };
    let actor = Actor { group: &args[2], consumer: &args[3], now };
    if let Some(last) = options.last_id {
        edit.apply_quietly(|stream, emit| {
            let Some(group) = stream.group_mut(actor.group) else { return };
            if last > group.last_delivered() {
                group.set_position(last, group.entries_read());
                emit_position(emit, stream, actor.group);
            }
        });
    }
    see_consumer(&mut edit, &actor);
    let header = reply.defer();
    let shown = edit.apply_quietly(|stream, emit| {
        let mut shown = 0;
        for id in ids {
            match stream.claim(&actor, id, &claim) {
                Claimed::Yes(entry) => {
                    if claim.just_id {
                        write_id(reply, id);
                    } else {
                        write_entry(reply, entry);
                    }
                    shown += 1;
                    emit_pending(emit, stream, actor.group, id);
                }
                Claimed::Deleted => emit_ids(emit, b"XACK", Some(actor.group), &[id]),
                Claimed::No => {}
            }
        }
        shown
    });
    reply.end_array(header, shown);
    Ok(())
}

pub(super) fn xautoclaim(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let min_idle = args.int(4).map_err(|_| Error::text("ERR Invalid min-idle-time argument for XAUTOCLAIM"))?;
    let start = id::parse_start(&args[5])?;
    let (mut count, mut just_id) = (100, false);
    let mut at = 6;
    while at < args.len() {
        if args.is(at, "COUNT") && at + 1 < args.len() {
            let given = args.int(at + 1).ok().and_then(|count| usize::try_from(count).ok());
            count =
                given.filter(|count| (1..=COUNT_MAX).contains(count)).ok_or(Error::text("ERR COUNT must be > 0"))?;
            at += 2;
        } else if args.is(at, "JUSTID") {
            just_id = true;
            at += 1;
        } else {
            return Err(Error::Syntax);
        }
    }
    let now = txn.now();
    let mut edit = edit_group(txn, args)?;
    let actor = Actor { group: &args[2], consumer: &args[3], now };
    let claim = Claim { min_idle, delivery_time: now, delivery_count: None, force: false, just_id };
    see_consumer(&mut edit, &actor);
    // The cursor comes first, so that it is put before what is claimed in the end.
    let mark = reply.len();
    let header = reply.defer();
    let (cursor, claimed, deleted) = edit.apply_quietly(|stream, emit| {
        let (mut claimed, mut deleted) = (Vec::new(), Vec::new());
        let cursor = stream.autoclaim(&actor, start, count, &claim, |id, entry| match entry {
            Some(entry) => {
                claimed.push(id);
                if just_id {
                    write_id(reply, id);
                } else {
                    write_entry(reply, entry);
                }
            }
            None => deleted.push(id),
        });
        for id in &claimed {
            emit_pending(emit, stream, actor.group, *id);
        }
        emit_ids(emit, b"XACK", Some(actor.group), &deleted);
        (cursor, claimed.len(), deleted)
    });
    reply.end_array(header, claimed);
    let entries = reply.buf.split_off(mark);
    reply.array(3);
    write_id(reply, cursor);
    reply.raw(&entries);
    reply.array(deleted.len());
    for id in deleted {
        write_id(reply, id);
    }
    Ok(())
}

/// XAUTOCLAIM's highest COUNT: Redis keeps the ids in one allocation.
const COUNT_MAX: usize = i64::MAX as usize / 16;
