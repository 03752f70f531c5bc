//! The cache of scripts that EVALSHA runs, shared by all workers.
//!
//! What SCRIPT LOAD brought stays until SCRIPT FLUSH. Of what only EVAL brought the [`KEPT`] used last stay: programs that make up
//! a script for each call would fill the memory.

use crate::scripting::shebang::Flags;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many scripts stay that only EVAL brought.
pub const KEPT: usize = 500;

/// A SHA-1 as 40 lower-case hexadecimal digits.
pub type Sha = [u8; 40];

/// A SHA-1 as text.
pub fn text(sha: &Sha) -> &str {
    std::str::from_utf8(sha).unwrap_or_default()
}

/// The script that a thread ran last: most run one again and again, and to compare its text takes less than to hash it.
pub struct LastScript {
    /// Its SHA-1,
    pub sha: Sha,
    /// and as text.
    pub name: Box<str>,
    /// Its text.
    pub body: Arc<[u8]>,
    /// What its first line declares.
    pub flags: Flags,
    /// How many times the cache had let go of scripts when it was put there.
    pub losses: u64,
}

struct Script {
    body: Arc<[u8]>,
    /// Which use it was that EVAL or EVALSHA made of it last; `None` if SCRIPT LOAD brought it.
    used: Option<u64>,
}

#[derive(Default)]
struct Scripts {
    by_sha: HashMap<Sha, Script>,
    /// Those of EVAL by their last use.
    by_use: BTreeMap<u64, Sha>,
    uses: u64,
}

impl Scripts {
    /// Notes that a script of EVAL was used.
    fn note_use(&mut self, sha: &Sha) {
        if let Some(Script { used: Some(used), .. }) = self.by_sha.get_mut(sha) {
            self.by_use.remove(used);
            self.uses += 1;
            *used = self.uses;
            self.by_use.insert(self.uses, *sha);
        }
    }
}

/// Scripts by SHA-1.
#[derive(Default)]
pub struct ScriptCache {
    scripts: Mutex<Scripts>,
    generation: AtomicU64,
    losses: AtomicU64,
}

impl ScriptCache {
    fn lock(&self) -> MutexGuard<'_, Scripts> {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The SHA-1 of a script's body.
    pub fn sha(body: &[u8]) -> Sha {
        let mut text = [0; 40];
        for (byte, digits) in sha1_smol::Sha1::from(body).digest().bytes().iter().zip(text.chunks_exact_mut(2)) {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            digits[0] = HEX[usize::from(byte >> 4)];
            digits[1] = HEX[usize::from(byte & 15)];
        }
        text
    }

    /// Keeps a script until the next flush: SCRIPT LOAD.
    pub fn keep(&self, sha: Sha, body: &[u8]) {
        let mut scripts = self.lock();
        let script = scripts.by_sha.entry(sha).or_insert_with(|| Script { body: body.into(), used: None });
        if let Some(used) = script.used.take() {
            scripts.by_use.remove(&used);
        }
    }

    /// Notes that a script is used, which is put there if it is not; and before it, perhaps several times, that of `before`. Returns
    /// it as it is kept, and how many others had to go.
    pub fn note_use(&self, sha: Sha, body: &[u8], before: Option<&Sha>) -> (Arc<[u8]>, u64) {
        let mut scripts = self.lock();
        before.iter().for_each(|sha| scripts.note_use(sha));
        let script = scripts.by_sha.entry(sha).or_insert_with(|| Script { body: body.into(), used: Some(0) });
        let body = script.body.clone();
        scripts.note_use(&sha);
        let mut gone = 0;
        while scripts.by_use.len() > KEPT
            && let Some((_, sha)) = scripts.by_use.pop_first()
        {
            scripts.by_sha.remove(&sha);
            gone += 1;
        }
        self.losses.fetch_add(gone, Relaxed);
        (body, gone)
    }

    /// The script of this SHA-1 (any case).
    pub fn get(&self, sha: &[u8]) -> Option<(Sha, Arc<[u8]>)> {
        let sha: Sha = sha.to_ascii_lowercase().try_into().ok()?;
        self.lock().by_sha.get(&sha).map(|script| (sha, script.body.clone()))
    }

    /// Forgets all scripts; interpreters follow when they see the new generation.
    pub fn flush(&self) {
        *self.lock() = Scripts::default();
        self.generation.fetch_add(1, Relaxed);
        self.losses.fetch_add(1, Relaxed);
    }

    /// Counts the flushes.
    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Counts the flushes, and the scripts that had to go.
    pub fn losses(&self) -> u64 {
        self.losses.load(Relaxed)
    }

    /// Number of scripts.
    pub fn count(&self) -> usize {
        self.lock().by_sha.len()
    }

    /// Number of scripts, and bytes of their bodies.
    pub fn size(&self) -> (usize, usize) {
        let scripts = self.lock();
        (scripts.by_sha.len(), scripts.by_sha.values().map(|script| script.body.len()).sum())
    }
}
