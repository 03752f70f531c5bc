//! The loop over real sockets, with sessions that echo.

use super::*;
use crate::echo::Echo;
use crate::listen::open_tcp;
use crate::seat::Seat;
use crate::threads::drive;
use kelda_engine::config::{Config, NoEffects, Settings};
use kelda_engine::worker::Peer;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// A listening socket on a port that the system chose.
fn listener() -> (Listener, SocketAddr) {
    let settings = Settings { port: 0, ..Settings::default() };
    let listener = open_tcp("127.0.0.1", &settings).expect("a port");
    let address = rustix::net::getsockname(&listener.fd).expect("an address");
    (listener, SocketAddr::try_from(address).expect("an IP address"))
}

fn start(threads: usize, clients_per_thread: usize) -> Server {
    let (listener, address) = listener();
    let config = Arc::new(ConfigHandle::new(Config::default(), Box::new(NoEffects)));
    let (shared, loops, drivers) = event_loops(threads, config, vec![listener]).expect("loops");
    let seat = |event_loop| Seat::new(event_loop, Echo::new(clients_per_thread));
    let seats: Arc<Vec<_>> = Arc::new(loops.into_iter().map(seat).collect());
    let run = |driver| {
        let (shared, seats) = (shared.clone(), seats.clone());
        std::thread::spawn(move || drive(&shared, &seats, driver))
    };
    let threads = drivers.into_iter().map(run).collect();
    Server { address, shared, threads }
}

impl Server {
    fn client(&self) -> BufReader<TcpStream> {
        client_of(self.address)
    }

    /// Ends the server; fails if one of its threads did.
    fn stop(self) {
        self.shared.stop();
        for thread in self.threads {
            thread.join().expect("no thread panicked");
        }
    }
}

fn client_of(address: SocketAddr) -> BufReader<TcpStream> {
    let socket = TcpStream::connect(address).expect("connects");
    // A failure instead of a test that hangs.
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    socket.set_nodelay(true).expect("no delay");
    BufReader::new(socket)
}

fn send(client: &mut BufReader<TcpStream>, text: &str) {
    client.get_mut().write_all(text.as_bytes()).expect("sends");
}

fn line(client: &mut BufReader<impl Read>) -> String {
    let mut line = String::new();
    client.read_line(&mut line).expect("a line in time");
    line
}

fn rest(client: &mut BufReader<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset counts as an end: the server closed with input unread.
    let _ = client.read_to_end(&mut bytes);
    bytes
}

#[test]
fn bytes_come_back_however_they_are_cut() {
    let server = start(1, 10);
    let mut client = server.client();
    for byte in b"one\ntwo\n" {
        client.get_mut().write_all(&[*byte]).expect("sends");
    }
    assert_eq!((line(&mut client), line(&mut client)), ("one\n".into(), "two\n".into()));
    send(&mut client, "a\nb\nhal");
    assert_eq!((line(&mut client), line(&mut client)), ("a\n".into(), "b\n".into()));
    send(&mut client, "f\n");
    assert_eq!(line(&mut client), "half\n");
    server.stop();
}

#[test]
fn a_thousand_connections_are_spread_evenly() {
    let server = start(3, 1000);
    let mut clients: Vec<_> = (0..999).map(|_| server.client()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        send(client, &format!("hello {at}\n"));
    }
    for (at, client) in clients.iter_mut().enumerate() {
        assert_eq!(line(client), format!("hello {at}\n"));
    }
    let counts = |server: &Server| -> Vec<usize> {
        server.shared.mailboxes.iter().map(|m| m.connections.load(Ordering::Relaxed)).collect()
    };
    assert_eq!(counts(&server), [333, 333, 333]);
    // Those that leave make room where they were.
    for client in clients.drain(..300) {
        let mut client = client;
        client.get_mut().shutdown(Shutdown::Write).expect("shuts down");
        assert_eq!(rest(&mut client), b"");
    }
    let mut more: Vec<_> = (0..300).map(|_| server.client()).collect();
    for client in &mut more {
        send(client, "x\n");
        assert_eq!(line(client), "x\n");
    }
    assert_eq!(counts(&server), [333, 333, 333]);
    server.stop();
}

#[test]
fn a_half_closed_client_gets_all_it_asked_for() {
    let server = start(2, 10);
    let client = server.client();
    let text = "0123456789abcde\n".repeat(256 * 1024);
    let mut socket = client.get_ref().try_clone().expect("clones");
    let sent = text.clone();
    let writer = std::thread::spawn(move || {
        socket.write_all(sent.as_bytes()).expect("sends");
        socket.shutdown(Shutdown::Write).expect("shuts down");
    });
    let mut client = client;
    assert!(rest(&mut client) == text.as_bytes());
    writer.join().expect("writer");
    let mut client = server.client();
    send(&mut client, "!big 20000000\n");
    client.get_mut().shutdown(Shutdown::Write).expect("shuts down");
    assert_eq!(rest(&mut client).len(), 20_000_000 + 5);
    server.stop();
}

