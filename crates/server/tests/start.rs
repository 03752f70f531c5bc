//! The binary, from its command line to its end.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A folder of its own for one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("kelda-start-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("writes");
        path
    }
    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a plain path").to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn command(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kelda-server"));
    command.args(arguments).current_dir(&folder.0).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a server that ends by itself: whether it ended well, its log, and what it said on standard error.
fn fails(folder: &Folder, arguments: &[&str]) -> (bool, String, String) {
    let output = command(folder, arguments).output().expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

struct Running {
    child: Child,
    log: BufReader<ChildStdout>,
    /// The log up to the line that says that clients are welcome.
    start: String,
}

fn starts(folder: &Folder, arguments: &[&str]) -> Running {
    let mut child = command(folder, arguments).spawn().expect("runs");
    let mut log = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut start = String::new();
    while !start.contains("Ready to accept connections") {
        assert_ne!(log.read_line(&mut start).expect("reads"), 0, "ended: {start}");
    }
    Running { child, log, start }
}

impl Running {
    /// Ends the server and returns the rest of its log.
    fn end(mut self, signal: Signal) -> String {
        kill_process(Pid::from_child(&self.child), signal).expect("is there");
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("reads");
        assert!(self.child.wait().expect("ends").success(), "{rest}");
        rest
    }
}

/// A port that nobody listens on now.
fn free_port() -> String {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("an address").port().to_string()
}

#[test]
fn starts_says_so_and_ends_cleanly() {
    let folder = Folder::new("clean");
    let (socket, pidfile, port) = (folder.path("socket"), folder.path("pid"), free_port());
    let options = ["--bind", "127.0.0.1", "--port", &port, "--threads", "2", "--unixsocket", &socket];
    let options = [&options[..], &["--unixsocketperm", "700", "--pidfile", &pidfile, "--save", ""]].concat();
    // Only root may give a file to a group that is not its own.
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::metadata(folder.path(".")).expect("a folder").gid();
    let (name, number) = if own == 0 { ("daemon".to_string(), 1) } else { (own.to_string(), own) };
    let options = [&options[..], &["--unixsocketgroup", &name]].concat();
    let mut server = starts(&folder, &options);
    let id = server.child.id();
    assert_eq!(std::fs::read_to_string(&pidfile).expect("a pid file"), format!("{id}\n"));
    let expected = [
        format!("2 threads, PID: {id}\n"),
        format!("port={port}."),
        format!("Data is kept in {}", folder.path("appendonlydir")),
        format!("{id}:M "),
        "* Server initialized\n".into(),
    ];
    for text in expected {
        assert!(server.start.contains(&text), "{text}: {}", server.start);
    }
    server.log.read_line(&mut server.start).expect("reads");
    assert!(server.start.ends_with("Ready to accept connections unix\n"), "{}", server.start);
    use std::os::unix::fs::PermissionsExt;
    let socket_file = std::fs::metadata(&socket).expect("a socket");
    assert_eq!((socket_file.permissions().mode() & 0o777, socket_file.gid()), (0o700, number));
    let _tcp = TcpStream::connect(("127.0.0.1", port.parse().expect("a port"))).expect("connects");
    let _unix = UnixStream::connect(&socket).expect("connects");
    let rest = server.end(Signal::TERM);
    for text in ["# Received SIGTERM scheduling shutdown...", "# User requested shutdown...", "bye bye..."] {
        assert!(rest.contains(text), "{text}: {rest}");
    }
    assert!(!std::fs::exists(&pidfile).expect("asks") && !std::fs::exists(&socket).expect("asks"));
}

#[test]
fn a_script_without_end_does_not_keep_the_server_from_ending() {
    let folder = Folder::new("endless");
    let port = free_port();
    let options = ["--bind", "127.0.0.1", "--port", &port, "--threads", "2", "--busy-reply-threshold", "1"];
    let server = starts(&folder, &options);
    let connect = || TcpStream::connect(format!("127.0.0.1:{port}")).expect("connects");
    let mut scripted = connect();
    scripted.write_all(b"EVAL \"redis.call('set', KEYS[1], 1) while true do end\" 1 k\r\n").expect("sends");
    let mut other = BufReader::new(connect());
    let mut answer = String::new();
    while !answer.starts_with("-BUSY") {
        other.get_mut().write_all(b"EXISTS k\r\n").expect("sends");
        answer.clear();
        other.read_line(&mut answer).expect("an answer");
    }
    let log = server.end(Signal::TERM);
    assert!(log.contains("ready to exit"), "{log}");
}

#[test]
fn who_was_cut_off_at_the_end_finds_nobody_listening() {
    let folder = Folder::new("deaf");
    let (port, socket) = (free_port(), folder.path("socket"));
    let options = ["--bind", "127.0.0.1", "--port", &port, "--threads", "2", "--unixsocket", &socket];
    let server = starts(&folder, &options);
    let address = format!("127.0.0.1:{port}");
    // One on each thread.
    let mut clients = [0; 2].map(|_| TcpStream::connect(&address).expect("connects"));
    for client in &mut clients {
        client.write_all(b"PING\r\n").expect("sends");
        client.read_exact(&mut [0; 7]).expect("an answer");
    }
    clients[1].write_all(b"SHUTDOWN NOSAVE\r\n").expect("sends");
    for client in &mut clients {
        assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
        assert!(TcpStream::connect(&address).is_err() && UnixStream::connect(&socket).is_err());
    }
    let mut rest = String::new();
    let Running { mut child, mut log, .. } = server;
    log.read_to_string(&mut rest).expect("reads");
    assert!(child.wait().expect("ends").success(), "{rest}");
}

#[test]
fn options_win_over_the_file_and_its_includes() {
    let folder = Folder::new("options");
    let wrong = free_port();
    let right = free_port();
    folder.write("b1.inc", "threads 3\n");
    folder.write("b2.inc", &format!("bind 127.0.0.1\nport {wrong}\nlogfile never.log\n"));
    let file = folder.write("a.conf", "include b?.inc\nlogfile ''\n");
    let server = starts(&folder, &[&file, "--port", &right]);
    assert!(server.start.contains("3 threads") && server.start.contains(&format!("port={right}.")), "{}", server.start);
    assert!(server.end(Signal::INT).contains("Received SIGINT scheduling shutdown"));
}

#[test]
fn what_is_not_obeyed_is_said_without_secrets() {
    let folder = Folder::new("unobeyed");
    let file = folder.write("a.conf", "loadmodule /some.so secret\nbind 127.0.0.1\n");
    let server = starts(&folder, &[&file, "--port", &free_port()]);
    assert!(server.start.contains("'loadmodule /some.so ...'"), "{}", server.start);
    assert!(!server.start.contains("secret"), "{}", server.start);
    server.end(Signal::TERM);
}

#[test]
fn the_log_can_go_to_a_file_in_dir() {
    let folder = Folder::new("log");
    std::fs::create_dir(folder.path("data")).expect("a folder");
    let socket = folder.path("socket");
    let options = ["--port", "0", "--unixsocket", &socket, "--dir", "data", "--logfile", "my.log"];
    let child = command(&folder, &options).spawn().expect("runs");
    let log = || std::fs::read_to_string(folder.path("data/my.log")).unwrap_or_default();
    while !log().contains("Ready to accept connections unix") {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::TERM).expect("is there");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success() && output.stdout.is_empty());
    assert!(log().contains("bye bye"));
}

