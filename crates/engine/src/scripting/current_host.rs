//! The raw edge between the Lua virtual machine and the running script's [`ScriptHost`]: the only file here with `unsafe`.
//!
//! Invariants:
//! - The host pointer is set by [`enter`] for the length of one run and put back when its guard drops, so that no script can
//!   reach a host that is gone. Lua functions run on the thread that entered, one at a time: the pointer is never shared.
//! - A Lua error is a `longjmp`. Every `extern "C-unwind"` function therefore owns nothing that needs dropping at a point where
//!   Lua may raise: owned values live in an inner block, or in the thread's `STATE`.
//! - Once a script is killed, [`killed`] stays true until the next run: `pcall` and friends look at it and raise again.

use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::ptr::NonNull;

use mlua::ffi::{self, lua_State};
use mlua::{Function, IntoLua, Lua, LuaOptions, StdLib, Table, Value};
use smallvec::SmallVec;

use super::number;
use super::reply::Simple;
use super::{Interrupt, ScriptHost};
use crate::dialect::Dialect;

/// Lua instructions between two calls of [`ScriptHost::poll`]: some 100 µs of plain Lua, about 1 ms of a loop of commands.
const POLL_EVERY: c_int = 20_000;
/// How deep a command's reply may nest: no command comes near.
const MAX_REPLY_DEPTH: usize = 64;
/// The most bytes of a reply buffer that are kept between runs.
const KEPT_REPLY: usize = 64 << 10;
/// Marks the metatable of a read-only table; its value there is the table behind.
static PROTECTED: u8 = 0;
/// How `lifted` raises the text that a native function answers: with the script's position in front,
pub(super) const RAISE_WITH_POSITION: c_int = 1;
/// as the table that an error reply is,
pub(super) const RAISE_AS_REPLY: c_int = 2;
/// or as it is.
pub(super) const RAISE_BARE: c_int = 0;
const READONLY: &[u8] = b"Attempt to modify a readonly table";

