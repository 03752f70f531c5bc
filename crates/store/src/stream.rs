//! The stream type.

/// A stream.
#[derive(Clone, Default)]
pub struct Stream;
