//! Commands, sessions, scripting, pub/sub and blocking: a state machine without sockets, threads or clock of its own.

pub mod config;
pub mod scripting;
pub mod worker;
