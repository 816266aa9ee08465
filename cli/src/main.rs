//! The `muster` binary: parse the arguments, run one command, turn the result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    muster_cli::main()
}
