//! The readable text of arguments and replies, as conversation files hold it.
//!
//! | reply | text |
//! |---|---|
//! | simple string | `OK` |
//! | error | `(error) ERR syntax error` |
//! | integer | `(integer) 1` |
//! | bulk string | `"bytes"`, with `\n`, `\xff` … escapes |
//! | nil, RESP2's null array | `(nil)`, `(nil array)` |
//! | array, map, set, push | `*2`, `%1`, `~2`, `>3`, their elements on the next lines, two spaces further in |
//! | double, boolean, big number, verbatim | `(double) 1.5`, `(true)`, `(big) 12`, `(verbatim) "txt:text"` |
//!
//! An expectation may also be a pattern: `(any)`, `(any integer)`, `(any string)`, `(any array)`, `(any error)`, or `(integer) 90..100`
//! (both ends included). A recorder leaves patterns as they are.

use crate::value::Value;

/// What a conversation expects: a value, or a pattern where the value cannot be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Exactly this (no aggregate: those are `Aggregate`, for there may be patterns inside).
    Exactly(Value),
    /// `*`, `%`, `~` or `>` with these elements.
    Aggregate(u8, Vec<Expected>),
    /// `(any)`
    Any,
    /// `(any integer)` and so on: the mark of the kind.
    AnyOf(u8),
    /// `(integer) low..high`
    Between(i64, i64),
}

impl Expected {
    /// Whether there is a pattern anywhere inside.
    pub fn has_pattern(&self) -> bool {
        match self {
            Expected::Exactly(_) => false,
            Expected::Aggregate(_, items) => items.iter().any(Expected::has_pattern),
            _ => true,
        }
    }

    /// Whether `value` is what is expected; `unordered` ignores the order of elements at every level.
    pub fn matches(&self, value: &Value, unordered: bool) -> bool {
        match self {
            Expected::Exactly(expected) => expected == value,
            Expected::Any => true,
            Expected::AnyOf(kind) => mark(value) == *kind,
            Expected::Between(low, high) => {
                matches!(value, Value::Integer(n) if low <= n && n <= high)
            }
            Expected::Aggregate(kind, expected) => {
                let Some(items) = value.elements() else {
                    return false;
                };
                if mark(value) != *kind || items.len() != expected.len() {
                    return false;
                }
                if !unordered {
                    return expected.iter().zip(items).all(|(e, v)| e.matches(v, false));
                }
                // A map is a multiset of pairs, everything else of single elements.
                let step = if *kind == b'%' { 2 } else { 1 };
                let mut left: Vec<&[Value]> = items.chunks(step).collect();
                expected.chunks(step).all(|wanted| {
                    let found = left.iter().position(|have| wanted.iter().zip(*have).all(|(e, v)| e.matches(v, true)));
                    found.map(|at| left.swap_remove(at)).is_some()
                })
            }
        }
    }
}

impl From<&Value> for Expected {
    fn from(value: &Value) -> Expected {
        match value.elements() {
            Some(items) => Expected::Aggregate(mark(value), items.iter().map(Expected::from).collect()),
            None => Expected::Exactly(value.clone()),
        }
    }
}

/// The protocol's mark of a value's kind.
fn mark(value: &Value) -> u8 {
    match value {
        Value::Simple(_) => b'+',
        Value::Error(_) => b'-',
        Value::Integer(_) => b':',
        Value::Bulk(_) => b'$',
        Value::Nil | Value::NilArray => b'_',
        Value::Array(_) => b'*',
        Value::Map(_) => b'%',
        Value::Set(_) => b'~',
        Value::Push(_) => b'>',
        Value::Double(_) => b',',
        Value::Bool(_) => b'#',
        Value::Big(_) => b'(',
        Value::Verbatim(_) => b'=',
    }
}

const ANY: &[(&str, u8)] = &[
    ("(any integer)", b':'),
    ("(any string)", b'$'),
    ("(any array)", b'*'),
    ("(any map)", b'%'),
    ("(any verbatim)", b'='),
    ("(any double)", b','),
    ("(any error)", b'-'),
];

/// The lines of `expected`, each ended by a newline.
pub fn format(expected: &Expected) -> String {
    let mut out = String::new();
    format_at(expected, 0, &mut out);
    out
}

/// The lines of a reply.
pub fn format_value(value: &Value) -> String {
    format(&Expected::from(value))
}

