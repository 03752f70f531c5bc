//! The list type.

/// A list.
pub struct List;
