//! The request parser finds the same commands and the same error however the stream is cut.
//!
//! The first byte of the input chooses the length of the pieces.

#![no_main]

use kelda_resp::{ProtocolError, RequestLimits, RequestParser, Step};
use libfuzzer_sys::fuzz_target;

type Command = Vec<Vec<u8>>;

fn parse(stream: &[u8], piece: usize) -> (Vec<Command>, Option<ProtocolError>) {
    // Small limits, so that the fuzzer meets them.
    let limits = RequestLimits { bulk_bytes_max: 64, authenticated: true, inline_bytes_max: 32 };
    let mut parser = RequestParser::default();
    let (mut commands, mut spans, mut begin, mut end) = (Vec::new(), Vec::new(), 0, 0);
    loop {
        let buf = &stream[begin..end];
        match parser.next(buf, &limits, &mut spans) {
            Err(error) => return (commands, Some(error)),
            Ok(Step::Incomplete { need }) => {
                assert!(need > 0 && spans.is_empty());
                if end == stream.len() {
                    return (commands, None);
                }
                end = stream.len().min(end + piece);
            }
            Ok(Step::Command { consumed }) => {
                commands.push(spans.drain(..).map(|span| span.of(buf).to_vec()).collect());
                begin += consumed;
            }
            Ok(Step::Inline { consumed, args }) => {
                commands.push(args);
                begin += consumed;
            }
            Ok(Step::Skip { consumed }) => {
                assert!(consumed > 0);
                begin += consumed;
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    if let [piece, stream @ ..] = input {
        assert_eq!(parse(stream, usize::from(*piece) + 1), parse(stream, stream.len().max(1)));
    }
});
