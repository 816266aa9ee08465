use std::io::{Read as _, Seek as _};

use muster_core::effect::{Because, Record};
use muster_core::event::Restored;
use muster_core::outcome::{End, EndReason, Outcome};
use muster_core::task::RowState;
use tempfile::TempDir;

use super::*;
use crate::store::conformance::samples;
use crate::store::{SqliteStore, Store};

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// One job of ten, whose first task runs as its first attempt, and one that has ended.
async fn fill(store: &SqliteStore) {
    let (live, over) = (samples::job(1), samples::job(2));
    let mut ended = samples::progress(&over);
    ended.ended = Some(Timestamp(9));
    let records = vec![
        Record::JobSubmitted(live.clone()),
        Record::JobSubmitted(over.clone()),
        samples::attempt_made(&live, 0, 1, Because::First),
        samples::row(&live, 0, 1, RowState::Running),
        Record::JobProgress {
            job: over.id,
            progress: ended,
        },
    ];
    store.commit(records).await.unwrap();
}

/// A backup of a store in use, in `directory`.
async fn back_up(store: &SqliteStore, directory: &Path) -> PathBuf {
    let mut copy = store.backups().make().await.unwrap();
    let file = directory.join("backup");
    let mut bytes = Vec::new();
    copy.file.rewind().unwrap();
    copy.file.read_to_end(&mut bytes).unwrap();
    fs::write(unfinished(&file), bytes).unwrap();
    finish_backup(&unfinished(&file), &file).unwrap();
    file
}

