//! The push gateway that forgets: what attempts measured, merged by team and job name, pushed to a
//! Prometheus push gateway, and deleted there when the job name has been idle for a while.
//!
//! Nothing here is waited for by anybody. If the gateway is slow or gone, the last state of each
//! group is pushed when it is back; if there is too much to do, figures are dropped and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_core::error_chain::error_chain;
use muster_core::ids::{JobName, TeamName};
use muster_core::outcome::{Outcome, Usage};
use muster_core::promtext::{self, Bounds};
use muster_core::time::Timestamp;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Metrics, PushResult};

mod gateway;
mod group;

use gateway::{Gateway, GroupKey, PushError};
use group::{Ended, Group, Kinds};

/// Ended attempts that wait to be merged.
const QUEUE: usize = 4_096;
const GROUPS_MAX: usize = 10_000;
/// Requests to the gateway at once, over all groups.
const PARALLEL: usize = 4;
/// Between two pushes of one group.
const PUSH_INTERVAL: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Between tries to list what an earlier coordinator left on the gateway.
const ADOPT_INTERVAL: Duration = Duration::from_secs(30);
/// For the last pushes when the coordinator ends.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

/// Where figures of attempts are pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The gateway's address, e.g. `http://127.0.0.1:9091`. `MUSTER_COORDINATOR_PUSHGATEWAY_URL`.
    pub url: String,
    /// A group is deleted when no attempt of its job name has ended for this long.
    /// `MUSTER_COORDINATOR_PUSHGATEWAY_IDLE`, default `1h`.
    pub idle: Duration,
}

/// Why pushing could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum BadGateway {
    #[error("{url:?} is not an http or https address")]
    Url { url: String },
    #[error("no HTTP client could be made")]
    Client { source: reqwest::Error },
}

/// One attempt, as the gateway is to know it.
#[derive(Debug, Clone)]
pub struct FinishedAttempt {
    pub team: TeamName,
    pub job_name: JobName,
    pub outcome: Outcome,
    pub ended: Timestamp,
    pub usage: Usage,
    /// What the task wrote to its metrics file.
    pub metrics: Option<Arc<[u8]>>,
}

/// A handle for telling about attempts; copies are cheap.
#[derive(Debug, Clone)]
pub struct PushGateway {
    queue: mpsc::Sender<FinishedAttempt>,
    metrics: Metrics,
}

impl PushGateway {
    /// Takes an attempt into account. Never waits: when the queue is full its figures are dropped.
    pub fn finished(&self, attempt: FinishedAttempt) {
        if self.queue.try_send(attempt).is_err() {
            self.metrics.pushed(PushResult::Dropped);
        }
    }
}

