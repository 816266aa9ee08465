//! The agent, modelled around the real one's decisions: what to do about an attempt is `plan::decide`,
//! and how it ended is `outcome::classify`.

use muster_agent::outcome::{Kill, KillReason};
use muster_agent::plan::{Action, Journaled, Seen, decide};
use muster_core::effect::{Offer, Order};
use muster_core::event::News;
use muster_core::ids::{AttemptId, SessionNo};
use muster_core::outcome::{End, EndReason, Outcome};
use muster_core::task::StopReason;
use muster_core::time::{Millis, Timestamp};

use crate::bug::Bug;
use crate::fault::Fault;
use crate::host::{Agent, Host, Intent, Journal, Life, State, Step};
use crate::trace::Violation;
use crate::verdict::stopped_early;
use crate::world::{Happening, World};

const ANSWER: u64 = 1;
const STARTED: u64 = 2;
pub(crate) const ENDED: u64 = 3;

impl World {
    pub(crate) fn start_agent(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        if !host.powered || host.destroyed || host.agent.is_some() {
            return;
        }
        host.life += 1;
        host.agent = Some(Agent::begin(host.lease));
        host.asleep_until = None;
        self.trace
            .note(self.now, format_args!("{} agent starts", host.id));
        self.clear_parked(at);
        for attempt in self.hosts[at].disk.keys().copied().collect::<Vec<_>>() {
            self.take_up(at, attempt);
        }
        let life = self.hosts[at].life;
        self.after(Millis(40), Happening::Leftovers { host: at, life });
        self.after(Millis(50), Happening::Dial { host: at, life });
    }

    /// An attempt of an earlier life of the agent.
    fn take_up(&mut self, at: usize, attempt: AttemptId) {
        let host = &mut self.hosts[at];
        let agent = host.agent.as_mut().expect("it just started");
        // An engine that the agent has never heard may not be the one that ran it.
        let engine = &host.engine;
        let intent = host.disk[&attempt].intent;
        let missed =
            intent.is_some_and(|intent| !engine.up || intent.engine_started != engine.started);
        let life = Life {
            contact: missed.then_some(Timestamp(0)),
            since: host.disk[&attempt].since(host.boot, &agent.contacts),
            ..Life::default()
        };
        agent.lives.insert(attempt, life);
        if host.disk[&attempt].reached() == Journaled::Accepted {
            self.put(at, attempt, ANSWER, News::Accepted);
        }
        let renames = self.hosts[at].disk[&attempt].parked().is_some();
        let next = if renames { Step::Rename } else { Step::Look };
        self.later(at, attempt, next, 5);
    }

    pub(crate) fn crash_agent(&mut self, at: usize, down: Millis) {
        let host = &mut self.hosts[at];
        if host.agent.take().is_none() {
            return;
        }
        self.coverage.hit(Fault::AgentCrash);
        self.trace
            .note(self.now, format_args!("{} agent crashes", host.id));
        self.hang_up(at);
        let notice = Millis(self.rng.network.below(5_000));
        self.cut(at, notice);
        self.after(down, Happening::AgentStarts { host: at });
    }

    pub(crate) fn later(&mut self, at: usize, attempt: AttemptId, step: Step, most: u64) {
        let span = Millis(self.rng.agent.between(1, most));
        self.step_after(at, attempt, step, span);
    }

    pub(crate) fn step_after(&mut self, at: usize, attempt: AttemptId, step: Step, span: Millis) {
        let life = self.hosts[at].life;
        let next = Happening::Step {
            host: at,
            life,
            attempt,
            step,
        };
        self.after(span, next);
    }

    pub(crate) fn put(&mut self, at: usize, attempt: AttemptId, seq: u64, news: News) {
        if let Some(agent) = &mut self.hosts[at].agent {
            agent.put(attempt, seq, news.clone());
            self.send_report(at, attempt, seq, news);
        }
    }

    pub(crate) fn take_orders(&mut self, at: usize, session: SessionNo, orders: Vec<Order>) {
        if self.hosts[at].session != Some(session) || self.hosts[at].agent.is_none() {
            return;
        }
        self.obey(at, orders);
    }

