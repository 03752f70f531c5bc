//! The load generator: many connections on one thread, requests built beforehand, replies only counted.
//!
//! What it spends is taken from the server it measures when both share a machine, so a round does nothing per request
//! but write random digits into a ready buffer and find the end of the reply.
//!
//! Who publishes does not run away from who listens: no new batch is sent while messages for listeners are far behind, and a
//! round is over when the last of them has come. So the work of delivering them is in the figures.

use super::replies::Counter;
use kelda_sim::rng::Rng;
use kelda_sim::value::write_request;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// An operation: a request, or several in a row, with places for random digits.
#[derive(Clone, Debug, Default)]
pub struct Template {
    bytes: Vec<u8>,
    /// How many replies it gets.
    replies: u64,
    /// Where 12 digits go, and below what they stay.
    places: Vec<(usize, u64)>,
}

/// Digits of a random number.
const DIGITS: usize = 12;

/// What listeners subscribe to.
pub const CHANNEL: &str = "channel";
/// How many messages a listener may be behind before publishers wait for it.
const LAG: u64 = 2_000;

impl Template {
    /// The requests in `words`, with `;` between them; `@v` is replaced by `value`, `@k` by random numbers below `keys`, `@h` by
    /// those below 100.
    pub fn new(words: &[&str], value: &str, keys: u64) -> Template {
        // Marks that a value cannot hold, as long as the digits.
        let (key, hundred) = ("\u{1}".repeat(DIGITS), "\u{2}".repeat(DIGITS));
        let expand = |word: &&str| word.replace("@k", &key).replace("@h", &hundred).replace("@v", value);
        let mut bytes = Vec::new();
        let mut replies = 0;
        for request in words.split(|word| *word == ";") {
            write_request(&request.iter().map(expand).collect::<Vec<_>>(), &mut bytes);
            replies += 1;
        }
        let mut places = Vec::new();
        for at in 0..bytes.len().saturating_sub(DIGITS) {
            match &bytes[at..at + DIGITS] {
                window if window == key.as_bytes() => places.push((at, keys)),
                window if window == hundred.as_bytes() => places.push((at, 100)),
                _ => {}
            }
        }
        Template { bytes, replies, places }
    }

    /// The bytes to send, with new random digits.
    pub fn drawn(&mut self, rng: &mut Rng) -> &[u8] {
        for (at, limit) in &self.places {
            let mut number = rng.below(*limit);
            for digit in self.bytes[*at..*at + DIGITS].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        &self.bytes
    }
}

/// What a round did.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Operations whose replies have come.
    pub operations: u64,
    /// From the first request to the last reply and message.
    pub elapsed: Duration,
}

/// Connections to one server, all with the same work.
pub struct Load {
    poll: Poll,
    connections: Vec<Connection>,
    rng: Rng,
    pipeline: u64,
    listeners: u64,
    buffer: Vec<u8>,
    /// How long each batch took, in µs, if that is wanted.
    latencies: Option<Vec<u32>>,
}

struct Connection {
    stream: TcpStream,
    /// Buffers of `pipeline` operations each, used in turn.
    batches: Vec<Template>,
    batch: usize,
    written: usize,
    awaited: u64,
    /// When the batch was sent.
    begun: Instant,
    counter: Counter,
    /// A subscriber only reads.
    listens: bool,
}

impl Load {
    /// Connects. `templates` are sent in turn; `listeners` more connections subscribe to [`CHANNEL`].
    pub fn connect(
        port: u16,
        connections: usize,
        pipeline: usize,
        templates: &[Template],
        listeners: usize,
    ) -> io::Result<Load> {
        let poll = Poll::new()?;
        let batches: Vec<Template> = (0..templates.len())
            .map(|first| {
                let requests = templates.iter().cycle().skip(first * pipeline).take(pipeline);
                requests.fold(Template::default(), |mut batch, request| {
                    let shift = batch.bytes.len();
                    batch.places.extend(request.places.iter().map(|(at, limit)| (at + shift, *limit)));
                    batch.bytes.extend_from_slice(&request.bytes);
                    batch.replies += request.replies;
                    batch
                })
            })
            .collect();
        let mut all = Vec::new();
        for number in 0..connections + listeners {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            let listens = number >= connections;
            let mut counter = Counter::default();
            if listens {
                let mut subscribe = Vec::new();
                write_request(&["SUBSCRIBE", CHANNEL], &mut subscribe);
                stream.write_all(&subscribe)?;
                let mut byte = [0];
                loop {
                    stream.read_exact(&mut byte)?;
                    if counter.feed(&byte) > 0 {
                        break;
                    }
                }
            }
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
            let batches = if listens { Vec::new() } else { batches.clone() };
            all.push(Connection {
                stream,
                batches,
                batch: 0,
                written: 0,
                awaited: 0,
                begun: Instant::now(),
                counter,
                listens,
            });
        }
        let (pipeline, listeners) = (pipeline as u64, listeners as u64);
        let (rng, buffer) = (Rng::new(1), vec![0; 256 * 1024]);
        Ok(Load { poll, connections: all, rng, pipeline, listeners, buffer, latencies: None })
    }

