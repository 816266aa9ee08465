//! Everything that a history consists of, and the one queue of what happens next.

use std::collections::BTreeMap;

use muster_core::effect::Order;
use muster_core::event::Event;
use muster_core::ids::{AttemptId, SessionNo};
use muster_core::image::Digest;
use muster_core::time::{Millis, Timestamp};
use muster_tests::random::Rng;

use crate::bug::Bug;
use crate::client::Client;
use crate::coordinator::{Coordinator, Input};
use crate::fault::{Coverage, Fault};
use crate::host::{Host, Step};
use crate::ledger::Ledger;
use crate::script::{Action, HEAL, Script};
use crate::store::Store;
use crate::trace::{BEGIN, Trace, Violation};

/// After the heal an attempt ends at least this often, and everything is over this long after the last one: more
/// than any limit, run and delay together.
const PATIENCE: Millis = Millis::from_secs(12 * 3600);
/// A history with more happenings than this goes in circles.
const HAPPENINGS: u64 = 400_000;

pub(crate) struct World {
    pub(crate) now: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Happening>,
    queued: u64,
    pub(crate) trace: Trace,
    pub(crate) store: Store,
    pub(crate) ledger: Ledger,
    pub(crate) coordinator: Coordinator,
    pub(crate) hosts: Vec<Host>,
    pub(crate) client: Client,
    pub(crate) rng: Streams,
    pub(crate) seed: u64,
    pub(crate) bug: Option<Bug>,
    /// The disasters are over: nothing is lost or doubled any more.
    pub(crate) calm: bool,
    pub(crate) coverage: Coverage,
    /// When the end of an attempt was stored last.
    pub(crate) latest_end: Timestamp,
    /// Some tasks stop when their host is cut off, so agents say often that they are there.
    pub(crate) leases: bool,
    /// As the operator set it.
    pub(crate) retries_per_minute: u32,
    /// No job has more tasks.
    pub(crate) most_tasks: u32,
}

/// One stream of random numbers for each concern.
pub(crate) struct Streams {
    pub(crate) network: Rng,
    pub(crate) store: Rng,
    pub(crate) engine: Rng,
    pub(crate) agent: Rng,
    pub(crate) client: Rng,
    pub(crate) warm: Rng,
}

#[derive(Debug)]
pub(crate) enum Happening {
    Act(Action),
    /// A message reaches the coordinator, if it is still the life it was sent to.
    Arrive {
        life: u64,
        input: Input,
    },
    Commit {
        life: u64,
    },
    Wake {
        life: u64,
    },
    CoordinatorStarts,
    Dial {
        host: usize,
        life: u64,
    },
    /// The agent says that it is there.
    Beat {
        host: usize,
        life: u64,
        session: SessionNo,
    },
    /// A message that the coordinator answers reaches it.
    Said {
        life: u64,
        host: usize,
        session: SessionNo,
        sent: u64,
        event: Box<Event>,
    },
    /// It hears that it was heard, with what it sent then.
    Heard {
        host: usize,
        life: u64,
        session: SessionNo,
        sent: u64,
        here: bool,
    },
    /// The init process of a container looks at its lease.
    Lease {
        host: usize,
        run: u64,
        attempt: AttemptId,
    },
    Orders {
        host: usize,
        session: SessionNo,
        orders: Vec<Order>,
    },
    Step {
        host: usize,
        life: u64,
        attempt: AttemptId,
        step: Step,
    },
    /// A container's process ends with that code.
    Ends {
        host: usize,
        run: u64,
        attempt: AttemptId,
        code: i32,
    },
    Fetched {
        host: usize,
        life: u64,
        digest: Digest,
    },
    /// The agent looks for containers without a journal.
    Leftovers {
        host: usize,
        life: u64,
    },
    /// The agent looks which containers are parked.
    Tend {
        host: usize,
        life: u64,
    },
    /// One more is.
    Parked {
        host: usize,
        life: u64,
        name: u64,
    },
    EngineStarts {
        host: usize,
        boot: u64,
    },
    AgentStarts {
        host: usize,
    },
    HostStarts {
        host: usize,
    },
    Reachable {
        host: usize,
    },
    /// A half-dead stream is noticed, by that session's keepalive.
    GivenUp {
        host: usize,
        session: SessionNo,
    },
    /// A start call that hung for minutes is carried out after all.
    LateStart {
        host: usize,
        boot: u64,
        attempt: AttemptId,
    },
    AskAgain {
        request: u64,
    },
}

/// What a history came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) hash: u64,
    pub(crate) violation: Option<Violation>,
    pub(crate) happenings: u64,
    pub(crate) attempts: usize,
    pub(crate) coverage: Coverage,
}

/// Runs one history to its end.
pub(crate) fn run(seed: u64, script: &Script, bug: Option<Bug>, printed: bool) -> Verdict {
    let mut world = World::new(seed, script, bug, printed);
    let mut happenings = 0;
    while world.trace.violation().is_none() && !world.is_over() {
        let Some(((at, _), next)) = world.queue.pop_first() else {
            break;
        };
        happenings += 1;
        let patient_until = world.latest_end.max(BEGIN + HEAL) + PATIENCE;
        if happenings > HAPPENINGS || at > patient_until {
            break;
        }
        world.now = world.now.max(at);
        world.happen(next);
    }
    if world.trace.violation().is_none() {
        world.check_the_end();
    }
    world.coverage.steps = world.store.steps;
    Verdict {
        hash: world.trace.hash(),
        violation: world.trace.violation().cloned(),
        happenings,
        attempts: world.store.attempts.len(),
        coverage: world.coverage,
    }
}

