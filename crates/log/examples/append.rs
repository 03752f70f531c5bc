//! What it costs to append a SET of a 16-byte key and a 64-byte value: `cargo run --release -p kelda-log --example append`.
//!
//! The log is on a disk that takes everything and does nothing, written by a thread that does nothing else.

use kelda_log::aof::{Log, Options, lock_dir};
use kelda_log::disk::{Disk, File, Open};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

struct Nothing;

impl Disk for Nothing {
    fn open(&self, _: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        match how {
            Open::Read => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(Arc::new(Nothing)),
        }
    }
    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(()))
    }
}

impl File for Nothing {
    fn write_at(&self, _: u64, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn truncate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

fn main() {
    const EACH: u64 = 5_000_000;
    let body = [b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$64\r\n".as_slice(), &[b'v'; 64], b"\r\n"].concat();
    for (threads, changes) in [(1, 1), (2, 1), (1, 2)] {
        let dir = Path::new("/log");
        let held = lock_dir(&Nothing, dir, "a").expect("the disk takes everything");
        let options = Options { buffer_max: 1 << 30, salt: 1, archive: false };
        let log = Log::create(Arc::new(Nothing), dir, "a", options, held, 0, None).expect("the disk takes everything");
        let stop = AtomicBool::new(false);
        let mut seconds = 0.0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    log.write(0);
                    std::thread::sleep(std::time::Duration::from_micros(500));
                }
            });
            let start = Instant::now();
            let workers: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..EACH {
                            log.append(std::hint::black_box(&body), 0, 0, changes);
                        }
                    })
                })
                .collect();
            workers.into_iter().for_each(|worker| worker.join().expect("nothing panics"));
            seconds = start.elapsed().as_secs_f64();
            stop.store(true, Ordering::Relaxed);
        });
        let each = seconds * 1e9 / (EACH * threads) as f64;
        println!("{threads} threads, {changes} changes: {each:.1} ns of wall time for each append of all threads");
    }
}
