//! When silent agents are given up, and when the coordinator doubts itself instead.

use std::collections::{BTreeMap, BTreeSet};

use super::Fleet;
use super::timers::Timer;
use crate::agent::Link;
use crate::effect::{Answer, Effects, Notice, Record};
use crate::ids::{AgentId, AttemptId, Ticket};
use crate::outcome::{End, EndReason, Outcome};
use crate::time::{Millis, Timestamp};

/// Fewer agents than this say nothing about the coordinator's own link.
const MASS_MIN: usize = 3;
/// A larger share of the agents, in hundredths.
const MASS_SHARE: usize = 55;
/// More agents than this within `BURST` are suspicious, however large the fleet is.
const BURST_MAX: usize = 10;
const BURST: Millis = Millis::from_secs(30);
/// How long a coordinator that suspects itself, or its store, waits before it looks again.
pub(super) const LOOK_AGAIN: Millis = Millis::from_secs(10);

/// Most agents vanished at once: it is more likely that the coordinator is cut off than that they
/// are. Nothing is given up until half of them are back, or an operator says that they are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    pub since: Timestamp,
    /// Every agent that was out of sight since then.
    pub missing: BTreeSet<AgentId>,
}

/// What the fleet remembers about silence. In memory only: a restart begins with a grace.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// No agent counts as lost before.
    not_before: Timestamp,
    /// No agent with attempts counts as lost before.
    next_loss: Timestamp,
    /// Agents whose streams ended within `BURST`.
    vanished: BTreeMap<AgentId, Timestamp>,
    suspicion: Option<Suspicion>,
    /// Agents that an operator says are gone.
    confirmed: BTreeSet<AgentId>,
    /// Of agents that are out of sight, by our clock: nothing that they sent came later.
    pub(super) contacts: BTreeMap<AgentId, Timestamp>,
}

impl Fleet {
    /// Whether the coordinator suspects that it is the one that is cut off.
    #[must_use]
    pub const fn suspicion(&self) -> Option<&Suspicion> {
        self.silence.suspicion.as_ref()
    }

    /// A coordinator that has just started heard nobody: that says nothing about the agents.
    pub(super) fn begin_grace(&mut self, now: Timestamp) {
        if self.silence.not_before > now {
            return; // it has begun with another agent's row
        }
        let end = now + self.limits.failover_grace;
        self.silence.not_before = end;
        self.timers.set(end, Timer::Suspect);
    }

    pub(super) fn note_vanished(&mut self, now: Timestamp, id: &AgentId, out: &mut Effects) {
        let vanished = &mut self.silence.vanished;
        vanished.retain(|_, at| now.since(*at) < BURST);
        vanished.insert(id.clone(), now);
        self.look_at_itself(now, out);
    }

    /// Ends the suspicion once half of those that were missing are in sight.
    pub(super) fn note_back(&mut self, now: Timestamp, id: &AgentId, out: &mut Effects) {
        self.silence.vanished.remove(id);
        self.silence.confirmed.remove(id);
        self.silence.contacts.remove(id);
        let Some(suspicion) = &self.silence.suspicion else {
            return;
        };
        let online = |id: &&AgentId| {
            let agent = self.agents.get(*id);
            agent.is_some_and(|agent| matches!(agent.link, Link::Online { .. }))
        };
        if suspicion.missing.iter().filter(online).count() * 2 < suspicion.missing.len() {
            return;
        }
        self.silence.suspicion = None;
        self.silence.vanished.clear();
        // The others are probably on their way back too.
        let grace = now + self.limits.failover_grace;
        self.silence.not_before = self.silence.not_before.max(grace);
        out.notify(Notice::SuspicionEnded);
    }

    /// Begins to suspect itself if there is reason to, or notes who else is missing.
    pub(super) fn look_at_itself(&mut self, now: Timestamp, out: &mut Effects) {
        let (mut known, mut missing) = (0, BTreeSet::new());
        for agent in self.agents.values() {
            if self.silence.confirmed.contains(&agent.id) {
                continue;
            }
            known += usize::from(!matches!(agent.link, Link::Lost { .. }));
            if matches!(agent.link, Link::Unreachable { .. }) {
                missing.insert(agent.id.clone());
            }
        }
        if let Some(suspicion) = &mut self.silence.suspicion {
            suspicion.missing.extend(missing);
            return;
        }
        let most = missing.len() >= MASS_MIN && missing.len() * 100 > known * MASS_SHARE;
        let lately = |id: &AgentId| {
            let at = self.silence.vanished.get(id);
            at.is_some_and(|at| now.since(*at) < BURST)
        };
        let burst = missing.iter().filter(|id| lately(id)).count() > BURST_MAX;
        if most || burst {
            out.notify(Notice::SuspicionBegan {
                missing: missing.len(),
                known,
            });
            let since = now;
            self.silence.suspicion = Some(Suspicion { since, missing });
        }
    }

