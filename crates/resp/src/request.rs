//! Incremental parser of client requests: multibulk (`*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`) and inline (`GET k\r\n`).
//!
//! Zero-copy for multibulk: arguments are reported as [`Span`]s of the caller's buffer. Progress through a partly
//! received multibulk is kept between calls, so each byte is looked at once however the stream is cut. The commands
//! and errors found depend only on the bytes, never on how they were cut into reads.

use crate::number::parse_i64;
use memchr::memchr2;

/// Most arguments a client may send before it has authenticated.
const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
/// Longest argument, in bytes, a client may send before it has authenticated.
const UNAUTHENTICATED_BULK_BYTES_MAX: i64 = 16_384;
/// Arguments for which room is made before any has arrived; the announced count is not to be trusted further.
const ARGS_RESERVE_MAX: usize = 1024;

/// A byte range of the buffer handed to [`RequestParser::next`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl Span {
    /// The bytes of this span in the buffer that was parsed.
    ///
    /// # Panics
    /// If `buf` is shorter than the buffer that was parsed.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        &buf[self.start..self.end]
    }
}

/// What a client may send.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Longest argument in bytes (`proto-max-bulk-len`).
    pub bulk_bytes_max: usize,
    /// False as long as the client has yet to authenticate: at most 10 arguments of at most 16,384 bytes.
    pub authenticated: bool,
    /// Longest inline request or length line, in bytes, its line end not counted.
    pub inline_bytes_max: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        RequestLimits { bulk_bytes_max: 512 << 20, authenticated: true, inline_bytes_max: 64 << 10 }
    }
}

/// The outcome of one call of [`RequestParser::next`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A multibulk command; the spans of its arguments, at least one, were appended to `spans`.
    Command {
        /// Bytes of the buffer it took.
        consumed: usize,
    },
    /// An inline command of at least one argument, quotes and escapes resolved.
    Inline {
        /// Bytes of the buffer it took, its line end included.
        consumed: usize,
        /// The arguments.
        args: Vec<Vec<u8>>,
    },
    /// Nothing to run: an empty line, or a multibulk of no or a negative number of arguments.
    Skip {
        /// Bytes of the buffer it took.
        consumed: usize,
    },
    /// The buffer ends before the request does.
    Incomplete {
        /// At least this many bytes, one or more, are still missing. Large only while a large bulk is under way.
        need: usize,
    },
}

/// A violation of the protocol, after which the connection is to be closed.
/// Holds the text that follows `-ERR Protocol error: ` in the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolError(pub String);

impl ProtocolError {
    fn new(text: &str) -> Self {
        ProtocolError(text.to_owned())
    }
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Protocol error: {}", self.0)
    }
}

impl std::error::Error for ProtocolError {}

/// Most words of a request that [`whole_request`] takes.
pub const SHORT_WORDS_MAX: usize = 9;

/// The words of the request at `at`, if it is as nearly all are: all there, a multibulk of at most nine words shorter than
/// 10,000 bytes. Puts their spans in `buf` into `words` and returns how many there are, and where the request ends. `None` leaves
/// it to [`RequestParser::next`], which finds the same in it, only slower. O(words).
#[inline(always)]
pub fn whole_request(buf: &[u8], at: usize, words: &mut [Span; SHORT_WORDS_MAX]) -> Option<(usize, usize)> {
    let [b'*', count @ b'1'..=b'9', b'\r', _, ..] = buf.get(at..)? else { return None };
    let count = usize::from(count - b'0');
    let mut at = at + 4;
    for word in words.iter_mut().take(count) {
        *word = short_bulk(buf, at)?;
        at = word.end + 2;
    }
    Some((count, at))
}

/// The bytes of the bulk string at `at`, if it has up to 9,999 and is all there.
#[inline(always)]
fn short_bulk(buf: &[u8], at: usize) -> Option<Span> {
    let digit = |byte: u8| usize::from(byte.wrapping_sub(b'0'));
    // Not even the empty one is shorter.
    let head: &[u8; 6] = buf.get(at..)?.first_chunk()?;
    let mut len = digit(head[1]);
    if head[0] != b'$' || len > 9 {
        return None;
    }
    let mut digits = 1;
    if head[2] != b'\r' {
        // A number does not begin with zero.
        if len == 0 {
            return None;
        }
        loop {
            let next = digit(head[1 + digits]);
            if next > 9 {
                return None;
            }
            len = 10 * len + next;
            digits += 1;
            if head[1 + digits] == b'\r' {
                break;
            }
            if digits == 4 {
                return None;
            }
        }
    }
    // Quirk: the two bytes after a bulk are skipped, not compared with CRLF.
    let start = at + digits + 3;
    (buf.len() >= start + len + 2).then_some(Span { start, end: start + len })
}

