//! The arguments of one command, borrowed from where they were read.

use crate::error::{Error, Result};
use kelda_resp::number;
use kelda_store::hasher;
use kelda_store::txn::Key;
use std::ops::Index;

/// A command's words; the first is its name (of a subcommand: the container's name, then the subcommand's).
#[derive(Clone, Copy)]
pub struct Args<'a> {
    words: &'a [&'a [u8]],
    /// A word and its hash, if one was hashed before.
    hashed: (usize, u64),
}

impl<'a> Args<'a> {
    /// Arguments over these words.
    pub fn new(words: &'a [&'a [u8]]) -> Args<'a> {
        Args { words, hashed: (usize::MAX, 0) }
    }

    /// Arguments of which the word at `index` was hashed already: `hash` is what [`Key::new`] finds.
    #[inline]
    pub fn with_hash(words: &'a [&'a [u8]], index: usize, hash: u64) -> Args<'a> {
        Args { words, hashed: (index, hash) }
    }

    /// The hash of the word at `index`.
    ///
    /// # Panics
    /// Like indexing.
    #[inline]
    pub fn hash(&self, index: usize) -> u64 {
        if self.hashed.0 == index { self.hashed.1 } else { hasher::hash(self.words[index]) }
    }

    /// Number of words, the command's name included.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// All words.
    pub fn words(&self) -> &'a [&'a [u8]] {
        self.words
    }

    /// The word at `index`, if it is there.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.words.get(index).copied()
    }

    /// The words from `index` on; none if there are fewer.
    pub fn from(&self, index: usize) -> &'a [&'a [u8]] {
        self.words.get(index..).unwrap_or_default()
    }

    /// The key at `index`.
    ///
    /// # Panics
    /// Like indexing: the arity check guarantees the word.
    #[inline]
    pub fn key(&self, index: usize) -> Key<'a> {
        Key { bytes: self.words[index], hash: self.hash(index) }
    }

    /// Whether the word at `index` is this option, in any case.
    pub fn is(&self, index: usize, option: &str) -> bool {
        self.get(index).is_some_and(|word| word.eq_ignore_ascii_case(option.as_bytes()))
    }

    /// The word as an integer, or Redis's usual error.
    pub fn int(&self, index: usize) -> Result<i64> {
        self.get(index).and_then(number::parse_i64).ok_or(Error::NotInteger)
    }

    /// The word as a number, or Redis's usual error.
    pub fn float(&self, index: usize) -> Result<f64> {
        self.get(index).and_then(number::parse_f64).ok_or(Error::NotFloat)
    }
}

impl<'a> Index<usize> for Args<'a> {
    type Output = [u8];

    #[inline]
    fn index(&self, index: usize) -> &[u8] {
        self.words[index]
    }
}
