//! Values from their RDB form.

use super::packed::{Elements, int_set, zipmap};
use super::reader::score;
use super::types::{Dialect, kind, node};
use super::{RdbError, Reader, stream};
use kelda_store::hash::Hash;
use kelda_store::list::{End, List};
use kelda_store::packed::Packed;
use kelda_store::set::Set;
use kelda_store::value::Value;
use kelda_store::zset::ZSet;
use kelda_store::{Limits, Str};

const DUPLICATE: RdbError = RdbError::Corrupt("the same member twice");

/// Reads the value of type `kind` that `reader` stands at.
///
/// Takes the form that the limits ask for, whatever it had. Everything is checked. Memory is in proportion to the bytes that are
/// really there. On an error the reader stands anywhere.
pub fn decode_value(kind: u8, dialect: Dialect, reader: &mut Reader<'_>, limits: &Limits) -> Result<Value, RdbError> {
    Ok(match kind {
        kind::STRING => match reader.text()? {
            text if let Some(n) = text.int() => Value::Int(n),
            text => Value::String { bytes: text.into_vec().into(), raw: false },
        },
        kind::LIST | kind::LIST_ZIPLIST | kind::LIST_QUICKLIST | kind::LIST_QUICKLIST_2 => {
            Value::List(list(kind, reader, limits)?)
        }
        kind::SET | kind::SET_INTSET | kind::SET_LISTPACK => Value::Set(set(kind, reader, limits)?),
        kind::ZSET | kind::ZSET_2 | kind::ZSET_ZIPLIST | kind::ZSET_LISTPACK => {
            Value::ZSet(zset(kind, reader, limits)?)
        }
        kind::HASH | kind::HASH_ZIPMAP | kind::HASH_ZIPLIST | kind::HASH_LISTPACK => {
            Value::Hash(hash(kind, reader, limits)?)
        }
        kind::VALKEY_HASH_2 if dialect == Dialect::Valkey => Value::Hash(valkey_hash(reader, limits)?),
        kind::HASH_METADATA_PRE_GA..=kind::HASH_LISTPACK_EX if dialect == Dialect::Redis => {
            Value::Hash(timed_hash(kind, reader, limits)?)
        }
        _ if stream::is_known(kind) => Value::Stream(Box::new(stream::decode(kind, reader, limits)?)),
        kind::MODULE_2 => return Err(RdbError::Module(module_name(reader.number()?))),
        kind::MODULE_PRE_GA => return Err(RdbError::Unsupported("a value of a module from before Redis 4.0")),
        other => return Err(RdbError::UnknownType(other)),
    })
}

/// Passes over the value of type `kind` that `reader` stands at, looking no deeper than needed to find its end.
pub fn skip_value(kind: u8, dialect: Dialect, reader: &mut Reader<'_>) -> Result<(), RdbError> {
    match kind {
        kind::STRING
        | kind::HASH_ZIPMAP
        | kind::LIST_ZIPLIST
        | kind::SET_INTSET
        | kind::ZSET_ZIPLIST
        | kind::HASH_ZIPLIST
        | kind::HASH_LISTPACK
        | kind::ZSET_LISTPACK
        | kind::SET_LISTPACK => reader.skip_text()?,
        kind::LIST | kind::SET | kind::LIST_QUICKLIST => (0..reader.count(1)?).try_for_each(|_| reader.skip_text())?,
        kind::HASH => {
            for _ in 0..reader.count(1)? {
                reader.skip_text()?;
                reader.skip_text()?;
            }
        }
        kind::ZSET => {
            for _ in 0..reader.count(1)? {
                reader.skip_text()?;
                let len = reader.byte()?;
                // The three highest stand for numbers without a text.
                if len < 253 {
                    reader.take(usize::from(len))?;
                }
            }
        }
        kind::ZSET_2 => {
            for _ in 0..reader.count(1)? {
                reader.skip_text()?;
                reader.take(8)?;
            }
        }
        kind::LIST_QUICKLIST_2 => {
            for _ in 0..reader.count(1)? {
                reader.number()?;
                reader.skip_text()?;
            }
        }
        _ if stream::is_known(kind) => stream::skip(kind, reader)?,
        kind::VALKEY_HASH_2 if dialect == Dialect::Valkey => {
            for _ in 0..reader.count(1)? {
                reader.skip_text()?;
                reader.skip_text()?;
                reader.take(8)?;
            }
        }
        kind::HASH_METADATA_PRE_GA | kind::HASH_METADATA if dialect == Dialect::Redis => {
            if kind == kind::HASH_METADATA {
                reader.take(8)?;
            }
            for _ in 0..reader.count(1)? {
                reader.number()?;
                reader.skip_text()?;
                reader.skip_text()?;
            }
        }
        kind::HASH_LISTPACK_EX_PRE_GA | kind::HASH_LISTPACK_EX if dialect == Dialect::Redis => {
            if kind == kind::HASH_LISTPACK_EX {
                reader.take(8)?;
            }
            reader.skip_text()?;
        }
        kind::MODULE_2 => {
            reader.number()?;
            reader.skip_module()?;
        }
        kind::MODULE_PRE_GA => return Err(RdbError::Unsupported("a value of a module from before Redis 4.0")),
        other => return Err(RdbError::UnknownType(other)),
    }
    Ok(())
}

