//! An agent as the fleet sees it.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{AgentId, AttemptId, PoolName, SessionNo, Term};
use crate::image::{Digest, Image};
use crate::spec::Resources;
use crate::time::Timestamp;

/// What an agent says of itself when it opens its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub agent: AgentId,
    /// Given by the coordinator, one for each stream.
    pub session: SessionNo,
    pub profile: Profile,
    /// The largest term the agent has seen.
    pub term: Term,
    /// Every attempt it holds or has yet to report the end of.
    pub attempts: BTreeSet<AttemptId>,
    /// What it knows of them, for a store that does not; attempts may be missing here.
    pub details: BTreeMap<AttemptId, Held>,
    /// Containers of its own and of this cluster that have not ended and that its journal does not know.
    pub orphans: BTreeSet<AttemptId>,
    pub held: Vec<HeldImage>,
}

/// An attempt as the agent that holds it was offered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub image: Image,
    pub release: Option<u64>,
    /// When its container started, if it did.
    pub started: Option<Timestamp>,
}

/// What is true of an agent while its process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub pool: PoolName,
    pub labels: BTreeMap<String, String>,
    pub capacity: Capacity,
    pub version: String,
    /// Of the container engine.
    pub engine: String,
    /// What its engine runs, as `linux/amd64`; empty: it does not say.
    pub platform: String,
    pub boot_id: String,
    /// Its containers stop by themselves when it is cut off or dead, if the job wants that.
    pub leases: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capacity {
    pub resources: Resources,
    /// Attempts at a time.
    pub places: u32,
}

/// An image in an agent's engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldImage {
    pub id: Digest,
    /// Under which names of registries it was pulled or pushed.
    pub images: Vec<Image>,
    /// `repository:tag` with the registry written out.
    pub tags: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Online {
        session: SessionNo,
    },
    /// The stream is gone. Its tasks keep their state; nothing is failed before `lost_at`.
    Unreachable {
        since: Timestamp,
        lost_at: Timestamp,
    },
    /// Silent for so long that its attempts were given up.
    Lost {
        since: Timestamp,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedulable {
    Yes,
    /// No new tasks; running ones finish.
    Cordoned {
        reason: String,
        /// Set if the fleet did it, not a person: from then on one attempt at a time is tried there.
        until: Option<Timestamp>,
    },
    /// No new tasks; what runs at the deadline is preempted.
    Draining {
        reason: String,
        deadline: Option<Timestamp>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    pub id: AgentId,
    pub profile: Profile,
    pub link: Link,
    pub schedulable: Schedulable,
    pub last_contact: Timestamp,
    /// Attempts that hold a task and a place here.
    pub live: BTreeSet<AttemptId>,
    /// What they reserved, always equal to the sum over `live`.
    pub reserved: Capacity,
    pub held: Vec<HeldImage>,
    /// Every name the held images answer to: ids and digests.
    pub digests: BTreeSet<Digest>,
}

impl Agent {
    /// Whether it would have room if it were idle.
    #[must_use]
    pub fn could_ever_fit(&self, needs: &Resources) -> bool {
        self.profile.capacity.places > 0 && needs.fits_in(&self.profile.capacity.resources)
    }
}

impl Resources {
    /// Whether each amount is at most that of `capacity`; processes are not counted.
    #[must_use]
    pub fn fits_in(&self, capacity: &Self) -> bool {
        let custom = |name: &String| capacity.custom.get(name).copied().unwrap_or(0);
        self.cpu_millis <= capacity.cpu_millis
            && self.memory_bytes <= capacity.memory_bytes
            && self.gpus <= capacity.gpus
            && self
                .custom
                .iter()
                .all(|(name, amount)| *amount <= custom(name))
    }

    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.combine(other, u64::saturating_add)
    }

    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.combine(other, u64::saturating_sub)
    }

    fn combine(&self, other: &Self, with: impl Fn(u64, u64) -> u64) -> Self {
        let small = |a: u32, b: u32| u32::try_from(with(a.into(), b.into())).unwrap_or(u32::MAX);
        let names = self.custom.keys().chain(other.custom.keys());
        let amount = |of: &Self, name: &String| of.custom.get(name).copied().unwrap_or(0);
        let custom = names
            .map(|name| (name.clone(), with(amount(self, name), amount(other, name))))
            .filter(|(_, amount)| *amount > 0)
            .collect();
        Self {
            cpu_millis: small(self.cpu_millis, other.cpu_millis),
            memory_bytes: with(self.memory_bytes, other.memory_bytes),
            pids: small(self.pids, other.pids),
            gpus: small(self.gpus, other.gpus),
            custom,
        }
    }
}
