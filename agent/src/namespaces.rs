//! Network namespaces made ahead and lent to tasks.
//!
//! Making a network namespace and attaching it to a bridge is most of what it costs to start a container. A
//! *parked* namespace is one that was made ahead, held by a small container that does nothing; a task's
//! container joins it. It belongs to one team's network, is lent to one attempt at a time, and is lent again
//! only if nothing of the attempt is left in it; on any doubt it is removed.
//!
//! The pool is a matter of speed alone: without a parked namespace a container gets one of its own. Everything
//! that costs time happens off the path of tasks. What an earlier process of the agent left is found by its
//! labels and removed when no container uses it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use muster_core::ids::AgentId;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::AgentMetrics;
use crate::runtime::{NamespaceView, Runtime, Traces};

mod image;
mod tend;

pub(crate) use image::ensure as ensure_image;

/// On the container of a task: the parked one whose namespace it is in.
pub(crate) const JOINED: &str = "muster.namespace";
/// One is lent no longer than that, and no more often.
const AGE_MAX: Duration = Duration::from_secs(30 * 60);
const USES_MAX: u32 = 256;

/// How many there may be at a time. With 0 none are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// On one network, which is one team's.
    pub network: usize,
    pub host: usize,
}

impl Bounds {
    pub(crate) const OFF: Self = Self {
        network: 0,
        host: 0,
    };

    /// Each costs a process of the engine's beside it. Starting needs about four for each CPU; those that are
    /// lent to long tasks come on top. One team leaves room for another.
    pub(crate) fn of(cpus: u32) -> Self {
        let cpus = usize::try_from(cpus).unwrap_or(1).clamp(1, 8);
        Self {
            network: cpus * 6,
            host: cpus * 8,
        }
    }
}

pub(crate) struct Namespaces<R> {
    runtime: R,
    agent: AgentId,
    bounds: Bounds,
    lots: Arc<Mutex<Lots>>,
    /// There is something to do off the path.
    work: Notify,
    metrics: Arc<AgentMetrics>,
}

#[derive(Default)]
struct Lots {
    /// By the network's name.
    networks: BTreeMap<String, Lot>,
    /// The containers of this process, also of namespaces that are being made or removed. What is not among
    /// them goes when no container uses it.
    ours: BTreeSet<String>,
    lent: BTreeSet<String>,
    /// Given back, and not found clean yet.
    resting: Vec<Resting>,
    /// To be removed: nobody is in there.
    bin: Vec<String>,
    paused_until: Option<Instant>,
    /// None are lent any more.
    closed: bool,
}

/// The namespaces of one network.
struct Lot {
    cluster: String,
    /// The one that came back last is lent first.
    idle: Vec<Parked>,
    /// Lent, resting, or being made.
    out: usize,
    /// To be made.
    missing: usize,
    wanted: Instant,
}

impl Lot {
    fn count(&self) -> usize {
        self.idle.len() + self.out
    }
}

#[derive(Debug)]
struct Parked {
    container: String,
    view: Arc<dyn NamespaceView>,
    /// Before the first task.
    first: Traces,
    made: Instant,
    uses: u32,
}

struct Resting {
    parked: Parked,
    network: String,
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Clean,
    Unclean,
    Gone,
}

impl Parked {
    async fn state(&self) -> State {
        let (view, first) = (Arc::clone(&self.view), self.first.clone());
        let looked = tokio::task::spawn_blocking(move || match view.look() {
            Ok(traces) if traces.is_clean_after(&first) => State::Clean,
            Ok(_) => State::Unclean,
            Err(_) => State::Gone,
        });
        looked.await.unwrap_or(State::Gone)
    }

    fn is_worn(&self, now: Instant) -> bool {
        self.uses >= USES_MAX || now.duration_since(self.made) >= AGE_MAX
    }
}

/// A namespace, and the right to have it to oneself. Dropped, nobody knows what became of whoever had it: it is
/// not lent again, and goes when no container is in it.
pub(crate) struct Lease {
    /// `None`: it was given back.
    parked: Option<Parked>,
    container: String,
    network: String,
    lots: Arc<Mutex<Lots>>,
}

