//! An agent opened its stream and listed what it holds; and its heartbeats after that.

use std::collections::BTreeSet;

use super::Fleet;
use crate::agent::{Agent, Capacity, HeldImage, Hello, Link, Schedulable};
use crate::effect::{Effects, Notice, Offer, Order, Record};
use crate::ids::{AgentId, AttemptId, SessionNo};
use crate::image::Digest;
use crate::outcome::{End, EndReason, Outcome};
use crate::task::{Phase, Place, Stop, StopReason};
use crate::time::Timestamp;

impl Fleet {
    pub(super) fn on_agent_hello(&mut self, now: Timestamp, hello: Hello, out: &mut Effects) {
        let Hello {
            agent: id,
            session,
            profile,
            term: _,
            attempts,
            details,
            orphans,
            held,
        } = hello;
        let known = self.agents.get(&id).map(|agent| agent.link);
        if matches!(known, Some(Link::Online { session: newer }) if newer > session) {
            return; // overtaken by the agent's next stream
        }
        // What a new agent brings may be as old as its disk.
        let failing = self.agents.get(&id).map(|agent| self.failing_beyond(agent));
        let agent = self.agents.entry(id.clone()).or_insert_with(|| Agent {
            id: id.clone(),
            profile: profile.clone(),
            link: Link::Online { session },
            schedulable: Schedulable::Yes,
            last_contact: now,
            live: BTreeSet::new(),
            reserved: Capacity::default(),
            held: Vec::new(),
            digests: BTreeSet::new(),
        });
        agent.profile = profile;
        agent.link = Link::Online { session };
        agent.last_contact = now;
        agent.hold(held);
        let before = agent.live.clone();
        out.record(Record::Agent(Box::new(agent.clone())));
        out.notify(Notice::AgentChanged { agent: id.clone() });
        self.note_pulled(&id, &failing.unwrap_or_default());
        self.note_back(now, &id, out);
        for attempt in attempts.difference(&before) {
            self.take_over(now, &id, *attempt, details.get(attempt), out);
        }
        let live = self.agents[&id].live.clone();
        let adopted: BTreeSet<AttemptId> = live.intersection(&orphans).copied().collect();
        if let Some(safe) = &mut self.safe {
            let held = attempts.union(&adopted).copied().collect();
            safe.called(&id, &held, &live);
        }
        for attempt in live.intersection(&before) {
            if adopted.contains(attempt) && !attempts.contains(attempt) {
                self.adopt(*attempt, out);
            } else {
                self.reconcile_live(now, *attempt, attempts.contains(attempt), out);
            }
        }
        self.note_orphans(now, &id, &orphans, out);
        for attempt in attempts.difference(&live).copied() {
            if self.safe.is_some() {
                break; // nothing is stopped before somebody has looked
            }
            // Its end may be on the way to us; a running one is not wanted any more.
            let stop = Stop {
                reason: StopReason::Superseded,
                now: false,
            };
            out.order(&id, Order::Stop { attempt, stop });
        }
        self.prefetch_on(&id, out);
        self.fetches_anew(&id);
        self.placeable = true;
    }

    /// Brings an attempt that holds its task in line with what the agent holds.
    fn reconcile_live(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        held: bool,
        out: &mut Effects,
    ) {
        if !held && self.is_from_before_restore(attempt) {
            return self.settle_unknown(now, attempt, out);
        }
        let Some((place, phase)) = self.holds(attempt) else {
            return;
        };
        let (place, phase) = (place.clone(), *phase);
        let (agent, stop) = (place.agent.clone(), place.stop);
        match (held, phase) {
            (true, _) => {
                if let Some(stop) = stop {
                    out.order(&agent, Order::Stop { attempt, stop });
                }
            }
            // A stop of what never arrived: it never will.
            (false, Phase::Assigned) if stop.is_some() => {
                let canceled = End::of(Outcome::Canceled, EndReason::CanceledByUser);
                let drained = End::of(Outcome::Preempted, EndReason::Drained);
                let end = match stop.map(|stop| stop.reason) {
                    Some(StopReason::Preempted) => drained,
                    Some(StopReason::Canceled | StopReason::Superseded | StopReason::Timeout)
                    | None => canceled,
                };
                self.give_up(now, attempt, end, out);
            }
            // The offer did not arrive, or was forgotten before it was accepted: make it again.
            (false, Phase::Assigned) => {
                let offer = self.offer_of(attempt, &place);
                out.order(&agent, Order::Offer(Box::new(offer)));
            }
            (false, Phase::Preparing | Phase::Running { .. }) => {
                let end = End {
                    message: format!("agent {agent} came back without it"),
                    ..End::of(Outcome::Lost, EndReason::ContainerGone)
                };
                self.give_up(now, attempt, end, out);
            }
        }
    }

    pub(super) fn on_agent_beat(
        &mut self,
        now: Timestamp,
        id: &AgentId,
        from: SessionNo,
        held: Option<Vec<HeldImage>>,
    ) {
        let known = self.agents.get(id).filter(|_| held.is_some());
        let failing = known.map(|agent| self.failing_beyond(agent));
        let failing = failing.unwrap_or_default();
        let Some(agent) = self.agents.get_mut(id) else {
            return;
        };
        if agent.link != (Link::Online { session: from }) {
            return; // of an older stream
        }
        agent.last_contact = now;
        if let Some(held) = held {
            agent.hold(held);
            self.note_pulled(id, &failing);
            self.images_changed();
            self.placeable = true; // what only waited for an image may run now
        }
    }

    /// What the agent was told of an attempt that holds its task, or should have been.
    pub(super) fn offer_of(&self, attempt: AttemptId, place: &Place) -> Offer {
        let live = self.jobs.begun(attempt.task.job);
        let live = live.expect("the job of an attempt that holds its task is live");
        let grown = live.tasks[&attempt.task.index].spent.memory;
        Offer {
            attempt,
            job: live.job.clone(),
            image: place.image.clone(),
            release: place.release,
            phase: self.trial_phase(&live.job, place.release),
            memory: live.job.memory(grown),
        }
    }

    /// Tells an agent to fetch what its next tasks will probably run.
    fn prefetch_on(&self, id: &AgentId, out: &mut Effects) {
        let Some(agent) = self.agents.get(id) else {
            return;
        };
        for channel in self.channels.values() {
            self.keep_on(agent, channel, out);
            let image = channel.current.image();
            if !agent.digests.contains(&image.digest()) {
                let at_once = false;
                out.order(id, Order::Prefetch { image, at_once });
            }
        }
    }
}

impl Agent {
    /// Replaces what is known about the images it holds.
    fn hold(&mut self, held: Vec<HeldImage>) {
        let names = |image: &HeldImage| -> Vec<Digest> {
            let digests = image.images.iter().map(crate::image::Image::digest);
            digests.chain([image.id]).collect()
        };
        self.digests = held.iter().flat_map(names).collect();
        self.held = held;
    }
}
