//! The hash type: fields and values, packed while small, then in a table.
//!
//! A packed hash keeps field, value, field, value … in the order in which the fields came. It becomes a table once a
//! field or value is longer, or the fields are more, than [`Limits`] allow, and stays one.

use crate::member::Members;
use crate::packed::Packed;
use crate::{Limits, Str};
use std::iter;

/// A hash.
#[derive(Clone)]
pub struct Hash {
    form: Form,
}

#[derive(Clone)]
enum Form {
    Packed(Packed),
    Table(Box<Members>),
}

impl Hash {
    /// An empty hash; allocates nothing.
    pub const fn new() -> Hash {
        Hash { form: Form::Packed(Packed::new()) }
    }

    /// Number of fields. O(1).
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.len() / 2,
            Form::Table(table) => table.len(),
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
            Form::Table(_) => "hashtable",
        }
    }

    /// The value of a field. O(1) in a table, O(bytes) packed, as are all methods on one field.
    pub fn get(&self, field: &[u8]) -> Option<Str<'_>> {
        match &self.form {
            Form::Packed(packed) => Some(packed.at(packed.next(packed.find(field, 1)?)?)),
            Form::Table(table) => table.get(field).map(|(_, value)| Str::Bytes(value)),
        }
    }

    /// Whether the field exists.
    pub fn contains(&self, field: &[u8]) -> bool {
        match &self.form {
            Form::Packed(packed) => packed.find(field, 1).is_some(),
            Form::Table(table) => table.get(field).is_some(),
        }
    }

    /// Sets a field; returns its old value.
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: &Limits) -> Option<Vec<u8>> {
        if let Form::Packed(packed) = &mut self.form {
            let longest = field.len().max(value.len());
            if longest <= limits.hash_value_bytes_max && packed.is_safe_to_add(field.len() + value.len()) {
                if let Some(pos) = packed.find(field, 1).and_then(|pos| packed.next(pos)) {
                    let old = packed.at(pos).to_vec();
                    packed.replace(pos, Str::Bytes(value));
                    return Some(old);
                }
                if packed.len() / 2 < limits.hash_entries_max {
                    packed.push_back(Str::Bytes(field));
                    packed.push_back(Str::Bytes(value));
                    return None;
                }
            }
        }
        self.table().set(field, value)
    }

    /// Announces that a command sets `fields` fields: more than a packed hash may have make it a table at once, even if
    /// they are not all different, as in Redis.
    pub fn reserve(&mut self, fields: usize, limits: &Limits) {
        if fields > limits.hash_entries_max {
            self.table();
        }
    }

    /// Removes a field; returns its value.
    pub fn remove(&mut self, field: &[u8]) -> Option<Vec<u8>> {
        match &mut self.form {
            Form::Packed(packed) => {
                let pos = packed.find(field, 1)?;
                let old = packed.at(packed.next(pos)?).to_vec();
                packed.remove_range(pos, 2);
                Some(old)
            }
            Form::Table(table) => table.remove(field),
        }
    }

    /// All fields with their values: in the order of their coming while packed, in none in a table.
    pub fn iter(&self) -> impl Iterator<Item = (Str<'_>, Str<'_>)> {
        let (packed, table) = match &self.form {
            Form::Packed(packed) => (Some(packed), None),
            Form::Table(table) => (None, Some(table)),
        };
        let mut elements = packed.map(Packed::iter);
        let packed_pairs = iter::from_fn(move || {
            let elements = elements.as_mut()?;
            Some((elements.next()?, elements.next()?))
        });
        let table_pairs = table.into_iter().flat_map(|table| table.iter());
        packed_pairs.chain(table_pairs.map(|(field, value)| (Str::Bytes(field), Str::Bytes(value))))
    }

    /// The field, with its value, that a random number picks; `None` only if there are none.
    pub fn random(&self, random: u64) -> Option<(Str<'_>, Str<'_>)> {
        match &self.form {
            Form::Packed(packed) => {
                let pos = packed.seek(2 * random.checked_rem(self.len() as u64)? as usize)?;
                Some((packed.at(pos), packed.at(packed.next(pos)?)))
            }
            Form::Table(table) => table.random(random).map(|(field, value)| (Str::Bytes(field), Str::Bytes(value))),
        }
    }

    /// Calls `f` with about `count` fields from `cursor` on (a packed hash: with all) and returns the next cursor, 0 at
    /// the end. Every field that is there from the first call to the last is seen.
    pub fn scan(&self, cursor: u64, count: usize, mut f: impl FnMut(Str<'_>, Str<'_>)) -> u64 {
        match &self.form {
            Form::Packed(_) => {
                self.iter().for_each(|(field, value)| f(field, value));
                0
            }
            Form::Table(table) => table.scan(cursor, count, |(field, value)| f(Str::Bytes(field), Str::Bytes(value))),
        }
    }

    /// Heap in use, in bytes. O(1).
    pub fn memory_bytes(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.memory_bytes(),
            Form::Table(table) => table.memory_bytes(),
        }
    }

    /// Frees about `count` fields; `true` once none is left. For giving back a big hash in pieces.
    pub fn free_some(&mut self, count: usize) -> bool {
        match &mut self.form {
            Form::Packed(packed) => {
                *packed = Packed::new();
                true
            }
            Form::Table(table) => table.free_some(count),
        }
    }

    /// The table, which a packed hash is changed into.
    fn table(&mut self) -> &mut Members {
        if let Form::Packed(packed) = &self.form {
            let mut table = Box::new(Members::new());
            let mut elements = packed.iter();
            while let (Some(field), Some(value)) = (elements.next(), elements.next()) {
                field.with_bytes(|field| value.with_bytes(|value| table.set(field, value)));
            }
            self.form = Form::Table(table);
        }
        match &mut self.form {
            Form::Table(table) => table,
            Form::Packed(_) => unreachable!("a packed hash was just changed into a table"),
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
