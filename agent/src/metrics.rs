//! The agent's own figures. They travel with the heartbeats; a port is opened only when one is set.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::http::header;
use axum::response::IntoResponse as _;
use muster_core::promtext::{self, Bounds};
use muster_proto::v1 as pb;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio_util::sync::CancellationToken;

use crate::offer::{DISK_FULL, DOCKER_DEGRADED};

/// Sample lines of a heartbeat.
const BOUNDS: Bounds = Bounds {
    samples: 500,
    label_value: 128,
    labels: 8,
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Why a host refuses every task for a while.
const REFUSING: [&str; 2] = [DISK_FULL, DOCKER_DEGRADED];

/// Every metric of the process, by its constant name; see `docs/telemetry.md`.
#[derive(Debug)]
pub(crate) struct AgentMetrics {
    registry: Mutex<Registry>,
    /// Attempts whose container runs.
    pub running: Gauge,
    /// Attempts that are being pulled, created or started.
    pub preparing: Gauge,
    /// Attempts whose container the engine can't get hold of.
    pub wedged: Gauge,
    /// Containers of ours that run and are in no journal.
    pub orphans_running: Gauge,
    pub orphans_removed: Counter,
    pub orphans_adopted: Counter,
    pub orphans_stopped: Counter,
    pub starts: Counter,
    /// Starts that may be in flight now.
    pub starts_limit: Gauge,
    /// Tasks whose channel wants warm containers and that found one, or didn't.
    pub warm_hits: Counter,
    pub warm_misses: Counter,
    /// Containers that wait for a task.
    pub warm_parked: Gauge,
    pub start_seconds: Histogram,
    pub engine_latency: Gauge<f64, AtomicU64>,
    pub log_spool_bytes: Gauge,
    pub log_unsent_bytes: Gauge,
    pub log_dropped_bytes: Counter,
    pub unacknowledged_reports: Gauge,
    pub session_connects: Counter,
    pub disk_free_bytes: Gauge,
    pub images_removed: Counter,
    /// Parked containers of this process.
    pub namespaces_parked: Gauge,
    pub namespaces_unclean: Counter,
    namespaces_asked: Family<ResultLabel, Counter>,
    refusing: Family<ReasonLabel, Gauge>,
    pull_seconds: Histogram,
    pulls: Family<ResultLabel, Counter>,
}

impl AgentMetrics {
    pub(crate) fn new() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.01, 2.0, 14));
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("muster_agent")),
            running: Gauge::default(),
            preparing: Gauge::default(),
            wedged: Gauge::default(),
            orphans_running: Gauge::default(),
            orphans_removed: Counter::default(),
            orphans_adopted: Counter::default(),
            orphans_stopped: Counter::default(),
            starts: Counter::default(),
            starts_limit: Gauge::default(),
            warm_hits: Counter::default(),
            warm_misses: Counter::default(),
            warm_parked: Gauge::default(),
            start_seconds: seconds(),
            engine_latency: Gauge::default(),
            log_spool_bytes: Gauge::default(),
            log_unsent_bytes: Gauge::default(),
            log_dropped_bytes: Counter::default(),
            unacknowledged_reports: Gauge::default(),
            session_connects: Counter::default(),
            disk_free_bytes: Gauge::default(),
            images_removed: Counter::default(),
            namespaces_parked: Gauge::default(),
            namespaces_unclean: Counter::default(),
            namespaces_asked: Family::default(),
            refusing: Family::default(),
            pull_seconds: seconds(),
            pulls: Family::default(),
        };
        metrics.register();
        metrics
    }

    #[rustfmt::skip]
    fn register(&self) {
        let mut registry = self.registry.lock().expect("no holder of the lock panics");
        let r = &mut *registry;
        r.register("attempts_running", "Attempts whose container runs", self.running.clone());
        r.register("attempts_preparing", "Attempts being pulled, created or started", self.preparing.clone());
        r.register("attempts_wedged", "Attempts whose container does not die or can't be inspected", self.wedged.clone());
        r.register("orphans_running", "Containers of this agent that run and are in no journal", self.orphans_running.clone());
        r.register("orphans_removed", "Containers of this agent that did not run, were in no journal and were removed", self.orphans_removed.clone());
        r.register("orphans_adopted", "Containers of this agent that were in no journal and were taken up again", self.orphans_adopted.clone());
        r.register("orphans_stopped", "Containers of this agent that ran, were in no journal and were stopped, because the coordinator does not want them", self.orphans_stopped.clone());
        r.register("starts", "Containers started", self.starts.clone());
        r.register("starts_limit", "Containers that may be created and started at a time, as the engine keeps up", self.starts_limit.clone());
        r.register("warm_hits", "Tasks that were started in a warm container", self.warm_hits.clone());
        r.register("warm_misses", "Tasks of channels with warm containers that found none", self.warm_misses.clone());
        r.register("warm_parked", "Containers that wait for a task", self.warm_parked.clone());
        r.register_with_unit("start", "From create to started", Unit::Seconds, self.start_seconds.clone());
        r.register("pulls", "Images pulled, by result", self.pulls.clone());
        r.register_with_unit("pull", "Time of one pull", Unit::Seconds, self.pull_seconds.clone());
        r.register_with_unit("engine_latency", "Round trip of a small request to the engine", Unit::Seconds, self.engine_latency.clone());
        r.register_with_unit("log_spool", "Output kept on this host", Unit::Bytes, self.log_spool_bytes.clone());
        r.register_with_unit("log_unsent", "Output the coordinator does not have yet", Unit::Bytes, self.log_unsent_bytes.clone());
        r.register_with_unit("log_dropped", "Output dropped because the spool was full", Unit::Bytes, self.log_dropped_bytes.clone());
        r.register("reports_unacknowledged", "Reports the coordinator has not acknowledged", self.unacknowledged_reports.clone());
        r.register("session_connects", "Streams opened to the coordinator", self.session_connects.clone());
        r.register_with_unit("disk_free", "Free on the fullest of the disks that tasks use", Unit::Bytes, self.disk_free_bytes.clone());
        r.register("images_removed", "Images removed to free disk", self.images_removed.clone());
        r.register("namespaces_parked", "Network namespaces made ahead, idle or lent", self.namespaces_parked.clone());
        r.register("namespaces_unclean", "Network namespaces removed because a task had left something in them", self.namespaces_unclean.clone());
        r.register("namespaces_asked", "Starts that could use a network namespace made ahead, by whether there was one", self.namespaces_asked.clone());
        r.register("refusing", "1 while new tasks are refused, by reason", self.refusing.clone());
    }

    /// Why new tasks are refused now.
    pub(crate) fn refuses(&self, reasons: &[&'static str]) {
        for reason in REFUSING {
            let now = i64::from(reasons.contains(&reason));
            let label = ReasonLabel { reason };
            self.refusing.get_or_create_owned(&label).set(now);
        }
    }

    pub(crate) fn pulled(&self, ok: bool, took: Duration) {
        let result = if ok { "ok" } else { "failed" };
        self.pulls
            .get_or_create_owned(&ResultLabel { result })
            .inc();
        self.pull_seconds.observe(took.as_secs_f64());
    }

    /// Whether there was a namespace for a container that could use one.
    pub(crate) fn namespace_asked(&self, found: bool) {
        let result = if found { "hit" } else { "miss" };
        let label = ResultLabel { result };
        self.namespaces_asked.get_or_create_owned(&label).inc();
    }

    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let registry = self.registry.lock().expect("no holder of the lock panics");
        text::encode(&mut out, &registry).expect("writing to a string does not fail");
        out
    }

    /// The figures as a heartbeat carries them.
    pub(crate) fn samples(&self) -> Vec<pb::Sample> {
        let families = promtext::parse(&self.text(), &BOUNDS).unwrap_or_default();
        let samples = families.into_iter().flat_map(|family| family.samples);
        samples
            .map(|sample| pb::Sample {
                name: sample.name,
                labels: sample.labels.into_iter().collect(),
                value: sample.value,
            })
            .collect()
    }
}

