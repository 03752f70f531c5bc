//! Reads an RDB file in blocks, so that several threads can decode it: one finds where keys begin and end, any of them turns
//! the keys of a block into values.
//!
//! Memory: a block is about a megabyte, or as large as the largest value. A length that the file only claims reserves nothing:
//! the buffer grows with what was really read.

use super::decode::{decode_value, module_name, skip_value};
use super::types::{Dialect, Version, kind, opcode};
use super::writer::Access;
use super::{RdbError, Reader, Text, crc64, times};
use kelda_store::Limits;
use kelda_store::value::Value;
use std::fmt;
use std::io::{self, Read};

/// Why a file cannot be read.
#[derive(Debug)]
pub enum FileError {
    /// The system says so.
    Io(io::Error),
    /// It does not begin as an RDB file does.
    NoRdb,
    /// It is of a version that cannot be.
    Version(u16),
    /// The checksum at its end is not that of its content.
    Checksum,
    /// Something at a place in the file, of a key if that is known.
    Content {
        /// Bytes before the record.
        offset: u64,
        /// The key.
        key: Option<Vec<u8>>,
        /// What is wrong.
        why: RdbError,
    },
    /// The file's keys are of more databases than there are.
    Database(u64),
    /// A key that is there twice.
    Duplicate(Vec<u8>),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Io(error) => write!(f, "cannot read the file: {error}"),
            FileError::NoRdb => f.write_str("this is no RDB file: it does not begin with REDIS or VALKEY"),
            FileError::Version(version) => write!(f, "unknown version of the RDB format: {version}"),
            FileError::Checksum => f.write_str("CRC error: the checksum is not that of the content"),
            FileError::Content { offset, key: Some(key), why } => {
                write!(f, "at byte {offset}, key '{}': {why}", key.escape_ascii())
            }
            FileError::Content { offset, key: None, why } => write!(f, "at byte {offset}: {why}"),
            FileError::Database(db) => {
                write!(f, "keys of database {db}, which is not there (see the directive databases)")
            }
            FileError::Duplicate(key) => write!(f, "the key '{}' is there twice", key.escape_ascii()),
        }
    }
}

impl std::error::Error for FileError {}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> FileError {
        FileError::Io(error)
    }
}

/// Bytes of a block that is not held up by a large value.
const BLOCK_BYTES: usize = 1 << 20;

/// Reads one file.
pub struct RdbFile<R> {
    source: R,
    /// Read, not yet handed out.
    bytes: Vec<u8>,
    /// Bytes handed out.
    offset: u64,
    at_end: bool,
    version: Version,
    db: u64,
    crc: u64,
    checksum: bool,
    ended: bool,
    /// Memory of blocks that were given back.
    spare: Vec<(Vec<u8>, Vec<Record>)>,
}

/// Some keys of a file, and what stood between them.
pub struct Block {
    bytes: Vec<u8>,
    offset: u64,
    dialect: Dialect,
    records: Vec<Record>,
    /// Facts by name.
    pub facts: Vec<(Vec<u8>, Vec<u8>)>,
    /// Texts of libraries of functions.
    pub functions: Vec<Vec<u8>>,
    /// Modules whose data beside the keys was passed over.
    pub modules: Vec<String>,
    /// Databases with the numbers of their keys and of those with an expiry time, as the file tells them.
    pub sizes: Vec<(u64, u64, u64)>,
}

/// Where a key and its value are in a block.
struct Record {
    db: u64,
    expire_at: Option<i64>,
    access: Option<Access>,
    kind: u8,
    start: usize,
    end: usize,
    /// When its members expire, if that stands before it.
    times: Vec<Vec<u8>>,
}

/// A key of a block.
pub struct RawEntry<'a> {
    /// The database.
    pub db: u64,
    /// When it expires, in Unix ms.
    pub expire_at: Option<i64>,
    /// When or how often it was used.
    pub access: Option<Access>,
    kind: u8,
    dialect: Dialect,
    bytes: &'a [u8],
    offset: u64,
    times: &'a [Vec<u8>],
}

