//! The log store: the output of every attempt, in one file each, on a local directory.
//!
//! `JOB/INDEX-NUMBER.part` grows by what the agent ships and becomes `JOB/INDEX-NUMBER.log` once its length
//! and checksum are right, and is never touched again. A file holds frames (`docs/logs.md`).
//!
//! Files are synced when they are complete, and at most every second while they grow: a crash of the machine
//! (not of the process) can take back what was appended last, and the agent goes on from there or, if it
//! does not have that any more, from the start.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use muster_core::ids::AttemptId;
use muster_core::logframe::{BadFrame, LogStream};
use muster_core::time::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

mod following;
mod reading;
mod writing;

use following::Followers;
use writing::OpenLogs;

/// Requests that may touch the disk at a time; more wait.
const AT_A_TIME: usize = 16;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    open: OpenLogs,
    followers: Followers,
    turns: Arc<Semaphore>,
}

/// How much of a log is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    /// Bytes; the next chunk begins here.
    pub length: u64,
    /// The log is whole: nothing is missing and nothing will follow.
    pub complete: bool,
}

/// Which part of a log to read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Wait for more at the end, until the log is complete.
    pub follow: bool,
    /// Only the last so many lines of what there is now.
    pub tail: Option<u64>,
    /// Only entries from then on.
    pub since: Option<Timestamp>,
    /// Only these streams; empty: all. What muster notes about missing output always comes.
    pub streams: Vec<LogStream>,
    /// Ends a wait for more, e.g. because the attempt has ended and its agent is lost. What is there by
    /// then is still read.
    pub stop: CancellationToken,
}

/// Entries in order, at most 256 KiB of log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogPage {
    pub entries: Vec<Entry>,
    /// On the last page of a log that is whole.
    pub complete: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub stream: LogStream,
    /// Microseconds since the Unix epoch, UTC.
    pub at_micros: u64,
    /// A line with its end, or a part of a line.
    pub data: Bytes,
}

/// Why a piece of a log could not be kept. The agent still has it.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("the log of {attempt} could not be written")]
    Disk {
        attempt: AttemptId,
        source: io::Error,
    },
}

/// Why a log could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the log of {attempt} could not be read")]
    Disk {
        attempt: AttemptId,
        source: io::Error,
    },
    #[error("the log of {attempt} is damaged at byte {position}")]
    Damaged {
        attempt: AttemptId,
        position: u64,
        source: BadFrame,
    },
    #[error("{most} clients follow logs already")]
    TooManyFollowers { most: usize },
}

impl LogStore {
    /// Uses a directory of its own, which is made if it isn't there. Blocks.
    ///
    /// # Errors
    /// If the directory can't be made.
    pub fn open(directory: &Path) -> io::Result<Self> {
        make_directory(directory)?;
        Ok(Self(Arc::new(Inner {
            directory: directory.to_owned(),
            open: OpenLogs::default(),
            followers: Followers::default(),
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
        })))
    }

    /// Adds `data` if it begins where the log ends, and returns how much of the log is here. A chunk with
    /// another offset, also an empty one, changes nothing: the agent learns where to go on.
    ///
    /// # Errors
    /// If the disk refuses; then nothing of `data` is kept.
    pub async fn append(
        &self,
        attempt: AttemptId,
        offset: u64,
        data: Bytes,
    ) -> Result<Stored, WriteError> {
        self.write(attempt, move |inner| inner.append(attempt, offset, &data))
            .await
    }

    /// Completes a log of `length` bytes whose CRC-32 (IEEE) is `crc32`. If the checksum of what is here is
    /// another one, all of it is forgotten, and the agent starts again from the length that is returned.
    ///
    /// # Errors
    /// If the disk refuses.
    pub async fn finish(
        &self,
        attempt: AttemptId,
        crc32: u32,
        length: u64,
    ) -> Result<Stored, WriteError> {
        self.write(attempt, move |inner| inner.finish(attempt, crc32, length))
            .await
    }

    /// How much of a log is here; nothing at all is an incomplete log of length 0.
    ///
    /// # Errors
    /// If the disk refuses.
    pub async fn stored(&self, attempt: AttemptId) -> Result<Stored, ReadError> {
        let stored = self
            .blocking(move |inner| inner.paths(attempt).stored())
            .await;
        stored.map_err(|source| ReadError::Disk { attempt, source })
    }

    /// The entries of a log, page by page. The stream ends at the end of the log or, following it, once
    /// it is complete; only a page with `complete` says that nothing is missing.
    ///
    /// A log that is forgotten and shipped again while somebody reads it does not begin again for them.
    pub fn entries(
        &self,
        attempt: AttemptId,
        options: ReadOptions,
    ) -> impl Stream<Item = Result<LogPage, ReadError>> + Send + use<> {
        reading::pages(self.clone(), attempt, options)
    }

    async fn write<F>(&self, attempt: AttemptId, change: F) -> Result<Stored, WriteError>
    where
        F: FnOnce(&Inner) -> io::Result<Stored> + Send + 'static,
    {
        let changed = self.blocking(change).await;
        self.0.followers.wake(attempt);
        changed.map_err(|source| WriteError::Disk { attempt, source })
    }

    /// Runs `work` where it may block. It runs to its end even if nobody waits for it any more.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let turns = self.0.turns.clone();
        let turn = turns
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let inner = self.0.clone();
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&inner);
            drop(turn);
            result
        });
        done.await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

/// Where a log is. Every part of a path is made of a typed id.
#[derive(Debug, Clone)]
struct Paths {
    directory: PathBuf,
    part: PathBuf,
    complete: PathBuf,
}

impl Inner {
    fn paths(&self, attempt: AttemptId) -> Paths {
        let AttemptId { task, number } = attempt;
        let directory = self.directory.join(task.job.to_string());
        let file = |ending: &str| directory.join(format!("{}-{number}.{ending}", task.index));
        Paths {
            part: file("part"),
            complete: file("log"),
            directory,
        }
    }
}

impl Paths {
    fn stored(&self) -> io::Result<Stored> {
        for (path, complete) in [
            (&self.complete, true),
            (&self.part, false),
            (&self.complete, true),
        ] {
            match std::fs::metadata(path) {
                Ok(metadata) => {
                    return Ok(Stored {
                        length: metadata.len(),
                        complete,
                    });
                }
                // It may become complete between the first two looks.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Stored::default())
    }
}

/// Nobody but its owner may look into it: output may hold anything.
fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests;
