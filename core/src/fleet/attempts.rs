//! Making and ending attempts: the only code that reserves and frees places.

use super::Fleet;
use super::rows::{ended_row, row_of};
use super::timers::Timer;
use crate::effect::{Because, Effects, Notice, Offer, Order, Record};
use crate::event::AttemptEnd;
use crate::ids::{AgentId, AttemptId, AttemptNo, JobId, TaskId};
use crate::job::{Job, LiveJob};
use crate::outcome::{End, EndReason, Outcome, Usage};
use crate::retry::{self, Budget, Decision, Spent};
use crate::task::{Phase, Place, Previous, Stop, Task, TaskState, Tried};
use crate::time::{Millis, Timestamp};

impl Fleet {
    /// Gives the task its next attempt, on `agent`.
    pub(super) fn assign(
        &mut self,
        now: Timestamp,
        id: TaskId,
        agent: &AgentId,
        out: &mut Effects,
    ) {
        let Some(live) = self.jobs.get(id.job) else {
            return;
        };
        let job = live.job.clone();
        let before = live.tasks.get(&id.index);
        let Some((image, release)) = self.image_for(&job, id, before) else {
            return;
        };
        let Some(live) = self.jobs.get_mut(id.job) else {
            return;
        };
        live.ready.remove(id.index);
        let before = live.tasks.remove(&id.index);
        let because = because(&job, before.as_ref());
        let again = before.is_some();
        let (last, spent, tried) = before.map_or_else(Default::default, carried);
        let number = AttemptNo(last.max(live.fence.0) + 1);
        let place = Place {
            number,
            agent: agent.clone(),
            image: image.clone(),
            release,
            assigned: now,
            stop: None,
        };
        let task = Task {
            state: TaskState::Held {
                place,
                phase: Phase::Assigned,
            },
            last: number,
            spent,
            tried,
        };
        let row = row_of(&task);
        live.tasks.insert(id.index, task);
        let counts = &mut live.progress.counts;
        counts.pending -= 1;
        counts.preparing += 1;
        counts.retries += u32::from(again);
        self.queue.update(live);
        self.dirty.insert(id.job);
        let attempt = AttemptId { task: id, number };
        self.reserve(&job, attempt, agent, spent.memory);
        self.note_puller(attempt, agent, image.digest());
        self.note_trial(&job, attempt, release);
        self.timers.set(
            now + self.limits.offer_patience,
            Timer::OfferUnanswered(attempt),
        );
        out.record(Record::AttemptMade {
            attempt,
            agent: agent.clone(),
            image: image.clone(),
            at: now,
            because,
        });
        out.record(Record::Task { task: id, row });
        let waited = now.since(job.created);
        let offer = Offer {
            attempt,
            phase: self.trial_phase(&job, release),
            memory: job.memory(spent.memory),
            job,
            image,
            release,
        };
        out.order(agent, Order::Offer(Box::new(offer)));
        out.notify(Notice::AttemptMade { attempt, waited });
    }

    /// Ends the attempt that holds the task, and decides whether there is another one.
    pub(super) fn end_attempt(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        ended: AttemptEnd,
        out: &mut Effects,
    ) {
        let Some((job, place, phase)) = self.take_place(attempt) else {
            return;
        };
        let bad_release = self.judge_attempt(&job, attempt, &place, &ended);
        let AttemptEnd {
            end,
            started,
            ended: at,
            usage,
            metrics,
        } = ended;
        out.record(Record::AttemptEnded {
            attempt,
            started,
            at,
            end: end.clone(),
            usage,
        });
        out.notify(Notice::AttemptEnded {
            attempt,
            job: job.clone(),
            end: end.clone(),
            usage,
            metrics,
        });
        let tried = self.note_pull_end(now, attempt, place.image.digest(), &end);
        let bad_agent = self.note_end(now, &place.agent, attempt.task, &end, out);
        let forgiven = if bad_release {
            Some(Budget::Trial)
        } else {
            (bad_agent || tried).then_some(Budget::Free)
        };
        self.earn_retry(now, &job.team, end.outcome);
        let first_start = started.or_else(|| phase.started());
        let live = self.live_mut(job.id);
        let progress = &mut live.progress;
        progress.leave(phase, first_start);
        let canceled = progress.is_canceled(attempt.task.index);
        let task = live
            .tasks
            .get_mut(&attempt.task.index)
            .expect("the task was held");
        task.spent.deaths += u32::from(retry::is_death(&end));
        let decision = decide(forgiven, attempt.task, &end, &job, &mut task.spent);
        let gone = Gone {
            attempt,
            previous: Previous::from(place, first_start),
            at,
        };
        match decision {
            Decision::Final => self.end_task(gone, end, out),
            // It would have been tried again, but the cancel was there first.
            Decision::Retry { .. } | Decision::Quarantine if canceled => {
                let end = End {
                    message: end.to_string(),
                    ..CANCELED
                };
                self.end_task(gone, end, out);
            }
            Decision::Retry { budget, delay } => {
                charge(&mut task.spent, budget);
                self.wait_for_retry(now + delay, budget, gone, out);
            }
            Decision::Quarantine => self.quarantine(now, gone, out),
        }
        self.placeable = true;
    }

