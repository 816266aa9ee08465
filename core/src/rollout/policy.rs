//! What a channel's rollouts have to pass. A `Policy` can only be valid: the shell builds it from a
//! manifest or from the wire and says, field by field, what it can't take.

use std::collections::BTreeSet;

use crate::ids::{JobName, PoolName};
use crate::time::Millis;

/// Bounds of what a policy may hold. Each is checked where the wire or a manifest is read.
pub mod limits {
    use crate::time::Millis;

    /// Agents that fetch at the same time.
    pub const AT_A_TIME: u32 = 1_000;
    /// Attempts of a canary, and of its sample.
    pub const ATTEMPTS: u32 = 100_000;
    /// Longest phase.
    pub const PATIENCE: Millis = Millis::from_secs(7 * 86_400);
    /// Names of jobs in one phase.
    pub const JOBS: usize = 1_000;
    /// A gate on time or memory, in percent of before.
    pub const PERCENT_OF_BEFORE: u32 = 10_000;
}

/// Which phases a rollout of the channel goes through. The default has none: a push is promoted at
/// once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    pub prefetch: Option<Prefetch>,
    pub validate: Option<Validate>,
    pub canary: Option<Canary>,
    /// Attempts that run when the release is promoted: `None` lets them finish.
    pub restart: Option<Restart>,
    pub bake: Option<Bake>,
    pub gates: Gates,
    pub newer: Newer,
}

/// Has agents fetch the image before any task asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefetch {
    /// How many of the agents must hold it before the rollout goes on, 1 to 100.
    pub enough_percent: u32,
    /// Agents that fetch at the same time; at least 1.
    pub at_a_time: u32,
    pub patience: Millis,
}

impl Default for Prefetch {
    /// 80 %, 4 at a time, 15 minutes.
    fn default() -> Self {
        Self {
            enough_percent: 80,
            at_a_time: 4,
            patience: Millis::from_secs(900),
        }
    }
}

/// Runs one task on the new image that has to succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validate {
    /// Empty: what the image's label `muster.validate` says.
    pub command: Vec<String>,
    pub timeout: Millis,
    pub exit_code: u8,
    pub pool: PoolName,
}

/// Lets some real tasks run on the new image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    pub share: Share,
    /// Only jobs of these names; empty: all.
    pub jobs: BTreeSet<JobName>,
    /// So many attempts have to be judged.
    pub sample: u32,
    /// How long to wait for the sample.
    pub patience: Millis,
    pub after_patience: AfterPatience,
}

/// Which of the tasks that could be canaries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// The first so many.
    First(u32),
    /// So many of a hundred, by the task's id; 1 to 100.
    Percent(u32),
}

/// What to do when the sample is still too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AfterPatience {
    /// What was judged was good enough.
    #[default]
    Promote,
    RollBack,
}

/// Stops what runs on the old image when the new one is promoted, and waits for the new attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// Only jobs of these names; empty: all.
    pub jobs: BTreeSet<JobName>,
    /// A new attempt that has run for so long is healthy.
    pub healthy_after: Millis,
    pub patience: Millis,
}

/// Watches real tasks for a while after the promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bake {
    pub lasts: Millis,
}

/// What the attempts of the new image are held against: the last attempts of the same job name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gates {
    /// Fewer failures than this break nothing; at least 1.
    pub failures: u32,
    /// How many more of a hundred may fail than before, 0 to 100.
    pub failure_points: u32,
    /// The 95th percentile of the run time, in percent of before; `None`: not looked at.
    pub duration_percent: Option<u32>,
    /// The 95th percentile of the peak memory, in percent of before; `None`: not looked at.
    pub memory_percent: Option<u32>,
}

impl Default for Gates {
    /// 3 failures and 5 points; twice the time; one and a half times the memory.
    fn default() -> Self {
        Self {
            failures: 3,
            failure_points: 5,
            duration_percent: Some(200),
            memory_percent: Some(150),
        }
    }
}

/// What a push does while a rollout is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Newer {
    /// Ends it and begins the newer one.
    #[default]
    Supersede,
    /// Waits for its end; of several the newest is taken.
    Queue,
}
