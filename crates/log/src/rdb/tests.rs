//! Round trips of whole values, and payloads that real servers wrote.

use super::*;
use crate::rdb::payload::{PayloadError, dump, restore, seal};
use kelda_store::hash::Hash;
use kelda_store::list::{End, List};
use kelda_store::set::Set;
use kelda_store::stream::{Holder, Mark, Stream, StreamId};
use kelda_store::value::{Value, ValueRef};
use kelda_store::zset::ZSet;
use kelda_store::{Limits, Str};
use proptest::prelude::*;

fn show(text: Str<'_>) -> String {
    text.with_bytes(|bytes| bytes.escape_ascii().to_string())
}

/// A value as text, the same for equal values.
fn describe(value: &Value) -> String {
    let mut parts: Vec<String> = match value.as_ref() {
        ValueRef::String(text) => vec![show(text)],
        ValueRef::List(list) => list.iter().map(show).collect(),
        ValueRef::Set(set) => {
            let at = |member: Str<'_>| member.with_bytes(|member| set.expiry(member)).map(|at| format!("@{at}"));
            set.iter().map(|member| show(member) + &at(member).unwrap_or_default()).collect()
        }
        ValueRef::ZSet(zset) => {
            let at = |member: Str<'_>| member.with_bytes(|member| zset.expiry(member)).map(|at| format!("@{at}"));
            let show = |(member, score)| format!("{}={score:?}{}", show(member), at(member).unwrap_or_default());
            zset.iter().map(show).collect()
        }
        ValueRef::Hash(hash) => hash
            .iter_with_expiry()
            .map(|(field, value, at)| format!("{}={}@{at:?}", show(field), show(value)))
            .collect(),
        ValueRef::Stream(stream) => stream_parts(stream),
    };
    if matches!(value, Value::Set(_) | Value::Hash(_)) {
        parts.sort();
    }
    format!("{:?} {}", value.kind(), parts.join(" "))
}

fn stream_parts(stream: &Stream) -> Vec<String> {
    let mut parts = vec![format!("{} {} {}", stream.last_id(), stream.max_deleted_id(), stream.entries_added())];
    for entry in stream.iter() {
        parts.push(entry.id.to_string());
        parts.extend(entry.fields.map(|(field, value)| format!("{}={}", show(field), show(value))));
    }
    for (name, group) in stream.groups() {
        parts.push(format!("{name:?} {} {:?}", group.last_delivered(), group.entries_read()));
        parts.extend(group.pending_range(StreamId::MIN, StreamId::MAX).map(|(id, pending)| {
            // Where in the line an entry without a holder stands, `given_back` tells; its number there is of no matter.
            let holder = match &pending.holder {
                Holder::Consumer(name) => show(Str::Bytes(name)),
                Holder::Nobody(_) => "nobody".into(),
            };
            format!("{id} {holder} {} {}", pending.delivery_time, pending.delivery_count)
        }));
        parts.extend(group.consumers().map(|consumer| format!("{consumer:?}")));
        parts.extend(group.given_back().map(|id| id.to_string()));
    }
    parts.extend(stream.producers().map(|producers| format!("{producers:?}")));
    parts
}

const VERSIONS: [Version; 4] = [Version::REDIS_7_0, Version::REDIS_7_2, Version::REDIS_7_4, Version::VALKEY_9];

/// Checks that a value comes back from every form in which it can be written, skipped like read.
fn check(value: &Value, versions: &[Version]) {
    for &version in versions {
        for compress in [false, true] {
            let format = Format { version, compress };
            let payload = dump(value.as_ref(), &format);
            let back =
                restore(&payload, &Limits::default(), false).unwrap_or_else(|why| panic!("{why:?}: {payload:?}"));
            assert_eq!(describe(&back), describe(value));

            let mut body = Vec::new();
            encode_value(value.as_ref(), &format, &mut body);
            let mut reader = Reader::new(&body);
            skip_value(value_kind(value.as_ref(), &format), version.dialect(), &mut reader).unwrap();
            assert!(reader.is_empty());
        }
    }
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..30),
        any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        (-300i32..300).prop_map(|n| n.to_string().into_bytes()),
        (0usize..6000).prop_map(|len| vec![b'r'; len]),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    (0usize..9, 0usize..70, -5i64..5).prop_map(|(entries, bytes, list_chunk)| Limits {
        hash_entries_max: entries,
        hash_value_bytes_max: bytes,
        list_chunk,
        set_int_entries_max: entries,
        set_entries_max: entries,
        set_value_bytes_max: bytes,
        zset_entries_max: entries,
        zset_value_bytes_max: bytes,
        stream_node_bytes_max: bytes * 10,
        stream_node_entries_max: entries,
        ..Limits::default()
    })
}

