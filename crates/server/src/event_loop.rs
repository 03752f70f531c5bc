//! One event loop: some of the sockets, driving the sessions behind them. Which thread runs its turns, `threads` says.
//!
//! A turn polls, reads each ready socket once, processes, writes once, and lets the sessions do what is due. A socket that
//! has more to read or write than one turn gives it goes to the end of the queue, so that nobody waits for the
//! longest pipeline or the largest reply.
//!
//! epoll is used edge-triggered and a socket is registered once, for both directions: after that, neither a slow reader
//! nor a fast one costs a system call but those that move data. The price is that the loop must remember what it has
//! not drained. Invariants: `readable` is true unless a read said that nothing is left, `writable` is true unless a
//! write said that nothing fits; a connection that could make progress is in `ready` (once, which `queued` says).
//!
//! Connections are accepted by loop 0 and each goes to the loop that has the fewest. SO_REUSEPORT would spare the
//! hand-over but spreads by hash: with few long-lived connections, which is how Redis is used, one thread of four easily
//! gets half of them.

use crate::driver::{Driver, Reach, Readiness, Source};
use crate::latch::Latch;
use crate::listen::{Accepted, Listener};
use crate::log;
use crate::roster::Roster;
use crate::sessions::{Others, Sessions};
use kelda_engine::config::{ConfigHandle, ConfigReader};
use kelda_engine::worker::{Fate, Pieces, Slot};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes written to one connection in one turn: a mebibyte and what is around it. In pieces of 64 KiB, each of which wakes the reader, the same
/// costs twice as much.
const WRITE_MAX: usize = 17 << 16;
/// Pieces of output that are written at once.
const GATHER_MAX: usize = 16;
/// Connections accepted in one turn, at most; `max-new-connections-per-cycle` is lower.
const ACCEPT_MAX: usize = 1000;
/// Connections that are served together; see [`EventLoop::serve_group`].
const GROUP: usize = 16;
/// A connection with more output than this does not wait for the others of its group.
const EAGER_BYTES: usize = 64 * 1024;
/// How long to leave a listening socket alone after the system refused a connection, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How other threads reach a loop.
pub struct Mailbox {
    /// By thread.
    threads: Arc<[Arc<Reach>]>,
    /// The thread that drives the loop.
    driver: AtomicUsize,
    /// Whether the loop has been woken and has not yet looked: one wake-up is enough.
    woken: AtomicBool,
    post: Mutex<Post>,
    /// Connections that the loop has, or is about to get.
    connections: AtomicUsize,
    /// Bytes that the loop has received and sent.
    moved: AtomicU64,
}

#[derive(Default)]
struct Post {
    accepted: Vec<Accepted>,
    /// New listening sockets, in place of the TCP ones that the loop has.
    listeners: Option<Vec<Listener>>,
}

impl Mailbox {
    /// Makes the loop run a turn soon.
    pub fn wake(&self) {
        // Sequential consistency, against `move_to`: either this sees the new driver, or that one sees `woken`.
        if !self.woken.swap(true, Ordering::SeqCst)
            && let Err(error) = self.threads[self.driver.load(Ordering::SeqCst)].wake()
        {
            // The loop still runs a turn at its next event or timer; say it again then.
            self.woken.store(false, Ordering::Release);
            log::warning(&format!("Cannot wake a thread: {error}"));
        }
    }

    /// Whether `wake` was called since the last turn.
    pub fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    /// Bytes that the loop has received and sent.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    fn note_moved(&self, bytes: usize) {
        // Only the loop's turn writes.
        self.moved.store(self.moved.load(Ordering::Relaxed).wrapping_add(bytes as u64), Ordering::Relaxed);
    }

    fn post(&self, add: impl FnOnce(&mut Post)) {
        add(&mut self.post.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake();
    }
}

