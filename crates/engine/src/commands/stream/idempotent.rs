//! Producers that may send an entry twice: IDMP and IDMPAUTO of XADD, XCFGSET, XIDMPRECORD.

use super::id;
use crate::args::Args;
use crate::command::Reply;
use crate::error::{Error, Result};
use kelda_store::stream::{Mark, Stream, StreamId};
use kelda_store::txn::{Key, Txn};
use sha2::{Digest, Sha256};

/// How XADD is told the mark of an entry.
#[derive(Clone, Copy)]
pub(super) enum Marking<'a> {
    /// IDMP: the producer tells it.
    Given(Mark<'a>),
    /// IDMPAUTO: what is in the entry is its mark.
    Content { producer: &'a [u8] },
}

impl<'a> Marking<'a> {
    /// Reads the option at word `at`, if it is one; with the place of its last word.
    pub(super) fn parse(args: &Args<'a>, at: usize) -> Result<Option<(Marking<'a>, usize)>> {
        let (producer, mark) = (args.get(at + 1), args.get(at + 2));
        match (producer, mark) {
            (Some(producer), Some(id)) if args.is(at, "IDMP") => {
                if producer.is_empty() {
                    return Err(Error::text("ERR IDMP requires a non-empty producer ID"));
                }
                if id.is_empty() {
                    return Err(Error::text("ERR IDMP requires a non-empty idempotent ID"));
                }
                Ok(Some((Marking::Given(Mark { producer, id }), at + 2)))
            }
            (Some(producer), _) if args.is(at, "IDMPAUTO") => {
                if producer.is_empty() {
                    return Err(Error::text("ERR IDMPAUTO requires a non-empty producer ID"));
                }
                Ok(Some((Marking::Content { producer }, at + 1)))
            }
            _ => Ok(None),
        }
    }
}

/// The mark of an entry with these fields and values, in whichever order: half a SHA-256 of them. Two that differ would lose
/// an entry if they had one mark.
pub(super) fn content_id(words: &[&[u8]]) -> [u8; 16] {
    let mut pairs: Vec<&[&[u8]]> = words.chunks_exact(2).collect();
    pairs.sort_unstable();
    let mut hash = Sha256::new();
    for word in pairs.into_iter().flatten() {
        hash.update((word.len() as u64).to_le_bytes());
        hash.update(word);
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    id
}

/// The entry that was added with this mark before, which is counted.
pub(super) fn find(txn: &mut Txn, key: Key, mark: Option<Mark>) -> Result<Option<StreamId>> {
    let Some(mark) = mark else { return Ok(None) };
    let Some(stream) = txn.stream(key)? else { return Ok(None) };
    let entry = stream.producers().and_then(|producers| producers.find(mark, txn.now()));
    if entry.is_some()
        && let Some(mut edit) = txn.edit::<Stream>(key)?
    {
        edit.note(Stream::count_duplicate);
    }
    Ok(entry)
}

pub(super) fn xcfgset(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    const SECONDS_MAX: u64 = 86_400;
    const MARKS_MAX: u64 = 10_000;
    let (mut seconds, mut max) = (None, None);
    let mut at = 2;
    while at < args.len() {
        let more = at + 1 < args.len();
        let number = |max: u64| args.int(at + 1).map(|n| u64::try_from(n).ok().filter(|n| (1..=max).contains(n)));
        if args.is(at, "IDMP-DURATION") && more {
            let given = number(SECONDS_MAX)?;
            seconds = Some(given.ok_or(Error::text("ERR IDMP-DURATION must be between 1 and 86400 seconds"))?);
        } else if args.is(at, "IDMP-MAXSIZE") && more {
            let given = number(MARKS_MAX)?;
            max = Some(given.ok_or(Error::text("ERR IDMP-MAXSIZE must be between 1 and 10000 entries"))?);
        } else {
            return Err(Error::Syntax);
        }
        at += 2;
    }
    if seconds.is_none() && max.is_none() {
        return Err(Error::text("ERR At least one parameter must be specified"));
    }
    let limits = txn.cx.env.limits;
    let Some(mut edit) = txn.edit::<Stream>(args.key(1))? else { return Err(Error::NoSuchKey) };
    edit.apply_quietly(|stream, emit| {
        let old = stream.producers_mut(&limits);
        let (seconds, max) = (seconds.unwrap_or(old.seconds()), max.unwrap_or(old.max()));
        stream.configure_producers(seconds, max);
        let (seconds, max) = (seconds.to_string(), max.to_string());
        emit(b"XCFGSET", &[b"IDMP-DURATION", seconds.as_bytes(), b"IDMP-MAXSIZE", max.as_bytes()]);
    });
    reply.ok();
    Ok(())
}

pub(super) fn xidmprecord(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let mark = Mark { producer: &args[2], id: &args[3] };
    if mark.producer.is_empty() || mark.id.is_empty() {
        return Err(Error::text("ERR XIDMPRECORD requires a non-empty producer ID and a non-empty idempotent ID"));
    }
    let entry = id::parse(&args[4], 0)?;
    let key = args.key(1);
    let stream = txn.stream(key)?.ok_or(Error::NoSuchKey)?;
    match stream.producers().and_then(|producers| producers.find(mark, txn.now())) {
        Some(have) if have == entry => {}
        Some(_) => return Err(Error::text("ERR The idempotent ID is already that of another entry")),
        None if stream.get(entry).is_none() => return Err(Error::text("ERR No such entry in the stream")),
        None => {
            if let Some(mut edit) = txn.edit::<Stream>(key)? {
                edit.mark(entry, mark);
            }
        }
    }
    reply.ok();
    Ok(())
}
