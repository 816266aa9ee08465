//! Live tasks as the rows that the store keeps of them.

use super::Fleet;
use crate::ids::TaskId;
use crate::outcome::End;
use crate::task::{Phase, Place, Previous, RowState, Task, TaskRow, TaskState};
use crate::time::Timestamp;

impl Previous {
    pub(super) fn from(place: Place, started: Option<Timestamp>) -> Self {
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
        let task = self.task(id)?;
        Some(row_of(task))
    }
}

pub(super) fn ended_row(task: &Task, previous: Previous, end: End, at: Timestamp) -> TaskRow {
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
        tried: _,
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
