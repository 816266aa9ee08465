//! A rollout as a span with an event for each entry of its timeline. It is made when the rollout has ended, from what
//! was stored: a rollout outlives coordinators, and an open span does not.

use std::time::{Duration, SystemTime};

use muster_core::rollout::{Conclusion, Rollout, State};
use muster_core::time::Timestamp;
use opentelemetry::trace::{Span as _, Status, Tracer};
use opentelemetry::{Context, KeyValue, global};

use super::TRACER;

/// Gives a rollout that ended to the process's exporter, if there is one.
pub(crate) fn rollout_ended(rollout: &Rollout) {
    export(&global::tracer(TRACER), rollout);
}

pub(super) fn export(tracer: &impl Tracer, rollout: &Rollout) {
    let State::Ended { how, at, reason } = &rollout.state else {
        return;
    };
    let started = tracer
        .span_builder("rollout")
        .with_start_time(time(rollout.began))
        .with_attributes(attributes(rollout, *how, reason));
    // A trace of its own: no call is as long.
    let mut span = tracer.build_with_context(started, &Context::new());
    for moment in &rollout.timeline {
        let what = vec![KeyValue::new("what", moment.what.clone())];
        span.add_event_with_timestamp(moment.phase.as_str(), time(moment.at), what);
    }
    if *how == Conclusion::RolledBack {
        span.set_status(Status::error(reason.clone()));
    }
    span.end_with_timestamp(time(*at));
}

fn attributes(rollout: &Rollout, how: Conclusion, reason: &str) -> Vec<KeyValue> {
    let (from, to) = (&rollout.from, &rollout.to);
    let number = |release: u64| i64::try_from(release).unwrap_or(i64::MAX);
    let mut all = vec![
        KeyValue::new("team", rollout.channel.team.to_string()),
        KeyValue::new("channel", rollout.channel.name.to_string()),
        KeyValue::new("release", number(to.number)),
        KeyValue::new("release.from", number(from.number)),
        KeyValue::new("image.repository", to.repository.to_string()),
        KeyValue::new("image.digest", to.digest.to_string()),
        KeyValue::new("image.digest.from", from.digest.to_string()),
        KeyValue::new("cause", to.cause.as_str()),
        KeyValue::new("how", how.as_str()),
    ];
    for (key, value) in [
        ("reason", reason),
        ("by", &to.by),
        ("image.revision", &to.revision),
    ] {
        if !value.is_empty() {
            all.push(KeyValue::new(key, value.to_owned()));
        }
    }
    all
}

fn time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at.0)
}
