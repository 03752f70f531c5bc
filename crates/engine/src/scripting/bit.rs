//! The `bit` library: 32-bit operations on Lua numbers.

use mlua::{Lua, Table, Value};

use super::native::{Arguments, Native, export};

/// Adding it leaves the low 32 bits of the rounded number in the low bits of the mantissa.
const TO_BITS: f64 = 6_755_399_441_055_744.0;

fn word(arguments: &Arguments, index: usize) -> Native<u32> {
    let number = arguments.number(index)?;
    Ok(if number.is_nan() { 0 } else { (number + TO_BITS).to_bits() as u32 })
}

fn answer(bits: u32) -> Native {
    Ok(vec![Value::Integer((bits as i32).into())])
}

fn fold(arguments: &Arguments, operation: fn(u32, u32) -> u32) -> Native {
    let mut bits = word(arguments, 1)?;
    for index in 2..=arguments.len() {
        bits = operation(bits, word(arguments, index)?);
    }
    answer(bits)
}

fn shift(arguments: &Arguments, operation: fn(u32, u32) -> u32) -> Native {
    answer(operation(word(arguments, 1)?, word(arguments, 2)? & 31))
}

fn tohex(lua: &Lua, arguments: Arguments) -> Native {
    let bits = word(&arguments, 1)?;
    let digits = if arguments.get(2).is_nil() { 8 } else { word(&arguments, 2)? as i32 };
    let count = digits.unsigned_abs().min(8) as usize;
    let text = if digits < 0 { format!("{bits:08X}") } else { format!("{bits:08x}") };
    Ok(vec![Value::String(lua.create_string(&text[8 - count..])?)])
}

/// The library's table, of functions to be lifted.
pub fn open(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    export(
        lua,
        &table,
        &[
            ("tobit", |_, a| answer(word(&a, 1)?)),
            ("bnot", |_, a| answer(!word(&a, 1)?)),
            ("bswap", |_, a| answer(word(&a, 1)?.swap_bytes())),
            ("band", |_, a| fold(&a, |x, y| x & y)),
            ("bor", |_, a| fold(&a, |x, y| x | y)),
            ("bxor", |_, a| fold(&a, |x, y| x ^ y)),
            ("lshift", |_, a| shift(&a, |x, n| x << n)),
            ("rshift", |_, a| shift(&a, |x, n| x >> n)),
            ("arshift", |_, a| shift(&a, |x, n| ((x as i32) >> n) as u32)),
            ("rol", |_, a| shift(&a, u32::rotate_left)),
            ("ror", |_, a| shift(&a, u32::rotate_right)),
            ("tohex", tohex),
        ],
    )?;
    Ok(table)
}
