//! Deleting entries with a word about what consumer groups note about them: XDELEX, XACKDEL.

use super::id;
use crate::args::Args;
use crate::command::Reply;
use crate::error::{Error, Result};
use kelda_store::stream::{References, Stream, StreamId};
use kelda_store::txn::{Edit, EventClasses, Txn, emit_ids};
use std::collections::BTreeMap;

/// The word at `at`, if it tells what becomes of what groups note.
pub(super) fn references(args: &Args, at: usize) -> Option<References> {
    const WORDS: [(&str, References); 3] =
        [("KEEPREF", References::Keep), ("DELREF", References::Delete), ("ACKED", References::Acknowledged)];
    WORDS.into_iter().find(|(word, _)| args.is(at, word)).map(|(_, references)| references)
}

/// The words from `first` on: what becomes of what groups note, and the ids, in either order.
fn parse(args: &Args, first: usize) -> Result<(References, Vec<StreamId>)> {
    let (mut policy, mut ids) = (None, None);
    let mut at = first;
    while at < args.len() {
        if let Some(word) = references(args, at).filter(|_| policy.is_none()) {
            policy = Some(word);
            at += 1;
        } else if args.is(at, "IDS") && ids.is_none() && at + 1 < args.len() {
            let count = args.int(at + 1).ok().and_then(|count| usize::try_from(count).ok()).filter(|count| *count != 0);
            let count = count.ok_or(Error::text("ERR Number of IDs must be a positive integer"))?;
            let words = args.from(at + 2);
            let words = words
                .get(..count)
                .ok_or(Error::text("ERR The `numids` parameter must match the number of arguments"))?;
            ids = Some(words.iter().map(|word| id::parse(word, 0)).collect::<Result<Vec<_>>>()?);
            at += 2 + count;
        } else {
            return Err(Error::Syntax);
        }
    }
    Ok((policy.unwrap_or_default(), ids.ok_or(Error::Syntax)?))
}

/// What became of an entry, as it is replied.
const NOT_THERE: i64 = -1;
const DELETED: i64 = 1;
const REFERENCED: i64 = 2;

/// What a command did to a stream.
#[derive(Default)]
struct Done {
    deleted: Vec<StreamId>,
    /// What is no longer pending, by group.
    released: BTreeMap<Box<[u8]>, Vec<StreamId>>,
}

impl Done {
    /// Deletes an entry unless a group needs it and that counts; what became of it.
    fn delete(&mut self, stream: &mut Stream, id: StreamId, policy: References) -> i64 {
        if policy == References::Acknowledged && stream.get(id).is_some() && stream.is_referenced(id) {
            return REFERENCED;
        }
        if policy == References::Delete {
            for (group, ids) in stream.release(&[id]) {
                self.released.entry(group).or_default().extend(ids);
            }
        }
        if !stream.delete(id) {
            return NOT_THERE;
        }
        self.deleted.push(id);
        DELETED
    }
}

pub(super) fn xdelex(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let (policy, ids) = parse(args, 2)?;
    let edit = txn.edit::<Stream>(args.key(1))?;
    run(edit, ids, reply, |done, stream, id| done.delete(stream, id, policy));
    Ok(())
}

pub(super) fn xackdel(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let group = &args[2];
    let (policy, ids) = parse(args, 3)?;
    let edit = txn.edit::<Stream>(args.key(1))?.filter(|edit| edit.group(group).is_some());
    run(edit, ids, reply, |done, stream, id| {
        if !stream.group_mut(group).is_some_and(|group| group.ack(id)) {
            return NOT_THERE;
        }
        done.released.entry(group.into()).or_default().push(id);
        // It was pending, so it was an entry once, whether it still is or not.
        done.delete(stream, id, policy).max(DELETED)
    });
    Ok(())
}

/// Does one thing to each entry and replies what became of it; without a stream, none was there.
fn run(
    edit: Option<Edit<Stream>>,
    ids: Vec<StreamId>,
    reply: &mut Reply,
    each: impl Fn(&mut Done, &mut Stream, StreamId) -> i64,
) {
    reply.array(ids.len());
    let Some(mut edit) = edit else {
        ids.iter().for_each(|_| reply.int(NOT_THERE));
        return;
    };
    let deleted = edit.apply_quietly(|stream, emit| {
        let mut done = Done::default();
        for id in ids {
            let result = each(&mut done, stream, id);
            reply.int(result);
        }
        emit_ids(emit, b"XDEL", None, &done.deleted);
        for (group, ids) in &done.released {
            emit_ids(emit, b"XACK", Some(group), ids);
        }
        !done.deleted.is_empty()
    });
    if deleted {
        edit.event(EventClasses::STREAM, "xdel");
    }
}
