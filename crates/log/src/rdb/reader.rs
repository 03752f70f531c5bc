//! Reads the elementary parts of the RDB format from a slice. Never trusts a length: what a claim would take is compared with
//! what is there before anything is reserved.

use super::types::{encoding, module};
use super::{RdbError, lzf};
use kelda_store::Str;
use kelda_store::str::parse_int;

/// A place in a slice that is read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

/// A string as it was read.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// It was written as an integer.
    Int(i64),
    /// It lies in the input.
    Borrowed(&'a [u8]),
    /// It was compressed.
    Owned(Vec<u8>),
}

impl Text<'_> {
    /// The string as an element.
    pub fn as_str(&self) -> Str<'_> {
        match self {
            Text::Int(n) => Str::Int(*n),
            Text::Borrowed(bytes) => Str::Bytes(bytes),
            Text::Owned(bytes) => Str::Bytes(bytes),
        }
    }

    /// Calls `f` with the bytes.
    pub fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        self.as_str().with_bytes(f)
    }

    /// The bytes.
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Text::Owned(bytes) => bytes,
            other => other.as_str().to_vec(),
        }
    }

    /// The integer whose canonical text this is.
    pub fn int(&self) -> Option<i64> {
        match self {
            Text::Int(n) => Some(*n),
            Text::Borrowed(bytes) => parse_int(bytes),
            Text::Owned(bytes) => parse_int(bytes),
        }
    }
}

/// Bytes of a string, at most: blocks and keys of ours end at 4 GiB, with a little for what stands around it.
const TEXT_BYTES_MAX: u64 = (1 << 32) - (1 << 10);

/// A length, or a special encoding.
enum Head {
    Len(u64),
    Encoding(u8),
}

impl<'a> Reader<'a> {
    /// Begins at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether all is read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], RdbError> {
        self.rest.split_off(..count).ok_or(RdbError::Truncated)
    }

    /// The next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(RdbError::Truncated)?;
        self.rest = rest;
        Ok(*array)
    }

    /// The next byte.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, RdbError> {
        self.rest.split_off_first().copied().ok_or(RdbError::Truncated)
    }

    #[inline]
    fn head(&mut self) -> Result<Head, RdbError> {
        let first = self.byte()?;
        Ok(match first >> 6 {
            0 => Head::Len(u64::from(first)),
            1 => Head::Len(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            2 => match first {
                0x80 => Head::Len(u64::from(u32::from_be_bytes(self.array()?))),
                0x81 => Head::Len(u64::from_be_bytes(self.array()?)),
                _ => return Err(RdbError::Corrupt("unknown form of a length")),
            },
            _ => Head::Encoding(first & 0x3f),
        })
    }

    /// A number in the form of lengths.
    #[inline]
    pub fn number(&mut self) -> Result<u64, RdbError> {
        match self.head()? {
            Head::Len(number) => Ok(number),
            Head::Encoding(_) => Err(RdbError::Corrupt("a string where a length should be")),
        }
    }

    /// A number of elements, each of which takes at least `bytes_min` bytes.
    ///
    /// More than can follow is an end before the end, so that a file's reader waits for the rest of it.
    #[inline]
    pub fn count(&mut self, bytes_min: usize) -> Result<usize, RdbError> {
        let count = usize::try_from(self.number()?).map_err(|_| RdbError::Truncated)?;
        if count > self.rest.len() / bytes_min.max(1) { Err(RdbError::Truncated) } else { Ok(count) }
    }

    /// The bytes of a string.
    fn bytes_len(&mut self, len: u64) -> Result<&'a [u8], RdbError> {
        if len > TEXT_BYTES_MAX {
            return Err(RdbError::Unsupported("strings of 4 GiB or more"));
        }
        self.take(len as usize)
    }

    /// A string.
    #[inline]
    pub fn text(&mut self) -> Result<Text<'a>, RdbError> {
        Ok(match self.head()? {
            Head::Len(len) => Text::Borrowed(self.bytes_len(len)?),
            Head::Encoding(encoding::INT_8) => Text::Int(i64::from(i8::from_le_bytes(self.array()?))),
            Head::Encoding(encoding::INT_16) => Text::Int(i64::from(i16::from_le_bytes(self.array()?))),
            Head::Encoding(encoding::INT_32) => Text::Int(i64::from(i32::from_le_bytes(self.array()?))),
            Head::Encoding(encoding::LZF) => {
                let (compressed, plain) = (self.number()?, self.number()?);
                let compressed = self.bytes_len(compressed)?;
                let plain = usize::try_from(plain).ok().filter(|plain| *plain as u64 <= TEXT_BYTES_MAX);
                let bytes = plain.and_then(|plain| lzf::decompress(compressed, plain));
                Text::Owned(bytes.ok_or(RdbError::Corrupt("damaged compressed string"))?)
            }
            Head::Encoding(_) => return Err(RdbError::Corrupt("unknown encoding of a string")),
        })
    }

    /// Passes over a string.
    #[inline]
    pub fn skip_text(&mut self) -> Result<(), RdbError> {
        let len = match self.head()? {
            Head::Len(len) => len,
            Head::Encoding(encoding @ encoding::INT_8..=encoding::INT_32) => 1 << encoding,
            Head::Encoding(encoding::LZF) => {
                let (compressed, _plain) = (self.number()?, self.number()?);
                compressed
            }
            Head::Encoding(_) => return Err(RdbError::Corrupt("unknown encoding of a string")),
        };
        self.bytes_len(len).map(|_| ())
    }

    /// The bytes of a string: of a packed collection, for instance.
    pub fn blob(&mut self) -> Result<std::borrow::Cow<'a, [u8]>, RdbError> {
        Ok(match self.text()? {
            Text::Borrowed(bytes) => bytes.into(),
            other => other.into_vec().into(),
        })
    }

    /// Eight bytes as a signed number, the lowest first: a time.
    pub fn i64_le(&mut self) -> Result<i64, RdbError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// A score of eight bytes.
    #[inline]
    pub fn double(&mut self) -> Result<f64, RdbError> {
        not_nan(f64::from_le_bytes(self.array()?))
    }

    /// A score as text, as before RDB version 8.
    pub fn double_text(&mut self) -> Result<f64, RdbError> {
        match self.byte()? {
            253 => Err(RdbError::Corrupt(NAN)),
            254 => Ok(f64::INFINITY),
            255 => Ok(f64::NEG_INFINITY),
            len => score(self.take(usize::from(len))?),
        }
    }

    /// Passes over what modules noted about a key: for each, four bytes and the parts of a value.
    pub fn skip_key_meta(&mut self) -> Result<(), RdbError> {
        for _ in 0..self.count(5)? {
            self.take(4)?;
            self.skip_module()?;
        }
        Ok(())
    }

    /// Passes over the parts of a module's value, or of its data beside the keys.
    pub fn skip_module(&mut self) -> Result<(), RdbError> {
        loop {
            let part = self.number()?;
            match u8::try_from(part) {
                Ok(module::EOF) => return Ok(()),
                Ok(module::SIGNED | module::UNSIGNED) => _ = self.number()?,
                Ok(module::FLOAT) => _ = self.take(4)?,
                Ok(module::DOUBLE) => _ = self.take(8)?,
                Ok(module::STRING) => self.skip_text()?,
                _ => return Err(RdbError::Corrupt("unknown part of a module's data")),
            }
        }
    }
}

