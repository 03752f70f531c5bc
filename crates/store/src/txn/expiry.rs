//! Expiry times of keys, fields and members: removing what is due, and the bookkeeping of times.

use super::undo::UndoOp;
use super::{EventClasses, ITEMS_A_CHANGE, ITEMS_AT_ONCE, Key, Removal, Txn, is_over};
use crate::entry::EntryRef;
use crate::expiry::is_covered;
use crate::value::{Kind, ValueMut, ValueRef};

impl Txn<'_> {
    /// Removes members of the set or sorted set at a key that are due, up to `max`; whether none is left. A command that looks at
    /// the key runs once none is: what is due is never seen, and readers, whose ranks and counts are of all that is there, see
    /// all that is there. While nothing may go by itself (import mode, a pause of writes), they stay, and are seen.
    #[inline]
    pub fn settle(&mut self, key: Key, max: usize) -> bool {
        if self.view.cx.env.keep_due {
            return true;
        }
        let db = self.view.db;
        let Some(part) = self.view.shard(key).db(db).filter(|part| part.volatile_items != 0) else { return true };
        let horizon = self.view.horizon();
        let due = |entry: EntryRef| entry.kind() != Kind::Hash && entry.field_due().is_some_and(|at| at < horizon);
        if !part.table.get(key.hash, key.bytes).is_some_and(due) {
            return true;
        }
        self.expire_part(key, max).is_none_or(|removed| removed < max)
    }

    /// Removes a key that is due, as active expiry and every look at it do.
    pub(super) fn expire(&mut self, key: Key) {
        if let Some(entry) = self.remove(key) {
            self.discard(key, entry);
            self.emit_removal(key, Removal::Due);
            let actor = std::mem::take(&mut self.view.cx.actor);
            self.touched(key);
            self.view.cx.actor = actor;
            self.view.cx.expired += 1;
            self.event(EventClasses::EXPIRED, "expired", key.bytes);
        }
    }

    /// Removes what is due of a key: all of it, or up to `max` fields or members. How many those were; `None` if the key is
    /// gone.
    pub(super) fn expire_part(&mut self, key: Key, max: usize) -> Option<usize> {
        let (db, horizon) = (self.view.db, self.view.horizon());
        let entry = self.view.shard(key).db(db)?.table.get(key.hash, key.bytes)?;
        if entry.expire_at().is_some_and(|at| at < horizon) {
            self.expire(key);
            return None;
        }
        let (item_due, value) = (entry.field_due(), entry.value());
        let (len, due, command, class, event): (_, _, &[u8], _, _) = match value {
            ValueRef::Hash(hash) => {
                (hash.len(), hash.due_fields(horizon, max), b"HDEL", EventClasses::HASH, "hexpired")
            }
            ValueRef::Set(set) => (set.len(), set.due_members(horizon, max), b"SREM", EventClasses::SET, "sexpired"),
            ValueRef::ZSet(zset) => {
                (zset.len(), zset.due_members(horizon, max), b"ZREM", EventClasses::ZSET, "zexpired")
            }
            _ => return Some(0),
        };
        if is_over(value, horizon) {
            let fields: Vec<Vec<u8>> = match value {
                ValueRef::Hash(hash) if self.view.cx.env.events.has(EventClasses::SUBKEYS) => {
                    hash.iter().map(|(field, _)| field.to_vec()).collect()
                }
                _ => Vec::new(),
            };
            self.view.cx.expired_fields += len as u64;
            let gone = self.remove(key)?;
            self.discard(key, gone);
            self.emit_removal(key, Removal::Due);
            self.view.cx.items_event(class, event, db, key.bytes, fields);
            self.event(EventClasses::GENERIC, "del", key.bytes);
            self.touched(key);
            return None;
        }
        self.db_to_change(key)?;
        self.write_items_early(key, &due);
        let mut slot = self.shard_mut(key).db_mut(db)?.table.get_mut(key.hash, key.bytes)?;
        let mut old: Vec<UndoOp> = Vec::with_capacity(due.len());
        for name in &due {
            let bytes = || Box::<[u8]>::from(&name[..]);
            old.push(match slot.value_mut() {
                ValueMut::Hash(hash) => UndoOp::Field { field: bytes(), old: hash.remove(name) },
                ValueMut::Set(set) => {
                    let at = set.expiry(name);
                    UndoOp::Member { member: bytes(), old: set.remove(name).then_some(at) }
                }
                ValueMut::ZSet(zset) => {
                    let at = zset.expiry(name);
                    UndoOp::Score { member: bytes(), old: zset.remove(name).map(|score| (score, at)) }
                }
                _ => return Some(0),
            });
        }
        self.note_field_due(key, item_due);
        for op in old {
            self.record(key, || op);
        }
        for batch in due.chunks(ITEMS_A_CHANGE) {
            let mut argv: Vec<&[u8]> = vec![command, key.bytes];
            argv.extend(batch.iter().map(|name| &name[..]));
            self.emit(&argv);
        }
        if !due.is_empty() {
            self.view.cx.expired_fields += due.len() as u64;
            self.view.cx.items_event(class, event, db, key.bytes, &due);
            self.touched(key);
        }
        Some(due.len())
    }

    /// Removes the due keys that reads of this transaction came across.
    pub fn reap_stale(&mut self) {
        self.reap(false);
    }

    /// The same at the end of the transaction, each key on its own: they have nothing to do with what it was for.
    pub fn reap_stale_apart(&mut self) {
        self.reap(true);
    }

    pub(super) fn reap(&mut self, apart: bool) {
        let stale = self.view.cx.take_stale();
        let before = self.view.db;
        for (db, bytes) in stale {
            let key = Key::new(&bytes);
            self.view.db = db;
            if apart {
                self.view.cx.changes.begin_unit();
            }
            // It may live longer by now. Of what is in it a piece goes; more does at the next look, or by itself.
            if self.view.peek_even_due(key).is_some_and(|entry| self.view.has_due(entry)) {
                self.expire_part(key, ITEMS_AT_ONCE);
            }
        }
        self.view.db = before;
    }

    /// Forgets the due keys that reads came across: whoever meets them next removes them.
    pub fn leave_stale(&mut self) {
        self.view.cx.take_stale();
    }

    /// Removes up to `max` due keys and as many due fields and members of a shard, over all databases. Returns how many keys
    /// were looked at, or fields and members removed: fewer than `max` means that nothing more is due.
    pub fn expire_due(&mut self, shard: usize, max: usize) -> usize {
        let mut due = Vec::new();
        let now = self.view.now_ms;
        self.view.guard.shard_mut(shard).expiry.take_due(now, max, &mut due);
        let (before, taken) = (self.view.db, due.len());
        let mut fields = 0;
        for (db, hash) in due {
            self.view.db = db;
            let data = self.view.guard.shard_mut(shard);
            let Some(part) = data.db(db) else { continue };
            // The registration is a hint: the key may be gone, or live longer by now.
            let mut found = None;
            part.table.find_by_hash(hash, |entry| {
                let at = entry.next_due();
                if at.is_some() && entry.is_indexed() {
                    found = Some((Box::<[u8]>::from(entry.key()), at));
                }
                found.is_some()
            });
            let Some((bytes, Some(mut at))) = found else { continue };
            let key = Key { bytes: &bytes, hash };
            self.view.cx.changes.begin_unit();
            if at < now {
                let Some(removed) = self.expire_part(key, max - fields) else { continue };
                fields += removed;
                match self.view.peek_even_due(key).and_then(EntryRef::next_due) {
                    Some(next) => at = next,
                    None => continue,
                }
            }
            self.view.guard.shard_mut(shard).expiry.add(now, hash, db, at);
        }
        self.view.db = before;
        taken.max(fields)
    }

    /// Sets or clears the expiry time of a key; `false` when the key is not there.
    pub fn set_expiry(&mut self, key: Key, at: Option<i64>) -> bool {
        if !self.outlives_now(key) || self.db_to_change(key).is_none() || !self.write_expiry(key, at) {
            return false;
        }
        match at {
            _ if !self.view.cx.env.log_changes => {}
            Some(at) => self.emit(&[b"PEXPIREAT", key.bytes, itoa::Buffer::new().format(at).as_bytes()]),
            None => self.emit(&[b"PERSIST", key.bytes]),
        }
        self.touched(key);
        true
    }

    /// The bookkeeping of an expiry time: entry, count and index. Whether there is such a key.
    pub(super) fn write_expiry(&mut self, key: Key, at: Option<i64>) -> bool {
        let db = self.view.db;
        let Some(part) = self.view.guard.db_mut(key.shard(), db) else { return false };
        let Some(mut slot) = part.table.get_mut(key.hash, key.bytes) else { return false };
        let (old, old_due) = (slot.get().expire_at(), slot.get().next_due());
        slot.set_expire_at(at);
        let due = newly_due(slot.get(), old_due);
        match (old, at) {
            (None, Some(_)) => part.volatile += 1,
            (Some(_), None) => part.volatile -= 1,
            _ => {}
        }
        self.index(key, due);
        self.record(key, || UndoOp::Expiry(old));
        true
    }

    /// The bookkeeping of a collection whose soonest field or member was due at `old` before a change.
    pub(super) fn note_field_due(&mut self, key: Key, old: Option<i64>) {
        let db = self.view.db;
        let Some(part) = self.view.guard.db_mut(key.shard(), db) else { return };
        let Some(entry) = part.table.get(key.hash, key.bytes) else { return };
        let mut starts = None;
        match (old, entry.field_due()) {
            (None, Some(_)) => {
                part.volatile_items += 1;
                starts = Some(entry.kind());
            }
            (Some(_), None) => part.volatile_items -= 1,
            _ => {}
        }
        let old_due = match (old, entry.expire_at()) {
            (Some(field), Some(key)) => Some(field.min(key)),
            (field, key) => field.or(key),
        };
        if let Some(kind) = starts {
            self.view.guard.note_timed(kind);
        }
        self.register(key, old_due);
    }

    /// Registers a key whose [`EntryRef::next_due`] was `old` before a change, if the expiry index needs to know.
    pub(super) fn register(&mut self, key: Key, old: Option<i64>) {
        let db = self.view.db;
        let Some(entry) = self.view.shard(key).db(db).and_then(|part| part.table.get(key.hash, key.bytes)) else {
            return;
        };
        let due = newly_due(entry, old);
        self.index(key, due);
    }

    /// Registers a key for a time, if there is one.
    fn index(&mut self, key: Key, due: Option<i64>) {
        let Some(at) = due else { return };
        let (db, now) = (self.view.db, self.view.now_ms);
        let data = self.view.guard.shard_mut(key.shard());
        data.expiry.add(now, key.hash, db, at);
        data.tidy_expiry(now);
    }
}

/// When an entry, whose [`EntryRef::next_due`] was `old` before a change, is due, if the expiry index needs to know; it is marked as
/// indexed then.
fn newly_due(entry: EntryRef, old: Option<i64>) -> Option<i64> {
    let at = entry.next_due()?;
    // A registration at or before the key's time is enough: when it fires it moves on to the true time.
    let registered = is_covered(entry.is_indexed(), old, at);
    entry.set_indexed(true);
    (!registered).then_some(at)
}