impl Lease {
    /// The container whose namespace it is.
    pub(crate) fn container(&self) -> &str {
        &self.container
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.parked.is_some() {
            let mut lots = lock(&self.lots);
            lots.take_back(&self.container, &self.network);
            lots.ours.remove(&self.container);
        }
    }
}

fn lock(lots: &Mutex<Lots>) -> MutexGuard<'_, Lots> {
    lots.lock().expect("no holder of the lock panics")
}

impl Lots {
    /// It is lent no more.
    fn take_back(&mut self, container: &str, network: &str) {
        self.lent.remove(container);
        if let Some(lot) = self.networks.get_mut(network) {
            lot.out -= 1;
        }
    }

    fn count(&self) -> usize {
        self.networks.values().map(Lot::count).sum()
    }
}

impl<R: Runtime> Namespaces<R> {
    pub(crate) fn new(
        runtime: R,
        agent: AgentId,
        bounds: Bounds,
        metrics: Arc<AgentMetrics>,
    ) -> Self {
        Self {
            runtime,
            agent,
            bounds,
            lots: Arc::default(),
            work: Notify::new(),
            metrics,
        }
    }

    /// An idle namespace on that network. `None`: there is none now, and some will be made.
    pub(crate) async fn lend(&self, cluster: &str, network: &str) -> Option<Lease> {
        if self.bounds == Bounds::OFF {
            return None;
        }
        let mut found = None;
        while let Some(mut lease) = self.take_idle(cluster, network) {
            let parked = lease.parked.as_mut().expect("it was lent just now");
            if !parked.is_worn(Instant::now()) && parked.state().await == State::Clean {
                parked.uses += 1;
                found = Some(lease);
                break;
            }
            self.throw_away(lease);
        }
        self.metrics.namespace_asked(found.is_some());
        self.work.notify_one();
        found
    }

    /// The one that was idle for the shortest time. Asks for more to be made when it is the last.
    fn take_idle(&self, cluster: &str, network: &str) -> Option<Lease> {
        let mut lots = lock(&self.lots);
        if lots.closed {
            return None;
        }
        let lot = lots
            .networks
            .entry(network.to_owned())
            .or_insert_with(|| Lot {
                cluster: cluster.to_owned(),
                idle: Vec::new(),
                out: 0,
                missing: 0,
                wanted: Instant::now(),
            });
        lot.wanted = Instant::now();
        let Some(parked) = lot.idle.pop() else {
            lot.missing += 1;
            return None;
        };
        if lot.idle.is_empty() {
            lot.missing = lot.missing.max(1);
        }
        lot.out += 1;
        lots.lent.insert(parked.container.clone());
        Some(Lease {
            container: parked.container.clone(),
            parked: Some(parked),
            network: network.to_owned(),
            lots: Arc::clone(&self.lots),
        })
    }

    /// Takes a namespace back. The container that was in it doesn't run and never will again.
    pub(crate) async fn give_back(&self, mut lease: Lease) {
        let Some(parked) = lease.parked.as_ref() else {
            return;
        };
        let state = parked.state().await;
        if state == State::Gone || parked.is_worn(Instant::now()) {
            self.throw_away(lease);
            return;
        }
        let Some(parked) = lease.parked.take() else {
            return;
        };
        let mut lots = lock(&self.lots);
        if state == State::Clean {
            lots.take_back(&parked.container, &lease.network);
            if let Some(lot) = lots.networks.get_mut(&lease.network) {
                lot.idle.push(parked);
            }
        } else {
            // It counts as out for as long as it rests.
            lots.lent.remove(&parked.container);
            lots.resting.push(Resting {
                parked,
                network: lease.network.clone(),
                since: Instant::now(),
            });
            self.work.notify_one();
        }
    }

    /// Nobody is in there, and nobody is to be.
    fn throw_away(&self, mut lease: Lease) {
        let Some(parked) = lease.parked.take() else {
            return;
        };
        let mut lots = lock(&self.lots);
        lots.take_back(&parked.container, &lease.network);
        lots.bin.push(parked.container);
        self.work.notify_one();
    }
}

#[cfg(test)]
mod tests;
