//! Logs to stderr, and traces over OTLP if the environment asks for them.
//!
//! Neither is waited for: spans that the collector does not take in time are dropped by the SDK.

use std::io::IsTerminal as _;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap};
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::{FilterExt as _, FilterFn, LevelFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, fmt};

mod recent;
mod rollout;

pub use recent::recent_lines;
pub(crate) use rollout::rollout_ended;

use recent::IntoRecent;

/// The instrumentation scope of every span.
const TRACER: &str = "muster";
/// What is logged, as `TARGET=LEVEL,...`; default `info`.
const LOG_VARIABLE: &str = "MUSTER_LOG";
/// Without one of these, nothing is exported.
const ENDPOINT_VARIABLES: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];
const TIMEOUT_VARIABLES: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
];
/// For one export, retries included, unless a variable says otherwise.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);
/// Ours, and not the plumbing's: the exporter's own connection would make spans about spans.
const TRACED: &str = "info,h2=off,hyper=off,hyper_util=off,tonic=off,tower=off,tower_http=off,\
                      reqwest=off,rustls=off,opentelemetry=off";

/// How a process logs and traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// `muster-coordinator` or the like; `OTEL_SERVICE_NAME` goes before it.
    pub service_name: &'static str,
    /// `MUSTER_LOG_FORMAT`, default `text`.
    pub log_format: LogFormat,
    /// What is logged when `MUSTER_LOG` says nothing, e.g. `info`.
    pub default_filter: &'static str,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

impl LogFormat {
    /// The format that is written `word`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("MUSTER_LOG: {value:?} is not a list such as info,muster_coordinator=debug")]
    Filter { value: String, source: ParseError },
    #[error("the OTLP exporter could not be made; is OTEL_EXPORTER_OTLP_ENDPOINT an address?")]
    Exporter { source: ExporterBuildError },
    #[error("this process logs already")]
    Twice { source: TryInitError },
}

/// Keeps the exporter. Dropping it loses the last spans; `shutdown` sends them.
#[derive(Debug)]
#[must_use = "the last spans are sent by `shutdown`"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sends what is unsent, for as long as an export may take.
    pub async fn shutdown(self) {
        let Some(provider) = self.provider else {
            return;
        };
        // It blocks, and on a runtime's only worker it would wait for itself.
        let ended =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(EXPORT_TIMEOUT));
        if let Ok(Err(error)) = ended.await {
            tracing::debug!(error = %error, "last spans not exported");
        }
    }
}

/// Sets the process's logger and tracer. Must be called inside the tokio runtime, once.
///
/// # Errors
/// If a variable has a bad value, or the process has a logger.
pub fn init(config: &TelemetryConfig) -> Result<Telemetry, TelemetryError> {
    let provider = if is_wanted() {
        Some(provider(config.service_name, None)?)
    } else {
        None
    };
    subscriber(config, provider.as_ref())?
        .try_init()
        .map_err(|source| TelemetryError::Twice { source })?;
    if let Some(provider) = &provider {
        opentelemetry::global::set_tracer_provider(provider.clone());
    }
    warn_of_other_protocol(provider.is_some());
    Ok(Telemetry { provider })
}

/// A list, for an `Option` that is absent has no filter, and lets every span be made that no level rules out for all
/// layers: also those that HTTP/2 has for each frame.
fn subscriber(
    config: &TelemetryConfig,
    provider: Option<&SdkTracerProvider>,
) -> Result<impl Subscriber + Send + Sync, TelemetryError> {
    let mut layers = vec![
        log_layer(config.log_format, config.default_filter)?.boxed(),
        recent_layer(config.default_filter)?.boxed(),
    ];
    layers.extend(provider.map(|provider| trace_layer(provider).boxed()));
    Ok(tracing_subscriber::registry().with(layers))
}

fn is_wanted() -> bool {
    let says = |name: &str, word: &str| {
        std::env::var(name).is_ok_and(|value| value.eq_ignore_ascii_case(word))
    };
    let off = says("OTEL_SDK_DISABLED", "true") || says("OTEL_TRACES_EXPORTER", "none");
    !off && ENDPOINT_VARIABLES.iter().any(|name| is_set(name))
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

fn warn_of_other_protocol(exporting: bool) {
    let protocol = std::env::var("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        .or_else(|_| std::env::var("OTEL_EXPORTER_OTLP_PROTOCOL"));
    if exporting && protocol.is_ok_and(|protocol| protocol != "grpc") {
        tracing::warn!("otlp protocol is not grpc, which is the only one that muster speaks");
    }
}

/// Endpoint, headers, sampler, batching and attributes come from the `OTEL_*` variables, by the SDK.
fn provider(
    service_name: &'static str,
    endpoint: Option<&str>,
) -> Result<SdkTracerProvider, TelemetryError> {
    let mut exporter = SpanExporter::builder().with_tonic();
    if let Some(endpoint) = endpoint {
        exporter = exporter.with_endpoint(endpoint);
    }
    if !TIMEOUT_VARIABLES.iter().any(|name| is_set(name)) {
        exporter = exporter.with_timeout(EXPORT_TIMEOUT);
    }
    let exporter = exporter
        .build()
        .map_err(|source| TelemetryError::Exporter { source })?;
    let named = is_set("OTEL_SERVICE_NAME")
        || std::env::var("OTEL_RESOURCE_ATTRIBUTES")
            .is_ok_and(|attributes| attributes.contains("service.name="));
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let mut resource = Resource::builder().with_attribute(version);
    if !named {
        resource = resource.with_service_name(service_name);
    }
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build())
}

fn trace_layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(TRACER))
        .with_location(false)
        .with_threads(false)
        .with_filter(EnvFilter::new(TRACED))
}

