//! Follows tags. Hints from registries make it look at once; a poll makes up for those that get lost.
//!
//! One task owns the plan of what to look at. It has at most one look at a repository open with the same credentials, so a
//! burst of hints becomes at most two looks: the one that runs, and one after it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use muster_core::channel::{Cause, ChannelId, Following};
use muster_core::ids::CredentialsName;
use muster_core::image::{Digest, Repository, Tag};
use muster_core::rollout::Facts;
use muster_core::time::Timestamp;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::registry::{Access, Registry, ResolveError};

mod look;
mod pace;

use look::{chain, look_at};
use pace::Pace;

/// Hints that wait for the follower; it takes them all at once, so this is reached only in floods.
const QUEUE: usize = 256;
/// Repositories that are looked at together.
const PARALLEL: usize = 8;
/// For the answer to "which channels are there?".
const CHANNELS_DEADLINE: Duration = Duration::from_secs(5);

/// How muster follows tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How often each followed tag is resolved even when no hint came, give or take a tenth, unless its channel
    /// says otherwise; a lost hint costs at most this delay. `MUSTER_COORDINATOR_REGISTRY_POLL`, default `5m`.
    pub interval: Duration,
    /// Between the tries of a look that a hint asked for; the last failure is left to the poll.
    pub retries: [Duration; 2],
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(300),
            retries: [Duration::from_secs(1), Duration::from_secs(5)],
        }
    }
}

/// A channel, as far as following it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowedChannel {
    pub id: ChannelId,
    pub repository: Repository,
    pub tag: Tag,
    /// Where the channel is; absent before its first release.
    pub current: Option<Digest>,
    pub following: Following,
}

/// Where a look goes. Channels that show the registry different credentials share none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Origin {
    repository: Repository,
    credentials: Option<CredentialsName>,
}

impl Origin {
    fn of(channel: &FollowedChannel) -> Self {
        Self {
            repository: channel.repository.clone(),
            credentials: channel.following.credentials.clone(),
        }
    }

    const fn access(&self) -> Access<'_> {
        Access {
            repository: &self.repository,
            credentials: self.credentials.as_ref(),
        }
    }
}

/// The coordinator's driver, as the follower sees it.
pub trait ChannelSink: Send + Sync + 'static {
    /// All channels of all teams.
    fn channels(&self) -> BoxFuture<'_, Vec<FollowedChannel>>;

    /// What the channel's tag means now. The channel is given as it was when its tag was looked up: a
    /// channel that follows something else by now must not take the digest.
    fn resolved(&self, channel: FollowedChannel, found: Found, cause: Cause) -> BoxFuture<'_, ()>;
}

/// What a tag means, and what the image says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub digest: Digest,
    /// Only read if the channel is not at the digest already.
    pub facts: Facts,
}

/// Somebody said that a repository changed. Nothing in it is believed: the tag is resolved anew.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hint {
    pub repository: Repository,
    /// Absent: any of its tags.
    pub tag: Option<Tag>,
    /// The sender may know its registry by another name than the channel does: only the path counts.
    pub any_host: bool,
}

impl Hint {
    fn concerns(&self, channel: &FollowedChannel) -> bool {
        let Self {
            repository,
            tag,
            any_host,
        } = self;
        let host = *any_host || repository.registry() == channel.repository.registry();
        let path = repository.path() == channel.repository.path();
        host && path && tag.as_ref().is_none_or(|tag| *tag == channel.tag)
    }
}

/// How looking at a channel's tag went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// The last time the registry answered with a digest.
    pub resolved: Option<Timestamp>,
    /// The digest it answered with then.
    pub meant: Option<Digest>,
    /// Why the last try failed, for people; absent if it did not.
    pub problem: Option<String>,
}

/// The follower's queue is full; the poll will find what this hint was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many hints wait")]
pub struct QueueFull;

/// A handle on the follower; copies are cheap.
#[derive(Clone)]
pub struct Follower {
    hints: mpsc::Sender<Hint>,
    eye: Eye,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}

impl Follower {
    /// Asks for a look soon. Never waits.
    ///
    /// # Errors
    /// If too many hints wait already.
    pub fn hint(&self, hint: Hint) -> Result<(), QueueFull> {
        self.hints.try_send(hint).map_err(|_| QueueFull)
    }

    /// Looks now, for a caller that waits, and remembers how it went. The sink is not told: the
    /// caller has the digest.
    ///
    /// # Errors
    /// If the tag could not be resolved.
    pub async fn look(&self, channel: &FollowedChannel) -> Result<Found, ResolveError> {
        let origin = Origin::of(channel);
        let digest = self.eye.resolve(origin.access(), &channel.tag).await;
        let result = match digest {
            Ok(digest) => self.eye.facts(channel, digest).await,
            Err(error) => Err(error),
        };
        self.eye.remember(&channel.id, &result);
        result
    }

    /// How looking at the channel's tag went the last time; nothing is remembered over a restart.
    #[must_use]
    pub fn last_look(&self, channel: &ChannelId) -> Look {
        self.eye.lock().get(channel).cloned().unwrap_or_default()
    }
}

/// Starts the follower. It looks at every channel at once, and ends when `stop` is cancelled.
pub fn start(
    config: Config,
    registry: Arc<dyn Registry>,
    sink: Arc<dyn ChannelSink>,
    metrics: Metrics,
    stop: CancellationToken,
) -> (Follower, JoinHandle<()>) {
    let (hints, queue) = mpsc::channel(QUEUE);
    let eye = Eye {
        registry,
        metrics,
        retries: config.retries,
        looks: Arc::default(),
    };
    let follower = Follower {
        hints,
        eye: eye.clone(),
    };
    let plan = Plan {
        eye,
        sink,
        stop,
        wanted: BTreeMap::new(),
        open: BTreeSet::new(),
        looking: JoinSet::new(),
        pace: Pace::new(config.interval),
    };
    let task = tokio::spawn(plan.run(queue));
    (follower, task)
}

