//! Streams in the RDB format.
//!
//! A node is a listpack. It begins with a head: entries, deleted entries, number of field names, the names, 0. Then each entry:
//! flags; milliseconds and sequence number as differences from the node's id; number of fields and fields with values, or
//! only values if the flags say that the fields are the head's; at last the number of elements before it.

use super::encode::{Format, put_blob, put_listpack_blob, put_number, put_text};
use super::packed::Elements;
use super::types::{Version, kind};
use super::{RdbError, Reader};
use kelda_store::packed::Packed;
use kelda_store::stream::{Entry, Group, Mark, Producers, Stream, StreamId};
use kelda_store::{Limits, Str};
use std::collections::BTreeMap;

/// Flags of an entry.
const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

/// A group or consumer that says so has never read, or it is not known how much.
const UNKNOWN: u64 = u64::MAX;

/// Whether values of this type are streams.
pub(super) fn is_known(kind: u8) -> bool {
    Parts::of(kind).is_some()
}

/// What a stream of some type tells, more with each type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Parts {
    /// Entries, groups, consumers.
    Basic,
    /// How many entries were added, and what was deleted.
    Counters,
    /// When consumers were active.
    ActiveTimes,
    /// What makes producers idempotent.
    Producers,
    /// What consumers gave back.
    GivenBack,
}

impl Parts {
    fn of(kind: u8) -> Option<Parts> {
        Some(match kind {
            kind::STREAM_LISTPACKS => Parts::Basic,
            kind::STREAM_LISTPACKS_2 => Parts::Counters,
            kind::STREAM_LISTPACKS_3 => Parts::ActiveTimes,
            kind::STREAM_LISTPACKS_4 => Parts::Producers,
            kind::STREAM_LISTPACKS_5 => Parts::GivenBack,
            _ => return None,
        })
    }
}

/// Reads a stream.
pub(super) fn decode(kind: u8, reader: &mut Reader<'_>, limits: &Limits) -> Result<Stream, RdbError> {
    let parts = Parts::of(kind).ok_or(RdbError::UnknownType(kind))?;
    let mut stream = Stream::new();
    for _ in 0..reader.count(2)? {
        let id = reader.blob()?;
        let Ok(id) = <[u8; 16]>::try_from(&*id) else { return Err(RdbError::Corrupt("the id of a stream's node")) };
        let block = reader.blob()?;
        node(&mut stream, stream_id(id), &block, limits)?;
    }
    if reader.number()? != stream.len() {
        return Err(RdbError::Corrupt("a stream has not as many entries as it says"));
    }
    let last_id = number_id(reader)?;
    if last_id < stream.last_id() {
        return Err(RdbError::Corrupt("a stream's last id is below that of an entry"));
    }
    stream.set_last_id(last_id);
    if parts >= Parts::Counters {
        // The first id, which follows from the entries.
        number_id(reader)?;
        stream.set_max_deleted_id(number_id(reader)?);
        stream.set_entries_added(reader.number()?);
    }
    for _ in 0..reader.count(4)? {
        let name = reader.text()?.into_vec();
        let last_delivered = number_id(reader)?;
        let entries_read = if parts >= Parts::Counters {
            Some(reader.number()?).filter(|read| *read != UNKNOWN)
        } else {
            stream.entries_added_up_to(last_delivered)
        };
        if !stream.create_group(&name, last_delivered, entries_read) {
            return Err(RdbError::Corrupt("two groups of one name"));
        }
        // It was just created.
        let Some(group) = stream.group_mut(&name) else { continue };
        decode_group(parts, reader, group)?;
    }
    if parts >= Parts::Producers {
        let producers = decode_producers(reader)?;
        // Redis tells the settings of every stream. Where they are this server's and nothing was marked, that says nothing.
        let unused = Producers::new(limits.stream_mark_seconds, limits.stream_marks_max);
        if producers != unused {
            stream.set_producers(producers);
        }
    }
    Ok(stream)
}

