//! A disk in memory, for tests of what is saved.

use kelda_log::disk::{Disk, File, Open};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// A file.
#[derive(Clone, Default)]
pub struct Bytes(pub Arc<Mutex<Vec<u8>>>);

impl File for Bytes {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.0.lock().expect("no panic");
        let end = offset as usize + bytes.len();
        let len = file.len().max(end);
        file.resize(len, 0);
        file[offset as usize..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let file = self.0.lock().expect("no panic");
        let rest = file.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(bytes.len());
        bytes[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().expect("no panic").len() as u64)
    }
    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Files by path. While it is `full` none can be made.
#[derive(Default)]
pub struct Memory {
    pub files: Mutex<BTreeMap<String, Bytes>>,
    pub full: AtomicBool,
}

fn name(path: &Path) -> String {
    path.file_name().expect("a file").to_string_lossy().into_owned()
}

impl Disk for Memory {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        if how == Open::Read {
            return match self.files.lock().expect("no panic").get(&name(path)) {
                Some(file) => Ok(Arc::new(file.clone())),
                None => Err(ErrorKind::NotFound.into()),
            };
        }
        assert_eq!(how, Open::Create);
        if self.full.load(SeqCst) {
            return Err(ErrorKind::StorageFull.into());
        }
        let file = Bytes::default();
        self.files.lock().expect("no panic").insert(name(path), file.clone());
        Ok(Arc::new(file))
    }
    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Err(ErrorKind::Unsupported.into())
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.lock().expect("no panic");
        let file = files.remove(&name(from)).ok_or(ErrorKind::NotFound)?;
        files.insert(name(to), file);
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.lock().expect("no panic").remove(&name(path)).map(drop).ok_or(ErrorKind::NotFound.into())
    }
    fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn Send + Sync>> {
        Err(ErrorKind::Unsupported.into())
    }
}
