//! For whoever looks after the data: what a directory holds, where it is damaged, and how to go on without the damaged part.

use super::frame::Kind;
use super::log::DirLock;
use super::manifest::{Closed, FileLine, Manifest, Names};
use super::reader::{Bad, Cut, Entry, FileReader, Reader, Step, closed_behind};
use super::{Damage, Error, Lsn, Result};
use crate::disk::{Cursor, Disk, Open, copy_range, read_full_at};
use crate::rdb::{FileError, RdbFile};
use kelda_store::Limits;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What one increment holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Whether every byte of it is checked; if not, another server wrote it.
    pub checked: bool,
    /// Whole transactions.
    pub records: u64,
    /// LSN of the first, 0 if there is none.
    pub first_lsn: Lsn,
    /// LSN of the last, 0 if there is none.
    pub last_lsn: Lsn,
    /// Times of the first and last mark: Unix time in milliseconds, 0 if there is none.
    pub times_ms: (u64, u64),
    /// Where it is damaged: all places.
    pub damage: Vec<Damage>,
}

/// What the base holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseReport {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Keys of its RDB part.
    pub keys: u64,
    /// Transactions of its plain part.
    pub records: u64,
    /// Why it cannot be loaded.
    pub error: Option<String>,
}

/// What a log consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The base.
    pub base: Option<BaseReport>,
    /// The increments, in order.
    pub increments: Vec<FileReport>,
    /// A torn tail, which the next start will cut off. Not a damage.
    pub torn: Option<Cut>,
}

impl Report {
    /// Whether a server can start with this log.
    pub fn is_sound(&self) -> bool {
        let base = self.base.as_ref().is_none_or(|base| base.error.is_none());
        base && self.increments.iter().all(|file| file.damage.is_empty())
    }

    /// LSN of the last transaction.
    pub fn last_lsn(&self) -> Lsn {
        self.increments.iter().map(|file| file.last_lsn).max().unwrap_or(0)
    }
}

/// Reads all of a log and tells what it holds. Changes nothing.
///
/// # Errors
/// If the disk fails, there is no manifest, or it cannot be read. Damage of an increment is in the report.
pub fn check(disk: &Arc<dyn Disk>, dir: &Path, name: &str) -> Result<Report> {
    let names = Names::new(dir, name);
    let manifest = Manifest::load(&**disk, &names)?.ok_or(Error::Missing("there is no manifest in this directory"))?;
    let mut report = Report::default();
    if let Some(line) = &manifest.base {
        report.base = Some(check_base(&**disk, &names.path(&line.name))?);
    }
    let mut before = Before { lsn: 0, exact: false };
    for line in &manifest.increments {
        report.increments.push(check_file(&**disk, &names, line, &mut before, manifest.closed)?);
    }
    // Whether the end is torn or damaged is the reader's to say.
    if let Some(reader) = Reader::open(Arc::clone(disk), dir, name, true).ok().flatten()
        && let Ok(recovered) = reader.finish()
        && let Some(cut) = recovered.cut
    {
        report.increments.iter_mut().for_each(|file| file.damage.clear());
        report.torn = Some(cut).filter(|cut| !cut.room);
    }
    Ok(report)
}

/// What was read before a file.
struct Before {
    lsn: Lsn,
    /// Whether the next record must be the next one: the file before counts LSNs.
    exact: bool,
}

/// Reads all of a base, or of a snapshot, and tells what it holds.
///
/// # Errors
/// If the disk fails. What is wrong with the file is in the report.
pub fn check_base(disk: &dyn Disk, path: &Path) -> Result<BaseReport> {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let mut report = BaseReport { name, ..BaseReport::default() };
    let fail = |error| Error::io("read", path, error);
    let file = match disk.open(path, Open::Read) {
        Ok(file) => file,
        Err(error) => return Ok(BaseReport { error: Some(error.to_string()), ..report }),
    };
    report.bytes = file.len().map_err(fail)?;
    let mut magic = [0; 6];
    read_full_at(&*file, 0, &mut magic).map_err(fail)?;
    let mut plain_from = 0;
    if RdbFile::<Cursor>::is_start(&magic) {
        match count_keys(RdbFile::open(Cursor::new(file, 0)), &mut report.keys) {
            Ok(end) => plain_from = end,
            Err(error) => report.error = Some(error.to_string()),
        }
    }
    if report.error.is_none() && plain_from < report.bytes {
        let mut plain = FileReader::open(disk, path, plain_from)?;
        loop {
            match plain.next_plain() {
                Ok(None) => break,
                Ok(Some(entry)) => report.records += u64::from(matches!(entry, Entry::Record(_))),
                Err(error @ Error::Io { .. }) => return Err(error),
                Err(error) => {
                    report.error = Some(error.to_string());
                    break;
                }
            }
        }
    }
    Ok(report)
}

/// Decodes all values of an RDB file; where it ends.
fn count_keys(
    file: std::result::Result<RdbFile<Cursor>, FileError>,
    keys: &mut u64,
) -> std::result::Result<u64, FileError> {
    let mut file = file?;
    let limits = Limits::default();
    while let Some(block) = file.next_block()? {
        for entry in block.entries() {
            entry.decode(&limits)?;
            *keys += 1;
        }
    }
    Ok(file.offset())
}

