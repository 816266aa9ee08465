//! A history of finished jobs, written with the store's own code: running so many would take all day.

use std::path::Path;

use muster_coordinator::store::{SqliteStore, Store as _};
use muster_core::effect::{Because, Record};
use muster_core::ids::{AgentId, AttemptId, AttemptNo, JobId, TaskId, TeamName};
use muster_core::job::{Counts, Job, JobProgress, LiveJob};
use muster_core::outcome::{End, EndReason, Outcome, Usage};
use muster_core::retry::Spent;
use muster_core::task::{RowState, TaskRow};
use muster_core::time::{Millis, Timestamp};
use muster_tests::sample;
use std::sync::Arc;
use uuid::{Timestamp as Moment, Uuid};

/// Jobs of one commit.
const COMMIT: u32 = 2_000;
/// Of the first job: some time ago. Each began a second after the one before.
const FIRST: u64 = 1_700_000_000;

/// Adds so many jobs of one task that succeeded to the store in `data`, which nobody has open.
pub(crate) async fn write(data: &Path, jobs: u32) -> anyhow::Result<()> {
    let store = tokio::task::block_in_place(|| SqliteStore::open(data))?;
    let spec = Arc::new(sample::spec("history"));
    let (team, agent) = (TeamName::parse("default")?, AgentId::parse("host-0001")?);
    for first in (0..jobs).step_by(usize::try_from(COMMIT)?) {
        let last = jobs.min(first + COMMIT);
        let mut records = Vec::new();
        for number in first..last {
            let second = FIRST + u64::from(number);
            let id = JobId(Uuid::new_v7(Moment::from_unix_time(second, 0, 0, 0)));
            let job = Job {
                id,
                team: team.clone(),
                spec: spec.clone(),
                array: 1,
                key: None,
                pinned: Some(sample::image(1)),
                release: None,
                created: Timestamp(second * 1_000),
                traceparent: None,
            };
            records.extend(ended(job, &agent));
        }
        store.commit(records).await?;
    }
    Ok(())
}

/// All that is on record about a job whose only task succeeded.
fn ended(job: Job, agent: &AgentId) -> Vec<Record> {
    let (started, at) = (job.created + Millis(100), job.created + Millis(900));
    let task = TaskId {
        job: job.id,
        index: 0,
    };
    let number = AttemptNo(1);
    let attempt = AttemptId { task, number };
    let end = End {
        exit_code: Some(0),
        ..End::of(Outcome::Succeeded, EndReason::Exited)
    };
    let image = sample::image(1);
    let row = TaskRow {
        state: RowState::Ended {
            end: end.clone(),
            at,
        },
        last: number,
        spent: Spent::default(),
        agent: agent.clone(),
        image: image.clone(),
        release: None,
        assigned: job.created,
        started: Some(started),
    };
    let counts = Counts {
        succeeded: 1,
        ..Counts::default()
    };
    let job = Arc::new(job);
    let mut progress = LiveJob::new(job.clone(), 0).progress;
    progress.unstarted.pop_first();
    let progress = JobProgress {
        counts,
        started: Some(started),
        ended: Some(at),
        ..progress
    };
    let usage = Usage {
        run: Some(at.since(started)),
        ..Usage::default()
    };
    vec![
        Record::JobSubmitted(job.clone()),
        Record::AttemptMade {
            attempt,
            agent: agent.clone(),
            image,
            at: job.created,
            because: Because::First,
        },
        Record::AttemptEnded {
            attempt,
            started: Some(started),
            at,
            end,
            usage,
        },
        Record::Task { task, row },
        Record::JobProgress {
            job: job.id,
            progress,
        },
    ]
}
