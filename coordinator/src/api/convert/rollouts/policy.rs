//! Policies: what a channel's rollouts have to pass.

use std::collections::BTreeSet;

use muster_core::ids::{JobName, PoolName};
use muster_core::rollout::policy::{
    AfterPatience, Bake, Canary, Gates, Newer, Policy, Prefetch, Restart, Share, Validate, limits,
};
use muster_core::time::Millis;
use muster_proto::v1 as pb;
use pb::canary_policy::Share as WireShare;

use crate::api::convert::duration::{millis_from_wire, millis_to_wire};
use crate::api::convert::spec::check_argv;
use crate::api::convert::{Violation, Violations};

const DEFAULT_POOL: &str = "default";
const DEFAULT_SAMPLE: u32 = 30;
const VALIDATE_TIMEOUT: Millis = Millis::from_secs(600);
const CANARY_PATIENCE: Millis = Millis::from_secs(3_600);
const HEALTHY_AFTER: Millis = Millis::from_secs(30);
const RESTART_PATIENCE: Millis = Millis::from_secs(900);
const BAKE: Millis = Millis::from_secs(3_600);

/// Reads a policy, with every default filled in.
///
/// # Errors
/// Names every field that is wrong; nothing of the policy is used then.
pub(crate) fn policy_from_wire(wire: &pb::RolloutPolicy) -> Result<Policy, Vec<Violation>> {
    let mut bad = Violations::default();
    let pb::RolloutPolicy {
        prefetch,
        validate,
        canary,
        restart,
        bake,
        gates,
        newer,
    } = wire;
    let policy = Policy {
        prefetch: prefetch.as_ref().map(|wire| read_prefetch(wire, &mut bad)),
        validate: validate
            .as_ref()
            .and_then(|wire| read_validate(wire, &mut bad)),
        canary: canary.as_ref().and_then(|wire| read_canary(wire, &mut bad)),
        restart: restart.as_ref().map(|wire| read_restart(wire, &mut bad)),
        bake: bake.as_ref().map(|wire| read_bake(wire, &mut bad)),
        gates: read_gates(gates.as_ref(), &mut bad),
        newer: match pb::NewerPolicy::try_from(*newer) {
            Ok(pb::NewerPolicy::Unspecified | pb::NewerPolicy::Supersede) => Newer::Supersede,
            Ok(pb::NewerPolicy::Queue) => Newer::Queue,
            Err(_) => {
                bad.add("newer", format!("{newer} is not a known policy"));
                Newer::default()
            }
        },
    };
    if bad.is_empty() {
        Ok(policy)
    } else {
        Err(bad.into_vec())
    }
}

pub(super) fn read_prefetch(wire: &pb::PrefetchPolicy, bad: &mut Violations) -> Prefetch {
    let pb::PrefetchPolicy {
        enough_percent,
        at_a_time,
        patience,
    } = wire;
    let default = Prefetch::default();
    Prefetch {
        enough_percent: bounded(
            "prefetch.enough_percent",
            or(*enough_percent, default.enough_percent),
            100,
            bad,
        ),
        at_a_time: bounded(
            "prefetch.at_a_time",
            or(*at_a_time, default.at_a_time),
            limits::AT_A_TIME,
            bad,
        ),
        patience: span(
            "prefetch.patience",
            patience.as_ref(),
            default.patience,
            bad,
        ),
    }
}

pub(super) fn read_validate(wire: &pb::ValidatePolicy, bad: &mut Violations) -> Option<Validate> {
    let pb::ValidatePolicy {
        command,
        timeout,
        exit_code,
        pool,
    } = wire;
    let mut argv = Violations::default();
    check_argv(None, command, &mut argv);
    for Violation { field, problem } in argv.into_vec() {
        bad.add(&format!("validate.{field}"), problem);
    }
    let pool = if pool.is_empty() { DEFAULT_POOL } else { pool };
    let timeout = span("validate.timeout", timeout.as_ref(), VALIDATE_TIMEOUT, bad);
    let exit_code = bad.check("validate.exit_code", u8::try_from(*exit_code));
    let pool = PoolName::parse(pool).map_err(|error| format!("{pool:?} {error}"));
    let pool = bad.check("validate.pool", pool);
    Some(Validate {
        command: command.clone(),
        timeout,
        exit_code: exit_code?,
        pool: pool?,
    })
}

