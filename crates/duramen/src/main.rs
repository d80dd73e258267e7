//! The `duramen` program.

use std::process::ExitCode;

/// Large buffers come and go with every batch: an allocator that gives each back to the system costs
/// page faults with every one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    duramen::main()
}