fn format_at(expected: &Expected, depth: usize, out: &mut String) {
    out.push_str(&"  ".repeat(depth));
    match expected {
        Expected::Any => out.push_str("(any)"),
        Expected::AnyOf(kind) => out.push_str(ANY.iter().find(|(_, k)| k == kind).map_or("(any)", |(text, _)| text)),
        Expected::Between(low, high) => out.push_str(&format!("(integer) {low}..{high}")),
        Expected::Aggregate(kind, items) => {
            let count = if *kind == b'%' { items.len() / 2 } else { items.len() };
            out.push_str(&format!("{}{count}\n", *kind as char));
            for item in items {
                format_at(item, depth + 1, out);
            }
            return;
        }
        Expected::Exactly(value) => match value {
            Value::Simple(text) if is_bare(text) => out.push_str(&String::from_utf8_lossy(text)),
            Value::Simple(text) => out.push_str(&format!("(simple) {}", quote(text))),
            Value::Error(text) => out.push_str(&format!("(error) {}", escape(text))),
            Value::Integer(n) => out.push_str(&format!("(integer) {n}")),
            Value::Bulk(text) => out.push_str(&quote(text)),
            Value::Nil => out.push_str("(nil)"),
            Value::NilArray => out.push_str("(nil array)"),
            Value::Double(text) => out.push_str(&format!("(double) {}", escape(text))),
            Value::Big(text) => out.push_str(&format!("(big) {}", escape(text))),
            Value::Bool(b) => out.push_str(if *b { "(true)" } else { "(false)" }),
            Value::Verbatim(text) => out.push_str(&format!("(verbatim) {}", quote(text))),
            Value::Array(_) | Value::Map(_) | Value::Set(_) | Value::Push(_) => {
                return format_at(&Expected::from(value), depth, out);
            }
        },
    }
    out.push('\n');
}

fn is_bare(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic) && text.iter().all(|b| (b' '..=b'~').contains(b) && *b != b'\\')
}

/// `text` with everything escaped that is not printable ASCII.
fn escape(text: &[u8]) -> String {
    let mut out = String::new();
    for &byte in text {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(byte as char),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out
}

/// `text` in double quotes.
pub fn quote(text: &[u8]) -> String {
    format!("\"{}\"", escape(text).replace('"', "\\\""))
}

/// Reads one expectation from the front of `lines`, whose indentation is `depth` steps.
///
/// # Errors
/// With what is wrong in the text.
pub fn parse(lines: &mut &[&str], depth: usize) -> Result<Expected, String> {
    let Some((line, rest)) = lines.split_first() else {
        return Err("a reply is missing".into());
    };
    *lines = rest;
    let indent = "  ".repeat(depth);
    let text = line.strip_prefix(&indent).ok_or_else(|| format!("expected {depth} steps of indentation: {line}"))?;
    if let Some((_, kind)) = ANY.iter().find(|(name, _)| *name == text) {
        return Ok(Expected::AnyOf(*kind));
    }
    if text == "(any)" {
        return Ok(Expected::Any);
    }
    let after = |prefix: &str| text.strip_prefix(prefix);
    let exactly = |value| Ok(Expected::Exactly(value));
    if let Some(number) = after("(integer) ") {
        if let Some((low, high)) = number.split_once("..") {
            let parse = |text: &str| text.parse().map_err(|_| format!("bad range: {text}"));
            return Ok(Expected::Between(parse(low)?, parse(high)?));
        }
        return exactly(Value::Integer(number.parse().map_err(|_| format!("bad integer: {number}"))?));
    }
    if let Some(text) = after("(error) ") {
        return exactly(Value::Error(unescape(text)?));
    }
    if let Some(text) = after("(double) ") {
        return exactly(Value::Double(unescape(text)?));
    }
    if let Some(text) = after("(big) ") {
        return exactly(Value::Big(unescape(text)?));
    }
    if let Some(text) = after("(verbatim) ") {
        return exactly(Value::Verbatim(unquote(text)?));
    }
    if let Some(text) = after("(simple) ") {
        return exactly(Value::Simple(unquote(text)?));
    }
    match text {
        "(nil)" => return exactly(Value::Nil),
        "(nil array)" => return exactly(Value::NilArray),
        "(true)" => return exactly(Value::Bool(true)),
        "(false)" => return exactly(Value::Bool(false)),
        _ => {}
    }
    match text.as_bytes() {
        [b'"', ..] => exactly(Value::Bulk(unquote(text)?)),
        [kind @ (b'*' | b'%' | b'~' | b'>'), ..] => {
            let count: usize = text[1..].parse().map_err(|_| format!("bad count: {text}"))?;
            let count = if *kind == b'%' { count * 2 } else { count };
            let items: Result<_, _> = (0..count).map(|_| parse(lines, depth + 1)).collect();
            Ok(Expected::Aggregate(*kind, items?))
        }
        bare if is_bare(bare) => exactly(Value::Simple(bare.to_vec())),
        _ => Err(format!("not a reply: {text}")),
    }
}

fn unquote(text: &str) -> Result<Vec<u8>, String> {
    let mut words = split_arguments(text)?;
    match words.pop() {
        Some(word) if words.is_empty() && text.starts_with('"') => Ok(word),
        _ => Err(format!("not one quoted string: {text}")),
    }
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    unquote(&format!("\"{}\"", text.replace('"', "\\\"")))
}

/// Splits a command line into arguments as redis-cli does: bare words, `"…"` with escapes, `'…'` without.
///
/// # Errors
/// When a quote is not closed, or not followed by a space.
pub fn split_arguments(line: &str) -> Result<Vec<Vec<u8>>, String> {
    let bytes = line.as_bytes();
    let mut args = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b' ' => at += 1,
            quote @ (b'"' | b'\'') => {
                let (arg, length) = quoted(&bytes[at..], quote).ok_or_else(|| format!("unbalanced quotes: {line}"))?;
                args.push(arg);
                at += length;
                if at < bytes.len() && bytes[at] != b' ' {
                    return Err(format!("a closing quote must be followed by a space: {line}"));
                }
            }
            _ => {
                let length = bytes[at..].iter().position(|b| *b == b' ').unwrap_or(bytes.len() - at);
                args.push(bytes[at..at + length].to_vec());
                at += length;
            }
        }
    }
    Ok(args)
}