/// What all loops and those who steer them share.
pub struct Shared {
    /// By loop; there are as many as threads.
    pub mailboxes: Vec<Arc<Mailbox>>,
    /// By thread.
    pub threads: Arc<[Arc<Reach>]>,
    /// The configuration.
    pub config: Arc<ConfigHandle>,
    /// Which threads drive the loops.
    pub roster: Roster,
    stopping: AtomicBool,
    /// Open once nobody can connect any more.
    deaf: Latch,
}

impl Shared {
    /// Ends all loops, each after its present turn.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake_threads();
        self.roster.wake_all();
    }

    /// Changes how many threads are active.
    pub fn set_active(&self, threads: usize) {
        self.roster.set_active(threads);
        self.wake_threads();
    }

    /// Ends every thread's wait for events.
    fn wake_threads(&self) {
        for thread in &*self.threads {
            if let Err(error) = thread.wake() {
                log::warning(&format!("Cannot wake a thread: {error}"));
            }
        }
    }

    /// Connections, of all loops.
    pub fn connections(&self) -> usize {
        self.mailboxes.iter().map(|mailbox| mailbox.connections.load(Ordering::Relaxed)).sum()
    }

    /// Whether `stop` was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Gives a connection to the loop that has the fewest.
    pub fn give(&self, accepted: Accepted) {
        let (_, mailbox) = self.fewest();
        mailbox.connections.fetch_add(1, Ordering::Relaxed);
        mailbox.post(|post| post.accepted.push(accepted));
    }

    /// The loop that has the fewest connections.
    fn fewest(&self) -> (usize, &Arc<Mailbox>) {
        let loops = self.mailboxes.iter().enumerate();
        let fewest = loops.min_by_key(|(_, mailbox)| mailbox.connections.load(Ordering::Relaxed));
        // There is at least one thread, and a loop for each.
        fewest.unwrap_or((0, &self.mailboxes[0]))
    }

    /// Puts new TCP listening sockets in place of the present ones; `Unix` ones stay.
    pub fn replace_tcp_listeners(&self, listeners: Vec<Listener>) {
        if let Some(first) = self.mailboxes.first() {
            first.post(|post| post.listeners = Some(listeners));
        }
    }
}

struct Conn {
    fd: OwnedFd,
    readable: bool,
    writable: bool,
    /// Whether the peer has said that it will send no more: a short read is then not the last.
    hangup: bool,
    /// Whether the end of the input was read.
    ended: bool,
    queued: bool,
    /// How many bytes a read asked for whose outcome `serve` has yet to look at.
    read_ahead: Option<usize>,
}

/// One thread's sockets.
pub struct EventLoop {
    index: usize,
    shared: Arc<Shared>,
    config: ConfigReader,
    mailbox: Arc<Mailbox>,
    /// By slot.
    conns: Vec<Option<Conn>>,
    ready: VecDeque<Slot>,
    /// Sessions whose `process` is under way, the innermost last; a nested turn does not touch them.
    executing: Vec<Slot>,
    /// The thread that has lent the sockets to the one that runs a turn, for as long as that takes.
    lender: Option<usize>,
    /// Connections of a group that were processed and not written yet.
    unwritten: Vec<Slot>,
    listeners: Vec<Listener>,
    accept_ready: bool,
    accept_after: Option<Instant>,
    /// Scratch: empty between uses.
    reported: Vec<Readiness>,
    /// As above.
    slots: Vec<Slot>,
}