    /// Ends an attempt from the coordinator's side: nobody reported anything.
    pub(super) fn give_up(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        end: End,
        out: &mut Effects,
    ) {
        let usage = Usage::default();
        let ended = AttemptEnd {
            end,
            started: None,
            ended: now,
            usage,
            metrics: None,
        };
        self.end_attempt(now, attempt, ended, out);
    }

    fn wait_for_retry(
        &mut self,
        not_before: Timestamp,
        budget: Budget,
        gone: Gone,
        out: &mut Effects,
    ) {
        let (id, after) = (gone.attempt.task, gone.attempt.number);
        let waits = TaskState::Pending {
            not_before,
            budget,
            quarantined: false,
            previous: gone.previous,
        };
        self.set_aside(id, waits, out);
        self.timers.set(not_before, Timer::Retry(id));
        out.notify(Notice::TaskRetried { task: id, after });
    }

    /// No timer: a person lets it go on, or ends it.
    fn quarantine(&mut self, now: Timestamp, gone: Gone, out: &mut Effects) {
        let id = gone.attempt.task;
        let waits = TaskState::Pending {
            not_before: now,
            budget: Budget::Free,
            quarantined: true,
            previous: gone.previous,
        };
        self.set_aside(id, waits, out);
        out.notify(Notice::TaskQuarantined { task: id });
    }

    /// A task without an attempt, that has not ended.
    fn set_aside(&mut self, id: TaskId, waits: TaskState, out: &mut Effects) {
        let live = self.live_mut(id.job);
        live.progress.counts.pending += 1;
        let task = live.tasks.get_mut(&id.index).expect("the task was held");
        task.tried.note(&waits);
        task.state = waits;
        let row = row_of(task);
        self.dirty.insert(id.job);
        out.record(Record::Task { task: id, row });
    }

    fn end_task(&mut self, gone: Gone, end: End, out: &mut Effects) {
        let id = gone.attempt.task;
        let live = self.live_mut(id.job);
        let task = live.tasks.remove(&id.index).expect("the task was held");
        *live.progress.counts.ended_mut(end.outcome) += 1;
        self.note_validation(id.job, &end);
        let row = ended_row(&task, gone.previous, end, gone.at);
        out.record(Record::Task { task: id, row });
        self.after_task_ended(id.job, gone.at);
    }

    /// Notes the end of a job whose last task has ended.
    pub(super) fn after_task_ended(&mut self, id: JobId, at: Timestamp) {
        self.dirty.insert(id);
        let live = self.jobs.get_mut(id).expect("its task just ended");
        if live.progress.counts.live() == 0 {
            live.progress.ended = Some(at);
        }
    }

    /// The pending task ends without another attempt.
    pub(super) fn end_pending_task(
        &mut self,
        now: Timestamp,
        id: TaskId,
        end: End,
        out: &mut Effects,
    ) {
        self.leave_line(id);
        let Some(live) = self.jobs.get_mut(id.job) else {
            return;
        };
        let Some(task) = live.tasks.get(&id.index) else {
            return;
        };
        let TaskState::Pending { previous, .. } = &task.state else {
            return;
        };
        let row = ended_row(task, previous.clone(), end.clone(), now);
        live.tasks.remove(&id.index);
        live.ready.remove(id.index);
        live.progress.counts.pending -= 1;
        *live.progress.counts.ended_mut(end.outcome) += 1;
        self.queue.update(live);
        self.note_validation(id.job, &end);
        out.record(Record::Task { task: id, row });
        self.after_task_ended(id.job, now);
    }

    /// Asks the agent to stop the attempt; it is over only when the agent says so.
    pub(super) fn order_stop(&mut self, attempt: AttemptId, stop: Stop, out: &mut Effects) {
        let Some(live) = self.jobs.get_mut(attempt.task.job) else {
            return;
        };
        let Some(task) = live.tasks.get_mut(&attempt.task.index) else {
            return;
        };
        let Ok((place, _)) = task.held_by(attempt.number) else {
            return;
        };
        place.stop = Some(stop);
        let agent = place.agent.clone();
        out.order(&agent, Order::Stop { attempt, stop });
    }