fn safe_mode(loaded: &[Restored]) -> Option<SafeMode> {
    loaded.iter().find_map(|row| match row {
        Restored::SafeMode(why) => Some(why.clone()),
        _ => None,
    })
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_store_in_use_is_copied_and_restored_elsewhere() {
    let (original, elsewhere) = (directory(), directory());
    let store = SqliteStore::open(original.path()).unwrap();
    fill(&store).await;
    let file = back_up(&store, elsewhere.path()).await;
    // The store goes on, and the backup does not follow.
    store
        .commit(vec![Record::JobSubmitted(samples::job(3))])
        .await
        .unwrap();
    let target = elsewhere.path().join("new");
    let done = restore(&file, &target).unwrap();
    assert_eq!((done.aside, done.live_jobs), (vec![], 1));
    assert!(done.backup.is_some());

    let copy = SqliteStore::open(&target).unwrap();
    assert_eq!(copy.identity().cluster, store.identity().cluster);
    let loaded = copy.load().await.unwrap();
    assert_eq!(safe_mode(&store.load().await.unwrap()), None);
    let Some(SafeMode::Restored { backup, fence, .. }) = safe_mode(&loaded) else {
        panic!("{loaded:?}");
    };
    assert_eq!(backup, done.backup);
    let fences: Vec<_> = loaded
        .iter()
        .filter_map(|row| match row {
            Restored::Fence { job, number } => Some((*job, *number)),
            _ => None,
        })
        .collect();
    assert_eq!(fences, [(samples::job(1).id, fence)]);
    assert!(fence > AttemptNo(1_000_000), "{fence}");
    assert!(copy.job(samples::job(3).id).await.unwrap().is_none());
    assert_eq!(
        files(original.path())
            .iter()
            .filter(|name| name.starts_with("backup"))
            .count(),
        0
    );

    // Taken over, it is a store as any other; the fences stay.
    copy.commit(vec![Record::SafeMode(None)]).await.unwrap();
    drop(copy);
    let copy = SqliteStore::open(&target).unwrap();
    let loaded = copy.load().await.unwrap();
    assert_eq!(safe_mode(&loaded), None);
    assert!(
        loaded
            .iter()
            .any(|row| matches!(row, Restored::Fence { .. }))
    );
}

#[tokio::test]
async fn no_term_and_no_fence_is_used_twice() {
    let place = directory();
    let data = place.path().join("data");
    let store = SqliteStore::open(&data).unwrap();
    fill(&store).await;
    let file = back_up(&store, place.path()).await;
    let revision = *store.revisions().borrow();
    drop(store);
    // The original's next start.
    let mut terms = vec![SqliteStore::open(&data).unwrap().identity().term];
    let mut fences = Vec::new();
    for _ in 0..2 {
        restore(&file, &data).unwrap();
        let copy = SqliteStore::open(&data).unwrap();
        terms.push(copy.identity().term);
        let Some(SafeMode::Restored { fence, .. }) = safe_mode(&copy.load().await.unwrap()) else {
            panic!("it is restored");
        };
        fences.push(fence);
        assert!(*copy.revisions().borrow() > revision);
    }
    assert!(terms.is_sorted_by(|a, b| a < b), "{terms:?}");
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
    // Also without the store that was there before, by the clock alone.
    let elsewhere = place.path().join("elsewhere");
    restore(&file, &elsewhere).unwrap();
    let term = SqliteStore::open(&elsewhere).unwrap().identity().term;
    assert!(term.0 > 1_700_000_000, "{term:?}");
}

#[tokio::test]
async fn the_store_that_was_there_is_kept() {
    let place = directory();
    let data = place.path().join("data");
    let store = SqliteStore::open(&data).unwrap();
    let file = back_up(&store, place.path()).await;
    fill(&store).await;
    drop(store);
    let RestoreDone { aside, .. } = restore(&file, &data).unwrap();
    let kept = place.path().join("kept");
    fs::create_dir(&kept).unwrap();
    for path in &aside {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (_, end) = name.rsplit_once('Z').unwrap();
        fs::copy(path, kept.join(format!("{FILE}{end}"))).unwrap();
    }
    let kept = SqliteStore::open(&kept).unwrap();
    assert!(kept.job(samples::job(1).id).await.unwrap().is_some());
    let copy = SqliteStore::open(&data).unwrap();
    assert!(copy.job(samples::job(1).id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_coordinator_that_runs_is_not_restored_under() {
    let place = directory();
    let data = place.path().join("data");
    let store = SqliteStore::open(&data).unwrap();
    let file = back_up(&store, place.path()).await;
    let before = files(&data);
    let error = restore(&file, &data).unwrap_err();
    assert!(matches!(
        error,
        RestoreError::Directory {
            source: OpenError::InUse { .. }
        }
    ));
    let error = backup_offline(&data, &place.path().join("other")).unwrap_err();
    assert!(matches!(
        error,
        BackupError::Open {
            source: OpenError::InUse { .. }
        }
    ));
    assert_eq!(files(&data), before);
    drop(store);
    backup_offline(&data, &place.path().join("other")).unwrap();
    restore(&place.path().join("other"), &data).unwrap();
}

#[tokio::test]
async fn what_is_no_whole_copy_changes_nothing() {
    let place = directory();
    let data = place.path().join("data");
    let store = SqliteStore::open(&data).unwrap();
    fill(&store).await;
    let file = back_up(&store, place.path()).await;
    drop(store);
    let whole = fs::read(&file).unwrap();
    let bad = place.path().join("bad");
    let before = (files(&data), fs::read(data.join(FILE)).unwrap());
    let refused = |bytes: &[u8]| {
        fs::write(&bad, bytes).unwrap();
        let error = restore(&bad, &data).unwrap_err();
        let text = muster_core::error_chain::error_chain(&error);
        assert!(text.contains("bad"), "{text}");
        assert_eq!((files(&data), fs::read(data.join(FILE)).unwrap()), before);
        error
    };
    for length in [0, 1, 100, 4096, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..length]);
    }
    let mut damaged = whole.clone();
    for byte in &mut damaged[4096..8192] {
        *byte = 0x55;
    }
    refused(&damaged);
    refused(b"not a database at all, only some text that somebody wrote");

    let newer = Connection::open(&file).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let error = refused(&fs::read(&file).unwrap());
    assert!(matches!(
        error,
        RestoreError::Bad {
            source: BadCopy::Newer { found: 99, .. }
        }
    ));
}

#[tokio::test]
async fn an_interrupted_restore_is_completed_by_the_next() {
    let place = directory();
    let data = place.path().join("data");
    let store = SqliteStore::open(&data).unwrap();
    fill(&store).await;
    let file = back_up(&store, place.path()).await;
    drop(store);
    // The mark is there, the old database is gone, the new one is not in its place.
    File::create(data.join(REPLACING)).unwrap();
    fs::rename(data.join(FILE), data.join("muster.db.before-restore-x")).unwrap();
    let refused = SqliteStore::open(&data).unwrap_err();
    assert!(
        matches!(refused, OpenError::HalfRestored { .. }),
        "{refused}"
    );
    restore(&file, &data).unwrap();
    let copy = SqliteStore::open(&data).unwrap();
    assert!(copy.job(samples::job(1).id).await.unwrap().is_some());
}

#[tokio::test]
async fn files_that_somebody_copied_by_hand_are_restored_with_their_log() {
    let place = directory();
    let data = place.path().join("data");
    let store = SqliteStore::open(&data).unwrap();
    fill(&store).await;
    for end in ["", "-wal"] {
        let copy = place.path().join(format!("by-hand{end}"));
        fs::copy(data.join(format!("{FILE}{end}")), copy).unwrap();
    }
    drop(store);
    restore(&place.path().join("by-hand"), &data).unwrap();
    let copy = SqliteStore::open(&data).unwrap();
    assert!(copy.job(samples::job(1).id).await.unwrap().is_some());
    // An end that the copy knows of is there, and one of its attempts may still end.
    let end = End::of(Outcome::Succeeded, EndReason::Exited);
    let ended = samples::attempt_ended(&samples::job(1), 0, 1, end);
    copy.commit(vec![ended]).await.unwrap();
}
