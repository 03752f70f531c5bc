//! The append-only log: a directory as Redis 7 and Valkey have it, in which every record is checked.
//!
//! - [`Log`] writes: transactions are appended to a buffer at commit, and threads of the server write and sync it;
//! - [`Reader`] reads a directory back, whoever wrote it;
//! - [`check`], [`copy`] and [`backup`] are for whoever looks after the data;
//! - [`frame`] is what a file consists of, [`manifest`] which files there are.
//!
//! `docs/format.md` specifies every byte.
//!
//! # Invariants
//!
//! - LSNs count records: 1, 2, 3 …, without a gap, across files.
//! - Nothing is written to an increment before the one before it is synced as a whole. So only the last one that has any
//!   bytes may end in a torn record.
//! - [`Log::durable`] never exceeds what a recovery after a power cut at this moment brings back.
//! - What a recovery brings back is a prefix: if a record is there, all before it are.

pub mod backup;
pub mod check;
pub mod commands;
pub mod copy;
pub mod frame;
mod log;
pub mod manifest;
mod reader;

pub use log::{DirLock, Log, Options, Prepared, Rotation, State, SyncMode, WriteBase, adopt, lock_dir};
pub use reader::{BaseFile, Cut, Entry, FileReader, Reader, Record, Recovered};

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A record's number. The first is 1; 0 stands for "before all of them".
pub type Lsn = u64;

/// The version of the format that is written; those before it are read, too.
pub const FORMAT: u32 = 2;

/// A place where a file is not what was once written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in the file the last whole frame ends, in bytes.
    pub offset: u64,
    /// The LSN of the record that was expected there; 0 in a file of another server, whose commands have none.
    pub lsn: Lsn,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: damaged at offset {}, LSN {}: {}", self.path.display(), self.offset, self.lsn, self.what)
    }
}

/// Why a log could not be opened, read or changed.
#[derive(Debug)]
pub enum Error {
    /// The disk failed.
    Io {
        /// What was tried: a verb.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// A file is damaged in a way that no crash explains.
    Damaged(Damage),
    /// The manifest cannot be read.
    Manifest {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Another server uses the directory.
    Locked(PathBuf),
    /// A file was written by a later version.
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// There is nothing that was asked for: no manifest, or no data that reaches a point in time.
    Missing(&'static str),
}

/// What the functions of the log return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Error {
        Error::Io { what, path: path.to_path_buf(), source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { what, path, source } => write!(f, "cannot {what} {} ({source})", path.display()),
            Error::Damaged(damage) => damage.fmt(f),
            Error::Manifest { path, line, what } => write!(f, "{}: line {line}: {what}", path.display()),
            Error::Locked(path) => write!(f, "{}: another server uses this directory", path.display()),
            Error::Version { path, version } => {
                write!(f, "{}: format version {version}; this server reads 1 to {FORMAT}", path.display())
            }
            Error::Missing(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
