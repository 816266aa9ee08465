//! What is true of a fleet after every event. Checked by tests and simulations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Fleet;
use crate::agent::Agent;
use crate::ids::{AgentId, AttemptId, TaskId, TeamName};
use crate::job::LiveJob;
use crate::spec::Resources;
use crate::task::{Phase, TaskState};

/// An invariant that does not hold: a bug in the core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub invariant: &'static str,
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

impl Fleet {
    /// Everything that is wrong; empty in a correct fleet. Costs a walk over all live tasks.
    #[must_use]
    pub fn broken_invariants(&self) -> Vec<Broken> {
        let mut broken = Vec::new();
        let held = self.held_attempts();
        self.places_are_counted_from_live_attempts(&held, &mut broken);
        self.shares_are_counted_from_live_attempts(&held, &mut broken);
        for agent in self.agents.values() {
            capacity_is_kept(agent, &mut broken);
        }
        for live in self.jobs.values() {
            counts_add_up(live, &mut broken);
            self.queued_while_assignable(live, &mut broken);
        }
        broken
    }

    fn held_attempts(&self) -> BTreeMap<AttemptId, (&AgentId, &LiveJob)> {
        let mut held = BTreeMap::new();
        for live in self.jobs.values() {
            for (index, task) in &live.tasks {
                if let TaskState::Held { place, .. } = &task.state {
                    let id = TaskId {
                        job: live.job.id,
                        index: *index,
                    };
                    held.insert(
                        AttemptId {
                            task: id,
                            number: place.number,
                        },
                        (&place.agent, live),
                    );
                }
            }
        }
        held
    }

    fn places_are_counted_from_live_attempts(
        &self,
        held: &BTreeMap<AttemptId, (&AgentId, &LiveJob)>,
        broken: &mut Vec<Broken>,
    ) {
        for agent in self.agents.values() {
            let here = held.iter().filter(|(_, (on, _))| **on == agent.id);
            let live: BTreeSet<AttemptId> = here.clone().map(|(attempt, _)| *attempt).collect();
            let sum = here.fold(Resources::default(), |sum, (_, (_, live))| {
                sum.plus(&live.job.spec.requirements.resources)
            });
            let same = live == agent.live && sum == agent.reserved.resources;
            if !same || u32::try_from(live.len()) != Ok(agent.reserved.places) {
                let what = format!("agent {} has {live:?}, thinks {:?}", agent.id, agent.live);
                broken.push(Broken {
                    invariant: "places are counted from live attempts",
                    what,
                });
            }
        }
    }

    fn shares_are_counted_from_live_attempts(
        &self,
        held: &BTreeMap<AttemptId, (&AgentId, &LiveJob)>,
        broken: &mut Vec<Broken>,
    ) {
        let mut teams: BTreeMap<TeamName, u32> = BTreeMap::new();
        let mut keys: BTreeMap<(TeamName, String), u32> = BTreeMap::new();
        for (_, live) in held.values() {
            *teams.entry(live.job.team.clone()).or_default() += 1;
            for key in live.job.spec.requirements.concurrency.keys() {
                *keys
                    .entry((live.job.team.clone(), key.clone()))
                    .or_default() += 1;
            }
        }
        if teams != self.team_live || keys != self.key_live {
            let what = format!(
                "{teams:?} {keys:?}, thinks {:?} {:?}",
                self.team_live, self.key_live
            );
            broken.push(Broken {
                invariant: "shares are counted from live attempts",
                what,
            });
        }
    }

    fn queued_while_assignable(&self, live: &LiveJob, broken: &mut Vec<Broken>) {
        if self.queue.contains(live) != (live.assignable() > 0) {
            let what = format!("job {} with {} to assign", live.job.id, live.assignable());
            broken.push(Broken {
                invariant: "a job is queued while it has tasks to assign",
                what,
            });
        }
    }
}

/// The sum of reservations never passes what the agent has, unless the agent itself came back smaller.
fn capacity_is_kept(agent: &Agent, broken: &mut Vec<Broken>) {
    let all = &agent.profile.capacity;
    let fits = agent.reserved.resources.fits_in(&all.resources);
    if agent.reserved.places > all.places || !fits {
        let what = format!("agent {}: {:?} of {all:?}", agent.id, agent.reserved);
        broken.push(Broken {
            invariant: "capacity is kept",
            what,
        });
    }
}

fn counts_add_up(live: &LiveJob, broken: &mut Vec<Broken>) {
    let progress = &live.progress;
    let counts = &progress.counts;
    let (mut pending, mut preparing, mut running) = (progress.unstarted.count(), 0, 0);
    for task in live.tasks.values() {
        match &task.state {
            TaskState::Pending { .. } => pending += 1,
            TaskState::Held {
                phase: Phase::Assigned | Phase::Preparing,
                ..
            } => preparing += 1,
            TaskState::Held {
                phase: Phase::Running { .. },
                ..
            } => running += 1,
        }
    }
    let live_counts = (counts.pending, counts.preparing, counts.running);
    let ended: u32 = crate::outcome::Outcome::ALL
        .into_iter()
        .map(|end| counts.ended(end))
        .sum();
    if live_counts != (pending, preparing, running) || counts.live() + ended != live.job.array {
        let what = format!("job {} of {}: {counts:?}", live.job.id, live.job.array);
        broken.push(Broken {
            invariant: "every task is counted once",
            what,
        });
    }
}
