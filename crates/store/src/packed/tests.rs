//! The packed sequence against a plain vector.

use super::Packed;
use crate::Str;
use crate::testing::{cases, element};
use proptest::prelude::*;

fn packed_of(elements: &[Vec<u8>]) -> Packed {
    let mut packed = Packed::new();
    elements.iter().for_each(|element| packed.push_back(Str::Bytes(element)));
    packed
}

fn texts<'a>(elements: impl Iterator<Item = Str<'a>>) -> Vec<Vec<u8>> {
    elements.map(|element| element.to_vec()).collect()
}

/// Checks every way to read `packed` against the model.
fn check(packed: &Packed, model: &[Vec<u8>]) {
    assert_eq!(packed.len(), model.len());
    assert_eq!(packed.is_empty(), model.is_empty());
    assert_eq!(texts(packed.iter()), model);
    assert_eq!(packed.iter().len(), model.len());
    let reversed: Vec<_> = model.iter().rev().cloned().collect();
    assert_eq!(texts(packed.iter_rev()), reversed);
    // A block built anew has the same bytes: nothing depends on how it came about.
    assert_eq!(packed.elements(), packed_of(model).elements());
    let (mut forwards, mut backwards) = (packed.first(), packed.last());
    for i in 0..model.len() {
        let last = model.len() - 1;
        assert!(packed.at(forwards.unwrap()).eq_bytes(&model[i]));
        assert!(packed.at(backwards.unwrap()).eq_bytes(&model[last - i]));
        assert_eq!(packed.seek(i), forwards);
        assert_eq!(packed.seek(last - i), backwards);
        (forwards, backwards) = (packed.next(forwards.unwrap()), packed.prev(backwards.unwrap()));
    }
    assert_eq!((forwards, backwards, packed.seek(model.len())), (None, None, None));
}

#[test]
fn sizes_are_the_listpacks() {
    // Element, bytes it takes; from `MEMORY USAGE` and the published format.
    let x = |len: usize| "x".repeat(len);
    for (element, size) in [
        ("0".to_owned(), 2),
        ("127".to_owned(), 2),
        ("128".to_owned(), 3),
        ("-1".to_owned(), 3),
        ("4095".to_owned(), 3),
        ("-4096".to_owned(), 3),
        ("4096".to_owned(), 4),
        ("-32768".to_owned(), 4),
        ("32768".to_owned(), 5),
        ("-8388608".to_owned(), 5),
        ("8388608".to_owned(), 6),
        ("-2147483648".to_owned(), 6),
        ("2147483648".to_owned(), 10),
        (i64::MIN.to_string(), 10),
        (String::new(), 2),
        (x(63), 65),
        (x(64), 67),
        (x(125), 128),
        (x(126), 130),
        (x(4095), 4099),
        (x(4096), 4103),
        (x(16_377), 16_384),
        (x(16_378), 16_386),
    ] {
        let mut packed = Packed::new();
        packed.push_back(Str::Bytes(element.as_bytes()));
        assert_eq!(packed.elements().len(), size, "{element:.20}");
        assert_eq!(packed.bytes(), size + 7);
        assert!(packed.at(0).eq_bytes(element.as_bytes()));
        assert_eq!(packed.last(), Some(0), "{element:.20}");
    }
}

#[test]
fn sizes_at_the_end_up_to_four_bytes() {
    for len in [2_097_144, 2_097_145, 2_097_146, 2_097_147, 2_097_148, 3_000_000] {
        if cfg!(miri) {
            continue;
        }
        let packed = packed_of(&[b"a".to_vec(), vec![b'x'; len], b"b".to_vec()]);
        assert_eq!(packed.iter_rev().map(|element| element.len()).collect::<Vec<_>>(), [1, len, 1]);
        assert_eq!(packed.iter().map(|element| element.len()).collect::<Vec<_>>(), [1, len, 1]);
    }
}

#[test]
fn integers_and_their_texts_are_one_element() {
    let mut packed = Packed::new();
    packed.push_back(Str::Int(12));
    packed.push_back(Str::Bytes(b"12"));
    assert!(packed.iter().all(|element| matches!(element, Str::Int(12))));
    assert_eq!(packed.find(b"12", 0), Some(0));
    assert_eq!(packed.find(b"012", 0), None);
}

#[test]
fn owner_is_thin() {
    assert_eq!(size_of::<Option<Packed>>(), 8);
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn edits_match_vec(steps in prop::collection::vec((0..9u8, any::<u16>(), 0..5usize, element()), 1..40)) {
        let mut packed = Packed::new();
        let mut model: Vec<Vec<u8>> = Vec::new();
        for (step, at, count, new) in steps {
            let at = at as usize % (model.len() + 1);
            let pos = packed.seek(at).unwrap_or(packed.end());
            match step {
                0 => {
                    packed.push_back(Str::Bytes(&new));
                    model.push(new);
                }
                1 => {
                    packed.push_front(Str::Bytes(&new));
                    model.insert(0, new);
                }
                2 | 3 => {
                    packed.insert(pos, Str::Bytes(&new));
                    model.insert(at, new);
                }
                4 if at < model.len() => {
                    packed.replace(pos, Str::Bytes(&new));
                    model[at] = new;
                }
                5 if at < model.len() => {
                    packed.remove(pos);
                    model.remove(at);
                }
                6 => {
                    let removed = packed.remove_range(pos, count);
                    prop_assert_eq!(removed, model.splice(at..(at + count).min(model.len()), []).count());
                }
                7 => {
                    let back = packed.split_off(pos);
                    let model_back = model.split_off(at);
                    check(&packed, &model);
                    check(&back, &model_back);
                    // Put together the other way round.
                    let mut joined = back.clone();
                    joined.append(&packed);
                    packed = joined;
                    model.splice(0..0, model_back);
                }
                _ => check(&packed.clone(), &model),
            }
        }
        check(&packed, &model);
    }

    #[test]
    fn find_and_ranges_match_vec(model in prop::collection::vec(element(), 0..30), needle in element(), skip in 0..3usize) {
        // Whole groups only, as in a block of pairs.
        let model = &model[..model.len() / (skip + 1) * (skip + 1)];
        let packed = packed_of(model);
        for needle in model.iter().chain([&needle]) {
            let index = model.iter().step_by(skip + 1).position(|element| element == needle).map(|i| i * (skip + 1));
            prop_assert_eq!(packed.find(needle, skip), index.and_then(|index| packed.seek(index)));
        }
        for from in 0..=model.len() + 1 {
            prop_assert_eq!(texts(packed.iter_from(from)), model.get(from..).unwrap_or_default());
            let mut reversed = model.get(..=from).unwrap_or_default().to_vec();
            reversed.reverse();
            prop_assert_eq!(texts(packed.iter_rev_from(from)), reversed);
        }
    }
}