/// The parser of one connection's requests.
#[derive(Debug, Default)]
pub struct RequestParser {
    /// Arguments of the multibulk under way still to be parsed; 0 between requests.
    args_missing: u32,
    /// Length of the argument under way, once its `$` line has been read.
    bulk_bytes: Option<u32>,
    /// Where in the buffer to go on.
    position: usize,
    /// Arguments found so far of a multibulk that was cut; moved to the caller when it is complete.
    partial: Vec<Span>,
}

impl RequestParser {
    /// How much of the buffer it has taken for arguments of a request that was cut.
    #[inline]
    pub fn parsed_bytes(&self) -> usize {
        self.position
    }

    /// Whether the next byte begins a request.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.args_missing == 0
    }

    /// Parses the next request of `buf`, which begins at the first unconsumed byte.
    ///
    /// After [`Step::Incomplete`] the next call must bring a buffer that begins at the same byte and is longer;
    /// `spans` is then as it was before the call. After any other step the caller drops `consumed` bytes, or passes
    /// the rest of the buffer (new spans are relative to what is passed).
    ///
    /// # Errors
    /// [`ProtocolError`] with Redis's text; the parser is of no further use. A single request of 4 GiB or more is
    /// refused; Redis's query buffer limit (1 GB by default) lies below.
    pub fn next(&mut self, buf: &[u8], limits: &RequestLimits, spans: &mut Vec<Span>) -> Result<Step, ProtocolError> {
        if self.args_missing == 0 {
            match buf.first() {
                None => return Ok(Step::Incomplete { need: 1 }),
                Some(b'*') => {}
                Some(_) => return inline(buf, limits),
            }
            let Some((count, after)) = length_line(buf, 0, limits, "too big mbulk count string")? else {
                return Ok(Step::Incomplete { need: 1 });
            };
            let count = count
                .filter(|&count| count <= i64::from(i32::MAX))
                .ok_or_else(|| ProtocolError::new("invalid multibulk length"))?;
            if count > UNAUTHENTICATED_ARGS_MAX && !limits.authenticated {
                return Err(ProtocolError::new("unauthenticated multibulk length"));
            }
            if count <= 0 {
                return Ok(Step::Skip { consumed: after });
            }
            self.args_missing = count as u32; // 1..=i32::MAX
            self.position = after;
            // The usual case, a request that is all there: straight into the caller's list.
            let spans_before = spans.len();
            spans.reserve((count as usize).min(ARGS_RESERVE_MAX));
            if let Some(need) = self.arguments(buf, limits, spans)? {
                self.partial.extend_from_slice(&spans[spans_before..]);
                spans.truncate(spans_before);
                return Ok(Step::Incomplete { need });
            }
        } else {
            let mut partial = std::mem::take(&mut self.partial);
            let need = self.arguments(buf, limits, &mut partial)?;
            self.partial = partial;
            if let Some(need) = need {
                return Ok(Step::Incomplete { need });
            }
            spans.extend_from_slice(&self.partial);
            self.partial = Vec::new(); // it may have grown large
        }
        Ok(Step::Command { consumed: std::mem::take(&mut self.position) })
    }

    /// Parses arguments from `self.position` on. `Some(need)` if the buffer ends first.
    fn arguments(
        &mut self,
        buf: &[u8],
        limits: &RequestLimits,
        spans: &mut Vec<Span>,
    ) -> Result<Option<usize>, ProtocolError> {
        while self.args_missing > 0 {
            let bytes = match self.bulk_bytes {
                Some(bytes) => bytes,
                None => {
                    let at = self.position;
                    // Redis complains about another type byte only when it has the whole line.
                    let Some((length, after)) = length_line(buf, at, limits, "too big bulk count string")? else {
                        return Ok(Some(1));
                    };
                    // A line was found at `at`, so there is a byte.
                    if buf[at] != b'$' {
                        return Err(ProtocolError(format!("expected '$', got '{}'", shown(buf[at]))));
                    }
                    let length = length
                        .filter(|&length| length >= 0 && length as u64 <= limits.bulk_bytes_max as u64)
                        .ok_or_else(|| ProtocolError::new("invalid bulk length"))?;
                    if length > UNAUTHENTICATED_BULK_BYTES_MAX && !limits.authenticated {
                        return Err(ProtocolError::new("unauthenticated bulk length"));
                    }
                    if after as u64 + length as u64 + 2 > u64::from(u32::MAX) {
                        return Err(ProtocolError::new("too big request"));
                    }
                    self.position = after;
                    self.bulk_bytes = Some(length as u32);
                    length as u32
                }
            };
            let start = self.position;
            let end = start + bytes as usize;
            // Quirk: the two bytes after a bulk are skipped, not compared with CRLF.
            if buf.len() < end + 2 {
                return Ok(Some(end + 2 - buf.len()));
            }
            spans.push(Span { start, end });
            self.position = end + 2;
            self.bulk_bytes = None;
            self.args_missing -= 1;
        }
        Ok(None)
    }
}

