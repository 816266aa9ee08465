//! Containers of ours that no journal knows: what is left when a data directory was lost.
//!
//! The rule: only containers with this cluster's and this agent's labels and the name that goes with
//! them, only after a coordinator whose term is not behind said which cluster this is, only when no
//! journal was there for the whole grace, and only ones that do not run. The engine is never asked to
//! use force, so one that started meanwhile stays.
//!
//! Networks go when the agent has had no attempt at all for an hour; the engine keeps used ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_core::ids::{AttemptId, TeamName};
use muster_failpoint::{self as failpoint, Point};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::attempt::{ATTEMPTS, Shared, container_name, network_name, own_labels};
use crate::plan::Seen;
use crate::runtime::{EngineError, Listed, Runtime};
use crate::usage::AttemptGroup;

const PERIOD: Duration = Duration::from_secs(60);
/// A container is left alone for so long after it was first seen without a journal.
const GRACE: Duration = Duration::from_secs(5 * 60);

/// Networks are left alone until there has been no attempt for so long.
const UNUSED: Duration = Duration::from_secs(3600);

pub(crate) struct Leftovers<R> {
    shared: Arc<Shared<R>>,
    /// When each was first seen, by the container's name.
    first_seen: BTreeMap<String, Instant>,
    /// Since when there has been no attempt.
    idle_since: Option<Instant>,
}

impl<R: Runtime> Leftovers<R> {
    pub(crate) const fn new(shared: Arc<Shared<R>>) -> Self {
        Self {
            shared,
            first_seen: BTreeMap::new(),
            idle_since: None,
        }
    }

    /// Looks until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut turns = tokio::time::interval(failpoint::hurried(PERIOD));
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let looking = async {
            loop {
                turns.tick().await;
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
        let orphans = listed.into_iter().filter_map(|container| {
            let id = attempt_of(&container, &cluster)?;
            (!self.shared.attempt_dir(id).exists()).then_some((container.name, id))
        });
        let orphans: BTreeMap<String, AttemptId> = orphans.collect();
        self.first_seen.retain(|name, _| orphans.contains_key(name));
        let mut running = 0;
        for (name, id) in orphans {
            let is_new = !self.first_seen.contains_key(&name);
            let first = *self.first_seen.entry(name.clone()).or_insert(now);
            let Some(found) = self.shared.runtime.inspect(&name).await? else {
                continue;
            };
            if is_new {
                tracing::warn!(container = name, seen = ?found.seen, exit_code = found.exit_code, "container without a journal");
            }
            match found.seen {
                Seen::Exited | Seen::StartFailed | Seen::Created | Seen::Dead => {
                    if now.duration_since(first) >= failpoint::hurried(GRACE) {
                        self.remove(&name, id).await?;
                    }
                }
                Seen::Running | Seen::Paused => running += 1,
                Seen::Removing | Seen::Nothing => {}
            }
        }
        self.shared.metrics.orphans_running.set(running);
        Ok(())
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

    async fn remove(&self, name: &str, id: AttemptId) -> Result<(), EngineError> {
        if self.shared.attempt_dir(id).exists() {
            return Ok(()); // it was offered meanwhile
        }
        self.shared.runtime.remove(name).await?;
        failpoint::hit(Point::GcRemoved);
        tracing::info!(container = name, "container without a journal removed");
        self.shared.metrics.orphans_removed.inc();
        if self.shared.engine.cgroup_parents {
            AttemptGroup::new(&id.to_string()).remove();
        }
        Ok(())
    }
}

/// Which attempt a container is of, if its labels and its name say the same.
fn attempt_of(container: &Listed, cluster: &str) -> Option<AttemptId> {
    let label = |name: &str| container.labels.get(name);
    let (task, number) = (label("muster.task")?, label("muster.attempt")?);
    let id = format!("{task}-{number}").parse().ok()?;
    (container.name == container_name(cluster, id)).then_some(id)
}

#[cfg(test)]
mod tests;
