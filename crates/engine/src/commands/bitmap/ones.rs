//! How many bits are set in a long string.

/// Words that are added up side by side, so that the compiler uses the processor's vectors.
type Lanes = [u64; 4];

const LANES_BYTES: usize = size_of::<Lanes>();
/// Lanes of a block.
const BLOCK: usize = 8;

/// The number of bits that are set in `bytes`: with the vectors of the processor, if it has them.
pub(super) fn ones(bytes: &[u8]) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512vpopcntdq") && is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has what the function is made for.
            return unsafe { ones_by_instruction(bytes) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: likewise.
            return unsafe { ones_in_wide_vectors(bytes) };
        }
    }
    ones_by_adders(bytes)
}

/// Word by word, which the compiler makes vectors of: there is an instruction that counts in each of eight words.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
fn ones_by_instruction(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    let count = |word: &[u8; 8]| u64::from(u64::from_ne_bytes(*word).count_ones());
    let rest: usize = rest.iter().map(|byte| byte.count_ones() as usize).sum();
    words.iter().map(count).sum::<u64>() as usize + rest
}

/// [`ones_by_adders`], four words at once.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn ones_in_wide_vectors(bytes: &[u8]) -> usize {
    ones_by_adders(bytes)
}

/// The same on any processor.
///
/// Harley and Seal's way: carry-save adders add up the bits of a block, and only what they carry out, an eighth of the words,
/// is counted. Twice as fast as counting word by word where the processor's own instruction may not be taken for granted.
#[inline(always)]
fn ones_by_adders(bytes: &[u8]) -> usize {
    let (blocks, rest) = bytes.as_chunks::<{ LANES_BYTES * BLOCK }>();
    let (mut ones, mut twos, mut fours) = ([0; 4], [0; 4], [0; 4]);
    let mut eights = 0;
    for block in blocks {
        let at = |index: usize| lanes(&block[index * LANES_BYTES..][..LANES_BYTES]);
        let mut add_four = |first: usize| {
            let (sum, carry) = add(ones, at(first), at(first + 1));
            let (sum, other) = add(sum, at(first + 2), at(first + 3));
            ones = sum;
            let (sum, carry) = add(twos, carry, other);
            twos = sum;
            carry
        };
        let (low, high) = (add_four(0), add_four(4));
        let (sum, carry) = add(fours, low, high);
        fours = sum;
        eights += count(carry);
    }
    let rest: usize = rest.iter().map(|byte| byte.count_ones() as usize).sum();
    eights * 8 + count(fours) * 4 + count(twos) * 2 + count(ones) + rest
}

/// Words of `LANES_BYTES` bytes.
#[inline(always)]
fn lanes(bytes: &[u8]) -> Lanes {
    let mut lanes = [0; 4];
    for (lane, word) in lanes.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *lane = u64::from_ne_bytes(*word);
    }
    lanes
}

/// Adds three bits at each place: the sums, and what is carried.
#[inline(always)]
fn add(a: Lanes, b: Lanes, c: Lanes) -> (Lanes, Lanes) {
    let (mut sums, mut carries) = ([0; 4], [0; 4]);
    for lane in 0..4 {
        let half = a[lane] ^ b[lane];
        sums[lane] = half ^ c[lane];
        carries[lane] = a[lane] & b[lane] | half & c[lane];
    }
    (sums, carries)
}

#[inline(always)]
fn count(lanes: Lanes) -> usize {
    lanes.iter().map(|word| word.count_ones() as usize).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_counted_as_bit_by_bit() {
        let bytes: Vec<u8> = (0..5_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 23) as u8).collect();
        for len in (0..1_100).chain([4_999, 5_000]) {
            let slowly = bytes[..len].iter().map(|byte| byte.count_ones() as usize).sum::<usize>();
            assert_eq!(ones(&bytes[..len]), slowly, "{len} bytes");
            assert_eq!(ones_by_adders(&bytes[..len]), slowly, "{len} bytes");
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has what the function is made for.
                assert_eq!(unsafe { ones_in_wide_vectors(&bytes[..len]) }, slowly, "{len} bytes");
            }
        }
        assert_eq!(ones(&[0xff; 3_000]), 24_000);
    }
}
