//! A moment that the fleet named has come.

use super::Fleet;
use super::pace::is_paced;
use super::silence::LOOK_AGAIN;
use super::timers::Timer;
use crate::agent::{Link, Schedulable};
use crate::effect::{Effects, Order};
use crate::ids::{AgentId, AttemptId, JobId, TaskId};
use crate::outcome::{End, EndReason, Outcome};
use crate::ranges::Ranges;
use crate::task::{Phase, Stop, StopReason, TaskState};
use crate::time::Timestamp;

impl Fleet {
    pub(super) fn on_tick(&mut self, now: Timestamp, out: &mut Effects) {
        while let Some(timer) = self.timers.pop_due(now) {
            if self.safe.is_some() && timer.ends_something() {
                self.timers.set(now + LOOK_AGAIN, timer);
                continue;
            }
            match timer {
                Timer::Retry(task) => self.retry_due(now, task),
                Timer::OfferUnanswered(attempt) => self.offer_again(now, attempt, out),
                Timer::QueueTimeout(job) => self.queue_timeout(now, job),
                Timer::RunBackstop(attempt) => self.run_backstop(attempt, out),
                Timer::AgentLost(agent) => self.agent_lost(now, &agent, out),
                Timer::CutOff(attempt) => self.cut_off(now, attempt, out),
                Timer::Suspect => self.look_at_itself(now, out),
                Timer::Rested(agent) => self.rested(now, &agent),
                Timer::PullAgain(digest) => self.pull_due(now, digest),
                Timer::LookOn => self.look_on(),
                Timer::Rollout(channel) => self.rollout_due(channel),
                Timer::TrialOverdue(attempt) => self.trial_overdue(attempt, out),
                Timer::Orphan(agent, attempt) => self.judge_orphan(now, &agent, attempt, out),
                Timer::Pace(team) => self.release_retries(now, &team),
                Timer::DrainDeadline(agent) => self.drain_deadline(now, &agent, out),
            }
        }
    }

    fn retry_due(&mut self, now: Timestamp, id: TaskId) {
        let Some(live) = self.jobs.begun(id.job) else {
            return;
        };
        let Some(task) = live.tasks.get(&id.index) else {
            return;
        };
        match &task.state {
            TaskState::Pending {
                not_before,
                budget,
                quarantined: false,
                ..
            } if *not_before <= now && !live.ready.contains(id.index) => {
                if is_paced(*budget) {
                    let (team, turn) = (live.job.team.clone(), (*not_before, id));
                    self.line_up(now, &team, turn);
                } else {
                    self.make_ready(id);
                }
            }
            TaskState::Pending { .. } | TaskState::Held { .. } => {}
        }
    }

    /// The pending task is assigned as soon as an agent has room.
    pub(super) fn make_ready(&mut self, id: TaskId) {
        if let Some(live) = self.jobs.get_mut(id.job) {
            let task = live.tasks.get(&id.index);
            let memory = task.map_or(0, |task| task.spent.memory);
            live.ready.insert(memory, id.index);
            self.queue.update(live);
            self.placeable = true;
        }
    }

    /// The same offer, not a new attempt: an agent that has it answers again.
    fn offer_again(&mut self, now: Timestamp, attempt: AttemptId, out: &mut Effects) {
        let Some((place, phase)) = self.holds(attempt) else {
            return;
        };
        if *phase != Phase::Assigned || place.stop.is_some() {
            return;
        }
        let place = place.clone();
        let online = self
            .agents
            .get(&place.agent)
            .is_some_and(|agent| matches!(agent.link, Link::Online { .. }));
        if online {
            let offer = self.offer_of(attempt, &place);
            out.order(&place.agent, Order::Offer(Box::new(offer)));
            self.timers.set(
                now + self.limits.offer_patience,
                Timer::OfferUnanswered(attempt),
            );
        }
    }

    fn queue_timeout(&mut self, now: Timestamp, id: JobId) {
        let Some(live) = self.jobs.get(id) else {
            return;
        };
        let all = Ranges::up_to(live.job.array);
        let end = End::of(Outcome::Timeout, EndReason::QueueTimeout);
        self.withdraw(now, id, &all, &end);
    }

    fn run_backstop(&mut self, attempt: AttemptId, out: &mut Effects) {
        let Some((_, Phase::Running { .. })) = self.holds(attempt) else {
            return;
        };
        self.order_stop(
            attempt,
            Stop {
                reason: StopReason::Timeout,
                now: false,
            },
            out,
        );
    }

    fn drain_deadline(&mut self, now: Timestamp, id: &AgentId, out: &mut Effects) {
        let Some(agent) = self.agents.get(id) else {
            return;
        };
        let due = matches!(
            agent.schedulable,
            Schedulable::Draining { deadline: Some(deadline), .. } if deadline <= now
        );
        if !due {
            return; // it was put back in service, or given more time
        }
        for attempt in agent.live.clone() {
            self.order_stop(
                attempt,
                Stop {
                    reason: StopReason::Preempted,
                    now: false,
                },
                out,
            );
        }
    }
}
