//! Development only: conversations, oracles, differential fuzzing.
//!
//! - [`value`]: replies of either protocol version, read by a parser of our own, so that a mistake in `kelda-resp`
//!   cannot hide by being made on both sides of a test;
//! - [`notation`]: the readable text of arguments and replies;
//! - [`conversation`]: the files of `tests/conversations`: parsing, running, comparing, recording;
//! - [`client`], [`server`]: real connections to real server processes (Kelda, Valkey, Redis);
//! - [`generate`], [`compare`]: random commands, and what it means for two servers to answer alike;
//! - `disk`, `power` (feature `crash`): a disk that loses what was not synced, and the log on it through power cuts;
//! - [`history`]: what concurrent sessions saw, and the proof that it is strictly serializable;
//! - [`rng`]: the seeded random source of all of these.
//!
//! Nothing here is reached by the server.

pub mod client;
pub mod compare;
pub mod conversation;
#[cfg(feature = "crash")]
pub mod disk;
pub mod generate;
pub mod history;
pub mod notation;
#[cfg(feature = "crash")]
pub mod power;
pub mod rng;
pub mod server;
pub mod templates;
pub mod value;
