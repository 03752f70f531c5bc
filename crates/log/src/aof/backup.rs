//! Backups while the server runs: files with a second name in another directory, which stay when the log goes on without them.
//!
//! A backup begins by pinning the base, and is sealed by a rotation: then it is a log of its own, up to the rotation's LSN, in
//! files that nobody changes any more. Increments that a rewrite removes in between are pinned before. All is links, so the
//! directory must be on the log's file system; nothing is copied.

use super::log::Files;
use super::manifest::{Closed, FileLine, FileType, Manifest, Names};
use super::{Error, Log, Lsn, Result, Rotation};
use crate::disk::{Disk, Open};
use std::io;
use std::path::{Path, PathBuf};

/// A backup that has begun.
pub(super) struct Backup {
    target: Names,
    /// What it consists of so far. The increments are in order.
    manifest: Manifest,
    /// Number of its first increment.
    from: u64,
    /// Whether something that it needs is gone.
    broken: bool,
}

impl Backup {
    /// Gives a file a second name.
    fn pin(&mut self, disk: &dyn Disk, names: &Names, line: &FileLine) -> Result<()> {
        let (path, to) = (names.path(&line.name), self.target.path(&line.name));
        disk.link(&path, &to).map_err(|error| Error::io("link", &path, error))?;
        match line.kind {
            FileType::Base => self.manifest.base = Some(line.clone()),
            _ => self.manifest.increments.push(FileLine { kind: FileType::Increment, ..line.clone() }),
        }
        Ok(())
    }

    fn needs(&self, seq: u64) -> bool {
        seq >= self.from && self.manifest.increments.last().is_none_or(|last| last.seq < seq)
    }

    /// Called when the log goes on behind transactions that it could not write.
    pub(super) fn spoil(&mut self) {
        self.broken = true;
    }

    /// Called before an increment is no longer needed by the log, in order.
    pub(super) fn keep(&mut self, disk: &dyn Disk, names: &Names, line: &FileLine) {
        if self.needs(line.seq) {
            self.broken |= self.pin(disk, names, line).is_err();
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        let files = self.manifest.base.iter().chain(&self.manifest.increments);
        files.map(|line| self.target.path(&line.name)).collect()
    }
}

const NONE: Error = Error::Missing("no backup has begun");

impl Log {
    /// Begins a backup into a directory, which is created if need be and must be empty. Only one can be under way.
    pub fn begin_backup(&self, into: &Path) -> Result<()> {
        let mut files = self.files();
        if files.backup.is_some() {
            return Err(Error::Missing("a backup is under way"));
        }
        self.disk.create_dir(into).map_err(|error| Error::io("create", into, error))?;
        must_be_empty(&*self.disk, into)?;
        let from = files.manifest.increments.first().map_or(0, |line| line.seq);
        let target = Names::new(into, &self.names.name);
        let mut backup = Backup { target, manifest: Manifest::default(), from, broken: false };
        if let Some(base) = &files.manifest.base {
            backup.pin(&*self.disk, &self.names, base)?;
        }
        self.disk.sync_dir(into).map_err(|error| Error::io("sync", into, error))?;
        files.backup = Some(backup);
        Ok(())
    }

    /// The files that a backup consists of so far. They do not change any more.
    pub fn backup_files(&self) -> Vec<PathBuf> {
        self.files().backup.as_ref().map_or_else(Vec::new, Backup::paths)
    }

    /// Completes a backup: it holds all transactions up to the rotation. Its files, the manifest being the last.
    ///
    /// # Errors
    /// The backup may be sealed later, unless a file is missing, or given up.
    pub fn seal_backup(&self, rotation: Rotation, now_ms: u64) -> Result<(Lsn, Vec<PathBuf>)> {
        self.cross_to(rotation, now_ms)?;
        let mut files = self.files();
        let Files { backup, manifest, .. } = &mut *files;
        let sealed = backup.as_mut().ok_or(NONE)?;
        if sealed.broken {
            return Err(Error::Missing("the log could not keep what belongs to the backup: give it up"));
        }
        for line in manifest.increments.iter().filter(|line| line.seq < rotation.seq) {
            if sealed.needs(line.seq) {
                sealed.pin(&*self.disk, &self.names, line)?;
            }
        }
        if let Some(last) = sealed.manifest.increments.last() {
            let path = sealed.target.path(&last.name);
            let len = self.disk.open(&path, Open::Read).and_then(|file| file.len());
            let len = len.map_err(|error| Error::io("read", &path, error))?;
            sealed.manifest.closed = Some(Closed { seq: last.seq, len, lsn: rotation.lsn, ms: now_ms });
        }
        sealed.manifest.store(&*self.disk, &sealed.target)?;
        let mut paths = sealed.paths();
        paths.push(sealed.target.path(&sealed.target.manifest()));
        *backup = None;
        Ok((rotation.lsn, paths))
    }

    /// Gives a backup up, if one has begun: its files are removed, but for the directory.
    pub fn abort_backup(&self) -> Result<()> {
        let backup = self.files().backup.take();
        backup.map_or(Ok(()), |backup| remove_files(&*self.disk, &backup.paths()))
    }
}

/// Removes the files of a backup that is no longer needed.
pub fn remove_files(disk: &dyn Disk, paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        match disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", path, error)),
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn must_be_empty(disk: &dyn Disk, dir: &Path) -> Result<()> {
    match disk.list(dir) {
        Ok(files) if files.is_empty() => Ok(()),
        Ok(_) => Err(Error::Missing("the directory to copy into is not empty")),
        Err(error) => Err(Error::io("read", dir, error)),
    }
}
