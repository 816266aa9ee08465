use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use muster_core::ids::{AttemptId, AttemptNo, JobId, TaskId};
use muster_core::logframe::{self, LogStream};
use muster_core::time::Timestamp;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{LogPage, LogStore, ReadError, ReadOptions, Stored, WriteError};

const OUT: LogStream = LogStream::Stdout;
const ERR: LogStream = LogStream::Stderr;
const GAP: LogStream = LogStream::Gap;

fn store() -> (TempDir, LogStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = LogStore::open(&directory.path().join("logs")).unwrap();
    (directory, store)
}

fn attempt(index: u32) -> AttemptId {
    let task = TaskId {
        job: JobId(Uuid::from_u128(7)),
        index,
    };
    AttemptId {
        task,
        number: AttemptNo(1),
    }
}

/// Frames one second apart, the first at second 1.
fn log(lines: &[(LogStream, &str)]) -> Bytes {
    let mut bytes = Vec::new();
    for (second, (stream, text)) in (1..).zip(lines) {
        logframe::encode(*stream, second * 1_000_000, text.as_bytes(), &mut bytes);
    }
    bytes.into()
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap()
}

fn part(length: u64) -> Stored {
    Stored {
        length,
        complete: false,
    }
}

async fn complete(store: &LogStore, attempt: AttemptId, bytes: &Bytes) {
    store.append(attempt, 0, bytes.clone()).await.unwrap();
    let stored = store
        .finish(attempt, crc32fast::hash(bytes), length(bytes))
        .await
        .unwrap();
    assert_eq!(
        stored,
        Stored {
            length: length(bytes),
            complete: true
        }
    );
}

/// What the stream gives until its end, and whether that was the end of a whole log.
async fn texts(pages: impl Stream<Item = Result<LogPage, ReadError>>) -> (Vec<String>, bool) {
    let pages: Vec<LogPage> = pages.try_collect().await.unwrap();
    let entries = pages.iter().flat_map(|page| &page.entries);
    let texts = entries
        .map(|entry| String::from_utf8(entry.data.to_vec()).unwrap())
        .collect();
    (texts, pages.last().is_some_and(|page| page.complete))
}

#[tokio::test]
async fn only_what_continues_the_log_is_kept() {
    let (_directory, store) = store();
    let bytes = log(&[(OUT, "one\n"), (OUT, "two\n")]);
    let (first, second) = (bytes.slice(..10), bytes.slice(10..));

    assert_eq!(
        store.append(attempt(0), 10, second.clone()).await.unwrap(),
        part(0)
    );
    assert_eq!(
        store.append(attempt(0), 0, first.clone()).await.unwrap(),
        part(10)
    );
    assert_eq!(store.append(attempt(0), 0, first).await.unwrap(), part(10));
    assert_eq!(
        store.append(attempt(0), 0, Bytes::new()).await.unwrap(),
        part(10)
    );
    assert_eq!(
        store.append(attempt(0), 10, second).await.unwrap(),
        part(length(&bytes))
    );

    let all = texts(store.entries(attempt(0), ReadOptions::default())).await;
    assert_eq!(all, (vec!["one\n".to_owned(), "two\n".to_owned()], false));
}

#[tokio::test]
async fn a_complete_log_is_never_touched_again() {
    let (_directory, store) = store();
    let bytes = log(&[(OUT, "one\n")]);
    complete(&store, attempt(0), &bytes).await;
    let whole = Stored {
        length: length(&bytes),
        complete: true,
    };

    assert_eq!(
        store
            .append(attempt(0), length(&bytes), bytes.clone())
            .await
            .unwrap(),
        whole
    );
    assert_eq!(store.finish(attempt(0), 1, 1).await.unwrap(), whole);
    assert_eq!(store.stored(attempt(0)).await.unwrap(), whole);
    let all = texts(store.entries(attempt(0), ReadOptions::default())).await;
    assert_eq!(all, (vec!["one\n".to_owned()], true));
}

#[tokio::test]
async fn a_wrong_checksum_makes_the_agent_start_again() {
    let (_directory, store) = store();
    let bytes = log(&[(OUT, "one\n")]);
    let crc32 = crc32fast::hash(&bytes);
    store.append(attempt(0), 0, bytes.clone()).await.unwrap();

    // Not all of it is here: the agent goes on.
    let longer = store
        .finish(attempt(0), crc32, length(&bytes) + 1)
        .await
        .unwrap();
    assert_eq!(longer, part(length(&bytes)));
    let wrong = store
        .finish(attempt(0), crc32 ^ 1, length(&bytes))
        .await
        .unwrap();
    assert_eq!(wrong, part(0));

    complete(&store, attempt(0), &bytes).await;
}

