//! What is done about an object, and how it is shown.

use muster_core::channel::{Candidate, ChannelId, Following, Warm};
use muster_core::event::{Event, RollbackTo};
use muster_core::ids::Ticket;
use muster_core::image::Tag;
use muster_core::rollout::Command;
use muster_core::rollout::policy::Policy;
use muster_proto::v1::ApplyAction;

/// What one document comes to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) action: ApplyAction,
    pub(super) changes: Vec<Change>,
    pub(super) note: String,
    /// In order; empty if nothing has to change.
    pub(super) deeds: Vec<Deed>,
}

impl Outcome {
    pub(super) fn unchanged(note: impl Into<String>) -> Self {
        Self {
            action: ApplyAction::Unchanged,
            changes: Vec::new(),
            note: note.into(),
            deeds: Vec::new(),
        }
    }
}

/// A field before and after; `None`: it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) field: String,
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
}

impl Change {
    pub(super) fn new(field: &str, before: Option<String>, after: Option<String>) -> Self {
        Self {
            field: field.to_owned(),
            before,
            after,
        }
    }
}

/// One event of the fleet.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    Set {
        tag: Tag,
        candidate: Box<Candidate>,
    },
    SetPolicy(Box<Policy>),
    SetWarm(Warm),
    SetFollowing(Following),
    Start(Box<Candidate>),
    RollBack {
        to: RollbackTo,
        reason: String,
        by: String,
    },
    Abort {
        reason: String,
        by: String,
    },
}

impl Deed {
    pub(super) fn event(self, ticket: Ticket, channel: ChannelId) -> Event {
        match self {
            Self::Set { tag, candidate } => Event::ChannelSet {
                ticket,
                channel,
                tag,
                candidate,
            },
            Self::SetFollowing(following) => Event::FollowingSet {
                ticket,
                channel,
                following,
            },
            Self::SetWarm(warm) => Event::WarmSet {
                ticket,
                channel,
                warm,
            },
            Self::SetPolicy(policy) => Event::PolicySet {
                ticket,
                channel,
                policy,
            },
            Self::Start(candidate) => Event::RolloutAsked {
                ticket,
                channel,
                candidate,
            },
            Self::RollBack { to, reason, by } => Event::RolledBack {
                ticket,
                channel,
                to,
                reason,
                by,
            },
            Self::Abort { reason, by } => Event::RolloutTold {
                ticket,
                channel,
                command: Command::Abort { reason },
                by,
            },
        }
    }
}