/// Makes as many loops as `threads`, and what each thread drives loops with; the listening sockets go to the first.
///
/// # Errors
/// The system refused an epoll instance or an event descriptor.
pub fn event_loops(
    threads: usize,
    config: Arc<ConfigHandle>,
    listeners: Vec<Listener>,
) -> io::Result<(Arc<Shared>, Vec<EventLoop>, Vec<Driver>)> {
    let drivers = (0..threads).map(|me| Driver::new(me, threads)).collect::<io::Result<Vec<Driver>>>()?;
    let reaches: Arc<[Arc<Reach>]> = drivers.iter().map(|driver| driver.reach().clone()).collect();
    let mailbox = |index| {
        Arc::new(Mailbox {
            threads: reaches.clone(),
            driver: AtomicUsize::new(index),
            woken: AtomicBool::new(false),
            post: Mutex::default(),
            connections: AtomicUsize::new(0),
            moved: AtomicU64::new(0),
        })
    };
    let mailboxes = (0..threads).map(mailbox).collect();
    let roster = Roster::new(threads);
    let shared = Arc::new(Shared {
        mailboxes,
        threads: reaches,
        config,
        roster,
        stopping: AtomicBool::new(false),
        deaf: Latch::default(),
    });
    let make = |index| EventLoop {
        index,
        config: ConfigReader::new(shared.config.clone()),
        mailbox: shared.mailboxes[index].clone(), // one was made for each thread
        shared: shared.clone(),
        conns: Vec::new(),
        ready: VecDeque::new(),
        executing: Vec::new(),
        lender: None,
        unwritten: Vec::new(),
        listeners: Vec::new(),
        accept_ready: false,
        accept_after: None,
        reported: Vec::new(),
        slots: Vec::new(),
    };
    let mut loops: Vec<EventLoop> = (0..threads).map(make).collect();
    if let Some(first) = loops.first_mut() {
        first.add_listeners(listeners)?;
    }
    Ok((shared, loops, drivers))
}

impl EventLoop {
    /// Sends what can be sent at once and closes every connection.
    pub fn end<S: Sessions>(&mut self, sessions: &mut S) {
        self.stop_listening();
        sessions.settle();
        for slot in 0..self.conns.len() {
            while self.conns[slot].as_ref().is_some_and(|c| c.writable)
                && sessions.fate(slot) != Fate::Close
                && sessions.has_pending(slot)
            {
                self.flush(sessions, slot);
            }
            self.close(sessions, slot);
        }
    }

    /// Sees to it that who is cut off finds nobody listening: nothing is listened to before any loop closes its connections.
    fn stop_listening(&self) {
        /// For so long the other loops wait for the first one, which may be running a long command.
        const PATIENCE: Duration = Duration::from_secs(1);
        if self.index == 0 {
            // There may be other descriptors of the same sockets.
            for listener in &self.listeners {
                let _ = rustix::net::shutdown(&listener.fd, rustix::net::Shutdown::Both);
            }
            self.shared.deaf.open();
        }
        self.shared.deaf.wait(PATIENCE);
    }

    /// Has a socket reported to the thread that drives this loop.
    fn register(&self, fd: &OwnedFd, source: Source) -> io::Result<()> {
        self.shared.threads[self.driver()].register(fd, source, self.index) // a thread's number
    }

    /// The thread to which the sockets are reported.
    pub fn driver(&self) -> usize {
        self.mailbox.driver.load(Ordering::Relaxed)
    }

    /// To be called when thread `me` has run a turn. If the sockets are reported to another, that one has to learn when the next
    /// turn is due; if they were lent to this one for the turn, they go back.
    pub fn end_turn(&mut self, me: usize) {
        if let Some(lender) = self.lender.take() {
            self.move_to(lender);
        }
        if self.driver() != me {
            self.mailbox.wake();
        }
    }

    /// Has the sockets reported to thread `driver` from now on.
    pub fn move_to(&mut self, driver: usize) {
        let from = self.mailbox.driver.swap(driver, Ordering::SeqCst);
        if from == driver {
            return;
        }
        let moved = |fd: &OwnedFd, source: Source| {
            self.shared.threads[from].deregister(fd);
            self.register(fd, source)
        };
        let mut lost = Vec::new();
        for (slot, conn) in self.conns.iter().enumerate() {
            if let Some(conn) = conn
                && let Err(error) = moved(&conn.fd, Source::Slot(slot))
            {
                log::warning(&format!("Cannot watch a client's socket: {error}"));
                lost.push(slot);
            }
        }
        for listener in &self.listeners {
            if let Err(error) = moved(&listener.fd, Source::Listener) {
                log::warning(&format!("Cannot watch a listening socket: {error}"));
            }
        }
        // Nobody would tell of them any more: they are served once, see the end of their input and are closed.
        for slot in lost {
            if let Some(Some(conn)) = self.conns.get_mut(slot) {
                conn.ended = true;
            }
            self.queue(slot);
        }
    }

