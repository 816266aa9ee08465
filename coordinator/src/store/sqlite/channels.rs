//! Rows of channels and of their releases.

use muster_core::channel::{Cause, Channel, ChannelId, Following, PollInterval, Release, Warm};
use muster_core::ids::{ChannelName, CredentialsName, TeamName};
use muster_core::image::{Digest, Tag};
use muster_core::rollout::policy::Policy;
use muster_core::time::Millis;
use muster_proto::v1 as pb;
use prost::Message;
use rusqlite::{Connection, Row, params};

use super::columns::Columns;
use crate::api::convert::rollouts::{policy_from_wire, policy_to_wire};
use crate::store::{ReadError, rows};

const UPSERT: &str = "INSERT OR REPLACE INTO channel (team, name, repository, tag, current, previous, \
    held_back, passed_over, policy, unpromoted, warm_min, warm_max, poll, credentials) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
const INSERT_RELEASE: &str = "INSERT INTO release (team, channel, number, repository, digest, at, cause, \
    reason, by, revision, created, policy) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
    ON CONFLICT DO NOTHING";
const SELECT: &str = "SELECT c.team, c.name, c.repository, c.tag, c.held_back, c.passed_over, c.policy, \
    c.unpromoted, c.warm_min, c.warm_max, c.poll, c.credentials, \
    r.number, r.repository, r.digest, r.at, r.cause, r.reason, r.by, r.revision, r.created, r.policy, p.number, p.repository, p.digest, p.at, p.cause, p.reason, p.by, \
    p.revision, p.created, p.policy FROM channel c \
    JOIN release r ON r.team = c.team AND r.channel = c.name AND r.number = c.current \
    LEFT JOIN release p ON p.team = c.team AND p.channel = c.name AND p.number = c.previous";
const HISTORY: &str = "SELECT number, repository, digest, at, cause, reason, by, revision, created, policy \
    FROM release WHERE team = ?1 AND channel = ?2 ORDER BY number DESC LIMIT ?3";
const RELEASE: &str = "SELECT number, repository, digest, at, cause, reason, by, revision, created, policy \
    FROM release WHERE team = ?1 AND channel = ?2 AND number = ?3";
/// In `SELECT`, the first column of the previous release: all of them are NULL if there is none.
const PREVIOUS: usize = 22;

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
        passed_over,
        policy,
        unpromoted,
        warm,
        following: Following { poll, credentials },
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
        passed_over.map(|digest| digest.to_string()),
        policy_to_wire(policy).encode_to_vec(),
        rows::numbers_to_json(unpromoted),
        warm.min(),
        warm.max(),
        poll.map(|interval| rows::signed(interval.span().0)),
        credentials.as_ref().map(CredentialsName::as_str),
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
        by,
        revision,
        created,
        policy,
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
        by,
        revision,
        created,
        policy
            .as_deref()
            .map(|policy| policy_to_wire(policy).encode_to_vec()),
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
    let held_back = read_digest(columns.take()?)?;
    let passed_over = read_digest(columns.take()?)?;
    let policy = read_policy(columns.take()?)?;
    let unpromoted = columns.text(rows::numbers_from_json)?;
    let warm = read_warm(columns.take()?, columns.take()?)?;
    let following = Following {
        poll: read_poll(columns.maybe_number("a span")?)?,
        credentials: read_credentials(columns.take()?)?,
    };
    let current = read_release(columns)?;
    let previous = match row.get_ref(PREVIOUS)? {
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
        passed_over,
        policy,
        unpromoted,
        warm,
        following,
    })
}

fn read_poll(column: Option<u64>) -> Result<Option<PollInterval>, ReadError> {
    let read = |span| PollInterval::new(Millis(span));
    let interval = column.map(read).transpose();
    interval.map_err(|bad| rows::corrupt("how often a tag is looked at", &bad))
}

fn read_credentials(column: Option<String>) -> Result<Option<CredentialsName>, ReadError> {
    let name = column.map(|text| CredentialsName::parse(&text)).transpose();
    name.map_err(|bad| rows::corrupt("a name of credentials", &bad))
}

fn read_digest(column: Option<String>) -> Result<Option<Digest>, ReadError> {
    let parsed = column.map(|text| rows::parsed("a digest", &text));
    parsed.transpose()
}

fn read_warm(min: u32, max: u32) -> Result<Warm, ReadError> {
    Warm::new(min, max).map_err(|bad| rows::corrupt("how many containers wait", &bad))
}

/// NULL: the row is of a version that knew no policies.
fn read_policy(column: Option<Vec<u8>>) -> Result<Policy, ReadError> {
    column.map_or_else(|| Ok(Policy::default()), |bytes| decode_policy(&bytes))
}

fn decode_policy(bytes: &[u8]) -> Result<Policy, ReadError> {
    let bad = || rows::corrupt("a policy", &"bytes of another kind");
    let wire = pb::RolloutPolicy::decode(bytes).map_err(|_| bad())?;
    policy_from_wire(&wire).map_err(|_| bad())
}

fn read_release(columns: &mut Columns<'_>) -> Result<Release, ReadError> {
    let carried = |bytes: Option<Vec<u8>>| bytes.map(|bytes| decode_policy(&bytes)).transpose();
    Ok(Release {
        number: columns.number("a release")?,
        repository: columns.parsed("a repository")?,
        digest: columns.parsed("a digest")?,
        at: columns.time()?,
        cause: columns.text(|word| {
            Cause::from_word(word).ok_or_else(|| rows::corrupt("the cause of a release", &word))
        })?,
        reason: columns.take()?,
        by: columns.take()?,
        revision: columns.take()?,
        created: columns.take()?,
        policy: carried(columns.take()?)?.map(Box::new),
    })
}
