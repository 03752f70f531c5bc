//! Conversations: files of commands and the replies they must get, the same for Kelda in process (with a fake clock)
//! and for real servers over a connection.
//!
//! ```text
//! == a title: a new section begins with an empty keyspace, new clients and RESP2
//! # a comment
//! > SET a 1
//! OK
//! @client b            from here on as client b ("a" is the first)
//! @resp 3              this client says HELLO 3
//! @unordered           the next reply may have its elements in any order
//! @only valkey,redis WHY   the next command (or, before "==", the whole section) is for these servers only
//! @advance 1500ms      the clock moves on; a real server cannot do that, and skips the rest of the section …
//! @advance 20ms real   … but for so short a time we wait
//! @blocks              the next command blocks: it has no reply yet
//! @receive             the reply that a blocked command got, or a push message
//! @raw "PING\r\n"      bytes as they are; then the reply
//! @closed              the server has closed this client's connection
//! ```
//! Replies are in the [`notation`](crate::notation). `cargo xtask record` fills them in from Valkey.

use crate::client::Client;
use crate::notation::{self, Expected};
use crate::server::Kind;
use crate::value::{Value, write_request};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

/// Something to converse with: a real server, or the engine in process.
pub trait Conversant {
    /// Which product answers; decides what `@only` lets through.
    fn kind(&self) -> Kind;
    /// A new section: an empty keyspace and script cache, no clients.
    ///
    /// # Errors
    /// Those of the connection.
    fn reset(&mut self) -> io::Result<()>;
    /// Bytes from `client`, which connects by its first.
    ///
    /// # Errors
    /// Those of the connection.
    fn send(&mut self, client: &str, bytes: &[u8]) -> io::Result<()>;
    /// The next reply or push to `client`; `UnexpectedEof` when its connection was closed by the server.
    ///
    /// # Errors
    /// Those of the connection, or when nothing comes.
    fn receive(&mut self, client: &str) -> io::Result<Value>;
    /// As [`send`](Conversant::send), but returns only when the server has begun to wait on the command's behalf.
    ///
    /// # Errors
    /// Those of the connection.
    fn send_blocking(&mut self, client: &str, bytes: &[u8]) -> io::Result<()>;
    /// Moves the clock on by `ms`; false where the clock cannot be moved.
    fn advance(&mut self, ms: u64) -> bool;
}

/// A parsed file.
#[derive(Debug)]
pub struct Conversation {
    items: Vec<Item>,
}

#[derive(Debug)]
enum Item {
    /// Lines that only people read.
    Text(String),
    /// `@only …`, about the item that follows.
    Only(Vec<String>, String),
    /// `@unordered`, about the reply that follows.
    Unordered,
    Step(Step),
}

#[derive(Debug)]
struct Step {
    line: usize,
    text: String,
    action: Action,
    expected: Option<Expected>,
}

#[derive(Debug, PartialEq)]
enum Action {
    Section,
    Client(String),
    Resp(String),
    Advance { ms: u64, real: bool },
    Blocks,
    Command(Vec<Vec<u8>>),
    Raw(Vec<u8>),
    Receive,
    Closed,
}

impl Action {
    fn has_reply(&self) -> bool {
        matches!(self, Action::Command(_) | Action::Raw(_) | Action::Receive)
    }
}

/// Which replies of a run become expectations.
#[derive(Clone, Copy, PartialEq)]
enum Recording {
    Nothing,
    Missing,
    All,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Replies that were as expected.
    pub passed: usize,
    /// Replies not asked for: for other servers, or after a clock that could not be moved.
    pub skipped: usize,
    /// Each with its line in the file.
    pub failures: Vec<(usize, String)>,
}

