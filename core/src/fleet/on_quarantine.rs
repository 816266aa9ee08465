//! Tasks whose attempts died too often wait here until a person decides. Nothing lets them go by itself.

use super::Fleet;
use super::rows::row_of;
use super::timers::Timer;
use crate::effect::{Answer, Effects, Record, Refusal};
use crate::ids::{TaskId, TeamName, Ticket};
use crate::outcome::{End, EndReason, Outcome};
use crate::retry::Budget;
use crate::task::TaskState;
use crate::time::Timestamp;

impl Fleet {
    /// The team's tasks in quarantine, in order of id.
    #[must_use]
    pub fn quarantined(&self, team: &TeamName) -> Vec<TaskId> {
        let jobs = self.jobs.all_begun().filter(|live| live.job.team == *team);
        jobs.flat_map(|live| {
            let held = live.tasks.iter().filter(|(_, task)| task.is_quarantined());
            held.map(|(index, _)| TaskId {
                job: live.job.id,
                index: *index,
            })
        })
        .collect()
    }

    pub(super) fn on_requeued(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        team: &TeamName,
        task: Option<TaskId>,
        out: &mut Effects,
    ) {
        let tasks = match task {
            Some(task) => {
                if !self.is_quarantined(task) {
                    let refusal = Refusal::NotQuarantined { task };
                    return out.answer(ticket, Answer::Refused(refusal));
                }
                vec![task]
            }
            None => self.quarantined(team),
        };
        let count = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
        for task in tasks {
            self.requeue(now, task, out);
        }
        out.answer(ticket, Answer::Released { tasks: count });
    }

    /// The person's try costs nothing, and infrastructure may fail it as often as a new task.
    fn requeue(&mut self, now: Timestamp, id: TaskId, out: &mut Effects) {
        let live = self.jobs.get_mut(id.job);
        let Some(task) = live.and_then(|live| live.tasks.get_mut(&id.index)) else {
            return;
        };
        task.spent.deaths = 0;
        task.spent.infra = 0;
        task.spent.free += 1;
        if let TaskState::Pending {
            not_before,
            budget,
            quarantined,
            previous: _,
        } = &mut task.state
        {
            *not_before = now;
            *budget = Budget::Free;
            *quarantined = false;
        }
        let row = row_of(task);
        self.timers.set(now, Timer::Retry(id));
        self.dirty.insert(id.job);
        out.record(Record::Task { task: id, row });
    }

    pub(super) fn on_dropped(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        task: TaskId,
        out: &mut Effects,
    ) {
        if !self.is_quarantined(task) {
            let refusal = Refusal::NotQuarantined { task };
            return out.answer(ticket, Answer::Refused(refusal));
        }
        let end = End {
            message: "dropped from quarantine".to_owned(),
            ..End::of(Outcome::InfraError, EndReason::Dropped)
        };
        self.end_pending_task(now, task, end, out);
        out.answer(ticket, Answer::Released { tasks: 1 });
    }

    fn is_quarantined(&self, id: TaskId) -> bool {
        self.task(id).is_some_and(crate::task::Task::is_quarantined)
    }
}
