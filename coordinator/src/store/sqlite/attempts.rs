//! Rows of attempts. How a task stands is on the row of its newest attempt.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::effect::Because;
use muster_core::ids::{AgentId, AttemptId, AttemptNo, JobId, TaskId};
use muster_core::image::Image;
use muster_core::outcome::{End, Outcome, Usage};
use muster_core::retry::{Budget, Spent};
use muster_core::task::{RowState, TaskRow};
use muster_core::time::{Millis, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};

use super::columns::Columns;
use super::digests;
use crate::store::{
    AttemptEnded, AttemptRow, Page, ReadError, Revision, TaskEntry, TaskQuery, TaskStateWord, rows,
};

/// What [`read_task`] wants, in its order.
pub(super) const TASK_COLUMNS: &str = "job, idx, number, agent, image, release, assigned, started, rev, \
    state, not_before, budget, spent_user, spent_infra, spent_free, task_ended, task_outcome, \
    task_exit_code, task_reason, task_message, spent_deaths, quarantined, grown_memory";

const INSERT: &str = "INSERT INTO attempt (job, idx, number, started, ended, outcome, exit_code, reason, \
    message, peak_memory, cpu_micros, pull, start, run, rev, state, not_before, budget, spent_user, \
    spent_infra, spent_free, task_ended, task_outcome, task_exit_code, task_reason, task_message, \
    spent_deaths, quarantined, grown_memory, agent, image, release, assigned, because) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, \
    ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, \
    ?34)";
/// What is known of the attempt is never forgotten; the task's part is replaced as a whole.
const UPDATE: &str = "UPDATE attempt SET started = coalesce(?4, started), ended = coalesce(?5, ended), \
    outcome = coalesce(?6, outcome), exit_code = coalesce(?7, exit_code), reason = coalesce(?8, reason), \
    message = coalesce(?9, message), peak_memory = coalesce(?10, peak_memory), \
    cpu_micros = coalesce(?11, cpu_micros), pull = coalesce(?12, pull), start = coalesce(?13, start), \
    run = coalesce(?14, run), rev = ?15, state = ?16, not_before = ?17, budget = ?18, spent_user = ?19, \
    spent_infra = ?20, spent_free = ?21, task_ended = ?22, task_outcome = ?23, task_exit_code = ?24, \
    task_reason = ?25, task_message = ?26, spent_deaths = ?27, quarantined = ?28, \
    grown_memory = ?29 \
    WHERE job = ?1 AND idx = ?2 AND number = ?3";
/// The same without the task's part.
const UPDATE_ATTEMPT: &str = "UPDATE attempt SET started = coalesce(?4, started), \
    ended = coalesce(?5, ended), outcome = coalesce(?6, outcome), exit_code = coalesce(?7, exit_code), \
    reason = coalesce(?8, reason), message = coalesce(?9, message), \
    peak_memory = coalesce(?10, peak_memory), cpu_micros = coalesce(?11, cpu_micros), \
    pull = coalesce(?12, pull), start = coalesce(?13, start), run = coalesce(?14, run) \
    WHERE job = ?1 AND idx = ?2 AND number = ?3";
/// A newer attempt holds the task.
const SUPERSEDE: &str = "UPDATE attempt SET rev = NULL, state = NULL \
    WHERE job = ?1 AND idx = ?2 AND number < ?3 AND rev IS NOT NULL";
/// An end that is known already is no news: an agent repeats it when an acknowledgement got lost.
const SET_LATE: &str = "UPDATE attempt SET late = CASE WHEN outcome IS ?5 AND reason IS ?6 \
    AND exit_code IS ?7 THEN late ELSE ?4 END WHERE job = ?1 AND idx = ?2 AND number = ?3";
const ATTEMPTS: &str = "SELECT number, agent, image, release, because, assigned, started, ended, outcome, \
    exit_code, reason, message, peak_memory, cpu_micros, pull, start, run, late \
    FROM attempt WHERE job = ?1 AND idx = ?2 ORDER BY number";

#[cfg(test)]
pub(super) const STATEMENTS: [&str; 6] = [
    INSERT,
    UPDATE,
    UPDATE_ATTEMPT,
    SUPERSEDE,
    SET_LATE,
    ATTEMPTS,
];

