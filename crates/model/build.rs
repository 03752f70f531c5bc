//! Has the real sources built with the model checker's atomics and locks; see `sync.rs` in kelda-store.

fn main() {
    println!("cargo::rustc-cfg=kelda_model");
    println!("cargo::rerun-if-changed=build.rs");
}
