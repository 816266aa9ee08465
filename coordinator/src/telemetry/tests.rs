use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use muster_core::channel::{Cause, ChannelId, Release};
use muster_core::ids::{ChannelName, TeamName};
use muster_core::image::Digest;
use muster_core::rollout::gate::Tally;
use muster_core::rollout::plan::Plan;
use muster_core::rollout::policy::Policy;
use muster_core::rollout::{Conclusion, Moment, Phase, Rollout, State as RolloutState};
use muster_core::time::Timestamp;
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

fn rolled_back() -> Rollout {
    let release = |number: u64, byte| Release {
        number,
        repository: "registry.example/acme/etl".parse().unwrap(),
        digest: Digest::from_bytes([byte; 32]),
        at: Timestamp(0),
        cause: Cause::Webhook,
        reason: String::new(),
        by: String::new(),
        revision: "8f2c1aa".to_owned(),
        created: String::new(),
        policy: None,
    };
    let moment = |at, phase, what: &str| Moment {
        at: Timestamp(at),
        phase,
        what: what.to_owned(),
    };
    Rollout {
        channel: ChannelId {
            team: TeamName::parse("blue").unwrap(),
            name: ChannelName::parse("analytics").unwrap(),
        },
        from: release(40, 0xaa),
        to: release(41, 0xbb),
        policy: Policy::default(),
        plan: Plan { steps: Vec::new() },
        state: RolloutState::Ended {
            how: Conclusion::RolledBack,
            at: Timestamp(1_700_000_090_000),
            reason: "too many failed".to_owned(),
        },
        began: Timestamp(1_700_000_000_000),
        validation: None,
        tally: Tally::default(),
        timeline: vec![
            moment(1_700_000_000_000, Phase::Resolve, "webhook: it moved"),
            moment(1_700_000_060_000, Phase::Canary, "12 attempts were judged"),
        ],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_that_ended_is_a_span_with_its_times_and_timeline() {
    let (endpoint, seen) = collector().await;
    let provider = provider("muster-test", Some(&endpoint)).unwrap();
    let tracer = provider.tracer(TRACER);
    let mut under_way = rolled_back();
    under_way.channel.name = ChannelName::parse("unfinished").unwrap();
    under_way.state = RolloutState::Active {
        step: 0,
        since: Timestamp(0),
        paused: None,
    };

    rollout::export(&tracer, &under_way);
    rollout::export(&tracer, &rolled_back());
    let telemetry = Telemetry {
        provider: Some(provider),
    };
    telemetry.shutdown().await;

    let seen = seen.lock().unwrap().clone();
    let has = |part: &[u8]| seen.windows(part.len()).any(|window| window == part);
    let (old, new) = ("aa".repeat(32), "bb".repeat(32));
    for part in [
        "rollout",
        "blue",
        "analytics",
        "rolled_back",
        "too many failed",
        "8f2c1aa",
        &old,
        &new,
        "resolve",
        "webhook: it moved",
        "canary",
        "12 attempts were judged",
    ] {
        assert!(has(part.as_bytes()), "{part}");
    }
    for millis in [1_700_000_000_000_u64, 1_700_000_060_000, 1_700_000_090_000] {
        let nanos = millis * 1_000_000;
        assert!(has(&nanos.to_le_bytes()), "{millis}");
    }
    assert!(!has(b"unfinished"));
}

#[test]
fn the_plumbings_spans_are_not_made() {
    let config = TelemetryConfig {
        service_name: "test",
        log_format: LogFormat::Text,
        default_filter: "info",
    };
    tracing::subscriber::with_default(subscriber(&config, None).unwrap(), || {
        assert!(!tracing::info_span!("ours").is_disabled());
        assert!(tracing::trace_span!(target: "h2::codec", "frame").is_disabled());
    });
}