thread_local! {
    static HOST: Cell<Option<NonNull<dyn ScriptHost>>> = const { Cell::new(None) };
    static RESP3: Cell<bool> = const { Cell::new(false) };
    static KILLED: Cell<Option<Interrupt>> = const { Cell::new(None) };
    /// The reply of the command in hand; kept for its capacity, and so that a Lua error leaks nothing.
    static REPLY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Puts the previous host back when a run ends, however it ends.
pub(super) struct Entered(Option<NonNull<dyn ScriptHost>>);

impl Drop for Entered {
    fn drop(&mut self) {
        HOST.set(self.0);
        // One huge reply must not hold its memory for ever.
        REPLY.with_borrow_mut(|reply| {
            if reply.capacity() > KEPT_REPLY {
                *reply = Vec::new();
            }
        });
    }
}

/// Runs `script` with `host` as the world that Lua's functions see on this thread.
pub(super) fn enter<R>(host: &mut dyn ScriptHost, script: impl FnOnce() -> R) -> R {
    // SAFETY: only the lifetime is widened. The guard below takes the pointer back before `host`'s borrow ends, and `host`
    // itself is not used while the pointer is out.
    let pointer: NonNull<dyn ScriptHost> = unsafe { std::mem::transmute(NonNull::from(host)) };
    let _guard = Entered(HOST.replace(Some(pointer)));
    RESP3.set(false);
    KILLED.set(None);
    script()
}

/// Calls `f` with the current host; `None` outside of a run.
pub(super) fn with_host<R>(f: impl FnOnce(&mut dyn ScriptHost) -> R) -> Option<R> {
    let mut pointer = HOST.take()?;
    // SAFETY: `enter` set the pointer and still borrows the host. It is taken out of the cell meanwhile, so there is no second
    // mutable reference even if `f` came back here.
    let result = f(unsafe { pointer.as_mut() });
    HOST.set(Some(pointer));
    Some(result)
}

/// In whose words errors are.
pub(super) fn dialect() -> Dialect {
    with_host(|host| host.dialect()).unwrap_or_default()
}

/// Chooses the protocol of the replies that `redis.call` hands to the script.
pub(super) fn set_resp3(on: bool) {
    RESP3.set(on);
}

/// Whether the script asked for RESP3 replies.
pub(super) fn resp3() -> bool {
    RESP3.get()
}

/// Why the script in hand must end, once it must.
pub(super) fn killed() -> Option<Interrupt> {
    KILLED.get()
}

/// A Lua state with the standard libraries that the sandbox picks from (`debug` among them, for the sandbox's own use only).
pub(super) fn new_lua() -> Lua {
    let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::OS | StdLib::DEBUG;
    // SAFETY: `debug` is what makes this unsafe; the sandbox keeps it from scripts.
    unsafe { Lua::unsafe_new_with(libraries, LuaOptions::new().catch_rust_panics(false)) }
}

/// Arms the instruction hook. Coroutines inherit it.
pub(super) fn arm_hook(lua: &Lua) -> mlua::Result<()> {
    // SAFETY: `state` is live, and `hook` has the signature that Lua calls.
    unsafe {
        lua.exec_raw((), |state| {
            ffi::lua_sethook(state, Some(hook), ffi::LUA_MASKCOUNT, POLL_EVERY);
        })
    }
}

unsafe extern "C-unwind" fn hook(state: *mut lua_State, _: *mut ffi::lua_Debug) {
    if KILLED.get().is_none() {
        match with_host(|host| host.poll()) {
            Some(Err(interrupt)) => KILLED.set(Some(interrupt)),
            _ => return,
        }
    }
    // SAFETY: called by Lua with a live state; nothing here needs dropping.
    unsafe { raise(state, b"Script killed") }
}

/// Raises `text` as a plain string, without a position.
///
/// # Safety
/// `state` must be live and the caller must own nothing that needs dropping.
unsafe fn raise(state: *mut lua_State, text: &[u8]) -> ! {
    // SAFETY: by the caller's promise; `text` outlives the call, which copies it.
    unsafe {
        ffi::lua_pushlstring(state, text.as_ptr().cast(), text.len());
        ffi::lua_error(state)
    }
}

/// How a script gets its keys and arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Handover {
    /// As the globals `KEYS` and `ARGV`.
    Globals,
    /// As arguments; there are no such globals.
    Arguments,
}

/// A value that Lua keeps, in its registry, until this is dropped.
pub(super) struct Kept {
    /// Keeps the state alive.
    _lua: Lua,
    state: *mut lua_State,
    reference: c_int,
}

impl Kept {
    /// Has Lua keep `value`.
    pub fn new(lua: &Lua, value: impl IntoLua) -> mlua::Result<Kept> {
        let (mut state, mut reference) = (std::ptr::null_mut(), ffi::LUA_NOREF);
        // SAFETY: the value is on the stack; the closure owns nothing that needs dropping.
        unsafe {
            lua.exec_raw::<()>(value.into_lua(lua)?, |own| {
                state = own;
                reference = ffi::luaL_ref(own, ffi::LUA_REGISTRYINDEX);
            })?;
        }
        Ok(Kept { _lua: lua.clone(), state, reference })
    }

    /// Where in the registry the value is: good as long as this is there.
    pub fn place(&self) -> Place {
        Place(self.reference)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: the state is alive, by the `Lua` beside it; giving a place of the registry back allocates nothing and cannot fail.
        unsafe { ffi::luaL_unref(self.state, ffi::LUA_REGISTRYINDEX, self.reference) }
    }
}

/// A place in Lua's registry.
#[derive(Clone, Copy)]
pub(super) struct Place(c_int);

impl Place {
    /// # Safety
    /// `state` must be live with room for one value.
    unsafe fn push(self, state: *mut lua_State) {
        // SAFETY: by the caller's promise; an empty place gives nil.
        unsafe { ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, self.0.into()) };
    }
}

