//! The program `stator`. Everything is in the library.

use std::process::ExitCode;

use stator::merge;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // The compiler of merge modules, which a node starts: not a command for people.
    if args.next().is_some_and(|command| command == merge::COMPILE_MODULE) {
        return merge::compile_module_main(args);
    }
    stator::cli::main()
}
