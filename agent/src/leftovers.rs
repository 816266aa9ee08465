//! Containers of ours that no journal knows: what is left when a data directory was lost.
//!
//! The rule: only containers with this cluster's and this agent's labels and the name that goes with
//! them, and only after a coordinator whose term is not behind said which cluster this is. One that does not
//! run is removed when no journal was there for the whole grace, and a stream to the coordinator was open all the
//! while: when one opens, the coordinator may offer the attempt again, and only the container shows that it ran. One
//! that runs is stopped when the coordinator says so (`orphans`). A warm container without an attempt's name is of
//! none, as far as anybody can say: it is stopped after the grace. The engine is never asked to remove with force, so
//! one that started meanwhile stays.
//!
//! Networks go when the agent has had no attempt at all for an hour; the engine keeps used ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_core::ids::{AttemptId, TeamName};
use muster_failpoint::{self as failpoint, Point};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::attempt::{
    ATTEMPTS, Shared, WARM_LABEL, attempt_of_name, container_name, network_name, own_labels,
};
use crate::plan::Seen;
use crate::plan::parked::{self, Nobodys};
use crate::runtime::{EngineError, KillError, Listed, Runtime, Signal};
use crate::usage::AttemptGroup;

mod orphans;

pub(crate) use orphans::{Orphans, take_stock};

const PERIOD: Duration = Duration::from_secs(60);
/// A container is left alone for so long after it was first seen without a journal.
const GRACE: Duration = Duration::from_secs(5 * 60);

/// Between TERM and KILL: how long the job would have given it is not known any more.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Between two looks at what is being stopped.
const STOP_LOOK: Duration = Duration::from_secs(1);

/// Networks are left alone until there has been no attempt for so long.
const UNUSED: Duration = Duration::from_secs(3600);

pub(crate) struct Leftovers<R> {
    shared: Arc<Shared<R>>,
    /// When each was first seen, by the container's name.
    first_seen: BTreeMap<String, Instant>,
    /// When TERM was sent to those that are discarded.
    stopping: BTreeMap<String, Instant>,
    /// Since when there has been no attempt.
    idle_since: Option<Instant>,
}

impl<R: Runtime> Leftovers<R> {
    pub(crate) const fn new(shared: Arc<Shared<R>>) -> Self {
        Self {
            shared,
            first_seen: BTreeMap::new(),
            stopping: BTreeMap::new(),
            idle_since: None,
        }
    }

