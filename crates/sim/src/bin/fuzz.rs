//! `kelda-fuzz`: random command sequences to a server under test and to an oracle, compared reply by reply, and at
//! the end (and on the way) key by key.
//!
//! On one thread the connections take turns, each with a pipelined batch, so that all of them may use all keys and the
//! order of commands is still the same on both sides. With `--threads N` every thread has a key prefix of its own.

use kelda_sim::client::Client;
use kelda_sim::compare::{How, alike, exec_alike};
use kelda_sim::generate::{Command, Generator};
use kelda_sim::notation;
use kelda_sim::templates::SCRIPTS;
use kelda_sim::value::Value;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "\
kelda-fuzz --server HOST:PORT --oracle HOST:PORT [--commands N] [--seed S] [--connections C] [--threads T] [--stop-after M] [--no-encoding] [--state-every N] [--logins]
  both servers are flushed first; --stop-after: mismatches until a thread gives up (default 1)";

/// Commands remembered for the context of a mismatch.
const REMEMBERED: usize = 100_000;
/// Commands shown as the context of a mismatch.
const SHOWN: usize = 25;
const DATABASES: u32 = 3;
/// One batch in so many is followed by an exchange of a value.
const EXCHANGE_IN: u64 = 3;

#[derive(Clone, Debug)]
struct Options {
    server: String,
    oracle: String,
    commands: u64,
    seed: u64,
    connections: usize,
    threads: u64,
    stop_after: u64,
    encoding: bool,
    logins: bool,
    /// Commands between two comparisons of the whole state.
    state_every: u64,
}

fn options() -> Option<Options> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    let mut options = Options {
        server: String::new(),
        oracle: String::new(),
        commands: 100_000,
        seed: now.as_micros() as u64,
        connections: 4,
        threads: 1,
        stop_after: 1,
        encoding: true,
        logins: false,
        state_every: 250_000,
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        if name == "--logins" {
            options.logins = true;
            continue;
        }
        if name == "--no-encoding" {
            options.encoding = false;
            continue;
        }
        let value = args.next()?;
        match name.as_str() {
            "--server" => options.server = value,
            "--oracle" => options.oracle = value,
            "--commands" => options.commands = value.parse().ok()?,
            "--seed" => options.seed = value.parse().ok()?,
            "--connections" => options.connections = value.parse().ok()?,
            "--threads" => options.threads = value.parse().ok()?,
            "--stop-after" => options.stop_after = value.parse().ok()?,
            "--state-every" => options.state_every = value.parse().ok()?,
            _ => return None,
        }
    }
    let complete = !options.server.is_empty() && !options.oracle.is_empty();
    (complete && options.connections > 0 && options.threads > 0).then_some(options)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    println!("seed {} ({} commands, {} threads)", options.seed, options.commands, options.threads);
    let start = Instant::now();
    match fuzz(&options) {
        Ok(0) => {
            let rate = options.commands as f64 / start.elapsed().as_secs_f64();
            println!("{} commands alike, {rate:.0} per second", options.commands);
            ExitCode::SUCCESS
        }
        Ok(mismatches) => {
            println!("{mismatches} mismatches; seed {}", options.seed);
            ExitCode::FAILURE
        }
        Err(e) => {
            println!("{e}; seed {}", options.seed);
            ExitCode::FAILURE
        }
    }
}

fn fuzz(options: &Options) -> io::Result<u64> {
    for address in [&options.server, &options.oracle] {
        Client::connect(address)?.words("FLUSHALL")?;
        Client::connect(address)?.words("SCRIPT FLUSH")?;
        // Those that are named by their hashes: threads do not wait for each other's EVAL.
        for script in &SCRIPTS[..2] {
            Client::connect(address)?.call(&["SCRIPT", "LOAD", script])?;
        }
        // Redis and Valkey look this often whether a blocked client's time is over.
        Client::connect(address)?.words("CONFIG SET hz 500")?;
        Client::connect(address)?.words("FUNCTION FLUSH")?;
        Client::connect(address)?.words("ACL DELUSER u0 u1 w0 w1")?;
    }
    // Payloads that Valkey 9 reads whatever is in them; older oracles take those of RDB version 10.
    let about = Client::connect(&options.oracle)?.words("INFO server")?;
    if about.bytes().is_some_and(|text| text.windows(16).any(|part| part == b"valkey_version:9")) {
        Client::connect(&options.server)?.words("CONFIG SET rdb-version 80")?;
    }
    if options.threads == 1 {
        return Run::new(options, 0)?.run();
    }
    std::thread::scope(|scope| {
        let spawn = |number| scope.spawn(move || Run::new(options, number)?.run());
        let threads: Vec<_> = (0..options.threads).map(spawn).collect();
        let results =
            threads.into_iter().map(|thread| thread.join().map_err(|_| io::Error::other("a thread panicked"))?);
        results.sum()
    })
}

