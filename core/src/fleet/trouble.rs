//! Agents where nothing gets going. Such a host is free sooner than any other, so it would be offered
//! everything that waits.
//!
//! One that refuses because of its own state, such as a full disk, rests for a while before it is offered
//! anything again. One where attempt after attempt ends before it starts is taken out of service, as long as
//! half of its pool stays in service. After a while one attempt at a time is tried there: the first that starts
//! puts it back, one that does not doubles the while. What a person took out of service only a person puts back.
//!
//! Whether such an agent or the job is at fault is known when something of the job starts anywhere. Until then the
//! job waits, as long as any of its attempts may still start.

use std::collections::{BTreeSet, VecDeque};

use super::Fleet;
use super::timers::Timer;
use crate::agent::{Agent, Link, Schedulable};
use crate::effect::{Effects, Notice, Record};
use crate::ids::{AgentId, AttemptId, JobId, TaskId};
use crate::job::LiveJob;
use crate::outcome::{End, EndReason};
use crate::task::{Phase, TaskState};
use crate::time::{Millis, Timestamp};

/// In a row, before an agent is taken out of service.
const FAILURES: u32 = 5;
const LATEST: usize = 5;
/// Of so many tasks at least: one alone may be at fault itself.
const TASKS: usize = 2;
/// After the first refusal; it doubles with each one.
const REST: Millis = Millis::from_secs(1);
const REST_MAX: Millis = Millis::from_secs(60);
/// Out of service after the first cordon; it doubles with each attempt that fails then.
const COOL_DOWN: Millis = Millis::from_secs(600);
const COOL_DOWN_MAX: Millis = Millis::from_secs(4 * 3600);

/// What went wrong on an agent since something last went well.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Attempts that ended before they started.
    failures: u32,
    /// Whose the latest were, `LATEST` at most.
    tasks: VecDeque<TaskId>,
    /// What the latest of them said.
    latest: String,
    /// Offers that it refused because of its own state.
    refusals: u32,
    rests_until: Option<Timestamp>,
    /// Cool-downs that ended with another failure; not stored, so a restart of the coordinator begins anew.
    relapses: u32,
}

/// Whether the end says that the host did not start an attempt. A pull that fails is not among it: that is more
/// often the registry, for all hosts alike.
const fn did_not_start(end: &End) -> bool {
    matches!(end.reason, EndReason::NeverStarted)
}

impl Fleet {
    /// Whether the agent gets new tasks now.
    pub(super) fn takes_work(&self, agent: &Agent) -> bool {
        matches!(agent.link, Link::Online { .. })
            && agent.schedulable == Schedulable::Yes
            && !self.rests(&agent.id)
    }

    /// Whether one attempt may be tried now on an agent that the fleet took out of service.
    pub(super) fn takes_trial(&self, now: Timestamp, agent: &Agent) -> bool {
        matches!(agent.link, Link::Online { .. })
            && cooled_down(now, agent)
            && !self.rests(&agent.id)
            && !agent.live.iter().any(|id| self.is_preparing(*id))
    }

    /// Whether an attempt that does not start on this agent now is its, not the task's affair.
    fn is_on_trial(&self, now: Timestamp, agent: &AgentId) -> bool {
        self.agents
            .get(agent)
            .is_some_and(|agent| cooled_down(now, agent))
    }

    fn is_preparing(&self, id: AttemptId) -> bool {
        let task = self.task(id.task);
        task.is_some_and(|task| {
            matches!(
                task.state,
                TaskState::Held {
                    phase: Phase::Assigned | Phase::Preparing,
                    ..
                }
            )
        })
    }

    pub(super) fn rests(&self, agent: &AgentId) -> bool {
        let trouble = self.trouble.get(agent);
        trouble.is_some_and(|trouble| trouble.rests_until.is_some())
    }

    /// It took an offer.
    pub(super) fn no_more_rest(&mut self, agent: &AgentId) {
        if let Some(trouble) = self.trouble.get_mut(agent) {
            trouble.refusals = 0;
            // Its timer finds nothing to end any more, so what waits for the agent is looked at now.
            self.placeable |= trouble.rests_until.take().is_some();
        }
    }

    /// Something started there: an agent that cooled down is in service again.
    pub(super) fn note_start(&mut self, now: Timestamp, agent: &AgentId, out: &mut Effects) {
        let on_trial = self.is_on_trial(now, agent);
        self.no_more_trouble(agent);
        if on_trial {
            self.put_schedulable(agent, Schedulable::Yes, out);
            self.placeable = true;
        }
    }

