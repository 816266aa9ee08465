//! Tasks that must not run while their host is cut off: heartbeats and their answers, the agent's look at
//! the last contact, and the init process's, which needs no agent.

use muster_agent::lease::Contacts;
use muster_agent::outcome::{InitWord, KillReason, Run, RunEnd};
use muster_agent::plan::Seen;
use muster_core::event::Event;
use muster_core::ids::{AttemptId, SessionNo};
use muster_core::spec::OnDisconnect;
use muster_core::time::Millis;

use crate::bug::Bug;
use crate::fault::Fault;
use crate::host::{Container, Host, Journal, State, Step};
use crate::ledger::Who;
use crate::script::Action;
use crate::warm::Warm;
use crate::world::{Happening, World};

/// Between two heartbeats.
const BEAT: Millis = Millis::from_secs(10);
/// How often an init process looks during a lease, and the longest time between two looks.
const LOOKS: u64 = 10;
const LOOK_MAX: u64 = 5_000;
/// How late it is when it knows when to look.
const LOOK_MIN: u64 = 50;
/// With which it exits if it starts nothing.
pub(crate) const UNUSABLE: i32 = 122;

/// What the agent tells the init process of a container, and what became of it. Times are those of the clock
/// that begins anew with the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    limit: Millis,
    grace: Millis,
    start_by: u64,
    /// The start of the host in which it was made: it sees the lease of no other.
    boot: u64,
    /// It was over, and then the task is killed.
    kill_at: Option<u64>,
}

impl Lease {
    pub(crate) fn of(host: &Host, attempt: AttemptId) -> Option<Self> {
        let spec = &host.disk[&attempt].offer.job.spec;
        let OnDisconnect::StopAfter(limit) = spec.on_disconnect else {
            return None;
        };
        Some(Self {
            limit,
            grace: spec.kill_grace,
            start_by: host.contacts().last() + limit.0,
            boot: host.boot,
            kill_at: None,
        })
    }
}

impl Container {
    pub(crate) fn lease_is_over(&self) -> bool {
        self.lease.is_some_and(|lease| lease.kill_at.is_some())
    }

    /// A container with a lease or one that was parked has muster's init process, the others have the engine's.
    const fn has_own_init(&self) -> bool {
        self.lease.is_some() || self.warm.is_some()
    }

    /// `adopted`: the key of the record was lost with the first journal.
    pub(crate) fn init_word(&self, adopted: bool) -> InitWord {
        match self.record {
            _ if !self.has_own_init() => InitWord::Absent,
            _ if adopted => InitWord::Unproven {
                leased: self.lease.is_some(),
            },
            Some(run) => InitWord::Record(run),
            None => InitWord::Silent {
                ran: self
                    .warm
                    .map_or_else(|| self.started.is_some(), Warm::has_records),
            },
        }
    }
}

impl Journal {
    pub(crate) fn since(&self, boot: u64, contacts: &Contacts) -> Option<u64> {
        let OnDisconnect::StopAfter(limit) = self.offer.job.spec.on_disconnect else {
            return None;
        };
        let (at, of) = self.heard;
        contacts.since((of == boot).then_some(at), limit)
    }
}

impl Host {
    /// The last contact, and the start of the host that it was in.
    pub(crate) fn heard(&self) -> (u64, u64) {
        (self.contacts().last(), self.boot)
    }

    fn contacts(&self) -> Contacts {
        let agent = self.agent.as_ref();
        agent.map_or_else(Contacts::default, |agent| agent.contacts.clone())
    }

    /// How long it may go on without a contact.
    pub(crate) fn limit(&self, attempt: AttemptId) -> Option<Millis> {
        match self.disk.get(&attempt)?.offer.job.spec.on_disconnect {
            OnDisconnect::StopAfter(limit) => Some(limit),
            OnDisconnect::Finish => None,
        }
    }
}

impl World {
    /// Sends a heartbeat, and comes back for the next one.
    pub(crate) fn beat(&mut self, at: usize, life: u64, session: SessionNo) {
        let host = &self.hosts[at];
        if host.life != life || host.session != Some(session) || host.agent.is_none() {
            return;
        }
        let next = Happening::Beat {
            host: at,
            life,
            session,
        };
        self.after(BEAT, next);
        let event = Event::AgentBeat {
            agent: self.hosts[at].id.clone(),
            session: self.coordinator.number(session),
            held: None,
        };
        self.say(at, session, event);
        if let Some(lasts) = self.hosts[at].pause_next.take() {
            self.pause_agent(at, lasts);
        }
    }

