//! The set type: integers in a sorted array, or members packed while small, then in a table.
//!
//! The rules by which the form changes are those of Redis 7.2 and later: a set starts with the form that its first member
//! and [`Limits`] allow, goes only from integers to packed to table, and never back. The first expiry time that a member gets
//! makes it a table that can keep one for each member; sets without pay nothing for it.

mod int_set;

use crate::defrag::Mover;
use crate::member::Members;
use crate::packed::Packed;
use crate::str::parse_int;
use crate::timed::TimedTable;
use crate::{Limits, Str};
use int_set::IntSet;

/// A set.
#[derive(Clone)]
pub struct Set {
    form: Form,
}

#[derive(Clone)]
enum Form {
    Ints(IntSet),
    Packed(Packed),
    Table(Box<Members>),
    Timed(Box<TimedTable>),
}

impl Set {
    /// An empty set; allocates nothing.
    pub const fn new() -> Set {
        Set { form: Form::Ints(IntSet::new()) }
    }

    /// A set of these members, packed or a table; `None` if one is there twice. O(n log n).
    pub fn from_packed(members: Packed, limits: &Limits) -> Option<Set> {
        if !members.is_distinct(1) {
            return None;
        }
        let few = members.len() <= limits.set_entries_max && members.is_safe_to_add(0);
        let fits = few && members.iter().all(|member| member.len() <= limits.set_value_bytes_max);
        let mut set = Set { form: Form::Packed(members) };
        if !fits {
            set.table();
        }
        Some(set)
    }

    /// Moves a small set as `mover` wants. Whether there are more members than can be moved at once.
    pub(crate) fn relocate_small(&mut self, mover: &mut Mover<'_>) -> bool {
        match &mut self.form {
            Form::Ints(ints) => ints.relocate(mover),
            Form::Packed(packed) => packed.relocate(mover),
            Form::Table(_) | Form::Timed(_) => return true,
        }
        false
    }

    /// Moves the members of one bucket as `mover` wants; returns the next cursor, 0 at the end.
    pub(crate) fn relocate_some(&mut self, cursor: u64, mover: &mut Mover<'_>) -> u64 {
        match &mut self.form {
            Form::Table(table) => table.relocate_some(cursor, mover),
            Form::Timed(timed) => timed.relocate_some(cursor, mover),
            Form::Ints(_) | Form::Packed(_) => 0,
        }
    }

