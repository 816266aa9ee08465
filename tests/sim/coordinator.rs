//! The driver, modelled: the real fleet, batches, commits that take time, crashes in between.

use std::collections::{BTreeMap, VecDeque};

use muster_core::agent::Schedulable;
use muster_core::effect::{Answer, Effect, Effects, Order, Record};
use muster_core::event::Event;
use muster_core::fleet::{Fleet, Limits};
use muster_core::ids::SessionNo;
use muster_core::task::TaskState;
use muster_core::time::{Millis, Timestamp};

use crate::bug::Bug;
use crate::fault::Fault;
use crate::spoil;
use crate::store::{Batch, Canceled, Pace};
use crate::trace::Violation;
use crate::world::{Happening, World};

#[derive(Default)]
pub(crate) struct Coordinator {
    /// `None`: the process is down.
    fleet: Option<Fleet>,
    pub(crate) life: u64,
    /// Streams of all lives.
    pub(crate) sessions: u64,
    /// Of them, those of earlier lives: each life numbers its own from one.
    sessions_before: u64,
    /// How far this life's clock is ahead, in milliseconds. It is not set while the life lasts.
    ahead: i64,
    /// By host, as the driver has them.
    streams: BTreeMap<usize, SessionNo>,
    inbox: VecDeque<Input>,
    committing: Option<(Batch, Vec<Effect>)>,
    wake_at: Option<Timestamp>,
    /// Crashes in its next commit, and is then down for so long.
    doomed: Option<Millis>,
    /// Its process stands still.
    pub(crate) asleep_until: Option<Timestamp>,
}

#[derive(Debug)]
pub(crate) enum Input {
    Event(Box<Event>),
    Attach { host: usize, session: SessionNo },
}

impl Coordinator {
    pub(crate) const fn is_up(&self) -> bool {
        self.fleet.is_some()
    }

    /// What this life calls a stream.
    pub(crate) const fn number(&self, stream: SessionNo) -> SessionNo {
        SessionNo(stream.0.saturating_sub(self.sessions_before))
    }

    /// What its clock shows.
    pub(crate) fn clock(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_add_signed(self.ahead))
    }

    /// When its clock will show that.
    fn when(&self, shown: Timestamp) -> Timestamp {
        Timestamp(shown.0.saturating_add_signed(-self.ahead))
    }
}

impl World {
    /// Sends news to the coordinator, which may be another one, or none, when it arrives.
    pub(crate) fn tell(&mut self, at: Timestamp, event: Event) {
        let life = self.coordinator.life;
        let input = Input::Event(Box::new(event));
        self.at(at, Happening::Arrive { life, input });
    }

    pub(crate) fn arrive(&mut self, life: u64, input: Input) {
        if life != self.coordinator.life || !self.coordinator.is_up() {
            return;
        }
        if let Input::Event(event) = &input
            && let Event::Reported(report) = &**event
            && !self.is_open(report.session)
            && self.rng.network.chance(50)
        {
            self.hit(Fault::ReportLost);
            return; // it was on its way when the stream broke
        }
        self.coordinator.inbox.push_back(input);
        self.go_on();
    }

    fn is_open(&self, session: SessionNo) -> bool {
        let mut streams = self.hosts.iter().filter_map(|host| host.session);
        streams.any(|stream| self.coordinator.number(stream) == session)
    }

    /// Handles what is queued or due, unless a commit is on its way.
    fn go_on(&mut self) {
        while self.coordinator.committing.is_none() {
            let Some(fleet) = &self.coordinator.fleet else {
                return;
            };
            let deadline = fleet.next_deadline().filter(|_| !self.timers_are_lost());
            let deadline = deadline.map(|shown| self.coordinator.when(shown));
            let due = deadline.is_some_and(|due| due <= self.now);
            if self.coordinator.inbox.is_empty() && !due {
                self.set_alarm(deadline);
                return;
            }
            self.batch(due);
            if self.trace.violation().is_some() {
                return;
            }
        }
    }

    fn timers_are_lost(&self) -> bool {
        self.bug == Some(Bug::LoseTimers) && self.coordinator.life > 1
    }

    fn set_alarm(&mut self, deadline: Option<Timestamp>) {
        let Some(deadline) = deadline else { return };
        let earlier = self
            .coordinator
            .wake_at
            .is_none_or(|set| deadline < set || set <= self.now);
        if earlier {
            self.coordinator.wake_at = Some(deadline);
            let life = self.coordinator.life;
            self.at(deadline, Happening::Wake { life });
        }
    }

    pub(crate) fn wake(&mut self, life: u64) {
        if life == self.coordinator.life {
            self.go_on();
        }
    }

