//! Running a script: what it may call, how it is held to its keys, and how it is interrupted.
//!
//! Invariants: a script's effects are all or nothing: one that reaches for a key whose shard is not held is rolled back
//! and run again with every shard. While a script runs long its thread serves other sessions, and SCRIPT KILL gets
//! through.

use crate::acl;
use crate::acl::log::Context;
use crate::args::Args;
use crate::command::{Flags, Reply, Run};
use crate::ctx::{Ctx, Origin};
use crate::dialect::Dialect;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::exec;
use crate::registry::Registered;
use crate::scripting::{FunctionInfo, Interpreter, Interrupt, ScriptHost, ScriptOptions, shebang};
use crate::stats;
use kelda_resp::{Protocol, Writer};
use kelda_store::sync::{AtomicU8, Mutex, MutexGuard, Ordering::Relaxed};
use kelda_store::txn::Txn;
use std::sync::{Arc, PoisonError};

/// Bytes that scripts of one thread may hold, at most.
const MEMORY_BYTES_MAX: usize = 1 << 30;
/// For how long a script has its thread to itself, in µs.
const ALONE_US: u64 = 1_000;

/// For how long a library may take to load, in µs.
const LOAD_US_MAX: u64 = 500_000;

/// What a script is to those who want it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// EVAL and its like.
    Script,
    /// FCALL.
    Function,
}

impl Kind {
    /// The other one.
    pub fn other(self) -> Kind {
        match self {
            Kind::Script => Kind::Function,
            Kind::Function => Kind::Script,
        }
    }

    /// The error of commands that need the keys of one that is over its time.
    pub fn busy(self) -> &'static str {
        match self {
            Kind::Script => "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            Kind::Function => {
                "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
            }
        }
    }
}

/// What runs.
#[derive(Clone, Copy)]
pub enum Code<'a> {
    /// The script of this SHA-1, which [`prepare`] has compiled.
    Script(&'a str),
    /// A function of a library that [`prepare_library`] has loaded.
    Function {
        /// The library's number.
        library: u64,
        /// The function's name as registered.
        name: &'a str,
    },
}

/// One run to be.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// What runs.
    pub code: Code<'a>,
    /// What it declares.
    pub flags: shebang::Flags,
    /// Its keys,
    pub keys: &'a [&'a [u8]],
    /// and its other arguments.
    pub argv: &'a [&'a [u8]],
    /// Whether it came by EVAL_RO and the like.
    pub read_only: bool,
    /// The whole command, for FUNCTION STATS.
    pub words: &'a [&'a [u8]],
}

/// A function that has been running for a while.
pub struct RunningFunction {
    /// Its name.
    pub name: String,
    /// The command that called it.
    pub words: Vec<Vec<u8>>,
    /// Since when, in monotonic µs.
    pub started_us: u64,
}

/// A script that has been running for a while.
struct Long {
    /// `KILLABLE` until either it writes or it is killed, whichever comes first: no script is killed half way.
    state: AtomicU8,
    /// What it is, unless a script of EVAL.
    function: Option<Arc<RunningFunction>>,
}

const KILLABLE: u8 = 0;
const WROTE: u8 = 1;
const KILLED: u8 = 2;

impl Long {
    fn new(job: &Job, wrote: bool, started_us: u64) -> Arc<Long> {
        let function = match job.code {
            Code::Script(_) => None,
            Code::Function { name, .. } => Some(Arc::new(RunningFunction {
                name: name.to_string(),
                words: job.words.iter().map(|word| word.to_vec()).collect(),
                started_us,
            })),
        };
        Arc::new(Long { state: AtomicU8::new(if wrote { WROTE } else { KILLABLE }), function })
    }

    fn kind(&self) -> Kind {
        if self.function.is_some() { Kind::Function } else { Kind::Script }
    }

    fn is_killed(&self) -> bool {
        self.state.load(Relaxed) == KILLED
    }

    /// Notes a write. `false` if the script was killed before it.
    fn may_write(&self) -> bool {
        self.state.compare_exchange(KILLABLE, WROTE, Relaxed, Relaxed) != Err(KILLED)
    }

