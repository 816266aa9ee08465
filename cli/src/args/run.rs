//! `muster run`: docker's flags where docker has one, own ones for the rest.

use std::path::PathBuf;

use clap::ValueEnum;
use muster_core::time::{BadMillis, Millis};

use crate::quantity::{Concurrency, KeyValue, Retries, RetryRule, parse_cpus, parse_size};

/// Submit a job and follow it to its end.
///
/// Without flags it behaves as `docker run` does: output is followed and the task's exit code becomes muster's.
#[derive(Debug, clap::Args)]
#[command(override_usage = "muster run [OPTIONS] IMAGE [CMD]...")]
pub(crate) struct RunArgs {
    /// A channel (a bare word) or an image with a tag or a digest; then the arguments, never a shell line
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "CMD"])]
    pub(crate) argv: Vec<String>,
    #[command(flatten)]
    pub(crate) container: ContainerFlags,
    #[command(flatten)]
    pub(crate) job: JobFlags,
    #[command(flatten)]
    pub(crate) follow: FollowFlags,
    #[command(flatten)]
    pub(crate) refused: RefusedFlags,
}

/// What docker has too.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "As in docker run")]
pub(crate) struct ContainerFlags {
    /// Set a variable; a bare name takes its value from here
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// uid[:gid] or name [default: the image's user if it is not root, else 65532]
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Use this instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Memory limit such as 512m or 4g; m is MiB [default: 512m]
    #[arg(short, long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory: Option<u64>,
    /// CPUs, up to three decimals [default: 1]
    #[arg(long, value_name = "N", value_parser = parse_cpus)]
    pub(crate) cpus: Option<u32>,
    /// Whole GPUs
    #[arg(long, value_name = "N")]
    pub(crate) gpus: Option<u32>,
    /// Processes and threads [default: 256]
    #[arg(long, value_name = "N")]
    pub(crate) pids_limit: Option<u32>,
    /// Label the job
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<KeyValue>,
    /// Name the job [default: the image's last part]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// `always` asks the registry again before submitting; `never` takes only agents that hold the image
    #[arg(long, value_enum, default_value_t = Pull::Missing)]
    pub(crate) pull: Pull,
    /// The team's bridge network, or none
    #[arg(long, value_name = "NETWORK", default_value = "bridge")]
    pub(crate) network: String,
    /// Print the job's id and return
    #[arg(short, long, conflicts_with_all = ["wait", "dry_run"])]
    pub(crate) detach: bool,
    /// Accepted: muster always removes containers, after their logs are safe
    #[arg(long, hide_short_help = true)]
    pub(crate) rm: bool,
    /// Accepted: tasks have no terminal
    #[arg(short, long, hide_short_help = true)]
    pub(crate) tty: bool,
    /// Accepted: tasks have no standard input
    #[arg(short, long, hide_short_help = true)]
    pub(crate) interactive: bool,
}