#[test]
fn says_why_it_does_not_start() {
    let folder = Folder::new("refusals");
    let file = folder.write("a.conf", "# x\n\nport 0\nnosuch 1\n");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let on_stderr: &[(&[&str], &str)] = &[
        (&[&file], "at line 4 of "),
        (&[&file], "\n>>> 'nosuch 1'\nBad directive or wrong number of arguments\n"),
        (&["--port", "1", "2"], ">>> 'port \"1\" \"2\"'\nwrong number of arguments"),
        (&["--dir", "/nosuch/dir"], ">>> 'dir /nosuch/dir'\nNo such file or directory"),
        (&["--logfile", "/nosuch/file"], "Can't open the log file '/nosuch/file': No such file or directory"),
        (&["--test-memory", "9"], "not supported"),
    ];
    for (arguments, text) in on_stderr {
        let (well, _, said) = fails(&folder, arguments);
        assert!(!well && said.contains(text), "{arguments:?}: {said}");
    }
    let in_log: &[(&[&str], &str)] = &[
        (&["/nosuch.conf"], "can't open config file '/nosuch.conf': No such file or directory"),
        (&["--port", "0"], "Configured to not listen anywhere, exiting."),
        (&["--bind", "127.0.0.1", "--port", &port], ": bind: Address already in use\n"),
        (&["--bind", "127.0.0.1", "--port", &port], "# Failed listening on port "),
        (&["--bind", "192.0.2.77", "--port", &port], "192.0.2.77:"),
        (&["--port", "0", "--unixsocket", "/nosuch/socket"], "Failed opening Unix socket: bind: No such file"),
        (&["--port", "0", "--unixsocket", "socket", "--unixsocketgroup", "no such group"], "no group no such group"),
    ];
    for (arguments, text) in in_log {
        let (well, log, _) = fails(&folder, arguments);
        assert!(!well && log.contains(text), "{arguments:?}: {log}");
    }
    let (well, said, _) = fails(&folder, &["--version"]);
    assert!(well && said.starts_with("Kelda server v="), "{said}");
}

#[test]
fn addresses_that_are_missing_may_be_optional() {
    let folder = Folder::new("optional");
    let port = free_port();
    let server = starts(&folder, &["--bind", "-192.0.2.77", "127.0.0.1", "--port", &port]);
    assert!(server.start.contains("192.0.2.77") && server.start.contains("Cannot assign requested address"));
    server.end(Signal::TERM);
}
