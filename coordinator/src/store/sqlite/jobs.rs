//! Rows of jobs: `job`, which changes, and `job_body`, which doesn't.

use std::sync::Arc;

use muster_core::event::Prior;
use muster_core::ids::{JobId, SHORT_ID_LENGTH, TeamName, is_job_id_end};
use muster_core::image::Image;
use muster_core::job::{CancelRequest, Counts, IdempotencyKey, Job, JobProgress};
use muster_core::outcome::Outcome;
use muster_core::spec::{Pull, Requirements, Spec};
use muster_proto::v1 as pb;
use prost::Message;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::columns::Columns;
use crate::api::convert::{spec_from_wire, spec_to_wire};
use crate::store::{JobQuery, JobRow, JobState, Page, ReadError, Resolved, Revision, rows};

/// What [`read`] wants, in its order.
pub(super) const COLUMNS: &str = "j.id, j.team, j.array, j.created, j.rev, j.unstarted, j.withdrawn, \
    j.pending, j.preparing, j.running, j.succeeded, j.failed, j.oom, j.timeout, j.canceled, j.lost, \
    j.preempted, j.image_error, j.infra_error, j.retries, j.started, j.ended, j.cancel_reason, \
    j.cancel_at, j.canceling, b.key, b.key_body, b.pinned, b.release, b.traceparent, b.spec";
pub(super) const TABLES: &str = "job j JOIN job_body b ON b.job = j.seq";

/// Candidates that are named for an ambiguous end of an id.
const CANDIDATES: usize = 20;

const INSERT: &str = "INSERT INTO job (id, short, team, name, array, created, \
    rev, unstarted, withdrawn, pending, preparing, running, succeeded, failed, oom, timeout, canceled, \
    lost, preempted, image_error, infra_error, retries, started, ended, outcome, cancel_reason, cancel_at, \
    canceling) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, \
    ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28)";
const INSERT_BODY: &str = "INSERT INTO job_body (job, team, key, key_body, pinned, release, traceparent, \
    labels, spec) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const UPDATE: &str = "UPDATE job SET rev = ?2, unstarted = ?3, withdrawn = ?4, pending = ?5, \
    preparing = ?6, running = ?7, succeeded = ?8, failed = ?9, oom = ?10, timeout = ?11, canceled = ?12, \
    lost = ?13, preempted = ?14, image_error = ?15, infra_error = ?16, retries = ?17, started = ?18, \
    ended = ?19, outcome = ?20, cancel_reason = ?21, cancel_at = ?22, canceling = ?23 \
    WHERE id = ?1";
const FIND_KEY: &str = "SELECT j.id, b.key_body FROM job_body b JOIN job j ON j.seq = b.job \
    WHERE b.team = ?1 AND b.key = ?2";
const BY_ID: &str = "SELECT id FROM job WHERE id = ?1 AND team = ?2";
/// Left alone, the planner prefers the index by team, whose order it can use, and reads all of the team's
/// jobs.
const BY_SHORT: &str =
    "SELECT id FROM job INDEXED BY job_short WHERE short = ?1 AND team = ?2 ORDER BY id";

/// The statements of this file that don't depend on a query's filters.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 6] = [INSERT, INSERT_BODY, UPDATE, FIND_KEY, BY_ID, BY_SHORT];

pub(super) fn insert(
    connection: &Connection,
    rev: Revision,
    job: &Job,
    progress: &JobProgress,
) -> rusqlite::Result<()> {
    let Job {
        id,
        team,
        spec,
        array,
        key,
        pinned,
        release,
        created,
        traceparent,
    } = job;
    let changing = Changing::of(progress);
    let mut values = vec![
        Value::Blob(id.0.as_bytes().to_vec()),
        Value::Integer(short_of(*id)),
        Value::Text(team.to_string()),
        Value::Text(spec.name.to_string()),
        Value::Integer((*array).into()),
        Value::Integer(rows::signed(created.0)),
        Value::Integer(rows::signed(rev.0)),
    ];
    values.extend(changing.0);
    connection
        .prepare_cached(INSERT)?
        .execute(params_from_iter(values))?;
    let seq = connection.last_insert_rowid();
    let (key, body) = match key.as_deref() {
        Some(IdempotencyKey { key, body }) => (Some(key), Some(body)),
        None => (None, None),
    };
    connection.prepare_cached(INSERT_BODY)?.execute(params![
        seq,
        team.as_str(),
        key,
        body,
        pinned.as_ref().map(ToString::to_string),
        release.map(rows::signed),
        traceparent,
        rows::map_to_json(&spec.labels),
        spec_to_wire(spec).encode_to_vec(),
    ])?;
    Ok(())
}

