//! The disk as the durable side sees it: a narrow trait, so that a simulated disk can lose, tear and spoil what was not
//! synced, and fail any call.
//!
//! What an implementation promises, and no more:
//! - bytes written are durable once [`File::sync`] returned without an error; before, any part of them may be lost;
//! - a directory's entries (creations, renames, removals, links) are durable once [`Disk::sync_dir`] returned;
//! - a rename replaces its target in one step: after a power cut there is the old file or the new one;
//! - after a failed sync nothing is known about the bytes written since the last good one.
//!
//! Errors are those of `std::io`: they keep the system's error number, which decides what may be tried again.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, to be read.
    Read,
    /// An existing file, to be read and written.
    Write,
    /// An empty file: what was there is truncated.
    Create,
    /// A new file; [`io::ErrorKind::AlreadyExists`] if there is one.
    New,
}

/// A file system, or what a test makes of one.
pub trait Disk: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>>;
    /// The names in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a directory; no error if it is there already. Its parent must exist.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file; replaces `to` if it exists.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Gives a file a second name.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes the lock that a file stands for, creating the file, until the result is dropped or the process ends.
    /// [`io::ErrorKind::WouldBlock`] if somebody has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
}

/// An open file. All methods may be called by several threads at once.
pub trait File: Send + Sync {
    /// Writes at a place, as many bytes as go: the file grows as needed. Zero only for no bytes.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize>;
    /// Reads from a place; zero at the end of the file only.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts the file off.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Makes the file's bytes, and its length, durable.
    fn sync(&self) -> io::Result<()>;
}

/// Writes all of `bytes` at a place. On error some of them may be there.
pub fn write_all_at(file: &dyn File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = file.write_at(offset, bytes)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        offset += written as u64;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// Reads until `bytes` are full or the file ends; how many bytes there were.
pub fn read_full_at(file: &dyn File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..)
        && !rest.is_empty()
    {
        match file.read_at(offset + done as u64, rest)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// A whole file. For small ones.
pub fn read_file(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Read)?;
    let mut bytes = vec![0; file.len()? as usize];
    let read = read_full_at(&*file, 0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Replaces a file in one step, durably: a temporary file beside it, sync, rename, sync of the directory. On error
/// either the old or the new content is there.
pub fn replace_file(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("temp-{name}"));
    let file = disk.open(&temporary, Open::Create)?;
    write_all_at(&*file, 0, bytes)?;
    file.sync()?;
    drop(file);
    disk.rename(&temporary, &dir.join(name))?;
    disk.sync_dir(dir)
}

/// Copies a part of a file to the start of another. Does not sync.
pub fn copy_range(from: &dyn File, range: Range<u64>, to: &dyn File) -> io::Result<()> {
    let mut block = vec![0; 1 << 20];
    let mut offset = range.start;
    while offset < range.end {
        let want = usize::try_from(range.end - offset).unwrap_or(usize::MAX).min(block.len());
        let part = block.get_mut(..want).unwrap_or_default();
        match from.read_at(offset, part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                write_all_at(to, offset - range.start, part.get(..n).unwrap_or_default())?;
                offset += n as u64;
            }
        }
    }
    Ok(())
}

/// An open file as `std`'s [`io::Read`] and [`io::Write`], from a place on. Neither buffers.
pub struct Cursor {
    file: Arc<dyn File>,
    /// Where the next byte is read or written.
    pub offset: u64,
}

impl Cursor {
    /// Reads or writes `file` from `offset` on.
    pub fn new(file: Arc<dyn File>, offset: u64) -> Cursor {
        Cursor { file, offset }
    }

    /// The file.
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }
}

impl io::Read for Cursor {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(self.offset, bytes)?;
        self.offset += n as u64;
        Ok(n)
    }
}

impl io::Write for Cursor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write_at(self.offset, bytes)?;
        self.offset += n as u64;
        Ok(n)
    }

    /// Does not sync: see [`File::sync`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
