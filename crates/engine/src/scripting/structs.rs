//! The `struct` library: packs values into byte strings and back by a format string.

use mlua::{Lua, Table, Value};

use super::native::{Arguments, Failure, Native, bad_argument, export};

/// The widest integer a format may name, in bytes.
const MAX_INTEGER: usize = 32;
const MAX_ALIGN: usize = 8;

/// Walks a format string.
struct Format<'a> {
    text: &'a [u8],
    function: &'static str,
    big_endian: bool,
    align: usize,
}

/// One step of a format that takes or makes bytes.
struct Item {
    option: u8,
    size: usize,
    /// Zero bytes in front.
    padding: usize,
}

impl<'a> Format<'a> {
    fn new(text: &'a [u8], function: &'static str) -> Self {
        Format { text, function, big_endian: false, align: 1 }
    }

    fn number(&mut self, default: usize) -> Native<usize> {
        if !self.text.first().is_some_and(u8::is_ascii_digit) {
            return Ok(default);
        }
        let mut number = 0i32;
        while let Some((digit, rest)) = self.text.split_first().filter(|(b, _)| b.is_ascii_digit()) {
            number = number
                .checked_mul(10)
                .and_then(|n| n.checked_add(i32::from(digit - b'0')))
                .ok_or_else(|| Failure::Text("integral size overflow".into()))?;
            self.text = rest;
        }
        Ok(number as usize)
    }

    /// The next item; control options on the way take effect. `position` is where it would start.
    fn next(&mut self, position: usize) -> Native<Option<Item>> {
        while let Some((&option, rest)) = self.text.split_first() {
            self.text = rest;
            let size = match option {
                b'b' | b'B' | b'x' => 1,
                b'h' | b'H' => 2,
                b'f' => 4,
                b'l' | b'L' | b'T' | b'd' => 8,
                b's' => 0,
                b'c' => self.number(1)?,
                b'i' | b'I' => self.number(4)?,
                _ => {
                    self.control(option)?;
                    continue;
                }
            };
            if matches!(option, b'i' | b'I') && size > MAX_INTEGER {
                return Err(Failure::Text(format!("integral size {size} is larger than limit of {MAX_INTEGER}")));
            }
            let unit = size.min(self.align);
            let padding =
                if unit == 0 || option == b'c' { 0 } else { unit.wrapping_sub(position & (unit - 1)) & (unit - 1) };
            return Ok(Some(Item { option, size, padding }));
        }
        Ok(None)
    }

    fn control(&mut self, option: u8) -> Native<()> {
        match option {
            b' ' => {}
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => {
                let align = self.number(MAX_ALIGN)?;
                if !align.is_power_of_two() {
                    return Err(Failure::Text(format!("alignment {align} is not a power of 2")));
                }
                self.align = align;
            }
            _ => {
                return Err(bad_argument(1, self.function, &format!("invalid format option '{}'", option as char)));
            }
        }
        Ok(())
    }

    fn put(&self, out: &mut Vec<u8>, bytes: impl DoubleEndedIterator<Item = u8>) {
        if self.big_endian { out.extend(bytes.rev()) } else { out.extend(bytes) }
    }

    fn take(&self, bytes: &[u8]) -> [u8; 8] {
        let mut word = [0; 8];
        let ordered = |i: usize| {
            if self.big_endian { bytes[bytes.len() - 1 - i] } else { bytes[i] }
        };
        for (i, byte) in word.iter_mut().enumerate().take(bytes.len()) {
            *byte = ordered(i);
        }
        word
    }
}

