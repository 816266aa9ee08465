//! Where a task stands. What is true in one state only lives in that state.

use crate::ids::{AgentId, AttemptNo};
use crate::image::Image;
use crate::outcome::End;
use crate::retry::{Budget, Spent};
use crate::time::Timestamp;

/// A task that was assigned at least once and has not ended. Others are only an index of their job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub state: TaskState,
    /// The newest attempt: the fence.
    pub last: AttemptNo,
    pub spent: Spent,
    /// Not stored: after a restart of the coordinator it begins with the last one.
    pub tried: Tried,
}

/// Agents where attempts of a task ended for reasons that were not the task's; the newest is last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tried(Vec<AgentId>);

impl Tried {
    /// So many at most: the oldest is forgotten.
    const MAX: usize = 8;

    /// Takes note of where the attempt before this wait ended.
    pub fn note(&mut self, waits: &TaskState) {
        let previous = match waits {
            TaskState::Pending {
                budget: Budget::User,
                ..
            }
            | TaskState::Held { .. } => return,
            TaskState::Pending { previous, .. } => previous,
        };
        self.0.retain(|agent| *agent != previous.agent);
        if self.0.len() == Self::MAX {
            self.0.remove(0);
        }
        self.0.push(previous.agent.clone());
    }

    pub fn agents(&self) -> impl Iterator<Item = &AgentId> {
        self.0.iter()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskState {
    /// Waits for another attempt, not before then, which `budget` pays for.
    Pending {
        not_before: Timestamp,
        budget: Budget,
        /// Too many of its attempts died: only a person lets it go on, whatever the time.
        quarantined: bool,
        previous: Previous,
    },
    /// An attempt holds it.
    Held { place: Place, phase: Phase },
}

/// How far the attempt that holds the task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Offered; the agent has not answered.
    Assigned,
    /// Accepted: pulling, creating, starting.
    Preparing,
    Running {
        started: Timestamp,
    },
}

/// The attempt that holds the task. Its number is the fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub number: AttemptNo,
    pub agent: AgentId,
    pub image: Image,
    /// The channel's release that gave the image.
    pub release: Option<u64>,
    pub assigned: Timestamp,
    /// An order to stop it is out.
    pub stop: Option<Stop>,
}

/// What is remembered of the attempt before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous {
    pub agent: AgentId,
    pub image: Image,
    pub release: Option<u64>,
    pub assigned: Timestamp,
    pub started: Option<Timestamp>,
}

/// Why the coordinator wants an attempt to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    Canceled,
    Preempted,
    /// A newer attempt holds the task, or the task has ended.
    Superseded,
    /// The agent should have stopped it long ago.
    Timeout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    pub reason: StopReason,
    /// KILL at once.
    pub now: bool,
}

/// What an agent says about an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Accepted,
    Started { at: Timestamp },
}

/// Why news does not apply. Kept as evidence by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("attempt {current} holds the task")]
    Superseded { current: AttemptNo },
    #[error("no attempt holds the task")]
    NotHeld,
    #[error("the task has ended")]
    Ended,
}

impl Phase {
    /// When its container started, if it did.
    #[must_use]
    pub const fn started(self) -> Option<Timestamp> {
        match self {
            Self::Running { started } => Some(started),
            Self::Assigned | Self::Preparing => None,
        }
    }

    /// The next phase. News may be told twice or late, because reports are repeated until they are
    /// acknowledged; that changes nothing.
    #[must_use]
    pub const fn advance(self, news: Progress) -> Self {
        match (self, news) {
            (Self::Assigned, Progress::Accepted) => Self::Preparing,
            (Self::Assigned | Self::Preparing, Progress::Started { at }) => {
                Self::Running { started: at }
            }
            (same @ (Self::Preparing | Self::Running { .. }), Progress::Accepted)
            | (same @ Self::Running { .. }, Progress::Started { .. }) => same,
        }
    }
}

impl Task {
    /// Whether it waits for a person.
    #[must_use]
    pub const fn is_quarantined(&self) -> bool {
        matches!(
            self.state,
            TaskState::Pending {
                quarantined: true,
                ..
            }
        )
    }

    /// The place of the attempt `by`, if it holds the task.
    ///
    /// # Errors
    /// If another attempt holds the task, or none.
    pub fn held_by(&mut self, by: AttemptNo) -> Result<(&mut Place, &mut Phase), Refused> {
        match &mut self.state {
            TaskState::Held { place, .. } if place.number != by => Err(Refused::Superseded {
                current: place.number,
            }),
            TaskState::Held { place, phase } => Ok((place, phase)),
            TaskState::Pending { .. } => Err(Refused::NotHeld),
        }
    }
}

/// A task as rows have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRow {
    pub state: RowState,
    pub last: AttemptNo,
    pub spent: Spent,
    /// Of the newest attempt.
    pub agent: AgentId,
    pub image: Image,
    pub release: Option<u64>,
    pub assigned: Timestamp,
    pub started: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowState {
    Pending {
        not_before: Timestamp,
        budget: Budget,
        quarantined: bool,
    },
    Assigned,
    Preparing,
    Running,
    Ended {
        end: End,
        at: Timestamp,
    },
}