/// The name of a module's type: nine letters of six bits, from the highest, above a version of ten bits.
pub fn module_name(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // The index has six bits.
    (0..9).map(|n| LETTERS[(id >> (58 - 6 * n) & 0x3f) as usize] as char).collect()
}

/// Calls `f` with the bytes of two elements.
fn with_both<R>(a: &Str<'_>, b: &Str<'_>, f: impl FnOnce(&[u8], &[u8]) -> R) -> R {
    a.with_bytes(|a| b.with_bytes(|b| f(a, b)))
}

fn list(kind: u8, reader: &mut Reader<'_>, limits: &Limits) -> Result<List, RdbError> {
    let mut list = List::new();
    let push = |list: &mut List, element: &Str<'_>| element.with_bytes(|element| list.push(End::Back, element, limits));
    let push_all = |list: &mut List, elements: Elements<'_>| -> Result<(), RdbError> {
        for element in elements {
            push(list, &element?);
        }
        Ok(())
    };
    match kind {
        kind::LIST_ZIPLIST => push_all(&mut list, Elements::ziplist(&reader.blob()?)?)?,
        _ => {
            for _ in 0..reader.count(1)? {
                match kind {
                    kind::LIST => push(&mut list, &reader.text()?.as_str()),
                    kind::LIST_QUICKLIST => push_all(&mut list, Elements::ziplist(&reader.blob()?)?)?,
                    _ => match u8::try_from(reader.number()?) {
                        Ok(node::PLAIN) => match reader.text()? {
                            text if text.as_str().is_empty() => {
                                return Err(RdbError::Corrupt("a list's node without bytes"));
                            }
                            text => push(&mut list, &text.as_str()),
                        },
                        Ok(node::PACKED) => push_all(&mut list, Elements::listpack(&reader.blob()?)?)?,
                        _ => return Err(RdbError::Corrupt("unknown kind of a list's node")),
                    },
                }
            }
        }
    }
    list.pack(limits);
    if list.is_empty() { Err(RdbError::Empty) } else { Ok(list) }
}

fn set(kind: u8, reader: &mut Reader<'_>, limits: &Limits) -> Result<Set, RdbError> {
    let mut set = Set::new();
    let add = |set: &mut Set, member: &Str<'_>| -> Result<(), RdbError> {
        let new = member.with_bytes(|member| set.insert(member, limits));
        if new { Ok(()) } else { Err(DUPLICATE) }
    };
    match kind {
        kind::SET_INTSET => {
            for member in int_set(&reader.blob()?)? {
                add(&mut set, &Str::Int(member))?;
            }
        }
        // One that was packed stays so, even if only integers are left in it.
        kind::SET_LISTPACK => {
            set = Set::from_packed(packed(Elements::listpack(&reader.blob()?)?)?, limits).ok_or(DUPLICATE)?;
        }
        _ => {
            let count = reader.count(1)?;
            for n in 0..count {
                let member = reader.text()?;
                if n == 0 {
                    member.with_bytes(|first| set.reserve(first, count, limits));
                }
                add(&mut set, &member.as_str())?;
            }
        }
    }
    if set.is_empty() { Err(RdbError::Empty) } else { Ok(set) }
}

fn zset(kind: u8, reader: &mut Reader<'_>, limits: &Limits) -> Result<ZSet, RdbError> {
    let mut zset = ZSet::new();
    let add = |zset: &mut ZSet, member: &Str<'_>, score: f64| -> Result<(), RdbError> {
        let old = member.with_bytes(|member| zset.insert(member, score, limits));
        if old.is_none() { Ok(()) } else { Err(DUPLICATE) }
    };
    match kind {
        kind::ZSET_ZIPLIST | kind::ZSET_LISTPACK => {
            let block = reader.blob()?;
            let ziplist = kind == kind::ZSET_ZIPLIST;
            let mut elements = elements(&block, ziplist)?;
            let mut pairs = Vec::new();
            while let Some(member) = elements.next() {
                let (member, score_text) = (member?, elements.need()?);
                let score = match score_text {
                    Str::Int(n) => n as f64,
                    Str::Bytes(text) => score(text)?,
                };
                pairs.push((member, score));
            }
            match ZSet::from_sorted(&pairs, limits) {
                Some(sorted) => zset = sorted,
                None => pairs.iter().try_for_each(|(member, score)| add(&mut zset, member, *score))?,
            }
        }
        _ => {
            for _ in 0..reader.count(2)? {
                let member = reader.text()?;
                let score = if kind == kind::ZSET { reader.double_text()? } else { reader.double()? };
                add(&mut zset, &member.as_str(), score)?;
            }
        }
    }
    if zset.is_empty() { Err(RdbError::Empty) } else { Ok(zset) }
}