impl Conversation {
    /// Reads a file's text.
    ///
    /// # Errors
    /// With the line and what is wrong in it.
    pub fn parse(text: &str) -> Result<Conversation, String> {
        let lines: Vec<&str> = text.lines().collect();
        let mut rest = &lines[..];
        let mut items = Vec::new();
        let mut after_blocks = false;
        while let Some((text, after)) = rest.split_first() {
            let line = lines.len() - rest.len() + 1;
            rest = after;
            let at_line = |message: String| format!("line {line}: {message}");
            let mut item = parse_line(line, text).map_err(at_line)?;
            if let Item::Step(step) = &mut item {
                let has_reply = step.action.has_reply() && !after_blocks;
                if has_reply && rest.first().is_some_and(|next| is_reply(next)) {
                    step.expected = Some(notation::parse(&mut rest, 0).map_err(at_line)?);
                }
                after_blocks = step.action == Action::Blocks;
            }
            items.push(item);
        }
        Ok(Conversation { items })
    }

    /// Runs the whole conversation and compares.
    ///
    /// # Errors
    /// When the connection fails in a way that no step expects.
    pub fn run(&mut self, on: &mut dyn Conversant) -> io::Result<Outcome> {
        self.play(on, Recording::Nothing)
    }

    /// Runs the conversation and takes the replies as the expectations, except where a pattern matches.
    ///
    /// # Errors
    /// As [`run`](Conversation::run).
    pub fn record(&mut self, on: &mut dyn Conversant) -> io::Result<Outcome> {
        self.play(on, Recording::All)
    }

    /// As [`run`](Conversation::run), but takes the replies where none are recorded: for what only this server answers.
    ///
    /// # Errors
    /// As [`run`](Conversation::run).
    pub fn record_missing(&mut self, on: &mut dyn Conversant) -> io::Result<Outcome> {
        self.play(on, Recording::Missing)
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for item in &self.items {
            // Writing to a String cannot fail.
            let _ = match item {
                Item::Text(text) => writeln!(out, "{text}"),
                Item::Only(kinds, reason) => writeln!(out, "@only {} {reason}", kinds.join(",")),
                Item::Unordered => writeln!(out, "@unordered"),
                Item::Step(step) => {
                    let expected = step.expected.as_ref().map(notation::format).unwrap_or_default();
                    writeln!(out, "{}", step.text).and_then(|()| write!(out, "{expected}"))
                }
            };
        }
        out
    }

    fn play(&mut self, on: &mut dyn Conversant, recording: Recording) -> io::Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut client = String::from("a");
        let (mut only_others, mut unordered, mut skipping, mut blocks) = (false, false, false, false);
        on.reset()?;
        for item in &mut self.items {
            let step = match item {
                Item::Text(_) => continue,
                Item::Only(kinds, _) => {
                    only_others = !kinds.iter().any(|kind| kind == on.kind().name());
                    continue;
                }
                Item::Unordered => {
                    unordered = true;
                    continue;
                }
                Item::Step(step) => step,
            };
            let for_others = std::mem::take(&mut only_others);
            let any_order = std::mem::take(&mut unordered);
            if step.action == Action::Section {
                skipping = for_others;
                blocks = false;
                client = "a".into();
                on.reset()?;
                continue;
            }
            if skipping || for_others {
                outcome.skipped += usize::from(step.action.has_reply());
                continue;
            }
            let actual = match &step.action {
                Action::Section => continue,
                Action::Client(name) => {
                    client.clone_from(name);
                    continue;
                }
                Action::Advance { ms, real } => {
                    if *real && on.kind() != Kind::Kelda || !on.advance(*ms) {
                        skipping = !real;
                        std::thread::sleep(Duration::from_millis(if *real { *ms } else { 0 }));
                    }
                    continue;
                }
                Action::Blocks => {
                    blocks = true;
                    continue;
                }
                Action::Resp(version) => {
                    on.send(&client, &request(&["HELLO", version]))?;
                    on.receive(&client)?;
                    continue;
                }
                Action::Closed => {
                    match on.receive(&client) {
                        Err(e) if is_closed(&e) => outcome.passed += 1,
                        Err(e) => return Err(e),
                        Ok(value) => {
                            let got = format!("closed expected, got\n{}", notation::format_value(&value));
                            outcome.failures.push((step.line, got));
                        }
                    }
                    continue;
                }
                Action::Command(args) if std::mem::take(&mut blocks) => {
                    on.send_blocking(&client, &request(args))?;
                    continue;
                }
                Action::Command(args) => on.send(&client, &request(args)).and_then(|()| on.receive(&client)),
                Action::Raw(bytes) => on.send(&client, bytes).and_then(|()| on.receive(&client)),
                Action::Receive => on.receive(&client),
            };
            let actual =
                actual.map_err(|e| io::Error::new(e.kind(), format!("line {}: {}: {e}", step.line, step.text)))?;
            match &step.expected {
                Some(expected) if expected.matches(&actual, any_order) => outcome.passed += 1,
                expected if recording == Recording::All || recording == Recording::Missing && expected.is_none() => {
                    step.expected = Some(Expected::from(&actual));
                    outcome.passed += 1;
                }
                expected => {
                    let expected = expected.as_ref().map_or_else(|| "nothing recorded\n".into(), notation::format);
                    let actual = notation::format_value(&actual);
                    outcome.failures.push((step.line, format!("{}\nexpected {expected}actually {actual}", step.text)));
                }
            }
        }
        Ok(outcome)
    }
}