    fn batch(&mut self, due: bool) {
        let mut fleet = self.coordinator.fleet.take().expect("the caller looked");
        let mut out = Effects::default();
        let mut batch = Batch::default();
        let clock = self.coordinator.clock(self.now);
        for input in std::mem::take(&mut self.coordinator.inbox) {
            match input {
                Input::Attach { host, session } => self.attach(host, session),
                Input::Event(event) => {
                    if let Event::CancelRequested { ticket, .. } = &*event
                        && self.bug == Some(Bug::ForgetCancel)
                    {
                        let answer = Answer::CancelRequested { tasks: 1 };
                        self.answered(ticket.0, answer);
                    } else if let Some(event) = self.prepare(&fleet, *event, &mut batch.cancels) {
                        self.trace.note(self.now, format_args!("event {event:?}"));
                        fleet.handle(clock, event, &mut out);
                    }
                }
            }
        }
        if due {
            fleet.handle(clock, Event::Tick, &mut out);
        }
        fleet.settle(clock, &mut out);
        for broken in fleet.broken_invariants() {
            self.trace.violate(Violation {
                invariant: broken.invariant,
                what: broken.what,
            });
        }
        self.check_in_force(&fleet);
        self.coordinator.fleet = Some(fleet);
        let mut rest = Vec::new();
        for effect in out.drain() {
            match effect {
                Effect::Record(record) => batch.records.push(record),
                other => rest.push(other),
            }
        }
        spoil::records(self.bug, &mut batch.records);
        self.hand_over(batch, rest);
    }

    fn hand_over(&mut self, batch: Batch, mut rest: Vec<Effect>) {
        if self.bug == Some(Bug::SpeakBeforeCommit) {
            self.speak(std::mem::take(&mut rest));
        }
        if batch.records.is_empty() {
            self.speak(rest);
            return;
        }
        // A slow disk leaves agents more time to be wrong.
        let slow = self.rng.store.chance(if self.leases { 15 } else { 5 });
        let takes = Millis(self.rng.store.between(1, if slow { 800 } else { 20 }));
        self.coordinator.committing = Some((batch, rest));
        let life = self.coordinator.life;
        self.after(takes, Happening::Commit { life });
        if let Some(down) = self.coordinator.doomed.take() {
            self.crash_now(down);
        }
    }

    /// What the shell adds to an event; `None`: it never reaches the fleet.
    fn prepare(
        &self,
        fleet: &Fleet,
        mut event: Event,
        cancels: &mut Vec<Canceled>,
    ) -> Option<Event> {
        match &mut event {
            Event::Submitted { jobs, .. } => {
                for new in jobs {
                    let Some(key) = &new.job.key else { continue };
                    let forgotten = self.bug == Some(Bug::ForgetEndedKeys);
                    if !forgotten && !fleet.has_key(&new.job.team, &key.key) {
                        new.prior = self.store.find_key(&key.key);
                    }
                }
            }
            Event::CancelRequested { job, tasks, .. } if fleet.job(*job).is_some() => {
                cancels.push(Canceled {
                    job: *job,
                    tasks: tasks.clone(),
                })
            }
            Event::Reported(report) if self.bug == Some(Bug::OlderFence) => {
                let task = fleet.task(report.attempt.task);
                if let Some(TaskState::Held { place, .. }) = task.map(|task| &task.state) {
                    report.attempt.number = place.number;
                    report.agent = place.agent.clone();
                }
            }
            Event::AgentGone { .. } if self.bug == Some(Bug::NeverLose) => return None,
            Event::AgentBeat { held: None, .. } if self.bug == Some(Bug::ForgetBeats) => {
                return None;
            }
            _ => {}
        }
        Some(event)
    }

    /// An older stream is closed by its replacement.
    fn attach(&mut self, host: usize, session: SessionNo) {
        let Some(old) = self.coordinator.streams.insert(host, session) else {
            return;
        };
        if self.hosts[host].session == Some(old) {
            self.cut(host, Millis(5));
        }
    }

    pub(crate) fn commit(&mut self, life: u64) {
        if life != self.coordinator.life {
            return;
        }
        let Some((batch, rest)) = self.coordinator.committing.take() else {
            return;
        };
        self.store_batch(batch);
        self.speak(rest);
        self.go_on();
    }

    fn store_batch(&mut self, batch: Batch) {
        let records = batch.records.len();
        self.trace
            .note(self.now, format_args!("committed {records} records"));
        let is_end = |record: &Record| matches!(record, Record::AttemptEnded { .. });
        if batch.records.iter().any(is_end) {
            self.latest_end = self.now;
        }
        if batch.records.iter().any(is_cordon_by_fleet) {
            self.hit(Fault::AgentCordoned);
        }
        if let Err(violation) = self.store.commit(batch, &self.ledger) {
            self.trace.violate(violation);
        }
    }

