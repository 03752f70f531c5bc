//! Rewriting: the switch to a new increment, the new base, and what becomes of the old files.

use super::super::backup::Backup;
use super::super::copy::ARCHIVE;
use super::super::manifest::{FileLine, FileType, Manifest};
use super::super::{Error, Result};
use super::open::begin_increment;
use super::{FULL, Files, Log, Next, Piece, Prepared, Rotation, SYNC_FAILED, Turn, Writer, lock, next_salt};
use crate::disk::Open;
use kelda_store::sync::{MutexGuard, Ordering};
use std::io;
use std::path::PathBuf;

impl Log {
    /// Creates the next increment, so that [`Log::rotate`] has nothing to wait for. With no shard held.
    ///
    /// # Errors
    /// Also while another one is prepared and not yet switched to.
    pub fn prepare_rotation(&self, now_ms: u64) -> Result<Prepared> {
        let turn = Turn::take(&self.preparing).ok_or(Error::Missing("another rotation of the log is under way"))?;
        let mut files = lock(&self.files);
        let seq = files.next_seq;
        files.next_seq += 1;
        let salt = next_salt(&mut files.salt);
        let (file, len) = begin_increment(&*self.disk, &self.names, seq, self.appended(), salt, now_ms)?;
        let mut next = Next { seq, salt, file, len, listed: false };
        // After a failed sync the file before it is no longer whole, and this one of no use without a new base.
        if self.gate.load(Ordering::Relaxed) & SYNC_FAILED == 0 {
            self.list(&mut files, &next)?;
            next.listed = true;
        }
        Ok(Prepared { next, _turn: turn })
    }

    /// Switches to the prepared increment, at one place between two transactions. With every shard held: a short lock.
    pub fn rotate(&self, prepared: Prepared, now_ms: u64) -> Rotation {
        let next = prepared.next.clone();
        let durable = self.durable();
        let mut buffer = lock(&self.front.buffer);
        buffer.close_tail();
        buffer.dropping = false;
        buffer.switching = true;
        buffer.db = None;
        buffer.salt = next.salt;
        let rotation = Rotation { seq: next.seq, lsn: buffer.lsn };
        buffer.full.push_back(Piece::Switch(next));
        buffer.push_mark(durable, now_ms);
        rotation
    }

    /// Where the base of a rewrite is to be written. The file may exist: left from an attempt before a crash.
    pub fn base_path(&self, rotation: Rotation) -> PathBuf {
        self.names.path(&self.names.base(rotation.seq))
    }

    /// Makes the base at [`Log::base_path`], which holds the state at `rotation.lsn`, the log's base, durably, and removes
    /// or archives what it replaces. Ends [`State::SyncFailed`].
    ///
    /// # Errors
    /// Nothing has changed then, unless what failed is the removal of old files, which will be tried again when the log is opened.
    pub fn finish_rewrite(&self, rotation: Rotation, now_ms: u64) -> Result<()> {
        let path = self.base_path(rotation);
        self.disk
            .open(&path, Open::Write)
            .and_then(|file| file.sync())
            .and_then(|()| self.disk.sync_dir(&self.names.dir))
            .map_err(|error| Error::io("sync", &path, error))?;
        let mut writer = lock(&self.writer);
        self.write_locked(&mut writer, now_ms);
        let skip = match writer.seq >= rotation.seq {
            true => {
                // Nobody is to wait for the manifest.
                drop(writer);
                None
            }
            // The log could not be written up to here. It no longer matters: the base holds all that.
            false => Some((self.skip_to(&mut writer, rotation)?, writer)),
        };
        let mut files = lock(&self.files);
        let base = FileLine { name: self.names.base(rotation.seq), seq: rotation.seq, kind: FileType::Base };
        let mut manifest = Manifest { base: Some(base), ..Manifest::default() };
        let old = files.manifest.clone();
        if let Some(backup) = &mut files.backup {
            let covered = old.increments.iter().filter(|line| line.seq < rotation.seq);
            covered.for_each(|line| backup.keep(&*self.disk, &self.names, line));
        }
        for line in old.base.into_iter().chain(old.increments) {
            if line.kind == FileType::Increment && line.seq >= rotation.seq {
                manifest.increments.push(line);
            } else {
                manifest.history.push(FileLine { kind: FileType::History, ..line });
            }
        }
        manifest.history.extend(old.history);
        if let Some((next, _)) = skip.as_ref().filter(|(next, _)| !next.listed) {
            let name = self.names.increment(next.seq);
            manifest.increments.push(FileLine { name, seq: next.seq, kind: FileType::Increment });
            manifest.increments.sort_by_key(|line| line.seq);
        }
        manifest.store(&*self.disk, &self.names)?;
        files.manifest = manifest;
        if let Some((next, mut writer)) = skip {
            files.backup.iter_mut().for_each(Backup::spoil);
            while let Some(piece) = writer.pending.front()
                && !matches!(piece, Piece::Switch(switch) if switch.seq == next.seq)
            {
                writer.pending.pop_front();
            }
            self.enter(&mut writer, next);
            writer.pending.pop_front();
            self.gate.fetch_and(FULL, Ordering::Relaxed);
        }
        self.durable.fetch_max(rotation.lsn, Ordering::AcqRel);
        self.written.fetch_max(rotation.lsn, Ordering::AcqRel);
        let removed = self.remove_history(&mut files);
        drop(files);
        self.call_hook();
        removed
    }

