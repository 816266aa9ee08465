//! Processes end and come back; containers don't notice.

use muster_agent::runtime::fake::Behaviour;
use muster_proto::v1 as pb;
use muster_tests::cluster::{Cluster, Host, reference, spec, until};

#[tokio::test]
async fn a_restarted_coordinator_finds_its_jobs_and_its_agents_come_back() {
    let mut cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 2);
    host.engine.script("work", Behaviour::forever());
    host.start(&cluster).await;
    let job = cluster.submit(spec(&reference(), "work"), 4).await;
    cluster.running(&job.id, 2).await;

    cluster.stop().await;
    // One task ends while the coordinator is away.
    host.exit(&job.id, 0, 1, 0).await;
    cluster.start_again().await;
    cluster.agent_is("etl-1", pb::AgentState::Online).await;
    for index in 1..4 {
        host.exit(&job.id, index, 1, 0).await;
    }
    let ended = cluster.ended(&job.id).await;
    let counts = ended.counts.unwrap();
    assert_eq!((counts.succeeded, counts.retries), (4, 0));
    assert!(host.engine.starts().values().all(|starts| *starts == 1));
    host.is_clean().await;
    host.stop().await;
}

#[tokio::test]
async fn a_restarted_agent_takes_its_containers_up_again() {
    let cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 2);
    host.engine.script("work", Behaviour::forever());
    host.start(&cluster).await;
    let job = cluster.submit(spec(&reference(), "work"), 2).await;
    cluster.running(&job.id, 2).await;

    host.stop().await;
    assert_eq!(host.engine.names().len(), 2, "containers stay");
    until(
        "all files closed, so that two agents never write one log",
        || async { open_files(&job.id).is_empty().then_some(()) },
    )
    .await;
    // One ends while no agent is there to see it.
    host.exit(&job.id, 0, 1, 7).await;
    host.start(&cluster).await;
    host.exit(&job.id, 1, 1, 0).await;
    let ended = cluster.ended(&job.id).await;
    let counts = ended.counts.unwrap();
    assert_eq!((counts.succeeded, counts.failed, counts.retries), (1, 1, 0));
    host.is_clean().await;
    host.stop().await;
}

#[tokio::test]
async fn an_agent_that_lost_its_journals_takes_its_containers_up_again() {
    let cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 3);
    host.engine.script("work", Behaviour::forever());
    host.start(&cluster).await;
    let job = cluster.submit(spec(&reference(), "work"), 3).await;
    cluster.running(&job.id, 3).await;
    host.stop().await;
    host.lose_journals();
    host.start(&cluster).await;
    host.exit(&job.id, 0, 1, 0).await;
    host.exit(&job.id, 1, 1, 7).await;
    // What was taken up can be stopped, too.
    let request = pb::CancelRequest {
        job: job.id.clone(),
        tasks: vec![pb::IndexRange { first: 2, last: 2 }],
        ..Default::default()
    };
    cluster.jobs().cancel(request).await.unwrap();
    let counts = cluster.ended(&job.id).await.counts.unwrap();
    assert_eq!((counts.succeeded, counts.failed), (1, 1));
    assert_eq!((counts.canceled, counts.retries), (1, 0));
    assert!(host.engine.starts().values().all(|starts| *starts == 1));
    host.is_clean().await;
    host.stop().await;
}

#[tokio::test]
async fn a_cancel_of_one_task_outlives_the_coordinator() {
    let mut cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 2);
    host.engine.script("work", Behaviour::forever());
    host.start(&cluster).await;
    let job = cluster.submit(spec(&reference(), "work"), 2).await;
    cluster.running(&job.id, 2).await;
    host.stop().await;
    cluster.agent_is("etl-1", pb::AgentState::Unreachable).await;
    let request = pb::CancelRequest {
        job: job.id.clone(),
        tasks: vec![pb::IndexRange { first: 1, last: 1 }],
        ..Default::default()
    };
    cluster.jobs().cancel(request).await.unwrap();
    cluster.stop().await;
    cluster.start_again().await;
    host.start(&cluster).await;
    host.exit(&job.id, 0, 1, 0).await;
    let counts = cluster.ended(&job.id).await.counts.unwrap();
    assert_eq!((counts.succeeded, counts.canceled), (1, 1));
    host.is_clean().await;
    host.stop().await;
}

/// Paths of this process's open files with that in their names.
fn open_files(part: &str) -> Vec<String> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let paths = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let paths = paths.map(|path| path.display().to_string());
    paths.filter(|path| path.contains(part)).collect()
}
