//! What happens off the path of tasks: making namespaces, looking after used ones, removing.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use muster_failpoint as failpoint;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{JOINED, Lot, Lots, Namespaces, Parked, Resting, State, image, lock};
use crate::attempt::{agent_labels, short};
use crate::runtime::{
    CreateError, EngineError, KillError, NamespaceView, NewParked, Runtime, Signal,
};
use crate::starts::Starts;

/// On a parked container: its agent.
const LABEL: &str = "muster.parked";
const PERIOD: Duration = Duration::from_secs(30);
/// All but the last of a network go when nobody wanted them for so long.
const KEEP: Duration = Duration::from_secs(5 * 60);
/// So does the last. Shorter than unused networks are kept.
const KEEP_LAST: Duration = Duration::from_secs(30 * 60);
/// A used one that is not clean after so long does not become so.
const REST: Duration = Duration::from_secs(5);
const REST_LOOK: Duration = Duration::from_millis(500);
/// After the engine refused to make one, no other is tried for so long.
const PAUSE: Duration = Duration::from_secs(60);
/// For one that was killed to be gone.
const GONE: Duration = Duration::from_secs(10);
/// Most likely it stays so.
const BLIND_PAUSE: Duration = Duration::from_secs(10 * 60);
/// For the program of one that was started to be seen.
const SIGHT: Duration = Duration::from_secs(5);
const SIGHT_LOOK: Duration = Duration::from_millis(10);
/// The agent's end waits no longer for unused ones to be removed.
const CLOSE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
enum ParkError {
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("this host can't see into the engine's network namespaces")]
    OutOfSight,
}

