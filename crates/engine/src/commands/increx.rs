//! INCREX: adds to a number within bounds, and sets its key's expiry time at once.

use super::expire::{ExpireArg, expire_arg, persist_key, set_or_delete};
use crate::args::Args;
use crate::command::{Command, Flags, Group, Keys, Reply, Run};
use crate::error::{Error, Result};
use kelda_resp::{LongDouble, number};
use kelda_store::txn::{EventClasses, Key, Ttl, Txn, View};

/// The command.
pub static COMMANDS: &[Command] = &[Command {
    name: "INCREX",
    arity: -2,
    keys: &[Keys::at(1).update_read()],
    flags: Flags::DENYOOM.and(Flags::FAST),
    group: Group::String,
    since: "8.8.0",
    syntax: "key increment:[BYFLOAT float/double | BYINT integer] [SATURATE] [LBOUND lowerbound] [UBOUND upperbound] expiration:[EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST] [ENX]",
    summary: "Adds to the number at a key, within bounds, and sets or removes the key's expiry time.",
    run: Run::Write(increx),
    ..Command::BASE
}];

/// The options. Numbers are the words that they are in.
#[derive(Default)]
struct Options {
    by_int: Option<usize>,
    by_float: Option<usize>,
    lower: Option<usize>,
    upper: Option<usize>,
    saturate: bool,
    expire: Option<ExpireArg>,
    persist: bool,
    /// The expiry time is set only where there is none.
    if_none: bool,
}

impl Options {
    fn parse(args: &Args) -> Result<Options> {
        let mut options = Options::default();
        let mut at = 2;
        while at < args.len() {
            let place = match () {
                () if args.is(at, "BYINT") => Some(&mut options.by_int),
                () if args.is(at, "BYFLOAT") => Some(&mut options.by_float),
                () if args.is(at, "LBOUND") => Some(&mut options.lower),
                () if args.is(at, "UBOUND") => Some(&mut options.upper),
                () => None,
            };
            if let Some(place) = place {
                if args.get(at + 1).is_none() || place.replace(at + 1).is_some() {
                    return Err(Error::Syntax);
                }
                at += 2;
                continue;
            }
            if let Some(expire) = expire_arg(args, at) {
                if args.get(at + 1).is_none() || options.expire.replace(expire).is_some() {
                    return Err(Error::Syntax);
                }
                at += 2;
                continue;
            }
            let flag = match () {
                () if args.is(at, "SATURATE") => &mut options.saturate,
                () if args.is(at, "PERSIST") => &mut options.persist,
                () if args.is(at, "ENX") => &mut options.if_none,
                () => return Err(Error::Syntax),
            };
            if std::mem::replace(flag, true) {
                return Err(Error::Syntax);
            }
            at += 1;
        }
        let both_numbers = options.by_int.is_some() && options.by_float.is_some();
        if both_numbers || options.persist && (options.expire.is_some() || options.if_none) {
            return Err(Error::Syntax);
        }
        if options.if_none && options.expire.is_none() {
            return Err(Error::text("ERR ENX flag requires an expiration option"));
        }
        Ok(options)
    }
}

/// A kind of number that INCREX counts in.
trait Number: Copy + PartialOrd {
    const ZERO: Self;
    /// The keyspace event.
    const EVENT: &'static str;

    fn least() -> Self;
    fn greatest() -> Self;
    /// The number in an argument; `what` it is, for the error.
    fn argument(word: &[u8], what: &str) -> Result<Self>;
    /// The number at a key.
    fn at_key(view: &View, key: Key) -> Result<Option<Self>>;
    /// The sum; which end of the numbers it would be past otherwise.
    fn sum(self, other: Self) -> std::result::Result<Self, Self>;
    /// The difference, if there is such a number.
    fn minus(self, other: Self) -> Option<Self>;
    fn store(self, txn: &mut Txn, key: Key, ttl: Ttl);
    fn write(self, reply: &mut Reply);
}

impl Number for i64 {
    const ZERO: i64 = 0;
    const EVENT: &'static str = "incrby";

    fn least() -> i64 {
        i64::MIN
    }

    fn greatest() -> i64 {
        i64::MAX
    }

    fn argument(word: &[u8], what: &str) -> Result<i64> {
        let number = number::parse_i64(word);
        number.ok_or_else(|| Error::owned(format!("ERR {what} is not an integer or out of range")))
    }

    fn at_key(view: &View, key: Key) -> Result<Option<i64>> {
        let Some(text) = view.peek_string(key)? else { return Ok(None) };
        text.with_bytes(number::parse_i64).map(Some).ok_or(Error::NotInteger)
    }

    fn sum(self, other: i64) -> std::result::Result<i64, i64> {
        self.checked_add(other).ok_or(if other > 0 { i64::MAX } else { i64::MIN })
    }