fn decode_group(parts: Parts, reader: &mut Reader<'_>, group: &mut Group) -> Result<(), RdbError> {
    let mut pending = BTreeMap::new();
    for _ in 0..reader.count(25)? {
        let id = stream_id(reader.array()?);
        let (delivery_time, delivery_count) = (reader.i64_le()?, reader.number()?);
        if pending.insert(id, (delivery_time, delivery_count)).is_some() {
            return Err(RdbError::Corrupt("an entry is pending twice"));
        }
    }
    for _ in 0..reader.count(10)? {
        let name = reader.text()?.into_vec();
        let seen_time = reader.i64_le()?;
        let active_time = if parts >= Parts::ActiveTimes { reader.i64_le()? } else { seen_time };
        if !group.create_consumer(&name, seen_time) {
            return Err(RdbError::Corrupt("Duplicate stream consumer detected"));
        }
        group.set_consumer_times(&name, seen_time, (active_time >= 0).then_some(active_time));
        for _ in 0..reader.count(16)? {
            let id = stream_id(reader.array()?);
            // Each entry is pending for one consumer.
            let (delivery_time, delivery_count) =
                pending.remove(&id).ok_or(RdbError::Corrupt("a consumer's pending entry is not its group's"))?;
            group.set_pending(id, &name, delivery_time, delivery_count);
        }
    }
    if parts >= Parts::GivenBack {
        for _ in 0..reader.count(16)? {
            let id = stream_id(reader.array()?);
            let given_back = pending.remove(&id).ok_or(RdbError::Corrupt("what was given back is not pending"))?;
            group.give_back(id, given_back.1);
        }
    }
    if pending.is_empty() { Ok(()) } else { Err(RdbError::Corrupt("a pending entry without a consumer")) }
}

/// Reads what makes producers idempotent: settings, the marks that each one made, counters.
fn decode_producers(reader: &mut Reader<'_>) -> Result<Producers, RdbError> {
    let (seconds, max) = (reader.number()?, reader.number()?);
    let mut producers = Producers::new(seconds, max);
    for _ in 0..reader.count(2)? {
        let name = reader.text()?.into_vec();
        for _ in 0..reader.count(3)? {
            let id = reader.text()?.into_vec();
            let entry = number_id(reader)?;
            // What does not count any more is as good as not there: the time does not matter.
            producers.insert(Mark { producer: &name, id: &id }, entry, 0);
        }
    }
    producers.set_counters(reader.number()?, reader.number()?);
    Ok(producers)
}

fn skip_producers(reader: &mut Reader<'_>) -> Result<(), RdbError> {
    number_id(reader)?;
    for _ in 0..reader.count(2)? {
        reader.skip_text()?;
        for _ in 0..reader.count(3)? {
            reader.skip_text()?;
            number_id(reader)?;
        }
    }
    number_id(reader).map(|_| ())
}

/// Adds the entries of a node.
fn node(stream: &mut Stream, base: StreamId, block: &[u8], limits: &Limits) -> Result<(), RdbError> {
    const DAMAGED: RdbError = RdbError::Corrupt("damaged node of a stream");
    let mut elements = Elements::listpack(block)?;
    let (entries, deleted, names_len) = (elements.need_int()?, elements.need_int()?, elements.need_int()?);
    let names: Vec<Str<'_>> = take(&mut elements, names_len)?;
    if entries < 0 || deleted < 0 || elements.need_int()? != 0 {
        return Err(DAMAGED);
    }
    let (mut seen, mut seen_deleted) = (0i64, 0i64);
    let mut texts: Vec<Vec<u8>> = Vec::new();
    while let Some(flags) = elements.next() {
        let flags = match flags? {
            Str::Int(flags) => flags,
            Str::Bytes(_) => return Err(DAMAGED),
        };
        let (ms, seq) = (elements.need_int()?, elements.need_int()?);
        // As Redis: differences may be below zero.
        let id = StreamId::new(base.ms.wrapping_add(ms as u64), base.seq.wrapping_add(seq as u64));
        texts.clear();
        let elements_len = if flags & SAME_FIELDS != 0 {
            for name in &names {
                texts.push(name.to_vec());
                texts.push(elements.need()?.to_vec());
            }
            names.len() as i64 + 3
        } else {
            let fields = elements.need_int()?;
            let words = fields.checked_mul(2).ok_or(DAMAGED)?;
            texts.extend(take(&mut elements, words)?.iter().map(Str::to_vec));
            words + 4
        };
        if elements.need_int()? != elements_len {
            return Err(DAMAGED);
        }
        if flags & DELETED != 0 {
            seen_deleted += 1;
            continue;
        }
        seen += 1;
        let fields = texts.chunks_exact(2).map(|pair| match pair {
            [field, value] => (&field[..], &value[..]),
            _ => (&[][..], &[][..]),
        });
        if !stream.append(id, fields, limits) {
            return Err(RdbError::Corrupt("ids of a stream out of order"));
        }
    }
    if seen != entries || seen_deleted != deleted { Err(DAMAGED) } else { Ok(()) }
}

