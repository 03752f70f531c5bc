//! What clients hold and may send, and `maxmemory-clients`: the connections that hold most are cut off while all together hold too much.
//!
//! Each thread counts its own connections whenever one has run or was sent something, and adds what changed to a sum
//! ([`Clients::counted`](crate::clients::Clients)). Only if the sum is over the limit are all connections looked at.
//! Buffers of up to [`BUFFER_BYTES`] belong to every connection: a connection that waits for nothing always counts the same.

use crate::clients::ClientInfo;
use crate::commands::describe_client;
use crate::config::{MemoryLimit, Settings};
use crate::mailbox::Message;
use crate::session::Session;
use crate::worker::{Fate, Worker};
use std::cmp::Reverse;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What a connection takes besides its buffers, about.
const SESSION_BYTES: usize = 1024;
/// The part of its buffers that every connection is taken to have.
const BUFFER_BYTES: usize = 16 * 1024;
/// What it takes, about, to watch a key or to listen to a channel, besides its name.
const ENTRY_BYTES: usize = 128;

/// What it takes to watch a key, or to listen to a channel, of this name.
pub(crate) fn entry_bytes(name: &[u8]) -> usize {
    ENTRY_BYTES + name.len()
}

/// Whether what a client holds counts: replicas have a limit of their own.
fn is_subject(info: &ClientInfo) -> bool {
    !info.killed.load(Relaxed) && !info.replica.load(Relaxed) && !info.master.load(Relaxed)
}

impl Settings {
    /// `maxmemory-clients` in bytes; 0: no limit.
    #[inline]
    pub fn client_memory_limit(&self) -> u64 {
        match self.maxmemory_clients {
            MemoryLimit::Bytes(bytes) => bytes,
            MemoryLimit::Percent(percent) => (u128::from(self.maxmemory) * u128::from(percent) / 100) as u64,
        }
    }
}

impl ClientInfo {
    /// Bytes that the client holds, about.
    pub fn memory(&self) -> usize {
        let sum = |figures: [&AtomicUsize; 3]| figures.iter().map(|figure| figure.load(Relaxed)).sum::<usize>();
        let input = sum([&self.argument_bytes, &self.input_bytes, &self.input_room]);
        let buffers = input + self.output_bytes.load(Relaxed) + self.output_room.load(Relaxed);
        let kept = self.queued_bytes.load(Relaxed) + self.kept_bytes.load(Relaxed);
        SESSION_BYTES + BUFFER_BYTES.max(buffers) + kept
    }
}

impl Worker {
    /// Counts a session's commands before they are run; by itself it may be more than all may hold. Whether it may run them.
    #[inline]
    pub(crate) fn admits(&mut self, session: &Session) -> bool {
        if self.settings.client_memory_limit() == 0 {
            return true;
        }
        session.info.input_bytes.store(session.input.len(), Relaxed);
        session.info.argument_bytes.store(0, Relaxed);
        self.count_client(&session.info);
        !session.info.killed.load(Relaxed)
    }

    /// How long a session's output may get before it is cut off (`client-output-buffer-limit`).
    pub(crate) fn longest_output(&self, session: &Session) -> usize {
        match self.output_limit(session).0.hard_bytes {
            0 => usize::MAX,
            bytes => (session.sent.at + session.sent.shared).saturating_add(bytes as usize),
        }
    }

    /// Cuts a session off that sends more than it lets the server consume (`client-query-buffer-limit`).
    pub(crate) fn check_input(&self, session: &mut Session) {
        if session.input.len() > self.settings.client_query_buffer_limit && session.fate != Fate::Close {
            session.fate = Fate::Close;
            self.stats().query_limit_disconnections.add(1);
            let text = format!("Closing client id={} that reached max query buffer length", session.at.id);
            self.engine.platform.log(3, &text);
        }
    }

    /// Counts what a client of this thread holds, and cuts clients off if all together hold too much.
    #[inline]
    pub(crate) fn count_client(&mut self, info: &ClientInfo) {
        let limit = self.settings.client_memory_limit();
        if limit != 0 {
            self.count_to(info, limit);
        }
    }

    #[cold]
    fn count_to(&mut self, info: &ClientInfo, limit: u64) {
        let clients = &self.engine.clients;
        let sum = clients.recount(info, if is_subject(info) { info.memory() } else { 0 });
        // Those that may not be cut off hold too much: until they hold more, or some time has passed, there is no use in looking.
        if sum > (limit as i64).max(clients.left_by_eviction.load(Relaxed)) {
            self.evict_clients();
        }
    }

    /// Cuts clients off, the biggest first, until all together hold no more than `maxmemory-clients`.
    pub(crate) fn evict_clients(&mut self) {
        let limit = self.settings.client_memory_limit();
        if limit == 0 {
            return;
        }
        let engine = self.engine.clone();
        let clients = &engine.clients;
        // Two threads that both saw too much must not both cut somebody off for it.
        let _one = clients.evicting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = clients.all().into_iter().filter(|info| is_subject(info)).collect();
        all.iter().for_each(|info| _ = clients.recount(info, info.memory()));
        let mut sum: u64 = all.iter().map(|info| info.memory() as u64).sum();
        all.retain(|info| !info.no_evict.load(Relaxed));
        all.sort_by_key(|info| Reverse(info.memory()));
        for info in all {
            if sum <= limit {
                break;
            }
            sum = sum.saturating_sub(info.memory() as u64);
            engine.platform.log(2, &format!("Evicting client: {}", describe_client(&info, self.now_ms())));
            info.killed.store(true, Relaxed);
            clients.recount(&info, 0);
            self.stats().evicted_clients.add(1);
            engine.post(self.index, info.at.worker, Message::Kill { session: info.at });
        }
        clients.left_by_eviction.store(sum as i64, Relaxed);
    }

    /// Looks anew, at all clients of this thread: time has passed.
    pub(crate) fn count_clients(&mut self) {
        if self.settings.client_memory_limit() == 0 {
            return;
        }
        if self.index == 0 {
            self.engine.clients.left_by_eviction.store(0, Relaxed);
        }
        for slot in 0..self.sessions.len() {
            if let Some(session) = &self.sessions[slot] {
                let info = session.info.clone();
                self.count_client(&info);
            }
        }
    }
}
