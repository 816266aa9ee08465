//! The store on SQLite: one file, one thread that writes, a few connections that read.
//!
//! A commit is one transaction with one fsync (`synchronous=FULL`), and what waits while it runs shares
//! the next one: the time of an fsync is the batching window. More writers would only be slower.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use muster_core::agent::Agent;
use muster_core::channel::{Channel, ChannelId, Release};
use muster_core::effect::Record;
use muster_core::event::{Prior, Restored};
use muster_core::ids::{JobId, TaskId, TeamName};
use muster_core::image::{Digest, DigestPrefix};
use muster_core::rollout::Rollout;
use rusqlite::Connection;
use tokio::sync::watch;

use super::{
    AttemptRow, ChangeQuery, Changes, CommitError, Identity, JobQuery, JobRow, Page, ReadError,
    Resolved, Revision, Store, StoreProblem, TaskEntry, TaskQuery,
};

mod lock;
pub(crate) mod open;
mod readers;
mod writer;

mod agents;
mod attempts;
mod backup;
mod changes;
mod channels;
mod check;
mod columns;
mod digests;
mod jobs;
mod rollouts;
mod safe_mode;

pub use backup::{
    BackupError, Backups, BadCopy, Copy, RestoreDone, RestoreError, backup_offline, finish_backup,
    restore, unfinished,
};
pub use open::OpenError;

use lock::Lock;
use readers::Readers;
use writer::Writer;

/// The database's file in the data directory.
const FILE: &str = "muster.db";

/// The default store. Cheap to clone; the last one dropped waits for the writer and frees the lock.
#[derive(Debug, Clone)]
pub struct SqliteStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    identity: Identity,
    // In the order in which they are dropped: the lock is held until nobody writes any more.
    writer: Writer,
    readers: Readers,
    keys: Mutex<Connection>,
    backups: Backups,
    _lock: Lock,
}

impl SqliteStore {
    /// Opens the store in a directory, which is made if it isn't there, and begins a new term.
    /// Blocks; to be called before anything else runs.
    ///
    /// # Errors
    /// If another process has it open, if a newer muster wrote it, or if the disk refuses.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let lock = Lock::take(directory)?;
        let half_restored = directory.join(backup::REPLACING);
        if half_restored.exists() {
            let path = directory.join(FILE);
            return Err(OpenError::HalfRestored { path });
        }
        let path = directory.join(FILE);
        let mut connection = open::writing(&path)?;
        open::migrate(&mut connection)?;
        let (identity, newest) = open::begin_term(&mut connection)?;
        let keys = open::reading(&path)?;
        let readers = Readers::open(&path)?;
        let writer = Writer::start(connection, newest);
        Ok(Self(Arc::new(Inner {
            identity,
            writer,
            readers,
            keys: Mutex::new(keys),
            backups: Backups::new(directory),
            _lock: lock,
        })))
    }

    /// What makes copies of it.
    #[must_use]
    pub fn backups(&self) -> Backups {
        self.0.backups.clone()
    }

    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        self.0.readers.read(question).await
    }
}

impl Store for SqliteStore {
    fn identity(&self) -> Identity {
        self.0.identity
    }

    async fn commit(&self, batch: Vec<Record>) -> Result<Revision, CommitError> {
        self.0.writer.commit(batch).await
    }

    async fn load(&self) -> Result<Vec<Restored>, ReadError> {
        self.read(load).await
    }

    fn revisions(&self) -> watch::Receiver<Revision> {
        self.0.writer.revisions()
    }

    /// Answers on the calling thread: one look into an index, mostly in memory, is shorter than the way
    /// to another thread and back, and the driver asks for every job with a key.
    async fn find_key(&self, team: &TeamName, key: &str) -> Result<Option<Prior>, ReadError> {
        let keys = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        jobs::find_key(&keys, team, key)
    }

    async fn resolve_job(&self, team: &TeamName, text: &str) -> Result<Resolved, ReadError> {
        let (team, text) = (team.clone(), text.to_owned());
        self.read(move |connection| jobs::resolve(connection, &team, &text))
            .await
    }

