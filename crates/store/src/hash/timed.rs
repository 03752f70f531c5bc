//! The form of small hashes whose fields may have expiry times.

use super::Field;
use crate::Str;
use crate::defrag::Mover;
use crate::member::Old;
use crate::packed::Packed;
use std::iter;

/// A small hash: field, value, expiry time (an integer, or nothing for ever) one after another, as the fields came.
#[derive(Clone)]
pub(super) struct TimedPacked {
    triples: Packed,
    /// The least of the expiry times.
    soonest: Option<i64>,
}

/// An expiry time as an element.
fn element(expire_at: Option<i64>) -> Str<'static> {
    expire_at.map_or(Str::Bytes(b""), Str::Int)
}

/// The expiry time that an element stands for.
fn expiry(element: Str<'_>) -> Option<i64> {
    match element {
        Str::Int(at) => Some(at),
        Str::Bytes(_) => None,
    }
}

impl TimedPacked {
    /// The fields of a hash without expiry times.
    pub fn new(pairs: &Packed) -> TimedPacked {
        let mut timed = TimedPacked { triples: Packed::new(), soonest: None };
        let mut elements = pairs.iter();
        while let (Some(field), Some(value)) = (elements.next(), elements.next()) {
            [field, value, element(None)].into_iter().for_each(|element| timed.triples.push_back(element));
        }
        timed
    }

    /// Moves the block as `mover` wants.
    pub fn relocate(&mut self, mover: &mut Mover<'_>) {
        self.triples.relocate(mover);
    }

    pub fn len(&self) -> usize {
        self.triples.len() / 3
    }

    /// Whether a field and a value of so many bytes together can be added.
    pub fn is_safe_to_add(&self, len: usize) -> bool {
        /// Bytes of the longest expiry time, with room to spare.
        const EXPIRY: usize = 16;
        self.triples.is_safe_to_add(len + EXPIRY)
    }

    pub fn soonest(&self) -> Option<i64> {
        self.soonest
    }

    pub fn find(&self, field: &[u8]) -> Option<(Str<'_>, Option<i64>)> {
        let (_, value, at) = self.read(self.triples.find(field, 2)?)?;
        Some((value, at))
    }

    /// The field with this index.
    pub fn at(&self, index: usize) -> Option<Field<'_>> {
        self.read(self.triples.seek(3 * index)?)
    }

    /// The field at a position.
    fn read(&self, pos: usize) -> Option<Field<'_>> {
        let value = self.triples.next(pos)?;
        let at = self.triples.next(value)?;
        Some((self.triples.at(pos), self.triples.at(value), expiry(self.triples.at(at))))
    }

    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        let mut elements = self.triples.iter();
        iter::from_fn(move || Some((elements.next()?, elements.next()?, expiry(elements.next()?))))
    }

    /// The fields that are due.
    pub fn due(&self, now_ms: i64) -> impl Iterator<Item = Field<'_>> {
        let any = self.soonest.is_some_and(|at| at < now_ms);
        let fields = any.then(|| self.iter()).into_iter().flatten();
        fields.filter(move |(_, _, at)| at.is_some_and(|at| at < now_ms))
    }

    /// Adds a field that is not there.
    pub fn push_back(&mut self, field: &[u8], value: &[u8], expire_at: Option<i64>) {
        self.triples.push_back(Str::Bytes(field));
        self.triples.push_back(Str::Bytes(value));
        self.triples.push_back(element(expire_at));
        self.note(None, expire_at);
    }

    /// Sets a field that is there; returns what it was.
    pub fn replace(&mut self, field: &[u8], value: &[u8], expire_at: Option<i64>) -> Option<Old> {
        let value_pos = self.triples.next(self.triples.find(field, 2)?)?;
        let old = self.triples.at(value_pos).to_vec();
        self.triples.replace(value_pos, Str::Bytes(value));
        let at_pos = self.triples.next(value_pos)?;
        let old_at = expiry(self.triples.at(at_pos));
        if expire_at != old_at {
            self.triples.replace(at_pos, element(expire_at));
            self.note(old_at, expire_at);
        }
        Some((old, old_at))
    }

    pub fn remove(&mut self, field: &[u8]) -> Option<Old> {
        let pos = self.triples.find(field, 2)?;
        let (_, value, at) = self.read(pos)?;
        let old = (value.to_vec(), at);
        self.triples.remove_range(pos, 3);
        self.note(at, None);
        Some(old)
    }

    /// Keeps the soonest expiry time right after one gave way to another.
    fn note(&mut self, old: Option<i64>, new: Option<i64>) {
        if old.is_some() && old == self.soonest {
            self.soonest = self.iter().filter_map(|(_, _, at)| at).min();
        } else if new.is_some_and(|new| self.soonest.is_none_or(|soonest| new < soonest)) {
            self.soonest = new;
        }
    }

    pub fn memory_bytes(&self) -> usize {
        size_of::<TimedPacked>() + self.triples.memory_bytes()
    }
}