/// What [`RdbFile::scan`] found.
enum Found {
    Record(Record),
    Other,
    End,
}

impl<R: Read> RdbFile<R> {
    /// Begins to read: the header.
    pub fn open(mut source: R) -> Result<RdbFile<R>, FileError> {
        const HEADER: usize = 9;
        let mut bytes = Vec::new();
        source.by_ref().take(HEADER as u64).read_to_end(&mut bytes)?;
        let digits = match bytes.strip_prefix(b"REDIS") {
            Some(digits) => digits,
            None => bytes.strip_prefix(b"VALKEY").ok_or(FileError::NoRdb)?,
        };
        let complete = bytes.len() == HEADER && digits.iter().all(u8::is_ascii_digit);
        let version = str::from_utf8(digits).ok().filter(|_| complete).and_then(|digits| digits.parse().ok());
        let version = Version(version.ok_or(FileError::NoRdb)?);
        if !version.is_known() {
            return Err(FileError::Version(version.0));
        }
        Ok(RdbFile {
            source,
            crc: crc64(0, &bytes),
            bytes: Vec::new(),
            offset: HEADER as u64,
            at_end: false,
            version,
            db: 0,
            checksum: true,
            ended: false,
            spare: Vec::new(),
        })
    }

    /// Whether `bytes` are how an RDB file begins: a log may begin with one.
    pub fn is_start(bytes: &[u8]) -> bool {
        bytes.starts_with(b"REDIS") || bytes.starts_with(b"VALKEY")
    }

    /// Does not compare the checksum (`rdbchecksum no`).
    pub fn ignore_checksum(&mut self) {
        self.checksum = false;
    }

    /// The version of the file.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Bytes handed out in blocks, and header and end.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What was read behind the end, and the source: what follows is not RDB.
    pub fn into_rest(self) -> (Vec<u8>, R) {
        (self.bytes, self.source)
    }

    /// The next keys; `None` behind the last, when the checksum has been compared.
    pub fn next_block(&mut self) -> Result<Option<Block>, FileError> {
        if self.ended {
            return Ok(None);
        }
        let (bytes, records) = self.spare.pop().unwrap_or_default();
        let mut block = Block {
            bytes,
            offset: self.offset,
            dialect: self.version.dialect(),
            records,
            facts: Vec::new(),
            functions: Vec::new(),
            modules: Vec::new(),
            sizes: Vec::new(),
        };
        let (mut wanted, mut at) = (BLOCK_BYTES, 0);
        loop {
            self.fill(wanted)?;
            let error = loop {
                let rest = self.bytes.get(at..).unwrap_or_default();
                let mut reader = Reader::new(rest);
                match scan(&mut reader, at, &mut self.db, &mut block) {
                    Ok(found) => {
                        at += rest.len() - reader.remaining();
                        match found {
                            Found::Record(record) => block.records.push(record),
                            Found::Other => {}
                            Found::End => {
                                self.ended = true;
                                self.hand_out(at, &mut block);
                                self.check_end()?;
                                return Ok(Some(block));
                            }
                        }
                    }
                    Err(error) => break error,
                }
            };
            match error {
                // The block ends with the last record that it has as a whole.
                RdbError::Truncated if at != 0 => {
                    self.hand_out(at, &mut block);
                    return Ok(Some(block));
                }
                // Twice as much each time: what is looked at again is no more than what there is.
                RdbError::Truncated if !self.at_end => wanted = self.bytes.len().max(BLOCK_BYTES) * 2,
                why => return Err(self.content_error(at, why)),
            }
        }
    }

