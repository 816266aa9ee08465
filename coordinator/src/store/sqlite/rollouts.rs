//! Rows of rollouts, and the attempts that their gates remember.

use muster_core::channel::ChannelId;
use muster_core::event::Restored;
use muster_core::ids::{JobName, TeamName};
use muster_core::outcome::{End, EndReason};
use muster_core::rollout::gate::{Judgement, Ran, judge};
use muster_core::rollout::{Rollout, State};
use muster_proto::v1 as pb;
use prost::Message;
use rusqlite::{Connection, Row, params};

use super::columns::Columns;
use crate::api::convert::rollouts::{rollout_from_wire, rollout_to_wire};
use crate::store::{ReadError, rows};

const UPSERT: &str = "INSERT INTO rollout (team, channel, release, ended, body) \
    VALUES (?1, ?2, ?3, ?4, ?5) \
    ON CONFLICT (team, channel, release) DO UPDATE SET ended = excluded.ended, body = excluded.body";
const ACTIVE: &str = "SELECT body FROM rollout WHERE ended IS NULL ORDER BY team, channel";
const LIST: &str = "SELECT body FROM rollout WHERE team = ?1 AND channel = ?2 \
    ORDER BY release DESC LIMIT ?3";
const ONE: &str = "SELECT body FROM rollout WHERE team = ?1 AND channel = ?2 AND release = ?3";
/// Of the newest jobs, and not more than a start can afford to read.
const RAN: &str = "SELECT j.team, j.name, a.outcome, a.reason, a.run, a.peak_memory \
    FROM (SELECT id, team, name FROM job ORDER BY seq DESC LIMIT 1000) j \
    JOIN attempt a ON a.job = j.id WHERE a.release IS NOT NULL AND a.ended IS NOT NULL LIMIT 20000";

#[cfg(test)]
pub(super) const STATEMENTS: [&str; 5] = [UPSERT, ACTIVE, LIST, ONE, RAN];

pub(super) fn upsert(connection: &Connection, rollout: &Rollout) -> rusqlite::Result<()> {
    let ended = match &rollout.state {
        State::Active { .. } => None,
        State::Ended { at, .. } => Some(rows::signed(at.0)),
    };
    let id = &rollout.channel;
    connection.prepare_cached(UPSERT)?.execute(params![
        id.team.as_str(),
        id.name.as_str(),
        rows::signed(rollout.to.number),
        ended,
        rollout_to_wire(rollout).encode_to_vec(),
    ])?;
    Ok(())
}

pub(super) fn active(connection: &Connection) -> Result<Vec<Rollout>, ReadError> {
    let mut statement = connection.prepare_cached(ACTIVE)?;
    let mut found = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(read(row)?);
    }
    Ok(all)
}

/// Newest first.
pub(super) fn list(
    connection: &Connection,
    channel: &ChannelId,
    limit: u32,
) -> Result<Vec<Rollout>, ReadError> {
    let mut statement = connection.prepare_cached(LIST)?;
    let values = params![channel.team.as_str(), channel.name.as_str(), limit];
    let mut found = statement.query(values)?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(read(row)?);
    }
    Ok(all)
}

pub(super) fn one(
    connection: &Connection,
    channel: &ChannelId,
    release: u64,
) -> Result<Option<Rollout>, ReadError> {
    let mut statement = connection.prepare_cached(ONE)?;
    let values = params![
        channel.team.as_str(),
        channel.name.as_str(),
        rows::signed(release)
    ];
    let mut found = statement.query(values)?;
    found.next()?.map(read).transpose()
}

/// The last attempts of jobs that followed a channel, oldest first.
pub(super) fn ran(connection: &Connection) -> Result<Vec<Restored>, ReadError> {
    let mut statement = connection.prepare_cached(RAN)?;
    let mut found = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.extend(read_ran(row)?);
    }
    all.reverse();
    Ok(all)
}

fn read(row: &Row<'_>) -> Result<Rollout, ReadError> {
    let bad = || rows::corrupt("a rollout", &"bytes of another kind");
    let bytes = row.get_ref(0)?.as_blob().map_err(|_| bad())?;
    let wire = pb::Rollout::decode(bytes).map_err(|_| bad())?;
    rollout_from_wire(wire).ok_or_else(bad)
}

/// `None` if the end says nothing about the image.
fn read_ran(row: &Row<'_>) -> Result<Option<Restored>, ReadError> {
    let mut columns = Columns::of(row);
    let team = columns.named("a team", TeamName::parse)?;
    let name = columns.named("a job", JobName::parse)?;
    let outcome = columns.text(rows::outcome)?;
    let reason: Option<String> = columns.take()?;
    let reason = EndReason::from_word(reason.as_deref().unwrap_or_default());
    let run = columns.maybe_span()?.unwrap_or_default();
    let peak_memory = columns.maybe_number("a size")?;
    let judgement = judge(&End::of(outcome, reason));
    let ran = Ran {
        good: judgement == Judgement::Good,
        run,
        peak_memory,
    };
    let counts = judgement != Judgement::Nothing;
    Ok(counts.then_some(Restored::Ran { team, name, ran }))
}