impl World {
    fn new(seed: u64, script: &Script, bug: Option<Bug>, printed: bool) -> Self {
        let stream = |concern| Rng::new(seed, concern);
        let mut shapes = stream("hosts");
        let hosts = (0..script.hosts).map(|number| Host::new(number, script.leases, &mut shapes));
        let mut world = Self {
            now: BEGIN,
            queue: BTreeMap::new(),
            queued: 0,
            trace: Trace::new(printed),
            store: Store::default(),
            ledger: Ledger::default(),
            coordinator: Coordinator::default(),
            hosts: hosts.collect(),
            client: Client::default(),
            rng: Streams {
                network: stream("network"),
                store: stream("store"),
                engine: stream("engine"),
                agent: stream("agent"),
                client: stream("client"),
                warm: stream("warm"),
            },
            seed,
            bug,
            calm: false,
            coverage: Coverage::default(),
            latest_end: BEGIN,
            most_tasks: script.most_tasks,
            leases: script.leases,
            retries_per_minute: script.retries_per_minute,
        };
        world.start_coordinator();
        world.act(Action::SetChannel);
        for host in 0..world.hosts.len() {
            world.after(Millis(1), Happening::AgentStarts { host });
        }
        for (at, action) in &script.actions {
            world.at(*at, Happening::Act(*action));
        }
        world.at(BEGIN + HEAL, Happening::Act(Action::Heal));
        world
    }

    pub(crate) fn at(&mut self, at: Timestamp, what: Happening) {
        self.queued += 1;
        self.queue.insert((at.max(self.now), self.queued), what);
    }

    pub(crate) fn hit(&mut self, fault: Fault) {
        self.coverage.hit(fault);
    }

    pub(crate) fn after(&mut self, span: Millis, what: Happening) {
        self.at(self.now + span, what);
    }

    /// A process that stands still gets what reaches it when it goes on.
    fn asleep_until(&self, next: &Happening) -> Option<Timestamp> {
        let until = match next {
            Happening::Arrive { .. }
            | Happening::Said { .. }
            | Happening::Commit { .. }
            | Happening::Wake { .. } => self.coordinator.asleep_until?,
            Happening::Dial { host, life }
            | Happening::Leftovers { host, life }
            | Happening::Tend { host, life }
            | Happening::Parked { host, life, .. }
            | Happening::Beat { host, life, .. }
            | Happening::Step { host, life, .. } => {
                let host = &self.hosts[*host];
                host.asleep_until.filter(|_| host.life == *life)?
            }
            Happening::Orders { host, .. } => self.hosts[*host].asleep_until?,
            _ => return None,
        };
        (until > self.now).then_some(until)
    }

    fn happen(&mut self, next: Happening) {
        if let Some(until) = self.asleep_until(&next) {
            return self.at(until, next);
        }
        match next {
            Happening::Act(action) => self.act(action),
            Happening::Arrive { life, input } => self.arrive(life, input),
            Happening::Commit { life } => self.commit(life),
            Happening::Wake { life } => self.wake(life),
            Happening::CoordinatorStarts => self.start_coordinator(),
            Happening::Dial { host, life } => self.dial(host, life),
            Happening::Beat {
                host,
                life,
                session,
            } => self.beat(host, life, session),
            Happening::Said {
                life,
                host,
                session,
                sent,
                event,
            } => {
                self.answer_said(host, session, sent, life);
                self.arrive(life, Input::Event(event));
            }
            Happening::Heard {
                host,
                life,
                session,
                sent,
                here,
            } => self.heard(host, life, session, sent, here),
            Happening::Lease { host, run, attempt } => self.mind_lease(host, run, attempt),
            Happening::Orders {
                host,
                session,
                orders,
            } => self.take_orders(host, session, orders),
            Happening::Step {
                host,
                life,
                attempt,
                step,
            } => self.step(host, life, attempt, step),
            Happening::Ends {
                host,
                run,
                attempt,
                code,
            } => self.process_ends(host, run, attempt, code),
            Happening::Fetched { host, life, digest } => self.fetched(host, life, digest),
            Happening::Leftovers { host, life } => self.look_for_leftovers(host, life),
            Happening::Tend { host, life } => self.tend(host, life),
            Happening::Parked { host, life, name } => self.parked(host, life, name),
            Happening::EngineStarts { host, boot } => self.start_engine(host, boot),
            Happening::AgentStarts { host } => self.start_agent(host),
            Happening::HostStarts { host } => self.start_host(host),
            Happening::Reachable { host } => self.hosts[host].reachable = true,
            Happening::GivenUp { host, session } => {
                if self.hosts[host].session == Some(session) {
                    self.cut(host, Millis(0));
                }
            }
            Happening::LateStart {
                host,
                boot,
                attempt,
            } => self.late_start(host, boot, attempt),
            Happening::AskAgain { request } => self.ask_again(request),
        }
    }

    /// After the heal a history is over when there is nothing left to do.
    fn is_over(&self) -> bool {
        self.calm
            && self.client.is_satisfied()
            && self.store.unfinished().is_none()
            && self.store.rollout_under_way().is_none()
            && self.hosts.iter().all(|host| host.leftover().is_none())
    }

    fn check_the_end(&mut self) {
        let violation = |invariant, what| Violation { invariant, what };
        if let Some(what) = self.store.unfinished() {
            self.trace
                .violate(violation("liveness: every job ends", what));
        }
        if let Some(what) = self.store.rollout_under_way() {
            self.trace
                .violate(violation("liveness: every rollout ends", what));
        }
        if let Some(what) = self.client.unanswered() {
            self.trace
                .violate(violation("liveness: every request is answered", what));
        }
        if let Some(what) = self.hosts.iter().find_map(Host::leftover) {
            self.trace.violate(violation("I15 no orphan", what));
        }
        if let Err(violation) = self.store.check_counts() {
            self.trace.violate(violation);
        }
        self.check_acknowledged();
    }
}
