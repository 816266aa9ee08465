//! What is true of the tasks of one job.

use super::{Broken, Invariant};
use crate::ids::TaskId;
use crate::job::LiveJob;
use crate::task::{Phase, Task, TaskState};

pub(super) fn counts_add_up(live: &LiveJob, broken: &mut Vec<Broken>) {
    let progress = &live.progress;
    let counts = &progress.counts;
    let (mut pending, mut preparing, mut running) = (progress.unstarted.count(), 0, 0);
    for task in live.tasks.values() {
        match &task.state {
            TaskState::Pending { .. } => pending += 1,
            TaskState::Held {
                phase: Phase::Assigned | Phase::Preparing,
                ..
            } => preparing += 1,
            TaskState::Held {
                phase: Phase::Running { .. },
                ..
            } => running += 1,
        }
    }
    let live_counts = (counts.pending, counts.preparing, counts.running);
    let ended: u32 = crate::outcome::Outcome::ALL
        .into_iter()
        .map(|end| counts.ended(end))
        .sum();
    if live_counts != (pending, preparing, running) || counts.live() + ended != live.job.array {
        let what = format!("job {} of {}: {counts:?}", live.job.id, live.job.array);
        broken.push(Broken::new(Invariant::Counts, what));
    }
    if progress.ended.is_some() || counts.live() == 0 {
        let what = format!("job {} has ended and is still live", live.job.id);
        broken.push(Broken::new(Invariant::EndedStays, what));
    }
}

/// A task is in one place: never assigned, withdrawn, or assigned at least once.
pub(super) fn ended_stays(live: &LiveJob, id: TaskId, broken: &mut Vec<Broken>) {
    let progress = &live.progress;
    let withdrawn = progress.withdrawn.iter();
    let mut elsewhere = withdrawn.filter(|withdrawn| withdrawn.tasks.contains(id.index));
    if id.index >= live.job.array
        || progress.unstarted.contains(id.index)
        || elsewhere.next().is_some()
    {
        let what = format!("task {id} was withdrawn, never started or is none, and has an attempt");
        broken.push(Broken::new(Invariant::EndedStays, what));
    }
}

pub(super) fn waits_for_something(
    live: &LiveJob,
    id: TaskId,
    task: &Task,
    broken: &mut Vec<Broken>,
) {
    let ready = live.ready.contains(id.index);
    if task.is_quarantined() && ready {
        let what = format!("task {id} is quarantined and ready");
        broken.push(Broken::new(Invariant::Waiting, what));
    }
    if live.progress.is_canceled(id.index) {
        let what = format!("task {id} is canceled and waits for another attempt");
        broken.push(Broken::new(Invariant::CancelSticks, what));
    }
}
