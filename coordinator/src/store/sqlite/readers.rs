//! A few connections for questions, so that a slow one holds up neither commits nor the rest.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio::task::JoinError;

use super::{OpenError, open};
use crate::store::ReadError;

/// Questions at a time; more wait.
const CONNECTIONS: usize = 4;

#[derive(Debug)]
pub(super) struct Readers {
    /// As many permits as `idle` has connections.
    turns: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let connections: Result<Vec<_>, _> =
            (0..CONNECTIONS).map(|_| open::reading(path)).collect();
        Ok(Self {
            turns: Arc::new(Semaphore::new(CONNECTIONS)),
            idle: Arc::new(Mutex::new(connections?)),
        })
    }

    /// Runs `question` on a thread where it may block. It runs to its end even if nobody waits for
    /// the answer any more.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let turns = self.turns.clone();
        let turn = turns
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let idle = self.idle.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
            let mut connection = lock().pop().expect("a permit stands for a connection");
            let answer = question(&mut connection);
            lock().push(connection);
            // After the connection is back.
            drop(turn);
            answer
        });
        answer.await.map_err(unanswered)?
    }
}

/// Why a question came to no answer of its own: its thread panicked, or there are no threads any more.
fn unanswered(error: JoinError) -> ReadError {
    if error.is_cancelled() {
        return ReadError::Stopping;
    }
    ReadError::Engine {
        source: Box::new(error),
    }
}