    /// Looks until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut turns = tokio::time::interval(failpoint::hurried(PERIOD));
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let looking = async {
            loop {
                tokio::select! {
                    _ = turns.tick() => {}
                    () = self.shared.orphans.ordered() => {}
                    () = tokio::time::sleep(STOP_LOOK), if !self.stopping.is_empty() => {}
                }
                if let Err(error) = self.look(Instant::now()).await {
                    tracing::warn!(%error, "containers without a journal can't be looked for");
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = looking => {}
        }
    }

    async fn look(&mut self, now: Instant) -> Result<(), EngineError> {
        let Some(cluster) = self.shared.cluster.get().cloned() else {
            return Ok(());
        };
        self.look_at_networks(&cluster, now).await?;
        let mut labels = own_labels(&self.shared.config);
        labels.insert("muster.cluster".to_owned(), cluster.clone());
        let listed = self.shared.runtime.list(&labels).await?;
        failpoint::hit(Point::GcListed);
        let mut parked = Vec::new();
        let orphans = listed.into_iter().filter_map(|container| {
            if container.labels.get(WARM_LABEL) == Some(&container.name) {
                parked.push(container);
                return None;
            }
            let id = attempt_of(&container, &cluster)?;
            (!self.shared.has_journal(id)).then_some((id, container))
        });
        let orphans: BTreeMap<AttemptId, Listed> = orphans.collect();
        parked.retain(|container| !self.shared.warm.dir(&container.name).exists());
        let all = orphans.values().chain(&parked);
        let names: BTreeSet<String> = all.map(|container| container.name.clone()).collect();
        self.first_seen.retain(|name, _| names.contains(name));
        self.stopping.retain(|name, _| names.contains(name));
        let all = orphans.keys().copied().collect();
        self.shared.orphans.keep_only(&all);
        let (mut running, mut left) = (0, BTreeSet::new());
        for container in parked {
            let seen = self.look_at_parked(&container.name, now).await?;
            running += i64::from(matches!(seen, Seen::Running | Seen::Paused));
        }
        for (id, container) in orphans {
            let seen = self.look_at(id, &container, now).await?;
            if seen != Seen::Nothing {
                left.insert(id);
            }
            running += i64::from(matches!(seen, Seen::Running | Seen::Paused));
        }
        self.shared.orphans.found(&cluster, left);
        self.shared.metrics.orphans_running.set(running);
        Ok(())
    }

    /// What is done about one of them.
    async fn look_at(
        &mut self,
        id: AttemptId,
        container: &Listed,
        now: Instant,
    ) -> Result<Seen, EngineError> {
        let name = &container.name;
        let is_new = !self.first_seen.contains_key(name);
        let first = *self.first_seen.entry(name.clone()).or_insert(now);
        let Some(found) = self.shared.runtime.inspect(name).await? else {
            return Ok(Seen::Nothing);
        };
        if is_new {
            tracing::warn!(container = name, seen = ?found.seen, exit_code = found.exit_code, "container without a journal");
        }
        let ordered = self.shared.orphans.discarded(id);
        let discarded = ordered.is_some_and(|term| !is_newer(container, term));
        match found.seen {
            Seen::Exited | Seen::StartFailed | Seen::Created | Seen::Dead => {
                let since = self.shared.orphans.connected_since();
                let since = since.map(|connected| connected.max(first));
                let left_alone = since.map(|since| now.saturating_duration_since(since));
                if discarded || left_alone >= Some(failpoint::hurried(GRACE)) {
                    self.remove(container, id).await?;
                    return Ok(Seen::Nothing);
                }
            }
            Seen::Paused if discarded => {
                self.shared.runtime.unpause(name).await?;
                self.stop(name, now).await?;
            }
            Seen::Running if discarded => self.stop(name, now).await?,
            Seen::Running | Seen::Paused | Seen::Removing | Seen::Nothing => {}
        }
        Ok(found.seen)
    }

    /// What is done about a warm container without a directory.
    async fn look_at_parked(&mut self, name: &str, now: Instant) -> Result<Seen, EngineError> {
        let first = *self.first_seen.entry(name.to_owned()).or_insert(now);
        let Some(found) = self.shared.runtime.inspect(name).await? else {
            return Ok(Seen::Nothing);
        };
        let over = now.duration_since(first) >= failpoint::hurried(GRACE);
        match parked::nobodys(found.seen, over) {
            Nobodys::Leave => {}
            Nobodys::Remove => {
                self.shared.runtime.remove(name).await?;
                tracing::info!(container = name, "container without a journal removed");
                self.shared.metrics.orphans_removed.inc();
                if self.shared.engine.cgroup_parents {
                    AttemptGroup::new(name).remove();
                }
                return Ok(Seen::Nothing);
            }
            Nobodys::Stop => {
                if found.seen == Seen::Paused {
                    self.shared.runtime.unpause(name).await?;
                }
                self.stop(name, now).await?;
            }
        }
        Ok(found.seen)
    }

    /// TERM at the first look, and KILL at those after the grace.
    async fn stop(&mut self, name: &str, now: Instant) -> Result<(), EngineError> {
        let signal = match self.stopping.get(name) {
            None => {
                self.stopping.insert(name.to_owned(), now);
                self.shared.metrics.orphans_stopped.inc();
                tracing::warn!(container = name, "stopping a container that nobody wants");
                Signal::Term
            }
            Some(at) if now.duration_since(*at) >= failpoint::hurried(STOP_GRACE) => Signal::Kill,
            Some(_) => return Ok(()),
        };
        match self.shared.runtime.kill(name, signal).await {
            // The next look finds it so.
            Ok(()) | Err(KillError::NotRunning) => Ok(()),
            Err(KillError::Engine(error)) => Err(error),
        }
    }

    async fn look_at_networks(&mut self, cluster: &str, now: Instant) -> Result<(), EngineError> {
        if !self.is_idle() {
            self.idle_since = None;
            return Ok(());
        }
        let since = *self.idle_since.get_or_insert(now);
        if now.duration_since(since) < UNUSED {
            return Ok(());
        }
        // An attempt has its directory before it asks for its network, and waits for this lock then.
        let mut known = self.shared.networks.write().await;
        if !self.is_idle() {
            return Ok(());
        }
        let labels = BTreeMap::from([("muster.cluster".to_owned(), cluster.to_owned())]);
        for network in self.shared.runtime.list_networks(&labels).await? {
            let team = network.labels.get("muster.team");
            let Some(team) = team.and_then(|team| TeamName::parse(team).ok()) else {
                continue;
            };
            if network.name != network_name(cluster, &self.shared.config.name, &team) {
                continue;
            }
            known.remove(&network.name);
            match self.shared.runtime.remove_network(&network.name).await {
                Ok(()) => tracing::info!(network = network.name, "unused network removed"),
                Err(error) => tracing::debug!(%error, "network not removed"),
            }
        }
        Ok(())
    }

    /// Whether no attempt is on this host. A directory that can't be read may hold some.
    fn is_idle(&self) -> bool {
        let dir = self.shared.config.data_dir.join(ATTEMPTS);
        std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
    }

    async fn remove(&self, container: &Listed, id: AttemptId) -> Result<(), EngineError> {
        if self.shared.has_journal(id) {
            return Ok(()); // it was offered meanwhile
        }
        let Listed { name, labels } = container;
        self.shared.runtime.remove(name).await?;
        failpoint::hit(Point::GcRemoved);
        tracing::info!(container = name, "container without a journal removed");
        self.shared.metrics.orphans_removed.inc();
        if self.shared.engine.cgroup_parents {
            let parked = labels.get(WARM_LABEL).cloned();
            AttemptGroup::new(&parked.unwrap_or_else(|| id.to_string())).remove();
        }
        // What a damaged journal left.
        let _ = std::fs::remove_dir_all(self.shared.attempt_dir(id));
        Ok(())
    }
}

/// Whether a coordinator of a later term than this one had it made. A label that is no number says nothing.
fn is_newer(container: &Listed, term: u64) -> bool {
    let made = container.labels.get("muster.term");
    made.and_then(|made| made.parse::<u64>().ok())
        .is_some_and(|made| made > term)
}

/// Which attempt a container is of, if its labels and its name say the same. A warm container was made before
/// its attempt, so of that one only its name can tell.
fn attempt_of(container: &Listed, cluster: &str) -> Option<AttemptId> {
    if container.labels.contains_key(WARM_LABEL) {
        return attempt_of_name(cluster, &container.name);
    }
    let label = |name: &str| container.labels.get(name);
    let (task, number) = (label("muster.task")?, label("muster.attempt")?);
    let id = format!("{task}-{number}").parse().ok()?;
    (container.name == container_name(cluster, id)).then_some(id)
}

#[cfg(test)]
mod tests;