/// What every run of a script needs of Lua.
///
/// Scripts are entered through Lua's own functions and not through `mlua`'s, which would make two closures and a handler for
/// each run: half of what a short script costs.
pub(super) struct Entry {
    state: *mut lua_State,
    start: Kept,
    globals: Kept,
    on_error: Kept,
    /// The names of [`Handover::Globals`].
    names: [Kept; 2],
    /// Where a result is left that is no simple value.
    result: Kept,
}

/// What `start` is given.
struct Run<'a> {
    words: [&'a [&'a [u8]]; 2],
    handover: Handover,
    script: Place,
    globals: Place,
    on_error: Place,
    names: [Place; 2],
    result: Place,
}

/// How a run ended.
pub(super) enum Ended {
    /// With a simple value, which was handed to `simple`.
    Simple,
    /// With another value,
    Value(Value),
    /// or with an error.
    Error(Value),
}

impl Entry {
    /// `globals` is the table behind the scripts' globals; `on_error` makes of an error what [`Ended::Error`] is to hold.
    pub fn new(lua: &Lua, globals: &Table, on_error: Function) -> mlua::Result<Entry> {
        // SAFETY: `start` follows Lua's C function protocol.
        let start = Kept::new(lua, unsafe { lua.create_c_function(start)? })?;
        Ok(Entry {
            state: start.state,
            start,
            globals: Kept::new(lua, globals)?,
            on_error: Kept::new(lua, on_error)?,
            names: [Kept::new(lua, "KEYS")?, Kept::new(lua, "ARGV")?],
            result: Kept::new(lua, true)?,
        })
    }

    /// Runs the function at `script`, with the globals `KEYS` and `ARGV` set or with the two as arguments.
    ///
    /// # Errors
    /// Lua has no memory.
    pub fn run(
        &self,
        lua: &Lua,
        script: Place,
        words: [&[&[u8]]; 2],
        handover: Handover,
        simple: impl FnOnce(Simple),
    ) -> mlua::Result<Ended> {
        let (globals, on_error, result) = (self.globals.place(), self.on_error.place(), self.result.place());
        let names = self.names.each_ref().map(Kept::place);
        let run = Run { words, handover, script, globals, on_error, names, result };
        let state = self.state;
        // SAFETY: no script runs in the state, so that it is at its base, with room for the few values pushed here, and pushing
        // these allocates nothing. Whatever may raise happens in the protected call. The text of a string is used while it is
        // on the stack. The place of the result is there already, so that writing to it allocates nothing.
        unsafe {
            let top = ffi::lua_gettop(state);
            self.start.place().push(state);
            ffi::lua_pushlightuserdata(state, std::ptr::from_ref(&run).cast_mut().cast());
            if ffi::lua_pcall(state, 1, 2, 0) != ffi::LUA_OK {
                ffi::lua_settop(state, top);
                return Err(mlua::Error::MemoryError(String::new()));
            }
            let ok = ffi::lua_toboolean(state, -2) != 0;
            if ok && let Some(value) = simple_value(state) {
                simple(value);
                ffi::lua_settop(state, top);
                return Ok(Ended::Simple);
            }
            ffi::lua_settop(state, top);
            let value = lua.exec_raw::<Value>((), |state| result.push(state));
            ffi::lua_pushboolean(state, 1);
            ffi::lua_rawseti(state, ffi::LUA_REGISTRYINDEX, result.0.into());
            value.map(if ok { Ended::Value } else { Ended::Error })
        }
    }
}

/// The value on top of the stack, if it is a simple one.
///
/// # Safety
/// `state` must be live with a value on top, which stays there for `'a`.
unsafe fn simple_value<'a>(state: *mut lua_State) -> Option<Simple<'a>> {
    // SAFETY: by the caller's promise; each value is read as what it is.
    unsafe {
        match ffi::lua_type(state, -1) {
            ffi::LUA_TNIL => Some(Simple::Nil),
            ffi::LUA_TBOOLEAN => Some(Simple::Boolean(ffi::lua_toboolean(state, -1) != 0)),
            ffi::LUA_TNUMBER => Some(Simple::Number(ffi::lua_tonumber(state, -1))),
            ffi::LUA_TSTRING => Some(Simple::String(bytes(state, -1))),
            _ => None,
        }
    }
}

