//! From what waits and what is free to assignments.

use std::collections::BTreeMap;

use super::Fleet;
use super::queue::Turn;
use crate::agent::{Agent, Link};
use crate::effect::Effects;
use crate::ids::{AgentId, TaskId, TeamName};
use crate::job::{Job, LiveJob};
use crate::placement::problem::{Assigned, Class, Demand, Problem, Slot, Solution};
use crate::placement::solve::solve;
use crate::spec::Requirements;
use crate::task::TaskState;
use crate::time::Timestamp;

/// The tasks behind a demand.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// Waits for another attempt.
    Retry(TaskId),
    /// The next ones of the job that were never assigned.
    Unstarted(crate::ids::JobId),
}

/// A problem, and what its ordinals stand for.
struct Posed {
    problem: Problem,
    agents: Vec<AgentId>,
    /// For each class its demands.
    sources: Vec<Vec<Source>>,
}

impl Fleet {
    /// Assigns what can be assigned now.
    pub(super) fn place(&mut self, now: Timestamp, out: &mut Effects) {
        let posed = self.pose();
        let Solution { assigned } = solve(posed.problem);
        for Assigned {
            class,
            demand,
            agent,
        } in assigned
        {
            let task = match posed.sources[class][demand] {
                Source::Retry(task) => Some(task),
                Source::Unstarted(job) => self.jobs.get_mut(&job).and_then(|live| {
                    let index = live.progress.unstarted.pop_first()?;
                    Some(TaskId { job, index })
                }),
            };
            if let Some(task) = task {
                self.assign(now, task, &posed.agents[agent], out);
            }
        }
    }

    fn pose(&self) -> Posed {
        let open: Vec<&Agent> = self
            .agents
            .values()
            .filter(|agent| self.takes_work(agent))
            .collect();
        let agents: Vec<AgentId> = open.iter().map(|agent| agent.id.clone()).collect();
        let slots = open.iter().map(|agent| Slot {
            capacity: agent.profile.capacity.clone(),
            reserved: agent.reserved.clone(),
            digests: agent.digests.clone(),
        });
        let slots: Vec<Slot> = slots.collect();
        // More than this can't be assigned, however much waits.
        let room: u32 = slots.iter().map(Slot::free_places).sum();
        let mut posed = Posed {
            problem: Problem::default(),
            agents,
            sources: Vec::new(),
        };
        posed.problem.agents = slots;
        if room == 0 {
            return posed;
        }
        let mut teams: BTreeMap<&TeamName, usize> = BTreeMap::new();
        let mut keys: BTreeMap<(&TeamName, &String), usize> = BTreeMap::new();
        for ((team, needs), turns) in self.queue.classes() {
            let ordinal = *teams.entry(team).or_insert_with(|| {
                posed
                    .problem
                    .teams
                    .push(self.team_live.get(team).copied().unwrap_or(0));
                posed.problem.teams.len() - 1
            });
            let mut class_keys = Vec::new();
            for (key, limit) in &needs.concurrency {
                let left = limit.saturating_sub(self.live_with(team, key));
                let ordinal = *keys.entry((team, key)).or_insert_with(|| {
                    posed.problem.keys.push(left);
                    posed.problem.keys.len() - 1
                });
                // Jobs may disagree about a key's limit: the smallest holds for all that wait.
                posed.problem.keys[ordinal] = posed.problem.keys[ordinal].min(left);
                class_keys.push(ordinal);
            }
            let eligible = (0..open.len())
                .filter(|agent| matches(open[*agent], needs))
                .collect::<Vec<_>>();
            let (demands, sources) = self.demands(turns, room, &posed.agents);
            posed.sources.push(sources);
            posed.problem.classes.push(Class {
                team: ordinal,
                needs: needs.resources.clone(),
                eligible,
                keys: class_keys,
                demands,
            });
        }
        posed
    }

    pub(super) fn live_with(&self, team: &TeamName, key: &str) -> u32 {
        self.key_live
            .get(&(team.clone(), key.to_owned()))
            .copied()
            .unwrap_or(0)
    }

    /// The first `room` tasks of a class, by job.
    fn demands(
        &self,
        turns: &std::collections::BTreeSet<Turn>,
        room: u32,
        agents: &[AgentId],
    ) -> (Vec<Demand>, Vec<Source>) {
        let mut demands = Vec::new();
        let mut sources = Vec::new();
        let mut total: u32 = 0;
        for (_, _, id) in turns {
            if total >= room {
                break;
            }
            let Some(live) = self.jobs.get(id) else {
                continue;
            };
            let base = Demand {
                priority: live.job.spec.priority,
                seq: live.seq,
                count: 1,
                digest: self.image_of(&live.job).map(|(image, _)| image.digest()),
                avoid: None,
            };
            for index in live
                .ready
                .iter()
                .take(usize::try_from(room).unwrap_or(usize::MAX))
            {
                let avoid = avoided(live, *index)
                    .and_then(|id| agents.iter().position(|agent| agent == id));
                demands.push(Demand {
                    avoid,
                    ..base.clone()
                });
                sources.push(Source::Retry(TaskId {
                    job: *id,
                    index: *index,
                }));
                total += 1;
            }
            let count = live.progress.unstarted.count().min(room);
            if count > 0 {
                demands.push(Demand { count, ..base });
                sources.push(Source::Unstarted(*id));
                total += count;
            }
        }
        (demands, sources)
    }

    /// Whether no known agent would take the job's tasks, even idle and in service.
    pub(super) fn nobody_fits(&self, job: &Job) -> bool {
        let needs = &job.spec.requirements;
        !self.agents.values().any(|agent| {
            !matches!(agent.link, Link::Lost { .. })
                && matches(agent, needs)
                && agent.could_ever_fit(&needs.resources)
        })
    }
}

/// Where an attempt of the task ended for reasons that were not the task's.
fn avoided(live: &LiveJob, index: u32) -> Option<&AgentId> {
    match &live.tasks.get(&index)?.state {
        TaskState::Pending {
            budget: crate::retry::Budget::User,
            ..
        }
        | TaskState::Held { .. } => None,
        TaskState::Pending { previous, .. } => Some(&previous.agent),
    }
}

/// Whether an agent is one that the requirements name, whatever it has free.
pub(super) fn matches(agent: &Agent, needs: &Requirements) -> bool {
    let Requirements {
        pool,
        labels,
        agent: pinned,
        resources: _,
        held,
        concurrency: _,
    } = needs;
    agent.profile.pool == *pool
        && pinned.as_ref().is_none_or(|pinned| *pinned == agent.id)
        && labels
            .iter()
            .all(|(name, value)| agent.profile.labels.get(name) == Some(value))
        && held
            .as_ref()
            .is_none_or(|image| agent.digests.contains(&image.digest()))
}