    /// Number of members. O(1).
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Ints(ints) => ints.len(),
            Form::Packed(packed) => packed.len(),
            Form::Table(table) => table.len(),
            Form::Timed(timed) => timed.table().len(),
        }
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of the form, as `OBJECT ENCODING` shows it.
    pub fn encoding(&self) -> &'static str {
        match &self.form {
            Form::Ints(_) => "intset",
            Form::Packed(_) => "listpack",
            Form::Table(_) | Form::Timed(_) => "hashtable",
        }
    }

    /// Whether `member` is in the set. O(1) in a table, O(log n) among integers, O(bytes) packed.
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.form {
            Form::Ints(ints) => parse_int(member).is_some_and(|n| ints.contains(n)),
            Form::Packed(packed) => packed.find(member, 0).is_some(),
            Form::Table(table) => table.get(member).is_some(),
            Form::Timed(timed) => timed.table().get(member).is_some(),
        }
    }

    /// When a member expires (Unix ms), if it is there and ever does.
    pub fn expiry(&self, member: &[u8]) -> Option<i64> {
        match &self.form {
            Form::Timed(timed) => timed.table().get(member)?.expire_at,
            _ => None,
        }
    }

    /// Has a member, which is there, expire at a Unix time in ms, or live for ever; when it would have expired before.
    pub fn set_expiry(&mut self, member: &[u8], expire_at: Option<i64>) -> Option<i64> {
        if expire_at.is_none() && !matches!(self.form, Form::Timed(_)) || !self.contains(member) {
            return None;
        }
        self.timed().set(member, b"", expire_at).and_then(|(_, at)| at)
    }

    /// When the first member expires (Unix ms), if any ever does. O(log n).
    pub fn soonest(&self) -> Option<i64> {
        if let Form::Timed(timed) = &self.form { timed.soonest() } else { None }
    }

    /// Whether every member is due. O(log n).
    pub fn is_over(&self, now_ms: i64) -> bool {
        if let Form::Timed(timed) = &self.form { timed.is_over(now_ms) } else { self.is_empty() }
    }

    /// The members that are due, the longest due first; up to `max`.
    pub fn due_members(&self, now_ms: i64, max: usize) -> Vec<Vec<u8>> {
        match &self.form {
            Form::Timed(timed) => timed.due_keys(now_ms, max),
            _ => Vec::new(),
        }
    }

    /// The members that expire, and when (Unix ms).
    pub fn times(&self) -> impl Iterator<Item = (&[u8], i64)> {
        let timed = if let Form::Timed(timed) = &self.form { Some(timed) } else { None };
        timed.into_iter().flat_map(|timed| timed.times())
    }

    /// Announces that a command adds `count` members, `first` being the first, even if they are not all different: an
    /// empty set takes the form for that many, and another one becomes a table if they are more than its form may have.
    /// For commands with a list of members; [`Set::insert`] needs no announcement.
    pub fn reserve(&mut self, first: &[u8], count: usize, limits: &Limits) {
        match &self.form {
            Form::Ints(ints)
                if ints.len() == 0 && (parse_int(first).is_none() || count > limits.set_int_entries_max) =>
            {
                self.form = if count <= limits.set_entries_max {
                    Form::Packed(Packed::new())
                } else {
                    Form::Table(Box::new(Members::new()))
                };
            }
            Form::Ints(_) if count > limits.set_int_entries_max => {
                self.table();
            }
            Form::Packed(_) if count > limits.set_entries_max => {
                self.table();
            }
            _ => {}
        }
    }

    /// Adds a member; `false` if it is there already.
    pub fn insert(&mut self, member: &[u8], limits: &Limits) -> bool {
        if let Form::Ints(ints) = &self.form
            && ints.len() == 0
        {
            self.reserve(member, 1, limits);
        }
        let fits = member.len() <= limits.set_value_bytes_max;
        match &mut self.form {
            Form::Ints(ints) => match parse_int(member) {
                Some(n) => {
                    let added = ints.insert(n);
                    if added && ints.len() > limits.set_int_entries_max {
                        self.table();
                    }
                    added
                }
                None => {
                    // Not empty: `reserve` has given an empty set another form for a member that is no integer.
                    let ends = [ints.get(0), ints.get(ints.len() - 1)];
                    let longest = ends.iter().flatten().map(|&n| Str::Int(n).len()).max().unwrap_or(0);
                    if fits && ints.len() < limits.set_entries_max && longest <= limits.set_value_bytes_max {
                        let mut packed = Packed::new();
                        ints.iter().for_each(|n| packed.push_back(Str::Int(n)));
                        packed.push_back(Str::Bytes(member));
                        self.form = Form::Packed(packed);
                        true
                    } else {
                        self.table().insert(member)
                    }
                }
            },
            Form::Packed(packed) => {
                if packed.find(member, 0).is_some() {
                    false
                } else if fits && packed.len() < limits.set_entries_max && packed.is_safe_to_add(member.len()) {
                    packed.push_back(Str::Bytes(member));
                    true
                } else {
                    self.table().insert(member)
                }
            }
            Form::Table(table) => table.insert(member),
            Form::Timed(timed) => timed.table().get(member).is_none() && timed.set(member, b"", None).is_none(),
        }
    }

    /// Removes a member; `false` if it is not there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.form {
            Form::Ints(ints) => parse_int(member).is_some_and(|n| ints.remove(n)),
            Form::Packed(packed) => match packed.find(member, 0) {
                Some(pos) => {
                    packed.remove(pos);
                    true
                }
                None => false,
            },
            Form::Table(table) => table.remove(member).is_some(),
            Form::Timed(timed) => timed.remove(member).is_some(),
        }
    }

    /// All members: ascending among integers, in the order of their coming while packed, in none in a table.
    pub fn iter(&self) -> impl Iterator<Item = Str<'_>> {
        let (ints, packed, table) = match &self.form {
            Form::Ints(ints) => (Some(ints), None, None),
            Form::Packed(packed) => (None, Some(packed), None),
            Form::Table(table) => (None, None, Some(&**table)),
            Form::Timed(timed) => (None, None, Some(timed.table())),
        };
        let ints = ints.into_iter().flat_map(|ints| ints.iter()).map(Str::Int);
        let packed = packed.into_iter().flatten();
        let table = table.into_iter().flat_map(|table| table.iter()).map(|member| Str::Bytes(member.key));
        ints.chain(packed).chain(table)
    }

    /// Takes out of `members` those that are not in the set. Faster than asking for one after the other, in pieces of 20 or so.
    pub fn retain_common(&self, members: &mut Vec<Str<'_>>) {
        match &self.form {
            Form::Table(table) => table.retain_common(members),
            Form::Timed(timed) => timed.table().retain_common(members),
            Form::Ints(_) | Form::Packed(_) => {
                members.retain(|member| member.with_bytes(|member| self.contains(member)));
            }
        }
    }

    /// The member that a random number picks; `None` only if there are none.
    pub fn random(&self, random: u64) -> Option<Str<'_>> {
        let index = random.checked_rem(self.len() as u64)? as usize;
        match &self.form {
            Form::Ints(ints) => ints.get(index).map(Str::Int),
            Form::Packed(packed) => packed.get(index),
            Form::Table(table) => table.random(random).map(|member| Str::Bytes(member.key)),
            Form::Timed(timed) => timed.table().random(random).map(|member| Str::Bytes(member.key)),
        }
    }

    /// Calls `f` with about `count` members from `cursor` on (unless in a table: with all) and returns the next cursor, 0
    /// at the end. Every member that is there from the first call to the last is seen.
    pub fn scan(&self, cursor: u64, count: usize, mut f: impl FnMut(Str<'_>)) -> u64 {
        match &self.form {
            Form::Ints(_) | Form::Packed(_) => {
                self.iter().for_each(f);
                0
            }
            Form::Table(table) => table.scan(cursor, count, |member| f(Str::Bytes(member.key))),
            Form::Timed(timed) => timed.table().scan(cursor, count, |member| f(Str::Bytes(member.key))),
        }
    }

    /// As [`Set::scan`], of members in a table, with when they expire (Unix ms).
    pub(crate) fn scan_times(&self, cursor: u64, mut f: impl FnMut(&[u8], Option<i64>)) -> u64 {
        match &self.form {
            Form::Timed(timed) => timed.table().scan(cursor, 1, |member| f(member.key, member.expire_at)),
            _ => 0,
        }
    }

    /// Heap in use, in bytes. O(1).
    pub fn memory_bytes(&self) -> usize {
        match &self.form {
            Form::Ints(ints) => ints.memory_bytes(),
            Form::Packed(packed) => packed.memory_bytes(),
            Form::Table(table) => table.memory_bytes(),
            Form::Timed(timed) => timed.memory_bytes(),
        }
    }

    /// Frees about `count` members; `true` once none is left. For giving back a big set in pieces.
    pub fn free_some(&mut self, count: usize) -> bool {
        match &mut self.form {
            Form::Table(table) => table.free_some(count),
            Form::Timed(timed) => timed.free_some(count),
            form => {
                *form = Form::Ints(IntSet::new());
                true
            }
        }
    }

    /// The table that keeps expiry times, which any other form is changed into.
    fn timed(&mut self) -> &mut TimedTable {
        if !matches!(self.form, Form::Timed(_)) {
            let table = std::mem::replace(self.table(), Members::new());
            self.form = Form::Timed(Box::new(TimedTable::new(table)));
        }
        match &mut self.form {
            Form::Timed(timed) => timed,
            _ => unreachable!("the set was just changed"),
        }
    }

    /// The table, which any other form but that with expiry times is changed into.
    fn table(&mut self) -> &mut Members {
        if !matches!(self.form, Form::Table(_)) {
            let mut table = Box::new(Members::new());
            for member in self.iter() {
                member.with_bytes(|member| table.insert(member));
            }
            self.form = Form::Table(table);
        }
        match &mut self.form {
            Form::Table(table) => table,
            _ => unreachable!("the set was just changed into a table"),
        }
    }
}

impl Default for Set {
    fn default() -> Set {
        Set::new()
    }
}

#[cfg(test)]
mod tests;