/// The whole of a run, in one protected call: takes a [`Run`]; returns whether all went well, and the script's first result or its
/// error, which lies in the place for results too, if it is no simple value.
unsafe extern "C-unwind" fn start(state: *mut lua_State) -> c_int {
    // SAFETY: called by `Entry::run` with a `Run` that outlives the call; nothing here needs dropping. Lua gives a C function room
    // for twenty values.
    unsafe {
        let run = &*ffi::lua_touserdata(state, 1).cast::<Run>();
        ffi::lua_settop(state, 0);
        run.on_error.push(state);
        // Its metatable does not guard writes: the read-only face is another table.
        run.globals.push(state);
        for (name, texts) in run.names.into_iter().zip(run.words) {
            name.push(state);
            match run.handover {
                Handover::Globals => push_list(state, texts),
                Handover::Arguments => ffi::lua_pushnil(state),
            }
            ffi::lua_rawset(state, 2);
        }
        ffi::lua_settop(state, 1);
        run.script.push(state);
        let mut arguments = 0;
        if run.handover == Handover::Arguments {
            run.words.iter().for_each(|texts| push_list(state, texts));
            arguments = 2;
        }
        let ok = ffi::lua_pcall(state, arguments, 1, 1) == ffi::LUA_OK;
        if !ok || simple_value(state).is_none() {
            ffi::lua_pushvalue(state, -1);
            ffi::lua_rawseti(state, ffi::LUA_REGISTRYINDEX, run.result.0.into());
        }
        ffi::lua_pushboolean(state, c_int::from(ok));
        ffi::lua_insert(state, -2);
        2
    }
}

/// Pushes a table of these texts.
///
/// # Safety
/// `state` must be live with room for two values; the caller must own nothing that needs dropping.
unsafe fn push_list(state: *mut lua_State, texts: &[&[u8]]) {
    // SAFETY: by the caller's promise.
    unsafe {
        ffi::lua_createtable(state, texts.len().min(c_int::MAX as usize) as c_int, 0);
        for (index, text) in (1..).zip(texts) {
            push_bytes(state, text);
            ffi::lua_rawseti(state, -2, index);
        }
    }
}

/// The functions `call`, `pcall` and `acl_check_cmd` of the `redis` table.
pub(super) fn command_functions(lua: &Lua) -> mlua::Result<[Function; 3]> {
    // SAFETY: the three follow Lua's C function protocol.
    unsafe { Ok([lua.create_c_function(call)?, lua.create_c_function(pcall)?, lua.create_c_function(acl_check)?]) }
}

unsafe extern "C-unwind" fn call(state: *mut lua_State) -> c_int {
    // SAFETY: called by Lua with a live state.
    unsafe {
        if command(state) {
            ffi::lua_error(state)
        }
    }
    1
}

unsafe extern "C-unwind" fn pcall(state: *mut lua_State) -> c_int {
    // SAFETY: called by Lua with a live state.
    unsafe { command(state) };
    1
}

type Arguments<'a> = SmallVec<[&'a [u8]; 16]>;

