//! Frames: what a checked increment consists of, from its first byte to its last.
//!
//! A frame is an annotation line of fixed width and a body. Redis and Valkey skip lines that begin with `#`, so that they
//! read the bodies as an ordinary append-only file:
//!
//! ```text
//! #K:0000006b:00000000000004d2:9a3f01cc\r\n
//!  │ │        │                └ CRC-32C of the body, then of kind and length (4 bytes each), LSN and salt (8 each)
//!  │ │        └ LSN
//!  │ └ length of the body in bytes
//!  └ kind: H header, K record, M mark, F manifest
//! ```
//!
//! Every bit of a frame is covered: the text of the line is canonical (lower-case digits, fixed punctuation), and the
//! sum covers what it says and the body. The salt is a random number of the file, told by its header: what an older file
//! left on the disk is no frame of this one, nor is what a client stores in a value, however well it is made up. Headers
//! and manifests have salt 0. `docs/format.md` tells what the bodies are.

use super::{FORMAT, Lsn};
use crate::crc32c::{crc32c, crc32c_append};

/// Length of the line, with its end.
pub const HEAD: usize = 39;

/// What stands behind the last frame of a file that is being written, where room was made for more. No frame begins with two of
/// them; and Redis and Valkey, which read a line of at most 1,023 bytes and skip it if it begins with this, skip any number of
/// them.
pub(super) const FILL: u8 = b'#';

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first frame of an increment; the LSN is that of some record before its first.
    Header,
    /// Transactions as RESP commands, one or more; the LSN is the first one's.
    Record,
    /// What was known when it was written: the time, and which LSN was durable. The LSN is that of the record before.
    Mark,
    /// The checksum of a manifest.
    Manifest,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Header, Kind::Record, Kind::Mark, Kind::Manifest];

    /// The letter in the line.
    pub const fn letter(self) -> u8 {
        match self {
            Kind::Header => b'H',
            Kind::Record => b'K',
            Kind::Mark => b'M',
            Kind::Manifest => b'F',
        }
    }
}

/// The line of a frame, decoded but for the check of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the frame holds.
    pub kind: Kind,
    /// Length of the body in bytes.
    pub len: u32,
    /// See [`Kind`].
    pub lsn: Lsn,
    crc: u32,
}

impl Head {
    /// The line that belongs to a body whose CRC-32C is `body_crc`. A few nanoseconds.
    #[inline]
    pub fn encode(kind: Kind, len: u32, lsn: Lsn, salt: u64, body_crc: u32) -> [u8; HEAD] {
        let mut head = *b"#_:00000000:0000000000000000:00000000\r\n";
        head[1] = kind.letter();
        head[3..11].copy_from_slice(&hex(len));
        head[12..20].copy_from_slice(&hex((lsn >> 32) as u32));
        head[20..28].copy_from_slice(&hex(lsn as u32));
        head[29..37].copy_from_slice(&hex(seal(kind, len, lsn, salt, body_crc)));
        head
    }

    /// Decodes a line; nothing if it is none, in the least detail.
    pub fn decode(line: &[u8]) -> Option<Head> {
        let line: &[u8; HEAD] = line.get(..HEAD)?.try_into().ok()?;
        let punctuation = line[0] == b'#' && line[2] == b':' && line[11] == b':' && line[28] == b':';
        if !punctuation || line[37] != b'\r' || line[38] != b'\n' {
            return None;
        }
        let kind = Kind::ALL.into_iter().find(|kind| kind.letter() == line[1])?;
        let lsn = u64::from(unhex(&line[12..20])?) << 32 | u64::from(unhex(&line[20..28])?);
        Some(Head { kind, len: unhex(&line[3..11])?, lsn, crc: unhex(&line[29..37])? })
    }

    /// Whether this is the body that the line was written for.
    pub fn fits(&self, body: &[u8], salt: u64) -> bool {
        body.len() == self.len as usize && seal(self.kind, self.len, self.lsn, salt, crc32c(body)) == self.crc
    }
}

/// A whole frame. Nothing if the body is 4 GiB or more.
pub fn encode(kind: Kind, lsn: Lsn, salt: u64, body: &[u8]) -> Option<Vec<u8>> {
    let len = u32::try_from(body.len()).ok()?;
    let mut frame = Head::encode(kind, len, lsn, salt, crc32c(body)).to_vec();
    frame.extend_from_slice(body);
    Some(frame)
}

/// Continues the checksum of the body over the facts of the line. They come last so that the body, the long part, can be
/// summed up before the LSN is known.
#[inline]
fn seal(kind: Kind, len: u32, lsn: Lsn, salt: u64, body_crc: u32) -> u32 {
    let mut facts = [0; 24];
    facts[0] = kind.letter();
    facts[4..8].copy_from_slice(&len.to_le_bytes());
    facts[8..16].copy_from_slice(&lsn.to_le_bytes());
    facts[16..].copy_from_slice(&salt.to_le_bytes());
    crc32c_append(body_crc, &facts)
}

/// Length of the body of [`header`].
const HEADER: usize = 76;
/// Length of the body of [`mark`].
pub(super) const MARK: usize = 37;

