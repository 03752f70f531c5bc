//! The load generator: many connections on one thread, requests built beforehand, replies only counted.
//!
//! What it spends is taken from the server it measures when both share a machine, so a round does nothing per request
//! but write random digits into a ready buffer and find the end of the reply.

use kelda_sim::rng::Rng;
use kelda_sim::value::write_request;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// A request with places for random digits.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    /// Where 12 digits go, and below what they stay.
    places: Vec<(usize, u64)>,
}

/// Digits of a random number.
const DIGITS: usize = 12;

impl Template {
    /// A request of `words`, with `@v` replaced by `value`, `@k` by random numbers below `keys`, `@h` by those below 100.
    pub fn new(words: &[&str], value: &str, keys: u64) -> Template {
        // Marks that a value cannot hold, as long as the digits.
        let (key, hundred) = ("\u{1}".repeat(DIGITS), "\u{2}".repeat(DIGITS));
        let expand = |word: &&str| word.replace("@k", &key).replace("@h", &hundred).replace("@v", value);
        let mut bytes = Vec::new();
        write_request(&words.iter().map(expand).collect::<Vec<_>>(), &mut bytes);
        let mut places = Vec::new();
        for at in 0..bytes.len().saturating_sub(DIGITS) {
            match &bytes[at..at + DIGITS] {
                window if window == key.as_bytes() => places.push((at, keys)),
                window if window == hundred.as_bytes() => places.push((at, 100)),
                _ => {}
            }
        }
        Template { bytes, places }
    }
}

/// What a round did.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Replies received.
    pub operations: u64,
    /// From the first request to the last reply.
    pub elapsed: Duration,
}

/// Connections to one server, all with the same work.
pub struct Load {
    poll: Poll,
    connections: Vec<Connection>,
    rng: Rng,
    pipeline: u64,
    buffer: Vec<u8>,
    /// How long each batch took, in µs, if that is wanted.
    latencies: Option<Vec<u32>>,
}

