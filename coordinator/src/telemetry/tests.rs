use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use opentelemetry::trace::TraceContextExt as _;
use tokio::net::TcpListener;

use super::*;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Runs `work` with spans that have ids and go nowhere.
fn traced(work: impl FnOnce()) {
    let provider = SdkTracerProvider::builder().build();
    let subscriber = tracing_subscriber::registry().with(trace_layer(&provider));
    tracing::subscriber::with_default(subscriber, work);
}

#[test]
fn a_trace_goes_from_the_caller_through_a_span_to_the_next_call() {
    traced(|| {
        let request = http::Request::post("/muster.v1.JobService/Submit")
            .header("traceparent", PARENT)
            .body(())
            .unwrap();
        let span = grpc_span(&request);
        let _entered = span.enter();

        let own = current_traceparent().unwrap();
        assert!(
            own.starts_with(&format!("00-{TRACE}-")) && own != PARENT,
            "{own}"
        );
        let mut next = tonic::Request::new(());
        inject(&mut next);
        assert_eq!(next.metadata().get("traceparent").unwrap(), own.as_str());
    });
}

#[test]
fn a_stored_trace_is_continued_later() {
    traced(|| {
        let span = tracing::info_span!("agent.attempt");
        continue_trace(&span, PARENT);
        let trace_id = span.context().span().span_context().trace_id();
        assert_eq!(trace_id.to_string(), TRACE);

        let other = tracing::info_span!("agent.attempt");
        continue_trace(&other, "not a traceparent\n");
        assert_ne!(other.context().span().span_context().trace_id(), trace_id);
    });
}

#[test]
fn without_tracing_there_is_no_trace_and_nothing_breaks() {
    let span = tracing::info_span!("agent.attempt");
    continue_trace(&span, PARENT);
    let _entered = span.enter();
    assert_eq!(current_traceparent(), None);
    let mut next = tonic::Request::new(());
    inject(&mut next);
    assert!(next.metadata().get("traceparent").is_none());
}

#[test]
fn only_a_well_formed_trace_of_the_caller_is_handed_on() {
    for (value, good) in [
        (PARENT, true),
        (
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            false,
        ),
        (
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            false,
        ),
        ("$(reboot)", false),
    ] {
        let mut metadata = MetadataMap::new();
        metadata.insert("traceparent", value.parse().unwrap());
        let handed_on = callers_traceparent(&metadata);
        assert_eq!(handed_on.as_deref(), good.then_some(value));
    }
    assert_eq!(callers_traceparent(&MetadataMap::new()), None);
}

#[test]
fn a_bad_filter_is_named_with_its_value() {
    let error = log_filter("info,=,=").map(|_| ()).unwrap_err();
    let text = "MUSTER_LOG: \"info,=,=\" is not a list such as info,muster_coordinator=debug";
    assert_eq!(error.to_string(), text);
    assert_eq!(log_filter("").unwrap().to_string(), "info");
}

/// A collector that keeps what is exported to it.
async fn collector() -> (String, Arc<Mutex<Vec<u8>>>) {
    async fn take(State(seen): State<Arc<Mutex<Vec<u8>>>>, body: Bytes) -> http::Response<String> {
        seen.lock().unwrap().extend_from_slice(&body);
        http::Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "0")
            .body(String::new())
            .unwrap()
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(take).with_state(seen.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (endpoint, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_reach_a_collector_by_the_end() {
    let (endpoint, seen) = collector().await;
    let provider = provider("muster-test", Some(&endpoint)).unwrap();
    let subscriber = tracing_subscriber::registry().with(trace_layer(&provider));
    tracing::subscriber::with_default(subscriber, || {
        let _span = tracing::info_span!("coordinator.commit", team = "blue").entered();
    });

    let telemetry = Telemetry {
        provider: Some(provider),
    };
    telemetry.shutdown().await;

    let seen = String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
    for part in ["muster-test", "coordinator.commit", "blue"] {
        assert!(seen.contains(part), "{part}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_not_there_holds_nothing_up() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let provider = provider("muster-test", Some(&endpoint)).unwrap();
    let subscriber = tracing_subscriber::registry().with(trace_layer(&provider));
    let began = std::time::Instant::now();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..10_000 {
            let _span = tracing::info_span!("coordinator.commit").entered();
        }
    });
    assert!(began.elapsed() < Duration::from_secs(5));

    let telemetry = Telemetry {
        provider: Some(provider),
    };
    telemetry.shutdown().await;

    assert!(began.elapsed() < EXPORT_TIMEOUT * 4);
}
