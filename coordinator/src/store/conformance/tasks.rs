//! Tasks, their attempts, and what changed.

use std::sync::Arc;

use muster_core::effect::{Because, Record};
use muster_core::event::Restored;
use muster_core::ids::TaskId;
use muster_core::job::Job;
use muster_core::outcome::{End, EndReason, Outcome};
use muster_core::retry::Budget;
use muster_core::task::RowState;
use muster_core::time::Timestamp;

use super::Opener;
use super::samples::{self, attempt_ended, attempt_made, job, progress, row};
use crate::store::{
    Change, ChangeQuery, Changes, LateReport, Revision, Store, TaskQuery, TaskStateWord,
};

pub(in crate::store) async fn tasks_are_listed_by_index(opener: &impl Opener) {
    let store = opener.open();
    let job = job(1);
    store
        .commit(vec![Record::JobSubmitted(job.clone())])
        .await
        .unwrap();
    let failed = End {
        exit_code: Some(2),
        ..End::of(Outcome::Failed, EndReason::Exited)
    };
    let states = [
        RowState::Ended {
            end: failed,
            at: Timestamp(7),
        },
        RowState::Running,
        RowState::Assigned,
        RowState::Pending {
            not_before: Timestamp(9),
            budget: Budget::User,
            quarantined: false,
        },
    ];
    let mut records = Vec::new();
    for (index, state) in (0..).zip(states) {
        records.push(attempt_made(&job, index, 1, Because::First));
        records.push(row(&job, index, 1, state));
    }
    store.commit(records).await.unwrap();
    let query = TaskQuery {
        job: job.id,
        states: Vec::new(),
        outcomes: Vec::new(),
        after: None,
        limit: 3,
    };
    let list = async |query: TaskQuery| {
        let page = store.list_tasks(query).await.unwrap();
        (
            page.rows
                .iter()
                .map(|entry| entry.id.index)
                .collect::<Vec<_>>(),
            page.next,
        )
    };

    assert_eq!(list(query.clone()).await, (vec![0, 1, 2], Some(2)));
    assert_eq!(
        list(TaskQuery {
            after: Some(2),
            ..query.clone()
        })
        .await,
        (vec![3], None)
    );
    let states = vec![TaskStateWord::Pending, TaskStateWord::Running];
    assert_eq!(
        list(TaskQuery {
            states,
            ..query.clone()
        })
        .await,
        (vec![1, 3], None)
    );
    let outcomes = vec![Outcome::Failed];
    assert_eq!(list(TaskQuery { outcomes, ..query }).await, (vec![0], None));
}

pub(in crate::store) async fn attempts_keep_their_history(opener: &impl Opener) {
    let store = opener.open();
    let job = job(1);
    store
        .commit(vec![Record::JobSubmitted(job.clone())])
        .await
        .unwrap();
    let lost = End::of(Outcome::Lost, EndReason::AgentLost);
    let retry = Because::InfraRetry {
        number: 1,
        allowed: 3,
    };
    let pending = RowState::Pending {
        not_before: Timestamp(60),
        budget: Budget::Infra,
        quarantined: false,
    };
    for batch in [
        vec![
            attempt_made(&job, 5, 1, Because::First),
            row(&job, 5, 1, RowState::Assigned),
        ],
        vec![
            attempt_ended(&job, 5, 1, lost.clone()),
            row(&job, 5, 1, pending),
        ],
        vec![
            attempt_made(&job, 5, 2, retry),
            row(&job, 5, 2, RowState::Assigned),
        ],
        vec![
            samples::late_report(&job, 5, 1),
            samples::late_report(&job, 6, 1),
        ],
        // The end that is known, told again because its acknowledgement got lost, is no evidence.
        vec![samples::late_end(&job, 5, 1, lost.clone())],
    ] {
        store.commit(batch).await.unwrap();
    }
    let task = TaskId {
        job: job.id,
        index: 5,
    };

    let attempts = store.list_attempts(task).await.unwrap();
    let [first, second] = attempts.as_slice() else {
        panic!("{attempts:?}")
    };
    assert_eq!(first.ended.as_ref().map(|ended| &ended.end), Some(&lost));
    let late = first.late_report.as_ref();
    assert!(matches!(late, Some(LateReport { end, .. }) if end.outcome == Outcome::Succeeded));
    assert_eq!((first.because, second.because), (Because::First, retry));
    assert_eq!(second.ended, None);
    let entry = store.task(task).await.unwrap().unwrap();
    assert_eq!(
        (entry.row.last, entry.row.state),
        (second.number, RowState::Assigned)
    );
    assert_eq!(
        store
            .list_tasks(samples::all_tasks(&job))
            .await
            .unwrap()
            .rows
            .len(),
        1
    );
}

