//! EVAL's Lua: an interpreter for one thread that knows nothing of the rest of the engine but the [`ScriptHost`] trait.
//!
//! Invariants:
//! - A script sees only what `sandbox.lua` hands it: no files, no bytecode, no way to change what the next script sees. Its
//!   globals are read-only; `KEYS` and `ARGV` are set by the interpreter for each run.
//! - After an error, a kill or a lack of memory the interpreter serves the next script as if nothing had happened.
//! - [`Interpreter::run`] appends exactly one RESP reply.
//!
//! The sub-modules: `current_host` (the raw edge to Lua), `reply` (values to RESP), `native` (how Rust functions look to Lua), and
//! the libraries `redis`, `bit`, `cjson`, `cmsgpack`, `structs`, `random`. `sandbox.lua` puts them together.
//!
//! Nested values recurse up to a thousand deep: the thread needs a stack of 2 MiB (64 MiB without optimisation).

mod bit;
mod cjson;
mod cmsgpack;
mod current_host;
mod native;
mod number;
mod random;
mod redis;
pub mod reply;
pub mod shebang;
mod structs;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use mlua::{Function, Lua, Table, Value};

use self::current_host::Guard;
use self::reply::Protocol;

/// Garbage is collected a little after each so many runs, besides what Lua does by itself as it allocates.
const RUNS_PER_COLLECTION: u32 = 50;
const KILL_TEXT: &str = "ERR Script killed by user with SCRIPT KILL...";

/// Why a running script must end at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// SCRIPT KILL, or the server is shutting down.
    Kill,
}

/// What a running script may do to the world.
pub trait ScriptHost {
    /// `redis.call` and `redis.pcall`: runs a command and appends its reply in RESP to `reply`, in RESP3 if `resp3`. Errors are
    /// RESP error replies too. There is at least one argument.
    fn call(&mut self, arguments: &[&[u8]], resp3: bool, reply: &mut Vec<u8>);

    /// `redis.log`; `level` is 0 (debug) to 3 (warning).
    fn log(&mut self, level: i64, text: &[u8]);

    /// Called every now and then (a fraction of a millisecond) while Lua runs; an error ends the script.
    fn poll(&mut self) -> Result<(), Interrupt>;

    /// `redis.acl_check_cmd`: whether the user may run this; `None` when there is no such command.
    fn acl_check(&mut self, arguments: &[&[u8]]) -> Option<bool>;
}

/// What an [`Interpreter`] is built with.
#[derive(Clone, Debug)]
pub struct ScriptOptions {
    /// The most bytes Lua may hold; 0: no limit.
    pub memory_limit: usize,
    /// Where `math.random` starts.
    pub seed: u32,
    /// `redis.REDIS_VERSION`, as `(7, 4, 0)`.
    pub version: (u8, u8, u8),
}

/// A Lua state with its compiled scripts. Belongs to one thread.
pub struct Interpreter {
    lua: Lua,
    /// The table behind the read-only globals.
    globals: Table,
    /// Runs a script with the error handler in place.
    run: Function,
    scripts: HashMap<Box<str>, Function>,
    runs: u32,
    memory_limit: usize,
}

impl Interpreter {
    /// Builds the sandbox.
    ///
    /// # Errors
    /// When Lua has no memory.
    pub fn new(options: &ScriptOptions) -> Result<Self, mlua::Error> {
        let lua = current_host::new_lua();
        let (globals, libraries, run) = lua
            .load(include_str!("sandbox.lua"))
            .set_name("=sandbox")
            .call::<(Table, Table, Function)>(host_functions(&lua, options)?)?;
        for pair in libraries.pairs::<String, Table>() {
            let (name, library) = pair?;
            let facade = current_host::protect(&lua, &library, None)?;
            if name == "redis" {
                globals.raw_set("server", &facade)?;
            }
            globals.raw_set(name, facade)?;
        }
        seal(&lua, &globals, &libraries.raw_get("string")?)?;
        current_host::arm_hook(&lua)?;
        if options.memory_limit > 0 {
            lua.set_memory_limit(options.memory_limit)?;
        }
        Ok(Interpreter {
            lua,
            globals,
            run,
            scripts: HashMap::new(),
            runs: 0,
            memory_limit: options.memory_limit,
        })
    }

