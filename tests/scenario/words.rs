//! What the words of scripts mean in the core's types.

use std::sync::Arc;

use muster_core::ids::{ChannelName, PoolName};
use muster_core::image::Digest;
use muster_core::outcome::{End, EndReason, Outcome};
use muster_core::spec::{Delivery, ImageSource, Pin, Requirements, Spec};
use muster_core::time::Millis;
use muster_tests::sample;

use crate::command::{Command, span};

/// `d7` for the digest of sevens.
pub(crate) fn digest_name(digest: Digest) -> String {
    let found = (0..=u8::MAX).find(|byte| sample::digest(*byte) == digest);
    format!("d{}", found.expect("scripts use such digests only"))
}

pub(crate) fn digest(name: &str) -> Digest {
    let number = name
        .strip_prefix('d')
        .and_then(|digits| digits.parse().ok());
    sample::digest(number.expect("digests are written d1, d2, ..."))
}

/// The spec that a `job` command asks for.
pub(crate) fn spec(command: &Command<'_>) -> Spec {
    let mut spec = sample::spec(command.word(0));
    if let Some(name) = command.option("image") {
        spec.image = ImageSource::Channel {
            name: ChannelName::parse(name).unwrap(),
            pin: match command.option("pin") {
                Some("run") => Pin::Run,
                _ => Pin::Task,
            },
        };
    }
    let mut needs = Requirements::clone(&spec.requirements);
    if let Some(pool) = command.option("pool") {
        needs.pool = PoolName::parse(pool).unwrap();
    }
    if let Some(key) = command.option("key") {
        let (key, limit) = key.split_once(':').expect("key=NAME:LIMIT");
        needs.concurrency.insert(key.into(), limit.parse().unwrap());
    }
    spec.requirements = Arc::new(needs);
    spec.retry.user = command.number("retries", 0);
    spec.retry.infra = command.number("infra-retries", 0);
    if command.option("delivery") == Some("at-most-once") {
        spec.delivery = Delivery::AtMostOnce;
    }
    let queue_timeout = command.option("queue-timeout");
    spec.queue_timeout = queue_timeout.map(|text| Millis(span(text)));
    spec
}

/// `succeeded`, `failed(2)`, `oom`, `lost`, `preempted`, `canceled`, `infra_error` or `pull_failed`.
pub(crate) fn end_of(text: &str) -> End {
    let failed = text
        .strip_prefix("failed(")
        .and_then(|rest| rest.strip_suffix(')'));
    if let Some(code) = failed {
        return End {
            exit_code: Some(code.parse().unwrap()),
            ..End::of(Outcome::Failed, EndReason::Exited)
        };
    }
    match text {
        "succeeded" => End::of(Outcome::Succeeded, EndReason::Exited),
        "oom" => End::of(Outcome::Oom, EndReason::MemoryLimit),
        "lost" => End::of(Outcome::Lost, EndReason::EngineLost),
        "preempted" => End::of(Outcome::Preempted, EndReason::Drained),
        "canceled" => End::of(Outcome::Canceled, EndReason::CanceledByUser),
        "infra_error" => End::of(Outcome::InfraError, EndReason::Interrupted),
        "pull_failed" => End::of(Outcome::ImageError, EndReason::PullFailed),
        other => panic!("{other} is no end"),
    }
}
