//! Trimming: the oldest entries go, and what consumer groups note about them, if that is asked for.

use super::{Stream, StreamId};
use std::sync::Arc;

/// What trimming keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The newest so many entries.
    MaxLen(u64),
    /// The entries with this id or a higher one.
    MinId(StreamId),
}

/// What becomes of what consumer groups note about an entry that goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum References {
    /// It stays pending (KEEPREF).
    #[default]
    Keep,
    /// It is no longer pending (DELREF).
    Delete,
    /// Only entries go that every group has read and acknowledged (ACKED).
    Acknowledged,
}

/// How to trim a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// What stays.
    pub keep: Keep,
    /// Removes only whole nodes (`~`).
    pub approximate: bool,
    /// Entries to remove at most (LIMIT), whole nodes only; `None` for no limit.
    pub limit: Option<u64>,
    /// What groups note about the entries.
    pub references: References,
}

/// What trimming did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// How many entries went.
    pub count: u64,
    /// Which, if older ones stayed between them: these count as deleted, not as trimmed.
    pub deleted: Vec<StreamId>,
    /// What is no longer pending in the groups of these names.
    pub released: Vec<(Box<[u8]>, Vec<StreamId>)>,
}

impl Stream {
    /// Removes the oldest entries. O(n) in the number removed; with [`References::Acknowledged`] in the number looked at.
    pub fn trim(&mut self, trim: &Trim) -> Trimmed {
        match trim.references {
            References::Keep => Trimmed { count: self.trim_front(trim, &mut |_| ()), ..Trimmed::default() },
            References::Delete => {
                let mut gone = Vec::new();
                let wanted = self.groups.values().any(|group| group.pending_len() != 0);
                let count = self.trim_front(trim, &mut |id| {
                    if wanted {
                        gone.push(id);
                    }
                });
                Trimmed { count, deleted: Vec::new(), released: self.release(&gone) }
            }
            References::Acknowledged => self.trim_acknowledged(trim),
        }
    }

    /// Removes the oldest entries and shows their ids; how many.
    fn trim_front(&mut self, trim: &Trim, gone: &mut dyn FnMut(StreamId)) -> u64 {
        let mut removed = 0;
        while let Some((base, first)) = self.nodes.first_mut() {
            let entries = first.len();
            let excess = match trim.keep {
                Keep::MaxLen(max) => self.len.saturating_sub(max).min(entries),
                Keep::MinId(min) => first.count_below(base, min),
            };
            if excess == 0 || trim.limit.is_some_and(|limit| removed + entries > limit) {
                break;
            }
            if excess < entries && trim.approximate {
                break;
            }
            if trim.references == References::Delete {
                first.iter(base, false).take(excess as usize).for_each(|entry| gone(entry.id));
            }
            self.len -= excess;
            removed += excess;
            if excess < entries {
                Arc::make_mut(first).remove_first(excess);
                break;
            }
            self.nodes.remove(&base);
        }
        removed
    }

    /// Removes those of the oldest entries that no group needs any more.
    fn trim_acknowledged(&mut self, trim: &Trim) -> Trimmed {
        let mut doomed: Vec<StreamId> = Vec::new();
        for (base, node) in self.nodes.iter() {
            let excess = match trim.keep {
                Keep::MaxLen(max) => (self.len - doomed.len() as u64).saturating_sub(max),
                Keep::MinId(min) => node.count_below(*base, min),
            };
            let over_limit = trim.limit.is_some_and(|limit| doomed.len() as u64 + node.len() > limit);
            if excess == 0 || over_limit || trim.approximate && excess < node.len() {
                break;
            }
            let below = |id: StreamId| {
                matches!(trim.keep, Keep::MaxLen(_)) || matches!(trim.keep, Keep::MinId(min) if id < min)
            };
            let ids = node.iter(*base, false).map(|entry| entry.id).take_while(|id| below(*id));
            doomed.extend(ids.filter(|id| !self.is_referenced(*id)).take(excess as usize));
        }
        let max_deleted_id = self.max_deleted_id;
        doomed.iter().for_each(|id| {
            self.delete(*id);
        });
        let count = doomed.len() as u64;
        if doomed.last().is_none_or(|last| self.is_empty() || *last < self.first_id()) {
            // Nothing older stayed.
            self.max_deleted_id = max_deleted_id;
            doomed.clear();
        }
        Trimmed { count, deleted: doomed, released: Vec::new() }
    }

    /// Acknowledges entries in all groups. What was pending, by the name of the group.
    pub fn release(&mut self, ids: &[StreamId]) -> Vec<(Box<[u8]>, Vec<StreamId>)> {
        let mut released = Vec::new();
        for (name, group) in &mut self.groups {
            if ids.iter().all(|id| group.pending(*id).is_none()) {
                continue;
            }
            let group = Arc::make_mut(group);
            released.push((name.clone(), ids.iter().copied().filter(|id| group.ack(*id)).collect()));
        }
        released
    }
}