    /// Sends what the coordinator answers when it has it.
    pub(crate) fn say(&mut self, at: usize, session: SessionNo, event: Event) {
        let sent = self.hosts[at].uptime(self.now);
        if self.hosts[at].mute {
            return;
        }
        let arrives = self.upwards(at);
        let life = self.coordinator.life;
        let said = Happening::Said {
            life,
            host: at,
            session,
            sent,
            event: Box::new(event),
        };
        self.at(arrives, said);
    }

    /// Whatever becomes of the stream, the fleet hears of it before the agent knows that it was heard.
    pub(crate) fn answer_said(&mut self, at: usize, session: SessionNo, sent: u64, life: u64) {
        if life != self.coordinator.life || !self.coordinator.is_up() {
            return;
        }
        if self.hosts[at].session != Some(session) || self.hosts[at].deaf {
            return;
        }
        let arrives = self.downwards(at);
        let (life, host) = (self.hosts[at].life, at);
        let heard = Happening::Heard {
            host,
            life,
            session,
            sent,
            here: false,
        };
        self.at(arrives, heard);
    }

    /// `here`: it has arrived, and its agent stood still.
    pub(crate) fn heard(
        &mut self,
        at: usize,
        life: u64,
        session: SessionNo,
        sent: u64,
        here: bool,
    ) {
        let now = self.now;
        let host = &mut self.hosts[at];
        if host.life != life || host.agent.is_none() || !(here || host.session == Some(session)) {
            return;
        }
        if let Some(until) = host.asleep_until.filter(|until| *until > now) {
            let later = Happening::Heard {
                host: at,
                life,
                session,
                sent,
                here: true,
            };
            return self.at(until, later);
        }
        host.answered = host.answered.max(sent);
        let noted = match self.bug {
            Some(Bug::RenewAtAnswer) => host.uptime(now),
            _ => sent,
        };
        let agent = host.agent.as_mut().expect("it was just looked at");
        agent.contacts.note(noted);
        if self.bug != Some(Bug::ForgetRenewal) {
            host.lease = agent.contacts.last();
        }
    }

    /// It happens that the agent dies, for longer than some tasks may run without it, just when an attempt is
    /// neither here nor there.
    pub(crate) fn agent_dies(&mut self, at: usize, attempt: AttemptId, percent: u64) {
        let leased = self.hosts[at].limit(attempt).is_some();
        if !leased || self.calm || !self.rng.engine.chance(percent) {
            return;
        }
        let crash = Action::CrashAgent {
            host: u64::try_from(at).expect("a handful"),
            down: Millis(self.rng.engine.between(50_000, 250_000)),
        };
        let soon = Millis(self.rng.engine.between(10, 200));
        self.after(soon, Happening::Act(crash));
    }

    /// The agent's look before a start.
    pub(crate) fn is_cut_off(&self, at: usize, attempt: AttemptId) -> bool {
        let host = &self.hosts[at];
        let (Some(limit), Some(agent)) = (host.limit(attempt), &host.agent) else {
            return false;
        };
        let (contacts, now) = (&agent.contacts, host.uptime(self.now));
        if self.bug == Some(Bug::ForgetGap) {
            return contacts.left(now, limit) == Millis(0);
        }
        let since = agent.lives.get(&attempt).and_then(|life| life.since);
        contacts.is_cut_off(now, limit, since)
    }

    /// The agent's look while a task runs.
    pub(crate) fn mind_contact(&mut self, at: usize, attempt: AttemptId) {
        let host = &self.hosts[at];
        let (Some(limit), Some(agent)) = (host.limit(attempt), &host.agent) else {
            return;
        };
        if host.seen(attempt) != Seen::Running {
            return;
        }
        let left = agent.contacts.left(host.uptime(self.now), limit);
        if left > Millis(0) {
            let looks = Millis(host.takes(left).0 + 1);
            return self.step_after(at, attempt, Step::Contact, looks);
        }
        let agent = self.hosts[at].agent.as_mut().expect("it was just there");
        let life = agent.lives.entry(attempt).or_default();
        if life.stop.is_none() {
            life.stop = Some((KillReason::Disconnected, false));
            self.hit(Fault::Disconnected);
            self.check_silence(at, attempt, limit);
            self.kill(at, attempt, (KillReason::Disconnected, false));
        }
    }

