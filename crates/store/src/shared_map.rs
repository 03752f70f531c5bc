//! An ordered map whose clone shares with the original all that neither of them changes: what streams consist of, for
//! snapshots and transactions that may be undone keep one as it was.
//!
//! Sorted blocks of pairs behind reference counts. A clone copies a pointer for each block (some microseconds for 100,000
//! pairs); a change copies the block that it meets, if that is shared.
//!
//! Invariants: no block is empty or has more than [`BLOCK`] pairs; keys ascend within a block and from one to the next.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::slice;
use std::sync::Arc;

/// Pairs of a block, at most. Few in tests.
const BLOCK: usize = if cfg!(test) { 6 } else { 128 };

/// The map.
#[derive(Clone)]
pub struct SharedMap<K, V> {
    blocks: Vec<Arc<Vec<(K, V)>>>,
    len: usize,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> SharedMap<K, V> {
        SharedMap { blocks: Vec::new(), len: 0 }
    }
}

impl<K: Ord + Copy, V: Clone> SharedMap<K, V> {
    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The block in which a key is, if it is there, and otherwise belongs; perhaps the one after the last.
    fn block_of(&self, key: &K) -> usize {
        self.blocks.partition_point(|block| block.last().is_some_and(|(last, _)| last < key))
    }

    /// Where a key is: its block and its place in that.
    fn find(&self, key: &K) -> Option<(usize, usize)> {
        let at = self.block_of(key);
        let place = self.blocks.get(at)?.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
        Some((at, place))
    }

    /// The value of a key. O(log n).
    pub fn get(&self, key: &K) -> Option<&V> {
        let (at, place) = self.find(key)?;
        self.blocks.get(at)?.get(place).map(|(_, value)| value)
    }

    /// Whether a key is there.
    pub fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_some()
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (at, place) = self.find(key)?;
        Arc::make_mut(self.blocks.get_mut(at)?).get_mut(place).map(|(_, value)| value)
    }

    /// Puts a pair in; the value that the key had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let at = self.block_of(&key).min(self.blocks.len().saturating_sub(1));
        let last = at + 1 >= self.blocks.len();
        let Some(block) = self.blocks.get_mut(at) else {
            self.blocks.push(Arc::new(vec![(key, value)]));
            self.len = 1;
            return None;
        };
        let place = match block.binary_search_by(|(other, _)| other.cmp(&key)) {
            Ok(place) => {
                let (_, old) = Arc::make_mut(block).get_mut(place)?;
                return Some(std::mem::replace(old, value));
            }
            Err(place) => place,
        };
        self.len += 1;
        if block.len() < BLOCK {
            Arc::make_mut(block).insert(place, (key, value));
        } else if last && place == BLOCK {
            // Who appends fills blocks to the brim.
            self.blocks.push(Arc::new(vec![(key, value)]));
        } else {
            let first = Arc::make_mut(block);
            let mut second = first.split_off(BLOCK / 2);
            match place.checked_sub(BLOCK / 2) {
                Some(place) => second.insert(place, (key, value)),
                None => first.insert(place, (key, value)),
            }
            self.blocks.insert(at + 1, Arc::new(second));
        }
        None
    }

    /// Takes a pair out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (at, place) = self.find(key)?;
        let block = Arc::make_mut(self.blocks.get_mut(at)?);
        let (_, value) = block.remove(place);
        let left = block.len();
        self.len -= 1;
        if left == 0 {
            self.blocks.remove(at);
        } else if let Some(next) = self.blocks.get(at + 1)
            && left + next.len() <= BLOCK / 2
        {
            let mut next = self.blocks.remove(at + 1);
            Arc::make_mut(self.blocks.get_mut(at)?).append(Arc::make_mut(&mut next));
        }
        Some(value)
    }

    /// The last pair.
    pub fn last(&self) -> Option<(&K, &V)> {
        self.blocks.last()?.last().map(|(key, value)| (key, value))
    }

    /// The last pair, its value to be changed.
    pub fn last_mut(&mut self) -> Option<(K, &mut V)> {
        Arc::make_mut(self.blocks.last_mut()?).last_mut().map(|(key, value)| (*key, value))
    }

    /// The first pair, its value to be changed.
    pub fn first_mut(&mut self) -> Option<(K, &mut V)> {
        Arc::make_mut(self.blocks.first_mut()?).first_mut().map(|(key, value)| (*key, value))
    }

    /// As [`SharedMap::floor`], its value to be changed.
    pub fn floor_mut(&mut self, key: &K) -> Option<(K, &mut V)> {
        let (key, _) = self.floor(key)?;
        let key = *key;
        Some((key, self.get_mut(&key)?))
    }

    /// The pair with the highest key that is not above `key`.
    pub fn floor(&self, key: &K) -> Option<(&K, &V)> {
        self.range(..=*key).next_back()
    }

    /// The pairs in a range of keys, in order. O(log n) to begin with.
    pub fn range(&self, range: impl RangeBounds<K>) -> Range<'_, K, V> {
        // The first place whose key does not lie before the bound.
        let place = |bound: Bound<&K>, end: bool| match bound {
            Bound::Unbounded if end => (self.blocks.len(), 0),
            Bound::Unbounded => (0, 0),
            Bound::Included(key) | Bound::Excluded(key) => {
                let before = |other: &K| other < key || other == key && matches!(bound, Bound::Included(_)) == end;
                let at = self.blocks.partition_point(|block| block.last().is_some_and(|(last, _)| before(last)));
                let place = self.blocks.get(at).map_or(0, |block| block.partition_point(|(other, _)| before(other)));
                (at, place)
            }
        };
        let (from, to) = (place(range.start_bound(), false), place(range.end_bound(), true));
        let part = |at: usize, range: (usize, usize)| {
            let block = self.blocks.get(at).map_or(&[][..], |block| block);
            block.get(range.0..range.1.min(block.len())).unwrap_or_default().iter()
        };
        if from >= to {
            return Range::default();
        }
        if from.0 == to.0 {
            return Range { first: part(from.0, (from.1, to.1)), ..Range::default() };
        }
        let between = self.blocks.get(from.0 + 1..to.0).unwrap_or_default();
        Range { first: part(from.0, (from.1, usize::MAX)), between: between.iter(), last: part(to.0, (0, to.1)) }
    }

    /// All pairs, in order.
    pub fn iter(&self) -> Range<'_, K, V> {
        self.range(..)
    }
}

