//! `ChannelService`.

use std::sync::Arc;

use muster_core::agent::Link;
use muster_core::channel::{Cause, Channel, ChannelId};
use muster_core::effect::Answer;
use muster_core::event::{Event, RollbackTo};
use muster_core::fleet::Fleet;
use muster_core::ids::{ChannelName, Ticket};
use muster_core::image::{Repository, Tag};
use muster_proto::v1 as pb;
use muster_proto::v1::channel_service_server::ChannelService;
use tonic::{Request, Response, Status};

use super::convert::channels::{Spread, channel_to_wire, release_to_wire};
use super::{Shared, invalid, mismatched, refused, stopping, team_from_wire, unreadable};
use crate::poll::FollowedChannel;
use crate::registry::ResolveError;
use crate::store::Store;

/// Releases shown when the client names no number, and the most it may ask for.
const HISTORY: u32 = 20;
const HISTORY_MAX: u32 = 1_000;
/// Longest reason that is kept, in bytes.
const REASON_MAX: usize = 1024;

#[derive(Debug)]
pub struct Channels<S>(pub Arc<Shared<S>>);

#[tonic::async_trait]
impl<S: Store> ChannelService for Channels<S> {
    async fn list(
        &self,
        request: Request<pb::ListChannelsRequest>,
    ) -> Result<Response<pb::ListChannelsResponse>, Status> {
        let team = team_from_wire(&request.into_inner().team)?;
        let found: Vec<(Channel, Spread)> = self
            .0
            .driver
            .look(move |fleet, _| {
                let ours = fleet.channels().filter(|channel| channel.id.team == team);
                ours.map(|channel| (channel.clone(), spread(fleet, channel)))
                    .collect()
            })
            .await
            .map_err(stopping)?;
        let channels = found
            .iter()
            .map(|(channel, spread)| self.show(channel, *spread))
            .collect();
        Ok(Response::new(pb::ListChannelsResponse { channels }))
    }

    async fn get(
        &self,
        request: Request<pb::GetChannelRequest>,
    ) -> Result<Response<pb::Channel>, Status> {
        let pb::GetChannelRequest { team, name } = request.into_inner();
        let id = channel_id(&team, &name)?;
        self.current(id).await.map(Response::new)
    }

    async fn set(
        &self,
        request: Request<pb::SetChannelRequest>,
    ) -> Result<Response<pb::Channel>, Status> {
        let pb::SetChannelRequest {
            team,
            name,
            repository,
            tag,
        } = request.into_inner();
        let id = channel_id(&team, &name)?;
        let bad = |error| invalid("repository", format!("{error}"));
        let repository: Repository = repository.parse().map_err(bad)?;
        let tag = if tag.is_empty() { "latest" } else { &tag };
        let tag = Tag::parse(tag).map_err(|error| invalid("tag", error.to_string()))?;
        let followed = FollowedChannel {
            id,
            repository,
            tag,
            current: None,
        };
        let digest = self.0.follower.look(&followed).await.map_err(unresolved)?;
        let FollowedChannel {
            id: channel,
            repository,
            tag,
            current: _,
        } = followed;
        self.change(move |ticket| Event::ChannelSet {
            ticket,
            channel,
            repository,
            tag,
            digest,
        })
        .await
    }

    async fn refresh(
        &self,
        request: Request<pb::RefreshChannelRequest>,
    ) -> Result<Response<pb::Channel>, Status> {
        let pb::RefreshChannelRequest { team, name } = request.into_inner();
        let id = channel_id(&team, &name)?;
        let channel = self.find(id.clone()).await?;
        let (repository, tag) = (channel.repository.clone(), channel.tag.clone());
        let followed = FollowedChannel {
            id: id.clone(),
            repository,
            tag,
            current: Some(channel.current.digest),
        };
        let digest = self.0.follower.look(&followed).await.map_err(unresolved)?;
        let FollowedChannel {
            id: channel,
            repository,
            tag,
            current: _,
        } = followed;
        let cause = Cause::Poll;
        let resolved = Event::ImageResolved {
            channel,
            repository,
            tag,
            digest,
            cause,
        };
        self.0.driver.tell(resolved).await.map_err(stopping)?;
        self.current(id).await.map(Response::new)
    }

