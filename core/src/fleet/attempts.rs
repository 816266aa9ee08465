//! Making and ending attempts: the only code that reserves and frees places.

use super::Fleet;
use super::timers::Timer;
use crate::effect::{Because, Effects, Notice, Offer, Order, Record};
use crate::event::AttemptEnd;
use crate::ids::{AgentId, AttemptId, AttemptNo, JobId, TaskId};
use crate::job::{Job, LiveJob};
use crate::outcome::{End, EndReason, Outcome, Usage};
use crate::retry::{self, Budget, Decision, Spent};
use crate::task::{Phase, Place, Previous, RowState, Stop, Task, TaskRow, TaskState};
use crate::time::Timestamp;

impl Fleet {
    /// Gives the task its next attempt, on `agent`.
    pub(super) fn assign(
        &mut self,
        now: Timestamp,
        id: TaskId,
        agent: &AgentId,
        out: &mut Effects,
    ) {
        let Some(live) = self.jobs.get(&id.job) else {
            return;
        };
        let job = live.job.clone();
        let Some((image, release)) = self.image_of(&job) else {
            return;
        };
        let Some(live) = self.jobs.get_mut(&id.job) else {
            return;
        };
        live.ready.remove(&id.index);
        let before = live.tasks.remove(&id.index);
        let because = because(&job, before.as_ref());
        let again = before.is_some();
        let (last, spent) = before.map_or_else(Default::default, |task| (task.last.0, task.spent));
        let number = AttemptNo(last.max(live.fence.0) + 1);
        let place = Place {
            number,
            agent: agent.clone(),
            image: image.clone(),
            release,
            assigned: now,
            stop: None,
        };
        let state = TaskState::Held {
            place,
            phase: Phase::Assigned,
        };
        let task = Task {
            state,
            last: number,
            spent,
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
        self.reserve(&job, attempt, agent);
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
        out.order(
            agent,
            Order::Offer(Box::new(Offer {
                attempt,
                job,
                image,
                release,
            })),
        );
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
        let AttemptEnd {
            end,
            started,
            ended: at,
            usage,
            metrics,
        } = ended;
        let Some((job, place, phase)) = self.take_place(attempt) else {
            return;
        };
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
        self.note_end(&place.agent, attempt.task, &end, out);
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
        let decision = retry::decide(
            attempt.task,
            &end,
            &job.spec.retry,
            job.spec.delivery,
            task.spent,
        );
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
        let row = ended_row(&task, gone.previous, end, gone.at);
        out.record(Record::Task { task: id, row });
        self.after_task_ended(id.job, gone.at);
    }

    /// Notes the end of a job whose last task has ended.
    pub(super) fn after_task_ended(&mut self, id: JobId, at: Timestamp) {
        self.dirty.insert(id);
        let live = self.jobs.get_mut(&id).expect("its task just ended");
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
        let Some(live) = self.jobs.get_mut(&id.job) else {
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
        live.ready.remove(&id.index);
        live.progress.counts.pending -= 1;
        *live.progress.counts.ended_mut(end.outcome) += 1;
        self.queue.update(live);
        out.record(Record::Task { task: id, row });
        self.after_task_ended(id.job, now);
    }

    /// Asks the agent to stop the attempt; it is over only when the agent says so.
    pub(super) fn order_stop(&mut self, attempt: AttemptId, stop: Stop, out: &mut Effects) {
        let Some(live) = self.jobs.get_mut(&attempt.task.job) else {
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
        self.jobs.get_mut(&job).expect("an attempt's job is live")
    }

    /// Whether a live job has a task that this attempt holds.
    pub(super) fn holds(&mut self, attempt: AttemptId) -> Option<(&mut Place, &mut Phase)> {
        let live = self.jobs.get_mut(&attempt.task.job)?;
        live.tasks
            .get_mut(&attempt.task.index)?
            .held_by(attempt.number)
            .ok()
    }

    /// Frees the attempt's place and returns it.
    fn take_place(&mut self, attempt: AttemptId) -> Option<(std::sync::Arc<Job>, Place, Phase)> {
        let (place, phase) = self.holds(attempt)?;
        let (place, phase) = (place.clone(), *phase);
        let job = self.jobs.get(&attempt.task.job)?.job.clone();
        self.free(&job, attempt, &place.agent);
        Some((job, place, phase))
    }

    /// Counts an attempt as live, also when it comes back from the store.
    pub(super) fn reserve(&mut self, job: &Job, attempt: AttemptId, agent: &AgentId) {
        let needs = &job.spec.requirements;
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

    pub(super) fn free(&mut self, job: &Job, attempt: AttemptId, agent: &AgentId) {
        let needs = &job.spec.requirements;
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

/// An attempt that has just freed its task.
struct Gone {
    attempt: AttemptId,
    previous: Previous,
    at: Timestamp,
}

impl Previous {
    fn from(place: Place, started: Option<Timestamp>) -> Self {
        let Place {
            number: _,
            agent,
            image,
            release,
            assigned,
            stop: _,
        } = place;
        Self {
            agent,
            image,
            release,
            assigned,
            started,
        }
    }
}

/// The row of a task that has not ended.
pub(super) fn row_of(task: &Task) -> TaskRow {
    let (state, previous) = match &task.state {
        TaskState::Pending {
            not_before,
            budget,
            quarantined,
            previous,
        } => (
            RowState::Pending {
                not_before: *not_before,
                budget: *budget,
                quarantined: *quarantined,
            },
            previous.clone(),
        ),
        TaskState::Held { place, phase } => {
            let (state, started) = match phase {
                Phase::Assigned => (RowState::Assigned, None),
                Phase::Preparing => (RowState::Preparing, None),
                Phase::Running { started } => (RowState::Running, Some(*started)),
            };
            (state, Previous::from(place.clone(), started))
        }
    };
    row(task, previous, state)
}

impl Fleet {
    /// A live task as its row must be; `None` if it was never assigned or has ended.
    #[must_use]
    pub fn task_row(&self, id: TaskId) -> Option<TaskRow> {
        let task = self.jobs.get(&id.job)?.tasks.get(&id.index)?;
        Some(row_of(task))
    }
}

fn ended_row(task: &Task, previous: Previous, end: End, at: Timestamp) -> TaskRow {
    row(task, previous, RowState::Ended { end, at })
}

fn row(task: &Task, previous: Previous, state: RowState) -> TaskRow {
    let Previous {
        agent,
        image,
        release,
        assigned,
        started,
    } = previous;
    let Task {
        state: _,
        last,
        spent,
    } = task;
    TaskRow {
        state,
        last: *last,
        spent: *spent,
        agent,
        image,
        release,
        assigned,
        started,
    }
}

fn charge(spent: &mut Spent, budget: Budget) {
    match budget {
        Budget::User => spent.user += 1,
        Budget::Infra => spent.infra += 1,
        Budget::Free => spent.free += 1,
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
