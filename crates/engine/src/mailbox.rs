//! Mailboxes: how one thread reaches the sessions of another.
//!
//! Invariant: a message posted before a drain begins is seen by that drain or by one that a later wake-up causes; no
//! message is lost and none is seen twice. Messages of one sender arrive in order.

use crate::durability::Lsn;
use crate::following::Notices;
use crate::tracking::OutOfDate;
use crate::worker::Slot;
use kelda_store::sync::{AtomicBool, Mutex, Ordering};
use std::sync::{Arc, PoisonError};

/// A session wherever it lives: worker, place there, and the id that tells whether the place was reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionRef {
    /// Index of the worker.
    pub worker: usize,
    /// Place in the worker.
    pub slot: Slot,
    /// Client id.
    pub id: u64,
}

/// How a message was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Subscribers of the channel and of patterns that match it.
    Channel,
    /// Subscribers of the shard channel.
    Shard,
}

/// What one thread asks of another.
pub enum Message {
    /// Deliver to the local subscribers.
    Publish {
        /// Whom it is for.
        audience: Audience,
        /// The channel.
        channel: Arc<[u8]>,
        /// The message.
        payload: Arc<[u8]>,
        /// The transaction that it tells of.
        lsn: Lsn,
    },
    /// A blocked session was served: its reply.
    Served {
        /// The session.
        session: SessionRef,
        /// The reply in the session's protocol.
        reply: Vec<u8>,
        /// The transaction that served it.
        lsn: Lsn,
        /// Whether the command ran; or else its user may no longer run it.
        ran: bool,
    },
    /// End a blocked session's wait as CLIENT UNBLOCK asks.
    Unblock {
        /// The session.
        session: SessionRef,
        /// With an error rather than as if its time were over.
        with_error: bool,
    },
    /// Close a session.
    Kill {
        /// The session.
        session: SessionRef,
    },
    /// Tell sessions that they keep copies of a key that changed.
    Invalid {
        /// The key.
        key: Arc<[u8]>,
        /// The client that changed it; 0 for none.
        actor: u64,
        /// The client ids of the sessions.
        readers: Vec<u64>,
    },
    /// Tell all sessions that track that everything changed.
    AllInvalid {
        /// The client that hears of it otherwise.
        by: u64,
    },
    /// Tell the sessions with CLIENT TRACKING BCAST that keys changed.
    Changed {
        /// The keys, each with the client that changed it; 0 for none.
        keys: Arc<[(Arc<[u8]>, u64)]>,
    },
    /// Tell a session that was running a command before.
    OutOfDate {
        /// Its client id.
        reader: u64,
        /// What it keeps copies of.
        what: OutOfDate,
    },
    /// Tell a session what another one is to be told.
    Redirected {
        /// The session.
        to: SessionRef,
        /// What that one keeps copies of.
        what: OutOfDate,
    },
    /// Show those who monitor that commands ran.
    Monitored {
        /// Their lines.
        lines: Arc<[u8]>,
    },
    /// Say that this thread goes by what is known now.
    Notice {
        /// To whom.
        to: Arc<Notices>,
    },
    /// This server has become a replica: nobody waits any longer for keys that only its master changes.
    UnblockAll,
    /// Look again: the server is ending, or CLIENT PAUSE is over.
    Shutdown,
    /// The thread is to stand still for so many µs (DEBUG SLEEP).
    StandStill {
        /// µs.
        us: u64,
        /// Whether what came before has had its turn.
        now: bool,
    },
}

/// One thread's mailbox.
pub struct Mailbox {
    messages: Mutex<Vec<Message>>,
    announced: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Mailbox {
    /// A mailbox whose owner is woken by `wake`.
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Mailbox {
        Mailbox { messages: Mutex::default(), announced: AtomicBool::new(false), wake }
    }

    /// Leaves a message and wakes the owner unless it has been woken already.
    pub fn post(&self, message: Message) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        if !self.announced.swap(true, Ordering::AcqRel) {
            (self.wake)();
        }
    }

    /// Wakes the owner without a message.
    pub fn nudge(&self) {
        (self.wake)();
    }

    /// Leaves a message from the owner's own thread, which looks (`has_mail`) before it sleeps.
    pub fn post_to_self(&self, message: Message) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        self.announced.store(true, Ordering::Release);
    }

    /// Whether a message may be waiting.
    #[inline]
    pub fn has_mail(&self) -> bool {
        self.announced.load(Ordering::Acquire)
    }

    /// Takes all messages into `mail`, which is empty, and whose memory is used for those to come.
    pub fn drain_into(&self, mail: &mut Vec<Message>) {
        // Cleared before the messages are taken: one posted in between causes another wake-up.
        self.announced.store(false, Ordering::Release);
        std::mem::swap(mail, &mut *self.messages.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
