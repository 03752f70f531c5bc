//! The sorted-set type.

/// A sorted set.
pub struct ZSet;