fn check_file(
    disk: &dyn Disk,
    names: &Names,
    line: &FileLine,
    before: &mut Before,
    closed: Option<Closed>,
) -> Result<FileReport> {
    let path = names.path(&line.name);
    let mut file = FileReader::open(disk, &path, 0)?;
    let mut report = FileReport { name: line.name.clone(), bytes: file.len(), ..FileReport::default() };
    if file.is_empty() {
        return Ok(report);
    }
    report.checked = !file.looks_plain()?;
    if report.checked {
        if let Err(bad) = file.read_header()? {
            // Without its salt, nothing in the file can be checked.
            report.damage.push(damage(&file, bad)?);
            before.exact = false;
            return Ok(report);
        }
        if file.header().is_some_and(|header| header.seq != line.seq) {
            report.damage.push(damage(&file, Bad::Spoilt("its header has another number than the manifest"))?);
        }
        file.follow(before.lsn, before.exact);
    }
    loop {
        let step = if report.checked { file.checked_step()? } else { file.plain_step()? };
        match step {
            Ok(None) => break,
            Ok(Some(Step::Record { lsn, .. })) => {
                report.records += 1;
                report.checked &= !file.is_foreign();
                report.last_lsn = report.last_lsn.max(lsn);
                report.first_lsn = if report.records == 1 { lsn } else { report.first_lsn };
            }
            Ok(Some(Step::Mark { ms, .. })) => {
                report.times_ms = (if report.times_ms.0 == 0 { ms } else { report.times_ms.0 }, ms);
            }
            Err(Bad::Room) if !closed_behind(closed, &file) => break,
            Err(bad) => {
                report.damage.push(damage(&file, bad)?);
                if !report.checked || !file.skip_damage()? {
                    break;
                }
            }
        }
    }
    *before = Before { lsn: file.next_lsn().saturating_sub(1).max(before.lsn), exact: report.checked };
    Ok(report)
}

fn damage(file: &FileReader, bad: Bad) -> Result<Damage> {
    match file.damage(bad) {
        Error::Damaged(damage) => Ok(damage),
        other => Err(other),
    }
}

/// What [`salvage`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// The first damage: what was there, and all that follows, is no longer part of the log.
    pub damage: Damage,
    /// Where it is now.
    pub aside: Vec<PathBuf>,
}

/// Makes a damaged log readable: keeps all whole transactions up to the first damage, and sets the rest aside in files
/// whose names end in `.damaged`. Deletes nothing. Nothing to do if the log is sound.
///
/// The lock makes sure that no server uses the log.
pub fn salvage(disk: &Arc<dyn Disk>, dir: &Path, name: &str, _held: &DirLock) -> Result<Option<Salvaged>> {
    let report = check(disk, dir, name)?;
    let names = Names::new(dir, name);
    let Some((at, damage)) =
        report.increments.iter().enumerate().find_map(|(at, file)| Some((at, file.damage.first()?.clone())))
    else {
        return Ok(None);
    };
    let mut manifest = Manifest::load(&**disk, &names)?.ok_or(Error::Missing("there is no manifest"))?;
    manifest.closed = None;
    let later = manifest.increments.split_off(at + 1);
    let mut aside = Vec::new();
    // First the copy, then the cut: a crash in between leaves both.
    let copy = || {
        let to = free_name(&**disk, &damage.path)?;
        let file = disk.open(&damage.path, Open::Read)?;
        let copy = disk.open(&to, Open::New)?;
        copy_range(&*file, damage.offset..file.len()?, &*copy)?;
        copy.sync()?;
        disk.sync_dir(dir)?;
        Ok(to)
    };
    aside.push(copy().map_err(|error| Error::io("set aside", &damage.path, error))?);
    if damage.offset == 0 {
        manifest.increments.pop();
    }
    if manifest.base.is_none() && manifest.increments.is_empty() {
        return Err(Error::Missing(
            "nothing is left: the first increment is damaged at its start, and there is no base",
        ));
    }
    manifest.store(&**disk, &names)?;
    let cut = || match damage.offset {
        0 => disk.remove(&damage.path),
        offset => {
            let file = disk.open(&damage.path, Open::Write)?;
            file.truncate(offset)?;
            file.sync()
        }
    };
    cut().map_err(|error| Error::io("cut", &damage.path, error))?;
    for line in later {
        let path = names.path(&line.name);
        let rename = || {
            let to = free_name(&**disk, &path)?;
            disk.rename(&path, &to)?;
            Ok(to)
        };
        aside.push(rename().map_err(|error| Error::io("set aside", &path, error))?);
    }
    disk.sync_dir(dir).map_err(|error| Error::io("sync", dir, error))?;
    Ok(Some(Salvaged { damage, aside }))
}

/// A name beside `path` that no file has.
fn free_name(disk: &dyn Disk, path: &Path) -> io::Result<PathBuf> {
    for number in 1.. {
        let mut name = path.as_os_str().to_os_string();
        name.push(if number == 1 { ".damaged".to_string() } else { format!(".{number}.damaged") });
        let name = PathBuf::from(name);
        match disk.open(&name, Open::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(name),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

impl FileReader {
    /// Goes on behind a damage, at the next whole frame; false if there is none.
    fn skip_damage(&mut self) -> Result<bool> {
        self.skip_byte();
        let Some((head, _)) = self.resync()? else { return Ok(false) };
        let before = if head.kind == Kind::Record { head.lsn.saturating_sub(1) } else { head.lsn };
        self.follow(before, true);
        Ok(true)
    }
}
