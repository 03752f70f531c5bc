//! LZF, the compression of strings in RDB files (format: Marc Lehmann's LibLZF; the code is our own).
//!
//! | control byte | means |
//! |---|---|
//! | `000nnnnn` | `n + 1` literal bytes follow |
//! | `lllddddd` +1 | copy `l + 2` bytes from `d + 1` back; `d` has 13 bits, its low ones in the byte that follows |
//! | `111ddddd` +2 | the same with a longer copy: `l` is 7 plus the byte that follows, then come the low bits of `d` |

/// The longest run of literals.
const LITERALS_MAX: usize = 32;
/// The longest copy, and how far back it reaches.
const COPY_MAX: usize = 264;
const DISTANCE_MAX: usize = 1 << 13;
/// Bytes that a copy must save to be worth it.
const COPY_MIN: usize = 3;
/// Three bytes of input become at most `COPY_MAX` of output.
const EXPANSION_MAX: usize = COPY_MAX / 3 + 1;

/// Appends the compressed form of `input` to `out` if that is shorter than `input` by at least 4 bytes, as Redis asks for.
/// Whether it was; if not, `out` is as before. O(n).
pub fn compress(input: &[u8], out: &mut Vec<u8>) -> bool {
    // To clear a large table takes longer than to compress a short text.
    match input.len() {
        0..=64 => compress_with::<7, 128>(input, out),
        65..=1024 => compress_with::<10, 1024>(input, out),
        _ => compress_with::<13, 8192>(input, out),
    }
}

/// Compresses with a table of `SLOTS`, which is two to the power of `HASH_BITS`: places of three-byte sequences, by hash.
fn compress_with<const HASH_BITS: u32, const SLOTS: usize>(input: &[u8], out: &mut Vec<u8>) -> bool {
    const { assert!(SLOTS == 1 << HASH_BITS) };
    // Places are kept in 32 bits.
    if input.len() <= 4 || u32::try_from(input.len()).is_err() {
        return false;
    }
    let start = out.len();
    let room = input.len() - 4;
    // The place behind the last sequence with this hash; 0 for none.
    let mut places = [0u32; SLOTS];
    let (mut at, mut literals) = (0, 0);
    while let Some(&[a, b, c]) = input.get(at..).and_then(<[u8]>::first_chunk::<3>) {
        let key = u32::from_le_bytes([a, b, c, 0]);
        let slot = (key.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize;
        // The slot has `HASH_BITS` bits.
        let before = std::mem::replace(&mut places[slot], at as u32 + 1) as usize;
        let distance = (at + 1).wrapping_sub(before);
        let Some(found) = before.checked_sub(1).filter(|_| distance <= DISTANCE_MAX) else {
            at += 1;
            continue;
        };
        // `found < at`, so both ranges lie in the input.
        let same = input[at..].iter().zip(&input[found..]).take(COPY_MAX).take_while(|(a, b)| a == b).count();
        if same < COPY_MIN {
            at += 1;
            continue;
        }
        put_literals(&input[literals..at], out);
        let (far, long) = (distance - 1, same - 2);
        // Both fit: `far` has 13 bits, `long` is at most 262.
        if long < 7 {
            out.push((long << 5 | far >> 8) as u8);
        } else {
            out.extend([(7 << 5 | far >> 8) as u8, (long - 7) as u8]);
        }
        out.push(far as u8);
        at += same;
        literals = at;
        if out.len() - start > room {
            out.truncate(start);
            return false;
        }
    }
    put_literals(&input[literals..], out);
    let shorter = out.len() - start <= room;
    if !shorter {
        out.truncate(start);
    }
    shorter
}

fn put_literals(literals: &[u8], out: &mut Vec<u8>) {
    for run in literals.chunks(LITERALS_MAX) {
        // A run has at most 32 bytes.
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

/// What `input` is the compressed form of; `None` if it is damaged or not `len` bytes long. Reserves no more memory than
/// `input` can stand for.
pub fn decompress(mut input: &[u8], len: usize) -> Option<Vec<u8>> {
    if len > input.len().saturating_mul(EXPANSION_MAX) {
        return None;
    }
    let mut out = Vec::new();
    // There may be no such memory.
    out.try_reserve_exact(len).ok()?;
    while let Some((&control, rest)) = input.split_first() {
        input = rest;
        let control = usize::from(control);
        if control < LITERALS_MAX {
            out.extend_from_slice(input.split_off(..control + 1)?);
        } else {
            let mut long = control >> 5;
            if long == 7 {
                long += usize::from(*input.split_off_first()?);
            }
            let far = (control & 0x1f) << 8 | usize::from(*input.split_off_first()?);
            copy_back(&mut out, far + 1, long + 2)?;
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

/// Appends `count` bytes that begin `distance` back; they may reach into what is being appended.
fn copy_back(out: &mut Vec<u8>, distance: usize, count: usize) -> Option<()> {
    let from = out.len().checked_sub(distance)?;
    let mut left = count;
    // What is there repeats with the period `distance`, so each round can take all of it.
    while left != 0 {
        let round = left.min(out.len() - from);
        out.extend_from_within(from..from + round);
        left -= round;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(input: &[u8]) -> usize {
        let mut out = b"before".to_vec();
        let shorter = compress(input, &mut out);
        assert_eq!(&out[..6], b"before");
        if shorter {
            assert_eq!(decompress(&out[6..], input.len()).as_deref(), Some(input));
        } else {
            assert_eq!(out.len(), 6);
        }
        out.len() - 6
    }

    #[test]
    fn what_repeats_gets_short() {
        assert!(check(&[b'a'; 10_000]) < 150);
        assert!(check(b"the quick brown fox; the quick brown fox; the quick brown fox") < 35);
        assert_eq!(check(b"abcdefghijklmnopqrstuvwxyz"), 0);
        assert_eq!(check(b""), 0);
        for len in 0..600 {
            check(&vec![0; len]);
        }
    }

    #[test]
    fn far_repeats_are_found_up_to_the_limit() {
        for gap in [8000, DISTANCE_MAX - 40, DISTANCE_MAX, DISTANCE_MAX + 10] {
            let mut text: Vec<u8> = b"some words that come again after a while".to_vec();
            text.extend((0..gap).map(|n: usize| (n.wrapping_mul(2_654_435_761) >> 7) as u8));
            text.extend_from_slice(b"some words that come again after a while");
            check(&text);
        }
    }

    proptest! {
        #[test]
        fn anything_comes_back(input in proptest::collection::vec(0u8..4, 0..2000)) {
            check(&input);
        }

        #[test]
        fn no_input_panics(input in proptest::collection::vec(any::<u8>(), 0..200), len in 0usize..100_000) {
            decompress(&input, len);
        }
    }
}
