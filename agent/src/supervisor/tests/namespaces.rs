//! Tasks in network namespaces that were made ahead.

use std::collections::BTreeSet;

use super::*;
use crate::runtime::Runtime as _;
use crate::runtime::fake::Pace;

impl Bench {
    async fn pooled() -> Self {
        let mut bench = Self::new().await;
        bench.config.policy.pooled_networks = true;
        bench.engine.come_in_sight();
        bench.engine.script("wait", Behaviour::forever());
        bench
    }

    async fn offer_on_bridge(
        &self,
        argv: &[&str],
        change: impl FnOnce(&mut pb::JobSpec),
    ) -> AttemptId {
        let (id, mut offer) = offer(IMAGE, argv);
        let spec = offer.spec.as_mut().unwrap();
        spec.set_network(pb::Network::Bridge);
        change(spec);
        self.coordinator.order(Kind::Offer(offer)).await;
        id
    }

    fn parked_namespaces(&self) -> Vec<String> {
        let names = self.engine.names().into_iter();
        names.filter(|name| name.contains("parked")).collect()
    }

    /// Runs tasks until one was lent a namespace, and names that.
    async fn lent(&self) -> (AttemptId, String) {
        let lent = async {
            loop {
                let id = self.offer_on_bridge(&["wait"], |_| {}).await;
                let network = self.network_of(id).await;
                if let Some(parked) = network.strip_prefix("container:") {
                    let asked = self.engine.asked(&container(id)).unwrap();
                    assert_eq!(asked.labels["muster.namespace"], parked);
                    return (id, parked.to_owned());
                }
                assert!(self.engine.exit(&container(id), 0));
                self.coordinator.ended(id).await;
            }
        };
        tokio::time::timeout(DEADLINE, lent).await.unwrap()
    }

    async fn network_of(&self, id: AttemptId) -> String {
        self.coordinator.started(id).await;
        let asked = self.engine.asked(&container(id)).unwrap();
        asked.network.unwrap()
    }
}

#[tokio::test]
async fn later_tasks_join_namespaces_that_were_made_ahead() {
    let bench = Bench::pooled().await;
    let agent = bench.agent();
    let first = bench.offer_on_bridge(&["wait"], |_| {}).await;
    let own = bench.network_of(first).await;
    assert!(own.starts_with("muster-01234567-"), "{own}");

    let (_, joined) = bench.lent().await;
    assert!(bench.parked_namespaces().contains(&joined));
    let (_, other) = bench.lent().await;
    assert_ne!(other, joined);
    agent.stop().await;
    let held = BTreeSet::from([joined, other]);
    bench
        .until("both to be parked", || {
            BTreeSet::from_iter(bench.parked_namespaces()) == held
        })
        .await;
}

#[tokio::test]
async fn a_namespace_is_lent_again_and_never_while_it_is_in_use() {
    const TASKS: usize = 10;
    let bench = Bench::pooled().await;
    let agent = bench.agent();
    let (_, in_use) = bench.lent().await;
    let mut lent = BTreeSet::new();
    for _ in 0..TASKS {
        let (id, joined) = bench.lent().await;
        assert_ne!(joined, in_use);
        lent.insert(joined);
        assert!(bench.engine.exit(&container(id), 0));
        bench.coordinator.ended(id).await;
    }
    // How many are made depends on who is faster, the next task or the one that makes them.
    assert!(lent.len() < TASKS, "{lent:?}");
    agent.stop().await;
}

#[tokio::test]
async fn tasks_that_could_write_what_is_shared_have_their_own() {
    let mut bench = Bench::pooled().await;
    bench.config.policy.allow_root_user = true;
    bench.config.policy.allow_writable_root = true;
    let agent = bench.agent();
    bench.lent().await;
    let root = bench
        .offer_on_bridge(&["wait"], |spec| spec.user = "0".into())
        .await;
    let writes = bench
        .offer_on_bridge(&["wait"], |spec| spec.writable_root = true)
        .await;
    for id in [root, writes] {
        let network = bench.network_of(id).await;
        assert!(network.starts_with("muster-01234567-"), "{network}");
    }
    let without = bench.offer(&["wait"]).await;
    bench.coordinator.started(without).await;
    let asked = bench.engine.asked(&container(without)).unwrap();
    assert_eq!(asked.network, None);
    agent.stop().await;
}

#[tokio::test]
async fn a_host_whose_policy_does_not_ask_for_them_makes_none() {
    let mut bench = Bench::pooled().await;
    bench.config.policy.pooled_networks = false;
    let agent = bench.agent();
    for _ in 0..3 {
        let id = bench.offer_on_bridge(&["true"], |_| {}).await;
        bench.coordinator.ended(id).await;
    }
    bench.until_clean().await;
    assert_eq!(bench.engine.starts().len(), 3);
    agent.stop().await;
}

#[tokio::test]
async fn a_namespace_that_goes_before_the_start_costs_no_attempt() {
    let bench = Bench::pooled().await;
    let agent = bench.agent();
    let (first, _) = bench.lent().await;
    assert!(bench.engine.exit(&container(first), 0));
    bench.coordinator.ended(first).await;
    let start = Duration::from_millis(300);
    bench.engine.set_pace(Pace {
        start,
        ..Pace::default()
    });
    let id = bench.offer_on_bridge(&["wait"], |_| {}).await;
    let asked = || bench.engine.asked(&container(id));
    bench.until("a container", || asked().is_some()).await;
    let joined = &asked().unwrap().labels["muster.namespace"];
    assert!(bench.engine.exit(joined, 137));
    let network = bench.network_of(id).await;
    assert!(network.starts_with("muster-01234567-"), "{network}");
    assert!(bench.engine.exit(&container(id), 0));
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Succeeded, "exited", Some(0)));
    agent.stop().await;
}

#[tokio::test]
async fn a_container_that_lost_its_namespace_before_its_start_is_made_anew() {
    let bench = Bench::pooled().await;
    let agent = bench.agent();
    let first = bench.offer_on_bridge(&["wait"], |_| {}).await;
    bench.coordinator.started(first).await;
    // An earlier life of the agent got as far as this with the next one.
    let (id, mut offer) = offer(IMAGE, &["true"]);
    offer
        .spec
        .as_mut()
        .unwrap()
        .set_network(pb::Network::Bridge);
    let name = container(id);
    let mut new = bench.engine.asked(&container(first)).unwrap();
    new.name.clone_from(&name);
    new.command = vec!["true".into()];
    new.network = Some("container:gone".into());
    for (label, value) in [
        ("muster.namespace", "gone".to_owned()),
        ("muster.task", id.task.to_string()),
    ] {
        new.labels.insert(label.into(), value);
    }
    bench.engine.create(&new).await.unwrap();
    bench.coordinator.order(Kind::Offer(offer)).await;
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Succeeded, "exited", Some(0)));
    assert_eq!(bench.engine.starts()[&name], 1);
    agent.stop().await;
}
