//! Number texts of the protocol: which texts Redis takes for a number, and how it writes doubles.

use crate::grisu;
use rustc_apfloat::ieee::Double;
use rustc_apfloat::{Float, Round};

/// Parses a 64-bit signed integer written in the one canonical way: no blanks, `+`, leading zeros or `-0`.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let magnitude = match text {
        [b'-', b'0', ..] => return None,
        [b'-', digits @ ..] => {
            let magnitude = parse_u64(digits)?;
            return 0i64.checked_sub_unsigned(magnitude);
        }
        digits => parse_u64(digits)?,
    };
    i64::try_from(magnitude).ok()
}

/// Parses a 64-bit unsigned integer without sign, blanks or leading zeros.
#[inline]
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    match text {
        [] => None,
        [b'0'] => Some(0),
        [b'0', ..] => None,
        _ => {
            /// So many digits cannot overflow.
            const SAFE: usize = 19;
            let (safe, rest) = text.split_at(text.len().min(SAFE));
            let value = digits(safe)?;
            match rest {
                [] => Some(value),
                [digit @ b'0'..=b'9'] => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
                _ => None,
            }
        }
    }
}

/// The number that up to 19 digits are.
#[inline]
fn digits(text: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    Some(value)
}

/// Parses a double as Redis does for scores and increments, by the rules of C's `strtod` for the whole text: decimal
/// or hexadecimal, `inf` and `infinity` in any case, a sign before each. Correctly rounded.
///
/// Refused: empty text, blanks, trailing bytes, NaN, and what overflows to infinity or underflows to zero.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    /// Digits of integers that are exact as doubles.
    const EXACT: usize = 15;
    if (1..=EXACT).contains(&text.len())
        && let Some(value) = digits(text)
    {
        return Some(value as f64);
    }
    if let Some(hex) = hex_float_text(text) {
        let value =
            f64::from_bits(Double::from_str_r(&hex.text, Round::NearestTiesToEven).ok()?.value.to_bits() as u64);
        return in_range(value, hex.is_zero).then_some(value);
    }
    // The grammar of `str::parse` is that of `strtod` without hexadecimal, blanks and `nan(...)`.
    let value: f64 = str::from_utf8(text).ok()?.parse().ok()?;
    let (_, unsigned) = split_sign(text);
    match unsigned.first()? {
        b'n' | b'N' => None,
        b'i' | b'I' => Some(value),
        _ => in_range(value, is_zero_decimal(unsigned)).then_some(value),
    }
}

/// Whether a finite text gave a value that `strtod` reports without `ERANGE`, or with it but still of use: neither
/// an overflow to infinity nor an underflow to zero.
fn in_range(value: f64, text_is_zero: bool) -> bool {
    value.is_finite() && (value != 0.0 || text_is_zero)
}

/// Whether the digits before the exponent of a decimal text are all zeros.
pub(crate) fn is_zero_decimal(unsigned: &[u8]) -> bool {
    unsigned.iter().take_while(|byte| !matches!(byte, b'e' | b'E')).all(|byte| matches!(byte, b'0' | b'.'))
}

/// The sign, if there is one, and the rest.
pub(crate) fn split_sign(text: &[u8]) -> (Option<u8>, &[u8]) {
    match text {
        [sign @ (b'+' | b'-'), rest @ ..] => (Some(*sign), rest),
        _ => (None, text),
    }
}

/// A hexadecimal float in the one form that `rustc_apfloat` reads.
pub(crate) struct HexFloat {
    pub(crate) text: String,
    pub(crate) is_zero: bool,
}

/// Recognises `[sign]0x<hex digits with at most one point>[p[sign]<digits>]`; C lets the exponent be left out.
pub(crate) fn hex_float_text(text: &[u8]) -> Option<HexFloat> {
    let (sign, unsigned) = split_sign(text);
    let [b'0', b'x' | b'X', body @ ..] = unsigned else {
        return None;
    };
    let exponent_at = body.iter().position(|byte| matches!(byte, b'p' | b'P'));
    let (mantissa, exponent) = match exponent_at {
        Some(at) => (&body[..at], &body[at + 1..]),
        None => (body, b"0".as_slice()),
    };
    let digits = mantissa.iter().filter(|&&byte| byte != b'.').count();
    let well_formed = digits > 0
        && mantissa.len() - digits <= 1
        && mantissa.iter().all(|byte| *byte == b'.' || byte.is_ascii_hexdigit())
        && matches!(split_sign(exponent).1, [_, ..])
        && split_sign(exponent).1.iter().all(u8::is_ascii_digit);
    if !well_formed {
        return None;
    }
    let sign = if sign == Some(b'-') { "-" } else { "" };
    // All ASCII, as was just checked.
    let mantissa = str::from_utf8(mantissa).ok()?;
    let exponent = str::from_utf8(exponent).ok()?;
    Some(HexFloat {
        text: format!("{sign}0x{mantissa}p{exponent}"),
        is_zero: mantissa.bytes().all(|byte| matches!(byte, b'0' | b'.')),
    })
}

/// Appends the text of a double: whole numbers up to 2^62 in full, else digits that read back as the same double
/// (nearly always the fewest that do), in scientific form when that is shorter to read (`1e+21`, `1.2345e-4`); `inf`, `-inf`, `nan`.
pub fn format_f64(value: f64, out: &mut Vec<u8>) {
    if value.is_nan() {
        return out.extend_from_slice(b"nan");
    }
    // 2^62 is the bound within which Redis takes the way over an integer.
    if value.abs() <= 4_611_686_018_427_387_904.0 && value == value.trunc() {
        return out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
    }
    if value < 0.0 {
        out.push(b'-');
    }
    if value.is_infinite() {
        return out.extend_from_slice(b"inf");
    }
    let decimal = grisu::decimal(value.abs());
    write_digits(decimal.digits(), decimal.exponent, out);
}

/// Writes `digits` × 10^`exponent` in the form Redis chooses.
fn write_digits(digits: &[u8], exponent: i32, out: &mut Vec<u8>) {
    let len = digits.len() as i32;
    let scientific = exponent + len - 1;
    let zeros = |out: &mut Vec<u8>, count: i32| out.resize(out.len() + count.max(0) as usize, b'0');
    if exponent >= 0 && scientific < len + 7 {
        out.extend_from_slice(digits);
        zeros(out, exponent);
    } else if exponent < 0 && (exponent > -7 || scientific.abs() < 4) {
        let (whole, fraction) = digits.split_at((len + exponent).max(0) as usize);
        if whole.is_empty() {
            out.extend_from_slice(b"0.");
            zeros(out, -exponent - len);
        } else {
            out.extend_from_slice(whole);
            out.push(b'.');
        }
        out.extend_from_slice(fraction);
    } else {
        out.push(digits[0]);
        if len > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.push(b'e');
        out.push(if scientific < 0 { b'-' } else { b'+' });
        out.extend_from_slice(itoa::Buffer::new().format(scientific.unsigned_abs()).as_bytes());
    }
}
