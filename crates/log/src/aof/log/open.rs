//! Opening a log: after it was read, or a new one; and what must be done before.

use super::super::frame;
use super::super::manifest::{FileLine, FileType, Manifest, Names};
use super::super::reader::Recovered;
use super::super::{Error, FORMAT, Lsn, Result};
use super::{Buffer, DirLock, Files, Front, Log, Mark, Options, Writer, lock, next_salt};
use crate::disk::{Disk, File, Open, read_full_at, write_all_at};
use kelda_store::sync::{AtomicBool, AtomicU64, Mutex};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Writes the state that a log starts with to a path.
pub type WriteBase<'a> = &'a mut dyn FnMut(&Path) -> io::Result<()>;

/// Takes the lock on a directory, which is created if need be. To be held from before the log is read until it is closed.
pub fn lock_dir(disk: &dyn Disk, dir: &Path, name: &str) -> Result<DirLock> {
    disk.create_dir(dir).map_err(|error| Error::io("create", dir, error))?;
    let path = dir.join(format!("{name}.lock"));
    match disk.lock(&path) {
        Ok(held) => Ok(DirLock(held)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Error::Locked(dir.to_path_buf())),
        Err(error) => Err(Error::io("lock", &path, error)),
    }
}

/// Takes over a log of Redis 6 or before, one plain file called `name` in the data directory: it becomes the base of the log in
/// `dir`, which has none. Whether there was one. With [`lock_dir`]'s lock, before the log is read.
pub fn adopt(disk: &dyn Disk, data_dir: &Path, dir: &Path, name: &str) -> Result<bool> {
    let names = Names::new(dir, name);
    let (from, to) = (data_dir.join(name), names.path(name));
    let exists = |path: &Path| match disk.open(path, Open::Read) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("open", path, error)),
    };
    let base = FileLine { name: name.to_string(), seq: 1, kind: FileType::Base };
    let wanted = Manifest { base: Some(base), ..Manifest::default() };
    // The manifest comes first: if the file were moved without it, it would be overlooked. A crash in between leaves a
    // manifest whose file is still where it was.
    match Manifest::load(disk, &names)? {
        Some(manifest) if manifest != wanted || exists(&to)? => return Ok(false),
        _ if !exists(&from)? => return Ok(false),
        Some(_) => {}
        None => wanted.store(disk, &names)?,
    }
    disk.rename(&from, &to)
        .and_then(|()| disk.sync_dir(dir))
        .and_then(|()| disk.sync_dir(data_dir))
        .map_err(|error| Error::io("move", &from, error))?;
    Ok(true)
}

