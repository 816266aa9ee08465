//! Channels and releases for clients.

use muster_core::channel::{Channel, ChannelId, Release};
use muster_proto::v1 as pb;

use super::duration::time_to_wire;
use crate::poll::Look;

/// How many agents are online, and how many of them hold a channel's digest.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spread {
    pub(crate) held_by: u32,
    pub(crate) agents: u32,
}

pub(crate) fn channel_to_wire(channel: &Channel, spread: Spread, look: Look) -> pb::Channel {
    let Channel {
        id: ChannelId { team, name },
        repository,
        tag,
        current,
        previous,
        held_back: _,
    } = channel;
    let Look { resolved, problem } = look;
    pb::Channel {
        team: team.to_string(),
        name: name.to_string(),
        repository: repository.to_string(),
        tag: tag.to_string(),
        current: Some(release_to_wire(current)),
        previous: previous.as_ref().map(release_to_wire),
        held_by: spread.held_by,
        agents: spread.agents,
        resolved: resolved.map(time_to_wire),
        problem: problem.unwrap_or_default(),
    }
}

pub(crate) fn release_to_wire(release: &Release) -> pb::Release {
    let Release {
        number,
        repository: _,
        digest,
        at,
        cause,
        reason,
    } = release;
    pb::Release {
        number: *number,
        digest: digest.to_string(),
        at: Some(time_to_wire(*at)),
        cause: cause.as_str().to_owned(),
        reason: reason.clone(),
    }
}
