//! What is true of a fleet after every event. Tests and simulations check all of it after each; a
//! coordinator checks itself while it runs, in parts that each cost little.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use super::{Fleet, Tally};
use crate::agent::{Agent, Link};
use crate::ids::{AgentId, AttemptId, JobId, TaskId, TeamName};
use crate::job::LiveJob;
use crate::spec::Resources;
use crate::task::{Phase, Task, TaskState};

mod stuck;
mod tasks;

pub use stuck::Stuck;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The stable word for tools.
    pub invariant: &'static str,
    /// Who contradicts whom, with the values.
    pub what: String,
    /// Whether it can be so without a bug: an agent may come back with less than it has given away.
    pub bends: bool,
}

/// What must hold between any two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Invariant {
    /// The places and resources that an agent has given away are those of its live attempts.
    Places,
    /// Teams' shares and concurrency keys count live attempts.
    Shares,
    /// No agent has more given away than it has.
    Capacity,
    /// Every task of a job is counted once, in the state it has.
    Counts,
    /// A job is queued while it has tasks to assign, and only then.
    Queue,
    /// The attempt that holds a task is its newest, on an agent that knows of it.
    OneAttempt,
    /// A task that never started, was withdrawn or has ended has no attempt.
    EndedStays,
    /// A canceled task neither waits for another attempt nor runs without an order to stop.
    CancelSticks,
    /// A task that waits is ready, waits for a moment that is to come, or for a person.
    Waiting,
    /// An agent that was given up has nothing live.
    Lost,
    /// The idempotency keys in memory are those of the live jobs.
    Keys,
}

impl Invariant {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Places => "places",
            Self::Shares => "shares",
            Self::Capacity => "capacity",
            Self::Counts => "counts",
            Self::Queue => "queue",
            Self::OneAttempt => "one_attempt",
            Self::EndedStays => "ended_stays",
            Self::CancelSticks => "cancel_sticks",
            Self::Waiting => "waiting",
            Self::Lost => "lost_agent",
            Self::Keys => "keys",
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// Where the next part of a check begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// After this agent, or with the first.
    Agents(Option<AgentId>),
    /// After this job, or with the first.
    Jobs(Option<JobId>),
}

impl Cursor {
    /// The beginning of a check.
    pub const START: Self = Self::Agents(None);
}

impl Fleet {
    /// Everything that is wrong; empty in a correct fleet. Costs a walk over all live tasks.
    #[must_use]
    pub fn broken_invariants(&self) -> Vec<Broken> {
        let mut broken = Vec::new();
        let mut next = Some(Cursor::START);
        while let Some(cursor) = next {
            let (found, after) = self.check_part(&cursor, usize::MAX);
            broken.extend(found);
            next = after;
        }
        broken
    }

    /// One part of the check: agents, or jobs, with about `budget` attempts or tasks together (one
    /// agent or job is never split). What is wrong, and where the next part begins.
    ///
    /// Events may come between two parts: each part holds by itself.
    #[must_use]
    pub fn check_part(&self, cursor: &Cursor, budget: usize) -> (Vec<Broken>, Option<Cursor>) {
        let mut broken = Vec::new();
        let mut left = budget.max(1);
        let next = match cursor {
            Cursor::Agents(after) => {
                if after.is_none() {
                    self.check_totals(&mut broken);
                }
                let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let mut next = Cursor::Jobs(None);
                for (id, agent) in self.agents.range::<AgentId, _>((from, Bound::Unbounded)) {
                    self.check_agent(agent, &mut broken);
                    left = left.saturating_sub(agent.live.len() + 1);
                    if left == 0 {
                        next = Cursor::Agents(Some(id.clone()));
                        break;
                    }
                }
                Some(next)
            }
            Cursor::Jobs(after) => {
                let mut next = None;
                for live in self.jobs.after(*after) {
                    self.check_job(&live, &mut broken);
                    left = left.saturating_sub(live.tasks.len() + 1);
                    if left == 0 {
                        next = Some(Cursor::Jobs(Some(live.job.id)));
                        break;
                    }
                }
                next
            }
        };
        (broken, next)
    }

    /// What is counted over all jobs, from the jobs' own counts: each of those is checked by itself.
    fn check_totals(&self, broken: &mut Vec<Broken>) {
        let mut teams: BTreeMap<&TeamName, u32> = BTreeMap::new();
        let mut keys: BTreeMap<(&TeamName, &String), u32> = BTreeMap::new();
        for live in self.jobs.all_begun() {
            let held = live.progress.counts.preparing + live.progress.counts.running;
            if held > 0 {
                *teams.entry(&live.job.team).or_default() += held;
                for key in live.job.spec.requirements.concurrency.keys() {
                    *keys.entry((&live.job.team, key)).or_default() += held;
                }
            }
        }
        let mut known = 0;
        let mut tally = Tally::default();
        for (job, counted) in self.jobs.counted() {
            tally.add(counted, |all, one| all + one);
            if let Some(key) = &job.key {
                let name = (job.team.clone(), key.key.clone());
                if self.keys.get(&name) == Some(&job.id) {
                    known += 1;
                } else {
                    let what = format!("job {} is not found by its key", job.id);
                    broken.push(Broken::new(Invariant::Keys, what));
                }
            }
        }
        if tally != self.tally {
            let what = format!("{tally:?}, thinks {:?}", self.tally);
            broken.push(Broken::new(Invariant::Counts, what));
        }
        if known != self.keys.len() {
            let what = format!("{} keys for {known} live jobs", self.keys.len());
            broken.push(Broken::new(Invariant::Keys, what));
        }
        let thought_teams = self.team_live.iter().map(|(team, live)| (team, *live));
        let thought_keys = self.key_live.iter();
        let thought_keys = thought_keys.map(|((team, key), live)| ((team, key), *live));
        if !teams.clone().into_iter().eq(thought_teams)
            || !keys.clone().into_iter().eq(thought_keys)
        {
            let (thought_teams, thought_keys) = (&self.team_live, &self.key_live);
            let what = format!("{teams:?} {keys:?}, thinks {thought_teams:?} {thought_keys:?}");
            broken.push(Broken::new(Invariant::Shares, what));
        }
    }

