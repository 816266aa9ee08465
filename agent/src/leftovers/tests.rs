use super::*;
use crate::rig::{self, Coordinator};
use crate::runtime::fake::{Behaviour, FakeRuntime};
use crate::runtime::{Limits, NewContainer};

const CLUSTER: &str = "0123456789abcdef";
const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

struct Bench {
    engine: FakeRuntime,
    leftovers: Leftovers<FakeRuntime>,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let engine = FakeRuntime::new();
        engine.hold(&format!("r.example/x@{DIGEST}"));
        engine.script("long", Behaviour::forever());
        let dir = tempfile::tempdir().unwrap();
        let config = Coordinator::start(1).await.config(dir.path());
        let info = engine.engine().await.unwrap();
        let metrics = Arc::new(crate::metrics::AgentMetrics::new());
        let shared = Arc::new(crate::share(engine.clone(), config, info, metrics));
        Self {
            engine,
            leftovers: Leftovers::new(shared),
            _dir: dir,
        }
    }

    /// A container with the labels of a new attempt, changed; running or created.
    async fn container(
        &self,
        cluster: &str,
        runs: bool,
        change: impl Fn(&mut NewContainer),
    ) -> String {
        let (id, _) = rig::offer("", &[]);
        let mut labels = own_labels(&self.leftovers.shared.config);
        labels.insert("muster.cluster".into(), cluster.into());
        labels.insert("muster.task".into(), id.task.to_string());
        labels.insert("muster.attempt".into(), id.number.to_string());
        let mut new = NewContainer {
            name: container_name(cluster, id),
            image: DIGEST.into(),
            entrypoint: None,
            command: vec!["long".into()],
            env: Vec::new(),
            labels,
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
        };
        change(&mut new);
        self.engine.create(&new).await.unwrap();
        if runs {
            self.engine.start(&new.name).await.unwrap();
        }
        new.name
    }

    fn left(&self, names: &[&String]) -> bool {
        let mut wanted: Vec<_> = names.iter().map(|name| (*name).clone()).collect();
        wanted.sort();
        self.engine.names() == wanted
    }
}

#[tokio::test]
async fn only_our_own_that_do_not_run_go_and_only_after_the_grace() {
    let mut bench = Bench::new().await;
    let created = bench.container(CLUSTER, false, |_| {}).await;
    let exited = bench.container(CLUSTER, true, |_| {}).await;
    assert!(bench.engine.exit(&exited, 3));
    let running = bench.container(CLUSTER, true, |_| {}).await;
    let bare = |new: &mut NewContainer| {
        new.labels.clear();
        new.name = "somebodys".into();
    };
    let bare = bench.container(CLUSTER, false, bare).await;
    let other_agent = |new: &mut NewContainer| {
        new.labels.insert("muster.agent".into(), "other".into());
    };
    let other_agent = bench.container(CLUSTER, false, other_agent).await;
    let other_cluster = bench.container("fedcba9876543210", false, |_| {}).await;
    let renamed = |new: &mut NewContainer| new.name.push('x');
    let renamed = bench.container(CLUSTER, false, renamed).await;
    let journaled = bench.container(CLUSTER, false, |_| {}).await;
    let id: AttemptId = journaled["mu-01234567-".len()..].parse().unwrap();
    let dir = bench.leftovers.shared.attempt_dir(id);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("journal"), "").unwrap();

    let begin = Instant::now();
    // No coordinator has said yet which cluster this is.
    bench.leftovers.look(begin).await.unwrap();
    bench.leftovers.look(begin + 2 * GRACE).await.unwrap();
    assert_eq!(bench.engine.names().len(), 8);

    bench.leftovers.shared.cluster.set(CLUSTER.into()).unwrap();
    bench.leftovers.look(begin).await.unwrap();
    let metrics = Arc::clone(&bench.leftovers.shared.metrics);
    assert_eq!(metrics.orphans_running.get(), 1);
    // The coordinator may be about to offer what is in them.
    bench.leftovers.look(begin + 2 * GRACE).await.unwrap();
    assert_eq!(bench.engine.names().len(), 8);
    let begin = begin + 2 * GRACE;
    bench.leftovers.shared.orphans.connected(begin);
    let almost = begin + GRACE - Duration::from_secs(1);
    bench.leftovers.look(almost).await.unwrap();
    assert_eq!(bench.engine.names().len(), 8);
    bench.leftovers.look(begin + GRACE).await.unwrap();
    let kept = [
        &running,
        &bare,
        &other_agent,
        &other_cluster,
        &renamed,
        &journaled,
    ];
    assert!(bench.left(&kept), "{created}: {:?}", bench.engine.names());
    assert_eq!(metrics.orphans_removed.get(), 2);
}

