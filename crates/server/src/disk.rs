//! The real disk, behind kelda-log's trait.
//!
//! Large writes go around the system's cache of files (`O_DIRECT`) where the file system knows how: nobody reads the log soon, and
//! to copy it into pages, and to find, write and free these, costs three times as much as the transfer itself. Only whole blocks can
//! go that way. What comes before and behind them goes through the cache: so each block is written in one way only. A disk that is
//! slow at the moment is left to the cache, too, which takes everything at once, and keeps it if the process is killed.

use kelda_log::disk::{Disk, File, Open};
use rustix::fs::OFlags;
use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// What a write around the cache must be aligned to, in the file and in memory: no device has larger blocks.
const BLOCK: usize = 4096;
/// Bytes from which on it pays.
pub const DIRECT_MIN: usize = 128 << 10;
/// Bytes of one such write.
const DIRECT_MAX: usize = 1 << 20;
/// A disk that takes longer than this for one is slow.
const SLOW: Duration = Duration::from_millis(10);
/// How many large writes then go through the cache before the next try: twice as many each time, if it goes on being slow. A single
/// slow one says little: this thread may have been put off its core.
const PAUSE: u32 = 4;
/// At most.
const PAUSE_MAX: u32 = 64;
/// The file system refuses such writes.
const NEVER: u32 = u32::MAX;

/// The file system of the machine.
pub struct RealDisk;

struct RealFile {
    file: fs::File,
    direct: OnceLock<Option<Direct>>,
}

/// The same file, opened a second time to write around the cache.
struct Direct {
    file: fs::File,
    /// Where bytes are copied to be aligned.
    staging: Mutex<Vec<u8>>,
    /// How many writes are to go through the cache.
    pause: AtomicU32,
    /// How many the next pause has.
    next_pause: AtomicU32,
}

impl Direct {
    fn open(file: &fs::File) -> Option<Direct> {
        // By its descriptor: it may have been renamed.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::DIRECT.bits() as i32;
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path).ok()?;
        Some(Direct { file, staging: Mutex::default(), pause: AtomicU32::new(0), next_pause: AtomicU32::new(PAUSE) })
    }

    /// Writes whole blocks at a place between two of them; nothing if they are to go through the cache.
    fn write_at(&self, offset: u64, blocks: &[u8]) -> Option<io::Result<usize>> {
        match self.pause.load(Relaxed) {
            0 => {}
            NEVER => return None,
            left => {
                self.pause.store(left - 1, Relaxed);
                return None;
            }
        }
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        if staging.is_empty() {
            staging.resize(DIRECT_MAX + BLOCK, 0);
        }
        let aligned = staging.as_ptr().align_offset(BLOCK);
        let place = staging.get_mut(aligned..aligned.checked_add(blocks.len())?)?;
        place.copy_from_slice(blocks);
        let begun = Instant::now();
        let result = retry(|| self.file.write_at(place, offset));
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::InvalidInput) {
            self.pause.store(NEVER, Relaxed);
            return None;
        }
        let next_pause = if begun.elapsed() > SLOW {
            let pause = self.next_pause.load(Relaxed);
            self.pause.store(pause, Relaxed);
            (pause * 2).min(PAUSE_MAX)
        } else {
            PAUSE
        };
        self.next_pause.store(next_pause, Relaxed);
        Some(result)
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match how {
            Open::Read => {}
            Open::Write => _ = options.write(true),
            Open::Create => _ = options.write(true).create(true).truncate(true),
            Open::New => _ = options.write(true).create_new(true),
        }
        Ok(Arc::new(RealFile { file: options.open(path)?, direct: OnceLock::new() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        // A name that is no text is none of ours.
        fs::read_dir(dir)?
            .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
            .collect()
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            result => result,
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // The parent of a relative path of one name is the empty path.
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        fs::File::open(dir)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl File for RealFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut bytes = bytes;
        if bytes.len() >= DIRECT_MIN {
            let before = (offset as usize).wrapping_neg() % BLOCK;
            let blocks = (bytes.len().min(DIRECT_MAX) - before) / BLOCK * BLOCK;
            if before > 0 {
                // The rest follows: this is what goes.
                bytes = bytes.get(..before).unwrap_or_default();
            } else if let Some(blocks) = bytes.get(..blocks)
                && let Some(direct) = self.direct.get_or_init(|| Direct::open(&self.file))
                && let Some(result) = direct.write_at(offset, blocks)
            {
                return result;
            }
        }
        retry(|| self.file.write_at(bytes, offset))
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        retry(|| self.file.read_at(bytes, offset))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        // The length belongs to what it syncs; times do not.
        self.file.sync_data()
    }
}

/// A signal may interrupt a call before it has done anything. Not so a sync: whether it did is unknown.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kelda_log::disk::write_all_at;

    /// Pieces of all sizes, one behind the other, with parts written again: whichever way they went, the file has them.
    #[test]
    fn what_goes_around_the_cache_is_there() {
        let path = std::env::temp_dir().join(format!("kelda-disk-{}", std::process::id()));
        let file = RealDisk.open(&path, Open::Create).unwrap();
        let mut expected: Vec<u8> = Vec::new();
        let bytes = |len: usize, seed: usize| {
            (0..len).map(|at| (at.wrapping_mul(31) >> 3) as u8 ^ seed as u8).collect::<Vec<_>>()
        };
        for (seed, len) in
            [100, DIRECT_MIN, DIRECT_MIN - 1, 5, 3 * DIRECT_MAX + 17, BLOCK, 700_001, 1].into_iter().enumerate()
        {
            let piece = bytes(len, seed);
            // Some begin within bytes that were written already.
            let offset = expected.len().saturating_sub(seed % 3);
            write_all_at(&*file, offset as u64, &piece).unwrap();
            expected.resize(expected.len().max(offset + len), 0);
            expected[offset..offset + len].copy_from_slice(&piece);
            assert_eq!(file.len().unwrap(), expected.len() as u64);
        }
        file.sync().unwrap();
        let found = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(found == expected);
    }
}
