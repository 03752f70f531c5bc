//! The hash type: fields and values, packed while small, then in a table.
//!
//! A packed hash keeps field, value, field, value … in the order in which the fields came. It becomes a table once a
//! field or value is longer, or the fields are more, than [`Limits`] allow, and stays one.
//!
//! **Expiry of fields.** The first expiry time that a field gets turns the hash into a form that can keep one for each
//! field ([`timed`]), which it stays in; hashes without pay nothing for it. The methods of [`Hash`] see all fields, those
//! that are due included; [`Hash::live`] shows what is left at a time, and is what readers get.

mod live;
mod timed;

pub use live::Live;

use crate::defrag::Mover;
use crate::member::{MemberRef, Members};
use crate::packed::Packed;
use crate::timed::TimedTable;
use crate::{Limits, Str};
use std::iter;
use timed::TimedPacked;

/// What a field was: its value, and when it would have expired (Unix ms).
pub use crate::member::Old;

/// A field, its value, and when it expires (Unix ms).
pub type Field<'a> = (Str<'a>, Str<'a>, Option<i64>);

/// A hash.
#[derive(Clone)]
pub struct Hash {
    form: Form,
}

#[derive(Clone)]
enum Form {
    Packed(Packed),
    Table(Box<Members>),
    TimedPacked(Box<TimedPacked>),
    TimedTable(Box<TimedTable>),
}