/// A value that a failed test can show.
struct Shown(Value);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe(&self.0))
    }
}

fn value() -> impl Strategy<Value = Shown> {
    let texts = || proptest::collection::vec(text(), 1..20);
    let pairs = || proptest::collection::vec((text(), text()), 1..20);
    let ints = proptest::collection::vec(prop_oneof![any::<i64>(), -40_000i64..40_000, -9i64..9], 1..20);
    prop_oneof![
        text().prop_map(|text| Shown(Value::from_text(&text))),
        (texts(), limits()).prop_map(|(texts, limits)| {
            let mut list = List::new();
            texts.iter().for_each(|text| list.push(End::Back, text, &limits));
            Shown(Value::List(list))
        }),
        (texts(), limits(), 1usize..5).prop_map(|(texts, limits, timed)| {
            let mut value = set_of(&texts, &limits);
            if let Value::Set(set) = &mut value {
                for (n, text) in texts.iter().enumerate().filter(|(n, _)| n % timed == 1) {
                    set.set_expiry(text, Some(1_700_000_000_000 + n as i64 * 7));
                }
            }
            Shown(value)
        }),
        (ints, limits()).prop_map(|(ints, limits)| {
            let texts: Vec<_> = ints.iter().map(|n| n.to_string().into_bytes()).collect();
            Shown(set_of(&texts, &limits))
        }),
        (texts(), limits(), any::<u64>()).prop_map(|(texts, limits, seed)| {
            let mut zset = ZSet::new();
            for (n, text) in texts.iter().enumerate() {
                let bits = f64::from_bits(seed.wrapping_mul(n as u64));
                let scores = [0.0, 1.0, -2.5, f64::INFINITY, 1e300, if bits.is_nan() { -0.0 } else { bits }];
                zset.insert(text, scores[n % 6], &limits);
            }
            for (n, text) in texts.iter().enumerate().filter(|(n, _)| seed as usize % 4 == n % 4 && seed % 3 == 0) {
                zset.set_expiry(text, Some(n as i64));
            }
            Shown(Value::ZSet(zset))
        }),
        (pairs(), limits(), 1usize..4).prop_map(|(pairs, limits, timed)| {
            let mut hash = Hash::new();
            for (n, (field, value)) in pairs.iter().enumerate() {
                let at = (n % timed == 1).then_some(1_700_000_000_000 + n as i64 * 7);
                hash.set_with_expiry(field, value, at, &limits);
            }
            Shown(Value::Hash(hash))
        }),
        (pairs(), pairs(), limits())
            .prop_map(|(fields, groups, limits)| Shown(Value::Stream(stream_of(&fields, &groups, &limits)))),
    ]
}

fn set_of(texts: &[Vec<u8>], limits: &Limits) -> Value {
    let mut set = Set::new();
    for text in texts {
        set.insert(text, limits);
    }
    Value::Set(set)
}

/// A stream whose entries and groups follow from the pairs.
fn stream_of(fields: &[(Vec<u8>, Vec<u8>)], groups: &[(Vec<u8>, Vec<u8>)], limits: &Limits) -> Box<Stream> {
    let mut stream = Stream::new();
    let ids: Vec<_> = (0..fields.len() as u64 * 2).map(|n| StreamId::new(n * n + 1, n % 3)).collect();
    for (n, id) in ids.iter().enumerate() {
        let some = &fields[n % fields.len()..];
        let some = &some[..some.len().min(1 + n % 3)];
        assert!(stream.append(*id, some.iter().map(|(field, value)| (&field[..], &value[..])), limits));
    }
    for id in ids.iter().step_by(4) {
        stream.delete(*id);
    }
    for (n, (name, consumer)) in groups.iter().enumerate() {
        stream.create_group(name, ids[n % ids.len()], (n % 2 == 0).then_some(n as u64));
        let group = stream.group_mut(name).unwrap();
        group.create_consumer(consumer, 1_000 + n as i64);
        group.create_consumer(b"idle", 5);
        group.set_consumer_times(b"idle", 7, None);
        group.set_consumer_times(consumer, 8, Some(8));
        for id in ids.iter().take(n) {
            group.set_pending(*id, consumer, 99, n as u64);
        }
        for id in ids.iter().rev().take(n / 3) {
            group.give_back(*id, n as u64);
        }
        if n % 5 == 4 {
            let producers = stream.producers_mut(limits);
            producers.insert(Mark { producer: name, id: b"mark" }, ids[0], 0);
            producers.insert(Mark { producer: name, id: consumer }, ids[n % ids.len()], 0);
            producers.set_counters(7, n as u64);
        }
    }
    Box::new(stream)
}

