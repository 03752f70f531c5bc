//! The payload of FUNCTION DUMP and RESTORE: the texts of the libraries as in an RDB file, its version, and a checksum.

use kelda_log::rdb::payload::{open, seal};
use kelda_log::rdb::{Format, Reader, opcode, put_text};
use kelda_store::Str;

/// The payload of these texts.
pub fn encode<'a>(texts: impl Iterator<Item = &'a [u8]>, format: &Format) -> Vec<u8> {
    let mut out = Vec::new();
    for text in texts {
        out.push(opcode::FUNCTION2);
        put_text(Str::Bytes(text), format, &mut out);
    }
    seal(&mut out, format.version);
    out
}

/// The texts in a payload; `None` if it is damaged or no such payload.
pub fn decode(payload: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (_version, body) = open(payload)?;
    let mut reader = Reader::new(body);
    let mut texts = Vec::new();
    while !reader.is_empty() {
        if reader.byte() != Ok(opcode::FUNCTION2) {
            return None;
        }
        texts.push(reader.text().ok()?.into_vec());
    }
    Some(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let texts = [b"".to_vec(), b"x".repeat(63), b"y".repeat(64), b"z".repeat(0x4000)];
        let payload = encode(texts.iter().map(|text| &text[..]), &Format::default());
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
