//! Whether the database is whole, and its rows agree with each other.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use crate::store::{Identity, ReadError, StoreProblem};

/// A check of a large store is given up after this; it holds one of the readers' connections.
const DEADLINE: Duration = Duration::from_secs(30);
/// Steps of SQLite's machine between two looks at the clock.
const STEPS: i32 = 100_000;

/// Each counts rows that contradict a rule: its word, what such rows are, and where they are.
const RULES: [(&str, &str, &str); 11] = [
    (
        "revision",
        "jobs are newer than the newest commit",
        "job WHERE rev > (SELECT rev FROM meta)",
    ),
    (
        "counts",
        "jobs do not count every task once",
        "job WHERE pending + preparing + running + succeeded + failed + oom + timeout + canceled
             + lost + preempted + image_error + infra_error <> array",
    ),
    (
        "ended_job",
        "jobs have ended with live tasks, or live on without any",
        "job WHERE (ended IS NULL) <> (pending + preparing + running > 0)",
    ),
    (
        "live_counts",
        "live jobs count other attempts than there are",
        "job AS j WHERE ended IS NULL AND (
             running <> (SELECT count(*) FROM attempt WHERE job = j.id AND state = 'running')
             OR preparing <> (SELECT count(*) FROM attempt
                              WHERE job = j.id AND state IN ('assigned', 'preparing')))",
    ),
    (
        "succeeded",
        "jobs count other successes than there are",
        "job AS j WHERE succeeded <> (SELECT count(*) FROM attempt
             WHERE job = j.id AND state = 'ended' AND task_outcome = 'succeeded')",
    ),
    (
        "false_success",
        "tasks succeeded although their attempt did not",
        "attempt WHERE task_outcome = 'succeeded' AND outcome IS NOT 'succeeded'",
    ),
    (
        "newest",
        "tasks have their state on an attempt that is not their newest, or on none",
        "attempt AS a WHERE (state IS NOT NULL) = EXISTS (SELECT 1 FROM attempt
             WHERE job = a.job AND idx = a.idx AND number > a.number)",
    ),
    (
        "one_attempt",
        "attempts have not ended although another one followed",
        "attempt WHERE state IS NULL AND ended IS NULL",
    ),
    (
        "ended_task",
        "attempts have not ended although their task has, or have and hold it",
        "attempt WHERE (state IN ('ended', 'pending') AND ended IS NULL)
             OR (state IN ('assigned', 'preparing', 'running') AND ended IS NOT NULL)",
    ),
    (
        "orphan",
        "attempts are of no job",
        "attempt AS a WHERE NOT EXISTS (SELECT 1 FROM job WHERE id = a.job)",
    ),
    (
        "release",
        "channels are on a release that is not stored",
        "channel AS c WHERE NOT EXISTS (SELECT 1 FROM release
             WHERE team = c.team AND channel = c.name AND number = c.current)",
    ),
];

/// Everything that is wrong; empty in a good store. Ends with `unfinished` when time ran out.
pub(super) fn check(
    connection: &mut Connection,
    ours: Identity,
) -> Result<Vec<StoreProblem>, ReadError> {
    let deadline = Instant::now() + DEADLINE;
    connection.progress_handler(STEPS, Some(move || Instant::now() > deadline))?;
    let found = look(connection, ours);
    connection.progress_handler(0, None::<fn() -> bool>)?;
    match found {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            let what = format!(
                "not finished within {} s: the store is large",
                DEADLINE.as_secs()
            );
            Ok(vec![StoreProblem {
                word: "unfinished",
                what,
            }])
        }
        found => Ok(found?),
    }
}

fn look(connection: &mut Connection, ours: Identity) -> rusqlite::Result<Vec<StoreProblem>> {
    let snapshot = connection.transaction()?;
    let mut found = Vec::new();
    let mut pages = snapshot.prepare("PRAGMA quick_check(5)")?;
    let told = pages.query_map([], |row| row.get::<_, String>(0))?;
    for line in told {
        let what = line?;
        if what != "ok" {
            found.push(StoreProblem {
                word: "damaged",
                what,
            });
        }
    }
    let term: i64 = snapshot.query_row("SELECT term FROM meta", [], |row| row.get(0))?;
    if u64::try_from(term) != Ok(ours.term.0) {
        let what = format!(
            "its term is {term}, this coordinator began {}: another one has opened it",
            ours.term.0
        );
        found.push(StoreProblem { word: "term", what });
    }
    for (word, what, rows) in RULES {
        let sql = format!("SELECT count(*) FROM {rows}");
        let count: i64 = snapshot.query_row(&sql, [], |row| row.get(0))?;
        if count > 0 {
            let what = format!("{count} {what}");
            found.push(StoreProblem { word, what });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use muster_core::effect::{Because, Record};
    use muster_core::task::RowState;
    use rusqlite::Connection;

    use crate::store::conformance::samples;
    use crate::store::{SqliteStore, Store};

    /// The words of what is wrong after somebody wrote into a good store.
    async fn after(sql: &str) -> Vec<&'static str> {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path()).unwrap();
        fill(&store).await;
        assert_eq!(store.check().await.unwrap(), []);
        let other = Connection::open(directory.path().join("muster.db")).unwrap();
        assert!(
            other.execute(sql, []).unwrap() > 0,
            "{sql} changes something"
        );
        let found = store.check().await.unwrap();
        found.into_iter().map(|problem| problem.word).collect()
    }

    /// A job whose task 0 runs.
    async fn fill(store: &SqliteStore) {
        let job = samples::job(1);
        let mut progress = samples::progress(&job);
        progress.unstarted.pop_first();
        progress.counts = muster_core::job::Counts {
            pending: job.array - 1,
            running: 1,
            ..Default::default()
        };
        let made = samples::attempt_made(&job, 0, 1, Because::First);
        let row = samples::row(&job, 0, 1, RowState::Running);
        let id = job.id;
        let moved = Record::JobProgress { job: id, progress };
        let records = vec![Record::JobSubmitted(job), made, row, moved];
        store.commit(records).await.unwrap();
    }

    #[tokio::test]
    async fn rows_that_contradict_each_other_are_found() {
        for (sql, words) in [
            ("UPDATE meta SET term = term + 1", &["term"] as &[&str]),
            ("UPDATE job SET rev = 999999", &["revision"]),
            ("UPDATE job SET pending = pending + 1", &["counts"]),
            ("UPDATE job SET ended = 1", &["ended_job"]),
            (
                "UPDATE job SET running = running - 1, preparing = preparing + 1",
                &["live_counts"],
            ),
            (
                "UPDATE job SET succeeded = succeeded + 1, pending = pending - 1",
                &["succeeded"],
            ),
            (
                "UPDATE attempt SET state = 'ended', task_outcome = 'succeeded', ended = 1,
                     outcome = 'lost' WHERE number = 1",
                &["live_counts", "succeeded", "false_success"],
            ),
            (
                "UPDATE attempt SET number = number + 1, state = NULL",
                &["live_counts", "newest", "one_attempt"],
            ),
            ("UPDATE attempt SET ended = 1", &["ended_task"]),
            ("UPDATE attempt SET job = x'00'", &["live_counts", "orphan"]),
        ] {
            assert_eq!(after(sql).await, words, "{sql}");
        }
    }
}
