//! Values in their RDB form, and the elementary parts of the format.

use super::decode::NEVER;
use super::packed::{LISTPACK_FRAME, put_listpack};
use super::types::{Dialect, Version, encoding, kind, node};
use super::{lzf, stream};
use kelda_store::Str;
use kelda_store::packed::Packed;
use kelda_store::str::parse_int;
use kelda_store::stream::{Stream, StreamId};
use kelda_store::value::ValueRef;

/// How to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Nothing is written that a reader of this version would not know, unless the value could not be written at all.
    pub version: Version,
    /// Whether strings are compressed where that makes them shorter (`rdbcompression`).
    pub compress: bool,
}

impl Default for Format {
    /// What Redis 7.0 reads, compressed.
    fn default() -> Format {
        Format { version: Version::REDIS_7_0, compress: true }
    }
}

/// Strings up to this length are not compressed, as in Redis.
const UNCOMPRESSED_MAX: usize = 20;
/// The longest text of an integer that has a short encoding.
const SHORT_INT_TEXT_MAX: usize = 11;
/// A small collection that takes more memory than this is written as a large one: a listpack is not larger than 4 GiB.
const PACKED_BYTES_MAX: usize = 1 << 29;

/// The type under which [`encode_value`] writes a value.
pub fn value_kind(value: ValueRef<'_>, format: &Format) -> u8 {
    let newer = format.version >= Version::REDIS_7_2;
    match value {
        ValueRef::String(_) => kind::STRING,
        ValueRef::List(_) => kind::LIST_QUICKLIST_2,
        ValueRef::Set(set) => match set.encoding() {
            "intset" if u32::try_from(set.len()).is_ok() => kind::SET_INTSET,
            "listpack" if newer && set.memory_bytes() <= PACKED_BYTES_MAX => kind::SET_LISTPACK,
            _ => kind::SET,
        },
        ValueRef::ZSet(zset) => match zset.encoding() {
            "listpack" if zset.memory_bytes() <= PACKED_BYTES_MAX => kind::ZSET_LISTPACK,
            _ => kind::ZSET_2,
        },
        ValueRef::Hash(hash) if hash.soonest().is_some() => match (format.version.dialect(), hash.encoding()) {
            (Dialect::Valkey, _) => kind::VALKEY_HASH_2,
            (Dialect::Redis, "listpackex") if hash.memory_bytes() <= PACKED_BYTES_MAX => kind::HASH_LISTPACK_EX,
            (Dialect::Redis, _) => kind::HASH_METADATA,
        },
        ValueRef::Hash(hash) => match hash.encoding() {
            "listpack" | "listpackex" if hash.memory_bytes() <= PACKED_BYTES_MAX => kind::HASH_LISTPACK,
            _ => kind::HASH,
        },
        ValueRef::Stream(stream) => stream::kind_of(stream, format),
    }
}

