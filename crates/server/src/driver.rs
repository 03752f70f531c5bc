//! What a thread drives loops with: its epoll instance, and what that has reported and no loop has taken yet.
//!
//! A socket is registered with the instance of the thread that drives its loop, and moves when another thread does: a second
//! instance between the two would cost a tenth of a request. Invariant: registering reports at once what a socket is ready for, so that
//! what an instance reported of a loop that another thread has taken meanwhile can be dropped.

use crate::gauge::Gauge;
use crate::log;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

const EVENTS_MAX: usize = 1024;
const WAKE: Token = Token(usize::MAX);
/// The number of the loop stands above the slot.
const LOOP_SHIFT: u32 = 32;
/// In the place of a slot: a listening socket.
const LISTENER: usize = (1 << LOOP_SHIFT) - 1;

/// What a socket is registered as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The connection in this slot.
    Slot(usize),
    /// Any of the listening sockets.
    Listener,
}

impl Source {
    /// The token for a socket of loop `index`.
    fn token(self, index: usize) -> Token {
        let place = match self {
            Source::Slot(slot) => slot,
            Source::Listener => LISTENER,
        };
        Token(index << LOOP_SHIFT | place)
    }
}

/// What was reported of a socket.
#[derive(Clone, Copy, Debug)]
pub struct Readiness {
    /// Which one.
    pub source: Source,
    /// There may be something to read, an end or an error among it.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
    /// The peer sends no more.
    pub hangup: bool,
}

impl Readiness {
    fn of(event: &Event) -> Readiness {
        let broken = event.is_error();
        let hangup = event.is_read_closed() || broken;
        let source = match event.token().0 & LISTENER {
            LISTENER => Source::Listener,
            slot => Source::Slot(slot),
        };
        Readiness { source, readable: event.is_readable() || hangup, writable: event.is_writable() || broken, hangup }
    }
}

/// How others reach a thread.
pub struct Reach {
    /// Where its loops' sockets are registered.
    registry: Registry,
    waker: Waker,
    /// What is measured of the thread.
    pub gauge: Gauge,
}

impl Reach {
    /// Has a socket of loop `index` reported to the thread; at once, if there is something to report.
    ///
    /// # Errors
    /// The system refused.
    pub fn register(&self, fd: &OwnedFd, source: Source, index: usize) -> io::Result<()> {
        let interest = match source {
            Source::Slot(_) => Interest::READABLE.add(Interest::WRITABLE),
            Source::Listener => Interest::READABLE,
        };
        self.registry.register(&mut SourceFd(&fd.as_raw_fd()), source.token(index), interest)
    }

    /// Has a socket reported to the thread no more, if it was.
    pub fn deregister(&self, fd: &OwnedFd) {
        let _ = self.registry.deregister(&mut SourceFd(&fd.as_raw_fd()));
    }

    /// Ends the thread's wait for events.
    ///
    /// # Errors
    /// The system refused.
    pub fn wake(&self) -> io::Result<()> {
        self.waker.wake()
    }
}

/// The means of one thread.
pub struct Driver {
    /// The thread's number.
    pub me: usize,
    reach: Arc<Reach>,
    poll: Poll,
    events: Events,
    /// By loop: what has been reported and not been taken.
    reported: Vec<Vec<Readiness>>,
    /// Whether the last look brought as many events as there was room for.
    has_more: bool,
}

impl Driver {
    /// For thread `me` of as many as there are `loops`.
    ///
    /// # Errors
    /// The system refused an epoll instance or an event descriptor.
    pub fn new(me: usize, loops: usize) -> io::Result<Driver> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let registry = poll.registry().try_clone()?;
        let reach = Arc::new(Reach { registry, waker, gauge: Gauge::default() });
        let reported = std::iter::repeat_with(Vec::new).take(loops).collect();
        Ok(Driver { me, reach, poll, events: Events::with_capacity(EVENTS_MAX), reported, has_more: false })
    }

    /// How others reach the thread.
    pub fn reach(&self) -> &Arc<Reach> {
        &self.reach
    }

    /// Waits for events for at most `timeout`, if nothing that was reported is left.
    pub fn poll(&mut self, timeout: Option<Duration>) {
        let timeout = if self.has_more { Some(Duration::ZERO) } else { timeout };
        let polled = if timeout == Some(Duration::ZERO) {
            self.poll.poll(&mut self.events, timeout)
        } else {
            self.reach.gauge.asleep(|| self.poll.poll(&mut self.events, timeout))
        };
        self.has_more = false;
        match polled {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            // Cannot happen with a valid descriptor and buffer; sleeping on would be worse than saying it.
            Err(error) => return log::warning(&format!("Cannot wait for events: {error}")),
        }
        let mut count = 0;
        for event in &self.events {
            count += 1;
            if event.token() != WAKE {
                self.reported[event.token().0 >> LOOP_SHIFT].push(Readiness::of(event)); // a token of `Source::token`
            }
        }
        self.has_more = count == EVENTS_MAX;
    }

    /// Whether something was reported of loop `index`.
    pub fn has_reported(&self, index: usize) -> bool {
        !self.reported[index].is_empty()
    }

    /// Swaps what was reported of loop `index` against an empty list.
    pub fn take(&mut self, index: usize, list: &mut Vec<Readiness>) {
        std::mem::swap(&mut self.reported[index], list);
    }
}
