//! Connections to other servers: what MIGRATE sends over them, and those that are kept for a while for the next one.

use crate::engine::Platform;
use crate::worker::Clock;
use kelda_resp::encode_command;
use std::any::Any;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A connection, whose reads and writes wait for a bounded time.
pub trait Stream: Read + Write + Send {
    /// From now on a read waits for so long at most.
    ///
    /// # Errors
    /// The system's.
    fn set_read_timeout(&mut self, _timeout: Duration) -> io::Result<()> {
        Ok(())
    }
    /// For [`Platform::adopt`], whose connection it is.
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send>;
}

/// For so long a connection is kept that nobody uses, in µs.
const KEPT_US: u64 = 10_000_000;
/// Connections kept, at most.
const KEPT: usize = 64;

/// Where keys go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What follows AUTH: nothing, a password, or a user and a password.
    pub credentials: Vec<Vec<u8>>,
    /// The database.
    pub db: i64,
}

struct Link {
    target: Target,
    stream: Box<dyn Stream>,
    used_us: u64,
}

/// Connections that wait for their next use.
#[derive(Default)]
pub struct Links {
    idle: Mutex<Vec<Link>>,
}

impl Links {
    fn lock(&self) -> MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Closes those that nobody used for a while.
    pub fn tidy(&self, now_us: u64) {
        self.lock().retain(|link| now_us.saturating_sub(link.used_us) < KEPT_US);
    }

    fn take(&self, target: &Target) -> Option<Box<dyn Stream>> {
        let mut idle = self.lock();
        let place = idle.iter().position(|link| link.target == *target)?;
        Some(idle.swap_remove(place).stream)
    }

    fn keep(&self, target: &Target, stream: Box<dyn Stream>, now_us: u64) {
        let mut idle = self.lock();
        if idle.len() < KEPT {
            idle.push(Link { target: target.clone(), stream, used_us: now_us });
        }
    }
}

/// A key on its way.
pub struct Parcel {
    /// Its place among the keys of the command.
    pub index: usize,
    /// The key.
    pub key: Vec<u8>,
    /// ms that it has to live; 0: for ever.
    pub ttl: i64,
    /// What DUMP returns.
    pub payload: Vec<u8>,
    /// Whether it replaces a key that is there.
    pub replace: bool,
}

/// How it went, but for which keys arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All was taken.
    Done,
    /// The other server's first error.
    Refused(String),
    /// The host is unknown.
    NoConnection,
    /// The connection did not take what was to be sent.
    NotWritten,
    /// The connection gave no answer.
    NotRead,
}

/// Keys to be brought to another server; shared by who brings them and who waits.
#[derive(Clone)]
pub struct Delivery(Arc<Inner>);

struct Inner {
    target: Target,
    timeout: Duration,
    parcels: Vec<Parcel>,
    outcome: Mutex<Option<(Vec<usize>, Answer)>>,
}

impl Delivery {
    /// What is to be brought where; each step may take `timeout`.
    pub fn new(target: Target, timeout: Duration, parcels: Vec<Parcel>) -> Delivery {
        Delivery(Arc::new(Inner { target, timeout, parcels, outcome: Mutex::default() }))
    }

    /// Whether there is nothing to bring.
    pub fn is_empty(&self) -> bool {
        self.0.parcels.is_empty()
    }