    fn live_mut(&mut self, job: JobId) -> &mut LiveJob {
        self.jobs.get_mut(job).expect("an attempt's job is live")
    }

    /// Whether a live job has a task that this attempt holds.
    pub(super) fn holds(&mut self, attempt: AttemptId) -> Option<(&mut Place, &mut Phase)> {
        let live = self.jobs.get_mut(attempt.task.job)?;
        live.tasks
            .get_mut(&attempt.task.index)?
            .held_by(attempt.number)
            .ok()
    }

    /// Frees the attempt's place and returns it.
    fn take_place(&mut self, attempt: AttemptId) -> Option<(std::sync::Arc<Job>, Place, Phase)> {
        let (place, phase) = self.holds(attempt)?;
        let (place, phase) = (place.clone(), *phase);
        let live = self.jobs.get(attempt.task.job)?;
        let memory = live.tasks.get(&attempt.task.index)?.spent.memory;
        let job = live.job.clone();
        self.free(&job, attempt, &place.agent, memory);
        if let Phase::Running { started } = phase {
            let late = self.limits.backstop(&job, started);
            self.timers.clear(late, Timer::RunBackstop(attempt));
        }
        Some((job, place, phase))
    }

    /// Counts an attempt as live, also when it comes back from the store. `memory` is what its task has grown to.
    pub(super) fn reserve(&mut self, job: &Job, attempt: AttemptId, agent: &AgentId, memory: u64) {
        let needs = job.needs(memory);
        if let Some(agent) = self.agents.get_mut(agent) {
            agent.live.insert(attempt);
            agent.reserved.places += 1;
            agent.reserved.resources = agent.reserved.resources.plus(&needs.resources);
        }
        *self.team_live.entry(job.team.clone()).or_default() += 1;
        for key in needs.concurrency.keys() {
            *self
                .key_live
                .entry((job.team.clone(), key.clone()))
                .or_default() += 1;
        }
    }

    pub(super) fn free(&mut self, job: &Job, attempt: AttemptId, agent: &AgentId, memory: u64) {
        let needs = job.needs(memory);
        if let Some(agent) = self.agents.get_mut(agent)
            && agent.live.remove(&attempt)
        {
            agent.reserved.places -= 1;
            agent.reserved.resources = agent.reserved.resources.minus(&needs.resources);
        }
        decrement(&mut self.team_live, &job.team);
        for key in needs.concurrency.keys() {
            decrement(&mut self.key_live, &(job.team.clone(), key.clone()));
        }
    }
}

const CANCELED: End = End::of(Outcome::Canceled, EndReason::CanceledByUser);

/// What the next attempt of the task goes on from.
fn carried(task: Task) -> (u32, Spent, Tried) {
    let Task {
        state: _,
        last,
        spent,
        tried,
    } = task;
    (last.0, spent, tried)
}

/// An attempt that has just freed its task.
struct Gone {
    attempt: AttemptId,
    previous: Previous,
    at: Timestamp,
}

/// What follows an end. If somebody else has to answer for it, the next attempt is due as soon as there is room.
fn decide(
    forgiven: Option<Budget>,
    task: TaskId,
    end: &End,
    job: &Job,
    spent: &mut Spent,
) -> Decision {
    if let Some(budget) = forgiven {
        let delay = Millis(0);
        return Decision::Retry { budget, delay };
    }
    let asked = job.memory(spent.memory);
    let Some(memory) = retry::memory_after(end, &job.spec.retry, asked) else {
        return Decision::Final;
    };
    let decision = retry::decide(task, end, &job.spec.retry, job.spec.delivery, *spent);
    if decision != Decision::Final && memory != asked {
        spent.memory = memory;
    }
    decision
}

fn charge(spent: &mut Spent, budget: Budget) {
    match budget {
        Budget::User => spent.user += 1,
        Budget::Infra => spent.infra += 1,
        Budget::Free => spent.free += 1,
        Budget::Trial => {}
    }
}

fn because(job: &Job, before: Option<&Task>) -> Because {
    let Some(task) = before else {
        return Because::First;
    };
    let TaskState::Pending { budget, .. } = &task.state else {
        return Because::First;
    };
    let (spent, policy) = (task.spent, &job.spec.retry);
    match budget {
        Budget::User => Because::UserRetry {
            number: spent.user,
            allowed: policy.user,
        },
        Budget::Infra => Because::InfraRetry {
            number: spent.infra,
            allowed: policy.infra,
        },
        Budget::Free => Because::FreeRetry,
        Budget::Trial => Because::Forgiven,
    }
}

fn decrement<K: Ord + Clone>(counts: &mut std::collections::BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
