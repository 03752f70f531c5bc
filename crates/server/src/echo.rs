//! Sessions that send back what they read: what the event loop is tested with.
//!
//! Lines that begin with `!` do something else: `!quit` closes after the reply, `!drop` closes at once, `!big N` sends N
//! bytes, `!later X` sends X once another session has sent `!go`, `!nest` serves the other sessions until one of them sends `!go`,
//! `!stuck` serves nobody until a session of another thread has sent `!unstick`.

use crate::latch::Latch;
use crate::sessions::{Others, Sessions};
use kelda_engine::worker::{Fate, Peer, Pieces, Slot};
use std::sync::LazyLock;
use std::time::Duration;

static UNSTUCK: LazyLock<Latch> = LazyLock::new(Latch::default);

#[derive(Default)]
struct Session {
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    fate: Option<Fate>,
    busy: bool,
    later: Option<String>,
}

/// The sessions of one thread.
#[derive(Default)]
pub struct Echo {
    sessions: Vec<Option<Session>>,
    touched: Vec<Slot>,
    go: bool,
    max: usize,
}

impl Echo {
    /// Room for `max` sessions.
    pub fn new(max: usize) -> Echo {
        Echo { max, ..Echo::default() }
    }

    fn session(&mut self, slot: Slot) -> &mut Session {
        self.sessions[slot].as_mut().expect("a live slot")
    }

    fn line(&mut self, slot: Slot, line: &[u8], others: &mut dyn Others<Echo>) {
        let text = String::from_utf8_lossy(line).trim_end().to_string();
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("!quit", _) => self.session(slot).fate = Some(Fate::CloseAfterWrite),
            ("!drop", _) => self.session(slot).fate = Some(Fate::Close),
            ("!big", n) => {
                let bytes = n.parse().expect("a number");
                self.session(slot).output.resize_with(bytes, || b'x');
            }
            ("!go", _) => self.go = true,
            ("!later", text) => return self.session(slot).later = Some(format!("{text}\n")),
            ("!unstick", _) => UNSTUCK.open(),
            ("!stuck", _) => {
                UNSTUCK.wait(Duration::MAX);
                UNSTUCK.close();
            }
            ("!nest", _) => {
                self.session(slot).busy = true;
                while !std::mem::take(&mut self.go) {
                    others.serve_others(self);
                }
                self.session(slot).busy = false;
            }
            ("!all", _) => {
                for at in 0..self.sessions.len() {
                    if let Some(session) = &mut self.sessions[at] {
                        session.output.extend_from_slice(b"all\n");
                        self.touched.push(at);
                    }
                }
                return;
            }
            _ => return self.session(slot).output.extend_from_slice(line),
        }
        self.session(slot).output.extend_from_slice(b"done\n");
    }
}

impl Sessions for Echo {
    fn needs_password(&self) -> bool {
        false
    }
    fn connect(&mut self, peer: Peer) -> Result<Slot, Vec<u8>> {
        assert!(!peer.addr.is_empty() && peer.fd > 0);
        if self.sessions.iter().flatten().count() >= self.max {
            return Err(b"-ERR max number of clients reached\r\n".to_vec());
        }
        let slot = match self.sessions.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.sessions.push(None);
                self.sessions.len() - 1
            }
        };
        self.sessions[slot] = Some(Session::default());
        Ok(slot)
    }
    fn input(&mut self, slot: Slot) -> &mut Vec<u8> {
        &mut self.session(slot).input
    }
    fn read_hint(&self, _: Slot) -> usize {
        16 * 1024
    }
    fn process(&mut self, slot: Slot, _: bool, others: &mut dyn Others<Echo>) {
        assert!(!self.session(slot).busy, "a session under way was touched");
        let input = std::mem::take(&mut self.session(slot).input);
        let complete = input.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        for line in input[..complete].split_inclusive(|b| *b == b'\n') {
            self.line(slot, line, others);
        }
        let later = std::mem::take(&mut self.session(slot).input);
        assert!(later.is_empty());
        self.session(slot).input = input[complete..].to_vec();
    }
    fn pending(&self, slot: Slot) -> Pieces<'_> {
        self.sessions[slot].as_ref().map_or_else(Pieces::default, |s| s.output[s.written..].into())
    }
    fn has_pending(&self, slot: Slot) -> bool {
        self.pending(slot).next().is_some()
    }
    fn written(&mut self, slot: Slot, bytes: usize) {
        let session = self.session(slot);
        assert!(!session.busy, "a session under way was touched");
        session.written += bytes;
        if session.written == session.output.len() {
            session.output.clear();
            session.written = 0;
        }
    }
    fn fate(&self, slot: Slot) -> Fate {
        self.sessions[slot].as_ref().and_then(|s| s.fate).unwrap_or(Fate::Open)
    }
    fn is_put_aside(&self, slot: Slot) -> bool {
        self.sessions[slot].as_ref().is_some_and(|s| s.later.is_some())
    }
    fn disconnect(&mut self, slot: Slot) {
        assert!(!self.session(slot).busy, "a session under way was touched");
        self.sessions[slot] = None;
    }
    fn touched(&mut self, into: &mut Vec<Slot>) {
        into.append(&mut self.touched);
    }
    fn runnable(&mut self, into: &mut Vec<Slot>) {
        if self.go {
            for (slot, session) in self.sessions.iter_mut().enumerate() {
                let Some(session) = session else { continue };
                if let Some(text) = session.later.take() {
                    session.output.extend_from_slice(text.as_bytes());
                    into.push(slot);
                }
            }
        }
    }
    fn wake(&mut self) {}
    fn next_timer_us(&self) -> Option<u64> {
        None
    }
}
