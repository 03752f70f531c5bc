//! The manifest: which files the data consists of, line by line as Redis 7 and Valkey write it, and a checksum that they skip.
//!
//! ```text
//! file appendonly.aof.3.base.rdb seq 3 type b
//! file appendonly.aof.2.incr.aof seq 2 type h
//! file appendonly.aof.3.incr.aof seq 3 type i
//! #F:000000a1:0000000000000000:5d0c91aa closed seq 3 len 1234 lsn 77 ms 1700000000000
//! ```
//!
//! The seal, which no line end follows, is a frame's line and covers all lines and the words behind itself, which are there once the
//! log was closed. A manifest without it comes from another server, or from a hand: such a one may have been cut short, and is refused
//! if there is an increment with data behind the last that it names. It is replaced as a whole, in one step. Keys that are not known
//! here are skipped, as Redis does. (Older manifests begin with the seal, and tell of the close in a line of its own.)

use super::frame::{self, HEAD, Head, Kind};
use super::{Error, Lsn, Result};
use crate::disk::{Disk, Open, read_file, replace_file};
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of a line, at least, that no manifest has: Redis reads no longer ones.
const LINE_MAX: usize = 1024;

/// Length of the seal: that of a frame's line without its end.
const SEAL: usize = HEAD - 2;

/// What a file of the manifest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// The state at one moment.
    Base,
    /// What changed since, one file after another.
    Increment,
    /// No longer needed; to be removed.
    History,
}

/// One line of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLine {
    /// The name, without a directory.
    pub name: String,
    /// The sequence number.
    pub seq: u64,
    /// What it is.
    pub kind: FileType,
}

/// A note that all was durable when the log was closed. It stays true when the log goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Number of the last increment.
    pub seq: u64,
    /// Its length in bytes.
    pub len: u64,
    /// LSN of the last record.
    pub lsn: Lsn,
    /// When that had been appended: Unix time in milliseconds.
    pub ms: u64,
}

impl Closed {
    /// Whether the log was closed where an increment has this length.
    pub fn ends(&self, seq: u64, len: u64) -> bool {
        (self.seq, self.len) == (seq, len)
    }

    fn encode(&self) -> String {
        let Closed { seq, len, lsn, ms } = self;
        format!(" {CLOSED}seq {seq} len {len} lsn {lsn} ms {ms}")
    }

    fn parse(text: &str) -> Option<Closed> {
        let words: Vec<&str> = text.strip_prefix(CLOSED)?.split(' ').collect();
        let ["seq", seq, "len", len, "lsn", lsn, "ms", ms] = words[..] else { return None };
        Some(Closed { seq: seq.parse().ok()?, len: len.parse().ok()?, lsn: lsn.parse().ok()?, ms: ms.parse().ok()? })
    }
}

/// How the note of [`Closed`] begins.
const CLOSED: &str = "closed ";

/// A whole manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The base, if there is one.
    pub base: Option<FileLine>,
    /// The increments, in order.
    pub increments: Vec<FileLine>,
    /// Files that are no longer needed.
    pub history: Vec<FileLine>,
    /// Up to where the log was durable when it was last closed.
    pub closed: Option<Closed>,
}

/// The names of a log's files: those that Redis gives them.
#[derive(Clone, Debug)]
pub struct Names {
    /// The directory (`appenddirname` within `dir`).
    pub dir: PathBuf,
    /// `appendfilename`.
    pub name: String,
}

impl Names {
    /// The files of the log called `name` in `dir`.
    pub fn new(dir: &Path, name: &str) -> Names {
        Names { dir: dir.to_path_buf(), name: name.to_string() }
    }

    /// Name of the manifest.
    pub fn manifest(&self) -> String {
        format!("{}.manifest", self.name)
    }

    /// Name of the base with this sequence number.
    pub fn base(&self, seq: u64) -> String {
        format!("{}.{seq}.base.rdb", self.name)
    }

    /// Name of the increment with this sequence number.
    pub fn increment(&self, seq: u64) -> String {
        format!("{}.{seq}.incr.aof", self.name)
    }

