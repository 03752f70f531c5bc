//! Replies appended to a byte buffer, in the connection's protocol version.
//!
//! The methods write one RESP value (or the header of an aggregate, after which the caller writes its elements).
//! What RESP2 lacks is written as clients of RESP2 expect it: a map as a flat array, a double as a bulk and so on.

use crate::Protocol;
use crate::number::format_f64;

/// Room for a type byte, 20 characters of a number and CRLF.
const NUMBER_LINE_BYTES_MAX: usize = 23;

/// An aggregate whose header is written when its length is known; see [`Writer::defer`].
#[derive(Debug)]
#[must_use = "the header is written by end_array, end_map or end_set"]
pub struct Deferred {
    /// Where the header belongs.
    at: usize,
}

/// A reply buffer.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    /// The replies so far.
    pub buf: Vec<u8>,
    /// The version to write.
    pub protocol: Protocol,
    /// How long the buffer may get: when it is longer, nobody will be sent what is in it.
    pub most: usize,
}

impl Writer {
    /// An empty buffer.
    pub fn new(protocol: Protocol) -> Self {
        Writer { buf: Vec::new(), protocol, most: usize::MAX }
    }

    /// Whether it is too long, so that there is no use in writing more.
    #[inline]
    pub fn is_overfull(&self) -> bool {
        self.buf.len() > self.most
    }

