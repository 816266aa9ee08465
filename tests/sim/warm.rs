//! A task in a container that was parked before: who gets which, what its init process is told, and who has the one
//! start. What such a container is for its task is the agent's own `plan::parked`.

use muster_agent::outcome::{Run, RunEnd};
use muster_agent::plan::parked::{Taken, take};
use muster_core::ids::AttemptId;
use muster_core::time::{Millis, Timestamp};

use crate::bug::Bug;
use crate::fault::Fault;
use crate::host::{Container, Host, Journal, Program, State, Step};
use crate::lease::{Lease, UNUSABLE};
use crate::ledger::Who;
use crate::parked::{Parked, Shape};
use crate::script::Action;
use crate::world::{Happening, World};

/// From the message to the answer, which the agent waits for.
const TOLD: u64 = 10_000;

/// Of an attempt's container that was parked before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Warm {
    name: u64,
    /// It has the attempt's name.
    pub(crate) renamed: bool,
    start: Start,
    /// Its directory of records is gone with the disk.
    lost: bool,
}

/// The one start, which only one of the init process and the agent can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Armed,
    /// The whole message is in the socket, and the init process has not read it yet.
    Told,
    Used,
    Withdrawn,
}

impl Warm {
    /// As far as the agent can tell.
    pub(crate) const fn has_started(self) -> bool {
        matches!(self.start, Start::Used) || self.lost
    }

    /// Whether the init process's records say so.
    pub(crate) const fn has_records(self) -> bool {
        matches!(self.start, Start::Used) && !self.lost
    }
}

impl Journal {
    /// The parked container that its task may have been started in.
    pub(crate) fn parked(&self) -> Option<u64> {
        self.intent?.warm
    }
}

impl Host {
    /// When the task in an attempt's container began, as far as its agent can tell.
    pub(crate) fn started(&self, attempt: AttemptId) -> Option<Timestamp> {
        let container = self.engine.containers.get(&attempt)?;
        let Some(warm) = container.warm else {
            return container.started;
        };
        let intent = self.disk.get(&attempt).and_then(|journal| journal.intent);
        let asked = intent.filter(|_| warm.has_started());
        container.started.or_else(|| asked.map(|intent| intent.at))
    }

    pub(crate) fn parked_as(&self, attempt: AttemptId) -> Option<u64> {
        let warm = self.engine.containers.get(&attempt)?.warm;
        warm.map(|warm| warm.name)
    }

    /// Those who wait to be told end when there is nobody who could.
    fn end_parked(&mut self) {
        for (name, parked) in &mut self.engine.parked {
            parked.runs &= !self.homes.contains_key(name);
        }
    }
}

impl World {
    /// The agent is gone, and with it the other end of their sockets.
    pub(crate) fn hang_up(&mut self, at: usize) {
        self.hosts[at].end_parked();
        let containers = self.hosts[at].engine.containers.iter();
        let armed = containers.filter(|(_, container)| {
            container
                .warm
                .is_some_and(|warm| warm.start == Start::Armed)
                && matches!(container.state, State::Running { .. })
        });
        let armed: Vec<AttemptId> = armed.map(|(attempt, _)| *attempt).collect();
        for attempt in armed {
            self.container_ended(at, attempt, UNUSABLE, Who::Other);
        }
    }

    /// The disk is lost. Of a container whose task was told of and which has not got its name yet, nobody can say any
    /// more which that is: what it does from now on counts for nobody.
    pub(crate) fn lose_homes(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        host.homes.clear();
        let mut nameless = Vec::new();
        for (attempt, container) in &mut host.engine.containers {
            if let Some(warm) = &mut container.warm {
                warm.lost = true;
                if !warm.renamed {
                    nameless.push((*attempt, warm.name));
                }
            }
        }
        for (attempt, name) in nameless {
            let container = host.engine.containers.remove(&attempt);
            let container = container.expect("it was just listed");
            let shape = Shape {
                digest: container.digest,
                leased: container.lease.is_some(),
            };
            let runs = matches!(container.state, State::Running { .. });
            host.engine.parked.insert(name, Parked { shape, runs });
            if self.ledger.ran(attempt) {
                self.coverage.hit(Fault::NameLost);
                self.ledger.disown(attempt);
            }
        }
    }