pub(super) fn read_canary(wire: &pb::CanaryPolicy, bad: &mut Violations) -> Option<Canary> {
    let pb::CanaryPolicy {
        share,
        jobs,
        sample,
        patience,
        roll_back_after_patience,
    } = wire;
    let share = match share {
        Some(WireShare::First(count @ 1..)) => {
            Share::First(bounded("canary.first", *count, limits::ATTEMPTS, bad))
        }
        Some(WireShare::Percent(percent @ 1..)) => {
            Share::Percent(bounded("canary.percent", *percent, 100, bad))
        }
        Some(WireShare::First(_) | WireShare::Percent(_)) | None => {
            bad.add(
                "canary",
                "needs one of first (attempts) and percent (of the tasks), at least 1",
            );
            return None;
        }
    };
    let after_patience = if *roll_back_after_patience {
        AfterPatience::RollBack
    } else {
        AfterPatience::Promote
    };
    Some(Canary {
        share,
        jobs: names("canary.jobs", jobs, bad),
        sample: bounded(
            "canary.sample",
            or(*sample, DEFAULT_SAMPLE),
            limits::ATTEMPTS,
            bad,
        ),
        patience: span("canary.patience", patience.as_ref(), CANARY_PATIENCE, bad),
        after_patience,
    })
}

pub(super) fn read_restart(wire: &pb::RestartPolicy, bad: &mut Violations) -> Restart {
    let pb::RestartPolicy {
        jobs,
        healthy_after,
        patience,
    } = wire;
    Restart {
        jobs: names("restart.jobs", jobs, bad),
        healthy_after: span(
            "restart.healthy_after",
            healthy_after.as_ref(),
            HEALTHY_AFTER,
            bad,
        ),
        patience: span("restart.patience", patience.as_ref(), RESTART_PATIENCE, bad),
    }
}

pub(super) fn read_bake(wire: &pb::BakePolicy, bad: &mut Violations) -> Bake {
    let pb::BakePolicy { lasts } = wire;
    Bake {
        lasts: span("bake.lasts", lasts.as_ref(), BAKE, bad),
    }
}

fn read_gates(wire: Option<&pb::GatePolicy>, bad: &mut Violations) -> Gates {
    let default = Gates::default();
    let pb::GatePolicy {
        failures,
        failure_points,
        duration_percent,
        memory_percent,
    } = wire.copied().unwrap_or_default();
    let mut percent = |field, value: Option<u32>, default| match value {
        None => default,
        Some(0) => None,
        Some(value @ 100..=limits::PERCENT_OF_BEFORE) => Some(value),
        Some(value) => {
            bad.add(
                field,
                format!(
                    "{value} is neither 0 nor between 100 and {}",
                    limits::PERCENT_OF_BEFORE
                ),
            );
            None
        }
    };
    let duration_percent = percent(
        "gates.duration_percent",
        duration_percent,
        default.duration_percent,
    );
    let memory_percent = percent(
        "gates.memory_percent",
        memory_percent,
        default.memory_percent,
    );
    Gates {
        failures: bounded(
            "gates.failures",
            or(failures, default.failures),
            limits::ATTEMPTS,
            bad,
        ),
        failure_points: bounded(
            "gates.failure_points",
            failure_points.unwrap_or(default.failure_points),
            100,
            bad,
        ),
        duration_percent,
        memory_percent,
    }
}

const fn or(value: u32, default: u32) -> u32 {
    if value == 0 { default } else { value }
}

fn bounded(field: &str, value: u32, most: u32, bad: &mut Violations) -> u32 {
    if value > most {
        bad.add(field, format!("{value} is more than {most}"));
    }
    value
}