    pub(crate) fn obey(&mut self, at: usize, orders: Vec<Order>) {
        for order in orders {
            self.trace.note(
                self.now,
                format_args!("{} told {order:?}", self.hosts[at].id),
            );
            match order {
                Order::Offer(offer) => self.on_offer(at, *offer),
                Order::Stop { attempt, stop } => {
                    let reason = match stop.reason {
                        StopReason::Canceled => KillReason::Canceled,
                        StopReason::Preempted => KillReason::Preempted,
                        StopReason::Superseded => KillReason::Superseded,
                        StopReason::Timeout => KillReason::RunTimeout,
                    };
                    self.on_stop(at, attempt, (reason, stop.now));
                }
                Order::Ack { attempt, seq } => self.on_ack(at, attempt, seq),
                Order::Adopt(offer) => self.on_adopt(at, *offer),
                Order::Discard { attempt } => self.on_discard(at, attempt),
                // No simulated disk fills up.
                Order::Keep { warm, .. } => self.on_keep(at, warm),
                Order::Prefetch { image, .. } => {
                    let (life, digest) = (self.hosts[at].life, image.digest());
                    let takes = Millis(self.rng.engine.between(500, 20_000));
                    self.after(
                        takes,
                        Happening::Fetched {
                            host: at,
                            life,
                            digest,
                        },
                    );
                }
            }
        }
    }

    fn on_offer(&mut self, at: usize, offer: Offer) {
        let attempt = offer.attempt;
        match self.store.attempts.get(&attempt) {
            None => return self.violated("persist, then speak", format!("offer of {attempt}")),
            Some(row) if row.image != offer.image || row.agent != self.hosts[at].id => {
                let what = format!("{attempt} is stored with {} on {}", row.image, row.agent);
                return self.violated("I14 immutable attempt", what);
            }
            Some(_) => {}
        }
        let row = &self.store.tasks[&attempt.task];
        if row.last == attempt.number && offer.memory != offer.job.memory(row.spent.memory) {
            let what = format!("{attempt} is offered {} bytes", offer.memory);
            return self.violated("memory grows by its rule", what);
        }
        let agent = self.hosts[at].agent.as_ref().expect("the caller looked");
        let unsent = agent.unsent(Some(attempt));
        let refused = !unsent.is_empty() && self.bug != Some(Bug::AcceptAfterRefusal);
        if agent.lives.contains_key(&attempt) || refused {
            for (attempt, seq, news) in unsent {
                self.send_report(at, attempt, seq, news);
            }
            return;
        }
        if agent.undecided.contains(&attempt) {
            return;
        }
        let full = self.now < self.hosts[at].full_until;
        if !self.calm && (full || self.rng.agent.chance(2)) {
            self.hit(Fault::DiskFull);
            let refused = News::Refused {
                unfit: true,
                message: "the disk is full".to_owned(),
            };
            return self.put(at, attempt, ANSWER, refused);
        }
        let host = &mut self.hosts[at];
        let held = host.engine.images.contains(&offer.image.digest());
        let journal = Journal {
            offer,
            heard: host.heard(),
            intent: None,
            started: false,
            kills: vec![],
            ended: None,
            adopted: false,
        };
        host.disk.insert(attempt, journal);
        let agent = host.agent.as_mut().expect("the caller looked");
        let life = Life {
            fresh: true,
            ..agent.new_life()
        };
        agent.lives.insert(attempt, life);
        self.put(at, attempt, ANSWER, News::Accepted);
        self.later(at, attempt, Step::Prepared, if held { 50 } else { 30_000 });
        self.agent_dies(at, attempt, 8);
    }

    fn on_stop(&mut self, at: usize, attempt: AttemptId, stop: (KillReason, bool)) {
        let agent = self.hosts[at].agent.as_mut().expect("the caller looked");
        if agent.undecided.contains(&attempt) {
            return;
        }
        let Some(life) = agent.lives.get_mut(&attempt) else {
            let refused = News::Refused {
                unfit: false,
                message: "this agent has never seen it".to_owned(),
            };
            return self.put(at, attempt, ANSWER, refused);
        };
        match &mut life.stop {
            // The first reason stays; haste may come later.
            Some(first) => first.1 |= stop.1,
            none @ None => *none = Some(stop),
        }
        self.later(at, attempt, Step::Stop, 5);
    }

    fn on_ack(&mut self, at: usize, attempt: AttemptId, seq: u64) {
        let host = &mut self.hosts[at];
        let agent = host.agent.as_mut().expect("the caller looked");
        agent.acknowledge(attempt, seq);
        let ended = host
            .disk
            .get(&attempt)
            .is_some_and(|journal| journal.ended.is_some());
        if seq >= ENDED && ended {
            self.later(at, attempt, Step::Remove, 20);
        }
    }

