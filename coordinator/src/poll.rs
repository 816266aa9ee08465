//! Follows tags. Hints from registries make it look at once; a poll makes up for those that get lost.
//!
//! One task owns the plan of what to look at. It has at most one look at a repository open, so a
//! burst of hints becomes at most two looks: the one that runs, and one after it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use muster_core::channel::{Cause, ChannelId};
use muster_core::image::{Digest, Repository, Tag};
use muster_core::time::Timestamp;
use muster_failpoint::{self as failpoint, Point};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error_chain::error_chain;
use crate::metrics::Metrics;
use crate::registry::{Registry, ResolveError};

/// Hints that wait for the follower; it takes them all at once, so this is reached only in floods.
const QUEUE: usize = 256;
/// Repositories that are looked at together.
const PARALLEL: usize = 8;
/// For the answer to "which channels are there?".
const CHANNELS_DEADLINE: Duration = Duration::from_secs(5);
/// Longest text about a failure that is kept, in bytes.
const PROBLEM_MAX: usize = 1024;

/// How muster follows tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How often each followed tag is resolved even when no hint came, give or take a tenth; a lost
    /// hint costs at most this delay. `MUSTER_COORDINATOR_REGISTRY_POLL`, default `5m`.
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
}

/// The coordinator's driver, as the follower sees it.
pub trait ChannelSink: Send + Sync + 'static {
    /// All channels of all teams.
    fn channels(&self) -> BoxFuture<'_, Vec<FollowedChannel>>;

    /// What the channel's tag means now. The channel is given as it was when its tag was looked up: a
    /// channel that follows something else by now must not take the digest.
    fn resolved(&self, channel: FollowedChannel, digest: Digest, cause: Cause)
    -> BoxFuture<'_, ()>;
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
    pub async fn look(&self, channel: &FollowedChannel) -> Result<Digest, ResolveError> {
        let result = self.eye.resolve(&channel.repository, &channel.tag).await;
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
    };
    let task = tokio::spawn(plan.run(config.interval, queue));
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
    async fn resolve(&self, repository: &Repository, tag: &Tag) -> Result<Digest, ResolveError> {
        let result = self.registry.resolve(repository, tag).await;
        let word = result.as_ref().map_or_else(ResolveError::word, |_| "ok");
        self.metrics.resolved(word);
        result
    }

    fn remember(&self, channel: &ChannelId, result: &Result<Digest, ResolveError>) {
        let mut looks = self.lock();
        let look = looks.entry(channel.clone()).or_default();
        match result {
            Ok(_) => {
                *look = Look {
                    resolved: Some(now()),
                    problem: None,
                }
            }
            Err(error) => look.problem = Some(chain(error)),
        }
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
    wanted: BTreeMap<Repository, BTreeMap<Tag, Cause>>,
    open: BTreeSet<Repository>,
    looking: JoinSet<Repository>,
}

impl Plan {
    async fn run(mut self, interval: Duration, mut queue: mpsc::Receiver<Hint>) {
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
                    self.on_poll().await;
                    next_poll = Instant::now() + jittered(interval);
                }
            }
            self.start_looks();
        }
        while self.looking.join_next().await.is_some() {}
    }

    fn on_looked(&mut self, done: Result<Repository, tokio::task::JoinError>) {
        match done {
            Ok(repository) => {
                self.open.remove(&repository);
            }
            // A look panicked, and with it went the name of its repository: none of them may stay shut.
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

    async fn on_poll(&mut self) {
        let channels = self.channels().await;
        self.eye.forget_all_but(&channels);
        for channel in channels {
            self.want(channel, Cause::Poll);
        }
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
        let tags = self.wanted.entry(channel.repository).or_default();
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
            .filter(|repository| !self.open.contains(*repository))
            .take(free)
            .cloned()
            .collect();
        for repository in ready {
            let tags = self.wanted.remove(&repository).unwrap_or_default();
            self.open.insert(repository.clone());
            let (eye, sink, stop) = (self.eye.clone(), Arc::clone(&self.sink), self.stop.clone());
            self.looking.spawn(async move {
                let look = look_at(&eye, sink.as_ref(), &repository, tags);
                // Looking changes nothing by itself, so it may be dropped anywhere.
                let _ = stop.run_until_cancelled(look).await;
                repository
            });
        }
    }
}

/// Looks at tags of one repository, one after the other, and tells the sink.
async fn look_at(
    eye: &Eye,
    sink: &dyn ChannelSink,
    repository: &Repository,
    tags: BTreeMap<Tag, Cause>,
) {
    for (tag, cause) in tags {
        let is_news = look_once(eye, sink, repository, &tag, cause).await;
        // A registry may tell of a push before it moves the tag: what is no news yet may be soon.
        if cause == Cause::Webhook && !is_news {
            tokio::time::sleep(eye.retries[0]).await;
            look_once(eye, sink, repository, &tag, cause).await;
        }
    }
}

/// Whether a channel was told something new, or nothing could be found out.
async fn look_once(
    eye: &Eye,
    sink: &dyn ChannelSink,
    repository: &Repository,
    tag: &Tag,
    cause: Cause,
) -> bool {
    let result = resolve_patiently(eye, repository, tag, cause).await;
    if let Err(error) = &result {
        tracing::warn!(
            image.repository = %repository,
            image.tag = %tag,
            error = chain(error),
            "tag could not be resolved"
        );
    }
    let mut is_news = result.is_err();
    // Listed after the answer came: a channel may have been made or moved in the meantime.
    for channel in sink.channels().await {
        if channel.repository != *repository || channel.tag != *tag {
            continue;
        }
        eye.remember(&channel.id, &result);
        if let Ok(digest) = result {
            failpoint::hit(Point::ReleaseResolved);
            is_news |= channel.current != Some(digest);
            sink.resolved(channel, digest, cause).await;
        }
    }
    is_news
}

async fn resolve_patiently(
    eye: &Eye,
    repository: &Repository,
    tag: &Tag,
    cause: Cause,
) -> Result<Digest, ResolveError> {
    let retries: &[Duration] = match cause {
        Cause::Webhook => &eye.retries,
        Cause::Set | Cause::Poll | Cause::Rollback => &[],
    };
    for wait in retries {
        match eye.resolve(repository, tag).await {
            Err(error) if error.is_transient() => tokio::time::sleep(*wait).await,
            result => return result,
        }
    }
    eye.resolve(repository, tag).await
}

/// The error and everything behind it, in one line of bounded length.
fn chain(error: &ResolveError) -> String {
    let mut text = error_chain(error);
    if text.len() > PROBLEM_MAX {
        let end = (0..=PROBLEM_MAX)
            .rev()
            .find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    text
}

/// Between 0.9 and 1.1 of `interval`, so that coordinators do not ask a registry in step.
fn jittered(interval: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness the poll is merely punctual.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    interval.mul_f64(0.9 + 0.2 * f64::from(byte[0]) / 255.0)
}

fn now() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