#[test]
fn what_a_client_sent_is_run_though_it_hung_up_and_was_put_aside() {
    let server = start(1, 10);
    let mut client = server.client();
    send(&mut client, "!later x\n");
    client.get_ref().shutdown(Shutdown::Write).expect("a half-close");
    let mut other = server.client();
    // Several turns, in which the loop sees the end of the first client's input.
    for _ in 0..5 {
        send(&mut other, "a\n");
        assert_eq!(line(&mut other), "a\n");
    }
    send(&mut other, "!go\n");
    assert_eq!(rest(&mut client), b"x\n");
    server.stop();
}

#[test]
fn a_pipeline_longer_than_all_buffers_is_served_while_the_client_only_writes() {
    let server = start(1, 10);
    let mut client = server.client();
    let text = "0123456789abcde\n".repeat(1024 * 1024);
    send(&mut client, &text); // the server must go on reading although nobody takes its output
    let mut got = vec![0; text.len()];
    client.read_exact(&mut got).expect("all of it");
    assert!(got == text.as_bytes());
    server.stop();
}

#[test]
fn a_large_reply_does_not_hold_up_others() {
    let server = start(1, 10);
    let (mut large, mut small) = (server.client(), server.client());
    send(&mut large, "!big 50000000\n");
    // Nothing of the large reply is read until the other client had its turns.
    for turn in 0..100 {
        send(&mut small, &format!("{turn}\n"));
        assert_eq!(line(&mut small), format!("{turn}\n"));
    }
    let mut bytes = vec![0; 50_000_000];
    large.read_exact(&mut bytes).expect("all of it");
    assert!(bytes.iter().all(|b| *b == b'x'));
    assert_eq!(line(&mut large), "done\n");
    server.stop();
}

#[test]
fn a_long_command_lets_others_be_served() {
    let server = start(1, 10);
    let (mut long, mut other, mut leaver) = (server.client(), server.client(), server.client());
    send(&mut leaver, "x\n");
    assert_eq!(line(&mut leaver), "x\n");
    send(&mut long, "before\n!nest\nafter\n");
    send(&mut other, "a\n");
    assert_eq!(line(&mut other), "a\n");
    send(&mut long, "later\n"); // arrives while its session is under way
    send(&mut other, "!all\n"); // gives output to the session that is under way
    assert_eq!(line(&mut other), "all\n");
    leaver.get_mut().shutdown(Shutdown::Write).expect("shuts down");
    assert_eq!(rest(&mut leaver), b"all\n");
    let mut newcomer = server.client();
    send(&mut newcomer, "b\n");
    assert_eq!(line(&mut newcomer), "b\n");
    send(&mut newcomer, "!go\n");
    assert_eq!(line(&mut newcomer), "done\n");
    let lines: Vec<String> = (0..5).map(|_| line(&mut long)).collect();
    assert_eq!(lines, ["before\n", "all\n", "done\n", "after\n", "later\n"]);
    server.stop();
}

#[test]
fn long_commands_nest() {
    let server = start(1, 10);
    let (mut first, mut second, mut third) = (server.client(), server.client(), server.client());
    send(&mut first, "!nest\n");
    send(&mut second, "!nest\n");
    send(&mut third, "!go\n");
    assert_eq!(line(&mut third), "done\n");
    send(&mut third, "!go\n");
    assert_eq!(line(&mut third), "done\n");
    assert_eq!((line(&mut first), line(&mut second)), ("done\n".into(), "done\n".into()));
    server.stop();
}

#[test]
fn fates_are_carried_out() {
    let server = start(1, 10);
    let mut client = server.client();
    send(&mut client, "a\n!big 3000000\n!quit\n");
    let bytes = rest(&mut client);
    assert_eq!((bytes.len(), bytes.ends_with(b"done\n")), (3_000_000 + 5 + 5, true));
    let mut client = server.client();
    send(&mut client, "a\n!drop\n");
    assert_eq!(rest(&mut client), b"");
    let mut client = server.client();
    send(&mut client, "still there\n");
    assert_eq!(line(&mut client), "still there\n");
    server.stop();
}

#[test]
fn clients_that_vanish_leave_nothing() {
    let server = start(1, 3);
    for _ in 0..50 {
        let mut client = server.client();
        send(&mut client, "!big 5000000\n");
        assert!(client.fill_buf().expect("some output").starts_with(b"x"));
        drop(client); // with output unread: the server gets a reset
        // Room for the next is there at once or soon: the reset is an event of its own.
        let mut probe = server.client();
        send(&mut probe, "x\n");
        assert_eq!(line(&mut probe), "x\n");
    }
    server.stop();
}

