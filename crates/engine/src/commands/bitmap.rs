//! Bits of strings. Bit 0 is the highest bit of the first byte.
//!
//! Every change is a SETRANGE of the bytes concerned, so that a bitmap of many megabytes is never copied for one bit.

mod ones;

use crate::args::Args;
use crate::command::{Command, Flags, Group, Keys, Reply, Run};
use crate::error::{Error, Result};
use kelda_store::Str;
use kelda_store::txn::{EventClasses, Key, Ttl, Txn, View};
use ones::ones;
use std::ops::Range;

const BASE: Command = Command { group: Group::Bitmap, ..Command::BASE };

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "SETBIT",
        arity: 4,
        keys: &[Keys::at(1).update_read()],
        flags: Flags::DENYOOM,
        since: "2.2.0",
        syntax: "key offset value/integer",
        summary: "Sets or clears one bit of the string at a key; returns what it was.",
        run: Run::Write(setbit),
        ..BASE
    },
    Command {
        name: "GETBIT",
        arity: 3,
        keys: &[Keys::at(1).read()],
        flags: Flags::FAST,
        since: "2.2.0",
        syntax: "key offset",
        summary: "Returns one bit of the string at a key.",
        run: Run::Read(getbit),
        ..BASE
    },
    Command {
        name: "BITCOUNT",
        arity: -2,
        keys: &[Keys::at(1).read()],
        since: "2.6.0",
        syntax: "key range:[start end-unit-block:[end unit:[BYTE | BIT]]]",
        summary: "Counts the bits that are set in the string at a key, or in part of it.",
        complexity: "O(N) in the length of the part",
        run: Run::Read(bitcount),
        ..BASE
    },
    Command {
        name: "BITPOS",
        arity: -3,
        keys: &[Keys::at(1).read()],
        since: "2.8.7",
        syntax: "key bit range:[start end-unit-block:[end unit:[BYTE | BIT]]]",
        summary: "Finds the first bit that is set, or clear, in the string at a key or in part of it.",
        complexity: "O(N) in the length of the part",
        run: Run::Read(bitpos),
        ..BASE
    },
    Command {
        name: "BITOP",
        arity: -4,
        keys: &[Keys::at(2).overwrite(), Keys::range(3, -1, 1).read()],
        flags: Flags::DENYOOM,
        since: "2.6.0",
        syntax: "operation:<AND | OR | XOR | NOT | DIFF | DIFF1 | ANDOR | ONE> destkey key [key ...]",
        summary: "Combines strings bit by bit and stores the result.",
        complexity: "O(N) in the length of the longest string",
        run: Run::Write(bitop),
        ..BASE
    },
    Command {
        name: "BITFIELD",
        arity: -2,
        keys: &[Keys::at(1).update_read().variable()],
        find_keys: Some(|words, f| {
            let writes = |word: &&[u8]| word.eq_ignore_ascii_case(b"SET") || word.eq_ignore_ascii_case(b"INCRBY");
            let writes = words.iter().skip(2).any(writes);
            f(1, if writes { Keys::at(1).update_read() } else { Keys::at(1).read() }.access);
        }),
        flags: Flags::DENYOOM,
        since: "3.2.0",
        syntax: "key operation:[<get-block:(GET encoding offset) | write:([OVERFLOW overflow-block:<WRAP | SAT | FAIL>] \
                 write-operation:<set-block:(SET encoding offset value/integer) | incrby-block:(INCRBY encoding offset increment)>)> ...]",
        summary: "Reads and changes integers of any width inside the string at a key.",
        complexity: "O(1) for each operation",
        run: Run::Write(bitfield),
        ..BASE
    },
    Command {
        name: "BITFIELD_RO",
        arity: -2,
        keys: &[Keys::at(1).read()],
        flags: Flags::FAST,
        since: "6.0.0",
        syntax: "key get-block:[GET encoding offset [GET encoding offset ...]]",
        summary: "Reads integers of any width inside the string at a key.",
        complexity: "O(1) for each operation",
        run: Run::Read(bitfield_ro),
        ..BASE
    },
];

const BAD_OFFSET: Error = Error::text("ERR bit offset is not an integer or out of range");

