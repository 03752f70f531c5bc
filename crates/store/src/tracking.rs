//! Which sessions read which keys, so that their copies can be invalidated (CLIENT TRACKING).
//!
//! Part of a shard and guarded by its lock: a read registers while it holds the shard, and whoever changes the key takes
//! the registrations while it holds the shard. So no session has read a value whose change does not reach it. Keys are
//! registered by name, whatever their database, because invalidations name no database.

use hashbrown::HashMap;
use smallvec::SmallVec;

/// A session that read a key, as the engine names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reader {
    /// The worker on which it lives.
    pub worker: u32,
    /// Client id.
    pub id: u64,
}

/// The readers of one key, ascending and without repetition.
pub type ReaderList = SmallVec<[Reader; 1]>;

/// A key whose copies are out of date.
#[derive(Clone, Debug)]
pub struct Invalid {
    /// The key.
    pub key: Box<[u8]>,
    /// The client whose command changed it; 0 for none: it expired, or went to make room.
    pub actor: u64,
    /// Who read it.
    pub readers: ReaderList,
}

type ByKey = HashMap<Vec<u8>, ReaderList>;

/// The readers of one shard's keys. A null pointer until somebody tracks.
#[derive(Default)]
pub struct Readers {
    by_key: Option<Box<ByKey>>,
}

impl Readers {
    /// Whether no key was read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_none()
    }

    /// Registers a reader. Whether the key is new here, and whether its reader is.
    pub fn add(&mut self, key: &[u8], reader: Reader) -> (bool, bool) {
        let list = self.by_key.get_or_insert_default().entry_ref(key).or_default();
        let new_key = list.is_empty();
        let place = list.binary_search(&reader);
        if let Err(place) = place {
            list.insert(place, reader);
        }
        (new_key, place.is_err())
    }

    /// Takes the readers of a key out.
    pub fn take(&mut self, key: &[u8]) -> Option<ReaderList> {
        let by_key = self.by_key.as_mut()?;
        let list = by_key.remove(key);
        if by_key.is_empty() {
            self.by_key = None;
        }
        list
    }

    /// Any key that was read.
    pub fn any_key(&self) -> Option<&[u8]> {
        self.by_key.as_ref()?.keys().next().map(Vec::as_slice)
    }

    /// Forgets all keys.
    pub fn clear(&mut self) {
        self.by_key = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_registered_once_and_taken_once() {
        let reader = |id| Reader { worker: 1, id };
        let mut readers = Readers::default();
        assert!(readers.is_empty() && readers.take(b"k").is_none() && readers.any_key().is_none());
        assert_eq!(readers.add(b"k", reader(9)), (true, true));
        assert_eq!(readers.add(b"k", reader(4)), (false, true));
        assert_eq!(readers.add(b"k", reader(9)), (false, false));
        assert_eq!(readers.add(b"l", reader(9)), (true, true));
        let ids = |list: Option<ReaderList>| list.map(|list| list.iter().map(|reader| reader.id).collect::<Vec<_>>());
        assert_eq!(ids(readers.take(b"k")), Some(vec![4, 9]));
        assert_eq!(ids(readers.take(b"k")), None);
        assert_eq!(readers.any_key(), Some(&b"l"[..]));
        assert!(!readers.is_empty());
        readers.clear();
        assert!(readers.is_empty());
    }
}
