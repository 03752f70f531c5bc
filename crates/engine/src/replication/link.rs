//! Replicas as their worker's sessions: what they say of themselves, and when they are sent what.

use super::Answer;
use crate::config::{OutputLimit, Settings};
use crate::error::{Error, Result};
use crate::mailbox::Audience;
use crate::session::{LogWait, Session};
use crate::worker::Worker;
use kelda_resp::Writer;
use kelda_store::txn::Txn;
use smallvec::SmallVec;
use std::sync::atomic::Ordering::Relaxed;

/// The parts of a snapshot that a session wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// The keys.
    pub keys: bool,
    /// The libraries of FUNCTION.
    pub functions: bool,
}

impl Parts {
    /// Those that REPLCONF rdb-filter-only names, between blanks.
    ///
    /// # Errors
    /// A name that is not known. The keys have none.
    pub fn named(filter: &[u8]) -> Result<Parts> {
        let mut parts = Parts { keys: false, functions: false };
        for name in filter.split(u8::is_ascii_whitespace).filter(|name| !name.is_empty()) {
            if !name.eq_ignore_ascii_case(b"functions") {
                let name = String::from_utf8_lossy(name);
                return Err(Error::owned(format!("ERR Unsupported rdb-filter-only option: {name}")));
            }
            parts.functions = true;
        }
        Ok(parts)
    }
}

impl Default for Parts {
    fn default() -> Parts {
        Parts { keys: true, functions: true }
    }
}

/// What a session said with REPLCONF before it asked to follow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Announced {
    /// Where it serves.
    pub ip: String,
    /// See `ip`.
    pub port: u16,
    /// Whether it reads a snapshot that ends with a mark.
    pub eof: bool,
    /// Whether it understands a history's name behind CONTINUE.
    pub psync2: bool,
    /// Whether it wants a snapshot and nothing else.
    pub rdb_only: bool,
    /// What it wants of a snapshot.
    pub parts: Parts,
    /// The main part of its version; only Valkey says so, since version 8.
    pub version: u32,
}

impl Announced {
    /// The version of RDB for it: Valkey 9 knows fields with expiry times in its own form only.
    pub fn rdb_version(&self, settings: &Settings) -> u16 {
        if self.version >= 9 { 80 } else { settings.rdb_version }
    }
}

/// The command by which a message is published.
fn publish_name(audience: Audience) -> &'static [u8] {
    match audience {
        Audience::Channel => b"PUBLISH",
        Audience::Shard => b"SPUBLISH",
    }
}

impl Worker {
    /// Makes the session a replica, whose output begins with `reply`.
    pub(crate) fn follow(&mut self, session: &mut Session, wants: Option<(&[u8], i64)>, reply: &mut Writer) {
        let engine = self.engine.clone();
        let mut announced = session.announced.take().map(|announced| *announced).unwrap_or_default();
        if announced.ip.is_empty() {
            announced.ip = session.info.peer.addr.rsplit_once(':').map_or(String::new(), |(ip, _)| ip.into());
        }
        let who = format!("{}:{}", announced.ip, announced.port);
        engine.platform.log(2, &format!("Replica {who} asks for synchronization"));
        session.replica = true;
        session.info.replica.store(true, Relaxed);
        self.replicas.push(session.at);
        match engine.replication.enter(
            session.info.clone(),
            announced,
            wants,
            self.settings.repl_backlog_size,
            self.now_ms(),
        ) {
            Answer::Continue(line) => {
                engine.platform.log(2, &format!("Partial resynchronization request from {who} accepted."));
                reply.status(&line);
            }
            Answer::Full => {
                engine.platform.log(2, &format!("Full resync requested by replica {who}"));
                if engine.replication.wants_snapshot(&self.settings, self.now_ms()) {
                    engine.saves.sync();
                }
            }
        }
    }

    /// A session is gone that may have been a replica.
    pub(crate) fn stop_following(&mut self, session: &Session) {
        if session.replica {
            self.replicas.retain(|at| *at != session.at);
            self.engine.replication.leave(session.at, self.now_ms());
        }
    }

    /// Moves into their output what this worker's replicas may be sent.
    pub(crate) fn serve_replicas(&mut self) {
        if !self.engine.replication.is_told(self.index) {
            return;
        }
        for at in self.replicas.clone() {
            // One that runs a command right now is served when its output is written, or at the next turn.
            let Some(mut session) = self.take_session(at) else { continue };
            if self.engine.replication.pull(&mut session, self.now_ms()) {
                self.touch(at.slot);
            }
            self.check_output(&mut session);
            self.sessions[at.slot] = Some(session);
        }
    }

    /// How much output may wait for a session, and how much does.
    pub(crate) fn output_limit(&self, session: &Session) -> (OutputLimit, usize) {
        let limits = &self.settings.client_output_buffer_limit;
        let pending = session.unsent();
        if session.replica {
            // What the backlog keeps anyhow costs nothing.
            let most = |bytes: u64| if bytes == 0 { 0 } else { bytes.max(self.settings.repl_backlog_size) };
            let OutputLimit { hard_bytes, soft_bytes, soft_seconds } = limits.replica;
            let limit = OutputLimit { hard_bytes: most(hard_bytes), soft_bytes: most(soft_bytes), soft_seconds };
            return (limit, pending + self.engine.replication.owed(session.at));
        }
        (if session.subscription_count != 0 { limits.pubsub } else { limits.normal }, pending)
    }

    /// Hands what a transaction changed, and what is to be published with it, to the feed.
    pub(crate) fn feed_transaction(&mut self, txn: &Txn) {
        let messages = self.outbox.iter();
        let published: SmallVec<[[&[u8]; 3]; 2]> =
            messages.map(|message| [publish_name(message.audience), &*message.channel, &*message.payload]).collect();
        if !published.is_empty() || !txn.cx.changes.is_empty() {
            let (passed, engine) = (self.applying.take(self.current), self.engine.clone());
            self.tellings.fed =
                engine.replication.feed(&engine, &txn.cx.changes, &published, txn.db(), passed.as_deref());
        }
    }

    /// Hands a message that is published outside of any transaction to the feed.
    pub(crate) fn feed_message(&self, db: u32, audience: Audience, channel: &[u8], payload: &[u8]) {
        if self.engine.replication.is_on() {
            self.engine.replication.tell(&self.engine, Some(db), &[publish_name(audience), channel, payload]);
        }
    }

    /// Asks all replicas how far they are, since somebody waits for them.
    pub(crate) fn ask_replicas(&self) {
        let engine = &self.engine;
        if engine.replication.is_on() && engine.pause.left_ms(self.now_ms()).is_none() {
            engine.replication.tell(engine, None, &[b"REPLCONF", b"GETACK", b"*"]);
        }
    }

    /// Whether what WAIT or WAITAOF waits for has come; and what it then says: whether the log has it, and how many replicas do.
    pub(crate) fn log_state(&self, wait: &LogWait) -> (bool, bool, usize) {
        let log = &self.engine.log;
        let durable = log.is_on() && wait.lsn <= log.durable_lsn();
        let replicas = self.engine.replication.acked(wait.offset, wait.on_disk);
        ((!wait.local || durable) && replicas >= wait.replicas, durable, replicas)
    }
}