    /// The path of a file of the log.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Whether there is an increment with more than a header whose sequence number is above `seq`.
    pub(super) fn has_data_after(&self, disk: &dyn Disk, seq: u64) -> Result<bool> {
        let fail = |error| Error::io("read", &self.dir, error);
        let header = frame::header(0, 0, 0, 0).len() as u64;
        for file in disk.list(&self.dir).map_err(fail)? {
            let middle = file.strip_prefix(&self.name).and_then(|rest| rest.strip_suffix(".incr.aof"));
            let number = middle.and_then(|middle| middle.strip_prefix('.')?.parse::<u64>().ok());
            if number.is_some_and(|number| number > seq)
                && disk.open(&self.path(&file), Open::Read).and_then(|file| file.len()).map_err(fail)? > header
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Manifest {
    /// Reads the manifest; nothing if there is none.
    pub fn load(disk: &dyn Disk, names: &Names) -> Result<Option<Manifest>> {
        let path = names.path(&names.manifest());
        let bytes = match read_file(disk, &path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        let (manifest, checked) = Self::parse(&bytes, &path)?;
        if !checked && names.has_data_after(disk, manifest.last_seq())? {
            let line = bytes.split(|byte| *byte == b'\n').count();
            return Err(Error::Manifest { path, line, what: "it ends before an increment that has data" });
        }
        Ok(Some(manifest))
    }

    /// Replaces the manifest on disk, durably.
    pub fn store(&self, disk: &dyn Disk, names: &Names) -> Result<()> {
        let name = names.manifest();
        replace_file(disk, &names.dir, &name, &self.encode())
            .map_err(|error| Error::io("write", &names.path(&name), error))
    }

    /// The highest sequence number in use.
    pub fn last_seq(&self) -> u64 {
        self.base.iter().chain(&self.increments).map(|line| line.seq).max().unwrap_or(0)
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = String::new();
        for line in self.base.iter().chain(&self.history).chain(&self.increments) {
            let kind = match line.kind {
                FileType::Base => 'b',
                FileType::Increment => 'i',
                FileType::History => 'h',
            };
            text.push_str(&format!("file {} seq {} type {kind}\n", quote(&line.name), line.seq));
        }
        let (lines, closed) = (text.len(), self.closed.as_ref().map(Closed::encode).unwrap_or_default());
        text.push_str(&closed);
        // The body is far below 4 GiB: a line for each file.
        let sealed = frame::encode(Kind::Manifest, 0, 0, text.as_bytes()).unwrap_or_default();
        text.insert_str(lines, &String::from_utf8_lossy(sealed.get(..SEAL).unwrap_or_default()));
        text.into_bytes()
    }

    /// Reads the bytes of a manifest, and tells whether a checksum proves that they are whole; `path` is for the error.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<(Manifest, bool)> {
        let bad = |line: usize, what| Error::Manifest { path: path.to_path_buf(), line, what };
        let (text, closed, checked) = unseal(bytes).map_err(|what| bad(1, what))?;
        // Where there are words of Redis's log for what is wrong, they come first: people look for them.
        let text = std::str::from_utf8(text).map_err(|_| bad(1, "Invalid AOF manifest file format: it is not text"))?;
        let mut manifest = Manifest { closed: closed.and_then(Closed::parse), ..Manifest::default() };
        for (at, line) in text.lines().enumerate() {
            let at = at + 1;
            if line.len() >= LINE_MAX {
                return Err(bad(at, "The AOF manifest file contains too long line"));
            }
            if let Some(comment) = line.strip_prefix('#') {
                // In a manifest of another server it would prove nothing.
                manifest.closed = Closed::parse(comment).filter(|_| checked).or(manifest.closed);
                continue;
            }
            let words =
                split(line).ok_or_else(|| bad(at, "Invalid AOF manifest file format: a quote is not closed"))?;
            if words.is_empty() || words.len() % 2 == 1 {
                return Err(bad(at, "Invalid AOF manifest file format: it is not made of keys and values"));
            }
            let (mut name, mut seq, mut kind) = (None, None, None);
            for pair in words.chunks_exact(2) {
                let [key, value] = pair else { continue };
                match key.to_ascii_lowercase().as_str() {
                    "file" if value.contains('/') || value.is_empty() => {
                        return Err(bad(at, "File can't be a path, just a filename"));
                    }
                    "file" => name = Some(value.clone()),
                    "seq" => seq = value.parse().ok().filter(|seq| *seq > 0),
                    "type" => {
                        kind = match value.as_str() {
                            "b" => Some(FileType::Base),
                            "i" => Some(FileType::Increment),
                            "h" => Some(FileType::History),
                            _ => return Err(bad(at, "Unknown AOF file type")),
                        }
                    }
                    _ => {}
                }
            }
            let (Some(name), Some(seq), Some(kind)) = (name, seq, kind) else {
                return Err(bad(at, "Invalid AOF manifest file format: a name, a number or a type is missing"));
            };
            let line = FileLine { name, seq, kind };
            match kind {
                FileType::Base if manifest.base.is_some() => {
                    return Err(bad(at, "Found duplicate base file information"));
                }
                FileType::Base => manifest.base = Some(line),
                FileType::History => manifest.history.push(line),
                FileType::Increment => {
                    if manifest.increments.last().is_some_and(|last| last.seq >= seq) {
                        return Err(bad(at, "Found a non-monotonic sequence number"));
                    }
                    manifest.increments.push(line);
                }
            }
        }
        if manifest.last_seq() == 0 && manifest.history.is_empty() {
            return Err(bad(1, "Found an empty AOF manifest"));
        }
        Ok((manifest, checked))
    }
}

/// The lines of a manifest, what stands behind its seal, and whether it has one, which fits.
fn unseal(bytes: &[u8]) -> std::result::Result<(&[u8], Option<&str>, bool), &'static str> {
    const UNFIT: &str = "the checksum does not fit";
    const DAMAGED: &str = "the checksum line is damaged";
    // As it was written once: a frame.
    if let Some(head) = Head::decode(bytes) {
        let lines = bytes.get(HEAD..).unwrap_or_default();
        let fits = head.kind == Kind::Manifest && head.fits(lines, 0);
        return if fits { Ok((lines, None, true)) } else { Err(UNFIT) };
    }
    if bytes.starts_with(b"#F") || (bytes.starts_with(b"#") && bytes.get(2) == Some(&b':')) {
        return Err(DAMAGED);
    }
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (lines, last) = bytes.split_at(end);
    if !last.starts_with(b"#") {
        return Ok((bytes, None, false));
    }
    let (seal, note) = last.split_at_checked(SEAL).ok_or(DAMAGED)?;
    let head = Head::decode(&[seal, b"\r\n"].concat()).ok_or(DAMAGED)?;
    if head.kind != Kind::Manifest || !head.fits(&[lines, note].concat(), 0) {
        return Err(UNFIT);
    }
    let note = std::str::from_utf8(note).map_err(|_| DAMAGED)?;
    Ok((lines, note.strip_prefix(' '), true))
}

/// A name as a word of the manifest: quoted if it has anything but harmless characters.
fn quote(name: &str) -> String {
    let harmless = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\');
    if !name.is_empty() && name.chars().all(harmless) {
        return name.to_string();
    }
    let mut text = String::from("\"");
    for c in name.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// The words of a line, quotes and escapes taken off as Redis does. Nothing if a quote is not closed.
fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut bytes = line.bytes().peekable();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        if bytes.peek().is_none() {
            return Some(words);
        }
        let mut word = Vec::new();
        let quote = bytes.next_if(|b| matches!(b, b'"' | b'\''));
        loop {
            match (bytes.next(), quote) {
                (None, None) => break,
                (None, Some(_)) => return None,
                (Some(b), Some(end)) if b == end => break,
                (Some(b), None) if b.is_ascii_whitespace() => break,
                (Some(b'\\'), Some(b'"')) => word.push(match bytes.next()? {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'x' => {
                        let mut digit = || char::from(bytes.next()?).to_digit(16);
                        (digit()? * 16 + digit()?) as u8
                    }
                    other => other,
                }),
                (Some(b), _) => word.push(b),
            }
        }
        words.push(String::from_utf8(word).ok()?);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines are those of Redis, to the byte; the seal, which they skip, ends the file.
    #[test]
    fn it_reads_as_that_of_redis() {
        let line = |name: &str, seq, kind| FileLine { name: name.into(), seq, kind };
        let mut manifest = Manifest {
            base: Some(line("a.aof.2.base.rdb", 2, FileType::Base)),
            increments: vec![line(" b .aof", 2, FileType::Increment), line("a.aof.3.incr.aof", 3, FileType::Increment)],
            history: vec![line("a.aof.1.incr.aof", 1, FileType::History)],
            closed: None,
        };
        for closed in [None, Some(Closed { seq: 3, len: 298, lsn: 5, ms: 1_700_000_002_000 })] {
            manifest.closed = closed;
            let bytes = manifest.encode();
            let text = String::from_utf8(bytes.clone()).unwrap();
            let (lines, seal) = text.rsplit_once('\n').unwrap();
            assert_eq!(
                lines,
                "file a.aof.2.base.rdb seq 2 type b\nfile a.aof.1.incr.aof seq 1 type h\nfile \" b .aof\" seq 2 type i\n\
                 file a.aof.3.incr.aof seq 3 type i"
            );
            let note = if closed.is_some() { " closed seq 3 len 298 lsn 5 ms 1700000002000" } else { "" };
            assert!(seal.starts_with("#F:") && seal.get(SEAL..) == Some(note), "{seal}");
            assert_eq!(Manifest::parse(&bytes, Path::new("")).unwrap(), (manifest.clone(), true));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "file x seq 1",
            "file x seq 0 type i",
            "file x seq 1 type q",
            "file ../x seq 1 type i",
            "file x seq 1 type i type",
            "file \"x seq 1 type i",
            "file x seq 1 type b\nfile x seq 2 type b",
            "file x seq 2 type i\nfile x seq 1 type i",
            "#F:00000000",
            "file x seq 1 type b\n#F:00000000",
        ] {
            let parsed = Manifest::parse(text.as_bytes(), Path::new(""));
            assert!(matches!(parsed, Err(Error::Manifest { .. })), "{text}");
        }
    }
}
