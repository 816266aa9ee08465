//! What changed after a revision.

use muster_core::ids::JobId;
use rusqlite::{Connection, params};

use super::{attempts, jobs};
use crate::store::{Change, ChangeQuery, Changes, JobRow, ReadError, Revision, TaskEntry, rows};

/// Only the index is read.
const TASK_REVISIONS: &str = "SELECT rev FROM attempt INDEXED BY task_rev \
    WHERE job = ?1 AND rev > ?2 ORDER BY rev LIMIT ?3";
const NEWEST: &str = "SELECT rev FROM meta";

#[cfg(test)]
pub(super) const STATEMENTS: [&str; 2] = [TASK_REVISIONS, NEWEST];

/// The changes of whole revisions, so that a position between two pages is exact.
pub(super) fn changes(
    connection: &mut Connection,
    query: &ChangeQuery,
) -> Result<Changes, ReadError> {
    // One snapshot for all the statements.
    let snapshot = connection.transaction()?;
    let newest = newest(&snapshot)?;
    let mut changed: Vec<JobRow> = Vec::new();
    for job in &query.jobs {
        let row = jobs::by_id(&snapshot, *job)?;
        changed.extend(row.filter(|row| row.rev > query.after));
    }
    let mut revisions: Vec<Revision> = changed.iter().map(|row| row.rev).collect();
    if query.tasks {
        for job in &query.jobs {
            revisions.extend(task_revisions(&snapshot, *job, query)?);
        }
    }
    revisions.sort_unstable();
    let limit = usize::try_from(query.limit.max(1)).unwrap_or(usize::MAX);
    let through = revisions.get(limit - 1).copied().unwrap_or(newest);
    let mut rows: Vec<Change> = Vec::new();
    if query.tasks {
        for job in &query.jobs {
            let tasks = tasks_between(&snapshot, *job, query.after, through)?;
            rows.extend(tasks.into_iter().map(Change::Task));
        }
    }
    rows.extend(
        changed
            .into_iter()
            .filter(|row| row.rev <= through)
            .map(Change::Job),
    );
    // Stable: tasks stay before the jobs of the same revision.
    rows.sort_by_key(Change::rev);
    Ok(Changes {
        rows,
        through,
        more: through < newest,
    })
}

pub(super) fn newest(connection: &Connection) -> Result<Revision, ReadError> {
    let rev = connection
        .prepare_cached(NEWEST)?
        .query_row([], |row| row.get(0))?;
    rows::unsigned("a revision", rev).map(Revision)
}

/// One more than the limit, which shows that there are more.
fn task_revisions(
    connection: &Connection,
    job: JobId,
    query: &ChangeQuery,
) -> Result<Vec<Revision>, ReadError> {
    let mut statement = connection.prepare_cached(TASK_REVISIONS)?;
    let limit = i64::from(query.limit.max(1)) + 1;
    let mut found = statement.query(params![job.0, rows::signed(query.after.0), limit])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(Revision(rows::unsigned("a revision", row.get(0)?)?));
    }
    Ok(all)
}

fn tasks_between(
    connection: &Connection,
    job: JobId,
    after: Revision,
    through: Revision,
) -> Result<Vec<TaskEntry>, ReadError> {
    let columns = attempts::TASK_COLUMNS;
    let sql = format!(
        "SELECT {columns} FROM attempt INDEXED BY task_rev \
         WHERE job = ?1 AND rev > ?2 AND rev <= ?3 ORDER BY rev, idx"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let bounds = params![job.0, rows::signed(after.0), rows::signed(through.0)];
    let mut found = statement.query(bounds)?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(attempts::read_task(row)?);
    }
    Ok(all)
}
