//! The versions that the server tells.

/// The Redis version whose core commands are all there: clients switch features on by it.
pub const REDIS_VERSION: &str = "7.4.0";
/// The same in parts, for scripts.
pub const REDIS_VERSION_PARTS: (u8, u8, u8) = (7, 4, 0);
/// Kelda's own version.
pub const KELDA_VERSION: &str = env!("CARGO_PKG_VERSION");
