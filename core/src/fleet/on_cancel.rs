//! Somebody wants a job, or some of its tasks, to stop.

use super::Fleet;
use crate::effect::{Answer, Effects, Refusal};
use crate::ids::{AttemptId, JobId, TaskId, Ticket};
use crate::job::{CancelRequest, Withdrawn};
use crate::outcome::{End, EndReason, Outcome};
use crate::ranges::Ranges;
use crate::task::{Stop, StopReason, TaskState};
use crate::time::Timestamp;

pub(super) struct Wish {
    /// `None`: the whole job.
    pub(super) tasks: Option<Ranges>,
    pub(super) reason: String,
    /// KILL without the grace period.
    pub(super) at_once: bool,
}

impl Fleet {
    pub(super) fn on_cancel(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        id: JobId,
        wish: Wish,
        out: &mut Effects,
    ) {
        let Some(live) = self.jobs.get_mut(id) else {
            out.answer(ticket, Answer::Refused(Refusal::JobEnded { job: id }));
            return;
        };
        let all = Ranges::up_to(live.job.array);
        let whole = wish.tasks.is_none();
        let asked = wish.tasks.unwrap_or(all);
        if whole && live.progress.cancel.is_none() {
            live.progress.cancel = Some(CancelRequest {
                reason: wish.reason.clone(),
                at: now,
            });
        }
        let affected: Vec<u32> = live
            .tasks
            .keys()
            .copied()
            .filter(|index| asked.contains(*index))
            .collect();
        if !whole && !affected.is_empty() {
            // Orders are forgotten in a restart; rows are not.
            let known = live.progress.canceling.iter().chain(asked.iter());
            live.progress.canceling = Ranges::from_ranges(known);
        }
        let end = End {
            message: wish.reason,
            ..End::of(Outcome::Canceled, EndReason::CanceledByUser)
        };
        let mut tasks = self.withdraw(now, id, &asked, &end);
        for index in affected {
            self.cancel_task(now, TaskId { job: id, index }, wish.at_once, &end, out);
            tasks += 1;
        }
        out.answer(ticket, Answer::CancelRequested { tasks });
    }

    /// Ends tasks that were never assigned, as ranges: a million cost what one costs.
    pub(super) fn withdraw(&mut self, now: Timestamp, id: JobId, asked: &Ranges, end: &End) -> u32 {
        let Some(live) = self.jobs.get_mut(id) else {
            return 0;
        };
        let tasks = live.progress.unstarted.take(asked);
        let count = tasks.count();
        self.dirty.insert(id);
        if count > 0 {
            live.progress.counts.pending -= count;
            *live.progress.counts.ended_mut(end.outcome) += count;
            live.progress.withdrawn.push(Withdrawn {
                tasks,
                end: end.clone(),
                at: now,
            });
            self.queue.update(live);
            self.note_validation(id, end);
            self.after_task_ended(id, now);
        }
        count
    }

    fn cancel_task(
        &mut self,
        now: Timestamp,
        id: TaskId,
        at_once: bool,
        end: &End,
        out: &mut Effects,
    ) {
        let Some(task) = self.task(id) else {
            return;
        };
        match &task.state {
            TaskState::Pending { .. } => self.end_pending_task(now, id, end.clone(), out),
            TaskState::Held { place, .. } => {
                let attempt = AttemptId {
                    task: id,
                    number: place.number,
                };
                let stop = Stop {
                    reason: StopReason::Canceled,
                    now: at_once,
                };
                self.order_stop(attempt, stop, out);
            }
        }
    }
}
