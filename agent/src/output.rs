//! Reads a container's output into the attempt's spool, from its start until after its end. Never holds the
//! task up.
//!
//! What the container's init process wrote down is read by `captured`. A container with the engine's init
//! process has only the engine's log, which is what this file reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use muster_core::ids::AttemptId;
use tokio_util::sync::CancellationToken;

use crate::runtime::{EngineError, LogsFrom, Output, Runtime};

pub(crate) mod captured;
pub(crate) mod spool;

use spool::{LogFile, Spool};

/// After the end, how long following may still bring something.
const DRAIN: Duration = Duration::from_secs(2);
/// For reading the log once more after the end.
const REREAD: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(500);
const REREADS: u32 = 3;
/// Pieces written to the spool at once, if they are there.
const BATCH: usize = 4096;
/// Between two batches, so that the next one is worth writing: the engine sends each line on its own.
const GATHER: Duration = Duration::from_millis(10);
/// The engine rotates its files away at 30 MB, whether or not they were read, and does not say so.
const ENGINE_KEEPS: u64 = 20 << 20;

/// How the container stands when reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// It was started just now.
    Fresh,
    /// Some of its output may be in the spool already.
    Again,
    /// It is gone; there is nothing to read.
    Gone,
}

/// Reads until `exited` fires and everything is in the spool, then closes the spool.
pub(crate) async fn follow<R: Runtime>(
    runtime: R,
    container: String,
    mut spool: Spool,
    begin: Begin,
    exited: CancellationToken,
) {
    let mut doubtful = false;
    match begin {
        Begin::Gone => {
            spool.note("the end of the output is missing here: the container was removed\n");
            spool.finish().await;
            return;
        }
        Begin::Again => spool.skip_known(),
        Begin::Fresh => {}
    }
    while !exited.is_cancelled() {
        let pieces = runtime.logs(&container, from(&spool, true));
        match copy(pieces, &mut spool, &exited).await {
            Ok(()) => exited.cancelled().await,
            Err(error) => {
                doubtful = !exited.is_cancelled();
                tracing::debug!(%error, "reading output was interrupted");
                tokio::select! {
                    () = exited.cancelled() => {}
                    () = tokio::time::sleep(RETRY) => {}
                }
                spool.skip_known();
            }
        }
    }
    // Following can lose a last line without an end; reading again after the end does not.
    if !reread(&runtime, &container, &mut spool).await {
        doubtful = true;
    }
    if doubtful {
        spool.note("output may be missing here: the connection to the engine was interrupted\n");
    }
    if spool.log().written() > ENGINE_KEEPS {
        spool.note("output may be missing above: there was more of it than the engine keeps\n");
    }
    spool.finish().await;
}

fn from(spool: &Spool, follow: bool) -> LogsFrom {
    LogsFrom {
        follow,
        since: spool.resume_second(),
    }
}

/// Copies until the stream ends; once `exited` has fired only for a while longer.
async fn copy(
    pieces: impl Stream<Item = Result<Output, EngineError>> + Unpin,
    spool: &mut Spool,
    exited: &CancellationToken,
) -> Result<(), EngineError> {
    let mut batches = pieces.ready_chunks(BATCH);
    let late = async {
        exited.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    let mut late = std::pin::pin!(late);
    loop {
        let batch = tokio::select! {
            biased;
            batch = batches.next() => batch,
            () = &mut late => return Ok(()),
        };
        let Some(batch) = batch else {
            return Ok(());
        };
        let mut whole = Vec::with_capacity(batch.len());
        let mut failure = None;
        for piece in batch {
            match piece {
                Ok(piece) => whole.push(piece),
                Err(error) => failure = Some(error),
            }
        }
        spool.write(&whole).await;
        if let Some(error) = failure {
            return Err(error);
        }
        tokio::select! {
            () = exited.cancelled() => {}
            () = tokio::time::sleep(GATHER) => {}
        }
    }
}

/// Reads what the engine has once more and adds what isn't in the spool. False: it could not.
async fn reread<R: Runtime>(runtime: &R, container: &str, spool: &mut Spool) -> bool {
    for _ in 0..REREADS {
        spool.skip_known();
        let pieces = runtime.logs(container, from(spool, false));
        let never = CancellationToken::new();
        let all = copy(pieces, spool, &never);
        match tokio::time::timeout(REREAD, all).await {
            Ok(Ok(())) => return true,
            Ok(Err(EngineError::Refused { status: 404, .. })) => return false,
            Ok(Err(error)) => tracing::debug!(%error, "re-reading output failed"),
            Err(_) => tracing::debug!("re-reading output takes too long"),
        }
        tokio::time::sleep(RETRY).await;
    }
    false
}

/// The logs of all attempts on this host, for whoever ships them.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    table: Mutex<Table>,
    changed: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct Table {
    files: BTreeMap<AttemptId, Arc<LogFile>>,
    /// Those that changed and were not looked at since. Looking at all of them for each change would cost their
    /// number squared.
    touched: BTreeSet<AttemptId>,
    /// Those of an earlier life that are not open yet.
    expected: BTreeSet<AttemptId>,
}

impl Logs {
    /// An earlier life left this one. It counts as unfinished from now on, however long it takes to open it.
    pub(crate) fn expect(&self, attempt: AttemptId) {
        self.lock().expected.insert(attempt);
    }

    pub(crate) fn add(&self, file: Arc<LogFile>) {
        let attempt = file.attempt();
        let mut table = self.lock();
        table.expected.remove(&attempt);
        table.files.insert(attempt, file);
        drop(table);
        self.touch(attempt);
    }

    pub(crate) fn remove(&self, attempt: AttemptId) {
        let mut table = self.lock();
        table.expected.remove(&attempt);
        table.files.remove(&attempt);
        table.touched.remove(&attempt);
    }

    pub(crate) fn file(&self, attempt: AttemptId) -> Option<Arc<LogFile>> {
        self.lock().files.get(&attempt).cloned()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().files.is_empty()
    }

    /// The attempts of all logs.
    pub(crate) fn attempts(&self) -> BTreeSet<AttemptId> {
        self.lock().files.keys().copied().collect()
    }

    /// Takes out those that changed since the last call.
    pub(crate) fn touched(&self) -> BTreeSet<AttemptId> {
        std::mem::take(&mut self.lock().touched)
    }

    /// Of which the coordinator does not have everything.
    pub(crate) fn unfinished(&self) -> usize {
        let table = self.lock();
        let incomplete = table.files.values().filter(|file| !file.is_complete());
        table.expected.len() + incomplete.count()
    }

    /// Bytes on disk, and of those the ones that the coordinator doesn't have.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        let table = self.lock();
        let each = table
            .files
            .values()
            .map(|file| (file.written(), file.unsent()));
        each.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    /// The log has grown or is final.
    pub(crate) fn touch(&self, attempt: AttemptId) {
        self.lock().touched.insert(attempt);
        self.changed.notify_one();
    }

    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no holder of the lock panics")
    }
}

#[cfg(test)]
mod tests;