pub(super) fn update(
    connection: &Connection,
    rev: Revision,
    job: JobId,
    progress: &JobProgress,
) -> rusqlite::Result<()> {
    let mut values = vec![
        Value::Blob(job.0.as_bytes().to_vec()),
        Value::Integer(rows::signed(rev.0)),
    ];
    values.extend(Changing::of(progress).0);
    let rows = connection
        .prepare_cached(UPDATE)?
        .execute(params_from_iter(values))?;
    super::exactly_one(rows)
}

/// The columns of a job that change, `unstarted` to `canceling`.
struct Changing([Value; 21]);

impl Changing {
    fn of(progress: &JobProgress) -> Self {
        let JobProgress {
            unstarted,
            withdrawn,
            counts,
            started,
            ended,
            cancel,
            canceling,
        } = progress;
        let Counts {
            pending,
            preparing,
            running,
            succeeded,
            failed,
            oom,
            timeout,
            canceled,
            lost,
            preempted,
            image_error,
            infra_error,
            retries,
        } = *counts;
        let outcome = ended
            .and_then(|_| counts.worst())
            .map(|worst| worst.as_str().to_owned());
        let (cancel_reason, cancel_at) = match cancel {
            Some(CancelRequest { reason, at }) => (Some(reason.clone()), Some(rows::signed(at.0))),
            None => (None, None),
        };
        Self([
            unstarted.to_string().into(),
            rows::withdrawn_to_json(withdrawn).into(),
            pending.into(),
            preparing.into(),
            running.into(),
            succeeded.into(),
            failed.into(),
            oom.into(),
            timeout.into(),
            canceled.into(),
            lost.into(),
            preempted.into(),
            image_error.into(),
            infra_error.into(),
            retries.into(),
            started.map(|at| rows::signed(at.0)).into(),
            ended.map(|at| rows::signed(at.0)).into(),
            outcome.into(),
            cancel_reason.into(),
            cancel_at.into(),
            canceling.to_string().into(),
        ])
    }
}

/// The last 40 bits: what the eight characters of a short id hold.
fn short_of(id: JobId) -> i64 {
    i64::try_from(id.entropy() & ((1 << 40) - 1)).expect("forty bits")
}

pub(super) fn read(row: &Row<'_>) -> Result<JobRow, ReadError> {
    let mut columns = Columns::of(row);
    let columns = &mut columns;
    let id = JobId(columns.uuid()?);
    let team = columns.named("a team", TeamName::parse)?;
    let array = columns.take()?;
    let created = columns.time()?;
    let rev = Revision(columns.number("a revision")?);
    let progress = read_progress(columns)?;
    let key: Option<String> = columns.take()?;
    let body: Option<[u8; 32]> = columns.take()?;
    let pinned: Option<String> = columns.take()?;
    let pinned = pinned
        .map(|text| rows::parsed("an image", &text))
        .transpose()?;
    let release = columns.maybe_number("a release")?;
    let traceparent = columns.take()?;
    let spec = read_spec(&columns.take::<Vec<u8>>()?, pinned.as_ref())?;
    let key = key
        .zip(body)
        .map(|(key, body)| Box::new(IdempotencyKey { key, body }));
    let job = Job {
        id,
        team,
        spec: Arc::new(spec),
        array,
        key,
        pinned,
        release,
        created,
        traceparent,
    };
    Ok(JobRow {
        job: Arc::new(job),
        progress,
        rev,
    })
}

