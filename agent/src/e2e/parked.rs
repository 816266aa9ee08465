//! What only parked containers can do wrong, on the real engine.

use std::process::{Command, Stdio};

use super::*;
use crate::runtime::Listed;

/// Runs each test in both kinds of containers.
macro_rules! cold_and_warm {
    ($($name:ident),+ $(,)?) => {
        mod cold {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::e2e::Start::Cold).await;
            })+
        }
        mod warm {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::e2e::Start::Warm).await;
            })+
        }
    };
}
pub(super) use cold_and_warm;

impl Bench {
    pub(super) async fn of(start: Start) -> Option<Self> {
        let mut bench = Self::new().await?;
        if start == Start::Warm {
            bench.start = start;
            let warm = pb::Warm {
                image: bench.image.clone(),
                min: 0,
                max: 2,
            };
            let keep = pb::Keep {
                channel: "default/app".into(),
                images: vec![],
                warm: Some(warm),
            };
            bench.coordinator.order(Kind::Keep(keep)).await;
            bench.teach(|_| {}).await;
            bench.until_parked(1).await;
        }
        Some(bench)
    }

    /// A task like this has run, so that the next such one finds a container.
    pub(super) async fn teach(&self, change: impl Fn(&mut pb::JobSpec)) {
        if self.start == Start::Warm {
            let id = self.offer("true", change).await;
            self.coordinator.ended(id).await;
        }
    }

    /// So many containers wait for tasks.
    pub(super) async fn until_parked(&self, count: usize) {
        let is_parked = |entry: &std::fs::DirEntry| {
            let records = entry.path().join("records");
            records.join("armed").exists() && !records.join("socket").exists()
        };
        let parked = async {
            loop {
                let entries = std::fs::read_dir(self.dir.path().join("warm"));
                let parked = entries.into_iter().flatten().flatten().filter(is_parked);
                if parked.count() >= count {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, parked).await.unwrap();
    }

    /// The name of the container that an attempt runs in.
    #[expect(clippy::unused_self, reason = "it reads like the other questions")]
    pub(super) fn container(&self, id: AttemptId) -> String {
        format!("mu-01234567-{id}")
    }

    /// Each task for which a container was parked ran in one.
    pub(super) async fn check_hits(&self) {
        let wanted = f64::from(self.warm.load(std::sync::atomic::Ordering::Relaxed));
        let hits = |beat: &pb::Heartbeat| {
            let mut samples = beat.samples.iter();
            samples
                .find(|s| s.name.ends_with("_warm_hits_total"))
                .map(|s| s.value)
        };
        let all = |seen: &crate::rig::Seen| {
            // An agent that was started anew counts anew.
            let agents: std::collections::BTreeSet<_> =
                seen.hellos.iter().map(|h| &h.process).collect();
            let latest = seen.beats.last().and_then(hits);
            (agents.len() > 1 || latest >= Some(wanted)).then_some(())
        };
        self.coordinator.until("the hits", all).await;
    }
}

fn docker(args: &[&str]) -> String {
    let run = Command::new("docker")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(run.status.success(), "docker {args:?}: {run:?}");
    String::from_utf8(run.stdout).unwrap()
}

fn parked(bench: &Bench) -> Vec<String> {
    let entries = std::fs::read_dir(bench.dir.path().join("warm")).unwrap();
    let parked = entries
        .flatten()
        .filter(|entry| entry.path().join("records").is_dir());
    parked
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_task_is_in_it_before_and_its_limits_are_set() {
    let Some(bench) = Bench::of(Start::Warm).await else {
        return;
    };
    let change = |spec: &mut pb::JobSpec| {
        spec.env = [("SECRET".to_owned(), "swordfish".to_owned())].into();
        let resources = spec.resources.as_mut().unwrap();
        resources.memory_bytes = 48 << 20;
        resources.pids = 33;
        resources.cpu_millis = 250;
    };
    let script = "echo $SECRET; cat /sys/fs/cgroup/memory/memory.limit_in_bytes \
        /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null; \
        touch /run/muster/here; sleep 1";
    let id = bench.run_with(script, change).await;
    bench.coordinator.started(id).await;
    let name = bench.container(id);
    let shown = docker(&["inspect", &name]);
    assert!(
        !shown.contains("swordfish") && !shown.contains("touch"),
        "{shown}"
    );
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended).0, pb::Outcome::Succeeded);
    let text = bench.text(id).await;
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("swordfish"));
    if std::path::Path::new("/sys/fs/cgroup/memory").is_dir() {
        let limits: Vec<_> = lines.collect();
        assert_eq!(
            limits,
            [(48 << 20).to_string(), "33".into(), "25000".into()]
        );
    }
    // The run counts from the task's start, not from the container's.
    let run = ended.usage.as_ref().unwrap().run.unwrap();
    assert!((1..3).contains(&run.seconds), "{run:?}");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_somebody_killed_is_not_given_to_a_task() {
    let Some(bench) = Bench::of(Start::Warm).await else {
        return;
    };
    for name in parked(&bench) {
        docker(&["kill", &name]);
    }
    // The agent sees it before a task could be given to it.
    let id = bench.offer("echo ran", |_| {}).await;
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Succeeded, "exited", Some(0)));
    assert_eq!(bench.text(id).await, "ran\n");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_end_with_the_agent() {
    let Some(mut bench) = Bench::of(Start::Warm).await else {
        return;
    };
    let agent = bench.agent.take().unwrap();
    let listed = async || {
        let labels = crate::attempt::own_labels(&bench.config);
        bench.engine.list(&labels).await.unwrap()
    };
    let is_warm = |found: &Listed| found.labels.contains_key(crate::attempt::WARM_LABEL);
    // What an earlier task ran in goes first.
    bench
        .until(async || listed().await.iter().all(is_warm))
        .await;
    agent.stop().await;
    assert_eq!(listed().await, []);
    assert_eq!(parked(&bench), Vec::<String>::new());
}
