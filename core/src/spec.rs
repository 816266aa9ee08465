//! What a job asks for. A `Spec` can only be valid: the shell builds it from the wire and is told,
//! field by field, what it can't take.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::ids::{AgentId, ChannelName, JobName, PoolName};
use crate::image::Image;
use crate::outcome::Outcome;
use crate::time::Millis;

/// Bounds of what a spec may hold. Each is checked where the wire is read.
pub mod limits {
    use crate::time::Millis;

    /// Tasks of one job.
    pub const ARRAY: u32 = 10_000_000;
    /// Jobs of one submission.
    pub const BATCH: usize = 10_000;
    /// Bytes of an idempotency key.
    pub const KEY: usize = 200;
    /// Arguments of a command, and bytes of all of them.
    pub const ARGS: usize = 1_024;
    pub const ARGS_BYTES: usize = 128 << 10;
    /// Bytes of names and values of the environment together.
    pub const ENV_BYTES: usize = 128 << 10;
    /// Labels, and required labels, of one job; bytes of a value.
    pub const LABELS: usize = 64;
    pub const LABEL_VALUE: usize = 256;
    pub const PRIORITY: i32 = 1_000;
    pub const RETRIES: u32 = 100;
    /// Of one job, and of ranges of exit codes in one.
    pub const RETRY_RULES: usize = 32;
    pub const CPU_MILLIS: u32 = 1_024_000;
    /// What the engine takes at least.
    pub const MEMORY_MIN: u64 = 6 << 20;
    pub const MEMORY_MAX: u64 = 64 << 40;
    pub const PIDS: u32 = 1 << 22;
    pub const CONCURRENCY_KEYS: usize = 8;
    pub const GRACE: Millis = Millis::from_secs(3_600);
    pub const RUN_TIMEOUT: Millis = Millis::from_secs(30 * 86_400);
    pub const BACKOFF: Millis = Millis::from_secs(86_400);
}

/// A job's specification with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub name: JobName,
    pub image: ImageSource,
    pub pull: Pull,
    /// `None`: the image's own.
    pub entrypoint: Option<Vec<String>>,
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    pub requirements: Arc<Requirements>,
    /// Larger goes first.
    pub priority: i32,
    pub queue_timeout: Option<Millis>,
    pub run_timeout: Millis,
    pub kill_grace: Millis,
    pub retry: RetryPolicy,
    pub success_codes: Vec<u8>,
    pub delivery: Delivery,
    pub network: Network,
    pub writable_root: bool,
}

/// Where the digest comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    Channel {
        name: ChannelName,
        pin: Pin,
    },
    /// As written; what it meant at submission is the job's `pinned` image.
    Reference {
        text: String,
    },
}

/// Which digest the tasks of a job on a channel run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// Each attempt: the channel's of the moment it is assigned.
    Task,
    /// All attempts: the one that was current at submission.
    Run,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    Missing,
    /// Only agents that hold the image may run it.
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    AtLeastOnce,
    /// Never start again after an unknown outcome.
    AtMostOnce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The team's bridge network.
    Bridge,
    None,
}

/// What decides where a task may run. Jobs with equal requirements wait in one class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirements {
    pub pool: PoolName,
    /// Labels an agent must have.
    pub labels: BTreeMap<String, String>,
    pub agent: Option<AgentId>,
    pub resources: Resources,
    /// Only agents that hold this image: `--pull never`.
    pub held: Option<Image>,
    /// At most so many live attempts of the team with this key.
    pub concurrency: BTreeMap<String, u32>,
}

/// Amounts, of a task's request or an agent's capacity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu_millis: u32,
    pub memory_bytes: u64,
    /// Processes and threads; not counted against an agent.
    pub pids: u32,
    pub gpus: u32,
    pub custom: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// After `failed`, `oom` and `timeout`.
    pub user: u32,
    /// After `lost`, `infra_error` and failed pulls.
    pub infra: u32,
    pub backoff: Backoff,
    /// The first that matches an end decides about it.
    pub rules: Vec<RetryRule>,
}

/// What to do after some ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryRule {
    /// Empty: any.
    pub outcomes: BTreeSet<Outcome>,
    /// Empty: any, or none.
    pub exit_codes: Vec<RangeInclusive<u8>>,
    pub action: RetryAction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAction {
    /// The task takes the end.
    Fail,
    /// Another attempt, as far as the budget goes.
    Retry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub kind: BackoffKind,
    pub initial: Millis,
    /// No delay is longer.
    pub cap: Millis,
    /// Full jitter: a random delay between zero and the computed one.
    pub jitter: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackoffKind {
    Fixed,
    /// Doubles with each retry.
    Exponential,
}

impl Default for Backoff {
    /// 10 s, doubling, up to 6 minutes, with full jitter.
    fn default() -> Self {
        Self {
            kind: BackoffKind::Exponential,
            initial: Millis::from_secs(10),
            cap: Millis::from_secs(360),
            jitter: true,
        }
    }
}
