//! The `duramen` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    duramen::main()
}