/// Reads the line `<type byte><decimal>\r?` at `at` (quirk: the byte after `\r` is skipped, whatever it is).
/// `None` if it is not all there; else the number, if it is one, and the offset after the line.
#[inline(always)] // the usual case then needs no wide result in memory
fn length_line(
    buf: &[u8],
    at: usize,
    limits: &RequestLimits,
    too_big: &str,
) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
    let line = buf.get(at..).unwrap_or_default();
    // Nearly every length has one or two digits: no call for these.
    match *line {
        [_, digit @ b'1'..=b'9', b'\r', _, ..] => Ok(Some((Some(i64::from(digit - b'0')), at + 4))),
        [_, tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', _, ..] => {
            Ok(Some((Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')), at + 5)))
        }
        _ => long_length_line(line, at, limits, too_big),
    }
}

/// [`length_line`] for any length; `line` is the buffer from `at` on.
#[inline(never)]
fn long_length_line(
    line: &[u8],
    at: usize,
    limits: &RequestLimits,
    too_big: &str,
) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
    let window = &line[..line.len().min(limits.inline_bytes_max + 1)];
    // Quirk: a NUL byte hides the line end, as in inline requests.
    match memchr2(b'\r', 0, window).filter(|&end| window[end] == b'\r') {
        Some(end) if line.len() >= end + 2 => Ok(Some((parse_i64(&line[1.min(end)..end]), at + end + 2))),
        Some(_) => Ok(None),
        None if line.len() > limits.inline_bytes_max => Err(ProtocolError::new(too_big)),
        None => Ok(None),
    }
}

/// A byte as it stands in an error text, where line ends would break the reply.
fn shown(byte: u8) -> char {
    match byte {
        b'\r' | b'\n' => ' ',
        0..=0x7f => byte as char,
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// Parses an inline request: a line that does not begin with `*`.
fn inline(buf: &[u8], limits: &RequestLimits) -> Result<Step, ProtocolError> {
    let window = &buf[..buf.len().min(limits.inline_bytes_max + 1)];
    // Quirk: a NUL byte hides the line end, so the request can only end as too big. Redis's defence against
    // binary garbage rests on it.
    let end = match memchr2(b'\n', 0, window) {
        Some(end) if window[end] == b'\n' => end,
        _ if buf.len() > limits.inline_bytes_max => {
            return Err(ProtocolError::new("too big inline request"));
        }
        _ => return Ok(Step::Incomplete { need: 1 }),
    };
    let line = &buf[..end];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let args = split_args(line).ok_or_else(|| ProtocolError::new("unbalanced quotes in request"))?;
    let consumed = end + 1;
    Ok(if args.is_empty() { Step::Skip { consumed } } else { Step::Inline { consumed, args } })
}

/// Splits a line into arguments as Redis does for inline commands and configuration lines: separated by blanks,
/// `"..."` with `\n \r \t \b \a \xHH` and `\` before any other byte, `'...'` with `\'` only.
/// `None` if a quote is not closed, or is closed and not followed by a blank.
pub fn split_args(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut args = Vec::new();
    let mut rest = line;
    loop {
        while let [first, tail @ ..] = rest
            && is_space(*first)
        {
            rest = tail;
        }
        if matches!(rest, [] | [0, ..]) {
            return Some(args);
        }
        let mut arg = Vec::new();
        rest = one_arg(rest, &mut arg)?;
        args.push(arg);
    }
}

/// C's `isspace` in the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Takes one argument off the front of `rest`; returns what follows.
fn one_arg<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [b'"', tail @ ..] => return after_quote(double_quoted(tail, arg)?),
            [b'\'', tail @ ..] => return after_quote(single_quoted(tail, arg)?),
            // Quirk: vertical tab and form feed separate only after a blank.
            [] | [b' ' | b'\n' | b'\r' | b'\t' | 0, ..] => return Some(rest),
            [byte, tail @ ..] => {
                arg.push(*byte);
                rest = tail;
            }
        }
    }
}

/// A closing quote must be followed by a blank or the end.
fn after_quote(rest: &[u8]) -> Option<&[u8]> {
    match rest.first() {
        Some(&byte) if byte != 0 && !is_space(byte) => None,
        _ => Some(rest),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, tail) = match rest {
            [b'\\', b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex_digit(*high) << 4 | hex_digit(*low), tail)
            }
            [b'\\', escaped, tail @ ..] => (unescape(*escaped), tail),
            [b'"', tail @ ..] => return Some(tail),
            [] | [0, ..] => return None,
            [byte, tail @ ..] => (*byte, tail),
        };
        arg.push(byte);
        rest = tail;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, tail) = match rest {
            [b'\\', b'\'', tail @ ..] => (b'\'', tail),
            [b'\'', tail @ ..] => return Some(tail),
            [] | [0, ..] => return None,
            [byte, tail @ ..] => (*byte, tail),
        };
        arg.push(byte);
        rest = tail;
    }
}

/// The byte that `\` and `byte` stand for between double quotes.
fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

/// The value of an ASCII hexadecimal digit (any other byte gives no meaningful value).
fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        _ => (byte | 0x20).wrapping_sub(b'a' - 10),
    }
}
