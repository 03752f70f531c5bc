//! Reading a directory back: which files there are, and the transactions of its increments in order.
//!
//! # Torn or damaged
//!
//! A power cut may lose any part of what was written after the last sync, in any order. So the last increment that has
//! any bytes may stop making sense somewhere, and may make sense again behind. It is cut there, unless something behind
//! proves that the place had been synced: then it is damage, as it is in every file before the last. The proof is a mark
//! ([`Kind::Mark`]) whose durable LSN is not below the record that is missing, or that the log was closed behind it
//! ([`Closed`]), unless the file is shorter than it was then: that somebody has cut it off is what `aof-load-truncated` is for.

use super::commands::{self, Commands, Stop};
use super::frame::{self, HEAD, Head, Header, Kind};
use super::manifest::{Closed, FileLine, Manifest, Names};
use super::{Damage, Error, FORMAT, Lsn, Result};
use crate::disk::{Cursor, Disk, File, Open, read_full_at};
use crate::rdb::RdbFile;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes read at once.
const BLOCK: usize = 1 << 20;

/// The file that holds the state before the increments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseFile {
    /// Where it is.
    pub path: PathBuf,
    /// Length in bytes.
    pub len: u64,
    /// Whether it begins as an RDB file. If not, it is a plain append-only file; if its RDB part ends before the file
    /// does, commands follow ("RDB preamble"): [`FileReader::open`] reads those of both.
    pub rdb: bool,
}

/// A transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number; 0 in the files of other servers.
    pub lsn: Lsn,
    /// The database in which its first command runs.
    pub db: u32,
    /// RESP commands.
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    /// Its commands, without SELECT, MULTI and EXEC.
    pub fn commands(&self) -> Commands<'a> {
        Commands::new(self.body, self.db)
    }
}

/// What comes next in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A transaction.
    Record(Record<'a>),
    /// All records before this one had been appended at this time.
    Mark {
        /// Unix time in milliseconds.
        ms: u64,
        /// What was durable then; 0 in the files of other servers.
        durable: Lsn,
    },
}

/// Bytes after the last whole record: a torn tail, of a write that was never synced, or room for more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// Where the last whole frame ends: the file's new length.
    pub offset: u64,
    /// How many bytes follow.
    pub bytes: u64,
    /// Whether they are nothing but room that was made for more.
    pub room: bool,
}

/// What stands where a frame or command should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// The file ends too early.
    Short,
    /// Something else.
    Spoilt(&'static str),
    /// From here to its end the file is room that was made for more than was written.
    Room,
    /// A file of a later version.
    Version(u32),
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Record { lsn: Lsn, db: u32, body: Range<usize> },
    Mark { ms: u64, durable: Lsn, start: u64 },
}

/// The first transactions of a frame.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// LSN of the first.
    pub first: Lsn,
    /// The file's.
    pub salt: u64,
    /// Where in the file they are.
    pub bytes: Range<u64>,
}

/// The transactions of a frame, and how many of them were read.
#[derive(Default)]
struct Batch {
    /// LSN of the first.
    first: Lsn,
    /// Where in the window, which does not move before all are read, the body is.
    body: Range<usize>,
    /// The database in which each begins, and where in the window it ends.
    ends: Vec<(u32, usize)>,
    read: usize,
}

/// What is wrong with a file that ends too early. Its first words are those that people look for in the logs of Redis.
const ENDS_EARLY: &str = "Unexpected end of file reading the append only file";
/// What is wrong where a log ends that was closed behind this place.
const ENDS_BEFORE: &str = "nothing is written from here on, but the log was closed further behind";
/// What is wrong where a command should begin and does not.
const BAD_FORMAT: &str = "Bad file format reading the append only file: no command begins here";

