//! Amounts and spans: resources, retries, time.

use std::collections::BTreeSet;

use muster_core::ids::JobName;
use muster_core::outcome::Outcome;
use muster_core::spec::{
    Backoff, BackoffKind, Growth, Resources, RetryAction, RetryPolicy, RetryRule, limits,
};
use muster_core::time::Millis;
use muster_proto::v1 as pb;

use super::Violations;
use crate::api::convert::duration::millis_from_wire;
use crate::api::convert::jobs::outcome_from_wire;

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

/// `memory`: what the job asks for, in bytes.
pub(super) fn read_retry(
    wire: Option<&pb::RetryPolicy>,
    memory: u64,
    bad: &mut Violations,
) -> RetryPolicy {
    let pb::RetryPolicy {
        user,
        infra,
        backoff,
        rules,
    } = wire.cloned().unwrap_or_default();
    let policy = RetryPolicy {
        user: user.unwrap_or(0),
        infra: infra.unwrap_or(DEFAULT_INFRA_RETRIES),
        backoff: read_backoff(backoff.as_ref(), bad),
        rules: read_rules(&rules, memory, bad),
    };
    for (field, value) in [("retry.user", policy.user), ("retry.infra", policy.infra)] {
        if value > limits::RETRIES {
            bad.add(field, format!("{value} is more than {}", limits::RETRIES));
        }
    }
    policy
}

fn read_rules(wire: &[pb::RetryRule], memory: u64, bad: &mut Violations) -> Vec<RetryRule> {
    if wire.len() > limits::RETRY_RULES {
        let (count, most) = (wire.len(), limits::RETRY_RULES);
        bad.add("retry.rules", format!("{count} are more than {most}"));
        return Vec::new();
    }
    let rules = wire.iter().enumerate();
    rules
        .filter_map(|(place, rule)| read_rule(&format!("retry.rules[{place}]"), rule, memory, bad))
        .collect()
}

fn read_rule(
    field: &str,
    wire: &pb::RetryRule,
    memory: u64,
    bad: &mut Violations,
) -> Option<RetryRule> {
    let pb::RetryRule {
        outcomes,
        exit_codes,
        action,
        grow,
    } = wire;
    if outcomes.is_empty() && exit_codes.is_empty() {
        bad.add(field, "it names neither outcomes nor exit codes".to_owned());
    }
    let mut known = BTreeSet::new();
    for outcome in outcomes {
        match outcome_from_wire(*outcome) {
            Some(Outcome::Succeeded | Outcome::Canceled) | None => bad.add(
                &format!("{field}.outcomes"),
                format!("{outcome} is no outcome after which there could be another attempt"),
            ),
            Some(outcome) => {
                known.insert(outcome);
            }
        }
    }
    if exit_codes.len() > limits::RETRY_RULES {
        let (count, most) = (exit_codes.len(), limits::RETRY_RULES);
        let what = format!("{count} ranges are more than {most}");
        bad.add(&format!("{field}.exit_codes"), what);
        return None;
    }
    let codes = exit_codes.iter().filter_map(|codes| {
        let pb::ExitCodes { first, last } = *codes;
        let last = last.unwrap_or(first);
        let range = u8::try_from(first).ok().zip(u8::try_from(last).ok());
        let range = range.filter(|(first, last)| (1..=*last).contains(first));
        if range.is_none() {
            let what = format!("{first}-{last} is no range within 1-255");
            bad.add(&format!("{field}.exit_codes"), what);
        }
        range.map(|(first, last)| first..=last)
    });
    let exit_codes = codes.collect();
    let action = match pb::retry_rule::Action::try_from(*action) {
        Ok(pb::retry_rule::Action::Fail) => {
            if grow.is_some() {
                let what = "an end that fails the task has no next attempt";
                bad.add(&format!("{field}.grow"), what.to_owned());
            }
            RetryAction::Fail
        }
        Ok(pb::retry_rule::Action::Retry) => match grow {
            None => RetryAction::Retry,
            Some(grow) => RetryAction::Grow(read_growth(field, *grow, memory, bad)),
        },
        Ok(pb::retry_rule::Action::Unspecified) | Err(_) => {
            let what = format!("{action} is neither fail nor retry");
            bad.add(&format!("{field}.action"), what);
            return None;
        }
    };
    Some(RetryRule {
        outcomes: known,
        exit_codes,
        action,
    })
}

fn read_growth(field: &str, wire: pb::MemoryGrowth, memory: u64, bad: &mut Violations) -> Growth {
    let pb::MemoryGrowth { percent, max_bytes } = wire;
    if !limits::GROWTH.contains(&percent) {
        let (from, to) = (limits::GROWTH.start(), limits::GROWTH.end());
        let what = format!("{percent} is not within {from}-{to}");
        bad.add(&format!("{field}.grow.percent"), what);
    }
    let (from, to) = (memory.saturating_add(1), limits::MEMORY_MAX);
    if !(from..=to).contains(&max_bytes) {
        let what = format!("{max_bytes} is not within {from}-{to}");
        bad.add(&format!("{field}.grow.max_bytes"), what);
    }
    Growth {
        percent,
        most: max_bytes,
    }
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
