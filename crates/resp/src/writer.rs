//! Replies appended to a byte buffer, in the connection's protocol version.
//!
//! The methods write one RESP value (or the header of an aggregate, after which the caller writes its elements).
//! What RESP2 lacks is written as clients of RESP2 expect it: a map as a flat array, a double as a bulk and so on.
//!
//! A long string need not be copied into the buffer: [`Writer::bulk_shared`] notes where it belongs, and [`Writer::pieces`] shows
//! buffer and strings in order. Positions in a reply ([`Writer::len`]) count the buffer alone. Every such string has a
//! header before it and a line end behind it in the buffer, so no position between two replies is ambiguous.

use crate::Protocol;
use crate::number::format_f64;
use std::collections::{VecDeque, vec_deque};
use std::sync::Arc;

/// Room for a type byte, 20 characters of a number and CRLF.
const NUMBER_LINE_BYTES_MAX: usize = 23;

/// Longest string that is written without calling for a copy.
const SHORT_BYTES_MAX: usize = 64;

/// Copies up to [`SHORT_BYTES_MAX`] bytes to the front of `to`, which has room for them: two pieces of one size that may overlap.
#[inline(always)]
fn copy_short(to: &mut [u8], bytes: &[u8]) {
    macro_rules! in_pieces_of {
        ($size:literal) => {
            if let (Some(head), Some(tail)) = (bytes.first_chunk::<$size>(), bytes.last_chunk::<$size>()) {
                to[..$size].copy_from_slice(head);
                to[bytes.len() - $size..bytes.len()].copy_from_slice(tail);
                return;
            }
        };
    }
    in_pieces_of!(32);
    in_pieces_of!(16);
    in_pieces_of!(8);
    in_pieces_of!(4);
    to[..bytes.len()].iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
}

/// An aggregate whose header is written when its length is known; see [`Writer::defer`].
#[derive(Debug)]
#[must_use = "the header is written by end_array, end_map or end_set"]
pub struct Deferred {
    /// Where the header belongs.
    at: usize,
}

/// A string that belongs into the buffer and is not in it.
#[derive(Clone, Debug)]
struct Shared {
    /// Before this byte of the buffer.
    at: usize,
    bytes: Arc<Vec<u8>>,
}

/// A reply buffer.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    /// The replies so far, without the strings that are shared.
    pub buf: Vec<u8>,
    /// The version to write.
    pub protocol: Protocol,
    /// How many bytes there may be: when there are more, nobody will be sent them.
    pub most: usize,
    /// Whether strings may be shared: who only looks at `buf` would miss them.
    pub shares: bool,
    /// Strings that are shared, in order.
    shared: VecDeque<Shared>,
    /// Their bytes.
    shared_bytes: usize,
}

impl Writer {
    /// An empty buffer.
    pub fn new(protocol: Protocol) -> Self {
        Writer { protocol, most: usize::MAX, ..Writer::default() }
    }

    /// Whether it is too long, so that there is no use in writing more.
    #[inline]
    pub fn is_overfull(&self) -> bool {
        self.bytes() > self.most
    }

