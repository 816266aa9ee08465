use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::host;
use crate::metrics::AgentMetrics;
use crate::runtime::fake::FakeRuntime;
use crate::runtime::{Limits, NewContainer};

/// Later than anything that a test does.
const NEVER: u64 = u64::MAX;

fn image(repository: &str, digit: char) -> String {
    format!(
        "r.example/{repository}@sha256:{}",
        digit.to_string().repeat(64)
    )
}

struct Bench {
    engine: FakeRuntime,
    images: Images<FakeRuntime>,
    measure: Measure,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// On a disk of which each image takes ten hundredths.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = FakeRuntime::new();
        let metrics = Arc::new(AgentMetrics::new());
        let images = Images::new(engine.clone(), 3, metrics, dir.path());
        let held = engine.clone();
        let measure = move |_: &Path| {
            let used = 10 * u64::try_from(held.images().len()).unwrap();
            Some((100_u64.saturating_sub(used), 100))
        };
        Self {
            engine,
            images,
            measure: Box::new(measure),
            _dir: dir,
        }
    }

    async fn pull(&self, reference: &str) {
        self.engine.publish(reference);
        let image = reference.parse().unwrap();
        self.images.ensure(&image, true).await.unwrap();
        // The clock has milliseconds, and the order counts.
        let pulled = host::now();
        while host::now() <= pulled {
            tokio::task::yield_now().await;
        }
    }

    async fn sweep(&self, idle_since: u64) {
        let shelf = Shelf {
            path: Path::new("/"),
            marks: ImageGc { high: 80, low: 70 },
            measure: &self.measure,
        };
        self.images.sweep(&shelf, idle_since).await.unwrap();
    }
}

#[tokio::test]
async fn the_longest_unwanted_go_first_and_only_to_the_lower_mark() {
    let bench = Bench::new();
    for digit in '1'..='7' {
        bench.pull(&image("etl", digit)).await;
    }
    bench.pull(&image("etl", '1')).await; // wanted again
    bench.sweep(NEVER).await;
    assert_eq!(bench.engine.images().len(), 7, "below the upper mark");
    for digit in '8'..='9' {
        bench.pull(&image("etl", digit)).await;
    }
    bench.sweep(NEVER).await;
    let left = bench.engine.images();
    assert_eq!(left.len(), 7);
    assert!(!left.contains(&image("etl", '2')) && !left.contains(&image("etl", '3')));
    assert!(left.contains(&image("etl", '1')));
}

#[tokio::test]
async fn what_is_not_ours_or_is_wanted_stays_whatever_the_disk() {
    let bench = Bench::new();
    let foreign: Vec<_> = ('1'..='4').map(|digit| image("foreign", digit)).collect();
    for reference in &foreign {
        bench.engine.hold(reference);
        // A task runs on it; that does not make it ours.
        bench.pull(reference).await;
    }
    let tagged = image("tagged", '5');
    let running = image("running", '6');
    let ahead = image("tagged", '7');
    for reference in [&tagged, &running, &ahead] {
        bench.pull(reference).await;
    }
    bench.engine.tag(&tagged, "mine:1");
    bench
        .images
        .prefetch(&ahead.parse().unwrap())
        .await
        .unwrap();
    bench.engine.create(&container(&running)).await.unwrap();
    for digit in 'a'..='d' {
        // Each repository keeps its newest two.
        bench.pull(&image("tagged", digit)).await;
        bench.pull(&image("running", digit)).await;
    }
    bench.sweep(0).await;
    assert_eq!(bench.engine.images().len(), 15, "all were wanted just now");
    bench.sweep(NEVER).await;
    let mut wanted = foreign;
    wanted.extend([tagged, running, ahead]);
    for repository in ["running", "tagged"] {
        wanted.extend(['c', 'd'].map(|digit| image(repository, digit)));
    }
    wanted.sort();
    assert_eq!(bench.engine.images(), wanted);
}

#[tokio::test]
async fn nothing_is_removed_while_something_is_pulled() {
    let bench = Bench::new();
    for digit in '1'..='9' {
        bench.pull(&image("etl", digit)).await;
    }
    let pull = bench.images.pulling.read().await;
    bench.sweep(NEVER).await;
    assert_eq!(bench.engine.images().len(), 9);
    drop(pull);
    bench.sweep(NEVER).await;
    assert_eq!(bench.engine.images().len(), 7);
}

#[tokio::test]
async fn the_list_outlives_the_agent_and_forgets_what_somebody_else_removed() {
    let bench = Bench::new();
    for digit in '1'..='9' {
        bench.pull(&image("etl", digit)).await;
    }
    let stop = CancellationToken::new();
    stop.cancel();
    bench.images.tend(None, stop).await;
    let metrics = Arc::new(AgentMetrics::new());
    let images = Images::new(bench.engine.clone(), 3, metrics, bench._dir.path());
    let next = Bench { images, ..bench };
    // Removed and pulled again by somebody else.
    let again = image("etl", '1');
    next.engine.remove_image(&again).await.unwrap();
    next.images.held().await.unwrap();
    next.engine.hold(&again);
    next.sweep(NEVER).await;
    let left = next.engine.images();
    assert_eq!(left.len(), 7);
    assert!(left.contains(&again) && !left.contains(&image("etl", '2')));
}

fn container(image: &str) -> NewContainer {
    NewContainer {
        name: "somebody".into(),
        image: image.rsplit('@').next().unwrap().to_owned(),
        entrypoint: None,
        command: Vec::new(),
        env: Vec::new(),
        labels: std::collections::BTreeMap::new(),
        workdir: None,
        user: String::new(),
        limits: Limits {
            cpu_millis: 1,
            memory_bytes: 1,
            pids: 1,
        },
        gpus: 0,
        network: None,
        writable_root: false,
        run_dir: "/".into(),
        cgroup_parent: None,
        init: None,
    }
}