struct Connection {
    stream: TcpStream,
    /// Buffers of `pipeline` requests each, used in turn.
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
    /// Connects. `templates` are sent in turn; with `channel` one more connection subscribes to it.
    pub fn connect(
        port: u16,
        connections: usize,
        pipeline: usize,
        templates: &[Template],
        channel: Option<&str>,
    ) -> io::Result<Load> {
        let poll = Poll::new()?;
        let batches: Vec<Template> = (0..templates.len())
            .map(|first| {
                let requests = templates.iter().cycle().skip(first * pipeline).take(pipeline);
                requests.fold(Template { bytes: Vec::new(), places: Vec::new() }, |mut batch, request| {
                    let shift = batch.bytes.len();
                    batch.places.extend(request.places.iter().map(|(at, limit)| (at + shift, *limit)));
                    batch.bytes.extend_from_slice(&request.bytes);
                    batch
                })
            })
            .collect();
        let mut all = Vec::new();
        for number in 0..connections + usize::from(channel.is_some()) {
            let stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            let listens = number == connections;
            if let (true, Some(channel)) = (listens, channel) {
                let mut subscribe = Vec::new();
                write_request(&["SUBSCRIBE", channel], &mut subscribe);
                (&stream).write_all(&subscribe)?;
            }
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
            let batches = batches.clone();
            let counter = Counter::default();
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
        let pipeline = pipeline as u64;
        Ok(Load { poll, connections: all, rng: Rng::new(1), pipeline, buffer: vec![0; 256 * 1024], latencies: None })
    }

    /// From now on, notes how long each batch takes.
    pub fn measure(&mut self) {
        self.latencies = Some(Vec::new());
    }

    /// What was noted so far, in µs.
    pub fn take_latencies(&mut self) -> Vec<u32> {
        self.latencies.take().unwrap_or_default()
    }

    /// Keeps every connection busy for `round`, then waits for the outstanding replies.
    pub fn run(&mut self, round: Duration) -> io::Result<Done> {
        let start = Instant::now();
        let mut operations = 0;
        let mut busy = 0;
        for connection in self.connections.iter_mut().filter(|connection| !connection.listens) {
            connection.begin(&mut self.rng, self.pipeline)?;
            busy += 1;
        }
        let mut events = Events::with_capacity(1024);
        while busy > 0 {
            self.poll.poll(&mut events, Some(Duration::from_secs(10)))?;
            if events.is_empty() {
                return Err(io::Error::other("the server has not answered for 10 s"));
            }
            let over = start.elapsed() >= round;
            for event in &events {
                let connection = &mut self.connections[event.token().0];
                if event.is_writable() {
                    connection.write()?;
                }
                let replies = connection.read(&mut self.buffer)?;
                if connection.listens || connection.awaited == 0 {
                    continue;
                }
                operations += replies;
                connection.awaited -= replies.min(connection.awaited);
                if let Some(latencies) = &mut self.latencies
                    && connection.awaited == 0
                {
                    latencies.push(u32::try_from(connection.begun.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
                match connection.awaited {
                    0 if over => busy -= 1,
                    0 => connection.begin(&mut self.rng, self.pipeline)?,
                    _ => {}
                }
            }
        }
        if let Some(error) = self.connections.iter().find_map(|connection| connection.counter.error.as_ref()) {
            return Err(io::Error::other(format!("the server says: {error}")));
        }
        Ok(Done { operations, elapsed: start.elapsed() })
    }
}

impl Connection {
    /// Sends the next batch, with new random digits.
    fn begin(&mut self, rng: &mut Rng, pipeline: u64) -> io::Result<()> {
        self.batch = (self.batch + 1) % self.batches.len();
        let batch = &mut self.batches[self.batch];
        for (at, limit) in &batch.places {
            let mut number = rng.below(*limit);
            for digit in batch.bytes[*at..*at + DIGITS].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        self.written = 0;
        self.awaited = pipeline;
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

/// Counts replies without keeping them.
#[derive(Debug, Default)]
struct Counter {
    /// Bytes of a bulk string still to come, with its CRLF.
    skip: usize,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// Elements of the current aggregate still to come.
    elements: i64,
    /// The first error reply.
    error: Option<String>,
}

impl Counter {
    fn feed(&mut self, mut bytes: &[u8]) -> u64 {
        let mut replies = 0;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let n = self.skip.min(bytes.len());
                self.skip -= n;
                bytes = &bytes[n..];
                if self.skip == 0 {
                    replies += self.element(0);
                }
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.line.extend_from_slice(bytes);
                break;
            };
            if self.line.is_empty() {
                replies += self.head(&bytes[..end]);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                replies += self.head(&line);
            }
            bytes = &bytes[end + 1..];
        }
        replies
    }

    /// One line without its newline: 1 when it completes a reply.
    fn head(&mut self, line: &[u8]) -> u64 {
        let number =
            || line[1..].iter().take_while(|b| b.is_ascii_digit()).fold(0, |n, b| n * 10 + i64::from(b - b'0'));
        match line.first() {
            Some(b'$') if line.get(1) != Some(&b'-') => {
                self.skip = number() as usize + 2;
                0
            }
            Some(b'*' | b'~' | b'>') => self.element(number()),
            Some(b'%') => self.element(2 * number()),
            Some(b'-') if self.error.is_none() => {
                self.error = Some(String::from_utf8_lossy(&line[1..]).into_owned());
                self.element(0)
            }
            _ => self.element(0),
        }
    }

    /// An element is there, and `more` inside of it are to come.
    fn element(&mut self, more: i64) -> u64 {
        self.elements += if self.elements > 0 { more - 1 } else { more };
        u64::from(self.elements == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_counted_however_they_are_cut() {
        let bytes = b"+OK\r\n$3\r\na\nb\r\n$-1\r\n*2\r\n$1\r\nx\r\n*1\r\n:1\r\n*0\r\n:5\r\n%1\r\n+a\r\n+b\r\n";
        for size in 1..bytes.len() {
            let mut counter = Counter::default();
            let replies: u64 = bytes.chunks(size).map(|chunk| counter.feed(chunk)).sum();
            assert_eq!(replies, 7, "in pieces of {size}");
        }
    }

    #[test]
    fn places_of_digits_are_found() {
        let template = Template::new(&["SET", "key:@k", "@v", "@h"], "abc", 1000);
        let limits: Vec<u64> = template.places.iter().map(|(_, limit)| *limit).collect();
        assert_eq!(limits, [1000, 100]);
        assert!(template.bytes.starts_with(b"*4\r\n$3\r\nSET\r\n$16\r\nkey:"));
    }
}
