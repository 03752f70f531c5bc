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

use std::cell::RefCell;
use std::collections::HashMap;

use mlua::state::{GcIncParams, GcMode};
use mlua::{Function, Lua, Table, Value};

use self::current_host::{Ended, Entry, Guard, Handover, Kept, Place};
use self::reply::{Protocol, Simple};
use crate::dialect::Dialect;

/// Garbage is collected a little after each so many runs, besides what Lua does by itself as it allocates.
const RUNS_PER_COLLECTION: u32 = 500;
const KILL_TEXT: &str = "ERR Script killed by user with SCRIPT KILL...";
const FUNCTION_KILL_TEXT: &str = "ERR Script killed by user with FUNCTION KILL...";

/// Why a running script must end at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// SCRIPT KILL, or the server is shutting down.
    Kill,
    /// It took longer than it may.
    Timeout,
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

    /// In whose words errors are.
    fn dialect(&self) -> Dialect {
        Dialect::Redis
    }
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

/// A function that a library registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionInfo {
    /// Its name as registered.
    pub name: String,
    /// What the library says about it.
    pub description: Option<Vec<u8>>,
    /// What it declares; `present` is set.
    pub flags: shebang::Flags,
}

/// A Lua state with its compiled scripts. Belongs to one thread.
pub struct Interpreter {
    lua: Lua,
    /// The table behind the read-only globals.
    globals: Table,
    /// Runs scripts and functions of libraries, with the error handler in place.
    entry: Entry,
    /// Loads a library, likewise.
    load: Function,
    /// The globals of libraries: those of scripts, but for the time of loading.
    library_face: Table,
    /// What libraries see while they are loaded.
    load_globals: Table,
    scripts: HashMap<Box<str>, Kept>,
    /// The script that was asked for last, most likely the next one too, and where it is: good until scripts go.
    last: RefCell<(Box<str>, Option<Place>)>,
    /// The functions of each library by name, by the library's id.
    libraries: HashMap<u64, HashMap<Box<str>, Kept>>,
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
        let (globals, libraries, entry) =
            lua.load(include_str!("sandbox.lua"))
                .set_name("=sandbox")
                .call::<(Table, Table, Table)>(host_functions(&lua, options)?)?;
        for pair in libraries.pairs::<String, Table>() {
            let (name, library) = pair?;
            let facade = current_host::protect(&lua, &library, None)?;
            if name == "redis" {
                globals.raw_set("server", &facade)?;
            }
            globals.raw_set(name, facade)?;
        }
        let missing = seal(&lua, &globals, &libraries.raw_get("string")?)?;
        let load_globals = lua.create_table()?;
        load_globals.set_metatable(Some(missing.clone()))?;
        for pair in entry.raw_get::<Table>("load_apis")?.pairs::<String, Table>() {
            let (name, api) = pair?;
            api.set_metatable(Some(missing.clone()))?;
            load_globals.raw_set(name, current_host::protect(&lua, &api, None)?)?;
        }
        let library_face = current_host::protect(&lua, &globals, Some(current_host::protect(&lua, &missing, None)?))?;
        current_host::arm_hook(&lua)?;
        // What building it left behind. From then on the collector waits until as much again has been used, some 100 KB where
        // scripts keep nothing: what it looks through again each time is mostly the libraries.
        lua.gc_collect()?;
        lua.gc_set_mode(GcMode::Incremental(GcIncParams::default().pause(200).step_multiplier(400)));
        if options.memory_limit > 0 {
            lua.set_memory_limit(options.memory_limit)?;
        }
        Ok(Interpreter {
            entry: Entry::new(&lua, &globals, entry.raw_get("on_error")?)?,
            lua,
            globals,
            load: entry.raw_get("load")?,
            library_face,
            load_globals,
            scripts: HashMap::new(),
            last: RefCell::default(),
            libraries: HashMap::new(),
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
        let script = compiled.and_then(|script| Kept::new(&self.lua, script));
        let script =
            script.map_err(|error| format!("ERR Error compiling script (new function): {}", error_text(&error)))?;
        // One that it replaces is dropped with its place.
        self.last.take();
        self.scripts.insert(sha.into(), script);
        Ok(())
    }

    /// Whether `sha` is compiled here.
    pub fn has(&self, sha: &str) -> bool {
        self.place(sha).is_some()
    }

    /// Where the script `sha` is, if it is compiled here.
    fn place(&self, sha: &str) -> Option<Place> {
        let mut last = self.last.borrow_mut();
        if last.1.is_none() || *last.0 != *sha {
            *last = (sha.into(), self.scripts.get(sha).map(Kept::place));
        }
        last.1
    }

    /// Runs the script `sha` and appends its reply, for a client that speaks RESP3 or not, to `reply`. Whether that is an error
    /// which [`ScriptHost::call`] gave the script.
    pub fn run(
        &mut self,
        sha: &str,
        keys: &[&[u8]],
        argv: &[&[u8]],
        host: &mut dyn ScriptHost,
        reply: &mut Vec<u8>,
        client_resp3: bool,
    ) -> bool {
        match self.place(sha) {
            Some(script) => {
                let code = Code { name: sha, script, handover: Handover::Globals, kill_text: KILL_TEXT };
                self.enter(&code, [keys, argv], host, reply, client_resp3)
            }
            None => {
                reply::write_error(reply, b"NOSCRIPT No matching script. Please use EVAL.");
                false
            }
        }
    }

    /// Calls a function of a library that was loaded here, as [`Interpreter::run`] runs a script.
    #[allow(clippy::too_many_arguments)]
    pub fn call(
        &mut self,
        library: u64,
        name: &str,
        keys: &[&[u8]],
        argv: &[&[u8]],
        host: &mut dyn ScriptHost,
        reply: &mut Vec<u8>,
        client_resp3: bool,
    ) -> bool {
        match self.libraries.get(&library).and_then(|functions| functions.get(name)).map(Kept::place) {
            Some(script) => {
                let code = Code { name, script, handover: Handover::Arguments, kill_text: FUNCTION_KILL_TEXT };
                self.enter(&code, [keys, argv], host, reply, client_resp3)
            }
            None => {
                reply::write_error(reply, b"ERR Function not found");
                false
            }
        }
    }

    fn enter(
        &mut self,
        code: &Code,
        words: [&[&[u8]]; 2],
        host: &mut dyn ScriptHost,
        reply: &mut Vec<u8>,
        client_resp3: bool,
    ) -> bool {
        let start = reply.len();
        let outcome = current_host::enter(host, || self.run_inside(code, words, reply, client_resp3));
        let counted = outcome.unwrap_or_else(|error| {
            reply.truncate(start);
            let text = error_text(&error);
            reply::write_error(reply, format!("ERR {text} script: {}", code.name).as_bytes());
            false
        });
        self.runs += 1;
        if self.memory_limit > 0 && self.lua.used_memory() > self.memory_limit / 4 {
            // Lua 5.1 does not collect when an allocation fails: garbage must not eat up what the next script may use.
            let _ = self.lua.gc_collect();
        } else if self.runs.is_multiple_of(RUNS_PER_COLLECTION) {
            let _ = self.lua.gc_step();
        }
        counted
    }

    fn run_inside(
        &self,
        code: &Code,
        words: [&[&[u8]]; 2],
        reply: &mut Vec<u8>,
        client_resp3: bool,
    ) -> mlua::Result<bool> {
        let Code { name, script, handover, kill_text } = code;
        let protocol = || Protocol { client_resp3, script_resp3: current_host::resp3() };
        let simple = |value: Simple| reply::write_simple(reply, value, protocol());
        let value = match self.entry.run(&self.lua, *script, words, *handover, simple)? {
            Ended::Simple => return Ok(false),
            Ended::Value(value) => {
                reply::write(reply, &value, protocol())?;
                return is_counted(&value);
            }
            Ended::Error(value) => value,
        };
        match value {
            _ if current_host::killed().is_some() => {
                write_script_error(reply, kill_text.as_bytes(), name, error_place(&value)?)
            }
            Value::Table(ref error) => {
                let text: mlua::LuaString = error.raw_get("err")?;
                write_script_error(reply, &text.as_bytes(), name, error_place(&value)?);
                return is_counted(&value);
            }
            // No handler runs when memory is out.
            _ => return Err(mlua::Error::MemoryError(String::new())),
        }
        Ok(false)
    }

    /// Loads a library, whose first line is its metadata, under the number `id`: tells which functions it registers.
    ///
    /// # Errors
    /// The error reply's text.
    pub fn load_library(
        &mut self,
        id: u64,
        code: &[u8],
        host: &mut dyn ScriptHost,
    ) -> Result<Vec<FunctionInfo>, String> {
        // The metadata's newline stays, so that line numbers are right.
        let start = code.iter().position(|&b| b == b'\n').unwrap_or(code.len());
        let library = self
            .lua
            .load(&code[start..])
            .set_name("@user_function")
            .set_mode(mlua::chunk::ChunkMode::Text)
            .set_environment(self.library_face.clone())
            .into_function()
            .map_err(|error| format!("ERR Error compiling function: {}", error_text(&error)))?;
        let (registered, timeout) = current_host::enter(host, || {
            let registered = self.register(&library);
            (registered, current_host::killed() == Some(Interrupt::Timeout))
        });
        let registered = match registered {
            _ if timeout => Err("ERR FUNCTION LOAD timeout".to_string()),
            Ok(registered) => registered,
            Err(error) => Err(format!("ERR {}", error_text(&error))),
        };
        let registered = registered.map_err(|text| format!("ERR Error registering functions: {text}"))?;
        let (mut infos, mut functions) = (Vec::new(), HashMap::new());
        for (info, function) in registered {
            let function = Kept::new(&self.lua, function).map_err(|error| format!("ERR {}", error_text(&error)))?;
            functions.insert(info.name.as_str().into(), function);
            infos.push(info);
        }
        if infos.is_empty() {
            return Err("ERR No functions registered".to_string());
        }
        self.libraries.insert(id, functions);
        Ok(infos)
    }

    /// Runs a library's text with the globals that are there for it. The inner error is that of the text.
    fn register(&self, library: &Function) -> mlua::Result<Result<Vec<(FunctionInfo, Function)>, String>> {
        current_host::retarget(&self.library_face, &self.load_globals)?;
        let outcome = self.load.call::<(bool, Value)>(library);
        current_host::retarget(&self.library_face, &self.globals)?;
        let (ok, value) = outcome?;
        let Value::Table(table) = value else {
            return Err(mlua::Error::MemoryError(String::new()));
        };
        if !ok {
            return Ok(Err(table.raw_get::<mlua::LuaString>("err")?.to_string_lossy()));
        }
        let mut registered = Vec::new();
        for function in table.sequence_values::<Table>() {
            let function = function?;
            let mut flags = shebang::Flags { present: true, ..shebang::Flags::default() };
            for name in function.raw_get::<Table>("flags")?.sequence_values::<String>() {
                if let Some(flag) = flags.by_name(&name?) {
                    *flag = true;
                }
            }
            let description = function.raw_get::<Option<mlua::LuaString>>("description")?;
            let info = FunctionInfo {
                name: function.raw_get("name")?,
                description: description.map(|text| text.as_bytes().to_vec()),
                flags,
            };
            registered.push((info, function.raw_get("callback")?));
        }
        Ok(Ok(registered))
    }

    /// Whether the library with this number is loaded here.
    pub fn has_library(&self, id: u64) -> bool {
        self.libraries.contains_key(&id)
    }

    /// Drops the libraries that are not to be kept.
    pub fn retain_libraries(&mut self, keep: impl Fn(u64) -> bool) {
        self.libraries.retain(|&id, _| keep(id));
    }

    /// Drops compiled scripts but those to keep, by SHA-1.
    pub fn retain_scripts(&mut self, keep: impl Fn(&str) -> bool) {
        self.last.take();
        self.scripts.retain(|sha, _| keep(sha));
    }

    /// Drops one compiled script.
    pub fn forget(&mut self, sha: &str) {
        self.last.take();
        self.scripts.remove(sha);
    }

    /// Drops all compiled scripts.
    pub fn flush(&mut self) {
        self.last.take();
        self.scripts.clear();
        // Each collection has Lua make its table of strings half as long, at most.
        let mut before = usize::MAX;
        while self.lua.used_memory() < before {
            before = self.lua.used_memory();
            let _ = self.lua.gc_collect();
        }
    }

    /// Bytes that Lua holds.
    pub fn used_memory(&self) -> usize {
        self.lua.used_memory()
    }

    /// Bytes that Lua holds, without its garbage as long as collecting that is a matter of a millisecond.
    pub fn live_memory(&self) -> usize {
        /// Memory that is looked through so fast.
        const SMALL_BYTES: usize = 1 << 20;
        if self.lua.used_memory() < SMALL_BYTES {
            // If it fails, the figure is higher.
            let _ = self.lua.gc_collect();
        }
        self.lua.used_memory()
    }

    /// How many scripts are compiled here.
    pub fn scripts(&self) -> usize {
        self.scripts.len()
    }
}

/// What one run enters Lua with.
struct Code<'a> {
    /// What error texts call it.
    name: &'a str,
    script: Place,
    handover: Handover,
    kill_text: &'static str,
}