    /// Bytes written so far; with [`truncate`](Self::truncate) the mark to roll back to.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// Takes back everything after the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.buf.truncate(len);
    }

    /// Bytes that are RESP already.
    #[inline]
    pub fn raw(&mut self, resp: &[u8]) {
        self.buf.extend_from_slice(resp);
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    /// A status such as `PONG` or `QUEUED`; `text` must hold no line end.
    #[inline]
    pub fn status(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error, `text` being its code and message without the `-`. Line ends in it become spaces, but for those behind it.
    #[inline]
    pub fn error(&mut self, text: &str) {
        self.error_bytes(text.trim_end_matches(['\r', '\n']).as_bytes());
    }

    /// An error whose text quotes bytes of the client that need not be UTF-8. Line ends become spaces.
    pub fn error_bytes(&mut self, text: &[u8]) {
        self.buf.reserve(text.len() + 3);
        self.buf.push(b'-');
        self.buf.extend(text.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
        self.buf.extend_from_slice(b"\r\n");
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, value: i64) {
        match value {
            0 => self.raw(b":0\r\n"),
            1 => self.raw(b":1\r\n"),
            _ => self.line(b':', itoa::Buffer::new().format(value).as_bytes()),
        }
    }

    /// A string of any bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.buf.reserve(NUMBER_LINE_BYTES_MAX + bytes.len() + 2);
        self.header(b'$', bytes.len());
        self.buf.extend_from_slice(bytes);
        self.buf.extend_from_slice(b"\r\n");
    }

    /// A bulk string of `value` in decimal.
    #[inline]
    pub fn bulk_int(&mut self, value: i64) {
        self.bulk(itoa::Buffer::new().format(value).as_bytes());
    }

    /// No value: `$-1`, in RESP3 `_`.
    #[inline]
    pub fn null(&mut self) {
        self.raw(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// No array: `*-1`, in RESP3 `_`.
    #[inline]
    pub fn null_array(&mut self) {
        self.raw(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// The header of an array; `len` elements follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len);
    }

    /// The header of a map; `pairs` keys, each followed by its value, follow. RESP2: an array of `2 * pairs`.
    #[inline]
    pub fn map(&mut self, pairs: usize) {
        let (kind, len) = self.map_header(pairs);
        self.header(kind, len);
    }

    /// The header of a set; `len` elements follow. RESP2: an array.
    #[inline]
    pub fn set(&mut self, len: usize) {
        let kind = self.resp3_or_array(b'~');
        self.header(kind, len);
    }

    /// The header of an out-of-band message; `len` elements follow. RESP2: an array.
    #[inline]
    pub fn push(&mut self, len: usize) {
        let kind = self.resp3_or_array(b'>');
        self.header(kind, len);
    }

    /// The header of the attributes of the next value; `pairs` keys and values follow.
    /// RESP2 has no such thing: the caller must write neither this nor the pairs.
    pub fn attribute(&mut self, pairs: usize) {
        debug_assert_eq!(self.protocol, Protocol::Resp3, "RESP2 has no attributes");
        self.header(b'|', pairs);
    }

    /// A double, in RESP2 as a bulk string; the text is that of [`format_f64`].
    pub fn double(&mut self, value: f64) {
        match self.protocol {
            Protocol::Resp2 => {
                let mut text = Vec::with_capacity(32);
                format_f64(value, &mut text);
                self.bulk(&text);
            }
            Protocol::Resp3 => {
                self.buf.push(b',');
                format_f64(value, &mut self.buf);
                self.buf.extend_from_slice(b"\r\n");
            }
        }
    }

    /// A double of this text.
    pub fn double_text(&mut self, text: &[u8]) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => self.line(b',', text),
        }
    }

    /// A boolean; RESP2: the integer 1 or 0.
    pub fn bool(&mut self, value: bool) {
        self.raw(match (self.protocol, value) {
            (Protocol::Resp2, false) => b":0\r\n",
            (Protocol::Resp2, true) => b":1\r\n",
            (Protocol::Resp3, false) => b"#f\r\n",
            (Protocol::Resp3, true) => b"#t\r\n",
        });
    }

    /// A text and its format, three characters such as `txt` or `mkd`; RESP2: a bulk of the text.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        debug_assert_eq!(format.len(), 3, "a verbatim string's format has three bytes");
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.buf.reserve(NUMBER_LINE_BYTES_MAX + 4 + text.len() + 2);
                self.header(b'=', text.len() + 4);
                self.buf.extend_from_slice(format.as_bytes());
                self.buf.push(b':');
                self.buf.extend_from_slice(text);
                self.buf.extend_from_slice(b"\r\n");
            }
        }
    }

    /// An integer of any size as decimal text; RESP2: a bulk string.
    pub fn big_number(&mut self, digits: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(digits.as_bytes()),
            Protocol::Resp3 => self.line(b'(', digits.as_bytes()),
        }
    }

    /// Begins an aggregate whose length is not known yet: write its elements, then call one of the `end_` methods.
    /// Deferred aggregates may nest. Costs one move of the elements' bytes.
    pub fn defer(&mut self) -> Deferred {
        Deferred { at: self.buf.len() }
    }

    /// Ends a deferred array of `len` elements.
    pub fn end_array(&mut self, deferred: Deferred, len: usize) {
        self.insert_header(deferred, b'*', len);
    }

    /// Ends a deferred map of `pairs` keys and values.
    pub fn end_map(&mut self, deferred: Deferred, pairs: usize) {
        let (kind, len) = self.map_header(pairs);
        self.insert_header(deferred, kind, len);
    }

    /// Ends a deferred set of `len` elements.
    pub fn end_set(&mut self, deferred: Deferred, len: usize) {
        let kind = self.resp3_or_array(b'~');
        self.insert_header(deferred, kind, len);
    }

    fn map_header(&self, pairs: usize) -> (u8, usize) {
        match self.protocol {
            Protocol::Resp2 => (b'*', pairs * 2),
            Protocol::Resp3 => (b'%', pairs),
        }
    }

    fn resp3_or_array(&self, kind: u8) -> u8 {
        match self.protocol {
            Protocol::Resp2 => b'*',
            Protocol::Resp3 => kind,
        }
    }

    /// Moves the elements up by the length of the header and writes it before them.
    fn insert_header(&mut self, Deferred { at }: Deferred, kind: u8, len: usize) {
        // After a rollback past its beginning the aggregate no longer exists.
        let Some(elements_bytes) = self.buf.len().checked_sub(at) else {
            return;
        };
        self.header(kind, len);
        // What was just written moves from the end to the front.
        self.buf[at..].rotate_left(elements_bytes);
    }

    /// `<kind><len>\r\n`.
    #[inline]
    fn header(&mut self, kind: u8, len: usize) {
        // Of one write each: nearly every length has one or two digits.
        match len {
            0..10 => self.raw(&[kind, b'0' + len as u8, b'\r', b'\n']),
            10..100 => self.raw(&[kind, b'0' + (len / 10) as u8, b'0' + (len % 10) as u8, b'\r', b'\n']),
            _ => self.line(kind, itoa::Buffer::new().format(len).as_bytes()),
        }
    }

    /// `<kind><text>\r\n`.
    #[inline]
    fn line(&mut self, kind: u8, text: &[u8]) {
        self.buf.reserve(text.len() + 3);
        self.buf.push(kind);
        self.buf.extend_from_slice(text);
        self.buf.extend_from_slice(b"\r\n");
    }
}
