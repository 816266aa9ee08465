//! `RolloutService`.

use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::BoxStream;
use muster_core::agent::Link;
use muster_core::channel::{Cause, Channel, ChannelId};
use muster_core::effect::Answer;
use muster_core::event::{Event, Fetch};
use muster_core::fleet::Fleet;
use muster_core::ids::Ticket;
use muster_core::image::{BadImage, Reference, Repository, Tag, Version};
use muster_core::rollout::plan::Step;
use muster_core::rollout::{Command, Rollout};
use muster_proto::v1 as pb;
use muster_proto::v1::rollout_service_server::RolloutService;
use tonic::{Request, Response, Status};

use super::channels::{by_from_wire, candidate, channel_id, reason_from_wire, unresolved};
use super::convert::rollouts::{policy_from_wire, policy_to_wire, rollout_to_wire};
use super::{Shared, bad_request, invalid, mismatched, refused, stopping, unreadable};
use crate::poll::Found;
use crate::registry::Access;
use crate::store::Store;

mod watch;

/// Rollouts shown when the client names no number, and the most it may ask for.
const ROLLOUTS: u32 = 20;
const ROLLOUTS_MAX: u32 = 1_000;

#[derive(Debug)]
pub struct Rollouts<S>(pub Arc<Shared<S>>);

#[tonic::async_trait]
impl<S: Store> RolloutService for Rollouts<S> {
    type WatchStream = BoxStream<'static, Result<pb::Rollout, Status>>;

    async fn start(
        &self,
        request: Request<pb::StartRolloutRequest>,
    ) -> Result<Response<pb::Rollout>, Status> {
        let pb::StartRolloutRequest {
            team,
            channel,
            image,
            reason,
            by,
        } = request.into_inner();
        let by = by_from_wire(by)?;
        let reason = reason_from_wire(reason)?;
        let id = channel_id(&team, &channel)?;
        let known = self.channel(id.clone()).await?;
        let (repository, found) = self.resolve(&known, &image).await?;
        let mut candidate = candidate(repository, found, Cause::Start, by);
        candidate.reason = reason;
        self.tell(id.clone(), move |ticket| Event::RolloutAsked {
            ticket,
            channel: id,
            candidate,
        })
        .await
    }

    async fn get(
        &self,
        request: Request<pb::GetRolloutRequest>,
    ) -> Result<Response<pb::Rollout>, Status> {
        let pb::GetRolloutRequest {
            team,
            channel,
            release,
        } = request.into_inner();
        let id = channel_id(&team, &channel)?;
        find(&self.0, id, release).await.map(Response::new)
    }

    async fn list(
        &self,
        request: Request<pb::ListRolloutsRequest>,
    ) -> Result<Response<pb::ListRolloutsResponse>, Status> {
        let pb::ListRolloutsRequest {
            team,
            channel,
            limit,
        } = request.into_inner();
        let id = channel_id(&team, &channel)?;
        self.channel(id.clone()).await?;
        let limit = match limit {
            0 => ROLLOUTS,
            1..=ROLLOUTS_MAX => limit,
            _ => {
                let problem = format!("{limit} is more than {ROLLOUTS_MAX}");
                return Err(invalid("limit", problem));
            }
        };
        let found = self.0.store.list_rollouts(id, limit).await;
        let rollouts = found.map_err(unreadable)?;
        let rollouts = rollouts.iter().map(rollout_to_wire).collect();
        Ok(Response::new(pb::ListRolloutsResponse { rollouts }))
    }

    async fn watch(
        &self,
        request: Request<pb::GetRolloutRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let pb::GetRolloutRequest {
            team,
            channel,
            release,
        } = request.into_inner();
        let id = channel_id(&team, &channel)?;
        let first = find(&self.0, id.clone(), release).await?;
        let stream = watch::watch(Arc::clone(&self.0), id, first);
        Ok(Response::new(boxed(stream)))
    }

    async fn pause(
        &self,
        request: Request<pb::TellRolloutRequest>,
    ) -> Result<Response<pb::Rollout>, Status> {
        self.command(request, |_, _| Command::Pause).await
    }