/// Calls `f` with the Lua arguments as byte strings; an error text when they cannot be a command.
///
/// # Safety
/// `state` must be live. The slices point into Lua strings that stay on Lua's stack, and into `f`'s caller's scratch.
unsafe fn with_arguments<R>(state: *mut lua_State, f: impl FnOnce(&[&[u8]]) -> R) -> Result<R, &'static str> {
    // SAFETY: indexes are within the stack's top; `lua_tolstring` is called on strings only, so it neither converts nor raises.
    unsafe {
        let count = ffi::lua_gettop(state);
        if count == 0 {
            return Err("ERR Please specify at least one argument for this redis lib call");
        }
        let mut numbers: SmallVec<[number::Text; 4]> = SmallVec::new();
        for index in 1..=count {
            match ffi::lua_type(state, index) {
                ffi::LUA_TSTRING => {}
                ffi::LUA_TNUMBER => numbers.push(number::argument(ffi::lua_tonumber(state, index))),
                _ => {
                    return Err("ERR Lua redis lib command arguments must be strings or integers");
                }
            }
        }
        let mut arguments = Arguments::new();
        let mut texts = numbers.iter();
        for index in 1..=count {
            if ffi::lua_type(state, index) == ffi::LUA_TSTRING {
                arguments.push(bytes(state, index));
            } else if let Some(text) = texts.next() {
                arguments.push(text);
            }
        }
        Ok(f(&arguments))
    }
}

/// The bytes of the Lua string at `index`.
///
/// # Safety
/// The value must be a string and stay on the stack for `'a`.
unsafe fn bytes<'a>(state: *mut lua_State, index: c_int) -> &'a [u8] {
    let mut length = 0;
    // SAFETY: by the caller's promise Lua gives a non-null pointer to `length` bytes.
    unsafe {
        let start = ffi::lua_tolstring(state, index, &mut length);
        std::slice::from_raw_parts(start.cast(), length)
    }
}

/// Runs one command and leaves its reply on top of the stack; true when that is an error.
///
/// # Safety
/// `state` must be live.
unsafe fn command(state: *mut lua_State) -> bool {
    let mut reply = REPLY.take();
    reply.clear();
    // SAFETY: by the caller's promise.
    let refused = unsafe {
        with_arguments(state, |arguments| {
            with_host(|host| host.call(arguments, RESP3.get(), &mut reply));
        })
    };
    if let Err(text) = refused {
        reply.push(b'-');
        reply.extend_from_slice(dialect().says(text).as_bytes());
        reply.extend_from_slice(b"\r\n");
    }
    let is_error = reply.first() == Some(&b'-');
    let (start, length) = (reply.as_ptr(), reply.len());
    REPLY.set(reply);
    // SAFETY: the buffer is in the thread's `REPLY` and nothing touches it before this function returns: building Lua values
    // may collect garbage, but scripts have no finalizers that could call a command.
    unsafe {
        let mut input = std::slice::from_raw_parts(start, length);
        // As many arguments as Lua's stack holds leave no room otherwise.
        ffi::lua_settop(state, 0);
        ffi::luaL_checkstack(state, (MAX_REPLY_DEPTH * 4 + 8) as c_int, c"too deep".as_ptr());
        if push_reply(state, &mut input, 0).is_none() {
            ffi::lua_pushboolean(state, 0);
        }
        if is_error && refused.is_ok() {
            // The command has counted its own error already.
            ffi::lua_pushboolean(state, 1);
            ffi::lua_setfield(state, -2, c"ignore_error_stats_update".as_ptr());
        }
    }
    is_error
}

unsafe extern "C-unwind" fn acl_check(state: *mut lua_State) -> c_int {
    // SAFETY: called by Lua with a live state; the answers are plain values by the time anything can raise.
    unsafe {
        let answer = with_arguments(state, |arguments| with_host(|host| host.acl_check(arguments)));
        let text = match answer {
            Ok(Some(Some(allowed))) => {
                ffi::lua_pushboolean(state, c_int::from(allowed));
                return 1;
            }
            Ok(_) => "ERR Invalid command passed to redis.acl_check_cmd()",
            Err(text) => text,
        };
        push_field_table(state, c"err", dialect().says(text).as_bytes());
        ffi::lua_error(state)
    }
}

/// # Safety
/// `state` must be live with room for three values.
unsafe fn push_field_table(state: *mut lua_State, field: &std::ffi::CStr, text: &[u8]) {
    // SAFETY: by the caller's promise.
    unsafe {
        ffi::lua_createtable(state, 0, 2);
        push_bytes(state, text);
        ffi::lua_setfield(state, -2, field.as_ptr());
    }
}

