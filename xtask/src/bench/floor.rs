//! `cargo xtask bench floor`: what is left to gain. A server that parses nothing and answers every request with the same value
//! stands beside Kelda and Valkey: it waits for events, receives and sends as they do, and nothing else. No server that reads and
//! writes its sockets one by one gets below what it costs.

use super::numbers;
use super::process::start;
use super::workload::{Figures, Process, Rounds, SMALL, Sizes, refill, take_turns};
use crate::Outcome;
use kelda_sim::server::Kind;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const HELP: &str = "\
cargo xtask bench floor [options]     (build the server first: cargo build --release)
  --pipelines 1,16,64  GETs sent at once on a connection
  --keys N             keys preloaded (1000000)
  --rounds N           rounds of each server (7)
  --seconds F          length of a round (0.5)
  --connections N      connections (50)
  --threads N          Kelda's threads (1: the server at the floor has one)";

/// The word with which the benchmark starts its own server.
const SERVE: &str = "serve";
/// Bytes of a value.
const VALUE: usize = 64;

/// `cargo xtask bench floor`
pub fn floor(args: &[String]) -> Outcome {
    if args.first().is_some_and(|word| word == SERVE) {
        return serve().map_err(|e| format!("the server at the floor: {e}"));
    }
    let mut rounds = Rounds { count: 7, length: Duration::from_millis(500), connections: 50 };
    let (mut pipelines, mut threads) = (vec![1, 16, 64], "1".to_owned());
    let mut sizes = Sizes { keys: 1_000_000, elements: 0 };
    for pair in args.chunks(2) {
        let [name, value] = pair else { return Err(HELP.into()) };
        match name.as_str() {
            "--pipelines" => pipelines = numbers(value)?,
            "--keys" => sizes.keys = value.parse().map_err(|_| HELP)?,
            "--rounds" => rounds.count = value.parse().map_err(|_| HELP)?,
            "--seconds" => rounds.length = Duration::from_secs_f64(value.parse().map_err(|_| HELP)?),
            "--connections" => rounds.connections = value.parse().map_err(|_| HELP)?,
            "--threads" => threads.clone_from(value),
            _ => return Err(HELP.into()),
        }
    }
    let in_io = |e: io::Error| format!("benchmark: {e}");
    let servers = start(&[Kind::Kelda, Kind::Valkey], &["--threads", &threads], &[])?;
    refill(&servers, sizes, &"x".repeat(VALUE)).map_err(in_io)?;
    let bare = Bare::start().map_err(in_io)?;
    let mut processes = vec![Process { port: bare.port, pid: bare.child.id() }];
    processes.extend(servers.iter().map(Process::of));
    let names: Vec<&str> = std::iter::once("floor").chain(servers.iter().map(|server| server.kind.name())).collect();
    println!(
        "GET of {VALUE} bytes, one of {} keys, {} connections; µs of CPU for each\n",
        sizes.keys, rounds.connections
    );
    println!("| P | {} |", names.iter().map(|name| format!("{name} | of the floor")).collect::<Vec<_>>().join(" | "));
    println!("|--:|{}", "--:|--:|".repeat(names.len()));
    let get = SMALL.iter().find(|test| test.name == "get").ok_or("no test of GET")?;
    for pipeline in pipelines {
        let figures = take_turns(&processes, get, pipeline, rounds, sizes, VALUE).map_err(in_io)?;
        let least = figures[0].cpu();
        let cell = |figures: &Figures| format!("{:.3} | {:.2}", figures.cpu(), figures.cpu() / least);
        println!("| {pipeline} | {} |", figures.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
    Ok(())
}

/// The server at the floor, a process of its own.
struct Bare {
    child: Child,
    port: u16,
}

impl Bare {
    fn start() -> io::Result<Bare> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(["bench", "floor", SERVE]).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let port = line.trim().parse().map_err(|_| io::Error::other("it told no port"))?;
        Ok(Bare { child, port })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until it is killed. Tells its port first.
fn serve() -> io::Result<()> {
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    println!("{}", listener.local_addr()?.port());
    let reply = format!("${VALUE}\r\n{}\r\n", "x".repeat(VALUE));
    let replies = reply.repeat(10_000);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    poll.registry().register(&mut listener, Token(0), Interest::READABLE)?;
    let mut clients: HashMap<Token, TcpStream> = HashMap::new();
    let mut input = vec![0; 1 << 20];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == Token(0) {
                while let Ok((mut client, _)) = listener.accept() {
                    client.set_nodelay(true)?;
                    let token = Token(clients.len() + 1);
                    poll.registry().register(&mut client, token, Interest::READABLE)?;
                    clients.insert(token, client);
                }
            } else if let Some(client) = clients.get_mut(&event.token())
                && let Ok(bytes) = client.read(&mut input)
            {
                // Keys and names of commands have no asterisk: there is one for each request.
                let requests = input[..bytes].iter().filter(|&&byte| byte == b'*').count();
                // The load generator reads before it sends more: what is sent fits the socket's buffer.
                let _ = client.write(&replies.as_bytes()[..requests * reply.len()]);
            }
        }
    }
}
