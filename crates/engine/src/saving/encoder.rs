//! How a snapshot's entries are written: as in an RDB file.

use crate::config::Settings;
use crate::rdb;
use kelda_log::rdb::{
    Access, Format, encode_stream_part, kind, opcode, put_entry, put_entry_head, put_field, put_hash_head,
    put_list_block, put_number, put_text, put_times, value_kind,
};
use kelda_store::entry::EntryRef;
use kelda_store::snapshot::{Element, Encoder};
use kelda_store::stream::{Stream, StreamId};
use kelda_store::value::ValueRef;
use std::sync::Arc;

/// Writes entries as they stand in an RDB file.
pub struct RdbEncoder {
    format: Format,
    settings: Arc<Settings>,
    now_ms: i64,
}

impl RdbEncoder {
    /// As the settings say, for a file begun at this time.
    pub fn new(settings: Arc<Settings>, now_ms: i64) -> RdbEncoder {
        RdbEncoder { format: rdb::format(&settings), settings, now_ms }
    }

    fn access(&self, entry: EntryRef<'_>) -> Option<Access> {
        rdb::access_of(entry, &self.settings, self.now_ms)
    }
}

impl Encoder for RdbEncoder {
    fn database(&self, out: &mut Vec<u8>, db: u32) {
        out.push(opcode::SELECT_DB);
        put_number(u64::from(db), out);
    }

    fn entry(&self, out: &mut Vec<u8>, entry: EntryRef<'_>) {
        put_entry(entry.key(), entry.expire_at(), self.access(entry), entry.value(), &self.format, out);
    }

    fn head(&self, out: &mut Vec<u8>, entry: EntryRef<'_>) {
        let (value, format) = (entry.value(), &self.format);
        let kind = match value {
            ValueRef::Set(_) => kind::SET,
            ValueRef::ZSet(_) => kind::ZSET_2,
            // The others have the same form whatever their size. (A big hash is never a block.)
            _ => value_kind(value, format),
        };
        put_entry_head(entry.key(), entry.expire_at(), self.access(entry), kind, format, out);
        match value {
            ValueRef::Hash(hash) => put_hash_head(hash.len(), hash.soonest(), format, out),
            ValueRef::List(list) => put_number(list.chunk_count() as u64, out),
            ValueRef::Set(set) => put_number(set.len() as u64, out),
            ValueRef::ZSet(zset) => put_number(zset.len() as u64, out),
            // Nothing comes before a string but its length, which it brings along.
            ValueRef::String(_) | ValueRef::Stream(_) => {}
        }
    }

    fn element(&self, out: &mut Vec<u8>, element: Element<'_>, soonest: Option<i64>) {
        let format = &self.format;
        match element {
            Element::Member(member, _) => put_text(member, format, out),
            Element::Field(field, text, at) => put_field(field, text, at, soonest, format, out),
            Element::Scored(member, score, _) => {
                put_text(member, format, out);
                out.extend(score.to_le_bytes());
            }
            Element::Block(block) => put_list_block(block, format, out),
            Element::Text(text) => put_text(text, format, out),
            Element::Length(len) => put_number(len as u64, out),
            Element::Bytes(bytes) => out.extend_from_slice(bytes),
        }
    }

    fn times(&self, out: &mut Vec<u8>, times: &[(Box<[u8]>, i64)]) {
        put_times(times.iter().map(|(member, at)| (&**member, *at)), &self.format, out);
    }

    fn stream(&self, out: &mut Vec<u8>, stream: &Stream, from: Option<StreamId>) -> Option<StreamId> {
        encode_stream_part(stream, from, &self.format, out)
    }
}
