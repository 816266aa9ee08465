//! A store that is an older copy of itself: what it does not know may have happened.

use std::fmt;

use crate::ids::{AgentId, AttemptId, AttemptNo, JobId, JobName, Term};
use crate::outcome::End;
use crate::ranges::Ranges;
use crate::time::Timestamp;

/// Why the fleet starts and stops nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SafeMode {
    /// The store was restored from a backup.
    Restored {
        /// When the backup was made, if it says so.
        backup: Option<Timestamp>,
        at: Timestamp,
        /// Attempts of the restored jobs up to this number may exist.
        fence: AttemptNo,
    },
    /// The store is older than what an agent has seen, and nobody said that it was restored.
    Behind {
        agent: AgentId,
        seen: Term,
        at: Timestamp,
    },
}

impl fmt::Display for SafeMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restored { .. } => f.write_str(
                "the store was restored from a backup; muster coordinator adopt decides",
            ),
            Self::Behind { agent, seen, .. } => write!(
                f,
                "the store is an old copy: agent {agent} has seen term {}; muster coordinator restore decides",
                seen.0
            ),
        }
    }
}

/// What taking a restored store over means, as far as agents have told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    pub why: SafeMode,
    /// Agents that have called since.
    pub called: Vec<AgentId>,
    /// Agents that the store has as not lost, and that have not called.
    pub missing: Vec<AgentId>,
    /// Attempts that the store did not know and agents hold.
    pub taken_over: u32,
    /// Tasks that will be run although they may have run after the backup.
    pub again: Vec<Tasks>,
    /// Tasks of `at_most_once` jobs that may have run after the backup: they end `lost`.
    pub lost: Vec<Tasks>,
    /// Attempts that agents hold and no task has room for: of jobs that the store does not know, of
    /// tasks that have ended, or overtaken. What runs is stopped; an end is dropped.
    pub strays: Vec<Stray>,
}

/// Some tasks of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tasks {
    pub job: JobId,
    pub name: JobName,
    pub tasks: Ranges,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    pub attempt: AttemptId,
    pub agent: AgentId,
    /// `None`: it has not ended.
    pub end: Option<End>,
}
