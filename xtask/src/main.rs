//! Development tasks: `cargo xtask tidy|bench|docs|test`.
fn main() {}
