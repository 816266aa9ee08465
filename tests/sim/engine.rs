//! The container engine, modelled after what was measured: who ends containers, and what is left to see.

use muster_core::ids::AttemptId;
use muster_core::image::Digest;
use muster_core::time::Millis;
use muster_tests::random::Rng;

use crate::bug::Bug;
use crate::fault::Fault;
use crate::host::{Container, Program, State, Step};
use crate::lease::Lease;
use crate::ledger::Who;
use crate::script::Action;
use crate::world::{Happening, World};

impl World {
    pub(crate) fn create(&mut self, at: usize, attempt: AttemptId, digest: Digest) {
        let container = Container {
            state: State::Created,
            error: String::new(),
            digest,
            program: Program::of(self.seed, attempt, digest),
            started: None,
            finished: None,
            code: 0,
            oom: false,
            signalled: false,
            foreign_kill: None,
            lease: Lease::of(&self.hosts[at], attempt),
            record: None,
            warm: None,
        };
        let engine = &mut self.hosts[at].engine;
        engine.containers.insert(attempt, container);
    }

    pub(crate) fn run_container(&mut self, at: usize, attempt: AttemptId) {
        let now = self.hosts[at].clock(self.now);
        let is_broken = self.now < self.hosts[at].broken_until;
        let engine = &mut self.hosts[at].engine;
        let Some(container) = engine.containers.get_mut(&attempt) else {
            return;
        };
        if container.program.no_entrypoint {
            self.coverage.hit(Fault::NoEntrypoint);
            if container.warm.is_some() {
                return self.no_program(at, attempt);
            }
            "no such file or directory".clone_into(&mut container.error);
            container.code = 127;
            return;
        }
        if is_broken && container.warm.is_none() {
            "unable to retrieve OCI runtime error".clone_into(&mut container.error);
            container.code = 127;
            return;
        }
        if self.starts_nothing(at, attempt) {
            return;
        }
        if self.ledger.ran(attempt) {
            return self.violated("I7 one start", format!("{attempt} runs a second time"));
        }
        let engine = &mut self.hosts[at].engine;
        let container = engine.containers.get_mut(&attempt);
        let container = container.expect("it was found above");
        engine.runs += 1;
        let run = engine.runs;
        container.state = State::Running { run };
        container.started = Some(now);
        let (span, code) = (Millis(container.program.runs_for), container.program.code);
        self.ledger.started(attempt);
        self.poison(at, attempt, Millis(span.0 / 2));
        self.ends_after(at, attempt, span, code);
        self.watch_lease(at, attempt);
        self.check_alone(attempt);
    }

    /// Some tasks kill the engine that runs them, each time.
    fn poison(&mut self, at: usize, attempt: AttemptId, after: Millis) {
        let mut rng = Rng::new(self.seed, &format!("poison of {}", attempt.task));
        if self.calm || !rng.chance(1) {
            return;
        }
        self.hit(Fault::Poison);
        let kill = Action::RestartEngine {
            host: u64::try_from(at).expect("a handful"),
            gracefully: false,
            down: Millis(rng.between(1_000, 5_000)),
            unseen: false,
        };
        self.after(after, Happening::Act(kill));
    }

    /// The engine carries a call out that its caller has long given up.
    pub(crate) fn late_start(&mut self, at: usize, boot: u64, attempt: AttemptId) {
        let host = &self.hosts[at];
        let created = host.engine.containers.get(&attempt);
        let waits = created.is_some_and(|container| {
            container.warm.is_some() || container.state == State::Created && host.engine.up
        });
        if host.boot == boot && waits {
            self.start_task(at, attempt);
            self.step_after(at, attempt, Step::Look, Millis(10));
        }
    }

    pub(crate) fn ends_after(&mut self, at: usize, attempt: AttemptId, span: Millis, code: i32) {
        let container = self.hosts[at].engine.containers.get(&attempt);
        if let Some(State::Running { run }) = container.map(|container| container.state) {
            let ends = Happening::Ends {
                host: at,
                run,
                attempt,
                code,
            };
            self.after(span, ends);
        }
    }