/// Reads one file of commands, checked or plain, from a place on.
pub struct FileReader {
    file: Arc<dyn File>,
    path: PathBuf,
    len: u64,
    /// Place in the file of the first byte that is not yet consumed, which is `window[start]`.
    offset: u64,
    window: Vec<u8>,
    start: usize,
    db: u32,
    /// What the first frame says, if it is a header: then the file is checked.
    header: Option<Header>,
    next_lsn: Lsn,
    /// The frame before the place, if it has transactions.
    batch: Batch,
    /// Whether the first frame after the header tells the LSN, since nothing before does.
    adopt: bool,
    /// Whether another server went on in this file: from here on it is plain.
    foreign: bool,
}

impl FileReader {
    /// Reads the commands of a plain file, or of what follows its RDB preamble, from `offset` on.
    pub fn open(disk: &dyn Disk, path: &Path, offset: u64) -> Result<FileReader> {
        let fail = |error| Error::io("open", path, error);
        let file = disk.open(path, Open::Read).map_err(fail)?;
        let len = file.len().map_err(fail)?;
        let path = path.to_path_buf();
        Ok(FileReader {
            file,
            path,
            len,
            offset,
            window: Vec::new(),
            start: 0,
            db: 0,
            header: None,
            next_lsn: 0,
            batch: Batch::default(),
            adopt: true,
            foreign: false,
        })
    }