    /// The increment of a rotation that is still pending; all that was appended is moved to the writer.
    fn skip_to(&self, writer: &mut Writer, rotation: Rotation) -> Result<Next> {
        let mut buffer = lock(&self.front.buffer);
        buffer.close_tail();
        writer.pending.append(&mut buffer.full);
        buffer.bytes = 0;
        writer.lsn = buffer.lsn;
        let found = writer.pending.iter().find_map(|piece| match piece {
            Piece::Switch(next) if next.seq == rotation.seq => Some(next.clone()),
            _ => None,
        });
        if buffer.hole > rotation.lsn {
            return Err(Error::Missing("transactions after the base could not be kept"));
        }
        found.ok_or(Error::Missing("the log has not been rotated for this rewrite"))
    }

    /// Gives a rewrite up: removes what there is of its base. The new increment stays in use.
    pub fn abort_rewrite(&self, rotation: Rotation) {
        // If the manifest could not be replaced, it may still have been: then the base is in use.
        let named = |manifest: &Manifest| manifest.base.as_ref().is_some_and(|base| base.seq == rotation.seq);
        if matches!(Manifest::load(&*self.disk, &self.names), Ok(manifest) if !manifest.as_ref().is_some_and(named)) {
            // What stays is overwritten by the next attempt, or lies about.
            let _ = self.disk.remove(&self.base_path(rotation));
        }
        if self.gate.load(Ordering::Relaxed) & SYNC_FAILED != 0 {
            // Without the base, nothing after the failed sync can become durable.
            let mut writer = lock(&self.writer);
            let mut buffer = lock(&self.front.buffer);
            writer.pending.clear();
            writer.done = 0;
            buffer.dropping = true;
            buffer.switching = false;
            buffer.hole = buffer.lsn;
            buffer.discard();
        }
    }

    /// Writes up to a rotation, so that the increments before it are complete and durable.
    pub(in crate::aof) fn cross_to(&self, rotation: Rotation, now_ms: u64) -> Result<()> {
        let mut writer = lock(&self.writer);
        self.write_locked(&mut writer, now_ms);
        match writer.seq >= rotation.seq && self.gate.load(Ordering::Relaxed) & SYNC_FAILED == 0 {
            true => Ok(()),
            false => Err(Error::Missing("the log cannot be written at this time")),
        }
    }

    pub(in crate::aof) fn files(&self) -> MutexGuard<'_, Files> {
        lock(&self.files)
    }

    /// Whether files that a rewrite replaces are kept from now on.
    pub fn set_archive(&self, archive: bool) {
        self.files().archive = archive;
    }

    /// Removes the files that the manifest calls history, or moves them to the archive.
    pub(super) fn remove_history(&self, files: &mut Files) -> Result<()> {
        if files.manifest.history.is_empty() {
            return Ok(());
        }
        let archive = self.names.path(ARCHIVE);
        let mut bytes = 0;
        for line in &files.manifest.history {
            let path = self.names.path(&line.name);
            let remove = || {
                let len = match self.disk.open(&path, Open::Read) {
                    Ok(file) => file.len()?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                    Err(error) => return Err(error),
                };
                match files.archive {
                    true => {
                        self.disk.create_dir(&archive)?;
                        self.disk.rename(&path, &archive.join(&line.name))?;
                    }
                    false => self.disk.remove(&path)?,
                }
                Ok(if line.name.ends_with(".incr.aof") { len } else { 0 })
            };
            bytes += remove().map_err(|error| Error::io("remove", &path, error))?;
        }
        if files.archive {
            self.disk.sync_dir(&archive).map_err(|error| Error::io("sync", &archive, error))?;
        }
        self.disk.sync_dir(&self.names.dir).map_err(|error| Error::io("sync", &self.names.dir, error))?;
        let _ = self
            .increment_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(old.saturating_sub(bytes)));
        let mut manifest = files.manifest.clone();
        manifest.history.clear();
        manifest.store(&*self.disk, &self.names)?;
        files.manifest = manifest;
        Ok(())
    }
}
