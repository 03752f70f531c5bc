//! The hash type.

/// A hash.
pub struct Hash;