/// The bit that a word names; with `#` it counts in fields of `width` bits, where that is allowed.
fn bit_offset(view: &View, word: &[u8], width: Option<u32>) -> Result<usize> {
    let (digits, unit) = match (word, width) {
        ([b'#', digits @ ..], Some(width)) => (digits, i64::from(width)),
        _ => (word, 1),
    };
    let number = kelda_resp::parse_i64(digits).and_then(|number| number.checked_mul(unit));
    let offset = number.and_then(|number| usize::try_from(number).ok()).ok_or(BAD_OFFSET)?;
    if offset / 8 >= view.cx.env.string_bytes_max { Err(BAD_OFFSET) } else { Ok(offset) }
}

/// The byte at an index; zero behind the end.
fn byte_at(text: Option<Str>, index: usize) -> u8 {
    text.and_then(|text| text.with_bytes(|bytes| bytes.get(index).copied())).unwrap_or(0)
}

fn setbit(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    let offset = bit_offset(txn, &args[2], None)?;
    let on = match &args[3] {
        b"0" => false,
        b"1" => true,
        _ => return Err(Error::text("ERR bit is not an integer or out of range")),
    };
    let text = txn.peek_string(key)?;
    let (index, mask) = (offset / 8, 0x80 >> (offset % 8));
    let old = byte_at(text, index);
    let grows = text.is_none_or(|text| text.len() <= index);
    let new = if on { old | mask } else { old & !mask };
    if grows || new != old {
        txn.set_range(key, index, &[new])?;
        txn.event(EventClasses::STRING, "setbit", key.bytes);
    }
    reply.int(i64::from(old & mask != 0));
    Ok(())
}

fn getbit(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let offset = bit_offset(view, &args[2], None)?;
    let byte = byte_at(view.string(args.key(1))?, offset / 8);
    reply.int(i64::from(byte & 0x80 >> (offset % 8) != 0));
    Ok(())
}

// ---- parts of a bitmap

/// `range:[start end-unit-block:[end unit:[BYTE | BIT]]]` of BITCOUNT and BITPOS.
struct Part {
    start: i64,
    end: Option<i64>,
    in_bits: bool,
}

impl Part {
    fn parse(args: &Args, first: usize) -> Result<Part> {
        // In this order, as Valkey looks at them.
        if args.len() > first + 3 {
            return Err(Error::Syntax);
        }
        let start = if args.len() > first { args.int(first)? } else { 0 };
        let in_bits = args.is(first + 2, "BIT");
        if args.len() > first + 2 && !in_bits && !args.is(first + 2, "BYTE") {
            return Err(Error::Syntax);
        }
        let end = if args.len() > first + 1 { Some(args.int(first + 1)?) } else { None };
        Ok(Part { start, end, in_bits })
    }

    /// Whether the part ends before it begins, both counted from the end: BITCOUNT finds nothing in it, even where both
    /// are before the string's beginning, which BITPOS takes for its first byte.
    fn is_reversed(&self) -> bool {
        self.start < 0 && self.end.is_some_and(|end| end < 0 && self.start > end)
    }

    /// The bits of a string of so many bytes.
    fn bits(&self, bytes: usize) -> Range<usize> {
        let unit = if self.in_bits { 1 } else { 8 };
        let length = (bytes * 8 / unit) as i64;
        let end = self.end.unwrap_or(-1);
        let place = |index: i64| if index < 0 { (length + index).max(0) } else { index };
        let (start, end) = (place(self.start), place(end).min(length - 1));
        if start > end { 0..0 } else { start as usize * unit..(end as usize + 1) * unit }
    }
}

/// The bits of `bytes[index]` that lie in `bits`, as a mask.
fn mask_of(bits: &Range<usize>, index: usize) -> u8 {
    let start = bits.start.saturating_sub(index * 8).min(8);
    let end = bits.end.saturating_sub(index * 8).min(8);
    // Bits from `start` on, less those from `end` on.
    (0xff_u16 >> start & !(0xff_u16 >> end)) as u8
}

fn bitcount(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let part = Part::parse(args, 2)?;
    let count = match view.string(args.key(1))? {
        Some(_) if part.is_reversed() => 0,
        Some(text) => text.with_bytes(|bytes| count_bits(bytes, &part.bits(bytes.len()))),
        None => 0,
    };
    reply.int(count as i64);
    Ok(())
}

/// How many of the bits are set.
fn count_bits(bytes: &[u8], bits: &Range<usize>) -> usize {
    let (first, end) = (bits.start / 8, bits.end.div_ceil(8));
    let Some(part) = bytes.get(first..end).filter(|part| !part.is_empty()) else { return 0 };
    // Neither the first byte nor the last need be counted as a whole.
    let outside = |index: usize| (bytes[index] & !mask_of(bits, index)).count_ones() as usize;
    let last = end - 1;
    let outside = if first == last { outside(first) } else { outside(first) + outside(last) };
    ones(part) - outside
}

