//! The servers that are measured, as processes: started side by side, and what the system says of them.

use crate::root;
use kelda_sim::client::Client;
use kelda_sim::server::{Kind, Server};
use std::io;

/// Starts one server of each kind that is on this machine. `kelda` are options for Kelda alone, `options` those for all.
pub fn start(kinds: &[Kind], kelda: &[&str], options: &[&str]) -> Result<Vec<Server>, String> {
    let mut servers = Vec::new();
    for kind in kinds {
        let Some(program) = kind.program(&root()) else {
            eprintln!("{} is not on this machine: left out", kind.name());
            continue;
        };
        let own = if *kind == Kind::Kelda { kelda } else { &[] };
        let options = [own, options].concat();
        servers.push(Server::start(*kind, &program, &options).map_err(|e| format!("{}: {e}", program.display()))?);
    }
    if servers.is_empty() { Err("no server to measure".into()) } else { Ok(servers) }
}

/// User and system time that the threads of a process have used. One that ends takes its time with it: servers keep theirs.
pub fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let mut nanoseconds = 0.0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while this reads.
        let text = std::fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        nanoseconds += text.split(' ').next().and_then(|first| first.parse::<f64>().ok()).unwrap_or(0.0);
    }
    Ok(nanoseconds / 1e9)
}

/// Resident memory of a process, in bytes.
pub fn resident(pid: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("no VmRSS"))
}

/// The memory in use by the server's own count, in bytes.
pub fn used_memory(server: &Server) -> io::Result<u64> {
    info(server, "memory", "used_memory")
}

/// A number of INFO.
pub fn info(server: &Server, section: &str, field: &str) -> io::Result<u64> {
    let reply = Client::connect(&server.address())?.call(&["INFO", section])?;
    let text = String::from_utf8_lossy(reply.bytes().unwrap_or_default()).into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().parse().ok());
    value.ok_or_else(|| io::Error::other(format!("no {field} in INFO {section}")))
}
