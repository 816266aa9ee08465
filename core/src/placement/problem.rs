//! What the solver needs to know, over dense ordinals.

use std::collections::BTreeSet;

use crate::agent::Capacity;
use crate::image::Digest;
use crate::spec::Resources;

#[derive(Debug, Clone, Default)]
pub struct Problem {
    /// Agents that take new tasks.
    pub agents: Vec<Slot>,
    pub classes: Vec<Class>,
    /// Live attempts of each team: a smaller number goes first.
    pub teams: Vec<u32>,
    /// How many more live attempts each concurrency key allows.
    pub keys: Vec<u32>,
    /// How many more tasks may go to agents that don't hold each image that can't be pulled now.
    pub pulls: Vec<u32>,
}

#[derive(Debug, Clone, Default)]
pub struct Slot {
    pub capacity: Capacity,
    pub reserved: Capacity,
    pub digests: BTreeSet<Digest>,
    /// It goes first, so that it is known soon whether anything starts there.
    pub trial: bool,
}

impl Slot {
    #[must_use]
    pub fn free_places(&self) -> u32 {
        self.capacity.places.saturating_sub(self.reserved.places)
    }

    #[must_use]
    pub fn has_room(&self, needs: &Resources) -> bool {
        let used = self.reserved.resources.plus(needs);
        self.free_places() > 0 && used.fits_in(&self.capacity.resources)
    }

    pub(super) fn reserve(&mut self, needs: &Resources) {
        self.reserved.places += 1;
        self.reserved.resources = self.reserved.resources.plus(needs);
    }
}

/// Tasks of one team with equal requirements.
#[derive(Debug, Clone, Default)]
pub struct Class {
    /// Ordinal in `Problem::teams`.
    pub team: usize,
    pub needs: Resources,
    /// Agents that match the constraints, as ordinals, whatever they have free.
    pub eligible: Vec<usize>,
    /// Ordinals in `Problem::keys`.
    pub keys: Vec<usize>,
    /// In the order in which they go.
    pub demands: Vec<Demand>,
}

/// Tasks of one job that may be assigned now.
#[derive(Debug, Clone, Default)]
pub struct Demand {
    pub priority: i32,
    /// Order of submission.
    pub seq: u64,
    pub count: u32,
    pub digest: Option<Digest>,
    /// Ordinal in `Problem::pulls`.
    pub pulls: Option<usize>,
    /// Agents that are taken only if there is no other, the better ones first.
    pub avoid: Vec<usize>,
}

/// Who runs what: one entry for each assigned task, in the order of assignment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Solution {
    pub assigned: Vec<Assigned>,
}

/// One task of a demand goes to an agent. All are ordinals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    pub class: usize,
    pub demand: usize,
    pub agent: usize,
}
