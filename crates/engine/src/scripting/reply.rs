//! A script's return value as RESP, by Redis's rules.

use super::native::as_number;
use kelda_resp::format_f64;
use mlua::{Table, Value};

/// Tables nested deeper end in an error: far beyond any client's own limit, and within the thread's stack.
const MAX_DEPTH: usize = 1_000;

/// Which RESP the client speaks, and which one the script asked for: the second decides how booleans are written.
#[derive(Clone, Copy)]
pub struct Protocol {
    /// The client speaks RESP3.
    pub client_resp3: bool,
    /// The script called `redis.setresp(3)`.
    pub script_resp3: bool,
}

/// Appends `value` to `out`.
///
/// # Errors
/// Only when Lua runs out of memory.
pub fn write(out: &mut Vec<u8>, value: &Value, protocol: Protocol) -> mlua::Result<()> {
    Writer { out, protocol }.value(value, 0)
}

/// A value that holds no others.
#[derive(Clone, Copy)]
pub enum Simple<'a> {
    /// `nil`.
    Nil,
    /// `true` or `false`.
    Boolean(bool),
    /// A number: Lua 5.1 has one kind.
    Number(f64),
    /// A string.
    String(&'a [u8]),
}

/// Appends a simple value to `out`.
pub fn write_simple(out: &mut Vec<u8>, value: Simple, protocol: Protocol) {
    Writer { out, protocol }.simple(value);
}

/// Appends an error reply with the text `text`, its line breaks blanked.
pub fn write_error(out: &mut Vec<u8>, text: &[u8]) {
    write_line(out, b'-', text);
}

/// What Redis takes of the texts of `ok` and `err`: as C prints a string, up to the first zero byte.
fn until_zero(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn write_line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    out.extend(text.iter().map(|&b| if b == b'\r' || b == b'\n' { b' ' } else { b }));
    out.extend_from_slice(b"\r\n");
}

fn write_length(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_bulk(out: &mut Vec<u8>, text: &[u8]) {
    write_length(out, b'$', text.len());
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> mlua::Result<()> {
        match value {
            Value::String(text) => self.simple(Simple::String(&text.as_bytes())),
            Value::Integer(number) => self.integer(*number),
            Value::Number(number) => self.simple(Simple::Number(*number)),
            Value::Boolean(value) => self.simple(Simple::Boolean(*value)),
            Value::Table(table) => return self.table(table, depth),
            _ => self.null(),
        }
        Ok(())
    }

    fn simple(&mut self, value: Simple) {
        match value {
            Simple::Nil => self.null(),
            Simple::Boolean(value) if self.protocol.script_resp3 => match (self.protocol.client_resp3, value) {
                (true, true) => self.out.extend_from_slice(b"#t\r\n"),
                (true, false) => self.out.extend_from_slice(b"#f\r\n"),
                (false, value) => self.integer(value.into()),
            },
            Simple::Boolean(true) => self.integer(1),
            Simple::Boolean(false) => self.null(),
            // C's cast: what does not fit becomes the least integer.
            Simple::Number(number) if !(-9.3e18..9_223_372_036_854_775_808.0).contains(&number) => {
                self.integer(i64::MIN)
            }
            Simple::Number(number) => self.integer(number as i64),
            Simple::String(text) => write_bulk(self.out, text),
        }
    }

    fn integer(&mut self, number: i64) {
        self.out.push(b':');
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    fn null(&mut self) {
        self.out.extend_from_slice(if self.protocol.client_resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    fn table(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        if depth >= MAX_DEPTH {
            write_error(self.out, b"ERR reached lua stack limit");
            return Ok(());
        }
        if let Value::String(text) = table.raw_get("err")? {
            write_error(self.out, until_zero(&text.as_bytes()));
            return Ok(());
        }
        if let Value::String(text) = table.raw_get("ok")? {
            write_line(self.out, b'+', until_zero(&text.as_bytes()));
            return Ok(());
        }
        let double: Value = table.raw_get("double")?;
        if let Some(number) = as_number(&double).filter(|_| !double.is_string()) {
            // The sign of a zero is lost in sorted sets, but not here.
            let mut text = if number == 0.0 && number.is_sign_negative() { b"-".to_vec() } else { Vec::new() };
            format_f64(number, &mut text);
            if self.protocol.client_resp3 {
                write_line(self.out, b',', &text);
            } else {
                write_bulk(self.out, &text);
            }
            return Ok(());
        }
        if let Value::Table(map) = table.raw_get("map")? {
            return self.pairs(&map, true, depth);
        }
        if let Value::Table(set) = table.raw_get("set")? {
            return self.pairs(&set, false, depth);
        }
        if let Value::String(text) = table.raw_get("big_number")? {
            let text: Vec<u8> =
                text.as_bytes().iter().map(|&b| if b == b'\r' || b == b'\n' { b' ' } else { b }).collect();
            if self.protocol.client_resp3 {
                write_line(self.out, b'(', &text);
            } else {
                write_bulk(self.out, &text);
            }
            return Ok(());
        }
        if let Value::Table(verbatim) = table.raw_get("verbatim_string")?
            && let (Value::String(text), Value::String(format)) =
                (verbatim.raw_get("string")?, verbatim.raw_get("format")?)
        {
            self.verbatim(&text.as_bytes(), &format.as_bytes());
            return Ok(());
        }
        self.array(table, depth)
    }

    fn verbatim(&mut self, text: &[u8], format: &[u8]) {
        if !self.protocol.client_resp3 {
            return write_bulk(self.out, text);
        }
        write_length(self.out, b'=', text.len() + 4);
        // The format is exactly three bytes.
        self.out.extend((0..3).map(|i| format.get(i).copied().unwrap_or(b' ')));
        self.out.push(b':');
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Writes the elements up to the first nil.
    fn array(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        let mut count = 0;
        while !table.raw_get::<Value>(count + 1)?.is_nil() {
            count += 1;
        }
        write_length(self.out, b'*', count);
        for index in 1..=count {
            self.value(&table.raw_get(index)?, depth + 1)?;
        }
        Ok(())
    }

    fn pairs(&mut self, table: &Table, is_map: bool, depth: usize) -> mlua::Result<()> {
        let mut count = 0;
        table.for_each(|_: Value, _: Value| {
            count += 1;
            Ok(())
        })?;
        match (self.protocol.client_resp3, is_map) {
            (true, true) => write_length(self.out, b'%', count),
            (true, false) => write_length(self.out, b'~', count),
            (false, true) => write_length(self.out, b'*', count * 2),
            (false, false) => write_length(self.out, b'*', count),
        }
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            self.value(&key, depth + 1)?;
            if is_map {
                self.value(&value, depth + 1)?;
            }
        }
        Ok(())
    }
}