    /// Looks for events, then runs a turn: from within a long command, for the other sessions.
    fn nested_turn<S: Sessions>(&mut self, driver: &mut Driver, sessions: &mut S, wait: bool) {
        self.write_group(sessions);
        if self.driver() != driver.me {
            self.lender.get_or_insert(self.driver());
            self.move_to(driver.me);
        }
        driver.poll(if wait { self.patience(sessions) } else { Some(Duration::ZERO) });
        self.turn(driver, sessions);
    }

    /// Serves the connections of which something was reported or is left, and does what is due.
    pub fn turn<S: Sessions>(&mut self, driver: &mut Driver, sessions: &mut S) {
        self.take_reported(driver);
        self.config.refresh();
        // In this order: what is posted from here on wakes the loop again.
        if self.mailbox.woken.swap(false, Ordering::AcqRel) {
            self.read_post(sessions);
        }
        self.accept(sessions);
        // What becomes ready meanwhile waits for the next turn. A nested turn may empty the queue before.
        let mut left = self.ready.len();
        while left != 0 && !self.ready.is_empty() {
            let group = left.min(GROUP);
            self.serve_group(driver, sessions, group);
            left -= group;
        }
        sessions.wake();
        let mut slots = std::mem::take(&mut self.slots);
        sessions.runnable(&mut slots);
        for slot in slots.drain(..) {
            self.process(driver, sessions, slot, false);
            self.flush(sessions, slot);
        }
        let mut touched = slots;
        sessions.touched(&mut touched);
        for slot in touched.drain(..) {
            self.flush(sessions, slot);
        }
        self.slots = touched;
    }

    /// How long the loop may go without a turn; `None` until there are events.
    pub fn patience<S: Sessions>(&self, sessions: &S) -> Option<Duration> {
        let accept_now = self.accept_ready && self.accept_after.is_none();
        if !self.ready.is_empty() || accept_now {
            return Some(Duration::ZERO);
        }
        let timer = sessions.next_timer_us().map(Duration::from_micros);
        let accept = self.accept_after.map(|at| at.saturating_duration_since(Instant::now()));
        timer.into_iter().chain(accept).min()
    }

    fn take_reported(&mut self, driver: &mut Driver) {
        let mut reported = std::mem::take(&mut self.reported);
        driver.take(self.index, &mut reported);
        for ready in reported.drain(..) {
            match ready.source {
                Source::Listener => self.accept_ready = true,
                Source::Slot(slot) => {
                    let Some(Some(conn)) = self.conns.get_mut(slot) else {
                        continue;
                    };
                    conn.hangup |= ready.hangup;
                    conn.readable |= ready.readable;
                    conn.writable |= ready.writable;
                    self.queue(slot);
                }
            }
        }
        self.reported = reported;
    }