    fn minus(self, other: i64) -> Option<i64> {
        self.checked_sub(other)
    }

    fn store(self, txn: &mut Txn, key: Key, ttl: Ttl) {
        txn.set_int(key, self, ttl);
    }

    fn write(self, reply: &mut Reply) {
        reply.int(self);
    }
}

impl Number for LongDouble {
    const ZERO: LongDouble = LongDouble::ZERO;
    const EVENT: &'static str = "incrbyfloat";

    fn least() -> LongDouble {
        LongDouble::ZERO.sub(LongDouble::greatest())
    }

    fn greatest() -> LongDouble {
        LongDouble::greatest()
    }

    fn argument(word: &[u8], what: &str) -> Result<LongDouble> {
        let number = LongDouble::parse(word);
        let number = number.ok_or_else(|| Error::owned(format!("ERR {what} is not a valid float")))?;
        if number.is_infinite() && what == INCREMENT {
            return Err(Error::text("ERR BYFLOAT increment cannot be Infinity"));
        }
        Ok(number)
    }

    fn at_key(view: &View, key: Key) -> Result<Option<LongDouble>> {
        let Some(text) = view.peek_string(key)? else { return Ok(None) };
        let number = text.with_bytes(LongDouble::parse).ok_or(Error::NotFloat)?;
        if number.is_infinite() { Err(Error::text("ERR value cannot be Infinity")) } else { Ok(Some(number)) }
    }

    fn sum(self, other: LongDouble) -> std::result::Result<LongDouble, LongDouble> {
        let sum = self.add(other);
        let end = if other > LongDouble::ZERO { LongDouble::greatest() } else { LongDouble::least() };
        if sum.is_infinite() { Err(end) } else { Ok(sum) }
    }

    fn minus(self, other: LongDouble) -> Option<LongDouble> {
        Some(self.sub(other)).filter(|difference| !difference.is_infinite())
    }

    fn store(self, txn: &mut Txn, key: Key, ttl: Ttl) {
        txn.set_string(key, self.format().as_bytes(), ttl);
    }

    fn write(self, reply: &mut Reply) {
        reply.double_text(self.format().as_bytes());
    }
}

/// What the increment is called in errors.
const INCREMENT: &str = "Increment";

fn increx(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let options = Options::parse(args)?;
    match options.by_float {
        Some(at) => add::<LongDouble>(txn, args, &options, LongDouble::argument(&args[at], INCREMENT)?, reply),
        None => {
            let by = options.by_int.map_or(Ok(1), |at| i64::argument(&args[at], INCREMENT))?;
            add::<i64>(txn, args, &options, by, reply)
        }
    }
}

fn add<N: Number>(txn: &mut Txn, args: &Args, options: &Options, by: N, reply: &mut Reply) -> Result {
    let key = args.key(1);
    let lower = options.lower.map(|at| N::argument(&args[at], "LBOUND")).transpose()?.unwrap_or_else(N::least);
    let upper = options.upper.map(|at| N::argument(&args[at], "UBOUND")).transpose()?.unwrap_or_else(N::greatest);
    if lower > upper {
        return Err(Error::text("ERR LBOUND can't be greater than UBOUND"));
    }
    let at = options.expire.map(|expire| expire.positive(args, txn.now(), "increx")).transpose()?;
    let before = N::at_key(txn, key)?;
    let old = before.unwrap_or(N::ZERO);
    let (sum, fits) = match old.sum(by) {
        Ok(sum) => (sum, sum >= lower && sum <= upper),
        Err(end) => (end, false),
    };
    if !fits && !options.saturate {
        reply.array(2);
        old.write(reply);
        N::ZERO.write(reply);
        return Ok(());
    }
    let new = if sum < lower {
        lower
    } else if sum > upper {
        upper
    } else {
        sum
    };
    let added = new.minus(old).filter(|_| !fits).or(fits.then_some(by));
    let added = added.ok_or(Error::text("ERR applied increment would overflow"))?;
    reply.array(2);
    new.write(reply);
    added.write(reply);
    let expires = txn.peek(key).is_some_and(|entry| entry.expire_at().is_some());
    let at = at.filter(|_| !(options.if_none && expires));
    if let Some(at) = at
        && at <= txn.now()
        && !txn.cx.env.keep_due
    {
        if before.is_some() {
            set_or_delete(txn, key, at);
        }
        return Ok(());
    }
    new.store(txn, key, Ttl::Keep);
    txn.event(EventClasses::STRING, N::EVENT, key.bytes);
    match at {
        Some(at) => set_or_delete(txn, key, at),
        None if options.persist => _ = persist_key(txn, key),
        None => {}
    }
    Ok(())
}
