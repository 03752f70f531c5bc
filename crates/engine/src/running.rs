//! Running a script: what it may call, how it is held to its keys, and how it is interrupted.
//!
//! Invariants: a script's effects are all or nothing: one that reaches for a key whose shard is not held is rolled back
//! and run again with every shard. While a script runs long its thread serves other sessions, and SCRIPT KILL gets
//! through.

use crate::command::{Flags, Reply, Run};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::exec;
use crate::registry;
use crate::scripting::{Interpreter, Interrupt, ScriptHost, ScriptOptions, shebang};
use crate::scripts::Sha;
use kelda_resp::{Protocol, Writer};
use kelda_store::sync::{AtomicU8, Mutex, MutexGuard, Ordering::Relaxed};
use kelda_store::txn::{Key, Txn};
use std::sync::{Arc, PoisonError};

/// Bytes that scripts of one thread may hold, at most.
const MEMORY_BYTES_MAX: usize = 1 << 30;
/// For how long a script has its thread to itself, in µs.
const ALONE_US: u64 = 1_000;

/// A script that has been running for a while.
struct Long {
    /// `KILLABLE` until either it writes or it is killed, whichever comes first: no script is killed half way.
    state: AtomicU8,
}

const KILLABLE: u8 = 0;
const WROTE: u8 = 1;
const KILLED: u8 = 2;

impl Long {
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
}