    /// Something started there, or somebody put it back into service.
    pub(super) fn no_more_trouble(&mut self, agent: &AgentId) {
        let trouble = self.trouble.remove(agent);
        self.placeable |= trouble.is_some_and(|trouble| trouble.rests_until.is_some());
    }

    /// It refused an offer because of its own state.
    pub(super) fn rest(&mut self, now: Timestamp, agent: &AgentId) {
        let trouble = self.trouble.entry(agent.clone()).or_default();
        let factor = 1_u64.checked_shl(trouble.refusals).unwrap_or(u64::MAX);
        let pause = Millis(REST.0.saturating_mul(factor)).min(REST_MAX);
        trouble.refusals = trouble.refusals.saturating_add(1);
        trouble.rests_until = Some(now + pause);
        self.timers.set(now + pause, Timer::Rested(agent.clone()));
    }

    pub(super) fn rested(&mut self, now: Timestamp, agent: &AgentId) {
        self.placeable = true;
        let Some(trouble) = self.trouble.get_mut(agent) else {
            return;
        };
        if trouble.rests_until.is_some_and(|until| until <= now) {
            trouble.rests_until = None;
        }
    }

    /// Takes note of an attempt's end, and takes its agent out of service if it was one too many. Returns
    /// whether it tried the agent and failed with it, which costs the task nothing.
    pub(super) fn note_end(
        &mut self,
        now: Timestamp,
        agent: &AgentId,
        task: TaskId,
        end: &End,
        out: &mut Effects,
    ) -> bool {
        if self.is_on_trial(now, agent) {
            return self.note_trial_of_agent(now, agent, end, out);
        }
        if did_not_start(end) {
            self.note_failure(now, agent, task, end, out);
        }
        false
    }

    fn note_trial_of_agent(
        &mut self,
        now: Timestamp,
        agent: &AgentId,
        end: &End,
        out: &mut Effects,
    ) -> bool {
        let free = did_not_start(end);
        // Here it needs no second one: an agent that can't pull is of no use either. But the image may be at
        // fault, so the task pays.
        if free || end.reason == EndReason::PullFailed {
            let trouble = self.trouble.entry(agent.clone()).or_default();
            trouble.relapses = trouble.relapses.saturating_add(1);
            let reason = format!(
                "the attempt that tried it again did not start: {}",
                end.message
            );
            self.cordon_itself(now, agent, reason, out);
        }
        free
    }

    fn note_failure(
        &mut self,
        now: Timestamp,
        agent: &AgentId,
        task: TaskId,
        end: &End,
        out: &mut Effects,
    ) {
        let trouble = self.trouble.entry(agent.clone()).or_default();
        trouble.failures = trouble.failures.saturating_add(1);
        trouble.latest.clone_from(&end.message);
        trouble.tasks.push_back(task);
        if trouble.tasks.len() > LATEST {
            trouble.tasks.pop_front();
        }
        let failures = trouble.failures;
        let cordoned = self.cordon_if_to_blame(now, agent, out);
        // Told once for each so many, not for each failure.
        if !cordoned && self.is_suspect(agent) && failures.is_multiple_of(FAILURES) {
            out.notify(Notice::NothingStarts {
                agent: agent.clone(),
                failures,
                cordoned,
            });
        }
    }

    /// An attempt of the job started: where others did not, it was not the job.
    pub(super) fn clear_doubt(&mut self, now: Timestamp, job: JobId, out: &mut Effects) {
        let suspects: Vec<AgentId> = self.suspects_of(job).cloned().collect();
        for agent in &suspects {
            self.cordon_if_to_blame(now, agent, out);
        }
        self.placeable |= !suspects.is_empty();
    }

    /// Whether the job's next tasks wait until it is known whether anything of it starts, and for how many
    /// attempts. Else an agent where nothing starts, which is free sooner than any other, takes one after another
    /// while the image is still being pulled elsewhere.
    pub(super) fn starts_in_doubt(&self, live: &LiveJob) -> Option<usize> {
        if live.progress.started.is_some() || self.suspects_of(live.job.id).next().is_none() {
            return None;
        }
        let may_start = live.tasks.values().filter(|task| match &task.state {
            TaskState::Held { place, .. } => self.is_online(&place.agent),
            TaskState::Pending { .. } => false,
        });
        Some(may_start.count()).filter(|preparing| *preparing > 0)
    }

