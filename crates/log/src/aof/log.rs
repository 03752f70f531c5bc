//! The writer: a buffer that commits append to, and the files that it is written to, synced, and rotated through.
//!
//! # Threads
//!
//! The log starts none. [`Log::append`] and [`Log::rotate`] are called with shards held, and take one short lock. One
//! thread of the server calls [`Log::write`], one (the same, or a second, so that a slow sync delays no write) calls
//! [`Log::sync`] when [`Log::sync_due`] says so. Group commit follows: while a sync runs, the next batch gathers in the
//! buffer, and one sync serves all of it. Rewrites ([`Log::prepare_rotation`], [`Log::finish_rewrite`]) are driven by the
//! thread that writes the base.
//!
//! Order of the locks: `writer`, then `files` or `syncing`, then `buffer` or `current`.
//!
//! # Failures
//!
//! A failed write is tried again by the next [`Log::write`], at the same place. A failed sync is final: nobody knows which
//! bytes are on the disk, and a second sync would claim that all are. Only a rewrite helps, whose base holds all that was
//! committed, on a new increment. Until then [`Log::accepts_writes`] is false, and [`Log::durable`] stands still.

mod open;
mod rewrite;

pub use open::{WriteBase, adopt, lock_dir};

use super::backup::Backup;
use super::commands::Select;
use super::frame::{self, HEAD, Head, Kind};
use super::manifest::{Closed, FileLine, FileType, Manifest, Names};
use super::{Error, Lsn, Result};
use crate::crc32c::crc32c;
use crate::disk::{Disk, File, Open, write_all_at};
use kelda_store::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, fence};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock, PoisonError};

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// Bytes of one piece of the buffer, which becomes one frame, and of one write.
const CHUNK: usize = 512 << 10;
/// Bodies from here on are copied before the lock is taken, into a piece of their own.
const BIG: usize = 32 << 10;
/// Bytes that a file is made longer ahead of what is written, if it is synced often.
const AHEAD: u64 = 256 << 10;
/// What it is made longer with, at once.
static FILLER: [u8; 64 << 10] = [frame::FILL; 64 << 10];
/// Batches up to this size are small enough for that to pay.
const SMALL: usize = AHEAD as usize / 8;
/// Bytes of it that are left: a single one could be the start of a frame.
const ROOM_LEFT: u64 = 2;
/// Pieces kept for later.
const SPARE: usize = 16;
/// Room at the start of a piece for what is written last: the marks that stand before a batch, which tell what came before it
/// and when it began, and the frame's line.
const ROOM: usize = 2 * (HEAD + frame::MARK) + HEAD;
/// Milliseconds between marks that tell nothing but the time.
const MARK_EVERY_MS: u64 = 100;
/// `everysec`: when a sync is due after the last one began. Less than a second, so that the sync itself has some time.
const EVERYSEC_MS: u64 = 800;
/// `no`: the system decides, but recovery can tell damage from a torn tail only up to the last sync.
const SELDOM_MS: u64 = 30_000;

/// When the log is synced (`appendfsync`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Before a write is acknowledged.
    Always,
    /// At most a second later.
    EverySec,
    /// As the system likes.
    No,
}

/// What a log is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes that may wait to be written before [`Log::accepts_writes`] says no.
    pub buffer_max: usize,
    /// A random number that no client can guess.
    pub salt: u64,
    /// Whether files that a rewrite replaces are kept, in the directory `archive` within the log's.
    pub archive: bool,
}

/// How the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All is well.
    Healthy,
    /// The buffer is full: the disk is slower than the writers, or failing.
    Full,
    /// The last write failed with this error number; it will be tried again.
    WriteFailed(i32),
    /// A sync failed with this error number: only a rewrite, or a new start, helps.
    SyncFailed(i32),
}

// The gate: bits of what is wrong, and the error number in the upper half.
const FULL: u64 = 1;
const WRITE_FAILED: u64 = 2;
const SYNC_FAILED: u64 = 4;

/// An increment that is ready to be switched to. There is one at a time, so that numbers rise in the order of the
/// switches. Dropped if it is not wanted after all.
pub struct Prepared {
    next: Next,
    /// Gives the turn back.
    _turn: Turn,
}

