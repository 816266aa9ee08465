//! Who pays for another attempt, and what the retry rules of a job make of an end.

use muster_core::effect::Because;
use muster_core::ids::{AttemptId, TaskId};
use muster_core::outcome::{End, EndReason, Outcome};
use muster_core::retry::Budget;
use muster_core::spec::{RetryAction, RetryPolicy, RetryRule};
use muster_core::task::{RowState, TaskRow};
use muster_core::time::Timestamp;

use super::{Check, Store, violated};

impl Store {
    /// Compares the row that follows an attempt's end with the one before.
    pub(super) fn check_retry(&self, id: TaskId, old: &TaskRow, new: &TaskRow) -> Check {
        let Some(job) = self.jobs.get(&id.job).map(|row| &row.job) else {
            return Ok(());
        };
        let policy = &job.spec.retry;
        let (was, is) = (old.spent, new.spent);
        let told = || format!("{id}: {was:?}, then {is:?}, of {policy:?}");
        if is.user > policy.user || is.infra > policy.infra {
            return violated("no budget is exceeded", told());
        }
        // A person's requeue is a new beginning for the host's failures, not for the task's own.
        let requeued = matches!(
            old.state,
            RowState::Pending {
                quarantined: true,
                ..
            }
        );
        if is.user < was.user || (is.infra < was.infra && !requeued) {
            return violated("what was spent is spent", told());
        }
        let attempt = AttemptId {
            task: id,
            number: old.last,
        };
        let waited = matches!(old.state, RowState::Pending { .. });
        let end = self.attempts[&attempt].end.as_ref().filter(|_| !waited);
        let own = end.is_some_and(is_own);
        if (is.user > was.user && !own) || (is.infra > was.infra && own) {
            let what = format!("{end:?} {}", told());
            return violated("everybody pays for their own failures", what);
        }
        let rule = end.and_then(|end| rule_for(policy, end));
        let (asked, asks) = (job.memory(was.memory), job.memory(is.memory));
        let grown = match rule {
            Some(RetryAction::Grow(growth)) => {
                let more = asked.saturating_mul(growth.percent.into()) / 100;
                more.min(growth.most)
            }
            Some(RetryAction::Fail | RetryAction::Retry) | None => asked,
        };
        if asks != asked && asks != grown {
            let what = format!("{asks} bytes after {asked}, by {rule:?}");
            return violated("memory grows by its rule", what);
        }
        let Some(end) = end else { return Ok(()) };
        match &new.state {
            RowState::Pending {
                budget: Budget::User | Budget::Infra,
                quarantined: false,
                ..
            } if rule == Some(RetryAction::Fail) => violated(
                "the first rule that matches decides",
                format!("{end} {}", told()),
            ),
            RowState::Ended { end: last, .. }
                if last == end
                    && own
                    && rule != Some(RetryAction::Fail)
                    && grown_or_same(rule, asked)
                    && was.user < policy.user
                    && !self.is_canceled(id) =>
            {
                violated("a budget that is left is used", format!("{end} {}", told()))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a rule that wants more memory has more to give.
fn grown_or_same(rule: Option<RetryAction>, asked: u64) -> bool {
    !matches!(rule, Some(RetryAction::Grow(growth)) if asked >= growth.most)
}

/// Whether the task itself is what failed.
fn is_own(end: &End) -> bool {
    matches!(end.outcome, Outcome::Failed | Outcome::Oom)
        || (end.outcome == Outcome::Timeout && end.reason != EndReason::QueueTimeout)
}

fn rule_for(policy: &RetryPolicy, end: &End) -> Option<RetryAction> {
    if end.reason == EndReason::Refused {
        return None;
    }
    let names = |rule: &&RetryRule| {
        let outcome = rule.outcomes.is_empty() || rule.outcomes.contains(&end.outcome);
        let has_code = |code: i32| {
            let mut ranges = rule.exit_codes.iter();
            ranges
                .any(|range| (i32::from(*range.start())..=i32::from(*range.end())).contains(&code))
        };
        outcome && (rule.exit_codes.is_empty() || end.exit_code.is_some_and(has_code))
    };
    let over = matches!(end.outcome, Outcome::Succeeded | Outcome::Canceled);
    policy
        .rules
        .iter()
        .find(names)
        .filter(|_| !over)
        .map(|rule| rule.action)
}

/// The retries of the only team that budgets pay for, since a coordinator started with a full bucket.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    begun: Timestamp,
    per_minute: u32,
    made: u32,
    succeeded: u32,
}

impl Pace {
    pub(crate) const fn begin(begun: Timestamp, per_minute: u32) -> Self {
        Self {
            begun,
            per_minute,
            made: 0,
            succeeded: 0,
        }
    }

    pub(super) fn earn(&mut self, row: &TaskRow) {
        let done =
            matches!(&row.state, RowState::Ended { end, .. } if end.outcome == Outcome::Succeeded);
        self.succeeded += u32::from(done);
    }

    /// Ten minutes' worth at once, so many a minute, and one for ten tasks that succeed.
    pub(super) fn check(&mut self, id: AttemptId, at: Timestamp, because: Because) -> Check {
        if !matches!(
            because,
            Because::UserRetry { .. } | Because::InfraRetry { .. }
        ) {
            return Ok(());
        }
        self.made += 1;
        let rate = u64::from(self.per_minute);
        let filled = at.since(self.begun).0 * rate / 60_000;
        let allowed = 10 * rate + filled + u64::from(self.succeeded) / 10 + 1;
        if u64::from(self.made) > allowed {
            let what = format!("{id} is retry {} where {allowed} are allowed", self.made);
            return violated("retries go at their pace", what);
        }
        Ok(())
    }
}
