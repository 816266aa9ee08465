//! The checks of a live coordinator.

use muster_agent::runtime::fake::Behaviour;
use muster_coordinator::registry::ResolveError;
use muster_proto::v1 as pb;
use muster_proto::v1::admin_service_client::AdminServiceClient;
use muster_tests::cluster::{Cluster, Host, reference, spec, until};

async fn check(cluster: &Cluster) -> Vec<pb::Finding> {
    let mut admin = AdminServiceClient::new(cluster.connect());
    let answer = admin.check(pb::CheckRequest {}).await.unwrap();
    answer.into_inner().findings
}

/// The checks that are not ok, each with its subject.
async fn bad(cluster: &Cluster) -> Vec<(String, pb::Verdict, String)> {
    let found = check(cluster).await.into_iter();
    let bad = found.filter(|one| one.verdict() != pb::Verdict::Ok);
    bad.map(|one| (one.check.clone(), one.verdict(), one.subject))
        .collect()
}

#[tokio::test]
async fn a_busy_fleet_passes_every_check() {
    let mut cluster = Cluster::start().await;
    cluster.set_channel().await;
    let mut host = Host::new("etl-1", 2);
    host.engine.script("work", Behaviour::forever());
    host.start(&cluster).await;
    let job = cluster.submit(spec("analytics", "work"), 4).await;
    cluster.running(&job.id, 2).await;
    assert_eq!(bad(&cluster).await, []);
    let checks: Vec<String> = check(&cluster)
        .await
        .into_iter()
        .map(|one| one.check)
        .collect();
    for word in [
        "store",
        "invariants",
        "memory_and_rows",
        "stuck",
        "quarantine",
        "registry",
    ] {
        assert!(
            checks.contains(&word.to_owned()),
            "{word} is not among {checks:?}"
        );
    }
    cluster.stop().await;
    cluster.start_again().await;
    cluster.agent_is("etl-1", pb::AgentState::Online).await;
    for index in 0..4 {
        host.exit(&job.id, index, 1, 0).await;
    }
    assert_eq!(
        cluster.ended(&job.id).await.outcome(),
        pb::Outcome::Succeeded
    );
    assert_eq!(bad(&cluster).await, []);
    host.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_found_and_a_check_changes_nothing() {
    let cluster = Cluster::start().await;
    assert_eq!(
        bad(&cluster).await,
        [("agent_link".to_owned(), pb::Verdict::Warning, String::new())]
    );
    cluster.set_channel().await;
    let mut host = Host::new("etl-1", 2);
    host.engine.script("work", Behaviour::forever());
    host.start(&cluster).await;
    let cordon = pb::CordonRequest {
        agent: "etl-1".to_owned(),
        reason: "slow disk".to_owned(),
    };
    cluster.agents().cordon(cordon).await.unwrap();
    host.stop().await;
    cluster.agent_is("etl-1", pb::AgentState::Unreachable).await;
    let job = cluster.submit(spec("analytics", "work"), 1).await;
    let repository = muster_tests::sample::repository();
    cluster.registry.fail_next(ResolveError::Denied {
        repository,
        none_in: None,
    });
    let found = bad(&cluster).await;
    let words: Vec<&str> = found.iter().map(|(check, ..)| check.as_str()).collect();
    assert_eq!(words, ["agent_link", "agent_service", "registry"]);
    assert_eq!(found[0].2, "etl-1");
    assert_eq!(cluster.job(&job.id).await, job, "nothing was changed");
    host.start(&cluster).await;
    let uncordon = pb::UncordonRequest {
        agent: "etl-1".to_owned(),
    };
    cluster.agents().uncordon(uncordon).await.unwrap();
    host.exit(&job.id, 0, 1, 0).await;
    cluster.ended(&job.id).await;
    assert_eq!(bad(&cluster).await, []);
    host.stop().await;
}

#[tokio::test]
async fn quarantined_tasks_are_counted_until_each_is_let_go() {
    let cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 2);
    host.engine.script("work", Behaviour::forever());
    host.start(&cluster).await;
    let job = cluster.submit(spec(&reference(), "work"), 2).await;
    for attempt in 1..=3 {
        let first = host.container(&job.id, 0, attempt).await;
        let second = host.container(&job.id, 1, attempt).await;
        cluster.running(&job.id, 2).await;
        host.engine.remove_from_outside(&first);
        host.engine.remove_from_outside(&second);
    }
    let held = async || {
        let found = check(&cluster).await.into_iter();
        let told = found.filter(|one| one.check == "quarantine");
        let told = told.map(|one| (one.verdict(), one.subject, one.what));
        told.collect::<Vec<_>>()
    };
    let warning = |what: &str| {
        let team = "default".to_owned();
        vec![(pb::Verdict::Warning, team, what.to_owned())]
    };
    until("both in quarantine", || async {
        (held().await == warning("2 tasks wait for a person")).then_some(())
    })
    .await;
    let requeue = pb::RequeueRequest {
        job: job.id.clone(),
        index: 0,
        ..Default::default()
    };
    cluster.jobs().requeue(requeue).await.unwrap();
    assert_eq!(held().await, warning("1 task waits for a person"));
    let drop = pb::DropRequest {
        job: job.id.clone(),
        index: 1,
        ..Default::default()
    };
    cluster.jobs().drop(drop).await.unwrap();
    assert_eq!(bad(&cluster).await, []);
    host.exit(&job.id, 0, 4, 0).await;
    let counts = cluster.ended(&job.id).await.counts.unwrap();
    assert_eq!((counts.succeeded, counts.infra_error), (1, 1));
    host.stop().await;
}

#[tokio::test]
async fn the_invariants_are_a_figure_on_the_metrics_page() {
    let cluster = Cluster::start().await;
    let page = async || {
        let answer = reqwest::get(format!("{}/metrics", cluster.http))
            .await
            .unwrap();
        answer.text().await.unwrap()
    };
    until("a first pass", || async {
        page()
            .await
            .contains("\nmuster_invariant_violations 0\n")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_diagnosis_has_settings_and_figures() {
    let cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 1);
    host.start(&cluster).await;
    let job = cluster.submit(spec(&reference(), "load"), 1).await;
    cluster.ended(&job.id).await;
    let mut admin = AdminServiceClient::new(cluster.connect());
    let told = admin
        .diagnose(pb::DiagnoseRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(told.settings["MUSTER_COORDINATOR_HEARTBEAT"], "500ms");
    assert_eq!(
        told.settings["MUSTER_COORDINATOR_WEBHOOK_SECRETS_FILE"],
        "none"
    );
    assert!(
        told.metrics.contains("muster_jobs_submitted_total"),
        "{}",
        told.metrics
    );
    host.stop().await;
}
