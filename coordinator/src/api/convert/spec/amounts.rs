//! Amounts and spans: resources, retries, time.

use muster_core::ids::JobName;
use muster_core::spec::{Backoff, BackoffKind, Resources, RetryPolicy, limits};
use muster_core::time::Millis;
use muster_proto::v1 as pb;

use super::Violations;
use crate::api::convert::duration::millis_from_wire;

const DEFAULT_MEMORY: u64 = 512 << 20;
const DEFAULT_CPU_MILLIS: u32 = 1_000;
const DEFAULT_PIDS: u32 = 256;
const DEFAULT_INFRA_RETRIES: u32 = 3;
const DEFAULT_GRACE: Millis = Millis::from_secs(10);

pub(super) fn read_resources(wire: Option<&pb::Resources>, bad: &mut Violations) -> Resources {
    let default = pb::Resources::default();
    let pb::Resources {
        cpu_millis,
        memory_bytes,
        pids,
        gpus,
        custom,
    } = wire.unwrap_or(&default);
    let or = |value: u64, default: u64| if value == 0 { default } else { value };
    let memory = or(*memory_bytes, DEFAULT_MEMORY);
    if !(limits::MEMORY_MIN..=limits::MEMORY_MAX).contains(&memory) {
        bad.add(
            "resources.memory_bytes",
            format!("{memory} is not between 6 MiB and 64 TiB"),
        );
    }
    let cpu_millis = if *cpu_millis == 0 {
        DEFAULT_CPU_MILLIS
    } else {
        *cpu_millis
    };
    if !(10..=limits::CPU_MILLIS).contains(&cpu_millis) {
        bad.add(
            "resources.cpu_millis",
            format!("{cpu_millis} is not between 10 and 1024000"),
        );
    }
    let pids = if *pids == 0 { DEFAULT_PIDS } else { *pids };
    if pids > limits::PIDS {
        bad.add(
            "resources.pids",
            format!("{pids} is more than {}", limits::PIDS),
        );
    }
    if *gpus > 64 {
        bad.add("resources.gpus", format!("{gpus} is more than 64"));
    }
    for name in custom.keys() {
        bad.check(&format!("resources.custom[{name:?}]"), JobName::parse(name));
    }
    Resources {
        cpu_millis,
        memory_bytes: memory,
        pids,
        gpus: *gpus,
        custom: custom.clone(),
    }
}

pub(super) fn read_retry(wire: Option<&pb::RetryPolicy>, bad: &mut Violations) -> RetryPolicy {
    let pb::RetryPolicy {
        user,
        infra,
        backoff,
    } = wire.cloned().unwrap_or_default();
    let policy = RetryPolicy {
        user: user.unwrap_or(0),
        infra: infra.unwrap_or(DEFAULT_INFRA_RETRIES),
        backoff: read_backoff(backoff.as_ref(), bad),
    };
    for (field, value) in [("retry.user", policy.user), ("retry.infra", policy.infra)] {
        if value > limits::RETRIES {
            bad.add(field, format!("{value} is more than {}", limits::RETRIES));
        }
    }
    policy
}

pub(super) fn read_backoff(wire: Option<&pb::Backoff>, bad: &mut Violations) -> Backoff {
    let default = Backoff::default();
    let Some(pb::Backoff {
        kind,
        initial,
        cap,
        no_jitter,
    }) = wire
    else {
        return default;
    };
    let kind = match pb::backoff::Kind::try_from(*kind) {
        Ok(pb::backoff::Kind::Fixed) => BackoffKind::Fixed,
        Ok(pb::backoff::Kind::Unspecified | pb::backoff::Kind::Exponential) => {
            BackoffKind::Exponential
        }
        Err(_) => {
            bad.add(
                "retry.backoff.kind",
                format!("{kind} is not fixed or exponential"),
            );
            default.kind
        }
    };
    let initial = read_span(
        "retry.backoff.initial",
        initial.as_ref(),
        limits::BACKOFF,
        bad,
    );
    let cap = read_span("retry.backoff.cap", cap.as_ref(), limits::BACKOFF, bad);
    let initial = initial.unwrap_or(default.initial);
    // A longer first delay than the default cap is meant as written.
    let cap = cap.unwrap_or_else(|| default.cap.max(initial));
    if cap < initial {
        bad.add(
            "retry.backoff.cap",
            format!("{cap} is shorter than the initial delay {initial}"),
        );
    }
    Backoff {
        kind,
        initial,
        cap,
        jitter: !no_jitter,
    }
}

/// A span above zero and up to `most`.
pub(super) fn read_span(
    field: &str,
    wire: Option<&prost_types::Duration>,
    most: Millis,
    bad: &mut Violations,
) -> Option<Millis> {
    let wire = wire?;
    match millis_from_wire(wire) {
        Some(span) if span.0 > 0 && span <= most => Some(span),
        Some(_) | None => {
            bad.add(
                field,
                format!("{} s is not between 1 ms and {most}", wire.seconds),
            );
            None
        }
    }
}

/// Unlike other spans it may be zero: KILL at once.
pub(super) fn read_grace(wire: Option<&prost_types::Duration>, bad: &mut Violations) -> Millis {
    let Some(wire) = wire else {
        return DEFAULT_GRACE;
    };
    match millis_from_wire(wire) {
        Some(span) if span <= limits::GRACE => span,
        Some(_) | None => {
            bad.add(
                "kill_grace",
                format!("{} s is not between 0 and {}", wire.seconds, limits::GRACE),
            );
            DEFAULT_GRACE
        }
    }
}