fn read_progress(columns: &mut Columns<'_>) -> Result<JobProgress, ReadError> {
    let unstarted = columns.parsed("ranges of tasks")?;
    let withdrawn: Option<String> = columns.take()?;
    let withdrawn = rows::withdrawn_from_json(withdrawn.as_deref())?;
    let counts = Counts {
        pending: columns.take()?,
        preparing: columns.take()?,
        running: columns.take()?,
        succeeded: columns.take()?,
        failed: columns.take()?,
        oom: columns.take()?,
        timeout: columns.take()?,
        canceled: columns.take()?,
        lost: columns.take()?,
        preempted: columns.take()?,
        image_error: columns.take()?,
        infra_error: columns.take()?,
        retries: columns.take()?,
    };
    let started = columns.maybe_time()?;
    let ended = columns.maybe_time()?;
    let reason: Option<String> = columns.take()?;
    let at = columns.maybe_time()?;
    let cancel = reason
        .zip(at)
        .map(|(reason, at)| CancelRequest { reason, at });
    let canceling = columns.parsed("ranges of tasks")?;
    Ok(JobProgress {
        unstarted,
        withdrawn,
        counts,
        started,
        ended,
        cancel,
        canceling,
    })
}

fn read_spec(bytes: &[u8], pinned: Option<&Image>) -> Result<Spec, ReadError> {
    let bad = |problem: String| rows::corrupt("a job's spec", &problem);
    let wire = pb::JobSpec::decode(bytes).map_err(|error| bad(error.to_string()))?;
    let mut spec = spec_from_wire(&wire).map_err(|violations| {
        let first = violations.into_iter().next();
        bad(first.map_or_else(String::new, |first| {
            format!("{}: {}", first.field, first.problem)
        }))
    })?;
    if spec.pull == Pull::Never {
        // The wire has no place for it: it is what the image meant when the job was submitted.
        let requirements = Requirements {
            held: pinned.cloned(),
            ..(*spec.requirements).clone()
        };
        spec.requirements = Arc::new(requirements);
    }
    Ok(spec)
}

pub(super) fn find_key(
    connection: &Connection,
    team: &TeamName,
    key: &str,
) -> Result<Option<Prior>, ReadError> {
    let found = connection
        .prepare_cached(FIND_KEY)?
        .query_row(params![team.as_str(), key], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    Ok(found.map(|(id, body)| Prior {
        id: JobId(id),
        body,
    }))
}

pub(super) fn resolve(
    connection: &Connection,
    team: &TeamName,
    text: &str,
) -> Result<Resolved, ReadError> {
    if !is_job_id_end(text) {
        return Ok(Resolved::None);
    }
    if let Ok(JobId(id)) = text.parse() {
        let mut statement = connection.prepare_cached(BY_ID)?;
        let known = statement.exists(params![id, team.as_str()])?;
        return Ok(if known {
            Resolved::One(JobId(id))
        } else {
            Resolved::None
        });
    }
    let Some(short) = short_of_text(text) else {
        return Ok(Resolved::None);
    };
    let mut statement = connection.prepare_cached(BY_SHORT)?;
    let mut found = statement.query(params![short, team.as_str()])?;
    let mut candidates = Vec::new();
    while let Some(row) = found.next()? {
        let id = JobId(row.get(0)?);
        if id.to_string().ends_with(text) && candidates.len() < CANDIDATES {
            candidates.push(id);
        }
    }
    Ok(match candidates.as_slice() {
        [] => Resolved::None,
        [one] => Resolved::One(*one),
        [..] => Resolved::Ambiguous(candidates),
    })
}

/// The column `short` of the ids that end with `text`.
fn short_of_text(text: &str) -> Option<i64> {
    let end = &text[text.len().checked_sub(SHORT_ID_LENGTH)?..];
    let padded: JobId = format!("{end:0>26}").parse().ok()?;
    Some(short_of(padded))
}

pub(super) fn by_id(connection: &Connection, id: JobId) -> Result<Option<JobRow>, ReadError> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLES} WHERE j.id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query([id.0])?;
    found.next()?.map(read).transpose()
}

