//! The hash against a plain map, with small limits so that both forms are met.

use super::Hash;
use crate::Limits;
use crate::testing::{cases, element, limits};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// One line of a table: limits, fields with their values, form.
type Facts<'a> = (Limits, &'a [(String, String)], &'a str);

/// Fields with their values, in the order of their coming.
type Model = Vec<(Vec<u8>, Vec<u8>)>;

fn pairs(hash: &Hash) -> Model {
    hash.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect()
}

fn check(hash: &Hash, model: &Model) {
    assert_eq!(hash.len(), model.len());
    let mut found = pairs(hash);
    if hash.encoding() == "listpack" {
        assert_eq!(&found, model);
    }
    found.sort();
    let mut sorted = model.clone();
    sorted.sort();
    assert_eq!(found, sorted);
    for (field, value) in model {
        assert!(hash.contains(field));
        assert!(hash.get(field).unwrap().eq_bytes(value));
    }
    let mut scanned = BTreeMap::new();
    let mut cursor = 0;
    loop {
        cursor = hash.scan(cursor, 3, |field, value| {
            scanned.insert(field.to_vec(), value.to_vec());
        });
        if cursor == 0 {
            break;
        }
    }
    assert!(scanned.into_iter().eq(sorted));
    match hash.random(model.len() as u64 * 7) {
        Some((field, value)) => {
            assert!(hash.get(&field.to_vec()).unwrap().eq_bytes(&value.to_vec()))
        }
        None => assert!(model.is_empty()),
    }
}

fn small(entries: usize, value_bytes: usize) -> Limits {
    Limits { hash_entries_max: entries, hash_value_bytes_max: value_bytes, ..Limits::default() }
}

#[test]
fn owner_is_small() {
    assert!(size_of::<Hash>() <= 16);
}

/// What Valkey 9.1.2 says of a hash after some fields were set one by one: limits, fields, form.
#[test]
fn form_follows_the_limits() {
    let x = |len: usize| "x".repeat(len);
    let table: &[Facts<'_>] = &[
        (Limits::default(), &[("a".into(), x(64))], "listpack"),
        (Limits::default(), &[("a".into(), x(65))], "hashtable"),
        (Limits::default(), &[(x(64), "a".into())], "listpack"),
        (Limits::default(), &[(x(65), "a".into())], "hashtable"),
        (Limits::default(), &[("a".into(), "b".into()), ("a".into(), x(65))], "hashtable"),
        (small(0, 64), &[("a".into(), "b".into())], "hashtable"),
        (small(2, 64), &[("1".into(), "1".into()), ("2".into(), "1".into())], "listpack"),
        (small(1, 64), &[("1".into(), "1".into()), ("2".into(), "1".into())], "hashtable"),
        (small(1, 64), &[("1".into(), "1".into()), ("1".into(), "2".into())], "listpack"),
        (small(2, 3), &[("1".into(), "123".into())], "listpack"),
        (small(2, 3), &[("1".into(), "1234".into())], "hashtable"),
    ];
    for (limits, fields, form) in table {
        let mut hash = Hash::new();
        for (field, value) in *fields {
            hash.set(field.as_bytes(), value.as_bytes(), limits);
        }
        assert_eq!(hash.encoding(), *form, "{limits:?} {fields:?}");
    }
}

#[test]
fn table_stays_a_table() {
    let limits = small(2, 64);
    let mut hash = Hash::new();
    for n in 0..3u8 {
        hash.set(&[b'a' + n], b"1", &limits);
    }
    assert_eq!(hash.encoding(), "hashtable");
    for n in 0..2u8 {
        hash.remove(&[b'a' + n]);
    }
    assert_eq!((hash.encoding(), hash.len()), ("hashtable", 1));
    // HSET k a 1 a 2 a 3: one field, but three were announced.
    let mut hash = Hash::new();
    hash.reserve(2, &limits);
    assert_eq!(hash.encoding(), "listpack");
    hash.reserve(3, &limits);
    assert_eq!(hash.encoding(), "hashtable");
}

#[test]
fn memory_is_counted_exactly_through_changes() {
    let limits = small(0, 64);
    let (mut hash, mut fresh) = (Hash::new(), Hash::new());
    for n in 0..1000u32 {
        hash.set(&n.to_le_bytes(), &vec![b'x'; n as usize], &limits);
        hash.set(&n.to_le_bytes(), b"short", &limits);
        fresh.set(&n.to_le_bytes(), b"short", &limits);
    }
    assert_eq!(hash.memory_bytes(), fresh.memory_bytes());
    assert!(hash.memory_bytes() > 1000 * (3 + 4 + 5));
    assert_eq!(hash.clone().memory_bytes(), hash.memory_bytes());
}

/// Random picks after which each of up to 60 members must have come up; Miri has no time for so many.
const PICKS: u64 = if cfg!(miri) { 20 } else { 2000 };

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn matches_map(
        all_limits in prop::collection::vec(limits(), 1..3),
        steps in prop::collection::vec((0..8u8, element(), element()), 1..60),
    ) {
        let mut hash = Hash::new();
        let mut model = Model::new();
        for (i, (step, field, value)) in steps.into_iter().enumerate() {
            let limits = &all_limits[i / 7 % all_limits.len()];
            let known = model.iter().position(|(known, _)| *known == field);
            match step {
                0..5 => {
                    let old = hash.set(&field, &value, limits);
                    match known {
                        Some(known) => prop_assert_eq!(old, Some(std::mem::replace(&mut model[known].1, value))),
                        None => {
                            prop_assert_eq!(old, None);
                            model.push((field, value));
                        }
                    }
                }
                5 | 6 => {
                    prop_assert_eq!(hash.contains(&field), known.is_some());
                    prop_assert_eq!(hash.remove(&field), known.map(|known| model.remove(known).1));
                    prop_assert!(hash.get(&field).is_none());
                }
                _ => check(&hash.clone(), &model),
            }
        }
        check(&hash, &model);
        // Every field can be picked.
        let picked: BTreeSet<_> = (0..PICKS)
            .filter_map(|n| hash.random(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8))
            .map(|(field, _)| field.to_vec())
            .collect();
        prop_assert!(PICKS < 2000 || picked.len() == model.len());
        while !hash.free_some(3) {}
        check(&hash, &Model::new());
    }
}
