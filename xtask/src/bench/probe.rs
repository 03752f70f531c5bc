//! Load at a given rate, and how long its replies take.
//!
//! The load is an open loop: when each request is to be sent is fixed beforehand, and its latency counts from then, not from
//! when it could be sent. A server that stalls thus pays for every request that would have come meanwhile. One thread sends,
//! another one receives; which request a reply belongs to follows from its place on its connection.

use super::load::{Template, wait};
use super::replies::Counter;
use kelda_sim::rng::Rng;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is asked, how often.
pub struct Probe<'a> {
    /// Sent in turn.
    pub templates: &'a [Template],
    pub connections: usize,
    /// Requests a second.
    pub rate: f64,
}

/// Replies are waited for so long after the last request.
const PATIENCE: Duration = Duration::from_secs(60);

impl Probe<'_> {
    /// Asks the server at `port` for at least `least` and until `work` is done; what took how long, in µs, sorted.
    pub fn during(&self, port: u16, least: Duration, work: impl FnOnce() -> io::Result<()>) -> io::Result<Vec<u32>> {
        let mut senders = Vec::new();
        for _ in 0..self.connections {
            let stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            // For both threads: what a stream's copies share is more than the socket.
            stream.set_nonblocking(true)?;
            senders.push(stream);
        }
        let receivers = senders.iter().map(std::net::TcpStream::try_clone).collect::<io::Result<Vec<_>>>()?;
        let (over, sent) = (AtomicBool::new(false), AtomicU64::new(u64::MAX));
        let start = Instant::now();
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let result = self.send(&mut senders, start, &over);
                // After an error the receiver is not to wait.
                sent.store(*result.as_ref().unwrap_or(&0), Ordering::Release);
                result
            });
            let receiver = scope.spawn(|| self.receive(receivers, start, &sent));
            let worked = work();
            std::thread::sleep(least.saturating_sub(start.elapsed()));
            over.store(true, Ordering::Release);
            let sent = sender.join().map_err(|_| io::Error::other("the sender panicked"))?;
            let received = receiver.join().map_err(|_| io::Error::other("the receiver panicked"))?;
            worked.and(sent).and(received)
        })
    }

    /// When request `number` is to be sent.
    fn planned(&self, start: Instant, number: u64) -> Instant {
        start + Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// Sends what is due until it is `over`; how many requests that were.
    fn send(&self, streams: &mut [std::net::TcpStream], start: Instant, over: &AtomicBool) -> io::Result<u64> {
        let mut rng = Rng::new(1);
        let mut templates = self.templates.to_vec();
        let mut number = 0;
        while !over.load(Ordering::Acquire) {
            let now = Instant::now();
            while self.planned(start, number) <= now {
                let kind = number as usize % templates.len();
                let connection = number as usize % streams.len();
                write_fully(&mut streams[connection], templates[kind].drawn(&mut rng))?;
                number += 1;
            }
            std::thread::sleep(self.planned(start, number).saturating_duration_since(Instant::now()));
        }
        Ok(number)
    }

    /// Takes the replies until all of what was `sent` are there.
    fn receive(&self, streams: Vec<std::net::TcpStream>, start: Instant, sent: &AtomicU64) -> io::Result<Vec<u32>> {
        let mut poll = Poll::new()?;
        let step = streams.len() as u64;
        let mut connections = Vec::new();
        for (number, stream) in streams.into_iter().enumerate() {
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            // The number of the request whose reply comes next.
            connections.push((stream, Counter::default(), number as u64));
        }
        let mut latencies = Vec::new();
        let mut events = Events::with_capacity(256);
        let mut buffer = vec![0; 64 * 1024];
        let mut last = Instant::now();
        while (latencies.len() as u64) < sent.load(Ordering::Acquire) {
            wait(&mut poll, &mut events, Duration::from_millis(100))?;
            if !events.is_empty() {
                last = Instant::now();
            } else if last.elapsed() > PATIENCE {
                return Err(io::Error::other("the server has not answered for a minute"));
            }
            for event in &events {
                let (stream, counter, number) = &mut connections[event.token().0];
                let mut replies = 0;
                loop {
                    match stream.read(&mut buffer) {
                        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                        Ok(length) => replies += counter.feed(&buffer[..length]),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error),
                    }
                }
                let now = Instant::now();
                for _ in 0..replies {
                    let latency = now.saturating_duration_since(self.planned(start, *number));
                    latencies.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
                    *number += step;
                }
            }
        }
        connections.iter().try_for_each(|(_, counter, _)| counter.checked())?;
        latencies.sort_unstable();
        Ok(latencies)
    }
}

/// Writes all of `bytes`, however long the server does not read.
fn write_fully(stream: &mut std::net::TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    let start = Instant::now();
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_micros(100));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
