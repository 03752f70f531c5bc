//! The load whose history is checked: connections that read and append with all that makes a transaction: single
//! commands, commands of several keys, MULTI, scripts, and WATCH with what was read before; alone and in pipelines.
//!
//! A key's kind follows from its number: a list, a stream, or a text of numbers, to which is also appended by writing it
//! whole, which loses what others wrote meanwhile unless the transaction is one. The keys in use move on, so that values
//! stay short and most keys are at rest at the end.

use super::{Element, Key, Outcome, Step, Transaction};
use crate::client::Client;
use crate::rng::Rng;
use crate::value::Value;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// Keys in use at once: few, so that sessions meet.
const KEYS: u32 = 9;
/// Elements of a key, about, before another takes its place.
const LENGTH: u32 = 40;
/// Elements of a whole run: a number each.
const ELEMENTS_MAX: u32 = u32::MAX / 2;

/// Runs the commands of its arguments, each with the number of its words before it.
const SCRIPT: &str = "\
local out, at = {}, 1
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  out[#out + 1] = redis.call(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
return out";

/// Reads texts, writes each whole with an argument added to it, and returns what they were.
const REWRITE: &str = "\
local old, new = redis.call('MGET', unpack(KEYS)), {}
for i, key in ipairs(KEYS) do
  new[#new + 1] = key
  new[#new + 1] = (old[i] or '') .. ARGV[i]
end
redis.call('MSET', unpack(new))
return old";

/// What all sessions have in common, over all lives of the server.
#[derive(Debug)]
pub struct Run {
    /// When it began.
    start: Instant,
    elements: AtomicU32,
}

impl Run {
    /// Nothing is written yet.
    pub fn new() -> Run {
        Run { start: Instant::now(), elements: AtomicU32::new(0) }
    }

    /// ns since it began.
    pub fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Keys that may have been written to: those below this number.
    pub fn keys(&self) -> Key {
        self.elements.load(Ordering::Relaxed) / LENGTH + KEYS
    }

    fn key(&self, rng: &mut Rng) -> Key {
        self.elements.load(Ordering::Relaxed) / LENGTH + rng.below(u64::from(KEYS)) as u32
    }

    /// Keys without repetition, of texts only if so wanted.
    fn some_keys(&self, rng: &mut Rng, texts: bool) -> Vec<Key> {
        let mut keys: Vec<Key> = (0..=1 + rng.below(3)).map(|_| self.key(rng)).collect();
        if texts {
            keys.iter_mut().for_each(|key| *key -= *key % 3);
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn element(&self) -> Element {
        let element = self.elements.fetch_add(1, Ordering::Relaxed);
        assert!(element < ELEMENTS_MAX, "too long a run");
        element
    }
}

impl Default for Run {
    fn default() -> Run {
        Run::new()
    }
}

/// What a key holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    List,
    Stream,
}

fn kind(key: Key) -> Kind {
    match key % 3 {
        0 => Kind::Text,
        1 => Kind::List,
        _ => Kind::Stream,
    }
}

/// The name of a key.
fn name(key: Key) -> String {
    match kind(key) {
        Kind::Text => format!("text:{key}"),
        Kind::List => format!("list:{key}"),
        Kind::Stream => format!("stream:{key}"),
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// A command whose reply tells the steps that it made.
#[derive(Clone)]
enum Command {
    Append(Key, Element),
    Read(Key),
    /// Texts, with MGET.
    ReadTexts(Vec<Key>),
}

impl Command {
    fn random(run: &Run, rng: &mut Rng) -> Command {
        match rng.below(8) {
            0..=3 => Command::Append(run.key(rng), run.element()),
            4..=6 => Command::Read(run.key(rng)),
            _ => Command::ReadTexts(run.some_keys(rng, true)),
        }
    }

    fn several(run: &Run, rng: &mut Rng) -> Vec<Command> {
        (0..=1 + rng.below(3)).map(|_| Command::random(run, rng)).collect()
    }

    fn keys(&self) -> Vec<Key> {
        match self {
            Command::Append(key, _) | Command::Read(key) => vec![*key],
            Command::ReadTexts(keys) => keys.clone(),
        }
    }

    fn request(&self) -> Vec<String> {
        match self {
            Command::Append(key, element) => {
                let (name, element) = (name(*key), element.to_string());
                match kind(*key) {
                    Kind::Text => words(&["APPEND", &name, &format!("{element},")]),
                    Kind::List => words(&["RPUSH", &name, &element]),
                    Kind::Stream => words(&["XADD", &name, "*", "n", &element]),
                }
            }
            Command::Read(key) => match kind(*key) {
                Kind::Text => words(&["GET", &name(*key)]),
                Kind::List => words(&["LRANGE", &name(*key), "0", "-1"]),
                Kind::Stream => words(&["XRANGE", &name(*key), "-", "+"]),
            },
            Command::ReadTexts(keys) => words(&["MGET"]).into_iter().chain(keys.iter().map(|key| name(*key))).collect(),
        }
    }

    /// The steps that the reply tells.
    fn steps(&self, reply: &Value, steps: &mut Vec<Step>) -> Result<(), Unexpected> {
        match self {
            Command::Append(_, _) if reply.is_error() => return Err(Unexpected(reply.clone())),
            Command::Append(key, element) => steps.push(Step::Append(*key, *element)),
            Command::Read(key) => steps.push(Step::Read(*key, elements(*key, reply)?)),
            Command::ReadTexts(keys) => read_texts(keys, reply, steps)?,
        }
        Ok(())
    }
}

fn read_texts(keys: &[Key], reply: &Value, steps: &mut Vec<Step>) -> Result<(), Unexpected> {
    let texts = reply.elements().filter(|texts| texts.len() == keys.len()).ok_or_else(|| Unexpected(reply.clone()))?;
    for (key, text) in keys.iter().zip(texts) {
        steps.push(Step::Read(*key, elements(*key, text)?));
    }
    Ok(())
}

/// A reply that no command of ours may get.
struct Unexpected(Value);

impl From<Unexpected> for io::Error {
    fn from(Unexpected(value): Unexpected) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("unexpected reply {value:?}"))
    }
}

/// The elements of a key, from the reply of what reads it.
fn elements(key: Key, reply: &Value) -> Result<Vec<Element>, Unexpected> {
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse().ok();
    let read: Option<Vec<Element>> = match (kind(key), reply) {
        (Kind::Text, Value::Nil) => Some(Vec::new()),
        (Kind::Text, Value::Bulk(text)) => {
            text.strip_suffix(b",").and_then(|text| text.split(|byte| *byte == b',').map(number).collect())
        }
        (Kind::List, Value::Array(items)) => items.iter().map(|item| number(item.bytes()?)).collect(),
        // Each entry is its id and its fields.
        (Kind::Stream, Value::Array(entries)) => {
            entries.iter().map(|entry| number(entry.elements()?.get(1)?.elements()?.get(1)?.bytes()?)).collect()
        }
        _ => None,
    };
    read.ok_or_else(|| Unexpected(reply.clone()))
}

/// A transaction that needs no reply before all of it is sent.
enum Plan {
    One(Command),
    Multi(Vec<Command>),
    Script(Vec<Command>),
    Rewrite(Vec<(Key, Element)>),
}

impl Plan {
    fn random(run: &Run, rng: &mut Rng) -> Plan {
        match rng.below(10) {
            0..=4 => Plan::One(Command::random(run, rng)),
            5..=6 => Plan::Multi(Command::several(run, rng)),
            7..=8 => Plan::Script(Command::several(run, rng)),
            _ => Plan::Rewrite(run.some_keys(rng, true).into_iter().map(|key| (key, run.element())).collect()),
        }
    }

    fn form(&self) -> &'static str {
        match self {
            Plan::One(_) => "command",
            Plan::Multi(_) => "multi",
            Plan::Script(_) => "script",
            Plan::Rewrite(_) => "rewriting script",
        }
    }

    fn queue(&self, client: &mut Client) {
        match self {
            Plan::One(command) => client.queue(&command.request()),
            Plan::Multi(commands) => {
                client.queue(&["MULTI"]);
                commands.iter().for_each(|command| client.queue(&command.request()));
                client.queue(&["EXEC"]);
            }
            Plan::Script(commands) => {
                let keys: Vec<Key> = commands.iter().flat_map(Command::keys).collect();
                let mut request = words(&["EVAL", SCRIPT, &keys.len().to_string()]);
                request.extend(keys.into_iter().map(name));
                for command in commands {
                    let words = command.request();
                    request.push(words.len().to_string());
                    request.extend(words);
                }
                client.queue(&request);
            }
            Plan::Rewrite(appends) => {
                let mut request = words(&["EVAL", REWRITE, &appends.len().to_string()]);
                request.extend(appends.iter().map(|(key, _)| name(*key)));
                request.extend(appends.iter().map(|(_, element)| format!("{element},")));
                client.queue(&request);
            }
        }
    }

    /// Reads the replies, and the steps from them.
    fn receive(&self, client: &mut Client) -> io::Result<Vec<Step>> {
        let mut steps = Vec::new();
        match self {
            Plan::One(command) => command.steps(&client.receive()?, &mut steps)?,
            Plan::Multi(commands) => {
                for _ in 0..=commands.len() {
                    client.receive()?;
                }
                steps_of_all(commands, &client.receive()?, &mut steps)?;
            }
            Plan::Script(commands) => steps_of_all(commands, &client.receive()?, &mut steps)?,
            Plan::Rewrite(appends) => {
                let keys: Vec<Key> = appends.iter().map(|(key, _)| *key).collect();
                read_texts(&keys, &client.receive()?, &mut steps)?;
                steps.extend(appends.iter().map(|(key, element)| Step::Append(*key, *element)));
            }
        }
        Ok(steps)
    }

    /// What it does if nobody tells what it saw.
    fn appends(&self) -> Vec<Step> {
        match self {
            Plan::One(command) => appends_of(std::slice::from_ref(command)),
            Plan::Multi(commands) | Plan::Script(commands) => appends_of(commands),
            Plan::Rewrite(appends) => appends.iter().map(|(key, element)| Step::Append(*key, *element)).collect(),
        }
    }
}

fn appends_of(commands: &[Command]) -> Vec<Step> {
    let append = |command: &Command| match command {
        Command::Append(key, element) => Some(Step::Append(*key, *element)),
        _ => None,
    };
    commands.iter().filter_map(append).collect()
}

fn steps_of_all(commands: &[Command], reply: &Value, steps: &mut Vec<Step>) -> Result<(), Unexpected> {
    let replies =
        reply.elements().filter(|replies| replies.len() == commands.len()).ok_or_else(|| Unexpected(reply.clone()))?;
    commands.iter().zip(replies).try_for_each(|(command, reply)| command.steps(reply, steps))
}

/// One connection of a life of the server.
pub struct Session<'a> {
    run: &'a Run,
    rng: Rng,
    client: Client,
    number: u32,
    /// What it did, in order. Unknown transactions have no end yet.
    pub history: Vec<Transaction>,
}

impl<'a> Session<'a> {
    /// A connection with a number that no other has.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn connect(run: &'a Run, address: &str, number: u32, seed: u64) -> io::Result<Session<'a>> {
        Ok(Session { run, rng: Rng::new(seed), client: Client::connect(address)?, number, history: Vec::new() })
    }

    /// Transactions, until the server goes.
    ///
    /// # Errors
    /// `InvalidData` for a reply that should not be. That the connection broke is none.
    pub fn work(&mut self) -> io::Result<()> {
        loop {
            let worked = if self.rng.one_in(4) { self.watch() } else { self.pipeline() };
            match worked {
                Err(e) if matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::WouldBlock) => return Err(e),
                Err(_) => return Ok(()),
                Ok(()) => {}
            }
        }
    }

    fn record(&mut self, form: &'static str, invoked_ns: u64, outcome: Outcome, steps: Vec<Step>) {
        let completed_ns = if outcome == Outcome::Unknown { u64::MAX } else { self.run.now_ns() };
        self.history.push(Transaction { form, session: self.number, invoked_ns, completed_ns, steps, outcome });
    }

    /// Transactions that are sent at once.
    fn pipeline(&mut self) -> io::Result<()> {
        let many = if self.rng.one_in(2) { 0 } else { self.rng.below(6) };
        let plans: Vec<Plan> = (0..=many).map(|_| Plan::random(self.run, &mut self.rng)).collect();
        plans.iter().for_each(|plan| plan.queue(&mut self.client));
        let invoked = self.run.now_ns();
        let mut result = self.client.flush();
        for plan in plans {
            match result.and_then(|()| plan.receive(&mut self.client)) {
                Ok(steps) => {
                    self.record(plan.form(), invoked, Outcome::Committed, steps);
                    result = Ok(());
                }
                Err(e) => {
                    self.record(plan.form(), invoked, Outcome::Unknown, plan.appends());
                    result = Err(e);
                }
            }
        }
        result
    }

    /// WATCH, reads, and a transaction that writes if nothing of what was read has changed; texts are written whole.
    fn watch(&mut self) -> io::Result<()> {
        let watched = self.run.some_keys(&mut self.rng, false);
        let names: Vec<String> = watched.iter().map(|key| name(*key)).collect();
        let mut reads = Vec::new();
        self.client.queue(&[words(&["WATCH"]), names].concat());
        watched.iter().for_each(|key| self.client.queue(&Command::Read(*key).request()));
        let invoked = self.run.now_ns();
        self.client.flush()?;
        self.client.receive()?;
        for key in &watched {
            let reply = self.client.receive()?;
            Command::Read(*key).steps(&reply, &mut reads)?;
            // A transaction of its own, whatever becomes of the other.
            self.record("watched read", invoked, Outcome::Committed, reads[reads.len() - 1..].to_vec());
        }

        // Not all that was read is written.
        let written = &reads[self.rng.below(reads.len() as u64) as usize..];
        let (mut steps, mut requests, mut set) = (Vec::new(), Vec::new(), words(&["MSET"]));
        for read in written {
            let Step::Read(key, seen) = read else { continue };
            let element = self.run.element();
            steps.push(Step::Append(*key, element));
            if kind(*key) == Kind::Text {
                let text: String = seen.iter().chain([&element]).map(|element| format!("{element},")).collect();
                set.extend([name(*key), text]);
            } else {
                requests.push(Command::Append(*key, element).request());
            }
        }
        if set.len() > 1 {
            requests.push(set);
        }
        self.client.queue(&["MULTI"]);
        requests.iter().for_each(|request| self.client.queue(request));
        self.client.queue(&["EXEC"]);
        let steps = [reads, steps].concat();
        let invoked = self.run.now_ns();
        match self.exec(requests.len()) {
            Ok(outcome) => self.record("watch", invoked, outcome, steps),
            Err(e) => {
                self.record("watch", invoked, Outcome::Unknown, steps);
                return Err(e);
            }
        }
        Ok(())
    }

    fn exec(&mut self, commands: usize) -> io::Result<Outcome> {
        self.client.flush()?;
        for _ in 0..=commands {
            self.client.receive()?;
        }
        match self.client.receive()? {
            Value::Nil | Value::NilArray => Ok(Outcome::Aborted),
            Value::Array(replies) if replies.len() == commands && !replies.iter().any(Value::is_error) => {
                Ok(Outcome::Committed)
            }
            other => Err(Unexpected(other).into()),
        }
    }
}

/// What keys hold, read one by one.
///
/// # Errors
/// Those of the connection, and of unexpected replies.
pub fn read_all(client: &mut Client, keys: impl Iterator<Item = Key>) -> io::Result<Vec<(Key, Vec<Element>)>> {
    let mut all = Vec::new();
    for key in keys {
        let reply = client.call(&Command::Read(key).request())?;
        all.push((key, elements(key, &reply)?));
    }
    Ok(all)
}