/// The first frame of an increment.
pub(super) fn header(seq: u64, lsn: Lsn, salt: u64, now_ms: u64) -> Vec<u8> {
    let body = format!("#kelda {FORMAT:08x} seq {seq:016x} salt {salt:016x} ms {now_ms:012x}\r\n");
    debug_assert_eq!(body.len(), HEADER);
    encode(Kind::Header, lsn, 0, body.as_bytes()).unwrap_or_default()
}

/// What a header says besides its LSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the format.
    pub version: u32,
    /// Sequence number of the file.
    pub seq: u64,
    /// Salt of the file's frames.
    pub salt: u64,
    /// When the file was begun: Unix time in milliseconds.
    pub ms: u64,
}

impl Header {
    /// Reads the body of a header frame. A later version may have more behind the version.
    pub(super) fn decode(body: &[u8]) -> Option<Header> {
        let version = unhex(body.strip_prefix(b"#kelda ")?.get(..8)?)?;
        if version > FORMAT {
            return Some(Header { version, seq: 0, salt: 0, ms: 0 });
        }
        Some(Header { version, seq: unhex64(body, 20)?, salt: unhex64(body, 42)?, ms: unhex48(body, 62)? })
    }
}

/// A mark: at this time this LSN was durable.
pub(super) fn mark(lsn: Lsn, salt: u64, durable: Lsn, now_ms: u64) -> Vec<u8> {
    let body = format!("#D:{durable:016x} ms {now_ms:012x}\r\n");
    debug_assert_eq!(body.len(), MARK);
    encode(Kind::Mark, lsn, salt, body.as_bytes()).unwrap_or_default()
}

/// What a mark says: the durable LSN, and the Unix time in milliseconds.
pub(super) fn decode_mark(body: &[u8]) -> Option<(Lsn, u64)> {
    Some((unhex64(body, 3)?, unhex48(body, 23)?))
}

fn unhex64(text: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(unhex(text.get(at..at + 8)?)?) << 32 | u64::from(unhex(text.get(at + 8..at + 16)?)?))
}

fn unhex48(text: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(unhex(text.get(at..at + 4)?)?) << 32 | u64::from(unhex(text.get(at + 4..at + 12)?)?))
}

/// Eight lower-case hexadecimal digits, all at once.
#[inline]
fn hex(number: u32) -> [u8; 8] {
    // One nibble to each byte, the highest first in memory.
    let mut x = u64::from(number);
    x = (x << 16 | x) & 0x0000_ffff_0000_ffff;
    x = (x << 8 | x) & 0x00ff_00ff_00ff_00ff;
    x = (x << 4 | x) & 0x0f0f_0f0f_0f0f_0f0f;
    // A byte of 10 or more carries into its bit 4 when 6 is added: letters are 39 further than digits.
    let letters = (x + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (x + 0x3030_3030_3030_3030 + letters * 39).to_be_bytes()
}

/// The number that eight lower-case digits stand for.
fn unhex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u32::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_format() {
        for number in [0, 1, 9, 10, 15, 16, 0x1234_5678, 0x9abc_def0, u32::MAX, 0xa0a0_9f9f] {
            let text = hex(number);
            assert_eq!(text, format!("{number:08x}").as_bytes(), "{number}");
            assert_eq!(unhex(&text), Some(number));
        }
    }

    #[test]
    fn a_frame_reads_back() {
        let frame = encode(Kind::Record, 0x1234_5678_9abc_def0, 5, b"*1\r\n$4\r\nPING\r\n").unwrap();
        assert!(frame.starts_with(b"#K:0000000e:123456789abcdef0:"), "{:?}", String::from_utf8_lossy(&frame));
        let head = Head::decode(&frame).unwrap();
        assert_eq!((head.kind, head.len, head.lsn), (Kind::Record, 14, 0x1234_5678_9abc_def0));
        assert!(head.fits(&frame[HEAD..], 5));
        assert!(!head.fits(&frame[HEAD..], 4));
    }

    #[test]
    fn headers_and_marks_read_back() {
        let frame = header(7, 100, u64::MAX - 1, 1_700_000_000_123);
        let head = Head::decode(&frame).unwrap();
        assert!(head.fits(&frame[HEAD..], 0));
        assert_eq!((head.kind, head.lsn), (Kind::Header, 100));
        let header = Header { version: FORMAT, seq: 7, salt: u64::MAX - 1, ms: 1_700_000_000_123 };
        assert_eq!(Header::decode(&frame[HEAD..]), Some(header));
        let frame = mark(9, 3, 8, 1_700_000_000_123);
        assert!(Head::decode(&frame).unwrap().fits(&frame[HEAD..], 3));
        assert_eq!(decode_mark(&frame[HEAD..]), Some((8, 1_700_000_000_123)));
    }

    #[test]
    fn every_changed_bit_is_seen() {
        let frame = encode(Kind::Mark, 77, 1 << 63, b"#D:0000000000000001:00000000\r\n").unwrap();
        for at in 0..frame.len() {
            for bit in 0..8 {
                let mut bad = frame.clone();
                bad[at] ^= 1 << bit;
                let seen = Head::decode(&bad).is_none_or(|head| !head.fits(&bad[HEAD..], 1 << 63));
                assert!(seen, "byte {at}, bit {bit}");
            }
        }
    }
}