/// Everything one batch says about one attempt, so that its row is written once.
#[derive(Debug, Default)]
pub(super) struct Patch<'b> {
    pub(super) made: Option<Made<'b>>,
    pub(super) started: Option<Timestamp>,
    pub(super) ended: Option<Ended<'b>>,
    pub(super) late: Option<(Timestamp, &'b End)>,
    pub(super) task: Option<&'b TaskRow>,
}

#[derive(Debug)]
pub(super) struct Made<'b> {
    pub(super) agent: &'b AgentId,
    pub(super) image: &'b Image,
    pub(super) at: Timestamp,
    pub(super) because: Because,
}

#[derive(Debug)]
pub(super) struct Ended<'b> {
    pub(super) at: Timestamp,
    pub(super) end: &'b End,
    pub(super) usage: Usage,
}

pub(super) fn apply(
    connection: &Connection,
    rev: Revision,
    patches: BTreeMap<AttemptId, Patch<'_>>,
) -> rusqlite::Result<()> {
    let mut images = BTreeSet::new();
    for (id, patch) in patches {
        if let Some(made) = &patch.made {
            images.insert((made.image.digest(), id.task.job));
        }
        if patch.task.is_some() && id.number.0 > 1 {
            let key = params![id.task.job.0, id.task.index, id.number.0];
            connection.prepare_cached(SUPERSEDE)?.execute(key)?;
        }
        write(connection, rev, id, &patch)?;
        if let Some((at, end)) = patch.late {
            write_late(connection, id, at, end)?;
        }
    }
    for (digest, job) in images {
        digests::insert(connection, digest, job)?;
    }
    Ok(())
}

fn write(
    connection: &Connection,
    rev: Revision,
    id: AttemptId,
    patch: &Patch<'_>,
) -> rusqlite::Result<()> {
    let Patch {
        made,
        started,
        ended,
        late: _,
        task,
    } = patch;
    let mut values = Vec::with_capacity(34);
    values.extend([
        Value::Blob(id.task.job.0.as_bytes().to_vec()),
        id.task.index.into(),
        id.number.0.into(),
        task.and_then(|row| row.started)
            .or(*started)
            .map(|at| rows::signed(at.0))
            .into(),
    ]);
    values.extend(end_values(ended.as_ref()));
    match (made, task) {
        (Some(made), task) => {
            values.extend(task.map_or([const { Value::Null }; 15], |row| task_values(rev, row)));
            let Made {
                agent,
                image,
                at,
                because,
            } = made;
            values.extend([
                Value::Text(agent.to_string()),
                Value::Text(image.to_string()),
                task.and_then(|row| row.release).map(rows::signed).into(),
                rows::signed(at.0).into(),
                Value::Text(rows::because_to_text(*because)),
            ]);
            connection
                .prepare_cached(INSERT)?
                .execute(params_from_iter(values))?;
            Ok(())
        }
        (None, Some(row)) => {
            values.extend(task_values(rev, row));
            let rows = connection
                .prepare_cached(UPDATE)?
                .execute(params_from_iter(values))?;
            super::exactly_one(rows)
        }
        (None, None) if started.is_some() || ended.is_some() => {
            let mut statement = connection.prepare_cached(UPDATE_ATTEMPT)?;
            super::exactly_one(statement.execute(params_from_iter(values))?)
        }
        (None, None) => Ok(()),
    }
}

/// A report from a superseded attempt may concern one that the store never had, e.g. after a restore of
/// an older copy. It changes nothing, so it must not stop anything either.
fn write_late(
    connection: &Connection,
    id: AttemptId,
    at: Timestamp,
    end: &End,
) -> rusqlite::Result<()> {
    let late = rows::late_to_json(at, end);
    let values = params![
        id.task.job.0,
        id.task.index,
        id.number.0,
        late,
        end.outcome.as_str(),
        end.reason.as_str(),
        end.exit_code,
    ];
    if connection.prepare_cached(SET_LATE)?.execute(values)? == 0 {
        tracing::warn!(
            job.id = %id.task.job,
            task.index = id.task.index,
            attempt.number = id.number.0,
            "late report of an unknown attempt dropped"
        );
    }
    Ok(())
}