    /// Compiles a script and keeps it under `sha`. The shebang line, if any, must have been checked (see [`shebang::parse`]).
    ///
    /// # Errors
    /// The error reply's text.
    pub fn load(&mut self, sha: &str, body: &[u8]) -> Result<(), String> {
        let (_, start) = shebang::parse(body)?;
        let compiled = self
            .lua
            .load(&body[start..])
            .set_name("@user_script")
            .set_mode(mlua::chunk::ChunkMode::Text)
            .into_function();
        match compiled {
            Ok(script) => {
                self.scripts.insert(sha.into(), script);
                Ok(())
            }
            Err(mlua::Error::SyntaxError { message, .. }) => Err(format!(
                "ERR Error compiling script (new function): {message}"
            )),
            Err(error) => Err(format!(
                "ERR Error compiling script (new function): {error}"
            )),
        }
    }

    /// Whether `sha` is compiled here.
    pub fn has(&self, sha: &str) -> bool {
        self.scripts.contains_key(sha)
    }

    /// Runs the script `sha` and appends its reply, for a client that speaks RESP3 or not, to `reply`.
    pub fn run(
        &mut self,
        sha: &str,
        keys: &[&[u8]],
        argv: &[&[u8]],
        host: &mut dyn ScriptHost,
        reply: &mut Vec<u8>,
        client_resp3: bool,
    ) {
        let start = reply.len();
        let outcome = current_host::enter(host, || {
            self.run_inside(sha, keys, argv, reply, client_resp3)
        });
        if let Err(error) = outcome {
            reply.truncate(start);
            let text = match &error {
                mlua::Error::MemoryError(_) => "not enough memory".to_string(),
                error => error.to_string(),
            };
            reply::write_error(reply, format!("ERR {text} script: {sha}").as_bytes());
        }
        self.runs += 1;
        if self.memory_limit > 0 && self.lua.used_memory() > self.memory_limit / 4 {
            // Lua 5.1 does not collect when an allocation fails: garbage must not eat up what the next script may use.
            let _ = self.lua.gc_collect();
        } else if self.runs.is_multiple_of(RUNS_PER_COLLECTION) {
            let _ = self.lua.gc_step();
        }
    }

    fn run_inside(
        &mut self,
        sha: &str,
        keys: &[&[u8]],
        argv: &[&[u8]],
        reply: &mut Vec<u8>,
        client_resp3: bool,
    ) -> mlua::Result<()> {
        let Some(script) = self.scripts.get(sha) else {
            reply::write_error(reply, b"NOSCRIPT No matching script. Please use EVAL.");
            return Ok(());
        };
        let (ok, value) =
            current_host::run(&self.lua, &self.globals, &self.run, script, keys, argv)?;
        if ok {
            let protocol = Protocol {
                client_resp3,
                script_resp3: current_host::resp3(),
            };
            return reply::write(reply, &value, protocol);
        }
        match value {
            _ if current_host::killed().is_some() => {
                write_script_error(reply, KILL_TEXT.as_bytes(), sha, error_place(&value)?)
            }
            Value::Table(ref error) => {
                let text: mlua::LuaString = error.raw_get("err")?;
                write_script_error(reply, &text.as_bytes(), sha, error_place(&value)?);
            }
            // No handler runs when memory is out.
            _ => return Err(mlua::Error::MemoryError(String::new())),
        }
        Ok(())
    }

    /// Drops one compiled script.
    pub fn forget(&mut self, sha: &str) {
        self.scripts.remove(sha);
    }

    /// Drops all compiled scripts.
    pub fn flush(&mut self) {
        self.scripts.clear();
        let _ = self.lua.gc_collect();
    }

    /// Bytes that Lua holds.
    pub fn used_memory(&self) -> usize {
        self.lua.used_memory()
    }

    /// How many scripts are compiled here.
    pub fn scripts(&self) -> usize {
        self.scripts.len()
    }
}

/// Where an error was raised: its source (`@user_script`) and line.
fn error_place(value: &Value) -> mlua::Result<Option<(mlua::LuaString, i64)>> {
    let Value::Table(error) = value else {
        return Ok(None);
    };
    Ok(match (error.raw_get("source")?, error.raw_get("line")?) {
        (Value::String(source), Value::Integer(line)) => Some((source, line)),
        (Value::String(source), Value::Number(line)) => Some((source, line as i64)),
        _ => None,
    })
}

