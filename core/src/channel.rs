//! Channels: names that tasks refer to, each bound to a repository and a tag to follow.

use crate::ids::{ChannelName, CredentialsName, TeamName};
use crate::image::{Digest, Image, Repository, Tag};
use crate::rollout::Facts;
use crate::rollout::policy::Policy;
use crate::time::{Millis, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChannelId {
    pub team: TeamName,
    pub name: ChannelName,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    pub id: ChannelId,
    pub repository: Repository,
    pub tag: Tag,
    pub current: Release,
    pub previous: Option<Release>,
    /// What was rolled back last: news of this digest is not followed.
    pub held_back: Option<Digest>,
    /// What the tag meant when somebody started a rollout to something else: no news until the tag has
    /// meant another digest.
    pub passed_over: Option<Digest>,
    /// What somebody set that its rollouts have to pass; the default: nobody did.
    pub policy: Policy,
    pub warm: Warm,
    pub following: Following,
    /// The newest releases that were tried and never promoted, oldest first; at most 16. What still
    /// runs on them fails at nobody's cost.
    pub unpromoted: Vec<u64>,
}

/// How the coordinator looks at a channel's tag. The default: as at all others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Following {
    /// How often when no hint comes; `None`: as often as the coordinator's own setting says.
    pub poll: Option<PollInterval>,
    /// What it shows to the registry; `None`: what its own configuration has.
    pub credentials: Option<CredentialsName>,
}

/// From 10 s to 7 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PollInterval(Millis);

/// A registry would throttle it, or a lost hint would never be made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{span} is out of bounds: a tag is looked at every 10 s at least and every 7 days at most")]
pub struct BadPollInterval {
    pub span: Millis,
}

impl PollInterval {
    pub const LEAST: Millis = Millis::from_secs(10);
    pub const MOST: Millis = Millis::from_secs(7 * 86_400);

    /// # Errors
    /// If it is out of bounds.
    pub fn new(span: Millis) -> Result<Self, BadPollInterval> {
        if (Self::LEAST..=Self::MOST).contains(&span) {
            Ok(Self(span))
        } else {
            Err(BadPollInterval { span })
        }
    }

    #[must_use]
    pub const fn span(self) -> Millis {
        self.0
    }
}

/// How many containers wait for the channel's tasks on each agent. The default is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Warm {
    /// Always, even if no task has come for long.
    min: u32,
    /// When tasks come often.
    max: u32,
}

/// No agent would ever have more of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadWarm {
    #[error("min is {min}, which is more than max, {max}")]
    Order { min: u32, max: u32 },
    #[error("max is {max}; at most {} containers wait on each agent", Warm::MOST)]
    Most { max: u32 },
}

impl Warm {
    pub const MOST: u32 = 1_000;

    /// # Errors
    /// If `min` is above `max`, or that above [`Self::MOST`].
    pub const fn new(min: u32, max: u32) -> Result<Self, BadWarm> {
        if max > Self::MOST {
            return Err(BadWarm::Most { max });
        }
        if min > max {
            return Err(BadWarm::Order { min, max });
        }
        Ok(Self { min, max })
    }

    #[must_use]
    pub const fn min(self) -> u32 {
        self.min
    }

    #[must_use]
    pub const fn max(self) -> u32 {
        self.max
    }

    #[must_use]
    pub const fn is_off(self) -> bool {
        self.max == 0
    }
}

/// Entries of `Channel::unpromoted`.
const UNPROMOTED_MAX: usize = 16;

impl Channel {
    /// The largest number that a release of the channel was given, without a rollout that is under way.
    #[must_use]
    pub fn newest(&self) -> u64 {
        let tried = self.unpromoted.iter().max().copied().unwrap_or(0);
        self.current.number.max(tried)
    }

    /// What the next rollout has to pass, and who says so. What somebody set is never overruled by an image.
    #[must_use]
    pub fn policy_in_effect(&self) -> (&Policy, PolicyFrom) {
        match &self.current.policy {
            _ if self.policy != Policy::default() => (&self.policy, PolicyFrom::Set),
            Some(policy) => (policy, PolicyFrom::Image),
            None => (&self.policy, PolicyFrom::Nowhere),
        }
    }

    /// Whether the candidate is what the channel is at.
    #[must_use]
    pub fn is_at(&self, candidate: &Candidate) -> bool {
        self.current.digest == candidate.digest && self.current.repository == candidate.repository
    }

    /// Somebody wants the digest; `followed` is what the tag meant last, if a rollout to that is under way.
    /// Tells whether the channel has to be stored.
    pub(crate) fn start(&mut self, wanted: Digest, followed: Option<Digest>) -> bool {
        let before = (self.passed_over, self.held_back);
        let meant = self.passed_over.or(self.held_back).or(followed);
        let meant = meant.unwrap_or(self.current.digest);
        self.passed_over = (meant != wanted).then_some(meant);
        self.held_back = self.held_back.filter(|held| *held != wanted);
        before != (self.passed_over, self.held_back)
    }

    pub(crate) fn never_promoted(&mut self, release: u64) {
        if self.unpromoted.len() == UNPROMOTED_MAX {
            self.unpromoted.remove(0);
        }
        self.unpromoted.push(release);
    }
}

/// Where a channel's policy is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyFrom {
    /// There is none.
    Nowhere,
    /// Somebody set it.
    Set,
    /// The current release's image carries it.
    Image,
}

/// A digest that a channel shall be moved to, and where that came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub repository: Repository,
    pub digest: Digest,
    pub facts: Facts,
    pub cause: Cause,
    pub reason: String,
    pub by: String,
}

impl Candidate {
    #[must_use]
    pub fn release(&self, number: u64, at: Timestamp) -> Release {
        let Self {
            repository,
            digest,
            facts,
            cause,
            reason,
            by,
        } = self.clone();
        Release {
            number,
            repository,
            digest,
            at,
            cause,
            reason,
            by,
            revision: facts.revision,
            created: facts.created,
            policy: facts.policy,
        }
    }
}

/// A digest that a channel was moved to, or tried with, at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Grows by one with each release of the channel.
    pub number: u64,
    pub repository: Repository,
    pub digest: Digest,
    pub at: Timestamp,
    pub cause: Cause,
    pub reason: String,
    /// Who asked for it, as they say themselves; empty: nobody did.
    pub by: String,
    /// Of the source, from the image's labels; empty: the image does not say.
    pub revision: String,
    /// When the image was built, from its labels; empty: the image does not say.
    pub created: String,
    /// What the image carries for the channel's rollouts after its own; counts while it is current.
    pub policy: Option<Box<Policy>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Somebody set the channel.
    Set,
    /// Somebody started a rollout.
    Start,
    Webhook,
    Poll,
    Rollback,
}

impl Cause {
    pub const ALL: [Self; 5] = [
        Self::Set,
        Self::Start,
        Self::Webhook,
        Self::Poll,
        Self::Rollback,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Start => "start",
            Self::Webhook => "webhook",
            Self::Poll => "poll",
            Self::Rollback => "rollback",
        }
    }

    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == word)
    }
}

impl Release {
    /// What the registry said about its image.
    #[must_use]
    pub fn facts(&self) -> Facts {
        Facts {
            revision: self.revision.clone(),
            created: self.created.clone(),
            policy: self.policy.clone(),
            ..Facts::default()
        }
    }

    #[must_use]
    pub fn image(&self) -> Image {
        Image::Remote {
            repository: self.repository.clone(),
            digest: self.digest,
        }
    }
}
