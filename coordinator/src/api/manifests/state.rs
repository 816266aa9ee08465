//! What the fleet and the registries say, and what earlier documents of the request make of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_core::channel::{Channel, ChannelId};
use muster_core::image::{Digest, Repository, Version};
use tonic::Status;

use super::Failed;
use crate::api::{Shared, stopping, unreadable};
use crate::manifest::Place;
use crate::poll::Found;
use crate::registry::{Access, ResolveError};
use crate::store::Store;

/// Where a document names what a registry is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    pub(super) image: Place,
    pub(super) credentials: Place,
}

impl Places {
    /// One for both.
    pub(super) const fn at(place: Place) -> Self {
        Self {
            image: place,
            credentials: place,
        }
    }
}

/// An image that a channel can be at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) repository: Repository,
    pub(super) digest: Digest,
}

/// A channel, and the rollout that is under way.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) channel: Channel,
    pub(super) active: Option<Active>,
}

#[derive(Debug, Clone)]
pub(super) struct Active {
    pub(super) from: Target,
    pub(super) to: Target,
    pub(super) promoted: bool,
}

pub(super) struct State<'a, S> {
    shared: &'a Arc<Shared<S>>,
    /// What channels will be like.
    planned: BTreeMap<ChannelId, Known>,
}

impl Known {
    /// A repository, asked for as the channel does.
    pub(super) const fn access<'a>(&'a self, repository: &'a Repository) -> Access<'a> {
        Access {
            repository,
            credentials: self.channel.following.credentials.as_ref(),
        }
    }
}

impl<'a, S: Store> State<'a, S> {
    pub(super) const fn new(shared: &'a Arc<Shared<S>>) -> Self {
        Self {
            shared,
            planned: BTreeMap::new(),
        }
    }

    pub(super) async fn channel(&self, id: &ChannelId) -> Result<Option<Known>, Status> {
        if let Some(known) = self.planned.get(id) {
            return Ok(Some(known.clone()));
        }
        let id = id.clone();
        let found = self.shared.driver.look(move |fleet, _| {
            let channel = fleet.channel(&id)?.clone();
            let active = fleet.rollout(&id).map(|rollout| Active {
                from: target(&rollout.from),
                to: target(&rollout.to),
                promoted: rollout.is_promoted(),
            });
            Some(Known { channel, active })
        });
        found.await.map_err(stopping)
    }

    /// For the documents that come after this one.
    pub(super) fn expect(&mut self, known: Known) {
        self.planned.insert(known.channel.id.clone(), known);
    }

    pub(super) async fn digest(
        &self,
        access: Access<'_>,
        version: &Version,
        places: Places,
    ) -> Result<Digest, Failed> {
        match version {
            Version::Digest(digest) => Ok(*digest),
            Version::Tag(tag) => {
                let found = self.shared.registry.resolve(access, tag).await;
                found.map_err(|error| unresolved(places, &error))
            }
        }
    }

    pub(super) async fn found(
        &self,
        access: Access<'_>,
        digest: Digest,
        places: Places,
    ) -> Result<Found, Failed> {
        let facts = self.shared.registry.facts(access, digest).await;
        let facts = facts.map_err(|error| unresolved(places, &error))?;
        Ok(Found { digest, facts })
    }

    /// The digest of a release in the channel's history.
    pub(super) async fn release(
        &self,
        id: &ChannelId,
        number: u64,
    ) -> Result<Option<Digest>, Status> {
        let found = self.shared.store.release(id.clone(), number).await;
        let found = found.map_err(unreadable)?;
        Ok(found.map(|release| release.digest))
    }
}

pub(super) fn target(release: &muster_core::channel::Release) -> Target {
    Target {
        repository: release.repository.clone(),
        digest: release.digest,
    }
}

fn unresolved(places: Places, error: &ResolveError) -> Failed {
    let chain = muster_core::error_chain::error_chain(error);
    if error.is_transient() {
        Failed::Trouble(Status::unavailable(chain))
    } else {
        let Places { image, credentials } = places;
        let of_credentials = error.is_of_credentials();
        Failed::Wrong(if of_credentials { credentials } else { image }, chain)
    }
}
