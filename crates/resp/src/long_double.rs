//! The 80-bit extended precision arithmetic of `INCRBYFLOAT` and `HINCRBYFLOAT`.
//!
//! Redis on x86-64 computes these in C's `long double` and writes the result with 17 digits after the point, less
//! trailing zeros. The same bits are computed here on every machine: 64-bit mantissa, round to nearest even.

use crate::number::{hex_float_text, is_zero_decimal, split_sign};
use rustc_apfloat::ieee::X87DoubleExtended;
use rustc_apfloat::{Float, Round};

/// Longest text taken for a number, in bytes; Redis's conversion buffer is one byte longer.
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;
/// Digits after the point in the text.
const FRACTION_DIGITS: usize = 17;
const FRACTION_SCALE: u128 = 10u128.pow(FRACTION_DIGITS as u32);
/// What the exponent field of the format is biased by, counted from the mantissa's last bit.
const EXPONENT_BIAS: i32 = 16_383 + 63;

/// An x87 extended precision number.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct LongDouble(X87DoubleExtended);

impl LongDouble {
    /// Zero.
    pub const ZERO: LongDouble = LongDouble(X87DoubleExtended::ZERO);

    /// The greatest finite number; its negative is the least.
    pub fn greatest() -> LongDouble {
        LongDouble(X87DoubleExtended::largest())
    }

    /// Parses a number by the rules of C's `strtold` for the whole text (see [`crate::parse_f64`]).
    ///
    /// Refused: empty text, blanks, trailing bytes, NaN, 5 KiB and more, and what overflows to infinity or
    /// underflows to zero.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        if let Some(hex) = hex_float_text(text) {
            return LongDouble::read(&hex.text, hex.is_zero);
        }
        let (sign, unsigned) = split_sign(text);
        if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
            let infinity = X87DoubleExtended::INFINITY;
            return Some(LongDouble(if sign == Some(b'-') { -infinity } else { infinity }));
        }
        // `X87DoubleExtended` reads more than C does; it gets to see digits, a point and an exponent only.
        let exponent_at = unsigned.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let (mantissa, exponent) = match exponent_at {
            Some(at) => (&unsigned[..at], &unsigned[at + 1..]),
            None => (unsigned, b"0".as_slice()),
        };
        let digits = mantissa.iter().filter(|byte| byte.is_ascii_digit()).count();
        let points = mantissa.iter().filter(|&&byte| byte == b'.').count();
        let exponent_digits = split_sign(exponent).1;
        let well_formed = digits > 0
            && points <= 1
            && digits + points == mantissa.len()
            && !exponent_digits.is_empty()
            && exponent_digits.iter().all(u8::is_ascii_digit);
        if !well_formed {
            return None;
        }
        LongDouble::read(str::from_utf8(text).ok()?, is_zero_decimal(unsigned))
    }

    /// Reads a finite number, checked to be well-formed.
    fn read(text: &str, is_zero: bool) -> Option<LongDouble> {
        let value = X87DoubleExtended::from_str_r(text, Round::NearestTiesToEven).ok()?.value;
        (value.is_finite() && (!value.is_zero() || is_zero)).then_some(LongDouble(value))
    }

    /// The sum, rounded to nearest even. Overflow gives infinity, `inf + -inf` NaN.
    #[expect(clippy::should_implement_trait, reason = "callers read better without an import")]
    pub fn add(self, other: LongDouble) -> LongDouble {
        LongDouble((self.0 + other.0).value)
    }

    /// The difference, as [`LongDouble::add`].
    #[expect(clippy::should_implement_trait, reason = "callers read better without an import")]
    pub fn sub(self, other: LongDouble) -> LongDouble {
        LongDouble((self.0 - other.0).value)
    }

    /// Whether this is no number.
    pub fn is_nan(self) -> bool {
        self.0.is_nan()
    }

    /// Whether this is an infinity of either sign.
    pub fn is_infinite(self) -> bool {
        self.0.is_infinite()
    }

    /// The text of `%.17Lf` without trailing zeros, exact before the rounding to 17 digits (half to even);
    /// `inf`, `-inf`, `nan`. At most 4,951 bytes.
    pub fn format(self) -> String {
        if self.is_nan() {
            return "nan".to_owned();
        }
        let negative = self.0.is_negative();
        if self.is_infinite() {
            return if negative { "-inf" } else { "inf" }.to_owned();
        }
        let bits = self.0.to_bits();
        let mantissa = bits as u64;
        // The exponent of the mantissa's last bit; field 0 (subnormal) has the scale of field 1.
        let exponent = (((bits >> 64) & 0x7fff) as i32).max(1) - EXPONENT_BIAS;
        let text = match u32::try_from(exponent) {
            Ok(exponent) => whole_text(mantissa, exponent),
            Err(_) => fraction_text(mantissa, exponent.unsigned_abs()),
        };
        if negative && text != "0" { format!("-{text}") } else { text }
    }
}

/// The text of `mantissa` / 2^`shift`.
fn fraction_text(mantissa: u64, shift: u32) -> String {
    // Below 2^64 × 10^17 < 2^121, so with a shift of 127 or more less than half of the last digit is left.
    let scaled = u128::from(mantissa) * FRACTION_SCALE;
    let rounded = if shift > 126 {
        0
    } else {
        let quotient = scaled >> shift;
        let remainder = scaled - (quotient << shift);
        let half = 1u128 << (shift - 1);
        let up = remainder > half || remainder == half && quotient & 1 == 1;
        quotient + u128::from(up)
    };
    let text = format!("{}.{:0FRACTION_DIGITS$}", rounded / FRACTION_SCALE, rounded % FRACTION_SCALE);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The text of `mantissa` × 2^`shift`: multiplication in base 10^18.
fn whole_text(mantissa: u64, mut shift: u32) -> String {
    const BASE: u128 = 10u128.pow(18);
    const STEP: u32 = 64;
    // Least significant first.
    let mut limbs = vec![mantissa];
    let mut carry_into = |factor_bits: u32| {
        let mut carry = 0u128;
        for limb in &mut limbs {
            let product = (u128::from(*limb) << factor_bits) + carry;
            *limb = (product % BASE) as u64;
            carry = product / BASE;
        }
        while carry > 0 {
            limbs.push((carry % BASE) as u64);
            carry /= BASE;
        }
    };
    // The first pass also brings the mantissa into the base.
    carry_into(0);
    while shift > 0 {
        let bits = shift.min(STEP - 1);
        carry_into(bits);
        shift -= bits;
    }
    let mut text = limbs.last().copied().unwrap_or(0).to_string();
    for limb in limbs.iter().rev().skip(1) {
        text.push_str(&format!("{limb:018}"));
    }
    text
}