/// Jobs that have not ended, in order of submission.
pub(super) fn live(connection: &Connection) -> Result<Vec<JobRow>, ReadError> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLES} WHERE j.ended IS NULL ORDER BY j.seq");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(read(row)?);
    }
    Ok(all)
}

pub(super) fn list(
    connection: &Connection,
    query: &JobQuery,
) -> Result<Page<JobRow, JobId>, ReadError> {
    let limit = query.limit.max(1);
    let (sql, values) = list_statement(query, limit);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(params_from_iter(values))?;
    let mut rows = Vec::new();
    let mut next = None;
    while let Some(row) = found.next()? {
        if rows.len() == usize::try_from(limit).unwrap_or(usize::MAX) {
            next = rows.last().map(|last: &JobRow| last.job.id);
            break;
        }
        rows.push(read(row)?);
    }
    Ok(Page { rows, next })
}

/// Conditions that all hold, each with its values.
#[derive(Debug, Default)]
struct Conditions {
    all: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    fn add(&mut self, condition: impl Into<String>, values: impl IntoIterator<Item = Value>) {
        self.all.push(condition.into());
        self.values.extend(values);
    }
}

/// The filters that are given; one row more than the page has, to know whether there is another page.
pub(super) fn list_statement(query: &JobQuery, limit: u32) -> (String, Vec<Value>) {
    let JobQuery {
        team,
        states,
        outcomes,
        labels,
        name,
        digest,
        before,
        limit: _,
    } = query;
    let mut wanted = Conditions::default();
    let digest = digest.map(|digest| Value::Blob(digest.as_bytes().to_vec()));
    let (mut table, mut id) = ("job j", "j.id");
    if !states.is_empty() && !states.contains(&JobState::Ended) {
        // Otherwise the planner might walk the whole history for a handful of live jobs.
        table = "job j INDEXED BY job_live";
        wanted.add("j.ended IS NULL", []);
        if let Some(digest) = digest {
            let listed = "EXISTS (SELECT 1 FROM job_digest WHERE digest = ? AND job = j.id)";
            wanted.add(listed, [digest]);
        }
    } else if let Some(digest) = digest {
        // In the index's own order, so that a page reads no more than it shows.
        (table, id) = ("job_digest d CROSS JOIN job j ON j.id = d.job", "d.job");
        wanted.add("d.digest = ?", [digest]);
    }
    if let Some(team) = team {
        wanted.add("j.team = ?", [Value::Text(team.to_string())]);
    }
    if let Some(before) = before {
        let before = Value::Blob(before.0.as_bytes().to_vec());
        wanted.add(format!("{id} < ?"), [before]);
    }
    if let Some(name) = name {
        wanted.add("j.name = ?", [Value::Text(name.clone())]);
    }
    if !states.is_empty() {
        let any: Vec<_> = states.iter().map(|state| state_condition(*state)).collect();
        wanted.add(format!("({})", any.join(" OR ")), []);
    }
    if !outcomes.is_empty() {
        let marks = vec!["?"; outcomes.len()].join(", ");
        let words = outcomes
            .iter()
            .map(|outcome: &Outcome| Value::Text(outcome.as_str().to_owned()));
        wanted.add(format!("j.outcome IN ({marks})"), words);
    }
    for (label, value) in labels {
        let condition = "(SELECT l.value FROM json_each(b.labels) l WHERE l.key = ?) = ?";
        let both = [Value::Text(label.clone()), Value::Text(value.clone())];
        wanted.add(condition, both);
    }
    let Conditions { all, mut values } = wanted;
    values.push(Value::Integer(i64::from(limit) + 1));
    let filter = if all.is_empty() {
        "TRUE".to_owned()
    } else {
        all.join(" AND ")
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM {table} JOIN job_body b ON b.job = j.seq \
         WHERE {filter} ORDER BY {id} DESC LIMIT ?"
    );
    (sql, values)
}

const fn state_condition(state: JobState) -> &'static str {
    match state {
        JobState::Pending => "(j.ended IS NULL AND j.started IS NULL)",
        JobState::Running => "(j.ended IS NULL AND j.started IS NOT NULL)",
        JobState::Ended => "j.ended IS NOT NULL",
    }
}
