//! Entries: XADD, XLEN, XRANGE, XREVRANGE, XDEL, XTRIM, XSETID.

use super::id::{self, NewId};
use super::idempotent::{self, Marking};
use super::{delete, write_entry, write_id};
use crate::args::Args;
use crate::command::Reply;
use crate::error::{Error, Result};
use kelda_store::stream::{Keep, Mark, Stream, StreamId, Trim};
use kelda_store::txn::{Edit, EventClasses, Txn, View, emit_ids};

/// The options of XADD and XTRIM.
struct Options<'a> {
    trim: Option<Trim>,
    make_stream: bool,
    marking: Option<Marking<'a>>,
    /// The first word after the options.
    next: usize,
}

/// Reads the options from word 2 on. XADD's end at the id, XTRIM's with the words.
fn options<'a>(args: &Args<'a>, xadd: bool, node_entries_max: usize) -> Result<Options<'a>> {
    let (mut keep, mut approximate, mut limit, mut make_stream) = (None, false, None, true);
    let (mut references, mut marking) = (None, None);
    let mut at = 2;
    while at < args.len() {
        let more = args.len() - 1 - at;
        if xadd && &args[at] == b"*" {
            break;
        } else if (args.is(at, "MAXLEN") || args.is(at, "MINID")) && more > 0 {
            if keep.is_some() {
                return Err(Error::text(
                    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                ));
            }
            let by_length = args.is(at, "MAXLEN");
            approximate = more >= 2 && &args[at + 1] == b"~";
            at += if more >= 2 && matches!(&args[at + 1], b"~" | b"=") { 2 } else { 1 };
            keep = Some(if by_length {
                let max = u64::try_from(args.int(at)?);
                Keep::MaxLen(max.map_err(|_| Error::text("ERR The MAXLEN argument must be >= 0."))?)
            } else {
                Keep::MinId(id::parse(&args[at], 0)?)
            });
        } else if args.is(at, "LIMIT") && more > 0 {
            at += 1;
            let max = u64::try_from(args.int(at)?);
            limit = Some(max.map_err(|_| Error::text("ERR The LIMIT argument must be >= 0."))?);
        } else if let Some(word) = delete::references(args, at) {
            if references.replace(word).is_some() {
                return Err(Error::Syntax);
            }
        } else if xadd && args.is(at, "NOMKSTREAM") {
            make_stream = false;
        } else if xadd && let Some((given, last)) = Marking::parse(args, at)? {
            if marking.replace(given).is_some() {
                return Err(Error::text("ERR IDMP/IDMPAUTO specified multiple times"));
            }
            at = last;
        } else if xadd {
            break;
        } else {
            return Err(Error::Syntax);
        }
        at += 1;
    }
    let none = keep.is_none();
    if none && limit.is_some_and(|limit| limit != 0) {
        return Err(Error::text("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"));
    }
    if none && !xadd {
        return Err(Error::text("ERR syntax error, XTRIM must be called with a trimming strategy"));
    }
    if limit.is_some() && !approximate {
        return Err(Error::text("ERR syntax error, LIMIT cannot be used without the special ~ option"));
    }
    let limit = match limit {
        Some(0) => None,
        Some(limit) => Some(limit),
        None if approximate => Some(default_limit(node_entries_max)),
        None => None,
    };
    let references = references.unwrap_or_default();
    let trim = keep.map(|keep| Trim { keep, approximate, limit, references });
    Ok(Options { trim, make_stream, marking, next: at })
}

/// Entries that `~` removes at most where no LIMIT is given: a hundred nodes, within bounds.
fn default_limit(node_entries_max: usize) -> u64 {
    const MAX: u64 = 1_000_000;
    match node_entries_max as u64 {
        0 => 10_000,
        entries => entries.saturating_mul(100).min(MAX),
    }
}

