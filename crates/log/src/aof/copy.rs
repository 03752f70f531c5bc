//! Copies of a log as of an earlier moment, and the archive that they are made from.

use super::backup::must_be_empty;
use super::frame::{self, Kind};
use super::manifest::{Closed, FileLine, FileType, Manifest, Names};
use super::reader::{Bad, FileReader, Part, Step};
use super::{Error, Log, Lsn, Result};
use crate::disk::{Disk, Open, copy_range, read_full_at, write_all_at};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The folder, within a log's directory, of files that a rewrite has replaced.
pub const ARCHIVE: &str = "archive";

/// A moment in the life of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// After this transaction.
    Lsn(Lsn),
    /// After the last transaction that is known to have been before: Unix time in milliseconds. Logs note the time a few
    /// times a second while they are written.
    Time(u64),
}

/// What [`restore`] made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The last transaction in the copy; 0 if there is none but in the base.
    pub lsn: Lsn,
}

/// Files of a log by their numbers: those of the manifest, and those in the archive.
struct Sources {
    closed: Option<Closed>,
    bases: BTreeMap<u64, PathBuf>,
    increments: BTreeMap<u64, PathBuf>,
}

impl Sources {
    fn find(disk: &dyn Disk, names: &Names) -> Result<Sources> {
        let manifest = Manifest::load(disk, names)?.ok_or(Error::Missing("there is no manifest in this directory"))?;
        let mut sources = Sources { closed: manifest.closed, bases: BTreeMap::new(), increments: BTreeMap::new() };
        for (seq, base, path) in archived(disk, names)? {
            match base {
                true => _ = sources.bases.insert(seq, path),
                false => _ = sources.increments.insert(seq, path),
            }
        }
        // A base replaced halfway is still where it was.
        for line in &manifest.history {
            let path = names.path(&line.name);
            if disk.open(&path, Open::Read).is_ok() {
                match line.name.ends_with(".incr.aof") {
                    true => _ = sources.increments.insert(line.seq, path),
                    false => _ = sources.bases.insert(line.seq, path),
                }
            }
        }
        if let Some(line) = &manifest.base {
            sources.bases.insert(line.seq, names.path(&line.name));
        }
        for line in &manifest.increments {
            sources.increments.insert(line.seq, names.path(&line.name));
        }
        Ok(sources)
    }
}

/// The files in a log's archive: number, whether it is a base, path.
fn archived(disk: &dyn Disk, names: &Names) -> Result<Vec<(u64, bool, PathBuf)>> {
    let archive = names.path(ARCHIVE);
    let files = match disk.list(&archive) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", &archive, error)),
    };
    let parse = |file: String| {
        let (seq, kind) = file.strip_prefix(&names.name)?.strip_prefix('.')?.split_once('.')?;
        let base = match kind {
            "base.rdb" => true,
            "incr.aof" => false,
            _ => return None,
        };
        Some((seq.parse().ok()?, base, archive.join(&file)))
    };
    Ok(files.into_iter().filter_map(parse).collect())
}

impl Log {
    /// Removes the oldest files from the archive: while it has more than `bytes_max` bytes, and what was replaced before
    /// `keep_from_ms` (Unix time in milliseconds). How many files were removed. A base goes with the increments that
    /// build on it.
    pub fn prune_archive(&self, bytes_max: u64, keep_from_ms: u64) -> Result<usize> {
        let disk = &*self.disk;
        let mut files = archived(disk, &self.names)?;
        // A base before the increment of the same number.
        files.sort_by_key(|(seq, base, _)| (*seq, !*base));
        let mut sizes = Vec::new();
        for (.., path) in &files {
            let len = disk.open(path, Open::Read).and_then(|file| file.len());
            sizes.push(len.map_err(|error| Error::io("read", path, error))?);
        }
        let mut total: u64 = sizes.iter().sum();
        let mut removed = 0;
        while let Some(rest) = files.get(removed..)
            && !rest.is_empty()
        {
            // Up to the next base, which was begun when these were replaced.
            let end = rest.iter().skip(1).position(|(_, base, _)| *base).map_or(rest.len(), |at| at + 1);
            let replaced_ms = match rest.get(end) {
                Some((seq, ..)) => self.begun_ms(*seq)?,
                None => {
                    let base = self.files().manifest.base.as_ref().map(|line| line.seq);
                    base.map_or(Ok(None), |seq| self.begun_ms(seq))?
                }
            };
            if total <= bytes_max && replaced_ms.is_none_or(|ms| ms >= keep_from_ms) {
                break;
            }
            for ((.., path), len) in rest.iter().zip(sizes.get(removed..).unwrap_or_default()).take(end) {
                disk.remove(path).map_err(|error| Error::io("remove", path, error))?;
                total -= len;
            }
            removed += end;
        }
        Ok(removed)
    }