fn bitpos(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let wanted = match args.int(2)? {
        0 => false,
        1 => true,
        _ => return Err(Error::text("ERR The bit argument must be 1 or 0.")),
    };
    let part = Part::parse(args, 3)?;
    let found = match view.string(args.key(1))? {
        None => {
            if wanted {
                None
            } else {
                Some(0)
            }
        }
        Some(text) => text.with_bytes(|bytes| {
            let bits = part.bits(bytes.len());
            // Without an end the string goes on with zeros for ever.
            let behind = !wanted && part.end.is_none() && !bits.is_empty();
            find_bit(bytes, &bits, wanted).or(behind.then_some(bytes.len() * 8))
        }),
    };
    reply.int(found.map_or(-1, |place| place as i64));
    Ok(())
}

/// The first of the bits that is as wanted.
fn find_bit(bytes: &[u8], bits: &Range<usize>, wanted: bool) -> Option<usize> {
    let (first, end) = (bits.start / 8, bits.end.div_ceil(8));
    let flip = if wanted { 0 } else { 0xff };
    let part = bytes.get(first..end)?;
    let index = part
        .iter()
        .enumerate()
        .position(|(at, byte)| byte ^ flip != 0 && (byte ^ flip) & mask_of(bits, first + at) != 0)?;
    let byte = (part[index] ^ flip) & mask_of(bits, first + index);
    Some((first + index) * 8 + byte.leading_zeros() as usize)
}

// ---- combining

/// The source strings of BITOP. What combines them is compiled for each operation, so that the loops work on many bytes at once.
struct Sources<'a, 'k> {
    txn: &'a Txn<'k>,
    args: &'a Args<'a>,
    longest: usize,
}

impl Sources<'_, '_> {
    /// Combines what there is with the source at a word, zeros standing behind its end.
    fn combine(&self, word: usize, result: &mut [u8], combine: impl Fn(u8, u8) -> u8) -> Result {
        let mut with = |bytes: &[u8]| {
            let (head, tail) = result.split_at_mut(bytes.len());
            head.iter_mut().zip(bytes).for_each(|(a, b)| *a = combine(*a, *b));
            tail.iter_mut().for_each(|a| *a = combine(*a, 0));
        };
        match self.txn.string(self.args.key(word))? {
            Some(text) => text.with_bytes(with),
            None => with(b""),
        }
        Ok(())
    }

    /// The source at a word, each one behind it combined with it.
    fn fold(&self, word: usize, combine: impl Fn(u8, u8) -> u8) -> Result<Vec<u8>> {
        let mut result = Vec::with_capacity(self.longest);
        if let Some(text) = self.txn.string(self.args.key(word))? {
            text.with_bytes(|bytes| result.extend_from_slice(bytes));
        }
        result.resize(self.longest, 0);
        (word + 1..self.args.len()).try_for_each(|word| self.combine(word, &mut result, &combine))?;
        Ok(result)
    }

    /// Any of the others, combined with the first source.
    fn others_with_first(&self, combine: impl Fn(u8, u8) -> u8) -> Result<Vec<u8>> {
        let mut result = self.fold(4, |a, b| a | b)?;
        self.combine(3, &mut result, combine)?;
        Ok(result)
    }

    /// The bits that exactly one source has.
    fn one(&self) -> Result<Vec<u8>> {
        let nothing = vec![0u8; self.longest];
        let (mut once, mut several, mut source) = (nothing.clone(), nothing.clone(), nothing);
        for word in 3..self.args.len() {
            self.combine(word, &mut source, |_, b| b)?;
            for ((several, once), bits) in several.iter_mut().zip(&mut once).zip(&source) {
                *several |= *once & bits;
                *once |= bits;
            }
        }
        once.iter_mut().zip(&several).for_each(|(once, several)| *once &= !several);
        Ok(once)
    }
}