    async fn history(
        &self,
        request: Request<pb::HistoryRequest>,
    ) -> Result<Response<pb::HistoryResponse>, Status> {
        let pb::HistoryRequest { team, name, limit } = request.into_inner();
        let id = channel_id(&team, &name)?;
        self.find(id.clone()).await?;
        let limit = match limit {
            0 => HISTORY,
            1..=HISTORY_MAX => limit,
            _ => {
                return Err(invalid(
                    "limit",
                    format!("{limit} is more than {HISTORY_MAX}"),
                ));
            }
        };
        let releases = self.0.store.history(id, limit).await.map_err(unreadable)?;
        let releases = releases.iter().map(release_to_wire).collect();
        Ok(Response::new(pb::HistoryResponse { releases }))
    }

    async fn rollback(
        &self,
        request: Request<pb::RollbackRequest>,
    ) -> Result<Response<pb::Channel>, Status> {
        let pb::RollbackRequest {
            team,
            name,
            release: number,
            reason,
        } = request.into_inner();
        if reason.len() > REASON_MAX {
            return Err(invalid(
                "reason",
                format!("is {} bytes long; at most 1024", reason.len()),
            ));
        }
        let id = channel_id(&team, &name)?;
        let to = if number == 0 {
            RollbackTo::Previous
        } else {
            let found = self
                .0
                .store
                .release(id.clone(), number)
                .await
                .map_err(unreadable)?;
            let missing = || Status::not_found(format!("channel {name} has no release {number}"));
            RollbackTo::Release {
                number,
                digest: found.ok_or_else(missing)?.digest,
            }
        };
        self.change(move |ticket| Event::RolledBack {
            ticket,
            channel: id,
            to,
            reason,
        })
        .await
    }
}

impl<S: Store> Channels<S> {
    fn show(&self, channel: &Channel, spread: Spread) -> pb::Channel {
        channel_to_wire(channel, spread, self.0.follower.last_look(&channel.id))
    }

    async fn look(&self, id: ChannelId) -> Result<(Channel, Spread), Status> {
        let missing = Status::not_found(format!("team {} has no channel {}", id.team, id.name));
        let found = self.0.driver.look(move |fleet, _| {
            fleet
                .channel(&id)
                .map(|channel| (channel.clone(), spread(fleet, channel)))
        });
        found.await.map_err(stopping)?.ok_or(missing)
    }

    async fn find(&self, id: ChannelId) -> Result<Channel, Status> {
        self.look(id).await.map(|(channel, _)| channel)
    }

    async fn current(&self, id: ChannelId) -> Result<pb::Channel, Status> {
        let (channel, spread) = self.look(id).await?;
        Ok(self.show(&channel, spread))
    }

    async fn change(
        &self,
        event: impl FnOnce(Ticket) -> Event + Send + 'static,
    ) -> Result<Response<pb::Channel>, Status> {
        match self.0.driver.ask(event).await.map_err(stopping)? {
            Answer::Channel(channel) => self.current(channel.id).await.map(Response::new),
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

fn channel_id(team: &str, name: &str) -> Result<ChannelId, Status> {
    let bad = |error| invalid("name", format!("{name:?} {error}"));
    Ok(ChannelId {
        team: team_from_wire(team)?,
        name: ChannelName::parse(name).map_err(bad)?,
    })
}

/// Of the agents that are online, how many hold the channel's digest.
fn spread(fleet: &Fleet, channel: &Channel) -> Spread {
    let mut spread = Spread::default();
    for agent in fleet
        .agents()
        .filter(|agent| matches!(agent.link, Link::Online { .. }))
    {
        spread.agents += 1;
        spread.held_by += u32::from(agent.digests.contains(&channel.current.digest));
    }
    spread
}

fn unresolved(error: ResolveError) -> Status {
    let chain = crate::error_chain::error_chain(&error);
    if error.is_transient() {
        Status::unavailable(chain)
    } else {
        invalid("repository", chain)
    }
}
