//! The set against a plain set, with small limits so that every form is met.

use super::Set;
use crate::Limits;
use crate::Str;
use crate::testing::{cases, element, limits};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn check(set: &Set, model: &BTreeSet<Vec<u8>>) {
    assert_eq!(set.len(), model.len());
    let members: Vec<_> = set.iter().map(|member| member.to_vec()).collect();
    assert_eq!(members.len(), model.len());
    assert_eq!(&members.iter().cloned().collect::<BTreeSet<_>>(), model);
    if set.encoding() == "intset" {
        assert!(set.iter().is_sorted_by_key(|member| int(&member.to_vec())));
    }
    for member in model {
        assert!(set.contains(member));
    }
    let mut scanned = BTreeSet::new();
    let mut cursor = 0;
    loop {
        cursor = set.scan(cursor, 3, |member| {
            scanned.insert(member.to_vec());
        });
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(&scanned, model);
    match set.random(model.len() as u64 * 7) {
        Some(member) => assert!(model.contains(&member.to_vec())),
        None => assert!(model.is_empty()),
    }
}

fn int(text: &[u8]) -> i64 {
    std::str::from_utf8(text).unwrap().parse().unwrap()
}

fn small(ints: usize, entries: usize, value_bytes: usize) -> Limits {
    Limits {
        set_int_entries_max: ints,
        set_entries_max: entries,
        set_value_bytes_max: value_bytes,
        ..Limits::default()
    }
}

fn texts(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn owner_is_small() {
    assert!(size_of::<Set>() <= 16);
}

/// What Valkey 9.1.2 says of a set after members were added one by one: limits, members, form.
#[test]
fn form_follows_the_limits() {
    let default = Limits::default();
    let with = |mut members: Vec<String>, last: &str| {
        members.push(last.to_owned());
        members
    };
    let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let x = |len: usize| "x".repeat(len);
    let strings = |count: usize| (0..count).map(|n| format!("a{n}")).collect::<Vec<_>>();
    for (limits, members, form) in [
        (default, texts(0..512), "intset"),
        (default, texts(0..513), "hashtable"),
        (default, words("1 2 a"), "listpack"),
        (default, with(texts(0..127), "a"), "listpack"),
        (default, with(texts(0..128), "a"), "hashtable"),
        (default, with(words("1"), &x(64)), "listpack"),
        (default, with(words("1"), &x(65)), "hashtable"),
        (default, strings(128), "listpack"),
        (default, strings(129), "hashtable"),
        (small(0, 128, 64), words("1"), "listpack"),
        (small(3, 128, 64), words("1 2 3"), "intset"),
        (small(3, 128, 64), words("1 2 3 4"), "hashtable"),
        (small(2, 2, 64), words("a b"), "listpack"),
        (small(2, 2, 64), words("a b c"), "hashtable"),
        (small(2, 2, 64), words("1 2 3"), "hashtable"),
        (small(2, 2, 64), words("1 a 3"), "hashtable"),
        (small(2, 0, 64), words("a"), "hashtable"),
        (small(0, 0, 64), words("1"), "hashtable"),
        (small(512, 128, 3), words("1 1234"), "intset"),
        (small(512, 128, 3), words("1 1234 a"), "hashtable"),
        (small(512, 128, 3), words("1234 a"), "hashtable"),
        (small(512, 128, 3), words("abcd"), "hashtable"),
        (small(512, 128, 3), words("-123 a"), "hashtable"),
        (small(512, 128, 3), words("a 1234"), "hashtable"),
    ] {
        let mut set = Set::new();
        for member in &members {
            assert!(set.insert(member.as_bytes(), &limits));
        }
        assert_eq!(set.encoding(), form, "{limits:?}, {} members: {:?}", members.len(), members.last());
    }
}

/// The same oracle's forms after SADD of several members at once, which count even if they are equal.
#[test]
fn form_follows_the_announced_count() {
    let (narrow, wide) = (small(5, 3, 64), small(5, 9, 64));
    for (limits, before, members, form) in [
        (narrow, "", "a a a a", "hashtable"),
        (narrow, "a", "a a a a", "hashtable"),
        (narrow, "", "1 1 1 1 1 1", "hashtable"),
        (narrow, "1", "1 1 1 1 1 1", "hashtable"),
        (wide, "", "1 1 1 1 1 1", "listpack"),
        (wide, "1", "1 1 1 1 1 1", "hashtable"),
        (wide, "", "a 1 1 1 1 1", "listpack"),
        (wide, "", "1 2 3 a", "listpack"),
        (small(3, 128, 64), "", "1 2 3 4", "listpack"),
    ] {
        let mut set = Set::new();
        for members in [before, members] {
            let members: Vec<_> = members.split_whitespace().map(str::as_bytes).collect();
            if let Some(first) = members.first() {
                set.reserve(first, members.len(), &limits);
            }
            for member in members {
                set.insert(member, &limits);
            }
        }
        assert_eq!(set.encoding(), form, "{limits:?} {before} {members}");
    }
}

#[test]
fn forms_do_not_go_back() {
    let mut set = Set::new();
    set.insert(b"a", &Limits::default());
    set.insert(b"1", &Limits::default());
    set.remove(b"a");
    assert_eq!(set.encoding(), "listpack");
}

#[test]
fn integers_of_every_width_stay_sorted() {
    let mut set = Set::new();
    let mut numbers = vec![0i64, 1, -1];
    for shift in 1..64 {
        let power = 1i64.wrapping_shl(shift);
        numbers.extend([power, power.wrapping_sub(1), power.wrapping_neg(), power.wrapping_neg().wrapping_sub(1)]);
    }
    for n in &numbers {
        set.insert(n.to_string().as_bytes(), &Limits::default());
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(set.encoding(), "intset");
    assert_eq!(set.iter().map(|member| int(&member.to_vec())).collect::<Vec<_>>(), numbers);
    for n in numbers {
        assert!(set.remove(n.to_string().as_bytes()));
        assert!(!set.contains(n.to_string().as_bytes()));
    }
    assert!(set.is_empty());
}

/// Random picks after which each of up to 60 members must have come up; Miri has no time for so many.
const PICKS: u64 = if cfg!(miri) { 20 } else { 2000 };

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn matches_set(
        all_limits in prop::collection::vec(limits(), 1..3),
        only_ints in any::<bool>(),
        steps in prop::collection::vec((0..8u8, element(), 0..64u32, any::<i64>()), 1..60),
    ) {
        let mut set = Set::new();
        let mut model = BTreeSet::new();
        for (i, (step, member, shift, n)) in steps.into_iter().enumerate() {
            let limits = &all_limits[i / 7 % all_limits.len()];
            let member = if only_ints { (n >> shift).to_string().into_bytes() } else { member };
            match step {
                0..5 => {
                    if step == 0 {
                        set.reserve(&member, shift as usize, limits);
                    }
                    prop_assert_eq!(set.insert(&member, limits), model.insert(member));
                }
                5 | 6 => {
                    prop_assert_eq!(set.contains(&member), model.contains(&member));
                    prop_assert_eq!(set.remove(&member), model.remove(&member));
                    prop_assert!(!set.contains(&member));
                }
                _ => check(&set.clone(), &model),
            }
        }
        check(&set, &model);
        let mut asked: Vec<Vec<u8>> = (0..40).map(|n: i32| (n * n).to_string().into_bytes()).collect();
        asked.extend(model.iter().cloned());
        let mut common = asked.iter().map(|member| Str::Bytes(member)).collect();
        set.retain_common(&mut common);
        let common: Vec<_> = common.iter().map(Str::to_vec).collect();
        asked.retain(|member| model.contains(member));
        prop_assert_eq!(common, asked);
        // Every member can be picked.
        let picked: BTreeSet<_> = (0..PICKS)
            .filter_map(|n| set.random(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8))
            .map(|member| member.to_vec())
            .collect();
        prop_assert!(PICKS < 2000 || picked == model);
        while !set.free_some(3) {}
        check(&set, &BTreeSet::new());
    }
}
