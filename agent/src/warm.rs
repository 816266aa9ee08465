//! Warm containers: parked ones, started before there is a task for them, whose init process waits to be
//! told what to run. One serves one task and is destroyed with it.
//!
//! A parked container holds nothing of any task. It ends by itself when the agent is gone, because its init
//! process then loses the one who could tell it something. Each has a directory under its own name in
//! the data directory before the engine hears of it and until the engine has removed it; so whatever an
//! earlier life of the agent left is found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use muster_core::image::Image;
use muster_proto::v1 as pb;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::attempt::Shared;
use crate::config::WarmBudget;
use crate::host;
use crate::metrics::AgentMetrics;
use crate::offer::Task;
use crate::plan::parked::{self, AtStart, Sorted, Taken};
use crate::runtime::{Limits, Runtime};

mod go;
mod park;
mod targets;
mod wish;

use park::NotParked;
pub(crate) use park::Parked;
use targets::{Asked, Channel, Step};
pub(crate) use wish::Wish;

/// In the data directory.
const DIR: &str = "warm";
/// Between looks at what is parked, if nothing happens.
const PERIOD: Duration = Duration::from_secs(2);
/// After a container that could not be parked.
const PAUSE: Duration = Duration::from_secs(30);
/// When the agent stops, one that is being parked has so long to get there, and then all have so long to be destroyed.
const LAST: Duration = Duration::from_secs(5);

/// What a channel asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Want {
    pub image: Image,
    /// How many are parked always, and at most.
    pub min: u32,
    pub max: u32,
}

/// All that is parked on this host, and what for.
pub(crate) struct Warm {
    dir: PathBuf,
    budget: WarmBudget,
    metrics: Arc<AgentMetrics>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// By `team/name`.
    channels: BTreeMap<String, Channel>,
    parked: Vec<Parked>,
    /// Containers that the engine has not removed yet.
    doomed: Vec<String>,
    /// Of the coordinator that spoke of a channel last.
    term: u64,
    /// What could not be parked, and when to try again.
    paused: Vec<(Asked, Instant)>,
}

