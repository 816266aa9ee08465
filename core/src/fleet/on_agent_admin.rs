//! Operators take agents out of service and put them back.

use super::Fleet;
use super::timers::Timer;
use crate::agent::Schedulable;
use crate::effect::{Answer, Effects, Notice, Record, Refusal};
use crate::ids::{AgentId, Ticket};
use crate::time::Timestamp;

impl Fleet {
    pub(super) fn on_agent_cordoned(
        &mut self,
        ticket: Ticket,
        id: &AgentId,
        reason: String,
        out: &mut Effects,
    ) {
        self.set_schedulable(
            ticket,
            id,
            Schedulable::Cordoned {
                reason,
                until: None,
            },
            out,
        );
    }

    pub(super) fn on_agent_uncordoned(&mut self, ticket: Ticket, id: &AgentId, out: &mut Effects) {
        self.no_more_trouble(id);
        self.set_schedulable(ticket, id, Schedulable::Yes, out);
        self.placeable = true;
    }

    pub(super) fn on_agent_drained(
        &mut self,
        ticket: Ticket,
        id: &AgentId,
        reason: String,
        deadline: Option<Timestamp>,
        out: &mut Effects,
    ) {
        if let Some(deadline) = deadline {
            self.timers.set(deadline, Timer::DrainDeadline(id.clone()));
        }
        self.set_schedulable(ticket, id, Schedulable::Draining { reason, deadline }, out);
    }

    fn set_schedulable(
        &mut self,
        ticket: Ticket,
        id: &AgentId,
        schedulable: Schedulable,
        out: &mut Effects,
    ) {
        let Some(agent) = self.agents.get_mut(id) else {
            let refusal = Refusal::NoSuchAgent { agent: id.clone() };
            out.answer(ticket, Answer::Refused(refusal));
            return;
        };
        agent.schedulable = schedulable.clone();
        out.record(Record::AgentSchedulable {
            agent: id.clone(),
            schedulable,
        });
        out.notify(Notice::AgentChanged { agent: id.clone() });
        out.answer(ticket, Answer::Agent(Box::new(agent.clone())));
        self.warm_on(id, out);
    }
}
