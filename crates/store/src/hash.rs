//! The hash type.

/// A hash.
#[derive(Clone, Default)]
pub struct Hash;
