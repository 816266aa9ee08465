use std::sync::Arc;

use muster_core::ids::AttemptId;

use super::*;
use crate::metrics::AgentMetrics;
use crate::output::Logs;
use crate::output::spool::{Bounds, LogFile};

struct Bench {
    dir: tempfile::TempDir,
    exited: CancellationToken,
    /// The agent's process ends.
    stop: CancellationToken,
    log: Arc<LogFile>,
}

fn attempt() -> AttemptId {
    "00000000000000000000000000.0-1".parse().unwrap()
}

impl Bench {
    /// Reads into a spool, with what an earlier reader left in it.
    async fn reading(dir: tempfile::TempDir, begin: Begin) -> (Self, tokio::task::JoinHandle<()>) {
        fs::create_dir_all(dir.path().join("output")).unwrap();
        fs::write(dir.path().join("started"), "").unwrap();
        let (logs, metrics) = (Arc::new(Logs::default()), Arc::new(AgentMetrics::new()));
        let path = dir.path().join("log");
        let spool = Spool::open(attempt(), &path, logs, metrics, Bounds::HOST);
        let spool = spool.await.unwrap();
        let bench = Self {
            log: spool.log(),
            exited: CancellationToken::new(),
            stop: CancellationToken::new(),
            dir,
        };
        let captured = Captured {
            dir: bench.dir.path().join("output"),
            begun: bench.dir.path().join("started"),
            whole: bench.dir.path().join("record"),
        };
        let reading = follow(captured, spool, begin, bench.exited.clone());
        let stop = bench.stop.clone();
        let reading = async move {
            tokio::select! {
                () = reading => {}
                () = stop.cancelled() => {}
            }
        };
        (bench, tokio::spawn(reading))
    }

    fn segment(&self, number: u32, frames: &[u8]) {
        let path = self.dir.path().join("output").join(name(number));
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        io::Write::write_all(&mut file, frames).unwrap();
    }

    async fn until(&self, text: &str) {
        let mut turns = tokio::time::interval(Duration::from_millis(2));
        let there = async {
            while !self.text().contains(text) {
                turns.tick().await;
            }
        };
        let there = tokio::time::timeout(crate::rig::DEADLINE, there).await;
        assert!(there.is_ok(), "no {text:?} in {:?}", self.text());
    }

    fn text(&self) -> String {
        let bytes = self.log.read(0, 1 << 20).unwrap();
        let data = logframe::decode(&bytes).map(|frame| frame.unwrap().data.to_vec());
        String::from_utf8(data.flatten().collect()).unwrap()
    }

    fn segments(&self) -> usize {
        fs::read_dir(self.dir.path().join("output"))
            .unwrap()
            .count()
    }

    fn whole(&self) {
        fs::write(self.dir.path().join("record"), "").unwrap();
    }
}

fn line(at: u64, text: &str) -> Vec<u8> {
    let mut frames = Vec::new();
    logframe::encode(LogStream::Stdout, at, text.as_bytes(), &mut frames);
    frames
}

#[tokio::test]
async fn segments_are_read_while_they_grow_and_removed_when_they_are_over() {
    let (bench, reading) = Bench::reading(tempfile::tempdir().unwrap(), Begin::Fresh).await;
    bench.segment(1, &line(1, "one\n"));
    bench.until("one\n").await;
    let (begin, end) = (&line(2, "two\n")[..5], &line(2, "two\n")[5..]);
    bench.segment(1, begin);
    bench.segment(1, end);
    bench.segment(2, &line(3, "three\n"));
    bench.until("one\ntwo\nthree\n").await;
    bench.whole();
    bench.exited.cancel();
    reading.await.unwrap();
    assert_eq!(bench.text(), "one\ntwo\nthree\n");
    assert_eq!(bench.segments(), 1);
    assert!(bench.log.finished().is_some());
}

#[tokio::test]
async fn a_reader_that_begins_again_repeats_nothing() {
    let (bench, reading) = Bench::reading(tempfile::tempdir().unwrap(), Begin::Fresh).await;
    bench.segment(1, &line(1, "one\n"));
    bench.until("one\n").await;
    bench.stop.cancel();
    reading.await.unwrap();
    bench.segment(1, &line(2, "two\n"));
    let (bench, reading) = Bench::reading(bench.dir, Begin::Again).await;
    bench.whole();
    bench.exited.cancel();
    reading.await.unwrap();
    assert_eq!(bench.text(), "one\ntwo\n");
}

#[tokio::test]
async fn an_end_that_nobody_wrote_down_is_declared() {
    let (bench, reading) = Bench::reading(tempfile::tempdir().unwrap(), Begin::Fresh).await;
    bench.segment(1, &line(1, "one\n"));
    bench.segment(1, &line(2, "cut short\n")[..15]);
    bench.exited.cancel();
    reading.await.unwrap();
    let text = bench.text();
    let declared = "output may be missing here: the container was killed as a whole\n";
    assert_eq!(text, format!("one\n{declared}"));
}

#[tokio::test]
async fn a_task_that_writes_there_itself_spoils_one_segment() {
    let (bench, reading) = Bench::reading(tempfile::tempdir().unwrap(), Begin::Fresh).await;
    bench.segment(1, &line(1, "one\n"));
    bench.segment(1, &[0xff; 4096]);
    bench.segment(1, &line(2, "two\n"));
    bench.segment(2, &line(3, "three\n"));
    bench.whole();
    bench.exited.cancel();
    reading.await.unwrap();
    let spoiled = "output is missing here: the task wrote into the files of its output\n";
    assert_eq!(bench.text(), format!("one\n{spoiled}three\n"));
}
