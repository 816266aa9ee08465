//! What a crash of the machine may leave of the write-ahead log: any beginning, or damage at its end.

use std::path::Path;

use muster_core::effect::Record;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{FILE, SqliteStore, open};
use crate::store::Store;
use crate::store::conformance::samples;

/// Between two lengths that are not near the end of a frame.
const STRIDE: usize = 997;
/// Bytes of a frame's header in the log.
const HEADER: usize = 24;

/// A database as a crash leaves it, and after each commit how long its log was.
struct Crashed {
    database: Vec<u8>,
    log: Vec<u8>,
    commits: Vec<usize>,
}

async fn crash() -> Crashed {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let store = SqliteStore::open(directory.path()).unwrap();
    let mut commits = Vec::new();
    for number in 0..6 {
        let job = Record::JobSubmitted(samples::job(number));
        store.commit(vec![job]).await.unwrap();
        let log = std::fs::metadata(path("muster.db-wal")).unwrap().len();
        commits.push(usize::try_from(log).unwrap());
    }
    Crashed {
        database: std::fs::read(path(FILE)).unwrap(),
        log: std::fs::read(path("muster.db-wal")).unwrap(),
        commits,
    }
}

impl Crashed {
    fn with_log(&self, log: &[u8]) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), &self.database).unwrap();
        std::fs::write(directory.path().join("muster.db-wal"), log).unwrap();
        directory
    }

    /// Commits whose frames are whole in that much of the log.
    fn whole_in(&self, length: usize) -> usize {
        let whole = self.commits.iter().filter(|end| **end <= length);
        whole.count()
    }
}

fn jobs_in(directory: &Path) -> usize {
    let database = Connection::open(directory.join(FILE)).unwrap();
    let jobs: i64 = database
        .query_row("SELECT count(*) FROM job", [], |row| row.get(0))
        .unwrap();
    usize::try_from(jobs).unwrap()
}

#[tokio::test]
async fn every_commit_that_is_whole_in_a_cut_log_is_kept() {
    let crashed = crash().await;
    let page = 4096 + HEADER;
    let last = crashed.commits[3];
    let near_an_end = |length: &usize| (length - 32) % page < 40 || (length - 32) % page > page - 8;
    let lengths =
        (last..=crashed.log.len()).filter(|length| near_an_end(length) || length % STRIDE == 0);
    let mut seen = 0;
    for length in lengths.chain([0, 1, 31, 32, 33]) {
        let directory = crashed.with_log(&crashed.log[..length]);
        // Before the first commit's end nothing of the schema need be there.
        if length >= last {
            assert_eq!(
                jobs_in(directory.path()),
                crashed.whole_in(length),
                "cut at {length}"
            );
        }
        seen += 1;
        if seen % 50 == 0 || length < 40 {
            SqliteStore::open(directory.path()).unwrap();
        }
    }
    assert!(seen > 100, "{seen}");
}

#[tokio::test]
async fn damage_at_the_end_costs_only_what_is_damaged() {
    let crashed = crash().await;
    let end = crashed.log.len();
    for at in (crashed.commits[4]..end).step_by(97) {
        let mut log = crashed.log.clone();
        log[at] ^= 0x55;
        let directory = crashed.with_log(&log);
        let kept = jobs_in(directory.path());
        // A frame's checksum goes over all before it, so from the damage on nothing counts.
        assert_eq!(kept, crashed.whole_in(at), "damaged at {at}");
        let store = SqliteStore::open(directory.path()).unwrap();
        let job = Record::JobSubmitted(samples::job(9));
        store.commit(vec![job]).await.unwrap();
    }
}

#[test]
fn a_commit_waits_for_the_disk() {
    const FULL: u32 = 2;
    let directory = tempfile::tempdir().unwrap();
    let connection = open::writing(&directory.path().join(FILE)).unwrap();
    let level = connection.pragma_query_value(None, "synchronous", |row| row.get(0));
    assert_eq!(level, Ok(FULL));
    let mode = connection.pragma_query_value(None, "journal_mode", |row| row.get(0));
    assert_eq!(mode, Ok("wal".to_owned()));
}