    /// An operator says that every agent out of sight is gone: their attempts are given up when their
    /// time has come, whatever the coordinator suspects.
    pub(super) fn on_losses_confirmed(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        out: &mut Effects,
    ) {
        let silent = self.agents.values().filter_map(|agent| match agent.link {
            Link::Unreachable { lost_at, .. } => Some((agent.id.clone(), lost_at)),
            Link::Online { .. } | Link::Lost { .. } => None,
        });
        let silent: Vec<(AgentId, Timestamp)> = silent.collect();
        for (id, lost_at) in &silent {
            let timer = Timer::AgentLost(id.clone());
            self.timers.set(now.max(*lost_at), timer);
            self.silence.confirmed.insert(id.clone());
        }
        if self.silence.suspicion.take().is_some() {
            out.notify(Notice::SuspicionEnded);
        }
        let agents = silent.into_iter().map(|(id, _)| id).collect();
        out.answer(ticket, Answer::LossesConfirmed { agents });
    }

    /// The agent was silent for as long as it may be.
    pub(super) fn agent_lost(&mut self, now: Timestamp, id: &AgentId, out: &mut Effects) {
        let Some(agent) = self.agents.get(id) else {
            return;
        };
        let Link::Unreachable { since, lost_at } = agent.link else {
            return;
        };
        if lost_at > now {
            return; // the timer of an earlier silence
        }
        let confirmed = self.silence.confirmed.contains(id);
        let stops = |attempt: &&AttemptId| self.stops_at(**attempt).is_some_and(|at| at > now);
        // Whoever says that it is gone answers for it.
        let later: BTreeSet<AttemptId> = if confirmed {
            BTreeSet::new()
        } else {
            agent.live.iter().filter(stops).copied().collect()
        };
        let works = agent.live.len() > later.len();
        if let Some(later) = self.loss_must_wait(now, id, works, out) {
            self.timers.set(later, Timer::AgentLost(id.clone()));
            return;
        }
        let agent = self.agents.get_mut(id).expect("it was found just now");
        let live: Vec<AttemptId> = agent.live.difference(&later).copied().collect();
        match later.iter().filter_map(|at| self.stops_at(*at)).max() {
            // They have a time of their own, and the agent is lost with the last of them.
            Some(last) => self.timers.set(last, Timer::AgentLost(id.clone())),
            None => self.count_as_lost(now, id, out),
        }
        for attempt in live {
            let end = End {
                message: format!("agent {id} was silent for {}", now.since(since)),
                ..End::of(Outcome::Lost, EndReason::AgentLost)
            };
            self.give_up(now, attempt, end, out);
        }
    }

    fn count_as_lost(&mut self, now: Timestamp, id: &AgentId, out: &mut Effects) {
        let agent = self.agents.get_mut(id).expect("the caller found it");
        agent.link = Link::Lost { since: now };
        out.record(Record::AgentLink {
            agent: id.clone(),
            link: agent.link,
            last_contact: agent.last_contact,
        });
        out.notify(Notice::AgentChanged { agent: id.clone() });
    }

    /// When to look again at an agent that can't be given up now.
    fn loss_must_wait(
        &mut self,
        now: Timestamp,
        id: &AgentId,
        works: bool,
        out: &mut Effects,
    ) -> Option<Timestamp> {
        if !self.silence.confirmed.contains(id) {
            self.look_at_itself(now, out);
            if self.silence.suspicion.is_some() {
                return Some(now + LOOK_AGAIN);
            }
            if now < self.silence.not_before {
                return Some(self.silence.not_before);
            }
        }
        if !works {
            return None;
        }
        if now < self.silence.next_loss {
            return Some(self.silence.next_loss);
        }
        self.silence.next_loss = now + self.limits.loss_interval;
        None
    }
}
