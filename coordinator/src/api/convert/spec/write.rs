//! Writing a spec with every value that is used.

use std::ops::RangeInclusive;

use muster_core::spec::{
    Backoff, BackoffKind, Delivery, Growth, ImageSource, Network, OnDisconnect, Pin, Pull,
    Requirements, Resources, RetryAction, RetryPolicy, RetryRule, Spec,
};
use muster_proto::v1 as pb;

use crate::api::convert::duration::millis_to_wire;
use crate::api::convert::jobs::outcome_to_wire;

/// Writes a spec with every value that is used, also those the client left out.
#[must_use]
#[expect(clippy::too_many_lines, reason = "one line for each field of the spec")]
pub fn spec_to_wire(spec: &Spec) -> pb::JobSpec {
    let Spec {
        name,
        image,
        pull,
        entrypoint,
        command,
        env,
        labels,
        workdir,
        user,
        requirements,
        priority,
        queue_timeout,
        run_timeout,
        kill_grace,
        retry,
        success_codes,
        delivery,
        network,
        writable_root,
        on_disconnect,
    } = spec;
    // What `held` names is the job's pinned image, which has its own place.
    let Requirements {
        pool,
        labels: require,
        agent,
        resources,
        held: _,
        concurrency,
        // Always as `on_disconnect` says.
        lease: _,
    } = requirements.as_ref();
    let (image, pin) = image_to_wire(image);
    pb::JobSpec {
        name: name.to_string(),
        image,
        pin: pin.into(),
        pull: match pull {
            Pull::Missing => pb::PullPolicy::Missing,
            Pull::Never => pb::PullPolicy::Never,
        }
        .into(),
        entrypoint: entrypoint.clone().map(|args| pb::Argv { args }),
        command: command.clone(),
        env: env.clone(),
        labels: labels.clone(),
        workdir: workdir.clone().unwrap_or_default(),
        user: user.clone().unwrap_or_default(),
        resources: Some(resources_to_wire(resources)),
        pool: pool.to_string(),
        require: require.clone(),
        agent: agent.as_ref().map(ToString::to_string).unwrap_or_default(),
        priority: *priority,
        queue_timeout: queue_timeout.map(millis_to_wire),
        run_timeout: Some(millis_to_wire(*run_timeout)),
        kill_grace: Some(millis_to_wire(*kill_grace)),
        retry: Some(retry_to_wire(retry)),
        success_codes: success_codes.iter().copied().map(u32::from).collect(),
        delivery: match delivery {
            Delivery::AtLeastOnce => pb::Delivery::AtLeastOnce,
            Delivery::AtMostOnce => pb::Delivery::AtMostOnce,
        }
        .into(),
        concurrency: concurrency
            .iter()
            .map(|(key, limit)| pb::ConcurrencyKey {
                key: key.clone(),
                limit: *limit,
            })
            .collect(),
        network: match network {
            Network::Bridge => pb::Network::Bridge,
            Network::None => pb::Network::None,
        }
        .into(),
        writable_root: *writable_root,
        on_disconnect: match on_disconnect {
            OnDisconnect::Finish => None,
            OnDisconnect::StopAfter(limit) => Some(pb::OnDisconnect {
                stop_after: Some(millis_to_wire(*limit)),
            }),
        },
    }
}

fn image_to_wire(image: &ImageSource) -> (String, pb::Pin) {
    match image {
        ImageSource::Channel {
            name,
            pin: Pin::Task,
        } => (name.to_string(), pb::Pin::Task),
        ImageSource::Channel {
            name,
            pin: Pin::Run,
        } => (name.to_string(), pb::Pin::Run),
        ImageSource::Reference { text } => (text.clone(), pb::Pin::Unspecified),
    }
}

fn resources_to_wire(resources: &Resources) -> pb::Resources {
    let Resources {
        cpu_millis,
        memory_bytes,
        pids,
        gpus,
        custom,
    } = resources;
    pb::Resources {
        cpu_millis: *cpu_millis,
        memory_bytes: *memory_bytes,
        pids: *pids,
        gpus: *gpus,
        custom: custom.clone(),
    }
}

fn retry_to_wire(retry: &RetryPolicy) -> pb::RetryPolicy {
    let RetryPolicy {
        user,
        infra,
        backoff:
            Backoff {
                kind,
                initial,
                cap,
                jitter,
            },
        rules,
    } = retry;
    let kind = match kind {
        BackoffKind::Fixed => pb::backoff::Kind::Fixed,
        BackoffKind::Exponential => pb::backoff::Kind::Exponential,
    };
    pb::RetryPolicy {
        user: Some(*user),
        infra: Some(*infra),
        backoff: Some(pb::Backoff {
            kind: kind.into(),
            initial: Some(millis_to_wire(*initial)),
            cap: Some(millis_to_wire(*cap)),
            no_jitter: !jitter,
        }),
        rules: rules.iter().map(rule_to_wire).collect(),
    }
}

fn rule_to_wire(rule: &RetryRule) -> pb::RetryRule {
    let RetryRule {
        outcomes,
        exit_codes,
        action,
    } = rule;
    let (action, grow) = match action {
        RetryAction::Fail => (pb::retry_rule::Action::Fail, None),
        RetryAction::Retry => (pb::retry_rule::Action::Retry, None),
        RetryAction::Grow(Growth { percent, most }) => {
            let grow = pb::MemoryGrowth {
                percent: *percent,
                max_bytes: *most,
            };
            (pb::retry_rule::Action::Retry, Some(grow))
        }
    };
    let codes = |range: &RangeInclusive<u8>| pb::ExitCodes {
        first: (*range.start()).into(),
        last: Some((*range.end()).into()),
    };
    pb::RetryRule {
        outcomes: outcomes
            .iter()
            .map(|outcome| outcome_to_wire(*outcome).into())
            .collect(),
        exit_codes: exit_codes.iter().map(codes).collect(),
        action: action.into(),
        grow,
    }
}
