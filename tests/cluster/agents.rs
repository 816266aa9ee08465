//! Agents in and out of service.

use muster_agent::runtime::fake::Behaviour;
use muster_proto::v1 as pb;
use muster_tests::cluster::{Cluster, Host, reference, spec, until};
use tonic::Code;

#[tokio::test]
async fn an_agent_shows_what_it_is_and_what_runs_on_it() {
    let cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 3);
    host.engine.script("work", Behaviour::forever());
    host.start(&cluster).await;
    let job = cluster.submit(spec(&reference(), "work"), 2).await;
    cluster.running(&job.id, 2).await;
    let agent = cluster.agent_is("etl-1", pb::AgentState::Online).await;
    assert_eq!(agent.pool, "default");
    assert_eq!(agent.capacity.unwrap().places, 3);
    assert_eq!(agent.reserved.unwrap().places, 2);
    assert_eq!(agent.engine, "fake");
    host.stop().await;
    cluster.agent_is("etl-1", pb::AgentState::Unreachable).await;
    assert_eq!(
        cluster.job(&job.id).await.counts.unwrap().running,
        2,
        "silence kills nothing"
    );
}

#[tokio::test]
async fn a_cordoned_agent_gets_nothing_new_until_it_is_back_in_service() {
    let cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 2);
    host.engine.script("work", Behaviour::forever());
    host.start(&cluster).await;
    let first = cluster.submit(spec(&reference(), "work"), 1).await;
    cluster.running(&first.id, 1).await;
    let request = pb::CordonRequest {
        agent: "etl-1".into(),
        reason: "a loud disk".into(),
    };
    let agent = cluster.agents().cordon(request).await.unwrap().into_inner();
    assert_eq!(agent.schedulable(), pb::Schedulable::Cordoned);
    assert_eq!(agent.reason, "a loud disk");
    let second = cluster.submit(spec(&reference(), "load"), 1).await;
    let request = pb::ExplainRequest {
        job: second.id.clone(),
        ..Default::default()
    };
    let why = cluster.jobs().explain(request).await.unwrap().into_inner();
    assert_eq!(why.reasons[0].code, "nobody_in_service");
    assert_eq!(cluster.job(&first.id).await.counts.unwrap().running, 1);

    let request = pb::UncordonRequest {
        agent: "etl-1".into(),
    };
    cluster.agents().uncordon(request).await.unwrap();
    cluster.ended(&second.id).await;
    host.stop().await;

    let request = pb::UncordonRequest {
        agent: "nobody".into(),
    };
    let status = cluster.agents().uncordon(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn what_runs_at_a_drains_deadline_goes_on_elsewhere() {
    let cluster = Cluster::start().await;
    let (mut one, mut two) = (Host::new("etl-1", 1), Host::new("etl-2", 1));
    for host in [&one, &two] {
        host.engine.script("work", Behaviour::forever());
    }
    one.start(&cluster).await;
    let job = cluster.submit(spec(&reference(), "work"), 1).await;
    cluster.running(&job.id, 1).await;
    two.start(&cluster).await;
    let request = pb::DrainRequest {
        agent: "etl-1".into(),
        reason: "a new kernel".into(),
        deadline: Some(prost_types::Duration {
            seconds: 0,
            nanos: 100_000_000,
        }),
    };
    cluster.agents().drain(request).await.unwrap();
    until("the second attempt", || async {
        let task = cluster.tasks(&job.id).await.pop()?;
        (task.agent == "etl-2" && task.state() == pb::TaskState::Running).then_some(())
    })
    .await;
    two.exit(&job.id, 0, 2, 0).await;
    let ended = cluster.ended(&job.id).await;
    assert_eq!(ended.outcome(), pb::Outcome::Succeeded);
    one.is_clean().await;
    one.stop().await;
    two.stop().await;
}
