//! Jobs with tasks to assign, in classes of equal team and requirements.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::ClassKey;
use crate::ids::JobId;
use crate::job::LiveJob;

/// Larger priority first, then order of submission.
pub(super) type Turn = (Reverse<i32>, u64, JobId);

#[derive(Debug, Default)]
pub(super) struct Queue(BTreeMap<ClassKey, BTreeSet<Turn>>);

impl Queue {
    /// Puts a job where it belongs: in its class while it has something to assign, else nowhere.
    pub(super) fn update(&mut self, live: &LiveJob) {
        if live.assignable() == 0 {
            self.remove(live);
            return;
        }
        self.0
            .entry(class_of(live))
            .or_default()
            .insert(turn_of(live));
    }

    pub(super) fn remove(&mut self, live: &LiveJob) {
        let class = class_of(live);
        if let Some(turns) = self.0.get_mut(&class) {
            turns.remove(&turn_of(live));
            if turns.is_empty() {
                self.0.remove(&class);
            }
        }
    }

    pub(super) fn classes(&self) -> impl Iterator<Item = (&ClassKey, &BTreeSet<Turn>)> {
        self.0.iter()
    }

    pub(super) fn contains(&self, live: &LiveJob) -> bool {
        self.0
            .get(&class_of(live))
            .is_some_and(|turns| turns.contains(&turn_of(live)))
    }

    /// How many jobs of the class go before this one.
    pub(super) fn ahead_of(&self, live: &LiveJob) -> usize {
        let turns = self.0.get(&class_of(live));
        turns.map_or(0, |turns| turns.range(..turn_of(live)).count())
    }
}

pub(super) fn class_of(live: &LiveJob) -> ClassKey {
    (live.job.team.clone(), live.job.spec.requirements.clone())
}

fn turn_of(live: &LiveJob) -> Turn {
    (Reverse(live.job.spec.priority), live.seq, live.job.id)
}
