//! Agents where nothing gets going. Such a host is free sooner than any other, so it would be offered
//! everything that waits.
//!
//! One that refuses because of its own state, such as a full disk, rests for a while before it is offered
//! anything again. One where attempt after attempt ends before it starts is taken out of service, as if by a
//! person, as long as half of its pool stays in service.

use std::collections::BTreeSet;

use super::Fleet;
use super::timers::Timer;
use crate::agent::{Agent, Link, Schedulable};
use crate::effect::{Effects, Notice, Record};
use crate::ids::{AgentId, TaskId};
use crate::outcome::{End, EndReason};
use crate::time::{Millis, Timestamp};

/// In a row, before an agent is taken out of service.
const FAILURES: u32 = 5;
/// Of so many tasks at least: one alone may be at fault itself.
const TASKS: usize = 2;
/// After the first refusal; it doubles with each one.
const REST: Millis = Millis::from_secs(1);
const REST_MAX: Millis = Millis::from_secs(60);

/// What went wrong on an agent since something last went well.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Attempts that ended before they started.
    failures: u32,
    /// Whose they were; some of them.
    tasks: BTreeSet<TaskId>,
    /// Offers that it refused because of its own state.
    refusals: u32,
    rests_until: Option<Timestamp>,
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
        let Some(trouble) = self.trouble.get_mut(agent) else {
            return;
        };
        if trouble.rests_until.is_some_and(|until| until <= now) {
            trouble.rests_until = None;
            self.placeable = true;
        }
    }

    /// Takes note of an attempt's end, and takes its agent out of service if it was one too many.
    pub(super) fn note_end(&mut self, agent: &AgentId, task: TaskId, end: &End, out: &mut Effects) {
        if !did_not_start(end) {
            return;
        }
        let trouble = self.trouble.entry(agent.clone()).or_default();
        trouble.failures = trouble.failures.saturating_add(1);
        if trouble.tasks.len() < TASKS {
            trouble.tasks.insert(task);
        }
        let too_many = trouble.failures >= FAILURES && trouble.tasks.len() >= TASKS;
        let in_service = |agent: &Agent| agent.schedulable == Schedulable::Yes;
        if !too_many || !self.agents.get(agent).is_some_and(in_service) {
            return;
        }
        let failures = trouble.failures;
        let spare = self.can_spare(agent);
        if spare {
            let reason = format!(
                "{failures} attempts in a row did not start here, the last one: {}",
                end.message
            );
            self.cordon_itself(agent, reason, out);
        }
        // Told once for each so many, not for each failure.
        if spare || failures.is_multiple_of(FAILURES) {
            out.notify(Notice::NothingStarts {
                agent: agent.clone(),
                failures,
                cordoned: spare,
            });
        }
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

    fn cordon_itself(&mut self, id: &AgentId, reason: String, out: &mut Effects) {
        let schedulable = Schedulable::Cordoned { reason };
        if let Some(agent) = self.agents.get_mut(id) {
            agent.schedulable = schedulable.clone();
        }
        out.record(Record::AgentSchedulable {
            agent: id.clone(),
            schedulable,
        });
        out.notify(Notice::AgentChanged { agent: id.clone() });
    }
}
