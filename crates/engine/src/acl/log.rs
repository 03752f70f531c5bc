//! ACL LOG: what was refused lately, and how often in all.

use super::user::Reason;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A log-in.
    Auth,
    /// A command.
    Command,
    /// A key.
    Key,
    /// A channel.
    Channel,
    /// A database.
    Database,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Refusal {
        match reason {
            Reason::Database => Refusal::Database,
            Reason::Command => Refusal::Command,
            Reason::Key => Refusal::Key,
            Reason::Channel => Refusal::Channel,
        }
    }
}

impl Refusal {
    /// The word for it in ACL LOG.
    pub fn word(self) -> &'static str {
        match self {
            Refusal::Auth => "auth",
            Refusal::Command => "command",
            Refusal::Key => "key",
            Refusal::Channel => "channel",
            Refusal::Database => "database",
        }
    }
}

/// Where a command comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// A client, on its own.
    TopLevel,
    /// A transaction, when it is queued or run.
    Multi,
    /// A script or function.
    Script,
}

impl Context {
    /// The word for it in ACL LOG.
    pub fn word(self) -> &'static str {
        match self {
            Context::TopLevel => "toplevel",
            Context::Multi => "multi",
            Context::Script => "lua",
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What was refused.
    pub refusal: Refusal,
    /// Where it came from.
    pub context: Context,
    /// The command, key, channel, database, or command to log in with.
    pub object: Vec<u8>,
    /// The user.
    pub user: Vec<u8>,
    /// The client as CLIENT LIST shows it.
    pub client: String,
}

/// An entry of the log: an event that may have come again and again.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The last of them.
    pub event: Event,
    /// How many.
    pub count: u64,
    /// Number of the entry.
    pub id: u64,
    /// When the first came, Unix ms.
    pub created_ms: i64,
    /// When the last came, Unix ms.
    pub updated_ms: i64,
}

#[derive(Default)]
struct Entries {
    /// The latest first.
    entries: VecDeque<Entry>,
    next_id: u64,
}

/// The log.
#[derive(Default)]
pub struct AclLog {
    entries: Mutex<Entries>,
    counts: [AtomicU64; 5],
}

impl AclLog {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an event: as one more of an entry, if there is one like it among the latest.
    pub fn add(&self, event: Event, now_ms: i64, max_len: usize) {
        /// Entries that are compared.
        const LOOKED_AT: usize = 10;
        /// Entries older than this, in ms, take no more events.
        const SAME_WITHIN_MS: i64 = 60_000;
        self.counts[event.refusal as usize].fetch_add(1, Relaxed);
        let mut log = self.lock();
        let alike = |entry: &Entry| {
            let have = &entry.event;
            (have.refusal, have.context) == (event.refusal, event.context)
                && (&have.object, &have.user) == (&event.object, &event.user)
                && now_ms - entry.updated_ms <= SAME_WITHIN_MS
        };
        let entry = match log.entries.iter().take(LOOKED_AT).position(alike).and_then(|at| log.entries.remove(at)) {
            Some(before) => Entry { event, count: before.count + 1, updated_ms: now_ms, ..before },
            None if max_len == 0 => {
                log.entries.clear();
                return;
            }
            None => {
                log.next_id += 1;
                Entry { event, count: 1, id: log.next_id - 1, created_ms: now_ms, updated_ms: now_ms }
            }
        };
        log.entries.push_front(entry);
        log.entries.truncate(max_len);
    }

    /// The latest entries, the last first.
    pub fn latest(&self, count: usize) -> Vec<Entry> {
        self.lock().entries.iter().take(count).cloned().collect()
    }

    /// Forgets all entries.
    pub fn reset(&self) {
        self.lock().entries.clear();
    }

    /// How many events of a kind there have been.
    pub fn count(&self, refusal: Refusal) -> u64 {
        self.counts[refusal as usize].load(Relaxed)
    }
}
