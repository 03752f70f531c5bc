//! What readers see of a hash: the fields that are not due.

use super::{Field, Hash};
use crate::Str;

/// The fields of a hash that are left at some time.
#[derive(Clone, Copy)]
pub struct Live<'a> {
    hash: &'a Hash,
    /// The time; before all times where no field is due, so that nothing needs looking at.
    now_ms: i64,
}

impl<'a> Live<'a> {
    pub(super) fn new(hash: &'a Hash, now_ms: i64) -> Live<'a> {
        let any_due = hash.soonest().is_some_and(|at| at < now_ms);
        Live { hash, now_ms: if any_due { now_ms } else { i64::MIN } }
    }

    /// Whether a field is due: if not, there is no other than those left.
    pub fn any_due(self) -> bool {
        self.now_ms != i64::MIN
    }

    fn is_live(self, expire_at: Option<i64>) -> bool {
        expire_at.is_none_or(|at| at >= self.now_ms)
    }

    /// Number of fields. O(1), or O(log n) where some are due.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> usize {
        let due = if self.any_due() { self.hash.due_count(self.now_ms) } else { 0 };
        self.hash.len() - due
    }

    /// The value of a field and when it expires (Unix ms).
    pub fn find(self, field: &[u8]) -> Option<(Str<'a>, Option<i64>)> {
        self.hash.find(field).filter(|(_, at)| self.is_live(*at))
    }

    /// The value of a field.
    pub fn get(self, field: &[u8]) -> Option<Str<'a>> {
        self.find(field).map(|(value, _)| value)
    }

    /// Whether the field exists.
    pub fn contains(self, field: &[u8]) -> bool {
        self.find(field).is_some()
    }

    /// See [`Hash::iter`].
    pub fn iter(self) -> impl Iterator<Item = (Str<'a>, Str<'a>)> {
        self.iter_with_expiry().map(|(field, value, _)| (field, value))
    }

    /// See [`Hash::iter_with_expiry`].
    pub fn iter_with_expiry(self) -> impl Iterator<Item = Field<'a>> {
        self.hash.iter_with_expiry().filter(move |(_, _, at)| self.is_live(*at))
    }

    /// See [`Hash::random`].
    pub fn random(self, random: u64) -> Option<(Str<'a>, Str<'a>)> {
        /// Draws that may meet fields that are due before the fields are gone through in order.
        const DRAWS: u64 = 50;
        let live = |&(_, _, at): &Field<'a>| self.is_live(at);
        // Multiples of an odd number: each draw is as random as the first.
        let draw = |n: u64| self.hash.random(random.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let drawn = (0..DRAWS).find_map(|n| draw(n).filter(live));
        drawn.or_else(|| self.iter_with_expiry().next()).map(|(field, value, _)| (field, value))
    }

    /// See [`Hash::scan`].
    pub fn scan(self, cursor: u64, count: usize, mut f: impl FnMut(Str<'_>, Str<'_>)) -> u64 {
        self.hash.scan(cursor, count, |(field, value, at)| {
            if self.is_live(at) {
                f(field, value);
            }
        })
    }
}
