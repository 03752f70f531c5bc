//! Commands, sessions, scripting, pub/sub and blocking: a state machine without sockets, threads or clock of its own.
//!
//! Bytes go in through [`worker::Worker::input`], replies come out of [`worker::Worker::pending`]; a command is declared
//! once ([`command::Command`]) and runs in a transaction over exactly the shards that it names.

pub mod acl;
pub mod args;
pub mod backup;
mod blocking;
mod client_memory;
pub mod clients;
pub mod command;
pub mod commands;
pub mod config;
pub mod ctx;
mod defrag;
pub mod dialect;
pub mod durability;
pub mod engine;
pub mod error;
mod eviction;
mod exec;
pub mod failover;
mod fast_path;
pub mod following;
pub mod functions;
pub mod hotkeys;
pub mod info;
mod keysizes;
pub mod links;
pub mod loading;
pub mod mailbox;
pub mod monitor;
mod pause;
pub mod pubsub;
pub mod queue;
pub mod rdb;
mod redacted;
pub mod registry;
pub mod replay;
pub mod replication;
pub mod running;
pub mod saving;
pub mod scripting;
pub mod scripts;
pub mod session;
mod settle;
pub mod shutdown;
pub mod slowlog;
pub mod stats;
mod surroundings;
pub mod syntax;
pub mod testing;
pub mod tracking;
pub mod version;
pub mod worker;
