//! Output on its way from an agent to the log store.

use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use muster_core::ids::AttemptId;
use muster_failpoint::{self as failpoint, Point};
use muster_proto::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::api::convert::jobs::attempt_id_to_wire;
use crate::api::convert::session::attempt_from_wire;
use crate::error_chain::error_chain;
use crate::logs::{LogStore, Stored, WriteError};

/// Answers on their way to one agent.
const OUTBOX: usize = 64;

/// Stores chunk after chunk, and says after each what is on disk.
pub(super) fn receive(
    logs: Arc<LogStore>,
    mut chunks: Streaming<pb::LogChunk>,
    stop: CancellationToken,
) -> impl Stream<Item = Result<pb::LogAck, Status>> + Send {
    let (acks, received) = mpsc::channel(OUTBOX);
    tokio::spawn(async move {
        loop {
            let chunk = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                chunk = chunks.next() => chunk,
            };
            let Some(Ok(chunk)) = chunk else { return };
            let ack = store(&logs, chunk).await;
            let failed = ack.is_err();
            if acks.send(ack).await.is_err() || failed {
                return;
            }
        }
    });
    ReceiverStream::new(received)
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
    let chain = error_chain(&error);
    tracing::error!(error = chain, "output could not be stored");
    Status::resource_exhausted(chain)
}