    /// The agent's signal; `delay` in milliseconds, for KILL.
    pub(crate) fn signal(&mut self, at: usize, attempt: AttemptId, signal: i32, delay: u64) {
        let journal = self.hosts[at].disk.get(&attempt);
        if journal.is_none_or(|journal| journal.kills.is_empty()) {
            let what = format!("{attempt} is signalled, and no reason is written down");
            return self.violated("I16 hands off", what);
        }
        let Some(container) = self.hosts[at].engine.containers.get_mut(&attempt) else {
            return;
        };
        container.signalled = true;
        let ends = match signal {
            9 => Some((delay, 137)),
            _ => container.program.on_term,
        };
        if let Some((after, code)) = ends {
            self.ends_after(at, attempt, Millis(after), code);
        }
    }

    pub(crate) fn process_ends(&mut self, at: usize, run: u64, attempt: AttemptId, code: i32) {
        let Some(container) = self.hosts[at].engine.containers.get(&attempt) else {
            return;
        };
        if container.state != (State::Running { run }) {
            return;
        }
        let leased_out = container.lease_is_over();
        let signalled = container.signalled;
        let own = code == container.program.code && !signalled && !leased_out;
        let (who, oom) = if own {
            let Program { oom, child_oom, .. } = container.program;
            if oom {
                self.coverage.hit(Fault::OutOfMemory);
            }
            if child_oom {
                self.coverage.hit(Fault::ChildOutOfMemory);
            }
            (Who::Itself, oom || child_oom)
        } else if leased_out {
            (Who::Lease, false)
        } else {
            (Who::Other, false)
        };
        if !(signalled && code == 137) {
            self.init_saw_end(at, attempt, code);
        }
        if !self.hosts[at].engine.up {
            self.hit(Fault::EndUnseen);
        }
        self.container_ended(at, attempt, code, who);
        if let Some(container) = self.hosts[at].engine.containers.get_mut(&attempt) {
            container.oom = oom;
        }
    }

    pub(crate) fn container_ended(&mut self, at: usize, attempt: AttemptId, code: i32, who: Who) {
        let now = self.now;
        let host = &mut self.hosts[at];
        let dated = host.clock(now);
        let container = host.engine.containers.get_mut(&attempt);
        let container = container.expect("the caller found it");
        container.state = State::Exited;
        container.finished = Some(dated);
        container.code = code;
        // What comes after the agent's own signal changes nothing about why it had to end.
        let who = if container.signalled { Who::Agent } else { who };
        self.ledger.ended(attempt, code, who);
        let id = &host.id;
        self.trace.note(
            now,
            format_args!("{id} {attempt} exits with {code}, by {who:?}"),
        );
        if self.bug == Some(Bug::AutoRemove) {
            self.hosts[at].engine.containers.remove(&attempt);
        }
        let (life, host) = (self.hosts[at].life, at);
        let harvest = Happening::Step {
            host,
            life,
            attempt,
            step: Step::Harvest,
        };
        let heard = Millis(self.rng.engine.between(1, 100));
        self.after(heard, harvest);
    }

    fn running(&self, at: usize) -> Vec<AttemptId> {
        let containers = self.hosts[at].engine.containers.iter();
        containers
            .filter(|(_, container)| matches!(container.state, State::Running { .. }))
            .map(|(attempt, _)| *attempt)
            .collect()
    }

    /// Without live-restore an engine that stops takes its containers with it; one that is killed does
    /// so when it comes back.
    pub(crate) fn restart_engine(&mut self, at: usize, gracefully: bool, down: Millis) {
        let now = self.now;
        let host = &mut self.hosts[at];
        if !host.powered || !host.engine.up {
            return;
        }
        self.trace.note(
            now,
            format_args!("{} engine stops, gracefully: {gracefully}", host.id),
        );
        self.coverage.hit(if gracefully {
            Fault::EngineStop
        } else {
            Fault::EngineKill
        });
        host.engine.up = false;
        host.lose_engine(now, self.bug);
        let (boot, live_restore) = (host.boot, host.engine.live_restore);
        if gracefully && !live_restore {
            self.stop_parked(at);
            // The stream to the agent is closed before the first container is told.
            self.now = now + Millis(50);
            for attempt in self.running(at) {
                let container = &self.hosts[at].engine.containers[&attempt];
                let code = container.program.on_term.map_or(137, |(_, code)| code);
                self.container_ended(at, attempt, code, Who::Other);
            }
        }
        self.after(down, Happening::EngineStarts { host: at, boot });
    }