proptest! {
    #[test]
    fn values_come_back(Shown(value) in value()) {
        // Before RDB version 11 the time at which a consumer was active is not told.
        let versions = if matches!(value, Value::Stream(_)) { &VERSIONS[1..] } else { &VERSIONS[..] };
        check(&value, versions);
    }

    #[test]
    fn damaged_values_do_not_panic(Shown(value) in value(), places in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        let mut out = Vec::new();
        let format = Format { compress: false, ..Format::default() };
        let kind = value_kind(value.as_ref(), &format);
        encode_value(value.as_ref(), &format, &mut out);
        for (at, byte) in places {
            let at = at % out.len();
            out[at] = byte;
        }
        let _ = decode_value(kind, Dialect::Redis, &mut Reader::new(&out), &Limits::default());
        let _ = skip_value(kind, Dialect::Redis, &mut Reader::new(&out));
    }

    #[test]
    fn no_bytes_panic(kind in 0u8..30, bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0u8..4], 0..100)) {
        for dialect in [Dialect::Redis, Dialect::Valkey] {
            let read = decode_value(kind, dialect, &mut Reader::new(&bytes), &Limits::default());
            let skipped = skip_value(kind, dialect, &mut Reader::new(&bytes));
            prop_assert!(skipped.is_ok() || read.is_err());
        }
    }
}

#[test]
fn every_cut_and_every_bit_is_noticed() {
    let mut hash = Hash::new();
    hash.set(b"field", b"value", &Limits::default());
    let payload = dump(ValueRef::Hash(&hash), &Format::default());
    for len in 0..payload.len() {
        assert!(restore(&payload[..len], &Limits::default(), false).is_err());
    }
    for bit in 0..payload.len() * 8 {
        let mut damaged = payload.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(restore(&damaged, &Limits::default(), false).err(), Some(PayloadError::Footer));
    }
}

