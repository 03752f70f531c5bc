//! Replies that are counted, not kept; and a connection that prepares servers, however long their replies are.

use kelda_sim::value::write_request;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A blocking connection. What it is answered only matters if it is an error.
pub struct Caller {
    stream: TcpStream,
    requests: Vec<u8>,
    queued: u64,
    counter: Counter,
    buffer: Vec<u8>,
}

impl Caller {
    /// Connects. A server that says nothing for two minutes is an error.
    pub fn connect(port: u16) -> io::Result<Caller> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        let counter = Counter::default();
        Ok(Caller { stream, requests: Vec::new(), queued: 0, counter, buffer: vec![0; 256 * 1024] })
    }

    /// Adds a request to what [`Caller::flush`] sends.
    pub fn queue<A: AsRef<[u8]>>(&mut self, words: &[A]) {
        write_request(words, &mut self.requests);
        self.queued += 1;
    }

    /// Bytes that are queued.
    pub fn queued_bytes(&self) -> usize {
        self.requests.len()
    }

    /// Sends what is queued and waits for the replies.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.requests)?;
        self.requests.clear();
        while self.queued > 0 {
            match self.stream.read(&mut self.buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.queued -= self.counter.feed(&self.buffer[..length]).min(self.queued),
                // A debugger came or went.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.counter.checked()
    }

    /// One request and its reply.
    pub fn call<A: AsRef<[u8]>>(&mut self, words: &[A]) -> io::Result<()> {
        self.queue(words);
        self.flush()
    }
}

/// Counts replies without keeping them.
#[derive(Debug, Default)]
pub struct Counter {
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
    /// An error if one of the replies was.
    pub fn checked(&self) -> io::Result<()> {
        self.error.as_ref().map_or(Ok(()), |error| Err(io::Error::other(format!("the server says: {error}"))))
    }

    /// Takes what was read; how many replies became complete with it.
    pub fn feed(&mut self, mut bytes: &[u8]) -> u64 {
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
}
