//! The element that every type is made of: a byte string, held as an integer where its text is one.

/// A borrowed string value or collection element.
///
/// Integers are kept as such inside packed blocks and entries; their text is the shortest decimal form, so that
/// `Int(7)` and `Bytes(b"7")` stand for the same element.
#[derive(Clone, Copy, Debug)]
pub enum Str<'a> {
    /// An integer whose decimal text is the element.
    Int(i64),
    /// The bytes themselves.
    Bytes(&'a [u8]),
}

/// Longest decimal text of an `i64`.
pub const INT_TEXT_MAX: usize = 20;

impl<'a> Str<'a> {
    /// Calls `f` with the element's bytes; an integer is formatted on the stack.
    #[inline]
    pub fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        match *self {
            Str::Bytes(b) => f(b),
            Str::Int(n) => f(itoa::Buffer::new().format(n).as_bytes()),
        }
    }

    /// The element as an owned byte vector.
    pub fn to_vec(&self) -> Vec<u8> {
        self.with_bytes(<[u8]>::to_vec)
    }

    /// Length of the text in bytes.
    pub fn len(&self) -> usize {
        self.with_bytes(<[u8]>::len)
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        matches!(self, Str::Bytes(b) if b.is_empty())
    }

    /// Whether the element's text equals `bytes`.
    #[inline]
    pub fn eq_bytes(&self, bytes: &[u8]) -> bool {
        match *self {
            Str::Bytes(b) => b == bytes,
            Str::Int(n) => parse_int(bytes) == Some(n),
        }
    }
}

/// Parses the canonical decimal text of an `i64`: no sign but `-`, no leading zero, no space, so that formatting the
/// result gives the same bytes back. `None` for anything else.
pub fn parse_int(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > INT_TEXT_MAX {
        return None;
    }
    let (negative, digits) = match text[0] {
        b'-' => (true, &text[1..]),
        _ => (false, text),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    let mut magnitude: u64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

#[cfg(test)]
mod tests {
    use super::parse_int;

    #[test]
    fn only_canonical_integers_parse() {
        for (text, want) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("-0", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("", None),
            ("-", None),
            ("1a", None),
        ] {
            assert_eq!(parse_int(text.as_bytes()), want, "{text}");
        }
    }
}
