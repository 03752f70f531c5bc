//! The 24-bit access field of an entry: when a key was last used (LRU) or how often (LFU).
//!
//! The LFU form is that of Redis ("Using Redis as an LRU cache"): 16 bits of minutes, 8 bits of a logarithmic,
//! probabilistic counter that decays with time.

/// How accesses are counted, and the time of this transaction in the counters' units.
#[derive(Clone, Copy, Debug)]
pub struct AccessClock {
    /// Whether the field holds frequencies rather than times.
    pub lfu: bool,
    /// Unix time in ms.
    pub now_ms: i64,
    /// `lfu-log-factor`.
    pub log_factor: u32,
    /// `lfu-decay-time`, minutes for one step down; 0 never decays.
    pub decay_minutes: u32,
}

const FIELD_MASK: i64 = 0xff_ffff;
const MINUTES_MASK: i64 = 0xffff;
/// Where a new key's counter starts, so that it is not evicted at once.
const LFU_START: u32 = 5;

impl AccessClock {
    fn seconds(&self) -> u32 {
        ((self.now_ms / 1000) & FIELD_MASK) as u32
    }

    fn minutes(&self) -> u32 {
        ((self.now_ms / 60_000) & MINUTES_MASK) as u32
    }

    /// The field of a key just made.
    pub fn fresh(&self) -> u32 {
        if self.lfu { self.minutes() << 8 | LFU_START } else { self.seconds() }
    }

    /// The field after one more use; `random` decides whether the logarithmic counter moves.
    pub fn used(&self, field: u32, random: u64) -> u32 {
        if !self.lfu {
            return self.seconds();
        }
        let counter = self.frequency(field);
        let above = f64::from(counter.saturating_sub(LFU_START));
        let odds = 1.0 / (above * f64::from(self.log_factor) + 1.0);
        let drawn = (random >> 11) as f64 / (1u64 << 53) as f64;
        let counter = if counter < 255 && drawn < odds { counter + 1 } else { counter };
        self.minutes() << 8 | counter
    }

    /// The decayed LFU counter of a field.
    pub fn frequency(&self, field: u32) -> u32 {
        let counter = field & 0xff;
        if self.decay_minutes == 0 {
            return counter;
        }
        counter.saturating_sub(self.idle_minutes(field) / self.decay_minutes)
    }

    /// Minutes since the last use, for a field that holds a frequency.
    pub fn idle_minutes(&self, field: u32) -> u32 {
        self.minutes().wrapping_sub(field >> 8) & 0xffff
    }

    /// Seconds since the last use, for a field that holds times.
    pub fn idle_seconds(&self, field: u32) -> u32 {
        self.seconds().wrapping_sub(field) & FIELD_MASK as u32
    }

    /// The field of a key last used so many seconds ago.
    pub fn idle_for(&self, seconds: u32) -> u32 {
        self.seconds().wrapping_sub(seconds) & FIELD_MASK as u32
    }

    /// The field of a key with this LFU counter.
    pub fn with_frequency(&self, counter: u8) -> u32 {
        self.minutes() << 8 | u32::from(counter)
    }
}