fn error_text(error: &mlua::Error) -> String {
    match error {
        mlua::Error::SyntaxError { message, .. } => message.clone(),
        mlua::Error::MemoryError(_) => "not enough memory".to_string(),
        error => error.to_string(),
    }
}

/// Whether a value is the error of a command, which is in the statistics already.
fn is_counted(value: &Value) -> mlua::Result<bool> {
    match value {
        Value::Table(error) => error.raw_get("ignore_error_stats_update"),
        _ => Ok(false),
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

fn write_script_error(reply: &mut Vec<u8>, text: &[u8], name: &str, place: Option<(mlua::LuaString, i64)>) {
    let mut line = text.to_vec();
    // Valkey does not name the script.
    let (name, on) = current_host::dialect().choose((name, ", on "), ("", "on "));
    line.extend_from_slice(format!(" script: {name}").as_bytes());
    if let Some((source, number)) = place {
        line.extend_from_slice(on.as_bytes());
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
    host.raw_set("killed", lua.create_function(|_, ()| Ok(current_host::killed().is_some()))?)?;
    host.raw_set("kill_text", KILL_TEXT)?;
    host.raw_set("where", lua.create_function(|lua, ()| Ok(place_of_error(lua)))?)?;
    host.raw_set("redis", redis::open(lua)?)?;
    host.raw_set(
        "guard",
        lua.create_function(|lua, (kind, original, next): (String, Function, Option<Function>)| {
            let kind = match kind.as_str() {
                "read" => Guard::Read,
                "write" => Guard::Write,
                "pairs" => Guard::Pairs,
                "metatable" => Guard::Metatable,
                _ => Guard::TextOnly,
            };
            current_host::guard(lua, kind, original, next)
        })?,
    )?;
    host.raw_set("new_cjson", lua.create_function(|lua, ()| cjson::open(lua))?)?;
    host.raw_set("cmsgpack", cmsgpack::open(lua)?)?;
    host.raw_set("struct", structs::open(lua)?)?;
    host.raw_set("bit", bit::open(lua)?)?;
    let function_flags = lua.create_table()?;
    for name in shebang::Flags::NAMES {
        function_flags.raw_set(name, true)?;
    }
    host.raw_set("function_flags", function_flags)?;
    host.raw_set("random", random::open(lua, options.seed)?)?;
    let (major, minor, patch) = options.version;
    host.raw_set("version", format!("{major}.{minor}.{patch}"))?;
    host.raw_set("version_number", u32::from(major) << 16 | u32::from(minor) << 8 | u32::from(patch))?;
    Ok(host)
}

/// The source and line of the script's frame in which the error in hand was raised, directly or in a function that it called.
fn place_of_error(lua: &Lua) -> (Option<String>, Option<usize>) {
    // Level 0 is this function and 1 the handler.
    for level in 2.. {
        let place = lua.inspect_stack(level, |frame| {
            let source = frame.source();
            let inside = source.source.as_deref() == Some("=sandbox") || source.what != "Lua" && source.what != "main";
            (!inside).then(|| (source.source.map(|text| text.into_owned()), frame.current_line()))
        });
        match place {
            None => break,
            Some(Some(place)) => return place,
            Some(None) => {}
        }
    }
    (None, None)
}

/// Makes the globals, and the metatables that scripts can get at, read-only. Gives the metatable that makes reading a missing
/// field an error.
fn seal(lua: &Lua, globals: &Table, string_library: &Table) -> mlua::Result<Table> {
    let missing = lua.create_table()?;
    let message = lua.create_function(|_, name: Value| {
        Ok(format!("Script attempted to access nonexistent global variable '{}'", name.to_string()?))
    })?;
    let index: Function = lua
        .load("local message, error = ... return function(_, name) error(message(name), 2) end")
        .set_name("=sandbox")
        .call((message, lua.globals().get::<Function>("error")?))?;
    missing.raw_set("__index", index)?;
    globals.set_metatable(Some(missing.clone()))?;
    let facade = current_host::protect(lua, globals, Some(current_host::protect(lua, &missing, None)?))?;
    globals.raw_set("_G", &facade)?;
    // Scripts reach the metatable of strings with getmetatable(''); its methods are the library's own.
    let strings = lua.create_table()?;
    strings.raw_set("__index", string_library)?;
    let shown = lua.create_table()?;
    shown.raw_set("__index", globals.raw_get::<Table>("string")?)?;
    strings.raw_set("__metatable", current_host::protect(lua, &shown, None)?)?;
    lua.set_type_metatable::<mlua::LuaString>(Some(strings));
    lua.set_globals(facade)?;
    Ok(missing)
}
