//! CRC-32C (Castagnoli), for texts that are mostly short: a record of the log has some hundred bytes, and a sum that begins with
//! a search for aligned words takes longer over those than over the words.

/// The sum of some bytes.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c_append(0, bytes)
}

/// The sum of some bytes behind others, whose sum is `crc`.
#[inline]
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    /// From here on summing up three places at once pays.
    #[cfg(target_arch = "x86_64")]
    const LONG: usize = 512;
    #[cfg(target_arch = "x86_64")]
    if bytes.len() < LONG && std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has been asked for the one feature that the function needs.
        return unsafe { short(crc, bytes) };
    }
    ::crc32c::crc32c_append(crc, bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
fn short(crc: u32, bytes: &[u8]) -> u32 {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u64};
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(u64::from(!crc), |sum, word| _mm_crc32_u64(sum, u64::from_le_bytes(*word)));
    // The upper half is zero: the instruction leaves 32 bits.
    !rest.iter().fold(sum as u32, |sum, byte| _mm_crc32_u8(sum, *byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_standard() {
        // The check value of the catalogue of CRCs, and one of RFC 3720.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn short_and_long_sums_agree() {
        let bytes: Vec<u8> = (0..2_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for len in 0..600 {
            for start in 0..9 {
                let text = &bytes[start..start + len];
                assert_eq!(crc32c(text), ::crc32c::crc32c(text), "{start}, {len}");
                let (head, tail) = text.split_at(len / 3);
                assert_eq!(crc32c_append(crc32c(head), tail), crc32c(text), "{start}, {len}");
            }
        }
    }
}