/// `ended` to `run`.
fn end_values(ended: Option<&Ended<'_>>) -> [Value; 10] {
    let Some(Ended { at, end, usage }) = ended else {
        return [const { Value::Null }; 10];
    };
    let End {
        outcome,
        exit_code,
        reason,
        message,
    } = end;
    let Usage {
        peak_memory_bytes,
        cpu_micros,
        pull,
        start,
        run,
    } = *usage;
    let span = |span: Option<Millis>| span.map(|span| rows::signed(span.0)).into();
    [
        rows::signed(at.0).into(),
        Value::Text(outcome.as_str().to_owned()),
        (*exit_code).into(),
        Value::Text(reason.as_str().to_owned()),
        Value::Text(message.clone()),
        peak_memory_bytes.map(rows::signed).into(),
        cpu_micros.map(rows::signed).into(),
        span(pull),
        span(start),
        span(run),
    ]
}

/// `rev` to `grown_memory`. What the task says of its newest attempt is in the attempt's own columns.
fn task_values(rev: Revision, row: &TaskRow) -> [Value; 15] {
    let TaskRow {
        state,
        last: _,
        spent,
        agent: _,
        image: _,
        release: _,
        assigned: _,
        started: _,
    } = row;
    let Spent {
        user,
        infra,
        free,
        deaths,
        memory,
    } = *spent;
    let (not_before, budget, quarantined) = match state {
        RowState::Pending {
            not_before,
            budget,
            quarantined,
        } => (
            Some(rows::signed(not_before.0)),
            Some(budget.as_str().to_owned()),
            Some(*quarantined),
        ),
        RowState::Assigned | RowState::Preparing | RowState::Running | RowState::Ended { .. } => {
            (None, None, None)
        }
    };
    let (at, outcome, exit_code, reason, message) = match state {
        RowState::Ended {
            end:
                End {
                    outcome,
                    exit_code,
                    reason,
                    message,
                },
            at,
        } => (
            Some(rows::signed(at.0)),
            Some(outcome.as_str().to_owned()),
            *exit_code,
            Some(reason.as_str().to_owned()),
            // Mostly empty, and then NULL costs less.
            (!message.is_empty()).then(|| message.clone()),
        ),
        RowState::Pending { .. } | RowState::Assigned | RowState::Preparing | RowState::Running => {
            (None, None, None, None, None)
        }
    };
    [
        rows::signed(rev.0).into(),
        Value::Text(TaskStateWord::of(state).as_str().to_owned()),
        not_before.into(),
        budget.into(),
        user.into(),
        infra.into(),
        free.into(),
        at.into(),
        outcome.into(),
        exit_code.into(),
        reason.into(),
        message.into(),
        deaths.into(),
        quarantined.into(),
        (memory > 0).then(|| rows::signed(memory)).into(),
    ]
}

pub(super) fn read_task(row: &Row<'_>) -> Result<TaskEntry, ReadError> {
    let mut columns = Columns::of(row);
    let columns = &mut columns;
    let id = TaskId {
        job: JobId(columns.uuid()?),
        index: columns.take()?,
    };
    let last = AttemptNo(columns.take()?);
    let agent = columns.named("an agent", AgentId::parse)?;
    let image = columns.parsed("an image")?;
    let release = columns.maybe_number("a release")?;
    let assigned = columns.time()?;
    let started = columns.maybe_time()?;
    let rev = Revision(columns.number("a revision")?);
    let word: String = columns.take()?;
    let not_before = columns.maybe_time()?;
    let budget: Option<String> = columns.take()?;
    let budget = budget.and_then(|word| Budget::from_word(&word));
    let mut spent = Spent {
        user: columns.take()?,
        infra: columns.take()?,
        free: columns.take()?,
        deaths: 0,
        memory: 0,
    };
    let ended = columns.maybe_time()?;
    let end = columns.maybe_end()?;
    spent.deaths = columns.take::<Option<u32>>()?.unwrap_or(0);
    let quarantined = columns.take::<Option<bool>>()?.unwrap_or(false);
    spent.memory = columns.maybe_number("grown memory")?.unwrap_or(0);
    let state = match (word.as_str(), not_before.zip(budget), ended.zip(end)) {
        ("pending", Some((not_before, budget)), None) => RowState::Pending {
            not_before,
            budget,
            quarantined,
        },
        ("assigned", None, None) => RowState::Assigned,
        ("preparing", None, None) => RowState::Preparing,
        ("running", None, None) => RowState::Running,
        ("ended", None, Some((at, end))) => RowState::Ended { end, at },
        _ => return Err(rows::corrupt("a task's state", &word)),
    };
    let row = TaskRow {
        state,
        last,
        spent,
        agent,
        image,
        release,
        assigned,
        started,
    };
    Ok(TaskEntry { id, row, rev })
}