fn hash(kind: u8, reader: &mut Reader<'_>, limits: &Limits) -> Result<Hash, RdbError> {
    let mut hash = Hash::new();
    let set = |hash: &mut Hash, field: &[u8], value: &[u8]| -> Result<(), RdbError> {
        if hash.set(field, value, limits).is_none() { Ok(()) } else { Err(DUPLICATE) }
    };
    match kind {
        kind::HASH_ZIPMAP => zipmap(&reader.blob()?, |field, value| set(&mut hash, field, value))?,
        kind::HASH_ZIPLIST | kind::HASH_LISTPACK => {
            let block = reader.blob()?;
            let pairs = packed(elements(&block, kind == kind::HASH_ZIPLIST)?)?;
            const DAMAGED: RdbError = RdbError::Corrupt("a field twice, or without a value");
            hash = Hash::from_packed(pairs, limits).ok_or(DAMAGED)?;
        }
        _ => {
            let count = reader.count(2)?;
            hash.reserve(count, limits);
            for _ in 0..count {
                let (field, value) = (reader.text()?, reader.text()?);
                with_both(&field.as_str(), &value.as_str(), |field, value| set(&mut hash, field, value))?;
            }
        }
    }
    if hash.is_empty() { Err(RdbError::Empty) } else { Ok(hash) }
}

/// A hash of Valkey: its fields with expiry times.
fn valkey_hash(reader: &mut Reader<'_>, limits: &Limits) -> Result<Hash, RdbError> {
    let mut hash = Hash::new();
    let count = reader.count(10)?;
    hash.reserve(count, limits);
    for _ in 0..count {
        let (field, value, at) = (reader.text()?, reader.text()?, reader.i64_le()?);
        if at < NEVER {
            return Err(BAD_EXPIRY);
        }
        put_timed(&mut hash, &field.as_str(), &value.as_str(), (at != NEVER).then_some(at), limits)?;
    }
    if hash.is_empty() { Err(RdbError::Empty) } else { Ok(hash) }
}

/// What Valkey writes for a field that does not expire.
pub(super) const NEVER: i64 = -1;
const BAD_EXPIRY: RdbError = RdbError::Corrupt("an expiry time of a field that cannot be");

/// A hash of Redis with expiry times of fields.
fn timed_hash(kind: u8, reader: &mut Reader<'_>, limits: &Limits) -> Result<Hash, RdbError> {
    let mut hash = Hash::new();
    let soonest = match kind {
        kind::HASH_METADATA | kind::HASH_LISTPACK_EX => reader.i64_le()?,
        _ => 1,
    };
    if matches!(kind, kind::HASH_LISTPACK_EX | kind::HASH_LISTPACK_EX_PRE_GA) {
        let block = reader.blob()?;
        let mut elements = Elements::listpack(&block)?;
        while let Some(field) = elements.next() {
            let (field, value, at) = (field?, elements.need()?, elements.need_int()?);
            if at < 0 {
                return Err(BAD_EXPIRY);
            }
            put_timed(&mut hash, &field, &value, (at != 0).then_some(at), limits)?;
        }
    } else {
        let count = reader.count(3)?;
        hash.reserve(count, limits);
        for _ in 0..count {
            let (after, field, value) = (reader.number()?, reader.text()?, reader.text()?);
            // One more than how long after the soonest, or 0. Candidates of 7.4 wrote the time itself.
            let at = i64::try_from(after).ok().and_then(|after| soonest.checked_add(after)?.checked_sub(1));
            let at = at.filter(|at| after == 0 || *at >= 0).ok_or(BAD_EXPIRY)?;
            put_timed(&mut hash, &field.as_str(), &value.as_str(), (after != 0).then_some(at), limits)?;
        }
    }
    if hash.is_empty() { Err(RdbError::Empty) } else { Ok(hash) }
}

/// Adds a new field that may expire (Unix ms).
fn put_timed(
    hash: &mut Hash,
    field: &Str<'_>,
    value: &Str<'_>,
    expire_at: Option<i64>,
    limits: &Limits,
) -> Result<(), RdbError> {
    // Where Redis keeps fields in a block, 0 says that one does not expire.
    let expire_at = expire_at.map(|at| at.max(1));
    let old = with_both(field, value, |field, value| hash.set_with_expiry(field, value, expire_at, limits));
    if old.is_none() { Ok(()) } else { Err(DUPLICATE) }
}

/// The elements as a block of ours.
fn packed(elements: Elements<'_>) -> Result<Packed, RdbError> {
    let mut packed = Packed::new();
    for element in elements {
        packed.push_back(element?);
    }
    Ok(packed)
}

fn elements<'a>(block: &'a [u8], ziplist: bool) -> Result<Elements<'a>, RdbError> {
    if ziplist { Elements::ziplist(block) } else { Elements::listpack(block) }
}