    /// The suspects that did not start the job's attempts.
    fn suspects_of(&self, job: JobId) -> impl Iterator<Item = &AgentId> {
        let of_job = move |trouble: &Trouble| trouble.tasks.iter().any(|task| task.job == job);
        let known = self.trouble.iter();
        known
            .filter(move |(_, trouble)| of_job(trouble))
            .map(|(agent, _)| agent)
            .filter(|agent| self.is_suspect(agent))
    }

    /// Whether the agent is in service, and enough attempts did not start there that it may be at fault.
    fn is_suspect(&self, agent: &AgentId) -> bool {
        let in_service = |agent: &Agent| agent.schedulable == Schedulable::Yes;
        self.agents.get(agent).is_some_and(in_service)
            && self.trouble.get(agent).is_some_and(|trouble| {
                let tasks: BTreeSet<TaskId> = trouble.tasks.iter().copied().collect();
                trouble.failures >= FAILURES && tasks.len() >= TASKS
            })
    }

    /// Takes the agent out of service if that is right. Returns whether it did.
    fn cordon_if_to_blame(&mut self, now: Timestamp, agent: &AgentId, out: &mut Effects) -> bool {
        let right = self.is_suspect(agent) && self.is_to_blame(agent) && self.can_spare(agent);
        let Some(Trouble {
            failures, latest, ..
        }) = self.trouble.get(agent).filter(|_| right)
        else {
            return false;
        };
        let failures = *failures;
        let reason =
            format!("{failures} attempts in a row did not start here, the last one: {latest}");
        self.cordon_itself(now, agent, reason, out);
        out.notify(Notice::NothingStarts {
            agent: agent.clone(),
            failures,
            cordoned: true,
        });
        true
    }

    /// Whether the latest failures say something about the agent. The attempts of a job of which nothing has
    /// started anywhere count as one: it may be the job that is bad, and then it fails wherever it goes.
    fn is_to_blame(&self, agent: &AgentId) -> bool {
        let Some(trouble) = self.trouble.get(agent) else {
            return false;
        };
        let mut doubtful = BTreeSet::new();
        let telling = trouble.tasks.iter().filter(|task| {
            let live = self.jobs.begun(task.job);
            let starts = live.is_some_and(|live| live.progress.started.is_some());
            starts || doubtful.insert(task.job)
        });
        telling.count() >= LATEST
    }

    /// Whether half of the agent's pool is at hand and in service without it.
    fn can_spare(&self, agent: &AgentId) -> bool {
        let Some(pool) = self.agents.get(agent).map(|agent| &agent.profile.pool) else {
            return false;
        };
        let known = |agent: &&Agent| {
            agent.profile.pool == *pool && !matches!(agent.link, Link::Lost { .. })
        };
        let (mut all, mut out) = (0, 1);
        for agent in self.agents.values().filter(known) {
            all += 1;
            let at_hand = matches!(agent.link, Link::Online { .. });
            out += usize::from(!at_hand || agent.schedulable != Schedulable::Yes);
        }
        out * 2 <= all
    }

    fn cordon_itself(&mut self, now: Timestamp, id: &AgentId, reason: String, out: &mut Effects) {
        let relapses = self.trouble.get(id).map_or(0, |trouble| trouble.relapses);
        let factor = 1_u64.checked_shl(relapses).unwrap_or(u64::MAX);
        let until = now + Millis(COOL_DOWN.0.saturating_mul(factor)).min(COOL_DOWN_MAX);
        self.timers.set(until, Timer::Rested(id.clone()));
        let until = Some(until);
        self.put_schedulable(id, Schedulable::Cordoned { reason, until }, out);
    }

    fn put_schedulable(&mut self, id: &AgentId, schedulable: Schedulable, out: &mut Effects) {
        if let Some(agent) = self.agents.get_mut(id) {
            agent.schedulable = schedulable.clone();
        }
        out.record(Record::AgentSchedulable {
            agent: id.clone(),
            schedulable,
        });
        out.notify(Notice::AgentChanged { agent: id.clone() });
        self.warm_on(id, out);
    }
}

/// Whether the fleet took the agent out of service, for a time that is over.
fn cooled_down(now: Timestamp, agent: &Agent) -> bool {
    let Schedulable::Cordoned { until, .. } = &agent.schedulable else {
        return false;
    };
    until.is_some_and(|until| until <= now)
}
