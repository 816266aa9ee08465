//! Small complete logs: rows of a database instead of files.
//!
//! Most tasks print little. A file, its sync and its directory's sync cost such a log far more than its bytes;
//! one transaction makes all durable that wait while the one before is written.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use muster_core::ids::AttemptId;
use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use super::sync::Syncs;
use crate::store::open;

/// Longer logs stay files.
pub(super) const SMALL: usize = 64 << 10;
const FILE: &str = "small.db";
/// Logs that may wait for the thread; 16 MiB at most. Whoever brings more waits.
const WAITING: usize = 256;

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS log (job BLOB NOT NULL, idx INTEGER NOT NULL, \
    number INTEGER NOT NULL, frames BLOB NOT NULL, PRIMARY KEY (job, idx, number)) STRICT, WITHOUT ROWID";
/// A complete log never changes: what comes again is the same.
const INSERT: &str =
    "INSERT INTO log (job, idx, number, frames) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
const LENGTH: &str = "SELECT length(frames) FROM log WHERE job = ?1 AND idx = ?2 AND number = ?3";
const FRAMES: &str = "SELECT frames FROM log WHERE job = ?1 AND idx = ?2 AND number = ?3";

struct Put {
    attempt: AttemptId,
    frames: Bytes,
    done: oneshot::Sender<io::Result<()>>,
}

/// Dropping it waits until what was handed over is written.
#[derive(Debug)]
pub(super) struct SmallLogs {
    /// `None` once it is being dropped.
    queue: Option<mpsc::Sender<Put>>,
    thread: Option<JoinHandle<()>>,
    reader: Mutex<Connection>,
}

impl SmallLogs {
    /// Blocks.
    pub(super) fn open(directory: &Path, syncs: Arc<Syncs>) -> io::Result<Self> {
        let path = directory.join(FILE);
        let connection = open::writing(&path).map_err(io::Error::other)?;
        connection.execute_batch(SCHEMA).map_err(io::Error::other)?;
        let reader = open::reading(&path).map_err(io::Error::other)?;
        let (queue, puts) = mpsc::channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("logs".to_owned())
            .spawn(move || write(connection, puts, &syncs))?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            reader: Mutex::new(reader),
        })
    }

    /// Keeps a complete log. On disk when this returns.
    pub(super) async fn put(&self, attempt: AttemptId, frames: Bytes) -> io::Result<()> {
        let gone = || io::Error::other("the thread that writes small logs is gone");
        let (done, answer) = oneshot::channel();
        let put = Put {
            attempt,
            frames,
            done,
        };
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.send(put).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// The length of a log that is here, in bytes. A look into an index: short enough for any thread.
    pub(super) fn length(&self, attempt: AttemptId) -> io::Result<Option<u64>> {
        let length: Option<i64> = self.ask(LENGTH, attempt)?;
        Ok(length.map(|length| u64::try_from(length).expect("no length is negative")))
    }

    pub(super) fn frames(&self, attempt: AttemptId) -> io::Result<Option<Vec<u8>>> {
        self.ask(FRAMES, attempt)
    }

    fn ask<T: rusqlite::types::FromSql>(
        &self,
        question: &str,
        attempt: AttemptId,
    ) -> io::Result<Option<T>> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement = reader.prepare_cached(question).map_err(io::Error::other)?;
        let AttemptId { task, number } = attempt;
        let found =
            statement.query_row(params![task.job.0, task.index, number.0], |row| row.get(0));
        found.optional().map_err(io::Error::other)
    }
}

impl Drop for SmallLogs {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("thread of the small logs panicked");
        }
    }
}

/// Takes everything that waits, commits it together, answers everybody.
fn write(mut connection: Connection, mut puts: mpsc::Receiver<Put>, syncs: &Syncs) {
    while let Some(first) = puts.blocking_recv() {
        let mut waiting = vec![first];
        waiting.extend(std::iter::from_fn(|| puts.try_recv().ok()).take(WAITING));
        let result = syncs.check().and_then(|()| {
            match commit(&mut connection, &waiting) {
                // It says so also of a sync.
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) => {
                    syncs.ended(Err(io::Error::other(error)))
                }
                result => result.map_err(io::Error::other),
            }
        });
        let result = result.map_err(Arc::new);
        for Put { done, .. } in waiting {
            let result = result.clone().map_err(io::Error::other);
            // Whoever asked may have gone; the commit stands.
            let _ = done.send(result);
        }
    }
}

fn commit(connection: &mut Connection, puts: &[Put]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut insert = transaction.prepare_cached(INSERT)?;
    for Put {
        attempt: AttemptId { task, number },
        frames,
        done: _,
    } in puts
    {
        insert.execute(params![task.job.0, task.index, number.0, &frames[..]])?;
    }
    drop(insert);
    transaction.commit()
}