    /// Where the buffer ends: with [`truncate`](Self::truncate) the mark to roll back to.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Bytes written so far, those of shared strings included.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.buf.len() + self.shared_bytes
    }

    /// Bytes written since [`len`](Self::len) was `mark`; none if it has gone back behind that. O(shared strings since).
    #[inline]
    pub fn bytes_since(&self, mark: usize) -> usize {
        let own = self.buf.len().saturating_sub(mark);
        if self.shared.is_empty() { own } else { own + self.shared_since(mark) }
    }

    #[cold]
    fn shared_since(&self, mark: usize) -> usize {
        let shared = self.shared.iter().rev().take_while(|shared| shared.at > mark);
        shared.map(|shared| shared.bytes.len()).sum()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// Takes back everything after the first `len` bytes of the buffer.
    pub fn truncate(&mut self, len: usize) {
        self.buf.truncate(len);
        while let Some(last) = self.shared.pop_back_if(|last| last.at >= len) {
            self.shared_bytes -= last.bytes.len();
        }
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
        if bytes.len() <= SHORT_BYTES_MAX {
            return self.short_bulk(bytes);
        }
        self.buf.reserve(NUMBER_LINE_BYTES_MAX + bytes.len() + 2);
        self.header(b'$', bytes.len());
        self.buf.extend_from_slice(bytes);
        self.buf.extend_from_slice(b"\r\n");
    }

    /// A string of up to [`SHORT_BYTES_MAX`] bytes: room for all of it at once, and what is too much taken back, so that everything
    /// is written in pieces of fixed sizes, without a call.
    #[inline(never)]
    fn short_bulk(&mut self, bytes: &[u8]) {
        const ROOM: usize = 5 + SHORT_BYTES_MAX + 2;
        let (at, len) = (self.buf.len(), bytes.len());
        self.buf.extend_from_slice(&[0; ROOM]);
        let Some(room) = self.buf.last_chunk_mut::<ROOM>() else { return };
        let end = if len < 10 {
            room[..4].copy_from_slice(&[b'$', b'0' + len as u8, b'\r', b'\n']);
            copy_short(&mut room[4..], bytes);
            4 + len
        } else {
            room[..5].copy_from_slice(&[b'$', b'0' + (len / 10) as u8, b'0' + (len % 10) as u8, b'\r', b'\n']);
            copy_short(&mut room[5..], bytes);
            5 + len
        };
        room[end..end + 2].copy_from_slice(b"\r\n");
        self.buf.truncate(at + end + 2);
    }

    /// A bulk string that is not copied, if strings may be shared: it must not change before it is sent.
    pub fn bulk_shared(&mut self, bytes: &Arc<Vec<u8>>) {
        if !self.shares || bytes.is_empty() {
            return self.bulk(bytes);
        }
        self.header(b'$', bytes.len());
        self.shared.push_back(Shared { at: self.buf.len(), bytes: bytes.clone() });
        self.shared_bytes += bytes.len();
        self.raw(b"\r\n");
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
        let header_bytes = self.buf.len() - at - elements_bytes;
        for shared in self.shared.iter_mut().rev().take_while(|shared| shared.at > at) {
            shared.at += header_bytes;
        }
    }

    /// What is to be sent next, `sent` being what was sent of it so far: up to where `len` was `end` once.
    pub fn pieces(&self, sent: Sent, end: usize) -> Pieces<'_> {
        let mut rest = self.shared.iter();
        Pieces { buf: &self.buf[..end], sent, shared: rest.next(), rest }
    }

    /// Notes that the next `bytes` of the pieces were sent, and lets go of shared strings that were sent whole.
    pub fn advance(&mut self, sent: &mut Sent, mut bytes: usize) {
        while bytes != 0 {
            let next = self.shared.front().map_or(self.buf.len(), |shared| shared.at);
            if sent.at < next {
                let step = bytes.min(next - sent.at);
                sent.at += step;
                bytes -= step;
                continue;
            }
            // More than there is was not sent; if it were said so, that would do no harm.
            let Some(shared) = self.shared.front() else { return };
            let left = shared.bytes.len() - sent.shared;
            if bytes < left {
                sent.shared += bytes;
                return;
            }
            bytes -= left;
            sent.shared = 0;
            self.shared_bytes -= shared.bytes.len();
            self.shared.pop_front();
        }
    }

    /// Bytes that were not sent.
    #[inline]
    pub fn unsent(&self, sent: Sent) -> usize {
        self.bytes() - sent.at - sent.shared
    }

    /// Forgets the part of the buffer that was sent.
    pub fn drop_sent(&mut self, sent: &mut Sent) {
        self.buf.drain(..sent.at);
        self.shared.iter_mut().for_each(|shared| shared.at -= sent.at);
        sent.at = 0;
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

/// How much of a [`Writer`]'s output was sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Bytes of its buffer.
    pub at: usize,
    /// Bytes of the shared string that comes there, if one does.
    pub shared: usize,
}

/// Output in order, in pieces none of which is empty.
#[derive(Default)]
pub struct Pieces<'a> {
    /// The buffer, up to the end.
    buf: &'a [u8],
    sent: Sent,
    /// The next shared string, and those behind it.
    shared: Option<&'a Shared>,
    rest: vec_deque::Iter<'a, Shared>,
}

impl<'a> From<&'a [u8]> for Pieces<'a> {
    fn from(buf: &'a [u8]) -> Pieces<'a> {
        Pieces { buf, ..Pieces::default() }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.buf.len();
        let next = self.shared.map_or(end, |shared| shared.at.min(end));
        if self.sent.at < next {
            return Some(&self.buf[std::mem::replace(&mut self.sent.at, next)..next]);
        }
        // Nothing of the buffer is left before the string, or before the end.
        let shared = self.shared.filter(|shared| shared.at < end)?;
        self.shared = self.rest.next();
        Some(&shared.bytes[std::mem::take(&mut self.sent.shared)..])
    }
}
