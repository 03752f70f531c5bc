//! A session: one connection's state. It lives on one worker and is touched by no other thread.

use crate::acl::user::User;
use crate::args::Args;
use crate::client_memory::entry_bytes;
use crate::clients::ClientInfo;
use crate::config::AppendFsync;
use crate::durability::Lsn;
use crate::exec::Batch;
use crate::following::Master;
use crate::mailbox::{Audience, SessionRef};
use crate::queue::Queue;
use crate::registry::Registered;
use crate::replication::Announced;
use crate::tracking::Tracks;
use crate::worker::Fate;
use kelda_resp::{Pieces, Protocol, RequestParser, Sent, Writer};
use kelda_store::waiting::{DbKey, Waiter, Watch};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A command's words, owned.
pub type Words = Vec<Box<[u8]>>;

/// What WATCH watches.
#[derive(Default)]
pub struct Watching {
    /// Touched when any of the keys changes.
    pub watch: Arc<Watch>,
    /// The keys.
    pub keys: Vec<DbKey>,
}

/// A message that is published later.
pub struct Published {
    /// Whom it is for.
    pub audience: Audience,
    /// The channel.
    pub channel: Box<[u8]>,
    /// The message.
    pub payload: Box<[u8]>,
}

/// A session blocked on keys.
pub struct Blocked {
    /// Its place in the queues.
    pub waiter: Arc<Waiter>,
    /// When its time is over, in the worker's monotonic µs.
    pub deadline_us: Option<u64>,
    /// When its command is to be run again in any case, likewise.
    pub again_us: Option<u64>,
    /// What it waits for if it is no key.
    pub log: Option<LogWait>,
}

impl Blocked {
    /// When something is to be done about it, in the worker's monotonic µs.
    pub fn timer_us(&self) -> Option<u64> {
        self.deadline_us.into_iter().chain(self.again_us).min()
    }
}

/// What WAIT or WAITAOF waits for.
#[derive(Clone, Copy, Debug)]
pub struct LogWait {
    /// Its last transaction,
    pub lsn: Lsn,
    /// which must be durable here if this says so.
    pub local: bool,
    /// Its place in what replicas are fed,
    pub offset: u64,
    /// which so many of them must have,
    pub replicas: usize,
    /// on disk: WAITAOF.
    pub on_disk: bool,
}

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyMode {
    /// Every reply is sent.
    On,
    /// None is.
    Off,
    /// That of the next command is not.
    SkipNext,
    /// That of this command is not.
    Skip,
}

/// Output that must not leave yet.
#[derive(Clone, Copy, Debug)]
pub struct Hold {
    /// The transaction that must be durable first.
    pub lsn: Lsn,
    /// Where the output begins that tells of it; what follows it waits, too. Before the end of the output.
    pub start: usize,
}