/// The next `count` elements.
fn take<'a>(elements: &mut Elements<'a>, count: i64) -> Result<Vec<Str<'a>>, RdbError> {
    let count = usize::try_from(count).ok().filter(|count| *count <= elements.remaining().len());
    let count = count.ok_or(RdbError::Corrupt("a stream's node has not as many fields as it says"))?;
    (0..count).map(|_| elements.need()).collect()
}

/// Passes over a stream.
pub(super) fn skip(kind: u8, reader: &mut Reader<'_>) -> Result<(), RdbError> {
    let parts = Parts::of(kind).ok_or(RdbError::UnknownType(kind))?;
    let has_counters = parts >= Parts::Counters;
    for _ in 0..reader.count(2)? {
        reader.skip_text()?;
        reader.skip_text()?;
    }
    for _ in 0..if has_counters { 8 } else { 3 } {
        reader.number()?;
    }
    for _ in 0..reader.count(4)? {
        reader.skip_text()?;
        for _ in 0..if has_counters { 3 } else { 2 } {
            reader.number()?;
        }
        for _ in 0..reader.count(25)? {
            reader.take(24)?;
            reader.number()?;
        }
        for _ in 0..reader.count(10)? {
            reader.skip_text()?;
            reader.take(if parts >= Parts::ActiveTimes { 16 } else { 8 })?;
            let ids = reader.count(16)?;
            // No more than there are bytes, as was just checked.
            reader.take(ids * 16)?;
        }
        if parts >= Parts::GivenBack {
            let ids = reader.count(16)?;
            reader.take(ids * 16)?;
        }
    }
    if parts >= Parts::Producers { skip_producers(reader) } else { Ok(()) }
}

fn stream_id(bytes: [u8; 16]) -> StreamId {
    let bits = u128::from_be_bytes(bytes);
    StreamId::new((bits >> 64) as u64, bits as u64)
}

fn id_bytes(id: StreamId) -> [u8; 16] {
    (u128::from(id.ms) << 64 | u128::from(id.seq)).to_be_bytes()
}

fn number_id(reader: &mut Reader<'_>) -> Result<StreamId, RdbError> {
    Ok(StreamId::new(reader.number()?, reader.number()?))
}

fn put_id(id: StreamId, out: &mut Vec<u8>) {
    put_number(id.ms, out);
    put_number(id.seq, out);
}

/// Entries and bytes of fields and values of a node that is written, at most: the defaults of Redis.
const NODE_ENTRIES_MAX: usize = 100;
const NODE_BYTES_MAX: usize = 4096;

/// The type under which a stream is written: the oldest that can tell all of it, and no older than `format` would have it.
pub(super) fn kind_of(stream: &Stream, format: &Format) -> u8 {
    if stream.groups().any(|(_, group)| group.given_back().len() != 0) {
        kind::STREAM_LISTPACKS_5
    } else if stream.producers().is_some() {
        kind::STREAM_LISTPACKS_4
    } else if format.version >= Version::REDIS_7_2 {
        kind::STREAM_LISTPACKS_3
    } else {
        kind::STREAM_LISTPACKS_2
    }
}

/// Writes a stream.
pub(super) fn encode(stream: &Stream, kind: u8, format: &Format, out: &mut Vec<u8>) {
    let mut from = None;
    while let Some(next) = encode_part(stream, kind, format, from, out) {
        from = Some(next);
    }
}

/// Writes a part of a stream: from its beginning, or from the entry on that the part before has returned; `None` at the end. What
/// comes behind the entries is one part.
pub(super) fn encode_part(
    stream: &Stream,
    kind: u8,
    format: &Format,
    from: Option<StreamId>,
    out: &mut Vec<u8>,
) -> Option<StreamId> {
    /// Nodes of a part.
    const NODES: usize = 16;
    if from.is_none() {
        put_number(nodes(stream, StreamId::MIN).count() as u64, out);
    }
    for (index, node) in nodes(stream, from.unwrap_or(StreamId::MIN)).enumerate() {
        if index == NODES
            && let Some(first) = node.first()
        {
            return Some(first.id);
        }
        put_node(&node, format, out);
    }
    put_tail(stream, kind, format, out);
    None
}

