//! Watching jobs: rows that changed since a position, and a wait for the next commit.
//!
//! The position is the store's revision. Nothing is queued for a watcher: one that is slow reads fewer
//! and later states, never wrong ones, and costs no memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::Stream;
use muster_core::ids::JobId;
use muster_proto::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::api::convert::jobs::{job_to_wire, task_to_wire};
use crate::api::{Shared, invalid, stopping, unreadable};
use crate::driver::DriverGone;
use crate::store::{Change, ChangeQuery, Changes, JobState, Revision, Store};

/// Jobs of one watch.
const JOBS: usize = 100;
/// Rows read at a time, and events on their way to the client.
const ROWS: u32 = 256;
const OUTBOX: usize = 256;

pub(super) async fn watch<S: Store>(
    shared: Arc<Shared<S>>,
    request: pb::WatchRequest,
) -> Result<impl Stream<Item = Result<pb::WatchEvent, Status>> + Send, Status> {
    let pb::WatchRequest {
        team,
        jobs,
        position,
        jobs_only,
    } = request;
    if jobs.is_empty() || jobs.len() > JOBS {
        return Err(invalid(
            "jobs",
            format!("{} jobs; give 1 to {JOBS}", jobs.len()),
        ));
    }
    let mut ids = Vec::with_capacity(jobs.len());
    for job in &jobs {
        ids.push(shared.resolve_job(&team, job).await?);
    }
    let query = ChangeQuery {
        jobs: ids,
        after: Revision(position),
        tasks: !jobs_only,
        limit: ROWS,
    };
    let (events, received) = mpsc::channel(OUTBOX);
    tokio::spawn(async move {
        if let Err(status) = follow(&shared, query, &events).await {
            // A client that went away is not interested.
            let _ = events.send(Err(status)).await;
        }
    });
    Ok(ReceiverStream::new(received))
}

type Events = mpsc::Sender<Result<pb::WatchEvent, Status>>;

/// Sends changes until every job has ended, or the client is gone.
async fn follow<S: Store>(
    shared: &Shared<S>,
    mut query: ChangeQuery,
    events: &Events,
) -> Result<(), Status> {
    let mut revisions = shared.store.revisions();
    let mut live = live_jobs(shared, &query.jobs).await?;
    loop {
        revisions.mark_unchanged();
        let Changes {
            rows,
            through,
            more,
        } = shared
            .store
            .changes(query.clone())
            .await
            .map_err(unreadable)?;
        let mut position = query.after;
        for (place, row) in rows.iter().enumerate() {
            if let Change::Job(job) = row
                && job.state() == JobState::Ended
            {
                live.remove(&job.job.id);
            }
            // A client that goes on from a position must not miss the rest of that revision.
            let last_of_revision = rows
                .get(place + 1)
                .is_none_or(|next| next.rev() != row.rev());
            if last_of_revision {
                position = row.rev();
            }
            if events.send(Ok(event(row, position))).await.is_err() {
                return Ok(());
            }
        }
        query.after = through;
        if more {
            continue;
        }
        if live.is_empty() {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = events.closed() => return Ok(()),
            () = shared.driver.stopped() => return Err(stopping(DriverGone)),
            changed = revisions.changed() => {
                changed.map_err(|_| Status::unavailable("the coordinator is stopping"))?;
            }
        }
    }
}

/// Jobs that have not ended: one that ended before the position has no change to wait for.
async fn live_jobs<S: Store>(
    shared: &Shared<S>,
    jobs: &[JobId],
) -> Result<BTreeSet<JobId>, Status> {
    let mut live = BTreeSet::new();
    for id in jobs {
        let row = shared.store.job(*id).await.map_err(unreadable)?;
        if row.is_some_and(|row| row.state() != JobState::Ended) {
            live.insert(*id);
        }
    }
    Ok(live)
}

fn event(change: &Change, position: Revision) -> pb::WatchEvent {
    let change = match change {
        Change::Job(row) => pb::watch_event::Change::Job(job_to_wire(row)),
        Change::Task(entry) => pb::watch_event::Change::Task(task_to_wire(entry)),
    };
    pb::WatchEvent {
        position: position.0,
        change: Some(change),
    }
}
