//! A disk in memory that is as bad as the contract of [`kelda_log::disk`] allows.
//!
//! - What was not synced may be lost, torn at any byte, kept out of order, or replaced by zeros or garbage.
//! - Changes of a directory that were not synced may be lost, each on its own, even if a later one is kept.
//! - A failed sync leaves any part of its bytes on the disk. All can be read as if nothing had happened, until a power cut;
//!   a later sync does not write the rest.
//! - Any call can fail, and the power can go at any call.
//!
//! All choices come from a seed.

use crate::rng::Rng;
use kelda_log::disk::{Disk, File, Open};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// Error numbers of Linux.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Bytes that reach the disk together, or not at all; though a sector itself may be torn.
const SECTOR: u64 = 512;

#[derive(Clone, Debug)]
enum Write {
    Bytes { offset: u64, bytes: Vec<u8> },
    Truncate(u64),
}

impl Write {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Write::Truncate(len) => content.resize(*len as usize, 0),
            Write::Bytes { offset, bytes } => {
                let (start, end) = (*offset as usize, *offset as usize + bytes.len());
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[start..end].copy_from_slice(bytes);
            }
        }
    }
}

/// A file's bytes: as programs see them, as they surely are on the disk, and what lies between.
#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    synced: Vec<u8>,
    /// Writes since the last sync, in order.
    unsynced: Vec<Write>,
}

