//! The sorted-set type.

/// A sorted set.
#[derive(Clone, Default)]
pub struct ZSet;
