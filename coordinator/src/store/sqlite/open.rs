//! Opening: connections, the schema, and the term that begins with it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_core::ids::Term;
use muster_failpoint::{self as failpoint, Point};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};
use uuid::{Builder, Uuid};

use crate::store::{Identity, ReadError, Revision, rows};

/// The schema, step by step. A step never changes once it is released.
pub(super) const MIGRATIONS: [&str; 10] = [
    include_str!("../migrations/0001_initial.sql"),
    include_str!("../migrations/0002_quarantine.sql"),
    include_str!("../migrations/0003_restored.sql"),
    include_str!("../migrations/0004_rollouts.sql"),
    include_str!("../migrations/0005_passed_over.sql"),
    include_str!("../migrations/0006_grown_memory.sql"),
    include_str!("../migrations/0007_warm.sql"),
    include_str!("../migrations/0008_carried_policy.sql"),
    include_str!("../migrations/0009_job_digest.sql"),
    include_str!("../migrations/0010_following.sql"),
];
/// Pages in the write-ahead log before they are copied into the database: 32 MiB. Tasks change several
/// times within that much, so most of their pages are copied once.
const CHECKPOINT_PAGES: u32 = 8192;
/// KiB of pages in memory; taken only as they are used.
const WRITER_CACHE: u32 = 16 << 10;
const READER_CACHE: u32 = 2 << 10;
/// Statements that stay prepared on a connection.
const STATEMENTS: usize = 64;
/// Readers wait for nobody in WAL mode, except for the moment in which a log is reset.
const BUSY: Duration = Duration::from_secs(5);

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is in use by {holder}", path.display())]
    InUse { path: PathBuf, holder: String },
    #[error("cannot use {} as data directory", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error(
        "the store has schema {found} and this muster knows up to {known}: \
         a newer muster wrote it, so run that one or a newer one"
    )]
    Newer { found: usize, known: usize },
    #[error(
        "{} was being replaced when a restore was interrupted: run the same muster coordinator restore again",
        path.display()
    )]
    HalfRestored { path: PathBuf },
    #[error("the database cannot be opened")]
    Engine { source: rusqlite::Error },
    #[error("the database cannot be read")]
    Read { source: ReadError },
    #[error("no random bytes for the cluster's id")]
    Random,
}

impl From<rusqlite::Error> for OpenError {
    fn from(source: rusqlite::Error) -> Self {
        Self::Engine { source }
    }
}

/// For the only writer of a database: what is committed survives a loss of power.
pub(crate) fn writing(path: &Path) -> Result<Connection, OpenError> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // NORMAL would lose the last commits with the machine's power.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    tune(&connection, WRITER_CACHE)?;
    Ok(connection)
}

pub(crate) fn reading(path: &Path) -> Result<Connection, OpenError> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    tune(&connection, READER_CACHE)?;
    Ok(connection)
}

fn tune(connection: &Connection, cache: u32) -> Result<(), OpenError> {
    connection.pragma_update(None, "cache_size", -i64::from(cache))?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

/// What a database's schema is to this version.
pub(super) enum Schema {
    /// The newest, or one that `migrate` brings there.
    Known,
    Newer {
        found: usize,
        known: usize,
    },
}

pub(super) fn schema_of(connection: &Connection) -> rusqlite::Result<Schema> {
    let (found, known) = (version_of(connection)?, MIGRATIONS.len());
    if found > known {
        return Ok(Schema::Newer { found, known });
    }
    Ok(Schema::Known)
}

fn version_of(connection: &Connection) -> rusqlite::Result<usize> {
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

pub(super) fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    if let Schema::Newer { found, known } = schema_of(connection)? {
        return Err(OpenError::Newer { found, known });
    }
    let found = version_of(connection)?;
    for (version, sql) in (1u32..).zip(MIGRATIONS).skip(found) {
        let step = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
        step.execute_batch(sql)?;
        step.pragma_update(None, "user_version", version)?;
        step.commit()?;
    }
    Ok(())
}

/// Raises the term, and names the cluster the first time.
pub(super) fn begin_term(connection: &mut Connection) -> Result<(Identity, Revision), OpenError> {
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let stored = change
        .query_row("SELECT cluster, term, rev FROM meta", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let (cluster, term, rev): (Uuid, i64, i64) = match stored {
        Some(stored) => stored,
        None => (random_uuid()?, 0, 0),
    };
    let read = |source| OpenError::Read { source };
    let term = rows::unsigned("a term", term).map_err(read)? + 1;
    let newest = rows::unsigned("a revision", rev).map_err(read)?;
    change.execute(
        "INSERT INTO meta (only, cluster, term, rev) VALUES (1, ?1, ?2, ?3) \
         ON CONFLICT (only) DO UPDATE SET term = excluded.term",
        params![cluster, rows::signed(term), rev],
    )?;
    change.commit()?;
    failpoint::hit(Point::TermRaised);
    Ok((
        Identity {
            cluster,
            term: Term(term),
        },
        Revision(newest),
    ))
}

fn random_uuid() -> Result<Uuid, OpenError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| OpenError::Random)?;
    Ok(Builder::from_random_bytes(bytes).into_uuid())
}
