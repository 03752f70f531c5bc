//! What the engine is told from outside: the time, and who a connection's other end is.

/// Where the time comes from. The server gives the system's clock, tests a clock that they turn by hand.
pub trait Clock: Send + Sync {
    /// Microseconds since the Unix epoch.
    fn unix_us(&self) -> i64;
    /// Microseconds since some fixed moment; never goes back.
    fn monotonic_us(&self) -> u64;
    /// Microseconds for which this thread had a core, if that can be told.
    fn thread_us(&self) -> u64 {
        self.monotonic_us()
    }
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
    /// Whether it is the server that this one follows, to which this one has connected.
    pub master: bool,
}

impl Peer {
    /// Whether the client is on this machine.
    pub fn is_local(&self) -> bool {
        self.unix || self.addr.starts_with("127.") || self.addr.starts_with("[::1]")
    }
}
