//! The command line, as clap reads it. Noun first, then verb; daily verbs have a short form.

pub(crate) mod agent;
pub(crate) mod channel;
pub(crate) mod coordinator;
pub(crate) mod daemon;
pub(crate) mod doctor;
pub(crate) mod job;
pub(crate) mod manifest;
pub(crate) mod rollout;
pub(crate) mod run;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use agent::AgentArgs;
use channel::ChannelArgs;
use coordinator::CoordinatorCommand;
use daemon::UpArgs;
use doctor::DoctorArgs;
use job::{CancelArgs, JobArgs, ListArgs, LogsArgs, QuarantineArgs, TaskArgs, WaitArgs, WhyArgs};
use manifest::ManifestArgs;
use rollout::{RollbackArgs, RolloutArgs};
use run::RunArgs;

/// Runs containerized batch tasks on a fleet.
#[derive(Debug, Parser)]
#[command(name = "muster", bin_name = "muster", version)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Args {
    /// Reads the process's arguments. Wrong usage ends the process with 2, `--help` with 0.
    pub(crate) fn read() -> Self {
        let args = Self::parse();
        match args.check() {
            Ok(()) => args,
            Err(error) => error.exit(),
        }
    }

    /// What clap can't say: the daemon's flags and a verb are two commands. (Its own rule would also
    /// refuse `agent -o json list`.)
    fn check(&self) -> Result<(), clap::Error> {
        let flags = match &self.command {
            Command::Agent(AgentArgs {
                verb: Some(_),
                daemon,
            }) => daemon.settings(),
            Command::Coordinator(CoordinatorCommand {
                verb: Some(_),
                daemon,
            }) => daemon.settings(),
            _ => return Ok(()),
        };
        if flags.is_empty() {
            return Ok(());
        }
        let problem = "flags of the daemon and a verb cannot be used together";
        Err(Self::command().error(clap::error::ErrorKind::ArgumentConflict, problem))
    }
}

/// What every command takes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// The coordinator: http://HOST:PORT or unix:///PATH [env: MUSTER_ADDR] [default: http://127.0.0.1:7380]
    #[arg(long, global = true, value_name = "ADDR")]
    pub(crate) addr: Option<String>,
    /// The team whose things are meant [env: MUSTER_TEAM] [default: default]
    #[arg(short = 'T', long, global = true, visible_alias = "namespace")]
    pub(crate) team: Option<String>,
    /// A context of the configuration file [env: MUSTER_CONTEXT]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// How results are written to stdout [env: MUSTER_OUTPUT] [default: table]
    #[arg(short, long, global = true, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    /// Tables without their first line
    #[arg(long, global = true)]
    pub(crate) no_headers: bool,
    /// Ids only, and no notes
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Colours; also NO_COLOR and MUSTER_NO_COLOR [default: auto]
    #[arg(long, global = true, value_name = "WHEN")]
    pub(crate) color: Option<ColorChoice>,
}

/// The forms of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Wide,
    Json,
    Jsonl,
    Yaml,
    Name,
}

impl Format {
    /// Whether a program reads it, and not a person.
    pub(crate) const fn is_for_programs(self) -> bool {
        match self {
            Self::Json | Self::Jsonl | Self::Yaml | Self::Name => true,
            Self::Table | Self::Wide => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Submit a job and follow it (job run)
    Run(Box<RunArgs>),
    /// List jobs, or the tasks of one job (job list, task list)
    Ps(ListArgs),
    /// Wait until jobs or tasks have ended (job wait)
    Wait(WaitArgs),
    /// Cancel jobs or some of their tasks (job cancel)
    Cancel(CancelArgs),
    /// The output of a task (task logs)
    Logs(LogsArgs),
    /// Why a job or task waits, was retried or ended as it did
    Why(WhyArgs),
    /// Jobs: run, list, get, wait, cancel
    Job(Box<JobArgs>),
    /// Tasks: list, get, logs, cancel
    Task(TaskArgs),
    /// Tasks that wait for a person because too many of their attempts died
    Quarantine(QuarantineArgs),
    /// Agents: list, get, cordon, uncordon, drain; without a verb, the daemon of a worker host
    Agent(AgentArgs),
    /// Channels: list, get, set, refresh, history
    Channel(ChannelArgs),
    /// Rollouts: start, status, list, pause, resume, promote, abort, rollback
    Rollout(RolloutArgs),
    /// End a rollout, or make the release before current again (rollout rollback)
    #[command(visible_alias = "undo")]
    Rollback(RollbackArgs),
    /// Make channels and rollouts be as manifests say
    Apply(ManifestArgs),
    /// What apply would change
    Plan(ManifestArgs),
    /// Print the JSON Schema of manifests
    Schema,
    /// Coordinator, agent and SQLite in one process
    Up(UpArgs),
    /// The store: backup, restore, adopt; without a verb, the daemon that hands tasks to agents
    Coordinator(CoordinatorCommand),
    /// The configuration and where each value comes from
    Config(ConfigArgs),
    /// Look for what is wrong with the coordinator, the fleet and this host; changes nothing
    Doctor(DoctorArgs),
    /// Whether the coordinator answers and serves
    Health,
    /// The version of this binary and of the coordinator
    Version,
    /// Print a shell's completion script
    Completion { shell: clap_complete::Shell },
}

#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Print every client setting
    Show {
        /// Say where each value comes from
        #[arg(long)]
        origin: bool,
    },
}

#[cfg(test)]
mod tests;