/// Starts the pusher. When `stop` is cancelled it pushes what is unpushed, for up to 2 s, and ends.
///
/// # Errors
/// If the address is no HTTP address.
pub fn start(
    config: &Config,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(PushGateway, JoinHandle<()>), BadGateway> {
    let url: reqwest::Url = config
        .url
        .parse()
        .ok()
        .filter(|url: &reqwest::Url| ["http", "https"].contains(&url.scheme()))
        .ok_or_else(|| BadGateway::Url {
            url: config.url.clone(),
        })?;
    let gateway = Gateway::new(url).map_err(|source| BadGateway::Client { source })?;
    let (sender, queue) = mpsc::channel(QUEUE);
    let pusher = Pusher {
        gateway,
        metrics: metrics.clone(),
        idle: config.idle,
        slots: BTreeMap::new(),
        due: BTreeSet::new(),
        kinds: Kinds::default(),
        requests: JoinSet::new(),
    };
    let task = tokio::spawn(pusher.run(queue, stop));
    let handle = PushGateway {
        queue: sender,
        metrics,
    };
    Ok((handle, task))
}

/// Where one group stands.
#[derive(Debug)]
struct Slot {
    /// Absent: an earlier coordinator made it, and it waits to be forgotten.
    group: Option<Group>,
    /// The gateway does not have the last state.
    dirty: bool,
    in_flight: bool,
    /// The gateway refused the tasks' own families in this group.
    bare: bool,
    failures: u32,
    /// No request before this moment.
    not_before: Instant,
    last_used: Instant,
    /// As it is in `Pusher::due`.
    wake: Option<Instant>,
}

impl Slot {
    const fn new(group: Option<Group>, now: Instant) -> Self {
        Self {
            group,
            dirty: false,
            in_flight: false,
            bare: false,
            failures: 0,
            not_before: now,
            last_used: now,
            wake: None,
        }
    }

    fn next_wake(&self, idle: Duration) -> Option<Instant> {
        if self.in_flight {
            None
        } else if self.dirty {
            Some(self.not_before)
        } else {
            Some(self.not_before.max(self.last_used + idle))
        }
    }
}

/// A request that came back.
enum Done {
    Put(GroupKey, Result<(), PushError>),
    Deleted(GroupKey, Result<(), PushError>),
}

struct Pusher {
    gateway: Gateway,
    metrics: Metrics,
    idle: Duration,
    slots: BTreeMap<GroupKey, Slot>,
    due: BTreeSet<(Instant, GroupKey)>,
    kinds: Kinds,
    requests: JoinSet<Done>,
}

impl Pusher {
    async fn run(mut self, mut queue: mpsc::Receiver<FinishedAttempt>, stop: CancellationToken) {
        let mut attempts = Vec::new();
        let mut adopting = JoinSet::new();
        adopting.spawn(left_behind(self.gateway.clone()));
        loop {
            let wake = self.due.first().map(|(at, _)| *at);
            let idle_forever = Instant::now() + self.idle.max(PUSH_INTERVAL);
            let may_send = self.requests.len() < PARALLEL;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(Ok(done)) = self.requests.join_next() => self.on_done(done),
                Some(Ok(keys)) = adopting.join_next() => self.adopt(keys),
                count = queue.recv_many(&mut attempts, QUEUE) => {
                    if count == 0 {
                        break; // every handle is gone
                    }
                    attempts.drain(..).for_each(|attempt| self.on_finished(attempt));
                }
                () = tokio::time::sleep_until(wake.unwrap_or(idle_forever)), if may_send => {
                    self.send_due();
                }
            }
        }
        queue.close();
        while let Ok(attempt) = queue.try_recv() {
            self.on_finished(attempt);
        }
        if tokio::time::timeout(FLUSH_DEADLINE, self.flush())
            .await
            .is_err()
        {
            tracing::warn!("push gateway did not take the last figures in time");
        }
    }

    fn on_finished(&mut self, attempt: FinishedAttempt) {
        let FinishedAttempt {
            team,
            job_name,
            outcome,
            ended,
            usage,
            metrics,
        } = attempt;
        let key = GroupKey { team, job_name };
        let now = Instant::now();
        if self.slots.len() >= GROUPS_MAX && !self.slots.contains_key(&key) {
            self.metrics.pushed(PushResult::Dropped);
            return;
        }
        let ended = Ended {
            outcome,
            at: ended,
            usage,
            families: metrics
                .map(|text| families(&key, &text))
                .unwrap_or_default(),
        };
        let slot = self.slots.entry(key.clone());
        let slot = slot.or_insert_with(|| Slot::new(None, now));
        let group = slot.group.get_or_insert_with(Group::default);
        let dropped = group.merge(ended, &mut self.kinds);
        slot.dirty = true;
        slot.last_used = now;
        if dropped > 0 {
            self.metrics.task_series_dropped(dropped);
            tracing::warn!(
                team = %key.team,
                job.name = %key.job_name,
                series = dropped,
                "task metrics over a limit or contradicting others"
            );
        }
        self.metrics.set_push_groups(self.slots.len());
        self.reschedule(&key);
    }

    fn adopt(&mut self, keys: Vec<GroupKey>) {
        let now = Instant::now();
        for key in keys.into_iter().take(GROUPS_MAX) {
            let slot = self.slots.entry(key.clone());
            slot.or_insert_with(|| Slot::new(None, now));
            self.reschedule(&key);
        }
        self.metrics.set_push_groups(self.slots.len());
    }

    fn send_due(&mut self) {
        let now = Instant::now();
        while self.requests.len() < PARALLEL {
            let Some((at, _)) = self.due.first() else {
                return;
            };
            if *at > now {
                return;
            }
            let (_, key) = self.due.pop_first().expect("a first one was just seen");
            self.send(&key);
        }
    }

    fn send(&mut self, key: &GroupKey) {
        let Some(slot) = self.slots.get_mut(key) else {
            return;
        };
        slot.wake = None;
        slot.in_flight = true;
        let (gateway, key) = (self.gateway.clone(), key.clone());
        match &slot.group {
            Some(group) if slot.dirty => {
                let text = group.text(slot.bare);
                slot.dirty = false;
                self.requests.spawn(async move {
                    let result = gateway.put(&key, text).await;
                    Done::Put(key, result)
                });
            }
            Some(_) | None => {
                self.requests.spawn(async move {
                    let result = gateway.delete(&key).await;
                    Done::Deleted(key, result)
                });
            }
        }
    }

    fn on_done(&mut self, done: Done) {
        let now = Instant::now();
        let (key, result) = match done {
            Done::Deleted(key, Ok(())) => {
                let used = self.slots.get_mut(&key).is_some_and(|slot| slot.dirty);
                if !used {
                    self.forget(&key);
                    return;
                }
                // An attempt ended while the group was being deleted: it is pushed again, whole.
                (key, Ok(()))
            }
            Done::Put(key, result) => {
                self.metrics.pushed(match &result {
                    Ok(()) => PushResult::Ok,
                    Err(_) => PushResult::Failed,
                });
                if let (Err(_), Some(slot)) = (&result, self.slots.get_mut(&key)) {
                    slot.dirty = true;
                }
                (key, result)
            }
            Done::Deleted(key, result) => (key, result),
        };
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.in_flight = false;
            settle(&key, slot, result, now);
        }
        self.reschedule(&key);
    }

    fn forget(&mut self, key: &GroupKey) {
        self.slots.remove(key);
        let groups = self.slots.values().filter_map(|slot| slot.group.as_ref());
        self.kinds.keep(groups);
        self.metrics.set_push_groups(self.slots.len());
    }

    fn reschedule(&mut self, key: &GroupKey) {
        let Some(slot) = self.slots.get_mut(key) else {
            return;
        };
        let next = slot.next_wake(self.idle);
        if next == slot.wake {
            return;
        }
        if let Some(old) = std::mem::replace(&mut slot.wake, next) {
            self.due.remove(&(old, key.clone()));
        }
        if let Some(at) = next {
            self.due.insert((at, key.clone()));
        }
    }

    /// One last try for everything that the gateway does not have.
    async fn flush(&mut self) {
        let unpushed = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.dirty && !slot.in_flight);
        let mut keys: Vec<_> = unpushed.map(|(key, _)| key.clone()).collect();
        loop {
            while self.requests.len() < PARALLEL
                && let Some(key) = keys.pop()
            {
                self.send(&key);
            }
            match self.requests.join_next().await {
                None => return,
                // It was in flight with an older state when the end came.
                Some(Ok(Done::Put(key, Ok(()))))
                    if self.slots.get(&key).is_some_and(|slot| slot.dirty) =>
                {
                    keys.push(key);
                }
                Some(_) => {}
            }
        }
    }
}

