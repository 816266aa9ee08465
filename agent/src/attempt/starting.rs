//! Asking for the one start is not cut off by an orderly end of the agent: nobody may ask again, and a start that was
//! not asked for in time costs the attempt.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long that may hold up the end of the agent. An engine that hangs is left as if the agent had died.
const START_ENDS: Duration = Duration::from_secs(10);

/// Of one attempt, whether its start is being asked for.
#[derive(Debug, Clone)]
pub(crate) struct Starting(Arc<Semaphore>);

impl Starting {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// It is being asked for until what is returned is dropped.
    pub(super) async fn begin(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }

    /// Returns when the attempt is to be let go of: at `shutdown`, or when the start has been asked for.
    pub(super) async fn orderly_end(self, shutdown: CancellationToken) {
        shutdown.cancelled().await;
        let _ = tokio::time::timeout(START_ENDS, self.begin()).await;
    }
}
