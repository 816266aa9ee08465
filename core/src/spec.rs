//! What a job asks for. A `Spec` can only be valid: the shell builds it from the wire and is told,
//! field by field, what it can't take.

use std::cmp::Ordering;
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
    /// Percent of the memory before.
    pub const GROWTH: std::ops::RangeInclusive<u32> = 101..=1000;
    pub const PIDS: u32 = 1 << 22;
    pub const CONCURRENCY_KEYS: usize = 8;
    pub const GRACE: Millis = Millis::from_secs(3_600);
    pub const RUN_TIMEOUT: Millis = Millis::from_secs(30 * 86_400);
    pub const BACKOFF: Millis = Millis::from_secs(86_400);
}

/// A job's specification with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
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
    pub on_disconnect: OnDisconnect,
    pub network: Network,
    pub writable_root: bool,
}

/// Where the digest comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pin {
    /// Each attempt: the channel's of the moment it is assigned.
    Task,
    /// All attempts: the one that was current at submission.
    Run,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pull {
    Missing,
    /// Only agents that hold the image may run it.
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Delivery {
    AtLeastOnce,
    /// Never start again after an unknown outcome.
    AtMostOnce,
}

/// What becomes of a running attempt while its agent hears nothing of the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnDisconnect {
    /// It goes on.
    Finish,
    /// Its host stops it when the last contact is so long ago.
    StopAfter(Millis),
}

/// What two hosts' clocks and the looks at a lease may be apart, besides a tenth of the span.
const LEASE_SLACK: Millis = Millis::from_secs(5);

impl Spec {
    /// So long after the last contact with its agent, an attempt has stopped, however its host was cut
    /// off, unless the host stood still as a whole. `None`: it may still run.
    #[must_use]
    pub const fn stopped_after(&self) -> Option<Millis> {
        match self.on_disconnect {
            OnDisconnect::Finish => None,
            OnDisconnect::StopAfter(limit) => {
                let span = limit.0.saturating_add(self.kill_grace.0);
                let slack = (span / 10).saturating_add(LEASE_SLACK.0);
                Some(Millis(span.saturating_add(slack)))
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    /// Only agents whose containers stop by themselves when nobody renews their lease.
    pub lease: bool,
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

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
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

/// By its fields; ranges have no order of their own.
impl Ord for RetryRule {
    fn cmp(&self, other: &Self) -> Ordering {
        let Self {
            outcomes,
            exit_codes,
            action,
        } = self;
        let bounds = |codes: &[RangeInclusive<u8>]| -> Vec<(u8, u8)> {
            codes
                .iter()
                .cloned()
                .map(RangeInclusive::into_inner)
                .collect()
        };
        outcomes
            .cmp(&other.outcomes)
            .then_with(|| bounds(exit_codes).cmp(&bounds(&other.exit_codes)))
            .then_with(|| action.cmp(&other.action))
    }
}

impl PartialOrd for RetryRule {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetryAction {
    /// The task takes the end.
    Fail,
    /// Another attempt, as far as the budget goes.
    Retry,
    /// The same with more memory. An attempt that had the most there is takes the end.
    Grow(Growth),
}

/// How much more memory than the last one the next attempt asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Growth {
    /// Of what the last one asked for: `limits::GROWTH`, 101 to 1000.
    pub percent: u32,
    /// No attempt asks for more, in bytes.
    pub most: u64,
}

impl Growth {
    /// What follows an attempt that asked for so many bytes; `None`: it had the most there is.
    #[must_use]
    pub fn after(self, asked: u64) -> Option<u64> {
        let grown = u128::from(asked) * u128::from(self.percent) / 100;
        let grown = u64::try_from(grown).unwrap_or(u64::MAX);
        (asked < self.most).then(|| grown.min(self.most))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backoff {
    pub kind: BackoffKind,
    pub initial: Millis,
    /// No delay is longer.
    pub cap: Millis,
    /// Full jitter: a random delay between zero and the computed one.
    pub jitter: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
