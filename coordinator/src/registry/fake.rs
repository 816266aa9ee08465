//! A registry in memory, for tests. It can fail as real ones do, and it can be held up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use muster_core::ids::CredentialsName;
use muster_core::image::{Digest, Repository, Tag};
use muster_core::rollout::Facts;
use tokio::sync::watch;

use super::{Access, CredentialError, Registry, ResolveError};

#[derive(Debug)]
pub struct FakeRegistry {
    inner: Mutex<Inner>,
    held: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Inner {
    tags: BTreeMap<(Repository, Tag), Digest>,
    facts: BTreeMap<Digest, Facts>,
    faults: VecDeque<ResolveError>,
    asked: Vec<(Repository, Tag)>,
    shown: Vec<Option<CredentialsName>>,
    lacking: BTreeSet<CredentialsName>,
    read: usize,
    in_flight: usize,
    most_in_flight: usize,
}

impl Default for FakeRegistry {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            held: watch::Sender::new(false),
        }
    }
}

impl FakeRegistry {
    /// Makes `tag` mean `digest` from now on.
    pub fn push(&self, repository: &Repository, tag: &Tag, digest: Digest) {
        let key = (repository.clone(), tag.clone());
        self.lock().tags.insert(key, digest);
    }

    /// Gives an image labels.
    pub fn label(&self, digest: Digest, facts: Facts) {
        self.lock().facts.insert(digest, facts);
    }

    /// The next answer that is not yet spoken for is this error.
    pub fn fail_next(&self, error: ResolveError) {
        self.lock().faults.push_back(error);
    }

    /// There are no credentials of that name.
    pub fn lack(&self, name: &CredentialsName) {
        self.lock().lacking.insert(name.clone());
    }

    /// Keeps answers back until `release`.
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    pub fn release(&self) {
        self.held.send_replace(false);
    }

    /// Every question so far, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<(Repository, Tag)> {
        self.lock().asked.clone()
    }

    /// Which credentials were named with each question.
    #[must_use]
    pub fn shown(&self) -> Vec<Option<CredentialsName>> {
        self.lock().shown.clone()
    }

    /// How often an image was asked what it says of itself.
    #[must_use]
    pub fn read(&self) -> usize {
        self.lock().read
    }

    /// How many questions were open at once, at most.
    #[must_use]
    pub fn most_in_flight(&self) -> usize {
        self.lock().most_in_flight
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, access: Access<'_>, tag: &Tag) -> Result<Digest, ResolveError> {
        let Access {
            repository,
            credentials,
        } = access;
        let mut inner = self.lock();
        inner.in_flight -= 1;
        let lacking = credentials.filter(|name| inner.lacking.contains(*name));
        if let Some(name) = lacking.cloned() {
            return Err(ResolveError::Credentials {
                registry: repository.registry().to_owned(),
                source: CredentialError::NoDirectory { name },
            });
        }
        if let Some(fault) = inner.faults.pop_front() {
            return Err(fault);
        }
        let key = (repository.clone(), tag.clone());
        inner
            .tags
            .get(&key)
            .copied()
            .ok_or(ResolveError::NoSuchTag {
                repository: key.0,
                tag: key.1,
            })
    }
}

impl Registry for FakeRegistry {
    fn resolve<'a>(
        &'a self,
        access: Access<'a>,
        tag: &'a Tag,
    ) -> BoxFuture<'a, Result<Digest, ResolveError>> {
        let Access {
            repository,
            credentials,
        } = access;
        {
            let mut inner = self.lock();
            inner.asked.push((repository.clone(), tag.clone()));
            inner.shown.push(credentials.cloned());
            inner.in_flight += 1;
            inner.most_in_flight = inner.most_in_flight.max(inner.in_flight);
        }
        let mut held = self.held.subscribe();
        Box::pin(async move {
            // The sender lives as long as `self`, so this only ends when the hold does.
            let _ = held.wait_for(|held| !held).await;
            self.answer(access, tag)
        })
    }

    fn facts<'a>(
        &'a self,
        _: Access<'a>,
        digest: Digest,
    ) -> BoxFuture<'a, Result<Facts, ResolveError>> {
        let mut inner = self.lock();
        inner.read += 1;
        let facts = inner.facts.get(&digest).cloned();
        Box::pin(std::future::ready(Ok(facts.unwrap_or_default())))
    }
}
