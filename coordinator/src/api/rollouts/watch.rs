//! Watching a rollout: as it is, and again when a commit has changed it.
//!
//! Nothing is queued for a watcher: one that is slow sees fewer and later states, never wrong ones.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use muster_core::channel::ChannelId;
use muster_proto::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{find, has_ended};
use crate::api::{Shared, stopping};
use crate::driver::DriverGone;
use crate::store::Store;

/// States on their way to the client.
const OUTBOX: usize = 4;
/// Between two looks: a busy store commits thousands of times a second, and agents report what they hold
/// without a commit.
const PACE: Duration = Duration::from_millis(200);
const LOOK_AGAIN: Duration = Duration::from_secs(2);

pub(super) fn watch<S: Store>(
    shared: Arc<Shared<S>>,
    id: ChannelId,
    first: pb::Rollout,
) -> impl Stream<Item = Result<pb::Rollout, Status>> + Send + 'static {
    let (states, received) = mpsc::channel(OUTBOX);
    tokio::spawn(async move {
        if let Err(status) = follow(&shared, id, first, &states).await {
            // A client that went away is not interested.
            let _ = states.send(Err(status)).await;
        }
    });
    ReceiverStream::new(received)
}

async fn follow<S: Store>(
    shared: &Shared<S>,
    id: ChannelId,
    first: pb::Rollout,
    states: &mpsc::Sender<Result<pb::Rollout, Status>>,
) -> Result<(), Status> {
    let release = first.to.as_ref().map_or(0, |to| to.number);
    let mut revisions = shared.store.revisions();
    let mut shown = first;
    loop {
        if states.send(Ok(shown.clone())).await.is_err() || has_ended(&shown) {
            return Ok(());
        }
        loop {
            tokio::select! {
                biased;
                () = states.closed() => return Ok(()),
                () = shared.driver.stopped() => return Err(stopping(DriverGone)),
                changed = revisions.changed() => {
                    changed.map_err(|_| Status::unavailable("the coordinator is stopping"))?;
                }
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
            tokio::time::sleep(PACE).await;
            let now = find(shared, id.clone(), release).await?;
            if now != shown {
                shown = now;
                break;
            }
        }
    }
}
