//! The only thread that writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use muster_core::effect::Record;
use muster_core::ids::{AttemptId, JobId};
use muster_core::job::{Job, JobProgress, LiveJob};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

use super::attempts::{Ended, Made, Patch};
use super::{agents, attempts, channels, jobs, rollouts, safe_mode};
use crate::store::{CommitError, Revision, rows};

/// Batches that may wait for the thread. The driver has one or two on their way.
const WAITING: usize = 64;

const SET_REVISION: &str = "UPDATE meta SET rev = ?1";

#[cfg(test)]
pub(super) const STATEMENTS: [&str; 1] = [SET_REVISION];

mod crash;

struct Command {
    batch: Vec<Record>,
    done: oneshot::Sender<Result<Revision, CommitError>>,
}

#[derive(Debug)]
pub(super) struct Writer {
    /// `None` once the writer is being dropped.
    queue: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    revisions: watch::Receiver<Revision>,
}

impl Writer {
    pub(super) fn start(connection: Connection, newest: Revision) -> Self {
        let (queue, commands) = mpsc::channel(WAITING);
        let (committed, revisions) = watch::channel(newest);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || run(connection, newest, commands, &committed))
            .expect("the system has room for one more thread at the start");
        Self {
            queue: Some(queue),
            thread: Some(thread),
            revisions,
        }
    }

    pub(super) async fn commit(&self, batch: Vec<Record>) -> Result<Revision, CommitError> {
        let (done, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(CommitError::Stopped)?;
        queue
            .send(Command { batch, done })
            .await
            .map_err(|_| CommitError::Stopped)?;
        answer.await.unwrap_or(Err(CommitError::Stopped))
    }

    pub(super) fn revisions(&self) -> watch::Receiver<Revision> {
        self.revisions.clone()
    }
}

impl Drop for Writer {
    /// Waits until what was handed over is written.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("store thread panicked");
        }
    }
}

/// Takes everything that waits, commits it together, answers everybody. Ends with the last sender or with
/// the first failure: after one, nobody can say what the file has.
fn run(
    mut connection: Connection,
    mut newest: Revision,
    mut commands: mpsc::Receiver<Command>,
    committed: &watch::Sender<Revision>,
) {
    while let Some(first) = commands.blocking_recv() {
        let mut waiting = vec![first];
        waiting.extend(std::iter::from_fn(|| commands.try_recv().ok()).take(WAITING));
        match commit(&mut connection, newest, &waiting) {
            Ok(revisions) => {
                newest = revisions.last().copied().unwrap_or(newest);
                committed.send_replace(newest);
                for (Command { done, .. }, revision) in waiting.into_iter().zip(revisions) {
                    // Whoever asked may have gone; the commit stands.
                    let _ = done.send(Ok(revision));
                }
            }
            Err(error) => {
                let failed = CommitError::Failed {
                    source: Arc::new(error),
                };
                for Command { done, .. } in waiting {
                    let _ = done.send(Err(failed.clone()));
                }
                return;
            }
        }
    }
}

/// One transaction for all the commands, with a revision for each.
fn commit(
    connection: &mut Connection,
    newest: Revision,
    commands: &[Command],
) -> rusqlite::Result<Vec<Revision>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut revisions = Vec::with_capacity(commands.len());
    let mut last = newest;
    for command in commands {
        last = Revision(last.0 + 1);
        apply(&transaction, last, &command.batch)?;
        revisions.push(last);
    }
    transaction
        .prepare_cached(SET_REVISION)?
        .execute([rows::signed(last.0)])?;
    crash::before_commit(commands);
    transaction.commit()?;
    crash::after_commit(commands);
    Ok(revisions)
}

/// What one batch says, by row: each row is written once, however many records touch it.
#[derive(Default)]
struct Rows<'b> {
    submitted: Vec<&'b Arc<Job>>,
    progress: BTreeMap<JobId, &'b JobProgress>,
    attempts: BTreeMap<AttemptId, Patch<'b>>,
}

fn apply(connection: &Connection, rev: Revision, batch: &[Record]) -> rusqlite::Result<()> {
    let mut rows = Rows::default();
    for record in batch {
        match record {
            Record::JobSubmitted(_)
            | Record::JobProgress { .. }
            | Record::Task { .. }
            | Record::AttemptMade { .. }
            | Record::AttemptStarted { .. }
            | Record::AttemptEnded { .. }
            | Record::LateReport { .. } => rows.collect(record),
            Record::Agent(agent) => agents::upsert(connection, agent)?,
            Record::AgentLink {
                agent,
                link,
                last_contact,
            } => {
                agents::set_link(connection, agent, *link, *last_contact)?;
            }
            Record::AgentSchedulable { agent, schedulable } => {
                agents::set_schedulable(connection, agent, schedulable)?;
            }
            Record::Channel(channel) => channels::upsert(connection, channel)?,
            Record::Released { channel, release } => {
                channels::insert_release(connection, channel, release)?;
            }
            Record::Rollout(rollout) => rollouts::upsert(connection, rollout)?,
            Record::SafeMode(why) => safe_mode::set(connection, why.as_ref())?,
        }
    }
    rows.write(connection, rev)
}

impl<'b> Rows<'b> {
    fn collect(&mut self, record: &'b Record) {
        match record {
            Record::JobSubmitted(job) => self.submitted.push(job),
            Record::JobProgress { job, progress } => {
                self.progress.insert(*job, progress);
            }
            Record::Task { task, row } => {
                let id = AttemptId {
                    task: *task,
                    number: row.last,
                };
                self.patch(id).task = Some(row);
            }
            Record::AttemptMade {
                attempt,
                agent,
                image,
                at,
                because,
            } => {
                let made = Made {
                    agent,
                    image,
                    at: *at,
                    because: *because,
                };
                self.patch(*attempt).made = Some(made);
            }
            Record::AttemptStarted { attempt, at } => self.patch(*attempt).started = Some(*at),
            Record::AttemptEnded {
                attempt,
                started,
                at,
                end,
                usage,
            } => {
                let patch = self.patch(*attempt);
                patch.started = patch.started.or(*started);
                patch.ended = Some(Ended {
                    at: *at,
                    end,
                    usage: *usage,
                });
            }
            Record::LateReport { attempt, at, end } => {
                self.patch(*attempt).late = Some((*at, end));
            }
            Record::Agent(_)
            | Record::AgentLink { .. }
            | Record::AgentSchedulable { .. }
            | Record::Channel(_)
            | Record::Released { .. }
            | Record::Rollout(_)
            | Record::SafeMode(_) => {}
        }
    }

    fn patch(&mut self, attempt: AttemptId) -> &mut Patch<'b> {
        self.attempts.entry(attempt).or_default()
    }

    fn write(mut self, connection: &Connection, rev: Revision) -> rusqlite::Result<()> {
        for job in self.submitted {
            match self.progress.remove(&job.id) {
                Some(progress) => jobs::insert(connection, rev, job, progress)?,
                None => jobs::insert(connection, rev, job, &at_submission(job))?,
            }
        }
        for (job, progress) in self.progress {
            jobs::update(connection, rev, job, progress)?;
        }
        attempts::apply(connection, rev, self.attempts)
    }
}

/// How every job begins.
fn at_submission(job: &Arc<Job>) -> JobProgress {
    LiveJob::new(job.clone(), 0).progress
}
