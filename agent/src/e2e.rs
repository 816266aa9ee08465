//! The agent on the real engine. Runs with `MUSTER_E2E=1` and the image `muster/testbox:1`.

use std::time::{Duration, Instant};

use muster_core::ids::AttemptId;
use muster_core::logframe::LogStream;
use muster_proto::v1 as pb;
use muster_proto::v1::order::Kind;

use crate::config::Config;
use crate::rig::{Agent, Coordinator, DEADLINE, offer, stop};
use crate::runtime::Runtime as _;
use crate::runtime::docker::DockerRuntime;

mod init;
mod leftovers;
mod namespaces;
mod output;
mod parked;

/// Tests that hold for a container with nothing but its own, for one in a namespace that was made ahead, and for one
/// that was itself.
macro_rules! over_all {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use super::{Bench, Start};

            #[tokio::test(flavor = "multi_thread")]
            async fn alone() {
                if let Some(bench) = Bench::new().await {
                    super::$name(bench).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn pooled() {
                if let Some(bench) = Bench::pooled().await {
                    super::$name(bench).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn warm() {
                if let Some(bench) = Bench::of(Start::Warm).await {
                    super::$name(bench).await;
                }
            }
        }
    )*};
}

over_all! {
    ends_are_what_they_are,
    output_is_whole_to_the_last_unterminated_line,
    a_task_that_traps_term_is_canceled_all_the_same,
    a_signal_from_somebody_else_is_not_the_tasks_fault,
    containers_outlive_the_agent_and_lose_no_output,
    usage_is_measured_even_of_a_short_task,
    the_container_is_closed_and_the_metrics_file_works,
    many_containers_run_and_nothing_is_left,
}

const TESTBOX: &str = "muster/testbox:1";

/// The engine and the image's id, or why the test can't run.
async fn engine() -> Option<(DockerRuntime, String)> {
    if std::env::var("MUSTER_E2E").is_err() {
        println!("SKIPPED: MUSTER_E2E is not set");
        return None;
    }
    let engine = DockerRuntime::connect().unwrap();
    match engine.inspect_image(TESTBOX).await {
        Ok(Some(facts)) => Some((engine, facts.id)),
        Ok(None) => panic!("the engine does not hold {TESTBOX}: run make setup"),
        Err(error) => panic!("no engine: {error}"),
    }
}

/// Where tasks run: the promises are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// In a container that is made for them.
    Cold,
    /// In one that was parked before.
    Warm,
}