fn pack(lua: &Lua, mut arguments: Arguments) -> Native {
    let text = arguments.string(lua, 1)?;
    // A missing last argument reads as nil.
    arguments.values.push(Value::Nil);
    let text = text.as_bytes();
    let mut format = Format::new(&text, "pack");
    let mut out = Vec::new();
    let mut index = 1;
    while let Some(item) = format.next(out.len())? {
        out.resize(out.len() + item.padding, 0);
        if item.option == b'x' {
            out.push(0);
            continue;
        }
        index += 1;
        match item.option {
            b'f' => format.put(&mut out, (arguments.number(index)? as f32).to_le_bytes().into_iter()),
            b'd' => format.put(&mut out, arguments.number(index)?.to_le_bytes().into_iter()),
            b'c' | b's' => {
                let string = arguments.string(lua, index)?;
                let string = string.as_bytes();
                let size = if item.size == 0 { string.len() } else { item.size };
                out.extend_from_slice(string.get(..size).ok_or_else(|| arguments.bad(index + 1, "string too short"))?);
                if item.option == b's' {
                    out.push(0);
                }
            }
            _ => {
                let number = arguments.number(index)?;
                let word = if number < 0.0 { number as i64 as u64 } else { number as u64 };
                let bytes = word.to_le_bytes();
                format.put(&mut out, (0..item.size).map(|i| bytes.get(i).copied().unwrap_or(0)));
            }
        }
    }
    Ok(vec![Value::String(lua.create_string(out)?)])
}

fn unpack(lua: &Lua, arguments: Arguments) -> Native {
    let text = arguments.string(lua, 1)?;
    let data = arguments.string(lua, 2)?;
    let (text, data) = (text.as_bytes(), data.as_bytes());
    let start = arguments.optional_integer(3, 1)?;
    if start == 0 {
        return Err(arguments.bad(3, "offset must be 1 or greater"));
    }
    let too_short = || arguments.bad(2, "data string too short");
    let mut position = usize::try_from(start - 1).map_err(|_| too_short())?;
    let mut format = Format::new(&text, "unpack");
    let mut results = Vec::new();
    while let Some(item) = format.next(position)? {
        position = position.checked_add(item.padding).ok_or_else(too_short)?;
        let rest = data.get(position..).ok_or_else(too_short)?;
        let mut size = item.size;
        let bytes = rest.get(..size).ok_or_else(too_short)?;
        match item.option {
            b'x' => {}
            b'f' => results.push(Value::Number(f32::from_bits(u64::from_le_bytes(format.take(bytes)) as u32).into())),
            b'd' => results.push(Value::Number(f64::from_le_bytes(format.take(bytes)))),
            b'c' if size == 0 => {
                let length = match results.pop() {
                    Some(Value::Number(length)) => length,
                    _ => return Err(Failure::Text("format 'c0' needs a previous size".into())),
                };
                if length < 0.0 {
                    return Err(too_short());
                }
                size = length as usize;
                results.push(Value::String(lua.create_string(rest.get(..size).ok_or_else(too_short)?)?));
            }
            b'c' => results.push(Value::String(lua.create_string(bytes)?)),
            b's' => {
                let end = rest
                    .iter()
                    .position(|&b| b == 0)
                    .ok_or_else(|| Failure::Text("unfinished string in data".into()))?;
                results.push(Value::String(lua.create_string(&rest[..end])?));
                size = end + 1;
            }
            option => {
                let word = u64::from_le_bytes(format.take(bytes));
                let unused = 64u32.saturating_sub(8 * size as u32);
                let number = if option.is_ascii_lowercase() {
                    // Shifting up and back copies the sign; a size of zero has none.
                    word.checked_shl(unused).map_or(0.0, |w| ((w as i64) >> unused) as f64)
                } else {
                    word as f64
                };
                results.push(Value::Number(number));
            }
        }
        position += size;
    }
    results.push(Value::Number(position as f64 + 1.0));
    Ok(results)
}

fn size(lua: &Lua, arguments: Arguments) -> Native {
    let text = arguments.string(lua, 1)?;
    let text = text.as_bytes();
    let mut format = Format::new(&text, "size");
    let mut position = 0usize;
    while let Some(item) = format.next(position)? {
        match (item.option, item.size) {
            (b's', _) => return Err(arguments.bad(1, "option 's' has no fixed size")),
            (b'c', 0) => return Err(arguments.bad(1, "option 'c0' has no fixed size")),
            (_, size) => position += item.padding + size,
        }
        if position > i32::MAX as usize {
            return Err(Failure::Text("integral size overflow".into()));
        }
    }
    Ok(vec![Value::Number(position as f64)])
}

/// The library's table, of functions to be lifted.
pub fn open(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    export(lua, &table, &[("pack", pack), ("unpack", unpack), ("size", size)])?;
    Ok(table)
}
