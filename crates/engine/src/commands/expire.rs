//! Expiry times: EXPIRE and its relatives, TTL and its relatives, PERSIST, and the arguments that SET, GETEX and others share.

use crate::args::Args;
use crate::command::{Command, Flags, Keys, Reply, Run};
use crate::error::{Error, Result};
use kelda_store::txn::{EventClasses, Key, Removal, Txn, View};

const SETTER: Command = Command { arity: -3, keys: &[Keys::at(1).update()], flags: Flags::FAST, ..Command::BASE };

const GETTER: Command =
    Command { arity: 2, keys: &[Keys::at(1).read()], flags: Flags::FAST, syntax: "key", ..Command::BASE };

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "EXPIRE",
        syntax: "key seconds condition:[NX | XX | GT | LT]",
        summary: "Has a key expire in some seconds.",
        run: Run::Write(|txn, args, reply| expire(txn, args, reply, "expire", true, true)),
        ..SETTER
    },
    Command {
        name: "PEXPIRE",
        since: "2.6.0",
        syntax: "key milliseconds condition:[NX | XX | GT | LT]",
        summary: "Has a key expire in some milliseconds.",
        run: Run::Write(|txn, args, reply| expire(txn, args, reply, "pexpire", false, true)),
        ..SETTER
    },
    Command {
        name: "EXPIREAT",
        since: "1.2.0",
        syntax: "key unix-time-seconds condition:[NX | XX | GT | LT]",
        summary: "Has a key expire at a Unix time in seconds.",
        run: Run::Write(|txn, args, reply| expire(txn, args, reply, "expireat", true, false)),
        ..SETTER
    },
    Command {
        name: "PEXPIREAT",
        since: "2.6.0",
        syntax: "key unix-time-milliseconds condition:[NX | XX | GT | LT]",
        summary: "Has a key expire at a Unix time in milliseconds.",
        run: Run::Write(|txn, args, reply| expire(txn, args, reply, "pexpireat", false, false)),
        ..SETTER
    },
    Command {
        name: "TTL",
        summary: "Returns how long a key still lives, in seconds.",
        tips: &["nondeterministic_output"],
        run: Run::Read(|view, args, reply| ttl(view, args, reply, |at, now| rounded_seconds((at - now).max(0)))),
        ..GETTER
    },
    Command {
        name: "PTTL",
        since: "2.6.0",
        summary: "Returns how long a key still lives, in milliseconds.",
        tips: &["nondeterministic_output"],
        run: Run::Read(|view, args, reply| ttl(view, args, reply, |at, now| (at - now).max(0))),
        ..GETTER
    },
    Command {
        name: "EXPIRETIME",
        since: "7.0.0",
        summary: "Returns when a key expires, as a Unix time in seconds.",
        run: Run::Read(|view, args, reply| ttl(view, args, reply, |at, _| rounded_seconds(at))),
        ..GETTER
    },
    Command {
        name: "PEXPIRETIME",
        since: "7.0.0",
        summary: "Returns when a key expires, as a Unix time in milliseconds.",
        run: Run::Read(|view, args, reply| ttl(view, args, reply, |at, _| at)),
        ..GETTER
    },
    Command {
        name: "PERSIST",
        arity: 2,
        keys: &[Keys::at(1).update()],
        flags: Flags::FAST,
        since: "2.2.0",
        syntax: "key",
        summary: "Has a key live for ever.",
        run: Run::Write(|txn, args, reply| {
            reply.int(i64::from(persist_key(txn, args.key(1))));
            Ok(())
        }),
        ..Command::BASE
    },
];

/// An argument that says when a key expires.
#[derive(Clone, Copy)]
pub(super) struct ExpireArg {
    /// The word that is the number.
    pub at: usize,
    /// Whether it counts seconds rather than milliseconds.
    pub seconds: bool,
    /// Whether it counts from now rather than from the Unix epoch.
    pub relative: bool,
}

/// Recognises `EX seconds`, `PX milliseconds`, `EXAT unix-time-seconds` or `PXAT unix-time-milliseconds` at the word `at`.
pub(super) fn expire_arg(args: &Args, at: usize) -> Option<ExpireArg> {
    [("EX", true, true), ("PX", false, true), ("EXAT", true, false), ("PXAT", false, false)]
        .into_iter()
        .find(|(name, ..)| args.is(at, name))
        .map(|(_, seconds, relative)| ExpireArg { at: at + 1, seconds, relative })
}

impl ExpireArg {
    /// Whether both are the same option: of those the last counts.
    pub fn same_unit(self, other: ExpireArg) -> bool {
        (self.seconds, self.relative) == (other.seconds, other.relative)
    }

    /// The time that it names, in Unix milliseconds; it may be in the past.
    pub fn time(self, args: &Args, now_ms: i64, command: &str) -> Result<i64> {
        let number = args.int(self.at)?;
        let ms = if self.seconds { number.checked_mul(1000) } else { Some(number) };
        let at = if self.relative { ms.and_then(|ms| ms.checked_add(now_ms)) } else { ms };
        at.ok_or_else(|| invalid(command))
    }