struct Bench {
    engine: DockerRuntime,
    image: String,
    coordinator: Coordinator,
    config: Config,
    agent: Option<Agent>,
    /// Tasks get namespaces that were made ahead; otherwise they have no network.
    pooled: bool,
    start: Start,
    /// Tasks for which a container was parked.
    warm: std::sync::atomic::AtomicU32,
    dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Option<Self> {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Option<Self> {
        let (engine, image) = engine().await?;
        let coordinator = Coordinator::start(1).await;
        let dir = tempfile::tempdir().unwrap();
        let mut config = coordinator.config(dir.path());
        config.warm.memory_free = 0;
        change(&mut config);
        let agent = Agent::start(engine.clone(), config.clone());
        Some(Self {
            engine,
            image,
            coordinator,
            config,
            agent: Some(agent),
            pooled: false,
            start: Start::Cold,
            warm: 0.into(),
            dir,
        })
    }

    async fn run(&self, script: &str) -> AttemptId {
        self.run_with(script, |_| {}).await
    }

    async fn run_with(&self, script: &str, change: impl Fn(&mut pb::JobSpec)) -> AttemptId {
        if self.start == Start::Cold {
            return self.offer(script, change).await;
        }
        self.until_parked(1).await;
        self.warm.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = self.offer(script, change).await;
        // The next one is not to count on the same container.
        self.coordinator.started(id).await;
        id
    }

    async fn offer(&self, script: &str, change: impl Fn(&mut pb::JobSpec)) -> AttemptId {
        let (id, mut offer) = offer(&self.image, &["/bin/sh", "-c", script]);
        if self.start == Start::Warm {
            offer.channel = "app".into();
        }
        if self.pooled {
            offer
                .spec
                .as_mut()
                .unwrap()
                .set_network(pb::Network::Bridge);
        }
        change(offer.spec.as_mut().unwrap());
        self.coordinator.order(Kind::Offer(offer)).await;
        id
    }

    async fn text(&self, id: AttemptId) -> String {
        let log = self.coordinator.log(id).await;
        log.into_iter().map(|(_, text)| text).collect()
    }

    /// Looks until it is so.
    async fn until(&self, is_so: impl AsyncFn() -> bool) {
        let looking = async {
            while !is_so().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, looking).await.unwrap();
    }

    /// Stops the agent and removes the container that it keeps because nobody acknowledged its end.
    async fn discard(mut self, name: &str) {
        self.agent.take().unwrap().stop().await;
        self.engine.remove(name).await.unwrap();
    }

    /// Stops the agent and checks that nothing of it is left in the engine.
    async fn close(mut self) {
        self.check_hits().await;
        if self.start == Start::Warm {
            let keep = pb::Keep {
                channel: "default/app".into(),
                images: vec![],
                warm: None,
            };
            self.coordinator.order(Kind::Keep(keep)).await;
        }
        let labels = crate::attempt::own_labels(&self.config);
        let attempts = self.config.data_dir.join(crate::attempt::ATTEMPTS);
        let gone = async {
            while !self.engine.list(&labels).await.unwrap().is_empty()
                || std::fs::read_dir(&attempts).unwrap().next().is_some()
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, gone).await.unwrap();
        if self.pooled {
            self.until_hit().await;
        }
        self.agent.take().unwrap().stop().await;
        if self.pooled {
            self.check_pool().await;
        }
    }
}

fn brief(ended: &pb::Ended) -> (pb::Outcome, &str, Option<i32>) {
    let end = ended.end.as_ref().unwrap();
    (end.outcome(), &end.reason, end.exit_code)
}

async fn ends_are_what_they_are(bench: Bench) {
    use pb::Outcome::{Failed, ImageError, InfraError, Oom, Succeeded};
    let cases = [
        ("true", (Succeeded, "exited", Some(0))),
        ("exit 7", (Failed, "exited", Some(7))),
        ("kill -SEGV $$", (Failed, "signaled", Some(139))),
        ("kill -9 $$", (InfraError, "killed_externally", None)),
        // 256 MiB in a container that may have 64.
        (
            "head -c 268435456 /dev/zero | tail",
            (Oom, "memory_limit", Some(137)),
        ),
    ];
    for (script, wanted) in cases {
        let ended = bench.coordinator.ended(bench.run(script).await).await;
        let end = brief(&ended);
        // Which process the kernel kills is its choice; the shell may live on.
        let child = wanted.0 == Oom && end.1 == "child_oom";
        assert!(end == wanted || child, "{script}: {:?}", ended.end);
    }
    let entrypoint = |spec: &mut pb::JobSpec| {
        spec.entrypoint = Some(pb::Argv {
            args: vec!["/no/such".into()],
        });
    };
    let id = bench.run_with("", entrypoint).await;
    let ended = bench.coordinator.ended(id).await;
    let (outcome, reason, _) = brief(&ended);
    assert_eq!(
        (outcome, reason),
        (ImageError, "no_such_entrypoint"),
        "{:?}",
        ended.end
    );
    bench.close().await;
}

async fn output_is_whole_to_the_last_unterminated_line(bench: Bench) {
    let mut ids = Vec::new();
    for n in 0..12 {
        let script = format!("echo first {n}; echo problem >&2; printf 'last {n}'");
        ids.push((n, bench.run(&script).await));
    }
    for (n, id) in ids {
        let log = bench.coordinator.log(id).await;
        let of = |wanted: LogStream| -> String {
            let texts = log.iter().filter(|(stream, _)| *stream == wanted);
            texts.map(|(_, text)| text.as_str()).collect()
        };
        assert_eq!(of(LogStream::Stdout), format!("first {n}\nlast {n}"));
        assert_eq!(of(LogStream::Stderr), "problem\n");
    }
    // One line of 100,000 bytes, which the engine cuts, and 20,000 short ones.
    let id = bench
        .run("head -c 100000 /dev/zero | tr '\\0' x; echo; seq 20000")
        .await;
    let text = bench.text(id).await;
    let wanted: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    let wanted = format!("{}\n{wanted}", "x".repeat(100_000));
    let same = text.bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b);
    let same = same.count();
    let around = |text: &str| {
        text.get(same..(same + 20).min(text.len()))
            .map(str::to_owned)
    };
    assert!(
        text == wanted,
        "{} and {} bytes, equal up to {same}: {:?} and {:?}",
        text.len(),
        wanted.len(),
        around(&text),
        around(&wanted)
    );
    bench.close().await;
}

async fn a_task_that_traps_term_is_canceled_all_the_same(bench: Bench) {
    let id = bench
        .run("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done")
        .await;
    bench.coordinator.started(id).await;
    bench
        .coordinator
        .until("its output", |seen| {
            seen.logs.get(&id).filter(|log| !log.is_empty()).map(drop)
        })
        .await;
    bench
        .coordinator
        .order(stop(id, pb::StopReason::Canceled))
        .await;
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(
        brief(&ended),
        (pb::Outcome::Canceled, "canceled_by_user", None)
    );
    assert_eq!(bench.text(id).await, "ready\nbye\n");

    let id = bench.run("trap '' TERM; while :; do sleep 0.1; done").await;
    bench.coordinator.started(id).await;
    bench
        .coordinator
        .order(stop(id, pb::StopReason::Preempted))
        .await;
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Preempted, "drained", None));
    bench.close().await;
}

