//! The coordinator's store, for operators; without a verb, the daemon.

use std::path::PathBuf;

use clap::Subcommand;

use super::daemon::CoordinatorArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct CoordinatorCommand {
    #[command(subcommand)]
    pub(crate) verb: Option<CoordinatorVerb>,
    #[command(flatten)]
    pub(crate) daemon: Box<CoordinatorArgs>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CoordinatorVerb {
    /// Copy the store of a running coordinator into a file
    Backup {
        file: PathBuf,
        /// The data directory of a coordinator that is not running
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Put a backup in the place of a store; no coordinator may run
    Restore {
        file: PathBuf,
        /// The coordinator's data directory; may be empty
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Take a restored store over as it is: tasks are started again
    Adopt(AdoptArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct AdoptArgs {
    /// Only say what it would mean
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Also if agents that the store knows have not called since the restore
    #[arg(long)]
    pub(crate) without_agents: bool,
    /// Don't ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}
