//! Strings too long to lie in their entry.
//!
//! From [`SHARED_MIN`] bytes on a string lies behind a counted reference, so that a reply can name it instead of copying it.
//! Invariant: what somebody else has a reference to does not change. Who changes such a string gets a copy of it.

use crate::defrag::Mover;
use std::ops::Deref;
use std::sync::Arc;

/// From so many bytes on a string may be shared: copying it costs more than counting.
pub const SHARED_MIN: usize = 16 * 1024;

/// A long string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Long(Repr);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Repr {
    Own(Vec<u8>),
    Shared(Arc<Vec<u8>>),
}

/// What the reference counts of a shared string and its vector take besides the bytes.
const COUNTED: usize = 2 * size_of::<usize>() + size_of::<Vec<u8>>();

impl From<Vec<u8>> for Long {
    fn from(bytes: Vec<u8>) -> Long {
        if bytes.len() < SHARED_MIN { Long(Repr::Own(bytes)) } else { Arc::new(bytes).into() }
    }
}

impl From<Arc<Vec<u8>>> for Long {
    fn from(bytes: Arc<Vec<u8>>) -> Long {
        Long(Repr::Shared(bytes))
    }
}

impl Deref for Long {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Own(bytes) => bytes,
            Repr::Shared(bytes) => bytes,
        }
    }
}

impl Long {
    /// The string to be shared, if it is worth it.
    #[inline]
    pub fn shared(&self) -> Option<&Arc<Vec<u8>>> {
        match &self.0 {
            Repr::Shared(bytes) if bytes.len() >= SHARED_MIN => Some(bytes),
            _ => None,
        }
    }

    /// Memory allocated, in bytes, where the allocator makes `rounded` of a size.
    pub(crate) fn allocated_bytes(&self, rounded: impl Fn(usize) -> usize) -> usize {
        match &self.0 {
            Repr::Own(bytes) => rounded(bytes.capacity()),
            Repr::Shared(bytes) => rounded(COUNTED) + rounded(bytes.capacity()),
        }
    }

    /// The vector, to be changed; if somebody else refers to it, a new one, of which `copy` says what it begins with.
    fn vec_mut(&mut self, copy: impl FnOnce(&[u8]) -> Vec<u8>) -> &mut Vec<u8> {
        match &mut self.0 {
            Repr::Own(bytes) => bytes,
            Repr::Shared(bytes) => {
                if Arc::get_mut(bytes).is_none() {
                    *bytes = Arc::new(copy(bytes));
                }
                // It is new, or nobody else has it: the shard that it lies in is held.
                Arc::make_mut(bytes)
            }
        }
    }

    /// Overwrites the string.
    pub(crate) fn set(&mut self, text: &[u8]) {
        let bytes = self.vec_mut(|_| Vec::with_capacity(text.len()));
        bytes.clear();
        bytes.extend_from_slice(text);
        shrink_if_wasteful(bytes);
        self.share();
    }

    /// The bytes, made at least `len` with zeroes.
    pub(crate) fn grown(&mut self, len: usize) -> &mut [u8] {
        let bytes = self.vec_mut(|bytes| {
            let mut copy = Vec::with_capacity(bytes.len().max(len));
            copy.extend_from_slice(bytes);
            copy
        });
        grow(bytes, len);
        self.share();
        // Nobody else has it by now.
        self.vec_mut(|_| Vec::new())
    }

    /// Has it shared from its size on.
    fn share(&mut self) {
        if let Repr::Own(bytes) = &mut self.0
            && bytes.len() >= SHARED_MIN
        {
            self.0 = Repr::Shared(Arc::new(std::mem::take(bytes)));
        }
    }

    /// Moves the bytes as `mover` wants, unless somebody else refers to them.
    pub(crate) fn relocate(&mut self, mover: &mut Mover<'_>) {
        match &mut self.0 {
            Repr::Own(bytes) => mover.vec(bytes),
            Repr::Shared(bytes) => {
                if let Some(bytes) = Arc::get_mut(bytes) {
                    mover.vec(bytes);
                }
            }
        }
    }

    /// Gives memory back if much would lie idle, and if that is free of cost for others.
    pub(crate) fn shrink(&mut self) {
        match &mut self.0 {
            Repr::Own(bytes) => shrink_if_wasteful(bytes),
            Repr::Shared(bytes) => {
                if let Some(bytes) = Arc::get_mut(bytes) {
                    shrink_if_wasteful(bytes);
                }
            }
        }
    }
}

/// Gives memory back if more than a quarter would lie idle.
fn shrink_if_wasteful(bytes: &mut Vec<u8>) {
    if bytes.capacity() > crate::entry::rounded(bytes.len() + bytes.len() / 4) {
        bytes.shrink_to_fit();
    }
}

/// Makes `bytes` at least `len` long. Room grows by an eighth at least, or doubles up to a mebibyte more: repeated appends
/// are O(1) amortised for each byte, and not half of a huge string lies idle.
fn grow(bytes: &mut Vec<u8>, len: usize) {
    const DOUBLING_MAX: usize = 1 << 20;
    if len > bytes.capacity() {
        let extra = (len / 8).max(len.min(DOUBLING_MAX));
        bytes.reserve_exact(len + extra - bytes.len());
    }
    if len > bytes.len() {
        bytes.resize(len, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(len: usize) -> Long {
        vec![b'a'; len].into()
    }

    #[test]
    fn strings_are_shared_from_their_size_on() {
        assert!(long(SHARED_MIN - 1).shared().is_none() && long(SHARED_MIN).shared().is_some());
        let mut growing = long(SHARED_MIN - 1);
        growing.grown(SHARED_MIN)[0] = b'b';
        assert!(growing.shared().is_some() && growing.starts_with(b"ba") && growing.ends_with(b"a\0"));
        growing.set(b"short");
        assert!(growing.shared().is_none() && *growing == *b"short");
        growing.set(&vec![b'c'; SHARED_MIN]);
        assert!(growing.shared().is_some());
    }

    #[test]
    fn what_somebody_refers_to_does_not_change() {
        let original = long(SHARED_MIN);
        let changes: [fn(&mut Long); 4] = [
            |text| text.set(b"other"),
            |text| text.set(&[b'b'; SHARED_MIN]),
            |text| text.grown(0)[7] = b'b',
            |text| text.grown(SHARED_MIN + 7)[SHARED_MIN] = b'b',
        ];
        for change in changes {
            let mut text = original.clone();
            let mut alone = long(SHARED_MIN);
            let place = alone.as_ptr();
            change(&mut text);
            change(&mut alone);
            assert!(text == alone && text != original && *original == [b'a'; SHARED_MIN]);
            assert!(alone.len() > SHARED_MIN || alone.len() < 7 || alone.as_ptr() == place, "changed in place");
        }
    }

    #[test]
    fn room_grows_ahead_and_is_given_back() {
        let mut text = long(SHARED_MIN);
        text.grown(SHARED_MIN + 1);
        let (place, bytes) = (text.as_ptr(), text.allocated_bytes(|size| size));
        assert_eq!(bytes, COUNTED + 2 * (SHARED_MIN + 1));
        text.grown(SHARED_MIN + 1000);
        assert_eq!(text.as_ptr(), place);
        text.shrink();
        assert_eq!(text.allocated_bytes(|size| size), COUNTED + SHARED_MIN + 1000);
    }
}
