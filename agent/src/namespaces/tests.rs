use std::collections::BTreeMap;
use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::runtime::NewContainer;
use crate::runtime::fake::{Behaviour, FakeRuntime};
use crate::starts::Starts;

const CLUSTER: &str = "0123456789abcdef";
const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

struct Bench {
    engine: FakeRuntime,
    pool: Namespaces<FakeRuntime>,
    starts: Starts,
}

impl Bench {
    fn new() -> Self {
        Self::with(Bounds {
            network: 3,
            host: 4,
        })
    }

    fn with(bounds: Bounds) -> Self {
        let engine = FakeRuntime::new();
        engine.come_in_sight();
        engine.hold(&format!("r.example/x@{DIGEST}"));
        engine.script("long", Behaviour::forever());
        Self {
            pool: pool(&engine, bounds),
            engine,
            starts: Starts::new(1, 1),
        }
    }

    async fn lend(&self, network: &str) -> Option<Lease> {
        self.pool.lend(CLUSTER, network).await
    }

    /// Everything that waits to be done.
    async fn tend(&self) {
        self.tend_after(Duration::ZERO).await;
    }

    async fn tend_after(&self, time: Duration) {
        let now = Instant::now() + time;
        self.pool.wake_rested(now).await;
        self.pool.empty_bin().await;
        self.pool.refill(&self.starts, now).await;
    }

    /// One that was made because it was wanted.
    async fn made(&self, network: &str) -> Lease {
        assert!(self.lend(network).await.is_none());
        self.tend().await;
        self.lend(network).await.unwrap()
    }

    async fn task_in(&self, lease: &Lease) -> String {
        let parked = lease.container();
        let name = format!("task-in-{parked}");
        let labels = [("muster.agent", "a1"), (JOINED, parked)];
        let new = NewContainer {
            name: name.clone(),
            image: DIGEST.into(),
            entrypoint: None,
            command: vec!["long".into()],
            env: Vec::new(),
            labels: labels
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            workdir: None,
            user: String::new(),
            limits: crate::runtime::Limits {
                cpu_millis: 1,
                memory_bytes: 1,
                pids: 1,
            },
            gpus: 0,
            network: Some(format!("container:{parked}")),
            writable_root: false,
            run_dir: "/".into(),
            cgroup_parent: None,
            init: None,
        };
        self.engine.create(&new).await.unwrap();
        self.engine.start(&name).await.unwrap();
        name
    }

    fn has(&self, container: &str) -> bool {
        self.engine.names().iter().any(|name| name == container)
    }
}

fn pool(engine: &FakeRuntime, bounds: Bounds) -> Namespaces<FakeRuntime> {
    let agent = AgentId::parse("a1").unwrap();
    let metrics = Arc::new(AgentMetrics::new());
    Namespaces::new(engine.clone(), agent, bounds, metrics)
}

fn mess() -> Traces {
    Traces {
        sockets: ["tcp 7".to_owned()].into(),
        ..Traces::default()
    }
}

#[tokio::test]
async fn one_is_lent_to_one_at_a_time_and_again_when_it_is_back() {
    let bench = Bench::new();
    let first = bench.made("n").await;
    assert!(bench.lend("n").await.is_none());
    let name = first.container().to_owned();
    bench.pool.give_back(first).await;
    let again = bench.lend("n").await.unwrap();
    assert_eq!(again.container(), name);
    assert!(bench.lend("n").await.is_none());
    let samples = bench.pool.metrics.samples();
    let asked = |result: &str| {
        let found = samples.iter().find(|sample| {
            sample.name == "muster_agent_namespaces_asked_total"
                && sample.labels.values().any(|value| value == result)
        });
        found.unwrap().value
    };
    assert_eq!((asked("hit"), asked("miss")), (2.0, 3.0));
}

#[tokio::test]
async fn teams_do_not_share_any() {
    let bench = Bench::new();
    let lease = bench.made("one").await;
    let name = lease.container().to_owned();
    bench.pool.give_back(lease).await;
    assert!(bench.lend("two").await.is_none());
    bench.tend().await;
    assert_ne!(bench.lend("two").await.unwrap().container(), name);
}

#[tokio::test]
async fn what_a_task_left_open_keeps_the_next_one_out() {
    let bench = Bench::new();
    let lease = bench.made("n").await;
    let name = lease.container().to_owned();
    bench.engine.leave_traces(&name, mess());
    bench.pool.give_back(lease).await;
    assert!(bench.lend("n").await.is_none(), "it is not clean");
    bench.pool.wake_rested(Instant::now()).await;
    assert!(bench.lend("n").await.is_none(), "it is not clean yet");
    bench.engine.leave_traces(&name, Traces::default());
    bench.pool.wake_rested(Instant::now()).await;
    let lease = bench.lend("n").await.unwrap();
    assert_eq!(lease.container(), name);

    bench.engine.leave_traces(&name, mess());
    bench.pool.give_back(lease).await;
    bench.tend_after(Duration::from_secs(6)).await;
    assert!(!bench.has(&name));
    assert_eq!(bench.pool.metrics.namespaces_unclean.get(), 1);
    let next = bench.lend("n").await.unwrap();
    assert_ne!(next.container(), name);
}

#[tokio::test]
async fn one_that_ended_or_got_something_while_idle_is_not_lent() {
    let bench = Bench::new();
    let lease = bench.made("n").await;
    let name = lease.container().to_owned();
    bench.pool.give_back(lease).await;
    bench.engine.leave_traces(&name, mess());
    assert!(bench.lend("n").await.is_none());
    bench.tend().await;
    assert!(!bench.has(&name));

    let lease = bench.lend("n").await.unwrap();
    let name = lease.container().to_owned();
    bench.pool.give_back(lease).await;
    assert!(bench.engine.exit(&name, 137));
    let next = bench.lend("n").await;
    assert!(next.is_none_or(|next| next.container() != name));
    bench.tend().await;
    assert!(!bench.has(&name));
}

