//! Publish/subscribe across threads.
//!
//! The shared register knows how many subscribers each worker has for a channel or pattern; each worker knows which of
//! its sessions they are. PUBLISH counts and posts one message to each worker concerned while it holds the channel's
//! lock, so all subscribers of a channel see its messages in one order.

use crate::command::Reply;
use crate::durability::Lsn;
use crate::engine::Engine;
use crate::mailbox::{Audience, Message};
use crate::worker::{Slot, Worker};
use hashbrown::HashMap;
use kelda_resp::{Protocol, Writer, glob_match};
use kelda_store::hasher;
use kelda_store::sync::{AtomicUsize, Mutex, MutexGuard, Ordering::Relaxed};
use kelda_store::txn::{Event, EventClasses};
use smallvec::SmallVec;
use std::sync::{Arc, PoisonError};

/// The three kinds of subscription; the index into counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// SUBSCRIBE.
    Channel = 0,
    /// PSUBSCRIBE.
    Pattern = 1,
    /// SSUBSCRIBE.
    Shard = 2,
}

impl Subscription {
    /// The words of the confirmations.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Subscription::Channel => ("subscribe", "unsubscribe"),
            Subscription::Pattern => ("psubscribe", "punsubscribe"),
            Subscription::Shard => ("ssubscribe", "sunsubscribe"),
        }
    }
}

/// Subscribers for one channel or pattern: how many each worker has.
type PerWorker = SmallVec<[(u32, u32); 4]>;

/// Subscribers by channel or pattern.
type Names = HashMap<Vec<u8>, PerWorker>;

/// Locks for channels: enough that unrelated channels seldom meet.
const STRIPES: usize = 64;

/// The shared register.
pub struct PubSub {
    stripes: [[Mutex<Names>; STRIPES]; 2],
    patterns: Mutex<Names>,
    /// Patterns in use; lets PUBLISH pass the register by.
    pattern_count: AtomicUsize,
}

impl Default for PubSub {
    fn default() -> PubSub {
        let stripes = || std::array::from_fn(|_| Mutex::default());
        PubSub { stripes: [stripes(), stripes()], patterns: Mutex::default(), pattern_count: AtomicUsize::new(0) }
    }
}

/// The subscriptions by name that a message is for.
fn direct(audience: Audience) -> Subscription {
    match audience {
        Audience::Channel => Subscription::Channel,
        Audience::Shard => Subscription::Shard,
    }
}

type Register<'a> = MutexGuard<'a, Names>;

impl PubSub {
    fn register(&self, kind: Subscription, name: &[u8]) -> Register<'_> {
        let lock = match kind {
            Subscription::Pattern => &self.patterns,
            Subscription::Channel => &self.stripes[0][self.stripe(name)],
            Subscription::Shard => &self.stripes[1][self.stripe(name)],
        };
        lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stripe(&self, name: &[u8]) -> usize {
        hasher::hash(name) as usize % STRIPES
    }

    /// Counts one more subscriber on a worker.
    pub fn add(&self, kind: Subscription, name: &[u8], worker: usize) {
        let mut register = self.register(kind, name);
        let counts = register.entry_ref(name).or_default();
        match counts.iter_mut().find(|(index, _)| *index as usize == worker) {
            Some((_, count)) => *count += 1,
            None => counts.push((worker as u32, 1)),
        }
        if kind == Subscription::Pattern {
            self.pattern_count.store(register.len(), Relaxed);
        }
    }

    /// Counts one subscriber less.
    pub fn remove(&self, kind: Subscription, name: &[u8], worker: usize) {
        let mut register = self.register(kind, name);
        if let Some(counts) = register.get_mut(name) {
            if let Some(place) = counts.iter().position(|(index, _)| *index as usize == worker) {
                counts[place].1 -= 1;
                if counts[place].1 == 0 {
                    counts.remove(place);
                }
            }
            if counts.is_empty() {
                register.remove(name);
            }
        }
        if kind == Subscription::Pattern {
            self.pattern_count.store(register.len(), Relaxed);
        }
    }

    /// Publishes; the number of sessions that will get the message. `from` is the publishing worker, `lsn` the transaction that
    /// the message tells of, or 0.
    pub fn publish(
        &self,
        engine: &Engine,
        from: usize,
        audience: Audience,
        channel: &[u8],
        payload: &[u8],
        lsn: Lsn,
    ) -> usize {
        // Held while the message is posted: all subscribers of a channel see its messages in one order.
        let register = self.register(direct(audience), channel);
        let (receivers, workers) = self.find_receivers(&register, audience, channel);
        if !workers.is_empty() {
            let channel: Arc<[u8]> = channel.into();
            let payload: Arc<[u8]> = payload.into();
            for &worker in &workers {
                let message = Message::Publish { audience, channel: channel.clone(), payload: payload.clone(), lsn };
                engine.post(from, worker as usize, message);
            }
        }
        receivers
    }

    /// How many sessions would get a message published now.
    pub fn receivers(&self, audience: Audience, channel: &[u8]) -> usize {
        self.find_receivers(&self.register(direct(audience), channel), audience, channel).0
    }

    /// How many sessions get a message, and on which workers they live.
    fn find_receivers(&self, register: &Register, audience: Audience, channel: &[u8]) -> (usize, SmallVec<[u32; 16]>) {
        let mut workers: SmallVec<[u32; 16]> = SmallVec::new();
        let mut receivers = 0;
        let mut count = |counts: &PerWorker| {
            for &(worker, count) in counts {
                receivers += count as usize;
                if !workers.contains(&worker) {
                    workers.push(worker);
                }
            }
        };
        if let Some(counts) = register.get(channel) {
            count(counts);
        }
        if audience == Audience::Channel && self.pattern_count.load(Relaxed) != 0 {
            let patterns = self.patterns.lock().unwrap_or_else(PoisonError::into_inner);
            patterns
                .iter()
                .filter(|(pattern, _)| glob_match(pattern, channel, false))
                .for_each(|(_, counts)| count(counts));
        }
        (receivers, workers)
    }