    /// From now on, notes how long each batch takes.
    pub fn measure(&mut self) {
        self.latencies = Some(Vec::new());
    }

    /// What was noted so far, in µs.
    pub fn take_latencies(&mut self) -> Vec<u32> {
        self.latencies.take().unwrap_or_default()
    }

    /// Keeps every connection busy for `round`, then waits for the outstanding replies and messages.
    pub fn run(&mut self, round: Duration) -> io::Result<Done> {
        let start = Instant::now();
        let (mut operations, mut heard) = (0, 0);
        let mut busy = 0;
        for connection in self.connections.iter_mut().filter(|connection| !connection.listens) {
            connection.begin(&mut self.rng)?;
            busy += 1;
        }
        // Connections that begin again as soon as the listeners have caught up.
        let mut held = Vec::new();
        let mut events = Events::with_capacity(1024);
        while busy > 0 || heard < operations * self.listeners {
            wait(&mut self.poll, &mut events, Duration::from_secs(60))?;
            if events.is_empty() {
                return Err(io::Error::other("the server has not answered for a minute"));
            }
            let over = start.elapsed() >= round;
            for event in &events {
                let connection = &mut self.connections[event.token().0];
                if event.is_writable() {
                    connection.write()?;
                }
                let replies = connection.read(&mut self.buffer)?;
                if connection.listens {
                    heard += replies;
                    continue;
                }
                if connection.awaited == 0 {
                    continue;
                }
                connection.awaited -= replies.min(connection.awaited);
                if connection.awaited > 0 {
                    continue;
                }
                operations += self.pipeline;
                if let Some(latencies) = &mut self.latencies {
                    latencies.push(u32::try_from(connection.begun.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
                if over {
                    busy -= 1;
                } else if operations * self.listeners > heard + LAG * self.listeners {
                    held.push(event.token().0);
                } else {
                    connection.begin(&mut self.rng)?;
                }
            }
            if operations * self.listeners <= heard + LAG * self.listeners {
                for number in held.drain(..) {
                    self.connections[number].begin(&mut self.rng)?;
                }
            }
        }
        self.connections.iter().try_for_each(|connection| connection.counter.checked())?;
        Ok(Done { operations, elapsed: start.elapsed() })
    }
}

/// Waits for events; a signal is none.
pub fn wait(poll: &mut Poll, events: &mut Events, longest: Duration) -> io::Result<()> {
    loop {
        match poll.poll(events, Some(longest)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl Connection {
    /// Sends the next batch, with new random digits.
    fn begin(&mut self, rng: &mut Rng) -> io::Result<()> {
        self.batch = (self.batch + 1) % self.batches.len();
        let batch = &mut self.batches[self.batch];
        batch.drawn(rng);
        self.written = 0;
        self.awaited = batch.replies;
        self.begun = Instant::now();
        self.write()
    }

    /// Writes what is left of the batch, as far as the socket takes it.
    fn write(&mut self) -> io::Result<()> {
        while self.awaited > 0 && self.written < self.batches[self.batch].bytes.len() {
            match self.stream.write(&self.batches[self.batch].bytes[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads all there is; the number of replies that became complete.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<u64> {
        let mut replies = 0;
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    replies += self.counter.feed(&buffer[..n]);
                    if n < buffer.len() {
                        return Ok(replies);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(replies),
                Err(e) => return Err(e),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_digits_are_found() {
        let template = Template::new(&["SET", "key:@k", "@v", "@h"], "abc", 1000);
        let limits: Vec<u64> = template.places.iter().map(|(_, limit)| *limit).collect();
        assert_eq!(limits, [1000, 100]);
        assert!(template.bytes.starts_with(b"*4\r\n$3\r\nSET\r\n$16\r\nkey:"));
    }
}