/// Whether a line begins a reply, rather than the next item.
fn is_reply(line: &str) -> bool {
    !(line.is_empty() || line.starts_with("> ") || line.starts_with(['@', '#']) || line.starts_with("=="))
}

/// Whether `error` means that the other side closed.
fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

fn request<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut out = Vec::new();
    write_request(args, &mut out);
    out
}

fn parse_line(line: usize, text: &str) -> Result<Item, String> {
    let step = |action| Ok(Item::Step(Step { line, text: text.into(), action, expected: None }));
    if text.is_empty() || text.starts_with('#') {
        return Ok(Item::Text(text.into()));
    }
    if text.starts_with("==") {
        return step(Action::Section);
    }
    if let Some(command) = text.strip_prefix("> ") {
        return step(Action::Command(notation::split_arguments(command)?));
    }
    let (directive, rest) = text.split_once(' ').unwrap_or((text, ""));
    match directive {
        "@unordered" => Ok(Item::Unordered),
        "@only" => {
            let (kinds, reason) = rest.split_once(' ').ok_or("@only needs servers and a reason")?;
            Ok(Item::Only(kinds.split(',').map(str::to_owned).collect(), reason.into()))
        }
        "@client" => step(Action::Client(rest.into())),
        "@resp" => step(Action::Resp(rest.into())),
        "@advance" => {
            let real = rest.ends_with(" real");
            let ms = rest.trim_end_matches(" real").strip_suffix("ms").and_then(|ms| ms.parse().ok());
            step(Action::Advance { ms: ms.ok_or("@advance needs a time such as 1500ms")?, real })
        }
        "@blocks" => step(Action::Blocks),
        "@receive" => step(Action::Receive),
        "@closed" => step(Action::Closed),
        "@raw" => step(Action::Raw(notation::split_arguments(rest)?.concat())),
        _ => Err(format!("neither a command, a directive nor a reply: {text}")),
    }
}

/// A real server as a conversant.
#[derive(Debug)]
pub struct RealServer {
    kind: Kind,
    address: String,
    control: Client,
    clients: HashMap<String, Client>,
}

impl RealServer {
    /// Connects to the server at `address` (`host:port`), which must have no other clients.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn connect(kind: Kind, address: &str) -> io::Result<RealServer> {
        let control = Client::connect(address)?;
        Ok(RealServer { kind, address: address.into(), control, clients: HashMap::new() })
    }

    fn client(&mut self, name: &str) -> io::Result<&mut Client> {
        if !self.clients.contains_key(name) {
            self.clients.insert(name.into(), Client::connect(&self.address)?);
        }
        self.clients.get_mut(name).ok_or_else(|| io::Error::other("no such client"))
    }

    /// A number of `INFO clients`.
    fn info(&mut self, field: &str) -> io::Result<u64> {
        let reply = self.control.words("INFO clients")?;
        let text = String::from_utf8_lossy(reply.bytes().unwrap_or_default()).into_owned();
        let number = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.parse().ok());
        number.ok_or_else(|| io::Error::other(format!("INFO clients has no {field}")))
    }

    fn wait_for(&mut self, what: &str, mut done: impl FnMut(&mut RealServer) -> io::Result<bool>) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !done(self)? {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("waited in vain: {what}")));
            }
        }
        Ok(())
    }
}