    fn speak(&mut self, effects: Vec<Effect>) {
        let mut orders: BTreeMap<usize, Vec<Order>> = BTreeMap::new();
        for effect in effects {
            match effect {
                Effect::Order { agent, order } => {
                    let silent = self.bug == Some(Bug::NeverAcknowledge);
                    if silent && matches!(order, Order::Ack { .. }) {
                        continue;
                    }
                    let host = self.hosts.iter().position(|host| host.id == agent);
                    orders
                        .entry(host.expect("agents are hosts"))
                        .or_default()
                        .push(order);
                }
                Effect::Answer { ticket, answer } => self.answered(ticket.0, answer),
                Effect::Record(_) | Effect::Notify(_) => {}
            }
        }
        for (host, orders) in orders {
            let stream = self.coordinator.streams.get(&host).copied();
            self.send_orders(host, stream, orders);
        }
    }

    /// Now, or where it hurts most: between a batch and its commit.
    pub(crate) fn crash_coordinator(&mut self, down: Millis) {
        if !self.coordinator.is_up() {
            return;
        }
        if self.coordinator.committing.is_none() && self.rng.store.chance(60) {
            self.coordinator.doomed = Some(down);
        } else {
            self.crash_now(down);
        }
    }

    pub(crate) fn pause_coordinator(&mut self, lasts: Millis) {
        // Two pauses that overlap would have what came in the first overtaken.
        let until = self.coordinator.asleep_until;
        let awake = until.is_none_or(|until| until <= self.now);
        if self.coordinator.is_up() && awake {
            self.coordinator.asleep_until = Some(self.now + lasts);
            self.hit(Fault::CoordinatorPause);
            for host in 0..self.hosts.len() {
                self.give_up_stream(host, lasts);
            }
        }
    }

    pub(crate) fn keep_coordinator_up(&mut self) {
        self.coordinator.asleep_until = None;
        self.coordinator.doomed = None;
        self.start_coordinator();
    }

    fn crash_now(&mut self, down: Millis) {
        self.hit(Fault::CoordinatorCrash);
        self.trace
            .note(self.now, format_args!("coordinator crashes"));
        if let Some((mut batch, rest)) = self.coordinator.committing.take() {
            let untold = self.rng.store.chance(50);
            self.hit(if untold {
                Fault::CommitUntold
            } else {
                Fault::CommitLost
            });
            if !untold && self.bug == Some(Bug::TrustFailedCommit) {
                self.speak(rest);
            }
            if !untold {
                batch = Batch::default();
            }
            if self.bug == Some(Bug::TornCommit) {
                batch.records.truncate(batch.records.len() / 2);
            }
            self.store_batch(batch); // it landed, and nobody was told
        }
        let Coordinator {
            life,
            sessions,
            sessions_before,
            ahead,
            ..
        } = self.coordinator;
        self.coordinator = Coordinator {
            life,
            sessions,
            sessions_before,
            ahead,
            ..Coordinator::default()
        };
        for host in 0..self.hosts.len() {
            self.cut(host, Millis(0));
        }
        self.after(down, Happening::CoordinatorStarts);
    }

    pub(crate) fn start_coordinator(&mut self) {
        if self.coordinator.is_up() {
            return;
        }
        self.coordinator.life += 1;
        self.coordinator.sessions_before = self.coordinator.sessions;
        if !self.calm && self.coordinator.life > 1 && self.rng.store.chance(20) {
            self.hit(Fault::CoordinatorClockSet);
            let hour = i64::try_from(self.rng.store.below(7_200_000)).expect("it is small");
            self.coordinator.ahead = hour - 3_600_000;
        }
        let clock = self.coordinator.clock(self.now);
        self.trace.note(
            self.now,
            format_args!("coordinator starts, term {}", self.coordinator.life),
        );
        self.check_acknowledged();
        let forgotten = self.bug == Some(Bug::ForgetPace) && self.coordinator.life > 1;
        let mut fleet = Fleet::new(Limits {
            retries_per_minute: if forgotten {
                10_000
            } else {
                self.retries_per_minute
            },
            ..Limits::default()
        });
        self.store.pace = Pace::begin(clock, self.retries_per_minute);
        let rows = match self.store.load() {
            Ok(rows) => rows,
            Err(violation) => return self.trace.violate(violation),
        };
        let mut out = Effects::default();
        for row in rows {
            let Some(row) = spoil::restored(self.bug, row) else {
                continue;
            };
            fleet.handle(clock, Event::Restored(row), &mut out);
        }
        if !out.drain().is_empty() {
            let what = "restoring had effects".to_owned();
            self.trace.violate(Violation {
                invariant: "a restart says nothing",
                what,
            });
        }
        for broken in fleet.broken_invariants() {
            // What waits for a retry is queued when its timer fires.
            self.trace.violate(Violation {
                invariant: broken.invariant,
                what: broken.what,
            });
        }
        self.coordinator.fleet = Some(fleet);
        self.go_on();
    }
}

const fn is_cordon_by_fleet(record: &Record) -> bool {
    let Record::AgentSchedulable { schedulable, .. } = record else {
        return false;
    };
    matches!(schedulable, Schedulable::Cordoned { until: Some(_), .. })
}
