//! Decimal digits of doubles by Grisu2 (Florian Loitsch, "Printing Floating-Point Numbers Quickly and Accurately
//! with Integers", 2010), the algorithm behind the doubles of Redis 7.2 and later and of Valkey.
//!
//! The digits always read back as the same double, and are the shortest that do in all but one in some hundred
//! cases. A newer algorithm would do better there, and so answer other digits than Redis.

use rustc_apfloat::ieee::X87DoubleExtended;
use rustc_apfloat::{Float, Round};
use std::sync::LazyLock;

/// Significant digits of a double, at most.
pub(crate) const DIGITS_MAX: usize = 17;

/// The decimal exponents of the cached powers: from -348 in steps of 8.
const POWER_FIRST: i32 = -348;
const POWER_STEP: i32 = 8;
const POWERS: usize = 87;

/// A scaled double's exponent lies in this range, so that its whole part fits 32 bits and ten digits.
const SCALED_EXPONENT: std::ops::RangeInclusive<i32> = -60..=-32;

/// `fraction` × 2^`exponent`; nothing to do with IEEE's encoding.
#[derive(Clone, Copy)]
struct Scaled {
    fraction: u64,
    exponent: i32,
}

impl Scaled {
    fn normalized(self) -> Self {
        let shift = self.fraction.leading_zeros();
        Scaled { fraction: self.fraction << shift, exponent: self.exponent - shift as i32 }
    }

    /// The product's upper 64 bits, rounded.
    fn times(self, other: Scaled) -> Self {
        let product = u128::from(self.fraction) * u128::from(other.fraction) + (1 << 63);
        Scaled { fraction: (product >> 64) as u64, exponent: self.exponent + other.exponent + 64 }
    }
}

/// Powers of ten rounded to 64 bits. That is the precision of the x87 format, so its conversion computes them.
static POWERS_OF_TEN: LazyLock<[Scaled; POWERS]> = LazyLock::new(|| {
    std::array::from_fn(|at| {
        let text = format!("1e{}", POWER_FIRST + POWER_STEP * at as i32);
        let bits =
            X87DoubleExtended::from_str_r(&text, Round::NearestTiesToEven).map_or(0, |parsed| parsed.value.to_bits());
        Scaled { fraction: bits as u64, exponent: (bits >> 64) as i32 - 16_383 - 63 }
    })
});

/// The power of ten that brings a normalized number with `exponent` into [`SCALED_EXPONENT`], and its exponent.
/// More than one may do; which is taken decides the digits in rare cases, so the search is that of Redis.
fn cached_power(exponent: i32) -> (Scaled, i32) {
    let guess = (-f64::from(exponent + POWERS as i32) * std::f64::consts::LOG10_2) as i32;
    // The exponents of doubles, -1,137 to 960 once normalized, all lie well within the table.
    let mut at = ((guess - POWER_FIRST) / POWER_STEP) as usize;
    loop {
        let power = POWERS_OF_TEN[at];
        let scaled = exponent + power.exponent + 64;
        if scaled < *SCALED_EXPONENT.start() {
            at += 1;
        } else if scaled > *SCALED_EXPONENT.end() {
            at -= 1;
        } else {
            return (power, POWER_FIRST + POWER_STEP * at as i32);
        }
    }
}

/// Decimal digits and the exponent of the last of them.
pub(crate) struct Decimal {
    digits: [u8; DIGITS_MAX],
    len: usize,
    pub(crate) exponent: i32,
}

impl Decimal {
    /// ASCII digits, the first not `0`.
    pub(crate) fn digits(&self) -> &[u8] {
        &self.digits[..self.len]
    }

    /// Leading zeros are dropped. A double needs no more than [`DIGITS_MAX`] digits to be told from its neighbours.
    fn push(&mut self, digit: u64) {
        if (digit != 0 || self.len > 0) && self.len < DIGITS_MAX {
            self.digits[self.len] = b'0' + digit as u8;
            self.len += 1;
        }
    }

    /// Lowers the last digit while that brings the number closer to the true value and keeps it in the interval.
    /// All in one unit: `below` is what the digits lack to the interval's upper end, `value` the distance of the
    /// true value from it, `width` that of the lower end, `step` the worth of the last digit.
    fn approach(&mut self, mut below: u64, value: u64, width: u64, step: u64) {
        let Some(last) = self.digits[..self.len].last_mut() else {
            return;
        };
        while below < value && width - below >= step && (below + step < value || value - below > below + step - value) {
            *last -= 1;
            below += step;
        }
    }
}

/// The digits of a finite double above zero.
pub(crate) fn decimal(value: f64) -> Decimal {
    const HIDDEN_BIT: u64 = 1 << 52;
    let bits = value.to_bits();
    let field = (bits >> 52) as i32 & 0x7ff;
    let fraction = bits & (HIDDEN_BIT - 1);
    let number = match field {
        0 => Scaled { fraction, exponent: -1_074 },
        _ => Scaled { fraction: fraction | HIDDEN_BIT, exponent: field - 1_075 },
    };
    // Half way to the neighbours, of which the lower is nearer at a power of two.
    let upper = Scaled { fraction: (number.fraction << 1) + 1, exponent: number.exponent - 1 }.normalized();
    let lower_shift = if number.fraction == HIDDEN_BIT { 2 } else { 1 };
    let lower = Scaled { fraction: (number.fraction << lower_shift) - 1, exponent: number.exponent - lower_shift };
    let lower = Scaled { fraction: lower.fraction << (lower.exponent - upper.exponent), exponent: upper.exponent };

    let (power, power_exponent) = cached_power(upper.exponent);
    let number = number.normalized().times(power);
    let upper = upper.times(power);
    // One unit inwards makes good for the rounding of the products.
    let high = upper.fraction - 1;
    let low = lower.times(power).fraction + 1;

    let point = upper.exponent.unsigned_abs(); // 32..=60
    let one = 1u64 << point;
    let width = high - low;
    let value = high - number.fraction;
    let mut decimal = Decimal { digits: [0; DIGITS_MAX], len: 0, exponent: -power_exponent };

    let mut whole = high >> point;
    let mut rest = high & (one - 1);
    for place in (0..10).rev() {
        let unit = 10u64.pow(place);
        decimal.push(whole / unit);
        whole %= unit;
        let below = (whole << point) + rest;
        if below <= width {
            decimal.exponent += place as i32;
            decimal.approach(below, value, width, unit << point);
            return decimal;
        }
    }
    let mut scale = 1u64;
    loop {
        // `width` is at least 1 and grows tenfold each time, `rest` stays below `one`, so this ends.
        rest *= 10;
        scale *= 10;
        decimal.exponent -= 1;
        decimal.push(rest >> point);
        rest &= one - 1;
        if rest < width.wrapping_mul(scale) {
            decimal.approach(rest, value.wrapping_mul(scale), width.wrapping_mul(scale), one);
            return decimal;
        }
    }
}