    /// `false` if the script has written.
    fn kill(&self) -> bool {
        self.state.compare_exchange(KILLABLE, KILLED, Relaxed, Relaxed) != Err(WROTE)
    }
}

/// The scripts that have been running for a while, for SCRIPT KILL.
#[derive(Default)]
pub struct RunningScripts {
    long: Mutex<Vec<Arc<Long>>>,
}

/// What SCRIPT KILL comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At least one script will end.
    Killed,
    /// There is none.
    NothingRuns,
    /// Those that run have written.
    HasWritten,
    /// Those that run are of the other kind.
    OtherKind,
}

impl RunningScripts {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Long>>> {
        self.long.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the running scripts of a kind to end, but for those that have written.
    pub fn kill(&self, kind: Kind) -> Outcome {
        let long = self.lock();
        let mut outcome = if long.is_empty() { Outcome::NothingRuns } else { Outcome::OtherKind };
        for script in long.iter().filter(|script| script.kind() == kind) {
            if script.kill() {
                outcome = Outcome::Killed;
            } else if outcome != Outcome::Killed {
                outcome = Outcome::HasWritten;
            }
        }
        outcome
    }

    /// The function that has been running for the longest time.
    pub fn function(&self) -> Option<Arc<RunningFunction>> {
        self.lock().iter().find_map(|script| script.function.clone())
    }

    /// The error of commands that need the keys of a script that is over its time.
    pub fn busy(&self) -> &'static str {
        self.lock().first().map_or(Kind::Script, |script| script.kind()).busy()
    }

    /// Asks all running scripts to end, whatever they have done: the server is ending.
    pub fn kill_all(&self) {
        self.lock().iter().for_each(|script| script.state.store(KILLED, Relaxed));
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().len()
    }
}

fn new_interpreter() -> Result<Interpreter> {
    let version = crate::version::REDIS_VERSION_PARTS;
    let made = Interpreter::new(&ScriptOptions { memory_limit: MEMORY_BYTES_MAX, seed: 0, version });
    made.map_err(|error| Error::owned(format!("ERR cannot start Lua: {error}")))
}

/// The interpreter of this worker, made if there is none yet and rid of what is flushed.
fn interpreter<'w>(ctx: &'w mut Ctx) -> Result<&'w mut Interpreter> {
    let worker = &mut *ctx.worker;
    if worker.in_script {
        // A script of this thread is running; this session has its turn while that one waits.
        return Err(Error::Again);
    }
    let generation = worker.engine.scripts.generation();
    let interpreter = match worker.interpreter.take() {
        Some(interpreter) => interpreter,
        None => Box::new(new_interpreter()?),
    };
    let interpreter = worker.interpreter.insert(interpreter);
    if worker.interpreter_generation != generation {
        interpreter.flush();
        worker.interpreter_generation = generation;
    }
    let generation = worker.engine.functions.generation();
    if worker.libraries_generation != generation {
        let libraries = worker.engine.functions.current();
        interpreter.retain_libraries(|id| libraries.iter().any(|library| library.id == id));
        worker.libraries_generation = generation;
    }
    Ok(interpreter)
}

/// Has this worker's interpreter give back at once what SCRIPT FLUSH dropped; other workers do so when they next run a script.
pub fn follow_flush(ctx: &mut Ctx) {
    if ctx.worker.interpreter.is_some() {
        let _ = interpreter(ctx);
    }
}

/// Has the script of this SHA-1 compiled on this worker.
pub fn prepare(ctx: &mut Ctx, name: &str, body: &[u8]) -> Result {
    /// Compiled scripts that may be there though the cache has let them go.
    const SPARE: usize = 100;
    let engine = ctx.engine();
    let interpreter = interpreter(ctx)?;
    if interpreter.has(name) {
        return Ok(());
    }
    if interpreter.scripts() > engine.scripts.count() + SPARE {
        interpreter.retain_scripts(|sha| engine.scripts.get(sha.as_bytes()).is_some());
    }
    interpreter.load(name, body).map_err(Error::owned)
}

/// Has the library loaded on this worker.
pub fn prepare_library(ctx: &mut Ctx, id: u64, code: &[u8]) -> Result {
    if !interpreter(ctx)?.has_library(id) {
        load_library(ctx, id, code)?;
    }
    Ok(())
}

