//! The trace an attempt belongs to: from the job through this agent into the container.

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use std::collections::HashMap;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::offer::Task;

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

/// Says which image the attempt runs, for collectors only: log lines would grow by it.
pub(super) fn describe(span: &tracing::Span, task: &Task) {
    for KeyValue { key, value, .. } in of_image(task) {
        span.set_attribute(key, value);
    }
}

fn of_image(task: &Task) -> Vec<KeyValue> {
    let mut all = vec![KeyValue::new(
        "image.digest",
        task.image.digest().to_string(),
    )];
    if !task.channel.is_empty() {
        all.push(KeyValue::new("channel", task.channel.clone()));
    }
    if let Ok(release @ 1..) = i64::try_from(task.release) {
        all.push(KeyValue::new("release", release));
    }
    if !task.phase.is_empty() {
        all.push(KeyValue::new("rollout.phase", task.phase.clone()));
    }
    all
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig;

    #[test]
    fn an_attempt_says_which_image_it_runs_and_whether_that_is_on_trial() {
        let described = |channel: &str, release, phase: &str| {
            let image = format!("registry.example/etl@sha256:{}", "1a".repeat(32));
            let (_, mut offer) = rig::offer(&image, &["true"]);
            offer.channel = channel.to_owned();
            offer.release = release;
            offer.rollout_phase = phase.to_owned();
            let rows = of_image(&Task::read(&offer).unwrap());
            let rows = rows
                .into_iter()
                .map(|row| format!("{}={}", row.key, row.value));
            (offer.image, rows.collect::<Vec<_>>())
        };
        let (image, rows) = described("analytics", 41, "canary");
        let digest = format!("image.digest={}", &image[image.find("sha256:").unwrap()..]);
        let all = [
            &digest,
            "channel=analytics",
            "release=41",
            "rollout.phase=canary",
        ];
        assert_eq!(rows, all);
        assert_eq!(described("", 0, "").1, [digest]);
    }
}
