//! Streams between agents and the coordinator: in order while they last, and cut at any moment.

use std::collections::BTreeMap;

use muster_agent::plan::obeys;
use muster_core::agent::Hello;
use muster_core::effect::Order;
use muster_core::event::{Event, News, Report};
use muster_core::ids::{AttemptId, SessionNo, Term};
use muster_core::task::{Stop, StopReason};
use muster_core::time::{Millis, Timestamp};
use muster_tests::sample;

use crate::bug::Bug;
use crate::coordinator::Input;
use crate::fault::Fault;
use crate::world::{Happening, World};

impl World {
    pub(crate) fn dial(&mut self, at: usize, life: u64) {
        let host = &self.hosts[at];
        if host.life != life || host.agent.is_none() || host.session.is_some() {
            return;
        }
        if !self.coordinator.is_up() || !host.reachable {
            let again = Millis(self.rng.network.between(1_000, 20_000));
            return self.after(again, Happening::Dial { host: at, life });
        }
        let orphans = self.named_orphans(at);
        self.coordinator.sessions += 1;
        let session = SessionNo(self.coordinator.sessions);
        let opened = self.upwards(at);
        let host = &mut self.hosts[at];
        host.session = Some(session);
        host.session_since = self.now;
        let agent = host.agent.as_mut().expect("it was just looked at");
        agent.undecided.clone_from(&orphans);
        host.term = self.coordinator.life;
        let hello = Hello {
            agent: host.id.clone(),
            session: self.coordinator.number(session),
            profile: sample::profile(host.places),
            term: Term(host.term),
            attempts: host.disk.keys().copied().collect(),
            details: BTreeMap::new(),
            orphans,
            held: host.held(),
        };
        let life = self.coordinator.life;
        let input = Input::Attach { host: at, session };
        self.at(opened, Happening::Arrive { life, input });
        // Another stream's messages may come between the two.
        self.say(at, session, Event::AgentHello(hello));
        if self.leases {
            let life = self.hosts[at].life;
            let host = at;
            let beat = Happening::Beat {
                host,
                life,
                session,
            };
            self.after(Millis(1_000), beat);
        }
        let agent = self.hosts[at]
            .agent
            .as_ref()
            .expect("it was just looked at");
        for (attempt, seq, news) in agent.unsent(None) {
            self.send_report(at, attempt, seq, news);
        }
    }

    /// When the next message of an agent arrives.
    pub(crate) fn upwards(&mut self, at: usize) -> Timestamp {
        let takes = Millis(self.rng.network.between(1, 60));
        let host = &mut self.hosts[at];
        host.up_at = host.up_at.max(self.now + takes);
        host.up_at
    }

    /// When the next message to an agent arrives.
    pub(crate) fn downwards(&mut self, at: usize) -> Timestamp {
        let takes = Millis(self.rng.network.between(1, 60));
        let host = &mut self.hosts[at];
        host.down_at = host.down_at.max(self.now + takes);
        host.down_at
    }

    pub(crate) fn send_report(&mut self, at: usize, attempt: AttemptId, seq: u64, news: News) {
        let Some(session) = self.hosts[at].session else {
            return;
        };
        let report = Report {
            agent: self.hosts[at].id.clone(),
            session: self.coordinator.number(session),
            attempt,
            seq,
            news,
        };
        if self.hosts[at].mute {
            return self.hit(Fault::MuteHost); // the agent keeps it, and sends it on the next stream
        }
        let arrives = self.upwards(at);
        if !self.calm && self.rng.network.chance(4) {
            self.hit(Fault::ReportTwice);
            let late = Millis(self.rng.network.between(1, 900_000));
            self.tell(arrives + late, Event::Reported(report.clone()));
        }
        self.tell(arrives, Event::Reported(report));
    }

    /// A heartbeat with the images, which changed.
    pub(crate) fn tell_held(&mut self, at: usize) {
        if let Some(session) = self.hosts[at].session {
            let beat = Event::AgentBeat {
                agent: self.hosts[at].id.clone(),
                session: self.coordinator.number(session),
                held: Some(self.hosts[at].held()),
            };
            let arrives = self.upwards(at);
            self.tell(arrives, beat);
        }
    }

