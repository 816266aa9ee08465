//! The closed list of ends. It drives retries, metrics, exit codes and colours.

use std::fmt;

use crate::time::Millis;

/// How an attempt ended, and a task with its last attempt. Terminal is terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Exit code 0 or a declared success code, and nobody else had a hand in it.
    Succeeded,
    /// The task's own code ended with another code.
    Failed,
    /// The task's main process was killed for using more memory than its limit.
    Oom,
    /// A limit of time passed.
    Timeout,
    Canceled,
    /// It may have run; how it ended isn't known.
    Lost,
    /// Stopped to free the agent.
    Preempted,
    /// The image could not be had or could not be started.
    ImageError,
    /// Something that is not the task's ended it or kept it from starting.
    InfraError,
}

impl Outcome {
    pub const ALL: [Self; 9] = [
        Self::Succeeded,
        Self::Failed,
        Self::Oom,
        Self::Timeout,
        Self::Canceled,
        Self::Lost,
        Self::Preempted,
        Self::ImageError,
        Self::InfraError,
    ];

    /// The word that people, metrics and stored rows use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Oom => "oom",
            Self::Timeout => "timeout",
            Self::Canceled => "canceled",
            Self::Lost => "lost",
            Self::Preempted => "preempted",
            Self::ImageError => "image_error",
            Self::InfraError => "infra_error",
        }
    }

    /// The outcome that is written `word`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == word)
    }

    /// Which counts when several tasks ended differently; larger is worse.
    #[must_use]
    pub const fn severity(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Canceled => 1,
            Self::Failed | Self::Oom | Self::Timeout => 2,
            Self::Lost | Self::Preempted | Self::ImageError | Self::InfraError => 3,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A stable word that says more than the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndReason {
    /// The process ended by itself with an exit code.
    Exited,
    /// A signal that muster didn't send ended the process, from inside the container.
    Signaled,
    /// A child was killed for memory, and the main process ended with a code.
    ChildOom,
    MemoryLimit,
    RunTimeout,
    QueueTimeout,
    CanceledByUser,
    Drained,
    Superseded,
    /// SIGKILL from outside, by neither muster nor a restart of the engine.
    KilledExternally,
    /// The engine stopped or restarted under it.
    Interrupted,
    /// The host went down under it.
    HostRebooted,
    /// The engine has no record of how it ended.
    EngineLost,
    /// Somebody removed the container.
    ContainerGone,
    /// The agent was silent for too long.
    AgentLost,
    /// Its host stopped it because it had heard nothing of the coordinator for so long.
    Disconnected,
    /// It is known that it never ran.
    NeverStarted,
    /// The agent would not take it.
    Refused,
    /// The engine would not create or start it.
    Rejected,
    NoSuchEntrypoint,
    PullFailed,
    NoSuchImage,
    /// Somebody gave the task up that was in quarantine.
    Dropped,
    /// The store is an older copy: what became of it meanwhile is not known.
    StoreRestored,
    /// A word that a newer version uses.
    Other,
}

impl EndReason {
    pub const ALL: [Self; 25] = [
        Self::Exited,
        Self::Signaled,
        Self::ChildOom,
        Self::MemoryLimit,
        Self::RunTimeout,
        Self::QueueTimeout,
        Self::CanceledByUser,
        Self::Drained,
        Self::Superseded,
        Self::KilledExternally,
        Self::Interrupted,
        Self::HostRebooted,
        Self::EngineLost,
        Self::ContainerGone,
        Self::AgentLost,
        Self::Disconnected,
        Self::NeverStarted,
        Self::Refused,
        Self::Rejected,
        Self::NoSuchEntrypoint,
        Self::PullFailed,
        Self::NoSuchImage,
        Self::Dropped,
        Self::StoreRestored,
        Self::Other,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Signaled => "signaled",
            Self::ChildOom => "child_oom",
            Self::MemoryLimit => "memory_limit",
            Self::RunTimeout => "run_timeout",
            Self::QueueTimeout => "queue_timeout",
            Self::CanceledByUser => "canceled_by_user",
            Self::Drained => "drained",
            Self::Superseded => "superseded",
            Self::KilledExternally => "killed_externally",
            Self::Interrupted => "interrupted",
            Self::HostRebooted => "host_rebooted",
            Self::EngineLost => "engine_lost",
            Self::ContainerGone => "container_gone",
            Self::AgentLost => "agent_lost",
            Self::Disconnected => "disconnected",
            Self::NeverStarted => "never_started",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::NoSuchEntrypoint => "no_such_entrypoint",
            Self::PullFailed => "pull_failed",
            Self::NoSuchImage => "no_such_image",
            Self::Dropped => "dropped",
            Self::StoreRestored => "store_restored",
            Self::Other => "other",
        }
    }

    /// The reason that is written `word`; a word of a newer version is `Other`.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        let known = Self::ALL.into_iter().find(|reason| reason.as_str() == word);
        known.unwrap_or(Self::Other)
    }

    /// It is certain that the task's process never ran.
    #[must_use]
    pub const fn never_ran(self) -> bool {
        match self {
            Self::NeverStarted
            | Self::Refused
            | Self::Rejected
            | Self::NoSuchEntrypoint
            | Self::PullFailed
            | Self::NoSuchImage
            | Self::QueueTimeout => true,
            Self::Exited
            | Self::Signaled
            | Self::ChildOom
            | Self::MemoryLimit
            | Self::RunTimeout
            | Self::CanceledByUser
            | Self::Drained
            | Self::Superseded
            | Self::KilledExternally
            | Self::Interrupted
            | Self::HostRebooted
            | Self::EngineLost
            | Self::ContainerGone
            | Self::AgentLost
            | Self::Disconnected
            | Self::Dropped
            | Self::StoreRestored
            | Self::Other => false,
        }
    }
}

/// How an attempt ended and what is known about why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub outcome: Outcome,
    /// Of the container's main process, if it ended by itself.
    pub exit_code: Option<i32>,
    pub reason: EndReason,
    /// For people; at most 1 KiB, may be empty.
    pub message: String,
}

impl End {
    /// An end without an exit code or a message.
    #[must_use]
    pub const fn of(outcome: Outcome, reason: EndReason) -> Self {
        Self {
            outcome,
            exit_code: None,
            reason,
            message: String::new(),
        }
    }
}

impl fmt::Display for End {
    /// `succeeded`, `failed(2)`, `infra_error (killed_externally)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.outcome, self.exit_code) {
            (Outcome::Failed, Some(code)) => write!(f, "failed({code})"),
            (Outcome::Succeeded, _) => f.write_str("succeeded"),
            (outcome, _) => write!(f, "{outcome} ({})", self.reason.as_str()),
        }
    }
}

/// What an attempt used. Absent: not measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub peak_memory_bytes: Option<u64>,
    pub cpu_micros: Option<u64>,
    pub pull: Option<Millis>,
    /// From create to started.
    pub start: Option<Millis>,
    pub run: Option<Millis>,
}
