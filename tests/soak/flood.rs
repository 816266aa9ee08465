//! A task that prints 50 MB a second: it takes as long as one that prints nothing, the agent stays small, and every
//! byte arrives or is declared.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use muster_proto::v1 as pb;
use muster_tests::fleet::{IMAGE, enabled};

use crate::audit::patiently;
use crate::daemons::Daemons;
use crate::figures::Figures;
use crate::settings::number;

const LOOK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(120);
/// Every tenth of a second.
const LINES: u64 = 5_000;
/// With its end.
const LINE: u64 = 1_000;
/// What the agent may use at any time, in MiB.
const MEMORY: f64 = 64.0;

/// So many tenths of a second.
fn script(tenths: u64, to: &str) -> String {
    format!(
        "line=$(head -c {} /dev/zero | tr '\\0' x); i=0; \
         while [ $i -lt {tenths} ]; do yes $line | head -n {LINES}; i=$((i + 1)); sleep 0.1; done {to}",
        LINE - 1
    )
}

struct Flood {
    daemons: Daemons,
    tenths: u64,
}

impl Flood {
    /// Runs it once, and gives the task.
    async fn task(&self, to: &str) -> pb::Task {
        let spec = pb::JobSpec {
            name: "flood".into(),
            image: IMAGE.into(),
            pull: pb::PullPolicy::Never.into(),
            network: pb::Network::None.into(),
            command: ["sh", "-c", &script(self.tenths, to)]
                .map(str::to_owned)
                .into(),
            ..Default::default()
        };
        let key = uuid::Uuid::now_v7().simple().to_string();
        let answer = patiently("submission", || {
            let mut jobs = self.daemons.jobs();
            let request = muster_tests::cluster::submission(spec.clone(), 1, &key);
            async move { jobs.submit(request).await }
        })
        .await;
        let id = answer.jobs.into_iter().next().unwrap().job.unwrap().id;
        let mut looks = tokio::time::interval(LOOK);
        let ended = async {
            while self.daemons.job(&id).await.state() != pb::JobState::Ended {
                looks.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.unwrap();
        let request = pb::ListTasksRequest {
            job: id,
            ..Default::default()
        };
        let tasks = self.daemons.jobs().list_tasks(request).await.unwrap();
        let task = tasks.into_inner().tasks.pop().unwrap();
        let outcome = task.end.as_ref().map(pb::End::outcome);
        assert_eq!(outcome, Some(pb::Outcome::Succeeded), "{task:?}");
        task
    }

    /// Bytes of the task's output that arrived, and bytes that are declared missing.
    async fn output(&self, task: &pb::Task) -> (u64, u64) {
        let request = pb::LogsRequest {
            job: task.job.clone(),
            index: task.index,
            follow: true,
            ..Default::default()
        };
        let mut parts = self
            .daemons
            .jobs()
            .logs(request)
            .await
            .unwrap()
            .into_inner();
        let (mut arrived, mut missing) = (0, 0);
        while let Some(part) = parts.try_next().await.unwrap() {
            for entry in part.entries {
                if entry.stream() == pb::LogStream::Gap {
                    let note = String::from_utf8(entry.data.into()).unwrap();
                    let count: u64 = note.split(' ').next().unwrap().parse().unwrap();
                    missing += count;
                } else {
                    arrived += u64::try_from(entry.data.len()).unwrap();
                }
            }
        }
        (arrived, missing)
    }
}

fn seconds(task: &pb::Task) -> f64 {
    let at = |time: &Option<prost_types::Timestamp>| {
        let time = time.as_ref().unwrap();
        f64::from(u32::try_from(time.seconds).unwrap()) + f64::from(time.nanos) / 1e9
    };
    at(&task.ended) - at(&task.started)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood() {
    if !enabled() {
        return;
    }
    let long = number("MUSTER_SOAK_CONTAINERS").is_some();
    let (tenths, pairs) = if long { (100, 5) } else { (20, 1) };
    let daemons = tokio::task::block_in_place(|| Daemons::start(1, None));
    let mut flood = Flood { daemons, tenths };
    let mut shares = Vec::new();
    let (mut arrived, mut missing) = (0, 0);
    for _ in 0..pairs {
        let quiet = seconds(&flood.task("> /dev/null").await);
        let task = flood.task("").await;
        shares.push(seconds(&task) / quiet * 100.0);
        let (came, declared) = flood.output(&task).await;
        assert_eq!(
            came + declared,
            tenths * LINES * LINE,
            "bytes are unaccounted for"
        );
        arrived += came;
        missing += declared;
    }
    shares.sort_by(f64::total_cmp);
    let mut figures = Figures::new("flood");
    figures.count("bytes printed a task", tenths * LINES * LINE);
    figures.count("bytes that arrived", arrived);
    figures.count("bytes declared missing", missing);
    figures.inform("run time, percent of a quiet task's", shares[pairs / 2]);
    let peak = flood.daemons.agent("a1").peak();
    figures.at_most("agent's peak memory, MiB", peak, MEMORY);
    println!("{}", figures.table());
    if long {
        println!("report: {}", figures.write().display());
    }
    assert!(figures.missed().is_empty(), "{}", figures.table());
}