    /// Where the reader is: the end of the frame, or plain transaction, of which it has read at least a part.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Length of the file in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The next entry of a plain file. A file that ends within a transaction is an error, [`Error::Damaged`] with
    /// `what` "Unexpected end of file …"; [`FileReader::offset`] tells where to cut it (`aof-load-truncated`).
    pub fn next_plain(&mut self) -> Result<Option<Entry<'_>>> {
        match self.plain_step()? {
            Ok(step) => Ok(step.map(|step| self.entry(step))),
            Err(bad) => Err(self.damage(bad)),
        }
    }

    pub(super) fn header(&self) -> Option<Header> {
        self.header
    }

    pub(super) fn next_lsn(&self) -> Lsn {
        self.next_lsn
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn entry(&self, step: Step) -> Entry<'_> {
        match step {
            Step::Mark { ms, durable, .. } => Entry::Mark { ms, durable },
            // The range was taken from the window, which has not moved since.
            Step::Record { lsn, db, body } => {
                Entry::Record(Record { lsn, db, body: self.window.get(body).unwrap_or_default() })
            }
        }
    }

    pub(super) fn damage(&self, bad: Bad) -> Error {
        let what = match bad {
            Bad::Short => ENDS_EARLY,
            Bad::Spoilt(what) => what,
            Bad::Room => ENDS_BEFORE,
            Bad::Version(version) => return Error::Version { path: self.path.clone(), version },
        };
        Error::Damaged(Damage { path: self.path.clone(), offset: self.offset, lsn: self.next_lsn, what })
    }

    /// Has the window hold `want` bytes from the place on, or all that the file has.
    fn fill(&mut self, want: usize) -> Result<()> {
        let have = self.window.len() - self.start;
        if have >= want {
            return Ok(());
        }
        let left = self.len.saturating_sub(self.offset + have as u64);
        let more = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK.max(want - have));
        if more == 0 {
            return Ok(());
        }
        self.window.drain(..self.start);
        self.start = 0;
        self.window.resize(have + more, 0);
        let fresh = self.window.get_mut(have..).unwrap_or_default();
        let read = read_full_at(&*self.file, self.offset + have as u64, fresh)
            .map_err(|error| Error::io("read", &self.path, error))?;
        self.window.truncate(have + read);
        if read < more {
            self.len = self.offset + self.window.len() as u64;
        }
        Ok(())
    }

    fn rest(&self) -> &[u8] {
        self.window.get(self.start..).unwrap_or_default()
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += bytes as u64;
    }

    /// Leaves out a byte that is damaged.
    pub(super) fn skip_byte(&mut self) {
        if !self.rest().is_empty() {
            self.consume(1);
        }
    }

    /// Goes to another place.
    pub(super) fn seek(&mut self, offset: u64) {
        self.window.clear();
        self.start = 0;
        self.offset = offset;
        self.batch = Batch::default();
    }

    /// Where the file ends for somebody who wants what was read and no more: where the last frame ends that was read as a whole,
    /// and what was read of the one behind it.
    pub(super) fn read_so_far(&self) -> (u64, Option<Part>) {
        let Batch { first, body, ends, read } = &self.batch;
        match read.checked_sub(1).and_then(|last| ends.get(last)) {
            Some((_, end)) if *read < ends.len() => {
                let start = self.offset - body.len() as u64;
                let salt = self.header.map_or(0, |header| header.salt);
                let bytes = start..start + (end - body.start) as u64;
                (start - HEAD as u64, Some(Part { first: *first, salt, bytes }))
            }
            _ => (self.offset, None),
        }
    }

    /// The frame at the place, not consumed.
    fn frame(&mut self, salt: u64) -> Result<std::result::Result<Head, Bad>> {
        self.fill(HEAD)?;
        if self.rest().len() < HEAD {
            return Ok(Err(Bad::Short));
        }
        let Some(head) = Head::decode(self.rest()) else {
            return Ok(Err(Bad::Spoilt("no frame begins here")));
        };
        let whole = HEAD as u64 + u64::from(head.len);
        if self.offset + whole > self.len {
            return Ok(Err(Bad::Short));
        }
        self.fill(HEAD + head.len as usize)?;
        match self.rest().get(HEAD..HEAD + head.len as usize) {
            Some(body) if head.fits(body, salt) => Ok(Ok(head)),
            Some(_) => Ok(Err(Bad::Spoilt("the checksum does not fit"))),
            None => Ok(Err(Bad::Short)),
        }
    }

    /// Reads the header, if the file has one: what is not plain must have one.
    pub(super) fn read_header(&mut self) -> Result<std::result::Result<(), Bad>> {
        let head = match self.frame(0)? {
            Ok(head) if head.kind == Kind::Header => head,
            Ok(_) => return Ok(Err(Bad::Spoilt("the first frame is no header"))),
            Err(bad) => return Ok(Err(bad)),
        };
        let len = HEAD + head.len as usize;
        let Some(header) = self.rest().get(HEAD..len).and_then(Header::decode) else {
            return Ok(Err(Bad::Spoilt("the header makes no sense")));
        };
        if !(1..=FORMAT).contains(&header.version) {
            return Ok(Err(Bad::Version(header.version)));
        }
        self.consume(len);
        self.header = Some(header);
        self.next_lsn = head.lsn + 1;
        Ok(Ok(()))
    }

    /// Tells what was read before this file: its last LSN, and whether this file's first record must be the next one.
    pub(super) fn follow(&mut self, last_lsn: Lsn, exactly: bool) {
        self.adopt = !exactly;
        self.next_lsn = if exactly { last_lsn + 1 } else { self.next_lsn.max(last_lsn + 1) };
    }

    /// Whether this looks like a plain file: it begins with a command or an annotation of Redis.
    pub(super) fn looks_plain(&mut self) -> Result<bool> {
        self.fill(4)?;
        Ok(self.rest().starts_with(b"*") || self.rest().starts_with(b"#TS:"))
    }

    /// The next entry of a checked file, after its header.
    pub(super) fn checked_step(&mut self) -> Result<std::result::Result<Option<Step>, Bad>> {
        if let Some(step) = self.next_of_batch() {
            return Ok(Ok(Some(step)));
        }
        let salt = self.header.map_or(0, |header| header.salt);
        if self.offset >= self.len {
            return Ok(Ok(None));
        }
        if self.foreign || self.turns_foreign()? {
            self.foreign = true;
            return self.plain_step();
        }
        if self.rest().starts_with(&[frame::FILL; 2]) && self.is_room()? {
            if self.foreign {
                return self.plain_step();
            }
            return Ok(Err(Bad::Room));
        }
        let head = match self.frame(salt)? {
            Ok(head) => head,
            Err(bad) => return Ok(Err(bad)),
        };
        if std::mem::take(&mut self.adopt) {
            let before = if head.kind == Kind::Record { head.lsn.saturating_sub(1) } else { head.lsn };
            if before >= self.next_lsn - 1 {
                self.next_lsn = before + 1;
            }
        }
        let body = self.start + HEAD..self.start + HEAD + head.len as usize;
        let text = self.window.get(body.clone()).unwrap_or_default();
        let step = match head.kind {
            Kind::Record if head.lsn == self.next_lsn => {
                let mut ends = std::mem::take(&mut self.batch.ends);
                ends.clear();
                let split = split(text, self.db, &mut ends);
                ends.iter_mut().for_each(|(_, end)| *end += body.start);
                self.batch = Batch { first: head.lsn, body, ends, read: 0 };
                match split {
                    Ok(db) => self.db = db,
                    Err(_) => {
                        self.batch = Batch::default();
                        return Ok(Err(Bad::Spoilt("the record holds no commands")));
                    }
                }
                self.consume(HEAD + head.len as usize);
                return Ok(Ok(self.next_of_batch()));
            }
            Kind::Mark if head.lsn + 1 == self.next_lsn => match frame::decode_mark(text) {
                Some((durable, ms)) => Step::Mark { ms, durable, start: self.offset },
                None => return Ok(Err(Bad::Spoilt("the mark makes no sense"))),
            },
            Kind::Record | Kind::Mark => return Ok(Err(Bad::Spoilt("records are missing or out of order"))),
            Kind::Header | Kind::Manifest => return Ok(Err(Bad::Spoilt("a frame that does not belong here"))),
        };
        self.consume(HEAD + head.len as usize);
        Ok(Ok(Some(step)))
    }

    fn next_of_batch(&mut self) -> Option<Step> {
        let batch = &mut self.batch;
        let (db, end) = *batch.ends.get(batch.read)?;
        let start = batch
            .read
            .checked_sub(1)
            .and_then(|before| batch.ends.get(before))
            .map_or(batch.body.start, |(_, end)| *end);
        batch.read += 1;
        self.next_lsn += 1;
        Some(Step::Record { lsn: self.next_lsn - 1, db, body: start..end })
    }

    /// Whether there is but room from the place on, until the file ends, or until another server went on: then the place is there.
    fn is_room(&mut self) -> Result<bool> {
        let offset = self.offset;
        loop {
            self.fill(1)?;
            match self.rest().iter().position(|byte| *byte != frame::FILL) {
                Some(used) => {
                    self.consume(used);
                    let behind = self.offset;
                    self.foreign = self.is_plain_to_the_end()?;
                    self.seek(if self.foreign { behind } else { offset });
                    return Ok(self.foreign);
                }
                None if self.rest().is_empty() => {
                    self.seek(offset);
                    return Ok(true);
                }
                None => self.consume(self.rest().len()),
            }
        }
    }

    /// Whether all that follows was written by another server: commands, the last of which may be cut off. What a power cut left of
    /// a batch of our own may begin with a whole command, too, but behind it there is room, or a frame.
    fn is_plain_to_the_end(&mut self) -> Result<bool> {
        let (mut argv, mut any, mut want) = (Vec::new(), false, BLOCK);
        loop {
            self.fill(want)?;
            let step = match self.rest() {
                [] => return Ok(any),
                [frame::FILL, b'T', b'S', ..] => match self.rest().iter().position(|byte| *byte == b'\n') {
                    Some(end) => Ok(end + 1),
                    None => Err(Stop::Short),
                },
                text => commands::parse(text, &mut argv),
            };
            argv = Vec::new();
            match step {
                Ok(len) => {
                    any = true;
                    self.consume(len);
                    want = 1;
                }
                Err(Stop::Malformed) => return Ok(false),
                Err(Stop::Short) if self.offset + self.rest().len() as u64 >= self.len => return Ok(any),
                Err(Stop::Short) => want = self.rest().len() * 2,
            }
        }
    }

    /// Whether a whole command stands where a frame should: Redis or Valkey ran on this directory, and appended to the
    /// last file. What a power cut leaves does not look like that.
    fn turns_foreign(&mut self) -> Result<bool> {
        self.fill(HEAD)?;
        if !self.rest().starts_with(b"*") {
            return Ok(false);
        }
        let mut want = BLOCK;
        loop {
            self.fill(want)?;
            match commands::parse(self.rest(), &mut Vec::new()) {
                Ok(_) => return Ok(true),
                Err(Stop::Malformed) => return Ok(false),
                // Cut off by the end of the file, or only by the window's.
                Err(Stop::Short) if self.offset + self.rest().len() as u64 >= self.len => return Ok(false),
                Err(Stop::Short) => want = self.rest().len() * 2,
            }
        }
    }

    /// Whether another server wrote what comes next.
    pub(super) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// The next entry of a plain file: a command, or all from MULTI to EXEC.
    pub(super) fn plain_step(&mut self) -> Result<std::result::Result<Option<Step>, Bad>> {
        let db = self.db;
        let mut used = 0;
        let mut in_multi = false;
        let mut want = 1 << 16;
        loop {
            self.fill(want)?;
            let mut argv = Vec::new();
            let text = self.rest().get(used..).unwrap_or_default();
            let mut short = false;
            match text {
                [] if used == 0 => return Ok(Ok(None)),
                [] => short = true,
                [b'#', ..] => match text.iter().position(|byte| *byte == b'\n') {
                    Some(end) => {
                        let stamp = text.get(..end).and_then(|line| line.strip_prefix(b"#TS:"));
                        let seconds = stamp.and_then(|digits| std::str::from_utf8(digits).ok()?.trim().parse().ok());
                        used += end + 1;
                        if !in_multi {
                            self.consume(used);
                            used = 0;
                            if let Some(seconds) = seconds {
                                let ms = u64::saturating_mul(seconds, 1000);
                                return Ok(Ok(Some(Step::Mark { ms, durable: 0, start: self.offset })));
                            }
                        }
                    }
                    None => short = true,
                },
                _ => match commands::parse(text, &mut argv) {
                    Ok(len) => {
                        let selected = commands::selected(&argv);
                        in_multi |= commands::is_bare(&argv, b"MULTI");
                        let complete = !in_multi || commands::is_bare(&argv, b"EXEC");
                        used += len;
                        self.db = selected.unwrap_or(self.db);
                        if complete {
                            let body = self.start..self.start + used;
                            self.consume(used);
                            return Ok(Ok(Some(Step::Record { lsn: 0, db, body })));
                        }
                    }
                    Err(Stop::Short) => short = true,
                    Err(Stop::Malformed) => return Ok(Err(Bad::Spoilt(BAD_FORMAT))),
                },
            }
            if short {
                let have = self.rest().len();
                if self.offset + have as u64 >= self.len {
                    self.db = db;
                    return Ok(Err(Bad::Short));
                }
                want = have * 2;
            }
        }
    }

    /// Looks behind a place that makes no sense for a mark that proves that it was synced once.
    fn was_synced(&mut self) -> Result<bool> {
        let (offset, lost) = (self.offset, self.next_lsn);
        let mut found = false;
        while let Some((head, synced)) = self.resync()? {
            if head.kind == Kind::Mark && synced.is_some_and(|durable| durable >= lost) {
                found = true;
                break;
            }
            self.consume(HEAD + head.len as usize);
        }
        self.seek(offset);
        Ok(found)
    }

    /// Goes on to the next whole frame of the file, a byte at a time; a mark's durable LSN comes with it.
    pub(super) fn resync(&mut self) -> Result<Option<(Head, Option<Lsn>)>> {
        // Without its header a file's salt is unknown, and nothing in it can be told from what a client made up.
        let Some(header) = self.header else { return Ok(None) };
        loop {
            self.fill(HEAD)?;
            if self.rest().len() < HEAD {
                return Ok(None);
            }
            match self.rest().iter().position(|byte| *byte == b'#') {
                Some(0) => {
                    if let Ok(head) = self.frame(header.salt)? {
                        let body = self.rest().get(HEAD..HEAD + head.len as usize).unwrap_or_default();
                        let durable = frame::decode_mark(body).map(|(durable, _)| durable);
                        return Ok(Some((head, durable.filter(|_| head.kind == Kind::Mark))));
                    }
                    self.consume(1);
                }
                Some(skip) => self.consume(skip),
                None => self.consume(self.rest().len()),
            }
        }
    }
}

