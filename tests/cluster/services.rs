//! What strangers' tools rely on: health, reflection, the admin service, metrics.

use muster_proto::v1 as pb;
use muster_proto::v1::admin_service_client::AdminServiceClient;
use muster_tests::cluster::{Cluster, Host, reference, spec, until};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

#[tokio::test]
async fn every_service_says_that_it_serves() {
    let cluster = Cluster::start().await;
    let mut health = HealthClient::new(cluster.connect());
    for service in ["", "muster.v1.JobService", "muster.v1.SessionService"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
}

#[tokio::test]
async fn reflection_lists_every_service() {
    let cluster = Cluster::start().await;
    let mut reflection = ServerReflectionClient::new(cluster.connect());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection.server_reflection_info(tokio_stream::iter([request]));
    let mut answers = answers.await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("not a list: {answer:?}");
    };
    let names: Vec<String> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    for name in [
        "Job", "Agent", "Channel", "Session", "Admin", "Rollout", "Manifest",
    ] {
        let name = format!("muster.v1.{name}Service");
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
}

#[tokio::test]
async fn free_ports_are_told_in_a_file() {
    let cluster = Cluster::start_on_tcp().await;
    let file = cluster.data_dir().join("addresses.json");
    let told: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let grpc = format!("http://{}", told["grpc"].as_str().unwrap());
    assert_eq!(grpc, cluster.address());
    let http = format!("http://{}", told["http"].as_str().unwrap());
    assert_eq!(http, cluster.http);
    let mut host = Host::new("etl-1", 1);
    host.start(&cluster).await;
    let job = cluster.submit(spec(&reference(), "load"), 1).await;
    assert_eq!(
        cluster.ended(&job.id).await.outcome(),
        pb::Outcome::Succeeded
    );
    host.stop().await;
}

#[tokio::test]
async fn the_term_rises_with_every_start() {
    let mut cluster = Cluster::start().await;
    let info = async |cluster: &Cluster| {
        let mut admin = AdminServiceClient::new(cluster.connect());
        admin.info(pb::InfoRequest {}).await.unwrap().into_inner()
    };
    let before = info(&cluster).await;
    cluster.stop().await;
    cluster.start_again().await;
    let after = info(&cluster).await;
    assert_eq!(before.cluster, after.cluster);
    assert!(after.term > before.term);
}

#[tokio::test]
async fn http_shows_health_and_metrics() {
    let cluster = Cluster::start().await;
    let get = async |path: &str| {
        let answer = reqwest::get(format!("{}{path}", cluster.http))
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        answer.text().await.unwrap()
    };
    assert_eq!(get("/healthz").await, "ok\n");
    assert!(get("/metrics").await.contains("# TYPE muster_"));
}

#[tokio::test]
async fn a_rollout_that_is_under_way_is_a_figure_until_it_ends() {
    let cluster = Cluster::start().await;
    cluster.set_channel().await;
    let canary = pb::CanaryPolicy {
        share: Some(pb::canary_policy::Share::First(4)),
        ..Default::default()
    };
    let set = pb::SetPolicyRequest {
        channel: "analytics".into(),
        policy: Some(pb::RolloutPolicy {
            canary: Some(canary),
            ..Default::default()
        }),
        ..Default::default()
    };
    cluster.rollouts().set_policy(set).await.unwrap();
    cluster.push("latest", 2);
    let start = pb::StartRolloutRequest {
        channel: "analytics".into(),
        ..Default::default()
    };
    cluster.rollouts().start(start).await.unwrap();
    let series =
        r#"muster_rollout_active_seconds{team="default",channel="analytics",phase="canary"}"#;
    let shown = || async {
        let answer = reqwest::get(format!("{}/metrics", cluster.http)).await;
        answer.unwrap().text().await.unwrap().contains(series)
    };
    until("the figure", || async { shown().await.then_some(()) }).await;
    let abort = pb::TellRolloutRequest {
        channel: "analytics".into(),
        ..Default::default()
    };
    cluster.rollouts().abort(abort).await.unwrap();
    until("its end", || async { (!shown().await).then_some(()) }).await;
}
