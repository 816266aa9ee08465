//! Which agents get tasks: those in service, and one attempt at a time those that the fleet tries again.

use muster_core::agent::{Agent, Link, Schedulable};
use muster_core::ids::{AgentId, AttemptId};
use muster_core::outcome::{End, EndReason};
use muster_core::task::RowState;
use muster_core::time::Timestamp;

use super::{Check, Store, violated};

const IN_SERVICE: &str = "what is out of service gets nothing";
const SPARED: &str = "only what starts nothing is taken out of service";
/// In a row, before the fleet takes an agent out of service.
const FAILURES: u32 = 5;

impl Store {
    /// Whether the agent may have got this attempt then.
    pub(super) fn check_in_service(&self, id: AttemptId, at: Timestamp, agent: &AgentId) -> Check {
        let schedulable = self.agents.get(agent).map(|row| &row.schedulable);
        let fits = match schedulable {
            Some(Schedulable::Yes) => true,
            Some(Schedulable::Cordoned { until, .. }) => {
                until.is_some_and(|until| until <= at) && !self.is_preparing(agent)
            }
            Some(Schedulable::Draining { .. }) | None => false,
        };
        if fits {
            return Ok(());
        }
        violated(
            IN_SERVICE,
            format!("{id} was made on {agent}, {schedulable:?}"),
        )
    }

    fn is_preparing(&self, agent: &AgentId) -> bool {
        let open = self.attempts.iter();
        let mut open = open.filter(|(_, row)| row.end.is_none() && row.agent == *agent);
        open.any(|(id, _)| {
            let state = self.tasks.get(&id.task).map(|row| &row.state);
            matches!(state, Some(RowState::Assigned | RowState::Preparing))
        })
    }

    /// A Hello changes what an agent is, not whether it is in service.
    pub(super) fn agent_written(&mut self, new: Agent) -> Check {
        if let Some(old) = self.agents.get(&new.id)
            && old.schedulable != new.schedulable
        {
            let (was, is) = (&old.schedulable, &new.schedulable);
            let what = format!("{} was {was:?}, and is {is:?}", new.id);
            return violated(IN_SERVICE, what);
        }
        self.agents.insert(new.id.clone(), new);
        Ok(())
    }

    pub(super) fn schedulable_written(&mut self, agent: &AgentId, new: Schedulable) -> Check {
        let in_service = |row: &Agent| row.schedulable == Schedulable::Yes;
        if let Schedulable::Cordoned { until: Some(_), .. } = &new
            && self.agents.get(agent).is_some_and(in_service)
        {
            self.check_spared(agent)?;
        }
        if new == Schedulable::Yes {
            self.failures.remove(agent);
        }
        self.with_agent(agent, |row| row.schedulable = new)
    }

    fn check_spared(&self, agent: &AgentId) -> Check {
        let failures = self.failures.get(agent).copied().unwrap_or(0);
        if failures < FAILURES {
            return violated(SPARED, format!("{agent} after {failures} failures"));
        }
        let known = |row: &&Agent| !matches!(row.link, Link::Lost { .. });
        let known: Vec<&Agent> = self.agents.values().filter(known).collect();
        let left = known
            .iter()
            .filter(|row| row.id != *agent && row.schedulable == Schedulable::Yes);
        if left.count() * 2 < known.len() {
            return violated(
                SPARED,
                format!("{agent}, one of the last of {}", known.len()),
            );
        }
        Ok(())
    }

    /// Counts the attempts that did not start on an agent since one did.
    pub(super) fn note_start_on_agent(&mut self, id: AttemptId) {
        let agent = self.attempts.get(&id).map(|row| &row.agent);
        if let Some(agent) = agent {
            self.failures.remove(agent);
        }
    }

    pub(super) fn note_end_on_agent(&mut self, id: AttemptId, end: &End) {
        if end.reason == EndReason::NeverStarted {
            let agent = self.attempts[&id].agent.clone();
            *self.failures.entry(agent).or_default() += 1;
        }
    }
}
