//! Channels and releases for clients.

use muster_core::channel::{Channel, ChannelId, Following, PolicyFrom, Release};
use muster_proto::v1 as pb;

use super::duration::{millis_to_wire, time_to_wire};
use super::rollouts::policy_to_wire;
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
        passed_over: _,
        policy: _,
        unpromoted: _,
        warm,
        following: Following { poll, credentials },
    } = channel;
    let Look {
        resolved,
        meant: _,
        problem,
    } = look;
    let policy_from = match channel.policy_in_effect().1 {
        PolicyFrom::Nowhere => "",
        PolicyFrom::Set => "set",
        PolicyFrom::Image => "image",
    };
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
        warm: (!warm.is_off()).then(|| pb::WarmBounds {
            min: warm.min(),
            max: warm.max(),
        }),
        policy_from: policy_from.to_owned(),
        poll_interval: poll.map(|interval| millis_to_wire(interval.span())),
        credentials: credentials
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    }
}

pub(crate) fn release_to_wire(release: &Release) -> pb::Release {
    let Release {
        number,
        repository,
        digest,
        at,
        cause,
        reason,
        by,
        revision,
        created,
        policy,
    } = release;
    pb::Release {
        number: *number,
        digest: digest.to_string(),
        at: Some(time_to_wire(*at)),
        cause: cause.as_str().to_owned(),
        reason: reason.clone(),
        by: by.clone(),
        revision: revision.clone(),
        created: created.clone(),
        repository: repository.to_string(),
        policy: policy.as_deref().map(policy_to_wire),
    }
}