/// Appends a value in the form of the type that [`value_kind`] tells. O(n).
pub fn encode_value(value: ValueRef<'_>, format: &Format, out: &mut Vec<u8>) {
    let kind = value_kind(value, format);
    match value {
        ValueRef::String(text) => put_text(text, format, out),
        ValueRef::List(list) => {
            put_number(list.chunk_count() as u64, out);
            list.chunks().for_each(|chunk| put_list_block(chunk, format, out));
        }
        ValueRef::Set(set) if kind == kind::SET_INTSET => put_int_set(set.iter(), format, out),
        ValueRef::Set(set) if kind == kind::SET_LISTPACK => {
            let mut block = Packed::new();
            set.iter().for_each(|member| block.push_back(member));
            put_listpack_blob(&block, format, out);
        }
        ValueRef::Set(set) => {
            put_number(set.len() as u64, out);
            set.iter().for_each(|member| put_text(member, format, out));
        }
        ValueRef::ZSet(zset) if kind == kind::ZSET_LISTPACK => {
            let mut block = Packed::new();
            let mut text = Vec::new();
            for (member, score) in zset.iter() {
                block.push_back(member);
                text.clear();
                kelda_resp::number::format_f64(score, &mut text);
                block.push_back(Str::Bytes(&text));
            }
            put_listpack_blob(&block, format, out);
        }
        ValueRef::ZSet(zset) => {
            put_number(zset.len() as u64, out);
            // From the highest, as Redis, whose reader then always inserts at one end.
            for (member, score) in zset.iter_from_rank(zset.len().saturating_sub(1), true) {
                put_text(member, format, out);
                out.extend(score.to_le_bytes());
            }
        }
        ValueRef::Hash(hash) if kind == kind::HASH_LISTPACK => {
            let mut block = Packed::new();
            for (field, value) in hash.iter() {
                block.push_back(field);
                block.push_back(value);
            }
            put_listpack_blob(&block, format, out);
        }
        ValueRef::Hash(hash) if kind == kind::HASH_LISTPACK_EX => {
            let mut fields: Vec<_> = hash.iter_with_expiry().collect();
            // Those that do not expire come last.
            fields.sort_by_key(|(_, _, at)| at.unwrap_or(i64::MAX));
            let mut block = Packed::new();
            for (field, value, at) in fields {
                block.push_back(field);
                block.push_back(value);
                block.push_back(Str::Int(at.unwrap_or(0)));
            }
            out.extend(hash.soonest().unwrap_or(0).to_le_bytes());
            put_listpack_blob(&block, format, out);
        }
        ValueRef::Hash(hash) => {
            put_hash_head(hash.len(), hash.soonest(), format, out);
            for (field, value, at) in hash.iter_with_expiry() {
                put_field(field, value, at, hash.soonest(), format, out);
            }
        }
        ValueRef::Stream(stream) => stream::encode(stream, kind, format, out),
    }
}

/// Appends part of a stream, from its beginning or from this entry on; where the next part begins, nothing behind the last.
pub fn encode_stream_part(
    stream: &Stream,
    from: Option<StreamId>,
    format: &Format,
    out: &mut Vec<u8>,
) -> Option<StreamId> {
    stream::encode_part(stream, stream::kind_of(stream, format), format, from, out)
}

/// Begins a hash that is written field by field ([`kind::HASH`], or, if fields expire, [`kind::HASH_METADATA`] or
/// [`kind::VALKEY_HASH_2`]): how many fields there are, and when the first of them is due (Unix ms), if any ever is.
pub fn put_hash_head(len: usize, soonest: Option<i64>, format: &Format, out: &mut Vec<u8>) {
    if let (Some(soonest), Dialect::Redis) = (soonest, format.version.dialect()) {
        out.extend(soonest.to_le_bytes());
    }
    put_number(len as u64, out);
}

/// Appends a field of a hash that [`put_hash_head`] has begun.
pub fn put_field(
    field: Str<'_>,
    value: Str<'_>,
    at: Option<i64>,
    soonest: Option<i64>,
    format: &Format,
    out: &mut Vec<u8>,
) {
    let timed = soonest.map(|soonest| (soonest, format.version.dialect()));
    if let Some((soonest, Dialect::Redis)) = timed {
        // No field expires before the soonest.
        put_number(at.map_or(0, |at| at.wrapping_sub(soonest) as u64 + 1), out);
    }
    put_text(field, format, out);
    put_text(value, format, out);
    if let Some((_, Dialect::Valkey)) = timed {
        out.extend(at.unwrap_or(NEVER).to_le_bytes());
    }
}

/// Appends a block of a list, as a node of [`kind::LIST_QUICKLIST_2`].
pub fn put_list_block(block: &Packed, format: &Format, out: &mut Vec<u8>) {
    match block.iter().next() {
        Some(only) if block.len() == 1 && only.len() > PACKED_BYTES_MAX => {
            put_number(u64::from(node::PLAIN), out);
            put_text(only, format, out);
        }
        _ => {
            put_number(u64::from(node::PACKED), out);
            put_listpack_blob(block, format, out);
        }
    }
}

