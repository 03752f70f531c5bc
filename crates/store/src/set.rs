//! The set type.

/// A set.
pub struct Set;
