//! Rows of agents.

use std::collections::BTreeSet;

use muster_core::agent::{Agent, Capacity, HeldImage, Link, Profile, Schedulable};
use muster_core::ids::{AgentId, PoolName, SessionNo};
use muster_core::image::{Digest, Image};
use muster_core::spec::Resources;
use muster_core::time::Timestamp;
use rusqlite::{Connection, Row, params};

use super::columns::Columns;
use crate::store::{ReadError, rows};

const UPSERT: &str = "INSERT OR REPLACE INTO agent (id, pool, labels, cpu_millis, memory_bytes, pids, gpus, \
    custom, places, version, engine, boot_id, link, session, since, lost_at, schedulable, reason, \
    deadline, last_contact, held) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, \
    ?15, ?16, ?17, ?18, ?19, ?20, ?21)";
const SET_LINK: &str = "UPDATE agent SET link = ?2, session = ?3, since = ?4, lost_at = ?5, last_contact = ?6 WHERE id = ?1";
const SET_SCHEDULABLE: &str =
    "UPDATE agent SET schedulable = ?2, reason = ?3, deadline = ?4 WHERE id = ?1";
const ALL: &str = "SELECT id, pool, labels, cpu_millis, memory_bytes, pids, gpus, custom, places, version, \
    engine, boot_id, link, session, since, lost_at, schedulable, reason, deadline, last_contact, held \
    FROM agent ORDER BY id";

#[cfg(test)]
pub(super) const STATEMENTS: [&str; 4] = [UPSERT, SET_LINK, SET_SCHEDULABLE, ALL];

pub(super) fn upsert(connection: &Connection, agent: &Agent) -> rusqlite::Result<()> {
    // `live` and `reserved` follow from the tasks' rows, `digests` from `held`.
    let Agent {
        id,
        profile,
        link,
        schedulable,
        last_contact,
        live: _,
        reserved: _,
        held,
        digests: _,
    } = agent;
    let Profile {
        pool,
        labels,
        capacity,
        version,
        engine,
        boot_id,
        // Each Hello tells these, and nothing is placed on an agent before that.
        leases: _,
        platform: _,
    } = profile;
    let Capacity { resources, places } = capacity;
    let Resources {
        cpu_millis,
        memory_bytes,
        pids,
        gpus,
        custom,
    } = resources;
    let (link, session, since, lost_at) = link_columns(*link);
    let (schedulable, reason, deadline) = schedulable_columns(schedulable);
    connection.prepare_cached(UPSERT)?.execute(params![
        id.as_str(),
        pool.as_str(),
        rows::map_to_json(labels),
        cpu_millis,
        rows::signed(*memory_bytes),
        pids,
        gpus,
        rows::map_to_json(custom),
        places,
        version,
        engine,
        boot_id,
        link,
        session,
        since,
        lost_at,
        schedulable,
        reason,
        deadline,
        rows::signed(last_contact.0),
        rows::held_to_json(held),
    ])?;
    Ok(())
}

pub(super) fn set_link(
    connection: &Connection,
    agent: &AgentId,
    link: Link,
    last_contact: Timestamp,
) -> rusqlite::Result<()> {
    let (link, session, since, lost_at) = link_columns(link);
    let contact = rows::signed(last_contact.0);
    let values = params![agent.as_str(), link, session, since, lost_at, contact];
    super::exactly_one(connection.prepare_cached(SET_LINK)?.execute(values)?)
}

pub(super) fn set_schedulable(
    connection: &Connection,
    agent: &AgentId,
    schedulable: &Schedulable,
) -> rusqlite::Result<()> {
    let (schedulable, reason, deadline) = schedulable_columns(schedulable);
    let values = params![agent.as_str(), schedulable, reason, deadline];
    super::exactly_one(
        connection
            .prepare_cached(SET_SCHEDULABLE)?
            .execute(values)?,
    )
}

