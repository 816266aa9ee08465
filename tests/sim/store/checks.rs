//! What the rows say as a whole.

use muster_core::agent::Link;
use muster_core::ids::{AgentId, AttemptId, AttemptNo};
use muster_core::outcome::{EndReason, Outcome};
use muster_core::spec::{Delivery, OnDisconnect};
use muster_core::task::RowState;

use super::{Check, Store, violated};
use crate::ledger::Ledger;

impl Store {
    /// Whether an agent has no more open attempts than places.
    pub(super) fn check_room(&self, agent: &AgentId) -> Check {
        let rows = self.attempts.values();
        let open = rows.filter(|row| row.end.is_none() && row.agent == *agent);
        let places = self
            .agents
            .get(agent)
            .map(|row| row.profile.capacity.places);
        let held = u32::try_from(open.count()).unwrap_or(u32::MAX);
        if places.is_none_or(|places| held > places) {
            let what = format!("{agent} has {held} attempts and {places:?} places");
            return violated("I18 capacity", what);
        }
        Ok(())
    }

    /// Whether the attempt before left it open how it ended, and the job may not run twice.
    pub(crate) fn must_not_run(&self, id: AttemptId, ledger: &Ledger) -> bool {
        let Some(row) = self.jobs.get(&id.task.job) else {
            return false;
        };
        row.job.spec.delivery == Delivery::AtMostOnce
            && (1..id.number.0).any(|number| {
                let earlier = AttemptId {
                    number: AttemptNo(number),
                    ..id
                };
                let end = self.attempts.get(&earlier).and_then(|row| row.end.as_ref());
                let unknown = end.is_none_or(|end| end.outcome == Outcome::Lost);
                unknown && ledger.ran(earlier)
            })
    }

    /// Whether nobody can tell the older attempt to stop, and nothing else stops it.
    pub(crate) fn may_overlap(&self, older: AttemptId) -> bool {
        let end = self.attempts.get(&older).and_then(|row| row.end.as_ref());
        let given_up = end.is_some_and(|end| end.reason == EndReason::AgentLost);
        given_up && !self.counts_as_stopped(older)
    }

    /// Whether it was given up because its host is sure to have stopped it.
    pub(crate) fn counts_as_stopped(&self, id: AttemptId) -> bool {
        let end = self.attempts.get(&id).and_then(|row| row.end.as_ref());
        let given_up = end.is_some_and(|end| end.reason == EndReason::AgentLost);
        let job = self.jobs.get(&id.task.job).map(|row| &row.job.spec);
        given_up && job.is_some_and(|spec| spec.on_disconnect != OnDisconnect::Finish)
    }

    /// Whether nobody is silent for good and nothing is left to do.
    pub(crate) fn unfinished(&self) -> Option<String> {
        let job = self.jobs.values().find(|row| !row.is_ended())?;
        let away = self
            .agents
            .values()
            .filter(|agent| !matches!(agent.link, Link::Online { .. }));
        let away: Vec<String> = away.map(|agent| agent.id.to_string()).collect();
        Some(format!(
            "job {}: {:?}; away: {away:?}",
            job.job.id, job.progress
        ))
    }

    /// Compares the counts of every job with its rows.
    pub(crate) fn check_counts(&self) -> Check {
        for row in self.jobs.values() {
            let Some(progress) = &row.progress else {
                return violated(
                    "I3 one counted outcome",
                    format!("job {} has no progress", row.job.id),
                );
            };
            for outcome in Outcome::ALL {
                let tasks = self.tasks.iter().filter(|(id, task)| {
                    id.job == row.job.id
                        && matches!(&task.state, RowState::Ended { end, .. } if end.outcome == outcome)
                });
                let withdrawn = progress
                    .withdrawn
                    .iter()
                    .filter(|gone| gone.end.outcome == outcome);
                let withdrawn: u32 = withdrawn.map(|gone| gone.tasks.count()).sum();
                let found = u32::try_from(tasks.count()).unwrap_or(u32::MAX) + withdrawn;
                if found != progress.counts.ended(outcome) {
                    let what = format!(
                        "job {}: {found} tasks {outcome}, counted {:?}",
                        row.job.id, progress.counts
                    );
                    return violated("I3 one counted outcome", what);
                }
            }
        }
        Ok(())
    }
}
