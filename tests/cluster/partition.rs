//! The way to the coordinator breaks, for one agent or for most: a proxy between them carries
//! nothing for a while.

use std::time::{Duration, Instant};

use muster_agent::runtime::fake::Behaviour;
use muster_proto::v1 as pb;
use muster_tests::cluster::{Cluster, Host, reference, spec, until};
use muster_tests::proxy::{Proxy, Way};

/// One host with a running attempt, behind a proxy.
async fn behind_proxy(cluster: &Cluster, name: &str) -> (Host, Proxy) {
    let proxy = Proxy::before(cluster.tcp_address()).await;
    let mut host = Host::new(name, 2);
    host.engine.script("work", Behaviour::forever());
    host.start_at(cluster, &proxy.address()).await;
    (host, proxy)
}

async fn short_cut(how: Way) {
    let cluster = Cluster::start_on_tcp().await;
    let (mut host, proxy) = behind_proxy(&cluster, "etl-1").await;
    let job = cluster.submit(spec(&reference(), "work"), 1).await;
    cluster.running(&job.id, 1).await;

    proxy.set(how);
    cluster.agent_is("etl-1", pb::AgentState::Unreachable).await;
    // It ends while nobody hears of it.
    host.exit(&job.id, 0, 1, 0).await;
    proxy.set(Way::Open);
    let counts = cluster.ended(&job.id).await.counts.unwrap();
    assert_eq!((counts.succeeded, counts.retries), (1, 0), "{how:?}");
    assert!(host.engine.starts().values().all(|starts| *starts == 1));
    host.is_clean().await;
    host.stop().await;
}

#[tokio::test]
async fn a_result_is_delivered_after_a_way_that_carried_nothing() {
    short_cut(Way::Blackhole).await;
}

#[tokio::test]
async fn a_result_is_delivered_after_a_way_up_that_carried_nothing() {
    short_cut(Way::BlackholeUp).await;
}

#[tokio::test]
async fn a_result_is_delivered_after_a_way_that_was_cut() {
    short_cut(Way::Cut).await;
}

#[tokio::test]
async fn after_a_long_partition_one_end_counts_and_the_loser_is_stopped() {
    let cluster = Cluster::start_on_tcp_with(&[("MUSTER_COORDINATOR_LOST_AFTER", "1s")]).await;
    let (mut cut, proxy) = behind_proxy(&cluster, "etl-1").await;
    let job = cluster.submit(spec(&reference(), "work"), 1).await;
    cluster.running(&job.id, 1).await;
    let (mut other, _open) = behind_proxy(&cluster, "etl-2").await;

    proxy.set(Way::Cut);
    other.container(&job.id, 0, 2).await;
    proxy.set(Way::Open);
    let healed = cluster.agent_is("etl-1", pb::AgentState::Online).await;
    let stopped = Instant::now();
    cut.is_clean().await;
    assert!(stopped.elapsed() < Duration::from_secs(10), "{healed:?}");

    other.exit(&job.id, 0, 2, 0).await;
    let counts = cluster.ended(&job.id).await.counts.unwrap();
    assert_eq!((counts.succeeded, counts.lost, counts.retries), (1, 0, 1));
    cut.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_task_that_must_not_run_twice_ends_lost_after_a_long_partition() {
    let cluster = Cluster::start_on_tcp_with(&[("MUSTER_COORDINATOR_LOST_AFTER", "1s")]).await;
    let (mut cut, proxy) = behind_proxy(&cluster, "etl-1").await;
    let once = pb::JobSpec {
        delivery: pb::Delivery::AtMostOnce.into(),
        ..spec(&reference(), "work")
    };
    let job = cluster.submit(once, 1).await;
    cluster.running(&job.id, 1).await;
    let (mut other, _open) = behind_proxy(&cluster, "etl-2").await;

    proxy.set(Way::Cut);
    let counts = cluster.ended(&job.id).await.counts.unwrap();
    assert_eq!((counts.lost, counts.retries), (1, 0));
    proxy.set(Way::Open);
    cut.is_clean().await;
    assert!(other.engine.starts().is_empty(), "it ran again");
    cut.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn when_all_agents_are_cut_off_at_once_nothing_is_run_again() {
    let cluster = Cluster::start_on_tcp_with(&[("MUSTER_COORDINATOR_LOST_AFTER", "1s")]).await;
    let mut fleet = Vec::new();
    for name in ["etl-1", "etl-2", "etl-3"] {
        fleet.push(behind_proxy(&cluster, name).await);
    }
    let job = cluster.submit(spec(&reference(), "work"), 6).await;
    cluster.running(&job.id, 6).await;
    for (_, proxy) in &fleet {
        proxy.set(Way::Cut);
    }
    let suspects = || async {
        let answer = cluster
            .agents()
            .list(pb::ListAgentsRequest::default())
            .await;
        answer.unwrap().into_inner().suspects_itself_since
    };
    let since = until("the suspicion", suspects).await;
    // `lost_after` passes while it lasts.
    until("a silence that is long enough", || async {
        let began = u64::try_from(since.seconds).unwrap();
        let passed = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() - began;
        (passed >= 3).then_some(())
    })
    .await;
    for (_, proxy) in &fleet {
        proxy.set(Way::Open);
    }
    for name in ["etl-1", "etl-2", "etl-3"] {
        cluster.agent_is(name, pb::AgentState::Online).await;
    }
    until("trust again", || async {
        suspects().await.is_none().then_some(())
    })
    .await;
    let counts = cluster.job(&job.id).await.counts.unwrap();
    assert_eq!((counts.running, counts.retries), (6, 0));
    for (host, _) in &mut fleet {
        host.stop().await;
    }
}
