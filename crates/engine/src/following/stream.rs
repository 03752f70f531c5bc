//! The session whose other end is the master: applies what comes, and tells how far this server is.
//!
//! Its commands run with the rights of the master: no user, no limit and no role of this server keeps them from running. They
//! see keys that are due: when these go is the master's to say. The bytes of each command go into the feed with what it
//! changed, those of a transaction when it is executed.

use super::{Handover, LinkState};
use crate::args::Args;
use crate::command::Reply;
use crate::durability::Lsn;
use crate::exec::{self, Flow};
use crate::session::Session;
use crate::worker::{Fate, Host, Worker};
use kelda_resp::{RequestLimits, Step, Writer, encode_command};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

/// Between two messages about how far this server is, in ms.
const ACKNOWLEDGE_MS: i64 = 1000;

/// What a session knows whose other end is the master.
pub(crate) struct Master {
    generation: u64,
    acknowledges: bool,
    acknowledged_ms: i64,
    /// Bytes of a transaction that has yet to be executed.
    pending: Vec<u8>,
    /// Places in the history, each with the transaction that has to be on disk for it.
    marks: VecDeque<(Lsn, u64)>,
    /// How much of the history is on disk.
    on_disk: u64,
}

/// What of the master's is being applied on a worker.
#[derive(Default)]
pub(crate) struct Applying {
    /// The client id of the session; 0 for none.
    id: u64,
    /// Bytes that are not in the feed yet.
    bytes: Vec<u8>,
}

impl Applying {
    /// What is to go into the feed with what client `current` changed, if that is the master.
    pub fn take(&mut self, current: u64) -> Option<Vec<u8>> {
        (self.id != 0 && self.id == current).then(|| std::mem::take(&mut self.bytes))
    }
}

impl Worker {
    /// Makes a session just connected the one of the master, if that is still wanted.
    pub(crate) fn begin_following(&mut self, session: &mut Session) {
        let (following, now_ms) = (&self.engine.following, self.now_ms());
        let mut inner = following.lock();
        let handover = inner.handover.take().filter(|handover| following.is_current(handover.generation));
        let Some(Handover { generation, input, db, acknowledges }) = handover else {
            session.fate = Fate::Close;
            self.touched.push(session.at.slot);
            return;
        };
        (inner.state, inner.session, inner.transfer) = (LinkState::Connected, Some(session.at), None);
        inner.down_since_ms = 0;
        following.up.store(true, Relaxed);
        following.last_io_ms.store(now_ms, Relaxed);
        drop(inner);
        (session.authenticated, session.restricted) = (true, false);
        session.info.master.store(true, Relaxed);
        session.info.labels().user = "(superuser)".into();
        session.select(db);
        session.input = input;
        session.master = Some(Box::new(Master {
            generation,
            acknowledges,
            acknowledged_ms: now_ms,
            pending: Vec::new(),
            marks: VecDeque::new(),
            on_disk: 0,
        }));
        self.master = Some(session.at);
        // So that it knows that the snapshot has been read, and goes on.
        self.acknowledge(session);
        self.touched.push(session.at.slot);
        session.put_aside = true;
        self.retry.push(session.at);
    }

    /// The session of the master is gone.
    pub(crate) fn stop_following_master(&mut self, session: &mut Session) {
        let Some(master) = session.master.take() else { return };
        if self.master == Some(session.at) {
            self.master = None;
        }
        let following = &self.engine.following;
        let mut inner = following.lock();
        if !following.is_current(master.generation) {
            return;
        }
        following.note(&self.engine, 3, "Connection with master lost.");
        following.note(&self.engine, 2, "Caching the disconnected master state.");
        following.up.store(false, Relaxed);
        following.read_ahead.store(0, Relaxed);
        (inner.state, inner.session, inner.next_try_ms) = (LinkState::Connect, None, 0);
        inner.down_since_ms = self.now_ms();
        drop(inner);
        following.cron(&self.engine);
    }

    /// Looks after the session of the master. Called about ten times a second.
    pub(crate) fn tend_master(&mut self) {
        if self.index == 0 {
            self.expire_local_keys();
        }
        let Some(at) = self.master else { return };
        let Some(mut session) = self.take_session(at) else { return };
        let (engine, now_ms) = (self.engine.clone(), self.now_ms());
        let timeout_ms = self.settings.repl_timeout as i64 * 1000;
        if now_ms - engine.following.last_io_ms.load(Relaxed) > timeout_ms {
            engine.following.note(&engine, 3, "MASTER timeout: no data nor PING received...");
            session.fate = Fate::Close;
            self.touch(at.slot);
        } else if session.master.as_ref().is_some_and(|master| now_ms - master.acknowledged_ms >= ACKNOWLEDGE_MS) {
            self.acknowledge(&mut session);
            self.touch(at.slot);
        }
        self.sessions[at.slot] = Some(session);
    }

