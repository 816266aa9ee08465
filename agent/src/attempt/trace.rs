//! The trace an attempt belongs to: from the job through this agent into the container.

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use std::collections::HashMap;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACEPARENT: &str = "traceparent";

/// Makes the span a child of what the offer names. Without a tracing layer this does nothing.
pub(super) fn set_parent(span: &tracing::Span, traceparent: &str) {
    if traceparent.is_empty() {
        return;
    }
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    // Fails only for a span that was entered already, and this one was just made.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&carrier));
}

/// The span's own context for the container; what came with the offer where nothing is traced.
pub(super) fn of(context: &Context, offered: &str) -> String {
    if !context.span().span_context().is_valid() {
        return offered.to_owned();
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(context, &mut carrier);
    carrier
        .remove(TRACEPARENT)
        .unwrap_or_else(|| offered.to_owned())
}