/// A person may take days to decide, and the coordinator restarts meanwhile.
pub(in crate::store) async fn quarantine_survives_a_restart(opener: &impl Opener) {
    let store = opener.open();
    let job = job(1);
    let quarantined = RowState::Pending {
        not_before: Timestamp(60),
        budget: Budget::Free,
        quarantined: true,
    };
    let lost = End::of(Outcome::Lost, EndReason::EngineLost);
    for batch in [
        vec![Record::JobSubmitted(job.clone())],
        vec![
            attempt_made(&job, 0, 1, Because::First),
            row(&job, 0, 1, RowState::Running),
        ],
        vec![
            attempt_ended(&job, 0, 1, lost),
            row(&job, 0, 1, quarantined.clone()),
        ],
    ] {
        store.commit(batch).await.unwrap();
    }
    drop(store);
    let store = opener.open();

    let loaded = store.load().await.unwrap();

    let Some(Restored::Job { tasks, .. }) = loaded.first() else {
        panic!("{loaded:?}")
    };
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].1, samples::task_row(1, quarantined));
    assert_eq!(tasks[0].1.spent.deaths, 1);
}

/// What an attempt was is not forgotten when its task changes without it.
pub(in crate::store) async fn a_waiting_task_can_end(opener: &impl Opener) {
    let store = opener.open();
    let job = job(1);
    let failed = End::of(Outcome::Failed, EndReason::Exited);
    let canceled = End::of(Outcome::Canceled, EndReason::CanceledByUser);
    let not_before = Timestamp(60);
    let pending = RowState::Pending {
        not_before,
        budget: Budget::User,
        quarantined: false,
    };
    let ended = RowState::Ended {
        end: canceled,
        at: Timestamp(55),
    };
    for batch in [
        vec![Record::JobSubmitted(job.clone())],
        vec![
            attempt_made(&job, 0, 1, Because::First),
            row(&job, 0, 1, RowState::Assigned),
        ],
        vec![
            attempt_ended(&job, 0, 1, failed.clone()),
            row(&job, 0, 1, pending),
        ],
        vec![row(&job, 0, 1, ended.clone())],
    ] {
        store.commit(batch).await.unwrap();
    }
    let task = TaskId {
        job: job.id,
        index: 0,
    };

    assert_eq!(store.task(task).await.unwrap().unwrap().row.state, ended);
    let attempts = store.list_attempts(task).await.unwrap();
    let kept = attempts[0].ended.as_ref().unwrap();
    assert_eq!(
        (&kept.end, kept.usage, kept.at),
        (&failed, samples::usage(), Timestamp(50))
    );
}

/// More rows in one revision than a page may have, then one row each.
async fn eight_commits(store: &impl Store, jobs: &[Arc<Job>; 2]) {
    let submitted = jobs.clone().map(Record::JobSubmitted);
    store.commit(submitted.to_vec()).await.unwrap();
    let many = (0..5).flat_map(|index| {
        let made = attempt_made(&jobs[0], index, 1, Because::First);
        [made, row(&jobs[0], index, 1, RowState::Assigned)]
    });
    store.commit(many.collect()).await.unwrap();
    for index in 0..3 {
        let started = row(&jobs[0], index, 1, RowState::Running);
        store.commit(vec![started]).await.unwrap();
        let (job, progress) = (jobs[1].id, progress(&jobs[1]));
        store
            .commit(vec![Record::JobProgress { job, progress }])
            .await
            .unwrap();
    }
}

pub(in crate::store) async fn changes_miss_nothing(opener: &impl Opener) {
    let store = opener.open();
    let jobs = [job(1), job(2)];
    eight_commits(&store, &jobs).await;
    let jobs = jobs.map(|job| job.id).to_vec();
    let query = ChangeQuery {
        jobs,
        after: Revision(0),
        tasks: true,
        limit: 2,
    };

    let mut seen: Vec<(u64, Option<u32>)> = Vec::new();
    let mut after = Revision(0);
    loop {
        let query = ChangeQuery {
            after,
            ..query.clone()
        };
        let Changes {
            rows,
            through,
            more,
        } = store.changes(query).await.unwrap();
        assert!(
            rows.iter()
                .all(|row| row.rev() > after && row.rev() <= through)
        );
        seen.extend(rows.iter().map(|change| match change {
            Change::Task(entry) => (entry.rev.0, Some(entry.id.index)),
            Change::Job(row) => (row.rev.0, None),
        }));
        after = through;
        if !more {
            break;
        }
    }

    let of_tasks = [
        (2, Some(3)),
        (2, Some(4)),
        (3, Some(0)),
        (5, Some(1)),
        (7, Some(2)),
    ];
    assert_eq!(
        seen,
        [[(1, None)].as_slice(), &of_tasks, &[(8, None)]].concat()
    );
    assert_eq!(after, Revision(8));
    let jobs_only = ChangeQuery {
        tasks: false,
        limit: 10,
        ..query
    };
    assert_eq!(store.changes(jobs_only).await.unwrap().rows.len(), 2);
}