/// Loads a library on this worker and tells what it registers.
pub fn load_library(ctx: &mut Ctx, id: u64, code: &[u8]) -> Result<Vec<FunctionInfo>> {
    let engine = ctx.engine();
    let interpreter = interpreter(ctx)?;
    let started_us = engine.clock.monotonic_us();
    interpreter.load_library(id, code, &mut Loading { engine: Arc::clone(&engine), started_us }).map_err(Error::owned)
}

/// Tells what a library registers, without a worker that would run it: while data is loaded.
pub fn inspect_library(engine: &Arc<Engine>, id: u64, code: &[u8]) -> Result<Vec<FunctionInfo>> {
    let started_us = engine.clock.monotonic_us();
    let mut loading = Loading { engine: Arc::clone(engine), started_us };
    new_interpreter()?.load_library(id, code, &mut loading).map_err(Error::owned)
}

/// Whether this server lets a script run that declares what it does.
fn check_declared(ctx: &Ctx, flags: shebang::Flags) -> Result {
    let (worker, queued) = (&*ctx.worker, ctx.origin == Origin::Exec);
    if !flags.allow_stale {
        match worker.check_link() {
            Err(_) if queued => {
                return Err(Error::text(
                    "MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' flag is not set \
                     on the script.",
                ));
            }
            checked => checked?,
        }
    }
    if !flags.no_writes {
        if queued && worker.is_read_only() {
            return Err(Error::text("READONLY Can not run script with write flag on readonly replica"));
        }
        worker.check_writes()?;
    }
    Ok(())
}

/// Runs a script that [`prepare`] has compiled, or a function that [`prepare_library`] has loaded.
pub fn run(ctx: &mut Ctx, txn: &mut Txn, job: Job, reply: &mut Reply) -> Result {
    let Job { code, flags, keys, argv, read_only, .. } = job;
    if flags.present && read_only && !flags.no_writes {
        return Err(Error::text("ERR Can not execute a script with write flag using *_ro command."));
    }
    let of_master = ctx.session.master.is_some();
    if flags.present && !of_master {
        check_declared(ctx, flags)?;
    } else if !of_master {
        ctx.worker.check_link()?;
    }
    let no_memory = !of_master && exec::check_memory(ctx.worker).is_err();
    if flags.present && no_memory && !flags.allow_oom && !flags.no_writes {
        return Err(Error::text(
            "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
        ));
    }
    let Some(mut interpreter) = ctx.worker.interpreter.take() else { return Err(Error::Again) };
    let resp3 = ctx.session.protocol == Protocol::Resp3;
    let db = ctx.session.db;
    ctx.worker.in_script = true;
    txn.cx().env.scripted = true;
    let mut script = Script {
        txn,
        job,
        read_only: read_only || flags.no_writes,
        check_memory: no_memory && !flags.present,
        needs_all: false,
        wrote: false,
        started_us: 0,
        served_us: 0,
        busy: false,
        long: None,
        ctx,
    };
    let counted = match code {
        Code::Script(sha) => interpreter.run(sha, keys, argv, &mut script, &mut reply.buf, resp3),
        Code::Function { library, name } => {
            interpreter.call(library, name, keys, argv, &mut script, &mut reply.buf, resp3)
        }
    };
    let needs_all = script.needs_all;
    script.end();
    ctx.worker.in_script = false;
    ctx.session.error_counted = counted;
    txn.cx().env.scripted = false;
    ctx.worker.interpreter = Some(interpreter);
    ctx.session.select(db);
    txn.select(db);
    if needs_all { Err(Error::NeedsAllShards) } else { Ok(()) }
}

/// The world of a library that is being loaded: nothing but the log and the time.
struct Loading {
    engine: Arc<Engine>,
    started_us: u64,
}

impl ScriptHost for Loading {
    fn call(&mut self, _: &[&[u8]], _: bool, reply: &mut Vec<u8>) {
        reply.extend_from_slice(b"-ERR no command can be called while a library is loaded\r\n");
    }

    fn log(&mut self, level: i64, text: &[u8]) {
        self.engine.platform.log(u8::try_from(level).unwrap_or(3), &String::from_utf8_lossy(text));
    }

