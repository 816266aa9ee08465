//! The store: what must survive, and the questions about it.
//!
//! The fleet decides in memory and the store keeps the truth. The driver hands over a batch of records,
//! [`Store::commit`] makes them durable together, and only then does anybody hear of them. The store is
//! never polled for work: it is read at the start ([`Store::load`]) and for clients' questions.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use muster_core::agent::Agent;
use muster_core::channel::{Channel, ChannelId, Release};
use muster_core::effect::{Because, Record};
use muster_core::event::{Prior, Restored};
use muster_core::ids::{AgentId, AttemptNo, JobId, TaskId, TeamName, Term};
use muster_core::image::{Digest, DigestPrefix, Image};
use muster_core::job::{Job, JobProgress};
use muster_core::outcome::{End, Outcome, Usage};
use muster_core::rollout::Rollout;
use muster_core::task::{RowState, TaskRow};
use muster_core::time::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

mod rows;
mod sqlite;

pub(crate) use sqlite::open;

pub use sqlite::{
    BackupError, Backups, BadCopy, Copy, OpenError, RestoreDone, RestoreError, SqliteStore,
    backup_offline, finish_backup, restore, unfinished,
};

/// A database that holds records. One process uses it at a time.
pub trait Store: Send + Sync + 'static {
    /// Which cluster this is, and the leadership that began when the store was opened.
    fn identity(&self) -> Identity;

    /// Makes all the records durable, or none. Every job and task they touch gets the revision that
    /// is returned. The commit goes on if the future is dropped.
    ///
    /// # Errors
    /// Each one is fatal: whether the records are stored is then unknown, and every later commit is
    /// refused. The process has to end and start from what the store has.
    fn commit(
        &self,
        batch: Vec<Record>,
    ) -> impl Future<Output = Result<Revision, CommitError>> + Send;

    /// Channels, rollouts that are under way, attempts that gates remember, agents, and live jobs in order of submission, each with its tasks that were assigned
    /// and have not ended.
    fn load(&self) -> impl Future<Output = Result<Vec<Restored>, ReadError>> + Send;

    /// The revision of the newest commit, as it changes. Later questions see at least that much.
    fn revisions(&self) -> watch::Receiver<Revision>;

    /// What was submitted under an idempotency key. Sees everything that is committed.
    ///
    /// Ask right before the submission is handed to the fleet: the fleet knows the keys of live jobs
    /// only, so a job must not begin and end between the answer and its use.
    fn find_key(
        &self,
        team: &TeamName,
        key: &str,
    ) -> impl Future<Output = Result<Option<Prior>, ReadError>> + Send;

    /// The job of the team whose id is `text`, or ends with it (eight characters or more).
    fn resolve_job(
        &self,
        team: &TeamName,
        text: &str,
    ) -> impl Future<Output = Result<Resolved, ReadError>> + Send;

    fn job(&self, id: JobId) -> impl Future<Output = Result<Option<JobRow>, ReadError>> + Send;

    /// Newest first. The next page begins after `next`.
    fn list_jobs(
        &self,
        query: JobQuery,
    ) -> impl Future<Output = Result<Page<JobRow, JobId>, ReadError>> + Send;

    /// Digests of that beginning that attempts were made on: the smallest two, which tell whether there is one.
    fn find_digests(
        &self,
        prefix: DigestPrefix,
    ) -> impl Future<Output = Result<Vec<Digest>, ReadError>> + Send;

    /// A task that was ever assigned; of others only the job knows.
    fn task(&self, id: TaskId)
    -> impl Future<Output = Result<Option<TaskEntry>, ReadError>> + Send;

    /// Tasks that were ever assigned, in order of index. The next page begins after `next`.
    fn list_tasks(
        &self,
        query: TaskQuery,
    ) -> impl Future<Output = Result<Page<TaskEntry, u32>, ReadError>> + Send;

    /// Oldest first.
    fn list_attempts(
        &self,
        task: TaskId,
    ) -> impl Future<Output = Result<Vec<AttemptRow>, ReadError>> + Send;

    /// What changed after a revision, in order of revision.
    fn changes(
        &self,
        query: ChangeQuery,
    ) -> impl Future<Output = Result<Changes, ReadError>> + Send;

    fn channel(
        &self,
        id: ChannelId,
    ) -> impl Future<Output = Result<Option<Channel>, ReadError>> + Send;

    /// In order of team and name; `None`: of all teams.
    fn list_channels(
        &self,
        team: Option<TeamName>,
    ) -> impl Future<Output = Result<Vec<Channel>, ReadError>> + Send;

    /// Releases of a channel, newest first.
    fn history(
        &self,
        channel: ChannelId,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Release>, ReadError>> + Send;

    fn release(
        &self,
        channel: ChannelId,
        number: u64,
    ) -> impl Future<Output = Result<Option<Release>, ReadError>> + Send;

    /// The rollout of a channel that leads to that release.
    fn rollout(
        &self,
        channel: ChannelId,
        release: u64,
    ) -> impl Future<Output = Result<Option<Rollout>, ReadError>> + Send;

    /// Rollouts of a channel, newest first.
    fn list_rollouts(
        &self,
        channel: ChannelId,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Rollout>, ReadError>> + Send;

    /// Agents in order of name, as they were last recorded. What is live on them is for the fleet
    /// to say: `live` and `reserved` are empty.
    fn list_agents(&self) -> impl Future<Output = Result<Vec<Agent>, ReadError>> + Send;

    /// Looks for damage, and for rows that contradict each other. Reads only, and may take a while.
    fn check(&self) -> impl Future<Output = Result<Vec<StoreProblem>, ReadError>> + Send;
}

/// What is wrong with a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreProblem {
    /// Which rule: a stable word. `unfinished`: there was no time to look at everything.
    pub word: &'static str,
    pub what: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Made at random when the store was made.
    pub cluster: Uuid,
    /// Rises by one each time the store is opened.
    pub term: Term,
}

