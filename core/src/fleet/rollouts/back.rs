//! A rollout that does not come to its end: failed, aborted, or overtaken.

use std::collections::BTreeSet;

use super::Running;
use crate::channel::{Candidate, Cause, ChannelId};
use crate::effect::{Effects, Record};
use crate::fleet::Fleet;
use crate::fleet::timers::Timer;
use crate::ids::{AttemptId, JobName};
use crate::rollout::Conclusion;
use crate::rollout::plan::Step;
use crate::task::{Phase, Place, Stop, StopReason};
use crate::time::Timestamp;

impl Fleet {
    /// Ends the rollout so that every later attempt runs what was current before it. Its release is not
    /// followed again. What is healthy on it may finish.
    pub(in crate::fleet) fn take_back(
        &mut self,
        now: Timestamp,
        mut running: Running,
        how: Conclusion,
        reason: String,
        out: &mut Effects,
    ) {
        let id = running.rollout.channel.clone();
        let promoted = running.rollout.is_promoted();
        let to = &running.rollout.to;
        let channel = self
            .channels
            .get_mut(&id)
            .expect("a rollout's channel exists");
        channel.held_back = Some(to.digest);
        if promoted {
            let from = &running.rollout.from;
            let back = Candidate {
                repository: from.repository.clone(),
                digest: from.digest,
                facts: from.facts(),
                cause: Cause::Rollback,
                reason: reason.clone(),
                by: String::new(),
            };
            self.move_back(now, &id, &back, out);
        } else {
            channel.never_promoted(to.number);
            out.record(Record::Channel(Box::new(channel.clone())));
        }
        self.stop_trials(now, &running, out);
        running.end(now, how, reason, out);
        self.let_go(now, running, out);
    }

    /// A newer release takes its place. What it promoted stays promoted.
    pub(in crate::fleet) fn supersede(
        &mut self,
        now: Timestamp,
        id: &ChannelId,
        reason: &str,
        out: &mut Effects,
    ) {
        let Some(mut running) = self.rollouts.active.remove(id) else {
            return;
        };
        if !running.rollout.is_promoted() {
            let channel = self
                .channels
                .get_mut(id)
                .expect("a rollout's channel exists");
            channel.never_promoted(running.rollout.to.number);
            out.record(Record::Channel(Box::new(channel.clone())));
        }
        running.next = None;
        running.end(now, Conclusion::Superseded, reason.to_owned(), out);
        self.let_go(now, running, out);
    }

    /// Stops what hangs, now or later, and with the strategy `restart` everything: their tasks run again on
    /// the release before.
    fn stop_trials(&mut self, now: Timestamp, running: &Running, out: &mut Effects) {
        let restarts = running.rollout.plan.steps.iter();
        let mut restarts = restarts.filter_map(|step| match step {
            Step::Restart { jobs, .. } => Some(jobs),
            Step::Prefetch { .. }
            | Step::Validate { .. }
            | Step::Canary { .. }
            | Step::Promote
            | Step::Bake { .. } => None,
        });
        let restarts = restarts.next();
        let gates = &running.rollout.policy.gates;
        for (attempt, trial) in &running.trials {
            let stops = |jobs: &BTreeSet<JobName>| jobs.is_empty() || jobs.contains(&trial.name);
            if restarts.is_some_and(stops) {
                self.stop_trial(*attempt, out);
            } else if let Some(limit) = running.rollout.tally.run_limit(&trial.name, gates) {
                let over = trial.started.unwrap_or(now) + limit;
                if over <= now {
                    self.stop_trial(*attempt, out);
                } else {
                    self.timers.set(over, Timer::TrialOverdue(*attempt));
                }
            }
        }
    }

    /// An attempt on a release that was taken back still runs: it will not end by itself.
    pub(in crate::fleet) fn trial_overdue(&mut self, attempt: AttemptId, out: &mut Effects) {
        let runs = |(_, phase): (&mut Place, &mut Phase)| matches!(phase, Phase::Running { .. });
        if self.holds(attempt).is_some_and(runs) {
            self.stop_trial(attempt, out);
        }
    }

    fn stop_trial(&mut self, attempt: AttemptId, out: &mut Effects) {
        let stop = Stop {
            reason: StopReason::Preempted,
            now: false,
        };
        self.order_stop(attempt, stop, out);
    }
}