fn log_layer<S>(format: LogFormat, default_filter: &str) -> Result<impl Layer<S>, TelemetryError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let value = std::env::var(LOG_VARIABLE).unwrap_or_default();
    let filter = log_filter(if value.is_empty() {
        default_filter
    } else {
        &value
    })?;
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = match format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal() && !is_set("NO_COLOR");
            layer.with_ansi(colours).boxed()
        }
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    Ok(layer.with_filter(filter.and(no_secrets())))
}

/// The same lines for `recent_lines`, never more than info.
fn recent_layer<S>(default_filter: &str) -> Result<impl Layer<S>, TelemetryError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = fmt::layer().with_writer(IntoRecent).with_ansi(false);
    let filter = log_filter(default_filter)?;
    Ok(layer.with_filter(filter.and(no_secrets())))
}

/// The hint is what lets the other filter's level hold for all layers: without one, none does.
fn no_secrets() -> FilterFn {
    let filter: FilterFn = FilterFn::new(tells_no_secret);
    filter.with_max_level_hint(LevelFilter::TRACE)
}

/// Below info bollard writes request bodies, and with them the environment of containers. This holds
/// whatever MUSTER_LOG says.
fn tells_no_secret(metadata: &tracing::Metadata<'_>) -> bool {
    !metadata.target().starts_with("bollard") || *metadata.level() <= Level::INFO
}

fn log_filter(value: &str) -> Result<EnvFilter, TelemetryError> {
    let directives = if value.is_empty() { "info" } else { value };
    EnvFilter::try_new(directives).map_err(|source| TelemetryError::Filter {
        value: value.to_owned(),
        source,
    })
}

/// Gives the current trace along with a request.
pub fn inject<T>(request: &mut tonic::Request<T>) {
    let context = Span::current().context();
    let mut carrier = MetadataCarrier(request.metadata_mut());
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
}

const AGENT_STREAMS: &str = "/muster.v1.SessionService/";

/// The span of a call, for `TraceLayer::make_span_with`; it continues the caller's trace.
///
/// Agents' streams have none: they are open for days, no trace ends with them, and a span is entered again for
/// each message.
pub fn grpc_span<B>(request: &http::Request<B>) -> Span {
    if request.uri().path().starts_with(AGENT_STREAMS) {
        return Span::none();
    }
    let span = tracing::info_span!(
        "api.call",
        otel.name = request.uri().path(),
        otel.kind = "server",
        rpc.system = "grpc",
    );
    // It fails if nothing is traced, or if the span has begun, which it has not.
    let _ = span.set_parent(extract(request.headers()));
    span
}

/// Makes `span`, which nobody has entered yet, part of the trace that `traceparent` names. Without
/// a parent, or without tracing, the span stays as it is.
pub fn continue_trace(span: &Span, traceparent: &str) {
    let mut headers = HeaderMap::new();
    if let Ok(value) = traceparent.parse() {
        headers.insert("traceparent", value);
        let _ = span.set_parent(extract(&headers));
    }
}

/// The current span as a W3C `traceparent`, to be kept with a job or handed to a container. Absent
/// if nothing is traced.
#[must_use]
pub fn current_traceparent() -> Option<String> {
    let mut headers = HeaderMap::new();
    let context = Span::current().context();
    TraceContextPropagator::new().inject_context(&context, &mut HeaderCarrier(&mut headers));
    let value = headers.get("traceparent")?.to_str().ok()?;
    Some(value.to_owned())
}

/// The caller's own `traceparent`, if it is well formed: a trace can pass through a coordinator
/// that exports nothing.
#[must_use]
pub fn callers_traceparent(metadata: &MetadataMap) -> Option<String> {
    use opentelemetry::trace::TraceContextExt as _;
    let value = metadata.get("traceparent")?.to_str().ok()?;
    let context = extract(metadata.as_ref());
    let known = context.span().span_context().is_valid();
    known.then(|| value.to_owned())
}

fn extract(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers))
}

struct MetadataCarrier<'a>(&'a mut MetadataMap);

impl Injector for MetadataCarrier<'_> {
    fn set(&mut self, key: &str, value: String) {
        let key = key.parse::<MetadataKey<Ascii>>();
        if let (Ok(key), Ok(value)) = (key, value.parse()) {
            self.0.insert(key, value);
        }
    }
}

struct HeaderCarrier<'a>(&'a mut HeaderMap);

impl Injector for HeaderCarrier<'_> {
    fn set(&mut self, key: &str, value: String) {
        let key = key.parse::<http::HeaderName>();
        if let (Ok(key), Ok(value)) = (key, value.parse()) {
            self.0.insert(key, value);
        }
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests;
