//! The compact form of a score: an integer of few bytes, an `f32`, or the `f64`, whatever is shortest and exact.

const INT_WIDTH_MAX: u8 = 7;
const F32: u8 = 8;
const F64: u8 = 9;

/// A score as it is stored.
#[derive(Clone, Copy)]
pub(super) struct Compact {
    /// How `bytes` is to be read: 1 to 7 an integer of so many bytes, `F32` or `F64`. Below 16.
    pub(super) form: u8,
    bytes: [u8; 8],
}

impl Compact {
    pub(super) fn new(score: f64) -> Compact {
        let int = score as i64;
        // Negative zero is no integer.
        let is_int = int as f64 == score && (int != 0 || score.is_sign_positive());
        let width = if is_int { int_width(int) as u8 } else { u8::MAX };
        let short = score as f32;
        if width > 4 && f64::from(short) == score {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&short.to_le_bytes());
            return Compact { form: F32, bytes };
        }
        if width <= INT_WIDTH_MAX {
            return Compact { form: width, bytes: int.to_le_bytes() };
        }
        Compact { form: F64, bytes: score.to_le_bytes() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..width(self.form)]
    }
}

/// How many bytes a score of this form takes.
#[inline]
pub(super) fn width(form: u8) -> usize {
    match form {
        // 4 bytes and 8.
        F32 | F64 => 4 << (form - F32),
        int_width => int_width as usize,
    }
}

/// The score of this form that begins at a place of a block that goes on behind it, perhaps.
#[inline(always)]
pub(super) fn read_at(form: u8, block: &[u8], at: usize) -> f64 {
    match form {
        F32 => f64::from(f32::from_bits(read_int_at(block, at, 4) as u32)),
        F64 => f64::from_bits(read_int_at(block, at, 8) as u64),
        _ => read_int_at(block, at, form as usize) as f64,
    }
}

/// The integer of one to eight bytes at a place of a block: mostly in one load, of which the rest is shifted out.
#[inline(always)]
pub(super) fn read_int_at(block: &[u8], at: usize, width: usize) -> i64 {
    let unused = (64 - 8 * width as u32) & 63;
    match block.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(chunk) => i64::from_le_bytes(*chunk) << unused >> unused,
        None => read_int(&block[at..at + width]),
    }
}

/// The score whose form and bytes these are.
#[inline]
pub(super) fn read(form: u8, bytes: &[u8]) -> f64 {
    match form {
        F32 => f64::from(f32::from_bits(read_int(bytes) as u32)),
        F64 => f64::from_bits(read_int(bytes) as u64),
        _ => read_int(bytes) as f64,
    }
}

/// The little-endian, sign-extended integer of one to eight bytes.
#[inline]
pub(super) fn read_int(bytes: &[u8]) -> i64 {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let unused = 64 - 8 * bytes.len() as u32;
    i64::from_le_bytes(wide) << unused >> unused
}

/// The fewest bytes from which `read_int` restores `n`: 1 to 8.
pub(super) fn int_width(n: i64) -> usize {
    let sign_bits = if n < 0 { n.leading_ones() } else { n.leading_zeros() };
    (65 - sign_bits as usize).div_ceil(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_score_comes_back_from_the_shortest_form() {
        for (score, bytes) in [
            (0.0, 1),
            (-0.0, 4),
            (1.0, 1),
            (-128.0, 1),
            (128.0, 2),
            (-32769.0, 3),
            (1.5, 4),
            (0.1, 8),
            (1.7e9, 4),
            (2147483647.0, 4),
            (3000000001.0, 5),
            (1_763_799_118_123.0, 6),
            (9_007_199_254_740_991.0, 7),
            (9_007_199_254_740_992.0, 4),
            (f64::INFINITY, 4),
            (f64::NEG_INFINITY, 4),
            (f64::MAX, 8),
            (f64::MIN_POSITIVE, 8),
            (i64::MIN as f64, 4),
            (i64::MAX as f64, 4),
        ] {
            let compact = Compact::new(score);
            assert_eq!(read(compact.form, compact.bytes()).to_bits(), f64::to_bits(score), "{score}");
            assert_eq!(compact.bytes().len(), bytes, "{score}");
            assert!(compact.form < 16);
        }
    }
}