    /// When the increment with this number, archived or not, was begun; nothing if it is not one of ours.
    fn begun_ms(&self, seq: u64) -> Result<Option<u64>> {
        let name = self.names.increment(seq);
        for path in [self.names.path(ARCHIVE).join(&name), self.names.path(&name)] {
            if let Ok(mut file) = FileReader::open(&*self.disk, &path, 0) {
                let _ = file.read_header()?;
                return Ok(file.header().map(|header| header.ms));
            }
        }
        Ok(None)
    }
}

/// Where in its increments a moment is.
#[derive(Clone)]
struct Place {
    /// Number of the increment.
    seq: u64,
    /// The end of the frames that are before.
    offset: u64,
    /// What is before of the next one.
    part: Option<Part>,
    lsn: Lsn,
}

impl Place {
    /// Where a reader is.
    fn of(seq: u64, file: &FileReader) -> Place {
        let (offset, part) = file.read_so_far();
        Place { seq, offset, part, lsn: file.next_lsn() - 1 }
    }
}

/// Makes a copy of a log, in another directory, as it was at a moment: the newest base that is not later, and the
/// increments up to there. Older ones than the log's own are looked for in its archive. `into` must exist and be empty.
/// The log itself is only read; it need not be sound behind the moment.
pub fn restore(disk: &dyn Disk, from: &Path, name: &str, moment: Moment, into: &Path) -> Result<Restored> {
    let names = Names::new(from, name);
    let sources = Sources::find(disk, &names)?;
    must_be_empty(disk, into)?;
    // No base is before the first increment of a log that began empty.
    let start =
        sources.increments.first_key_value().map(|(seq, _)| *seq).filter(|seq| !sources.bases.contains_key(seq));
    let mut starts: Vec<(u64, Option<&PathBuf>)> = start.map(|seq| (seq, None)).into_iter().collect();
    starts.extend(sources.bases.iter().map(|(seq, path)| (*seq, Some(path))));
    // The first base stands for all that was before the log: without one the log must begin at LSN 1.
    for (seq, base) in starts.iter().rev() {
        let Some(place) = locate(disk, &sources, *seq, base.is_none(), moment)? else { continue };
        let target = Names::new(into, name);
        let mut manifest = Manifest::default();
        if let Some(path) = base {
            manifest.base = Some(copy_file(disk, path, &target, *seq, FileType::Base, None)?);
        }
        for (seq, path) in sources.increments.range(*seq..=place.seq) {
            let end = (*seq == place.seq).then_some((place.offset, place.part.as_ref()));
            manifest.increments.push(copy_file(disk, path, &target, *seq, FileType::Increment, end)?);
        }
        manifest.store(disk, &target)?;
        return Ok(Restored { lsn: place.lsn });
    }
    Err(Error::Missing("no base and increments reach that moment"))
}

const FOREIGN: Error = Error::Missing("another server wrote to the log, so that it cannot be restored to a moment");