/// Serves `/metrics` until `shutdown`.
///
/// # Errors
/// If the address can't be listened on.
pub(crate) async fn serve(
    metrics: std::sync::Arc<AgentMetrics>,
    address: SocketAddr,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let handler = move || {
        let text = metrics.text();
        async move { ([(header::CONTENT_TYPE, kind)], text).into_response() }
    };
    let router = axum::Router::new().route("/metrics", axum::routing::get(handler));
    tokio::spawn(async move {
        let stop = async move { shutdown.cancelled().await };
        if let Err(error) = axum::serve(listener, router)
            .with_graceful_shutdown(stop)
            .await
        {
            tracing::warn!(%error, "metrics port closed");
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_carry_every_figure() {
        let metrics = AgentMetrics::new();
        metrics.running.set(3);
        metrics.starts.inc();
        metrics.pulled(true, Duration::from_millis(30));
        metrics.refuses(&[DISK_FULL]);
        let samples = metrics.samples();
        let value = |name: &str| samples.iter().find(|s| s.name == name).map(|s| s.value);
        assert_eq!(value("muster_agent_attempts_running"), Some(3.0));
        assert_eq!(value("muster_agent_starts_total"), Some(1.0));
        assert_eq!(value("muster_agent_pulls_total"), Some(1.0));
        assert_eq!(value("muster_agent_pull_seconds_count"), Some(1.0));
        assert_eq!(value("muster_agent_log_unsent_bytes"), Some(0.0));
        let refusing = |reason: &str| {
            let of = |s: &&pb::Sample| s.labels.values().any(|label| label == reason);
            let all = samples.iter().filter(of);
            all.map(|sample| sample.value).sum::<f64>()
        };
        assert!(refusing(DISK_FULL) > 0.5 && refusing(DOCKER_DEGRADED) < 0.5);
    }
}