fn read_attempt(row: &Row<'_>) -> Result<AttemptRow, ReadError> {
    let mut columns = Columns::of(row);
    let columns = &mut columns;
    let number = AttemptNo(columns.take()?);
    let agent = columns.named("an agent", AgentId::parse)?;
    let image = columns.parsed("an image")?;
    let release = columns.maybe_number("a release")?;
    let because = columns.text(rows::because_from_text)?;
    let assigned = columns.time()?;
    let started = columns.maybe_time()?;
    let at = columns.maybe_time()?;
    let end = columns.maybe_end()?;
    let usage = Usage {
        peak_memory_bytes: columns.maybe_number("an amount of memory")?,
        cpu_micros: columns.maybe_number("a CPU time")?,
        pull: columns.maybe_span()?,
        start: columns.maybe_span()?,
        run: columns.maybe_span()?,
    };
    let late: Option<String> = columns.take()?;
    let late_report = late.map(|text| rows::late_from_json(&text)).transpose()?;
    let ended = at.zip(end).map(|(at, end)| AttemptEnded { at, end, usage });
    Ok(AttemptRow {
        number,
        agent,
        image,
        release,
        because,
        assigned,
        started,
        ended,
        late_report,
    })
}

pub(super) fn list_attempts(
    connection: &Connection,
    task: TaskId,
) -> Result<Vec<AttemptRow>, ReadError> {
    let mut statement = connection.prepare_cached(ATTEMPTS)?;
    let mut found = statement.query(params![task.job.0, task.index])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(read_attempt(row)?);
    }
    Ok(all)
}

pub(super) fn task(connection: &Connection, id: TaskId) -> Result<Option<TaskEntry>, ReadError> {
    let sql = format!(
        "SELECT {TASK_COLUMNS} FROM attempt WHERE job = ?1 AND idx = ?2 AND state IS NOT NULL"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(params![id.job.0, id.index])?;
    found.next()?.map(read_task).transpose()
}

/// Tasks of a live job that have not ended, in order of index.
pub(super) fn live(connection: &Connection, job: JobId) -> Result<Vec<(u32, TaskRow)>, ReadError> {
    let sql = format!(
        "SELECT {TASK_COLUMNS} FROM attempt WHERE job = ?1 AND state <> 'ended' ORDER BY idx"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query([job.0])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        let TaskEntry { id, row, rev: _ } = read_task(row)?;
        all.push((id.index, row));
    }
    Ok(all)
}

pub(super) fn list_tasks(
    connection: &Connection,
    query: &TaskQuery,
) -> Result<Page<TaskEntry, u32>, ReadError> {
    let TaskQuery {
        job,
        states,
        outcomes,
        after,
        limit,
    } = query;
    let limit = (*limit).max(1);
    let words = |words: Vec<&str>| vec!["?"; words.len()].join(", ");
    let mut values = vec![
        Value::Blob(job.0.as_bytes().to_vec()),
        after.map_or(-1, i64::from).into(),
    ];
    let mut filter = String::new();
    let states: Vec<_> = states.iter().copied().map(TaskStateWord::as_str).collect();
    let outcomes: Vec<_> = outcomes.iter().copied().map(Outcome::as_str).collect();
    for (column, any) in [("state", states), ("task_outcome", outcomes)] {
        if !any.is_empty() {
            values.extend(any.iter().map(|word| Value::Text((*word).to_owned())));
            filter.push_str(&format!(" AND {column} IN ({})", words(any)));
        }
    }
    values.push((i64::from(limit) + 1).into());
    let sql = format!(
        "SELECT {TASK_COLUMNS} FROM attempt WHERE job = ? AND idx > ? AND state IS NOT NULL{filter} \
         ORDER BY idx LIMIT ?"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(params_from_iter(values))?;
    let mut rows = Vec::new();
    let mut next = None;
    while let Some(row) = found.next()? {
        if rows.len() == usize::try_from(limit).unwrap_or(usize::MAX) {
            next = rows.last().map(|last: &TaskEntry| last.id.index);
            break;
        }
        rows.push(read_task(row)?);
    }
    Ok(Page { rows, next })
}
