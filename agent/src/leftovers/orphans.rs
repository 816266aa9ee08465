//! Containers of this agent that no journal knows. A coordinator decides what becomes of them: each Hello names
//! them, and what it says of one before it has decided is about an agent that it thinks has no trace of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use muster_core::ids::AttemptId;
use muster_proto::v1 as pb;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::attempt_of;
use crate::attempt::{Shared, own_labels};
use crate::runtime::{EngineError, Runtime};
use crate::wire;

/// Named in one Hello.
const NAMED: usize = 4096;
/// An engine that does not list its containers when the agent starts keeps it no longer from its coordinator.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Orphans {
    state: Mutex<State>,
    ordered: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The engine has said what there is.
    listed: bool,
    /// With the cluster of each.
    found: BTreeMap<AttemptId, String>,
    /// With the term of the order.
    discarded: BTreeMap<AttemptId, u64>,
    connected_since: Option<Instant>,
    /// Those that the newest Hello named and of which nothing was heard yet.
    undecided: BTreeSet<AttemptId>,
}

impl Orphans {
    /// For a Hello to the coordinator of `cluster`, which may be unknown yet and is empty then.
    pub(crate) fn named(&self, cluster: &str) -> Vec<(AttemptId, pb::Orphan)> {
        let mut state = self.lock();
        let ours = state
            .found
            .iter()
            .filter(|(_, of)| cluster.is_empty() || *of == cluster);
        if ours.clone().count() > NAMED {
            tracing::error!("there are more containers without a journal than can be told");
        }
        let named = ours.take(NAMED).map(|(id, of)| {
            let orphan = pb::Orphan {
                attempt: Some(wire::from_attempt_id(*id)),
                cluster: of.clone(),
            };
            (*id, orphan)
        });
        let named: Vec<(AttemptId, pb::Orphan)> = named.collect();
        state.undecided = named.iter().map(|(id, _)| *id).collect();
        named
    }

    /// These are there now, and no others of `cluster`.
    pub(super) fn found(&self, cluster: &str, ids: BTreeSet<AttemptId>) {
        let mut state = self.lock();
        state.listed = true;
        state.found.retain(|_, of| of != cluster);
        let each = ids.into_iter().map(|id| (id, cluster.to_owned()));
        state.found.extend(each);
    }

    /// The engine has said what there is, of whatever cluster.
    fn listed(&self) {
        self.lock().listed = true;
    }

    /// Whether there may be a container of it, as far as is known.
    pub(crate) fn may_have(&self, id: AttemptId) -> bool {
        let state = self.lock();
        !state.listed || state.found.contains_key(&id)
    }

    /// Whether the coordinator was told of it, and has not said what becomes of it.
    pub(crate) fn is_undecided(&self, id: AttemptId) -> bool {
        self.lock().undecided.contains(&id)
    }

    /// A stream to the coordinator opened.
    pub(crate) fn connected(&self, now: Instant) {
        self.lock().connected_since = Some(now);
    }

    /// It ended.
    pub(crate) fn disconnected(&self) {
        self.lock().connected_since = None;
    }

    pub(super) fn connected_since(&self) -> Option<Instant> {
        self.lock().connected_since
    }

    /// It has a journal again.
    pub(crate) fn taken_up(&self, id: AttemptId) {
        let mut state = self.lock();
        state.found.remove(&id);
        state.undecided.remove(&id);
    }

    /// A coordinator of that term does not want it.
    pub(crate) fn discard(&self, id: AttemptId, term: u64) {
        let mut state = self.lock();
        state.discarded.insert(id, term);
        state.undecided.remove(&id);
        drop(state);
        self.ordered.notify_one();
    }

    /// The term of the order to discard it, if there is one.
    pub(super) fn discarded(&self, id: AttemptId) -> Option<u64> {
        self.lock().discarded.get(&id).copied()
    }

    /// What is none of these any more is not discarded, either.
    pub(super) fn keep_only(&self, orphans: &BTreeSet<AttemptId>) {
        self.lock().discarded.retain(|id, _| orphans.contains(id));
    }

    /// Returns when there is something new to discard.
    pub(super) async fn ordered(&self) {
        self.ordered.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock panics")
    }
}

/// Looks what there is, of whatever cluster, before the first Hello: a coordinator that is not told of a
/// container has its task run again.
pub(crate) async fn take_stock<R: Runtime>(shared: &Shared<R>) {
    let until = Instant::now() + PATIENCE;
    while let Err(error) = look(shared).await {
        tracing::warn!(%error, "containers can't be listed");
        if Instant::now() >= until {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn look<R: Runtime>(shared: &Shared<R>) -> Result<(), EngineError> {
    let mut found: BTreeMap<String, BTreeSet<AttemptId>> = BTreeMap::new();
    for container in shared.runtime.list(&own_labels(&shared.config)).await? {
        let Some(cluster) = container.labels.get("muster.cluster") else {
            continue;
        };
        let Some(id) = attempt_of(&container, cluster) else {
            continue;
        };
        if shared.has_journal(id) {
            continue;
        }
        found.entry(cluster.clone()).or_default().insert(id);
    }
    for (cluster, ids) in found {
        shared.orphans.found(&cluster, ids);
    }
    shared.orphans.listed();
    Ok(())
}
