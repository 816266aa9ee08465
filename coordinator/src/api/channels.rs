//! `ChannelService`.

use std::sync::Arc;

use muster_core::agent::Link;
use muster_core::channel::{Candidate, Cause, Channel, ChannelId, Following, PollInterval, Warm};
use muster_core::effect::Answer;
use muster_core::event::{Event, RollbackTo};
use muster_core::fleet::Fleet;
use muster_core::ids::{ChannelName, CredentialsName, Ticket};
use muster_core::image::{Repository, Tag};
use muster_proto::v1 as pb;
use muster_proto::v1::channel_service_server::ChannelService;
use tonic::{Request, Response, Status};

use super::convert::channels::{Spread, channel_to_wire, release_to_wire};
use super::convert::duration::millis_from_wire;
use super::{Shared, invalid, mismatched, refused, stopping, team_from_wire, unreadable};
use crate::poll::{FollowedChannel, Found};
use crate::registry::ResolveError;
use crate::store::Store;

/// Releases shown when the client names no number, and the most it may ask for.
const HISTORY: u32 = 20;
const HISTORY_MAX: u32 = 1_000;
/// Longest reason that is kept, in bytes.
pub(crate) const REASON_MAX: usize = 1024;
/// Longest name of who asks, in bytes.
const BY_MAX: usize = 128;

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
            by,
            warm,
            poll_interval,
            credentials,
        } = request.into_inner();
        let by = by_from_wire(by)?;
        let id = channel_id(&team, &name)?;
        let bad = |error| invalid("repository", format!("{error}"));
        let repository: Repository = repository.parse().map_err(bad)?;
        let tag = if tag.is_empty() { "latest" } else { &tag };
        let tag = Tag::parse(tag).map_err(|error| invalid("tag", error.to_string()))?;
        let warm = warm.map(warm_from_wire).transpose()?;
        let before = self.following(id.clone()).await?;
        let following = following_from_wire(before.clone(), poll_interval, credentials)?;
        let followed = FollowedChannel {
            id: id.clone(),
            repository,
            tag,
            current: None,
            following: following.clone(),
        };
        let (tag, candidate) = self.resolve(followed, Cause::Set, by).await?;
        let channel = id.clone();
        let mut set = self
            .change(move |ticket| Event::ChannelSet {
                ticket,
                channel,
                tag,
                candidate,
            })
            .await?;
        if following != before {
            let channel = id.clone();
            set = self
                .change(move |ticket| Event::FollowingSet {
                    ticket,
                    channel,
                    following,
                })
                .await?;
        }
        if let Some(warm) = warm {
            set = self
                .change(move |ticket| Event::WarmSet {
                    ticket,
                    channel: id,
                    warm,
                })
                .await?;
        }
        Ok(set)
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
            following: channel.following,
        };
        let by = String::new();
        let (tag, candidate) = self.resolve(followed, Cause::Poll, by).await?;
        let resolved = Event::ImageResolved {
            channel: id.clone(),
            tag,
            candidate,
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
            by,
        } = request.into_inner();
        let by = by_from_wire(by)?;
        let reason = reason_from_wire(reason)?;
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
            RollbackTo::Release(Box::new(found.ok_or_else(missing)?))
        };
        self.change(move |ticket| Event::RolledBack {
            ticket,
            channel: id,
            to,
            reason,
            by,
        })
        .await
    }
}

impl<S: Store> Channels<S> {
    fn show(&self, channel: &Channel, spread: Spread) -> pb::Channel {
        channel_to_wire(channel, spread, self.0.follower.last_look(&channel.id))
    }

    /// How the channel's tag is looked at; the default if there is no channel.
    async fn following(&self, id: ChannelId) -> Result<Following, Status> {
        let found = self.0.driver.look(move |fleet, _| {
            let channel = fleet.channel(&id)?;
            Some(channel.following.clone())
        });
        Ok(found.await.map_err(stopping)?.unwrap_or_default())
    }

    /// Looks at the tag for whoever asks, who waits for it.
    async fn resolve(
        &self,
        followed: FollowedChannel,
        cause: Cause,
        by: String,
    ) -> Result<(Tag, Box<Candidate>), Status> {
        let found = self.0.follower.look(&followed).await;
        let found = found.map_err(|error| unresolved("repository", &error))?;
        let FollowedChannel {
            id: _,
            repository,
            tag,
            current: _,
            following: _,
        } = followed;
        Ok((tag, candidate(repository, found, cause, by)))
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

pub(super) fn channel_id(team: &str, name: &str) -> Result<ChannelId, Status> {
    let bad = |error| invalid("name", format!("{name:?} {error}"));
    Ok(ChannelId {
        team: team_from_wire(team)?,
        name: ChannelName::parse(name).map_err(bad)?,
    })
}

pub(super) fn candidate(
    repository: Repository,
    found: Found,
    cause: Cause,
    by: String,
) -> Box<Candidate> {
    let Found { digest, facts } = found;
    Box::new(Candidate {
        repository,
        digest,
        facts,
        cause,
        reason: String::new(),
        by,
    })
}

fn warm_from_wire(warm: pb::WarmBounds) -> Result<Warm, Status> {
    let pb::WarmBounds { min, max } = warm;
    Warm::new(min, max).map_err(|bad| invalid("warm", bad.to_string()))
}

/// What is absent stays as it was.
fn following_from_wire(
    before: Following,
    poll_interval: Option<prost_types::Duration>,
    credentials: Option<String>,
) -> Result<Following, Status> {
    let poll = match poll_interval {
        None => before.poll,
        Some(wire) => {
            let bad = |problem: String| invalid("poll_interval", problem);
            let span = millis_from_wire(&wire).ok_or_else(|| bad("is no span".to_owned()))?;
            let interval = (span.0 > 0).then(|| PollInterval::new(span));
            interval
                .transpose()
                .map_err(|error| bad(error.to_string()))?
        }
    };
    let credentials = match credentials {
        None => before.credentials,
        Some(name) if name.is_empty() => None,
        Some(name) => {
            let bad = |error| invalid("credentials", format!("{name:?} {error}"));
            Some(CredentialsName::parse(&name).map_err(bad)?)
        }
    };
    Ok(Following { poll, credentials })
}

pub(super) fn by_from_wire(by: String) -> Result<String, Status> {
    bounded("by", by, BY_MAX)
}

pub(super) fn reason_from_wire(reason: String) -> Result<String, Status> {
    bounded("reason", reason, REASON_MAX)
}

fn bounded(field: &str, text: String, most: usize) -> Result<String, Status> {
    if text.len() > most {
        let problem = format!("is {} bytes long; at most {most}", text.len());
        return Err(invalid(field, problem));
    }
    Ok(text)
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

pub(super) fn unresolved(field: &str, error: &ResolveError) -> Status {
    let chain = muster_core::error_chain::error_chain(error);
    if error.is_transient() {
        return Status::unavailable(chain);
    }
    let of_credentials = error.is_of_credentials();
    invalid(if of_credentials { "credentials" } else { field }, chain)
}
