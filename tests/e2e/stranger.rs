//! A client that knows nothing of muster but its address: reflection, health, generated messages.

use std::collections::BTreeSet;

use muster_proto::v1 as pb;
use muster_proto::v1::job_service_client::JobServiceClient;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
use tonic_types::StatusExt;

use crate::fleet::{Fleet, enabled};

#[test]
fn a_stranger_finds_the_services_and_is_told_what_is_wrong() {
    if !enabled() {
        return;
    }
    let fleet = Fleet::start(1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", fleet.grpc));
        let channel = channel.unwrap().connect().await.unwrap();
        let services = services(ServerReflectionClient::new(channel.clone())).await;
        for service in [
            "muster.v1.JobService",
            "muster.v1.ChannelService",
            "grpc.health.v1.Health",
        ] {
            assert!(
                services.contains(service),
                "{service} is not in {services:?}"
            );
        }
        let service = "muster.v1.JobService".to_owned();
        let health = HealthClient::new(channel.clone())
            .check(HealthCheckRequest { service })
            .await;
        assert_eq!(health.unwrap().into_inner().status, 1, "SERVING");

        let wrong = pb::JobSpec {
            image: "nobody".into(),
            priority: 99_999,
            ..Default::default()
        };
        let jobs = vec![pb::NewJob {
            spec: Some(wrong),
            array: 20_000_000,
            ..Default::default()
        }];
        let request = pb::SubmitRequest {
            jobs,
            ..Default::default()
        };
        let status = JobServiceClient::new(channel)
            .submit(request)
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status
            .get_details_bad_request()
            .expect("a google.rpc.BadRequest");
        let fields: Vec<&str> = details
            .field_violations
            .iter()
            .map(|found| found.field.as_str())
            .collect();
        assert_eq!(fields, ["jobs[0].array", "jobs[0].spec.priority"]);
        assert!(details.field_violations[1].description.contains("99999"));
    });
}

async fn services(
    mut client: ServerReflectionClient<tonic::transport::Channel>,
) -> BTreeSet<String> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let stream = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap();
    let answer = stream.into_inner().message().await.unwrap();
    let Some(ServerReflectionResponse {
        message_response, ..
    }) = answer
    else {
        panic!("reflection did not answer")
    };
    match message_response {
        Some(MessageResponse::ListServicesResponse(list)) => list
            .service
            .into_iter()
            .map(|service| service.name)
            .collect(),
        other => panic!("reflection answered {other:?}"),
    }
}