impl<R: Runtime> Namespaces<R> {
    /// Works until `shutdown`; then removes what nobody uses. Namespaces with a container stay.
    pub(crate) async fn run(
        &self,
        cluster: &OnceLock<String>,
        starts: &Starts,
        shutdown: CancellationToken,
    ) {
        let mut turns = tokio::time::interval(failpoint::hurried(PERIOD));
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let tending = async {
            loop {
                let rests = !lock(&self.lots).resting.is_empty();
                tokio::select! {
                    () = self.work.notified() => {}
                    () = tokio::time::sleep(REST_LOOK), if rests => {}
                    _ = turns.tick() => {
                        lock(&self.lots).let_go_of_unwanted(Instant::now());
                        self.clear_away(cluster.get()).await;
                    }
                }
                self.wake_rested(Instant::now()).await;
                self.empty_bin().await;
                self.refill(starts, Instant::now()).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tending => {}
        }
        let closing = tokio::time::timeout(CLOSE, self.close(cluster.get()));
        if closing.await.is_err() {
            tracing::debug!("unused parked namespaces not removed yet");
        }
    }

    /// Makes what is missing. What is being started for a task comes first.
    pub(super) async fn refill(&self, starts: &Starts, now: Instant) {
        while let Some((cluster, network)) = self.next_missing(now) {
            let permit = starts.acquire().await;
            let parked = self.park(&cluster, &network).await;
            drop(permit);
            let mut lots = lock(&self.lots);
            match (parked, lots.networks.get_mut(&network)) {
                (Ok(parked), Some(lot)) => {
                    lot.out -= 1;
                    lot.idle.push(parked);
                }
                (Ok(parked), None) => lots.bin.push(parked.container),
                (Err(error), lot) => {
                    if let Some(lot) = lot {
                        lot.out -= 1;
                    }
                    lots.pause(&error, now);
                }
            }
        }
    }

    /// The network for which one is to be made, with its cluster; it counts as out from now on. At the host's
    /// bound the idle ones of other networks make room.
    fn next_missing(&self, now: Instant) -> Option<(String, String)> {
        let mut lots = lock(&self.lots);
        if lots.closed || lots.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        let bound = self.bounds.network;
        let within = |lot: &Lot| lot.missing > 0 && lot.count() < bound;
        let found = lots.networks.iter().find(|(_, lot)| within(lot));
        let network = found.map(|(network, _)| network.clone());
        let Some(network) = network else {
            lots.want_no_more();
            return None;
        };
        if lots.count() >= self.bounds.host && !lots.make_room_for(&network) {
            lots.want_no_more();
            return None;
        }
        let lot = lots.networks.get_mut(&network)?;
        lot.missing -= 1;
        lot.out += 1;
        Some((lot.cluster.clone(), network))
    }

    async fn park(&self, cluster: &str, network: &str) -> Result<Parked, ParkError> {
        let image = image::ensure(&self.runtime).await?;
        let id = uuid::Uuid::now_v7().simple();
        let new = NewParked {
            name: format!("mu-{}-parked-{id}", short(cluster)),
            image,
            network: network.to_owned(),
            labels: self.labels(cluster),
        };
        lock(&self.lots).ours.insert(new.name.clone());
        let made = self.make(&new).await;
        if made.is_err() {
            self.remove(&new.name).await;
        }
        self.count();
        made
    }

    async fn make(&self, new: &NewParked) -> Result<Parked, ParkError> {
        self.runtime.create_parked(new).await?;
        self.runtime.start(&new.name).await?;
        let view = self.view(&new.name).await?;
        let looked = tokio::task::spawn_blocking({
            let view = Arc::clone(&view);
            move || view.look()
        });
        let first = looked.await.ok().and_then(Result::ok);
        Ok(Parked {
            container: new.name.clone(),
            view,
            first: first.ok_or(ParkError::OutOfSight)?,
            made: Instant::now(),
            uses: 0,
        })
    }

    /// The engine says that a container is started a moment before its program is.
    async fn view(&self, name: &str) -> Result<Arc<dyn NamespaceView>, ParkError> {
        let until = Instant::now() + SIGHT;
        loop {
            match self.runtime.view_namespace(name).await? {
                Some(view) => return Ok(view),
                None if Instant::now() >= until => return Err(ParkError::OutOfSight),
                None => tokio::time::sleep(SIGHT_LOOK).await,
            }
        }
    }

    fn labels(&self, cluster: &str) -> BTreeMap<String, String> {
        let labels = [
            ("muster.cluster", cluster.to_owned()),
            (LABEL, self.agent.to_string()),
        ];
        labels.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Looks again at what was not clean when it came back.
    pub(super) async fn wake_rested(&self, now: Instant) {
        let resting = std::mem::take(&mut lock(&self.lots).resting);
        for rested in resting {
            let state = rested.parked.state().await;
            let Resting {
                parked,
                network,
                since,
            } = rested;
            let mut lots = lock(&self.lots);
            match state {
                State::Unclean if now.duration_since(since) < REST => lots.resting.push(Resting {
                    parked,
                    network,
                    since,
                }),
                State::Clean => {
                    lots.take_back(&parked.container, &network);
                    if let Some(lot) = lots.networks.get_mut(&network) {
                        lot.idle.push(parked);
                    }
                }
                State::Unclean | State::Gone => {
                    self.metrics.namespaces_unclean.inc();
                    lots.take_back(&parked.container, &network);
                    lots.bin.push(parked.container);
                }
            }
        }
    }

    pub(super) async fn empty_bin(&self) {
        let bin = std::mem::take(&mut lock(&self.lots).bin);
        for container in bin {
            self.remove(&container).await;
        }
    }

    /// Ends a container that holds a namespace. One that can't be ended now is found again by its labels.
    async fn remove(&self, container: &str) {
        let removed = async {
            match self.runtime.kill(container, Signal::Kill).await {
                Ok(()) => {
                    let gone = tokio::time::timeout(GONE, self.runtime.wait(container));
                    if let Ok(gone) = gone.await {
                        gone?;
                    }
                }
                Err(KillError::NotRunning) => {}
                Err(KillError::Engine(error)) => return Err(error),
            }
            self.runtime.remove(container).await
        };
        if let Err(error) = removed.await {
            tracing::debug!(%error, container, "parked namespace not removed yet");
        }
        lock(&self.lots).ours.remove(container);
        self.count();
    }

    fn count(&self) {
        let count = lock(&self.lots).ours.len();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.namespaces_parked.set(count);
    }

    /// Removes what an earlier process left.
    async fn clear_away(&self, cluster: Option<&String>) {
        if let Some(cluster) = cluster
            && let Err(error) = self.sweep(cluster).await
        {
            tracing::debug!(%error, "parked namespaces can't be looked for");
        }
    }

    /// Removes parked containers that this process doesn't know and that no container has joined.
    pub(super) async fn sweep(&self, cluster: &str) -> Result<(), EngineError> {
        let parked = self.runtime.list(&self.labels(cluster)).await?;
        let names = parked.into_iter().map(|container| container.name);
        let unknown: Vec<String> = {
            let lots = lock(&self.lots);
            names.filter(|name| !lots.ours.contains(name)).collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let attempts = self.runtime.list(&agent_labels(&self.agent)).await?;
        for name in unknown {
            let joined = attempts
                .iter()
                .any(|container| container.labels.get(JOINED) == Some(&name));
            if !joined {
                self.remove(&name).await;
            }
        }
        Ok(())
    }

    /// Removes what no container is in, and lends no more.
    async fn close(&self, cluster: Option<&String>) {
        let unused: Vec<String> = {
            let mut lots = lock(&self.lots);
            lots.closed = true;
            lots.ours.difference(&lots.lent).cloned().collect()
        };
        let removals = unused.iter().map(|container| self.remove(container));
        join_all(removals).await;
        self.clear_away(cluster).await;
    }
}

impl Lots {
    fn pause(&mut self, error: &ParkError, now: Instant) {
        tracing::warn!(%error, "no network namespace made ahead; containers get their own");
        let pause = match error {
            ParkError::Create(_) | ParkError::Engine(_) => PAUSE,
            ParkError::OutOfSight => BLIND_PAUSE,
        };
        self.paused_until = Some(now + pause);
    }

    fn want_no_more(&mut self) {
        for lot in self.networks.values_mut() {
            lot.missing = 0;
        }
    }

    /// Lets go of an idle one of the network that was not wanted for the longest time.
    fn make_room_for(&mut self, network: &str) -> bool {
        let others = self.networks.iter_mut();
        let others = others.filter(|(name, lot)| *name != network && !lot.idle.is_empty());
        let oldest = others.min_by_key(|(_, lot)| lot.wanted);
        let parked = oldest.and_then(|(_, lot)| lot.idle.pop());
        let made = parked.is_some();
        self.bin.extend(parked.map(|parked| parked.container));
        made
    }

    /// Lets go of what nobody wanted for a while.
    pub(super) fn let_go_of_unwanted(&mut self, now: Instant) {
        for lot in self.networks.values_mut() {
            let since = now.duration_since(lot.wanted);
            let keep = match since {
                _ if since < KEEP => lot.idle.len(),
                _ if since < KEEP_LAST => 1,
                _ => 0,
            };
            let surplus = lot.idle.len().saturating_sub(keep);
            let surplus = lot.idle.drain(..surplus);
            self.bin.extend(surplus.map(|parked| parked.container));
        }
        self.networks
            .retain(|_, lot| lot.count() > 0 || now.duration_since(lot.wanted) < KEEP_LAST);
    }
}
