//! The file that a snapshot is written to.

use crate::config::Settings;
use crate::engine::Engine;
use crate::rdb::{self, Fact};
use kelda_log::disk::{Disk, File, Open, write_all_at};
use kelda_log::rdb::RdbWriter;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes gathered before a write.
const WRITE_BYTES: usize = 256 * 1024;
/// Bytes after which what was written is forced to the disk, so that the end does not wait for all of it.
const SYNC_BYTES: u64 = 32 << 20;

/// Where a snapshot is written to.
pub(super) trait Target {
    /// Gathers what is written.
    fn writer(&mut self) -> &mut RdbWriter;
    /// Appends what a snapshot wrote.
    fn append(&mut self, bytes: &mut Vec<u8>) -> io::Result<()>;
    /// All is written: how many bytes. On error it is as if nothing had been.
    fn finish(self: Box<Self>) -> io::Result<u64>;
    /// Gives it up.
    fn remove(&self);
}

/// Writes all that comes before the keys. `history`: its place in what replicas are fed. `sizes` has the number of keys, and of those with an expiry time, by database.
pub(super) fn put_head(
    writer: &mut RdbWriter,
    engine: &Engine,
    base: bool,
    history: &[Fact],
    libraries: &[Arc<[u8]>],
    sizes: &[(usize, usize)],
) {
    let facts = rdb::facts(engine, base);
    writer.header(facts.iter().chain(history).map(|(name, fact)| (*name, &**fact)));
    libraries.iter().for_each(|code| writer.function(code));
    for (db, &(keys, volatile)) in sizes.iter().enumerate() {
        if keys != 0 {
            writer.select(db as u32, keys as u64, volatile as u64);
        }
    }
}

/// An RDB file in the making, under a temporary name.
pub(super) struct SnapshotFile<'d> {
    disk: &'d dyn Disk,
    file: Arc<dyn File>,
    temporary: PathBuf,
    target: PathBuf,
    writer: RdbWriter,
    offset: u64,
    synced: u64,
}

impl<'d> SnapshotFile<'d> {
    /// Creates the file that will become `target`.
    pub fn create(disk: &'d dyn Disk, target: PathBuf, settings: &Settings) -> io::Result<SnapshotFile<'d>> {
        let temporary = target.with_file_name(format!("temp-{}.rdb", std::process::id()));
        let file = disk.open(&temporary, Open::Create)?;
        let writer = RdbWriter::new(rdb::format(settings), settings.rdbchecksum);
        Ok(SnapshotFile { disk, file, temporary, target, writer, offset: 0, synced: 0 })
    }

    fn drain(&mut self) -> io::Result<()> {
        let (file, offset) = (&*self.file, self.offset);
        let mut written = 0;
        self.writer.drain(|bytes| {
            written = bytes.len() as u64;
            write_all_at(file, offset, bytes)
        })?;
        self.offset += written;
        Ok(())
    }
}

impl Target for SnapshotFile<'_> {
    fn writer(&mut self) -> &mut RdbWriter {
        &mut self.writer
    }

    fn append(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        self.writer.append(bytes);
        bytes.clear();
        if self.writer.pending() < WRITE_BYTES {
            return Ok(());
        }
        self.drain()?;
        if self.offset - self.synced >= SYNC_BYTES {
            self.synced = self.offset;
            self.file.sync()?;
        }
        Ok(())
    }

    /// Puts the file in its place once it is on disk. On error what was there before is there still.
    fn finish(mut self: Box<Self>) -> io::Result<u64> {
        self.writer.end();
        let put = |this: &mut Self| {
            // `end` has included its own bytes in the sum.
            this.drain()?;
            this.file.sync()?;
            this.disk.rename(&this.temporary, &this.target)?;
            this.disk.sync_dir(this.target.parent().unwrap_or(Path::new(".")))?;
            Ok(this.offset)
        };
        put(&mut self).inspect_err(|_| self.remove())
    }

    fn remove(&self) {
        // Nothing depends on it: the next one takes its name.
        let _ = self.disk.remove(&self.temporary);
    }
}