impl Conversant for RealServer {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn reset(&mut self) -> io::Result<()> {
        self.clients.clear();
        self.wait_for("old clients are gone", |server| Ok(server.info("connected_clients")? == 1))?;
        self.control.words("FLUSHALL")?;
        self.control.words("SCRIPT FLUSH")?;
        Ok(())
    }

    fn send(&mut self, client: &str, bytes: &[u8]) -> io::Result<()> {
        let client = self.client(client)?;
        client.queue_raw(bytes);
        client.flush()
    }

    fn receive(&mut self, client: &str) -> io::Result<Value> {
        self.client(client)?.receive()
    }

    fn send_blocking(&mut self, client: &str, bytes: &[u8]) -> io::Result<()> {
        let before = self.info("blocked_clients")?;
        self.send(client, bytes)?;
        self.wait_for("a client blocks", |server| {
            Ok(server.info("blocked_clients")? > before || server.client(client)?.has_input()?)
        })
    }

    fn advance(&mut self, _ms: u64) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every request with its own last argument; closes on QUIT.
    #[derive(Default)]
    struct Echo(Vec<Value>);

    impl Conversant for Echo {
        fn kind(&self) -> Kind {
            Kind::Kelda
        }
        fn reset(&mut self) -> io::Result<()> {
            self.0.clear();
            Ok(())
        }
        fn send(&mut self, _client: &str, bytes: &[u8]) -> io::Result<()> {
            let (request, _) = Value::parse(bytes).unwrap().unwrap();
            self.0.push(request.elements().unwrap().last().unwrap().clone());
            Ok(())
        }
        fn receive(&mut self, _client: &str) -> io::Result<Value> {
            match self.0.pop() {
                Some(Value::Bulk(word)) if word == b"QUIT" => Err(io::ErrorKind::UnexpectedEof.into()),
                Some(value) => Ok(value),
                None => Err(io::ErrorKind::WouldBlock.into()),
            }
        }
        fn send_blocking(&mut self, client: &str, bytes: &[u8]) -> io::Result<()> {
            self.send(client, bytes)
        }
        fn advance(&mut self, _ms: u64) -> bool {
            true
        }
    }

    #[test]
    fn a_conversation_is_recorded_and_then_holds() {
        let text = "# words\n== one\n> ECHO hi\n\n@advance 5ms\n> ECHO x\n(any string)\n@blocks\n> ECHO z\n@receive\n";
        let mut conversation = Conversation::parse(text).unwrap();
        assert_eq!(conversation.run(&mut Echo::default()).unwrap().failures.len(), 2);
        assert_eq!(conversation.record(&mut Echo::default()).unwrap().failures, []);
        let recorded = conversation.text();
        assert!(recorded.contains("> ECHO hi\n\"hi\"\n") && recorded.contains("> ECHO x\n(any string)\n"));
        assert!(recorded.ends_with("@receive\n\"z\"\n"));
        let outcome = Conversation::parse(&recorded).unwrap().run(&mut Echo::default()).unwrap();
        assert_eq!((outcome.passed, outcome.failures), (3, vec![]));
    }

    #[test]
    fn a_wrong_reply_fails_and_other_servers_are_skipped() {
        let text = "> ECHO a\n\"b\"\n@only redis because\n> ECHO c\n\"d\"\n> ECHO QUIT\n";
        let outcome =
            Conversation::parse(&text.replace("> ECHO QUIT\n", "")).unwrap().run(&mut Echo::default()).unwrap();
        assert_eq!((outcome.passed, outcome.skipped, outcome.failures.len()), (0, 1, 1));
        assert!(Conversation::parse("GET a\n").is_err(), "a reply without a command");
    }
}
