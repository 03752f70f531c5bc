//! Entries in every layout, against the values they were made of.

use super::*;
use crate::hasher::hash;
use crate::table::Table;
use proptest::prelude::*;

/// Lengths of keys and strings around every border of the format.
const LENGTHS: [usize; 25] =
    [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 44, 45, 63, 64, 65, 255, 256, 257, 511, 512, 513, 514, 70_000];

fn text(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| b'a' + (i as u8).wrapping_mul(7).wrapping_add(seed) % 26).collect()
}

fn string(bytes: &[u8]) -> Value {
    Value::String { bytes: bytes.to_vec().into(), raw: false }
}

fn string_of(entry: EntryRef<'_>) -> Vec<u8> {
    match entry.value() {
        ValueRef::String(text) => text.to_vec(),
        _ => panic!("not a string"),
    }
}

/// Collections of every type.
fn collections() -> [Value; 5] {
    [
        Value::List(Default::default()),
        Value::Set(Default::default()),
        Value::ZSet(Default::default()),
        Value::Hash(Default::default()),
        Value::Stream(Box::default()),
    ]
}

#[test]
fn sizes_are_as_planned() {
    let key = [b'k'; 16];
    for (value, expire_at, bytes) in [
        (Value::Int(7), None, 32),
        (string(b"12345678"), None, 32),
        (string(b"abcdefgh"), None, 32),
        (string(b"abcdefgh"), Some(1), 48),
        (string(&[b'v'; 64]), None, 96),
    ] {
        assert_eq!(Entry::new(&key, value, expire_at).as_ref().allocated_bytes(), bytes);
    }
}

#[test]
fn every_length_round_trips() {
    for key_len in LENGTHS {
        let key = text(key_len, 1);
        for value_len in LENGTHS {
            if cfg!(miri) && key_len.max(value_len) > 1000 {
                continue;
            }
            for expire_at in [None, Some(0), Some(i64::MAX)] {
                let bytes = text(value_len, 2);
                let entry = Entry::new(&key, string(&bytes), expire_at);
                let same = Entry::from_bytes(&key, &bytes, false, expire_at);
                assert_eq!(string_of(same.as_ref()), bytes);
                assert_eq!(same.as_ref().allocated_bytes(), entry.as_ref().allocated_bytes());
                assert_eq!(entry.as_ref().key(), key);
                assert_eq!(string_of(entry.as_ref()), bytes);
                assert_eq!(entry.as_ref().expire_at(), expire_at);
                entry.as_ref().set_access(0x00ab_cdef);
                let entry = entry.with_key(&bytes);
                assert_eq!(entry.as_ref().key(), bytes);
                assert_eq!(string_of(entry.as_ref()), bytes);
                assert_eq!((entry.as_ref().access(), entry.as_ref().expire_at()), (0x00ab_cdef, expire_at));
                assert!(matches!(entry.into_value(), Value::String { bytes: b, raw: false } if *b == *bytes));
            }
        }
    }
}

#[test]
fn collections_move_with_their_entries() {
    for value in collections() {
        let kind = value.kind();
        let mut entry = Entry::new(b"key", value, None);
        for expire_at in [Some(5), None, Some(6), Some(7)] {
            entry.set_expire_at(expire_at);
            assert_eq!((entry.as_ref().kind(), entry.as_ref().expire_at()), (kind, expire_at));
        }
        let entry = entry.with_key(&text(300, 0));
        assert_eq!(entry.as_ref().key(), text(300, 0));
        assert_eq!(entry.as_ref().to_value().kind(), kind);
        assert_eq!(entry.into_value().kind(), kind);
    }
}

#[test]
fn collections_and_strings_replace_each_other() {
    let mut table = Table::new();
    let mut slot = table.insert(hash(b"key"), Entry::new(b"key", Value::Int(1), Some(9)));
    for value in collections() {
        let kind = value.kind();
        assert_eq!(slot.replace_value(value).kind(), Kind::String);
        assert_eq!(slot.get().kind(), kind);
        assert!(!matches!(slot.value_mut(), ValueMut::String));
        slot.append(b"x");
        assert_eq!((slot.get().kind(), slot.string_mut(3).len()), (kind, 0));
        slot.set_string(b"text", false);
        assert_eq!(string_of(slot.get()), b"text");
        assert_eq!(slot.get().expire_at(), Some(9));
    }
}

#[test]
fn encodings_are_named_as_in_redis() {
    let name = |bytes: &[u8], raw| {
        Entry::new(b"k", Value::String { bytes: bytes.to_vec().into(), raw }, None).as_ref().string_encoding()
    };
    assert_eq!(name(b"12", false), "int");
    assert_eq!(Entry::from_bytes(b"k", b"12", false, None).as_ref().string_encoding(), "int");
    assert_eq!(Entry::from_bytes(b"k", b"12", true, None).as_ref().string_encoding(), "raw");
    assert_eq!(name(b"12", true), "raw");
    assert_eq!(name(b"012", false), "embstr");
    assert_eq!(name(&[b'x'; 44], false), "embstr");
    assert_eq!(name(&[b'x'; 45], false), "raw");
    assert_eq!(name(b"9223372036854775808", false), "embstr");
    let mut table = Table::new();
    let mut slot = table.insert(hash(b"k"), Entry::new(b"k", Value::Int(12), None));
    slot.append(b"");
    assert_eq!((slot.get().string_encoding(), string_of(slot.get())), ("raw", b"12".to_vec()));
    slot.set_string(b"12", false);
    assert_eq!(slot.get().string_encoding(), "int");
}

