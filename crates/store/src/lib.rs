//! Values, hash tables, shards, expiry and the transaction over them.
//!
//! Knows no RESP, no file, no socket, no clock and no random source of its own: times and random numbers come in as
//! arguments, and what happened goes out as `Change`s.

pub mod access;
pub mod defrag;
pub mod entry;
pub mod expiry;
pub mod hash;
pub mod hasher;
pub mod limits;
pub mod list;
mod load;
pub mod long;
mod member;
pub mod packed;
pub mod set;
pub mod shard;
pub mod shared_map;
pub mod snapshot;
pub mod str;
pub mod stream;
pub mod sync;
pub mod table;
#[cfg(test)]
mod testing;
pub mod timed;
pub mod tracking;
pub mod txn;
pub mod value;
pub mod waiting;
pub mod zset;

pub use limits::Limits;
pub use str::Str;
