//! A plain blocking connection that can pipeline.

use crate::value::{Value, write_request};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// One connection. Replies are read in the order in which requests were written.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
    at: usize,
}

impl Client {
    /// Connects to `host:port`. Reads give up after 20 s, so that a server that never answers fails a test.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn connect(address: &str) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Client { stream, out: Vec::new(), input: Vec::new(), at: 0 })
    }

    /// Adds a request to what the next [`flush`](Client::flush) sends.
    pub fn queue<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        write_request(args, &mut self.out);
    }

    /// Adds bytes as they are.
    pub fn queue_raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Sends all that is queued.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// The next reply or push message.
    ///
    /// # Errors
    /// `UnexpectedEof` when the server closed, `InvalidData` for what is no reply, `WouldBlock` after the time limit.
    pub fn receive(&mut self) -> io::Result<Value> {
        loop {
            let parsed = Value::parse(&self.input[self.at..]);
            match parsed.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))? {
                Some((value, length)) => {
                    self.at += length;
                    return Ok(value);
                }
                None if self.read_more()? == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => {}
            }
        }
    }

    /// Whether a whole or partial message has arrived already, without waiting.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn has_input(&mut self) -> io::Result<bool> {
        if self.at < self.input.len() {
            return Ok(true);
        }
        self.stream.set_nonblocking(true)?;
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false)?;
        match peeked {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// One request, one reply.
    ///
    /// # Errors
    /// As [`receive`](Client::receive).
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Value> {
        self.queue(args);
        self.flush()?;
        self.receive()
    }

    /// As [`call`](Client::call), with words separated by spaces.
    ///
    /// # Errors
    /// As [`receive`](Client::receive).
    pub fn words(&mut self, words: &str) -> io::Result<Value> {
        self.call(&words.split_ascii_whitespace().collect::<Vec<_>>())
    }

    fn read_more(&mut self) -> io::Result<usize> {
        if self.at > 0 {
            self.input.drain(..self.at);
            self.at = 0;
        }
        let old = self.input.len();
        self.input.resize(old + 64 * 1024, 0);
        let read = loop {
            match self.stream.read(&mut self.input[old..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.input.truncate(old + *read.as_ref().unwrap_or(&0));
        read
    }
}