    pub(crate) fn start_engine(&mut self, at: usize, boot: u64) {
        let host = &mut self.hosts[at];
        if host.boot != boot || !host.powered {
            return;
        }
        host.engine.up = true;
        host.engine.started = host.clock(self.now);
        if !host.engine.live_restore {
            self.stop_parked(at);
            for attempt in self.running(at) {
                self.container_ended(at, attempt, 137, Who::Other);
            }
        }
        self.tend_soon(at, Millis(1));
    }

    pub(crate) fn power_off(&mut self, at: usize) {
        self.hit(Fault::Reboot);
        let host = &mut self.hosts[at];
        host.powered = false;
        host.engine.up = false;
        host.agent = None;
        self.trace
            .note(self.now, format_args!("{} goes down", host.id));
        let notice = Millis(self.rng.network.below(40_000));
        self.cut(at, notice);
        self.lose_unsynced(at);
        self.stop_parked(at);
        for attempt in self.running(at) {
            // Nobody sees it before the host is back: the exit is dated then.
            let container = self.hosts[at].engine.containers.get_mut(&attempt);
            let container = container.expect("it was just listed");
            container.state = State::Exited;
            let who = if container.signalled {
                Who::Agent
            } else {
                Who::Other
            };
            self.ledger.ended(attempt, 255, who);
        }
    }

    /// The journal's note of a start does not wait for the disk, as the agent writes it; a kill and an end
    /// do, and take what is before them along.
    fn lose_unsynced(&mut self, at: usize) {
        let mut lost = 0;
        for journal in self.hosts[at].disk.values_mut() {
            let forgetful = self.bug == Some(Bug::KillUnsynced);
            let synced = !forgetful && !journal.kills.is_empty();
            let unsynced = journal.ended.is_none() && journal.started && !synced;
            if unsynced && self.rng.agent.chance(50) {
                // A torn last line counts as not written, so there is nothing between the two.
                let kept = self.rng.agent.index(journal.kills.len() + 1);
                journal.kills.truncate(kept);
                journal.started = kept > 0;
                lost += 1;
            }
        }
        for _ in 0..lost {
            self.hit(Fault::UnsyncedLost);
        }
    }

    pub(crate) fn start_host(&mut self, at: usize) {
        let now = self.now;
        let host = &mut self.hosts[at];
        if host.powered || host.destroyed {
            return;
        }
        host.powered = true;
        host.begin_boot(now);
        host.engine.up = true;
        let now = host.clock(now);
        host.engine.started = now;
        for container in host.engine.containers.values_mut() {
            if container.state == State::Exited && container.finished.is_none() {
                container.finished = Some(now);
                container.code = 255;
            }
        }
        self.start_agent(at);
    }

    /// A stranger kills a container, and the agent hears of it if it listens.
    pub(crate) fn kill_from_outside(&mut self, at: usize, draw: u64) {
        if self.rng.warm.chance(30) {
            self.stop_parked(at);
        }
        let running = self.running(at);
        let Ok(count) = u64::try_from(running.len()) else {
            return;
        };
        if count == 0 || !self.hosts[at].engine.up {
            return;
        }
        let attempt = running[usize::try_from(draw % count).expect("it is an index")];
        let (now, clock) = (self.now, self.hosts[at].clock(self.now));
        let host = &mut self.hosts[at];
        self.coverage.hit(Fault::KilledByStranger);
        let heard = host.agent.is_some() && host.asleep_until.is_none_or(|until| until <= now);
        if let Some(container) = host.engine.containers.get_mut(&attempt) {
            container.foreign_kill = heard.then_some(clock);
        }
        self.container_ended(at, attempt, 137, Who::Other);
    }

    pub(crate) fn fetched(&mut self, at: usize, life: u64, digest: Digest) {
        let host = &mut self.hosts[at];
        if host.life == life && host.agent.is_some() && host.engine.images.insert(digest) {
            self.tell_held(at);
            self.tend_soon(at, Millis(1));
        }
    }
}
