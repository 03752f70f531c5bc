//! The atomics and locks that threads meet in. Built with `--cfg kelda_model`, as the packages under `crates/model` are,
//! they are those of the model checker shuttle, which decides who runs at each of their operations.
//!
//! What only counts (statistics, facts about clients) stays with `std`: it decides nothing.

#[cfg(kelda_model)]
pub use shuttle::{
    hint::spin_loop,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread::yield_now,
};
#[cfg(not(kelda_model))]
pub use std::{
    hint::spin_loop,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread::yield_now,
};
