//! The driver, as the follower of tags sees it.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use muster_core::channel::Cause;
use muster_core::event::Event;
use muster_core::image::Digest;

use crate::driver::DriverHandle;
use crate::poll::{ChannelSink, FollowedChannel};

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
            };
            fleet.channels().map(follow).collect()
        });
        // A driver that has stopped follows nothing.
        followed.map(Result::unwrap_or_default).boxed()
    }

    fn resolved(
        &self,
        channel: FollowedChannel,
        digest: Digest,
        cause: Cause,
    ) -> BoxFuture<'_, ()> {
        let FollowedChannel {
            id: channel,
            repository,
            tag,
            current: _,
        } = channel;
        let event = Event::ImageResolved {
            channel,
            repository,
            tag,
            digest,
            cause,
        };
        self.0.tell(event).map(|_| ()).boxed()
    }
}