/// The argument in quotes at the start of `bytes`, and the length of its text.
fn quoted(bytes: &[u8], quote: u8) -> Option<(Vec<u8>, usize)> {
    let mut arg = Vec::new();
    let mut at = 1;
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        match byte {
            b if b == quote => return Some((arg, at)),
            b'\\' if quote == b'"' => {
                let escaped = *bytes.get(at)?;
                at += 1;
                arg.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'x' => {
                        let digits = std::str::from_utf8(bytes.get(at..at + 2)?).ok()?;
                        at += 2;
                        u8::from_str_radix(digits, 16).ok()?
                    }
                    other => other,
                });
            }
            b => arg.push(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_notation() {
        let bulk = |text: &[u8]| Value::Bulk(text.to_vec());
        let all = Value::Array(vec![
            bulk(b"a \"quoted\" \\ \xff\r\n"),
            bulk(b""),
            Value::Simple(b"OK".to_vec()),
            Value::Simple(b"12".to_vec()),
            Value::Error(b"ERR \"x\" \\ y".to_vec()),
            Value::Integer(-3),
            Value::Nil,
            Value::NilArray,
            Value::Map(vec![bulk(b"k"), Value::Set(vec![Value::Bool(true)])]),
            Value::Push(vec![Value::Double(b"1.5".to_vec()), Value::Big(b"99".to_vec())]),
            Value::Verbatim(b"txt:hi".to_vec()),
            Value::Array(vec![]),
        ]);
        let text = format_value(&all);
        let lines: Vec<&str> = text.lines().collect();
        let mut rest = &lines[..];
        let parsed = parse(&mut rest, 0).unwrap();
        assert!(rest.is_empty());
        assert!(parsed.matches(&all, false), "{text}");
        assert_eq!(format(&parsed), text);
    }

    #[test]
    fn unordered_is_a_multiset() {
        let array = |items: &[i64]| Value::Array(items.iter().map(|n| Value::Integer(*n)).collect());
        let expected = Expected::from(&array(&[1, 1, 2]));
        assert!(expected.matches(&array(&[2, 1, 1]), true));
        assert!(!expected.matches(&array(&[2, 2, 1]), true));
        assert!(!expected.matches(&array(&[2, 1, 1]), false));
    }

    #[test]
    fn arguments_split_like_redis_cli() {
        let args = split_arguments(r#"SET  a "b c\x00\n" 'd\n' e"f"#).unwrap();
        assert_eq!(args, [&b"SET"[..], b"a", b"b c\0\n", b"d\\n", b"e\"f"]);
        assert!(split_arguments("GET \"a").is_err());
        assert!(split_arguments("GET \"a\"b").is_err());
    }
}
