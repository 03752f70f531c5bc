//! Replies of RESP2 and RESP3 as values, and requests as bytes.
//!
//! Texts stay as the server wrote them (a double is its digits, not an `f64`), because exact text is what we test.

use std::fmt;

/// One reply, or one push message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// `+text`
    Simple(Vec<u8>),
    /// `-text`, and RESP3's blob error
    Error(Vec<u8>),
    /// `:number`
    Integer(i64),
    /// `$bytes`
    Bulk(Vec<u8>),
    /// RESP2's `$-1` and RESP3's `_`
    Nil,
    /// RESP2's `*-1`
    NilArray,
    /// `*`
    Array(Vec<Value>),
    /// `%`: keys and values in turn
    Map(Vec<Value>),
    /// `~`
    Set(Vec<Value>),
    /// `>`
    Push(Vec<Value>),
    /// `,digits`
    Double(Vec<u8>),
    /// `#t` or `#f`
    Bool(bool),
    /// `(digits`
    Big(Vec<u8>),
    /// `=fmt:text`: both parts, with the colon
    Verbatim(Vec<u8>),
}

/// What was read is not a reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a reply: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

impl Value {
    /// Reads the first reply of `bytes`: the value and its length, or `None` while it is incomplete.
    ///
    /// # Errors
    /// When `bytes` cannot be the beginning of a reply.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Value, usize)>, Malformed> {
        let mut at = 0;
        let value = value_at(bytes, &mut at)?;
        Ok(value.map(|value| (value, at)))
    }

    /// The elements of an aggregate.
    pub fn elements(&self) -> Option<&[Value]> {
        match self {
            Value::Array(v) | Value::Map(v) | Value::Set(v) | Value::Push(v) => Some(v),
            _ => None,
        }
    }

    /// The bytes of a string-like reply.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Simple(b) | Value::Bulk(b) | Value::Verbatim(b) | Value::Error(b) => Some(b),
            _ => None,
        }
    }

    /// Whether this is an error reply.
    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }
}

fn line<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let rest = bytes.get(*at..)?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    *at += end + 2;
    Some(&rest[..end])
}

fn number(text: &[u8]) -> Result<i64, Malformed> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Malformed(format!("bad number {:?}", String::from_utf8_lossy(text))))
}

fn value_at(bytes: &[u8], at: &mut usize) -> Result<Option<Value>, Malformed> {
    let Some(head) = line(bytes, at) else {
        return Ok(None);
    };
    let Some((kind, rest)) = head.split_first() else {
        return Err(Malformed("empty line".into()));
    };
    let value = match kind {
        b'+' => Value::Simple(rest.to_vec()),
        b'-' => Value::Error(rest.to_vec()),
        b':' => Value::Integer(number(rest)?),
        b',' => Value::Double(rest.to_vec()),
        b'(' => Value::Big(rest.to_vec()),
        b'#' => Value::Bool(rest == b"t"),
        b'_' => Value::Nil,
        b'$' | b'=' | b'!' => {
            let length = number(rest)?;
            let Ok(length) = usize::try_from(length) else {
                return Ok(Some(Value::Nil));
            };
            let Some(body) = bytes.get(*at..*at + length) else {
                return Ok(None);
            };
            match bytes.get(*at + length..*at + length + 2) {
                None => return Ok(None),
                Some(b"\r\n") => {}
                Some(_) => {
                    return Err(Malformed("a bulk string that does not end with CRLF".into()));
                }
            }
            *at += length + 2;
            match kind {
                b'$' => Value::Bulk(body.to_vec()),
                b'=' => Value::Verbatim(body.to_vec()),
                _ => Value::Error(body.to_vec()),
            }
        }
        b'*' | b'~' | b'>' | b'%' => {
            let count = number(rest)?;
            if count < 0 {
                return Ok(Some(Value::NilArray));
            }
            let count = if *kind == b'%' { count * 2 } else { count };
            let mut items = Vec::new();
            for _ in 0..count {
                match value_at(bytes, at)? {
                    Some(item) => items.push(item),
                    None => return Ok(None),
                }
            }
            match kind {
                b'*' => Value::Array(items),
                b'~' => Value::Set(items),
                b'>' => Value::Push(items),
                _ => Value::Map(items),
            }
        }
        _ => {
            return Err(Malformed(format!("unknown mark in {:?}", String::from_utf8_lossy(head))));
        }
    };
    Ok(Some(value))
}

/// Appends the request of `args` to `out`.
pub fn write_request<A: AsRef<[u8]>>(args: &[A], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_of_a_reply_is_incomplete() {
        let whole = b"*3\r\n$3\r\na\r\n\r\n%1\r\n+k\r\n,1.5\r\n*-1\r\n";
        for cut in 0..whole.len() {
            assert_eq!(Value::parse(&whole[..cut]), Ok(None), "cut at {cut}");
        }
        let (value, length) = Value::parse(whole).unwrap().unwrap();
        assert_eq!(length, whole.len());
        assert_eq!(
            value,
            Value::Array(vec![
                Value::Bulk(b"a\r\n".to_vec()),
                Value::Map(vec![Value::Simple(b"k".to_vec()), Value::Double(b"1.5".to_vec())]),
                Value::NilArray,
            ])
        );
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Value::parse(b"hello\r\n").is_err());
        assert!(Value::parse(b"$1\r\nabc\r\n").is_err());
    }
}