/// Finds a moment in the increments from number `seq` on; nothing if it is before the first of them, or after the last.
fn locate(disk: &dyn Disk, sources: &Sources, seq: u64, from_empty: bool, moment: Moment) -> Result<Option<Place>> {
    let beyond = |lsn: Lsn, ms: u64| match moment {
        Moment::Lsn(wanted) => lsn > wanted,
        Moment::Time(wanted) => ms > wanted,
    };
    let mut place: Option<Place> = None;
    let mut end: Option<Place> = None;
    for (seq, path) in sources.increments.range(seq..) {
        let mut file = FileReader::open(disk, path, 0)?;
        if file.looks_plain()? {
            return Err(FOREIGN);
        }
        let header = match file.read_header()? {
            Ok(()) => file.header(),
            // The end of what is sound: beyond it the moment cannot be found.
            Err(_) => break,
        };
        file.follow(end.as_ref().map_or(0, |end| end.lsn), end.is_some());
        let mut opening = end.is_none();
        if opening && beyond(file.next_lsn() - 1, header.map_or(0, |header| header.ms)) {
            return Ok(None);
        }
        loop {
            let here = Place::of(*seq, &file);
            let step = file.checked_step()?;
            if file.is_foreign() {
                return Err(FOREIGN);
            }
            match step {
                // What the base holds is what was there at the first mark.
                Ok(Some(Step::Mark { ms, .. })) if opening && beyond(file.next_lsn() - 1, ms) => return Ok(None),
                Ok(Some(Step::Mark { ms, .. })) if beyond(0, ms) => return Ok(place),
                Ok(Some(Step::Record { lsn, .. })) if beyond(lsn, 0) => return Ok(Some(here)),
                Ok(Some(Step::Record { lsn, .. })) if opening && from_empty && lsn > 1 => return Ok(None),
                Ok(Some(Step::Record { .. })) => {}
                Ok(Some(Step::Mark { .. })) => {
                    place = Some(Place::of(*seq, &file));
                }
                Ok(None) | Err(Bad::Room) => {
                    let closed = sources.closed.filter(|closed| closed.ends(here.seq, here.offset));
                    if closed.is_some_and(|closed| beyond(0, closed.ms)) {
                        return Ok(place);
                    }
                    end = Some(here);
                    break;
                }
                Err(bad)
                    if matches!(moment, Moment::Time(_)) && sources.increments.range(seq + 1..).next().is_some() =>
                {
                    return Err(file.damage(bad));
                }
                Err(_) => return Ok(reached(Some(here), moment)),
            }
            opening = false;
        }
        if matches!(moment, Moment::Lsn(_)) {
            place = end.clone();
        }
    }
    // As far as is known nothing more had happened.
    Ok(reached(end, moment))
}

/// A log that ends before an LSN has not reached it; one that ends before a time has.
fn reached(place: Option<Place>, moment: Moment) -> Option<Place> {
    place.filter(|place| match moment {
        Moment::Lsn(wanted) => place.lsn == wanted,
        Moment::Time(_) => true,
    })
}

/// Copies a file, or its first bytes and a part of the frame that follows, into another log's directory, durably but for its
/// name.
fn copy_file(
    disk: &dyn Disk,
    path: &Path,
    target: &Names,
    seq: u64,
    kind: FileType,
    end: Option<(u64, Option<&Part>)>,
) -> Result<FileLine> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_string();
    let copy = || {
        let file = disk.open(path, Open::Read)?;
        let (end, part) = match end {
            Some(end) => end,
            None => (file.len()?, None),
        };
        let copy = disk.open(&target.path(&name), Open::New)?;
        copy_range(&*file, 0..end, &*copy)?;
        if let Some(Part { first, salt, bytes }) = part {
            let mut body = vec![0; (bytes.end - bytes.start) as usize];
            read_full_at(&*file, bytes.start, &mut body)?;
            let frame = frame::encode(Kind::Record, *first, *salt, &body).unwrap_or_default();
            write_all_at(&*copy, end, &frame)?;
        }
        copy.sync()
    };
    copy().map_err(|error| Error::io("copy", path, error))?;
    Ok(FileLine { name, seq, kind })
}
