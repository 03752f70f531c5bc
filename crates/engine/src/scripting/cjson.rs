//! The `cjson` library: JSON to Lua values and back, with the options and the error texts of lua-cjson.

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{Lua, Table, Value};

use super::native::{Arguments, Failure, Native, as_number, function, strtod, type_name};
use super::number::general;

/// Whatever a script allows itself, nesting goes no deeper: the thread's stack has an end.
const HARD_DEPTH: i64 = 1000;

/// What to do with a number that JSON cannot write.
#[derive(Clone, Copy, PartialEq)]
enum InvalidNumbers {
    Refuse,
    Allow,
    Null,
}

struct Config {
    sparse_convert: bool,
    sparse_ratio: i64,
    sparse_safe: i64,
    encode_max_depth: i64,
    decode_max_depth: i64,
    precision: i64,
    /// Kept for its answer only: the buffer is always new.
    keep_buffer: bool,
    encode_invalid: InvalidNumbers,
    decode_invalid: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_max_depth: 1000,
            decode_max_depth: 1000,
            precision: 14,
            keep_buffer: true,
            encode_invalid: InvalidNumbers::Refuse,
            decode_invalid: true,
        }
    }
}

fn fail<T>(text: impl Into<String>) -> Native<T> {
    Err(Failure::Text(text.into()))
}

struct Encoder<'a> {
    config: &'a Config,
    out: Vec<u8>,
}

impl Encoder<'_> {
    fn value(&mut self, value: &Value, depth: i64) -> Native<()> {
        match value {
            Value::String(text) => self.string(&text.as_bytes()),
            Value::Integer(number) => self.number(*number as f64)?,
            Value::Number(number) => self.number(*number)?,
            Value::Boolean(value) => self.out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Value::Nil => self.out.extend_from_slice(b"null"),
            value if value.is_null() => self.out.extend_from_slice(b"null"),
            Value::Table(table) => self.table(table, depth + 1)?,
            other => {
                return fail(format!("Cannot serialise {}: type not supported", type_name(other)));
            }
        }
        Ok(())
    }

    fn string(&mut self, text: &[u8]) {
        self.out.push(b'"');
        for &byte in text {
            let escape: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'/' => b"\\/",
                8 => b"\\b",
                9 => b"\\t",
                10 => b"\\n",
                12 => b"\\f",
                13 => b"\\r",
                0..=31 | 127 => {
                    self.out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                    continue;
                }
                _ => {
                    self.out.push(byte);
                    continue;
                }
            };
            self.out.extend_from_slice(escape);
        }
        self.out.push(b'"');
    }

    fn number(&mut self, number: f64) -> Native<()> {
        if !number.is_finite() {
            match self.config.encode_invalid {
                InvalidNumbers::Refuse => {
                    return fail("Cannot serialise number: must not be NaN or Inf");
                }
                InvalidNumbers::Null => {
                    self.out.extend_from_slice(b"null");
                    return Ok(());
                }
                InvalidNumbers::Allow if number.is_nan() => {
                    self.out.extend_from_slice(b"nan");
                    return Ok(());
                }
                InvalidNumbers::Allow => {}
            }
        }
        self.out.extend_from_slice(general(number, self.config.precision as usize).as_bytes());
        Ok(())
    }

    fn table(&mut self, table: &Table, depth: i64) -> Native<()> {
        if depth > self.config.encode_max_depth.min(HARD_DEPTH) {
            return fail(format!("Cannot serialise, excessive nesting ({depth})"));
        }
        if let Some(length) = self.array_length(table)? {
            self.out.push(b'[');
            for index in 1..=length {
                if index > 1 {
                    self.out.push(b',');
                }
                self.value(&table.raw_get::<Value>(index)?, depth)?;
            }
            self.out.push(b']');
            return Ok(());
        }
        self.out.push(b'{');
        for (index, pair) in table.pairs::<Value, Value>().enumerate() {
            let (key, value) = pair?;
            if index > 0 {
                self.out.push(b',');
            }
            match &key {
                Value::String(text) => self.string(&text.as_bytes()),
                Value::Integer(_) | Value::Number(_) => {
                    self.out.push(b'"');
                    self.number(as_number(&key).unwrap_or(0.0))?;
                    self.out.push(b'"');
                }
                _ => return fail("Cannot serialise table: table key must be a number or string"),
            }
            self.out.push(b':');
            self.value(&value, depth)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    /// The length to write as an array, if the table is one: all keys are positive integers, not too sparse, and there are some.
    fn array_length(&self, table: &Table) -> Native<Option<i64>> {
        let (mut highest, mut count) = (0i64, 0i64);
        for pair in table.pairs::<Value, Value>() {
            let number = match pair?.0 {
                Value::Integer(number) => number as f64,
                Value::Number(number) => number,
                _ => return Ok(None),
            };
            if number < 1.0 || number.fract() != 0.0 || number > f64::from(i32::MAX) {
                return Ok(None);
            }
            highest = highest.max(number as i64);
            count += 1;
        }
        let config = self.config;
        if config.sparse_ratio > 0 && highest > count * config.sparse_ratio && highest > config.sparse_safe {
            if !config.sparse_convert {
                return fail("Cannot serialise table: excessively sparse array");
            }
            return Ok(None);
        }
        Ok((highest > 0).then_some(highest))
    }
}

enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    String(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Token {
    fn name(&self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::String(_) => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Error(text) => text,
        }
    }
}

struct Decoder<'a> {
    text: &'a [u8],
    at: usize,
    /// Where the last token, or its fault, starts.
    token_at: usize,
    depth: i64,
    config: &'a Config,
}

