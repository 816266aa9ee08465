//! From what waits and what is free to assignments.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::queue::Turn;
use super::timers::Timer;
use super::{ClassKey, Fleet};
use crate::agent::{Agent, Link, Schedulable};
use crate::effect::Effects;
use crate::ids::{AgentId, TaskId, TeamName};
use crate::image::Digest;
use crate::job::{Job, LiveJob};
use crate::placement::problem::{Assigned, Class, Demand, Problem, Slot, Solution};
use crate::placement::solve::solve;
use crate::spec::Requirements;
use crate::time::{Millis, Timestamp};

/// Most jobs of a class that are looked at in one pass from its head on, and most after these: more than places have
/// room for them only wait for images that can't be pulled, or for their first start.
const LOOKED_AT: usize = 10_000;
/// The pass after one that looked at some only.
const LOOK_ON: Millis = Millis::from_secs(1);

/// Classes of which a pass looked at some jobs only. Without a place where the next one goes on, jobs whose image
/// can't be pulled would keep all behind them waiting.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Up to where the last pass looked.
    upto: BTreeMap<ClassKey, Turn>,
    /// The timer is set.
    goes_on: bool,
}

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
    upto: BTreeMap<ClassKey, Turn>,
    /// There is room, and there are jobs that nobody looked at.
    unseen: bool,
}

/// What is asked of the jobs of a class.
struct Ask<'a> {
    now: Timestamp,
    needs: &'a Requirements,
    room: u32,
    /// In order.
    agents: &'a [AgentId],
}

#[derive(Default)]
struct Found {
    demands: Vec<Demand>,
    sources: Vec<Source>,
    /// Tasks that may go to any agent that fits.
    total: u32,
}

impl Fleet {
    /// Assigns what can be assigned now.
    pub(super) fn place(&mut self, now: Timestamp, out: &mut Effects) {
        let posed = self.pose(now);
        self.look.upto = posed.upto;
        if posed.unseen && !std::mem::replace(&mut self.look.goes_on, true) {
            self.timers.set(now + LOOK_ON, Timer::LookOn);
        }
        let Solution { assigned } = solve(posed.problem);
        for Assigned {
            class,
            demand,
            agent,
        } in assigned
        {
            let task = match posed.sources[class][demand] {
                Source::Retry(task) => Some(task),
                Source::Unstarted(job) => self.jobs.get_mut(job).and_then(|live| {
                    let index = live.progress.unstarted.pop_first()?;
                    Some(TaskId { job, index })
                }),
            };
            if let Some(task) = task {
                self.assign(now, task, &posed.agents[agent], out);
            }
        }
    }

    pub(super) fn look_on(&mut self) {
        self.look.goes_on = false;
        self.placeable = true;
    }

