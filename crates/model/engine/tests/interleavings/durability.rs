//! `appendfsync always` under every kind of schedule that the model checker thinks up: real workers, the real log, a disk in
//! memory, and a thread that writes as the server's does. A wake-up that is lost, of the thread that writes or of a session whose
//! reply is held back, shows as a deadlock; a reply that is let go too early is compared with how far the log is durable.

use kelda_engine_model as kelda_engine;

use crate::world::{Bell, Node, Part, World, explore, together};
use kelda_engine::durability::{ChangeSink, Lsn};
use kelda_engine::engine::Engine;
use kelda_log::aof::{Log, Options, SyncMode, lock_dir};
use kelda_log::disk::{Disk, File, Open};
use kelda_resp::Value;
use kelda_store::txn::Changes;
use shuttle::thread;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

/// A disk in memory. Others run while it syncs.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<BTreeMap<PathBuf, Arc<Content>>>>);

#[derive(Default)]
struct Content(Mutex<Vec<u8>>);

impl Disk for Memory {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut files = self.0.lock().expect("no panic");
        match files.get(path) {
            Some(file) if how != Open::Create => Ok(file.clone()),
            None if matches!(how, Open::Read | Open::Write) => Err(io::ErrorKind::NotFound.into()),
            _ => {
                let file = Arc::<Content>::default();
                files.insert(path.into(), file.clone());
                Ok(file)
            }
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
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.0.lock().expect("no panic");
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.into(), file);
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().expect("no panic").remove(path);
        Ok(())
    }
    fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(()))
    }
}

impl File for Content {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut content = self.0.lock().expect("no panic");
        let end = offset as usize + bytes.len();
        let len = content.len().max(end);
        content.resize(len, 0);
        content[offset as usize..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let content = self.0.lock().expect("no panic");
        let rest = content.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(bytes.len());
        bytes[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().expect("no panic").len() as u64)
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.lock().expect("no panic").resize(len as usize, 0);
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        thread::yield_now();
        Ok(())
    }
}

/// The log as the server has it (`kelda-server/persistence.rs`).
struct Sink {
    log: Arc<Log>,
    /// Wakes the thread that writes.
    writer: Bell,
    /// Which transaction wrote a value.
    written_by: Mutex<BTreeMap<String, Lsn>>,
}

impl ChangeSink for Sink {
    fn commit(&self, changes: &Changes) -> Lsn {
        let lsn = self.log.append(changes.body(), changes.first_db(), changes.last_db(), changes.len());
        let text = String::from_utf8_lossy(changes.body());
        let value = text.lines().last().unwrap_or_default().to_string();
        self.written_by.lock().expect("no panic").insert(value, lsn);
        lsn
    }
    fn durable_lsn(&self) -> Lsn {
        self.log.durable()
    }
    fn last_lsn(&self) -> Lsn {
        self.log.appended()
    }
    fn get_on(&self, durable: bool) {
        if self.log.claim_wake(durable) {
            self.writer.ring();
        }
    }
    fn gathered(&self) {
        if self.log.has_gathered(1) {
            self.writer.ring();
        }
    }
}

impl Sink {
    fn new() -> Arc<Sink> {
        let (disk, dir, name) = (Memory::default(), Path::new("/d"), "aof");
        let options = Options { buffer_max: 1 << 20, salt: 1, archive: false };
        let held = lock_dir(&disk, dir, name).expect("a lock");
        let log = Log::create(Arc::new(disk), dir, name, options, held, 1, None).expect("a log");
        Arc::new(Sink { log: Arc::new(log), writer: Bell::default(), written_by: Mutex::default() })
    }

    /// Writes and syncs until `last` is durable. Between two syncs it waits for one more transaction: that there will be one shows that
    /// the replies to those before were let go.
    fn write(&self, last: Lsn) {
        let log = &*self.log;
        while log.durable() < last {
            let before = log.written();
            let more = log.write(1) != before;
            if log.sync_due(SyncMode::Always, 1) {
                log.gather_until(Lsn::MAX);
                log.sync(1);
                let until = (log.written() + 1).min(last);
                log.gather_until(until);
                while log.appended() < until {
                    self.writer.wait();
                }
                log.gather_until(0);
            } else if !more && log.appended() == log.written() && log.may_sleep() {
                self.writer.wait();
                log.claim_wake(false);
            }
        }
    }

    /// Nobody is told of what is not durable.
    fn check(&self, told: &Value) {
        if let Value::Bulk(value) = told {
            let value = String::from_utf8_lossy(value);
            let lsn = self.written_by.lock().expect("no panic")[&*value];
            assert!(lsn <= self.log.durable(), "{value} may vanish");
        }
    }
}

/// Two sessions of one worker write in turn, without waiting for each other, and read what the other worker wrote.
fn client(sink: Arc<Sink>, me: usize) -> Part<()> {
    Box::new(move |mut node: Node| {
        let slots = [node.connect(), node.connect()];
        for round in 0..ROUNDS {
            for (at, slot) in slots.into_iter().enumerate() {
                node.send(slot, &format!("SET key:{me} v:{me}:{at}:{round}"));
                node.send(slot, &format!("GET key:{}", 1 - me));
            }
            for (at, slot) in slots.into_iter().enumerate() {
                assert_eq!(node.receive(slot), Value::Status("OK".into()));
                let own = Value::Bulk(format!("v:{me}:{at}:{round}").into_bytes());
                sink.check(&own);
                let other = node.receive(slot);
                sink.check(&other);
            }
        }
    })
}

const ROUNDS: usize = 2;

#[test]
fn replies_wait_for_the_disk_and_come() {
    explore(600, || {
        let sink = Sink::new();
        let world = World::logged("appendfsync always\n", 2, Some(sink.clone()));
        let engine: Arc<OnceLock<Arc<Engine>>> = Arc::default();
        let _ = engine.set(world.engine.clone());
        sink.log.set_hook(Box::new(move || engine.get().into_iter().for_each(|engine| engine.log_progressed())));
        let writer = {
            let sink = sink.clone();
            thread::spawn(move || sink.write(2 * 2 * ROUNDS as Lsn))
        };
        together(&world, (0..2).map(|me| client(sink.clone(), me)).collect());
        writer.join().expect("no panic");
        assert_eq!(sink.log.durable(), 2 * 2 * ROUNDS as Lsn);
    });
}