    async fn resume(
        &self,
        request: Request<pb::TellRolloutRequest>,
    ) -> Result<Response<pb::Rollout>, Status> {
        self.command(request, |_, _| Command::Resume).await
    }

    async fn promote(
        &self,
        request: Request<pb::TellRolloutRequest>,
    ) -> Result<Response<pb::Rollout>, Status> {
        self.command(request, |_, now| Command::Promote { now })
            .await
    }

    async fn abort(
        &self,
        request: Request<pb::TellRolloutRequest>,
    ) -> Result<Response<pb::Rollout>, Status> {
        self.command(request, |reason, _| Command::Abort { reason })
            .await
    }

    async fn set_policy(
        &self,
        request: Request<pb::SetPolicyRequest>,
    ) -> Result<Response<pb::RolloutPolicy>, Status> {
        let pb::SetPolicyRequest {
            team,
            channel,
            policy,
        } = request.into_inner();
        let id = channel_id(&team, &channel)?;
        let policy = policy_from_wire(&policy.unwrap_or_default()).map_err(bad_request)?;
        let event = move |ticket| Event::PolicySet {
            ticket,
            channel: id,
            policy: Box::new(policy),
        };
        let channel = self.change(event).await?;
        Ok(Response::new(policy_to_wire(&channel.policy)))
    }

    async fn get_policy(
        &self,
        request: Request<pb::GetPolicyRequest>,
    ) -> Result<Response<pb::RolloutPolicy>, Status> {
        let pb::GetPolicyRequest { team, channel } = request.into_inner();
        let known = self.channel(channel_id(&team, &channel)?).await?;
        Ok(Response::new(policy_to_wire(&known.policy)))
    }
}

fn boxed<T: Send + 'static>(
    stream: impl Stream<Item = T> + Send + 'static,
) -> BoxStream<'static, T> {
    Box::pin(stream)
}

impl<S: Store> Rollouts<S> {
    async fn channel(&self, id: ChannelId) -> Result<Channel, Status> {
        let missing = Status::not_found(format!("team {} has no channel {}", id.team, id.name));
        let found = self
            .0
            .driver
            .look(move |fleet, _| fleet.channel(&id).cloned());
        found.await.map_err(stopping)?.ok_or(missing)
    }

    /// What the client means by `image`: empty, a tag, a digest, or a whole reference.
    async fn resolve(&self, channel: &Channel, image: &str) -> Result<(Repository, Found), Status> {
        let read = read_image(&channel.repository, &channel.tag, image);
        let (repository, version) = read.map_err(|error| invalid("image", error.to_string()))?;
        let registry = &self.0.registry;
        let access = Access {
            repository: &repository,
            credentials: channel.following.credentials.as_ref(),
        };
        let digest = match version {
            Version::Digest(digest) => digest,
            Version::Tag(tag) => registry
                .resolve(access, &tag)
                .await
                .map_err(|error| unresolved("image", &error))?,
        };
        let facts = registry
            .facts(access, digest)
            .await
            .map_err(|error| unresolved("image", &error))?;
        Ok((repository, Found { digest, facts }))
    }

    async fn command(
        &self,
        request: Request<pb::TellRolloutRequest>,
        command: impl FnOnce(String, bool) -> Command + Send,
    ) -> Result<Response<pb::Rollout>, Status> {
        let pb::TellRolloutRequest {
            team,
            channel,
            reason,
            by,
            now,
        } = request.into_inner();
        let by = by_from_wire(by)?;
        let command = command(reason_from_wire(reason)?, now);
        let id = channel_id(&team, &channel)?;
        self.tell(id.clone(), move |ticket| Event::RolloutTold {
            ticket,
            channel: id,
            command,
            by,
        })
        .await
    }

    /// Carries the wish out, and shows the newest rollout.
    async fn tell(
        &self,
        id: ChannelId,
        event: impl FnOnce(Ticket) -> Event + Send + 'static,
    ) -> Result<Response<pb::Rollout>, Status> {
        self.change(event).await?;
        find(&self.0, id, 0).await.map(Response::new)
    }

