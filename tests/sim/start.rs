//! The one call that must not be made twice, and the ways in which it goes wrong.

use muster_core::ids::AttemptId;
use muster_core::outcome::{End, EndReason, Outcome};
use muster_core::time::Millis;

use crate::bug::Bug;
use crate::fault::Fault;
use crate::store::NEVER_RAN;
use crate::world::{Happening, World};

impl World {
    /// Only one attempt of a task runs, unless the agent of an older one was given up; and not even then if its
    /// host stops it in time.
    pub(crate) fn check_alone(&mut self, attempt: AttemptId) {
        if self.store.counts_as_stopped(attempt) {
            let what = format!("{attempt} starts, and counts as stopped");
            return self.violated("I8 bounded overlap", what);
        }
        let Some(other) = self.ledger.runs_beside(attempt) else {
            return;
        };
        if !self.store.may_overlap(attempt.min(other)) {
            let what = format!("{attempt} starts while {other} runs");
            self.violated("I8 bounded overlap", what);
        }
    }

    pub(crate) fn call_start(&mut self, at: usize, attempt: AttemptId) {
        let asked = self.ledger.start_asked(attempt);
        if asked > 1 {
            return self.violated(
                "I7 one start",
                format!("{attempt} was started {asked} times"),
            );
        }
        if self.store.is_refused(attempt) {
            return self.violated(NEVER_RAN, format!("{attempt} starts, and was refused"));
        }
        if self.store.must_not_run(attempt, &self.ledger) {
            let what = format!("{attempt} starts, and an earlier one may have run");
            return self.violated("I8 bounded overlap", what);
        }
        let right = self
            .store
            .attempts
            .get(&attempt)
            .map(|row| row.image.digest());
        let container = self.hosts[at].engine.containers.get(&attempt);
        if container.is_some_and(|container| Some(container.digest) != right) {
            let what = format!("{attempt} runs another digest than {right:?}");
            return self.violated("I14 immutable attempt", what);
        }
        let fault = if self.calm {
            100
        } else {
            self.rng.engine.below(100)
        };
        // What a lease is there for.
        let wedged = if self.hosts[at].limit(attempt).is_some() {
            12
        } else {
            8
        };
        match fault {
            // The caller sees an error, and nothing runs.
            0..3 => {
                self.hit(Fault::StartFails);
                self.tell_half(at, attempt);
                self.after_start(at, attempt, false);
            }
            // The caller sees an error, and the container runs all the same.
            3..6 => {
                self.hit(Fault::StartUnknown);
                self.start_task(at, attempt);
                if self.bug == Some(Bug::TrustStartError) {
                    let end = End::of(Outcome::InfraError, EndReason::NeverStarted);
                    return self.finish(at, attempt, end);
                }
                self.after_start(at, attempt, false);
            }
            // The caller gives up, and the engine starts it when nobody waits any more.
            6.. if fault < wedged => {
                self.hit(Fault::StartWedged);
                self.tell_frozen(at, attempt);
                let late = Happening::LateStart {
                    host: at,
                    boot: self.hosts[at].boot,
                    attempt,
                };
                let hangs = Millis(self.rng.engine.between(1_000, 180_000));
                self.after(hangs, late);
                self.agent_dies(at, attempt, 80);
                self.after_start(at, attempt, false);
            }
            _ => {
                self.start_task(at, attempt);
                self.after_start(at, attempt, true);
            }
        }
    }

    /// By the engine, or by the init process that was told.
    pub(crate) fn start_task(&mut self, at: usize, attempt: AttemptId) {
        if self.use_start(at, attempt) {
            self.run_container(at, attempt);
        }
    }
}