    /// Takes a parked container for a task, if there is one that it can be started in.
    pub(crate) fn take_parked(&mut self, at: usize, attempt: AttemptId) -> bool {
        let bug = self.bug;
        let host = &mut self.hosts[at];
        let shape = Shape {
            digest: host.disk[&attempt].offer.image.digest(),
            leased: host.limit(attempt).is_some(),
        };
        let agent = host.agent.as_mut().expect("a step has an agent");
        let (pool, life) = (&mut agent.pool, agent.lives.get_mut(&attempt));
        let Some(life) = life.filter(|life| life.fresh) else {
            return false;
        };
        let keeps_old = bug == Some(Bug::KeepParked);
        let is_current = pool.want.is_some_and(|(digest, _)| digest == shape.digest);
        if !is_current && !keeps_old {
            return false;
        }
        let fits =
            |(_, made): &(u64, Shape)| *made == shape || keeps_old && made.leased == shape.leased;
        let twice = bug == Some(Bug::ShareParked);
        let lives = |(name, _): &(u64, Shape)| {
            let parked = host.engine.parked.get(name);
            parked.map_or(twice, |parked| parked.runs)
        };
        let Taken { found, dead } = take(&mut pool.parked, fits, lives);
        pool.doomed.extend(dead.into_iter().map(|(name, _)| name));
        let Some((name, made)) = found else {
            return false;
        };
        if twice {
            pool.parked.push((name, made));
        }
        life.given = Some(name);
        host.homes.insert(name, true);
        self.tend_soon(at, Millis(5));
        true
    }

    /// It is not wanted for its task any more.
    pub(crate) fn discard_parked(&mut self, at: usize, attempt: AttemptId) {
        let agent = self.hosts[at].agent.as_mut().expect("a step has an agent");
        let life = agent.lives.get_mut(&attempt);
        if let Some(name) = life.and_then(|life| life.given.take()) {
            agent.pool.doomed.push(name);
            self.tend_soon(at, Millis(1));
        }
    }

    /// The intent names it: from now on it is this attempt's.
    pub(crate) fn give(&mut self, at: usize, attempt: AttemptId, name: u64) {
        let now = self.now;
        let host = &mut self.hosts[at];
        let Some(Parked { shape, runs }) = host.engine.parked.remove(&name) else {
            let what = format!("{attempt} is given {name}, which another one was given");
            return self.violated("a parked container serves one task", what);
        };
        host.engine.runs += 1;
        let run = host.engine.runs;
        let container = Container {
            state: if runs {
                State::Running { run }
            } else {
                State::Exited
            },
            error: String::new(),
            digest: shape.digest,
            program: Program::of(self.seed, attempt, shape.digest),
            started: None,
            finished: (!runs).then(|| host.clock(now)),
            code: if runs { 0 } else { UNUSABLE },
            oom: false,
            signalled: false,
            foreign_kill: None,
            lease: Lease::of(host, attempt),
            record: None,
            warm: Some(Warm {
                name,
                renamed: false,
                start: Start::Armed,
                lost: false,
            }),
        };
        host.engine.containers.insert(attempt, container);
        self.agent_dies_telling(at);
    }

    /// Its agent dies while it tells an init process of a task, or before the container has got its name.
    fn agent_dies_telling(&mut self, at: usize) {
        if self.calm || !self.rng.warm.chance(6) {
            return;
        }
        self.hit(Fault::AgentCrashTelling);
        let host = u64::try_from(at).expect("a handful");
        let down = Millis(self.rng.warm.between(200, 60_000));
        let crash = if self.rng.warm.chance(30) {
            Action::LoseJournals { host, down }
        } else {
            Action::CrashAgent { host, down }
        };
        let soon = Millis(self.rng.warm.between(1, 60));
        self.after(soon, Happening::Act(crash));
    }

    /// A program that is not there: the init process says so.
    pub(crate) fn no_program(&mut self, at: usize, attempt: AttemptId) {
        let now = self.hosts[at].clock(self.now);
        let container = self.hosts[at].engine.containers.get_mut(&attempt);
        let container = container.expect("the caller found it");
        container.started = Some(now);
        container.record = Some(Run {
            started: now,
            ended: now,
            end: RunEnd::NoProgram(2),
            signal: None,
            lease_ended: false,
            oom_killed: false,
        });
        self.container_ended(at, attempt, 127, Who::Itself);
    }