pub(super) fn xadd(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let limits = txn.cx.env.limits;
    let Options { trim, make_stream, marking, next } = options(args, true, limits.stream_node_entries_max)?;
    let arity = || Error::Arity("xadd".to_string());
    let new_id = NewId::parse(args.get(next).ok_or_else(arity)?)?;
    let words = args.from(next + 1);
    if words.is_empty() || !words.len().is_multiple_of(2) {
        return Err(arity());
    }
    if marking.is_some() && new_id != NewId::Auto {
        return Err(Error::text("ERR IDMP/IDMPAUTO can be used only with auto-generated IDs"));
    }
    if new_id == NewId::Given(StreamId::MIN) {
        return Err(Error::text("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let key = args.key(1);
    let (last, there) = match txn.stream(key)? {
        Some(stream) => (stream.last_id(), true),
        None => (StreamId::MIN, false),
    };
    if !there && !make_stream {
        reply.null();
        return Ok(());
    }
    let id_of_mark;
    let mark = match marking {
        None => None,
        Some(Marking::Given(mark)) => Some(mark),
        Some(Marking::Content { producer }) => {
            id_of_mark = idempotent::content_id(words);
            Some(Mark { producer, id: &id_of_mark })
        }
    };
    if let Some(entry) = idempotent::find(txn, key, mark)? {
        write_id(reply, entry);
        return Ok(());
    }
    if last == StreamId::MAX {
        return Err(Error::text("ERR The stream has exhausted the last possible ID, unable to add more items"));
    }
    let id = new_id
        .after(last, txn.now())
        .ok_or(Error::text("ERR The ID specified in XADD is equal or smaller than the target stream top item"))?;
    let mut edit: Edit<Stream> = txn.edit_or_new(key)?;
    let trimmed = edit.append(id, words, mark, trim.as_ref());
    edit.event(EventClasses::STREAM, "xadd");
    if trimmed != 0 {
        edit.event(EventClasses::STREAM, "xtrim");
    }
    write_id(reply, id);
    Ok(())
}

pub(super) fn xlen(view: &View, args: &Args, reply: &mut Reply) -> Result {
    reply.int(view.stream(args.key(1))?.map_or(0, |stream| stream.len() as i64));
    Ok(())
}

pub(super) fn xrange(view: &View, args: &Args, reply: &mut Reply, reverse: bool) -> Result {
    let (start, end) = if reverse { (3, 2) } else { (2, 3) };
    let (start, end) = (id::parse_start(&args[start])?, id::parse_end(&args[end])?);
    let mut count = None;
    let mut at = 4;
    while at < args.len() {
        if !args.is(at, "COUNT") || at + 1 == args.len() {
            return Err(Error::Syntax);
        }
        // Redis takes -1, its sign for "no count", as 0 as well.
        count = Some(usize::try_from(args.int(at + 1)?).unwrap_or(0));
        at += 2;
    }
    let Some(stream) = view.stream(args.key(1))? else {
        reply.array(0);
        return Ok(());
    };
    if count == Some(0) {
        reply.null_array();
        return Ok(());
    }
    let deferred = reply.defer();
    let mut shown = 0;
    for entry in stream.range(start, end, reverse).take(count.unwrap_or(usize::MAX)) {
        write_entry(reply, entry);
        shown += 1;
    }
    reply.end_array(deferred, shown);
    Ok(())
}

pub(super) fn xdel(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    let ids = if txn.stream(key)?.is_some() { parse_ids(args.from(2))? } else { Vec::new() };
    let Some(mut edit) = txn.edit::<Stream>(key)? else {
        reply.int(0);
        return Ok(());
    };
    let deleted = edit.apply_quietly(|stream, emit| {
        let gone: Vec<StreamId> = ids.into_iter().filter(|id| stream.delete(*id)).collect();
        emit_ids(emit, b"XDEL", None, &gone);
        gone.len()
    });
    if deleted != 0 {
        edit.event(EventClasses::STREAM, "xdel");
    }
    reply.int(deleted as i64);
    Ok(())
}

/// Ids, each in full or with the sequence number 0.
pub(super) fn parse_ids(words: &[&[u8]]) -> Result<Vec<StreamId>> {
    words.iter().map(|word| id::parse(word, 0)).collect()
}

pub(super) fn xtrim(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let options = options(args, false, txn.cx.env.limits.stream_node_entries_max)?;
    let (Some(trim), Some(mut edit)) = (options.trim, txn.edit::<Stream>(args.key(1))?) else {
        reply.int(0);
        return Ok(());
    };
    let trimmed = edit.trim(&trim);
    if trimmed != 0 {
        edit.event(EventClasses::STREAM, "xtrim");
    }
    reply.int(trimmed as i64);
    Ok(())
}

pub(super) fn xsetid(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let last = id::parse(&args[2], 0)?;
    let (mut added, mut max_deleted) = (None, None);
    let mut at = 3;
    while at < args.len() {
        let more = at + 1 < args.len();
        if args.is(at, "ENTRIESADDED") && more {
            let count = u64::try_from(args.int(at + 1)?);
            added = Some(count.map_err(|_| Error::text("ERR entries_added must be positive"))?);
        } else if args.is(at, "MAXDELETEDID") && more {
            let id = id::parse(&args[at + 1], 0)?;
            if last < id {
                return Err(Error::text(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
            max_deleted = Some(id);
        } else {
            return Err(Error::Syntax);
        }
        at += 2;
    }
    let key = args.key(1);
    let Some(stream) = txn.stream(key)? else { return Err(Error::NoSuchKey) };
    if last < stream.max_deleted_id() {
        return Err(Error::text("ERR The ID specified in XSETID is smaller than current max_deleted_entry_id"));
    }
    if let Some(top) = stream.range(StreamId::MIN, StreamId::MAX, true).next() {
        if last < top.id {
            return Err(Error::text("ERR The ID specified in XSETID is smaller than the target stream top item"));
        }
        if added.is_some_and(|added| stream.len() > added) {
            return Err(Error::text(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
    }
    // 0-0 leaves it as it is.
    let max_deleted = max_deleted.filter(|id| *id != StreamId::MIN).unwrap_or(stream.max_deleted_id());
    let added = added.unwrap_or(stream.entries_added());
    if let Some(mut edit) = txn.edit::<Stream>(key)? {
        let words = [last.to_string(), added.to_string(), max_deleted.to_string()];
        let [last_text, added_text, deleted_text] = words.each_ref().map(|text| text.as_bytes());
        let args: [&[u8]; 5] = [last_text, b"ENTRIESADDED", added_text, b"MAXDELETEDID", deleted_text];
        edit.apply(b"XSETID", &args, |stream| {
            stream.set_last_id(last);
            stream.set_entries_added(added);
            stream.set_max_deleted_id(max_deleted);
        });
        edit.event(EventClasses::STREAM, "xsetid");
    }
    reply.ok();
    Ok(())
}
