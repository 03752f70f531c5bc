//! Numbers as text: what `redis.call` makes of a Lua number, and how doubles are written in replies.

use smallvec::SmallVec;

/// Long enough for every number but the rarest doubles.
pub type Text = SmallVec<[u8; 32]>;

/// A Lua number as a command's argument: plain when it is an integer in 64 bits, else its shortest text.
pub fn argument(number: f64) -> Text {
    // The bounds are exact doubles; 2^63 itself does not fit.
    if number.fract() == 0.0 && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number) {
        return Text::from_slice(itoa::Buffer::new().format(number as i64).as_bytes());
    }
    double(number)
}

/// The shortest text that reads back as the same double, laid out as Redis does (`0.1`, `1e+20`, `inf`).
pub fn double(number: f64) -> Text {
    if number.is_nan() {
        return Text::from_slice(b"nan");
    }
    if number.is_infinite() {
        return Text::from_slice(if number > 0.0 { b"inf" } else { b"-inf" });
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let mut out = Text::new();
    if number.is_sign_negative() {
        out.push(b'-');
    }
    // `scale` is the power of ten of the last digit.
    let count = digits.len() as i32;
    let scale = exponent - (count - 1);
    if scale >= 0 && exponent.abs() < count + 7 {
        out.extend_from_slice(digits.as_bytes());
        out.extend(std::iter::repeat_n(b'0', scale as usize));
    } else if scale < 0 && (scale > -7 || exponent.abs() < 4) {
        if exponent < 0 {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
            out.extend_from_slice(digits.as_bytes());
        } else {
            let (whole, fraction) = digits.split_at((exponent + 1) as usize);
            out.extend_from_slice(whole.as_bytes());
            out.push(b'.');
            out.extend_from_slice(fraction.as_bytes());
        }
    } else {
        let (first, rest) = digits.split_at(1);
        out.extend_from_slice(first.as_bytes());
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest.as_bytes());
        }
        out.push(b'e');
        out.push(if exponent < 0 { b'-' } else { b'+' });
        out.extend_from_slice(itoa::Buffer::new().format(exponent.unsigned_abs()).as_bytes());
    }
    out
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