#[test]
fn damage_has_a_reason() {
    for (kind, bytes, want) in [
        (kind::SET, &b"\x02\x01a\x01a"[..], RdbError::Corrupt("the same member twice")),
        (kind::HASH, b"\x02\x01a\x01b\x01a\x01c", RdbError::Corrupt("the same member twice")),
        (kind::ZSET_2, b"\x01\x01a\0\0\0\0\0\0\xf8\x7f", RdbError::Corrupt("a score that is no number")),
        (kind::LIST, b"\0", RdbError::Empty),
        (kind::HASH_LISTPACK, b"\x07\x07\0\0\0\0\0\xff", RdbError::Empty),
        (
            kind::HASH_LISTPACK,
            b"\x09\x09\0\0\0\x01\0\x01\x01\xff",
            RdbError::Corrupt("a field twice, or without a value"),
        ),
        (kind::STRING, b"\x05abc", RdbError::Truncated),
        (kind::LIST, b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff", RdbError::Truncated),
        (99, b"", RdbError::UnknownType(99)),
    ] {
        let read = decode_value(kind, Dialect::Redis, &mut Reader::new(bytes), &Limits::default());
        assert_eq!(read.err(), Some(want), "{kind} {bytes:?}");
    }
}

#[test]
fn expiry_times_of_members_are_of_members() {
    let limits = Limits::default();
    let mut zset = ZSet::new();
    zset.insert(b"a", 1.0, &limits);
    let mut other = zset.clone();
    other.insert(b"b", 1.0, &limits);
    zset.set_expiry(b"a", Some(77));
    other.set_expiry(b"b", Some(77));
    let format = Format { compress: false, ..Format::default() };
    let seal_body = |parts: &[&[u8]]| {
        let mut body = parts.concat();
        seal(&mut body, format.version);
        body
    };
    let body = |zset: &ZSet| {
        let payload = dump(ValueRef::ZSet(zset), &format);
        payload[..payload.len() - 10].to_vec()
    };
    let (one, two) = (body(&zset), body(&other));
    let start = |body: &[u8]| body.windows(18).position(|part| part == b"kelda-member-times").unwrap() - 2;
    let (value, times, others) = (&one[..start(&one)], &one[start(&one)..], &two[start(&two)..]);
    assert_eq!(describe(&restore(&seal_body(&[value, times]), &limits, false).unwrap()), "ZSet a=1.0@77");
    assert_eq!(describe(&restore(&seal_body(&[value]), &limits, false).unwrap()), "ZSet a=1.0");
    // Of a member that is not there, of no set at all, twice, cut off.
    let text: &[u8] = &[kind::STRING, 1, b'x'];
    for parts in [&[value, others][..], &[text, times], &[value, times, times], &[value, &times[..times.len() - 1]]] {
        assert!(matches!(restore(&seal_body(parts), &limits, false), Err(PayloadError::Value(_))), "{parts:?}");
    }
}

#[test]
fn values_of_modules_are_named() {
    // `ReJSON-RL` in nine letters of six bits, version 3.
    let letters = "ReJSON-RL".bytes().map(|letter| {
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".bytes().position(|l| l == letter).unwrap()
    });
    let id = letters.fold(0u64, |id, letter| id << 6 | letter as u64) << 10 | 3;
    let mut bytes = Vec::new();
    put_number(id, &mut bytes);
    bytes.extend(b"\x05\x02{}\x02\x07\x04\0\0\0\0\0\0\0\0\x00");
    let read = decode_value(kind::MODULE_2, Dialect::Redis, &mut Reader::new(&bytes), &Limits::default());
    assert_eq!(read.err(), Some(RdbError::Module("ReJSON-RL".into())));
    let mut reader = Reader::new(&bytes);
    skip_value(kind::MODULE_2, Dialect::Redis, &mut reader).unwrap();
    assert!(reader.is_empty());
}

/// A value of type `kind` that is a listpack of these elements.
fn read_packed(kind: u8, elements: &[&str], limits: &Limits) -> Result<Value, RdbError> {
    let mut block = kelda_store::packed::Packed::new();
    elements.iter().for_each(|element| block.push_back(Str::Bytes(element.as_bytes())));
    let mut out = Vec::new();
    encode::put_listpack_blob(&block, &Format::default(), &mut out);
    decode_value(kind, Dialect::Redis, &mut Reader::new(&out), limits)
}

#[test]
fn packed_collections_are_taken_over_if_they_are_sound() {
    let tight = Limits { hash_entries_max: 1, set_entries_max: 1, zset_entries_max: 1, ..Limits::default() };
    let narrow =
        Limits { hash_value_bytes_max: 2, set_value_bytes_max: 2, zset_value_bytes_max: 2, ..Limits::default() };
    let elements = ["abc", "7", "d", "8"];
    for (kind, small, large) in [
        (kind::HASH_LISTPACK, "listpack", "hashtable"),
        (kind::SET_LISTPACK, "listpack", "hashtable"),
        (kind::ZSET_LISTPACK, "listpack", "skiplist"),
    ] {
        for (limits, want) in [(Limits::default(), small), (tight, large), (narrow, large)] {
            let value = read_packed(kind, &elements, &limits).unwrap();
            let encoding = match &value {
                Value::Hash(hash) => hash.encoding(),
                Value::Set(set) => set.encoding(),
                Value::ZSet(zset) => zset.encoding(),
                _ => "",
            };
            assert_eq!(encoding, want, "{kind} {limits:?}");
        }
    }
    for (kind, elements) in [
        (kind::HASH_LISTPACK, &["a", "1", "b", "2", "a", "3"][..]),
        (kind::HASH_LISTPACK, &["7", "1", "7", "1"]),
        (kind::HASH_LISTPACK, &["a", "1", "b"]),
        (kind::SET_LISTPACK, &["a", "b", "a"]),
        (kind::ZSET_LISTPACK, &["a", "1", "b", "2", "a", "3"]),
        (kind::ZSET_LISTPACK, &["a", "1", "a", "1"]),
        (kind::ZSET_LISTPACK, &["a", "nan"]),
    ] {
        assert!(matches!(read_packed(kind, elements, &Limits::default()), Err(RdbError::Corrupt(_))), "{elements:?}");
    }
    // Redis sorts, but what is not in order is no damage.
    let value = read_packed(kind::ZSET_LISTPACK, &["b", "2", "a", "1"], &Limits::default()).unwrap();
    assert_eq!(describe(&value), "ZSet a=1.0 b=2.0");
}

/// -1 says that a field does not expire; what lies before the epoch otherwise, nothing could write again.
#[test]
fn a_field_does_not_expire_before_the_epoch() {
    let read = |at: i64| {
        let bytes = [&b"\x01\x01f\x01v"[..], &at.to_le_bytes()].concat();
        let value = decode_value(kind::VALKEY_HASH_2, Dialect::Valkey, &mut Reader::new(&bytes), &Limits::default());
        value.map(|value| match value {
            Value::Hash(hash) => hash.soonest(),
            _ => panic!("it is a hash"),
        })
    };
    assert_eq!(read(-1), Ok(None));
    assert_eq!((read(0), read(5)), (Ok(Some(1)), Ok(Some(5))));
    assert!(read(-2).is_err() && read(i64::MIN).is_err());
}
