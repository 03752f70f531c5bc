//! RESP values as data: decoding replies and encoding commands, for tests, clients and the Lua bridge.

use crate::number::parse_i64;
use memchr::memchr;

/// How deep aggregates may nest.
pub const DEPTH_MAX: usize = 128;
/// Elements for which room is made before any has arrived; an announced length is not to be trusted further.
const ELEMENTS_RESERVE_MAX: usize = 1024;

/// A RESP2 or RESP3 value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `+`: a short text.
    Status(Vec<u8>),
    /// `-` or `!`: code and message.
    Error(Vec<u8>),
    /// `:`: an integer.
    Int(i64),
    /// `$`: a string of any bytes.
    Bulk(Vec<u8>),
    /// `$-1` or `_`: no value.
    Null,
    /// `*-1`: no array.
    NullArray,
    /// `*`: a list.
    Array(Vec<Value>),
    /// `%`: keys and values, in the order sent.
    Map(Vec<(Value, Value)>),
    /// `~`: a set, in the order sent.
    Set(Vec<Value>),
    /// `>`: an out-of-band message.
    Push(Vec<Value>),
    /// `,`: a double.
    Double(Double),
    /// `#`: a boolean.
    Bool(bool),
    /// `=`: a text and its format.
    Verbatim {
        /// Such as `txt` or `mkd`.
        format: [u8; 3],
        /// The text alone.
        text: Vec<u8>,
    },
    /// `(`: an integer of any size, as its digits.
    BigNumber(Vec<u8>),
    /// `|`: a value with attributes before it.
    Attribute {
        /// The attributes.
        pairs: Vec<(Value, Value)>,
        /// What they describe.
        value: Box<Value>,
    },
}

/// A double and the text it came as; equal if the texts are.
#[derive(Clone, Debug)]
pub struct Double {
    /// The number; NaN for `nan`.
    pub value: f64,
    /// As received.
    pub text: Vec<u8>,
}

impl PartialEq for Double {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl From<f64> for Double {
    fn from(value: f64) -> Self {
        let mut text = Vec::new();
        crate::format_f64(value, &mut text);
        Double { value, text }
    }
}

/// Why bytes are no RESP value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// An unknown type byte.
    Type(u8),
    /// A number that is none, or a negative length.
    Number,
    /// No CRLF where one must be.
    LineEnd,
    /// A boolean other than `t` and `f`, or a verbatim string without its format.
    Malformed,
    /// More than [`DEPTH_MAX`] aggregates within one another.
    TooDeep,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DecodeError::Type(byte) => write!(f, "unknown type byte {byte:#04x}"),
            DecodeError::Number => f.write_str("invalid number"),
            DecodeError::LineEnd => f.write_str("line end missing"),
            DecodeError::Malformed => f.write_str("malformed value"),
            DecodeError::TooDeep => f.write_str("nested too deep"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Why decoding stopped: internal to this module, where running out of bytes is the most common reason.
enum Stop {
    Incomplete,
    Error(DecodeError),
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Stop::Error(error)
    }
}

/// Decodes the value at the front of `buf`, and how many bytes it took. `None` if it is not all there.
///
/// Begins anew on each call, so feeding a large value in small pieces costs quadratic time.
///
/// # Errors
/// [`DecodeError`] if `buf` can be the beginning of no value.
pub fn decode(buf: &[u8]) -> Result<Option<(Value, usize)>, DecodeError> {
    let mut decoder = Decoder { buf, position: 0 };
    match decoder.value(0) {
        Ok(value) => Ok(Some((value, decoder.position))),
        Err(Stop::Incomplete) => Ok(None),
        Err(Stop::Error(error)) => Err(error),
    }
}

/// Appends a command as a client sends it: an array of bulk strings.
pub fn encode_command(out: &mut Vec<u8>, args: &[impl AsRef<[u8]>]) {
    let mut writer = crate::Writer::new(crate::Protocol::Resp2);
    writer.buf = std::mem::take(out);
    writer.array(args.len());
    for arg in args {
        writer.bulk(arg.as_ref());
    }
    *out = writer.buf;
}

struct Decoder<'a> {
    buf: &'a [u8],
    position: usize,
}

