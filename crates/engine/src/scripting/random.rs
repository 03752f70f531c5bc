//! `math.random` and `math.randomseed`: the 48-bit linear congruential generator that Redis uses, so that a script that seeds it
//! sees the same numbers on every machine.

use std::cell::Cell;
use std::rc::Rc;

use mlua::{Lua, Table, Value};

use super::native::{Failure, Native, bad_argument, function};

const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const MASK: u64 = (1 << 48) - 1;

fn seeded(seed: u32) -> u64 {
    u64::from(seed) << 16 | 0x330E
}

/// 31 random bits.
fn next(state: &Cell<u64>) -> u32 {
    state.set(state.get().wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK);
    (state.get() >> 17) as u32
}

/// A table with `random` and `randomseed`, to be lifted.
pub fn open(lua: &Lua, seed: u32) -> mlua::Result<Table> {
    let state = Rc::new(Cell::new(seeded(seed)));
    let table = lua.create_table()?;
    let generator = Rc::clone(&state);
    let random = move |_: &Lua, arguments: super::native::Arguments| -> Native {
        let limit = i32::MAX as u32;
        let fraction = f64::from(next(&generator) % limit) / f64::from(limit);
        let (low, high, blamed) = match arguments.len() {
            0 => return Ok(vec![Value::Number(fraction)]),
            1 => (1, arguments.integer(1)?, 1),
            2 => (arguments.integer(1)?, arguments.integer(2)?, 2),
            _ => return Err(Failure::Text("wrong number of arguments".into())),
        };
        if low > high {
            return Err(bad_argument(blamed, "random", "interval is empty"));
        }
        let span = high.wrapping_sub(low).wrapping_add(1) as f64;
        Ok(vec![Value::Number((fraction * span).floor() + low as f64)])
    };
    table.raw_set("random", function(lua, random, "random")?)?;
    let randomseed = move |_: &Lua, arguments: super::native::Arguments| -> Native {
        state.set(seeded(arguments.integer(1)? as u32));
        Ok(Vec::new())
    };
    table.raw_set("randomseed", function(lua, randomseed, "randomseed")?)?;
    Ok(table)
}
