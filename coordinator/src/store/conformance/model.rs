//! Random histories from a tiny model of the fleet: after every reopening the store must say what the
//! model says.

use std::collections::BTreeMap;

use muster_core::effect::{Because, Record};
use muster_core::event::Restored;
use muster_core::ids::{AttemptId, AttemptNo, TaskId};
use muster_core::job::{CancelRequest, JobProgress, Withdrawn};
use muster_core::outcome::{End, EndReason, Outcome};
use muster_core::ranges::Ranges;
use muster_core::retry::Budget;
use muster_core::task::{RowState, TaskRow};
use muster_core::time::Timestamp;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any};

use super::samples::{self, all_tasks, job, progress, task_row};
use super::{ALL, Opener};
use crate::store::{JobQuery, Store};

const JOBS: u32 = 3;
const TASKS: u32 = 4;

/// What happens next, chosen without a look at the state: what does not fit is passed over.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum Step {
    Submit {
        job: u32,
    },
    Advance {
        job: u32,
        index: u32,
        fails: bool,
    },
    Cancel {
        job: u32,
    },
    EndJob {
        job: u32,
    },
    /// The batch so far is committed.
    Commit,
    Reopen,
}

pub(in crate::store) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..20_u8, 0..JOBS, 0..TASKS, any::<bool>()).prop_map(
        |(kind, job, index, fails)| match kind {
            0..3 => Step::Submit { job },
            3..14 => Step::Advance { job, index, fails },
            14 => Step::Cancel { job },
            15 => Step::EndJob { job },
            16..19 => Step::Commit,
            _ => Step::Reopen,
        },
    );
    vec(step, 1..80)
}

fn attempt(number: u32, index: u32, attempt: u32) -> AttemptId {
    let task = TaskId {
        job: job(number).id,
        index,
    };
    AttemptId {
        task,
        number: AttemptNo(attempt),
    }
}

#[derive(Debug, Default)]
struct Model {
    now: u64,
    jobs: BTreeMap<u32, (JobProgress, BTreeMap<u32, TaskRow>)>,
    /// Attempts that were ever made.
    attempts: BTreeMap<AttemptId, Option<End>>,
    order: Vec<u32>,
    batch: Vec<Record>,
}

pub(in crate::store) async fn reopened_it_is_as_it_was(opener: &impl Opener, steps: Vec<Step>) {
    let mut model = Model::default();
    let mut store = Some(opener.open());
    for step in steps.into_iter().chain([Step::Reopen]) {
        model.now += 1;
        match step {
            Step::Submit { job } => model.submit(job),
            Step::Advance { job, index, fails } => model.advance(job, index, fails),
            Step::Cancel { job } => model.cancel(job),
            Step::EndJob { job } => model.end_job(job),
            Step::Commit => {
                model
                    .commit(store.as_ref().expect("open between steps"))
                    .await
            }
            Step::Reopen => {
                model
                    .commit(store.as_ref().expect("open between steps"))
                    .await;
                drop(store.take());
                let opened = opener.open();
                model.check(&opened).await;
                store = Some(opened);
            }
        }
    }
}

impl Model {
    fn submit(&mut self, number: u32) {
        if self.jobs.contains_key(&number) {
            return;
        }
        let job = job(number);
        self.jobs.insert(number, (progress(&job), BTreeMap::new()));
        self.order.push(number);
        self.batch.push(Record::JobSubmitted(job));
    }

    /// The task's next step in life.
    fn advance(&mut self, number: u32, index: u32, fails: bool) {
        let Some((progress, tasks)) = self.jobs.get(&number) else {
            return;
        };
        if progress.ended.is_some() {
            return;
        }
        let before = tasks.get(&index).cloned();
        let last = before.as_ref().map_or(1, |row| row.last.0);
        let started = before.as_ref().and_then(|row| row.started);
        let attempt = attempt(number, index, last);
        let row = match before.map(|row| row.state) {
            None => self.make(number, index, 1),
            Some(RowState::Pending { .. }) => self.make(number, index, last + 1),
            Some(RowState::Assigned) => task_row(last, RowState::Preparing),
            Some(RowState::Preparing) => {
                let at = Timestamp(self.now);
                self.batch.push(Record::AttemptStarted { attempt, at });
                TaskRow {
                    started: Some(at),
                    ..task_row(last, RowState::Running)
                }
            }
            Some(RowState::Running) => {
                let state = self.end(attempt, started, fails);
                TaskRow {
                    started,
                    ..task_row(last, state)
                }
            }
            Some(RowState::Ended { .. }) => {
                let late = samples::late_report(&job(number), index, last);
                return self.batch.push(late);
            }
        };
        let (progress, tasks) = self.jobs.get_mut(&number).expect("looked up above");
        progress.counts.retries = last;
        let (task, progress) = (attempt.task, progress.clone());
        tasks.insert(index, row.clone());
        self.batch.push(Record::Task { task, row });
        self.batch.push(Record::JobProgress {
            job: task.job,
            progress,
        });
    }