/// # Safety
/// `state` must be live with room for one value.
unsafe fn push_bytes(state: *mut lua_State, text: &[u8]) {
    // SAFETY: Lua copies the bytes.
    unsafe { ffi::lua_pushlstring(state, text.as_ptr().cast(), text.len()) };
}

/// Takes one line without its CR LF.
fn line<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = input.iter().position(|&b| b == b'\r')?;
    let line = input.get(..end)?;
    *input = input.get(end + 2..)?;
    Some(line)
}

fn parse_length(text: &[u8]) -> Option<i64> {
    kelda_resp::parse_i64(text)
}

/// Pushes the RESP value at the start of `input` as Redis shows it to scripts, and moves past it. `None`, and nothing
/// pushed, on bytes that are no RESP.
///
/// # Safety
/// `state` must be live with room for four values a level; the caller must own nothing that needs dropping.
unsafe fn push_reply(state: *mut lua_State, input: &mut &[u8], depth: usize) -> Option<()> {
    if depth > MAX_REPLY_DEPTH {
        return None;
    }
    let header = line(input)?;
    let (kind, rest) = header.split_first()?;
    // SAFETY: by the caller's promise; tables are on top of the stack where their fields are set.
    unsafe {
        match kind {
            b'$' | b'=' => {
                let length = parse_length(rest)?;
                let Ok(length) = usize::try_from(length) else {
                    ffi::lua_pushboolean(state, 0);
                    return Some(());
                };
                let text = input.get(..length)?;
                *input = input.get(length + 2..)?;
                if *kind == b'$' {
                    push_bytes(state, text);
                } else {
                    ffi::lua_createtable(state, 0, 1);
                    push_field_table(state, c"format", text.get(..3)?);
                    push_bytes(state, text.get(4..)?);
                    ffi::lua_setfield(state, -2, c"string".as_ptr());
                    ffi::lua_setfield(state, -2, c"verbatim_string".as_ptr());
                }
            }
            b':' => ffi::lua_pushnumber(state, parse_length(rest)? as f64),
            b'+' => push_field_table(state, c"ok", rest),
            b'-' => push_field_table(state, c"err", rest),
            b'*' | b'>' => {
                let Ok(count) = c_int::try_from(parse_length(rest)?) else {
                    return None;
                };
                if count < 0 {
                    ffi::lua_pushboolean(state, 0);
                    return Some(());
                }
                // A claimed length allocates no more than the bytes that are there could fill.
                ffi::lua_createtable(state, count.min(input.len() as c_int), 0);
                for index in 1..=count {
                    push_reply(state, input, depth + 1)?;
                    ffi::lua_rawseti(state, -2, index.into());
                }
            }
            b'_' => ffi::lua_pushnil(state),
            b'#' => ffi::lua_pushboolean(state, c_int::from(rest == b"t")),
            b',' => {
                ffi::lua_createtable(state, 0, 1);
                ffi::lua_pushnumber(state, std::str::from_utf8(rest).ok()?.parse().ok()?);
                ffi::lua_setfield(state, -2, c"double".as_ptr());
            }
            b'(' => push_field_table(state, c"big_number", rest),
            b'%' | b'~' => {
                let count = parse_length(rest)?;
                let is_map = *kind == b'%';
                ffi::lua_createtable(state, 0, 1);
                ffi::lua_createtable(state, 0, count.clamp(0, input.len() as i64) as c_int);
                for _ in 0..count {
                    push_reply(state, input, depth + 1)?;
                    if is_map {
                        push_reply(state, input, depth + 1)?;
                    } else {
                        ffi::lua_pushboolean(state, 1);
                    }
                    if ffi::lua_type(state, -2) == ffi::LUA_TNIL {
                        ffi::lua_pop(state, 2);
                    } else {
                        ffi::lua_rawset(state, -3);
                    }
                }
                let name = if is_map { c"map" } else { c"set" };
                ffi::lua_setfield(state, -2, name.as_ptr());
            }
            b'|' => {
                // Attributes are not shown to scripts.
                for _ in 0..parse_length(rest)?.checked_mul(2)? {
                    push_reply(state, input, depth + 1)?;
                    ffi::lua_pop(state, 1);
                }
                return push_reply(state, input, depth + 1);
            }
            _ => return None,
        }
    }
    Some(())
}