    async fn job(&self, id: JobId) -> Result<Option<JobRow>, ReadError> {
        self.read(move |connection| jobs::by_id(connection, id))
            .await
    }

    async fn list_jobs(&self, query: JobQuery) -> Result<Page<JobRow, JobId>, ReadError> {
        self.read(move |connection| jobs::list(connection, &query))
            .await
    }

    async fn find_digests(&self, prefix: DigestPrefix) -> Result<Vec<Digest>, ReadError> {
        self.read(move |connection| digests::find(connection, prefix))
            .await
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskEntry>, ReadError> {
        self.read(move |connection| attempts::task(connection, id))
            .await
    }

    async fn list_tasks(&self, query: TaskQuery) -> Result<Page<TaskEntry, u32>, ReadError> {
        self.read(move |connection| attempts::list_tasks(connection, &query))
            .await
    }

    async fn list_attempts(&self, task: TaskId) -> Result<Vec<AttemptRow>, ReadError> {
        self.read(move |connection| attempts::list_attempts(connection, task))
            .await
    }

    async fn changes(&self, query: ChangeQuery) -> Result<Changes, ReadError> {
        self.read(move |connection| changes::changes(connection, &query))
            .await
    }

    async fn channel(&self, id: ChannelId) -> Result<Option<Channel>, ReadError> {
        self.read(move |connection| channels::by_id(connection, &id))
            .await
    }

    async fn list_channels(&self, team: Option<TeamName>) -> Result<Vec<Channel>, ReadError> {
        self.read(move |connection| channels::list(connection, team.as_ref()))
            .await
    }

    async fn history(&self, channel: ChannelId, limit: u32) -> Result<Vec<Release>, ReadError> {
        self.read(move |connection| channels::history(connection, &channel, limit))
            .await
    }

    async fn release(&self, channel: ChannelId, number: u64) -> Result<Option<Release>, ReadError> {
        self.read(move |connection| channels::release(connection, &channel, number))
            .await
    }

    async fn rollout(
        &self,
        channel: ChannelId,
        release: u64,
    ) -> Result<Option<Rollout>, ReadError> {
        self.read(move |connection| rollouts::one(connection, &channel, release))
            .await
    }

    async fn list_rollouts(
        &self,
        channel: ChannelId,
        limit: u32,
    ) -> Result<Vec<Rollout>, ReadError> {
        self.read(move |connection| rollouts::list(connection, &channel, limit))
            .await
    }

    async fn list_agents(&self) -> Result<Vec<Agent>, ReadError> {
        self.read(|connection| agents::list(connection)).await
    }

    async fn check(&self) -> Result<Vec<StoreProblem>, ReadError> {
        let ours = self.0.identity;
        self.read(move |connection| check::check(connection, ours))
            .await
    }
}

fn load(connection: &mut Connection) -> Result<Vec<Restored>, ReadError> {
    let snapshot = connection.transaction()?;
    let channels = channels::list(&snapshot, None)?;
    let channels = channels.into_iter().map(Box::new);
    let mut all: Vec<_> = channels.map(Restored::Channel).collect();
    let under_way = rollouts::active(&snapshot)?.into_iter().map(Box::new);
    all.extend(under_way.map(Restored::Rollout));
    all.extend(rollouts::ran(&snapshot)?);
    all.extend(agents::list(&snapshot)?.into_iter().map(Restored::Agent));
    for JobRow {
        job,
        progress,
        rev: _,
    } in jobs::live(&snapshot)?
    {
        let tasks = attempts::live(&snapshot, job.id)?;
        all.push(Restored::Job {
            job,
            progress,
            tasks,
        });
    }
    let fences = safe_mode::fences(&snapshot)?.into_iter();
    all.extend(fences.map(|(job, number)| Restored::Fence { job, number }));
    all.extend(safe_mode::read(&snapshot)?.map(Restored::SafeMode));
    Ok(all)
}

/// A record about something that has no row means that the fleet and the store disagree.
fn exactly_one(rows: usize) -> rusqlite::Result<()> {
    match rows {
        1 => Ok(()),
        other => Err(rusqlite::Error::StatementChangedRows(other)),
    }
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine {
            source: Box::new(error),
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod torn;
#[cfg(test)]
mod upgrade;