fn write_script_error(
    reply: &mut Vec<u8>,
    text: &[u8],
    sha: &str,
    place: Option<(mlua::LuaString, i64)>,
) {
    let mut line = text.to_vec();
    line.extend_from_slice(format!(" script: {sha}").as_bytes());
    if let Some((source, number)) = place {
        line.extend_from_slice(b", on ");
        line.extend_from_slice(&source.as_bytes());
        line.extend_from_slice(format!(":{number}.").as_bytes());
    }
    reply::write_error(reply, &line);
}

/// The functions that `sandbox.lua` builds on.
fn host_functions(lua: &Lua, options: &ScriptOptions) -> mlua::Result<Table> {
    let host = lua.create_table()?;
    let [call, pcall, acl_check] = current_host::command_functions(lua)?;
    host.raw_set("call", call)?;
    host.raw_set("pcall", pcall)?;
    host.raw_set("acl_check_cmd", acl_check)?;
    host.raw_set(
        "killed",
        lua.create_function(|_, ()| Ok(current_host::killed().is_some()))?,
    )?;
    host.raw_set("kill_text", KILL_TEXT)?;
    host.raw_set(
        "where",
        lua.create_function(|lua, ()| Ok(place_of_error(lua)))?,
    )?;
    host.raw_set("redis", redis::open(lua)?)?;
    host.raw_set(
        "guard",
        lua.create_function(
            |lua, (kind, original, next): (String, Function, Option<Function>)| {
                let kind = match kind.as_str() {
                    "read" => Guard::Read,
                    "write" => Guard::Write,
                    "pairs" => Guard::Pairs,
                    "metatable" => Guard::Metatable,
                    _ => Guard::TextOnly,
                };
                current_host::guard(lua, kind, original, next)
            },
        )?,
    )?;
    host.raw_set(
        "new_cjson",
        lua.create_function(|lua, ()| cjson::open(lua))?,
    )?;
    host.raw_set("cmsgpack", cmsgpack::open(lua)?)?;
    host.raw_set("struct", structs::open(lua)?)?;
    host.raw_set("bit", bit::open(lua)?)?;
    host.raw_set("random", random::open(lua, options.seed)?)?;
    let (major, minor, patch) = options.version;
    host.raw_set("version", format!("{major}.{minor}.{patch}"))?;
    host.raw_set(
        "version_number",
        u32::from(major) << 16 | u32::from(minor) << 8 | u32::from(patch),
    )?;
    Ok(host)
}

/// The source and line of the script's frame in which the error in hand was raised, directly or in a function that it called.
fn place_of_error(lua: &Lua) -> (Option<String>, Option<usize>) {
    // Level 0 is this function and 1 the handler.
    for level in 2.. {
        let place = lua.inspect_stack(level, |frame| {
            let source = frame.source();
            let inside = source.source.as_deref() == Some("=sandbox")
                || source.what != "Lua" && source.what != "main";
            (!inside).then(|| {
                (
                    source.source.map(|text| text.into_owned()),
                    frame.current_line(),
                )
            })
        });
        match place {
            None => break,
            Some(Some(place)) => return place,
            Some(None) => {}
        }
    }
    (None, None)
}

/// Makes the globals, and the metatables that scripts can get at, read-only.
fn seal(lua: &Lua, globals: &Table, string_library: &Table) -> mlua::Result<()> {
    let missing = lua.create_table()?;
    let message = lua.create_function(|_, name: Value| {
        Ok(format!(
            "Script attempted to access nonexistent global variable '{}'",
            name.to_string()?
        ))
    })?;
    let index: Function = lua
        .load("local message, error = ... return function(_, name) error(message(name), 2) end")
        .set_name("=sandbox")
        .call((message, lua.globals().get::<Function>("error")?))?;
    missing.raw_set("__index", index)?;
    globals.set_metatable(Some(missing.clone()))?;
    let facade = current_host::protect(
        lua,
        globals,
        Some(current_host::protect(lua, &missing, None)?),
    )?;
    globals.raw_set("_G", &facade)?;
    // Scripts reach the metatable of strings with getmetatable(''); its methods are the library's own.
    let strings = lua.create_table()?;
    strings.raw_set("__index", string_library)?;
    let shown = lua.create_table()?;
    shown.raw_set("__index", globals.raw_get::<Table>("string")?)?;
    strings.raw_set("__metatable", current_host::protect(lua, &shown, None)?)?;
    lua.set_type_metatable::<mlua::LuaString>(Some(strings));
    lua.set_globals(facade)
}