impl<'a> Decoder<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        if depth > DEPTH_MAX {
            return Err(DecodeError::TooDeep.into());
        }
        let kind = *self.buf.get(self.position).ok_or(Stop::Incomplete)?;
        if !b"+-:$*%~>,#=(|!_".contains(&kind) {
            return Err(DecodeError::Type(kind).into());
        }
        self.position += 1;
        let line = self.line()?;
        Ok(match kind {
            b'+' => Value::Status(line.to_vec()),
            b'-' => Value::Error(line.to_vec()),
            b':' => Value::Int(parse_i64(line.strip_prefix(b"+").unwrap_or(line)).ok_or(DecodeError::Number)?),
            b'$' if line == b"-1" => Value::Null,
            b'$' => Value::Bulk(self.bytes(line)?.to_vec()),
            b'*' if line == b"-1" => Value::NullArray,
            b'*' => Value::Array(self.values(line, depth)?),
            b'~' => Value::Set(self.values(line, depth)?),
            b'>' => Value::Push(self.values(line, depth)?),
            b'%' => Value::Map(self.pairs(line, depth)?),
            b'|' => {
                let pairs = self.pairs(line, depth)?;
                Value::Attribute { pairs, value: Box::new(self.value(depth + 1)?) }
            }
            b',' => {
                let text = str::from_utf8(line).map_err(|_| DecodeError::Number)?;
                let value = text.parse().map_err(|_| DecodeError::Number)?;
                Value::Double(Double { value, text: line.to_vec() })
            }
            b'#' => match line {
                b"t" => Value::Bool(true),
                b"f" => Value::Bool(false),
                _ => return Err(DecodeError::Malformed.into()),
            },
            b'=' => match self.bytes(line)? {
                &[a, b, c, b':', ref text @ ..] => Value::Verbatim { format: [a, b, c], text: text.to_vec() },
                _ => return Err(DecodeError::Malformed.into()),
            },
            b'(' => {
                let digits = line.strip_prefix(b"-").unwrap_or(line);
                if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                    return Err(DecodeError::Number.into());
                }
                Value::BigNumber(line.to_vec())
            }
            b'!' => Value::Error(self.bytes(line)?.to_vec()),
            // `_`: the only one left of the types checked above.
            _ if line.is_empty() => Value::Null,
            _ => return Err(DecodeError::Malformed.into()),
        })
    }

    /// The rest of the line, without its CRLF.
    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = self.buf.get(self.position..).unwrap_or_default();
        let end = memchr(b'\r', rest).ok_or(Stop::Incomplete)?;
        match rest.get(end + 1) {
            None => Err(Stop::Incomplete),
            Some(b'\n') => {
                self.position += end + 2;
                Ok(&rest[..end])
            }
            Some(_) => Err(DecodeError::LineEnd.into()),
        }
    }

    /// As many bytes as `length` says, and CRLF.
    fn bytes(&mut self, length: &[u8]) -> Result<&'a [u8], Stop> {
        let length = self::length(length)?;
        let rest = self.buf.get(self.position..).unwrap_or_default();
        let (bytes, after) = rest.split_at_checked(length).ok_or(Stop::Incomplete)?;
        match after {
            [b'\r', b'\n', ..] => {
                self.position += length + 2;
                Ok(bytes)
            }
            [] | [b'\r'] => Err(Stop::Incomplete),
            _ => Err(DecodeError::LineEnd.into()),
        }
    }

    fn values(&mut self, length: &[u8], depth: usize) -> Result<Vec<Value>, Stop> {
        let length = self::length(length)?;
        let mut values = Vec::with_capacity(length.min(ELEMENTS_RESERVE_MAX));
        for _ in 0..length {
            values.push(self.value(depth + 1)?);
        }
        Ok(values)
    }

    fn pairs(&mut self, length: &[u8], depth: usize) -> Result<Vec<(Value, Value)>, Stop> {
        let length = self::length(length)?;
        let mut pairs = Vec::with_capacity(length.min(ELEMENTS_RESERVE_MAX));
        for _ in 0..length {
            pairs.push((self.value(depth + 1)?, self.value(depth + 1)?));
        }
        Ok(pairs)
    }
}

fn length(text: &[u8]) -> Result<usize, DecodeError> {
    parse_i64(text).and_then(|length| usize::try_from(length).ok()).ok_or(DecodeError::Number)
}