    /// Whether it is over.
    pub fn is_done(&self) -> bool {
        self.0.outcome.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The places of the keys that arrived, and how it went.
    pub fn outcome(&self) -> (Vec<usize>, Answer) {
        let outcome = self.0.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.clone().unwrap_or((Vec::new(), Answer::NotWritten))
    }

    /// Brings the keys. May take long.
    pub fn run(&self, links: &Links, platform: &dyn Platform, clock: &dyn Clock) {
        let outcome = self.bring(links, platform, clock);
        *self.0.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }

    fn bring(&self, links: &Links, platform: &dyn Platform, clock: &dyn Clock) -> (Vec<usize>, Answer) {
        let Inner { target, timeout, .. } = &*self.0;
        let keep = |stream| links.keep(target, stream, clock.monotonic_us());
        if let Some(mut stream) = links.take(target) {
            let (arrived, answer, waited) = self.talk(&mut *stream);
            match answer {
                // The other side may have closed it long ago: begins anew. Not if it may be at work on what it was sent.
                Answer::NotWritten | Answer::NotRead if arrived.is_empty() && !waited => {}
                Answer::NotWritten | Answer::NotRead => return (arrived, answer),
                _ => {
                    keep(stream);
                    return (arrived, answer);
                }
            }
        }
        let mut stream = match platform.connect(&target.host, target.port, *timeout) {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (Vec::new(), Answer::NoConnection),
            Err(_) => return (Vec::new(), Answer::NotWritten),
        };
        let (arrived, answer, _) = self.talk(&mut *stream);
        // One that refused the password or the database is no use for the next either.
        if answer == Answer::Done || matches!(answer, Answer::Refused(_)) && !arrived.is_empty() {
            keep(stream);
        }
        (arrived, answer)
    }

    /// Sends all and reads the answers. Also tells whether the time was over.
    fn talk(&self, stream: &mut dyn Stream) -> (Vec<usize>, Answer, bool) {
        let Inner { target, parcels, .. } = &*self.0;
        let mut request = Vec::new();
        // Also on a connection that was used before: the password may be another by now.
        let mut greetings = 1;
        if !target.credentials.is_empty() {
            let mut words: Vec<&[u8]> = vec![b"AUTH"];
            words.extend(target.credentials.iter().map(|word| &word[..]));
            encode_command(&mut request, &words);
            greetings += 1;
        }
        encode_command(&mut request, &[b"SELECT", target.db.to_string().as_bytes()]);
        for parcel in parcels {
            let ttl = parcel.ttl.to_string();
            let mut words: Vec<&[u8]> = vec![b"RESTORE", &parcel.key, ttl.as_bytes(), &parcel.payload];
            if parcel.replace {
                words.push(b"REPLACE");
            }
            encode_command(&mut request, &words);
        }
        let timed_out = |error: &io::Error| matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock);
        if let Err(error) = stream.write_all(&request).and_then(|()| stream.flush()) {
            return (Vec::new(), Answer::NotWritten, timed_out(&error));
        }
        // What is taken although the password or the database was refused did not arrive where it should.
        let (mut arrived, mut answer, mut welcome) = (Vec::new(), Answer::Done, true);
        let mut lines = Lines { stream, bytes: Vec::new(), at: 0 };
        for index in 0..greetings + parcels.len() {
            match lines.next() {
                Err(error) => return (arrived, Answer::NotRead, timed_out(&error)),
                Ok(line) => match line.strip_prefix(b"-") {
                    Some(why) => {
                        welcome &= index >= greetings;
                        if answer == Answer::Done {
                            answer = Answer::Refused(String::from_utf8_lossy(why).into_owned());
                        }
                    }
                    None if welcome && index >= greetings => arrived.push(parcels[index - greetings].index),
                    None => {}
                },
            }
        }
        (arrived, answer, false)
    }
}

/// The lines of a connection: all answers here are lines.
struct Lines<'a> {
    stream: &'a mut dyn Stream,
    bytes: Vec<u8>,
    at: usize,
}

impl Lines<'_> {
    /// The next line, without its end.
    fn next(&mut self) -> io::Result<Vec<u8>> {
        /// Bytes of a line, at most: no answer is longer.
        const MOST: usize = 64 * 1024;
        loop {
            let rest = &self.bytes[self.at..];
            if let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
                let line = rest[..end].to_vec();
                self.at += end + 2;
                return Ok(line);
            }
            if rest.len() > MOST {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.bytes.drain(..self.at);
            self.at = 0;
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.bytes.extend_from_slice(&piece[..read]),
            }
        }
    }
}
