//! What the tests of several types share: elements and limits for proptest.

use crate::Limits;
use proptest::prelude::*;

/// Cases of a property test: few under Miri, which is a thousand times slower.
pub fn cases(normal: u32) -> ProptestConfig {
    ProptestConfig::with_cases(if cfg!(miri) { 3 } else { normal })
}

/// An element: integers of every width and near-integers, short strings that repeat, and lengths at the bounds of heads.
pub fn element() -> impl Strategy<Value = Vec<u8>> {
    let text = |n: i64| n.to_string().into_bytes();
    prop_oneof![
        3 => (0..40i64).prop_map(text),
        2 => (0..64u32, any::<i64>()).prop_map(move |(shift, n)| text(n >> shift)),
        2 => prop::sample::select(vec![
            0, 127, 128, -1, 4095, 4096, -4096, -4097, 0x7fff, 0x8000, -0x8000, -0x8001, 0x7f_ffff, 0x80_0000, -0x80_0000,
            -0x80_0001, 0x7fff_ffff, 0x8000_0000, -0x8000_0000, -0x8000_0001, i64::MAX, i64::MIN,
        ]).prop_map(text),
        1 => prop::sample::select(vec!["", "-0", "007", "+1", " 1", "9223372036854775808", "-9223372036854775809", "1.0"])
            .prop_map(|text| text.as_bytes().to_vec()),
        4 => "[a-f]{0,2}".prop_map(String::into_bytes),
        1 => prop::sample::select(lens()).prop_map(|len| vec![b'x'; len]),
        1 => prop::collection::vec(any::<u8>(), 0..100),
    ]
}

/// Limits from tiny, so that types change their form all the time, to the default ones.
pub fn limits() -> impl Strategy<Value = Limits> {
    let count = || prop::sample::select(vec![0usize, 1, 2, 3, 5, 8, 20, 128, 512]);
    let bytes = || prop::sample::select(vec![0usize, 1, 3, 20, 64, 5000, usize::MAX]);
    let chunk = prop::sample::select(vec![-6i64, -5, -3, -2, -1, 0, 1, 2, 3, 4, 7, 128, i64::MAX, i64::MIN]);
    (count(), bytes(), count(), count(), bytes(), chunk).prop_map(
        |(hash, hash_value, ints, set, set_value, list_chunk)| Limits {
            hash_entries_max: hash,
            hash_value_bytes_max: hash_value,
            set_int_entries_max: ints,
            set_entries_max: set,
            set_value_bytes_max: set_value,
            list_chunk,
            ..Limits::default()
        },
    )
}

/// Lengths at the bounds of heads; Miri has no time to hash long elements.
fn lens() -> Vec<usize> {
    let lens = [
        62, 63, 64, 65, 125, 126, 127, 128, 4093, 4094, 4095, 4096, 4097, 8190, 16_376, 16_377, 16_378, 16_379, 16_383,
        16_384, 16_385,
    ];
    lens.into_iter().filter(|&len| !cfg!(miri) || len < 1000).collect()
}
