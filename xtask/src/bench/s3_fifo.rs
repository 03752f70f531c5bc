//! S3-FIFO, a public algorithm that keeps what is wanted about as well as any: what hit rates are to be compared with.
//!
//! After J. Yang, Y. Zhang, Z. Qiu, Y. Yue, R. Vinayak: FIFO queues are all you need for cache eviction, SOSP 2023, algorithm 1. It
//! only counts: there are keys, and no values.

use std::collections::{HashMap, HashSet, VecDeque};

/// Uses that are counted, at most.
const USES_MAX: u8 = 3;

/// A cache of so many keys.
pub struct S3Fifo {
    capacity: usize,
    /// How often each key that is there has been used since it came to its queue.
    uses: HashMap<u64, u8>,
    /// Keys seen once: a tenth of the cache.
    small: VecDeque<u64>,
    main: VecDeque<u64>,
    /// Keys that left `small` lately, as many as `main` may hold.
    ghosts: VecDeque<u64>,
    is_ghost: HashSet<u64>,
}

impl S3Fifo {
    /// An empty cache.
    pub fn new(capacity: usize) -> S3Fifo {
        S3Fifo {
            capacity: capacity.max(1),
            uses: HashMap::new(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: VecDeque::new(),
            is_ghost: HashSet::new(),
        }
    }

    /// Asks for a key, which is there afterwards; whether it was before. O(1), amortised.
    pub fn ask(&mut self, key: u64) -> bool {
        if let Some(uses) = self.uses.get_mut(&key) {
            *uses = (*uses + 1).min(USES_MAX);
            return true;
        }
        while self.uses.len() >= self.capacity {
            if self.small.len() >= self.small_most() || self.main.is_empty() {
                self.leave_small()
            } else {
                self.leave_main()
            }
        }
        self.uses.insert(key, 0);
        if self.is_ghost.remove(&key) {
            self.main.push_back(key)
        } else {
            self.small.push_back(key)
        }
        false
    }

    fn small_most(&self) -> usize {
        (self.capacity / 10).max(1)
    }

    /// Whoever has been in `small` the longest goes, or to `main` if it was used again.
    fn leave_small(&mut self) {
        let Some(key) = self.small.pop_front() else { return };
        match self.uses.get_mut(&key) {
            Some(uses) if *uses > 1 => {
                *uses = 0;
                self.main.push_back(key);
            }
            _ => {
                self.uses.remove(&key);
                self.remember(key);
            }
        }
    }

    /// Whoever has been in `main` the longest goes, unless it was used: then it stands at the end once more.
    fn leave_main(&mut self) {
        while let Some(key) = self.main.pop_front() {
            match self.uses.get_mut(&key) {
                Some(uses) if *uses > 0 => {
                    *uses -= 1;
                    self.main.push_back(key);
                }
                _ => {
                    self.uses.remove(&key);
                    return;
                }
            }
        }
    }

    fn remember(&mut self, key: u64) {
        if self.is_ghost.insert(key) {
            self.ghosts.push_back(key);
        }
        while self.ghosts.len() > self.capacity - self.small_most() {
            // A key that came back since is no ghost any more, though it still stands here.
            if let Some(oldest) = self.ghosts.pop_front() {
                self.is_ghost.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_again_survives_a_scan() {
        let mut cache = S3Fifo::new(100);
        // Asked for three times while in the small queue.
        for key in 0..5 {
            assert_eq!([cache.ask(key), cache.ask(key), cache.ask(key)], [false, true, true]);
        }
        (1000..3000).for_each(|key| assert!(!cache.ask(key)));
        (0..5).for_each(|key| assert!(cache.ask(key), "{key}"));
        assert_eq!(cache.uses.len(), 100);
        assert_eq!(cache.small.len() + cache.main.len(), 100);
    }

    #[test]
    fn a_key_that_comes_back_soon_stays() {
        let mut cache = S3Fifo::new(100);
        cache.ask(0);
        (1..=100).for_each(|key| _ = cache.ask(key));
        // It has gone, and is remembered.
        assert!(!cache.ask(0));
        (200..1000).for_each(|key| _ = cache.ask(key));
        assert!(cache.ask(0));
    }

    #[test]
    fn a_loop_that_fits_is_all_hits() {
        let mut cache = S3Fifo::new(100);
        let hits = (0..1000).filter(|number| cache.ask(number % 100)).count();
        assert_eq!(hits, 900);
    }
}