    fn pose(&self, now: Timestamp) -> Posed {
        let open: Vec<&Agent> = self
            .agents
            .values()
            .filter(|agent| self.takes_work(agent) || self.takes_trial(now, agent))
            .collect();
        let agents: Vec<AgentId> = open.iter().map(|agent| agent.id.clone()).collect();
        let slots: Vec<Slot> = open.iter().map(|agent| slot(agent)).collect();
        // More than this can't be assigned, however much waits.
        let room: u32 = slots.iter().map(Slot::free_places).sum();
        let mut posed = Posed {
            problem: Problem::default(),
            agents,
            sources: Vec::new(),
            upto: BTreeMap::new(),
            unseen: false,
        };
        posed.problem.agents = slots;
        if room == 0 {
            return posed;
        }
        let mut teams: BTreeMap<&TeamName, usize> = BTreeMap::new();
        let mut keys: BTreeMap<(&TeamName, &String), usize> = BTreeMap::new();
        let mut pulls: BTreeMap<Digest, usize> = BTreeMap::new();
        for (key, turns) in self.queue.classes() {
            let (team, needs) = key;
            let ordinal = *teams.entry(team).or_insert_with(|| {
                posed
                    .problem
                    .teams
                    .push(self.team_live.get(team).copied().unwrap_or(0));
                posed.problem.teams.len() - 1
            });
            let class_keys = self.keys_of(key, &mut keys, &mut posed.problem.keys);
            let eligible = (0..open.len())
                .filter(|agent| matches(open[*agent], needs))
                .collect::<Vec<_>>();
            let ask = Ask {
                now,
                needs,
                room,
                agents: &posed.agents,
            };
            let (found, upto) = self.demands(&ask, turns, self.look.upto.get(key));
            posed.unseen |= found.total < room && turns.len() > 2 * LOOKED_AT;
            posed.upto.extend(upto.map(|upto| (key.clone(), upto)));
            let Found {
                mut demands,
                sources,
                total: _,
            } = found;
            for demand in &mut demands {
                demand.pulls = demand.digest.and_then(|digest| {
                    let left = self.may_pull(now, digest)?;
                    Some(*pulls.entry(digest).or_insert_with(|| {
                        posed.problem.pulls.push(left);
                        posed.problem.pulls.len() - 1
                    }))
                });
            }
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

    /// The ordinals of the concurrency keys of a class; those that are new get theirs.
    fn keys_of<'a>(
        &self,
        (team, needs): &'a ClassKey,
        known: &mut BTreeMap<(&'a TeamName, &'a String), usize>,
        left: &mut Vec<u32>,
    ) -> Vec<usize> {
        let ordinal = |(key, limit): (&'a String, &u32)| {
            let free = limit.saturating_sub(self.live_with(team, key));
            let ordinal = *known.entry((team, key)).or_insert_with(|| {
                left.push(free);
                left.len() - 1
            });
            // Jobs may disagree about a key's limit: the smallest holds for all that wait.
            left[ordinal] = left[ordinal].min(free);
            ordinal
        };
        needs.concurrency.iter().map(ordinal).collect()
    }

    pub(super) fn live_with(&self, team: &TeamName, key: &str) -> u32 {
        self.key_live
            .get(&(team.clone(), key.to_owned()))
            .copied()
            .unwrap_or(0)
    }

    /// The first `room` tasks of a class, by job, and those before them whose image can't be pulled now. If there are
    /// more jobs than are looked at, some are those after `from`; then also up to where it looked, but not at the end.
    fn demands(
        &self,
        ask: &Ask<'_>,
        turns: &BTreeSet<Turn>,
        from: Option<&Turn>,
    ) -> (Found, Option<Turn>) {
        let mut found = Found::default();
        let Some(head) = self.look_at(ask, turns.iter().take(LOOKED_AT), &mut found) else {
            return (found, from.copied());
        };
        let from = from.map_or(head, |from| head.max(*from));
        let after = turns.range((Bound::Excluded(from), Bound::Unbounded));
        let upto = self.look_at(ask, after.take(LOOKED_AT), &mut found);
        let filled = found.total >= ask.room;
        let upto = if filled { Some(from) } else { upto };
        let upto = upto.filter(|upto| turns.last() != Some(upto));
        (found, upto)
    }

    /// Returns the last job, or none if there is no job, or no room for more before it.
    fn look_at<'a>(
        &self,
        ask: &Ask<'_>,
        turns: impl Iterator<Item = &'a Turn>,
        found: &mut Found,
    ) -> Option<Turn> {
        let mut last = None;
        for turn in turns {
            if found.total >= ask.room {
                return None;
            }
            if let Some(live) = self.jobs.get(turn.2) {
                self.demands_of(ask, &live, found);
            }
            last = Some(*turn);
        }
        last
    }

    fn demands_of(&self, ask: &Ask<'_>, live: &LiveJob, found: &mut Found) {
        if self.starts_in_doubt(live).is_some() {
            return;
        }
        let base = Demand {
            priority: live.job.spec.priority,
            seq: live.seq,
            count: 1,
            digest: self.image_of(&live.job).map(|(image, _)| image.digest()),
            pulls: None,
            avoid: Vec::new(),
        };
        let fails = base
            .digest
            .is_some_and(|digest| self.may_pull(ask.now, digest).is_some());
        let before = found.total;
        let asked = ask.needs.resources.memory_bytes;
        let grown = if asked == live.job.memory(0) {
            0
        } else {
            asked
        };
        let job = live.job.id;
        let room = usize::try_from(ask.room).unwrap_or(usize::MAX);
        for index in live.ready.of(grown).take(room) {
            found.demands.push(Demand {
                avoid: avoided(live, index, ask.agents),
                ..base.clone()
            });
            found.sources.push(Source::Retry(TaskId { job, index }));
            found.total += 1;
        }
        let count = live.progress.unstarted.count().min(ask.room);
        if count > 0 && grown == 0 {
            found.demands.push(Demand { count, ..base });
            found.sources.push(Source::Unstarted(job));
            found.total += count;
        }
        if fails {
            found.total = before;
        }
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

/// Of an agent that takes work, or one attempt on trial.
fn slot(agent: &Agent) -> Slot {
    let trial = agent.schedulable != Schedulable::Yes;
    let mut capacity = agent.profile.capacity.clone();
    if trial {
        capacity.places = capacity.places.min(agent.reserved.places + 1);
    }
    Slot {
        capacity,
        reserved: agent.reserved.clone(),
        digests: agent.digests.clone(),
        trial,
    }
}

/// Those of `agents`, which are in order, that the task had better not run on, as ordinals.
fn avoided(live: &LiveJob, index: u32, agents: &[AgentId]) -> Vec<usize> {
    let tried = live.tasks.get(&index).map(|task| task.tried.agents());
    let known = tried.into_iter().flatten();
    known
        .filter_map(|id| agents.binary_search(id).ok())
        .collect()
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
        lease,
    } = needs;
    agent.profile.pool == *pool
        && (agent.profile.leases || !lease)
        && pinned.as_ref().is_none_or(|pinned| *pinned == agent.id)
        && labels
            .iter()
            .all(|(name, value)| agent.profile.labels.get(name) == Some(value))
        && held
            .as_ref()
            .is_none_or(|image| agent.digests.contains(&image.digest()))
}