/// Repeated appends cost memory in proportion, and a much shorter string gives memory back.
#[test]
fn memory_follows_the_length() {
    let mut table = Table::new();
    let mut slot = table.insert(hash(b"k"), Entry::new(b"k", string(b""), None));
    for _ in 0..3000 {
        slot.append(b"0123456789");
        let (len, allocated) = (string_of(slot.get()).len(), slot.get().allocated_bytes());
        assert!(allocated <= 64 + len * 5 / 2, "{len} bytes take {allocated}");
    }
    slot.set_string(&[b'x'; 600], false);
    assert!(slot.get().allocated_bytes() < 1000);
    slot.set_string(b"x", false);
    assert_eq!(slot.get().allocated_bytes(), 16);
}

#[derive(Clone, Debug)]
enum Op {
    Set(Vec<u8>, bool),
    SetInt(i64),
    Append(Vec<u8>),
    SetRange(usize, Vec<u8>),
    Expire(Option<i64>),
    Replace(Vec<u8>, bool),
    Rename(Vec<u8>),
    Access(u32),
    Indexed(bool),
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(LENGTHS[..24].to_vec()).prop_map(|len| text(len, 3)),
        any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..100),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (bytes(), any::<bool>()).prop_map(|(b, raw)| Op::Set(b, raw)),
        any::<i64>().prop_map(Op::SetInt),
        bytes().prop_map(Op::Append),
        (0..700usize, bytes()).prop_map(|(at, b)| Op::SetRange(at, b)),
        any::<Option<i64>>().prop_map(Op::Expire),
        (bytes(), any::<bool>()).prop_map(|(b, raw)| Op::Replace(b, raw)),
        bytes().prop_map(Op::Rename),
        any::<u32>().prop_map(Op::Access),
        any::<bool>().prop_map(Op::Indexed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 8 } else { 256 }, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Any sequence of changes leaves what the model says.
    #[test]
    fn changes_follow_the_model(ops in prop::collection::vec(op(), 0..40)) {
        let mut table = Table::new();
        let (mut key, mut value, mut raw) = (b"key".to_vec(), Vec::new(), false);
        let (mut expire_at, mut access, mut indexed) = (None, 0, false);
        table.insert(hash(&key), Entry::new(&key, string(&value), None));
        for op in ops {
            let mut slot = table.get_mut(hash(&key), &key).unwrap();
            match op {
                Op::Set(bytes, as_raw) => {
                    slot.set_string(&bytes, as_raw);
                    (value, raw) = (bytes, as_raw);
                }
                Op::SetInt(n) => {
                    slot.set_int(n);
                    (value, raw) = (n.to_string().into_bytes(), false);
                }
                Op::Append(bytes) => {
                    slot.append(&bytes);
                    value.extend(bytes);
                    raw = true;
                }
                Op::SetRange(at, bytes) => {
                    slot.set_range(at, &bytes);
                    value.resize(value.len().max(at + bytes.len()), 0);
                    value[at..at + bytes.len()].copy_from_slice(&bytes);
                    raw = true;
                }
                Op::Expire(at) => {
                    slot.set_expire_at(at);
                    expire_at = at;
                }
                Op::Replace(bytes, as_raw) => {
                    let old = slot.replace_value(Value::String { bytes: bytes.clone().into(), raw: as_raw });
                    match old {
                        Value::Int(n) => assert_eq!(n.to_string().into_bytes(), value),
                        Value::String { bytes, raw: was_raw } => assert_eq!((&bytes[..], was_raw), (&value[..], raw)),
                        _ => panic!("not a string"),
                    }
                    (value, raw) = (bytes, as_raw);
                }
                Op::Rename(new_key) => {
                    let entry = slot.remove().with_key(&new_key);
                    table.insert(hash(&new_key), entry);
                    (key, indexed) = (new_key, false);
                }
                Op::Access(new) => {
                    slot.get().set_access(new);
                    access = new & ACCESS_MASK;
                }
                Op::Indexed(new) => {
                    slot.get().set_indexed(new);
                    indexed = new;
                }
            }
            let entry = table.get(hash(&key), &key).unwrap();
            assert_eq!((entry.key(), string_of(entry)), (&key[..], value.clone()));
            assert_eq!((entry.expire_at(), entry.access(), entry.is_indexed()), (expire_at, access, indexed));
            let is_int = !raw && parse_int(&value).is_some();
            assert_eq!(matches!(entry.value(), ValueRef::String(Str::Int(_))), is_int);
            assert_eq!(entry.is_raw(), raw);
            let copy = Entry::new(entry.key(), entry.to_value(), None);
            assert_eq!((string_of(copy.as_ref()), copy.as_ref().is_raw()), (value.clone(), raw));
        }
    }
}