    /// Tells the master how far this server is.
    fn acknowledge(&self, session: &mut Session) {
        let Some(master) = &mut session.master else { return };
        master.acknowledged_ms = self.now_ms();
        if !master.acknowledges {
            return;
        }
        let place = self.engine.replication.offset();
        let (has, mut on_disk) = (place.to_string(), None);
        if let Some(sink) = self.engine.log.sink()
            && self.engine.log.is_on()
        {
            if master.marks.back().is_none_or(|(_, known)| *known != place) && master.on_disk != place {
                master.marks.push_back((sink.last_lsn(), place));
            }
            let durable = sink.durable_lsn();
            while let Some((_, place)) = master.marks.pop_front_if(|(lsn, _)| *lsn <= durable) {
                master.on_disk = place;
            }
            on_disk = Some(master.on_disk.to_string());
        }
        let mut words: SmallVec<[&[u8]; 5]> = SmallVec::from_slice(&[&b"REPLCONF"[..], b"ACK", has.as_bytes()]);
        if let Some(on_disk) = &on_disk {
            words.extend([&b"FACK"[..], on_disk.as_bytes()]);
        }
        encode_command(&mut session.reply.buf, &words);
    }
}

/// Applies what is complete of what the master sent.
pub(crate) fn run(worker: &mut Worker, session: &mut Session, host: &mut dyn Host) {
    let Some(master) = &mut session.master else { return };
    let (generation, engine) = (master.generation, worker.engine.clone());
    if session.fate != Fate::Open || worker.loading {
        if worker.loading {
            worker.put_aside(session);
        }
        return;
    }
    let fresh = Applying { id: session.at.id, bytes: std::mem::take(&mut master.pending) };
    let outer = (std::mem::replace(&mut worker.applying, fresh), worker.tellings.begin(false));
    engine.following.last_io_ms.store(worker.now_ms(), Relaxed);
    let input = std::mem::take(&mut session.input);
    let mut reply = std::mem::replace(&mut session.reply, Writer::new(session.protocol));
    let limits = RequestLimits { bulk_bytes_max: usize::MAX >> 1, ..RequestLimits::default() };
    let (mut consumed, mut spans) = (0, Vec::new());
    while engine.following.is_current(generation) && session.fate == Fate::Open {
        let rest = &input[consumed..];
        spans.clear();
        let (bytes, flow) = match session.parser.next(rest, &limits, &mut spans) {
            Ok(Step::Command { consumed: bytes }) => {
                let words: SmallVec<[&[u8]; 8]> = spans.iter().map(|span| span.of(rest)).collect();
                (bytes, apply(worker, session, host, &words, &rest[..bytes], &mut reply))
            }
            Ok(Step::Inline { consumed: bytes, args }) => {
                let words: SmallVec<[&[u8]; 8]> = args.iter().map(|word| &word[..]).collect();
                (bytes, apply(worker, session, host, &words, &rest[..bytes], &mut reply))
            }
            Ok(Step::Skip { consumed: bytes }) => {
                worker.applying.bytes.extend_from_slice(&rest[..bytes]);
                (bytes, Flow::Next)
            }
            Ok(Step::Incomplete { need }) => {
                session.needs = need;
                break;
            }
            Err(error) => {
                engine.following.note(&engine, 3, &format!("Protocol error from master: {}", error.0));
                engine.following.lock().strayed = true;
                session.fate = Fate::Close;
                break;
            }
        };
        if flow == Flow::Again {
            session.parser = Default::default();
            worker.put_aside(session);
            break;
        }
        consumed += bytes;
        if session.multi.is_none() && !worker.applying.bytes.is_empty() {
            engine.replication.pass(&engine, &worker.applying.bytes, session.db);
            worker.applying.bytes.clear();
        }
    }
    let left = input.len() - consumed + worker.applying.bytes.len();
    engine.following.read_ahead.store(left as u64, Relaxed);
    worker.stats().repl_input_bytes.add(consumed as u64);
    exec::finish_turn(worker, session, input, consumed, reply);
    let applied = std::mem::replace(&mut worker.applying, outer.0);
    worker.tellings = outer.1;
    if let Some(master) = &mut session.master {
        master.pending = applied.bytes;
    }
}

/// Applies one command.
fn apply(
    worker: &mut Worker,
    session: &mut Session,
    host: &mut dyn Host,
    words: &[&[u8]],
    bytes: &[u8],
    reply: &mut Reply,
) -> Flow {
    /// Bytes of a command that the log shows.
    const SHOWN: usize = 64;
    let (mark, before) = (reply.len(), worker.applying.bytes.len());
    worker.applying.bytes.extend_from_slice(bytes);
    let flow = exec::execute(worker, session, host, Args::new(words), reply);
    if flow == Flow::Again {
        worker.applying.bytes.truncate(before);
        reply.truncate(mark);
        return flow;
    }
    if reply.buf.get(mark) == Some(&b'-') {
        worker.engine.following.errors.fetch_add(1, Relaxed);
        let line = reply.buf[mark + 1..].split(|byte| *byte == b'\r').next().unwrap_or_default();
        let name = words.first().map_or(&[][..], |name| &name[..name.len().min(SHOWN)]);
        let (line, name) = (String::from_utf8_lossy(line), name.escape_ascii());
        let what = "== CRITICAL == This replica is sending an error to its master";
        let text = format!("{what}: '{line}' after processing the command '{name}'");
        worker.engine.following.note(&worker.engine, 3, &text);
    }
    // The master wants no replies but to this.
    reply.truncate(mark);
    let is = |at: usize, word: &[u8]| words.get(at).is_some_and(|have| have.eq_ignore_ascii_case(word));
    if is(0, b"replconf") && is(1, b"getack") {
        std::mem::swap(reply, &mut session.reply);
        worker.acknowledge(session);
        std::mem::swap(reply, &mut session.reply);
    }
    Flow::Next
}
