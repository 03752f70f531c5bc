//! The `kelda-server` binary.

mod cli;
mod clock;
mod echo;
mod event_loop;
mod listen;
mod log;
mod memory;
mod process;
mod sessions;
mod start;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

struct EchoThreads;

impl start::MakeSessions for EchoThreads {
    type Sessions = echo::Echo;
    fn make(&mut self, _: usize, _: start::Wake) -> echo::Echo {
        echo::Echo::new(10_000)
    }
}

fn main() -> std::process::ExitCode {
    start::main(|_, _| EchoThreads)
}