#[derive(Clone, Debug)]
enum DirChange {
    Set(PathBuf, usize),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

impl DirChange {
    fn touches(&self, dir: &Path) -> bool {
        match self {
            DirChange::Set(path, _) | DirChange::Remove(path) => path.parent() == Some(dir),
            DirChange::Rename(from, to, _) => from.parent() == Some(dir) || to.parent() == Some(dir),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            DirChange::Set(path, inode) => _ = names.insert(path.clone(), *inode),
            DirChange::Remove(path) => _ = names.remove(path),
            DirChange::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

/// How often calls fail.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Once in so many writes, the disk is full, perhaps after a part of the bytes; 0 for never.
    pub full: u64,
    /// Once in so many calls of any kind but syncs of files, the device fails; 0 for never.
    pub io: u64,
    /// Once in so many syncs of files, the sync fails; 0 for never.
    pub sync: u64,
}

type Hook = Arc<dyn Fn() + Send + Sync>;

struct State {
    rng: Rng,
    inodes: Vec<Inode>,
    dirs: Vec<PathBuf>,
    live: BTreeMap<PathBuf, usize>,
    synced: BTreeMap<PathBuf, usize>,
    changes: Vec<DirChange>,
    locks: BTreeMap<PathBuf, Weak<()>>,
    faults: Faults,
    /// Calls until the power goes.
    power: Option<u64>,
    off: bool,
    /// Calls so far.
    calls: u64,
    hook: Option<Hook>,
    short_writes: bool,
}

/// The disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

/// What a call is, for the choice whether it fails.
#[derive(PartialEq)]
enum Call {
    Write,
    Sync,
    Other,
}

impl State {
    /// Whether the call goes through. The one at which the power goes has its effect, unsynced, and fails.
    fn enter(&mut self, call: Call) -> io::Result<bool> {
        if self.off {
            return Err(io::Error::other("the power is off"));
        }
        self.calls += 1;
        if let Some(left) = &mut self.power {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.off = true;
                return Ok(false);
            }
        }
        let mut fails = |once_in: u64| once_in != 0 && self.rng.one_in(once_in);
        match call {
            Call::Write if fails(self.faults.full) => Err(io::Error::from_raw_os_error(ENOSPC)),
            Call::Sync if fails(self.faults.sync) => Err(io::Error::from_raw_os_error(EIO)),
            Call::Write | Call::Other if fails(self.faults.io) => Err(io::Error::from_raw_os_error(EIO)),
            _ => Ok(true),
        }
    }

    fn lookup(&self, path: &Path) -> io::Result<usize> {
        self.live.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, change: DirChange) {
        change.apply(&mut self.live);
        self.changes.push(change);
    }

    /// What is left of a file.
    fn survive(rng: &mut Rng, inode: &Inode) -> Vec<u8> {
        let mut content = inode.synced.clone();
        let all = inode.unsynced.len() as u64;
        // All is lost, all is kept, the order is kept, or nothing is.
        match rng.below(4) {
            0 => {}
            1 => inode.unsynced.iter().for_each(|write| write.apply(&mut content)),
            2 => {
                let keep = rng.below(all + 1) as usize;
                inode.unsynced.iter().take(keep).for_each(|write| write.apply(&mut content));
                if let Some(Write::Bytes { offset, bytes }) = inode.unsynced.get(keep) {
                    let torn = bytes[..rng.below(bytes.len() as u64 + 1) as usize].to_vec();
                    Write::Bytes { offset: *offset, bytes: torn }.apply(&mut content);
                }
            }
            _ => {
                for write in &inode.unsynced {
                    match write {
                        Write::Truncate(_) => {
                            if rng.one_in(2) {
                                write.apply(&mut content);
                            }
                        }
                        Write::Bytes { offset, bytes } => {
                            Self::survive_sectors(rng, *offset, bytes, inode.synced.len() as u64, &mut content);
                        }
                    }
                }
            }
        }
        content
    }

    fn survive_sectors(rng: &mut Rng, offset: u64, bytes: &[u8], synced: u64, content: &mut Vec<u8>) {
        let mut at = 0;
        while at < bytes.len() {
            let place = offset + at as u64;
            let sector = (SECTOR - place % SECTOR) as usize;
            let mut part = bytes[at..bytes.len().min(at + sector)].to_vec();
            at += part.len();
            match rng.below(6) {
                0 | 1 => {}
                2 => continue,
                3 => part.truncate(rng.below(part.len() as u64 + 1) as usize),
                // Blocks that were allocated, but whose bytes never came. Not where bytes had been synced before.
                4 if place >= synced => part.fill(0),
                5 if place >= synced => part.iter_mut().for_each(|byte| *byte = rng.next_u64() as u8),
                _ => {}
            }
            Write::Bytes { offset: place, bytes: part }.apply(content);
        }
    }
}

impl SimDisk {
    /// An empty disk whose choices follow from `seed`. Directories in `dirs` exist.
    pub fn new(seed: u64, dirs: &[&str]) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State {
            rng: Rng::new(seed),
            inodes: Vec::new(),
            dirs: dirs.iter().map(PathBuf::from).collect(),
            live: BTreeMap::new(),
            synced: BTreeMap::new(),
            changes: Vec::new(),
            locks: BTreeMap::new(),
            faults: Faults::default(),
            power: None,
            off: false,
            calls: 0,
            hook: None,
            short_writes: true,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Calls fail as often as this from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Whether some writes write only a part of their bytes. They do if nothing else is said.
    pub fn set_short_writes(&self, short: bool) {
        self.state().short_writes = short;
    }

    /// The power goes at the `calls`-th call from now.
    pub fn cut_after(&self, calls: u64) {
        self.state().power = Some(calls);
    }

    /// Whether the power has gone.
    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// What runs in the middle of each sync of a file, while the data of other threads goes on to arrive.
    pub fn set_sync_hook(&self, hook: Option<Hook>) {
        self.state().hook = hook;
    }

    /// Cuts the power, if it is still on, and switches it on again: files are what survived.
    pub fn power_cycle(&self) {
        let mut state = self.state();
        let State { rng, inodes, synced, changes, .. } = &mut *state;
        for change in changes.drain(..) {
            if rng.one_in(2) {
                change.apply(synced);
            }
        }
        for inode in inodes.iter_mut() {
            if !inode.unsynced.is_empty() {
                inode.synced = State::survive(rng, inode);
                inode.unsynced.clear();
            }
            inode.live.clone_from(&inode.synced);
        }
        // Forget what has no name, so that a long run does not grow.
        let mut kept = BTreeMap::new();
        let mut next = Vec::new();
        for inode in synced.values_mut() {
            *inode = *kept.entry(*inode).or_insert_with(|| {
                next.push(std::mem::take(&mut inodes[*inode]));
                next.len() - 1
            });
        }
        *inodes = next;
        state.live = state.synced.clone();
        self.reset(&mut state);
    }

    /// Ends the process without a power cut: locks are free, and files as they were written.
    pub fn kill(&self) {
        let mut state = self.state();
        self.reset(&mut state);
    }

    fn reset(&self, state: &mut State) {
        state.locks.clear();
        state.power = None;
        state.off = false;
        state.faults = Faults::default();
        state.hook = None;
    }

    /// Changes one bit of a file, as a failing medium does; false if it has no such byte.
    pub fn flip(&self, path: &Path, byte: usize, bit: u8) -> bool {
        let mut state = self.state();
        let Ok(inode) = state.lookup(path) else { return false };
        let inode = &mut state.inodes[inode];
        for content in [&mut inode.live, &mut inode.synced] {
            match content.get_mut(byte) {
                Some(byte) => *byte ^= 1 << bit,
                None => return false,
            }
        }
        true
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let goes = state.enter(Call::Other)?;
        let exists = state.live.contains_key(path);
        match how {
            Open::Read | Open::Write => _ = state.lookup(path)?,
            Open::New if exists => return Err(io::ErrorKind::AlreadyExists.into()),
            Open::Create | Open::New => {
                let parent = path.parent().unwrap_or(Path::new(""));
                if !state.dirs.iter().any(|dir| dir == parent) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                if exists {
                    let inode = state.lookup(path)?;
                    let inode = &mut state.inodes[inode];
                    inode.live.clear();
                    inode.unsynced.push(Write::Truncate(0));
                } else {
                    state.inodes.push(Inode::default());
                    let inode = state.inodes.len() - 1;
                    state.change(DirChange::Set(path.to_path_buf(), inode));
                }
            }
        }
        let inode = state.lookup(path)?;
        finish(goes, Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        let goes = state.enter(Call::Other)?;
        let inside = state.live.keys().filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_string())).collect();
        finish(goes, names)
    }