    fn read_post<S: Sessions>(&mut self, sessions: &mut S) {
        let post = std::mem::take(&mut *self.mailbox.post.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(new) = post.listeners {
            // Dropping a descriptor takes it out of the poll.
            self.listeners.retain(|l| l.path.is_some());
            if let Err(error) = self.add_listeners(new) {
                log::warning(&format!("Cannot listen: {error}"));
            }
        }
        for accepted in post.accepted {
            self.connect(sessions, accepted);
        }
    }

    fn add_listeners(&mut self, new: Vec<Listener>) -> io::Result<()> {
        for listener in new {
            self.register(&listener.fd, Source::Listener)?;
            self.listeners.push(listener);
        }
        self.accept_ready = true;
        Ok(())
    }

    /// Takes waiting connections and hands each to the thread that has the fewest.
    fn accept<S: Sessions>(&mut self, sessions: &mut S) {
        if !self.accept_ready || self.accept_after.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.accept_after = None;
        let settings = self.config.settings().clone();
        let mut left = settings.max_new_connections_per_cycle.clamp(1, ACCEPT_MAX);
        for at in 0..self.listeners.len() {
            loop {
                if left == 0 {
                    return; // `accept_ready` still says that there may be more
                }
                match self.listeners[at].accept(&settings) {
                    Ok(Some(accepted)) => self.hand_out(sessions, accepted),
                    Ok(None) => break,
                    Err(error) => {
                        log::warning(&format!("Error accepting a client connection: {error}"));
                        self.accept_after = Some(Instant::now() + ACCEPT_PAUSE);
                        return;
                    }
                }
                left -= 1;
            }
        }
        self.accept_ready = false;
    }

    fn hand_out<S: Sessions>(&mut self, sessions: &mut S, accepted: Accepted) {
        let (fewest, mailbox) = self.shared.fewest();
        let mailbox = mailbox.clone();
        mailbox.connections.fetch_add(1, Ordering::Relaxed);
        if fewest == self.index {
            self.connect(sessions, accepted);
        } else {
            mailbox.post(|post| post.accepted.push(accepted));
        }
    }

    /// Starts a session for a connection that this thread got.
    fn connect<S: Sessions>(&mut self, sessions: &mut S, accepted: Accepted) {
        let settings = self.config.settings();
        let refused = if settings.protected_mode && !accepted.local && !sessions.needs_password() {
            Err(PROTECTED.as_bytes().to_vec())
        } else {
            sessions.connect(accepted.peer)
        };
        let slot = match refused {
            Ok(slot) => slot,
            Err(message) => {
                // A fresh socket's buffer takes a line; if not, the client sees the end of the connection.
                let _ = rustix::net::send(&accepted.fd, &message, SendFlags::NOSIGNAL);
                self.mailbox.connections.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        };
        if let Err(error) = self.register(&accepted.fd, Source::Slot(slot)) {
            log::warning(&format!("Cannot watch a client's socket: {error}"));
            sessions.disconnect(slot);
            self.mailbox.connections.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        if self.conns.len() <= slot {
            self.conns.resize_with(slot + 1, || None);
        }
        // Registering reports at once what has come already.
        self.conns[slot] = Some(Conn {
            fd: accepted.fd,
            readable: false,
            writable: true,
            hangup: false,
            ended: false,
            queued: false,
            read_ahead: None,
        });
    }

    fn queue(&mut self, slot: Slot) {
        if let Some(Some(conn)) = self.conns.get_mut(slot)
            && !conn.queued
        {
            conn.queued = true;
            self.ready.push_back(slot);
        }
    }

    /// Serves so many connections from the front of the queue: reads all, processes all, writes all.
    ///
    /// One after another would cost more: the kernel's code and the server's would push each other out of the processor's
    /// caches with every request, each reply would wake a client that had fallen asleep since the one before, and the memory
    /// could not fetch the keys of one session while others run.
    fn serve_group<S: Sessions>(&mut self, driver: &mut Driver, sessions: &mut S, group: usize) {
        // They stay in the queue, for a nested turn to find.
        for at in 0..group.min(self.ready.len()) {
            let slot = self.ready[at];
            if group > 1 && !self.executing.contains(&slot) && self.read(sessions, slot) {
                sessions.look_ahead(slot);
            }
        }
        for at in 0..group {
            let Some(slot) = self.ready.pop_front() else {
                break;
            };
            if at == 0 {
                sessions.prefetch(slot);
            }
            if let Some(&next) = self.ready.front() {
                sessions.prefetch(next);
            }
            self.serve(driver, sessions, slot, at != 0);
        }
        self.write_group(sessions);
    }

    /// Writes what the connections of a group have to be sent.
    fn write_group<S: Sessions>(&mut self, sessions: &mut S) {
        let mut slots = std::mem::take(&mut self.unwritten);
        for slot in slots.drain(..) {
            self.flush(sessions, slot);
        }
        self.unwritten = slots;
    }

    /// Reads a connection once, if there is something to read and it was not read ahead. Whether it brought something.
    fn read<S: Sessions>(&mut self, sessions: &mut S, slot: Slot) -> bool {
        let Some(Some(conn)) = self.conns.get_mut(slot) else {
            return false;
        };
        if conn.read_ahead.is_some() || !conn.readable || conn.ended || sessions.fate(slot) != Fate::Open {
            return false;
        }
        let hint = sessions.read_hint(slot).max(1);
        let input = sessions.input(slot);
        input.reserve(hint);
        let room = input.capacity() - input.len();
        conn.read_ahead = Some(hint);
        match rustix::net::recv(&conn.fd, spare_capacity(input), RecvFlags::empty()) {
            Ok((0, _)) => conn.ended = true,
            // A stream that gives less than asked for is empty, unless its end follows.
            Ok((read, _)) => {
                conn.readable = read == room || conn.hangup;
                self.mailbox.note_moved(read);
                return true;
            }
            Err(Errno::AGAIN) => conn.readable = false,
            Err(Errno::INTR) => {}
            Err(_) if sessions.is_put_aside(slot) => conn.ended = true,
            Err(_) => self.close(sessions, slot),
        }
        false
    }

    /// Reads a connection once, if that has not been done, and processes; `next` as for [`Sessions::process`].
    fn serve<S: Sessions>(&mut self, driver: &mut Driver, sessions: &mut S, slot: Slot, next: bool) {
        let Some(Some(conn)) = self.conns.get_mut(slot) else {
            return;
        };
        conn.queued = false;
        if self.executing.contains(&slot) {
            return; // its `serve`, further out, goes on with `flush`, which sees what has come meanwhile
        }
        self.read(sessions, slot);
        let asked = self.take_read(slot);
        if let Some(asked) = asked {
            self.process(driver, sessions, slot, next);
            // A second time only for the rest of a big argument, of which the first read brought the beginning.
            if sessions.fate(slot) == Fate::Open && sessions.read_hint(slot) > asked {
                self.read(sessions, slot);
                if self.take_read(slot).is_some() {
                    self.process(driver, sessions, slot, true);
                }
            }
        }
        if sessions.pending(slot).next().is_some_and(|piece| piece.len() > EAGER_BYTES) {
            self.flush(sessions, slot);
        } else {
            self.unwritten.push(slot);
        }
    }

    /// How many bytes the read asked for whose outcome is to be looked at now, if there is one.
    fn take_read(&mut self, slot: Slot) -> Option<usize> {
        self.conns.get_mut(slot)?.as_mut()?.read_ahead.take()
    }

    fn process<S: Sessions>(&mut self, driver: &mut Driver, sessions: &mut S, slot: Slot, next: bool) {
        if !self.executing.contains(&slot) && matches!(self.conns.get(slot), Some(Some(_))) {
            self.executing.push(slot);
            sessions.process(slot, next, &mut AtWork { event_loop: self, driver });
            self.executing.pop();
        }
    }

    /// Writes once, then closes or queues the connection as it needs.
    fn flush<S: Sessions>(&mut self, sessions: &mut S, slot: Slot) {
        if self.executing.contains(&slot) {
            return;
        }
        let Some(Some(conn)) = self.conns.get_mut(slot) else {
            return;
        };
        let fate = sessions.fate(slot);
        let mut pending = sessions.pending(slot);
        if conn.writable
            && fate != Fate::Close
            && let Some(first) = pending.next()
        {
            match send_some(&conn.fd, first, pending) {
                Ok(bytes) => {
                    sessions.written(slot, bytes);
                    self.mailbox.note_moved(bytes);
                }
                Err(Errno::AGAIN) => conn.writable = false,
                Err(Errno::INTR) => {}
                Err(_) => return self.close(sessions, slot),
            }
        }
        let written = !sessions.has_pending(slot);
        let drained = written && !sessions.is_held(slot);
        let (readable, writable, ended) = (conn.readable && !conn.ended, conn.writable, conn.ended);
        match sessions.fate(slot) {
            // At the end connections are closed last: see `stop_listening`.
            Fate::Close if self.shared.is_stopping() => {}
            Fate::Close => self.close(sessions, slot),
            Fate::CloseAfterWrite if drained => self.close(sessions, slot),
            // What the client sent before it hung up is run, as it would be had no shard been busy.
            Fate::Open if ended && drained && !sessions.is_put_aside(slot) => self.close(sessions, slot),
            fate if (fate == Fate::Open && readable) || (!written && writable) => self.queue(slot),
            _ => {}
        }
    }

    fn close<S: Sessions>(&mut self, sessions: &mut S, slot: Slot) {
        // Dropping the descriptor takes it out of the poll.
        if self.conns.get_mut(slot).and_then(Option::take).is_some() {
            sessions.disconnect(slot);
            self.mailbox.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Sends as much as one turn gives a connection.
fn send_some(fd: &OwnedFd, first: &[u8], mut rest: Pieces<'_>) -> rustix::io::Result<usize> {
    let Some(second) = rest.next() else {
        return rustix::net::send(fd, &first[..first.len().min(WRITE_MAX)], SendFlags::NOSIGNAL);
    };
    let mut parts = [IoSlice::new(&[]); GATHER_MAX];
    let (mut count, mut left) = (0, WRITE_MAX);
    for (part, piece) in parts.iter_mut().zip([first, second].into_iter().chain(rest)) {
        let piece = &piece[..piece.len().min(left)];
        *part = IoSlice::new(piece);
        count += 1;
        left -= piece.len();
        if left == 0 {
            break;
        }
    }
    // At most all of them.
    let parts = &parts[..count];
    rustix::net::sendmsg(fd, parts, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
}

/// A loop in the middle of a command, with the thread that runs it.
struct AtWork<'a> {
    event_loop: &'a mut EventLoop,
    driver: &'a mut Driver,
}

impl<S: Sessions> Others<S> for AtWork<'_> {
    fn send_replies(&mut self, sessions: &mut S) {
        self.event_loop.write_group(sessions);
    }

    fn serve_others(&mut self, sessions: &mut S) {
        self.event_loop.nested_turn(self.driver, sessions, false);
    }

    fn await_others(&mut self, sessions: &mut S) {
        self.event_loop.nested_turn(self.driver, sessions, true);
    }

    fn is_stopping(&self) -> bool {
        self.event_loop.shared.is_stopping()
    }
}

/// What a client from elsewhere reads while protected mode guards a server without a password; Redis's words, which clients
/// and their documentation quote.
const PROTECTED: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no password \
is set for the default user. In this mode connections are only accepted from the loopback interface. If you want to \
connect from external computers to Redis you may adopt one of the following solutions: 1) Just disable protected mode \
sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the same \
host the server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. Use CONFIG \
REWRITE to make this change permanent. 2) Alternatively you can just disable the protected mode by editing the Redis \
configuration file, and setting the protected mode option to 'no', and then restarting the server. 3) If you started \
the server manually just for testing, restart it with the '--protected-mode no' option. 4) Set up an authentication \
password for the default user. NOTE: You only need to do one of the above things in order for the server to start \
accepting connections from the outside.\r\n";

#[cfg(test)]
mod tests;