/// The same connection to both.
struct Pair {
    server: Client,
    oracle: Client,
    /// What is queued since MULTI.
    queued: Vec<How>,
    /// Commands until EXEC, where MULTI was sent.
    until_exec: Option<u64>,
}

/// One thread's work.
struct Run<'a> {
    options: &'a Options,
    prefix: String,
    generator: Generator,
    pairs: Vec<Pair>,
    history: VecDeque<(usize, Vec<Vec<u8>>)>,
    mismatches: u64,
}

impl<'a> Run<'a> {
    fn new(options: &'a Options, thread: u64) -> io::Result<Run<'a>> {
        let alone = options.threads == 1;
        let prefix = if alone { String::new() } else { format!("p{thread}:") };
        let pairs: io::Result<Vec<Pair>> = (0..options.connections).map(|number| pair(options, number)).collect();
        Ok(Run {
            options,
            generator: Generator::new(options.seed.wrapping_add(thread), &prefix, alone, options.logins),
            prefix,
            pairs: pairs?,
            history: VecDeque::new(),
            mismatches: 0,
        })
    }

    fn run(mut self) -> io::Result<u64> {
        let total = self.options.commands / self.options.threads;
        let (mut done, mut next_state) = (0, self.options.state_every);
        while done < total && self.mismatches < self.options.stop_after {
            let turn = self.generator.below(self.pairs.len() as u64) as usize;
            let size = 1 + self.generator.below(60).min(total - done - 1);
            self.batch(turn, size)?;
            done += size;
            if self.pairs[turn].until_exec.is_none() && self.generator.below(EXCHANGE_IN) == 0 {
                self.exchange(turn)?;
            }
            if done >= next_state {
                next_state += self.options.state_every;
                self.compare_states()?;
            }
        }
        if self.mismatches < self.options.stop_after {
            self.compare_states()?;
        }
        Ok(self.mismatches)
    }

    /// The next command for connection `turn`. A transaction ends after a few commands; MULTI and WATCH inside of one
    /// are left out, because Valkey's refusal aborts the transaction and Redis's does not.
    fn next_command(&mut self, turn: usize) -> Command {
        let until_exec = &mut self.pairs[turn].until_exec;
        if *until_exec == Some(0) {
            *until_exec = None;
            return Command { args: vec![b"EXEC".to_vec()], how: How::Exactly };
        }
        loop {
            let command = self.generator.command();
            let begins = command.args == [b"MULTI"];
            match until_exec {
                None if begins => *until_exec = Some(self.generator.below(10)),
                Some(_) if command.args[0] == b"MULTI" || command.args[0] == b"WATCH" => continue,
                Some(_) if [&b"EXEC"[..], b"DISCARD", b"RESET"].iter().any(|end| command.args == [*end]) => {
                    *until_exec = None
                }
                Some(left) => *left -= 1,
                None => {}
            }
            return command;
        }
    }

    fn batch(&mut self, turn: usize, size: u64) -> io::Result<()> {
        let commands: Vec<Command> = (0..size).map(|_| self.next_command(turn)).collect();
        let pair = &mut self.pairs[turn];
        for command in &commands {
            pair.server.queue(&command.args);
            pair.oracle.queue(&command.args);
        }
        pair.server.flush()?;
        pair.oracle.flush()?;
        for command in commands {
            let pair = &mut self.pairs[turn];
            let oracle = pair.oracle.receive().map_err(|e| context(e, "oracle", &command))?;
            let server = pair.server.receive().map_err(|e| context(e, "server", &command))?;
            let is = |name: &[u8]| command.args[0] == name;
            let same = if is(b"EXEC") {
                exec_alike(&std::mem::take(&mut pair.queued), &server, &oracle)
            } else {
                alike(command.how, &server, &oracle)
            };
            match &oracle {
                Value::Simple(text) if text == b"QUEUED" => pair.queued.push(command.how),
                Value::Simple(_) if is(b"MULTI") || is(b"DISCARD") || is(b"RESET") => pair.queued.clear(),
                _ => {}
            }
            if self.history.len() == REMEMBERED {
                self.history.pop_front();
            }
            self.history.push_back((turn, command.args));
            if !same {
                self.report(&server, &oracle);
            }
        }
        Ok(())
    }

    /// Has each side restore what the other one dumped of a key. From then on it must be the same there as any other value.
    fn exchange(&mut self, turn: usize) -> io::Result<()> {
        let (from, to) = self.generator.two_keys();
        let pair = &mut self.pairs[turn];
        let dump = [b"DUMP".to_vec(), from.clone()];
        let (server, oracle) = (pair.server.call(&dump)?, pair.oracle.call(&dump)?);
        self.history.push_back((turn, dump.to_vec()));
        let (Value::Bulk(of_server), Value::Bulk(of_oracle)) = (&server, &oracle) else {
            if !alike(How::Exactly, &server, &oracle) {
                self.report(&server, &oracle);
            }
            return Ok(());
        };
        let restore = |payload: &[u8]| {
            let words: [&[u8]; 5] = [b"RESTORE", &to, b"0", payload, b"REPLACE"];
            words.map(<[u8]>::to_vec)
        };
        let (for_server, for_oracle) = (restore(of_oracle), restore(of_server));
        let (server, oracle) = (pair.server.call(&for_server)?, pair.oracle.call(&for_oracle)?);
        self.history.push_back((turn, for_server.to_vec()));
        let denied = matches!(&server, Value::Error(text) if text.starts_with(b"NOPERM"));
        if !alike(How::Exactly, &server, &oracle) || matches!(server, Value::Error(_)) && !denied {
            println!("the server's payload, for the oracle: {}", command_line(&for_oracle));
            self.report(&server, &oracle);
            return Ok(());
        }
        if denied {
            return Ok(());
        }
        let pair = &mut self.pairs[turn];
        let server = contents(&mut pair.server, &to)?;
        let oracle = contents(&mut pair.oracle, &to)?;
        if !server.iter().zip(&oracle).all(|((_, how, a), (_, _, b))| alike(*how, a, b)) {
            self.mismatches += 1;
            println!("--- restored from {} to {}", notation::quote(&from), notation::quote(&to));
            self.show_facts("server", &server);
            self.show_facts("oracle", &oracle);
            self.show_history(&[&from, &to]);
        }
        Ok(())
    }

    /// Prints the last command's replies and what was done to its keys before.
    fn report(&mut self, server: &Value, oracle: &Value) {
        self.mismatches += 1;
        let Some((connection, last)) = self.history.back() else {
            return;
        };
        let is_key = |arg: &&Vec<u8>| arg.len() == self.prefix.len() + 2 && arg.starts_with(self.prefix.as_bytes());
        // Of an EXEC, those that its connection watched last.
        let watch = |(at, args): &&(usize, Vec<Vec<u8>>)| at == connection && args[0] == b"WATCH";
        let watched = self.history.iter().rev().find(watch).filter(|_| last[0] == b"EXEC").map(|(_, args)| args);
        let keys: Vec<&Vec<u8>> = watched.unwrap_or(last)[1..].iter().filter(is_key).collect();
        println!("--- mismatch; what came before on its keys, or on its connection (connection: command):");
        match keys.is_empty() {
            false => self.show_history(&keys),
            true => self.show(|(at, _)| at == connection),
        }
        println!("then {connection}: {}", command_line(last));
        let denied = |value: &Value| matches!(value, Value::Error(text) if text.starts_with(b"NOPERM"));
        if denied(server) || denied(oracle) {
            for address in [&self.options.server, &self.options.oracle] {
                let users = Client::connect(address).and_then(|mut client| client.words("ACL LIST"));
                print!(
                    "users of {address}, perhaps changed since: {}",
                    users.map_or_else(|e| e.to_string(), |users| notation::format_value(&users))
                );
            }
        }
        let (server, oracle) = (notation::format_value(server), notation::format_value(oracle));
        println!("server said {server}oracle said {oracle}seed {}", self.options.seed);
    }

    /// Prints the last commands on these keys.
    fn show_history(&self, keys: &[&Vec<u8>]) {
        let wide: &[&[u8]] = &[b"FLUSHDB", b"SWAPDB", b"SELECT", b"MULTI", b"EXEC", b"DISCARD", b"WATCH", b"UNWATCH"];
        self.show(|(_, args)| wide.contains(&args[0].as_slice()) || args.iter().any(|arg| keys.contains(&arg)));
    }

    /// Prints the last commands that are like this.
    fn show(&self, like: impl Fn(&(usize, Vec<Vec<u8>>)) -> bool) {
        let mut shown: Vec<_> = self.history.iter().rev().filter(|entry| like(entry)).take(SHOWN).collect();
        shown.reverse();
        for (connection, args) in shown {
            println!("{connection}: {}", command_line(args));
        }
    }

    fn compare_states(&mut self) -> io::Result<()> {
        let server = state(&self.options.server, &self.prefix, self.options.encoding)?;
        let mut oracle = state(&self.options.oracle, &self.prefix, self.options.encoding)?;
        for ((database, key), facts) in &server {
            let expected = oracle.remove(&(*database, key.clone()));
            let same = expected
                .as_ref()
                .is_some_and(|expected| facts.iter().zip(expected).all(|((_, how, a), (_, _, b))| alike(*how, a, b)));
            if !same {
                self.mismatches += 1;
                println!("--- state: database {database}, key {}", notation::quote(key));
                self.show_facts("server", facts);
                self.show_facts("oracle", &expected.unwrap_or_default());
                self.show_history(&[key]);
            }
        }
        for (database, key) in oracle.keys() {
            self.mismatches += 1;
            println!("--- state: database {database}: only the oracle has {}", notation::quote(key));
        }
        Ok(())
    }

    fn show_facts(&self, who: &str, facts: &[Fact]) {
        for (name, _, value) in facts {
            print!("{who} {name}: {}", notation::format_value(value));
        }
    }
}

fn pair(options: &Options, number: usize) -> io::Result<Pair> {
    let mut pair = Pair {
        server: Client::connect(&options.server)?,
        oracle: Client::connect(&options.oracle)?,
        queued: Vec::new(),
        until_exec: None,
    };
    if number % 2 == 1 {
        pair.server.words("HELLO 3")?;
        pair.oracle.words("HELLO 3")?;
    }
    Ok(pair)
}

fn context(error: io::Error, who: &str, command: &Command) -> io::Error {
    io::Error::new(error.kind(), format!("{who}: {error}: at {}", command_line(&command.args)))
}

fn command_line(args: &[Vec<u8>]) -> String {
    let is_bare = |arg: &[u8]| !arg.is_empty() && arg.iter().all(|b| b.is_ascii_graphic() && !b"\"'\\".contains(b));
    let word = |arg: &Vec<u8>| {
        if is_bare(arg) { String::from_utf8_lossy(arg).into() } else { notation::quote(arg) }
    };
    let mut line = args.iter().map(word).collect::<Vec<String>>().join(" ");
    if line.len() > 400 {
        line.truncate(400);
        line.push('…');
    }
    line
}

/// What, how it is compared, and the reply.
type Fact = (&'static str, How, Value);
type State = BTreeMap<(u32, Vec<u8>), Vec<Fact>>;

/// Type and value of a key.
fn contents(client: &mut Client, key: &[u8]) -> io::Result<Vec<Fact>> {
    let kind = client.call(&[b"TYPE", key])?;
    let (how, command): (How, &[&[u8]]) = match kind.bytes().unwrap_or_default() {
        b"string" => (How::Exactly, &[b"GET", key]),
        b"list" => (How::Exactly, &[b"LRANGE", key, b"0", b"-1"]),
        b"hash" => (How::Unordered, &[b"HGETALL", key]),
        b"set" => (How::Unordered, &[b"SMEMBERS", key]),
        b"stream" => (How::Exactly, &[b"XRANGE", key, b"-", b"+"]),
        _ => (How::Exactly, &[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]),
    };
    Ok(vec![("type", How::Exactly, kind.clone()), ("contents", how, client.call(command)?)])
}

/// All that can be known of every key with the prefix.
fn state(address: &str, prefix: &str, encoding: bool) -> io::Result<State> {
    let mut client = Client::connect(address)?;
    let mut state = State::new();
    for database in 0..DATABASES {
        client.words(&format!("SELECT {database}"))?;
        let reply = client.words(&format!("KEYS {prefix}*"))?;
        for key in reply.elements().unwrap_or_default().iter().filter_map(Value::bytes) {
            let mut facts = contents(&mut client, key)?;
            let kind = facts[0].2.clone();
            facts.push(("expires at", How::Near(3000), client.call(&[b"PEXPIRETIME", key])?));
            // How it keeps a string is the server's own affair.
            if encoding && kind.bytes() != Some(b"string") {
                facts.push(("encoding", How::Encoding, client.call(&[&b"OBJECT"[..], b"ENCODING", key])?));
            }
            state.insert((database, key.to_vec()), facts);
        }
    }
    Ok(state)
}
