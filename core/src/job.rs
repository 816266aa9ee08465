//! A job: a spec and an array of tasks. One record however large the array.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::fleet::Standing;
use crate::ids::{AttemptNo, JobId, TeamName};
use crate::image::Image;
use crate::outcome::{End, Outcome};
use crate::ranges::Ranges;
use crate::spec::{Requirements, Resources, Spec};
use crate::task::{Phase, Task};
use crate::time::Timestamp;

/// What was submitted; never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: JobId,
    pub team: TeamName,
    pub spec: Arc<Spec>,
    /// 1 to `limits::ARRAY`.
    pub array: u32,
    pub key: Option<Box<IdempotencyKey>>,
    /// The image of all attempts, unless the job follows a channel with `Pin::Task`.
    pub pinned: Option<Image>,
    /// The release that gave the pinned image.
    pub release: Option<u64>,
    pub created: Timestamp,
    /// W3C trace context; the job's attempts are part of that trace.
    pub traceparent: Option<String>,
}

/// The key and a hash of what was submitted under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    pub key: String,
    /// SHA-256 over the encoded request of this job.
    pub body: [u8; 32],
}

/// How many tasks stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub pending: u32,
    /// Assigned and preparing.
    pub preparing: u32,
    pub running: u32,
    pub succeeded: u32,
    pub failed: u32,
    pub oom: u32,
    pub timeout: u32,
    pub canceled: u32,
    pub lost: u32,
    pub preempted: u32,
    pub image_error: u32,
    pub infra_error: u32,
    /// Attempts beyond each task's first.
    pub retries: u32,
}

impl Counts {
    /// Of a job of so many tasks that was just submitted.
    pub(crate) fn submitted(array: u32) -> Self {
        Self {
            pending: array,
            ..Self::default()
        }
    }

    /// The count of one end.
    pub const fn ended_mut(&mut self, outcome: Outcome) -> &mut u32 {
        match outcome {
            Outcome::Succeeded => &mut self.succeeded,
            Outcome::Failed => &mut self.failed,
            Outcome::Oom => &mut self.oom,
            Outcome::Timeout => &mut self.timeout,
            Outcome::Canceled => &mut self.canceled,
            Outcome::Lost => &mut self.lost,
            Outcome::Preempted => &mut self.preempted,
            Outcome::ImageError => &mut self.image_error,
            Outcome::InfraError => &mut self.infra_error,
        }
    }

    #[must_use]
    pub fn ended(mut self, outcome: Outcome) -> u32 {
        *self.ended_mut(outcome)
    }

    /// Tasks that have not ended.
    #[must_use]
    pub const fn live(&self) -> u32 {
        self.pending + self.preparing + self.running
    }

    /// The worst end so far, by what wins when several tasks ended differently.
    #[must_use]
    pub fn worst(&self) -> Option<Outcome> {
        let ended = Outcome::ALL
            .into_iter()
            .filter(|outcome| self.ended(*outcome) > 0);
        ended.max_by_key(|outcome| outcome.severity())
    }
}

/// Tasks that ended without an attempt, all in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    pub tasks: Ranges,
    pub end: End,
    pub at: Timestamp,
}

/// What changes about a job; a row that is written at most once per batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobProgress {
    /// Tasks that were never assigned and may still be.
    pub unstarted: Ranges,
    pub withdrawn: Vec<Withdrawn>,
    pub counts: Counts,
    /// The first attempt's start.
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// Of the whole job.
    pub cancel: Option<CancelRequest>,
    /// Tasks whose cancel was asked for while an attempt held them. They get no other attempt.
    pub canceling: Ranges,
}

impl JobProgress {
    /// Whether somebody wants the task to end: it gets no other attempt.
    #[must_use]
    pub fn is_canceled(&self, index: u32) -> bool {
        self.cancel.is_some() || self.canceling.contains(index)
    }

    /// An attempt in that phase no longer holds its task.
    pub(crate) const fn leave(&mut self, phase: Phase, started: Option<Timestamp>) {
        match phase {
            Phase::Running { .. } => self.counts.running -= 1,
            Phase::Assigned | Phase::Preparing => self.counts.preparing -= 1,
        }
        if self.started.is_none() {
            self.started = started;
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelRequest {
    pub reason: String,
    pub at: Timestamp,
}

/// A job with tasks that have not ended, as the fleet holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveJob {
    pub job: Arc<Job>,
    /// Order of submission: first in, first out among equal priorities.
    pub seq: u64,
    pub progress: JobProgress,
    /// Attempts up to this number may exist although the store does not know them; 0: it knows all.
    pub fence: AttemptNo,
    /// Tasks that were assigned at least once and have not ended.
    pub tasks: BTreeMap<u32, Task>,
    /// Pending tasks of `tasks` whose delay is over.
    pub ready: Ready,
    /// What of it is in the fleet's [`Tally`](crate::fleet::Tally).
    pub(crate) counted: Standing,
}

impl LiveJob {
    #[must_use]
    pub fn new(job: Arc<Job>, seq: u64) -> Self {
        let progress = JobProgress {
            unstarted: Ranges::up_to(job.array),
            withdrawn: Vec::new(),
            counts: Counts::submitted(job.array),
            started: None,
            ended: None,
            cancel: None,
            canceling: Ranges::default(),
        };
        Self {
            job,
            seq,
            progress,
            fence: AttemptNo(0),
            tasks: BTreeMap::new(),
            ready: Ready::default(),
            counted: Standing::default(),
        }
    }

    /// Tasks that could be assigned now.
    #[must_use]
    pub fn assignable(&self) -> u32 {
        let retries = u32::try_from(self.ready.len()).unwrap_or(u32::MAX);
        self.progress.unstarted.count().saturating_add(retries)
    }

    /// What the assignable tasks ask for, as [`Spent::memory`](crate::retry::Spent), in order.
    pub(crate) fn sizes(&self) -> Vec<u64> {
        let mut sizes: Vec<u64> = self.ready.0.keys().copied().collect();
        if self.progress.unstarted.count() > 0 && sizes.first() != Some(&0) {
            sizes.insert(0, 0);
        }
        sizes
    }
}

impl Job {
    /// What an attempt needs whose task has grown to so many bytes of memory; 0: it has not.
    #[must_use]
    pub fn needs(&self, memory: u64) -> Arc<Requirements> {
        let needs = &self.spec.requirements;
        if memory == 0 {
            return Arc::clone(needs);
        }
        Arc::new(Requirements {
            resources: Resources {
                memory_bytes: memory,
                ..needs.resources.clone()
            },
            ..Requirements::clone(needs)
        })
    }

    /// How many bytes such an attempt asks for.
    #[must_use]
    pub fn memory(&self, grown: u64) -> u64 {
        match grown {
            0 => self.spec.requirements.resources.memory_bytes,
            grown => grown,
        }
    }
}

/// Pending tasks that may be assigned now, by the memory that they have grown to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ready(BTreeMap<u64, BTreeSet<u32>>);

impl Ready {
    pub(crate) fn insert(&mut self, memory: u64, index: u32) {
        self.0.entry(memory).or_default().insert(index);
    }

    pub(crate) fn remove(&mut self, index: u32) {
        self.0.retain(|_, tasks| {
            tasks.remove(&index);
            !tasks.is_empty()
        });
    }

    pub(crate) fn contains(&self, index: u32) -> bool {
        self.0.values().any(|tasks| tasks.contains(&index))
    }

    fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// Those that have grown to so much.
    pub(crate) fn of(&self, memory: u64) -> impl Iterator<Item = u32> {
        self.0.get(&memory).into_iter().flatten().copied()
    }
}