    pub(crate) fn send_orders(&mut self, at: usize, to: Option<SessionNo>, orders: Vec<Order>) {
        let Some(session) = to.filter(|to| self.hosts[at].session == Some(*to)) else {
            return; // the next Hello brings them up again
        };
        if self.hosts[at].deaf {
            return self.hit(Fault::DeafHost);
        }
        let arrives = self.downwards(at);
        let next = Happening::Orders {
            host: at,
            session,
            orders,
        };
        self.at(arrives, next);
    }

    /// A coordinator that was restored, copied or forgotten knows nothing of what came after it: it would
    /// have everything stopped, and takes every report.
    pub(crate) fn meet_stale_coordinator(&mut self, at: usize) {
        if self.hosts[at].term < 2 {
            return;
        }
        let notice = Millis(self.rng.network.below(5_000));
        self.cut(at, notice);
        let host = &self.hosts[at];
        let Some(agent) = &host.agent else { return };
        let stale = host.term - 1;
        let stop = Stop {
            reason: StopReason::Superseded,
            now: false,
        };
        let stops = host.disk.keys().map(|attempt| Order::Stop {
            attempt: *attempt,
            stop,
        });
        let acks = agent.unsent(None).into_iter();
        let acks = acks.map(|(attempt, seq, _)| Order::Ack { attempt, seq });
        let orders = stops.chain(acks).collect();
        let obeyed = obeys(host.term, stale) || self.bug == Some(Bug::SkipTermCheck);
        self.hit(Fault::StaleCoordinator);
        if obeyed {
            self.obey(at, orders);
        }
    }

    /// One direction of the stream is dead, until its keepalive notices.
    pub(crate) fn half_open(&mut self, at: usize, deaf: bool) {
        let host = &mut self.hosts[at];
        if host.session.is_some() {
            (host.deaf, host.mute) = (deaf, !deaf);
            if self.rng.network.chance(50) {
                host.full_until = self.now + Millis(self.rng.network.between(10_000, 25_000));
            }
            self.give_up_stream(at, Millis::from_secs(40));
        }
    }

    /// Its process stands still; the coordinator hears nothing and, after a while, gives the stream up.
    pub(crate) fn pause_agent(&mut self, at: usize, lasts: Millis) {
        let host = &mut self.hosts[at];
        let awake = host.asleep_until.is_none_or(|until| until <= self.now);
        if host.agent.is_none() || !awake {
            return;
        }
        host.asleep_until = Some(self.now + lasts);
        host.asleep_since = host.clock(self.now);
        self.coverage.hit(Fault::AgentPause);
        self.give_up_stream(at, lasts);
    }

    /// Keepalives notice a dead stream within 40 s, unless it comes back to life.
    pub(crate) fn give_up_stream(&mut self, at: usize, lasts: Millis) {
        let within = Millis(self.rng.network.between(20_000, 40_000));
        if let Some(session) = self.hosts[at].session
            && within <= lasts
        {
            self.after(within, Happening::GivenUp { host: at, session });
        }
    }

    /// The stream is gone; the coordinator notices within `notice`.
    pub(crate) fn cut(&mut self, at: usize, notice: Millis) {
        let Some(session) = self.hosts[at].session.take() else {
            return;
        };
        self.hit(Fault::StreamCut);
        if self.bug == Some(Bug::ForgetReport)
            && let Some(agent) = &mut self.hosts[at].agent
        {
            agent.forget_reports();
        }
        self.hosts[at].deaf = false;
        self.hosts[at].mute = false;
        self.trace.note(
            self.now,
            format_args!("{} loses its stream", self.hosts[at].id),
        );
        let arrives = self.hosts[at].up_at.max(self.now + notice) + Millis(1);
        let gone = Event::AgentGone {
            agent: self.hosts[at].id.clone(),
            session: self.coordinator.number(session),
        };
        self.tell(arrives, gone);
        // A new stream's first messages may overtake the last ones of the old.
        self.hosts[at].up_at = self.now;
        let life = self.hosts[at].life;
        let again = Millis(self.rng.network.between(1, 4_000));
        self.after(again, Happening::Dial { host: at, life });
    }
}
