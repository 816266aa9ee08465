//! Retries of one team are let go at a pace: many that fail at once must not take the fleet when they come back.
//!
//! A team has a bucket of tokens, and each retry that a budget pays for takes one when its delay is over. Time
//! fills the bucket, and so does each task of the team that succeeds. A retry that finds the bucket empty waits in
//! line; nothing is lost, and no budget is touched. The bucket is in memory only. A start of the coordinator finds
//! it full, and the rows of waiting retries, whose delay is over, line up again.

use std::collections::{BTreeMap, BTreeSet};

use super::Fleet;
use super::timers::Timer;
use crate::ids::{JobId, TaskId, TeamName};
use crate::outcome::Outcome;
use crate::retry::Budget;
use crate::task::TaskState;
use crate::time::{Millis, Timestamp};

/// Parts of one token: a rate of so many each minute is as many parts each millisecond.
const TOKEN: u64 = 60_000;
/// Parts for one task that succeeded: a tenth of a token.
const FOR_SUCCESS: u64 = TOKEN / 10;
/// A full bucket is what time fills in so many minutes.
const FULL_MINUTES: u64 = 10;

/// A retry in line: by the end of its delay, then by task.
type Turn = (Timestamp, TaskId);

#[derive(Debug)]
struct Pace {
    parts: u64,
    /// Up to when time has filled the bucket.
    filled: Timestamp,
    line: BTreeSet<Turn>,
    /// When the first in line is looked at again, unless a success comes before.
    timer: Option<Timestamp>,
}

/// One for each team that had a retry.
#[derive(Debug, Default)]
pub(super) struct Paces(BTreeMap<TeamName, Pace>);

impl Fleet {
    /// How many retries of each team wait for their turn.
    pub fn paced(&self) -> impl Iterator<Item = (&TeamName, usize)> {
        let paces = self.paces.0.iter();
        paces.map(|(team, pace)| (team, pace.line.len()))
    }

    /// The place in the team's line of a task, or of the job's first in it, counted from 0.
    pub(super) fn place_in_line(
        &self,
        team: &TeamName,
        job: JobId,
        index: Option<u32>,
    ) -> Option<usize> {
        let line = &self.paces.0.get(team)?.line;
        line.iter()
            .position(|(_, id)| id.job == job && index.is_none_or(|index| index == id.index))
    }

    pub(super) fn is_in_line(&self, team: &TeamName, turn: &Turn) -> bool {
        let pace = self.paces.0.get(team);
        pace.is_some_and(|pace| pace.line.contains(turn))
    }

    /// A retry whose delay is over: it goes now, or waits in line.
    pub(super) fn line_up(&mut self, now: Timestamp, team: &TeamName, turn: Turn) {
        let parts = self.full_bucket();
        let pace = self.paces.0.entry(team.clone()).or_insert_with(|| Pace {
            parts,
            filled: now,
            line: BTreeSet::new(),
            timer: None,
        });
        pace.line.insert(turn);
        self.release_retries(now, team);
    }

    /// The task will not be tried again after all.
    pub(super) fn leave_line(&mut self, id: TaskId) {
        let Some(live) = self.jobs.begun(id.job) else {
            return;
        };
        if let Some(pace) = self.paces.0.get_mut(&live.job.team)
            && let Some(task) = live.tasks.get(&id.index)
            && let TaskState::Pending { not_before, .. } = task.state
        {
            pace.line.remove(&(not_before, id));
        }
    }

    /// A task of the team ended. A team without an entry has a full bucket.
    pub(super) fn earn_retry(&mut self, now: Timestamp, team: &TeamName, outcome: Outcome) {
        let full = self.full_bucket();
        if outcome == Outcome::Succeeded
            && let Some(pace) = self.paces.0.get_mut(team)
        {
            pace.parts = pace.parts.saturating_add(FOR_SUCCESS).min(full);
            if !pace.line.is_empty() {
                self.release_retries(now, team);
            }
        }
    }

    /// Lets as many go as there are tokens, and comes back for the next one.
    pub(super) fn release_retries(&mut self, now: Timestamp, team: &TeamName) {
        let (rate, full) = (self.rate(), self.full_bucket());
        let Some(pace) = self.paces.0.get_mut(team) else {
            return;
        };
        let gained = now.since(pace.filled).0.saturating_mul(rate);
        pace.parts = pace.parts.saturating_add(gained).min(full);
        pace.filled = pace.filled.max(now);
        if let Some(at) = pace.timer.take() {
            self.timers.clear(at, Timer::Pace(team.clone()));
        }
        let mut gone = Vec::new();
        while pace.parts >= TOKEN
            && let Some((due, id)) = pace.line.pop_first()
        {
            let live = self.jobs.begun(id.job);
            let task = live.and_then(|live| live.tasks.get(&id.index));
            // An agent may have brought it back, after a restore of the store.
            let waits = task.is_some_and(|task| {
                matches!(task.state, TaskState::Pending { not_before, quarantined: false, .. } if not_before == due)
            });
            if waits {
                pace.parts -= TOKEN;
                gone.push(id);
            }
        }
        if !pace.line.is_empty() {
            let at = now + Millis((TOKEN - pace.parts).div_ceil(rate));
            pace.timer = Some(at);
            self.timers.set(at, Timer::Pace(team.clone()));
        }
        for id in gone {
            self.make_ready(id);
        }
    }

    fn rate(&self) -> u64 {
        u64::from(self.limits.retries_per_minute.max(1))
    }

    fn full_bucket(&self) -> u64 {
        self.rate() * FULL_MINUTES * TOKEN
    }
}

/// Whether a retry from this budget waits its turn. One that never ran, was preempted, or answers for a release
/// on trial is nobody's failure.
pub(super) const fn is_paced(budget: Budget) -> bool {
    match budget {
        Budget::User | Budget::Infra => true,
        Budget::Free | Budget::Trial => false,
    }
}
