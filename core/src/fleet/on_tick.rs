//! A moment that the fleet named has come.

use super::Fleet;
use super::silence::LOOK_AGAIN;
use super::timers::Timer;
use crate::agent::{Link, Schedulable};
use crate::effect::{Effects, Offer, Order};
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
                Timer::Suspect => self.look_at_itself(now, out),
                Timer::Rested(agent) => self.rested(now, &agent),
                Timer::DrainDeadline(agent) => self.drain_deadline(now, &agent, out),
            }
        }
    }

    fn retry_due(&mut self, now: Timestamp, id: TaskId) {
        let Some(live) = self.jobs.get_mut(&id.job) else {
            return;
        };
        let Some(task) = live.tasks.get(&id.index) else {
            return;
        };
        match &task.state {
            TaskState::Pending {
                not_before,
                quarantined: false,
                ..
            } if *not_before <= now => {
                live.ready.insert(id.index);
                self.queue.update(live);
                self.placeable = true;
            }
            TaskState::Pending { .. } | TaskState::Held { .. } => {}
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
        let (agent, image, release) = (place.agent.clone(), place.image.clone(), place.release);
        let job = self.jobs[&attempt.task.job].job.clone();
        let online = self
            .agents
            .get(&agent)
            .is_some_and(|agent| matches!(agent.link, Link::Online { .. }));
        if online {
            out.order(
                &agent,
                Order::Offer(Box::new(Offer {
                    attempt,
                    job,
                    image,
                    release,
                })),
            );
            self.timers.set(
                now + self.limits.offer_patience,
                Timer::OfferUnanswered(attempt),
            );
        }
    }

    fn queue_timeout(&mut self, now: Timestamp, id: JobId) {
        let Some(live) = self.jobs.get(&id) else {
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
