//! Copies of the store: made while it is used or not, checked, and put in its place.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use muster_core::ids::AttemptNo;
use muster_core::safe_mode::SafeMode;
use muster_core::time::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{FILE, Lock, OpenError, open, safe_mode};
use crate::store::rows;

/// Where a copy is made before it is sent.
const COPY: &str = "backup.tmp";
/// Where a copy is checked and marked before it replaces the database.
const INCOMING: &str = "muster.db.incoming";
/// While this file is there, the database may be half replaced.
pub(super) const REPLACING: &str = "restoring";
/// What SQLite keeps beside a database.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];
/// Milliseconds from the Unix epoch to the year 2026: fences count seconds from there, so that they fit
/// their 32 bits for 136 years.
const FENCES_BEGIN: u64 = 1_767_225_600_000;
/// Revisions that the original may have made after the backup.
const REVISIONS_AHEAD: u64 = 1 << 32;

const META: &str = "SELECT cluster, term, rev FROM meta";
const FENCE: &str = "SELECT coalesce(max(fence), 0) FROM job";

/// Why a copy could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("another backup is being made")]
    Busy,
    #[error("the store could not be opened")]
    Open { source: OpenError },
    #[error("{} could not be written", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the copy could not be made")]
    Engine { source: rusqlite::Error },
    #[error("the copy can't be used")]
    Bad { source: BadCopy },
}

/// Why a file is no copy of a store that this version can use.
#[derive(Debug, thiserror::Error)]
pub enum BadCopy {
    #[error("{} is no database", path.display())]
    NoDatabase {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("{} is damaged: {problem}", path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error("{} is a database, but not a muster store", path.display())]
    NoStore { path: PathBuf },
    #[error(
        "{} has schema {found} and this muster knows up to {known}: use the muster that made it, or a newer one",
        path.display()
    )]
    Newer {
        path: PathBuf,
        found: usize,
        known: usize,
    },
}

/// Why a store was not restored. The one that was there is untouched, unless a file could not be moved:
/// then the message names it, and the same command again goes on.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the data directory can't be used")]
    Directory { source: OpenError },
    #[error("{} could not be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the copy can't be used")]
    Bad { source: BadCopy },
    #[error("the copy could not be marked as restored")]
    Mark { source: OpenError },
    #[error("{} could not be moved", path.display())]
    Move { path: PathBuf, source: io::Error },
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreDone {
    /// When the backup was made, if it says so.
    pub backup: Option<Timestamp>,
    /// Where the database went that was there before, with its companions.
    pub aside: Vec<PathBuf>,
    /// Jobs in the copy that have not ended.
    pub live_jobs: u64,
}

/// Makes copies of a store that is in use, one at a time.
#[derive(Debug, Clone)]
pub struct Backups {
    directory: PathBuf,
    turn: Arc<Semaphore>,
}

/// A finished copy. The file has no name any more and is gone when this is dropped.
#[derive(Debug)]
pub struct Copy {
    pub file: File,
    _turn: OwnedSemaphorePermit,
}

impl Backups {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// A copy of everything that is committed now. Readers and the writer go on.
    ///
    /// # Errors
    /// If another one is being made, or if the disk has no room for one.
    pub async fn make(&self) -> Result<Copy, BackupError> {
        let turn = self.turn.clone().try_acquire_owned();
        let turn = turn.map_err(|_| BackupError::Busy)?;
        let directory = self.directory.clone();
        let made = tokio::task::spawn_blocking(move || {
            let path = directory.join(COPY);
            copy_into(&directory.join(FILE), &path)?;
            let written = |source| BackupError::Write {
                path: path.clone(),
                source,
            };
            let file = File::open(&path).map_err(written)?;
            fs::remove_file(&path).map_err(written)?;
            Ok(Copy { file, _turn: turn })
        });
        made.await.expect("making a copy does not panic")
    }
}

/// Copies the store of a coordinator that is not running into a file, whole or not at all.
///
/// # Errors
/// If a coordinator uses the directory, if the disk refuses, or if the copy is damaged.
pub fn backup_offline(directory: &Path, file: &Path) -> Result<(), BackupError> {
    let opened = |source| BackupError::Open { source };
    let database = directory.join(FILE);
    if !database.exists() {
        return Err(opened(OpenError::Directory {
            path: directory.to_owned(),
            source: io::Error::new(io::ErrorKind::NotFound, "it has no muster.db"),
        }));
    }
    let _lock = Lock::take(directory).map_err(opened)?;
    let unfinished = unfinished(file);
    copy_into(&database, &unfinished)?;
    finish_backup(&unfinished, file)
}

