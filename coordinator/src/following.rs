//! The driver, as the follower of tags sees it.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use muster_core::channel::{Candidate, Cause};
use muster_core::event::Event;

use crate::driver::DriverHandle;
use crate::poll::{ChannelSink, FollowedChannel, Found};

/// Hands what the follower finds to the driver.
#[derive(Debug, Clone)]
pub(crate) struct Followed(pub(crate) DriverHandle);

impl ChannelSink for Followed {
    fn channels(&self) -> BoxFuture<'_, Vec<FollowedChannel>> {
        let followed = self.0.look(|fleet, _| {
            let follow = |channel: &muster_core::channel::Channel| FollowedChannel {
                id: channel.id.clone(),
                repository: channel.repository.clone(),
                tag: channel.tag.clone(),
                current: Some(channel.current.digest),
                following: channel.following.clone(),
            };
            fleet.channels().map(follow).collect()
        });
        // A driver that has stopped follows nothing.
        followed.map(Result::unwrap_or_default).boxed()
    }

    fn resolved(&self, channel: FollowedChannel, found: Found, cause: Cause) -> BoxFuture<'_, ()> {
        let FollowedChannel {
            id: channel,
            repository,
            tag,
            current: _,
            following: _,
        } = channel;
        let Found { digest, facts } = found;
        let candidate = Candidate {
            repository,
            digest,
            facts,
            cause,
            reason: String::new(),
            by: String::new(),
        };
        let event = Event::ImageResolved {
            channel,
            tag,
            candidate: Box::new(candidate),
        };
        self.0.tell(event).map(|_| ()).boxed()
    }
}
