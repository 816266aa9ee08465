//! Rows come back from the store at the start. Nothing is recorded and nothing is sent: the agents'
//! Hellos bring the live attempts up again.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Fleet;
use super::safe::Safe;
use super::timers::Timer;
use crate::agent::{Agent, Capacity, Link, Schedulable};
use crate::event::Restored;
use crate::ids::{AttemptId, TaskId};
use crate::job::{Job, JobProgress, LiveJob};
use crate::task::{
    Phase, Place, Previous, RowState, Stop, StopReason, Task, TaskRow, TaskState, Tried,
};
use crate::time::Timestamp;

impl Fleet {
    pub(super) fn on_restored(&mut self, now: Timestamp, row: Restored) {
        self.placeable = true;
        match row {
            Restored::Channel(channel) => {
                self.channels.insert(channel.id.clone(), *channel);
            }
            Restored::Rollout(rollout) => self.restore_rollout(now, *rollout),
            Restored::Ran { team, name, ran } => self.remember(team, name, ran),
            Restored::Agent(agent) => self.restore_agent(now, agent),
            Restored::Job {
                job,
                progress,
                tasks,
            } => self.restore_job(job, progress, tasks),
            Restored::Fence { job, number } => {
                if let Some(live) = self.jobs.get_mut(job) {
                    live.fence = number;
                }
            }
            Restored::SafeMode(why) => self.safe = Some(Safe::new(why)),
        }
    }

    /// Every agent is given `lost_after` from now to come back: it was this coordinator that was away.
    fn restore_agent(&mut self, now: Timestamp, mut agent: Agent) {
        agent.reserved = Capacity::default();
        agent.live.clear();
        if let Schedulable::Draining {
            deadline: Some(deadline),
            ..
        } = &agent.schedulable
        {
            // Perhaps it has passed: its orders to stop were in memory only.
            let timer = Timer::DrainDeadline(agent.id.clone());
            self.timers.set(*deadline, timer);
        }
        if let Schedulable::Cordoned {
            until: Some(until), ..
        } = &agent.schedulable
        {
            self.timers.set(*until, Timer::Rested(agent.id.clone()));
        }
        agent.link = match agent.link {
            Link::Online { .. } | Link::Unreachable { .. } => {
                let lost_at = now + self.limits.lost_after;
                self.timers.set(lost_at, Timer::AgentLost(agent.id.clone()));
                self.begin_grace(now);
                Link::Unreachable {
                    since: agent.last_contact,
                    lost_at,
                }
            }
            lost @ Link::Lost { .. } => lost,
        };
        // Heartbeats are not stored: the last one may have come just before the end of the process before.
        self.silent_from(&agent.id, now, BTreeSet::new());
        self.agents.insert(agent.id.clone(), agent);
    }

    fn restore_job(&mut self, job: Arc<Job>, progress: JobProgress, tasks: Vec<(u32, TaskRow)>) {
        let job = self.specs.share(job);
        let mut live = LiveJob::new(job.clone(), self.next_seq);
        self.next_seq += 1;
        live.progress = progress;
        if let Some(timeout) = job.spec.queue_timeout {
            self.timers
                .set(job.created + timeout, Timer::QueueTimeout(job.id));
        }
        if let Some(key) = &job.key {
            self.keys
                .insert((job.team.clone(), key.key.clone()), job.id);
        }
        for (index, row) in tasks {
            let id = TaskId { job: job.id, index };
            let canceled = live.progress.is_canceled(index);
            let Some(task) = restored_task(row, canceled) else {
                continue;
            };
            match &task.state {
                TaskState::Pending {
                    quarantined: true, ..
                } => {}
                TaskState::Pending { not_before, .. } => {
                    self.timers.set(*not_before, Timer::Retry(id));
                }
                TaskState::Held { place, phase } => {
                    let attempt = AttemptId {
                        task: id,
                        number: place.number,
                    };
                    self.reserve(&job, attempt, &place.agent, task.spent.memory);
                    self.restore_trial(&job, attempt, place, phase.started());
                    if let Some(stopped) = self.stopped_at(&job, &place.agent) {
                        self.timers.set(stopped, Timer::CutOff(attempt));
                    }
                    if let Phase::Running { started } = phase {
                        let late = self.limits.backstop(&job, *started);
                        self.timers.set(late, Timer::RunBackstop(attempt));
                    }
                }
            }
            live.tasks.insert(index, task);
        }
        self.queue.update(&live);
        self.tally.note(&mut live);
        self.jobs.insert(live);
        self.jobs.rest(job.id);
    }
}

fn restored_task(row: TaskRow, canceled: bool) -> Option<Task> {
    let TaskRow {
        state,
        last,
        spent,
        agent,
        image,
        release,
        assigned,
        started,
    } = row;
    let phase = match state {
        RowState::Pending {
            not_before,
            budget,
            quarantined,
        } => {
            let previous = Previous {
                agent,
                image,
                release,
                assigned,
                started,
            };
            let state = TaskState::Pending {
                not_before,
                budget,
                quarantined,
                previous,
            };
            let mut tried = Tried::default();
            tried.note(&state);
            return Some(Task {
                state,
                last,
                spent,
                tried,
            });
        }
        RowState::Assigned => Phase::Assigned,
        RowState::Preparing => Phase::Preparing,
        RowState::Running => Phase::Running {
            started: started.unwrap_or(assigned),
        },
        RowState::Ended { .. } => return None,
    };
    // Cancels are on the job's row; the other orders are given again by their timers.
    let stop = canceled.then_some(Stop {
        reason: StopReason::Canceled,
        now: false,
    });
    let place = Place {
        number: last,
        agent,
        image,
        release,
        assigned,
        stop,
    };
    Some(Task {
        state: TaskState::Held { place, phase },
        last,
        spent,
        tried: Tried::default(),
    })
}