    /// The channels (or shard channels) with subscribers.
    pub fn channels(&self, kind: Subscription) -> Vec<Vec<u8>> {
        let index = usize::from(kind == Subscription::Shard);
        self.stripes[index]
            .iter()
            .flat_map(|stripe| {
                stripe.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect::<Vec<_>>()
            })
            .collect()
    }

    /// Subscribers of a channel.
    pub fn subscribers(&self, kind: Subscription, name: &[u8]) -> usize {
        self.register(kind, name).get(name).map_or(0, |counts| counts.iter().map(|(_, count)| *count as usize).sum())
    }

    /// Patterns with subscribers.
    pub fn pattern_count(&self) -> usize {
        self.pattern_count.load(Relaxed)
    }
}

/// One worker's subscribers.
#[derive(Default)]
pub struct LocalSubscribers {
    by_name: [HashMap<Vec<u8>, Vec<Slot>>; 3],
}

impl LocalSubscribers {
    /// Notes a session's subscription.
    pub fn add(&mut self, kind: Subscription, name: &[u8], slot: Slot) {
        self.by_name[kind as usize].entry_ref(name).or_default().push(slot);
    }

    /// Forgets it.
    pub fn remove(&mut self, kind: Subscription, name: &[u8], slot: Slot) {
        let Some(slots) = self.by_name[kind as usize].get_mut(name) else { return };
        slots.retain(|have| *have != slot);
        if slots.is_empty() {
            self.by_name[kind as usize].remove(name);
        }
    }

    /// Calls `f` with each session that gets a message, and the pattern through which it does.
    pub fn for_each(&self, audience: Audience, channel: &[u8], mut f: impl FnMut(Slot, Option<&[u8]>)) {
        if let Some(slots) = self.by_name[direct(audience) as usize].get(channel) {
            slots.iter().for_each(|slot| f(*slot, None));
        }
        if audience == Audience::Channel {
            for (pattern, slots) in &self.by_name[Subscription::Pattern as usize] {
                if glob_match(pattern, channel, false) {
                    slots.iter().for_each(|slot| f(*slot, Some(pattern)));
                }
            }
        }
    }
}

/// Writes the message as a subscriber gets it.
pub fn write_message(reply: &mut Reply, audience: Audience, pattern: Option<&[u8]>, channel: &[u8], payload: &[u8]) {
    let (kind, words) = match (audience, pattern) {
        (Audience::Shard, _) => ("smessage", 3),
        (Audience::Channel, Some(_)) => ("pmessage", 4),
        (Audience::Channel, None) => ("message", 3),
    };
    reply.push(words);
    reply.bulk(kind.as_bytes());
    if let Some(pattern) = pattern {
        reply.bulk(pattern);
    }
    reply.bulk(channel);
    reply.bulk(payload);
}

/// The message in both protocols, made once for all its receivers on a worker.
pub fn encoded_message(
    protocol: Protocol,
    audience: Audience,
    pattern: Option<&[u8]>,
    channel: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    /// Bytes of the message beside its texts, at most.
    const FRAME: usize = 100;
    let mut writer = Writer::new(protocol);
    writer.buf.reserve_exact(pattern.map_or(0, <[u8]>::len) + channel.len() + payload.len() + FRAME);
    write_message(&mut writer, audience, pattern, channel, payload);
    writer.buf
}

/// Publishes a keyspace event (Redis documentation, "Redis keyspace notifications").
pub(crate) fn publish_event(worker: &Worker, event: &Event, lsn: Lsn) {
    let engine = &worker.engine;
    let Event { name, db, key, subkeys, .. } = event;
    let name = name.as_bytes();
    let publish = |kind: &str, channel: &[&[u8]], payload: &[u8]| {
        let channel = [format!("__{kind}@{db}__:").as_bytes(), &channel.concat()].concat();
        engine.pubsub.publish(engine, worker.index, Audience::Channel, &channel, payload, lsn);
    };
    if worker.wants_events(EventClasses::KEYSPACE) {
        publish("keyspace", &[key], name);
    }
    if worker.wants_events(EventClasses::KEYEVENT) {
        publish("keyevent", &[name], key);
    }
    if subkeys.is_empty() {
        return;
    }
    let list = subkeys.iter().map(|subkey| sized(subkey)).collect::<Vec<_>>().join(&b","[..]);
    if worker.wants_events(EventClasses::SUBKEYSPACE) {
        publish("subkeyspace", &[key], &[name, b"|", &list].concat());
    }
    if worker.wants_events(EventClasses::SUBKEYEVENT) {
        publish("subkeyevent", &[name], &[&sized(key), &b"|"[..], &list].concat());
    }
    // A newline ends the key in the channel's name.
    if worker.wants_events(EventClasses::SUBKEYSPACEITEM) && !key.contains(&b'\n') {
        subkeys.iter().for_each(|subkey| publish("subkeyspaceitem", &[key, b"\n", subkey], name));
    }
    if worker.wants_events(EventClasses::SUBKEYSPACEEVENT) {
        publish("subkeyspaceevent", &[name, b"|", key], &list);
    }
}

/// Bytes behind their number: `3:foo`.
fn sized(bytes: &[u8]) -> Vec<u8> {
    [format!("{}:", bytes.len()).as_bytes(), bytes].concat()
}
