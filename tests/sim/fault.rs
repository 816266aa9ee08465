//! What goes wrong in the histories, counted: a fault that never happens proves nothing.

use std::collections::{BTreeMap, BTreeSet};

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A stream breaks, and what was on its way may be lost with it.
    StreamCut,
    /// A report of a broken stream never arrives.
    ReportLost,
    /// A report arrives a second time, up to 15 minutes later and behind newer ones.
    ReportTwice,
    /// Nothing passes between a host and the coordinator.
    Partition,
    /// Orders vanish while reports still arrive.
    DeafHost,
    /// Reports vanish while orders still arrive.
    MuteHost,
    CoordinatorCrash,
    /// A crash or a store that fails before the commit: it is lost.
    CommitLost,
    /// The commit is stored, and its process ends before it hears of that.
    CommitUntold,
    /// The coordinator's process stands still while the world goes on.
    CoordinatorPause,
    AgentCrash,
    /// The agent's process stands still while its containers go on.
    AgentPause,
    /// The engine stops in good order; its containers do too, unless it has live-restore (E6).
    EngineStop,
    /// The engine is killed; its containers are killed when it comes back, unless live-restore (E4, E7).
    EngineKill,
    /// The agent stands still while that happens.
    EngineGoneUnseen,
    /// A task kills the engine that runs it, at each try.
    Poison,
    /// A container ends while the engine is down (E5).
    EndUnseen,
    /// A host loses its power: exits are 255, dated when the engine starts (E8).
    Reboot,
    /// With the power goes what the agent wrote without waiting for the disk.
    UnsyncedLost,
    /// A host is gone for good.
    HostDestroyed,
    /// A start call fails, and nothing runs.
    StartFails,
    /// A start call fails, and the container runs all the same (E1).
    StartUnknown,
    /// A start call returns only after minutes.
    StartWedged,
    /// For a while a host starts nothing.
    HostStartsNothing,
    /// The fleet takes such a host's agent out of service.
    AgentCordoned,
    /// The entrypoint is missing (E10).
    NoEntrypoint,
    /// A task is killed for its memory, or only a child of it, and exits 0 (E9).
    OutOfMemory,
    ChildOutOfMemory,
    /// A stranger kills a container.
    KilledByStranger,
    PullFails,
    /// A host's clock is set by up to an hour, forward or back. All hosts' clocks are up to 10 % fast or slow.
    HostClockSet,
    /// The coordinator comes back with a clock that is up to an hour ahead or behind.
    CoordinatorClockSet,
    /// An agent that lost its stream reaches a coordinator of an earlier term, which is still talking.
    StaleCoordinator,
    /// The agent's disk is full: it refuses.
    DiskFull,
    /// The agent's journals are gone, and containers go on.
    JournalLost,
    /// One of those is taken up again.
    OrphanAdopted,
    /// One of those is stopped or removed, because nobody wants it any more.
    OrphanDiscarded,
    /// An agent stops a task because it heard nothing of the coordinator; or the init process does.
    Disconnected,
    LeaseEnded,
    /// A container is started so late that it starts nothing.
    StartTooLate,
    /// A task begins in a container that waited for it.
    StartParked,
    /// What waits goes, because the channel moved or wants none.
    ParkedDropped,
    /// The agent dies while it tells a waiting container of its task.
    AgentCrashTelling,
    /// The one start of such a container is taken back.
    StartWithdrawn,
    /// Its agent's disk is lost before the container has got its attempt's name.
    NameLost,
}

impl Fault {
    pub(crate) const ALL: [Self; 45] = [
        Self::StreamCut,
        Self::ReportLost,
        Self::ReportTwice,
        Self::Partition,
        Self::DeafHost,
        Self::MuteHost,
        Self::CoordinatorCrash,
        Self::CommitLost,
        Self::CommitUntold,
        Self::CoordinatorPause,
        Self::AgentCrash,
        Self::AgentPause,
        Self::EngineStop,
        Self::EngineKill,
        Self::EngineGoneUnseen,
        Self::Poison,
        Self::EndUnseen,
        Self::Reboot,
        Self::UnsyncedLost,
        Self::HostDestroyed,
        Self::StartFails,
        Self::StartUnknown,
        Self::StartWedged,
        Self::HostStartsNothing,
        Self::AgentCordoned,
        Self::NoEntrypoint,
        Self::OutOfMemory,
        Self::ChildOutOfMemory,
        Self::KilledByStranger,
        Self::PullFails,
        Self::HostClockSet,
        Self::CoordinatorClockSet,
        Self::StaleCoordinator,
        Self::DiskFull,
        Self::JournalLost,
        Self::OrphanAdopted,
        Self::OrphanDiscarded,
        Self::Disconnected,
        Self::LeaseEnded,
        Self::StartTooLate,
        Self::StartParked,
        Self::ParkedDropped,
        Self::AgentCrashTelling,
        Self::StartWithdrawn,
        Self::NameLost,
    ];
}

/// From one state of a task to the next; `-` is a task that was never stored.
pub(crate) type Step = (&'static str, &'static str);

/// How often what went wrong, and which steps the tasks took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    faults: BTreeMap<Fault, u64>,
    pub(crate) steps: BTreeSet<Step>,
}

impl Coverage {
    pub(crate) fn hit(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        self.steps.extend(other.steps);
    }

    pub(crate) fn print(&self) {
        for (fault, count) in &self.faults {
            println!("{count:>9}  {fault:?}");
        }
        for (from, to) in &self.steps {
            println!("{from} -> {to}");
        }
    }

    /// The faults that should have been seen so often and were not, and the steps that never were.
    pub(crate) fn missing(&self, times: u64) -> Vec<String> {
        let faults = Fault::ALL
            .iter()
            .filter(|fault| self.faults.get(fault).is_none_or(|seen| *seen < times));
        let steps = STEPS.iter().filter(|step| !self.steps.contains(*step));
        faults
            .map(|fault| format!("{fault:?}"))
            .chain(steps.map(|(from, to)| format!("{from} -> {to}")))
            .collect()
    }
}

/// A rollout goes by what the release in force carries; and after a rollback brought that release back.
pub(crate) const GOES_BY: Step = ("a release", "what it carries rules a rollout");
pub(crate) const BACK_BY: Step = ("a rollback", "what is back rules a rollout");

/// The steps that tasks take in any 600 histories, and rollouts.
const STEPS: [Step; 27] = [
    GOES_BY,
    BACK_BY,
    ("-", "assigned"),
    ("assigned", "canceled"),
    ("assigned", "lost"),
    ("assigned", "pending"),
    ("assigned", "preparing"),
    ("pending", "assigned"),
    ("pending", "canceled"),
    ("preparing", "canceled"),
    ("preparing", "failed"),
    ("preparing", "image_error"),
    ("preparing", "infra_error"),
    ("preparing", "lost"),
    ("preparing", "pending"),
    ("preparing", "running"),
    ("preparing", "succeeded"),
    ("quarantined", "pending"),
    ("running", "canceled"),
    ("running", "failed"),
    ("running", "infra_error"),
    ("running", "lost"),
    ("running", "oom"),
    ("running", "pending"),
    ("running", "quarantined"),
    ("running", "succeeded"),
    ("running", "timeout"),
];