    pub(crate) fn step(&mut self, at: usize, life: u64, attempt: AttemptId, step: Step) {
        let host = &self.hosts[at];
        let alive = host.life == life && host.agent.is_some();
        if !alive || !host.disk.contains_key(&attempt) {
            return;
        }
        let told = host.disk[&attempt].parked().is_some() && step == Step::CallStart;
        if !host.engine.up && !told {
            return self.step_after(at, attempt, step, Millis(1_000));
        }
        let ended = host.disk[&attempt].ended.is_some();
        match step {
            Step::Remove => self.remove(at, attempt),
            Step::Look => self.look(at, attempt),
            Step::Rename => self.rename(at, attempt),
            _ if ended => {}
            Step::Prepared => self.prepared(at, attempt),
            Step::Start => self.write_intent(at, attempt),
            Step::CallStart => self.call_start(at, attempt),
            Step::Started => self.follow(at, attempt),
            Step::AwaitOver => self.await_over(at, attempt),
            Step::Stop => self.stop_if_running(at, attempt),
            Step::Grace => self.signal(at, attempt, 9, 0),
            Step::Contact => self.mind_contact(at, attempt),
            Step::Timeout => self.kill(at, attempt, (KillReason::RunTimeout, false)),
            Step::Harvest => self.harvest(at, attempt),
        }
    }

    pub(crate) fn life(&self, at: usize, attempt: AttemptId) -> Life {
        let agent = self.hosts[at].agent.as_ref();
        let life = agent.and_then(|agent| agent.lives.get(&attempt));
        life.copied().unwrap_or_default()
    }

    /// The image should be here: create, unless the attempt is not wanted any more.
    fn prepared(&mut self, at: usize, attempt: AttemptId) {
        if let Some((reason, _)) = self.life(at, attempt).stop {
            return self.finish(at, attempt, stopped_early(reason));
        }
        if !self.calm && self.rng.engine.chance(2) {
            self.hit(Fault::PullFails);
            return self.finish(
                at,
                attempt,
                End::of(Outcome::ImageError, EndReason::PullFailed),
            );
        }
        let newest = self.bug == Some(Bug::RunNewestImage);
        let host = &mut self.hosts[at];
        let mut digest = host.disk[&attempt].offer.image.digest();
        host.engine.images.insert(digest);
        if newest {
            digest = *host.engine.images.last().expect("one was just added");
        }
        self.tend_soon(at, Millis(1));
        if self.take_parked(at, attempt) {
            return self.later(at, attempt, Step::Start, 20);
        }
        if self.hosts[at].seen(attempt) == Seen::Nothing {
            self.create(at, attempt, digest);
        }
        let host = &self.hosts[at];
        let action = decide(Journaled::Accepted, host.seen(attempt));
        self.tell_held(at);
        self.carry_out(at, attempt, action);
    }

    fn write_intent(&mut self, at: usize, attempt: AttemptId) {
        let life = self.life(at, attempt);
        let cut_off = self.is_cut_off(at, attempt);
        let stop = life.stop.map(|(reason, _)| reason);
        if let Some(reason) = stop.or_else(|| cut_off.then_some(KillReason::Disconnected)) {
            self.discard_parked(at, attempt);
            return self.finish(at, attempt, stopped_early(reason));
        }
        let now = self.now;
        let host = &mut self.hosts[at];
        let intent = Intent {
            at: host.clock(now),
            boot_clock: host.boot_clock(now),
            boot: host.boot,
            engine_started: host.engine.started,
            warm: life.given,
        };
        host.journal(attempt).intent = Some(intent);
        if let Some(name) = life.given {
            self.give(at, attempt, name);
        }
        self.later(at, attempt, Step::CallStart, 20);
    }

    /// Acts on what the journal says and the engine shows.
    pub(crate) fn look(&mut self, at: usize, attempt: AttemptId) {
        let host = &self.hosts[at];
        let (reached, seen) = (host.disk[&attempt].reached(), host.seen(attempt));
        let mut action = decide(reached, seen);
        if self.bug == Some(Bug::StartTwice) && action == Action::AwaitStart {
            action = Action::Start;
        }
        self.trace.note(
            self.now,
            format_args!("{} {attempt}: {reached:?}, {seen:?}: {action:?}", host.id),
        );
        self.carry_out(at, attempt, action);
    }

    fn carry_out(&mut self, at: usize, attempt: AttemptId, action: Action) {
        match action {
            Action::Prepare => self.later(at, attempt, Step::Prepared, 1_000),
            Action::Start => self.later(at, attempt, Step::Start, 20),
            Action::AwaitStart => {
                self.step_after(at, attempt, Step::AwaitOver, Millis::from_secs(10));
            }
            Action::Attach | Action::Unpause
                if self.bug == Some(Bug::KillUnknownOnRejoin) && self.hosts[at].life > 1 =>
            {
                self.signal(at, attempt, 9, 1);
                self.follow(at, attempt);
            }
            Action::Attach | Action::Unpause => self.follow(at, attempt),
            Action::Harvest => self.later(at, attempt, Step::Harvest, 20),
            Action::ReportGone => {
                self.finish(
                    at,
                    attempt,
                    End::of(Outcome::Lost, EndReason::ContainerGone),
                );
            }
            Action::Deliver => {
                let ended = self.hosts[at].disk[&attempt].ended.clone();
                let ended = ended.expect("the plan delivers what has ended");
                self.put(at, attempt, ENDED, News::Ended(Box::new(ended)));
            }
            Action::Leave | Action::Forget => {}
        }
    }

