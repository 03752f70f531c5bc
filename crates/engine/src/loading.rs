//! How far the server is with loading its data at the start.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

/// Progress of loading, for the gate of commands and for INFO. Whoever loads writes it.
#[derive(Default)]
pub struct Loading {
    active: AtomicBool,
    /// When it began, Unix seconds.
    pub started_s: AtomicI64,
    /// Bytes to read.
    pub total_bytes: AtomicU64,
    /// Bytes read.
    pub loaded_bytes: AtomicU64,
    /// Keys loaded from the last RDB file.
    pub rdb_keys_loaded: AtomicU64,
    /// Keys of it that were past their expiry time.
    pub rdb_keys_expired: AtomicU64,
}

impl Loading {
    /// Whether the data is being loaded: most commands are refused.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    /// Loading begins.
    pub fn begin(&self, now_s: i64, total_bytes: u64) {
        self.started_s.store(now_s, Relaxed);
        self.total_bytes.store(total_bytes, Relaxed);
        self.loaded_bytes.store(0, Relaxed);
        self.active.store(true, Relaxed);
    }

    /// Loading has ended.
    pub fn end(&self) {
        self.active.store(false, Relaxed);
    }

    /// Per cent loaded, and the seconds that are left, from the time that it took so far.
    pub fn progress(&self, now_s: i64) -> (f64, i64) {
        let (total, loaded) = (self.total_bytes.load(Relaxed), self.loaded_bytes.load(Relaxed));
        let elapsed_s = (now_s - self.started_s.load(Relaxed)).max(0);
        let share = if total == 0 { 0.0 } else { loaded as f64 / total as f64 };
        let left_s = if share == 0.0 { 1 } else { (elapsed_s as f64 * (1.0 - share) / share) as i64 };
        (100.0 * share.min(1.0), left_s.max(0))
    }
}
