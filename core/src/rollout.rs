//! A rollout: the process that moves a channel to a release, and back if the release is not good.

use std::collections::BTreeSet;

use crate::channel::{ChannelId, Release};
use crate::ids::JobId;
use crate::time::{Millis, Timestamp};

pub mod gate;
pub mod plan;
pub mod policy;

use gate::Tally;
use plan::{Plan, Step};
use policy::Policy;

/// Entries of a timeline that are kept; a rollout has a few per step and one for each command.
const TIMELINE_MAX: usize = 200;

/// What the registry says about an image beside its digest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The label `org.opencontainers.image.revision`; empty: none.
    pub revision: String,
    /// The label `org.opencontainers.image.created`; empty: none.
    pub created: String,
    /// The command in the label `muster.validate`; empty: none.
    pub validate: Vec<String>,
    /// What it carries for the channel's rollouts after its own.
    pub policy: Option<Box<Policy>>,
    /// For what it was built, as `linux/amd64`; empty: not known.
    pub platforms: BTreeSet<String>,
    /// What the verification said when it took it; empty: there is none, or it said nothing.
    pub accepted: String,
    /// Why it must not be rolled out.
    pub objection: Option<String>,
}

impl Facts {
    /// Why it must not be rolled out to agents of those platforms; an empty one is not known, and may be any.
    #[must_use]
    pub fn objection_on(&self, agents: &BTreeSet<String>) -> Option<String> {
        if self.objection.is_some() {
            return self.objection.clone();
        }
        let known = !self.platforms.is_empty() && !agents.is_empty() && !agents.contains("");
        (known && self.platforms.is_disjoint(agents)).then(|| {
            let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
            format!(
                "the image is for {}, and no agent that is online runs that; they run {}",
                list(&self.platforms),
                list(agents)
            )
        })
    }
}

/// A rollout of one channel. Its name is the channel's and the number of the release it moves to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    pub channel: ChannelId,
    pub from: Release,
    pub to: Release,
    pub policy: Policy,
    pub plan: Plan,
    pub state: State,
    pub began: Timestamp,
    pub validation: Option<Validation>,
    pub tally: Tally,
    /// Oldest first; at most 200.
    pub timeline: Vec<Moment>,
}

/// The job that tries the new image out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    pub job: JobId,
    /// `None`: it has not ended.
    pub passed: Option<bool>,
    /// How it ended, in words.
    pub how: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Active {
        /// Index of the plan's step that is under way.
        step: usize,
        since: Timestamp,
        paused: Option<Timestamp>,
    },
    Ended {
        how: Conclusion,
        at: Timestamp,
        reason: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Conclusion {
    Promoted,
    RolledBack,
    /// By a person.
    Aborted,
    /// A newer release took its place.
    Superseded,
}

impl Conclusion {
    pub const ALL: [Self; 4] = [
        Self::Promoted,
        Self::RolledBack,
        Self::Aborted,
        Self::Superseded,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
            Self::Superseded => "superseded",
        }
    }

    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|conclusion| conclusion.as_str() == word)
    }
}

/// What a rollout is about at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The registry said what the tag means.
    Resolve,
    /// Whether it may be rolled out at all.
    Verify,
    Prefetch,
    Validate,
    Canary,
    Promote,
    Restart,
    Bake,
    /// It ended, one way or another.
    Ended,
}

impl Phase {
    pub const ALL: [Self; 9] = [
        Self::Resolve,
        Self::Verify,
        Self::Prefetch,
        Self::Validate,
        Self::Canary,
        Self::Promote,
        Self::Restart,
        Self::Bake,
        Self::Ended,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Verify => "verify",
            Self::Prefetch => "prefetch",
            Self::Validate => "validate",
            Self::Canary => "canary",
            Self::Promote => "promote",
            Self::Restart => "restart",
            Self::Bake => "bake",
            Self::Ended => "ended",
        }
    }

    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == word)
    }
}

/// Something that happened to a rollout, in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    pub at: Timestamp,
    pub phase: Phase,
    pub what: String,
}

/// What a person tells a rollout to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Time stands still for it, and nothing more is tried on the new image.
    Pause,
    Resume,
    /// Skips what is left before the promotion.
    Promote {
        /// Also what comes after it.
        now: bool,
    },
    Abort {
        reason: String,
    },
}

impl Rollout {
    /// The step that is under way.
    #[must_use]
    pub fn step(&self) -> Option<&Step> {
        match self.state {
            State::Active { step, .. } => self.plan.steps.get(step),
            State::Ended { .. } => None,
        }
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        self.step().map_or(Phase::Ended, Step::phase)
    }

    #[must_use]
    pub const fn is_paused(&self) -> bool {
        matches!(
            self.state,
            State::Active {
                paused: Some(_),
                ..
            }
        )
    }

    /// Whether the channel has been moved to the new release.
    #[must_use]
    pub fn is_promoted(&self) -> bool {
        match &self.state {
            State::Active { step, .. } => self.plan.steps[..*step].contains(&Step::Promote),
            State::Ended { how, .. } => *how == Conclusion::Promoted,
        }
    }

    /// How it ended and how long it took, pauses included; `None`: it is under way.
    #[must_use]
    pub const fn end(&self) -> Option<(Conclusion, Millis)> {
        match &self.state {
            State::Active { .. } => None,
            State::Ended { how, at, reason: _ } => Some((*how, at.since(self.began))),
        }
    }

    pub(crate) fn note(&mut self, at: Timestamp, phase: Phase, what: String) {
        if self.timeline.len() < TIMELINE_MAX {
            self.timeline.push(Moment { at, phase, what });
        }
    }
}
