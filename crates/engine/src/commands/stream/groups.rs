//! Consumer groups and their consumers: XGROUP.

use super::id;
use crate::args::Args;
use crate::command::Reply;
use crate::error::{Error, Result};
use kelda_store::stream::{Stream, StreamId};
use kelda_store::txn::{Edit, EventClasses, Txn};

/// The options of CREATE and SETID, from word 5 on.
#[derive(Default)]
struct Options {
    make_stream: bool,
    entries_read: Option<u64>,
}

fn options(args: &Args, subcommand: &str) -> Result<Options> {
    let mut options = Options::default();
    let mut at = 5;
    while at < args.len() {
        if subcommand == "CREATE" && args.is(at, "MKSTREAM") {
            options.make_stream = true;
            at += 1;
        } else if args.is(at, "ENTRIESREAD") && at + 1 < args.len() {
            options.entries_read = match args.int(at + 1)? {
                -1 => None,
                read => {
                    let read = u64::try_from(read);
                    Some(read.map_err(|_| Error::text("ERR value for ENTRIESREAD must be positive or -1"))?)
                }
            };
            at += 2;
        } else {
            let given = String::from_utf8_lossy(&args[1]);
            return Err(Error::owned(format!(
                "ERR unknown subcommand or wrong number of arguments for '{given}'. Try XGROUP HELP."
            )));
        }
    }
    Ok(options)
}

const NEEDS_KEY: Error = Error::text(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM \
     option to create an empty stream automatically.",
);

fn no_group(args: &Args) -> Error {
    let (key, group) = (String::from_utf8_lossy(&args[2]), String::from_utf8_lossy(&args[3]));
    Error::owned(format!("NOGROUP No such consumer group '{group}' for key name '{key}'"))
}

/// The stream at word 2 for a change of the group at word 3, which both must be there.
fn edit_group<'t, 'k>(txn: &'t mut Txn<'k>, args: &Args<'t>) -> Result<Edit<'t, 'k, Stream>> {
    let edit = txn.edit::<Stream>(args.key(2))?.ok_or(NEEDS_KEY)?;
    if edit.group(&args[3]).is_none() {
        return Err(no_group(args));
    }
    Ok(edit)
}

/// How ENTRIESREAD says it.
pub(super) fn entries_read_text(read: Option<u64>) -> String {
    read.map_or("-1".to_string(), |read| read.to_string())
}

pub(super) fn create(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let Options { make_stream, entries_read } = options(args, "CREATE")?;
    let (key, name) = (args.key(2), &args[3]);
    let (last, there) = match txn.stream(key)? {
        Some(stream) => (stream.last_id(), true),
        None if make_stream => (StreamId::MIN, false),
        None => return Err(NEEDS_KEY),
    };
    let at = if &args[4] == b"$" { last } else { id::parse(&args[4], 0)? };
    if there && txn.stream(key)?.is_some_and(|stream| stream.group(name).is_some()) {
        return Err(Error::text("BUSYGROUP Consumer Group name already exists"));
    }
    let mut edit: Edit<Stream> = txn.edit_or_new(key)?;
    let (at_text, read_text) = (at.to_string(), entries_read_text(entries_read));
    let mut words: Vec<&[u8]> = vec![name, at_text.as_bytes()];
    if !there {
        words.push(b"MKSTREAM");
    }
    words.extend_from_slice(&[b"ENTRIESREAD", read_text.as_bytes()]);
    edit.apply(b"XGROUP CREATE", &words, |stream| stream.create_group(name, at, entries_read));
    edit.event(EventClasses::STREAM, "xgroup-create");
    reply.ok();
    Ok(())
}

pub(super) fn setid(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let Options { entries_read, .. } = options(args, "SETID")?;
    let name = &args[3];
    let mut edit = edit_group(txn, args)?;
    // Other than CREATE this takes `-` and `+` too.
    let at = if &args[4] == b"$" { edit.last_id() } else { id::parse_or_end(&args[4], 0)? };
    let (at_text, read_text) = (at.to_string(), entries_read_text(entries_read));
    let words: [&[u8]; 4] = [name, at_text.as_bytes(), b"ENTRIESREAD", read_text.as_bytes()];
    edit.apply(b"XGROUP SETID", &words, |stream| {
        if let Some(group) = stream.group_mut(name) {
            group.set_position(at, entries_read);
        }
    });
    edit.event(EventClasses::STREAM, "xgroup-setid");
    reply.ok();
    Ok(())
}

pub(super) fn destroy(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let name = &args[3];
    let mut edit = txn.edit::<Stream>(args.key(2))?.ok_or(NEEDS_KEY)?;
    let there = edit.group(name).is_some();
    if there {
        // This wakes those who wait for the group: they are told that it is gone.
        edit.apply(b"XGROUP DESTROY", &[name], |stream| stream.destroy_group(name));
        edit.event(EventClasses::STREAM, "xgroup-destroy");
    }
    reply.int(there.into());
    Ok(())
}

/// Creates a consumer of a group that is there, unless there is one. Whether it is new.
pub(super) fn make_consumer(edit: &mut Edit<Stream>, group: &[u8], consumer: &[u8]) -> bool {
    if edit.group(group).is_none_or(|group| group.consumer(consumer).is_some()) {
        return false;
    }
    let now = edit.now();
    edit.apply_quietly(|stream, emit| {
        if let Some(group) = stream.group_mut(group) {
            group.create_consumer(consumer, now);
        }
        emit(b"XGROUP CREATECONSUMER", &[group, consumer]);
    });
    edit.event(EventClasses::STREAM, "xgroup-createconsumer");
    true
}

pub(super) fn create_consumer(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let new = make_consumer(&mut edit_group(txn, args)?, &args[3], &args[4]);
    reply.int(new.into());
    Ok(())
}

pub(super) fn delete_consumer(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let (name, consumer) = (&args[3], &args[4]);
    let mut edit = edit_group(txn, args)?;
    let pending = edit.apply_quietly(|stream, emit| {
        let pending = stream.group_mut(name)?.delete_consumer(consumer)?;
        emit(b"XGROUP DELCONSUMER", &[name, consumer]);
        Some(pending)
    });
    if pending.is_some() {
        edit.event(EventClasses::STREAM, "xgroup-delconsumer");
    }
    reply.int(pending.unwrap_or(0) as i64);
    Ok(())
}