impl RunningScripts {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Long>>> {
        self.long.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the running scripts to end, but for those that have written.
    pub fn kill(&self) -> Outcome {
        let long = self.lock();
        let mut outcome = Outcome::NothingRuns;
        for script in long.iter() {
            if script.kill() {
                outcome = Outcome::Killed;
            } else if outcome == Outcome::NothingRuns {
                outcome = Outcome::HasWritten;
            }
        }
        outcome
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

/// Has the script compiled on this worker.
pub fn prepare(ctx: &mut Ctx, sha: &Sha, body: &[u8]) -> Result {
    let worker = &mut *ctx.worker;
    if worker.in_script {
        // A script of this thread is running; this session has its turn while that one waits.
        return Err(Error::Again);
    }
    let generation = worker.engine.scripts.generation();
    let interpreter = match worker.interpreter.take() {
        Some(interpreter) => interpreter,
        None => {
            let options = ScriptOptions {
                memory_limit: MEMORY_BYTES_MAX,
                seed: 0,
                version: crate::version::REDIS_VERSION_PARTS,
            };
            let made = Interpreter::new(&options);
            Box::new(made.map_err(|error| Error::owned(format!("ERR cannot start Lua: {error}")))?)
        }
    };
    let interpreter = worker.interpreter.insert(interpreter);
    if worker.interpreter_generation != generation {
        interpreter.flush();
        worker.interpreter_generation = generation;
    }
    let name = std::str::from_utf8(sha).unwrap_or_default();
    if interpreter.has(name) {
        return Ok(());
    }
    interpreter.load(name, body).map_err(Error::owned)
}

/// Runs a script that [`prepare`] has compiled.
#[allow(clippy::too_many_arguments)]
pub fn run(
    ctx: &mut Ctx,
    txn: &mut Txn,
    sha: &Sha,
    body: &[u8],
    keys: &[&[u8]],
    argv: &[&[u8]],
    read_only: bool,
    reply: &mut Reply,
) -> Result {
    let (flags, _) = shebang::parse(body).map_err(Error::owned)?;
    let no_memory = exec::check_memory(ctx.worker).is_err();
    if flags.present && no_memory && !flags.allow_oom && !flags.no_writes && !read_only {
        return Err(Error::text(
            "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
        ));
    }
    let Some(mut interpreter) = ctx.worker.interpreter.take() else { return Err(Error::Again) };
    let name = std::str::from_utf8(sha).unwrap_or_default();
    let resp3 = ctx.session.protocol == Protocol::Resp3;
    let (db, started_us) = (ctx.session.db, ctx.worker.engine.clock.monotonic_us());
    ctx.worker.in_script = true;
    let mut script = Script {
        txn,
        read_only: read_only || flags.no_writes,
        check_memory: no_memory && !flags.present,
        needs_all: false,
        wrote: false,
        started_us,
        served_us: started_us,
        busy: false,
        long: None,
        ctx,
    };
    interpreter.run(name, keys, argv, &mut script, &mut reply.buf, resp3);
    let needs_all = script.needs_all;
    script.end();
    ctx.worker.in_script = false;
    ctx.worker.interpreter = Some(interpreter);
    ctx.session.select(db);
    txn.select(db);
    if needs_all { Err(Error::NeedsAllShards) } else { Ok(()) }
}

/// One run.
struct Script<'s, 'a, 'k, 't> {
    ctx: &'s mut Ctx<'a, 'k>,
    txn: &'s mut Txn<'t>,
    read_only: bool,
    check_memory: bool,
    /// It reached for a key whose shard is not held: nothing it does from here on counts.
    needs_all: bool,
    wrote: bool,
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

    fn try_call(&mut self, words: &[&[u8]], writer: &mut Writer) -> Result {
        let command = match exec::resolve(words) {
            Ok(command) => command,
            Err(Error::Arity(_)) => return Err(Error::text("ERR Wrong number of args calling Redis command from script")),
            Err(_) if registry::find(words[0]).is_none() => {
                return Err(Error::text("ERR Unknown Redis command called from script"));
            }
            Err(error) => return Err(error),
        };
        if !command.command.takes(words.len()) {
            return Err(Error::text("ERR Wrong number of args calling Redis command from script"));
        }
        if command.flags.has(Flags::NOSCRIPT) || matches!(command.command.run, Run::Script(_)) {
            return Err(Error::text("ERR This Redis command is not allowed from script"));
        }
        if command.writes || command.flags.has(Flags::MAY_REPLICATE) {
            if self.read_only && command.writes {
                return Err(Error::text("ERR Write commands are not allowed from read-only scripts."));
            }
            if self.check_memory && !self.wrote && command.flags.has(Flags::DENYOOM) {
                exec::check_memory(self.ctx.worker)?;
            }
        }
        let mut held = !command.command.needs_all_shards(words) || self.txn.holds_all();
        let txn = &*self.txn;
        command.find_keys(words, &mut |at, _| held &= txn.holds(Key::new(words[at])));
        if !held {
            return Err(Error::NeedsAllShards);
        }
        if command.writes {
            self.wrote = true;
            if self.long.as_ref().is_some_and(|long| !long.may_write()) {
                return Err(Error::text("ERR Script killed by user with SCRIPT KILL..."));
            }
        }
        exec::run_inside(self.ctx, self.txn, command, words, writer)
    }
}

impl ScriptHost for Script<'_, '_, '_, '_> {
    fn call(&mut self, words: &[&[u8]], resp3: bool, reply: &mut Vec<u8>) {
        let mark = reply.len();
        let mut writer = Writer::new(if resp3 { Protocol::Resp3 } else { Protocol::Resp2 });
        writer.buf = std::mem::take(reply);
        let result = if self.needs_all { Err(Error::NeedsAllShards) } else { self.try_call(words, &mut writer) };
        if let Err(error) = result {
            self.needs_all |= error == Error::NeedsAllShards;
            writer.truncate(mark);
            writer.error(&error.to_string());
            exec::count_error(self.ctx.worker, &writer.buf[mark..]);
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
        if now.saturating_sub(self.served_us) < ALONE_US {
            return Ok(());
        }
        let engine = self.ctx.worker.engine.clone();
        let long = self.long.get_or_insert_with(|| {
            let long = Arc::new(Long { state: AtomicU8::new(if self.wrote { WROTE } else { KILLABLE }) });
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

    fn acl_check(&mut self, words: &[&[u8]]) -> Option<bool> {
        exec::resolve(words).ok().map(|_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_either_killed_or_writes() {
        let long = || Arc::new(Long { state: AtomicU8::new(KILLABLE) });
        let (first, second, scripts) = (long(), long(), RunningScripts::default());
        assert_eq!(scripts.kill(), Outcome::NothingRuns);
        scripts.lock().push(first.clone());
        assert!(first.may_write() && first.may_write());
        assert_eq!(scripts.kill(), Outcome::HasWritten);
        assert!(!first.is_killed());
        scripts.lock().push(second.clone());
        assert_eq!(scripts.kill(), Outcome::Killed);
        assert!(second.is_killed() && !second.may_write());
        scripts.kill_all();
        assert!(first.is_killed());
    }
}
