//! Numbers as text: what `redis.call` makes of a Lua number, and how Lua and cjson write doubles.

use kelda_resp::format_f64;
use smallvec::SmallVec;

/// Long enough for every number but the rarest doubles.
pub type Text = SmallVec<[u8; 32]>;

/// A Lua number as a command's argument: as [`format_f64`] writes it, most of them without its detour.
pub fn argument(number: f64) -> Text {
    /// Whole numbers below are written in full.
    const WHOLE_MAX: f64 = (1u64 << 62) as f64;
    if number.fract() == 0.0 && number.abs() <= WHOLE_MAX {
        return Text::from_slice(itoa::Buffer::new().format(number as i64).as_bytes());
    }
    let mut text = Vec::new();
    format_f64(number, &mut text);
    Text::from_vec(text)
}

/// C's `%.{precision}g`, which is how Lua and cjson write numbers. `precision` is at least 1.
pub fn general(number: f64, precision: usize) -> String {
    if number.is_nan() {
        return if number.is_sign_negative() { "-nan".into() } else { "nan".into() };
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let precision = precision.max(1);
    if number.fract() == 0.0 && number.abs() < 1e14 && precision >= 14 && !(number == 0.0 && number.is_sign_negative())
    {
        return itoa::Buffer::new().format(number as i64).to_string();
    }
    let scientific = format!("{:.*e}", precision - 1, number);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text.to_string(),
    };
    if exponent < -4 || exponent >= precision as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.unsigned_abs());
    }
    trim(&format!("{:.*}", (precision as i32 - 1 - exponent).max(0) as usize, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_redis_writes_them() {
        for (number, text) in [
            (3.0, "3"),
            (-0.0, "0"),
            (1e17, "100000000000000000"),
            (0.1, "0.1"),
            (1e300, "1e+300"),
            (1.5, "1.5"),
            (1e20, "1e+20"),
            (1.23456789012345, "1.23456789012345"),
            (f64::INFINITY, "inf"),
            (1e-7, "1e-7"),
            (0.00001, "0.00001"),
            (4_611_686_018_427_387_904.0, "4611686018427387904"),
            (9.2e18, "9.2e+18"),
            (-2.5, "-2.5"),
        ] {
            assert_eq!(String::from_utf8_lossy(&argument(number)), text);
        }
        for (number, text) in [
            (0.1, "0.1"),
            (1e15, "1e+15"),
            (123456.789, "123456.789"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (100.0, "100"),
        ] {
            assert_eq!(general(number, 14), text);
        }
    }
}