/// `link`, `session`, `since`, `lost_at`.
fn link_columns(link: Link) -> (&'static str, Option<i64>, Option<i64>, Option<i64>) {
    let time = |at: Timestamp| Some(rows::signed(at.0));
    match link {
        Link::Online { session } => ("online", Some(rows::signed(session.0)), None, None),
        Link::Unreachable { since, lost_at } => ("unreachable", None, time(since), time(lost_at)),
        Link::Lost { since } => ("lost", None, time(since), None),
    }
}

/// `schedulable`, `reason`, `deadline`.
fn schedulable_columns(schedulable: &Schedulable) -> (&'static str, Option<&str>, Option<i64>) {
    match schedulable {
        Schedulable::Yes => ("yes", None, None),
        Schedulable::Cordoned { reason, until } => {
            ("cordoned", Some(reason), until.map(|at| rows::signed(at.0)))
        }
        Schedulable::Draining { reason, deadline } => (
            "draining",
            Some(reason),
            deadline.map(|at| rows::signed(at.0)),
        ),
    }
}

pub(super) fn list(connection: &Connection) -> Result<Vec<Agent>, ReadError> {
    let mut statement = connection.prepare_cached(ALL)?;
    let mut found = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(read(row)?);
    }
    Ok(all)
}

fn read(row: &Row<'_>) -> Result<Agent, ReadError> {
    let mut columns = Columns::of(row);
    let columns = &mut columns;
    let id = columns.named("an agent", AgentId::parse)?;
    let pool = columns.named("a pool", PoolName::parse)?;
    let labels = columns.text(rows::map_from_json)?;
    let resources = Resources {
        cpu_millis: columns.take()?,
        memory_bytes: columns.number("an amount of memory")?,
        pids: columns.take()?,
        gpus: columns.take()?,
        custom: columns.text(rows::map_from_json)?,
    };
    let capacity = Capacity {
        resources,
        places: columns.take()?,
    };
    let (version, engine, boot_id) = (columns.take()?, columns.take()?, columns.take()?);
    let link = read_link(columns)?;
    let schedulable = read_schedulable(columns)?;
    let last_contact = columns.time()?;
    let held = columns.text(rows::held_from_json)?;
    Ok(Agent {
        id,
        profile: Profile {
            pool,
            labels,
            capacity,
            version,
            engine,
            boot_id,
            leases: false,
            platform: String::new(),
        },
        link,
        schedulable,
        last_contact,
        live: BTreeSet::new(),
        reserved: Capacity::default(),
        digests: digests(&held),
        held,
    })
}

fn digests(held: &[HeldImage]) -> BTreeSet<Digest> {
    let names = |HeldImage {
                     id,
                     images,
                     tags: _,
                 }: &HeldImage| {
        let images: Vec<_> = images.iter().map(Image::digest).collect();
        [*id].into_iter().chain(images)
    };
    held.iter().flat_map(names).collect()
}

fn read_link(columns: &mut Columns<'_>) -> Result<Link, ReadError> {
    let word: String = columns.take()?;
    let session = columns.maybe_number("a session")?.map(SessionNo);
    let since = columns.maybe_time()?;
    let lost_at = columns.maybe_time()?;
    match (word.as_str(), session, since, lost_at) {
        ("online", Some(session), None, None) => Ok(Link::Online { session }),
        ("unreachable", None, Some(since), Some(lost_at)) => {
            Ok(Link::Unreachable { since, lost_at })
        }
        ("lost", None, Some(since), None) => Ok(Link::Lost { since }),
        _ => Err(rows::corrupt("an agent's link", &word)),
    }
}

fn read_schedulable(columns: &mut Columns<'_>) -> Result<Schedulable, ReadError> {
    let word: String = columns.take()?;
    let reason: Option<String> = columns.take()?;
    let deadline = columns.maybe_time()?;
    match (word.as_str(), reason) {
        ("yes", None) => Ok(Schedulable::Yes),
        ("cordoned", Some(reason)) => Ok(Schedulable::Cordoned {
            reason,
            until: deadline,
        }),
        ("draining", Some(reason)) => Ok(Schedulable::Draining { reason, deadline }),
        _ => Err(rows::corrupt("whether an agent is schedulable", &word)),
    }
}
