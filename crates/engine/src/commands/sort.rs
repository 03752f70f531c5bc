//! SORT and SORT_RO.
//!
//! The patterns of BY and GET name keys that depend on the elements: a command with such a pattern holds every shard.

use super::write_str;
use crate::args::Args;
use crate::command::{Access, Command, Flags, Keys, Reply, Run};
use crate::error::{Error, Result};
use kelda_resp::number;
use kelda_store::Str;
use kelda_store::list::{End, List};
use kelda_store::txn::{EventClasses, Key, Txn, View};
use kelda_store::value::{Value, ValueRef};
use std::borrow::Cow;
use std::cmp::Ordering;

const BASE: Command = Command {
    arity: -2,
    flags: Flags::DANGEROUS,
    categories: Some(&["set", "sortedset", "list"]),
    complexity: "O(N+M*log(M)), of N elements of which M are returned; O(N) where nothing is to be sorted",
    reaches_further: Some(|words| words.get(2..).unwrap_or_default().iter().any(|word| word.contains(&b'*'))),
    ..Command::BASE
};

/// The keys that patterns and STORE name; Redis does not mark them as incomplete.
const BY_PATTERN: Keys = Keys { incomplete: false, ..Keys::unknown() };

/// The family.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "SORT",
        keys: &[Keys::at(1).read(), BY_PATTERN.read(), BY_PATTERN.overwrite()],
        find_keys: Some(find_keys),
        flags: Flags::DENYOOM.and(Flags::DANGEROUS),
        syntax: "key [BY by-pattern:pattern#1] limit:[LIMIT offset count] [GET get-pattern:pattern#1 [GET pattern ...]] \
                 order:[ASC | DESC] [sorting:ALPHA] [STORE destination#2]",
        summary: "Sorts the elements of a list, set or sorted set, by themselves or by what other keys hold; may store the result.",
        run: Run::Write(sort_write),
        ..BASE
    },
    Command {
        name: "SORT_RO",
        keys: &[Keys::at(1).read(), BY_PATTERN.read()],
        find_keys: Some(|_, f| f(1, Keys::at(1).read().access)),
        since: "7.0.0",
        syntax: "key [BY by-pattern:pattern#1] limit:[LIMIT offset count] [GET get-pattern:pattern#1 [GET pattern ...]] \
                 order:[ASC | DESC] [sorting:ALPHA]",
        summary: "Sorts the elements of a list, set or sorted set, by themselves or by what other keys hold.",
        run: Run::Read(sort_read),
        ..BASE
    },
];

/// The sorted key, and the last STORE.
fn find_keys(words: &[&[u8]], f: &mut dyn FnMut(usize, Access)) {
    let is = |at: usize, option: &str| words[at].eq_ignore_ascii_case(option.as_bytes());
    let mut store = None;
    let mut at = 2;
    while at < words.len() {
        if is(at, "LIMIT") {
            at += 2;
        } else if is(at, "BY") || is(at, "GET") {
            at += 1;
        } else if is(at, "STORE") && at + 1 < words.len() {
            at += 1;
            store = Some(at);
        }
        at += 1;
    }
    if words.len() > 1 {
        f(1, Keys::at(1).read().access);
    }
    if let Some(at) = store {
        f(at, Keys::at(1).overwrite().access);
    }
}

/// The options.
struct Options<'a> {
    /// BY: `None` sorts by the elements themselves.
    by: Option<&'a [u8]>,
    get: Vec<&'a [u8]>,
    limit: (i64, i64),
    descending: bool,
    alpha: bool,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(view: &View, args: &Args<'a>, may_store: bool) -> Result<Options<'a>> {
        let denied =
            |option| Error::owned(format!("ERR {option} option of SORT denied due to insufficient ACL permissions."));
        let named_only = view.cx.env.named_keys_only;
        let mut options =
            Options { by: None, get: Vec::new(), limit: (0, -1), descending: false, alpha: false, store: None };
        let mut at = 2;
        while at < args.len() {
            let argument = args.get(at + 1);
            if args.is(at, "ASC") {
                options.descending = false;
            } else if args.is(at, "DESC") {
                options.descending = true;
            } else if args.is(at, "ALPHA") {
                options.alpha = true;
            } else if args.is(at, "LIMIT") && at + 2 < args.len() {
                options.limit = (args.int(at + 1)?, args.int(at + 2)?);
                at += 2;
            } else if args.is(at, "STORE") && may_store && argument.is_some() {
                options.store = argument;
                at += 1;
            } else if args.is(at, "BY") && argument.is_some() {
                options.by = argument;
                at += 1;
                if named_only && !options.keeps_order() {
                    return Err(denied("BY"));
                }
            } else if args.is(at, "GET")
                && let Some(pattern) = argument
            {
                options.get.push(pattern);
                at += 1;
                if named_only {
                    return Err(denied("GET"));
                }
            } else {
                return Err(Error::Syntax);
            }
            at += 1;
        }
        Ok(options)
    }

    /// Whether elements are sorted as numbers, and returned themselves.
    fn is_plain(&self) -> bool {
        self.by.is_none() && self.get.is_empty() && !self.alpha
    }

    /// BY a pattern without `*`: the elements stay as they are.
    fn keeps_order(&self) -> bool {
        self.by.is_some_and(|pattern| !pattern.contains(&b'*'))
    }

    /// The part of `len` elements that LIMIT leaves.
    fn range(&self, len: usize) -> std::ops::Range<usize> {
        let (offset, count) = self.limit;
        let start = usize::try_from(offset).unwrap_or(0).min(len);
        let end = usize::try_from(count).map_or(len, |count| start.saturating_add(count).min(len));
        start..end
    }
}