    fn check_silence(&mut self, at: usize, attempt: AttemptId, limit: Millis) {
        let host = &self.hosts[at];
        let silent = host.uptime(self.now).saturating_sub(host.answered);
        if silent < limit.0 {
            let what = format!("{attempt} is stopped after {silent} ms of silence, not {limit}");
            self.violated("only silence stops a task", what);
        }
    }

    /// Whether the container starts nothing: it is too late, or what it was to watch is gone.
    pub(crate) fn starts_nothing(&mut self, at: usize, attempt: AttemptId) -> bool {
        let now = self.now;
        let host = &mut self.hosts[at];
        let (uptime, dated) = (host.uptime(now), host.clock(now));
        let (boot, renewed) = (host.boot, host.lease);
        let container = host.engine.containers.get_mut(&attempt);
        let container = container.expect("the caller found it");
        let Some(lease) = container.lease else {
            return false;
        };
        if lease.boot != boot {
            "bind source path does not exist".clone_into(&mut container.error);
            return true;
        }
        let over = uptime > lease.start_by || uptime.saturating_sub(renewed) > lease.limit.0;
        if !over || self.bug == Some(Bug::IgnoreStartDeadline) {
            return false;
        }
        container.started = Some(dated);
        self.hit(Fault::StartTooLate);
        self.container_ended(at, attempt, UNUSABLE, Who::Other);
        true
    }

    pub(crate) fn watch_lease(&mut self, at: usize, attempt: AttemptId) {
        let container = &self.hosts[at].engine.containers[&attempt];
        let (Some(lease), State::Running { run }) = (container.lease, container.state) else {
            return;
        };
        if self.bug == Some(Bug::IgnoreLease) {
            return;
        }
        let host = &self.hosts[at];
        let uptime = host.uptime(self.now);
        let due = lease.kill_at.unwrap_or(host.lease + lease.limit.0 + 1);
        let pause = match lease.kill_at {
            Some(_) => LOOK_MIN,
            None => (lease.limit.0 / LOOKS).min(LOOK_MAX),
        };
        let left = host.takes(Millis(due.saturating_sub(uptime)));
        let late = Millis(self.rng.engine.between(1, pause));
        let look = Happening::Lease {
            host: at,
            run,
            attempt,
        };
        self.after(Millis(left.0 + late.0), look);
    }

    /// The init process's look: TERM when the lease is over, KILL when the grace is.
    pub(crate) fn mind_lease(&mut self, at: usize, run: u64, attempt: AttemptId) {
        let host = &mut self.hosts[at];
        let (uptime, renewed) = (host.uptime(self.now), host.lease);
        let Some(container) = host.engine.containers.get_mut(&attempt) else {
            return;
        };
        let running = container.state == (State::Running { run });
        let Some(lease) = container.lease.as_mut().filter(|_| running) else {
            return;
        };
        match lease.kill_at {
            Some(kill_at) if uptime >= kill_at => {
                self.init_saw_end(at, attempt, 137);
                return self.container_ended(at, attempt, 137, Who::Lease);
            }
            None if uptime.saturating_sub(renewed) > lease.limit.0 => {
                lease.kill_at = Some(uptime + lease.grace.0);
                let (limit, on_term) = (lease.limit, container.program.on_term);
                let told = container.signalled;
                self.hit(Fault::LeaseEnded);
                self.check_silence(at, attempt, limit);
                if let Some((after, code)) = on_term.filter(|_| !told) {
                    self.ends_after(at, attempt, Millis(after), code);
                }
            }
            Some(_) | None => {}
        }
        self.watch_lease(at, attempt);
    }

    /// The record of an end that the init process has seen.
    pub(crate) fn init_saw_end(&mut self, at: usize, attempt: AttemptId, code: i32) {
        let ended = self.hosts[at].clock(self.now);
        let container = self.hosts[at].engine.containers.get_mut(&attempt);
        let container = container.expect("the caller found it");
        let lease_ended = container.lease_is_over();
        let kept = container.has_own_init() && container.warm.is_none_or(Warm::has_records);
        if let Some(started) = container.started.filter(|_| kept) {
            container.record = Some(Run {
                started,
                ended,
                end: match code {
                    129..160 => RunEnd::Signaled(code - 128),
                    _ => RunEnd::Exited(code),
                },
                signal: container.signalled.then_some(15),
                lease_ended,
                oom_killed: container.program.oom || container.program.child_oom,
            });
        }
    }
}
