//! The set type.

/// A set.
#[derive(Clone, Default)]
pub struct Set;