    async fn change(
        &self,
        event: impl FnOnce(Ticket) -> Event + Send + 'static,
    ) -> Result<Channel, Status> {
        match self.0.driver.ask(event).await.map_err(stopping)? {
            Answer::Channel(channel) => Ok(*channel),
            Answer::Refused(refusal) => Err(refused(&refusal)),
            other @ (Answer::Submitted(_)
            | Answer::CancelRequested { .. }
            | Answer::Released { .. }
            | Answer::Adopted(_)
            | Answer::LossesConfirmed { .. }
            | Answer::Agent(_)) => Err(mismatched(&other)),
        }
    }
}

/// An image as people name it to a channel: empty for the channel's own tag, another tag, a digest, or a whole
/// reference.
pub(super) fn read_image(
    repository: &Repository,
    tag: &Tag,
    image: &str,
) -> Result<(Repository, Version), BadImage> {
    let of_channel = |version| (repository.clone(), version);
    if image.is_empty() {
        return Ok(of_channel(Version::Tag(tag.clone())));
    }
    if image.starts_with("sha256:") {
        return image.parse().map(Version::Digest).map(of_channel);
    }
    if let Ok(tag) = Tag::parse(image) {
        return Ok(of_channel(Version::Tag(tag)));
    }
    let Reference {
        repository,
        version,
    } = image.parse()?;
    Ok((repository, version))
}

/// The rollout that leads to that release, or the newest for 0, and how far its fetching has come.
async fn find<S: Store>(
    shared: &Shared<S>,
    id: ChannelId,
    release: u64,
) -> Result<pb::Rollout, Status> {
    let wanted = id.clone();
    let active = shared.driver.look(move |fleet, _| {
        let found = fleet.rollout(&wanted)?;
        (release == 0 || found.to.number == release).then(|| with_spread(fleet, found))
    });
    if let Some(found) = active.await.map_err(stopping)? {
        return Ok(found);
    }
    let stored = if release == 0 {
        let newest = shared.store.list_rollouts(id.clone(), 1).await;
        newest.map_err(unreadable)?.pop()
    } else {
        let one = shared.store.rollout(id.clone(), release).await;
        one.map_err(unreadable)?
    };
    let ChannelId { team, name } = id;
    let missing = || match release {
        0 => format!("team {team} has no rollout of a channel {name}"),
        _ => format!("channel {name} of team {team} has no rollout to release {release}"),
    };
    let stored = stored.ok_or_else(|| Status::not_found(missing()))?;
    Ok(rollout_to_wire(&stored))
}

/// Of the agents that are to fetch the image, or of those online, how many hold it.
fn with_spread(fleet: &Fleet, rollout: &Rollout) -> pb::Rollout {
    let mut wire = rollout_to_wire(rollout);
    let planned = rollout.plan.steps.iter().find_map(|step| match step {
        Step::Prefetch { agents, .. } => Some(agents),
        Step::Validate { .. }
        | Step::Canary { .. }
        | Step::Promote
        | Step::Restart { .. }
        | Step::Bake { .. } => None,
    });
    for agent in fleet.agents() {
        let concerned = match planned {
            Some(planned) => planned.contains(&agent.id),
            None => matches!(agent.link, Link::Online { .. }),
        };
        if concerned {
            wire.agents += 1;
            wire.agents_ready += u32::from(agent.digests.contains(&rollout.to.digest));
        }
    }
    let fetches = fleet.fetches(&rollout.channel).map(|(agent, fetch)| {
        let Fetch {
            image: _,
            done_bytes,
            total_bytes,
            problem,
        } = fetch;
        pb::AgentFetch {
            agent: agent.to_string(),
            done_bytes: *done_bytes,
            total_bytes: *total_bytes,
            problem: problem.clone(),
        }
    });
    wire.fetches = fetches.collect();
    wire
}

/// Whether there is nothing more to see.
fn has_ended(rollout: &pb::Rollout) -> bool {
    rollout.end.is_some()
}