/// The entries from an id on as they are written: in nodes.
fn nodes(stream: &Stream, from: StreamId) -> impl Iterator<Item = Vec<Entry<'_>>> {
    let mut entries = stream.range(from, StreamId::MAX, false);
    std::iter::from_fn(move || {
        let (mut node, mut bytes) = (Vec::new(), 0);
        while node.len() < NODE_ENTRIES_MAX
            && bytes < NODE_BYTES_MAX
            && let Some(entry) = entries.next()
        {
            bytes += entry.fields.clone().map(|(field, value)| field.len() + value.len() + 4).sum::<usize>();
            node.push(entry);
        }
        (!node.is_empty()).then_some(node)
    })
}

/// Writes what comes behind the entries.
fn put_tail(stream: &Stream, kind: u8, format: &Format, out: &mut Vec<u8>) {
    put_number(stream.len(), out);
    put_id(stream.last_id(), out);
    put_id(stream.first_id(), out);
    put_id(stream.max_deleted_id(), out);
    put_number(stream.entries_added(), out);
    put_number(stream.groups().len() as u64, out);
    for (name, group) in stream.groups() {
        put_text(Str::Bytes(name), format, out);
        put_id(group.last_delivered(), out);
        put_number(group.entries_read().unwrap_or(UNKNOWN), out);
        put_number(group.pending_len() as u64, out);
        for (id, pending) in group.pending_range(StreamId::MIN, StreamId::MAX) {
            out.extend(id_bytes(*id));
            out.extend(pending.delivery_time.to_le_bytes());
            put_number(pending.delivery_count, out);
        }
        put_number(group.consumers().len() as u64, out);
        for (name, consumer) in group.consumers() {
            put_text(Str::Bytes(name), format, out);
            out.extend(consumer.seen_time.to_le_bytes());
            if kind >= kind::STREAM_LISTPACKS_3 {
                out.extend(consumer.active_time.unwrap_or(-1).to_le_bytes());
            }
            put_number(consumer.pending().len() as u64, out);
            consumer.pending().for_each(|id| out.extend(id_bytes(id)));
        }
        if kind >= kind::STREAM_LISTPACKS_5 {
            put_number(group.given_back().len() as u64, out);
            group.given_back().for_each(|id| out.extend(id_bytes(id)));
        }
    }
    if kind >= kind::STREAM_LISTPACKS_4 {
        encode_producers(stream.producers().unwrap_or(&Producers::new(SECONDS, MARKS_MAX)), format, out);
    }
}

/// Redis's defaults for streams whose producers are not idempotent.
const SECONDS: u64 = 100;
const MARKS_MAX: u64 = 100;

fn encode_producers(producers: &Producers, format: &Format, out: &mut Vec<u8>) {
    put_number(producers.seconds(), out);
    put_number(producers.max(), out);
    // All that there are.
    const ALWAYS: i64 = 0;
    put_number(producers.iter(ALWAYS).count() as u64, out);
    for (name, marks) in producers.iter(ALWAYS) {
        let marks: Vec<_> = marks.collect();
        put_text(Str::Bytes(name), format, out);
        put_number(marks.len() as u64, out);
        for (entry, mark) in marks {
            put_text(Str::Bytes(mark), format, out);
            put_id(entry, out);
        }
    }
    put_number(producers.added(), out);
    put_number(producers.duplicates(), out);
}

fn put_node(entries: &[Entry<'_>], format: &Format, out: &mut Vec<u8>) {
    let Some(first) = entries.first() else { return };
    let base = first.id;
    let mut block = Packed::new();
    let mut put = |element: Str<'_>| block.push_back(element);
    put(Str::Int(entries.len() as i64));
    put(Str::Int(0));
    put(Str::Int(first.fields.len() as i64));
    first.fields.clone().for_each(|(name, _)| put(name));
    put(Str::Int(0));
    for entry in entries {
        let names = first.fields.clone().map(|(name, _)| name);
        let same = entry.fields.len() == first.fields.len()
            && entry.fields.clone().zip(names).all(|((field, _), name)| name.with_bytes(|name| field.eq_bytes(name)));
        put(Str::Int(if same { SAME_FIELDS } else { 0 }));
        put(Str::Int(entry.id.ms.wrapping_sub(base.ms) as i64));
        put(Str::Int(entry.id.seq.wrapping_sub(base.seq) as i64));
        let count = entry.fields.len() as i64;
        if !same {
            put(Str::Int(count));
        }
        for (field, value) in entry.fields.clone() {
            if !same {
                put(field);
            }
            put(value);
        }
        put(Str::Int(if same { count + 3 } else { 2 * count + 4 }));
    }
    put_blob(&id_bytes(base), out);
    put_listpack_blob(&block, format, out);
}