#[tokio::test]
async fn what_is_discarded_gets_term_then_kill_and_only_from_a_coordinator_that_is_not_behind() {
    let mut bench = Bench::new().await;
    let stubborn = Behaviour {
        on_term: crate::runtime::fake::OnTerm::Ignore,
        ..Behaviour::forever()
    };
    bench.engine.script("stubborn", stubborn);
    bench.leftovers.shared.cluster.set(CLUSTER.into()).unwrap();
    let polite = bench.container(CLUSTER, true, |_| {}).await;
    let ignores = |new: &mut NewContainer| new.command = vec!["stubborn".into()];
    let stubborn = bench.container(CLUSTER, true, ignores).await;
    let later = |new: &mut NewContainer| {
        new.labels.insert("muster.term".into(), "8".into());
    };
    let later = bench.container(CLUSTER, true, later).await;
    let other_cluster = bench.container("fedcba9876543210", true, |_| {}).await;
    let wanted = bench.container(CLUSTER, true, |_| {}).await;
    let shared = Arc::clone(&bench.leftovers.shared);
    for name in [&polite, &stubborn, &later, &other_cluster] {
        let id: AttemptId = name["mu-01234567-".len()..].parse().unwrap();
        shared.orphans.discard(id, 7);
    }
    let begin = Instant::now();
    bench.leftovers.look(begin).await.unwrap();
    bench.leftovers.look(begin).await.unwrap();
    assert!(bench.left(&[&stubborn, &later, &other_cluster, &wanted]));
    let killed = begin + STOP_GRACE;
    bench
        .leftovers
        .look(killed - Duration::from_millis(1))
        .await
        .unwrap();
    assert_eq!(bench.engine.names().len(), 4);
    bench.leftovers.look(killed).await.unwrap();
    bench.leftovers.look(killed).await.unwrap();
    assert!(bench.left(&[&later, &other_cluster, &wanted]));
    bench.leftovers.look(begin + 3 * GRACE).await.unwrap();
    assert!(bench.left(&[&later, &other_cluster, &wanted]));
    assert_eq!(shared.metrics.orphans_stopped.get(), 2);
}

#[tokio::test]
async fn networks_of_ours_go_after_an_hour_without_attempts() {
    let mut bench = Bench::new().await;
    let shared = Arc::clone(&bench.leftovers.shared);
    shared.cluster.set(CLUSTER.into()).unwrap();
    let attempts = shared.config.data_dir.join(ATTEMPTS);
    std::fs::create_dir_all(&attempts).unwrap();
    let team = TeamName::parse("etl").unwrap();
    let ours = network_name(CLUSTER, &shared.config.name, &team);
    let labels = |cluster: &str| {
        let labels = [("muster.cluster", cluster), ("muster.team", "etl")];
        BTreeMap::from(labels.map(|(name, value)| (name.to_owned(), value.to_owned())))
    };
    bench
        .engine
        .ensure_network(&ours, &labels(CLUSTER))
        .await
        .unwrap();
    for (name, labels) in [
        ("somebodys", BTreeMap::new()),
        ("muster-01234567-other-etl", labels(CLUSTER)),
        ("muster-fedcba98-other-etl", labels("fedcba9876543210")),
    ] {
        bench.engine.ensure_network(name, &labels).await.unwrap();
    }
    let count = async |engine: &FakeRuntime| {
        let all = engine.list_networks(&BTreeMap::new()).await.unwrap();
        all.len()
    };
    let busy = attempts.join("one");
    std::fs::create_dir(&busy).unwrap();
    let begin = Instant::now();
    bench.leftovers.look(begin).await.unwrap();
    std::fs::remove_dir(&busy).unwrap();
    let idle = begin + 2 * UNUSED;
    bench.leftovers.look(idle).await.unwrap();
    assert_eq!(count(&bench.engine).await, 4);

    let user = |new: &mut NewContainer| new.network = Some(ours.clone());
    let user = bench.container(CLUSTER, true, user).await;
    bench.leftovers.look(idle + UNUSED).await.unwrap();
    assert_eq!(count(&bench.engine).await, 4, "it is in use");
    bench.engine.remove_from_outside(&user);
    bench.leftovers.look(idle + UNUSED).await.unwrap();
    assert_eq!(count(&bench.engine).await, 3);
    let left = bench.engine.list_networks(&BTreeMap::new()).await.unwrap();
    assert!(left.iter().all(|network| network.name != ours));
}

#[tokio::test]
async fn a_parked_one_is_stopped_and_goes_when_its_directory_is_lost() {
    let mut bench = Bench::new().await;
    let park = |new: &mut NewContainer| {
        new.name = crate::attempt::parked_name(CLUSTER);
        new.labels.remove("muster.task");
        new.labels.remove("muster.attempt");
        new.labels.insert(WARM_LABEL.into(), new.name.clone());
    };
    let lost = bench.container(CLUSTER, true, park).await;
    assert!(bench.engine.exit(&lost, 122));
    let running = bench.container(CLUSTER, true, park).await;
    let known = bench.container(CLUSTER, false, park).await;
    std::fs::create_dir_all(bench.leftovers.shared.warm.dir(&known)).unwrap();
    let renamed = |new: &mut NewContainer| {
        park(new);
        new.name.push('x');
    };
    let renamed = bench.container(CLUSTER, false, renamed).await;
    // A task runs in it, which its name tells.
    let (id, _) = rig::offer("", &[]);
    let used = bench.container(CLUSTER, true, park).await;
    bench
        .engine
        .rename(&used, &container_name(CLUSTER, id))
        .await
        .unwrap();
    let used = container_name(CLUSTER, id);

    bench.leftovers.shared.cluster.set(CLUSTER.into()).unwrap();
    let begin = Instant::now();
    bench.leftovers.look(begin).await.unwrap();
    assert_eq!(bench.engine.names().len(), 5);
    bench.leftovers.look(begin + GRACE).await.unwrap();
    assert!(bench.left(&[&running, &known, &renamed, &used]));
    // It was told to end.
    bench.leftovers.look(begin + GRACE).await.unwrap();
    assert!(bench.left(&[&known, &renamed, &used]));
    let orphans = &bench.leftovers.shared.orphans;
    assert_eq!(orphans.named(CLUSTER)[0].0, id);
    orphans.discard(id, 0);
    bench.leftovers.look(begin + GRACE).await.unwrap();
    bench.leftovers.look(begin + GRACE).await.unwrap();
    assert!(bench.left(&[&known, &renamed]));
}
