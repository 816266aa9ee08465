//! Who waits for more of which log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_core::ids::AttemptId;
use tokio::sync::watch;

use super::ReadError;

/// Clients that may follow logs at a time.
const MOST: usize = 4_096;

/// A watch for each log that somebody follows, and for no other.
#[derive(Debug, Clone, Default)]
pub(super) struct Followers(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    logs: BTreeMap<AttemptId, watch::Sender<()>>,
    count: usize,
}

/// One client that follows a log.
#[derive(Debug)]
pub(super) struct Follower {
    attempt: AttemptId,
    news: watch::Receiver<()>,
    followers: Followers,
}

impl Followers {
    pub(super) fn follow(&self, attempt: AttemptId) -> Result<Follower, ReadError> {
        let mut table = self.lock();
        if table.count >= MOST {
            return Err(ReadError::TooManyFollowers { most: MOST });
        }
        table.count += 1;
        let log = table
            .logs
            .entry(attempt)
            .or_insert_with(|| watch::channel(()).0);
        let news = log.subscribe();
        Ok(Follower {
            attempt,
            news,
            followers: self.clone(),
        })
    }

    pub(super) fn wake(&self, attempt: AttemptId) {
        if let Some(log) = self.lock().logs.get(&attempt) {
            log.send_replace(());
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().logs.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    /// What comes from now on is news. Called before the log is read, so that nothing falls between.
    pub(super) fn look(&mut self) {
        self.news.mark_unchanged();
    }

    /// Waits until the log changed after the last `look`.
    pub(super) async fn changed(&mut self) {
        let changed = self.news.changed().await;
        changed.expect("the sender stays while somebody follows");
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut table = self.followers.lock();
        table.count -= 1;
        // The last one is this one, whose receiver is still there.
        if table
            .logs
            .get(&self.attempt)
            .is_some_and(|log| log.receiver_count() == 1)
        {
            table.logs.remove(&self.attempt);
        }
    }
}