#[tokio::test]
async fn a_small_log_that_comes_whole_leaves_no_file() {
    let (directory, store) = store();
    for (index, bytes) in [
        (0, log(&[(OUT, "one\n"), (ERR, "two\n")])),
        (1, Bytes::new()),
    ] {
        let crc32 = crc32fast::hash(&bytes);
        let whole = Stored {
            length: length(&bytes),
            complete: true,
        };
        let wrong = store.keep_whole(attempt(index), crc32 ^ 1, bytes.clone());
        assert_eq!(wrong.await.unwrap(), None);
        for _ in 0..2 {
            let kept = store.keep_whole(attempt(index), crc32, bytes.clone());
            assert_eq!(kept.await.unwrap(), Some(whole));
        }
        assert_eq!(store.append(attempt(index), 0, bytes).await.unwrap(), whole);
    }
    drop(store);

    let path = directory.path().join("logs");
    let job = path.join(attempt(0).task.job.to_string());
    assert!(!job.exists());
    let store = LogStore::open(&path).unwrap();
    let read = texts(store.entries(attempt(0), ReadOptions::default())).await;
    assert_eq!(read, (vec!["one\n".to_owned(), "two\n".to_owned()], true));
    let read = texts(store.entries(attempt(1), ReadOptions::default())).await;
    assert_eq!(read, (Vec::new(), true));
}

#[tokio::test]
async fn a_log_becomes_a_row_if_it_is_small() {
    let (directory, store) = store();
    let long = "x".repeat(60_000) + "\n";
    let long = log(&[(OUT, &long), (OUT, &long)]);
    assert_eq!(
        store
            .keep_whole(attempt(1), crc32fast::hash(&long), long.clone())
            .await
            .unwrap(),
        None
    );
    complete(&store, attempt(0), &log(&[(OUT, "one\n")])).await;
    complete(&store, attempt(1), &long).await;

    let job = directory
        .path()
        .join("logs")
        .join(attempt(0).task.job.to_string());
    let files = std::fs::read_dir(job).unwrap();
    let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names, ["1-1.log"]);
    let read = texts(store.entries(attempt(0), ReadOptions::default())).await;
    assert_eq!(read, (vec!["one\n".to_owned()], true));
}

#[tokio::test]
async fn a_restarted_coordinator_goes_on() {
    let (directory, store) = store();
    let bytes = log(&[(OUT, "one\n"), (OUT, "two\n")]);
    store
        .append(attempt(0), 0, bytes.slice(..20))
        .await
        .unwrap();
    drop(store);
    let store = LogStore::open(&directory.path().join("logs")).unwrap();

    assert_eq!(store.stored(attempt(0)).await.unwrap(), part(20));
    store
        .append(attempt(0), 20, bytes.slice(20..))
        .await
        .unwrap();
    let whole = store
        .finish(attempt(0), crc32fast::hash(&bytes), length(&bytes))
        .await
        .unwrap();

    assert!(whole.complete);
}

#[tokio::test]
async fn more_logs_than_open_files_grow_at_the_same_time() {
    let (_directory, store) = store();
    let bytes = log(&[(OUT, "one\n"), (OUT, "two\n")]);
    for index in 0..300 {
        store
            .append(attempt(index), 0, bytes.slice(..9))
            .await
            .unwrap();
    }
    for index in 0..300 {
        let stored = store
            .append(attempt(index), 9, bytes.slice(9..))
            .await
            .unwrap();
        assert_eq!(stored, part(length(&bytes)));
    }
}

#[tokio::test]
async fn entries_are_filtered() {
    let (_directory, store) = store();
    let lines = [
        (OUT, "1\n"),
        (ERR, "2\n"),
        (OUT, "3"),
        (ERR, "4\n"),
        (OUT, "3\n"),
        (GAP, "g"),
    ];
    complete(&store, attempt(0), &log(&lines)).await;
    let read = async |options| texts(store.entries(attempt(0), options)).await.0.concat();
    let all = ReadOptions::default;

    assert_eq!(read(all()).await, "1\n2\n34\n3\ng");
    assert_eq!(
        read(ReadOptions {
            streams: vec![ERR],
            ..all()
        })
        .await,
        "2\n4\ng"
    );
    let since = Some(Timestamp(4_000));
    assert_eq!(read(ReadOptions { since, ..all() }).await, "4\n3\ng");
    let tail = |lines| ReadOptions {
        tail: Some(lines),
        ..all()
    };
    // A line that two frames hold counts once, where it began.
    assert_eq!(read(tail(3)).await, "34\n3\ng");
    assert_eq!(read(tail(2)).await, "4\ng");
    assert_eq!(read(tail(0)).await, "");
    assert_eq!(read(tail(100)).await, "1\n2\n34\n3\ng");
    assert_eq!(
        read(ReadOptions {
            streams: vec![OUT],
            ..tail(2)
        })
        .await,
        "33\ng"
    );
}