fn bitop(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    const NAMES: &[&str] = &["AND", "OR", "XOR", "NOT", "DIFF", "DIFF1", "ANDOR", "ONE"];
    let name = *NAMES.iter().find(|name| args.is(1, name)).ok_or(Error::Syntax)?;
    if name == "NOT" && args.len() != 4 {
        return Err(Error::text("ERR BITOP NOT must be called with a single source key."));
    }
    if matches!(name, "DIFF" | "DIFF1" | "ANDOR") && args.len() < 5 {
        return Err(Error::owned(format!("ERR BITOP {name} must be called with at least two source keys.")));
    }
    let target = args.key(2);
    let mut longest = 0;
    for index in 3..args.len() {
        longest = longest.max(txn.peek_string(args.key(index))?.map_or(0, |text| text.len()));
    }
    let sources = Sources { txn, args, longest };
    let result = match name {
        "AND" => sources.fold(3, |a, b| a & b),
        "OR" => sources.fold(3, |a, b| a | b),
        "XOR" => sources.fold(3, |a, b| a ^ b),
        "DIFF" => sources.others_with_first(|others, first| first & !others),
        "DIFF1" => sources.others_with_first(|others, first| others & !first),
        "ANDOR" => sources.others_with_first(|others, first| first & others),
        "ONE" => sources.one(),
        // NOT, of a single one.
        _ => sources.fold(3, |a, _| a).map(|bytes| bytes.iter().map(|byte| !byte).collect()),
    }?;
    reply.int(longest as i64);
    if longest == 0 {
        txn.delete_with_event(target);
    } else {
        txn.set_string(target, &result, Ttl::Clear);
        txn.event(EventClasses::STRING, "set", target.bytes);
    }
    Ok(())
}

// ---- BITFIELD

/// What happens to a number that does not fit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

/// The encoding of an integer: `i16`, `u8` …
#[derive(Clone, Copy)]
struct Encoding {
    signed: bool,
    bits: u32,
}

impl Encoding {
    fn parse(word: &[u8]) -> Result<Encoding> {
        let (signed, digits, bits_max) = match word {
            [b'i', digits @ ..] => (true, digits, 64),
            [b'u', digits @ ..] => (false, digits, 63),
            _ => (false, &b""[..], 0),
        };
        match kelda_resp::parse_u64(digits) {
            Some(bits) if (1..=bits_max).contains(&bits) => Ok(Encoding { signed, bits: bits as u32 }),
            _ => Err(Error::text(
                "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
            )),
        }
    }

    /// The number that these low bits are.
    fn number(self, raw: u64) -> i64 {
        let unused = 64 - self.bits;
        if self.signed { (raw << unused) as i64 >> unused } else { (raw << unused >> unused) as i64 }
    }

    /// A number made to fit.
    fn fit(self, number: i128, overflow: Overflow) -> Option<i64> {
        let (low, high) = if self.signed {
            (-(1i128 << (self.bits - 1)), (1i128 << (self.bits - 1)) - 1)
        } else {
            (0, (1i128 << self.bits) - 1)
        };
        match overflow {
            _ if (low..=high).contains(&number) => Some(number as i64),
            Overflow::Wrap => Some(self.number(number as u64)),
            Overflow::Saturate => Some(number.clamp(low, high) as i64),
            Overflow::Fail => None,
        }
    }
}

impl Encoding {
    /// A number for SET made to fit. As Redis computes it, the distance of a far too low one from the highest overflows,
    /// so that it saturates to that.
    fn fit_signed(self, number: i64, overflow: Overflow) -> Option<i64> {
        let high = i64::MAX >> (64 - self.bits);
        let far_below = number < 0 && high.checked_sub(number).is_none() && self.bits < 64;
        match overflow {
            Overflow::Saturate if far_below => Some(high),
            _ => self.fit(i128::from(number), overflow),
        }
    }
}

enum Action {
    Get,
    Set(i64, Overflow),
    Increment(i64, Overflow),
}

/// One operation of BITFIELD.
struct Operation {
    action: Action,
    encoding: Encoding,
    offset: usize,
}

