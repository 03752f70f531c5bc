//! How a transaction that can be undone remembers: one inverse operation for each primitive change.
//!
//! Applied in reverse order the records bring back every value, expiry time and membership; only the order of fields
//! inside a packed hash or set may differ afterwards, which no command promises.

use super::{Key, Txn};
use crate::entry::Entry;
use crate::hash::Old;
use crate::list::End;
use crate::snapshot::Big;
use crate::stream::{Stream, StreamId};
use crate::value::ValueMut;

/// One record.
pub(super) struct Undo {
    pub db: u32,
    pub key: Box<[u8]>,
    pub op: UndoOp,
}

/// An entry that left its table and may come back.
pub(super) struct Removed {
    pub entry: Entry,
    /// What a snapshot is writing of it, if its value is big.
    pub big: Option<Box<Big>>,
}

/// The inverse of one primitive change of the key.
pub(super) enum UndoOp {
    /// Put this entry in the key's place; `None` removes the key.
    Entry(Option<Removed>),
    /// Give the key this expiry time.
    Expiry(Option<i64>),
    /// Take these elements out of the list.
    ListInserted { index: usize, count: usize },
    /// Put these elements back into the list.
    ListRemoved { index: usize, items: Vec<Vec<u8>> },
    /// Put this element back in its place.
    ListReplaced { index: usize, item: Vec<u8> },
    /// Give the field its old value and expiry time; `None` removes it.
    Field { field: Box<[u8]>, old: Option<Old> },
    /// Add the member, with its old expiry time, or remove it.
    Member { member: Box<[u8]>, old: Option<Option<i64>> },
    /// Give the member its old score and expiry time; `None` removes it.
    Score { member: Box<[u8]>, old: Option<(f64, Option<i64>)> },
    /// Take the last entry off the stream, whose last id was this before it.
    StreamAppended { last_id: StreamId },
    /// The stream as it was.
    Stream(Box<Stream>),
}

impl Undo {
    /// The transaction ends, and will not be undone.
    pub(super) fn settle(self, txn: &mut Txn) {
        if let UndoOp::Entry(Some(Removed { entry, big })) = self.op {
            txn.let_go(Key::new(&self.key), entry, big.map(|big| *big));
        }
    }

    pub(super) fn apply(self, txn: &mut Txn) {
        let key = Key::new(&self.key);
        txn.view.db = self.db;
        let limits = txn.view.cx.env.limits;
        match self.op {
            UndoOp::Entry(image) => {
                if let Some(entry) = txn.remove(key) {
                    txn.discard(key, entry);
                }
                if let Some(Removed { entry, big }) = image {
                    let access = entry.as_ref().access();
                    txn.insert(key, entry);
                    if let Some(entry) = txn.view.peek(key) {
                        entry.set_access(access);
                    }
                    txn.place_big(key, big.map(|big| *big));
                }
                return;
            }
            UndoOp::Expiry(at) => {
                txn.write_expiry(key, at);
                return;
            }
            _ => {}
        }
        let db = txn.view.db;
        let Some(part) = txn.shard_mut(key).db_mut(db) else { return };
        let Some(mut slot) = part.table.get_mut(key.hash, key.bytes) else { return };
        let field_due = slot.get().field_due();
        match (self.op, slot.value_mut()) {
            (UndoOp::ListInserted { index, count }, ValueMut::List(list)) => {
                list.remove_range(index, count, &limits);
            }
            (UndoOp::ListRemoved { index, items }, ValueMut::List(list)) => {
                for (offset, item) in items.iter().enumerate() {
                    if index == 0 && list.is_empty() || index + offset == list.len() {
                        list.push(End::Back, item, &limits);
                    } else {
                        list.insert(index + offset, item, &limits);
                    }
                }
            }
            (UndoOp::ListReplaced { index, item }, ValueMut::List(list)) => {
                list.set(index, &item, &limits);
            }
            (UndoOp::Field { field, old: Some((old, at)) }, ValueMut::Hash(hash)) => {
                hash.set_with_expiry(&field, &old, at, &limits);
            }
            (UndoOp::Field { field, old: None }, ValueMut::Hash(hash)) => {
                hash.remove(&field);
            }
            (UndoOp::Member { member, old: Some(at) }, ValueMut::Set(set)) => {
                set.insert(&member, &limits);
                set.set_expiry(&member, at);
            }
            (UndoOp::Member { member, old: None }, ValueMut::Set(set)) => {
                set.remove(&member);
            }
            (UndoOp::Score { member, old: Some((score, at)) }, ValueMut::ZSet(zset)) => {
                zset.insert(&member, score, &limits);
                zset.set_expiry(&member, at);
            }
            (UndoOp::Score { member, old: None }, ValueMut::ZSet(zset)) => {
                zset.remove(&member);
            }
            (UndoOp::StreamAppended { last_id }, ValueMut::Stream(stream)) => stream.take_back(last_id),
            (UndoOp::Stream(image), ValueMut::Stream(stream)) => *stream = *image,
            _ => debug_assert!(false, "an undo record met a value of another type"),
        }
        if slot.get().field_due() != field_due {
            txn.note_field_due(key, field_due);
        }
    }
}
