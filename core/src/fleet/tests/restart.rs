//! What a restarted coordinator still knows of orders that it gave.

use super::rig::*;
use crate::agent::Agent;
use crate::effect::{Effect, Record};
use crate::event::{Event, News, Restored};
use crate::fleet::{Fleet, Limits};
use crate::ids::{AgentId, JobId, TaskId};
use crate::job::{Job, JobProgress};
use crate::outcome::{End, EndReason, Outcome};
use crate::task::{RowState, TaskRow};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a store would hold.
#[derive(Default, Clone)]
pub(super) struct Rows {
    agents: BTreeMap<AgentId, Agent>,
    jobs: BTreeMap<JobId, (Arc<Job>, Option<JobProgress>)>,
    tasks: BTreeMap<TaskId, TaskRow>,
}

impl Rows {
    pub(super) fn keep(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let Effect::Record(record) = effect else {
                continue;
            };
            match record {
                Record::JobSubmitted(job) => {
                    self.jobs.insert(job.id, (job, None));
                }
                Record::JobProgress { job, progress } => {
                    self.jobs.get_mut(&job).unwrap().1 = Some(progress);
                }
                Record::Task { task, row } => {
                    self.tasks.insert(task, row);
                }
                Record::Agent(agent) => {
                    self.agents.insert(agent.id.clone(), *agent);
                }
                Record::AgentSchedulable { agent, schedulable } => {
                    self.agents.get_mut(&agent).unwrap().schedulable = schedulable;
                }
                _ => {}
            }
        }
    }

    pub(super) fn restart(self, rig: &mut Rig) {
        rig.fleet = Fleet::new(Limits::default());
        for agent in self.agents.into_values() {
            rig.handle(Event::Restored(Restored::Agent(agent)));
        }
        for (job, progress) in self.jobs.into_values() {
            let rows = self.tasks.iter().filter(|(id, row)| {
                id.job == job.id && !matches!(row.state, RowState::Ended { .. })
            });
            let tasks = rows.map(|(id, row)| (id.index, row.clone())).collect();
            let progress = progress.unwrap();
            rig.handle(Event::Restored(Restored::Job {
                job,
                progress,
                tasks,
            }));
        }
    }
}

#[test]
fn the_cancel_of_some_tasks_outlives_a_restart() {
    let mut rig = Rig::new();
    let mut rows = Rows::default();
    rows.keep(rig.hello("a1", 2));
    let (job, effects) = rig.submit(spec(), 2);
    rows.keep(effects);
    let at = rig.now;
    for index in [0, 1] {
        rows.keep(rig.report("a1", attempt(job, index, 1), News::Started { at }));
    }
    rig.gone("a1");
    rows.keep(rig.cancel(job, Some("1")));
    rows.restart(&mut rig);

    let held = [attempt(job, 0, 1), attempt(job, 1, 1)].into();
    let effects = rig.hello_with("a1", 2, held);
    assert_eq!(stops(&effects), [attempt(job, 1, 1)]);
    let effects = rig.end("a1", attempt(job, 1, 1), failed(1));
    assert_eq!(ends(&effects), [(1, "canceled (canceled_by_user)".into())]);
}

#[test]
fn a_canceled_task_that_a_drain_stops_is_not_tried_again() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 1);
    rig.start("a1", attempt(job, 0, 1));
    rig.cancel(job, Some("0"));
    let ticket = rig.ticket();
    rig.handle(Event::AgentDrained {
        ticket,
        agent: agent("a1"),
        reason: "kernel".into(),
        deadline: Some(at(1)),
    });
    rig.tick_until(at(2));

    let drained = End::of(Outcome::Preempted, EndReason::Drained);
    let effects = rig.end("a1", attempt(job, 0, 1), drained);
    assert_eq!(ends(&effects), [(0, "canceled (canceled_by_user)".into())]);
}

#[test]
fn the_deadline_of_a_drain_outlives_a_restart() {
    let mut rig = Rig::new();
    let mut rows = Rows::default();
    rows.keep(rig.hello("a1", 1));
    let (job, effects) = rig.submit(spec(), 1);
    rows.keep(effects);
    let started = News::Started { at: rig.now };
    rows.keep(rig.report("a1", attempt(job, 0, 1), started));
    let ticket = rig.ticket();
    rows.keep(rig.handle(Event::AgentDrained {
        ticket,
        agent: agent("a1"),
        reason: "kernel".into(),
        deadline: Some(at(60)),
    }));
    rows.restart(&mut rig);

    rig.hello_with("a1", 1, [attempt(job, 0, 1)].into());
    assert_eq!(stops(&rig.tick_until(at(59))), []);
    assert_eq!(stops(&rig.tick_until(at(61))), [attempt(job, 0, 1)]);
}

#[test]
fn a_restart_leaves_the_quarantine_as_it_is() {
    let (mut rig, mut rows) = (Rig::new(), Rows::default());
    rows.keep(rig.hello("a1", 1));
    let mut patient = spec();
    patient.retry.infra = 3;
    let (job, effects) = rig.submit(patient, 1);
    rows.keep(effects);
    for number in 1..=3 {
        rig.start("a1", attempt(job, 0, number));
        let lost = End::of(Outcome::Lost, EndReason::EngineLost);
        rows.keep(rig.end("a1", attempt(job, 0, number), lost));
        let later = rig.now + crate::time::Millis::from_secs(600);
        rows.keep(rig.tick_until(later));
    }
    let task = TaskId { job, index: 0 };
    assert_eq!(rig.fleet.quarantined(&team()), [task]);

    rows.restart(&mut rig);
    rig.hello("a1", 1);
    let later = rig.now + crate::time::Millis::from_secs(86_400);
    let effects = rig.tick_until(later);

    assert_eq!(offers(&effects), []);
    assert_eq!(rig.fleet.quarantined(&team()), [task]);
    let ticket = rig.ticket();
    rig.handle(Event::Requeued {
        ticket,
        team: team(),
        task: None,
    });
    let effects = rig.tick_until(later);
    assert_eq!(offers(&effects).len(), 1);
    assert_eq!(offers(&effects)[0].1, attempt(job, 0, 4));
    assert_eq!(rig.fleet.job(job).unwrap().tasks[&0].spent.infra, 0);
}
