//! Whether a task gets another attempt: a pure function of its policy, its budgets and the end.

use crate::hash;
use crate::ids::TaskId;
use crate::outcome::{End, EndReason, Outcome};
use crate::spec::{Backoff, BackoffKind, Delivery, RetryAction, RetryPolicy, RetryRule};
use crate::time::Millis;

/// What a task's attempts have cost it. Preemptions and refusals cost nothing but are counted for the delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    pub user: u32,
    pub infra: u32,
    pub free: u32,
    /// Attempts that were running when something that is not the task's ended them.
    pub deaths: u32,
    /// What its attempts ask for since one had too little memory, in bytes; 0: what the job asks for.
    pub memory: u64,
}

/// After so many deaths a task is suspected of killing what it runs on, and waits for a person.
pub const POISON_DEATHS: u32 = 3;

/// Who pays for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    User,
    Infra,
    /// It never ran, or an operator took its place away.
    Free,
    /// The release that was on trial: the next attempt runs the one before.
    Trial,
}

impl Budget {
    pub const ALL: [Self; 4] = [Self::User, Self::Infra, Self::Free, Self::Trial];

    /// The word that stored rows use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Infra => "infra",
            Self::Free => "free",
            Self::Trial => "trial",
        }
    }

    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|budget| budget.as_str() == word)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The task takes the attempt's end.
    Final,
    Retry {
        budget: Budget,
        delay: Millis,
    },
    /// It would be tried again, but too many attempts died: a person decides.
    Quarantine,
}

/// Whether the end says that the attempt was running when its host, engine or agent went away.
#[must_use]
pub const fn is_death(end: &End) -> bool {
    matches!(end.outcome, Outcome::Lost | Outcome::InfraError)
        && matches!(
            end.reason,
            EndReason::EngineLost
                | EndReason::Interrupted
                | EndReason::HostRebooted
                | EndReason::AgentLost
                | EndReason::ContainerGone
                | EndReason::KilledExternally
        )
}

/// Decides what follows the end of an attempt of `task`; `spent` counts this end's death already.
///
/// A death that uses up the infra budget or leaves some of it quarantines the task if it is the
/// last that is borne. So a budget of 1 or 0 is spent before that, and the task ends.
#[must_use]
pub fn decide(
    task: TaskId,
    end: &End,
    policy: &RetryPolicy,
    delivery: Delivery,
    spent: Spent,
) -> Decision {
    let budget = match action(policy, end) {
        Some(RetryAction::Fail) => return Decision::Final,
        Some(RetryAction::Retry | RetryAction::Grow(_)) => budget_of(end).or(Some(Budget::Infra)),
        None => budget_of(end),
    };
    let Some(budget) = budget else {
        return Decision::Final;
    };
    let unknown = match end.outcome {
        Outcome::Lost | Outcome::InfraError => !end.reason.never_ran(),
        Outcome::Succeeded
        | Outcome::Failed
        | Outcome::Oom
        | Outcome::Timeout
        | Outcome::Canceled
        | Outcome::Preempted
        | Outcome::ImageError => false,
    };
    if unknown && delivery == Delivery::AtMostOnce {
        return Decision::Final;
    }
    if is_death(end) && spent.deaths >= POISON_DEATHS {
        return Decision::Quarantine;
    }
    let (used, allowed) = match budget {
        Budget::User => (spent.user, policy.user),
        Budget::Infra => (spent.infra, policy.infra),
        Budget::Free | Budget::Trial => (spent.free, u32::MAX),
    };
    if used >= allowed {
        return Decision::Final;
    }
    let delay = match end.outcome {
        Outcome::Preempted => Millis(0),
        Outcome::Succeeded
        | Outcome::Failed
        | Outcome::Oom
        | Outcome::Timeout
        | Outcome::Canceled
        | Outcome::Lost
        | Outcome::ImageError
        | Outcome::InfraError => delay(&policy.backoff, used, chance(task, spent)),
    };
    Decision::Retry { budget, delay }
}

/// What the attempt after this end asks for, in bytes, if this one asked for `asked`; `None`: a rule wants more
/// than it allows.
#[must_use]
pub fn memory_after(end: &End, policy: &RetryPolicy, asked: u64) -> Option<u64> {
    match action(policy, end) {
        Some(RetryAction::Grow(growth)) => growth.after(asked),
        Some(RetryAction::Fail | RetryAction::Retry) | None => Some(asked),
    }
}

/// What the first rule for such an end says.
fn action(policy: &RetryPolicy, end: &End) -> Option<RetryAction> {
    let rule = policy.rules.iter().find(|rule| matches(rule, end));
    rule.map(|rule| rule.action)
}

/// Whether the rule is for such an end. No rule is for a task that was done, canceled, refused by an agent, or
/// waited for too long.
fn matches(rule: &RetryRule, end: &End) -> bool {
    let RetryRule {
        outcomes,
        exit_codes,
        action: _,
    } = rule;
    let code = end.exit_code.and_then(|code| u8::try_from(code).ok());
    let has_code = || code.is_some_and(|code| exit_codes.iter().any(|range| range.contains(&code)));
    let is_over = matches!(end.outcome, Outcome::Succeeded | Outcome::Canceled)
        || matches!(end.reason, EndReason::QueueTimeout | EndReason::Refused);
    !is_over
        && (outcomes.is_empty() || outcomes.contains(&end.outcome))
        && (exit_codes.is_empty() || has_code())
}

/// Which budget another attempt after this end is paid from; `None`: there is no other attempt.
fn budget_of(end: &End) -> Option<Budget> {
    match end.outcome {
        Outcome::Succeeded | Outcome::Canceled => None,
        Outcome::Timeout if end.reason == EndReason::QueueTimeout => None,
        Outcome::Failed | Outcome::Oom | Outcome::Timeout => Some(Budget::User),
        Outcome::InfraError if end.reason == EndReason::Refused => Some(Budget::Free),
        Outcome::Lost | Outcome::InfraError => Some(Budget::Infra),
        Outcome::ImageError if end.reason == EndReason::PullFailed => Some(Budget::Infra),
        // A wrong entrypoint or a missing image does not get better by itself.
        Outcome::ImageError => None,
        Outcome::Preempted => Some(Budget::Free),
    }
}

/// The delay before the retry after `used` earlier ones; `chance` is uniform in 0..2^16.
#[must_use]
pub fn delay(backoff: &Backoff, used: u32, chance: u16) -> Millis {
    let full = match backoff.kind {
        BackoffKind::Fixed => backoff.initial.0,
        BackoffKind::Exponential => {
            let factor = 1u64.checked_shl(used).unwrap_or(u64::MAX);
            backoff.initial.0.saturating_mul(factor)
        }
    };
    let full = full.min(backoff.cap.0);
    if !backoff.jitter {
        return Millis(full);
    }
    let part = u128::from(full) * u128::from(chance) / u128::from(u16::MAX);
    Millis(u64::try_from(part).expect("a part of a u64"))
}

/// A number that differs by task and by retry and is the same in every replay.
fn chance(task: TaskId, spent: Spent) -> u16 {
    let round = u64::from(spent.user) + u64::from(spent.infra) + u64::from(spent.free);
    let mixed = hash::mix(task.job.entropy() ^ (u64::from(task.index) << 20) ^ (round + 1));
    u16::try_from(mixed & 0xffff).expect("sixteen bits")
}

#[cfg(test)]
mod tests;
