//! The `kelda-server` binary.
fn main() {}