    /// Reads until there are `wanted` bytes, or all.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        let more = wanted.saturating_sub(self.bytes.len());
        if more != 0 && !self.at_end {
            // About a megabyte, or as much as was really read so far.
            self.bytes.reserve(more);
            let read = self.source.by_ref().take(more as u64).read_to_end(&mut self.bytes)?;
            self.at_end = read < more;
        }
        Ok(())
    }

    /// Takes the memory of a block back, for the next ones: fresh memory costs as much as what is done with it.
    pub fn recycle(&mut self, block: Block) {
        let Block { mut bytes, mut records, .. } = block;
        // That of a huge value is not kept.
        if bytes.capacity() <= 2 * BLOCK_BYTES {
            bytes.clear();
            records.clear();
            self.spare.push((bytes, records));
        }
    }

    /// Gives the block its bytes. Those behind them move to the memory that it came with.
    fn hand_out(&mut self, len: usize, block: &mut Block) {
        block.bytes.extend_from_slice(self.bytes.get(len..).unwrap_or_default());
        self.bytes.truncate(len);
        std::mem::swap(&mut self.bytes, &mut block.bytes);
        self.offset += block.bytes.len() as u64;
        if self.checksum {
            self.crc = crc64(self.crc, &block.bytes);
        }
    }

    /// Compares the checksum, which is there from RDB version 5 on.
    fn check_end(&mut self) -> Result<(), FileError> {
        const BYTES: usize = 8;
        if self.version < Version(5) {
            return Ok(());
        }
        self.fill(BYTES)?;
        let Some((sum, _)) = self.bytes.split_first_chunk::<BYTES>() else {
            return Err(self.content_error(0, RdbError::Truncated));
        };
        let sum = u64::from_le_bytes(*sum);
        self.bytes.drain(..BYTES);
        self.offset += BYTES as u64;
        // 0 says that there is none.
        if self.checksum && sum != 0 && sum != self.crc { Err(FileError::Checksum) } else { Ok(()) }
    }

    /// An error in the record that begins `at` bytes behind what was handed out; with its key if that can be read.
    fn content_error(&self, at: usize, why: RdbError) -> FileError {
        let mut reader = Reader::new(self.bytes.get(at..).unwrap_or_default());
        let mut key = || loop {
            match reader.byte().ok()? {
                opcode::EXPIRE_TIME => _ = reader.take(4).ok()?,
                opcode::EXPIRE_TIME_MS => _ = reader.take(8).ok()?,
                opcode::FREQ => _ = reader.byte().ok()?,
                opcode::IDLE => _ = reader.number().ok()?,
                opcode::KEY_META if self.version.dialect() == Dialect::Redis => reader.skip_key_meta().ok()?,
                opcode::SLOT_IMPORT.. => return None,
                _ => return reader.text().ok().map(Text::into_vec),
            }
        };
        let key = key();
        FileError::Content { offset: self.offset + at as u64, key, why }
    }
}