    fn await_over(&mut self, at: usize, attempt: AttemptId) {
        if self.hosts[at].seen(attempt) != Seen::Created {
            return self.look(at, attempt);
        }
        if !self.withdraw(at, attempt) {
            self.hosts[at].engine.containers.remove(&attempt);
        }
        self.finish(
            at,
            attempt,
            End::of(Outcome::InfraError, EndReason::NeverStarted),
        );
    }

    pub(crate) fn follow(&mut self, at: usize, attempt: AttemptId) {
        let host = &mut self.hosts[at];
        let seen = host.seen(attempt);
        if matches!(seen, Seen::Nothing | Seen::Created) {
            return self.look(at, attempt);
        }
        let started = host.started(attempt);
        host.journal(attempt).started = true;
        let timeout = host.disk[&attempt].offer.job.spec.run_timeout;
        if let Some(agent) = &mut host.agent
            && let Some(life) = agent.lives.get_mut(&attempt)
        {
            life.following = true;
        }
        if seen != Seen::Running {
            return self.later(at, attempt, Step::Harvest, 20);
        }
        let started = started.expect("it runs");
        self.put(at, attempt, STARTED, News::Started { at: started });
        // By a clock that nobody sets, and which begins anew with the host.
        let host = &self.hosts[at];
        let ran = match host.disk[&attempt].intent {
            Some(intent) if intent.boot == host.boot => {
                host.boot_clock(self.now) - intent.boot_clock
            }
            Some(_) | None => 0,
        };
        let left = host.takes(Millis(timeout.0.saturating_sub(ran).max(1)));
        self.step_after(at, attempt, Step::Timeout, left);
        self.later(at, attempt, Step::Stop, 5);
        self.mind_contact(at, attempt);
    }

    fn stop_if_running(&mut self, at: usize, attempt: AttemptId) {
        let life = self.life(at, attempt);
        if let Some(stop) = life.stop
            && life.following
        {
            self.kill(at, attempt, stop);
        }
    }

    /// Writes the kill log, then signals. A second order only hastens the first.
    pub(crate) fn kill(
        &mut self,
        at: usize,
        attempt: AttemptId,
        (reason, now): (KillReason, bool),
    ) {
        let host = &mut self.hosts[at];
        if host.seen(attempt) != Seen::Running {
            return;
        }
        let grace = host.disk[&attempt].offer.job.spec.kill_grace;
        let first = host.disk[&attempt].kills.is_empty();
        if !first && !now {
            // An agent that came back goes on where the one before stopped.
            return self.step_after(at, attempt, Step::Grace, grace);
        }
        let signal = if now { 9 } else { 15 };
        let at_ms = host.clock(self.now).0;
        host.journal(attempt).kills.push(Kill {
            at: at_ms,
            signal,
            reason,
        });
        self.signal(at, attempt, signal, 1);
        if !now {
            self.step_after(at, attempt, Step::Grace, grace);
        }
    }

    fn remove(&mut self, at: usize, attempt: AttemptId) {
        self.end_unused(at, attempt);
        let host = &mut self.hosts[at];
        let container = host.engine.containers.get(&attempt);
        if container.is_some_and(|container| matches!(container.state, State::Running { .. })) {
            let what = format!("{attempt} runs, and its end was acknowledged");
            return self.violated("I15 no orphan", what);
        }
        if self.store.is_open(attempt) {
            let what = format!("{attempt} is forgotten, and its end is not stored");
            return self.violated("persist, then speak", what);
        }
        host.engine.containers.remove(&attempt);
        if let Some(name) = host.disk[&attempt].parked() {
            host.homes.remove(&name);
        }
        host.disk.remove(&attempt);
        if let Some(agent) = &mut host.agent {
            agent.lives.remove(&attempt);
        }
    }

    pub(crate) fn violated(&mut self, invariant: &'static str, what: String) {
        self.trace.violate(Violation { invariant, what });
    }
}

impl Host {
    pub(crate) fn journal(&mut self, attempt: AttemptId) -> &mut Journal {
        let journal = self.disk.get_mut(&attempt);
        journal.expect("a step's attempt is journaled")
    }
}