/// One connection.
pub struct Session {
    /// Where it lives, and its client id.
    pub at: SessionRef,
    /// What other threads see of it.
    pub info: Arc<ClientInfo>,
    /// The database in use.
    pub db: u32,
    /// RESP2 or RESP3.
    pub protocol: Protocol,
    /// Whether it needs no (further) AUTH.
    pub authenticated: bool,
    /// Its user, as of the last look.
    pub user: Arc<User>,
    /// Whether commands must be checked: it must log in first, or its user may not do everything.
    pub restricted: bool,
    /// The version of the users at the last look.
    pub acl_version: u64,
    /// Commands queued since MULTI.
    pub multi: Option<Queue>,
    /// Keys watched.
    pub watching: Watching,
    /// What it waits for.
    pub blocked: Option<Blocked>,
    /// Subscriptions of all kinds; what they are is in `info`.
    pub subscription_count: usize,
    /// CLIENT TRACKING.
    pub tracking: Option<Box<Tracks>>,
    /// MONITOR.
    pub monitors: bool,
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// Since when a snapshot has kept its command waiting, µs of the monotonic clock; see [`crate::saving::Saves`].
    pub held_up_us: Option<u64>,
    /// Whether the error that the command in hand replies is in the statistics already.
    pub error_counted: bool,
    /// What the event loop is to do with it.
    pub fate: Fate,
    /// Whether it waits for a busy shard.
    pub put_aside: bool,
    /// Received and not yet consumed.
    pub input: Vec<u8>,
    /// What was parsed of it before its turn.
    pub(crate) ahead: Option<Box<Batch>>,
    /// Where the parser stands in it.
    pub parser: RequestParser,
    /// Bytes that the parser still needs at least.
    pub needs: usize,
    /// Replies not yet sent, after what of it was.
    pub reply: Writer,
    /// How much of `reply` was sent.
    pub sent: Sent,
    /// Bytes of the room that `reply` takes which what it was told of other sessions' changes needed; see
    /// [`Tracking::told_bytes`](crate::tracking::Tracking).
    pub told_bytes: usize,
    /// Which of `reply` must not leave yet, in order of both `start` and `lsn`.
    pub holds: VecDeque<Hold>,
    /// The last transaction in the log that it made.
    pub made_lsn: Lsn,
    /// Where what replicas are fed ended after its last transaction.
    pub fed: u64,
    /// What it said of itself with REPLCONF.
    pub(crate) announced: Option<Box<Announced>>,
    /// The wait for replicas that its SHUTDOWN began or joined.
    pub(crate) leaving: Option<u64>,
    /// Whether it is a replica.
    pub replica: bool,
    /// READONLY: whether it reads from a replica rather than be redirected.
    pub reads_here: bool,
    /// What it knows if its other end is the master.
    pub(crate) master: Option<Box<Master>>,
    /// CLIENT DURABILITY, where it differs from `appendfsync`.
    pub durability: Option<AppendFsync>,
    /// Messages published by the script or transaction that is running, handed on when it commits: a script that is rolled
    /// back and run again publishes once.
    pub outbox: Vec<Published>,
    /// When its output went over the soft limit, in monotonic µs.
    pub over_soft_limit_since_us: Option<u64>,
    /// Whether the output buffer was larger than what every session keeps, and needed so, since cron last looked.
    pub large_output: bool,
    /// The last command looked up: pipelines repeat themselves.
    pub last_command: Option<&'static Registered>,
}

/// Capacity of the output buffer that a session keeps.
const OUTPUT_KEPT_BYTES: usize = 64 * 1024;

impl Session {
    /// A session just connected.
    pub fn new(info: Arc<ClientInfo>, user: Arc<User>, acl_version: u64) -> Session {
        let mut session = Session {
            at: info.at,
            info,
            db: 0,
            protocol: Protocol::Resp2,
            authenticated: false,
            user: user.clone(),
            restricted: true,
            acl_version,
            multi: None,
            watching: Watching::default(),
            blocked: None,
            subscription_count: 0,
            tracking: None,
            monitors: false,
            reply_mode: ReplyMode::On,
            held_up_us: None,
            error_counted: false,
            fate: Fate::Open,
            put_aside: false,
            input: Vec::new(),
            ahead: None,
            parser: RequestParser::default(),
            needs: 0,
            reply: Writer::new(Protocol::Resp2),
            sent: Sent::default(),
            told_bytes: 0,
            holds: VecDeque::new(),
            made_lsn: 0,
            fed: 0,
            announced: None,
            leaving: None,
            replica: false,
            reads_here: false,
            master: None,
            durability: None,
            outbox: Vec::new(),
            over_soft_limit_since_us: None,
            large_output: false,
            last_command: None,
        };
        session.reply.shares = true;
        session.begin_as_default(user, acl_version);
        session
    }

    /// Whether only the commands of the subscribed mode are allowed.
    #[inline]
    pub fn in_pubsub_mode(&self) -> bool {
        self.protocol == Protocol::Resp2 && self.subscription_count != 0
    }

