//! Eviction: which keys may go when memory is short, how much each is worth keeping, and their removal.

use super::{EventClasses, Key, Removal, Txn, View};
use crate::entry::EntryRef;
use crate::shard::Db;

/// Which keys go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Those not used (or, if so counted, not modified) for the longest time.
    LeastRecent,
    /// Those used least often.
    LeastFrequent,
    /// Those that expire soonest.
    Soonest,
    /// Any.
    Random,
}

/// Which keys may go, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The order.
    pub order: Order,
    /// Whether only keys with an expiry time may go.
    pub volatile_only: bool,
    /// How many keys to look at in one go.
    pub samples: usize,
}

/// With at least one volatile key in so many, they are found by looking at any keys.
const DENSE: usize = 8;

impl View<'_> {
    /// How gladly a key is let go: the higher the sooner. `None` if it may not go.
    fn dispensability(&self, entry: EntryRef, rule: Rule) -> Option<u64> {
        let at = entry.expire_at();
        if rule.volatile_only && at.is_none() {
            return None;
        }
        let clock = self.cx.access_clock(self.now_ms);
        Some(match rule.order {
            Order::LeastRecent => clock.idle_seconds(entry.access()).into(),
            Order::LeastFrequent => {
                let unused = 255 - clock.frequency(entry.access());
                // Among those used as often, the one not used for longer.
                u64::from(unused) << 16 | u64::from(clock.idle_minutes(entry.access()))
            }
            Order::Soonest => u64::MAX - at.unwrap_or(i64::MAX) as u64,
            Order::Random => self.random(),
        })
    }

    /// How many keys of a held shard may go.
    pub fn candidates(&self, shard: usize, rule: Rule) -> usize {
        let (keys, volatile) = self.counts(shard);
        if rule.volatile_only { volatile } else { keys }
    }

    /// Keys, and volatile keys, of a held shard in all databases.
    fn counts(&self, shard: usize) -> (usize, usize) {
        let data = self.guard.shard(shard);
        let counts =
            |(keys, volatile), (_, part): (u32, &Db)| (keys + part.table.len(), volatile + part.volatile as usize);
        data.dbs().fold((0, 0), counts)
    }

    /// How gladly a key is let go now; `None` if it is gone or may not go.
    pub fn dispensable(&self, key: Key, rule: Rule) -> Option<u64> {
        let entry = self.shard(key).db(self.db)?.table.get(key.hash, key.bytes)?;
        self.dispensability(entry, rule)
    }
}

impl Txn<'_> {
    /// Looks at some keys of a held shard, over all databases, and calls `f` with each that may go: its database, how gladly
    /// it is let go, and its entry.
    pub fn sample(&mut self, shard: usize, rule: Rule, mut f: impl FnMut(u32, u64, EntryRef<'_>)) {
        let (keys, volatile) = self.view.counts(shard);
        let data = self.view.guard.shard(shard);
        if rule.volatile_only && (rule.order == Order::Soonest || volatile * DENSE < keys) {
            return self.sample_index(shard, rule, f);
        }
        let looks = if rule.volatile_only { rule.samples * DENSE } else { rule.samples };
        for (db, part) in data.dbs() {
            let (mut looked, mut found) = (0, 0);
            let mut look = |entry: EntryRef<'_>| {
                looked += 1;
                if let Some(worth) = self.view.dispensability(entry, rule) {
                    f(db, worth, entry);
                    found += 1;
                }
                looked >= looks || found >= rule.samples
            };
            if rule.order != Order::Random {
                part.table.sample(self.view.random(), look);
                continue;
            }
            // Of neighbours those with the fewest go first: keys that are never asked for would stay behind in full buckets.
            while part.table.random(self.view.random()).is_some_and(|entry| !look(entry)) {}
        }
    }

    /// The same by the index of expiry times: of those that expire soonest, or at random.
    fn sample_index(&mut self, shard: usize, rule: Rule, mut f: impl FnMut(u32, u64, EntryRef<'_>)) {
        let (now, random) = (self.view.now_ms, self.view.random());
        let index = &mut self.view.guard.shard_mut(shard).expiry;
        let mut registered = Vec::with_capacity(rule.samples);
        if rule.order == Order::Soonest {
            index.take_due(i64::MAX, rule.samples, &mut registered);
        } else {
            index.sample(random, rule.samples, &mut registered);
        }
        let mut again = Vec::new();
        for (db, hash) in registered {
            let Some(part) = self.view.guard.shard(shard).db(db) else { continue };
            // A registration is a hint: the key may be gone, or live for ever by now.
            let found = part.table.find_by_hash(hash, |entry| entry.next_due().is_some() && entry.is_indexed());
            let Some(entry) = found else { continue };
            if let Some(worth) = self.view.dispensability(entry, rule) {
                f(db, worth, entry);
            }
            if let Some(at) = entry.next_due() {
                again.push((db, hash, at));
            }
        }
        if rule.order == Order::Soonest {
            let index = &mut self.view.guard.shard_mut(shard).expiry;
            again.into_iter().for_each(|(db, hash, at)| index.add(now, hash, db, at));
        }
    }

    /// Removes a key to make room. Whether it was there.
    pub fn evict(&mut self, key: Key) -> bool {
        let Some(entry) = self.remove(key) else { return false };
        self.discard(key, entry);
        self.shard_mut(key).drop_unused_expiry();
        self.emit_removal(key, Removal::Evicted);
        let actor = std::mem::take(&mut self.view.cx.actor);
        self.touched(key);
        self.view.cx.actor = actor;
        self.event(EventClasses::EVICTED, "evicted", key.bytes);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{Keyspace, ShardSet, shard_of};
    use crate::txn::{Context, Env, Ttl};
    use std::collections::HashMap;

    #[test]
    fn every_key_has_the_same_chance_to_go_at_random() {
        // A number of keys for which some buckets of the table are split and others not.
        const KEYS: usize = 24;
        const ROUNDS: usize = 2000;
        let keyspace = Keyspace::new(1);
        let guard = keyspace.lock(ShardSet::One(0)).unwrap();
        let mut txn = Txn::new(guard, 0, 0, Context::new(Env::default(), 1));
        let names = (0..).map(|number| format!("key:{number}").into_bytes());
        for name in names.filter(|name| shard_of(crate::hasher::hash(name)) == 0).take(KEYS) {
            txn.set_string(Key::new(&name), b"value", Ttl::Clear);
        }
        let rule = Rule { order: Order::Random, volatile_only: false, samples: 1 };
        let mut seen: HashMap<Vec<u8>, usize> = HashMap::new();
        for _ in 0..KEYS * ROUNDS {
            txn.sample(0, rule, |_, _, entry| *seen.entry(entry.key().to_vec()).or_default() += 1);
        }
        assert_eq!(seen.values().sum::<usize>(), KEYS * ROUNDS);
        assert_eq!(seen.len(), KEYS);
        // Six times the standard deviation.
        let most = 6 * ROUNDS.isqrt();
        assert!(seen.values().all(|times| times.abs_diff(ROUNDS) < most), "{seen:?}");
    }
}
