//! Listening sockets, and the sockets that they accept.

use crate::log;
use kelda_engine::config::Settings;
use kelda_engine::worker::Peer;
use rustix::net::sockopt::set_tcp_congestion;
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, acceptfrom_with, getsockname};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// A socket that accepts; non-blocking.
pub struct Listener {
    pub fd: OwnedFd,
    /// The path of a Unix socket.
    pub path: Option<String>,
}

/// A connection that was accepted; non-blocking.
pub struct Accepted {
    pub fd: OwnedFd,
    pub peer: Peer,
    /// Whether it comes from this machine.
    pub local: bool,
}

/// Opens what the settings say: each address of `bind` on `port`, if that is not zero. Addresses that begin with `-` may be
/// missing on this machine.
///
/// # Errors
/// A listening socket could not be had; what went wrong is in the log.
pub fn listen_tcp(settings: &Settings) -> Result<Vec<Listener>, String> {
    let mut listeners = Vec::new();
    if settings.port == 0 {
        return Ok(listeners);
    }
    for text in &settings.bind {
        let optional = text.starts_with('-');
        let name = text.strip_prefix('-').unwrap_or(text);
        match open_tcp(name, settings) {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                let reason = reason(&error);
                let missing = matches!(
                    error.kind(),
                    io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported | io::ErrorKind::NotFound
                ) || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
                if !(optional && missing) || name != "::*" {
                    log::warning(&format!(
                        "Warning: Could not create server TCP listening socket {name}:{}: bind: {reason}",
                        settings.port
                    ));
                }
                if !(optional && missing) {
                    return Err(format!("Failed listening on port {} (tcp), aborting.", settings.port));
                }
            }
        }
    }
    Ok(listeners)
}

/// The system's words for an error, without Rust's addition of its number.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_string()
}

/// Listens on one address: an IP address, a name, `*` or `::*`; port 0 lets the system choose.
///
/// # Errors
/// The system's, or the name is unknown.
pub fn open_tcp(name: &str, settings: &Settings) -> io::Result<Listener> {
    let ip = match name {
        "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        "::*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => match name.parse() {
            Ok(ip) => ip,
            Err(_) => {
                let mut found = std::net::ToSocketAddrs::to_socket_addrs(&(name, settings.port))?;
                found.next().ok_or(io::ErrorKind::NotFound)?.ip()
            }
        },
    };
    let address = SocketAddr::new(ip, settings.port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(settings.tcp_backlog.min(i32::MAX as u32) as i32)?;
    Ok(Listener { fd: socket.into(), path: None })
}

/// Opens `unixsocket`, removing a socket that an earlier server left there.
///
/// # Errors
/// The socket could not be had.
pub fn listen_unix(settings: &Settings) -> Result<Option<Listener>, String> {
    let path = &settings.unixsocket;
    if path.is_empty() {
        return Ok(None);
    }
    let open = || -> io::Result<Listener> {
        // As Redis does: whoever starts a server there means to have the path.
        let _ = std::fs::remove_file(path);
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(Path::new(path))?)?;
        socket.listen(settings.tcp_backlog.min(i32::MAX as u32) as i32)?;
        if !settings.unixsocketgroup.is_empty() {
            std::os::unix::fs::chown(path, None, Some(group_number(&settings.unixsocketgroup)?))?;
        }
        if settings.unixsocketperm != 0 {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(settings.unixsocketperm))?;
        }
        Ok(Listener { fd: socket.into(), path: Some(path.clone()) })
    };
    open().map(Some).map_err(|error| format!("Failed opening Unix socket: bind: {}", reason(&error)))
}

/// The number of a group of this machine, or the number that it is called by.
fn group_number(name: &str) -> io::Result<u32> {
    let groups = std::fs::read_to_string("/etc/group")?;
    let named = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    let number = groups.lines().find_map(named).or_else(|| name.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("no group {name}")))
}

impl Listener {
    /// Takes one waiting connection and sets its options; `None` when no more are waiting.
    ///
    /// # Errors
    /// The system's, such as too many open files.
    pub fn accept(&self, settings: &Settings) -> io::Result<Option<Accepted>> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (fd, from) = loop {
            match acceptfrom_with(&self.fd, flags) {
                Ok(accepted) => break accepted,
                // Nobody waits, or the socket was shut down to be replaced.
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INVAL) => return Ok(None),
                // The client gave up meanwhile, or a signal came.
                Err(rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
        };
        let raw = fd.as_raw_fd();
        if let Some(path) = &self.path {
            let name = format!("{path}:0");
            let peer = Peer { addr: name.clone(), laddr: name, fd: raw, unix: true, master: false };
            return Ok(Some(Accepted { fd, peer, local: true }));
        }
        let from = from.and_then(ip_address);
        let to = getsockname(&fd).ok().and_then(ip_address);
        // A peer that vanished already: the options fail, and so will the first read.
        let socket = SockRef::from(&fd);
        let _ = socket.set_tcp_nodelay(true);
        if settings.tcp_keepalive > 0 {
            let _ = socket.set_tcp_keepalive(&keepalive(settings.tcp_keepalive));
        }
        let peer = Peer { addr: name(from), laddr: name(to), fd: raw, unix: false, master: false };
        let local = from.is_some_and(|a| a.ip().is_loopback());
        if local {
            // The loopback is never congested: what the machine has been set to for its networks only costs there, BBR two
            // hundredths of a request. Reno is always built in.
            let _ = set_tcp_congestion(&fd, "reno");
        }
        Ok(Some(Accepted { fd, peer, local }))
    }
}

fn name(address: Option<SocketAddr>) -> String {
    address.map_or("?:0".to_string(), |address| address.to_string())
}

impl Accepted {
    /// A connection that this process opened, to the server that it follows.
    ///
    /// # Errors
    /// The system's.
    pub fn to_master(stream: TcpStream) -> io::Result<Accepted> {
        stream.set_nonblocking(true)?;
        let (to, from) = (stream.peer_addr().ok(), stream.local_addr().ok());
        let fd = OwnedFd::from(stream);
        let peer = Peer { addr: name(to), laddr: name(from), fd: fd.as_raw_fd(), unix: false, master: true };
        Ok(Accepted { fd, peer, local: true })
    }
}

fn ip_address(address: SocketAddrAny) -> Option<SocketAddr> {
    match address.address_family() {
        AddressFamily::INET | AddressFamily::INET6 => SocketAddr::try_from(address).ok(),
        _ => None,
    }
}

/// Probes after `seconds` of silence, three times, a third of that apart.
fn keepalive(seconds: u32) -> TcpKeepalive {
    let interval = (seconds / 3).max(1);
    TcpKeepalive::new()
        .with_time(Duration::from_secs(seconds.into()))
        .with_interval(Duration::from_secs(interval.into()))
        .with_retries(3)
}
