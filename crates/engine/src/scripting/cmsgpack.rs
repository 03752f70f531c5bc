//! The `cmsgpack` library: MessagePack, byte for byte as Redis packs it.

use mlua::{Lua, Table, Value};

use super::native::{Arguments, Failure, Native, as_number, export};

/// Tables nested deeper are packed as nil.
const MAX_PACK_DEPTH: usize = 16;
/// Deeper input is refused, well before the thread's stack could run out.
const MAX_UNPACK_DEPTH: usize = 1_000;

fn pack(lua: &Lua, arguments: Arguments) -> Native {
    if arguments.len() == 0 {
        return Err(arguments.bad(0, "MessagePack pack needs input."));
    }
    let mut out = Vec::new();
    for value in &arguments.values {
        pack_value(&mut out, value, 0)?;
    }
    Ok(vec![Value::String(lua.create_string(out)?)])
}

fn pack_value(out: &mut Vec<u8>, value: &Value, depth: usize) -> Native<()> {
    match value {
        Value::Boolean(value) => out.push(if *value { 0xc3 } else { 0xc2 }),
        Value::Integer(number) => pack_integer(out, *number),
        Value::Number(number) => pack_number(out, *number),
        Value::String(text) => {
            let text = text.as_bytes();
            pack_length(out, text.len(), (0xa0, 31), [Some(0xd9), Some(0xda), Some(0xdb)]);
            out.extend_from_slice(&text);
        }
        Value::Table(table) if depth < MAX_PACK_DEPTH => pack_table(out, table, depth)?,
        _ => out.push(0xc0),
    }
    Ok(())
}

fn pack_table(out: &mut Vec<u8>, table: &Table, depth: usize) -> Native<()> {
    let (mut count, mut highest, mut is_array) = (0usize, 0.0f64, true);
    table.for_each(|key: Value, _: Value| {
        count += 1;
        match key {
            Value::Integer(_) | Value::Number(_) => match as_number(&key) {
                Some(number) if number > 0.0 && number.fract() == 0.0 && number <= f64::from(i32::MAX) => {
                    highest = highest.max(number)
                }
                _ => is_array = false,
            },
            _ => is_array = false,
        }
        Ok(())
    })?;
    if is_array && highest == count as f64 {
        pack_length(out, count, (0x90, 15), [None, Some(0xdc), Some(0xdd)]);
        for index in 1..=count {
            pack_value(out, &table.raw_get::<Value>(index)?, depth + 1)?;
        }
        return Ok(());
    }
    pack_length(out, count, (0x80, 15), [None, Some(0xde), Some(0xdf)]);
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        pack_value(out, &key, depth + 1)?;
        pack_value(out, &value, depth + 1)?;
    }
    Ok(())
}

