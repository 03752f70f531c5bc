//! The list against a plain deque, with small limits so that both forms are met.

use super::{End, List};
use crate::testing::{cases, element, limits};
use crate::{Limits, Str};
use proptest::prelude::*;
use std::collections::VecDeque;

fn texts<'a>(elements: impl Iterator<Item = Str<'a>>) -> Vec<Vec<u8>> {
    elements.map(|element| element.to_vec()).collect()
}

fn check(list: &List, model: &VecDeque<Vec<u8>>) {
    assert_eq!(list.len(), model.len());
    assert_eq!(texts(list.iter()), Vec::from(model.clone()));
    assert_eq!(texts(list.iter_rev()), model.iter().rev().cloned().collect::<Vec<_>>());
    for i in 0..=model.len() {
        assert_eq!(list.get(i).map(|element| element.to_vec()).as_ref(), model.get(i));
        assert_eq!(texts(list.iter_from(i)), model.iter().skip(i).cloned().collect::<Vec<_>>());
        let towards_front = model.iter().take(i + 1).rev().cloned().collect::<Vec<_>>();
        assert_eq!(texts(list.iter_rev_from(i)), if i < model.len() { towards_front } else { Vec::new() });
    }
}

fn chunked(list_chunk: i64) -> Limits {
    Limits { list_chunk, ..Limits::default() }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    range.map(|n| n.to_string().into_bytes()).collect()
}

fn push_all(list: &mut List, elements: &[Vec<u8>], limits: &Limits) {
    list.push_all(End::Back, elements.iter().map(Vec::as_slice), limits);
}

#[test]
fn owner_is_small() {
    assert!(size_of::<List>() <= 16);
}

/// What Valkey 9.1.2 does with a list of equal elements: how many make it a quicklist (pushed one by one); how many are
/// left when it becomes a listpack again, popping from the back, and from the front; and the latter for five times as many.
#[test]
fn forms_change_where_redis_changes_them() {
    #[rustfmt::skip]
    let table = [
        // chunk, element's bytes, quicklist at, back by RPOP, back by LPOP, back by LPOP from 5 times as many
        (-1, 1, 1364, 680, 1, 13), (-1, 7, 455, 226, 1, 9), (-1, 100, 40, 19, 1, 5), (-1, 1000, 5, 2, 1, 1),
        (-1, 3000, 2, 0, 0, 0), (-1, 5000, 1, 0, 0, 0),
        (-2, 1, 2730, 1363, 1, 17), (-2, 7, 910, 454, 1, 9), (-2, 100, 80, 39, 1, 5), (-2, 1000, 9, 4, 1, 4),
        (-2, 3000, 3, 1, 1, 1), (-2, 5000, 2, 0, 0, 0),
        (-3, 1, 5460, 2728, 1, 13), (-3, 7, 1820, 909, 1, 5), (-3, 100, 160, 79, 1, 9), (-3, 1000, 17, 8, 1, 5),
        (-3, 3000, 6, 2, 1, 2), (-3, 5000, 4, 1, 1, 1),
        (0, 1, 2, 0, 0, 0), (1, 1, 2, 0, 0, 0), (1, 5000, 2, 0, 0, 0),
        (2, 1, 3, 1, 1, 1), (2, 3000, 3, 1, 1, 1), (2, 5000, 2, 1, 1, 1),
        (3, 1, 4, 1, 1, 1), (3, 3000, 3, 1, 1, 1), (4, 1, 5, 2, 1, 1), (4, 3000, 3, 2, 1, 1), (4, 5000, 2, 1, 1, 1),
        (5, 1, 6, 2, 1, 2), (5, 3000, 3, 2, 1, 1),
        (128, 1, 129, 64, 1, 5), (128, 100, 80, 64, 1, 5), (128, 1000, 9, 8, 1, 5), (128, 5000, 2, 1, 1, 1),
    ];
    for (list_chunk, len, quicklist_at, by_rpop, by_lpop, by_lpop_of_5) in table {
        let limits = chunked(list_chunk);
        let element = vec![b'x'; len];
        let filled = |n: usize| {
            let mut list = List::new();
            (0..n).for_each(|_| list.push(End::Back, &element, &limits));
            list
        };
        let popped_until_packed = |mut list: List, end: End| {
            while list.encoding() == "quicklist" && list.pop(end, &limits).is_some() {}
            list.len()
        };
        let name = format!("chunk {list_chunk}, element of {len}");
        assert_eq!(filled(quicklist_at - 1).encoding(), "listpack", "{name}");
        assert_eq!(filled(quicklist_at).encoding(), "quicklist", "{name}");
        assert_eq!(popped_until_packed(filled(quicklist_at), End::Back), by_rpop, "{name}");
        assert_eq!(popped_until_packed(filled(quicklist_at), End::Front), by_lpop, "{name}");
        assert_eq!(popped_until_packed(filled(5 * quicklist_at), End::Front), by_lpop_of_5, "{name}");
    }
}