const NAN: &str = "a score that is no number";

/// A score written as text.
pub fn score(text: &[u8]) -> Result<f64, RdbError> {
    let ascii = str::from_utf8(text).ok().and_then(|text| text.trim_start().parse().ok());
    not_nan(kelda_resp::number::parse_f64(text).or(ascii).ok_or(RdbError::Corrupt(NAN))?)
}

fn not_nan(score: f64) -> Result<f64, RdbError> {
    if score.is_nan() { Err(RdbError::Corrupt(NAN)) } else { Ok(score) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_are_not_there_are_refused() {
        for claim in [&b"\x81\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"\x80\xff\xff\xff\xff", b"\x7f\xff", b"\x3f"] {
            assert!(matches!(Reader::new(claim).text(), Err(RdbError::Truncated | RdbError::Unsupported(_))));
            assert!(matches!(Reader::new(claim).count(1), Err(RdbError::Truncated)));
        }
        // A byte that claims to expand to gigabytes.
        assert!(matches!(Reader::new(b"\xc3\x01\x80\xff\xff\xff\xff\x00").text(), Err(RdbError::Corrupt(_))));
    }

    #[test]
    fn skipping_ends_where_reading_does() {
        for text in
            [&b"\x03abc"[..], b"\xc0\xff", b"\xc1\xff\x01", b"\xc2\xff\x01\x02\x03", b"\xc3\x05\x0a\x00a\xe0\x00\x00"]
        {
            let mut padded = text.to_vec();
            padded.push(9);
            let (mut read, mut skip) = (Reader::new(&padded), Reader::new(&padded));
            read.text().unwrap();
            skip.skip_text().unwrap();
            assert_eq!((read.remaining(), skip.remaining()), (1, 1), "{text:?}");
        }
    }
}
