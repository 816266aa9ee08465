//! Which jobs have attempts on an image.

use muster_core::ids::JobId;
use muster_core::image::{Digest, DigestPrefix};
use rusqlite::{Connection, params};

use crate::store::ReadError;

const INSERT: &str = "INSERT INTO job_digest (digest, job) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
/// A step of a walk over the digests that there are, however many jobs each has.
const FROM: &str = "SELECT min(digest) FROM job_digest WHERE digest >= ?1 AND digest <= ?2";
const AFTER: &str = "SELECT min(digest) FROM job_digest WHERE digest > ?1 AND digest <= ?2";

#[cfg(test)]
pub(super) const STATEMENTS: [&str; 3] = [INSERT, FROM, AFTER];

pub(super) fn insert(connection: &Connection, digest: Digest, job: JobId) -> rusqlite::Result<()> {
    let values = params![digest.as_bytes(), job.0];
    connection.prepare_cached(INSERT)?.execute(values)?;
    Ok(())
}

/// The smallest two digests of the range.
pub(super) fn find(
    connection: &Connection,
    prefix: DigestPrefix,
) -> Result<Vec<Digest>, ReadError> {
    let DigestPrefix { first, last } = prefix;
    let step = |sql, from: Digest| -> Result<Option<Digest>, ReadError> {
        let mut statement = connection.prepare_cached(sql)?;
        let values = params![from.as_bytes(), last.as_bytes()];
        let found: Option<[u8; 32]> = statement.query_row(values, |row| row.get(0))?;
        Ok(found.map(Digest::from_bytes))
    };
    let Some(smallest) = step(FROM, first)? else {
        return Ok(Vec::new());
    };
    let next = step(AFTER, smallest)?;
    Ok([Some(smallest), next].into_iter().flatten().collect())
}