fn span(
    field: &str,
    wire: Option<&prost_types::Duration>,
    default: Millis,
    bad: &mut Violations,
) -> Millis {
    let Some(wire) = wire else {
        return default;
    };
    match millis_from_wire(wire) {
        Some(span) if span <= limits::PATIENCE => span,
        Some(_) | None => {
            bad.add(field, format!("{wire} is not between 0 and 7 days"));
            default
        }
    }
}

fn names(field: &str, wire: &[String], bad: &mut Violations) -> BTreeSet<JobName> {
    if wire.len() > limits::JOBS {
        bad.add(
            field,
            format!("has {} names; at most {}", wire.len(), limits::JOBS),
        );
        return BTreeSet::new();
    }
    let parse = |name: &String| {
        let parsed = JobName::parse(name).map_err(|error| format!("{name:?} {error}"));
        bad.check(field, parsed)
    };
    wire.iter().filter_map(parse).collect()
}

pub(crate) fn policy_to_wire(policy: &Policy) -> pb::RolloutPolicy {
    let Policy {
        prefetch,
        validate,
        canary,
        restart,
        bake,
        gates,
        newer,
    } = policy;
    let Gates {
        failures,
        failure_points,
        duration_percent,
        memory_percent,
    } = *gates;
    let newer = match newer {
        Newer::Supersede => pb::NewerPolicy::Supersede,
        Newer::Queue => pb::NewerPolicy::Queue,
    };
    pb::RolloutPolicy {
        prefetch: prefetch.as_ref().map(prefetch_to_wire),
        validate: validate.clone().map(validate_to_wire),
        canary: canary.clone().map(canary_to_wire),
        restart: restart.clone().map(restart_to_wire),
        bake: bake.map(bake_to_wire),
        gates: Some(pb::GatePolicy {
            failures,
            failure_points: Some(failure_points),
            duration_percent: Some(duration_percent.unwrap_or(0)),
            memory_percent: Some(memory_percent.unwrap_or(0)),
        }),
        newer: newer.into(),
    }
}

fn prefetch_to_wire(prefetch: &Prefetch) -> pb::PrefetchPolicy {
    let Prefetch {
        enough_percent,
        at_a_time,
        patience,
    } = *prefetch;
    pb::PrefetchPolicy {
        enough_percent,
        at_a_time,
        patience: Some(millis_to_wire(patience)),
    }
}

pub(super) fn validate_to_wire(validate: Validate) -> pb::ValidatePolicy {
    let Validate {
        command,
        timeout,
        exit_code,
        pool,
    } = validate;
    pb::ValidatePolicy {
        command,
        timeout: Some(millis_to_wire(timeout)),
        exit_code: exit_code.into(),
        pool: pool.to_string(),
    }
}

pub(super) fn canary_to_wire(canary: Canary) -> pb::CanaryPolicy {
    let Canary {
        share,
        jobs,
        sample,
        patience,
        after_patience,
    } = canary;
    pb::CanaryPolicy {
        share: Some(match share {
            Share::First(count) => WireShare::First(count),
            Share::Percent(percent) => WireShare::Percent(percent),
        }),
        jobs: jobs.iter().map(ToString::to_string).collect(),
        sample,
        patience: Some(millis_to_wire(patience)),
        roll_back_after_patience: after_patience == AfterPatience::RollBack,
    }
}

pub(super) fn restart_to_wire(restart: Restart) -> pb::RestartPolicy {
    let Restart {
        jobs,
        healthy_after,
        patience,
    } = restart;
    pb::RestartPolicy {
        jobs: jobs.iter().map(ToString::to_string).collect(),
        healthy_after: Some(millis_to_wire(healthy_after)),
        patience: Some(millis_to_wire(patience)),
    }
}

pub(super) fn bake_to_wire(bake: Bake) -> pb::BakePolicy {
    let Bake { lasts } = bake;
    pb::BakePolicy {
        lasts: Some(millis_to_wire(lasts)),
    }
}