    /// Directories are durable at once: none of the questions here turns on that.
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let goes = state.enter(Call::Other)?;
        if !state.dirs.iter().any(|known| known == dir) {
            state.dirs.push(dir.to_path_buf());
        }
        finish(goes, ())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.enter(Call::Other)? {
            return finish(false, ());
        }
        let State { changes, synced, .. } = &mut *state;
        changes.retain(|change| {
            let touches = change.touches(dir);
            if touches {
                change.apply(synced);
            }
            !touches
        });
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let goes = state.enter(Call::Other)?;
        let inode = state.lookup(from)?;
        state.change(DirChange::Rename(from.to_path_buf(), to.to_path_buf(), inode));
        finish(goes, ())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let goes = state.enter(Call::Other)?;
        state.lookup(path)?;
        state.change(DirChange::Remove(path.to_path_buf()));
        finish(goes, ())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let goes = state.enter(Call::Other)?;
        let inode = state.lookup(from)?;
        if state.live.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.change(DirChange::Set(to.to_path_buf(), inode));
        finish(goes, ())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.state();
        let goes = state.enter(Call::Other)?;
        if state.locks.get(path).is_some_and(|held| held.strong_count() > 0) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let held = Arc::new(());
        state.locks.insert(path.to_path_buf(), Arc::downgrade(&held));
        finish(goes, Box::new(held) as Box<dyn Send + Sync>)
    }
}

/// The call's answer, unless the power went.
fn finish<T>(goes: bool, value: T) -> io::Result<T> {
    if goes { Ok(value) } else { Err(io::Error::other("the power went")) }
}

impl File for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        let entered = state.enter(Call::Write);
        // A write may be short, and one that fails may have written something.
        let some = match state.short_writes && state.rng.one_in(8) || entered.is_err() {
            true => state.rng.below(bytes.len() as u64 + 1) as usize,
            false => bytes.len(),
        };
        let short = entered.is_ok() && some < bytes.len() && some > 0;
        let count = if entered.is_ok() && !short { bytes.len() } else { some };
        if !state.off || entered.is_ok() {
            let write = Write::Bytes { offset, bytes: bytes[..count].to_vec() };
            let inode = &mut state.inodes[self.inode];
            write.apply(&mut inode.live);
            inode.unsynced.push(write);
        }
        finish(entered?, count)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        let goes = state.enter(Call::Other)?;
        let live = &state.inodes[self.inode].live;
        let rest = live.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(bytes.len());
        bytes[..n].copy_from_slice(&rest[..n]);
        finish(goes, n)
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        let goes = state.enter(Call::Other)?;
        finish(goes, state.inodes[self.inode].live.len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let goes = state.enter(Call::Other)?;
        let write = Write::Truncate(len);
        let inode = &mut state.inodes[self.inode];
        write.apply(&mut inode.live);
        inode.unsynced.push(write);
        finish(goes, ())
    }

    fn sync(&self) -> io::Result<()> {
        let (entered, covered, hook) = {
            let mut state = self.disk.state();
            let entered = state.enter(Call::Sync);
            (entered, state.inodes[self.inode].unsynced.len(), state.hook.clone())
        };
        if let Some(hook) = hook.filter(|_| entered.is_ok()) {
            hook();
        }
        let mut state = self.disk.state();
        let went_off = state.off;
        let State { rng, inodes, .. } = &mut *state;
        let inode = &mut inodes[self.inode];
        match entered {
            Ok(true) if !went_off => {
                for write in inode.unsynced.drain(..covered) {
                    write.apply(&mut inode.synced);
                }
                Ok(())
            }
            Err(error) if !went_off => {
                let later = inode.unsynced.split_off(covered);
                inode.synced = State::survive(rng, inode);
                inode.unsynced = later;
                Err(error)
            }
            _ => finish(false, ()),
        }
    }
}
