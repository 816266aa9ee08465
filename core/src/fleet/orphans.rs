//! Containers that an agent has and of which its journal says nothing: it lost its disk, or got an older one
//! back.
//!
//! What holds its task is taken up again. What is known to be over is discarded at once, and what nobody
//! here knows only after a while: another coordinator's store may be on its way back.

use std::collections::{BTreeMap, BTreeSet};

use super::Fleet;
use super::timers::Timer;
use crate::agent::Link;
use crate::effect::{Effects, Order};
use crate::ids::{AgentId, AttemptId};
use crate::task::TaskState;
use crate::time::Timestamp;

/// Since when each was named, until its agent says a Hello without it.
pub(super) type Orphans = BTreeMap<(AgentId, AttemptId), Timestamp>;

/// What the fleet knows about an attempt that no journal knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It holds its task, on this agent.
    Holds,
    /// Its task has ended, or goes on with another attempt.
    Over,
    /// Its job has ended or never was, or its task is not that far.
    Unknown,
}

impl Fleet {
    /// An agent's Hello named these, and no others.
    pub(super) fn note_orphans(
        &mut self,
        now: Timestamp,
        agent: &AgentId,
        named: &BTreeSet<AttemptId>,
        out: &mut Effects,
    ) {
        self.orphans
            .retain(|(of, attempt), _| of != agent || named.contains(attempt));
        for attempt in named {
            let key = (agent.clone(), *attempt);
            self.orphans.entry(key).or_insert(now);
            self.judge_orphan(now, agent, *attempt, out);
        }
    }

    pub(super) fn judge_orphan(
        &mut self,
        now: Timestamp,
        agent: &AgentId,
        attempt: AttemptId,
        out: &mut Effects,
    ) {
        let Some(first) = self.orphans.get(&(agent.clone(), attempt)) else {
            return; // it is gone, or was taken up
        };
        let grace_over = *first + self.limits.orphan_grace;
        let standing = self.standing(agent, attempt);
        if standing == Standing::Holds {
            return; // the Hello had it taken up
        }
        let online = self
            .agents
            .get(agent)
            .is_some_and(|agent| matches!(agent.link, Link::Online { .. }));
        let wanted_no_more = standing == Standing::Over || grace_over <= now;
        if self.safe.is_some() || !wanted_no_more {
            // Nothing is stopped before somebody has looked: in safe mode this timer waits.
            let timer = Timer::Orphan(agent.clone(), attempt);
            self.timers.set(grace_over.max(now), timer);
        } else if online {
            out.order(agent, Order::Discard { attempt });
        }
    }

    fn standing(&self, agent: &AgentId, attempt: AttemptId) -> Standing {
        let (index, number) = (attempt.task.index, attempt.number);
        let Some(live) = self.jobs.get(attempt.task.job) else {
            return Standing::Unknown;
        };
        let Some(task) = live.tasks.get(&index) else {
            let ended = index < live.job.array && !live.progress.unstarted.contains(index);
            return if ended {
                Standing::Over
            } else {
                Standing::Unknown
            };
        };
        match &task.state {
            TaskState::Held { place, .. } if place.number == number => {
                if place.agent == *agent {
                    Standing::Holds
                } else {
                    Standing::Unknown
                }
            }
            TaskState::Held { .. } | TaskState::Pending { .. } if number <= task.last => {
                Standing::Over
            }
            TaskState::Held { .. } | TaskState::Pending { .. } => Standing::Unknown,
        }
    }

    /// The agent shall follow the container as if it had never lost its journal.
    pub(super) fn adopt(&mut self, attempt: AttemptId, out: &mut Effects) {
        let Some((place, _)) = self.holds(attempt) else {
            return;
        };
        let place = place.clone();
        let offer = self.offer_of(attempt, &place);
        out.order(&place.agent, Order::Adopt(Box::new(offer)));
        if let Some(stop) = place.stop {
            out.order(&place.agent, Order::Stop { attempt, stop });
        }
    }
}