#[tokio::test]
async fn a_lease_that_is_lost_is_never_lent_again_and_goes_when_nobody_is_in_it() {
    let bench = Bench::new();
    let lease = bench.made("n").await;
    let name = lease.container().to_owned();
    let task = bench.task_in(&lease).await;
    drop(lease);
    bench.tend().await;
    let others: Vec<Lease> = [bench.lend("n").await, bench.lend("n").await]
        .into_iter()
        .flatten()
        .collect();
    assert!(others.iter().all(|lease| lease.container() != name));
    bench.pool.sweep(CLUSTER).await.unwrap();
    assert!(bench.has(&name), "a task is in it");
    bench.engine.remove_from_outside(&task);
    bench.pool.sweep(CLUSTER).await.unwrap();
    assert!(!bench.has(&name));
    assert!(others.iter().all(|lease| bench.has(lease.container())));
}

#[tokio::test]
async fn the_next_agent_removes_what_no_container_is_in() {
    let bench = Bench::new();
    let used = bench.made("n").await;
    bench.tend().await;
    let task = bench.task_in(&used).await;
    let used = used.container().to_owned();
    let before = bench.engine.names();
    assert_eq!(before.len(), 3, "used, idle, task: {before:?}");
    let next = pool(&bench.engine, Bounds::OFF);
    next.sweep(CLUSTER).await.unwrap();
    let mut left = vec![used, task];
    left.sort();
    assert_eq!(bench.engine.names(), left);
    next.sweep("fedcba9876543210").await.unwrap();
    assert_eq!(bench.engine.names(), left);
}

#[tokio::test]
async fn each_is_used_for_a_bounded_time_and_number_of_tasks() {
    let bench = Bench::new();
    let mut lease = bench.made("n").await;
    let name = lease.container().to_owned();
    for _ in 1..USES_MAX {
        assert_eq!(lease.container(), name);
        bench.pool.give_back(lease).await;
        lease = bench.lend("n").await.unwrap();
    }
    bench.pool.give_back(lease).await;
    bench.tend().await;
    assert!(!bench.has(&name));

    let lease = bench.lend("n").await.unwrap();
    let parked = lease.parked.as_ref().unwrap();
    assert!(!parked.is_worn(parked.made + AGE_MAX / 2));
    assert!(parked.is_worn(parked.made + AGE_MAX));
}

#[tokio::test]
async fn neither_a_team_nor_the_host_gets_more_than_its_bound() {
    let bench = Bench::new();
    let mut held = Vec::new();
    for _ in 0..10 {
        held.extend(bench.lend("one").await);
        bench.tend().await;
    }
    assert_eq!((held.len(), bench.engine.names().len()), (3, 3));
    let other = bench.made("two").await;
    assert!(bench.lend("two").await.is_none());
    bench.tend().await;
    assert!(bench.lend("two").await.is_none(), "the host is full");
    assert_eq!(bench.engine.names().len(), 4);
    // What is idle makes room for who wants one.
    let idle = held.pop().unwrap();
    let name = idle.container().to_owned();
    bench.pool.give_back(idle).await;
    assert!(bench.lend("two").await.is_none());
    bench.tend().await;
    bench.tend().await;
    assert!(!bench.has(&name));
    assert!(bench.lend("two").await.is_some());
    assert_eq!(bench.engine.names().len(), 4);
    drop(other);
}

#[tokio::test]
async fn what_nobody_wants_goes() {
    let bench = Bench::new();
    let one = bench.made("n").await;
    bench.tend().await;
    bench.pool.give_back(one).await;
    assert_eq!(bench.engine.names().len(), 2);
    for (minutes, left) in [(4, 2), (6, 1), (29, 1), (31, 0)] {
        let now = Instant::now() + Duration::from_secs(minutes * 60);
        lock(&bench.pool.lots).let_go_of_unwanted(now);
        bench.tend().await;
        assert_eq!(bench.engine.names().len(), left, "after {minutes} minutes");
    }
}

#[tokio::test]
async fn the_end_of_the_agent_removes_what_no_task_has() {
    let bench = Bench::new();
    let used = bench.made("n").await;
    bench.tend().await;
    assert_eq!(bench.engine.names().len(), 2);
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let cluster = OnceLock::new();
    bench.pool.run(&cluster, &bench.starts, shutdown).await;
    assert_eq!(bench.engine.names(), [used.container()]);
    assert!(bench.lend("n").await.is_none());
}

#[tokio::test]
async fn an_engine_that_does_not_make_any_is_left_alone_for_a_while() {
    let bench = Bench::new();
    bench.engine.fill_disk(true);
    assert!(bench.lend("n").await.is_none());
    bench.tend().await;
    bench.engine.fill_disk(false);
    assert!(bench.lend("n").await.is_none());
    bench.tend().await;
    assert!(bench.lend("n").await.is_none(), "the pause");
    bench.tend_after(Duration::from_secs(61)).await;
    assert!(bench.lend("n").await.is_some());
}

#[tokio::test]
async fn where_nobody_can_see_what_is_left_none_are_lent() {
    let engine = FakeRuntime::new();
    let bench = Bench {
        pool: pool(&engine, Bounds::of(2)),
        engine,
        starts: Starts::new(1, 1),
    };
    for _ in 0..3 {
        assert!(bench.lend("n").await.is_none());
        bench.tend().await;
    }
    assert_eq!(bench.engine.names(), [""; 0]);
    assert_eq!(bench.engine.list(&BTreeMap::new()).await.unwrap(), []);
}