/// When to try again, and with what.
fn settle(key: &GroupKey, slot: &mut Slot, result: Result<(), PushError>, now: Instant) {
    let Err(error) = result else {
        slot.failures = 0;
        slot.not_before = now + PUSH_INTERVAL;
        return;
    };
    let refused = matches!(error, PushError::Refused { .. });
    if slot.failures == 0 || refused {
        tracing::warn!(
            team = %key.team,
            job.name = %key.job_name,
            error = error_chain(&error),
            "push gateway did not take figures"
        );
    }
    if refused && !slot.bare {
        // Something of the tasks' own contradicts what the gateway has: go on without it.
        slot.bare = true;
    }
    let backoff = PUSH_INTERVAL.saturating_mul(2_u32.saturating_pow(slot.failures));
    slot.failures = slot.failures.saturating_add(1);
    slot.not_before = now + backoff.min(BACKOFF_MAX);
}

/// The groups of an earlier coordinator: whatever is not used again is to be forgotten too.
async fn left_behind(gateway: Gateway) -> Vec<GroupKey> {
    loop {
        match gateway.groups().await {
            Ok(keys) => return keys,
            Err(error) => tracing::debug!(
                error = error_chain(&error),
                "push gateway groups not listed"
            ),
        }
        tokio::time::sleep(ADOPT_INTERVAL).await;
    }
}

/// The task's own families; none if the text cannot be read, which the agent has checked before.
fn families(key: &GroupKey, text: &[u8]) -> Vec<promtext::Family> {
    let text = String::from_utf8_lossy(text);
    promtext::parse(&text, &Bounds::TASK).unwrap_or_else(|error| {
        tracing::warn!(
            team = %key.team,
            job.name = %key.job_name,
            error = %error,
            "task metrics not readable"
        );
        Vec::new()
    })
}

#[cfg(test)]
mod tests;
