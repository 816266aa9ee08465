use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster_core::ids::AttemptId;
use muster_core::logframe::{self, LogStream};

use super::spool::{Bounds, Spool};
use super::*;
use crate::metrics::AgentMetrics;

fn id() -> AttemptId {
    "00000000000000000000000000.0-1".parse().unwrap()
}

async fn open(dir: &Path, bounds: Bounds) -> Spool {
    let (logs, metrics) = (Arc::new(Logs::default()), Arc::new(AgentMetrics::new()));
    let path = dir.join("log");
    Spool::open(id(), &path, logs, metrics, bounds)
        .await
        .unwrap()
}

fn out(at_micros: u64, data: &'static str) -> Output {
    Output {
        stream: LogStream::Stdout,
        at_micros,
        data: data.into(),
    }
}

fn err(at_micros: u64, data: &'static str) -> Output {
    Output {
        stream: LogStream::Stderr,
        ..out(at_micros, data)
    }
}

fn text(dir: &Path) -> String {
    let bytes = std::fs::read(dir.join("log")).unwrap();
    let frames = logframe::decode(&bytes).map(|frame| frame.unwrap());
    let words = frames.map(|frame| {
        let data = String::from_utf8_lossy(frame.data).into_owned();
        format!("{}:{data}", frame.stream.code())
    });
    words.collect::<Vec<_>>().join("")
}

#[tokio::test]
async fn what_comes_again_is_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let all = [
        out(10, "a\n"),
        err(11, "e\n"),
        out(20, "b\n"),
        out(20, "c\n"),
        out(20, "d\n"),
        err(30, "f"),
    ];
    // However far the first life came, the second adds exactly the rest.
    for known in 0..=all.len() {
        let mut spool = open(dir.path(), Bounds::HOST).await;
        spool.write(&all[..known]).await;
        drop(spool);
        let mut spool = open(dir.path(), Bounds::HOST).await;
        spool.skip_known();
        spool.write(&all).await;
        spool.skip_known();
        spool.write(&all).await;
        let log = spool.log();
        spool.finish().await;
        assert_eq!(text(dir.path()), "1:a\n2:e\n1:b\n1:c\n1:d\n2:f", "{known}");
        let bytes = std::fs::read(dir.path().join("log")).unwrap();
        assert_eq!(log.finished(), Some(crc32fast::hash(&bytes)));
        std::fs::remove_file(dir.path().join("log")).unwrap();
    }
}

#[tokio::test]
async fn a_cut_frame_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), Bounds::HOST).await;
    spool.write(&[out(1, "one\n"), out(2, "two\n")]).await;
    drop(spool);
    let path = dir.path().join("log");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let mut spool = open(dir.path(), Bounds::HOST).await;
    spool.skip_known();
    spool.write(&[out(1, "one\n"), out(2, "two\n")]).await;
    drop(spool);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn the_end_that_the_engine_loses_is_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let all = [out(1, "xx"), out(1, "x"), out(2, "next\n"), out(3, "open")];
    let mut spool = open(dir.path(), Bounds::HOST).await;
    spool.write(&all[..2]).await;
    spool.skip_known();
    spool.write(&all).await;
    spool.skip_known();
    spool.write(&all).await;
    drop(spool);
    assert_eq!(text(dir.path()), "1:xx1:x1:\n1:next\n1:open");
}

#[tokio::test]
async fn what_has_no_room_is_declared_and_the_newest_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds {
        attempt: 40,
        ..Bounds::HOST
    };
    let mut spool = open(dir.path(), bounds).await;
    let long: &'static str = format!("{}\n", "x".repeat(39_999)).leak();
    spool
        .write(&[
            out(1, "fits\n"),
            out(2, long),
            err(3, long),
            out(4, "the last words\n"),
        ])
        .await;
    spool.finish().await;
    let text = text(dir.path());
    let (begin, end) = text.split_at(text.find("2:").unwrap());
    assert_eq!(
        begin,
        "1:fits\n3:40000 bytes of output are missing here: the agent's log space was full\n"
    );
    assert_eq!(end, format!("2:{long}1:the last words\n"));
}

#[tokio::test]
async fn one_attempt_does_not_use_up_the_room_of_all() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds {
        attempt_unsent: 40,
        ..Bounds::HOST
    };
    let mut spool = open(dir.path(), bounds).await;
    let long: &'static str = format!("{}\n", "x".repeat(69_999)).leak();
    spool.write(&[out(1, "fits\n"), out(2, long)]).await;
    spool.log().note_sent(18);
    spool.write(&[out(3, "more\n")]).await;
    spool.finish().await;
    let declared = "3:70000 bytes of output are missing here: the agent's log space was full\n";
    assert_eq!(text(dir.path()), format!("1:fits\n{declared}1:more\n"));
}

#[tokio::test]
async fn following_ends_soon_after_the_end_even_if_the_stream_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), Bounds::HOST).await;
    let exited = CancellationToken::new();
    exited.cancel();
    let endless =
        futures_util::stream::iter([Ok(out(1, "a\n"))]).chain(futures_util::stream::pending());
    let copied = copy(Box::pin(endless), &mut spool, &exited);
    tokio::time::timeout(Duration::from_secs(10), copied)
        .await
        .unwrap()
        .unwrap();
    drop(spool);
    assert_eq!(text(dir.path()), "1:a\n");
}