/// What docker does not have.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Job")]
pub(crate) struct JobFlags {
    /// Run N tasks that differ in MUSTER_TASK_INDEX, 0 to N-1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) array: Option<u32>,
    /// Submitting again with this key finds the same job
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Pool of agents [default: default]
    #[arg(long)]
    pub(crate) pool: Option<String>,
    /// A label that the agent must have
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) require: Vec<KeyValue>,
    /// Only this agent
    #[arg(long, value_name = "AGENT")]
    pub(crate) on: Option<String>,
    /// Larger goes first; -1000 to 1000
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        default_value_t = 0
    )]
    pub(crate) priority: i32,
    /// Retries after the task's own failures and after the fleet's, such as 3 or user=3,infra=5
    #[arg(
        long,
        value_name = "N|user=N,infra=N",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) retries: Retries,
    /// Delay before the first retry [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) retry_delay: Option<Millis>,
    /// No retry waits longer [default: 6m]
    #[arg(long, value_name = "DURATION")]
    pub(crate) retry_delay_max: Option<Millis>,
    /// How the delay grows [default: exponential]
    #[arg(long, value_enum)]
    pub(crate) backoff: Option<BackoffKind>,
    /// Wait the whole delay, not a random part of it
    #[arg(long)]
    pub(crate) no_jitter: bool,
    /// What to do after some ends, such as 2,64-78:fail or image_error:retry or oom:grow=1.5,8g (with 1.5 times the
    /// memory, up to 8 GiB); the first that matches decides
    #[arg(long, value_name = "ENDS:fail|retry|grow=FACTOR,MOST")]
    pub(crate) retry_rule: Vec<RetryRule>,
    /// `at_most_once` never starts a task again whose end is not known
    #[arg(long, value_enum)]
    pub(crate) delivery: Option<Delivery>,
    /// What becomes of a running task whose host hears nothing of the coordinator: it finishes, or it is stopped there
    /// after a while and run again [default: finish]
    #[arg(long, value_name = "finish|stop-after=DURATION", value_parser = parse_on_disconnect)]
    pub(crate) on_disconnect: Option<OnDisconnect>,
    /// Longest run of one attempt [default: 24h]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<Millis>,
    /// Longest wait for the first start [default: none]
    #[arg(long, value_name = "DURATION")]
    pub(crate) queue_timeout: Option<Millis>,
    /// Between TERM and KILL [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) kill_grace: Option<Millis>,
    /// On a channel: the digest of now for all tasks (run), or the newest one for each attempt (task). `digest` refuses an
    /// image that is not named by its digest [default: task]
    #[arg(long, value_enum)]
    pub(crate) pin: Option<Pin>,
    /// At most N attempts of the team with this key at a time
    #[arg(long, value_name = "KEY=N")]
    pub(crate) concurrency: Vec<Concurrency>,
    /// Another exit code that means success
    #[arg(long, value_name = "N")]
    pub(crate) success_code: Vec<u8>,
    /// A root file system that can be written to, where the agent's policy allows it
    #[arg(long)]
    pub(crate) writable_root: bool,
}

/// How to follow it, and what the exit code says.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Following")]
pub(crate) struct FollowFlags {
    /// Print nothing until the end
    #[arg(long)]
    pub(crate) wait: bool,
    /// `docker`: the task's own code (for one task the default); `class`: 0, 10, 11 or 12
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) exit_code: Option<ExitKind>,
    /// What Ctrl-C and SIGTERM do
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = OnSignal::Detach)]
    pub(crate) on_signal: OnSignal,
    /// Exit with 7 when muster warns about the job, e.g. because no agent could ever run it
    #[arg(long)]
    pub(crate) strict: bool,
    /// Print what would be sent and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Pass terminal control characters through to a terminal
    #[arg(long)]
    pub(crate) raw: bool,
}

/// Flags of docker that muster has on purpose not. They are read so that the refusal can say why.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct RefusedFlags {
    #[arg(long, hide = true)]
    pub(crate) privileged: bool,
    #[arg(long, hide = true)]
    pub(crate) restart: Option<String>,
    #[arg(short, long, hide = true)]
    pub(crate) publish: Vec<String>,
    #[arg(long, hide = true)]
    pub(crate) volumes_from: Vec<String>,
    #[arg(short, long, hide = true)]
    pub(crate) volume: Vec<String>,
    #[arg(long, hide = true)]
    pub(crate) mount: Vec<String>,
    #[arg(long, hide = true)]
    pub(crate) cap_add: Vec<String>,
    #[arg(long, hide = true)]
    pub(crate) device: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pull {
    Missing,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackoffKind {
    Fixed,
    Exponential,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Delivery {
    #[value(name = "at_least_once", alias = "at-least-once")]
    AtLeastOnce,
    #[value(name = "at_most_once", alias = "at-most-once")]
    AtMostOnce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnDisconnect {
    Finish,
    StopAfter(Millis),
}

fn parse_on_disconnect(text: &str) -> Result<OnDisconnect, String> {
    let text = text.replace('_', "-");
    match text.split_once('=') {
        None if text == "finish" => Ok(OnDisconnect::Finish),
        Some(("stop-after", span)) => span
            .parse()
            .map(OnDisconnect::StopAfter)
            .map_err(|bad: BadMillis| bad.to_string()),
        None | Some(_) => {
            Err("it is finish, or stop-after=DURATION such as stop-after=5m".to_owned())
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pin {
    Run,
    Task,
    Digest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExitKind {
    Class,
    Docker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnSignal {
    Detach,
    Cancel,
}
