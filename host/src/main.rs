//! The program `stator`. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    stator::cli::main()
}
