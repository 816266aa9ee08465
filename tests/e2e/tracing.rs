//! One trace from the submission to the exit, over three processes and into the container.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::fleet::{Fleet, IMAGE, enabled, stderr, stdout};
use crate::processes::eventually;

/// (trace id in hexadecimal, span name, whether it names an image's digest)
type Spans = Arc<Mutex<BTreeSet<(String, String, bool)>>>;

struct Collector(Spans);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let spans = resources
            .into_iter()
            .flat_map(|resource| resource.scope_spans);
        for span in spans.flat_map(|scope| scope.spans) {
            let trace: String = span
                .trace_id
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let describes = |attribute: &&KeyValue| attribute.key == "image.digest";
            let has_image = span
                .attributes
                .iter()
                .any(|attribute| describes(&attribute));
            let mut spans = self.0.lock().unwrap();
            spans.insert((trace, span.name, has_image));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[test]
fn the_container_is_in_the_trace_of_its_submission() {
    if !enabled() {
        return;
    }
    let spans = Spans::default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let collector = format!("http://{}", listener.local_addr().unwrap());
    let service = TraceServiceServer::new(Collector(spans.clone()));
    runtime.spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("OTEL_TRACES_SAMPLER", "always_on"),
    ];
    let fleet = Fleet::start_in(1, &[], &variables);
    let command = [
        "run",
        "--pull",
        "never",
        "--network",
        "none",
        IMAGE,
        "sh",
        "-c",
        "echo $TRACEPARENT",
    ];
    let output = fleet.muster(&command);
    let traceparent = stdout(&output);
    let trace = traceparent.split('-').nth(1).unwrap_or_default().to_owned();
    assert_eq!(trace.len(), 32, "{traceparent} {}", stderr(&output));

    eventually("the spans of that trace", || {
        let spans = spans.lock().unwrap();
        let of_trace = || spans.iter().filter(|(of, ..)| *of == trace);
        let submitted = of_trace().any(|(_, name, _)| name.ends_with("JobService/Submit"));
        let ran = of_trace().any(|(_, name, has_image)| name == "agent.attempt" && *has_image);
        (submitted && ran).then_some(())
    });
}
