//! The `duramen` program, built for the tests of this package, which find it by its name.

use std::process::ExitCode;

fn main() -> ExitCode {
    duramen::main()
}
