//! The store is put back to an older copy of itself while agents run.

use std::path::Path;

use muster_agent::runtime::fake::Behaviour;
use muster_coordinator::store;
use muster_proto::v1 as pb;
use muster_proto::v1::admin_service_client::AdminServiceClient;
use muster_tests::cluster::{Cluster, Host, reference, spec, until};
use tonic::Code;

/// Copies the store of the running coordinator, as `muster coordinator backup` does.
async fn back_up(cluster: &Cluster, file: &Path) {
    let mut admin = AdminServiceClient::new(cluster.connect());
    let mut chunks = admin
        .backup(pb::BackupRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        bytes.extend_from_slice(&chunk.data);
        assert!(chunk.size >= u64::try_from(bytes.len()).unwrap());
    }
    std::fs::write(store::unfinished(file), bytes).unwrap();
    store::finish_backup(&store::unfinished(file), file).unwrap();
}

async fn restore(cluster: &mut Cluster, file: &Path) {
    cluster.stop().await;
    until("a store that nobody uses", || async {
        store::restore(file, cluster.data_dir()).ok()
    })
    .await;
    cluster.start_again().await;
}

async fn adopt(cluster: &Cluster, dry_run: bool) -> Result<pb::AdoptResponse, tonic::Status> {
    let mut admin = AdminServiceClient::new(cluster.connect());
    let request = pb::AdoptRequest {
        dry_run,
        without_agents: false,
    };
    Ok(admin.adopt(request).await?.into_inner())
}

/// Waits until the agents have called and said everything.
async fn plan(cluster: &Cluster, agents: usize, strays_ended: usize) -> pb::AdoptResponse {
    until("agents that have called", || async {
        let plan = adopt(cluster, true).await.unwrap();
        let ended = plan.strays.iter().filter(|stray| stray.end.is_some());
        (plan.called.len() == agents && ended.count() == strays_ended).then_some(plan)
    })
    .await
}

fn once(spec: pb::JobSpec) -> pb::JobSpec {
    pb::JobSpec {
        delivery: pb::Delivery::AtMostOnce.into(),
        ..spec
    }
}

/// R25: two agents with four places. When the backup is made, two tasks of a job of six run on each, and
/// a job of two that may not run twice waits. Afterwards one task of each agent succeeds, others follow,
/// one job is submitted, and then the older copy comes back.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one history, told in its order")]
async fn an_older_store_kills_nothing_and_runs_nothing_twice_unsaid() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("backup");
    let mut cluster = Cluster::start().await;
    let mut hosts = [Host::new("etl-1", 2), Host::new("etl-2", 2)];
    for host in &mut hosts {
        host.engine.script("work", Behaviour::forever());
        host.start(&cluster).await;
    }
    let job = cluster.submit(spec(&reference(), "work"), 6).await.id;
    cluster.running(&job, 4).await;
    let careful = cluster.submit(once(spec(&reference(), "work")), 2).await.id;
    back_up(&cluster, &file).await;

    // After the backup: 0 to 3 end and are acknowledged, 4 and 5 and the two careful ones run.
    for index in 0..4 {
        let host = on(&hosts, &job, index, 1).await;
        hosts[host].exit(&job, index, 1, 0).await;
    }
    cluster.running(&job, 2).await;
    cluster.running(&careful, 2).await;
    let stray = cluster.submit(spec(&reference(), "work"), 1).await.id;
    let host = on(&hosts, &job, 4, 1).await;
    hosts[host].exit(&job, 4, 1, 0).await;
    cluster.running(&stray, 1).await;
    // One more ends while no coordinator is there.
    cluster.stop().await;
    let host = on(&hosts, &careful, 0, 1).await;
    hosts[host].exit(&careful, 0, 1, 0).await;
    restore(&mut cluster, &file).await;

    let plan = plan(&cluster, 2, 0).await;
    assert!(plan.why.contains("restored from a backup"), "{}", plan.why);
    assert!(plan.backup.is_some());
    // 5 and the two careful ones; what had ended of those was reported and is recorded.
    assert_eq!(plan.taken_over, 3);
    let careful_job = cluster.job(&careful).await;
    until("the careful task's end", || async {
        let counts = cluster.job(&careful).await.counts.unwrap();
        (counts.succeeded == 1 && counts.running == 1).then_some(())
    })
    .await;
    assert_eq!(careful_job.array, 2);
    // 0 to 4 have run, and nobody can know: they are listed. The stray's job is not in the copy.
    let again: Vec<_> = plan.again.iter().flat_map(|of| &of.tasks).collect();
    assert_eq!(again, [&pb::IndexRange { first: 0, last: 4 }]);
    assert_eq!(plan.lost, []);
    let strays: Vec<_> = plan
        .strays
        .iter()
        .map(|s| s.attempt.clone().unwrap().job)
        .collect();
    assert_eq!(strays, [stray]);
    // Nothing was stopped and nothing started.
    assert_eq!(plan.strays[0].end, None);
    assert_eq!(starts(&hosts), 9);

    adopt(&cluster, false).await.unwrap();
    assert_eq!(
        adopt(&cluster, true).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    // The attempt without a job is stopped; the listed ones run with numbers of their own.
    let (host, name) = (
        on(&hosts, &careful, 1, 1).await,
        on(&hosts, &job, 5, 1).await,
    );
    hosts[host].exit(&careful, 1, 1, 0).await;
    hosts[name].exit(&job, 5, 1, 0).await;
    for index in 0..5 {
        let number = until("another attempt", || async {
            let tasks = cluster.tasks(&job).await;
            let task = tasks.into_iter().find(|task| task.index == index)?;
            (task.attempt > 1_000_000 && task.state() == pb::TaskState::Running)
                .then_some(task.attempt)
        })
        .await;
        let host = on(&hosts, &job, index, number).await;
        hosts[host].exit(&job, index, number, 0).await;
    }
    let counts = cluster.ended(&job).await.counts.unwrap();
    assert_eq!(counts.succeeded, 6);
    let counts = cluster.ended(&careful).await.counts.unwrap();
    assert_eq!((counts.succeeded, counts.retries), (2, 0));
    for host in &mut hosts {
        assert!(host.engine.starts().values().all(|starts| *starts == 1));
        host.is_clean().await;
        host.stop().await;
    }
    // Nine from before, five that were listed.
    assert_eq!(starts(&hosts), 14);
}

