//! The durable side: the append-only log, snapshots, and the RDB format.
//!
//! Depends on the store (what values are) and on RESP (how a change is written). It talks to the disk through a trait, so that a
//! simulated disk can lose, tear and spoil what was not synced. It knows no commands, sessions or sockets.

pub mod aof;
mod crc32c;
pub mod disk;
pub mod rdb;