    fn make(&mut self, number: u32, index: u32, next: u32) -> TaskRow {
        self.attempts.insert(attempt(number, index, next), None);
        let because = Because::UserRetry {
            number: next,
            allowed: 9,
        };
        let made = samples::attempt_made(&job(number), index, next, because);
        self.batch.push(made);
        task_row(next, RowState::Assigned)
    }

    /// How the task stands after the end of its attempt.
    fn end(&mut self, attempt: AttemptId, started: Option<Timestamp>, fails: bool) -> RowState {
        let at = Timestamp(self.now);
        let outcome = if fails {
            Outcome::Failed
        } else {
            Outcome::Succeeded
        };
        let end = End {
            exit_code: Some(fails.into()),
            ..End::of(outcome, EndReason::Exited)
        };
        self.attempts.insert(attempt, Some(end.clone()));
        let (usage, of_attempt) = (samples::usage(), end.clone());
        self.batch.push(Record::AttemptEnded {
            attempt,
            started,
            at,
            end: of_attempt,
            usage,
        });
        if fails {
            RowState::Pending {
                not_before: at,
                budget: Budget::User,
                quarantined: false,
            }
        } else {
            RowState::Ended { end, at }
        }
    }

    fn cancel(&mut self, number: u32) {
        let at = Timestamp(self.now);
        let Some((progress, _)) = self.jobs.get_mut(&number) else {
            return;
        };
        progress.cancel = Some(CancelRequest {
            reason: "enough".to_owned(),
            at,
        });
        progress.canceling = Ranges::from_ranges([2..=3, 7..=7]);
        let end = End::of(Outcome::Canceled, EndReason::CanceledByUser);
        let tasks = progress
            .unstarted
            .take(&Ranges::from_ranges([5..=6, 9..=9]));
        progress.withdrawn.push(Withdrawn { tasks, end, at });
        self.batch.push(Record::JobProgress {
            job: job(number).id,
            progress: progress.clone(),
        });
    }

    fn end_job(&mut self, number: u32) {
        let Some((progress, _)) = self.jobs.get_mut(&number) else {
            return;
        };
        progress.ended = Some(Timestamp(self.now));
        self.batch.push(Record::JobProgress {
            job: job(number).id,
            progress: progress.clone(),
        });
    }

    async fn commit(&mut self, store: &impl Store) {
        store.commit(std::mem::take(&mut self.batch)).await.unwrap();
    }

    async fn check(&self, store: &impl Store) {
        let mut loaded = store.load().await.unwrap();
        // Which attempts gates remember is not the model's matter.
        loaded.retain(|row| !matches!(row, Restored::Ran { .. }));
        let live = self
            .order
            .iter()
            .filter(|number| self.jobs[number].0.ended.is_none());
        assert_eq!(loaded.len(), live.clone().count());
        for (number, restored) in live.zip(loaded) {
            let (expected, rows) = &self.jobs[number];
            let Restored::Job {
                job: stored,
                progress,
                tasks,
            } = restored
            else {
                panic!("only jobs were stored")
            };
            assert_eq!((stored, &progress), (job(*number), expected));
            let open = |row: &TaskRow| !matches!(row.state, RowState::Ended { .. });
            let expected = rows.iter().filter(|(_, row)| open(row));
            let expected: Vec<_> = expected.map(|(index, row)| (*index, row.clone())).collect();
            assert_eq!(tasks, expected);
        }
        let all = store
            .list_jobs(JobQuery { limit: 100, ..ALL })
            .await
            .unwrap();
        assert_eq!(all.rows.len(), self.jobs.len());
        for (number, (_, rows)) in &self.jobs {
            let tasks = store
                .list_tasks(all_tasks(&job(*number)))
                .await
                .unwrap()
                .rows;
            let stored: Vec<_> = tasks
                .into_iter()
                .map(|entry| (entry.id.index, entry.row))
                .collect();
            let expected: Vec<_> = rows
                .iter()
                .map(|(index, row)| (*index, row.clone()))
                .collect();
            assert_eq!(stored, expected);
        }
        self.check_attempts(store).await;
    }

    async fn check_attempts(&self, store: &impl Store) {
        let tasks: std::collections::BTreeSet<_> =
            self.attempts.keys().map(|attempt| attempt.task).collect();
        let mut stored = BTreeMap::new();
        for task in tasks {
            for row in store.list_attempts(task).await.unwrap() {
                let id = AttemptId {
                    task,
                    number: row.number,
                };
                stored.insert(id, row.ended.map(|ended| ended.end));
            }
        }
        assert_eq!(stored, self.attempts);
    }
}
