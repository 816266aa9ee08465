//! The binary `muster`: the daemons and the client commands.
//!
//! The client knows the wire and the words of the core; the daemons are libraries that it starts.

mod args;
mod commands;

mod client;
mod config;
mod console;
mod daemon;
mod exit;
mod files;
mod quantity;
mod submit;
mod target;

mod follow;
mod printer;
mod progress;
mod render;
mod signals;
mod watch;

#[cfg(test)]
mod mock;

use std::process::ExitCode;

/// Parses the arguments, runs one command and turns its result into an exit code.
///
/// Wrong usage ends the process with 2, `--help` and `--version` with 0.
#[must_use]
pub fn main() -> ExitCode {
    commands::run(args::Args::read())
}
