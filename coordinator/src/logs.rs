//! The log store: the output of every attempt, in a local directory.
//!
//! `JOB/INDEX-NUMBER.part` grows by what the agent ships. Once its length and checksum are right it becomes
//! a row in `small.db` if it is small, else `JOB/INDEX-NUMBER.log`, and is never touched again. What comes
//! whole and is small never becomes a file. A log consists of frames (`docs/logs.md`).
//!
//! Logs are synced when they are complete, and at most every second while they grow: a crash of the machine
//! (not of the process) can take back what was appended last, and the agent goes on from there or, if it
//! does not have that any more, from the start. A sync that fails ends the process.

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
use muster_failpoint::{self as failpoint, Point};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

mod following;
mod reading;
mod small;
mod sync;
mod writing;

use following::Followers;
use small::{SMALL, SmallLogs};
use sync::Syncs;
use writing::OpenLogs;

/// Requests that may touch the disk at a time; more wait.
const AT_A_TIME: usize = 16;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    small: SmallLogs,
    open: OpenLogs,
    followers: Followers,
    turns: Arc<Semaphore>,
    syncs: Arc<Syncs>,
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
    /// The next coordinator takes it.
    #[error("the coordinator is stopping")]
    Stopping,
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
    /// Whoever asks finds it at the next coordinator.
    #[error("the coordinator is stopping")]
    Stopping,
}

/// Why work on the disk came to nothing.
#[derive(Debug)]
enum Undone {
    Disk(io::Error),
    /// There are no threads any more.
    Stopping,
}

impl Undone {
    fn of_read(self, attempt: AttemptId) -> ReadError {
        match self {
            Self::Disk(source) => ReadError::Disk { attempt, source },
            Self::Stopping => ReadError::Stopping,
        }
    }

    fn of_write(self, attempt: AttemptId) -> WriteError {
        match self {
            Self::Disk(source) => WriteError::Disk { attempt, source },
            Self::Stopping => WriteError::Stopping,
        }
    }
}

impl LogStore {
    /// Uses a directory of its own, which is made if it isn't there. Blocks.
    ///
    /// # Errors
    /// If the directory or its database can't be made.
    pub fn open(directory: &Path) -> io::Result<Self> {
        make_directory(directory)?;
        let syncs = Arc::new(Syncs::default());
        Ok(Self(Arc::new(Inner {
            directory: directory.to_owned(),
            small: SmallLogs::open(directory, Arc::clone(&syncs))?,
            open: OpenLogs::new(Arc::clone(&syncs)),
            followers: Followers::default(),
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
            syncs,
        })))
    }

    /// Waits until something could not be synced to disk, and tells why. From then on nothing is kept: the
    /// process has to end. The agents still have what the next one doesn't find.
    pub async fn failed(&self) -> io::Error {
        self.0.syncs.failed().await
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

    /// Keeps a log that came whole, if it is small and its CRC-32 (IEEE) is `crc32`; `None`: it is not.
    ///
    /// # Errors
    /// If the disk refuses; then nothing of it is kept.
    pub async fn keep_whole(
        &self,
        attempt: AttemptId,
        crc32: u32,
        data: Bytes,
    ) -> Result<Option<Stored>, WriteError> {
        if data.len() > SMALL || crc32fast::hash(&data) != crc32 {
            return Ok(None);
        }
        let stored = Stored {
            length: u64::try_from(data.len()).expect("a length in memory fits 64 bits"),
            complete: true,
        };
        failpoint::hit(Point::LogBeforeFinal);
        let kept = self.0.small.put(attempt, data).await;
        kept.map_err(|source| WriteError::Disk { attempt, source })?;
        failpoint::hit(Point::LogFinal);
        self.0.followers.wake(attempt);
        Ok(Some(stored))
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
        let stored = self.blocking(move |inner| inner.stored(attempt)).await;
        stored.map_err(|undone| undone.of_read(attempt))
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
        changed.map_err(|undone| undone.of_write(attempt))
    }

    /// Runs `work` where it may block. It runs to its end even if nobody waits for it any more.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Undone> {
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
        match done.await {
            Ok(result) => result.map_err(Undone::Disk),
            Err(error) if error.is_cancelled() => Err(Undone::Stopping),
            Err(panicked) => Err(Undone::Disk(io::Error::other(panicked))),
        }
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
    fn stored(&self, attempt: AttemptId) -> io::Result<Stored> {
        // The other way round it could become a row between the two looks.
        let file = self.paths(attempt).stored()?;
        Ok(match self.small.length(attempt)? {
            Some(length) => Stored {
                length,
                complete: true,
            },
            None => file,
        })
    }

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
