//! The way to the coordinator breaks, for one agent or for most: a proxy between them carries
//! nothing for a while.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use muster_agent::runtime::fake::Behaviour;
use muster_core::logframe::LogStream;
use muster_proto::v1 as pb;
use muster_tests::cluster::{Cluster, Host, reference, spec, until, until_within};
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
async fn a_result_is_delivered_after_connections_that_were_reset() {
    short_cut(Way::Reset).await;
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_by_both_ends_and_replaced() {
    let cluster = Cluster::start_on_tcp().await;
    let (mut host, proxy) = behind_proxy(&cluster, "etl-1").await;
    let job = cluster.submit(spec(&reference(), "work"), 1).await;
    cluster.running(&job.id, 1).await;

    let began = Instant::now();
    proxy.forget();
    cluster.agent_is("etl-1", pb::AgentState::Unreachable).await;
    let seen = began.elapsed();
    assert!(
        seen < Duration::from_secs(10),
        "four heartbeats take 2 s: {seen:?}"
    );
    host.exit(&job.id, 0, 1, 0).await;
    // The agent has nothing but pings to notice it by.
    let limit = Duration::from_secs(40);
    let before = proxy.taken();
    until_within(limit, "another connection", || async {
        (proxy.taken() > before).then_some(())
    })
    .await;
    let counts = cluster.ended(&job.id).await.counts.unwrap();
    assert_eq!((counts.succeeded, counts.retries), (1, 0));
    host.is_clean().await;
    host.stop().await;
}

#[tokio::test]
async fn a_slow_way_costs_time_only() {
    let cluster = Cluster::start_on_tcp().await;
    let (mut host, proxy) = behind_proxy(&cluster, "etl-1").await;
    host.engine.script("short", Behaviour::default());
    let before = proxy.taken();
    proxy.set(Way::Slow(Duration::from_millis(500)));
    let job = cluster.submit(spec(&reference(), "short"), 6).await;
    let counts = cluster.ended(&job.id).await.counts.unwrap();
    assert_eq!((counts.succeeded, counts.retries), (6, 0));
    assert!(host.engine.starts().values().all(|starts| *starts == 1));
    host.is_clean().await;
    assert_eq!(proxy.taken(), before, "it lost its connection");
    host.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_cut_off_does_not_dial_all_the_time() {
    let cluster = Cluster::start_on_tcp().await;
    let (mut host, proxy) = behind_proxy(&cluster, "etl-1").await;
    let before = proxy.taken();
    let began = Instant::now();
    proxy.set(Way::Reset);
    until("eight seconds", || async {
        (began.elapsed() >= Duration::from_secs(8)).then_some(())
    })
    .await;
    let (dialled, took) = (proxy.taken() - before, began.elapsed());
    println!("dialled {dialled} times in {took:?}");
    // The first waits are the shortest, so this is the worst of it.
    assert!(
        (1..=took.as_secs()).contains(&dialled),
        "more than once a second"
    );
    host.stop().await;
}

/// A task's whole output.
async fn lines(cluster: &Cluster, job: &str, index: u32) -> Vec<String> {
    let request = pb::LogsRequest {
        job: job.to_owned(),
        index,
        ..Default::default()
    };
    let answer = cluster.jobs().logs(request).await.unwrap().into_inner();
    let parts: Vec<pb::LogEntries> = answer.try_collect().await.unwrap();
    assert!(parts.last().is_some_and(|last| last.complete), "{parts:?}");
    let entries = parts.iter().flat_map(|part| &part.entries);
    let bytes = entries.flat_map(|entry| entry.data.clone()).collect();
    let text = String::from_utf8(bytes).unwrap();
    text.split_inclusive('\n').map(str::to_owned).collect()
}

#[tokio::test]
async fn agents_outlive_the_coordinator_and_deliver_every_result_and_byte() {
    let mut cluster = Cluster::start().await;
    let mut hosts = Vec::new();
    for name in ["etl-1", "etl-2"] {
        let mut host = Host::new(name, 4);
        host.engine.script("work", Behaviour::forever());
        host.start(&cluster).await;
        hosts.push(host);
    }
    let job = cluster.submit(spec(&reference(), "work"), 8).await;
    cluster.running(&job.id, 8).await;
    cluster.stop().await;

    // All their output and all their ends are of the time without a coordinator.
    let mut printed = Vec::new();
    for host in &hosts {
        for name in host.engine.names() {
            for line in 0..200 {
                let text = format!("{name} {line}\n");
                assert!(host.engine.print(&name, LogStream::Stdout, &text));
                printed.push(text);
            }
            assert!(host.engine.exit(&name, 0));
        }
    }
    cluster.start_again().await;
    let counts = cluster.ended(&job.id).await.counts.unwrap();
    assert_eq!((counts.succeeded, counts.retries), (8, 0));
    for host in &mut hosts {
        host.is_clean().await;
        host.stop().await;
    }
    let mut seen = Vec::new();
    for index in 0..8 {
        seen.extend(lines(&cluster, &job.id, index).await);
    }
    seen.sort_unstable();
    printed.sort_unstable();
    assert_eq!(seen, printed);
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

/// Cuts off the first `cut` of so many agents for longer than `lost_after`.
async fn mass_cut(agents: usize, cut: usize) {
    let cluster = Cluster::start_on_tcp_with(&[("MUSTER_COORDINATOR_LOST_AFTER", "1s")]).await;
    let mut fleet = Vec::new();
    for number in 1..=agents {
        fleet.push(behind_proxy(&cluster, &format!("etl-{number}")).await);
    }
    let tasks = u32::try_from(2 * agents).unwrap();
    let job = cluster.submit(spec(&reference(), "work"), tasks).await;
    cluster.running(&job.id, tasks).await;
    for (_, proxy) in &fleet[..cut] {
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
    for number in 1..=agents {
        let name = format!("etl-{number}");
        cluster.agent_is(&name, pb::AgentState::Online).await;
    }
    until("trust again", || async {
        suspects().await.is_none().then_some(())
    })
    .await;
    let counts = cluster.job(&job.id).await.counts.unwrap();
    assert_eq!((counts.running, counts.retries), (tasks, 0));
    for (host, _) in &mut fleet {
        host.stop().await;
    }
}

#[tokio::test]
async fn when_all_agents_are_cut_off_at_once_nothing_is_run_again() {
    mass_cut(3, 3).await;
}

#[tokio::test]
async fn when_most_agents_are_cut_off_at_once_nothing_is_run_again() {
    mass_cut(5, 3).await;
}