async fn a_signal_from_somebody_else_is_not_the_tasks_fault(bench: Bench) {
    let id = bench
        .run("trap 'exit 0' TERM; while :; do sleep 0.1; done")
        .await;
    bench.coordinator.started(id).await;
    tokio::time::sleep(Duration::from_millis(500)).await; // until the shell has set its trap
    let name = bench.container(id);
    bench
        .engine
        .kill(&name, crate::runtime::Signal::Term)
        .await
        .unwrap();
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(
        brief(&ended),
        (pb::Outcome::InfraError, "killed_externally", None)
    );
    bench.close().await;
}

async fn containers_outlive_the_agent_and_lose_no_output(mut bench: Bench) {
    let short = bench.run("echo a; sleep 1; echo b; printf c; exit 3").await;
    let long = bench
        .run("for n in $(seq 30); do echo $n; sleep 0.1; done")
        .await;
    bench.coordinator.started(short).await;
    bench.coordinator.started(long).await;
    bench.agent.take().unwrap().stop().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await; // the short one ends meanwhile
    bench.agent = Some(Agent::start(bench.engine.clone(), bench.config.clone()));

    let ended = bench.coordinator.ended(short).await;
    assert_eq!(brief(&ended), (pb::Outcome::Failed, "exited", Some(3)));
    assert_eq!(bench.text(short).await, "a\nb\nc");
    let ended = bench.coordinator.ended(long).await;
    assert_eq!(brief(&ended).0, pb::Outcome::Succeeded);
    let wanted: String = (1..=30).map(|n| format!("{n}\n")).collect();
    assert_eq!(bench.text(long).await, wanted);
    bench.close().await;
}

async fn usage_is_measured_even_of_a_short_task(bench: Bench) {
    // Reads 40 MB into one variable-sized buffer of sort.
    let script = "head -c 30000000 /dev/zero | tr '\\0' x | sort | wc -c";
    let big = bench.coordinator.ended(bench.run(script).await).await;
    let small = bench.coordinator.ended(bench.run("true").await).await;
    let peak = |ended: &pb::Ended| ended.usage.as_ref().unwrap().peak_memory_bytes.unwrap();
    let cpu = |ended: &pb::Ended| ended.usage.as_ref().unwrap().cpu_seconds.unwrap();
    println!(
        "big: {} bytes, {} s; small: {} bytes, {} s",
        peak(&big),
        cpu(&big),
        peak(&small),
        cpu(&small)
    );
    assert!(
        peak(&big) > 28_000_000 && peak(&big) <= 64 << 20,
        "{}",
        peak(&big)
    );
    assert!(
        peak(&small) < 20_000_000 && peak(&small) > 100_000,
        "{}",
        peak(&small)
    );
    assert!(cpu(&small) > 0.0 && cpu(&small) < cpu(&big));
    bench.close().await;
}

async fn the_container_is_closed_and_the_metrics_file_works(bench: Bench) {
    let script = "id -u; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; \
        touch /x 2>/dev/null || echo read-only; echo t > /tmp/t && echo tmp; \
        mount -t tmpfs t /tmp 2>/dev/null || echo no-mount; \
        ls /sys/class/net; ulimit -n; \
        echo 'rows_total 5' > $MUSTER_METRICS_FILE; echo $MUSTER_FENCE";
    let id = bench.run(script).await;
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(
        &ended.metrics[..],
        b"rows_total 5\n",
        "{}",
        ended.metrics_problem
    );
    let interfaces = if bench.pooled { "eth0\nlo\n" } else { "lo\n" };
    assert_eq!(
        bench.text(id).await,
        format!(
            "65532\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n\
         read-only\ntmp\nno-mount\n{interfaces}1024\n1\n"
        )
    );
    bench.close().await;
}

async fn many_containers_run_and_nothing_is_left(bench: Bench) {
    let begin = Instant::now();
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(bench.offer("echo hello", |_| {}).await);
    }
    for id in &ids {
        assert_eq!(
            brief(&bench.coordinator.ended(*id).await).0,
            pb::Outcome::Succeeded
        );
    }
    let ended = begin.elapsed();
    for id in &ids {
        assert_eq!(bench.text(*id).await, "hello\n");
    }
    println!(
        "40 containers ended after {ended:?}, logs after {:?}",
        begin.elapsed()
    );
    bench.close().await;
    let groups = std::path::Path::new("/sys/fs/cgroup/memory/muster");
    assert!(ids.iter().all(|id| !groups.join(id.to_string()).exists()));
}
