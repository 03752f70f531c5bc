//! Snapshots for replicas: sent as they are made, with a mark at the end, or, to those that cannot read that, made as a file
//! first and sent with its length in front. How the replicas are told apart and fed is `replication`'s.
//!
//! This thread waits while a replica is slow, but no writer does: when so much was changed that writers would be held up until the
//! snapshot gets on, it gets on, and what the replica has not taken yet waits in memory. A replica is cut off by `repl-timeout`
//! if it stands still, and by its output limit if too much waits for it.

use super::file::{SnapshotFile, Target};
use super::{Begun, Saves, begin, cancelled, piece, tracked};
use crate::engine::Engine;
use crate::rdb;
use crate::replication::{Group, Transfer};
use kelda_log::disk::{Disk, Open, read_full_at};
use kelda_log::rdb::RdbWriter;
use kelda_store::snapshot::Snapshot;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes sent in one go.
const SEND_BYTES: usize = 64 << 10;

/// The replicas of a transfer as the target of a snapshot.
struct Stream<'a> {
    saves: &'a Saves,
    engine: &'a Engine,
    transfer: &'a Transfer,
    writer: RdbWriter,
}

impl Stream<'_> {
    fn drain(&mut self) -> io::Result<()> {
        let Stream { saves, engine, transfer, writer } = self;
        writer.drain(|bytes| saves.send(engine, transfer, bytes))
    }
}

impl Target for Stream<'_> {
    fn writer(&mut self) -> &mut RdbWriter {
        &mut self.writer
    }

    fn append(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        self.writer.append(bytes);
        bytes.clear();
        if self.writer.pending() >= SEND_BYTES { self.drain() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> io::Result<u64> {
        self.writer.end();
        self.drain()?;
        self.saves.send(self.engine, self.transfer, self.transfer.mark.as_bytes())?;
        Ok(self.writer.len())
    }

    fn remove(&self) {}
}

impl Saves {
    /// Replicas wait for a snapshot.
    pub(crate) fn sync(&self) {
        self.lock().replicas_scheduled = true;
        self.changed.notify_all();
    }

    /// Sends bytes to the replicas of a transfer as soon as there is room; or at once when writers would have to wait for that.
    fn send(&self, engine: &Engine, transfer: &Transfer, bytes: &[u8]) -> io::Result<()> {
        while !engine.replication.await_room(transfer) && !self.backlog.is_full() {
            if !self.pause(0) {
                return Err(cancelled());
            }
        }
        if engine.replication.send(engine, transfer, bytes) { Ok(()) } else { Err(cancelled()) }
    }

    /// Sends the replicas that wait, those of one kind, a snapshot.
    pub(super) fn send_to_replicas(&self, engine: &Engine, disk: &dyn Disk) -> io::Result<()> {
        let mut settings = (*engine.config.settings()).clone();
        let Some(group) = engine.replication.next_group(&settings) else { return Ok(()) };
        let asked = settings.clone();
        settings.rdb_version = group.rdb_version;
        let settings = Arc::new(settings);
        let preparation = group.parts.keys.then(|| self.prepare(engine, &settings));
        let pauses = preparation.as_ref().map(|preparation| self.note_pauses(preparation));
        let mut guard = self.lock_all(engine)?;
        let timer = pauses.as_ref().map(|pauses| pauses.hold());
        let Some(transfer) = engine.replication.begin(&asked, group) else { return Ok(()) };
        let snapshot = preparation.map(|preparation| Snapshot::begin(preparation, &mut guard, piece(&settings)));
        let mut begun = begin(engine, snapshot, settings, None);
        begun.history = transfer.stream_db.map(|db| (rdb::STREAM_DB, db.to_string())).into_iter().collect();
        drop(guard);
        drop(timer);
        if !group.parts.functions {
            begun.libraries.clear();
        }
        if let Some(job) = &mut self.lock().job {
            job.progress = begun.snapshot.as_ref().map(tracked);
        }
        let result = self.transfer(engine, disk, begun, group, &transfer);
        engine.replication.finish(engine, &transfer, result.is_ok());
        result
    }

    fn transfer(
        &self,
        engine: &Engine,
        disk: &dyn Disk,
        begun: Begun,
        group: Group,
        transfer: &Transfer,
    ) -> io::Result<()> {
        if group.marked {
            let writer = RdbWriter::new(rdb::format(&begun.settings), begun.settings.rdbchecksum);
            let head = format!("$EOF:{}\r\n", transfer.mark);
            let stream = Stream { saves: self, engine, transfer, writer };
            let begins = self.send(engine, transfer, head.as_bytes());
            let target = begins.map(|()| Box::new(stream) as Box<dyn Target>);
            return self.write(engine, begun, target).map(drop);
        }
        let path = PathBuf::from(&begun.settings.dir).join(format!("temp-replicas-{}.rdb", std::process::id()));
        let file = SnapshotFile::create(disk, path.clone(), &begun.settings);
        let len = self.write(engine, begun, file.map(|file| Box::new(file) as Box<dyn Target>))?;
        let file = disk.open(&path, Open::Read);
        // It is read through the open file; the name is not needed.
        let _ = disk.remove(&path);
        let file = file?;
        self.send(engine, transfer, format!("${len}\r\n").as_bytes())?;
        let mut piece = vec![0; SEND_BYTES];
        let mut sent = 0;
        while sent < len {
            let want = piece.len().min((len - sent) as usize);
            let read = read_full_at(&*file, sent, &mut piece[..want])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.send(engine, transfer, &piece[..read])?;
            sent += read as u64;
        }
        Ok(())
    }
}
