//! What every store must do, as plain functions over any [`Store`]. A database behind the trait passes
//! them or is not a store.

use std::collections::BTreeMap;

use muster_core::channel::Cause;
use muster_core::effect::{Because, Record};
use muster_core::event::Restored;
use muster_core::ids::Term;
use muster_core::outcome::{End, EndReason, Outcome};
use muster_core::ranges::Ranges;
use muster_core::task::RowState;
use muster_core::time::Timestamp;

use super::{Identity, JobQuery, Revision, Store};

pub(super) mod fleet;
pub(super) mod jobs;
pub(super) mod model;
pub(super) mod samples;
pub(super) mod tasks;

use samples::{agent, attempt_made, channel, job, progress, release, row};

/// Opens the same store again and again; dropping what it returned comes first.
pub(super) trait Opener {
    type Store: Store;

    fn open(&self) -> Self::Store;
}

const ALL: JobQuery = JobQuery {
    team: None,
    states: Vec::new(),
    outcomes: Vec::new(),
    labels: BTreeMap::new(),
    name: None,
    digest: None,
    before: None,
    limit: 100,
};

pub(super) async fn the_term_rises_with_each_opening(opener: &impl Opener) {
    let first = opener.open().identity();
    let second = opener.open().identity();

    assert_eq!(first.term, Term(1));
    assert_eq!(
        second,
        Identity {
            term: Term(2),
            ..first
        }
    );
}

pub(super) async fn revisions_go_on_after_a_restart(opener: &impl Opener) {
    let store = opener.open();
    assert_eq!(
        store
            .commit(vec![Record::JobSubmitted(job(1))])
            .await
            .unwrap(),
        Revision(1)
    );
    assert_eq!(
        store
            .commit(vec![Record::JobSubmitted(job(2))])
            .await
            .unwrap(),
        Revision(2)
    );
    drop(store);
    let store = opener.open();
    assert_eq!(*store.revisions().borrow(), Revision(2));

    let mut revisions = store.revisions();
    assert_eq!(
        store
            .commit(vec![Record::JobSubmitted(job(3))])
            .await
            .unwrap(),
        Revision(3)
    );

    assert_eq!(*revisions.borrow_and_update(), Revision(3));
}

pub(super) async fn a_commit_is_all_or_nothing(opener: &impl Opener) {
    let store = opener.open();
    store
        .commit(vec![Record::JobSubmitted(job(1))])
        .await
        .unwrap();

    // The second record has no row to change, so the first must not be stored either.
    let contradiction = Record::JobProgress {
        job: job(9).id,
        progress: progress(&job(9)),
    };
    store
        .commit(vec![Record::JobSubmitted(job(2)), contradiction])
        .await
        .unwrap_err();

    let after = store.commit(vec![Record::JobSubmitted(job(3))]).await;
    after.expect_err("after a failure nothing more is stored");
    drop(store);
    let store = opener.open();
    assert!(store.job(job(1).id).await.unwrap().is_some());
    assert_eq!(store.job(job(2).id).await.unwrap(), None);
    assert_eq!(store.job(job(3).id).await.unwrap(), None);
    assert_eq!(*store.revisions().borrow(), Revision(1));
}

pub(super) async fn only_live_jobs_and_tasks_are_loaded(opener: &impl Opener) {
    let store = opener.open();
    // Submitted in another order than that of their ids.
    let jobs = [job(3), job(1), job(2)];
    store
        .commit(jobs.clone().map(Record::JobSubmitted).to_vec())
        .await
        .unwrap();
    let done = End::of(Outcome::Succeeded, EndReason::Exited);
    let ended = RowState::Ended {
        end: done,
        at: Timestamp(8),
    };
    let mut over = progress(&jobs[1]);
    over.ended = Some(Timestamp(8));
    let mut live = progress(&jobs[0]);
    live.unstarted = Ranges::from_ranges([2..=9]);
    let records = vec![
        attempt_made(&jobs[0], 0, 1, Because::First),
        row(&jobs[0], 0, 1, ended.clone()),
        attempt_made(&jobs[0], 1, 1, Because::First),
        row(&jobs[0], 1, 1, RowState::Running),
        attempt_made(&jobs[1], 0, 1, Because::First),
        row(&jobs[1], 0, 1, ended),
        Record::JobProgress {
            job: jobs[0].id,
            progress: live.clone(),
        },
        Record::JobProgress {
            job: jobs[1].id,
            progress: over,
        },
        Record::Agent(Box::new(agent("etl-1"))),
        Record::Channel(Box::new(channel("analytics", release(1, Cause::Set), None))),
    ];
    store.commit(records).await.unwrap();
    drop(store);
    let store = opener.open();

    let loaded = store.load().await.unwrap();

    let [Restored::Channel(_), Restored::Agent(_), first, second] = loaded.as_slice() else {
        panic!("{loaded:?}")
    };
    let Restored::Job {
        job,
        progress: stored,
        tasks,
    } = first
    else {
        panic!("{first:?}")
    };
    assert_eq!((job, stored), (&jobs[0], &live));
    assert_eq!(
        tasks.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
        [1]
    );
    let Restored::Job {
        job,
        progress: stored,
        tasks,
    } = second
    else {
        panic!("{second:?}")
    };
    assert_eq!(
        (job, stored, tasks.len()),
        (&jobs[2], &progress(&jobs[2]), 0)
    );
}