/// Finds the end of the record that begins at `reader`, which is `at` bytes into the block.
fn scan(reader: &mut Reader<'_>, at: usize, db: &mut u64, block: &mut Block) -> Result<Found, RdbError> {
    let all = reader.remaining();
    let mut record = Record { db: *db, expire_at: None, access: None, kind: 0, start: 0, end: 0, times: Vec::new() };
    loop {
        match reader.byte()? {
            opcode::EXPIRE_TIME_MS => record.expire_at = Some(reader.i64_le()?),
            opcode::EXPIRE_TIME => record.expire_at = Some(i64::from(i32::from_le_bytes(reader.array()?)) * 1000),
            opcode::IDLE => record.access = Some(Access::Idle(reader.number()?)),
            opcode::FREQ => record.access = Some(Access::Frequency(reader.byte()?)),
            opcode::SELECT_DB => {
                *db = reader.number()?;
                return Ok(Found::Other);
            }
            opcode::RESIZE_DB => {
                let sizes = (*db, reader.number()?, reader.number()?);
                block.sizes.push(sizes);
                return Ok(Found::Other);
            }
            opcode::AUX => {
                let (name, fact) = (reader.text()?.into_vec(), reader.text()?.into_vec());
                if name == times::NAME {
                    // It belongs to the key that follows.
                    record.times.push(fact);
                    continue;
                }
                block.facts.push((name, fact));
                return Ok(Found::Other);
            }
            opcode::FUNCTION2 => {
                block.functions.push(reader.text()?.into_vec());
                return Ok(Found::Other);
            }
            opcode::SLOT_INFO => {
                for _ in 0..3 {
                    reader.number()?;
                }
                return Ok(Found::Other);
            }
            opcode::SLOT_IMPORT if block.dialect == Dialect::Valkey => {
                reader.skip_text()?;
                for _ in 0..reader.count(2)? {
                    reader.number()?;
                    reader.number()?;
                }
                return Ok(Found::Other);
            }
            opcode::MODULE_AUX => {
                let id = reader.number()?;
                // When it was to be read: before or after the keys.
                reader.number()?;
                reader.number()?;
                reader.skip_module()?;
                block.modules.push(module_name(id));
                return Ok(Found::Other);
            }
            opcode::EOF => return Ok(Found::End),
            opcode::FUNCTION_PRE_GA => {
                return Err(RdbError::Unsupported("functions in the form of a release candidate of Redis 7.0"));
            }
            // It belongs to the key that follows.
            opcode::KEY_META => reader.skip_key_meta()?,
            kind => {
                record.kind = kind;
                record.start = at + all - reader.remaining();
                reader.skip_text()?;
                skip_value(kind, block.dialect, reader)?;
                record.end = at + all - reader.remaining();
                return Ok(Found::Record(record));
            }
        }
    }
}

