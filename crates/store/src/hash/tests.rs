//! The hash against a plain map, with small limits so that both forms are met.

use super::Hash;
use crate::Limits;
use crate::testing::{cases, element, limits};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// One line of a table: limits, fields with their values, form.
type Facts<'a> = (Limits, &'a [(String, String)], &'a str);

/// Fields with their values and expiry times, in the order of their coming.
type Model = Vec<(Vec<u8>, Vec<u8>, Option<i64>)>;

fn fields(hash: &Hash) -> Model {
    hash.iter_with_expiry().map(|(field, value, at)| (field.to_vec(), value.to_vec(), at)).collect()
}

fn check(hash: &Hash, model: &Model) {
    assert_eq!(hash.len(), model.len());
    let mut found = fields(hash);
    if hash.encoding() != "hashtable" {
        assert_eq!(&found, model);
    }
    found.sort();
    let mut sorted = model.clone();
    sorted.sort();
    assert_eq!(found, sorted);
    assert_eq!(hash.soonest(), model.iter().filter_map(|(_, _, at)| *at).min());
    for now in [i64::MIN, 0, 3, 7, i64::MAX] {
        let (live, due): (Model, Model) = sorted.iter().cloned().partition(|(_, _, at)| at.is_none_or(|at| at >= now));
        assert_eq!(hash.due_count(now), due.len());
        assert_eq!(hash.is_over(now), live.is_empty());
        let mut named = hash.due_fields(now, usize::MAX);
        named.sort();
        assert!(named.iter().eq(due.iter().map(|(field, ..)| field)));
        assert_eq!(hash.due_fields(now, 2).len(), due.len().min(2));
        check_live(hash, now, &live);
        for (field, ..) in &due {
            assert!(!hash.live(now).contains(field) && hash.contains(field));
        }
    }
}

/// Whether a reader at some time sees these fields, which are sorted.
fn check_live(hash: &Hash, now: i64, model: &Model) {
    let live = hash.live(now);
    assert_eq!(live.len(), model.len());
    for (field, value, at) in model {
        assert!(live.contains(field));
        let (found, found_at) = live.find(field).unwrap();
        assert!(found.eq_bytes(value) && found_at == *at);
    }
    let mut pairs: Vec<_> = live.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect();
    pairs.sort();
    let expected: Vec<_> = model.iter().map(|(field, value, _)| (field.clone(), value.clone())).collect();
    assert_eq!(pairs, expected);
    let mut scanned = BTreeMap::new();
    let mut cursor = 0;
    loop {
        cursor = live.scan(cursor, 3, |field, value| {
            scanned.insert(field.to_vec(), value.to_vec());
        });
        if cursor == 0 {
            break;
        }
    }
    assert!(scanned.into_iter().eq(expected));
    match live.random(model.len() as u64 * 7) {
        Some((field, value)) => assert!(live.get(&field.to_vec()).unwrap().eq_bytes(&value.to_vec())),
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

#[test]
fn expiry_times_change_the_form_for_good() {
    let limits = small(2, 64);
    let mut hash = Hash::new();
    hash.set(b"a", b"1", &limits);
    assert_eq!(hash.set_expiry(b"b", Some(5), &limits), None);
    assert_eq!(hash.encoding(), "listpack");
    assert_eq!(hash.set_expiry(b"a", Some(5), &limits), Some((b"1".to_vec(), None)));
    assert_eq!((hash.encoding(), hash.soonest()), ("listpackex", Some(5)));
    // Setting it clears the time.
    assert_eq!(hash.set(b"a", b"2", &limits), Some((b"1".to_vec(), Some(5))));
    assert_eq!((hash.encoding(), hash.soonest()), ("listpackex", None));
    hash.set_with_expiry(b"b", b"", Some(-1), &limits);
    hash.set_with_expiry(b"c", b"", Some(i64::MAX), &limits);
    assert_eq!((hash.encoding(), hash.soonest()), ("hashtable", Some(-1)));
    assert_eq!(hash.find(b"b").unwrap().1, Some(-1));
    assert_eq!(hash.remove(b"b"), Some((Vec::new(), Some(-1))));
    assert_eq!(hash.soonest(), Some(i64::MAX));
    // A table without times gets them without being copied.
    let mut hash = Hash::new();
    hash.reserve(3, &limits);
    hash.set(b"a", b"1", &limits);
    assert_eq!(hash.set_expiry(b"a", Some(9), &limits), Some((b"1".to_vec(), None)));
    assert_eq!((hash.encoding(), hash.soonest()), ("hashtable", Some(9)));
}

/// An expiry time, or none: few, so that fields share them.
fn time() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![3 => Just(None), 3 => (0..10i64).prop_map(Some), 1 => any::<i64>().prop_map(Some)]
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn matches_map(
        all_limits in prop::collection::vec(limits(), 1..3),
        steps in prop::collection::vec((0..10u8, element(), element(), time()), 1..60),
        timed in any::<bool>(),
    ) {
        let mut hash = Hash::new();
        let mut model = Model::new();
        for (i, (step, field, value, at)) in steps.into_iter().enumerate() {
            let limits = &all_limits[i / 7 % all_limits.len()];
            let known = model.iter().position(|(known, ..)| *known == field);
            let at = at.filter(|_| timed);
            match step {
                0..5 => {
                    let old = hash.set_with_expiry(&field, &value, at, limits);
                    match known {
                        Some(known) => {
                            let (_, was, was_at) = std::mem::replace(&mut model[known], (field, value, at));
                            prop_assert_eq!(old, Some((was, was_at)));
                        }
                        None => {
                            prop_assert_eq!(old, None);
                            model.push((field, value, at));
                        }
                    }
                }
                5 | 6 => {
                    prop_assert_eq!(hash.contains(&field), known.is_some());
                    prop_assert_eq!(hash.remove(&field), known.map(|known| model.remove(known)).map(|was| (was.1, was.2)));
                    prop_assert!(hash.get(&field).is_none());
                }
                7 | 8 => {
                    let old = hash.set_expiry(&field, at, limits);
                    let was = known.map(|known| (model[known].1.clone(), std::mem::replace(&mut model[known].2, at)));
                    prop_assert_eq!(old, was);
                }
                _ => check(&hash.clone(), &model),
            }
            prop_assert!(timed || hash.encoding() != "listpackex");
        }
        check(&hash, &model);
        // Every field can be picked.
        let picked: BTreeSet<_> = (0..PICKS)
            .filter_map(|n| hash.random(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8))
            .map(|(field, ..)| field.to_vec())
            .collect();
        prop_assert!(PICKS < 2000 || picked.len() == model.len());
        while !hash.free_some(3) {}
        check(&hash, &Model::new());
    }
}
