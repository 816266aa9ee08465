//! Jobs and tasks: list, get, wait, cancel, logs, why.

use clap::{Subcommand, ValueEnum};
use muster_core::time::Millis;

use super::run::RunArgs;
use crate::quantity::{KeyValue, Moment};
use crate::target::Target;

#[derive(Debug, clap::Args)]
pub(crate) struct JobArgs {
    #[command(subcommand)]
    pub(crate) verb: JobVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobVerb {
    /// Submit a job and follow it
    Run(Box<RunArgs>),
    /// List jobs, newest first
    List(ListArgs),
    /// One job with its spec
    Get { job: Target },
    /// Wait until jobs or tasks have ended
    Wait(WaitArgs),
    /// Cancel jobs or some of their tasks
    Cancel(CancelArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct TaskArgs {
    #[command(subcommand)]
    pub(crate) verb: TaskVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TaskVerb {
    /// The tasks of a job that were ever assigned
    List(TaskListArgs),
    /// One task with its attempts
    Get {
        /// JOB or JOB.INDEX
        task: Target,
    },
    /// The output of a task
    Logs(LogsArgs),
    /// Cancel tasks
    Cancel(CancelArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct QuarantineArgs {
    #[command(subcommand)]
    pub(crate) verb: QuarantineVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineVerb {
    /// The tasks, with how their attempts ended
    List,
    /// Give tasks another attempt, with their deaths and infra retries counted from zero
    Requeue {
        /// JOB.INDEX
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        task: Option<Target>,
        /// All of the team's
        #[arg(long)]
        all: bool,
    },
    /// End a task as infra_error
    Drop {
        /// JOB.INDEX
        task: Target,
    },
}

/// Without JOB: jobs that have not ended. With JOB: its tasks.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// List the tasks of this job
    pub(crate) job: Option<Target>,
    /// Ended ones too
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// Jobs with this label
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<KeyValue>,
    /// Jobs of this name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Jobs that have an attempt on the image of this digest: all of it, or its first 8 digits or more
    #[arg(
        long,
        value_name = "DIGEST",
        default_value = "",
        hide_default_value = true,
        conflicts_with = "job"
    )]
    pub(crate) digest: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TaskListArgs {
    pub(crate) job: Target,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Filter {
    /// Only these states, e.g. failed,lost
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STATE")]
    pub(crate) state: Vec<StateWord>,
    /// At most so many, up to 1000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Go on where an earlier list ended
    #[arg(long, value_name = "TOKEN", default_value = "")]
    pub(crate) page_token: String,
}

/// The states as people see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum StateWord {
    Pending,
    Assigned,
    Preparing,
    Running,
    Succeeded,
    Failed,
    Oom,
    Timeout,
    Canceled,
    Lost,
    Preempted,
    ImageError,
    InfraError,
}

/// Exits with 0 if everything succeeded, else 10, 11 or 12; the worst counts.
#[derive(Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// JOB or JOB.INDEX
    #[arg(required = true, num_args = 1..=100, value_name = "ID")]
    pub(crate) ids: Vec<Target>,
    /// Give up waiting after this long and exit with 8
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<Millis>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CancelArgs {
    /// JOB, JOB.INDEX or JOB.RANGE such as k7m2q9x4.12-40
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<Target>,
    /// Kept with the job
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) reason: String,
    /// KILL at once, without the grace period
    #[arg(long)]
    pub(crate) now: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LogsArgs {
    /// JOB, JOB.INDEX or JOB.INDEX#ATTEMPT
    pub(crate) task: Target,
    /// Go on until the task has ended, over retries
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only from then on: 10m, 2h ago or an RFC 3339 time
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<Moment>,
    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) tail: Option<u32>,
    /// Begin each line with its time
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Only standard error
    #[arg(long, conflicts_with = "stdout")]
    pub(crate) stderr: bool,
    /// Only standard output
    #[arg(long)]
    pub(crate) stdout: bool,
    /// Another attempt than the newest
    #[arg(long, value_name = "N", conflicts_with = "previous")]
    pub(crate) attempt: Option<u32>,
    /// The attempt before the newest
    #[arg(long)]
    pub(crate) previous: bool,
    /// With --follow: end with the task's exit code
    #[arg(long, requires = "follow")]
    pub(crate) exit_code: bool,
    /// Pass terminal control characters through to a terminal
    #[arg(long)]
    pub(crate) raw: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WhyArgs {
    /// JOB or JOB.INDEX
    pub(crate) id: Target,
}
