//! Commands, sessions, scripting, pub/sub and blocking: a state machine without sockets, threads or clock.