fn field_of(member: MemberRef<'_>) -> Field<'_> {
    (Str::Bytes(member.key), Str::Bytes(member.value), member.expire_at)
}

impl Hash {
    /// An empty hash; allocates nothing.
    pub const fn new() -> Hash {
        Hash { form: Form::Packed(Packed::new()) }
    }

    /// A hash of fields and values by turns; `None` if a field is there twice, or has no value. O(n log n).
    pub fn from_packed(pairs: Packed, limits: &Limits) -> Option<Hash> {
        if !pairs.len().is_multiple_of(2) || !pairs.is_distinct(2) {
            return None;
        }
        let few = pairs.len() / 2 <= limits.hash_entries_max && pairs.is_safe_to_add(0);
        let fits = few && pairs.iter().all(|element| element.len() <= limits.hash_value_bytes_max);
        let mut hash = Hash { form: Form::Packed(pairs) };
        if !fits {
            hash.make_table();
        }
        Some(hash)
    }

    /// Moves a packed hash as `mover` wants. Whether there are more fields than can be moved at once.
    pub(crate) fn relocate_small(&mut self, mover: &mut Mover<'_>) -> bool {
        match &mut self.form {
            Form::Packed(packed) => packed.relocate(mover),
            Form::TimedPacked(timed) => timed.relocate(mover),
            Form::Table(_) | Form::TimedTable(_) => return true,
        }
        false
    }

    /// Moves the fields of one bucket as `mover` wants; returns the next cursor, 0 at the end.
    pub(crate) fn relocate_some(&mut self, cursor: u64, mover: &mut Mover<'_>) -> u64 {
        match &mut self.form {
            Form::Table(table) => table.relocate_some(cursor, mover),
            Form::TimedTable(timed) => timed.relocate_some(cursor, mover),
            Form::Packed(_) | Form::TimedPacked(_) => 0,
        }
    }

    /// Number of fields. O(1).
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.len() / 2,
            Form::Table(table) => table.len(),
            Form::TimedPacked(timed) => timed.len(),
            Form::TimedTable(timed) => timed.table().len(),
        }
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of the form, as `OBJECT ENCODING` shows it.
    pub fn encoding(&self) -> &'static str {
        match &self.form {
            Form::Packed(_) => "listpack",
            Form::TimedPacked(_) => "listpackex",
            Form::Table(_) | Form::TimedTable(_) => "hashtable",
        }
    }

    /// The value of a field and when it expires (Unix ms). O(1) in a table, O(bytes) packed, as are all methods on one field.
    pub fn find(&self, field: &[u8]) -> Option<(Str<'_>, Option<i64>)> {
        match &self.form {
            Form::Packed(packed) => Some((packed.at(packed.next(packed.find(field, 1)?)?), None)),
            Form::Table(table) => table.get(field).map(|member| (Str::Bytes(member.value), None)),
            Form::TimedPacked(timed) => timed.find(field),
            Form::TimedTable(timed) => {
                let member = timed.table().get(field)?;
                Some((Str::Bytes(member.value), member.expire_at))
            }
        }
    }

    /// The value of a field.
    pub fn get(&self, field: &[u8]) -> Option<Str<'_>> {
        self.find(field).map(|(value, _)| value)
    }

    /// Whether the field exists.
    pub fn contains(&self, field: &[u8]) -> bool {
        self.find(field).is_some()
    }

    /// What is left of the hash at a Unix time in ms.
    pub fn live(&self, now_ms: i64) -> Live<'_> {
        Live::new(self, now_ms)
    }

    /// When the first field expires (Unix ms), if any ever does. O(1), or O(log n) in a table.
    pub fn soonest(&self) -> Option<i64> {
        match &self.form {
            Form::Packed(_) | Form::Table(_) => None,
            Form::TimedPacked(timed) => timed.soonest(),
            Form::TimedTable(timed) => timed.soonest(),
        }
    }

    /// How many fields are due. O(bytes) packed, O(log n) in a table.
    pub fn due_count(&self, now_ms: i64) -> usize {
        match &self.form {
            Form::Packed(_) | Form::Table(_) => 0,
            Form::TimedPacked(timed) => timed.due(now_ms).count(),
            Form::TimedTable(timed) => timed.due_count(now_ms),
        }
    }

    /// Whether every field is due. O(bytes) packed, O(log n) in a table.
    pub fn is_over(&self, now_ms: i64) -> bool {
        match &self.form {
            Form::Packed(_) | Form::Table(_) => self.is_empty(),
            Form::TimedPacked(timed) => timed.due(now_ms).count() == timed.len(),
            Form::TimedTable(timed) => timed.is_over(now_ms),
        }
    }

    /// Up to `max` fields that are due; in a table, the longest due first.
    pub fn due_fields(&self, now_ms: i64, max: usize) -> Vec<Vec<u8>> {
        match &self.form {
            Form::Packed(_) | Form::Table(_) => Vec::new(),
            Form::TimedPacked(timed) => timed.due(now_ms).take(max).map(|(field, ..)| field.to_vec()).collect(),
            Form::TimedTable(timed) => timed.due_keys(now_ms, max),
        }
    }

    /// Sets a field, which then lives for ever; returns what it was.
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: &Limits) -> Option<Old> {
        self.set_with_expiry(field, value, None, limits)
    }

    /// Sets a field and when it expires (Unix ms; `None`: never); returns what it was.
    pub fn set_with_expiry(
        &mut self,
        field: &[u8],
        value: &[u8],
        expire_at: Option<i64>,
        limits: &Limits,
    ) -> Option<Old> {
        self.put(field, value, expire_at, limits, true)
    }

    /// [`Hash::set_with_expiry`]; unless the caller wants to know it, what the field was may be given as empty.
    pub fn put(
        &mut self,
        field: &[u8],
        value: &[u8],
        expire_at: Option<i64>,
        limits: &Limits,
        wants_old: bool,
    ) -> Option<Old> {
        if expire_at.is_some() {
            self.make_timed();
        }
        let fits = field.len().max(value.len()) <= limits.hash_value_bytes_max;
        match &mut self.form {
            Form::Packed(packed) if fits && packed.is_safe_to_add(field.len() + value.len()) => {
                if let Some(pos) = packed.find(field, 1).and_then(|pos| packed.next(pos)) {
                    let old = if wants_old { packed.at(pos).to_vec() } else { Vec::new() };
                    packed.replace(pos, Str::Bytes(value));
                    return Some((old, None));
                }
                if packed.len() / 2 < limits.hash_entries_max {
                    packed.push_pair(Str::Bytes(field), Str::Bytes(value));
                    return None;
                }
            }
            Form::TimedPacked(timed) if fits && timed.is_safe_to_add(field.len() + value.len()) => {
                if let Some(old) = timed.replace(field, value, expire_at) {
                    return Some(old);
                }
                if timed.len() < limits.hash_entries_max {
                    timed.push_back(field, value, expire_at);
                    return None;
                }
            }
            _ => {}
        }
        self.make_table();
        match &mut self.form {
            Form::Table(table) => table.set(field, value, None),
            Form::TimedTable(timed) => timed.set(field, value, expire_at),
            Form::Packed(_) | Form::TimedPacked(_) => unreachable!("`make_table` leaves no packed hash"),
        }
    }

    /// Has a field expire at a Unix time in ms, or live for ever; returns what it was. Nothing happens if it is not there.
    pub fn set_expiry(&mut self, field: &[u8], expire_at: Option<i64>, limits: &Limits) -> Option<Old> {
        let value = self.get(field)?.to_vec();
        self.set_with_expiry(field, &value, expire_at, limits)
    }

    /// Announces that a command sets `fields` fields: more than a packed hash may have make it a table at once, even if
    /// they are not all different, as in Redis.
    pub fn reserve(&mut self, fields: usize, limits: &Limits) {
        if fields > limits.hash_entries_max {
            self.make_table();
        }
    }

    /// Removes a field; returns what it was.
    pub fn remove(&mut self, field: &[u8]) -> Option<Old> {
        match &mut self.form {
            Form::Packed(packed) => {
                let pos = packed.find(field, 1)?;
                let old = packed.at(packed.next(pos)?).to_vec();
                packed.remove_range(pos, 2);
                Some((old, None))
            }
            Form::Table(table) => table.remove(field),
            Form::TimedPacked(timed) => timed.remove(field),
            Form::TimedTable(timed) => timed.remove(field),
        }
    }

    /// All fields with their values: in the order of their coming while packed, in none in a table.
    pub fn iter(&self) -> impl Iterator<Item = (Str<'_>, Str<'_>)> {
        self.iter_with_expiry().map(|(field, value, _)| (field, value))
    }

    /// Like [`Hash::iter`], with when each field expires (Unix ms).
    pub fn iter_with_expiry(&self) -> impl Iterator<Item = Field<'_>> {
        let (packed, timed, table) = match &self.form {
            Form::Packed(packed) => (Some(packed), None, None),
            Form::TimedPacked(timed) => (None, Some(timed), None),
            Form::Table(table) => (None, None, Some(&**table)),
            Form::TimedTable(timed) => (None, None, Some(timed.table())),
        };
        let mut elements = packed.map(Packed::iter);
        let pairs = iter::from_fn(move || {
            let elements = elements.as_mut()?;
            Some((elements.next()?, elements.next()?, None))
        });
        let triples = timed.into_iter().flat_map(|timed| timed.iter());
        let members = table.into_iter().flat_map(|table| table.iter()).map(field_of);
        pairs.chain(triples).chain(members)
    }

    /// The field, with its value and expiry time, that a random number picks; `None` only if there are none.
    pub fn random(&self, random: u64) -> Option<Field<'_>> {
        match &self.form {
            Form::Packed(packed) => {
                let pos = packed.seek(2 * random.checked_rem(self.len() as u64)? as usize)?;
                Some((packed.at(pos), packed.at(packed.next(pos)?), None))
            }
            Form::TimedPacked(timed) => timed.at(random.checked_rem(self.len() as u64)? as usize),
            Form::Table(table) => table.random(random).map(field_of),
            Form::TimedTable(timed) => timed.table().random(random).map(field_of),
        }
    }

    /// Calls `f` with about `count` fields from `cursor` on (a packed hash: with all) and returns the next cursor, 0 at
    /// the end. Every field that is there from the first call to the last is seen.
    pub fn scan(&self, cursor: u64, count: usize, mut f: impl FnMut(Field<'_>)) -> u64 {
        match &self.form {
            Form::Packed(_) | Form::TimedPacked(_) => {
                self.iter_with_expiry().for_each(f);
                0
            }
            Form::Table(table) => table.scan(cursor, count, |member| f(field_of(member))),
            Form::TimedTable(timed) => timed.table().scan(cursor, count, |member| f(field_of(member))),
        }
    }

    /// Heap in use, in bytes. O(1).
    pub fn memory_bytes(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.memory_bytes(),
            Form::Table(table) => table.memory_bytes(),
            Form::TimedPacked(timed) => timed.memory_bytes(),
            Form::TimedTable(timed) => timed.memory_bytes(),
        }
    }

    /// Frees about `count` fields; `true` once none is left. For giving back a big hash in pieces.
    pub fn free_some(&mut self, count: usize) -> bool {
        match &mut self.form {
            Form::Packed(_) | Form::TimedPacked(_) => {
                *self = Hash::new();
                true
            }
            Form::Table(table) => table.free_some(count),
            Form::TimedTable(timed) => timed.free_some(count),
        }
    }

    /// Changes a packed hash into a table.
    fn make_table(&mut self) {
        match &self.form {
            Form::Packed(packed) => {
                let mut table = Box::new(Members::new());
                let mut elements = packed.iter();
                while let (Some(field), Some(value)) = (elements.next(), elements.next()) {
                    field.with_bytes(|field| value.with_bytes(|value| table.set(field, value, None)));
                }
                self.form = Form::Table(table);
            }
            Form::TimedPacked(timed) => {
                let mut table = Box::new(TimedTable::new(Members::new()));
                for (field, value, at) in timed.iter() {
                    field.with_bytes(|field| value.with_bytes(|value| table.set(field, value, at)));
                }
                self.form = Form::TimedTable(table);
            }
            Form::Table(_) | Form::TimedTable(_) => {}
        }
    }

    /// Changes the hash into a form that keeps expiry times.
    fn make_timed(&mut self) {
        match &mut self.form {
            Form::Packed(packed) => self.form = Form::TimedPacked(Box::new(TimedPacked::new(packed))),
            Form::Table(table) => {
                let table = std::mem::replace(&mut **table, Members::new());
                self.form = Form::TimedTable(Box::new(TimedTable::new(table)));
            }
            Form::TimedPacked(_) | Form::TimedTable(_) => {}
        }
    }
}

impl Default for Hash {
    fn default() -> Hash {
        Hash::new()
    }
}

#[cfg(test)]
mod tests;