/// Resolves and remembers.
#[derive(Clone)]
struct Eye {
    registry: Arc<dyn Registry>,
    metrics: Metrics,
    retries: [Duration; 2],
    looks: Arc<Mutex<BTreeMap<ChannelId, Look>>>,
}

impl Eye {
    async fn resolve(&self, access: Access<'_>, tag: &Tag) -> Result<Digest, ResolveError> {
        let result = self.registry.resolve(access, tag).await;
        let word = result.as_ref().map_or_else(ResolveError::word, |_| "ok");
        self.metrics.resolved(word);
        result
    }

    async fn facts(
        &self,
        channel: &FollowedChannel,
        digest: Digest,
    ) -> Result<Found, ResolveError> {
        let facts = if channel.current == Some(digest) {
            Facts::default()
        } else {
            let origin = Origin::of(channel);
            self.registry.facts(origin.access(), digest).await?
        };
        Ok(Found { digest, facts })
    }

    /// Tells whether it is another digest than the last time.
    fn remember(&self, channel: &ChannelId, result: &Result<Found, ResolveError>) -> bool {
        let mut looks = self.lock();
        let look = looks.entry(channel.clone()).or_default();
        match result {
            Ok(Found { digest, .. }) => {
                let before = std::mem::replace(
                    look,
                    Look {
                        resolved: Some(now()),
                        meant: Some(*digest),
                        problem: None,
                    },
                );
                before.meant != Some(*digest)
            }
            Err(error) => {
                look.problem = Some(chain(error));
                false
            }
        }
    }

    fn remember_problem(&self, channel: &ChannelId, problem: Option<String>) {
        self.lock().entry(channel.clone()).or_default().problem = problem;
    }

    fn forget_all_but(&self, channels: &[FollowedChannel]) {
        let live: BTreeSet<_> = channels.iter().map(|channel| &channel.id).collect();
        self.lock().retain(|id, _| live.contains(id));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ChannelId, Look>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to look at, and why.
struct Plan {
    eye: Eye,
    sink: Arc<dyn ChannelSink>,
    stop: CancellationToken,
    wanted: BTreeMap<Origin, BTreeMap<Tag, Cause>>,
    open: BTreeSet<Origin>,
    looking: JoinSet<Origin>,
    pace: Pace,
}

impl Plan {
    async fn run(mut self, mut queue: mpsc::Receiver<Hint>) {
        let mut next_poll = Instant::now();
        let mut hints = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(done) = self.looking.join_next() => self.on_looked(done),
                count = queue.recv_many(&mut hints, QUEUE) => {
                    if count == 0 {
                        break; // every handle is gone
                    }
                    self.on_hints(&std::mem::take(&mut hints)).await;
                }
                () = tokio::time::sleep_until(next_poll) => {
                    next_poll = self.on_poll().await;
                }
            }
            self.start_looks();
        }
        while self.looking.join_next().await.is_some() {}
    }

    fn on_looked(&mut self, done: Result<Origin, tokio::task::JoinError>) {
        match done {
            Ok(origin) => {
                self.open.remove(&origin);
            }
            // A look panicked, and with it went the name of its origin: none of them may stay shut.
            Err(error) => {
                tracing::error!(error = %error, "look at registry failed");
                if self.looking.is_empty() {
                    self.open.clear();
                }
            }
        }
    }

    async fn on_hints(&mut self, hints: &[Hint]) {
        for channel in self.channels().await {
            if hints.iter().any(|hint| hint.concerns(&channel)) {
                self.want(channel, Cause::Webhook);
            }
        }
    }

    /// Tells when to look at the channels again.
    async fn on_poll(&mut self) -> Instant {
        let channels = self.channels().await;
        self.eye.forget_all_but(&channels);
        let now = Instant::now();
        let (due, next) = self.pace.due(now, channels);
        for channel in due {
            self.want(channel, Cause::Poll);
        }
        next
    }

    async fn channels(&self) -> Vec<FollowedChannel> {
        let answer = tokio::time::timeout(CHANNELS_DEADLINE, self.sink.channels());
        match self.stop.run_until_cancelled(answer).await {
            Some(Ok(channels)) => channels,
            Some(Err(_)) => {
                tracing::warn!("channels could not be listed in time");
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// A hint is the better reason: a release should say that it came by webhook.
    fn want(&mut self, channel: FollowedChannel, cause: Cause) {
        let tags = self.wanted.entry(Origin::of(&channel)).or_default();
        let known = tags.entry(channel.tag).or_insert(cause);
        if cause == Cause::Webhook {
            *known = cause;
        }
    }

    fn start_looks(&mut self) {
        let free = PARALLEL.saturating_sub(self.open.len());
        let ready: Vec<_> = self
            .wanted
            .keys()
            .filter(|origin| !self.open.contains(*origin))
            .take(free)
            .cloned()
            .collect();
        for origin in ready {
            let tags = self.wanted.remove(&origin).unwrap_or_default();
            self.open.insert(origin.clone());
            let (eye, sink, stop) = (self.eye.clone(), Arc::clone(&self.sink), self.stop.clone());
            self.looking.spawn(async move {
                let look = look_at(&eye, sink.as_ref(), &origin, tags);
                // Looking changes nothing by itself, so it may be dropped anywhere.
                let _ = stop.run_until_cancelled(look).await;
                origin
            });
        }
    }
}

fn now() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