impl Operation {
    fn parse_all(view: &View, args: &Args) -> Result<Vec<Operation>> {
        let mut operations = Vec::new();
        let mut overflow = Overflow::Wrap;
        let mut at = 2;
        while at < args.len() {
            let words = args.len() - at;
            if args.is(at, "OVERFLOW") && words >= 2 {
                overflow = match () {
                    () if args.is(at + 1, "WRAP") => Overflow::Wrap,
                    () if args.is(at + 1, "SAT") => Overflow::Saturate,
                    () if args.is(at + 1, "FAIL") => Overflow::Fail,
                    () => return Err(Error::text("ERR Invalid OVERFLOW type specified")),
                };
                at += 2;
                continue;
            }
            let (get, set) = (args.is(at, "GET") && words >= 3, args.is(at, "SET") && words >= 4);
            let increment = args.is(at, "INCRBY") && words >= 4;
            if !(get || set || increment) {
                return Err(Error::Syntax);
            }
            let encoding = Encoding::parse(&args[at + 1])?;
            let offset = bit_offset(view, &args[at + 2], Some(encoding.bits))?;
            let action = if get {
                Action::Get
            } else if set {
                Action::Set(args.int(at + 3)?, overflow)
            } else {
                Action::Increment(args.int(at + 3)?, overflow)
            };
            operations.push(Operation { action, encoding, offset });
            at += if get { 3 } else { 4 };
        }
        Ok(operations)
    }

    fn writes(&self) -> bool {
        !matches!(self.action, Action::Get)
    }

    /// The bytes that the integer lies in.
    fn bytes(&self) -> Range<usize> {
        self.offset / 8..(self.offset + self.encoding.bits as usize).div_ceil(8)
    }

    /// How far the integer's last bit is from the end of those bytes.
    fn shift(&self) -> usize {
        self.bytes().end * 8 - self.offset - self.encoding.bits as usize
    }

    /// Those bytes as a number; zeros stand behind the end of the string. At most 9 bytes.
    fn window(&self, text: Option<Str>) -> u128 {
        let window = |bytes: &[u8]| {
            self.bytes().fold(0, |window, at| window << 8 | u128::from(bytes.get(at).copied().unwrap_or(0)))
        };
        text.map_or(0, |text| text.with_bytes(window))
    }

    fn read(&self, window: u128) -> i64 {
        self.encoding.number((window >> self.shift()) as u64)
    }

    /// The bytes with the integer replaced.
    fn replaced(&self, window: u128, number: i64) -> Vec<u8> {
        let mask = (1u128 << self.encoding.bits) - 1;
        let window = window & !(mask << self.shift()) | (number as u128 & mask) << self.shift();
        let bytes = window.to_be_bytes();
        bytes[bytes.len() - self.bytes().len()..].to_vec()
    }
}

fn bitfield(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let key = args.key(1);
    let operations = Operation::parse_all(txn, args)?;
    let Some(end) = operations.iter().filter(|operation| operation.writes()).map(|it| it.bytes().end).max() else {
        return read_fields(txn, key, &operations, reply);
    };
    // The first operation that sets anything makes the string long enough for all; if none does, it stays as it is.
    let mut grows = txn.peek_string(key)?.is_none_or(|text| text.len() < end);
    let mut changed = false;
    reply.array(operations.len());
    for operation in &operations {
        let window = operation.window(txn.peek_string(key)?);
        let old = operation.read(window);
        let new = match operation.action {
            Action::Get => {
                reply.int(old);
                continue;
            }
            // A negative number for an unsigned integer counts as a huge one.
            Action::Set(number, overflow) if !operation.encoding.signed => {
                operation.encoding.fit(i128::from(number as u64), overflow)
            }
            Action::Set(number, overflow) => operation.encoding.fit_signed(number, overflow),
            Action::Increment(by, overflow) => operation.encoding.fit(i128::from(old) + i128::from(by), overflow),
        };
        let Some(new) = new else {
            reply.null();
            continue;
        };
        changed |= grows || new != old;
        // What reaches to the end makes the string long enough by itself.
        if std::mem::take(&mut grows) && (new == old || operation.bytes().end != end) {
            txn.set_range(key, end - 1, &[0])?;
        }
        if new != old {
            txn.set_range(key, operation.bytes().start, &operation.replaced(window, new))?;
        }
        reply.int(if matches!(operation.action, Action::Set(..)) { old } else { new });
    }
    if changed {
        txn.event(EventClasses::STRING, "setbit", key.bytes);
    }
    Ok(())
}

fn bitfield_ro(view: &View, args: &Args, reply: &mut Reply) -> Result {
    let operations = Operation::parse_all(view, args)?;
    if operations.iter().any(Operation::writes) {
        return Err(Error::text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read_fields(view, args.key(1), &operations, reply)
}

fn read_fields(view: &View, key: Key, operations: &[Operation], reply: &mut Reply) -> Result {
    let text = view.string(key)?;
    reply.array(operations.len());
    for operation in operations {
        reply.int(operation.read(operation.window(text)));
    }
    Ok(())
}
