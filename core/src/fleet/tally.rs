//! How many tasks of all live jobs stand where, without a walk over the jobs.

use crate::job::{Counts, LiveJob};

/// Tasks of live jobs. As of the last settled batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub pending: u64,
    /// Assigned and preparing.
    pub preparing: u64,
    pub running: u64,
}

impl Tally {
    /// Takes what changed about a job since it was counted last.
    pub(super) fn note(&mut self, live: &mut LiveJob) {
        self.add(live.counted, |all, one| all - one);
        live.counted = live.progress.counts.standing();
        self.add(live.counted, |all, one| all + one);
    }

    pub(super) fn add(&mut self, standing: Standing, sum: impl Fn(u64, u64) -> u64) {
        let Standing {
            pending,
            preparing,
            running,
        } = standing;
        self.pending = sum(self.pending, pending.into());
        self.preparing = sum(self.preparing, preparing.into());
        self.running = sum(self.running, running.into());
    }
}

/// Of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    pending: u32,
    preparing: u32,
    running: u32,
}

impl Counts {
    pub(super) const fn standing(&self) -> Standing {
        Standing {
            pending: self.pending,
            preparing: self.preparing,
            running: self.running,
        }
    }
}
