//! The payload of FUNCTION DUMP and RESTORE: the texts of the libraries as in an RDB file, its version, and a checksum.
//!
//! Format: for each library the opcode 245 and a string (RDB's length-prefixed form, maybe LZF-compressed); at the end the RDB
//! version in two bytes and the CRC-64 of all before it, both little-endian. `decode` never trusts a length.

/// Starts a library in an RDB file.
const OPCODE_FUNCTION: u8 = 245;
/// The RDB version that payloads are written in: that of Redis 7.0, the first with this opcode.
const VERSION: u16 = 10;
/// The longest text that is believed of a compressed string, in bytes.
const TEXT_BYTES_MAX: usize = 512 << 20;

/// The payload of these texts.
pub fn encode<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for text in texts {
        out.push(OPCODE_FUNCTION);
        match text.len() {
            length @ 0..0x40 => out.push(length as u8),
            length @ 0x40..0x4000 => out.extend([0x40 | (length >> 8) as u8, length as u8]),
            length => {
                out.push(0x81);
                out.extend((length as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(text);
    }
    out.extend(VERSION.to_le_bytes());
    let checksum = crc64(&out);
    out.extend(checksum.to_le_bytes());
    out
}

/// The texts in a payload; `None` if it is damaged or no such payload.
pub fn decode(payload: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (body, checksum) = payload.split_last_chunk::<8>()?;
    if u64::from_le_bytes(*checksum) != crc64(body) {
        return None;
    }
    let (mut rest, _version) = body.split_last_chunk::<2>()?;
    let mut texts = Vec::new();
    while let Some((&opcode, after)) = rest.split_first() {
        rest = after;
        if opcode != OPCODE_FUNCTION {
            return None;
        }
        texts.push(string(&mut rest)?);
    }
    Some(texts)
}

/// A length, or the number of a special encoding.
enum Length {
    Bytes(usize),
    Encoding(u8),
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = input.split_at_checked(count)?;
    *input = rest;
    Some(taken)
}

fn number<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    take(input, N)?.try_into().ok()
}

fn length(input: &mut &[u8]) -> Option<Length> {
    let [first] = number::<1>(input)?;
    let value = match first >> 6 {
        0 => u64::from(first),
        1 => u64::from(first & 0x3f) << 8 | u64::from(number::<1>(input)?[0]),
        2 if first == 0x80 => u64::from(u32::from_be_bytes(number(input)?)),
        2 if first == 0x81 => u64::from_be_bytes(number(input)?),
        2 => return None,
        _ => return Some(Length::Encoding(first & 0x3f)),
    };
    usize::try_from(value).ok().map(Length::Bytes)
}

fn string(input: &mut &[u8]) -> Option<Vec<u8>> {
    const LZF: u8 = 3;
    match length(input)? {
        Length::Bytes(count) => take(input, count).map(<[u8]>::to_vec),
        Length::Encoding(LZF) => {
            let (Length::Bytes(compressed), Length::Bytes(plain)) = (length(input)?, length(input)?) else {
                return None;
            };
            decompress(take(input, compressed)?, plain)
        }
        // Integers: no library is one.
        Length::Encoding(_) => None,
    }
}

/// LZF: a byte below 32 announces so many literals and one more; any other a copy of bytes that went before.
fn decompress(mut input: &[u8], length: usize) -> Option<Vec<u8>> {
    if length > TEXT_BYTES_MAX {
        return None;
    }
    let mut out = Vec::new();
    while let Some((&control, rest)) = input.split_first() {
        input = rest;
        let control = usize::from(control);
        if control < 32 {
            out.extend_from_slice(take(&mut input, control + 1)?);
            continue;
        }
        let mut count = control >> 5;
        if count == 7 {
            count += usize::from(number::<1>(&mut input)?[0]);
        }
        let distance = (control & 31) << 8 | usize::from(number::<1>(&mut input)?[0]);
        let start = out.len().checked_sub(distance + 1)?;
        // The copy may reach into what it writes itself.
        for at in start..start + count + 2 {
            out.push(*out.get(at)?);
        }
        if out.len() > length {
            return None;
        }
    }
    (out.len() == length).then_some(out)
}

/// CRC-64 as Redis has it: the Jones polynomial, reflected, starting at 0.
fn crc64(bytes: &[u8]) -> u64 {
    const POLYNOMIAL_REFLECTED: u64 = 0x95ac_9329_ac4b_c9b5;
    const TABLE: [u64; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut crc = index as u64;
            let mut bit = 0;
            while bit < 8 {
                crc = crc >> 1 ^ if crc & 1 == 1 { POLYNOMIAL_REFLECTED } else { 0 };
                bit += 1;
            }
            table[index] = crc;
            index += 1;
        }
        table
    };
    // The index is a byte.
    bytes.iter().fold(0, |crc, &byte| TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_redis_s() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let texts = [b"".to_vec(), b"x".repeat(63), b"y".repeat(64), b"z".repeat(0x4000)];
        let payload = encode(texts.iter().map(|text| &text[..]));
        assert_eq!(decode(&payload), Some(texts.to_vec()));
        for length in 0..payload.len() {
            assert_eq!(decode(&payload[..length]), None);
        }
        let mut damaged = payload.clone();
        damaged[3] ^= 1;
        assert_eq!(decode(&damaged), None);
    }

    /// What Valkey 9.1.2 answers to FUNCTION DUMP: compressed.
    #[test]
    fn payloads_of_valkey_are_read() {
        let payload = b"\xf5\xc3@\x5c@\xb4\x1f#!lua name=many\x0aredis.register_f\x0dunction('f0', \xe0\x00\x0e\x0e) return 0 end)\xe0\x126\x001\xe0\x0c6\x001\xe0\x176\x002\xe0\x0c6\x002 6\x01d)P\x00\x9f\x80\xd4\x8d\x19\xcf~\x87";
        let text = "#!lua name=many\nredis.register_function('f0', function() return 0 end)\nredis.register_function('f1', function() return 1 end)\nredis.register_function('f2', function() return 2 end)";
        assert_eq!(decode(payload), Some(vec![text.as_bytes().to_vec()]));
    }
}
