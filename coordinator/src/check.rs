//! `AdminService.Check`: everything that can be looked at while the coordinator runs. Nothing
//! here changes anything, and nothing waits for longer than its own deadline.

use std::time::Duration;

use muster_core::time::Timestamp;

use crate::api::Shared;
use crate::store::Store;

mod agents;
mod fleet;
mod rows;
mod sides;
mod watch;

pub(crate) use watch::keep;

/// For one question to something outside, such as a registry.
const OUTSIDE_DEADLINE: Duration = Duration::from_secs(5);
/// Findings of one check that are told one by one; the rest is a number.
const TOLD: usize = 20;

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The stable word of the check.
    pub check: &'static str,
    pub verdict: Verdict,
    /// What it is about: an agent, a task, a channel; empty: all of it.
    pub subject: String,
    /// What is so, with the values.
    pub what: String,
    /// What a person should do; empty if nothing.
    pub advice: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Ok,
    /// It could not be looked at.
    Unknown,
    /// It works, and somebody should know.
    Warning,
    /// Something is wrong, and somebody should act.
    Problem,
}

/// What the checks compare with, beside the fleet and the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Whether figures are pushed to a gateway at all.
    pub pushes: bool,
}

/// Runs every check. Findings of one check stand together.
pub(crate) async fn run<S: Store>(
    shared: &Shared<S>,
    facts: Facts,
    now: Timestamp,
) -> Vec<Finding> {
    let mut found = rows::store(shared).await;
    found.extend(fleet::invariants(shared).await);
    found.extend(rows::memory_and_rows(shared).await);
    found.extend(fleet::hold_backs(shared).await);
    found.extend(fleet::stuck(shared).await);
    found.extend(fleet::quarantine(shared).await);
    found.extend(agents::all(shared, now).await);
    found.extend(sides::registries(shared).await);
    found.push(sides::push_gateway(&shared.metrics, facts.pushes));
    found
}

impl Finding {
    fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self::of(check, Verdict::Ok, "", what, "")
    }

    fn of(
        check: &'static str,
        verdict: Verdict,
        subject: impl ToString,
        what: impl Into<String>,
        advice: &'static str,
    ) -> Self {
        Self {
            check,
            verdict,
            subject: subject.to_string(),
            what: what.into(),
            advice,
        }
    }

    fn unknown(check: &'static str, what: impl Into<String>) -> Self {
        Self::of(check, Verdict::Unknown, "", what, "try again")
    }
}

/// `found`, or that all is well if there is nothing; of too many the first ones and their number.
fn or_ok(check: &'static str, mut found: Vec<Finding>, well: impl Into<String>) -> Vec<Finding> {
    if found.is_empty() {
        return vec![Finding::ok(check, well)];
    }
    let all = found.len();
    found.sort_by_key(|one| std::cmp::Reverse(one.verdict));
    if all > TOLD {
        let worst = found.first().map_or(Verdict::Ok, |first| first.verdict);
        found.truncate(TOLD);
        let more = format!("and {} more like these", all - TOLD);
        found.push(Finding::of(check, worst, "", more, ""));
    }
    found
}

#[cfg(test)]
mod tests;