impl Block {
    /// The keys, in the order of the file.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = RawEntry<'_>> {
        self.records.iter().map(|record| RawEntry {
            db: record.db,
            expire_at: record.expire_at,
            access: record.access,
            kind: record.kind,
            dialect: self.dialect,
            // The range was found in these bytes.
            bytes: self.bytes.get(record.start..record.end).unwrap_or_default(),
            offset: self.offset + record.start as u64,
            times: &record.times,
        })
    }

    /// Bytes of the block.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl<'a> RawEntry<'a> {
    /// Key and value of a string, which needs no vector on its way.
    pub fn as_string(&self) -> Result<Option<(Text<'a>, Text<'a>)>, FileError> {
        if self.kind != kind::STRING {
            return Ok(None);
        }
        let mut reader = Reader::new(self.bytes);
        let texts = reader.text().and_then(|key| Ok((key, reader.text()?)));
        texts.map(Some).map_err(|why| FileError::Content { offset: self.offset, key: None, why })
    }

    /// Key and value; no value for a collection without elements: Redis once wrote such, and leaves them out.
    pub fn decode(&self, limits: &Limits) -> Result<(Text<'a>, Option<Value>), FileError> {
        let mut reader = Reader::new(self.bytes);
        let error = |key, why| FileError::Content { offset: self.offset, key, why };
        let key = reader.text().map_err(|why| error(None, why))?;
        match decode_value(self.kind, self.dialect, &mut reader, limits) {
            Ok(_) if !reader.is_empty() => {
                Err(error(Some(key.into_vec()), RdbError::Corrupt("a value that ends before its end")))
            }
            Ok(mut value) => match self.times.iter().try_for_each(|times| times::apply(&mut value, times)) {
                Ok(()) => Ok((key, Some(value))),
                Err(why) => Err(error(Some(key.into_vec()), why)),
            },
            Err(RdbError::Empty) => Ok((key, None)),
            // The record was found to be whole: its inside lies.
            Err(RdbError::Truncated) => {
                Err(error(Some(key.into_vec()), RdbError::Corrupt("a length inside the value is too large")))
            }
            Err(why) => Err(error(Some(key.into_vec()), why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Format, RdbWriter};
    use super::*;
    use kelda_store::Str;
    use kelda_store::value::ValueRef;

    fn sample(format: Format, large: usize) -> Vec<u8> {
        let mut writer = RdbWriter::new(format, true);
        let mut file = Vec::new();
        let mut drain = |writer: &mut RdbWriter| {
            writer.drain(|bytes| {
                file.extend_from_slice(bytes);
                Ok::<(), ()>(())
            })
        };
        writer.header([("redis-ver", "7.0.15"), ("redis-bits", "64")]);
        writer.function(b"#!lua name=x\n");
        writer.select(0, 2, 1);
        writer.entry(b"a", None, None, ValueRef::String(Str::Int(5)));
        drain(&mut writer).unwrap();
        writer.entry(b"123", Some(77), Some(Access::Idle(9)), ValueRef::String(Str::Bytes(b"text")));
        writer.select(5, 1, 0);
        writer.entry(&[b'k'; 100], None, Some(Access::Frequency(3)), ValueRef::String(Str::Bytes(&vec![7; large])));
        writer.end();
        drain(&mut writer).unwrap();
        assert_eq!(writer.len(), file.len() as u64);
        file
    }

    /// The file's keys as text.
    fn read(bytes: &[u8]) -> Result<Vec<String>, FileError> {
        let mut file = RdbFile::open(bytes)?;
        let mut seen = Vec::new();
        while let Some(block) = file.next_block()? {
            seen.extend(block.functions.iter().map(|code| code.escape_ascii().to_string()));
            for entry in block.entries() {
                if let (key, Some(value)) = entry.decode(&Limits::default())? {
                    let key = key.into_vec();
                    let key = key.first_chunk::<2>().map_or(&key[..], |_| &key[..key.len().min(3)]);
                    let len = match value {
                        Value::Int(n) => n as usize,
                        Value::String { bytes, .. } => bytes.len(),
                        _ => 0,
                    };
                    seen.push(format!(
                        "{} {} {len} {:?} {:?}",
                        entry.db,
                        key.escape_ascii(),
                        entry.expire_at,
                        entry.access
                    ));
                }
            }
        }
        Ok(seen)
    }

    #[test]
    fn what_was_written_is_read() {
        for compress in [false, true] {
            for version in [Version::REDIS_7_0, Version::VALKEY_9] {
                let want = [
                    "#!lua name=x\\n",
                    "0 a 5 None None",
                    "0 123 4 Some(77) Some(Idle(9))",
                    "5 kkk 3000000 None Some(Frequency(3))",
                ];
                assert_eq!(read(&sample(Format { version, compress }, 3_000_000)).unwrap(), want);
            }
        }
    }

    #[test]
    fn no_damage_goes_unnoticed() {
        let file = sample(Format::default(), 300);
        for at in 0..file.len() - 8 {
            let mut damaged = file.clone();
            damaged[at] ^= 0x21;
            assert!(read(&damaged).is_err(), "byte {at}");
            assert!(read(&file[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn what_follows_the_file_is_left_alone() {
        let mut bytes = sample(Format::default(), 300);
        let len = bytes.len();
        bytes.extend(b"*1\r\n$4\r\nPING\r\n");
        let mut source = &bytes[..];
        let mut file = RdbFile::open(&mut source).unwrap();
        while file.next_block().unwrap().is_some() {}
        assert_eq!(file.offset(), len as u64);
        assert_eq!(file.into_rest().0, b"*1\r\n$4\r\nPING\r\n");
    }

    #[test]
    fn a_value_that_cannot_be_read_is_named() {
        let mut bytes = b"REDIS0010\xfc\x01\0\0\0\0\0\0\0\x63\x03key\x01x\xff".to_vec();
        bytes.extend(0u64.to_le_bytes());
        let error = read(&bytes).unwrap_err().to_string();
        assert_eq!(error, "at byte 9, key 'key': unknown type of value: 99");
        assert!(matches!(read(b"REDISx010"), Err(FileError::NoRdb)));
        assert!(matches!(read(b"REDIS0000"), Err(FileError::Version(0))));
        assert!(matches!(read(b"hello"), Err(FileError::NoRdb)));
    }
}