    /// Unsent output that may leave.
    pub fn pending(&self) -> Pieces<'_> {
        self.reply.pieces(self.sent, self.pending_end())
    }

    /// Whether there is any.
    pub fn has_pending(&self) -> bool {
        // A shared string is followed by a line end in the buffer.
        self.sent.at < self.pending_end()
    }

    fn pending_end(&self) -> usize {
        self.holds.front().map_or(self.reply.len(), |hold| hold.start)
    }

    /// Bytes of output that were not sent.
    pub fn unsent(&self) -> usize {
        self.reply.unsent(self.sent)
    }

    /// Holds back the output from `start` on until transaction `lsn` is durable.
    pub fn hold(&mut self, lsn: Lsn, start: usize) {
        // What waits for a later one already waits long enough.
        let covered = self.holds.back().is_some_and(|hold| hold.lsn >= lsn);
        if !covered && start < self.reply.buf.len() {
            self.holds.push_back(Hold { lsn, start });
        }
    }

    /// Lets output go that tells of nothing after transaction `durable`. Whether there was any.
    pub fn release(&mut self, durable: Lsn) -> bool {
        let before = self.holds.len();
        while self.holds.front().is_some_and(|hold| hold.lsn <= durable) {
            self.holds.pop_front();
        }
        self.holds.len() != before
    }

    /// Queues a command of MULTI, if there is one. There are so many databases to be chosen.
    pub fn enqueue(&mut self, command: &'static Registered, args: &Args, databases: u32) {
        let Some(queue) = &mut self.multi else { return };
        let words = args.words();
        // As in Valkey, not once EXEC will be refused.
        if command.name == "select" && !queue.broken {
            let chosen = words.get(1).and_then(|word| u32::try_from(kelda_resp::parse_i64(word)?).ok());
            queue.db = chosen.filter(|db| *db < databases).or(queue.db);
        }
        queue.push(command, args);
        // Only the session's own thread counts.
        self.info.queued.store(queue.len() as i64, Relaxed);
        let bytes: usize = words.iter().map(|word| entry_bytes(word)).sum();
        self.info.queued_bytes.store(self.info.queued_bytes.load(Relaxed) + bytes, Relaxed);
    }

    /// Has others see how many commands are queued; -1 outside of MULTI.
    pub fn show_queued(&self, count: i64) {
        self.info.queued.store(count, Relaxed);
        self.info.queued_bytes.store(0, Relaxed);
    }

    /// Takes away what is watched.
    pub fn take_watching(&mut self) -> Watching {
        let watching = std::mem::take(&mut self.watching);
        let bytes: usize = watching.keys.iter().map(|(_, key)| entry_bytes(key)).sum();
        self.info.kept_bytes.fetch_sub(bytes, Relaxed);
        self.info.watched.store(0, Relaxed);
        watching
    }

    /// Has others see how much output waits for the client, and what its buffer takes besides.
    pub fn show_output(&self, bytes: usize) {
        let unsent = self.reply.len() - self.sent.at;
        let kept = self.reply.buf.capacity() <= OUTPUT_KEPT_BYTES;
        let room = if unsent == 0 && kept { 0 } else { self.reply.buf.capacity() - unsent };
        self.info.output_bytes.store(bytes, Relaxed);
        self.info.output_room.store(room, Relaxed);
    }

    /// Takes what was sent out of the output buffer. One that has grown beyond what every session may keep stays while it is
    /// needed: to free and to grow it again at each turn costs more than what is written into it.
    pub fn empty_output(&mut self) {
        /// Capacity that a session keeps for just a while.
        const LARGE_BYTES_MAX: usize = 1 << 20;
        let buf = &mut self.reply.buf;
        if buf.capacity() > OUTPUT_KEPT_BYTES {
            if buf.capacity() > LARGE_BYTES_MAX || buf.len() < buf.capacity() / 4 {
                *buf = Vec::new();
                return;
            }
            self.large_output = true;
        }
        buf.clear();
    }

    /// Frees an output buffer that was large and has not been needed so since the last call.
    pub fn end_large_output(&mut self) {
        let needed = std::mem::take(&mut self.large_output);
        if !needed && self.reply.is_empty() && self.reply.buf.capacity() > OUTPUT_KEPT_BYTES {
            self.reply.buf = Vec::new();
        }
    }

    /// Has others see what the output's buffer takes.
    pub fn show_replica_buffer(&self) {
        self.info.replica_buffer.store(self.reply.buf.capacity(), Relaxed);
    }

    /// Gives back the memory that the buffers do not need.
    pub fn shrink_buffers(&mut self) {
        /// What is not worth the trouble.
        const FEW: usize = 1024;
        for buffer in [&mut self.input, &mut self.reply.buf] {
            if buffer.capacity() - buffer.len() > FEW {
                buffer.shrink_to_fit();
            }
        }
        let room = if self.input.is_empty() { 0 } else { self.input.capacity() - self.input.len() };
        self.info.input_room.store(room, Relaxed);
        if self.replica {
            self.show_replica_buffer();
        }
    }

    /// Uses another database.
    pub fn select(&mut self, db: u32) {
        self.db = db;
        self.info.db.store(db, Relaxed);
    }
}
