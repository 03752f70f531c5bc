//! Matching neither fails nor takes long, and what matches with regard to case matches without it, as long as the
//! pattern has no class (negation and ranges turn that round).
//!
//! The input is the pattern, a line feed and the text.

#![no_main]

use kelda_resp::glob_match;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(at) = input.iter().position(|&byte| byte == b'\n') else {
        return;
    };
    let (pattern, text) = (&input[..at], &input[at + 1..]);
    let exact = glob_match(pattern, text, false);
    let folded = glob_match(pattern, text, true);
    assert!(!exact || folded || pattern.contains(&b'['));
});
