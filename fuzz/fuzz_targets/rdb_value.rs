//! No bytes make the reader of RDB values panic; what it reads it can skip, and writes so that it reads the same again.

#![no_main]

use kelda_log::rdb::{Dialect, Format, Reader, Version, decode_value, encode_value, skip_value, value_kind};
use kelda_store::Limits;
use kelda_store::entry::Entry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (kind, valkey, bytes) = input;
    let dialect = if valkey { Dialect::Valkey } else { Dialect::Redis };
    let limits = Limits::default();
    let mut reader = Reader::new(bytes);
    let Ok(value) = decode_value(kind, dialect, &mut reader, &limits) else {
        let _ = skip_value(kind, dialect, &mut Reader::new(bytes));
        return;
    };
    let mut skipped = Reader::new(bytes);
    assert_eq!(skip_value(kind, dialect, &mut skipped), Ok(()));
    assert_eq!(skipped.remaining(), reader.remaining());

    let entry = Entry::new(b"key", value, None);
    for version in [Version::REDIS_7_0, Version::REDIS_7_4, Version::VALKEY_9] {
        let format = Format { version, compress: valkey };
        let write = |entry: &Entry| {
            let mut out = Vec::new();
            encode_value(entry.as_ref().value(), &format, &mut out);
            (value_kind(entry.as_ref().value(), &format), out)
        };
        let (kind, written) = write(&entry);
        let dialect = version.dialect();
        let again = decode_value(kind, dialect, &mut Reader::new(&written), &limits).expect("what was written is read");
        assert_eq!(again.len(), entry.as_ref().to_value().len());
        // Tables lie in an order of their own, but take as many bytes.
        assert_eq!(write(&Entry::new(b"key", again, None)).0, kind);
    }
});
