//! Jobs with tasks to assign, in classes of equal team and requirements.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::ClassKey;
use crate::ids::JobId;
use crate::job::LiveJob;

/// Larger priority first, then order of submission.
pub(super) type Turn = (Reverse<i32>, u64, JobId);

#[derive(Debug, Default)]
pub(super) struct Queue {
    classes: BTreeMap<ClassKey, BTreeSet<Turn>>,
    /// The classes of jobs of which tasks have grown, which differ in memory only; all others wait in the class of
    /// what they ask for, or in none.
    grown: BTreeMap<JobId, Vec<u64>>,
}

impl Queue {
    /// Puts a job where it belongs: in the classes of what it has to assign, and nowhere else.
    pub(super) fn update(&mut self, live: &LiveJob) {
        let sizes = live.sizes();
        let before = self.sizes_before(live);
        for gone in before.iter().filter(|size| !sizes.contains(size)) {
            self.leave(live, *gone);
        }
        for new in sizes.iter().filter(|size| !before.contains(size)) {
            let turns = self.classes.entry(class_of(live, *new)).or_default();
            turns.insert(turn_of(live));
        }
        if sizes.iter().any(|size| *size > 0) {
            self.grown.insert(live.job.id, sizes);
        }
    }

    /// Takes out what is known of the classes that the job waits in.
    fn sizes_before(&mut self, live: &LiveJob) -> Vec<u64> {
        let grown = self.grown.remove(&live.job.id);
        grown.unwrap_or_else(|| {
            let waits = self.waits(live, 0);
            waits.then_some(0).into_iter().collect()
        })
    }

    fn waits(&self, live: &LiveJob, size: u64) -> bool {
        let turns = self.classes.get(&class_of(live, size));
        turns.is_some_and(|turns| turns.contains(&turn_of(live)))
    }

    pub(super) fn remove(&mut self, live: &LiveJob) {
        for size in self.sizes_before(live) {
            self.leave(live, size);
        }
    }

    fn leave(&mut self, live: &LiveJob, size: u64) {
        let class = class_of(live, size);
        if let Some(turns) = self.classes.get_mut(&class) {
            turns.remove(&turn_of(live));
            if turns.is_empty() {
                self.classes.remove(&class);
            }
        }
    }

    pub(super) fn classes(&self) -> impl Iterator<Item = (&ClassKey, &BTreeSet<Turn>)> {
        self.classes.iter()
    }

    /// Whether the job is where it belongs.
    pub(super) fn is_right(&self, live: &LiveJob) -> bool {
        let sizes = live.sizes();
        let grown = self.grown.get(&live.job.id).map(Vec::as_slice);
        let known = sizes.iter().any(|size| *size > 0).then_some(&sizes[..]);
        grown == known
            && sizes.iter().all(|size| self.waits(live, *size))
            && (sizes.contains(&0) || !self.waits(live, 0))
    }

    /// How many jobs go before this one, in the class of those of its tasks that have grown to `memory`.
    pub(super) fn ahead_of(&self, live: &LiveJob, memory: u64) -> usize {
        let turns = self.classes.get(&class_of(live, memory));
        turns.map_or(0, |turns| turns.range(..turn_of(live)).count())
    }
}

fn class_of(live: &LiveJob, memory: u64) -> ClassKey {
    (live.job.team.clone(), live.job.needs(memory))
}

fn turn_of(live: &LiveJob) -> Turn {
    (Reverse(live.job.spec.priority), live.seq, live.job.id)
}
