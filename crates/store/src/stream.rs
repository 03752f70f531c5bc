//! The stream type.

/// A stream.
pub struct Stream;
