//! The last words: what the log says when a signal ends the process, or asks what the threads are doing.
//!
//! Invariants: what a handler does is allowed at any moment of any thread: it takes no lock and allocates nothing. It writes its lines
//! and gives the signal back to the system, which ends the process as it would have been ended, with a core file where there are any.

use crate::log::Stamp;
use kelda_engine::version::KELDA_VERSION;
use std::ffi::{CString, c_int, c_void};
use std::io::Write;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Signals that only a mistake sends, of this program or of the machine; and SIGABRT, with which whoever notices one ends it.
const FATAL: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT];

/// The log's file; null for standard output. What it points to is never freed.
static FILE: AtomicPtr<CString> = AtomicPtr::new(null_mut());

/// Sends reports to this file, or to standard output if the name is empty.
pub fn set_file(file: &str) {
    let path = CString::new(file).ok().filter(|path| !path.is_empty());
    // A handler may be reading the one before: it stays. `logfile` is set once or twice in a server's life.
    FILE.store(path.map_or(null_mut(), |path| Box::into_raw(Box::new(path))), Ordering::Release);
}

/// Has the log tell of signals that end the process.
pub fn watch() {
    for signal in FATAL {
        // SAFETY: all zeros is a valid `sigaction`. `report` has the form that SA_SIGINFO asks for, and does only what a handler may
        // (see the module's head). SA_ONSTACK: an overflow of the stack is reported on the other one that std gives each thread.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = report as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND;
            libc::sigaction(signal, &action, null_mut());
        }
    }
}

/// Writes what is known of a fatal signal.
extern "C" fn report(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let file = FILE.load(Ordering::Acquire);
    // SAFETY: the system passes a valid `info` and `context`; what `FILE` points to is never freed. `open`, `write` and `raise` are on
    // the list of what a handler may call.
    unsafe {
        let target = match file.as_ref() {
            Some(path) => {
                libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC, 0o644)
            }
            None => libc::STDOUT_FILENO,
        };
        let code = (*info).si_code;
        let (pid, stamp) = (std::process::id(), Stamp::now());
        let say = |text: std::fmt::Arguments| {
            let mut line = [0u8; 256];
            let mut rest = &mut line[..];
            // A line that is too long is cut off.
            let _ = writeln!(rest, "{pid}:M {stamp} # {text}");
            let unused = rest.len();
            libc::write(target, line.as_ptr().cast(), line.len() - unused);
        };
        say(format_args!("Kelda {KELDA_VERSION} crashed by signal: {signal}, si_code: {code}"));
        match code {
            // Somebody sent it.
            ..=0 => say(format_args!("Sent by the process {}, of the user {}", (*info).si_pid(), (*info).si_uid())),
            _ => say(format_args!(
                "Accessing address: {:p}, at the instruction {:#x}",
                (*info).si_addr(),
                place(context)
            )),
        }
        // The handler is gone (SA_RESETHAND): once this returns, the signal ends the process.
        libc::raise(signal);
    }
}

/// Where the thread was, if that is known of this machine.
///
/// # Safety
/// `context` is what a handler was passed.
unsafe fn place(context: *mut c_void) -> u64 {
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the caller's.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    return unsafe { (*context).uc_mcontext.gregs[libc::REG_RIP as usize] as u64 };
    // SAFETY: the caller's.
    #[cfg(all(target_os = "linux", target_arch = "aarch64"))]
    return unsafe { (*context).uc_mcontext.pc };
    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        let _ = context;
        0
    }
}

/// What the threads of this process are doing, a line for each: its name, its state as the system has it (R: it runs, S: it waits) and
/// the CPU time that it has used, in clock ticks. Nothing where the system does not tell.
pub fn threads() -> Vec<String> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let line = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("stat")).ok()?;
        // The name is in brackets, and may have some itself.
        let (name, facts) = text.split_once('(')?.1.rsplit_once(')')?;
        let facts: Vec<&str> = facts.split_whitespace().collect();
        let (state, user, system) = (facts.first()?, facts.get(11)?, facts.get(12)?);
        let id = task.file_name().into_string().ok()?;
        Some(format!("Thread {id} ({name}): state {state}, CPU time {user} + {system}"))
    };
    tasks.filter_map(|task| line(task.ok()?)).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_thread_is_among_those_that_are_told() {
        let body = || super::threads().iter().any(|line| line.contains("(told of): state R"));
        let thread = std::thread::Builder::new().name("told of".into()).spawn(body).unwrap();
        assert_eq!(thread.join().unwrap(), cfg!(target_os = "linux"));
    }
}
