//! MONITOR: sessions that are shown every command of all others.
//!
//! A command's line is written while its shards are held, and posted at its commit. So of two commands that touch the same
//! key all monitors see first the one that ran first, and what a transaction or script did lies together.

use crate::command::Flags;
use crate::mailbox::{Message, SessionRef};
use crate::redacted::redacted;
use crate::registry::Registered;
use crate::session::Session;
use crate::worker::Worker;
use kelda_store::sync::{AtomicUsize, Ordering::Relaxed};
use std::io::Write;
use std::sync::Arc;

/// How many sessions monitor.
pub struct Monitors {
    count: AtomicUsize,
    by_worker: Vec<AtomicUsize>,
}

impl Monitors {
    /// Nobody monitors.
    pub fn new(workers: usize) -> Monitors {
        Monitors { count: AtomicUsize::new(0), by_worker: (0..workers).map(|_| AtomicUsize::new(0)).collect() }
    }

    /// Whether anybody monitors.
    #[inline]
    pub fn any(&self) -> bool {
        self.count.load(Relaxed) != 0
    }
}

/// From now on the session is shown every command.
pub fn start(worker: &mut Worker, session: &mut Session) {
    let engine = &worker.engine;
    engine.monitors.count.fetch_add(1, Relaxed);
    engine.monitors.by_worker[worker.index].fetch_add(1, Relaxed);
    engine.observers.fetch_add(1, Relaxed);
    session.monitors = true;
    session.info.monitor.store(true, Relaxed);
    worker.observed = true;
    worker.monitors.push(session.at);
}

/// The session is shown no more commands.
pub fn stop(worker: &mut Worker, session: &mut Session) {
    if std::mem::take(&mut session.monitors) {
        session.info.monitor.store(false, Relaxed);
        let engine = &worker.engine;
        engine.monitors.count.fetch_sub(1, Relaxed);
        engine.monitors.by_worker[worker.index].fetch_sub(1, Relaxed);
        engine.observers.fetch_sub(1, Relaxed);
        worker.monitors.retain(|at| *at != session.at);
    }
}

/// Writes the line of a command that ran, for all who monitor; unless it is for administrators.
#[inline]
pub fn note(worker: &mut Worker, session: &Session, command: &Registered, words: &[&[u8]], scripted: bool) {
    let shown = !command.flags.has(Flags::SKIP_MONITOR) && !command.flags.has(Flags::ADMIN);
    if worker.observed && shown && worker.engine.monitors.any() {
        write_line(worker, session, command, words, scripted);
    }
}

/// Writes the line of a script that is about to run: it comes before those of the commands that it calls. What is written
/// so far, to which the lines fall back if the script is rolled back.
pub fn note_script(worker: &mut Worker, session: &Session, command: &Registered, words: &[&[u8]]) -> usize {
    let mark = worker.monitored.len();
    if worker.observed && worker.engine.monitors.any() {
        write_line(worker, session, command, words, false);
    }
    mark
}

#[cold]
fn write_line(worker: &mut Worker, session: &Session, command: &Registered, words: &[&[u8]], scripted: bool) {
    let peer = &session.info.peer;
    let (unix, from) = match (scripted, peer.unix) {
        (true, _) => ("", "lua"),
        (_, true) => ("unix:", peer.addr.as_str()),
        _ => ("", peer.addr.as_str()),
    };
    let us = worker.now_us();
    let line = &mut worker.monitored;
    // Writing to memory does not fail.
    let _ = write!(line, "+{}.{:06} [{} {unix}{from}]", us / 1_000_000, us % 1_000_000, session.db);
    for word in redacted(command, words) {
        line.extend_from_slice(b" \"");
        word.iter().for_each(|byte| write_escaped(line, *byte));
        line.push(b'"');
    }
    line.extend_from_slice(b"\r\n");
}

/// Writes a byte as within C's quotes.
fn write_escaped(line: &mut Vec<u8>, byte: u8) {
    let letter = match byte {
        b'\\' | b'"' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        7 => b'a',
        8 => b'b',
        b' '..=b'~' => return line.push(byte),
        _ => {
            // Writing to memory does not fail.
            let _ = write!(line, "\\x{byte:02x}");
            return;
        }
    };
    line.extend_from_slice(&[b'\\', letter]);
}

/// Sends the lines written so far to all who monitor.
#[cold]
pub fn post(worker: &mut Worker) {
    let lines: Arc<[u8]> = std::mem::take(&mut worker.monitored).into();
    let engine = &worker.engine;
    for (to, monitors) in engine.monitors.by_worker.iter().enumerate() {
        if monitors.load(Relaxed) != 0 {
            engine.post(worker.index, to, Message::Monitored { lines: lines.clone() });
        }
    }
}

impl Worker {
    /// Mail: commands ran.
    pub(crate) fn receive_monitored(&mut self, lines: &[u8]) {
        let monitors: Vec<SessionRef> = self.monitors.clone();
        monitors.into_iter().for_each(|at| self.deliver(at.slot, lines, 0));
    }
}
