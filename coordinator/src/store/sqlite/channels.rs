//! Rows of channels and of their releases.

use muster_core::channel::{Cause, Channel, ChannelId, Release};
use muster_core::ids::{ChannelName, TeamName};
use muster_core::image::Tag;
use rusqlite::{Connection, Row, params};

use super::columns::Columns;
use crate::store::{ReadError, rows};

const UPSERT: &str = "INSERT OR REPLACE INTO channel (team, name, repository, tag, current, previous, \
    held_back) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const INSERT_RELEASE: &str = "INSERT INTO release (team, channel, number, repository, digest, at, cause, \
    reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING";
const SELECT: &str = "SELECT c.team, c.name, c.repository, c.tag, c.held_back, \
    r.number, r.repository, r.digest, r.at, r.cause, r.reason, \
    p.number, p.repository, p.digest, p.at, p.cause, p.reason FROM channel c \
    JOIN release r ON r.team = c.team AND r.channel = c.name AND r.number = c.current \
    LEFT JOIN release p ON p.team = c.team AND p.channel = c.name AND p.number = c.previous";
const HISTORY: &str = "SELECT number, repository, digest, at, cause, reason FROM release \
    WHERE team = ?1 AND channel = ?2 ORDER BY number DESC LIMIT ?3";
const RELEASE: &str = "SELECT number, repository, digest, at, cause, reason FROM release \
    WHERE team = ?1 AND channel = ?2 AND number = ?3";

#[cfg(test)]
pub(super) const STATEMENTS: [&str; 5] = [UPSERT, INSERT_RELEASE, SELECT, HISTORY, RELEASE];

/// Writes the releases that the channel names too: its row refers to them.
pub(super) fn upsert(connection: &Connection, channel: &Channel) -> rusqlite::Result<()> {
    let Channel {
        id,
        repository,
        tag,
        current,
        previous,
        held_back,
    } = channel;
    for release in previous.iter().chain([current]) {
        insert_release(connection, id, release)?;
    }
    connection.prepare_cached(UPSERT)?.execute(params![
        id.team.as_str(),
        id.name.as_str(),
        repository.to_string(),
        tag.as_str(),
        rows::signed(current.number),
        previous
            .as_ref()
            .map(|release| rows::signed(release.number)),
        held_back.map(|digest| digest.to_string()),
    ])?;
    Ok(())
}

/// A release never changes once it is made.
pub(super) fn insert_release(
    connection: &Connection,
    channel: &ChannelId,
    release: &Release,
) -> rusqlite::Result<()> {
    let Release {
        number,
        repository,
        digest,
        at,
        cause,
        reason,
    } = release;
    connection.prepare_cached(INSERT_RELEASE)?.execute(params![
        channel.team.as_str(),
        channel.name.as_str(),
        rows::signed(*number),
        repository.to_string(),
        digest.to_string(),
        rows::signed(at.0),
        cause.as_str(),
        reason,
    ])?;
    Ok(())
}

pub(super) fn list(
    connection: &Connection,
    team: Option<&TeamName>,
) -> Result<Vec<Channel>, ReadError> {
    let sql = format!("{SELECT} WHERE ?1 IS NULL OR c.team = ?1 ORDER BY c.team, c.name");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query([team.map(TeamName::as_str)])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(read(row)?);
    }
    Ok(all)
}

pub(super) fn by_id(connection: &Connection, id: &ChannelId) -> Result<Option<Channel>, ReadError> {
    let sql = format!("{SELECT} WHERE c.team = ?1 AND c.name = ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query([id.team.as_str(), id.name.as_str()])?;
    found.next()?.map(read).transpose()
}

pub(super) fn history(
    connection: &Connection,
    channel: &ChannelId,
    limit: u32,
) -> Result<Vec<Release>, ReadError> {
    let mut statement = connection.prepare_cached(HISTORY)?;
    let values = params![channel.team.as_str(), channel.name.as_str(), limit];
    let mut found = statement.query(values)?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(read_release(&mut Columns::of(row))?);
    }
    Ok(all)
}

pub(super) fn release(
    connection: &Connection,
    channel: &ChannelId,
    number: u64,
) -> Result<Option<Release>, ReadError> {
    let mut statement = connection.prepare_cached(RELEASE)?;
    let values = params![
        channel.team.as_str(),
        channel.name.as_str(),
        rows::signed(number)
    ];
    let mut found = statement.query(values)?;
    found
        .next()?
        .map(|row| read_release(&mut Columns::of(row)))
        .transpose()
}

fn read(row: &Row<'_>) -> Result<Channel, ReadError> {
    let mut columns = Columns::of(row);
    let columns = &mut columns;
    let team = columns.named("a team", TeamName::parse)?;
    let name = columns.named("a channel", ChannelName::parse)?;
    let repository = columns.parsed("a repository")?;
    let tag = columns.named("a tag", Tag::parse)?;
    let held_back: Option<String> = columns.take()?;
    let held_back = held_back
        .map(|text| rows::parsed("a digest", &text))
        .transpose()?;
    let current = read_release(columns)?;
    // The six columns of the previous release begin at 11 and are all NULL if there is none.
    let previous = match row.get_ref(11)? {
        rusqlite::types::ValueRef::Null => None,
        _ => Some(read_release(columns)?),
    };
    let id = ChannelId { team, name };
    Ok(Channel {
        id,
        repository,
        tag,
        current,
        previous,
        held_back,
    })
}

fn read_release(columns: &mut Columns<'_>) -> Result<Release, ReadError> {
    Ok(Release {
        number: columns.number("a release")?,
        repository: columns.parsed("a repository")?,
        digest: columns.parsed("a digest")?,
        at: columns.time()?,
        cause: columns.text(|word| {
            Cause::from_word(word).ok_or_else(|| rows::corrupt("the cause of a release", &word))
        })?,
        reason: columns.take()?,
    })
}
