//! Moments at which the fleet wants to look again.

use std::collections::BTreeSet;

use crate::ids::{AgentId, AttemptId, JobId, TaskId};
use crate::time::Timestamp;

/// What to look at. A timer is a reason to look, not a fact: by then it may be out of date.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The delay before a task's next attempt is over.
    Retry(TaskId),
    OfferUnanswered(AttemptId),
    /// Tasks of the job that never started have waited for too long.
    QueueTimeout(JobId),
    /// The agent should have ended the attempt.
    RunBackstop(AttemptId),
    AgentLost(AgentId),
    /// A grace is over: has anybody called?
    Suspect,
    DrainDeadline(AgentId),
    /// An agent that refused offers may be asked again.
    Rested(AgentId),
}

impl Timer {
    /// Whether it may stop an attempt or end a task: a fleet in safe mode does not.
    pub(super) const fn ends_something(&self) -> bool {
        match self {
            Self::Retry(_) | Self::Suspect | Self::Rested(_) => false,
            Self::OfferUnanswered(_)
            | Self::QueueTimeout(_)
            | Self::RunBackstop(_)
            | Self::AgentLost(_)
            | Self::DrainDeadline(_) => true,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Timestamp, Timer)>);

impl Timers {
    pub(super) fn set(&mut self, at: Timestamp, timer: Timer) {
        self.0.insert((at, timer));
    }

    /// Takes out the first timer that is due.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<Timer> {
        let first = self.0.first()?;
        if first.0 > now {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }

    pub(super) fn first(&self) -> Option<Timestamp> {
        self.0.first().map(|(at, _)| *at)
    }
}
