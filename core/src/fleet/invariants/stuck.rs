//! Tasks that have not ended, do not move, and have no visible reason for it.

use std::fmt;

use super::super::Fleet;
use super::super::explain::Blocker;
use crate::agent::Link;
use crate::ids::{AgentId, AttemptId, JobId, TaskId};
use crate::job::LiveJob;
use crate::task::{Phase, Place, TaskState};
use crate::time::{Millis, Timestamp};

/// Something that should have moved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stuck {
    /// An agent that is online has not answered the offer.
    OfferUnanswered {
        attempt: AttemptId,
        agent: AgentId,
        since: Timestamp,
    },
    /// It should have been stopped, by its agent and then by the coordinator.
    Overdue {
        attempt: AttemptId,
        agent: AgentId,
        since: Timestamp,
    },
    /// The delay before its next attempt is over, and nothing noticed.
    RetryOverdue { task: TaskId, since: Timestamp },
    /// Nothing keeps the job's tasks from being assigned, and they are not. Right after a change this
    /// may be so for a moment: it is wrong only if it stays.
    NotAssigned { job: JobId },
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfferUnanswered { attempt, agent, .. } => {
                write!(
                    f,
                    "agent {agent} is online and does not answer the offer of {attempt}"
                )
            }
            Self::Overdue { attempt, agent, .. } => {
                write!(
                    f,
                    "{attempt} still runs on {agent} after its limit and grace period"
                )
            }
            Self::RetryOverdue { task, .. } => {
                write!(
                    f,
                    "the delay before the next attempt of {task} is over, and it waits"
                )
            }
            Self::NotAssigned { job } => {
                write!(
                    f,
                    "job {job} waits although nothing keeps its tasks from being assigned"
                )
            }
        }
    }
}

impl Fleet {
    /// Up to `limit` tasks and jobs that should have moved `patience` ago. Costs a walk over all live
    /// tasks, and for each class of jobs that wait one over all agents.
    #[must_use]
    pub fn stuck(&self, now: Timestamp, patience: Millis, limit: usize) -> Vec<Stuck> {
        if self.safe.is_some() {
            return Vec::new(); // nothing moves, and everybody is told why
        }
        let mut found = Vec::new();
        for live in self.jobs.all_begun() {
            for (index, task) in &live.tasks {
                let id = TaskId {
                    job: live.job.id,
                    index: *index,
                };
                let stuck = match &task.state {
                    TaskState::Held { place, phase } => self.stuck_attempt(live, id, place, *phase),
                    TaskState::Pending {
                        not_before,
                        quarantined,
                        ..
                    } => {
                        let in_line = self.is_in_line(&live.job.team, &(*not_before, id));
                        let waits = *quarantined || in_line || live.ready.contains(*index);
                        let since = *not_before;
                        (!waits).then_some((Stuck::RetryOverdue { task: id, since }, since))
                    }
                };
                found.extend(stuck.filter(|(_, since)| *since + patience < now));
                if found.len() >= limit {
                    break;
                }
            }
        }
        let mut found: Vec<Stuck> = found.into_iter().map(|(stuck, _)| stuck).collect();
        // The first job of a class stands for all of it: the rest waits for the same.
        let firsts = self
            .queue
            .classes()
            .filter_map(|(_, turns)| self.jobs.get(turns.first()?.2));
        let waiting = firsts.filter(|live| self.is_next(live, now, patience));
        found.extend(
            waiting
                .map(|live| Stuck::NotAssigned { job: live.job.id })
                .take(limit),
        );
        found.truncate(limit);
        found
    }

    fn stuck_attempt(
        &self,
        live: &LiveJob,
        id: TaskId,
        place: &Place,
        phase: Phase,
    ) -> Option<(Stuck, Timestamp)> {
        let agent = self.agents.get(&place.agent)?;
        if !matches!(agent.link, Link::Online { .. }) {
            return None; // it is out of sight, which is a reason that people see
        }
        let attempt = AttemptId {
            task: id,
            number: place.number,
        };
        let agent = place.agent.clone();
        match phase {
            Phase::Assigned => {
                let since = place.assigned;
                let stuck = Stuck::OfferUnanswered {
                    attempt,
                    agent,
                    since,
                };
                Some((stuck, since))
            }
            // However long: pulling an image has no limit but the engine's.
            Phase::Preparing => None,
            Phase::Running { started } => {
                let spec = &live.job.spec;
                let since =
                    started + spec.run_timeout + self.limits.timeout_backstop + spec.kill_grace;
                Some((
                    Stuck::Overdue {
                        attempt,
                        agent,
                        since,
                    },
                    since,
                ))
            }
        }
    }

    fn is_next(&self, live: &LiveJob, now: Timestamp, patience: Millis) -> bool {
        if live.assignable() == 0 || live.job.created + patience >= now {
            return false;
        }
        let explained = self.explain(now, live.job.id, None);
        let waiting = explained.and_then(|explanation| explanation.waiting);
        waiting.is_some_and(|waiting| waiting.blockers.first() == Some(&Blocker::NextInLine))
    }
}