/// Whether a file once was closed behind the place where the reader is, and is as long as it was then.
pub(super) fn closed_behind(closed: Option<Closed>, file: &FileReader) -> bool {
    let seq = file.header().map(|header| header.seq);
    closed.is_some_and(|closed| Some(closed.seq) == seq && file.next_lsn() <= closed.lsn && file.len() >= closed.len)
}

/// Splits a frame's body into transactions, of which there is at least one: for each the database in which it begins, and where
/// it ends. The database after the last one.
fn split(body: &[u8], mut db: u32, ends: &mut Vec<(u32, usize)>) -> std::result::Result<u32, Stop> {
    let mut argv = Vec::new();
    let (mut at, mut begun, mut in_multi) = (0, db, false);
    loop {
        at += commands::parse(body.get(at..).unwrap_or_default(), &mut argv)?;
        if let Some(selected) = commands::selected(&argv) {
            db = selected;
            continue;
        }
        in_multi |= commands::is_bare(&argv, b"MULTI");
        if !in_multi || commands::is_bare(&argv, b"EXEC") {
            ends.push((begun, at));
            (begun, in_multi) = (db, false);
            if at == body.len() {
                return Ok(db);
            }
        }
    }
}

/// What a reader found, for [`super::Log::open`] to go on from.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// LSN of the last whole record; 0 if there is none.
    pub last_lsn: Lsn,
    /// Records, and commands or transactions of plain files.
    pub records: u64,
    /// The torn tail, which [`super::Log::open`] cuts off.
    pub cut: Option<Cut>,
    pub(super) manifest: Manifest,
    /// Length and header of the last increment; no header if it is plain.
    pub(super) tail: Option<(u64, Option<Header>)>,
    /// Files that may not be on the disk as they were read, and the parts that no mark proves to have been synced.
    pub(super) unproven: Vec<(PathBuf, Range<u64>)>,
}

