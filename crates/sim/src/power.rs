//! The log through power cuts: random transactions on a bad disk, and after each end of a "process" the proof that what
//! is recovered is exactly a prefix of what was committed, and no shorter than what was acknowledged.
//!
//! Everything follows from a seed: the transactions, the order in which the log's threads would have run, the calls that
//! fail, the moment of the cut, and what survives it.

use crate::disk::{Faults, SimDisk};
use crate::rng::Rng;
use kelda_log::aof::frame::{self, Kind};
use kelda_log::aof::{Entry, Error, Log, Lsn, Options, Reader, Recovered, Rotation, State, SyncMode, lock_dir};
use kelda_log::disk::{Disk, Open, read_file, write_all_at};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const DIR: &str = "/data/appendonlydir";
const BACKUP: &str = "/data/backup";
const NAME: &str = "appendonly.aof";

/// What a run went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Power cuts.
    pub cuts: u64,
    /// Ends of the process without a power cut.
    pub kills: u64,
    /// Transactions appended.
    pub transactions: u64,
    /// Transactions that were lost: never acknowledged.
    pub lost: u64,
    /// Torn tails that recovery cut off.
    pub torn: u64,
    /// Rewrites that became the base.
    pub rewrites: u64,
    /// Backups that were sealed, and read back.
    pub backups: u64,
    /// Calls of the disk that failed on purpose, and were noticed as the log's state.
    pub failures: u64,
    /// Starts that failed because a call of the disk did.
    pub failed_starts: u64,
}

impl Tally {
    /// Adds another run.
    pub fn add(&mut self, other: &Tally) {
        self.cuts += other.cuts;
        self.kills += other.kills;
        self.transactions += other.transactions;
        self.lost += other.lost;
        self.torn += other.torn;
        self.rewrites += other.rewrites;
        self.backups += other.backups;
        self.failures += other.failures;
        self.failed_starts += other.failed_starts;
    }
}

/// All that was ever committed and not yet known to be lost.
struct History {
    rng: Rng,
    /// `digests[n]` stands for the first n transactions, in order, with all their commands.
    digests: Vec<u64>,
    tally: Tally,
}

