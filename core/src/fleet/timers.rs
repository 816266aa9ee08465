//! Moments at which the fleet wants to look again.

use std::collections::BTreeSet;

use crate::channel::ChannelId;
use crate::ids::{AgentId, AttemptId, JobId, TaskId, TeamName};
use crate::image::Digest;
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
    /// The attempt's host is silent, and has stopped it by now.
    CutOff(AttemptId),
    /// A grace is over: has anybody called?
    Suspect,
    DrainDeadline(AgentId),
    /// An agent that refused offers, or where nothing started, may be asked again.
    Rested(AgentId),
    /// The pause after a pull that failed is over, or long over.
    PullAgain(Digest),
    /// There is room, and there are jobs that the last placement did not look at.
    LookOn,
    /// A step of the channel's rollout has a deadline, or an attempt on trial takes too long.
    Rollout(ChannelId),
    /// An attempt on a release that was taken back takes too long.
    TrialOverdue(AttemptId),
    /// A container without a journal that nobody knows has been there for long enough.
    Orphan(AgentId, AttemptId),
    /// The team's next retry may go.
    Pace(TeamName),
}

impl Timer {
    /// Whether it may stop an attempt or end a task: a fleet in safe mode does not.
    pub(super) const fn ends_something(&self) -> bool {
        match self {
            Self::Retry(_)
            | Self::Suspect
            | Self::Rested(_)
            | Self::PullAgain(_)
            | Self::LookOn
            | Self::Pace(_) => false,
            Self::OfferUnanswered(_)
            | Self::QueueTimeout(_)
            | Self::RunBackstop(_)
            | Self::AgentLost(_)
            | Self::CutOff(_)
            | Self::DrainDeadline(_)
            | Self::Orphan(..)
            | Self::Rollout(_)
            | Self::TrialOverdue(_) => true,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Timestamp, Timer)>);

impl Timers {
    pub(super) fn set(&mut self, at: Timestamp, timer: Timer) {
        self.0.insert((at, timer));
    }

    /// Forgets a timer that is of no use any more. Worth it where it is due late: each would be kept until then.
    pub(super) fn clear(&mut self, at: Timestamp, timer: Timer) {
        self.0.remove(&(at, timer));
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