/// A table that reads as `target` and refuses every change. `shown` is what `getmetatable` answers for it.
pub(super) fn protect(lua: &Lua, target: &Table, shown: Option<Table>) -> mlua::Result<Table> {
    let metatable = lua.create_table()?;
    metatable.raw_set("__index", target)?;
    // SAFETY: `readonly_newindex` follows Lua's C function protocol.
    metatable.raw_set("__newindex", unsafe { lua.create_c_function(readonly_newindex)? })?;
    metatable.raw_set("__metatable", shown)?;
    let marker = std::ptr::from_ref(&PROTECTED).cast_mut().cast();
    metatable.raw_set(mlua::LightUserData(marker), target)?;
    let facade = lua.create_table()?;
    facade.set_metatable(Some(metatable))?;
    Ok(facade)
}

/// Makes a table that `protect` made show another one.
pub(super) fn retarget(facade: &Table, target: &Table) -> mlua::Result<()> {
    let Some(metatable) = facade.metatable() else {
        return Ok(());
    };
    metatable.raw_set("__index", target)?;
    let marker = std::ptr::from_ref(&PROTECTED).cast_mut().cast();
    metatable.raw_set(mlua::LightUserData(marker), target)
}

unsafe extern "C-unwind" fn readonly_newindex(state: *mut lua_State) -> c_int {
    // SAFETY: called by Lua with a live state; level 1 is the script's line.
    unsafe {
        ffi::luaL_where(state, 1);
        push_bytes(state, READONLY);
        ffi::lua_concat(state, 2);
        ffi::lua_error(state)
    }
}

/// Pushes the table behind a read-only one; false, and nothing pushed, for any other value.
///
/// # Safety
/// `state` must be live with room for three values.
unsafe fn push_target(state: *mut lua_State, index: c_int) -> bool {
    // SAFETY: by the caller's promise.
    unsafe {
        if ffi::lua_type(state, index) != ffi::LUA_TTABLE || ffi::lua_getmetatable(state, index) == 0 {
            return false;
        }
        ffi::lua_rawgetp(state, -1, std::ptr::from_ref(&PROTECTED).cast());
        if ffi::lua_type(state, -1) == ffi::LUA_TTABLE {
            ffi::lua_remove(state, -2);
            return true;
        }
        ffi::lua_pop(state, 2);
        false
    }
}

/// How a library function treats a read-only table given as its first argument.
#[derive(Clone, Copy)]
pub(super) enum Guard {
    /// Reads what is behind it.
    Read,
    /// Fails, as it would change it.
    Write,
    /// `pairs`: iterates with the guarded `next`, so that what is behind never gets out.
    Pairs,
    /// `getmetatable`: shows what `protect` was told to show.
    Metatable,
    /// `load` and `loadstring`: text only, as bytecode could break out of the virtual machine.
    TextOnly,
}

/// Wraps the C function `original`, which keeps its name and frame in error texts. `next` is the guarded `next` for `Pairs`.
pub(super) fn guard(lua: &Lua, kind: Guard, original: Function, next: Option<Function>) -> mlua::Result<Function> {
    let function: ffi::lua_CFunction = match kind {
        Guard::Read => guard_read,
        Guard::Write => guard_write,
        Guard::Pairs => guard_pairs,
        Guard::Metatable => guard_metatable,
        Guard::TextOnly => guard_text_only,
    };
    // SAFETY: the two arguments are on the stack and become the closure's upvalues.
    unsafe { lua.exec_raw((original, next), |state| ffi::lua_pushcclosure(state, function, 2)) }
}