    fn poll(&mut self) -> std::result::Result<(), Interrupt> {
        let passed_us = self.engine.clock.monotonic_us().saturating_sub(self.started_us);
        if passed_us > LOAD_US_MAX { Err(Interrupt::Timeout) } else { Ok(()) }
    }

    fn acl_check(&mut self, _: &[&[u8]]) -> Option<bool> {
        None
    }
}

/// One run.
struct Script<'s, 'a, 'k, 't> {
    ctx: &'s mut Ctx<'a, 'k>,
    job: Job<'s>,
    txn: &'s mut Txn<'t>,
    read_only: bool,
    check_memory: bool,
    /// It reached for a key whose shard is not held: nothing it does from here on counts.
    needs_all: bool,
    wrote: bool,
    /// When it was first looked whether it takes long, and when others were served last: 0 before that. Most scripts end before, and
    /// do not need to know.
    started_us: u64,
    served_us: u64,
    /// Whether it is over its time.
    busy: bool,
    long: Option<Arc<Long>>,
}

impl Script<'_, '_, '_, '_> {
    fn end(self) {
        let engine = &self.ctx.worker.engine;
        if let Some(long) = self.long {
            engine.running.lock().retain(|have| !Arc::ptr_eq(have, &long));
        }
        if self.busy {
            engine.busy_scripts.fetch_sub(1, Relaxed);
        }
    }

    /// What must hold before the script may run a command.
    fn gate(&mut self, command: &Registered, args: &Args) -> Result {
        let words = args.words();
        if !command.command.takes(words.len()) {
            return Err(WRONG_NUMBER);
        }
        let worker = &*self.ctx.worker;
        let denied = command.flags.has(Flags::NOSCRIPT) && !worker.engine.scripts_call_all.load(Relaxed);
        if denied || matches!(command.command.run, Run::Script(_)) {
            return Err(Error::text("ERR This Redis command is not allowed from script"));
        }
        let session = &*self.ctx.session;
        if session.restricted {
            acl::check(worker, session, command, words, Context::Script).map_err(|(reason, _)| {
                Error::owned(format!("ERR ACL failure in script: {}", acl::text(&session.user, command, reason)))
            })?;
        }
        if self.read_only && (command.writes || command.flags.has(Flags::MAY_REPLICATE)) {
            return Err(Error::text("ERR Write commands are not allowed from read-only scripts."));
        }
        if session.master.is_none() {
            // Of what it has begun nothing is to be left out.
            if command.writes && !self.wrote {
                worker.check_writes()?;
            }
            if worker.follows
                && !command.flags.has(Flags::STALE)
                && !worker.engine.loading.is_active()
                && worker.check_link().is_err()
            {
                return Err(Error::text("ERR Can not execute the command on a stale replica"));
            }
        }
        if self.check_memory && !self.wrote && command.flags.has(Flags::DENYOOM) {
            exec::check_memory(worker)?;
        }
        let mut held = !command.command.needs_all_shards(words) || self.txn.holds_all();
        let txn = &*self.txn;
        command.for_each_key(words, |at| held &= txn.holds(args.key(at)));
        if !held {
            return Err(Error::NeedsAllShards);
        }
        if command.writes {
            self.wrote = true;
            if self.long.as_ref().is_some_and(|long| !long.may_write()) {
                return Err(Error::text("ERR Script killed by user with SCRIPT KILL..."));
            }
        }
        Ok(())
    }

    fn try_call(&mut self, words: &[&[u8]], writer: &mut Writer) -> Result {
        let command = match exec::resolve(&self.ctx.worker.engine.names, words) {
            Ok(command) => command,
            Err(Error::Arity(_)) => return Err(WRONG_NUMBER),
            Err(_) if self.ctx.worker.engine.names.find(words[0]).is_none() => {
                return Err(Error::text("ERR Unknown Redis command called from script"));
            }
            Err(error) => return Err(error),
        };
        let args = exec::with_key_hashed(command, Args::new(words));
        let refused = self.gate(command, &args);
        let run = refused.is_ok();
        let result = refused.and_then(|()| exec::run_inside(self.ctx, self.txn, command, &args, writer));
        if result.as_ref().is_err_and(|error| *error != Error::NeedsAllShards) {
            let stats = &self.ctx.worker.stats().by_command[command.id];
            if run { &stats.failed } else { &stats.rejected }.add(1);
        }
        result
    }
}