impl Decoder<'_> {
    fn expected<T>(&self, wanted: &str, found: &Token) -> Native<T> {
        fail(format!("Expected {wanted} but found {} at character {}", found.name(), self.token_at + 1))
    }

    fn next(&mut self) -> Token {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.token_at = self.at;
        let rest = self.text.get(self.at..).unwrap_or_default();
        let Some(&byte) = rest.first() else {
            return Token::End;
        };
        let (token, length) = match byte {
            b'{' => (Token::ObjectBegin, 1),
            b'}' => (Token::ObjectEnd, 1),
            b'[' => (Token::ArrayBegin, 1),
            b']' => (Token::ArrayEnd, 1),
            b':' => (Token::Colon, 1),
            b',' => (Token::Comma, 1),
            b'"' => return self.string(),
            _ if rest.starts_with(b"true") => (Token::Boolean(true), 4),
            _ if rest.starts_with(b"false") => (Token::Boolean(false), 5),
            _ if rest.starts_with(b"null") => (Token::Null, 4),
            b'-' | b'0'..=b'9' if !self.config.decode_invalid && is_invalid_number(rest) => {
                (Token::Error("invalid number"), 0)
            }
            b'-' | b'0'..=b'9' => number(rest),
            b'+' | b'i' | b'I' | b'n' | b'N' if self.config.decode_invalid && is_invalid_number(rest) => number(rest),
            _ => (Token::Error("invalid token"), 0),
        };
        self.at += length;
        token
    }

    fn string(&mut self) -> Token {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            match self.text.get(self.at).copied() {
                None | Some(0) => {
                    self.token_at = self.at;
                    return Token::Error("unexpected end of string");
                }
                Some(b'"') => {
                    self.at += 1;
                    return Token::String(out);
                }
                Some(b'\\') => {
                    let escape = self.text.get(self.at + 1).copied().unwrap_or(0);
                    let byte = match escape {
                        b'"' | b'\\' | b'/' => escape,
                        b'b' => 8,
                        b't' => 9,
                        b'n' => 10,
                        b'f' => 12,
                        b'r' => 13,
                        b'u' => {
                            let Some((character, length)) = unicode(&self.text[self.at..]) else {
                                self.token_at = self.at;
                                return Token::Error("invalid unicode escape code");
                            };
                            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                            self.at += length;
                            continue;
                        }
                        _ => {
                            self.token_at = self.at;
                            return Token::Error("invalid escape code");
                        }
                    };
                    out.push(byte);
                    self.at += 2;
                }
                Some(byte) => {
                    out.push(byte);
                    self.at += 1;
                }
            }
        }
    }

    fn value(&mut self, lua: &Lua, token: Token) -> Native<Value> {
        match token {
            Token::String(text) => Ok(Value::String(lua.create_string(text)?)),
            Token::Number(number) => Ok(Value::Number(number)),
            Token::Boolean(value) => Ok(Value::Boolean(value)),
            Token::Null => Ok(Value::NULL),
            Token::ObjectBegin => self.object(lua),
            Token::ArrayBegin => self.array(lua),
            other => self.expected("value", &other),
        }
    }

    fn descend(&mut self) -> Native<()> {
        self.depth += 1;
        if self.depth > self.config.decode_max_depth.min(HARD_DEPTH) {
            return fail(format!("Found too many nested data structures ({}) at character {}", self.depth, self.at));
        }
        Ok(())
    }

    fn object(&mut self, lua: &Lua) -> Native<Value> {
        self.descend()?;
        let table = lua.create_table()?;
        let mut token = self.next();
        if !matches!(token, Token::ObjectEnd) {
            loop {
                let Token::String(key) = token else {
                    return self.expected("object key string", &token);
                };
                match self.next() {
                    Token::Colon => {}
                    other => return self.expected("colon", &other),
                }
                let first = self.next();
                let value = self.value(lua, first)?;
                table.raw_set(lua.create_string(key)?, value)?;
                match self.next() {
                    Token::ObjectEnd => break,
                    Token::Comma => token = self.next(),
                    other => return self.expected("comma or object end", &other),
                }
            }
        }
        self.depth -= 1;
        Ok(Value::Table(table))
    }

    fn array(&mut self, lua: &Lua) -> Native<Value> {
        self.descend()?;
        let table = lua.create_table()?;
        let mut token = self.next();
        if !matches!(token, Token::ArrayEnd) {
            for index in 1.. {
                let value = self.value(lua, token)?;
                table.raw_set(index, value)?;
                match self.next() {
                    Token::ArrayEnd => break,
                    Token::Comma => token = self.next(),
                    other => return self.expected("comma or array end", &other),
                }
            }
        }
        self.depth -= 1;
        Ok(Value::Table(table))
    }
}

