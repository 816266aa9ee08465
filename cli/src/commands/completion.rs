//! `muster completion SHELL`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Args;
use crate::console::Console;
use crate::exit::{Exit, Failure};

pub(crate) fn run(shell: Shell, console: &mut Console) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "muster", &mut script);
    console.out_bytes(&script)?;
    Ok(Exit::DONE)
}
