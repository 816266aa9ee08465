//! When a task is tried again, as JSON.

use muster_core::outcome::Outcome;
use muster_proto::v1;
use serde::Serialize;

use crate::render::{span, words};

#[derive(Debug, Serialize)]
pub(crate) struct RetryJson {
    user: Option<u32>,
    infra: Option<u32>,
    backoff: BackoffJson,
    rules: Vec<RetryRuleJson>,
}

#[derive(Debug, Serialize)]
pub(crate) struct RetryRuleJson {
    outcomes: Vec<&'static str>,
    /// Such as `2` and `64-78`.
    exit_codes: Vec<String>,
    action: Option<&'static str>,
    grow: Option<GrowJson>,
}

#[derive(Debug, Serialize)]
pub(crate) struct GrowJson {
    percent: u32,
    max_bytes: u64,
}

impl From<v1::RetryRule> for RetryRuleJson {
    fn from(rule: v1::RetryRule) -> Self {
        let outcomes = rule.outcomes().filter_map(words::outcome);
        let outcomes = outcomes.map(Outcome::as_str).collect();
        let action = match rule.action() {
            v1::retry_rule::Action::Unspecified => None,
            v1::retry_rule::Action::Fail => Some("fail"),
            v1::retry_rule::Action::Retry => Some("retry"),
        };
        let v1::RetryRule {
            outcomes: _,
            exit_codes,
            action: _,
            grow,
        } = rule;
        let grow = grow.map(|grow| {
            let v1::MemoryGrowth { percent, max_bytes } = grow;
            GrowJson { percent, max_bytes }
        });
        let codes = |codes: v1::ExitCodes| match codes.last {
            Some(last) if last != codes.first => format!("{}-{last}", codes.first),
            Some(_) | None => codes.first.to_string(),
        };
        Self {
            outcomes,
            exit_codes: exit_codes.into_iter().map(codes).collect(),
            action,
            grow,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct BackoffJson {
    kind: Option<&'static str>,
    initial_seconds: Option<f64>,
    cap_seconds: Option<f64>,
    no_jitter: bool,
}

impl From<v1::RetryPolicy> for RetryJson {
    fn from(policy: v1::RetryPolicy) -> Self {
        let v1::RetryPolicy {
            user,
            infra,
            backoff,
            rules,
        } = policy;
        let backoff = backoff.unwrap_or_default();
        let kind = words::backoff(backoff.kind());
        let v1::Backoff {
            kind: _,
            initial,
            cap,
            no_jitter,
        } = backoff;
        Self {
            user,
            infra,
            backoff: BackoffJson {
                kind,
                initial_seconds: span::seconds(initial),
                cap_seconds: span::seconds(cap),
                no_jitter,
            },
            rules: rules.into_iter().map(RetryRuleJson::from).collect(),
        }
    }
}