/// Makes a part of a file durable that was read, and that clients will see from now on, and what follows it gone for good.
/// A sync alone would not do: if one failed before the last start, the system believes that all is on the disk as it shows
/// it. So the bytes are written once more, and the length set, whatever it seems to be.
fn make_durable(disk: &dyn Disk, path: &Path, range: Range<u64>) -> io::Result<()> {
    let file = disk.open(path, Open::Write)?;
    file.truncate(range.end)?;
    let mut block = vec![0; 1 << 20];
    let mut offset = range.start;
    while offset < range.end {
        let want = usize::try_from(range.end - offset).unwrap_or(usize::MAX).min(block.len());
        let part = block.get_mut(..want).unwrap_or_default();
        if read_full_at(&*file, offset, part)? < want {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write_all_at(&*file, offset, part)?;
        offset += want as u64;
    }
    file.sync()
}

/// Creates an increment with its header, durably.
pub(super) fn begin_increment(
    disk: &dyn Disk,
    names: &Names,
    seq: u64,
    lsn: Lsn,
    salt: u64,
    now_ms: u64,
) -> Result<(Arc<dyn File>, u64)> {
    let path = names.path(&names.increment(seq));
    let header = frame::header(seq, lsn, salt, now_ms);
    let create = || {
        let file = disk.open(&path, Open::Create)?;
        write_all_at(&*file, 0, &header)?;
        file.sync()?;
        disk.sync_dir(&names.dir)?;
        Ok((file, header.len() as u64))
    };
    create().map_err(|error| Error::io("create", &path, error))
}

impl Log {
    /// Creates a log in a directory that has no manifest. `write_base` writes the state it starts with to the path it is
    /// given; it need not sync. Without it the log starts with the empty keyspace.
    ///
    /// # Errors
    /// Also if there are increments with records: their manifest is lost, and they would be overwritten.
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        name: &str,
        options: Options,
        held: DirLock,
        now_ms: u64,
        write_base: Option<WriteBase<'_>>,
    ) -> Result<Log> {
        let names = Names::new(dir, name);
        if names.has_data_after(&*disk, 0)? {
            return Err(Error::Missing("the manifest is missing, but there are increments with data"));
        }
        let mut manifest = Manifest::default();
        if let Some(write_base) = write_base {
            let base = FileLine { name: names.base(1), seq: 1, kind: FileType::Base };
            let path = names.path(&base.name);
            write_base(&path)
                .and_then(|()| disk.open(&path, Open::Write)?.sync())
                .and_then(|()| disk.sync_dir(dir))
                .map_err(|error| Error::io("write", &path, error))?;
            manifest.base = Some(base);
        }
        if let Some(parent) = dir.parent() {
            disk.sync_dir(parent).map_err(|error| Error::io("sync", parent, error))?;
        }
        let recovered = Recovered { last_lsn: 0, records: 0, cut: None, manifest, tail: None, unproven: Vec::new() };
        Self::open(disk, dir, name, options, held, now_ms, recovered)
    }

    /// Opens a log that a [`super::Reader`] has read: cuts off the torn tail, and goes on behind the last record.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        name: &str,
        options: Options,
        held: DirLock,
        now_ms: u64,
        recovered: Recovered,
    ) -> Result<Log> {
        let names = Names::new(dir, name);
        let Recovered { last_lsn, mut manifest, tail, unproven, .. } = recovered;
        // The manifest that was read may not be the one that a power cut would leave.
        disk.sync_dir(dir).map_err(|error| Error::io("sync", dir, error))?;
        for (path, range) in unproven {
            make_durable(&*disk, &path, range).map_err(|error| Error::io("sync", &path, error))?;
        }
        if manifest.closed.is_some_and(|closed| closed.lsn > last_lsn) {
            // Somebody has cut off what it tells of. Its LSNs are given anew.
            manifest.closed = None;
            manifest.store(&*disk, &names)?;
        }
        let mut salt = options.salt;
        let last = manifest.increments.last();
        // A file of an older format is not gone on with: those who know only that must not take its end for a torn one.
        let tail = tail.filter(|(_, header)| header.is_some_and(|header| header.version == FORMAT));
        let begun = tail.is_none();
        let (file, seq, len, current_salt) = match (last, tail) {
            (Some(line), Some((len, Some(header)))) => {
                let path = names.path(&line.name);
                let fail = |error| Error::io("sync", &path, error);
                let file = disk.open(&path, Open::Write).map_err(fail)?;
                // The same for this file, which may be another one: it has nothing but its header then.
                make_durable(&*disk, &path, len..len).map_err(fail)?;
                (file, header.seq, len, header.salt)
            }
            _ => {
                let seq = manifest.increments.last().map_or(1, |line| line.seq + 1).max(manifest.last_seq());
                let new_salt = next_salt(&mut salt);
                let (file, len) = begin_increment(&*disk, &names, seq, last_lsn, new_salt, now_ms)?;
                manifest.increments.push(FileLine { name: names.increment(seq), seq, kind: FileType::Increment });
                manifest.store(&*disk, &names)?;
                (file, seq, len, new_salt)
            }
        };
        // When the records before were appended; unless they were closed, all that is known is that they were before now.
        let closed = manifest.closed.filter(|closed| closed.ends(seq, len));
        let taken_ms = closed.map_or(now_ms, |closed| closed.ms);
        let mut bytes = len;
        for line in manifest.increments.iter().rev().skip(1) {
            let path = names.path(&line.name);
            let old = disk.open(&path, Open::Read).and_then(|file| file.len());
            bytes += old.map_err(|error| Error::io("open", &path, error))?;
        }
        let log = Log {
            buffer_max: options.buffer_max,
            front: Front {
                appended: AtomicU64::new(last_lsn),
                buffer: Mutex::new(Buffer {
                    lsn: last_lsn,
                    salt: current_salt,
                    db: None,
                    full: VecDeque::new(),
                    tail: Vec::new(),
                    tail_first: 0,
                    spare: Vec::new(),
                    bytes: 0,
                    dropping: false,
                    hole: 0,
                    switching: false,
                    mark: Mark::default(),
                    taken_ms,
                    empty_ms: now_ms,
                }),
            },
            writer: Mutex::new(Writer {
                file: Arc::clone(&file),
                offset: len,
                len,
                pending: VecDeque::new(),
                done: 0,
                lsn: last_lsn,
                seq,
            }),
            syncing: Mutex::new(()),
            current: Mutex::new(file),
            files: Mutex::new(Files {
                next_seq: manifest.last_seq() + 1,
                manifest,
                backup: None,
                salt,
                archive: options.archive,
            }),
            written: AtomicU64::new(last_lsn),
            durable: AtomicU64::new(last_lsn),
            wanted: AtomicU64::new(0),
            last_sync_ms: AtomicU64::new(now_ms),
            increment_bytes: AtomicU64::new(bytes),
            gate: AtomicU64::new(0),
            makes_room: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            wake_at: AtomicU64::new(0),
            preparing: Arc::new(AtomicBool::new(false)),
            hook: OnceLock::new(),
            _lock: held,
            disk,
            names,
        };
        if begun {
            lock(&log.front.buffer).push_mark(last_lsn, now_ms);
        }
        log.remove_history(&mut lock(&log.files))?;
        Ok(log)
    }
}