    fn check_agent(&self, agent: &Agent, broken: &mut Vec<Broken>) {
        let mut sum = Resources::default();
        for attempt in &agent.live {
            let Some((live, place)) = self.place_of(*attempt) else {
                let what = format!("agent {} has {attempt}, which holds no task", agent.id);
                broken.push(Broken::new(Invariant::Places, what));
                continue;
            };
            if place.agent != agent.id {
                let what = format!("agents {} and {} have {attempt}", agent.id, place.agent);
                broken.push(Broken::new(Invariant::Places, what));
            }
            let task = live.tasks.get(&attempt.task.index);
            let memory = task.map_or(0, |task| task.spent.memory);
            sum = sum.plus(&live.job.needs(memory).resources);
        }
        let same = sum == agent.reserved.resources
            && u32::try_from(agent.live.len()) == Ok(agent.reserved.places);
        if !same {
            let (live, reserved) = (agent.live.len(), &agent.reserved);
            let what = format!(
                "agent {}: {live} take {sum:?}, thinks {reserved:?}",
                agent.id
            );
            broken.push(Broken::new(Invariant::Places, what));
        }
        let all = &agent.profile.capacity;
        let fits = agent.reserved.resources.fits_in(&all.resources);
        // What a restored store did not know is taken over whether it fits or not, and what it knew too
        // much of goes when somebody has looked.
        if self.safe.is_none() && (agent.reserved.places > all.places || !fits) {
            let what = format!("agent {}: {:?} of {all:?}", agent.id, agent.reserved);
            broken.push(Broken::new(Invariant::Capacity, what));
        }
        if matches!(agent.link, Link::Lost { .. }) && !agent.live.is_empty() {
            let what = format!("agent {} is lost and has {:?}", agent.id, agent.live);
            broken.push(Broken::new(Invariant::Lost, what));
        }
    }

    pub(super) fn place_of(&self, attempt: AttemptId) -> Option<(&LiveJob, &crate::task::Place)> {
        let live = self.jobs.begun(attempt.task.job)?;
        match &live.tasks.get(&attempt.task.index)?.state {
            TaskState::Held { place, .. } if place.number == attempt.number => Some((live, place)),
            TaskState::Held { .. } | TaskState::Pending { .. } => None,
        }
    }

    fn check_job(&self, live: &LiveJob, broken: &mut Vec<Broken>) {
        tasks::counts_add_up(live, broken);
        let standing = live.progress.counts.standing();
        if live.counted != standing && !self.dirty.contains(&live.job.id) {
            let what = format!("job {}: {:?} is {standing:?}", live.job.id, live.counted);
            broken.push(Broken::new(Invariant::Counts, what));
        }
        if !self.queue.is_right(live) {
            let what = format!("job {} with {} to assign", live.job.id, live.assignable());
            broken.push(Broken::new(Invariant::Queue, what));
        }
        for (index, task) in &live.tasks {
            let id = TaskId {
                job: live.job.id,
                index: *index,
            };
            tasks::ended_stays(live, id, broken);
            match &task.state {
                TaskState::Pending { .. } => tasks::waits_for_something(live, id, task, broken),
                TaskState::Held { .. } => self.check_held(live, id, task, broken),
            }
        }
    }

    fn check_held(&self, live: &LiveJob, id: TaskId, task: &Task, broken: &mut Vec<Broken>) {
        let TaskState::Held { place, phase } = &task.state else {
            return;
        };
        let attempt = AttemptId {
            task: id,
            number: place.number,
        };
        let known = self.agents.get(&place.agent);
        // An agent that was never recorded can't be: attempts are made on known agents only.
        if place.number != task.last || known.is_none_or(|agent| !agent.live.contains(&attempt)) {
            let what = format!(
                "{attempt} on {} holds it, the newest is {}",
                place.agent, task.last
            );
            broken.push(Broken::new(Invariant::OneAttempt, what));
        }
        if live.progress.is_canceled(id.index) && place.stop.is_none() {
            let what = format!("{attempt} is canceled and not told to stop");
            broken.push(Broken::new(Invariant::CancelSticks, what));
        }
        if matches!(phase, Phase::Running { .. }) && live.progress.started.is_none() {
            let what = format!("{attempt} runs in a job that never started");
            broken.push(Broken::new(Invariant::Counts, what));
        }
    }
}

impl Broken {
    const fn new(invariant: Invariant, what: String) -> Self {
        Self {
            invariant: invariant.as_str(),
            what,
            bends: matches!(invariant, Invariant::Capacity),
        }
    }
}

#[cfg(test)]
mod tests;