fn sort_read(view: &View, args: &Args, reply: &mut Reply) -> Result {
    answer(view, args.key(1), &Options::parse(view, args, false)?, reply)
}

/// Replies what SORT without STORE returns.
fn answer(view: &View, key: Key, options: &Options, reply: &mut Reply) -> Result {
    if options.is_plain() {
        let numbers = numbers(view, key, options)?;
        let chosen = &numbers[options.range(numbers.len())];
        reply.array(chosen.len());
        chosen.iter().for_each(|element| write_str(reply, *element));
    } else {
        write_rows(&sorted(view, key, options)?, reply);
    }
    Ok(())
}

/// The elements, which are numbers, in their order: what SORT mostly is, and what needs no copies.
fn numbers<'v>(view: &'v View, key: Key, options: &Options) -> Result<Vec<Str<'v>>> {
    let elements: Vec<Str> = match view.get(key).map(|entry| entry.value()) {
        None => Vec::new(),
        Some(ValueRef::List(list)) => list.iter().collect(),
        Some(ValueRef::Set(set)) => set.iter().collect(),
        Some(ValueRef::ZSet(zset)) => zset.iter().map(|(member, _)| member).collect(),
        Some(_) => return Err(Error::WrongType),
    };
    // What is sorted is small, and compared as integers.
    let mut places = Vec::with_capacity(elements.len());
    for (place, element) in elements.iter().enumerate() {
        let number = match element {
            // Rounded as `strtod` rounds its text.
            Str::Int(number) => *number as f64,
            Str::Bytes(text) => score(text)?,
        };
        places.push((ascending(number), place));
    }
    places.sort_unstable();
    // Equal numbers are put in the order of the elements, so that the result is always the same.
    let compare = |(_, a): &(u64, usize), (_, b): &(u64, usize)| {
        elements[*a].with_bytes(|a| elements[*b].with_bytes(|b| a.cmp(b)))
    };
    places
        .chunk_by_mut(|(a, _), (b, _)| a == b)
        .filter(|equal| equal.len() > 1)
        .for_each(|equal| equal.sort_by(compare));
    if options.descending {
        places.reverse();
    }
    Ok(places.into_iter().map(|(_, place)| elements[place]).collect())
}

