//! The cache of scripts that EVALSHA runs, shared by all workers.

use crate::scripting::shebang::Flags;
use hashbrown::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A SHA-1 as 40 lower-case hexadecimal digits.
pub type Sha = [u8; 40];

/// The script that a thread ran last: most run one again and again, and to compare its text takes less than to hash it.
pub struct LastScript {
    /// Its SHA-1.
    pub sha: Sha,
    /// Its text.
    pub body: Arc<[u8]>,
    /// What its first line declares.
    pub flags: Flags,
    /// The cache's generation in which it was put there.
    pub generation: u64,
}

/// Scripts by SHA-1.
#[derive(Default)]
pub struct ScriptCache {
    bodies: Mutex<HashMap<Sha, Arc<[u8]>>>,
    generation: AtomicU64,
}

impl ScriptCache {
    fn lock(&self) -> MutexGuard<'_, HashMap<Sha, Arc<[u8]>>> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Keeps a script; returns it as it is kept.
    pub fn add(&self, sha: Sha, body: &[u8]) -> Arc<[u8]> {
        self.lock().entry(sha).or_insert_with(|| body.into()).clone()
    }

    /// The script of this SHA-1 (any case).
    pub fn get(&self, sha: &[u8]) -> Option<(Sha, Arc<[u8]>)> {
        let sha: Sha = sha.to_ascii_lowercase().try_into().ok()?;
        self.lock().get(&sha).map(|body| (sha, body.clone()))
    }

    /// Forgets all scripts; interpreters follow when they see the new generation.
    pub fn flush(&self) {
        self.lock().clear();
        self.generation.fetch_add(1, Relaxed);
    }

    /// Counts the flushes.
    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Number of scripts, and bytes of their bodies.
    pub fn size(&self) -> (usize, usize) {
        let bodies = self.lock();
        (bodies.len(), bodies.values().map(|body| body.len()).sum())
    }
}
