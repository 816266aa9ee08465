//! Threads for work on attempts' files.
//!
//! An attempt writes and syncs several times in its life, a little each time. tokio starts another thread whenever all
//! of them are busy, and as many threads as attempts then do little but take turns on the processors. A few that are
//! kept busy do the same work in less time: they go from one piece to the next without being woken for it.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Enough to keep a disk busy with syncs; docs/performance.md has what was measured.
const THREADS: usize = 4;

// Of the whole process, as the disk is. Only the threads of these runtimes that may block are used.
static FILES: LazyLock<Runtime> = LazyLock::new(|| threads("files", THREADS));
static REMOVALS: LazyLock<Runtime> = LazyLock::new(|| threads("removals", 1));

fn threads(name: &str, count: usize) -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.thread_name(name).max_blocking_threads(count);
    builder
        .build()
        .expect("a runtime without drivers asks the system for nothing")
}

/// Begins work that takes no longer than the disk does. All attempts wait behind it, so it may not wait for another
/// process.
pub(crate) fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    FILES.spawn_blocking(work)
}

/// Begins to remove what a task left, which is as much as the task liked to make. Only other removals wait behind it.
pub(crate) fn spawn_removal<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    REMOVALS.spawn_blocking(work)
}
