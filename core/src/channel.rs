//! Channels: names that tasks refer to, each bound to a repository and a tag to follow.

use crate::ids::{ChannelName, TeamName};
use crate::image::{Digest, Image, Repository, Tag};
use crate::time::Timestamp;

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
    /// What the tag meant when somebody rolled back: news of this digest is not followed.
    pub held_back: Option<Digest>,
}

/// A channel moved to a digest at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Grows by one with each release of the channel.
    pub number: u64,
    pub repository: Repository,
    pub digest: Digest,
    pub at: Timestamp,
    pub cause: Cause,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Somebody set the channel.
    Set,
    Webhook,
    Poll,
    Rollback,
}

impl Cause {
    pub const ALL: [Self; 4] = [Self::Set, Self::Webhook, Self::Poll, Self::Rollback];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
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
    #[must_use]
    pub fn image(&self) -> Image {
        Image::Remote {
            repository: self.repository.clone(),
            digest: self.digest,
        }
    }
}
