//! Output on its way from an agent to the log store.

use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use muster_core::error_chain::error_chain;
use muster_core::ids::AttemptId;
use muster_failpoint::{self as failpoint, Point};
use muster_proto::v1 as pb;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::api::convert::jobs::attempt_id_to_wire;
use crate::api::convert::session::attempt_from_wire;
use crate::logs::{LogStore, Stored, WriteError};

/// Chunks that are stored at a time, as many as an agent has under way; those of one attempt come one by one.
const AT_A_TIME: usize = 8;

/// Stores the chunks, and says of each what is on disk.
pub(super) fn receive(
    logs: Arc<LogStore>,
    chunks: Streaming<pb::LogChunk>,
    stop: CancellationToken,
) -> impl Stream<Item = Result<pb::LogAck, Status>> + Send {
    chunks
        .scan((), |(), chunk| std::future::ready(chunk.ok()))
        .take_until(stop.cancelled_owned())
        .map(move |chunk| {
            let logs = logs.clone();
            async move { store(&logs, chunk).await }
        })
        .buffered(AT_A_TIME)
}

async fn store(logs: &LogStore, chunk: pb::LogChunk) -> Result<pb::LogAck, Status> {
    let pb::LogChunk {
        attempt,
        offset,
        data,
        last,
        crc32,
    } = chunk;
    let attempt = attempt.ok_or_else(|| Status::invalid_argument("the chunk has no attempt"))?;
    let attempt = attempt_from_wire(attempt)
        .map_err(|error| Status::invalid_argument(error_chain(&error)))?;
    let full = failpoint::soon(Point::LogStored, || !data.is_empty());
    let end = offset.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
    if last && offset == 0 {
        let kept = logs.keep_whole(attempt, crc32, data.clone()).await;
        if let Some(stored) = kept.map_err(unwritten)? {
            full.hit();
            return Ok(ack(attempt, stored));
        }
    }
    let mut stored = logs
        .append(attempt, offset, data)
        .await
        .map_err(unwritten)?;
    full.hit();
    // A log that is here in full can be checked; anything else makes the agent rewind first.
    if last && stored.length == end && !stored.complete {
        stored = logs
            .finish(attempt, crc32, stored.length)
            .await
            .map_err(unwritten)?;
    }
    Ok(ack(attempt, stored))
}

fn ack(attempt: AttemptId, Stored { length, complete }: Stored) -> pb::LogAck {
    pb::LogAck {
        attempt: Some(attempt_id_to_wire(attempt)),
        length,
        complete,
    }
}

fn unwritten(error: WriteError) -> Status {
    if matches!(error, WriteError::Stopping) {
        return Status::unavailable(error.to_string());
    }
    let chain = error_chain(&error);
    tracing::error!(error = chain, "output could not be stored");
    Status::resource_exhausted(chain)
}
