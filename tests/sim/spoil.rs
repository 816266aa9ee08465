//! What mistakes of the coordinator make of what is stored.

use std::sync::Arc;

use muster_core::agent::Schedulable;
use muster_core::effect::Record;
use muster_core::event::Restored;
use muster_core::retry::Budget;
use muster_core::rollout::{Conclusion, State};
use muster_core::task::RowState;

use crate::bug::Bug;

/// What a mistake makes of a row that is loaded; `None`: it is not loaded.
pub(crate) fn restored(bug: Option<Bug>, mut row: Restored) -> Option<Restored> {
    match (bug, &mut row) {
        (Some(Bug::ReuseAttemptNumbers), Restored::Job { tasks, .. }) => {
            for (_, task) in tasks {
                if matches!(task.state, RowState::Pending { .. }) {
                    task.last.0 -= 1;
                }
            }
        }
        (Some(Bug::ForgetSpent), Restored::Job { tasks, .. }) => {
            for (_, task) in tasks {
                (task.spent.user, task.spent.infra) = (0, 0);
            }
        }
        (Some(Bug::ForgetGrowth), Restored::Job { tasks, .. }) => {
            for (_, task) in tasks {
                task.spent.memory = 0;
            }
        }
        (Some(Bug::LastRuleWins), Restored::Job { job, .. }) => {
            let spec = &mut Arc::make_mut(job).spec;
            Arc::make_mut(spec).retry.rules.reverse();
        }
        (Some(Bug::ForgetCordon), Restored::Agent(agent)) => {
            agent.schedulable = Schedulable::Yes;
        }
        (Some(Bug::ForgetTally), Restored::Rollout(rollout)) => rollout.tally.made = 0,
        (Some(Bug::ForgetRollouts), Restored::Rollout(_)) => return None,
        (Some(Bug::ForgetCarried), Restored::Channel(channel)) => channel.current.policy = None,
        (Some(Bug::ForgetUnpromoted), Restored::Channel(channel)) => channel.unpromoted.clear(),
        _ => {}
    }
    Some(row)
}

/// What a mistake makes of the records of a batch.
pub(crate) fn records(bug: Option<Bug>, records: &mut Vec<Record>) {
    if bug == Some(Bug::ForgetRollback) {
        let is_back = |record: &Record| {
            matches!(record, Record::Rollout(rollout)
                if matches!(rollout.state, State::Ended { how: Conclusion::RolledBack, .. }))
        };
        if records.iter().any(is_back) {
            records.retain(|record| !matches!(record, Record::Channel(_)));
        }
    }
    let from = match bug {
        Some(Bug::ChargeTrials) => Some(Budget::Trial),
        Some(Bug::ChargeHostFailures) => Some(Budget::Infra),
        _ => None,
    };
    if let Some(from) = from {
        for record in records {
            if let Record::Task { row, .. } = record
                && let RowState::Pending { budget, .. } = &mut row.state
                && *budget == from
            {
                *budget = Budget::User;
                row.spent.user += 1;
            }
        }
    }
}
