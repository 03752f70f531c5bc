//! Reading several streams, with or without a group: XREAD, XREADGROUP.

use super::groups::{entries_read_text, make_consumer};
use super::{id, write_entry, write_id};
use crate::args::Args;
use crate::command::{Access, Nothing, Reply, Wait};
use crate::error::{Error, Result};
use kelda_resp::{Deferred, Protocol};
use kelda_store::stream::{Actor, Entry, Stream, StreamId};
use kelda_store::txn::{Edit, Emit, Txn};
use std::ops::ControlFlow;

/// What precedes the ids.
struct Options<'a> {
    group: Option<(&'a [u8], &'a [u8])>,
    /// Entries of each stream, at most.
    count: usize,
    /// For how long to wait, in ms; 0 for ever.
    block_ms: Option<u64>,
    no_ack: bool,
    /// Claims what has been pending for so many ms before it reads what is new.
    claim_ms: Option<i64>,
    /// Entries in all, at most, and bytes of the reply.
    max: (usize, usize),
    /// The word that is the first key.
    first: usize,
    /// How many keys there are, and as many ids after them.
    streams: usize,
}

impl<'a> Options<'a> {
    fn parse(args: &Args<'a>, of_group: bool) -> Result<Options<'a>> {
        let mut options = Options {
            group: None,
            count: usize::MAX,
            block_ms: None,
            no_ack: false,
            claim_ms: None,
            max: (usize::MAX, usize::MAX),
            first: 0,
            streams: 0,
        };
        let words = args.words();
        let mut at = 1;
        while at < words.len() {
            let more = words.len() - 1 - at;
            if args.is(at, "BLOCK") && more > 0 {
                at += 1;
                let ms = args.int(at).map_err(|_| Error::text("ERR timeout is not an integer or out of range"))?;
                let ms = u64::try_from(ms).map_err(|_| Error::text("ERR timeout is negative"))?;
                options.block_ms = Some(ms);
            } else if args.is(at, "COUNT") && more > 0 {
                at += 1;
                // 0 and below mean all.
                options.count = usize::try_from(args.int(at)?).ok().filter(|count| *count != 0).unwrap_or(usize::MAX);
            } else if args.is(at, "MAXCOUNT") && more > 0 {
                at += 1;
                options.max.0 = positive(args, at, "ERR MAXCOUNT must be a positive integer")?;
            } else if args.is(at, "MAXSIZE") && more > 0 {
                at += 1;
                options.max.1 = positive(args, at, "ERR MAXSIZE must be a positive integer")?;
            } else if args.is(at, "CLAIM") && more > 0 {
                if !of_group {
                    return Err(Error::text(
                        "ERR The CLAIM option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                at += 1;
                let ms =
                    args.int(at).map_err(|_| Error::text("ERR min-idle-time is not an integer or out of range"))?;
                if ms < 0 {
                    return Err(Error::text("ERR min-idle-time is negative"));
                }
                options.claim_ms = Some(ms);
            } else if args.is(at, "STREAMS") && more > 0 {
                if !more.is_multiple_of(2) {
                    let (name, sign) = if of_group { ("xreadgroup", '>') } else { ("xread", '$') };
                    return Err(Error::owned(format!(
                        "ERR Unbalanced '{name}' list of streams: for each stream key an ID or '{sign}' must be specified."
                    )));
                }
                (options.first, options.streams) = (at + 1, more / 2);
                break;
            } else if args.is(at, "GROUP") && more >= 2 {
                if !of_group {
                    return Err(Error::text(
                        "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                options.group = Some((words[at + 1], words[at + 2]));
                at += 2;
            } else if args.is(at, "NOACK") {
                if !of_group {
                    return Err(Error::text(
                        "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                options.no_ack = true;
            } else {
                return Err(Error::Syntax);
            }
            at += 1;
        }
        if options.streams == 0 {
            return Err(Error::Syntax);
        }
        if of_group && options.group.is_none() {
            return Err(Error::text("ERR Missing GROUP option for XREADGROUP"));
        }
        if options.count != usize::MAX && options.max.0 < options.count {
            return Err(Error::text("ERR MAXCOUNT must be greater than or equal to COUNT"));
        }
        Ok(options)
    }

    /// The wait where nothing was found, or the reply where none is wanted.
    fn wait(&self, reply: &mut Reply, errors_end_it: bool) -> Wait {
        let Some(timeout_ms) = self.block_ms else {
            reply.null_array();
            return Wait::Done;
        };
        Wait::On { keys: (self.first, self.streams), timeout_ms, otherwise: Nothing::NullArray, errors_end_it }
    }
}

fn positive(args: &Args, at: usize, error: &'static str) -> Result<usize> {
    let given = args.int(at).ok().and_then(|n| usize::try_from(n).ok()).filter(|n| *n != 0);
    given.ok_or(Error::text(error))
}

/// The keys among the words. Where these are no proper command: as many as the first half of what follows STREAMS has, which is
/// what COMMAND GETKEYS of Redis tells.
pub(super) fn find_keys(words: &[&[u8]], of_group: bool, f: &mut dyn FnMut(usize, Access)) {
    let keys = match Options::parse(&Args::new(words), of_group) {
        Ok(options) => options.first..options.first + options.streams,
        Err(_) => {
            let options_from = if of_group { 4 } else { 1 };
            let mark = (options_from..words.len()).find(|at| words[*at].eq_ignore_ascii_case(b"STREAMS"));
            let first = mark.map_or(words.len(), |at| at + 1);
            first..first + (words.len() - first) / 2
        }
    };
    keys.for_each(|at| f(at, Access::RO.and(Access::ACCESS)));
}

/// A reply in the making: streams by their keys, with their entries.
struct Streams {
    mark: usize,
    header: Deferred,
    count: usize,
    /// Entries so far, and at most; bytes at most.
    shown: usize,
    max: (usize, usize),
}

impl Streams {
    fn begin(reply: &mut Reply, options: &Options) -> Streams {
        Streams { mark: reply.len(), header: reply.defer(), count: 0, shown: 0, max: options.max }
    }

    /// Adds a stream with the entries that `write` shows; how many it says they are. One without entries is left out, unless
    /// `even_empty`.
    fn add(
        &mut self,
        reply: &mut Reply,
        key: &[u8],
        even_empty: bool,
        write: impl FnOnce(&mut Streams, &mut Reply) -> usize,
    ) {
        if self.shown == self.max.0 {
            return;
        }
        let mark = reply.len();
        if reply.protocol == Protocol::Resp2 {
            reply.array(2);
        }
        reply.bulk(key);
        let header = reply.defer();
        let full_before = self.max.1;
        let shown = write(self, reply);
        // An empty list would say that there is nothing, where only the room was too small.
        if shown == 0 && (!even_empty || self.max.1 != full_before) {
            reply.truncate(mark);
            return;
        }
        reply.end_array(header, shown);
        self.count += 1;
    }

    /// Shows an entry, unless the reply would become too large: then nothing more is shown.
    fn show(&mut self, reply: &mut Reply, write: impl FnOnce(&mut Reply)) -> ControlFlow<()> {
        if self.shown == self.max.0 {
            return ControlFlow::Break(());
        }
        let mark = reply.len();
        write(reply);
        if self.shown != 0 && reply.len() - self.mark > self.max.1 {
            reply.truncate(mark);
            self.max = (self.shown, 0);
            return ControlFlow::Break(());
        }
        self.shown += 1;
        ControlFlow::Continue(())
    }

    /// Ends the reply. Whether there is any stream in it; else nothing is written.
    fn end(self, reply: &mut Reply) -> bool {
        if self.count == 0 {
            reply.truncate(self.mark);
        } else if reply.protocol == Protocol::Resp2 {
            reply.end_array(self.header, self.count);
        } else {
            reply.end_map(self.header, self.count);
        }
        self.count != 0
    }
}

pub(super) fn xread(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result<Wait> {
    let options = Options::parse(args, false)?;
    let mut after = Vec::with_capacity(options.streams);
    let mut relative = false;
    for at in options.first..options.first + options.streams {
        let stream = txn.stream(args.key(at))?;
        let word = &args[at + options.streams];
        relative |= matches!(word, b"$" | b"+");
        let last_id = stream.map_or(StreamId::MIN, Stream::last_id);
        after.push(match word {
            b"$" => last_id,
            // The last entry, or the next one if there is none.
            b"+" => last_entry(stream).and_then(StreamId::previous).unwrap_or(last_id),
            b">" => {
                return Err(Error::text(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
                ));
            }
            word => id::parse(word, 0)?,
        });
    }
    let mut streams = Streams::begin(reply, &options);
    for (at, after) in (options.first..).zip(&after) {
        let (Some(stream), Some(start)) = (txn.stream(args.key(at))?, after.next()) else { continue };
        let mut entries = stream.range(start, StreamId::MAX, false).take(options.count).peekable();
        if entries.peek().is_none() {
            continue;
        }
        streams.add(reply, &args[at], false, |streams, reply| {
            let show = |entry| streams.show(reply, |reply| write_entry(reply, entry));
            entries.map(show).take_while(ControlFlow::is_continue).count()
        });
    }
    if streams.end(reply) {
        return Ok(Wait::Done);
    }
    let wait = options.wait(reply, false);
    if wait == Wait::Done || !relative {
        return Ok(wait);
    }
    // What was last now is what the wait is about, however often it is run again.
    let mut words: Vec<Vec<u8>> = args.words().iter().map(|word| word.to_vec()).collect();
    for (word, after) in words.iter_mut().skip(options.first + options.streams).zip(&after) {
        *word = after.to_string().into_bytes();
    }
    Ok(Wait::Resolved(words, Box::new(wait)))
}

fn last_entry(stream: Option<&Stream>) -> Option<StreamId> {
    Some(stream?.range(StreamId::MIN, StreamId::MAX, true).next()?.id)
}

pub(super) fn xreadgroup(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result<Wait> {
    let options = Options::parse(args, true)?;
    let Some((group, consumer)) = options.group else { return Err(Error::Syntax) };
    let mut after = Vec::with_capacity(options.streams);
    for at in options.first..options.first + options.streams {
        if txn.stream(args.key(at))?.is_none_or(|stream| stream.group(group).is_none()) {
            return Err(Error::owned(format!(
                "NOGROUP No such key '{}' or consumer group '{}' in XREADGROUP with GROUP option",
                String::from_utf8_lossy(&args[at]),
                String::from_utf8_lossy(group),
            )));
        }
        after.push(match &args[at + options.streams] {
            b">" => None,
            b"$" => return Err(meaningless('$')),
            b"+" => return Err(meaningless('+')),
            // Nothing is after the highest id; Redis takes it for `>`.
            word => Some(id::parse(word, 0)?).filter(|id| *id != StreamId::MAX),
        });
    }
    let actor = Actor { group, consumer, now: txn.now() };
    let mut streams = Streams::begin(reply, &options);
    /// Looking again more often, where nothing is known to come, is not worth the work.
    const AT_LEAST_MS: i64 = 10;
    // When there may be something to claim.
    let mut again = i64::MAX;
    for (at, after) in (options.first..).zip(&after) {
        let Some(mut edit) = txn.edit::<Stream>(args.key(at))? else { continue };
        see_consumer(&mut edit, &actor);
        match after {
            Some(after) => streams.add(reply, &args[at], true, |streams, reply| {
                read_pending(&mut edit, &actor, *after, options.count, streams, reply)
            }),
            None if options.claim_ms.is_some() || has_news(&edit, group) => {
                streams.add(reply, &args[at], false, |streams, reply| {
                    read_new(&mut edit, &actor, &options, streams, reply)
                });
                if let Some(claim_ms) = options.claim_ms {
                    let next = edit.note(|stream| stream.next_idle(group, claim_ms, actor.now));
                    // What somebody gets from now on waits until then.
                    let from_now = actor.now.saturating_add(claim_ms.max(AT_LEAST_MS));
                    again = again.min(next.unwrap_or(from_now)).min(from_now);
                }
            }
            None => {}
        }
    }
    if streams.end(reply) {
        return Ok(Wait::Done);
    }
    let wait = options.wait(reply, true);
    if wait == Wait::Done || options.claim_ms.is_none() {
        return Ok(wait);
    }
    let after_ms = again.saturating_sub(actor.now).max(1) as u64;
    Ok(Wait::Again { after_ms, wait: Box::new(wait) })
}

fn meaningless(sign: char) -> Error {
    Error::owned(format!(
        "ERR The {sign} ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by \
         specifying a proper ID, or use the > ID to get new messages. The {sign} ID would just return an empty result set."
    ))
}

/// Notes that a consumer did something; makes it if it is not there.
pub(super) fn see_consumer(edit: &mut Edit<Stream>, actor: &Actor) {
    make_consumer(edit, actor.group, actor.consumer);
    edit.note(|stream| {
        if let Some(group) = stream.group_mut(actor.group) {
            group.touch_consumer(actor.consumer, actor.now);
        }
    });
}

/// Whether there is an entry that the group did not get yet.
fn has_news(stream: &Stream, group: &[u8]) -> bool {
    let start = stream.group(group).and_then(|group| group.last_delivered().next());
    start.is_some_and(|start| stream.range(start, StreamId::MAX, false).next().is_some())
}

/// Reads what a group did not get yet, after what it can claim if that is wanted. How many entries.
fn read_new(
    edit: &mut Edit<Stream>,
    actor: &Actor,
    options: &Options,
    streams: &mut Streams,
    reply: &mut Reply,
) -> usize {
    let Options { count, no_ack, claim_ms, .. } = *options;
    let claimed = claim_ms.map_or(0, |claim_ms| claim_idle(edit, actor, claim_ms, count, streams, reply));
    if claimed == count || !has_news(edit, actor.group) {
        return claimed;
    }
    let shown = edit.apply_quietly(|stream, emit| {
        let mut ids = Vec::new();
        let shown = stream.read_new(actor, count - claimed, no_ack, |entry| {
            let id = entry.id;
            let shown = streams.show(reply, |reply| match claim_ms {
                None => write_entry(reply, entry),
                Some(_) => write_claimed(reply, entry, 0, 0),
            });
            if shown.is_continue() {
                ids.push(id.to_string());
            }
            shown
        });
        if shown != 0 {
            if !no_ack {
                emit_claim(emit, actor, &ids, actor.now, 1);
            }
            emit_position(emit, stream, actor.group);
        }
        shown
    });
    claimed + shown
}

/// Claims what has been pending for `min_idle` ms. How many entries.
fn claim_idle(
    edit: &mut Edit<Stream>,
    actor: &Actor,
    min_idle: i64,
    count: usize,
    streams: &mut Streams,
    reply: &mut Reply,
) -> usize {
    edit.apply_quietly(|stream, emit| {
        let mut ids = Vec::new();
        let claimed = stream.claim_idle(actor, min_idle, count, |entry, pending| {
            let id = entry.id;
            let shown = streams.show(reply, |reply| {
                write_claimed(reply, entry, pending.idle(actor.now), pending.delivery_count);
            });
            if shown.is_continue() {
                ids.push(id);
            }
            shown
        });
        for id in ids {
            emit_pending(emit, stream, actor.group, id);
        }
        claimed
    })
}

/// Writes an entry, how long it was pending (ms), and how often it was delivered before.
fn write_claimed(reply: &mut Reply, entry: Entry, idle: i64, deliveries: u64) {
    reply.array(4);
    super::write_entry_parts(reply, entry);
    reply.int(idle);
    reply.int(deliveries as i64);
}

fn read_pending(
    edit: &mut Edit<Stream>,
    actor: &Actor,
    after: StreamId,
    count: usize,
    streams: &mut Streams,
    reply: &mut Reply,
) -> usize {
    edit.apply_quietly(|stream, emit| {
        let (mut delivered, mut shown) = (Vec::new(), 0);
        stream.read_pending(actor, after, count, |id, entry| {
            let there = entry.is_some();
            let written = streams.show(reply, |reply| match entry {
                Some(entry) => write_entry(reply, entry),
                None => {
                    // Deleted since it was delivered.
                    reply.array(2);
                    write_id(reply, id);
                    reply.null_array();
                }
            });
            if written.is_continue() {
                shown += 1;
                if there {
                    delivered.push(id);
                }
            }
            written
        });
        for id in delivered {
            emit_pending(emit, stream, actor.group, id);
        }
        shown
    })
}

/// Emits that the actor's consumer holds these entries, delivered last at `time`, `count` times in all.
fn emit_claim(emit: &mut Emit, actor: &Actor, ids: &[String], time: i64, count: u64) {
    let (time, count) = (time.to_string(), count.to_string());
    let mut words: Vec<&[u8]> = vec![actor.group, actor.consumer, b"0"];
    words.extend(ids.iter().map(|id| id.as_bytes()));
    words.extend_from_slice(&[b"TIME", time.as_bytes(), b"RETRYCOUNT", count.as_bytes(), b"FORCE", b"JUSTID"]);
    emit(b"XCLAIM", &words);
}

/// Emits who holds a pending entry, with its time and count.
pub(super) fn emit_pending(emit: &mut Emit, stream: &Stream, group: &[u8], id: StreamId) {
    if let Some(pending) = stream.group(group).and_then(|group| group.pending(id)) {
        let actor = Actor { group, consumer: pending.consumer(), now: 0 };
        emit_claim(emit, &actor, &[id.to_string()], pending.delivery_time, pending.delivery_count);
    }
}

/// Emits up to where a group has read.
pub(super) fn emit_position(emit: &mut Emit, stream: &Stream, name: &[u8]) {
    if let Some(group) = stream.group(name) {
        let (at, read) = (group.last_delivered().to_string(), entries_read_text(group.entries_read()));
        emit(b"XGROUP SETID", &[name, at.as_bytes(), b"ENTRIESREAD", read.as_bytes()]);
    }
}
