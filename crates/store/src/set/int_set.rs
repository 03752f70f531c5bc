//! A set of integers: one sorted array of the narrowest of three widths that holds them all.

use crate::defrag::Mover;
use crate::packed::Block;

/// Sorted integers of 2, 4 or 8 bytes in one block, whose tag is the width. A set that has become wide stays so.
#[derive(Clone)]
pub(super) struct IntSet {
    block: Block,
}

fn width_of(n: i64) -> usize {
    if i16::try_from(n).is_ok() {
        2
    } else if i32::try_from(n).is_ok() {
        4
    } else {
        8
    }
}

impl IntSet {
    pub const fn new() -> IntSet {
        IntSet { block: Block::new() }
    }

    /// Moves the array as `mover` wants.
    pub fn relocate(&mut self, mover: &mut Mover<'_>) {
        self.block.relocate(mover);
    }

    /// Bytes of each integer; an empty set has the narrowest.
    fn width(&self) -> usize {
        self.block.tag().max(2) as usize
    }

    pub fn len(&self) -> usize {
        self.block.len() / self.width()
    }

    pub fn get(&self, index: usize) -> Option<i64> {
        (index < self.len()).then(|| self.at(index))
    }

    fn at(&self, index: usize) -> i64 {
        read(self.block.bytes(), self.width(), index)
    }

    /// The index of `n`, or the one where it belongs. O(log n).
    fn search(&self, n: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.at(middle).cmp(&n) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    pub fn contains(&self, n: i64) -> bool {
        self.search(n).is_ok()
    }

    /// Adds `n`; `false` if it is there already. O(n).
    pub fn insert(&mut self, n: i64) -> bool {
        let Err(index) = self.search(n) else {
            return false;
        };
        let width = self.width().max(width_of(n));
        if width > self.width() {
            let wide: Vec<u8> = self.iter().flat_map(|n| n.to_le_bytes().into_iter().take(width)).collect();
            self.block.splice(0, self.block.len(), &[&wide], width as u32);
        }
        // An empty block forgets its tag: this width, not that of the block, is the one to go on with.
        self.block.splice(index * width, 0, &[&n.to_le_bytes()[..width]], width as u32);
        true
    }

    /// Removes `n`; `false` if it is not there. O(n).
    pub fn remove(&mut self, n: i64) -> bool {
        let Ok(index) = self.search(n) else {
            return false;
        };
        let width = self.width();
        self.block.splice(index * width, width, &[], width as u32);
        true
    }

    /// All integers, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = i64> {
        (0..self.len()).map(|index| self.at(index))
    }

    pub fn memory_bytes(&self) -> usize {
        self.block.memory_bytes()
    }
}

/// The integer with this index in an array of some width.
fn read(bytes: &[u8], width: usize, index: usize) -> i64 {
    let at = &bytes[index * width..];
    match width {
        2 => i64::from(i16::from_le_bytes([at[0], at[1]])),
        4 => i64::from(i32::from_le_bytes([at[0], at[1], at[2], at[3]])),
        _ => i64::from_le_bytes([at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7]]),
    }
}
