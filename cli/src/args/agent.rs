//! Agents, for people; without a verb, the daemon.

use clap::Subcommand;
use muster_core::time::Millis;

use super::daemon::AgentDaemonArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct AgentArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<AgentVerb>,
    #[command(flatten)]
    pub(crate) daemon: Box<AgentDaemonArgs>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentVerb {
    /// The fleet's agents
    List {
        /// Only this pool
        #[arg(long, default_value = "")]
        pool: String,
    },
    /// One agent with its images
    Get { agent: String },
    /// No new tasks; running ones finish
    Cordon {
        agent: String,
        #[arg(long, default_value = "", value_name = "TEXT")]
        reason: String,
    },
    /// Take new tasks again
    Uncordon { agent: String },
    /// Say that agents out of sight are gone, when the coordinator suspects that it is cut off
    ConfirmLost,
    /// No new tasks, and an end for what still runs at the deadline
    Drain(DrainArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct DrainArgs {
    pub(crate) agent: String,
    /// What runs then gets TERM, then KILL, and costs no retry [default: none]
    #[arg(long, value_name = "DURATION")]
    pub(crate) deadline: Option<Millis>,
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) reason: String,
    /// Return when nothing runs there and all output has arrived
    #[arg(long)]
    pub(crate) wait: bool,
}