/// The name of a backup while it is written.
#[must_use]
pub fn unfinished(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

/// Checks a backup that was written under another name, and gives it its own.
///
/// # Errors
/// If it is damaged, or if the disk refuses; then the unfinished file is removed.
pub fn finish_backup(unfinished: &Path, file: &Path) -> Result<(), BackupError> {
    let written = |source| BackupError::Write {
        path: file.to_owned(),
        source,
    };
    let checked = open_copy(unfinished).map_err(|source| BackupError::Bad { source });
    if let Err(error) = checked {
        let _ = fs::remove_file(unfinished); // the first error counts
        return Err(error);
    }
    sync(unfinished).map_err(written)?;
    fs::rename(unfinished, file).map_err(written)?;
    sync_directory_of(file).map_err(written)
}

fn copy_into(database: &Path, copy: &Path) -> Result<(), BackupError> {
    let engine = |source| BackupError::Engine { source };
    match fs::remove_file(copy) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            let path = copy.to_owned();
            return Err(BackupError::Write { path, source });
        }
        Ok(()) | Err(_) => {}
    }
    let source = open::reading(database).map_err(|source| BackupError::Open { source })?;
    let made = source
        .execute("VACUUM INTO ?1", [copy.to_string_lossy()])
        .and_then(|_| stamp(copy));
    made.map_err(|error| {
        let _ = fs::remove_file(copy); // the first error counts
        engine(error)
    })
}

/// Writes into the copy when it was made.
fn stamp(copy: &Path) -> rusqlite::Result<()> {
    let copy = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    copy.execute("UPDATE meta SET backup_at = ?1", [rows::signed(now().0)])?;
    Ok(())
}

/// Puts a copy in the place of a directory's database, and marks it: the next coordinator starts in safe
/// mode, with a term that no other copy has.
///
/// # Errors
/// If a coordinator uses the directory, or if the copy can't be used. Nothing has changed then.
pub fn restore(file: &Path, directory: &Path) -> Result<RestoreDone, RestoreError> {
    let _lock = Lock::take(directory).map_err(|source| RestoreError::Directory { source })?;
    let incoming = directory.join(INCOMING);
    let prepared = prepare(file, &incoming, &directory.join(FILE));
    let (backup, live_jobs) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            remove_database(&incoming);
            return Err(error);
        }
    };
    let aside = replace(&incoming, directory)?;
    Ok(RestoreDone {
        backup,
        aside,
        live_jobs,
    })
}

/// Copies, checks and marks the copy beside the database, which is only looked at.
fn prepare(
    file: &Path,
    incoming: &Path,
    old: &Path,
) -> Result<(Option<Timestamp>, u64), RestoreError> {
    remove_database(incoming);
    let read = |path: &Path| {
        let path = path.to_owned();
        |source| RestoreError::Read { path, source }
    };
    fs::copy(file, incoming).map_err(read(file))?;
    let log = companion(file, "-wal");
    if log.exists() {
        // Somebody copied the files of a store by hand: what is in its log counts.
        fs::copy(&log, companion(incoming, "-wal")).map_err(read(&log))?;
    }
    let copy = open_copy(incoming).map_err(|source| RestoreError::Bad {
        source: source.about(file),
    })?;
    let marked = mark(copy, old).map_err(|source| RestoreError::Mark { source })?;
    sync(incoming).map_err(read(incoming))?;
    Ok(marked)
}

/// Opens a copy as one file, after everything about it was checked.
fn open_copy(path: &Path) -> Result<Connection, BadCopy> {
    let no_database = |source| BadCopy::NoDatabase {
        path: path.to_owned(),
        source,
    };
    if ends_within_a_page(path) {
        let problem = "the file ends within a page".to_owned();
        let path = path.to_owned();
        return Err(BadCopy::Damaged { path, problem });
    }
    let copy = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .map_err(no_database)?;
    // Takes in what is in a log, and needs none from now on.
    copy.pragma_update(None, "journal_mode", "DELETE")
        .map_err(no_database)?;
    copy.pragma_update(None, "synchronous", "FULL")
        .map_err(no_database)?;
    let problem: String = copy
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(no_database)?;
    if problem != "ok" {
        let path = path.to_owned();
        return Err(BadCopy::Damaged { path, problem });
    }
    match open::schema_of(&copy).map_err(no_database)? {
        open::Schema::Known => {}
        open::Schema::Newer { found, known } => {
            let path = path.to_owned();
            return Err(BadCopy::Newer { path, found, known });
        }
    }
    let meta = copy.query_row(META, [], |_| Ok(())).optional();
    match meta {
        Ok(Some(())) => Ok(copy),
        Ok(None) | Err(_) => Err(BadCopy::NoStore {
            path: path.to_owned(),
        }),
    }
}

/// Which `integrity_check` does not notice when the missing bytes happen to be zero. The page size is at
/// byte 16 of the header, big-endian, and 1 stands for 65536: the SQLite file format. What is no database at
/// all is left to SQLite to say.
fn ends_within_a_page(path: &Path) -> bool {
    let mut header = [0; 18];
    let mut read = || -> io::Result<u64> {
        let mut file = File::open(path)?;
        file.read_exact(&mut header)?;
        Ok(file.metadata()?.len())
    };
    let Ok(length) = read() else {
        return false;
    };
    let size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    size > 0 && !length.is_multiple_of(size)
}