fn number(text: &[u8]) -> (Token, usize) {
    strtod(text).map_or((Token::Error("invalid number"), 0), |(number, length)| (Token::Number(number), length))
}

/// Numbers that `strtod` takes and JSON does not: a plus, hexadecimal, leading zeros, infinity and not-a-number.
fn is_invalid_number(text: &[u8]) -> bool {
    let digits = match text.first() {
        Some(b'+') => return true,
        Some(b'-') => &text[1..],
        _ => text,
    };
    match digits.first() {
        Some(b'0') => matches!(digits.get(1), Some(b'x' | b'X' | b'0'..=b'9')),
        Some(byte) if *byte <= b'9' => false,
        _ => digits.get(..3).is_some_and(|word| word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"nan")),
    }
}

/// The character of the `\uXXXX` (or surrogate pair of them) at the start of `text`, and its length there.
fn unicode(text: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| -> Option<u32> {
        let escape = text.get(at..at + 6)?;
        let digits = escape.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |unit, &b| Some(unit << 4 | (b as char).to_digit(16)?))
    };
    let high = unit(0)?;
    if !(0xd800..0xdc00).contains(&high) {
        return Some((char::from_u32(high)?, 6));
    }
    let low = unit(6).filter(|low| (0xdc00..0xe000).contains(low))?;
    Some((char::from_u32(0x10000 + ((high & 0x3ff) << 10) + (low & 0x3ff))?, 12))
}

fn encode(lua: &Lua, arguments: &Arguments, config: &Config) -> Native {
    if arguments.len() != 1 {
        return Err(arguments.bad(1, "expected 1 argument"));
    }
    let mut encoder = Encoder { config, out: Vec::new() };
    encoder.value(arguments.get(1), 0)?;
    Ok(vec![Value::String(lua.create_string(encoder.out)?)])
}

fn decode(lua: &Lua, arguments: &Arguments, config: &Config) -> Native {
    if arguments.len() != 1 {
        return Err(arguments.bad(1, "expected 1 argument"));
    }
    let text = arguments.string(lua, 1)?;
    let text = text.as_bytes();
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return fail("JSON parser does not support UTF-16 or UTF-32");
    }
    let mut decoder = Decoder { text: &text, at: 0, token_at: 0, depth: 0, config };
    let first = decoder.next();
    let value = decoder.value(lua, first)?;
    match decoder.next() {
        Token::End => Ok(vec![value]),
        other => decoder.expected("the end", &other),
    }
}

/// No more than `most` arguments.
fn at_most(arguments: &Arguments, most: usize) -> Native<()> {
    if arguments.len() > most { Err(arguments.bad(most + 1, "found too many arguments")) } else { Ok(()) }
}