/// One commit. Grows by one with each, over restarts too; 0 is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

/// Why records could not be stored. The process has to end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    #[error("the store could not write")]
    Failed {
        source: Arc<dyn Error + Send + Sync>,
    },
    #[error("the store stopped after an earlier commit failed")]
    Stopped,
}

/// Why a question could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the store could not be read")]
    Engine {
        source: Box<dyn Error + Send + Sync>,
    },
    /// Whoever asks finds the answer at the next coordinator.
    #[error("the coordinator is stopping")]
    Stopping,
    /// A row that this version could not have written.
    #[error("the store has {value:?} where {what} belongs")]
    Corrupt { what: &'static str, value: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    One(JobId),
    None,
    /// Oldest first; there may be more than the 20 that are given.
    Ambiguous(Vec<JobId>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    pub job: Arc<Job>,
    pub progress: JobProgress,
    pub rev: Revision,
}

impl JobRow {
    #[must_use]
    pub const fn state(&self) -> JobState {
        match (self.progress.ended, self.progress.started) {
            (Some(_), _) => JobState::Ended,
            (None, Some(_)) => JobState::Running,
            (None, None) => JobState::Pending,
        }
    }

    /// The worst end among its tasks, once the job has ended.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.progress
            .ended
            .and_then(|_| self.progress.counts.worst())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobState {
    /// No task has started yet.
    Pending,
    Running,
    Ended,
}

/// Which jobs to list. A default query, with a limit, lists all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobQuery {
    /// `None`: of all teams.
    pub team: Option<TeamName>,
    /// Any of these; empty: all.
    pub states: Vec<JobState>,
    /// Jobs that ended so; empty: all.
    pub outcomes: Vec<Outcome>,
    /// All of these.
    pub labels: BTreeMap<String, String>,
    pub name: Option<String>,
    /// Jobs that have an attempt on this image.
    pub digest: Option<Digest>,
    /// Only jobs before this one, which is `next` of the page before.
    pub before: Option<JobId>,
    /// Rows of a page; at least 1.
    pub limit: u32,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, C> {
    pub rows: Vec<T>,
    /// Where the next page begins; `None`: this is the last one.
    pub next: Option<C>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskEntry {
    pub id: TaskId,
    pub row: TaskRow,
    pub rev: Revision,
}

/// A task's state without its data, to filter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskStateWord {
    Pending,
    Assigned,
    Preparing,
    Running,
    Ended,
}

impl TaskStateWord {
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Assigned,
        Self::Preparing,
        Self::Running,
        Self::Ended,
    ];

    #[must_use]
    pub const fn of(state: &RowState) -> Self {
        match state {
            RowState::Pending { .. } => Self::Pending,
            RowState::Assigned => Self::Assigned,
            RowState::Preparing => Self::Preparing,
            RowState::Running => Self::Running,
            RowState::Ended { .. } => Self::Ended,
        }
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Ended => "ended",
        }
    }
}

/// Which tasks of a job to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskQuery {
    pub job: JobId,
    /// Any of these; empty: all.
    pub states: Vec<TaskStateWord>,
    /// Tasks that ended so; empty: all.
    pub outcomes: Vec<Outcome>,
    /// Only larger indexes than this one, which is `next` of the page before.
    pub after: Option<u32>,
    /// Rows of a page; at least 1.
    pub limit: u32,
}

/// An attempt and everything that is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    pub number: AttemptNo,
    pub agent: AgentId,
    pub image: Image,
    pub release: Option<u64>,
    pub because: Because,
    pub assigned: Timestamp,
    pub started: Option<Timestamp>,
    /// `None`: it has not ended.
    pub ended: Option<AttemptEnded>,
    /// A report that came after the attempt was superseded; kept as evidence.
    pub late_report: Option<LateReport>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEnded {
    pub at: Timestamp,
    pub end: End,
    pub usage: Usage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateReport {
    pub at: Timestamp,
    pub end: End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeQuery {
    pub jobs: Vec<JobId>,
    pub after: Revision,
    /// Also the tasks, not only the jobs.
    pub tasks: bool,
    /// Changes to return; more if a single revision has more, because revisions are never split.
    pub limit: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// In order of revision; within one, tasks before their job. A row that changed several times is
    /// there once, with its newest revision.
    pub rows: Vec<Change>,
    /// Go on after this revision: nothing up to it is missing.
    pub through: Revision,
    /// There were commits after `through` already: ask again at once.
    pub more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Task(TaskEntry),
    Job(JobRow),
}

impl Change {
    #[must_use]
    pub const fn rev(&self) -> Revision {
        match self {
            Self::Task(entry) => entry.rev,
            Self::Job(row) => row.rev,
        }
    }
}

#[cfg(test)]
mod conformance;