/// The same oracle's forms after single commands.
#[test]
fn forms_after_commands() {
    let x = |len: usize| vec![b'x'; len];
    let list_of = |elements: &[Vec<u8>], limits: &Limits| {
        let mut list = List::new();
        push_all(&mut list, elements, limits);
        list
    };
    let limits = chunked(-2);
    // One command with many elements counts their text only, not their heads.
    let mut list = list_of(&vec![b"a".to_vec(); 4000], &limits);
    assert_eq!(list.encoding(), "listpack");
    list.push(End::Back, b"a", &limits);
    assert_eq!(list.encoding(), "quicklist");
    assert_eq!(list_of(&[x(8185)], &limits).encoding(), "listpack");
    assert_eq!(list_of(&[x(8186)], &limits).encoding(), "quicklist");

    let limits = chunked(4);
    let mut list = list_of(&numbers(1..6), &limits);
    list.remove_range(2, 3, &limits);
    assert_eq!(list.encoding(), "listpack", "LTRIM 0 1");
    let mut list = list_of(&numbers(1..6), &limits);
    list.remove_range(0, 2, &limits);
    list.remove_range(0, 1, &limits);
    assert_eq!(list.encoding(), "quicklist", "LTRIM to two chunks of one element");
    list.remove_range(0, 1, &limits);
    assert_eq!(list.encoding(), "listpack");
    let mut list = list_of(&numbers(1..5), &limits);
    list.insert(0, b"0", &limits);
    assert_eq!(list.encoding(), "quicklist", "LINSERT of a fifth");
    let mut list = list_of(&[x(9000), b"1".to_vec()], &limits);
    assert_eq!(list.encoding(), "quicklist");
    list.pop(End::Front, &limits);
    assert_eq!(list.encoding(), "listpack");
    let mut list = list_of(&[x(9000), b"1".to_vec()], &chunked(128));
    list.pop(End::Back, &chunked(128));
    assert_eq!(list.encoding(), "quicklist", "an oversized element keeps its chunk");

    let limits = chunked(-1);
    let mut list = list_of(&numbers(1..4), &limits);
    list.set(1, &x(5000), &limits);
    assert_eq!(list.encoding(), "quicklist");
    list.set(1, b"x", &limits);
    assert_eq!(list.encoding(), "quicklist", "LSET leaves three chunks");
    let mut list = list_of(&numbers(1..2), &limits);
    list.set(0, &x(5000), &limits);
    assert_eq!(list.encoding(), "quicklist");
    list.set(0, b"x", &limits);
    assert_eq!(list.encoding(), "listpack");
    for (len, form) in [(1070, "listpack"), (2000, "quicklist")] {
        let mut list = list_of(&[x(1000), x(1000), x(1000)], &limits);
        list.set(1, &x(len), &limits);
        assert_eq!(list.encoding(), form, "LSET of {len} bytes");
    }
}

#[test]
fn frees_in_pieces() {
    let limits = chunked(-1);
    let mut list = List::new();
    push_all(&mut list, &numbers(0..100_000), &limits);
    let mut pieces = 0;
    while !list.free_some(1000) {
        pieces += 1;
        assert_eq!(list.len(), list.iter().count());
    }
    assert!(list.is_empty() && pieces > 20 && pieces < 100, "{pieces}");
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn matches_deque(
        all_limits in prop::collection::vec(limits(), 1..3),
        steps in prop::collection::vec((0..10u8, any::<u16>(), 0..12usize, element()), 1..60),
    ) {
        let mut list = List::new();
        let mut model = VecDeque::new();
        for (i, (step, at, count, new)) in steps.into_iter().enumerate() {
            // Two settings in turn: CONFIG SET between the commands.
            let limits = &all_limits[i / 7 % all_limits.len()];
            let at = at as usize % (model.len() + 1);
            match step {
                0 => {
                    list.push(End::Back, &new, limits);
                    model.push_back(new);
                }
                1 => {
                    list.push(End::Front, &new, limits);
                    model.push_front(new);
                }
                2 => {
                    let many = vec![new; count];
                    push_all(&mut list, &many, limits);
                    model.extend(many);
                }
                3 | 4 => {
                    list.insert(at, &new, limits);
                    model.insert(at, new);
                }
                5 if at < model.len() => {
                    let old = list.set(at, &new, limits);
                    prop_assert_eq!(old, std::mem::replace(&mut model[at], new));
                }
                6 if at < model.len() => prop_assert_eq!(Some(list.remove(at, limits)), model.remove(at)),
                7 => {
                    list.remove_range(at, count, limits);
                    model.drain(at..(at + count).min(model.len()));
                }
                8 => {
                    prop_assert_eq!(list.pop(End::Front, limits), model.pop_front());
                    prop_assert_eq!(list.pop(End::Back, limits), model.pop_back());
                }
                _ => check(&list.clone(), &model),
            }
            prop_assert_eq!(list.len(), model.len());
        }
        check(&list, &model);
        while !list.free_some(3) {}
        check(&list, &VecDeque::new());
    }
}