#[test]
fn too_many_clients_are_told() {
    let server = start(1, 2);
    let mut clients = [server.client(), server.client()];
    for client in &mut clients {
        send(client, "x\n");
        assert_eq!(line(client), "x\n");
    }
    assert_eq!(rest(&mut server.client()), b"-ERR max number of clients reached\r\n");
    send(&mut clients[0], "x\n");
    assert_eq!(line(&mut clients[0]), "x\n");
    server.stop();
}

#[test]
fn protected_mode_refuses_those_from_elsewhere() {
    let server = start(1, 10);
    let hand_over = |local: bool| {
        let (mine, theirs) = UnixStream::pair().expect("a pair");
        theirs.set_nonblocking(true).expect("non-blocking");
        let peer = Peer { addr: "192.0.2.1:5".into(), fd: theirs.as_raw_fd(), ..Peer::default() };
        let mailbox = &server.shared.mailboxes[0];
        mailbox.connections.fetch_add(1, Ordering::Relaxed);
        mailbox.post(|post| post.accepted.push(Accepted { fd: theirs.into(), peer, local }));
        mine.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        BufReader::new(mine)
    };
    assert!(rest(&mut hand_over(false)).starts_with(b"-DENIED Redis is running in protected mode"));
    let mut friend = hand_over(true);
    friend.get_mut().write_all(b"x\n").expect("sends");
    assert_eq!(line(&mut friend), "x\n");
    server.shared.config.set(&[("protected-mode", "no")], true).expect("sets");
    let mut stranger = hand_over(false);
    stranger.get_mut().write_all(b"x\n").expect("sends");
    assert_eq!(line(&mut stranger), "x\n");
    server.stop();
}

#[test]
fn listening_sockets_can_be_replaced() {
    let server = start(2, 10);
    let mut old = server.client();
    send(&mut old, "x\n");
    assert_eq!(line(&mut old), "x\n");
    let (listener, address) = listener();
    server.shared.replace_tcp_listeners(vec![listener]);
    let mut new = client_of(address);
    send(&mut new, "y\n");
    assert_eq!(line(&mut new), "y\n");
    assert!(TcpStream::connect(server.address).is_err());
    send(&mut old, "z\n");
    assert_eq!(line(&mut old), "z\n");
    server.stop();
}

#[test]
fn stopping_sends_what_is_left() {
    let server = start(2, 10);
    let mut client = server.client();
    send(&mut client, "x\n");
    assert_eq!(line(&mut client), "x\n");
    server.stop();
    assert_eq!(rest(&mut client), b"");
}

#[test]
fn loops_go_from_thread_to_thread_under_load() {
    let server = start(3, 100);
    let mut clients: Vec<_> = (0..30).map(|_| server.client()).collect();
    for round in 0..1000 {
        let active = |at: usize| [3, 1, 2, 1][(round + at) % 4];
        for (at, client) in clients.iter_mut().enumerate() {
            send(client, &format!("{round} {at}\n"));
            // Some rounds change twice, back to what was: who looks late must notice that, too.
            if at == round % 30 || at == round % 15 {
                server.shared.set_active(active(at));
            }
        }
        for (at, client) in clients.iter_mut().enumerate() {
            assert_eq!(line(client), format!("{round} {at}\n"));
        }
    }
    // Parked threads end, too.
    server.shared.set_active(1);
    server.stop();
}

/// One of two clients, on different loops, is behind a command that ends when the other has been served and says so.
fn stuck(server: &Server, which: usize) {
    let mut clients = [server.client(), server.client()];
    for client in &mut clients {
        send(client, "x\n");
        assert_eq!(line(client), "x\n");
    }
    server.shared.roster.wait_for(1);
    // Nobody looks after a server without traffic.
    while !server.shared.roster.is_at_rest() {
        std::thread::yield_now();
    }
    let [first, second] = &mut clients;
    let (kept, other) = if which == 0 { (first, second) } else { (second, first) };
    send(kept, "!stuck\n");
    for _ in 0..10 {
        send(other, "y\n");
        assert_eq!(line(other), "y\n");
    }
    send(other, "!unstick\n");
    assert_eq!(line(other), "done\n");
    assert_eq!(line(kept), "done\n");
    assert_eq!(server.shared.roster.plan().active(), 2);
    for client in [kept, other] {
        send(client, "z\n");
        assert_eq!(line(client), "z\n");
    }
}

#[test]
fn a_long_command_keeps_no_other_loop() {
    for which in [0, 1] {
        let server = start(2, 10);
        let steering = std::thread::spawn({
            let shared = server.shared.clone();
            move || crate::steering::steer(&shared)
        });
        stuck(&server, which);
        server.stop();
        steering.join().expect("steering");
    }
}