    /// The message is cut short: its init process ends without having been told.
    pub(crate) fn tell_half(&mut self, at: usize, attempt: AttemptId) {
        let container = self.hosts[at].engine.containers.get(&attempt);
        let waits = container.is_some_and(|container| {
            container.warm.is_some() && matches!(container.state, State::Running { .. })
        });
        if waits {
            self.container_ended(at, attempt, UNUSABLE, Who::Other);
        }
    }

    /// The message is whole, and its init process stands still.
    pub(crate) fn tell_frozen(&mut self, at: usize, attempt: AttemptId) {
        let container = self.hosts[at].engine.containers.get_mut(&attempt);
        if let Some(warm) = container.and_then(|container| container.warm.as_mut()) {
            warm.start = Start::Told;
        }
    }

    /// Its init process has been told, and uses the one start. True: it was there to be used.
    pub(crate) fn use_start(&mut self, at: usize, attempt: AttemptId) -> bool {
        let Some(container) = self.hosts[at].engine.containers.get_mut(&attempt) else {
            return false;
        };
        let Some(warm) = &mut container.warm else {
            return true;
        };
        if !matches!(container.state, State::Running { .. }) {
            return false;
        }
        if warm.lost || matches!(warm.start, Start::Used | Start::Withdrawn) {
            self.container_ended(at, attempt, UNUSABLE, Who::Other);
            return false;
        }
        warm.start = Start::Used;
        self.hit(Fault::StartParked);
        true
    }

    /// What comes after the one call for the start.
    pub(crate) fn after_start(&mut self, at: usize, attempt: AttemptId, told: bool) {
        if self.hosts[at].disk[&attempt].parked().is_none() {
            return match told {
                true => self.later(at, attempt, Step::Started, 200),
                false => self.later(at, attempt, Step::Look, 2_000),
            };
        }
        let agent = self.hosts[at].agent.as_mut();
        if let Some(life) = agent.and_then(|agent| agent.lives.get_mut(&attempt)) {
            life.told = told;
        }
        self.agent_dies_telling(at);
        let most = if told { 60 } else { TOLD };
        self.later(at, attempt, Step::Rename, most);
    }

    /// Gives it the attempt's name.
    pub(crate) fn rename(&mut self, at: usize, attempt: AttemptId) {
        let container = self.hosts[at].engine.containers.get_mut(&attempt);
        if let Some(warm) = container.and_then(|container| container.warm.as_mut()) {
            warm.renamed = true;
        }
        match self.life(at, attempt).told {
            true => self.follow(at, attempt),
            false if self.bug == Some(Bug::TellAgain) => self.call_start(at, attempt),
            false => self.look(at, attempt),
        }
    }

    /// Takes the one start back, and ends the container. False: it was not parked.
    pub(crate) fn withdraw(&mut self, at: usize, attempt: AttemptId) -> bool {
        let forgets = self.bug == Some(Bug::ForgetWithdraw);
        let container = self.hosts[at].engine.containers.get_mut(&attempt);
        let Some(warm) = container.and_then(|container| container.warm.as_mut()) else {
            return false;
        };
        if !forgets {
            warm.start = Start::Withdrawn;
            self.hit(Fault::StartWithdrawn);
            self.end_unused(at, attempt);
        }
        // The init process may go on at that very moment.
        let goes_on = Happening::LateStart {
            host: at,
            boot: self.hosts[at].boot,
            attempt,
        };
        let soon = Millis(self.rng.warm.between(1, 100));
        self.after(soon, goes_on);
        true
    }

    /// One whose task was never started may be waiting still.
    pub(crate) fn end_unused(&mut self, at: usize, attempt: AttemptId) {
        let Some(container) = self.hosts[at].engine.containers.get(&attempt) else {
            return;
        };
        let unused = container.warm.is_some_and(|warm| !warm.has_started());
        if unused && matches!(container.state, State::Running { .. }) {
            self.container_ended(at, attempt, 137, Who::Other);
        }
    }
}