impl<K: Ord + Copy, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> SharedMap<K, V> {
        let mut map = SharedMap::default();
        pairs.into_iter().for_each(|(key, value)| _ = map.insert(key, value));
        map
    }
}

impl<K: Ord + Copy, V: Clone + PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &SharedMap<K, V>) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Ord + Copy, V: Clone + Eq> Eq for SharedMap<K, V> {}

impl<K: Ord + Copy + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Pairs with keys between two bounds.
#[derive(Clone)]
pub struct Range<'a, K, V> {
    first: slice::Iter<'a, (K, V)>,
    between: slice::Iter<'a, Arc<Vec<(K, V)>>>,
    last: slice::Iter<'a, (K, V)>,
}

impl<K, V> Default for Range<'_, K, V> {
    fn default() -> Self {
        Range { first: [].iter(), between: [].iter(), last: [].iter() }
    }
}

impl<'a, K, V> Iterator for Range<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<(&'a K, &'a V)> {
        loop {
            if let Some((key, value)) = self.first.next() {
                return Some((key, value));
            }
            match self.between.next() {
                Some(block) => self.first = block.iter(),
                None => return self.last.next().map(|(key, value)| (key, value)),
            }
        }
    }

    /// Exact. O(n / [`BLOCK`]).
    fn size_hint(&self) -> (usize, Option<usize>) {
        let between: usize = self.between.clone().map(|block| block.len()).sum();
        let len = self.first.len() + between + self.last.len();
        (len, Some(len))
    }
}

impl<K, V> ExactSizeIterator for Range<'_, K, V> {}

impl<'a, K, V> DoubleEndedIterator for Range<'a, K, V> {
    fn next_back(&mut self) -> Option<(&'a K, &'a V)> {
        loop {
            if let Some((key, value)) = self.last.next_back() {
                return Some((key, value));
            }
            match self.between.next_back() {
                Some(block) => self.last = block.iter(),
                None => return self.first.next_back().map(|(key, value)| (key, value)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cases;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn check(map: &SharedMap<u8, u16>, model: &BTreeMap<u8, u16>) {
        assert!(map.blocks.iter().all(|block| (1..=BLOCK).contains(&block.len())));
        assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
        assert!(map.iter().eq(model.iter()));
        assert_eq!(map.iter().len(), model.len());
        assert!(map.iter().rev().eq(model.iter().rev()));
        assert_eq!(map.last(), model.last_key_value());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..cases(300) })]

        #[test]
        fn behaves_as_a_map(ops in prop::collection::vec((0..7u8, any::<u8>(), any::<u8>()), 0..300)) {
            let (mut map, mut model) = (SharedMap::default(), BTreeMap::new());
            let mut kept: Option<(SharedMap<u8, u16>, BTreeMap<u8, u16>)> = None;
            for (n, (op, a, b)) in ops.into_iter().enumerate() {
                let n = n as u16;
                match op {
                    0 | 1 => prop_assert_eq!(map.insert(a, n), model.insert(a, n)),
                    2 => {
                        // Appending, as most users do.
                        let key = model.last_key_value().map_or(0, |(last, _)| *last).saturating_add(a % 3);
                        prop_assert_eq!(map.insert(key, n), model.insert(key, n));
                    }
                    3 => prop_assert_eq!(map.remove(&a), model.remove(&a)),
                    4 => {
                        let first = model.first_key_value().map_or(0, |(first, _)| *first);
                        prop_assert_eq!(map.remove(&first), model.remove(&first));
                    }
                    5 => {
                        if let Some(value) = map.get_mut(&a) {
                            *value = n;
                        }
                        model.entry(a).and_modify(|value| *value = n);
                        prop_assert_eq!(map.last_mut().map(|(key, _)| key), model.last_key_value().map(|(key, _)| *key));
                    }
                    _ => {
                        // What a clone holds stays as it is.
                        if let Some((map, model)) = kept.replace((map.clone(), model.clone())) {
                            check(&map, &model);
                        }
                    }
                }
                check(&map, &model);
                prop_assert_eq!(map.get(&b), model.get(&b));
                prop_assert_eq!(map.contains_key(&b), model.contains_key(&b));
                prop_assert_eq!(map.floor(&b), model.range(..=b).next_back());
                let (low, high) = (a.min(b), a.max(b));
                prop_assert!(map.range(low..=high).eq(model.range(low..=high)));
                prop_assert!(map.range(low..high).rev().eq(model.range(low..high).rev()));
                prop_assert!(map.range(a..).eq(model.range(a..)));
                let above = (Bound::Excluded(a), Bound::Unbounded);
                prop_assert!(map.range(above).eq(model.range(above)));
                prop_assert!(map.range(high..low).next().is_none());
            }
        }
    }
}