/// Runs the guarded function in this very frame.
///
/// # Safety
/// Upvalue 1 must be a C function without upvalues of its own.
unsafe fn run_original(state: *mut lua_State) -> c_int {
    // SAFETY: by the caller's promise; `guard` put the function there.
    unsafe {
        match ffi::lua_tocfunction(state, ffi::lua_upvalueindex(1)) {
            Some(original) => original(state),
            None => 0,
        }
    }
}

unsafe extern "C-unwind" fn guard_read(state: *mut lua_State) -> c_int {
    // SAFETY: called by Lua with a live state.
    unsafe {
        if push_target(state, 1) {
            ffi::lua_replace(state, 1);
        }
        run_original(state)
    }
}

unsafe extern "C-unwind" fn guard_write(state: *mut lua_State) -> c_int {
    // SAFETY: called by Lua with a live state.
    unsafe {
        if push_target(state, 1) {
            raise(state, READONLY)
        }
        run_original(state)
    }
}

unsafe extern "C-unwind" fn guard_pairs(state: *mut lua_State) -> c_int {
    // SAFETY: called by Lua with a live state; upvalue 2 is the guarded `next`.
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TTABLE);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(2));
        ffi::lua_pushvalue(state, 1);
        ffi::lua_pushnil(state);
    }
    3
}

unsafe extern "C-unwind" fn guard_metatable(state: *mut lua_State) -> c_int {
    // SAFETY: called by Lua with a live state.
    unsafe {
        if push_target(state, 1) && ffi::luaL_getmetafield(state, 1, c"__metatable".as_ptr()) == ffi::LUA_TNIL {
            ffi::lua_pushnil(state);
            return 1;
        }
        run_original(state)
    }
}

unsafe extern "C-unwind" fn guard_text_only(state: *mut lua_State) -> c_int {
    // SAFETY: called by Lua with a live state; the bytes are those of a string on the stack.
    unsafe {
        if ffi::lua_type(state, 1) == ffi::LUA_TSTRING && bytes(state, 1).first() == Some(&0x1b) {
            ffi::lua_pushnil(state);
            push_bytes(state, b"attempt to load a binary chunk");
            return 2;
        }
        run_original(state)
    }
}

/// Wraps a function of `native.rs`, whose first result is nil or the text of an error to raise.
///
/// A C function, and not one in Lua, so that `return f(x)` keeps the script's frame for the error's position.
pub(super) fn lift(lua: &Lua, native: Function) -> mlua::Result<Function> {
    // SAFETY: the argument is on the stack and becomes the closure's upvalue.
    unsafe { lua.exec_raw(native, |state| ffi::lua_pushcclosure(state, lifted, 1)) }
}

unsafe extern "C-unwind" fn lifted(state: *mut lua_State) -> c_int {
    // SAFETY: called by Lua with a live state; `native.rs` answers at least one value, and two when the first is a text.
    unsafe {
        let count = ffi::lua_gettop(state);
        ffi::luaL_checkstack(state, 4, c"too many arguments".as_ptr());
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        ffi::lua_call(state, count, ffi::LUA_MULTRET);
        if ffi::lua_type(state, 1) != ffi::LUA_TSTRING {
            return ffi::lua_gettop(state) - 1;
        }
        match ffi::lua_tonumber(state, 2) as c_int {
            RAISE_WITH_POSITION => {
                ffi::luaL_where(state, 1);
                ffi::lua_pushvalue(state, 1);
                ffi::lua_concat(state, 2);
            }
            RAISE_AS_REPLY => {
                ffi::lua_createtable(state, 0, 1);
                ffi::lua_pushvalue(state, 1);
                ffi::lua_setfield(state, -2, c"err".as_ptr());
            }
            _ => ffi::lua_settop(state, 1),
        }
        ffi::lua_error(state)
    }
}
