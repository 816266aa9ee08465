//! What is written is kept only once it is synced to disk, and a sync that failed is never tried again: the
//! kernel may have dropped what it could not write, and says so only once.

use std::io;

use tokio::sync::SetOnce;

/// All syncs of the log store.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    /// Why the first one failed that did.
    failed: SetOnce<String>,
}

impl Syncs {
    /// Refuses everything after the first failure.
    pub(super) fn check(&self) -> io::Result<()> {
        match self.failed.get() {
            None => Ok(()),
            Some(why) => Err(io::Error::other(why.clone())),
        }
    }

    /// Passes on how a sync ended. A failure is the last thing that happens.
    pub(super) fn ended(&self, sync: io::Result<()>) -> io::Result<()> {
        self.check()?;
        if let Err(error) = &sync {
            // Of several at a time the first one is told.
            let _ = self.failed.set(error.to_string());
        }
        sync
    }

    pub(super) async fn failed(&self) -> io::Error {
        io::Error::other(self.failed.wait().await.clone())
    }
}