/// Appends a number in the form of lengths.
pub fn put_number(number: u64, out: &mut Vec<u8>) {
    match number {
        0..0x40 => out.push(number as u8),
        0x40..0x4000 => out.extend([0x40 | (number >> 8) as u8, number as u8]),
        0x4000..=0xffff_ffff => {
            out.push(0x80);
            out.extend((number as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend(number.to_be_bytes());
        }
    }
}

/// Appends a string: as an integer if it is one of at most 32 bits, compressed if that is shorter and wanted.
pub fn put_text(text: Str<'_>, format: &Format, out: &mut Vec<u8>) {
    let bytes = match text {
        Str::Int(n) => return put_int(n, out),
        Str::Bytes(bytes) => bytes,
    };
    if bytes.len() <= SHORT_INT_TEXT_MAX
        && let Some(n) = parse_int(bytes)
    {
        return put_int(n, out);
    }
    if !format.compress || bytes.len() <= UNCOMPRESSED_MAX || !put_compressed(bytes, out) {
        put_blob(bytes, out);
    }
}

/// Appends a compressed string if that is shorter. Whether it was.
fn put_compressed(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let mut compressed = Vec::with_capacity(bytes.len());
    if !lzf::compress(bytes, &mut compressed) {
        return false;
    }
    out.push(0xc0 | encoding::LZF);
    put_number(compressed.len() as u64, out);
    put_number(bytes.len() as u64, out);
    out.extend_from_slice(&compressed);
    true
}

fn put_int(n: i64, out: &mut Vec<u8>) {
    if let Ok(n) = i8::try_from(n) {
        out.push(0xc0 | encoding::INT_8);
        out.extend(n.to_le_bytes());
    } else if let Ok(n) = i16::try_from(n) {
        out.push(0xc0 | encoding::INT_16);
        out.extend(n.to_le_bytes());
    } else if let Ok(n) = i32::try_from(n) {
        out.push(0xc0 | encoding::INT_32);
        out.extend(n.to_le_bytes());
    } else {
        Str::Int(n).with_bytes(|text| put_blob(text, out));
    }
}

/// Appends a string as it is.
pub(super) fn put_blob(bytes: &[u8], out: &mut Vec<u8>) {
    put_number(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends a block as a string that holds a listpack.
pub(super) fn put_listpack_blob(block: &Packed, format: &Format, out: &mut Vec<u8>) {
    let bytes = block.elements().len() + LISTPACK_FRAME;
    if format.compress && bytes > UNCOMPRESSED_MAX {
        let mut framed = Vec::with_capacity(bytes);
        put_listpack(block.elements(), block.len(), &mut framed);
        if !put_compressed(&framed, out) {
            put_blob(&framed, out);
        }
    } else {
        put_number(bytes as u64, out);
        put_listpack(block.elements(), block.len(), out);
    }
}

/// Appends members, which are integers in ascending order, as a string that holds an integer set.
fn put_int_set<'a>(members: impl Iterator<Item = Str<'a>>, format: &Format, out: &mut Vec<u8>) {
    let members: Vec<i64> = members
        .filter_map(|member| match member {
            Str::Int(n) => Some(n),
            Str::Bytes(bytes) => parse_int(bytes),
        })
        .collect();
    let fits = |width: u32| {
        let bound = 1i64 << (8 * width - 1);
        members.first().is_none_or(|&low| low >= -bound) && members.last().is_none_or(|&high| high < bound)
    };
    let width = if fits(2) {
        2
    } else if fits(4) {
        4
    } else {
        8
    };
    let mut block = Vec::with_capacity(8 + members.len() * width);
    block.extend((width as u32).to_le_bytes());
    // The caller writes larger sets in another form.
    block.extend((members.len() as u32).to_le_bytes());
    for member in &members {
        // `width` is at most 8.
        block.extend_from_slice(&member.to_le_bytes()[..width]);
    }
    if !format.compress || block.len() <= UNCOMPRESSED_MAX || !put_compressed(&block, out) {
        put_blob(&block, out);
    }
}
