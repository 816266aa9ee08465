//! What the store knows of being an older copy of itself.

use muster_core::ids::{AgentId, AttemptNo, JobId, Term};
use muster_core::safe_mode::SafeMode;
use muster_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::store::{ReadError, rows};

const READ: &str = "SELECT backup_at, restored_at, restored_fence, behind_at, behind_agent, behind_term \
    FROM meta";
const SET_RESTORED: &str = "UPDATE meta SET backup_at = ?1, restored_at = ?2, restored_fence = ?3, \
    behind_at = NULL, behind_agent = NULL, behind_term = NULL";
const SET_BEHIND: &str = "UPDATE meta SET behind_at = ?1, behind_agent = ?2, behind_term = ?3";
const CLEAR: &str = "UPDATE meta SET backup_at = NULL, restored_at = NULL, restored_fence = NULL, \
    behind_at = NULL, behind_agent = NULL, behind_term = NULL";
const FENCES: &str =
    "SELECT id, fence FROM job WHERE ended IS NULL AND fence IS NOT NULL ORDER BY seq";

#[cfg(test)]
pub(super) const STATEMENTS: [&str; 5] = [READ, SET_RESTORED, SET_BEHIND, CLEAR, FENCES];

pub(super) fn read(connection: &Connection) -> Result<Option<SafeMode>, ReadError> {
    type Row = (
        Option<i64>,
        Option<i64>,
        Option<u32>,
        Option<i64>,
        Option<String>,
        Option<i64>,
    );
    let row: Option<Row> = connection
        .prepare_cached(READ)?
        .query_row([], |row| row.try_into())
        .optional()?;
    let Some((backup, restored, fence, behind, agent, term)) = row else {
        return Ok(None);
    };
    let time = |at| rows::unsigned("a time", at).map(Timestamp);
    if let (Some(at), Some(agent), Some(term)) = (behind, agent, term) {
        return Ok(Some(SafeMode::Behind {
            agent: AgentId::parse(&agent).map_err(|_| rows::corrupt("an agent's id", &agent))?,
            seen: Term(rows::unsigned("a term", term)?),
            at: time(at)?,
        }));
    }
    let Some((at, fence)) = restored.zip(fence) else {
        return Ok(None);
    };
    Ok(Some(SafeMode::Restored {
        backup: backup.map(time).transpose()?,
        at: time(at)?,
        fence: AttemptNo(fence),
    }))
}

pub(super) fn set(connection: &Connection, why: Option<&SafeMode>) -> rusqlite::Result<()> {
    let rows = match why {
        None => connection.prepare_cached(CLEAR)?.execute([]),
        Some(SafeMode::Restored { backup, at, fence }) => {
            let backup = backup.map(|at| rows::signed(at.0));
            let values = params![backup, rows::signed(at.0), fence.0];
            connection.prepare_cached(SET_RESTORED)?.execute(values)
        }
        Some(SafeMode::Behind { agent, seen, at }) => {
            let (at, seen) = (rows::signed(at.0), rows::signed(seen.0));
            let values = params![at, agent.as_str(), seen];
            connection.prepare_cached(SET_BEHIND)?.execute(values)
        }
    };
    super::exactly_one(rows?)
}

/// Of jobs that have not ended: attempts up to which number may exist without a row.
pub(super) fn fences(connection: &Connection) -> rusqlite::Result<Vec<(JobId, AttemptNo)>> {
    let mut statement = connection.prepare_cached(FENCES)?;
    let fences = statement.query_map([], |row| {
        let (id, fence): (Uuid, u32) = (row.get(0)?, row.get(1)?);
        Ok((JobId(id), AttemptNo(fence)))
    })?;
    fences.collect()
}
