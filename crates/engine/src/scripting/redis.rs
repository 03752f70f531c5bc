//! The functions of the `redis` table that run no command.

use mlua::{Lua, Table, Value};

use super::current_host;
use super::native::{Arguments, Failure, Native, export};

fn sha1hex(lua: &Lua, arguments: Arguments) -> Native {
    if arguments.len() != 1 {
        return Err(Failure::Reply("ERR wrong number of arguments"));
    }
    // What is no string counts as an empty one.
    let digest = match arguments.string(lua, 1) {
        Ok(text) => sha1_smol::Sha1::from(&*text.as_bytes()).digest(),
        Err(_) => sha1_smol::Sha1::new().digest(),
    };
    Ok(vec![Value::String(lua.create_string(digest.to_string())?)])
}

fn log(lua: &Lua, arguments: Arguments) -> Native {
    if arguments.len() < 2 {
        return Err(Failure::Reply("ERR redis.log() requires two arguments or more."));
    }
    let level = arguments.number(1).map_err(|_| Failure::Reply("ERR First argument must be a number (log level)."))?;
    if !(0.0..4.0).contains(&level) {
        return Err(Failure::Reply("ERR Invalid log level."));
    }
    let mut text = Vec::new();
    for index in 2..=arguments.len() {
        if let Ok(part) = arguments.string(lua, index) {
            if index > 2 {
                text.push(b' ');
            }
            text.extend_from_slice(&part.as_bytes());
        }
    }
    current_host::with_host(|host| host.log(level as i64, &text));
    Ok(Vec::new())
}

fn setresp(_: &Lua, arguments: Arguments) -> Native {
    if arguments.len() != 1 {
        return Err(Failure::Reply("ERR redis.setresp() requires one argument."));
    }
    match arguments.number(1) {
        Ok(2.0) => current_host::set_resp3(false),
        Ok(3.0) => current_host::set_resp3(true),
        _ => return Err(Failure::Reply("ERR RESP version must be 2 or 3.")),
    }
    Ok(Vec::new())
}

/// A script's effects are what is replicated, always: the flags are checked and have nothing left to choose.
fn set_repl(_: &Lua, arguments: Arguments) -> Native {
    if arguments.len() != 1 {
        return Err(Failure::Reply("ERR redis.set_repl() requires one argument."));
    }
    if !(0.0..4.0).contains(&arguments.number(1).unwrap_or(0.0)) {
        return Err(Failure::Reply(
            "ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
        ));
    }
    Ok(Vec::new())
}

/// A table of them.
pub fn open(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    export(lua, &table, &[("sha1hex", sha1hex), ("log", log), ("setresp", setresp), ("set_repl", set_repl)])?;
    Ok(table)
}