/// The host on which the attempt's container is.
async fn on(hosts: &[Host], job: &str, index: u32, number: u32) -> usize {
    let end = format!("{job}.{index}-{number}");
    until("a container", || async {
        hosts
            .iter()
            .position(|host| host.engine.names().iter().any(|name| name.ends_with(&end)))
    })
    .await
}

fn starts(hosts: &[Host]) -> usize {
    hosts.iter().map(|host| host.engine.starts().len()).sum()
}

/// Somebody copied an old file back, without `restore`: the agents have seen a later term, and the
/// coordinator learns of it from them.
#[tokio::test]
async fn a_copy_put_back_by_hand_is_noticed_over_restarts_until_it_is_restored() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("backup");
    let mut cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 2);
    host.engine.script("work", Behaviour::forever());
    back_up(&cluster, &file).await;
    // The agent sees the third term of the original.
    for _ in 0..2 {
        cluster.stop().await;
        cluster.start_again().await;
    }
    host.start(&cluster).await;
    let job = cluster.submit(spec(&reference(), "work"), 1).await.id;
    cluster.running(&job, 1).await;

    cluster.stop().await;
    let database = cluster.data_dir().join("muster.db");
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", database.display()));
    }
    std::fs::copy(&file, &database).unwrap();
    cluster.start_again().await;
    noticed(&cluster).await;
    // Restarts raise the term above what the agent has seen; nobody forgets for that.
    for _ in 0..3 {
        cluster.stop().await;
        cluster.start_again().await;
    }
    noticed(&cluster).await;
    host.stop().await;
    host.start(&cluster).await;
    let other = cluster.submit(spec(&reference(), "work"), 1).await.id;
    let refused = adopt(&cluster, false).await.unwrap_err();
    assert!(refused.message().contains("seen term 3"), "{refused}");

    // The copy is what there is: restoring it from itself makes it a restored store.
    restore(&mut cluster, &database).await;
    let plan = plan(&cluster, 1, 0).await;
    assert_eq!(plan.strays.len(), 1, "its job is not in the copy");
    assert_eq!(host.engine.starts().len(), 1);
    adopt(&cluster, false).await.unwrap();
    cluster.running(&other, 1).await;
    host.stop().await;
}

async fn noticed(cluster: &Cluster) {
    until("a coordinator that knows its store to be old", || async {
        let mut admin = AdminServiceClient::new(cluster.connect());
        let info = admin.info(pb::InfoRequest {}).await.ok()?.into_inner();
        info.safe_mode
            .contains("agent etl-1 has seen term 3")
            .then_some(())
    })
    .await;
}
