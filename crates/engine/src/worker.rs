//! One worker: the engine's side of one thread's event loop, with the sessions that live on it.

use std::sync::Arc;

/// Where the time comes from. The server gives the system's clock, tests a clock that they turn by hand.
pub trait Clock: Send + Sync {
    /// Microseconds since the Unix epoch.
    fn unix_us(&self) -> i64;
    /// Microseconds since some fixed moment; never goes back.
    fn monotonic_us(&self) -> u64;
}

/// What a connection tells about itself.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The client's `ip:port`, or the socket's path.
    pub addr: String,
    /// The server's side, likewise.
    pub laddr: String,
    /// The file descriptor, for CLIENT LIST.
    pub fd: i32,
    /// Whether it came over a Unix socket.
    pub unix: bool,
}

/// A session's place in its worker; reused after a disconnect.
pub type Slot = usize;

/// What the event loop is to do with a session's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Go on reading and writing.
    Open,
    /// Stop reading; close once the output is written.
    CloseAfterWrite,
    /// Close at once.
    Close,
}

/// What a long-running script calls back into: the event loop that it is holding up.
pub trait Host {
    /// Serves other sessions for one turn without waiting: reads, processes, writes. May call back into `worker`.
    fn serve_others(&mut self, worker: &mut Worker);
}

/// The state shared by all workers.
pub struct Engine;

/// The engine's side of one thread.
pub struct Worker {
    #[allow(dead_code)]
    engine: Arc<Engine>,
}