/// An increment that the log goes on in.
#[derive(Clone)]
struct Next {
    seq: u64,
    salt: u64,
    file: Arc<dyn File>,
    /// Where its header ends.
    len: u64,
    /// Whether the manifest names it.
    listed: bool,
}

/// The right to prepare an increment.
struct Turn(Arc<AtomicBool>);

impl Turn {
    fn take(taken: &Arc<AtomicBool>) -> Option<Turn> {
        (!taken.swap(true, Ordering::AcqRel)).then(|| Turn(Arc::clone(taken)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A rewrite under way: the log has switched to a new increment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Number of the new increment, and of the base that goes before it.
    pub seq: u64,
    /// The last record before it: the base must hold the effects of all records up to this one, and of no other.
    pub lsn: Lsn,
}

enum Piece {
    /// Transactions: a frame.
    Records(Records),
    /// The mark behind a file's header.
    Mark(Vec<u8>),
    /// What follows belongs into this increment.
    Switch(Next),
}

impl Piece {
    /// Bytes of the file; nothing for what is not written.
    fn len(&self) -> Option<usize> {
        match self {
            Piece::Records(records) => Some(records.bytes.len() - records.start),
            Piece::Mark(mark) => Some(mark.len()),
            Piece::Switch(_) => None,
        }
    }

    fn seal(&mut self) {
        if let Piece::Records(records) = self {
            records.seal();
        }
    }
}

/// The transactions of one frame.
struct Records {
    bytes: Vec<u8>,
    /// Where in `bytes` those of the file begin: before that is room that was not needed, or is not yet filled.
    start: usize,
    /// LSN of the first.
    first: Lsn,
    /// The file's.
    salt: u64,
    /// Bytes of the marks that stand before the place of the frame's line.
    marks: usize,
    /// Whether the frame's line is written.
    sealed: bool,
}

impl Records {
    fn new(bytes: Vec<u8>, start: usize, first: Lsn, salt: u64) -> Records {
        Records { bytes, start, first, salt, marks: 0, sealed: false }
    }

    /// Writes a mark before all that is there.
    fn put_mark(&mut self, mark: &[u8]) {
        let end = self.start.saturating_sub(HEAD + self.marks);
        if let Some(begin) = end.checked_sub(mark.len())
            && let Some(room) = self.bytes.get_mut(begin..end)
        {
            room.copy_from_slice(mark);
            self.marks += mark.len();
        }
    }

    /// Makes a frame of the transactions. Reads all of them, which is why it is not done where they are committed.
    fn seal(&mut self) {
        if std::mem::replace(&mut self.sealed, true) {
            return;
        }
        let (room, body) = self.bytes.split_at_mut(self.start);
        // A piece is shorter than 4 GiB: `Log::append_any`.
        let head = Head::encode(Kind::Record, body.len() as u32, self.first, self.salt, crc32c(body));
        if let Some(line) = room.last_chunk_mut() {
            *line = head;
            self.start -= HEAD + self.marks;
        }
    }
}

/// What commits append to. What every append needs comes first, in one line of the processor's cache, which the loops' cores
/// take from each other.
#[repr(C)]
struct Buffer {
    lsn: Lsn,
    /// Transactions behind [`ROOM`]; or nothing at all, not even room.
    tail: Vec<u8>,
    /// The database that is selected at this place of the file, if one is.
    db: Option<u32>,
    /// Bytes waiting.
    bytes: usize,
    /// Whether no record can become durable until the log is rotated: none is kept then, so that memory does not grow.
    dropping: bool,
    /// Whether a switch to a new increment is somewhere between here and the writer.
    switching: bool,
    /// LSN of the first transaction in `tail`.
    tail_first: Lsn,
    salt: u64,
    full: VecDeque<Piece>,
    spare: Vec<Vec<u8>>,
    /// The last record that was not kept.
    hole: Lsn,
    mark: Mark,
    /// When the last batch was taken: all records before had been appended.
    taken_ms: u64,
    /// When the buffer was last seen to be empty: all records since came later.
    empty_ms: u64,
}

/// What all loops write to at each append, apart from what they only read.
#[repr(C, align(128))]
struct Front {
    appended: AtomicU64,
    buffer: Mutex<Buffer>,
}

/// What the last mark says.
#[derive(Clone, Copy, Default)]
struct Mark {
    durable: Lsn,
    ms: u64,
}

impl Buffer {
    /// Whether nothing waits.
    fn is_empty(&self) -> bool {
        self.full.is_empty() && self.tail.len() <= ROOM
    }

    /// Room for a transaction of `len` bytes, the next.
    #[inline]
    fn room(&mut self, len: usize) -> &mut Vec<u8> {
        if self.tail.capacity() - self.tail.len() < len {
            self.close_tail();
            self.open_tail(len);
        }
        &mut self.tail
    }

    /// Ends the piece at hand, so that something else may follow.
    #[cold]
    fn close_tail(&mut self) {
        let tail = std::mem::take(&mut self.tail);
        if tail.len() > ROOM {
            self.full.push_back(Piece::Records(Records::new(tail, ROOM, self.tail_first, self.salt)));
        } else {
            self.keep(tail);
        }
    }

    fn open_tail(&mut self, len: usize) {
        let want = ROOM + len;
        self.tail = match self.spare.pop() {
            Some(spare) if spare.capacity() >= want => spare,
            _ => Vec::with_capacity(want.max(CHUNK)),
        };
        self.tail.resize(ROOM, 0);
        self.tail_first = self.lsn + 1;
    }

    /// Takes back a piece that is written.
    fn keep(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() == CHUNK && self.spare.len() < SPARE {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// Writes marks into the room at the start of the batch, if they tell something new.
    fn mark_opening(&mut self, durable: Lsn, now_ms: u64) {
        if let Some(Piece::Records(records)) = self.full.front_mut() {
            let (before, begun) = (self.taken_ms, self.empty_ms);
            let old = self.mark.ms.saturating_add(MARK_EVERY_MS) <= before || before < self.mark.ms;
            let quiet = before.saturating_add(MARK_EVERY_MS) <= begun;
            let due = quiet || old || self.mark.durable != durable;
            // From the end of the room: the later one first.
            for ms in [quiet.then_some(begun), due.then_some(before)].into_iter().flatten() {
                records.put_mark(&frame::mark(records.first - 1, records.salt, durable, ms));
            }
            if due {
                self.mark = Mark { durable, ms: if quiet { begun } else { before } };
            }
        }
        (self.taken_ms, self.empty_ms) = (now_ms, now_ms);
    }

    /// Forgets what waits.
    fn discard(&mut self) {
        self.full.clear();
        self.tail = Vec::new();
        self.bytes = 0;
    }

    /// Adds the mark that stands behind a file's header.
    fn push_mark(&mut self, durable: Lsn, now_ms: u64) {
        let mark = frame::mark(self.lsn, self.salt, durable, now_ms);
        self.bytes += mark.len();
        self.full.push_back(Piece::Mark(mark));
        self.mark = Mark { durable, ms: now_ms };
    }
}

/// Where the buffer goes.
struct Writer {
    file: Arc<dyn File>,
    offset: u64,
    /// Length of the file, or more. What it has behind `offset` is [`frame::FILL`].
    len: u64,
    pending: VecDeque<Piece>,
    /// Bytes of the first piece that are written.
    done: usize,
    /// LSN of the last record in `pending`, or before it.
    lsn: Lsn,
    /// Number of the increment.
    seq: u64,
}

/// Which files there are.
pub(super) struct Files {
    pub manifest: Manifest,
    pub backup: Option<Backup>,
    /// Number of the next increment. Never one that a manifest, whose replacement failed halfway, may name.
    next_seq: u64,
    salt: u64,
    archive: bool,
}

type Hook = Box<dyn Fn() + Send + Sync>;

/// The lock on a log's directory: two servers must not write the same log.
pub struct DirLock(#[allow(dead_code)] Box<dyn Send + Sync>);

/// The append-only log.
pub struct Log {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) names: Names,
    buffer_max: usize,
    front: Front,
    writer: Mutex<Writer>,
    syncing: Mutex<()>,
    /// The file that [`Log::sync`] syncs.
    current: Mutex<Arc<dyn File>>,
    files: Mutex<Files>,
    written: AtomicU64,
    durable: AtomicU64,
    wanted: AtomicU64,
    last_sync_ms: AtomicU64,
    /// Bytes of the increments that the manifest names.
    increment_bytes: AtomicU64,
    gate: AtomicU64,
    makes_room: AtomicBool,
    asleep: AtomicBool,
    /// See [`Log::gather_until`].
    wake_at: AtomicU64,
    /// Whether a [`Prepared`] is out.
    preparing: Arc<AtomicBool>,
    hook: OnceLock<Hook>,
    _lock: DirLock,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn errno(error: &io::Error) -> i32 {
    const EIO: i32 = 5;
    error.raw_os_error().unwrap_or(EIO)
}

/// The next of a sequence of salts (SplitMix64: Steele, Lea, Flood 2014).
fn next_salt(salt: &mut u64) -> u64 {
    *salt = salt.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*salt ^ (*salt >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Log {
    /// What is called, from any thread, whenever [`Log::durable`] or [`Log::state`] has changed: it wakes who waits for
    /// that. Can be set once. Locks of the log may be held: of the log it may ask only what takes one atomic load.
    pub fn set_hook(&self, hook: Hook) {
        let _ = self.hook.set(hook);
    }

    fn call_hook(&self) {
        if let Some(hook) = self.hook.get() {
            hook();
        }
    }

    // Appending

    /// Appends a transaction, with the shards of its keys held; its number. `body` has the commands in RESP, without
    /// MULTI and EXEC, which are put around more than one (`changes`), and without SELECT before the first: it runs in
    /// `first_db`. SELECTs between commands are the caller's; after the last one `last_db` is selected.
    ///
    /// Cannot fail: the transaction has happened. Whether it may happen is asked before, of [`Log::accepts_writes`].
    /// Copies the body; no system call, no allocation in the long run.
    #[inline]
    pub fn append(&self, body: &[u8], first_db: u32, last_db: u32, changes: usize) -> Lsn {
        // Most transactions are one small change in the database that is selected.
        if changes == 1 && body.len() < BIG {
            let mut buffer = lock(&self.front.buffer);
            let fits = buffer.tail.capacity() - buffer.tail.len() >= body.len();
            if fits && buffer.db == Some(first_db) && !buffer.dropping {
                buffer.lsn += 1;
                let lsn = buffer.lsn;
                self.front.appended.store(lsn, Ordering::Release);
                buffer.db = Some(last_db);
                buffer.tail.extend_from_slice(body);
                buffer.bytes += body.len();
                if buffer.bytes > self.buffer_max {
                    self.gate.fetch_or(FULL, Ordering::Relaxed);
                }
                return lsn;
            }
        }
        self.append_any(body, first_db, last_db, changes)
    }

    fn append_any(&self, body: &[u8], first_db: u32, last_db: u32, changes: usize) -> Lsn {
        let (before, after): (&[u8], &[u8]) = if changes > 1 { (MULTI, EXEC) } else { (&[], &[]) };
        // Behind room for all that may come before it.
        let big = (body.len() >= BIG).then(|| [&[0; ROOM + Select::LEN_MAX], before, body, after].concat());

        let mut buffer = lock(&self.front.buffer);
        let lsn = buffer.lsn + 1;
        if buffer.dropping {
            (buffer.lsn, buffer.hole) = (lsn, lsn);
            self.front.appended.store(lsn, Ordering::Release);
            return lsn;
        }
        let select = if buffer.db == Some(first_db) { Select::none() } else { Select::of(first_db) };
        let select = select.text();
        let len = select.len() + before.len() + body.len() + after.len();
        if u32::try_from(len).is_err() {
            return self.too_big(buffer);
        }
        match big {
            None => {
                let tail = buffer.room(len);
                for part in [select, before, body, after] {
                    tail.extend_from_slice(part);
                }
            }
            Some(mut bytes) => {
                buffer.close_tail();
                let start = ROOM + Select::LEN_MAX - select.len();
                if let Some(room) = bytes.get_mut(start..start + select.len()) {
                    room.copy_from_slice(select);
                }
                let salt = buffer.salt;
                buffer.full.push_back(Piece::Records(Records::new(bytes, start, lsn, salt)));
            }
        }
        buffer.lsn = lsn;
        self.front.appended.store(lsn, Ordering::Release);
        buffer.db = Some(last_db);
        buffer.bytes += len;
        if buffer.bytes > self.buffer_max {
            self.gate.fetch_or(FULL, Ordering::Relaxed);
        }
        lsn
    }

    /// A transaction that no frame can hold: 4 GiB. It has happened, so the log no longer tells what the keyspace is.
    #[cold]
    fn too_big(&self, mut buffer: MutexGuard<'_, Buffer>) -> Lsn {
        const EFBIG: i32 = 27;
        let lsn = buffer.lsn + 1;
        buffer.dropping = true;
        (buffer.lsn, buffer.hole) = (lsn, lsn);
        self.front.appended.store(lsn, Ordering::Release);
        drop(buffer);
        self.fail(SYNC_FAILED, EFBIG);
        lsn
    }

    /// Whether commands that change something may run. One atomic load.
    #[inline]
    pub fn accepts_writes(&self) -> bool {
        self.gate.load(Ordering::Relaxed) == 0
    }

    /// How the log is.
    pub fn state(&self) -> State {
        let gate = self.gate.load(Ordering::Relaxed);
        let errno = (gate >> 32) as i32;
        match gate {
            _ if gate & SYNC_FAILED != 0 => State::SyncFailed(errno),
            _ if gate & WRITE_FAILED != 0 => State::WriteFailed(errno),
            _ if gate & FULL != 0 => State::Full,
            _ => State::Healthy,
        }
    }

    fn fail(&self, bit: u64, errno: i32) {
        self.change_gate(|gate| match gate & SYNC_FAILED {
            0 => gate & FULL | bit | (errno as u64) << 32,
            // The first failure of a sync says it all.
            _ => gate,
        });
        if bit == SYNC_FAILED {
            let mut buffer = lock(&self.front.buffer);
            // What comes after a switch can still be saved, by the base that the switch was made for.
            buffer.dropping |= !buffer.switching;
        }
        self.call_hook();
    }

    fn change_gate(&self, change: impl Fn(u64) -> u64) {
        let _ = self.gate.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |gate| Some(change(gate)));
    }

    /// LSN of the last transaction that was appended.
    #[inline]
    pub fn appended(&self) -> Lsn {
        self.front.appended.load(Ordering::Acquire)
    }

    /// Up to which LSN all transactions are with the operating system: they survive the end of the process.
    #[inline]
    pub fn written(&self) -> Lsn {
        self.written.load(Ordering::Acquire)
    }

    /// Up to which LSN all transactions survive a power cut.
    #[inline]
    pub fn durable(&self) -> Lsn {
        self.durable.load(Ordering::Acquire)
    }

    /// Bytes that wait in the buffer.
    pub fn buffered_bytes(&self) -> usize {
        lock(&self.front.buffer).bytes
    }

    /// Bytes in the increments that the manifest names: what a rewrite would save, but for the base.
    pub fn increment_bytes(&self) -> u64 {
        self.increment_bytes.load(Ordering::Relaxed)
    }

    // Writing and syncing

    /// Whether files are made longer ahead of what is written, by bytes without a meaning. To overwrite them takes less of a sync than to
    /// make the file longer each time; so that is for those who sync often ([`SyncMode::Always`]).
    pub fn set_makes_room(&self, makes_room: bool) {
        self.makes_room.store(makes_room, Ordering::Relaxed);
    }

    /// Sees to it that what is to be written next goes into room that is on the disk, with some of it left behind, or else that there is no
    /// room: so whatever a power cut leaves of it has room behind it, which what another server appends has not. False if that failed.
    fn make_room(&self, writer: &mut Writer) -> bool {
        writer.len = writer.len.max(writer.offset);
        let batch: usize = writer.pending.iter().map_while(Piece::len).sum();
        let end = writer.offset + batch as u64 + ROOM_LEFT;
        if writer.len == writer.offset && !self.wants_room(batch) || end <= writer.len {
            return true;
        }
        let file = Arc::clone(&writer.file);
        let made = self.wants_room(batch) && Self::lengthen(writer, (end + AHEAD).next_multiple_of(4096)).is_ok();
        if !made && let Err(error) = Self::cut_room(writer) {
            self.fail(WRITE_FAILED, errno(&error));
            return false;
        }
        self.sync_now(&*file)
    }

    fn wants_room(&self, batch: usize) -> bool {
        batch <= SMALL && self.makes_room.load(Ordering::Relaxed)
    }

    fn lengthen(writer: &mut Writer, end: u64) -> io::Result<()> {
        let mut at = writer.len;
        // However much of it there will be.
        writer.len = end;
        while let Some(part) = FILLER.get(..FILLER.len().min((end - at) as usize))
            && !part.is_empty()
        {
            write_all_at(&*writer.file, at, part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Cuts off the room behind what is written.
    fn cut_room(writer: &mut Writer) -> io::Result<()> {
        if writer.len > writer.offset {
            writer.file.truncate(writer.offset)?;
            writer.len = writer.offset;
        }
        Ok(())
    }

    /// Syncs a file whose end, or the room behind it, must be durable before anything else is written. False if that failed.
    fn sync_now(&self, file: &dyn File) -> bool {
        let _turn = lock(&self.syncing);
        // A sync that failed meanwhile has taken the error with it: a second one would not fail.
        if self.gate.load(Ordering::Relaxed) & SYNC_FAILED != 0 {
            return false;
        }
        file.sync().inspect_err(|error| self.fail(SYNC_FAILED, errno(error))).is_ok()
    }

    /// For the thread that writes, before it goes to sleep: whether it may. If so, [`Log::claim_wake`] will tell one
    /// thread that appended to wake it.
    pub fn may_sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        // Under the lock that appends take: either it sees the record, or the appender sees `asleep`.
        let idle = lock(&self.front.buffer).bytes == 0;
        if !idle {
            self.asleep.store(false, Ordering::SeqCst);
        }
        idle
    }

    /// For the thread that writes: from which LSN on those who want a sync are to wake it even if it is not asleep. 0 for always, as in the
    /// beginning; [`Lsn::MAX`] for never, since it looks anyway. Having said so, it looks at [`Log::appended`] once more.
    pub fn gather_until(&self, lsn: Lsn) {
        self.wake_at.store(lsn, Ordering::Relaxed);
        // One here and one in `has_gathered`: either the appender sees this, or the thread that writes sees the record.
        fence(Ordering::SeqCst);
    }

    /// For a thread that has appended, after a batch: whether it is to wake the thread that writes. `durable`: it wants a sync.
    #[inline]
    pub fn claim_wake(&self, durable: bool) -> bool {
        self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst)
            || durable && self.has_gathered(0)
    }

    /// Whether all is there that the thread that writes waits for, if that is at least `least`.
    #[inline]
    pub fn has_gathered(&self, least: Lsn) -> bool {
        fence(Ordering::SeqCst);
        let wake_at = self.wake_at.load(Ordering::Relaxed);
        wake_at >= least && self.appended() >= wake_at
    }

    /// Asks for a sync up to `lsn` whatever the mode: [`Log::sync_due`] will be true until it is done.
    pub fn want_durable(&self, lsn: Lsn) {
        self.wanted.fetch_max(lsn, Ordering::AcqRel);
    }

    /// Whether it is time to call [`Log::sync`].
    pub fn sync_due(&self, mode: SyncMode, now_ms: u64) -> bool {
        let durable = self.durable();
        if durable >= self.written() || self.gate.load(Ordering::Relaxed) & SYNC_FAILED != 0 {
            return false;
        }
        // A clock that was set back must not keep the log from being synced.
        let last = self.last_sync_ms.load(Ordering::Relaxed);
        let waited = now_ms.checked_sub(last).unwrap_or(u64::MAX);
        let patience = match mode {
            SyncMode::Always => 0,
            SyncMode::EverySec => EVERYSEC_MS,
            SyncMode::No => SELDOM_MS,
        };
        waited >= patience || self.wanted.load(Ordering::Acquire) > durable
    }

    /// Writes what was appended to the file; the LSN up to which all is written. Does not sync, but where a file ends.
    ///
    /// On failure the log's state says why, and the next call tries again.
    pub fn write(&self, now_ms: u64) -> Lsn {
        let mut writer = lock(&self.writer);
        self.write_locked(&mut writer, now_ms);
        self.written()
    }

    fn write_locked(&self, writer: &mut Writer, now_ms: u64) {
        // First what could not be written the last time: the buffer's limit counts what comes after.
        if !self.write_pending(writer) {
            return;
        }
        {
            let durable = self.durable();
            let mut buffer = lock(&self.front.buffer);
            if buffer.is_empty() {
                buffer.empty_ms = now_ms;
                return;
            }
            buffer.close_tail();
            buffer.mark_opening(durable, now_ms);
            std::mem::swap(&mut buffer.full, &mut writer.pending);
            buffer.bytes = 0;
            writer.lsn = buffer.lsn;
        }
        if self.gate.load(Ordering::Relaxed) & FULL != 0 {
            self.gate.fetch_and(!FULL, Ordering::Relaxed);
            self.call_hook();
        }
        self.write_pending(writer);
    }

    /// Writes all that is pending; false if that failed.
    fn write_pending(&self, writer: &mut Writer) -> bool {
        if self.gate.load(Ordering::Relaxed) & SYNC_FAILED != 0 {
            return false;
        }
        let mut begins = true;
        while let Some(piece) = writer.pending.front_mut() {
            if std::mem::take(&mut begins) && !matches!(piece, Piece::Switch(_)) {
                writer.pending.iter_mut().for_each(Piece::seal);
                if !self.make_room(writer) {
                    return false;
                }
                continue;
            }
            let (bytes, start) = match piece {
                Piece::Records(records) => (&records.bytes, records.start),
                Piece::Mark(mark) => (&*mark, 0),
                Piece::Switch(next) => {
                    let next = next.clone();
                    if !self.cross(writer, next) {
                        return false;
                    }
                    writer.pending.pop_front();
                    begins = true;
                    continue;
                }
            };
            writer.done = writer.done.max(start);
            while let Some(rest) = bytes.get(writer.done..)
                && !rest.is_empty()
            {
                match writer.file.write_at(writer.offset, rest) {
                    Ok(n) if n > 0 => {
                        writer.done += n;
                        writer.offset += n as u64;
                        self.increment_bytes.fetch_add(n as u64, Ordering::Relaxed);
                    }
                    Ok(_) => {
                        self.fail(WRITE_FAILED, errno(&io::ErrorKind::WriteZero.into()));
                        return false;
                    }
                    Err(error) => {
                        self.fail(WRITE_FAILED, errno(&error));
                        return false;
                    }
                }
            }
            writer.done = 0;
            if let Some(Piece::Records(records)) = writer.pending.pop_front() {
                lock(&self.front.buffer).keep(records.bytes);
            }
        }
        self.written.store(writer.lsn, Ordering::Release);
        if self.gate.load(Ordering::Relaxed) & WRITE_FAILED != 0 {
            // Unless a sync has failed meanwhile: that stays.
            self.change_gate(|gate| if gate & WRITE_FAILED != 0 { gate & FULL } else { gate });
            self.call_hook();
        }
        true
    }

    /// Ends the file being written and goes on in the next. Nothing may be written to that before this one is synced:
    /// so a torn tail is always in the last file.
    fn cross(&self, writer: &mut Writer, next: Next) -> bool {
        if let Err(error) = Self::cut_room(writer) {
            self.fail(WRITE_FAILED, errno(&error));
            return false;
        }
        if !self.sync_now(&*writer.file) {
            return false;
        }
        if !next.listed {
            let mut files = lock(&self.files);
            if let Err(error) = self.list(&mut files, &next) {
                drop(files);
                self.fail(WRITE_FAILED, error_number(&error));
                return false;
            }
        }
        self.enter(writer, next);
        true
    }

    fn enter(&self, writer: &mut Writer, next: Next) {
        self.increment_bytes.fetch_add(next.len, Ordering::Relaxed);
        writer.file = Arc::clone(&next.file);
        (writer.offset, writer.len) = (next.len, next.len);
        writer.seq = next.seq;
        writer.done = 0;
        *lock(&self.current) = next.file;
        let later = writer.pending.iter().skip(1).any(|piece| matches!(piece, Piece::Switch(_)));
        let mut buffer = lock(&self.front.buffer);
        buffer.switching = later || buffer.full.iter().any(|piece| matches!(piece, Piece::Switch(_)));
    }

    /// Names an increment in the manifest.
    fn list(&self, files: &mut Files, next: &Next) -> Result<()> {
        let line = FileLine { name: self.names.increment(next.seq), seq: next.seq, kind: FileType::Increment };
        let mut manifest = files.manifest.clone();
        // An increment that was prepared while the log could not be written comes late.
        let place = manifest.increments.partition_point(|other| other.seq < line.seq);
        manifest.increments.insert(place, line);
        manifest.store(&*self.disk, &self.names)?;
        files.manifest = manifest;
        Ok(())
    }

    /// Syncs what is written; the LSN up to which all is durable.
    ///
    /// On failure the log's state is [`State::SyncFailed`].
    pub fn sync(&self, now_ms: u64) -> Lsn {
        let changed = {
            let _turn = lock(&self.syncing);
            // In this order: if the file changes in between, the one before is synced already.
            let target = self.written();
            let file = Arc::clone(&lock(&self.current));
            if target <= self.durable() || self.gate.load(Ordering::Relaxed) & SYNC_FAILED != 0 {
                return self.durable();
            }
            self.last_sync_ms.store(now_ms, Ordering::Relaxed);
            match file.sync() {
                Ok(()) => {
                    self.durable.fetch_max(target, Ordering::AcqRel);
                    true
                }
                Err(error) => {
                    self.fail(SYNC_FAILED, errno(&error));
                    false
                }
            }
        };
        if changed {
            self.call_hook();
        }
        self.durable()
    }

    /// Writes and syncs everything, and notes in the manifest that it is, so that later damage of the tail is known as such.
    /// True if all is durable. For an orderly end; appending goes on to be possible.
    pub fn close(&self, now_ms: u64) -> bool {
        self.write(now_ms);
        self.sync(now_ms);
        if self.durable() != self.appended() {
            return false;
        }
        let (closed, file) = {
            let mut writer = lock(&self.writer);
            if let Err(error) = Self::cut_room(&mut writer) {
                self.fail(WRITE_FAILED, errno(&error));
                return true;
            }
            let ms = lock(&self.front.buffer).taken_ms;
            let closed = Closed { seq: writer.seq, len: writer.offset, lsn: writer.lsn, ms };
            (closed, Arc::clone(&writer.file))
        };
        {
            let _turn = lock(&self.syncing);
            // A sync that failed meanwhile has taken the error with it: a second one would not fail.
            if self.gate.load(Ordering::Relaxed) & SYNC_FAILED != 0 {
                return true;
            }
            // Marks have no LSN: if nothing but one was written, the sync above found nothing to do.
            if let Err(error) = file.sync() {
                self.fail(SYNC_FAILED, errno(&error));
                return true;
            }
        }
        let mut files = lock(&self.files);
        // What is written later may be lost, what the note tells of may not.
        if closed.lsn <= self.durable() && files.manifest.closed != Some(closed) {
            let manifest = Manifest { closed: Some(closed), ..files.manifest.clone() };
            // Only the note is at stake.
            if manifest.store(&*self.disk, &self.names).is_ok() {
                files.manifest = manifest;
            }
        }
        true
    }

    /// Takes no more, as after a failed sync: nothing that is appended from now on counts before a rewrite has succeeded that is
    /// prepared later. For a log that is turned off while the server goes on. Its state is [`State::SyncFailed`] of 0.
    pub fn suspend(&self) {
        self.fail(SYNC_FAILED, 0);
    }

    /// Length of the base in bytes; 0 if there is none, or it cannot be looked at.
    pub fn base_bytes(&self) -> u64 {
        let base = lock(&self.files).manifest.base.as_ref().map(|line| self.names.path(&line.name));
        let len = base.and_then(|path| self.disk.open(&path, Open::Read).and_then(|file| file.len()).ok());
        len.unwrap_or(0)
    }
}

fn error_number(error: &Error) -> i32 {
    match error {
        Error::Io { source, .. } => errno(source),
        _ => errno(&io::ErrorKind::Other.into()),
    }
}