/// An integer that compares as the number, which is not NaN, does.
fn ascending(number: f64) -> u64 {
    // The two zeros are equal.
    let bits = (number + 0.0).to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

fn sort_write(txn: &mut Txn, args: &Args, reply: &mut Reply) -> Result {
    let options = Options::parse(txn, args, true)?;
    let Some(target) = options.store.map(Key::new) else { return answer(txn, args.key(1), &options, reply) };
    let rows = sorted(txn, args.key(1), &options)?;
    reply.int(rows.len() as i64);
    if rows.is_empty() {
        txn.delete_with_event(target);
        return Ok(());
    }
    let mut list = List::new();
    let limits = txn.cx.env.limits;
    for row in &rows {
        list.push(End::Back, row.as_deref().unwrap_or_default(), &limits);
    }
    txn.put(target, Value::List(list), None);
    txn.event(EventClasses::LIST, "sortstore", target.bytes);
    Ok(())
}

fn write_rows(rows: &[Option<Vec<u8>>], reply: &mut Reply) {
    reply.array(rows.len());
    for row in rows {
        match row {
            Some(text) => reply.bulk(text),
            None => reply.null(),
        }
    }
}

/// What is returned or stored: for each element what GET asks for, or else the element.
fn sorted(view: &View, key: Key, options: &Options) -> Result<Vec<Option<Vec<u8>>>> {
    let mut elements = Vec::new();
    let mut unordered = false;
    match view.get(key).map(|entry| entry.value()) {
        None => {}
        Some(ValueRef::List(list)) => elements.extend(list.iter().map(|item| item.to_vec())),
        Some(ValueRef::Set(set)) => {
            unordered = true;
            elements.extend(set.iter().map(|member| member.to_vec()));
        }
        Some(ValueRef::ZSet(zset)) => elements.extend(zset.iter().map(|(member, _)| member.to_vec())),
        Some(_) => return Err(Error::WrongType),
    }
    if !options.keeps_order() {
        elements = order(view, elements, options)?;
    } else if unordered {
        // What is stored, or seen by a script, must not depend on the order in which a set happens to lie.
        if options.store.is_some() || view.cx.env.scripted {
            elements.sort_unstable();
        }
    } else if options.descending {
        elements.reverse();
    }
    let range = options.range(elements.len());
    let chosen = elements.drain(range);
    if options.get.is_empty() {
        return Ok(chosen.map(Some).collect());
    }
    let rows =
        chosen.flat_map(|element| {
            options.get.iter().map(move |pattern| {
                if *pattern == b"#" { Some(element.clone()) } else { look_up(view, pattern, &element) }
            })
        });
    Ok(rows.collect())
}

/// Sorts the elements by their weights.
fn order(view: &View, elements: Vec<Vec<u8>>, options: &Options) -> Result<Vec<Vec<u8>>> {
    /// What an element is compared by.
    enum Weight {
        Number(f64),
        Text(Option<Vec<u8>>),
    }
    let mut weighed = Vec::with_capacity(elements.len());
    for element in elements {
        let text = match options.by {
            Some(pattern) => look_up(view, pattern, &element).map(Cow::Owned),
            None => Some(Cow::Borrowed(&element[..])),
        };
        let weight = if !options.alpha {
            Weight::Number(text.map_or(Ok(0.0), |text| score(&text))?)
        } else {
            // Without BY the elements themselves are compared.
            Weight::Text(options.by.and(text).map(Cow::into_owned))
        };
        weighed.push((weight, element));
    }
    let by_element = options.by.is_none();
    weighed.sort_by(|(a, a_element), (b, b_element)| {
        let ordering = match (a, b) {
            (Weight::Number(a), Weight::Number(b)) => {
                // NaN is refused by `score`. Equal numbers are put in the order of the elements, so that the result is
                // always the same.
                a.partial_cmp(b).unwrap_or(Ordering::Equal).then_with(|| a_element.cmp(b_element))
            }
            (Weight::Text(_), Weight::Text(_)) if by_element => a_element.cmp(b_element),
            (Weight::Text(a), Weight::Text(b)) => a.cmp(b),
            (Weight::Number(_), Weight::Text(_)) | (Weight::Text(_), Weight::Number(_)) => Ordering::Equal,
        };
        if options.descending { ordering.reverse() } else { ordering }
    });
    Ok(weighed.into_iter().map(|(_, element)| element).collect())
}

/// The number that a text stands for: as C's `strtod` reads it, which takes leading blanks and nothing at all, and ends
/// at a zero byte.
fn score(text: &[u8]) -> Result<f64> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let number = if text.is_empty() { Some(0.0) } else { number::parse_f64(text.trim_ascii_start()) };
    number.ok_or(Error::text("ERR One or more scores can't be converted into double"))
}

/// What a pattern of BY or GET leads to: the string at the key that it names, or after `->` the field of a hash.
fn look_up(view: &View, pattern: &[u8], element: &[u8]) -> Option<Vec<u8>> {
    let star = pattern.iter().position(|&byte| byte == b'*')?;
    let (before, after) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = after.windows(2).position(|pair| pair == b"->").filter(|&at| at + 2 < after.len());
    let (after, field) = match arrow {
        Some(at) => (&after[..at], Some(&after[at + 2..])),
        None => (after, None),
    };
    let name = [before, element, after].concat();
    match (view.get(Key::new(&name))?.value(), field) {
        (ValueRef::String(text), None) => Some(text.to_vec()),
        (ValueRef::Hash(hash), Some(field)) => view.live(hash).get(field).map(|text| text.to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::ascending;

    #[test]
    fn numbers_as_integers_keep_their_order() {
        let numbers = [f64::NEG_INFINITY, -1e300, -1.5, -5e-324, 0.0, 5e-324, 1.0, 1.5, 9e15, f64::INFINITY];
        assert!(numbers.is_sorted_by(|a, b| ascending(*a) < ascending(*b)));
        assert_eq!(ascending(-0.0), ascending(0.0));
    }
}
