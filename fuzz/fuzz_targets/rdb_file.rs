//! No file makes the reader of RDB files panic, or reserve memory for what is not there.

#![no_main]

use kelda_log::rdb::RdbFile;
use kelda_store::Limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8])| {
    let (valkey, body) = input;
    let mut bytes = if valkey { b"VALKEY080".to_vec() } else { b"REDIS0012".to_vec() };
    bytes.extend_from_slice(body);
    let mut file = RdbFile::open(&bytes[..]).expect("the header is good");
    while let Ok(Some(block)) = file.next_block() {
        for entry in block.entries() {
            let _ = entry.decode(&Limits::default());
        }
    }
    assert!(file.offset() <= bytes.len() as u64);
});
