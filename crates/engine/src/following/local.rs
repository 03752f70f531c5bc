//! Keys of a writable replica that its own clients gave an expiry time: the master knows nothing of them and will never say that
//! they go, so this server removes them itself. All others stay until the master says so.

use crate::registry::Registered;
use crate::session::Session;
use crate::worker::Worker;
use kelda_store::shard::ShardSet;
use kelda_store::txn::{Key, Txn};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keys looked at in one go.
const KEYS_A_ROUND: usize = 1000;

/// When a key was due when it was noted, its database and its name.
type LocalKey = (i64, u32, Box<[u8]>);

/// The keys.
#[derive(Default)]
pub struct LocalKeys {
    keys: Mutex<BTreeSet<LocalKey>>,
    count: AtomicUsize,
}

impl LocalKeys {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<LocalKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.lock().clear();
        self.count.store(0, Relaxed);
    }
}

/// Notes which keys of a command of a client expire now.
#[inline]
pub(crate) fn note(worker: &Worker, session: &Session, txn: &Txn, command: &Registered, words: &[&[u8]]) {
    if worker.follows && command.writes && session.master.is_none() {
        note_keys(worker, txn, command, words);
    }
}

#[cold]
fn note_keys(worker: &Worker, txn: &Txn, command: &Registered, words: &[&[u8]]) {
    let local = &worker.engine.following.local;
    command.find_keys(words, &mut |at, _| {
        let Some(word) = words.get(at).filter(|word| txn.holds(Key::new(word))) else { return };
        if let Some(at) = txn.peek_even_due(Key::new(word)).and_then(|entry| entry.expire_at()) {
            let mut keys = local.lock();
            keys.insert((at, txn.db(), (*word).into()));
            local.count.store(keys.len(), Relaxed);
        }
    });
}

impl Worker {
    /// Removes those that are due. Called about ten times a second.
    pub(super) fn expire_local_keys(&mut self) {
        let engine = self.engine.clone();
        let local = &engine.following.local;
        if local.count() == 0 || !self.follows || self.engine.pause.left_ms(self.now_ms()).is_some() {
            return;
        }
        let now_ms = self.now_ms();
        let due: Vec<LocalKey> =
            local.lock().iter().take_while(|(at, ..)| *at < now_ms).take(KEYS_A_ROUND).cloned().collect();
        for noted in due {
            let (_, db, name) = &noted;
            let key = Key::new(name);
            let Some(mut txn) = self.begin(&engine.keyspace, ShardSet::One(key.shard() as u16), *db) else { continue };
            let at = txn.peek_even_due(key).and_then(|entry| entry.expire_at());
            let later = at.filter(|at| *at >= now_ms);
            if at.is_some() && later.is_none() {
                txn.cx().env.keep_due = false;
                // A look at a key that is due has it removed.
                let _ = txn.exists(key);
                txn.reap_stale();
            }
            self.commit(txn);
            let mut keys = local.lock();
            keys.remove(&noted);
            keys.extend(later.map(|at| (at, *db, name.clone())));
            local.count.store(keys.len(), Relaxed);
        }
    }
}