/// Writes a length in the shortest form there is: within `narrow`'s byte up to its bound, else in 1, 2 or 4 bytes after `wide`'s.
fn pack_length(out: &mut Vec<u8>, length: usize, narrow: (u8, usize), wide: [Option<u8>; 3]) {
    let (base, most) = narrow;
    if length <= most {
        out.push(base | length as u8);
        return;
    }
    match wide {
        [Some(code), ..] if length <= 0xff => out.extend_from_slice(&[code, length as u8]),
        [_, Some(code), _] if length <= 0xffff => {
            out.push(code);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        [.., code] => {
            out.push(code.unwrap_or(0xc0));
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
}

fn pack_number(out: &mut Vec<u8>, number: f64) {
    if number.fract() == 0.0 && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number) {
        return pack_integer(out, number as i64);
    }
    let single = number as f32;
    if f64::from(single) == number {
        out.push(0xca);
        out.extend_from_slice(&single.to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn pack_integer(out: &mut Vec<u8>, number: i64) {
    match number {
        -32..=127 => out.push(number as u8),
        128..=0xff => out.extend_from_slice(&[0xcc, number as u8]),
        -128..-32 => out.extend_from_slice(&[0xd0, number as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(number as u16).to_be_bytes());
        }
        -0x8000..-128 => {
            out.push(0xd1);
            out.extend_from_slice(&(number as i16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(number as u32).to_be_bytes());
        }
        -0x8000_0000..-0x8000 => {
            out.push(0xd2);
            out.extend_from_slice(&(number as i32).to_be_bytes());
        }
        _ => {
            out.push(if number < 0 { 0xd3 } else { 0xcf });
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

struct Input<'a> {
    rest: &'a [u8],
}

impl Input<'_> {
    fn bytes(&mut self, length: usize) -> Native<&[u8]> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| Failure::Text("Missing bytes in input.".into()))?;
        self.rest = rest;
        Ok(taken)
    }

    fn word<const N: usize>(&mut self) -> Native<u64> {
        Ok(self.bytes(N)?.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)))
    }

    fn value(&mut self, lua: &Lua, depth: usize) -> Native<Value> {
        let code = self.word::<1>()? as u8;
        let number = |number: i64| Ok(Value::Number(number as f64));
        match code {
            0..=0x7f => number(code.into()),
            0xe0..=0xff => number((code as i8).into()),
            0xcc => number(self.word::<1>()? as i64),
            0xcd => number(self.word::<2>()? as i64),
            0xce => number(self.word::<4>()? as i64),
            0xcf | 0xd3 => number(self.word::<8>()? as i64),
            0xd0 => number((self.word::<1>()? as i8).into()),
            0xd1 => number((self.word::<2>()? as i16).into()),
            0xd2 => number((self.word::<4>()? as i32).into()),
            0xc0 => Ok(Value::Nil),
            0xc2 | 0xc3 => Ok(Value::Boolean(code == 0xc3)),
            0xca => Ok(Value::Number(f32::from_bits(self.word::<4>()? as u32).into())),
            0xcb => Ok(Value::Number(f64::from_bits(self.word::<8>()?))),
            0xa0..=0xbf => self.text(lua, (code & 31).into()),
            0xd9..=0xdb => {
                let length = match code {
                    0xd9 => self.word::<1>()?,
                    0xda => self.word::<2>()?,
                    _ => self.word::<4>()?,
                };
                self.text(lua, length)
            }
            0x90..=0x9f => self.array(lua, (code & 15).into(), depth),
            0xdc => {
                let count = self.word::<2>()?;
                self.array(lua, count, depth)
            }
            0xdd => {
                let count = self.word::<4>()?;
                self.array(lua, count, depth)
            }
            0x80..=0x8f => self.map(lua, (code & 15).into(), depth),
            0xde => {
                let count = self.word::<2>()?;
                self.map(lua, count, depth)
            }
            0xdf => {
                let count = self.word::<4>()?;
                self.map(lua, count, depth)
            }
            _ => Err(Failure::Text("Bad data format in input.".into())),
        }
    }

    fn text(&mut self, lua: &Lua, length: u64) -> Native<Value> {
        Ok(Value::String(lua.create_string(self.bytes(length as usize)?)?))
    }

    fn array(&mut self, lua: &Lua, count: u64, depth: usize) -> Native<Value> {
        if depth >= MAX_UNPACK_DEPTH {
            return Err(Failure::Text("stack overflow (in function mp_decode_to_lua_array)".into()));
        }
        let table = lua.create_table_with_capacity((count as usize).min(self.rest.len()), 0)?;
        for index in 1..=count {
            table.raw_set(index, self.value(lua, depth + 1)?)?;
        }
        Ok(Value::Table(table))
    }

    fn map(&mut self, lua: &Lua, count: u64, depth: usize) -> Native<Value> {
        if depth >= MAX_UNPACK_DEPTH {
            return Err(Failure::Text("stack overflow (in function mp_decode_to_lua_hash)".into()));
        }
        let table = lua.create_table()?;
        for _ in 0..count {
            let key = self.value(lua, depth + 1)?;
            let value = self.value(lua, depth + 1)?;
            match key {
                Value::Nil => return Err(Failure::Bare("table index is nil".into())),
                Value::Number(number) if number.is_nan() => {
                    return Err(Failure::Bare("table index is NaN".into()));
                }
                key => table.raw_set(key, value)?,
            }
        }
        Ok(Value::Table(table))
    }
}

/// Unpacks up to `limit` values from `offset`; both zero: everything, and no offset among the results.
fn unpack_from(lua: &Lua, arguments: &Arguments, limit: i64, offset: i64) -> Native {
    let data = arguments.string(lua, 1)?;
    let data = data.as_bytes();
    if offset < 0 || limit < 0 {
        let length = data.len();
        return Err(Failure::Text(format!("Invalid request to unpack with offset of {offset} and limit of {length}.")));
    }
    let Some(rest) = data.get(offset as usize..) else {
        return Err(Failure::Text(format!("Start offset {offset} greater than input length {}.", data.len())));
    };
    let everything = limit == 0 && offset == 0;
    let limit = if everything { usize::MAX } else { limit as usize };
    let mut input = Input { rest };
    let mut results = Vec::new();
    while !input.rest.is_empty() && results.len() < limit {
        results.push(input.value(lua, 0)?);
    }
    if !everything {
        let next = if input.rest.is_empty() { -1.0 } else { (data.len() - input.rest.len()) as f64 };
        results.insert(0, Value::Number(next));
    }
    Ok(results)
}

/// The library's table, of functions to be lifted.
pub fn open(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    export(
        lua,
        &table,
        &[
            ("pack", pack),
            ("unpack", |lua, a| unpack_from(lua, &a, 0, 0)),
            ("unpack_one", |lua, a| unpack_from(lua, &a, 1, a.optional_integer(2, 0)?)),
            ("unpack_limit", |lua, a| unpack_from(lua, &a, a.integer(2)?, a.optional_integer(3, 0)?)),
        ],
    )?;
    table.raw_set("_NAME", "cmsgpack")?;
    table.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    table.raw_set("_COPYRIGHT", "Kelda's authors")?;
    table.raw_set("_DESCRIPTION", "MessagePack for Lua")?;
    Ok(table)
}