impl BadCopy {
    /// The same about the file that somebody named.
    fn about(mut self, file: &Path) -> Self {
        match &mut self {
            Self::NoDatabase { path, .. }
            | Self::Damaged { path, .. }
            | Self::NoStore { path }
            | Self::Newer { path, .. } => file.clone_into(path),
        }
        self
    }
}

/// Raises everything that must not be used twice: the term, the attempts' numbers, the revisions. All
/// but the last follow the clock, so that two restores of one backup differ too.
fn mark(mut copy: Connection, old: &Path) -> Result<(Option<Timestamp>, u64), OpenError> {
    open::migrate(&mut copy)?;
    let now = now();
    let (old_term, old_rev, old_fence) = numbers_of(old).unwrap_or_default();
    let change = copy.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (term, rev, fence) = numbers(&change)?;
    let term = term.max(old_term).max(now.0 / 1000);
    let rev = rev.max(old_rev).saturating_add(REVISIONS_AHEAD);
    let seconds = u32::try_from(now.0.saturating_sub(FENCES_BEGIN) / 1000).unwrap_or(u32::MAX);
    let fence = seconds.max(fence.max(old_fence).saturating_add(1));
    let backup: Option<i64> =
        change.query_row("SELECT backup_at FROM meta", [], |row| row.get(0))?;
    let backup = backup.and_then(|at| u64::try_from(at).ok()).map(Timestamp);
    let why = SafeMode::Restored {
        backup,
        at: now,
        fence: AttemptNo(fence),
    };
    safe_mode::set(&change, Some(&why))?;
    let values = params![rows::signed(term), rows::signed(rev)];
    change.execute("UPDATE meta SET term = ?1, rev = ?2", values)?;
    // The revision too, so that whoever watches one of them sees it as it is now.
    let live = change.execute(
        "UPDATE job SET fence = ?1, rev = ?2 WHERE ended IS NULL",
        params![fence, rows::signed(rev)],
    )?;
    change.commit()?;
    Ok((backup, u64::try_from(live).unwrap_or(u64::MAX)))
}

/// Of the database that is replaced, if it can be read.
fn numbers_of(database: &Path) -> Option<(u64, u64, u32)> {
    if !database.exists() {
        return None;
    }
    let old = open::reading(database).ok()?;
    numbers(&old).ok()
}

/// Term, revision, and the largest fence.
fn numbers(connection: &Connection) -> rusqlite::Result<(u64, u64, u32)> {
    let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
    let (term, rev) = connection.query_row(META, [], |row| Ok((row.get(1)?, row.get(2)?)))?;
    // An older schema has no fences.
    let fence = connection.query_row(FENCE, [], |row| row.get(0));
    Ok((unsigned(term), unsigned(rev), fence.unwrap_or(0)))
}

/// Moves the database aside and the copy into its place. A crash in between leaves a mark that keeps
/// coordinators from starting; the same restore again completes it.
fn replace(incoming: &Path, directory: &Path) -> Result<Vec<PathBuf>, RestoreError> {
    let mark = directory.join(REPLACING);
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| RestoreError::Move { path, source }
    };
    File::create(&mark)
        .and_then(|file| file.sync_all())
        .and_then(|()| sync_directory_of(&mark))
        .map_err(failed(&mark))?;
    let database = directory.join(FILE);
    let mut aside = Vec::new();
    let name = free_name(directory);
    // Its log first: beside another database it would be taken for that one's.
    for end in COMPANIONS.into_iter().chain([""]) {
        let (from, to) = (companion(&database, end), companion(&name, end));
        if from.exists() {
            fs::rename(&from, &to).map_err(failed(&from))?;
            aside.push(to);
        }
    }
    fs::rename(incoming, &database).map_err(failed(incoming))?;
    sync_directory_of(&database).map_err(failed(&database))?;
    fs::remove_file(&mark)
        .and_then(|()| sync_directory_of(&mark))
        .map_err(failed(&mark))?;
    aside.reverse();
    Ok(aside)
}

/// For the database that is moved aside.
fn free_name(directory: &Path) -> PathBuf {
    let at = jiff::Timestamp::now()
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string();
    let names = (0_u32..).map(|turn| {
        let again = if turn == 0 {
            String::new()
        } else {
            format!("-{turn}")
        };
        directory.join(format!("{FILE}.before-restore-{at}{again}"))
    });
    let mut free = names.filter(|name| !name.exists());
    free.next().expect("some name is free")
}

fn companion(database: &Path, end: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// What is left of an attempt that failed; its error counts, not this one's.
fn remove_database(path: &Path) {
    for end in COMPANIONS.into_iter().chain([""]) {
        let _ = fs::remove_file(companion(path, end));
    }
}

fn sync(file: &Path) -> io::Result<()> {
    File::open(file)?.sync_all()
}

fn sync_directory_of(file: &Path) -> io::Result<()> {
    let directory = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn now() -> Timestamp {
    let wall = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