/// As FNV-1a, but eight bytes at once: any mixture of the bytes will do.
fn mix(digest: u64, bytes: &[u8]) -> u64 {
    let fold = |digest: u64, word: u64| (digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let (words, rest) = bytes.as_chunks::<8>();
    let digest =
        words.iter().fold(fold(digest, bytes.len() as u64 + 1), |digest, word| fold(digest, u64::from_le_bytes(*word)));
    rest.iter().fold(digest, |digest, byte| fold(digest, u64::from(*byte)))
}

fn mix_command(digest: u64, db: u32, argv: &[&[u8]]) -> u64 {
    let digest = mix(digest, &db.to_le_bytes());
    argv.iter().fold(mix(digest, b"*"), |digest, word| mix(digest, word))
}

fn push_command(body: &mut Vec<u8>, argv: &[&[u8]]) {
    body.extend_from_slice(format!("*{}\r\n", argv.len()).as_bytes());
    for word in argv {
        body.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        body.extend_from_slice(word);
        body.extend_from_slice(b"\r\n");
    }
}

impl History {
    /// Commits a random transaction.
    fn append(&mut self, log: &Log) {
        let rng = &mut self.rng;
        let changes = if rng.one_in(3) { 2 + rng.below(4) as usize } else { 1 };
        let first_db = if rng.one_in(4) { rng.below(12) as u32 } else { 0 };
        let mut db = first_db;
        let mut body = Vec::new();
        let mut digest = self.digests.last().copied().unwrap_or(0);
        for change in 0..changes {
            if change > 0 && rng.one_in(4) {
                db = rng.below(12) as u32;
                push_command(&mut body, &[b"SELECT", db.to_string().as_bytes()]);
            }
            let key = format!("key:{}", rng.below(100));
            let unique = rng.next_u64().to_string().into_bytes();
            let value = match rng.below(60) {
                0 => [unique, vec![b'v'; 40_000]].concat(),
                1..=4 => [unique, vec![0; rng.below(3000) as usize]].concat(),
                // What looks like a proof that a torn place had been synced must not be believed.
                5..=6 => {
                    frame::encode(Kind::Mark, 1, 0, b"#D:ffffffffffffffff ms ffffffffffff\r\n").unwrap_or_default()
                }
                _ => unique,
            };
            let argv: &[&[u8]] =
                if rng.one_in(4) { &[b"DEL", key.as_bytes()] } else { &[b"SET", key.as_bytes(), &value] };
            push_command(&mut body, argv);
            digest = mix_command(digest, db, argv);
        }
        // The number is what the log gives it: other threads append too.
        let lsn = log.append(&body, first_db, db, changes);
        assert_eq!(lsn as usize, self.digests.len(), "LSNs count transactions");
        self.digests.push(digest);
        self.tally.transactions += 1;
    }
}

/// The last transaction of a log, the digest of all, and what the reader tells.
type Found = (Lsn, u64, Recovered);

struct Chain {
    rng: Rng,
    disk: SimDisk,
    history: Arc<Mutex<History>>,
    /// What may not be lost by a power cut.
    acknowledged: Lsn,
    /// What the next recovery must bring back at least.
    floor: Lsn,
    now_ms: u64,
    /// What a sealed backup holds: the last transaction, and the digest of all.
    sealed: Option<(Lsn, u64)>,
}

/// Runs one disk through `lives` processes, each of which ends in a power cut or a kill. On failure says what was broken.
pub fn run(seed: u64, lives: u64) -> Result<Tally, String> {
    let mut rng = Rng::new(seed);
    let disk = SimDisk::new(rng.next_u64(), &["/data", DIR, "/data/appendonlydir/archive", BACKUP]);
    let history = History { rng: Rng::new(rng.next_u64()), digests: vec![0], tally: Tally::default() };
    let history = Arc::new(Mutex::new(history));
    let mut chain = Chain { rng, disk, history, acknowledged: 0, floor: 0, now_ms: 1_700_000_000_000, sealed: None };
    for life in 0..lives {
        chain.life().map_err(|what| format!("seed {seed}, life {life}: {what}"))?;
    }
    // Whatever happened, a good disk makes it readable.
    chain
        .open()
        .map_err(|what| format!("seed {seed}, at the end: {what}"))?
        .ok_or(format!("seed {seed}: does not open"))?;
    let tally = chain.history().tally;
    Ok(tally)
}

impl Chain {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn life(&mut self) -> Result<(), String> {
        let rng = &mut self.rng;
        if rng.one_in(2) {
            let rare = [0, 0, 20, 60];
            let faults = Faults { full: *rng.pick(&rare), io: *rng.pick(&rare), sync: *rng.pick(&rare) };
            self.disk.set_faults(faults);
        }
        if !rng.one_in(8) {
            let calls = *rng.pick(&[20, 60, 150, 300]);
            self.disk.cut_after(1 + rng.below(calls));
        }
        // Before the log: what it has lost is no longer known then.
        self.check_backup()?;
        let log = self.open()?;
        if let Some(log) = &log {
            self.work(log)?;
            self.acknowledged = self.acknowledged.max(log.durable());
            self.floor = self.floor.max(log.written());
        }
        drop(log);
        if self.disk.is_off() || self.rng.one_in(2) {
            self.disk.power_cycle();
            self.history().tally.cuts += 1;
            self.floor = self.acknowledged;
        } else {
            self.disk.kill();
            self.history().tally.kills += 1;
        }
        Ok(())
    }

    /// Starts: recovers, compares, and opens the log. Nothing if the disk failed on the way, as a server would end then.
    fn open(&mut self) -> Result<Option<Arc<Log>>, String> {
        match self.try_open() {
            Ok(Ok(log)) => Ok(Some(Arc::new(log))),
            Ok(Err(what)) => Err(what),
            Err(Error::Io { source, .. }) if source.kind() != io::ErrorKind::NotFound => {
                self.history().tally.failed_starts += 1;
                Ok(None)
            }
            Err(error) => Err(format!("does not start: {error}")),
        }
    }

    fn try_open(&mut self) -> Result<Result<Log, String>, Error> {
        let (dir, disk) = (Path::new(DIR), Arc::new(self.disk.clone()));
        let options = Options { buffer_max: 1 << 20, salt: self.rng.next_u64(), archive: self.rng.one_in(4) };
        let held = lock_dir(&self.disk, dir, NAME)?;
        let (lsn, _, recovered) = match self.read(DIR)? {
            Ok(Some(found)) => found,
            Ok(None) if self.floor > 0 => return Ok(Err("the log is gone".into())),
            Ok(None) => {
                let log = Log::create(disk, dir, NAME, options, held, self.now_ms, None)?;
                self.history().digests.truncate(1);
                return Ok(Ok(log));
            }
            Err(what) => return Ok(Err(what)),
        };
        if lsn < self.floor {
            let (floor, acknowledged) = (self.floor, self.acknowledged);
            return Ok(Err(format!("LSN {lsn} is the last; {acknowledged} was acknowledged, {floor} must be there")));
        }
        let torn = recovered.cut.as_ref().is_some_and(|cut| !cut.room);
        let log = Log::open(disk, dir, NAME, options, held, self.now_ms, recovered)?;
        // What was read counts as acknowledged: clients see it. The rest is gone for good.
        self.acknowledged = lsn;
        self.floor = lsn;
        let mut history = self.history();
        let lost = history.digests.len() as u64 - 1 - lsn;
        history.digests.truncate(lsn as usize + 1);
        history.tally.lost += lost;
        history.tally.torn += u64::from(torn);
        drop(history);
        Ok(Ok(log))
    }

    /// Reads a log; its last transaction, and the digest of all, which must be that of what was committed.
    fn read(&self, dir: &str) -> Result<Result<Option<Found>, String>, Error> {
        let disk = Arc::new(self.disk.clone());
        let Some(mut reader) = Reader::open(disk, Path::new(dir), NAME, true)? else { return Ok(Ok(None)) };
        let (mut lsn, mut digest) = (0, 0);
        if let Some(base) = reader.base() {
            let fail = |source| Error::Io { what: "read", path: base.path.clone(), source };
            let bytes = read_file(&self.disk, &base.path).map_err(fail)?;
            let (numbers, _) = bytes.get(5..).unwrap_or_default().as_chunks::<8>();
            let mut numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
            (lsn, digest) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
            if self.history().digests.get(lsn as usize) != Some(&digest) {
                return Ok(Err(format!("the base is not the state at LSN {lsn}")));
            }
        }
        while let Some(entry) = reader.next()? {
            let Entry::Record(record) = entry else { continue };
            lsn += 1;
            if record.lsn != lsn {
                return Ok(Err(format!("LSN {} where {lsn} should be", record.lsn)));
            }
            let mut commands = record.commands();
            let mut argv = Vec::new();
            while let Ok(Some(db)) = commands.next_into(&mut argv) {
                digest = mix_command(digest, db, &argv);
            }
            if self.history().digests.get(lsn as usize) != Some(&digest) {
                return Ok(Err(format!("LSN {lsn} is not what was committed")));
            }
        }
        let recovered = reader.finish()?;
        match recovered.last_lsn == lsn {
            true => Ok(Ok(Some((lsn, digest, recovered)))),
            false => Ok(Err(format!("the log ends at LSN {}, its records at {lsn}", recovered.last_lsn))),
        }
    }

    /// A sealed backup must be there as it was sealed, whatever happened to the log. What is left of another is removed.
    fn check_backup(&mut self) -> Result<(), String> {
        if let Some((lsn, digest)) = self.sealed {
            match self.read(BACKUP) {
                Ok(Ok(Some((last, found, recovered)))) if (last, found) == (lsn, digest) && recovered.cut.is_none() => {
                    self.history().tally.backups += 1;
                }
                Ok(Ok(found)) => return Err(format!("the backup was sealed at LSN {lsn}: {found:?}")),
                Ok(Err(what)) => return Err(format!("the backup, sealed at LSN {lsn}: {what}")),
                Err(Error::Io { source, .. }) if source.kind() != io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(format!("the backup, sealed at LSN {lsn}, cannot be read: {error}")),
            }
            self.sealed = None;
        }
        // Whatever fails here, the next backup does not begin in a directory that is not empty.
        for name in self.disk.list(Path::new(BACKUP)).unwrap_or_default() {
            let _ = self.disk.remove(&Path::new(BACKUP).join(name));
        }
        let _ = self.disk.sync_dir(Path::new(BACKUP));
        Ok(())
    }

    fn work(&mut self, log: &Arc<Log>) -> Result<(), String> {
        // In some lives transactions arrive while a sync runs; without rotations and room, whose syncs hold the writer.
        let during_sync = self.rng.one_in(3);
        log.set_makes_room(!during_sync && self.rng.one_in(2));
        if during_sync {
            let (history, log) = (Arc::clone(&self.history), Arc::downgrade(log));
            let now_ms = self.now_ms;
            self.disk.set_sync_hook(Some(Arc::new(move || {
                if let Some(log) = log.upgrade() {
                    history.lock().unwrap_or_else(PoisonError::into_inner).append(&log);
                    log.write(now_ms);
                }
            })));
        }
        let mut rewrite: Option<(Rotation, u64)> = None;
        let mut failed = false;
        for _ in 0..self.rng.below(60) {
            self.now_ms += self.rng.below(300);
            let now_ms = self.now_ms;
            match self.rng.below(13) {
                12 if !during_sync => {
                    if log.begin_backup(Path::new(BACKUP)).is_err()
                        && let Ok(next) = log.prepare_rotation(now_ms)
                    {
                        let rotation = log.rotate(next, now_ms);
                        let digest = self.history().digests[rotation.lsn as usize];
                        if log.seal_backup(rotation, now_ms).is_ok() {
                            self.sealed = Some((rotation.lsn, digest));
                        }
                    }
                }
                0..=4 => {
                    for _ in 0..=self.rng.below(6) {
                        // Some run already when the log fails.
                        if log.accepts_writes() || self.rng.one_in(20) {
                            self.history().append(log);
                        }
                    }
                }
                5..=6 => _ = log.write(now_ms),
                7 => _ = log.sync(now_ms),
                8 => {
                    log.write(now_ms);
                    if log.sync_due(SyncMode::Always, now_ms) {
                        log.sync(now_ms);
                    }
                }
                9 if self.rng.one_in(4) => {
                    let all = log.close(now_ms);
                    // In the hook's lives a transaction may have come since.
                    if all && !during_sync && log.durable() != log.appended() {
                        return Err("closed, but not all is durable".into());
                    }
                }
                10..=11 if !during_sync => match rewrite.take() {
                    None => {
                        if let Ok(next) = log.prepare_rotation(now_ms)
                            && !self.rng.one_in(8)
                        {
                            let rotation = log.rotate(next, now_ms);
                            let digest = self.history().digests[rotation.lsn as usize];
                            rewrite = Some((rotation, digest));
                        }
                    }
                    Some((rotation, digest)) => self.end_rewrite(log, rotation, digest),
                },
                _ => {}
            }
            failed |= log.state() != State::Healthy;
            if log.durable() > log.appended() {
                return Err("durable before it was appended".into());
            }
            self.acknowledged = self.acknowledged.max(log.durable());
            if self.disk.is_off() {
                break;
            }
        }
        self.history().tally.failures += u64::from(failed);
        Ok(())
    }

    fn end_rewrite(&mut self, log: &Log, rotation: Rotation, digest: u64) {
        let content = [b"REDIS".as_slice(), &rotation.lsn.to_le_bytes(), &digest.to_le_bytes(), &[7; 1000]].concat();
        let written =
            self.disk.open(&log.base_path(rotation), Open::Create).and_then(|file| write_all_at(&*file, 0, &content));
        if written.is_ok() && !self.rng.one_in(8) && log.finish_rewrite(rotation, self.now_ms).is_ok() {
            self.history().tally.rewrites += 1;
        } else {
            log.abort_rewrite(rotation);
        }
    }
}
