//! A value of any type: owned, borrowed and mutably borrowed.

use crate::{Str, hash::Hash, list::List, long::Long, set::Set, stream::Stream, zset::ZSet};

/// The type of a value, as `TYPE` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    String,
    List,
    Set,
    ZSet,
    Hash,
    Stream,
}

impl Kind {
    /// The name that `TYPE` replies.
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::ZSet => "zset",
            Kind::Hash => "hash",
            Kind::Stream => "stream",
        }
    }
}

/// A borrowed value.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub enum ValueRef<'a> {
    String(Str<'a>),
    List(&'a List),
    Set(&'a Set),
    ZSet(&'a ZSet),
    Hash(&'a Hash),
    Stream(&'a Stream),
}

impl ValueRef<'_> {
    /// The type of the value.
    pub fn kind(&self) -> Kind {
        match self {
            ValueRef::String(_) => Kind::String,
            ValueRef::List(_) => Kind::List,
            ValueRef::Set(_) => Kind::Set,
            ValueRef::ZSet(_) => Kind::ZSet,
            ValueRef::Hash(_) => Kind::Hash,
            ValueRef::Stream(_) => Kind::Stream,
        }
    }

    /// Bytes on the heap of a collection; 0 of a string, which lies in its entry. O(nodes) of lists and streams, else O(1).
    pub fn collection_bytes(&self) -> usize {
        match self {
            ValueRef::String(_) => 0,
            ValueRef::List(list) => list.memory_bytes(),
            ValueRef::Set(set) => set.memory_bytes(),
            ValueRef::ZSet(zset) => zset.memory_bytes(),
            ValueRef::Hash(hash) => hash.memory_bytes(),
            ValueRef::Stream(stream) => stream.memory_bytes(),
        }
    }
}

/// A mutably borrowed collection. Strings live inside the entry and are replaced through it.
#[allow(missing_docs)]
pub enum ValueMut<'a> {
    String,
    List(&'a mut List),
    Set(&'a mut Set),
    ZSet(&'a mut ZSet),
    Hash(&'a mut Hash),
    Stream(&'a mut Stream),
}

/// An owned value: what RENAME, COPY and the STORE commands carry from key to key.
#[allow(missing_docs)]
pub enum Value {
    Int(i64),
    /// A string. Without `raw`, the canonical text of an integer becomes one in the entry. `raw` asks for the encoding name `raw` whatever its length, as
    /// Redis shows strings that were modified in place (APPEND, SETRANGE).
    String {
        bytes: Long,
        raw: bool,
    },
    List(List),
    Set(Set),
    ZSet(ZSet),
    Hash(Hash),
    Stream(Box<Stream>),
}

impl Value {
    /// The type of the value.
    pub fn kind(&self) -> Kind {
        match self {
            Value::Int(_) | Value::String { .. } => Kind::String,
            Value::List(_) => Kind::List,
            Value::Set(_) => Kind::Set,
            Value::ZSet(_) => Kind::ZSet,
            Value::Hash(_) => Kind::Hash,
            Value::Stream(_) => Kind::Stream,
        }
    }

    /// Borrows the value.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Value::Int(number) => ValueRef::String(Str::Int(*number)),
            Value::String { bytes, .. } => ValueRef::String(Str::Bytes(bytes)),
            Value::List(list) => ValueRef::List(list),
            Value::Set(set) => ValueRef::Set(set),
            Value::ZSet(zset) => ValueRef::ZSet(zset),
            Value::Hash(hash) => ValueRef::Hash(hash),
            Value::Stream(stream) => ValueRef::Stream(stream),
        }
    }

    /// Number of elements; 1 for a string.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match self {
            Value::Int(_) | Value::String { .. } => 1,
            Value::List(list) => list.len(),
            Value::Set(set) => set.len(),
            Value::ZSet(zset) => zset.len(),
            Value::Hash(hash) => hash.len(),
            Value::Stream(stream) => stream.len() as usize,
        }
    }

    /// A string value: an integer where the text is the canonical form of one.
    pub fn from_text(text: &[u8]) -> Value {
        match crate::str::parse_int(text) {
            Some(number) => Value::Int(number),
            None => Value::String { bytes: text.to_vec().into(), raw: false },
        }
    }
}
