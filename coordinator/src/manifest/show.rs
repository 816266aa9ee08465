//! A policy as the fields of a manifest.

use std::collections::BTreeSet;
use std::fmt::Display;

use muster_core::ids::JobName;
use muster_core::rollout::policy::{
    AfterPatience, Bake, Canary, Gates, Newer, Policy, Prefetch, Restart, Share, Validate,
};
use muster_core::time::Millis;

/// Every field with its value, in the order and the forms of a manifest. Phases that are left out have none.
pub(crate) fn policy_fields(policy: &Policy) -> Vec<(String, String)> {
    let Policy {
        prefetch,
        validate,
        canary,
        restart,
        bake,
        gates,
        newer,
    } = policy;
    let mut rows = Rows::default();
    if let Some(prefetch) = prefetch {
        let Prefetch {
            enough_percent,
            at_a_time,
            patience,
        } = prefetch;
        rows.add("prefetch.enough_percent", percent(*enough_percent));
        rows.add("prefetch.at_a_time", at_a_time);
        rows.add("prefetch.patience", span(*patience));
    }
    if let Some(validate) = validate {
        let Validate {
            command,
            timeout,
            exit_code,
            pool,
        } = validate;
        rows.add("validate.command", format!("{command:?}"));
        rows.add("validate.timeout", span(*timeout));
        rows.add("validate.exit_code", exit_code);
        rows.add("validate.pool", pool);
    }
    if let Some(canary) = canary {
        add_canary(canary, &mut rows);
    }
    if let Some(restart) = restart {
        let Restart {
            jobs,
            healthy_after,
            patience,
        } = restart;
        rows.add("restart.jobs", names(jobs));
        rows.add("restart.healthy_after", span(*healthy_after));
        rows.add("restart.patience", span(*patience));
    }
    if let Some(Bake { lasts }) = bake {
        rows.add("bake.lasts", span(*lasts));
    }
    add_gates(gates, &mut rows);
    let newer = match newer {
        Newer::Supersede => "supersede",
        Newer::Queue => "queue",
    };
    rows.add("newer", newer);
    rows.0
}

#[derive(Default)]
struct Rows(Vec<(String, String)>);

impl Rows {
    fn add(&mut self, field: &str, value: impl Display) {
        self.0.push((format!("policy.{field}"), value.to_string()));
    }
}

fn add_canary(canary: &Canary, rows: &mut Rows) {
    let Canary {
        share,
        jobs,
        sample,
        patience,
        after_patience,
    } = canary;
    match share {
        Share::First(count) => rows.add("canary.first", count),
        Share::Percent(share) => rows.add("canary.percent", percent(*share)),
    }
    rows.add("canary.jobs", names(jobs));
    rows.add("canary.sample", sample);
    rows.add("canary.patience", span(*patience));
    let back = *after_patience == AfterPatience::RollBack;
    rows.add("canary.roll_back_after_patience", back);
}

fn add_gates(gates: &Gates, rows: &mut Rows) {
    let Gates {
        failures,
        failure_points,
        duration_percent,
        memory_percent,
    } = gates;
    rows.add("gates.failures", failures);
    rows.add("gates.failure_points", failure_points);
    let limit = |limit: Option<u32>| limit.map_or_else(|| "0".to_owned(), percent);
    rows.add("gates.duration_percent", limit(*duration_percent));
    rows.add("gates.memory_percent", limit(*memory_percent));
}

fn percent(number: u32) -> String {
    format!("{number}%")
}

fn names(jobs: &BTreeSet<JobName>) -> String {
    let names: Vec<String> = jobs.iter().map(ToString::to_string).collect();
    format!("[{}]", names.join(", "))
}

/// `1h30m`, as it can be read again.
pub(crate) fn span(span: Millis) -> String {
    const UNITS: [(u64, &str); 5] = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
        (1, "ms"),
    ];
    let mut rest = span.0;
    let mut text = String::new();
    for (size, unit) in UNITS {
        if rest >= size {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_can_be_read_again() {
        for text in ["0s", "250ms", "90s", "15m", "1h30m", "7d"] {
            let read: Millis = text.parse().unwrap();
            assert_eq!(span(read).parse(), Ok(read), "{text}");
        }
        assert_eq!(span(Millis::from_secs(90)), "1m30s");
        assert_eq!(span(Millis::from_secs(7 * 86_400)), "7d");
    }
}
