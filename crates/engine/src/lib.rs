//! Commands, sessions, scripting, pub/sub and blocking: a state machine without sockets, threads or clock of its own.
//!
//! Bytes go in through [`worker::Worker::input`], replies come out of [`worker::Worker::pending`]; a command is declared
//! once ([`command::Command`]) and runs in a transaction over exactly the shards that it names.

pub mod args;
mod blocking;
pub mod clients;
pub mod command;
pub mod commands;
pub mod config;
pub mod ctx;
pub mod engine;
pub mod error;
mod exec;
pub mod functions;
pub mod info;
pub mod mailbox;
pub mod pubsub;
pub mod registry;
pub mod running;
pub mod saving;
pub mod scripting;
pub mod scripts;
pub mod session;
mod sha256;
pub mod slowlog;
pub mod stats;
pub mod syntax;
pub mod testing;
pub mod version;
pub mod worker;