/// One increment.
#[derive(Clone, Debug)]
pub(super) struct Increment {
    pub path: PathBuf,
    pub len: u64,
    /// No header: a plain file.
    pub header: Option<Header>,
    /// Whether there is anything that proves that the file before it was whole: anything but a header, or behind a plain file,
    /// whose records no mark counts, but a header and marks.
    pub content: bool,
}

impl Increment {
    /// Looks at the header of an increment. One that is not plain must have one: it was durable before the manifest named
    /// the file.
    fn open(disk: &dyn Disk, names: &Names, line: &FileLine, after_plain: bool) -> Result<Increment> {
        let path = names.path(&line.name);
        let mut file = FileReader::open(disk, &path, 0)?;
        if file.is_empty() || file.looks_plain()? {
            return Ok(Increment { path, len: file.len(), header: None, content: !file.is_empty() });
        }
        if let Err(bad) = file.read_header()? {
            return Err(file.damage(bad));
        }
        if file.header().is_some_and(|header| header.seq != line.seq) {
            return Err(file.damage(Bad::Spoilt("its header has another number than the manifest")));
        }
        let (header, mut content) = (file.header(), file.offset() < file.len());
        if content && after_plain {
            content = loop {
                match file.checked_step()? {
                    Ok(Some(Step::Mark { .. })) => {}
                    Ok(None) | Err(Bad::Room) => break false,
                    Ok(Some(Step::Record { .. })) | Err(_) => break true,
                }
            };
        }
        Ok(Increment { path, len: file.len(), header, content })
    }
}