    /// Like [`ExpireArg::time`] for the commands that take positive numbers only: SET, GETEX and their like.
    pub fn positive(self, args: &Args, now_ms: i64, command: &str) -> Result<i64> {
        if args.int(self.at)? <= 0 {
            return Err(invalid(command));
        }
        self.time(args, now_ms, command)
    }
}

/// The error of a time that cannot be.
pub(super) fn invalid(command: &str) -> Error {
    Error::owned(format!("ERR invalid expire time in '{command}' command"))
}

/// Gives a live key an expiry time, or deletes it if that is past already.
pub(super) fn set_or_delete(txn: &mut Txn, key: Key, at: i64) {
    // In import mode the source says when a key goes.
    if at <= txn.now() && !txn.cx.env.keep_due {
        // Valkey counts it among `expired_keys`; Redis does not.
        if txn.delete_as(key, Removal::Due) {
            let (class, event) = if txn.cx.env.past_expires {
                (EventClasses::EXPIRED, "expired")
            } else {
                (EventClasses::GENERIC, "del")
            };
            txn.event(class, event, key.bytes);
            txn.cx().expired += 1;
        }
    } else {
        txn.set_expiry(key, Some(at));
        txn.event(EventClasses::GENERIC, "expire", key.bytes);
    }
}

/// Takes away a key's expiry time. Whether there was one.
pub(super) fn persist_key(txn: &mut Txn, key: Key) -> bool {
    let expires = txn.peek(key).is_some_and(|entry| entry.expire_at().is_some());
    if expires {
        txn.set_expiry(key, None);
        txn.event(EventClasses::GENERIC, "persist", key.bytes);
    }
    expires
}

/// When EXPIRE or HEXPIRE does anything.
#[derive(Default)]
pub(super) struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    fn parse(args: &Args) -> Result<Conditions> {
        let mut conditions = Conditions::default();
        for &word in args.from(3) {
            if !conditions.add(word) {
                return Err(Error::owned(format!("ERR Unsupported option {}", String::from_utf8_lossy(word))));
            }
        }
        conditions.check()?;
        Ok(conditions)
    }

    /// The conditions from word `at` on, and the place of the first word that is none.
    pub fn parse_from(args: &Args, mut at: usize) -> Result<(Conditions, usize)> {
        let mut conditions = Conditions::default();
        while args.get(at).is_some_and(|word| conditions.add(word)) {
            at += 1;
        }
        conditions.check()?;
        Ok((conditions, at))
    }

    /// Adds a condition; `false` if the word is none.
    fn add(&mut self, word: &[u8]) -> bool {
        let flag = match () {
            () if word.eq_ignore_ascii_case(b"NX") => &mut self.nx,
            () if word.eq_ignore_ascii_case(b"XX") => &mut self.xx,
            () if word.eq_ignore_ascii_case(b"GT") => &mut self.gt,
            () if word.eq_ignore_ascii_case(b"LT") => &mut self.lt,
            () => return false,
        };
        *flag = true;
        true
    }

    /// Whether the conditions go together.
    fn check(&self) -> Result {
        if self.nx && (self.xx || self.gt || self.lt) {
            return Err(Error::text("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if self.gt && self.lt {
            return Err(Error::text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(())
    }

    /// Whether a key or field that expires at `old` (`None`: never) is to expire at `new`.
    pub fn hold(&self, old: Option<i64>, new: i64) -> bool {
        !(self.nx && old.is_some()
            || self.xx && old.is_none()
            || self.gt && old.is_none_or(|old| new <= old)
            || self.lt && old.is_some_and(|old| new >= old))
    }
}

fn expire(
    txn: &mut Txn,
    args: &Args,
    reply: &mut Reply,
    command: &'static str,
    seconds: bool,
    relative: bool,
) -> Result {
    let key = args.key(1);
    let conditions = Conditions::parse(args)?;
    let at = ExpireArg { at: 2, seconds, relative }.time(args, txn.now(), command)?;
    let old = txn.peek(key).map(|entry| entry.expire_at());
    let applies = old.is_some_and(|old| conditions.hold(old, at));
    if applies {
        set_or_delete(txn, key, at);
    }
    reply.int(i64::from(applies));
    Ok(())
}

/// Replies what `show` makes of the expiry time and of now; -1 without one, -2 without a key.
fn ttl(view: &View, args: &Args, reply: &mut Reply, show: fn(i64, i64) -> i64) -> Result {
    reply.int(match view.look(args.key(1)).map(|entry| entry.expire_at()) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => show(at, view.now()),
    });
    Ok(())
}

/// Milliseconds as seconds, to the nearest.
fn rounded_seconds(ms: i64) -> i64 {
    ms / 1000 + i64::from(ms % 1000 >= 500)
}
