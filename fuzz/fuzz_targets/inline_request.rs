//! Splitting a line into arguments, and quoting the arguments again, gives the same arguments.

#![no_main]

use kelda_resp::request::split_args;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    let Some(args) = split_args(line) else { return };
    let quoted: Vec<String> = args
        .iter()
        .map(|arg| format!("\"{}\"", arg.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>()))
        .collect();
    assert_eq!(split_args(quoted.join(" ").as_bytes()), Some(args));
});
