//! An agent's stream is gone. Silence kills nothing.

use super::Fleet;
use super::timers::Timer;
use crate::agent::Link;
use crate::effect::{Effects, Notice, Record};
use crate::ids::{AgentId, SessionNo};
use crate::time::Timestamp;

impl Fleet {
    /// Sets the agent aside. Its tasks keep their state.
    ///
    /// No new attempt is made here. That is for `agent_lost` to decide, once `lost_after` has passed
    /// and the coordinator has no reason to suspect itself.
    pub(super) fn on_agent_gone(
        &mut self,
        now: Timestamp,
        id: &AgentId,
        gone: SessionNo,
        out: &mut Effects,
    ) {
        let Some(agent) = self.agents.get_mut(id) else {
            return;
        };
        match agent.link {
            Link::Online { session } if session == gone => {}
            // A newer stream is open, or it was told twice.
            Link::Online { .. } | Link::Unreachable { .. } | Link::Lost { .. } => return,
        }
        let lost_at = now + self.limits.lost_after;
        agent.link = Link::Unreachable {
            since: now,
            lost_at,
        };
        let (contact, live) = (agent.last_contact, agent.live.clone());
        self.timers.set(lost_at, Timer::AgentLost(id.clone()));
        out.record(Record::AgentLink {
            agent: id.clone(),
            link: agent.link,
            last_contact: agent.last_contact,
        });
        out.notify(Notice::AgentChanged { agent: id.clone() });
        self.placeable = true; // what waited for a start there waits no longer
        self.silent_from(id, contact, live);
        self.note_vanished(now, id, out);
    }
}