/// Reads a log.
pub struct Reader {
    disk: Arc<dyn Disk>,
    manifest: Manifest,
    load_truncated: bool,
    base: Option<BaseFile>,
    parts: Vec<Increment>,
    /// The increment being read, and its place among all.
    current: Option<FileReader>,
    at: usize,
    /// Whether the increment being read, or the last that was, is plain.
    plain: bool,
    last_lsn: Lsn,
    records: u64,
    cut: Option<Cut>,
    bytes_before: u64,
    /// Up to where the increment being read, or the last that was, is known to have been synced.
    proven: u64,
    /// Marks behind that: LSN, and where its record ends.
    marks: VecDeque<(Lsn, u64)>,
    /// LSN of the last mark.
    marked: Lsn,
}

impl Reader {
    /// Opens the log called `name` in `dir`; nothing if there is no manifest. Changes nothing on the disk.
    ///
    /// `load_truncated` (`aof-load-truncated`): whether a torn tail is cut; otherwise it is an error.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, name: &str, load_truncated: bool) -> Result<Option<Reader>> {
        let names = Names::new(dir, name);
        let Some(manifest) = Manifest::load(&*disk, &names)? else { return Ok(None) };
        let base = match &manifest.base {
            None => None,
            Some(line) => {
                let path = names.path(&line.name);
                let fail = |error| Error::io("read", &path, error);
                let file = disk.open(&path, Open::Read).map_err(fail)?;
                let mut magic = [0; 6];
                read_full_at(&*file, 0, &mut magic).map_err(fail)?;
                let len = file.len().map_err(fail)?;
                Some(BaseFile { rdb: RdbFile::<Cursor>::is_start(&magic), len, path })
            }
        };
        let mut parts: Vec<Increment> = Vec::new();
        for line in &manifest.increments {
            let after_plain = parts.last().is_some_and(|before| before.header.is_none());
            parts.push(Increment::open(&*disk, &names, line, after_plain)?);
        }
        Ok(Some(Reader {
            disk,
            manifest,
            load_truncated,
            base,
            parts,
            current: None,
            at: 0,
            plain: false,
            last_lsn: 0,
            records: 0,
            cut: None,
            bytes_before: 0,
            proven: 0,
            marks: VecDeque::new(),
            marked: 0,
        }))
    }

    /// The state that the increments build on; none means the empty keyspace.
    pub fn base(&self) -> Option<&BaseFile> {
        self.base.as_ref()
    }

    /// Length of all increments in bytes.
    pub fn increment_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.len).sum()
    }

    /// How many of [`Reader::increment_bytes`] have been read.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_before + self.current.as_ref().map_or(0, FileReader::offset)
    }

    /// LSN of the last record that was read.
    pub fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }

    /// The next entry; nothing at the end of the log. After an error or the end, not to be called again.
    #[allow(clippy::should_implement_trait)] // It lends its buffer, which an iterator cannot.
    pub fn next(&mut self) -> Result<Option<Entry<'_>>> {
        loop {
            if self.current.is_none() && !self.next_file()? {
                return Ok(None);
            }
            let Some(file) = self.current.as_mut() else { return Ok(None) };
            let step = if self.plain { file.plain_step()? } else { file.checked_step()? };
            self.plain |= file.is_foreign();
            match step {
                Ok(None) => self.leave_file(),
                Ok(Some(step)) => {
                    self.records += u64::from(matches!(step, Step::Record { .. }));
                    if !self.plain {
                        self.last_lsn = file.next_lsn() - 1;
                    }
                    if let Step::Mark { durable, start, .. } = step {
                        // Of several behind one record the first tells where that ends.
                        if self.marked < self.last_lsn {
                            self.marks.push_back((self.last_lsn, start));
                            self.marked = self.last_lsn;
                        }
                        while let Some((_, end)) = self.marks.pop_front_if(|(lsn, _)| *lsn <= durable) {
                            self.proven = end;
                        }
                    }
                    // Borrowed anew: the borrow checker does not see that the one above has ended.
                    return Ok(self.current.as_ref().map(|file| file.entry(step)));
                }
                Err(bad) => self.cut_or_fail(bad)?,
            }
        }
    }

    /// Reads what is left without looking at it, and tells what the log consists of.
    pub fn finish(mut self) -> Result<Recovered> {
        while self.next()?.is_some() {}
        let Reader { last_lsn, records, cut, manifest, mut parts, mut proven, .. } = self;
        // From the last one that has records on; those behind it may only seem to have none.
        let last = parts.iter().rposition(|part| part.content);
        if let (Some(closed), Some(part)) = (manifest.closed, last.and_then(|last| parts.get(last)))
            && part.header.is_some_and(|header| header.seq == closed.seq)
            && part.len >= closed.len
        {
            proven = proven.max(closed.len);
        }
        let from = parts.iter().enumerate().skip(last.unwrap_or(0));
        let unproven = from.filter(|(at, part)| Some(*at) == last || part.header.is_some()).map(|(at, part)| {
            let end = cut.as_ref().filter(|cut| cut.path == part.path).map_or(part.len, |cut| cut.offset);
            let start = if Some(at) == last { proven.min(end) } else { end };
            (part.path.clone(), start..end)
        });
        let unproven = unproven.collect();
        let tail = parts.pop().map(|part| {
            let len = cut.as_ref().filter(|cut| cut.path == part.path).map_or(part.len, |cut| cut.offset);
            (len, part.header)
        });
        Ok(Recovered { last_lsn, records, cut, manifest, tail, unproven })
    }

    fn leave_file(&mut self) {
        if let Some(part) = self.parts.get_mut(self.at) {
            self.bytes_before += part.len;
            part.header = part.header.filter(|_| !self.plain);
        }
        self.at += 1;
        self.current = None;
    }

    /// Opens the increment at `at`; false if there is none.
    fn next_file(&mut self) -> Result<bool> {
        let Some(part) = self.parts.get(self.at) else { return Ok(false) };
        let mut file = FileReader::open(&*self.disk, &part.path, 0)?;
        let after_plain = self.plain;
        self.plain = part.header.is_none();
        if !self.plain {
            if let Err(bad) = file.read_header()? {
                return Err(file.damage(bad));
            }
            // What went before must connect: only files of other servers, and the base, count no LSNs.
            file.follow(self.last_lsn, self.at > 0 && !after_plain);
            self.last_lsn = file.next_lsn() - 1;
        }
        if part.content {
            self.proven = file.offset();
            self.marks.clear();
            self.marked = self.last_lsn;
        }
        self.current = Some(file);
        Ok(true)
    }

    /// Cuts the current file here if that is what a power cut explains.
    fn cut_or_fail(&mut self, bad: Bad) -> Result<()> {
        let Some(file) = self.current.as_mut() else { return Ok(()) };
        let last = self.parts.iter().skip(self.at + 1).all(|part| !part.content);
        if bad == Bad::Room && !closed_behind(self.manifest.closed, file) {
            if last {
                let (offset, path) = (file.offset(), file.path().to_path_buf());
                match (&self.cut, self.parts.get_mut(self.at)) {
                    // The torn tail is that of a plain file before this one.
                    (Some(_), Some(part)) => part.len = offset,
                    _ => self.cut = Some(Cut { bytes: file.len() - offset, offset, path, room: true }),
                }
            }
            self.leave_file();
            return Ok(());
        }
        let torn = match bad {
            Bad::Version(_) | Bad::Room => false,
            Bad::Short if self.plain => true,
            Bad::Spoilt(_) if self.plain => false,
            Bad::Short | Bad::Spoilt(_) => last && !closed_behind(self.manifest.closed, file) && !file.was_synced()?,
        };
        if !(torn && last && self.load_truncated) {
            return Err(file.damage(bad));
        }
        let (offset, path) = (file.offset(), file.path().to_path_buf());
        self.cut = Some(Cut { bytes: file.len() - offset, offset, path, room: false });
        self.leave_file();
        Ok(())
    }
}
