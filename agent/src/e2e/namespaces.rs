//! Network namespaces that were made ahead, on the real engine.

use std::collections::BTreeMap;

use super::*;
use crate::attempt::network_name;
use muster_core::ids::TeamName;

impl Bench {
    /// An agent that has a namespace ready.
    pub(super) async fn pooled() -> Option<Self> {
        let mut bench = Self::with(|config| config.policy.pooled_networks = true).await?;
        bench.pooled = true;
        let id = bench.run("true").await;
        let ended = bench.coordinator.ended(id).await;
        assert_eq!(brief(&ended).0, pb::Outcome::Succeeded, "{:?}", ended.end);
        bench.until_counted("namespaces_parked", "").await;
        Some(bench)
    }

    /// Looks at heartbeats until a figure with this label's value is more than nothing.
    async fn until_counted(&self, name: &str, label: &str) {
        let figure = self.coordinator.until(name, |seen| {
            let mut samples = seen.beats.iter().flat_map(|beat| &beat.samples);
            let is_there = samples.any(|sample| {
                let labels = sample.labels.values().map(String::as_str);
                sample.name.ends_with(name)
                    && labels.collect::<String>() == label
                    && sample.value > 0.0
            });
            is_there.then_some(())
        });
        figure.await;
    }

    /// The containers that hold namespaces.
    async fn parked(&self) -> Vec<String> {
        let label = ("muster.parked".to_owned(), self.config.name.to_string());
        let found = self.engine.list(&BTreeMap::from([label])).await.unwrap();
        found.into_iter().map(|container| container.name).collect()
    }

    /// Some task had a namespace made ahead. An agent that ends before its next heartbeat doesn't tell.
    pub(super) async fn until_hit(&self) {
        self.until_counted("namespaces_asked_total", "hit").await;
    }

    /// After the agent's end: no namespace is left.
    pub(super) async fn check_pool(&self) {
        assert_eq!(self.parked().await, [""; 0]);
        let team = TeamName::parse("default").unwrap();
        let network = network_name("0123456789abcdef", &self.config.name, &team);
        self.engine.remove_network(&network).await.unwrap();
    }

    /// What a script prints that runs in a namespace that was made ahead.
    async fn printed(&self, script: &str) -> String {
        let id = self.run(script).await;
        let ended = self.coordinator.ended(id).await;
        assert_eq!(brief(&ended).0, pb::Outcome::Succeeded, "{:?}", ended.end);
        self.text(id).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_finds_its_name_and_nothing_of_the_one_before() {
    let Some(bench) = Bench::pooled().await else {
        return;
    };
    let look = "for table in tcp udp unix; do grep -c . /proc/net/$table; done";
    let first = bench.printed(look).await;
    // Servers in the background, a connection to one of them, and what it may not do.
    let script = "nc -l -p 8080 >/dev/null & nc -l -p 8081 & sleep 60 & sleep 0.2; \
        echo hello | nc -w 1 127.0.0.1 8080; \
        ip address add 10.9.8.7/32 dev eth0 2>/dev/null || echo no address; \
        ip link set lo down 2>/dev/null || echo no interface; \
        ip route del default 2>/dev/null || echo no route; \
        (echo 1 > /proc/sys/net/ipv4/ip_forward) 2>/dev/null || echo no setting; \
        (echo 1.2.3.4 evil >> /etc/hosts) 2>/dev/null || echo no hosts; \
        (echo nameserver 1.2.3.4 > /etc/resolv.conf) 2>/dev/null || echo no resolver; \
        (echo x > /etc/hostname) 2>/dev/null || echo no name; \
        hostname x 2>/dev/null || echo no other name";
    let denied = "no address\nno interface\nno route\nno setting\nno hosts\nno resolver\n\
        no name\nno other name\n";
    assert_eq!(bench.printed(script).await, denied);
    for _ in 0..3 {
        assert_eq!(bench.printed(look).await, first);
    }
    // Its name is its address, as in a namespace of its own, and the engine's resolver is there.
    let name = "hostname | wc -c; hostname | cmp - /etc/hostname && echo same; \
        ip -4 -o address show eth0 | awk '{sub(\"/.*\", \"\", $4); print $4}' > /tmp/address; \
        grep $(hostname) /etc/hosts | cut -f1 | cmp - /tmp/address && echo same; \
        grep -c 127.0.0.11 /etc/resolv.conf";
    assert_eq!(bench.printed(name).await, "13\nsame\nsame\n1\n");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tasks_at_once_are_never_in_one_namespace() {
    let Some(bench) = Bench::pooled().await else {
        return;
    };
    let mut ids = Vec::new();
    for _ in 0..8 {
        let id = bench.run("hostname; exec sleep 60").await;
        bench.coordinator.started(id).await;
        ids.push(id);
    }
    let labels = crate::attempt::own_labels(&bench.config);
    let tasks = bench.engine.list(&labels).await.unwrap();
    let joined = tasks
        .iter()
        .filter_map(|task| task.labels.get(crate::namespaces::JOINED));
    let mut joined: Vec<_> = joined.collect();
    assert!(!joined.is_empty(), "{tasks:?}");
    joined.sort();
    let all = joined.len();
    joined.dedup();
    assert_eq!(joined.len(), all, "{tasks:?}");
    for id in &ids {
        let order = stop(*id, pb::StopReason::Canceled);
        bench.coordinator.order(order).await;
    }
    let mut names = std::collections::BTreeSet::new();
    for id in &ids {
        names.insert(bench.text(*id).await);
    }
    assert_eq!(names.len(), ids.len(), "{names:?}");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_agent_removes_what_the_last_one_left() {
    let Some(mut bench) = Bench::pooled().await else {
        return;
    };
    let id = bench
        .run("sleep 2; cat /etc/resolv.conf | grep -c 127.0.0.11")
        .await;
    bench.coordinator.started(id).await;
    bench.until_hit().await;
    bench.agent.take().unwrap().stop().await;
    let left = bench.parked().await;
    assert_eq!(left.len(), 1, "the one that the task is in");
    bench.agent = Some(Agent::start(bench.engine.clone(), bench.config.clone()));
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Succeeded, "exited", Some(0)));
    assert_eq!(bench.text(id).await, "1\n");
    let gone = async || !bench.parked().await.contains(&left[0]);
    bench.until(gone).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policys_runtime_is_tried_and_used() {
    let Some((engine, _)) = engine().await else {
        return;
    };
    let info = engine.engine().await.unwrap();
    let named = |name: &str| engine.clone().with_oci_runtime(Some(name.to_owned()));
    crate::oci::try_out(&named("runc"), &info, "runc")
        .await
        .unwrap();
    // As an engine that lists one which does not work.
    let mut lists = info.clone();
    lists.runtimes.push("nosuch".to_owned());
    let unfit = crate::oci::try_out(&named("nosuch"), &lists, "nosuch").await;
    let said = unfit.unwrap_err().to_string();
    assert!(
        said.contains("can't start a container") && said.contains("nosuch"),
        "{said}"
    );
    let unfit = crate::oci::try_out(&named("nosuch"), &info, "nosuch").await;
    let said = unfit.unwrap_err().to_string();
    assert!(
        said.contains("knows only") && said.contains("runc"),
        "{said}"
    );
}
