//! BACKUP: the states that Redis 8.10 names, over what the log can do (`kelda_log::aof::backup`).
//!
//! A base always lies there already, so a backup need not wait for one: from `idle` it goes straight to `incrementing`.

use crate::config::Settings;
use crate::engine::Engine;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the keeper of the log does for a backup. Errors are reasons, without a code.
pub trait BackupFiles: Send + Sync {
    /// Begins one in a directory that is empty, or not there.
    fn begin(&self, into: &Path) -> std::result::Result<(), String>;
    /// The files so far; they do not change any more.
    fn files(&self) -> Vec<PathBuf>;
    /// Completes it, with all that was committed so far; its files. Waits for every shard, and for the disk.
    fn seal(&self) -> std::result::Result<Vec<PathBuf>, String>;
    /// Gives it up.
    fn abort(&self) -> std::result::Result<(), String>;
    /// Removes files of one that was sealed.
    fn remove(&self, files: &[PathBuf]) -> std::result::Result<(), String>;
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// None is under way.
    #[default]
    Idle,
    /// The base is there; transactions are added.
    Incrementing,
    /// It is complete.
    Sealed,
    /// It failed, or was given up.
    Failed,
}

impl Phase {
    /// Redis's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Incrementing => "incrementing",
            Phase::Sealed => "sealed",
            Phase::Failed => "failed",
        }
    }
}

/// What BACKUP STATUS tells.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// How far it is.
    pub phase: Phase,
    /// Why it failed.
    pub error: String,
    /// When it was begun, Unix s; 0 if none was.
    pub start_s: i64,
    /// When it was sealed, Unix s; 0 if it is not.
    pub end_s: i64,
}

#[derive(Default)]
struct State {
    status: Status,
    /// Of a sealed one.
    files: Vec<PathBuf>,
}

/// The one backup that can be under way.
#[derive(Default)]
pub struct Backups(Mutex<State>);

fn failed(why: String) -> Error {
    Error::owned(format!("ERR {why}"))
}

/// Who has the files. There must be a log: a backup consists of its files.
fn keeper(engine: &Engine) -> Result<&dyn BackupFiles> {
    let log = engine.log.sink().filter(|_| engine.log.is_on());
    log.and_then(|log| log.backups()).ok_or(Error::text("ERR a backup needs the log: set appendonly to yes"))
}

impl Backups {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// BACKUP START.
    pub(crate) fn start(&self, engine: &Engine) -> Result {
        let settings = engine.config.settings();
        let mut state = self.lock();
        match state.status.phase {
            Phase::Incrementing => return Err(Error::text("ERR a backup is already in progress")),
            Phase::Sealed => return Err(Error::text("ERR a sealed backup is there: BACKUP CLEANUP removes it")),
            Phase::Idle | Phase::Failed => {}
        }
        keeper(engine)?.begin(&Path::new(&settings.dir).join(&settings.backupdirname)).map_err(failed)?;
        let status = Status { phase: Phase::Incrementing, start_s: now_s(engine), ..Status::default() };
        *state = State { status, files: Vec::new() };
        Ok(())
    }

    /// BACKUP SEAL.
    pub(crate) fn seal(&self, engine: &Engine) -> Result {
        let mut state = self.lock();
        if state.status.phase != Phase::Incrementing {
            return Err(Error::text("ERR no backup is in progress"));
        }
        state.files = keeper(engine)?.seal().map_err(failed)?;
        state.status.phase = Phase::Sealed;
        state.status.end_s = now_s(engine);
        Ok(())
    }

    /// BACKUP ABORT.
    pub(crate) fn abort(&self, engine: &Engine) -> Result {
        let mut state = self.lock();
        if state.status.phase != Phase::Incrementing {
            return Err(Error::text("ERR no backup is in progress"));
        }
        keeper(engine)?.abort().map_err(failed)?;
        state.status.phase = Phase::Failed;
        state.status.error = "aborted".into();
        Ok(())
    }

    /// BACKUP CLEANUP.
    pub(crate) fn clean_up(&self, engine: &Engine) -> Result {
        let mut state = self.lock();
        match state.status.phase {
            Phase::Sealed => keeper(engine)?.remove(&state.files).map_err(failed)?,
            Phase::Failed => {}
            Phase::Idle | Phase::Incrementing => return Err(Error::text("ERR no sealed backup is there")),
        }
        *state = State::default();
        Ok(())
    }

    /// BACKUP LIST.
    pub(crate) fn files(&self, engine: &Engine) -> Vec<PathBuf> {
        let state = self.lock();
        match state.status.phase {
            Phase::Incrementing => keeper(engine).map_or_else(|_| Vec::new(), |keeper| keeper.files()),
            _ => state.files.clone(),
        }
    }

    /// BACKUP STATUS.
    pub(crate) fn status(&self) -> Status {
        self.lock().status.clone()
    }

    /// Removes a sealed backup that nobody fetched (`backup-sealed-ttl`). Called about ten times a second.
    pub(crate) fn cron(&self, engine: &Engine, settings: &Settings) {
        let ttl_s = settings.backup_sealed_ttl;
        let status = self.status();
        if ttl_s > 0 && status.phase == Phase::Sealed && now_s(engine).saturating_sub(status.end_s) >= ttl_s {
            // If it cannot be removed it stays, as without the setting.
            let _ = self.clean_up(engine);
        }
    }
}

fn now_s(engine: &Engine) -> i64 {
    engine.clock.unix_us() / 1_000_000
}