impl Warm {
    pub(crate) fn new(data_dir: &Path, budget: WarmBudget, metrics: Arc<AgentMetrics>) -> Self {
        Self {
            dir: data_dir.join(DIR),
            budget,
            metrics,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// The directory of a parked container.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Takes the place of what was said of the channel before.
    pub(crate) fn want(&self, channel: String, warm: Option<&pb::Warm>, term: u64) {
        let want = warm.and_then(read);
        {
            let mut state = self.lock();
            state.term = term;
            match want {
                Some(want) => state.channels.entry(channel).or_default().want(want),
                None if state.channels.remove(&channel).is_none() => return,
                None => {}
            }
        }
        self.changed.notify_one();
    }

    /// A parked container for this task, if its channel has any. It is the caller's from now on.
    pub(crate) fn take(&self, task: &Task) -> Option<Parked> {
        let wish = Wish::of(task)?;
        let channel = format!("{}/{}", task.team, task.channel);
        let mut state = self.lock();
        let state = &mut *state;
        let known = state.channels.get_mut(&channel)?;
        if !known.is_at(&task.image) {
            return None;
        }
        known.ask(&wish, task.limits(), Instant::now());
        let asked = Asked {
            channel,
            image: task.image.clone(),
            wish,
        };
        let fits = |parked: &Parked| parked.asked == asked;
        let Taken { found, dead } = parked::take(&mut state.parked, fits, Parked::is_alive);
        state
            .doomed
            .extend(dead.into_iter().map(|parked| parked.name));
        let counter = match found {
            Some(_) => &self.metrics.warm_hits,
            None => &self.metrics.warm_misses,
        };
        counter.inc();
        self.changed.notify_one();
        found
    }

    /// Puts it where tasks find it. Who sees that its socket is gone can have it.
    fn add(&self, parked: Parked) -> Result<(), (Option<String>, NotParked)> {
        let mut state = self.lock();
        if let Err(error) = park::close(&self.dir(&parked.name)) {
            return Err((Some(parked.name), error.into()));
        }
        state.parked.push(parked);
        Ok(())
    }

    /// It was taken and can't be used: nothing was run in it.
    pub(crate) fn discard(&self, parked: Parked) {
        self.lock().doomed.push(parked.name);
        self.changed.notify_one();
    }

    /// Sorts out what is dead, and says what to do next.
    fn step(&self, now: Instant) -> Step {
        let mut state = self.lock();
        let state = &mut *state;
        let all = std::mem::take(&mut state.parked);
        let (alive, dead): (Vec<_>, Vec<_>) = all.into_iter().partition(Parked::is_alive);
        let targets = targets::targets(&state.channels, self.budget.count, now);
        let Sorted { stay, go, short } = parked::sort_out(alive, |parked| &parked.asked, targets);
        state.parked = stay;
        let gone = dead.into_iter().chain(go);
        state.doomed.extend(gone.map(|parked| parked.name));
        let count = i64::try_from(state.parked.len()).unwrap_or(i64::MAX);
        self.metrics.warm_parked.set(count);
        let remove = std::mem::take(&mut state.doomed);
        state.paused.retain(|(_, until)| now < *until);
        let paused = |asked: &Asked| state.paused.iter().any(|(paused, _)| paused == asked);
        let mut short = short.into_iter().filter(|(asked, _)| !paused(asked));
        let may_park = || host::memory_available() >= self.budget.memory_free;
        let park = short.next().filter(|_| may_park()).map(|(asked, _)| {
            let limits = state.channels[&asked.channel].limits(&asked.wish);
            (asked, limits)
        });
        Step { remove, park }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock panics")
    }
}

/// `None`: nothing is to be parked.
fn read(warm: &pb::Warm) -> Option<Want> {
    let pb::Warm { image, min, max } = warm;
    let image = image
        .parse()
        .inspect_err(|_| tracing::warn!("containers can't be parked of what is no image"))
        .ok()?;
    let max = (*max).max(*min);
    (max > 0).then_some(Want {
        image,
        min: *min,
        max,
    })
}

/// Parks and destroys until `shutdown`, and then destroys all that is parked.
pub(crate) async fn keep<R: Runtime>(shared: Arc<Shared<R>>, shutdown: CancellationToken) {
    let warm = &shared.warm;
    let working = async {
        while !shutdown.is_cancelled() {
            let Step { remove, park } = warm.step(Instant::now());
            destroy(&shared, remove).await;
            match park {
                Some((asked, limits)) => park_one(&shared, asked, limits).await,
                None => {
                    tokio::select! {
                        () = warm.changed.notified() => {}
                        () = tokio::time::sleep(PERIOD) => {}
                        () = shutdown.cancelled() => {}
                    }
                }
            }
        }
    };
    // The engine does what it was asked for, also if nobody waits for it any more: what comes then nobody removes.
    let last = async {
        shutdown.cancelled().await;
        tokio::time::sleep(LAST).await;
    };
    tokio::select! {
        () = working => {}
        () = last => {}
    }
    let left = {
        let mut state = warm.lock();
        state.channels.clear();
        let parked = std::mem::take(&mut state.parked);
        let names = parked.into_iter().map(|parked| parked.name);
        names.chain(std::mem::take(&mut state.doomed)).collect()
    };
    // What is not destroyed now ends by itself, and the next start removes it.
    let _ = tokio::time::timeout(LAST, destroy(&shared, left)).await;
}

async fn destroy<R: Runtime>(shared: &Shared<R>, names: Vec<String>) {
    for name in names {
        if let Err(error) = park::destroy(shared, &name).await {
            tracing::debug!(%error, container = name, "parked container not removed");
            shared.warm.lock().doomed.push(name);
        }
    }
}

async fn park_one<R: Runtime>(shared: &Shared<R>, asked: Asked, limits: Limits) {
    let parked = park::park(shared, &asked, limits).await;
    match parked.and_then(|parked| shared.warm.add(parked)) {
        Ok(()) => {}
        Err((name, error)) => {
            let cause: &dyn std::error::Error = &error;
            let pause = if let NotParked::Image(_) = &error {
                // It may be being fetched just now.
                tracing::debug!(error = cause, "image of a channel is not here yet");
                PERIOD
            } else {
                tracing::warn!(
                    error = cause,
                    channel = asked.channel,
                    "container can't be parked"
                );
                PAUSE
            };
            let mut state = shared.warm.lock();
            state.paused.push((asked, Instant::now() + pause));
            state.doomed.extend(name);
        }
    }
}

/// Destroys what an earlier life of the agent left. `used` are the containers that tasks run in. One whose
/// directories went to an attempt may run a task all the same, if that attempt's journal was lost or can't be
/// read: it is left to those who look for such containers.
pub(crate) async fn clear<R: Runtime>(
    shared: &Shared<R>,
    used: &std::collections::BTreeSet<String>,
) {
    let entries = std::fs::read_dir(&shared.warm.dir)
        .into_iter()
        .flatten()
        .flatten();
    let mut unused = Vec::new();
    for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
        let home = shared.warm.dir(&name);
        match parked::at_start(used.contains(&name), park::is_given(&home)) {
            AtStart::Leave => {}
            AtStart::Destroy => unused.push(name),
            AtStart::RemoveIfOver => {
                // It may be there still and run, and then it stays.
                let _ = shared.runtime.remove(&name).await;
                let _ = std::fs::remove_dir_all(home);
            }
        }
    }
    destroy(shared, unused).await;
}

#[cfg(test)]
mod tests;
