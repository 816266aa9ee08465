//! Attempts of a restored store's later life: agents hold them, and the store does not know them.

use super::Fleet;
use super::rows::row_of;
use crate::agent::Held;
use crate::effect::{Because, Effects, Notice, Order, Record};
use crate::ids::{AgentId, AttemptId, AttemptNo};
use crate::job::{Job, LiveJob};
use crate::outcome::{End, EndReason, Outcome, Usage};
use crate::ranges::Ranges;
use crate::task::{Phase, Place, Stop, StopReason, Task, TaskState, Tried};
use crate::time::Timestamp;

/// The end of an attempt of which the copy does not say what became.
pub(super) const UNKNOWN: End = End::of(Outcome::Lost, EndReason::StoreRestored);

impl Fleet {
    /// Whether the attempt may have been made, or have gone on, while another copy was the store.
    pub(super) fn is_from_before_restore(&self, attempt: AttemptId) -> bool {
        let live = self.jobs.get(attempt.task.job);
        live.is_some_and(|live| attempt.number <= live.fence)
    }

    /// The agent came back without it: it has ended and was acknowledged, or never arrived.
    pub(super) fn settle_unknown(&mut self, now: Timestamp, attempt: AttemptId, out: &mut Effects) {
        if self.safe.is_none() {
            self.give_up(now, attempt, UNKNOWN, out);
        }
    }

    /// Lets an attempt that the store does not know hold its task, if it is the newest and the task
    /// has not ended. What it reports is then taken as of any other.
    pub(super) fn take_over(
        &mut self,
        now: Timestamp,
        agent: &AgentId,
        attempt: AttemptId,
        held: Option<&Held>,
        out: &mut Effects,
    ) {
        if !self.is_from_before_restore(attempt) {
            return;
        }
        let live = self.jobs.get(attempt.task.job).expect("it has a fence");
        let job = live.job.clone();
        let pinned = job.pinned.clone().map(|image| Held {
            image,
            release: job.release,
            started: None,
        });
        // Without it nobody knows what the attempt runs.
        let Some(held) = held.cloned().or(pinned) else {
            return;
        };
        if is_newest(&live, attempt) {
            self.let_hold(now, &job, agent, attempt, held, out);
        }
    }

    fn let_hold(
        &mut self,
        now: Timestamp,
        job: &Job,
        agent: &AgentId,
        attempt: AttemptId,
        held: Held,
        out: &mut Effects,
    ) {
        let index = attempt.task.index;
        let before = self.vacate(now, attempt, out);
        let spent = before
            .as_ref()
            .map_or_else(Default::default, |task| task.spent);
        let again = before.is_some();
        let live = self.jobs.get_mut(job.id).expect("the caller found it");
        let stop = live.progress.is_canceled(index).then_some(Stop {
            reason: StopReason::Canceled,
            now: false,
        });
        let phase = held
            .started
            .map_or(Phase::Preparing, |started| Phase::Running { started });
        let place = Place {
            number: attempt.number,
            agent: agent.clone(),
            image: held.image.clone(),
            release: held.release,
            assigned: now,
            stop,
        };
        let task = Task {
            state: TaskState::Held { place, phase },
            last: attempt.number,
            spent,
            tried: Tried::default(),
        };
        let row = row_of(&task);
        live.tasks.insert(index, task);
        let counts = &mut live.progress.counts;
        match phase {
            Phase::Running { .. } => counts.running += 1,
            Phase::Assigned | Phase::Preparing => counts.preparing += 1,
        }
        counts.retries += u32::from(again);
        live.progress.started = live.progress.started.or(held.started);
        self.queue.update(live);
        self.dirty.insert(job.id);
        self.reserve(job, attempt, agent, spent.memory);
        let because = if again {
            Because::FreeRetry
        } else {
            Because::First
        };
        out.record(Record::AttemptMade {
            attempt,
            agent: agent.clone(),
            image: held.image,
            at: now,
            because,
        });
        out.record(Record::Task {
            task: attempt.task,
            row,
        });
        out.notify(Notice::AttemptTakenOver {
            attempt,
            agent: agent.clone(),
        });
        if let Some(stop) = stop {
            out.order(agent, Order::Stop { attempt, stop });
        }
        if let Some(safe) = &mut self.safe {
            safe.taken_over += 1;
        }
    }

    /// Takes the task from where the store has it: unstarted, pending, or held by an older attempt.
    fn vacate(&mut self, now: Timestamp, newer: AttemptId, out: &mut Effects) -> Option<Task> {
        let id = newer.task;
        let live = self.jobs.get_mut(id.job).expect("the caller found it");
        live.ready.remove(id.index);
        let Some(task) = live.tasks.remove(&id.index) else {
            live.progress
                .unstarted
                .take(&Ranges::from_ranges([id.index..=id.index]));
            live.progress.counts.pending -= 1;
            return None;
        };
        match &task.state {
            TaskState::Pending { .. } => live.progress.counts.pending -= 1,
            TaskState::Held { place, phase } => {
                live.progress.leave(*phase, phase.started());
                let (job, agent) = (live.job.clone(), place.agent.clone());
                let attempt = AttemptId {
                    task: id,
                    number: place.number,
                };
                self.free(&job, attempt, &agent, task.spent.memory);
                out.record(Record::AttemptEnded {
                    attempt,
                    started: None,
                    at: now,
                    end: End {
                        message: format!("attempt {} followed it", newer.number),
                        ..UNKNOWN
                    },
                    usage: Usage::default(),
                });
            }
        }
        Some(task)
    }
}

fn is_newest(live: &LiveJob, attempt: AttemptId) -> bool {
    let AttemptId { task, number } = attempt;
    match live.tasks.get(&task.index) {
        Some(known) => known.last < number,
        None => number > AttemptNo(0) && live.progress.unstarted.contains(task.index),
    }
}
