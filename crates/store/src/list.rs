//! The list type.

/// A list.
#[derive(Clone, Default)]
pub struct List;