const WRONG_NUMBER: Error = Error::text("ERR Wrong number of args calling Redis command from script");

impl ScriptHost for Script<'_, '_, '_, '_> {
    fn call(&mut self, words: &[&[u8]], resp3: bool, reply: &mut Vec<u8>) {
        let mark = reply.len();
        let mut writer = Writer::new(if resp3 { Protocol::Resp3 } else { Protocol::Resp2 });
        writer.buf = std::mem::take(reply);
        let result = if self.needs_all { Err(Error::NeedsAllShards) } else { self.try_call(words, &mut writer) };
        if let Err(error) = result {
            writer.truncate(mark);
            writer.error(&self.dialect().says(error.to_string()));
            // What a run that will be undone comes to is no error.
            if error == Error::NeedsAllShards {
                self.needs_all = true;
            } else {
                stats::count_error(self.ctx.worker, &writer.buf[mark..], false);
            }
        }
        *reply = writer.buf;
    }

    fn log(&mut self, level: i64, text: &[u8]) {
        let level = u8::try_from(level).unwrap_or(3);
        self.ctx.worker.engine.platform.log(level, &String::from_utf8_lossy(text));
    }

    fn poll(&mut self) -> std::result::Result<(), Interrupt> {
        if self.needs_all {
            return Err(Interrupt::Kill);
        }
        let now = self.ctx.worker.engine.clock.monotonic_us();
        if self.started_us == 0 {
            (self.started_us, self.served_us) = (now, now);
        }
        if now.saturating_sub(self.served_us) < ALONE_US {
            return Ok(());
        }
        let engine = self.ctx.worker.engine.clone();
        let long = self.long.get_or_insert_with(|| {
            let long = Long::new(&self.job, self.wrote, self.started_us);
            engine.running.lock().push(long.clone());
            self.txn.will_take_long();
            long
        });
        let long = long.clone();
        let limit_us = self.ctx.worker.settings.busy_reply_threshold * 1000;
        if !self.busy && limit_us != 0 && now - self.started_us > limit_us {
            self.busy = true;
            engine.busy_scripts.fetch_add(1, Relaxed);
            let text = "Slow script detected: still in execution. You can try killing it with SCRIPT KILL.";
            engine.platform.log(3, text);
        }
        let host = &mut *self.ctx.host;
        host.serve_others(self.ctx.worker);
        self.served_us = engine.clock.monotonic_us();
        if long.is_killed() || engine.ending.load(Relaxed) { Err(Interrupt::Kill) } else { Ok(()) }
    }

    fn dialect(&self) -> Dialect {
        self.ctx.worker.settings.dialect
    }

    fn acl_check(&mut self, words: &[&[u8]]) -> Option<bool> {
        let command = match exec::resolve(&self.ctx.worker.engine.names, words) {
            // A container has permissions of its own.
            Err(Error::Arity(_)) => self.ctx.worker.engine.names.find(words.first()?)?,
            found => found.ok()?,
        };
        let session = &*self.ctx.session;
        let databases = self.ctx.worker.engine.keyspace.databases();
        Some(!session.restricted || session.user.check(command, words, session.db, databases).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_either_killed_or_writes() {
        let long = || Arc::new(Long { state: AtomicU8::new(KILLABLE), function: None });
        let (first, second, scripts) = (long(), long(), RunningScripts::default());
        assert_eq!(scripts.kill(Kind::Script), Outcome::NothingRuns);
        scripts.lock().push(first.clone());
        assert_eq!(scripts.kill(Kind::Function), Outcome::OtherKind);
        assert!(first.may_write() && first.may_write());
        assert_eq!(scripts.kill(Kind::Script), Outcome::HasWritten);
        assert!(!first.is_killed());
        scripts.lock().push(second.clone());
        assert_eq!(scripts.kill(Kind::Script), Outcome::Killed);
        assert!(second.is_killed() && !second.may_write());
        scripts.kill_all();
        assert!(first.is_killed());
    }
}
