//! What makes producers idempotent (XADD with IDMP): which ids of their own they marked their last entries with.
//!
//! A mark counts for a time after its entry was added, of which the entry's id tells, and until its producer has made too
//! many others. One that does not count any more is never seen; it is forgotten when marks are made. So the marks that are
//! seen depend on the time and on the marks made, and on nothing else.

use super::{Stream, StreamId};
use crate::Limits;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a producer marks an entry with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark<'a> {
    /// The producer.
    pub producer: &'a [u8],
    /// Its id for the entry.
    pub id: &'a [u8],
}

/// The producers of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producers {
    seconds: u64,
    max: u64,
    by_name: BTreeMap<Box<[u8]>, Producer>,
    added: u64,
    duplicates: u64,
    /// When all producers were looked through for what does not count any more (Unix ms).
    tidied: i64,
}

/// The marks of one producer, by what they are and by their entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Producer {
    entries: BTreeMap<Arc<[u8]>, StreamId>,
    marks: BTreeMap<StreamId, Arc<[u8]>>,
}

impl Producer {
    fn remove(&mut self, entry: StreamId) {
        if let Some(mark) = self.marks.remove(&entry) {
            self.entries.remove(&mark);
        }
    }

    fn remove_first(&mut self) {
        if let Some((_, mark)) = self.marks.pop_first() {
            self.entries.remove(&mark);
        }
    }
}

impl Producers {
    /// Without marks; they will count for `seconds`, and `max` for each producer.
    pub fn new(seconds: u64, max: u64) -> Producers {
        Producers { seconds, max, by_name: BTreeMap::new(), added: 0, duplicates: 0, tidied: 0 }
    }

    /// For how many seconds a mark counts.
    pub fn seconds(&self) -> u64 {
        self.seconds
    }

    /// How many marks of one producer count.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// How many marks were ever made.
    pub fn added(&self) -> u64 {
        self.added
    }

    /// How often an entry was not added since its mark was there.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Sets the two counters.
    pub fn set_counters(&mut self, added: u64, duplicates: u64) {
        (self.added, self.duplicates) = (added, duplicates);
    }

    /// The first id whose mark counts at `now`.
    fn first_counting(&self, now: i64) -> StreamId {
        let since = now.saturating_sub_unsigned(self.seconds.saturating_mul(1000)).max(-1);
        StreamId::new(since.saturating_add(1) as u64, 0)
    }

    /// The entry with this mark.
    pub fn find(&self, mark: Mark<'_>, now: i64) -> Option<StreamId> {
        let entry = *self.by_name.get(mark.producer)?.entries.get(mark.id)?;
        (entry >= self.first_counting(now)).then_some(entry)
    }

    /// The producers, with their marks that count, in the order of the entries.
    pub fn iter(&self, now: i64) -> impl Iterator<Item = (&[u8], impl Iterator<Item = (StreamId, &[u8])>)> {
        let first = self.first_counting(now);
        let counts = move |producer: &&Producer| producer.marks.range(first..).next().is_some();
        self.by_name.iter().filter(move |(_, producer)| counts(producer)).map(move |(name, producer)| {
            (&**name, producer.marks.range(first..).map(|(entry, mark)| (*entry, &**mark)))
        })
    }

    /// How many producers have marks that count, and how many marks.
    pub fn counts(&self, now: i64) -> (usize, usize) {
        self.iter(now).fold((0, 0), |(producers, marks), (_, more)| (producers + 1, marks + more.count()))
    }

    /// Notes the mark of an entry, as the newest of its producer or in its place. One that was there moves to the entry.
    pub fn insert(&mut self, mark: Mark<'_>, entry: StreamId, now: i64) {
        self.tidy(now);
        let first = self.first_counting(now);
        let producer = self.by_name.entry(mark.producer.into()).or_default();
        if let Some(old) = producer.entries.get(mark.id).copied() {
            producer.remove(old);
        }
        producer.remove(entry);
        let id: Arc<[u8]> = mark.id.into();
        producer.entries.insert(id.clone(), entry);
        producer.marks.insert(entry, id);
        while producer.marks.len() as u64 > self.max || producer.marks.keys().next().is_some_and(|old| *old < first) {
            producer.remove_first();
        }
        self.added += 1;
    }

    /// Forgets producers without a mark that counts, and their marks; once in a while, as this looks at all.
    fn tidy(&mut self, now: i64) {
        const OFTEN_MS: i64 = 1000;
        if now.saturating_sub(self.tidied) < OFTEN_MS {
            return;
        }
        self.tidied = now;
        let first = self.first_counting(now);
        self.by_name.retain(|_, producer| producer.marks.keys().next_back().is_some_and(|last| *last >= first));
    }

    /// Sets for how long marks count and how many. If that is new, all are forgotten.
    fn configure(&mut self, seconds: u64, max: u64) {
        if (self.seconds, self.max) != (seconds, max) {
            (self.seconds, self.max) = (seconds, max);
            self.by_name.clear();
        }
    }

    /// An estimate of the bytes on the heap: B-tree nodes are two thirds full.
    pub(super) fn memory_bytes(&self) -> usize {
        const MARK: usize = 2 * size_of::<(StreamId, Arc<[u8]>)>() * 3 / 2;
        let mut bytes = size_of::<Producers>();
        for (name, producer) in &self.by_name {
            bytes += name.len() + size_of::<(Box<[u8]>, Producer)>();
            bytes += producer.entries.keys().map(|mark| mark.len() + MARK).sum::<usize>();
        }
        bytes
    }
}

impl Stream {
    /// What makes its producers idempotent, if any ever was, or if it was configured.
    pub fn producers(&self) -> Option<&Producers> {
        self.producers.as_deref()
    }

    /// Has these be its producers.
    pub fn set_producers(&mut self, producers: Producers) {
        self.producers = Some(Arc::new(producers));
    }

    /// The same to be changed; if there are none, with the settings of `limits`.
    pub fn producers_mut(&mut self, limits: &Limits) -> &mut Producers {
        let Limits { stream_mark_seconds, stream_marks_max, .. } = *limits;
        let new = || Arc::new(Producers::new(stream_mark_seconds, stream_marks_max));
        Arc::make_mut(self.producers.get_or_insert_with(new))
    }

    /// Sets for how long marks count and how many of each producer. If that is new, all are forgotten.
    pub fn configure_producers(&mut self, seconds: u64, max: u64) {
        let new = || Arc::new(Producers::new(seconds, max));
        Arc::make_mut(self.producers.get_or_insert_with(new)).configure(seconds, max);
    }

    /// Counts an entry that was not added since its mark was there.
    pub fn count_duplicate(&mut self) {
        if let Some(producers) = &mut self.producers {
            Arc::make_mut(producers).duplicates += 1;
        }
    }
}