/// Changes an integer setting if argument `index` is there; answers what it is now.
fn integer_option(arguments: &Arguments, index: usize, setting: &mut i64, lowest: i64, highest: i64) -> Native<Value> {
    if !arguments.get(index).is_nil() {
        let value = arguments.integer(index)?;
        if !(lowest..=highest).contains(&value) {
            return Err(arguments.bad(1, &format!("expected integer between {lowest} and {highest}")));
        }
        *setting = value;
    }
    Ok(Value::Integer(*setting))
}

/// Changes a setting that is a boolean or one of `names` (off, on, …) if argument 1 is there; answers its index.
fn choice(lua: &Lua, arguments: &Arguments, current: usize, names: &[&str]) -> Native<(usize, Value)> {
    let chosen = match arguments.get(1) {
        Value::Nil => current,
        Value::Boolean(on) => usize::from(*on),
        _ => {
            let text = arguments.string(lua, 1)?.to_string_lossy();
            match names.iter().position(|name| *name == text) {
                Some(index) => index,
                None => return Err(arguments.bad(1, &format!("invalid option '{text}'"))),
            }
        }
    };
    let answer =
        if chosen <= 1 { Value::Boolean(chosen == 1) } else { Value::String(lua.create_string(names[chosen])?) };
    Ok((chosen, answer))
}

type Setter = fn(&Lua, &Arguments, &mut Config) -> Native;

const SWITCH: &[&str] = &["off", "on"];
const DEPTH: i64 = i32::MAX as i64;

const OPTIONS: &[(&str, Setter)] = &[
    ("encode_sparse_array", |lua, a, c| {
        at_most(a, 3)?;
        let (convert, answer) = choice(lua, a, c.sparse_convert.into(), SWITCH)?;
        c.sparse_convert = convert == 1;
        let ratio = integer_option(a, 2, &mut c.sparse_ratio, 0, DEPTH)?;
        Ok(vec![answer, ratio, integer_option(a, 3, &mut c.sparse_safe, 0, DEPTH)?])
    }),
    ("encode_max_depth", |_, a, c| {
        at_most(a, 1)?;
        Ok(vec![integer_option(a, 1, &mut c.encode_max_depth, 1, DEPTH)?])
    }),
    ("decode_max_depth", |_, a, c| {
        at_most(a, 1)?;
        Ok(vec![integer_option(a, 1, &mut c.decode_max_depth, 1, DEPTH)?])
    }),
    ("encode_number_precision", |_, a, c| {
        at_most(a, 1)?;
        Ok(vec![integer_option(a, 1, &mut c.precision, 1, 14)?])
    }),
    ("encode_keep_buffer", |lua, a, c| {
        at_most(a, 1)?;
        let (keep, answer) = choice(lua, a, c.keep_buffer.into(), SWITCH)?;
        c.keep_buffer = keep == 1;
        Ok(vec![answer])
    }),
    ("encode_invalid_numbers", |lua, a, c| {
        at_most(a, 1)?;
        let (chosen, answer) = choice(lua, a, c.encode_invalid as usize, &["off", "on", "null"])?;
        c.encode_invalid = [InvalidNumbers::Refuse, InvalidNumbers::Allow, InvalidNumbers::Null][chosen];
        Ok(vec![answer])
    }),
    ("decode_invalid_numbers", |lua, a, c| {
        at_most(a, 1)?;
        let (allow, answer) = choice(lua, a, c.decode_invalid.into(), SWITCH)?;
        c.decode_invalid = allow == 1;
        Ok(vec![answer])
    }),
];

/// A table of the library's functions, to be lifted, with settings of its own.
pub fn open(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let config = Rc::new(RefCell::new(Config::default()));
    let shared = Rc::clone(&config);
    table.raw_set("encode", function(lua, move |lua, a| encode(lua, &a, &shared.borrow()), "encode")?)?;
    let shared = Rc::clone(&config);
    table.raw_set("decode", function(lua, move |lua, a| decode(lua, &a, &shared.borrow()), "decode")?)?;
    for &(name, option) in OPTIONS {
        let shared = Rc::clone(&config);
        table.raw_set(name, function(lua, move |lua, a| option(lua, &a, &mut shared.borrow_mut()), name)?)?;
    }
    table.raw_set("null", Value::NULL)?;
    table.raw_set("_NAME", "cjson")?;
    table.raw_set("_VERSION", "2.1.0")?;
    Ok(table)
}