#[tokio::test]
async fn long_logs_come_in_pages() {
    let (_directory, store) = store();
    let line = "x".repeat(60_000) + "\n";
    let lines: Vec<_> = (0..20).map(|_| (OUT, line.as_str())).collect();
    complete(&store, attempt(0), &log(&lines)).await;

    let pages: Vec<LogPage> = store
        .entries(attempt(0), ReadOptions::default())
        .try_collect()
        .await
        .unwrap();

    assert_eq!(
        pages.iter().map(|page| page.entries.len()).sum::<usize>(),
        20
    );
    assert!(pages.iter().all(|page| page.entries.len() <= 4));
    assert!(pages.last().unwrap().complete);
}

#[tokio::test]
async fn a_follower_sees_everything_and_ends_with_the_log() {
    let (_directory, store) = store();
    let bytes = log(&[(OUT, "one\n"), (ERR, "two\n"), (OUT, "three\n")]);
    let options = ReadOptions {
        follow: true,
        ..ReadOptions::default()
    };
    // It begins before there is anything.
    let follower = tokio::spawn(texts(store.entries(attempt(0), options)));

    for (offset, piece) in (0..).step_by(7).zip(bytes.chunks(7)) {
        store
            .append(attempt(0), offset, Bytes::copy_from_slice(piece))
            .await
            .unwrap();
        tokio::task::yield_now().await;
    }
    store
        .finish(attempt(0), crc32fast::hash(&bytes), length(&bytes))
        .await
        .unwrap();

    let seen = tokio::time::timeout(Duration::from_secs(10), follower)
        .await
        .unwrap()
        .unwrap();
    let all = ["one\n", "two\n", "three\n"].map(str::to_owned).to_vec();
    assert_eq!(seen, (all, true));
    assert!(store.0.followers.is_empty());
}

#[tokio::test]
async fn a_stopped_follower_reads_what_is_there() {
    let (_directory, store) = store();
    let stop = CancellationToken::new();
    let options = ReadOptions {
        follow: true,
        stop: stop.clone(),
        ..ReadOptions::default()
    };
    let mut pages = Box::pin(store.entries(attempt(0), options));
    store
        .append(attempt(0), 0, log(&[(OUT, "one\n")]))
        .await
        .unwrap();
    assert_eq!(pages.next().await.unwrap().unwrap().entries.len(), 1);

    let more = log(&[(OUT, "one\n"), (OUT, "two\n")]);
    let offset = store.stored(attempt(0)).await.unwrap().length;
    store
        .append(attempt(0), offset, more.slice(17..))
        .await
        .unwrap();
    stop.cancel();

    assert_eq!(texts(pages).await, (vec!["two\n".to_owned()], false));
}

#[tokio::test]
async fn damage_is_named_with_its_place() {
    let (_directory, store) = store();
    let mut bytes = log(&[(OUT, "one\n"), (OUT, "two\n")]).to_vec();
    bytes[17] = 9;
    complete(&store, attempt(0), &bytes.into()).await;

    let result: Result<Vec<LogPage>, ReadError> = store
        .entries(attempt(0), ReadOptions::default())
        .try_collect()
        .await;

    assert!(
        matches!(result, Err(ReadError::Damaged { position: 17, .. })),
        "{result:?}"
    );
}

#[test]
fn whoever_asks_while_everything_stops_is_told_so() {
    let (_directory, store) = store();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let handle = runtime.handle().clone();
    runtime.shutdown_background();
    let _inside = handle.enter();
    let read = futures_util::FutureExt::now_or_never(store.stored(attempt(0)));
    let read = read.expect("there is nobody to wait for").unwrap_err();
    assert!(matches!(read, ReadError::Stopping), "{read}");
    let write = store.append(attempt(0), 0, log(&[(OUT, "a\n")]));
    let write = futures_util::FutureExt::now_or_never(write);
    let write = write.expect("there is nobody to wait for").unwrap_err();
    assert!(matches!(write, WriteError::Stopping), "{write}");
}
