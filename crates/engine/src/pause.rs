//! CLIENT PAUSE: which commands wait, and the sessions that are held back.

use crate::command::Flags;
use crate::registry::Registered;
use crate::scripting::shebang;
use crate::session::Session;
use crate::worker::Worker;
use std::sync::atomic::Ordering::Relaxed;

/// Whether CLIENT PAUSE WRITE is meant for this command.
pub fn may_write(worker: &Worker, session: &Session, command: &Registered, words: &[&[u8]]) -> bool {
    let writes = |command: &Registered, code: Option<&[u8]>| {
        let declared = command.writes || command.flags.has(Flags::MAY_REPLICATE);
        declared && !code.is_some_and(|code| never_writes(worker, command, code))
    };
    let queued = |command: &Registered, words: &[&[u8]]| writes(command, words.get(1).copied());
    let in_queue = || session.multi.as_ref().is_some_and(|queue| queue.any(queued));
    queued(command, words) || (command.name == "exec" && in_queue())
}

/// Whether a script or function says of itself that it does not write; `code` is the command's second word.
fn never_writes(worker: &Worker, command: &Registered, code: &[u8]) -> bool {
    declared(worker, command, code).is_some_and(|flags| flags.no_writes)
}

/// Whether a command runs a script or function that says of itself what it does, and not that it does not write.
pub(crate) fn is_declared_writer(worker: &Worker, command: &Registered, words: &[&[u8]]) -> bool {
    let code = words.get(1).copied().unwrap_or_default();
    declared(worker, command, code).is_some_and(|flags| flags.present && !flags.no_writes)
}

/// What a script or function says of itself.
fn declared(worker: &Worker, command: &Registered, code: &[u8]) -> Option<shebang::Flags> {
    let engine = &worker.engine;
    let script = |body: &[u8]| shebang::parse(body).ok().map(|(flags, _)| flags);
    match command.name.as_str() {
        "eval" => script(code),
        "evalsha" => engine.scripts.get(code).and_then(|(_, body)| script(&body)),
        "fcall" => {
            let libraries = engine.functions.current();
            let (library, at) = libraries.function(code)?;
            library.functions.get(at).map(|info| info.flags)
        }
        _ => None,
    }
}

impl Worker {
    /// Holds a session back until CLIENT PAUSE is over.
    pub(crate) fn pause(&mut self, session: &mut Session) {
        session.put_aside = true;
        session.info.blocked.store(true, Relaxed);
        session.info.paused.store(true, Relaxed);
        self.engine.clients.blocked.fetch_add(1, Relaxed);
        self.paused.push(session.at);
    }

    /// Holds a session back that asked for a shutdown, until replicas have everything.
    pub(crate) fn await_shutdown(&mut self, session: &mut Session) {
        self.pause(session);
        self.paused.pop();
        self.leaving.push(session.at);
    }

    /// Lets the sessions go on that CLIENT PAUSE held back, if it is over.
    pub(crate) fn end_pause(&mut self) {
        if !self.leaving.is_empty() && !self.engine.shutdown.is_waiting() {
            self.retry.append(&mut self.leaving);
        }
        if self.paused.is_empty() || self.engine.pause.left_ms(self.now_ms()).is_some() {
            return;
        }
        self.retry.append(&mut self.paused);
    }

    /// A paused session is run again, perhaps because more input came, or is gone.
    pub(crate) fn leave_pause(&mut self, session: &Session) {
        // Looked at first: few sessions are paused, and an exchange costs a fence.
        if session.info.paused.load(Relaxed) && session.info.paused.swap(false, Relaxed) {
            self.paused.retain(|at| *at != session.at);
            self.leaving.retain(|at| *at != session.at);
            session.info.blocked.store(false, Relaxed);
            self.engine.clients.blocked.fetch_sub(1, Relaxed);
        }
    }
}
