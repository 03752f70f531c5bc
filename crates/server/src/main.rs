//! The `kelda-server` binary.

mod bridge;
mod cli;
mod clock;
mod crash;
mod disk;
mod driver;
#[cfg(test)]
mod echo;
mod event_loop;
mod gauge;
mod latch;
mod listen;
mod log;
mod maintenance;
mod memory;
mod oom;
mod persistence;
mod process;
mod roster;
mod seat;
mod sessions;
mod start;
mod steering;
mod threads;

#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

fn main() -> std::process::ExitCode {
    #[cfg(not(feature = "system-allocator"))]
    memory::set_up();
    start::main(bridge::Threads::new)
}
