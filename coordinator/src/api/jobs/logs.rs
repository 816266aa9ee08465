//! The output of one attempt, live and afterwards.

use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use muster_core::error_chain::error_chain;
use muster_core::ids::{AttemptId, AttemptNo, TaskId};
use muster_core::logframe::LogStream;
use muster_proto::v1 as pb;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::Jobs;
use crate::api::convert::duration::time_from_wire;
use crate::api::{Shared, invalid, stopping, unreadable};
use crate::driver::DriverGone;
use crate::logs::{Entry, LogPage, ReadError, ReadOptions};
use crate::store::{Revision, Store};

/// How long a log of an attempt that has ended may stay incomplete before a follower is let go: the
/// agent may be gone for good.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

pub(super) async fn logs<S: Store>(
    shared: Arc<Shared<S>>,
    request: pb::LogsRequest,
) -> Result<impl Stream<Item = Result<pb::LogEntries, Status>> + Send, Status> {
    let pb::LogsRequest {
        team,
        job,
        index,
        attempt,
        follow,
        tail,
        since,
        streams,
    } = request;
    let task = Jobs(shared.clone()).task(&team, &job, index).await?;
    let number = match attempt {
        0 => newest_attempt(&shared, task, follow).await?,
        number => number,
    };
    let attempt = AttemptId {
        task,
        number: AttemptNo(number),
    };
    let stop = CancellationToken::new();
    if follow {
        let ended = wait_for_end(shared.clone(), attempt);
        let stop = stop.clone();
        tokio::spawn(async move {
            // A follower that is gone drops its side of the token's guard below.
            tokio::select! {
                () = stop.cancelled() => {}
                () = ended => {
                    let _ = tokio::time::timeout(PATIENCE, stop.cancelled()).await;
                    stop.cancel();
                }
            }
        });
    }
    let options = ReadOptions {
        follow,
        tail: (tail > 0).then_some(tail.into()),
        since: since.as_ref().map(time_from_wire),
        streams: streams_from_wire(&streams)?,
        stop: stop.clone(),
    };
    let guard = stop.drop_guard();
    let pages = shared.logs.entries(attempt, options);
    Ok(pages.map(move |page| {
        let _ends_with_the_stream = &guard;
        page.map(page_to_wire).map_err(unread)
    }))
}

fn unread(error: ReadError) -> Status {
    let chain = error_chain(&error);
    match error {
        ReadError::Disk { .. } | ReadError::Damaged { .. } => Status::internal(chain),
        ReadError::TooManyFollowers { .. } => Status::resource_exhausted(chain),
        ReadError::Stopping => Status::unavailable(chain),
    }
}

/// The newest attempt's number. A follower waits until there is one.
async fn newest_attempt<S: Store>(
    shared: &Shared<S>,
    task: TaskId,
    follow: bool,
) -> Result<u32, Status> {
    let mut revisions = shared.store.revisions();
    loop {
        revisions.mark_unchanged();
        if let Some(entry) = shared.store.task(task).await.map_err(unreadable)? {
            return Ok(entry.row.last.0);
        }
        let row = shared.store.job(task.job).await.map_err(unreadable)?;
        let ended = row.is_none_or(|row| row.progress.ended.is_some());
        if ended || !follow {
            let id = task.job.short();
            let problem = format!(
                "task {id}.{} has no attempt, so there is no output",
                task.index
            );
            return Err(Status::not_found(problem));
        }
        next_commit(shared, &mut revisions).await?;
    }
}

/// The store outlives the driver for as long as anybody reads from it, so both are listened to.
async fn next_commit<S: Store>(
    shared: &Shared<S>,
    revisions: &mut watch::Receiver<Revision>,
) -> Result<(), Status> {
    tokio::select! {
        biased;
        () = shared.driver.stopped() => Err(stopping(DriverGone)),
        changed = revisions.changed() => changed.map_err(|_| stopping(DriverGone)),
    }
}

/// Returns when the attempt has ended, or can't be asked about any more.
async fn wait_for_end<S: Store>(shared: Arc<Shared<S>>, attempt: AttemptId) {
    let mut revisions = shared.store.revisions();
    loop {
        revisions.mark_unchanged();
        let Ok(attempts) = shared.store.list_attempts(attempt.task).await else {
            return;
        };
        let this = attempts.iter().find(|row| row.number == attempt.number);
        if this.is_none_or(|row| row.ended.is_some())
            || next_commit(&shared, &mut revisions).await.is_err()
        {
            return;
        }
    }
}

fn streams_from_wire(wire: &[i32]) -> Result<Vec<LogStream>, Status> {
    let read = |stream: &i32| match pb::LogStream::try_from(*stream) {
        Ok(pb::LogStream::Stdout) => Ok(LogStream::Stdout),
        Ok(pb::LogStream::Stderr) => Ok(LogStream::Stderr),
        Ok(pb::LogStream::Gap | pb::LogStream::Unspecified) | Err(_) => Err(invalid(
            "streams",
            format!("{stream} is neither stdout nor stderr"),
        )),
    };
    wire.iter().map(read).collect()
}

fn page_to_wire(page: LogPage) -> pb::LogEntries {
    let LogPage { entries, complete } = page;
    pb::LogEntries {
        entries: entries.into_iter().map(entry_to_wire).collect(),
        complete,
    }
}

fn entry_to_wire(entry: Entry) -> pb::LogEntry {
    let Entry {
        stream,
        at_micros,
        data,
    } = entry;
    let stream = match stream {
        LogStream::Stdout => pb::LogStream::Stdout,
        LogStream::Stderr => pb::LogStream::Stderr,
        LogStream::Gap => pb::LogStream::Gap,
    };
    let nanos = i32::try_from(at_micros % 1_000_000).expect("below a million") * 1_000;
    let seconds = i64::try_from(at_micros / 1_000_000).unwrap_or(i64::MAX);
    let at = Some(prost_types::Timestamp { seconds, nanos });
    pb::LogEntry {
        stream: stream.into(),
        at,
        data,
    }
}
