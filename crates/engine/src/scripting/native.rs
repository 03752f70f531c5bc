//! How library functions written in Rust look to Lua: arguments are checked, and errors worded, as Lua's C libraries do.
//!
//! A Rust function that fails would reach Lua as an opaque object. So each one answers `(nil, results…)` or `(error text, how)`,
//! and `current_host::lift` raises the text for it.

use mlua::{Function, Lua, LuaString, MultiValue, Table, Value};

use super::current_host::{RAISE_AS_REPLY, RAISE_BARE, RAISE_WITH_POSITION, dialect, lift};

/// Why a library function fails.
pub enum Failure {
    /// Raised with the script's position in front.
    Text(String),
    /// Raised as it is.
    Bare(String),
    /// Raised as the table that an error reply is; the text starts with its code.
    Reply(&'static str),
    /// From Lua itself (memory).
    Lua(mlua::Error),
}

impl From<mlua::Error> for Failure {
    fn from(error: mlua::Error) -> Self {
        Failure::Lua(error)
    }
}

/// A library function: its results, or why it fails.
pub type Native<T = Vec<Value>> = Result<T, Failure>;

/// The failure that `luaL_argerror` words; `index` counts from 1.
pub fn bad_argument(index: usize, function: &str, problem: &str) -> Failure {
    Failure::Text(format!("bad argument #{index} to '{function}' ({problem})"))
}

/// Makes `body` a Lua function.
pub fn function(
    lua: &Lua,
    body: impl Fn(&Lua, Arguments) -> Native + 'static,
    name: &'static str,
) -> mlua::Result<Function> {
    let native = lua.create_function(move |lua, values: MultiValue| {
        let arguments = Arguments { values: values.into_vec(), function: name };
        let (text, how) = match body(lua, arguments) {
            Ok(mut results) => {
                results.insert(0, Value::Nil);
                return Ok(MultiValue::from_vec(results));
            }
            Err(Failure::Lua(error)) => return Err(error),
            Err(Failure::Text(text)) => (text, RAISE_WITH_POSITION),
            Err(Failure::Bare(text)) => (text, RAISE_BARE),
            Err(Failure::Reply(text)) => (dialect().says(text).into_owned(), RAISE_AS_REPLY),
        };
        Ok(MultiValue::from_vec(vec![Value::String(lua.create_string(text)?), Value::Integer(how.into())]))
    })?;
    lift(lua, native)
}

/// What a library function does.
pub type Body = fn(&Lua, Arguments) -> Native;

/// Adds functions to `table`.
pub fn export(lua: &Lua, table: &Table, functions: &[(&'static str, Body)]) -> mlua::Result<()> {
    for &(name, body) in functions {
        table.raw_set(name, function(lua, body, name)?)?;
    }
    Ok(())
}

/// The arguments of one call.
pub struct Arguments {
    /// The values given.
    pub values: Vec<Value>,
    function: &'static str,
}

impl Arguments {
    /// How many were given.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Argument `index` (from 1), nil where none was given.
    pub fn get(&self, index: usize) -> &Value {
        self.values.get(index - 1).unwrap_or(&Value::Nil)
    }

    /// A failure that blames argument `index`.
    pub fn bad(&self, index: usize, problem: &str) -> Failure {
        bad_argument(index, self.function, problem)
    }

    fn wrong_type(&self, index: usize, wanted: &str) -> Failure {
        let got = self.values.get(index - 1).map_or("no value", type_name);
        self.bad(index, &format!("{wanted} expected, got {got}"))
    }

    /// A number, or a string that reads as one.
    pub fn number(&self, index: usize) -> Native<f64> {
        as_number(self.get(index)).ok_or_else(|| self.wrong_type(index, "number"))
    }

    /// A number cut to an integer as C casts it.
    pub fn integer(&self, index: usize) -> Native<i64> {
        Ok(self.number(index)? as i64)
    }

    /// An integer, or `default` for nil and nothing.
    pub fn optional_integer(&self, index: usize, default: i64) -> Native<i64> {
        if self.get(index).is_nil() { Ok(default) } else { self.integer(index) }
    }

    /// A string, or a number as one.
    pub fn string(&self, lua: &Lua, index: usize) -> Native<LuaString> {
        match self.get(index) {
            Value::String(text) => Ok(text.clone()),
            value @ (Value::Integer(_) | Value::Number(_)) => {
                lua.coerce_string(value.clone())?.ok_or_else(|| self.wrong_type(index, "string"))
            }
            _ => Err(self.wrong_type(index, "string")),
        }
    }
}

/// Lua's name of the value's type.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "number",
        Value::LightUserData(_) => "userdata",
        other => other.type_name(),
    }
}

/// The number that Lua would take `value` for.
pub fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        Value::String(text) => parse_number(&text.as_bytes()),
        _ => None,
    }
}

/// Lua 5.1's reading of a number: blanks around, decimal or hexadecimal.
fn parse_number(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let (number, length) = strtod(text.as_bytes())?;
    (length == text.len()).then_some(number)
}

/// C's `strtod`: the number at the start of `text` and its length in bytes.
pub fn strtod(text: &[u8]) -> Option<(f64, usize)> {
    let mut at = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let sign = if text.first() == Some(&b'-') { -1.0 } else { 1.0 };
    let starts =
        |at: usize, word: &[u8]| text.get(at..at + word.len()).is_some_and(|part| part.eq_ignore_ascii_case(word));
    for (word, number) in [(&b"infinity"[..], f64::INFINITY), (b"inf", f64::INFINITY), (b"nan", f64::NAN)] {
        if starts(at, word) {
            return Some((number.copysign(sign), at + word.len()));
        }
    }
    let digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    if starts(at, b"0x") && text.get(at + 2).is_some_and(u8::is_ascii_hexdigit) {
        at += 2;
        let mut number = 0.0;
        while let Some(value) = text.get(at).and_then(|&b| (b as char).to_digit(16)) {
            number = number * 16.0 + f64::from(value);
            at += 1;
        }
        return Some((sign * number, at));
    }
    let start = at;
    while digit(at) {
        at += 1;
    }
    let mut digits = at - start;
    if text.get(at) == Some(&b'.') {
        let fraction = at + 1;
        let mut end = fraction;
        while digit(end) {
            end += 1;
        }
        digits += end - fraction;
        at = end;
    }
    if digits == 0 {
        return None;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        let exponent = at + 1 + usize::from(matches!(text.get(at + 1), Some(b'-' | b'+')));
        if digit(exponent) {
            at = exponent;
            while digit(at) {
                at += 1;
            }
        }
    }
    // Only ASCII digits, signs, a point and an exponent were accepted.
    let number = std::str::from_utf8(text.get(..at)?).ok()?.parse().ok()?;
    Some((number, at))
}
